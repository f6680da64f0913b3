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

CREATE FUNCTION federated._groups_hint(model_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT run, voting_group FROM federated_runs WHERE model_name = %L names the runs; federated_training_metrics(%L, run => ...) has the figures of one.',
                  m.name, m.name)
    FROM federated.model AS m WHERE m.model_id = _groups_hint.model_id
$$;
COMMENT ON FUNCTION federated._groups_hint(bigint) IS 'Where the figures of the groups are whose models vote';

CREATE FUNCTION federated._evaluation(model text)
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

CREATE FUNCTION @extschema@.federated_evaluate(model text, OUT metric text, OUT value double precision) RETURNS SETOF record
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

CREATE FUNCTION federated._evaluate_columns(model text, columns text[]) RETURNS jsonb
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
