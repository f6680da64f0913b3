-- heliosdb_federated_learning @VERSION@ for a server on whose disk nothing can be put. A superuser installs it with
--     psql -X -f THIS_FILE
-- in a database that has plpython3u. Functions and views for users go to the schema public. Written by
-- `make -C extension plain`; the file beside it takes everything away again.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages TO warning;
SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) current_user) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'only a superuser can install heliosdb_federated_learning';
    ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_language AS l WHERE l.lanname OPERATOR(pg_catalog.=) 'plpython3u') THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'language "plpython3u" is not installed', HINT = 'CREATE EXTENSION plpython3u;';
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) 'federated') THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_schema',
            MESSAGE = 'heliosdb_federated_learning is installed in this database already',
            HINT = 'To replace it, dump it, uninstall it, and load the data again.';
    END IF;
END
$$;
