-- Versions that do not predict: retired ones, of which only the hash stays, and ones that are withheld for a while.
--
-- What always holds: what a version's functions do follows from its row, in the transaction that changes that; they keep their
-- signatures, so that nothing that depends on them is in the way.

CREATE FUNCTION federated._why_withdrawn(
    model text, version integer, is_retired boolean, successor integer, OUT message text, OUT hint text
)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN is_retired
               THEN format('version %s of federated model "%s" was retired: data subjects were erased that it had learned from', version, model)
               ELSE format('version %s of federated model "%s" does not predict while an erasure is carried out', version, model) END,
           CASE WHEN NOT is_retired THEN 'federated_erasure_status shows how far the erasure has come.'
                WHEN successor IS NULL AND EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = model)
                    THEN format('SELECT state, message FROM federated_subscriptions WHERE model_name = %L says what takes its place.', model)
                WHEN successor IS NULL THEN format('START FEDERATED TRAINING %s makes a version without them.', quote_ident(model))
                ELSE format('Version %s is the current one: federated_predict(%L, ...).', successor, model) END
$$;
COMMENT ON FUNCTION federated._why_withdrawn(text, integer, boolean, integer) IS
    'What a version says that was retired, or else is withheld; successor: which one is current, NULL for none';

CREATE FUNCTION federated._refuse_withdrawn(model text, version integer, is_retired boolean) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said record;
BEGIN
    SELECT w.* INTO said FROM federated._why_withdrawn(model, version, is_retired, (
        SELECT v.version FROM federated.held_version AS v
        WHERE v.model_name = _refuse_withdrawn.model AND v.is_current AND NOT v.is_retired)) AS w;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = said.message, HINT = said.hint;
END
$$;
COMMENT ON FUNCTION federated._refuse_withdrawn(text, integer, boolean) IS 'Raises 55000 for a version that was retired, or else is withheld';

CREATE FUNCTION federated._write_refusal(function_name text, message text, hint text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    form record;
BEGIN
    FOR form IN
        SELECT n.nspname AS schema_name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('federated_model', 'federated_row', 'federated_proba') AND p.proname::text = function_name
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY INVOKER AS %L',
            form.schema_name, function_name, form.arguments, form.result,
            format(E'BEGIN\n    RAISE EXCEPTION USING ERRCODE = ''55000'', MESSAGE = %L, HINT = %L;\nEND', message, hint));
    END LOOP;
    PERFORM federated._finish_model_function(function_name, message);
END
$$;
COMMENT ON FUNCTION federated._write_refusal(text, text, text) IS 'Has a model''s or version''s function answer 55000, in all its forms';

CREATE FUNCTION federated._withdraw_functions(subject federated.version, was_current boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = subject.model_id);
    successor  integer := (SELECT v.version FROM federated.version AS v WHERE v.model_id = subject.model_id AND v.is_current);
BEGIN
    PERFORM federated._write_refusal(k.function_name, w.message, w.hint)
    FROM federated._why_withdrawn(model_name, subject.version, subject.retired_at IS NOT NULL, successor) AS w
    CROSS JOIN LATERAL (
        SELECT model_name || '@' || subject.version AS function_name
        UNION ALL
        SELECT model_name || '@' || t.name FROM federated.tag AS t WHERE t.model_id = subject.model_id AND t.version = subject.version
        UNION ALL
        SELECT model_name WHERE was_current
    ) AS k;
END
$$;
COMMENT ON FUNCTION federated._withdraw_functions(federated.version, boolean) IS
    'Has all functions of a version that was retired or is withheld say so; was_current: the model''s own is one of them';

CREATE FUNCTION federated._list_withdrawn(model_id bigint) RETURNS TABLE (subject federated.version, labels text[], is_shown boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v, ARRAY(SELECT v.version::text UNION ALL
                    SELECT t.name FROM federated.tag AS t WHERE t.model_id = v.model_id AND t.version = v.version),
           -- The model's own function says what the last version says where none is current.
           v.is_current OR NOT EXISTS (
               SELECT FROM federated.version AS o WHERE o.model_id = v.model_id AND (o.is_current OR o.version > v.version))
    FROM federated.version AS v
    WHERE v.model_id = _list_withdrawn.model_id AND (v.retired_at IS NOT NULL OR v.withheld)
$$;
COMMENT ON FUNCTION federated._list_withdrawn(bigint) IS
    'The versions of a model that were retired or are withheld, with what their functions are called behind the @; is_shown: the model''s own function is one of them';

CREATE FUNCTION federated._restore_functions(subject federated.version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name  text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = subject.model_id);
    description text := federated._describe_version(model_name, subject.version, subject.run_id);
BEGIN
    PERFORM federated._define_version(k.function_name, k.description, subject.model_id, subject.version)
    FROM (
        SELECT model_name || '@' || subject.version AS function_name, description
        UNION ALL
        SELECT model_name || '@' || t.name, description || format(', tagged %s', t.name)
        FROM federated.tag AS t WHERE t.model_id = subject.model_id AND t.version = subject.version
        UNION ALL
        SELECT model_name, description WHERE subject.is_current
    ) AS k
    WHERE octet_length(k.function_name) <= 63;
END
$$;
COMMENT ON FUNCTION federated._restore_functions(federated.version) IS 'Has all functions of a version predict again';

-- Runs as federated_owner, which owns the functions.
CREATE FUNCTION federated._keep_withdrawn_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.retired_at IS NOT NULL OR NEW.withheld THEN
        PERFORM federated._withdraw_functions(NEW, OLD.is_current);
    ELSIF NEW.prediction IS NOT NULL THEN
        PERFORM federated._restore_functions(NEW);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._keep_withdrawn_functions() IS 'Keeps a version''s functions in step with whether it predicts';

-- Sorts behind publish_version: what is published last says what the row says.
CREATE TRIGGER withdraw_functions AFTER UPDATE OF retired_at, withheld ON federated.version
    FOR EACH ROW WHEN (OLD.retired_at IS DISTINCT FROM NEW.retired_at OR OLD.withheld <> NEW.withheld)
    EXECUTE FUNCTION federated._keep_withdrawn_functions();

CREATE FUNCTION federated._refuse_retired_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT v.retired_at, v.withheld INTO subject
    FROM federated.version AS v WHERE v.model_id = NEW.model_id AND v.version = NEW.version;
    IF subject.retired_at IS NOT NULL OR subject.withheld AND TG_TABLE_NAME = 'version' THEN
        PERFORM federated._refuse_withdrawn(m.name, NEW.version, subject.retired_at IS NOT NULL)
        FROM federated.model AS m WHERE m.model_id = NEW.model_id;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._refuse_retired_version() IS
    'Lets no version that was retired be made current or be given a tag, nor one be made current while it is withheld';

CREATE TRIGGER refuse_retired BEFORE UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._refuse_retired_version();
CREATE TRIGGER refuse_retired BEFORE INSERT OR UPDATE OF version ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_retired_version();
-- The daemon may take away what a version learned, and with its retirement alone.
CREATE FUNCTION federated._refuse_rewritten_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'what a version learned is not rewritten, only taken away as it is retired';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._refuse_rewritten_version() IS 'Lets what a version learned be taken away with its retirement alone';

CREATE TRIGGER refuse_rewritten
    BEFORE UPDATE OF retired_by, prediction, prediction_arrays, sealed, scaling, report ON federated.version
    FOR EACH ROW WHEN (
        -- Sealed anew under another key, it is what it was.
        (OLD.sealed = '' OR NEW.sealed = '' OR OLD.retired_at IS NOT NULL OR NEW.retired_at IS NOT NULL
            OR (NEW.retired_by, NEW.prediction, NEW.prediction_arrays, NEW.scaling, NEW.report)
               IS DISTINCT FROM (OLD.retired_by, OLD.prediction, OLD.prediction_arrays, OLD.scaling, OLD.report))
        AND (OLD.retired_at IS NOT NULL OR NEW.retired_at IS NULL OR NEW.prediction IS NOT NULL OR NEW.prediction_arrays IS NOT NULL
        OR NEW.sealed <> '' OR NEW.scaling <> '{}' OR NEW.report IS NOT NULL))
    EXECUTE FUNCTION federated._refuse_rewritten_version();

CREATE TRIGGER audit_retired AFTER UPDATE OF retired_at ON federated.version
    FOR EACH ROW WHEN (OLD.retired_at IS NULL AND NEW.retired_at IS NOT NULL) EXECUTE FUNCTION federated._audit();
