\set SHOW_CONTEXT never
-- ROLLBACK undoes rows and functions alike
BEGIN;
CALL federated.execute('CREATE FEDERATED WORKSPACE passing');
CALL federated.execute('CREATE FEDERATED MODEL passing IN WORKSPACE passing');
SELECT count(*) FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace AND proname = 'passing';
ROLLBACK;
SELECT count(*) FROM federated.workspace WHERE name = 'passing';
SELECT count(*) FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace AND proname = 'passing';
-- A savepoint keeps what came before an error
BEGIN;
CALL federated.execute('CREATE FEDERATED WORKSPACE passing');
SAVEPOINT one;
CALL federated.execute('CREATE FEDERATED WORKSPACE passing');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO one;
SELECT count(*) FROM federated.workspace WHERE name = 'passing';
CALL federated.execute('START FEDERATED TRAINING risk');
ROLLBACK;
SELECT count(*) FROM federated.run WHERE status = 'queued';
-- An error in PL/pgSQL is caught by its name
DO $$
BEGIN
    CALL federated.execute('CREATE FEDERATED WORKSPACE clinics');
EXCEPTION WHEN duplicate_object THEN
    RAISE NOTICE 'caught %: %', SQLSTATE, SQLERRM;
END
$$;
-- A read-only transaction changes nothing
BEGIN READ ONLY;
CALL federated.execute('CREATE FEDERATED WORKSPACE passing');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
