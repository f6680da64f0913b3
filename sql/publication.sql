-- How a version becomes its model's function: the daemon gives numbers and names, never text that would be code.

-- PostgreSQL takes an inlined STABLE function into indexes, generated columns and checks; what they have stored would be
-- another version's predictions, and wrong. A version's own function never changes: that one may be stored.
CREATE FUNCTION federated._refuse_stored_predictions(function_name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stored text := (
        SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
        FROM pg_depend AS d JOIN pg_proc AS p ON d.refobjid = p.oid
        WHERE d.refclassid = 'pg_proc'::regclass
          AND p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass)
               OR (d.classid = 'pg_class'::regclass
                   AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = d.objid AND c.relkind IN ('i', 'I', 'r', 'p')))));
BEGIN
    IF stored IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('predictions of federated_model.%I are stored and would be wrong', function_name),
            DETAIL = format('They are stored by %s.', stored),
            HINT = 'Drop that first. To store predictions name a version: federated_predict(''model@1'', ...).';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._refuse_stored_predictions(text) IS
    'Raises an error where an index, a constraint or a column holds what a function in federated_model computed';

-- Drops what has the name and another signature, with what it is in other forms; CREATE OR REPLACE keeps the rest.
CREATE FUNCTION federated._clear_signature(function_name text, features text[], booleans boolean[], prediction jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    names text[] := CASE WHEN cardinality(features) > 99 THEN '{slots}' ELSE features END;
    types oid[] := CASE WHEN cardinality(features) > 99 THEN ARRAY['float8[]'::regtype::oid] ELSE ARRAY(
        SELECT c.type::oid FROM federated._columns(features, booleans, prediction) AS c ORDER BY c.place) END;
BEGIN
    IF EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (p.proargnames IS DISTINCT FROM names OR (p.proargtypes::oid[])[:] <> types)
    ) THEN
        PERFORM federated._drop_model_function(function_name, 'restrict');
    END IF;
END
$$;
COMMENT ON FUNCTION federated._clear_signature(text, text[], boolean[], jsonb) IS
    'Drops a model''s function where its arguments are not those of this version';

-- What a version before this one may have had and this one does not: it would go on computing what that was.
CREATE FUNCTION federated._drop_other_forms(function_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    other_form regprocedure;
BEGIN
    FOR other_form IN
        SELECT p.oid FROM pg_proc AS p WHERE p.proname = function_name
           AND p.pronamespace IN ('federated_row'::regnamespace, 'federated_proba'::regnamespace)
           AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)
    LOOP
        EXECUTE format('DROP FUNCTION %s RESTRICT', other_form);
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._drop_other_forms(text) IS
    'Drops the forms of a function in other schemas that nothing depends on, before they are made anew';

-- The one way to a function in federated_model that computes something: for a run that ends, and for an older version.
-- Raises dependent_objects_still_exist where other objects need the function's former signature or its former results.
-- What numpy computes is found by the key of its version, which is known before its row is there, and the same in a restored
-- dump. It runs as its owner, so that who may call a model's function needs no other right, however it is computed.
CREATE FUNCTION federated._define_prediction(
    function_name text, description text, features text[], booleans boolean[], prediction jsonb, version_key uuid
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    is_many  boolean := federated._has_many_classes(prediction);
    computed text;
BEGIN
    PERFORM federated._check_columns(features, booleans, prediction);
    IF function_name NOT LIKE '%@%' THEN
        PERFORM federated._refuse_stored_predictions(function_name);
    END IF;
    PERFORM federated._clear_signature(function_name, features, booleans, prediction);
    PERFORM federated._drop_other_forms(function_name);
    -- What is not inlined is called faster in PL/pgSQL than in SQL.
    computed := CASE WHEN federated._is_expression(features, booleans, prediction)
        THEN 'sql STABLE PARALLEL SAFE SECURITY INVOKER RETURN ' || federated._render(features, booleans, prediction)
        ELSE 'plpgsql STABLE PARALLEL SAFE SECURITY DEFINER AS ' || quote_literal(
            format(E'BEGIN\n    RETURN %s;\nEND', federated._render_call(features, booleans, prediction, version_key))) END;
    EXECUTE format('CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE %s',
                   CASE WHEN is_many THEN 'federated_proba' ELSE 'federated_model' END, function_name,
                   federated._describe_parameters(features, booleans, prediction),
                   CASE WHEN is_many THEN 'float8[]' ELSE 'float8' END, computed);
    PERFORM federated._write_row_functions(function_name, features, booleans, prediction);
    PERFORM federated._finish_model_function(function_name, description);
END
$$;
COMMENT ON FUNCTION federated._define_prediction(text, text, text[], boolean[], jsonb, uuid) IS
    'Makes, or remakes, a function in federated_model that computes a prediction, and its forms in federated_row';

-- Whatever changes which version is current takes this lock first.
CREATE FUNCTION federated._lock_publication(model_id bigint) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.publication:' || model_id, 0))
$$;
COMMENT ON FUNCTION federated._lock_publication(bigint) IS
    'Until the transaction ends, nobody else changes which version of the model is current';

-- Runs as federated_owner, the only role that may create anything in federated_model. Its caller chooses numbers
-- and names; all else is decided here.
CREATE FUNCTION federated._publish_function(
    model_id bigint, version integer, run_id uuid, features text[], booleans boolean[], prediction jsonb
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    model_name text;
    obstacle   text;
BEGIN
    PERFORM federated._lock_publication(model_id);
    model_name := (SELECT m.name FROM federated.model AS m WHERE m.model_id = _publish_function.model_id);
    IF model_name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the federated model does not exist';
    END IF;
    PERFORM federated._define_prediction(
        model_name, federated._describe_version(model_name, version, run_id), features, booleans, prediction,
        federated._version_key(run_id, version));
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RETURN obstacle;
END
$$;
COMMENT ON FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) IS
    'Makes a model''s function compute a version; returns NULL, or what depends on the function of another signature';

CREATE FUNCTION federated._describe_version(model_name text, version integer, run_id uuid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('Version %s of federated model %s, from run %s', version, model_name, run_id)
$$;
COMMENT ON FUNCTION federated._describe_version(text, integer, uuid) IS 'The comment of a function that computes a version';
