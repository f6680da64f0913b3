\echo Use "ALTER EXTENSION heliosdb_federated_learning UPDATE TO '1.1'" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

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

-- federated_owner owns what runs with rights beyond its caller's: it has no members and is granted to nobody.
-- Roles are cluster-wide and outlive the extension: they are made where missing, never altered or dropped.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor',
        'federated_daemon', 'federated_reader', 'federated_owner'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) role_name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
    -- Whoever could become federated_owner could replace code that a superuser runs.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_owner' AND (
            r.rolcanlogin OR r.rolsuper OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m
                WHERE m.roleid OPERATOR(pg_catalog.=) r.oid OR m.member OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_owner" must not be able to log in, be a superuser, have members or be a member',
            HINT = 'ALTER ROLE federated_owner NOLOGIN NOSUPERUSER, and REVOKE it from every role that it is granted to.';
    END IF;
END
$$;

-- By default a type is everybody's to build upon.
REVOKE ALL ON TYPE federated.node_status, federated.run_status, federated.round_status,
    federated.participation_outcome, federated.ledger_state FROM PUBLIC;

COMMENT ON COLUMN federated.version.prediction IS
    'The numbers of which the version''s SQL functions are made, as they stand in these functions (a zero without its sign); NULL for versions made by release 1.0, which did not keep them';

GRANT INSERT (predicate) ON federated.dataset TO federated_admin;

GRANT SELECT ON federated.agreement TO federated_analyst, federated_auditor;

-- What was released, spent and agreed stays: the daemon adds to it, and forgets a payload whose run has moved on.
GRANT INSERT, UPDATE (payload) ON federated.release TO federated_daemon;

GRANT INSERT ON federated.spending, federated.agreement TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._lock_relation(text) TO federated_daemon;

-- What holds for every change of the catalog, whichever way it is made: statement, INSERT or DELETE.
CREATE OR REPLACE FUNCTION federated._options() RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"failure": {"sqlstate": "55000", "hint": "Reconnect.",'
            ' "message": "this session began before the extension was updated"}}')
return door.describe_options("1.1")
$$;

COMMENT ON FUNCTION federated._options() IS
    'Defaults of workspace and model options, and the names of the training options that one run may override; or the failure to tell';

CREATE FUNCTION federated._check_options(kind text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}')
return door.check_options(kind, options, "1.1")
$$;

COMMENT ON FUNCTION federated._check_options(text, jsonb) IS
    'Checks options as statements do; returns NULL, or the error for federated._raise';

-- Statements have checked what they write; this is for INSERT and UPDATE past them. A superuser restores dumps.
CREATE FUNCTION federated._refuse_options() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given jsonb := to_jsonb(NEW) -> TG_ARGV[1];
BEGIN
    IF given <> '{}' AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        PERFORM federated._raise(federated._check_options(TG_ARGV[0], given));
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._refuse_options() IS 'Lets no option in that a statement would refuse';

CREATE TRIGGER check_options BEFORE INSERT OR UPDATE OF options ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('workspace', 'options');

CREATE TRIGGER check_options BEFORE INSERT OR UPDATE OF options ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('node', 'options');

CREATE TRIGGER check_options BEFORE INSERT OR UPDATE OF options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('model', 'options');

CREATE TRIGGER check_options BEFORE INSERT ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('dataset', 'options');

CREATE TRIGGER check_options BEFORE INSERT ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('training', 'overrides');

-- Only the table's owner may name policy or options (restoring a dump does); for all others they are NULL here.
CREATE OR REPLACE FUNCTION federated._snapshot_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known   jsonb;
    subject record;
    unknown text;
BEGIN
    IF NEW.policy IS NOT NULL THEN
        RETURN NEW;
    END IF;
    PERFORM federated._hold_workspace(NEW.model_id);
    SELECT m.options, w.options AS policy, w.name AS workspace INTO subject
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE m.model_id = NEW.model_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the run''s federated model does not exist';
    END IF;
    known := federated._options();
    PERFORM federated._raise(known -> 'failure');
    unknown := (SELECT min(k) FROM jsonb_object_keys(NEW.overrides) AS k WHERE NOT known -> 'training' ? k);
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('option "%s" cannot be set for one run', unknown);
    END IF;
    -- wait_for_convergence would wait for ever in the transaction that starts the run.
    PERFORM set_config('federated.started_run', NEW.run_id::text, true);
    NEW.options := known -> 'model' || subject.options || NEW.overrides;
    NEW.policy := known -> 'workspace' || subject.policy || jsonb_build_object('workspace', subject.workspace);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._snapshot_run() IS
    'Gives a run its options and its workspace''s policy as they stand: whoever queues it has no say in the policy';

-- The row is locked before the trigger fires, so that no START can come between check and deletion.
CREATE OR REPLACE FUNCTION federated._refuse_model_in_training() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM federated.run AS r
               WHERE r.model_id = OLD.model_id AND r.status IN ('queued', 'running')) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('federated model "%s" is in training', OLD.name),
            HINT = format('STOP FEDERATED TRAINING %s first.', quote_ident(OLD.name));
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

COMMENT ON FUNCTION federated._refuse_model_in_training() IS 'Keeps a model and its name while a run of it is queued or running';

CREATE TRIGGER refuse_rename_in_training BEFORE UPDATE OF name ON federated.model
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._refuse_model_in_training();

CREATE TRIGGER keep_state BEFORE UPDATE OF state ON federated.ledger
    FOR EACH ROW WHEN (OLD.state = 'charged' AND NEW.state <> 'charged') EXECUTE FUNCTION federated._keep_charges();

-- Whose rows a role may change, whichever way it changes them. Grants say who may change a table at all.
CREATE FUNCTION federated._has_role(role name) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = _has_role.role AND pg_has_role(r.oid, 'USAGE'))
        OR EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = current_user AND r.rolsuper)
$$;

COMMENT ON FUNCTION federated._has_role(name) IS
    'Whether the caller has a role''s privileges; a superuser has, also of a role that was dropped';

CREATE FUNCTION federated._require_workspace_owner(workspace_id bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT w.name, w.owner INTO subject FROM federated.workspace AS w
    WHERE w.workspace_id = _require_workspace_owner.workspace_id;
    IF FOUND AND NOT federated._has_role(subject.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated workspace "%s"', subject.name),
            DETAIL = format('Its owner is %s.', quote_ident(subject.owner));
    END IF;
END
$$;

COMMENT ON FUNCTION federated._require_workspace_owner(bigint) IS
    'Raises 42501 unless the caller is a member of the workspace''s owner role';

CREATE FUNCTION federated._owns_model(model_id bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(bool_and(federated._has_role(m.owner) OR federated._has_role(w.owner)), true)
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE m.model_id = _owns_model.model_id
$$;

COMMENT ON FUNCTION federated._owns_model(bigint) IS
    'Whether the caller is a member of the owner role of a model or of its workspace; true where there is none such';

CREATE FUNCTION federated._require_model_owner(model_id bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    IF federated._owns_model(model_id) THEN
        RETURN;
    END IF;
    SELECT m.name, m.owner, w.owner AS workspace_owner INTO subject
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE m.model_id = _require_model_owner.model_id;
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('must be owner of federated model "%s"', subject.name),
        DETAIL = format('Its owner is %s, the owner of its workspace %s.',
                        quote_ident(subject.owner), quote_ident(subject.workspace_owner));
END
$$;

COMMENT ON FUNCTION federated._require_model_owner(bigint) IS
    'Raises 42501 unless the caller is a member of the owner role of the model or of its workspace';

-- check_owner sorts before the other BEFORE triggers: nothing else about the change is looked at for one who may not.
CREATE FUNCTION federated._check_workspace_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM federated._require_workspace_owner(OLD.workspace_id);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    PERFORM federated._require_workspace_owner(NEW.workspace_id);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_workspace_owner() IS 'Keeps a workspace and its nodes for members of its owner role';

CREATE FUNCTION federated._check_model_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM federated._require_model_owner(NEW.model_id);
        RETURN NEW;
    END IF;
    PERFORM federated._require_model_owner(OLD.model_id);
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

COMMENT ON FUNCTION federated._check_model_owner() IS
    'Keeps a model, its training and its tags for members of its owner role or its workspace''s';

-- The coordinator writes other columns of node and run: it is not asked who owns them.
CREATE TRIGGER check_owner BEFORE DELETE OR UPDATE OF name, owner, options ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._check_workspace_owner();

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF name, workspace_id, options ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._check_workspace_owner();

CREATE TRIGGER check_owner BEFORE DELETE OR UPDATE OF name, workspace_id, owner, options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF stop_requested ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE FUNCTION federated._check_new_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_owner oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = NEW.owner);
BEGIN
    IF new_owner IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', NEW.owner);
    ELSIF NOT pg_has_role(new_owner, 'MEMBER') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be member of role "%s"', NEW.owner);
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_new_owner() IS
    'Lets ownership go only to a role that exists and that the caller is a member of';

CREATE TRIGGER refuse_new_owner BEFORE UPDATE OF owner ON federated.workspace
    FOR EACH ROW WHEN (NEW.owner IS DISTINCT FROM OLD.owner) EXECUTE FUNCTION federated._check_new_owner();

CREATE TRIGGER refuse_new_owner BEFORE UPDATE OF owner ON federated.model
    FOR EACH ROW WHEN (NEW.owner IS DISTINCT FROM OLD.owner) EXECUTE FUNCTION federated._check_new_owner();

-- A workspace's name is what its ledger, its runs' policy and its nodes' datasets and agreements know it by.
CREATE FUNCTION federated._refuse_workspace_rename() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    obstacle text;
    remedy   text;
BEGIN
    IF octet_length(NEW.name) > 63 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'workspace name is too long',
            DETAIL = format('It has %s bytes; at most 63 are allowed.', octet_length(NEW.name));
    ELSIF EXISTS (SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                  WHERE m.workspace_id = OLD.workspace_id AND r.status IN ('queued', 'running')) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('federated workspace "%s" has a model in training', OLD.name),
            HINT = 'STOP FEDERATED TRAINING first.';
    ELSIF EXISTS (SELECT FROM federated.node AS n WHERE n.workspace_id = OLD.workspace_id) THEN
        obstacle := 'Nodes are registered: they share their datasets with this name.';
        remedy := 'Unregister its nodes first; their DBAs then share their datasets with the new name.';
    ELSIF EXISTS (SELECT FROM federated.ledger AS l WHERE l.workspace = OLD.name) THEN
        obstacle := 'Its ledger has entries, and a budget is kept by name, here and at each node.';
        remedy := 'Make a workspace of the new name: it has a budget of its own, and this one keeps what it has spent.';
    END IF;
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated workspace "%s" cannot be renamed', OLD.name),
            DETAIL = obstacle, HINT = remedy;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._refuse_workspace_rename() IS
    'Lets a workspace be renamed only while nobody knows it by its name: no node, no charge, no training';

CREATE TRIGGER refuse_rename BEFORE UPDATE OF name ON federated.workspace
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._refuse_workspace_rename();

-- A dataset and its view are one DBA's: nobody drops another's, or shares under a name whose view is another's.
CREATE FUNCTION federated._check_dataset_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dataset federated.dataset := CASE TG_OP WHEN 'INSERT' THEN NEW ELSE OLD END;
    owner   name := CASE TG_OP WHEN 'INSERT' THEN (
        SELECT c.relowner::regrole::name FROM pg_class AS c
        WHERE c.relnamespace = 'federated_dataset'::regnamespace AND c.relname = dataset.name) ELSE OLD.owner END;
BEGIN
    IF owner IS NOT NULL AND NOT federated._has_role(owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated dataset "%s"', dataset.name),
            DETAIL = format('Its owner is %s.', owner);
    END IF;
    RETURN dataset;
END
$$;

COMMENT ON FUNCTION federated._check_dataset_owner() IS 'Keeps a dataset for members of its owner role';

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._check_dataset_owner();

-- A run copies its workspace's name and policy. Whoever queues it may not lock the workspace's row, hence DEFINER.
CREATE FUNCTION federated._hold_workspace(model_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Inside DEFINER current_user is the owner: the caller is the role that was set, or who logged in.
    caller name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
BEGIN
    -- Who may not start the model's training holds nothing up; START says so next.
    IF NOT EXISTS (
        SELECT FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
        JOIN pg_roles AS r ON r.rolname IN (m.owner, w.owner)
        WHERE m.model_id = _hold_workspace.model_id AND pg_has_role(caller, r.oid, 'USAGE')) THEN
        RETURN;
    END IF;
    PERFORM FROM federated.workspace AS w
    WHERE w.workspace_id = (SELECT m.workspace_id FROM federated.model AS m WHERE m.model_id = _hold_workspace.model_id)
    FOR KEY SHARE;
END
$$;

COMMENT ON FUNCTION federated._hold_workspace(bigint) IS
    'Keeps a model''s workspace from being renamed or dropped until the transaction ends';

CREATE FUNCTION federated._rename(kind text, object_id bigint, new_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind = 'workspace' THEN
        UPDATE federated.workspace SET name = new_name WHERE workspace_id = object_id;
    ELSE
        UPDATE federated.model SET name = new_name WHERE model_id = object_id;
    END IF;
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
        MESSAGE = format('federated %s "%s" already exists', kind, new_name);
END
$$;

COMMENT ON FUNCTION federated._rename(text, bigint, text) IS 'Renames a workspace or a model; a name that is taken is error 42710';

REVOKE ALL ON FUNCTION federated._hold_workspace(bigint) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION federated._hold_workspace(bigint), federated._rename(text, bigint, text) TO federated_operator;

GRANT EXECUTE ON FUNCTION
    federated._has_role(name), federated._owns_model(bigint), federated._require_workspace_owner(bigint),
    federated._require_model_owner(bigint)
TO federated_operator, federated_daemon, federated_owner;

GRANT UPDATE (name, owner) ON federated.workspace TO federated_admin;

GRANT UPDATE (name, owner) ON federated.model TO federated_operator;

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

CREATE OR REPLACE FUNCTION federated._audited(subject jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(subject)
    WHERE key IN ('name', 'workspace', 'workspace_id', 'model_id', 'owner', 'options', 'overrides', 'policy', 'status',
                  'stop_requested', 'certificate', 'relation', 'columns', 'types', 'predicate', 'version', 'is_current')
$$;

COMMENT ON FUNCTION federated._audited(jsonb) IS 'The part of a row that the audit log keeps: what people decide, not what runs measure';

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
CREATE OR REPLACE FUNCTION federated._audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row_after  jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    row_before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    subject    jsonb := coalesce(row_after, row_before);
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (
        federated._audited_workspace(TG_TABLE_NAME, subject),
        session_user,
        CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
        lower(TG_OP), TG_TABLE_NAME, coalesce(subject ->> 'name', subject ->> 'run_id'),
        jsonb_strip_nulls(jsonb_build_object(
            'before', federated._audited(row_before), 'after', federated._audited(row_after)))
    );
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit() IS 'Appends to the audit log';

-- A dump of version 1.0 has no workspace in it.
CREATE FUNCTION federated._complete_audit() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.workspace := federated._audited_workspace(
        NEW.object_kind, coalesce(NEW.details -> 'after', NEW.details -> 'before'));
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._complete_audit() IS 'Finds the workspace of an entry that was written before entries named it';

CREATE TRIGGER complete_audit BEFORE INSERT ON federated.audit
    FOR EACH ROW WHEN (NEW.workspace IS NULL) EXECUTE FUNCTION federated._complete_audit();

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

CREATE FUNCTION federated._audit_faults(workspace text)
RETURNS TABLE (origin uuid, broken_at bigint, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH linked AS (
        SELECT a.origin, a.chain_position, a.previous_hash, a.hash,
               federated._audit_hash(a, a.origin, a.chain_position, a.previous_hash) AS computed,
               row_number() OVER chain AS place, lag(a.hash) OVER chain AS before
        FROM federated.audit AS a
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
    SELECT NULL, NULL, format('entry %s stands outside the chain', a.audit_id)
    FROM federated.audit AS a
    WHERE a.workspace = _audit_faults.workspace AND a.chain_position IS NULL
      AND a.transaction_id IS DISTINCT FROM pg_current_xact_id_if_assigned()
    UNION ALL
    SELECT a.origin, a.chain_position, 'the chain that this entry adopted is not there as it was'
    FROM federated.audit AS a
    WHERE a.workspace = _audit_faults.workspace AND a.action = 'adopt' AND a.object_kind = 'audit'
      AND NOT EXISTS (
          SELECT FROM heads AS h
          WHERE h.origin::text = a.details ->> 'origin' AND h.chain_position::text = a.details ->> 'entries'
            AND encode(h.hash, 'hex') = a.details ->> 'head_hash')
    UNION ALL
    SELECT NULL, NULL, 'the workspace exists, but the log does not say how it came to be'
    FROM federated.workspace AS w
    WHERE w.name = _audit_faults.workspace
      AND NOT EXISTS (
          SELECT FROM federated.audit AS a
          WHERE a.workspace = w.name AND a.object_kind = 'workspace'
            AND a.details -> 'after' ->> 'workspace_id' = w.workspace_id::text)
$$;

COMMENT ON FUNCTION federated._audit_faults(text) IS 'Where the chains of a workspace do not hold, and why';

CREATE FUNCTION @extschema@.federated_audit_verify(
    workspace text,
    OUT is_intact boolean, OUT entries bigint, OUT head_hash text, OUT broken_at bigint, OUT reason text
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
    FROM federated._audit_faults(federated_audit_verify.workspace) AS f
    ORDER BY f.origin <> own NULLS LAST, f.broken_at NULLS LAST LIMIT 1;
    is_intact := NOT FOUND;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_audit_verify(text) IS
    'Whether the audit log of a workspace is as it was written. Found are entries that were changed, removed (at the end too), inserted or put in another order; broken_at is the position of the first such entry (NULL for none, and for an entry outside the chain), head_hash the hash of the last entry linked in this database (NULL before any). Not found is what a superuser or the owner of the tables does who writes the whole chain and its head anew, or appends an untrue entry: note head_hash elsewhere from time to time, and look it up later in federated_audit_log.hash. If it is there and the log is intact, all up to it is as it was';

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

COMMENT ON COLUMN @extschema@.federated_audit_log.object_kind IS 'workspace, node, model, run or dataset; audit for an adopted chain';

COMMENT ON COLUMN @extschema@.federated_audit_log.object_name IS 'Name of the object; of a run its id';

COMMENT ON COLUMN @extschema@.federated_audit_log.transaction_id IS 'The transaction that made the change, in the database of origin';

COMMENT ON COLUMN @extschema@.federated_audit_log.chain_position IS
    'Place in the chain of this workspace and origin; NULL in the transaction that has just made the change';

COMMENT ON COLUMN @extschema@.federated_audit_log.session_role IS 'Who logged in';

COMMENT ON COLUMN @extschema@.federated_audit_log.acting_role IS 'The role that was set, where SET ROLE had been used';

COMMENT ON COLUMN @extschema@.federated_audit_log.action IS
    'insert, update or delete of a row of the catalog; adopt: the head of a chain that a restored dump brought along';

COMMENT ON COLUMN @extschema@.federated_audit_log.details IS 'What the row said before and after, as far as people decide it';

COMMENT ON COLUMN @extschema@.federated_audit_log.origin IS 'The database in which the entry was linked; NULL as chain_position';

COMMENT ON COLUMN @extschema@.federated_audit_log.previous_hash IS 'The hash of the entry before, hexadecimal; NULL for the first of a chain';

COMMENT ON COLUMN @extschema@.federated_audit_log.hash IS 'SHA-256 of the entry, hexadecimal; NULL as chain_position';

REVOKE ALL ON FUNCTION @extschema@.federated_audit_verify(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_audit_verify(text), federated._audit_faults(text), federated._audit_hash(federated.audit, uuid, bigint, bytea)
TO federated_auditor, federated_admin;

GRANT SELECT ON federated.audit_head, federated.audit_origin, @extschema@.federated_audit_log
TO federated_auditor, federated_admin;

SELECT pg_catalog.pg_extension_config_dump('federated.audit_head', '');

SELECT pg_catalog.pg_extension_config_dump('federated.audit_origin', 'WHERE false');

-- The door into the package. It knows the caller: all of this runs with the invoker's rights.
CREATE OR REPLACE FUNCTION federated._execute(command text, schemas name[]) RETURNS jsonb
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}')
return door.execute(plpy, command, schemas, "1.1")
$$;

COMMENT ON FUNCTION federated._execute(text, name[]) IS
    'Executes one FEDERATED statement; returns NULL, or the error that federated.execute then raises';

-- Carries no SET clause: a dataset's table is looked up in the caller's search_path. Every name in it is qualified.
CREATE OR REPLACE PROCEDURE federated.execute(command text)
LANGUAGE plpgsql AS $$
DECLARE
    failure pg_catalog.jsonb;
BEGIN
    failure := federated._execute(command, pg_catalog.current_schemas(true));
    PERFORM federated._raise(failure);
END
$$;

COMMENT ON PROCEDURE federated.execute(text) IS 'Executes one FEDERATED statement, as the proxy does with what a user types';

CREATE FUNCTION federated._write_untrained_function(model_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_model.%I(%s) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE'
        ' RETURN federated._predict_untrained(%L)',
        model_name, federated._describe_arguments(features), model_name);
    PERFORM federated._finish_model_function(
        model_name, format('Federated model %s, which has no trained version yet', model_name));
END
$$;

COMMENT ON FUNCTION federated._write_untrained_function(text, jsonb) IS
    'Makes, or remakes under a new name, the function of a model that no run has finished yet';

CREATE OR REPLACE FUNCTION federated._create_untrained_function(model_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Restoring a dump brings a model's function before its row.
    IF NOT EXISTS (SELECT FROM pg_proc AS p
                   WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = model_name) THEN
        PERFORM federated._write_untrained_function(model_name, features);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._create_untrained_function(text, jsonb) IS
    'Makes the function of a new model, where a dump has not brought it already';

-- A model made before names were checked may have an @ in its own: its function is no version of another model.
CREATE FUNCTION federated._list_functions(model_name text) RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid::regprocedure FROM pg_proc AS p
    WHERE p.pronamespace = 'federated_model'::regnamespace
      AND (p.proname::text = model_name
           OR starts_with(p.proname::text, model_name || '@')
              AND NOT EXISTS (SELECT FROM federated.model AS m WHERE m.name = p.proname::text))
    ORDER BY p.proname
$$;

COMMENT ON FUNCTION federated._list_functions(text) IS 'The functions of a model: its own, and one for each version and tag';

-- Runs as federated_owner, which owns the functions; it fires only where the caller may change the model's row.
CREATE OR REPLACE FUNCTION federated._keep_model_function() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    IF TG_OP = 'DELETE' THEN
        FOR model_function IN SELECT f.oid FROM federated._list_functions(OLD.name) AS f (oid) LOOP
            EXECUTE format('DROP FUNCTION %s %s', model_function,
                           CASE current_setting('federated.drop_behavior', true) WHEN 'cascade' THEN 'CASCADE'
                                ELSE 'RESTRICT' END);
        END LOOP;
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM federated._create_untrained_function(NEW.name, NEW.options -> 'features');
    ELSIF NEW.name <> OLD.name THEN
        PERFORM federated._rename_functions(NEW.model_id, OLD.name, NEW.name, OLD.options -> 'features');
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.options -> 'features' IS DISTINCT FROM OLD.options -> 'features'
       AND NOT EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = NEW.model_id) THEN
        PERFORM federated._drop_model_function(NEW.name, 'restrict');
        PERFORM federated._create_untrained_function(NEW.name, NEW.options -> 'features');
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_model_function() IS 'Keeps the functions of a model in step with its row: made, renamed and dropped with it';

CREATE OR REPLACE TRIGGER keep_model_function AFTER INSERT OR DELETE OR UPDATE OF name, options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_model_function();

-- A reference is a model's name, or name@tag, or name@number. The function of a version has the reference's name.
CREATE FUNCTION federated._find_function(reference text, OUT function_name text, OUT features text[])
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_sign    integer := strpos(reference, '@');
    model_name text := reference;
    label      text;
    wanted     integer;
BEGIN
    IF at_sign = 0 OR at_sign IS NULL OR EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN
        function_name := reference;
        features := (SELECT v.features FROM federated.version AS v
                     WHERE v.model_id = federated._model_id(reference) AND v.is_current);
        IF features IS NULL THEN
            PERFORM federated._predict_untrained(reference);
        END IF;
        RETURN;
    END IF;
    label := split_part(reference, '@', -1);
    model_name := left(reference, -1 - length(label));
    wanted := federated._version_number(model_name, label);
    function_name := model_name || '@' || CASE WHEN label ~ '^[0-9]+$' THEN wanted::text ELSE label END;
    features := (SELECT v.features FROM federated.version AS v JOIN federated.model AS m USING (model_id)
                 WHERE m.name = model_name AND v.version = wanted);
    IF NOT EXISTS (SELECT FROM pg_proc AS p
                   WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = function_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" has no function', wanted, model_name),
            DETAIL = CASE WHEN octet_length(function_name) > 63
                THEN format('"%s" is longer than the 63 bytes that a name may have.', function_name)
                ELSE 'It was made by a release that did not keep the numbers of a version.' END,
            HINT = 'A shorter tag names it, or a new run makes a version that has one.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._find_function(text) IS
    'The function in federated_model that a model, model@tag or model@number names, and its features in order';

CREATE OR REPLACE FUNCTION federated._current_features(model text) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.features FROM federated._find_function(model) AS f
$$;

COMMENT ON FUNCTION federated._current_features(text) IS
    'The features in order of a model''s current version, or of the one that model@tag names; or error 55000';

CREATE OR REPLACE FUNCTION federated._json_number(value jsonb) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) IN ('array', 'object') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of a feature must be a number, true or false, not an %s', jsonb_typeof(value));
    END IF;
    RETURN CASE WHEN jsonb_typeof(value) = 'boolean' OR value IN ('"true"', '"false"', '"t"', '"f"')
                THEN (value #>> '{}')::boolean::integer
                ELSE (value #>> '{}')::double precision END;
END
$$;

COMMENT ON FUNCTION federated._json_number(jsonb) IS 'A feature''s value given as JSON, as a string too: true and false are 1 and 0, null is NULL';

COMMENT ON FUNCTION federated._describe_call(text, text) IS
    'The query that calls a function in federated_model; argument: a format of each argument''s value from name (1) and place (2)';

CREATE OR REPLACE FUNCTION @extschema@.federated_predict(model text, features jsonb) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    callee  text;
    known   text[];
    unknown text;
    result  double precision;
BEGIN
    SELECT f.function_name, f.features INTO callee, known FROM federated._find_function(model) AS f;
    IF features IS NULL THEN
        RETURN NULL;
    ELSIF jsonb_typeof(features) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('features must be a JSON object, not a JSON %s', jsonb_typeof(features)),
            HINT = 'Name each feature: {"feature": value, ...}.';
    END IF;
    unknown := (SELECT min(k) FROM jsonb_object_keys(features) AS k WHERE k <> ALL (known));
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('federated model "%s" has no feature "%s"', model, unknown),
            HINT = format('Its features are %s.', array_to_string(known, ', '));
    END IF;
    EXECUTE federated._describe_call(callee, 'federated._json_number($1 -> %1$L)') INTO result USING features;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict(text, jsonb) IS
    'Prediction for features given as JSON by a model''s current version, or by the one that model@tag or model@number names; a missing feature is NULL';

CREATE OR REPLACE FUNCTION @extschema@.predict(model text, features double precision[]) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    callee  text;
    known   text[];
    result  double precision;
BEGIN
    SELECT f.function_name, f.features INTO callee, known FROM federated._find_function(model) AS f;
    IF features IS NULL THEN
        RETURN NULL;
    ELSIF array_ndims(features) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = format('predict takes an array of one dimension, not of %s', array_ndims(features)),
            HINT = format('Give the features of "%s" in this order: %s.', model, array_to_string(known, ', '));
    ELSIF cardinality(features) <> cardinality(known) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = format('federated model "%s" takes %s features, not %s', model, cardinality(known), cardinality(features)),
            HINT = format('In this order: %s.', array_to_string(known, ', '));
    END IF;
    -- A slice renumbers from 1, whatever the array's own lower bound is.
    EXECUTE federated._describe_call(callee, '$1[%2$s]') INTO result USING features[:];
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.predict(text, double precision[]) IS
    'Prediction for features in order by a model''s current version, or by the one that model@tag or model@number names';

-- extra_float_digits 1: to_jsonb writes a float8 with the digits that read back to the same bits.
CREATE FUNCTION @extschema@.predict(model text, features record) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    callee text;
    known  text[];
    given  jsonb := to_jsonb(features);
    chosen jsonb;
    result double precision;
BEGIN
    SELECT f.function_name, f.features INTO callee, known FROM federated._find_function(model) AS f;
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    chosen := (SELECT jsonb_object_agg(c.key, c.value) FROM jsonb_each(given) AS c WHERE c.key = ANY (known));
    IF chosen IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the row has no feature of federated model "%s"', model),
            HINT = format('Its features are %s.', array_to_string(known, ', '));
    END IF;
    EXECUTE federated._describe_call(callee, 'federated._json_number($1 -> %1$L)') INTO result USING chosen;
    RETURN result;
END
$$;

COMMENT ON FUNCTION @extschema@.predict(text, record) IS
    'Prediction for a row: its columns that are named as features; other columns are ignored, a missing feature is NULL, and a row with no feature at all is an error';

CREATE FUNCTION federated._check_binary(reference text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := CASE WHEN EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN reference
                            ELSE regexp_replace(reference, '@[^@]*$', '') END;
    algorithm  text := (
        SELECT r.options ->> 'algorithm' FROM federated.version AS v JOIN federated.run AS r USING (run_id)
        WHERE v.model_id = federated._model_id(model_name)
          AND CASE WHEN model_name = reference THEN v.is_current
                   ELSE v.version = federated._version_number(model_name, split_part(reference, '@', -1)) END);
BEGIN
    IF algorithm IS NULL THEN
        PERFORM federated._predict_untrained(reference);
    ELSIF algorithm <> 'logistic_regression' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated model "%s" predicts a number and has no classes', reference),
            DETAIL = format('Its algorithm is %s.', algorithm),
            HINT = 'Use federated_predict.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_binary(text) IS 'Raises 55000 unless a model, or the version that model@tag names, has classes';

CREATE FUNCTION @extschema@.federated_predict_class(model text, features jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    probability double precision;
BEGIN
    PERFORM federated._check_binary(model);
    probability := @extschema@.federated_predict(model, features);
    RETURN CASE WHEN probability >= 0.5 THEN '1' WHEN probability < 0.5 THEN '0' END;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_class(text, jsonb) IS
    'The likelier class: ''1'' (the target is true or 1) from a probability of 0.5 on, else ''0''; error 55000 for a regression';

CREATE FUNCTION @extschema@.federated_predict_proba(model text, features jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    probability double precision;
BEGIN
    PERFORM federated._check_binary(model);
    probability := @extschema@.federated_predict(model, features);
    RETURN CASE WHEN probability IS NOT NULL THEN jsonb_build_object('0', 1 - probability, '1', probability) END;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_proba(text, jsonb) IS
    'The probability of each class: "1" where the target is true or 1, "0" where it is false or 0; error 55000 for a regression';

-- Carries no SET clause, like all that looks up the names in a user's query: they are the caller's.
CREATE FUNCTION federated._describe_columns(query text) RETURNS jsonb
LANGUAGE plpython3u VOLATILE AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.describe_columns(plpy, query, "1.1")
$$;

COMMENT ON FUNCTION federated._describe_columns(text) IS
    'The names and types of the columns of a query that is one statement, or the error that it raises';

CREATE FUNCTION federated._describe_batch(model text, callee text, query text, columns jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arguments text;
BEGIN
    arguments := (
        SELECT string_agg(format(
            CASE WHEN a.type = 'boolean'::regtype AND c.type = 'boolean'::regtype THEN '%1$I => q.%1$I'
                 WHEN a.type = 'boolean'::regtype THEN '%1$I => federated._as_boolean(q.%1$I::pg_catalog.float8)'
                 WHEN c.type = 'boolean'::regtype THEN '%1$I => q.%1$I::pg_catalog.int4::pg_catalog.float8'
                 ELSE '%1$I => q.%1$I::pg_catalog.float8' END, a.feature), ', ')
        FROM pg_proc AS p
        CROSS JOIN LATERAL unnest(p.proargnames, p.proargtypes::oid[]) AS a (feature, type)
        JOIN (SELECT DISTINCT k.name, k.type FROM jsonb_to_recordset(columns) AS k (name text, type oid)) AS c
            ON c.name = a.feature
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = callee);
    IF arguments IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', model),
            HINT = format('Its features are %s.', array_to_string(federated._current_features(model), ', '));
    END IF;
    RETURN format(E'SELECT q.*, federated_model.%I(%s) AS prediction FROM (%s\n) AS q', callee, arguments, query);
END
$$;

COMMENT ON FUNCTION federated._describe_batch(text, text, text, jsonb) IS
    'A query with a prediction beside its columns: one call, which the planner inlines, in one query';

-- The query is known to be one statement and whole in itself: behind it no parenthesis closes early.
CREATE FUNCTION @extschema@.federated_predict_batch(model text, query text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    callee pg_catalog.text;
    found  pg_catalog.jsonb;
BEGIN
    callee := (SELECT f.function_name FROM federated._find_function(model) AS f);
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null';
    END IF;
    found := federated._describe_columns(query);
    PERFORM federated._raise(found OPERATOR(pg_catalog.->) 'failure');
    RETURN QUERY EXECUTE federated._describe_batch(model, callee, found OPERATOR(pg_catalog.->>) 'query', found OPERATOR(pg_catalog.->) 'columns');
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_batch(text, text) IS
    'The rows of a query, run with the caller''s rights and search_path, with the prediction as last column; features are its columns of these names. Needs a column list: AS (id integer, ..., prediction float8)';

REVOKE ALL ON FUNCTION @extschema@.predict(text, record) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_predict_class(text, jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_predict_proba(text, jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_predict_batch(text, text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.predict(text, record), @extschema@.federated_predict_class(text, jsonb),
    @extschema@.federated_predict_proba(text, jsonb), @extschema@.federated_predict_batch(text, text),
    federated._describe_columns(text), federated._describe_batch(text, text, text, jsonb), federated._raise(jsonb)
TO federated_analyst;

GRANT EXECUTE ON FUNCTION federated._find_function(text), federated._check_binary(text)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION federated._write_untrained_function(text, jsonb), federated._list_functions(text)
TO federated_owner;

-- PostgreSQL takes an inlined STABLE function into indexes, generated columns and checks; what they have stored would be
-- another version's predictions, and wrong. A version's own function never changes: that one may be stored.
CREATE FUNCTION federated._refuse_stored_predictions(function_name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stored text := (
        SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
        FROM pg_depend AS d JOIN pg_proc AS p ON d.refobjid = p.oid
        WHERE d.refclassid = 'pg_proc'::regclass
          AND p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass)
               OR (d.classid = 'pg_class'::regclass
                   AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = d.objid AND c.relkind IN ('i', 'I', 'r', 'p')))));
BEGIN
    IF stored IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('predictions of federated_model.%I are stored and would be wrong', function_name),
            DETAIL = format('They are stored by %s.', stored),
            HINT = 'Drop that first. To store predictions name a version: federated_predict(''model@1'', ...).';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._refuse_stored_predictions(text) IS
    'Raises an error where an index, a constraint or a column holds what a function in federated_model computed';

-- Raises dependent_objects_still_exist where other objects need the function's former signature or its former results.
CREATE FUNCTION federated._define_prediction(
    function_name text, description text, features text[], booleans boolean[],
    intercept double precision, slopes double precision[], fills double precision[], shifts double precision[],
    link text, target_mean double precision, target_scale double precision
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    arguments text;
BEGIN
    PERFORM federated._check_prediction(
        features, booleans, slopes, fills, shifts, ARRAY[intercept, target_mean, target_scale], link);
    arguments := (
        SELECT string_agg(format('%I %s DEFAULT NULL', feature, CASE WHEN flag THEN 'boolean' ELSE 'float8' END), ', '
                          ORDER BY place)
        FROM unnest(features, booleans) WITH ORDINALITY AS t (feature, flag, place));
    IF function_name NOT LIKE '%@%' THEN
        PERFORM federated._refuse_stored_predictions(function_name);
    END IF;
    IF EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (p.proargnames IS DISTINCT FROM features OR (p.proargtypes::oid[])[:] <> (
              SELECT array_agg(CASE WHEN flag THEN 'boolean'::regtype ELSE 'float8'::regtype END::oid ORDER BY place)
              FROM unnest(booleans) WITH ORDINALITY AS t (flag, place)))
    ) THEN
        PERFORM federated._drop_model_function(function_name, 'restrict');
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_model.%I(%s) RETURNS float8 LANGUAGE sql STABLE PARALLEL SAFE RETURN %s',
        function_name, arguments, federated._render_prediction(
            features, booleans, intercept, slopes, fills, shifts, link, target_mean, target_scale));
    PERFORM federated._finish_model_function(function_name, description);
END
$$;

COMMENT ON FUNCTION federated._define_prediction(
    text, text, text[], boolean[], double precision, double precision[], double precision[], double precision[], text,
    double precision, double precision) IS
    'Makes, or remakes, a function in federated_model that computes a prediction';

-- Whatever changes which version is current takes this lock first.
CREATE FUNCTION federated._lock_publication(model_id bigint) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.publication:' || model_id, 0))
$$;

COMMENT ON FUNCTION federated._lock_publication(bigint) IS
    'Until the transaction ends, nobody else changes which version of the model is current';

-- Runs as federated_owner, the only role that may create anything in federated_model. Its caller chooses numbers
-- and names; all else is decided here.
CREATE OR REPLACE FUNCTION federated._publish_function(
    model_id bigint, version integer, run_id uuid, features text[], booleans boolean[],
    intercept double precision, slopes double precision[], fills double precision[], shifts double precision[],
    link text, target_mean double precision, target_scale double precision
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    model_name text;
    obstacle   text;
BEGIN
    PERFORM federated._lock_publication(model_id);
    model_name := (SELECT m.name FROM federated.model AS m WHERE m.model_id = _publish_function.model_id);
    IF model_name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the federated model does not exist';
    END IF;
    PERFORM federated._define_prediction(
        model_name, federated._describe_version(model_name, version, run_id), features, booleans, intercept, slopes,
        fills, shifts, link, target_mean, target_scale);
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RETURN obstacle;
END
$$;

COMMENT ON FUNCTION federated._publish_function(
    bigint, integer, uuid, text[], boolean[], double precision, double precision[], double precision[],
    double precision[], text, double precision, double precision) IS
    'Makes a model''s function compute a version; returns NULL, or what depends on the function of another signature';

CREATE FUNCTION federated._describe_version(model_name text, version integer, run_id uuid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('Version %s of federated model %s, from run %s', version, model_name, run_id)
$$;

COMMENT ON FUNCTION federated._describe_version(text, integer, uuid) IS 'The comment of a function that computes a version';

GRANT EXECUTE ON FUNCTION
    federated._define_prediction(
        text, text, text[], boolean[], double precision, double precision[], double precision[], double precision[],
        text, double precision, double precision),
    federated._lock_publication(bigint), federated._describe_version(text, integer, uuid)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._refuse_stored_predictions(text) TO federated_owner;

-- Versions and tags, each with a function federated_model."<model>@<number or tag>", and which version is current.
-- A version's numbers come from a run; statements only choose among them.
CREATE TABLE federated.tag (
    model_id   bigint NOT NULL,
    name       text NOT NULL,
    version    integer NOT NULL,
    created_by name NOT NULL DEFAULT current_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_id, name),
    FOREIGN KEY (model_id, version) REFERENCES federated.version (model_id, version) ON DELETE CASCADE
);

CREATE INDEX tag_by_version ON federated.tag (model_id, version);

COMMENT ON TABLE federated.tag IS 'Names that a model''s versions were given; a tag stays with its version';

CREATE TABLE federated.checkpoint (
    checkpoint_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    model_id      bigint NOT NULL REFERENCES federated.model ON DELETE CASCADE,
    run_id        uuid NOT NULL,
    path          text NOT NULL,
    round_number  integer NOT NULL,
    size_bytes    bigint NOT NULL,
    sha256        bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX checkpoint_by_model ON federated.checkpoint (model_id, created_at);

COMMENT ON TABLE federated.checkpoint IS
    'Files that CHECKPOINT FEDERATED TRAINING wrote; empty, since that statement is not supported yet';

-- 42704 with what there is: whoever mistypes a tag sees the right one.
CREATE FUNCTION federated._version_number(model text, label text) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject bigint := federated._model_id(model);
    wanted  integer := CASE WHEN label ~ '^[0-9]+$'
        THEN (SELECT v.version FROM federated.version AS v WHERE v.model_id = subject AND v.version = label::numeric)
        ELSE (SELECT t.version FROM federated.tag AS t WHERE t.model_id = subject AND t.name = label) END;
    numbers text;
    tags    text;
BEGIN
    IF wanted IS NULL THEN
        numbers := (SELECT string_agg(k.version::text, ', ' ORDER BY k.version) FROM (
            SELECT v.version FROM federated.version AS v WHERE v.model_id = subject ORDER BY v.version DESC LIMIT 20) AS k);
        tags := (SELECT string_agg(format('"%s"', k.name), ', ' ORDER BY k.name) FROM (
            SELECT t.name FROM federated.tag AS t WHERE t.model_id = subject ORDER BY t.created_at DESC LIMIT 20) AS k);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" has no version "%s"', model, label),
            DETAIL = CASE WHEN numbers IS NULL THEN 'It has no trained version yet.'
                ELSE format('Its latest versions are %s; its latest tags %s.', numbers, coalesce(tags, 'none')) END,
            HINT = format('SELECT version, tags FROM federated_model_versions(%L) shows all.', model);
    END IF;
    RETURN wanted;
END
$$;

COMMENT ON FUNCTION federated._version_number(text, text) IS 'The version that a tag or number of a model names, or error 42704';

CREATE FUNCTION federated._json_numbers(numbers jsonb) RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(n.number::double precision ORDER BY n.place)
    FROM jsonb_array_elements_text(numbers) WITH ORDINALITY AS n (number, place)
$$;

COMMENT ON FUNCTION federated._json_numbers(jsonb) IS 'A JSON array of numbers as an array';

-- The next five run as federated_owner: the first is called by the others, which are DEFINER.
CREATE FUNCTION federated._define_version(function_name text, description text, model_id bigint, version integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version;
BEGIN
    SELECT v.* INTO STRICT subject FROM federated.version AS v
    WHERE v.model_id = _define_version.model_id AND v.version = _define_version.version;
    PERFORM federated._define_prediction(
        function_name, description, subject.features,
        ARRAY(SELECT f.flag::boolean FROM jsonb_array_elements_text(subject.prediction -> 'booleans')
              WITH ORDINALITY AS f (flag, place) ORDER BY f.place),
        (subject.prediction ->> 'intercept')::double precision, federated._json_numbers(subject.prediction -> 'slopes'),
        federated._json_numbers(subject.prediction -> 'fills'), federated._json_numbers(subject.prediction -> 'shifts'),
        subject.prediction ->> 'link', (subject.prediction ->> 'target_mean')::double precision,
        (subject.prediction ->> 'target_scale')::double precision);
END
$$;

COMMENT ON FUNCTION federated._define_version(text, text, bigint, integer) IS
    'Makes a function that computes a stored version from the numbers kept with it';

-- What has a function already keeps it: restoring a dump brings functions before rows.
CREATE FUNCTION federated._label_functions(model_id bigint, version integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label record;
BEGIN
    FOR label IN
        SELECT v.version, m.name || '@' || k.name AS function_name, v.prediction IS NOT NULL AS is_known,
               federated._describe_version(m.name, v.version, v.run_id)
                   || CASE WHEN k.is_tag THEN format(', tagged %s', k.name) ELSE '' END AS description,
               (SELECT p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'federated_model'::regnamespace
                  AND p.proname::text = m.name || '@' || k.name) AS existing
        FROM federated.version AS v
        JOIN federated.model AS m USING (model_id)
        CROSS JOIN LATERAL (
            SELECT v.version::text, false UNION ALL
            SELECT t.name, true FROM federated.tag AS t WHERE t.model_id = v.model_id AND t.version = v.version
        ) AS k (name, is_tag)
        WHERE v.model_id = _label_functions.model_id
          -- Names with @ are models' from version 1.0.
          AND NOT EXISTS (SELECT FROM federated.model AS o WHERE o.name = m.name || '@' || k.name)
          AND (_label_functions.version IS NULL OR v.version = _label_functions.version)
    LOOP
        IF label.existing IS NOT NULL THEN
            EXECUTE format('COMMENT ON FUNCTION %s IS %L', label.existing, label.description);
        ELSIF label.is_known AND octet_length(label.function_name) <= 63 THEN
            PERFORM federated._define_version(label.function_name, label.description, model_id, label.version);
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._label_functions(bigint, integer) IS
    'Makes what functions are missing for a version (NULL: all) and its tags, and describes those that are there; a version whose function''s name would be longer than 63 bytes has none';

CREATE FUNCTION federated._rename_functions(model_id bigint, old_name text, new_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
    renamed        text;
    current        record;
BEGIN
    FOR model_function, renamed IN
        SELECT f.oid, new_name || substr(p.proname::text, length(old_name) + 1)
        FROM federated._list_functions(old_name) AS f (oid) JOIN pg_proc AS p ON p.oid = f.oid
    LOOP
        IF octet_length(renamed) > 63 THEN
            EXECUTE format('DROP FUNCTION %s', model_function);
        ELSE
            EXECUTE format('ALTER FUNCTION %s RENAME TO %I', model_function, renamed);
        END IF;
    END LOOP;
    SELECT v.version, v.run_id INTO current FROM federated.version AS v
    WHERE v.model_id = _rename_functions.model_id AND v.is_current;
    IF FOUND THEN
        PERFORM federated._finish_model_function(
            new_name, federated._describe_version(new_name, current.version, current.run_id));
    ELSIF NOT EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = _rename_functions.model_id) THEN
        PERFORM federated._write_untrained_function(new_name, features);
    END IF;
    PERFORM federated._label_functions(model_id, NULL);
END
$$;

COMMENT ON FUNCTION federated._rename_functions(bigint, text, text, jsonb) IS
    'Renames the functions of a model; what depends on them follows, and a version''s whose name would be too long is dropped';

CREATE FUNCTION federated._keep_version_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = coalesce(NEW.model_id, OLD.model_id));
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM federated._label_functions(NEW.model_id, NEW.version);
    ELSIF TG_TABLE_NAME = 'version' AND model_name IS NOT NULL THEN
        PERFORM federated._drop_model_function(model_name || '@' || OLD.version, 'restrict');
    ELSIF model_name IS NOT NULL THEN
        -- A model that is dropped takes its tags along, and what depends on them where it is dropped so.
        PERFORM federated._drop_model_function(
            model_name || '@' || (to_jsonb(OLD) ->> 'name'),
            coalesce(current_setting('federated.drop_behavior', true), 'restrict'));
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_version_functions() IS 'Keeps a function for each version and each tag';

CREATE TRIGGER keep_version_functions AFTER INSERT OR DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_version_functions();

CREATE TRIGGER keep_version_functions AFTER INSERT OR DELETE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._keep_version_functions();

-- Names of models and tags share one name space of functions: a name with @ in it would stand for a version.
CREATE FUNCTION federated._check_model_name() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    longest text := (SELECT t.name FROM federated.tag AS t WHERE t.model_id = NEW.model_id
                     ORDER BY octet_length(t.name) DESC LIMIT 1);
BEGIN
    -- A dump of a catalog that was made before this rule is restored by the table's owner.
    IF strpos(NEW.name, '@') > 0
       AND NOT pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'a model''s name must not contain @',
            HINT = 'model@tag names a version of a model.';
    ELSIF octet_length(NEW.name) > 63 OR octet_length(NEW.name || '@' || longest) > 63 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'model name is too long',
            DETAIL = format('"%s" is the name of a function, which has at most 63 bytes.',
                            NEW.name || coalesce('@' || longest, ''));
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_model_name() IS 'Keeps model names within what their functions can be called';

CREATE TRIGGER check_name BEFORE INSERT ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_name();

CREATE TRIGGER refuse_name BEFORE UPDATE OF name ON federated.model
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._check_model_name();

CREATE FUNCTION federated._check_tag() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = NEW.model_id);
BEGIN
    IF NEW.name ~ '^[0-9]*$' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE NEW.name WHEN '' THEN 'a tag must not be empty'
                ELSE format('a tag must not be a number, as "%s" is', NEW.name) END,
            HINT = 'A number names a version.';
    ELSIF strpos(NEW.name, '@') > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a tag must not contain @';
    ELSIF EXISTS (SELECT FROM federated.model AS m WHERE m.name = model_name || '@' || NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('"%s" is the name of another federated model', model_name || '@' || NEW.name);
    ELSIF NEW.name ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'a tag must not contain unprintable characters';
    ELSIF octet_length(model_name || '@' || NEW.name) > 63 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'the tag is too long',
            DETAIL = format('"%s" is the name of its function, which has at most 63 bytes, not %s.',
                            model_name || '@' || NEW.name, octet_length(model_name || '@' || NEW.name));
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_tag() IS 'Keeps tags apart from version numbers and within what their functions can be called';

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE TRIGGER check_tag BEFORE INSERT ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._check_tag();

-- Making a version current is an UPDATE of is_current: the caller must own the model, and what follows is done for
-- them. The coordinator, which makes function and row itself when a run ends, inserts its version as current.
CREATE FUNCTION federated._check_current() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = 'federated_owner' OR pg_has_role('federated_daemon', 'USAGE') THEN
        RETURN NEW;
    END IF;
    PERFORM federated._require_model_owner(NEW.model_id);
    IF NOT NEW.is_current THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'a trained model always has a current version',
            HINT = 'Make another version current: ROLLBACK FEDERATED MODEL ... TO VERSION ...';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_current() IS 'Lets a model''s owners make a version current, and the coordinator retire one';

CREATE FUNCTION federated._retire_current() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._lock_publication(NEW.model_id);
    UPDATE federated.version AS v SET is_current = false
    WHERE v.model_id = NEW.model_id AND v.version <> NEW.version AND v.is_current;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._retire_current() IS 'Retires the version that was current before another one becomes it';

CREATE FUNCTION federated._publish_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = NEW.model_id);
    obstacle   text;
BEGIN
    IF NEW.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" cannot be made current', NEW.version, model_name),
            DETAIL = 'It was made by a release that did not keep the numbers of a version.';
    END IF;
    PERFORM federated._define_version(
        model_name, federated._describe_version(model_name, NEW.version, NEW.run_id), NEW.model_id, NEW.version);
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('version %s of federated model "%s" cannot be made current: objects depend on the model''s function as it is',
                         NEW.version, model_name),
        DETAIL = obstacle,
        HINT = 'Drop these objects first, and make them again afterwards.';
END
$$;

COMMENT ON FUNCTION federated._publish_version() IS 'Makes a model''s function compute the version that became current';

CREATE TRIGGER check_owner BEFORE UPDATE OF is_current ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._check_current();

CREATE TRIGGER retire_current BEFORE UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._retire_current();

CREATE TRIGGER publish_version AFTER UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._publish_version();

CREATE TRIGGER audit AFTER UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._audit();

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION @extschema@.federated_model_versions(
    model text,
    OUT version integer, OUT tags text[], OUT round_number integer, OUT created_at timestamptz, OUT is_current boolean,
    OUT global_loss double precision, OUT global_accuracy double precision, OUT epsilon double precision,
    OUT parameters_sha256 text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.version, ARRAY(SELECT t.name FROM federated.tag AS t
                            WHERE t.model_id = v.model_id AND t.version = v.version ORDER BY t.name),
           v.round_number, v.created_at, v.is_current, v.global_loss, v.global_accuracy, v.epsilon, encode(v.sha256, 'hex')
    FROM federated.version AS v
    WHERE v.model_id = federated._model_id(federated_model_versions.model)
    ORDER BY v.version
$$;

COMMENT ON FUNCTION @extschema@.federated_model_versions(text) IS
    'The versions of a model, one for each run that left one; loss and accuracy are NULL where the round was not evaluated, epsilon (the most charged node''s, over the whole workspace, when the run ended) without a budget';

CREATE FUNCTION @extschema@.federated_checkpoints(
    model text,
    OUT path text, OUT round_number integer, OUT created_at timestamptz, OUT size_bytes bigint, OUT sha256 text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.path, c.round_number, c.created_at, c.size_bytes, encode(c.sha256, 'hex')
    FROM federated.checkpoint AS c
    WHERE c.model_id = federated._model_id(federated_checkpoints.model)
    ORDER BY c.created_at
$$;

COMMENT ON FUNCTION @extschema@.federated_checkpoints(text) IS
    'The checkpoints of a model; none, since CHECKPOINT FEDERATED TRAINING is not supported yet';

CREATE FUNCTION federated._distance(a federated.version, b federated.version) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN a.features = b.features AND a.prediction -> 'link' = b.prediction -> 'link' THEN (
        SELECT sqrt(sum(power(s.one * (a.prediction ->> 'target_scale')::double precision
                              - s.other * (b.prediction ->> 'target_scale')::double precision, 2)))
        FROM unnest(federated._json_numbers(a.prediction -> 'slopes'), federated._json_numbers(b.prediction -> 'slopes'))
             AS s (one, other)) END
$$;

COMMENT ON FUNCTION federated._distance(federated.version, federated.version) IS
    'L2 distance of two versions'' coefficients in raw feature units; NULL where features differ or numbers were not kept';

CREATE FUNCTION federated._version_metrics(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT jsonb_build_object('version', subject.version, 'round_number', subject.round_number,
        'global_loss', subject.global_loss, 'global_accuracy', subject.global_accuracy, 'epsilon', subject.epsilon)
$$;

COMMENT ON FUNCTION federated._version_metrics(federated.version) IS 'How well a version did, as JSON';

-- Reads the columns of a version that nobody but the coordinator may (its sealed parameters) as NULL.
CREATE FUNCTION federated._read_version(model text, label text) RETURNS federated.version
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ROW(v.version_id, v.model_id, v.version, v.run_id, v.round_number, v.features, v.scaling, NULL, v.sha256,
               v.global_loss, v.global_accuracy, v.epsilon, v.is_current, v.created_at, v.prediction)::federated.version
    FROM federated.version AS v
    WHERE v.model_id = federated._model_id(model) AND v.version = federated._version_number(model, label)
$$;

COMMENT ON FUNCTION federated._read_version(text, text) IS 'A version without its sealed parameters, or error 42704';

CREATE FUNCTION @extschema@.compare_federated_models(model text, version_a text, version_b text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    a federated.version;
    b federated.version;
BEGIN
    IF num_nulls(version_a, version_b) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the versions to compare must not be null';
    END IF;
    a := federated._read_version(model, version_a);
    b := federated._read_version(model, version_b);
    RETURN jsonb_build_object(
        'version_a', federated._version_metrics(a), 'version_b', federated._version_metrics(b),
        'difference', jsonb_build_object(
            'global_loss', b.global_loss - a.global_loss, 'global_accuracy', b.global_accuracy - a.global_accuracy,
            'epsilon', b.epsilon - a.epsilon, 'round_number', b.round_number - a.round_number),
        'parameter_distance', federated._distance(a, b));
END
$$;

COMMENT ON FUNCTION @extschema@.compare_federated_models(text, text, text) IS
    'Two versions of a model, each named by tag or number: their metrics, b minus a, and parameter_distance, the L2 distance of their coefficients in raw feature units (null where features differ or a version''s numbers were not kept)';

REVOKE ALL ON FUNCTION @extschema@.federated_model_versions(text) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_checkpoints(text) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.compare_federated_models(text, text, text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_model_versions(text), @extschema@.federated_checkpoints(text),
    @extschema@.compare_federated_models(text, text, text), federated._version_number(text, text),
    federated._json_numbers(jsonb), federated._distance(federated.version, federated.version),
    federated._version_metrics(federated.version), federated._read_version(text, text)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._define_version(text, text, bigint, integer), federated._label_functions(bigint, integer),
    federated._rename_functions(bigint, text, text, jsonb), federated._json_numbers(jsonb)
TO federated_owner;

GRANT SELECT ON federated.tag, federated.checkpoint TO federated_analyst, federated_auditor, federated_owner;

-- The functions in federated_model show these numbers to the same roles.
GRANT SELECT (prediction) ON federated.version TO federated_analyst, federated_auditor;

GRANT INSERT (model_id, name, version), DELETE ON federated.tag TO federated_operator;

GRANT UPDATE (is_current) ON federated.version TO federated_operator, federated_owner;

ALTER FUNCTION federated._keep_version_functions() OWNER TO federated_owner;

ALTER FUNCTION federated._retire_current() OWNER TO federated_owner;

ALTER FUNCTION federated._publish_version() OWNER TO federated_owner;

SELECT pg_catalog.pg_extension_config_dump('federated.tag', '');

SELECT pg_catalog.pg_extension_config_dump('federated.checkpoint', '');

-- What the ledger says, workspace by workspace and round by round.

-- The ε that the last training rounds of the most charged node added. A round's cost is the sum of what its releases
-- added to the composed ε; rounds whose releases added nothing that can be seen leave no mean to divide by.
CREATE FUNCTION federated._recent_round_cost(workspace text) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH most_charged AS (
        SELECT l.node_name FROM federated.ledger AS l WHERE l.workspace = _recent_round_cost.workspace
        ORDER BY l.epsilon_tight DESC, l.node_name LIMIT 1
    ), releases AS (
        SELECT l.run_id, l.round_number, l.ledger_id,
               l.epsilon_tight - lag(l.epsilon_tight, 1, 0) OVER (ORDER BY l.ledger_id) AS added
        FROM federated.ledger AS l
        WHERE l.workspace = _recent_round_cost.workspace AND l.node_name = (SELECT m.node_name FROM most_charged AS m)
    ), rounds AS (
        SELECT sum(r.added) AS cost FROM releases AS r
        WHERE r.round_number > 0
        GROUP BY r.run_id, r.round_number ORDER BY max(r.ledger_id) DESC LIMIT 10
    )
    SELECT CASE WHEN avg(r.cost) > 1e-9 THEN avg(r.cost) END FROM rounds AS r
$$;

COMMENT ON FUNCTION federated._recent_round_cost(text) IS
    'Mean of what each of the last ten training rounds added to the composed epsilon of the most charged node; NULL before any';

CREATE VIEW @extschema@.federated_privacy_budget_status AS
SELECT w.name AS workspace_name, b.total AS total_budget_epsilon, b.consumed AS consumed_epsilon,
       CASE WHEN b.total IS NOT NULL THEN greatest(b.total - b.consumed, 0) END AS remaining_epsilon,
       (SELECT count(*) FROM federated.model AS m
        JOIN federated.run AS r USING (model_id) JOIN federated.round AS d USING (run_id)
        WHERE m.workspace_id = w.workspace_id AND d.round_number > 0 AND d.status = 'closed') AS rounds_completed,
       floor(greatest(b.total - b.consumed, 0) / federated._recent_round_cost(w.name))::bigint AS estimated_remaining_rounds,
       coalesce((w.options ->> 'delta')::double precision, 1e-5) AS delta
FROM federated.workspace AS w
CROSS JOIN LATERAL (
    SELECT o.total,
           coalesce((SELECT max(l.epsilon_tight) FROM federated.ledger AS l WHERE l.workspace = w.name),
                    CASE WHEN o.total IS NOT NULL THEN 0 END) AS consumed
    FROM (SELECT (w.options ->> 'privacy_budget')::double precision AS total) AS o
) AS b;

COMMENT ON VIEW @extschema@.federated_privacy_budget_status IS 'What each workspace may spend, has spent, and how far the rest may reach';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.workspace_name IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.total_budget_epsilon IS 'The option privacy_budget; NULL: the workspace has no budget';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.consumed_epsilon IS
    'What the most charged node has spent: all its releases composed (PLD) at delta, reserved ones included; NULL without a budget where nothing was ever charged';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.remaining_epsilon IS 'Never below 0; NULL without a budget';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.rounds_completed IS
    'Training rounds (round 0 is none) that were closed in all runs of the models that the workspace has now';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.estimated_remaining_rounds IS
    'Whole rounds for which remaining_epsilon lasts if each adds as much as the last ten training rounds of the most charged node did on the mean; NULL without a budget, before any training round was charged, and where they added nothing that can be seen. Each run divides what is left among its own rounds: the next one may well plan more rounds, each with more noise';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.delta IS 'At which every epsilon here is stated';

CREATE VIEW @extschema@.federated_privacy_history AS
SELECT r.recorded_at AS "timestamp", r.workspace AS workspace_name, r.model_name, r.round_number,
       max(r.reached) OVER (PARTITION BY r.workspace ORDER BY r.last_line) AS cumulative_epsilon,
       r.cost AS epsilon_per_round, r.noise_multiplier, r.clipping_threshold
FROM (
    SELECT n.workspace, n.model_name, n.run_id, n.round_number, max(n.recorded_at) AS recorded_at,
           max(n.last_line) AS last_line, max(n.reached) AS reached, max(n.cost) AS cost,
           max(n.noise_multiplier) AS noise_multiplier, max(n.clipping_norm) AS clipping_threshold
    FROM (
        SELECT l.workspace, l.model_name, l.run_id, l.round_number, l.node_name, max(l.recorded_at) AS recorded_at,
               max(l.ledger_id) AS last_line, max(l.epsilon_tight) AS reached, sum(l.epsilon) AS cost,
               max(l.noise_multiplier) FILTER (WHERE l.step <> 'evaluate') AS noise_multiplier,
               max(l.clipping_norm) AS clipping_norm
        FROM federated.ledger AS l
        GROUP BY l.workspace, l.model_name, l.run_id, l.round_number, l.node_name
    ) AS n
    GROUP BY n.workspace, n.model_name, n.run_id, n.round_number
) AS r;

COMMENT ON VIEW @extschema@.federated_privacy_history IS
    'One row for each round that was charged to a ledger, those of dropped models and workspaces included; round 0 gathers feature statistics';

COMMENT ON COLUMN @extschema@.federated_privacy_history.workspace_name IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_privacy_history.model_name IS 'Name of the model as it was then';

COMMENT ON COLUMN @extschema@.federated_privacy_history.round_number IS 'The round; 0 gathers feature statistics';

COMMENT ON COLUMN @extschema@.federated_privacy_history."timestamp" IS 'When the last of the round''s charges was reserved';

COMMENT ON COLUMN @extschema@.federated_privacy_history.cumulative_epsilon IS
    'What the most charged node of the workspace has spent up to and with this round, composed (PLD) at the workspace''s delta';

COMMENT ON COLUMN @extschema@.federated_privacy_history.epsilon_per_round IS
    'Sum of the epsilon of each of the round''s releases by itself, at the node where it is most; rounds add up to more than cumulative_epsilon, because composing many is tighter than adding';

COMMENT ON COLUMN @extschema@.federated_privacy_history.noise_multiplier IS
    'Standard deviation of the noise over the sensitivity: of each training step, of the feature statistics in round 0';

COMMENT ON COLUMN @extschema@.federated_privacy_history.clipping_threshold IS
    'L2 norm to which a subject''s gradient was clipped; NULL in round 0, whose sums are bounded by construction';

REVOKE ALL ON FUNCTION federated._recent_round_cost(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION federated._recent_round_cost(text) TO federated_analyst, federated_auditor;

GRANT SELECT ON @extschema@.federated_privacy_budget_status, @extschema@.federated_privacy_history
TO federated_analyst, federated_auditor;

CREATE OR REPLACE FUNCTION @extschema@.federated_training_metrics(
    model text,
    OUT round_number integer, OUT "timestamp" timestamptz, OUT global_loss double precision,
    OUT global_accuracy double precision, OUT participating_nodes integer, OUT dropped_nodes integer,
    OUT round_duration_seconds double precision, OUT communication_mb double precision,
    OUT privacy_consumed_epsilon double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH latest AS (
        SELECT r.* FROM federated.run AS r
        WHERE r.model_id = federated._model_id(federated_training_metrics.model)
        ORDER BY r.created_at DESC LIMIT 1
    ), charged AS (
        SELECT l.round_number, max(l.epsilon_tight) AS epsilon
        FROM federated.ledger AS l WHERE l.run_id = (SELECT run_id FROM latest)
        GROUP BY l.round_number
    )
    SELECT d.round_number, coalesce(d.finished_at, d.started_at), d.global_loss, d.global_accuracy,
           p.participating, p.dropped,
           extract(epoch FROM d.finished_at - d.started_at)::double precision, p.megabytes,
           max(c.epsilon) OVER (ORDER BY d.round_number)
    FROM latest JOIN federated.round AS d USING (run_id)
    LEFT JOIN charged AS c ON c.round_number = d.round_number
    CROSS JOIN LATERAL (
        SELECT count(DISTINCT node_id) FILTER (WHERE step <> 'evaluate' AND outcome = 'received')::integer AS participating,
               count(DISTINCT node_id) FILTER (WHERE outcome IN ('dropped', 'refused', 'rejected'))::integer AS dropped,
               sum(coalesce(bytes_sent, 0) + coalesce(bytes_received, 0))::double precision / 1e6 AS megabytes
        FROM federated.participation AS q
        WHERE q.run_id = d.run_id AND q.round_number = d.round_number
    ) AS p
    ORDER BY 1
$$;

COMMENT ON FUNCTION @extschema@.federated_training_metrics(text) IS
    'Figures of each round of a model''s latest run; communication_mb is what was sent to and received from all nodes in all exchanges of the round, every attempt counted, in 10^6 bytes of messages before HTTP/2 framing and TLS; privacy_consumed_epsilon is what the most charged node has spent in the workspace up to the round, NULL without a budget';

CREATE OR REPLACE FUNCTION @extschema@.wait_for_convergence(model text, timeout_seconds double precision DEFAULT 3600) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    awaited_model bigint := federated._model_id(model);
    deadline      timestamptz;
    awaited_run   uuid;
    current       federated.run;
BEGIN
    -- NaN is greater than every other number.
    IF timeout_seconds IS NULL OR timeout_seconds < 0 OR timeout_seconds >= 'Infinity' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'timeout_seconds must be a finite number, 0 or more';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction',
            MESSAGE = 'wait_for_convergence needs isolation level READ COMMITTED',
            DETAIL = 'Under a higher level this transaction would never see the run end.';
    END IF;
    awaited_run := (SELECT r.run_id FROM federated.run AS r WHERE r.model_id = awaited_model ORDER BY r.created_at DESC LIMIT 1);
    IF awaited_run IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated model "%s" has never been in training', model),
            HINT = format('START FEDERATED TRAINING %s;', quote_ident(model));
    END IF;
    IF current_setting('federated.started_run', true) = awaited_run::text THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the training of federated model "%s" was started in this transaction', model),
            DETAIL = 'No coordinator sees it before COMMIT.',
            HINT = 'COMMIT first, then wait.';
    END IF;
    deadline := clock_timestamp() + make_interval(secs => least(timeout_seconds, 1e9));
    LOOP
        -- Each statement of a VOLATILE function under READ COMMITTED takes a new snapshot.
        SELECT r.* INTO current FROM federated.run AS r WHERE r.run_id = awaited_run;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object',
                MESSAGE = format('federated model "%s" was dropped while waiting', model);
        ELSIF current.status NOT IN ('queued', 'running') THEN
            RETURN current.status;
        ELSIF clock_timestamp() >= deadline THEN
            RAISE EXCEPTION USING ERRCODE = 'query_canceled',
                MESSAGE = format('timed out waiting for federated model "%s" after %s seconds', model, timeout_seconds),
                DETAIL = CASE
                    WHEN current.status = 'queued' AND NOT EXISTS (SELECT FROM federated.lease)
                    THEN 'The run is queued: no coordinator serves this database yet; it waits for one.'
                    ELSE format('The run is %s%s; it goes on.', current.status, coalesce(': ' || current.message, ''))
                END;
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.wait_for_convergence(text, double precision) IS
    'Waits for the latest run of a model to end and says how: converged, completed, stopped, failed or budget_exhausted';

CREATE VIEW @extschema@.federated_workspace_status AS
SELECT w.name AS workspace_name, o.min_nodes AS min_nodes_required, n.registered AS registered_nodes,
       n.active AS active_nodes,
       CASE WHEN EXISTS (
                SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                WHERE m.workspace_id = w.workspace_id AND r.status = 'running') THEN 'training'
            WHEN o.budget <= o.consumed OR o.budget - o.consumed < federated._recent_round_cost(w.name)
                THEN 'budget_exhausted'
            WHEN n.active >= o.min_nodes THEN 'ready'
            WHEN n.registered >= o.min_nodes THEN 'waiting'
            ELSE 'incomplete' END AS status
FROM federated.workspace AS w
CROSS JOIN LATERAL (
    SELECT coalesce((w.options ->> 'min_nodes')::integer, 2) AS min_nodes,
           (w.options ->> 'privacy_budget')::double precision AS budget,
           (SELECT max(l.epsilon_tight) FROM federated.ledger AS l WHERE l.workspace = w.name) AS consumed
) AS o
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS registered, (count(*) FILTER (WHERE q.status = 'active'))::integer AS active
    FROM federated.node AS q WHERE q.workspace_id = w.workspace_id
) AS n;

COMMENT ON VIEW @extschema@.federated_workspace_status IS 'Every workspace, and whether a run could begin in it';

COMMENT ON COLUMN @extschema@.federated_workspace_status.workspace_name IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_workspace_status.registered_nodes IS 'Nodes of the workspace in whatever state';

COMMENT ON COLUMN @extschema@.federated_workspace_status.min_nodes_required IS 'The option min_nodes';

COMMENT ON COLUMN @extschema@.federated_workspace_status.active_nodes IS
    'Nodes that the coordinator reaches now; a slow one is asked nothing until it answers again';

COMMENT ON COLUMN @extschema@.federated_workspace_status.status IS
    'The first that holds: training (a run is running), budget_exhausted (what is left is less than a training round has cost lately), ready (as many nodes are active as a run needs), waiting (as many are registered, but not all of them active), incomplete (too few are registered)';

GRANT SELECT ON @extschema@.federated_workspace_status TO federated_analyst, federated_auditor;

-- What rounds took and how nodes took part: measured by the coordinator, and by each node for itself.
CREATE TABLE federated.phase (
    run_id           uuid NOT NULL,
    round_number     integer NOT NULL,
    phase            text NOT NULL CHECK (phase IN ('distribution', 'local_training', 'aggregation')),
    duration_seconds double precision CHECK (duration_seconds >= 0),
    cpu_seconds      double precision CHECK (cpu_seconds >= 0),
    busy_seconds     double precision CHECK (busy_seconds >= 0),
    memory_bytes     double precision CHECK (memory_bytes >= 0),
    bytes_sent       bigint,
    bytes_received   bigint,
    PRIMARY KEY (run_id, round_number, phase),
    FOREIGN KEY (run_id, round_number) REFERENCES federated.round ON DELETE CASCADE
);

COMMENT ON TABLE federated.phase IS
    'What the phases of a round took, written in the transaction that commits what the phase led to';

COMMENT ON COLUMN federated.phase.cpu_seconds IS 'Processor time, user and system: of the coordinator, in local_training of all nodes together';

COMMENT ON COLUMN federated.phase.busy_seconds IS 'The time over which cpu_seconds were spent; in local_training the sum over the nodes';

CREATE TABLE federated.contribution (
    run_id       uuid NOT NULL,
    round_number integer NOT NULL,
    node_id      bigint NOT NULL REFERENCES federated.node ON DELETE CASCADE,
    alignment    double precision CHECK (alignment BETWEEN -1 AND 1),
    PRIMARY KEY (run_id, round_number, node_id),
    FOREIGN KEY (run_id, round_number) REFERENCES federated.round ON DELETE CASCADE
);

COMMENT ON TABLE federated.contribution IS 'How each node''s update of a training round points along with the others''';

COMMENT ON COLUMN federated.contribution.alignment IS
    'Cosine between the node''s update and the mean of the other nodes'' updates weighted by their rows, from -1 to 1; NULL where no other node answered or an update has no direction (all zero, or too large to be measured)';

COMMENT ON COLUMN federated.participation.bytes_sent IS
    'Bytes of the messages sent to the node in this exchange, every attempt counted, as the coordinator handed them to gRPC: before HTTP/2 framing and TLS; NULL where the node was never asked. Greetings and heartbeats are not counted';

COMMENT ON COLUMN federated.participation.bytes_received IS 'Bytes of the messages received from the node, counted as bytes_sent';

COMMENT ON COLUMN federated.participation.duration_seconds IS
    'From the beginning of the exchange until the node''s update was there, as the coordinator saw it; NULL without an update, and where a coordinator that was started anew asked again: it did not see the beginning';

CREATE VIEW @extschema@.federated_performance_metrics AS
SELECT m.name AS model_name, p.round_number, p.phase, p.duration_seconds,
       100 * p.cpu_seconds / nullif(p.busy_seconds, 0) AS cpu_usage_percent,
       p.memory_bytes / 1e9 AS memory_usage_gb,
       p.bytes_sent / 1e6::double precision AS network_sent_mb,
       p.bytes_received / 1e6::double precision AS network_received_mb
FROM federated.model AS m
JOIN LATERAL (
    SELECT r.run_id FROM federated.run AS r WHERE r.model_id = m.model_id ORDER BY r.created_at DESC LIMIT 1
) AS latest ON true
JOIN federated.phase AS p USING (run_id)
ORDER BY m.name, p.round_number, array_position(ARRAY['distribution', 'local_training', 'aggregation'], p.phase);

COMMENT ON VIEW @extschema@.federated_performance_metrics IS
    'What each phase of each round of every model''s latest run took (round 0 gathers feature statistics); evaluation is none of the three phases';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.model_name IS 'Name of the model';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.round_number IS 'The round; 0 gathers feature statistics';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.phase IS
    'distribution: from the beginning of the exchange until the last node whose update counts had its whole task handed to its connection; local_training: from then until the coordinator waited for no more updates; aggregation: combining the updates and committing the result, up to the writing of these figures in the round''s last transaction, without the time in which the nodes evaluate';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.duration_seconds IS
    'Seconds on the coordinator''s clock; NULL where a coordinator that was started anew within the round did not see the phase whole';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.cpu_usage_percent IS
    'Processor time in percent of one core. local_training: of the nodes'' training processes while they computed, as the nodes measured it (sum over the nodes, divided by the sum of their computing times; rounded up to 10 ms under a privacy budget). Else of the coordinator''s process, other runs included. NULL where no node told, or as duration_seconds';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.memory_usage_gb IS
    'Resident memory in 10^9 bytes at its highest in the life of the process up to then. local_training: of the training process of the node that needed most, as it measured (rounded up to 16 MiB under a privacy budget); NULL where no node told. Else of the coordinator''s process';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.network_sent_mb IS
    'Tasks sent to nodes, in 10^6 bytes of messages before HTTP/2 framing and TLS, every attempt counted; 0 but in distribution';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.network_received_mb IS
    'Updates received from nodes, counted as network_sent_mb; 0 but in local_training';

CREATE FUNCTION @extschema@.federated_convergence_diagnostics(
    model text,
    OUT round_number integer, OUT global_loss double precision, OUT loss_delta double precision,
    OUT node_variance double precision, OUT learning_rate double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH latest AS (
        SELECT r.* FROM federated.run AS r
        WHERE r.model_id = federated._model_id(federated_convergence_diagnostics.model)
        ORDER BY r.created_at DESC LIMIT 1
    ), evaluated AS (
        SELECT d.round_number, d.global_loss - lag(d.global_loss) OVER (ORDER BY d.round_number) AS delta
        FROM latest JOIN federated.round AS d USING (run_id)
        WHERE d.global_loss IS NOT NULL
    )
    SELECT d.round_number, d.global_loss, e.delta, d.node_variance, (r.options ->> 'learning_rate')::double precision
    FROM latest AS r
    JOIN federated.round AS d USING (run_id)
    LEFT JOIN evaluated AS e ON e.round_number = d.round_number
    WHERE d.round_number > 0
    ORDER BY 1
$$;

COMMENT ON FUNCTION @extschema@.federated_convergence_diagnostics(text) IS
    'How the training rounds of a model''s latest run converge. loss_delta: change since the evaluated round before, NULL in the first and where the round was not evaluated. node_variance: the mean, weighted by rows, of the squared L2 distances of the nodes'' updates from their weighted mean, the privacy noise of the updates included; NULL where fewer than two nodes answered or the round is not combined yet. learning_rate: the run''s option';

CREATE OR REPLACE VIEW @extschema@.federated_node_status AS
SELECT w.name AS workspace, n.name AS node_name,
       CASE WHEN n.status = 'active' AND last.straggled THEN 'slow' ELSE n.status::text END AS status, n.last_seen,
       coalesce(p.rounds, 0) AS rounds_participated, p.seconds AS avg_round_time_seconds,
       coalesce(n.dataset_size, (n.options ->> 'dataset_size')::bigint) AS dataset_size,
       c.score AS contribution_score
FROM federated.node AS n
JOIN federated.workspace AS w USING (workspace_id)
LEFT JOIN (
    SELECT q.node_id, count(*)::integer AS rounds, avg(q.duration_seconds) AS seconds
    FROM federated.participation AS q
    WHERE q.step = 'train' AND q.outcome = 'received'
    GROUP BY q.node_id
) AS p USING (node_id)
LEFT JOIN (
    SELECT DISTINCT ON (q.node_id) q.node_id, q.outcome = 'dropped' AND q.reason = 'timed out' AS straggled
    FROM federated.participation AS q JOIN federated.round AS d USING (run_id, round_number)
    WHERE q.outcome <> 'pending'
    ORDER BY q.node_id, d.started_at DESC, q.step = 'evaluate' DESC
) AS last USING (node_id)
LEFT JOIN (
    SELECT a.node_id, avg(a.alignment) AS score FROM federated.contribution AS a GROUP BY a.node_id
) AS c USING (node_id);

COMMENT ON VIEW @extschema@.federated_node_status IS 'Every registered node, and how it takes part';

COMMENT ON COLUMN @extschema@.federated_node_status.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_node_status.node_name IS 'Name of the node in its workspace';

COMMENT ON COLUMN @extschema@.federated_node_status.status IS
    'pending: not met yet; active: it answers; slow: it misses heartbeats, or was dropped from its last round because it did not answer in time; failed: see federated_node_diagnostics.failure_reason';

COMMENT ON COLUMN @extschema@.federated_node_status.last_seen IS 'When it last answered a greeting or a heartbeat; NULL before any';

COMMENT ON COLUMN @extschema@.federated_node_status.rounds_participated IS 'Training rounds, over all runs, to which its update was counted';

COMMENT ON COLUMN @extschema@.federated_node_status.avg_round_time_seconds IS
    'Mean over those rounds of the time from the beginning of the exchange until its update was there; NULL before any';

COMMENT ON COLUMN @extschema@.federated_node_status.dataset_size IS
    'Rows as released in round 0 of the last run (noised under a budget), before that as declared at registration';

COMMENT ON COLUMN @extschema@.federated_node_status.contribution_score IS
    'Gradient alignment, from -1 to 1: in each training round the cosine between the node''s update and the mean of the other nodes'' updates weighted by rows (the cosine gradient Shapley value of Xu et al. 2021, with the node itself left out of the direction); the mean over all its rounds of all runs in which another node took part. Near 1: it moves the model as the others do; 0: unrelated; below 0: against them. Privacy noise draws it towards 0. NULL before such a round';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.node_name IS 'Name of the node in its workspace';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.connection_status IS
    'connected, connecting (not met yet) or disconnected, as the coordinator last found it';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.endpoint_in_use IS 'The address at which the node is called';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.last_heartbeat IS 'When it last answered a greeting or a heartbeat; NULL before any';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.failure_reason IS 'Why it is slow or failed; NULL while it answers and before it was tried';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.certificate_expires IS 'When the pinned certificate expires; NULL until the node was met';

REVOKE ALL ON FUNCTION @extschema@.federated_convergence_diagnostics(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION @extschema@.federated_convergence_diagnostics(text)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT SELECT ON @extschema@.federated_performance_metrics TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.phase, federated.contribution TO federated_analyst, federated_auditor;

GRANT INSERT ON federated.phase, federated.contribution TO federated_daemon;

SELECT pg_catalog.pg_extension_config_dump('federated.phase', '');

SELECT pg_catalog.pg_extension_config_dump('federated.contribution', '');

-- How a model does, and what is known of the data behind it.

-- A column list behind a function's call names some of its columns, in any order.
CREATE FUNCTION federated._project(answer jsonb, columns text[], known text[], source text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown text := (SELECT c FROM unnest(columns) WITH ORDINALITY AS u (c, place) WHERE c <> ALL (known) ORDER BY place LIMIT 1);
BEGIN
    IF columns IS NULL OR array_position(columns, NULL) IS NOT NULL OR cardinality(columns) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = format('%s needs the names of its columns', source),
            HINT = format('Its columns are %s.', array_to_string(known, ', '));
    ELSIF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('%s has no column "%s"', source, unknown),
            HINT = format('Its columns are %s.', array_to_string(known, ', '));
    END IF;
    RETURN (
        SELECT coalesce(jsonb_agg((SELECT jsonb_object_agg(c, coalesce(r.line -> c, 'null')) FROM unnest(columns) AS c)
                                  ORDER BY r.place), '[]')
        FROM jsonb_array_elements(answer) WITH ORDINALITY AS r (line, place));
END
$$;

COMMENT ON FUNCTION federated._project(jsonb, text[], text[], text) IS
    'Rows, given as a JSON array of objects, in the columns that a column list names; error 42703 for one that there is not';

CREATE FUNCTION federated._evaluation(model text)
RETURNS TABLE (global_loss double precision, global_accuracy double precision, global_precision double precision,
               global_recall double precision, global_f1_score double precision, per_node_metrics jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT v.global_loss, v.global_accuracy INTO global_loss, global_accuracy
    FROM federated.version AS v WHERE v.model_id = federated._model_id(model) AND v.is_current;
    IF NOT FOUND THEN
        PERFORM federated._predict_untrained(model);
    END IF;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION federated._evaluation(text) IS
    'What is known of how a model''s current version does: one row; what nodes do not count is NULL';

CREATE FUNCTION @extschema@.federated_evaluate(model text, OUT metric text, OUT value double precision) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.metric, m.value
    FROM federated._evaluation(federated_evaluate.model) AS e
    CROSS JOIN LATERAL (VALUES
        (1, 'global_loss', e.global_loss), (2, 'global_accuracy', e.global_accuracy),
        (3, 'global_precision', e.global_precision), (4, 'global_recall', e.global_recall),
        (5, 'global_f1_score', e.global_f1_score)) AS m (place, metric, value)
    ORDER BY m.place
$$;

COMMENT ON FUNCTION @extschema@.federated_evaluate(text) IS
    'How the current version of a model did over the held-out rows of all nodes when it was made: nothing is computed anew. global_loss and global_accuracy (R squared for regression) are NULL where that round was not evaluated (validation_split, validation_frequency) or the privacy budget left no figure, which federated_training_status then says; global_precision, global_recall and global_f1_score are always NULL: nodes count only right answers, not of which class';

CREATE FUNCTION federated._evaluate_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(e)) FROM federated._evaluation(_evaluate_columns.model) AS e), columns,
        ARRAY['global_loss', 'global_accuracy', 'global_precision', 'global_recall', 'global_f1_score', 'per_node_metrics'],
        'federated_evaluate')
$$;

COMMENT ON FUNCTION federated._evaluate_columns(text, text[]) IS
    'federated_evaluate with a column list: an array of one object; per_node_metrics is null, since the coordinator keeps sums over nodes only';

CREATE FUNCTION @extschema@.federated_data_quality_check(
    model text, OUT node_name text, OUT feature_statistics jsonb, OUT missing_values jsonb, OUT outliers jsonb
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    latest federated.run;
BEGIN
    SELECT r.* INTO latest FROM federated.run AS r
    WHERE r.model_id = federated._model_id(model) AND r.scaling ? 'means' ORDER BY r.created_at DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('no feature statistics of federated model "%s" have been gathered yet', model),
            DETAIL = 'Round 0 of a run gathers them.',
            HINT = format('START FEDERATED TRAINING %s.', quote_ident(model));
    END IF;
    feature_statistics := (
        SELECT jsonb_object_agg(f.feature, jsonb_build_object('mean', m.mean, 'scale', s.scale))
        FROM jsonb_array_elements_text(latest.options -> 'features') WITH ORDINALITY AS f (feature, place)
        JOIN jsonb_array_elements(latest.scaling -> 'means') WITH ORDINALITY AS m (mean, place) USING (place)
        JOIN jsonb_array_elements(latest.scaling -> 'scales') WITH ORDINALITY AS s (scale, place) USING (place));
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_data_quality_check(text) IS
    'What round 0 of the latest run that gathered feature statistics found: one row over all nodes together, whose node_name is NULL, since the coordinator keeps sums over nodes only. feature_statistics has the mean and the scale (standard deviation; 1 for a feature that does not vary) of each feature, noised and estimated under a privacy budget; missing_values and outliers are NULL: missing values are counted for the mean, but the count is not kept, and outliers are not counted';

CREATE FUNCTION federated._data_quality_check_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(q)) FROM @extschema@.federated_data_quality_check(_data_quality_check_columns.model) AS q),
        columns, ARRAY['node_name', 'feature_statistics', 'missing_values', 'outliers'], 'federated_data_quality_check')
$$;

COMMENT ON FUNCTION federated._data_quality_check_columns(text, text[]) IS 'federated_data_quality_check with a column list';

REVOKE ALL ON FUNCTION
    @extschema@.federated_evaluate(text), @extschema@.federated_data_quality_check(text),
    federated._project(jsonb, text[], text[], text), federated._evaluation(text),
    federated._evaluate_columns(text, text[]), federated._data_quality_check_columns(text, text[])
FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_evaluate(text), @extschema@.federated_data_quality_check(text),
    federated._project(jsonb, text[], text[], text), federated._evaluation(text),
    federated._evaluate_columns(text, text[]), federated._data_quality_check_columns(text, text[])
TO federated_analyst, federated_auditor;

-- Single checks that the reports are made of. All run with the caller's rights: what a caller may not see is for a
-- person to look at (MANUAL), and no error. status is PASS, FAIL or MANUAL; evidence has what was seen.
CREATE FUNCTION federated._may_read_hba() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
       AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
$$;

COMMENT ON FUNCTION federated._may_read_hba() IS 'Whether the caller can read the server''s pg_hba.conf';

CREATE FUNCTION federated._check_rights(OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH members AS (
        SELECT d.objid FROM pg_depend AS d
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'heliosdb_federated_learning'
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    ), objects AS (
        SELECT n.nspname::text AS name, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl
        FROM pg_namespace AS n WHERE n.nspname IN ('federated', 'federated_model', 'federated_dataset')
        UNION ALL
        SELECT c.oid::regclass::text, coalesce(c.relacl, acldefault('r', c.relowner))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'S') AND (n.nspname IN ('federated', 'federated_dataset') OR c.oid IN (SELECT objid FROM members))
        UNION ALL
        SELECT format('%s.%s', c.oid::regclass, quote_ident(t.attname)), t.attacl
        FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE t.attacl IS NOT NULL AND (n.nspname IN ('federated', 'federated_dataset') OR c.oid IN (SELECT objid FROM members))
        UNION ALL
        SELECT t.oid::regtype::text, coalesce(t.typacl, acldefault('T', t.typowner))
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e' AND n.nspname = 'federated'
        UNION ALL
        SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('federated', 'federated_model') OR p.oid IN (SELECT objid FROM members)
    ), open_to_all AS (
        SELECT o.name FROM objects AS o WHERE EXISTS (SELECT FROM aclexplode(o.acl) AS a WHERE a.grantee = 0)
    )
    SELECT CASE count(o.name) WHEN 0 THEN 'PASS' ELSE 'FAIL' END,
           CASE count(o.name) WHEN 0 THEN 'Only granted roles reach the catalog, its functions, the models and the shared data.'
                ELSE 'REVOKE ALL FROM PUBLIC on the objects named in the evidence.' END,
           format('%s of %s objects are granted to PUBLIC', count(o.name), (SELECT count(*) FROM objects))
               || coalesce(': ' || string_agg(o.name, ', ' ORDER BY o.name), '')
    FROM open_to_all AS o
$$;

COMMENT ON FUNCTION federated._check_rights() IS 'Whether anything of the extension is granted to PUBLIC';

CREATE FUNCTION federated._check_audit(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    missing text := (
        SELECT string_agg(t.relation, ', ' ORDER BY t.relation)
        FROM unnest(ARRAY['workspace', 'node', 'model', 'run', 'dataset', 'version', 'tag', 'audit']) AS t (relation)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger AS g
            WHERE g.tgrelid = ('federated.' || t.relation)::regclass AND g.tgenabled IN ('O', 'A')
              AND g.tgfoid = CASE t.relation WHEN 'audit' THEN 'federated._link_audit()' ELSE 'federated._audit()' END::regprocedure));
BEGIN
    SELECT v.* INTO found FROM @extschema@.federated_audit_verify(workspace) AS v;
    status := CASE WHEN missing IS NULL AND found.is_intact THEN 'PASS' ELSE 'FAIL' END;
    details := CASE
        WHEN missing IS NOT NULL THEN 'Not every change is recorded: enable the triggers of the tables named in the evidence.'
        WHEN NOT found.is_intact THEN 'The audit log is not as it was written: find out who could change it, and compare with a backup.'
        ELSE 'Every change is recorded with who made it, and the log is as it was written. Compare its head with one noted elsewhere.' END;
    evidence := format('%s entries, head %s', found.entries, coalesce(found.head_hash, 'none'))
        || coalesce('; broken: ' || found.reason, '') || coalesce('; no trigger on: ' || missing, '');
END
$$;

COMMENT ON FUNCTION federated._check_audit(text) IS 'Whether every change is recorded, and the audit log holds';

CREATE FUNCTION federated._check_nodes(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.unpinned > 0 OR f.expired > 0 THEN 'FAIL' WHEN f.met = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.expired > 0 THEN 'Give the nodes named in the evidence new certificates.'
                WHEN f.unpinned > 0 THEN 'A node is in use whose certificate is not pinned: register it again.'
                WHEN f.met = 0 THEN 'The coordinator has met no node yet: look again when it has.'
                ELSE 'Each node that is in use is known by its own pinned certificate, which is valid.' END,
           format('%s nodes registered, %s in use, %s of them without a pinned certificate, %s certificates expired',
                  f.registered, f.met, f.unpinned, f.expired) || coalesce(': ' || f.names, '')
    FROM (
        SELECT count(*) AS registered, count(*) FILTER (WHERE n.status IN ('active', 'slow')) AS met,
               count(*) FILTER (WHERE n.status IN ('active', 'slow') AND n.certificate IS NULL) AS unpinned,
               count(*) FILTER (WHERE n.certificate_expires <= now()) AS expired,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate_expires <= now()) AS names
        FROM federated.node AS n WHERE n.workspace_id = _check_nodes.workspace_id
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_nodes(bigint) IS 'Whether nodes are known by pinned certificates that are valid';

CREATE FUNCTION federated._check_node_links(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.weak THEN 'FAIL' WHEN f.nodes = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.weak THEN 'Set tls_version to 1.3, certificate_validation to true and https endpoints.'
                WHEN f.nodes = 0 THEN 'No node is registered yet: look again when there are some.'
                ELSE 'Coordinator and nodes speak TLS 1.3 with certificates on both sides, and vectors are sealed besides.' END,
           format('tls_version %s, certificate_validation %s, encryption %s, %s of %s endpoints are not https',
                  f.tls, f.validated, f.cipher, f.plain, f.nodes)
    FROM (
        SELECT o.*, n.*, o.tls <> '1.3' OR o.validated <> 'true' OR n.plain > 0 AS weak
        FROM (
            SELECT coalesce(w.options ->> 'tls_version', '1.3') AS tls,
                   coalesce(w.options ->> 'certificate_validation', 'true') AS validated,
                   coalesce(w.options ->> 'encryption', 'AES-256-GCM') AS cipher
            FROM federated.workspace AS w WHERE w.workspace_id = _check_node_links.workspace_id
        ) AS o
        CROSS JOIN (
            SELECT count(*) AS nodes, count(*) FILTER (WHERE (q.options ->> 'endpoint' ILIKE 'https://%') IS NOT TRUE) AS plain
            FROM federated.node AS q WHERE q.workspace_id = _check_node_links.workspace_id
        ) AS n
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_node_links(bigint) IS 'Whether what coordinator and nodes send each other is encrypted';

CREATE FUNCTION federated._check_client_links(OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    encrypted boolean := current_setting('ssl')::boolean;
    is_local  boolean := NOT EXISTS (
        SELECT FROM regexp_split_to_table(current_setting('listen_addresses'), '\s*,\s*') AS a
        WHERE a NOT IN ('', 'localhost', '127.0.0.1', '::1'));
    plain     bigint;
BEGIN
    evidence := format('ssl = %s, listen_addresses = ''%s''', current_setting('ssl'), current_setting('listen_addresses'));
    IF encrypted AND NOT is_local AND federated._may_read_hba() THEN
        SELECT count(*) INTO plain FROM pg_hba_file_rules AS h
        WHERE h.type IN ('host', 'hostnossl', 'hostnogssenc') AND h.auth_method <> 'reject'
          AND h.address NOT IN ('127.0.0.1', '::1', 'localhost', 'samehost');
        evidence := evidence || format(', %s lines of pg_hba.conf let in connections without encryption', plain);
    END IF;
    SELECT c.status, c.details INTO status, details FROM (VALUES
        (is_local, 'MANUAL', 'Only this machine reaches the server. Look at the TLS of what clients connect to: the proxy, which this check cannot see.'),
        (NOT encrypted, 'FAIL', 'The server listens to other machines without TLS: set ssl = on.'),
        (plain IS NULL, 'MANUAL', 'TLS is offered. Look in pg_hba.conf, which the caller may not read, whether it is demanded (hostssl).'),
        (plain > 0, 'FAIL', 'TLS is offered but not demanded: write hostssl in place of host in pg_hba.conf.'),
        (true, 'PASS', 'Clients on other machines reach the server by TLS only.')
    ) AS c (holds, status, details) WHERE c.holds LIMIT 1;
END
$$;

COMMENT ON FUNCTION federated._check_client_links() IS 'Whether what clients and server send each other is encrypted';

CREATE FUNCTION federated._check_logins(OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    trusted text;
    broken  bigint;
BEGIN
    IF NOT federated._may_read_hba() THEN
        status := 'MANUAL';
        details := 'Look in pg_hba.conf, which the caller may not read, for lines that let in without authentication (trust).';
        evidence := 'pg_hba.conf is not readable';
        RETURN;
    END IF;
    SELECT string_agg(h.line_number::text, ', ' ORDER BY h.line_number) FILTER (WHERE h.auth_method = 'trust'),
           count(h.error)
    INTO trusted, broken FROM pg_hba_file_rules AS h;
    status := CASE WHEN trusted IS NOT NULL OR broken > 0 THEN 'FAIL' ELSE 'PASS' END;
    details := CASE
        WHEN trusted IS NOT NULL THEN 'pg_hba.conf lets in without authentication: write scram-sha-256, cert or peer in place of trust.'
        WHEN broken > 0 THEN 'pg_hba.conf has lines that the server cannot read: correct them.'
        ELSE 'Whoever connects is authenticated.' END;
    evidence := format('lines with trust: %s, lines in error: %s', coalesce(trusted, 'none'), broken);
END
$$;

COMMENT ON FUNCTION federated._check_logins() IS 'Whether whoever connects to the server is authenticated';

CREATE FUNCTION federated._check_storage(OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN s.off IS NULL THEN 'PASS' ELSE 'FAIL' END,
           CASE WHEN s.off IS NULL THEN 'What is committed is on disk, and damage on disk is noticed.'
                ELSE format('Turn on: %s (checksums with pg_checksums --enable).', s.off) END,
           s.seen
    FROM (
        SELECT string_agg(k.name, ', ' ORDER BY k.name) FILTER (WHERE k.setting <> 'on') AS off,
               string_agg(k.name || ' = ' || k.setting, ', ' ORDER BY k.name) AS seen
        FROM pg_settings AS k WHERE k.name IN ('data_checksums', 'fsync', 'full_page_writes')
    ) AS s
$$;

COMMENT ON FUNCTION federated._check_storage() IS 'Whether the server keeps what is committed, and notices damage';

CREATE FUNCTION federated._check_budget(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN b.total_epsilon IS NULL OR b.consumed_epsilon > b.total_epsilon OR p.plain > 0 THEN 'FAIL' ELSE 'PASS' END,
           CASE WHEN b.total_epsilon IS NULL THEN 'Exact sums leave the nodes: set privacy_budget.'
                WHEN b.consumed_epsilon > b.total_epsilon THEN 'More has been spent than the budget allows now.'
                WHEN p.plain > 0 THEN 'Runs before the budget was set let exact sums leave the nodes: a budget cannot cover them.'
                ELSE 'What leaves the nodes is noised, and within the budget. Whether that epsilon is small enough is for a person to judge.' END,
           format('epsilon %s of %s spent at delta %s, %s runs without a budget', coalesce(b.consumed_epsilon::text, 'none'),
                  coalesce(b.total_epsilon::text, 'none'), p.delta, p.plain)
    FROM @extschema@.federated_privacy_budget(_check_budget.workspace) AS b
    CROSS JOIN (
        SELECT coalesce((w.options ->> 'delta')::double precision, 1e-5) AS delta,
               -- From the log: a run goes with its model, and what it let out does not come back.
               (SELECT count(*) FROM (
                    SELECT a.object_name AS run_id FROM federated.audit AS a
                    WHERE a.workspace = w.name AND a.object_kind = 'run'
                      AND a.details -> 'after' ->> 'status' = 'running'
                      AND a.details -> 'after' -> 'policy' ->> 'privacy_budget' IS NULL
                    UNION
                    SELECT r.run_id::text FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                    WHERE m.workspace_id = w.workspace_id AND r.started_at IS NOT NULL
                      AND r.policy ->> 'privacy_budget' IS NULL
                ) AS u) AS plain
        FROM federated.workspace AS w WHERE w.name = _check_budget.workspace
    ) AS p
$$;

COMMENT ON FUNCTION federated._check_budget(text) IS 'Whether what left the nodes was noised within a budget';

CREATE FUNCTION federated._residency_allows(required text, stated text) RETURNS boolean
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.check_residency(plpy, required, stated, "1.1")
$$;

COMMENT ON FUNCTION federated._residency_allows(text, text) IS 'Whether a place lies within another, as REGISTER FEDERATED NODE decides it';

CREATE FUNCTION federated._check_residency(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.outside IS NOT NULL THEN 'FAIL' ELSE 'MANUAL' END,
           CASE WHEN f.outside IS NOT NULL THEN 'Nodes lie outside of where the data must be: unregister them.'
                WHEN f.required IS NULL THEN 'No place is required: set data_residency, or look where the nodes are.'
                ELSE 'Each node states a place within the one that is required. Look whether what they state is true, and where the coordinator is.' END,
           format('data_residency %s; nodes: %s', coalesce(f.required, 'not set'), coalesce(f.places, 'none'))
               || coalesce('; outside: ' || f.outside, '')
    FROM (
        SELECT w.options ->> 'data_residency' AS required,
               string_agg(n.name || ' in ' || coalesce(n.options ->> 'data_residency', 'an unstated place'), ', ' ORDER BY n.name) AS places,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (
                   WHERE w.options ->> 'data_residency' IS NOT NULL AND federated._residency_allows(
                       w.options ->> 'data_residency', n.options ->> 'data_residency') IS NOT TRUE) AS outside
        FROM federated.workspace AS w LEFT JOIN federated.node AS n USING (workspace_id)
        WHERE w.workspace_id = _check_residency.workspace_id GROUP BY w.workspace_id
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_residency(bigint) IS 'Whether nodes state that their data lie where they must';

CREATE FUNCTION federated._check_mode(workspace_id bigint, regulation text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN m.mode IN (upper(regulation), 'BOTH') THEN 'PASS' ELSE 'FAIL' END,
           CASE WHEN m.mode IN (upper(regulation), 'BOTH') THEN 'Options that this regulation forbids are refused.'
                ELSE format('Nothing is refused for the sake of %s: set compliance_mode, where this version takes the value.', upper(regulation)) END,
           format('compliance_mode %s', m.mode)
    FROM (
        SELECT upper(coalesce(w.options ->> 'compliance_mode', 'none')) AS mode
        FROM federated.workspace AS w WHERE w.workspace_id = _check_mode.workspace_id
    ) AS m
$$;

COMMENT ON FUNCTION federated._check_mode(bigint, text) IS 'Whether the workspace declares that it is under a regulation';

GRANT EXECUTE ON FUNCTION
    federated._may_read_hba(), federated._check_rights(), federated._check_audit(text), federated._check_nodes(bigint),
    federated._check_node_links(bigint), federated._check_client_links(), federated._check_logins(),
    federated._check_storage(), federated._check_budget(text), federated._residency_allows(text, text),
    federated._check_residency(bigint), federated._check_mode(bigint, text)
TO federated_auditor, federated_admin;

-- What makes a federation less safe than it could be. WARN: worth a look, but it may be meant so.
CREATE FUNCTION federated._node_security(workspace_id bigint) RETURNS TABLE (check_name text, status text, recommendation text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH nodes AS (
        SELECT n.name, n.status, n.certificate, n.certificate_expires FROM federated.node AS n
        WHERE n.workspace_id = _node_security.workspace_id
    ), certificates AS (
        SELECT string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate_expires <= now()) AS expired,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (
                   WHERE n.certificate_expires > now() AND n.certificate_expires <= now() + interval '30 days') AS expiring,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate IS NULL) AS unpinned,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (
                   WHERE n.certificate IS NULL AND n.status IN ('active', 'slow')) AS used_unpinned,
               min(n.certificate_expires) AS first_expiry, count(n.certificate) AS pinned, count(*) AS registered
        FROM nodes AS n
    )
    SELECT 'node_certificate_expiry', CASE WHEN c.expired IS NOT NULL THEN 'FAIL' WHEN c.expiring IS NOT NULL THEN 'WARN'
                                           WHEN c.first_expiry IS NULL THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN c.expired IS NOT NULL THEN format('Renew the expired certificates of: %s.', c.expired)
                WHEN c.expiring IS NOT NULL THEN format('Renew the certificates that expire within 30 days: %s.', c.expiring)
                WHEN c.first_expiry IS NULL THEN 'No certificate of a node is known yet: look again when the coordinator has met the nodes.'
                ELSE format('None: the first certificate expires on %s.', to_char(c.first_expiry AT TIME ZONE 'UTC', 'YYYY-MM-DD')) END
    FROM certificates AS c
    UNION ALL
    SELECT 'node_certificates_pinned', CASE WHEN c.used_unpinned IS NOT NULL THEN 'FAIL' WHEN c.registered = 0 THEN 'MANUAL'
                                            WHEN c.unpinned IS NOT NULL THEN 'WARN' ELSE 'PASS' END,
           CASE WHEN c.used_unpinned IS NOT NULL THEN format('Register again the nodes that are in use without a pinned certificate: %s.', c.used_unpinned)
                WHEN c.registered = 0 THEN 'No node is registered yet: look again when there are some.'
                WHEN c.unpinned IS NOT NULL THEN format('Find out why the coordinator has not met, or unregister: %s.', c.unpinned)
                ELSE format('None: the certificates of all %s nodes are pinned.', c.pinned) END
    FROM certificates AS c
$$;

COMMENT ON FUNCTION federated._node_security(bigint) IS 'The certificates of a workspace''s nodes; one that expires within 30 days is WARN';

CREATE FUNCTION federated._role_security() RETURNS TABLE (check_name text, status text, recommendation text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH found AS (
        SELECT (SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin) AS superusers,
               (SELECT count(*) FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin) AS superuser_count,
               (SELECT string_agg(DISTINCT other.rolname::text, ', ')
                FROM pg_auth_members AS m JOIN pg_roles AS o ON o.oid IN (m.roleid, m.member)
                JOIN pg_roles AS other ON other.oid IN (m.roleid, m.member) AND other.oid <> o.oid
                WHERE o.rolname = 'federated_owner') AS related,
               (SELECT r.rolcanlogin OR r.rolsuper FROM pg_roles AS r WHERE r.rolname = 'federated_owner') AS owner_is_person,
               (SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles AS r
                WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, 'federated_daemon', 'MEMBER')) AS daemons,
               (SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles AS r
                WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, 'federated_daemon', 'MEMBER')
                  AND (pg_has_role(r.oid, 'federated_operator', 'MEMBER') OR pg_has_role(r.oid, 'federated_reader', 'MEMBER'))) AS mixed
    )
    SELECT 'superuser_logins', CASE WHEN f.superuser_count > 1 THEN 'WARN' ELSE 'PASS' END,
           CASE WHEN f.superuser_count > 1 THEN format('Look whether all of these superusers must be able to log in: %s.', f.superusers)
                ELSE format('None: the only superuser who can log in is %s.', coalesce(f.superusers, 'nobody')) END
    FROM found AS f
    UNION ALL
    SELECT 'federated_owner_members', CASE WHEN f.related IS NOT NULL OR f.owner_is_person THEN 'FAIL' ELSE 'PASS' END,
           CASE WHEN f.owner_is_person THEN 'ALTER ROLE federated_owner NOLOGIN NOSUPERUSER.'
                WHEN f.related IS NOT NULL THEN format('REVOKE federated_owner from, or from it, each of: %s. Whoever is its member can put code where superusers run it.', f.related)
                ELSE 'None: federated_owner has no members, is a member of nothing, and cannot log in.' END
    FROM found AS f
    UNION ALL
    SELECT 'federated_daemon_members', CASE WHEN f.mixed IS NOT NULL THEN 'FAIL' ELSE 'PASS' END,
           CASE WHEN f.mixed IS NOT NULL THEN format('Give daemons logins of their own, apart from people and from the reader of shared data: %s.', f.mixed)
                ELSE format('None: daemons log in as %s.', coalesce(f.daemons, 'nobody yet')) END
    FROM found AS f
$$;

COMMENT ON FUNCTION federated._role_security() IS 'Who can log in as superuser, and who belongs to the roles that code runs under';

CREATE FUNCTION federated._server_security() RETURNS TABLE (check_name text, status text, recommendation text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    method text := (SELECT s.reset_val FROM pg_settings AS s WHERE s.name = 'password_encryption');
    weak   bigint;
BEGIN
    RETURN QUERY SELECT 'client_tls', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_client_links() AS c;
    RETURN QUERY SELECT 'client_authentication', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_logins() AS c;
    IF has_column_privilege('pg_authid', 'rolpassword', 'SELECT') THEN
        SELECT count(*) INTO weak FROM pg_authid AS a WHERE a.rolcanlogin AND a.rolpassword LIKE 'md5%';
    END IF;
    RETURN QUERY SELECT 'password_encryption',
        CASE WHEN method <> 'scram-sha-256' OR weak > 0 THEN 'FAIL' WHEN weak IS NULL THEN 'MANUAL' ELSE 'PASS' END,
        CASE WHEN method <> 'scram-sha-256' THEN format('Set password_encryption to scram-sha-256 in place of %s, and set all passwords anew.', method)
             WHEN weak > 0 THEN format('Set the passwords anew that are still kept as MD5: of %s roles.', weak)
             WHEN weak IS NULL THEN 'New passwords are kept as scram-sha-256. Look whether older ones are still MD5, which the caller may not read.'
             ELSE 'None: all passwords are kept as scram-sha-256.' END;
    RETURN QUERY SELECT 'public_rights', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_rights() AS c;
    RETURN QUERY SELECT 'extension_version', CASE WHEN x.extversion = a.default_version THEN 'PASS' WHEN a.default_version IS NULL THEN 'MANUAL' ELSE 'WARN' END,
        CASE WHEN x.extversion = a.default_version THEN format('None: version %s is the newest that is installed on the server.', x.extversion)
             WHEN a.default_version IS NULL THEN 'Look on the server for the newest version of the extension: its files are not where they should be.'
             ELSE format('ALTER EXTENSION heliosdb_federated_learning UPDATE: from %s to %s.', x.extversion, a.default_version) END
    FROM pg_extension AS x LEFT JOIN pg_available_extensions AS a ON a.name = x.extname
    WHERE x.extname = 'heliosdb_federated_learning';
END
$$;

COMMENT ON FUNCTION federated._server_security() IS 'Settings of the server, and rights on the extension''s objects';

CREATE FUNCTION @extschema@.federated_security_audit(
    workspace text, OUT check_name text, OUT status text, OUT recommendation text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint := federated._workspace_id(workspace);
BEGIN
    RETURN QUERY SELECT s.* FROM federated._node_security(found_id) AS s;
    RETURN QUERY SELECT 'node_links', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_node_links(found_id) AS c;
    RETURN QUERY SELECT 'privacy_budget', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_budget(workspace) AS c;
    RETURN QUERY SELECT 'fewest_nodes', CASE WHEN o.min_nodes < 3 THEN 'WARN' ELSE 'PASS' END,
        CASE WHEN o.min_nodes < 3 THEN format('Set min_nodes to 3 or more in place of %s: of two participants each can take its own part out of what is combined.', o.min_nodes)
             ELSE format('None: a run needs %s nodes.', o.min_nodes) END
    FROM (SELECT coalesce((w.options ->> 'min_nodes')::integer, 2) AS min_nodes
          FROM federated.workspace AS w WHERE w.workspace_id = found_id) AS o;
    RETURN QUERY SELECT 'secure_aggregation', 'WARN', 'The coordinator sees each node''s vector by itself, since this version has no secure aggregation: run it where every participant trusts it.';
    RETURN QUERY SELECT 'audit_log', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_audit(workspace) AS c;
    RETURN QUERY SELECT s.* FROM federated._role_security() AS s;
    RETURN QUERY SELECT s.* FROM federated._server_security() AS s;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_security_audit(text) IS
    'What makes a workspace, its nodes or its server less safe than they could be. status: PASS; FAIL; WARN (worth a look, but it may be meant so); MANUAL (the caller may not see it, or no program can: recommendation says where to look). Certificates that expire within 30 days, more than one superuser who can log in and fewer than 3 nodes are WARN';

CREATE FUNCTION federated._security_audit_columns(workspace text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(s)) FROM @extschema@.federated_security_audit(_security_audit_columns.workspace) AS s),
        columns, ARRAY['check_name', 'status', 'recommendation'], 'federated_security_audit')
$$;

COMMENT ON FUNCTION federated._security_audit_columns(text, text[]) IS 'federated_security_audit with a column list';

REVOKE ALL ON FUNCTION @extschema@.federated_security_audit(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_security_audit(text), federated._security_audit_columns(text, text[]),
    federated._node_security(bigint), federated._role_security(), federated._server_security()
TO federated_auditor, federated_admin;

-- Reports for auditors. A requirement is PASS only by what was checked just now; what no program can know is MANUAL
-- and says what a person has to look at.
CREATE VIEW @extschema@.federated_erasure_status AS
SELECT NULL::uuid AS request_id, NULL::text AS workspace, NULL::text AS model_name, NULL::text AS subject_hash,
       NULL::timestamptz AS requested_at, NULL::timestamptz AS deadline, NULL::text AS status, NULL::text AS node_name,
       NULL::timestamptz AS completed_at, NULL::jsonb AS receipt
WHERE false;

COMMENT ON VIEW @extschema@.federated_erasure_status IS
    'Requests to erase data subjects, with each node''s receipt. Always empty: this version erases nothing (DELETE FROM FEDERATED TRAINING answers 0A000)';

COMMENT ON COLUMN @extschema@.federated_erasure_status.request_id IS 'The request: one for each subject named';

COMMENT ON COLUMN @extschema@.federated_erasure_status.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_erasure_status.model_name IS 'Name of the model from whose training the subject is to be erased';

COMMENT ON COLUMN @extschema@.federated_erasure_status.subject_hash IS 'Never the subject''s name in plain';

COMMENT ON COLUMN @extschema@.federated_erasure_status.requested_at IS 'When the request was committed';

COMMENT ON COLUMN @extschema@.federated_erasure_status.deadline IS 'One month after the request (GDPR Art. 12(3))';

COMMENT ON COLUMN @extschema@.federated_erasure_status.status IS 'How far the request has come at the node';

COMMENT ON COLUMN @extschema@.federated_erasure_status.node_name IS 'The node that is to erase';

COMMENT ON COLUMN @extschema@.federated_erasure_status.completed_at IS 'When the node had erased; NULL until then';

COMMENT ON COLUMN @extschema@.federated_erasure_status.receipt IS 'What the node signed; NULL until then';

CREATE VIEW @extschema@.federated_consent AS
SELECT NULL::text AS workspace, NULL::text AS subject_hash, NULL::text AS purpose, NULL::text AS version,
       NULL::text AS status, NULL::timestamptz AS granted_at, NULL::timestamptz AS revoked_at
WHERE false;

COMMENT ON VIEW @extschema@.federated_consent IS
    'The state of consent by data subject and purpose. Always empty: this version records no consent (GRANT FEDERATED CONSENT answers 0A000)';

COMMENT ON COLUMN @extschema@.federated_consent.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_consent.subject_hash IS 'Never the subject''s name in plain';

COMMENT ON COLUMN @extschema@.federated_consent.purpose IS 'What was consented to; NULL for every purpose';

COMMENT ON COLUMN @extschema@.federated_consent.version IS 'Of the text that was consented to; NULL where none was named';

COMMENT ON COLUMN @extschema@.federated_consent.status IS 'granted or revoked';

COMMENT ON COLUMN @extschema@.federated_consent.granted_at IS 'When consent was given';

COMMENT ON COLUMN @extschema@.federated_consent.revoked_at IS 'When it was withdrawn; NULL while it holds';

CREATE FUNCTION federated._describe_members() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'may log in: ' || coalesce(string_agg(format('%s (%s)', m.name, m.roles), ', ' ORDER BY m.name), 'nobody')
    FROM (
        SELECT r.rolname::text AS name,
               CASE WHEN r.rolsuper THEN 'superuser' ELSE string_agg(f.rolname::text, ', ' ORDER BY f.rolname) END AS roles
        FROM pg_roles AS r JOIN pg_roles AS f ON f.rolname IN (
            'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor', 'federated_daemon', 'federated_reader')
        WHERE r.rolcanlogin AND pg_has_role(r.oid, f.oid, 'MEMBER')
        GROUP BY r.rolname, r.rolsuper
    ) AS m
$$;

COMMENT ON FUNCTION federated._describe_members() IS 'Who can log in with rights of the federation';

CREATE FUNCTION federated._describe_use(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('%s: %s from %s', m.name, coalesce(m.options ->> 'target', 'no target'), coalesce(
        (SELECT string_agg(f #>> '{}', ', ') FROM jsonb_path_query(m.options, 'lax $.features[*]') AS q (f)), 'no features')), '; '
        ORDER BY m.name), 'no models')
    FROM federated.model AS m WHERE m.workspace_id = _describe_use.workspace_id
$$;

COMMENT ON FUNCTION federated._describe_use(bigint) IS 'Which columns the models of a workspace use';

CREATE FUNCTION federated._describe_log(workspace text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s entries, the oldest of %s; retention_days %s', count(*),
                  coalesce(to_char(min(a.recorded_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'),
                  (SELECT coalesce(w.options ->> 'retention_days', 'not set') FROM federated.workspace AS w
                   WHERE w.name = _describe_log.workspace))
    FROM federated.audit AS a WHERE a.workspace = _describe_log.workspace
$$;

COMMENT ON FUNCTION federated._describe_log(text) IS 'How far back the audit log of a workspace goes';

CREATE FUNCTION federated._hipaa_findings(workspace_id bigint, workspace text)
RETURNS TABLE (requirement text, status text, details text, evidence text, reference text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'Workspace declared under HIPAA', c.*, '45 CFR 164.306(a)'
    FROM federated._check_mode(workspace_id, 'HIPAA') AS c
    UNION ALL SELECT 'Risk analysis', 'MANUAL', 'Look whether a risk analysis has been made and is current; federated_security_audit is a part of it.',
        (SELECT format('%s checks of the security audit fail', count(*) FILTER (WHERE s.status = 'FAIL'))
         FROM @extschema@.federated_security_audit(workspace) AS s), '45 CFR 164.308(a)(1)(ii)(A)'
    UNION ALL SELECT 'Information system activity review', 'MANUAL', 'Look whether somebody reviews federated_audit_log regularly.',
        federated._describe_log(workspace), '45 CFR 164.308(a)(1)(ii)(D)'
    UNION ALL SELECT 'Workforce access', 'MANUAL', 'Look whether everybody who can log in should still be able to.',
        federated._describe_members(), '45 CFR 164.308(a)(3)(i), (a)(4)(i)'
    UNION ALL SELECT 'Backup and recovery', 'MANUAL', 'Look whether backups of the catalog are taken, and whether restoring one has been tried.',
        format('archive_mode = %s, wal_level = %s', current_setting('archive_mode'), current_setting('wal_level')), '45 CFR 164.308(a)(7)(ii)(A)'
    UNION ALL SELECT 'Business associate contracts', 'MANUAL', 'Look whether there is a contract with every participant.',
        (SELECT format('%s nodes', count(*)) FROM federated.node AS n WHERE n.workspace_id = _hipaa_findings.workspace_id),
        '45 CFR 164.308(b)(1), 164.504(e)'
    UNION ALL SELECT 'Access control', c.*, '45 CFR 164.312(a)(1)' FROM federated._check_rights() AS c
    UNION ALL SELECT 'Unique user identification', 'MANUAL', 'Look whether each of these is one person or one program.',
        federated._describe_members(), '45 CFR 164.312(a)(2)(i)'
    UNION ALL SELECT 'Automatic logoff', 'MANUAL', 'Look whether sessions that are left alone end, in the server or in what people work with.',
        (SELECT format('idle_session_timeout = %s %s', s.reset_val, s.unit) FROM pg_settings AS s WHERE s.name = 'idle_session_timeout'), '45 CFR 164.312(a)(2)(iii)'
    UNION ALL SELECT 'Encryption at rest', 'MANUAL', 'Parameters are sealed with AES-256-GCM. Look whether the disks of server, nodes and backups are encrypted: models as functions, and the nodes'' own rows, are not.',
        (SELECT format('%s versions with sealed parameters', count(*)) FROM federated.version AS v
         JOIN federated.model AS m USING (model_id) WHERE m.workspace_id = _hipaa_findings.workspace_id), '45 CFR 164.312(a)(2)(iv)'
    UNION ALL SELECT 'Audit controls', c.*, '45 CFR 164.312(b)' FROM federated._check_audit(workspace) AS c
    UNION ALL SELECT 'Integrity of what is stored', c.*, '45 CFR 164.312(c)(1)' FROM federated._check_storage() AS c
    UNION ALL SELECT 'Authentication of nodes', c.*, '45 CFR 164.312(d)' FROM federated._check_nodes(workspace_id) AS c
    UNION ALL SELECT 'Authentication of users', c.*, '45 CFR 164.312(d)' FROM federated._check_logins() AS c
    UNION ALL SELECT 'Transmission security: coordinator and nodes', c.*, '45 CFR 164.312(e)(1)' FROM federated._check_node_links(workspace_id) AS c
    UNION ALL SELECT 'Transmission security: clients', c.*, '45 CFR 164.312(e)(1)' FROM federated._check_client_links() AS c
    UNION ALL SELECT 'Retention of documentation for six years', 'MANUAL', 'Nothing in the audit log is ever deleted, but this version has no function that keeps it for retention_days. Look whether database and backups are kept for six years.',
        federated._describe_log(workspace), '45 CFR 164.316(b)(2)(i)'
    UNION ALL SELECT 'Minimum necessary', 'MANUAL', 'Look whether every model needs all the columns that it uses.',
        federated._describe_use(workspace_id), '45 CFR 164.502(b)'
    UNION ALL SELECT 'De-identification of what leaves a node', CASE c.status WHEN 'PASS' THEN 'MANUAL' ELSE c.status END, c.details, c.evidence,
        '45 CFR 164.514(b)' FROM federated._check_budget(workspace) AS c
    UNION ALL SELECT 'Notification of breaches', 'MANUAL', 'Look whether it is settled who notifies whom, and within 60 days.', 'not in the catalog', '45 CFR 164.404'
$$;

COMMENT ON FUNCTION federated._hipaa_findings(bigint, text) IS 'The requirements of the HIPAA Security Rule, and of the Privacy Rule where a federation touches it';

CREATE FUNCTION federated._gdpr_findings(workspace_id bigint, workspace text)
RETURNS TABLE (requirement text, status text, details text, evidence text, reference text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'Workspace declared under GDPR', c.*, 'Art. 24' FROM federated._check_mode(workspace_id, 'GDPR') AS c
    UNION ALL SELECT 'Purpose limitation', 'MANUAL', 'Look whether each model serves a purpose for which its data were collected; each dataset''s purpose is written at its node.',
        federated._describe_use(workspace_id), 'Art. 5(1)(b)'
    UNION ALL SELECT 'Data minimisation', 'MANUAL', 'Look whether every model needs all the columns that it uses.',
        federated._describe_use(workspace_id), 'Art. 5(1)(c)'
    UNION ALL SELECT 'Storage limitation', 'FAIL', 'This version has no function that deletes what is older than retention_days.',
        federated._describe_log(workspace), 'Art. 5(1)(e)'
    UNION ALL SELECT 'Integrity and confidentiality: what is stored', c.*, 'Art. 5(1)(f), 32(1)(b)' FROM federated._check_storage() AS c
    UNION ALL SELECT 'Integrity and confidentiality: access', c.*, 'Art. 5(1)(f), 32(1)(b)' FROM federated._check_rights() AS c
    UNION ALL SELECT 'Accountability', c.*, 'Art. 5(2)' FROM federated._check_audit(workspace) AS c
    UNION ALL SELECT 'Lawfulness and consent', 'MANUAL', 'This version records no consent. Look on what the processing rests; where on consent, whether every row shared has it.',
        'not in the catalog', 'Art. 6, 7, 9'
    UNION ALL SELECT 'Access and portability', 'FAIL', 'This version has no function that exports what is held about a data subject.', 'EXPORT FEDERATED DATA answers 0A000', 'Art. 15, 20'
    UNION ALL SELECT 'Erasure', 'FAIL', 'This version has no function that takes a data subject out of a trained model. A node''s own rows are its DBA''s to delete.',
        'DELETE FROM FEDERATED TRAINING answers 0A000', 'Art. 17'
    UNION ALL SELECT 'Automated decisions', 'MANUAL', 'Look whether anybody decides about people by predictions alone.',
        federated._describe_use(workspace_id), 'Art. 22'
    UNION ALL SELECT 'Data protection by design', c.*, 'Art. 25(1)' FROM federated._check_budget(workspace) AS c
    UNION ALL SELECT 'Joint controllers and processors', 'MANUAL', 'Look whether there is an arrangement or a contract with every participant.',
        (SELECT format('%s nodes', count(*)) FROM federated.node AS n WHERE n.workspace_id = _gdpr_findings.workspace_id), 'Art. 26, 28'
    UNION ALL SELECT 'Records of processing', 'MANUAL', 'Look whether the record of processing names this workspace; runs and changes are in the catalog.',
        (SELECT format('%s runs, ', count(*)) FROM federated.run AS r JOIN federated.model AS m USING (model_id)
         WHERE m.workspace_id = _gdpr_findings.workspace_id) || federated._describe_log(workspace), 'Art. 30'
    UNION ALL SELECT 'Encryption between coordinator and nodes', c.*, 'Art. 32(1)(a)' FROM federated._check_node_links(workspace_id) AS c
    UNION ALL SELECT 'Encryption towards clients', c.*, 'Art. 32(1)(a)' FROM federated._check_client_links() AS c
    UNION ALL SELECT 'Authentication of nodes', c.*, 'Art. 32(1)(b)' FROM federated._check_nodes(workspace_id) AS c
    UNION ALL SELECT 'Authentication of users', c.*, 'Art. 32(1)(b)' FROM federated._check_logins() AS c
    UNION ALL SELECT 'Recovery', 'MANUAL', 'Look whether backups of the catalog are taken, and whether restoring one has been tried.',
        format('archive_mode = %s, wal_level = %s', current_setting('archive_mode'), current_setting('wal_level')), 'Art. 32(1)(c)'
    UNION ALL SELECT 'Regular testing', 'MANUAL', 'Look whether federated_security_audit is read regularly, and what followed.',
        (SELECT format('%s checks of the security audit fail', count(*) FILTER (WHERE s.status = 'FAIL'))
         FROM @extschema@.federated_security_audit(workspace) AS s), 'Art. 32(1)(d)'
    UNION ALL SELECT 'Notification of breaches', 'MANUAL', 'Look whether it is settled who notifies the authority within 72 hours, and the people concerned.', 'not in the catalog', 'Art. 33, 34'
    UNION ALL SELECT 'Impact assessment', 'MANUAL', 'Look whether an assessment has been made; it has to weigh the epsilon that a person may spend.',
        (SELECT c.evidence FROM federated._check_budget(workspace) AS c), 'Art. 35'
    UNION ALL SELECT 'Transfers to third countries', c.*, 'Art. 44' FROM federated._check_residency(workspace_id) AS c
$$;

COMMENT ON FUNCTION federated._gdpr_findings(bigint, text) IS 'The articles of the GDPR that a federation touches';

CREATE FUNCTION @extschema@.federated_compliance_check(
    workspace text, regulation text,
    OUT requirement text, OUT status text, OUT details text, OUT evidence text, OUT reference text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint;
BEGIN
    IF regulation IS NULL OR upper(regulation) NOT IN ('HIPAA', 'GDPR') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the regulation must be HIPAA or GDPR, not %s', coalesce(quote_literal(regulation), 'null')),
            HINT = 'For a workspace under both, check one after the other.';
    END IF;
    found_id := federated._workspace_id(workspace);
    IF upper(regulation) = 'HIPAA' THEN
        RETURN QUERY SELECT f.* FROM federated._hipaa_findings(found_id, workspace) AS f;
    ELSE
        RETURN QUERY SELECT f.* FROM federated._gdpr_findings(found_id, workspace) AS f;
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_compliance_check(text, text) IS
    'What of HIPAA or of the GDPR a workspace meets, as far as the catalog and the server''s settings tell. status: PASS (checked just now), FAIL, or MANUAL (no program can know, or the caller may not see: details says what a person must look at); evidence: the figures seen; reference: where the requirement stands. No legal advice, and no certificate';

CREATE FUNCTION federated._compliance_check_columns(workspace text, regulation text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(c)) FROM @extschema@.federated_compliance_check(
            _compliance_check_columns.workspace, _compliance_check_columns.regulation) AS c),
        columns, ARRAY['requirement', 'status', 'details', 'evidence', 'reference'], 'federated_compliance_check')
$$;

COMMENT ON FUNCTION federated._compliance_check_columns(text, text, text[]) IS 'federated_compliance_check with a column list';

REVOKE ALL ON FUNCTION @extschema@.federated_compliance_check(text, text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_compliance_check(text, text), federated._compliance_check_columns(text, text, text[]),
    federated._describe_members(), federated._describe_use(bigint), federated._describe_log(text),
    federated._hipaa_findings(bigint, text), federated._gdpr_findings(bigint, text)
TO federated_auditor, federated_admin;

GRANT EXECUTE ON FUNCTION federated._project(jsonb, text[], text[], text) TO federated_auditor, federated_admin;

GRANT SELECT ON @extschema@.federated_erasure_status, @extschema@.federated_consent TO federated_analyst, federated_auditor;

-- The functions in federated_model belong to federated_owner, and so do the two that make them: nobody who may log
-- in can put a body of their own where a superuser would run it.
-- Owners come before rights: a change of owner after them leaves the old owner in what pg_dump takes for the
-- extension's own grants.
ALTER FUNCTION federated._keep_model_function() OWNER TO federated_owner;

ALTER FUNCTION federated._publish_function(
    bigint, integer, uuid, text[], boolean[], double precision, double precision[], double precision[],
    double precision[], text, double precision, double precision) OWNER TO federated_owner;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA federated FROM PUBLIC;

REVOKE ALL ON ALL PROCEDURES IN SCHEMA federated FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_predict(text, jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.predict(text, jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.predict(text, double precision[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_training_status(text) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_training_metrics(text) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.wait_for_convergence(text, double precision) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.federated_privacy_budget(text) FROM PUBLIC;

GRANT USAGE ON SCHEMA federated TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT USAGE ON SCHEMA federated_model TO federated_analyst;

GRANT USAGE, CREATE ON SCHEMA federated_model TO federated_owner;

GRANT USAGE ON SCHEMA federated_dataset TO federated_reader;

GRANT USAGE, CREATE ON SCHEMA federated_dataset TO federated_admin;

GRANT EXECUTE ON FUNCTION
    federated._model_id(text), federated._workspace_id(text), federated._current_features(text),
    federated._predict_untrained(text), federated._describe_call(text, text), federated._json_number(jsonb),
    federated._as_boolean(double precision), @extschema@.federated_training_status(text), @extschema@.federated_training_metrics(text),
    @extschema@.federated_privacy_budget(text)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_predict(text, jsonb), @extschema@.predict(text, jsonb),
    @extschema@.predict(text, double precision[]), @extschema@.wait_for_convergence(text, double precision)
TO federated_analyst;

GRANT EXECUTE ON FUNCTION
    federated._execute(text, name[]), federated._raise(jsonb), federated._options(), federated._check_options(text, jsonb)
TO federated_operator;

GRANT EXECUTE ON PROCEDURE federated.execute(text) TO federated_operator;

GRANT EXECUTE ON FUNCTION
    federated._create_dataset_view(text, name, name, text[], text, name[]), federated._drop_dataset_view(text)
TO federated_admin;

GRANT EXECUTE ON FUNCTION
    federated._describe_arguments(jsonb), federated._drop_model_function(text, text),
    federated._create_untrained_function(text, jsonb), federated._finish_model_function(text, text),
    federated._predict_untrained(text),
    federated._check_prediction(
        text[], boolean[], double precision[], double precision[], double precision[], double precision[], text),
    federated._render_prediction(
        text[], boolean[], double precision, double precision[], double precision[], double precision[], text,
        double precision, double precision)
TO federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._publish_function(
        bigint, integer, uuid, text[], boolean[], double precision, double precision[], double precision[],
        double precision[], text, double precision, double precision)
TO federated_daemon;

GRANT SELECT ON @extschema@.federated_node_status, @extschema@.federated_node_diagnostics
TO federated_analyst, federated_auditor;

-- Analysts and auditors read everything but parameters, which are sealed besides.
GRANT SELECT ON federated.workspace, federated.node, federated.model, federated.run, federated.round,
    federated.participation, federated.ledger, federated.lease, federated.event, federated.dataset, federated.spending
TO federated_analyst, federated_auditor;

GRANT SELECT (version_id, model_id, version, run_id, round_number, features, scaling, sha256, global_loss,
    global_accuracy, epsilon, is_current, created_at) ON federated.version
TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.audit TO federated_auditor;

-- Operators change what statements change. Workspaces, nodes and datasets are the admins' business.
GRANT INSERT (workspace_id, name, options), UPDATE (options), DELETE ON federated.model TO federated_operator;

GRANT INSERT (model_id, overrides), UPDATE (stop_requested) ON federated.run TO federated_operator;

GRANT INSERT (name, options), UPDATE (options), DELETE ON federated.workspace TO federated_admin;

GRANT INSERT (workspace_id, name, options), UPDATE (options), DELETE ON federated.node TO federated_admin;

GRANT INSERT (name, workspace, relation, columns, types, options), DELETE ON federated.dataset TO federated_admin;

GRANT SELECT ON ALL TABLES IN SCHEMA federated TO federated_daemon;

GRANT UPDATE (status, failure_reason, certificate, certificate_expires, last_seen, dataset_size) ON federated.node TO federated_daemon;

GRANT UPDATE (status, scaling, plan, message, started_at, finished_at) ON federated.run TO federated_daemon;

GRANT INSERT, UPDATE ON federated.round, federated.participation TO federated_daemon;

GRANT INSERT, UPDATE (is_current) ON federated.version TO federated_daemon;

GRANT INSERT, UPDATE (state, epsilon_basic, epsilon_tight) ON federated.ledger TO federated_daemon;

GRANT INSERT, UPDATE, DELETE ON federated.run_parameters TO federated_daemon;

-- A reservation is taken back where certainly nothing was released.
GRANT DELETE ON federated.ledger TO federated_daemon;

GRANT INSERT, UPDATE ON federated.lease TO federated_daemon;

GRANT INSERT ON federated.event TO federated_daemon;

REVOKE SELECT ON federated.audit FROM federated_daemon;

-- federated_admin may back the database up (parameters and payloads are sealed).
GRANT SELECT ON ALL TABLES IN SCHEMA federated TO federated_admin;

GRANT SELECT ON ALL SEQUENCES IN SCHEMA federated TO federated_admin;

GRANT SELECT ON federated.model, federated.version TO federated_owner;

DO $$
DECLARE
    identity_sequence regclass;
BEGIN
    FOR identity_sequence IN
        SELECT c.oid FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'federated'::regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'S'
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(identity_sequence, '');
    END LOOP;
END
$$;

-- The audit log of before: which workspace each entry is about, then one chain a workspace.
UPDATE federated.audit AS a SET workspace = coalesce(
    nullif(federated._audited_workspace(a.object_kind, coalesce(a.details -> 'after', a.details -> 'before')), ''),
    (SELECT min(w.object_name) FROM federated.audit AS w
     WHERE w.object_kind = 'workspace'
       AND coalesce(w.details -> 'after', w.details -> 'before') ->> 'workspace_id'
           = coalesce(a.details -> 'after', a.details -> 'before') ->> 'workspace_id'),
    '');
SELECT federated._link_audit_entries();
