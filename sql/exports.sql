-- Exports at the coordinator: what nodes hold about a data subject passes through sealed, and is opened and written into a
-- file by the database server alone. Which subject it is, is in the order (orders.sql).

CREATE TABLE federated.export (
    order_id   uuid PRIMARY KEY REFERENCES federated.subject_order ON DELETE CASCADE,
    path       text NOT NULL CHECK (path <> ''),
    format     text NOT NULL CHECK (format IN ('csv', 'json')),
    salt       bytea NOT NULL CHECK (octet_length(salt) = 16),
    recipient  bytea NOT NULL CHECK (octet_length(recipient) = 32),
    state      text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'blocked', 'written', 'failed')),
    message    text,
    heading    jsonb CHECK (jsonb_typeof(heading) = 'object'),
    size_bytes bigint,
    sha256     bytea,
    ended_at   timestamptz,
    CHECK ((state = 'written') = (sha256 IS NOT NULL)),
    CHECK (num_nulls(size_bytes, sha256) <> 1)
);
CREATE INDEX export_open ON federated.export (order_id) WHERE state IN ('waiting', 'blocked');
COMMENT ON TABLE federated.export IS 'What EXPORT FEDERATED DATA is to write, and has written; whether a file is still there is not known here';
COMMENT ON COLUMN federated.export.path IS 'On the database server, as it was written in the statement';
COMMENT ON COLUMN federated.export.salt IS 'From it, and from a secret in the server''s data directory, the key follows that opens what nodes sent';
COMMENT ON COLUMN federated.export.recipient IS 'The public key of that (X25519), to which nodes seal';
COMMENT ON COLUMN federated.export.state IS
    'waiting (for nodes, or for its turn); blocked (all is here and cannot be written: it is tried again until a month after the deadline); written; failed (given up, and what nodes sent is destroyed)';
COMMENT ON COLUMN federated.export.message IS 'Why it is blocked or has failed';
COMMENT ON COLUMN federated.export.heading IS
    'What the file says besides rows, as it was when the order was over: so the file is the same to the byte however often it is tried';
COMMENT ON COLUMN federated.export.sha256 IS 'Of the whole file';

CREATE TABLE federated.export_part (
    order_id uuid NOT NULL REFERENCES federated.export ON DELETE CASCADE,
    node_id  bigint NOT NULL,
    content  bytea NOT NULL CHECK (octet_length(content) <= 16777472),
    PRIMARY KEY (order_id, node_id)
);
ALTER TABLE federated.export_part ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE federated.export_part IS
    'What each node sent for an export, sealed to its requester, until it is in the file. Not dumped: another server could not open it';

SELECT pg_catalog.pg_extension_config_dump('federated.export', '');
SELECT pg_catalog.pg_extension_config_dump('federated.export_part', 'WHERE false');

-- Who may have the server write a file is asked here too: the row, not the statement, is what makes it write one.
CREATE FUNCTION federated._check_export() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A superuser may be restoring a dump.
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) AND NOT (
        pg_has_role(current_user, 'pg_write_server_files', 'USAGE') AND EXISTS (
            SELECT FROM federated.subject_order AS o
            WHERE o.order_id = NEW.order_id AND o.kind = 'export' AND o.requested_by = current_user)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to export the data of a subject';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_export() IS 'Lets what is to be written be named by who placed the order and may write files on the server alone';

CREATE TRIGGER check_owner BEFORE INSERT ON federated.export
    FOR EACH ROW EXECUTE FUNCTION federated._check_export();

-- The path is left out: people name files after people.
CREATE FUNCTION federated._audit_export() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    SELECT o.workspace, session_user,
           CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
           lower(TG_OP), 'export', NEW.order_id,
           jsonb_strip_nulls(jsonb_build_object('state', NEW.state, 'format', NEW.format, 'recipient', encode(NEW.recipient, 'hex'),
               'size_bytes', NEW.size_bytes, 'sha256', encode(NEW.sha256, 'hex')))
    FROM federated.subject_order AS o WHERE o.order_id = NEW.order_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_export() IS 'Appends to the audit log that an export was asked for, and what became of it';

CREATE TRIGGER audit AFTER INSERT ON federated.export
    FOR EACH ROW EXECUTE FUNCTION federated._audit_export();
CREATE TRIGGER audit_end AFTER UPDATE OF state ON federated.export
    FOR EACH ROW WHEN (OLD.state <> NEW.state AND NEW.state IN ('written', 'failed')) EXECUTE FUNCTION federated._audit_export();

CREATE FUNCTION federated._participation_in(workspace text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.node, t.first_at, t.run), '[]')
    FROM (
        SELECT n.name AS node, m.name AS model, p.run_id AS run, count(DISTINCT p.round_number) AS rounds,
               min(d.started_at) AS first_at, max(d.finished_at) AS last_at,
               (SELECT coalesce(jsonb_agg(v.version ORDER BY v.version), '[]') FROM federated.version AS v WHERE v.run_id = p.run_id) AS versions
        FROM federated.participation AS p
        JOIN federated.node AS n USING (node_id)
        JOIN federated.workspace AS w USING (workspace_id)
        JOIN federated.round AS d USING (run_id, round_number)
        JOIN federated.run AS r USING (run_id)
        JOIN federated.model AS m ON m.model_id = r.model_id
        WHERE w.name = _participation_in.workspace AND p.outcome = 'received'
        GROUP BY n.name, m.name, p.run_id
    ) AS t
$$;
COMMENT ON FUNCTION federated._participation_in(text) IS 'In which runs the nodes of a workspace took part: models, rounds and versions';

CREATE FUNCTION federated._export_heading(order_id uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'export', jsonb_build_object(
            'order', o.order_id, 'workspace', o.workspace, 'pseudonym', encode(o.pseudonym, 'hex'), 'requested_by', o.requested_by,
            'requested_at', o.requested_at, 'ended', o.state, 'composed_at', clock_timestamp()),
        'nodes', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'node_id', a.node_id, 'node', a.node_name, 'state', a.state, 'outcome', a.outcome, 'message', a.message,
                'answered_at', a.answered_at, 'statement', convert_from(a.statement, 'UTF8'), 'signature', encode(a.signature, 'hex'),
                'certificate_sha256', encode(a.certificate_sha256, 'hex')) ORDER BY a.node_name, a.node_id), '[]')
            FROM federated.order_answer AS a WHERE a.order_id = o.order_id),
        'participation', federated._participation_in(o.workspace),
        'orders', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'kind', s.kind, 'model', s.model, 'terms', CASE s.kind WHEN 'export' THEN '{}' ELSE s.terms END,
                'requested_at', s.requested_at, 'state', s.state,
                'answers', (
                    SELECT coalesce(jsonb_agg(jsonb_build_object('node', b.node_name, 'state', b.state, 'outcome', b.outcome,
                        'answered_at', b.answered_at) ORDER BY b.node_name, b.node_id), '[]')
                    FROM federated.order_answer AS b WHERE b.order_id = s.order_id)) ORDER BY s.requested_at, s.order_id), '[]')
            FROM federated.subject_order AS s
            WHERE s.workspace = o.workspace AND s.pseudonym = o.pseudonym AND s.order_id <> o.order_id))
    FROM federated.subject_order AS o WHERE o.order_id = _export_heading.order_id
$$;
COMMENT ON FUNCTION federated._export_heading(uuid) IS
    'What a file says besides rows: the order, each node''s answer, runs, and the subject''s other orders (consent and erasure among them)';

-- Runs in the server because the server has the key, and may write files: the coordinator's daemon has neither.
CREATE FUNCTION federated._write_export(order_id uuid) RETURNS text
LANGUAGE plpython3u VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.write_export(plpy, order_id, "@VERSION@")
$$;
COMMENT ON FUNCTION federated._write_export(uuid) IS
    'Takes an export whose order is over one step further: fixes what its file is to say, then writes that; returns its state';

CREATE VIEW @extschema@.federated_exports AS
SELECT e.order_id, o.workspace, encode(o.pseudonym, 'hex') AS pseudonym, e.path, e.format,
       CASE WHEN e.state <> 'waiting' THEN e.state WHEN o.state = 'dropped' THEN 'failed' ELSE o.state END AS state,
       coalesce(e.message, o.message) AS message,
       n.nodes_answered, n.nodes_refused, n.nodes_pending, o.requested_by, o.requested_at, o.deadline,
       CASE WHEN e.state = 'written' THEN e.ended_at END AS written_at, e.size_bytes, encode(e.sha256, 'hex') AS sha256
FROM federated.export AS e JOIN federated.subject_order AS o USING (order_id)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.state = 'answered' AND a.outcome <> 'refused') AS nodes_answered,
           count(*) FILTER (WHERE a.state = 'refused' OR a.outcome = 'refused') AS nodes_refused,
           count(*) FILTER (WHERE a.state IN ('pending', 'unregistered')) AS nodes_pending
    FROM federated.order_answer AS a WHERE a.order_id = e.order_id
) AS n;
COMMENT ON VIEW @extschema@.federated_exports IS 'The exports that EXPORT FEDERATED DATA asked for, and how far each has come';
COMMENT ON COLUMN @extschema@.federated_exports.order_id IS 'The order, as nodes and logs name it';
COMMENT ON COLUMN @extschema@.federated_exports.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_exports.pseudonym IS
    'HMAC-SHA-256 of the subject''s identifier under a key of the workspace that is in no database; NULL before a coordinator took the order';
COMMENT ON COLUMN @extschema@.federated_exports.path IS 'On the database server, as it was written in the statement';
COMMENT ON COLUMN @extschema@.federated_exports.format IS 'json or csv';
COMMENT ON COLUMN @extschema@.federated_exports.state IS
    'requested; asked (nodes are); answered or expired (the file is about to be written); blocked (it cannot be, and is tried again); written; failed';
COMMENT ON COLUMN @extschema@.federated_exports.message IS 'Why it is blocked, has failed or was not taken';
COMMENT ON COLUMN @extschema@.federated_exports.nodes_answered IS 'How many nodes have said what they hold, nothing also being an answer';
COMMENT ON COLUMN @extschema@.federated_exports.nodes_refused IS 'How many do not say it; the file names them';
COMMENT ON COLUMN @extschema@.federated_exports.nodes_pending IS 'How many have not answered; the file names them too';
COMMENT ON COLUMN @extschema@.federated_exports.requested_by IS 'The role that typed the statement';
COMMENT ON COLUMN @extschema@.federated_exports.requested_at IS 'When the statement''s transaction began';
COMMENT ON COLUMN @extschema@.federated_exports.deadline IS 'Until when nodes that are away are waited for';
COMMENT ON COLUMN @extschema@.federated_exports.written_at IS 'When the file was written; NULL before';
COMMENT ON COLUMN @extschema@.federated_exports.size_bytes IS 'Of the file';
COMMENT ON COLUMN @extschema@.federated_exports.sha256 IS 'Of the file';
