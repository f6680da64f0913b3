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
    row_set_digest bytea NOT NULL CHECK (octet_length(row_set_digest) = 8),
    reason       text NOT NULL CHECK (reason IN ('erased', 'consent', 'opt-out')),
    order_id     uuid,
    withdrawn_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, digest, reason)
);
COMMENT ON TABLE federated.withdrawn_subject IS
    'Data subjects whose rows no answer to a workspace is about, also where they are imported again';
COMMENT ON COLUMN federated.withdrawn_subject.digest IS 'Hash of the subject''s hash under a key of the node that is in no database';
COMMENT ON COLUMN federated.withdrawn_subject.row_set_digest IS 'The same as federated.row_set has it';
COMMENT ON COLUMN federated.withdrawn_subject.order_id IS 'The order that withdrew the subject; NULL where the node''s own DBA did';

CREATE TRIGGER audit AFTER INSERT ON federated.node_order
    FOR EACH ROW EXECUTE FUNCTION federated._audit_order();

-- Two answers without noise whose rows differ by one subject give that one away, and a coordinator could erase somebody for
-- it: the node's own DBA decides whether such answers go on.
CREATE TABLE federated.withdrawal_acceptance (
    dataset_id  bigint PRIMARY KEY REFERENCES federated.dataset ON DELETE CASCADE,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_by name NOT NULL DEFAULT session_user
);
COMMENT ON TABLE federated.withdrawal_acceptance IS
    'Until when withdrawn data subjects were accepted: without these, answers without noise from the dataset go on';

-- Whoever withdraws somebody holds the lock: nobody is accepted whose withdrawal was not committed yet. A superuser restores
-- dumps.
CREATE FUNCTION federated._check_acceptance() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT d.name, d.owner INTO subject FROM federated.dataset AS d WHERE d.dataset_id = NEW.dataset_id;
    IF FOUND AND NOT federated._has_role(subject.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated dataset "%s"', subject.name);
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('heliosdb_federated.withdrawals', 0));
    IF TG_OP = 'UPDATE' OR NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        NEW.accepted_at := clock_timestamp();
        NEW.accepted_by := session_user;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_acceptance() IS 'Keeps what is accepted for members of the dataset''s owner role, and to what was withdrawn until now';

CREATE TRIGGER check_owner BEFORE INSERT OR UPDATE ON federated.withdrawal_acceptance
    FOR EACH ROW EXECUTE FUNCTION federated._check_acceptance();

CREATE FUNCTION federated._audit_acceptance() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    SELECT d.workspace, session_user,
           CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
           lower(TG_OP), TG_TABLE_NAME, d.name, jsonb_build_object('after', to_jsonb(NEW))
    FROM federated.dataset AS d WHERE d.dataset_id = NEW.dataset_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_acceptance() IS 'Appends to the audit log that the owner of a dataset has accepted withdrawals';

CREATE TRIGGER audit AFTER INSERT OR UPDATE ON federated.withdrawal_acceptance
    FOR EACH ROW EXECUTE FUNCTION federated._audit_acceptance();

SELECT pg_catalog.pg_extension_config_dump('federated.withdrawal_acceptance', '');
SELECT pg_catalog.pg_extension_config_dump('federated.node_order', '');
SELECT pg_catalog.pg_extension_config_dump('federated.withdrawn_subject', '');

CREATE FUNCTION federated._withdrawals(dataset_id bigint) RETURNS TABLE (digest bytea, row_set_digest bytea, is_accepted boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- As it is at most nodes: nobody has said anything, and no task waits for what that leads to.
    IF NOT EXISTS (SELECT FROM federated.withdrawn_subject) AND NOT EXISTS (SELECT FROM federated.consent) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT w.digest, w.row_set_digest,
           coalesce((d.options ->> 'plain_withdrawals')::boolean, false) OR coalesce(w.withdrawn_at <= a.accepted_at, false)
    FROM federated.dataset AS d
    CROSS JOIN LATERAL (
        SELECT s.digest, s.row_set_digest, s.withdrawn_at FROM federated.withdrawn_subject AS s WHERE s.workspace = d.workspace
        UNION ALL
        SELECT c.digest, c.row_set_digest, c.heard_at FROM federated._consent_words(d.workspace, d.options ->> 'purpose') AS c
        WHERE NOT c.is_granted
    ) AS w
    LEFT JOIN federated.withdrawal_acceptance AS a ON a.dataset_id = d.dataset_id
    WHERE d.dataset_id = _withdrawals.dataset_id;
END
$$;
COMMENT ON FUNCTION federated._withdrawals(bigint) IS
    'Those whose rows no answer from a dataset is about, erased or without their consent, and whether its DBA lets answers without noise go on without them';

CREATE FUNCTION federated._withdrawn(dataset_id bigint) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(string_agg(s.digest, ''::bytea ORDER BY s.digest), ''::bytea)
    FROM (SELECT DISTINCT w.digest FROM federated._withdrawals(_withdrawn.dataset_id) AS w) AS s);
END
$$;
COMMENT ON FUNCTION federated._withdrawn(bigint) IS 'Digests of those whose rows no answer from a dataset is about, rising';

CREATE FUNCTION @extschema@.federated_accept_withdrawals(dataset text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint := (SELECT d.dataset_id FROM federated.dataset AS d WHERE d.name = dataset);
BEGIN
    IF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated dataset "%s" does not exist', dataset);
    END IF;
    INSERT INTO federated.withdrawal_acceptance AS a (dataset_id) VALUES (found_id)
    ON CONFLICT (dataset_id) DO UPDATE SET accepted_at = excluded.accepted_at;
    RETURN (SELECT count(DISTINCT w.row_set_digest) FROM federated._withdrawals(found_id) AS w WHERE w.is_accepted);
END
$$;
COMMENT ON FUNCTION @extschema@.federated_accept_withdrawals(text) IS
    'At a node, for the owner of a dataset: lets answers without noise about its tables go on without all who were withdrawn until now, though two of them then tell of these few; returns how many these are';

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

-- What the database's encoding has no characters for no row can have; the server's own error would quote it.
CREATE FUNCTION federated._held_subject() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT convert_from(a.subject, 'UTF8') FROM pg_temp.asked_subject AS a);
EXCEPTION WHEN untranslatable_character OR character_not_in_repertoire THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._held_subject() IS 'The identifier that is held; NULL where this database cannot have such a text';

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
        ' WHERE (v.%I)::text = (SELECT federated._held_subject())', dataset, subject) INTO found;
    RETURN found;
END
$$;
COMMENT ON FUNCTION federated._subject_rows(text) IS 'How many rows of a dataset the data subject has whose identifier is held';

CREATE FUNCTION federated._erase_rows(dataset text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    subject text := (SELECT d.options ->> 'subject' FROM federated.dataset AS d
                     WHERE d.name = dataset AND d.options ->> 'erasure' = 'delete');
    deleted bigint;
BEGIN
    EXECUTE format(
        'DELETE FROM federated_dataset.%I AS v WHERE (v.%I)::text = (SELECT federated._held_subject())', dataset, subject);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION federated._erase_rows(text) IS
    'Deletes the rows of the data subject whose identifier is held, through the dataset''s view and with the rights of its owner, where the dataset''s erasure says so';

-- Through the view rows are deleted with its owner's rights, and that only by whoever is granted it here.
CREATE FUNCTION federated._let_erase(dataset text, lets boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    view record;
BEGIN
    IF NOT lets THEN
        EXECUTE format('REVOKE DELETE ON federated_dataset.%I FROM federated_probe', dataset);
        RETURN;
    END IF;
    SELECT c.oid, c.relowner, federated._find_relation(d.relation) AS base INTO view
    FROM federated.dataset AS d
    JOIN pg_class AS c ON c.relnamespace = 'federated_dataset'::regnamespace AND c.relname = d.name
    WHERE d.name = dataset;
    IF pg_relation_is_updatable(view.oid, true) & 16 = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('rows of dataset "%s" cannot be deleted through it', dataset),
            DETAIL = 'What it is shared from is neither a table nor a view that PostgreSQL updates by itself.',
            HINT = 'Leave erasure = ''suppress'', or share the table.';
    ELSIF NOT has_table_privilege(view.relowner, view.base, 'DELETE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for table %s', view.base),
            HINT = format('erasure = ''delete'' needs the right of %s, who owns the dataset''s view, to DELETE from it.',
                          view.relowner::regrole);
    END IF;
    EXECUTE format('GRANT DELETE ON federated_dataset.%I TO federated_probe', dataset);
END
$$;
COMMENT ON FUNCTION federated._let_erase(text, boolean) IS
    'Says whether orders may delete rows through a dataset''s view; raises where they never could';

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
            'SELECT hashtextextended(federated._held_subject() COLLATE %s, 0)', collation_name) INTO code;
        RETURN NEXT code;
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._subject_codes(text) IS 'The hashes by which the data subject whose identifier is held is known in rows that are read';

CREATE VIEW @extschema@.federated_node_orders AS
SELECT o.workspace, o.order_id, o.kind, o.received_at, o.deadline, o.outcome,
       federated._read_statement(o.statement) -> 'datasets' AS datasets
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
