\set SHOW_CONTEXT never
CALL federated.execute($$CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 0.5, min_nodes = 2, compliance_mode = 'HIPAA')$$);
SELECT name, options FROM federated.workspace;
-- Again, and where it may be there
CALL federated.execute('CREATE FEDERATED WORKSPACE clinics');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE IF NOT EXISTS clinics');
-- Names fold as PostgreSQL's do; quoted ones are kept
CALL federated.execute('create federated workspace CLINICS');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE "Clínica; DROP TABLE x" WITH (min_nodes = 2)');
SELECT name FROM federated.workspace ORDER BY 1;
-- ALTER merges; what is wrong changes nothing
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics SET (round_timeout = 60)');
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics SET (round_timeout = -1)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics SET (round_timeuot = 1)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('ALTER FEDERATED WORKSPACE nowhere SET (round_timeout = 1)');
\echo :LAST_ERROR_SQLSTATE
-- RESET gives defaults again; what is not set is no error
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics SET (max_nodes = 9)');
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics RESET (max_nodes, stragglers_timeout)');
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics RESET (max_node)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('ALTER FEDERATED WORKSPACE clinics RESET (max_nodes = 9)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('ALTER FEDERATED WORKSPACE IF EXISTS nowhere RESET (max_nodes)');
SELECT options FROM federated.workspace WHERE name = 'clinics';
SELECT * FROM federated_privacy_budget('clinics');
SELECT * FROM federated_privacy_budget('nowhere');
\echo :LAST_ERROR_SQLSTATE
-- DROP
CALL federated.execute('DROP FEDERATED WORKSPACE "Clínica; DROP TABLE x"');
CALL federated.execute('DROP FEDERATED WORKSPACE nowhere');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('DROP FEDERATED WORKSPACE IF EXISTS nowhere');
SELECT name FROM federated.workspace;
-- Who did what is written down
SELECT action, object_kind, object_name, details #> '{after,options}' AS options
FROM federated.audit WHERE object_kind = 'workspace' ORDER BY recorded_at;
