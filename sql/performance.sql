-- What rounds took and how nodes took part: measured by the coordinator, and by each node for itself.

CREATE TABLE federated.phase (
    run_id           uuid NOT NULL,
    round_number     integer NOT NULL,
    phase            text NOT NULL CHECK (phase IN ('distribution', 'local_training', 'aggregation')),
    duration_seconds double precision CHECK (duration_seconds >= 0),
    cpu_seconds      double precision CHECK (cpu_seconds >= 0),
    busy_seconds     double precision CHECK (busy_seconds >= 0),
    memory_bytes     double precision CHECK (memory_bytes >= 0),
    bytes_sent       bigint,
    bytes_received   bigint,
    PRIMARY KEY (run_id, round_number, phase),
    FOREIGN KEY (run_id, round_number) REFERENCES federated.round ON DELETE CASCADE
);
COMMENT ON TABLE federated.phase IS
    'What the phases of a round took, written in the transaction that commits what the phase led to; where several exchanges have the same phase, all of them together';
COMMENT ON COLUMN federated.phase.cpu_seconds IS 'Processor time, user and system: of the coordinator, in local_training of all nodes together';
COMMENT ON COLUMN federated.phase.busy_seconds IS 'The time over which cpu_seconds were spent; in local_training the sum over the nodes';

CREATE TABLE federated.contribution (
    run_id       uuid NOT NULL,
    round_number integer NOT NULL,
    node_id      bigint NOT NULL REFERENCES federated.node ON DELETE CASCADE,
    alignment    double precision CHECK (alignment BETWEEN -1 AND 1),
    direction    double precision CHECK (direction BETWEEN -1 AND 1),
    length       double precision CHECK (length >= 0),
    likeness     double precision CHECK (likeness BETWEEN -1 AND 1),
    PRIMARY KEY (run_id, round_number, node_id),
    FOREIGN KEY (run_id, round_number) REFERENCES federated.round ON DELETE CASCADE
);
COMMENT ON TABLE federated.contribution IS 'How each node''s update of a training round points along with the others''';
COMMENT ON COLUMN federated.contribution.alignment IS
    'Cosine between the node''s update and the mean of the other nodes'' updates weighted by their rows, from -1 to 1, the last time where a round combines several times; NULL where no other node answered or an update has no direction (all zero, or too large to be measured). Of updates of more than 4,096 values an estimate, with a standard error of about 0.016';

COMMENT ON COLUMN federated.contribution.direction IS
    'Cosine between the node''s update and the median of all in every coordinate; NULL where these point nowhere in common, and of fewer than three updates';
COMMENT ON COLUMN federated.contribution.length IS
    'Norm of the node''s update as a multiple of the median norm, divided by as many times the median rows as it has where these are more; NULL of fewer than three updates';
COMMENT ON COLUMN federated.contribution.likeness IS 'The largest cosine with another node''s update; NULL of fewer than three updates';

COMMENT ON COLUMN federated.participation.bytes_sent IS
    'Bytes of the messages sent to the node in this exchange, every attempt counted, as the coordinator handed them to gRPC: before HTTP/2 framing and TLS; NULL where the node was never asked. Greetings and heartbeats are not counted';
COMMENT ON COLUMN federated.participation.bytes_received IS 'Bytes of the messages received from the node, counted as bytes_sent';
COMMENT ON COLUMN federated.participation.duration_seconds IS
    'From the beginning of the exchange until the node''s update was there, as the coordinator saw it; NULL without an update, and where a coordinator that was started anew asked again: it did not see the beginning';

CREATE VIEW @extschema@.federated_performance_metrics AS
SELECT m.name AS model_name, p.round_number, p.phase, p.duration_seconds,
       100 * p.cpu_seconds / nullif(p.busy_seconds, 0) AS cpu_usage_percent,
       p.memory_bytes / 1e9 AS memory_usage_gb,
       p.bytes_sent / 1e6::double precision AS network_sent_mb,
       p.bytes_received / 1e6::double precision AS network_received_mb
FROM federated.model AS m
JOIN LATERAL (
    SELECT r.run_id FROM federated.run AS r WHERE r.model_id = m.model_id AND NOT r.waiting ORDER BY r.created_at DESC LIMIT 1
) AS latest ON true
JOIN federated.phase AS p USING (run_id)
ORDER BY m.name, p.round_number, array_position(ARRAY['distribution', 'local_training', 'aggregation'], p.phase);
COMMENT ON VIEW @extschema@.federated_performance_metrics IS
    'What each phase of each round of every model''s latest run took (round 0 gathers feature statistics); evaluation is none of the three phases';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.model_name IS 'Name of the model';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.round_number IS 'The round; 0 gathers feature statistics';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.phase IS
    'distribution: from the beginning of the exchange until the last node whose update counts had its whole task handed to its connection; local_training: from then until the coordinator waited for no more updates; aggregation: combining the updates and committing the result, up to the writing of these figures in the round''s last transaction, without the time in which the nodes evaluate';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.duration_seconds IS
    'Seconds on the coordinator''s clock; NULL where a coordinator that was started anew within the round did not see the phase whole';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.cpu_usage_percent IS
    'Processor time in percent of one core. local_training: of the nodes'' training processes while they computed, as the nodes measured it (sum over the nodes, divided by the sum of their computing times); NULL where no node told, as under a privacy budget, which does not cover what they follow: the number of rows. Else of the coordinator''s process, other runs included; NULL as duration_seconds';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.memory_usage_gb IS
    'Resident memory in 10^9 bytes at its highest in the life of the process up to then. local_training: of the training process of the node that needed most, as it measured; NULL where no node told, as under a privacy budget. Else of the coordinator''s process';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.network_sent_mb IS
    'Tasks sent to nodes, in 10^6 bytes of messages before HTTP/2 framing and TLS, every attempt counted; 0 but in distribution';
COMMENT ON COLUMN @extschema@.federated_performance_metrics.network_received_mb IS
    'Updates received from nodes, counted as network_sent_mb; 0 but in local_training';

CREATE FUNCTION @extschema@.federated_convergence_diagnostics(
    model text, run integer DEFAULT NULL,
    OUT round_number integer, OUT global_loss double precision, OUT loss_delta double precision,
    OUT node_variance double precision, OUT learning_rate double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_convergence_diagnostics.model, federated_convergence_diagnostics.run) AS r WHERE r.run_id IS NOT NULL
    ), evaluated AS (
        SELECT d.round_number, d.global_loss - lag(d.global_loss) OVER (ORDER BY d.round_number) AS delta
        FROM chosen JOIN federated.round AS d USING (run_id)
        WHERE d.global_loss IS NOT NULL
    )
    SELECT d.round_number, d.global_loss, e.delta, d.node_variance,
           coalesce(d.learning_rate, (r.options ->> 'learning_rate')::double precision)
    FROM chosen AS r
    JOIN federated.round AS d USING (run_id)
    LEFT JOIN evaluated AS e ON e.round_number = d.round_number
    WHERE d.round_number > 0
    ORDER BY 1
$$;
COMMENT ON FUNCTION @extschema@.federated_convergence_diagnostics(text, integer) IS
    'How the training rounds of a run of a model converge, by its number in federated_runs, or of the latest. loss_delta: change since the evaluated round before, NULL in the first and where the round was not evaluated. node_variance: the mean, weighted by rows, of the squared L2 distances of the nodes'' updates from their weighted mean, the privacy noise of the updates included, and for updates of more than 4,096 values an estimate with a standard error of about 2 %; NULL where fewer than two nodes answered or the round is not combined yet. learning_rate: the step size that was in force: the run''s option, else the default or, where the noise is that of the nodes'' sum, what follows from the norm to which the round clipped; NULL where no such steps are taken (optimizer newton, random_forest)';

CREATE VIEW @extschema@.federated_node_status AS
SELECT w.name AS workspace, n.name AS node_name,
       CASE WHEN n.status = 'active' AND last.straggled THEN 'slow' ELSE n.status::text END AS status, n.last_seen,
       coalesce(p.rounds, 0) AS rounds_participated, p.seconds AS avg_round_time_seconds,
       coalesce(n.dataset_size, (n.options ->> 'dataset_size')::bigint) AS dataset_size,
       c.score AS contribution_score
FROM federated.node AS n
JOIN federated.workspace AS w USING (workspace_id)
LEFT JOIN (
    SELECT q.node_id, count(*)::integer AS rounds, avg(q.duration_seconds) AS seconds
    FROM federated.part_taken AS q
    WHERE q.round_number > 0
    GROUP BY q.node_id
) AS p USING (node_id)
LEFT JOIN (
    SELECT DISTINCT ON (q.node_id) q.node_id, q.outcome = 'dropped' AND q.reason = 'timed out' AS straggled
    FROM federated.participation AS q JOIN federated.round AS d USING (run_id, round_number)
    WHERE q.outcome <> 'pending'
    ORDER BY q.node_id, d.started_at DESC, q.exchange DESC, q.step
) AS last USING (node_id)
LEFT JOIN (
    SELECT a.node_id, avg(a.alignment) AS score FROM federated.contribution AS a GROUP BY a.node_id
) AS c USING (node_id);
COMMENT ON VIEW @extschema@.federated_node_status IS 'Every registered node, and how it takes part';
COMMENT ON COLUMN @extschema@.federated_node_status.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_node_status.node_name IS 'Name of the node in its workspace';
COMMENT ON COLUMN @extschema@.federated_node_status.status IS
    'pending: not met yet; active: it answers; slow: it misses heartbeats, or was dropped from its last round because it did not answer in time; failed: see federated_node_diagnostics.failure_reason';
COMMENT ON COLUMN @extschema@.federated_node_status.last_seen IS 'When it last answered a greeting or a heartbeat; NULL before any';
COMMENT ON COLUMN @extschema@.federated_node_status.rounds_participated IS 'Training rounds, over all runs, to which its update was counted';
COMMENT ON COLUMN @extschema@.federated_node_status.avg_round_time_seconds IS
    'Mean over those rounds of the time from the beginning of the exchange until its update was there (where that takes several messages, of the longest); NULL before any';
COMMENT ON COLUMN @extschema@.federated_node_status.dataset_size IS
    'Rows as released in round 0 of the last run (noised under a budget), before that as declared at registration';
COMMENT ON COLUMN @extschema@.federated_node_status.contribution_score IS
    'Gradient alignment, from -1 to 1: in each training round the cosine between the node''s update and the mean of the other nodes'' updates weighted by rows (the cosine gradient Shapley value of Xu et al. 2021, with the node itself left out of the direction); the mean over all its rounds of all runs in which another node took part. Near 1: it moves the model as the others do; 0: unrelated; below 0: against them. Privacy noise draws it towards 0. A cosine of updates of more than 4,096 values is an estimate, with a standard error of about 0.016. NULL before such a round';

CREATE VIEW @extschema@.federated_node_diagnostics AS
SELECT w.name AS workspace, n.name AS node_name, n.last_seen AS last_heartbeat,
       CASE n.status WHEN 'active' THEN 'connected' WHEN 'slow' THEN 'connected' WHEN 'pending' THEN 'connecting'
            ELSE 'disconnected' END AS connection_status,
       n.failure_reason, coalesce(n.endpoint_in_use, n.options ->> 'endpoint') AS endpoint_in_use, n.certificate_expires,
       least((n.limits ->> 'max_memory_gb')::double precision,
             -- A node heeds no memory that is asked for under a budget: whether its rows fit would tell how many there are.
             CASE WHEN NOT w.options ? 'privacy_budget' THEN (n.options ->> 'max_memory_gb')::double precision END) AS max_memory_gb,
       least((n.limits ->> 'max_cpu_cores')::integer, (n.options ->> 'max_cpu_cores')::integer) AS max_cpu_cores,
       least((n.limits ->> 'max_bandwidth_mbps')::double precision, (n.options ->> 'max_bandwidth_mbps')::double precision) AS max_bandwidth_mbps,
       (n.limits ->> 'task_limit_seconds')::double precision AS task_limit_seconds,
       s.suspicion IS NOT NULL AS suspicious, s.suspicion
FROM federated.node AS n
JOIN federated.workspace AS w USING (workspace_id)
-- Of one round any figure may be chance; who deviates for good deviates in most.
LEFT JOIN LATERAL (
    SELECT nullif(concat_ws('; ',
               CASE WHEN 2 * c.against > c.rounds THEN format('its update points against the others'' in %s', c.against) END,
               CASE WHEN 2 * c.long > c.rounds THEN format('it is %s times as long as usual in the median, far too long in %s',
                                                           round(c.length::numeric, 1), c.long) END,
               CASE WHEN 2 * c.empty > c.rounds THEN format('it moves nothing in %s', c.empty) END,
               CASE WHEN 2 * c.alike > c.rounds THEN format('it is another node''s too in %s', c.alike) END
           ), '') || format(' of its last %s rounds', c.rounds) AS suspicion
    FROM (
        SELECT count(*) AS rounds,
               count(*) FILTER (WHERE r.direction < -0.3) AS against,
               count(*) FILTER (WHERE r.length > 3) AS long,
               count(*) FILTER (WHERE r.length < 0.001) AS empty,
               count(*) FILTER (WHERE r.likeness > 1 - 1e-12) AS alike,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY r.length) AS length
        FROM (
            SELECT o.direction, o.length, o.likeness
            FROM federated.contribution AS o JOIN federated.round AS d USING (run_id, round_number)
            WHERE o.node_id = n.node_id AND o.length IS NOT NULL
            ORDER BY d.started_at DESC, o.round_number DESC
            LIMIT 10
        ) AS r
    ) AS c
    WHERE c.rounds >= 3
) AS s ON true;
COMMENT ON VIEW @extschema@.federated_node_diagnostics IS 'How the coordinator reaches each node, and why not where it does not';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.node_name IS 'Name of the node in its workspace';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.connection_status IS
    'connected, connecting (not met yet) or disconnected, as the coordinator last found it';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.endpoint_in_use IS 'The address at which the node is called: its endpoint or, while it cannot be reached there, its backup_endpoint; NULL of a node that dials or that Flower reaches';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.last_heartbeat IS 'When it last answered a greeting or a heartbeat; NULL before any';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.failure_reason IS 'Why it is slow or failed; NULL while it answers and before it was tried';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.certificate_expires IS 'When the pinned certificate expires; NULL until the node was met';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.max_memory_gb IS
    'GiB that its training process holds for a task of the workspace: the lower of what the node''s own settings allow and what the registration asks; under a privacy_budget, where a registration''s is not heeded, the node''s own alone. NULL where none is known';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.max_cpu_cores IS 'Cores on which that process computes: the lower of the two, NULL where neither is known';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.max_bandwidth_mbps IS '10^6 bits a second, the lower of the two: at most so fast the node sends its answers; what the coordinator sends keeps to the registration''s alone. NULL: no limit is known';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.task_limit_seconds IS 'Seconds after which the node ends a computation; NULL until the node was met';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.suspicious IS
    'Whether something speaks against the node in more than half of its last ten training rounds with three updates or more (of three such rounds at least); false too where nothing can be seen of single updates: under secure_aggregation, and of what adds sums up';
COMMENT ON COLUMN @extschema@.federated_node_diagnostics.suspicion IS
    'What that is: updates that point against the median of all (cosine below -0.3, where these point anywhere in common), more than three times as long as the median update and as the node''s rows explain, that move nothing, or that are the very update of another node; NULL where it is nothing. It decides nothing: who attacks with care is not found this way, and a node whose people are unlike all others'' may be; the aggregation rule is what withstands';

SELECT pg_catalog.pg_extension_config_dump('federated.phase', '');
SELECT pg_catalog.pg_extension_config_dump('federated.contribution', '');
