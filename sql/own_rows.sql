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
return door.scoring(plpy, "@VERSION@", "reduce_block", "evaluations")(kind, classes, scores, columns)
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
return door.scoring(plpy, "@VERSION@", "evaluate_rows", "evaluations")(
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
