CREATE SCHEMA federated;
COMMENT ON SCHEMA federated IS 'Catalog of federated learning: workspaces, nodes, models, runs, rounds, versions, ledgers, audit';

CREATE SCHEMA federated_model;
COMMENT ON SCHEMA federated_model IS 'One SQL function per federated model: the current version, ready for the planner to inline';

CREATE SCHEMA federated_dataset;
COMMENT ON SCHEMA federated_dataset IS 'One view per dataset that this database shares: all that federated_reader can read';

CREATE TYPE federated.node_status AS ENUM ('pending', 'active', 'slow', 'failed');
CREATE TYPE federated.run_status AS ENUM
    ('queued', 'running', 'converged', 'completed', 'stopped', 'failed', 'budget_exhausted');
CREATE TYPE federated.round_status AS ENUM ('open', 'closed', 'failed');
CREATE TYPE federated.participation_outcome AS ENUM ('pending', 'received', 'dropped', 'refused', 'rejected');
CREATE TYPE federated.ledger_state AS ENUM ('reserved', 'charged');
