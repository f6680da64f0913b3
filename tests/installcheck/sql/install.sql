-- What CREATE EXTENSION brought
SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'heliosdb_federated_learning';
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'federated%' ORDER BY 1;
SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname LIKE 'federated\_%' ORDER BY 1;
\d federated_node_status
\d federated_node_diagnostics
-- Empty catalogs answer with nothing
SELECT * FROM federated_node_status;
SELECT count(*) FROM federated.workspace;
