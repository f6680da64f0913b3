-- Experiments: which version of a model serves a key, what was asked for and what came of it.
--
-- What always holds: a key's arm follows from the experiment and the key alone, so it is the same in every session and after a restore; a
-- key is kept as a hash salted by the experiment's id, which no role but the backup's reads. The versions of an experiment are pinned:
-- they come all at once, and none is added or changed. A call is a row for keep_days, and after that a part of its arm's sums; an outcome
-- is a row for as long as a call of its key is one.

CREATE TABLE federated.experiment (
    experiment_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    model_id      bigint NOT NULL REFERENCES federated.model ON DELETE CASCADE,
    name          text NOT NULL UNIQUE CHECK (name <> '' AND octet_length(name) <= 63),
    created_by    name NOT NULL DEFAULT current_user,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    keep_days     integer NOT NULL DEFAULT 90 CHECK (keep_days BETWEEN 1 AND 36500),
    UNIQUE (experiment_id, model_id)
);
CREATE INDEX experiment_by_model ON federated.experiment (model_id);
COMMENT ON TABLE federated.experiment IS 'What CREATE FEDERATED EXPERIMENT compares; it belongs to its model''s owner';
COMMENT ON COLUMN federated.experiment.keep_days IS 'After how many days a call, and the outcome of its key with the last one, is but a part of sums';
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

CREATE TABLE federated.experiment_past (
    experiment_id  uuid NOT NULL,
    place          integer NOT NULL,
    calls          bigint NOT NULL DEFAULT 0,
    keys           bigint NOT NULL DEFAULT 0,
    outcomes       bigint NOT NULL DEFAULT 0,
    outcome_sum    double precision NOT NULL DEFAULT 0,
    lowest         double precision NOT NULL DEFAULT 0,
    above          double precision NOT NULL DEFAULT 0,
    squares        double precision NOT NULL DEFAULT 0,
    scored         bigint NOT NULL DEFAULT 0,
    squared_errors double precision NOT NULL DEFAULT 0,
    is_binary      boolean NOT NULL DEFAULT true,
    PRIMARY KEY (experiment_id, place),
    FOREIGN KEY (experiment_id, place) REFERENCES federated.experiment_arm (experiment_id, place) ON DELETE CASCADE
);
COMMENT ON TABLE federated.experiment_past IS 'Of each arm the sums of calls and outcomes that are older than keep_days';
COMMENT ON COLUMN federated.experiment_past.lowest IS 'The lowest of the outcomes; above: by how much their mean is above it';
COMMENT ON COLUMN federated.experiment_past.squares IS 'Of the outcomes'' distances from their mean, summed';
COMMENT ON COLUMN federated.experiment_past.scored IS 'How many of the outcomes are 0 or 1, of a score that is a probability; squared_errors: their differences, squared and summed';
COMMENT ON COLUMN federated.experiment_past.is_binary IS 'Whether all outcomes are 0 or 1 and all scores probabilities or none';

SELECT pg_catalog.pg_extension_config_dump('federated.experiment', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_arm', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_call', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_outcome', '');
SELECT pg_catalog.pg_extension_config_dump('federated.experiment_past', '');

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

CREATE VIEW @extschema@.federated_experiments AS
SELECT e.name AS experiment_name, w.name AS workspace_name, m.name AS model_name,
       (SELECT jsonb_agg(jsonb_build_object('arm', a.name, 'version', a.version, 'share', a.share) ORDER BY a.place)
        FROM federated.experiment_arm AS a WHERE a.experiment_id = e.experiment_id) AS arms,
       e.created_by::text AS created_by, e.created_at, e.keep_days
FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id);
COMMENT ON VIEW @extschema@.federated_experiments IS 'The experiments that there are; federated_experiment(name) tells how one stands';
COMMENT ON COLUMN @extschema@.federated_experiments.experiment_name IS 'Name of the experiment';
COMMENT ON COLUMN @extschema@.federated_experiments.workspace_name IS 'The workspace of its model';
COMMENT ON COLUMN @extschema@.federated_experiments.model_name IS 'The model whose versions it compares';
COMMENT ON COLUMN @extschema@.federated_experiments.arms IS
    'In their order: arm (the tag or number that the statement gave), version (what that named then), share (of the keys)';
COMMENT ON COLUMN @extschema@.federated_experiments.created_by IS 'Who made it; the owner of the model may drop it';
COMMENT ON COLUMN @extschema@.federated_experiments.created_at IS 'When it was made';
COMMENT ON COLUMN @extschema@.federated_experiments.keep_days IS 'After how many days a call, and the outcome of its key with the last one, is but a part of sums';

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

-- In one statement, as a whole: so none is ever added, and shares, which are never altered, add up. A dump may be restored row by row, by a
-- superuser.
CREATE FUNCTION federated._check_arms() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fault record;
BEGIN
    IF EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = current_user AND r.rolsuper) THEN
        RETURN NULL;
    END IF;
    SELECT e.name, f.fault INTO fault
    FROM (SELECT n.experiment_id, count(*) AS arms FROM added AS n GROUP BY n.experiment_id) AS g
    JOIN federated.experiment AS e USING (experiment_id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS arms, min(a.place) AS first, max(a.place) AS last, sum(a.share) AS share
        FROM federated.experiment_arm AS a WHERE a.experiment_id = g.experiment_id
    ) AS k
    CROSS JOIN LATERAL (
        SELECT CASE WHEN k.arms > g.arms THEN 'Its versions are pinned: none is added.'
                    WHEN k.arms < 2 THEN 'It compares two versions at least.'
                    WHEN k.first <> 1 OR k.last <> k.arms THEN 'Its versions are counted from 1.'
                    WHEN abs(k.share - 1) > 1e-9 THEN 'The shares of its versions add up to 1.' END AS fault
    ) AS f
    WHERE f.fault IS NOT NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated experiment "%s" cannot have these versions', fault.name), DETAIL = fault.fault,
            HINT = 'CREATE FEDERATED EXPERIMENT names all of them.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._check_arms() IS 'Lets an experiment have its arms once, all by one statement, with shares that add up to 1';

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
CREATE TRIGGER check_arms AFTER INSERT ON federated.experiment_arm REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION federated._check_arms();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF calls, outcomes, outcome_sum ON federated.experiment_arm
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER drop_experiments BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_experiments();
CREATE TRIGGER drop_experiments BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_experiments();
