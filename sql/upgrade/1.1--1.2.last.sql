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
