-- Who changed what. Triggers append; at COMMIT each entry is linked to the one before it by a hash.

CREATE TABLE federated.audit (
    audit_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    session_role   name NOT NULL,
    acting_role    name NOT NULL,
    action         text NOT NULL,
    object_kind    text NOT NULL,
    object_name    text NOT NULL,
    details        jsonb NOT NULL DEFAULT '{}',
    workspace      text NOT NULL,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    origin         uuid,
    chain_position bigint CHECK (chain_position > 0),
    previous_hash  bytea,
    hash           bytea,
    UNIQUE (workspace, origin, chain_position),
    CHECK (num_nulls(origin, chain_position, hash) IN (0, 3))
);
CREATE INDEX audit_to_link ON federated.audit (transaction_id) WHERE chain_position IS NULL;
COMMENT ON TABLE federated.audit IS
    'Who changed what: one row a change, appended by triggers only and linked into one chain a workspace at COMMIT; restoring a dump appends too';
COMMENT ON COLUMN federated.audit.transaction_id IS 'The transaction of the change, in the database where it was made';
COMMENT ON COLUMN federated.audit.workspace IS
    'By name as it was at the time, and without reference: the chain of a dropped workspace stays, and a workspace of the same name goes on from it; empty where the change belongs to none';
COMMENT ON COLUMN federated.audit.session_role IS 'Who logged in';
COMMENT ON COLUMN federated.audit.acting_role IS 'The role that was set, where SET ROLE had been used';
COMMENT ON COLUMN federated.audit.origin IS 'The database in which the entry was linked: a restored dump brings its own chains along';
COMMENT ON COLUMN federated.audit.chain_position IS '1 for the first entry of a chain; NULL only inside the transaction that appends the entry';
COMMENT ON COLUMN federated.audit.previous_hash IS 'The hash of the entry before; NULL for the first';
COMMENT ON COLUMN federated.audit.hash IS 'SHA-256 of the entry, as federated._audit_hash writes it';

CREATE TABLE federated.audit_origin (
    only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    origin     uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE federated.audit_origin IS
    'Names the chains that this database links. Not dumped: a database that a dump is restored into is another origin';
INSERT INTO federated.audit_origin DEFAULT VALUES;

CREATE TABLE federated.audit_head (
    workspace      text NOT NULL,
    origin         uuid NOT NULL,
    chain_position bigint NOT NULL CHECK (chain_position >= 0),
    hash           bytea,
    adopted        boolean NOT NULL DEFAULT false,
    PRIMARY KEY (workspace, origin)
);
COMMENT ON TABLE federated.audit_head IS 'The last entry of each chain, so that one that was cut off at its end is missed';
COMMENT ON COLUMN federated.audit_head.adopted IS
    'Whether an entry of another chain names this head: so it is done with a chain that a restored dump brought along';

CREATE FUNCTION federated._audited(subject jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(subject)
    WHERE subject ? 'ledger_id' AND key NOT IN ('clipping_norm', 'recorded_at')
       OR subject ? 'checkpoint_id' AND key <> 'created_at'
       OR subject ? 'token_sha256' AND key IN ('role_name', 'created_by', 'expires_at', 'revoked_at', 'revoked_by')
       OR subject ? 'experiment_id' AND key IN ('experiment_id', 'share', 'calls', 'outcomes', 'outcome_sum')
       OR subject ? 'stub_id' AND key NOT IN ('statement', 'signature', 'certificate', 'deleted_at')
       OR key IN ('name', 'workspace', 'workspace_id', 'model_id', 'owner', 'options', 'overrides', 'policy', 'status',
                  'stop_requested', 'certificate', 'relation', 'columns', 'types', 'predicate', 'version', 'is_current',
                  'language', 'body_sha256', 'model_name', 'wanted', 'auto', 'resumed_from', 'resumed_round',
                  'requirement', 'valid_until', 'statement_sha256', 'regulation', 'findings_sha256', 'conditions')
$$;
COMMENT ON FUNCTION federated._audited(jsonb) IS
    'The part of a row that the audit log keeps: what people decide, not what runs measure; of a ledger''s line all that it charges';

-- A run that goes with its model finds its workspace in its own policy.
CREATE FUNCTION federated._audited_workspace(object_kind text, subject jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(
        subject ->> CASE object_kind WHEN 'workspace' THEN 'name' ELSE 'workspace' END,
        (SELECT w.name FROM federated.workspace AS w
         WHERE w.workspace_id = coalesce(
             (subject ->> 'workspace_id')::bigint,
             (SELECT m.workspace_id FROM federated.model AS m WHERE m.model_id = (subject ->> 'model_id')::bigint))),
        subject -> 'policy' ->> 'workspace',
        '')
$$;
COMMENT ON FUNCTION federated._audited_workspace(text, jsonb) IS 'The name of the workspace that a row belongs to; empty where there is none';

-- The acting role is the one under SET ROLE where there is one: inside a DEFINER function current_user is its owner.
CREATE FUNCTION federated._audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row_after  jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    row_before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    subject    jsonb := coalesce(row_after, row_before);
    workspace  text := federated._audited_workspace(TG_TABLE_NAME, subject);
BEGIN
    -- What goes with its model is in the entry of that.
    IF TG_TABLE_NAME IN ('version', 'subscribe_grant', 'checkpoint', 'attestation', 'compliance_record') AND workspace = '' THEN
        RETURN NULL;
    END IF;
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (
        workspace,
        session_user,
        CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
        lower(TG_OP), TG_TABLE_NAME, coalesce(subject ->> 'name', subject ->> 'run_id', subject ->> 'requirement', subject ->> 'regulation',
            subject ->> 'token_id'),
        jsonb_strip_nulls(jsonb_build_object(
            'before', federated._audited(row_before), 'after', federated._audited(row_after)))
    );
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit() IS 'Appends to the audit log';

CREATE FUNCTION federated._audit_hash(
    entry federated.audit, origin uuid, chain_position bigint, previous_hash bytea
) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(string_agg(
        convert_to(octet_length(convert_to(field, 'UTF8')) || ':', 'UTF8') || convert_to(field, 'UTF8') || ','::bytea,
        ''::bytea ORDER BY place))
    FROM unnest(ARRAY[
        origin::text, entry.workspace, chain_position::text, coalesce(encode(previous_hash, 'hex'), ''),
        entry.audit_id::text, to_char(entry.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        entry.transaction_id::text, entry.session_role::text, entry.acting_role::text, entry.action,
        entry.object_kind, entry.object_name, entry.details::text
    ]) WITH ORDINALITY AS f (field, place)
$$;
COMMENT ON FUNCTION federated._audit_hash(federated.audit, uuid, bigint, bytea) IS
    'SHA-256 over the fields of an entry, each written as its length in bytes, a colon, its UTF-8 text and a comma: origin, workspace, chain_position, previous_hash (hexadecimal, empty for the first), audit_id, recorded_at (UTC, as 2026-01-31T23:59:59.123456Z), transaction_id, session_role, acting_role, action, object_kind, object_name, details (as jsonb prints it)';

-- The heads are locked in the order of their names, so that two transactions never wait for each other; from here on
-- one transaction alone links into these chains until it ends, and it ends next.
CREATE FUNCTION federated._lock_audit_heads() RETURNS SETOF federated.audit_head
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO federated.audit_head AS h (workspace, origin, chain_position)
    SELECT DISTINCT a.workspace, o.origin, 0
    FROM federated.audit AS a CROSS JOIN federated.audit_origin AS o
    WHERE a.transaction_id = pg_current_xact_id() AND a.chain_position IS NULL
    ORDER BY a.workspace
    ON CONFLICT (workspace, origin) DO UPDATE SET chain_position = h.chain_position
    RETURNING h.*
$$;
COMMENT ON FUNCTION federated._lock_audit_heads() IS 'The chains that this transaction is to add to, locked until it ends';

CREATE FUNCTION federated._adopt_audit_heads(workspace text, origin uuid) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH adopted AS (
        UPDATE federated.audit_head AS h SET adopted = true
        WHERE h.workspace = _adopt_audit_heads.workspace AND h.origin <> _adopt_audit_heads.origin AND NOT h.adopted
        RETURNING h.*
    )
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    SELECT a.workspace, session_user, session_user, 'adopt', 'audit', a.workspace, jsonb_build_object(
               'origin', a.origin, 'entries', a.chain_position, 'head_hash', encode(a.hash, 'hex'))
    FROM adopted AS a
$$;
COMMENT ON FUNCTION federated._adopt_audit_heads(text, uuid) IS
    'Appends an entry for each chain that a restored dump brought along, with its head: none can be taken away unseen';

CREATE FUNCTION federated._link_audit_entries() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head     record;
    entry    record;
    place    bigint;
    previous bytea;
BEGIN
    FOR head IN SELECT * FROM federated._lock_audit_heads() LOOP
        PERFORM federated._adopt_audit_heads(head.workspace, head.origin);
        place := head.chain_position;
        previous := head.hash;
        FOR entry IN
            SELECT a.audit_id FROM federated.audit AS a
            WHERE a.transaction_id = pg_current_xact_id() AND a.chain_position IS NULL AND a.workspace = head.workspace
            ORDER BY a.recorded_at, a.audit_id
        LOOP
            place := place + 1;
            UPDATE federated.audit AS a
            SET origin = head.origin, chain_position = place, previous_hash = previous,
                hash = federated._audit_hash(a, head.origin, place, previous)
            WHERE a.audit_id = entry.audit_id
            RETURNING a.hash INTO previous;
        END LOOP;
        UPDATE federated.audit_head AS h SET chain_position = place, hash = previous
        WHERE h.workspace = head.workspace AND h.origin = head.origin;
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._link_audit_entries() IS
    'Links what this transaction has appended to the ends of its chains, in the order in which it was recorded';

-- The first entry's trigger links all of its transaction; the others find nothing left to do. Entries that come with
-- their hash were linked elsewhere: only the table's owner can bring them, as restoring a dump does.
CREATE FUNCTION federated._link_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.hash IS NULL AND EXISTS (
        SELECT FROM federated.audit AS a WHERE a.audit_id = NEW.audit_id AND a.chain_position IS NULL) THEN
        PERFORM federated._link_audit_entries();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._link_audit() IS 'Links the entries of a transaction when it commits';

CREATE CONSTRAINT TRIGGER link_audit AFTER INSERT ON federated.audit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION federated._link_audit();

-- A cascade would delete the nodes when their workspace's name can no longer be read.
CREATE FUNCTION federated._delete_nodes_first() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.node AS n WHERE n.workspace_id = OLD.workspace_id;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._delete_nodes_first() IS 'Deletes the nodes of a workspace while the audit log can still name it';

CREATE FUNCTION federated._delete_tags_first() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.tag AS t WHERE t.model_id = OLD.model_id;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._delete_tags_first() IS 'Deletes the tags of a model while the audit log can still name their workspace';

CREATE TRIGGER delete_tags_first BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._delete_tags_first();
CREATE TRIGGER delete_nodes_first BEFORE DELETE ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._delete_nodes_first();

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, owner, options ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, workspace_id, options, status, certificate ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, workspace_id, owner, options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF status, stop_requested, overrides, options, policy ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE
    OF name, workspace, owner, relation, columns, types, predicate, options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.retention_stub
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

-- Lines are made in each round; what is to be seen is what becomes of them but being charged.
CREATE TRIGGER audit AFTER DELETE OR UPDATE OF epsilon_basic, epsilon_tight ON federated.ledger
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

-- The proof is an entry that only the trigger above can write, and that is not linked yet.
CREATE FUNCTION federated._took_back(workspace text, node_name text, ledger_id bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM federated.audit AS a
        WHERE a.transaction_id = pg_current_xact_id_if_assigned() AND a.chain_position IS NULL
          AND a.workspace = _took_back.workspace AND a.object_kind = 'ledger' AND a.action = 'delete'
          AND a.details -> 'before' ->> 'node_name' = _took_back.node_name
          AND (a.details -> 'before' ->> 'ledger_id')::bigint < _took_back.ledger_id)
$$;
COMMENT ON FUNCTION federated._took_back(text, text, bigint) IS
    'Whether this transaction took back a reservation that stood before a line in its node''s ledger';

CREATE FUNCTION federated._audit_faults(workspace text)
RETURNS TABLE (origin uuid, broken_at bigint, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH stubs AS (
        SELECT s.* FROM federated.retention_stub AS s WHERE s.name = 'audit' AND s.workspace = _audit_faults.workspace
    ), linked AS (
        SELECT a.origin, a.chain_position, a.previous_hash, a.hash,
               -- Of an entry that was emptied for its age the hash is all there is: its stub has it too.
               CASE WHEN s.stub_id IS NULL THEN federated._audit_hash(a, a.origin, a.chain_position, a.previous_hash)
                    WHEN (a.session_role, a.acting_role, a.object_name, a.details) = ('', '', '', '{}') THEN a.hash END AS computed,
               row_number() OVER chain AS place, lag(a.hash) OVER chain AS before
        FROM federated.audit AS a
        LEFT JOIN stubs AS s ON s.origin = a.origin AND a.chain_position BETWEEN s.first_position AND s.last_position
        WHERE a.workspace = _audit_faults.workspace AND a.chain_position IS NOT NULL
        WINDOW chain AS (PARTITION BY a.origin ORDER BY a.chain_position)
    ), ends AS (
        SELECT l.origin, count(*) AS entries, (array_agg(l.hash ORDER BY l.chain_position DESC))[1] AS hash
        FROM linked AS l GROUP BY l.origin
    ), heads AS (
        SELECT h.* FROM federated.audit_head AS h WHERE h.workspace = _audit_faults.workspace
    )
    SELECT l.origin, l.place, CASE
               WHEN l.chain_position <> l.place THEN format('entry %s is missing', l.place)
               WHEN l.hash IS DISTINCT FROM l.computed THEN format('entry %s is not what was recorded', l.place)
               ELSE format('entry %s does not follow the one before it', l.place) END
    FROM linked AS l
    WHERE l.chain_position <> l.place OR l.hash IS DISTINCT FROM l.computed OR l.previous_hash IS DISTINCT FROM l.before
    UNION ALL
    SELECT coalesce(e.origin, h.origin), least(coalesce(e.entries, 0), h.chain_position) + 1, CASE
               WHEN h.origin IS NULL THEN 'the head of the chain is missing'
               WHEN coalesce(e.entries, 0) < h.chain_position THEN
                   format('%s entries are missing at the end', h.chain_position - coalesce(e.entries, 0))
               WHEN e.entries > h.chain_position THEN 'the chain goes on beyond its head'
               ELSE 'the last entry is not the one that the head names' END
    FROM ends AS e FULL JOIN heads AS h USING (origin)
    WHERE (e.entries, e.hash) IS DISTINCT FROM (h.chain_position, h.hash)
    UNION ALL
    SELECT s.origin, s.first_position, format('entries %s to %s are not those that were emptied for their age', s.first_position, s.last_position)
    FROM stubs AS s
    WHERE s.content_sha256 IS DISTINCT FROM (
        SELECT sha256(string_agg(l.hash, ''::bytea ORDER BY l.chain_position)) FROM linked AS l
        WHERE l.origin = s.origin AND l.chain_position BETWEEN s.first_position AND s.last_position)
    UNION ALL
    SELECT NULL, NULL, format('entry %s stands outside the chain', a.audit_id)
    FROM federated.audit AS a
    WHERE a.workspace = _audit_faults.workspace AND a.chain_position IS NULL
      AND a.transaction_id IS DISTINCT FROM pg_current_xact_id_if_assigned()
    UNION ALL
    SELECT a.origin, a.chain_position, 'the chain that this entry adopted is not there as it was'
    FROM federated.audit AS a
    WHERE a.workspace = _audit_faults.workspace AND a.action = 'adopt' AND a.object_kind = 'audit' AND a.details <> '{}'
      AND NOT EXISTS (
          SELECT FROM heads AS h
          WHERE h.origin::text = a.details ->> 'origin' AND h.chain_position::text = a.details ->> 'entries'
            AND encode(h.hash, 'hex') = a.details ->> 'head_hash')
    UNION ALL
    SELECT NULL, NULL, 'the workspace exists, but the log does not say how it came to be'
    FROM federated.workspace AS w
    WHERE w.name = _audit_faults.workspace AND NOT EXISTS (SELECT FROM stubs)
      AND NOT EXISTS (
          SELECT FROM federated.audit AS a
          WHERE a.workspace = w.name AND a.object_kind = 'workspace'
            AND a.details -> 'after' ->> 'workspace_id' = w.workspace_id::text)
$$;
COMMENT ON FUNCTION federated._audit_faults(text) IS 'Where the chains of a workspace do not hold, and why';

CREATE FUNCTION @extschema@.federated_audit_verify(
    workspace text,
    OUT is_intact boolean, OUT entries bigint, OUT head_hash text, OUT broken_at bigint, OUT reason text,
    OUT signed_entries bigint, OUT witnessed_entries bigint
) RETURNS record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own uuid := (SELECT o.origin FROM federated.audit_origin AS o);
BEGIN
    IF workspace IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'the name of a federated workspace must not be null';
    END IF;
    IF NOT EXISTS (SELECT FROM federated.audit_head AS h WHERE h.workspace = federated_audit_verify.workspace)
       AND NOT EXISTS (SELECT FROM federated.audit AS a WHERE a.workspace = federated_audit_verify.workspace)
       AND NOT EXISTS (SELECT FROM federated.workspace AS w WHERE w.name = federated_audit_verify.workspace) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated workspace "%s" does not exist, and the audit log has no entry of it', workspace);
    END IF;
    SELECT count(*) INTO entries
    FROM federated.audit AS a WHERE a.workspace = federated_audit_verify.workspace AND a.chain_position IS NOT NULL;
    SELECT encode(h.hash, 'hex') INTO head_hash
    FROM federated.audit_head AS h WHERE h.workspace = federated_audit_verify.workspace AND h.origin = own;
    SELECT f.broken_at, f.reason || CASE WHEN f.origin <> own THEN ', in the chain that a dump of another database brought along'
                                         ELSE '' END
    INTO broken_at, reason
    FROM (
        SELECT c.*, 1 AS place FROM federated._audit_faults(federated_audit_verify.workspace) AS c
        UNION ALL
        SELECT t.*, 2 FROM federated._tree_faults(federated_audit_verify.workspace) AS t
    ) AS f
    ORDER BY f.origin <> own NULLS LAST, f.broken_at NULLS LAST, f.place LIMIT 1;
    is_intact := NOT FOUND;
    SELECT coalesce(max(h.tree_size), 0) INTO signed_entries
    FROM federated.tree_head AS h WHERE h.workspace = federated_audit_verify.workspace AND h.origin = own;
    SELECT coalesce(max(s.tree_size), 0) INTO witnessed_entries
    FROM federated.cosignature AS s WHERE s.workspace = federated_audit_verify.workspace AND s.origin = own;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_audit_verify(text) IS
    'Whether the audit log of a workspace is as it was written. Found are entries that were changed, removed (at the end too), inserted or put in another order; broken_at is the position of the first such entry (NULL for none, and for an entry outside the chain), head_hash the hash of the last entry linked in this database (NULL before any). The chain is also compared with the heads that the coordinator has signed (over the first signed_entries), with the nodes'' cosignatures under them (witnessed_entries), and with what nodes say that they hold. Not found here is what a superuser or the owner of the tables does who writes the chain and its heads anew; the nodes find it when they are shown the next head, and heliosdb audit verify against heads that nodes hold. Not found at all are changes of entries after the last head that is held elsewhere, and untrue entries';

CREATE VIEW @extschema@.federated_audit_log AS
SELECT a.workspace, a.chain_position, a.recorded_at, a.session_role::text AS session_role,
       a.acting_role::text AS acting_role, a.action, a.object_kind, a.object_name, a.details,
       a.transaction_id::text AS transaction_id, a.origin, encode(a.previous_hash, 'hex') AS previous_hash,
       encode(a.hash, 'hex') AS hash
FROM federated.audit AS a;
COMMENT ON VIEW @extschema@.federated_audit_log IS
    'Who changed what in which workspace; federated_audit_verify(workspace) tells whether it is as it was written';
COMMENT ON COLUMN @extschema@.federated_audit_log.workspace IS 'By name as it was at the time; empty where the change belongs to none';
COMMENT ON COLUMN @extschema@.federated_audit_log.recorded_at IS 'When the change was made, not when it was committed';
COMMENT ON COLUMN @extschema@.federated_audit_log.object_kind IS 'workspace, node, model, run, dataset, version, tag, checkpoint, aggregation_function, alert, experiment, experiment_arm (its sums are there when the experiment is dropped), attestation, compliance_record, retention_stub (what was deleted for its age), api_token or ledger (a reservation taken back, or sums that changed); round (how it ended), lease (a coordinator''s term), signer (the certificate whose key signs heads of the log from then on); at a node witnessed_head (heads that were forgotten); audit for an adopted chain';
COMMENT ON COLUMN @extschema@.federated_audit_log.object_name IS 'Name of the object; of a run its id, as of a round, a line of the ledger and a checkpoint; of a term who holds it, of a signer SHA-256 of its certificate; of an attestation its requirement, of a recorded check its regulation; of a token its token_id';
COMMENT ON COLUMN @extschema@.federated_audit_log.transaction_id IS 'The transaction that made the change, in the database of origin';
COMMENT ON COLUMN @extschema@.federated_audit_log.chain_position IS
    'Place in the chain of this workspace and origin; NULL in the transaction that has just made the change';
COMMENT ON COLUMN @extschema@.federated_audit_log.session_role IS 'Who logged in';
COMMENT ON COLUMN @extschema@.federated_audit_log.acting_role IS 'The role that was set, where SET ROLE had been used';
COMMENT ON COLUMN @extschema@.federated_audit_log.action IS
    'insert, update or delete of a row of the catalog; adopt: the head of a chain that a restored dump brought along';
COMMENT ON COLUMN @extschema@.federated_audit_log.details IS
    'What the row said before and after, as far as people decide it; empty, as the roles and object_name, of an entry that was emptied for its age (federated_retention)';
COMMENT ON COLUMN @extschema@.federated_audit_log.origin IS 'The database in which the entry was linked; NULL as chain_position';
COMMENT ON COLUMN @extschema@.federated_audit_log.previous_hash IS 'The hash of the entry before, hexadecimal; NULL for the first of a chain';
COMMENT ON COLUMN @extschema@.federated_audit_log.hash IS 'SHA-256 of the entry, hexadecimal; NULL as chain_position';

SELECT pg_catalog.pg_extension_config_dump('federated.audit_head', '');
SELECT pg_catalog.pg_extension_config_dump('federated.audit_origin', 'WHERE false');
