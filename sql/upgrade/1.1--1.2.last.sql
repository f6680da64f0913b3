-- What was shared, spent and agreed before belongs to the base tables that its relation is made of now.
SELECT federated._claim_base_tables(d.dataset_id) FROM federated.dataset AS d;
UPDATE federated.spending AS s SET
    base_tables = federated._know_base_tables(s.relation),
    workspace_epsilon_basic = s.epsilon_basic,
    workspace_epsilon_tight = s.epsilon_tight;
UPDATE federated.agreement AS a SET base_tables = federated._know_base_tables(a.relation);
ALTER TABLE federated.spending
    ALTER COLUMN base_tables SET NOT NULL,
    ADD CHECK (cardinality(base_tables) > 0),
    ALTER COLUMN workspace_epsilon_basic SET NOT NULL,
    ALTER COLUMN workspace_epsilon_tight SET NOT NULL;
ALTER TABLE federated.agreement
    ALTER COLUMN base_tables SET NOT NULL,
    ADD CHECK (cardinality(base_tables) > 0),
    ADD PRIMARY KEY (workspace, relation, base_tables);
-- What computes a version is had in its other forms too; a model without a version has one of these, which says so. They are
-- models, and no part of the extension, though its script makes them.
DO $$
DECLARE
    made     record;
    row_form regprocedure;
BEGIN
    FOR made IN
        SELECT p.proname::text AS name, obj_description(p.oid, 'pg_proc') AS description,
               EXISTS (SELECT FROM federated.version AS v JOIN federated.model AS m USING (model_id)
                       WHERE m.name = p.proname::text OR starts_with(p.proname::text, m.name || '@')) AS is_trained
        FROM pg_proc AS p WHERE p.pronamespace = 'federated_model'::regnamespace
    LOOP
        IF made.is_trained THEN
            PERFORM federated._rewrite_row_functions(made.name);
        ELSE
            PERFORM federated._write_untrained_row(made.name);
        END IF;
        FOR row_form IN
            SELECT p.oid FROM pg_proc AS p
            WHERE p.pronamespace = 'federated_row'::regnamespace AND p.proname::text = made.name
        LOOP
            EXECUTE format('ALTER EXTENSION heliosdb_federated_learning DROP FUNCTION %s', row_form);
            EXECUTE format('ALTER FUNCTION %s OWNER TO federated_owner', row_form);
        END LOOP;
        PERFORM federated._finish_model_function(made.name, made.description);
    END LOOP;
END
$$;
