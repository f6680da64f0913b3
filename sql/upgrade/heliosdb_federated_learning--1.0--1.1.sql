\echo Use "ALTER EXTENSION heliosdb_federated_learning UPDATE TO '1.1'" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

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
    NEW.options := known -> 'model' || subject.options || NEW.overrides;
    NEW.policy := known -> 'workspace' || subject.policy || jsonb_build_object('workspace', subject.workspace);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._snapshot_run() IS
    'Gives a run its options and its workspace''s policy as they stand: whoever queues it has no say in the policy';

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

GRANT EXECUTE ON FUNCTION federated._execute(text, name[]), federated._raise(jsonb), federated._options()
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

GRANT INSERT, UPDATE ON federated.round, federated.participation, federated.version, federated.ledger TO federated_daemon;

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

-- What the columns of the views mean. Those that are read with another view's are worded alike.
COMMENT ON COLUMN @extschema@.federated_node_status.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_node_status.node_name IS 'Name of the node in its workspace';

COMMENT ON COLUMN @extschema@.federated_node_status.status IS
    'pending until the coordinator has met the node, then active, slow or failed';

COMMENT ON COLUMN @extschema@.federated_node_status.last_seen IS
    'When the node last answered the coordinator; NULL before it ever did';

COMMENT ON COLUMN @extschema@.federated_node_status.rounds_participated IS
    'Training rounds, over all runs, in which an update of the node was received';

COMMENT ON COLUMN @extschema@.federated_node_status.avg_round_time_seconds IS
    'Mean time from sending a training task to receiving its update; NULL before the first';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.node_name IS 'Name of the node in its workspace';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.last_heartbeat IS
    'When the node last answered the coordinator; NULL before it ever did';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.connection_status IS
    'connected, connecting (not met yet) or disconnected, as the coordinator last found it';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.failure_reason IS 'Why the node failed; NULL where it did not';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.endpoint_in_use IS 'The address at which the node is called';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.certificate_expires IS
    'When the pinned certificate ends; NULL before one is pinned';
