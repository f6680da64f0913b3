-- The text of a statement: what is no statement of the language says where, and changes nothing
\set SHOW_CONTEXT never
CALL federated.execute(NULL);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('SELECT 1');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPAC w');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE w; DROP TABLE x');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE w WITH (min_nodes = 1 + 1)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE w WITH (min_nodes = 2, min_nodes = 3)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE select');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE "' || repeat('n', 64) || '"');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED WORKSPACE w -- ' || repeat('x', 1048576));
\echo :LAST_ERROR_SQLSTATE
-- Every spelling of a string and a name
CALL federated.execute($$CREATE /* a /* nested */ comment */ FEDERATED WORKSPACE U&"spelled\0021" WITH (data_residency = E'E\x55') -- done$$);
SELECT name, options FROM federated.workspace WHERE name LIKE 'spelled%';
CALL federated.execute('DROP FEDERATED WORKSPACE "spelled!"');
-- Outside federated.execute every one of them is a syntax error of PostgreSQL's own
CREATE FEDERATED WORKSPACE w;
\echo :LAST_ERROR_SQLSTATE
START FEDERATED TRAINING risk;
\echo :LAST_ERROR_SQLSTATE
DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = 's';
\echo :LAST_ERROR_SQLSTATE
SELECT name FROM federated.workspace;
