-- Rounds that have ended since those that were seen, of some runs; of each run the last round that was seen is given. A round without a duration is open.
SELECT u.run::int8, t.round_number::int8, t."timestamp"::timestamptz, t.global_loss::float8, t.global_accuracy::float8,
       t.participating_nodes::int8, t.dropped_nodes::int8, t.round_duration_seconds::float8, t.communication_mb::float8,
       t.privacy_consumed_epsilon::float8, t.global_loss_std_error::float8, t.global_accuracy_std_error::float8, u.run_id::text
FROM unnest($2::text[]::uuid[], $3::int8[]) AS w (run_id, seen)
JOIN federated_runs AS u ON u.run_id = w.run_id
CROSS JOIN LATERAL federated_training_metrics($1::text, u.run::int4) AS t
WHERE u.model_name = $1::text AND t.round_number > w.seen AND t.round_duration_seconds IS NOT NULL
ORDER BY u.run, t.round_number
