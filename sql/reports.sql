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

CREATE FUNCTION federated._data_quality_check_columns(model text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(q)) FROM @extschema@.federated_data_quality_check(_data_quality_check_columns.model) AS q),
        columns, ARRAY['node_name', 'feature_statistics', 'missing_values', 'outliers', 'missing_values_std_error', 'outliers_std_error'], 'federated_data_quality_check')
$$;
COMMENT ON FUNCTION federated._data_quality_check_columns(text, text[]) IS 'federated_data_quality_check with a column list';
