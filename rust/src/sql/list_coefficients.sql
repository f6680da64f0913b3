SELECT term::text, estimate::float8, std_error::float8, statistic::float8, p_value::float8, conf_low::float8, conf_high::float8
FROM federated_coefficients($1::text)
