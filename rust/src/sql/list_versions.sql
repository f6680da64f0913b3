SELECT version::int8, tags::text[], round_number::int8, created_at::timestamptz, is_current::boolean, global_loss::float8,
       global_accuracy::float8, epsilon::float8, parameters_sha256::text, global_loss_std_error::float8,
       global_accuracy_std_error::float8, retired_at::timestamptz
FROM federated_model_versions($1::text) ORDER BY 1
