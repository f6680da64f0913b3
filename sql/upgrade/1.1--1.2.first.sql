-- Entries of the audit log have named their workspace since 1.1.
-- done: function federated._complete_audit()
-- done: trigger complete_audit on federated.audit
-- done: comment FUNCTION federated._complete_audit()
DROP TRIGGER complete_audit ON federated.audit;
DROP FUNCTION federated._complete_audit();

-- Of the ledger's columns the daemon may now fill all but two.
REVOKE INSERT ON federated.ledger FROM federated_daemon;

-- done: type federated.release_state
CREATE TYPE federated.release_state AS ENUM ('charged', 'released', 'failed');
REVOKE ALL ON TYPE federated.release_state FROM PUBLIC;

-- done: table federated.dataset
ALTER TABLE federated.dataset ADD COLUMN row_key text[], ADD COLUMN base_tables bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN base_relations regclass[] NOT NULL DEFAULT '{}';

-- done: table federated.release
ALTER TABLE federated.release
    ALTER COLUMN payload_bytes DROP NOT NULL,
    ADD COLUMN state federated.release_state NOT NULL DEFAULT 'released',
    ADD COLUMN terms bytea,
    ADD COLUMN exchange integer NOT NULL DEFAULT 0 CHECK (exchange >= 0),
    ADD COLUMN is_message boolean NOT NULL DEFAULT false,
    ADD COLUMN rows_read bytea,
    ADD COLUMN admission bytea,
    DROP CONSTRAINT release_run_id_round_number_step_node_name_key,
    ADD UNIQUE (run_id, round_number, exchange, step, node_name);

-- done: table federated.spending
-- The columns are filled, and then may not be empty, when the functions that know base tables are there.
ALTER TABLE federated.spending
    ADD COLUMN base_tables bigint[],
    ADD COLUMN workspace_epsilon_basic double precision,
    ADD COLUMN workspace_epsilon_tight double precision,
    ADD COLUMN noise text NOT NULL DEFAULT 'gaussian' CHECK (noise IN ('gaussian', 'laplacian'));
DROP INDEX federated.spending_by_relation;

-- done: table federated.agreement
ALTER TABLE federated.agreement ADD COLUMN base_tables bigint[], DROP CONSTRAINT agreement_pkey;

DROP FUNCTION federated._lock_relation(text);
-- done: index spending_by_relation
-- done: function federated._lock_relation(text)
-- done: comment FUNCTION federated._lock_relation(text)

-- done: table federated.node
ALTER TABLE federated.node ADD COLUMN plain_answers boolean,
    ADD COLUMN datasets jsonb CHECK (jsonb_typeof(datasets) = 'array'),
    ADD COLUMN extras text[],
    ADD COLUMN endpoint_in_use text,
    ADD COLUMN limits jsonb CHECK (jsonb_typeof(limits) = 'object');

-- A round had two exchanges at most, and the second was evaluation.
-- done: table federated.participation
ALTER TABLE federated.participation
    DROP CONSTRAINT participation_step_check,
    ADD CHECK (step <> ''),
    ADD COLUMN exchange integer NOT NULL DEFAULT 0 CHECK (exchange >= 0),
    ADD COLUMN asked integer CHECK (asked > 0),
    ADD COLUMN described jsonb CHECK (jsonb_typeof(described) = 'object'),
    ADD COLUMN stated_rows bigint CHECK (stated_rows >= 0),
    ADD COLUMN settled_round integer CHECK (settled_round >= round_number),
    DROP CONSTRAINT participation_pkey,
    ADD PRIMARY KEY (run_id, round_number, exchange, step, node_id);
UPDATE federated.participation SET exchange = 1 WHERE step = 'evaluate';

-- done: table federated.ledger
ALTER TABLE federated.ledger
    ADD COLUMN exchange integer NOT NULL DEFAULT 0 CHECK (exchange >= 0),
    ADD COLUMN noise text NOT NULL DEFAULT 'gaussian' CHECK (noise IN ('gaussian', 'laplacian')),
    DROP CONSTRAINT ledger_run_id_round_number_step_node_name_key,
    ADD UNIQUE (run_id, round_number, exchange, step, node_name);
UPDATE federated.ledger SET exchange = 1 WHERE step = 'evaluate';
UPDATE federated.release SET exchange = 1 WHERE step = 'evaluate';

-- done: table federated.run_parameters
ALTER TABLE federated.run_parameters ADD COLUMN memory bytea;

-- A prediction is one argument now, and what makes an expression of it has its kind in its name.
-- done: function federated._check_prediction(text[], boolean[], double precision[], double precision[], double precision[], double precision[], text)
-- done: comment FUNCTION federated._check_prediction( text[], boolean[], double precision[], double precision[], double precision[], double precision[], text)
DROP FUNCTION federated._check_prediction(
    text[], boolean[], double precision[], double precision[], double precision[], double precision[], text);
-- done: function federated._render_prediction(text[], boolean[], double precision, double precision[], double precision[], double precision[], text, double precision, double precision)
-- done: comment FUNCTION federated._render_prediction( text[], boolean[], double precision, double precision[], double precision[], double precision[], text, double precision, double precision)
DROP FUNCTION federated._render_prediction(
    text[], boolean[], double precision, double precision[], double precision[], double precision[], text,
    double precision, double precision);
-- done: function federated._define_prediction(text, text, text[], boolean[], double precision, double precision[], double precision[], double precision[], text, double precision, double precision)
-- done: comment FUNCTION federated._define_prediction( text, text, text[], boolean[], double precision, double precision[], double precision[], double precision[], text, double precision, double precision)
DROP FUNCTION federated._define_prediction(
    text, text, text[], boolean[], double precision, double precision[], double precision[], double precision[], text,
    double precision, double precision);
-- done: function federated._publish_function(bigint, integer, uuid, text[], boolean[], double precision, double precision[], double precision[], double precision[], text, double precision, double precision)
-- done: comment FUNCTION federated._publish_function( bigint, integer, uuid, text[], boolean[], double precision, double precision[], double precision[], double precision[], text, double precision, double precision)
DROP FUNCTION federated._publish_function(
    bigint, integer, uuid, text[], boolean[], double precision, double precision[], double precision[],
    double precision[], text, double precision, double precision);

-- It answers with the classes now.
-- done: function federated._check_binary(text)
-- done: comment FUNCTION federated._check_binary(text)
DROP FUNCTION federated._check_binary(text);
-- done: type federated.run_status
ALTER TYPE federated.run_status ADD VALUE 'diverged';

-- done: table federated.round
ALTER TABLE federated.round
    ADD COLUMN global_loss_std_error double precision CHECK (global_loss_std_error >= 0),
    ADD COLUMN global_accuracy_std_error double precision CHECK (global_accuracy_std_error >= 0),
    ADD COLUMN base_loss double precision CHECK (base_loss > 0),
    ADD COLUMN global_precision double precision,
    ADD COLUMN global_recall double precision,
    ADD COLUMN global_f1_score double precision,
    ADD COLUMN global_rmse double precision,
    ADD COLUMN start_loss double precision,
    ADD COLUMN report jsonb CHECK (jsonb_typeof(report) = 'object'),
    ADD COLUMN learning_rate double precision CHECK (learning_rate >= 0);

-- done: table federated.version
ALTER TABLE federated.version
    ADD COLUMN global_loss_std_error double precision,
    ADD COLUMN global_accuracy_std_error double precision,
    ADD COLUMN base_loss double precision,
    ADD COLUMN global_precision double precision,
    ADD COLUMN global_recall double precision,
    ADD COLUMN global_f1_score double precision,
    ADD COLUMN global_rmse double precision,
    ADD COLUMN report jsonb CHECK (jsonb_typeof(report) = 'object'),
    ADD COLUMN prediction_arrays bytea,
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN retired_by uuid,
    ADD COLUMN withheld boolean NOT NULL DEFAULT false;

-- What shows a run takes its number now.
-- done: function @extschema@.federated_training_status(text)
-- done: comment FUNCTION @extschema@.federated_training_status(text)
-- done: function @extschema@.federated_training_metrics(text)
-- done: comment FUNCTION @extschema@.federated_training_metrics(text)
-- done: function @extschema@.federated_convergence_diagnostics(text)
-- done: comment FUNCTION @extschema@.federated_convergence_diagnostics(text)
-- done: function @extschema@.federated_data_quality_check(text)
-- done: comment FUNCTION @extschema@.federated_data_quality_check(text)
DROP FUNCTION @extschema@.federated_training_status(text);
DROP FUNCTION @extschema@.federated_convergence_diagnostics(text);
DROP FUNCTION @extschema@.federated_data_quality_check(text);

-- Figures have a standard error now, which makes more columns.
DROP FUNCTION @extschema@.federated_training_metrics(text);
DROP FUNCTION @extschema@.federated_model_versions(text);
DROP FUNCTION federated._evaluation(text);

-- What was always empty has other columns now.
DROP VIEW @extschema@.federated_erasure_status;

-- A version's features are columns of every kind now.
DROP FUNCTION federated._find_function(text);
-- done: function federated._describe_call(text, text)
-- done: comment FUNCTION federated._describe_call(text, text)
DROP FUNCTION federated._describe_call(text, text);
-- done: function federated._describe_batch(text, text, text, jsonb)
-- done: comment FUNCTION federated._describe_batch(text, text, text, jsonb)
DROP FUNCTION federated._describe_batch(text, text, text, jsonb);
-- A START with folds or a search makes several runs, of which all but one wait.
-- done: table federated.run
ALTER TABLE federated.run
    ADD COLUMN series_id uuid,
    ADD COLUMN trial integer CHECK (trial > 0),
    ADD COLUMN fold integer CHECK (fold >= 0),
    ADD COLUMN waiting boolean NOT NULL DEFAULT false,
    ADD COLUMN result_round integer CHECK (result_round >= 0);
-- done: index run_one_active
DROP INDEX federated.run_one_active;
CREATE UNIQUE INDEX run_one_active ON federated.run (model_id) WHERE status IN ('queued', 'running') AND NOT waiting;

-- done: table federated.model
ALTER TABLE federated.model ADD COLUMN dropped_version integer NOT NULL DEFAULT 0;

-- A run may go on: the same one, or from a file another one.
ALTER TABLE federated.run
    ADD COLUMN resumed_from uuid,
    ADD COLUMN resumed_round integer CHECK (resumed_round >= 0),
    ADD COLUMN seed_run uuid,
    ADD COLUMN kept_ledger_id bigint,
    ADD COLUMN erased_at timestamptz,
    ADD COLUMN voting_group integer CHECK (voting_group > 0),
    ADD COLUMN group_nodes text[] CHECK (cardinality(group_nodes) > 0 AND array_position(group_nodes, NULL) IS NULL),
    ADD COLUMN lineage jsonb CHECK (jsonb_typeof(lineage) = 'array' AND jsonb_array_length(lineage) > 0),
    ADD CHECK (series_id IS NOT NULL OR (trial IS NULL AND fold IS NULL AND voting_group IS NULL AND NOT waiting)),
    ADD CHECK (num_nulls(resumed_from, resumed_round) <> 1),
    ADD CHECK (num_nulls(voting_group, group_nodes) <> 1);
ALTER TABLE federated.run_parameters ADD COLUMN manifest bytea, ADD COLUMN kept_round integer, ADD COLUMN file_digest bytea;

-- It says up to where the log is signed and witnessed.
-- done: function @extschema@.federated_audit_verify(text)
-- done: comment FUNCTION @extschema@.federated_audit_verify(text)
DROP FUNCTION @extschema@.federated_audit_verify(text);
-- Requirements are listed by themselves, and judged by findings that two regulations may share.
-- done: function federated._hipaa_findings(bigint, text)
-- done: comment FUNCTION federated._hipaa_findings(bigint, text)
-- done: function federated._gdpr_findings(bigint, text)
-- done: comment FUNCTION federated._gdpr_findings(bigint, text)
DROP FUNCTION federated._hipaa_findings(bigint, text);
DROP FUNCTION federated._gdpr_findings(bigint, text);

-- What speaks against a node.
-- done: table federated.contribution
ALTER TABLE federated.contribution
    ADD COLUMN direction  double precision CHECK (direction BETWEEN -1 AND 1),
    ADD COLUMN length     double precision CHECK (length >= 0),
    ADD COLUMN likeness   double precision CHECK (likeness BETWEEN -1 AND 1);
