\set SHOW_CONTEXT never
CALL federated.execute('DROP FEDERATED MODEL risk');
CALL federated.execute('DROP FEDERATED WORKSPACE clinics CASCADE');
DROP EXTENSION heliosdb_federated_learning;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'federated%';
SELECT proname FROM pg_proc WHERE proname LIKE 'federated%' OR proname = 'predict';
