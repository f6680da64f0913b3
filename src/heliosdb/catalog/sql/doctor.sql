-- What `heliosdb doctor` asks a server. The session has the caller's own search_path, hence the qualified names.

-- name: server_state()
SELECT pg_catalog.current_setting('server_version_num')::integer AS version_number,
       pg_catalog.current_setting('server_version') AS version,
       pg_catalog.pg_is_in_recovery() AS is_replica,
       current_user::text AS role,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) current_user) AS is_superuser,
       EXISTS (SELECT FROM pg_catalog.pg_available_extensions AS a WHERE a.name OPERATOR(pg_catalog.=) 'plpython3u') AS has_plpython,
       (SELECT a.default_version FROM pg_catalog.pg_available_extensions AS a
        WHERE a.name OPERATOR(pg_catalog.=) 'heliosdb_federated_learning') AS available,
       (SELECT e.extversion FROM pg_catalog.pg_extension AS e
        WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning') AS installed,
       (SELECT n.nspname::text FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
        WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning') AS extension_schema,
       pg_catalog.current_schemas(false)::text[] AS schemas,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles AS r
             WHERE r.rolname OPERATOR(pg_catalog.~) '^federated_(admin|operator|analyst|auditor|daemon|reader|api)$'
               AND pg_catalog.pg_has_role(r.oid, 'MEMBER') ORDER BY r.rolname) AS roles,
       (SELECT s.ssl FROM pg_catalog.pg_stat_ssl AS s WHERE s.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) AS is_encrypted,
       pg_catalog.host(pg_catalog.inet_client_addr()) AS client_address,
       extract(epoch FROM pg_catalog.clock_timestamp())::double precision AS now

-- name: reader_reach()
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS relation
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,p,f}'::"char"[])
  AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema,federated_dataset,federated_subject}'::name[])
  AND n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast|temp)'
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
ORDER BY 1 LIMIT 4

-- name: ping()
SELECT 1 AS answer
