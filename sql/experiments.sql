-- Experiments: which version of a model serves a key, what was asked for and what came of it.
--
-- What always holds: a key's arm follows from the experiment and the key alone, so it is the same in every session and after a restore; a
-- key is kept as a hash salted by the experiment's id, which no role but the backup's reads. The versions of an experiment are pinned.

CREATE TABLE federated.experiment (
    experiment_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    model_id      bigint NOT NULL REFERENCES federated.model ON DELETE CASCADE,
    name          text NOT NULL UNIQUE CHECK (name <> '' AND octet_length(name) <= 63),
    created_by    name NOT NULL DEFAULT current_user,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (experiment_id, model_id)
);
CREATE INDEX experiment_by_model ON federated.experiment (model_id);
COMMENT ON TABLE federated.experiment IS 'What CREATE FEDERATED EXPERIMENT compares; it belongs to its model''s owner';
COMMENT ON COLUMN federated.experiment.created_by IS 'Who made it; the owner of the model may drop it';

CREATE TABLE federated.experiment_arm (
    experiment_id uuid NOT NULL,
    model_id      bigint NOT NULL,
    place         integer NOT NULL CHECK (place BETWEEN 1 AND 20),
    name          text NOT NULL CHECK (name <> '' AND octet_length(name) <= 1024),
    version       integer NOT NULL,
    share         double precision NOT NULL CHECK (share > 0 AND share < 1),
    calls         bigint,
    outcomes      bigint,
    outcome_sum   double precision,
    PRIMARY KEY (experiment_id, place),
    UNIQUE (experiment_id, name),
    UNIQUE (experiment_id, version),
    FOREIGN KEY (experiment_id, model_id) REFERENCES federated.experiment (experiment_id, model_id) ON DELETE CASCADE,
    FOREIGN KEY (model_id, version) REFERENCES federated.version (model_id, version)
);
CREATE INDEX experiment_arm_by_version ON federated.experiment_arm (model_id, version);
COMMENT ON TABLE federated.experiment_arm IS 'The versions that an experiment compares, each with its share of the keys';
COMMENT ON COLUMN federated.experiment_arm.place IS 'Its place in the statement, from 1';
COMMENT ON COLUMN federated.experiment_arm.name IS 'The tag or number that the statement gave; version is what it named then';
COMMENT ON COLUMN federated.experiment_arm.calls IS 'Written, with outcomes and outcome_sum, as the experiment is dropped, for the audit log';

CREATE TABLE federated.experiment_call (
    experiment_id uuid NOT NULL REFERENCES federated.experiment ON DELETE CASCADE,
    key_sha256    bytea NOT NULL CHECK (octet_length(key_sha256) = 32),
    place         integer NOT NULL,
    score         double precision,
    called_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX experiment_call_by_key ON federated.experiment_call (experiment_id, key_sha256, called_at);
COMMENT ON TABLE federated.experiment_call IS 'Predictions that were asked for by experiment, each once and never changed';
COMMENT ON COLUMN federated.experiment_call.key_sha256 IS 'As federated._key_sha256 makes it: no key is kept in clear';

CREATE TABLE federated.experiment_outcome (
    experiment_id uuid NOT NULL REFERENCES federated.experiment ON DELETE CASCADE,
    key_sha256    bytea NOT NULL CHECK (octet_length(key_sha256) = 32),
    place         integer NOT NULL,
    score         double precision,
    outcome       double precision NOT NULL CHECK (outcome BETWEEN -1e100 AND 1e100),
    reported_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (experiment_id, key_sha256)
);
COMMENT ON TABLE federated.experiment_outcome IS 'What was last reported of each key that an experiment served';
COMMENT ON COLUMN federated.experiment_outcome.score IS 'Of the last call for the key before the report';

SELECT pg_catalog.pg_extension_config_dump('federated.experiment', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_arm', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_call', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_outcome', '');

CREATE FUNCTION federated._experiment_id(experiment text) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id uuid := (SELECT e.experiment_id FROM federated.experiment AS e WHERE e.name = experiment);
BEGIN
    IF experiment IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the name of a federated experiment must not be null';
    ELSIF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('federated experiment "%s" does not exist', left(experiment, 63)),
            HINT = 'SELECT experiment_name FROM federated_experiments; lists them.';
    END IF;
    RETURN found_id;
END
$$;
COMMENT ON FUNCTION federated._experiment_id(text) IS 'The id of an experiment, or error 42704';

CREATE FUNCTION federated._check_key(key text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF key IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the key must not be null',
            HINT = 'Give what stays the same for whom the prediction is: an id.';
    ELSIF key = '' OR octet_length(key) > 1024 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE key WHEN '' THEN 'the key must not be empty' ELSE 'the key is too long' END,
            DETAIL = format('It has %s bytes; it may have from 1 to 1024.', octet_length(key));
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_key(text) IS 'Raises 22004 for no key, 22023 for an empty one or one of more than 1024 bytes';

CREATE FUNCTION federated._key_sha256(experiment_id uuid, key text) RETURNS bytea
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN sha256(uuid_send(experiment_id) || convert_to(key, 'UTF8'));
END
$$;
COMMENT ON FUNCTION federated._key_sha256(uuid, text) IS 'SHA-256 of the 16 bytes of an experiment''s id and the UTF-8 text of a key';

-- The last arm takes what rounding of the shares leaves over. In PL/pgSQL, whose plans a session keeps, as what is called at each prediction.
CREATE FUNCTION federated._place_of(experiment_id uuid, key_sha256 bytea) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(min(a.place) FILTER (WHERE drawn.number < a.upto), max(a.place))
    FROM (SELECT k.place, sum(k.share) OVER (ORDER BY k.place) AS upto
          FROM federated.experiment_arm AS k WHERE k.experiment_id = _place_of.experiment_id) AS a
    CROSS JOIN (SELECT ('x' || left(encode(key_sha256, 'hex'), 13))::bit(52)::bigint / 4503599627370496::double precision AS number) AS drawn);
END
$$;
COMMENT ON FUNCTION federated._place_of(uuid, bytea) IS
    'The arm of a key: its hash''s first 52 bits, as a number in [0, 1), fall into the share of one';

CREATE FUNCTION federated._check_arm(model text, version integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model || '@' || version) AS f;
    IF federated._has_many_classes(found.prediction) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('version %s of federated model "%s" predicts one of several classes, and no number', version, model),
            DETAIL = 'An experiment compares versions that predict a number or the probability of one of two classes.';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_arm(text, integer) IS
    'Raises 55000 for a version that has no function, was retired or is withheld, 0A000 for one of several classes';

CREATE FUNCTION @extschema@.federated_experiment_arm(experiment text, key text, OUT arm text, OUT version integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject uuid := federated._experiment_id(experiment);
BEGIN
    PERFORM federated._check_key(key);
    SELECT a.name, a.version INTO arm, version FROM federated.experiment_arm AS a
    WHERE a.experiment_id = subject AND a.place = federated._place_of(subject, federated._key_sha256(subject, key));
END
$$;
COMMENT ON FUNCTION @extschema@.federated_experiment_arm(text, text) IS
    'Which arm of an experiment serves a key, and which version that is: always the same one. Nothing is recorded';

CREATE FUNCTION federated._record_call(experiment_id uuid, key text, score double precision) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashed bytea := federated._key_sha256(experiment_id, key);
BEGIN
    PERFORM federated._check_key(key);
    INSERT INTO federated.experiment_call (experiment_id, key_sha256, place, score)
    VALUES (_record_call.experiment_id, hashed, federated._place_of(experiment_id, hashed), _record_call.score);
END
$$;
COMMENT ON FUNCTION federated._record_call(uuid, text, double precision) IS 'Counts a prediction for the arm that serves the key';

CREATE FUNCTION @extschema@.federated_predict_experiment(
    experiment text, key text, features jsonb DEFAULT '{}', OUT score double precision, OUT arm text, OUT version integer
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject uuid := federated._experiment_id(experiment);
    model   text := (SELECT m.name FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) WHERE e.experiment_id = subject);
BEGIN
    IF features IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the features must not be null',
            HINT = 'Name each feature: {"feature": value, ...}.';
    END IF;
    SELECT a.arm, a.version INTO arm, version FROM @extschema@.federated_experiment_arm(experiment, key) AS a;
    score := @extschema@.federated_predict(model || '@' || version, features);
    PERFORM federated._record_call(subject, key, score);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict_experiment(text, text, jsonb) IS
    'Prediction by the version of the arm that serves the key, with the arm''s label; the call is counted. A version that was retired or is withheld answers 55000: no other one takes its place';

CREATE FUNCTION federated._record_outcome(experiment_id uuid, key text, outcome double precision) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashed bytea := federated._key_sha256(experiment_id, key);
BEGIN
    INSERT INTO federated.experiment_outcome AS o (experiment_id, key_sha256, place, score, outcome)
    SELECT c.experiment_id, c.key_sha256, c.place, c.score, _record_outcome.outcome
    FROM federated.experiment_call AS c
    WHERE c.experiment_id = _record_outcome.experiment_id AND c.key_sha256 = hashed
    ORDER BY c.called_at DESC LIMIT 1
    ON CONFLICT ON CONSTRAINT experiment_outcome_pkey
    DO UPDATE SET score = excluded.score, outcome = excluded.outcome, reported_at = excluded.reported_at;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION federated._record_outcome(uuid, text, double precision) IS
    'Keeps the outcome of a key in place of an earlier one; false for a key that was never served';

CREATE FUNCTION @extschema@.federated_report_outcome(experiment text, key text, outcome double precision) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject uuid := federated._experiment_id(experiment);
BEGIN
    PERFORM federated._check_key(key);
    IF outcome IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the outcome must not be null';
    ELSIF NOT outcome BETWEEN -1e100 AND 1e100 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('the outcome must be a number, not %s', outcome),
            DETAIL = 'It may be from -1e100 to 1e100.';
    END IF;
    -- By the function's name alone: a version that predicts no more still has outcomes to come.
    PERFORM federated._check_may_predict(m.name || '@' || a.version, NULL)
    FROM federated.experiment AS e JOIN federated.model AS m USING (model_id)
    CROSS JOIN LATERAL @extschema@.federated_experiment_arm(experiment, key) AS a WHERE e.experiment_id = subject;
    IF NOT federated._record_outcome(subject, key, outcome) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated experiment "%s" has not served this key', experiment),
            HINT = 'An outcome is of a key for which federated_predict_experiment was called, in a transaction that committed.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_report_outcome(text, text, double precision) IS
    'What came of a key that an experiment has served: a number, 1 or 0 for yes or no. One outcome a key counts, the last that was reported; error 42704 for a key never served';

-- Sums alone come out: whose they are stays in the tables.
CREATE FUNCTION federated._experiment_sums(experiment_id uuid) RETURNS TABLE (
    place integer, calls bigint, keys bigint, outcomes bigint, outcome_sum double precision, mean double precision,
    variance double precision, brier double precision
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.place, coalesce(c.calls, 0), coalesce(c.keys, 0), coalesce(o.outcomes, 0), o.outcome_sum, o.mean, o.variance, o.brier
    FROM federated.experiment_arm AS a
    LEFT JOIN (
        SELECT k.place, count(*) AS calls, count(DISTINCT k.key_sha256) AS keys
        FROM federated.experiment_call AS k WHERE k.experiment_id = _experiment_sums.experiment_id GROUP BY k.place
    ) AS c USING (place)
    LEFT JOIN (
        SELECT k.place, count(*) AS outcomes, sum(k.outcome) AS outcome_sum, avg(k.outcome) AS mean, var_samp(k.outcome) AS variance,
               CASE WHEN bool_and(k.outcome IN (0, 1) AND (k.score IS NULL OR k.score BETWEEN 0 AND 1))
                    THEN avg(CASE WHEN k.score BETWEEN 0 AND 1 AND k.outcome IN (0, 1)
                             THEN power(greatest(abs(k.score - k.outcome), 1e-150), 2) END) END AS brier
        FROM federated.experiment_outcome AS k WHERE k.experiment_id = _experiment_sums.experiment_id GROUP BY k.place
    ) AS o USING (place)
    WHERE a.experiment_id = _experiment_sums.experiment_id
$$;
COMMENT ON FUNCTION federated._experiment_sums(uuid) IS 'Of each arm how often and for how many keys it was asked, and what is known of outcomes';

CREATE FUNCTION federated._welch_half_width(
    variance double precision, count bigint, other_variance double precision, other_count bigint
) RETURNS double precision
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.welch(plpy, "@VERSION@")(variance, count, other_variance, other_count)
$$;
COMMENT ON FUNCTION federated._welch_half_width(double precision, bigint, double precision, bigint) IS
    'Half the width of the interval of 95 % of the difference of two means, by their samples'' variances; NULL where neither varies';

-- Welch (1947), with the degrees of freedom of Satterthwaite (1946): outcomes of 0 and 1 too, whose variances are those of their sample.
CREATE FUNCTION @extschema@.federated_experiment(
    experiment text, OUT arm text, OUT version integer, OUT share double precision, OUT calls bigint, OUT keys bigint, OUT outcomes bigint,
    OUT mean_outcome double precision, OUT std_error double precision, OUT difference double precision,
    OUT conf_low double precision, OUT conf_high double precision, OUT brier_score double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH subject AS MATERIALIZED (SELECT federated._experiment_id(experiment) AS experiment_id),
    s AS MATERIALIZED (SELECT k.* FROM subject, federated._experiment_sums(subject.experiment_id) AS k)
    SELECT a.name, a.version, a.share, s.calls, s.keys, s.outcomes, s.mean, sqrt(s.variance) / sqrt(s.outcomes::double precision), d.difference,
           d.difference - w.half, d.difference + w.half, s.brier
    FROM federated.experiment_arm AS a
    JOIN subject USING (experiment_id)
    JOIN s USING (place)
    JOIN s AS f ON f.place = 1
    CROSS JOIN LATERAL (SELECT CASE WHEN s.place > 1 THEN s.mean - f.mean END AS difference) AS d
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.place > 1 AND least(s.outcomes, f.outcomes) > 1
                    THEN federated._welch_half_width(s.variance, s.outcomes, f.variance, f.outcomes) END AS half
    ) AS w
    ORDER BY a.place
$$;
COMMENT ON FUNCTION @extschema@.federated_experiment(text) IS
    'How an experiment stands, a row for each arm: its version and share of the keys; calls, different keys, and keys whose outcome was reported; mean_outcome and its std_error; difference: by how much the mean is above that of the first arm, with the interval of 95 % by Welch''s t (outcomes of 0 and 1 too), conf_low to conf_high; brier_score: mean squared difference of score and outcome, where outcomes are 0 and 1 and scores probabilities. NULL where outcomes are too few or all equal. An interval that is looked at again and again, to stop when it leaves 0 out, is too narrow';

CREATE VIEW @extschema@.federated_experiments AS
SELECT e.name AS experiment_name, w.name AS workspace_name, m.name AS model_name,
       (SELECT jsonb_agg(jsonb_build_object('arm', a.name, 'version', a.version, 'share', a.share) ORDER BY a.place)
        FROM federated.experiment_arm AS a WHERE a.experiment_id = e.experiment_id) AS arms,
       e.created_by::text AS created_by, e.created_at
FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id);
COMMENT ON VIEW @extschema@.federated_experiments IS 'The experiments that there are; federated_experiment(name) tells how one stands';
COMMENT ON COLUMN @extschema@.federated_experiments.experiment_name IS 'Name of the experiment';
COMMENT ON COLUMN @extschema@.federated_experiments.workspace_name IS 'The workspace of its model';
COMMENT ON COLUMN @extschema@.federated_experiments.model_name IS 'The model whose versions it compares';
COMMENT ON COLUMN @extschema@.federated_experiments.arms IS
    'In their order: arm (the tag or number that the statement gave), version (what that named then), share (of the keys)';
COMMENT ON COLUMN @extschema@.federated_experiments.created_by IS 'Who made it; the owner of the model may drop it';
COMMENT ON COLUMN @extschema@.federated_experiments.created_at IS 'When it was made';

-- Runs as federated_owner: the sums are of what nobody else reads. Sorts behind check_owner.
CREATE FUNCTION federated._close_arms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE federated.experiment_arm AS a SET calls = s.calls, outcomes = s.outcomes, outcome_sum = s.outcome_sum
    FROM federated._experiment_sums(OLD.experiment_id) AS s
    WHERE a.experiment_id = OLD.experiment_id AND a.place = s.place;
    DELETE FROM federated.experiment_arm AS a WHERE a.experiment_id = OLD.experiment_id;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._close_arms() IS 'Has the audit log keep the sums of an experiment that is dropped';

CREATE FUNCTION federated._keep_experiments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number     integer;
    dependents text[];
    dependent  text;
BEGIN
    IF TG_TABLE_NAME = 'version' THEN
        number := OLD.version;
    END IF;
    dependents := ARRAY(
        SELECT e.name FROM federated.experiment AS e
        WHERE e.model_id = OLD.model_id
          AND (number IS NULL OR EXISTS (SELECT FROM federated.experiment_arm AS a
                                         WHERE a.experiment_id = e.experiment_id AND a.version = number))
        ORDER BY e.name);
    IF cardinality(dependents) > 0 AND coalesce(current_setting('federated.drop_behavior', true), '') <> 'cascade' THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format(CASE WHEN number IS NULL THEN 'cannot drop federated model "%s" because experiments compare its versions'
                                  ELSE 'cannot drop version %2$s of federated model "%1$s" because experiments compare it' END,
                             (SELECT m.name FROM federated.model AS m WHERE m.model_id = OLD.model_id), number),
            DETAIL = (SELECT string_agg(format('experiment "%s"', d), E'\n') FROM unnest(dependents[1:20]) AS d),
            HINT = format('Use DROP FEDERATED MODEL ... %sCASCADE to drop them too.', CASE WHEN number IS NOT NULL THEN 'VERSION ... ' END);
    END IF;
    FOREACH dependent IN ARRAY dependents LOOP
        RAISE NOTICE 'drop cascades to federated experiment "%"', dependent;
        DELETE FROM federated.experiment AS e WHERE e.name = dependent;
    END LOOP;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._keep_experiments() IS 'Lets a model or a version that an experiment compares be dropped only by CASCADE, and the experiment with it';

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.experiment
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();
CREATE TRIGGER close_arms BEFORE DELETE ON federated.experiment
    FOR EACH ROW EXECUTE FUNCTION federated._close_arms();
CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.experiment
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER check_owner BEFORE INSERT ON federated.experiment_arm
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF calls, outcomes, outcome_sum ON federated.experiment_arm
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER drop_experiments BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_experiments();
CREATE TRIGGER drop_experiments BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_experiments();
