-- Predictions that follow an experiment, and what came of them.
--
-- What always holds: whatever asks, one key or a query's, a key is served by the arm that its hash names, and each prediction is counted in
-- the transaction that asked for it; a call is recorded for an experiment that is there until that transaction ends, or not at all.

-- These two are in each call's way, so the planner inlines them: what they name was bound when they were made.
CREATE FUNCTION federated._key_sha256(experiment_id uuid, key text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.sha256(pg_catalog.uuid_send(experiment_id) OPERATOR(pg_catalog.||) pg_catalog.convert_to(key, 'UTF8'));
COMMENT ON FUNCTION federated._key_sha256(uuid, text) IS 'SHA-256 of the 16 bytes of an experiment''s id and the UTF-8 text of a key';

CREATE FUNCTION federated._drawn(key_sha256 bytea) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' OPERATOR(pg_catalog.||) pg_catalog."left"(pg_catalog.encode(key_sha256, 'hex'), 13))::pg_catalog.bit(52)::pg_catalog.int8
    OPERATOR(pg_catalog./) 4503599627370496::pg_catalog.float8;
COMMENT ON FUNCTION federated._drawn(bytea) IS 'The first 52 bits of a key''s hash, as a number in [0, 1)';

-- The last arm takes what rounding of the shares leaves over.
CREATE FUNCTION federated._arm_bounds(experiment_id uuid) RETURNS double precision[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT (array_agg(a.upto ORDER BY a.place))[:count(*) - 1]
        FROM (SELECT k.place, sum(k.share) OVER (ORDER BY k.place) AS upto
              FROM federated.experiment_arm AS k WHERE k.experiment_id = _arm_bounds.experiment_id) AS a);
END
$$;
COMMENT ON FUNCTION federated._arm_bounds(uuid) IS
    'Where the parts of [0, 1) of an experiment''s arms end, but the last one''s: into whose a key''s number falls, that arm serves it. NULL where there is no arm';

CREATE FUNCTION federated._places_of(experiment_id uuid, keys text[]) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds double precision[] := federated._arm_bounds(experiment_id);
BEGIN
    PERFORM federated._check_key(k.key) FROM unnest(keys) AS k (key)
    WHERE (octet_length(k.key) BETWEEN 1 AND 1024) IS NOT TRUE;
    RETURN ARRAY(
        SELECT 1 + width_bucket(federated._drawn(federated._key_sha256(_places_of.experiment_id, k.key)), bounds)
        FROM unnest(keys) WITH ORDINALITY AS k (key, number) ORDER BY k.number);
END
$$;
COMMENT ON FUNCTION federated._places_of(uuid, text[]) IS 'Of each key the place of the arm that serves it; 22004 and 22023 as _check_key raises them';

CREATE FUNCTION federated._serve(experiment text, key text, OUT experiment_id uuid, OUT model text, OUT arm text, OUT version integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT e.experiment_id, m.name, a.name, a.version INTO experiment_id, model, arm, version
    FROM federated.experiment AS e JOIN federated.model AS m USING (model_id)
    LEFT JOIN federated.experiment_arm AS a ON a.experiment_id = e.experiment_id AND a.place =
        1 + width_bucket(federated._drawn(federated._key_sha256(e.experiment_id, key)), federated._arm_bounds(e.experiment_id))
    WHERE e.name = experiment;
    IF NOT FOUND THEN
        PERFORM federated._experiment_id(experiment);
    ELSIF (octet_length(key) BETWEEN 1 AND 1024) IS NOT TRUE THEN
        PERFORM federated._check_key(key);
    END IF;
    IF arm IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated experiment "%s" has no versions', experiment), HINT = 'Drop it and make it anew.';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._serve(text, text) IS 'By which arm an experiment serves a key, and of which model; 42704 where there is no such experiment';

CREATE FUNCTION @extschema@.federated_experiment_arm(experiment text, key text, OUT arm text, OUT version integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.arm, s.version INTO arm, version FROM federated._serve(experiment, key) AS s;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_experiment_arm(text, text) IS
    'Which arm of an experiment serves a key, and which version that is: always the same one. Nothing is recorded';

-- A DROP that came first is waited for, and one that comes later waits: what is recorded beside it has no experiment to be about.
CREATE FUNCTION federated._hold_experiment(experiment_id uuid, experiment text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM federated.experiment AS e WHERE e.experiment_id = _hold_experiment.experiment_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated experiment "%s" does not exist', left(experiment, 63)),
            DETAIL = 'It was dropped meanwhile.';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._hold_experiment(uuid, text) IS 'Keeps an experiment from being dropped until the transaction ends; 42704 where it was dropped meanwhile';

-- What records runs as federated_owner and is called by name too: the right to the model's functions is asked for there, of the role that
-- logged in or was set. (Inside DEFINER current_user is the owner.)
CREATE FUNCTION federated._check_may_record(experiment_id uuid, places integer[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    caller  name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
    refused name;
BEGIN
    SELECT p.proname INTO refused
    FROM federated.experiment_arm AS a JOIN federated.model AS m USING (model_id)
    JOIN pg_proc AS p ON p.pronamespace = 'federated_model'::regnamespace AND p.proname = (m.name || '@' || a.version)::name
    WHERE a.experiment_id = _check_may_record.experiment_id AND a.place = ANY (places)
      AND NOT has_function_privilege(caller, p.oid, 'EXECUTE')
    ORDER BY a.place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for function federated_model.%I', refused),
            DETAIL = format('What an experiment records needs this right of the session''s role, "%s".', caller);
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_may_record(uuid, integer[]) IS
    'Raises error 42501 where the session''s role may not call the function of one of these arms';

CREATE FUNCTION federated._record_calls(experiment_id uuid, experiment text, keys text[], scores double precision[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds double precision[] := federated._arm_bounds(experiment_id);
    made   record;
BEGIN
    PERFORM federated._hold_experiment(experiment_id, experiment);
    WITH calls AS (
        INSERT INTO federated.experiment_call (experiment_id, key_sha256, place, score)
        SELECT _record_calls.experiment_id, c.hashed, 1 + width_bucket(federated._drawn(c.hashed), bounds), c.score
        FROM (SELECT federated._key_sha256(_record_calls.experiment_id, k.key) AS hashed, k.score
              FROM unnest(keys, scores) AS k (key, score)) AS c
        RETURNING place
    )
    SELECT count(*) AS calls, array_agg(DISTINCT c.place) AS places INTO made FROM calls AS c;
    PERFORM federated._check_may_record(experiment_id, made.places);
    RETURN made.calls;
END
$$;
COMMENT ON FUNCTION federated._record_calls(uuid, text, text[], double precision[]) IS
    'Counts predictions for the arms that serve the keys, and returns how many there are; 42501 where the session''s role may not call the arms'' functions';

CREATE FUNCTION @extschema@.federated_predict_experiment(
    experiment text, key text, features jsonb DEFAULT '{}', OUT score double precision, OUT arm text, OUT version integer
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
BEGIN
    SELECT s.* INTO served FROM federated._serve(experiment, key) AS s;
    IF features IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the features must not be null',
            HINT = 'Name each feature: {"feature": value, ...}.';
    END IF;
    arm := served.arm;
    version := served.version;
    score := @extschema@.federated_predict(served.model || '@' || version, features);
    PERFORM federated._record_calls(served.experiment_id, experiment, ARRAY[key], ARRAY[score]);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict_experiment(text, text, jsonb) IS
    'Prediction by the version of the arm that serves the key, with the arm''s label; the call is counted. A version that was retired or is withheld answers 55000: no other one takes its place';

CREATE FUNCTION federated._check_compares(experiment text, model text) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject  uuid;
    compared text;
BEGIN
    SELECT e.experiment_id, m.name INTO subject, compared
    FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) WHERE e.name = experiment;
    IF NOT FOUND THEN
        PERFORM federated._experiment_id(experiment);
    ELSIF model IS DISTINCT FROM compared THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('federated experiment "%s" compares versions of "%s", not of "%s"', experiment, compared, left(model, 127)),
            HINT = 'Name the model without a version: the experiment chooses one.';
    END IF;
    RETURN subject;
END
$$;
COMMENT ON FUNCTION federated._check_compares(text, text) IS 'The id of an experiment, or error 42704; 22023 where it is about another model';

CREATE FUNCTION @extschema@.federated_predict(model text, features jsonb, experiment text, experiment_key text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._check_compares(experiment, model);
    RETURN (SELECT p.score FROM @extschema@.federated_predict_experiment(experiment, experiment_key, features) AS p);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict(text, jsonb, text, text) IS
    'Prediction by the version with which an experiment on the model serves the key; the call is counted, as federated_predict_experiment counts it';

-- The arms of one block of a query's rows are found at once, each row is scored by its arm's own function, and the block's calls are recorded
-- before a row of it is returned. columns: as of federated._describe_batch.
CREATE FUNCTION federated._describe_served(subject uuid, model text, columns jsonb, experiment_key text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row_place text := federated._free_name(columns);
    score     text := row_place || ' prediction';
    arms      text;
BEGIN
    IF (SELECT count(*) FROM jsonb_to_recordset(columns) AS c (name text) WHERE c.name = experiment_key) IS DISTINCT FROM 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('the query has no column "%s"', left(experiment_key, 63)),
            HINT = 'experiment_key names the column of the query whose value is the key.';
    END IF;
    arms := (SELECT string_agg(format('WHEN %s THEN %s', a.place, federated._describe_arm(model || '@' || a.version, columns)), ' ' ORDER BY a.place)
             FROM federated.experiment_arm AS a WHERE a.experiment_id = subject);
    RETURN (
        SELECT format(
            'WITH q AS MATERIALIZED (SELECT * FROM ROWS FROM (federated._fetch_block($1, $2) AS (%1$s)) WITH ORDINALITY AS q (%2$s, %3$I)),'
            ' a AS MATERIALIZED (SELECT federated._places_of($3, pg_catalog.array_agg(q.%4$I::pg_catalog.text ORDER BY q.%3$I)) AS places FROM q),'
            ' p AS MATERIALIZED (SELECT q.*, CASE a.places[q.%3$I] %5$s END AS %6$I FROM q, a),'
            ' r AS MATERIALIZED (SELECT federated._record_calls($3, $4, pg_catalog.array_agg(p.%4$I::pg_catalog.text ORDER BY p.%3$I),'
            ' pg_catalog.array_agg(p.%6$I ORDER BY p.%3$I)) FROM p HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0)'
            ' SELECT %7$s, p.%6$I FROM p, r ORDER BY p.%3$I',
            string_agg(format('c%s %s', c.place, format_type(c.type, c.typmod)), ', ' ORDER BY c.place),
            string_agg(format('%I', c.name), ', ' ORDER BY c.place), row_place, experiment_key, arms, score,
            string_agg(format('p.%I', c.name), ', ' ORDER BY c.place))
        FROM (SELECT r.ordinality AS place, r.type, r.typmod,
                     CASE WHEN count(*) OVER (PARTITION BY r.name) = 1 THEN r.name ELSE 'c ' || r.ordinality END AS name
              FROM ROWS FROM (jsonb_to_recordset(columns) AS (name text, type oid, typmod integer)) WITH ORDINALITY AS r) AS c);
END
$$;
COMMENT ON FUNCTION federated._describe_served(uuid, text, jsonb, text) IS
    'A query for the next rows of a cursor, each with the prediction of the arm that serves its key; it records these calls';

CREATE FUNCTION federated._describe_arm(reference text, columns jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    present text[] := ARRAY(SELECT c.name FROM jsonb_to_recordset(columns) AS c (name text));
BEGIN
    SELECT f.* INTO found FROM federated._find_function(reference) AS f;
    IF NOT found.features && present THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', reference),
            HINT = format('Its features are %s.', array_to_string(found.features, ', '));
    END IF;
    RETURN federated._describe_call('federated_model', found.function_name, found.features, found.booleans, found.prediction,
        federated._given_by_name(found.features, found.booleans, found.prediction, present, 'q.'));
END
$$;
COMMENT ON FUNCTION federated._describe_arm(text, jsonb) IS 'A call of a version''s function for the columns of a row q';

CREATE FUNCTION @extschema@.federated_predict_batch(model text, query text, experiment text, experiment_key text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    block     CONSTANT pg_catalog.int4 := 4096;
    subject   CONSTANT pg_catalog.uuid := federated._check_compares(experiment, model);
    rows      CONSTANT pg_catalog.text := 'federated_batch_' OPERATOR(pg_catalog.||) pg_catalog.gen_random_uuid()::pg_catalog.text;
    found     pg_catalog.jsonb;
    statement pg_catalog.text;
    taken     pg_catalog.int8;
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null';
    END IF;
    found := federated._describe_columns(query);
    PERFORM federated._raise(found OPERATOR(pg_catalog.->) 'failure');
    statement := federated._describe_served(subject, model, found OPERATOR(pg_catalog.->) 'columns', experiment_key);
    EXECUTE pg_catalog.format('DECLARE %I NO SCROLL CURSOR FOR %s', rows, found OPERATOR(pg_catalog.->>) 'query');
    LOOP
        RETURN QUERY EXECUTE statement USING rows, block, subject, experiment;
        GET DIAGNOSTICS taken = ROW_COUNT;
        EXIT WHEN taken OPERATOR(pg_catalog.<) block;
    END LOOP;
    EXECUTE pg_catalog.format('CLOSE %I', rows);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict_batch(text, text, text, text) IS
    'As federated_predict_batch(model, query), each row by the version with which an experiment on the model serves its key, the value of the query''s column that experiment_key names; the calls are counted. Needs a column list: AS (id integer, ..., prediction float8)';

CREATE FUNCTION federated._record_outcome(experiment_id uuid, experiment text, key text, outcome double precision) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashed bytea := federated._key_sha256(experiment_id, key);
    served record;
BEGIN
    PERFORM federated._hold_experiment(experiment_id, experiment);
    PERFORM federated._check_may_record(experiment_id, federated._places_of(experiment_id, ARRAY[key]));
    -- One that is being folded is waited for, and is none then: its key's outcome is folded with it.
    SELECT c.place, c.score INTO served
    FROM federated.experiment_call AS c
    WHERE c.experiment_id = _record_outcome.experiment_id AND c.key_sha256 = hashed
    ORDER BY c.called_at DESC LIMIT 1 FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO federated.experiment_outcome AS o (experiment_id, key_sha256, place, score, outcome)
    VALUES (_record_outcome.experiment_id, hashed, served.place, served.score, _record_outcome.outcome)
    ON CONFLICT ON CONSTRAINT experiment_outcome_pkey
    DO UPDATE SET score = excluded.score, outcome = excluded.outcome, reported_at = excluded.reported_at;
    RETURN true;
END
$$;
COMMENT ON FUNCTION federated._record_outcome(uuid, text, text, double precision) IS
    'Keeps the outcome of a key in place of an earlier one; false for a key that was not served within keep_days; 42501 as of _record_calls';

CREATE FUNCTION @extschema@.federated_report_outcome(experiment text, key text, outcome double precision) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
BEGIN
    SELECT s.* INTO served FROM federated._serve(experiment, key) AS s;
    IF outcome IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the outcome must not be null';
    ELSIF NOT outcome BETWEEN -1e100 AND 1e100 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('the outcome must be a number, not %s', outcome),
            DETAIL = 'It may be from -1e100 to 1e100.';
    END IF;
    -- By the function's name alone: a version that predicts no more still has outcomes to come.
    PERFORM federated._check_may_predict(served.model || '@' || served.version, NULL);
    IF NOT federated._record_outcome(served.experiment_id, experiment, key, outcome) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated experiment "%s" has not served this key', experiment),
            HINT = 'An outcome is of a key that was served in a transaction that committed, within the experiment''s keep_days.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_report_outcome(text, text, double precision) IS
    'What came of a key that an experiment has served: a number, 1 or 0 for yes or no. One outcome a key counts, the last that was reported; error 42704 for a key that was not served within the experiment''s keep_days';
