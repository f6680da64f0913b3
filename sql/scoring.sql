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
    numbers_of = SD["numbers_of"] = door.scoring(plpy, "@VERSION@", "numbers_of", "words")
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
return door.scoring(plpy, "@VERSION@", "image_slots", "images")(image, feature, shape)
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
    score = SD["score"] = door.scoring(plpy, "@VERSION@", "score_row")
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
return door.scoring(plpy, "@VERSION@", "score_row_classes")(run_id, slots)
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
return door.scoring(plpy, "@VERSION@", "score_rows")(run_id, slots)
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
door.keeping(plpy, "@VERSION@")(run_id, prediction, arrays, encoding)
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
return door.prediction_key(plpy, "@VERSION@")
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
