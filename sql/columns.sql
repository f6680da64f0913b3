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
