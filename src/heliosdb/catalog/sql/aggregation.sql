-- name: begin_reading()
SET TRANSACTION READ ONLY

-- name: bound_time(text)
SELECT set_config('statement_timeout', $1, true)

-- name: aggregate(text, float8[], float8[])
SELECT federated._aggregate($1, $2, $3) AS combined

-- name: end_session(integer)
SELECT pg_terminate_backend($1)
