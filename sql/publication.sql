-- How a version becomes its model's function: the daemon gives numbers and names, never text that would be code.

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

-- extra_float_digits 1: a float8 is written with the digits that read back to the same bits. Each parameter is
-- referenced once, so that inlining evaluates no argument twice. The logistic of a score is 1/2 + 1/2 tanh(score / 2), since
-- exp fails for large arguments of either sign; steep slopes are divided by a power of two, by which what is then surely large
-- enough is multiplied once it is clamped (greatest, and not least, which would make a number of NaN).
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
    divisor      double precision := 1;
    taken        double precision[];
BEGIN
    IF num_nulls(slopes, fills, shifts, link) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a prediction has no NULL in it';
    ELSIF cardinality(features) <> ANY (ARRAY[cardinality(slopes), cardinality(fills), cardinality(shifts)]) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = 'a prediction has one flag, slope, fill and shift for each feature';
    ELSIF link NOT IN ('identity', 'logistic', 'exp') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the link is identity, logistic or exp';
    ELSIF EXISTS (SELECT FROM unnest(slopes || fills || shifts || ARRAY[intercept, target_mean, target_scale]) AS number
                  WHERE number IS NULL OR number IN ('NaN', 'Infinity', '-Infinity')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a prediction consists of finite numbers only';
    END IF;
    IF link = 'logistic' THEN
        -- A feature may be as large as 1e290, and its slope as small. What keeps fewer than nine digits when it is divided is 0.
        target_scale := 1;
        divisor := 2 * power(2, ceil(log(greatest(1, (cardinality(features) + 1) * (
            SELECT max(least(abs(slope), 1e30)) FILTER (WHERE NOT flag) / 2
            FROM unnest(slopes, booleans) AS t (slope, flag)))) / log(2::float8)));
        intercept := CASE WHEN abs(intercept) < 1e-260 THEN 0 ELSE intercept / divisor END;
        slopes := ARRAY(SELECT CASE WHEN abs(slope) < 1e-314 * divisor THEN 0 ELSE slope / divisor END
                        FROM unnest(slopes) WITH ORDINALITY AS t (slope, place) ORDER BY place);
    END IF;
    taken := ARRAY(SELECT CASE WHEN flag THEN shift ELSE federated._nudged(shift, slope, target_scale) END
                   FROM unnest(booleans, slopes, shifts) WITH ORDINALITY AS t (flag, slope, shift, place) ORDER BY place);
    RETURN (
        SELECT format(
            -- Where nothing else is added, what nudges leave of 0 is: it vanishes beside 1e-270.
            CASE WHEN link = 'identity' AND target_mean = 0 AND taken <> shifts
                 THEN '%4$L::float8 * (%1$L::float8%2$s) + %8$L::float8 - %8$L::float8'
                 WHEN link = 'identity' THEN '%3$L::float8 + %4$L::float8 * (%1$L::float8%2$s)'
                 WHEN link = 'exp' THEN 'exp(greatest(-700, least(700, %1$L::float8%2$s)))'
                 WHEN divisor = 2 THEN '%5$L::float8 + %5$L::float8 * tanh(%1$L::float8%2$s)'
                 ELSE '%5$L::float8 + %5$L::float8 * tanh(%6$L::float8'
                      ' * greatest(-greatest(-(%1$L::float8%2$s), %7$L::float8), %7$L::float8))' END,
            intercept,
            string_agg(format(
                CASE WHEN shift = 0 THEN ' + %1$L::float8 * coalesce(%2$I%5$s, %3$L::float8)'
                     ELSE ' + %1$L::float8 * (coalesce(%2$I%5$s, %3$L::float8) - %4$L::float8)' END,
                slope, feature, fill, shift, CASE WHEN flag THEN '::integer::float8' ELSE '' END), '' ORDER BY place),
            target_mean, target_scale, 0.5::float8, divisor / 2, -800 / divisor, 1e-270::float8)
        FROM unnest(features, booleans, slopes, fills, taken) WITH ORDINALITY
             AS t (feature, flag, slope, fill, shift, place));
END
$$;
COMMENT ON FUNCTION federated._render_linear(text[], boolean[], jsonb) IS
    'A prediction that is linear up to its link, as an expression: intercept, target_mean and target_scale, link (identity, logistic or exp), and for each feature one of slopes, fills and shifts';

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
    IF kind ~ '^[a-z_]{1,40}$' THEN
        SELECT p.oid INTO renderer FROM pg_proc AS p
        WHERE p.oid = to_regprocedure(format('federated._render_%s(text[], boolean[], jsonb)', kind))
          AND p.prorettype = 'text'::regtype AND NOT p.proretset
          AND p.proowner = (SELECT own.proowner FROM pg_proc AS own
                            WHERE own.oid = 'federated._render(text[],boolean[],jsonb)'::regprocedure);
    END IF;
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

-- PostgreSQL takes an inlined STABLE function into indexes, generated columns and checks; what they have stored would be
-- another version's predictions, and wrong. A version's own function never changes: that one may be stored.
CREATE FUNCTION federated._refuse_stored_predictions(function_name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stored text := (
        SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ')
        FROM pg_depend AS d JOIN pg_proc AS p ON d.refobjid = p.oid
        WHERE d.refclassid = 'pg_proc'::regclass
          AND p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass)
               OR (d.classid = 'pg_class'::regclass
                   AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = d.objid AND c.relkind IN ('i', 'I', 'r', 'p')))));
BEGIN
    IF stored IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('predictions of federated_model.%I are stored and would be wrong', function_name),
            DETAIL = format('They are stored by %s.', stored),
            HINT = 'Drop that first. To store predictions name a version: federated_predict(''model@1'', ...).';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._refuse_stored_predictions(text) IS
    'Raises an error where an index, a constraint or a column holds what a function in federated_model computed';

-- The one way to a function in federated_model that computes something: for a run that ends, and for an older version.
-- Raises dependent_objects_still_exist where other objects need the function's former signature or its former results.
CREATE FUNCTION federated._define_prediction(
    function_name text, description text, features text[], booleans boolean[], prediction jsonb
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    arguments text;
BEGIN
    IF num_nulls(features, booleans, prediction) > 0
       OR array_position(features, NULL) IS NOT NULL OR array_position(booleans, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a prediction has no NULL in it';
    ELSIF 1 <> ANY (ARRAY[array_ndims(features), array_ndims(booleans)]) OR cardinality(features) <> cardinality(booleans) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error', MESSAGE = 'a prediction has one flag for each feature';
    END IF;
    arguments := (
        SELECT string_agg(format('%I %s DEFAULT NULL', feature, CASE WHEN flag THEN 'boolean' ELSE 'float8' END), ', '
                          ORDER BY place)
        FROM unnest(features, booleans) WITH ORDINALITY AS t (feature, flag, place));
    IF function_name NOT LIKE '%@%' THEN
        PERFORM federated._refuse_stored_predictions(function_name);
    END IF;
    IF EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
          AND (p.proargnames IS DISTINCT FROM features OR (p.proargtypes::oid[])[:] <> (
              SELECT array_agg(CASE WHEN flag THEN 'boolean'::regtype ELSE 'float8'::regtype END::oid ORDER BY place)
              FROM unnest(booleans) WITH ORDINALITY AS t (flag, place)))
    ) THEN
        PERFORM federated._drop_model_function(function_name, 'restrict');
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_model.%I(%s) RETURNS float8 LANGUAGE sql STABLE PARALLEL SAFE RETURN %s',
        function_name, arguments, federated._render(features, booleans, prediction));
    PERFORM federated._write_row_functions(function_name);
    PERFORM federated._finish_model_function(function_name, description);
END
$$;
COMMENT ON FUNCTION federated._define_prediction(text, text, text[], boolean[], jsonb) IS
    'Makes, or remakes, a function in federated_model that computes a prediction, and its forms in federated_row';

-- Whatever changes which version is current takes this lock first.
CREATE FUNCTION federated._lock_publication(model_id bigint) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.publication:' || model_id, 0))
$$;
COMMENT ON FUNCTION federated._lock_publication(bigint) IS
    'Until the transaction ends, nobody else changes which version of the model is current';

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
        model_name, federated._describe_version(model_name, version, run_id), features, booleans, prediction);
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RETURN obstacle;
END
$$;
COMMENT ON FUNCTION federated._publish_function(bigint, integer, uuid, text[], boolean[], jsonb) IS
    'Makes a model''s function compute a version; returns NULL, or what depends on the function of another signature';

CREATE FUNCTION federated._describe_version(model_name text, version integer, run_id uuid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('Version %s of federated model %s, from run %s', version, model_name, run_id)
$$;
COMMENT ON FUNCTION federated._describe_version(text, integer, uuid) IS 'The comment of a function that computes a version';
