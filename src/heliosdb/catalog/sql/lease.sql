-- name: catalog_state()
SELECT EXISTS (
           SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE n.nspname = 'federated' AND c.relname = 'lease') AS installed,
       EXISTS (
           SELECT FROM pg_roles AS r
           WHERE r.rolname = 'federated_daemon' AND pg_has_role(r.oid, 'MEMBER')) AS member,
       pg_is_in_recovery() AS replica

-- name: become_daemon()
SET ROLE federated_daemon

-- name: bound_session()
SELECT set_config('idle_in_transaction_session_timeout', '30s', false), set_config('lock_timeout', '15s', false)

-- name: strange_leader()
SELECT r.rolname::text AS name
FROM pg_locks AS l
JOIN pg_stat_get_activity(l.pid) AS a ON true
JOIN pg_roles AS r ON r.oid = a.usesysid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('heliosdb_federated.coordinator', 0)
  AND NOT pg_has_role(r.oid, 'federated_daemon', 'MEMBER')

-- name: listen()
LISTEN heliosdb_federated

-- name: try_lead()
SELECT pg_try_advisory_lock(hashtextextended('heliosdb_federated.coordinator', 0)) AS leads

-- name: bound_leader()
SELECT set_config('idle_session_timeout', '30s', false)

-- name: take_lease(text)
INSERT INTO federated.lease AS l (epoch, holder, acquired_at) VALUES (1, $1, clock_timestamp())
ON CONFLICT (only_one) DO UPDATE SET epoch = l.epoch + 1, holder = excluded.holder, acquired_at = excluded.acquired_at
RETURNING epoch

-- name: hold_lease()
SELECT epoch FROM federated.lease FOR SHARE
