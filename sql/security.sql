-- What makes a federation less safe than it could be. WARN: worth a look, but it may be meant so.

CREATE FUNCTION federated._node_security(workspace_id bigint) RETURNS TABLE (check_name text, status text, recommendation text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH nodes AS (
        SELECT n.name, n.status, n.certificate, n.certificate_expires FROM federated.node AS n
        WHERE n.workspace_id = _node_security.workspace_id
    ), certificates AS (
        SELECT string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate_expires <= now()) AS expired,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (
                   WHERE n.certificate_expires > now() AND n.certificate_expires <= now() + interval '30 days') AS expiring,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate IS NULL) AS unpinned,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (
                   WHERE n.certificate IS NULL AND n.status IN ('active', 'slow')) AS used_unpinned,
               min(n.certificate_expires) AS first_expiry, count(n.certificate) AS pinned, count(*) AS registered
        FROM nodes AS n
    )
    SELECT 'node_certificate_expiry', CASE WHEN c.expired IS NOT NULL THEN 'FAIL' WHEN c.expiring IS NOT NULL THEN 'WARN'
                                           WHEN c.first_expiry IS NULL THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN c.expired IS NOT NULL THEN format('Renew the expired certificates of: %s.', c.expired)
                WHEN c.expiring IS NOT NULL THEN format('Renew the certificates that expire within 30 days: %s.', c.expiring)
                WHEN c.first_expiry IS NULL THEN 'No certificate of a node is known yet: look again when the coordinator has met the nodes.'
                ELSE format('None: the first certificate expires on %s.', to_char(c.first_expiry AT TIME ZONE 'UTC', 'YYYY-MM-DD')) END
    FROM certificates AS c
    UNION ALL
    SELECT 'node_certificates_pinned', CASE WHEN c.used_unpinned IS NOT NULL THEN 'FAIL' WHEN c.registered = 0 THEN 'MANUAL'
                                            WHEN c.unpinned IS NOT NULL THEN 'WARN' ELSE 'PASS' END,
           CASE WHEN c.used_unpinned IS NOT NULL THEN format('Register again the nodes that are in use without a pinned certificate: %s.', c.used_unpinned)
                WHEN c.registered = 0 THEN 'No node is registered yet: look again when there are some.'
                WHEN c.unpinned IS NOT NULL THEN format('Find out why the coordinator has not met, or unregister: %s.', c.unpinned)
                ELSE format('None: all certificates are pinned, those of nodes: %s.', c.pinned) END
    FROM certificates AS c
$$;
COMMENT ON FUNCTION federated._node_security(bigint) IS 'The certificates of a workspace''s nodes; one that expires within 30 days is WARN';

CREATE FUNCTION federated._role_security() RETURNS TABLE (check_name text, status text, recommendation text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH found AS (
        SELECT (SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin) AS superusers,
               (SELECT count(*) FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin) AS superuser_count,
               (SELECT string_agg(DISTINCT other.rolname::text, ', ')
                FROM pg_auth_members AS m JOIN pg_roles AS o ON o.oid IN (m.roleid, m.member)
                JOIN pg_roles AS other ON other.oid IN (m.roleid, m.member) AND other.oid <> o.oid
                WHERE o.rolname = 'federated_owner') AS related,
               (SELECT r.rolcanlogin OR r.rolsuper FROM pg_roles AS r WHERE r.rolname = 'federated_owner') AS owner_is_person,
               (SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles AS r
                WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, 'federated_daemon', 'MEMBER')) AS daemons,
               (SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles AS r
                WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, 'federated_daemon', 'MEMBER')
                  AND (pg_has_role(r.oid, 'federated_operator', 'MEMBER') OR pg_has_role(r.oid, 'federated_reader', 'MEMBER'))) AS mixed
    )
    SELECT 'superuser_logins', CASE WHEN f.superuser_count > 1 THEN 'WARN' ELSE 'PASS' END,
           CASE WHEN f.superuser_count > 1 THEN format('Look whether all of these superusers must be able to log in: %s.', f.superusers)
                ELSE format('None: the only superuser who can log in is %s.', coalesce(f.superusers, 'nobody')) END
    FROM found AS f
    UNION ALL
    SELECT 'federated_owner_members', CASE WHEN f.related IS NOT NULL OR f.owner_is_person THEN 'FAIL' ELSE 'PASS' END,
           CASE WHEN f.owner_is_person THEN 'ALTER ROLE federated_owner NOLOGIN NOSUPERUSER.'
                WHEN f.related IS NOT NULL THEN format('REVOKE federated_owner from, or from it, each of: %s. Whoever is its member can put code where superusers run it.', f.related)
                ELSE 'None: federated_owner has no members, is a member of nothing, and cannot log in.' END
    FROM found AS f
    UNION ALL
    SELECT 'federated_daemon_members', CASE WHEN f.mixed IS NOT NULL THEN 'FAIL' ELSE 'PASS' END,
           CASE WHEN f.mixed IS NOT NULL THEN format('Give daemons logins of their own, apart from people and from the reader of shared data: %s.', f.mixed)
                ELSE format('None: daemons log in as %s.', coalesce(f.daemons, 'nobody yet')) END
    FROM found AS f
$$;
COMMENT ON FUNCTION federated._role_security() IS 'Who can log in as superuser, and who belongs to the roles that code runs under';

CREATE FUNCTION federated._server_security() RETURNS TABLE (check_name text, status text, recommendation text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    method text := (SELECT s.reset_val FROM pg_settings AS s WHERE s.name = 'password_encryption');
    weak   bigint;
BEGIN
    RETURN QUERY SELECT 'client_tls', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_client_links() AS c;
    RETURN QUERY SELECT 'client_authentication', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_logins() AS c;
    IF has_column_privilege('pg_authid', 'rolpassword', 'SELECT') THEN
        SELECT count(*) INTO weak FROM pg_authid AS a WHERE a.rolcanlogin AND a.rolpassword LIKE 'md5%';
    END IF;
    RETURN QUERY SELECT 'password_encryption',
        CASE WHEN method <> 'scram-sha-256' OR weak > 0 THEN 'FAIL' WHEN weak IS NULL THEN 'MANUAL' ELSE 'PASS' END,
        CASE WHEN method <> 'scram-sha-256' THEN format('Set password_encryption to scram-sha-256 in place of %s, and set all passwords anew.', method)
             WHEN weak > 0 THEN format('Set the passwords anew that are still kept as MD5: of %s roles.', weak)
             WHEN weak IS NULL THEN 'New passwords are kept as scram-sha-256. Look whether older ones are still MD5, which the caller may not read.'
             ELSE 'None: all passwords are kept as scram-sha-256.' END;
    RETURN QUERY SELECT 'public_rights', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_rights() AS c;
    RETURN QUERY SELECT 'extension_version', CASE WHEN x.extversion = a.default_version THEN 'PASS' WHEN a.default_version IS NULL THEN 'MANUAL' ELSE 'WARN' END,
        CASE WHEN x.extversion = a.default_version THEN format('None: version %s is the newest that is installed on the server.', x.extversion)
             WHEN a.default_version IS NULL THEN 'Look on the server for the newest version of the extension: its files are not where they should be.'
             ELSE format('ALTER EXTENSION heliosdb_federated_learning UPDATE: from %s to %s.', x.extversion, a.default_version) END
    FROM pg_extension AS x LEFT JOIN pg_available_extensions AS a ON a.name = x.extname
    WHERE x.extname = 'heliosdb_federated_learning';
END
$$;
COMMENT ON FUNCTION federated._server_security() IS 'Settings of the server, and rights on the extension''s objects';

CREATE FUNCTION @extschema@.federated_security_audit(
    workspace text, OUT check_name text, OUT status text, OUT recommendation text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint := federated._workspace_id(workspace);
BEGIN
    RETURN QUERY SELECT s.* FROM federated._node_security(found_id) AS s;
    RETURN QUERY SELECT 'node_links', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_node_links(found_id) AS c;
    RETURN QUERY SELECT 'privacy_budget', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_budget(workspace) AS c;
    RETURN QUERY SELECT 'fewest_nodes', CASE WHEN o.min_nodes < 3 THEN 'WARN' ELSE 'PASS' END,
        CASE WHEN o.min_nodes < 3 THEN format('Set min_nodes to 3 or more in place of %s: of two participants each can take its own part out of what is combined.', o.min_nodes)
             ELSE format('None: min_nodes is %s.', o.min_nodes) END
    FROM (SELECT coalesce((w.options ->> 'min_nodes')::integer, 2) AS min_nodes
          FROM federated.workspace AS w WHERE w.workspace_id = found_id) AS o;
    RETURN QUERY SELECT 'secure_aggregation', CASE WHEN o.open > 0 THEN 'WARN' ELSE 'PASS' END,
        CASE WHEN o.open > 0 THEN format('The coordinator sees each node''s vector by itself where a model does not say secure_aggregation = true (%s of %s): run it where every participant trusts it, or set that.', o.open, o.models)
             ELSE format('None: models without secure_aggregation: 0 of %s. A START may say otherwise.', o.models) END
    FROM (SELECT count(*) AS models, count(*) FILTER (WHERE m.options ->> 'secure_aggregation' IS DISTINCT FROM 'true') AS open
          FROM federated.model AS m WHERE m.workspace_id = found_id) AS o;
    RETURN QUERY SELECT 'audit_log', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_audit(workspace) AS c;
    RETURN QUERY SELECT s.* FROM federated._role_security() AS s;
    RETURN QUERY SELECT s.* FROM federated._server_security() AS s;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_security_audit(text) IS
    'What makes a workspace, its nodes or its server less safe than they could be. status: PASS; FAIL; WARN (worth a look, but it may be meant so); MANUAL (the caller may not see it, or no program can: recommendation says where to look). Certificates that expire within 30 days, more than one superuser who can log in and fewer than 3 nodes are WARN';

CREATE FUNCTION federated._security_audit_columns(workspace text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(s)) FROM @extschema@.federated_security_audit(_security_audit_columns.workspace) AS s),
        columns, ARRAY['check_name', 'status', 'recommendation'], 'federated_security_audit')
$$;
COMMENT ON FUNCTION federated._security_audit_columns(text, text[]) IS 'federated_security_audit with a column list';
