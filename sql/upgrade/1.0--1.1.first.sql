-- done: table federated.version
ALTER TABLE federated.version ADD COLUMN prediction jsonb CHECK (jsonb_typeof(prediction) = 'object');

-- The daemon may change less than it could.
REVOKE UPDATE ON federated.version, federated.ledger FROM federated_daemon;

-- done: table federated.round
ALTER TABLE federated.round ADD COLUMN node_variance double precision CHECK (node_variance >= 0);

-- done: table federated.audit
-- All entries so far count as of this transaction, which links them in its end.
ALTER TABLE federated.audit
    ADD COLUMN workspace text NOT NULL DEFAULT '',
    ADD COLUMN transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN origin uuid,
    ADD COLUMN chain_position bigint CHECK (chain_position > 0),
    ADD COLUMN previous_hash bytea,
    ADD COLUMN hash bytea,
    ADD UNIQUE (workspace, origin, chain_position),
    ADD CHECK (num_nulls(origin, chain_position, hash) IN (0, 3));
ALTER TABLE federated.audit ALTER COLUMN workspace DROP DEFAULT;
