-- Subject orders at the coordinator: what a workspace's owner asks of every node about one data subject. The subject's
-- identifier is here only sealed to the coordinator's key, which is in no database, and only until the order is over.

CREATE TABLE federated.coordinator_key (
    only_one     boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    sealing_key  bytea NOT NULL CHECK (octet_length(sealing_key) = 32),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE federated.coordinator_key IS
    'The public key of the coordinator that served this database last. Not dumped: what is sealed to it only that coordinator opens';
COMMENT ON COLUMN federated.coordinator_key.sealing_key IS 'X25519; the private key is in a file of the coordinator';

CREATE TABLE federated.subject_order (
    order_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    batch_id     uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('erase', 'grant', 'revoke', 'export')),
    workspace    text NOT NULL CHECK (workspace <> ''),
    model        text,
    terms        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(terms) = 'object' AND octet_length(terms::text) <= 4096),
    sealed       bytea CHECK (octet_length(sealed) <= 16384),
    pseudonym    bytea,
    requested_by name NOT NULL DEFAULT current_user,
    requested_at timestamptz NOT NULL DEFAULT now(),
    deadline     timestamptz NOT NULL DEFAULT now() + interval '1 month',
    state        text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'asked', 'answered', 'expired', 'dropped')),
    message      text,
    ended_at     timestamptz,
    CHECK (sealed IS NOT NULL OR state NOT IN ('requested', 'asked')),
    CHECK (sealed IS NULL OR state IN ('requested', 'asked'))
);
CREATE INDEX subject_order_open ON federated.subject_order (requested_at, order_id) WHERE state IN ('requested', 'asked');
CREATE INDEX subject_order_by_batch ON federated.subject_order (batch_id);
COMMENT ON TABLE federated.subject_order IS 'What every node of a workspace is asked about a data subject; one row a subject';
COMMENT ON COLUMN federated.subject_order.batch_id IS 'The statement that named the subject, maybe among others';
COMMENT ON COLUMN federated.subject_order.model IS 'The model that the statement named; NULL where it named none';
COMMENT ON COLUMN federated.subject_order.terms IS 'What else a node has to know, such as a purpose; never about the subject';
COMMENT ON COLUMN federated.subject_order.sealed IS 'The identifier, sealed to the coordinator''s key; NULL once the order is over';
COMMENT ON COLUMN federated.subject_order.pseudonym IS
    'HMAC-SHA-256 of the identifier under a key of the workspace that is in no database; NULL before a coordinator took the order';
COMMENT ON COLUMN federated.subject_order.deadline IS 'One month after the request (GDPR Art. 12(3)): until then nodes that are away are asked again';
COMMENT ON COLUMN federated.subject_order.state IS
    'requested; asked (its pseudonym is known, its nodes are listed); answered (none of its nodes is waited for); expired (the deadline passed before); dropped (its workspace was, before; or whom it names, sealed, could not be read)';
COMMENT ON COLUMN federated.subject_order.message IS 'What kept the coordinator from taking the order; NULL where nothing did';

CREATE TABLE federated.order_answer (
    order_id    uuid NOT NULL REFERENCES federated.subject_order ON DELETE CASCADE,
    node_id     bigint NOT NULL,
    node_name   text NOT NULL,
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'answered', 'refused', 'unregistered')),
    outcome     text,
    message     text,
    answered_at timestamptz,
    statement   bytea,
    signature   bytea,
    certificate_sha256 bytea,
    PRIMARY KEY (order_id, node_id),
    CHECK ((state = 'answered') = (statement IS NOT NULL)),
    CHECK (num_nulls(statement, signature, certificate_sha256, outcome) IN (0, 4))
);
CREATE INDEX order_answer_pending ON federated.order_answer (node_id, order_id) WHERE state = 'pending';
COMMENT ON TABLE federated.order_answer IS 'What each node of a workspace answered to a subject order';
COMMENT ON COLUMN federated.order_answer.node_id IS 'Without reference: the answer of a node outlives its registration';
COMMENT ON COLUMN federated.order_answer.state IS
    'pending (asked until it answers or the deadline is over); answered; refused (and is not asked again); unregistered (before it had answered)';
COMMENT ON COLUMN federated.order_answer.outcome IS 'The statement''s own word for what was done';
COMMENT ON COLUMN federated.order_answer.message IS 'Why there is no answer yet, or none; NULL where there is one';
COMMENT ON COLUMN federated.order_answer.statement IS 'What the node signed: JSON, its keys in order and without spaces, in UTF-8';
COMMENT ON COLUMN federated.order_answer.certificate_sha256 IS 'Of the node''s certificate, whose key signed the statement';

SELECT pg_catalog.pg_extension_config_dump('federated.coordinator_key', 'WHERE false');
SELECT pg_catalog.pg_extension_config_dump('federated.subject_order', '');
SELECT pg_catalog.pg_extension_config_dump('federated.order_answer', '');

CREATE FUNCTION federated._check_order() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint := (SELECT w.workspace_id FROM federated.workspace AS w WHERE w.name = NEW.workspace);
BEGIN
    -- Restoring a dump may bring the row before its workspace, and a superuser restores it.
    IF found_id IS NULL AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated workspace "%s" does not exist', NEW.workspace);
    END IF;
    PERFORM federated._require_workspace_owner(found_id);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_order() IS 'Keeps the orders of a workspace for members of its owner role';

-- What the audit log keeps of an order is without the subject: neither what was sealed nor its pseudonym, which could not
-- be taken out of the log again.
CREATE FUNCTION federated._audit_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject   jsonb := to_jsonb(NEW);
    workspace text := coalesce(
        subject ->> 'workspace',
        (SELECT o.workspace FROM federated.subject_order AS o WHERE o.order_id::text = subject ->> 'order_id'), '');
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (
        workspace, session_user,
        CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
        lower(TG_OP), TG_TABLE_NAME, coalesce(subject ->> 'order_id', TG_TABLE_NAME),
        jsonb_strip_nulls(jsonb_build_object('after', (
            SELECT jsonb_object_agg(k.key, subject -> k.key) FROM jsonb_object_keys(subject) AS k (key)
            WHERE k.key IN ('batch_id', 'kind', 'model', 'terms', 'requested_by', 'deadline', 'state', 'node_name', 'outcome', 'reason',
                            'certificate_sha256', 'signature', 'sealing_key')))));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_order() IS 'Appends to the audit log what was asked and answered about a data subject, without the subject';

CREATE TRIGGER audit AFTER INSERT OR UPDATE OF state ON federated.subject_order
    FOR EACH ROW EXECUTE FUNCTION federated._audit_order();
CREATE TRIGGER audit AFTER UPDATE OF state ON federated.order_answer
    FOR EACH ROW EXECUTE FUNCTION federated._audit_order();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OF sealing_key ON federated.coordinator_key
    FOR EACH ROW EXECUTE FUNCTION federated._audit_order();

CREATE TRIGGER check_owner BEFORE INSERT ON federated.subject_order
    FOR EACH ROW EXECUTE FUNCTION federated._check_order();

CREATE FUNCTION federated._end_orders() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'workspace' THEN
        UPDATE federated.subject_order AS o SET state = 'dropped', sealed = NULL, ended_at = clock_timestamp()
        WHERE o.workspace = OLD.name AND o.state IN ('requested', 'asked');
    ELSE
        UPDATE federated.order_answer AS a SET state = 'unregistered', answered_at = clock_timestamp(),
            message = 'the node was unregistered before it had answered'
        WHERE a.node_id = OLD.node_id AND a.state = 'pending';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._end_orders() IS
    'Ends what can no longer be asked: the orders of a workspace that is dropped, with what was sealed, and the questions to a node that is unregistered';

CREATE TRIGGER end_orders AFTER DELETE ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._end_orders();
CREATE TRIGGER end_orders AFTER DELETE ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._end_orders();

-- A node that is registered while an order is open is asked too; one that comes later is not: then nobody knows the
-- identifier any more.
CREATE FUNCTION federated._take_order(order_id uuid, pseudonym bytea) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken_workspace text;
BEGIN
    UPDATE federated.subject_order AS o SET state = 'asked', pseudonym = _take_order.pseudonym, message = NULL
    WHERE o.order_id = _take_order.order_id AND o.state = 'requested'
    RETURNING o.workspace INTO taken_workspace;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO federated.order_answer (order_id, node_id, node_name)
    SELECT _take_order.order_id, n.node_id, n.name
    FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id)
    WHERE w.name = taken_workspace;
    RETURN true;
END
$$;
COMMENT ON FUNCTION federated._take_order(uuid, bytea) IS 'Lists the nodes that an order is for; false where it is taken or over already';

CREATE FUNCTION federated._may_settle_orders() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM federated.subject_order AS o
        WHERE o.state IN ('requested', 'asked') AND (
            o.deadline <= clock_timestamp()
            OR o.state = 'asked' AND NOT EXISTS (
                SELECT FROM federated.order_answer AS a WHERE a.order_id = o.order_id AND a.state = 'pending')
            OR o.state = 'asked' AND EXISTS (
                SELECT FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id)
                WHERE w.name = o.workspace AND NOT EXISTS (
                    SELECT FROM federated.order_answer AS a WHERE a.order_id = o.order_id AND a.node_id = n.node_id))))
$$;
COMMENT ON FUNCTION federated._may_settle_orders() IS 'Whether federated._settle_orders would do anything';

CREATE FUNCTION federated._settle_orders() RETURNS TABLE (order_id uuid, state text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.order_answer (order_id, node_id, node_name)
    SELECT o.order_id, n.node_id, n.name
    FROM federated.subject_order AS o
    JOIN federated.workspace AS w ON w.name = o.workspace
    JOIN federated.node AS n USING (workspace_id)
    WHERE o.state = 'asked' AND o.deadline > clock_timestamp()
    ON CONFLICT ON CONSTRAINT order_answer_pkey DO NOTHING;
    RETURN QUERY UPDATE federated.subject_order AS o
    SET state = CASE WHEN o.state = 'asked' AND NOT EXISTS (
                    SELECT FROM federated.order_answer AS a WHERE a.order_id = o.order_id AND a.state = 'pending')
                THEN 'answered' ELSE 'expired' END,
        sealed = NULL, ended_at = clock_timestamp()
    WHERE o.state IN ('requested', 'asked') AND (
        o.deadline <= clock_timestamp()
        OR o.state = 'asked' AND NOT EXISTS (
            SELECT FROM federated.order_answer AS a WHERE a.order_id = o.order_id AND a.state = 'pending'))
    RETURNING o.order_id, o.state;
END
$$;
COMMENT ON FUNCTION federated._settle_orders() IS
    'Has nodes that were registered meanwhile asked too; ends orders that all nodes have answered, or whose deadline is over, and destroys what was sealed of them';

-- What a node says may be no JSON that this database can hold; nobody's view fails for it.
CREATE FUNCTION federated._read_statement(statement bytea) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(statement, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._read_statement(bytea) IS 'A node''s statement as jsonb; NULL where this database cannot hold it as such';

CREATE VIEW federated.unasked_node AS
SELECT n.node_id, n.failure_reason AS reason FROM federated.node AS n WHERE n.status = 'failed';
COMMENT ON VIEW federated.unasked_node IS 'Nodes that the coordinator does not even ask, since it knows that they are away, and why';
COMMENT ON COLUMN federated.unasked_node.reason IS 'As the coordinator found it last';

CREATE VIEW @extschema@.federated_orders AS
SELECT o.batch_id, o.order_id, o.kind, o.workspace, o.model AS model_name, encode(o.pseudonym, 'hex') AS subject_hash, o.terms,
       o.requested_by, o.requested_at, o.deadline, o.state, o.ended_at, a.node_name, a.state AS node_state, a.outcome,
       coalesce(a.message, w.reason, o.message) AS message, a.answered_at, federated._read_statement(a.statement) AS statement
FROM federated.subject_order AS o
LEFT JOIN federated.order_answer AS a USING (order_id)
LEFT JOIN federated.unasked_node AS w ON w.node_id = a.node_id AND a.state = 'pending';
COMMENT ON VIEW @extschema@.federated_orders IS
    'At the coordinator: what the nodes were asked about data subjects, and what each answered; a row a subject and node';
COMMENT ON COLUMN @extschema@.federated_orders.batch_id IS 'The statement that named the subject, maybe among others';
COMMENT ON COLUMN @extschema@.federated_orders.order_id IS 'The order: one for each subject named';
COMMENT ON COLUMN @extschema@.federated_orders.kind IS 'erase, grant, revoke or export';
COMMENT ON COLUMN @extschema@.federated_orders.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_orders.model_name IS 'The model that the statement named; NULL where it named none';
COMMENT ON COLUMN @extschema@.federated_orders.subject_hash IS
    'The subject''s pseudonym in the workspace: HMAC-SHA-256 under a key that is in no database; NULL before a coordinator took the order';
COMMENT ON COLUMN @extschema@.federated_orders.terms IS 'What else the nodes were told, such as a purpose';
COMMENT ON COLUMN @extschema@.federated_orders.requested_by IS 'Who asked';
COMMENT ON COLUMN @extschema@.federated_orders.requested_at IS 'When';
COMMENT ON COLUMN @extschema@.federated_orders.deadline IS 'Until when nodes that are away are asked again: one month (GDPR Art. 12(3))';
COMMENT ON COLUMN @extschema@.federated_orders.state IS
    'requested; asked; answered (none of its nodes is waited for); expired (the deadline passed before); dropped (its workspace was, before; or whom it names, sealed, could not be read)';
COMMENT ON COLUMN @extschema@.federated_orders.ended_at IS 'When it was over, and the identifier destroyed; NULL until then';
COMMENT ON COLUMN @extschema@.federated_orders.node_name IS 'The node; NULL before a coordinator took the order, and where the workspace has no node';
COMMENT ON COLUMN @extschema@.federated_orders.node_state IS 'pending; answered; refused (and not asked again); unregistered (before it had answered)';
COMMENT ON COLUMN @extschema@.federated_orders.outcome IS 'The node''s own word for what it did; NULL before it answered';
COMMENT ON COLUMN @extschema@.federated_orders.message IS 'Why there is no answer; NULL where there is one';
COMMENT ON COLUMN @extschema@.federated_orders.answered_at IS 'When the answer was recorded';
COMMENT ON COLUMN @extschema@.federated_orders.statement IS 'What the node signed; NULL also where this database cannot hold that as jsonb';
