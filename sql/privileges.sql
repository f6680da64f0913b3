-- Nothing is granted to PUBLIC. Roles build on each other: analysts read, operators change, admins own.
GRANT federated_analyst TO federated_operator;
GRANT federated_operator TO federated_admin;

-- The functions in federated_model belong to federated_owner, and so do the two that make them: nobody who may log
-- in can put a body of their own where a superuser would run it.
-- Owners come before rights: a change of owner after them leaves the old owner in what pg_dump takes for the
-- extension's own grants.
ALTER FUNCTION federated._keep_model_function() OWNER TO federated_owner;
ALTER FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) OWNER TO federated_owner;

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
    federated._predict_untrained(text)
TO federated_owner;
GRANT EXECUTE ON FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) TO federated_daemon;
GRANT SELECT ON federated.part_taken, @extschema@.federated_node_status, @extschema@.federated_node_diagnostics
TO federated_analyst, federated_auditor;

-- Analysts and auditors read everything but parameters, which are sealed besides.
GRANT SELECT ON federated.workspace, federated.node, federated.model, federated.run, federated.round,
    federated.participation, federated.ledger, federated.node_spending, federated.lease, federated.event, federated.dataset, federated.spending
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
GRANT INSERT (name, workspace, relation, columns, types, options, row_key), DELETE ON federated.dataset TO federated_admin;

GRANT SELECT ON ALL TABLES IN SCHEMA federated TO federated_daemon;
GRANT UPDATE (status, failure_reason, certificate, certificate_expires, last_seen, dataset_size, plain_answers) ON federated.node TO federated_daemon;
GRANT UPDATE (status, scaling, plan, message, started_at, finished_at) ON federated.run TO federated_daemon;
GRANT INSERT, UPDATE ON federated.round, federated.participation TO federated_daemon;
GRANT INSERT, UPDATE (is_current) ON federated.version TO federated_daemon;
-- The number and the time of a line are the database's own: they are its place among the node's lines.
GRANT INSERT (workspace, run_id, model_name, round_number, exchange, step, node_name, state, noise_multiplier, sampling_rate, steps,
    clipping_norm, epsilon, epsilon_basic, epsilon_tight), UPDATE (state, epsilon_basic, epsilon_tight)
ON federated.ledger TO federated_daemon;
GRANT INSERT ON federated.node_spending TO federated_daemon;
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

SELECT pg_catalog.pg_extension_config_dump('federated.workspace', '');
SELECT pg_catalog.pg_extension_config_dump('federated.node', '');
SELECT pg_catalog.pg_extension_config_dump('federated.model', '');
SELECT pg_catalog.pg_extension_config_dump('federated.run', '');
SELECT pg_catalog.pg_extension_config_dump('federated.round', '');
SELECT pg_catalog.pg_extension_config_dump('federated.participation', '');
SELECT pg_catalog.pg_extension_config_dump('federated.run_parameters', '');
SELECT pg_catalog.pg_extension_config_dump('federated.version', '');
SELECT pg_catalog.pg_extension_config_dump('federated.ledger', '');
SELECT pg_catalog.pg_extension_config_dump('federated.node_spending', '');
SELECT pg_catalog.pg_extension_config_dump('federated.lease', '');
SELECT pg_catalog.pg_extension_config_dump('federated.event', '');
SELECT pg_catalog.pg_extension_config_dump('federated.dataset', '');
SELECT pg_catalog.pg_extension_config_dump('federated.release', '');
SELECT pg_catalog.pg_extension_config_dump('federated.spending', '');
SELECT pg_catalog.pg_extension_config_dump('federated.audit', '');
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
