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
