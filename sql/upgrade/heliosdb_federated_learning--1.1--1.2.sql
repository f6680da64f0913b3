\echo Use "ALTER EXTENSION heliosdb_federated_learning UPDATE TO '1.2'" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

-- done: table federated.node
ALTER TABLE federated.node ADD COLUMN plain_answers boolean;

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

COMMENT ON COLUMN federated.node.plain_answers IS
    'Whether the node''s own DBA lets answers leave without noise from every dataset that it shares with the workspace; NULL before it was met';

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
return door.describe_options("1.2")
$$;

COMMENT ON FUNCTION federated._options() IS
    'Defaults of workspace and model options, and the names of the training options that one run may override; or the failure to tell';

CREATE OR REPLACE FUNCTION federated._check_options(kind text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}')
return door.check_options(kind, options, "1.2")
$$;

COMMENT ON FUNCTION federated._check_options(text, jsonb) IS
    'Checks options as statements do; returns NULL, or the error for federated._raise';

-- Only the table's owner may name policy or options (restoring a dump does); for all others they are NULL here.
CREATE OR REPLACE FUNCTION federated._snapshot_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known   jsonb;
    subject record;
    unknown text;
    mode    text;
    lacking text;
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
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('option "%s" cannot be set for one run', unknown);
    END IF;
    -- wait_for_convergence would wait for ever in the transaction that starts the run.
    PERFORM set_config('federated.started_run', NEW.run_id::text, true);
    NEW.options := known -> 'model' || subject.options || NEW.overrides;
    NEW.policy := known -> 'workspace' || subject.policy || jsonb_build_object('workspace', subject.workspace);
    -- Plain answers are the nodes' to give: each refuses them itself, and a run that all would refuse is not begun.
    mode := coalesce(NEW.policy ->> 'compliance_mode', 'none');
    IF mode <> 'none' AND NEW.policy ->> 'privacy_budget' IS NULL THEN
        SELECT CASE WHEN count(*) = 0 THEN 'No node is registered.' ELSE format('Not allowed by %s.', string_agg(
                   n.name || CASE WHEN n.plain_answers IS NULL THEN ' (not met yet)' ELSE '' END, ', ' ORDER BY n.name)
                   FILTER (WHERE n.plain_answers IS NOT TRUE)) END
        INTO lacking
        FROM federated.node AS n
        WHERE n.workspace_id = subject.workspace_id
        HAVING count(*) = 0 OR NOT coalesce(bool_and(n.plain_answers IS TRUE), false);
        IF FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('federated training without a privacy_budget is refused under compliance_mode %s', mode),
                DETAIL = lacking,
                HINT = 'Give the workspace a privacy_budget, or have each node''s DBA share WITH (plain_answers = true).';
        END IF;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._snapshot_run() IS
    'Gives a run its options and its workspace''s policy as they stand: whoever queues it has no say in the policy';

CREATE OR REPLACE FUNCTION federated._reset_node() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.status := 'pending';
    NEW.failure_reason := NULL;
    NEW.certificate := NULL;
    NEW.certificate_expires := NULL;
    NEW.plain_answers := NULL;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._reset_node() IS 'A node whose registration changed is to be met, and its certificate pinned, again';

REVOKE ALL ON FUNCTION federated._hold_workspace(bigint) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION federated._hold_workspace(bigint), federated._rename(text, bigint, text) TO federated_operator;

GRANT EXECUTE ON FUNCTION
    federated._has_role(name), federated._owns_model(bigint), federated._require_workspace_owner(bigint),
    federated._require_model_owner(bigint)
TO federated_operator, federated_daemon, federated_owner;

GRANT UPDATE (name, owner) ON federated.workspace TO federated_admin;

GRANT UPDATE (name, owner) ON federated.model TO federated_operator;

REVOKE ALL ON FUNCTION @extschema@.federated_audit_verify(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_audit_verify(text), federated._audit_faults(text), federated._audit_hash(federated.audit, uuid, bigint, bytea)
TO federated_auditor, federated_admin;

GRANT SELECT ON federated.audit_head, federated.audit_origin, @extschema@.federated_audit_log
TO federated_auditor, federated_admin;

-- The door into the package. It knows the caller: all of this runs with the invoker's rights.
CREATE OR REPLACE FUNCTION federated._execute(command text, schemas name[]) RETURNS jsonb
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}')
return door.execute(plpy, command, schemas, "1.2")
$$;

COMMENT ON FUNCTION federated._execute(text, name[]) IS
    'Executes one FEDERATED statement; returns NULL, or the error that federated.execute then raises';

-- Carries no SET clause, like all that looks up the names in a user's query: they are the caller's.
CREATE OR REPLACE FUNCTION federated._describe_columns(query text) RETURNS jsonb
LANGUAGE plpython3u VOLATILE AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.describe_columns(plpy, query, "1.2")
$$;

COMMENT ON FUNCTION federated._describe_columns(text) IS
    'The names and types of the columns of a query that is one statement, or the error that it raises';

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

GRANT EXECUTE ON FUNCTION
    federated._define_prediction(
        text, text, text[], boolean[], double precision, double precision[], double precision[], double precision[],
        text, double precision, double precision),
    federated._lock_publication(bigint), federated._describe_version(text, integer, uuid)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._refuse_stored_predictions(text) TO federated_owner;

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

REVOKE ALL ON FUNCTION federated._recent_round_cost(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION federated._recent_round_cost(text) TO federated_analyst, federated_auditor;

GRANT SELECT ON @extschema@.federated_privacy_budget_status, @extschema@.federated_privacy_history
TO federated_analyst, federated_auditor;

GRANT SELECT ON @extschema@.federated_workspace_status TO federated_analyst, federated_auditor;

REVOKE ALL ON FUNCTION @extschema@.federated_convergence_diagnostics(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION @extschema@.federated_convergence_diagnostics(text)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT SELECT ON @extschema@.federated_performance_metrics TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.phase, federated.contribution TO federated_analyst, federated_auditor;

GRANT INSERT ON federated.phase, federated.contribution TO federated_daemon;

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

CREATE OR REPLACE FUNCTION federated._residency_allows(required text, stated text) RETURNS boolean
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.check_residency(plpy, required, stated, "1.2")
$$;

COMMENT ON FUNCTION federated._residency_allows(text, text) IS 'Whether a place lies within another, as REGISTER FEDERATED NODE decides it';

GRANT EXECUTE ON FUNCTION
    federated._may_read_hba(), federated._check_rights(), federated._check_audit(text), federated._check_nodes(bigint),
    federated._check_node_links(bigint), federated._check_client_links(), federated._check_logins(),
    federated._check_storage(), federated._check_budget(text), federated._residency_allows(text, text),
    federated._check_residency(bigint), federated._check_mode(bigint, text)
TO federated_auditor, federated_admin;

REVOKE ALL ON FUNCTION @extschema@.federated_security_audit(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_security_audit(text), federated._security_audit_columns(text, text[]),
    federated._node_security(bigint), federated._role_security(), federated._server_security()
TO federated_auditor, federated_admin;

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

GRANT UPDATE (status, failure_reason, certificate, certificate_expires, last_seen, dataset_size, plain_answers) ON federated.node TO federated_daemon;

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
