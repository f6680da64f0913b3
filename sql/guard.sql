\echo Use "CREATE EXTENSION heliosdb_federated_learning" to load this file. \quit

-- Every name that this script does not qualify is the system's own: nothing in a schema that others may create in
-- can come before it. Functions pin theirs themselves.
SET LOCAL search_path TO pg_catalog, pg_temp;
