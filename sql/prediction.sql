-- A model is a function federated_model.<name> from its creation on: before the first version it says so.

CREATE FUNCTION federated._describe_arguments(features jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN count(*) > 99 THEN 'slots double precision[] DEFAULT NULL'
                ELSE coalesce(string_agg(format('%I double precision DEFAULT NULL', feature), ', ' ORDER BY place), '') END
    FROM jsonb_array_elements_text(coalesce(features, '[]'::jsonb)) WITH ORDINALITY AS f (feature, place)
$$;
COMMENT ON FUNCTION federated._describe_arguments(jsonb) IS 'The argument list of a model''s function: each feature by name, missing means NULL; of more than a function may have, one array';

CREATE FUNCTION federated._drop_model_function(model_name text, drop_behavior text) RETURNS void
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

CREATE FUNCTION federated._predict_untrained(model text) RETURNS double precision
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

CREATE FUNCTION federated._finish_model_function(model_name text, comment text) RETURNS void
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

CREATE FUNCTION federated._write_untrained_function(model_name text, features jsonb) RETURNS void
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

CREATE FUNCTION federated._create_untrained_function(model_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Restoring a dump brings a model's function before its row.
    IF NOT EXISTS (SELECT FROM pg_proc AS p
                   WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = model_name) THEN
        PERFORM federated._write_untrained_function(model_name, features);
    END IF;
END
$$;
COMMENT ON FUNCTION federated._create_untrained_function(text, jsonb) IS
    'Makes the function of a new model, where a dump has not brought it already';

-- A model made before names were checked may have an @ in its own: its function is no version of another model.
CREATE FUNCTION federated._list_functions(model_name text) RETURNS SETOF regprocedure
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
CREATE FUNCTION federated._keep_model_function() RETURNS trigger
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

CREATE TRIGGER keep_model_function AFTER INSERT OR DELETE OR UPDATE OF name, options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_model_function();

CREATE FUNCTION federated._model_id(model text) RETURNS bigint
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

CREATE FUNCTION federated._find_function(
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

CREATE FUNCTION federated._current_features(model text) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT f.features FROM federated._find_function(model) AS f
$$;
COMMENT ON FUNCTION federated._current_features(text) IS
    'The features in order of a model''s current version, or of the one that model@tag names; or error 55000';

CREATE FUNCTION federated._json_number(value jsonb) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) IN ('array', 'object') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of a feature must be a number, true or false, not an %s', jsonb_typeof(value));
    END IF;
    RETURN CASE WHEN jsonb_typeof(value) = 'boolean' OR value IN ('"true"', '"false"', '"t"', '"f"')
                THEN (value #>> '{}')::boolean::integer
                ELSE (value #>> '{}')::double precision END;
END
$$;
COMMENT ON FUNCTION federated._json_number(jsonb) IS 'A feature''s value given as JSON, as a string too: true and false are 1 and 0, null is NULL';

CREATE FUNCTION federated._as_boolean(value double precision) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value NOT IN (0, 1) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of a boolean feature must be true, false, 1 or 0, not %s', value);
    END IF;
    RETURN value = 1;
END
$$;
COMMENT ON FUNCTION federated._as_boolean(double precision) IS 'A boolean feature''s value given as a number';

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
CREATE FUNCTION @extschema@.federated_predict(model text, features jsonb DEFAULT '{}') RETURNS double precision
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

CREATE FUNCTION @extschema@.predict(model text, features jsonb) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.federated_predict(model, features);
END
$$;
COMMENT ON FUNCTION @extschema@.predict(text, jsonb) IS 'The same as federated_predict(model, features)';

CREATE FUNCTION @extschema@.predict(model text, features double precision[]) RETURNS double precision
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
CREATE FUNCTION @extschema@.predict(model text, features record) RETURNS double precision
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

CREATE FUNCTION @extschema@.federated_predict_class(model text, features jsonb DEFAULT '{}') RETURNS text
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

CREATE FUNCTION @extschema@.federated_predict_proba(model text, features jsonb DEFAULT '{}') RETURNS jsonb
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
CREATE FUNCTION federated._describe_columns(query text) RETURNS jsonb
LANGUAGE plpython3u VOLATILE AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.describe_columns(plpy, query, "@VERSION@")
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
CREATE FUNCTION @extschema@.federated_predict_batch(model text, query text) RETURNS SETOF record
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
