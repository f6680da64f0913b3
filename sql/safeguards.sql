-- What holds for every change of the catalog, whichever way it is made: statement, INSERT or DELETE.

CREATE FUNCTION federated._options() RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"failure": {"sqlstate": "55000", "hint": "Reconnect.",'
            ' "message": "this session began before the extension was updated"}}')
return door.describe_options("@VERSION@")
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
return door.check_options(kind, options, "@VERSION@")
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
CREATE TRIGGER check_options BEFORE INSERT OR UPDATE OF options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('dataset', 'options');
CREATE TRIGGER check_options BEFORE INSERT ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('training', 'overrides');

-- Without a budget nodes would be asked for answers without noise from the rows that it was spent on.
CREATE FUNCTION federated._keep_budget() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    consumed double precision := (
        SELECT max(l.epsilon_tight) FROM federated.ledger AS l WHERE l.workspace = OLD.name);
BEGIN
    IF consumed > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the privacy_budget of federated workspace "%s" cannot be reset', OLD.name),
            DETAIL = format('Epsilon %s of it is consumed.', round(consumed::numeric, 6)),
            HINT = 'SET (privacy_budget = ...) changes it; for training without a budget make another workspace.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._keep_budget() IS 'Lets no workspace be without a budget that has spent from one';

CREATE TRIGGER keep_budget BEFORE UPDATE OF options ON federated.workspace
    FOR EACH ROW WHEN (OLD.options ? 'privacy_budget' AND NOT NEW.options ? 'privacy_budget')
    EXECUTE FUNCTION federated._keep_budget();

-- The subject says which columns are shared and what was charged by whom.
CREATE FUNCTION federated._keep_subject() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('the subject of federated dataset "%s" cannot be altered', OLD.name),
        HINT = 'DROP FEDERATED DATASET, then CREATE FEDERATED DATASET: what its tables have spent stays spent.';
END
$$;
COMMENT ON FUNCTION federated._keep_subject() IS 'Keeps a dataset''s subject';

CREATE TRIGGER keep_subject BEFORE UPDATE OF options ON federated.dataset
    FOR EACH ROW WHEN (NEW.options -> 'subject' IS DISTINCT FROM OLD.options -> 'subject')
    EXECUTE FUNCTION federated._keep_subject();

-- Plain answers are the nodes' to give: each refuses them itself, and a run that all would refuse is not begun.
CREATE FUNCTION federated._why_not_plain(workspace bigint, policy jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'sqlstate', '22023',
        'message', format('federated training without a privacy_budget is refused under compliance_mode %s', policy ->> 'compliance_mode'),
        'detail', CASE WHEN count(*) = 0 THEN 'No node is registered.' ELSE format('Not allowed by %s.', string_agg(
            n.name || CASE WHEN n.plain_answers IS NULL THEN ' (not met yet)' ELSE '' END, ', ' ORDER BY n.name)
            FILTER (WHERE n.plain_answers IS NOT TRUE)) END,
        'hint', 'Give the workspace a privacy_budget; or have each node''s DBA ALTER FEDERATED DATASET ... SET (plain_answers = true), which is seen here within a minute.')
    FROM federated.node AS n
    WHERE n.workspace_id = workspace
    HAVING coalesce(policy ->> 'compliance_mode', 'none') <> 'none' AND policy ->> 'privacy_budget' IS NULL
       AND (count(*) = 0 OR NOT coalesce(bool_and(n.plain_answers IS TRUE), false))
$$;
COMMENT ON FUNCTION federated._why_not_plain(bigint, jsonb) IS
    'Why a run under such a policy is refused for answers without noise, for federated._raise; NULL where it is not';

-- Only the table's owner may name policy or options (restoring a dump does); for all others they are NULL here.
CREATE FUNCTION federated._snapshot_run() RETURNS trigger
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
    SELECT m.options, w.options AS policy, w.name AS workspace, w.workspace_id INTO subject
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE m.model_id = NEW.model_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the run''s federated model does not exist';
    END IF;
    known := federated._options();
    PERFORM federated._raise(known -> 'failure');
    unknown := (SELECT min(k) FROM jsonb_object_keys(NEW.overrides) AS k WHERE NOT known -> 'training' ? k);
    IF NEW.resumed_from IS NOT NULL AND NEW.overrides <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a run that goes on from a checkpoint has the options that it was started with';
    ELSIF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('option "%s" cannot be set for one run', unknown);
    END IF;
    -- wait_for_convergence would wait for ever in the transaction that starts the run.
    IF NOT NEW.waiting THEN
        PERFORM set_config('federated.started_run', NEW.run_id::text, true);
    END IF;
    NEW.options := known -> 'model' || subject.options || NEW.overrides;
    NEW.policy := known -> 'workspace' || subject.policy
        || jsonb_build_object('workspace', subject.workspace)
        -- Who gathers for whom: the run's tasks are the same whatever is altered meanwhile.
        || (SELECT jsonb_strip_nulls(jsonb_build_object('aggregators', jsonb_object_agg(n.name, n.options -> 'aggregator')))
            FROM federated.node AS n WHERE n.workspace_id = subject.workspace_id AND n.options ? 'aggregator');
    PERFORM federated._raise(federated._why_not_plain(subject.workspace_id, NEW.policy));
    IF NEW.resumed_from IS NOT NULL THEN
        -- Which options these are, and which policy they go with, the coordinator reads in what it has sealed.
        NEW.options := '{}';
        RETURN NEW;
    END IF;
    PERFORM federated._check_series(NEW);
    NEW.lineage := federated._trace(NEW);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._snapshot_run() IS
    'Gives a run its options and its workspace''s policy as they stand: whoever queues it has no say in the policy';

CREATE TRIGGER snapshot_run BEFORE INSERT ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._snapshot_run();

-- A queued run has spent nothing and nobody works on it: it needs no coordinator to be stopped.
CREATE FUNCTION federated._stop_queued_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.status := 'stopped';
    NEW.message := CASE WHEN OLD.started_at IS NULL THEN 'stopped before it began' ELSE 'stopped before it went on' END;
    NEW.finished_at := clock_timestamp();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._stop_queued_run() IS 'Ends a run at once that is asked to stop while it is queued';

CREATE TRIGGER stop_queued_run BEFORE UPDATE OF stop_requested ON federated.run
    FOR EACH ROW WHEN (NEW.stop_requested AND OLD.status = 'queued' AND NEW.status = 'queued')
    EXECUTE FUNCTION federated._stop_queued_run();

-- The row is locked before the trigger fires, so that no START can come between check and deletion.
CREATE FUNCTION federated._refuse_model_in_training() RETURNS trigger
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

CREATE TRIGGER refuse_model_in_training BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_model_in_training();
CREATE TRIGGER refuse_rename_in_training BEFORE UPDATE OF name ON federated.model
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._refuse_model_in_training();

CREATE FUNCTION federated._reset_node() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.status := 'pending';
    NEW.failure_reason := NULL;
    NEW.certificate := NULL;
    NEW.certificate_expires := NULL;
    NEW.plain_answers := NULL;
    NEW.datasets := NULL;
    NEW.extras := NULL;
    NEW.endpoint_in_use := NULL;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._reset_node() IS 'A node whose registration changed is to be met, and its certificate pinned, again';

CREATE TRIGGER reset_node BEFORE UPDATE OF options ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._reset_node();

CREATE FUNCTION federated._keep_charges() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = 'what the ledger has charged is never taken back';
END
$$;
COMMENT ON FUNCTION federated._keep_charges() IS 'Lets reservations be taken back, but no charge';

CREATE TRIGGER keep_state BEFORE UPDATE OF state ON federated.ledger
    FOR EACH ROW WHEN (OLD.state = 'charged' AND NEW.state <> 'charged') EXECUTE FUNCTION federated._keep_charges();
CREATE TRIGGER keep_charges BEFORE DELETE ON federated.ledger
    FOR EACH ROW WHEN (OLD.state = 'charged') EXECUTE FUNCTION federated._keep_charges();

-- The coordinator corrects sums where it takes a reservation back; else nobody has a reason to. Whoever owns the table
-- may do as they like, as far as the audit log then shows it.
CREATE FUNCTION federated._keep_sums() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = TG_RELID), 'USAGE') THEN
        RETURN NEW;
    END IF;
    IF NOT federated._took_back(OLD.workspace, OLD.node_name, OLD.ledger_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the sums of the ledger change only where a reservation before them is taken back';
    END IF;
    IF NOT NEW.epsilon_tight <= OLD.epsilon_tight + 1e-9 * (1 + OLD.epsilon_tight) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'a reservation that is taken back leaves nothing that costs more than before';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._keep_sums() IS
    'Lets the sums of a line change only in a transaction that took a reservation of the same node before it back, and only down';

CREATE TRIGGER keep_sums BEFORE UPDATE OF epsilon_basic, epsilon_tight ON federated.ledger
    FOR EACH ROW WHEN ((OLD.epsilon_basic, OLD.epsilon_tight) IS DISTINCT FROM (NEW.epsilon_basic, NEW.epsilon_tight))
    EXECUTE FUNCTION federated._keep_sums();

-- After the whole statement, so that lines that are written together are compared as they came out. What the composed
-- epsilon would have to be is not for SQL to tell: the nodes sign theirs (federated.node_spending).
CREATE FUNCTION federated._check_sums() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    basic_before double precision;
    tight_before double precision;
BEGIN
    IF pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = TG_RELID), 'USAGE') THEN
        RETURN NULL;
    END IF;
    SELECT l.epsilon_basic, l.epsilon_tight INTO basic_before, tight_before
    FROM federated.ledger AS l
    WHERE l.workspace = NEW.workspace AND l.node_name = NEW.node_name AND l.ledger_id < NEW.ledger_id
    ORDER BY l.ledger_id DESC LIMIT 1;
    IF (NEW.epsilon >= 0 AND NEW.epsilon_tight < 'Infinity'
        AND abs(NEW.epsilon_basic - coalesce(basic_before, 0) - NEW.epsilon) <= 1e-6 * (1 + NEW.epsilon_basic)
        AND NEW.epsilon_tight >= coalesce(tight_before, 0)
        AND NEW.epsilon_tight >= NEW.epsilon - 1e-6 * (1 + NEW.epsilon)) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation',
            MESSAGE = format('a line of the ledger does not follow from the one before it at node %s', quote_literal(NEW.node_name)),
            DETAIL = 'epsilon_basic is that of the line before and epsilon; epsilon_tight is less than neither epsilon nor that of the line before.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._check_sums() IS 'Lets no line in whose sums do not follow from the line before it';

CREATE TRIGGER check_sums AFTER INSERT OR UPDATE OF epsilon_basic, epsilon_tight ON federated.ledger
    FOR EACH ROW EXECUTE FUNCTION federated._check_sums();
