-- federated_owner owns what runs with rights beyond its caller's: it has no members and is granted to nobody. federated_probe
-- has the rights of federated_reader, and owns what reads as the node will. federated_aggregator has no rights but to call
-- aggregation functions. federated_api authenticates those who call by HTTP, and has no other right: who logs in as a member of
-- it sets the role of each call.
-- Roles are cluster-wide and outlive the extension: they are made where missing, never altered or dropped.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor',
        'federated_daemon', 'federated_reader', 'federated_owner', 'federated_probe', 'federated_aggregator',
        'federated_api'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) role_name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
    -- Whoever could become federated_owner could replace code that a superuser runs.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_owner' AND (
            r.rolcanlogin OR r.rolsuper OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m
                WHERE m.roleid OPERATOR(pg_catalog.=) r.oid OR m.member OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_owner" must not be able to log in, be a superuser, have members or be a member',
            HINT = 'ALTER ROLE federated_owner NOLOGIN NOSUPERUSER, and REVOKE it from every role that it is granted to.';
    END IF;
    GRANT federated_reader TO federated_probe;
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_probe' AND (
            r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.roleid OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_probe" must not be able to log in, be a superuser, bypass row security or have members',
            HINT = 'ALTER ROLE federated_probe NOLOGIN NOSUPERUSER NOBYPASSRLS, and REVOKE it from its members.';
    END IF;
    -- Code that people write runs with its rights, and everybody may have it run.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_aggregator' AND (
            r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m
                WHERE m.roleid OPERATOR(pg_catalog.=) r.oid OR m.member OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_aggregator" must not be able to log in, be a superuser, bypass row security, have members or be a member',
            HINT = 'ALTER ROLE federated_aggregator NOLOGIN NOSUPERUSER NOBYPASSRLS, and REVOKE it from every role that it is granted to.';
    END IF;
    -- Its members set other roles themselves: it leads to none.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_api' AND (
            r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.member OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_api" must not be able to log in, be a superuser, bypass row security or be a member',
            HINT = 'ALTER ROLE federated_api NOLOGIN NOSUPERUSER NOBYPASSRLS, and REVOKE every role from it.';
    END IF;
END
$$;
