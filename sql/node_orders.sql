-- Subject orders at a node: what was done, and who is left out of answers. A data subject's identifier is in no table of it.

CREATE TABLE federated.node_order (
    workspace   text NOT NULL CHECK (workspace <> ''),
    order_id    uuid NOT NULL,
    kind        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline    timestamptz NOT NULL,
    order_mac   bytea NOT NULL,
    outcome     text NOT NULL,
    statement   bytea NOT NULL,
    signature   bytea NOT NULL,
    certificate_sha256 bytea NOT NULL,
    body_sha256 bytea,
    body        bytea,
    PRIMARY KEY (workspace, order_id)
);
COMMENT ON TABLE federated.node_order IS 'The subject orders that this node has carried out, with what it answered';
COMMENT ON COLUMN federated.node_order.order_mac IS
    'HMAC of the order under a key of the node that is in no database: another order under the same id is refused';
COMMENT ON COLUMN federated.node_order.statement IS 'What the node signed: JSON, its keys in order and without spaces, in UTF-8';
COMMENT ON COLUMN federated.node_order.body_sha256 IS 'Of what followed the statement; NULL where nothing did';
COMMENT ON COLUMN federated.node_order.body IS 'What followed the statement, sealed to whom it is for; NULL where nothing did, and once it is kept no longer';

CREATE TABLE federated.withdrawn_subject (
    workspace    text NOT NULL CHECK (workspace <> ''),
    digest       bytea NOT NULL CHECK (octet_length(digest) = 8),
    reason       text NOT NULL CHECK (reason IN ('erased', 'consent', 'opt-out')),
    order_id     uuid,
    withdrawn_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, digest, reason)
);
COMMENT ON TABLE federated.withdrawn_subject IS
    'Data subjects whose rows no answer to a workspace is about, also where they are imported again';
COMMENT ON COLUMN federated.withdrawn_subject.digest IS
    'Hash of the subject''s hash under a key of the node that is in no database, as row sets have it';
COMMENT ON COLUMN federated.withdrawn_subject.order_id IS 'The order that withdrew the subject; NULL where the node''s own DBA did';

SELECT pg_catalog.pg_extension_config_dump('federated.node_order', '');
SELECT pg_catalog.pg_extension_config_dump('federated.withdrawn_subject', '');

-- The identifier comes as COPY data, which no log shows, into a table that is gone with the transaction. In a function of
-- its own, since in a database where PUBLIC may make no temporary tables the daemon may not either.
CREATE FUNCTION federated._hold_subject() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CREATE TEMPORARY TABLE asked_subject (subject bytea NOT NULL) ON COMMIT DROP;
    GRANT INSERT, SELECT ON pg_temp.asked_subject TO federated_daemon;
    GRANT SELECT ON pg_temp.asked_subject TO federated_probe;
END
$$;
COMMENT ON FUNCTION federated._hold_subject() IS 'Makes the table that holds a data subject''s identifier until the transaction ends';

-- What is behind a view runs with the rights of whoever reads it: this is owned by federated_probe, who has the reader's.
-- The text form of a subject is that of a node's training process.
CREATE FUNCTION federated._subject_rows(dataset text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    subject text := (SELECT d.options ->> 'subject' FROM federated.dataset AS d WHERE d.name = dataset);
    found   bigint;
BEGIN
    EXECUTE format(
        'SELECT count(*) FROM federated_dataset.%I AS v'
        ' WHERE (v.%I)::text = (SELECT convert_from(a.subject, getdatabaseencoding()) FROM pg_temp.asked_subject AS a)',
        dataset, subject) INTO found;
    RETURN found;
END
$$;
COMMENT ON FUNCTION federated._subject_rows(text) IS 'How many rows of a dataset the data subject has whose identifier is held';

-- As the training process knows a subject: by its hash in the collation of the column, which only a nondeterministic one
-- has otherwise than by its bytes.
CREATE FUNCTION federated._subject_codes(workspace text) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    collation_name text;
    code           bigint;
BEGIN
    FOR collation_name IN
        SELECT '"C"' UNION
        SELECT format('%I.%I', n.nspname, l.collname)
        FROM federated.dataset AS d
        JOIN pg_class AS c ON c.relnamespace = 'federated_dataset'::regnamespace AND c.relname = d.name
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = d.options ->> 'subject'
        JOIN pg_collation AS l ON l.oid = a.attcollation AND NOT l.collisdeterministic
        JOIN pg_namespace AS n ON n.oid = l.collnamespace
        WHERE d.workspace = _subject_codes.workspace
    LOOP
        EXECUTE format(
            'SELECT hashtextextended(convert_from(a.subject, getdatabaseencoding()) COLLATE %s, 0) FROM pg_temp.asked_subject AS a',
            collation_name) INTO code;
        RETURN NEXT code;
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._subject_codes(text) IS 'The hashes by which the data subject whose identifier is held is known in rows that are read';

CREATE VIEW @extschema@.federated_node_orders AS
SELECT o.workspace, o.order_id, o.kind, o.received_at, o.deadline, o.outcome,
       convert_from(o.statement, 'UTF8')::jsonb -> 'datasets' AS datasets
FROM federated.node_order AS o;
COMMENT ON VIEW @extschema@.federated_node_orders IS
    'At a participant: what its node was asked about data subjects, and what it did; who they are is not kept';
COMMENT ON COLUMN @extschema@.federated_node_orders.workspace IS 'Whose coordinator asked';
COMMENT ON COLUMN @extschema@.federated_node_orders.order_id IS 'As the coordinator names it';
COMMENT ON COLUMN @extschema@.federated_node_orders.kind IS 'erase, grant, revoke or export';
COMMENT ON COLUMN @extschema@.federated_node_orders.received_at IS 'When it was carried out';
COMMENT ON COLUMN @extschema@.federated_node_orders.deadline IS 'Until when the coordinator would have asked again';
COMMENT ON COLUMN @extschema@.federated_node_orders.outcome IS 'One word for all datasets: the most that was done in any';
COMMENT ON COLUMN @extschema@.federated_node_orders.datasets IS 'What was done in each dataset, and how many rows the coordinator was told that it is about';
