-- Entries of the audit log have named their workspace since 1.1.
-- done: function federated._complete_audit()
-- done: trigger complete_audit on federated.audit
-- done: comment FUNCTION federated._complete_audit()
DROP TRIGGER complete_audit ON federated.audit;
DROP FUNCTION federated._complete_audit();

-- Of the ledger's columns the daemon may now fill all but two.
REVOKE INSERT ON federated.ledger FROM federated_daemon;
