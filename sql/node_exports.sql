-- Exports at a node: a data subject's rows, for that subject. A release of a kind of its own: of exact values, and only from
-- datasets whose DBA allows it.

CREATE TABLE federated.node_export (
    workspace   text NOT NULL CHECK (workspace <> ''),
    order_id    uuid NOT NULL,
    dataset     text NOT NULL,
    node_name   text NOT NULL,
    recipient   bytea NOT NULL CHECK (octet_length(recipient) = 32),
    rows        bigint NOT NULL CHECK (rows >= 0),
    value_bytes bigint NOT NULL CHECK (value_bytes >= 0),
    exported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, order_id, dataset)
);
CREATE INDEX node_export_by_dataset ON federated.node_export (dataset, exported_at);
COMMENT ON TABLE federated.node_export IS
    'What left in answer to EXPORT FEDERATED DATA: one row an order and dataset, whoever the order is about; committed with the answer, before it leaves';
COMMENT ON COLUMN federated.node_export.recipient IS 'The public key to which it was sealed';
COMMENT ON COLUMN federated.node_export.rows IS 'How many rows the subject has';
COMMENT ON COLUMN federated.node_export.value_bytes IS 'How long their values are together, as text';

SELECT pg_catalog.pg_extension_config_dump('federated.node_export', '');

CREATE FUNCTION federated._audit_node_export() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (NEW.workspace, session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            lower(TG_OP), TG_TABLE_NAME, NEW.dataset,
            jsonb_build_object('order', NEW.order_id, 'recipient', encode(NEW.recipient, 'hex')));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_node_export() IS 'Appends to the audit log that a data subject''s rows have left';

CREATE TRIGGER audit AFTER INSERT ON federated.node_export
    FOR EACH ROW EXECUTE FUNCTION federated._audit_node_export();

CREATE FUNCTION federated._exported_columns(dataset text) RETURNS TABLE (name text, type text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
    FROM federated.dataset AS d
    JOIN pg_class AS c ON c.relnamespace = 'federated_dataset'::regnamespace AND c.relname = d.name
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE d.name = dataset AND (a.attname = ANY (d.columns) OR a.attname = d.options ->> 'subject')
    ORDER BY a.attnum
$$;
COMMENT ON FUNCTION federated._exported_columns(text) IS 'What of a dataset a data subject is given: the columns that are shared, and the one that names it';

-- What is behind a view runs with the rights of whoever reads it: this is owned by federated_probe, who has the reader's.
CREATE FUNCTION federated._subject_values(dataset text, most bigint) RETURNS SETOF text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    subject text := (SELECT d.options ->> 'subject' FROM federated.dataset AS d WHERE d.name = dataset);
    listed  text := (SELECT string_agg(format('to_json(v.%I)::text', c.name), ', ') FROM federated._exported_columns(dataset) AS c);
    total   bigint := 0;
    one     text[];
BEGIN
    FOR one IN EXECUTE format(
        'SELECT ARRAY[%s] FROM federated_dataset.%I AS v'
        ' WHERE (v.%I)::text = (SELECT federated._held_subject())',
        listed, dataset, subject) LOOP
        total := total + (SELECT coalesce(sum(octet_length(u)), 0) + count(*) * 8 FROM unnest(one) AS u);
        IF total > most THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'more is held about the data subject than an export takes';
        END IF;
        RETURN NEXT one;
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._subject_values(text, bigint) IS
    'The rows of a dataset of the data subject whose identifier is held, each value as JSON; 54000 where they are longer than so many bytes';
