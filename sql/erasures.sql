-- Erasure at the coordinator: what follows once the nodes have answered a request. Versions that had learned from rows of the
-- subject are found from who took part, are trained anew without them, and are retired.
--
-- What always holds: the rows of a round that began after a node's answer was recorded are without the subject; a version is retired
-- only when the one that takes its place is there, or where none has to; of what is retired the hash stays. The same
-- requests lead to the same work wherever it was broken off: nothing but these rows is remembered.

CREATE TABLE federated.erasure (
    order_id     uuid PRIMARY KEY REFERENCES federated.subject_order ON DELETE CASCADE,
    planned_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at   timestamptz,
    completed_at timestamptz,
    exactness    text,
    message      text,
    workspace    text NOT NULL,
    certificate  text,
    certificate_sha256 bytea,
    signature    bytea,
    signer       text,
    CHECK (num_nulls(completed_at, exactness, certificate, certificate_sha256, signature, signer) IN (0, 6))
);
CREATE INDEX erasure_open ON federated.erasure (order_id) WHERE completed_at IS NULL;
COMMENT ON TABLE federated.erasure IS 'Requests to erase a data subject that all nodes have answered, or whose deadline has passed';
COMMENT ON COLUMN federated.erasure.planned_at IS 'When it was found which versions had learned from rows of nodes that held the subject';
COMMENT ON COLUMN federated.erasure.retired_at IS 'When none of these was left to retire; NULL until then';
COMMENT ON COLUMN federated.erasure.exactness IS 'What was done, begun with exact, approximate or incomplete; NULL until it is';
COMMENT ON COLUMN federated.erasure.message IS 'What it waits for; NULL where for nothing';
COMMENT ON COLUMN federated.erasure.certificate IS 'JSON, its keys in order and without spaces: what the coordinator signed';
COMMENT ON COLUMN federated.erasure.signer IS 'The coordinator''s certificate (PEM), whose key signed';

CREATE TABLE federated.erasure_version (
    order_id      uuid NOT NULL REFERENCES federated.erasure ON DELETE CASCADE,
    model_id      bigint NOT NULL,
    model_name    text NOT NULL,
    version       integer NOT NULL,
    run_id        uuid NOT NULL,
    first_round   integer NOT NULL,
    sha256_before bytea NOT NULL,
    retired_at    timestamptz,
    replaced_by   integer,
    sha256_after  bytea,
    PRIMARY KEY (order_id, model_id, version)
);
CREATE INDEX erasure_version_open ON federated.erasure_version (model_id) WHERE retired_at IS NULL;
COMMENT ON TABLE federated.erasure_version IS 'Versions that had learned from rows of nodes that held the subject; a row outlives its version';
COMMENT ON COLUMN federated.erasure_version.first_round IS 'The first round of its run in which such a node took part';
COMMENT ON COLUMN federated.erasure_version.sha256_before IS 'Of the version''s state, as in federated.version';
COMMENT ON COLUMN federated.erasure_version.retired_at IS 'NULL until it is, and of a request with method = suppress_only for good';
COMMENT ON COLUMN federated.erasure_version.replaced_by IS 'The version that was current when it was retired; NULL where none was';

CREATE TABLE federated.retraining (
    run_id          uuid PRIMARY KEY REFERENCES federated.run ON DELETE CASCADE,
    model_id        bigint NOT NULL,
    source_run      uuid NOT NULL,
    was_interrupted boolean NOT NULL,
    queued_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX retraining_by_model ON federated.retraining (model_id, queued_at);
COMMENT ON TABLE federated.retraining IS 'Runs that an erasure queued';
COMMENT ON COLUMN federated.retraining.source_run IS 'The run whose options, policy and random choices it has';
COMMENT ON COLUMN federated.retraining.was_interrupted IS 'Whether that run was ended by the erasure; else it had made the current version';

CREATE TABLE federated.interruption (
    run_id    uuid PRIMARY KEY REFERENCES federated.run ON DELETE CASCADE,
    order_id  uuid NOT NULL,
    model_id  bigint NOT NULL,
    begun_anew boolean NOT NULL DEFAULT false
);
CREATE INDEX interruption_open ON federated.interruption (model_id) WHERE NOT begun_anew;
COMMENT ON TABLE federated.interruption IS 'Runs that an erasure ended while they were going on, to be begun anew once it is carried out';

CREATE TABLE federated.former_part (
    run_id       uuid NOT NULL REFERENCES federated.run ON DELETE CASCADE,
    round_number integer NOT NULL,
    node_name    text NOT NULL,
    PRIMARY KEY (run_id, round_number, node_name)
);
COMMENT ON TABLE federated.former_part IS
    'In which rounds nodes took part that were unregistered since: one that is registered again under its name has what it had';

SELECT pg_catalog.pg_extension_config_dump('federated.former_part', '');
SELECT pg_catalog.pg_extension_config_dump('federated.erasure', '');
SELECT pg_catalog.pg_extension_config_dump('federated.erasure_version', '');
SELECT pg_catalog.pg_extension_config_dump('federated.retraining', '');
SELECT pg_catalog.pg_extension_config_dump('federated.interruption', '');

CREATE FUNCTION federated._learned_from(run uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE line AS (
        SELECT run AS run_id
        UNION
        SELECT r.resumed_from FROM line AS l JOIN federated.run AS r USING (run_id) WHERE r.resumed_from IS NOT NULL
    ), parts AS (
        SELECT n.name, d.started_at FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
        JOIN federated.round AS d USING (run_id, round_number)
        WHERE p.run_id IN (SELECT l.run_id FROM line AS l) AND p.outcome = 'received'
        UNION ALL
        SELECT p.node_name, d.started_at FROM federated.former_part AS p JOIN federated.round AS d USING (run_id, round_number)
        WHERE p.run_id IN (SELECT l.run_id FROM line AS l)
    )
    SELECT coalesce(jsonb_object_agg(k.name, k.since), '{}') FROM (SELECT p.name, min(p.started_at) AS since FROM parts AS p GROUP BY p.name) AS k
$$;
COMMENT ON FUNCTION federated._learned_from(uuid) IS 'Which nodes took part in a run, and in what that went on from, each since when';

-- A restored dump brings the chains along; what was signed is in them by its hash.
CREATE FUNCTION federated._audit_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (NEW.workspace, session_user, CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            'certify', 'erasure', NEW.order_id::text,
            jsonb_build_object('certificate_sha256', encode(NEW.certificate_sha256, 'hex'), 'exactness', NEW.exactness));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_erasure() IS 'Appends to the audit log that an erasure was certified, with the hash of the certificate';

CREATE TRIGGER audit AFTER UPDATE OF completed_at ON federated.erasure
    FOR EACH ROW WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL) EXECUTE FUNCTION federated._audit_erasure();

CREATE FUNCTION federated._retrains(terms jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT terms ->> 'method' IS DISTINCT FROM 'suppress_only'
$$;
COMMENT ON FUNCTION federated._retrains(jsonb) IS 'Whether a request has versions trained anew and retired';

-- Who was erased once is held no more, and what was learned before is there all the same: an earlier request about the same
-- subject tells of it.
CREATE VIEW federated.erased_at AS
SELECT o.order_id, a.node_id, a.node_name, max(a.answered_at) AS answered_at
FROM federated.subject_order AS o
JOIN federated.subject_order AS e ON e.workspace = o.workspace AND e.kind = o.kind AND e.requested_at <= o.requested_at
    AND (e.order_id = o.order_id OR e.pseudonym = o.pseudonym)
JOIN federated.order_answer AS a ON a.order_id = e.order_id
WHERE o.kind = 'erase' AND a.outcome IN ('erased', 'suppressed')
GROUP BY o.order_id, a.node_id, a.node_name;
COMMENT ON VIEW federated.erased_at IS 'Which nodes held the subject of a request for erasure, and until when answers may have been about it';

CREATE VIEW federated.erased_part AS
SELECT o.order_id, federated._retrains(o.terms) AS retrains, k.run_id, r.model_id, r.status, min(k.first_round) AS first_round
FROM federated.subject_order AS o
CROSS JOIN LATERAL (
    WITH RECURSIVE concerned AS (
        SELECT p.run_id, min(p.round_number) AS first_round
        FROM federated.erased_at AS a
        JOIN federated.participation AS p USING (node_id)
        JOIN federated.round AS d USING (run_id, round_number)
        JOIN federated.run AS r USING (run_id)
        WHERE a.order_id = o.order_id AND d.started_at < a.answered_at
          -- What has not arrived yet may be about the rows as they were.
          AND (p.outcome = 'received' OR p.outcome = 'pending' AND r.status IN ('queued', 'running'))
        GROUP BY p.run_id
        UNION
        SELECT p.run_id, min(p.round_number)
        FROM federated.erased_at AS a
        JOIN federated.former_part AS p USING (node_name)
        JOIN federated.round AS d USING (run_id, round_number)
        JOIN federated.run AS r USING (run_id)
        JOIN federated.model AS m USING (model_id)
        JOIN federated.workspace AS w USING (workspace_id)
        WHERE a.order_id = o.order_id AND w.name = o.workspace AND d.started_at < a.answered_at
        GROUP BY p.run_id
        UNION
        -- What a run began with may have learned from the subject, in whichever workspace, also where that is dropped since.
        SELECT r.run_id, 0
        FROM federated.run AS r
        CROSS JOIN LATERAL jsonb_array_elements(r.lineage) AS l (line)
        CROSS JOIN LATERAL jsonb_each_text(l.line -> 'nodes') AS n (name, since)
        JOIN federated.erased_at AS a ON a.node_name = n.name
        WHERE a.order_id = o.order_id AND l.line ->> 'workspace' = o.workspace AND n.since::timestamptz < a.answered_at
        UNION
        -- What went on from such a run began with what that had learned, whoever took part later; and the models of all
        -- groups vote in one version.
        SELECT r.run_id, c.first_round FROM concerned AS c JOIN federated.run AS o ON o.run_id = c.run_id
        JOIN federated.run AS r ON r.resumed_from = o.run_id OR r.series_id = o.series_id AND o.voting_group IS NOT NULL
    )
    SELECT c.run_id, c.first_round FROM concerned AS c
) AS k
JOIN federated.run AS r ON r.run_id = k.run_id
WHERE o.kind = 'erase'
GROUP BY o.order_id, k.run_id, r.model_id, r.status;
COMMENT ON VIEW federated.erased_part IS
    'Which runs a node took part in, before it answered a request for erasure, that held the subject; and which went on from these';

CREATE FUNCTION federated._erasures_to_plan() RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.order_id FROM federated.subject_order AS o
    WHERE o.kind = 'erase' AND o.state IN ('answered', 'expired')
      AND NOT EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = o.order_id)
      -- Those of one statement are carried out together.
      AND NOT EXISTS (SELECT FROM federated.subject_order AS k WHERE k.batch_id = o.batch_id AND k.state IN ('requested', 'asked'))
$$;
COMMENT ON FUNCTION federated._erasures_to_plan() IS 'Requests that all nodes have answered, or whose deadline has passed, and of which nothing has followed yet';

-- In which rounds a node took part goes with its row.
CREATE FUNCTION federated._keep_erasing_node() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- With its workspace, whose trigger deletes it, all goes that may have learned from it.
    IF pg_trigger_depth() = 1 AND EXISTS (
        SELECT FROM federated.erased_at AS h JOIN federated.subject_order AS o USING (order_id)
        WHERE h.node_id = OLD.node_id AND o.state <> 'dropped'
          AND NOT EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = o.order_id)
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated node "%s" has answered a request for erasure of which is not known yet what it concerns', OLD.name),
            DETAIL = 'What has learned from the node''s rows is found from the rounds in which it took part.',
            HINT = 'federated_erasure_status shows which nodes the request waits for.';
    END IF;
    INSERT INTO federated.former_part (run_id, round_number, node_name)
    SELECT DISTINCT p.run_id, p.round_number, OLD.name FROM federated.participation AS p
    WHERE p.node_id = OLD.node_id AND p.outcome = 'received'
    ON CONFLICT DO NOTHING;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._keep_erasing_node() IS
    'Keeps in which rounds a node took part that is unregistered; lets none be that held a subject, before it was found which versions have learned from its rows';

CREATE TRIGGER keep_erasing BEFORE DELETE ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._keep_erasing_node();

CREATE FUNCTION federated._interrupt_runs() RETURNS TABLE (run_id uuid, message text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    reason text := 'data subjects were erased whose rows it had read or was about to go on from';
BEGIN
    INSERT INTO federated.interruption (run_id, order_id, model_id)
    SELECT DISTINCT ON (p.run_id) p.run_id, p.order_id, p.model_id
    FROM federated.erased_part AS p JOIN federated.erasure AS e USING (order_id) JOIN federated.run AS r USING (run_id)
    WHERE p.status IN ('queued', 'running') AND p.retrains AND r.series_id IS NULL AND NOT federated._is_orphaned(r.run_id)
      -- A run that an erasure queued is queued anew as long as there is need.
      AND NOT EXISTS (SELECT FROM federated.retraining AS k WHERE k.run_id = p.run_id AND NOT k.was_interrupted)
    ORDER BY p.run_id, p.order_id
    ON CONFLICT DO NOTHING;
    RETURN QUERY
    WITH ended AS (
        UPDATE federated.run AS r SET status = 'failed', finished_at = clock_timestamp(), message = reason || CASE
            WHEN EXISTS (SELECT FROM federated.interruption AS i WHERE i.run_id = r.run_id) THEN '; it is begun anew without them'
            WHEN federated._is_orphaned(r.run_id) THEN '; the version that it began with is retired'
            WHEN r.series_id IS NOT NULL THEN '; START FEDERATED TRAINING begins the series anew without them'
            ELSE '' END
        WHERE r.status IN ('queued', 'running') AND r.erased_at IS NOT NULL
        RETURNING r.run_id, r.message
    ), rounds AS (
        UPDATE federated.round AS d SET status = 'failed', message = e.message, finished_at = clock_timestamp()
        FROM ended AS e WHERE d.run_id = e.run_id AND d.status = 'open'
    )
    SELECT e.run_id, e.message FROM ended AS e;
END
$$;
COMMENT ON FUNCTION federated._interrupt_runs() IS 'Ends the runs under way that a request for erasure concerns; those by themselves are begun anew later';

CREATE FUNCTION federated._plan_erasures() RETURNS SETOF uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    planned uuid[] := ARRAY(SELECT p FROM federated._erasures_to_plan() AS p);
BEGIN
    IF cardinality(planned) = 0 THEN
        RETURN;
    END IF;
    -- No run ends from here on: one that is just ending is seen with its version.
    PERFORM FROM federated.run AS r WHERE r.status IN ('queued', 'running') ORDER BY r.run_id FOR NO KEY UPDATE;
    INSERT INTO federated.erasure (order_id, workspace)
    SELECT o.order_id, o.workspace FROM federated.subject_order AS o WHERE o.order_id = ANY (planned);
    INSERT INTO federated.erasure_version (order_id, model_id, model_name, version, run_id, first_round, sha256_before)
    SELECT p.order_id, v.model_id, m.name, v.version, v.run_id, p.first_round, v.sha256
    FROM federated.erased_part AS p JOIN federated.version AS v USING (run_id) JOIN federated.model AS m ON m.model_id = v.model_id
    WHERE p.order_id = ANY (planned) AND v.retired_at IS NULL;
    UPDATE federated.run AS r SET erased_at = clock_timestamp()
    WHERE r.erased_at IS NULL AND EXISTS (
        SELECT FROM federated.erased_part AS p
        WHERE p.run_id = r.run_id AND p.order_id = ANY (planned) AND p.retrains);
    -- What such a run could go on from; a version has its own numbers.
    DELETE FROM federated.internal_checkpoint AS c USING federated.run AS r WHERE r.run_id = c.run_id AND r.erased_at IS NOT NULL;
    DELETE FROM federated.resumption AS c USING federated.run AS r WHERE r.run_id = c.run_id AND r.erased_at IS NOT NULL;
    DELETE FROM federated.run_parameters AS c USING federated.run AS r WHERE r.run_id = c.run_id AND r.erased_at IS NOT NULL;
    RETURN QUERY SELECT unnest(planned);
END
$$;
COMMENT ON FUNCTION federated._plan_erasures() IS
    'Finds what requests concern that the nodes are done with: versions, and runs, of which nothing goes on any more; the checkpoints that the catalog keeps of these are destroyed';

-- As federated_owner: nobody else may say what a run is started with.
CREATE FUNCTION federated._queue_retraining(source_run uuid, was_interrupted boolean) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source  federated.run;
    current jsonb;
    members integer;
    made    uuid;
BEGIN
    SELECT r.* INTO STRICT source FROM federated.run AS r WHERE r.run_id = source_run AND r.erased_at IS NOT NULL;
    current := (SELECT w.options FROM federated.workspace AS w JOIN federated.model AS m USING (workspace_id)
                WHERE m.model_id = source.model_id);
    -- With fewer nodes it would be another model.
    members := (SELECT count(DISTINCT p.node_id) FROM federated.participation AS p
                WHERE p.run_id = source_run AND p.outcome = 'received');
    INSERT INTO federated.run (model_id, requested_by, options, overrides, policy, seed_run, lineage)
    VALUES (
        source.model_id,
        coalesce((SELECT o.requested_by FROM federated.subject_order AS o LEFT JOIN federated.erasure_version AS e USING (order_id)
                  LEFT JOIN federated.interruption AS i USING (order_id)
                  WHERE source_run IN (e.run_id, i.run_id) ORDER BY o.requested_at, o.order_id LIMIT 1), source.requested_by),
        source.options - '{folds,search}'::text[] || CASE WHEN was_interrupted THEN '{}'::jsonb ELSE '{"promote": true}' END,
        '{}',
        -- What a budget allows is the workspace's to say as it stands: more may have been spent, or given, since.
        source.policy || CASE WHEN source.policy ->> 'privacy_budget' IS NULL THEN '{}'::jsonb ELSE current END || jsonb_build_object(
            'min_nodes', greatest((source.policy ->> 'min_nodes')::integer, members),
            'min_nodes_per_round', coalesce((source.policy ->> 'min_nodes_per_round')::integer, (source.policy ->> 'min_nodes')::integer)),
        coalesce(source.seed_run, source.run_id), source.lineage)
    ON CONFLICT (model_id) WHERE status IN ('queued', 'running') AND NOT waiting DO NOTHING
    RETURNING run_id INTO made;
    IF made IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE federated.run AS r SET overrides = source.overrides - '{folds,search}'::text[] WHERE r.run_id = made;
    INSERT INTO federated.retraining (run_id, model_id, source_run, was_interrupted)
    VALUES (made, source.model_id, source_run, was_interrupted);
    UPDATE federated.interruption AS i SET begun_anew = true WHERE was_interrupted AND i.run_id = source_run;
    RETURN made;
END
$$;
COMMENT ON FUNCTION federated._queue_retraining(uuid, boolean) IS
    'Queues a run with the options, the policy and the random choices of another one that an erasure concerns, for as many nodes as that had at least; returns it, or NULL where somebody has just queued another one of the model';

CREATE FUNCTION federated._is_erased(subject federated.version) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM federated.erasure_version AS e JOIN federated.subject_order AS o USING (order_id)
        WHERE e.model_id = subject.model_id AND e.version = subject.version AND e.retired_at IS NULL AND federated._retrains(o.terms))
$$;
COMMENT ON FUNCTION federated._is_erased(federated.version) IS 'Whether a version is to be retired and is not yet';

-- A series of runs is not queued by anybody but START: such a version is retired, and nothing takes its place by itself.
CREATE FUNCTION federated._is_by_vote(subject federated.version) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated.run AS r WHERE r.run_id = subject.run_id AND r.voting_group IS NOT NULL)
$$;
COMMENT ON FUNCTION federated._is_by_vote(federated.version) IS 'Whether the models of several groups vote in a version';

CREATE FUNCTION federated._is_not_repeated(subject federated.version) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._is_by_vote(subject) OR federated._is_orphaned(subject.run_id)
$$;
COMMENT ON FUNCTION federated._is_not_repeated(federated.version) IS
    'Whether nothing takes a version''s place by itself: the models of several groups vote in it, or what its run began with is no more';

-- Failed attempts are repeated after a second, twice as long each time, at most a quarter of an hour.
CREATE FUNCTION federated._retrainings_due() RETURNS TABLE (source_run uuid, was_interrupted boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (k.model_id) k.source_run, k.was_interrupted
    FROM (
        SELECT v.model_id, v.run_id AS source_run, false AS was_interrupted
        FROM federated.version AS v CROSS JOIN LATERAL (
            SELECT count(*) AS attempts, max(r.finished_at) AS last_at,
                   -- One that left a version which could not be made current is none to repeat.
                   bool_or(EXISTS (SELECT FROM federated.version AS o WHERE o.run_id = t.run_id)) AS is_done
            FROM federated.retraining AS t JOIN federated.run AS r USING (run_id)
            WHERE t.source_run = v.run_id AND NOT t.was_interrupted AND r.erased_at IS NULL
        ) AS t
        WHERE v.is_current AND federated._is_erased(v) AND NOT federated._is_not_repeated(v) AND t.is_done IS NOT TRUE
          AND (t.attempts = 0
               OR t.last_at + least(900, power(2, least(t.attempts - 1, 10))) * interval '1 second' < clock_timestamp())
        UNION ALL
        SELECT i.model_id, i.run_id, true FROM federated.interruption AS i WHERE NOT i.begun_anew
    ) AS k
    WHERE NOT EXISTS (SELECT FROM federated.run AS r WHERE r.model_id = k.model_id AND r.status IN ('queued', 'running'))
      AND NOT EXISTS (SELECT FROM federated._erasures_to_plan())
    ORDER BY k.model_id, k.was_interrupted, k.source_run
$$;
COMMENT ON FUNCTION federated._retrainings_due() IS 'The runs of which an erasure needs another one now; of a model one at a time';

CREATE FUNCTION federated._retire_erased() RETURNS TABLE (model_name text, version integer)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    subject   record;
    successor record;
BEGIN
    FOR subject IN
        SELECT v.version_id, v.model_id, v.version, v.run_id, m.name
        FROM federated.version AS v JOIN federated.model AS m USING (model_id)
        WHERE v.retired_at IS NULL AND federated._is_erased(v)
          -- The current one stays until another one is, or until its run anew has left one that could not be.
          AND NOT EXISTS (
              SELECT FROM federated.version AS c
              WHERE c.model_id = v.model_id AND c.is_current AND federated._is_erased(c) AND NOT federated._is_not_repeated(c) AND NOT EXISTS (
                  SELECT FROM federated.retraining AS t JOIN federated.version AS o ON o.run_id = t.run_id
                  JOIN federated.run AS r ON r.run_id = t.run_id
                  WHERE t.source_run = c.run_id AND NOT t.was_interrupted AND r.erased_at IS NULL))
        ORDER BY v.model_id, v.version
    LOOP
        PERFORM federated._lock_publication(subject.model_id);
        UPDATE federated.version AS v
        SET is_current = false, withheld = false, retired_at = clock_timestamp(), prediction = NULL, prediction_arrays = NULL,
            sealed = '', scaling = '{}', report = NULL, retired_by = (
                SELECT e.order_id FROM federated.erasure_version AS e JOIN federated.subject_order AS o USING (order_id)
                WHERE e.model_id = v.model_id AND e.version = v.version AND federated._retrains(o.terms)
                ORDER BY o.requested_at, o.order_id LIMIT 1)
        WHERE v.version_id = subject.version_id;
        SELECT v.version, v.sha256 INTO successor FROM federated.version AS v WHERE v.model_id = subject.model_id AND v.is_current;
        UPDATE federated.erasure_version AS e
        SET retired_at = clock_timestamp(), replaced_by = successor.version, sha256_after = successor.sha256
        FROM federated.subject_order AS o
        WHERE o.order_id = e.order_id AND federated._retrains(o.terms)
          AND e.model_id = subject.model_id AND e.version = subject.version AND e.retired_at IS NULL;
        RETURN QUERY SELECT subject.name, subject.version;
    END LOOP;
    -- What was kept of the rows themselves: feature statistics, and figures by node.
    UPDATE federated.run AS r SET scaling = NULL
    WHERE r.erased_at IS NOT NULL AND r.scaling IS NOT NULL AND r.status NOT IN ('queued', 'running')
      AND NOT EXISTS (SELECT FROM federated.version AS v WHERE v.run_id = r.run_id AND v.retired_at IS NULL);
    UPDATE federated.round AS d SET report = NULL FROM federated.run AS r
    WHERE r.run_id = d.run_id AND r.erased_at IS NOT NULL AND r.scaling IS NULL AND d.report IS NOT NULL;
    UPDATE federated.participation AS p SET described = NULL FROM federated.run AS r
    WHERE r.run_id = p.run_id AND r.erased_at IS NOT NULL AND r.scaling IS NULL AND p.described IS NOT NULL;
    UPDATE federated.erasure AS e SET retired_at = clock_timestamp()
    WHERE e.retired_at IS NULL AND NOT EXISTS (
        SELECT FROM federated.erasure_version AS v JOIN federated.subject_order AS o USING (order_id)
        WHERE v.order_id = e.order_id AND v.retired_at IS NULL AND federated._retrains(o.terms)
          AND EXISTS (SELECT FROM federated.version AS k WHERE k.model_id = v.model_id AND k.version = v.version));
END
$$;
COMMENT ON FUNCTION federated._retire_erased() IS
    'Retires what an erasure concerns where the version that takes its place is there, or none has to; its numbers are destroyed, and what was kept of the rows that its run had read';

CREATE FUNCTION federated._explain_erasures() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE federated.erasure AS e SET message = k.message
    FROM (
        SELECT o.order_id, (
            SELECT string_agg(DISTINCT format('federated model "%s" is trained anew: %s', m.name, coalesce(
                (SELECT CASE WHEN r.status IN ('queued', 'running') THEN format('run %s %s', r.run_id, coalesce(r.message, r.status::text))
                             ELSE format('run %s %s: %s', r.run_id, replace(r.status::text, '_', ' '), r.message) END
                 FROM federated.retraining AS t JOIN federated.run AS r USING (run_id)
                 WHERE t.source_run = c.run_id AND NOT t.was_interrupted ORDER BY t.queued_at DESC LIMIT 1),
                (SELECT format('run %s comes first', r.run_id) FROM federated.run AS r
                 WHERE r.model_id = m.model_id AND r.status IN ('queued', 'running') LIMIT 1),
                'its run is yet to be queued')), '; ')
            FROM federated.erasure_version AS v
            JOIN federated.model AS m ON m.model_id = v.model_id
            JOIN federated.version AS c ON c.model_id = v.model_id AND c.is_current AND federated._is_erased(c)
            WHERE v.order_id = o.order_id AND v.retired_at IS NULL) AS message
        FROM federated.erasure AS o WHERE o.completed_at IS NULL
    ) AS k
    WHERE k.order_id = e.order_id AND e.message IS DISTINCT FROM k.message
$$;
COMMENT ON FUNCTION federated._explain_erasures() IS 'Says of each request under way what it waits for';

CREATE FUNCTION federated._may_concern(subject federated.version, request federated.subject_order) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE line AS (
        SELECT subject.run_id
        UNION
        SELECT k.run_id FROM line AS l JOIN federated.run AS r USING (run_id)
        CROSS JOIN LATERAL (
            SELECT r.resumed_from WHERE r.resumed_from IS NOT NULL
            UNION ALL
            SELECT o.run_id FROM federated.run AS o WHERE o.series_id = r.series_id AND r.voting_group IS NOT NULL) AS k (run_id)
    )
    SELECT CASE
        WHEN EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = request.order_id) THEN
            federated._retrains(request.terms) AND EXISTS (
                SELECT FROM federated.erasure_version AS e
                WHERE e.order_id = request.order_id AND e.model_id = subject.model_id AND e.version = subject.version
                  AND e.retired_at IS NULL)
        WHEN EXISTS (
            SELECT FROM federated.run AS r CROSS JOIN LATERAL jsonb_array_elements(r.lineage) AS a (line)
            CROSS JOIN LATERAL jsonb_each_text(a.line -> 'nodes') AS n (name, since)
            WHERE r.run_id IN (TABLE line) AND a.line ->> 'workspace' = request.workspace AND (
                request.state = 'requested' OR EXISTS (
                    SELECT FROM federated.order_answer AS b LEFT JOIN federated.erased_at AS h USING (order_id, node_id)
                    WHERE b.order_id = request.order_id AND b.node_name = n.name
                      AND (b.state = 'pending' OR n.since::timestamptz < h.answered_at)))) THEN true
        WHEN request.state = 'requested' THEN EXISTS (
            SELECT FROM federated.participation AS p JOIN federated.round AS d USING (run_id, round_number)
            WHERE p.run_id IN (TABLE line) AND p.outcome = 'received')
        ELSE EXISTS (
            SELECT FROM federated.participation AS p JOIN federated.round AS d USING (run_id, round_number)
            JOIN federated.order_answer AS a USING (node_id) LEFT JOIN federated.erased_at AS h USING (order_id, node_id)
            WHERE p.run_id IN (TABLE line) AND p.outcome = 'received' AND a.order_id = request.order_id
              AND (a.state = 'pending' OR d.started_at < h.answered_at)) END
$$;
COMMENT ON FUNCTION federated._may_concern(federated.version, federated.subject_order) IS
    'Whether a version may have learned from rows of a request''s subject, as far as the nodes have answered, and is not retired yet';

CREATE FUNCTION federated._withhold_versions() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE federated.version AS v SET withheld = k.withheld
    FROM (
        SELECT c.version_id, EXISTS (
            SELECT FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
            WHERE o.kind = 'erase' AND (o.workspace = w.name OR federated._descends(c.run_id, o.workspace))
              AND o.terms ->> 'during_erasure' = 'refuse'
              AND o.state <> 'dropped' AND e.retired_at IS NULL AND federated._may_concern(c, o)) AS withheld
        FROM federated.version AS c JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE c.retired_at IS NULL
          AND (c.withheld OR EXISTS (
              SELECT FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
              WHERE o.kind = 'erase' AND (o.workspace = w.name OR federated._descends(c.run_id, o.workspace)) AND o.terms ->> 'during_erasure' = 'refuse'
                AND o.state <> 'dropped' AND e.retired_at IS NULL))
    ) AS k
    WHERE k.version_id = v.version_id AND v.withheld <> k.withheld
$$;
COMMENT ON FUNCTION federated._withhold_versions() IS
    'Has exactly those versions not predict that a request with during_erasure = refuse may concern and that is not carried out';

-- As federated_owner: whoever asks for an erasure may not change versions otherwise.
CREATE FUNCTION federated._withhold_at_once() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- What a dump brings is over, or is looked at by the coordinator.
    IF EXISTS (SELECT FROM placed AS p WHERE p.kind = 'erase' AND p.state = 'requested' AND p.terms ->> 'during_erasure' = 'refuse') THEN
        PERFORM federated._withhold_versions();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._withhold_at_once() IS 'Has versions not predict from the request on that asks for it';

CREATE TRIGGER withhold AFTER INSERT ON federated.subject_order REFERENCING NEW TABLE AS placed
    FOR EACH STATEMENT EXECUTE FUNCTION federated._withhold_at_once();

CREATE FUNCTION federated._has_erasure_work() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated._erasures_to_plan())
        OR EXISTS (SELECT FROM federated.erasure AS e WHERE e.completed_at IS NULL)
        OR EXISTS (SELECT FROM federated.interruption AS i WHERE NOT i.begun_anew)
        OR EXISTS (SELECT FROM federated.version AS v WHERE v.withheld)
$$;
COMMENT ON FUNCTION federated._has_erasure_work() IS 'Whether anything is to follow from requests for erasure';

-- A run plans with what is left: where it chooses all its noise by that it spends that, else no more than the one before.
CREATE FUNCTION federated._retraining_cost(
    workspace_id bigint, OUT model_name text, OUT epsilon double precision, OUT remaining double precision, OUT total double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.name, CASE WHEN w.options ->> 'noise_multiplier' IS NULL AND w.options ->> 'privacy_per_round' IS NULL
                        THEN left_over.epsilon ELSE least(left_over.epsilon, spent.epsilon) END, left_over.epsilon,
           (w.options ->> 'privacy_budget')::double precision
    FROM federated.model AS m
    JOIN federated.workspace AS w USING (workspace_id)
    JOIN federated.version AS v ON v.model_id = m.model_id AND v.is_current AND v.retired_at IS NULL
    CROSS JOIN LATERAL (
        SELECT greatest(0, (w.options ->> 'privacy_budget')::double precision - coalesce(federated._consumed_epsilon(w.name), 0)) AS epsilon
    ) AS left_over
    CROSS JOIN LATERAL (
        SELECT coalesce(max(k.after - k.before), 0) AS epsilon FROM (
            SELECT max(l.epsilon_tight) AS after, coalesce((
                SELECT max(b.epsilon_tight) FROM federated.ledger AS b
                WHERE b.workspace = w.name AND b.node_name = l.node_name AND b.ledger_id < min(l.ledger_id)), 0) AS before
            FROM federated.ledger AS l WHERE l.run_id = v.run_id AND l.workspace = w.name GROUP BY l.node_name
        ) AS k
    ) AS spent
    WHERE m.workspace_id = _retraining_cost.workspace_id AND w.options ->> 'privacy_budget' IS NOT NULL AND NOT federated._is_by_vote(v)
    ORDER BY m.name
$$;
COMMENT ON FUNCTION federated._retraining_cost(bigint) IS
    'For each model with a current version in a workspace with a budget: the epsilon that a run like that version''s may spend at most, what is left, and of how much';

CREATE FUNCTION federated._certificate_of(workspace text, node_name text, certificate_sha256 bytea) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.certificate FROM (
        SELECT n.certificate FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _certificate_of.workspace AND n.name = _certificate_of.node_name
        UNION
        SELECT a.details -> s.side ->> 'certificate'
        FROM federated.audit AS a CROSS JOIN (VALUES ('before'), ('after')) AS s (side)
        WHERE a.workspace = _certificate_of.workspace AND a.object_kind = 'node' AND a.object_name = _certificate_of.node_name
    ) AS k
    WHERE k.certificate LIKE '%-----BEGIN CERTIFICATE-----%-----END CERTIFICATE-----%'
      AND sha256(decode(substring(k.certificate FROM '-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=[:space:]]+)-----END CERTIFICATE-----'), 'base64'))
          = _certificate_of.certificate_sha256
    LIMIT 1
$$;
COMMENT ON FUNCTION federated._certificate_of(text, text, bytea) IS
    'The certificate (PEM) of a node of which that is the SHA-256, as it was pinned at some time; NULL where none was';

CREATE VIEW @extschema@.federated_erasure_status AS
SELECT o.order_id AS request_id, o.workspace, o.model AS model_name, encode(o.pseudonym, 'hex') AS subject_hash, o.requested_at,
       o.deadline, CASE WHEN e.completed_at IS NOT NULL THEN 'completed' WHEN e.order_id IS NOT NULL THEN 'retraining'
                        WHEN o.state IN ('requested', 'asked') THEN 'asking nodes' WHEN o.state = 'dropped' THEN 'dropped'
                        ELSE 'retraining' END AS status,
       a.node_name, CASE WHEN a.state = 'answered' THEN a.outcome ELSE a.state END AS node_state,
       (SELECT sum((d ->> 'rows')::bigint) FROM jsonb_array_elements(s.statement -> 'datasets') AS d)::bigint AS rows,
       ARRAY(SELECT d ->> 'dataset' FROM jsonb_array_elements(s.statement -> 'datasets') AS d ORDER BY 1) AS datasets,
       a.answered_at, e.completed_at, CASE WHEN federated._retrains(o.terms) THEN 'retrain' ELSE 'suppress_only' END AS method, e.exactness,
       k.versions, k.sha256_before, k.sha256_after, coalesce(a.message, w.reason, e.message, o.message) AS message, s.statement AS receipt
FROM federated.subject_order AS o
LEFT JOIN federated.erasure AS e USING (order_id)
LEFT JOIN federated.order_answer AS a USING (order_id)
LEFT JOIN federated.unasked_node AS w ON w.node_id = a.node_id AND a.state = 'pending'
CROSS JOIN LATERAL (SELECT convert_from(a.statement, 'UTF8')::jsonb AS statement) AS s
CROSS JOIN LATERAL (
    SELECT array_agg(format('%s@%s', v.model_name, v.version) ORDER BY v.model_name, v.version) AS versions,
           array_agg(encode(v.sha256_before, 'hex') ORDER BY v.model_name, v.version) AS sha256_before,
           array_agg(encode(v.sha256_after, 'hex') ORDER BY v.model_name, v.version) AS sha256_after
    FROM federated.erasure_version AS v WHERE v.order_id = o.order_id
) AS k
WHERE o.kind = 'erase';
COMMENT ON VIEW @extschema@.federated_erasure_status IS
    'Requests to erase data subjects (DELETE FROM FEDERATED TRAINING), and how far each has come: a row a request and node';
COMMENT ON COLUMN @extschema@.federated_erasure_status.request_id IS 'The request: one for each subject named';
COMMENT ON COLUMN @extschema@.federated_erasure_status.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_erasure_status.model_name IS 'The model that the statement named; all models of the workspace are put right';
COMMENT ON COLUMN @extschema@.federated_erasure_status.subject_hash IS
    'The subject''s pseudonym in the workspace: HMAC-SHA-256 under a key that is in no database, never the identifier; NULL before a coordinator took the request';
COMMENT ON COLUMN @extschema@.federated_erasure_status.requested_at IS 'When the request was made';
COMMENT ON COLUMN @extschema@.federated_erasure_status.deadline IS 'One month after the request (GDPR Art. 12(3)): until then a node that is away is asked again';
COMMENT ON COLUMN @extschema@.federated_erasure_status.status IS
    'asking nodes; retraining (the nodes are done, other requests of the statement are yet to be answered, versions to be retired or the certificate to be signed); completed; dropped (its workspace was, before)';
COMMENT ON COLUMN @extschema@.federated_erasure_status.node_name IS 'The node; NULL before a coordinator took the request';
COMMENT ON COLUMN @extschema@.federated_erasure_status.node_state IS
    'pending; what the node has done (erased, suppressed, not held, not identifiable); refused; unregistered (before it had answered)';
COMMENT ON COLUMN @extschema@.federated_erasure_status.rows IS 'How many rows of shared tables were the subject''s, by the node''s word; NULL where none is known';
COMMENT ON COLUMN @extschema@.federated_erasure_status.datasets IS 'The datasets that the node looked in';
COMMENT ON COLUMN @extschema@.federated_erasure_status.answered_at IS 'When the node''s answer was recorded; NULL until then';
COMMENT ON COLUMN @extschema@.federated_erasure_status.completed_at IS 'When the request was carried out and its certificate signed; NULL until then';
COMMENT ON COLUMN @extschema@.federated_erasure_status.method IS 'retrain, or suppress_only';
COMMENT ON COLUMN @extschema@.federated_erasure_status.exactness IS
    'Begun with exact (no version is left that learned from the subject), approximate (versions keep what they learned) or incomplete (not every node has answered), and by what; NULL until completed';
COMMENT ON COLUMN @extschema@.federated_erasure_status.versions IS 'Versions, as model@number, that had learned from rows of nodes that held the subject; NULL where none had, or it is not known yet';
COMMENT ON COLUMN @extschema@.federated_erasure_status.sha256_before IS 'Of each of these, in their order: SHA-256 of its parameters';
COMMENT ON COLUMN @extschema@.federated_erasure_status.sha256_after IS 'Of each: of the version that was current when it was retired; NULL where it is not retired, or none was';
COMMENT ON COLUMN @extschema@.federated_erasure_status.message IS 'What the node, or the request, waits for; NULL where for nothing';
COMMENT ON COLUMN @extschema@.federated_erasure_status.receipt IS 'What the node signed; NULL until it has answered';

CREATE FUNCTION @extschema@.federated_erasure_certificate(request uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT o.order_id, e.completed_at, e.certificate, e.signature, e.signer INTO subject
    FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
    WHERE o.order_id = request AND o.kind = 'erase';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no request for erasure %s', coalesce(request::text, 'null')),
            HINT = 'federated_erasure_status lists the requests.';
    ELSIF subject.completed_at IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('request %s is not carried out yet', request),
            HINT = 'federated_erasure_status shows how far it has come.';
    END IF;
    RETURN jsonb_build_object('certificate', subject.certificate::jsonb, 'signature', encode(subject.signature, 'hex'), 'signer', subject.signer)
        || federated._certified_inclusion(request);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_erasure_certificate(uuid) IS
    'The certificate of an erasure that was carried out, signed by the coordinator, with what the nodes signed and the proof that the audit log has its hash; heliosdb verify-certificate checks it without a database';

CREATE FUNCTION federated._certified_inclusion(request uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entry record;
    proof jsonb;
BEGIN
    SELECT a.workspace, a.audit_id INTO entry FROM federated.audit AS a
    WHERE a.object_kind = 'erasure' AND a.action = 'certify' AND a.object_name = request::text ORDER BY a.recorded_at DESC LIMIT 1;
    proof := federated._audit_inclusion(entry.workspace, entry.audit_id);
    -- An entry that was emptied for its age no longer says whose it is, and its hash cannot be computed.
    RETURN jsonb_build_object('inclusion', proof, 'inclusion_reason', CASE
        WHEN entry.audit_id IS NULL THEN 'its entry in the audit log is not there: emptied for its age, or removed'
        WHEN proof IS NULL THEN 'no head of the audit log that is over it has been signed yet' END);
END
$$;
COMMENT ON FUNCTION federated._certified_inclusion(uuid) IS 'The proof that the audit log has the hash of a certificate, or why there is none yet';
