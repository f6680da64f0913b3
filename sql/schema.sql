CREATE SCHEMA federated;
COMMENT ON SCHEMA federated IS 'Catalog of federated learning: workspaces, nodes, models, runs, rounds, versions, ledgers, audit';

CREATE SCHEMA federated_model;
COMMENT ON SCHEMA federated_model IS 'One SQL function per federated model: the current version, ready for the planner to inline';

CREATE SCHEMA federated_row;
COMMENT ON SCHEMA federated_row IS 'The functions of federated_model once more, with the features in one value: what predict calls';

CREATE SCHEMA federated_proba;
COMMENT ON SCHEMA federated_proba IS 'One SQL function per federated model of several classes, in all its forms: the probabilities of these, in their order';

CREATE SCHEMA federated_dataset;
COMMENT ON SCHEMA federated_dataset IS 'One view per dataset that this database shares: all that federated_reader can read';

CREATE SCHEMA federated_subject;
COMMENT ON SCHEMA federated_subject IS 'One view per dataset with a consent_query: who has consented, for federated_reader to read';

CREATE SCHEMA federated_aggregation;
COMMENT ON SCHEMA federated_aggregation IS 'One function per FEDERATED AGGREGATION FUNCTION: how people combine the nodes'' updates';

CREATE TYPE federated.node_status AS ENUM ('pending', 'active', 'slow', 'failed');
CREATE TYPE federated.run_status AS ENUM
    ('queued', 'running', 'converged', 'completed', 'stopped', 'failed', 'budget_exhausted', 'diverged');
CREATE TYPE federated.round_status AS ENUM ('open', 'closed', 'failed');
CREATE TYPE federated.participation_outcome AS ENUM ('pending', 'received', 'dropped', 'refused', 'rejected');
CREATE TYPE federated.ledger_state AS ENUM ('reserved', 'charged');
CREATE TYPE federated.release_state AS ENUM ('charged', 'released', 'failed');

COMMENT ON TYPE federated.node_status IS 'How the coordinator last found a node: pending until it has met it';
COMMENT ON TYPE federated.run_status IS 'How a run stands or ended';
COMMENT ON TYPE federated.round_status IS 'How a round stands or ended';
COMMENT ON TYPE federated.participation_outcome IS 'What became of a task that a node was asked';
COMMENT ON TYPE federated.ledger_state IS 'Reserved before a task is sent, charged when its answer arrived';
COMMENT ON TYPE federated.release_state IS 'Charged before a row is read, released when its vector may leave, failed where it could not be computed';
