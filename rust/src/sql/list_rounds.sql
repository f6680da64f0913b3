SELECT round_number::int8, "timestamp"::timestamptz, global_loss::float8, global_accuracy::float8, participating_nodes::int8,
       dropped_nodes::int8, round_duration_seconds::float8, communication_mb::float8, privacy_consumed_epsilon::float8,
       global_loss_std_error::float8, global_accuracy_std_error::float8
FROM federated_training_metrics($1::text, $2::int4) ORDER BY 1
