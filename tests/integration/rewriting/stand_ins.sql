-- What stands for the extension where only the rewriting is tested.
CREATE SCHEMA federated;
CREATE SCHEMA federated_model;

-- A model that gives x back, written so that the planner inlines it.
CREATE FUNCTION federated_model.m(x float8 DEFAULT NULL) RETURNS float8
LANGUAGE sql STABLE PARALLEL SAFE RETURN coalesce(x, 0.0::float8) + 0.0::float8;

CREATE FUNCTION federated._check_columns(columns text[], VARIADIC known text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    unknown text := (SELECT min(c) FROM unnest(columns) AS c WHERE c <> ALL (known));
BEGIN
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('there is no column "%s"', unknown);
    END IF;
END
$$;

CREATE FUNCTION federated._evaluate_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM federated._check_columns(columns, 'global_accuracy', 'global_recall', 'per_node_metrics', 'Größe');
    RETURN jsonb_build_array(jsonb_build_object(
        'global_accuracy', 0.75, 'global_recall', length(model), 'per_node_metrics', '{"a": 1}'::jsonb, 'Größe', 3));
END
$$;

CREATE FUNCTION federated._compliance_check_columns(workspace text, regulation text, columns text[]) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM federated._check_columns(columns, 'requirement', 'status', 'details');
    RETURN jsonb_build_array(
        jsonb_build_object('requirement', 'encryption', 'status', 'PASS', 'details', workspace),
        jsonb_build_object('requirement', 'audit', 'status', 'FAIL', 'details', regulation));
END
$$;

CREATE FUNCTION federated._security_audit_columns(workspace text, columns text[]) RETURNS jsonb
LANGUAGE sql RETURN jsonb_build_array(jsonb_build_object('check_name', 'tls', 'status', 'PASS', 'recommendation', workspace));

CREATE FUNCTION federated._data_quality_check_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE sql RETURN jsonb_build_array(jsonb_build_object('node_name', 'a', 'feature_statistics', '{"age": 1}'::jsonb));

CREATE TABLE customers (id int PRIMARY KEY, x float8, region int);
INSERT INTO customers VALUES (1, 0.1, 1), (2, 0.5, 1), (3, 0.8, 2), (4, 0.9, 2), (5, NULL, 3);
CREATE TABLE with_number (id int PRIMARY KEY, x float8, p float8);
INSERT INTO with_number VALUES (1, 0.9, 0.1), (2, 0.1, 0.9);
CREATE TABLE with_text (id int PRIMARY KEY, x float8, p text);
INSERT INTO with_text VALUES (1, 0.9, 'no'), (2, 0.1, 'yes');
CREATE TABLE regions (region int PRIMARY KEY, name text);
INSERT INTO regions VALUES (1, 'north'), (2, 'south'), (3, 'p');
