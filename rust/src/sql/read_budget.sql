SELECT total_epsilon::float8, consumed_epsilon::float8, remaining_epsilon::float8 FROM federated_privacy_budget($1::text)
