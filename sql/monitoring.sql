CREATE FUNCTION federated._workspace_id(workspace text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint := (SELECT w.workspace_id FROM federated.workspace AS w WHERE w.name = workspace);
BEGIN
    IF workspace IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'the name of a federated workspace must not be null';
    ELSIF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated workspace "%s" does not exist', workspace);
    END IF;
    RETURN found_id;
END
$$;
COMMENT ON FUNCTION federated._workspace_id(text) IS 'The id of a workspace, or error 42704';

-- Told from the rows of participation, whatever steps a round has: it begins with one step, whose first message is
-- exchange 0 and which a sum protocol may carry on in later exchanges. A node takes part where its first answer arrived
-- and none of its later ones to the same step was missing. What a round asks of another step after that (evaluation, say)
-- changes nothing. Two rows of a node at exchange 0 come from a dump of version 1.1: they count as one. An asynchronous
-- round has the updates that it took, whenever their nodes were asked.
CREATE VIEW federated.part_taken AS
SELECT s.run_id, s.round_number, s.node_id, max(s.duration_seconds) AS duration_seconds
FROM (
    SELECT p.run_id, p.round_number, p.node_id, max(p.duration_seconds) AS duration_seconds
    FROM federated.participation AS p
    WHERE p.settled_round IS NULL
    GROUP BY p.run_id, p.round_number, p.node_id, p.step
    HAVING bool_or(p.exchange = 0 AND p.outcome = 'received')
       AND NOT bool_or(p.outcome IN ('dropped', 'refused', 'rejected'))
) AS s
GROUP BY s.run_id, s.round_number, s.node_id
UNION ALL
SELECT a.run_id, a.settled_round, a.node_id, a.duration_seconds
FROM federated.participation AS a
WHERE a.settled_round IS NOT NULL AND a.outcome = 'received';
COMMENT ON VIEW federated.part_taken IS 'Which nodes take part in which round: those whose answers to its first step arrived, all of them';
COMMENT ON COLUMN federated.part_taken.duration_seconds IS
    'From the beginning of an exchange until the node''s answer was there; where the first step took several messages, of the longest';

CREATE VIEW @extschema@.federated_runs AS
SELECT w.name AS workspace_name, m.name AS model_name,
       (row_number() OVER (PARTITION BY r.model_id ORDER BY r.created_at, r.run_id))::integer AS run, r.run_id,
       CASE WHEN r.waiting THEN 'waiting' ELSE r.status::text END AS status, r.requested_by AS started_by,
       r.created_at AS queued_at, r.started_at, r.finished_at,
       (SELECT max(d.round_number) FROM federated.round AS d WHERE d.run_id = r.run_id AND d.finished_at IS NOT NULL) AS rounds,
       (SELECT max(v.version) FROM federated.version AS v WHERE v.run_id = r.run_id) AS version, r.trial, r.fold,
       r.voting_group, r.group_nodes, r.overrides AS options, r.message
FROM federated.run AS r
JOIN federated.model AS m USING (model_id)
JOIN federated.workspace AS w USING (workspace_id);
COMMENT ON VIEW @extschema@.federated_runs IS 'Every run of every model';
COMMENT ON COLUMN @extschema@.federated_runs.workspace_name IS 'Of the model';
COMMENT ON COLUMN @extschema@.federated_runs.model_name IS 'Whose run it is';
COMMENT ON COLUMN @extschema@.federated_runs.run IS 'Its number among the runs of its model, from 1, in the order in which they were started: what shows a run takes it';
COMMENT ON COLUMN @extschema@.federated_runs.run_id IS 'As logs and the audit log name it';
COMMENT ON COLUMN @extschema@.federated_runs.status IS 'queued, running, how it ended, or waiting: a run of a series before its turn';
COMMENT ON COLUMN @extschema@.federated_runs.started_by IS 'The role that said START';
COMMENT ON COLUMN @extschema@.federated_runs.queued_at IS 'When START was said';
COMMENT ON COLUMN @extschema@.federated_runs.started_at IS 'When a coordinator took it; NULL before that';
COMMENT ON COLUMN @extschema@.federated_runs.finished_at IS 'When it ended; NULL before that';
COMMENT ON COLUMN @extschema@.federated_runs.rounds IS 'The last round that was closed, 0 is preparation; NULL before that';
COMMENT ON COLUMN @extschema@.federated_runs.version IS 'The last version that it left: one that was stopped and resumed may have left several; NULL where there is none, or where it was dropped';
COMMENT ON COLUMN @extschema@.federated_runs.trial IS 'Which trial of a series of runs it is of, as in federated_trials; NULL of a run by itself';
COMMENT ON COLUMN @extschema@.federated_runs.fold IS 'Which fold it holds out, from 0; NULL without folds';
COMMENT ON COLUMN @extschema@.federated_runs.voting_group IS 'For which group of nodes it trains a model that votes, from 1; NULL without voting_groups';
COMMENT ON COLUMN @extschema@.federated_runs.group_nodes IS 'The nodes of that group, which alone take part; NULL without voting_groups';
COMMENT ON COLUMN @extschema@.federated_runs.options IS 'What START named for it, beside the options of the model';
COMMENT ON COLUMN @extschema@.federated_runs.message IS 'How it ended, and why';

-- Without a number the latest, but for what still waits for its turn; a row of NULLs where there is none.
CREATE FUNCTION federated._find_run(model text, run integer) RETURNS federated.run
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject bigint := federated._model_id(model);
    found   federated.run;
BEGIN
    IF run IS NULL THEN
        SELECT r.* INTO found FROM federated.run AS r
        WHERE r.model_id = subject AND NOT r.waiting
          -- What has measured a vote has no figures of training.
          AND (r.status IN ('queued', 'running') OR r.voting_group IS NOT NULL OR NOT r.options ? 'voting_groups')
        ORDER BY r.created_at DESC, r.run_id DESC LIMIT 1;
        RETURN found;
    END IF;
    IF run > 0 THEN
        SELECT r.* INTO found FROM federated.run AS r
        WHERE r.model_id = subject ORDER BY r.created_at, r.run_id OFFSET run - 1 LIMIT 1;
    END IF;
    IF found.run_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" has no run %s', model, run),
            DETAIL = format('Its runs are numbered from 1 to %s.', (SELECT count(*) FROM federated.run AS r WHERE r.model_id = subject)),
            HINT = format('SELECT run, status, started_by FROM federated_runs WHERE model_name = %L shows all.', model);
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION federated._find_run(text, integer) IS
    'The run of a model that has the number in federated_runs, or 42704; of NULL the latest one that has had its turn';

CREATE FUNCTION @extschema@.federated_training_status(
    model text, run integer DEFAULT NULL,
    OUT round_number integer, OUT status text, OUT global_loss double precision, OUT global_accuracy double precision,
    OUT participating_nodes integer, OUT round_duration_seconds double precision,
    OUT started_at timestamptz, OUT finished_at timestamptz, OUT message text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_training_status.model, federated_training_status.run) AS r WHERE r.run_id IS NOT NULL
    ), rounds AS (
        SELECT d.*, d.round_number = max(d.round_number) OVER () AS is_last
        FROM chosen JOIN federated.round AS d USING (run_id)
    )
    SELECT coalesce(d.round_number, 0),
           CASE WHEN coalesce(d.is_last, true) THEN r.status::text
                -- After the round that was published, rounds that left the useful models are a part of how it diverged.
                WHEN r.status::text = 'diverged' AND d.global_loss > d.base_loss AND d.round_number > coalesce(
                    (SELECT max(v.round_number) FROM federated.version AS v WHERE v.run_id = d.run_id), 0) THEN 'diverged'
                ELSE 'completed' END,
           d.global_loss, d.global_accuracy,
           (SELECT count(*)::integer FROM federated.part_taken AS p
            WHERE p.run_id = d.run_id AND p.round_number = d.round_number),
           extract(epoch FROM d.finished_at - d.started_at)::double precision,
           coalesce(d.started_at, r.started_at), coalesce(d.finished_at, r.finished_at),
           CASE WHEN coalesce(d.is_last, true) THEN nullif(concat_ws('; ', d.message, nullif(r.message, d.message)), '')
                ELSE d.message END
    FROM chosen AS r LEFT JOIN rounds AS d USING (run_id)
    ORDER BY 1
$$;
COMMENT ON FUNCTION @extschema@.federated_training_status(text, integer) IS
    'A run of a model by its number in federated_runs, or the latest, one row a round (round 0 is preparation: it gathers feature statistics); the last row carries the run''s status, the others are completed, or diverged where the run ended so and the round''s loss was larger than that of the base rate';

CREATE FUNCTION @extschema@.federated_training_metrics(
    model text, run integer DEFAULT NULL,
    OUT round_number integer, OUT "timestamp" timestamptz, OUT global_loss double precision,
    OUT global_accuracy double precision, OUT participating_nodes integer, OUT dropped_nodes integer,
    OUT round_duration_seconds double precision, OUT communication_mb double precision,
    OUT privacy_consumed_epsilon double precision,
    OUT global_loss_std_error double precision, OUT global_accuracy_std_error double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_training_metrics.model, federated_training_metrics.run) AS r WHERE r.run_id IS NOT NULL
    ), charged AS (
        SELECT l.round_number, max(l.epsilon) AS epsilon
        FROM federated.ledger_reached AS l
        WHERE l.workspace = (SELECT g.workspace FROM federated.ledger AS g WHERE g.run_id = (SELECT run_id FROM chosen) LIMIT 1)
          AND l.run_id = (SELECT run_id FROM chosen)
        GROUP BY l.round_number
    )
    SELECT d.round_number, coalesce(d.finished_at, d.started_at), d.global_loss, d.global_accuracy,
           (SELECT count(*)::integer FROM federated.part_taken AS t
            WHERE t.run_id = d.run_id AND t.round_number = d.round_number), p.dropped,
           extract(epoch FROM d.finished_at - d.started_at)::double precision, p.megabytes,
           max(c.epsilon) OVER (ORDER BY d.round_number), d.global_loss_std_error, d.global_accuracy_std_error
    FROM chosen JOIN federated.round AS d USING (run_id)
    LEFT JOIN charged AS c ON c.round_number = d.round_number
    CROSS JOIN LATERAL (
        -- Lost in any exchange of the round: also a node that took part, and then did not evaluate.
        SELECT count(DISTINCT node_id) FILTER (WHERE outcome IN ('dropped', 'refused', 'rejected'))::integer AS dropped,
               sum(coalesce(bytes_sent, 0) + coalesce(bytes_received, 0))::double precision / 1e6 AS megabytes
        FROM federated.participation AS q
        WHERE q.run_id = d.run_id AND q.round_number = d.round_number
    ) AS p
    ORDER BY 1
$$;
COMMENT ON FUNCTION @extschema@.federated_training_metrics(text, integer) IS
    'Figures of each round of a run of a model, by its number in federated_runs, or of the latest; communication_mb is what was sent to and received from all nodes in all exchanges of the round, every attempt counted, in 10^6 bytes of messages before HTTP/2 framing and TLS; privacy_consumed_epsilon is what the most charged node, with subjects_overlap the nodes together, has spent in the workspace up to the round, NULL without a budget; the standard errors are those of the held-out rows as a sample and of the privacy noise together';

CREATE FUNCTION @extschema@.wait_for_convergence(model text, timeout_seconds double precision DEFAULT 3600) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    awaited_model bigint := federated._model_id(model);
    deadline      timestamptz;
    awaited_run   federated.run;
    current       federated.run;
    told          text;
    reason        text;
BEGIN
    -- NaN is greater than every other number.
    IF timeout_seconds IS NULL OR timeout_seconds < 0 OR timeout_seconds >= 'Infinity' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'timeout_seconds must be a finite number, 0 or more';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction',
            MESSAGE = 'wait_for_convergence needs isolation level READ COMMITTED',
            DETAIL = 'Under a higher level this transaction would never see the run end.';
    END IF;
    awaited_run := federated._find_run(model, NULL);
    IF awaited_run.run_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated model "%s" has never been in training', model),
            HINT = format('START FEDERATED TRAINING %s;', quote_ident(model));
    END IF;
    IF current_setting('federated.started_run', true) = awaited_run.run_id::text THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the training of federated model "%s" was started in this transaction', model),
            DETAIL = 'No coordinator sees it before COMMIT.',
            HINT = 'COMMIT first, then wait.';
    END IF;
    deadline := clock_timestamp() + make_interval(secs => least(timeout_seconds, 1e9));
    LOOP
        -- Each statement of a VOLATILE function under READ COMMITTED takes a new snapshot.
        SELECT r.* INTO current FROM federated.run AS r
        WHERE r.run_id = awaited_run.run_id OR r.series_id = awaited_run.series_id
        ORDER BY r.status IN ('queued', 'running') AND NOT r.waiting DESC, r.created_at DESC LIMIT 1;
        told := current.status;
        reason := current.message;
        IF told NOT IN ('queued', 'running') AND current.series_id IS NOT NULL THEN
            SELECT s.status, s.message INTO told, reason FROM federated._series_status(current.series_id) AS s;
        END IF;
        IF told IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object',
                MESSAGE = format('federated model "%s" was dropped while waiting', model);
        ELSIF told NOT IN ('queued', 'running') THEN
            IF told NOT IN ('converged', 'completed') AND reason <> '' THEN
                RAISE NOTICE 'training of federated model "%" ended %: %', model, told, reason;
            END IF;
            RETURN told;
        ELSIF clock_timestamp() >= deadline THEN
            RAISE EXCEPTION USING ERRCODE = 'query_canceled',
                MESSAGE = format('timed out waiting for federated model "%s" after %s seconds', model, timeout_seconds),
                DETAIL = CASE
                    WHEN told = 'queued' AND NOT EXISTS (SELECT FROM federated.lease)
                    THEN 'The run is queued: no coordinator serves this database yet; it waits for one.'
                    ELSE format('The run is %s%s; it goes on.', told, coalesce(': ' || reason, ''))
                END;
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.wait_for_convergence(text, double precision) IS
    'Waits for the latest run of a model to end, of folds or a search for all of its runs, and says how (of several the one that became the version, else the first that did not end well): converged (the loss improves no more, or target_accuracy is reached), completed (all rounds are done, or the loss has risen again), stopped, failed, diverged (training went away from every useful model: lower learning_rate) or budget_exhausted; but for the first two a NOTICE says why';

CREATE FUNCTION @extschema@.federated_privacy_budget(
    workspace text,
    OUT total_epsilon double precision, OUT consumed_epsilon double precision, OUT remaining_epsilon double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.total, b.consumed, CASE WHEN b.total IS NOT NULL THEN greatest(b.total - b.consumed, 0) END
    FROM (
        SELECT o.total,
               coalesce(federated._consumed_epsilon(w.name), CASE WHEN o.total IS NOT NULL THEN 0 END) AS consumed
        FROM federated.workspace AS w
        CROSS JOIN LATERAL (SELECT (w.options ->> 'privacy_budget')::double precision AS total) AS o
        WHERE w.workspace_id = federated._workspace_id(federated_privacy_budget.workspace)
    ) AS b
$$;
COMMENT ON FUNCTION @extschema@.federated_privacy_budget(text) IS
    'What a workspace may spend and what its most charged node, with subjects_overlap its nodes together, has spent (tight, at the workspace''s delta); without a budget total and remaining are NULL, and so is consumed where nothing was ever charged';

CREATE VIEW @extschema@.federated_workspace_status AS
SELECT w.name AS workspace_name, o.min_nodes AS min_nodes_required, n.registered AS registered_nodes,
       n.active AS active_nodes,
       CASE WHEN EXISTS (
                SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                WHERE m.workspace_id = w.workspace_id AND r.status = 'running') THEN 'training'
            WHEN o.budget <= o.consumed OR o.budget - o.consumed < federated._recent_round_cost(w.name)
                THEN 'budget_exhausted'
            WHEN n.active >= o.min_nodes THEN 'ready'
            WHEN n.registered >= o.min_nodes THEN 'waiting'
            ELSE 'incomplete' END AS status
FROM federated.workspace AS w
CROSS JOIN LATERAL (
    SELECT coalesce((w.options ->> 'min_nodes')::integer, 2) AS min_nodes,
           (w.options ->> 'privacy_budget')::double precision AS budget,
           federated._consumed_epsilon(w.name) AS consumed
) AS o
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS registered, (count(*) FILTER (WHERE q.status = 'active'))::integer AS active
    FROM federated.node AS q WHERE q.workspace_id = w.workspace_id
) AS n;
COMMENT ON VIEW @extschema@.federated_workspace_status IS 'Every workspace, and whether a run could begin in it';
COMMENT ON COLUMN @extschema@.federated_workspace_status.workspace_name IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_workspace_status.registered_nodes IS 'Nodes of the workspace in whatever state';
COMMENT ON COLUMN @extschema@.federated_workspace_status.min_nodes_required IS 'The option min_nodes';
COMMENT ON COLUMN @extschema@.federated_workspace_status.active_nodes IS
    'Nodes that the coordinator reaches now; a slow one is asked nothing until it answers again';
COMMENT ON COLUMN @extschema@.federated_workspace_status.status IS
    'The first that holds: training (a run is running), budget_exhausted (what is left is less than a training round has cost lately), ready (as many nodes are active as a run needs), waiting (as many are registered, but not all of them active), incomplete (too few are registered)';
