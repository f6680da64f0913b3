-- Takes the plain installation away, with everything in its catalog. Refused where anything else depends on it: models'
-- functions and datasets go first, and nothing is dropped by CASCADE. Roles stay.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path TO pg_catalog, pg_temp;
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT p.oid::pg_catalog.regprocedure AS name FROM pg_catalog.pg_proc AS p
               WHERE p.pronamespace IN ('federated_model'::pg_catalog.regnamespace, 'federated_row'::pg_catalog.regnamespace,
                                        'federated_proba'::pg_catalog.regnamespace) LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s', one.name);
    END LOOP;
    FOR one IN SELECT p.oid::pg_catalog.regprocedure AS name FROM pg_catalog.pg_proc AS p
               WHERE p.pronamespace OPERATOR(pg_catalog.=) 'federated_aggregation'::pg_catalog.regnamespace LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s', one.name);
    END LOOP;
    FOR one IN SELECT c.oid::pg_catalog.regclass AS name FROM pg_catalog.pg_class AS c
               WHERE c.relnamespace OPERATOR(pg_catalog.=) 'federated_dataset'::pg_catalog.regnamespace
                 AND c.relkind OPERATOR(pg_catalog.=) 'v' LOOP
        EXECUTE pg_catalog.format('DROP VIEW %s', one.name);
    END LOOP;
END
$$;
DROP SEQUENCE federated.privilege_refusal;
DROP FUNCTION federated._load_library();
DROP TABLE federated.library;
