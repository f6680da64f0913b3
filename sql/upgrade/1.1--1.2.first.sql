-- Entries of the audit log have named their workspace since 1.1.
-- done: function federated._complete_audit()
-- done: trigger complete_audit on federated.audit
-- done: comment FUNCTION federated._complete_audit()
DROP TRIGGER complete_audit ON federated.audit;
DROP FUNCTION federated._complete_audit();

-- Of the ledger's columns the daemon may now fill all but two.
REVOKE INSERT ON federated.ledger FROM federated_daemon;

-- done: type federated.release_state
CREATE TYPE federated.release_state AS ENUM ('charged', 'released', 'failed');
REVOKE ALL ON TYPE federated.release_state FROM PUBLIC;

-- done: table federated.dataset
ALTER TABLE federated.dataset ADD COLUMN row_key text[], ADD COLUMN base_tables bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN base_relations regclass[] NOT NULL DEFAULT '{}';

-- done: table federated.release
ALTER TABLE federated.release
    ALTER COLUMN payload_bytes DROP NOT NULL,
    ADD COLUMN state federated.release_state NOT NULL DEFAULT 'released',
    ADD COLUMN terms bytea;

-- done: table federated.spending
-- The columns are filled, and then may not be empty, when the functions that know base tables are there.
ALTER TABLE federated.spending
    ADD COLUMN base_tables bigint[],
    ADD COLUMN workspace_epsilon_basic double precision,
    ADD COLUMN workspace_epsilon_tight double precision;
DROP INDEX federated.spending_by_relation;

-- done: table federated.agreement
ALTER TABLE federated.agreement ADD COLUMN base_tables bigint[], DROP CONSTRAINT agreement_pkey;

DROP FUNCTION federated._lock_relation(text);
-- done: index spending_by_relation
-- done: function federated._lock_relation(text)
-- done: comment FUNCTION federated._lock_relation(text)

-- done: table federated.node
ALTER TABLE federated.node ADD COLUMN plain_answers boolean;
