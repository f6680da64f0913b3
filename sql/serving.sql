-- Predictions that heliosdb api computes outside the server: who may have them, by which version, and the numbers of that.
--
-- What always holds: each call is decided here and anew, as its caller's role, by the rights on the functions that SQL would call; which
-- version answers is the one that SQL would take, or its error. Numbers are handed out for a role that the one who asks may become
-- and that may call the version's functions, and for no other.

CREATE FUNCTION federated._may_call(role name, function_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN octet_length(function_name) < 64 AND coalesce((
        SELECT bool_and(has_function_privilege(role, p.oid, 'EXECUTE') AND has_schema_privilege(role, p.pronamespace, 'USAGE'))
        FROM pg_proc AS p
        WHERE p.proname = function_name::name
          AND p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace)), false);
END
$$;
COMMENT ON FUNCTION federated._may_call(name, text) IS 'Whether a role may call a model''s function in all its forms; false where there is none';

CREATE FUNCTION federated._may_become(role name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- From version 16 on a membership may come without the right to become the role.
    RETURN pg_has_role(session_user, role, CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END);
END
$$;
COMMENT ON FUNCTION federated._may_become(name) IS 'Whether the role that logged in may become another one';

-- One statement that asks all of it: what a call by HTTP asks in several (catalog/sql/api.sql), in the same order. The role that it
-- sets is the caller's until the transaction ends, which this statement is.
CREATE FUNCTION federated._admit_call(
    digest bytea, vouched name, reference text, OUT outcome text, OUT role name, OUT model_name text, OUT version integer, OUT numbers_id uuid
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    role := CASE WHEN digest IS NOT NULL THEN federated._authenticate(digest) WHEN federated._servable(vouched) THEN vouched END;
    IF role IS NULL THEN
        outcome := 'unknown';
        RETURN;
    ELSIF NOT federated._may_become(role) THEN
        outcome := 'ungranted';
        RETURN;
    ELSIF NOT pg_has_role(role, 'federated_analyst', 'USAGE') THEN
        outcome := 'forbidden';
        RETURN;
    END IF;
    PERFORM set_config('role', role, true);
    SELECT h.function_name, h.model_name, h.version, h.numbers_id INTO found FROM federated._find_held(reference) AS h;
    IF NOT federated._may_call(role, found.function_name) THEN
        -- A version without a function says so.
        PERFORM federated._find_function(reference);
        outcome := 'forbidden';
        RETURN;
    END IF;
    outcome := 'admitted';
    model_name := found.model_name;
    version := found.version;
    numbers_id := found.numbers_id;
END
$$;
COMMENT ON FUNCTION federated._admit_call(bytea, name, text) IS
    'Whose call it is, by a token''s SHA-256 or a role that was vouched for, and which version model, model@tag or model@number answers it by; outcome: admitted, unknown (nobody''s), ungranted (the API may not become the role) or forbidden; an error where SQL has it. The rest of the transaction runs as the caller';

-- Runs as federated_owner: what numpy computes by is nobody else's to read. The version is asked for by the name that the call had.
CREATE FUNCTION federated._served_numbers(
    role name, reference text, key uuid, OUT features text[], OUT prediction text, OUT encoding text, OUT arrays bytea
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT h.function_name, h.numbers_id, h.features, h.prediction INTO found FROM federated._find_held(reference) AS h;
    IF NOT (federated._may_become(role) AND federated._servable(role) AND pg_has_role(role, 'federated_analyst', 'USAGE')
            AND federated._may_call(role, found.function_name)) IS TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied for the numbers of a federated model';
    ELSIF found.numbers_id <> key THEN
        RETURN;
    ELSIF found.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('"%s" cannot be served', reference),
            DETAIL = 'The version was made by a release that did not keep its numbers.', HINT = 'Train the model anew.';
    ELSIF found.prediction ? 'sealed' THEN
        PERFORM federated._refuse_sealed(f.model_name, f.version, 'predictions outside the server are not made by it')
        FROM federated._find_held(reference) AS f;
    END IF;
    features := found.features;
    prediction := federated._predicting(found.prediction - '{encoding,booleans}'::text[])::text;
    encoding := federated._encoding_text(found.features, federated._flags(found.prediction), found.prediction);
    arrays := (SELECT v.prediction_arrays FROM federated.held_version AS v WHERE v.numbers_id = key);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION federated._served_numbers(name, text, uuid) IS
    'What a version predicts by, for a role that the one who logged in may become and that may call it; no row where the name leads to another version by now, 55000 where it was retired or is withheld';

CREATE FUNCTION federated._still_predict(keys uuid[]) RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(v.numbers_id), '{}') FROM federated.held_version AS v
    WHERE v.numbers_id = ANY (keys) AND NOT v.is_retired AND NOT v.is_withheld
$$;
COMMENT ON FUNCTION federated._still_predict(uuid[]) IS 'Which of the versions of these keys are there, not retired and not withheld';

CREATE FUNCTION federated._tell_versions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Says nothing: whoever hears it asks what they may see.
    PERFORM pg_notify('heliosdb_versions', '');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._tell_versions() IS 'Notifies the channel heliosdb_versions, at COMMIT, that another version may answer';

CREATE TRIGGER tell_versions AFTER INSERT OR DELETE OR UPDATE OF is_current, retired_at, withheld ON federated.version
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();
CREATE TRIGGER tell_versions AFTER INSERT OR DELETE OR UPDATE OF is_current, retired_at ON federated.delivered_version
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();
CREATE TRIGGER tell_versions AFTER INSERT OR DELETE ON federated.imported_model
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();
CREATE TRIGGER tell_versions AFTER INSERT OR DELETE OR UPDATE ON federated.tag
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();
