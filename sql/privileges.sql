-- Nothing is granted to PUBLIC. Roles build on each other: analysts read, operators change, admins own.
GRANT federated_analyst TO federated_operator;
GRANT federated_operator TO federated_admin;

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
