-- federated_owner owns what runs with rights beyond its caller's: it has no members and is granted to nobody.
-- Roles are cluster-wide and outlive the extension: they are made where missing, never altered or dropped.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor',
        'federated_daemon', 'federated_reader', 'federated_owner'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) role_name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
END
$$;
