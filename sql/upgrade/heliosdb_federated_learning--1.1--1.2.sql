\echo Use "ALTER EXTENSION heliosdb_federated_learning UPDATE TO '1.2'" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

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

-- federated_owner owns what runs with rights beyond its caller's: it has no members and is granted to nobody. federated_probe
-- has the rights of federated_reader, and owns what reads as the node will. federated_aggregator has no rights but to call
-- aggregation functions. federated_api authenticates those who call by HTTP, and has no other right: who logs in as a member of
-- it sets the role of each call.
-- Roles are cluster-wide and outlive the extension: they are made where missing, never altered or dropped.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor',
        'federated_daemon', 'federated_reader', 'federated_owner', 'federated_probe', 'federated_aggregator',
        'federated_api'
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
    GRANT federated_reader TO federated_probe;
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_probe' AND (
            r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.roleid OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_probe" must not be able to log in, be a superuser, bypass row security or have members',
            HINT = 'ALTER ROLE federated_probe NOLOGIN NOSUPERUSER NOBYPASSRLS, and REVOKE it from its members.';
    END IF;
    -- Code that people write runs with its rights, and everybody may have it run.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_aggregator' AND (
            r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m
                WHERE m.roleid OPERATOR(pg_catalog.=) r.oid OR m.member OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_aggregator" must not be able to log in, be a superuser, bypass row security, have members or be a member',
            HINT = 'ALTER ROLE federated_aggregator NOLOGIN NOSUPERUSER NOBYPASSRLS, and REVOKE it from every role that it is granted to.';
    END IF;
    -- Its members set other roles themselves: it leads to none.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r
        WHERE r.rolname OPERATOR(pg_catalog.=) 'federated_api' AND (
            r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR EXISTS (
                SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.member OPERATOR(pg_catalog.=) r.oid))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'role "federated_api" must not be able to log in, be a superuser, bypass row security or be a member',
            HINT = 'ALTER ROLE federated_api NOLOGIN NOSUPERUSER NOBYPASSRLS, and REVOKE every role from it.';
    END IF;
END
$$;

CREATE SCHEMA federated_row;

COMMENT ON SCHEMA federated_row IS 'The functions of federated_model once more, with the features in one value: what predict calls';

CREATE SCHEMA federated_proba;

COMMENT ON SCHEMA federated_proba IS 'One SQL function per federated model of several classes, in all its forms: the probabilities of these, in their order';

CREATE SCHEMA federated_subject;

COMMENT ON SCHEMA federated_subject IS 'One view per dataset with a consent_query: who has consented, for federated_reader to read';

CREATE SCHEMA federated_aggregation;

COMMENT ON SCHEMA federated_aggregation IS 'One function per FEDERATED AGGREGATION FUNCTION: how people combine the nodes'' updates';

COMMENT ON TYPE federated.release_state IS 'Charged before a row is read, released when its vector may leave, failed where it could not be computed';

COMMENT ON COLUMN federated.node.certificate IS
    'The pinned certificate (PEM) that the node shows: no other is accepted from it, but those that the option certificate has beside it during a rotation';

COMMENT ON COLUMN federated.node.endpoint_in_use IS
    'Where the coordinator last reached it: its endpoint or its backup_endpoint; NULL before it was met';

COMMENT ON COLUMN federated.node.plain_answers IS
    'Whether the node''s own DBA lets answers leave without noise from every dataset that it shares with the workspace; NULL before it was met';

COMMENT ON COLUMN federated.node.datasets IS
    'What the node said when it was last greeted that it shares: names, columns, types (of a domain what it is made of) and declared values, all from its catalog and never from rows; NULL before it was met';

COMMENT ON COLUMN federated.node.extras IS
    'What the node said when it was last greeted that is installed there beside the product, such as "neural" for neural networks; NULL before it was met';

COMMENT ON COLUMN federated.node.limits IS
    'What the node said when it was last greeted that its own settings allow a computation: max_memory_gb, max_cpu_cores, max_bandwidth_mbps, task_limit_seconds, those that it limits; NULL before it was met';

COMMENT ON COLUMN federated.model.dropped_version IS
    'The largest number of a version that was dropped, 0 where none was: a number is not given twice';

CREATE INDEX run_by_series ON federated.run (series_id) WHERE series_id IS NOT NULL;

COMMENT ON COLUMN federated.run.series_id IS
    'What the runs of one START with folds, search or voting_groups have in common; NULL of a run by itself';

COMMENT ON COLUMN federated.run.trial IS
    'Which trial of the series it is of, from 1; of the run that trains the best trial anew, whose; NULL before that is known';

COMMENT ON COLUMN federated.run.fold IS 'Which fold it holds out, from 0; its model is not kept';

COMMENT ON COLUMN federated.run.voting_group IS
    'Of a START with voting_groups: for which group, from 1, it trains the model that votes; NULL of all others';

COMMENT ON COLUMN federated.run.group_nodes IS
    'The names of the nodes of its group, which alone take part; NULL: all nodes may';

COMMENT ON COLUMN federated.run.lineage IS
    'Of a run that begins with a version (transfer_from): that version, what that had begun with, and so on, as they were called when the run was queued; of each what it cost, and which nodes'' rows it had learned from, since when; NULL of all others';

COMMENT ON COLUMN federated.run.waiting IS 'Whether other runs of its series come first: nobody takes it up before they have ended';

COMMENT ON COLUMN federated.run.result_round IS
    'Of a trial, a fold or a group''s run: the round by whose figures it is judged; NULL before it has ended, and where it has no model of use';

COMMENT ON COLUMN federated.run.resumed_from IS
    'Of a run that goes on from a checkpoint''s file: the run that the file is of, which need not be in this database; NULL of all others';

COMMENT ON COLUMN federated.run.resumed_round IS 'The last closed round in that file';

COMMENT ON COLUMN federated.run.seed_run IS
    'The run whose random choices it makes, where these are not its own: the first of those that were continued; NULL before the coordinator has read the file';

COMMENT ON COLUMN federated.run.kept_ledger_id IS
    'Of a run that was resumed: its lines of the ledger up to this one are of before, and are never taken back';

COMMENT ON COLUMN federated.run.erased_at IS
    'When a request for erasure was found to concern the rows that it had read: nothing goes on from it any more; NULL of all others';

COMMENT ON COLUMN federated.round.learning_rate IS
    'The step size in force: as the run names it, by default, or as the clipping norm of the round has it; NULL where none is taken, and of rounds of before this was kept';

COMMENT ON COLUMN federated.round.global_loss IS
    'Over all nodes'' held-out rows after the round: mean log loss, or for regression the mean squared error in the target''s units; NULL where it was not evaluated or the noise left no figure';

COMMENT ON COLUMN federated.round.global_accuracy IS
    'Share of held-out rows predicted right (R squared about their mean for regression); NULL as for global_loss';

COMMENT ON COLUMN federated.round.global_loss_std_error IS
    'Standard error of global_loss: of the held-out rows as a sample, and of the privacy noise; NULL where global_loss is';

COMMENT ON COLUMN federated.round.global_accuracy_std_error IS 'Of global_accuracy, as global_loss_std_error';

COMMENT ON COLUMN federated.round.base_loss IS
    'The loss of a model that predicts the base rate (for regression the mean) of the held-out rows; under a budget, which is not spent on that, of a coin, or of the mean with the scale of round 0';

COMMENT ON COLUMN federated.round.global_precision IS 'NULL for regression, under a budget, and where nothing was predicted positive';

COMMENT ON COLUMN federated.round.global_recall IS 'NULL for regression, under a budget, and where no row is positive';

COMMENT ON COLUMN federated.round.global_f1_score IS 'NULL for regression, under a budget, and where both others are';

COMMENT ON COLUMN federated.round.global_rmse IS 'Root of global_loss for regression';

COMMENT ON COLUMN federated.round.start_loss IS
    'The loss of the model with which training begins, where it is not that of the base rate';

COMMENT ON COLUMN federated.round.report IS
    'Where a version was made of the round: how it did over the held-out rows of all nodes, in detail; NULL under a budget, where nothing is held out, and where the run was ended before it could be asked for';

-- Rows that version 1.1 wrote, restored from its dumps, have exchange 0 whatever their step: so the step stays in the keys.
COMMENT ON COLUMN federated.participation.exchange IS
    'Which message of the round, from 0; a step whose sum takes several messages has as many, one after the other';

COMMENT ON COLUMN federated.participation.asked IS
    'How many nodes the exchange asked, those that were unregistered since among them; NULL in rows of version 1.1';

COMMENT ON COLUMN federated.participation.step IS 'What the exchange asks for: a step of the run''s algorithm';

COMMENT ON COLUMN federated.participation.described IS
    'What the node''s own answer said of its rows, where that may be kept: feature statistics in round 0, figures and outliers in a report; NULL under a budget, and for all other answers, of which sums over nodes alone are kept';

COMMENT ON COLUMN federated.participation.stated_rows IS
    'How many rows the node has, as its answer states them: noised under a budget; NULL where an answer does not';

COMMENT ON COLUMN federated.participation.settled_round IS
    'Of a training task of an asynchronous run: the round with which its outcome was recorded, and in which its update counts; how many rounds after the one in which its node was asked that is, is its staleness. NULL before that, and in synchronous rounds, which settle what they ask';

CREATE INDEX participation_by_settled_round ON federated.participation (run_id, settled_round) WHERE settled_round IS NOT NULL;

COMMENT ON TABLE federated.run_parameters IS
    'The model''s state after the last closed round, after those of internal checkpoints, and as the open round has it so far, sealed with a key kept outside the database';

COMMENT ON COLUMN federated.run_parameters.manifest IS
    'Of a closed round of a run by itself: all else that the run goes on from, and the SHA-256 of the sealed states that belong to it, sealed as these are; with it and them a checkpoint is whole';

COMMENT ON COLUMN federated.run_parameters.file_digest IS
    'Of a manifest that was sealed anew since an earlier release: the digest that it has in files from before; NULL of all others';

COMMENT ON COLUMN federated.run_parameters.kept_round IS
    'With manifest: the round whose state may be published, which belongs to the checkpoint too';

COMMENT ON COLUMN federated.run_parameters.sha256 IS 'SHA-256 of the state''s values before sealing';

COMMENT ON COLUMN federated.run_parameters.memory IS
    'What the strategy and the sum protocol remember, sealed as the state is; NULL where they remember nothing';

COMMENT ON COLUMN federated.version.retired_at IS
    'When it ceased to predict for good, because data subjects were erased that it had learned from: of its numbers only the hash is left; NULL of all others';

COMMENT ON COLUMN federated.version.retired_by IS 'The first request for erasure that asked for that';

COMMENT ON COLUMN federated.version.withheld IS
    'Whether it does not predict while a request for erasure is carried out that may concern it (during_erasure = refuse)';

COMMENT ON COLUMN federated.version.sha256 IS 'SHA-256 of the values of the model''s state, little-endian, before sealing: of a linear model its parameters as float64';

COMMENT ON COLUMN federated.version.global_loss IS 'This and the other figures are those of the round that the version is of';

COMMENT ON COLUMN federated.version.report IS
    'What federated_confusion_matrix and the like show of the version, as in federated.round';

COMMENT ON COLUMN federated.version.prediction_arrays IS
    'The arrays of a prediction that numpy computes, as heliosdb.domain.state writes them; NULL for what is an SQL expression';

COMMENT ON COLUMN federated.version.prediction IS
    'What the version''s SQL functions are made of, as it stands in these functions (a zero without its sign): kind, which names federated._render_<kind> (linear where it is missing), booleans (which features are), classes (the labels of the target, where they are known), encoding (how columns become inputs, where each is not one number) and what that kind needs; NULL for a version from before it was kept';

COMMENT ON COLUMN federated.ledger.exchange IS 'Which message of the round the release is sent in, from 0; 0 also where version 1.1 wrote the line and a dump of it was restored';

COMMENT ON COLUMN federated.ledger.noise IS
    'How the noise is distributed: noise_multiplier is its standard deviation over the L2 sensitivity, or of Laplace noise its scale over the L1 sensitivity';

COMMENT ON COLUMN federated.ledger.epsilon IS 'Epsilon of this release alone, at the workspace''s delta';

COMMENT ON COLUMN federated.ledger.epsilon_basic IS 'Sum of the epsilon of the node''s releases up to this one';

COMMENT ON COLUMN federated.ledger.epsilon_tight IS 'Epsilon of all the node''s releases up to this one composed at the workspace''s delta: exactly where all have full participation, by Renyi divergences where one is sampled';

CREATE TABLE federated.node_spending (
    workspace        text NOT NULL,
    run_id           uuid NOT NULL,
    round_number     integer NOT NULL,
    step             text NOT NULL,
    node_name        text NOT NULL,
    header           bytea NOT NULL,
    signature        bytea NOT NULL,
    noise_multiplier double precision NOT NULL,
    sampling_rate    double precision NOT NULL,
    steps            integer NOT NULL,
    epsilon_basic    double precision NOT NULL,
    epsilon_tight    double precision NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    exchange         integer NOT NULL DEFAULT 0 CHECK (exchange >= 0),
    noise            text NOT NULL DEFAULT 'gaussian' CHECK (noise IN ('gaussian', 'laplacian')),
    PRIMARY KEY (run_id, round_number, exchange, step, node_name)
);

CREATE INDEX node_spending_by_node ON federated.node_spending (workspace, node_name, recorded_at);

COMMENT ON TABLE federated.node_spending IS
    'What each node signed of its own ledger with each private release, written with the charge; only ever added to';

COMMENT ON COLUMN federated.node_spending.header IS 'The update''s header as the node signed it: it says all that the other columns say';

COMMENT ON COLUMN federated.node_spending.signature IS
    'Over the header, with the key of the node''s certificate; heliosdb verify-spending checks it';

COMMENT ON COLUMN federated.node_spending.noise_multiplier IS 'Of this release, as sampling_rate, steps and noise';

COMMENT ON COLUMN federated.node_spending.epsilon_tight IS
    'Epsilon of all that the node has released for the workspace up to this one composed, by its own ledger; epsilon_basic: their sum';

CREATE INDEX event_by_run ON federated.event (run_id);

COMMENT ON COLUMN federated.dataset.row_key IS
    'The primary key of the table, by which its rows are known; NULL where it has none: by all shared columns';

COMMENT ON COLUMN federated.dataset.base_tables IS 'The base tables behind the dataset when it was last shared or used';

COMMENT ON COLUMN federated.dataset.base_relations IS 'The same as relations that were there then';

-- Who the people are, as far as the catalog can tell: a table that keeps its ledger when it is renamed (by OID) and when
-- it is made anew under its name. regclass is dumped as the name of the day, and so finds its table after a restore.
CREATE TABLE federated.base_table (
    base_table_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    relations     regclass[] NOT NULL,
    names         text[] NOT NULL CHECK (cardinality(names) > 0),
    max_epsilon   double precision CHECK (max_epsilon > 0)
);

COMMENT ON TABLE federated.base_table IS
    'The tables that rows of datasets come from: by them spending, ceilings and row sets are kept, whatever dataset, view or partition they are reached through';

COMMENT ON COLUMN federated.base_table.relations IS 'Under which OIDs the table was ever seen';

COMMENT ON COLUMN federated.base_table.names IS 'Under which names the table was ever seen';

COMMENT ON COLUMN federated.base_table.max_epsilon IS
    'The smallest max_epsilon of all datasets that were ever shared over the table, dropped ones included; NULL where none had one';

COMMENT ON TABLE federated.release IS
    'Every vector, and every message of a sum protocol, that left or was charged to leave; asked again for the same task, the same bytes are sent';

COMMENT ON COLUMN federated.release.payload IS 'The sealed vector as sent; NULL before, and once its run has moved on';

COMMENT ON COLUMN federated.release.payload_bytes IS 'Size of the sealed vector; NULL before there is one';

COMMENT ON COLUMN federated.release.released_at IS 'When it was let out; while it is charged only, when it was charged';

COMMENT ON COLUMN federated.release.terms IS
    'Hash of the rows, columns and scaling that a plain answer was about: the same throughout a run; NULL for one of round 0, from which a scaling is found';

COMMENT ON COLUMN federated.release.exchange IS 'Which message of the round it answers, from 0; 0 also where version 1.1 wrote the row and a dump of it was restored';

COMMENT ON COLUMN federated.release.rows_read IS
    'Keyed hash of the rows that a plain answer was computed from: the same throughout a run; NULL for every other one';

COMMENT ON COLUMN federated.release.admission IS
    'Digest of whose rows were left out of a plain answer, withdrawn data subjects among them; NULL where nobody''s were, and for every other one';

COMMENT ON COLUMN federated.release.is_message IS
    'Whether it is a message of a sum protocol, made without a row: it is about no dataset''s content, and costs nothing';

CREATE INDEX spending_by_base_table ON federated.spending USING gin (base_tables);

COMMENT ON TABLE federated.spending IS
    'The node''s own privacy ledger, by base table over all datasets and runs: committed before a row is read, never refunded';

COMMENT ON COLUMN federated.spending.relation IS 'What the dataset was shared from, as it was named';

COMMENT ON COLUMN federated.spending.base_tables IS
    'The base tables that are charged: what one dataset spends, no other dataset over the same tables has';

COMMENT ON COLUMN federated.spending.noise IS
    'How the noise is distributed: noise_multiplier is its standard deviation over the L2 sensitivity, or of Laplace noise its scale over the L1 sensitivity';

COMMENT ON COLUMN federated.spending.epsilon_tight IS
    'All that was ever spent from the most charged of the base tables, composed at delta';

COMMENT ON COLUMN federated.spending.workspace_epsilon_basic IS 'Of epsilon_basic, what this workspace has spent: the node signs it';

COMMENT ON COLUMN federated.spending.workspace_epsilon_tight IS 'Of epsilon_tight, what this workspace has spent: the node signs it';

CREATE TABLE federated.noise_share (
    release_id bigint PRIMARY KEY REFERENCES federated.release,
    nodes      integer NOT NULL CHECK (nodes > 0),
    threshold  integer NOT NULL CHECK (threshold > 0 AND threshold <= nodes),
    honest     integer NOT NULL CHECK (honest > 0 AND honest <= threshold),
    share      double precision NOT NULL CHECK (share >= 0 AND share <= 1)
);

COMMENT ON TABLE federated.noise_share IS
    'Of each charge under trust_model distributed or central, on what it rests: the sum alone is seen, and enough honest nodes, or the coordinator, add noise to it. A charge without a row here is of a release with the whole noise';

COMMENT ON COLUMN federated.noise_share.nodes IS 'How many nodes stated keys for the sum';

COMMENT ON COLUMN federated.noise_share.threshold IS 'How many of them at least are in it';

COMMENT ON COLUMN federated.noise_share.honest IS
    'How many of these the node counted as honest, itself among them: together they add the whole noise; 1: it added that alone';

COMMENT ON COLUMN federated.noise_share.share IS 'Which part of the noise''s variance the node added; 0: it left all of it to the coordinator (central)';

COMMENT ON COLUMN federated.agreement.base_tables IS 'The base tables that it binds; where several agreements do, the smallest holds';

CREATE TABLE federated.row_set (
    row_set_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    base_tables bigint[] NOT NULL CHECK (cardinality(base_tables) > 0),
    base_relations regclass[] NOT NULL,
    known_by    text[] NOT NULL,
    content     bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE federated.row_set IS
    'Which rows answers without noise were about: another answer is about the same ones, or about enough others';

COMMENT ON COLUMN federated.row_set.base_relations IS
    'The tables that the rows came from as they were then: in one that is made anew rows are known again only by its primary key';

COMMENT ON COLUMN federated.row_set.known_by IS 'The columns by which a row is known';

COMMENT ON COLUMN federated.row_set.content IS
    'A keyed hash for each row and its data subject, and whether it is held out; the key is the node''s';

CREATE TABLE federated.plain_dataset (
    plain_dataset_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    base_tables bigint[] NOT NULL CHECK (cardinality(base_tables) > 0),
    dataset     text NOT NULL,
    shared_sha256 bytea NOT NULL CHECK (octet_length(shared_sha256) = 32),
    first_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (base_tables, shared_sha256)
);

COMMENT ON TABLE federated.plain_dataset IS
    'The different datasets that had answers without noise, over the same base tables at most as many as max_datasets says';

COMMENT ON COLUMN federated.plain_dataset.base_tables IS 'The base tables that its rows came from';

COMMENT ON COLUMN federated.plain_dataset.dataset IS 'How it was called first';

COMMENT ON COLUMN federated.plain_dataset.shared_sha256 IS
    'Hash of what is shared: relation, columns, predicate, subject; a dataset that is shared again alike is the same one';

COMMENT ON COLUMN federated.plain_dataset.first_at IS 'When its first answer left';

-- Sealed with a key of the node that is in no database, bounded, and of no use once its run has ended. It is in no dump:
-- a node that is restored from one answers the rest of such a run as one that has forgotten, and never with what was true
-- at another time.
CREATE TABLE federated.node_memory (
    workspace text NOT NULL,
    run_id    uuid NOT NULL,
    node_name text NOT NULL,
    sealed    bytea NOT NULL CHECK (octet_length(sealed) <= 268435456),
    version   bigint NOT NULL CHECK (version > 0),
    used_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, run_id, node_name)
);

COMMENT ON TABLE federated.node_memory IS
    'What a node keeps from one task of a run to the next: no statement reads it; dropped with the run, and when it was not written for 30 days';

COMMENT ON COLUMN federated.node_memory.workspace IS 'Part of the key: what another workspace calls a run is another run';

COMMENT ON COLUMN federated.node_memory.version IS 'Counts the writes: a task that read another version than it is about to replace writes nothing';

COMMENT ON COLUMN federated.node_memory.used_at IS 'When it was last written';

SELECT pg_catalog.pg_extension_config_dump('federated.noise_share', '');

SELECT pg_catalog.pg_extension_config_dump('federated.base_table', '');

SELECT pg_catalog.pg_extension_config_dump('federated.plain_dataset', '');

SELECT pg_catalog.pg_extension_config_dump('federated.row_set', '');

SELECT pg_catalog.pg_extension_config_dump('federated.node_memory', 'WHERE false');

CREATE FUNCTION federated._keep_releases() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.run_id, NEW.round_number, NEW.exchange, NEW.step, NEW.node_name, NEW.is_message)
            IS DISTINCT FROM (OLD.run_id, OLD.round_number, OLD.exchange, OLD.step, OLD.node_name, OLD.is_message)
       OR OLD.state <> 'charged' AND (NEW.payload IS NOT NULL OR (NEW.state, NEW.header, NEW.payload_bytes, NEW.released_at)
            IS DISTINCT FROM (OLD.state, OLD.header, OLD.payload_bytes, OLD.released_at)) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'what was released is never changed';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._keep_releases() IS 'Lets a charge become a release or a failure, and a payload be forgotten; nothing else';

CREATE TRIGGER keep_releases BEFORE UPDATE ON federated.release
    FOR EACH ROW EXECUTE FUNCTION federated._keep_releases();

-- Views are followed to what they read, functions and operators in them as far as the catalog knows what these read
-- (SQL-standard bodies). A partition or inheriting table counts with its whole tree, each of them by itself, so that one
-- that is detached, or attached later, takes along what it has spent.
CREATE FUNCTION federated._base_relations(relation regclass) RETURNS regclass[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Not a function in SQL, which would be planned anew at every call.
    RETURN (
        WITH RECURSIVE behind (class, object) AS (
            SELECT 'pg_class'::regclass::oid, relation::oid
            UNION
            SELECT f.class, f.object FROM behind AS b CROSS JOIN LATERAL (
                SELECT b.class, i.inhparent AS object FROM pg_inherits AS i
                WHERE b.class = 'pg_class'::regclass AND i.inhrelid = b.object
                UNION ALL
                SELECT b.class, i.inhrelid FROM pg_inherits AS i
                WHERE b.class = 'pg_class'::regclass AND i.inhparent = b.object
                UNION ALL
                SELECT d.refclassid, d.refobjid
                FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                WHERE b.class = 'pg_class'::regclass AND r.ev_class = b.object AND r.ev_type = '1'
                  AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
                UNION ALL
                SELECT d.refclassid, d.refobjid FROM pg_depend AS d
                WHERE b.class = 'pg_proc'::regclass AND d.classid = b.class AND d.objid = b.object
                  AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
                UNION ALL
                SELECT 'pg_proc'::regclass, o.oprcode FROM pg_operator AS o
                WHERE b.class = 'pg_operator'::regclass AND o.oid = b.object
            ) AS f
        )
        SELECT coalesce(array_agg(c.oid::regclass ORDER BY c.oid), ARRAY[relation])
        FROM behind AS b JOIN pg_class AS c ON c.oid = b.object
        WHERE b.class = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'f')
    );
END
$$;

COMMENT ON FUNCTION federated._base_relations(regclass) IS 'The tables that a relation''s rows come from, with all that they inherit from or that inherits from them';

CREATE FUNCTION federated._relation_name(relation regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = relation
$$;

COMMENT ON FUNCTION federated._relation_name(regclass) IS 'The name of a relation with its schema, whatever the search_path';

CREATE FUNCTION federated._find_relation(named text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN to_regclass(named);
EXCEPTION WHEN invalid_name OR syntax_error THEN
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._find_relation(text) IS 'The relation of that name; NULL where there is none, or where it is no name';

-- A table is known again by its OID or by its name: dropped and made anew it keeps its ledger, and so does a renamed one.
CREATE FUNCTION federated._know_base_table(relation regclass, named text) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE federated.base_table AS b
    SET relations = CASE WHEN relation IS NULL OR relation = ANY (b.relations) THEN b.relations ELSE b.relations || relation END,
        names = CASE WHEN named = ANY (b.names) THEN b.names ELSE b.names || named END
    WHERE (named = ANY (b.names) OR relation = ANY (b.relations))
      AND NOT (named = ANY (b.names) AND (relation IS NULL OR relation = ANY (b.relations)));
    RETURN QUERY SELECT b.base_table_id FROM federated.base_table AS b WHERE named = ANY (b.names);
    IF NOT FOUND THEN
        RETURN QUERY INSERT INTO federated.base_table AS b (relations, names)
        VALUES (array_remove(ARRAY[relation], NULL), ARRAY[named]) RETURNING b.base_table_id;
    END IF;
END
$$;

COMMENT ON FUNCTION federated._know_base_table(regclass, text) IS 'The ledgers of a table, one where it is seen for the first time';

CREATE FUNCTION federated._know_base_tables(relation text) RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found regclass := federated._find_relation(relation);
BEGIN
    LOCK TABLE federated.base_table IN SHARE ROW EXCLUSIVE MODE;
    IF found IS NULL THEN
        RETURN ARRAY(SELECT k FROM federated._know_base_table(NULL, relation) AS k);
    END IF;
    RETURN ARRAY(SELECT DISTINCT k FROM unnest(federated._base_relations(found)) AS r
                 CROSS JOIN federated._know_base_table(r, federated._relation_name(r)) AS k ORDER BY k);
END
$$;

COMMENT ON FUNCTION federated._know_base_tables(text) IS 'The base tables behind what a dataset was shared from';

-- What version 1.1 wrote, and what is restored from its dumps, names a relation only.
CREATE FUNCTION federated._name_base_tables() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.base_tables := federated._know_base_tables(NEW.relation);
    IF TG_TABLE_NAME = 'spending' THEN
        NEW.workspace_epsilon_basic := NEW.epsilon_basic;
        NEW.workspace_epsilon_tight := NEW.epsilon_tight;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._name_base_tables() IS 'Gives a line of an older version''s ledger the base tables of its relation';

CREATE TRIGGER name_base_tables BEFORE INSERT ON federated.spending
    FOR EACH ROW WHEN (NEW.base_tables IS NULL) EXECUTE FUNCTION federated._name_base_tables();

CREATE TRIGGER name_base_tables BEFORE INSERT ON federated.agreement
    FOR EACH ROW WHEN (NEW.base_tables IS NULL) EXECUTE FUNCTION federated._name_base_tables();

-- The rows of federated.dataset and base_table are the lock: whoever may neither release nor change a dataset cannot take
-- it. Each release locks all base tables of its dataset, so that two of them never compose the same ledger at the same time.
CREATE FUNCTION federated._claim_base_tables(dataset_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared federated.dataset;
    behind regclass[];
    known  bigint[];
BEGIN
    SELECT d.* INTO shared FROM federated.dataset AS d
    WHERE d.dataset_id = _claim_base_tables.dataset_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    behind := federated._base_relations(coalesce(
        to_regclass(format('federated_dataset.%I', shared.name)), federated._find_relation(shared.relation)));
    IF behind[1] IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE c.oid = ANY (behind) AND NOT EXISTS (
                   SELECT FROM federated.base_table AS b
                   WHERE b.relations @> ARRAY[c.oid::regclass] AND b.names @> ARRAY[format('%I.%I', n.nspname, c.relname)])) THEN
        LOCK TABLE federated.base_table IN SHARE ROW EXCLUSIVE MODE;
        PERFORM federated._know_base_table(r, federated._relation_name(r)) FROM unnest(behind) AS r;
    END IF;
    known := ARRAY(SELECT b.base_table_id FROM federated.base_table AS b WHERE b.relations && behind
                   ORDER BY b.base_table_id FOR NO KEY UPDATE);
    IF shared.options ? 'max_epsilon' THEN
        UPDATE federated.base_table AS b SET max_epsilon = (shared.options ->> 'max_epsilon')::double precision
        WHERE b.base_table_id = ANY (known)
          AND (shared.options ->> 'max_epsilon')::double precision < coalesce(b.max_epsilon, 'infinity');
    END IF;
    IF shared.base_tables <> known OR shared.base_relations <> behind THEN
        UPDATE federated.dataset AS d SET base_tables = known, base_relations = behind WHERE d.dataset_id = shared.dataset_id;
    END IF;
END
$$;

COMMENT ON FUNCTION federated._claim_base_tables(bigint) IS
    'Finds the base tables of a dataset; until the transaction ends, no other release from them, and no change of the dataset';

CREATE FUNCTION federated._claim_at_sharing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._claim_base_tables(NEW.dataset_id);
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._claim_at_sharing() IS 'Holds the base tables of a new or altered dataset to its max_epsilon, also when it is dropped again';

-- A row that is restored has its base tables.
CREATE TRIGGER claim_base_tables AFTER INSERT ON federated.dataset
    FOR EACH ROW WHEN (NEW.base_tables = '{}') EXECUTE FUNCTION federated._claim_at_sharing();

CREATE TRIGGER claim_again AFTER UPDATE OF options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._claim_at_sharing();

-- What is behind a view runs with the rights and settings of whoever reads it. Owned by federated_probe, who has the
-- reader's: one row is read as the node will read all, and undone. Nobody but the view's owner is told of it. A function of
-- the caller's could tell him what the reader may read: so nothing is tried for a caller who may not read all of that
-- himself, and all of the answer is NULL.
CREATE FUNCTION federated._probe_as_reader(dataset text)
RETURNS TABLE (code text, message text, place text, has_rows boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Inside DEFINER current_user is the owner: the caller is the role that was set, or who logged in.
    caller name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
    one    record;
    rows   bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = 'federated_dataset'::regnamespace
                   AND c.relname = dataset AND pg_has_role(caller, c.relowner, 'USAGE')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated dataset "%s"', dataset);
    END IF;
    IF EXISTS (SELECT FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
               WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT a.attisdropped
                 AND has_column_privilege('federated_reader', c.oid, a.attnum, 'SELECT')
                 AND NOT has_column_privilege(caller, c.oid, a.attnum, 'SELECT')) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    BEGIN
        -- What the caller's session has set, the node's has not.
        RESET ALL;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
            pg_catalog.set_config('transaction_read_only', 'on', true);
        EXECUTE format('SELECT v FROM federated_dataset.%I AS v LIMIT 1', dataset) INTO one;
        GET DIAGNOSTICS rows = ROW_COUNT;
        has_rows := rows > 0;
        -- What was set and written is undone by an error of its own.
        RAISE EXCEPTION USING ERRCODE = 'HFL01';
    EXCEPTION
        WHEN SQLSTATE 'HFL01' THEN
            NULL;
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, place = PG_EXCEPTION_CONTEXT;
    END;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION federated._probe_as_reader(text) IS 'Reads one row of the caller''s dataset with the rights of the node''s reader';

CREATE FUNCTION federated._probe_dataset(dataset text, schemas name[])
RETURNS TABLE (code text, message text, place text, has_rows boolean, has_own_rows boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT p.code, p.message, p.place, p.has_rows INTO code, message, place, has_rows
    FROM federated._probe_as_reader(dataset) AS p;
    IF NOT has_rows THEN
        PERFORM set_config('search_path', (SELECT string_agg(quote_ident(s), ', ') FROM unnest(schemas) AS s), true);
        BEGIN
            EXECUTE pg_catalog.format('SELECT EXISTS (SELECT FROM federated_dataset.%I)', dataset) INTO has_own_rows;
        EXCEPTION WHEN OTHERS THEN
            has_own_rows := false;
        END;
    END IF;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION federated._probe_dataset(text, name[]) IS
    'Whether the node will be able to read a dataset: what failed, or whether it sees rows where the caller does';

CREATE OR REPLACE FUNCTION federated._drop_dataset_view(dataset text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    -- DROP TABLE ... CASCADE may have taken the view along.
    EXECUTE format('DROP VIEW IF EXISTS federated_dataset.%I', dataset);
END
$$;

COMMENT ON FUNCTION federated._drop_dataset_view(text) IS 'Drops the view of a dataset; dependents refuse';

-- Which columns of a dataset look like identifiers of people. Values are looked at here, with the rights of whoever shares
-- them, and by the node's training process; of them nothing is kept but a kind and one of three shares.
CREATE TABLE federated.phi_finding (
    dataset_id  bigint NOT NULL REFERENCES federated.dataset ON DELETE CASCADE,
    column_name text NOT NULL,
    kind        text NOT NULL,
    evidence    text NOT NULL CHECK (evidence IN ('name', 'type', 'values')),
    share       text CHECK ((share IS NOT NULL) = (evidence = 'values')),
    found_by    text NOT NULL CHECK (found_by IN ('statement', 'training')),
    found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (dataset_id, column_name, kind, evidence, found_by)
);

COMMENT ON TABLE federated.phi_finding IS
    'Columns of datasets that look like identifiers of people: for the participant''s own DBA, and told nobody else';

COMMENT ON COLUMN federated.phi_finding.found_by IS
    'statement: CREATE or ALTER FEDERATED DATASET; training: the node, when it read the rows for a run. What a training found by values stands in the way of answers without noise alone: under a budget no answer depends on it';

COMMENT ON COLUMN federated.phi_finding.share IS 'How many of the values that were looked at, in three steps; NULL where no value was';

SELECT pg_catalog.pg_extension_config_dump('federated.phi_finding', '');

-- With the caller's rights, and nothing written: what functions behind a view would write is an error, and undone with
-- all that was set. Names inside a view are looked up as the caller would have typed them. What cannot be read is not
-- looked at: federated._probe_dataset has said why.
CREATE FUNCTION federated._sample_dataset(dataset text, columns text[], most integer, longest integer, schemas name[])
RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown text := (SELECT string_agg(format('left(v.%1$I::text, %2$s) AS %1$I', c, longest), ', ') FROM unnest(columns) AS u (c));
    found jsonb[];
BEGIN
    BEGIN
        PERFORM set_config('search_path', (SELECT string_agg(quote_ident(s), ', ') FROM unnest(schemas) AS s), true),
            pg_catalog.set_config('transaction_read_only', 'on', true);
        EXECUTE pg_catalog.format(
            'SELECT pg_catalog.array_agg(pg_catalog.to_jsonb(s.*)) FROM (SELECT %s FROM federated_dataset.%I AS v LIMIT %s) AS s',
            shown, dataset, most) INTO found;
        RAISE EXCEPTION USING ERRCODE = 'HFL01';
    EXCEPTION
        WHEN SQLSTATE 'HFL01' THEN
            NULL;
        WHEN OTHERS THEN
            found := NULL;
    END;
    RETURN QUERY SELECT f FROM unnest(found) AS f;
END
$$;

COMMENT ON FUNCTION federated._sample_dataset(text, text[], integer, integer, name[]) IS
    'Rows of the caller''s dataset with their values as text, cut, to look for identifiers; none where they cannot be read';

CREATE FUNCTION federated._record_findings(dataset_id bigint, found_by text, columns text[], findings jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.phi_finding AS f
    WHERE f.dataset_id = _record_findings.dataset_id AND f.found_by = _record_findings.found_by
      AND (columns IS NULL OR f.column_name = ANY (columns));
    INSERT INTO federated.phi_finding (dataset_id, column_name, kind, evidence, share, found_by)
    SELECT _record_findings.dataset_id, r.column_name, r.kind, r.evidence, r.share, _record_findings.found_by
    FROM jsonb_to_recordset(findings) AS r (column_name text, kind text, evidence text, share text)
    WHERE EXISTS (SELECT FROM federated.dataset AS d WHERE d.dataset_id = _record_findings.dataset_id);
END
$$;

COMMENT ON FUNCTION federated._record_findings(bigint, text, text[], jsonb) IS
    'Puts findings in the place of those from before, about these columns or, where there are none named, all';

CREATE FUNCTION federated._record_trained_findings(dataset_id bigint, columns text[], findings jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._record_findings(dataset_id, 'training', coalesce(columns, '{}'), findings);
END
$$;

COMMENT ON FUNCTION federated._record_trained_findings(bigint, text[], jsonb) IS
    'Keeps what the node found when it read the rows; of what statements found it changes nothing';

CREATE FUNCTION @extschema@.federated_phi_findings(
    dataset text,
    OUT column_name text, OUT kind text, OUT evidence text, OUT share text, OUT found_by text,
    OUT found_at timestamptz, OUT is_accepted boolean
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared federated.dataset;
BEGIN
    SELECT d.* INTO shared FROM federated.dataset AS d WHERE d.name = federated_phi_findings.dataset;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated dataset %s does not exist', coalesce(quote_ident(dataset), 'null'));
    END IF;
    RETURN QUERY
    SELECT f.column_name, f.kind, f.evidence, f.share, f.found_by, f.found_at,
           coalesce(shared.options -> 'phi_accepted' ? f.column_name, false)
    FROM federated.phi_finding AS f WHERE f.dataset_id = shared.dataset_id
    ORDER BY f.column_name, f.kind, f.evidence, f.found_by;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_phi_findings(text) IS
    'Which columns of a dataset of this database look like identifiers of people (45 CFR 164.514(b)(2)), and by what: the name, the type, or the values that were looked at, of which the share is told in three steps and never a count; is_accepted: whether phi_accepted names the column';

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

CREATE OR REPLACE TRIGGER check_options BEFORE INSERT OR UPDATE OF options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_options('dataset', 'options');

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

-- A queued run has spent nothing and nobody works on it: it needs no coordinator to be stopped.
CREATE OR REPLACE FUNCTION federated._stop_queued_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.status := 'stopped';
    NEW.message := CASE WHEN OLD.started_at IS NULL THEN 'stopped before it began' ELSE 'stopped before it went on' END;
    NEW.finished_at := clock_timestamp();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._stop_queued_run() IS 'Ends a run at once that is asked to stop while it is queued';

CREATE OR REPLACE FUNCTION federated._reset_node() RETURNS trigger
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

CREATE OR REPLACE FUNCTION federated._check_model_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- What an erasure queues nobody asks for who owns the model.
        IF current_user <> 'federated_owner' THEN
            PERFORM federated._require_model_owner(NEW.model_id);
        END IF;
        RETURN NEW;
    END IF;
    PERFORM federated._require_model_owner(OLD.model_id);
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

COMMENT ON FUNCTION federated._check_model_owner() IS
    'Keeps a model, its training and its tags for members of its owner role or its workspace''s';

CREATE OR REPLACE FUNCTION federated._check_new_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_owner oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = NEW.owner);
BEGIN
    IF new_owner IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', NEW.owner);
    -- From version 16 on a membership may come without the right to become the role.
    ELSIF NOT pg_has_role(new_owner, CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be able to SET ROLE "%s"', NEW.owner);
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_new_owner() IS
    'Lets ownership go only to a role that exists and that the caller may become';

-- A dataset and its view are one DBA's: nobody drops another's, or shares under a name whose view is another's.
CREATE OR REPLACE FUNCTION federated._check_dataset_owner() RETURNS trigger
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
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

COMMENT ON FUNCTION federated._check_dataset_owner() IS 'Keeps a dataset for members of its owner role';

-- The node writes other columns: it is not asked who owns the dataset.
CREATE OR REPLACE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._check_dataset_owner();

-- What is deleted for its age, and the stub that each deletion leaves.
--
-- What always holds: what is deleted was older than its retention by this server's clock, whoever asks; in its transaction
-- there is a signed stub, or nothing is deleted. Of entries of the audit log place and hash stay, so that chain and tree are
-- verified as before. Ledgers, agreements, row sets and base tables are never deleted: what was spent on people who are
-- still in the data would be given back, and what was answered about them could be asked again beside other rows.
CREATE TABLE federated.retention_stub (
    stub_id        bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name           text NOT NULL CHECK (name IN ('audit', 'event', 'run', 'firing', 'release', 'refusal', 'node_run')),
    workspace      text NOT NULL,
    origin         uuid,
    first_position bigint CHECK (first_position > 0),
    last_position  bigint,
    entries        bigint NOT NULL CHECK (entries > 0),
    older_than     timestamptz NOT NULL,
    content_sha256 bytea,
    deleted_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    statement      bytea,
    signature      bytea,
    certificate    text,
    CHECK (num_nulls(origin, first_position, last_position, content_sha256) = CASE name WHEN 'audit' THEN 0 ELSE 4 END),
    CHECK (last_position - first_position + 1 = entries)
);

COMMENT ON TABLE federated.retention_stub IS 'What was deleted for its age: how much, how old, and who signed that';

COMMENT ON COLUMN federated.retention_stub.name IS
    'audit: contents of entries of the audit log; event: events; run: what was kept of runs that had ended (states, checkpoints of the catalog, figures of nodes); firing: of alerts and breaches; at a node release, refusal and node_run';

COMMENT ON COLUMN federated.retention_stub.origin IS 'Of the audit log: the chain';

COMMENT ON COLUMN federated.retention_stub.content_sha256 IS 'Of the audit log: SHA-256 of the hashes of the entries, one after the other';

COMMENT ON COLUMN federated.retention_stub.statement IS 'What was signed: JSON with sorted keys that says what the other columns say';

COMMENT ON COLUMN federated.retention_stub.signature IS 'ECDSA with SHA-256 over statement, with the key of certificate';

SELECT pg_catalog.pg_extension_config_dump('federated.retention_stub', '');

CREATE FUNCTION federated._keep_stub() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.signature IS NOT NULL OR (to_jsonb(NEW) - '{statement,signature,certificate}'::text[])
            IS DISTINCT FROM (to_jsonb(OLD) - '{statement,signature,certificate}'::text[]) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'a stub is signed once, and not changed';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._keep_stub() IS 'Lets a stub be signed and not changed';

CREATE TRIGGER keep_stub BEFORE UPDATE ON federated.retention_stub
    FOR EACH ROW EXECUTE FUNCTION federated._keep_stub();

CREATE FUNCTION federated._require_signature() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM federated.retention_stub AS s WHERE s.stub_id = NEW.stub_id
               AND num_nulls(s.statement, s.signature, s.certificate) > 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'nothing is deleted without a signed stub';
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._require_signature() IS 'Lets no transaction commit that deleted without a signed stub';

CREATE CONSTRAINT TRIGGER require_signature AFTER INSERT ON federated.retention_stub DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION federated._require_signature();

-- What belongs to no workspace, or to one that was dropped, stays for as long as options have it by default, and for as
-- long as any workspace has it; while any is on hold, the former stays.
CREATE FUNCTION federated._retention_bounds() RETURNS TABLE (workspace text, older_than timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    usual integer := (federated._options() -> 'workspace' ->> 'retention_days')::integer;
BEGIN
    RETURN QUERY
    WITH kept AS (
        SELECT w.name, coalesce((w.options ->> 'retention_days')::integer, usual) AS days,
               coalesce((w.options ->> 'legal_hold')::boolean, false) AS held
        FROM federated.workspace AS w
    )
    SELECT k.name, clock_timestamp() - make_interval(days => k.days) FROM kept AS k WHERE NOT k.held
    UNION ALL
    SELECT h.workspace, clock_timestamp() - make_interval(days => greatest(usual, (SELECT max(k.days) FROM kept AS k)))
    FROM (SELECT '' AS workspace UNION SELECT a.workspace FROM federated.audit_head AS a) AS h
    WHERE NOT EXISTS (SELECT FROM kept AS k WHERE k.name = h.workspace)
      AND (h.workspace <> '' OR NOT EXISTS (SELECT FROM kept AS k WHERE k.held));
END
$$;

COMMENT ON FUNCTION federated._retention_bounds() IS 'Of each workspace that is not on hold, from when on what is older is deleted';

-- The first entries of a chain, as long as all of them are old; what is left of one is its place, its hash and when it was.
CREATE FUNCTION federated._forget_audit(workspace text, older_than timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chain record;
BEGIN
    FOR chain IN
        SELECT p.origin, p.beginning, least(coalesce(y.first_young, p.head + 1) - 1, p.beginning + 9999) AS ending
        FROM (
            SELECT h.origin, h.chain_position AS head, coalesce((
                SELECT max(s.last_position) FROM federated.retention_stub AS s
                WHERE s.name = 'audit' AND s.workspace = h.workspace AND s.origin = h.origin), 0) + 1 AS beginning
            FROM federated.audit_head AS h WHERE h.workspace = _forget_audit.workspace
        ) AS p
        LEFT JOIN LATERAL (
            SELECT min(a.chain_position) AS first_young FROM federated.audit AS a
            WHERE a.workspace = _forget_audit.workspace AND a.origin = p.origin AND a.chain_position >= p.beginning
              AND a.recorded_at >= _forget_audit.older_than
        ) AS y ON true
    LOOP
        CONTINUE WHEN chain.ending < chain.beginning;
        INSERT INTO federated.retention_stub (name, workspace, origin, first_position, last_position, entries, older_than, content_sha256)
        SELECT 'audit', _forget_audit.workspace, chain.origin, chain.beginning, chain.ending, count(*), _forget_audit.older_than,
               sha256(string_agg(a.hash, ''::bytea ORDER BY a.chain_position))
        FROM federated.audit AS a
        WHERE a.workspace = _forget_audit.workspace AND a.origin = chain.origin
          AND a.chain_position BETWEEN chain.beginning AND chain.ending
        -- A chain with a gap, or an entry that is not what was recorded, is for people to look at: one that was dated back, too.
        HAVING count(*) = chain.ending - chain.beginning + 1
           AND bool_and(federated._audit_hash(a, a.origin, a.chain_position, a.previous_hash) IS NOT DISTINCT FROM a.hash);
        CONTINUE WHEN NOT FOUND;
        UPDATE federated.audit AS a SET session_role = '', acting_role = '', object_name = '', details = '{}'
        WHERE a.workspace = _forget_audit.workspace AND a.origin = chain.origin
          AND a.chain_position BETWEEN chain.beginning AND chain.ending;
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._forget_audit(text, timestamptz) IS 'Empties the first entries of a workspace''s chains; 10,000 of a chain at most';

CREATE FUNCTION federated._forget_runs(workspace text, older_than timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended uuid[] := ARRAY(
        SELECT r.run_id FROM federated.run AS r JOIN federated.model AS m USING (model_id)
        JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _forget_runs.workspace AND r.status NOT IN ('queued', 'running')
          AND r.finished_at < _forget_runs.older_than);
    emptied uuid[];
    gone    bigint;
BEGIN
    WITH states AS (
        DELETE FROM federated.run_parameters AS p WHERE p.run_id = ANY (ended) RETURNING p.run_id
    ), checkpoints AS (
        DELETE FROM federated.internal_checkpoint AS i WHERE i.run_id = ANY (ended) RETURNING i.run_id
    ), figures AS (
        UPDATE federated.participation AS n SET described = NULL
        WHERE n.run_id = ANY (ended) AND n.described IS NOT NULL RETURNING n.run_id
    ), phases AS (
        DELETE FROM federated.phase AS f WHERE f.run_id = ANY (ended) RETURNING f.run_id
    ), contributions AS (
        DELETE FROM federated.contribution AS c WHERE c.run_id = ANY (ended) RETURNING c.run_id
    )
    SELECT array_agg(DISTINCT u.run_id) INTO emptied FROM (
        TABLE states UNION ALL TABLE checkpoints UNION ALL TABLE figures UNION ALL TABLE phases UNION ALL TABLE contributions
    ) AS u;
    IF emptied IS NOT NULL THEN
        INSERT INTO federated.retention_stub (name, workspace, entries, older_than)
        VALUES ('run', _forget_runs.workspace, cardinality(emptied), _forget_runs.older_than);
    END IF;
    DELETE FROM federated.event AS e
    WHERE e.recorded_at < _forget_runs.older_than
      AND (e.run_id = ANY (ended) OR _forget_runs.workspace = '' AND NOT EXISTS (
          SELECT FROM federated.run AS r WHERE r.run_id = e.run_id));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        INSERT INTO federated.retention_stub (name, workspace, entries, older_than)
        VALUES ('event', _forget_runs.workspace, gone, _forget_runs.older_than);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._forget_runs(text, timestamptz) IS
    'Deletes events, and what was kept of runs that ended; who took part, rounds, versions and ledgers stay';

-- A breach that goes on is as old as its last event; what somebody is still to be told of is not old. The names are looked up
-- when this runs: alerts are made later than this.
CREATE FUNCTION federated._forget_firings(workspace text, older_than timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM federated.firing AS f
    WHERE f.workspace = _forget_firings.workspace AND greatest(f.fired_at, f.last_event_at, f.delivered_at) < _forget_firings.older_than
      AND (f.next_attempt IS NULL OR f.kind = 'alert' AND f.alert_id IS NULL);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        INSERT INTO federated.retention_stub (name, workspace, entries, older_than)
        VALUES ('firing', _forget_firings.workspace, gone, _forget_firings.older_than);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._forget_firings(text, timestamptz) IS
    'Deletes each time that an alert fired, and each breach, of which nobody is to be told any more';

CREATE FUNCTION federated._forget_expired(workspace text) RETURNS SETOF federated.retention_stub
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound timestamptz := (SELECT b.older_than FROM federated._retention_bounds() AS b WHERE b.workspace = _forget_expired.workspace);
    last  bigint := (SELECT coalesce(max(s.stub_id), 0) FROM federated.retention_stub AS s);
BEGIN
    IF bound IS NULL THEN
        RETURN;
    END IF;
    LOCK TABLE federated.retention_stub IN SHARE ROW EXCLUSIVE MODE;
    PERFORM federated._forget_audit(_forget_expired.workspace, bound);
    PERFORM federated._forget_runs(_forget_expired.workspace, bound);
    PERFORM federated._forget_firings(_forget_expired.workspace, bound);
    RETURN QUERY SELECT s.* FROM federated.retention_stub AS s
    WHERE s.stub_id > last AND s.signature IS NULL ORDER BY s.stub_id;
END
$$;

COMMENT ON FUNCTION federated._forget_expired(text) IS
    'Deletes what is older than the workspace''s retention and returns the stubs, which have to be signed in the same transaction; nothing under legal_hold';

-- Of a run whose last answer is that old. What was charged stays with its spending, and what a run asked lately is needed.
CREATE FUNCTION federated._forget_node_history(retention_days integer) RETURNS SETOF federated.retention_stub
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound timestamptz := clock_timestamp() - make_interval(days => retention_days);
BEGIN
    IF retention_days < 30 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a node keeps its history for 30 days at least';
    END IF;
    LOCK TABLE federated.retention_stub IN SHARE ROW EXCLUSIVE MODE;
    RETURN QUERY
    WITH old_runs AS (
        SELECT r.run_id FROM federated.release AS r GROUP BY r.run_id HAVING max(r.released_at) < bound
    ), releases AS (
        DELETE FROM federated.release AS r USING old_runs AS o
        WHERE r.run_id = o.run_id AND NOT EXISTS (SELECT FROM federated.spending AS s WHERE s.release_id = r.release_id)
        RETURNING r.workspace
    ), refusals AS (
        DELETE FROM federated.refusal AS f WHERE f.last_at < bound RETURNING f.workspace
    ), runs AS (
        DELETE FROM federated.node_run AS n WHERE n.last_task_at < bound RETURNING n.workspace
    )
    INSERT INTO federated.retention_stub AS s (name, workspace, entries, older_than)
    SELECT g.name, g.workspace, count(*), bound FROM (
        SELECT 'release' AS name, t.workspace FROM releases AS t
        UNION ALL SELECT 'refusal', t.workspace FROM refusals AS t
        UNION ALL SELECT 'node_run', t.workspace FROM runs AS t
    ) AS g GROUP BY g.name, g.workspace ORDER BY g.workspace, g.name
    RETURNING s.*;
END
$$;

COMMENT ON FUNCTION federated._forget_node_history(integer) IS
    'Deletes a node''s releases that cost nothing, refusals and runs that are older than so many days, and returns the stubs, which have to be signed in the same transaction';

CREATE VIEW @extschema@.federated_retention AS
SELECT s.workspace, s.name AS what, s.entries, s.older_than, s.deleted_at, s.origin, s.first_position, s.last_position,
       encode(s.content_sha256, 'hex') AS content_sha256, convert_from(s.statement, 'UTF8')::jsonb AS statement,
       encode(s.signature, 'hex') AS signature, s.certificate
FROM federated.retention_stub AS s;

COMMENT ON VIEW @extschema@.federated_retention IS
    'What was deleted for its age, by the workspace''s retention_days or a node''s own; each with what its daemon signed';

COMMENT ON COLUMN @extschema@.federated_retention.workspace IS 'By name as it was at the time; empty where it belonged to none';

COMMENT ON COLUMN @extschema@.federated_retention.what IS
    'audit: contents of entries of the audit log; event: events; run: what was kept of runs that had ended; firing: of alerts and breaches, told of or given up; at a node release (without noise, or of a protocol), refusal and node_run';

COMMENT ON COLUMN @extschema@.federated_retention.entries IS 'How many';

COMMENT ON COLUMN @extschema@.federated_retention.older_than IS 'All of them were older';

COMMENT ON COLUMN @extschema@.federated_retention.deleted_at IS 'When they were deleted';

COMMENT ON COLUMN @extschema@.federated_retention.origin IS 'Of the audit log: the chain; NULL else, as the three columns that follow';

COMMENT ON COLUMN @extschema@.federated_retention.first_position IS 'The first entry that was emptied: its place and its hash are still there';

COMMENT ON COLUMN @extschema@.federated_retention.last_position IS 'The last one';

COMMENT ON COLUMN @extschema@.federated_retention.content_sha256 IS 'SHA-256 of the hashes of these entries, one after the other; hexadecimal';

COMMENT ON COLUMN @extschema@.federated_retention.statement IS 'What was signed';

COMMENT ON COLUMN @extschema@.federated_retention.signature IS 'ECDSA with SHA-256 over the statement''s bytes (federated.retention_stub.statement); hexadecimal';

COMMENT ON COLUMN @extschema@.federated_retention.certificate IS 'Of the daemon that deleted and signed, in PEM form';

CREATE OR REPLACE FUNCTION federated._audited(subject jsonb) RETURNS jsonb
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

-- The acting role is the one under SET ROLE where there is one: inside a DEFINER function current_user is its owner.
CREATE OR REPLACE FUNCTION federated._audit() RETURNS trigger
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

CREATE OR REPLACE FUNCTION federated._audit_faults(workspace text)
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

CREATE OR REPLACE FUNCTION @extschema@.federated_audit_verify(
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

COMMENT ON COLUMN @extschema@.federated_audit_log.object_kind IS 'workspace, node, model, run, dataset, version, tag, checkpoint, aggregation_function, alert, experiment, experiment_arm (its sums are there when the experiment is dropped), attestation, compliance_record, retention_stub (what was deleted for its age), api_token or ledger (a reservation taken back, or sums that changed); round (how it ended), lease (a coordinator''s term), signer (the certificate whose key signs heads of the log from then on); at a node witnessed_head (heads that were forgotten); audit for an adopted chain';

COMMENT ON COLUMN @extschema@.federated_audit_log.object_name IS 'Name of the object; of a run its id, as of a round, a line of the ledger and a checkpoint; of a term who holds it, of a signer SHA-256 of its certificate; of an attestation its requirement, of a recorded check its regulation; of a token its token_id';

COMMENT ON COLUMN @extschema@.federated_audit_log.details IS
    'What the row said before and after, as far as people decide it; empty, as the roles and object_name, of an entry that was emptied for its age (federated_retention)';

-- Heads of the audit log's tree (RFC 6962), signed outside the database, and what nodes have witnessed of them. The leaves
-- are the hashes of a chain's entries in their order.
CREATE TABLE federated.signer (
    certificate_sha256 bytea PRIMARY KEY CHECK (octet_length(certificate_sha256) = 32),
    certificate        text NOT NULL
);

COMMENT ON TABLE federated.signer IS 'Certificates (PEM) with whose keys heads of the audit log were signed and cosigned, as they were then';

CREATE TABLE federated.tree_head (
    workspace          text NOT NULL,
    origin             uuid NOT NULL,
    tree_size          bigint NOT NULL CHECK (tree_size > 0),
    root               bytea NOT NULL CHECK (octet_length(root) = 32),
    edge               bytea NOT NULL,
    statement          bytea NOT NULL,
    signature          bytea NOT NULL,
    certificate_sha256 bytea NOT NULL REFERENCES federated.signer,
    signed_at          timestamptz NOT NULL,
    PRIMARY KEY (workspace, origin, tree_size)
);

CREATE INDEX tree_head_by_signer ON federated.tree_head (certificate_sha256);

COMMENT ON TABLE federated.tree_head IS
    'Heads of each chain of the audit log, signed by the coordinator with a key that is not in the database: the first tree_size entries as one hash';

COMMENT ON COLUMN federated.tree_head.workspace IS 'By name and without reference, as in federated.audit';

COMMENT ON COLUMN federated.tree_head.root IS 'Root of the tree of RFC 6962 over the hashes of the first tree_size entries, each a leaf''s data';

COMMENT ON COLUMN federated.tree_head.edge IS 'Roots of the full subtrees of these entries, the largest first: what it takes to go on without the entries before';

COMMENT ON COLUMN federated.tree_head.statement IS 'What is signed: JSON with kind, workspace, origin, tree_size, root_sha256 and signed_at, its keys sorted and without spaces, in UTF-8';

COMMENT ON COLUMN federated.tree_head.signature IS
    'ECDSA over SHA-256 (DER), with the key of the certificate: of "heliosdb tree head signature v1", a zero byte and the statement';

CREATE TABLE federated.cosignature (
    workspace          text NOT NULL,
    origin             uuid NOT NULL,
    tree_size          bigint NOT NULL,
    node_name          text NOT NULL,
    statement          bytea NOT NULL,
    signature          bytea NOT NULL,
    certificate_sha256 bytea NOT NULL REFERENCES federated.signer,
    received_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, origin, node_name, tree_size),
    FOREIGN KEY (workspace, origin, tree_size) REFERENCES federated.tree_head
);

CREATE INDEX cosignature_by_head ON federated.cosignature (workspace, origin, tree_size);

COMMENT ON TABLE federated.cosignature IS
    'Nodes'' signatures under heads of the audit log: each was shown to continue all heads that the node had seen before, and the node keeps it';

COMMENT ON COLUMN federated.cosignature.statement IS 'What is signed: JSON with kind, head_sha256 (of the head''s statement), node and witnessed_at';

COMMENT ON COLUMN federated.cosignature.signature IS
    'As of a head, with the key of the node''s certificate, of "heliosdb witnessed head signature v1", a zero byte and the statement';

CREATE TABLE federated.audit_break (
    break_id       bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace      text NOT NULL,
    origin         uuid NOT NULL,
    node_name      text NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('forked', 'rolled back', 'missing')),
    held_size      bigint NOT NULL CHECK (held_size > 0),
    own_size       bigint NOT NULL CHECK (own_size >= 0),
    held_statement bytea NOT NULL,
    held_signature bytea NOT NULL,
    found_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at     timestamptz,
    UNIQUE (workspace, node_name, held_statement)
);

COMMENT ON TABLE federated.audit_break IS
    'Heads that nodes hold, signed by a coordinator, of a log that is not here: what was rewritten, cut off or restored from an older backup';

COMMENT ON COLUMN federated.audit_break.kind IS
    'forked: the first entries of this log are others than those of the held head; rolled back: this log has fewer entries; missing: it has none of that origin';

COMMENT ON COLUMN federated.audit_break.held_size IS 'How many entries the node''s head has';

COMMENT ON COLUMN federated.audit_break.own_size IS 'How many entries the log had here when that was found';

COMMENT ON COLUMN federated.audit_break.held_statement IS 'The head as the node holds it, as held_signature: the evidence';

COMMENT ON COLUMN federated.audit_break.settled_at IS 'When the node no longer held it: its DBA forgot the heads that it had, by federated_forget_heads; NULL while it does';

-- At a node.
CREATE TABLE federated.witnessed_head (
    workspace    text NOT NULL,
    origin       uuid NOT NULL,
    tree_size    bigint NOT NULL CHECK (tree_size > 0),
    root         bytea NOT NULL CHECK (octet_length(root) = 32),
    signed_at    timestamptz NOT NULL,
    statement    bytea NOT NULL,
    signature    bytea NOT NULL,
    certificate  text NOT NULL,
    node_name    text NOT NULL,
    witnessed    bytea NOT NULL,
    cosignature  bytea NOT NULL,
    witnessed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, origin, tree_size)
);

COMMENT ON TABLE federated.witnessed_head IS
    'At a node: heads of its workspaces'' audit logs that it has cosigned, each shown to continue the one before; of each log the 1,000 latest';

COMMENT ON COLUMN federated.witnessed_head.certificate IS 'The coordinator''s, pinned when the head came, with whose key it is signed (PEM)';

COMMENT ON COLUMN federated.witnessed_head.node_name IS 'What the coordinator calls this node';

COMMENT ON COLUMN federated.witnessed_head.witnessed IS 'What this node signed: JSON that names the head by its SHA-256';

CREATE TABLE federated.head_conflict (
    conflict_id       bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace         text NOT NULL,
    origin            uuid NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('forked', 'rolled back')),
    held_statement    bytea NOT NULL,
    held_signature    bytea NOT NULL,
    held_certificate  text NOT NULL,
    offered_statement bytea NOT NULL,
    offered_signature bytea NOT NULL,
    certificate       text NOT NULL,
    found_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (workspace, origin, offered_statement)
);

COMMENT ON TABLE federated.head_conflict IS
    'At a node: heads that it refused to cosign, each beside the one that it held, both signed by the coordinator: the evidence that a log was changed; the first 100 of each log';

COMMENT ON COLUMN federated.head_conflict.kind IS
    'forked: it was not shown that the offered head continues the held one, or it is another of the same size; rolled back: it was signed later, and has fewer entries';

SELECT pg_catalog.pg_extension_config_dump('federated.signer', '');

SELECT pg_catalog.pg_extension_config_dump('federated.tree_head', '');

SELECT pg_catalog.pg_extension_config_dump('federated.cosignature', '');

SELECT pg_catalog.pg_extension_config_dump('federated.audit_break', '');

SELECT pg_catalog.pg_extension_config_dump('federated.witnessed_head', '');

SELECT pg_catalog.pg_extension_config_dump('federated.head_conflict', '');

CREATE FUNCTION federated._tree_faults(workspace text) RETURNS TABLE (origin uuid, broken_at bigint, reason text)
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $python$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.audit_tree(plpy, "1.2", "find_faults")(workspace)
$python$;

COMMENT ON FUNCTION federated._tree_faults(text) IS
    'Where the chains of a workspace are not those of the heads that were signed, cosigned or are held by nodes, and why';

CREATE FUNCTION federated._audit_inclusion(workspace text, audit_id uuid) RETURNS jsonb
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $python$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.audit_tree(plpy, "1.2", "prove_inclusion")(workspace, audit_id)
$python$;

COMMENT ON FUNCTION federated._audit_inclusion(text, uuid) IS
    'The proof that an entry is in the log of a signed head, with that head and its cosignatures; NULL while no head has it';

CREATE VIEW @extschema@.federated_audit_heads AS
SELECT h.workspace, h.origin, h.tree_size AS entries, encode(h.root, 'hex') AS root_sha256, h.signed_at,
       ARRAY(SELECT c.node_name FROM federated.cosignature AS c
             WHERE (c.workspace, c.origin, c.tree_size) = (h.workspace, h.origin, h.tree_size) ORDER BY c.node_name) AS witnesses,
       convert_from(h.statement, 'UTF8') AS statement, encode(h.signature, 'hex') AS signature
FROM federated.tree_head AS h;

COMMENT ON VIEW @extschema@.federated_audit_heads IS
    'Signed heads of the audit log, and which nodes have cosigned them: up to a head that is held elsewhere nothing can be changed unseen';

COMMENT ON COLUMN @extschema@.federated_audit_heads.workspace IS 'Whose chain it is';

COMMENT ON COLUMN @extschema@.federated_audit_heads.origin IS 'The database that linked the chain, as in federated_audit_log';

COMMENT ON COLUMN @extschema@.federated_audit_heads.entries IS 'How many entries, from the first one, the head is over';

COMMENT ON COLUMN @extschema@.federated_audit_heads.root_sha256 IS 'Root of the tree of RFC 6962 over the entries'' hashes, hexadecimal';

COMMENT ON COLUMN @extschema@.federated_audit_heads.signed_at IS 'When the coordinator signed it';

COMMENT ON COLUMN @extschema@.federated_audit_heads.witnesses IS 'The nodes whose cosignatures are here; a node that was away cosigns a later head, which is over these entries too';

COMMENT ON COLUMN @extschema@.federated_audit_heads.statement IS 'What is signed';

COMMENT ON COLUMN @extschema@.federated_audit_heads.signature IS 'By the coordinator, hexadecimal';

CREATE VIEW @extschema@.federated_node_heads AS
SELECT h.workspace, h.origin, h.tree_size AS entries, encode(h.root, 'hex') AS root_sha256, h.signed_at, h.witnessed_at,
       CASE WHEN c.conflicts > 0 THEN 'conflict' ELSE 'witnessed' END AS state, c.conflicts, c.last_conflict_at
FROM federated.witnessed_head AS h
LEFT JOIN LATERAL (
    SELECT count(*) AS conflicts, max(o.found_at) AS last_conflict_at
    FROM federated.head_conflict AS o WHERE (o.workspace, o.origin) = (h.workspace, h.origin)
) AS c ON true
WHERE h.tree_size = (SELECT max(n.tree_size) FROM federated.witnessed_head AS n
                     WHERE (n.workspace, n.origin) = (h.workspace, h.origin));

COMMENT ON VIEW @extschema@.federated_node_heads IS
    'At a node: the newest head of each audit log that it has witnessed; state conflict: the coordinator has shown it a head of another log since';

COMMENT ON COLUMN @extschema@.federated_node_heads.workspace IS 'Whose audit log it is';

COMMENT ON COLUMN @extschema@.federated_node_heads.origin IS 'The coordinator''s database that linked the log: one that was restored from a dump is another';

COMMENT ON COLUMN @extschema@.federated_node_heads.entries IS 'How many entries the head is over';

COMMENT ON COLUMN @extschema@.federated_node_heads.root_sha256 IS 'Root of the tree over them, hexadecimal';

COMMENT ON COLUMN @extschema@.federated_node_heads.signed_at IS 'When the coordinator signed it';

COMMENT ON COLUMN @extschema@.federated_node_heads.witnessed_at IS 'When this node cosigned it';

COMMENT ON COLUMN @extschema@.federated_node_heads.state IS 'witnessed, or conflict where heads were refused: federated.head_conflict has both sides, signed';

COMMENT ON COLUMN @extschema@.federated_node_heads.conflicts IS 'How many heads of this log were refused';

COMMENT ON COLUMN @extschema@.federated_node_heads.last_conflict_at IS 'When the last one was';

CREATE FUNCTION @extschema@.federated_forget_heads(workspace text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    IF workspace IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'the name of a federated workspace must not be null';
    END IF;
    DELETE FROM federated.witnessed_head AS h WHERE h.workspace = federated_forget_heads.workspace;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    IF forgotten = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('this node holds no head of the audit log of workspace "%s"', workspace),
            HINT = 'federated_node_heads shows which it holds.';
    END IF;
    RETURN forgotten;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_forget_heads(text) IS
    'At a node: forgets which heads of a workspace''s audit log it has witnessed, so that it takes the next one as the first; for when the coordinator''s database was restored from an older backup, and its operator says so. Export the heads before (heliosdb audit heads): what they prove is gone here. The refused heads stay in federated.head_conflict. Returns how many heads there were';

-- Who made a node forget is in the node's own log.
CREATE FUNCTION federated._audit_forgotten_heads() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    SELECT g.workspace, session_user,
           CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
           'delete', 'witnessed_head', g.origin::text,
           jsonb_build_object('entries', max(g.tree_size),
                              'root_sha256', encode((array_agg(g.root ORDER BY g.tree_size DESC))[1], 'hex'))
    FROM gone AS g GROUP BY g.workspace, g.origin
    HAVING NOT EXISTS (SELECT FROM federated.witnessed_head AS h WHERE (h.workspace, h.origin) = (g.workspace, g.origin));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_forgotten_heads() IS 'Appends to the audit log which heads a node no longer holds any of';

CREATE TRIGGER audit AFTER DELETE ON federated.witnessed_head
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION federated._audit_forgotten_heads();

-- What daemons do is in the log too: one entry a round, whatever the number of nodes, one a workspace for each term of a
-- coordinator, and one for each key that a log's heads are signed with from then on.
CREATE FUNCTION federated._audit_round() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    workspace text := (SELECT r.policy ->> 'workspace' FROM federated.run AS r WHERE r.run_id = NEW.run_id);
    answers   jsonb;
    charges   jsonb;
BEGIN
    SELECT jsonb_object_agg(o.outcome, o.answers) INTO answers
    FROM (
        SELECT p.outcome::text AS outcome, count(*) AS answers FROM federated.participation AS p
        WHERE p.run_id = NEW.run_id
          AND (p.round_number = NEW.round_number AND p.settled_round IS NULL OR p.settled_round = NEW.round_number)
        GROUP BY p.outcome
    ) AS o;
    SELECT jsonb_build_object('releases', count(*), 'epsilon_tight', max(l.epsilon_tight)) INTO charges
    FROM federated.ledger AS l
    WHERE l.run_id = NEW.run_id AND l.round_number = NEW.round_number AND l.state = 'charged'
    HAVING count(*) > 0;
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (coalesce(workspace, ''), session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            'update', 'round', NEW.run_id::text,
            jsonb_strip_nulls(jsonb_build_object(
                'round_number', NEW.round_number, 'status', NEW.status, 'answers', answers, 'charged', charges,
                'refused', ARRAY(SELECT DISTINCT n.name FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
                                 WHERE p.run_id = NEW.run_id
                                   AND (p.round_number = NEW.round_number AND p.settled_round IS NULL
                                        OR p.settled_round = NEW.round_number)
                                   AND p.outcome IN ('refused', 'rejected') ORDER BY n.name LIMIT 100))));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_round() IS
    'Appends to the audit log how a round ended: answers by outcome, who refused or was rejected, what was charged';

CREATE FUNCTION federated._audit_lease() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    SELECT w.name, session_user,
           CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
           lower(TG_OP), 'lease', coalesce(NEW.holder, ''), jsonb_build_object('epoch', NEW.epoch)
    FROM federated.workspace AS w ORDER BY w.name;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_lease() IS 'Appends to the log of each workspace that a coordinator''s term has begun';

CREATE FUNCTION federated._audit_signer() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former bytea := (
        SELECT h.certificate_sha256 FROM federated.tree_head AS h
        WHERE h.workspace = NEW.workspace AND h.origin = NEW.origin AND h.tree_size < NEW.tree_size
        ORDER BY h.tree_size DESC LIMIT 1);
BEGIN
    -- Not of heads that a restored dump brings along.
    IF former IS DISTINCT FROM NEW.certificate_sha256
       AND NEW.origin = (SELECT o.origin FROM federated.audit_origin AS o) THEN
        INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
        VALUES (NEW.workspace, session_user,
                CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
                'insert', 'signer', encode(NEW.certificate_sha256, 'hex'), jsonb_build_object('signs_from', NEW.tree_size));
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_signer() IS 'Appends to the audit log with which certificate''s key its heads are signed from now on';

CREATE TRIGGER audit AFTER UPDATE OF status ON federated.round
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION federated._audit_round();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OF epoch ON federated.lease
    FOR EACH ROW EXECUTE FUNCTION federated._audit_lease();

CREATE TRIGGER audit AFTER INSERT ON federated.tree_head
    FOR EACH ROW EXECUTE FUNCTION federated._audit_signer();

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

-- Carries no SET clause: a dataset's table is looked up in the caller's search_path. Every name in it is qualified.
CREATE OR REPLACE PROCEDURE federated.execute(command text)
LANGUAGE plpgsql AS $$
DECLARE
    failure pg_catalog.jsonb;
BEGIN
    failure := federated._execute(command, pg_catalog.current_schemas(true));
    PERFORM federated._count_refusal(failure);
    PERFORM federated._raise(failure);
END
$$;

COMMENT ON PROCEDURE federated.execute(text) IS 'Executes one FEDERATED statement, as the proxy does with what a user types';

-- Models that came as files (exchange.sql): where predictions look them up.
CREATE TABLE federated.imported_model (
    import_id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name              text NOT NULL UNIQUE CHECK (name <> '' AND octet_length(name) <= 63 AND strpos(name, '@') = 0 AND name !~ '[[:cntrl:]]'),
    owner             name NOT NULL DEFAULT current_user,
    version           integer NOT NULL CHECK (version > 0),
    features          text[] NOT NULL,
    contract          jsonb NOT NULL CHECK (jsonb_typeof(contract) = 'object'),
    prediction        jsonb NOT NULL CHECK (jsonb_typeof(prediction) = 'object'),
    prediction_arrays bytea,
    origin            jsonb NOT NULL CHECK (jsonb_typeof(origin) = 'object' AND octet_length(origin::text) <= 8192),
    card              jsonb CHECK (jsonb_typeof(card) = 'object' AND octet_length(card::text) <= 4194304),
    file_sha256       bytea CHECK (octet_length(file_sha256) = 32),
    signature         text NOT NULL DEFAULT 'unchecked' CHECK (signature IN ('unchecked', 'none', 'delivery', 'verified')),
    signed_by         text CHECK (signed_by ~ '^[0-9a-f]{64}$'),
    imported_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((signature IN ('delivery', 'verified')) = (signed_by IS NOT NULL))
);

COMMENT ON TABLE federated.imported_model IS 'Versions that were imported from files, each a model of its own name here';

COMMENT ON COLUMN federated.imported_model.import_id IS 'By what its functions know its numbers: this database''s own';

COMMENT ON COLUMN federated.imported_model.version IS 'The number that it had where it was exported';

COMMENT ON COLUMN federated.imported_model.contract IS 'As in federated.delivered_version';

COMMENT ON COLUMN federated.imported_model.prediction IS 'As in federated.version';

COMMENT ON COLUMN federated.imported_model.prediction_arrays IS 'As in federated.version';

COMMENT ON COLUMN federated.imported_model.origin IS 'What the file says of where it is from: model, workspace, version_key, how it was held there, exported_at';

COMMENT ON COLUMN federated.imported_model.card IS 'The model card that came with it; NULL where none did';

COMMENT ON COLUMN federated.imported_model.file_sha256 IS 'SHA-256 of the whole file, as the importer says; NULL where it does not';

COMMENT ON COLUMN federated.imported_model.signature IS
    'What the importer found: verified, the whole file was signed by a certificate that they brought; delivery, by that one its numbers, as it delivered them: nothing else of the file was kept, and the version may not be current any more; none, the file had none or none was looked at; unchecked where they do not say';

COMMENT ON COLUMN federated.imported_model.signed_by IS 'SHA-256 of that certificate, hexadecimal; NULL unless signature is verified or delivery';

SELECT pg_catalog.pg_extension_config_dump('federated.imported_model', '');

-- Models of other organisations at a participant: what its own DBA subscribes to, and the versions that were delivered. A version
-- is numbers and names; its functions are made here, by what makes those of versions that were trained here.
CREATE TABLE federated.subscription (
    subscription_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name            text NOT NULL UNIQUE CHECK (name <> '' AND octet_length(name) <= 63),
    workspace       text NOT NULL CHECK (workspace <> ''),
    model_name      text NOT NULL UNIQUE CHECK (model_name <> '' AND octet_length(model_name) <= 63 AND strpos(model_name, '@') = 0),
    wanted          text CHECK (CASE WHEN wanted ~ '^[0-9]*$' THEN wanted ~ '^[1-9][0-9]{0,9}$' AND wanted::bigint < 2147483648
                                     ELSE octet_length(wanted) <= 63 AND wanted !~ '[@[:cntrl:]]' END),
    auto            boolean NOT NULL DEFAULT true,
    refresh         boolean NOT NULL DEFAULT true,
    owner           name NOT NULL DEFAULT current_user,
    created_at      timestamptz NOT NULL DEFAULT now(),
    heard_outcome   text CHECK (heard_outcome IN ('offered', 'unknown', 'waiting', 'unavailable')),
    heard_version   integer CHECK (heard_version > 0),
    heard_key       uuid,
    heard_since     timestamptz,
    heard_at        timestamptz,
    reason          text CHECK (octet_length(reason) <= 4096),
    refused_key     uuid,
    failure         text CHECK (octet_length(failure) <= 4096),
    CHECK ((heard_outcome IS NOT DISTINCT FROM 'offered') = (num_nulls(heard_version, heard_key) = 0)
           AND num_nulls(heard_version, heard_key) IN (0, 2))
);

COMMENT ON TABLE federated.subscription IS 'Models of other organisations'' workspaces that this database''s own DBA wants to predict with';

COMMENT ON COLUMN federated.subscription.wanted IS 'A tag, or a version''s number; NULL: whichever is current where the model is trained';

COMMENT ON COLUMN federated.subscription.auto IS 'Whether later versions are taken as they come';

COMMENT ON COLUMN federated.subscription.refresh IS 'Whether the next version that is offered is taken in any case: what was asked for is not here yet';

COMMENT ON COLUMN federated.subscription.heard_outcome IS
    'What the coordinator last said: offered; unknown (no such model in the workspace, or not granted to this node); waiting (no such version yet, or none is current); unavailable (of the version no numbers were kept); NULL before it said anything of what is wanted now';

COMMENT ON COLUMN federated.subscription.heard_version IS 'The version that is offered; NULL where none is';

COMMENT ON COLUMN federated.subscription.heard_key IS 'Its key: the coordinator''s own name of it, which no other version has';

COMMENT ON COLUMN federated.subscription.heard_since IS 'When this was first said';

COMMENT ON COLUMN federated.subscription.heard_at IS 'When the coordinator was last heard, to within a minute or two; NULL before it spoke of the subscription';

COMMENT ON COLUMN federated.subscription.reason IS 'What the coordinator said besides, in its own words';

COMMENT ON COLUMN federated.subscription.refused_key IS 'The key of the version that was offered and cannot be taken; it is not asked for again before REFRESH';

COMMENT ON COLUMN federated.subscription.failure IS 'Why that version was not taken';

CREATE TABLE federated.delivered_version (
    subscription_id    bigint NOT NULL REFERENCES federated.subscription ON DELETE CASCADE,
    version            integer NOT NULL CHECK (version > 0),
    version_key        uuid NOT NULL,
    delivery_id        uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    features           text[] NOT NULL,
    contract           jsonb NOT NULL CHECK (jsonb_typeof(contract) = 'object'),
    prediction         jsonb NOT NULL CHECK (jsonb_typeof(prediction) = 'object'),
    prediction_arrays  bytea,
    body_sha256        bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    header             bytea NOT NULL CHECK (octet_length(header) <= 4194304),
    signature          bytea NOT NULL CHECK (octet_length(signature) <= 4096),
    certificate_sha256 bytea NOT NULL CHECK (octet_length(certificate_sha256) = 32),
    is_current         boolean NOT NULL DEFAULT true,
    delivered_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at         timestamptz,
    personal_run       uuid,
    PRIMARY KEY (subscription_id, version),
    UNIQUE (subscription_id, version_key)
);

CREATE UNIQUE INDEX delivered_version_one_current ON federated.delivered_version (subscription_id) WHERE is_current;

COMMENT ON TABLE federated.delivered_version IS
    'The versions that a subscription has brought: the current one, and earlier ones on whose functions other objects depend';

COMMENT ON COLUMN federated.delivered_version.version_key IS 'The coordinator''s own name of the version, which no other one has';

COMMENT ON COLUMN federated.delivered_version.delivery_id IS
    'By what its functions know its numbers: this database''s own, so that nobody else chooses what a session has read already';

COMMENT ON COLUMN federated.delivered_version.contract IS 'What an evaluation needs to know: algorithm, target, event, weights, offset';

COMMENT ON COLUMN federated.delivered_version.prediction IS 'As in federated.version';

COMMENT ON COLUMN federated.delivered_version.prediction_arrays IS 'As in federated.version';

COMMENT ON COLUMN federated.delivered_version.body_sha256 IS 'SHA-256 of the numbers as they travelled: the header names it';

COMMENT ON COLUMN federated.delivered_version.header IS 'What the coordinator signed, as it came';

COMMENT ON COLUMN federated.delivered_version.signature IS 'Over the header, with the key of the certificate';

COMMENT ON COLUMN federated.delivered_version.certificate_sha256 IS 'SHA-256 of the certificate whose key signed';

COMMENT ON COLUMN federated.delivered_version.is_current IS 'Whether the model''s function computes it';

COMMENT ON COLUMN federated.delivered_version.retired_at IS
    'When the coordinator said that it was retired: from then on it predicts nothing, and its numbers are gone; else NULL';

COMMENT ON COLUMN federated.delivered_version.personal_run IS
    'The run of which the node''s own part stands in the place of the numbers that were delivered; NULL: these are as delivered';

SELECT pg_catalog.pg_extension_config_dump('federated.subscription', '');

SELECT pg_catalog.pg_extension_config_dump('federated.delivered_version', '');

CREATE FUNCTION federated._contract(options jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In PL/pgSQL, whose plans a session keeps: each prediction that looks a version up comes by here.
    RETURN jsonb_strip_nulls(jsonb_build_object('algorithm', options ->> 'algorithm', 'target', options ->> 'target',
        'event', options ->> 'event', 'weights', options ->> 'weights', 'offset', options ->> 'offset'));
END
$$;

COMMENT ON FUNCTION federated._contract(jsonb) IS 'Of a run''s options what says which column a version predicts, and by which others it is judged';

-- Beside these a version's prediction may have figures of how it was found.
CREATE FUNCTION federated._predicting(prediction jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(p.key, p.value) FILTER (WHERE p.key IN (
               'kind', 'booleans', 'classes', 'encoding', 'link', 'intercept', 'intercepts', 'slopes', 'fills', 'shifts',
               'target_mean', 'target_scale', 'activations', 'image', 'groups', 'activation', 'front', 'body', 'boosts', 'labels', 'votes', 'margin', 'voters')), '{}')
    FROM jsonb_each(prediction) AS p
$$;

COMMENT ON FUNCTION federated._predicting(jsonb) IS 'Of a stored prediction what computes it, and nothing else';

-- A run that was resumed may have left several versions, and a version's number may come again in a catalog that was restored.
CREATE FUNCTION federated._version_key(run_id uuid, version integer) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN md5(run_id::text || '/' || version::text)::uuid;
END
$$;

COMMENT ON FUNCTION federated._version_key(uuid, integer) IS
    'Under which name a version is known wherever its numbers go: no other version ever has it';

-- The one place in which predictions look a version up, wherever it was trained.
CREATE VIEW federated.held_version AS
SELECT m.name AS model_name, v.version, federated._version_key(v.run_id, v.version) AS numbers_id, v.features, v.prediction, v.prediction_arrays, v.is_current,
       (SELECT federated._contract(r.options) FROM federated.run AS r WHERE r.run_id = v.run_id) AS contract,
       v.retired_at IS NOT NULL AS is_retired, v.withheld AS is_withheld
FROM federated.version AS v JOIN federated.model AS m USING (model_id)
UNION ALL
SELECT s.model_name, d.version, d.delivery_id, d.features, d.prediction, d.prediction_arrays, d.is_current, d.contract,
       d.retired_at IS NOT NULL, false
FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
UNION ALL
SELECT i.name, i.version, i.import_id, i.features, i.prediction, i.prediction_arrays, true, i.contract, false, false
FROM federated.imported_model AS i;

COMMENT ON VIEW federated.held_version IS
    'The versions that this database can predict with: those that were trained here, those that subscriptions brought, and those that were imported';

COMMENT ON COLUMN federated.held_version.numbers_id IS
    'By what the version''s functions know its numbers: its key where it was trained here, its delivery or its import where it was not';

COMMENT ON COLUMN federated.held_version.contract IS 'algorithm, target, event, weights and offset; what there is none of is not there';

COMMENT ON COLUMN federated.held_version.prediction IS 'As in federated.version';

COMMENT ON COLUMN federated.held_version.is_retired IS 'Whether it predicts nothing any more';

COMMENT ON COLUMN federated.held_version.is_withheld IS 'Whether it predicts nothing for a while';

-- check_owner sorts before the other BEFORE triggers.
CREATE FUNCTION federated._check_subscription_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT federated._has_role(OLD.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated subscription "%s"', OLD.name),
            DETAIL = format('Its owner is %s.', quote_ident(OLD.owner));
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

COMMENT ON FUNCTION federated._check_subscription_owner() IS 'Keeps a subscription for members of its owner role';

CREATE TRIGGER check_owner BEFORE DELETE OR UPDATE OF wanted, auto ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._check_subscription_owner();

-- Whoever makes a model or a subscription of a name takes this lock first: each looks whether there is the other.
CREATE FUNCTION federated._lock_model_name(model_name text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.model_name:' || model_name, 0))
$$;

COMMENT ON FUNCTION federated._lock_model_name(text) IS 'Until the transaction ends, nobody else makes a model or a subscription of that name';

-- Restoring a dump brings functions before rows: those are federated_owner's.
CREATE FUNCTION federated._check_subscription() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    other   text := (SELECT s.name FROM federated.subscription AS s WHERE s.model_name = NEW.model_name AND s.name <> NEW.name);
    foreign_function regprocedure;
BEGIN
    PERFORM federated._lock_model_name(NEW.model_name);
    foreign_function := (
        SELECT min(p.oid::regprocedure::text)::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace)
          AND (p.proname::text = NEW.model_name OR starts_with(p.proname::text, NEW.model_name || '@'))
          AND p.proowner <> 'federated_owner'::regrole);
    IF other IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" is subscribed to already', NEW.model_name),
            DETAIL = format('Its subscription is "%s".', other),
            HINT = 'ALTER FEDERATED SUBSCRIPTION ... SET (version = ...) chooses another version.';
    ELSIF EXISTS (SELECT FROM federated.model AS m
                  WHERE m.name = NEW.model_name OR starts_with(m.name, NEW.model_name || '@')) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" already exists in this database', NEW.model_name),
            DETAIL = 'A subscription makes functions of the model''s own name.';
    ELSIF EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = NEW.model_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" was imported into this database', NEW.model_name),
            DETAIL = 'A subscription makes functions of the model''s own name.',
            HINT = format('SELECT federated_drop_imported_model(%L) makes room.', NEW.model_name);
    ELSIF foreign_function IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_function',
            MESSAGE = format('function %s already exists and belongs to no federated model', foreign_function),
            HINT = 'Drop or rename it: a subscription makes functions of the model''s own name.';
    ELSIF (SELECT count(*) FROM federated.subscription AS s WHERE s.workspace = NEW.workspace AND s.name <> NEW.name) >= 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = format('there may not be more than 1000 subscriptions to models of workspace "%s"', NEW.workspace);
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_subscription() IS
    'Lets a model be subscribed to once, and only where nothing else has its name';

CREATE TRIGGER check_subscription BEFORE INSERT ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._check_subscription();

-- What was heard is the answer to what was wanted. Asking for the same again gives a refused version another try.
CREATE FUNCTION federated._ask_again() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.refresh := true;
    NEW.refused_key := NULL;
    NEW.failure := NULL;
    IF NEW.wanted IS DISTINCT FROM OLD.wanted THEN
        NEW.heard_outcome := NULL;
        NEW.heard_version := NULL;
        NEW.heard_key := NULL;
        NEW.heard_since := NULL;
        NEW.reason := NULL;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._ask_again() IS 'Has the next version that is offered taken, whatever was refused before';

CREATE TRIGGER ask_again BEFORE UPDATE OF wanted ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._ask_again();

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF wanted, auto ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION federated._predict_undelivered(model text) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('federated model "%s" has no version in this database yet', model),
        DETAIL = 'It is subscribed to, and its subscription has received none.',
        HINT = format('SELECT state, message FROM federated_subscriptions WHERE model_name = %L says what it waits for.', model);
END
$$;

COMMENT ON FUNCTION federated._predict_undelivered(text) IS
    'What the function of a model that is subscribed to does before a version is here: error 55000';

CREATE FUNCTION federated._write_undelivered_function(model_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_model.%I() RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE'
        ' RETURN federated._predict_undelivered(%L)', model_name, model_name);
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_row.%I(anyelement) RETURNS SETOF double precision LANGUAGE sql STABLE PARALLEL SAFE AS %L',
        model_name, format('SELECT federated._predict_undelivered(%L)', model_name));
    PERFORM federated._finish_model_function(
        model_name, format('Federated model %s, which is subscribed to and of which no version was received yet', model_name));
END
$$;

COMMENT ON FUNCTION federated._write_undelivered_function(text) IS
    'Makes the function of a model that is subscribed to, before there is a version';

-- Runs as federated_owner, which owns the functions; it fires only where the caller may change the subscription's row.
CREATE FUNCTION federated._keep_subscribed_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    IF TG_OP = 'DELETE' THEN
        FOR model_function IN SELECT f.oid FROM federated._list_functions(OLD.model_name) AS f (oid) LOOP
            EXECUTE format('DROP FUNCTION %s %s', model_function,
                           CASE current_setting('federated.drop_behavior', true) WHEN 'cascade' THEN 'CASCADE'
                                ELSE 'RESTRICT' END);
        END LOOP;
    -- Restoring a dump brings a model's function before the subscription's row.
    ELSIF NOT EXISTS (SELECT FROM pg_proc AS p
                      WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = NEW.model_name) THEN
        PERFORM federated._write_undelivered_function(NEW.model_name);
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_subscribed_functions() IS 'Makes and drops the functions of a model with its subscription';

CREATE TRIGGER keep_subscribed_functions AFTER INSERT OR DELETE ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribed_functions();

CREATE FUNCTION federated._held_number(model text, label text) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held   integer[] := ARRAY(SELECT v.version FROM federated.held_version AS v WHERE v.model_name = model ORDER BY v.version);
    wanted integer := (SELECT h FROM unnest(held) AS h WHERE CASE WHEN label ~ '^[0-9]+$' THEN h = label::numeric END);
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('no version "%s" of federated model "%s" is held in this database', label, model),
            DETAIL = CASE cardinality(held) WHEN 0 THEN 'Its subscription has received none yet.'
                          ELSE format('Held: %s.', array_to_string(held, ', ')) END,
            HINT = CASE WHEN EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = model)
                THEN 'A model that was imported has the one version that its file had.'
                ELSE 'Here a number names what is held; tags are known where the model is trained, and a subscription follows one: ALTER FEDERATED SUBSCRIPTION ... SET (version = ''tag'').' END;
    END IF;
    RETURN wanted;
END
$$;

COMMENT ON FUNCTION federated._held_number(text, text) IS
    'The version of a model that is subscribed to, or was imported, which a number names, or error 42704 that says what is held';

CREATE FUNCTION federated._raise_unheld(model text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = model) THEN
        PERFORM federated._predict_undelivered(model);
    END IF;
    PERFORM federated._model_id(model), federated._predict_untrained(model);
END
$$;

COMMENT ON FUNCTION federated._raise_unheld(text) IS 'Says why there is no current version of a model: 42704 where there is no such model, else 55000';

-- A reference is a model's name, or name@tag, or name@number; a name with an @ in it is from before names were checked.
CREATE FUNCTION federated._find_held(
    reference text, OUT function_name text, OUT model_name text, OUT version integer, OUT numbers_id uuid, OUT features text[],
    OUT prediction jsonb, OUT contract jsonb
)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    label       text;
    wanted      integer;
    is_retired  boolean;
    is_withheld boolean;
BEGIN
    function_name := reference;
    model_name := reference;
    IF strpos(reference, '@') > 0 AND NOT EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN
        label := split_part(reference, '@', -1);
        model_name := left(reference, -1 - length(label));
        wanted := federated._version_number(model_name, label);
        function_name := model_name || '@' || CASE WHEN label ~ '^[0-9]+$' THEN wanted::text ELSE label END;
    END IF;
    SELECT v.version, v.numbers_id, v.features, v.prediction, v.contract, v.is_retired, v.is_withheld
    INTO version, numbers_id, features, prediction, contract, is_retired, is_withheld
    FROM federated.held_version AS v
    WHERE v.model_name = _find_held.model_name AND CASE WHEN wanted IS NULL THEN v.is_current ELSE v.version = wanted END;
    IF NOT FOUND THEN
        PERFORM federated._raise_unheld(model_name);
    ELSIF is_retired OR is_withheld THEN
        PERFORM federated._refuse_withdrawn(model_name, version, is_retired);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._find_held(text) IS
    'The version that a model, model@tag or model@number names, wherever it was trained; 42704 where there is none, 55000 where none is current';

CREATE FUNCTION federated._list_subscriptions(workspace text) RETURNS TABLE (
    name text, model_name text, wanted text, takes boolean, held_key uuid, held_version integer, heard_outcome text, heard_key uuid,
    refused_key uuid, kept_keys uuid[]
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- Whose DBA has later versions wait decides on the next one too where a version was retired.
    SELECT s.name, s.model_name, s.wanted, s.auto OR s.refresh OR d.version_key IS NULL,
           CASE WHEN d.retired_at IS NULL THEN d.version_key END, CASE WHEN d.retired_at IS NULL THEN d.version END,
           s.heard_outcome, s.heard_key, s.refused_key,
           ARRAY(SELECT k.version_key FROM federated.delivered_version AS k
                 WHERE k.subscription_id = s.subscription_id AND NOT k.is_current AND k.retired_at IS NULL
                 ORDER BY k.delivered_at DESC, k.version LIMIT 100)
    FROM federated.subscription AS s
    LEFT JOIN federated.delivered_version AS d ON d.subscription_id = s.subscription_id AND d.is_current
    WHERE s.workspace = _list_subscriptions.workspace
    ORDER BY s.name
$$;

COMMENT ON FUNCTION federated._list_subscriptions(text) IS
    'What a node says of its subscriptions to models of a workspace; takes: whether it takes what is offered; kept_keys: of earlier versions that are still here';

CREATE VIEW @extschema@.federated_subscriptions AS
SELECT k.subscription_name, k.workspace, k.model_name, k.version_wanted, k.auto, k.version, k.available_version,
       CASE WHEN k.available_version IS NOT NULL AND k.state <> 'current' THEN now() - k.heard_since END AS lag,
       k.state, CASE k.state
           WHEN 'refused' THEN k.failure
           WHEN 'retired' THEN format('version %s was retired: data subjects were erased that it had learned from; %s', k.retired_version,
               CASE WHEN k.failure IS NOT NULL THEN k.failure
                    WHEN k.available_version IS NULL THEN coalesce(k.reason, 'the coordinator offers no other one')
                    WHEN k.takes THEN format('version %s is on its way', k.available_version)
                    ELSE format('auto is false: ALTER FEDERATED SUBSCRIPTION %I REFRESH takes version %s', k.subscription_name,
                                k.available_version) END)
           WHEN 'unheard' THEN 'the coordinator has not spoken of it yet'
           WHEN 'current' THEN NULL
           WHEN 'behind' THEN CASE WHEN k.takes THEN 'it is on its way' ELSE
               format('auto is false: ALTER FEDERATED SUBSCRIPTION %I REFRESH takes it', k.subscription_name) END
           ELSE coalesce(k.reason, CASE k.state
               WHEN 'unknown' THEN 'there is no such model in the workspace, or it is not granted to this node'
               WHEN 'waiting' THEN 'there is no such version yet'
               ELSE 'the version''s numbers were not kept' END) END AS message,
       k.delivered_at, k.last_heard, k.signed_by, k.signature, k.sha256
FROM (
    SELECT s.name AS subscription_name, s.workspace, s.model_name, coalesce(s.wanted, 'latest') AS version_wanted, s.auto,
           CASE WHEN d.retired_at IS NULL THEN d.version END AS version, d.version AS retired_version,
           s.heard_version AS available_version, s.heard_since, s.reason, s.failure,
           s.auto OR s.refresh OR d.version_key IS NULL AS takes,
           CASE WHEN d.retired_at IS NOT NULL THEN 'retired'
                WHEN s.heard_outcome IS NULL THEN 'unheard'
                WHEN s.heard_outcome <> 'offered' THEN s.heard_outcome
                WHEN d.version_key = s.heard_key THEN 'current'
                WHEN s.refused_key = s.heard_key THEN 'refused'
                ELSE 'behind' END AS state,
           d.delivered_at, s.heard_at AS last_heard, encode(d.certificate_sha256, 'hex') AS signed_by,
           encode(d.signature, 'hex') AS signature, encode(d.body_sha256, 'hex') AS sha256
    FROM federated.subscription AS s
    LEFT JOIN federated.delivered_version AS d ON d.subscription_id = s.subscription_id AND d.is_current
) AS k;

COMMENT ON VIEW @extschema@.federated_subscriptions IS
    'At a participant: the models that it subscribes to, and how far each is';

COMMENT ON COLUMN @extschema@.federated_subscriptions.subscription_name IS 'As CREATE FEDERATED SUBSCRIPTION named it';

COMMENT ON COLUMN @extschema@.federated_subscriptions.workspace IS 'The workspace in which the model is trained';

COMMENT ON COLUMN @extschema@.federated_subscriptions.model_name IS 'The model, there and here: federated_predict names it so';

COMMENT ON COLUMN @extschema@.federated_subscriptions.version_wanted IS 'A tag, a version''s number, or latest: whichever is current where the model is trained';

COMMENT ON COLUMN @extschema@.federated_subscriptions.auto IS 'Whether later versions are taken as they come; else by ALTER FEDERATED SUBSCRIPTION ... REFRESH';

COMMENT ON COLUMN @extschema@.federated_subscriptions.version IS 'The version that the model''s function computes here; NULL before there is one, and where it was retired';

COMMENT ON COLUMN @extschema@.federated_subscriptions.available_version IS 'The version that the coordinator last offered; NULL where it offers none';

COMMENT ON COLUMN @extschema@.federated_subscriptions.lag IS 'For how long the version that is offered has been known and is not here; NULL where it is, and where none is offered';

COMMENT ON COLUMN @extschema@.federated_subscriptions.state IS
    'current: what is offered is here; behind: it is not yet; refused: it was not taken, and the version before it stays (message says why); waiting: there is no such version yet, or none is current; unavailable: the version''s numbers were not kept, so that it cannot travel; unknown: there is no such model in the workspace, or it is not granted to this node; unheard: the coordinator has said nothing yet of what is wanted; retired: what was here was retired, since data subjects were erased that it had learned from, and predicts nothing. In every other state the version that is here goes on predicting';

COMMENT ON COLUMN @extschema@.federated_subscriptions.message IS 'Why the version that is wanted is not here; NULL where it is';

COMMENT ON COLUMN @extschema@.federated_subscriptions.delivered_at IS 'When the version was taken; NULL before there is one';

COMMENT ON COLUMN @extschema@.federated_subscriptions.last_heard IS 'When the coordinator was last heard, to within a minute or two while its heartbeats come; NULL before it spoke of the subscription';

COMMENT ON COLUMN @extschema@.federated_subscriptions.signed_by IS 'SHA-256 of the certificate whose key signed the version, hexadecimal';

COMMENT ON COLUMN @extschema@.federated_subscriptions.signature IS 'That signature, hexadecimal';

COMMENT ON COLUMN @extschema@.federated_subscriptions.sha256 IS 'SHA-256 of the version''s numbers as they travelled, hexadecimal';

-- Aggregation functions: how people combine the nodes' updates in a language of their own. Each is a function in
-- federated_aggregation that belongs to whoever made it, and of the signature (updates, weights); PostgreSQL's own rules say who
-- may use which language.
CREATE TABLE federated.aggregation_function (
    name        text PRIMARY KEY CHECK (name <> ''),
    owner       name NOT NULL DEFAULT current_user,
    language    text NOT NULL,
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    created_at  timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE federated.aggregation_function IS
    'The functions in federated_aggregation as statements made them, so that the audit log shows who did and of which text';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF owner, language, body_sha256 ON federated.aggregation_function
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION federated._create_aggregation_function(
    function_name text, function_body text, function_language text, may_replace boolean
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signature text := format('federated_aggregation.%I(double precision[], double precision[])', function_name);
    reason    text;
    found     text;
BEGIN
    BEGIN
        EXECUTE format(
            'CREATE %s federated_aggregation.%I(updates double precision[], weights double precision[])'
            ' RETURNS double precision[] LANGUAGE %I AS %L',
            CASE WHEN may_replace THEN 'OR REPLACE FUNCTION' ELSE 'FUNCTION' END, function_name, function_language,
            function_body);
    EXCEPTION WHEN invalid_function_definition THEN
        -- The statement says RETURNS FLOAT: what PostgreSQL says of arrays needs telling where they come from.
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT, found = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION USING ERRCODE = 'invalid_function_definition', MESSAGE = reason, DETAIL = found,
            HINT = 'It gets updates, an array with a row of values for each node, and weights, one for each node, and returns one array of as many values as such a row has.';
    END;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO federated_aggregator', signature);
    INSERT INTO federated.aggregation_function AS f (name, language, body_sha256)
    VALUES (function_name, function_language, sha256(convert_to(function_body, 'UTF8')))
    ON CONFLICT (name) DO UPDATE
    SET owner = excluded.owner, language = excluded.language, body_sha256 = excluded.body_sha256;
END
$$;

COMMENT ON FUNCTION federated._create_aggregation_function(text, text, text, boolean) IS
    'Makes a function in federated_aggregation that belongs to the caller, and that nobody but federated_aggregator may call';

CREATE FUNCTION federated._drop_aggregation_function(function_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('DROP FUNCTION federated_aggregation.%I(double precision[], double precision[])', function_name);
    DELETE FROM federated.aggregation_function AS f WHERE f.name = function_name;
END
$$;

COMMENT ON FUNCTION federated._drop_aggregation_function(text) IS 'Drops the caller''s function in federated_aggregation';

-- Whoever writes such a function has it called by the coordinator: so it runs as federated_aggregator, who may do nothing else.
-- Inside DEFINER no code can take another role, whatever the function's own owner makes of it.
CREATE FUNCTION federated._aggregate(function_name text, updates double precision[], weights double precision[])
RETURNS double precision[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    combined double precision[];
BEGIN
    EXECUTE format('SELECT federated_aggregation.%I($1, $2)', function_name) INTO combined USING updates, weights;
    RETURN combined;
END
$$;

COMMENT ON FUNCTION federated._aggregate(text, double precision[], double precision[]) IS
    'What an aggregation function makes of all nodes'' updates, one a row, and of their weights; it runs without any rights';

-- The features of a version: of which types its functions take them, and how many numbers they become.
CREATE FUNCTION federated._level_names(spec jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT l.level FROM jsonb_array_elements_text(coalesce(spec -> 'levels', '[]')) WITH ORDINALITY AS l (level, place)
                 ORDER BY l.place)
           || CASE WHEN (spec ->> 'null_level')::boolean THEN '{NULL}'::text[] ELSE '{}' END
           || CASE WHEN (spec ->> 'other_level')::boolean THEN '{other}'::text[] ELSE '{}' END
$$;

COMMENT ON FUNCTION federated._level_names(jsonb) IS 'All levels of a category: those of values, NULL, and what is left';

CREATE FUNCTION federated._is_shape(shape jsonb, slots integer) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(shape) IS DISTINCT FROM 'array' THEN false
        WHEN jsonb_array_length(shape) <> 3 OR jsonb_path_exists(shape, '$[*] ? (@.type() != "number")') THEN false
        WHEN jsonb_path_exists(shape, '$[*] ? (@ < 1 || @ > 100000 || @.floor() != @)') THEN false
        ELSE (shape ->> 0)::numeric * (shape ->> 1)::numeric * (shape ->> 2)::numeric = slots END
$$;

COMMENT ON FUNCTION federated._is_shape(jsonb, integer) IS 'Whether channels, height and width are those of an image of so many numbers';

-- How the features of a version become parameters, inputs and slots: of its encoding, or of flags alone where every feature
-- is one input. Slots are what a row is handed to numpy as (src/heliosdb/scoring/rows.py).
CREATE FUNCTION federated._columns(
    features text[], booleans boolean[], prediction jsonb,
    OUT place integer, OUT feature text, OUT kind text, OUT form text, OUT type regtype, OUT spec jsonb,
    OUT inputs integer, OUT first_input integer, OUT slots integer
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH given AS (
        SELECT t.place::integer, t.feature, coalesce(
                   prediction #> ARRAY['encoding', 'columns', (t.place - 1)::text],
                   jsonb_build_object('kind', CASE WHEN t.flag THEN 'boolean' ELSE 'number' END)) AS spec
        FROM unnest(features, booleans) WITH ORDINALITY AS t (feature, flag, place)
    ), known AS (
        SELECT g.place, g.feature, g.spec ->> 'kind' AS kind, coalesce(g.spec ->> 'form', 'value') AS form, g.spec,
               CASE WHEN g.spec ->> 'kind' IN ('array', 'image', 'text') THEN coalesce((g.spec ->> 'elements')::integer, 1) ELSE 1 END AS slots
        FROM given AS g
    ), counted AS (
        SELECT k.*, coalesce((k.spec ->> 'missing_indicator')::boolean, false)::integer + CASE k.form
                   WHEN 'bins' THEN jsonb_array_length(k.spec -> 'edges')
                   WHEN 'indicators' THEN cardinality(federated._level_names(k.spec)) - 1
                   ELSE k.slots END AS inputs
        FROM known AS k
    )
    SELECT c.place, c.feature, c.kind, c.form,
           CASE c.kind WHEN 'number' THEN 'float8'::regtype WHEN 'boolean' THEN 'boolean'::regtype
                       WHEN 'time' THEN 'timestamp'::regtype WHEN 'interval' THEN 'interval'::regtype
                       WHEN 'category' THEN 'text'::regtype WHEN 'text' THEN 'text'::regtype WHEN 'array' THEN 'float8[]'::regtype
                       WHEN 'image' THEN 'bytea'::regtype END,
           c.spec, c.inputs, (1 + sum(c.inputs) OVER (ORDER BY c.place) - c.inputs)::integer, c.slots
    FROM counted AS c ORDER BY c.place
$$;

COMMENT ON FUNCTION federated._columns(text[], boolean[], jsonb) IS
    'The features of a prediction: kind and form of each, its parameter''s type, and how many inputs and slots it becomes';

-- Raises what no run of ours leaves: names and numbers are checked before anything is made of them.
CREATE FUNCTION federated._check_columns(features text[], booleans boolean[], prediction jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong text;
BEGIN
    IF num_nulls(features, booleans, prediction) > 0
       OR array_position(features, NULL) IS NOT NULL OR array_position(booleans, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a prediction has no NULL in it';
    ELSIF 1 <> ANY (ARRAY[array_ndims(features), array_ndims(booleans)]) OR cardinality(features) <> cardinality(booleans) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error', MESSAGE = 'a prediction has one flag for each feature';
    ELSIF prediction ? 'encoding' AND features IS DISTINCT FROM ARRAY(
        SELECT e.spec ->> 'column' FROM jsonb_array_elements(prediction #> '{encoding,columns}') WITH ORDINALITY AS e (spec, place)
        ORDER BY e.place) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error', MESSAGE = 'an encoding has one entry for each feature';
    END IF;
    wrong := (
        SELECT min(c.feature) FROM federated._columns(features, booleans, prediction) AS c
        WHERE c.type IS NULL OR c.slots NOT BETWEEN 1 AND 100000 OR c.inputs < 0
           OR (c.kind = 'category') <> (c.form IN ('indicators', 'index')) OR (c.kind = 'text') <> (c.form = 'hashed')
           OR (c.kind = 'text' AND (c.slots > 4096 OR c.inputs <> c.slots))
           OR c.form NOT IN ('value', 'log1p', 'bins', 'indicators', 'index', 'hashed') OR (c.kind IN ('array', 'image') AND c.form = 'bins')
           OR (c.kind = 'image' AND c.form <> 'value')
           OR ((c.spec ? 'shape' OR c.kind = 'image') AND NOT federated._is_shape(c.spec -> 'shape', c.slots))
           OR jsonb_path_exists(c.spec, '$.edges[*] ? (@.type() != "number")')
           OR jsonb_path_exists(c.spec, '$.levels[*] ? (@.type() != "string")'));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the encoding of feature "%s" is none that there is', wrong);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_columns(text[], boolean[], jsonb) IS 'Raises an error where features, flags and encoding do not fit';

CREATE FUNCTION federated._bounded_inputs(features text[], booleans boolean[], prediction jsonb) RETURNS boolean[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(c.kind = 'boolean' OR c.form <> 'value' OR i > c.slots ORDER BY c.place, i), '{}')
    FROM federated._columns(features, booleans, prediction) AS c CROSS JOIN LATERAL generate_series(1, c.inputs) AS i
$$;

COMMENT ON FUNCTION federated._bounded_inputs(text[], boolean[], jsonb) IS 'Which inputs are small whatever the feature is';

-- What is made of a text no expression makes. An expression of more terms than this is slower than numpy, and too deep for the server's stack before long; PostgreSQL
-- allows 100 arguments.
CREATE FUNCTION federated._is_expression(features text[], booleans boolean[], prediction jsonb) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT prediction ->> 'kind' NOT IN ('network', 'convolution', 'series', 'trees', 'votes') IS NOT FALSE AND NOT prediction ? 'sealed' AND cardinality(features) <= 99
        AND (sum(c.inputs) * greatest(1, jsonb_array_length(prediction -> 'intercepts')) <= 1000
             OR coalesce(prediction ->> 'kind', 'linear') NOT IN ('linear', 'softmax_linear'))
        AND count(*) FILTER (WHERE c.kind = 'text') = 0
    FROM federated._columns(features, booleans, prediction) AS c
$$;

COMMENT ON FUNCTION federated._is_expression(text[], boolean[], jsonb) IS
    'Whether a prediction is made an expression that the planner inlines; what is not is computed by numpy';

-- By its name in the catalog: that of the language may be of several words.
CREATE FUNCTION federated._absent_value(type regtype) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('NULL::pg_catalog.%I', t.typname) FROM pg_type AS t WHERE t.oid = type
$$;

COMMENT ON FUNCTION federated._absent_value(regtype) IS 'A feature that a row has not, as an expression of its parameter''s type';

CREATE FUNCTION federated._has_many_classes(prediction jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(prediction ->> 'link' = 'softmax', false) OR coalesce(prediction ->> 'kind' = 'softmax_linear', false)
$$;

COMMENT ON FUNCTION federated._has_many_classes(jsonb) IS
    'Whether a prediction is the probabilities of several classes, and no number';

-- A model of more features than a function may have arguments takes them as one array of slots.
CREATE FUNCTION federated._describe_parameters(features text[], booleans boolean[], prediction jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN count(*) > 99 THEN 'slots double precision[] DEFAULT NULL'
                ELSE string_agg(format('%I %s DEFAULT NULL', c.feature, c.type), ', ' ORDER BY c.place) END
    FROM federated._columns(features, booleans, prediction) AS c
$$;

COMMENT ON FUNCTION federated._describe_parameters(text[], boolean[], jsonb) IS
    'The argument list of a version''s function: each feature by name and type, missing means NULL';

-- Levels in the order of their hashes, and behind each the least float that is larger, or the one behind that: what lies
-- between an odd edge and the next is the hash of a level, all else is not. As at the nodes, a text is known by its hash.
CREATE FUNCTION federated._level_edges(levels text[]) RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(e.edge ORDER BY h.hash, e.edge)
    FROM unnest(levels) AS l (level), LATERAL (SELECT hashtextextended(l.level COLLATE "C", 0)::float8) AS h (hash),
         LATERAL (VALUES (h.hash), (h.hash + greatest(1, abs(h.hash) * power(2, -52)))) AS e (edge)
$$;

COMMENT ON FUNCTION federated._level_edges(text[]) IS 'Between which floats the hashes of levels lie, ascending: two for each level';

CREATE FUNCTION federated._level_numbers(levels text[], numbers double precision[], other double precision) RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT format('[0:%s]=%s', 2 * cardinality(levels), other || array_agg(e.number ORDER BY l.hash, e.place))::float8[]
    FROM (SELECT hashtextextended(u.level COLLATE "C", 0)::float8, u.number FROM unnest(levels, numbers) AS u (level, number)) AS l (hash, number),
         LATERAL (VALUES (1, l.number), (2, other)) AS e (place, number)
$$;

COMMENT ON FUNCTION federated._level_numbers(text[], double precision[], double precision) IS
    'What stands between the edges of levels, from place 0 on: in turn the number of every other text and a level''s';

-- One look into an array, whatever the number of levels. Should a server not make the hashes that are written here (another
-- byte order, a dump in a database of another encoding), a condition that is constant tells the planner, which has the arrays
-- made anew. The value stands in it once, so that inlining evaluates no argument twice. Two levels of one hash are found by their
-- text: whoever makes one up that has another's hash would have that one predicted as his own.
CREATE FUNCTION federated._render_lookup(
    value text, levels text[], numbers double precision[], nothing double precision, other double precision
) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT CASE
    WHEN cardinality(levels) > (SELECT count(DISTINCT hashtextextended(l.level COLLATE "C", 0)::float8) FROM unnest(levels) AS l (level)) THEN format(
        'CASE WHEN %1$s IS NULL THEN %2$L::pg_catalog.float8 %3$s ELSE %4$L::pg_catalog.float8 END', value, nothing,
        (SELECT string_agg(format('WHEN (%s) COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) %L THEN %L::pg_catalog.float8', value, l.level, l.number), ' ')
         FROM unnest(levels, numbers) AS l (level, number)), other)
    WHEN cardinality(levels) > 0 THEN format(
        'coalesce((CASE WHEN %1$s THEN %2$L::pg_catalog.float8[] ELSE federated._level_numbers(%3$L, %4$L, %5$L) END)'
        '[pg_catalog.width_bucket(pg_catalog.hashtextextended((%6$s) COLLATE pg_catalog."C", 0::pg_catalog.int8)::pg_catalog.float8,'
        ' CASE WHEN %1$s THEN %7$L::pg_catalog.float8[] ELSE federated._level_edges(%3$L) END)], %8$L::pg_catalog.float8)',
        format('pg_catalog.hashtextextended(%L COLLATE pg_catalog."C", 0::pg_catalog.int8) OPERATOR(pg_catalog.=) %L::pg_catalog.int8',
               array_to_string(levels, ''), hashtextextended(array_to_string(levels, '') COLLATE "C", 0)),
        federated._level_numbers(levels, numbers, other), levels, numbers, other, value, federated._level_edges(levels), nothing)
    WHEN nothing = other THEN format('%L::pg_catalog.float8', other)
    ELSE format('CASE WHEN %s IS NULL THEN %L::pg_catalog.float8 ELSE %L::pg_catalog.float8 END', value, nothing, other) END
$$;

COMMENT ON FUNCTION federated._render_lookup(text, text[], double precision[], double precision, double precision) IS
    'The number of each level, of NULL and of every other text, as an expression over a text';

-- Predictions as SQL expressions over parameters named as the features: numbers and names, never text that would be code.

-- PostgreSQL raises an error where a product of floats is too small or too large to be one. What is taken from a feature is
-- therefore never 0: a nudge of no consequence to the prediction (1e-290 in it), from which even the smallest value differs by
-- more than would vanish when it is multiplied.
CREATE FUNCTION federated._nudged(shift double precision, slope double precision, scale double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nudge double precision := 0;
BEGIN
    IF slope <> 0 AND scale <> 0 AND abs(slope) < 1e10 AND least(abs(slope), abs(scale)) < 1 THEN
        nudge := 1e-290 / abs(slope) / greatest(least(1, abs(scale)), 1e-100);
    END IF;
    RETURN CASE WHEN abs(shift) >= nudge THEN shift ELSE nudge END;
END
$$;

COMMENT ON FUNCTION federated._nudged(double precision, double precision, double precision) IS
    'What to take from a feature instead of shift, so that neither its product with slope nor that with scale can vanish';

-- A parameter's value as a number, NULL where it is missing. A time's parameter has no zone: what has one is in UTC.
CREATE FUNCTION federated._describe_number(feature text, kind text, form text, element integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(CASE form WHEN 'log1p' THEN 'ln(nullif(greatest(1::float8 + %s, 0::float8), 0::float8))' ELSE '%s' END, format(
        CASE WHEN kind = 'boolean' THEN '%I::integer::float8' WHEN kind = 'array' THEN '%I[%s]'
             WHEN kind IN ('time', 'interval') THEN '(date_part(''epoch'', %I) / 86400::float8)' ELSE '%I' END, feature, element))
$$;

COMMENT ON FUNCTION federated._describe_number(text, text, text, integer) IS
    'What is made of a parameter, or of an element of one, as an expression: a number, NULL where it is missing';

CREATE FUNCTION federated._times(one double precision, other double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN one = 0 OR other = 0 OR log(abs(one)) + log(abs(other)) < -300 THEN 0
                WHEN log(abs(one)) + log(abs(other)) > 290 THEN sign(one) * sign(other) * 1e290
                ELSE one * other END
$$;

COMMENT ON FUNCTION federated._times(double precision, double precision) IS
    'A product that is 0 where it would vanish, and no larger than 1e290: PostgreSQL raises an error for both';

-- slope * (value - shift), summed over a column's inputs where each has the value that is given here.
CREATE FUNCTION federated._weigh(slopes double precision[], shifts double precision[], given double precision[])
RETURNS double precision
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(federated._times(w.slope, w.given - w.shift)), 0)
    FROM unnest(slopes, shifts, given) AS w (slope, shift, given)
$$;

COMMENT ON FUNCTION federated._weigh(double precision[], double precision[], double precision[]) IS
    'What inputs of these values add to a score';

-- Each parameter is referenced once wherever it can be, so that inlining evaluates no argument twice. What a column adds is
-- known for each level and each bin when the function is made: one look into an array.
CREATE FUNCTION federated._render_term(
    feature text, kind text, form text, spec jsonb,
    slopes double precision[], fills double precision[], shifts double precision[], target_scale double precision
) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    flagged boolean := coalesce((spec ->> 'missing_indicator')::boolean, false);
    width   integer := cardinality(slopes) - flagged::integer;
    -- What the column adds where it is missing; and what its indicator does where it is not.
    absent  double precision := federated._weigh(slopes, shifts, fills[1:width] || CASE WHEN flagged THEN ARRAY[1::float8] ELSE '{}' END);
    present double precision := CASE WHEN flagged THEN federated._times(slopes[width + 1], -shifts[width + 1]) ELSE 0 END;
    shift   double precision;
    term    text := '';
    value   text;
BEGIN
    IF form = 'indicators' THEN
        RETURN federated._render_levels(feature, spec, slopes[1:width], shifts[1:width], absent, present);
    ELSIF form = 'bins' THEN
        RETURN (
            SELECT format(' + coalesce((%L::float8[])[1 + width_bucket(-nullif(%s, ''NaN''::float8), %L::float8[])], %L::float8)',
                array_agg(present + federated._weigh(slopes[1:width], shifts[1:width],
                    ARRAY(SELECT CASE WHEN i <= below THEN 1 ELSE 0 END::float8 FROM generate_series(1, width) AS i ORDER BY i))
                    ORDER BY below DESC),
                federated._describe_number(feature, kind, 'value', NULL),
                ARRAY(SELECT -e.edge FROM unnest(federated._json_numbers(spec -> 'edges')) WITH ORDINALITY AS e (edge, place)
                      ORDER BY e.place DESC), absent)
            FROM generate_series(0, width) AS below);
    END IF;
    FOR place IN 1..width LOOP
        value := federated._describe_number(feature, kind, form, place);
        shift := CASE WHEN kind = 'boolean' THEN shifts[place]
                      ELSE federated._nudged(shifts[place], slopes[place], target_scale) END;
        IF flagged AND kind <> 'array' THEN
            RETURN format(' + coalesce(%L::float8 * (%s - %L::float8) + %L::float8, %L::float8)',
                          slopes[place], value, shift, present, absent);
        END IF;
        term := term || format(CASE WHEN shift = 0 THEN ' + %1$L::float8 * coalesce(%2$s, %3$L::float8)'
                                    ELSE ' + %1$L::float8 * (coalesce(%2$s, %3$L::float8) - %4$L::float8)' END,
                               slopes[place], value, fills[place], shift);
    END LOOP;
    IF flagged THEN
        term := term || format(' + CASE WHEN num_nonnulls(%s) = 0 THEN %L::float8 ELSE %L::float8 END', (
            SELECT string_agg(federated._describe_number(feature, kind, form, place), ', ' ORDER BY place)
            FROM generate_series(1, width) AS place),
            federated._times(slopes[width + 1], 1 - shifts[width + 1]), present);
    END IF;
    RETURN term;
END
$$;

COMMENT ON FUNCTION federated._render_term(
    text, text, text, jsonb, double precision[], double precision[], double precision[], double precision
) IS 'What a feature adds to a linear score, as an expression';

CREATE FUNCTION federated._render_levels(
    feature text, spec jsonb, slopes double precision[], shifts double precision[], absent double precision,
    present double precision
) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    named   integer := jsonb_array_length(coalesce(spec -> 'levels', '[]'));
    has     boolean[] := ARRAY[coalesce((spec ->> 'null_level')::boolean, false), coalesce((spec ->> 'other_level')::boolean, false)];
    -- Of each level, that of index 0 first: of which no input is 1.
    weights double precision[] := ARRAY(
        SELECT present + federated._weigh(slopes, shifts,
            ARRAY(SELECT CASE WHEN i = level THEN 1 ELSE 0 END::float8 FROM generate_series(1, cardinality(slopes)) AS i ORDER BY i))
        FROM generate_series(0, cardinality(slopes)) AS level ORDER BY level);
    other   double precision := CASE WHEN has[2] THEN weights[cardinality(weights)] ELSE absent END;
    nothing double precision := CASE WHEN has[1] THEN weights[named + 1] ELSE absent END;
    levels  text[] := ARRAY(
        SELECT l.level FROM jsonb_array_elements_text(coalesce(spec -> 'levels', '[]')) WITH ORDINALITY AS l (level, place) ORDER BY l.place);
BEGIN
    RETURN ' + ' || federated._render_lookup(quote_ident(feature), levels, weights[1:named], nothing, other);
END
$$;

COMMENT ON FUNCTION federated._render_levels(text, jsonb, double precision[], double precision[], double precision, double precision) IS
    'What a category adds to a linear score, as an expression';

-- Checks what is said of a linear score's parts, all in one place, for every kind that is made of them.
CREATE FUNCTION federated._check_linear(
    inputs bigint, intercept double precision, slopes double precision[], fills double precision[], shifts double precision[],
    others double precision[]
) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(slopes, fills, shifts) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a prediction has no NULL in it';
    ELSIF inputs <> ANY (ARRAY[cardinality(slopes), cardinality(fills), cardinality(shifts)]) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = 'a prediction has one slope, fill and shift for each input';
    ELSIF EXISTS (SELECT FROM unnest(slopes || fills || shifts || intercept || others) AS number
                  WHERE number IS NULL OR number IN ('NaN', 'Infinity', '-Infinity')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a prediction consists of finite numbers only';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_linear(
    bigint, double precision, double precision[], double precision[], double precision[], double precision[]
) IS 'Raises an error where numbers are missing, too many or not finite';

-- A feature may be as large as 1e290, and its slope as small: a score that is clamped afterwards is computed divided by this
-- power of two, so that it is always a float. What keeps fewer than nine digits when it is divided is 0.
CREATE FUNCTION federated._score_divisor(slopes double precision[], bounded boolean[]) RETURNS double precision
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT power(2, ceil(log(greatest(1, (cardinality(slopes) + 1) * (
        SELECT max(least(abs(slope), 1e30)) FILTER (WHERE NOT flag) / 2
        FROM unnest(slopes, bounded) AS t (slope, flag)))) / log(2::float8)))
$$;

COMMENT ON FUNCTION federated._score_divisor(double precision[], boolean[]) IS
    'The power of two by which a score is divided so that no feature makes it larger than a float';

CREATE FUNCTION federated._divide(numbers double precision[], divisor double precision, least_kept double precision)
RETURNS double precision[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT CASE WHEN abs(number) < least_kept THEN 0 ELSE number / divisor END
                 FROM unnest(numbers) WITH ORDINALITY AS t (number, place) ORDER BY place)
$$;

COMMENT ON FUNCTION federated._divide(double precision[], double precision, double precision) IS
    'Numbers divided; those below the least that is kept are 0';

CREATE FUNCTION federated._render_score(
    features text[], booleans boolean[], prediction jsonb,
    intercept double precision, slopes double precision[], fills double precision[], shifts double precision[],
    target_scale double precision
) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT format('%L::float8', intercept) || coalesce(string_agg(federated._render_term(
        c.feature, c.kind, c.form, c.spec, slopes[c.first_input:c.first_input + c.inputs - 1],
        fills[c.first_input:c.first_input + c.inputs - 1], shifts[c.first_input:c.first_input + c.inputs - 1],
        target_scale), '' ORDER BY c.place), '')
    FROM federated._columns(features, booleans, prediction) AS c
$$;

COMMENT ON FUNCTION federated._render_score(
    text[], boolean[], jsonb, double precision, double precision[], double precision[], double precision[], double precision
) IS 'A linear score as an expression: intercept, and what each feature adds';

-- extra_float_digits 1: a float8 is written with the digits that read back to the same bits. The logistic of a score is
-- 1/2 + 1/2 tanh(score / 2), since exp fails for large arguments of either sign; what is divided is multiplied once it is
-- clamped (greatest, and not least, which would make a number of NaN).
CREATE FUNCTION federated._render_linear(features text[], booleans boolean[], prediction jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    intercept    double precision := prediction ->> 'intercept';
    slopes       double precision[] := federated._json_numbers(prediction -> 'slopes');
    fills        double precision[] := federated._json_numbers(prediction -> 'fills');
    shifts       double precision[] := federated._json_numbers(prediction -> 'shifts');
    link         text := prediction ->> 'link';
    target_mean  double precision := prediction ->> 'target_mean';
    target_scale double precision := prediction ->> 'target_scale';
    bounded      boolean[] := federated._bounded_inputs(features, booleans, prediction);
    divisor      double precision := 1;
    is_nudged    boolean;
BEGIN
    IF link IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a prediction has no NULL in it';
    ELSIF link NOT IN ('identity', 'logistic', 'exp') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the link is identity, logistic or exp';
    END IF;
    PERFORM federated._check_linear(cardinality(bounded), intercept, slopes, fills, shifts, ARRAY[target_mean, target_scale]);
    IF link <> 'identity' THEN
        target_scale := 1;
        divisor := CASE link WHEN 'logistic' THEN 2 ELSE 1 END * federated._score_divisor(slopes, bounded);
        intercept := CASE WHEN abs(intercept) < 1e-260 THEN 0 ELSE intercept / divisor END;
        slopes := federated._divide(slopes, divisor, 1e-314 * divisor);
    END IF;
    is_nudged := EXISTS (SELECT FROM unnest(slopes, shifts, bounded) AS t (slope, shift, flag)
                         WHERE NOT flag AND federated._nudged(shift, slope, target_scale) <> shift);
    RETURN format(
        -- Where nothing else is added, what nudges leave of 0 is: it vanishes beside 1e-270.
        CASE WHEN link = 'identity' AND target_mean = 0 AND is_nudged
             THEN '%3$L::float8 * (%1$s) + %7$L::float8 - %7$L::float8'
             WHEN link = 'identity' THEN '%2$L::float8 + %3$L::float8 * (%1$s)'
             WHEN link = 'exp' THEN 'exp(%8$L::float8 * greatest(-greatest(-(%1$s), %9$L::float8), %9$L::float8))'
             WHEN divisor = 2 THEN '%4$L::float8 + %4$L::float8 * tanh(%1$s)'
             ELSE '%4$L::float8 + %4$L::float8 * tanh(%5$L::float8'
                  ' * greatest(-greatest(-(%1$s), %6$L::float8), %6$L::float8))' END,
        federated._render_score(features, booleans, prediction, intercept, slopes, fills, shifts, target_scale),
        target_mean, target_scale, 0.5::float8, divisor / 2, -800 / divisor, 1e-270::float8, divisor, -700 / divisor);
END
$$;

COMMENT ON FUNCTION federated._render_linear(text[], boolean[], jsonb) IS
    'A prediction that is linear up to its link, as an expression: intercept, target_mean and target_scale, link (identity, logistic or exp), and for each input one of slopes, fills and shifts';

CREATE FUNCTION federated._softmax(scores double precision[], divisor double precision) RETURNS double precision[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    best  double precision := '-Infinity';
    total double precision := 0;
    score double precision;
BEGIN
    FOREACH score IN ARRAY scores LOOP
        best := greatest(best, score);
    END LOOP;
    FOR place IN 1..cardinality(scores) LOOP
        -- A score of NaN, or all of them infinite: nothing is known.
        scores[place] := CASE WHEN scores[place] = best THEN CASE WHEN best = 'NaN' THEN best ELSE 1 END
                              ELSE exp(divisor * greatest(scores[place] - best, -700 / divisor)) END;
        total := total + scores[place];
    END LOOP;
    FOR place IN 1..cardinality(scores) LOOP
        scores[place] := scores[place] / total;
    END LOOP;
    RETURN scores;
END
$$;

COMMENT ON FUNCTION federated._softmax(double precision[], double precision) IS
    'The probabilities of classes from their scores, each of which was divided by the divisor';

-- One intercept and one list of slopes for each class; fills and shifts are the inputs'.
CREATE FUNCTION federated._render_softmax_linear(features text[], booleans boolean[], prediction jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    intercepts double precision[] := federated._json_numbers(prediction -> 'intercepts');
    fills      double precision[] := federated._json_numbers(prediction -> 'fills');
    shifts     double precision[] := federated._json_numbers(prediction -> 'shifts');
    bounded    boolean[] := federated._bounded_inputs(features, booleans, prediction);
    divisor    double precision;
    slopes     double precision[];
    scores     text[] := '{}';
BEGIN
    IF jsonb_typeof(prediction -> 'slopes') IS DISTINCT FROM 'array' OR intercepts IS NULL
       OR jsonb_array_length(prediction -> 'slopes') <> cardinality(intercepts) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = 'a prediction of classes has an intercept and slopes for each class';
    END IF;
    FOR class IN 1..cardinality(intercepts) LOOP
        slopes := federated._json_numbers(prediction -> 'slopes' -> (class - 1));
        PERFORM federated._check_linear(cardinality(bounded), intercepts[class], slopes, fills, shifts, '{}');
        divisor := greatest(divisor, federated._score_divisor(slopes, bounded));
    END LOOP;
    FOR class IN 1..cardinality(intercepts) LOOP
        slopes := federated._divide(federated._json_numbers(prediction -> 'slopes' -> (class - 1)), divisor, 1e-314 * divisor);
        scores := scores || federated._render_score(
            features, booleans, prediction, (federated._divide(ARRAY[intercepts[class]], divisor, 1e-260))[1], slopes, fills,
            shifts, 1);
    END LOOP;
    RETURN format('federated._softmax(ARRAY[%s], %L::float8)', array_to_string(scores, ', '), divisor);
END
$$;

COMMENT ON FUNCTION federated._render_softmax_linear(text[], boolean[], jsonb) IS
    'The probabilities of several classes, each with a linear score, as an expression: intercepts, and slopes by class';

CREATE FUNCTION federated._find_renderer(kind text) RETURNS regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid FROM pg_proc AS p
    WHERE kind ~ '^[a-z_]{1,40}$'
      AND p.oid = to_regprocedure(format('federated._render_%s(text[], boolean[], jsonb)', kind))
      AND p.prorettype = 'text'::regtype AND NOT p.proretset
      AND p.proowner = (SELECT own.proowner FROM pg_proc AS own
                        WHERE own.oid = 'federated._render_linear(text[],boolean[],jsonb)'::regprocedure)
$$;

COMMENT ON FUNCTION federated._find_renderer(text) IS
    'The function of the extension''s own that makes an expression of predictions of a kind; NULL where none does';

-- The kind comes from a run's algorithm and names a function: only one that is the extension's own, and makes an expression
-- of numbers and of the features' names alone, whatever it is given. Of each kind, link logistic says that the prediction
-- is a probability.
CREATE FUNCTION federated._render(features text[], booleans boolean[], prediction jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind     text := coalesce(prediction ->> 'kind', 'linear');
    renderer regprocedure;
    rendered text;
BEGIN
    renderer := federated._find_renderer(kind);
    IF renderer IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('there are no predictions of kind %s', quote_literal(kind));
    END IF;
    EXECUTE format('SELECT federated.%I($1, $2, $3)', '_render_' || kind) INTO rendered USING features, booleans, prediction;
    IF rendered IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a prediction has no NULL in it';
    END IF;
    RETURN rendered;
END
$$;

COMMENT ON FUNCTION federated._render(text[], boolean[], jsonb) IS
    'A prediction as an expression over parameters named as the features: what federated._render_<kind> makes of it';

-- What is computed by numpy: predictions that are no expression. A row is handed over as slots, one number for each value
-- (src/heliosdb/scoring/rows.py), in the bytes that the server itself keeps of the array: PL/Python takes them in whole.

-- array_send would write them number by number, which takes longer than most of what is done with them.
CREATE FUNCTION federated._bytes(slots double precision[]) RETURNS bytea
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'byteasend';

COMMENT ON FUNCTION federated._bytes(double precision[]) IS
    'The bytes of an array as they lie in memory: of none that is stored, for they are this machine''s';

CREATE FUNCTION federated._elements(elements double precision[], count integer) RETURNS double precision[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF array_ndims(elements) = 1 AND array_lower(elements, 1) = 1 AND cardinality(elements) = count
       AND array_position(elements, NULL) IS NULL THEN
        RETURN elements;
    ELSIF array_ndims(elements) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of an array feature must be an array of one dimension, not of %s', array_ndims(elements)),
            HINT = 'Of series each channel is a feature of its own.';
    END IF;
    elements := elements[:];
    RETURN ARRAY(SELECT coalesce(elements[place], 'NaN') FROM generate_series(1, count) AS place ORDER BY place);
END
$$;

COMMENT ON FUNCTION federated._elements(double precision[], integer) IS
    'An array''s elements, as many as there should be: what is missing is NaN, and what is too much is left out; error 22023 for several dimensions';

-- As at the nodes (src/heliosdb/scoring/words.py): an expression hands over no more of the text than is read.
CREATE FUNCTION federated._hash_text(value text, size integer) RETURNS double precision[]
LANGUAGE plpython3u IMMUTABLE PARALLEL SAFE COST 1000 AS $$
try:
    numbers_of = SD["numbers_of"]
except KeyError:
    import sys
    if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
    from heliosdb.extension import door
    if not hasattr(door, "serves"):
        plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
    numbers_of = SD["numbers_of"] = door.scoring(plpy, "1.2", "numbers_of", "words")
return numbers_of(value, size)
$$;

COMMENT ON FUNCTION federated._hash_text(text, integer) IS
    'The words of a text, hashed into so many numbers whose squares sum to 1; of NULL, and of a text without words, zeros';

CREATE FUNCTION federated._pixels(elements double precision[], count integer, feature text) RETURNS double precision[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF elements IS NOT NULL AND (cardinality(elements) <> count OR array_ndims(elements) <> 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('feature "%s" is an image of %s %s, not %s', feature, count, CASE count WHEN 1 THEN 'number' ELSE 'numbers' END,
                             CASE WHEN array_ndims(elements) > 1 THEN format('an array of %s dimensions', array_ndims(elements))
                                  ELSE cardinality(elements)::text END),
            HINT = 'It is one array, channel by channel and line by line, of the size that the model was trained on.';
    END IF;
    RETURN federated._elements(elements, count);
END
$$;

COMMENT ON FUNCTION federated._pixels(double precision[], integer, text) IS
    'The numbers of an image that is an array, NaN where there is none; error 22023 for an array of another length';

-- Decoded by what decodes images at the nodes. They are foreign bytes: their caller's own, and of bounded size.
CREATE FUNCTION federated._image(image bytea, feature text, shape integer[]) RETURNS double precision[]
LANGUAGE plpython3u STABLE PARALLEL SAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "image_slots", "images")(image, feature, shape)
$$;

COMMENT ON FUNCTION federated._image(bytea, text, integer[]) IS
    'The numbers of an image that is a file, NaN where there is none; error 22023 for what is none of that shape, 0A000 where Pillow or pydicom is not installed';

-- value: an expression of the parameter's type. A level is its index. Every name is qualified: it may stand in a body that
-- has the caller's search_path.
CREATE FUNCTION federated._render_slot(value text, kind text, spec jsonb, slots integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE kind
        WHEN 'array' THEN CASE WHEN spec ? 'shape' THEN format('federated._pixels(%s, %s, %L)', value, slots, spec ->> 'column')
                               ELSE format('federated._elements(%s, %s)', value, slots) END
        WHEN 'image' THEN format('federated._image(%s, %L, %L)', value, spec ->> 'column', translate(spec ->> 'shape', '[]', '{}'))
        WHEN 'text' THEN format('federated._hash_text(pg_catalog.left(%s, 65536), %s)', value, slots)
        WHEN 'boolean' THEN format('coalesce((%s)::pg_catalog.int4::pg_catalog.float8, ''NaN''::pg_catalog.float8)', value)
        WHEN 'number' THEN format('coalesce(%s, ''NaN''::pg_catalog.float8)', value)
        WHEN 'category' THEN (
            SELECT federated._render_lookup(value, coalesce(array_agg(l.level ORDER BY l.place), '{}'),
                array_agg((l.place - 1)::float8 ORDER BY l.place),
                CASE WHEN (spec ->> 'null_level')::boolean THEN count(*) ELSE 'NaN'::float8 END,
                CASE WHEN (spec ->> 'other_level')::boolean THEN count(*) + (spec ->> 'null_level')::boolean::integer ELSE 'NaN'::float8 END)
            FROM jsonb_array_elements_text(coalesce(spec -> 'levels', '[]')) WITH ORDINALITY AS l (level, place))
        ELSE format('coalesce(pg_catalog.date_part(''epoch'', %s) OPERATOR(pg_catalog./) 86400::pg_catalog.float8, ''NaN''::pg_catalog.float8)', value) END
$$;

COMMENT ON FUNCTION federated._render_slot(text, text, jsonb, integer) IS
    'What a row is handed over as for one feature, as an expression: a number, or an array of numbers';

CREATE FUNCTION federated._render_slots(features text[], booleans boolean[], prediction jsonb, given text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    feature  record;
    numbers  text[] := '{}';
    parts    text[] := '{}';
BEGIN
    FOR feature IN
        SELECT c.kind, federated._render_slot(given[c.place], c.kind, c.spec, c.slots) AS slot
        FROM federated._columns(features, booleans, prediction) AS c ORDER BY c.place
    LOOP
        IF feature.kind NOT IN ('array', 'image', 'text') THEN
            numbers := numbers || feature.slot;
            CONTINUE;
        END IF;
        parts := parts || CASE WHEN cardinality(numbers) > 0
            THEN ARRAY[format('ARRAY[%s]', array_to_string(numbers, ', ')), feature.slot] ELSE ARRAY[feature.slot] END;
        numbers := '{}';
    END LOOP;
    IF cardinality(numbers) > 0 THEN
        parts := parts || format('ARRAY[%s]', array_to_string(numbers, ', '));
    END IF;
    RETURN array_to_string(parts, ' OPERATOR(pg_catalog.||) ');
END
$$;

COMMENT ON FUNCTION federated._render_slots(text[], boolean[], jsonb, text[]) IS
    'A row''s slots as an expression of an array; given: of each feature an expression of its parameter''s type';

-- By place, and every name qualified: it stands in PL/pgSQL, where FOUND and others are names too, and has the caller's
-- search_path.
CREATE FUNCTION federated._render_call(features text[], booleans boolean[], prediction jsonb, run_id uuid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('coalesce(federated.%1$I(%3$L, federated._bytes(%4$s)), federated.%2$I(%3$L, federated._bytes(%4$s)))',
        CASE WHEN federated._has_many_classes(prediction) THEN '_score_classes' ELSE '_score' END,
        CASE WHEN federated._has_many_classes(prediction) THEN '_score_classes_first' ELSE '_score_first' END, run_id,
        CASE WHEN count(*) > 99 THEN format('federated._elements($1, %s)', sum(c.slots))
             ELSE federated._render_slots(features, booleans, prediction, array_agg('$' || c.place ORDER BY c.place)) END)
    FROM federated._columns(features, booleans, prediction) AS c
$$;

COMMENT ON FUNCTION federated._render_call(text[], boolean[], jsonb, uuid) IS
    'A prediction that numpy computes, as an expression over the parameters by their places';

-- NULL where this session has not read the version yet: what calls it reads it then (a parallel worker can, PL/Python's own
-- queries cannot there).
CREATE FUNCTION federated._score(run_id text, slots bytea) RETURNS double precision
LANGUAGE plpython3u STABLE PARALLEL SAFE COST 1000 AS $$
try:
    score = SD["score"]
except KeyError:
    import sys
    if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
    from heliosdb.extension import door
    if not hasattr(door, "serves"):
        plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
    score = SD["score"] = door.scoring(plpy, "1.2", "score_row")
return score(run_id, slots)
$$;

COMMENT ON FUNCTION federated._score(text, bytea) IS
    'What the version of a key predicts for one row, a number; NULL where the session has not read it';

CREATE FUNCTION federated._score_classes(run_id text, slots bytea) RETURNS double precision[]
LANGUAGE plpython3u STABLE PARALLEL SAFE COST 1000 AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "score_row_classes")(run_id, slots)
$$;

COMMENT ON FUNCTION federated._score_classes(text, bytea) IS
    'What the version of a key predicts for one row, the probabilities of its classes; NULL where the session has not read it';

CREATE FUNCTION federated._score_rows(run_id text, slots bytea) RETURNS double precision[]
LANGUAGE plpython3u STABLE PARALLEL SAFE COST 1000 AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "score_rows")(run_id, slots)
$$;

COMMENT ON FUNCTION federated._score_rows(text, bytea) IS
    'What the version of a key predicts for many rows, an array of two dimensions; NULL where the session has not read it';

-- This and what calls it never run in a worker of a query of their own: what is kept is kept by the process that asks.
CREATE FUNCTION federated._keep_version(run_id text, prediction text, arrays bytea, encoding text) RETURNS void
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
door.keeping(plpy, "1.2")(run_id, prediction, arrays, encoding)
$$;

COMMENT ON FUNCTION federated._keep_version(text, text, bytea, text) IS
    'Has the session keep what numpy needs of a version: its prediction and encoding as JSON, and its arrays; of a sealed one these are opened with the server''s key, which is in no table';

-- What the coordinator seals to; its file is made when it is first asked for.
CREATE FUNCTION federated._prediction_key() RETURNS bytea
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.prediction_key(plpy, "1.2")
$$;

COMMENT ON FUNCTION federated._prediction_key() IS
    'The public key to which versions with prediction = sealed are sealed; the private one is in no database';

-- One error for all that would hand numbers out.
CREATE FUNCTION federated._refuse_sealed(model_name text, version integer, deed text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('version %s of federated model "%s" is sealed: %s', version, model_name, deed),
        DETAIL = 'Its numbers are opened in this database''s server alone, to predict with them (prediction = ''sealed'').',
        HINT = format('A version that may leave comes of a run after ALTER FEDERATED MODEL %s SET (prediction = ''inline'').', quote_ident(model_name));
END
$$;

COMMENT ON FUNCTION federated._refuse_sealed(text, integer, text) IS 'Raises 55000 for what a sealed version does not do';

CREATE FUNCTION federated._encoding_text(features text[], booleans boolean[], prediction jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(prediction -> 'encoding', (
        SELECT jsonb_build_object('classes', '[]'::jsonb, 'columns', jsonb_agg(
                   c.spec || jsonb_build_object('column', c.feature, 'levels', '[]'::jsonb, 'edges', '[]'::jsonb) ORDER BY c.place))
        FROM federated._columns(features, booleans, '{}') AS c))::text
$$;

COMMENT ON FUNCTION federated._encoding_text(text[], boolean[], jsonb) IS
    'How the columns of a version become inputs, as JSON: also where each is one';

-- What a session keeps of a version outlives its retirement: who scores rows of it asks first.
CREATE FUNCTION federated._check_predicts(key uuid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT v.model_name, v.version, v.is_retired, v.is_withheld INTO subject
    FROM federated.held_version AS v WHERE v.numbers_id = key;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the version that this function computes is no longer there';
    ELSIF subject.is_retired OR subject.is_withheld THEN
        PERFORM federated._refuse_withdrawn(subject.model_name, subject.version, subject.is_retired);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_predicts(uuid) IS
    'Raises 55000 where the version of a key is not there, was retired or is withheld';

CREATE FUNCTION federated._read_scored(key uuid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    PERFORM federated._check_predicts(key);
    SELECT v.prediction, v.prediction_arrays, v.features INTO subject
    FROM federated.held_version AS v WHERE v.numbers_id = key;
    PERFORM federated._keep_version(key::text, (subject.prediction - '{encoding,booleans}'::text[])::text, subject.prediction_arrays,
        federated._encoding_text(subject.features, federated._flags(subject.prediction), subject.prediction));
END
$$;

COMMENT ON FUNCTION federated._read_scored(uuid) IS 'Has the session keep the version of a key';

CREATE FUNCTION federated._score_first(run_id text, slots bytea) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._read_scored(run_id::uuid);
    RETURN federated._score(run_id, slots);
END
$$;

COMMENT ON FUNCTION federated._score_first(text, bytea) IS 'The same as _score, once the session has read the version';

CREATE FUNCTION federated._score_classes_first(run_id text, slots bytea) RETURNS double precision[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._read_scored(run_id::uuid);
    RETURN federated._score_classes(run_id, slots);
END
$$;

COMMENT ON FUNCTION federated._score_classes_first(text, bytea) IS
    'The same as _score_classes, once the session has read the version';

-- Runs as federated_owner, as the functions of models do that numpy computes: for batches.
CREATE FUNCTION federated._score_block(run_id text, slots bytea) RETURNS double precision[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scores double precision[];
BEGIN
    PERFORM federated._check_predicts(run_id::uuid);
    scores := federated._score_rows(run_id, slots);
    IF scores IS NULL THEN
        PERFORM federated._read_scored(run_id::uuid);
        scores := federated._score_rows(run_id, slots);
    END IF;
    RETURN scores;
END
$$;

COMMENT ON FUNCTION federated._score_block(text, bytea) IS
    'What the version of a key predicts for many rows, each as slots; a number for each, or the probabilities of its classes; 55000 where it was retired or is withheld';

-- A model is a function federated_model.<name> from its creation on: before the first version it says so.
CREATE OR REPLACE FUNCTION federated._describe_arguments(features jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN count(*) > 99 THEN 'slots double precision[] DEFAULT NULL'
                ELSE coalesce(string_agg(format('%I double precision DEFAULT NULL', feature), ', ' ORDER BY place), '') END
    FROM jsonb_array_elements_text(coalesce(features, '[]'::jsonb)) WITH ORDINALITY AS f (feature, place)
$$;

COMMENT ON FUNCTION federated._describe_arguments(jsonb) IS 'The argument list of a model''s function: each feature by name, missing means NULL; of more than a function may have, one array';

CREATE OR REPLACE FUNCTION federated._drop_model_function(model_name text, drop_behavior text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    FOR model_function IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace) AND p.proname = model_name
    LOOP
        EXECUTE format('DROP FUNCTION %s %s', model_function,
                       CASE drop_behavior WHEN 'cascade' THEN 'CASCADE' ELSE 'RESTRICT' END);
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._drop_model_function(text, text) IS 'Drops a model''s function in all its forms; without cascade, dependents refuse';

CREATE OR REPLACE FUNCTION federated._predict_untrained(model text) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Whoever may call this function alone learns no more.
    IF has_schema_privilege('federated', 'USAGE') AND has_column_privilege('federated.version', 'version', 'SELECT')
       AND has_column_privilege('federated.version', 'retired_at', 'SELECT') THEN
        IF EXISTS (SELECT FROM federated.version AS v JOIN federated.model AS m USING (model_id) WHERE m.name = model)
           AND NOT EXISTS (SELECT FROM federated.version AS v JOIN federated.model AS m USING (model_id)
                           WHERE m.name = model AND v.retired_at IS NULL) THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('federated model "%s" has no current version', model),
                DETAIL = 'All its versions were retired: data subjects were erased that they had learned from.',
                HINT = format('START FEDERATED TRAINING %s makes a version without them.', quote_ident(model));
        ELSIF EXISTS (SELECT FROM federated.version AS v JOIN federated.model AS m USING (model_id) WHERE m.name = model) THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('federated model "%s" has no current version', model),
                DETAIL = 'Its runs left versions, none of which was promoted.',
                HINT = format('PROMOTE FEDERATED MODEL %s VERSION ...; SELECT version, tags FROM federated_model_versions(%L) shows all.',
                              quote_ident(model), model);
        END IF;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('federated model "%s" has no trained version', model),
        HINT = format('START FEDERATED TRAINING %s, then SELECT wait_for_convergence(%L).', quote_ident(model), model);
END
$$;

COMMENT ON FUNCTION federated._predict_untrained(text) IS 'What a model''s function does before a version is current: error 55000';

CREATE FUNCTION federated._predict_many_classes(model text) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('federated model "%s" predicts one of several classes, and no number', model),
        HINT = 'Use federated_predict_class or federated_predict_proba.';
END
$$;

COMMENT ON FUNCTION federated._predict_many_classes(text) IS
    'What a model''s function does whose prediction is of several classes: error 55000';

CREATE OR REPLACE FUNCTION federated._finish_model_function(model_name text, comment text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    FOR model_function IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace) AND p.proname = model_name
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', model_function);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO federated_analyst', model_function);
        EXECUTE format('COMMENT ON FUNCTION %s IS %L', model_function, comment);
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._finish_model_function(text, text) IS 'Gives a model''s function, in all its forms, its grants and its comment';

CREATE FUNCTION federated._write_untrained_row(model_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_row.%I(anyelement) RETURNS SETOF double precision LANGUAGE sql STABLE PARALLEL SAFE AS %L',
        model_name, format('SELECT federated._predict_untrained(%L)', model_name));
END
$$;

COMMENT ON FUNCTION federated._write_untrained_row(text) IS
    'Makes the form for a row of any type of a model that no run has finished yet';

CREATE OR REPLACE FUNCTION federated._write_untrained_function(model_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_model.%I(%s) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE'
        ' RETURN federated._predict_untrained(%L)',
        model_name, federated._describe_arguments(features), model_name);
    PERFORM federated._write_untrained_row(model_name);
    PERFORM federated._finish_model_function(
        model_name, format('Federated model %s, which has no trained version yet', model_name));
END
$$;

COMMENT ON FUNCTION federated._write_untrained_function(text, jsonb) IS
    'Makes, or remakes under a new name, the function of a model that no run has finished yet';

-- A model made before names were checked may have an @ in its own: its function is no version of another model.
CREATE OR REPLACE FUNCTION federated._list_functions(model_name text) RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.oid::regprocedure FROM pg_proc AS p
    WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace)
      AND (p.proname::text = model_name
           OR starts_with(p.proname::text, model_name || '@')
              AND NOT EXISTS (SELECT FROM federated.model AS m WHERE m.name = p.proname::text))
    ORDER BY p.proname
$$;

COMMENT ON FUNCTION federated._list_functions(text) IS 'The functions of a model in all their forms: its own, and one for each version and tag';

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
       AND NOT EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = NEW.model_id AND v.is_current) THEN
        PERFORM federated._drop_model_function(NEW.name, 'restrict');
        PERFORM federated._create_untrained_function(NEW.name, NEW.options -> 'features');
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_model_function() IS 'Keeps the functions of a model in step with its row: made, renamed and dropped with it';

CREATE OR REPLACE FUNCTION federated._model_id(model text) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint := (SELECT m.model_id FROM federated.model AS m WHERE m.name = model);
BEGIN
    IF model IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'the name of a federated model must not be null';
    ELSIF found_id IS NULL AND EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = model) THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('federated model "%s" is only subscribed to in this database', model),
            DETAIL = 'Its runs, versions and figures are kept where it is trained.',
            HINT = format('federated_subscriptions shows what is held here; federated_evaluate(%L, ''SELECT ...'') judges it on rows of this database.', model);
    ELSIF found_id IS NULL AND EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = model) THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('federated model "%s" was imported into this database', model),
            DETAIL = 'It predicts; its runs, versions and figures are kept where it was trained.',
            HINT = 'federated_model_imports shows it, with its card; federated_drop_imported_model drops it.';
    ELSIF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" does not exist', model);
    END IF;
    RETURN found_id;
END
$$;

COMMENT ON FUNCTION federated._model_id(text) IS 'The id of a model that is trained here, or error 42704; 42809 where it is subscribed to or was imported';

-- A version from before predictions were kept is known by its function's arguments alone.
CREATE FUNCTION federated._boolean_features(function_name text, prediction jsonb) RETURNS boolean[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN prediction ? 'booleans' THEN ARRAY(
        SELECT f.flag::boolean FROM jsonb_array_elements_text(prediction -> 'booleans') WITH ORDINALITY AS f (flag, place)
        ORDER BY f.place)
    ELSE (SELECT array_agg(a.type = 'boolean'::regtype ORDER BY a.place)
          FROM pg_proc AS p, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, place)
          WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = function_name) END
$$;

COMMENT ON FUNCTION federated._boolean_features(text, jsonb) IS 'Which features of a version are boolean, in their order';

CREATE OR REPLACE FUNCTION federated._find_function(
    reference text, OUT function_name text, OUT features text[], OUT booleans boolean[], OUT prediction jsonb
)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT f.* INTO found FROM federated._find_held(reference) AS f;
    function_name := found.function_name;
    features := found.features;
    prediction := found.prediction;
    booleans := federated._boolean_features(function_name, prediction);
    IF function_name <> found.model_name AND NOT EXISTS (
        SELECT FROM pg_proc AS p WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = function_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" has no function', found.version, found.model_name),
            DETAIL = CASE WHEN octet_length(function_name) > 63
                THEN format('"%s" is longer than the 63 bytes that a name may have.', function_name)
                ELSE 'It was made by a release that did not keep the numbers of a version.' END,
            HINT = 'A shorter tag names it, or a new run makes a version that has one.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._find_function(text) IS
    'The function in federated_model that a model, model@tag or model@number names, its features in order, and what is known of them';

CREATE FUNCTION federated._json_time(value jsonb) RETURNS timestamp
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    RETURN CASE jsonb_typeof(value) WHEN 'null' THEN NULL
        WHEN 'number' THEN '1970-01-01'::timestamp + (value #>> '{}')::double precision * '1 day'::interval
        ELSE (value #>> '{}')::timestamptz END;
END
$$;

COMMENT ON FUNCTION federated._json_time(jsonb) IS
    'A time given as JSON, in UTC: a date or time as text, in the zone that it names, or days since 1970-01-01';

CREATE FUNCTION federated._json_interval(value jsonb) RETURNS interval
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE jsonb_typeof(value) WHEN 'null' THEN NULL
        WHEN 'number' THEN (value #>> '{}')::double precision * '1 day'::interval
        ELSE (value #>> '{}')::interval END;
END
$$;

COMMENT ON FUNCTION federated._json_interval(jsonb) IS 'An interval given as JSON: as text, or as a number of days';

CREATE FUNCTION federated._json_array(value jsonb) RETURNS double precision[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'null' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(value) <> 'array' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of an array feature must be an array of numbers, not a JSON %s', jsonb_typeof(value));
    END IF;
    RETURN ARRAY(SELECT federated._json_number(e.element) FROM jsonb_array_elements(value) WITH ORDINALITY AS e (element, place)
                 ORDER BY e.place);
END
$$;

COMMENT ON FUNCTION federated._json_array(jsonb) IS 'An array feature''s value given as JSON';

CREATE FUNCTION federated._json_image(value jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) = 'null' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(value) <> 'string' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of an image feature must be the bytes of a file, not a JSON %s', jsonb_typeof(value)),
            HINT = 'In JSON they are text: in hexadecimal behind \x, or in base64.';
    END IF;
    RETURN CASE WHEN starts_with(value #>> '{}', '\x') THEN (value #>> '{}')::bytea ELSE decode(value #>> '{}', 'base64') END;
END
$$;

COMMENT ON FUNCTION federated._json_image(jsonb) IS 'An image feature''s value given as JSON: the bytes of a file, in hexadecimal behind \x or in base64';

-- Of each feature, an expression of its parameter's type over $1. Every name in it is qualified: it stands in bodies that
-- have no search_path of their own, which would be set at each call. What begins as a number does is one, in JSON as in a
-- string of it; all else, what is wrong too, takes the dearer way.
CREATE FUNCTION federated._given_by_json(features text[], booleans boolean[], prediction jsonb) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(format(CASE c.kind
        WHEN 'boolean' THEN 'CASE WHEN %1$s OPERATOR(pg_catalog.=) ''true'' THEN true'
            ' WHEN %1$s OPERATOR(pg_catalog.=) ''false'' THEN false ELSE federated._as_boolean(federated._json_number(%2$s)) END'
        WHEN 'number' THEN 'CASE WHEN pg_catalog.ascii(%1$s) OPERATOR(pg_catalog.<) 58 THEN (%1$s)::pg_catalog.float8'
            ' WHEN %1$s IS NOT NULL THEN federated._json_number(%2$s) END'
        WHEN 'category' THEN '%1$s' WHEN 'text' THEN '%1$s' WHEN 'time' THEN 'federated._json_time(%2$s)'
        WHEN 'interval' THEN 'federated._json_interval(%2$s)' WHEN 'image' THEN 'federated._json_image(%2$s)' ELSE 'federated._json_array(%2$s)' END,
        format('($1 OPERATOR(pg_catalog.->>) %L)', c.feature), format('($1 OPERATOR(pg_catalog.->) %L)', c.feature)) ORDER BY c.place)
    FROM federated._columns(features, booleans, prediction) AS c
$$;

COMMENT ON FUNCTION federated._given_by_json(text[], boolean[], jsonb) IS
    'The features of a version out of a JSON object, each as an expression of its parameter''s type';

CREATE FUNCTION federated._given_in_order(features text[], booleans boolean[], prediction jsonb) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(format(CASE c.kind
        WHEN 'boolean' THEN 'CASE WHEN $1[%1$s] OPERATOR(pg_catalog.=) 0::pg_catalog.float8 THEN false'
            ' WHEN $1[%1$s] OPERATOR(pg_catalog.=) 1::pg_catalog.float8 THEN true ELSE federated._as_boolean($1[%1$s]) END'
        WHEN 'number' THEN '$1[%1$s]' WHEN 'array' THEN '$1[%1$s:%2$s]'
        WHEN 'time' THEN '(''1970-01-01''::pg_catalog.timestamp OPERATOR(pg_catalog.+) $1[%1$s] OPERATOR(pg_catalog.*) ''1 day''::pg_catalog.interval)'
        WHEN 'interval' THEN '($1[%1$s] OPERATOR(pg_catalog.*) ''1 day''::pg_catalog.interval)' END,
        c.last_slot - c.slots + 1, c.last_slot) ORDER BY c.place)
    FROM (SELECT k.*, sum(k.slots) OVER (ORDER BY k.place) AS last_slot
          FROM federated._columns(features, booleans, prediction) AS k) AS c
$$;

COMMENT ON FUNCTION federated._given_in_order(text[], boolean[], jsonb) IS
    'The features of a version out of an array of numbers in order, each as an expression of its parameter''s type; NULL for text';

CREATE FUNCTION federated._describe_call(
    schema_name text, function_name text, features text[], booleans boolean[], prediction jsonb, given text[]
) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN cardinality(features) > 99
        THEN format('%I.%I(%s)', schema_name, function_name, federated._render_slots(features, booleans, prediction, given))
        ELSE format('%I.%I(%s)', schema_name, function_name, (
            SELECT string_agg(format('%I => %s', a.feature, a.value), E',\n            ' ORDER BY a.place)
            FROM unnest(features, given) WITH ORDINALITY AS a (feature, value, place) WHERE a.value IS NOT NULL)) END
$$;

COMMENT ON FUNCTION federated._describe_call(text, text, text[], boolean[], jsonb, text[]) IS
    'A call of a version''s function; given: of each feature an expression of its parameter''s type, NULL for what is missing';

-- The functions of federated_row resolve a model and its features when they are made: calling one takes a few
-- microseconds, where these two, which find everything anew, take a hundred. They are for what has none of those: a version
-- that a dump of an earlier release brought, and a name like model@007; and they say what is wrong with a call.
CREATE FUNCTION federated._predict_json(model text, features jsonb, of_row boolean) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    callee  text;
    known   text[];
    unknown text;
    found   record;
    result  double precision;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model) AS f;
    callee := found.function_name;
    known := found.features;
    IF features IS NULL THEN
        RETURN NULL;
    ELSIF jsonb_typeof(features) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('features must be a JSON object, not a JSON %s', jsonb_typeof(features)),
            HINT = 'Name each feature: {"feature": value, ...}.';
    ELSIF of_row AND NOT features ?| known THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the row has no feature of federated model "%s"', model),
            HINT = format('Its features are %s.', array_to_string(known, ', '));
    END IF;
    unknown := (SELECT min(k) FROM jsonb_object_keys(features) AS k WHERE k <> ALL (known));
    IF unknown IS NOT NULL AND NOT of_row THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('federated model "%s" has no feature "%s"', model, unknown),
            HINT = format('Its features are %s.', array_to_string(known, ', '));
    END IF;
    EXECUTE 'SELECT ' || federated._describe_call(
        'federated_model', callee, known, found.booleans, found.prediction,
        federated._given_by_json(known, found.booleans, found.prediction)) INTO result USING features;
    RETURN result;
END
$$;

COMMENT ON FUNCTION federated._predict_json(text, jsonb, boolean) IS
    'Prediction for features given as JSON, or as a row made JSON, in which what is no feature is ignored: finds everything anew';

CREATE FUNCTION federated._predict_array(model text, features double precision[]) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    given   text[];
    numbers bigint;
    worded  text;
    shown   text;
    result  double precision;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model) AS f;
    IF features IS NULL THEN
        RETURN NULL;
    ELSIF array_ndims(features) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = format('predict takes an array of one dimension, not of %s', array_ndims(features)),
            HINT = format('Give the features of "%s" in this order: %s.', model, array_to_string(found.features, ', '));
    END IF;
    given := federated._given_in_order(found.features, found.booleans, found.prediction);
    SELECT sum(c.slots), min(c.feature) FILTER (WHERE c.kind IN ('category', 'text')), min(c.feature) FILTER (WHERE c.kind = 'image')
    INTO numbers, worded, shown
    FROM federated._columns(found.features, found.booleans, found.prediction) AS c;
    IF worded IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('feature "%s" of federated model "%s" is text, and no number in an array', worded, model),
            HINT = 'Give the features by their names, as a row or as JSON.';
    ELSIF shown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('feature "%s" of federated model "%s" is an image, and no number in an array', shown, model),
            HINT = 'Give the features by their names, as a row or as JSON.';
    ELSIF cardinality(features) <> numbers THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = format('federated model "%s" takes %s %s, not %s', model, numbers,
                             CASE numbers WHEN cardinality(found.features) THEN 'features' ELSE 'numbers' END, cardinality(features)),
            HINT = format('In this order: %s.', array_to_string(found.features, ', '));
    END IF;
    -- A slice renumbers from 1, whatever the array's own lower bound is.
    EXECUTE 'SELECT ' || federated._describe_call(
        'federated_model', found.function_name, found.features, found.booleans, found.prediction, given)
    INTO result USING features[:];
    RETURN result;
END
$$;

COMMENT ON FUNCTION federated._predict_array(text, double precision[]) IS
    'Prediction for features in order: finds everything anew';

-- In PL/pgSQL, whose plans a session keeps: a function in SQL would be planned anew at each call. Every name in the bodies
-- is qualified, so that none needs a search_path of its own, which would be set at each call.
CREATE FUNCTION federated._write_json_function(
    function_name text, schema_name text, features text[], booleans boolean[], prediction jsonb
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION %I.%I(jsonb, boolean) RETURNS %s LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS %L',
        CASE schema_name WHEN 'federated_model' THEN 'federated_row' ELSE schema_name END, function_name,
        CASE schema_name WHEN 'federated_model' THEN 'double precision' ELSE 'double precision[]' END, format(
            E'BEGIN\n    RETURN CASE WHEN CASE WHEN pg_catalog.jsonb_typeof($1) OPERATOR(pg_catalog.=) ''object'' THEN\n'
            '            CASE WHEN $2 THEN $1 OPERATOR(pg_catalog.?|) %1$L::pg_catalog.text[]\n'
            '                 ELSE ($1 OPERATOR(pg_catalog.-) %1$L::pg_catalog.text[]) OPERATOR(pg_catalog.=) ''{}'' END END\n'
            '        THEN %3$s\n'
            '        ELSE %4$s END;\nEND', features, function_name,
            federated._describe_call(schema_name, function_name, features, booleans, prediction,
                                     federated._given_by_json(features, booleans, prediction)),
            format(CASE schema_name WHEN 'federated_model' THEN 'federated._predict_json(%L, $1, $2)'
                        ELSE 'ARRAY[federated._predict_json(%L, $1, $2)]' END, function_name)));
END
$$;

COMMENT ON FUNCTION federated._write_json_function(text, text, text[], boolean[], jsonb) IS
    'Makes the form (jsonb, boolean) of a function: for JSON, or for a row as JSON, in which what is no feature is ignored';

CREATE FUNCTION federated._write_array_function(function_name text, features text[], booleans boolean[], prediction jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given  text[] := federated._given_in_order(features, booleans, prediction);
    called text;
BEGIN
    IF array_position(given, NULL) IS NOT NULL THEN
        RETURN;
    END IF;
    called := CASE WHEN cardinality(features) > 99 THEN format('federated_model.%I($1)', function_name)
                   ELSE federated._describe_call('federated_model', function_name, features, booleans, prediction, given) END;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_row.%I(double precision[]) RETURNS double precision'
        ' LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS %L', function_name, format(
            E'BEGIN\n    RETURN CASE WHEN pg_catalog.array_ndims($1) OPERATOR(pg_catalog.=) 1\n'
            '             AND pg_catalog.array_lower($1, 1) OPERATOR(pg_catalog.=) 1\n'
            '             AND pg_catalog.cardinality($1) OPERATOR(pg_catalog.=) %1$s\n'
            '        THEN %3$s\n'
            '        ELSE federated._predict_array(%2$L, $1) END;\nEND',
            (SELECT sum(c.slots) FROM federated._columns(features, booleans, prediction) AS c), function_name, called));
END
$$;

COMMENT ON FUNCTION federated._write_array_function(text, text[], boolean[], jsonb) IS
    'Makes the form (double precision[]) of a function, for features in order; there is none where one of them is text';

CREATE FUNCTION federated._write_row_functions(function_name text, features text[], booleans boolean[], prediction jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._write_json_function(function_name, 'federated_model', features, booleans, prediction);
    PERFORM federated._write_array_function(function_name, features, booleans, prediction);
    PERFORM federated._write_typed_function(function_name, features, booleans, prediction);
    EXECUTE format('CREATE OR REPLACE FUNCTION federated_row.%I(jsonb) RETURNS double precision'
                   ' LANGUAGE sql STABLE PARALLEL SAFE AS %L', function_name,
                   format('SELECT federated_row.%I($1, false)', function_name));
    IF federated._has_many_classes(prediction) THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION federated_model.%I(%s) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE'
                       ' RETURN federated._predict_many_classes(%L)', function_name,
                       federated._describe_parameters(features, booleans, prediction), function_name);
        PERFORM federated._write_json_function(function_name, 'federated_proba', features, booleans, prediction);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._write_row_functions(text, text[], boolean[], jsonb) IS
    'Makes, or remakes, in federated_row the forms of a function in federated_model: for JSON, for a row, for an array; and in federated_proba those of the probabilities of several classes';

-- The same for a function that is there, by its name: after it was renamed, and after an update.
CREATE FUNCTION federated._rewrite_row_functions(function_name text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._write_row_functions(f.function_name, f.features, f.booleans, f.prediction)
    FROM federated._find_function(function_name) AS f
$$;

COMMENT ON FUNCTION federated._rewrite_row_functions(text) IS 'Remakes the other forms of a function in federated_model';

-- A name of more than 63 bytes would be cut, and could be another model's then.
CREATE OR REPLACE FUNCTION @extschema@.federated_predict(model text, features jsonb DEFAULT '{}') RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result double precision;
BEGIN
    IF octet_length(model) < 64 AND to_regprocedure('federated_row.' || quote_ident(model) || '(jsonb, boolean)') IS NOT NULL THEN
        EXECUTE format('SELECT federated_row.%I($1, false)', model) INTO result USING features;
        RETURN result;
    END IF;
    RETURN federated._predict_json(model, features, false);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict(text, jsonb) IS
    'Prediction for features given as JSON by a model''s current version, or by the one that model@tag or model@number names; a missing feature is NULL, and counts as the mean of training: without features it is the prediction for one of whom nothing is known';

CREATE OR REPLACE FUNCTION @extschema@.predict(model text, features double precision[]) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result double precision;
BEGIN
    IF octet_length(model) < 64 AND to_regprocedure('federated_row.' || quote_ident(model) || '(double precision[])') IS NOT NULL THEN
        EXECUTE format('SELECT federated_row.%I($1)', model) INTO result USING features;
        RETURN result;
    END IF;
    RETURN federated._predict_array(model, features);
END
$$;

COMMENT ON FUNCTION @extschema@.predict(text, double precision[]) IS
    'Prediction for features in order by a model''s current version, or by the one that model@tag or model@number names';

-- extra_float_digits 1: to_jsonb writes a float8 with the digits that read back to the same bits.
CREATE OR REPLACE FUNCTION @extschema@.predict(model text, features record) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    result double precision;
BEGIN
    IF octet_length(model) < 64 AND to_regprocedure('federated_row.' || quote_ident(model) || '(jsonb, boolean)') IS NOT NULL THEN
        EXECUTE format('SELECT federated_row.%I($1, true)', model) INTO result USING to_jsonb(features);
        RETURN result;
    END IF;
    RETURN federated._predict_json(model, to_jsonb(features), true);
END
$$;

COMMENT ON FUNCTION @extschema@.predict(text, record) IS
    'Prediction for a row: its columns that are named as features; other columns are ignored, a missing feature is NULL, and a row with no feature at all is an error';

CREATE FUNCTION @extschema@.federated_features(model text, features record) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    known text[] := federated._current_features(model);
    given jsonb := to_jsonb(features);
BEGIN
    IF given IS NOT NULL AND NOT given ?| known THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the row has no feature of federated model "%s"', model),
            HINT = format('Its features are %s.', array_to_string(known, ', '));
    END IF;
    RETURN CASE WHEN given IS NOT NULL
                THEN (SELECT jsonb_object_agg(f.name, given -> f.name) FROM unnest(known) AS f (name) WHERE given ? f.name) END;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_features(text, record) IS
    'The columns of a row that are features of a model''s current version, or of the one that model@tag or model@number names, as JSON: what functions that predict and explain take; a row with no feature at all is an error';

-- Whatever its kind, a prediction whose link is logistic is a probability, and one whose link is softmax several. What is from
-- before predictions were kept was made by one of two algorithms.
CREATE FUNCTION federated._classes(reference text) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found       record;
    has_classes boolean;
    declared    jsonb;
BEGIN
    SELECT f.contract ->> 'algorithm' AS algorithm, f.prediction INTO found FROM federated._find_held(reference) AS f;
    has_classes := CASE WHEN found.prediction IS NULL THEN found.algorithm = 'logistic_regression'
                        ELSE found.prediction ->> 'link' = 'logistic' OR federated._has_many_classes(found.prediction) END;
    declared := found.prediction -> 'classes';
    IF has_classes IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated model "%s" predicts a number and has no classes', reference),
            DETAIL = format('Its algorithm is %s.', found.algorithm),
            HINT = 'Use federated_predict.';
    END IF;
    RETURN CASE WHEN declared IS NULL THEN ARRAY['0', '1']
                ELSE ARRAY(SELECT c.label FROM jsonb_array_elements_text(declared) WITH ORDINALITY AS c (label, place) ORDER BY c.place) END;
END
$$;

COMMENT ON FUNCTION federated._classes(text) IS
    'The labels of the classes of a model, or of the version that model@tag names, in order; 55000 where it has none';

CREATE FUNCTION federated._probabilities(model text, classes text[], features jsonb) RETURNS double precision[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    callee text;
    shares double precision[];
    share  double precision;
BEGIN
    IF cardinality(classes) = 2 THEN
        share := @extschema@.federated_predict(model, features);
        RETURN CASE WHEN share IS NOT NULL THEN ARRAY[1 - share, share] END;
    END IF;
    callee := CASE WHEN octet_length(model) < 64
                        AND to_regprocedure('federated_proba.' || quote_ident(model) || '(jsonb, boolean)') IS NOT NULL
                   THEN model ELSE (SELECT f.function_name FROM federated._find_function(model) AS f) END;
    EXECUTE format('SELECT federated_proba.%I($1, false)', callee) INTO shares USING features;
    RETURN shares;
END
$$;

COMMENT ON FUNCTION federated._probabilities(text, text[], jsonb) IS
    'The probability of each class of a model, in their order, for features given as JSON; NULL for NULL';

CREATE OR REPLACE FUNCTION @extschema@.federated_predict_class(model text, features jsonb DEFAULT '{}') RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    classes text[] := federated._classes(model);
    shares  double precision[] := federated._probabilities(model, classes, features);
BEGIN
    RETURN federated._likeliest(classes, shares);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_class(text, jsonb) IS
    'The likeliest class by its label; of two, the second (''1'' where none are declared: the target is true or 1) above a probability of 0.5; of equally likely ones the first; error 55000 for a regression';

CREATE OR REPLACE FUNCTION @extschema@.federated_predict_proba(model text, features jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    classes text[] := federated._classes(model);
    shares  double precision[] := federated._probabilities(model, classes, features);
BEGIN
    RETURN CASE WHEN shares IS NOT NULL
                THEN (SELECT jsonb_object_agg(p.label, p.share) FROM unnest(classes, shares) AS p (label, share)) END;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_proba(text, jsonb) IS
    'The probability of each class by its label: of target_classes, or where none are declared "1" (the target is true or 1) and "0"; error 55000 for a regression';

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
    'The names, types and modifiers of the columns of a query that is one statement, or the error that it raises';

CREATE FUNCTION federated._likeliest(classes text[], shares double precision[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Of equally likely ones the first, as where versions are judged. Where nothing is known (NaN), no class is.
    RETURN CASE WHEN shares IS NULL OR array_position(shares, 'NaN') IS NOT NULL THEN NULL
                ELSE classes[array_position(shares, (SELECT max(s.share) FROM unnest(shares) AS s (share)))] END;
END
$$;

COMMENT ON FUNCTION federated._likeliest(text[], double precision[]) IS 'The label of the likeliest class';

-- columns: of the query, in order, each with name, type and its modifier. What the planner inlines is one query; what numpy computes is
-- asked block by block, of a cursor named $1, and begins anew at the rows that are left.
CREATE FUNCTION federated._describe_batch(model text, query text, columns jsonb, OUT statement text, OUT by_block boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    present text[] := ARRAY(SELECT c.name FROM jsonb_to_recordset(columns) AS c (name text));
    given   text[];
    many    boolean;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model) AS f;
    many := federated._has_many_classes(found.prediction);
    by_block := NOT federated._is_expression(found.features, found.booleans, found.prediction);
    IF NOT found.features && present THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', model),
            HINT = format('Its features are %s.', array_to_string(found.features, ', '));
    END IF;
    given := federated._given_by_name(found.features, found.booleans, found.prediction, present, 'q.');
    IF by_block THEN
        statement := federated._describe_block(model, found.features, found.booleans, found.prediction, given, columns);
        RETURN;
    END IF;
    statement := format(E'SELECT q.*, %s AS prediction FROM (%s\n) AS q', format(
        CASE WHEN many THEN 'federated._likeliest(%2$L, %1$s)' ELSE '%1$s' END,
        federated._describe_call(CASE WHEN many THEN 'federated_proba' ELSE 'federated_model' END, found.function_name,
                                 found.features, found.booleans, found.prediction, given),
        CASE WHEN many THEN federated._classes(model) END), query);
END
$$;

COMMENT ON FUNCTION federated._describe_batch(text, text, jsonb) IS
    'A query with a prediction beside its columns; by_block: whether it is one of a block of the rows of a cursor';

CREATE FUNCTION federated._free_name(columns jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(n.name) FROM (SELECT 'row ' || k AS name FROM generate_series(0, jsonb_array_length(columns)) AS k) AS n
    WHERE n.name NOT IN (SELECT c.name FROM jsonb_to_recordset(columns) AS c (name text))
$$;

COMMENT ON FUNCTION federated._free_name(jsonb) IS 'A name for a row''s place that none of a query''s columns has';

-- Which rows are in a block, and the order in which they are, is fixed before any is scored.
CREATE FUNCTION federated._describe_block(
    model text, features text[], booleans boolean[], prediction jsonb, given text[], columns jsonb
) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key  uuid := (SELECT f.numbers_id FROM federated._find_held(model) AS f);
    many boolean := federated._has_many_classes(prediction);
    row_place text := federated._free_name(columns);
    -- A feature that the query has not is as missing as one that is NULL.
    all_given text[] := ARRAY(
        SELECT coalesce(given[c.place], federated._absent_value(c.type))
        FROM federated._columns(features, booleans, prediction) AS c ORDER BY c.place);
BEGIN
    RETURN (
        SELECT format(
            'WITH q AS MATERIALIZED (SELECT * FROM ROWS FROM (federated._fetch_block($1, $2) AS (%1$s)) WITH ORDINALITY AS q (%2$s, %7$I)),'
            ' s AS MATERIALIZED (SELECT federated._score_block(%3$L, federated._bytes(pg_catalog.array_agg(%4$s))) AS scores FROM q)'
            ' SELECT %5$s, %6$s AS prediction FROM q, s',
            string_agg(format('c%s %s', c.place, format_type(c.type, c.typmod)), ', ' ORDER BY c.place),
            string_agg(format('%I', c.name), ', ' ORDER BY c.place), key,
            federated._render_slots(features, booleans, prediction, all_given),
            string_agg(format('q.%I', c.name), ', ' ORDER BY c.place),
            CASE WHEN many THEN format('federated._likeliest(%L, ARRAY(SELECT pg_catalog.unnest(s.scores[q.%2$I:q.%2$I])))',
                                       federated._classes(model), row_place)
                 ELSE format('s.scores[q.%I]', row_place) END, row_place)
        FROM (SELECT r.ordinality AS place, r.type, r.typmod,
                     CASE WHEN count(*) OVER (PARTITION BY r.name) = 1 THEN r.name ELSE 'c ' || r.ordinality END AS name
              FROM ROWS FROM (jsonb_to_recordset(columns) AS (name text, type oid, typmod integer)) WITH ORDINALITY AS r) AS c);
END
$$;

COMMENT ON FUNCTION federated._describe_block(text, text[], boolean[], jsonb, text[], jsonb) IS
    'A query for the next rows of a cursor, each with its prediction, computed of all of them at once';

-- Carries no SET clause: the cursor's query runs in it, with the caller's names.
CREATE FUNCTION federated._fetch_block(cursor_name text, most integer) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY EXECUTE pg_catalog.format('FETCH FORWARD %s FROM %I', most, cursor_name);
END
$$;

COMMENT ON FUNCTION federated._fetch_block(text, integer) IS 'The next rows of a cursor of the caller''s';

-- The query is known to be one statement and whole in itself: behind it no parenthesis closes early.
CREATE OR REPLACE FUNCTION @extschema@.federated_predict_batch(model text, query text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    block  CONSTANT pg_catalog.int4 := 4096;
    found  pg_catalog.jsonb;
    whole  pg_catalog.text;
    batch  record;
    rows   CONSTANT pg_catalog.text := 'federated_batch_' OPERATOR(pg_catalog.||) pg_catalog.gen_random_uuid()::pg_catalog.text;
    taken  pg_catalog.int8;
BEGIN
    PERFORM federated._find_function(model);
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null';
    END IF;
    found := federated._describe_columns(query);
    PERFORM federated._raise(found OPERATOR(pg_catalog.->) 'failure');
    whole := found OPERATOR(pg_catalog.->>) 'query';
    batch := federated._describe_batch(model, whole, found OPERATOR(pg_catalog.->) 'columns');
    IF NOT batch.by_block THEN
        RETURN QUERY EXECUTE batch.statement;
        RETURN;
    END IF;
    EXECUTE pg_catalog.format('DECLARE %I NO SCROLL CURSOR FOR %s', rows, whole);
    LOOP
        RETURN QUERY EXECUTE batch.statement USING rows, block;
        GET DIAGNOSTICS taken = ROW_COUNT;
        EXIT WHEN taken OPERATOR(pg_catalog.<) block;
    END LOOP;
    EXECUTE pg_catalog.format('CLOSE %I', rows);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_batch(text, text) IS
    'The rows of a query, run with the caller''s rights and search_path, with the prediction as last column, of a model of several classes the likeliest one''s label; features are its columns of these names. Needs a column list: AS (id integer, ..., prediction float8)';

-- A row of any type as a model's features, at the speed of named arguments: a function over any type whose body is read anew
-- for the type that it is called with, and inlined. A feature that the row has not is found outside of it, where each feature
-- is of the type federated.absent: what is made of a value is chosen by its type, when the query is planned. The row itself is
-- never made: one that is NULL (an outer join's) is one of whom nothing is known, as with named arguments.
CREATE TYPE federated.absent AS ENUM ();

COMMENT ON TYPE federated.absent IS 'The type of a feature that a row has not: it has no value';

CREATE FUNCTION federated._is_given(value federated.absent) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN false;

CREATE FUNCTION federated._is_given(value anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT true';

COMMENT ON FUNCTION federated._is_given(federated.absent) IS 'A feature that the row has not';

COMMENT ON FUNCTION federated._is_given(anyelement) IS 'A feature that the row has, whatever its value';

CREATE FUNCTION federated._as_number(value federated.absent) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::float8;

CREATE FUNCTION federated._as_number(value float8) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;

CREATE FUNCTION federated._as_number(value boolean) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::integer::float8;

CREATE FUNCTION federated._as_number(value anyelement) RETURNS float8 LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_number(pg_catalog.to_jsonb($1))';

COMMENT ON FUNCTION federated._as_number(federated.absent) IS 'A number that the row has not';

COMMENT ON FUNCTION federated._as_number(float8) IS 'A number as it is';

COMMENT ON FUNCTION federated._as_number(boolean) IS 'True and false as 1 and 0';

COMMENT ON FUNCTION federated._as_number(anyelement) IS 'A number out of anything else, as of JSON';

CREATE FUNCTION federated._as_flag(value federated.absent) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::boolean;

CREATE FUNCTION federated._as_flag(value boolean) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;

CREATE FUNCTION federated._as_flag(value anyelement) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._as_boolean(federated._json_number(pg_catalog.to_jsonb($1)))';

COMMENT ON FUNCTION federated._as_flag(federated.absent) IS 'A boolean that the row has not';

COMMENT ON FUNCTION federated._as_flag(boolean) IS 'A boolean as it is';

COMMENT ON FUNCTION federated._as_flag(anyelement) IS 'A boolean out of anything else: true, false, 1 or 0';

CREATE FUNCTION federated._as_text(value federated.absent) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::text;

CREATE FUNCTION federated._as_text(value anyelement) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1::pg_catalog.text';

COMMENT ON FUNCTION federated._as_text(federated.absent) IS 'A text that the row has not';

COMMENT ON FUNCTION federated._as_text(anyelement) IS 'A level or a text as text';

CREATE FUNCTION federated._as_time(value federated.absent) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::timestamp;

CREATE FUNCTION federated._as_time(value date) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::timestamp;

CREATE FUNCTION federated._as_time(value timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;

CREATE FUNCTION federated._as_time(value timestamptz) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN timezone('UTC', value);

CREATE FUNCTION federated._as_time(value anyelement) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_time(pg_catalog.to_jsonb($1))';

COMMENT ON FUNCTION federated._as_time(federated.absent) IS 'A time that the row has not';

COMMENT ON FUNCTION federated._as_time(date) IS 'The beginning of a day';

COMMENT ON FUNCTION federated._as_time(timestamp) IS 'A time without a zone as it is';

COMMENT ON FUNCTION federated._as_time(timestamptz) IS 'A time with a zone, in UTC';

COMMENT ON FUNCTION federated._as_time(anyelement) IS 'A time out of anything else, as of JSON';

CREATE FUNCTION federated._as_interval(value federated.absent) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::interval;

CREATE FUNCTION federated._as_interval(value interval) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;

CREATE FUNCTION federated._as_interval(value anyelement) RETURNS interval LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_interval(pg_catalog.to_jsonb($1))';

COMMENT ON FUNCTION federated._as_interval(federated.absent) IS 'An interval that the row has not';

COMMENT ON FUNCTION federated._as_interval(interval) IS 'An interval as it is';

COMMENT ON FUNCTION federated._as_interval(anyelement) IS 'An interval out of anything else, as of JSON';

CREATE FUNCTION federated._as_array(value federated.absent) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::float8[];

CREATE FUNCTION federated._as_array(value float8[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;

CREATE FUNCTION federated._as_array(value real[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::float8[];

CREATE FUNCTION federated._as_array(value integer[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::float8[];

CREATE FUNCTION federated._as_array(value bigint[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::float8[];

CREATE FUNCTION federated._as_array(value anyelement) RETURNS float8[] LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_array(pg_catalog.to_jsonb($1))';

COMMENT ON FUNCTION federated._as_array(federated.absent) IS 'An array that the row has not';

COMMENT ON FUNCTION federated._as_array(float8[]) IS 'An array of numbers as it is';

COMMENT ON FUNCTION federated._as_array(real[]) IS 'An array of single numbers';

COMMENT ON FUNCTION federated._as_array(integer[]) IS 'An array of whole numbers';

COMMENT ON FUNCTION federated._as_array(bigint[]) IS 'An array of large whole numbers';

COMMENT ON FUNCTION federated._as_array(anyelement) IS 'An array out of anything else, as of JSON';

CREATE FUNCTION federated._as_image(value federated.absent) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::bytea;

CREATE FUNCTION federated._as_image(value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;

CREATE FUNCTION federated._as_image(value anyelement) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_image(pg_catalog.to_jsonb($1))';

COMMENT ON FUNCTION federated._as_image(federated.absent) IS 'An image that the row has not';

COMMENT ON FUNCTION federated._as_image(bytea) IS 'The bytes of an image as they are';

COMMENT ON FUNCTION federated._as_image(anyelement) IS 'The bytes of an image out of anything else, as of JSON';

-- Of each feature, an expression of its parameter's type over a column of that name. source: what stands before the name.
CREATE FUNCTION federated._given_by_name(features text[], booleans boolean[], prediction jsonb, present text[], source text)
RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(CASE
        WHEN c.feature = ANY (present) THEN format('federated.%I(%s%I)', CASE c.kind
            WHEN 'number' THEN '_as_number' WHEN 'boolean' THEN '_as_flag' WHEN 'category' THEN '_as_text' WHEN 'text' THEN '_as_text'
            WHEN 'time' THEN '_as_time' WHEN 'interval' THEN '_as_interval' WHEN 'image' THEN '_as_image' ELSE '_as_array' END, source, c.feature)
        WHEN cardinality(features) > 99 THEN federated._absent_value(c.type) END ORDER BY c.place)
    FROM federated._columns(features, booleans, prediction) AS c
$$;

COMMENT ON FUNCTION federated._given_by_name(text[], boolean[], jsonb, text[], text) IS
    'The features of a version out of columns of any types, each as an expression of its parameter''s type; NULL for what is not present';

CREATE FUNCTION federated._write_typed_function(function_name text, features text[], booleans boolean[], prediction jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT 'federated_model' AS called, 'federated_row' AS made, 'double precision' AS type UNION ALL
        SELECT 'federated_proba', 'federated_proba', 'double precision[]' WHERE federated._has_many_classes(prediction)
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION %I.%I(anyelement) RETURNS SETOF %s LANGUAGE sql STABLE PARALLEL SAFE AS %L',
            target.made, function_name, target.type, (
            SELECT format(E'SELECT s.prediction FROM (SELECT %s) AS d,\n'
                '    LATERAL (SELECT CASE WHEN %s\n'
                '        THEN %s ELSE %s END AS prediction\n'
                '    FROM (SELECT ($1).*) AS r) AS s',
                string_agg(format('NULL::federated.absent AS %I', f.feature), ', ' ORDER BY f.place),
                string_agg(format('federated._is_given(%I)', f.feature), ' OR ' ORDER BY f.place),
                federated._describe_call(target.called, function_name, features, booleans, prediction,
                    federated._given_by_name(features, booleans, prediction, features, '')),
                format(CASE target.type WHEN 'double precision' THEN 'federated._predict_json(%L, ''{}'', true)'
                            ELSE 'ARRAY[federated._predict_json(%L, ''{}'', true)]' END, function_name))
            FROM unnest(features) WITH ORDINALITY AS f (feature, place)));
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._write_typed_function(text, text[], boolean[], jsonb) IS
    'Makes the form (anyelement) of a function, for a row of any type: its columns that are named as features, whatever their types';

-- Drops what has the name and another signature, with what it is in other forms; CREATE OR REPLACE keeps the rest.
CREATE FUNCTION federated._clear_signature(function_name text, features text[], booleans boolean[], prediction jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    names text[] := CASE WHEN cardinality(features) > 99 THEN '{slots}' ELSE features END;
    types oid[] := CASE WHEN cardinality(features) > 99 THEN ARRAY['float8[]'::regtype::oid] ELSE ARRAY(
        SELECT c.type::oid FROM federated._columns(features, booleans, prediction) AS c ORDER BY c.place) END;
BEGIN
    IF EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (p.proargnames IS DISTINCT FROM names OR (p.proargtypes::oid[])[:] <> types)
    ) THEN
        PERFORM federated._drop_model_function(function_name, 'restrict');
    END IF;
END
$$;

COMMENT ON FUNCTION federated._clear_signature(text, text[], boolean[], jsonb) IS
    'Drops a model''s function where its arguments are not those of this version';

-- What a version before this one may have had and this one does not: it would go on computing what that was.
CREATE FUNCTION federated._drop_other_forms(function_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    other_form regprocedure;
BEGIN
    FOR other_form IN
        SELECT p.oid FROM pg_proc AS p WHERE p.proname = function_name
           AND p.pronamespace IN ('federated_row'::regnamespace, 'federated_proba'::regnamespace)
           AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)
    LOOP
        EXECUTE format('DROP FUNCTION %s RESTRICT', other_form);
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._drop_other_forms(text) IS
    'Drops the forms of a function in other schemas that nothing depends on, before they are made anew';

-- The one way to a function in federated_model that computes something: for a run that ends, and for an older version.
-- Raises dependent_objects_still_exist where other objects need the function's former signature or its former results.
-- What numpy computes is found by the key of its version, which is known before its row is there, and the same in a restored
-- dump. It runs as its owner, so that who may call a model's function needs no other right, however it is computed.
CREATE FUNCTION federated._define_prediction(
    function_name text, description text, features text[], booleans boolean[], prediction jsonb, version_key uuid
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    is_many  boolean := federated._has_many_classes(prediction);
    computed text;
BEGIN
    PERFORM federated._check_columns(features, booleans, prediction);
    IF function_name NOT LIKE '%@%' THEN
        PERFORM federated._refuse_stored_predictions(function_name);
    END IF;
    PERFORM federated._clear_signature(function_name, features, booleans, prediction);
    PERFORM federated._drop_other_forms(function_name);
    -- What is not inlined is called faster in PL/pgSQL than in SQL.
    computed := CASE WHEN federated._is_expression(features, booleans, prediction)
        THEN 'sql STABLE PARALLEL SAFE SECURITY INVOKER RETURN ' || federated._render(features, booleans, prediction)
        ELSE 'plpgsql STABLE PARALLEL SAFE SECURITY DEFINER AS ' || quote_literal(
            format(E'BEGIN\n    RETURN %s;\nEND', federated._render_call(features, booleans, prediction, version_key))) END;
    EXECUTE format('CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE %s',
                   CASE WHEN is_many THEN 'federated_proba' ELSE 'federated_model' END, function_name,
                   federated._describe_parameters(features, booleans, prediction),
                   CASE WHEN is_many THEN 'float8[]' ELSE 'float8' END, computed);
    PERFORM federated._write_row_functions(function_name, features, booleans, prediction);
    PERFORM federated._finish_model_function(function_name, description);
END
$$;

COMMENT ON FUNCTION federated._define_prediction(text, text, text[], boolean[], jsonb, uuid) IS
    'Makes, or remakes, a function in federated_model that computes a prediction, and its forms in federated_row';

-- Runs as federated_owner, the only role that may create anything in federated_model. Its caller chooses numbers
-- and names; all else is decided here.
CREATE FUNCTION federated._publish_function(
    model_id bigint, version integer, run_id uuid, features text[], booleans boolean[], prediction jsonb
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
        model_name, federated._describe_version(model_name, version, run_id), features, booleans, prediction,
        federated._version_key(run_id, version));
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RETURN obstacle;
END
$$;

COMMENT ON FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) IS
    'Makes a model''s function compute a version; returns NULL, or what depends on the function of another signature';

-- Runs that begin with the parameters of a version (transfer_from): which version that is, what it had begun with, and what is kept of that.
--
-- What always holds: a run's line is written as it is queued, by what the catalog has, and stays when models are dropped; whose rows a
-- version may have learned from follows from its own run and from its line. Who queues such a run owns what it begins with.
CREATE FUNCTION federated._seals(options jsonb, policy jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(options ->> 'prediction' = 'sealed', policy ->> 'compliance_mode' IN ('HIPAA', 'BOTH'), false)
$$;

COMMENT ON FUNCTION federated._seals(jsonb, jsonb) IS 'Whether the numbers of the version of a run of such options and policy are sealed to the database''s server';

CREATE FUNCTION federated._read_parent(reference text, options jsonb, policy jsonb)
RETURNS TABLE (model_id bigint, model text, version integer, workspace text, run_id uuid, parent_options jsonb, parent_policy jsonb,
    classes jsonb, epsilon double precision, sha256 bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    subject federated.version := federated._read_reference(reference);
    source  record;
    called  text;
BEGIN
    SELECT m.name, w.name AS workspace, r.options, r.policy INTO STRICT source
    FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
    WHERE r.run_id = subject.run_id;
    called := format('version %s of federated model "%s"', subject.version, source.name);
    IF subject.withheld OR federated._is_erased(subject) THEN
        PERFORM federated._refuse_withdrawn(source.name, subject.version, false);
    ELSIF federated._is_by_vote(subject) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('no run begins with %s', called),
            DETAIL = 'Several models vote in it, and none of them is its parameters.',
            HINT = 'Name a version of one model in transfer_from.';
    ELSIF federated._seals(source.options, source.policy) AND NOT federated._seals(_read_parent.options, policy) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the numbers of %s are sealed, and those of this run''s version would not be', called),
            DETAIL = 'What the run leaves would tell what is sealed.',
            HINT = 'Give the model prediction = ''sealed''.';
    ELSIF source.policy ->> 'compliance_mode' NOT IN ('none', policy ->> 'compliance_mode') AND policy ->> 'compliance_mode' <> 'BOTH' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s was trained under compliance_mode %s, and this run''s workspace is under %s', called,
                             source.policy ->> 'compliance_mode', policy ->> 'compliance_mode'),
            HINT = 'Train in a workspace whose compliance_mode asks for no less.';
    END IF;
    RETURN QUERY SELECT subject.model_id, source.name, subject.version, source.workspace, subject.run_id, source.options, source.policy,
        subject.prediction -> 'classes', subject.epsilon, subject.sha256;
END
$$;

COMMENT ON FUNCTION federated._read_parent(text, jsonb, jsonb) IS
    'The version that model[@tag] names and that a run of such options and policy may begin with; 42704 where there is none, 55000 where it was withdrawn, 0A000 and 22023 where the run may not';

CREATE FUNCTION federated._trace(new_run federated.run) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent record;
BEGIN
    IF (new_run).options ->> 'transfer_from' IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT p.* INTO STRICT parent
    FROM federated._read_parent((new_run).options ->> 'transfer_from', (new_run).options, (new_run).policy) AS p;
    PERFORM federated._require_model_owner(parent.model_id);
    RETURN jsonb_build_array(jsonb_build_object(
            'model', parent.model, 'version', parent.version, 'workspace', parent.workspace, 'run', parent.run_id,
            'sha256', encode(parent.sha256, 'hex'), 'epsilon', parent.epsilon,
            'delta', CASE WHEN parent.parent_policy ->> 'privacy_budget' IS NOT NULL THEN parent.parent_policy -> 'delta' END,
            'nodes', federated._learned_from(parent.run_id)))
        || coalesce((SELECT r.lineage FROM federated.run AS r WHERE r.run_id = parent.run_id), '[]');
END
$$;

COMMENT ON FUNCTION federated._trace(federated.run) IS
    'The line of a run that is about to be queued, NULL where it begins with no version; 42501 for who does not own the model that it would begin with';

CREATE FUNCTION federated._is_orphaned(run uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM federated.run AS r WHERE r.run_id = run AND r.lineage IS NOT NULL AND NOT EXISTS (
            SELECT FROM federated.version AS v
            WHERE v.run_id = (r.lineage -> 0 ->> 'run')::uuid AND v.version = (r.lineage -> 0 ->> 'version')::integer
              AND v.retired_at IS NULL AND NOT federated._is_erased(v)));
END
$$;

COMMENT ON FUNCTION federated._is_orphaned(uuid) IS
    'Whether the version that a run began with was dropped, or retired, or is to be: it cannot be made anew as it was';

CREATE FUNCTION federated._parent_name(run uuid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s@%s', r.lineage -> 0 ->> 'model', r.lineage -> 0 ->> 'version')
    FROM federated.run AS r WHERE r.run_id = run AND r.lineage IS NOT NULL
$$;

COMMENT ON FUNCTION federated._parent_name(uuid) IS 'The version that a run began with, as model@number; NULL of all others';

-- Within a workspace the ledger adds up what versions and those before them cost; of another one it knows nothing.
CREATE FUNCTION federated._ancestors(run uuid, own_workspace text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'version', format('%s@%s', a.line ->> 'model', a.line ->> 'version'), 'workspace', a.line -> 'workspace',
        'parameters_sha256', a.line -> 'sha256', 'epsilon', a.line -> 'epsilon', 'delta', a.line -> 'delta',
        'note', CASE WHEN a.line ->> 'workspace' = own_workspace THEN NULL
            WHEN a.line ->> 'epsilon' IS NULL THEN format('and what its ancestor %s@%s learned in workspace %s, without a budget',
                a.line ->> 'model', a.line ->> 'version', a.line ->> 'workspace')
            ELSE format('and %s of its ancestor %s@%s in workspace %s', (a.line ->> 'epsilon')::double precision, a.line ->> 'model',
                a.line ->> 'version', a.line ->> 'workspace') END) ORDER BY a.place)
    FROM federated.run AS r CROSS JOIN LATERAL jsonb_array_elements(r.lineage) WITH ORDINALITY AS a (line, place)
    WHERE r.run_id = run
$$;

COMMENT ON FUNCTION federated._ancestors(uuid, text) IS
    'What a run began with, and what that had begun with, the nearest first, as JSON: of those of another workspace a note of what they cost besides; NULL where it began with no version';

CREATE FUNCTION federated._descends(run uuid, workspace text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated.run AS r CROSS JOIN LATERAL jsonb_array_elements(r.lineage) AS a (line)
                   WHERE r.run_id = run AND a.line ->> 'workspace' = _descends.workspace)
$$;

COMMENT ON FUNCTION federated._descends(uuid, text) IS 'Whether a run began with what was trained in a workspace, at any remove';

COMMENT ON TABLE federated.tag IS 'Names that a model''s versions were given; a tag moves to another version by TAG ... REPLACE alone';

-- 42704 with what there is: whoever mistypes a tag sees the right one.
CREATE OR REPLACE FUNCTION federated._version_number(model text, label text) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject bigint := (SELECT m.model_id FROM federated.model AS m WHERE m.name = model);
    dropped integer := (SELECT m.dropped_version FROM federated.model AS m WHERE m.model_id = subject);
    wanted  integer := CASE WHEN label ~ '^[0-9]+$'
        THEN (SELECT v.version FROM federated.version AS v WHERE v.model_id = subject AND v.version = label::numeric)
        ELSE (SELECT t.version FROM federated.tag AS t WHERE t.model_id = subject AND t.name = label) END;
    numbers text;
    tags    text;
BEGIN
    IF subject IS NULL THEN
        IF EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = model)
           OR EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = model) THEN
            RETURN federated._held_number(model, label);
        END IF;
        PERFORM federated._model_id(model);
    END IF;
    IF wanted IS NULL THEN
        numbers := (SELECT string_agg(k.version::text, ', ' ORDER BY k.version) FROM (
            SELECT v.version FROM federated.version AS v WHERE v.model_id = subject ORDER BY v.version DESC LIMIT 20) AS k);
        tags := (SELECT string_agg(format('"%s"', k.name), ', ' ORDER BY k.name) FROM (
            SELECT t.name FROM federated.tag AS t WHERE t.model_id = subject ORDER BY t.created_at DESC LIMIT 20) AS k);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" has no version "%s"', model, label),
            DETAIL = CASE WHEN label ~ '^[1-9][0-9]*$' AND label::numeric <= dropped THEN format('Version %s was dropped.', label)
                WHEN numbers IS NULL THEN 'It has no trained version yet.'
                ELSE format('Its latest versions are %s; its latest tags %s.', numbers, coalesce(tags, 'none')) END,
            HINT = format('SELECT version, tags FROM federated_model_versions(%L) shows all.', model);
    END IF;
    RETURN wanted;
END
$$;

COMMENT ON FUNCTION federated._version_number(text, text) IS 'The version that a tag or number of a model names, or error 42704';

CREATE OR REPLACE FUNCTION federated._json_numbers(numbers jsonb) RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(n.number::double precision ORDER BY n.place), '{}')
    FROM jsonb_array_elements_text(numbers) WITH ORDINALITY AS n (number, place)
$$;

COMMENT ON FUNCTION federated._json_numbers(jsonb) IS 'A JSON array of numbers as an array';

-- The next five run as federated_owner: the first is called by the others, which are DEFINER.
CREATE OR REPLACE FUNCTION federated._define_version(function_name text, description text, model_id bigint, version integer) RETURNS void
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
        subject.prediction, federated._version_key(subject.run_id, version));
    IF subject.withheld THEN
        PERFORM federated._write_refusal(function_name, w.message, w.hint)
        FROM federated.model AS m CROSS JOIN federated._why_withdrawn(m.name, version, false, NULL) AS w
        WHERE m.model_id = _define_version.model_id;
    END IF;
END
$$;

COMMENT ON FUNCTION federated._define_version(text, text, bigint, integer) IS
    'Makes a function that computes a stored version from what is kept of its prediction';

-- What has a function already keeps it: restoring a dump brings functions before rows.
CREATE OR REPLACE FUNCTION federated._label_functions(model_id bigint, version integer) RETURNS void
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
          -- A model may have such a name from before _check_model_name refused it.
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

CREATE OR REPLACE FUNCTION federated._rename_functions(model_id bigint, old_name text, new_name text, features jsonb) RETURNS void
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
    -- What stands in federated_row calls by name what it is a form of.
    PERFORM federated._rewrite_row_functions(f.name) FROM (
        SELECT DISTINCT p.proname::text AS name
        FROM federated._list_functions(new_name) AS l (oid) JOIN pg_proc AS p ON p.oid = l.oid
        WHERE p.pronamespace = 'federated_row'::regnamespace AND p.pronargs = 2) AS f
    WHERE NOT EXISTS (SELECT FROM federated._list_withdrawn(model_id) AS w
                      WHERE w.is_shown AND f.name = new_name OR f.name IN (SELECT new_name || '@' || l FROM unnest(w.labels) AS l));
    SELECT v.version, v.run_id INTO current FROM federated.version AS v
    WHERE v.model_id = _rename_functions.model_id AND v.is_current;
    IF FOUND THEN
        PERFORM federated._finish_model_function(
            new_name, federated._describe_version(new_name, current.version, current.run_id));
    ELSIF NOT EXISTS (SELECT FROM federated._list_withdrawn(model_id) AS w WHERE w.is_shown) THEN
        PERFORM federated._write_untrained_function(new_name, features);
    END IF;
    PERFORM federated._label_functions(model_id, NULL);
    PERFORM federated._withdraw_functions(w.subject, w.is_shown) FROM federated._list_withdrawn(model_id) AS w;
END
$$;

COMMENT ON FUNCTION federated._rename_functions(bigint, text, text, jsonb) IS
    'Renames the functions of a model; what depends on them follows, and a version''s whose name would be too long is dropped';

-- Whoever stored what a tag computed, in an index say, would have another version's predictions there.
CREATE FUNCTION federated._move_tag(model_name text, moved federated.tag) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    function_name text := model_name || '@' || moved.name;
    obstacle      text;
BEGIN
    IF EXISTS (SELECT FROM federated.version AS v
               WHERE v.model_id = moved.model_id AND v.version = moved.version AND v.prediction IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the tag "%s" of federated model "%s" cannot be moved to version %s', moved.name, model_name, moved.version),
            DETAIL = 'It was made by a release that did not keep the numbers of a version.';
    END IF;
    PERFORM federated._refuse_stored_predictions(function_name);
    PERFORM federated._define_version(
        function_name, (SELECT federated._describe_version(model_name, v.version, v.run_id) || format(', tagged %s', moved.name)
                        FROM federated.version AS v WHERE v.model_id = moved.model_id AND v.version = moved.version),
        moved.model_id, moved.version);
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('the tag "%s" of federated model "%s" cannot be moved: objects depend on its function as it is',
                         moved.name, model_name),
        DETAIL = obstacle,
        HINT = 'Drop these objects first, and make them again afterwards.';
END
$$;

COMMENT ON FUNCTION federated._move_tag(text, federated.tag) IS 'Makes the function of a tag compute the version that the tag was moved to';

CREATE OR REPLACE FUNCTION federated._keep_version_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = coalesce(NEW.model_id, OLD.model_id));
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM federated._label_functions(NEW.model_id, NEW.version);
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM federated._move_tag(model_name, NEW);
    ELSIF model_name IS NOT NULL THEN
        -- A model that is dropped takes all along, and what depends on it where it is dropped so.
        PERFORM federated._drop_model_function(
            model_name || '@' || coalesce(to_jsonb(OLD) ->> 'name', OLD.version::text),
            coalesce(current_setting('federated.drop_behavior', true), 'restrict'));
        IF TG_TABLE_NAME = 'version' THEN
            UPDATE federated.model AS m SET dropped_version = greatest(m.dropped_version, OLD.version)
            WHERE m.model_id = OLD.model_id;
        END IF;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_version_functions() IS 'Keeps a function for each version and each tag';

CREATE OR REPLACE TRIGGER keep_version_functions AFTER INSERT OR DELETE OR UPDATE OF version ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._keep_version_functions();

-- Names of models and tags share one name space of functions: a name with @ in it would stand for a version.
CREATE OR REPLACE FUNCTION federated._check_model_name() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    longest text := (SELECT t.name FROM federated.tag AS t WHERE t.model_id = NEW.model_id
                     ORDER BY octet_length(t.name) DESC LIMIT 1);
BEGIN
    -- A dump of a catalog that was made before this rule is restored by the table's owner.
    PERFORM federated._lock_model_name(NEW.name);
    IF EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" is subscribed to in this database', NEW.name),
            DETAIL = 'Its functions have this name.';
    ELSIF EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" was imported into this database', NEW.name),
            DETAIL = 'Its functions have this name.',
            HINT = format('SELECT federated_drop_imported_model(%L) makes room.', NEW.name);
    ELSIF strpos(NEW.name, '@') > 0
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

CREATE OR REPLACE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

-- Making a version current is an UPDATE of is_current: the caller must own the model, and what follows is done for
-- them. The coordinator, which makes function and row itself when a run ends, inserts its version as current.
CREATE OR REPLACE FUNCTION federated._check_current() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = 'federated_owner' OR pg_has_role('federated_daemon', 'USAGE') THEN
        RETURN NEW;
    END IF;
    PERFORM federated._require_model_owner(NEW.model_id);
    IF NOT NEW.is_current THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'a model that has a current version keeps one',
            HINT = 'Make another version current: ROLLBACK FEDERATED MODEL ... TO VERSION ...';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_current() IS 'Lets a model''s owners make a version current, and the coordinator retire one';

-- What goes with its model, or with its run, has no model to ask about any more.
CREATE FUNCTION federated._check_dropped_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = OLD.model_id);
    tags       text := (SELECT string_agg(format('"%s"', t.name), ', ' ORDER BY t.name) FROM federated.tag AS t
                        WHERE t.model_id = OLD.model_id AND t.version = OLD.version);
BEGIN
    IF model_name IS NULL OR NOT EXISTS (SELECT FROM federated.run AS r WHERE r.run_id = OLD.run_id) THEN
        RETURN OLD;
    END IF;
    PERFORM federated._require_model_owner(OLD.model_id);
    IF OLD.is_current THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s is the current one of federated model "%s"', OLD.version, model_name),
            HINT = 'PROMOTE FEDERATED MODEL ... VERSION ... makes another version current.';
    ELSIF tags IS NOT NULL AND coalesce(current_setting('federated.drop_behavior', true), '') <> 'cascade' THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('version %s of federated model "%s" is tagged', OLD.version, model_name),
            DETAIL = format('Its tags are %s.', tags),
            HINT = 'DROP FEDERATED MODEL ... VERSION ... CASCADE drops them, and what depends on their functions.';
    END IF;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._check_dropped_version() IS
    'Lets a model''s owners drop a version that is not current; one that is tagged only by CASCADE';

CREATE TRIGGER check_dropped BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._check_dropped_version();

CREATE TRIGGER audit_dropped AFTER DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE OR REPLACE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE OR REPLACE FUNCTION @extschema@.federated_model_versions(
    model text,
    OUT version integer, OUT tags text[], OUT round_number integer, OUT created_at timestamptz, OUT is_current boolean,
    OUT global_loss double precision, OUT global_accuracy double precision, OUT epsilon double precision,
    OUT parameters_sha256 text, OUT global_loss_std_error double precision, OUT global_accuracy_std_error double precision,
    OUT retired_at timestamptz, OUT parent text, OUT ancestors jsonb
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.version, ARRAY(SELECT t.name FROM federated.tag AS t
                            WHERE t.model_id = v.model_id AND t.version = v.version ORDER BY t.name),
           v.round_number, v.created_at, v.is_current, v.global_loss, v.global_accuracy, v.epsilon, encode(v.sha256, 'hex'),
           v.global_loss_std_error, v.global_accuracy_std_error, v.retired_at,
           federated._parent_name(v.run_id), federated._ancestors(v.run_id, w.name)
    FROM federated.version AS v JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
    WHERE v.model_id = federated._model_id(federated_model_versions.model)
    ORDER BY v.version
$$;

COMMENT ON FUNCTION @extschema@.federated_model_versions(text) IS
    'The versions of a model, one for each run that left one; round_number is the round that was published: the best evaluated one, or the last where keep_best is false or none was evaluated; loss and accuracy are NULL where the round was not evaluated, epsilon (the most charged node''s, over the whole workspace, when the run ended) without a budget; retired_at is set where data subjects were erased that the version had learned from, which predicts nothing since; parent is the version that its run began with (transfer_from), ancestors that and those before it, the nearest first: what those of another workspace cost comes on top of epsilon, as their note says; both are NULL of all others, and name models as they were called then';

CREATE OR REPLACE FUNCTION federated._distance(a federated.version, b federated.version) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN a.features = b.features AND a.prediction -> 'link' = b.prediction -> 'link'
                     AND a.prediction -> 'encoding' IS NOT DISTINCT FROM b.prediction -> 'encoding'
                     AND 'linear' = ALL (ARRAY[coalesce(a.prediction ->> 'kind', 'linear'), coalesce(b.prediction ->> 'kind', 'linear')])
                THEN (
        SELECT sqrt(sum(power(s.one * (a.prediction ->> 'target_scale')::double precision
                              - s.other * (b.prediction ->> 'target_scale')::double precision, 2)))
        FROM unnest(federated._json_numbers(a.prediction -> 'slopes'), federated._json_numbers(b.prediction -> 'slopes'))
             AS s (one, other)) END
$$;

COMMENT ON FUNCTION federated._distance(federated.version, federated.version) IS
    'L2 distance of two linear versions'' coefficients in raw input units; NULL where features or their encoding differ or numbers were not kept';

CREATE OR REPLACE FUNCTION federated._version_metrics(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT jsonb_build_object('version', subject.version, 'round_number', subject.round_number,
        'global_loss', subject.global_loss, 'global_accuracy', subject.global_accuracy, 'epsilon', subject.epsilon,
        'global_loss_std_error', subject.global_loss_std_error,
        'global_accuracy_std_error', subject.global_accuracy_std_error, 'parent', federated._parent_name(subject.run_id))
$$;

COMMENT ON FUNCTION federated._version_metrics(federated.version) IS 'How well a version did, as JSON';

-- Reads the columns of a version that nobody but the coordinator may (its sealed parameters) as NULL.
CREATE OR REPLACE FUNCTION federated._read_version(model text, label text) RETURNS federated.version
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ROW(v.version_id, v.model_id, v.version, v.run_id, v.round_number, v.features, v.scaling, NULL, v.sha256,
               v.global_loss, v.global_accuracy, v.epsilon, v.is_current, v.created_at, v.prediction,
               v.global_loss_std_error, v.global_accuracy_std_error, v.base_loss, v.global_precision, v.global_recall,
               v.global_f1_score, v.global_rmse, v.report, NULL, v.retired_at, v.retired_by, v.withheld)::federated.version
    FROM federated.version AS v
    WHERE v.model_id = federated._model_id(model) AND v.version = federated._version_number(model, label)
$$;

COMMENT ON FUNCTION federated._read_version(text, text) IS 'A version without its sealed parameters, or error 42704';

-- A model made before names were checked may have an @ in its own.
CREATE FUNCTION federated._read_reference(reference text) RETURNS federated.version
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_sign    integer := strpos(reference, '@');
    model_name text := reference;
    label      text;
    subject    federated.version;
BEGIN
    IF at_sign > 0 AND NOT EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN
        label := split_part(reference, '@', -1);
        model_name := left(reference, -1 - length(label));
    ELSE
        label := (SELECT v.version::text FROM federated.version AS v
                  WHERE v.model_id = federated._model_id(reference) AND v.is_current);
    END IF;
    IF label IS NULL THEN
        PERFORM federated._predict_untrained(model_name);
    END IF;
    subject := federated._read_version(model_name, label);
    IF subject.retired_at IS NOT NULL THEN
        PERFORM federated._refuse_withdrawn(model_name, subject.version, true);
    END IF;
    RETURN subject;
END
$$;

COMMENT ON FUNCTION federated._read_reference(text) IS
    'The version that model@tag or model@number names, or the current one of a model, without its sealed parameters; 42704 where there is none, 55000 where none is current or it was retired';

-- Who is held out belongs to a node, its dataset and the share; figures of other rows, or of another kind, are no difference.
CREATE FUNCTION federated._incomparable(a federated.version, b federated.version) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH one AS (
        SELECT v.place, v.global_loss IS NULL AS is_unknown, r.options,
               r.policy ->> 'privacy_budget' IS NOT NULL AS is_private,
               (SELECT array_agg(p.node_id ORDER BY p.node_id)
                FROM federated.participation AS p
                WHERE p.run_id = v.run_id AND p.round_number = v.round_number AND p.outcome = 'received'
                  -- The figures are those of before the report, which may be of another round's model.
                  AND p.exchange = (SELECT max(q.exchange) FROM federated.participation AS q
                                    WHERE q.run_id = v.run_id AND q.round_number = v.round_number
                                      AND q.step <> 'report')) AS nodes
        FROM (VALUES (1, (a).run_id, (a).round_number, (a).global_loss),
                     (2, (b).run_id, (b).round_number, (b).global_loss)) AS v (place, run_id, round_number, global_loss)
        JOIN federated.run AS r USING (run_id)
    )
    SELECT nullif(concat_ws('; ',
        CASE WHEN x.is_unknown OR y.is_unknown THEN 'a loss is not known' END,
        (SELECT string_agg(format('%s differs', o.name), '; ' ORDER BY o.place)
         FROM unnest(ARRAY['algorithm', 'target', 'dataset', 'validation_split']) WITH ORDINALITY AS o (name, place)
         WHERE x.options -> o.name IS DISTINCT FROM y.options -> o.name),
        CASE WHEN x.is_private <> y.is_private THEN 'only one was measured under a privacy_budget' END,
        CASE WHEN x.nodes IS DISTINCT FROM y.nodes THEN 'other nodes evaluated them' END), '')
    FROM one AS x CROSS JOIN one AS y WHERE x.place = 1 AND y.place = 2
$$;

COMMENT ON FUNCTION federated._incomparable(federated.version, federated.version) IS
    'Why the figures of two versions are not of the same held-out rows, or not of one kind; NULL where they are';

CREATE FUNCTION federated._joint_error(one double precision, other double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    -- The larger first, so that no square overflows.
    SELECT CASE WHEN num_nulls(one, other) > 0 THEN NULL WHEN greatest(one, other) = 0 THEN 0
                ELSE greatest(one, other) * sqrt(1 + power(least(one, other) / greatest(one, other), 2)) END
$$;

COMMENT ON FUNCTION federated._joint_error(double precision, double precision) IS
    'Standard error of the difference of two figures that have nothing in common; NULL where one is not known';

CREATE OR REPLACE FUNCTION @extschema@.compare_federated_models(model text, version_a text, version_b text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    a      federated.version;
    b      federated.version;
    reason text;
BEGIN
    IF num_nulls(version_a, version_b) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the versions to compare must not be null';
    END IF;
    a := federated._read_version(model, version_a);
    b := federated._read_version(model, version_b);
    reason := federated._incomparable(a, b);
    RETURN jsonb_build_object(
        'version_a', federated._version_metrics(a), 'version_b', federated._version_metrics(b),
        'comparable', reason IS NULL, 'reason', reason,
        'difference', jsonb_build_object(
            'global_loss', b.global_loss - a.global_loss, 'global_accuracy', b.global_accuracy - a.global_accuracy,
            'epsilon', b.epsilon - a.epsilon, 'round_number', b.round_number - a.round_number,
            'global_loss_std_error', federated._joint_error(a.global_loss_std_error, b.global_loss_std_error),
            'global_accuracy_std_error',
            federated._joint_error(a.global_accuracy_std_error, b.global_accuracy_std_error)),
        'parameter_distance', federated._distance(a, b));
END
$$;

COMMENT ON FUNCTION @extschema@.compare_federated_models(text, text, text) IS
    'Two versions of a model, each named by tag or number: their metrics, b minus a with its standard error (at most: without a budget both are of the same rows, and the difference is known better), comparable and, where they are not, reason (other held-out rows or nodes, another algorithm, only one under a budget), and parameter_distance, the L2 distance of their coefficients in raw feature units (null where features differ or a version''s numbers were not kept or are sealed)';

-- Versions that do not predict: retired ones, of which only the hash stays, and ones that are withheld for a while.
--
-- What always holds: what a version's functions do follows from its row, in the transaction that changes that; they keep their
-- signatures, so that nothing that depends on them is in the way.
CREATE FUNCTION federated._why_withdrawn(
    model text, version integer, is_retired boolean, successor integer, OUT message text, OUT hint text
)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN is_retired
               THEN format('version %s of federated model "%s" was retired: data subjects were erased that it had learned from', version, model)
               ELSE format('version %s of federated model "%s" does not predict while an erasure is carried out', version, model) END,
           CASE WHEN NOT is_retired THEN 'federated_erasure_status shows how far the erasure has come.'
                WHEN successor IS NULL AND EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = model)
                    THEN format('SELECT state, message FROM federated_subscriptions WHERE model_name = %L says what takes its place.', model)
                WHEN successor IS NULL THEN format('START FEDERATED TRAINING %s makes a version without them.', quote_ident(model))
                ELSE format('Version %s is the current one: federated_predict(%L, ...).', successor, model) END
$$;

COMMENT ON FUNCTION federated._why_withdrawn(text, integer, boolean, integer) IS
    'What a version says that was retired, or else is withheld; successor: which one is current, NULL for none';

CREATE FUNCTION federated._refuse_withdrawn(model text, version integer, is_retired boolean) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said record;
BEGIN
    SELECT w.* INTO said FROM federated._why_withdrawn(model, version, is_retired, (
        SELECT v.version FROM federated.held_version AS v
        WHERE v.model_name = _refuse_withdrawn.model AND v.is_current AND NOT v.is_retired)) AS w;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = said.message, HINT = said.hint;
END
$$;

COMMENT ON FUNCTION federated._refuse_withdrawn(text, integer, boolean) IS 'Raises 55000 for a version that was retired, or else is withheld';

CREATE FUNCTION federated._write_refusal(function_name text, message text, hint text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    form record;
BEGIN
    FOR form IN
        SELECT n.nspname AS schema_name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('federated_model', 'federated_row', 'federated_proba') AND p.proname::text = function_name
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY INVOKER AS %L',
            form.schema_name, function_name, form.arguments, form.result,
            format(E'BEGIN\n    RAISE EXCEPTION USING ERRCODE = ''55000'', MESSAGE = %L, HINT = %L;\nEND', message, hint));
    END LOOP;
    PERFORM federated._finish_model_function(function_name, message);
END
$$;

COMMENT ON FUNCTION federated._write_refusal(text, text, text) IS 'Has a model''s or version''s function answer 55000, in all its forms';

CREATE FUNCTION federated._withdraw_functions(subject federated.version, was_current boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = subject.model_id);
    successor  integer := (SELECT v.version FROM federated.version AS v WHERE v.model_id = subject.model_id AND v.is_current);
BEGIN
    PERFORM federated._write_refusal(k.function_name, w.message, w.hint)
    FROM federated._why_withdrawn(model_name, subject.version, subject.retired_at IS NOT NULL, successor) AS w
    CROSS JOIN LATERAL (
        SELECT model_name || '@' || subject.version AS function_name
        UNION ALL
        SELECT model_name || '@' || t.name FROM federated.tag AS t WHERE t.model_id = subject.model_id AND t.version = subject.version
        UNION ALL
        SELECT model_name WHERE was_current
    ) AS k;
END
$$;

COMMENT ON FUNCTION federated._withdraw_functions(federated.version, boolean) IS
    'Has all functions of a version that was retired or is withheld say so; was_current: the model''s own is one of them';

CREATE FUNCTION federated._list_withdrawn(model_id bigint) RETURNS TABLE (subject federated.version, labels text[], is_shown boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v, ARRAY(SELECT v.version::text UNION ALL
                    SELECT t.name FROM federated.tag AS t WHERE t.model_id = v.model_id AND t.version = v.version),
           -- The model's own function says what the last version says where none is current.
           v.is_current OR NOT EXISTS (
               SELECT FROM federated.version AS o WHERE o.model_id = v.model_id AND (o.is_current OR o.version > v.version))
    FROM federated.version AS v
    WHERE v.model_id = _list_withdrawn.model_id AND (v.retired_at IS NOT NULL OR v.withheld)
$$;

COMMENT ON FUNCTION federated._list_withdrawn(bigint) IS
    'The versions of a model that were retired or are withheld, with what their functions are called behind the @; is_shown: the model''s own function is one of them';

CREATE FUNCTION federated._restore_functions(subject federated.version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name  text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = subject.model_id);
    description text := federated._describe_version(model_name, subject.version, subject.run_id);
BEGIN
    PERFORM federated._define_version(k.function_name, k.description, subject.model_id, subject.version)
    FROM (
        SELECT model_name || '@' || subject.version AS function_name, description
        UNION ALL
        SELECT model_name || '@' || t.name, description || format(', tagged %s', t.name)
        FROM federated.tag AS t WHERE t.model_id = subject.model_id AND t.version = subject.version
        UNION ALL
        SELECT model_name, description WHERE subject.is_current
    ) AS k
    WHERE octet_length(k.function_name) <= 63;
END
$$;

COMMENT ON FUNCTION federated._restore_functions(federated.version) IS 'Has all functions of a version predict again';

-- Runs as federated_owner, which owns the functions.
CREATE FUNCTION federated._keep_withdrawn_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.retired_at IS NOT NULL OR NEW.withheld THEN
        PERFORM federated._withdraw_functions(NEW, OLD.is_current);
    ELSIF NEW.prediction IS NOT NULL THEN
        PERFORM federated._restore_functions(NEW);
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_withdrawn_functions() IS 'Keeps a version''s functions in step with whether it predicts';

-- Sorts behind publish_version: what is published last says what the row says.
CREATE TRIGGER withdraw_functions AFTER UPDATE OF retired_at, withheld ON federated.version
    FOR EACH ROW WHEN (OLD.retired_at IS DISTINCT FROM NEW.retired_at OR OLD.withheld <> NEW.withheld)
    EXECUTE FUNCTION federated._keep_withdrawn_functions();

CREATE FUNCTION federated._refuse_retired_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT v.retired_at, v.withheld INTO subject
    FROM federated.version AS v WHERE v.model_id = NEW.model_id AND v.version = NEW.version;
    IF subject.retired_at IS NOT NULL OR subject.withheld AND TG_TABLE_NAME = 'version' THEN
        PERFORM federated._refuse_withdrawn(m.name, NEW.version, subject.retired_at IS NOT NULL)
        FROM federated.model AS m WHERE m.model_id = NEW.model_id;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._refuse_retired_version() IS
    'Lets no version that was retired be made current or be given a tag, nor one be made current while it is withheld';

CREATE TRIGGER refuse_retired BEFORE UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._refuse_retired_version();

CREATE TRIGGER refuse_retired BEFORE INSERT OR UPDATE OF version ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._refuse_retired_version();

-- The daemon may take away what a version learned, and with its retirement alone.
CREATE FUNCTION federated._refuse_rewritten_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'what a version learned is not rewritten, only taken away as it is retired';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._refuse_rewritten_version() IS 'Lets what a version learned be taken away with its retirement alone';

CREATE TRIGGER refuse_rewritten
    BEFORE UPDATE OF retired_by, prediction, prediction_arrays, sealed, scaling, report ON federated.version
    FOR EACH ROW WHEN (
        -- Sealed anew under another key, it is what it was.
        (OLD.sealed = '' OR NEW.sealed = '' OR OLD.retired_at IS NOT NULL OR NEW.retired_at IS NOT NULL
            OR (NEW.retired_by, NEW.prediction, NEW.prediction_arrays, NEW.scaling, NEW.report)
               IS DISTINCT FROM (OLD.retired_by, OLD.prediction, OLD.prediction_arrays, OLD.scaling, OLD.report))
        AND (OLD.retired_at IS NOT NULL OR NEW.retired_at IS NULL OR NEW.prediction IS NOT NULL OR NEW.prediction_arrays IS NOT NULL
        OR NEW.sealed <> '' OR NEW.scaling <> '{}' OR NEW.report IS NOT NULL))
    EXECUTE FUNCTION federated._refuse_rewritten_version();

CREATE TRIGGER audit_retired AFTER UPDATE OF retired_at ON federated.version
    FOR EACH ROW WHEN (OLD.retired_at IS NULL AND NEW.retired_at IS NOT NULL) EXECUTE FUNCTION federated._audit();

-- What a node's daemon does with what the coordinator offers. All of it is another organisation's word: it is numbers, names and
-- labels of bounded size or it is refused, and the version before stays whole.

-- A text of the other side's, as one line of bounded length.
CREATE FUNCTION federated._one_line(words text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(regexp_replace(left(words, 2000), '[[:cntrl:][:space:]]+', ' ', 'g'), 1000)
$$;

COMMENT ON FUNCTION federated._one_line(text) IS 'A text as one line of at most 1000 characters';

CREATE FUNCTION federated._lock_subscription(subscription text) RETURNS federated.subscription
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.subscription;
BEGIN
    SELECT s.* INTO subject FROM federated.subscription AS s WHERE s.name = subscription FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated subscription "%s" is no longer there', subscription);
    END IF;
    RETURN subject;
END
$$;

COMMENT ON FUNCTION federated._lock_subscription(text) IS 'A subscription, locked until the transaction ends; 55000 where there is none of that name';

CREATE FUNCTION federated._hear_offer(
    subscription text, workspace text, model text, wanted text, outcome text, version integer, version_key uuid, reason text
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject    federated.subscription := federated._lock_subscription(subscription);
    is_offered boolean := outcome IS NOT DISTINCT FROM 'offered';
    is_news    boolean := ROW(subject.heard_outcome, subject.heard_version, subject.heard_key) IS DISTINCT FROM ROW(outcome, version, version_key);
    current    uuid := (SELECT d.version_key FROM federated.delivered_version AS d
                        WHERE d.subscription_id = subject.subscription_id AND d.is_current);
    -- A coordinator that was restored from before an erasure offers it again.
    is_retired boolean := EXISTS (SELECT FROM federated.delivered_version AS d WHERE d.subscription_id = subject.subscription_id
                                  AND d.version_key = version_key AND d.retired_at IS NOT NULL);
BEGIN
    IF ROW(subject.workspace, subject.model_name, subject.wanted) IS DISTINCT FROM ROW(workspace, model, wanted) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated subscription "%s" is another by now', subscription);
    ELSIF num_nulls(version, version_key) <> (CASE WHEN is_offered THEN 0 ELSE 2 END) OR version < 1
          OR coalesce(outcome, '') NOT IN ('offered', 'unknown', 'waiting', 'unavailable') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no offer of a version';
    END IF;
    UPDATE federated.subscription AS s
    SET heard_outcome = outcome, heard_version = version, heard_key = version_key, heard_at = clock_timestamp(),
        heard_since = CASE WHEN is_news OR s.heard_since IS NULL THEN clock_timestamp() ELSE s.heard_since END,
        reason = federated._one_line(reason),
        -- What was asked for is here.
        refresh = s.refresh AND (NOT is_offered OR version_key IS DISTINCT FROM current),
        refused_key = CASE WHEN is_retired OR version_key IS NOT DISTINCT FROM s.refused_key THEN version_key END,
        failure = CASE WHEN is_retired THEN format('version %s was retired, and is not taken again', version)
                       WHEN version_key IS NOT DISTINCT FROM s.refused_key THEN s.failure END
    WHERE s.subscription_id = subject.subscription_id;
    RETURN is_offered AND (subject.auto OR subject.refresh OR current IS NULL)
        AND version_key IS DISTINCT FROM current AND version_key IS DISTINCT FROM subject.refused_key AND NOT is_retired;
END
$$;

COMMENT ON FUNCTION federated._hear_offer(text, text, text, text, text, integer, uuid, text) IS
    'Notes what the coordinator says of a subscription; whether the version that it offers is to be taken. 55000 where the subscription is gone or another by now';

-- Of all that prediction and features say, nothing is taken for what it should be: types, sizes, numbers that are floats.
CREATE FUNCTION federated._check_delivery(features text[], contract jsonb, prediction jsonb, prediction_arrays bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind     text := prediction ->> 'kind';
    link     text := prediction ->> 'link';
    booleans boolean[];
    wrong    text;
BEGIN
    wrong := CASE
        WHEN jsonb_typeof(prediction) IS DISTINCT FROM 'object' OR jsonb_typeof(contract) IS DISTINCT FROM 'object' THEN 'it is no JSON object'
        -- What a number is written with may be longer than it: floats are not.
        WHEN jsonb_path_exists(prediction, '$.** ? (@.type() == "number" && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
             || @ > 0 && @ < 1e-330 || @ < 0 && @ > -1e-330))') THEN 'a number in it is no float'
        WHEN octet_length(prediction::text) > 67108864 THEN 'it is larger than 64 MiB'
        WHEN octet_length(prediction_arrays) > 536870912 THEN 'its arrays are larger than 512 MiB'
        WHEN array_ndims(features) IS DISTINCT FROM 1 OR array_lower(features, 1) <> 1 OR cardinality(features) > 1600 THEN 'it has no features, or more than 1600'
        WHEN array_position(features, NULL) IS NOT NULL OR EXISTS (
            SELECT FROM unnest(features) AS f WHERE f = '' OR octet_length(f) > 63 OR f ~ '[[:cntrl:]]') THEN 'a feature in it has no name that a column may have'
        WHEN cardinality(features) > (SELECT count(DISTINCT f) FROM unnest(features) AS f) THEN 'it has a feature twice'
        WHEN EXISTS (SELECT FROM jsonb_each(contract) AS c
                     WHERE c.key NOT IN ('algorithm', 'target', 'event', 'weights', 'offset') OR jsonb_typeof(c.value) <> 'string'
                        OR octet_length(c.value #>> '{}') NOT BETWEEN 1 AND 63) THEN 'what it is judged by are no names of columns'
        WHEN prediction <> federated._predicting(prediction) THEN 'it has more than a prediction has'
        WHEN coalesce(kind, 'linear') NOT IN ('linear', 'softmax_linear', 'network', 'convolution', 'series', 'trees', 'votes') THEN 'there are no predictions of its kind here'
        WHEN jsonb_typeof(prediction -> 'link') IS DISTINCT FROM 'string' OR link NOT IN ('identity', 'exp', 'logistic', 'softmax')
             OR (link = 'softmax') <> (CASE WHEN kind IN ('network', 'convolution', 'series', 'trees', 'votes') THEN link = 'softmax' ELSE kind IS NOT DISTINCT FROM 'softmax_linear' END)
            THEN 'there are no predictions of its link here'
        WHEN jsonb_typeof(prediction -> 'booleans') IS DISTINCT FROM 'array'
             OR jsonb_array_length(prediction -> 'booleans') <> cardinality(features)
             OR jsonb_path_exists(prediction, 'strict $.booleans[*] ? (@.type() != "boolean")') THEN 'it has no flag for each feature'
        WHEN prediction ? 'encoding' AND jsonb_typeof(prediction #> '{encoding,columns}') IS DISTINCT FROM 'array' THEN 'its encoding is none'
        WHEN jsonb_path_exists(prediction, '$.slopes.** ? (@.type() != "number" && @.type() != "array")')
             OR EXISTS (SELECT FROM unnest(ARRAY['fills', 'shifts', 'intercepts']) AS k
                        WHERE jsonb_path_exists(prediction -> k, '$[*] ? (@.type() != "number")')) THEN 'what should be numbers in it is none'
        WHEN EXISTS (SELECT FROM unnest(ARRAY['intercept', 'target_mean', 'target_scale']) AS k
                     WHERE prediction ? k AND jsonb_typeof(prediction -> k) <> 'number') THEN 'what should be a number in it is none'
        WHEN prediction ? 'classes' AND (
            jsonb_typeof(prediction -> 'classes') <> 'array' OR jsonb_array_length(prediction -> 'classes') NOT BETWEEN 2 AND 1000
            OR jsonb_path_exists(prediction, 'strict $.classes[*] ? (@.type() != "string")')) THEN 'its classes are no labels'
        WHEN link = 'softmax' AND NOT prediction ? 'classes' OR link = 'logistic' AND jsonb_array_length(prediction -> 'classes') <> 2
            THEN 'its classes are not as many as it predicts' END;
    IF wrong IS NULL THEN
        -- Inside CASE nothing is certain to be evaluated late.
        wrong := CASE WHEN EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(prediction -> 'classes', '[]')) AS c (label) GROUP BY c.label
                                   HAVING count(*) > 1 OR octet_length(c.label) > 120) THEN 'its classes are no labels' END;
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('this is no prediction: %s', wrong);
    END IF;
    booleans := federated._flags(prediction);
    PERFORM federated._check_columns(features, booleans, prediction);
    PERFORM federated._check_encoding(features, booleans, prediction);
END
$$;

COMMENT ON FUNCTION federated._check_delivery(text[], jsonb, jsonb, bytea) IS
    'Raises an error where what was delivered is not a prediction of bounded size';

CREATE FUNCTION federated._flags(prediction jsonb) RETURNS boolean[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT f.flag::boolean FROM jsonb_array_elements_text(prediction -> 'booleans')
                 WITH ORDINALITY AS f (flag, place) ORDER BY f.place)
$$;

COMMENT ON FUNCTION federated._flags(jsonb) IS 'Which features of a stored prediction are boolean, in their order';

CREATE FUNCTION federated._check_encoding(features text[], booleans boolean[], prediction jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slots  bigint;
    inputs bigint;
    wrong  text;
    -- Of models that vote each has levels of its own: of a bound of all, one of them could fill what the others need.
    models integer := CASE WHEN jsonb_typeof(prediction -> 'votes') = 'number'
        THEN least(greatest((prediction ->> 'votes')::numeric, 1), 1000) ELSE 1 END;
BEGIN
    SELECT sum(c.slots), sum(c.inputs),
           min(c.feature) FILTER (WHERE
               jsonb_typeof(coalesce(c.spec -> 'levels', '[]')) <> 'array' OR jsonb_array_length(coalesce(c.spec -> 'levels', '[]')) > models * 1000
               OR jsonb_typeof(coalesce(c.spec -> 'edges', '[]')) <> 'array' OR jsonb_array_length(coalesce(c.spec -> 'edges', '[]')) > 1000
               OR EXISTS (SELECT FROM unnest(ARRAY['null_level', 'other_level', 'missing_indicator', 'scaled']) AS k
                          WHERE c.spec ? k AND jsonb_typeof(c.spec -> k) <> 'boolean')
               OR EXISTS (SELECT FROM jsonb_object_keys(c.spec) AS k
                          WHERE k NOT IN ('column', 'kind', 'form', 'levels', 'null_level', 'other_level', 'edges', 'elements',
                                          'missing_indicator', 'scaled', 'shape')))
    INTO slots, inputs, wrong
    FROM federated._columns(features, booleans, prediction) AS c;
    wrong := coalesce(wrong, (
        SELECT min(c.feature) FROM federated._columns(features, booleans, prediction) AS c
        WHERE EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(c.spec -> 'levels', '[]')) AS l (level) WHERE octet_length(l.level) > 120)
           OR federated._json_numbers(coalesce(c.spec -> 'edges', '[]'))
              <> ARRAY(SELECT DISTINCT e FROM unnest(federated._json_numbers(coalesce(c.spec -> 'edges', '[]'))) AS e ORDER BY e)));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the encoding of feature "%s" is none that there is', wrong);
    ELSIF slots > 16000 OR inputs > 16000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = 'a prediction has at most 16000 inputs', DETAIL = format('This one has %s.', greatest(slots, inputs));
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_encoding(text[], boolean[], jsonb) IS
    'Raises an error where an encoding that was delivered is larger than any, or holds what an encoding has not';

-- What numpy would compute is looked at by what knows its arrays: a tree whose nodes lead in a circle would never end.
CREATE FUNCTION federated._check_numbers(prediction text, arrays bytea, encoding text) RETURNS text
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "find_fault")(prediction, arrays, encoding)
$$;

COMMENT ON FUNCTION federated._check_numbers(text, bytea, text) IS
    'What is wrong with the numbers of a prediction that numpy is to compute; NULL where they are sound';

-- A prediction that computes nothing for one of whom nothing is known computes nothing.
CREATE FUNCTION federated._try_prediction(function_name text, prediction jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found double precision[];
BEGIN
    IF federated._has_many_classes(prediction) THEN
        EXECUTE format('SELECT federated_proba.%I()', function_name) INTO found;
    ELSE
        EXECUTE format('SELECT ARRAY[federated_model.%I()]', function_name) INTO found;
    END IF;
    IF cardinality(found) IS DISTINCT FROM (CASE WHEN federated._has_many_classes(prediction) THEN jsonb_array_length(prediction -> 'classes') ELSE 1 END)
       OR EXISTS (SELECT FROM unnest(found) AS f WHERE f IS NULL OR f IN ('NaN', 'Infinity', '-Infinity')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'this is no prediction: for one of whom nothing is known it is not a number for each class, or a number';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._try_prediction(text, jsonb) IS 'Raises an error where the function of a version that was delivered computes nothing';

CREATE FUNCTION federated._check_scored(features text[], prediction jsonb, prediction_arrays bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    booleans boolean[] := federated._flags(prediction);
    wrong    text;
BEGIN
    IF federated._is_expression(features, booleans, prediction) THEN
        IF prediction_arrays IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no prediction: an expression has no arrays';
        END IF;
        RETURN;
    END IF;
    wrong := federated._check_numbers((prediction - '{encoding,booleans}'::text[])::text, prediction_arrays,
                                      federated._encoding_text(features, booleans, prediction));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('this is no prediction: %s', wrong);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_scored(text[], jsonb, bytea) IS
    'Raises an error where numpy could not compute what was delivered, or would not come to an end';

CREATE FUNCTION federated._forget_version(model_name text, former federated.delivered_version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._drop_model_function(model_name || '@' || former.version, 'restrict');
    DELETE FROM federated.delivered_version AS d WHERE d.delivery_id = former.delivery_id;
END
$$;

COMMENT ON FUNCTION federated._forget_version(text, federated.delivered_version) IS
    'Drops a delivered version and its own function; 2BP01 where other objects depend on that';

-- The same version once more is the row that is there: what depends on its function goes on. Of another one under its number, or
-- of its run, nothing stays.
CREATE FUNCTION federated._place_version(model_name text, taken federated.delivered_version) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept   uuid := (SELECT d.delivery_id FROM federated.delivered_version AS d
                    WHERE d.subscription_id = taken.subscription_id AND d.version = taken.version AND d.version_key = taken.version_key
                      AND d.features = taken.features AND d.prediction = taken.prediction
                      AND d.prediction_arrays IS NOT DISTINCT FROM taken.prediction_arrays);
    former federated.delivered_version;
BEGIN
    UPDATE federated.delivered_version AS d SET is_current = false WHERE d.subscription_id = taken.subscription_id AND d.is_current;
    IF kept IS NOT NULL THEN
        UPDATE federated.delivered_version AS d
        SET is_current = true, contract = taken.contract, body_sha256 = taken.body_sha256, header = taken.header,
            signature = taken.signature, certificate_sha256 = taken.certificate_sha256, delivered_at = taken.delivered_at,
            personal_run = taken.personal_run
        WHERE d.delivery_id = kept;
        RETURN kept;
    END IF;
    FOR former IN SELECT d.* FROM federated.delivered_version AS d WHERE d.subscription_id = taken.subscription_id
                  AND (d.version = taken.version OR d.version_key = taken.version_key) LOOP
        PERFORM federated._forget_version(model_name, former);
    END LOOP;
    INSERT INTO federated.delivered_version SELECT taken.*;
    RETURN taken.delivery_id;
END
$$;

COMMENT ON FUNCTION federated._place_version(text, federated.delivered_version) IS
    'Makes the row of a version that was delivered the current one; returns by what its functions know it';

CREATE FUNCTION federated._forget_former(subscription_id bigint, model_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former federated.delivered_version;
BEGIN
    FOR former IN SELECT d.* FROM federated.delivered_version AS d
                  WHERE d.subscription_id = _forget_former.subscription_id AND NOT d.is_current LOOP
        BEGIN
            PERFORM federated._forget_version(model_name, former);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- What a view or an index computes by it goes on.
            NULL;
        END;
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._forget_former(bigint, text) IS
    'Drops the versions before the current one, but for those on whose functions other objects depend';

-- Called in a subtransaction: what raises an error here leaves all as it was.
CREATE FUNCTION federated._store_delivery(model_name text, taken federated.delivered_version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_name    text := model_name || '@' || taken.version;
    description text := format('Version %s of federated model %s, delivered', taken.version, model_name);
    booleans    boolean[];
    numbers_id  uuid;
BEGIN
    PERFORM federated._check_delivery(taken.features, taken.contract, taken.prediction, taken.prediction_arrays);
    PERFORM federated._check_scored(taken.features, taken.prediction, taken.prediction_arrays);
    booleans := federated._flags(taken.prediction);
    numbers_id := federated._place_version(model_name, taken);
    PERFORM federated._define_prediction(model_name, description, taken.features, booleans, taken.prediction, numbers_id);
    IF octet_length(own_name) <= 63 AND numbers_id = taken.delivery_id THEN
        PERFORM federated._define_prediction(own_name, description, taken.features, booleans, taken.prediction, numbers_id);
    END IF;
    PERFORM federated._try_prediction(model_name, taken.prediction);
    PERFORM federated._forget_former(taken.subscription_id, model_name);
END
$$;

COMMENT ON FUNCTION federated._store_delivery(text, federated.delivered_version) IS
    'Makes a version that was delivered the current one: its row, the model''s function and its own; an earlier one goes, unless other objects depend on its function';

CREATE FUNCTION federated._may_pass(sqlstate text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(sqlstate, 2) IN ('40', '53', '57', '58', 'XX') OR sqlstate IN ('55P03', '25006')
$$;

COMMENT ON FUNCTION federated._may_pass(text) IS
    'Whether an error is of the server''s state and not of what was asked: it is worth another try';

-- Runs as federated_owner, the only role that may create anything in federated_model. prediction and contract are texts: what is
-- no JSON is refused here like all else that is wrong with them.
CREATE FUNCTION federated._take_version(
    subscription text, version integer, version_key uuid, features text[], contract text, prediction text, prediction_arrays bytea,
    body_sha256 bytea, header bytea, signature bytea, certificate_sha256 bytea, personal_run uuid DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject  federated.subscription := federated._lock_subscription(subscription);
    taken    federated.delivered_version;
    obstacle text;
    more     text;
BEGIN
    IF ROW('offered', version, version_key) IS DISTINCT FROM ROW(subject.heard_outcome, subject.heard_version, subject.heard_key) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated subscription "%s" was not offered', version, subscription);
    END IF;
    BEGIN
        IF octet_length(prediction) > 67108864 OR octet_length(contract) > 65536 THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'this is no prediction: it is larger than 64 MiB';
        END IF;
        taken := ROW(subject.subscription_id, version, version_key, gen_random_uuid(), features, contract::jsonb, prediction::jsonb,
                     prediction_arrays, body_sha256, header, signature, certificate_sha256, true, clock_timestamp(), NULL,
                     personal_run);
        PERFORM federated._store_delivery(subject.model_name, taken);
    EXCEPTION WHEN OTHERS THEN
        IF federated._may_pass(SQLSTATE) THEN
            RAISE;
        END IF;
        GET STACKED DIAGNOSTICS obstacle = MESSAGE_TEXT, more = PG_EXCEPTION_DETAIL;
        obstacle := federated._one_line(CASE SQLSTATE WHEN '2BP01' THEN
            format('other objects depend on the functions of federated model "%s" as they are (drop them, ALTER FEDERATED SUBSCRIPTION %I REFRESH, make them again): %s',
                   subject.model_name, subject.name, more)
            ELSE obstacle || coalesce(': ' || nullif(more, ''), '') END);
    END;
    UPDATE federated.subscription AS s
    SET refresh = s.refresh AND obstacle IS NOT NULL, refused_key = CASE WHEN obstacle IS NOT NULL THEN version_key END, failure = obstacle
    WHERE s.subscription_id = subject.subscription_id;
    RETURN obstacle;
END
$$;

COMMENT ON FUNCTION federated._take_version(text, integer, uuid, text[], text, text, bytea, bytea, bytea, bytea, bytea, uuid) IS
    'Makes a version that was offered and has come the current one of a subscription; or returns why it cannot be, notes that, and leaves all as it was';

CREATE FUNCTION federated._refuse_version(subscription text, version_key uuid, failure text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject federated.subscription := federated._lock_subscription(subscription);
BEGIN
    IF subject.heard_key IS DISTINCT FROM version_key THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('this version of federated subscription "%s" was not offered', subscription);
    END IF;
    UPDATE federated.subscription AS s SET refused_key = version_key, failure = coalesce(federated._one_line(failure), 'the node refused it')
    WHERE s.subscription_id = subject.subscription_id;
END
$$;

COMMENT ON FUNCTION federated._refuse_version(text, uuid, text) IS
    'Notes why a version that was offered is not taken, whoever found that';

-- Runs as federated_owner, which owns the functions.
CREATE FUNCTION federated._withdraw_version(subscription text, workspace text, model text, wanted text, version_key uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject federated.subscription := federated._lock_subscription(subscription);
    retired federated.delivered_version;
BEGIN
    IF ROW(subject.workspace, subject.model_name, subject.wanted) IS DISTINCT FROM ROW(workspace, model, wanted) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated subscription "%s" is another by now', subscription);
    END IF;
    UPDATE federated.delivered_version AS d SET retired_at = clock_timestamp(), prediction = '{}', prediction_arrays = NULL
    WHERE d.subscription_id = subject.subscription_id AND d.version_key = version_key AND d.retired_at IS NULL
    RETURNING d.* INTO retired;
    IF retired.version IS NULL THEN
        RETURN false;
    END IF;
    PERFORM federated._write_refusal(k.function_name, w.message, w.hint)
    FROM federated._why_withdrawn(model, retired.version, true, (
        SELECT d.version FROM federated.delivered_version AS d
        WHERE d.subscription_id = subject.subscription_id AND d.is_current AND d.retired_at IS NULL)) AS w
    CROSS JOIN LATERAL (SELECT model || '@' || retired.version AS function_name UNION ALL SELECT model WHERE retired.is_current) AS k;
    RETURN true;
END
$$;

COMMENT ON FUNCTION federated._withdraw_version(text, text, text, text, uuid) IS
    'Has a version that was delivered, and was retired where it was trained, predict nothing any more, and destroys its numbers; whether it did yet. 55000 where the subscription is gone or another by now';

-- What a node has of a model for itself: made at the end of a run from its own rows, sealed with a key that is in no database, and
-- put in the place of a version's numbers where this database's own subscription brings that version.
--
-- What always holds: it never leaves; it goes with the subscription, when the coordinator knows the model no more, and when a data
-- subject is erased whose rows this node held.
CREATE TABLE federated.personal_part (
    workspace    text NOT NULL,
    run_id       uuid NOT NULL,
    node_name    text NOT NULL,
    model_name   text NOT NULL,
    round_number integer NOT NULL CHECK (round_number >= 0),
    way          text NOT NULL CHECK (way IN ('fine_tune', 'local_head', 'ditto')),
    figures      jsonb NOT NULL CHECK (jsonb_typeof(figures) = 'object'),
    sealed       bytea NOT NULL CHECK (octet_length(sealed) <= 536870912),
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, run_id, node_name)
);

COMMENT ON TABLE federated.personal_part IS
    'A node''s own parts of models, of each model those of the last eight runs: no statement reads what is sealed';

COMMENT ON COLUMN federated.personal_part.workspace IS 'Part of the key: what another workspace calls a run is another run';

COMMENT ON COLUMN federated.personal_part.model_name IS 'The model, as its coordinator calls it';

COMMENT ON COLUMN federated.personal_part.round_number IS 'The run''s last round, in which it was made';

COMMENT ON COLUMN federated.personal_part.way IS 'How: as the model''s option personalization says';

COMMENT ON COLUMN federated.personal_part.figures IS
    'rows, and of the version (global) and of the node''s own model (personal) loss, accuracy and rmse over the rows that the node holds out';

COMMENT ON COLUMN federated.personal_part.sealed IS 'Its numbers, under a key of the node''s';

SELECT pg_catalog.pg_extension_config_dump('federated.personal_part', '');

CREATE FUNCTION federated._destroy_delivered(model_name text, delivered federated.delivered_version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    message text := format('what version %s of federated model "%s" predicted with here was the node''s own part, and is destroyed: a data subject was erased',
                           delivered.version, model_name);
    hint    text := format('SELECT state, message FROM federated_subscriptions WHERE model_name = %L says what takes its place.', model_name);
BEGIN
    UPDATE federated.delivered_version AS d SET is_current = false, prediction = '{}', prediction_arrays = NULL
    WHERE d.delivery_id = delivered.delivery_id;
    IF delivered.is_current THEN
        PERFORM federated._write_refusal(model_name, message, hint);
    END IF;
    BEGIN
        PERFORM federated._forget_version(model_name, delivered);
    EXCEPTION WHEN dependent_objects_still_exist THEN
        PERFORM federated._write_refusal(model_name || '@' || delivered.version, message, hint);
    END;
END
$$;

COMMENT ON FUNCTION federated._destroy_delivered(text, federated.delivered_version) IS
    'Destroys the numbers of a version that predicts here with the node''s own part; its functions say so until the version is brought again';

-- Runs as federated_owner, which owns the functions.
CREATE FUNCTION federated._destroy_personal(workspace text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    destroyed bigint;
BEGIN
    PERFORM FROM federated.subscription AS s WHERE s.workspace = workspace ORDER BY s.name FOR NO KEY UPDATE;
    WITH gone AS (DELETE FROM federated.personal_part AS p WHERE p.workspace = workspace RETURNING 1)
    SELECT count(*) INTO destroyed FROM gone;
    PERFORM federated._destroy_delivered(s.model_name, d)
    FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
    WHERE s.workspace = workspace AND d.personal_run IS NOT NULL AND d.prediction <> '{}' AND d.retired_at IS NULL;
    RETURN destroyed;
END
$$;

COMMENT ON FUNCTION federated._destroy_personal(text) IS
    'Destroys the node''s own parts of all models of a workspace, and the numbers of versions that predict with them; returns how many parts';

-- Runs as federated_owner: a participant''s DBA drops subscriptions, and reads and writes nothing that is sealed.
CREATE FUNCTION federated._drop_personal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.personal_part AS p WHERE p.workspace = OLD.workspace AND p.model_name = OLD.model_name;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._drop_personal() IS
    'Destroys the node''s own parts of a model that it subscribes to no more, or that its coordinator knows no more';

CREATE TRIGGER drop_personal AFTER DELETE ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._drop_personal();

CREATE TRIGGER forget_personal AFTER UPDATE OF heard_outcome ON federated.subscription
    FOR EACH ROW WHEN (NEW.heard_outcome = 'unknown') EXECUTE FUNCTION federated._drop_personal();

CREATE VIEW @extschema@.federated_personal_models AS
SELECT p.workspace, p.model_name, p.run_id AS run, p.way AS personalization, p.made_at,
       (p.figures ->> 'rows')::bigint AS held_out_rows,
       (p.figures #>> '{global,loss}')::double precision AS global_loss,
       (p.figures #>> '{personal,loss}')::double precision AS personal_loss,
       (p.figures #>> '{global,accuracy}')::double precision AS global_accuracy,
       (p.figures #>> '{personal,accuracy}')::double precision AS personal_accuracy,
       (p.figures #>> '{global,rmse}')::double precision AS global_rmse,
       (p.figures #>> '{personal,rmse}')::double precision AS personal_rmse,
       (SELECT max(d.version) FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
        WHERE s.workspace = p.workspace AND d.personal_run = p.run_id AND d.is_current AND d.retired_at IS NULL) AS predicts_version
FROM federated.personal_part AS p;

COMMENT ON VIEW @extschema@.federated_personal_models IS
    'At a participant: the models of which its node has a part of its own, and how that does beside the version that all have';

COMMENT ON COLUMN @extschema@.federated_personal_models.workspace IS 'The workspace in which the model is trained';

COMMENT ON COLUMN @extschema@.federated_personal_models.model_name IS 'The model, as its coordinator calls it';

COMMENT ON COLUMN @extschema@.federated_personal_models.run IS 'The run at whose end the part was made';

COMMENT ON COLUMN @extschema@.federated_personal_models.personalization IS 'How: fine_tune, local_head or ditto';

COMMENT ON COLUMN @extschema@.federated_personal_models.made_at IS 'When';

COMMENT ON COLUMN @extschema@.federated_personal_models.held_out_rows IS 'Over how many rows the figures are: those that the node held out of the run';

COMMENT ON COLUMN @extschema@.federated_personal_models.global_loss IS 'The loss of the version that all have';

COMMENT ON COLUMN @extschema@.federated_personal_models.personal_loss IS 'The loss of the node''s own model';

COMMENT ON COLUMN @extschema@.federated_personal_models.global_accuracy IS 'The accuracy of the version that all have; NULL of a number, and where a cell of the confusion is too small';

COMMENT ON COLUMN @extschema@.federated_personal_models.personal_accuracy IS 'The accuracy of the node''s own model; NULL as before';

COMMENT ON COLUMN @extschema@.federated_personal_models.global_rmse IS 'The root mean square error of the version that all have; NULL of classes';

COMMENT ON COLUMN @extschema@.federated_personal_models.personal_rmse IS 'The root mean square error of the node''s own model; NULL of classes';

COMMENT ON COLUMN @extschema@.federated_personal_models.predicts_version IS
    'The version that the model''s function computes here with this part; NULL where it computes with none, or with another';

-- The coordinator's side of subscriptions: to whom a model is granted, what nodes say that they subscribe to, and what each of
-- them is offered. Nothing is kept of what was sent: a delivery is due where what is offered is not what the node says it has.
CREATE TABLE federated.subscribe_grant (
    model_id   bigint NOT NULL REFERENCES federated.model ON DELETE CASCADE,
    node_id    bigint REFERENCES federated.node ON DELETE CASCADE,
    name       text NOT NULL CHECK (name <> ''),
    granted_by name NOT NULL DEFAULT current_user,
    granted_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX subscribe_grant_once ON federated.subscribe_grant (model_id, (coalesce(node_id, 0)));

CREATE INDEX subscribe_grant_by_node ON federated.subscribe_grant (node_id);

COMMENT ON TABLE federated.subscribe_grant IS 'Which nodes may subscribe to which model';

COMMENT ON COLUMN federated.subscribe_grant.node_id IS 'NULL: all nodes of the model''s workspace, those that are registered later too';

COMMENT ON COLUMN federated.subscribe_grant.name IS 'The node''s name as the audit log shows it, ALL NODES where it is all';

CREATE TABLE federated.subscriber (
    node_id       bigint NOT NULL REFERENCES federated.node ON DELETE CASCADE,
    name          text NOT NULL CHECK (name <> '' AND octet_length(name) <= 63),
    model_name    text NOT NULL CHECK (model_name <> '' AND octet_length(model_name) <= 63),
    wanted        text CHECK (wanted <> '' AND octet_length(wanted) <= 63),
    takes         boolean NOT NULL DEFAULT true,
    held_key      uuid,
    held_version  integer CHECK (held_version > 0),
    heard_outcome text CHECK (heard_outcome IN ('offered', 'unknown', 'waiting', 'unavailable')),
    heard_key     uuid,
    refused_key   uuid,
    kept_keys     uuid[] NOT NULL DEFAULT '{}' CHECK (cardinality(kept_keys) <= 100),
    failure       text CHECK (octet_length(failure) <= 4096),
    reported_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (node_id, name)
);

COMMENT ON TABLE federated.subscriber IS 'What nodes last said that they subscribe to and hold: their own word';

COMMENT ON COLUMN federated.subscriber.wanted IS 'A tag, or a version''s number; NULL: whichever is current';

COMMENT ON COLUMN federated.subscriber.takes IS 'Whether the node takes what it is offered; else it waits for its DBA''s REFRESH';

COMMENT ON COLUMN federated.subscriber.held_key IS 'The key of the version that the node''s function computes; NULL before it has one';

COMMENT ON COLUMN federated.subscriber.heard_outcome IS 'What the node last heard of its subscription; NULL before it heard anything';

COMMENT ON COLUMN federated.subscriber.refused_key IS 'The key of the version that the node could not take';

COMMENT ON COLUMN federated.subscriber.kept_keys IS 'The keys of earlier versions that something in the node''s database still depends on';

COMMENT ON COLUMN federated.subscriber.failure IS 'Why the last delivery did not arrive, as the coordinator saw it; NULL where it did';

SELECT pg_catalog.pg_extension_config_dump('federated.subscribe_grant', '');

SELECT pg_catalog.pg_extension_config_dump('federated.subscriber', '');

-- Restoring a dump may bring the row before its node.
CREATE FUNCTION federated._name_grant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.name := CASE WHEN NEW.node_id IS NULL THEN 'ALL NODES'
        ELSE coalesce((SELECT n.name FROM federated.node AS n WHERE n.node_id = NEW.node_id), NEW.name) END;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._name_grant() IS 'Has the audit log name the node that a grant is for, whoever writes the row';

CREATE TRIGGER name_grant BEFORE INSERT ON federated.subscribe_grant
    FOR EACH ROW EXECUTE FUNCTION federated._name_grant();

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.subscribe_grant
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.subscribe_grant
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

-- That a model is not granted and that there is none look the same: nobody finds out names by subscribing to them.
CREATE VIEW federated.offer AS
SELECT s.node_id, n.name AS node_name, w.name AS workspace, s.name AS subscription, s.model_name, g.model_id, g.is_granted, s.wanted,
       s.takes, s.held_key, s.held_version, s.heard_outcome, s.heard_key, s.refused_key, s.failure, s.reported_at,
       CASE WHEN NOT g.is_granted THEN 'unknown' WHEN v.version IS NULL THEN 'waiting' WHEN NOT v.has_numbers THEN 'unavailable'
            ELSE 'offered' END AS outcome,
       CASE WHEN v.has_numbers THEN v.version END AS version,
       CASE WHEN v.has_numbers THEN federated._version_key(v.run_id, v.version) END AS version_key,
       CASE WHEN NOT g.is_granted THEN 'there is no such model in the workspace, or it is not granted to this node'
            WHEN v.version IS NULL AND s.wanted IS NULL THEN 'the model has no current version yet'
            WHEN v.version IS NULL AND s.wanted ~ '^[0-9]+$' THEN
                CASE WHEN s.wanted::numeric <= g.dropped_version THEN format('version %s was dropped', s.wanted)
                     ELSE format('there is no version %s yet', s.wanted) END
            WHEN v.version IS NULL THEN format('no version has the tag "%s" yet', s.wanted)
            WHEN v.is_retired THEN format('version %s was retired: data subjects were erased that it had learned from', v.version)
            WHEN v.is_sealed THEN format('version %s is sealed: its numbers do not leave the database', v.version)
            WHEN NOT v.has_numbers THEN format('version %s was made by a release that kept no numbers', v.version) END AS reason
FROM federated.subscriber AS s
JOIN federated.node AS n USING (node_id)
JOIN federated.workspace AS w USING (workspace_id)
LEFT JOIN federated.model AS m ON m.workspace_id = n.workspace_id AND m.name = s.model_name
CROSS JOIN LATERAL (
    SELECT m.model_id, m.dropped_version, EXISTS (
        SELECT FROM federated.subscribe_grant AS k
        WHERE k.model_id = m.model_id AND (k.node_id = s.node_id OR k.node_id IS NULL)) AS is_granted
) AS g
LEFT JOIN LATERAL (
    SELECT v.version, v.run_id, v.prediction IS NOT NULL AND NOT v.prediction ? 'sealed' AS has_numbers,
           v.prediction ? 'sealed' AS is_sealed, v.retired_at IS NOT NULL AS is_retired
    FROM federated.version AS v
    WHERE g.is_granted AND v.model_id = m.model_id
      AND CASE WHEN s.wanted IS NULL THEN v.is_current WHEN s.wanted ~ '^[0-9]+$' THEN v.version = s.wanted::numeric
               ELSE v.version = (SELECT t.version FROM federated.tag AS t WHERE t.model_id = m.model_id AND t.name = s.wanted) END
) AS v ON true;

COMMENT ON VIEW federated.offer IS 'What each node that subscribes to a model is offered, beside what it says that it has';

COMMENT ON COLUMN federated.offer.outcome IS
    'offered; unknown (no such model in the node''s workspace, or not granted to it); waiting (no such version yet, or none is current); unavailable (its numbers were not kept, or are sealed)';

COMMENT ON COLUMN federated.offer.reason IS 'Why nothing is offered; NULL where something is';

-- What an erasure did is in later scripts.
CREATE FUNCTION federated._retired_versions() RETURNS TABLE (version integer, version_key uuid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT v.version, federated._version_key(v.run_id, v.version) FROM federated.version AS v WHERE v.retired_at IS NOT NULL
    UNION
    SELECT e.version, federated._version_key(e.run_id, e.version)
    FROM federated.erasure_version AS e JOIN federated.erasure AS k USING (order_id) JOIN federated.subject_order AS o USING (order_id)
    WHERE federated._retrains(o.terms) AND (e.retired_at IS NOT NULL OR k.retired_at IS NOT NULL);
END
$$;

COMMENT ON FUNCTION federated._retired_versions() IS 'Versions that were retired, and those that were dropped when they should have been';

-- Whoever is granted the model or not: what was delivered is to go.
CREATE VIEW federated.retired_holding AS
SELECT DISTINCT ON (s.node_id, s.name) s.node_id, s.name AS subscription, r.version, r.version_key
FROM federated.subscriber AS s
CROSS JOIN LATERAL unnest(s.kept_keys || s.held_key) AS h (version_key)
JOIN federated._retired_versions() AS r USING (version_key)
ORDER BY s.node_id, s.name, r.version;

COMMENT ON VIEW federated.retired_holding IS
    'Of each node''s subscription the first version that the node says it has and that was retired, or was dropped when it should have been';

CREATE FUNCTION federated._pending_deliveries() RETURNS TABLE (
    node_id bigint, workspace text, node_name text, name text, model_name text, wanted text, outcome text, version integer,
    version_key uuid, carries boolean, reason text
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.node_id, k.workspace, k.node_name, k.subscription, k.model_name, k.wanted, CASE WHEN k.tells THEN 'retired' ELSE k.outcome END,
           CASE WHEN k.tells THEN k.retired_version ELSE k.version END, CASE WHEN k.tells THEN k.retired_key ELSE k.version_key END,
           k.carries AND NOT k.tells,
           CASE WHEN k.tells THEN format('version %s was retired: data subjects were erased that it had learned from', k.retired_version)
                ELSE k.reason END
    FROM (
        -- What takes the place of a version that was retired comes first, unless it could not be brought.
        SELECT c.*, r.version AS retired_version, r.version_key AS retired_key,
               r.version_key IS NOT NULL AND (NOT c.carries OR c.failure IS NOT NULL) AS tells
        FROM (
        SELECT o.*, o.takes AND o.outcome = 'offered' AND o.held_key IS DISTINCT FROM o.version_key
                    AND o.refused_key IS DISTINCT FROM o.version_key AS carries
        FROM federated.offer AS o
        ) AS c LEFT JOIN federated.retired_holding AS r USING (node_id, subscription)
    ) AS k
    WHERE k.carries OR k.tells OR ROW(k.outcome, k.version_key) IS DISTINCT FROM ROW(k.heard_outcome, k.heard_key)
    ORDER BY k.node_id, k.subscription
$$;

COMMENT ON FUNCTION federated._pending_deliveries() IS
    'What nodes have not heard yet of their subscriptions, or heard and have not got; carries: whether the numbers go along. Its outcome retired is about a version that the node has';

CREATE FUNCTION federated._offered_version(
    key uuid, OUT version integer, OUT features text[], OUT contract jsonb, OUT prediction text, OUT prediction_arrays bytea
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.version, v.features, v.contract, federated._predicting(v.prediction)::text, v.prediction_arrays
    FROM federated.held_version AS v WHERE v.numbers_id = key
$$;

COMMENT ON FUNCTION federated._offered_version(uuid) IS 'What travels of a version: how it predicts, and nothing of how it was found';

-- Who would lose a model: a subscription that is not granted has no say.
CREATE FUNCTION federated._list_subscribers(model_id bigint, version integer, tag text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT format('subscription "%s" of node "%s"', o.subscription, o.node_name)
        FROM federated.offer AS o
        WHERE o.model_id = _list_subscribers.model_id AND o.is_granted
          AND CASE WHEN tag IS NOT NULL THEN o.wanted = tag
                   WHEN _list_subscribers.version IS NULL THEN true
                   WHEN o.wanted ~ '^[0-9]+$' THEN o.wanted::numeric = _list_subscribers.version
                   ELSE o.wanted IN (SELECT t.name FROM federated.tag AS t WHERE t.model_id = _list_subscribers.model_id
                                     AND t.version = _list_subscribers.version) END
        ORDER BY o.node_name, o.subscription)
$$;

COMMENT ON FUNCTION federated._list_subscribers(bigint, integer, text) IS
    'The subscriptions to a model that are granted, to a version or a tag of it only those that want it';

CREATE FUNCTION federated._refuse_loss(deed text, remedy text, subscribers text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named text := array_to_string(subscribers[1:20], E'\n')
        || CASE WHEN cardinality(subscribers) > 20 THEN format(E'\nand %s more', cardinality(subscribers) - 20) ELSE '' END;
BEGIN
    IF cardinality(subscribers) = 0 THEN
        RETURN;
    ELSIF coalesce(current_setting('federated.drop_behavior', true), '') = 'cascade' THEN
        RAISE NOTICE 'nodes that subscribe keep what they have, and get no later version of it' USING DETAIL = named;
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('cannot %s because nodes subscribe to it', deed), DETAIL = named, HINT = remedy;
END
$$;

COMMENT ON FUNCTION federated._refuse_loss(text, text, text[]) IS
    'Raises 2BP01, naming the subscriptions that would get nothing more; with CASCADE a notice';

CREATE FUNCTION federated._keep_subscribers() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = OLD.model_id);
    labels     jsonb := to_jsonb(OLD);
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'model' THEN
        IF TG_OP = 'UPDATE' THEN
            PERFORM set_config('federated.drop_behavior', 'restrict', true);
            PERFORM federated._refuse_loss(
                format('rename federated model "%s"', OLD.name),
                'They know the model by its name. REVOKE FEDERATED SUBSCRIBE ON MODEL ... first; their DBAs then subscribe to the new name.',
                federated._list_subscribers(OLD.model_id, NULL, NULL));
            RETURN NEW;
        END IF;
        PERFORM federated._refuse_loss(format('drop federated model "%s"', OLD.name),
            'Use DROP FEDERATED MODEL ... CASCADE to drop it all the same.',
            federated._list_subscribers(OLD.model_id, NULL, NULL));
    WHEN 'version' THEN
        PERFORM federated._refuse_loss(format('drop version %s of federated model "%s"', OLD.version, model_name),
            'Use DROP FEDERATED MODEL ... VERSION ... CASCADE to drop it all the same.',
            federated._list_subscribers(OLD.model_id, OLD.version, NULL));
    ELSE
        -- A tag that goes with its model or version: that was said of these.
        IF pg_trigger_depth() > 1 THEN
            RETURN OLD;
        END IF;
        PERFORM federated._refuse_loss(format('drop the tag "%s" of federated model "%s"', labels ->> 'name', model_name),
            'Use DROP FEDERATED MODEL ... TAG ... CASCADE to drop it all the same; TAG ... REPLACE moves it.',
            federated._list_subscribers(OLD.model_id, NULL, labels ->> 'name'));
    END CASE;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._keep_subscribers() IS
    'Lets a model, a version or a tag that nodes subscribe to be dropped only by CASCADE, and such a model not be renamed';

CREATE TRIGGER check_subscribers BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribers();

CREATE TRIGGER refuse_subscribed BEFORE UPDATE OF name ON federated.model
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._keep_subscribers();

CREATE TRIGGER check_subscribers BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribers();

CREATE TRIGGER check_subscribers BEFORE DELETE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribers();

CREATE VIEW @extschema@.federated_subscribers AS
SELECT k.workspace, k.model_name, k.node_name, k.subscription AS subscription_name, k.is_granted AS granted,
       coalesce(k.wanted, 'latest') AS version_wanted, k.held_version AS version, k.version AS offered_version, k.state,
       CASE k.state
           WHEN 'current' THEN NULL
           WHEN 'retired' THEN coalesce(k.failure, format('the node is told that version %s was retired', k.retired_version))
           WHEN 'refused' THEN 'the node could not take it: federated_subscriptions there says why'
           WHEN 'behind' THEN coalesce(k.failure, CASE WHEN k.takes THEN 'it is on its way'
               ELSE 'its DBA has later versions wait for ALTER FEDERATED SUBSCRIPTION ... REFRESH' END)
           ELSE k.reason END AS message,
       k.reported_at
FROM (
    SELECT o.*, r.version AS retired_version, CASE WHEN r.version IS NOT NULL THEN 'retired' WHEN o.outcome <> 'offered' THEN o.outcome WHEN o.held_key = o.version_key THEN 'current'
                     WHEN o.refused_key = o.version_key THEN 'refused' ELSE 'behind' END AS state
    FROM federated.offer AS o LEFT JOIN federated.retired_holding AS r USING (node_id, subscription)
) AS k;

COMMENT ON VIEW @extschema@.federated_subscribers IS
    'At the coordinator: which nodes subscribe to which models, by their own word, and what each is offered';

COMMENT ON COLUMN @extschema@.federated_subscribers.workspace IS 'The node''s workspace';

COMMENT ON COLUMN @extschema@.federated_subscribers.model_name IS 'As the node names it: there may be none of that name';

COMMENT ON COLUMN @extschema@.federated_subscribers.subscription_name IS 'As its DBA named it';

COMMENT ON COLUMN @extschema@.federated_subscribers.granted IS 'Whether there is such a model in the node''s workspace, and the node may subscribe to it';

COMMENT ON COLUMN @extschema@.federated_subscribers.node_name IS 'The node whose database''s own DBA subscribes';

COMMENT ON COLUMN @extschema@.federated_subscribers.version_wanted IS 'A tag, a version''s number, or latest: whichever is current';

COMMENT ON COLUMN @extschema@.federated_subscribers.version IS 'The version that the node says its function computes; NULL before it has one';

COMMENT ON COLUMN @extschema@.federated_subscribers.offered_version IS 'The version that it is offered; NULL where there is none to offer';

COMMENT ON COLUMN @extschema@.federated_subscribers.state IS
    'retired: the node still has a version that was retired; current: the node has what it is offered; behind: not yet; refused: it could not take it; waiting: there is no such version yet, or none is current; unavailable: the version''s numbers were not kept; unknown: there is no such model in the workspace, or it is not granted to the node';

COMMENT ON COLUMN @extschema@.federated_subscribers.message IS 'Why the node has not what it wants; NULL where it has';

COMMENT ON COLUMN @extschema@.federated_subscribers.reported_at IS 'When the node last said so';

-- What is sealed in this database, under which root key, and what is left to be sealed anew after a rotation.
--
-- What always holds: no key is here, and nothing that a key follows from; a root key is known by a keyed hash of its own. Of a sealed
-- value the first 96 bytes name that key and hold the row's own key, wrapped: another root key changes these and nothing else
-- (src/heliosdb/transport/at_rest.py).
CREATE TABLE federated.root_key (
    holder     text NOT NULL CHECK (holder IN ('coordinator', 'node')),
    name       text NOT NULL CHECK (name ~ '^[0-9a-f]{16}$'),
    status     text NOT NULL CHECK (status IN ('current', 'former', 'dropped')),
    source     text NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_used timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (holder, name)
);

CREATE UNIQUE INDEX root_key_one_current ON federated.root_key (holder) WHERE status = 'current';

COMMENT ON TABLE federated.root_key IS 'Which root keys this database''s daemons have sealed with; the keys are in no database';

COMMENT ON COLUMN federated.root_key.name IS 'A keyed hash of the key, 8 bytes: as it stands in what it sealed';

COMMENT ON COLUMN federated.root_key.status IS 'current: seals; former: still opens what it sealed; dropped: is no longer at hand';

COMMENT ON COLUMN federated.root_key.source IS 'Where the daemon had it from: a file, an environment variable or a command, by its name';

COMMENT ON COLUMN federated.root_key.since IS 'When it became what status says';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF status ON federated.root_key
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

SELECT pg_catalog.pg_extension_config_dump('federated.root_key', '');

CREATE FUNCTION federated._sealed_digest(sealed bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(CASE WHEN substring(sealed FROM 1 FOR 4) = '\x48465332' AND octet_length(sealed) >= 96
                       THEN substring(sealed FROM 97) ELSE sealed END)
$$;

COMMENT ON FUNCTION federated._sealed_digest(bytea) IS 'SHA-256 of a sealed value but for what another root key changes in it';

CREATE FUNCTION federated._sealed_under(sealed bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN substring(sealed FROM 1 FOR 4) = '\x48465332' THEN encode(substring(sealed FROM 5 FOR 8), 'hex') ELSE '' END
$$;

COMMENT ON FUNCTION federated._sealed_under(bytea) IS
    'The name of the root key under which a value is sealed; empty for what a release sealed that named none';

CREATE VIEW federated.sealed_value AS
SELECT 'coordinator' AS holder, 'parameters of rounds' AS what, federated._sealed_under(p.sealed) AS key_name FROM federated.run_parameters AS p
UNION ALL
SELECT 'coordinator', 'memories of rounds', federated._sealed_under(p.memory) FROM federated.run_parameters AS p WHERE p.memory IS NOT NULL
UNION ALL
SELECT 'coordinator', 'checkpoints', federated._sealed_under(p.manifest) FROM federated.run_parameters AS p WHERE p.manifest IS NOT NULL
UNION ALL
SELECT 'coordinator', 'parameters of versions', federated._sealed_under(v.sealed) FROM federated.version AS v WHERE v.sealed <> ''
UNION ALL
SELECT 'node', 'memories of a node', federated._sealed_under(m.sealed) FROM federated.node_memory AS m
UNION ALL
SELECT 'node', 'own parts of models', federated._sealed_under(p.sealed) FROM federated.personal_part AS p;

COMMENT ON VIEW federated.sealed_value IS 'Each sealed value that a root key is needed for, by what it is and under which key it is';

CREATE VIEW @extschema@.federated_sealed_state AS
SELECT coalesce(v.holder, k.holder) AS holder, v.what, coalesce(v.key_name, k.name) AS key_name,
       CASE WHEN v.key_name = '' THEN 'before names' ELSE coalesce(k.status, 'unknown') END AS key_status,
       coalesce(v.rows, 0) AS rows, k.source AS key_source, k.since
FROM (SELECT s.holder, s.what, s.key_name, count(*) AS rows FROM federated.sealed_value AS s GROUP BY 1, 2, 3) AS v
FULL JOIN federated.root_key AS k ON k.holder = v.holder AND k.name = v.key_name;

COMMENT ON VIEW @extschema@.federated_sealed_state IS
    'What is sealed at rest, by what it is and under which root key, with how many rows: after a rotation the rows of former keys go to 0, and such a key may then be dropped (heliosdb keys drop)';

COMMENT ON COLUMN @extschema@.federated_sealed_state.holder IS 'Whose root key it is: coordinator or node';

COMMENT ON COLUMN @extschema@.federated_sealed_state.what IS 'What is sealed; NULL for a root key that nothing is sealed under';

COMMENT ON COLUMN @extschema@.federated_sealed_state.rows IS 'How many values are sealed under the key; 0 where it is needed for none';

COMMENT ON COLUMN @extschema@.federated_sealed_state.key_source IS
    'Where the daemon had the key from: a file, an environment variable or a command, by its name; NULL where no daemon of this database has told of the key';

COMMENT ON COLUMN @extschema@.federated_sealed_state.since IS 'When the key became what key_status says; NULL where no daemon of this database has told of it';

COMMENT ON COLUMN @extschema@.federated_sealed_state.key_name IS 'A keyed hash of the root key; empty for what a release sealed that named none';

COMMENT ON COLUMN @extschema@.federated_sealed_state.key_status IS
    'current, former, dropped; unknown: no daemon of this database has told of it; before names: sealed by an earlier release, and sealed anew when the daemon comes to it';

CREATE FUNCTION federated._count_sealed(holder text, key_name text, OUT rows bigint, OUT files bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    rows := (SELECT count(*) FROM federated.sealed_value AS v
             WHERE v.holder = _count_sealed.holder AND v.key_name IN (_count_sealed.key_name, ''));
    files := (SELECT count(*) FROM federated.checkpoint AS c JOIN federated.root_key AS k
                  ON k.holder = _count_sealed.holder AND k.name = _count_sealed.key_name
              WHERE k.holder = 'coordinator' AND c.created_at < k.since);
END
$$;

COMMENT ON FUNCTION federated._count_sealed(text, text) IS
    'How many values need a root key (those that name none included), and how many checkpoint files were written before it was a former one';

COMMENT ON TABLE federated.checkpoint IS 'Files that CHECKPOINT FEDERATED TRAINING wrote; whether they are still there is not known here';

COMMENT ON COLUMN federated.checkpoint.path IS 'On the database server, as it was written in the statement';

COMMENT ON COLUMN federated.checkpoint.sha256 IS 'Of the whole file';

CREATE TABLE federated.internal_checkpoint (
    run_id       uuid NOT NULL REFERENCES federated.run ON DELETE CASCADE,
    round_number integer NOT NULL,
    size_bytes   bigint NOT NULL,
    sha256       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, round_number)
);

COMMENT ON TABLE federated.internal_checkpoint IS
    'Rounds of a run with checkpoint_every of which federated.run_parameters keeps all that a checkpoint has; they go with the run';

COMMENT ON COLUMN federated.internal_checkpoint.size_bytes IS 'Of the manifest and the states that belong to it, each counted where it is named';

COMMENT ON COLUMN federated.internal_checkpoint.sha256 IS 'Of the sealed manifest but what another root key changes, which says the same of the states';

CREATE TABLE federated.resumption (
    run_id  uuid NOT NULL REFERENCES federated.run ON DELETE CASCADE,
    part    text NOT NULL CHECK (part <> ''),
    place   integer NOT NULL CHECK (place >= 0),
    content bytea NOT NULL,
    PRIMARY KEY (run_id, part, place)
);

COMMENT ON TABLE federated.resumption IS
    'What RESUME FEDERATED TRAINING read in a file, as it stands there, until the coordinator has taken it up or refused it';

COMMENT ON COLUMN federated.resumption.part IS 'manifest, or state and memory with the number of their round';

COMMENT ON COLUMN federated.resumption.place IS 'Which piece of the part, from 0';

CREATE FUNCTION federated._check_resumption_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._require_model_owner(r.model_id) FROM federated.run AS r WHERE r.run_id = NEW.run_id;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_resumption_owner() IS 'Lets what a run goes on from be given by the owner of its model, or of its workspace, alone';

CREATE TRIGGER check_owner BEFORE INSERT ON federated.resumption
    FOR EACH ROW EXECUTE FUNCTION federated._check_resumption_owner();

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.checkpoint
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.checkpoint
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

-- What any other run was started with stays: nobody who logs in has a right to change it.
CREATE FUNCTION federated._adopt_run(run_id uuid, adopted jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE federated.run AS r
    SET options = adopted -> 'options', overrides = adopted -> 'overrides', policy = adopted -> 'policy',
        seed_run = (adopted ->> 'seed_run')::uuid, lineage = nullif(adopted -> 'lineage', 'null')
    WHERE r.run_id = _adopt_run.run_id AND r.resumed_from IS NOT NULL AND r.options = '{}';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('what run %s was started with stays', run_id);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._adopt_run(uuid, jsonb) IS
    'Gives a run that goes on from a file, once, the options, the policy and the seed of that';

-- A run that failed before it closed a round left nothing to go on from, and takes nothing away.
CREATE FUNCTION federated._latest_closed_run(model_id bigint) RETURNS federated.run
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.* FROM federated.run AS r
    WHERE r.model_id = _latest_closed_run.model_id
      AND EXISTS (SELECT FROM federated.round AS d WHERE d.run_id = r.run_id AND d.status = 'closed')
    ORDER BY r.created_at DESC, r.run_id DESC LIMIT 1
$$;

COMMENT ON FUNCTION federated._latest_closed_run(bigint) IS 'The last run of a model that has closed a round; a row of NULLs where there is none';

-- Nodes keep what they remember of a run for 30 days after they last wrote it.
CREATE FUNCTION federated._why_not_resumed(ended federated.run) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN (ended).erased_at IS NOT NULL THEN 'Data subjects were erased whose rows it had read.'
        WHEN (ended).run_id IS DISTINCT FROM (federated._latest_closed_run((ended).model_id)).run_id THEN
            'It is not the last run of the model that closed a round.'
        WHEN (ended).series_id IS NOT NULL THEN 'It is one of the runs of a search or of folds, which do not go on singly.'
        WHEN (ended).status NOT IN ('stopped', 'failed') THEN format('It has ended: %s.', replace((ended).status::text, '_', ' '))
        WHEN (SELECT max(d.finished_at) FROM federated.round AS d WHERE d.run_id = (ended).run_id AND d.status = 'closed')
             < clock_timestamp() - interval '28 days' THEN
            'Its last round was closed more than four weeks ago, and nodes have forgotten it.'
        END
$$;

COMMENT ON FUNCTION federated._why_not_resumed(federated.run) IS
    'Why a run that is not queued or running cannot go on as the same run; NULL where it can';

CREATE FUNCTION federated._resume_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    obstacle text := federated._why_not_resumed(OLD);
BEGIN
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('run %s cannot be resumed', OLD.run_id), DETAIL = obstacle,
            HINT = 'START FEDERATED TRAINING begins another run; RESUME FEDERATED TRAINING ... FROM goes on from a checkpoint''s file.';
    END IF;
    NEW.status := 'queued';
    NEW.message := NULL;
    NEW.finished_at := NULL;
    -- wait_for_convergence would wait for ever in the transaction that resumes the run.
    PERFORM set_config('federated.started_run', NEW.run_id::text, true);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._resume_run() IS
    'Queues a run again that was stopped or has failed, where stop_requested is taken back: it goes on from its last closed round';

CREATE TRIGGER resume_run BEFORE UPDATE OF stop_requested ON federated.run
    FOR EACH ROW WHEN (NOT NEW.stop_requested AND OLD.status NOT IN ('queued', 'running'))
    EXECUTE FUNCTION federated._resume_run();

CREATE FUNCTION federated._checkpoint_contents(run uuid, round_number integer)
RETURNS TABLE (part text, content bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH closed AS (
        SELECT p.* FROM federated.run_parameters AS p
        WHERE p.run_id = run AND p.round_number = _checkpoint_contents.round_number AND p.manifest IS NOT NULL
    ), states AS (
        SELECT s.* FROM closed AS c JOIN federated.run_parameters AS s USING (run_id)
        WHERE s.round_number IN (c.round_number, c.kept_round)
    )
    SELECT 'manifest', c.manifest FROM closed AS c
    UNION ALL SELECT format('state/%s', s.round_number), s.sealed FROM states AS s
    UNION ALL SELECT format('memory/%s', s.round_number), s.memory FROM states AS s WHERE s.memory IS NOT NULL
$$;

COMMENT ON FUNCTION federated._checkpoint_contents(uuid, integer) IS
    'The parts of a checkpoint of a closed round, each sealed; none where its manifest is not kept';

-- The next three run as federated_owner, since operators read no parameters otherwise: they ask for the role that was set.
CREATE FUNCTION federated._require_file_writer(model_id bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    acting name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
BEGIN
    IF NOT pg_has_role(acting, 'pg_write_server_files', 'USAGE') OR NOT EXISTS (
        SELECT FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
        JOIN pg_roles AS r ON r.rolname = acting
        WHERE m.model_id = _require_file_writer.model_id
          AND (r.rolsuper OR EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname IN (m.owner, w.owner) AND pg_has_role(acting, o.oid, 'USAGE'))))
    THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to checkpoint federated training';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._require_file_writer(bigint) IS
    'Raises 42501 unless the acting role may write files on the server and owns the model or its workspace';

-- The lock keeps the coordinator from closing another round while this one is read, piece by piece.
CREATE FUNCTION federated._hold_checkpoint(model_id bigint, OUT run_id uuid, OUT round_number integer, OUT is_of_series boolean,
    OUT sizes jsonb) RETURNS record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    latest federated.run;
BEGIN
    PERFORM federated._require_file_writer(model_id);
    latest := federated._latest_closed_run(model_id);
    PERFORM FROM federated.run AS r WHERE r.run_id = latest.run_id FOR SHARE;
    run_id := latest.run_id;
    is_of_series := latest.series_id IS NOT NULL;
    round_number := (SELECT max(d.round_number) FROM federated.round AS d WHERE d.run_id = latest.run_id AND d.status = 'closed');
    sizes := (SELECT jsonb_object_agg(c.part, octet_length(c.content)) FROM federated._checkpoint_contents(latest.run_id, round_number) AS c);
END
$$;

COMMENT ON FUNCTION federated._hold_checkpoint(bigint) IS
    'The last closed round of a model''s last run that has one, kept as it is until the transaction ends, and the bytes of each part of its checkpoint; NULL where there is none';

CREATE FUNCTION federated._read_checkpoint(model_id bigint, run uuid, round_number integer, part text, start integer, size integer)
RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._require_file_writer(model_id);
    RETURN (
        SELECT substring(c.content FROM start + 1 FOR size)
        FROM federated.run AS r, federated._checkpoint_contents(r.run_id, _read_checkpoint.round_number) AS c
        WHERE r.run_id = run AND r.model_id = _read_checkpoint.model_id AND c.part = _read_checkpoint.part);
END
$$;

COMMENT ON FUNCTION federated._read_checkpoint(bigint, uuid, integer, text, integer, integer) IS
    'A piece of a part of a checkpoint, from a byte on; it is sealed';

CREATE FUNCTION federated._is_manifest(run uuid, round_number integer, sha256 bytea) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated.run_parameters AS p
                   WHERE p.run_id = run AND p.round_number = _is_manifest.round_number AND _is_manifest.sha256 IN (federated._sealed_digest(p.manifest), p.file_digest))
$$;

COMMENT ON FUNCTION federated._is_manifest(uuid, integer, bytea) IS 'Whether a digest is that of the manifest that is kept of a closed round';

CREATE OR REPLACE FUNCTION @extschema@.federated_checkpoints(
    model text,
    OUT path text, OUT round_number integer, OUT created_at timestamptz, OUT size_bytes bigint, OUT sha256 text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.path, k.round_number, k.created_at, k.size_bytes, encode(k.sha256, 'hex')
    FROM (
        SELECT c.model_id, c.path, c.round_number, c.created_at, c.size_bytes, c.sha256 FROM federated.checkpoint AS c
        UNION ALL
        SELECT r.model_id, NULL, i.round_number, i.created_at, i.size_bytes, i.sha256
        FROM federated.internal_checkpoint AS i JOIN federated.run AS r USING (run_id)
    ) AS k
    WHERE k.model_id = federated._model_id(federated_checkpoints.model)
    ORDER BY k.created_at, k.round_number
$$;

COMMENT ON FUNCTION @extschema@.federated_checkpoints(text) IS
    'The checkpoints of a model: files that CHECKPOINT FEDERATED TRAINING wrote on the database server, with the SHA-256 of the whole file; where path is NULL what checkpoint_every keeps sealed in the catalog, with that of its manifest';

SELECT pg_catalog.pg_extension_config_dump('federated.internal_checkpoint', '');

SELECT pg_catalog.pg_extension_config_dump('federated.resumption', '');

-- What the ledger says, workspace by workspace and round by round.

-- What a workspace has spent: where a subject is in one node only, as much as the most charged node; where subjects_overlap, the
-- nodes' sum. The lines of a node end at its most: what it has composed never falls.
CREATE FUNCTION federated._consumed_epsilon(workspace text) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN coalesce((SELECT (w.options ->> 'subjects_overlap')::boolean FROM federated.workspace AS w
                               WHERE w.name = _consumed_epsilon.workspace), false)
                THEN sum(n.epsilon) ELSE max(n.epsilon) END
    FROM (SELECT max(l.epsilon_tight) AS epsilon FROM federated.ledger AS l
          WHERE l.workspace = _consumed_epsilon.workspace GROUP BY l.node_name) AS n
$$;

COMMENT ON FUNCTION federated._consumed_epsilon(text) IS
    'Composed epsilon of the most charged node of a workspace, with subjects_overlap the sum over its nodes; NULL where nothing was ever charged';

-- The epsilon that the last training rounds of the most charged node added, with subjects_overlap of all nodes together. A round's cost is the sum of what its releases
-- added to the composed epsilon; rounds whose releases added nothing that can be seen leave no mean to divide by.
CREATE OR REPLACE FUNCTION federated._recent_round_cost(workspace text) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH most_charged AS (
        SELECT l.node_name FROM federated.ledger AS l WHERE l.workspace = _recent_round_cost.workspace
        ORDER BY l.epsilon_tight DESC, l.node_name LIMIT 1
    ), releases AS (
        SELECT l.run_id, l.round_number, l.ledger_id,
               l.epsilon_tight - lag(l.epsilon_tight, 1, 0) OVER (PARTITION BY l.node_name ORDER BY l.ledger_id) AS added
        FROM federated.ledger AS l
        WHERE l.workspace = _recent_round_cost.workspace
          AND (l.node_name = (SELECT m.node_name FROM most_charged AS m)
               OR EXISTS (SELECT FROM federated.workspace AS w
                          WHERE w.name = l.workspace AND (w.options ->> 'subjects_overlap')::boolean))
    ), rounds AS (
        SELECT sum(r.added) AS cost FROM releases AS r
        WHERE r.round_number > 0
        GROUP BY r.run_id, r.round_number ORDER BY max(r.ledger_id) DESC LIMIT 10
    )
    SELECT CASE WHEN avg(r.cost) > 1e-9 THEN avg(r.cost) END FROM rounds AS r
$$;

COMMENT ON FUNCTION federated._recent_round_cost(text) IS
    'Mean of what each of the last ten training rounds added to the composed epsilon of the most charged node; NULL before any';

CREATE OR REPLACE VIEW @extschema@.federated_privacy_budget_status AS
SELECT w.name AS workspace_name, b.total AS total_budget_epsilon, b.consumed AS consumed_epsilon,
       CASE WHEN b.total IS NOT NULL THEN greatest(b.total - b.consumed, 0) END AS remaining_epsilon,
       (SELECT count(*) FROM federated.model AS m
        JOIN federated.run AS r USING (model_id) JOIN federated.round AS d USING (run_id)
        WHERE m.workspace_id = w.workspace_id AND d.round_number > 0 AND d.status = 'closed') AS rounds_completed,
       floor(greatest(b.total - b.consumed, 0) / federated._recent_round_cost(w.name))::bigint AS estimated_remaining_rounds,
       coalesce((w.options ->> 'delta')::double precision, 1e-5) AS delta, b.basic AS consumed_epsilon_basic
FROM federated.workspace AS w
CROSS JOIN LATERAL (
    SELECT o.total,
           coalesce(federated._consumed_epsilon(w.name), CASE WHEN o.total IS NOT NULL THEN 0 END) AS consumed,
           coalesce((SELECT CASE WHEN (w.options ->> 'subjects_overlap')::boolean THEN sum(n.epsilon) ELSE max(n.epsilon) END
                     FROM (SELECT max(l.epsilon_basic) AS epsilon FROM federated.ledger AS l
                           WHERE l.workspace = w.name GROUP BY l.node_name) AS n),
                    CASE WHEN o.total IS NOT NULL THEN 0 END) AS basic
    FROM (SELECT (w.options ->> 'privacy_budget')::double precision AS total) AS o
) AS b;

COMMENT ON VIEW @extschema@.federated_privacy_budget_status IS 'What each workspace may spend, has spent, and how far the rest may reach';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.workspace_name IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.total_budget_epsilon IS 'The option privacy_budget; NULL: the workspace has no budget';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.consumed_epsilon IS
    'What the most charged node has spent, with subjects_overlap the nodes'' sum: all releases of a node composed, reserved ones included; NULL without a budget where nothing was ever charged';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.remaining_epsilon IS 'Never below 0; NULL without a budget';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.consumed_epsilon_basic IS
    'The same as the sum of each release''s own epsilon, for comparison: what is consumed is consumed_epsilon';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.rounds_completed IS
    'Training rounds (round 0 is none) that were closed in all runs of the models that the workspace has now';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.estimated_remaining_rounds IS
    'Whole rounds for which remaining_epsilon lasts if each adds as much as the last ten training rounds of the most charged node did on the mean; NULL without a budget, before any training round was charged, and where they added nothing that can be seen. Each run divides what is left among its own rounds: the next one may well plan more rounds, each with more noise';

COMMENT ON COLUMN @extschema@.federated_privacy_budget_status.delta IS
    'At which every epsilon here is stated; with subjects_overlap each node''s at delta / max_nodes, so that their sum is at delta';

-- What a workspace has spent with each line: the most that a node had until then, where subjects_overlap what its lines have added to
-- each node's, which never falls.
CREATE VIEW federated.ledger_reached AS
SELECT l.ledger_id, l.workspace, l.run_id, l.round_number,
       CASE WHEN coalesce((w.options ->> 'subjects_overlap')::boolean, false)
            THEN sum(l.added) OVER (PARTITION BY l.workspace ORDER BY l.ledger_id)
            ELSE max(l.epsilon_tight) OVER (PARTITION BY l.workspace ORDER BY l.ledger_id) END AS epsilon
FROM (SELECT g.ledger_id, g.workspace, g.run_id, g.round_number, g.epsilon_tight,
             g.epsilon_tight - lag(g.epsilon_tight, 1, 0::double precision) OVER (PARTITION BY g.workspace, g.node_name ORDER BY g.ledger_id) AS added
      FROM federated.ledger AS g) AS l
LEFT JOIN federated.workspace AS w ON w.name = l.workspace;

COMMENT ON VIEW federated.ledger_reached IS
    'Composed epsilon of the most charged node of a workspace with each line of its ledger, with subjects_overlap the sum over its nodes';

CREATE OR REPLACE VIEW @extschema@.federated_privacy_history AS
SELECT r.recorded_at AS "timestamp", r.workspace AS workspace_name, r.model_name, r.round_number,
       r.reached AS cumulative_epsilon,
       r.cost AS epsilon_per_round, r.noise_multiplier, r.clipping_threshold, r.noise AS noise_mechanism,
       CASE WHEN u.run_id IS NULL THEN NULL
            WHEN (u.options ->> 'secure_aggregation')::boolean THEN coalesce(u.policy ->> 'trust_model', 'distributed')
            ELSE coalesce(u.policy ->> 'trust_model', 'local') END AS trust_model
FROM (
    SELECT n.workspace, n.model_name, n.run_id, n.round_number, max(n.recorded_at) AS recorded_at,
           max(n.reached) AS reached, max(n.cost) AS cost,
           max(n.noise_multiplier) AS noise_multiplier, max(n.clipping_norm) AS clipping_threshold, max(n.noise) AS noise
    FROM (
        SELECT l.workspace, l.model_name, l.run_id, l.round_number, l.node_name, max(l.recorded_at) AS recorded_at,
               max(e.epsilon) AS reached, sum(l.epsilon) AS cost,
               (array_agg(l.noise_multiplier ORDER BY l.exchange, l.ledger_id))[1] AS noise_multiplier,
               max(l.clipping_norm) AS clipping_norm, (array_agg(l.noise ORDER BY l.exchange, l.ledger_id))[1] AS noise
        FROM federated.ledger AS l JOIN federated.ledger_reached AS e USING (ledger_id)
        GROUP BY l.workspace, l.model_name, l.run_id, l.round_number, l.node_name
    ) AS n
    GROUP BY n.workspace, n.model_name, n.run_id, n.round_number
) AS r LEFT JOIN federated.run AS u USING (run_id);

COMMENT ON VIEW @extschema@.federated_privacy_history IS
    'One row for each round that was charged to a ledger, those of dropped models and workspaces included; round 0 gathers feature statistics';

COMMENT ON COLUMN @extschema@.federated_privacy_history.workspace_name IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_privacy_history.model_name IS 'Name of the model as it was then';

COMMENT ON COLUMN @extschema@.federated_privacy_history.round_number IS 'The round; 0 gathers feature statistics';

COMMENT ON COLUMN @extschema@.federated_privacy_history."timestamp" IS 'When the last of the round''s charges was reserved';

COMMENT ON COLUMN @extschema@.federated_privacy_history.cumulative_epsilon IS
    'What the most charged node of the workspace, with subjects_overlap its nodes together, has spent up to and with this round, at the workspace''s delta';

COMMENT ON COLUMN @extschema@.federated_privacy_history.epsilon_per_round IS
    'Sum of the epsilon of each of the round''s releases by itself, at the node where it is most; rounds add up to more than cumulative_epsilon, because composing many is tighter than adding';

COMMENT ON COLUMN @extschema@.federated_privacy_history.noise_multiplier IS
    'Standard deviation of the noise over the sensitivity, of Laplace noise its scale: of each training step, of the feature statistics in round 0; of a round of several releases the first one''s';

COMMENT ON COLUMN @extschema@.federated_privacy_history.clipping_threshold IS
    'Norm to which a subject''s gradient was clipped, L2 or under Laplace noise L1; NULL in round 0, whose sums are bounded by construction';

COMMENT ON COLUMN @extschema@.federated_privacy_history.noise_mechanism IS 'How the noise is distributed: gaussian or laplacian';

COMMENT ON COLUMN @extschema@.federated_privacy_history.trust_model IS
    'Who added the noise: local, each node all of it; distributed, each a share of what only sums are seen of; central, the coordinator, which saw sums without noise; NULL where the run was dropped';

-- Told from the rows of participation, whatever steps a round has: it begins with one step, whose first message is
-- exchange 0 and which a sum protocol may carry on in later exchanges. A node takes part where its first answer arrived
-- and none of its later ones to the same step was missing. What a round asks of another step after that (evaluation, say)
-- changes nothing. Two rows of a node at exchange 0 come from a dump of version 1.1: they count as one. An asynchronous
-- round has the updates that it took, whenever their nodes were asked.
CREATE VIEW federated.part_taken AS
SELECT s.run_id, s.round_number, s.node_id, max(s.duration_seconds) AS duration_seconds
FROM (
    SELECT p.run_id, p.round_number, p.node_id, max(p.duration_seconds) AS duration_seconds
    FROM federated.participation AS p
    WHERE p.settled_round IS NULL
    GROUP BY p.run_id, p.round_number, p.node_id, p.step
    HAVING bool_or(p.exchange = 0 AND p.outcome = 'received')
       AND NOT bool_or(p.outcome IN ('dropped', 'refused', 'rejected'))
) AS s
GROUP BY s.run_id, s.round_number, s.node_id
UNION ALL
SELECT a.run_id, a.settled_round, a.node_id, a.duration_seconds
FROM federated.participation AS a
WHERE a.settled_round IS NOT NULL AND a.outcome = 'received';

COMMENT ON VIEW federated.part_taken IS 'Which nodes take part in which round: those whose answers to its first step arrived, all of them';

COMMENT ON COLUMN federated.part_taken.duration_seconds IS
    'From the beginning of an exchange until the node''s answer was there; where the first step took several messages, of the longest';

CREATE VIEW @extschema@.federated_runs AS
SELECT w.name AS workspace_name, m.name AS model_name,
       (row_number() OVER (PARTITION BY r.model_id ORDER BY r.created_at, r.run_id))::integer AS run, r.run_id,
       CASE WHEN r.waiting THEN 'waiting' ELSE r.status::text END AS status, r.requested_by AS started_by,
       r.created_at AS queued_at, r.started_at, r.finished_at,
       (SELECT max(d.round_number) FROM federated.round AS d WHERE d.run_id = r.run_id AND d.finished_at IS NOT NULL) AS rounds,
       (SELECT max(v.version) FROM federated.version AS v WHERE v.run_id = r.run_id) AS version, r.trial, r.fold,
       r.voting_group, r.group_nodes, r.overrides AS options, r.message
FROM federated.run AS r
JOIN federated.model AS m USING (model_id)
JOIN federated.workspace AS w USING (workspace_id);

COMMENT ON VIEW @extschema@.federated_runs IS 'Every run of every model';

COMMENT ON COLUMN @extschema@.federated_runs.workspace_name IS 'Of the model';

COMMENT ON COLUMN @extschema@.federated_runs.model_name IS 'Whose run it is';

COMMENT ON COLUMN @extschema@.federated_runs.run IS 'Its number among the runs of its model, from 1, in the order in which they were started: what shows a run takes it';

COMMENT ON COLUMN @extschema@.federated_runs.run_id IS 'As logs and the audit log name it';

COMMENT ON COLUMN @extschema@.federated_runs.status IS 'queued, running, how it ended, or waiting: a run of a series before its turn';

COMMENT ON COLUMN @extschema@.federated_runs.started_by IS 'The role that said START';

COMMENT ON COLUMN @extschema@.federated_runs.queued_at IS 'When START was said';

COMMENT ON COLUMN @extschema@.federated_runs.started_at IS 'When a coordinator took it; NULL before that';

COMMENT ON COLUMN @extschema@.federated_runs.finished_at IS 'When it ended; NULL before that';

COMMENT ON COLUMN @extschema@.federated_runs.rounds IS 'The last round that was closed, 0 is preparation; NULL before that';

COMMENT ON COLUMN @extschema@.federated_runs.version IS 'The last version that it left: one that was stopped and resumed may have left several; NULL where there is none, or where it was dropped';

COMMENT ON COLUMN @extschema@.federated_runs.trial IS 'Which trial of a series of runs it is of, as in federated_trials; NULL of a run by itself';

COMMENT ON COLUMN @extschema@.federated_runs.fold IS 'Which fold it holds out, from 0; NULL without folds';

COMMENT ON COLUMN @extschema@.federated_runs.voting_group IS 'For which group of nodes it trains a model that votes, from 1; NULL without voting_groups';

COMMENT ON COLUMN @extschema@.federated_runs.group_nodes IS 'The nodes of that group, which alone take part; NULL without voting_groups';

COMMENT ON COLUMN @extschema@.federated_runs.options IS 'What START named for it, beside the options of the model';

COMMENT ON COLUMN @extschema@.federated_runs.message IS 'How it ended, and why';

-- Without a number the latest, but for what still waits for its turn; a row of NULLs where there is none.
CREATE FUNCTION federated._find_run(model text, run integer) RETURNS federated.run
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject bigint := federated._model_id(model);
    found   federated.run;
BEGIN
    IF run IS NULL THEN
        SELECT r.* INTO found FROM federated.run AS r
        WHERE r.model_id = subject AND NOT r.waiting
          -- What has measured a vote has no figures of training.
          AND (r.status IN ('queued', 'running') OR r.voting_group IS NOT NULL OR NOT r.options ? 'voting_groups')
        ORDER BY r.created_at DESC, r.run_id DESC LIMIT 1;
        RETURN found;
    END IF;
    IF run > 0 THEN
        SELECT r.* INTO found FROM federated.run AS r
        WHERE r.model_id = subject ORDER BY r.created_at, r.run_id OFFSET run - 1 LIMIT 1;
    END IF;
    IF found.run_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" has no run %s', model, run),
            DETAIL = format('Its runs are numbered from 1 to %s.', (SELECT count(*) FROM federated.run AS r WHERE r.model_id = subject)),
            HINT = format('SELECT run, status, started_by FROM federated_runs WHERE model_name = %L shows all.', model);
    END IF;
    RETURN found;
END
$$;

COMMENT ON FUNCTION federated._find_run(text, integer) IS
    'The run of a model that has the number in federated_runs, or 42704; of NULL the latest one that has had its turn';

CREATE FUNCTION @extschema@.federated_training_status(
    model text, run integer DEFAULT NULL,
    OUT round_number integer, OUT status text, OUT global_loss double precision, OUT global_accuracy double precision,
    OUT participating_nodes integer, OUT round_duration_seconds double precision,
    OUT started_at timestamptz, OUT finished_at timestamptz, OUT message text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_training_status.model, federated_training_status.run) AS r WHERE r.run_id IS NOT NULL
    ), rounds AS (
        SELECT d.*, d.round_number = max(d.round_number) OVER () AS is_last
        FROM chosen JOIN federated.round AS d USING (run_id)
    )
    SELECT coalesce(d.round_number, 0),
           CASE WHEN coalesce(d.is_last, true) THEN r.status::text
                -- After the round that was published, rounds that left the useful models are a part of how it diverged.
                WHEN r.status::text = 'diverged' AND d.global_loss > d.base_loss AND d.round_number > coalesce(
                    (SELECT max(v.round_number) FROM federated.version AS v WHERE v.run_id = d.run_id), 0) THEN 'diverged'
                ELSE 'completed' END,
           d.global_loss, d.global_accuracy,
           (SELECT count(*)::integer FROM federated.part_taken AS p
            WHERE p.run_id = d.run_id AND p.round_number = d.round_number),
           extract(epoch FROM d.finished_at - d.started_at)::double precision,
           coalesce(d.started_at, r.started_at), coalesce(d.finished_at, r.finished_at),
           CASE WHEN coalesce(d.is_last, true) THEN nullif(concat_ws('; ', d.message, nullif(r.message, d.message)), '')
                ELSE d.message END
    FROM chosen AS r LEFT JOIN rounds AS d USING (run_id)
    ORDER BY 1
$$;

COMMENT ON FUNCTION @extschema@.federated_training_status(text, integer) IS
    'A run of a model by its number in federated_runs, or the latest, one row a round (round 0 is preparation: it gathers feature statistics); the last row carries the run''s status, the others are completed, or diverged where the run ended so and the round''s loss was larger than that of the base rate';

CREATE FUNCTION @extschema@.federated_training_metrics(
    model text, run integer DEFAULT NULL,
    OUT round_number integer, OUT "timestamp" timestamptz, OUT global_loss double precision,
    OUT global_accuracy double precision, OUT participating_nodes integer, OUT dropped_nodes integer,
    OUT round_duration_seconds double precision, OUT communication_mb double precision,
    OUT privacy_consumed_epsilon double precision,
    OUT global_loss_std_error double precision, OUT global_accuracy_std_error double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_training_metrics.model, federated_training_metrics.run) AS r WHERE r.run_id IS NOT NULL
    ), charged AS (
        SELECT l.round_number, max(l.epsilon) AS epsilon
        FROM federated.ledger_reached AS l
        WHERE l.workspace = (SELECT g.workspace FROM federated.ledger AS g WHERE g.run_id = (SELECT run_id FROM chosen) LIMIT 1)
          AND l.run_id = (SELECT run_id FROM chosen)
        GROUP BY l.round_number
    )
    SELECT d.round_number, coalesce(d.finished_at, d.started_at), d.global_loss, d.global_accuracy,
           (SELECT count(*)::integer FROM federated.part_taken AS t
            WHERE t.run_id = d.run_id AND t.round_number = d.round_number), p.dropped,
           extract(epoch FROM d.finished_at - d.started_at)::double precision, p.megabytes,
           max(c.epsilon) OVER (ORDER BY d.round_number), d.global_loss_std_error, d.global_accuracy_std_error
    FROM chosen JOIN federated.round AS d USING (run_id)
    LEFT JOIN charged AS c ON c.round_number = d.round_number
    CROSS JOIN LATERAL (
        -- Lost in any exchange of the round: also a node that took part, and then did not evaluate.
        SELECT count(DISTINCT node_id) FILTER (WHERE outcome IN ('dropped', 'refused', 'rejected'))::integer AS dropped,
               sum(coalesce(bytes_sent, 0) + coalesce(bytes_received, 0))::double precision / 1e6 AS megabytes
        FROM federated.participation AS q
        WHERE q.run_id = d.run_id AND q.round_number = d.round_number
    ) AS p
    ORDER BY 1
$$;

COMMENT ON FUNCTION @extschema@.federated_training_metrics(text, integer) IS
    'Figures of each round of a run of a model, by its number in federated_runs, or of the latest; communication_mb is what was sent to and received from all nodes in all exchanges of the round, every attempt counted, in 10^6 bytes of messages before HTTP/2 framing and TLS; privacy_consumed_epsilon is what the most charged node, with subjects_overlap the nodes together, has spent in the workspace up to the round, NULL without a budget; the standard errors are those of the held-out rows as a sample and of the privacy noise together';

CREATE OR REPLACE FUNCTION @extschema@.wait_for_convergence(model text, timeout_seconds double precision DEFAULT 3600) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    awaited_model bigint := federated._model_id(model);
    deadline      timestamptz;
    awaited_run   federated.run;
    current       federated.run;
    told          text;
    reason        text;
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
    awaited_run := federated._find_run(model, NULL);
    IF awaited_run.run_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated model "%s" has never been in training', model),
            HINT = format('START FEDERATED TRAINING %s;', quote_ident(model));
    END IF;
    IF current_setting('federated.started_run', true) = awaited_run.run_id::text THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the training of federated model "%s" was started in this transaction', model),
            DETAIL = 'No coordinator sees it before COMMIT.',
            HINT = 'COMMIT first, then wait.';
    END IF;
    deadline := clock_timestamp() + make_interval(secs => least(timeout_seconds, 1e9));
    LOOP
        -- Each statement of a VOLATILE function under READ COMMITTED takes a new snapshot.
        SELECT r.* INTO current FROM federated.run AS r
        WHERE r.run_id = awaited_run.run_id OR r.series_id = awaited_run.series_id
        ORDER BY r.status IN ('queued', 'running') AND NOT r.waiting DESC, r.created_at DESC LIMIT 1;
        told := current.status;
        reason := current.message;
        IF told NOT IN ('queued', 'running') AND current.series_id IS NOT NULL THEN
            SELECT s.status, s.message INTO told, reason FROM federated._series_status(current.series_id) AS s;
        END IF;
        IF told IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object',
                MESSAGE = format('federated model "%s" was dropped while waiting', model);
        ELSIF told NOT IN ('queued', 'running') THEN
            IF told NOT IN ('converged', 'completed') AND reason <> '' THEN
                RAISE NOTICE 'training of federated model "%" ended %: %', model, told, reason;
            END IF;
            RETURN told;
        ELSIF clock_timestamp() >= deadline THEN
            RAISE EXCEPTION USING ERRCODE = 'query_canceled',
                MESSAGE = format('timed out waiting for federated model "%s" after %s seconds', model, timeout_seconds),
                DETAIL = CASE
                    WHEN told = 'queued' AND NOT EXISTS (SELECT FROM federated.lease)
                    THEN 'The run is queued: no coordinator serves this database yet; it waits for one.'
                    ELSE format('The run is %s%s; it goes on.', told, coalesce(': ' || reason, ''))
                END;
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$$;

COMMENT ON FUNCTION @extschema@.wait_for_convergence(text, double precision) IS
    'Waits for the latest run of a model to end, of folds or a search for all of its runs, and says how (of several the one that became the version, else the first that did not end well): converged (the loss improves no more, or target_accuracy is reached), completed (all rounds are done, or the loss has risen again), stopped, failed, diverged (training went away from every useful model: lower learning_rate) or budget_exhausted; but for the first two a NOTICE says why';

CREATE OR REPLACE FUNCTION @extschema@.federated_privacy_budget(
    workspace text,
    OUT total_epsilon double precision, OUT consumed_epsilon double precision, OUT remaining_epsilon double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.total, b.consumed, CASE WHEN b.total IS NOT NULL THEN greatest(b.total - b.consumed, 0) END
    FROM (
        SELECT o.total,
               coalesce(federated._consumed_epsilon(w.name), CASE WHEN o.total IS NOT NULL THEN 0 END) AS consumed
        FROM federated.workspace AS w
        CROSS JOIN LATERAL (SELECT (w.options ->> 'privacy_budget')::double precision AS total) AS o
        WHERE w.workspace_id = federated._workspace_id(federated_privacy_budget.workspace)
    ) AS b
$$;

COMMENT ON FUNCTION @extschema@.federated_privacy_budget(text) IS
    'What a workspace may spend and what its most charged node, with subjects_overlap its nodes together, has spent (tight, at the workspace''s delta); without a budget total and remaining are NULL, and so is consumed where nothing was ever charged';

CREATE OR REPLACE VIEW @extschema@.federated_workspace_status AS
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
           federated._consumed_epsilon(w.name) AS consumed
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

-- Exports at a node: a data subject's rows, for that subject. A release of a kind of its own: of exact values, and only from
-- datasets whose DBA allows it.
CREATE TABLE federated.node_export (
    workspace   text NOT NULL CHECK (workspace <> ''),
    order_id    uuid NOT NULL,
    dataset     text NOT NULL,
    node_name   text NOT NULL,
    recipient   bytea NOT NULL CHECK (octet_length(recipient) = 32),
    rows        bigint NOT NULL CHECK (rows >= 0),
    value_bytes bigint NOT NULL CHECK (value_bytes >= 0),
    exported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, order_id, dataset)
);

CREATE INDEX node_export_by_dataset ON federated.node_export (dataset, exported_at);

COMMENT ON TABLE federated.node_export IS
    'What left in answer to EXPORT FEDERATED DATA: one row an order and dataset, whoever the order is about; committed with the answer, before it leaves';

COMMENT ON COLUMN federated.node_export.recipient IS 'The public key to which it was sealed';

COMMENT ON COLUMN federated.node_export.rows IS 'How many rows the subject has';

COMMENT ON COLUMN federated.node_export.value_bytes IS 'How long their values are together, as text';

SELECT pg_catalog.pg_extension_config_dump('federated.node_export', '');

CREATE FUNCTION federated._audit_node_export() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (NEW.workspace, session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            lower(TG_OP), TG_TABLE_NAME, NEW.dataset,
            jsonb_build_object('order', NEW.order_id, 'recipient', encode(NEW.recipient, 'hex')));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_node_export() IS 'Appends to the audit log that a data subject''s rows have left';

CREATE TRIGGER audit AFTER INSERT ON federated.node_export
    FOR EACH ROW EXECUTE FUNCTION federated._audit_node_export();

CREATE FUNCTION federated._exported_columns(dataset text) RETURNS TABLE (name text, type text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod)
    FROM federated.dataset AS d
    JOIN pg_class AS c ON c.relnamespace = 'federated_dataset'::regnamespace AND c.relname = d.name
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE d.name = dataset AND (a.attname = ANY (d.columns) OR a.attname = d.options ->> 'subject')
    ORDER BY a.attnum
$$;

COMMENT ON FUNCTION federated._exported_columns(text) IS 'What of a dataset a data subject is given: the columns that are shared, and the one that names it';

-- What is behind a view runs with the rights of whoever reads it: this is owned by federated_probe, who has the reader's.
CREATE FUNCTION federated._subject_values(dataset text, most bigint) RETURNS SETOF text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    subject text := (SELECT d.options ->> 'subject' FROM federated.dataset AS d WHERE d.name = dataset);
    listed  text := (SELECT string_agg(format('to_json(v.%I)::text', c.name), ', ') FROM federated._exported_columns(dataset) AS c);
    total   bigint := 0;
    one     text[];
BEGIN
    FOR one IN EXECUTE format(
        'SELECT ARRAY[%s] FROM federated_dataset.%I AS v'
        ' WHERE (v.%I)::text = (SELECT federated._held_subject())',
        listed, dataset, subject) LOOP
        total := total + (SELECT coalesce(sum(octet_length(u)), 0) + count(*) * 8 FROM unnest(one) AS u);
        IF total > most THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'more is held about the data subject than an export takes';
        END IF;
        RETURN NEXT one;
    END LOOP;
END
$$;

COMMENT ON FUNCTION federated._subject_values(text, bigint) IS
    'The rows of a dataset of the data subject whose identifier is held, each value as JSON; 54000 where they are longer than so many bytes';

-- What a participant sees of its own part: who trained on which dataset, what left, what it cost, what was refused. At the
-- node alone: a database may be a coordinator's and a node's, so these have names beside those of the coordinator's views.

-- Written in the transaction that charges a private task, or lets a plain answer or a message out: so nothing in it
-- depends on a row in any other way than that release does.
CREATE TABLE federated.node_run (
    run_id        uuid NOT NULL,
    asked_sha256  bytea NOT NULL CHECK (octet_length(asked_sha256) = 32),
    workspace     text NOT NULL,
    node_name     text NOT NULL,
    dataset       text NOT NULL,
    model_name    text,
    algorithm     text NOT NULL,
    features      text[] NOT NULL,
    target        text NOT NULL,
    roles         jsonb NOT NULL CHECK (jsonb_typeof(roles) = 'object'),
    epsilon       double precision,
    delta         double precision,
    compliance_mode text NOT NULL,
    first_task_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_task_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, asked_sha256)
);

COMMENT ON TABLE federated.node_run IS
    'What runs asked of this node, a row for each dataset, choice of columns and privacy terms of a run: of tasks that were charged or answered';

COMMENT ON COLUMN federated.node_run.asked_sha256 IS 'Hash of all that the run asked with these columns and terms: what differs in anything is another row';

COMMENT ON COLUMN federated.node_run.model_name IS 'What the coordinator calls the model, which is its claim; NULL where it did not say';

COMMENT ON COLUMN federated.node_run.roles IS 'Further columns, by what they are to the rows: weights, offset, event';

COMMENT ON COLUMN federated.node_run.epsilon IS 'The privacy budget of the workspace, as its tasks named it; NULL without one';

COMMENT ON COLUMN federated.node_run.delta IS 'The delta of that budget; NULL without one';

CREATE TABLE federated.refusal (
    refusal_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace   text NOT NULL,
    run_id      uuid NOT NULL,
    node_name   text NOT NULL,
    step        text NOT NULL,
    dataset     text,
    code        text NOT NULL,
    message     text NOT NULL CHECK (char_length(message) <= 2000),
    detail      text CHECK (char_length(detail) <= 2000),
    said_sha256 bytea NOT NULL CHECK (octet_length(said_sha256) = 32),
    count       bigint NOT NULL DEFAULT 1 CHECK (count > 0),
    first_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (run_id, said_sha256)
);

CREATE INDEX refusal_by_age ON federated.refusal (last_at);

COMMENT ON TABLE federated.refusal IS
    'Tasks that the node refused, as it told the coordinator: a row for each run, step and text, which counts; the 10,000 latest are kept';

COMMENT ON COLUMN federated.refusal.dataset IS 'The dataset that the task was about, or only named; NULL where neither is known';

COMMENT ON COLUMN federated.refusal.code IS 'The SQLSTATE';

COMMENT ON COLUMN federated.refusal.detail IS 'Of the last time';

COMMENT ON COLUMN federated.refusal.said_sha256 IS 'Hash of workspace, node, step, code and message: what differs in any is another row';

SELECT pg_catalog.pg_extension_config_dump('federated.node_run', '');

SELECT pg_catalog.pg_extension_config_dump('federated.refusal', '');

-- Told from the releases, so that runs from before there was a node_run are shown too, without their columns.
CREATE VIEW @extschema@.federated_node_runs AS
SELECT e.workspace, n.model_name, e.run_id, e.node_name, e.dataset, n.algorithm, n.features, n.target, n.roles,
       n.epsilon AS asked_epsilon, n.delta AS asked_delta, n.compliance_mode,
       coalesce(n.first_task_at, e.first_at) AS first_task_at, coalesce(n.last_task_at, e.last_at) AS last_task_at,
       e.vectors, e.messages, e.payload_bytes, e.charges, s.epsilon_basic, s.epsilon_tight,
       CASE WHEN e.unnoised > 0 THEN 'central' WHEN e.charges > e.shared THEN 'local' WHEN e.shared > 0 THEN 'distributed' END AS trust_model, e.honest_nodes
FROM (
    SELECT r.workspace, r.run_id, r.node_name, r.dataset, min(r.released_at) AS first_at, max(r.released_at) AS last_at,
           count(*) FILTER (WHERE r.state = 'released' AND NOT r.is_message) AS vectors,
           count(*) FILTER (WHERE r.state = 'released' AND r.is_message) AS messages,
           coalesce(sum(r.payload_bytes) FILTER (WHERE r.state = 'released'), 0)::bigint AS payload_bytes,
           count(p.spending_id) AS charges, max(p.spending_id) AS last_charge,
           count(h.release_id) AS shared, count(*) FILTER (WHERE h.share = 0) AS unnoised, min(h.honest) AS honest_nodes
    FROM federated.release AS r LEFT JOIN federated.spending AS p USING (release_id)
    LEFT JOIN federated.noise_share AS h USING (release_id)
    GROUP BY r.workspace, r.run_id, r.node_name, r.dataset
) AS e
LEFT JOIN federated.node_run AS n USING (workspace, run_id, node_name, dataset)
LEFT JOIN LATERAL (
    SELECT p.workspace_epsilon_basic AS epsilon_basic, p.workspace_epsilon_tight AS epsilon_tight
    FROM federated.spending AS p WHERE p.spending_id = e.last_charge
) AS s ON true;

COMMENT ON VIEW @extschema@.federated_node_runs IS
    'At a node: who trained on which dataset, when, with which columns. Named beside federated_runs, which is the coordinator''s: a database may be both';

COMMENT ON COLUMN @extschema@.federated_node_runs.workspace IS 'Whose run it is';

COMMENT ON COLUMN @extschema@.federated_node_runs.model_name IS 'What the coordinator calls the model, which is its claim; NULL where it did not say';

COMMENT ON COLUMN @extschema@.federated_node_runs.run_id IS 'As the coordinator and the logs name it';

COMMENT ON COLUMN @extschema@.federated_node_runs.node_name IS 'What the workspace calls this node';

COMMENT ON COLUMN @extschema@.federated_node_runs.dataset IS 'From which it learned';

COMMENT ON COLUMN @extschema@.federated_node_runs.algorithm IS 'What was trained; NULL of a run of an older version, like all that is about columns and terms';

COMMENT ON COLUMN @extschema@.federated_node_runs.features IS 'The columns that it learned from; a run that asked with other ones too has a row for each choice';

COMMENT ON COLUMN @extschema@.federated_node_runs.target IS 'The column that the model predicts';

COMMENT ON COLUMN @extschema@.federated_node_runs.roles IS 'Further columns, by what they are to the rows: weights, offset, event';

COMMENT ON COLUMN @extschema@.federated_node_runs.asked_epsilon IS 'The privacy budget of the workspace, as the run''s tasks named it; NULL without one';

COMMENT ON COLUMN @extschema@.federated_node_runs.asked_delta IS 'The delta of that budget; NULL without one';

COMMENT ON COLUMN @extschema@.federated_node_runs.compliance_mode IS 'The workspace''s, as the run''s tasks named it';

COMMENT ON COLUMN @extschema@.federated_node_runs.first_task_at IS 'When its first task was charged, or without a budget answered';

COMMENT ON COLUMN @extschema@.federated_node_runs.last_task_at IS 'When its last task was charged, or without a budget answered';

COMMENT ON COLUMN @extschema@.federated_node_runs.vectors IS 'How many vectors left for it from the dataset, with any choice of columns';

COMMENT ON COLUMN @extschema@.federated_node_runs.messages IS 'How many messages of sum protocols, in which nothing of rows is, left for it';

COMMENT ON COLUMN @extschema@.federated_node_runs.payload_bytes IS 'Their sealed size together, each counted once however often it was sent';

COMMENT ON COLUMN @extschema@.federated_node_runs.charges IS 'How many of its tasks were charged, whether or not anything left';

COMMENT ON COLUMN @extschema@.federated_node_runs.epsilon_basic IS
    'What the node''s ledger showed with the run''s last charge: all that the workspace had spent by then, added up; NULL without a charge';

COMMENT ON COLUMN @extschema@.federated_node_runs.epsilon_tight IS 'The same, composed as tightly as it is known; NULL without a charge';

COMMENT ON COLUMN @extschema@.federated_node_runs.trust_model IS
    'local: it added the whole noise by itself; distributed: its share of what only sums were seen of; central: it left the noise to the coordinator, which saw exact sums; NULL without a charge. Of a run with several, central before local before distributed';

COMMENT ON COLUMN @extschema@.federated_node_runs.honest_nodes IS
    'Where distributed, on how many honest nodes in each sum its epsilon rests, itself among them, at least; where central, as many hide its own vector from the coordinator; federated.noise_share has each sum''s';

-- Every figure is a line of the ledger: what two lines make together only the node's accountant can tell.
CREATE VIEW @extschema@.federated_dataset_budget AS
WITH known AS (
    SELECT d.name AS dataset, d.workspace, d.base_tables,
           CASE WHEN (d.options ->> 'paused')::boolean THEN 'paused' ELSE 'shared' END AS state
    FROM federated.dataset AS d
    UNION ALL
    SELECT p.dataset, NULL, array_agg(DISTINCT b.base_table_id), 'dropped'
    FROM federated.spending AS p CROSS JOIN LATERAL unnest(p.base_tables) AS b (base_table_id)
    WHERE NOT EXISTS (SELECT FROM federated.dataset AS d WHERE d.name = p.dataset)
    GROUP BY p.dataset
), used AS (
    SELECT k.dataset, k.workspace FROM known AS k WHERE k.workspace IS NOT NULL
    UNION
    SELECT k.dataset, r.workspace
    FROM known AS k JOIN federated.spending AS p ON p.base_tables && k.base_tables JOIN federated.release AS r USING (release_id)
    UNION
    SELECT k.dataset, a.workspace FROM known AS k JOIN federated.agreement AS a ON a.base_tables && k.base_tables
)
SELECT k.dataset, k.state, u.workspace,
       (SELECT min(b.max_epsilon) FROM federated.base_table AS b WHERE b.base_table_id = ANY (k.base_tables)) AS max_epsilon,
       (SELECT min(a.epsilon) FROM federated.agreement AS a WHERE a.workspace = u.workspace AND a.base_tables && k.base_tables) AS agreed_epsilon,
       (SELECT min(a.delta) FROM federated.agreement AS a WHERE a.workspace = u.workspace AND a.base_tables && k.base_tables) AS agreed_delta,
       o.charges, o.epsilon_basic, o.epsilon_tight, o.delta, o.last_charged_at,
       t.epsilon_basic AS total_epsilon_basic, t.epsilon_tight AS total_epsilon_tight, t.delta AS total_delta
FROM used AS u JOIN known AS k USING (dataset)
LEFT JOIN LATERAL (
    SELECT p.workspace_epsilon_basic AS epsilon_basic, p.workspace_epsilon_tight AS epsilon_tight, p.delta,
           p.recorded_at AS last_charged_at, count(*) OVER () AS charges
    FROM federated.spending AS p JOIN federated.release AS r USING (release_id)
    WHERE p.base_tables && k.base_tables AND r.workspace = u.workspace
    ORDER BY p.spending_id DESC LIMIT 1
) AS o ON true
LEFT JOIN LATERAL (
    SELECT p.epsilon_basic, p.epsilon_tight, p.delta FROM federated.spending AS p
    WHERE p.base_tables && k.base_tables ORDER BY p.spending_id DESC LIMIT 1
) AS t ON true;

COMMENT ON VIEW @extschema@.federated_dataset_budget IS
    'At a node: what the tables of each dataset have spent, a row for each workspace that it is shared with or that spent from them. As the node''s ledger has it';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.dataset IS 'Its name';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.state IS 'shared, paused, or dropped: what was spent stays';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.workspace IS 'Who may spend, or spent; through whatever dataset of the same tables';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.max_epsilon IS 'The smallest ceiling that any dataset over its tables ever had, which holds; NULL where none had one';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.agreed_epsilon IS 'What the workspace''s first private release bound it to; it does not count where there is a max_epsilon';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.agreed_delta IS 'The delta of these terms';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.charges IS 'How many tasks of the workspace were charged; NULL for none';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.epsilon_basic IS
    'What the ledger showed with the workspace''s last charge: all of its own until then, added up';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.epsilon_tight IS 'The same, composed as tightly as it is known';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.delta IS 'At which delta these two are';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.last_charged_at IS 'When that was';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.total_epsilon_basic IS
    'What the ledger showed with the last charge of any workspace: all of all workspaces until then, added up; of a charge that took further tables the most charged one''s';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.total_epsilon_tight IS 'The same, composed as tightly as it is known: what max_epsilon is held against, at a delta of at most 1e-5';

COMMENT ON COLUMN @extschema@.federated_dataset_budget.total_delta IS 'At which delta these two are';

CREATE VIEW @extschema@.federated_node_releases AS
SELECT (r.released_at AT TIME ZONE 'UTC')::date AS day, r.workspace, r.dataset,
       count(*) FILTER (WHERE r.state = 'released' AND p.spending_id IS NOT NULL) AS private_vectors,
       count(*) FILTER (WHERE r.state = 'released' AND p.spending_id IS NULL AND NOT r.is_message) AS plain_vectors,
       count(*) FILTER (WHERE r.state = 'released' AND r.is_message) AS messages,
       coalesce(sum(r.payload_bytes) FILTER (WHERE r.state = 'released'), 0)::bigint AS payload_bytes,
       count(*) FILTER (WHERE r.state = 'charged') AS only_charged,
       count(*) FILTER (WHERE r.state = 'failed') AS failed,
       count(*) FILTER (WHERE r.state = 'exported') AS exports
FROM (
    SELECT e.release_id, e.released_at, e.workspace, e.dataset, e.state::text AS state, e.is_message, e.payload_bytes
    FROM federated.release AS e
    UNION ALL
    SELECT NULL, x.exported_at, x.workspace, x.dataset, 'exported', false, x.value_bytes FROM federated.node_export AS x
) AS r LEFT JOIN federated.spending AS p USING (release_id)
GROUP BY 1, 2, 3;

COMMENT ON VIEW @extschema@.federated_node_releases IS 'At a node: what left, by day, workspace and dataset';

COMMENT ON COLUMN @extschema@.federated_node_releases.day IS 'In UTC: the day on which it was let out; of what was only charged, on which it was charged';

COMMENT ON COLUMN @extschema@.federated_node_releases.workspace IS 'To whose coordinator';

COMMENT ON COLUMN @extschema@.federated_node_releases.dataset IS 'From which';

COMMENT ON COLUMN @extschema@.federated_node_releases.private_vectors IS 'With noise, and charged';

COMMENT ON COLUMN @extschema@.federated_node_releases.plain_vectors IS 'Exact';

COMMENT ON COLUMN @extschema@.federated_node_releases.messages IS 'Of sum protocols: nothing of rows is in them';

COMMENT ON COLUMN @extschema@.federated_node_releases.payload_bytes IS 'The sealed size of all of these, each counted once however often it was sent';

COMMENT ON COLUMN @extschema@.federated_node_releases.only_charged IS 'Charged, and nothing has left yet: what is asked for again will';

COMMENT ON COLUMN @extschema@.federated_node_releases.failed IS 'Charged, and nothing will leave: the answer could not be computed';

COMMENT ON COLUMN @extschema@.federated_node_releases.exports IS 'Of how many data subjects the rows were handed over, exactly as they are, for these subjects';

CREATE VIEW @extschema@.federated_node_refusals AS
SELECT f.last_at, f.first_at, f.count, f.workspace, f.run_id, f.node_name, f.step, f.dataset, f.code, f.message, f.detail
FROM federated.refusal AS f;

COMMENT ON VIEW @extschema@.federated_node_refusals IS
    'At a node: the tasks that it refused, in the words that the coordinator was told; the 10,000 latest. What was not signed by the coordinator is in the log alone';

COMMENT ON COLUMN @extschema@.federated_node_refusals.last_at IS 'When it was refused last';

COMMENT ON COLUMN @extschema@.federated_node_refusals.first_at IS 'When it was refused first';

COMMENT ON COLUMN @extschema@.federated_node_refusals.count IS 'How often';

COMMENT ON COLUMN @extschema@.federated_node_refusals.workspace IS 'Whose task it was';

COMMENT ON COLUMN @extschema@.federated_node_refusals.run_id IS 'The run, as the coordinator names it';

COMMENT ON COLUMN @extschema@.federated_node_refusals.node_name IS 'What the workspace calls this node';

COMMENT ON COLUMN @extschema@.federated_node_refusals.step IS 'What the task asked for';

COMMENT ON COLUMN @extschema@.federated_node_refusals.dataset IS 'The dataset that the task was about, or only named; NULL where neither is known';

COMMENT ON COLUMN @extschema@.federated_node_refusals.code IS 'The SQLSTATE';

COMMENT ON COLUMN @extschema@.federated_node_refusals.message IS 'Why';

COMMENT ON COLUMN @extschema@.federated_node_refusals.detail IS 'Of the last time';

COMMENT ON TABLE federated.phase IS
    'What the phases of a round took, written in the transaction that commits what the phase led to; where several exchanges have the same phase, all of them together';

COMMENT ON COLUMN federated.contribution.alignment IS
    'Cosine between the node''s update and the mean of the other nodes'' updates weighted by their rows, from -1 to 1, the last time where a round combines several times; NULL where no other node answered or an update has no direction (all zero, or too large to be measured). Of updates of more than 4,096 values an estimate, with a standard error of about 0.016';

COMMENT ON COLUMN federated.contribution.direction IS
    'Cosine between the node''s update and the median of all in every coordinate; NULL where these point nowhere in common, and of fewer than three updates';

COMMENT ON COLUMN federated.contribution.length IS
    'Norm of the node''s update as a multiple of the median norm, divided by as many times the median rows as it has where these are more; NULL of fewer than three updates';

COMMENT ON COLUMN federated.contribution.likeness IS 'The largest cosine with another node''s update; NULL of fewer than three updates';

CREATE OR REPLACE VIEW @extschema@.federated_performance_metrics AS
SELECT m.name AS model_name, p.round_number, p.phase, p.duration_seconds,
       100 * p.cpu_seconds / nullif(p.busy_seconds, 0) AS cpu_usage_percent,
       p.memory_bytes / 1e9 AS memory_usage_gb,
       p.bytes_sent / 1e6::double precision AS network_sent_mb,
       p.bytes_received / 1e6::double precision AS network_received_mb
FROM federated.model AS m
JOIN LATERAL (
    SELECT r.run_id FROM federated.run AS r WHERE r.model_id = m.model_id AND NOT r.waiting ORDER BY r.created_at DESC LIMIT 1
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
    'Processor time in percent of one core. local_training: of the nodes'' training processes while they computed, as the nodes measured it (sum over the nodes, divided by the sum of their computing times); NULL where no node told, as under a privacy budget, which does not cover what they follow: the number of rows. Else of the coordinator''s process, other runs included; NULL as duration_seconds';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.memory_usage_gb IS
    'Resident memory in 10^9 bytes at its highest in the life of the process up to then. local_training: of the training process of the node that needed most, as it measured; NULL where no node told, as under a privacy budget. Else of the coordinator''s process';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.network_sent_mb IS
    'Tasks sent to nodes, in 10^6 bytes of messages before HTTP/2 framing and TLS, every attempt counted; 0 but in distribution';

COMMENT ON COLUMN @extschema@.federated_performance_metrics.network_received_mb IS
    'Updates received from nodes, counted as network_sent_mb; 0 but in local_training';

CREATE FUNCTION @extschema@.federated_convergence_diagnostics(
    model text, run integer DEFAULT NULL,
    OUT round_number integer, OUT global_loss double precision, OUT loss_delta double precision,
    OUT node_variance double precision, OUT learning_rate double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_convergence_diagnostics.model, federated_convergence_diagnostics.run) AS r WHERE r.run_id IS NOT NULL
    ), evaluated AS (
        SELECT d.round_number, d.global_loss - lag(d.global_loss) OVER (ORDER BY d.round_number) AS delta
        FROM chosen JOIN federated.round AS d USING (run_id)
        WHERE d.global_loss IS NOT NULL
    )
    SELECT d.round_number, d.global_loss, e.delta, d.node_variance,
           coalesce(d.learning_rate, (r.options ->> 'learning_rate')::double precision)
    FROM chosen AS r
    JOIN federated.round AS d USING (run_id)
    LEFT JOIN evaluated AS e ON e.round_number = d.round_number
    WHERE d.round_number > 0
    ORDER BY 1
$$;

COMMENT ON FUNCTION @extschema@.federated_convergence_diagnostics(text, integer) IS
    'How the training rounds of a run of a model converge, by its number in federated_runs, or of the latest. loss_delta: change since the evaluated round before, NULL in the first and where the round was not evaluated. node_variance: the mean, weighted by rows, of the squared L2 distances of the nodes'' updates from their weighted mean, the privacy noise of the updates included, and for updates of more than 4,096 values an estimate with a standard error of about 2 %; NULL where fewer than two nodes answered or the round is not combined yet. learning_rate: the step size that was in force: the run''s option, else the default or, where the noise is that of the nodes'' sum, what follows from the norm to which the round clipped; NULL where no such steps are taken (optimizer newton, random_forest)';

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
    FROM federated.part_taken AS q
    WHERE q.round_number > 0
    GROUP BY q.node_id
) AS p USING (node_id)
LEFT JOIN (
    SELECT DISTINCT ON (q.node_id) q.node_id, q.outcome = 'dropped' AND q.reason = 'timed out' AS straggled
    FROM federated.participation AS q JOIN federated.round AS d USING (run_id, round_number)
    WHERE q.outcome <> 'pending'
    ORDER BY q.node_id, d.started_at DESC, q.exchange DESC, q.step
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
    'Mean over those rounds of the time from the beginning of the exchange until its update was there (where that takes several messages, of the longest); NULL before any';

COMMENT ON COLUMN @extschema@.federated_node_status.dataset_size IS
    'Rows as released in round 0 of the last run (noised under a budget), before that as declared at registration';

COMMENT ON COLUMN @extschema@.federated_node_status.contribution_score IS
    'Gradient alignment, from -1 to 1: in each training round the cosine between the node''s update and the mean of the other nodes'' updates weighted by rows (the cosine gradient Shapley value of Xu et al. 2021, with the node itself left out of the direction); the mean over all its rounds of all runs in which another node took part. Near 1: it moves the model as the others do; 0: unrelated; below 0: against them. Privacy noise draws it towards 0. A cosine of updates of more than 4,096 values is an estimate, with a standard error of about 0.016. NULL before such a round';

CREATE OR REPLACE VIEW @extschema@.federated_node_diagnostics AS
SELECT w.name AS workspace, n.name AS node_name, n.last_seen AS last_heartbeat,
       CASE n.status WHEN 'active' THEN 'connected' WHEN 'slow' THEN 'connected' WHEN 'pending' THEN 'connecting'
            ELSE 'disconnected' END AS connection_status,
       n.failure_reason, coalesce(n.endpoint_in_use, n.options ->> 'endpoint') AS endpoint_in_use, n.certificate_expires,
       least((n.limits ->> 'max_memory_gb')::double precision,
             -- A node heeds no memory that is asked for under a budget: whether its rows fit would tell how many there are.
             CASE WHEN NOT w.options ? 'privacy_budget' THEN (n.options ->> 'max_memory_gb')::double precision END) AS max_memory_gb,
       least((n.limits ->> 'max_cpu_cores')::integer, (n.options ->> 'max_cpu_cores')::integer) AS max_cpu_cores,
       least((n.limits ->> 'max_bandwidth_mbps')::double precision, (n.options ->> 'max_bandwidth_mbps')::double precision) AS max_bandwidth_mbps,
       (n.limits ->> 'task_limit_seconds')::double precision AS task_limit_seconds,
       s.suspicion IS NOT NULL AS suspicious, s.suspicion
FROM federated.node AS n
JOIN federated.workspace AS w USING (workspace_id)
-- Of one round any figure may be chance; who deviates for good deviates in most.
LEFT JOIN LATERAL (
    SELECT nullif(concat_ws('; ',
               CASE WHEN 2 * c.against > c.rounds THEN format('its update points against the others'' in %s', c.against) END,
               CASE WHEN 2 * c.long > c.rounds THEN format('it is %s times as long as usual in the median, far too long in %s',
                                                           round(c.length::numeric, 1), c.long) END,
               CASE WHEN 2 * c.empty > c.rounds THEN format('it moves nothing in %s', c.empty) END,
               CASE WHEN 2 * c.alike > c.rounds THEN format('it is another node''s too in %s', c.alike) END
           ), '') || format(' of its last %s rounds', c.rounds) AS suspicion
    FROM (
        SELECT count(*) AS rounds,
               count(*) FILTER (WHERE r.direction < -0.3) AS against,
               count(*) FILTER (WHERE r.length > 3) AS long,
               count(*) FILTER (WHERE r.length < 0.001) AS empty,
               count(*) FILTER (WHERE r.likeness > 1 - 1e-12) AS alike,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY r.length) AS length
        FROM (
            SELECT o.direction, o.length, o.likeness
            FROM federated.contribution AS o JOIN federated.round AS d USING (run_id, round_number)
            WHERE o.node_id = n.node_id AND o.length IS NOT NULL
            ORDER BY d.started_at DESC, o.round_number DESC
            LIMIT 10
        ) AS r
    ) AS c
    WHERE c.rounds >= 3
) AS s ON true;

COMMENT ON VIEW @extschema@.federated_node_diagnostics IS 'How the coordinator reaches each node, and why not where it does not';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.node_name IS 'Name of the node in its workspace';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.connection_status IS
    'connected, connecting (not met yet) or disconnected, as the coordinator last found it';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.endpoint_in_use IS 'The address at which the node is called: its endpoint or, while it cannot be reached there, its backup_endpoint; NULL of a node that dials or that Flower reaches';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.last_heartbeat IS 'When it last answered a greeting or a heartbeat; NULL before any';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.failure_reason IS 'Why it is slow or failed; NULL while it answers and before it was tried';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.certificate_expires IS 'When the pinned certificate expires; NULL until the node was met';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.max_memory_gb IS
    'GiB that its training process holds for a task of the workspace: the lower of what the node''s own settings allow and what the registration asks; under a privacy_budget, where a registration''s is not heeded, the node''s own alone. NULL where none is known';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.max_cpu_cores IS 'Cores on which that process computes: the lower of the two, NULL where neither is known';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.max_bandwidth_mbps IS '10^6 bits a second, the lower of the two: at most so fast the node sends its answers; what the coordinator sends keeps to the registration''s alone. NULL: no limit is known';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.task_limit_seconds IS 'Seconds after which the node ends a computation; NULL until the node was met';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.suspicious IS
    'Whether something speaks against the node in more than half of its last ten training rounds with three updates or more (of three such rounds at least); false too where nothing can be seen of single updates: under secure_aggregation, and of what adds sums up';

COMMENT ON COLUMN @extschema@.federated_node_diagnostics.suspicion IS
    'What that is: updates that point against the median of all (cosine below -0.3, where these point anywhere in common), more than three times as long as the median update and as the node''s rows explain, that move nothing, or that are the very update of another node; NULL where it is nothing. It decides nothing: who attacks with care is not found this way, and a node whose people are unlike all others'' may be; the aggregation rule is what withstands';

-- Folds, searches and groups that vote: the runs that one START makes, one after another, and what they are compared by.
--
-- What always holds: of a series one run at most does not wait; whatever ends it, the same transaction lets the next
-- one begin, or ends the others where it was stopped. So the rows alone say how far a series is.
CREATE FUNCTION federated._tried(options jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(k.name, options -> k.name), '{}')
    FROM jsonb_object_keys(coalesce(options -> 'search', '{}')) AS k (name)
$$;

COMMENT ON FUNCTION federated._tried(jsonb) IS 'Of the options of a run: those that its search varies, as the run has them';

-- As domain/groups.py deals them; the catalog's names and the hash are bytes, whatever the database's collation.
CREATE FUNCTION federated._dealt(nodes text[], groups integer, workspace text, number integer) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(d.name ORDER BY d.place), '{}') FROM (
        SELECT n.name, row_number() OVER (
            ORDER BY sha256(convert_to(workspace, 'UTF8') || '\x00'::bytea || convert_to(n.name, 'UTF8'))) AS place
        FROM unnest(nodes) AS n (name)
    ) AS d
    WHERE (d.place - number) % groups = 0
$$;

COMMENT ON FUNCTION federated._dealt(text[], integer, text, integer) IS
    'The nodes of a group, by its number from 1, of so many to which a workspace''s nodes are dealt';

-- What is certified rests on this: whoever queues the runs chooses neither whose rows a group's model learns from, nor that a
-- node is in two groups.
CREATE FUNCTION federated._check_group(new_run federated.run) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    groups integer := (new_run.options ->> 'voting_groups')::integer;
    needed integer := greatest((new_run.policy ->> 'min_nodes')::integer, (new_run.policy ->> 'min_nodes_per_round')::integer);
    dealt  text[];
    other  text;
BEGIN
    IF new_run.voting_group IS NOT NULL AND groups IS NULL
       -- Behind the runs of all groups one more measures their vote, and trains nothing.
       OR new_run.voting_group IS NULL AND groups IS NOT NULL AND (
           new_run.policy ->> 'privacy_budget' IS NOT NULL
           OR groups <> (SELECT count(r.voting_group) FROM federated.run AS r
                         WHERE r.series_id = new_run.series_id AND r.model_id = new_run.model_id)
           OR EXISTS (SELECT FROM federated.run AS r WHERE r.series_id = new_run.series_id AND r.voting_group IS NULL))
       OR new_run.voting_group > groups
       OR new_run.voting_group IS NOT NULL AND (new_run.trial IS NOT NULL OR new_run.fold IS NOT NULL)
       OR EXISTS (SELECT FROM federated.run AS r WHERE r.series_id = new_run.series_id
                     AND (new_run.voting_group IS NOT NULL AND r.model_id <> new_run.model_id
                          OR r.voting_group = new_run.voting_group
                          OR r.options -> 'voting_groups' IS DISTINCT FROM new_run.options -> 'voting_groups')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the run''s group does not go with its voting_groups';
    ELSIF new_run.voting_group IS NULL THEN
        RETURN;
    END IF;
    dealt := federated._dealt(
        ARRAY(SELECT n.name FROM federated.node AS n JOIN federated.model AS m USING (workspace_id)
              WHERE m.model_id = new_run.model_id),
        groups, new_run.policy ->> 'workspace', new_run.voting_group);
    other := (
        SELECT min(n.name) FROM unnest(dealt || new_run.group_nodes) AS n (name)
        WHERE n.name <> ALL (dealt) OR n.name <> ALL (new_run.group_nodes));
    IF other IS NOT NULL OR cardinality(dealt) <> cardinality(new_run.group_nodes) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the nodes of group %s are not those that are dealt to it', new_run.voting_group),
            DETAIL = format('Dealt to it are %s.', coalesce(nullif(array_to_string(dealt, ', '), ''), 'none')),
            HINT = 'START FEDERATED TRAINING makes all runs of a series. Where nodes were registered or dropped meanwhile, try again.';
    ELSIF cardinality(dealt) < needed THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('group %s would be of fewer nodes than min_nodes', new_run.voting_group),
            DETAIL = format('It has %s, and %s are needed.', cardinality(dealt), needed),
            HINT = 'Register more nodes, ask for fewer groups, or lower min_nodes.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_group(federated.run) IS
    'Lets no run of a series in whose group does not go with its options or with the others of the series, has other nodes than are dealt to it, or too few';

CREATE FUNCTION federated._check_series(new_run federated.run) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    folds integer := (new_run.options ->> 'folds')::integer;
BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT r.series_id FROM federated.run AS r
                            WHERE r.model_id = new_run.model_id AND r.series_id IS NOT NULL) AS s
               WHERE federated._is_undecided(s.series_id)) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = 'the search of the federated model has not ended',
            DETAIL = 'The coordinator is about to make a version of what its runs have left.', HINT = 'Try again.';
    ELSIF (new_run.series_id IS NOT NULL) <> (folds IS NOT NULL OR new_run.options ?| '{search,voting_groups}') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN new_run.series_id IS NULL
                THEN 'a run with folds, search or voting_groups is one of a series'
                ELSE 'a run without folds, search and voting_groups belongs to no series' END,
            HINT = 'START FEDERATED TRAINING makes all runs of a series.';
    ELSIF new_run.series_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM federated._check_group(new_run);
    IF new_run.fold >= coalesce(folds, 0)
          OR new_run.fold IS NULL AND folds IS NOT NULL AND NOT (new_run.trial IS NULL AND new_run.options ? 'search')
          OR new_run.trial IS NULL AND folds IS NULL AND NOT new_run.options ? 'voting_groups' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the run''s trial and fold do not go with its folds and search';
    ELSIF new_run.waiting <> EXISTS (
            SELECT FROM federated.run AS r WHERE r.series_id = new_run.series_id AND r.model_id = new_run.model_id
               AND NOT r.waiting AND r.status = 'queued') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'of a series all runs but the first wait, and are queued before that begins';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_series(federated.run) IS
    'Lets no run in whose options ask for folds, a search or groups that vote that it is not a part of';

-- A trial whose folds were not all evaluated is not compared: the mean of others would be about other rows.
CREATE FUNCTION federated._trials(series uuid, OUT trial integer, OUT tried jsonb, OUT loss double precision,
    OUT loss_std double precision, OUT accuracy double precision, OUT place integer, OUT runs jsonb) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.*, CASE WHEN k.loss IS NOT NULL OR k.accuracy IS NOT NULL THEN
               (row_number() OVER (ORDER BY k.loss, k.accuracy DESC NULLS LAST, k.trial))::integer END, u.runs
    FROM (
        SELECT r.trial, federated._tried(r.options) AS tried,
               CASE WHEN count(d.global_loss) = count(*) THEN avg(d.global_loss) END AS loss,
               CASE WHEN count(d.global_loss) = count(*) THEN stddev_samp(d.global_loss) END AS loss_std,
               CASE WHEN count(d.global_accuracy) = count(*) THEN avg(d.global_accuracy) END AS accuracy
        FROM federated.run AS r
        LEFT JOIN federated.round AS d ON d.run_id = r.run_id AND d.round_number = r.result_round
        WHERE r.series_id = _trials.series AND r.trial IS NOT NULL AND (r.fold IS NOT NULL OR NOT r.options ? 'folds')
        GROUP BY r.trial, federated._tried(r.options)
    ) AS k
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(to_jsonb(r.run_id) ORDER BY r.fold) AS runs FROM federated.run AS r
        WHERE r.series_id = _trials.series AND r.trial = k.trial AND (r.fold IS NOT NULL OR NOT r.options ? 'folds')
    ) AS u
$$;

COMMENT ON FUNCTION federated._trials(uuid) IS
    'The trials of a series: what each tried, its loss and accuracy (means over its folds; NULL unless all are known), and its place, 1 for the best';

-- DEFINER: who starts or watches runs learns this of what they have left, and cannot read it.
CREATE FUNCTION federated._is_undecided(series uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM federated.run AS r WHERE r.series_id = series AND r.status IN ('queued', 'running'))
       AND EXISTS (SELECT FROM federated.run AS r JOIN federated.run_parameters AS p USING (run_id)
                   WHERE r.series_id = series AND NOT r.options ? 'folds')
$$;

COMMENT ON FUNCTION federated._is_undecided(uuid) IS
    'Whether all runs of a search, or of groups that vote, have ended and the coordinator has yet to make the version of the best, or of all: until then the parameters of its runs are kept';

CREATE FUNCTION federated._advance_series() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    following federated.run;
    best      record;
BEGIN
    IF NEW.status = 'stopped' THEN
        UPDATE federated.run AS r SET status = 'stopped', message = 'stopped before it began', finished_at = clock_timestamp()
        WHERE r.series_id = NEW.series_id AND r.model_id = NEW.model_id AND r.status = 'queued' AND r.waiting;
    ELSE
        SELECT r.* INTO following FROM federated.run AS r
        WHERE r.series_id = NEW.series_id AND r.model_id = NEW.model_id AND r.status = 'queued' AND r.waiting
        ORDER BY r.trial NULLS LAST, r.fold, r.voting_group LIMIT 1;
        IF following.trial IS NOT NULL OR following.options ? 'voting_groups' THEN
            UPDATE federated.run AS r SET waiting = false WHERE r.run_id = following.run_id;
        ELSIF following.run_id IS NOT NULL THEN
            SELECT t.trial, t.tried INTO best FROM federated._trials(NEW.series_id) AS t WHERE t.place = 1;
            UPDATE federated.run AS r SET waiting = false, trial = best.trial, options = r.options || best.tried,
                overrides = r.overrides || best.tried
            WHERE r.run_id = following.run_id AND best.trial IS NOT NULL;
            UPDATE federated.run AS r SET status = 'failed', finished_at = clock_timestamp(),
                message = 'no trial was evaluated on all of its folds, so none is the best'
            WHERE r.run_id = following.run_id AND best.trial IS NULL;
        END IF;
    END IF;
    PERFORM pg_notify('heliosdb_federated', '');
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._advance_series() IS
    'Lets the next run of a series begin when one has ended; the last one of a search with folds trains the best trial anew';

-- A queued run is stopped by what is done before its stop_requested is updated.
CREATE TRIGGER advance_series AFTER UPDATE OF status, stop_requested ON federated.run
    FOR EACH ROW WHEN (NEW.series_id IS NOT NULL AND NOT OLD.waiting AND OLD.status IN ('queued', 'running')
                       AND NEW.status NOT IN ('queued', 'running'))
    EXECUTE FUNCTION federated._advance_series();

CREATE FUNCTION federated._series_status(series uuid, OUT status text, OUT message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN u.is_undecided THEN 'running' ELSE r.status::text END,
           CASE WHEN NOT u.is_undecided THEN r.message WHEN r.voting_group IS NULL THEN 'the best trial is to become a version'
                ELSE 'the models of the groups are to become a version' END
    FROM federated.run AS r CROSS JOIN (SELECT federated._is_undecided(series) AS is_undecided) AS u
    WHERE r.series_id = series
    ORDER BY EXISTS (SELECT FROM federated.version AS v WHERE v.run_id = r.run_id) DESC,
             r.status IN ('converged', 'completed'), r.waiting, r.created_at
    LIMIT 1
$$;

COMMENT ON FUNCTION federated._series_status(uuid) IS
    'How a series of which all runs have ended did so (running: what its runs have left is yet to become a version): as the run that became a version, else as the first that did not end well, else as the first';

CREATE FUNCTION federated._run_metrics(run_id uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
               'fold', r.fold, 'status', r.status, 'message', r.message, 'round_number', r.result_round,
               'loss', d.global_loss, 'loss_std_error', d.global_loss_std_error, 'accuracy', d.global_accuracy,
               'accuracy_std_error', d.global_accuracy_std_error, 'base_loss', d.base_loss,
               'precision', d.global_precision, 'recall', d.global_recall, 'f1_score', d.global_f1_score,
               'rmse', d.global_rmse)
    FROM federated.run AS r
    LEFT JOIN federated.round AS d ON d.run_id = r.run_id AND d.round_number = r.result_round
    WHERE r.run_id = _run_metrics.run_id
$$;

COMMENT ON FUNCTION federated._run_metrics(uuid) IS 'The figures by which a trial, or one fold of it, is judged';

CREATE FUNCTION @extschema@.federated_trials(model text, run integer DEFAULT NULL, OUT trial integer, OUT options jsonb, OUT metrics jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.trial, t.tried,
           jsonb_build_object('place', t.place,
               'version', (SELECT max(v.version) FROM federated.version AS v JOIN federated.run AS r USING (run_id)
                           WHERE r.series_id = s.series_id AND r.trial = t.trial))
           || CASE WHEN s.folds IS NULL THEN federated._run_metrics((t.runs ->> 0)::uuid) - 'fold'
              ELSE jsonb_build_object('loss', t.loss, 'loss_std', t.loss_std) || f.figures || g.means END
    FROM (
        SELECT r.series_id, (r.options ->> 'folds')::integer AS folds
        FROM federated._find_run(federated_trials.model, federated_trials.run) AS chosen
        LEFT JOIN LATERAL (
            SELECT l.run_id FROM federated.run AS l WHERE l.model_id = chosen.model_id AND l.series_id IS NOT NULL
            ORDER BY l.created_at DESC LIMIT 1) AS latest ON federated_trials.run IS NULL
        JOIN federated.run AS r ON r.run_id = CASE WHEN federated_trials.run IS NULL THEN latest.run_id ELSE chosen.run_id END
        WHERE r.series_id IS NOT NULL
    ) AS s
    CROSS JOIN LATERAL federated._trials(s.series_id) AS t
    CROSS JOIN LATERAL (
        SELECT jsonb_build_object(
                   'accuracy', t.accuracy,
                   'accuracy_std', CASE WHEN t.accuracy IS NOT NULL THEN stddev_samp((m.one ->> 'accuracy')::double precision) END,
                   'folds', jsonb_agg(m.one ORDER BY m.place)) AS figures
        FROM (
            SELECT federated._run_metrics(u.id::uuid) AS one, u.place
            FROM jsonb_array_elements_text(t.runs) WITH ORDINALITY AS u (id, place)
        ) AS m
    ) AS f
    -- Where a fold has no figure, the mean of the others would be about other rows.
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(e.key, e.mean) AS means FROM (
            SELECT w.key, CASE WHEN count(w.value) = count(*) THEN avg(w.value::double precision) END AS mean
            FROM jsonb_array_elements(f.figures -> 'folds') AS one, jsonb_each_text(one) AS w
            WHERE w.key IN ('base_loss', 'precision', 'recall', 'f1_score', 'rmse') GROUP BY w.key
        ) AS e
    ) AS g
    ORDER BY t.trial
$$;

COMMENT ON FUNCTION @extschema@.federated_trials(text, integer) IS
    'The trials of the START with folds or search that a run, by its number in federated_runs, is of, or of the model''s latest one. options: what a trial sets in place of the model''s and START''s. metrics: place (1 is the best, by loss; NULL where it was not evaluated on all of its folds), the version that it became, and loss, accuracy and further figures; with folds their means (NULL where a fold has no such figure), loss_std and accuracy_std, the sample standard deviations over folds, and folds, the figures and the status of each. By the loss of the best, the best was chosen: the rows by which that was done flatter it, and the figures of its version, the more trials the more. Keep other rows apart to judge it by';

CREATE FUNCTION @extschema@.federated_run_groups(
    model text, run integer DEFAULT NULL,
    OUT kind text, OUT group_number integer, OUT group_nodes text[], OUT run_id uuid
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_run_groups.model, federated_run_groups.run) AS r WHERE r.run_id IS NOT NULL
    ), together AS (
        SELECT r.* FROM chosen AS r
        UNION
        SELECT r.* FROM federated.run AS r JOIN chosen AS c ON r.series_id = c.series_id
        WHERE r.voting_group IS NOT NULL
    )
    SELECT g.kind, g.number, g.nodes, g.run_id
    FROM (
        SELECT 'voting' AS kind, r.voting_group AS number, r.group_nodes AS nodes, r.run_id, r.voting_group
        FROM together AS r WHERE r.voting_group IS NOT NULL
        UNION ALL
        SELECT 'robust', e.place::integer, ARRAY(SELECT jsonb_array_elements_text(e.nodes)), r.run_id, r.voting_group
        FROM together AS r CROSS JOIN LATERAL jsonb_array_elements(r.scaling -> 'groups') WITH ORDINALITY AS e (nodes, place)
    ) AS g
    ORDER BY g.kind DESC, g.voting_group, g.number
$$;

COMMENT ON FUNCTION @extschema@.federated_run_groups(text, integer) IS
    'Which nodes are in which group of a run of a model, by its number in federated_runs, or of the latest. kind voting: the groups of voting_groups, each of which trains a model of its own in the run of that run_id; robust: those of robust_groups, to which the nodes of round 0 were dealt, whose sums the rule compares. No row for a run without groups, and none of robust ones before round 0 is closed';

-- What is certified of a prediction by vote (Cao, Zhang, Jia and Gong 2022, FLCert): how many hostile nodes cannot change it.
--
-- What always holds: a node trains in one group and changes one model at most: a vote, or of which kinds its columns are. So
-- the figure follows from the counts of votes, the order of ties and the counts of models of like columns alone, and computing
-- it reads no row of a node and costs no budget.

-- With m votes changed the first class has at least its own less m, another at most its own and m.
CREATE FUNCTION federated._certified_nodes(votes integer[]) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH counted AS (
        SELECT v.votes, v.place FROM unnest(votes) WITH ORDINALITY AS v (votes, place)
    ), first AS (
        SELECT c.votes, c.place FROM counted AS c ORDER BY c.votes DESC, c.place LIMIT 1
    )
    SELECT min((f.votes - c.votes - (c.place < f.place)::integer) / 2)::integer
    FROM first AS f JOIN counted AS c ON c.place <> f.place
$$;

COMMENT ON FUNCTION federated._certified_nodes(integer[]) IS
    'How many votes may be any others without another class winning; votes: of each class, in the order in which equal ones win';

-- A sealed version shows these two figures, and nothing else of who votes.
CREATE FUNCTION federated._count_voters(reference text, OUT voters integer, OUT margin integer) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT h.prediction, h.model_name, h.version INTO found FROM federated._find_held(reference) AS h;
    IF found.prediction ->> 'kind' IS DISTINCT FROM 'votes' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" does not predict by vote', found.version, found.model_name),
            DETAIL = 'What is certified follows from the votes of models that disjoint groups of nodes have trained.',
            HINT = format('START FEDERATED TRAINING %s WITH (voting_groups = 5) trains such models.', quote_ident(found.model_name));
    END IF;
    voters := (found.prediction ->> 'votes')::integer;
    margin := (found.prediction ->> 'margin')::integer;
END
$$;

COMMENT ON FUNCTION federated._count_voters(text) IS
    'How many models vote in the version that a model, model@tag or model@number names, and how many groups could not have had models of other columns vote; 55000 where it does not predict by vote';

CREATE FUNCTION @extschema@.federated_certify(
    model text, features jsonb, OUT prediction text, OUT votes integer, OUT runner_up text, OUT runner_up_votes integer,
    OUT voters integer, OUT hostile_nodes integer
) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    classes      text[];
    counts       integer[];
    margin integer;
BEGIN
    SELECT c.voters, c.margin INTO voters, margin FROM federated._count_voters(model) AS c;
    classes := federated._classes(model);
    counts := ARRAY(
        SELECT round(voters * s.share)::integer
        FROM unnest(federated._probabilities(model, classes, features)) WITH ORDINALITY AS s (share, place) ORDER BY s.place);
    IF cardinality(counts) = 0 THEN
        RETURN;
    END IF;
    SELECT max(o.label) FILTER (WHERE o.rank = 1), max(o.votes) FILTER (WHERE o.rank = 1),
           max(o.label) FILTER (WHERE o.rank = 2), max(o.votes) FILTER (WHERE o.rank = 2)
    INTO prediction, votes, runner_up, runner_up_votes
    FROM (
        SELECT c.label, c.votes, row_number() OVER (ORDER BY c.votes DESC, c.place) AS rank
        FROM unnest(classes, counts) WITH ORDINALITY AS c (label, votes, place)
    ) AS o;
    -- Whose columns are of other kinds than most models' does not vote: who moves that majority changes many votes.
    hostile_nodes := least(federated._certified_nodes(counts), coalesce(margin, 0));
END
$$;

COMMENT ON FUNCTION @extschema@.federated_certify(text, jsonb) IS
    'Of one row, given as JSON, what the current version of a model, or the one that model@tag or model@number names, predicts by the votes of its groups'' models: the class with the most votes (of equal ones the first), the next one, how many vote, and hostile_nodes: up to so many nodes, whatever they had answered in training, could not have changed the prediction, were all else the same (Cao, Zhang, Jia and Gong 2022, FLCert). 0: a single node may have decided it. 55000 for a version that does not predict by vote. It says nothing of rows that are hostile themselves, nor of whoever runs the coordinator; NULL features count as in predictions';

CREATE FUNCTION federated._certified(model text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
    started federated.run;
BEGIN
    PERFORM federated._count_voters(model);
    IF subject.report ? 'certified' THEN
        RETURN subject.report;
    END IF;
    SELECT r.* INTO started FROM federated.run AS r WHERE r.run_id = subject.run_id;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('the vote of version %s of federated model "%s" was not measured at the nodes', subject.version, model),
        DETAIL = CASE
            WHEN started.policy ->> 'privacy_budget' IS NOT NULL THEN 'Under a privacy_budget that is not supported yet: the counts would have no noise.'
            WHEN (started.options ->> 'validation_split')::double precision = 0 THEN 'validation_split is 0, so no row is held out.'
            ELSE coalesce((
                SELECT format('The run that was to measure it: %s.', r.message) FROM federated.run AS r
                WHERE r.series_id = started.series_id AND r.voting_group IS NULL AND r.message <> ''),
                'It was made before votes were measured.') END,
        HINT = format('federated_certified_accuracy(%L, ''SELECT ...'') counts the same over rows that you can read.', model);
END
$$;

COMMENT ON FUNCTION federated._certified(text) IS
    'The report of a version by vote, of which part it is what the nodes have counted; 55000 where it has none';

CREATE FUNCTION @extschema@.federated_certify(model text)
RETURNS TABLE (hostile_nodes integer, certified_share double precision, certified_accuracy double precision, row_count bigint, node_name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS MATERIALIZED (
        SELECT federated._certified(federated_certify.model) AS report
    ), counts AS (
        SELECT NULL AS node_name, t.report -> 'certified' AS found FROM told AS t
        UNION ALL
        SELECT n.key, n.value -> 'certified' FROM told AS t, jsonb_each(t.report -> 'nodes') AS n
    ), rows AS (
        SELECT c.node_name, (w.place - 1)::integer AS number, w.count::bigint AS wrong, r.count::bigint AS right_ones
        FROM counts AS c
        CROSS JOIN LATERAL jsonb_array_elements_text(c.found -> 'wrong') WITH ORDINALITY AS w (count, place)
        JOIN LATERAL jsonb_array_elements_text(c.found -> 'right') WITH ORDINALITY AS r (count, place) USING (place)
    )
    SELECT r.number, (sum(r.wrong + r.right_ones) OVER above / sum(r.wrong + r.right_ones) OVER everything)::double precision,
           (sum(r.right_ones) OVER above / sum(r.wrong + r.right_ones) OVER everything)::double precision,
           (sum(r.wrong + r.right_ones) OVER everything)::bigint, r.node_name
    FROM rows AS r
    WINDOW everything AS (PARTITION BY r.node_name),
           above AS (PARTITION BY r.node_name ORDER BY r.number ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    ORDER BY r.node_name NULLS FIRST, r.number
$$;

COMMENT ON FUNCTION @extschema@.federated_certify(text) IS
    'How much of what a version predicts by vote is certified, measured over the held-out rows of all nodes when it was made: from 0 hostile nodes to half of the voters, certified_share: the share of rows whose prediction at least so many nodes cannot have changed, and certified_accuracy: the share of which that is so and whose prediction is right. First of all nodes (node_name is NULL), then of each node whose own answer the sum protocol shows: a hostile node states its own rows as it likes. At a node a figure of fewer than min_cell data subjects counts as one of fewer hostile nodes: both shares may be a little too small, and are never too large. Nothing is computed anew. 55000 for a version that does not predict by vote or was not measured, as under a privacy_budget';

-- What a table calls a class: its label, as a number however that is written, true for '1'.
CREATE FUNCTION federated._is_named(label text, given jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE jsonb_typeof(given)
        WHEN 'boolean' THEN label IN (given #>> '{}', (given #>> '{}')::boolean::integer::text)
        WHEN 'number' THEN CASE WHEN label ~ '^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,2})?$' THEN label::numeric = (given #>> '{}')::numeric ELSE false END
        WHEN 'null' THEN NULL
        ELSE label = given #>> '{}' END
$$;

COMMENT ON FUNCTION federated._is_named(text, jsonb) IS 'Whether a value of a target is the class of that label; NULL for NULL';

CREATE FUNCTION federated._chosen(given jsonb, names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(n.name, given -> n.name), '{}') FROM unnest(names) AS n (name) WHERE given ? n.name
$$;

COMMENT ON FUNCTION federated._chosen(jsonb, text[]) IS 'Of an object what has one of these names';

CREATE FUNCTION federated._check_judged(reference text, target text, features text[], columns jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._check_evaluated(reference, target, NULL, NULL, features || target, columns);
    IF NOT EXISTS (SELECT FROM jsonb_to_recordset(columns) AS c (name text) WHERE c.name = ANY (features)) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', reference),
            HINT = format('Its features are %s.', array_to_string(features, ', '));
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_judged(text, text, text[], jsonb) IS
    'Raises 42703 where a query has no target or no feature of a version, and 42702 where it has one of them twice';

-- Carry no SET clause: the query is the caller's, and so are its names. It is known to be one statement and whole in itself:
-- behind it no parenthesis closes early.
CREATE FUNCTION federated._fetch_rows(query text) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY EXECUTE pg_catalog.format(E'SELECT pg_catalog.to_jsonb(q) FROM (%s\n) AS q', query);
END
$$;

COMMENT ON FUNCTION federated._fetch_rows(text) IS 'The rows of a query of the caller''s, as JSON';

CREATE FUNCTION @extschema@.federated_certified_accuracy(model text, query text)
RETURNS TABLE (hostile_nodes integer, certified_share double precision, certified_accuracy double precision, row_count bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    voters   pg_catalog.int4 := (SELECT c.voters FROM federated._count_voters(model) AS c);
    target   pg_catalog.text := (SELECT e.target FROM federated._evaluated_columns(model) AS e);
    features pg_catalog.text[] := federated._current_features(model);
    whole    pg_catalog.jsonb;
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null',
            HINT = 'Name rows by which the version is to be judged: their features, and the target by its name.';
    END IF;
    whole := federated._describe_columns(query);
    PERFORM federated._raise(whole OPERATOR(pg_catalog.->) 'failure');
    PERFORM federated._check_judged(model, target, features, whole OPERATOR(pg_catalog.->) 'columns');
    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT c.hostile_nodes, federated._is_named(c.prediction, q.one OPERATOR(pg_catalog.->) target) AS is_right
        FROM federated._fetch_rows(whole OPERATOR(pg_catalog.->>) 'query') AS q (one)
        CROSS JOIN LATERAL @extschema@.federated_certify(model, federated._chosen(q.one, features)) AS c
    )
    SELECT m.number,
           pg_catalog.avg((j.hostile_nodes OPERATOR(pg_catalog.>=) m.number)::pg_catalog.int4)::pg_catalog.float8,
           pg_catalog.avg((j.hostile_nodes OPERATOR(pg_catalog.>=) m.number AND j.is_right)::pg_catalog.int4)::pg_catalog.float8,
           pg_catalog.count(*)
    FROM pg_catalog.generate_series(0, voters OPERATOR(pg_catalog./) 2) AS m (number)
    CROSS JOIN judged AS j
    WHERE j.hostile_nodes IS NOT NULL AND j.is_right IS NOT NULL
    GROUP BY m.number ORDER BY m.number;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = pg_catalog.format('the query has no row by which federated model "%s" can be judged', model),
            DETAIL = 'None of its rows has a target and a prediction.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_certified_accuracy(text, text) IS
    'How much of a model''s accuracy no so many hostile nodes can take away: of the rows of a query, run with the caller''s rights and search_path, with features and the target as columns of their names, certified_share: the share whose prediction at least hostile_nodes nodes cannot have changed (federated_certify), and certified_accuracy: the share of which that is so and whose prediction is right, from 0 hostile nodes (what the version predicts right) to half of the voters. row_count: of rows with a target. These rows are the caller''s own: nothing leaves the database, and nothing is charged. 55000 for a version that does not predict by vote, 42703 where the query has no target';

CREATE FUNCTION federated._groups_hint(model_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT run, voting_group FROM federated_runs WHERE model_name = %L names the runs; federated_training_metrics(%L, run => ...) has the figures of one.',
                  m.name, m.name)
    FROM federated.model AS m WHERE m.model_id = _groups_hint.model_id
$$;

COMMENT ON FUNCTION federated._groups_hint(bigint) IS 'Where the figures of the groups are whose models vote';

CREATE OR REPLACE FUNCTION federated._evaluation(model text)
RETURNS TABLE (global_loss double precision, global_accuracy double precision, global_precision double precision,
               global_recall double precision, global_f1_score double precision, per_node_metrics jsonb,
               global_loss_std_error double precision, global_accuracy_std_error double precision,
               base_loss double precision, global_rmse double precision, global_auc double precision,
               global_auc_std_error double precision, global_brier double precision, global_mae double precision,
               global_r2 double precision, global_c_index double precision, global_precision_std_error double precision,
               global_recall_std_error double precision, global_f1_score_std_error double precision,
               global_rmse_std_error double precision, global_brier_std_error double precision,
               global_mae_std_error double precision, global_c_index_std_error double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v      federated.version := federated._read_reference(model);
    reason text;
BEGIN
    global_loss := v.global_loss;
    global_accuracy := v.global_accuracy;
    global_precision := coalesce(v.global_precision, (v.report ->> 'precision')::double precision);
    global_precision_std_error := (v.report ->> 'precision_std_error')::double precision;
    global_recall := coalesce(v.global_recall, (v.report ->> 'recall')::double precision);
    global_recall_std_error := (v.report ->> 'recall_std_error')::double precision;
    global_f1_score := coalesce(v.global_f1_score, (v.report ->> 'f1_score')::double precision);
    global_f1_score_std_error := (v.report ->> 'f1_score_std_error')::double precision;
    per_node_metrics := (
        SELECT jsonb_object_agg(coalesce(n.key, o.name), coalesce(n.value -> 'figures', '{}') || coalesce(o.beside, '{}'))
        FROM (SELECT r.key, r.value FROM jsonb_each(v.report -> 'nodes') AS r WHERE jsonb_typeof(r.value -> 'figures') = 'object') AS n
        FULL JOIN (
            -- Of a run that was resumed the last of them.
            SELECT DISTINCT ON (d.name) d.name, jsonb_build_object('personalization', p.described) AS beside
            FROM federated.participation AS p JOIN federated.node AS d USING (node_id)
            WHERE p.run_id = v.run_id AND p.step = 'personalize' AND p.described IS NOT NULL
            ORDER BY d.name, p.round_number DESC
        ) AS o ON o.name = n.key);
    global_loss_std_error := v.global_loss_std_error;
    global_accuracy_std_error := v.global_accuracy_std_error;
    base_loss := v.base_loss;
    global_rmse := v.global_rmse;
    global_auc := (v.report ->> 'auc')::double precision;
    global_auc_std_error := (v.report ->> 'auc_std_error')::double precision;
    global_brier := (v.report ->> 'brier')::double precision;
    global_mae := (v.report ->> 'mae')::double precision;
    global_brier_std_error := (v.report ->> 'brier_std_error')::double precision;
    global_mae_std_error := (v.report ->> 'mae_std_error')::double precision;
    -- Of the root of a number: its own error over twice the root.
    global_rmse_std_error := v.global_loss_std_error / (2.0 * nullif(v.global_rmse, 0.0));
    global_r2 := CASE WHEN v.global_rmse IS NOT NULL THEN v.global_accuracy END;
    global_c_index := (v.report ->> 'c_index')::double precision;
    global_c_index_std_error := (v.report ->> 'c_index_std_error')::double precision;
    IF v.prediction ->> 'kind' = 'votes' THEN
        RAISE NOTICE 'a version by vote has no figures of its own: each group''s run has'
            USING HINT = federated._groups_hint(v.model_id);
    ELSIF num_nulls(global_loss, global_accuracy) > 0 THEN
        -- What round 0 says may be of nodes that were left out, and of anything else but figures.
        reason := (SELECT nullif(concat_ws('; ',
                       CASE WHEN (r.options ->> 'validation_split')::double precision = 0 THEN 'validation_split is 0, so no row is held out' END,
                       r.plan ->> 'reason', CASE WHEN d.message <> '' THEN format('round %s: %s', d.round_number, d.message) END), '')
                   FROM federated.run AS r LEFT JOIN federated.round AS d ON d.run_id = r.run_id AND d.round_number = v.round_number
                   WHERE r.run_id = v.run_id);
        IF reason IS NOT NULL THEN
            RAISE NOTICE 'not every figure of federated model "%" is known', model USING DETAIL = reason;
        END IF;
    END IF;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION federated._evaluation(text) IS
    'What is known of how a model''s current version does, or the one that model@tag names: one row; what nodes do not count is NULL';

CREATE OR REPLACE FUNCTION @extschema@.federated_evaluate(model text, OUT metric text, OUT value double precision) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.metric, m.value
    FROM federated._evaluation(federated_evaluate.model) AS e
    CROSS JOIN LATERAL (VALUES
        (1, 'global_loss', e.global_loss), (2, 'global_accuracy', e.global_accuracy),
        (3, 'global_precision', e.global_precision), (4, 'global_recall', e.global_recall),
        (5, 'global_f1_score', e.global_f1_score), (6, 'global_loss_std_error', e.global_loss_std_error),
        (7, 'global_accuracy_std_error', e.global_accuracy_std_error), (8, 'base_loss', e.base_loss),
        (9, 'global_rmse', e.global_rmse), (10, 'global_auc', e.global_auc),
        (11, 'global_auc_std_error', e.global_auc_std_error), (12, 'global_brier', e.global_brier),
        (13, 'global_mae', e.global_mae), (14, 'global_r2', e.global_r2), (15, 'global_c_index', e.global_c_index),
        (16, 'global_precision_std_error', e.global_precision_std_error), (17, 'global_recall_std_error', e.global_recall_std_error),
        (18, 'global_f1_score_std_error', e.global_f1_score_std_error), (19, 'global_rmse_std_error', e.global_rmse_std_error),
        (20, 'global_brier_std_error', e.global_brier_std_error), (21, 'global_mae_std_error', e.global_mae_std_error),
        (22, 'global_c_index_std_error', e.global_c_index_std_error)) AS m (place, metric, value)
    ORDER BY m.place
$$;

COMMENT ON FUNCTION @extschema@.federated_evaluate(text) IS
    'How the current version of a model, or the one that model@tag names, did over the held-out rows of all nodes when it was made: nothing is computed anew. global_loss: mean log loss, or for regression, that of counts too, the mean squared error in the square of the target''s units, of which global_rmse is the root. global_accuracy: the share of rows classified right, or R squared about the mean of the held-out rows. Both are NULL where that round was not evaluated (validation_split, validation_frequency) or the privacy budget left no figure of use, which a NOTICE and federated_training_status then say. base_loss: what global_loss is for a model that predicts the base rate or the mean of the held-out rows; under a privacy_budget, none of which is spent on that, for one that tosses a coin, or predicts the mean where the target''s scale is that of round 0. global_precision, global_recall and global_f1_score are NULL for regression, where they are not defined (no row predicted positive, no positive row, neither), and under a privacy_budget where there is no report: an evaluation counts only right answers, not of which class. The standard errors are those of the held-out rows as a sample and of the privacy noise together. Of more than two classes precision, recall and F1 are averaged over the classes that occur, each counting the same. global_auc (of two classes; NULL where only one is held out), its standard error (Hanley and McNeil 1982), global_brier (mean square of the errors of the probabilities, of more than two classes summed over these) and global_mae are of the report that nodes are asked for once, when a version is published, and so NULL where nothing is held out and where the run was ended before; under a privacy_budget the report is made where its noise leaves it use, over data subjects, and precision, recall, F1, the Brier score and global_mae, which are of it, have standard errors too (NULL without a budget), as global_rmse has wherever the loss has one; without one nodes count scores in parts of five data subjects or more, which leaves the area of a single node''s rows exact and that of several nodes well within its standard error. global_r2 is global_accuracy of regression. global_c_index is Harrell''s C of a Cox regression, stratified by node: of the pairs of held-out rows of one node of which it is known who had the event first, added up over all nodes, the share in which that one''s predicted hazard is the larger, equal hazards counting half; it is of the same report, and a node counts pairs where five held-out data subjects or more had the event, and none or as many had not; under a privacy_budget pairs are of all nodes together, those alone whose times lie in different ones of twelve intervals, with subjects told apart by six sizes of the hazard, and it has a standard error, of the noise, of the held-out subjects as a sample and of what is lost so (NULL without a budget). A Cox regression has no other figure';

CREATE OR REPLACE FUNCTION federated._evaluate_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(e)) FROM federated._evaluation(_evaluate_columns.model) AS e), columns,
        ARRAY['global_loss', 'global_accuracy', 'global_precision', 'global_recall', 'global_f1_score', 'per_node_metrics',
              'global_loss_std_error', 'global_accuracy_std_error', 'base_loss', 'global_rmse', 'global_auc',
              'global_auc_std_error', 'global_brier', 'global_mae', 'global_r2', 'global_c_index',
              'global_precision_std_error', 'global_recall_std_error', 'global_f1_score_std_error',
              'global_rmse_std_error', 'global_brier_std_error', 'global_mae_std_error',
              'global_c_index_std_error'],
        'federated_evaluate')
$$;

COMMENT ON FUNCTION federated._evaluate_columns(text, text[]) IS
    'federated_evaluate with a column list: an array of one object; per_node_metrics has an object for each node whose min_rows let rows of it be held out and whose own answer to the report the sum protocol shows: rows and figures of these; null where there is no report; where nodes made models of their own, personalization has beside them the loss and accuracy of the version (global) and of the node''s own model (personal), over the same held-out rows';

-- How a model does on rows of the caller's own. They are read as the caller, block by block, and leave nothing behind; figures
-- are computed by numpy (src/heliosdb/scoring), step by step, so that a cancel and statement_timeout take effect between two.
CREATE FUNCTION federated._evaluated_columns(
    reference text, OUT target text, OUT event text, OUT weights text, OUT offset_column text, OUT kind text, OUT classes text[]
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held record;
    link text;
BEGIN
    SELECT h.* INTO held FROM federated._find_held(reference) AS h;
    link := CASE WHEN held.prediction ? 'link' THEN held.prediction ->> 'link'
                 WHEN held.contract ->> 'algorithm' = 'logistic_regression' THEN 'logistic' ELSE 'identity' END;
    target := held.contract ->> 'target';
    IF target IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the target of federated model "%s" is not known', reference);
    END IF;
    event := held.contract ->> 'event';
    weights := held.contract ->> 'weights';
    offset_column := held.contract ->> 'offset';
    kind := CASE WHEN event IS NOT NULL THEN 'survival' WHEN federated._has_many_classes(held.prediction) THEN 'classes'
                 WHEN link = 'logistic' THEN 'binary' WHEN link = 'exp' THEN 'counts' ELSE 'number' END;
    IF kind IN ('binary', 'classes') THEN
        classes := federated._classes(reference);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._evaluated_columns(text) IS
    'What a version is judged by: the columns that its contract names, what it predicts (binary, classes, number, counts or survival), and the labels of its classes';

-- The functions of a model are called as the caller anyway; where numpy computes a block of rows, nothing else would ask.
CREATE FUNCTION federated._check_may_predict(function_name text, prediction jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    schema_name text := CASE WHEN federated._has_many_classes(prediction) THEN 'federated_proba' ELSE 'federated_model' END;
BEGIN
    IF EXISTS (SELECT FROM pg_proc AS p
               WHERE p.pronamespace = schema_name::regnamespace AND p.proname::text = function_name
                 AND NOT has_function_privilege(p.oid, 'EXECUTE')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for function %s', format('%I.%I', schema_name, function_name));
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_may_predict(text, jsonb) IS
    'Raises error 42501 where the caller may not call what a version predicts by';

CREATE FUNCTION federated._check_bootstrap(resamples integer, confidence double precision, seed bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(resamples, confidence, seed) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'resamples, confidence and seed must not be null';
    ELSIF resamples NOT BETWEEN 0 AND 100000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('resamples must be from 0 to 100000, not %s', resamples),
            HINT = '0 gives the figures without intervals.';
    ELSIF NOT (confidence > 0 AND confidence < 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('confidence must be more than 0 and less than 1, not %s', confidence);
    ELSIF resamples > 0 AND resamples * (1 - confidence) < 2 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s resamples are too few for an interval at a confidence of %s', resamples, confidence),
            DETAIL = 'On each side of the interval there must be at least one of them.',
            HINT = format('Give at least %s, or 0 for no intervals.', ceil(2 / (1 - confidence)));
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_bootstrap(integer, double precision, bigint) IS
    'Raises error 22023 where no interval can be had from so many resamples';

-- columns: of the query. What is looked up by its name must be there once.
CREATE FUNCTION federated._check_evaluated(
    reference text, target text, event text, subject text, named text[], columns jsonb
) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present text[] := ARRAY(SELECT c.name FROM jsonb_to_recordset(columns) AS c (name text));
    lacking record;
    twice   text;
BEGIN
    SELECT n.name, n.what INTO lacking
    FROM (VALUES (1, target, 'the target'), (2, event, 'the event'), (3, subject, 'the subject')) AS n (place, name, what)
    WHERE n.name <> ALL (present) ORDER BY n.place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = CASE lacking.what WHEN 'the subject' THEN format('the query has no column "%s", which subject names', subject)
                           ELSE format('the query has no column "%s", %s of federated model "%s"', lacking.name, lacking.what, reference) END,
            HINT = CASE lacking.what WHEN 'the subject' THEN 'Add the column to the query''s select list.'
                        ELSE 'An evaluation needs the true values beside the features: name the column so in the query''s select list.' END;
    END IF;
    twice := (SELECT min(p.name) FROM (SELECT u.name FROM unnest(present) AS u (name) WHERE u.name = ANY (named)
                                       GROUP BY u.name HAVING count(*) > 1) AS p);
    IF twice IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ambiguous_column',
            MESSAGE = format('the query has more than one column "%s"', twice);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_evaluated(text, text, text, text, text[], jsonb) IS
    'Raises error 42703 where a query lacks a column that an evaluation needs, and 42702 where it has one of those twice';

-- What a row is judged by, as expressions of float8 over the query's columns, NaN for NULL: target, event, weight, offset,
-- and both halves of the hash of its subject.
CREATE FUNCTION federated._render_judged(
    reference text, target text, event text, weights text, offset_column text, subject text, classes text[], columns jsonb,
    OUT judged text, OUT by_number boolean
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
BEGIN
    SELECT n.name, format_type(c.type, NULL) AS type, n.what INTO wrong
    FROM (VALUES (1, target, 'the target of a model that predicts a number'), (2, event, 'the event'),
                 (3, weights, 'a weight'), (4, offset_column, 'an offset')) AS n (place, name, what)
    JOIN jsonb_to_recordset(columns) AS c (name text, type oid) ON c.name = n.name
    JOIN pg_type AS t ON t.oid = c.type
    WHERE t.typcategory NOT IN ('N', 'B') AND NOT (n.place = 1 AND classes IS NOT NULL)
    ORDER BY n.place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch',
            MESSAGE = format('column "%s" of the query is of type %s', wrong.name, wrong.type),
            DETAIL = format('It is %s, which is a number, or true or false.', wrong.what);
    END IF;
    by_number := classes IS NOT NULL AND EXISTS (
        SELECT FROM jsonb_to_recordset(columns) AS c (name text, type oid) JOIN pg_type AS t ON t.oid = c.type
        WHERE c.name = target AND t.typcategory IN ('N', 'B'));
    judged := (
        SELECT string_agg(CASE
            WHEN j.name IS NULL OR NOT EXISTS (SELECT FROM jsonb_to_recordset(columns) AS c (name text) WHERE c.name = j.name)
                THEN j.otherwise
            WHEN j.place = 1 AND classes IS NOT NULL AND NOT by_number THEN format(
                'CASE WHEN q.%1$I IS NOT NULL THEN coalesce(pg_catalog.array_position(%2$L::pg_catalog.text[], q.%1$I::pg_catalog.text COLLATE pg_catalog."C")'
                '::pg_catalog.float8 OPERATOR(pg_catalog.-) 1, -1) ELSE ''NaN'' END', j.name, classes)
            WHEN j.place > 4 THEN format(j.form, j.name)
            ELSE format('coalesce(federated._as_number(q.%I), ''NaN'')', j.name) END, ', ' ORDER BY j.place)
        FROM (VALUES (1, target, NULL, NULL), (2, event, '1', NULL), (3, weights, '1', NULL), (4, offset_column, '0', NULL),
                     (5, subject, '0', 'coalesce((pg_catalog.hashtextextended(q.%I::pg_catalog.text COLLATE pg_catalog."C", 0)'
                                       ' OPERATOR(pg_catalog.>>) 32)::pg_catalog.float8, ''NaN'')'),
                     (6, subject, '0', 'coalesce((pg_catalog.hashtextextended(q.%I::pg_catalog.text COLLATE pg_catalog."C", 0)'
                                       ' OPERATOR(pg_catalog.&) 4294967295)::pg_catalog.float8, ''NaN'')')) AS j (place, name, otherwise, form));
END
$$;

COMMENT ON FUNCTION federated._render_judged(text, text, text, text, text, text, text[], jsonb) IS
    'What a row is judged by, as expressions over the columns of a query; by_number: whether the target of classes is a number or boolean';

-- The next rows of a cursor named $1, $2 of them: how many there were, and what is kept of them. The names of a query's
-- columns that nothing looks up do not matter.
CREATE FUNCTION federated._describe_evaluated(
    reference text, subject text, columns jsonb, OUT statement text, OUT kind text, OUT class_count integer, OUT most bigint, OUT notice text,
    OUT absent text
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present   text[] := ARRAY(SELECT c.name FROM jsonb_to_recordset(columns) AS c (name text));
    judge     record;
    rendered  record;
    found     record;
    row_place text := federated._free_name(columns);
    given     text[];
BEGIN
    SELECT f.* INTO found FROM federated._find_function(reference) AS f;
    SELECT c.* INTO judge FROM federated._evaluated_columns(reference) AS c;
    PERFORM federated._check_may_predict(found.function_name, found.prediction);
    PERFORM federated._check_evaluated(reference, judge.target, judge.event, subject,
        found.features || ARRAY[judge.target, judge.event, judge.weights, judge.offset_column, subject], columns);
    IF NOT found.features && present THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', reference),
            HINT = format('Its features are %s.', array_to_string(found.features, ', '));
    END IF;
    SELECT r.* INTO rendered FROM federated._render_judged(
        reference, judge.target, judge.event, judge.weights, judge.offset_column, subject, judge.classes, columns) AS r;
    given := federated._given_by_name(found.features, found.booleans, found.prediction, present, 'q.');
    statement := (
        SELECT format(
            'WITH q AS MATERIALIZED (SELECT * FROM ROWS FROM (federated._fetch_block($1, $2) AS (%1$s)) WITH ORDINALITY AS q (%2$s, %3$I)),'
            ' b AS (SELECT pg_catalog.count(*) AS here, federated._bytes(%6$s) AS scores,'
            ' federated._bytes(pg_catalog.array_agg(ARRAY[%7$s]::pg_catalog.float8[] ORDER BY q.%3$I)) AS columns FROM q)'
            ' SELECT b.here, r.failure, r.kept FROM b, LATERAL federated._reduce_block(%4$L, %5$L, b.scores, b.columns) AS r',
            string_agg(format('c%s %s', c.place, format_type(c.type, c.typmod)), ', ' ORDER BY c.place),
            string_agg(format('%I', c.name), ', ' ORDER BY c.place), row_place, judge.kind,
            CASE WHEN rendered.by_number THEN judge.classes END,
            federated._render_scores(reference, found.function_name, found.features, found.booleans, found.prediction, given,
                                     format('q.%I', row_place)), rendered.judged)
        FROM (SELECT r.ordinality AS place, r.type, r.typmod,
                     CASE WHEN count(*) OVER (PARTITION BY r.name) = 1 THEN r.name ELSE 'c ' || r.ordinality END AS name
              FROM ROWS FROM (jsonb_to_recordset(columns) AS (name text, type oid, typmod integer)) WITH ORDINALITY AS r) AS c);
    kind := judge.kind;
    class_count := coalesce(cardinality(judge.classes), 0);
    most := CASE kind WHEN 'survival' THEN 250000 ELSE 5000000 END;
    absent := (SELECT string_agg(u.name, ', ' ORDER BY u.place) FROM unnest(found.features) WITH ORDINALITY AS u (name, place)
               WHERE u.name <> ALL (present));
    IF judge.offset_column <> ALL (present) THEN
        notice := format('the query has no column "%s": predictions are for an offset of 0', judge.offset_column);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._describe_evaluated(text, text, jsonb) IS
    'A query for the next rows of a cursor as an evaluation keeps them; and what is predicted, how many rows it may be of, and what its caller should know: absent: the features that the query has not';

CREATE FUNCTION federated._render_scores(
    reference text, function_name text, features text[], booleans boolean[], prediction jsonb, given text[], place text
) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- A feature that the query has not is as missing as one that is NULL.
    all_given text[];
BEGIN
    IF federated._is_expression(features, booleans, prediction) THEN
        RETURN format('pg_catalog.array_agg(%s ORDER BY %s)', federated._describe_call(
            CASE WHEN federated._has_many_classes(prediction) THEN 'federated_proba' ELSE 'federated_model' END,
            function_name, features, booleans, prediction, given), place);
    END IF;
    all_given := ARRAY(SELECT coalesce(given[c.place], federated._absent_value(c.type))
                       FROM federated._columns(features, booleans, prediction) AS c ORDER BY c.place);
    RETURN format('federated._score_block(%L, federated._bytes(pg_catalog.array_agg(%s ORDER BY %s)))',
                  (SELECT h.numbers_id FROM federated._find_held(reference) AS h),
                  federated._render_slots(features, booleans, prediction, all_given), place);
END
$$;

COMMENT ON FUNCTION federated._render_scores(text, text, text[], boolean[], jsonb, text[], text) IS
    'What a version predicts for the rows of a block, as an expression of an array; place: the expression of a row''s place';

-- A failure comes back, to be raised by SQL: PL/Python would put a word of its own before the message.
CREATE FUNCTION federated._reduce_block(kind text, classes text[], scores bytea, columns bytea, OUT failure jsonb, OUT kept bytea)
LANGUAGE plpython3u IMMUTABLE AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "reduce_block", "evaluations")(kind, classes, scores, columns)
$$;

COMMENT ON FUNCTION federated._reduce_block(text, text[], bytea, bytea) IS
    'What an evaluation keeps of a block of rows with their predictions: a few numbers for each that is not left out; or the error that a value in them is';

-- A step that was done is a row of NULLs: between two rows the server looks whether it is to stop.
CREATE FUNCTION federated._evaluate_rows(
    kind text, rows bytea, classes integer, taken bigint, resamples integer, confidence double precision, seed bigint, by_subject boolean
) RETURNS TABLE (metric text, value double precision, std_error double precision, conf_low double precision,
                 conf_high double precision, remark text)
LANGUAGE plpython3u STABLE AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "evaluate_rows", "evaluations")(
    kind, rows, classes, taken, (resamples, confidence, seed, by_subject))
$$;

COMMENT ON FUNCTION federated._evaluate_rows(text, bytea, integer, bigint, integer, double precision, bigint, boolean) IS
    'The figures of rows that _reduce_block has kept, each as a row; and after each step of the work a row of NULLs';

-- Carries no SET clause: the caller's query runs in it. It is known to be one statement and whole in itself.
CREATE FUNCTION federated._gather_evaluated(whole text, statement text, most bigint, OUT rows bytea, OUT taken bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    block  CONSTANT pg_catalog.int4 := 8192;
    source CONSTANT pg_catalog.text := 'federated_evaluate_' OPERATOR(pg_catalog.||) pg_catalog.gen_random_uuid()::pg_catalog.text;
    parts  pg_catalog.bytea[] := '{}';
    part   record;
BEGIN
    taken := 0;
    EXECUTE pg_catalog.format('DECLARE %I NO SCROLL CURSOR FOR %s', source, whole);
    LOOP
        EXECUTE statement INTO part USING source, block;
        PERFORM federated._raise(part.failure);
        taken := taken OPERATOR(pg_catalog.+) part.here;
        parts := pg_catalog.array_append(parts, part.kept);
        IF taken OPERATOR(pg_catalog.>) most THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
                MESSAGE = pg_catalog.format('the query has more than the %s rows that an evaluation of this model may be of', most),
                HINT = 'Take a random sample of them: ORDER BY random() LIMIT, or TABLESAMPLE.';
        END IF;
        EXIT WHEN part.here OPERATOR(pg_catalog.<) block;
    END LOOP;
    EXECUTE pg_catalog.format('CLOSE %I', source);
    rows := (SELECT pg_catalog.string_agg(p.part, ''::pg_catalog.bytea ORDER BY p.place)
             FROM pg_catalog.unnest(parts) WITH ORDINALITY AS p (part, place));
END
$$;

COMMENT ON FUNCTION federated._gather_evaluated(text, text, bigint) IS
    'What an evaluation keeps of all rows of a query, and how many there were; error 54000 for too many';

CREATE FUNCTION @extschema@.federated_evaluate(
    model text, query text, resamples integer DEFAULT 1000, confidence double precision DEFAULT 0.95, seed bigint DEFAULT 0,
    subject text DEFAULT NULL
) RETURNS TABLE (metric text, value double precision, std_error double precision, conf_low double precision, conf_high double precision)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found    pg_catalog.jsonb;
    plan     record;
    gathered record;
    figure   record;
    remarks  pg_catalog.text[] := '{}';
BEGIN
    PERFORM federated._find_function(model);
    PERFORM federated._check_bootstrap(resamples, confidence, seed);
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null',
            HINT = 'Without a query federated_evaluate(model) shows the figures of the held-out rows.';
    END IF;
    found := federated._describe_columns(query);
    PERFORM federated._raise(found OPERATOR(pg_catalog.->) 'failure');
    plan := federated._describe_evaluated(model, subject, found OPERATOR(pg_catalog.->) 'columns');
    gathered := federated._gather_evaluated(found OPERATOR(pg_catalog.->>) 'query', plan.statement, plan.most);
    IF pg_catalog.octet_length(gathered.rows) OPERATOR(pg_catalog.=) 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = pg_catalog.format('the query has no row by which federated model "%s" can be judged', model),
            DETAIL = pg_catalog.format('None of its rows, %s in number, has a target, a prediction that is a number, and a value in each column that'
                                       ' says what a row counts.', gathered.taken);
    END IF;
    FOR figure IN
        SELECT e.* FROM federated._evaluate_rows(
            plan.kind, gathered.rows, plan.class_count, gathered.taken, resamples, confidence, seed,
            subject IS NOT NULL) AS e
        WHERE e.metric IS NOT NULL
    LOOP
        metric := figure.metric;
        value := figure.value;
        std_error := figure.std_error;
        conf_low := figure.conf_low;
        conf_high := figure.conf_high;
        remarks := CASE WHEN figure.remark IS NULL THEN remarks ELSE pg_catalog.array_append(remarks, figure.remark) END;
        RETURN NEXT;
    END LOOP;
    IF plan.absent IS NOT NULL THEN
        RAISE NOTICE 'features that the query has not count as missing'
            USING DETAIL = pg_catalog.format('They are %s.', plan.absent);
    END IF;
    IF plan.notice IS NOT NULL THEN
        RAISE NOTICE '%', plan.notice;
    END IF;
    IF pg_catalog.cardinality(remarks) OPERATOR(pg_catalog.>) 0 THEN
        RAISE NOTICE 'not every figure of federated model "%" is known', model
            USING DETAIL = pg_catalog.array_to_string(remarks, '; ');
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_evaluate(text, text, integer, double precision, bigint, text) IS
    'How the current version of a model, or the one that model@tag or model@number names, does on the rows of a query, run with the caller''s rights and search_path: its columns are features by their names (one that is not there, or NULL, counts as in predictions) and the target, of a Cox regression the event too, by the names of the model''s options. These rows are the caller''s own: nothing leaves the database, and nothing is charged. rows: those that the figures are of. rows_left_out: those without a target, without a value in a column that says what a row counts, or whose prediction is NaN. Of classes: loss (mean log loss), base_loss (that of the rows'' base rates), accuracy, precision, recall, f1_score (of more than two classes means over the classes that occur), brier, and of two classes auc, and calibration_intercept and calibration_slope (Cox 1958: 0 and 1 where probabilities are right). Of a number: loss (mean squared error), base_loss (that of the rows'' mean), rmse, mae, r2; of counts mean_poisson_deviance too. Of a Cox regression: c_index (Harrell). They are defined as those of federated_evaluate(model), but where the query has the column that the model''s weights names, rows count by it, and where it has its offset, predictions are for that. What is not defined is NULL, and a NOTICE says why. std_error, conf_low and conf_high are of a bootstrap: 1000 resamples, or so many as resamples says (0: none), of as many rows as there are, drawn with replacement; the interval is between percentiles, at a confidence of 0.95 or another; subject names a column of the query whose values are drawn whole with all of their rows. The same rows in the same order and the same seed give the same intervals. Of 5,000,000 rows at most, of a Cox regression of 250,000';

-- What the proxy makes of a column list behind a call over a query.
CREATE FUNCTION federated._evaluate_columns(
    model text, query text, resamples integer DEFAULT NULL, confidence double precision DEFAULT NULL, seed bigint DEFAULT NULL,
    subject text DEFAULT NULL, columns text[] DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
        MESSAGE = 'federated_evaluate over a query takes no column list',
        DETAIL = 'Each of its figures is a row, with an interval.',
        HINT = 'SELECT metric, value, std_error, conf_low, conf_high FROM federated_evaluate(model, query).';
END
$$;

COMMENT ON FUNCTION federated._evaluate_columns(text, text, integer, double precision, bigint, text, text[]) IS
    'Error 0A000: federated_evaluate over a query takes no column list';

-- What is kept of a version's report, and of what single nodes have said of their rows.

-- A part of a version's report; an error that says why there is none.
CREATE FUNCTION federated._report(model text, part text, source text, targets text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
    stored  jsonb := subject.report;
    started federated.run;
    reason  text;
BEGIN
    IF stored ? part THEN
        RETURN stored -> part;
    END IF;
    SELECT r.* INTO started FROM federated.run AS r WHERE r.run_id = subject.run_id;
    IF started.voting_group IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('no report of version %s of federated model "%s" was made', subject.version, model),
            DETAIL = 'A version by vote has no figures of its own: each group''s run has.',
            HINT = federated._groups_hint(subject.model_id);
    ELSIF started.policy ->> 'privacy_budget' IS NOT NULL AND part = 'explanation' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('%s is not supported under a privacy_budget yet', source),
            DETAIL = 'It would be a sum of contributions, which have no bound that one data subject''s rows could be held to.',
            HINT = format('SELECT * FROM federated_feature_importance(%L) has what each feature is worth, where there is a report.', model);
    ELSIF stored ? 'noised' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('%s is not in the report of version %s of federated model "%s"', source, subject.version, model),
            DETAIL = format('It is of models that learn %s; of one that does, privacy noise has left it no use.', targets),
            HINT = 'More held-out data subjects, or a larger privacy_budget, make noise smaller beside the counts.';
    ELSIF (stored ->> 'rows')::bigint > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('%s is not defined for federated model "%s"', source, model),
            DETAIL = format('It is of models that learn %s; of one that does, every node has withheld it, for it would count fewer data subjects than the node''s min_cell allows.', targets);
    END IF;
    reason := CASE
        WHEN (started.options ->> 'validation_split')::double precision = 0 THEN 'validation_split is 0, so no row is held out.'
        WHEN started.plan ->> 'report_reason' IS NOT NULL THEN
            upper(left(started.plan ->> 'report_reason', 1)) || substr(started.plan ->> 'report_reason', 2) || '.'
        WHEN stored IS NOT NULL THEN 'No node holds out as many data subjects as its min_rows asks for.'
        ELSE 'Nodes are asked for it when a run is about to publish a version: this one was made before there were reports, was ended before, or too few nodes answered.' END;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('no report of version %s of federated model "%s" was made', subject.version, model),
        DETAIL = reason,
        HINT = CASE WHEN started.plan ->> 'report_reason' IS NOT NULL
            THEN 'What it holds of its rows is said by the evaluations of its rounds.'
            ELSE format('START FEDERATED TRAINING %s, with rows held out (validation_split).',
                quote_ident((SELECT m.name FROM federated.model AS m WHERE m.model_id = subject.model_id))) END;
END
$$;

COMMENT ON FUNCTION federated._report(text, text, text, text) IS
    'What stands under a name in the report of a model''s current version, or of the one that model@tag names, or an error that says why nothing does: 55000, of an explanation under a budget 0A000';

CREATE FUNCTION @extschema@.federated_confusion_matrix(model text, OUT predicted text, OUT actual text, OUT count bigint,
    OUT std_error double precision)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.found -> 'labels' ->> (p.place - 1)::integer, m.found -> 'labels' ->> (a.place - 1)::integer, a.count::bigint,
           (m.found ->> 'std_error')::double precision
    FROM (SELECT federated._report(federated_confusion_matrix.model, 'confusion', 'federated_confusion_matrix',
                                   'classes, of which there are a hundred at most')) AS m (found)
    CROSS JOIN LATERAL jsonb_array_elements(m.found -> 'counts') WITH ORDINALITY AS p (line, place)
    CROSS JOIN LATERAL jsonb_array_elements_text(p.line) WITH ORDINALITY AS a (count, place)
    ORDER BY p.place, a.place
$$;

COMMENT ON FUNCTION @extschema@.federated_confusion_matrix(text) IS
    'How many held-out rows of all nodes the current version of a model predicts to be of which class, and of which they are, by the classes'' labels, also where there are none; of two classes the second is predicted above a probability of 1/2, of more the likeliest. Of more than two classes a node does not tell of a class that it predicts of fewer than five data subjects. Under a privacy_budget rows count as parts of their data subjects, those of one adding up to 1, and std_error is that of the noise in each count; else it is NULL. Error 55000 where there is no report or no classes, or noise would leave the table no use';

CREATE FUNCTION @extschema@.federated_roc_curve(
    model text, OUT threshold double precision, OUT fpr double precision, OUT tpr double precision,
    OUT fpr_std_error double precision, OUT tpr_std_error double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((p.point ->> 0)::double precision, 'Infinity'), (p.point ->> 1)::double precision,
           (p.point ->> 2)::double precision, (p.point ->> 3)::double precision, (p.point ->> 4)::double precision
    FROM jsonb_array_elements(
        federated._report(federated_roc_curve.model, 'roc', 'federated_roc_curve', 'two classes')) WITH ORDINALITY AS p (point, place)
    ORDER BY p.place
$$;

COMMENT ON FUNCTION @extschema@.federated_roc_curve(text) IS
    'Which share of the held-out rows of the first class (fpr) and of the second (tpr) has at least a probability, the threshold, by the current version of a model; from the highest on, which is infinite, in about two hundred steps. fpr or tpr is NULL where no row of its class is held out. Nodes count probabilities in parts of five data subjects or more, between which rows are spread evenly. Under a privacy_budget there are twenty-five points, shares are of data subjects, drawn to the nearest curve that rises, and the standard errors are those of the noise and of the held-out subjects as a sample together; else they are NULL. Error 55000 where there is no report or not two classes, or noise would leave the curve no use';

CREATE FUNCTION @extschema@.federated_calibration(
    model text, OUT bin integer, OUT predicted double precision, OUT observed double precision, OUT count bigint,
    OUT observed_std_error double precision, OUT count_std_error double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (b.line ->> 0)::integer, (b.line ->> 1)::double precision, (b.line ->> 2)::double precision, (b.line ->> 3)::bigint,
           (b.line ->> 4)::double precision, (b.line ->> 5)::double precision
    FROM jsonb_array_elements(
        federated._report(federated_calibration.model, 'calibration', 'federated_calibration', 'two classes')) WITH ORDINALITY AS b (line, place)
    ORDER BY b.place
$$;

COMMENT ON FUNCTION @extschema@.federated_calibration(text) IS
    'Of the held-out rows in each tenth of probability, by the current version of a model: the mean probability, the share that is of the second class, and how many there are; both are NULL where there are none. A node that has fewer than five data subjects in a tenth tells of them together with those of the next, in the tenth in which their mean probability is: the sums are those of all rows, and a count is off by a few rows of each node at most. Under a privacy_budget count is of data subjects, predicted the mean of the middles of two or three cells, and observed, with its standard error by noise and sample, is NULL where that is larger than a quarter; else the standard errors are NULL. Error 55000 where there is no report or not two classes';

CREATE FUNCTION @extschema@.federated_feature_importance(
    model text, OUT feature text, OUT importance double precision, OUT std_error double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.line ->> 0, (f.line ->> 1)::double precision, (f.line ->> 2)::double precision
    FROM jsonb_array_elements(
        federated._report(federated_feature_importance.model, 'importance', 'federated_feature_importance', 'a number or classes')) WITH ORDINALITY AS f (line, place)
    ORDER BY f.place
$$;

COMMENT ON FUNCTION @extschema@.federated_feature_importance(text) IS
    'By how much the mean loss of the held-out rows grows where a feature is shuffled among those of each node (permutation importance), the largest first: log loss, for regression the squared error in the square of the target''s units. The mean of five shuffles and its standard error, which is of the shuffles and not of the rows as a sample. A feature that is correlated with others may be important and have a small figure. Under a privacy_budget a feature is not shuffled but replaced by points of its released distribution, each subject''s growths together count up to a norm of 1 (nat, or two squared scales of the target), and the standard error is that of the noise and of the subjects as a sample, at most. Error 55000 where there is no report, or noise would leave it no use';

CREATE FUNCTION @extschema@.federated_data_quality_check(
    model text, run integer DEFAULT NULL,
    OUT node_name text, OUT feature_statistics jsonb, OUT missing_values jsonb, OUT outliers jsonb,
    OUT missing_values_std_error jsonb, OUT outliers_std_error jsonb
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chosen federated.run := federated._find_run(model, run);
BEGIN
    IF run IS NULL THEN
        SELECT r.* INTO chosen FROM federated.run AS r
        WHERE r.model_id = chosen.model_id AND r.scaling ? 'means' ORDER BY r.created_at DESC LIMIT 1;
    END IF;
    IF chosen.scaling ? 'means' IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('no feature statistics of federated model "%s" have been gathered yet', model),
            DETAIL = 'Round 0 of a run gathers them.',
            HINT = format('START FEDERATED TRAINING %s.', quote_ident(model));
    END IF;
    IF chosen.voting_group IS NOT NULL THEN
        RAISE NOTICE 'this is of the nodes of voting group % of federated model "%" alone', chosen.voting_group, model
            USING DETAIL = format('Its nodes are %s.', array_to_string(chosen.group_nodes, ', ')),
                  HINT = format('SELECT run, voting_group FROM federated_runs WHERE model_name = %L names the other groups'' runs.', model);
    END IF;
    RETURN QUERY
    WITH told AS (
        SELECT n.name, p.described -> 'columns' AS columns, p.described -> 'outliers' AS outliers
        FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
        WHERE p.run_id = chosen.run_id AND p.described IS NOT NULL
    ), by_node AS (
        SELECT t.name,
               (SELECT jsonb_object_agg(c.key, c.value - 'missing') FROM told AS s, jsonb_each(s.columns) AS c WHERE s.name = t.name) AS statistics,
               (SELECT jsonb_object_agg(c.key, c.value -> 'missing') FROM told AS s, jsonb_each(s.columns) AS c WHERE s.name = t.name) AS missing,
               (SELECT jsonb_object_agg(c.key, c.value) FROM told AS s, jsonb_each(s.outliers) AS c WHERE s.name = t.name) AS far
        FROM (SELECT DISTINCT name FROM told) AS t
    )
    SELECT NULL::text, (
        SELECT jsonb_object_agg(f.feature, jsonb_build_object('mean', m.mean, 'scale', s.scale))
        FROM jsonb_array_elements_text(coalesce(chosen.scaling -> 'inputs', chosen.options -> 'features')) WITH ORDINALITY AS f (feature, place)
        JOIN jsonb_array_elements(chosen.scaling -> 'means') WITH ORDINALITY AS m (mean, place) USING (place)
        JOIN jsonb_array_elements(chosen.scaling -> 'scales') WITH ORDINALITY AS s (scale, place) USING (place)),
        coalesce((SELECT jsonb_object_agg(c.key, c.count) FROM (
            SELECT e.key, sum(e.value::bigint) AS count FROM by_node AS b, jsonb_each_text(b.missing) AS e GROUP BY e.key) AS c),
            (SELECT jsonb_object_agg(u.one ->> 0, round((u.one ->> 1)::double precision)::bigint)
             FROM jsonb_array_elements(chosen.scaling -> 'missing') AS u (one))),
        coalesce((SELECT jsonb_object_agg(c.key, c.count) FROM (
            SELECT e.key, sum(e.value::bigint) AS count FROM by_node AS b, jsonb_each_text(b.far) AS e GROUP BY e.key) AS c),
            (SELECT jsonb_object_agg(u.one ->> 0, round((u.one ->> 1)::double precision)::bigint)
             FROM jsonb_array_elements(chosen.scaling -> 'outliers') AS u (one))),
        (SELECT jsonb_object_agg(u.one ->> 0, (u.one ->> 2)::double precision)
         FROM jsonb_array_elements(chosen.scaling -> 'missing') AS u (one)),
        (SELECT jsonb_object_agg(u.one ->> 0, (u.one ->> 2)::double precision)
         FROM jsonb_array_elements(chosen.scaling -> 'outliers') AS u (one))
    UNION ALL
    (SELECT b.name, b.statistics, b.missing, b.far, NULL::jsonb, NULL::jsonb FROM by_node AS b ORDER BY b.name);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_data_quality_check(text, integer) IS
    'What round 0 of a run, by its number in federated_runs, or of the latest run that gathered feature statistics found: first a row over all nodes of the run together, of voting_groups those of one group, as a NOTICE says; its node_name is NULL; then one for each node whose own plain answer the sum protocol shows; only the first under a privacy_budget. feature_statistics has the mean and the scale (standard deviation; over all nodes 1 for a feature that does not vary or that none(x) leaves unscaled) of each input that a feature becomes, noised and estimated under a privacy budget, of a single node null where fewer than five values are there; missing_values counts values that are NULL or not finite. outliers counts, where the run ended with a report, rows that lie more than four scales from the mean over all nodes, of numbers and times alone (a flag or a level that is rare is not far out); a node counts none where they are fewer than five data subjects. Under a privacy budget missing_values is read from the noised counts of round 0 and costs nothing more: about how many data subjects'' rows lack a value, those of one adding up to 1, with missing_values_std_error beside it (NULL without a budget); levels of categories are not counted there. outliers are read from the same counts, about how many data subjects'' rows lie further than four scales from the mean, with outliers_std_error beside it; NULL where feature_ranges are declared';

CREATE OR REPLACE FUNCTION federated._data_quality_check_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(q)) FROM @extschema@.federated_data_quality_check(_data_quality_check_columns.model) AS q),
        columns, ARRAY['node_name', 'feature_statistics', 'missing_values', 'outliers', 'missing_values_std_error', 'outliers_std_error'], 'federated_data_quality_check')
$$;

COMMENT ON FUNCTION federated._data_quality_check_columns(text, text[]) IS 'federated_data_quality_check with a column list';

-- What the features of a row have to do with what a version predicts for it: Shapley values, computed by numpy whatever the version is
-- (src/heliosdb/scoring/shapley.py).

-- A failure comes back, to be raised by SQL; nothing comes back where this session has not read the version yet.
CREATE FUNCTION federated._explain(
    run_id text, slots bytea, samples integer, seed bigint, OUT failure jsonb, OUT explained double precision[]
)
LANGUAGE plpython3u STABLE PARALLEL SAFE COST 10000 AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "1.2", "explain_row", "explanations")(run_id, slots, samples, seed)
$$;

COMMENT ON FUNCTION federated._explain(text, bytea, integer, bigint) IS
    'Of each output of the version of a key the base value and the contribution of each feature of one row, or the failure; both NULL where the session has not read the version';

-- Runs as federated_owner, as the functions of models do that numpy computes.
CREATE FUNCTION federated._explain_row(
    run_id text, slots bytea, samples integer, seed bigint, OUT failure jsonb, OUT explained double precision[]
)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._check_predicts(run_id::uuid);
    SELECT e.failure, e.explained INTO failure, explained FROM federated._explain(run_id, slots, samples, seed) AS e;
    IF num_nonnulls(failure, explained) = 0 THEN
        PERFORM federated._read_scored(run_id::uuid);
        SELECT e.failure, e.explained INTO failure, explained FROM federated._explain(run_id, slots, samples, seed) AS e;
    END IF;
END
$$;

COMMENT ON FUNCTION federated._explain_row(text, bytea, integer, bigint) IS
    'The same as _explain, once the session has read the version; 55000 where it was retired or is withheld';

CREATE FUNCTION federated._explained_scale(prediction jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN federated._has_many_classes(prediction) OR prediction ->> 'link' = 'logistic' THEN
                CASE WHEN prediction ->> 'kind' = 'trees' AND NOT (prediction ->> 'boosts')::boolean THEN 'probability'
                     WHEN prediction ->> 'link' = 'logistic' THEN 'log-odds' ELSE 'score' END
                WHEN prediction ->> 'link' = 'exp' THEN 'logarithm' ELSE 'target' END
$$;

COMMENT ON FUNCTION federated._explained_scale(jsonb) IS
    'On which scale a prediction is explained: log-odds of the second of two classes; score, of each class of several, up to a number that they share; probability, of a forest''s classes; logarithm of what is predicted; or target, in its units';

-- The classes that are explained, in order: one that has no name is a number.
CREATE FUNCTION federated._explained_classes(model text, prediction jsonb) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN federated._has_many_classes(prediction) THEN federated._classes(model)
                WHEN prediction ->> 'link' = 'logistic' THEN (federated._classes(model))[2:2] ELSE ARRAY[NULL::text] END
$$;

COMMENT ON FUNCTION federated._explained_classes(text, jsonb) IS
    'The labels of the classes whose scores are explained: all of several, the second of two, NULL for a number';

CREATE FUNCTION federated._check_features(model text, features jsonb, known text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown text;
BEGIN
    IF jsonb_typeof(features) <> 'object' THEN
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
END
$$;

COMMENT ON FUNCTION federated._check_features(text, jsonb, text[]) IS
    'Raises error 22023 where features are no JSON object, and 42703 where one of them is none of the model''s';

CREATE FUNCTION @extschema@.federated_explain(
    model text, features jsonb DEFAULT '{}', samples integer DEFAULT NULL, seed bigint DEFAULT NULL,
    OUT feature text, OUT value text, OUT contribution double precision, OUT base_value double precision, OUT class text, OUT scale text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    slots   double precision[];
    answer  record;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model) AS f;
    PERFORM federated._check_may_predict(found.function_name, found.prediction);
    IF features IS NULL THEN
        RETURN;
    ELSIF found.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the numbers of federated model "%s" are not kept', model),
            DETAIL = 'Its version was made by a release that kept its function alone.',
            HINT = 'A new run makes a version that can be explained.';
    END IF;
    PERFORM federated._check_features(model, features, found.features);
    EXECUTE 'SELECT ' || federated._render_slots(found.features, found.booleans, found.prediction,
        federated._given_by_json(found.features, found.booleans, found.prediction)) INTO slots USING features;
    SELECT e.* INTO answer FROM federated._explain_row(
        (SELECT h.numbers_id FROM federated._find_held(model) AS h)::text, federated._bytes(slots), samples, seed) AS e;
    PERFORM federated._raise(answer.failure);
    RETURN QUERY
        SELECT f.name, features ->> f.name, answer.explained[c.place][f.place + 1], answer.explained[c.place][1], c.label,
               federated._explained_scale(found.prediction)
        FROM unnest(federated._explained_classes(model, found.prediction)) WITH ORDINALITY AS c (label, place)
        CROSS JOIN unnest(found.features) WITH ORDINALITY AS f (name, place)
        ORDER BY c.place, f.place;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_explain(text, jsonb, integer, bigint) IS
    'What each feature contributes to the prediction of a model''s current version, or of the one that model@tag or model@number names, for features given as JSON: Shapley values, which together with base_value add up to the score on the scale that column scale names; of several classes for each one. Exact for linear versions and trees; of a network estimated from samples orders of the features, which seed draws (500 and 0 where they are not given). A missing feature is as in federated_predict';

CREATE FUNCTION @extschema@.federated_explain_model(
    model text, OUT feature text, OUT importance double precision, OUT class text, OUT scale text, OUT rows bigint
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
    told    jsonb := federated._report(model, 'explanation', 'federated_explain_model',
                                       'a target that is no survival time; nodes explain the rows of versions made since they can');
BEGIN
    RETURN QUERY
        SELECT f.name, (told #>> ARRAY['means', (c.place - 1)::text, (f.place - 1)::text])::double precision, c.label,
               federated._explained_scale(subject.prediction), (told ->> 'rows')::bigint
        FROM unnest(federated._explained_classes(model, subject.prediction)) WITH ORDINALITY AS c (label, place)
        CROSS JOIN unnest(subject.features) WITH ORDINALITY AS f (name, place)
        ORDER BY c.place, 2 DESC, f.place;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_explain_model(text) IS
    'By how much each feature moves the score of held-out rows, up or down: the mean over rows of all nodes of the size of its contribution (federated_explain), by the current version of a model or the one that model@tag names, the largest first; of several classes for each one. Nodes told sums when the run ended; rows: how many they are of. A node tells of whole groups of subjects, and leaves out the groups of who has withdrawn the consent purpose explanation. Error 55000 where there is no such report, 0A000 under a privacy_budget';

-- Experiments: which version of a model serves a key, what was asked for and what came of it.
--
-- What always holds: a key's arm follows from the experiment and the key alone, so it is the same in every session and after a restore; a
-- key is kept as a hash salted by the experiment's id, which no role but the backup's reads. The versions of an experiment are pinned:
-- they come all at once, and none is added or changed. A call is a row for keep_days, and after that a part of its arm's sums; an outcome
-- is a row for as long as a call of its key is one.
CREATE TABLE federated.experiment (
    experiment_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    model_id      bigint NOT NULL REFERENCES federated.model ON DELETE CASCADE,
    name          text NOT NULL UNIQUE CHECK (name <> '' AND octet_length(name) <= 63),
    created_by    name NOT NULL DEFAULT current_user,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    keep_days     integer NOT NULL DEFAULT 90 CHECK (keep_days BETWEEN 1 AND 36500),
    UNIQUE (experiment_id, model_id)
);

CREATE INDEX experiment_by_model ON federated.experiment (model_id);

COMMENT ON TABLE federated.experiment IS 'What CREATE FEDERATED EXPERIMENT compares; it belongs to its model''s owner';

COMMENT ON COLUMN federated.experiment.keep_days IS 'After how many days a call, and the outcome of its key with the last one, is but a part of sums';

COMMENT ON COLUMN federated.experiment.created_by IS 'Who made it; the owner of the model may drop it';

CREATE TABLE federated.experiment_arm (
    experiment_id uuid NOT NULL,
    model_id      bigint NOT NULL,
    place         integer NOT NULL CHECK (place BETWEEN 1 AND 20),
    name          text NOT NULL CHECK (name <> '' AND octet_length(name) <= 1024),
    version       integer NOT NULL,
    share         double precision NOT NULL CHECK (share > 0 AND share < 1),
    calls         bigint,
    outcomes      bigint,
    outcome_sum   double precision,
    PRIMARY KEY (experiment_id, place),
    UNIQUE (experiment_id, name),
    UNIQUE (experiment_id, version),
    FOREIGN KEY (experiment_id, model_id) REFERENCES federated.experiment (experiment_id, model_id) ON DELETE CASCADE,
    FOREIGN KEY (model_id, version) REFERENCES federated.version (model_id, version)
);

CREATE INDEX experiment_arm_by_version ON federated.experiment_arm (model_id, version);

COMMENT ON TABLE federated.experiment_arm IS 'The versions that an experiment compares, each with its share of the keys';

COMMENT ON COLUMN federated.experiment_arm.place IS 'Its place in the statement, from 1';

COMMENT ON COLUMN federated.experiment_arm.name IS 'The tag or number that the statement gave; version is what it named then';

COMMENT ON COLUMN federated.experiment_arm.calls IS 'Written, with outcomes and outcome_sum, as the experiment is dropped, for the audit log';

CREATE TABLE federated.experiment_call (
    experiment_id uuid NOT NULL REFERENCES federated.experiment ON DELETE CASCADE,
    key_sha256    bytea NOT NULL CHECK (octet_length(key_sha256) = 32),
    place         integer NOT NULL,
    score         double precision,
    called_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX experiment_call_by_key ON federated.experiment_call (experiment_id, key_sha256, called_at);

COMMENT ON TABLE federated.experiment_call IS 'Predictions that were asked for by experiment, each once and never changed';

COMMENT ON COLUMN federated.experiment_call.key_sha256 IS 'As federated._key_sha256 makes it: no key is kept in clear';

CREATE TABLE federated.experiment_outcome (
    experiment_id uuid NOT NULL REFERENCES federated.experiment ON DELETE CASCADE,
    key_sha256    bytea NOT NULL CHECK (octet_length(key_sha256) = 32),
    place         integer NOT NULL,
    score         double precision,
    outcome       double precision NOT NULL CHECK (outcome BETWEEN -1e100 AND 1e100),
    reported_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (experiment_id, key_sha256)
);

COMMENT ON TABLE federated.experiment_outcome IS 'What was last reported of each key that an experiment served';

COMMENT ON COLUMN federated.experiment_outcome.score IS 'Of the last call for the key before the report';

CREATE TABLE federated.experiment_past (
    experiment_id  uuid NOT NULL,
    place          integer NOT NULL,
    calls          bigint NOT NULL DEFAULT 0,
    keys           bigint NOT NULL DEFAULT 0,
    outcomes       bigint NOT NULL DEFAULT 0,
    outcome_sum    double precision NOT NULL DEFAULT 0,
    lowest         double precision NOT NULL DEFAULT 0,
    above          double precision NOT NULL DEFAULT 0,
    squares        double precision NOT NULL DEFAULT 0,
    scored         bigint NOT NULL DEFAULT 0,
    squared_errors double precision NOT NULL DEFAULT 0,
    is_binary      boolean NOT NULL DEFAULT true,
    PRIMARY KEY (experiment_id, place),
    FOREIGN KEY (experiment_id, place) REFERENCES federated.experiment_arm (experiment_id, place) ON DELETE CASCADE
);

COMMENT ON TABLE federated.experiment_past IS 'Of each arm the sums of calls and outcomes that are older than keep_days';

COMMENT ON COLUMN federated.experiment_past.lowest IS 'The lowest of the outcomes; above: by how much their mean is above it';

COMMENT ON COLUMN federated.experiment_past.squares IS 'Of the outcomes'' distances from their mean, summed';

COMMENT ON COLUMN federated.experiment_past.scored IS 'How many of the outcomes are 0 or 1, of a score that is a probability; squared_errors: their differences, squared and summed';

COMMENT ON COLUMN federated.experiment_past.is_binary IS 'Whether all outcomes are 0 or 1 and all scores probabilities or none';

SELECT pg_catalog.pg_extension_config_dump('federated.experiment', '');

SELECT pg_catalog.pg_extension_config_dump('federated.experiment_arm', '');

SELECT pg_catalog.pg_extension_config_dump('federated.experiment_call', '');

SELECT pg_catalog.pg_extension_config_dump('federated.experiment_outcome', '');

SELECT pg_catalog.pg_extension_config_dump('federated.experiment_past', '');

CREATE FUNCTION federated._experiment_id(experiment text) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id uuid := (SELECT e.experiment_id FROM federated.experiment AS e WHERE e.name = experiment);
BEGIN
    IF experiment IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the name of a federated experiment must not be null';
    ELSIF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('federated experiment "%s" does not exist', left(experiment, 63)),
            HINT = 'SELECT experiment_name FROM federated_experiments; lists them.';
    END IF;
    RETURN found_id;
END
$$;

COMMENT ON FUNCTION federated._experiment_id(text) IS 'The id of an experiment, or error 42704';

CREATE FUNCTION federated._check_key(key text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF key IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the key must not be null',
            HINT = 'Give what stays the same for whom the prediction is: an id.';
    ELSIF key = '' OR octet_length(key) > 1024 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE key WHEN '' THEN 'the key must not be empty' ELSE 'the key is too long' END,
            DETAIL = format('It has %s bytes; it may have from 1 to 1024.', octet_length(key));
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_key(text) IS 'Raises 22004 for no key, 22023 for an empty one or one of more than 1024 bytes';

CREATE FUNCTION federated._check_arm(model text, version integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model || '@' || version) AS f;
    IF federated._has_many_classes(found.prediction) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('version %s of federated model "%s" predicts one of several classes, and no number', version, model),
            DETAIL = 'An experiment compares versions that predict a number or the probability of one of two classes.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_arm(text, integer) IS
    'Raises 55000 for a version that has no function, was retired or is withheld, 0A000 for one of several classes';

CREATE VIEW @extschema@.federated_experiments AS
SELECT e.name AS experiment_name, w.name AS workspace_name, m.name AS model_name,
       (SELECT jsonb_agg(jsonb_build_object('arm', a.name, 'version', a.version, 'share', a.share) ORDER BY a.place)
        FROM federated.experiment_arm AS a WHERE a.experiment_id = e.experiment_id) AS arms,
       e.created_by::text AS created_by, e.created_at, e.keep_days
FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id);

COMMENT ON VIEW @extschema@.federated_experiments IS 'The experiments that there are; federated_experiment(name) tells how one stands';

COMMENT ON COLUMN @extschema@.federated_experiments.experiment_name IS 'Name of the experiment';

COMMENT ON COLUMN @extschema@.federated_experiments.workspace_name IS 'The workspace of its model';

COMMENT ON COLUMN @extschema@.federated_experiments.model_name IS 'The model whose versions it compares';

COMMENT ON COLUMN @extschema@.federated_experiments.arms IS
    'In their order: arm (the tag or number that the statement gave), version (what that named then), share (of the keys)';

COMMENT ON COLUMN @extschema@.federated_experiments.created_by IS 'Who made it; the owner of the model may drop it';

COMMENT ON COLUMN @extschema@.federated_experiments.created_at IS 'When it was made';

COMMENT ON COLUMN @extschema@.federated_experiments.keep_days IS 'After how many days a call, and the outcome of its key with the last one, is but a part of sums';

-- Runs as federated_owner: the sums are of what nobody else reads. Sorts behind check_owner.
CREATE FUNCTION federated._close_arms() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE federated.experiment_arm AS a SET calls = s.calls, outcomes = s.outcomes, outcome_sum = s.outcome_sum
    FROM federated._experiment_sums(OLD.experiment_id) AS s
    WHERE a.experiment_id = OLD.experiment_id AND a.place = s.place;
    DELETE FROM federated.experiment_arm AS a WHERE a.experiment_id = OLD.experiment_id;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._close_arms() IS 'Has the audit log keep the sums of an experiment that is dropped';

-- In one statement, as a whole: so none is ever added, and shares, which are never altered, add up. A dump may be restored row by row, by a
-- superuser.
CREATE FUNCTION federated._check_arms() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fault record;
BEGIN
    IF EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = current_user AND r.rolsuper) THEN
        RETURN NULL;
    END IF;
    SELECT e.name, f.fault INTO fault
    FROM (SELECT n.experiment_id, count(*) AS arms FROM added AS n GROUP BY n.experiment_id) AS g
    JOIN federated.experiment AS e USING (experiment_id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS arms, min(a.place) AS first, max(a.place) AS last, sum(a.share) AS share
        FROM federated.experiment_arm AS a WHERE a.experiment_id = g.experiment_id
    ) AS k
    CROSS JOIN LATERAL (
        SELECT CASE WHEN k.arms > g.arms THEN 'Its versions are pinned: none is added.'
                    WHEN k.arms < 2 THEN 'It compares two versions at least.'
                    WHEN k.first <> 1 OR k.last <> k.arms THEN 'Its versions are counted from 1.'
                    WHEN abs(k.share - 1) > 1e-9 THEN 'The shares of its versions add up to 1.' END AS fault
    ) AS f
    WHERE f.fault IS NOT NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated experiment "%s" cannot have these versions', fault.name), DETAIL = fault.fault,
            HINT = 'CREATE FEDERATED EXPERIMENT names all of them.';
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._check_arms() IS 'Lets an experiment have its arms once, all by one statement, with shares that add up to 1';

CREATE FUNCTION federated._keep_experiments() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number     integer;
    dependents text[];
    dependent  text;
BEGIN
    IF TG_TABLE_NAME = 'version' THEN
        number := OLD.version;
    END IF;
    dependents := ARRAY(
        SELECT e.name FROM federated.experiment AS e
        WHERE e.model_id = OLD.model_id
          AND (number IS NULL OR EXISTS (SELECT FROM federated.experiment_arm AS a
                                         WHERE a.experiment_id = e.experiment_id AND a.version = number))
        ORDER BY e.name);
    IF cardinality(dependents) > 0 AND coalesce(current_setting('federated.drop_behavior', true), '') <> 'cascade' THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format(CASE WHEN number IS NULL THEN 'cannot drop federated model "%s" because experiments compare its versions'
                                  ELSE 'cannot drop version %2$s of federated model "%1$s" because experiments compare it' END,
                             (SELECT m.name FROM federated.model AS m WHERE m.model_id = OLD.model_id), number),
            DETAIL = (SELECT string_agg(format('experiment "%s"', d), E'\n') FROM unnest(dependents[1:20]) AS d),
            HINT = format('Use DROP FEDERATED MODEL ... %sCASCADE to drop them too.', CASE WHEN number IS NOT NULL THEN 'VERSION ... ' END);
    END IF;
    FOREACH dependent IN ARRAY dependents LOOP
        RAISE NOTICE 'drop cascades to federated experiment "%"', dependent;
        DELETE FROM federated.experiment AS e WHERE e.name = dependent;
    END LOOP;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._keep_experiments() IS 'Lets a model or a version that an experiment compares be dropped only by CASCADE, and the experiment with it';

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.experiment
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE TRIGGER close_arms BEFORE DELETE ON federated.experiment
    FOR EACH ROW EXECUTE FUNCTION federated._close_arms();

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.experiment
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE TRIGGER check_owner BEFORE INSERT ON federated.experiment_arm
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE TRIGGER check_arms AFTER INSERT ON federated.experiment_arm REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION federated._check_arms();

CREATE TRIGGER audit AFTER INSERT OR UPDATE OF calls, outcomes, outcome_sum ON federated.experiment_arm
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE TRIGGER drop_experiments BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_experiments();

CREATE TRIGGER drop_experiments BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_experiments();

-- Predictions that follow an experiment, and what came of them.
--
-- What always holds: whatever asks, one key or a query's, a key is served by the arm that its hash names, and each prediction is counted in
-- the transaction that asked for it; a call is recorded for an experiment that is there until that transaction ends, or not at all.

-- These two are in each call's way, so the planner inlines them: what they name was bound when they were made.
CREATE FUNCTION federated._key_sha256(experiment_id uuid, key text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.sha256(pg_catalog.uuid_send(experiment_id) OPERATOR(pg_catalog.||) pg_catalog.convert_to(key, 'UTF8'));

COMMENT ON FUNCTION federated._key_sha256(uuid, text) IS 'SHA-256 of the 16 bytes of an experiment''s id and the UTF-8 text of a key';

CREATE FUNCTION federated._drawn(key_sha256 bytea) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' OPERATOR(pg_catalog.||) pg_catalog."left"(pg_catalog.encode(key_sha256, 'hex'), 13))::pg_catalog.bit(52)::pg_catalog.int8
    OPERATOR(pg_catalog./) 4503599627370496::pg_catalog.float8;

COMMENT ON FUNCTION federated._drawn(bytea) IS 'The first 52 bits of a key''s hash, as a number in [0, 1)';

-- The last arm takes what rounding of the shares leaves over.
CREATE FUNCTION federated._arm_bounds(experiment_id uuid) RETURNS double precision[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT (array_agg(a.upto ORDER BY a.place))[:count(*) - 1]
        FROM (SELECT k.place, sum(k.share) OVER (ORDER BY k.place) AS upto
              FROM federated.experiment_arm AS k WHERE k.experiment_id = _arm_bounds.experiment_id) AS a);
END
$$;

COMMENT ON FUNCTION federated._arm_bounds(uuid) IS
    'Where the parts of [0, 1) of an experiment''s arms end, but the last one''s: into whose a key''s number falls, that arm serves it. NULL where there is no arm';

CREATE FUNCTION federated._places_of(experiment_id uuid, keys text[]) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds double precision[] := federated._arm_bounds(experiment_id);
BEGIN
    PERFORM federated._check_key(k.key) FROM unnest(keys) AS k (key)
    WHERE (octet_length(k.key) BETWEEN 1 AND 1024) IS NOT TRUE;
    RETURN ARRAY(
        SELECT 1 + width_bucket(federated._drawn(federated._key_sha256(_places_of.experiment_id, k.key)), bounds)
        FROM unnest(keys) WITH ORDINALITY AS k (key, number) ORDER BY k.number);
END
$$;

COMMENT ON FUNCTION federated._places_of(uuid, text[]) IS 'Of each key the place of the arm that serves it; 22004 and 22023 as _check_key raises them';

CREATE FUNCTION federated._serve(experiment text, key text, OUT experiment_id uuid, OUT model text, OUT arm text, OUT version integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT e.experiment_id, m.name, a.name, a.version INTO experiment_id, model, arm, version
    FROM federated.experiment AS e JOIN federated.model AS m USING (model_id)
    LEFT JOIN federated.experiment_arm AS a ON a.experiment_id = e.experiment_id AND a.place =
        1 + width_bucket(federated._drawn(federated._key_sha256(e.experiment_id, key)), federated._arm_bounds(e.experiment_id))
    WHERE e.name = experiment;
    IF NOT FOUND THEN
        PERFORM federated._experiment_id(experiment);
    ELSIF (octet_length(key) BETWEEN 1 AND 1024) IS NOT TRUE THEN
        PERFORM federated._check_key(key);
    END IF;
    IF arm IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated experiment "%s" has no versions', experiment), HINT = 'Drop it and make it anew.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._serve(text, text) IS 'By which arm an experiment serves a key, and of which model; 42704 where there is no such experiment';

CREATE FUNCTION @extschema@.federated_experiment_arm(experiment text, key text, OUT arm text, OUT version integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.arm, s.version INTO arm, version FROM federated._serve(experiment, key) AS s;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_experiment_arm(text, text) IS
    'Which arm of an experiment serves a key, and which version that is: always the same one. Nothing is recorded';

-- A DROP that came first is waited for, and one that comes later waits: what is recorded beside it has no experiment to be about.
CREATE FUNCTION federated._hold_experiment(experiment_id uuid, experiment text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM federated.experiment AS e WHERE e.experiment_id = _hold_experiment.experiment_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated experiment "%s" does not exist', left(experiment, 63)),
            DETAIL = 'It was dropped meanwhile.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._hold_experiment(uuid, text) IS 'Keeps an experiment from being dropped until the transaction ends; 42704 where it was dropped meanwhile';

-- What records runs as federated_owner and is called by name too: the right to the model's functions is asked for there, of the role that
-- logged in or was set. (Inside DEFINER current_user is the owner.)
CREATE FUNCTION federated._check_may_record(experiment_id uuid, places integer[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    caller  name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
    refused name;
BEGIN
    SELECT p.proname INTO refused
    FROM federated.experiment_arm AS a JOIN federated.model AS m USING (model_id)
    JOIN pg_proc AS p ON p.pronamespace = 'federated_model'::regnamespace AND p.proname = (m.name || '@' || a.version)::name
    WHERE a.experiment_id = _check_may_record.experiment_id AND a.place = ANY (places)
      AND NOT has_function_privilege(caller, p.oid, 'EXECUTE')
    ORDER BY a.place LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for function federated_model.%I', refused),
            DETAIL = format('What an experiment records needs this right of the session''s role, "%s".', caller);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_may_record(uuid, integer[]) IS
    'Raises error 42501 where the session''s role may not call the function of one of these arms';

CREATE FUNCTION federated._record_calls(experiment_id uuid, experiment text, keys text[], scores double precision[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bounds double precision[] := federated._arm_bounds(experiment_id);
    made   record;
BEGIN
    PERFORM federated._hold_experiment(experiment_id, experiment);
    WITH calls AS (
        INSERT INTO federated.experiment_call (experiment_id, key_sha256, place, score)
        SELECT _record_calls.experiment_id, c.hashed, 1 + width_bucket(federated._drawn(c.hashed), bounds), c.score
        FROM (SELECT federated._key_sha256(_record_calls.experiment_id, k.key) AS hashed, k.score
              FROM unnest(keys, scores) AS k (key, score)) AS c
        RETURNING place
    )
    SELECT count(*) AS calls, array_agg(DISTINCT c.place) AS places INTO made FROM calls AS c;
    PERFORM federated._check_may_record(experiment_id, made.places);
    RETURN made.calls;
END
$$;

COMMENT ON FUNCTION federated._record_calls(uuid, text, text[], double precision[]) IS
    'Counts predictions for the arms that serve the keys, and returns how many there are; 42501 where the session''s role may not call the arms'' functions';

CREATE FUNCTION @extschema@.federated_predict_experiment(
    experiment text, key text, features jsonb DEFAULT '{}', OUT score double precision, OUT arm text, OUT version integer
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
BEGIN
    SELECT s.* INTO served FROM federated._serve(experiment, key) AS s;
    IF features IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the features must not be null',
            HINT = 'Name each feature: {"feature": value, ...}.';
    END IF;
    arm := served.arm;
    version := served.version;
    score := @extschema@.federated_predict(served.model || '@' || version, features);
    PERFORM federated._record_calls(served.experiment_id, experiment, ARRAY[key], ARRAY[score]);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_experiment(text, text, jsonb) IS
    'Prediction by the version of the arm that serves the key, with the arm''s label; the call is counted. A version that was retired or is withheld answers 55000: no other one takes its place';

CREATE FUNCTION federated._check_compares(experiment text, model text) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject  uuid;
    compared text;
BEGIN
    SELECT e.experiment_id, m.name INTO subject, compared
    FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) WHERE e.name = experiment;
    IF NOT FOUND THEN
        PERFORM federated._experiment_id(experiment);
    ELSIF model IS DISTINCT FROM compared THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('federated experiment "%s" compares versions of "%s", not of "%s"', experiment, compared, left(model, 127)),
            HINT = 'Name the model without a version: the experiment chooses one.';
    END IF;
    RETURN subject;
END
$$;

COMMENT ON FUNCTION federated._check_compares(text, text) IS 'The id of an experiment, or error 42704; 22023 where it is about another model';

CREATE FUNCTION @extschema@.federated_predict(model text, features jsonb, experiment text, experiment_key text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._check_compares(experiment, model);
    RETURN (SELECT p.score FROM @extschema@.federated_predict_experiment(experiment, experiment_key, features) AS p);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict(text, jsonb, text, text) IS
    'Prediction by the version with which an experiment on the model serves the key; the call is counted, as federated_predict_experiment counts it';

-- The arms of one block of a query's rows are found at once, each row is scored by its arm's own function, and the block's calls are recorded
-- before a row of it is returned. columns: as of federated._describe_batch.
CREATE FUNCTION federated._describe_served(subject uuid, model text, columns jsonb, experiment_key text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row_place text := federated._free_name(columns);
    score     text := row_place || ' prediction';
    arms      text;
BEGIN
    IF (SELECT count(*) FROM jsonb_to_recordset(columns) AS c (name text) WHERE c.name = experiment_key) IS DISTINCT FROM 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('the query has no column "%s"', left(experiment_key, 63)),
            HINT = 'experiment_key names the column of the query whose value is the key.';
    END IF;
    arms := (SELECT string_agg(format('WHEN %s THEN %s', a.place, federated._describe_arm(model || '@' || a.version, columns)), ' ' ORDER BY a.place)
             FROM federated.experiment_arm AS a WHERE a.experiment_id = subject);
    RETURN (
        SELECT format(
            'WITH q AS MATERIALIZED (SELECT * FROM ROWS FROM (federated._fetch_block($1, $2) AS (%1$s)) WITH ORDINALITY AS q (%2$s, %3$I)),'
            ' a AS MATERIALIZED (SELECT federated._places_of($3, pg_catalog.array_agg(q.%4$I::pg_catalog.text ORDER BY q.%3$I)) AS places FROM q),'
            ' p AS MATERIALIZED (SELECT q.*, CASE a.places[q.%3$I] %5$s END AS %6$I FROM q, a),'
            ' r AS MATERIALIZED (SELECT federated._record_calls($3, $4, pg_catalog.array_agg(p.%4$I::pg_catalog.text ORDER BY p.%3$I),'
            ' pg_catalog.array_agg(p.%6$I ORDER BY p.%3$I)) FROM p HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0)'
            ' SELECT %7$s, p.%6$I FROM p, r ORDER BY p.%3$I',
            string_agg(format('c%s %s', c.place, format_type(c.type, c.typmod)), ', ' ORDER BY c.place),
            string_agg(format('%I', c.name), ', ' ORDER BY c.place), row_place, experiment_key, arms, score,
            string_agg(format('p.%I', c.name), ', ' ORDER BY c.place))
        FROM (SELECT r.ordinality AS place, r.type, r.typmod,
                     CASE WHEN count(*) OVER (PARTITION BY r.name) = 1 THEN r.name ELSE 'c ' || r.ordinality END AS name
              FROM ROWS FROM (jsonb_to_recordset(columns) AS (name text, type oid, typmod integer)) WITH ORDINALITY AS r) AS c);
END
$$;

COMMENT ON FUNCTION federated._describe_served(uuid, text, jsonb, text) IS
    'A query for the next rows of a cursor, each with the prediction of the arm that serves its key; it records these calls';

CREATE FUNCTION federated._describe_arm(reference text, columns jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    present text[] := ARRAY(SELECT c.name FROM jsonb_to_recordset(columns) AS c (name text));
BEGIN
    SELECT f.* INTO found FROM federated._find_function(reference) AS f;
    IF NOT found.features && present THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', reference),
            HINT = format('Its features are %s.', array_to_string(found.features, ', '));
    END IF;
    RETURN federated._describe_call('federated_model', found.function_name, found.features, found.booleans, found.prediction,
        federated._given_by_name(found.features, found.booleans, found.prediction, present, 'q.'));
END
$$;

COMMENT ON FUNCTION federated._describe_arm(text, jsonb) IS 'A call of a version''s function for the columns of a row q';

CREATE FUNCTION @extschema@.federated_predict_batch(model text, query text, experiment text, experiment_key text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    block     CONSTANT pg_catalog.int4 := 4096;
    subject   CONSTANT pg_catalog.uuid := federated._check_compares(experiment, model);
    rows      CONSTANT pg_catalog.text := 'federated_batch_' OPERATOR(pg_catalog.||) pg_catalog.gen_random_uuid()::pg_catalog.text;
    found     pg_catalog.jsonb;
    statement pg_catalog.text;
    taken     pg_catalog.int8;
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null';
    END IF;
    found := federated._describe_columns(query);
    PERFORM federated._raise(found OPERATOR(pg_catalog.->) 'failure');
    statement := federated._describe_served(subject, model, found OPERATOR(pg_catalog.->) 'columns', experiment_key);
    EXECUTE pg_catalog.format('DECLARE %I NO SCROLL CURSOR FOR %s', rows, found OPERATOR(pg_catalog.->>) 'query');
    LOOP
        RETURN QUERY EXECUTE statement USING rows, block, subject, experiment;
        GET DIAGNOSTICS taken = ROW_COUNT;
        EXIT WHEN taken OPERATOR(pg_catalog.<) block;
    END LOOP;
    EXECUTE pg_catalog.format('CLOSE %I', rows);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_predict_batch(text, text, text, text) IS
    'As federated_predict_batch(model, query), each row by the version with which an experiment on the model serves its key, the value of the query''s column that experiment_key names; the calls are counted. Needs a column list: AS (id integer, ..., prediction float8)';

CREATE FUNCTION federated._record_outcome(experiment_id uuid, experiment text, key text, outcome double precision) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hashed bytea := federated._key_sha256(experiment_id, key);
    served record;
BEGIN
    PERFORM federated._hold_experiment(experiment_id, experiment);
    PERFORM federated._check_may_record(experiment_id, federated._places_of(experiment_id, ARRAY[key]));
    -- One that is being folded is waited for, and is none then: its key's outcome is folded with it.
    SELECT c.place, c.score INTO served
    FROM federated.experiment_call AS c
    WHERE c.experiment_id = _record_outcome.experiment_id AND c.key_sha256 = hashed
    ORDER BY c.called_at DESC LIMIT 1 FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO federated.experiment_outcome AS o (experiment_id, key_sha256, place, score, outcome)
    VALUES (_record_outcome.experiment_id, hashed, served.place, served.score, _record_outcome.outcome)
    ON CONFLICT ON CONSTRAINT experiment_outcome_pkey
    DO UPDATE SET score = excluded.score, outcome = excluded.outcome, reported_at = excluded.reported_at;
    RETURN true;
END
$$;

COMMENT ON FUNCTION federated._record_outcome(uuid, text, text, double precision) IS
    'Keeps the outcome of a key in place of an earlier one; false for a key that was not served within keep_days; 42501 as of _record_calls';

CREATE FUNCTION @extschema@.federated_report_outcome(experiment text, key text, outcome double precision) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    served record;
BEGIN
    SELECT s.* INTO served FROM federated._serve(experiment, key) AS s;
    IF outcome IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the outcome must not be null';
    ELSIF NOT outcome BETWEEN -1e100 AND 1e100 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('the outcome must be a number, not %s', outcome),
            DETAIL = 'It may be from -1e100 to 1e100.';
    END IF;
    -- By the function's name alone: a version that predicts no more still has outcomes to come.
    PERFORM federated._check_may_predict(served.model || '@' || served.version, NULL);
    IF NOT federated._record_outcome(served.experiment_id, experiment, key, outcome) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated experiment "%s" has not served this key', experiment),
            HINT = 'An outcome is of a key that was served in a transaction that committed, within the experiment''s keep_days.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_report_outcome(text, text, double precision) IS
    'What came of a key that an experiment has served: a number, 1 or 0 for yes or no. One outcome a key counts, the last that was reported; error 42704 for a key that was not served within the experiment''s keep_days';

-- How an experiment stands: what its calls and outcomes add up to.
--
-- What always holds: sums alone come out, whose they are stays in the tables; sums of what was folded and of what is still there are those
-- of all of it: counts exactly, means and variances but for rounding. Outcomes are summed by how far they are above the lowest one: so
-- rounding is of their spread and not of their size, and where all are equal every square is 0.

-- Chan, Golub and LeVeque (1979). Products that would be too small for a float8, an error in SQL, are 0.
CREATE FUNCTION federated._pool(
    count bigint, lowest double precision, above double precision, squares double precision,
    other_count bigint, other_lowest double precision, other_above double precision, other_squares double precision,
    OUT pooled_lowest double precision, OUT pooled_above double precision, OUT pooled_squares double precision
)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total double precision := (count + other_count)::double precision;
    delta double precision := (other_lowest - lowest) + (other_above - above);
BEGIN
    IF count = 0 OR other_count = 0 THEN
        pooled_lowest := CASE WHEN count = 0 THEN other_lowest ELSE lowest END;
        pooled_above := CASE WHEN count = 0 THEN other_above ELSE above END;
        pooled_squares := CASE WHEN count = 0 THEN other_squares ELSE squares END;
    ELSE
        pooled_lowest := least(lowest, other_lowest);
        pooled_above := (lowest - pooled_lowest) + above + CASE WHEN abs(delta) < 1e-280 THEN 0 ELSE delta * (other_count / total) END;
        pooled_squares := squares + other_squares
            + CASE WHEN abs(delta) < 1e-140 THEN 0 ELSE delta * delta * (count / total * other_count) END;
    END IF;
END
$$;

COMMENT ON FUNCTION federated._pool(
    bigint, double precision, double precision, double precision, bigint, double precision, double precision, double precision
) IS
    'Of two samples together the lowest value, by how much the mean is above it, and the sum of the squares of the distances from the mean, by those of each';

CREATE FUNCTION federated._squared_error(score double precision, outcome double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF score BETWEEN 0 AND 1 AND outcome IN (0, 1) THEN
        RETURN CASE WHEN abs(score - outcome) < 1e-150 THEN 0 ELSE power(score - outcome, 2) END;
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._squared_error(double precision, double precision) IS 'Of a probability and what came of it, 0 or 1; NULL for any other two';

CREATE FUNCTION federated._experiment_sums(experiment_id uuid) RETURNS TABLE (
    place integer, calls bigint, keys bigint, outcomes bigint, outcome_sum double precision, lowest double precision,
    above double precision, variance double precision, brier double precision
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.place, coalesce(c.calls, 0) + coalesce(p.calls, 0), coalesce(c.keys, 0) + coalesce(p.keys, 0), n.outcomes,
           CASE WHEN n.outcomes > 0 THEN coalesce(o.outcome_sum, 0) + coalesce(p.outcome_sum, 0) END,
           CASE WHEN n.outcomes > 0 THEN m.pooled_lowest END, CASE WHEN n.outcomes > 0 THEN m.pooled_above END,
           CASE WHEN n.outcomes > 1 THEN CASE WHEN m.pooled_squares < 1e-280 THEN 0 ELSE m.pooled_squares / (n.outcomes - 1) END END,
           CASE WHEN coalesce(o.is_binary, true) AND coalesce(p.is_binary, true) AND n.scored > 0
                THEN (coalesce(o.squared_errors, 0) + coalesce(p.squared_errors, 0)) / n.scored END
    FROM federated.experiment_arm AS a
    LEFT JOIN federated.experiment_past AS p USING (experiment_id, place)
    LEFT JOIN (
        SELECT k.place, count(*) AS calls, count(DISTINCT k.key_sha256) AS keys
        FROM federated.experiment_call AS k WHERE k.experiment_id = _experiment_sums.experiment_id GROUP BY k.place
    ) AS c USING (place)
    LEFT JOIN (
        SELECT k.place, count(*) AS outcomes, sum(k.outcome) AS outcome_sum, l.lowest, avg(k.outcome - l.lowest) AS above,
               regr_sxx(k.outcome - l.lowest, k.outcome - l.lowest) AS squares,
               bool_and(k.outcome IN (0, 1) AND (k.score IS NULL OR k.score BETWEEN 0 AND 1)) AS is_binary,
               count(federated._squared_error(k.score, k.outcome)) AS scored, sum(federated._squared_error(k.score, k.outcome)) AS squared_errors
        FROM federated.experiment_outcome AS k
        JOIN (SELECT i.place, min(i.outcome) AS lowest FROM federated.experiment_outcome AS i
              WHERE i.experiment_id = _experiment_sums.experiment_id GROUP BY i.place) AS l USING (place)
        WHERE k.experiment_id = _experiment_sums.experiment_id GROUP BY k.place, l.lowest
    ) AS o USING (place)
    CROSS JOIN LATERAL (
        SELECT coalesce(p.outcomes, 0) AS past, coalesce(p.outcomes, 0) + coalesce(o.outcomes, 0) AS outcomes,
               coalesce(p.scored, 0) + coalesce(o.scored, 0) AS scored
    ) AS n
    CROSS JOIN LATERAL federated._pool(
        n.past, p.lowest, p.above, p.squares, coalesce(o.outcomes, 0), o.lowest, o.above, o.squares) AS m
    WHERE a.experiment_id = _experiment_sums.experiment_id
$$;

COMMENT ON FUNCTION federated._experiment_sums(uuid) IS
    'Of each arm how often and for how many keys it was asked, and what is known of outcomes: lowest, and by how much their mean is above it';

-- A report holds the call that it is about until its transaction ends. Its key is left for the next time, whole: nobody who leaves a
-- transaction open has this wait.
CREATE FUNCTION federated._lock_calls(experiment_id uuid, older_than timestamptz) RETURNS bytea[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken tid[];
BEGIN
    taken := ARRAY(
        SELECT c.ctid FROM federated.experiment_call AS c
        WHERE c.experiment_id = _lock_calls.experiment_id AND c.called_at < older_than FOR UPDATE SKIP LOCKED);
    RETURN ARRAY(
        SELECT DISTINCT c.key_sha256 FROM federated.experiment_call AS c
        WHERE c.experiment_id = _lock_calls.experiment_id AND c.called_at < older_than
          AND NOT EXISTS (SELECT FROM unnest(taken) AS t (tid) WHERE t.tid = c.ctid));
END
$$;

COMMENT ON FUNCTION federated._lock_calls(uuid, timestamptz) IS
    'Locks what calls are older of an experiment, and returns the keys of those that a report has locked';

-- Who calls meanwhile waits for nothing: a call that is added is not old. A report of a key whose last call is being folded waits, and finds
-- none. What was reported before the calls were locked, the statement that folds sees: it begins after that.
CREATE FUNCTION federated._fold_calls(experiment_id uuid, older_than timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held   CONSTANT bytea[] := federated._lock_calls(experiment_id, older_than);
    folded bigint;
BEGIN
    WITH calls AS (
        DELETE FROM federated.experiment_call AS c
        WHERE c.experiment_id = _fold_calls.experiment_id AND c.called_at < older_than AND c.key_sha256 <> ALL (held)
        RETURNING c.place, c.key_sha256, EXISTS (
            SELECT FROM federated.experiment_call AS k
            WHERE k.experiment_id = c.experiment_id AND k.key_sha256 = c.key_sha256 AND k.called_at >= older_than) AS is_served
    ), outcomes AS (
        DELETE FROM federated.experiment_outcome AS o
        WHERE o.experiment_id = _fold_calls.experiment_id AND o.key_sha256 IN (SELECT c.key_sha256 FROM calls AS c WHERE NOT c.is_served)
        RETURNING o.place, o.score, o.outcome
    ), c AS (
        SELECT k.place, count(*) AS calls, count(DISTINCT k.key_sha256) FILTER (WHERE NOT k.is_served) AS keys FROM calls AS k GROUP BY k.place
    ), o AS (
        SELECT k.place, count(*) AS outcomes, sum(k.outcome) AS outcome_sum, l.lowest, avg(k.outcome - l.lowest) AS above,
               regr_sxx(k.outcome - l.lowest, k.outcome - l.lowest) AS squares,
               bool_and(k.outcome IN (0, 1) AND (k.score IS NULL OR k.score BETWEEN 0 AND 1)) AS is_binary,
               count(federated._squared_error(k.score, k.outcome)) AS scored, sum(federated._squared_error(k.score, k.outcome)) AS squared_errors
        FROM outcomes AS k JOIN (SELECT i.place, min(i.outcome) AS lowest FROM outcomes AS i GROUP BY i.place) AS l USING (place)
        GROUP BY k.place, l.lowest
    ), kept AS (
        INSERT INTO federated.experiment_past AS p
            (experiment_id, place, calls, keys, outcomes, outcome_sum, lowest, above, squares, scored, squared_errors, is_binary)
        SELECT _fold_calls.experiment_id, place, coalesce(c.calls, 0), coalesce(c.keys, 0), coalesce(o.outcomes, 0), coalesce(o.outcome_sum, 0),
               coalesce(o.lowest, 0), coalesce(o.above, 0), coalesce(o.squares, 0), coalesce(o.scored, 0), coalesce(o.squared_errors, 0),
               coalesce(o.is_binary, true)
        FROM c FULL JOIN o USING (place)
        ON CONFLICT ON CONSTRAINT experiment_past_pkey DO UPDATE SET
            calls = p.calls + excluded.calls, keys = p.keys + excluded.keys, outcomes = p.outcomes + excluded.outcomes,
            outcome_sum = p.outcome_sum + excluded.outcome_sum, scored = p.scored + excluded.scored,
            squared_errors = p.squared_errors + excluded.squared_errors, is_binary = p.is_binary AND excluded.is_binary,
            (lowest, above, squares) = (SELECT m.pooled_lowest, m.pooled_above, m.pooled_squares FROM federated._pool(
                p.outcomes, p.lowest, p.above, p.squares, excluded.outcomes, excluded.lowest, excluded.above, excluded.squares) AS m)
    )
    SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM outcomes) INTO folded;
    RETURN folded;
END
$$;

COMMENT ON FUNCTION federated._fold_calls(uuid, timestamptz) IS
    'Makes what is older of an experiment a part of its arms'' sums: calls, and with its last call a key''s outcome. Returns how many';

CREATE FUNCTION federated._fold_experiments(workspace text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
    folded  bigint := 0;
BEGIN
    FOR subject IN
        SELECT e.experiment_id, clock_timestamp() - make_interval(days => e.keep_days) AS older_than
        FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _fold_experiments.workspace AND NOT coalesce((w.options ->> 'legal_hold')::boolean, false)
        ORDER BY e.name FOR KEY SHARE OF e
    LOOP
        folded := folded + federated._fold_calls(subject.experiment_id, subject.older_than);
    END LOOP;
    RETURN folded;
END
$$;

COMMENT ON FUNCTION federated._fold_experiments(text) IS
    'Folds what is older than its keep_days of each experiment of a workspace, and returns how many calls and outcomes that were; nothing under legal_hold';

CREATE FUNCTION federated._welch_half_width(
    variance double precision, count bigint, other_variance double precision, other_count bigint
) RETURNS double precision
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.welch(plpy, "1.2")(variance, count, other_variance, other_count)
$$;

COMMENT ON FUNCTION federated._welch_half_width(double precision, bigint, double precision, bigint) IS
    'Half the width of the interval of 95 % of the difference of two means, by their samples'' variances; NULL where neither varies';

-- Welch (1947), with the degrees of freedom of Satterthwaite (1946): outcomes of 0 and 1 too, whose variances are those of their sample.
CREATE FUNCTION @extschema@.federated_experiment(
    experiment text, OUT arm text, OUT version integer, OUT share double precision, OUT calls bigint, OUT keys bigint, OUT outcomes bigint,
    OUT mean_outcome double precision, OUT std_error double precision, OUT difference double precision,
    OUT conf_low double precision, OUT conf_high double precision, OUT brier_score double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH subject AS MATERIALIZED (SELECT federated._experiment_id(experiment) AS experiment_id),
    s AS MATERIALIZED (SELECT k.* FROM subject, federated._experiment_sums(subject.experiment_id) AS k)
    SELECT a.name, a.version, a.share, s.calls, s.keys, s.outcomes, s.lowest + s.above,
           sqrt(nullif(s.variance, 0)) / sqrt(s.outcomes::double precision), d.difference,
           d.difference - w.half, d.difference + w.half, s.brier
    FROM federated.experiment_arm AS a
    JOIN subject USING (experiment_id)
    JOIN s USING (place)
    JOIN s AS f ON f.place = 1
    CROSS JOIN LATERAL (SELECT CASE WHEN s.place > 1 THEN (s.lowest - f.lowest) + (s.above - f.above) END AS difference) AS d
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.place > 1 AND least(s.outcomes, f.outcomes) > 1
                    THEN federated._welch_half_width(s.variance, s.outcomes, f.variance, f.outcomes) END AS half
    ) AS w
    ORDER BY a.place
$$;

COMMENT ON FUNCTION @extschema@.federated_experiment(text) IS
    'How an experiment stands, a row for each arm: its version and share of the keys; calls, different keys, and keys whose outcome was reported; mean_outcome and its std_error; difference: by how much the mean is above that of the first arm, with the interval of 95 % by Welch''s t (outcomes of 0 and 1 too), conf_low to conf_high; brier_score: mean squared difference of score and outcome, where outcomes are 0 and 1 and scores probabilities. std_error is NULL for fewer than two outcomes and where all of the arm are equal, the interval where one of the two arms has fewer than two and where neither varies. An interval that is looked at again and again, to stop when it leaves 0 out, is too narrow';

-- What a statistician asks of a linear model. Everything was computed when the version was made; nothing is here but its form.
CREATE FUNCTION federated._coefficients(model text) RETURNS federated.version
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
BEGIN
    IF subject.prediction ? 'sealed' THEN
        PERFORM federated._refuse_sealed(m.name, subject.version, 'its coefficients are not shown')
        FROM federated.model AS m WHERE m.model_id = subject.model_id;
    ELSIF subject.prediction ->> 'kind' = 'votes' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('federated model "%s" has no coefficients', model),
            DETAIL = 'A version by vote has none of its own: each group''s model has.',
            HINT = 'Train the model anew without voting_groups.';
    ELSIF subject.prediction -> 'coefficients' IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('federated model "%s" has no coefficients', model),
            DETAIL = 'They are of logistic, linear, Poisson and Cox regression, in versions made since they are kept.',
            HINT = 'Train the model anew with such an algorithm, and optimizer = ''newton'' for standard errors.';
    END IF;
    RETURN subject;
END
$$;

COMMENT ON FUNCTION federated._coefficients(text) IS
    'The version of a model (or of model@tag) whose coefficients are shown: 55000 where it is sealed, 0A000 where it has none';

CREATE FUNCTION @extschema@.federated_coefficients(
    model text, OUT term text, OUT estimate double precision, OUT std_error double precision, OUT statistic double precision,
    OUT p_value double precision, OUT conf_low double precision, OUT conf_high double precision
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._coefficients(model);
    kept    jsonb := subject.prediction -> 'coefficients';
    terms   text[] := CASE WHEN (kept ->> 'intercept')::boolean THEN ARRAY['(intercept)'] ELSE '{}'::text[] END
        || CASE WHEN jsonb_typeof(kept -> 'inputs') = 'array'
                THEN ARRAY(SELECT i.name FROM jsonb_array_elements_text(kept -> 'inputs') WITH ORDINALITY AS i (name, place)
                           ORDER BY i.place)
                ELSE subject.features END;
    classes jsonb := subject.prediction -> 'classes';
BEGIN
    IF kept ->> 'reason' IS NOT NULL THEN
        RAISE NOTICE 'the coefficients of federated model "%" have no standard errors', model USING DETAIL = kept ->> 'reason';
    END IF;
    RETURN QUERY
        SELECT CASE WHEN jsonb_array_length(kept -> 'scores') > 1
                    THEN format('%s: %s', coalesce(classes ->> s.number::integer, s.number::text), t.name) ELSE t.name END,
               (s.score -> 'estimate' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'std_error' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'statistic' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'p_value' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'conf_low' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'conf_high' ->> (t.place - 1)::integer)::double precision
        FROM jsonb_array_elements(kept -> 'scores') WITH ORDINALITY AS s (score, number)
        CROSS JOIN unnest(terms) WITH ORDINALITY AS t (name, place)
        ORDER BY s.number, t.place;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_coefficients(text) IS
    'The coefficients of a model''s current version, or of model@tag, in the columns'' own units: of a logistic model log odds, of several classes against the first, each term behind its class; of a Poisson model logarithms of the mean, of a Cox model of the hazard. std_error is that of the rows of all nodes that were trained on, as if they had been pooled, by the inverse of the observed information; statistic is estimate / std_error, normal, for a linear model of Student''s t with as many degrees of freedom as there are more rows than coefficients; p_value is two-sided, conf_low and conf_high bound the interval of 95 %. A level''s coefficient is against the level of the category that has none, the first by its bytes. Rows are taken as independent, those of one data subject too, and a missing value as if the mean in its place had been seen: where many are, errors are too small. Under weights they are those of weighted least squares, of other models as if a row had been seen so many times; for sampling weights they are no standard errors. estimate is NULL for a column that is the same in every row that was trained on. What needs a standard error is NULL where there is none, and a NOTICE says why: it needs optimizer = ''newton'', no penalty, no privacy_budget, whose noise the estimates hold, and an estimate that was reached';

CREATE OR REPLACE FUNCTION federated._check_rights(OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH members AS (
        SELECT d.objid FROM pg_depend AS d
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'heliosdb_federated_learning'
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    ), objects AS (
        SELECT n.nspname::text AS name, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl
        FROM pg_namespace AS n WHERE n.nspname IN ('federated', 'federated_model', 'federated_row', 'federated_proba', 'federated_dataset', 'federated_subject', 'federated_aggregation')
        UNION ALL
        SELECT c.oid::regclass::text, coalesce(c.relacl, acldefault('r', c.relowner))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'S') AND (n.nspname IN ('federated', 'federated_dataset', 'federated_subject') OR c.oid IN (SELECT objid FROM members))
        UNION ALL
        SELECT format('%s.%s', c.oid::regclass, quote_ident(t.attname)), t.attacl
        FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE t.attacl IS NOT NULL AND (n.nspname IN ('federated', 'federated_dataset', 'federated_subject') OR c.oid IN (SELECT objid FROM members))
        UNION ALL
        SELECT t.oid::regtype::text, coalesce(t.typacl, acldefault('T', t.typowner))
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e' AND n.nspname = 'federated'
        UNION ALL
        SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('federated', 'federated_model', 'federated_row', 'federated_proba', 'federated_aggregation') OR p.oid IN (SELECT objid FROM members)
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

CREATE OR REPLACE FUNCTION federated._check_audit(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    missing text := (
        SELECT string_agg(t.relation, ', ' ORDER BY t.relation)
        FROM unnest(ARRAY['workspace', 'node', 'model', 'run', 'dataset', 'version', 'tag', 'ledger',
                          'aggregation_function', 'round', 'lease', 'tree_head', 'audit']) AS t (relation)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger AS g
            WHERE g.tgrelid = ('federated.' || t.relation)::regclass AND g.tgenabled IN ('O', 'A')
              AND g.tgfoid = CASE t.relation WHEN 'audit' THEN 'federated._link_audit()' WHEN 'round' THEN 'federated._audit_round()'
                                             WHEN 'lease' THEN 'federated._audit_lease()' WHEN 'tree_head' THEN 'federated._audit_signer()'
                                             ELSE 'federated._audit()' END::regprocedure));
BEGIN
    SELECT v.* INTO found FROM @extschema@.federated_audit_verify(workspace) AS v;
    status := CASE WHEN missing IS NULL AND found.is_intact THEN 'PASS' ELSE 'FAIL' END;
    details := CASE
        WHEN missing IS NOT NULL THEN 'Not every change is recorded: enable the triggers of the tables named in the evidence.'
        WHEN NOT found.is_intact THEN 'The audit log is not as it was written: find out who could change it, and compare with a backup.'
        ELSE 'Every change is recorded with who made it, and the log is that of its signed heads. Compare it with heads that nodes hold: heliosdb audit verify.' END;
    evidence := format('%s entries, head %s, signed over %s, cosigned by nodes over %s', found.entries,
                       coalesce(found.head_hash, 'none'), found.signed_entries, found.witnessed_entries)
        || coalesce('; broken: ' || found.reason, '') || coalesce('; no trigger on: ' || missing, '');
END
$$;

COMMENT ON FUNCTION federated._check_audit(text) IS 'Whether every change is recorded, and the audit log holds';

CREATE OR REPLACE FUNCTION federated._check_nodes(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.unpinned > 0 OR f.expired > 0 THEN 'FAIL' WHEN f.met = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.expired > 0 THEN 'Give the nodes named in the evidence new certificates.'
                WHEN f.unpinned > 0 THEN 'A node is in use whose certificate is not pinned: register it again.'
                WHEN f.met = 0 THEN 'The coordinator has met no node yet: look again when it has.'
                ELSE 'Each node that is in use is known by its own pinned certificate, which is valid.' END,
           format('nodes registered: %s, in use: %s, of these without a pinned certificate: %s; certificates expired: %s',
                  f.registered, f.met, f.unpinned, f.expired) || coalesce(' (' || f.names || ')', '')
    FROM (
        SELECT count(*) AS registered, count(*) FILTER (WHERE n.status IN ('active', 'slow')) AS met,
               count(*) FILTER (WHERE n.status IN ('active', 'slow') AND n.certificate IS NULL) AS unpinned,
               count(*) FILTER (WHERE n.certificate_expires <= now()) AS expired,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate_expires <= now()) AS names
        FROM federated.node AS n WHERE n.workspace_id = _check_nodes.workspace_id
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_nodes(bigint) IS 'Whether nodes are known by pinned certificates that are valid';

CREATE OR REPLACE FUNCTION federated._check_node_links(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.weak THEN 'FAIL' WHEN f.nodes = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.weak THEN 'Set tls_version to 1.3, certificate_validation to true and https endpoints.'
                WHEN f.nodes = 0 THEN 'No node is registered yet: look again when there are some.'
                WHEN f.flower THEN 'Flower carries what coordinator and nodes seal to each other under keys that both certificates have signed, and vectors are sealed besides.'
                ELSE 'Coordinator and nodes speak TLS 1.3 with certificates on both sides, and vectors are sealed besides.' END,
           format('tls_version %s, certificate_validation %s, encryption %s, %s of %s endpoints are not https',
                  f.tls, f.validated, f.cipher, f.plain, f.nodes)
    FROM (
        SELECT o.*, n.*, o.tls <> '1.3' OR o.validated <> 'true' OR n.plain > 0 AS weak
        FROM (
            SELECT coalesce(w.options ->> 'tls_version', '1.3') AS tls,
                   coalesce(w.options ->> 'certificate_validation', 'true') AS validated,
                   coalesce(w.options ->> 'encryption', 'AES-256-GCM') AS cipher,
                   coalesce(w.options ->> 'communication_protocol' = 'flower', false) AS flower
            FROM federated.workspace AS w WHERE w.workspace_id = _check_node_links.workspace_id
        ) AS o
        CROSS JOIN (
            -- Nodes that dial, or are reached over Flower, have no endpoint.
            SELECT count(*) AS nodes,
                   count(*) FILTER (WHERE (q.options ->> 'endpoint' ILIKE 'https://%') IS NOT TRUE
                                      AND coalesce(w.options ->> 'communication_protocol', 'grpc') = 'grpc') AS plain
            FROM federated.node AS q JOIN federated.workspace AS w USING (workspace_id)
            WHERE w.workspace_id = _check_node_links.workspace_id
        ) AS n
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_node_links(bigint) IS 'Whether what coordinator and nodes send each other is encrypted';

-- From the log too: a run goes with its model, and what it let out does not come back.
CREATE FUNCTION federated._plain_runs(workspace text) RETURNS TABLE (run_id text, mode text, is_central boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.run_id, upper(max(coalesce(p.policy ->> 'compliance_mode', 'none'))), bool_or(p.policy ->> 'privacy_budget' IS NOT NULL)
    FROM (
        SELECT a.object_name AS run_id, a.details -> 'after' -> 'policy' AS policy FROM federated.audit AS a
        WHERE a.workspace = _plain_runs.workspace AND a.object_kind = 'run' AND a.details -> 'after' ->> 'status' = 'running'
        UNION ALL
        SELECT r.run_id::text, r.policy
        FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _plain_runs.workspace AND r.started_at IS NOT NULL
    ) AS p
    WHERE p.policy ->> 'privacy_budget' IS NULL OR p.policy ->> 'trust_model' = 'central'
    GROUP BY p.run_id
$$;

COMMENT ON FUNCTION federated._plain_runs(text) IS
    'The runs whose coordinator saw sums without noise: without a budget, or as the one who adds it (is_central); and the compliance_mode that was in force: whether nodes were to refuse them';

CREATE OR REPLACE FUNCTION federated._check_budget(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN b.total_epsilon IS NULL OR b.total_epsilon > 10 OR b.consumed_epsilon > b.total_epsilon OR p.plain > 0 THEN 'FAIL'
                WHEN p.central > 0 OR p.is_central THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN b.total_epsilon IS NULL THEN 'Exact sums leave the nodes: set privacy_budget.'
                WHEN b.total_epsilon > 10 THEN 'An epsilon beyond 10 hides nobody: lower privacy_budget, and have the nodes'' DBAs set max_epsilon.'
                WHEN b.consumed_epsilon > b.total_epsilon THEN 'More has been spent than the budget allows now.'
                WHEN p.plain > 0 THEN 'Runs before the budget was set let exact sums leave the nodes: a budget cannot cover them.'
                WHEN p.central > 0 OR p.is_central THEN 'Under trust_model central the coordinator sees the sums of several nodes without noise, and adds it: the epsilon is claimed against everybody else. Whether it may know them is for a person to judge.'
                ELSE 'What leaves the nodes is noised, and within the budget. Whether that epsilon is small enough is for a person to judge.' END,
           format('epsilon %s of %s spent at delta %s; runs without a budget: %s, under trust_model central: %s', coalesce(b.consumed_epsilon::text, 'none'),
                  coalesce(b.total_epsilon::text, 'none'), p.delta, p.plain, p.central)
    FROM @extschema@.federated_privacy_budget(_check_budget.workspace) AS b
    CROSS JOIN (
        SELECT coalesce((w.options ->> 'delta')::double precision, 1e-5) AS delta,
               coalesce(w.options ->> 'trust_model' = 'central', false) AS is_central,
               (SELECT count(*) FROM federated._plain_runs(w.name) AS r WHERE NOT r.is_central) AS plain,
               (SELECT count(*) FROM federated._plain_runs(w.name) AS r WHERE r.is_central) AS central
        FROM federated.workspace AS w WHERE w.name = _check_budget.workspace
    ) AS p
$$;

COMMENT ON FUNCTION federated._check_budget(text) IS 'Whether what left the nodes was noised within a budget';

-- A node's figure is of all that it has released for the workspace by then; several runs may have asked in another order
-- than they reserved, so it is held against the most that the ledger showed for the node up to then, not one line's.
CREATE FUNCTION federated._ledger_faults(workspace text) RETURNS TABLE (node_name text, fault text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH shown AS (
        SELECT k.*, max(k.epsilon_tight) FILTER (WHERE NOT k.is_signed) OVER (
                   PARTITION BY k.node_name ORDER BY k.recorded_at, k.is_signed) AS most
        FROM (
            SELECT l.node_name, l.run_id, l.round_number, l.exchange, l.step, l.recorded_at, l.epsilon_tight, false AS is_signed
            FROM federated.ledger AS l WHERE l.workspace = _ledger_faults.workspace
            UNION ALL
            SELECT s.node_name, s.run_id, s.round_number, s.exchange, s.step, s.recorded_at, s.epsilon_tight, true
            FROM federated.node_spending AS s WHERE s.workspace = _ledger_faults.workspace
        ) AS k
    )
    SELECT s.node_name, format('round %s of run %s, step %s: ', s.round_number, s.run_id, s.step) || c.fault
    FROM federated.node_spending AS s
    JOIN shown AS h
        ON h.is_signed AND (h.run_id, h.round_number, h.exchange, h.step, h.node_name)
                            = (s.run_id, s.round_number, s.exchange, s.step, s.node_name)
    LEFT JOIN federated.ledger AS l
        ON l.workspace = s.workspace AND (l.run_id, l.round_number, l.exchange, l.step, l.node_name)
                                         = (s.run_id, s.round_number, s.exchange, s.step, s.node_name)
    CROSS JOIN LATERAL (VALUES
        (l.ledger_id IS NULL, 'the ledger has no line of what the node signed'),
        (l.state <> 'charged', 'the line is not charged'),
        ((l.noise_multiplier, l.sampling_rate, l.steps, l.noise) <> (s.noise_multiplier, s.sampling_rate, s.steps, s.noise),
         format('the node signed %s noise %s, rate %s, %s steps; the line has %s %s, %s, %s', s.noise, s.noise_multiplier,
                s.sampling_rate, s.steps, l.noise, l.noise_multiplier, l.sampling_rate, l.steps)),
        (coalesce(greatest(h.most, l.epsilon_tight), 0) < s.epsilon_tight - 1e-4 * s.epsilon_tight - 1e-6,
         format('the node signed epsilon %s, the ledger shows %s', s.epsilon_tight, coalesce(greatest(h.most, l.epsilon_tight), 0)))
    ) AS c (holds, fault)
    WHERE s.workspace = _ledger_faults.workspace AND c.holds
    UNION ALL
    -- Before the first signature that is kept the catalog was of a version that kept none.
    SELECT l.node_name, format('round %s of run %s, step %s: charged, and not signed', l.round_number, l.run_id, l.step)
    FROM federated.ledger AS l
    WHERE l.workspace = _ledger_faults.workspace AND l.state = 'charged'
      AND l.recorded_at > (SELECT min(f.recorded_at) FROM federated.node_spending AS f)
      AND NOT EXISTS (SELECT FROM federated.node_spending AS s
                      WHERE s.workspace = l.workspace
                        AND (s.run_id, s.round_number, s.exchange, s.step, s.node_name)
                            = (l.run_id, l.round_number, l.exchange, l.step, l.node_name))
    ORDER BY 1, 2
$$;

COMMENT ON FUNCTION federated._ledger_faults(text) IS
    'Where a workspace''s ledger shows less than a node signed, has no charged line of the same mechanism, or one that no node signed; a ten-thousandth is rounding';

CREATE FUNCTION federated._check_ledger(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.faults > 0 THEN 'FAIL' WHEN s.signed = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.faults > 0 THEN 'The ledger shows less than nodes signed: find out who changed it (federated_audit_log), and trust what is signed.'
                WHEN s.signed = 0 THEN 'No node has signed what it spent yet: look again when a run has trained under a budget.'
                ELSE 'The ledger shows at least what each node signed of its own. That the signatures are the nodes'' is for heliosdb verify-spending to tell.' END,
           format('releases signed: %s, nodes that signed: %s, lines charged: %s, disagreements: %s', s.signed, s.nodes,
                  (SELECT count(*) FROM federated.ledger AS l WHERE l.workspace = _check_ledger.workspace AND l.state = 'charged'), f.faults)
               || coalesce(' (' || f.named || ')', '')
    FROM (
        SELECT count(*) AS signed, count(DISTINCT n.node_name) AS nodes
        FROM federated.node_spending AS n WHERE n.workspace = _check_ledger.workspace
    ) AS s
    CROSS JOIN (
        SELECT count(*) AS faults, string_agg(format('%s, %s', q.node_name, q.fault), '; ') FILTER (WHERE q.place <= 3) AS named
        FROM (SELECT u.*, row_number() OVER () AS place FROM federated._ledger_faults(_check_ledger.workspace) AS u) AS q
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_ledger(text) IS 'Whether the ledger shows what the nodes signed of their own spending';

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

-- Consent at a participant: what its node has heard of who has consented to what.
-- A data subject is known by a hash whose key is the node's and in no database.

-- To it the extension in a node's own database seals a data subject's identifier: the daemon alone opens it.
CREATE TABLE federated.node_key (
    only_one     boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    sealing_key  bytea NOT NULL CHECK (octet_length(sealing_key) = 32),
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE federated.node_key IS
    'The public key of this database''s node, which follows from its node.key: what is sealed to it the node''s daemon alone can open';

COMMENT ON COLUMN federated.node_key.sealing_key IS 'An X25519 public key';

COMMENT ON COLUMN federated.node_key.published_at IS 'When the daemon first served this database';

CREATE TABLE federated.consent (
    consent_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace   text NOT NULL CHECK (workspace <> ''),
    digest      bytea NOT NULL CHECK (octet_length(digest) = 8),
    row_set_digest bytea NOT NULL CHECK (octet_length(row_set_digest) = 8),
    kind        text NOT NULL CHECK (kind IN ('grant', 'revoke')),
    purpose     text CHECK (purpose <> ''),
    version     text CHECK (version <> ''),
    origin      text NOT NULL CHECK (origin IN ('node', 'coordinator')),
    order_id    uuid,
    given_by    name,
    said_at     timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((origin = 'coordinator') = (order_id IS NOT NULL)),
    UNIQUE (workspace, order_id, digest)
);

CREATE INDEX consent_by_subject ON federated.consent (workspace, digest);

COMMENT ON TABLE federated.consent IS
    'The node''s register of consent: every grant and every withdrawal that it has heard, none ever changed';

COMMENT ON COLUMN federated.consent.digest IS 'Keyed hash of the data subject; the key is the node''s';

COMMENT ON COLUMN federated.consent.row_set_digest IS 'The same as federated.row_set has it';

COMMENT ON COLUMN federated.consent.purpose IS 'What was consented to or withdrawn; NULL for every purpose';

COMMENT ON COLUMN federated.consent.version IS 'Of the text that was consented to; NULL where none was named';

COMMENT ON COLUMN federated.consent.origin IS
    'Where it was said: at this node, by its own DBA, whose withdrawal no coordinator takes back; or at the coordinator';

COMMENT ON COLUMN federated.consent.order_id IS 'The coordinator''s order; NULL for what was said at this node';

COMMENT ON COLUMN federated.consent.given_by IS 'The role that said it at this node; NULL for an order, whose coordinator knows';

COMMENT ON COLUMN federated.consent.said_at IS 'When it was said: what was said last counts, in whichever order it arrives';

CREATE TABLE federated.consent_request (
    request_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace    text NOT NULL CHECK (workspace <> ''),
    kind         text NOT NULL CHECK (kind IN ('grant', 'revoke')),
    purpose      text CHECK (purpose <> ''),
    version      text CHECK (version <> ''),
    sealed       bytea NOT NULL CHECK (octet_length(sealed) <= 4096),
    requested_by name NOT NULL DEFAULT current_user,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE federated.consent_request IS
    'What was said at this node and its daemon has not entered into the register yet: it does before its next answer';

COMMENT ON COLUMN federated.consent_request.sealed IS 'The data subject, sealed to the node''s key; gone with the row';

SELECT pg_catalog.pg_extension_config_dump('federated.node_key', '');

SELECT pg_catalog.pg_extension_config_dump('federated.consent', '');

SELECT pg_catalog.pg_extension_config_dump('federated.consent_request', '');

-- What is said may be taken back by saying something else, and by nothing else.
CREATE FUNCTION federated._keep_consent() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the register of consent is never changed',
        HINT = 'GRANT FEDERATED CONSENT and REVOKE FEDERATED CONSENT add to it.';
END
$$;

COMMENT ON FUNCTION federated._keep_consent() IS 'Lets rows of the register be added, and none be changed';

CREATE TRIGGER keep_consent BEFORE UPDATE ON federated.consent
    FOR EACH ROW EXECUTE FUNCTION federated._keep_consent();

CREATE FUNCTION federated._audit_consent() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said jsonb := to_jsonb(NEW);
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (
        coalesce(said ->> 'workspace', ''), session_user,
        CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
        lower(TG_OP), TG_TABLE_NAME, TG_TABLE_NAME,
        jsonb_build_object('after', jsonb_strip_nulls(jsonb_build_object(
            'kind', said -> 'kind', 'purpose', said -> 'purpose', 'version', said -> 'version', 'sealing_key', said -> 'sealing_key'))));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_consent() IS 'Appends to the audit log what was said at this node of somebody''s consent, without the subject';

CREATE TRIGGER audit AFTER INSERT ON federated.consent_request
    FOR EACH ROW EXECUTE FUNCTION federated._audit_consent();

CREATE TRIGGER audit AFTER INSERT ON federated.node_key
    FOR EACH ROW EXECUTE FUNCTION federated._audit_consent();

-- Of a purpose what was said last counts, of that purpose or of every purpose; a dataset without a purpose may serve any, so
-- it needs a consent to every purpose, and one that is withdrawn is enough to leave somebody out of it. The purpose 'sale' is
-- an opt-out besides: who has withdrawn it is left out of everything until he grants that very purpose. The purpose
-- 'explanation' is one of explanations alone: a dataset without a purpose is still about who has withdrawn it. What the
-- node's own DBA has said was withdrawn, only he takes back.
-- In PL/pgSQL, here and where withdrawals are read: a session plans it once, and not at each of the calls for each task.
CREATE FUNCTION federated._consent_words(workspace text, purpose text)
RETURNS TABLE (digest bytea, row_set_digest bytea, is_granted boolean, heard_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    -- Of each subject and purpose the last grant and the last withdrawal; own_: of what was said at this node.
    WITH said AS (
        SELECT c.digest, c.row_set_digest, lower(c.purpose) AS about, max(c.recorded_at) AS heard_at,
               max(c.said_at) FILTER (WHERE c.kind = 'grant') AS granted,
               max(c.said_at) FILTER (WHERE c.kind = 'revoke') AS revoked,
               max(c.said_at) FILTER (WHERE c.kind = 'grant' AND c.origin = 'node') AS own_granted,
               max(c.said_at) FILTER (WHERE c.kind = 'revoke' AND c.origin = 'node') AS own_revoked
        FROM federated.consent AS c
        WHERE c.workspace = _consent_words.workspace
          AND (c.purpose IS NULL OR lower(c.purpose) IN ('sale', lower(_consent_words.purpose))
               OR _consent_words.purpose IS NULL AND lower(c.purpose) <> 'explanation')
        GROUP BY c.digest, c.row_set_digest, lower(c.purpose)
    ), every AS (
        SELECT s.*, s.about IS NULL OR s.about = lower(_consent_words.purpose) AS is_asked,
               max(s.granted) FILTER (WHERE s.about IS NULL) OVER w AS every_granted,
               max(s.revoked) FILTER (WHERE s.about IS NULL) OVER w AS every_revoked,
               max(s.own_granted) FILTER (WHERE s.about IS NULL) OVER w AS own_every_granted,
               max(s.own_revoked) FILTER (WHERE s.about IS NULL) OVER w AS own_every_revoked
        FROM said AS s WINDOW w AS (PARTITION BY s.digest)
    ), topic AS (
        -- Withdrawn where the last withdrawal was not before the last grant.
        SELECT e.digest, e.row_set_digest, e.heard_at, e.is_asked, e.granted, e.revoked, e.own_granted, e.own_revoked,
               CASE WHEN e.about = 'sale' THEN
                   coalesce(e.revoked >= e.granted, e.revoked IS NOT NULL)
                   OR coalesce(e.own_revoked >= e.own_granted, e.own_revoked IS NOT NULL)
               WHEN _consent_words.purpose IS NULL THEN
                   coalesce(greatest(e.revoked, e.every_revoked) >= greatest(e.granted, e.every_granted),
                            greatest(e.revoked, e.every_revoked) IS NOT NULL)
                   OR coalesce(greatest(e.own_revoked, e.own_every_revoked) >= greatest(e.own_granted, e.own_every_granted),
                               greatest(e.own_revoked, e.own_every_revoked) IS NOT NULL)
               ELSE false END AS is_withdrawn
        FROM every AS e
    ), asked AS (
        SELECT t.digest, t.row_set_digest, max(t.heard_at) AS heard_at, bool_or(t.is_withdrawn) AS is_withdrawn,
               max(t.granted) FILTER (WHERE t.is_asked) AS granted, max(t.revoked) FILTER (WHERE t.is_asked) AS revoked,
               max(t.own_granted) FILTER (WHERE t.is_asked) AS own_granted,
               max(t.own_revoked) FILTER (WHERE t.is_asked) AS own_revoked
        FROM topic AS t GROUP BY t.digest, t.row_set_digest
    ), standing AS (
        SELECT a.digest, a.row_set_digest, a.heard_at, a.granted IS NOT NULL AS is_given,
               a.is_withdrawn OR coalesce(a.revoked >= a.granted, a.revoked IS NOT NULL)
                   OR coalesce(a.own_revoked >= a.own_granted, a.own_revoked IS NOT NULL) AS is_withdrawn
        FROM asked AS a
    )
    SELECT s.digest, s.row_set_digest, NOT s.is_withdrawn, s.heard_at FROM standing AS s WHERE s.is_given OR s.is_withdrawn;
END
$$;

COMMENT ON FUNCTION federated._consent_words(text, text) IS
    'Of whom the register has a word that counts for a dataset of a workspace: whether it is a grant, or a withdrawal';

CREATE FUNCTION federated._granted(dataset_id bigint) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(string_agg(c.digest, ''::bytea ORDER BY c.digest), ''::bytea)
    FROM federated.dataset AS d CROSS JOIN federated._consent_words(d.workspace, d.options ->> 'purpose') AS c
    WHERE d.dataset_id = _granted.dataset_id AND c.is_granted);
END
$$;

COMMENT ON FUNCTION federated._granted(bigint) IS 'Digests of those who have consented to what a dataset is for, rising';

CREATE FUNCTION federated._unexplained(dataset_id bigint) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(string_agg(c.digest, ''::bytea ORDER BY c.digest), ''::bytea)
    FROM federated.dataset AS d CROSS JOIN federated._consent_words(d.workspace, 'explanation') AS c
    WHERE d.dataset_id = _unexplained.dataset_id AND NOT c.is_granted);
END
$$;

COMMENT ON FUNCTION federated._unexplained(bigint) IS
    'Digests of those whose rows no explanation is about, rising: who has withdrawn the purpose explanation, or every purpose';

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
return door.write_export(plpy, order_id, "1.2")
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

-- What makes a federation less safe than it could be. WARN: worth a look, but it may be meant so.
CREATE OR REPLACE FUNCTION federated._node_security(workspace_id bigint) RETURNS TABLE (check_name text, status text, recommendation text)
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
                ELSE format('None: all certificates are pinned, those of nodes: %s.', c.pinned) END
    FROM certificates AS c
$$;

COMMENT ON FUNCTION federated._node_security(bigint) IS 'The certificates of a workspace''s nodes; one that expires within 30 days is WARN';

CREATE OR REPLACE FUNCTION @extschema@.federated_security_audit(
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
             ELSE format('None: min_nodes is %s.', o.min_nodes) END
    FROM (SELECT coalesce((w.options ->> 'min_nodes')::integer, 2) AS min_nodes
          FROM federated.workspace AS w WHERE w.workspace_id = found_id) AS o;
    RETURN QUERY SELECT 'secure_aggregation', CASE WHEN m.open_models = 0 AND m.models > 0 THEN 'PASS' ELSE 'WARN' END,
        CASE WHEN m.open_models = 0 AND m.models > 0 THEN 'None: all models are trained with secure_aggregation.'
             WHEN m.models = 0 THEN 'Create models with secure_aggregation, or run the coordinator where every participant trusts it: without it it sees each node''s vector by itself.'
             ELSE format('The coordinator sees each node''s vector by itself for %s of %s models: train them with secure_aggregation, or run it where every participant trusts it.', m.open_models, m.models) END
    FROM (SELECT count(*) AS models,
                 count(*) FILTER (WHERE NOT coalesce((o.options ->> 'secure_aggregation')::boolean, false)) AS open_models
          FROM federated.model AS o WHERE o.workspace_id = found_id) AS m;
    RETURN QUERY SELECT 'audit_log', c.status, format('%s (%s)', c.details, c.evidence) FROM federated._check_audit(workspace) AS c;
    RETURN QUERY SELECT s.* FROM federated._role_security() AS s;
    RETURN QUERY SELECT s.* FROM federated._server_security() AS s;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_security_audit(text) IS
    'What makes a workspace, its nodes or its server less safe than they could be. status: PASS; FAIL; WARN (worth a look, but it may be meant so); MANUAL (the caller may not see it, or no program can: recommendation says where to look). Certificates that expire within 30 days, more than one superuser who can log in and fewer than 3 nodes are WARN';

-- Erasure at the coordinator: what follows once the nodes have answered a request. Versions that had learned from rows of the
-- subject are found from who took part, are trained anew without them, and are retired.
--
-- What always holds: the rows of a round that began after a node's answer was recorded are without the subject; a version is retired
-- only when the one that takes its place is there, or where none has to; of what is retired the hash stays. The same
-- requests lead to the same work wherever it was broken off: nothing but these rows is remembered.
CREATE TABLE federated.erasure (
    order_id     uuid PRIMARY KEY REFERENCES federated.subject_order ON DELETE CASCADE,
    planned_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at   timestamptz,
    completed_at timestamptz,
    exactness    text,
    message      text,
    workspace    text NOT NULL,
    certificate  text,
    certificate_sha256 bytea,
    signature    bytea,
    signer       text,
    CHECK (num_nulls(completed_at, exactness, certificate, certificate_sha256, signature, signer) IN (0, 6))
);

CREATE INDEX erasure_open ON federated.erasure (order_id) WHERE completed_at IS NULL;

COMMENT ON TABLE federated.erasure IS 'Requests to erase a data subject that all nodes have answered, or whose deadline has passed';

COMMENT ON COLUMN federated.erasure.planned_at IS 'When it was found which versions had learned from rows of nodes that held the subject';

COMMENT ON COLUMN federated.erasure.retired_at IS 'When none of these was left to retire; NULL until then';

COMMENT ON COLUMN federated.erasure.exactness IS 'What was done, begun with exact, approximate or incomplete; NULL until it is';

COMMENT ON COLUMN federated.erasure.message IS 'What it waits for; NULL where for nothing';

COMMENT ON COLUMN federated.erasure.certificate IS 'JSON, its keys in order and without spaces: what the coordinator signed';

COMMENT ON COLUMN federated.erasure.signer IS 'The coordinator''s certificate (PEM), whose key signed';

CREATE TABLE federated.erasure_version (
    order_id      uuid NOT NULL REFERENCES federated.erasure ON DELETE CASCADE,
    model_id      bigint NOT NULL,
    model_name    text NOT NULL,
    version       integer NOT NULL,
    run_id        uuid NOT NULL,
    first_round   integer NOT NULL,
    sha256_before bytea NOT NULL,
    retired_at    timestamptz,
    replaced_by   integer,
    sha256_after  bytea,
    PRIMARY KEY (order_id, model_id, version)
);

CREATE INDEX erasure_version_open ON federated.erasure_version (model_id) WHERE retired_at IS NULL;

COMMENT ON TABLE federated.erasure_version IS 'Versions that had learned from rows of nodes that held the subject; a row outlives its version';

COMMENT ON COLUMN federated.erasure_version.first_round IS 'The first round of its run in which such a node took part';

COMMENT ON COLUMN federated.erasure_version.sha256_before IS 'Of the version''s state, as in federated.version';

COMMENT ON COLUMN federated.erasure_version.retired_at IS 'NULL until it is, and of a request with method = suppress_only for good';

COMMENT ON COLUMN federated.erasure_version.replaced_by IS 'The version that was current when it was retired; NULL where none was';

CREATE TABLE federated.retraining (
    run_id          uuid PRIMARY KEY REFERENCES federated.run ON DELETE CASCADE,
    model_id        bigint NOT NULL,
    source_run      uuid NOT NULL,
    was_interrupted boolean NOT NULL,
    queued_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX retraining_by_model ON federated.retraining (model_id, queued_at);

COMMENT ON TABLE federated.retraining IS 'Runs that an erasure queued';

COMMENT ON COLUMN federated.retraining.source_run IS 'The run whose options, policy and random choices it has';

COMMENT ON COLUMN federated.retraining.was_interrupted IS 'Whether that run was ended by the erasure; else it had made the current version';

CREATE TABLE federated.interruption (
    run_id    uuid PRIMARY KEY REFERENCES federated.run ON DELETE CASCADE,
    order_id  uuid NOT NULL,
    model_id  bigint NOT NULL,
    begun_anew boolean NOT NULL DEFAULT false
);

CREATE INDEX interruption_open ON federated.interruption (model_id) WHERE NOT begun_anew;

COMMENT ON TABLE federated.interruption IS 'Runs that an erasure ended while they were going on, to be begun anew once it is carried out';

CREATE TABLE federated.former_part (
    run_id       uuid NOT NULL REFERENCES federated.run ON DELETE CASCADE,
    round_number integer NOT NULL,
    node_name    text NOT NULL,
    PRIMARY KEY (run_id, round_number, node_name)
);

COMMENT ON TABLE federated.former_part IS
    'In which rounds nodes took part that were unregistered since: one that is registered again under its name has what it had';

SELECT pg_catalog.pg_extension_config_dump('federated.former_part', '');

SELECT pg_catalog.pg_extension_config_dump('federated.erasure', '');

SELECT pg_catalog.pg_extension_config_dump('federated.erasure_version', '');

SELECT pg_catalog.pg_extension_config_dump('federated.retraining', '');

SELECT pg_catalog.pg_extension_config_dump('federated.interruption', '');

CREATE FUNCTION federated._learned_from(run uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE line AS (
        SELECT run AS run_id
        UNION
        SELECT r.resumed_from FROM line AS l JOIN federated.run AS r USING (run_id) WHERE r.resumed_from IS NOT NULL
    ), parts AS (
        SELECT n.name, d.started_at FROM federated.participation AS p JOIN federated.node AS n USING (node_id)
        JOIN federated.round AS d USING (run_id, round_number)
        WHERE p.run_id IN (SELECT l.run_id FROM line AS l) AND p.outcome = 'received'
        UNION ALL
        SELECT p.node_name, d.started_at FROM federated.former_part AS p JOIN federated.round AS d USING (run_id, round_number)
        WHERE p.run_id IN (SELECT l.run_id FROM line AS l)
    )
    SELECT coalesce(jsonb_object_agg(k.name, k.since), '{}') FROM (SELECT p.name, min(p.started_at) AS since FROM parts AS p GROUP BY p.name) AS k
$$;

COMMENT ON FUNCTION federated._learned_from(uuid) IS 'Which nodes took part in a run, and in what that went on from, each since when';

-- A restored dump brings the chains along; what was signed is in them by its hash.
CREATE FUNCTION federated._audit_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (NEW.workspace, session_user, CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            'certify', 'erasure', NEW.order_id::text,
            jsonb_build_object('certificate_sha256', encode(NEW.certificate_sha256, 'hex'), 'exactness', NEW.exactness));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_erasure() IS 'Appends to the audit log that an erasure was certified, with the hash of the certificate';

CREATE TRIGGER audit AFTER UPDATE OF completed_at ON federated.erasure
    FOR EACH ROW WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL) EXECUTE FUNCTION federated._audit_erasure();

CREATE FUNCTION federated._retrains(terms jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT terms ->> 'method' IS DISTINCT FROM 'suppress_only'
$$;

COMMENT ON FUNCTION federated._retrains(jsonb) IS 'Whether a request has versions trained anew and retired';

-- Who was erased once is held no more, and what was learned before is there all the same: an earlier request about the same
-- subject tells of it.
CREATE VIEW federated.erased_at AS
SELECT o.order_id, a.node_id, a.node_name, max(a.answered_at) AS answered_at
FROM federated.subject_order AS o
JOIN federated.subject_order AS e ON e.workspace = o.workspace AND e.kind = o.kind AND e.requested_at <= o.requested_at
    AND (e.order_id = o.order_id OR e.pseudonym = o.pseudonym)
JOIN federated.order_answer AS a ON a.order_id = e.order_id
WHERE o.kind = 'erase' AND a.outcome IN ('erased', 'suppressed')
GROUP BY o.order_id, a.node_id, a.node_name;

COMMENT ON VIEW federated.erased_at IS 'Which nodes held the subject of a request for erasure, and until when answers may have been about it';

CREATE VIEW federated.erased_part AS
SELECT o.order_id, federated._retrains(o.terms) AS retrains, k.run_id, r.model_id, r.status, min(k.first_round) AS first_round
FROM federated.subject_order AS o
CROSS JOIN LATERAL (
    WITH RECURSIVE concerned AS (
        SELECT p.run_id, min(p.round_number) AS first_round
        FROM federated.erased_at AS a
        JOIN federated.participation AS p USING (node_id)
        JOIN federated.round AS d USING (run_id, round_number)
        JOIN federated.run AS r USING (run_id)
        WHERE a.order_id = o.order_id AND d.started_at < a.answered_at
          -- What has not arrived yet may be about the rows as they were.
          AND (p.outcome = 'received' OR p.outcome = 'pending' AND r.status IN ('queued', 'running'))
        GROUP BY p.run_id
        UNION
        SELECT p.run_id, min(p.round_number)
        FROM federated.erased_at AS a
        JOIN federated.former_part AS p USING (node_name)
        JOIN federated.round AS d USING (run_id, round_number)
        JOIN federated.run AS r USING (run_id)
        JOIN federated.model AS m USING (model_id)
        JOIN federated.workspace AS w USING (workspace_id)
        WHERE a.order_id = o.order_id AND w.name = o.workspace AND d.started_at < a.answered_at
        GROUP BY p.run_id
        UNION
        -- What a run began with may have learned from the subject, in whichever workspace, also where that is dropped since.
        SELECT r.run_id, 0
        FROM federated.run AS r
        CROSS JOIN LATERAL jsonb_array_elements(r.lineage) AS l (line)
        CROSS JOIN LATERAL jsonb_each_text(l.line -> 'nodes') AS n (name, since)
        JOIN federated.erased_at AS a ON a.node_name = n.name
        WHERE a.order_id = o.order_id AND l.line ->> 'workspace' = o.workspace AND n.since::timestamptz < a.answered_at
        UNION
        -- What went on from such a run began with what that had learned, whoever took part later; and the models of all
        -- groups vote in one version.
        SELECT r.run_id, c.first_round FROM concerned AS c JOIN federated.run AS o ON o.run_id = c.run_id
        JOIN federated.run AS r ON r.resumed_from = o.run_id OR r.series_id = o.series_id AND o.voting_group IS NOT NULL
    )
    SELECT c.run_id, c.first_round FROM concerned AS c
) AS k
JOIN federated.run AS r ON r.run_id = k.run_id
WHERE o.kind = 'erase'
GROUP BY o.order_id, k.run_id, r.model_id, r.status;

COMMENT ON VIEW federated.erased_part IS
    'Which runs a node took part in, before it answered a request for erasure, that held the subject; and which went on from these';

CREATE FUNCTION federated._erasures_to_plan() RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.order_id FROM federated.subject_order AS o
    WHERE o.kind = 'erase' AND o.state IN ('answered', 'expired')
      AND NOT EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = o.order_id)
      -- Those of one statement are carried out together.
      AND NOT EXISTS (SELECT FROM federated.subject_order AS k WHERE k.batch_id = o.batch_id AND k.state IN ('requested', 'asked'))
$$;

COMMENT ON FUNCTION federated._erasures_to_plan() IS 'Requests that all nodes have answered, or whose deadline has passed, and of which nothing has followed yet';

-- In which rounds a node took part goes with its row.
CREATE FUNCTION federated._keep_erasing_node() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- With its workspace, whose trigger deletes it, all goes that may have learned from it.
    IF pg_trigger_depth() = 1 AND EXISTS (
        SELECT FROM federated.erased_at AS h JOIN federated.subject_order AS o USING (order_id)
        WHERE h.node_id = OLD.node_id AND o.state <> 'dropped'
          AND NOT EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = o.order_id)
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated node "%s" has answered a request for erasure of which is not known yet what it concerns', OLD.name),
            DETAIL = 'What has learned from the node''s rows is found from the rounds in which it took part.',
            HINT = 'federated_erasure_status shows which nodes the request waits for.';
    END IF;
    INSERT INTO federated.former_part (run_id, round_number, node_name)
    SELECT DISTINCT p.run_id, p.round_number, OLD.name FROM federated.participation AS p
    WHERE p.node_id = OLD.node_id AND p.outcome = 'received'
    ON CONFLICT DO NOTHING;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._keep_erasing_node() IS
    'Keeps in which rounds a node took part that is unregistered; lets none be that held a subject, before it was found which versions have learned from its rows';

CREATE TRIGGER keep_erasing BEFORE DELETE ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._keep_erasing_node();

CREATE FUNCTION federated._interrupt_runs() RETURNS TABLE (run_id uuid, message text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    reason text := 'data subjects were erased whose rows it had read or was about to go on from';
BEGIN
    INSERT INTO federated.interruption (run_id, order_id, model_id)
    SELECT DISTINCT ON (p.run_id) p.run_id, p.order_id, p.model_id
    FROM federated.erased_part AS p JOIN federated.erasure AS e USING (order_id) JOIN federated.run AS r USING (run_id)
    WHERE p.status IN ('queued', 'running') AND p.retrains AND r.series_id IS NULL AND NOT federated._is_orphaned(r.run_id)
      -- A run that an erasure queued is queued anew as long as there is need.
      AND NOT EXISTS (SELECT FROM federated.retraining AS k WHERE k.run_id = p.run_id AND NOT k.was_interrupted)
    ORDER BY p.run_id, p.order_id
    ON CONFLICT DO NOTHING;
    RETURN QUERY
    WITH ended AS (
        UPDATE federated.run AS r SET status = 'failed', finished_at = clock_timestamp(), message = reason || CASE
            WHEN EXISTS (SELECT FROM federated.interruption AS i WHERE i.run_id = r.run_id) THEN '; it is begun anew without them'
            WHEN federated._is_orphaned(r.run_id) THEN '; the version that it began with is retired'
            WHEN r.series_id IS NOT NULL THEN '; START FEDERATED TRAINING begins the series anew without them'
            ELSE '' END
        WHERE r.status IN ('queued', 'running') AND r.erased_at IS NOT NULL
        RETURNING r.run_id, r.message
    ), rounds AS (
        UPDATE federated.round AS d SET status = 'failed', message = e.message, finished_at = clock_timestamp()
        FROM ended AS e WHERE d.run_id = e.run_id AND d.status = 'open'
    )
    SELECT e.run_id, e.message FROM ended AS e;
END
$$;

COMMENT ON FUNCTION federated._interrupt_runs() IS 'Ends the runs under way that a request for erasure concerns; those by themselves are begun anew later';

CREATE FUNCTION federated._plan_erasures() RETURNS SETOF uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    planned uuid[] := ARRAY(SELECT p FROM federated._erasures_to_plan() AS p);
BEGIN
    IF cardinality(planned) = 0 THEN
        RETURN;
    END IF;
    -- No run ends from here on: one that is just ending is seen with its version.
    PERFORM FROM federated.run AS r WHERE r.status IN ('queued', 'running') ORDER BY r.run_id FOR NO KEY UPDATE;
    INSERT INTO federated.erasure (order_id, workspace)
    SELECT o.order_id, o.workspace FROM federated.subject_order AS o WHERE o.order_id = ANY (planned);
    INSERT INTO federated.erasure_version (order_id, model_id, model_name, version, run_id, first_round, sha256_before)
    SELECT p.order_id, v.model_id, m.name, v.version, v.run_id, p.first_round, v.sha256
    FROM federated.erased_part AS p JOIN federated.version AS v USING (run_id) JOIN federated.model AS m ON m.model_id = v.model_id
    WHERE p.order_id = ANY (planned) AND v.retired_at IS NULL;
    UPDATE federated.run AS r SET erased_at = clock_timestamp()
    WHERE r.erased_at IS NULL AND EXISTS (
        SELECT FROM federated.erased_part AS p
        WHERE p.run_id = r.run_id AND p.order_id = ANY (planned) AND p.retrains);
    -- What such a run could go on from; a version has its own numbers.
    DELETE FROM federated.internal_checkpoint AS c USING federated.run AS r WHERE r.run_id = c.run_id AND r.erased_at IS NOT NULL;
    DELETE FROM federated.resumption AS c USING federated.run AS r WHERE r.run_id = c.run_id AND r.erased_at IS NOT NULL;
    DELETE FROM federated.run_parameters AS c USING federated.run AS r WHERE r.run_id = c.run_id AND r.erased_at IS NOT NULL;
    RETURN QUERY SELECT unnest(planned);
END
$$;

COMMENT ON FUNCTION federated._plan_erasures() IS
    'Finds what requests concern that the nodes are done with: versions, and runs, of which nothing goes on any more; the checkpoints that the catalog keeps of these are destroyed';

-- As federated_owner: nobody else may say what a run is started with.
CREATE FUNCTION federated._queue_retraining(source_run uuid, was_interrupted boolean) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source  federated.run;
    current jsonb;
    members integer;
    made    uuid;
BEGIN
    SELECT r.* INTO STRICT source FROM federated.run AS r WHERE r.run_id = source_run AND r.erased_at IS NOT NULL;
    current := (SELECT w.options FROM federated.workspace AS w JOIN federated.model AS m USING (workspace_id)
                WHERE m.model_id = source.model_id);
    -- With fewer nodes it would be another model.
    members := (SELECT count(DISTINCT p.node_id) FROM federated.participation AS p
                WHERE p.run_id = source_run AND p.outcome = 'received');
    INSERT INTO federated.run (model_id, requested_by, options, overrides, policy, seed_run, lineage)
    VALUES (
        source.model_id,
        coalesce((SELECT o.requested_by FROM federated.subject_order AS o LEFT JOIN federated.erasure_version AS e USING (order_id)
                  LEFT JOIN federated.interruption AS i USING (order_id)
                  WHERE source_run IN (e.run_id, i.run_id) ORDER BY o.requested_at, o.order_id LIMIT 1), source.requested_by),
        source.options - '{folds,search}'::text[] || CASE WHEN was_interrupted THEN '{}'::jsonb ELSE '{"promote": true}' END,
        '{}',
        -- What a budget allows is the workspace's to say as it stands: more may have been spent, or given, since.
        source.policy || CASE WHEN source.policy ->> 'privacy_budget' IS NULL THEN '{}'::jsonb ELSE current END || jsonb_build_object(
            'min_nodes', greatest((source.policy ->> 'min_nodes')::integer, members),
            'min_nodes_per_round', coalesce((source.policy ->> 'min_nodes_per_round')::integer, (source.policy ->> 'min_nodes')::integer)),
        coalesce(source.seed_run, source.run_id), source.lineage)
    ON CONFLICT (model_id) WHERE status IN ('queued', 'running') AND NOT waiting DO NOTHING
    RETURNING run_id INTO made;
    IF made IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE federated.run AS r SET overrides = source.overrides - '{folds,search}'::text[] WHERE r.run_id = made;
    INSERT INTO federated.retraining (run_id, model_id, source_run, was_interrupted)
    VALUES (made, source.model_id, source_run, was_interrupted);
    UPDATE federated.interruption AS i SET begun_anew = true WHERE was_interrupted AND i.run_id = source_run;
    RETURN made;
END
$$;

COMMENT ON FUNCTION federated._queue_retraining(uuid, boolean) IS
    'Queues a run with the options, the policy and the random choices of another one that an erasure concerns, for as many nodes as that had at least; returns it, or NULL where somebody has just queued another one of the model';

CREATE FUNCTION federated._is_erased(subject federated.version) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM federated.erasure_version AS e JOIN federated.subject_order AS o USING (order_id)
        WHERE e.model_id = subject.model_id AND e.version = subject.version AND e.retired_at IS NULL AND federated._retrains(o.terms))
$$;

COMMENT ON FUNCTION federated._is_erased(federated.version) IS 'Whether a version is to be retired and is not yet';

-- A series of runs is not queued by anybody but START: such a version is retired, and nothing takes its place by itself.
CREATE FUNCTION federated._is_by_vote(subject federated.version) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated.run AS r WHERE r.run_id = subject.run_id AND r.voting_group IS NOT NULL)
$$;

COMMENT ON FUNCTION federated._is_by_vote(federated.version) IS 'Whether the models of several groups vote in a version';

CREATE FUNCTION federated._is_not_repeated(subject federated.version) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._is_by_vote(subject) OR federated._is_orphaned(subject.run_id)
$$;

COMMENT ON FUNCTION federated._is_not_repeated(federated.version) IS
    'Whether nothing takes a version''s place by itself: the models of several groups vote in it, or what its run began with is no more';

-- Failed attempts are repeated after a second, twice as long each time, at most a quarter of an hour.
CREATE FUNCTION federated._retrainings_due() RETURNS TABLE (source_run uuid, was_interrupted boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (k.model_id) k.source_run, k.was_interrupted
    FROM (
        SELECT v.model_id, v.run_id AS source_run, false AS was_interrupted
        FROM federated.version AS v CROSS JOIN LATERAL (
            SELECT count(*) AS attempts, max(r.finished_at) AS last_at,
                   -- One that left a version which could not be made current is none to repeat.
                   bool_or(EXISTS (SELECT FROM federated.version AS o WHERE o.run_id = t.run_id)) AS is_done
            FROM federated.retraining AS t JOIN federated.run AS r USING (run_id)
            WHERE t.source_run = v.run_id AND NOT t.was_interrupted AND r.erased_at IS NULL
        ) AS t
        WHERE v.is_current AND federated._is_erased(v) AND NOT federated._is_not_repeated(v) AND t.is_done IS NOT TRUE
          AND (t.attempts = 0
               OR t.last_at + least(900, power(2, least(t.attempts - 1, 10))) * interval '1 second' < clock_timestamp())
        UNION ALL
        SELECT i.model_id, i.run_id, true FROM federated.interruption AS i WHERE NOT i.begun_anew
    ) AS k
    WHERE NOT EXISTS (SELECT FROM federated.run AS r WHERE r.model_id = k.model_id AND r.status IN ('queued', 'running'))
      AND NOT EXISTS (SELECT FROM federated._erasures_to_plan())
    ORDER BY k.model_id, k.was_interrupted, k.source_run
$$;

COMMENT ON FUNCTION federated._retrainings_due() IS 'The runs of which an erasure needs another one now; of a model one at a time';

CREATE FUNCTION federated._retire_erased() RETURNS TABLE (model_name text, version integer)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    subject   record;
    successor record;
BEGIN
    FOR subject IN
        SELECT v.version_id, v.model_id, v.version, v.run_id, m.name
        FROM federated.version AS v JOIN federated.model AS m USING (model_id)
        WHERE v.retired_at IS NULL AND federated._is_erased(v)
          -- The current one stays until another one is, or until its run anew has left one that could not be.
          AND NOT EXISTS (
              SELECT FROM federated.version AS c
              WHERE c.model_id = v.model_id AND c.is_current AND federated._is_erased(c) AND NOT federated._is_not_repeated(c) AND NOT EXISTS (
                  SELECT FROM federated.retraining AS t JOIN federated.version AS o ON o.run_id = t.run_id
                  JOIN federated.run AS r ON r.run_id = t.run_id
                  WHERE t.source_run = c.run_id AND NOT t.was_interrupted AND r.erased_at IS NULL))
        ORDER BY v.model_id, v.version
    LOOP
        PERFORM federated._lock_publication(subject.model_id);
        UPDATE federated.version AS v
        SET is_current = false, withheld = false, retired_at = clock_timestamp(), prediction = NULL, prediction_arrays = NULL,
            sealed = '', scaling = '{}', report = NULL, retired_by = (
                SELECT e.order_id FROM federated.erasure_version AS e JOIN federated.subject_order AS o USING (order_id)
                WHERE e.model_id = v.model_id AND e.version = v.version AND federated._retrains(o.terms)
                ORDER BY o.requested_at, o.order_id LIMIT 1)
        WHERE v.version_id = subject.version_id;
        SELECT v.version, v.sha256 INTO successor FROM federated.version AS v WHERE v.model_id = subject.model_id AND v.is_current;
        UPDATE federated.erasure_version AS e
        SET retired_at = clock_timestamp(), replaced_by = successor.version, sha256_after = successor.sha256
        FROM federated.subject_order AS o
        WHERE o.order_id = e.order_id AND federated._retrains(o.terms)
          AND e.model_id = subject.model_id AND e.version = subject.version AND e.retired_at IS NULL;
        RETURN QUERY SELECT subject.name, subject.version;
    END LOOP;
    -- What was kept of the rows themselves: feature statistics, and figures by node.
    UPDATE federated.run AS r SET scaling = NULL
    WHERE r.erased_at IS NOT NULL AND r.scaling IS NOT NULL AND r.status NOT IN ('queued', 'running')
      AND NOT EXISTS (SELECT FROM federated.version AS v WHERE v.run_id = r.run_id AND v.retired_at IS NULL);
    UPDATE federated.round AS d SET report = NULL FROM federated.run AS r
    WHERE r.run_id = d.run_id AND r.erased_at IS NOT NULL AND r.scaling IS NULL AND d.report IS NOT NULL;
    UPDATE federated.participation AS p SET described = NULL FROM federated.run AS r
    WHERE r.run_id = p.run_id AND r.erased_at IS NOT NULL AND r.scaling IS NULL AND p.described IS NOT NULL;
    UPDATE federated.erasure AS e SET retired_at = clock_timestamp()
    WHERE e.retired_at IS NULL AND NOT EXISTS (
        SELECT FROM federated.erasure_version AS v JOIN federated.subject_order AS o USING (order_id)
        WHERE v.order_id = e.order_id AND v.retired_at IS NULL AND federated._retrains(o.terms)
          AND EXISTS (SELECT FROM federated.version AS k WHERE k.model_id = v.model_id AND k.version = v.version));
END
$$;

COMMENT ON FUNCTION federated._retire_erased() IS
    'Retires what an erasure concerns where the version that takes its place is there, or none has to; its numbers are destroyed, and what was kept of the rows that its run had read';

CREATE FUNCTION federated._explain_erasures() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE federated.erasure AS e SET message = k.message
    FROM (
        SELECT o.order_id, (
            SELECT string_agg(DISTINCT format('federated model "%s" is trained anew: %s', m.name, coalesce(
                (SELECT CASE WHEN r.status IN ('queued', 'running') THEN format('run %s %s', r.run_id, coalesce(r.message, r.status::text))
                             ELSE format('run %s %s: %s', r.run_id, replace(r.status::text, '_', ' '), r.message) END
                 FROM federated.retraining AS t JOIN federated.run AS r USING (run_id)
                 WHERE t.source_run = c.run_id AND NOT t.was_interrupted ORDER BY t.queued_at DESC LIMIT 1),
                (SELECT format('run %s comes first', r.run_id) FROM federated.run AS r
                 WHERE r.model_id = m.model_id AND r.status IN ('queued', 'running') LIMIT 1),
                'its run is yet to be queued')), '; ')
            FROM federated.erasure_version AS v
            JOIN federated.model AS m ON m.model_id = v.model_id
            JOIN federated.version AS c ON c.model_id = v.model_id AND c.is_current AND federated._is_erased(c)
            WHERE v.order_id = o.order_id AND v.retired_at IS NULL) AS message
        FROM federated.erasure AS o WHERE o.completed_at IS NULL
    ) AS k
    WHERE k.order_id = e.order_id AND e.message IS DISTINCT FROM k.message
$$;

COMMENT ON FUNCTION federated._explain_erasures() IS 'Says of each request under way what it waits for';

CREATE FUNCTION federated._may_concern(subject federated.version, request federated.subject_order) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE line AS (
        SELECT subject.run_id
        UNION
        SELECT k.run_id FROM line AS l JOIN federated.run AS r USING (run_id)
        CROSS JOIN LATERAL (
            SELECT r.resumed_from WHERE r.resumed_from IS NOT NULL
            UNION ALL
            SELECT o.run_id FROM federated.run AS o WHERE o.series_id = r.series_id AND r.voting_group IS NOT NULL) AS k (run_id)
    )
    SELECT CASE
        WHEN EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = request.order_id) THEN
            federated._retrains(request.terms) AND EXISTS (
                SELECT FROM federated.erasure_version AS e
                WHERE e.order_id = request.order_id AND e.model_id = subject.model_id AND e.version = subject.version
                  AND e.retired_at IS NULL)
        WHEN EXISTS (
            SELECT FROM federated.run AS r CROSS JOIN LATERAL jsonb_array_elements(r.lineage) AS a (line)
            CROSS JOIN LATERAL jsonb_each_text(a.line -> 'nodes') AS n (name, since)
            WHERE r.run_id IN (TABLE line) AND a.line ->> 'workspace' = request.workspace AND (
                request.state = 'requested' OR EXISTS (
                    SELECT FROM federated.order_answer AS b LEFT JOIN federated.erased_at AS h USING (order_id, node_id)
                    WHERE b.order_id = request.order_id AND b.node_name = n.name
                      AND (b.state = 'pending' OR n.since::timestamptz < h.answered_at)))) THEN true
        WHEN request.state = 'requested' THEN EXISTS (
            SELECT FROM federated.participation AS p JOIN federated.round AS d USING (run_id, round_number)
            WHERE p.run_id IN (TABLE line) AND p.outcome = 'received')
        ELSE EXISTS (
            SELECT FROM federated.participation AS p JOIN federated.round AS d USING (run_id, round_number)
            JOIN federated.order_answer AS a USING (node_id) LEFT JOIN federated.erased_at AS h USING (order_id, node_id)
            WHERE p.run_id IN (TABLE line) AND p.outcome = 'received' AND a.order_id = request.order_id
              AND (a.state = 'pending' OR d.started_at < h.answered_at)) END
$$;

COMMENT ON FUNCTION federated._may_concern(federated.version, federated.subject_order) IS
    'Whether a version may have learned from rows of a request''s subject, as far as the nodes have answered, and is not retired yet';

CREATE FUNCTION federated._withhold_versions() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE federated.version AS v SET withheld = k.withheld
    FROM (
        SELECT c.version_id, EXISTS (
            SELECT FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
            WHERE o.kind = 'erase' AND (o.workspace = w.name OR federated._descends(c.run_id, o.workspace))
              AND o.terms ->> 'during_erasure' = 'refuse'
              AND o.state <> 'dropped' AND e.retired_at IS NULL AND federated._may_concern(c, o)) AS withheld
        FROM federated.version AS c JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE c.retired_at IS NULL
          AND (c.withheld OR EXISTS (
              SELECT FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
              WHERE o.kind = 'erase' AND (o.workspace = w.name OR federated._descends(c.run_id, o.workspace)) AND o.terms ->> 'during_erasure' = 'refuse'
                AND o.state <> 'dropped' AND e.retired_at IS NULL))
    ) AS k
    WHERE k.version_id = v.version_id AND v.withheld <> k.withheld
$$;

COMMENT ON FUNCTION federated._withhold_versions() IS
    'Has exactly those versions not predict that a request with during_erasure = refuse may concern and that is not carried out';

-- As federated_owner: whoever asks for an erasure may not change versions otherwise.
CREATE FUNCTION federated._withhold_at_once() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- What a dump brings is over, or is looked at by the coordinator.
    IF EXISTS (SELECT FROM placed AS p WHERE p.kind = 'erase' AND p.state = 'requested' AND p.terms ->> 'during_erasure' = 'refuse') THEN
        PERFORM federated._withhold_versions();
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._withhold_at_once() IS 'Has versions not predict from the request on that asks for it';

CREATE TRIGGER withhold AFTER INSERT ON federated.subject_order REFERENCING NEW TABLE AS placed
    FOR EACH STATEMENT EXECUTE FUNCTION federated._withhold_at_once();

CREATE FUNCTION federated._has_erasure_work() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM federated._erasures_to_plan())
        OR EXISTS (SELECT FROM federated.erasure AS e WHERE e.completed_at IS NULL)
        OR EXISTS (SELECT FROM federated.interruption AS i WHERE NOT i.begun_anew)
        OR EXISTS (SELECT FROM federated.version AS v WHERE v.withheld)
$$;

COMMENT ON FUNCTION federated._has_erasure_work() IS 'Whether anything is to follow from requests for erasure';

-- A run plans with what is left: where it chooses all its noise by that it spends that, else no more than the one before.
CREATE FUNCTION federated._retraining_cost(
    workspace_id bigint, OUT model_name text, OUT epsilon double precision, OUT remaining double precision, OUT total double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.name, CASE WHEN w.options ->> 'noise_multiplier' IS NULL AND w.options ->> 'privacy_per_round' IS NULL
                        THEN left_over.epsilon ELSE least(left_over.epsilon, spent.epsilon) END, left_over.epsilon,
           (w.options ->> 'privacy_budget')::double precision
    FROM federated.model AS m
    JOIN federated.workspace AS w USING (workspace_id)
    JOIN federated.version AS v ON v.model_id = m.model_id AND v.is_current AND v.retired_at IS NULL
    CROSS JOIN LATERAL (
        SELECT greatest(0, (w.options ->> 'privacy_budget')::double precision - coalesce(federated._consumed_epsilon(w.name), 0)) AS epsilon
    ) AS left_over
    CROSS JOIN LATERAL (
        SELECT coalesce(max(k.after - k.before), 0) AS epsilon FROM (
            SELECT max(l.epsilon_tight) AS after, coalesce((
                SELECT max(b.epsilon_tight) FROM federated.ledger AS b
                WHERE b.workspace = w.name AND b.node_name = l.node_name AND b.ledger_id < min(l.ledger_id)), 0) AS before
            FROM federated.ledger AS l WHERE l.run_id = v.run_id AND l.workspace = w.name GROUP BY l.node_name
        ) AS k
    ) AS spent
    WHERE m.workspace_id = _retraining_cost.workspace_id AND w.options ->> 'privacy_budget' IS NOT NULL AND NOT federated._is_by_vote(v)
    ORDER BY m.name
$$;

COMMENT ON FUNCTION federated._retraining_cost(bigint) IS
    'For each model with a current version in a workspace with a budget: the epsilon that a run like that version''s may spend at most, what is left, and of how much';

CREATE FUNCTION federated._certificate_of(workspace text, node_name text, certificate_sha256 bytea) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.certificate FROM (
        SELECT n.certificate FROM federated.node AS n JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _certificate_of.workspace AND n.name = _certificate_of.node_name
        UNION
        SELECT a.details -> s.side ->> 'certificate'
        FROM federated.audit AS a CROSS JOIN (VALUES ('before'), ('after')) AS s (side)
        WHERE a.workspace = _certificate_of.workspace AND a.object_kind = 'node' AND a.object_name = _certificate_of.node_name
    ) AS k
    WHERE k.certificate LIKE '%-----BEGIN CERTIFICATE-----%-----END CERTIFICATE-----%'
      AND sha256(decode(substring(k.certificate FROM '-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=[:space:]]+)-----END CERTIFICATE-----'), 'base64'))
          = _certificate_of.certificate_sha256
    LIMIT 1
$$;

COMMENT ON FUNCTION federated._certificate_of(text, text, bytea) IS
    'The certificate (PEM) of a node of which that is the SHA-256, as it was pinned at some time; NULL where none was';

CREATE OR REPLACE VIEW @extschema@.federated_erasure_status AS
SELECT o.order_id AS request_id, o.workspace, o.model AS model_name, encode(o.pseudonym, 'hex') AS subject_hash, o.requested_at,
       o.deadline, CASE WHEN e.completed_at IS NOT NULL THEN 'completed' WHEN e.order_id IS NOT NULL THEN 'retraining'
                        WHEN o.state IN ('requested', 'asked') THEN 'asking nodes' WHEN o.state = 'dropped' THEN 'dropped'
                        ELSE 'retraining' END AS status,
       a.node_name, CASE WHEN a.state = 'answered' THEN a.outcome ELSE a.state END AS node_state,
       (SELECT sum((d ->> 'rows')::bigint) FROM jsonb_array_elements(s.statement -> 'datasets') AS d)::bigint AS rows,
       ARRAY(SELECT d ->> 'dataset' FROM jsonb_array_elements(s.statement -> 'datasets') AS d ORDER BY 1) AS datasets,
       a.answered_at, e.completed_at, CASE WHEN federated._retrains(o.terms) THEN 'retrain' ELSE 'suppress_only' END AS method, e.exactness,
       k.versions, k.sha256_before, k.sha256_after, coalesce(a.message, w.reason, e.message, o.message) AS message, s.statement AS receipt
FROM federated.subject_order AS o
LEFT JOIN federated.erasure AS e USING (order_id)
LEFT JOIN federated.order_answer AS a USING (order_id)
LEFT JOIN federated.unasked_node AS w ON w.node_id = a.node_id AND a.state = 'pending'
CROSS JOIN LATERAL (SELECT convert_from(a.statement, 'UTF8')::jsonb AS statement) AS s
CROSS JOIN LATERAL (
    SELECT array_agg(format('%s@%s', v.model_name, v.version) ORDER BY v.model_name, v.version) AS versions,
           array_agg(encode(v.sha256_before, 'hex') ORDER BY v.model_name, v.version) AS sha256_before,
           array_agg(encode(v.sha256_after, 'hex') ORDER BY v.model_name, v.version) AS sha256_after
    FROM federated.erasure_version AS v WHERE v.order_id = o.order_id
) AS k
WHERE o.kind = 'erase';

COMMENT ON VIEW @extschema@.federated_erasure_status IS
    'Requests to erase data subjects (DELETE FROM FEDERATED TRAINING), and how far each has come: a row a request and node';

COMMENT ON COLUMN @extschema@.federated_erasure_status.request_id IS 'The request: one for each subject named';

COMMENT ON COLUMN @extschema@.federated_erasure_status.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_erasure_status.model_name IS 'The model that the statement named; all models of the workspace are put right';

COMMENT ON COLUMN @extschema@.federated_erasure_status.subject_hash IS
    'The subject''s pseudonym in the workspace: HMAC-SHA-256 under a key that is in no database, never the identifier; NULL before a coordinator took the request';

COMMENT ON COLUMN @extschema@.federated_erasure_status.requested_at IS 'When the request was made';

COMMENT ON COLUMN @extschema@.federated_erasure_status.deadline IS 'One month after the request (GDPR Art. 12(3)): until then a node that is away is asked again';

COMMENT ON COLUMN @extschema@.federated_erasure_status.status IS
    'asking nodes; retraining (the nodes are done, other requests of the statement are yet to be answered, versions to be retired or the certificate to be signed); completed; dropped (its workspace was, before)';

COMMENT ON COLUMN @extschema@.federated_erasure_status.node_name IS 'The node; NULL before a coordinator took the request';

COMMENT ON COLUMN @extschema@.federated_erasure_status.node_state IS
    'pending; what the node has done (erased, suppressed, not held, not identifiable); refused; unregistered (before it had answered)';

COMMENT ON COLUMN @extschema@.federated_erasure_status.rows IS 'How many rows of shared tables were the subject''s, by the node''s word; NULL where none is known';

COMMENT ON COLUMN @extschema@.federated_erasure_status.datasets IS 'The datasets that the node looked in';

COMMENT ON COLUMN @extschema@.federated_erasure_status.answered_at IS 'When the node''s answer was recorded; NULL until then';

COMMENT ON COLUMN @extschema@.federated_erasure_status.completed_at IS 'When the request was carried out and its certificate signed; NULL until then';

COMMENT ON COLUMN @extschema@.federated_erasure_status.method IS 'retrain, or suppress_only';

COMMENT ON COLUMN @extschema@.federated_erasure_status.exactness IS
    'Begun with exact (no version is left that learned from the subject), approximate (versions keep what they learned) or incomplete (not every node has answered), and by what; NULL until completed';

COMMENT ON COLUMN @extschema@.federated_erasure_status.versions IS 'Versions, as model@number, that had learned from rows of nodes that held the subject; NULL where none had, or it is not known yet';

COMMENT ON COLUMN @extschema@.federated_erasure_status.sha256_before IS 'Of each of these, in their order: SHA-256 of its parameters';

COMMENT ON COLUMN @extschema@.federated_erasure_status.sha256_after IS 'Of each: of the version that was current when it was retired; NULL where it is not retired, or none was';

COMMENT ON COLUMN @extschema@.federated_erasure_status.message IS 'What the node, or the request, waits for; NULL where for nothing';

COMMENT ON COLUMN @extschema@.federated_erasure_status.receipt IS 'What the node signed; NULL until it has answered';

CREATE FUNCTION @extschema@.federated_erasure_certificate(request uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT o.order_id, e.completed_at, e.certificate, e.signature, e.signer INTO subject
    FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
    WHERE o.order_id = request AND o.kind = 'erase';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no request for erasure %s', coalesce(request::text, 'null')),
            HINT = 'federated_erasure_status lists the requests.';
    ELSIF subject.completed_at IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('request %s is not carried out yet', request),
            HINT = 'federated_erasure_status shows how far it has come.';
    END IF;
    RETURN jsonb_build_object('certificate', subject.certificate::jsonb, 'signature', encode(subject.signature, 'hex'), 'signer', subject.signer)
        || federated._certified_inclusion(request);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_erasure_certificate(uuid) IS
    'The certificate of an erasure that was carried out, signed by the coordinator, with what the nodes signed and the proof that the audit log has its hash; heliosdb verify-certificate checks it without a database';

CREATE FUNCTION federated._certified_inclusion(request uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entry record;
    proof jsonb;
BEGIN
    SELECT a.workspace, a.audit_id INTO entry FROM federated.audit AS a
    WHERE a.object_kind = 'erasure' AND a.action = 'certify' AND a.object_name = request::text ORDER BY a.recorded_at DESC LIMIT 1;
    proof := federated._audit_inclusion(entry.workspace, entry.audit_id);
    -- An entry that was emptied for its age no longer says whose it is, and its hash cannot be computed.
    RETURN jsonb_build_object('inclusion', proof, 'inclusion_reason', CASE
        WHEN entry.audit_id IS NULL THEN 'its entry in the audit log is not there: emptied for its age, or removed'
        WHEN proof IS NULL THEN 'no head of the audit log that is over it has been signed yet' END);
END
$$;

COMMENT ON FUNCTION federated._certified_inclusion(uuid) IS 'The proof that the audit log has the hash of a certificate, or why there is none yet';

-- What the reports ask, and what people attest where no program can know.
--
-- What always holds: an attestation has an author, a day on which it ends and what the check had found; a requirement that
-- fails is never met by one. What was written stays: a newer attestation takes the place of an older one, and both are kept.

-- One row a requirement. Two regulations that ask the same name it the same, and share the finding.
CREATE FUNCTION federated._requirements()
RETURNS TABLE (place integer, regulation text, requirement text, reference text, finding text, remediation text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    VALUES
    (101, 'HIPAA', 'Workspace declared under HIPAA', '45 CFR 164.306(a)', 'mode_hipaa', 'ALTER FEDERATED WORKSPACE ... SET (compliance_mode = ''HIPAA''), and train under a privacy_budget.'),
    (102, 'HIPAA', 'Risk analysis', '45 CFR 164.308(a)(1)(ii)(A)', 'risk_analysis', 'Make a risk analysis that covers coordinator, nodes and models; federated_security_audit is a part of it.'),
    (103, 'HIPAA', 'Information system activity review', '45 CFR 164.308(a)(1)(ii)(D)', 'activity_review', 'Have somebody read federated_audit_log at set times, and write down that it was done.'),
    (104, 'HIPAA', 'Assigned security responsibility', '45 CFR 164.308(a)(2)', 'responsibility', 'Name a security official, and give each node a contact.'),
    (105, 'HIPAA', 'Workforce access', '45 CFR 164.308(a)(3)(i), (a)(4)(i)', 'members', 'REVOKE the roles of the federation from whoever does not need them any more.'),
    (106, 'HIPAA', 'Security awareness and training', '45 CFR 164.308(a)(5)(i)', 'training', 'Train whoever can log in, and keep the record of it.'),
    (107, 'HIPAA', 'Security incident procedures', '45 CFR 164.308(a)(6)(ii)', 'incidents', 'Settle who answers a security incident, and have alerts reach that person.'),
    (108, 'HIPAA', 'Backup and recovery', '45 CFR 164.308(a)(7)(ii)(A), (B)', 'recovery', 'Back the catalog and the key files up, and try restoring both.'),
    (109, 'HIPAA', 'Evaluation', '45 CFR 164.308(a)(8)', 'evaluation_hipaa', 'SELECT * FROM federated_record_compliance_check(''workspace'', ''HIPAA'') at set times, and after each change of the environment.'),
    (110, 'HIPAA', 'Business associate contracts', '45 CFR 164.308(b)(1), 164.314(a)(1), 164.504(e)', 'contracts', 'Conclude a business associate contract with every participant that needs one.'),
    (111, 'HIPAA', 'Access control', '45 CFR 164.312(a)(1)', 'rights', 'REVOKE ALL FROM PUBLIC on the objects named in the evidence.'),
    (112, 'HIPAA', 'Unique user identification', '45 CFR 164.312(a)(2)(i)', 'identification', 'Give each person and each program a login of its own.'),
    (113, 'HIPAA', 'Emergency access procedure', '45 CFR 164.312(a)(2)(ii)', 'emergency', 'Write down who may become superuser in an emergency, and how that is noticed.'),
    (114, 'HIPAA', 'Automatic logoff', '45 CFR 164.312(a)(2)(iii)', 'logoff', 'Set idle_session_timeout, or have the programs that people work with end their sessions.'),
    (115, 'HIPAA', 'Encryption at rest', '45 CFR 164.312(a)(2)(iv)', 'rest', 'Encrypt the disks of server, nodes and backups; keep the coordinator''s key file apart from the backups.'),
    (116, 'HIPAA', 'Audit controls', '45 CFR 164.312(b)', 'audit', 'Enable the audit triggers that are named; where the log is not as it was written, find out who could change it.'),
    (117, 'HIPAA', 'Audit log held elsewhere', '45 CFR 164.312(b), (c)(1)', 'heads', 'Have the nodes keep the heads of the audit log, and compare what they hold with it.'),
    (118, 'HIPAA', 'Ledger agrees with the nodes', '45 CFR 164.312(b)', 'ledger', 'Find out in federated_audit_log who changed the ledger; what nodes signed is what counts.'),
    (119, 'HIPAA', 'Integrity of what is stored', '45 CFR 164.312(c)(1)', 'storage', 'Turn fsync, full_page_writes and data checksums on.'),
    (120, 'HIPAA', 'Authentication of nodes', '45 CFR 164.312(d)', 'nodes', 'Renew expired certificates; register a node again whose certificate is not pinned.'),
    (121, 'HIPAA', 'Authentication of users', '45 CFR 164.312(d)', 'logins', 'In pg_hba.conf write scram-sha-256, cert or peer in place of trust.'),
    (122, 'HIPAA', 'Transmission security: coordinator and nodes', '45 CFR 164.312(e)(1)', 'node_links', 'Set tls_version to 1.3, certificate_validation to true, and https endpoints.'),
    (123, 'HIPAA', 'Transmission security: clients', '45 CFR 164.312(e)(1)', 'client_links', 'Set ssl = on and write hostssl in place of host in pg_hba.conf; have the proxy demand TLS.'),
    (124, 'HIPAA', 'Policies and procedures', '45 CFR 164.316(a)', 'policies', 'Write the policies down that this report rests on, and keep them current.'),
    (125, 'HIPAA', 'Retention of documentation for six years', '45 CFR 164.316(b)(2)(i)', 'retention_hipaa', 'Set retention_days to 2190 or more, and keep backups as long.'),
    (126, 'HIPAA', 'Minimum necessary', '45 CFR 164.502(b)', 'use', 'Take columns that a model does not need out of its features, and out of the datasets.'),
    (127, 'HIPAA', 'De-identification of what leaves a node', '45 CFR 164.514(b)', 'deidentification', 'Set a privacy_budget whose epsilon a person has judged; have the nodes'' DBAs set max_epsilon.'),
    (128, 'HIPAA', 'Identifiers in what is shared', '45 CFR 164.514(b)(2)(i)', 'identifiers', 'Share no column with an identifier of the eighteen kinds, or have each node''s DBA accept it by name.'),
    (129, 'HIPAA', 'Notification of breaches within 60 days', '45 CFR 164.404, 164.410', 'breaches_hipaa', 'Settle who notifies whom; each breach within 60 days of its discovery.'),

    (201, 'GDPR', 'Workspace declared under GDPR', 'Art. 24', 'mode_gdpr', 'ALTER FEDERATED WORKSPACE ... SET (compliance_mode = ''GDPR''), and train under a privacy_budget.'),
    (202, 'GDPR', 'Purpose limitation', 'Art. 5(1)(b)', 'purpose', 'Say what each model is for (option intended_use), and hold it against what the data were collected for.'),
    (203, 'GDPR', 'Data minimisation', 'Art. 5(1)(c)', 'minimisation', 'Take columns that a model does not need out of its features, and out of the datasets.'),
    (204, 'GDPR', 'Accuracy', 'Art. 5(1)(d)', 'accuracy', 'Have the participants correct what is wrong at its source; train anew what learned from it.'),
    (205, 'GDPR', 'Storage limitation', 'Art. 5(1)(e)', 'retention_gdpr', 'Set retention_days to what the purposes need.'),
    (206, 'GDPR', 'Integrity and confidentiality: what is stored', 'Art. 5(1)(f), 32(1)(b)', 'storage', 'Turn fsync, full_page_writes and data checksums on.'),
    (207, 'GDPR', 'Integrity and confidentiality: access', 'Art. 5(1)(f), 32(1)(b)', 'rights', 'REVOKE ALL FROM PUBLIC on the objects named in the evidence.'),
    (208, 'GDPR', 'Accountability', 'Art. 5(2)', 'audit', 'Enable the audit triggers that are named; where the log is not as it was written, find out who could change it.'),
    (209, 'GDPR', 'Audit log held elsewhere', 'Art. 5(2)', 'heads', 'Have the nodes keep the heads of the audit log, and compare what they hold with it.'),
    (210, 'GDPR', 'Ledger agrees with the nodes', 'Art. 5(2)', 'ledger', 'Find out in federated_audit_log who changed the ledger; what nodes signed is what counts.'),
    (211, 'GDPR', 'Lawfulness and consent', 'Art. 6, 7', 'consent', 'Write down on what the processing rests; where on consent, share with require_consent.'),
    (212, 'GDPR', 'Special categories of data', 'Art. 9', 'categories', 'Name the exception of Art. 9(2) on which each model with such columns rests, or take them out.'),
    (213, 'GDPR', 'Access and portability', 'Art. 15, 20', 'export', 'Answer each request with EXPORT FEDERATED DATA within a month; look into nodes that refused or did not answer.'),
    (214, 'GDPR', 'Erasure', 'Art. 17', 'erasure', 'Answer each request with DELETE FROM FEDERATED TRAINING; look into nodes that did not answer within a month.'),
    (215, 'GDPR', 'Automated decisions', 'Art. 22', 'decisions', 'Have a person decide wherever a prediction has legal or similar effect.'),
    (216, 'GDPR', 'Data protection by design', 'Art. 25(1)', 'budget', 'Set a privacy_budget; have the nodes'' DBAs set max_epsilon.'),
    (217, 'GDPR', 'Data protection by default', 'Art. 25(2)', 'defaults', 'At the nodes named: ALTER FEDERATED DATASET ... SET (plain_answers = false).'),
    (218, 'GDPR', 'Joint controllers and processors', 'Art. 26, 28', 'arrangements', 'Conclude an arrangement or a contract with every participant.'),
    (219, 'GDPR', 'Records of processing', 'Art. 30', 'record', 'Give each node a contact and each model an intended_use; keep federated_processing_record with your record.'),
    (220, 'GDPR', 'Encryption between coordinator and nodes', 'Art. 32(1)(a)', 'node_links', 'Set tls_version to 1.3, certificate_validation to true, and https endpoints.'),
    (221, 'GDPR', 'Encryption towards clients', 'Art. 32(1)(a)', 'client_links', 'Set ssl = on and write hostssl in place of host in pg_hba.conf; have the proxy demand TLS.'),
    (222, 'GDPR', 'Authentication of nodes', 'Art. 32(1)(b)', 'nodes', 'Renew expired certificates; register a node again whose certificate is not pinned.'),
    (223, 'GDPR', 'Authentication of users', 'Art. 32(1)(b)', 'logins', 'In pg_hba.conf write scram-sha-256, cert or peer in place of trust.'),
    (224, 'GDPR', 'Recovery', 'Art. 32(1)(c)', 'recovery', 'Back the catalog and the key files up, and try restoring both.'),
    (225, 'GDPR', 'Regular testing', 'Art. 32(1)(d)', 'evaluation_gdpr', 'SELECT * FROM federated_record_compliance_check(''workspace'', ''GDPR'') at set times, and mend what fails.'),
    (226, 'GDPR', 'Notification of breaches within 72 hours', 'Art. 33, 34', 'breaches_gdpr', 'Settle who notifies the authority within 72 hours, and the people concerned.'),
    (227, 'GDPR', 'Impact assessment', 'Art. 35', 'assessment', 'Make a data protection impact assessment that weighs the epsilon which a person may spend.'),
    (228, 'GDPR', 'Transfers to third countries', 'Art. 44-49', 'residency', 'Unregister nodes outside of where data must be, or name the ground of the transfer.')
$$;

COMMENT ON FUNCTION federated._requirements() IS
    'The requirements that the compliance check goes through, in their order: what each is about, where it stands, by which finding it is judged and what to do where it is not met';

CREATE VIEW @extschema@.federated_compliance_requirements AS
SELECT r.regulation, r.requirement, r.reference, r.remediation FROM federated._requirements() AS r ORDER BY r.place;

COMMENT ON VIEW @extschema@.federated_compliance_requirements IS
    'What federated_compliance_check goes through, and what ATTEST FEDERATED COMPLIANCE may be about';

COMMENT ON COLUMN @extschema@.federated_compliance_requirements.regulation IS 'HIPAA or GDPR';

COMMENT ON COLUMN @extschema@.federated_compliance_requirements.requirement IS 'Its name; one that both regulations have is judged, and attested, once for both';

COMMENT ON COLUMN @extschema@.federated_compliance_requirements.reference IS 'Paragraph of 45 CFR, or article of the GDPR';

COMMENT ON COLUMN @extschema@.federated_compliance_requirements.remediation IS 'What to do where it is not met';

CREATE TABLE federated.attestation (
    attestation_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace_id     bigint NOT NULL REFERENCES federated.workspace ON DELETE CASCADE,
    requirement      text NOT NULL,
    valid_until      date NOT NULL,
    statement        text NOT NULL CHECK (btrim(statement) <> '' AND octet_length(statement) <= 4096),
    author           name NOT NULL DEFAULT current_user,
    attested_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    status           text NOT NULL,
    evidence         text NOT NULL,
    statement_sha256 text NOT NULL
);

CREATE INDEX attestation_by_requirement ON federated.attestation (workspace_id, requirement, attestation_id);

COMMENT ON TABLE federated.attestation IS
    'What people attested of requirements that no program can judge: only ever added to, the newest of a requirement counts';

COMMENT ON COLUMN federated.attestation.valid_until IS 'The last day, by UTC, on which it counts';

COMMENT ON COLUMN federated.attestation.author IS 'The role that said it';

COMMENT ON COLUMN federated.attestation.status IS 'What the check said of the requirement when it was attested, as evidence';

COMMENT ON COLUMN federated.attestation.statement_sha256 IS 'SHA-256 of the statement, which the audit log has in its place';

CREATE FUNCTION federated._current_attestation(workspace_id bigint, requirement text, since timestamptz) RETURNS federated.attestation
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.* FROM (
        SELECT n.* FROM federated.attestation AS n
        WHERE n.workspace_id = _current_attestation.workspace_id AND n.requirement = _current_attestation.requirement
        ORDER BY n.attestation_id DESC LIMIT 1
    ) AS a
    WHERE a.valid_until >= (now() AT TIME ZONE 'UTC')::date AND (a.attested_at <= since) IS NOT TRUE
$$;

COMMENT ON FUNCTION federated._current_attestation(bigint, text, timestamptz) IS
    'The newest attestation of a requirement where it still counts and was made after a moment; a row of NULLs where there is none';

CREATE TABLE federated.compliance_record (
    record_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id    bigint NOT NULL REFERENCES federated.workspace ON DELETE CASCADE,
    regulation      text NOT NULL CHECK (regulation IN ('HIPAA', 'GDPR')),
    recorded_by     name NOT NULL DEFAULT current_user,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    findings        jsonb NOT NULL CHECK (jsonb_typeof(findings) = 'array'),
    findings_sha256 text NOT NULL
);

CREATE INDEX compliance_record_by_workspace ON federated.compliance_record (workspace_id, recorded_at);

COMMENT ON TABLE federated.compliance_record IS 'Compliance checks that somebody had recorded: only ever added to';

COMMENT ON COLUMN federated.compliance_record.recorded_by IS 'The role with whose rights the check was made';

COMMENT ON COLUMN federated.compliance_record.findings IS 'The rows of federated_compliance_check, in their order';

COMMENT ON COLUMN federated.compliance_record.findings_sha256 IS 'SHA-256 of the findings as jsonb prints them, which the audit log has in their place';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.attestation
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.compliance_record
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

SELECT pg_catalog.pg_extension_config_dump('federated.attestation', '');

SELECT pg_catalog.pg_extension_config_dump('federated.compliance_record', '');

-- Alerts: what is watched, what the coordinator found, and what became of telling somebody.
--
-- What always holds: a firing is committed before anybody is told of it, with its id, under which it is told however often that is tried.
-- A target's path and query, which may be a secret, are in no view and no audit entry.
CREATE TABLE federated.alert (
    alert_id     bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES federated.workspace ON DELETE CASCADE,
    name         text NOT NULL CHECK (name <> '' AND octet_length(name) <= 63),
    owner        name NOT NULL DEFAULT current_user,
    conditions   jsonb NOT NULL CHECK (jsonb_typeof(conditions) = 'array'),
    target       text NOT NULL CHECK (octet_length(target) <= 4096),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    is_raised    boolean NOT NULL DEFAULT false,
    calm_since   timestamptz,
    UNIQUE (workspace_id, name)
);

COMMENT ON TABLE federated.alert IS 'What CREATE FEDERATED ALERT has the coordinator watch; it belongs to its workspace''s owner';

COMMENT ON COLUMN federated.alert.owner IS 'Who made it; the owner of the workspace may drop it';

COMMENT ON COLUMN federated.alert.conditions IS 'metric, operator and value of each; it fires where all of them hold';

COMMENT ON COLUMN federated.alert.target IS 'Whom it notifies, as it was written; views show no path of it';

COMMENT ON COLUMN federated.alert.is_raised IS 'Whether it has fired and is not armed again';

COMMENT ON COLUMN federated.alert.calm_since IS 'Since when its conditions have not held while it is raised; NULL while they hold';

CREATE TABLE federated.firing (
    firing_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind          text NOT NULL CHECK (kind IN ('alert', 'breach')),
    alert_id      bigint REFERENCES federated.alert ON DELETE SET NULL,
    workspace     text NOT NULL,
    name          text NOT NULL CHECK (name <> ''),
    conditions    jsonb CHECK (jsonb_typeof(conditions) = 'array'),
    observed      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(observed) = 'object'),
    target        text,
    fired_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    events        bigint NOT NULL DEFAULT 1 CHECK (events > 0),
    last_event_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts      integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt  timestamptz,
    delivered_at  timestamptz,
    failure       text CHECK (octet_length(failure) <= 4096)
);

CREATE INDEX firing_to_deliver ON federated.firing (next_attempt) WHERE next_attempt IS NOT NULL;

CREATE INDEX firing_by_alert ON federated.firing (alert_id);

CREATE INDEX firing_by_breach ON federated.firing (workspace, name, last_event_at) WHERE kind = 'breach';

COMMENT ON TABLE federated.firing IS 'Each time that an alert fired, and each breach of security; it stays when the alert is dropped';

COMMENT ON COLUMN federated.firing.workspace IS 'By name and without reference; empty for a breach that is of no workspace';

COMMENT ON COLUMN federated.firing.name IS 'Of the alert; of a breach what happened';

COMMENT ON COLUMN federated.firing.observed IS 'The metrics as they were; of a breach the node and the last reason';

COMMENT ON COLUMN federated.firing.events IS 'Of a breach how often it happened: events less than 24 hours apart are one';

COMMENT ON COLUMN federated.firing.next_attempt IS 'When it is tried to be delivered next; NULL where it is not any more';

-- The daemon that leads writes what it is able to do, so that a statement can say what it is not.
CREATE TABLE federated.notifier (
    only_one      boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    sends_mail    boolean NOT NULL,
    calls_hooks   boolean NOT NULL,
    allowed_hosts text[] NOT NULL,
    refusals_seen bigint NOT NULL DEFAULT 0,
    published_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE federated.notifier IS 'Whom the coordinator that leads has settings to notify, without any of these that is secret';

COMMENT ON COLUMN federated.notifier.sends_mail IS 'Whether it has a mail server';

COMMENT ON COLUMN federated.notifier.calls_hooks IS 'Whether it has the secret with which calls are signed';

COMMENT ON COLUMN federated.notifier.allowed_hosts IS 'Hosts that it calls although their addresses are private';

COMMENT ON COLUMN federated.notifier.refusals_seen IS 'Up to which number of federated.privilege_refusal it has raised a breach';

CREATE TABLE federated.audit_check (
    workspace_id bigint PRIMARY KEY REFERENCES federated.workspace ON DELETE CASCADE,
    checked_at   timestamptz NOT NULL,
    is_intact    boolean NOT NULL,
    reason       text
);

COMMENT ON TABLE federated.audit_check IS 'What federated_audit_verify said when the coordinator last called it';

-- The one thing that a statement leaves behind which is refused: its transaction is undone, a sequence is not.
CREATE SEQUENCE federated.privilege_refusal;

COMMENT ON SEQUENCE federated.privilege_refusal IS 'Counts statements of the language that were refused for want of a privilege';

CREATE FUNCTION federated._count_refusal(failure jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF failure ->> 'sqlstate' = '42501' AND current_setting('transaction_read_only') = 'off' THEN
        PERFORM nextval('federated.privilege_refusal');
    END IF;
END
$$;

COMMENT ON FUNCTION federated._count_refusal(jsonb) IS 'Counts a statement that was refused for want of a privilege; who said it is in the server''s log';

-- A cascade would delete them when their workspace's name can no longer be read.
CREATE FUNCTION federated._delete_alerts_first() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.alert AS a WHERE a.workspace_id = OLD.workspace_id;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._delete_alerts_first() IS 'Deletes the alerts of a workspace while the audit log can still name it';

CREATE TRIGGER delete_alerts_first BEFORE DELETE ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._delete_alerts_first();

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF workspace_id, name, owner, conditions, target ON federated.alert
    FOR EACH ROW EXECUTE FUNCTION federated._check_workspace_owner();

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF workspace_id, name, owner, conditions, target ON federated.alert
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION federated._shown_target(target text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN target LIKE 'https://%' THEN regexp_replace(target, '^(https://[^/?]*)[/?].*$', '\1/...') ELSE target END
$$;

COMMENT ON FUNCTION federated._shown_target(text) IS 'A target without what may be a secret of it: path and query';

CREATE FUNCTION federated._shown_conditions(conditions jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('%s %s %s', c.condition ->> 'metric', c.condition ->> 'operator', c.condition ->> 'value'), ' AND ' ORDER BY c.place)
    FROM jsonb_array_elements(conditions) WITH ORDINALITY AS c (condition, place)
$$;

COMMENT ON FUNCTION federated._shown_conditions(jsonb) IS 'Conditions as CREATE FEDERATED ALERT has them';

CREATE VIEW @extschema@.federated_alerts AS
SELECT coalesce(f.workspace, w.name) AS workspace_name, coalesce(f.name, a.name) AS alert_name, coalesce(f.kind, 'alert') AS kind,
       federated._shown_conditions(coalesce(f.conditions, a.conditions)) AS conditions,
       federated._shown_target(CASE WHEN f.firing_id IS NULL THEN a.target ELSE f.target END) AS target,
       CASE WHEN f.kind = 'breach' THEN 'breach' WHEN a.alert_id IS NULL THEN 'dropped' WHEN a.is_raised THEN 'raised' ELSE 'armed' END AS status,
       f.firing_id, f.fired_at, f.observed, f.delivered_at, f.attempts,
       CASE WHEN f.delivered_at IS NULL THEN
           CASE WHEN f.kind = 'alert' AND f.alert_id IS NULL THEN concat_ws(': ', 'the alert was dropped', f.failure) ELSE f.failure END
       END AS failure,
       CASE WHEN f.delivered_at IS NULL AND (f.kind = 'breach' OR f.alert_id IS NOT NULL) THEN f.next_attempt END AS next_attempt,
       CASE WHEN f.kind = 'breach' THEN f.events END AS events, CASE WHEN f.kind = 'breach' THEN f.last_event_at END AS last_event_at,
       CASE WHEN f.kind = 'breach' THEN f.fired_at + interval '72 hours' END AS notify_authority_by,
       CASE WHEN f.kind = 'breach' THEN f.fired_at + interval '60 days' END AS notify_people_by
FROM (federated.alert AS a JOIN federated.workspace AS w USING (workspace_id))
FULL JOIN federated.firing AS f ON f.alert_id = a.alert_id;

COMMENT ON VIEW @extschema@.federated_alerts IS
    'Every alert with each time that it fired, and every breach of security; an alert that has not fired has one row, without fired_at';

COMMENT ON COLUMN @extschema@.federated_alerts.workspace_name IS 'Name of the workspace, as it was when it fired; empty for a breach that is of no workspace';

COMMENT ON COLUMN @extschema@.federated_alerts.alert_name IS
    'Name of the alert; of a breach what happened: node_refused (its certificate is not the pinned one), update_rejected (it was changed, replayed or forged), coordinator_refused (a node refuses the coordinator''s signature), privilege_refused (statements for want of a privilege), audit_broken';

COMMENT ON COLUMN @extschema@.federated_alerts.kind IS 'alert, or breach: raised without any CREATE FEDERATED ALERT';

COMMENT ON COLUMN @extschema@.federated_alerts.conditions IS 'Of an alert, as they were when it fired; all of them held';

COMMENT ON COLUMN @extschema@.federated_alerts.target IS
    'Whom it notifies, of a webhook without path and query; of a breach the workspace''s option breach_notify, NULL where it has none';

COMMENT ON COLUMN @extschema@.federated_alerts.status IS
    'As the alert stands now: armed, raised (it has fired, and fires again only after its conditions have not held for a while), dropped; breach for a breach';

COMMENT ON COLUMN @extschema@.federated_alerts.firing_id IS 'By which the notification is known: the webhook''s Idempotency-Key, and in the mail''s Message-ID';

COMMENT ON COLUMN @extschema@.federated_alerts.fired_at IS 'When the coordinator found the conditions to hold, or the breach; NULL of an alert that never fired';

COMMENT ON COLUMN @extschema@.federated_alerts.observed IS 'The metrics of the conditions as they were; of a breach the node and the last reason';

COMMENT ON COLUMN @extschema@.federated_alerts.delivered_at IS 'When the target took it; NULL until then';

COMMENT ON COLUMN @extschema@.federated_alerts.attempts IS 'How often it was tried';

COMMENT ON COLUMN @extschema@.federated_alerts.failure IS 'Why it is not delivered; NULL before the first attempt';

COMMENT ON COLUMN @extschema@.federated_alerts.next_attempt IS 'When it is tried next; NULL where it is not any more';

COMMENT ON COLUMN @extschema@.federated_alerts.events IS 'Of a breach, how often it has happened: what happens less than 24 hours after the last time is the same breach';

COMMENT ON COLUMN @extschema@.federated_alerts.last_event_at IS 'Of a breach, when it happened last';

COMMENT ON COLUMN @extschema@.federated_alerts.notify_authority_by IS
    'Of a breach, 72 hours after the coordinator saw it: by when a controller that has to tell the supervisory authority has done so (GDPR Art. 33). Whether it has to is for a person to say';

COMMENT ON COLUMN @extschema@.federated_alerts.notify_people_by IS
    'Of a breach, 60 days after the coordinator saw it: the latest by which a covered entity that has to tell the people concerned has done so (45 CFR 164.404)';

CREATE VIEW federated.latest_round AS
SELECT m.workspace_id, m.model_id, d.run_id, d.round_number, d.global_loss, d.global_accuracy,
       d.global_loss - (
           SELECT p.global_loss FROM federated.round AS p
           WHERE p.run_id = d.run_id AND p.status = 'closed' AND p.round_number < d.round_number AND p.global_loss IS NOT NULL
           ORDER BY p.round_number DESC LIMIT 1) AS loss_delta,
       extract(epoch FROM d.finished_at - d.started_at)::double precision AS duration_seconds
FROM federated.model AS m
CROSS JOIN LATERAL (
    SELECT r.created_at AS queued_at, q.* FROM federated.run AS r JOIN federated.round AS q USING (run_id)
    WHERE r.model_id = m.model_id AND q.status = 'closed' AND q.round_number > 0
    ORDER BY r.created_at DESC, q.round_number DESC LIMIT 1
) AS d;

COMMENT ON VIEW federated.latest_round IS 'The last closed training round of each model''s last run that has closed one';

CREATE FUNCTION federated._refused_answers(workspace_id bigint, within interval, outcomes federated.participation_outcome[]) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*)
    FROM federated.model AS m JOIN federated.run AS r USING (model_id) JOIN federated.round AS d USING (run_id)
    JOIN federated.participation AS p USING (run_id, round_number)
    WHERE m.workspace_id = _refused_answers.workspace_id AND p.outcome = ANY (outcomes)
      AND coalesce(d.finished_at, now()) > now() - within
$$;

COMMENT ON FUNCTION federated._refused_answers(bigint, interval, federated.participation_outcome[]) IS
    'How many answers of a workspace''s nodes ended so, in rounds that were open within that time';

-- A condition on the metric's name leaves the other branches out before anything of them is computed.
CREATE VIEW federated.alert_metric AS
SELECT w.name AS workspace, m.metric, m.value
FROM federated.workspace AS w
CROSS JOIN LATERAL (
    SELECT 'total_epsilon' AS metric, (w.options ->> 'privacy_budget')::double precision AS value
    UNION ALL
    SELECT 'consumed_epsilon', (SELECT b.consumed_epsilon FROM @extschema@.federated_privacy_budget_status AS b WHERE b.workspace_name = w.name)
    UNION ALL
    SELECT 'remaining_epsilon', (SELECT b.remaining_epsilon FROM @extschema@.federated_privacy_budget_status AS b WHERE b.workspace_name = w.name)
    UNION ALL
    SELECT 'estimated_remaining_rounds',
           (SELECT b.estimated_remaining_rounds FROM @extschema@.federated_privacy_budget_status AS b WHERE b.workspace_name = w.name)
    UNION ALL
    SELECT 'registered_nodes', (SELECT count(*) FROM federated.node AS n WHERE n.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'active_nodes', (SELECT count(*) FROM federated.node AS n WHERE n.workspace_id = w.workspace_id AND n.status = 'active')
    UNION ALL
    SELECT 'slow_nodes', (SELECT count(*) FROM federated.node AS n WHERE n.workspace_id = w.workspace_id AND n.status = 'slow')
    UNION ALL
    SELECT 'failed_nodes', (SELECT count(*) FROM federated.node AS n WHERE n.workspace_id = w.workspace_id AND n.status = 'failed')
    UNION ALL
    SELECT 'pending_nodes', (SELECT count(*) FROM federated.node AS n WHERE n.workspace_id = w.workspace_id AND n.status = 'pending')
    UNION ALL
    SELECT 'seconds_since_last_seen',
           (SELECT extract(epoch FROM max(greatest(now() - coalesce(n.last_seen, n.registered_at), interval '0')))
            FROM federated.node AS n WHERE n.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'certificate_expires_days',
           (SELECT extract(epoch FROM min(n.certificate_expires) - now()) / 86400 FROM federated.node AS n WHERE n.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'running_runs',
           (SELECT count(*) FROM federated.run AS r JOIN federated.model AS k USING (model_id)
            WHERE k.workspace_id = w.workspace_id AND r.status = 'running')
    UNION ALL
    SELECT 'queued_runs',
           (SELECT count(*) FROM federated.run AS r JOIN federated.model AS k USING (model_id)
            WHERE k.workspace_id = w.workspace_id AND r.status = 'queued')
    UNION ALL
    SELECT 'failed_runs_last_day',
           (SELECT count(*) FROM federated.run AS r JOIN federated.model AS k USING (model_id)
            WHERE k.workspace_id = w.workspace_id AND r.status::text IN ('failed', 'diverged', 'budget_exhausted')
              AND r.finished_at > now() - interval '24 hours')
    UNION ALL
    SELECT 'global_loss', (SELECT max(d.global_loss) FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'global_accuracy', (SELECT min(d.global_accuracy) FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'loss_delta', (SELECT max(d.loss_delta) FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'participating_nodes',
           (SELECT min((SELECT count(*) FROM federated.part_taken AS p WHERE p.run_id = d.run_id AND p.round_number = d.round_number))
            FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'dropped_nodes',
           (SELECT max((SELECT count(DISTINCT p.node_id) FROM federated.participation AS p
                        WHERE p.run_id = d.run_id AND p.round_number = d.round_number AND p.outcome IN ('dropped', 'refused', 'rejected')))
            FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'round_duration_seconds', (SELECT max(d.duration_seconds) FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'communication_mb',
           (SELECT max((SELECT sum(coalesce(p.bytes_sent, 0) + coalesce(p.bytes_received, 0)) FROM federated.participation AS p
                        WHERE p.run_id = d.run_id AND p.round_number = d.round_number)) / 1e6
            FROM federated.latest_round AS d WHERE d.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'open_round_seconds',
           (SELECT extract(epoch FROM max(clock_timestamp() - d.started_at))
            FROM federated.model AS k JOIN federated.run AS r USING (model_id) JOIN federated.round AS d USING (run_id)
            WHERE k.workspace_id = w.workspace_id AND r.status = 'running' AND d.status = 'open')
    UNION ALL
    SELECT 'refusals_last_hour', federated._refused_answers(w.workspace_id, interval '1 hour', ARRAY['refused', 'rejected']::federated.participation_outcome[])
    UNION ALL
    SELECT 'refusals_last_day', federated._refused_answers(w.workspace_id, interval '24 hours', ARRAY['refused', 'rejected']::federated.participation_outcome[])
    UNION ALL
    SELECT 'rejected_updates_last_day', federated._refused_answers(w.workspace_id, interval '24 hours', ARRAY['rejected']::federated.participation_outcome[])
    UNION ALL
    SELECT 'failed_deliveries',
           (SELECT count(*) FROM federated.subscriber AS s JOIN federated.node AS n USING (node_id)
            WHERE n.workspace_id = w.workspace_id AND s.failure IS NOT NULL)
    UNION ALL
    SELECT 'breaches_last_day',
           (SELECT count(*) FROM federated.firing AS f
            WHERE f.kind = 'breach' AND f.workspace = w.name AND f.last_event_at > now() - interval '24 hours')
    UNION ALL
    SELECT 'audit_breaks', (SELECT (NOT c.is_intact)::integer FROM federated.audit_check AS c WHERE c.workspace_id = w.workspace_id)
    UNION ALL
    SELECT 'order_deadline_days',
           (SELECT extract(epoch FROM min(o.deadline) - now()) / 86400 FROM federated.subject_order AS o
            WHERE o.workspace = w.name AND o.state IN ('requested', 'asked'))
    UNION ALL
    SELECT 'erasure_deadline_days',
           (SELECT extract(epoch FROM min(o.deadline) - now()) / 86400
            FROM federated.subject_order AS o LEFT JOIN federated.erasure AS e USING (order_id)
            WHERE o.workspace = w.name AND o.kind = 'erase' AND o.state <> 'dropped' AND e.completed_at IS NULL)
    UNION ALL
    SELECT 'open_orders', (SELECT count(*) FROM federated.subject_order AS o WHERE o.workspace = w.name AND o.state IN ('requested', 'asked'))
    UNION ALL
    SELECT 'expired_orders', (SELECT count(*) FROM federated.subject_order AS o WHERE o.workspace = w.name AND o.state = 'expired')
) AS m;

COMMENT ON VIEW federated.alert_metric IS 'federated_alert_metrics where the coordinator finds it, whatever schema the extension is in';

CREATE VIEW @extschema@.federated_alert_metrics AS
SELECT m.workspace AS workspace_name, m.metric, m.value FROM federated.alert_metric AS m;

COMMENT ON VIEW @extschema@.federated_alert_metrics IS
    'What alerts watch, as it is now: one row for each workspace and metric. The reference says what each is; NULL is unknown, and no condition on it holds';

COMMENT ON COLUMN @extschema@.federated_alert_metrics.workspace_name IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_alert_metrics.metric IS 'As CREATE FEDERATED ALERT ... WHEN takes it';

COMMENT ON COLUMN @extschema@.federated_alert_metrics.value IS 'In the metric''s unit; NULL where it is unknown now';

-- The daemon may not read the log; it is told whether it holds.
CREATE FUNCTION federated._audit_state(workspace text, OUT is_intact boolean, OUT reason text) RETURNS record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.is_intact, v.reason FROM @extschema@.federated_audit_verify(workspace) AS v
$$;

COMMENT ON FUNCTION federated._audit_state(text) IS 'Whether the audit log of a workspace holds, and why not, without anything of it';

-- One row a breach as long as it goes on: a peer that is refused every few seconds is told of once.
CREATE FUNCTION federated._note_breach(workspace text, event text, node text, reason text, seen_at timestamptz) RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    told   text := (SELECT w.options ->> 'breach_notify' FROM federated.workspace AS w WHERE w.name = workspace);
    facts  jsonb := jsonb_strip_nulls(jsonb_build_object('node', node, 'reason', left(reason, 500)));
    opened uuid;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('heliosdb_federated.breach', hashtextextended(workspace, 0)));
    UPDATE federated.firing AS f SET events = f.events + 1, last_event_at = greatest(f.last_event_at, seen_at), observed = facts
    WHERE f.kind = 'breach' AND f.workspace = workspace AND f.name = event
      AND f.observed ->> 'node' IS NOT DISTINCT FROM node AND f.last_event_at > seen_at - interval '24 hours';
    IF NOT FOUND THEN
        INSERT INTO federated.firing (kind, workspace, name, observed, target, fired_at, last_event_at, next_attempt, failure)
        VALUES ('breach', workspace, event, facts, told, seen_at, seen_at, CASE WHEN told IS NOT NULL THEN seen_at END,
                CASE WHEN told IS NULL THEN 'the workspace''s option breach_notify names nobody' END)
        RETURNING firing_id INTO opened;
    END IF;
    RETURN opened;
END
$$;

COMMENT ON FUNCTION federated._note_breach(text, text, text, text, timestamptz) IS
    'Raises a breach of security, or counts one more event of a breach that goes on; returns the id of a new one';

SELECT pg_catalog.pg_extension_config_dump('federated.alert', '');

SELECT pg_catalog.pg_extension_config_dump('federated.firing', '');

SELECT pg_catalog.pg_extension_config_dump('federated.notifier', '');

SELECT pg_catalog.pg_extension_config_dump('federated.audit_check', '');

-- What each compliance mode asks for: one table, in the language's package, from which statements, nodes, documents and the
-- compliance check have it.
CREATE FUNCTION federated._describe_modes() RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.describe_modes(plpy, "1.2")
$$;

COMMENT ON FUNCTION federated._describe_modes() IS 'The rules of compliance modes, one object a rule and regulation';

CREATE FUNCTION federated._mode_rules()
RETURNS TABLE (regulation text, rule text, requirement text, held_at text, reference text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.regulation, r.rule, r.requirement, r.held_at, r.reference, r.reason
    FROM jsonb_to_recordset(federated._describe_modes())
        AS r (regulation text, rule text, requirement text, held_at text, reference text, reason text)
$$;

COMMENT ON FUNCTION federated._mode_rules() IS 'The rules of compliance modes, in the order in which they are checked';

CREATE FUNCTION @extschema@.federated_compliance_modes(
    OUT regulation text, OUT rule text, OUT requirement text, OUT held_at text, OUT reference text, OUT reason text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.regulation, r.rule, r.requirement, r.held_at, r.reference, r.reason FROM federated._mode_rules() AS r
$$;

COMMENT ON FUNCTION @extschema@.federated_compliance_modes() IS
    'What compliance_mode HIPAA and GDPR ask for, one row a rule and regulation (BOTH asks for the rules of both): the option or subject, what is held, where, where it stands and why. It is what this version refuses; what a regulation asks beyond it federated_compliance_check names';

-- Under a compliance mode a node's own DBA has to allow plain answers for the dataset; before it a site's setting is enough.
CREATE OR REPLACE FUNCTION federated._check_mode(workspace_id bigint, regulation text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN NOT d.declared OR d.broken IS NOT NULL OR d.unasked > 0 THEN 'FAIL' WHEN d.plain > 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN NOT d.declared THEN format('Nothing is refused for the sake of %s: set compliance_mode.', upper(regulation))
                WHEN d.broken IS NOT NULL THEN format('The workspace''s options are not what its mode asks for, past all statements: %s.', d.broken)
                WHEN d.unasked > 0 THEN 'Before the workspace was declared runs trained on answers without noise, which the nodes allowed by their sites'' general setting or for their datasets.'
                WHEN d.plain > 0 THEN 'Runs trained on answers without noise. Look at each node whether its own DBA allowed plain answers, and why.'
                ELSE 'What this regulation asks for is held where it has to be: federated_compliance_modes() says what, where and why.' END,
           format('compliance_mode %s, runs without a privacy budget: %s, before it was declared: %s', d.mode, d.plain, d.unasked)
               || CASE WHEN d.declared THEN format('; held: %s', (
                      SELECT string_agg(r.rule, ', ') FROM federated._mode_rules() AS r WHERE r.regulation = upper(_check_mode.regulation))) ELSE '' END
    FROM (
        SELECT m.mode, m.broken, m.mode IN (upper(regulation), 'BOTH') AS declared, count(r.run_id) AS plain,
               count(r.run_id) FILTER (WHERE r.mode NOT IN (upper(regulation), 'BOTH')) AS unasked
        FROM (
            SELECT w.name, upper(coalesce(w.options ->> 'compliance_mode', 'none')) AS mode,
                   federated._check_options('workspace', w.options) ->> 'message' AS broken
            FROM federated.workspace AS w WHERE w.workspace_id = _check_mode.workspace_id
        ) AS m
        LEFT JOIN LATERAL federated._plain_runs(m.name) AS r ON true
        GROUP BY m.mode, m.broken
    ) AS d
$$;

COMMENT ON FUNCTION federated._check_mode(bigint, text) IS
    'Whether the workspace declares that it is under a regulation, keeps to its rules, and trained on nothing that the nodes had to allow';

-- Single checks of what a federation owes data subjects, authorities and itself: requests answered in time, breaches told,
-- a log that others hold, what is kept no longer than it should be. As those of checks.sql they run with the caller's rights.
CREATE FUNCTION federated._check_heads(workspace_id bigint, workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.breaks > 0 THEN 'FAIL' WHEN f.heads = 0 OR f.nodes = 0 OR f.without IS NOT NULL THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.breaks > 0 THEN 'Nodes hold heads of a log that is not this one: it was rewritten, cut off or restored from an older backup.'
                WHEN f.heads = 0 THEN 'No head of the log is signed yet. Note its head elsewhere from time to time, and look it up later.'
                WHEN f.nodes = 0 THEN 'No node takes part that could hold a head: note it elsewhere from time to time, and look it up later.'
                WHEN f.without IS NOT NULL THEN 'Not every node that takes part holds a head of the log: look whether those that do are enough.'
                ELSE 'Each node that takes part has cosigned a head of the log and keeps it: up to there nothing can be changed unseen.' END,
           format('%s signed heads, the latest over %s entries, the latest that a node cosigned over %s; %s breaks',
                  f.heads, coalesce(f.latest::text, 'none'), coalesce(f.cosigned::text, 'none'), f.breaks)
               || coalesce('; without a cosignature: ' || f.without, '')
    FROM (
        SELECT (SELECT count(*) FROM federated.tree_head AS h WHERE h.workspace = _check_heads.workspace) AS heads,
               (SELECT max(h.tree_size) FROM federated.tree_head AS h WHERE h.workspace = _check_heads.workspace) AS latest,
               (SELECT max(c.tree_size) FROM federated.cosignature AS c WHERE c.workspace = _check_heads.workspace) AS cosigned,
               (SELECT count(*) FROM federated.audit_break AS b WHERE b.workspace = _check_heads.workspace AND b.settled_at IS NULL) AS breaks,
               count(n.name) AS nodes,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE NOT EXISTS (
                   SELECT FROM federated.cosignature AS c WHERE c.workspace = _check_heads.workspace AND c.node_name = n.name)) AS without
        FROM federated.node AS n WHERE n.workspace_id = _check_heads.workspace_id AND n.status IN ('active', 'slow')
    ) AS f
$$;

COMMENT ON FUNCTION federated._check_heads(bigint, text) IS 'Whether nodes hold heads of the audit log, and none that is of another log';

CREATE FUNCTION federated._count_requests(
    workspace text, kinds text[],
    OUT requests bigint, OUT open bigint, OUT expired bigint, OUT refused bigint, OUT unanswered bigint, OUT next_deadline timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), count(*) FILTER (WHERE o.state IN ('requested', 'asked')),
           count(*) FILTER (WHERE o.state = 'expired' OR (o.state IN ('requested', 'asked') AND o.deadline < now())),
           coalesce(sum(a.refused), 0)::bigint, coalesce(sum(a.unanswered) FILTER (WHERE o.state = 'expired'), 0)::bigint,
           min(o.deadline) FILTER (WHERE o.state IN ('requested', 'asked'))
    FROM federated.subject_order AS o
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE n.state = 'refused' OR n.outcome = 'refused') AS refused,
               count(*) FILTER (WHERE n.state IN ('pending', 'unregistered')) AS unanswered
        FROM federated.order_answer AS n WHERE n.order_id = o.order_id
    ) AS a
    WHERE o.workspace = _count_requests.workspace AND o.kind = ANY (kinds)
$$;

COMMENT ON FUNCTION federated._count_requests(text, text[]) IS
    'How many requests about data subjects there were and are, of how many the month is over without all answers, and how often nodes refused or did not answer';

CREATE FUNCTION federated._check_requests(workspace text, kinds text[], OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.expired > 0 THEN 'FAIL' WHEN r.refused > 0 OR r.requests = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN r.expired > 0 THEN 'The month of a request passed before all nodes had answered: federated_orders names them.'
                WHEN r.refused > 0 THEN 'Nodes refused: look whether these participants answered the person themselves.'
                WHEN r.requests = 0 THEN 'There was no request yet. Look whether people are told how to make one, and whom it reaches.'
                WHEN r.open > 0 THEN 'All requests were answered, or still are within their month.'
                ELSE 'All requests were answered within their month.' END,
           format('requests: %s, open: %s (the next deadline %s), past their month: %s; refusals of nodes: %s, nodes that did not answer in time: %s',
                  r.requests, r.open, coalesce('is on ' || to_char(r.next_deadline AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'is none'),
                  r.expired, r.refused, r.unanswered)
    FROM federated._count_requests(workspace, kinds) AS r
$$;

COMMENT ON FUNCTION federated._check_requests(text, text[]) IS 'Whether requests about data subjects were answered by all nodes within a month';

-- A request to erase is answered when versions are put right too; one to export, when the file is written.
CREATE FUNCTION federated._check_erasure(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.status = 'FAIL' OR e.incomplete > 0 OR e.late > 0 THEN 'FAIL' WHEN e.approximate > 0 THEN 'MANUAL' ELSE r.status END,
           CASE WHEN r.status = 'FAIL' THEN r.details
                WHEN e.incomplete > 0 THEN 'Requests ended incomplete: federated_erasure_status says by what.'
                WHEN e.late > 0 THEN 'Versions that learned from a subject have not been put right within the month.'
                WHEN r.status = 'PASS' AND e.approximate > 0 THEN 'Versions keep what they learned from a subject, because the request said so: look on which ground.'
                ELSE r.details END,
           format('%s; %s carried out (%s exactly, %s approximately, %s incompletely), %s with versions to be put right after their month',
                  r.evidence, e.completed, e.exact, e.approximate, e.incomplete, e.late)
    FROM federated._check_requests(_check_erasure.workspace, ARRAY['erase']) AS r
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE q.completed_at IS NOT NULL) AS completed, count(*) FILTER (WHERE q.exactness LIKE 'exact%') AS exact,
               count(*) FILTER (WHERE q.exactness LIKE 'approximate%') AS approximate, count(*) FILTER (WHERE q.exactness LIKE 'incomplete%') AS incomplete,
               count(*) FILTER (WHERE q.completed_at IS NULL AND q.status <> 'dropped' AND q.deadline < now()) AS late
        FROM (
            SELECT DISTINCT ON (s.request_id) s.request_id, s.completed_at, s.exactness, s.status, s.deadline
            FROM @extschema@.federated_erasure_status AS s WHERE s.workspace = _check_erasure.workspace ORDER BY s.request_id
        ) AS q
    ) AS e
$$;

COMMENT ON FUNCTION federated._check_erasure(text) IS 'Whether requests to erase were answered by all nodes and carried out within a month, and how exactly';

CREATE FUNCTION federated._check_export_requests(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.status = 'FAIL' OR x.failed > 0 THEN 'FAIL' WHEN x.blocked > 0 THEN 'MANUAL' ELSE r.status END,
           CASE WHEN r.status = 'FAIL' THEN r.details
                WHEN x.failed > 0 THEN 'Exports failed, or were not written within the month: federated_exports says why. Ask again.'
                WHEN x.blocked > 0 THEN 'Files cannot be written yet: federated_exports says why.'
                ELSE r.details END,
           format('%s; %s files written, %s blocked, %s failed or late', r.evidence, x.written, x.blocked, x.failed)
    FROM federated._check_requests(_check_export_requests.workspace, ARRAY['export']) AS r
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE e.state = 'written') AS written, count(*) FILTER (WHERE e.state = 'blocked') AS blocked,
               count(*) FILTER (WHERE e.state = 'failed' OR (e.state <> 'written' AND e.deadline < now())) AS failed
        FROM @extschema@.federated_exports AS e WHERE e.workspace = _check_export_requests.workspace
    ) AS x
$$;

COMMENT ON FUNCTION federated._check_export_requests(text) IS 'Whether requests for access were answered by all nodes, and their files written, within a month';

CREATE FUNCTION federated._check_consent(workspace_id bigint, workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.expired > 0 THEN 'FAIL' ELSE 'MANUAL' END,
           CASE WHEN r.expired > 0 THEN 'Nodes were not told in time of consent that was given or withdrawn: federated_orders names them.'
                WHEN m.mode IN ('GDPR', 'BOTH') THEN 'Nodes train on subjects with consent alone, unless their DBA says for a dataset that it rests on something else. Look on what, where that is so.'
                ELSE 'Look on what the processing rests; where on consent, share with require_consent.' END,
           format('compliance_mode %s; by statements here consent given: %s, withdrawn: %s, not answered in time by all nodes: %s',
                  m.mode, g.requests, w.requests, r.expired)
    FROM federated._count_requests(workspace, ARRAY['grant', 'revoke']) AS r,
         federated._count_requests(workspace, ARRAY['grant']) AS g,
         federated._count_requests(workspace, ARRAY['revoke']) AS w,
         (SELECT upper(coalesce(k.options ->> 'compliance_mode', 'none')) AS mode FROM federated.workspace AS k
          WHERE k.workspace_id = _check_consent.workspace_id) AS m
$$;

COMMENT ON FUNCTION federated._check_consent(bigint, text) IS 'Whether nodes know of consent in time; on what processing rests is never more than a matter for people';

-- An attestation that everything about breaches is settled lapses with the next breach.
CREATE FUNCTION federated._check_breaches(
    workspace_id bigint, workspace text, clock interval, OUT status text, OUT details text, OUT evidence text, OUT since timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN b.untold > 0 THEN 'FAIL' ELSE 'MANUAL' END,
           CASE WHEN b.untold > 0 THEN 'Somebody was to be told of a breach and was not: federated_alerts says why.'
                WHEN b.running > 0 THEN 'Breaches were raised whose clock is running: look whether somebody has to be notified, and by when (federated_alerts).'
                ELSE 'Look whether it is settled who notifies whom, and how soon.' END,
           format('%s breaches in the last 12 months, the clock of %s is running%s; %s were not told to whom they should; breach_notify %s',
                  b.lately, b.running, coalesce(' until ' || to_char((b.first_running + clock) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), ''), b.untold,
                  CASE WHEN w.options ->> 'breach_notify' IS NULL THEN 'not set' ELSE 'set' END),
           b.latest
    FROM federated.workspace AS w
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE f.fired_at > now() - interval '12 months') AS lately,
               count(*) FILTER (WHERE f.fired_at > now() - clock) AS running, min(f.fired_at) FILTER (WHERE f.fired_at > now() - clock) AS first_running,
               count(*) FILTER (WHERE f.target IS NOT NULL AND f.delivered_at IS NULL AND f.next_attempt IS NULL
                                  AND f.fired_at > now() - interval '12 months') AS untold,
               max(f.fired_at) AS latest
        FROM @extschema@.federated_alerts AS f WHERE f.kind = 'breach' AND f.workspace_name IN (w.name, '')
    ) AS b
    WHERE w.workspace_id = _check_breaches.workspace_id
$$;

COMMENT ON FUNCTION federated._check_breaches(bigint, text, interval) IS
    'Which breaches of security were raised, of the workspace or of none, and whether somebody was told; whether somebody has to be notified is for people to say. since: when the latest was raised';

CREATE FUNCTION federated._describe_identifiers(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('compliance_mode %s; %s', upper(coalesce(w.options ->> 'compliance_mode', 'none')), coalesce((
        SELECT string_agg(format('%s at %s: %s', d ->> 'name', n.name, (SELECT string_agg(c, ', ') FROM jsonb_array_elements_text(d -> 'columns') AS c)),
                          '; ' ORDER BY n.name, d ->> 'name')
        FROM federated.node AS n CROSS JOIN LATERAL jsonb_array_elements(n.datasets) AS d
        WHERE n.workspace_id = w.workspace_id), 'no dataset is known yet'))
    FROM federated.workspace AS w WHERE w.workspace_id = _describe_identifiers.workspace_id
$$;

COMMENT ON FUNCTION federated._describe_identifiers(bigint) IS 'Which columns nodes share, and in which mode they look for identifiers';

-- What was emptied for its age keeps its place and its time, and has nobody's role any more.
CREATE FUNCTION federated._check_retention(
    workspace_id bigint, workspace text, fewest_days integer, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN k.days < fewest_days OR k.is_late THEN 'FAIL' WHEN fewest_days IS NULL THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN k.days < fewest_days THEN format('What is to be kept for %s days is deleted before.', fewest_days)
                WHEN k.is_late THEN 'What is older than retention_days has not been deleted: look whether a coordinator serves this database.'
                WHEN k.held THEN 'Nothing is deleted while legal_hold is true. Look whether it still has to be.'
                WHEN fewest_days IS NULL THEN 'What is older is deleted. Look whether it is kept no longer than the purposes need, backups and exports too.'
                ELSE 'Nothing is deleted before six years are over. Look whether backups are kept as long.' END,
           format('retention_days %s, legal_hold %s; the oldest entry of the audit log that has its content is of %s; %s deletions for age, the latest %s',
                  k.days, k.held, coalesce(to_char(k.oldest AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'), d.deletions,
                  coalesce('on ' || to_char(d.latest AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'))
    FROM (
        SELECT o.days, o.held, a.oldest, NOT o.held AND a.oldest < now() - make_interval(days => o.days + 2) AS is_late
        FROM (
            SELECT coalesce((w.options ->> 'retention_days')::integer, (federated._options() -> 'workspace' ->> 'retention_days')::integer) AS days,
                   coalesce((w.options ->> 'legal_hold')::boolean, false) AS held
            FROM federated.workspace AS w WHERE w.workspace_id = _check_retention.workspace_id
        ) AS o
        CROSS JOIN (
            SELECT min(a.recorded_at) FILTER (WHERE a.acting_role <> '') AS oldest
            FROM federated.audit AS a WHERE a.workspace = _check_retention.workspace
        ) AS a
    ) AS k
    CROSS JOIN (
        SELECT count(*) AS deletions, max(s.deleted_at) AS latest FROM federated.retention_stub AS s WHERE s.workspace = _check_retention.workspace
    ) AS d
$$;

COMMENT ON FUNCTION federated._check_retention(bigint, text, integer) IS
    'Whether what is older than its retention is deleted, two days'' grace given, and nothing that must be kept for so many days before; NULL: for no fixed time';

CREATE FUNCTION federated._describe_checks(workspace_id bigint, regulation text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s checks recorded in the last 12 months, the latest %s', count(*) FILTER (WHERE c.recorded_at > now() - interval '12 months'),
                  coalesce('on ' || to_char(max(c.recorded_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'))
    FROM federated.compliance_record AS c
    WHERE c.workspace_id = _describe_checks.workspace_id AND c.regulation = _describe_checks.regulation
$$;

COMMENT ON FUNCTION federated._describe_checks(bigint, text) IS 'How often the compliance of a workspace was checked on record';

CREATE FUNCTION federated._describe_participants(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('nodes: %s, without a contact: %s', count(*), count(*) FILTER (WHERE n.options ->> 'contact' IS NULL))
        || coalesce(' (' || string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.options ->> 'contact' IS NULL) || ')', '')
    FROM federated.node AS n WHERE n.workspace_id = _describe_participants.workspace_id
$$;

COMMENT ON FUNCTION federated._describe_participants(bigint) IS 'How many participants a workspace has, and of which no contact is known';

CREATE FUNCTION federated._describe_purposes(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('%s: %s', m.name, coalesce(m.options ->> 'intended_use', 'intended_use not set')), '; ' ORDER BY m.name), 'no models')
    FROM federated.model AS m WHERE m.workspace_id = _describe_purposes.workspace_id
$$;

COMMENT ON FUNCTION federated._describe_purposes(bigint) IS 'What the models of a workspace are for, as their owners say';

CREATE FUNCTION federated._describe_recovery() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('archive_mode = %s, wal_level = %s', current_setting('archive_mode'), current_setting('wal_level'))
$$;

COMMENT ON FUNCTION federated._describe_recovery() IS 'What the server does that a backup can rest on';

-- What a check of security finds goes with its name, so that the report names them all.
CREATE FUNCTION federated._describe_security(workspace text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('checks of the security audit that fail: %s', count(*)) || coalesce(' (' || string_agg(s.check_name, ', ' ORDER BY s.check_name) || ')', '')
    FROM @extschema@.federated_security_audit(workspace) AS s WHERE s.status = 'FAIL'
$$;

COMMENT ON FUNCTION federated._describe_security(text) IS 'Which checks of the security audit fail';

CREATE FUNCTION federated._check_defaults(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN d.plain > 0 THEN 'FAIL' WHEN d.known = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN d.plain > 0 THEN 'Answers may leave without noise from the datasets named, because their DBAs allowed it.'
                WHEN d.known = 0 THEN 'No node has said yet what it shares: look again when the coordinator has met them.'
                ELSE 'No dataset lets an answer leave without noise.' END,
           format('datasets known: %s, of these let answers leave without noise: %s', d.known, d.plain) || coalesce(' (' || d.named || ')', '')
    FROM (
        SELECT count(*) AS known, count(*) FILTER (WHERE s.plain) AS plain,
               string_agg(s.name, ', ' ORDER BY s.name) FILTER (WHERE s.plain) AS named
        FROM (
            SELECT format('%s at %s', k ->> 'name', n.name) AS name, (k ->> 'plain_answers')::boolean AS plain
            FROM federated.node AS n CROSS JOIN LATERAL jsonb_array_elements(n.datasets) AS k
            WHERE n.workspace_id = _check_defaults.workspace_id
        ) AS s
    ) AS d
$$;

COMMENT ON FUNCTION federated._check_defaults(bigint) IS 'Whether datasets let answers leave without noise';

-- What a person has to look at, with what the catalog has to say of it.
CREATE FUNCTION federated._matters_for_people(workspace_id bigint, workspace text, wanted text[])
RETURNS TABLE (finding text, details text, evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'risk_analysis', 'Look whether a risk analysis has been made and is current; federated_security_audit is a part of it.',
        federated._describe_security(workspace) WHERE 'risk_analysis' = ANY (wanted)
    UNION ALL SELECT 'activity_review', 'Look whether somebody reviews federated_audit_log regularly.', federated._describe_log(workspace) WHERE 'activity_review' = ANY (wanted)
    UNION ALL SELECT 'responsibility', 'Look whether a security official is named, here and at each participant.',
        federated._describe_participants(workspace_id) WHERE 'responsibility' = ANY (wanted)
    UNION ALL SELECT 'members', 'Look whether everybody who can log in should still be able to.', federated._describe_members() WHERE 'members' = ANY (wanted)
    UNION ALL SELECT 'training', 'Look whether everybody who can log in has been trained, and whether that is written down.', federated._describe_members() WHERE 'training' = ANY (wanted)
    UNION ALL SELECT 'recovery', 'Look whether backups of catalog and key files are taken, and whether restoring one has been tried.',
        federated._describe_recovery() WHERE 'recovery' = ANY (wanted)
    UNION ALL SELECT 'evaluation_hipaa', 'Look whether compliance is checked at set times and after each change, and what followed.',
        federated._describe_checks(workspace_id, 'HIPAA') WHERE 'evaluation_hipaa' = ANY (wanted)
    UNION ALL SELECT 'evaluation_gdpr', 'Look whether what protects the data is tested at set times, and what followed.',
        federated._describe_checks(workspace_id, 'GDPR') || '; ' || federated._describe_security(workspace) WHERE 'evaluation_gdpr' = ANY (wanted)
    UNION ALL SELECT 'contracts', 'Look whether there is a contract with every participant.', federated._describe_participants(workspace_id) WHERE 'contracts' = ANY (wanted)
    UNION ALL SELECT 'identification', 'Look whether each of these is one person or one program.', federated._describe_members() WHERE 'identification' = ANY (wanted)
    UNION ALL SELECT 'emergency', 'Look whether it is settled who gets at the data when nobody of them can, and how that is noticed.',
        (SELECT format('superusers who can log in: %s', coalesce(string_agg(r.rolname::text, ', ' ORDER BY r.rolname), 'none'))
         FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin) WHERE 'emergency' = ANY (wanted)
    UNION ALL SELECT 'logoff', 'Look whether sessions that are left alone end, in the server or in what people work with.',
        (SELECT format('idle_session_timeout = %s %s', s.reset_val, s.unit) FROM pg_settings AS s WHERE s.name = 'idle_session_timeout') WHERE 'logoff' = ANY (wanted)
    UNION ALL SELECT 'rest', 'Parameters are sealed with AES-256-GCM. Look whether the disks of server, nodes and backups are encrypted: models as functions, and the nodes'' own rows, are not.',
        (SELECT format('versions with sealed parameters: %s', count(*)) FROM federated.version AS v
         JOIN federated.model AS m USING (model_id) WHERE m.workspace_id = _matters_for_people.workspace_id) WHERE 'rest' = ANY (wanted)
    UNION ALL SELECT 'policies', 'Look whether the policies that this report rests on are written down and current.', 'not in the catalog' WHERE 'policies' = ANY (wanted)
    UNION ALL SELECT k.finding, 'Look whether every model needs all the columns that it uses.', federated._describe_use(workspace_id)
        FROM unnest(ARRAY['use', 'minimisation']) AS k (finding) WHERE k.finding = ANY (wanted)
    UNION ALL SELECT 'purpose', 'Look whether each model serves a purpose for which its data were collected; each dataset''s purpose is written at its node.',
        federated._describe_purposes(workspace_id) WHERE 'purpose' = ANY (wanted)
    UNION ALL SELECT 'accuracy', 'Look whether participants correct what is wrong in their data, and when models are trained anew.',
        (SELECT format('the latest version was made %s', coalesce('on ' || to_char(max(v.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'))
         FROM federated.version AS v JOIN federated.model AS m USING (model_id)
         WHERE m.workspace_id = _matters_for_people.workspace_id) WHERE 'accuracy' = ANY (wanted)
    UNION ALL SELECT 'categories', 'Look whether health, genetic or biometric data or others of Art. 9(1) are among the columns, and on which exception their use rests.',
        federated._describe_use(workspace_id) WHERE 'categories' = ANY (wanted)
    UNION ALL SELECT 'decisions', 'Look whether anybody decides about people by predictions alone.', federated._describe_purposes(workspace_id) WHERE 'decisions' = ANY (wanted)
    UNION ALL SELECT 'arrangements', 'Look whether there is an arrangement or a contract with every participant.',
        federated._describe_participants(workspace_id) WHERE 'arrangements' = ANY (wanted)
    UNION ALL SELECT 'record', 'Look whether your record of processing names this workspace; federated_processing_record has what the catalog knows of it, and null for what it does not.',
        format('%s; %s; runs: %s', federated._describe_participants(workspace_id), federated._describe_purposes(workspace_id),
               (SELECT count(*) FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                WHERE m.workspace_id = _matters_for_people.workspace_id)) WHERE 'record' = ANY (wanted)
    UNION ALL SELECT 'identifiers', 'Look at each node at federated_phi_findings, which says there which of its columns look like identifiers; under HIPAA and BOTH a node refuses these unless its DBA accepted them.',
        federated._describe_identifiers(workspace_id) WHERE 'identifiers' = ANY (wanted)
    UNION ALL SELECT 'assessment', 'Look whether an assessment has been made; it has to weigh the epsilon that a person may spend.',
        (SELECT c.evidence FROM federated._check_budget(workspace) AS c) WHERE 'assessment' = ANY (wanted)
$$;

COMMENT ON FUNCTION federated._matters_for_people(bigint, text, text[]) IS
    'Findings that are never more than what a person has to look at, each with what the catalog has of it; only those that are wanted are made';

CREATE FUNCTION federated._findings(workspace_id bigint, workspace text, wanted text[])
RETURNS TABLE (finding text, status text, details text, evidence text, since timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.finding, 'MANUAL', p.details, p.evidence, NULL::timestamptz FROM federated._matters_for_people(workspace_id, workspace, wanted) AS p
    UNION ALL SELECT 'mode_hipaa', c.*, NULL FROM federated._check_mode(workspace_id, 'HIPAA') AS c WHERE 'mode_hipaa' = ANY (wanted)
    UNION ALL SELECT 'mode_gdpr', c.*, NULL FROM federated._check_mode(workspace_id, 'GDPR') AS c WHERE 'mode_gdpr' = ANY (wanted)
    UNION ALL SELECT 'rights', c.*, NULL FROM federated._check_rights() AS c WHERE 'rights' = ANY (wanted)
    UNION ALL SELECT 'audit', c.*, NULL FROM federated._check_audit(workspace) AS c WHERE 'audit' = ANY (wanted)
    UNION ALL SELECT 'ledger', c.*, NULL FROM federated._check_ledger(workspace) AS c WHERE 'ledger' = ANY (wanted)
    UNION ALL SELECT 'storage', c.*, NULL FROM federated._check_storage() AS c WHERE 'storage' = ANY (wanted)
    UNION ALL SELECT 'nodes', c.*, NULL FROM federated._check_nodes(workspace_id) AS c WHERE 'nodes' = ANY (wanted)
    UNION ALL SELECT 'logins', c.*, NULL FROM federated._check_logins() AS c WHERE 'logins' = ANY (wanted)
    UNION ALL SELECT 'node_links', c.*, NULL FROM federated._check_node_links(workspace_id) AS c WHERE 'node_links' = ANY (wanted)
    UNION ALL SELECT 'client_links', c.*, NULL FROM federated._check_client_links() AS c WHERE 'client_links' = ANY (wanted)
    UNION ALL SELECT 'budget', c.*, NULL FROM federated._check_budget(workspace) AS c WHERE 'budget' = ANY (wanted)
    -- That epsilon is small enough to call an answer de-identified is a person's judgement.
    UNION ALL SELECT 'deidentification', CASE c.status WHEN 'PASS' THEN 'MANUAL' ELSE c.status END, c.details, c.evidence, NULL
        FROM federated._check_budget(workspace) AS c WHERE 'deidentification' = ANY (wanted)
    UNION ALL SELECT 'defaults', c.*, NULL FROM federated._check_defaults(workspace_id) AS c WHERE 'defaults' = ANY (wanted)
    UNION ALL SELECT 'residency', c.*, NULL FROM federated._check_residency(workspace_id) AS c WHERE 'residency' = ANY (wanted)
    UNION ALL SELECT 'retention_hipaa', c.*, NULL FROM federated._check_retention(workspace_id, workspace, 2190) AS c WHERE 'retention_hipaa' = ANY (wanted)
    UNION ALL SELECT 'retention_gdpr', c.*, NULL FROM federated._check_retention(workspace_id, workspace, NULL) AS c WHERE 'retention_gdpr' = ANY (wanted)
    UNION ALL SELECT 'heads', c.*, NULL FROM federated._check_heads(workspace_id, workspace) AS c WHERE 'heads' = ANY (wanted)
    UNION ALL SELECT 'consent', c.*, NULL FROM federated._check_consent(workspace_id, workspace) AS c WHERE 'consent' = ANY (wanted)
    UNION ALL SELECT 'export', c.*, NULL FROM federated._check_export_requests(workspace) AS c WHERE 'export' = ANY (wanted)
    UNION ALL SELECT 'erasure', c.*, NULL FROM federated._check_erasure(workspace) AS c WHERE 'erasure' = ANY (wanted)
    UNION ALL SELECT k.finding, c.* FROM (VALUES ('breaches_gdpr', interval '72 hours'), ('breaches_hipaa', interval '60 days'), ('incidents', interval '60 days'))
        AS k (finding, clock) CROSS JOIN LATERAL federated._check_breaches(workspace_id, workspace, k.clock) AS c WHERE k.finding = ANY (wanted)
$$;

COMMENT ON FUNCTION federated._findings(bigint, text, text[]) IS
    'What requirements are judged by, with the caller''s rights and as it is just now; only what is wanted is looked at. since: when something happened that an earlier attestation knows nothing of; NULL where nothing did';

CREATE FUNCTION federated._check_regulation(regulation text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF regulation IS NULL OR upper(regulation) NOT IN ('HIPAA', 'GDPR') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the regulation must be HIPAA or GDPR, not %s', coalesce(quote_literal(regulation), 'null')),
            HINT = 'For a workspace under both, check one after the other.';
    END IF;
    RETURN upper(regulation);
END
$$;

COMMENT ON FUNCTION federated._check_regulation(text) IS 'The regulation as it is written here, or error 22023';

CREATE OR REPLACE FUNCTION @extschema@.federated_compliance_check(
    workspace text, regulation text,
    OUT requirement text, OUT status text, OUT details text, OUT evidence text, OUT reference text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH asked AS MATERIALIZED (
        SELECT r.place, r.requirement, r.reference, r.finding, w.workspace_id
        FROM federated._requirements() AS r
        CROSS JOIN (SELECT federated._workspace_id(federated_compliance_check.workspace) AS workspace_id) AS w
        WHERE r.regulation = federated._check_regulation(federated_compliance_check.regulation)
    )
    SELECT q.requirement,
           CASE WHEN f.status = 'MANUAL' AND a.attestation_id IS NOT NULL THEN 'PASS' ELSE f.status END,
           CASE WHEN f.status = 'MANUAL' AND a.attestation_id IS NOT NULL THEN
                    format('Attested by %s on %s until %s: %s', a.author, to_char(a.attested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), to_char(a.valid_until, 'YYYY-MM-DD'), a.statement)
                    || CASE WHEN a.evidence <> f.evidence THEN format(' (What was seen then: %s)', a.evidence) ELSE '' END
                ELSE f.details END,
           f.evidence, q.reference
    FROM asked AS q
    JOIN federated._findings((SELECT min(k.workspace_id) FROM asked AS k), federated_compliance_check.workspace,
                             (SELECT array_agg(k.finding) FROM asked AS k)) AS f USING (finding)
    CROSS JOIN LATERAL federated._current_attestation(q.workspace_id, q.requirement, f.since) AS a
    ORDER BY q.place
$$;

COMMENT ON FUNCTION @extschema@.federated_compliance_check(text, text) IS
    'What of HIPAA or of the GDPR a workspace meets, as far as the catalog and the server''s settings tell. status: PASS (checked just now, or attested by a person: details says by whom, until when, and with which words), FAIL (which no attestation changes), or MANUAL (no program can know, or the caller may not see: details says what a person must look at); evidence: the figures seen; reference: where the requirement stands; federated_compliance_requirements says what to do where one is not met. No legal advice, and no certificate';

-- A dataset's consent_query, and what is shown of consent.

-- The caller's own rights decide what the query may be; its names are looked up as the caller would have typed them.
CREATE FUNCTION federated._create_consent_view(dataset text, query text, schemas name[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner name := (SELECT d.owner FROM federated.dataset AS d WHERE d.name = dataset);
BEGIN
    PERFORM set_config('search_path', (SELECT string_agg(quote_ident(s), ', ') FROM unnest(schemas) AS s), true);
    EXECUTE pg_catalog.format(
        'CREATE VIEW federated_subject.%I WITH (security_barrier) AS SELECT c.* FROM (%s' || E'\n) AS c', dataset, query);
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF (SELECT count(*) FROM pg_attribute AS a
        WHERE a.attrelid = format('federated_subject.%I', dataset)::regclass AND a.attnum > 0) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the consent_query must have one column',
            DETAIL = 'It says who has consented, as the dataset''s subject column names them.';
    END IF;
    -- No row is read, and whoever may not read what it reads is told now.
    EXECUTE format('SELECT FROM federated_subject.%I LIMIT 0', dataset);
    EXECUTE format('GRANT SELECT ON federated_subject.%I TO federated_reader', dataset);
    IF owner <> current_user THEN
        EXECUTE format('ALTER VIEW federated_subject.%I OWNER TO %I', dataset, owner);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._create_consent_view(text, text, name[]) IS
    'Makes the view in which the node reads who has consented, for the dataset''s owner';

CREATE FUNCTION federated._drop_consent_view(dataset text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    EXECUTE format('DROP VIEW IF EXISTS federated_subject.%I', dataset);
END
$$;

COMMENT ON FUNCTION federated._drop_consent_view(text) IS 'Drops the view of a dataset''s consent_query, where there is one; dependents refuse';

-- One row for a data subject and a purpose, or every purpose, of which something was said. At the coordinator what was
-- ordered, whichever nodes have it on record; at a node its own register.
CREATE OR REPLACE VIEW @extschema@.federated_consent AS
WITH said AS (
    SELECT c.workspace, encode(c.digest, 'hex') AS subject_hash, c.kind, c.purpose, c.version, 'node' AS recorded_by,
           c.origin = 'node' AS is_own, c.said_at, lpad(c.consent_id::text, 20, '0') AS place, NULL::uuid AS order_id
    FROM federated.consent AS c
    UNION ALL
    SELECT o.workspace, encode(o.pseudonym, 'hex'), o.kind, o.terms ->> 'purpose', o.terms ->> 'version', 'coordinator',
           false, o.requested_at, coalesce(o.terms ->> 'said_at', ''), o.order_id
    FROM federated.subject_order AS o
    WHERE o.kind IN ('grant', 'revoke') AND o.pseudonym IS NOT NULL
), topic AS (
    SELECT DISTINCT ON (workspace, recorded_by, subject_hash, lower(purpose)) workspace, recorded_by, subject_hash, purpose
    FROM said ORDER BY workspace, recorded_by, subject_hash, lower(purpose), said_at, place
), standing AS (
    SELECT t.workspace, t.subject_hash, t.purpose, t.recorded_by,
           (array_agg(s.version ORDER BY s.said_at DESC, s.place DESC) FILTER (WHERE s.kind = 'grant'))[1] AS version,
           max(s.said_at) FILTER (WHERE s.kind = 'grant') AS granted_at,
           max(s.said_at) FILTER (WHERE s.kind = 'revoke') AS revoked_at,
           (array_agg(s.kind ORDER BY s.said_at DESC, s.place DESC))[1] = 'grant'
               AND coalesce((array_agg(s.kind ORDER BY s.said_at DESC, s.place DESC) FILTER (WHERE s.is_own))[1] = 'grant', true)
               AS is_granted,
           (array_agg(s.order_id ORDER BY s.said_at DESC, s.place DESC))[1] AS order_id
    FROM topic AS t JOIN said AS s USING (workspace, recorded_by, subject_hash)
    WHERE lower(s.purpose) IS NOT DISTINCT FROM lower(t.purpose) OR (s.purpose IS NULL AND lower(t.purpose) <> 'sale')
    GROUP BY t.workspace, t.subject_hash, t.purpose, t.recorded_by
)
SELECT s.workspace, s.subject_hash, s.purpose, s.version,
       CASE WHEN s.is_granted THEN 'granted' WHEN lower(s.purpose) IN ('sale', 'explanation') THEN 'opted out' ELSE 'revoked' END AS status,
       s.granted_at, CASE WHEN NOT s.is_granted THEN s.revoked_at END AS revoked_at, s.recorded_by,
       CASE WHEN s.order_id IS NOT NULL THEN ARRAY(
           SELECT a.node_name FROM federated.order_answer AS a
           WHERE a.order_id = s.order_id AND a.state = 'answered' ORDER BY a.node_name) END AS nodes
FROM standing AS s
UNION ALL
SELECT r.workspace, NULL, r.purpose, r.version, 'requested',
       CASE r.kind WHEN 'grant' THEN r.requested_at END, CASE r.kind WHEN 'revoke' THEN r.requested_at END, 'node', NULL
FROM federated.consent_request AS r
UNION ALL
SELECT o.workspace, NULL, o.terms ->> 'purpose', o.terms ->> 'version', 'requested',
       CASE o.kind WHEN 'grant' THEN o.requested_at END, CASE o.kind WHEN 'revoke' THEN o.requested_at END, 'coordinator', '{}'
FROM federated.subject_order AS o
WHERE o.kind IN ('grant', 'revoke') AND o.pseudonym IS NULL AND o.state = 'requested';

COMMENT ON VIEW @extschema@.federated_consent IS
    'The state of consent by data subject and purpose: at the coordinator what was ordered, at a node its own register. Its own consent_query is the node''s alone, and not shown';

COMMENT ON COLUMN @extschema@.federated_consent.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_consent.subject_hash IS
    'Never the subject''s name in plain: a hash with a key that is in no database, another one here than at each node; NULL while it is requested';

COMMENT ON COLUMN @extschema@.federated_consent.purpose IS 'What was consented to; NULL for every purpose';

COMMENT ON COLUMN @extschema@.federated_consent.version IS 'Of the text that was consented to; NULL where none was named';

COMMENT ON COLUMN @extschema@.federated_consent.status IS
    'granted, revoked, opted out (of the purpose sale or explanation), or requested: not in force before the daemon has taken it';

COMMENT ON COLUMN @extschema@.federated_consent.granted_at IS 'When consent was given';

COMMENT ON COLUMN @extschema@.federated_consent.revoked_at IS 'When it was withdrawn; NULL while it holds';

COMMENT ON COLUMN @extschema@.federated_consent.recorded_by IS 'Whose record it is: node (this database''s own) or coordinator (what was ordered of the nodes)';

COMMENT ON COLUMN @extschema@.federated_consent.nodes IS 'Which nodes have signed that they have what was said last on record; NULL in a node''s own register';

-- Attestations, and checks that are put on record. What they hold is written by triggers: who adds one names the requirement,
-- the last day and the words, or the regulation, and nothing else.
CREATE FUNCTION federated._check_attestation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    seen  record;
BEGIN
    -- Only the table's owner brings rows that are filled in already, as restoring a dump does.
    IF NEW.evidence IS NOT NULL THEN
        RETURN NEW;
    ELSIF NEW.valid_until < today OR NEW.valid_until > today + interval '2 years' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN NEW.valid_until < today THEN format('the attestation would have ended on %s', to_char(NEW.valid_until, 'YYYY-MM-DD'))
                           ELSE format('an attestation until %s is too long', to_char(NEW.valid_until, 'YYYY-MM-DD')) END,
            DETAIL = format('It may last from today to %s, the last day included.', to_char(today + interval '2 years', 'YYYY-MM-DD'));
    END IF;
    SELECT f.* INTO seen FROM federated.workspace AS w, federated._findings(w.workspace_id, w.name, ARRAY(
        SELECT r.finding FROM federated._requirements() AS r WHERE r.requirement = NEW.requirement)) AS f
    WHERE w.workspace_id = NEW.workspace_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('requirement "%s" does not exist', NEW.requirement);
    ELSIF seen.status = 'FAIL' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('requirement "%s" fails, which no attestation changes', NEW.requirement),
            DETAIL = format('%s Evidence: %s', seen.details, seen.evidence),
            HINT = 'Mend what the DETAIL names.';
    END IF;
    NEW.status := seen.status;
    NEW.evidence := seen.evidence;
    NEW.statement_sha256 := encode(sha256(convert_to(NEW.statement, 'UTF8')), 'hex');
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_attestation() IS 'Lets an attestation last two years at most, and be of what does not fail; writes down what was seen';

CREATE TRIGGER check_attestation BEFORE INSERT ON federated.attestation
    FOR EACH ROW EXECUTE FUNCTION federated._check_attestation();

CREATE FUNCTION federated._make_compliance_record() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.findings IS NULL THEN
        NEW.findings := (SELECT jsonb_agg(to_jsonb(c)) FROM federated.workspace AS w, @extschema@.federated_compliance_check(w.name, NEW.regulation) AS c
                         WHERE w.workspace_id = NEW.workspace_id);
        NEW.findings_sha256 := encode(sha256(convert_to(NEW.findings::text, 'UTF8')), 'hex');
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._make_compliance_record() IS 'Makes the check that a record is of, with the rights of whoever adds it';

CREATE TRIGGER make_record BEFORE INSERT ON federated.compliance_record
    FOR EACH ROW EXECUTE FUNCTION federated._make_compliance_record();

CREATE FUNCTION @extschema@.federated_record_compliance_check(
    workspace text, regulation text,
    OUT requirement text, OUT status text, OUT details text, OUT evidence text, OUT reference text
) RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH made AS (
        INSERT INTO federated.compliance_record (workspace_id, regulation)
        VALUES (federated._workspace_id(federated_record_compliance_check.workspace), federated._check_regulation(federated_record_compliance_check.regulation))
        RETURNING findings
    )
    SELECT f.* FROM made AS m CROSS JOIN LATERAL jsonb_to_recordset(m.findings)
        AS f (requirement text, status text, details text, evidence text, reference text)
$$;

COMMENT ON FUNCTION @extschema@.federated_record_compliance_check(text, text) IS
    'federated_compliance_check, and its rows are kept with the time and the caller''s role: federated_compliance_history shows them';

CREATE VIEW @extschema@.federated_compliance_history AS
SELECT c.record_id, w.name AS workspace, c.regulation, c.recorded_at, c.recorded_by::text AS recorded_by,
       f.value ->> 'requirement' AS requirement, f.value ->> 'status' AS status, f.value ->> 'details' AS details,
       f.value ->> 'evidence' AS evidence, f.value ->> 'reference' AS reference, f.place::integer AS place, c.findings_sha256
FROM federated.compliance_record AS c
JOIN federated.workspace AS w USING (workspace_id)
CROSS JOIN LATERAL jsonb_array_elements(c.findings) WITH ORDINALITY AS f (value, place);

COMMENT ON VIEW @extschema@.federated_compliance_history IS
    'The compliance checks that federated_record_compliance_check kept, a row for each requirement';

COMMENT ON COLUMN @extschema@.federated_compliance_history.record_id IS 'Which check';

COMMENT ON COLUMN @extschema@.federated_compliance_history.workspace IS 'Name of the workspace, as it is now';

COMMENT ON COLUMN @extschema@.federated_compliance_history.regulation IS 'HIPAA or GDPR';

COMMENT ON COLUMN @extschema@.federated_compliance_history.recorded_at IS 'When the check was made';

COMMENT ON COLUMN @extschema@.federated_compliance_history.recorded_by IS 'The role with whose rights it was made: another may have seen more or less';

COMMENT ON COLUMN @extschema@.federated_compliance_history.requirement IS 'As the check named it then; status, details, evidence and reference likewise';

COMMENT ON COLUMN @extschema@.federated_compliance_history.status IS 'PASS, FAIL or MANUAL';

COMMENT ON COLUMN @extschema@.federated_compliance_history.details IS 'What was found, who attested it, or what a person had to look at';

COMMENT ON COLUMN @extschema@.federated_compliance_history.evidence IS 'The figures seen';

COMMENT ON COLUMN @extschema@.federated_compliance_history.reference IS 'Where the requirement stands';

COMMENT ON COLUMN @extschema@.federated_compliance_history.place IS 'Its place in the check, from 1';

COMMENT ON COLUMN @extschema@.federated_compliance_history.findings_sha256 IS 'Of all rows of the check; the audit log has it too';

CREATE VIEW @extschema@.federated_attestations AS
SELECT w.name AS workspace, a.requirement, a.author::text AS author, a.attested_at, a.valid_until,
       CASE WHEN EXISTS (SELECT FROM federated.attestation AS n
                         WHERE n.workspace_id = a.workspace_id AND n.requirement = a.requirement AND n.attestation_id > a.attestation_id) THEN 'replaced'
            WHEN a.valid_until < (now() AT TIME ZONE 'UTC')::date THEN 'expired'
            ELSE 'in force' END AS state,
       a.statement, a.status AS status_then, a.evidence AS evidence_then, a.statement_sha256
FROM federated.attestation AS a
JOIN federated.workspace AS w USING (workspace_id);

COMMENT ON VIEW @extschema@.federated_attestations IS 'What ATTEST FEDERATED COMPLIANCE put on record, replaced and expired attestations included';

COMMENT ON COLUMN @extschema@.federated_attestations.workspace IS 'Name of the workspace';

COMMENT ON COLUMN @extschema@.federated_attestations.requirement IS 'As federated_compliance_requirements has it';

COMMENT ON COLUMN @extschema@.federated_attestations.author IS 'The role that attested';

COMMENT ON COLUMN @extschema@.federated_attestations.attested_at IS 'When it did';

COMMENT ON COLUMN @extschema@.federated_attestations.valid_until IS 'The last day, by UTC, on which it counts';

COMMENT ON COLUMN @extschema@.federated_attestations.state IS
    'in force; replaced by a newer one of the same requirement, whether that is in force or not; or expired. What fails is not met by one in force either';

COMMENT ON COLUMN @extschema@.federated_attestations.statement IS 'The words';

COMMENT ON COLUMN @extschema@.federated_attestations.status_then IS 'What the check said when it was attested';

COMMENT ON COLUMN @extschema@.federated_attestations.evidence_then IS 'What the check saw when it was attested';

COMMENT ON COLUMN @extschema@.federated_attestations.statement_sha256 IS 'SHA-256 of the words, which the audit log has in their place';

-- What the catalog knows of a workspace's processing, and of a model, in the shape in which people ask for it. Nothing is
-- made up: what nobody recorded is null.
CREATE FUNCTION federated._processing_participants(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'node', n.name, 'contact', n.options ->> 'contact', 'data_residency', n.options ->> 'data_residency',
        'status', n.status, 'registered_at', n.registered_at, 'certificate_expires', n.certificate_expires) ORDER BY n.name), '[]')
    FROM federated.node AS n WHERE n.workspace_id = _processing_participants.workspace_id
$$;

COMMENT ON FUNCTION federated._processing_participants(bigint) IS 'Who takes part in a workspace, for the record of processing';

CREATE FUNCTION federated._processing_data(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'node', n.name, 'dataset', d ->> 'name',
        'columns', (SELECT jsonb_agg(jsonb_build_object('column', c.name, 'type', d -> 'types' ->> (c.place - 1)::integer) ORDER BY c.place)
                    FROM jsonb_array_elements_text(d -> 'columns') WITH ORDINALITY AS c (name, place)),
        'plain_answers', d -> 'plain_answers', 'paused', coalesce(d -> 'paused', 'false')) ORDER BY n.name, d ->> 'name'), '[]')
    FROM federated.node AS n CROSS JOIN LATERAL jsonb_array_elements(n.datasets) AS d
    WHERE n.workspace_id = _processing_data.workspace_id
$$;

COMMENT ON FUNCTION federated._processing_data(bigint) IS 'Which columns the nodes of a workspace share, as they last said, for the record of processing';

CREATE FUNCTION federated._processing_purposes(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'model', m.name, 'intended_use', m.options ->> 'intended_use', 'owner', m.owner, 'owner_contact', m.options ->> 'owner_contact',
        'algorithm', m.options ->> 'algorithm', 'target', m.options ->> 'target', 'features', m.options -> 'features',
        'runs', (SELECT count(*) FROM federated.run AS r WHERE r.model_id = m.model_id)) ORDER BY m.name), '[]')
    FROM federated.model AS m WHERE m.workspace_id = _processing_purposes.workspace_id
$$;

COMMENT ON FUNCTION federated._processing_purposes(bigint) IS 'What the models of a workspace are for, for the record of processing';

CREATE FUNCTION federated._processing_recipients(workspace_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'roles', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'member_of', f.rolname) ORDER BY r.rolname, f.rolname), '[]')
                  FROM pg_roles AS r JOIN pg_roles AS f ON f.rolname IN (
                      'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor', 'federated_daemon')
                  WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, f.oid, 'MEMBER')),
        'superusers', (SELECT coalesce(jsonb_agg(r.rolname ORDER BY r.rolname), '[]') FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin),
        'models_granted', (SELECT coalesce(jsonb_agg(jsonb_build_object('model', m.name, 'to', coalesce(n.name, 'all nodes')) ORDER BY m.name, n.name), '[]')
                           FROM federated.subscribe_grant AS g JOIN federated.model AS m USING (model_id)
                           LEFT JOIN federated.node AS n USING (node_id)
                           WHERE m.workspace_id = _processing_recipients.workspace_id))
$$;

COMMENT ON FUNCTION federated._processing_recipients(bigint) IS 'Who gets to see models and figures of a workspace, for the record of processing';

CREATE FUNCTION @extschema@.federated_processing_record(workspace text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'workspace', w.name, 'made_at', now(), 'created_at', w.created_at, 'owner', w.owner,
        'participants', federated._processing_participants(w.workspace_id),
        'purposes', federated._processing_purposes(w.workspace_id),
        'categories_of_data', federated._processing_data(w.workspace_id),
        'categories_of_data_subjects', NULL,
        'recipients', federated._processing_recipients(w.workspace_id),
        'transfers', jsonb_build_object('data_residency', w.options ->> 'data_residency'),
        'retention', jsonb_build_object(
            'retention_days', (w.options ->> 'retention_days')::integer, 'legal_hold', (w.options ->> 'legal_hold')::boolean,
            'oldest_audit_entry', (SELECT min(a.recorded_at) FROM federated.audit AS a WHERE a.workspace = w.name)),
        'security_measures', jsonb_build_object(
            'compliance_mode', coalesce(w.options ->> 'compliance_mode', 'none'),
            'privacy_budget', (w.options ->> 'privacy_budget')::double precision,
            'delta', coalesce((w.options ->> 'delta')::double precision, 1e-5),
            'encryption', coalesce(w.options ->> 'encryption', 'AES-256-GCM'),
            'tls_version', coalesce(w.options ->> 'tls_version', '1.3'),
            'certificate_validation', coalesce((w.options ->> 'certificate_validation')::boolean, true),
            'min_nodes', coalesce((w.options ->> 'min_nodes')::integer, 2)))
    FROM federated.workspace AS w
    WHERE w.workspace_id = federated._workspace_id(federated_processing_record.workspace)
$$;

COMMENT ON FUNCTION @extschema@.federated_processing_record(text) IS
    'What the catalog knows for a record of processing activities (GDPR Art. 30): who takes part and whom to ask there, what the models are for (option intended_use), which columns are shared, who gets to see what comes of them, where the data are, how long what is kept, and by what it is protected. What nobody recorded is null: the categories of data subjects always are';

CREATE FUNCTION federated._card_sites(run_id uuid, round_number integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'node', s.name, 'data_residency', s.residency, 'rounds', s.rounds, 'rows', s.rows) ORDER BY s.name), '[]')
    FROM (
        SELECT n.name, n.options ->> 'data_residency' AS residency, count(DISTINCT p.round_number) AS rounds,
               (array_agg(p.weight ORDER BY p.round_number DESC, p.weight DESC) FILTER (WHERE p.weight IS NOT NULL))[1] AS rows
        FROM federated.run AS o
        -- The models of all groups vote in one version, and each run ends with a round of its own.
        JOIN federated.run AS r ON r.run_id = o.run_id OR r.series_id = o.series_id AND o.voting_group IS NOT NULL
        JOIN federated.participation AS p ON p.run_id = r.run_id
        JOIN federated.node AS n USING (node_id)
        WHERE o.run_id = _card_sites.run_id AND p.round_number >= 1 AND p.outcome = 'received'
          AND (p.round_number <= _card_sites.round_number OR r.run_id <> o.run_id)
        GROUP BY n.name, n.options ->> 'data_residency'
    ) AS s
$$;

COMMENT ON FUNCTION federated._card_sites(uuid, integer) IS
    'Which nodes a version was trained at, of one by vote those of all groups, in how many rounds of the run, and the rows behind what each answered last (the most of the round), as it stated them; nodes that were unregistered since are missing';

CREATE FUNCTION federated._card_metrics(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'loss', (subject).global_loss, 'loss_std_error', (subject).global_loss_std_error, 'base_loss', (subject).base_loss,
        'accuracy', (subject).global_accuracy, 'accuracy_std_error', (subject).global_accuracy_std_error,
        'precision', (subject).global_precision, 'recall', (subject).global_recall, 'f1_score', (subject).global_f1_score,
        'rmse', (subject).global_rmse)
$$;

COMMENT ON FUNCTION federated._card_metrics(federated.version) IS 'The figures of a version over held-out rows; null where there is none';

-- A version by vote has learned in all of them, and is of the run of the first alone.
CREATE FUNCTION federated._card_groups(first federated.run) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT jsonb_build_object(
            'started_at', min(r.started_at), 'finished_at', max(r.finished_at),
            'status', string_agg(DISTINCT r.status::text, ', ' ORDER BY r.status::text),
            'groups', jsonb_agg(jsonb_build_object(
                'voting_group', r.voting_group, 'nodes', r.group_nodes, 'run_id', r.run_id, 'status', r.status, 'started_at', r.started_at,
                'finished_at', r.finished_at, 'options', r.options, 'message', r.message) ORDER BY r.voting_group))
        FROM federated.run AS r
        WHERE first.voting_group IS NOT NULL AND r.series_id = first.series_id AND r.voting_group IS NOT NULL
        HAVING count(*) > 0), '{}')
$$;

COMMENT ON FUNCTION federated._card_groups(federated.run) IS
    'What a card says of how the groups trained that vote in a version; nothing of a run of no group';

CREATE FUNCTION federated._card_version(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'version', (subject).version, 'is_current', (subject).is_current, 'created_at', (subject).created_at,
        'tags', (SELECT coalesce(jsonb_agg(t.name ORDER BY t.name), '[]') FROM federated.tag AS t
                 WHERE t.model_id = (subject).model_id AND t.version = (subject).version),
        'parameters_sha256', encode((subject).sha256, 'hex'), 'parent', federated._parent_name((subject).run_id), 'run_id', (subject).run_id, 'round_number', (subject).round_number,
        'data', jsonb_build_object(
            'features', to_jsonb((subject).features), 'target', r.options ->> 'target', 'dataset', r.options ->> 'dataset',
            'sites', federated._card_sites((subject).run_id, (subject).round_number)),
        'training', jsonb_build_object(
            'algorithm', r.options ->> 'algorithm', 'aggregation', r.options ->> 'aggregation', 'started_at', r.started_at,
            'finished_at', r.finished_at, 'status', r.status, 'started_by', r.requested_by, 'options', r.options)
            || federated._card_groups(r),
        'privacy', jsonb_build_object(
            'epsilon', (subject).epsilon, 'delta', CASE WHEN r.policy ->> 'privacy_budget' IS NOT NULL THEN (r.policy ->> 'delta')::double precision END,
            'privacy_budget', (r.policy ->> 'privacy_budget')::double precision,
            'secure_aggregation', coalesce((r.options ->> 'secure_aggregation')::boolean, false),
            'trust_model', CASE WHEN r.policy ->> 'privacy_budget' IS NOT NULL THEN coalesce(r.policy ->> 'trust_model',
                CASE WHEN (r.options ->> 'secure_aggregation')::boolean THEN 'distributed' ELSE 'local' END) END,
            'compliance_mode', r.policy ->> 'compliance_mode',
            'ancestors', federated._ancestors(r.run_id, (SELECT w.name FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
                                                         WHERE m.model_id = r.model_id))),
        'metrics', federated._card_metrics(subject))
    FROM federated.run AS r WHERE r.run_id = (subject).run_id
$$;

COMMENT ON FUNCTION federated._card_version(federated.version) IS 'What a model card says of a version';

CREATE FUNCTION @extschema@.federated_model_card(model text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject  federated.version;
    found_id bigint := (SELECT m.model_id FROM federated.model AS m WHERE m.name = model);
BEGIN
    -- A model without a current version has a card too; a version that is named and is not there is an error.
    IF found_id IS NULL OR EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = found_id AND v.is_current) THEN
        subject := federated._read_reference(model);
        found_id := subject.model_id;
    END IF;
    RETURN (
        SELECT jsonb_build_object(
            'model', m.name, 'workspace', w.name, 'made_at', now(), 'created_at', m.created_at, 'owner', m.owner,
            'owner_contact', m.options ->> 'owner_contact', 'intended_use', m.options ->> 'intended_use',
            'algorithm', m.options ->> 'algorithm', 'target', m.options ->> 'target', 'features', m.options -> 'features',
            'versions', (SELECT count(*) FROM federated.version AS v WHERE v.model_id = m.model_id),
            'version', federated._card_version(subject))
        FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id) WHERE m.model_id = found_id);
END
$$;

COMMENT ON FUNCTION @extschema@.federated_model_card(text) IS
    'The card of a model''s current version, or of the one that model@tag or model@number names: what it is for (option intended_use) and whose it is, on which data of which nodes it was trained and how, what epsilon it cost, and what the versions that its run began with cost besides, how it did over held-out rows. version is null before there is one; what nobody recorded is null; epsilon is null without a privacy_budget, and nodes that were unregistered since are not among the sites';

-- Models that travel as files: what was exported from here, and what was imported. A file is numbers, names and labels; its functions
-- are made here, by what makes those of versions that were trained or delivered here.
CREATE TABLE federated.model_export (
    export_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace      text NOT NULL DEFAULT '',
    model_name     text NOT NULL,
    version        integer NOT NULL CHECK (version > 0),
    exported_by    name NOT NULL DEFAULT current_user,
    exported_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()
);

COMMENT ON TABLE federated.model_export IS 'Which versions were read to leave as files, and by whom: no copy can be taken back, so those who have one must be told';

COMMENT ON COLUMN federated.model_export.transaction_id IS 'The transaction that reads it: in no other one are its numbers handed out for this line';

SELECT pg_catalog.pg_extension_config_dump('federated.model_export', '');

-- Whose a version is decides who may take it away: as with everything else that changes who has a model. A line that could be written
-- for what federated_export_model refuses would hand out its numbers all the same. What is imported is of no workspace: which one its file
-- names is the file's word, and nothing is written into that one's log for it.
CREATE FUNCTION federated._check_export_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    trained    bigint;
    held_owner name;
    subject    record;
BEGIN
    IF (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user)
       AND (NEW.exported_at < transaction_timestamp() OR NEW.transaction_id <> pg_current_xact_id()) THEN
        -- A dump is restored.
        RETURN NEW;
    END IF;
    SELECT m.model_id, w.name INTO trained, NEW.workspace
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id) WHERE m.name = NEW.model_name;
    IF FOUND THEN
        PERFORM federated._require_model_owner(trained);
    ELSE
        SELECT h.owner, h.workspace INTO held_owner, NEW.workspace FROM (
            SELECT s.model_name, s.owner, s.workspace FROM federated.subscription AS s
            UNION ALL SELECT i.name, i.owner, '' FROM federated.imported_model AS i
        ) AS h WHERE h.model_name = NEW.model_name;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('federated model "%s" does not exist', NEW.model_name);
        ELSIF NOT federated._has_role(held_owner) THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
                MESSAGE = format('must be owner of federated model "%s"', NEW.model_name),
                DETAIL = format('It was subscribed to or imported by %s.', quote_ident(held_owner));
        END IF;
    END IF;
    SELECT v.is_retired, v.is_withheld, v.prediction ? 'sealed' AS is_sealed INTO subject
    FROM federated.held_version AS v WHERE v.model_name = NEW.model_name AND v.version = NEW.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('version %s of federated model "%s" does not exist', NEW.version, NEW.model_name);
    ELSIF subject.is_retired OR subject.is_withheld THEN
        PERFORM federated._refuse_withdrawn(NEW.model_name, NEW.version, subject.is_retired);
    ELSIF subject.is_sealed THEN
        PERFORM federated._refuse_sealed(NEW.model_name, NEW.version, 'it does not leave as a file');
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_export_owner() IS
    'Lets a version that predicts be exported, by members of its owner role alone, and notes whose workspace it is of: empty for one that was imported';

CREATE TRIGGER check_owner BEFORE INSERT ON federated.model_export
    FOR EACH ROW EXECUTE FUNCTION federated._check_export_owner();

CREATE FUNCTION federated._claimed_origin(origin jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('held', left(origin ->> 'held', 200), 'workspace', left(origin ->> 'workspace', 200),
        'model', left(origin ->> 'model', 200), 'version_key', left(origin ->> 'version_key', 200),
        'exported_at', left(origin ->> 'exported_at', 200)))
$$;

COMMENT ON FUNCTION federated._claimed_origin(jsonb) IS 'Of what a file says of where it is from what the audit log keeps: texts of at most 200 characters';

CREATE FUNCTION federated._audit_model_export() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (NEW.workspace, session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            'insert', 'model_export', NEW.model_name, jsonb_strip_nulls(jsonb_build_object('version', NEW.version, 'origin', (
                SELECT federated._claimed_origin(i.origin) FROM federated.imported_model AS i WHERE i.name = NEW.model_name))));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_model_export() IS
    'Appends to the audit log that a version was read to leave as a file; of one that was imported with where its file says that it is from';

CREATE TRIGGER audit AFTER INSERT ON federated.model_export
    FOR EACH ROW EXECUTE FUNCTION federated._audit_model_export();

-- What numpy computes by is nobody's to read but with a line that says so.
CREATE FUNCTION federated._exported_arrays(export_id uuid) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT v.model_name, v.version, v.prediction_arrays, v.is_retired, v.is_withheld INTO subject
    FROM federated.model_export AS e JOIN federated.held_version AS v USING (model_name, version)
    -- A line that a restored dump brought may have the number of a transaction of this server.
    WHERE e.export_id = _exported_arrays.export_id AND e.transaction_id = pg_current_xact_id() AND e.exported_at >= transaction_timestamp();
    -- What was withdrawn since the line was written is not handed out either.
    IF subject.is_retired OR subject.is_withheld THEN
        PERFORM federated._refuse_withdrawn(subject.model_name, subject.version, subject.is_retired);
    END IF;
    RETURN subject.prediction_arrays;
END
$$;

COMMENT ON FUNCTION federated._exported_arrays(uuid) IS
    'The arrays of a version whose export this transaction has noted, else NULL; 55000 for a version that was retired or is withheld';

CREATE FUNCTION federated._export_origin(model_name text, version integer, numbers_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    origin jsonb;
BEGIN
    origin := (
        SELECT jsonb_build_object('held', 'trained', 'workspace', w.name, 'version_key', numbers_id, 'parameters_sha256', encode(v.sha256, 'hex'))
        FROM federated.version AS v JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE m.name = model_name AND v.version = version);
    origin := coalesce(origin, (
        SELECT jsonb_build_object('held', 'delivered', 'workspace', s.workspace, 'version_key', d.version_key)
        FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
        WHERE s.model_name = model_name AND d.version = version));
    origin := coalesce(origin, (
        SELECT jsonb_build_object('held', 'imported', 'workspace', i.origin ->> 'workspace', 'version_key', i.origin ->> 'version_key')
        FROM federated.imported_model AS i WHERE i.name = model_name));
    RETURN origin || jsonb_build_object('model', model_name, 'exported_at',
        to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
END
$$;

COMMENT ON FUNCTION federated._export_origin(text, integer, uuid) IS 'What a file says of where its version is from';

CREATE FUNCTION federated._export_card(model_name text, version integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF EXISTS (SELECT FROM federated.model AS m WHERE m.name = model_name) THEN
        RETURN @extschema@.federated_model_card(model_name || '@' || version);
    END IF;
    RETURN (SELECT i.card FROM federated.imported_model AS i WHERE i.name = model_name);
END
$$;

COMMENT ON FUNCTION federated._export_card(text, integer) IS 'The card that goes with a version; NULL where this database has none, of one that was delivered';

CREATE FUNCTION federated._export_delivery(model_name text, version integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('header', translate(encode(d.header, 'base64'), E'\n', ''), 'signature', translate(encode(d.signature, 'base64'), E'\n', ''),
               'certificate_sha256', encode(d.certificate_sha256, 'hex'))
    FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
    WHERE s.model_name = _export_delivery.model_name AND d.version = _export_delivery.version
$$;

COMMENT ON FUNCTION federated._export_delivery(text, integer) IS 'What the coordinator signed of a version that was delivered here; NULL of any other one';

CREATE FUNCTION @extschema@.federated_export_model(model text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
    line    uuid;
    content text;
    arrays  bytea;
BEGIN
    SELECT f.* INTO subject FROM federated._find_held(model) AS f;
    IF subject.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" cannot be exported', subject.version, subject.model_name),
            DETAIL = 'It was made by a release that did not keep the numbers of a version.', HINT = 'Train the model anew.';
    END IF;
    INSERT INTO federated.model_export (model_name, version) VALUES (subject.model_name, subject.version) RETURNING export_id INTO line;
    arrays := federated._exported_arrays(line);
    IF octet_length(arrays) > 104857600 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = format('version %s of federated model "%s" is too large to be exported', subject.version, subject.model_name),
            DETAIL = format('Its arrays have %s bytes, and at most 104857600 go into a file.', octet_length(arrays));
    END IF;
    content := federated._predicting(subject.prediction)::text;
    RETURN jsonb_build_object(
        'format', 'heliosdb-model', 'format_version', 1, 'model', subject.model_name, 'version', subject.version,
        'features', subject.features, 'contract', subject.contract, 'prediction', content,
        'arrays', translate(encode(arrays, 'base64'), E'\n', ''),
        'content_sha256', encode(sha256(convert_to(content, 'UTF8') || coalesce(arrays, '')), 'hex'),
        'origin', federated._export_origin(subject.model_name, subject.version, subject.numbers_id),
        'delivery', federated._export_delivery(subject.model_name, subject.version),
        'card', federated._export_card(subject.model_name, subject.version),
        'notice', 'This is a copy. Erasures at its origin do not reach it: who holds it must drop it when told to.');
END
$$;

COMMENT ON FUNCTION @extschema@.federated_export_model(text) IS
    'The current version of a model, or the one that model@tag or model@number names, as it travels in a file: how it predicts, where it is from, its card, and of one that was delivered here what the coordinator signed. For members of the model''s owner role; the audit log has an entry for each. 55000 for a version that was retired, is withheld, or whose numbers were not kept';

-- Names are one space for models that are trained, subscribed to and imported.
CREATE FUNCTION federated._check_imported_model() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    foreign_function regprocedure;
BEGIN
    IF NEW.name = '' OR octet_length(NEW.name) > 63 OR strpos(NEW.name, '@') > 0 OR NEW.name ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a model that is imported cannot be called so',
            DETAIL = 'A name has 1 to 63 bytes, no @ and no control characters.', HINT = 'Import it under another name.';
    END IF;
    PERFORM federated._lock_model_name(NEW.name);
    foreign_function := (
        SELECT min(p.oid::regprocedure::text)::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace)
          AND (p.proname::text = NEW.name OR starts_with(p.proname::text, NEW.name || '@'))
          AND p.proowner <> 'federated_owner'::regrole);
    IF EXISTS (SELECT FROM federated.model AS m WHERE m.name = NEW.name OR starts_with(m.name, NEW.name || '@'))
       OR EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = NEW.name)
       OR EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" already exists in this database', NEW.name),
            HINT = 'Import it under another name.';
    ELSIF foreign_function IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_function',
            MESSAGE = format('function %s already exists and belongs to no federated model', foreign_function),
            HINT = 'Drop or rename it, or import the model under another name.';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_imported_model() IS 'Lets a model be imported only where nothing else has its name';

CREATE TRIGGER check_name BEFORE INSERT ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._check_imported_model();

CREATE FUNCTION federated._check_import_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT federated._has_role(OLD.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated model "%s"', OLD.name),
            DETAIL = format('Its owner is %s.', quote_ident(OLD.owner));
    END IF;
    RETURN OLD;
END
$$;

COMMENT ON FUNCTION federated._check_import_owner() IS 'Keeps an imported model for members of its owner role';

CREATE TRIGGER check_owner BEFORE DELETE ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._check_import_owner();

-- Checked as what was delivered is: whoever may write the row chooses numbers and names, and nothing that would be code.
CREATE FUNCTION federated._make_imported_functions(made federated.imported_model) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_name    text := made.name || '@' || made.version;
    description text := format('Version %s of federated model %s, imported', made.version, made.name);
    booleans    boolean[];
BEGIN
    PERFORM federated._check_delivery(made.features, made.contract, made.prediction, made.prediction_arrays);
    PERFORM federated._check_scored(made.features, made.prediction, made.prediction_arrays);
    -- Restoring a dump brings functions before rows.
    IF EXISTS (SELECT FROM federated._list_functions(made.name) AS f) THEN
        RETURN;
    END IF;
    booleans := federated._flags(made.prediction);
    PERFORM federated._define_prediction(made.name, description, made.features, booleans, made.prediction, made.import_id);
    IF octet_length(own_name) <= 63 THEN
        PERFORM federated._define_prediction(own_name, description, made.features, booleans, made.prediction, made.import_id);
    END IF;
    PERFORM federated._try_prediction(made.name, made.prediction);
END
$$;

COMMENT ON FUNCTION federated._make_imported_functions(federated.imported_model) IS
    'Makes the functions of a model that was imported, once its numbers were looked at; they are called once';

-- Runs as federated_owner, the only role that may create anything in federated_model.
CREATE FUNCTION federated._keep_imported_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM federated._make_imported_functions(NEW);
        RETURN NULL;
    END IF;
    FOR model_function IN SELECT f.oid FROM federated._list_functions(OLD.name) AS f (oid) LOOP
        EXECUTE format('DROP FUNCTION %s RESTRICT', model_function);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._keep_imported_functions() IS 'Makes and drops the functions of a model with its import; 2BP01 where other objects depend on them';

CREATE TRIGGER keep_imported_functions AFTER INSERT OR DELETE ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_imported_functions();

CREATE FUNCTION federated._audit_import() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.imported_model := coalesce(NEW, OLD);
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES ('', session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            lower(TG_OP), 'imported_model', subject.name, jsonb_strip_nulls(jsonb_build_object(
                'version', subject.version, 'origin', federated._claimed_origin(subject.origin), 'file_sha256', encode(subject.file_sha256, 'hex'),
                'signature', subject.signature, 'signed_by', subject.signed_by)));
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._audit_import() IS 'Appends to the audit log what was imported, from where, and what was dropped of it';

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._audit_import();

-- Types and sizes of all that a file may say, before anything of it is cast.
CREATE FUNCTION federated._check_document(document jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong text;
BEGIN
    IF jsonb_typeof(document) IS DISTINCT FROM 'object' OR document -> 'format' IS DISTINCT FROM '"heliosdb-model"' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no exported model',
            HINT = 'heliosdb export MODEL --format json writes one.';
    ELSIF document -> 'format_version' IS DISTINCT FROM '1' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('exported models of format version %s are not supported', left(document ->> 'format_version', 20)),
            DETAIL = 'This release reads format version 1.', HINT = 'Update the extension, or export the model with this release.';
    END IF;
    wrong := CASE
        WHEN EXISTS (SELECT FROM jsonb_object_keys(document) AS k WHERE k NOT IN (
            'format', 'format_version', 'model', 'version', 'features', 'contract', 'prediction', 'arrays', 'content_sha256', 'origin',
            'delivery', 'card', 'notice', 'sha256')) THEN 'it has a member that none has'
        WHEN jsonb_typeof(document -> 'model') IS DISTINCT FROM 'string' THEN 'model is no name'
        WHEN jsonb_typeof(document -> 'version') IS DISTINCT FROM 'number' OR document ->> 'version' !~ '^[1-9][0-9]{0,8}$' THEN 'version is no number of one'
        WHEN jsonb_typeof(document -> 'features') IS DISTINCT FROM 'array' OR jsonb_array_length(document -> 'features') NOT BETWEEN 1 AND 1600
             OR jsonb_path_exists(document, 'strict $.features[*] ? (@.type() != "string")') THEN 'features are no names'
        WHEN jsonb_typeof(document -> 'contract') IS DISTINCT FROM 'object' THEN 'contract is no object'
        WHEN jsonb_typeof(document -> 'origin') IS DISTINCT FROM 'object' THEN 'origin is no object'
        WHEN octet_length(document ->> 'origin') > 4096 OR jsonb_path_exists(document, 'strict $.origin.* ? (@.type() != "string" && @.type() != "null")')
            THEN 'origin has other than short texts'
        WHEN jsonb_typeof(document -> 'prediction') IS DISTINCT FROM 'string' THEN 'prediction is no text'
        WHEN coalesce(jsonb_typeof(document -> 'arrays'), 'null') NOT IN ('string', 'null') THEN 'arrays are no text'
        WHEN document ->> 'arrays' !~ '^[A-Za-z0-9+/]*={0,2}$' OR length(document ->> 'arrays') % 4 <> 0 THEN 'arrays are not of base64'
        WHEN coalesce(document ->> 'content_sha256', '') !~ '^[0-9a-f]{64}$' THEN 'content_sha256 is no SHA-256'
        WHEN coalesce(jsonb_typeof(document -> 'card'), 'null') NOT IN ('object', 'null') THEN 'card is no object' END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no exported model', DETAIL = format('In it %s.', wrong);
    ELSIF octet_length(document ->> 'prediction') > 67108864 OR octet_length(document ->> 'arrays') > 139810136 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the exported model is too large',
            DETAIL = 'A prediction has at most 64 MiB, its arrays 100 MiB.';
    END IF;
END
$$;

COMMENT ON FUNCTION federated._check_document(jsonb) IS 'Raises an error where a document is none that federated_export_model returns: 22023, 0A000 of another format version, 54000';

CREATE FUNCTION @extschema@.federated_import_model(
    document jsonb, name text DEFAULT NULL, file_sha256 bytea DEFAULT NULL, signature text DEFAULT 'unchecked', signed_by text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    called  text := coalesce(name, document ->> 'model');
    content text := document ->> 'prediction';
    arrays  bytea;
    numbers jsonb;
BEGIN
    PERFORM federated._check_document(document);
    arrays := decode(document ->> 'arrays', 'base64');
    IF encode(sha256(convert_to(content, 'UTF8') || coalesce(arrays, '')), 'hex') <> document ->> 'content_sha256' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the exported model was changed or damaged',
            DETAIL = 'Its numbers are not those of which content_sha256 is the hash.';
    ELSIF coalesce(document #>> '{contract,algorithm}', '') NOT IN (
        'logistic_regression', 'linear_regression', 'poisson_regression', 'cox_regression', 'neural_network', 'cnn', 'lstm', 'gru', 'transformer',
        'random_forest', 'gradient_boosting') THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('there is no algorithm "%s" here', left(coalesce(document #>> '{contract,algorithm}', ''), 63));
    END IF;
    BEGIN
        numbers := content::jsonb;
        -- None has more than four; what goes through it would come to the end of its stack.
        IF jsonb_path_exists(numbers, '$.**{17 to last}') THEN
            RAISE program_limit_exceeded;
        END IF;
    EXCEPTION WHEN invalid_text_representation OR untranslatable_character OR numeric_value_out_of_range OR program_limit_exceeded THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no exported model',
            DETAIL = 'In it prediction is no JSON, or is nested deeper than 16 levels.';
    END;
    INSERT INTO federated.imported_model AS i (name, version, features, contract, prediction, prediction_arrays, origin, card, file_sha256, signature, signed_by)
    VALUES (called, (document ->> 'version')::integer,
            ARRAY(SELECT f.feature FROM jsonb_array_elements_text(document -> 'features') WITH ORDINALITY AS f (feature, place) ORDER BY f.place),
            document -> 'contract', numbers, arrays, document -> 'origin', nullif(document -> 'card', 'null'), file_sha256, signature, signed_by);
    RETURN called;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_import_model(jsonb, text, bytea, text, text) IS
    'Makes a model of what federated_export_model returned, here or in another database, under its own name or another; returns the name. It predicts as it did there, to the bit: it is not trained further, tagged or delivered. signature (verified, delivery, none, unchecked) and signed_by are what the importer says of the file. 22023 for what was changed, damaged or is none, 0A000 for a newer format or an algorithm that is not here, 42710 where the name is taken';

CREATE FUNCTION @extschema@.federated_drop_imported_model(model text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.imported_model AS i WHERE i.name = model;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('no federated model "%s" was imported into this database', model);
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_drop_imported_model(text) IS
    'Drops a model that was imported, its numbers and its functions; 2BP01 where other objects depend on these';

CREATE VIEW @extschema@.federated_model_imports AS
SELECT i.name AS model_name, i.version, i.contract ->> 'algorithm' AS algorithm, i.contract ->> 'target' AS target, i.features,
       i.origin ->> 'model' AS origin_model, i.origin ->> 'workspace' AS origin_workspace, i.origin ->> 'version_key' AS origin_key,
       i.origin ->> 'exported_at' AS exported_at, encode(i.file_sha256, 'hex') AS file_sha256, i.signature, i.signed_by, i.card, i.owner,
       i.imported_at
FROM federated.imported_model AS i;

COMMENT ON VIEW @extschema@.federated_model_imports IS 'The models that were imported from files, and where they are from';

COMMENT ON COLUMN @extschema@.federated_model_imports.model_name IS 'The model''s name here: federated_predict names it so';

COMMENT ON COLUMN @extschema@.federated_model_imports.version IS 'The number of the version where it was exported';

COMMENT ON COLUMN @extschema@.federated_model_imports.algorithm IS 'The algorithm that it was trained by';

COMMENT ON COLUMN @extschema@.federated_model_imports.target IS 'The column that it predicts';

COMMENT ON COLUMN @extschema@.federated_model_imports.features IS 'The columns that it predicts from';

COMMENT ON COLUMN @extschema@.federated_model_imports.origin_model IS 'Its name where it was exported, as the file says';

COMMENT ON COLUMN @extschema@.federated_model_imports.origin_workspace IS 'The workspace in which it was trained, as the file says';

COMMENT ON COLUMN @extschema@.federated_model_imports.origin_key IS 'The version''s own name where it was trained, as the file says: no other version has it';

COMMENT ON COLUMN @extschema@.federated_model_imports.exported_at IS 'When it was exported, as the file says';

COMMENT ON COLUMN @extschema@.federated_model_imports.file_sha256 IS 'SHA-256 of the file, hexadecimal; NULL where the importer did not say';

COMMENT ON COLUMN @extschema@.federated_model_imports.signature IS
    'What the importer found: verified, the whole file was signed by a certificate that they brought; delivery, by that one its numbers, as it delivered them: nothing else of the file was kept, and the version may not be current any more; none, the file had none or none was looked at; unchecked where they do not say';

COMMENT ON COLUMN @extschema@.federated_model_imports.signed_by IS 'SHA-256 of the certificate whose key signed, hexadecimal; NULL unless signature is verified or delivery';

COMMENT ON COLUMN @extschema@.federated_model_imports.card IS 'The model card that came with it; NULL where none did';

COMMENT ON COLUMN @extschema@.federated_model_imports.owner IS 'Whose it is here: the role that imported it';

COMMENT ON COLUMN @extschema@.federated_model_imports.imported_at IS 'When it was imported';

CREATE VIEW @extschema@.federated_model_exports AS
SELECT e.workspace, e.model_name, e.version, e.exported_by, e.exported_at FROM federated.model_export AS e;

COMMENT ON VIEW @extschema@.federated_model_exports IS 'The versions that left as files, and by whom: an erasure does not reach these copies, so their holders must be told';

COMMENT ON COLUMN @extschema@.federated_model_exports.workspace IS 'The workspace in which the version was trained; empty for a model that was imported';

COMMENT ON COLUMN @extschema@.federated_model_exports.model_name IS 'The model, by its name at the time';

COMMENT ON COLUMN @extschema@.federated_model_exports.version IS 'The number of the version';

COMMENT ON COLUMN @extschema@.federated_model_exports.exported_by IS 'The role that exported it';

COMMENT ON COLUMN @extschema@.federated_model_exports.exported_at IS 'When';

-- Who calls by HTTP: tokens that stand for a role, and requests that may be sent again.
--
-- What always holds: a token is shown once and kept as its hash; it stands for a role that its maker is a member of, never for a
-- superuser, for a year at most. Whoever is refused is told nothing but that.
-- Neither table is dumped: what opens one database is to open no copy of it.
CREATE TABLE federated.api_token (
    token_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    role_id      oid NOT NULL,
    role_name    name NOT NULL,
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    description  text NOT NULL DEFAULT '' CHECK (octet_length(description) <= 1000),
    created_by   name NOT NULL DEFAULT current_user,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    revoked_by   name,
    CHECK (num_nulls(revoked_at, revoked_by) IN (0, 2))
);

COMMENT ON TABLE federated.api_token IS 'Bearer tokens of heliosdb api: each stands for a role until it expires or is revoked. Not dumped';

COMMENT ON COLUMN federated.api_token.role_id IS 'The role itself: one that is made anew under the same name has none of its tokens';

COMMENT ON COLUMN federated.api_token.role_name IS 'Its name when the token was made';

COMMENT ON COLUMN federated.api_token.token_sha256 IS 'SHA-256 of the token''s text: the token itself is kept nowhere';

CREATE TABLE federated.api_request (
    role_id         oid NOT NULL,
    idempotency_key text NOT NULL CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    request_sha256  bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    run_id          uuid,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (role_id, idempotency_key)
);

CREATE INDEX api_token_by_role ON federated.api_token (role_id);

CREATE INDEX api_request_by_age ON federated.api_request (created_at);

COMMENT ON TABLE federated.api_request IS
    'Requests to heliosdb api that came with an Idempotency-Key, for a day: what is sent again is answered again and not done again. Not dumped';

COMMENT ON COLUMN federated.api_request.request_sha256 IS 'Of what was asked: the same key with another request is refused';

COMMENT ON COLUMN federated.api_request.run_id IS 'What it started; NULL only inside the transaction that starts it';

SELECT pg_catalog.pg_extension_config_dump('federated.api_token', 'WHERE false');

SELECT pg_catalog.pg_extension_config_dump('federated.api_request', 'WHERE false');

-- In PL/pgSQL, like all that each call by HTTP asks: a session keeps its plans, where a function in SQL would be planned anew.
CREATE FUNCTION federated._may_serve(role_id oid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_roles AS r
        WHERE r.oid = _may_serve.role_id AND NOT (r.rolsuper OR r.rolbypassrls OR r.rolreplication)
          -- What daemons and the product itself act as is no person's.
          AND NOT EXISTS (
              SELECT FROM pg_roles AS p
              WHERE p.rolname IN ('federated_api', 'federated_daemon', 'federated_reader', 'federated_owner', 'federated_probe',
                                  'federated_aggregator')
                AND pg_has_role(r.oid, p.oid, 'MEMBER')));
END
$$;

COMMENT ON FUNCTION federated._may_serve(oid) IS
    'Whether calls by HTTP may run as a role: it exists, has no power beyond its grants (SUPERUSER, BYPASSRLS, REPLICATION) and is no daemon''s';

CREATE FUNCTION federated._has_room_for_token(role_id oid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Two transactions would not see each other's tokens.
    PERFORM pg_advisory_xact_lock(hashtextextended('heliosdb_federated.api_token:' || _has_room_for_token.role_id, 0));
    RETURN (SELECT count(*) < 100 FROM federated.api_token AS t
            WHERE t.role_id = _has_room_for_token.role_id AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp());
END
$$;

COMMENT ON FUNCTION federated._has_room_for_token(oid) IS
    'Whether a role has fewer valid tokens than it may have; until the transaction ends nobody else makes one for it';

CREATE FUNCTION federated._check_token() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject name := (SELECT r.rolname FROM pg_roles AS r WHERE r.oid = NEW.role_id);
BEGIN
    IF subject IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the role of a token must exist';
    -- From version 16 on a membership may come without the right to become the role.
    ELSIF NOT pg_has_role(NEW.role_id, CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be able to SET ROLE "%s"', subject);
    ELSIF NOT federated._may_serve(NEW.role_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('role "%s" can have no token', subject),
            DETAIL = 'A token stands for no superuser, for no role with BYPASSRLS or REPLICATION, and for no role of a daemon.';
    ELSIF NEW.expires_at <= clock_timestamp() OR NEW.expires_at > clock_timestamp() + interval '1 year' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a token must be valid for longer than nothing and for a year at most';
    ELSIF NOT federated._has_room_for_token(NEW.role_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('role "%s" has too many tokens', subject),
            DETAIL = 'A role may have 100 that are valid.',
            HINT = 'Revoke some: SELECT federated_revoke_token(token_id) FROM federated_tokens WHERE status = ''valid'' AND ...';
    END IF;
    NEW.role_name := subject;
    NEW.created_by := current_user;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_token() IS 'Keeps tokens to roles that their makers may become, to a year, and to a number for each role';

CREATE FUNCTION federated._check_token_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (OLD.created_by = current_user OR coalesce(pg_has_role(OLD.role_id, 'USAGE'), false) OR federated._has_role('federated_admin')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to revoke a token',
            HINT = 'Its maker, members of its role and of federated_admin may.';
    ELSIF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the token is revoked already';
    END IF;
    NEW := OLD;
    NEW.revoked_at := clock_timestamp();
    NEW.revoked_by := current_user;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION federated._check_token_change() IS 'Lets a token be revoked, once, by those whose it is, and nothing else of it change';

CREATE TRIGGER check_token BEFORE INSERT ON federated.api_token
    FOR EACH ROW EXECUTE FUNCTION federated._check_token();

CREATE TRIGGER check_token_change BEFORE UPDATE ON federated.api_token
    FOR EACH ROW EXECUTE FUNCTION federated._check_token_change();

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.api_token
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION @extschema@.federated_create_token(
    role name, valid interval DEFAULT '90 days', description text DEFAULT ''
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = federated_create_token.role);
    -- 244 bits of the server's strong random source.
    body    text := 'hfl_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'hex');
    token   text := body || left(encode(sha256(convert_to(body, 'UTF8')), 'hex'), 8);
BEGIN
    IF role IS NULL OR valid IS NULL OR description IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'role, valid and description of a token must not be null';
    ELSIF subject IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', role);
    ELSIF valid > interval '1 year' OR valid <= interval '0' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a token must be valid for longer than nothing and for a year at most';
    END IF;
    INSERT INTO federated.api_token (role_id, token_sha256, description, expires_at)
    VALUES (subject, sha256(convert_to(token, 'UTF8')), description, clock_timestamp() + valid);
    RETURN token;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_create_token(name, interval, text) IS
    'Makes a bearer token with which calls to heliosdb api run as a role, which the caller must be a member of and which must be no superuser, and returns it: it is shown this once, and kept as its hash. It is valid for a year at most, and a role has 100 valid ones at most. The token is hfl_, 64 hexadecimal digits of random and 8 of a checksum (the first of SHA-256 of what stands before them)';

-- Updated through itself by federated_revoke_token: so a caller reaches the tokens that it may see, and no others.
CREATE VIEW @extschema@.federated_tokens WITH (security_barrier) AS
SELECT t.token_id, coalesce((SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.oid = t.role_id), t.role_name) AS role,
       t.description, t.created_by, t.created_at, t.expires_at, t.revoked_at, t.revoked_by,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' WHEN t.expires_at <= pg_catalog.clock_timestamp() THEN 'expired'
            WHEN NOT federated._may_serve(t.role_id) THEN 'refused' ELSE 'valid' END AS status
FROM federated.api_token AS t
WHERE t.created_by = current_user OR coalesce(pg_catalog.pg_has_role(t.role_id, 'USAGE'), false)
   OR federated._has_role('federated_auditor') OR federated._has_role('federated_admin');

COMMENT ON VIEW @extschema@.federated_tokens IS
    'Bearer tokens of heliosdb api: those that the caller has made or whose role it has; all of them for members of federated_auditor and federated_admin';

COMMENT ON COLUMN @extschema@.federated_tokens.token_id IS 'What federated_revoke_token takes: the token itself is kept nowhere';

COMMENT ON COLUMN @extschema@.federated_tokens.role IS 'Whom a call with it runs as';

COMMENT ON COLUMN @extschema@.federated_tokens.description IS 'What its maker said of it';

COMMENT ON COLUMN @extschema@.federated_tokens.created_by IS 'The role that made it';

COMMENT ON COLUMN @extschema@.federated_tokens.created_at IS 'When it was made';

COMMENT ON COLUMN @extschema@.federated_tokens.expires_at IS 'From when on it is refused';

COMMENT ON COLUMN @extschema@.federated_tokens.revoked_at IS 'When it was revoked; NULL where it was not';

COMMENT ON COLUMN @extschema@.federated_tokens.revoked_by IS 'The role that revoked it';

COMMENT ON COLUMN @extschema@.federated_tokens.status IS
    'valid, expired, revoked, or refused: its role is gone, or has become one that can have no token';

CREATE FUNCTION @extschema@.federated_revoke_token(token_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.federated_tokens AS t SET revoked_at = clock_timestamp() WHERE t.token_id = federated_revoke_token.token_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'there is no such token',
            HINT = 'SELECT token_id, role, description, status FROM federated_tokens shows yours.';
    END IF;
END
$$;

COMMENT ON FUNCTION @extschema@.federated_revoke_token(uuid) IS
    'Revokes a bearer token at once and for good: its maker may, a member of its role and of federated_admin. federated_tokens shows its token_id';

CREATE FUNCTION federated._authenticate(digest bytea, OUT role name) RETURNS name
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject oid := (SELECT t.role_id FROM federated.api_token AS t
                    WHERE t.token_sha256 = digest AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp());
BEGIN
    IF subject IS NOT NULL AND federated._may_serve(subject) THEN
        role := (SELECT r.rolname FROM pg_roles AS r WHERE r.oid = subject);
    END IF;
END
$$;

COMMENT ON FUNCTION federated._authenticate(bytea) IS
    'The role that a token stands for, by SHA-256 of it; NULL whatever may be wrong with it';

CREATE FUNCTION federated._servable(role name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT federated._may_serve(r.oid) FROM pg_roles AS r WHERE r.rolname = _servable.role), false);
END
$$;

COMMENT ON FUNCTION federated._servable(name) IS 'Whether calls may run as the role of that name, which a certificate or an identity provider has vouched for';

-- Predictions that heliosdb api computes outside the server: who may have them, by which version, and the numbers of that.
--
-- What always holds: each call is decided here and anew, as its caller's role, by the rights on the functions that SQL would call; which
-- version answers is the one that SQL would take, or its error. Numbers are handed out for a role that the one who asks may become
-- and that may call the version's functions, and for no other.
CREATE FUNCTION federated._may_call(role name, function_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN octet_length(function_name) < 64 AND coalesce((
        SELECT bool_and(has_function_privilege(role, p.oid, 'EXECUTE') AND has_schema_privilege(role, p.pronamespace, 'USAGE'))
        FROM pg_proc AS p
        WHERE p.proname = function_name::name
          AND p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace)), false);
END
$$;

COMMENT ON FUNCTION federated._may_call(name, text) IS 'Whether a role may call a model''s function in all its forms; false where there is none';

CREATE FUNCTION federated._may_become(role name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- From version 16 on a membership may come without the right to become the role.
    RETURN pg_has_role(session_user, role, CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END);
END
$$;

COMMENT ON FUNCTION federated._may_become(name) IS 'Whether the role that logged in may become another one';

-- One statement that asks all of it: what a call by HTTP asks in several (catalog/sql/api.sql), in the same order. The role that it
-- sets is the caller's until the transaction ends, which this statement is.
CREATE FUNCTION federated._admit_call(
    digest bytea, vouched name, reference text, OUT outcome text, OUT role name, OUT model_name text, OUT version integer, OUT numbers_id uuid
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    role := CASE WHEN digest IS NOT NULL THEN federated._authenticate(digest) WHEN federated._servable(vouched) THEN vouched END;
    IF role IS NULL THEN
        outcome := 'unknown';
        RETURN;
    ELSIF NOT federated._may_become(role) THEN
        outcome := 'ungranted';
        RETURN;
    ELSIF NOT pg_has_role(role, 'federated_analyst', 'USAGE') THEN
        outcome := 'forbidden';
        RETURN;
    END IF;
    PERFORM set_config('role', role, true);
    SELECT h.function_name, h.model_name, h.version, h.numbers_id INTO found FROM federated._find_held(reference) AS h;
    IF NOT federated._may_call(role, found.function_name) THEN
        -- A version without a function says so.
        PERFORM federated._find_function(reference);
        outcome := 'forbidden';
        RETURN;
    END IF;
    outcome := 'admitted';
    model_name := found.model_name;
    version := found.version;
    numbers_id := found.numbers_id;
END
$$;

COMMENT ON FUNCTION federated._admit_call(bytea, name, text) IS
    'Whose call it is, by a token''s SHA-256 or a role that was vouched for, and which version model, model@tag or model@number answers it by; outcome: admitted, unknown (nobody''s), ungranted (the API may not become the role) or forbidden; an error where SQL has it. The rest of the transaction runs as the caller';

-- Runs as federated_owner: what numpy computes by is nobody else's to read. The version is asked for by the name that the call had.
CREATE FUNCTION federated._served_numbers(
    role name, reference text, key uuid, OUT features text[], OUT prediction text, OUT encoding text, OUT arrays bytea
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT h.function_name, h.numbers_id, h.features, h.prediction INTO found FROM federated._find_held(reference) AS h;
    IF NOT (federated._may_become(role) AND federated._servable(role) AND pg_has_role(role, 'federated_analyst', 'USAGE')
            AND federated._may_call(role, found.function_name)) IS TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied for the numbers of a federated model';
    ELSIF found.numbers_id <> key THEN
        RETURN;
    ELSIF found.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('"%s" cannot be served', reference),
            DETAIL = 'The version was made by a release that did not keep its numbers.', HINT = 'Train the model anew.';
    ELSIF found.prediction ? 'sealed' THEN
        PERFORM federated._refuse_sealed(f.model_name, f.version, 'predictions outside the server are not made by it')
        FROM federated._find_held(reference) AS f;
    END IF;
    features := found.features;
    prediction := federated._predicting(found.prediction - '{encoding,booleans}'::text[])::text;
    encoding := federated._encoding_text(found.features, federated._flags(found.prediction), found.prediction);
    arrays := (SELECT v.prediction_arrays FROM federated.held_version AS v WHERE v.numbers_id = key);
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION federated._served_numbers(name, text, uuid) IS
    'What a version predicts by, for a role that the one who logged in may become and that may call it; no row where the name leads to another version by now, 55000 where it was retired or is withheld';

CREATE FUNCTION federated._still_predict(keys uuid[]) RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(v.numbers_id), '{}') FROM federated.held_version AS v
    WHERE v.numbers_id = ANY (keys) AND NOT v.is_retired AND NOT v.is_withheld
$$;

COMMENT ON FUNCTION federated._still_predict(uuid[]) IS 'Which of the versions of these keys are there, not retired and not withheld';

CREATE FUNCTION federated._tell_versions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Says nothing: whoever hears it asks what they may see.
    PERFORM pg_notify('heliosdb_versions', '');
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION federated._tell_versions() IS 'Notifies the channel heliosdb_versions, at COMMIT, that another version may answer';

CREATE TRIGGER tell_versions AFTER INSERT OR DELETE OR UPDATE OF is_current, retired_at, withheld ON federated.version
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();

CREATE TRIGGER tell_versions AFTER INSERT OR DELETE OR UPDATE OF is_current, retired_at ON federated.delivered_version
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();

CREATE TRIGGER tell_versions AFTER INSERT OR DELETE ON federated.imported_model
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();

CREATE TRIGGER tell_versions AFTER INSERT OR DELETE OR UPDATE ON federated.tag
    FOR EACH STATEMENT EXECUTE FUNCTION federated._tell_versions();

-- What SHOW FEDERATED shows: one view a kind of object (federated_runs stands with the other figures of runs), and a function
-- that the proxy calls for each. All of it is in the catalog for the same roles; nothing is asked of a node.
CREATE VIEW @extschema@.federated_workspaces AS
SELECT w.name AS workspace_name, w.owner, coalesce(w.options ->> 'compliance_mode', 'none') AS compliance_mode,
       s.status, s.registered_nodes AS nodes, s.active_nodes, s.min_nodes_required AS min_nodes,
       (SELECT count(*) FROM federated.model AS m WHERE m.workspace_id = w.workspace_id) AS models,
       b.total_budget_epsilon AS privacy_budget, b.consumed_epsilon, b.remaining_epsilon,
       w.options ->> 'data_residency' AS data_residency, w.options, w.created_at
FROM federated.workspace AS w
JOIN @extschema@.federated_workspace_status AS s ON s.workspace_name = w.name
JOIN @extschema@.federated_privacy_budget_status AS b ON b.workspace_name = w.name;

COMMENT ON VIEW @extschema@.federated_workspaces IS 'Every workspace: what SHOW FEDERATED WORKSPACES shows';

COMMENT ON COLUMN @extschema@.federated_workspaces.workspace_name IS 'Its name';

COMMENT ON COLUMN @extschema@.federated_workspaces.owner IS 'The role whose members may change it';

COMMENT ON COLUMN @extschema@.federated_workspaces.compliance_mode IS 'The option; none where nothing is enforced';

COMMENT ON COLUMN @extschema@.federated_workspaces.status IS 'As in federated_workspace_status: whether a run could begin in it';

COMMENT ON COLUMN @extschema@.federated_workspaces.nodes IS 'Nodes that are registered, in whatever state';

COMMENT ON COLUMN @extschema@.federated_workspaces.active_nodes IS 'Nodes that the coordinator reaches now';

COMMENT ON COLUMN @extschema@.federated_workspaces.min_nodes IS 'How many a run needs';

COMMENT ON COLUMN @extschema@.federated_workspaces.models IS 'How many models it has';

COMMENT ON COLUMN @extschema@.federated_workspaces.privacy_budget IS 'The option; NULL: answers leave without noise';

COMMENT ON COLUMN @extschema@.federated_workspaces.consumed_epsilon IS 'As in federated_privacy_budget_status';

COMMENT ON COLUMN @extschema@.federated_workspaces.remaining_epsilon IS 'Never below 0; NULL without a budget';

COMMENT ON COLUMN @extschema@.federated_workspaces.data_residency IS 'The option; NULL where data may lie anywhere';

COMMENT ON COLUMN @extschema@.federated_workspaces.options IS 'The options that a statement set; what is absent has its default';

COMMENT ON COLUMN @extschema@.federated_workspaces.created_at IS 'When it was made';

CREATE VIEW @extschema@.federated_nodes AS
SELECT w.name AS workspace_name, n.name AS node_name, n.status::text AS status, n.failure_reason,
       n.options ->> 'endpoint' AS endpoint, n.options ->> 'data_residency' AS data_residency,
       (SELECT array_agg(d ->> 'name' || CASE WHEN (d ->> 'paused')::boolean THEN ' (paused)' ELSE '' END ORDER BY d ->> 'name')
        FROM jsonb_array_elements(n.datasets) AS d) AS datasets,
       coalesce(n.dataset_size, (n.options ->> 'dataset_size')::bigint) AS dataset_size, n.plain_answers, n.extras,
       n.certificate_expires, n.last_seen, n.registered_at
FROM federated.node AS n
JOIN federated.workspace AS w USING (workspace_id);

COMMENT ON VIEW @extschema@.federated_nodes IS
    'Every registered node: what SHOW FEDERATED NODES shows. How it takes part in rounds: federated_node_status';

COMMENT ON COLUMN @extschema@.federated_nodes.workspace_name IS 'Where it is registered';

COMMENT ON COLUMN @extschema@.federated_nodes.node_name IS 'Name of the node in its workspace';

COMMENT ON COLUMN @extschema@.federated_nodes.status IS 'pending: not met yet; active; slow: it misses heartbeats; failed: failure_reason says why';

COMMENT ON COLUMN @extschema@.federated_nodes.failure_reason IS 'Why it is slow or failed; NULL of all others';

COMMENT ON COLUMN @extschema@.federated_nodes.endpoint IS 'Where it answers; NULL of a node that dials or that Flower reaches';

COMMENT ON COLUMN @extschema@.federated_nodes.data_residency IS 'Where its data lie, as registered; NULL where nothing was said';

COMMENT ON COLUMN @extschema@.federated_nodes.datasets IS 'What it shares with the workspace, by its own word when it was last greeted; NULL where it was not met or shares nothing';

COMMENT ON COLUMN @extschema@.federated_nodes.dataset_size IS
    'Rows as released in round 0 of the last run (noised under a budget), before that as declared at registration';

COMMENT ON COLUMN @extschema@.federated_nodes.plain_answers IS 'Whether its DBA lets answers leave without noise from all that it shares; NULL before it was met';

COMMENT ON COLUMN @extschema@.federated_nodes.extras IS 'What is installed there beside the product, such as neural; NULL before it was met';

COMMENT ON COLUMN @extschema@.federated_nodes.certificate_expires IS 'When the pinned certificate ends; NULL before it was met';

COMMENT ON COLUMN @extschema@.federated_nodes.last_seen IS 'When it last answered; NULL before any';

COMMENT ON COLUMN @extschema@.federated_nodes.registered_at IS 'When it was registered';

CREATE VIEW @extschema@.federated_models AS
SELECT w.name AS workspace_name, m.name AS model_name, m.owner, m.options ->> 'algorithm' AS algorithm,
       m.options -> 'features' AS features, m.options ->> 'target' AS target, coalesce(r.status, 'untrained') AS status,
       coalesce(r.runs, 0) AS runs, v.version,
       (SELECT array_agg(t.name ORDER BY t.name) FROM federated.tag AS t
        WHERE t.model_id = m.model_id AND t.version = v.version) AS tags,
       v.global_loss, v.global_accuracy, v.epsilon, v.created_at AS trained_at, m.options, m.created_at
FROM federated.model AS m
JOIN federated.workspace AS w USING (workspace_id)
LEFT JOIN federated.version AS v ON v.model_id = m.model_id AND v.is_current
LEFT JOIN LATERAL (
    SELECT q.status::text AS status, count(*) OVER () AS runs
    FROM federated.run AS q WHERE q.model_id = m.model_id
    ORDER BY q.waiting, q.created_at DESC, q.run_id DESC LIMIT 1
) AS r ON true;

COMMENT ON VIEW @extschema@.federated_models IS 'Every model: what SHOW FEDERATED MODELS shows';

COMMENT ON COLUMN @extschema@.federated_models.workspace_name IS 'Where it is trained';

COMMENT ON COLUMN @extschema@.federated_models.model_name IS 'Its name';

COMMENT ON COLUMN @extschema@.federated_models.owner IS 'The role whose members may change and train it; the owner of its workspace may too';

COMMENT ON COLUMN @extschema@.federated_models.algorithm IS 'The option; NULL where it is not set yet';

COMMENT ON COLUMN @extschema@.federated_models.features IS 'The option, as a JSON array; NULL where it is not set yet';

COMMENT ON COLUMN @extschema@.federated_models.target IS 'The option; NULL where it is not set yet';

COMMENT ON COLUMN @extschema@.federated_models.status IS 'Of its latest run, as in federated_runs; untrained where there is none';

COMMENT ON COLUMN @extschema@.federated_models.runs IS 'How many there were, those of a series each by itself';

COMMENT ON COLUMN @extschema@.federated_models.version IS 'Which version predicts; NULL where none does';

COMMENT ON COLUMN @extschema@.federated_models.tags IS 'Of that version; NULL where it has none';

COMMENT ON COLUMN @extschema@.federated_models.global_loss IS 'Of that version, as in federated_model_versions';

COMMENT ON COLUMN @extschema@.federated_models.global_accuracy IS 'Of that version, as in federated_model_versions';

COMMENT ON COLUMN @extschema@.federated_models.epsilon IS 'What its workspace had spent when the version was made; NULL without a budget';

COMMENT ON COLUMN @extschema@.federated_models.trained_at IS 'When that version was made';

COMMENT ON COLUMN @extschema@.federated_models.options IS 'The options that a statement set; what is absent has its default';

COMMENT ON COLUMN @extschema@.federated_models.created_at IS 'When the model was made';

-- Which consent counts, and which phi_check, follows from the workspace's compliance mode too, which each task names.
CREATE VIEW @extschema@.federated_datasets AS
SELECT d.name AS dataset_name, d.workspace AS workspace_name, d.relation, d.columns, d.predicate,
       CASE WHEN (d.options ->> 'paused')::boolean THEN 'paused' ELSE 'shared' END AS state,
       d.options ->> 'subject' AS subject, (d.options ->> 'require_consent')::boolean AS require_consent,
       d.options ? 'consent_query' AS has_consent_query, d.options ->> 'purpose' AS purpose,
       (d.options ->> 'plain_answers')::boolean AS plain_answers, (d.options ->> 'min_rows')::integer AS min_rows,
       (SELECT min(b.max_epsilon) FROM federated.base_table AS b WHERE b.base_table_id = ANY (d.base_tables)) AS max_epsilon,
       a.epsilon AS agreed_epsilon, a.delta AS agreed_delta, coalesce(s.charges, 0) AS charges, s.epsilon_tight,
       d.options, d.owner, d.created_at
FROM federated.dataset AS d
LEFT JOIN LATERAL (
    SELECT min(g.epsilon) AS epsilon, min(g.delta) AS delta
    FROM federated.agreement AS g WHERE g.workspace = d.workspace AND g.base_tables && d.base_tables
) AS a ON true
LEFT JOIN LATERAL (
    SELECT p.epsilon_tight, count(*) OVER () AS charges
    FROM federated.spending AS p WHERE p.base_tables && d.base_tables ORDER BY p.spending_id DESC LIMIT 1
) AS s ON true;

COMMENT ON VIEW @extschema@.federated_datasets IS
    'At a node: every dataset that this database shares, what SHOW FEDERATED DATASETS shows. What each workspace has spent: federated_dataset_budget';

COMMENT ON COLUMN @extschema@.federated_datasets.dataset_name IS 'Its name';

COMMENT ON COLUMN @extschema@.federated_datasets.workspace_name IS 'Which workspace may learn from it';

COMMENT ON COLUMN @extschema@.federated_datasets.relation IS 'The table behind it, as it was named when shared';

COMMENT ON COLUMN @extschema@.federated_datasets.columns IS 'What is shared of it, the subject aside';

COMMENT ON COLUMN @extschema@.federated_datasets.predicate IS 'Which rows are shared, as SQL; NULL where all are';

COMMENT ON COLUMN @extschema@.federated_datasets.state IS 'shared, or paused: it answers nothing for now';

COMMENT ON COLUMN @extschema@.federated_datasets.subject IS 'The column that names the data subject; NULL: every row is one';

COMMENT ON COLUMN @extschema@.federated_datasets.require_consent IS 'The option; NULL where it was not set: then the workspace''s compliance mode decides';

COMMENT ON COLUMN @extschema@.federated_datasets.has_consent_query IS 'Whether consent is read by a query of the DBA''s, beside the register';

COMMENT ON COLUMN @extschema@.federated_datasets.purpose IS 'The option: for which purpose consent is asked; NULL where none was named';

COMMENT ON COLUMN @extschema@.federated_datasets.plain_answers IS 'The option; NULL where it was not set: then the site''s setting and the compliance mode decide';

COMMENT ON COLUMN @extschema@.federated_datasets.min_rows IS 'The option; NULL where it was not set';

COMMENT ON COLUMN @extschema@.federated_datasets.max_epsilon IS 'The smallest ceiling that any dataset over its tables ever had, which holds; NULL where none had one';

COMMENT ON COLUMN @extschema@.federated_datasets.agreed_epsilon IS 'What the workspace''s first private release bound it to; NULL before any';

COMMENT ON COLUMN @extschema@.federated_datasets.agreed_delta IS 'The delta of these terms';

COMMENT ON COLUMN @extschema@.federated_datasets.charges IS 'How many tasks were charged to its tables, of all workspaces';

COMMENT ON COLUMN @extschema@.federated_datasets.epsilon_tight IS 'What the node''s ledger showed with the last of these: all of all workspaces, composed; NULL without a charge';

COMMENT ON COLUMN @extschema@.federated_datasets.options IS 'The options that a statement set; what is absent has its default';

COMMENT ON COLUMN @extschema@.federated_datasets.owner IS 'The role whose members may change it';

COMMENT ON COLUMN @extschema@.federated_datasets.created_at IS 'When it was shared';

CREATE FUNCTION federated.show_workspaces(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_workspaces
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_workspaces AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name;
END
$$;

COMMENT ON FUNCTION federated.show_workspaces(text) IS 'SHOW FEDERATED WORKSPACES, as the proxy calls it';

CREATE FUNCTION federated.show_nodes(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_nodes
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_nodes AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name, s.node_name;
END
$$;

COMMENT ON FUNCTION federated.show_nodes(text) IS 'SHOW FEDERATED NODES, as the proxy calls it';

CREATE FUNCTION federated.show_models(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_models
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_models AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name, s.model_name;
END
$$;

COMMENT ON FUNCTION federated.show_models(text) IS 'SHOW FEDERATED MODELS, as the proxy calls it';

CREATE FUNCTION federated.show_runs(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_runs
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_runs AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.queued_at, s.model_name, s.run;
END
$$;

COMMENT ON FUNCTION federated.show_runs(text) IS 'SHOW FEDERATED RUNS, as the proxy calls it';

-- A participant has no row of the workspaces that it shares with.
CREATE FUNCTION federated.show_datasets(workspace text DEFAULT NULL) RETURNS SETOF @extschema@.federated_datasets
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF workspace IS NOT NULL AND NOT EXISTS (SELECT FROM federated.dataset AS d WHERE d.workspace = show_datasets.workspace) THEN
        PERFORM federated._workspace_id(workspace);
    END IF;
    RETURN QUERY SELECT s.* FROM @extschema@.federated_datasets AS s
    WHERE workspace IS NULL OR s.workspace_name = workspace ORDER BY s.workspace_name, s.dataset_name;
END
$$;

COMMENT ON FUNCTION federated.show_datasets(text) IS 'SHOW FEDERATED DATASETS, as the proxy calls it';

-- What a START would do. Everything is read with the caller's rights, in a function that can write nothing.
CREATE FUNCTION federated._explain(command text) RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"failure": {"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}}')
return door.explain(plpy, command, "1.2")
$$;

COMMENT ON FUNCTION federated._explain(text) IS
    'Explains one EXPLAIN START FEDERATED TRAINING; returns {"plan": lines} or the {"failure"} that federated.explain then raises';

CREATE FUNCTION federated.explain(command text, OUT "QUERY PLAN" text) RETURNS SETOF text
LANGUAGE plpgsql STABLE ROWS 40 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    explained jsonb := federated._explain(command);
BEGIN
    PERFORM federated._raise(explained -> 'failure');
    RETURN QUERY SELECT l.line FROM jsonb_array_elements_text(explained -> 'plan') WITH ORDINALITY AS l (line, place) ORDER BY l.place;
END
$$;

COMMENT ON FUNCTION federated.explain(text) IS
    'What a START FEDERATED TRAINING would do, by the statement EXPLAIN [(FORMAT TEXT | JSON)] START ..., as the proxy calls it: nothing is run, charged or asked of a node';

-- The functions in federated_model belong to federated_owner, and so do the two that make them: nobody who may log
-- in can put a body of their own where a superuser would run it.
-- Owners come before rights: a change of owner after them leaves the old owner in what pg_dump takes for the
-- extension's own grants.
ALTER FUNCTION federated._keep_model_function() OWNER TO federated_owner;

ALTER FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) OWNER TO federated_owner;

ALTER FUNCTION federated._score_block(text, bytea) OWNER TO federated_owner;

ALTER FUNCTION federated._count_sealed(text, text) OWNER TO federated_owner;

ALTER FUNCTION federated._explain_row(text, bytea, integer, bigint) OWNER TO federated_owner;

ALTER FUNCTION federated._hold_experiment(uuid, text) OWNER TO federated_owner;

ALTER FUNCTION federated._record_calls(uuid, text, text[], double precision[]) OWNER TO federated_owner;

ALTER FUNCTION federated._record_outcome(uuid, text, text, double precision) OWNER TO federated_owner;

ALTER FUNCTION federated._fold_experiments(text) OWNER TO federated_owner;

ALTER FUNCTION federated._experiment_sums(uuid) OWNER TO federated_owner;

ALTER FUNCTION federated._is_undecided(uuid) OWNER TO federated_owner;

ALTER FUNCTION federated._close_arms() OWNER TO federated_owner;

ALTER FUNCTION federated._keep_version_functions() OWNER TO federated_owner;

ALTER FUNCTION federated._retire_current() OWNER TO federated_owner;

ALTER FUNCTION federated._publish_version() OWNER TO federated_owner;

ALTER FUNCTION federated._keep_withdrawn_functions() OWNER TO federated_owner;

ALTER FUNCTION federated._queue_retraining(uuid, boolean) OWNER TO federated_owner;

ALTER FUNCTION federated._withhold_at_once() OWNER TO federated_owner;

ALTER FUNCTION federated._advance_series() OWNER TO federated_owner;

ALTER FUNCTION federated._keep_subscribed_functions() OWNER TO federated_owner;

ALTER FUNCTION federated._keep_imported_functions() OWNER TO federated_owner;

ALTER FUNCTION federated._take_version(text, integer, uuid, text[], text, text, bytea, bytea, bytea, bytea, bytea, uuid) OWNER TO federated_owner;

ALTER FUNCTION federated._refuse_version(text, uuid, text) OWNER TO federated_owner;

ALTER FUNCTION federated._withdraw_version(text, text, text, text, uuid) OWNER TO federated_owner;

ALTER FUNCTION federated._destroy_personal(text) OWNER TO federated_owner;

ALTER FUNCTION federated._drop_personal() OWNER TO federated_owner;

ALTER FUNCTION federated._hold_checkpoint(bigint) OWNER TO federated_owner;

ALTER FUNCTION federated._adopt_run(uuid, jsonb) OWNER TO federated_owner;

ALTER FUNCTION federated._read_checkpoint(bigint, uuid, integer, text, integer, integer) OWNER TO federated_owner;

ALTER FUNCTION federated._is_manifest(uuid, integer, bytea) OWNER TO federated_owner;

ALTER FUNCTION federated._probe_as_reader(text) OWNER TO federated_probe;

ALTER FUNCTION federated._subject_rows(text) OWNER TO federated_probe;

ALTER FUNCTION federated._subject_values(text, bigint) OWNER TO federated_probe;

ALTER FUNCTION federated._write_export(uuid) OWNER TO federated_owner;

ALTER FUNCTION federated._erase_rows(text) OWNER TO federated_probe;

ALTER FUNCTION federated._authenticate(bytea) OWNER TO federated_owner;

ALTER FUNCTION federated._has_room_for_token(oid) OWNER TO federated_owner;

ALTER FUNCTION federated._served_numbers(name, text, uuid) OWNER TO federated_owner;

ALTER FUNCTION federated._still_predict(uuid[]) OWNER TO federated_owner;

ALTER FUNCTION federated._aggregate(text, double precision[], double precision[]) OWNER TO federated_aggregator;

-- By default a function is everybody's to call, and a type to build upon.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA federated FROM PUBLIC;

REVOKE ALL ON ALL PROCEDURES IN SCHEMA federated FROM PUBLIC;

REVOKE ALL ON FUNCTION
    @extschema@.federated_predict(text, jsonb), @extschema@.predict(text, jsonb),
    @extschema@.predict(text, double precision[]), @extschema@.federated_training_status(text, integer),
    @extschema@.federated_training_metrics(text, integer), @extschema@.wait_for_convergence(text, double precision),
    @extschema@.federated_privacy_budget(text), @extschema@.federated_audit_verify(text), @extschema@.federated_forget_heads(text),
    @extschema@.predict(text, record), @extschema@.federated_features(text, record), @extschema@.federated_predict_class(text, jsonb),
    @extschema@.federated_predict_proba(text, jsonb), @extschema@.federated_predict_batch(text, text),
    @extschema@.federated_model_versions(text), @extschema@.federated_checkpoints(text),
    @extschema@.compare_federated_models(text, text, text), @extschema@.federated_convergence_diagnostics(text, integer), @extschema@.federated_run_groups(text, integer),
    @extschema@.federated_evaluate(text), @extschema@.federated_data_quality_check(text, integer),
    @extschema@.federated_evaluate(text, text, integer, double precision, bigint, text),
    @extschema@.federated_coefficients(text), @extschema@.federated_security_audit(text),
    @extschema@.federated_compliance_check(text, text), @extschema@.federated_record_compliance_check(text, text),
    @extschema@.federated_processing_record(text), @extschema@.federated_model_card(text),
    @extschema@.federated_confusion_matrix(text), @extschema@.federated_roc_curve(text),
    @extschema@.federated_calibration(text), @extschema@.federated_feature_importance(text),
    @extschema@.federated_trials(text, integer), @extschema@.federated_accept_withdrawals(text),
    @extschema@.federated_phi_findings(text), @extschema@.federated_compliance_modes(),
    @extschema@.federated_erasure_certificate(uuid),
    @extschema@.federated_explain(text, jsonb, integer, bigint), @extschema@.federated_explain_model(text),
    @extschema@.federated_predict_experiment(text, text, jsonb), @extschema@.federated_experiment_arm(text, text),
    @extschema@.federated_report_outcome(text, text, double precision), @extschema@.federated_experiment(text),
    @extschema@.federated_predict(text, jsonb, text, text), @extschema@.federated_predict_batch(text, text, text, text),
    @extschema@.federated_export_model(text),
    @extschema@.federated_certify(text, jsonb), @extschema@.federated_certify(text), @extschema@.federated_certified_accuracy(text, text),
    @extschema@.federated_import_model(jsonb, text, bytea, text, text), @extschema@.federated_drop_imported_model(text),
    @extschema@.federated_create_token(name, interval, text), @extschema@.federated_revoke_token(uuid)
FROM PUBLIC;

REVOKE ALL ON TYPE federated.node_status, federated.run_status, federated.round_status,
    federated.participation_outcome, federated.ledger_state, federated.release_state, federated.absent FROM PUBLIC;

GRANT USAGE ON SCHEMA federated TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT USAGE ON SCHEMA federated_model, federated_row, federated_proba TO federated_analyst;

GRANT USAGE, CREATE ON SCHEMA federated_model, federated_row, federated_proba TO federated_owner;

GRANT USAGE ON SCHEMA federated_dataset TO federated_reader;

GRANT USAGE, CREATE ON SCHEMA federated_dataset TO federated_admin;

GRANT USAGE ON SCHEMA federated_subject TO federated_reader;

GRANT USAGE, CREATE ON SCHEMA federated_subject TO federated_admin;

GRANT USAGE ON SCHEMA federated_aggregation TO federated_aggregator;

GRANT USAGE, CREATE ON SCHEMA federated_aggregation TO federated_admin;

-- Statements, predictions and what is shown of runs.
GRANT EXECUTE ON FUNCTION
    federated._model_id(text), federated._workspace_id(text), federated._find_run(text, integer), federated._current_features(text),
    federated._predict_untrained(text), federated._predict_many_classes(text), federated._json_number(jsonb),
    federated._as_boolean(double precision), @extschema@.federated_training_status(text, integer), @extschema@.federated_training_metrics(text, integer),
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
    federated._create_dataset_view(text, name, name, text[], text, name[]), federated._drop_dataset_view(text),
    federated._probe_dataset(text, name[]), federated._probe_as_reader(text)
TO federated_admin;

GRANT EXECUTE ON FUNCTION
    federated._describe_arguments(jsonb), federated._drop_model_function(text, text),
    federated._create_untrained_function(text, jsonb), federated._finish_model_function(text, text),
    federated._predict_untrained(text)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) TO federated_daemon;

-- Datasets of a participant.
GRANT SELECT ON federated.phi_finding TO federated_admin, federated_auditor, federated_daemon;

GRANT INSERT, DELETE ON federated.phi_finding TO federated_admin;

GRANT EXECUTE ON FUNCTION @extschema@.federated_phi_findings(text) TO federated_admin, federated_auditor;

GRANT EXECUTE ON FUNCTION
    federated._sample_dataset(text, text[], integer, integer, name[]), federated._record_findings(bigint, text, text[], jsonb)
TO federated_admin;

GRANT EXECUTE ON FUNCTION federated._record_trained_findings(bigint, text[], jsonb) TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._claim_base_tables(bigint) TO federated_daemon;

-- Consent: what a participant's DBA says, and what the node makes of it.
GRANT EXECUTE ON FUNCTION federated._create_consent_view(text, text, name[]), federated._drop_consent_view(text) TO federated_admin;

GRANT EXECUTE ON FUNCTION federated._consent_words(text, text), federated._granted(bigint), federated._unexplained(bigint)
TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._consent_words(text, text) TO federated_admin;

GRANT SELECT ON federated.node_key TO federated_auditor;

GRANT INSERT (workspace, kind, purpose, version, sealed) ON federated.consent_request TO federated_admin;

GRANT INSERT (sealing_key) ON federated.node_key TO federated_daemon;

GRANT INSERT (workspace, digest, row_set_digest, kind, purpose, version, origin, order_id, given_by, said_at) ON federated.consent TO federated_daemon;

GRANT DELETE ON federated.consent_request TO federated_daemon;

-- Aggregation functions.
GRANT EXECUTE ON FUNCTION
    federated._create_aggregation_function(text, text, text, boolean), federated._drop_aggregation_function(text)
TO federated_admin;

GRANT EXECUTE ON FUNCTION federated._aggregate(text, double precision[], double precision[]) TO federated_daemon;

-- Names and owners.
GRANT EXECUTE ON FUNCTION federated._hold_workspace(bigint), federated._rename(text, bigint, text) TO federated_operator;

GRANT EXECUTE ON FUNCTION
    federated._has_role(name), federated._owns_model(bigint), federated._require_workspace_owner(bigint),
    federated._require_model_owner(bigint)
TO federated_operator, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION federated._has_role(name), federated._owns_model(bigint) TO federated_analyst;

-- What is deleted for its age.
GRANT SELECT ON federated.retention_stub, @extschema@.federated_retention TO federated_analyst, federated_auditor;

GRANT UPDATE (statement, signature, certificate) ON federated.retention_stub TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._retention_bounds(), federated._forget_expired(text), federated._forget_node_history(integer), federated._options()
TO federated_daemon;

-- The audit log.
GRANT EXECUTE ON FUNCTION federated._took_back(text, text, bigint) TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_audit_verify(text), federated._audit_faults(text), federated._audit_hash(federated.audit, uuid, bigint, bytea),
    federated._tree_faults(text), federated._audit_inclusion(text, uuid)
TO federated_auditor, federated_admin;

GRANT EXECUTE ON FUNCTION @extschema@.federated_forget_heads(text) TO federated_admin;

-- Predictions in their other forms.
GRANT EXECUTE ON FUNCTION
    @extschema@.predict(text, record), @extschema@.federated_features(text, record), @extschema@.federated_predict_class(text, jsonb),
    @extschema@.federated_predict_proba(text, jsonb), @extschema@.federated_predict_batch(text, text),
    federated._describe_columns(text), federated._describe_batch(text, text, jsonb), federated._raise(jsonb),
    federated._describe_block(text, text[], boolean[], jsonb, text[], jsonb), federated._free_name(jsonb),
    federated._fetch_block(text, integer), federated._score_block(text, bytea), federated._is_expression(text[], boolean[], jsonb),
    federated._probabilities(text, text[], jsonb), federated._likeliest(text[], double precision[])
TO federated_analyst;

GRANT EXECUTE ON FUNCTION
    federated._find_function(text), federated._boolean_features(text, jsonb), federated._classes(text),
    federated._has_many_classes(jsonb), federated._json_time(jsonb), federated._json_interval(jsonb), federated._json_array(jsonb), federated._json_image(jsonb),
    federated._given_by_json(text[], boolean[], jsonb), federated._given_in_order(text[], boolean[], jsonb),
    federated._given_by_name(text[], boolean[], jsonb, text[], text), federated._absent_value(regtype),
    federated._describe_call(text, text, text[], boolean[], jsonb, text[])
TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

-- Explanations: who may predict with a version may ask why it predicts so.
GRANT EXECUTE ON FUNCTION
    @extschema@.federated_explain(text, jsonb, integer, bigint), federated._explain_row(text, bytea, integer, bigint),
    federated._check_features(text, jsonb, text[])
TO federated_analyst;

GRANT EXECUTE ON FUNCTION federated._explain(text, bytea, integer, bigint) TO federated_owner;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_explain_model(text), federated._explained_scale(jsonb), federated._explained_classes(text, jsonb)
TO federated_analyst, federated_auditor;

-- How a version's features become parameters and slots; what a row of any type has of them.
GRANT EXECUTE ON FUNCTION
    federated._columns(text[], boolean[], jsonb), federated._level_names(jsonb),
    federated._render_slot(text, text, jsonb, integer), federated._render_slots(text[], boolean[], jsonb, text[]),
    federated._render_lookup(text, text[], double precision[], double precision, double precision),
    federated._level_edges(text[]), federated._level_numbers(text[], double precision[], double precision),
    federated._elements(double precision[], integer), federated._hash_text(text, integer), federated._bytes(double precision[]),
    federated._is_shape(jsonb, integer), federated._pixels(double precision[], integer, text), federated._image(bytea, text, integer[]),
    federated._softmax(double precision[], double precision)
TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._is_given(federated.absent), federated._is_given(anyelement),
    federated._as_number(federated.absent), federated._as_number(float8), federated._as_number(boolean), federated._as_number(anyelement),
    federated._as_flag(federated.absent), federated._as_flag(boolean), federated._as_flag(anyelement),
    federated._as_text(federated.absent), federated._as_text(anyelement),
    federated._as_time(federated.absent), federated._as_time(date), federated._as_time(timestamp), federated._as_time(timestamptz),
    federated._as_time(anyelement), federated._as_interval(federated.absent), federated._as_interval(interval),
    federated._as_interval(anyelement), federated._as_array(federated.absent), federated._as_array(float8[]),
    federated._as_array(real[]), federated._as_array(integer[]), federated._as_array(bigint[]), federated._as_array(anyelement),
    federated._as_image(federated.absent), federated._as_image(bytea), federated._as_image(anyelement)
TO federated_analyst;

GRANT USAGE ON TYPE federated.absent TO federated_analyst;

-- What reads a version for numpy runs as the owner of the models' functions.
GRANT EXECUTE ON FUNCTION
    federated._score(text, bytea), federated._score_classes(text, bytea), federated._score_rows(text, bytea),
    federated._score_first(text, bytea), federated._score_classes_first(text, bytea), federated._read_scored(uuid),
    federated._check_predicts(uuid),
    federated._keep_version(text, text, bytea, text)
TO federated_owner;

-- What is sealed at rest, and under which root key.
GRANT SELECT ON federated.root_key, @extschema@.federated_sealed_state TO federated_admin, federated_operator, federated_auditor, federated_daemon;

GRANT SELECT ON federated.sealed_value TO federated_daemon, federated_owner;

GRANT SELECT ON federated.checkpoint, federated.root_key TO federated_owner;

GRANT INSERT (holder, name, status, source), UPDATE (status, source, since) ON federated.root_key TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._sealed_under(bytea), federated._sealed_digest(bytea)
TO federated_admin, federated_operator, federated_auditor, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION federated._count_sealed(text, text) TO federated_daemon;

-- Sealed versions: the coordinator seals, the owner of the models' functions opens.
GRANT EXECUTE ON FUNCTION federated._prediction_key() TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._refuse_sealed(text, integer, text)
TO federated_analyst, federated_auditor, federated_admin, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._predict_json(text, jsonb, boolean), federated._predict_array(text, double precision[])
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._write_row_functions(text, text[], boolean[], jsonb), federated._rewrite_row_functions(text),
    federated._write_json_function(text, text, text[], boolean[], jsonb),
    federated._write_array_function(text, text[], boolean[], jsonb), federated._write_typed_function(text, text[], boolean[], jsonb)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._write_untrained_function(text, jsonb), federated._write_untrained_row(text),
    federated._list_functions(text), federated._move_tag(text, federated.tag)
TO federated_owner;

-- What makes the functions of versions: each kind of prediction is rendered by one of its own.
GRANT EXECUTE ON FUNCTION
    federated._define_prediction(text, text, text[], boolean[], jsonb, uuid), federated._render(text[], boolean[], jsonb),
    federated._check_columns(text[], boolean[], jsonb), federated._clear_signature(text, text[], boolean[], jsonb),
    federated._drop_other_forms(text), federated._describe_parameters(text[], boolean[], jsonb),
    federated._is_expression(text[], boolean[], jsonb), federated._find_renderer(text),
    federated._render_call(text[], boolean[], jsonb, uuid), federated._describe_number(text, text, text, integer),
    federated._times(double precision, double precision),
    federated._weigh(double precision[], double precision[], double precision[]),
    federated._render_term(text, text, text, jsonb, double precision[], double precision[], double precision[], double precision),
    federated._render_levels(text, jsonb, double precision[], double precision[], double precision, double precision),
    federated._check_linear(bigint, double precision, double precision[], double precision[], double precision[], double precision[]),
    federated._score_divisor(double precision[], boolean[]), federated._bounded_inputs(text[], boolean[], jsonb),
    federated._divide(double precision[], double precision, double precision),
    federated._render_score(text[], boolean[], jsonb, double precision, double precision[], double precision[], double precision[], double precision),
    federated._render_softmax_linear(text[], boolean[], jsonb),
    federated._render_linear(text[], boolean[], jsonb), federated._nudged(double precision, double precision, double precision),
    federated._lock_publication(bigint), federated._describe_version(text, integer, uuid)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._refuse_stored_predictions(text) TO federated_owner;

-- What runs begin with.
GRANT EXECUTE ON FUNCTION federated._parent_name(uuid), federated._ancestors(uuid, text)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._seals(jsonb, jsonb), federated._read_parent(text, jsonb, jsonb), federated._is_erased(federated.version),
    federated._is_by_vote(federated.version)
TO federated_analyst;

GRANT EXECUTE ON FUNCTION federated._learned_from(uuid), federated._trace(federated.run) TO federated_operator;

GRANT EXECUTE ON FUNCTION federated._is_orphaned(uuid), federated._is_not_repeated(federated.version) TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._descends(uuid, text) TO federated_daemon, federated_owner;

-- Versions and tags.
GRANT EXECUTE ON FUNCTION
    @extschema@.federated_model_versions(text), @extschema@.federated_checkpoints(text),
    @extschema@.compare_federated_models(text, text, text), federated._version_number(text, text),
    federated._json_numbers(jsonb), federated._distance(federated.version, federated.version),
    federated._version_metrics(federated.version), federated._read_version(text, text), federated._read_reference(text),
    federated._incomparable(federated.version, federated.version), federated._joint_error(double precision, double precision)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._define_version(text, text, bigint, integer), federated._label_functions(bigint, integer),
    federated._rename_functions(bigint, text, text, jsonb), federated._json_numbers(jsonb), federated._model_id(text),
    federated._version_number(text, text), federated._version_key(uuid, integer)
TO federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._why_withdrawn(text, integer, boolean, integer), federated._refuse_withdrawn(text, integer, boolean)
TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._write_refusal(text, text, text), federated._withdraw_functions(federated.version, boolean),
    federated._restore_functions(federated.version), federated._list_withdrawn(bigint)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._version_key(uuid, integer) TO federated_analyst, federated_auditor, federated_daemon;

-- Checkpoints, and runs that go on.
GRANT EXECUTE ON FUNCTION federated._latest_closed_run(bigint), federated._why_not_resumed(federated.run)
TO federated_operator, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._hold_checkpoint(bigint), federated._read_checkpoint(bigint, uuid, integer, text, integer, integer),
    federated._is_manifest(uuid, integer, bytea)
TO federated_operator;

GRANT EXECUTE ON FUNCTION federated._adopt_run(uuid, jsonb) TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._require_file_writer(bigint), federated._checkpoint_contents(uuid, integer) TO federated_owner;

-- Subscriptions: what predictions look up, what a participant's DBA and its node do, what is offered to nodes.
GRANT EXECUTE ON FUNCTION
    federated._find_held(text), federated._held_number(text, text), federated._raise_unheld(text),
    federated._predict_undelivered(text), federated._contract(jsonb), federated._predicting(jsonb)
TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION federated._lock_model_name(text) TO federated_operator, federated_admin;

GRANT EXECUTE ON FUNCTION
    federated._hear_offer(text, text, text, text, text, integer, uuid, text), federated._lock_subscription(text),
    federated._one_line(text), federated._list_subscriptions(text), federated._refuse_version(text, uuid, text),
    federated._withdraw_version(text, text, text, text, uuid), federated._destroy_personal(text),
    federated._take_version(text, integer, uuid, text[], text, text, bytea, bytea, bytea, bytea, bytea, uuid)
TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._write_undelivered_function(text), federated._lock_subscription(text), federated._one_line(text),
    federated._check_delivery(text[], jsonb, jsonb, bytea), federated._check_encoding(text[], boolean[], jsonb), federated._flags(jsonb),
    federated._check_numbers(text, bytea, text), federated._try_prediction(text, jsonb),
    federated._check_scored(text[], jsonb, bytea), federated._forget_version(text, federated.delivered_version),
    federated._store_delivery(text, federated.delivered_version), federated._may_pass(text),
    federated._place_version(text, federated.delivered_version), federated._forget_former(bigint, text),
    federated._encoding_text(text[], boolean[], jsonb), federated._destroy_delivered(text, federated.delivered_version)
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._retired_versions() TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION federated._pending_deliveries(), federated._offered_version(uuid) TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._list_subscribers(bigint, integer, text), federated._refuse_loss(text, text, text[])
TO federated_operator, federated_daemon, federated_owner;

-- Subject orders.
GRANT EXECUTE ON FUNCTION
    federated._take_order(uuid, bytea), federated._may_settle_orders(), federated._settle_orders(),
    federated._hold_subject(), federated._held_subject(), federated._subject_rows(text), federated._erase_rows(text),
    federated._subject_codes(text), federated._withdrawn(bigint), federated._withdrawals(bigint)
TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_accept_withdrawals(text), federated._withdrawals(bigint), federated._let_erase(text, boolean),
    federated._find_relation(text)
TO federated_admin;

GRANT EXECUTE ON FUNCTION federated._held_subject() TO federated_probe;

GRANT EXECUTE ON FUNCTION federated._read_statement(bytea) TO federated_analyst, federated_auditor, federated_daemon;

-- Exports. Only the daemon says that it is time; the server writes, with what it asks of who asked for it.
GRANT EXECUTE ON FUNCTION
    federated._write_export(uuid), federated._exported_columns(text), federated._subject_values(text, bigint)
TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._exported_columns(text) TO federated_probe;

GRANT EXECUTE ON FUNCTION federated._export_heading(uuid), federated._participation_in(text) TO federated_owner;

-- What follows from requests for erasure.
GRANT EXECUTE ON FUNCTION
    federated._has_erasure_work(), federated._erasures_to_plan(), federated._plan_erasures(), federated._interrupt_runs(),
    federated._retrainings_due(), federated._queue_retraining(uuid, boolean), federated._is_erased(federated.version),
    federated._is_by_vote(federated.version),
    federated._retire_erased(), federated._explain_erasures(), federated._certificate_of(text, text, bytea),
    federated._may_concern(federated.version, federated.subject_order), federated._withhold_versions()
TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._may_concern(federated.version, federated.subject_order), federated._withhold_versions()
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._lock_publication(bigint) TO federated_daemon;

GRANT EXECUTE ON FUNCTION federated._retrains(jsonb) TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT EXECUTE ON FUNCTION federated._retraining_cost(bigint), federated._is_by_vote(federated.version) TO federated_admin;

GRANT EXECUTE ON FUNCTION @extschema@.federated_erasure_certificate(uuid), federated._certified_inclusion(uuid)
TO federated_auditor, federated_admin;

GRANT SELECT ON federated.erasure, federated.erasure_version, federated.retraining, federated.interruption, federated.erased_part,
    federated.erased_at, federated.former_part
TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT SELECT ON federated.subject_order, federated.order_answer, federated.participation, federated.model TO federated_owner;

GRANT INSERT (order_id, workspace),
    UPDATE (retired_at, completed_at, exactness, message, certificate, certificate_sha256, signature, signer)
ON federated.erasure TO federated_daemon;

GRANT INSERT, UPDATE (retired_at, replaced_by, sha256_after) ON federated.erasure_version TO federated_daemon;

GRANT INSERT ON federated.interruption TO federated_daemon;

GRANT UPDATE (begun_anew) ON federated.interruption TO federated_owner;

GRANT INSERT ON federated.retraining TO federated_owner;

GRANT INSERT (model_id, requested_by, options, overrides, policy, seed_run, lineage) ON federated.run TO federated_owner;

GRANT UPDATE (erased_at) ON federated.run TO federated_daemon;

GRANT UPDATE (retired_at, retired_by, withheld, prediction, prediction_arrays, sealed, scaling, report) ON federated.version TO federated_daemon;

GRANT UPDATE (withheld) ON federated.version TO federated_owner;

-- Budgets and their history.
GRANT EXECUTE ON FUNCTION federated._recent_round_cost(text), federated._consumed_epsilon(text) TO federated_analyst, federated_auditor;

-- How rounds went.
GRANT EXECUTE ON FUNCTION @extschema@.federated_convergence_diagnostics(text, integer), @extschema@.federated_run_groups(text, integer)
TO federated_analyst, federated_auditor, federated_daemon;

-- Folds and searches.
GRANT EXECUTE ON FUNCTION
    @extschema@.federated_trials(text, integer), federated._tried(jsonb), federated._trials(uuid), federated._run_metrics(uuid),
    federated._is_undecided(uuid), federated._series_status(uuid)
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION federated._tried(jsonb), federated._trials(uuid) TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._check_series(federated.run), federated._check_group(federated.run), federated._dealt(text[], integer, text, integer),
    federated._is_undecided(uuid)
TO federated_operator;

GRANT SELECT ON federated.run, federated.round, federated.workspace, federated.run_parameters TO federated_owner;

GRANT UPDATE (status, message, finished_at, waiting, trial, options, overrides, policy, seed_run, lineage) ON federated.run TO federated_owner;

-- Predictions by vote.
GRANT EXECUTE ON FUNCTION
    @extschema@.federated_certify(text, jsonb), @extschema@.federated_certify(text), @extschema@.federated_certified_accuracy(text, text),
    federated._certified_nodes(integer[]), federated._count_voters(text), federated._is_named(text, jsonb),
    federated._certified(text), federated._chosen(jsonb, text[]), federated._check_judged(text, text, text[], jsonb), federated._fetch_rows(text)
TO federated_analyst;

-- How models do.
GRANT EXECUTE ON FUNCTION
    @extschema@.federated_evaluate(text), @extschema@.federated_data_quality_check(text, integer),
    federated._project(jsonb, text[], text[], text), federated._evaluation(text), federated._groups_hint(bigint),
    federated._evaluate_columns(text, text[]), federated._data_quality_check_columns(text, text[]),
    @extschema@.federated_coefficients(text), federated._coefficients(text)
TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_confusion_matrix(text), @extschema@.federated_roc_curve(text),
    @extschema@.federated_calibration(text), @extschema@.federated_feature_importance(text),
    federated._report(text, text, text, text)
TO federated_analyst, federated_auditor;

-- How they do on rows of the caller's own.
GRANT EXECUTE ON FUNCTION
    @extschema@.federated_evaluate(text, text, integer, double precision, bigint, text),
    federated._evaluate_columns(text, text, integer, double precision, bigint, text, text[]),
    federated._evaluated_columns(text), federated._check_may_predict(text, jsonb),
    federated._check_bootstrap(integer, double precision, bigint),
    federated._check_evaluated(text, text, text, text, text[], jsonb),
    federated._render_judged(text, text, text, text, text, text, text[], jsonb),
    federated._render_scores(text, text, text[], boolean[], jsonb, text[], text),
    federated._describe_evaluated(text, text, jsonb), federated._reduce_block(text, text[], bytea, bytea),
    federated._gather_evaluated(text, text, bigint),
    federated._evaluate_rows(text, bytea, integer, bigint, integer, double precision, bigint, boolean)
TO federated_analyst;

-- What the audits of security and of compliance look at, and these themselves.
GRANT EXECUTE ON FUNCTION
    federated._may_read_hba(), federated._check_rights(), federated._check_audit(text), federated._check_nodes(bigint),
    federated._check_node_links(bigint), federated._check_client_links(), federated._check_logins(),
    federated._check_storage(), federated._plain_runs(text), federated._check_budget(text), federated._ledger_faults(text),
    federated._check_ledger(text), federated._residency_allows(text, text),
    federated._check_residency(bigint), federated._check_mode(bigint, text), federated._describe_modes(),
    federated._mode_rules(), federated._check_options(text, jsonb)
TO federated_auditor, federated_admin;

GRANT EXECUTE ON FUNCTION @extschema@.federated_compliance_modes(), federated._mode_rules(), federated._describe_modes()
TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_security_audit(text), federated._security_audit_columns(text, text[]),
    federated._node_security(bigint), federated._role_security(), federated._server_security()
TO federated_auditor, federated_admin;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_compliance_check(text, text), federated._compliance_check_columns(text, text, text[]),
    federated._describe_members(), federated._describe_use(bigint), federated._describe_log(text),
    federated._describe_checks(bigint, text), federated._describe_participants(bigint), federated._describe_purposes(bigint),
    federated._describe_recovery(), federated._describe_security(text), federated._check_defaults(bigint),
    federated._matters_for_people(bigint, text, text[]), federated._findings(bigint, text, text[]),
    federated._check_regulation(text), federated._requirements(), federated._current_attestation(bigint, text, timestamptz),
    federated._check_heads(bigint, text), federated._check_retention(bigint, text, integer), federated._options(), federated._count_requests(text, text[]), federated._check_requests(text, text[]),
    federated._check_consent(bigint, text), federated._check_erasure(text), federated._check_export_requests(text), federated._check_breaches(bigint, text, interval), federated._describe_identifiers(bigint),
    @extschema@.federated_record_compliance_check(text, text),
    @extschema@.federated_processing_record(text), federated._processing_participants(bigint), federated._processing_data(bigint),
    federated._processing_purposes(bigint), federated._processing_recipients(bigint)
TO federated_auditor, federated_admin;

-- Auditors attest by a statement; of all others each asks for a role that they have not.
GRANT EXECUTE ON PROCEDURE federated.execute(text) TO federated_auditor;

GRANT EXECUTE ON FUNCTION federated._execute(text, name[]), federated._raise(jsonb), federated._count_refusal(jsonb) TO federated_auditor;

GRANT USAGE ON SEQUENCE federated.privilege_refusal TO federated_auditor;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_model_card(text), federated._card_version(federated.version), federated._card_metrics(federated.version), federated._card_groups(federated.run),
    federated._card_sites(uuid, integer)
TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION federated._project(jsonb, text[], text[], text) TO federated_auditor, federated_admin;

-- Analysts and auditors read everything but parameters, which are sealed besides.
GRANT SELECT ON federated.workspace, federated.node, federated.model, federated.run, federated.round,
    federated.participation, federated.ledger, federated.node_spending, federated.lease, federated.event, federated.dataset, federated.spending
TO federated_analyst, federated_auditor;

GRANT SELECT (version_id, model_id, version, run_id, round_number, features, scaling, sha256, global_loss,
    global_accuracy, epsilon, is_current, created_at, global_loss_std_error, global_accuracy_std_error, base_loss,
    global_precision, global_recall, global_f1_score, global_rmse, report, retired_at, retired_by, withheld) ON federated.version
TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.audit, federated.attestation, federated.compliance_record TO federated_auditor;

-- Triggers fill in all else.
GRANT INSERT (workspace_id, requirement, valid_until, statement) ON federated.attestation TO federated_auditor;

GRANT INSERT (workspace_id, regulation) ON federated.compliance_record TO federated_auditor, federated_admin;

GRANT SELECT ON @extschema@.federated_compliance_requirements TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION federated._requirements() TO federated_analyst;

GRANT SELECT ON @extschema@.federated_attestations, @extschema@.federated_compliance_history TO federated_auditor, federated_admin;

-- Operators change what statements change. Workspaces, nodes and datasets are the admins' business.
GRANT INSERT (workspace_id, name, options), UPDATE (options), DELETE ON federated.model TO federated_operator;

GRANT INSERT (model_id, overrides, series_id, trial, fold, waiting, resumed_from, resumed_round, voting_group, group_nodes),
    UPDATE (stop_requested)
ON federated.run TO federated_operator;

GRANT INSERT ON federated.resumption TO federated_operator;

GRANT INSERT (model_id, run_id, path, round_number, size_bytes, sha256) ON federated.checkpoint TO federated_operator;

GRANT INSERT (name, options), UPDATE (options), DELETE ON federated.workspace TO federated_admin;

GRANT INSERT (workspace_id, name, options), UPDATE (options), DELETE ON federated.node TO federated_admin;

GRANT INSERT (name, workspace, relation, columns, types, options, row_key), UPDATE (options), DELETE
ON federated.dataset TO federated_admin;

GRANT SELECT ON ALL TABLES IN SCHEMA federated TO federated_daemon;

GRANT UPDATE (status, failure_reason, certificate, certificate_expires, last_seen, dataset_size, plain_answers, datasets, extras, endpoint_in_use, limits)
ON federated.node TO federated_daemon;

GRANT UPDATE (status, scaling, plan, message, started_at, finished_at, result_round, kept_ledger_id) ON federated.run TO federated_daemon;

-- A round that was given up when its run ended is opened anew when that goes on.
GRANT DELETE ON federated.round, federated.resumption TO federated_daemon;

GRANT INSERT, UPDATE ON federated.round, federated.participation TO federated_daemon;

GRANT INSERT, UPDATE (is_current) ON federated.version TO federated_daemon;

-- The number and the time of a line are the database's own: they are its place among the node's lines.
GRANT INSERT (workspace, run_id, model_name, round_number, exchange, step, node_name, state, noise_multiplier, sampling_rate, steps,
    noise, clipping_norm, epsilon, epsilon_basic, epsilon_tight), UPDATE (state, epsilon_basic, epsilon_tight)
ON federated.ledger TO federated_daemon;

GRANT INSERT ON federated.node_spending TO federated_daemon;

GRANT INSERT, UPDATE, DELETE ON federated.run_parameters, federated.internal_checkpoint TO federated_daemon;

-- A reservation is taken back where certainly nothing was released.
GRANT DELETE ON federated.ledger TO federated_daemon;

GRANT INSERT, UPDATE ON federated.lease TO federated_daemon;

GRANT INSERT ON federated.event TO federated_daemon;

REVOKE SELECT ON federated.audit, federated.attestation, federated.compliance_record FROM federated_daemon;

-- The leaves of the tree, and nothing of what they say.
GRANT SELECT (workspace, origin, chain_position, hash) ON federated.audit TO federated_daemon;

GRANT INSERT ON federated.signer, federated.tree_head, federated.cosignature TO federated_daemon;

GRANT INSERT, UPDATE (settled_at, kind, own_size) ON federated.audit_break TO federated_daemon;

GRANT INSERT, DELETE ON federated.witnessed_head TO federated_daemon;

GRANT DELETE ON federated.witnessed_head TO federated_admin;

GRANT INSERT ON federated.head_conflict TO federated_daemon;

-- federated_admin may back the database up (parameters and payloads are sealed).
GRANT SELECT ON ALL TABLES IN SCHEMA federated TO federated_admin;

GRANT SELECT ON ALL SEQUENCES IN SCHEMA federated TO federated_admin;

GRANT SELECT ON federated.model, federated.version TO federated_owner;

GRANT UPDATE (dropped_version) ON federated.model TO federated_owner;

-- What is shown of it in views, and what each part of the catalog keeps besides.
GRANT SELECT ON federated.part_taken, federated.ledger_reached, @extschema@.federated_node_status, @extschema@.federated_node_diagnostics
TO federated_analyst, federated_auditor;

GRANT INSERT, UPDATE, DELETE ON federated.node_memory TO federated_daemon;

GRANT INSERT, UPDATE (model_name, round_number, way, figures, sealed, made_at), DELETE ON federated.personal_part TO federated_daemon;

GRANT SELECT, DELETE ON federated.personal_part TO federated_owner;

GRANT SELECT ON @extschema@.federated_personal_models TO federated_analyst, federated_auditor, federated_daemon;

GRANT INSERT (predicate) ON federated.dataset TO federated_admin;

GRANT SELECT ON federated.agreement, federated.noise_share, federated.base_table TO federated_analyst, federated_auditor;

-- What was charged, released, spent and agreed stays: the daemon adds to it, and forgets a payload whose run has moved on.
GRANT INSERT, UPDATE (state, header, payload, payload_bytes, released_at) ON federated.release TO federated_daemon;

GRANT INSERT ON federated.spending, federated.noise_share, federated.agreement, federated.row_set, federated.plain_dataset
TO federated_daemon;

GRANT UPDATE (name, owner) ON federated.workspace TO federated_admin;

GRANT UPDATE (name, owner) ON federated.model TO federated_operator;

GRANT SELECT ON federated.audit_head, federated.audit_origin, @extschema@.federated_audit_log,
    federated.signer, federated.tree_head, federated.cosignature, federated.audit_break, federated.witnessed_head, federated.head_conflict,
    @extschema@.federated_audit_heads, @extschema@.federated_node_heads
TO federated_auditor, federated_admin;

GRANT SELECT ON @extschema@.federated_node_heads TO federated_analyst, federated_daemon;

GRANT SELECT ON federated.tag, federated.checkpoint, federated.internal_checkpoint TO federated_analyst, federated_auditor, federated_owner;

-- The functions in federated_model show these numbers to the same roles.
GRANT SELECT (prediction) ON federated.version TO federated_analyst, federated_auditor;

GRANT INSERT (model_id, name, version), UPDATE (version), DELETE ON federated.tag TO federated_operator;

GRANT DELETE ON federated.version TO federated_operator;

GRANT UPDATE (is_current) ON federated.version TO federated_operator, federated_owner;

GRANT SELECT ON @extschema@.federated_privacy_budget_status, @extschema@.federated_privacy_history
TO federated_analyst, federated_auditor;

GRANT SELECT ON @extschema@.federated_workspace_status, @extschema@.federated_runs TO federated_analyst, federated_auditor;

-- What a participant sees of its own part; `heliosdb node status` reads it as the daemon's role.
GRANT SELECT ON federated.node_run, federated.refusal TO federated_analyst, federated_auditor;

GRANT SELECT ON @extschema@.federated_node_runs, @extschema@.federated_dataset_budget,
    @extschema@.federated_node_releases, @extschema@.federated_node_refusals
TO federated_analyst, federated_auditor, federated_daemon;

GRANT INSERT, UPDATE (last_task_at) ON federated.node_run TO federated_daemon;

GRANT INSERT, UPDATE (count, last_at, dataset, detail), DELETE ON federated.refusal TO federated_daemon;

GRANT SELECT ON @extschema@.federated_subscriptions, @extschema@.federated_subscribers, federated.subscription, federated.subscriber,
    federated.subscribe_grant, federated.offer
TO federated_analyst, federated_auditor;

-- `heliosdb node status` reads it too.
GRANT SELECT ON @extschema@.federated_subscriptions TO federated_daemon;

-- The functions in federated_model show a version's numbers to the same roles.
GRANT SELECT (model_name, version, numbers_id, features, prediction, is_current, contract, is_retired, is_withheld) ON federated.held_version
TO federated_analyst, federated_auditor;

GRANT SELECT (delivery_id, subscription_id, version, version_key, features, contract, prediction, body_sha256, header, signature,
    certificate_sha256, is_current, delivered_at, retired_at, personal_run) ON federated.delivered_version
TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.retired_holding TO federated_analyst, federated_auditor, federated_daemon;

GRANT SELECT ON federated.held_version, federated.subscription, federated.offer TO federated_owner;

GRANT SELECT, INSERT, DELETE,
    UPDATE (is_current, contract, body_sha256, header, signature, certificate_sha256, delivered_at, retired_at, prediction, prediction_arrays,
        personal_run)
ON federated.delivered_version TO federated_owner;

GRANT UPDATE (refresh, refused_key, failure) ON federated.subscription TO federated_owner;

GRANT INSERT (name, workspace, model_name, wanted, auto), UPDATE (wanted, auto), DELETE ON federated.subscription TO federated_admin;

GRANT UPDATE (heard_outcome, heard_version, heard_key, heard_since, heard_at, reason, refresh, refused_key, failure)
ON federated.subscription TO federated_daemon;

GRANT INSERT (model_id, node_id, name), DELETE ON federated.subscribe_grant TO federated_operator;

GRANT INSERT, UPDATE, DELETE ON federated.subscriber TO federated_daemon;

GRANT SELECT ON @extschema@.federated_performance_metrics TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.phase, federated.contribution TO federated_analyst, federated_auditor;

-- What the exchanges of a round take adds up.
GRANT INSERT, UPDATE (duration_seconds, cpu_seconds, busy_seconds, memory_bytes, bytes_sent, bytes_received)
ON federated.phase TO federated_daemon;

GRANT INSERT, UPDATE (alignment, direction, length, likeness) ON federated.contribution TO federated_daemon;

GRANT SELECT ON @extschema@.federated_erasure_status, @extschema@.federated_consent TO federated_analyst, federated_auditor;

-- What was sealed is nobody's to read, and only the database's backup has it.
GRANT SELECT (order_id, batch_id, kind, workspace, model, terms, pseudonym, requested_by, requested_at, deadline, state, message,
    ended_at) ON federated.subject_order TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.order_answer, federated.coordinator_key, @extschema@.federated_orders TO federated_analyst, federated_auditor;

GRANT SELECT (workspace, order_id, kind, received_at, deadline, outcome, statement, signature, certificate_sha256, body_sha256)
ON federated.node_order TO federated_analyst, federated_auditor;

GRANT SELECT ON @extschema@.federated_node_orders TO federated_analyst, federated_auditor, federated_daemon;

GRANT INSERT (order_id, batch_id, kind, workspace, model, terms, sealed) ON federated.subject_order TO federated_admin;

GRANT INSERT, UPDATE (sealing_key, published_at) ON federated.coordinator_key TO federated_daemon;

GRANT UPDATE (sealed, pseudonym, state, message, ended_at) ON federated.subject_order TO federated_daemon;

GRANT INSERT (order_id, node_id, node_name),
    UPDATE (state, outcome, message, answered_at, statement, signature, certificate_sha256)
ON federated.order_answer TO federated_daemon;

GRANT INSERT, UPDATE (signature, certificate_sha256, body) ON federated.node_order TO federated_daemon;

GRANT INSERT, DELETE ON federated.withdrawn_subject TO federated_daemon;

-- A digest says whether somebody of whom the node's key is known was withdrawn: it is in the backup alone.
GRANT SELECT ON federated.withdrawal_acceptance TO federated_analyst, federated_auditor;

GRANT INSERT (dataset_id), UPDATE (accepted_at) ON federated.withdrawal_acceptance TO federated_admin;

-- Which datasets have a subject is looked up for the daemon.
GRANT SELECT (name, options, columns) ON federated.dataset TO federated_probe;

GRANT USAGE ON SCHEMA federated TO federated_probe;

-- A path may name a person: admins and auditors alone see it.
GRANT SELECT ON federated.export, @extschema@.federated_exports TO federated_auditor;

GRANT SELECT ON @extschema@.federated_exports TO federated_admin;

GRANT INSERT (order_id, path, format, salt, recipient) ON federated.export TO federated_admin;

GRANT INSERT ON federated.export_part TO federated_daemon;

GRANT SELECT, UPDATE (state, message, heading, size_bytes, sha256, ended_at) ON federated.export TO federated_owner;

GRANT SELECT, DELETE ON federated.export_part TO federated_owner;

GRANT SELECT (order_id, kind, workspace, model, terms, pseudonym, requested_by, requested_at, deadline, state, message) ON federated.subject_order
TO federated_owner;

GRANT SELECT ON federated.order_answer, federated.node, federated.participation TO federated_owner;

GRANT SELECT ON federated.node_export TO federated_analyst, federated_auditor;

GRANT INSERT ON federated.node_export TO federated_daemon;

GRANT SELECT ON federated.aggregation_function TO federated_analyst, federated_auditor;

GRANT INSERT (name, language, body_sha256), UPDATE (owner, language, body_sha256), DELETE
ON federated.aggregation_function TO federated_admin;

-- Models that travel as files. What is in a line of an export follows from the model's name.
GRANT SELECT (import_id, name, owner, version, features, contract, prediction, origin, card, file_sha256, signature, signed_by, imported_at)
ON federated.imported_model TO federated_analyst, federated_auditor, federated_daemon, federated_owner;

GRANT INSERT (name, version, features, contract, prediction, prediction_arrays, origin, card, file_sha256, signature, signed_by), DELETE
ON federated.imported_model TO federated_operator;

GRANT SELECT ON federated.model_export, @extschema@.federated_model_exports, @extschema@.federated_model_imports
TO federated_analyst, federated_auditor;

GRANT INSERT (model_name, version) ON federated.model_export TO federated_operator;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_export_model(text), @extschema@.federated_import_model(jsonb, text, bytea, text, text),
    @extschema@.federated_drop_imported_model(text), federated._exported_arrays(uuid), federated._export_origin(text, integer, uuid),
    federated._export_card(text, integer), federated._export_delivery(text, integer), federated._check_document(jsonb)
TO federated_operator;

GRANT EXECUTE ON FUNCTION federated._make_imported_functions(federated.imported_model) TO federated_owner;

-- What there is, and what a START would do.
GRANT SELECT ON @extschema@.federated_workspaces, @extschema@.federated_nodes, @extschema@.federated_models, @extschema@.federated_datasets
TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION
    federated.show_workspaces(text), federated.show_nodes(text), federated.show_models(text), federated.show_runs(text),
    federated.show_datasets(text), federated.explain(text), federated._explain(text), federated._raise(jsonb)
TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION federated._why_not_plain(bigint, jsonb) TO federated_analyst, federated_auditor, federated_owner;

-- Alerts.
GRANT EXECUTE ON FUNCTION federated._count_refusal(jsonb) TO federated_operator;

GRANT USAGE ON SEQUENCE federated.privilege_refusal TO federated_operator;

GRANT SELECT ON SEQUENCE federated.privilege_refusal TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._shown_target(text), federated._shown_conditions(jsonb),
    federated._refused_answers(bigint, interval, federated.participation_outcome[])
TO federated_analyst, federated_auditor, federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._audit_state(text), federated._note_breach(text, text, text, text, timestamptz), federated._recent_round_cost(text),
    federated._consumed_epsilon(text)
TO federated_daemon;

GRANT SELECT ON @extschema@.federated_alerts, @extschema@.federated_alert_metrics TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.latest_round, federated.alert_metric TO federated_analyst, federated_auditor;

GRANT INSERT (workspace_id, name, conditions, target), DELETE ON federated.alert TO federated_admin;

GRANT UPDATE (is_raised, calm_since) ON federated.alert TO federated_daemon;

GRANT INSERT, UPDATE (observed, events, last_event_at, attempts, next_attempt, delivered_at, failure) ON federated.firing TO federated_daemon;

GRANT INSERT, UPDATE ON federated.notifier, federated.audit_check TO federated_daemon;

-- Experiments. Nobody reads whose key had which outcome, or writes it but by the functions: the database's backup alone has it.
GRANT SELECT ON federated.experiment, federated.experiment_arm, @extschema@.federated_experiments TO federated_analyst, federated_auditor;

GRANT SELECT ON federated.experiment, federated.experiment_arm TO federated_owner;

GRANT INSERT (model_id, name, keep_days), DELETE ON federated.experiment TO federated_operator;

-- The lock that keeps one from being dropped asks for the right to change something of it.
GRANT UPDATE (created_by) ON federated.experiment TO federated_owner;

GRANT INSERT (experiment_id, model_id, place, name, version, share) ON federated.experiment_arm TO federated_operator;

GRANT UPDATE (calls, outcomes, outcome_sum), DELETE ON federated.experiment_arm TO federated_owner;

GRANT SELECT, INSERT, DELETE ON federated.experiment_call TO federated_owner;

-- As of an experiment, for the lock alone.
GRANT UPDATE (score) ON federated.experiment_call TO federated_owner;

GRANT SELECT, INSERT, UPDATE (score, outcome, reported_at), DELETE ON federated.experiment_outcome TO federated_owner;

GRANT SELECT, INSERT, UPDATE ON federated.experiment_past TO federated_owner;

REVOKE SELECT ON federated.experiment_call, federated.experiment_outcome, federated.experiment_past FROM federated_daemon;

GRANT EXECUTE ON FUNCTION
    federated._check_key(text), federated._key_sha256(uuid, text), federated._drawn(bytea), federated._arm_bounds(uuid),
    federated._places_of(uuid, text[]), federated._hold_experiment(uuid, text)
TO federated_analyst, federated_owner;

GRANT EXECUTE ON FUNCTION
    federated._pool(bigint, double precision, double precision, double precision, bigint, double precision, double precision, double precision),
    federated._squared_error(double precision, double precision), federated._fold_calls(uuid, timestamptz), federated._lock_calls(uuid, timestamptz),
    federated._check_may_record(uuid, integer[])
TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._experiment_id(text) TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION federated._check_arm(text, integer) TO federated_operator;

GRANT EXECUTE ON FUNCTION federated._fold_experiments(text) TO federated_daemon;

GRANT EXECUTE ON FUNCTION
    @extschema@.federated_predict(text, jsonb, text, text), @extschema@.federated_predict_batch(text, text, text, text),
    @extschema@.federated_predict_experiment(text, text, jsonb), @extschema@.federated_experiment_arm(text, text),
    @extschema@.federated_report_outcome(text, text, double precision),
    federated._serve(text, text), federated._check_compares(text, text), federated._describe_served(uuid, text, jsonb, text),
    federated._describe_arm(text, jsonb), federated._record_calls(uuid, text, text[], double precision[]),
    federated._record_outcome(uuid, text, text, double precision)
TO federated_analyst;

GRANT EXECUTE ON FUNCTION @extschema@.federated_experiment(text), federated._experiment_sums(uuid), federated._welch_half_width(double precision, bigint, double precision, bigint)
TO federated_analyst, federated_auditor;

-- Calls by HTTP. A trigger fills in all else of a token and says whose it may be; one is revoked through the view.
GRANT USAGE ON SCHEMA federated TO federated_api;

GRANT EXECUTE ON FUNCTION federated._authenticate(bytea), federated._servable(name), federated._may_serve(oid) TO federated_api;

GRANT SELECT, INSERT (role_id, idempotency_key, request_sha256), UPDATE (run_id), DELETE ON federated.api_request TO federated_api;

GRANT SELECT ON federated.api_token TO federated_owner;

GRANT EXECUTE ON FUNCTION federated._may_serve(oid) TO federated_owner, federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION federated._has_role(name), federated._has_room_for_token(oid) TO federated_analyst, federated_auditor;

GRANT EXECUTE ON FUNCTION @extschema@.federated_create_token(name, interval, text), @extschema@.federated_revoke_token(uuid)
TO federated_analyst, federated_auditor;

GRANT INSERT (role_id, token_sha256, description, expires_at) ON federated.api_token TO federated_analyst, federated_auditor;

GRANT SELECT, UPDATE (revoked_at) ON @extschema@.federated_tokens TO federated_analyst, federated_auditor;

REVOKE SELECT ON federated.api_token, federated.api_request FROM federated_daemon;

-- Predictions outside the server. What _admit_call asks as the caller is an analyst's, what it asks before is the API's.
GRANT EXECUTE ON FUNCTION
    federated._admit_call(bytea, name, text), federated._served_numbers(name, text, uuid), federated._still_predict(uuid[]),
    federated._may_become(name)
TO federated_api;

GRANT EXECUTE ON FUNCTION federated._may_call(name, text) TO federated_analyst, federated_owner;

GRANT EXECUTE ON FUNCTION federated._may_become(name), federated._servable(name) TO federated_owner;

SELECT pg_catalog.pg_extension_config_dump('federated.node_spending', '');

SELECT pg_catalog.pg_extension_config_dump('federated.aggregation_function', '');

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

-- What was shared, spent and agreed before belongs to the base tables that its relation is made of now.
SELECT federated._claim_base_tables(d.dataset_id) FROM federated.dataset AS d;
UPDATE federated.spending AS s SET
    base_tables = federated._know_base_tables(s.relation),
    workspace_epsilon_basic = s.epsilon_basic,
    workspace_epsilon_tight = s.epsilon_tight;
UPDATE federated.agreement AS a SET base_tables = federated._know_base_tables(a.relation);
ALTER TABLE federated.spending
    ALTER COLUMN base_tables SET NOT NULL,
    ADD CHECK (cardinality(base_tables) > 0),
    ALTER COLUMN workspace_epsilon_basic SET NOT NULL,
    ALTER COLUMN workspace_epsilon_tight SET NOT NULL;
ALTER TABLE federated.agreement
    ALTER COLUMN base_tables SET NOT NULL,
    ADD CHECK (cardinality(base_tables) > 0),
    ADD PRIMARY KEY (workspace, relation, base_tables);
-- What computes a version is had in its other forms too; a model without a version has one of these, which says so. They are
-- models, and no part of the extension, though its script makes them.
DO $$
DECLARE
    made     record;
    row_form regprocedure;
BEGIN
    FOR made IN
        SELECT p.proname::text AS name, obj_description(p.oid, 'pg_proc') AS description,
               EXISTS (SELECT FROM federated.version AS v JOIN federated.model AS m USING (model_id)
                       WHERE m.name = p.proname::text OR starts_with(p.proname::text, m.name || '@')) AS is_trained
        FROM pg_proc AS p WHERE p.pronamespace = 'federated_model'::regnamespace
    LOOP
        IF made.is_trained THEN
            PERFORM federated._rewrite_row_functions(made.name);
        ELSE
            PERFORM federated._write_untrained_row(made.name);
        END IF;
        FOR row_form IN
            SELECT p.oid FROM pg_proc AS p
            WHERE p.pronamespace = 'federated_row'::regnamespace AND p.proname::text = made.name
        LOOP
            EXECUTE format('ALTER EXTENSION heliosdb_federated_learning DROP FUNCTION %s', row_form);
            EXECUTE format('ALTER FUNCTION %s OWNER TO federated_owner', row_form);
        END LOOP;
        PERFORM federated._finish_model_function(made.name, made.description);
    END LOOP;
END
$$;
