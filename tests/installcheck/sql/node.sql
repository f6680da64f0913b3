\set SHOW_CONTEXT never
CALL federated.execute($$REGISTER FEDERATED NODE 'north' IN WORKSPACE clinics WITH (endpoint = 'https://north.example.org:8443')$$);
CALL federated.execute($$REGISTER FEDERATED NODE 'south' IN WORKSPACE clinics WITH (endpoint = 'https://south.example.org:8443', dataset_size = 1000, contact = 'O''Neill')$$);
CALL federated.execute($$REGISTER FEDERATED NODE 'north' IN WORKSPACE clinics WITH (endpoint = 'https://north.example.org:8443')$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$REGISTER FEDERATED NODE 'west' IN WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$REGISTER FEDERATED NODE 'west' IN WORKSPACE clinics WITH (endpoint = 'http://west.example.org')$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$REGISTER FEDERATED NODE 'west' IN WORKSPACE nowhere WITH (endpoint = 'https://west.example.org:1')$$);
\echo :LAST_ERROR_SQLSTATE
SELECT workspace, node_name, status, last_seen, rounds_participated, dataset_size FROM federated_node_status ORDER BY 2;
SELECT workspace, node_name, connection_status, failure_reason, endpoint_in_use FROM federated_node_diagnostics ORDER BY 2;
-- A changed registration is met again, with no certificate pinned
UPDATE federated.node SET status = 'active', certificate = 'pinned' WHERE name = 'south';
CALL federated.execute($$ALTER FEDERATED NODE 'south' IN WORKSPACE clinics SET (contact = 'somebody else')$$);
SELECT name, status, certificate, options FROM federated.node ORDER BY 1;
CALL federated.execute($$ALTER FEDERATED NODE 'south' IN WORKSPACE clinics RESET (contact)$$);
CALL federated.execute($$ALTER FEDERATED NODE 'south' IN WORKSPACE clinics RESET (endpoint)$$);
\echo :LAST_ERROR_SQLSTATE
SELECT options FROM federated.node WHERE name = 'south';
CALL federated.execute($$ALTER FEDERATED NODE 'east' IN WORKSPACE clinics SET (contact = 'x')$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$UNREGISTER FEDERATED NODE 'east' FROM WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$UNREGISTER FEDERATED NODE IF EXISTS 'east' FROM WORKSPACE clinics$$);
-- A workspace with members is not dropped by accident
CALL federated.execute('DROP FEDERATED WORKSPACE clinics');
\echo :LAST_ERROR_SQLSTATE
