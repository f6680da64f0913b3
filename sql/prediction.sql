-- A model is a function federated_model.<name> from its creation on: before the first version it says so.

CREATE FUNCTION federated._describe_arguments(features jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('%I double precision DEFAULT NULL', feature), ', ' ORDER BY place), '')
    FROM jsonb_array_elements_text(coalesce(features, '[]'::jsonb)) WITH ORDINALITY AS f (feature, place)
$$;
COMMENT ON FUNCTION federated._describe_arguments(jsonb) IS 'The argument list of a model''s function: each feature by name, missing means NULL';

CREATE FUNCTION federated._drop_model_function(model_name text, drop_behavior text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    FOR model_function IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace) AND p.proname = model_name
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
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('federated model "%s" has no trained version', model),
        HINT = format('START FEDERATED TRAINING %s, then SELECT wait_for_convergence(%L).', quote_ident(model), model);
END
$$;
COMMENT ON FUNCTION federated._predict_untrained(text) IS 'What a model''s function does before the first version: error 55000';

CREATE FUNCTION federated._finish_model_function(model_name text, comment text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    FOR model_function IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace) AND p.proname = model_name
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', model_function);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO federated_analyst', model_function);
        EXECUTE format('COMMENT ON FUNCTION %s IS %L', model_function, comment);
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._finish_model_function(text, text) IS 'Gives a model''s function, in all its forms, its grants and its comment';

CREATE FUNCTION federated._write_untrained_function(model_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION federated_model.%I(%s) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE'
        ' RETURN federated._predict_untrained(%L)',
        model_name, federated._describe_arguments(features), model_name);
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
    WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace)
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
       AND NOT EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = NEW.model_id) THEN
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
    ELSIF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" does not exist', model);
    END IF;
    RETURN found_id;
END
$$;
COMMENT ON FUNCTION federated._model_id(text) IS 'The id of a model, or error 42704';

-- A reference is a model's name, or name@tag, or name@number. The function of a version has the reference's name.
CREATE FUNCTION federated._find_function(reference text, OUT function_name text, OUT features text[])
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_sign    integer := strpos(reference, '@');
    model_name text := reference;
    label      text;
    wanted     integer;
BEGIN
    IF at_sign = 0 OR at_sign IS NULL OR EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN
        function_name := reference;
        features := (SELECT v.features FROM federated.version AS v
                     WHERE v.model_id = federated._model_id(reference) AND v.is_current);
        IF features IS NULL THEN
            PERFORM federated._predict_untrained(reference);
        END IF;
        RETURN;
    END IF;
    label := split_part(reference, '@', -1);
    model_name := left(reference, -1 - length(label));
    wanted := federated._version_number(model_name, label);
    function_name := model_name || '@' || CASE WHEN label ~ '^[0-9]+$' THEN wanted::text ELSE label END;
    features := (SELECT v.features FROM federated.version AS v JOIN federated.model AS m USING (model_id)
                 WHERE m.name = model_name AND v.version = wanted);
    IF NOT EXISTS (SELECT FROM pg_proc AS p
                   WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = function_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" has no function', wanted, model_name),
            DETAIL = CASE WHEN octet_length(function_name) > 63
                THEN format('"%s" is longer than the 63 bytes that a name may have.', function_name)
                ELSE 'It was made by a release that did not keep the numbers of a version.' END,
            HINT = 'A shorter tag names it, or a new run makes a version that has one.';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._find_function(text) IS
    'The function in federated_model that a model, model@tag or model@number names, and its features in order';

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

CREATE FUNCTION federated._describe_call(model text, argument text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT federated_model.%I(%s)', model, string_agg(
        format(CASE type WHEN 'boolean'::regtype THEN '%I => federated._as_boolean(%s)' ELSE '%I => %s' END,
               feature, format(argument, feature, place)), ', '))
    FROM pg_proc AS p, unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY AS a (feature, type, place)
    WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = model
$$;
COMMENT ON FUNCTION federated._describe_call(text, text) IS
    'The query that calls a function in federated_model; argument: a format of each argument''s value from name (1) and place (2)';

-- The functions of federated_row resolve a model and its features when they are made: calling one takes a few
-- microseconds, where these two, which find everything anew, take a hundred. They are for what has none of those: a version
-- that a dump of an earlier release brought, and a name like model@007; and they say what is wrong with a call.
CREATE FUNCTION federated._predict_json(model text, features jsonb, of_row boolean) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    callee  text;
    known   text[];
    unknown text;
    result  double precision;
BEGIN
    SELECT f.function_name, f.features INTO callee, known FROM federated._find_function(model) AS f;
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
    EXECUTE federated._describe_call(callee, 'federated._json_number($1 -> %1$L)') INTO result USING features;
    RETURN result;
END
$$;
COMMENT ON FUNCTION federated._predict_json(text, jsonb, boolean) IS
    'Prediction for features given as JSON, or as a row made JSON, in which what is no feature is ignored: finds everything anew';

CREATE FUNCTION federated._predict_array(model text, features double precision[]) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    callee  text;
    known   text[];
    result  double precision;
BEGIN
    SELECT f.function_name, f.features INTO callee, known FROM federated._find_function(model) AS f;
    IF features IS NULL THEN
        RETURN NULL;
    ELSIF array_ndims(features) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = format('predict takes an array of one dimension, not of %s', array_ndims(features)),
            HINT = format('Give the features of "%s" in this order: %s.', model, array_to_string(known, ', '));
    ELSIF cardinality(features) <> cardinality(known) THEN
        RAISE EXCEPTION USING ERRCODE = 'array_subscript_error',
            MESSAGE = format('federated model "%s" takes %s features, not %s', model, cardinality(known), cardinality(features)),
            HINT = format('In this order: %s.', array_to_string(known, ', '));
    END IF;
    -- A slice renumbers from 1, whatever the array's own lower bound is.
    EXECUTE federated._describe_call(callee, '$1[%2$s]') INTO result USING features[:];
    RETURN result;
END
$$;
COMMENT ON FUNCTION federated._predict_array(text, double precision[]) IS
    'Prediction for features in order: finds everything anew';

-- In PL/pgSQL, whose plans a session keeps: a function in SQL would be planned anew at each call. Every name in the bodies
-- is qualified, so that none needs a search_path of its own, which would be set at each call.
CREATE FUNCTION federated._write_row_functions(function_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known     text[];
    of_json   text;
    of_array  text;
    signature text;
    body      text;
BEGIN
    -- What begins as a number does is one, in JSON as in a string of it; all else, what is wrong too, takes the dearer way.
    SELECT p.proargnames,
           string_agg(format(CASE a.type WHEN 'boolean'::regtype THEN
                   E'%1$I => CASE WHEN %2$s OPERATOR(pg_catalog.=) ''true'' THEN true'
                   ' WHEN %2$s OPERATOR(pg_catalog.=) ''false'' THEN false ELSE federated._as_boolean(federated._json_number(%3$s)) END'
               ELSE E'%1$I => CASE WHEN pg_catalog.ascii(%2$s) OPERATOR(pg_catalog.<) 58 THEN (%2$s)::pg_catalog.float8'
                   ' WHEN %2$s IS NOT NULL THEN federated._json_number(%3$s) END' END,
               a.feature, format('($1 OPERATOR(pg_catalog.->>) %L)', a.feature), format('($1 OPERATOR(pg_catalog.->) %L)', a.feature)),
               E',\n            ' ORDER BY a.place),
           string_agg(format(CASE a.type WHEN 'boolean'::regtype THEN
                   E'%1$I => CASE WHEN $1[%2$s] OPERATOR(pg_catalog.=) 0::pg_catalog.float8 THEN false'
                   ' WHEN $1[%2$s] OPERATOR(pg_catalog.=) 1::pg_catalog.float8 THEN true ELSE federated._as_boolean($1[%2$s]) END'
               ELSE '%1$I => $1[%2$s]' END, a.feature, a.place), E',\n            ' ORDER BY a.place)
    INTO STRICT known, of_json, of_array
    FROM pg_proc AS p, unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY AS a (feature, type, place)
    WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = function_name
    GROUP BY p.oid;
    FOR signature, body IN VALUES
        ('jsonb, boolean', format(
            E'BEGIN\n    RETURN CASE WHEN CASE WHEN pg_catalog.jsonb_typeof($1) OPERATOR(pg_catalog.=) ''object'' THEN\n'
            '            CASE WHEN $2 THEN $1 OPERATOR(pg_catalog.?|) %1$L::pg_catalog.text[]\n'
            '                 ELSE ($1 OPERATOR(pg_catalog.-) %1$L::pg_catalog.text[]) OPERATOR(pg_catalog.=) ''{}'' END END\n'
            '        THEN federated_model.%2$I(%3$s)\n'
            '        ELSE federated._predict_json(%2$L, $1, $2) END;\nEND', known, function_name, of_json)),
        ('double precision[]', format(
            E'BEGIN\n    RETURN CASE WHEN pg_catalog.array_ndims($1) OPERATOR(pg_catalog.=) 1\n'
            '             AND pg_catalog.array_lower($1, 1) OPERATOR(pg_catalog.=) 1\n'
            '             AND pg_catalog.cardinality($1) OPERATOR(pg_catalog.=) %1$s\n'
            '        THEN federated_model.%2$I(%3$s)\n'
            '        ELSE federated._predict_array(%2$L, $1) END;\nEND', cardinality(known), function_name, of_array))
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION federated_row.%I(%s) RETURNS double precision'
                       ' LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS %L', function_name, signature, body);
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._write_row_functions(text) IS
    'Makes, or remakes, in federated_row the forms of a function in federated_model: (jsonb, boolean) for JSON or a row, (double precision[])';

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

-- Whatever its kind, a prediction whose link is logistic is a probability. What is from before predictions were kept was
-- made by one of two algorithms.
CREATE FUNCTION federated._classes(reference text) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := CASE WHEN EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN reference
                            ELSE regexp_replace(reference, '@[^@]*$', '') END;
    algorithm   text;
    has_classes boolean;
    declared    jsonb;
BEGIN
    SELECT r.options ->> 'algorithm',
           CASE WHEN v.prediction IS NULL THEN r.options ->> 'algorithm' = 'logistic_regression'
                ELSE v.prediction ->> 'link' = 'logistic' END,
           v.prediction -> 'classes'
    INTO algorithm, has_classes, declared
    FROM federated.version AS v JOIN federated.run AS r USING (run_id)
    WHERE v.model_id = federated._model_id(model_name)
      AND CASE WHEN model_name = reference THEN v.is_current
               ELSE v.version = federated._version_number(model_name, split_part(reference, '@', -1)) END;
    IF NOT FOUND THEN
        PERFORM federated._predict_untrained(reference);
    ELSIF has_classes IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated model "%s" predicts a number and has no classes', reference),
            DETAIL = format('Its algorithm is %s.', algorithm),
            HINT = 'Use federated_predict.';
    END IF;
    RETURN CASE WHEN declared IS NULL THEN ARRAY['0', '1'] ELSE ARRAY[declared ->> 0, declared ->> 1] END;
END
$$;
COMMENT ON FUNCTION federated._classes(text) IS
    'The labels of the classes 0 and 1 of a model, or of the version that model@tag names; 55000 where it has none';

CREATE FUNCTION @extschema@.federated_predict_class(model text, features jsonb DEFAULT '{}') RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    classes     text[] := federated._classes(model);
    probability double precision := @extschema@.federated_predict(model, features);
BEGIN
    RETURN CASE WHEN probability >= 0.5 THEN classes[2] WHEN probability < 0.5 THEN classes[1] END;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict_class(text, jsonb) IS
    'The likelier class: the second of target_classes (''1'' where none are declared: the target is true or 1) from a probability of 0.5 on, else the first (''0''); error 55000 for a regression';

CREATE FUNCTION @extschema@.federated_predict_proba(model text, features jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    classes     text[] := federated._classes(model);
    probability double precision := @extschema@.federated_predict(model, features);
BEGIN
    RETURN CASE WHEN probability IS NOT NULL
                THEN jsonb_build_object(classes[1], 1 - probability, classes[2], probability) END;
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
    'The names and types of the columns of a query that is one statement, or the error that it raises';

CREATE FUNCTION federated._describe_batch(model text, callee text, query text, columns jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arguments text;
BEGIN
    arguments := (
        SELECT string_agg(format(
            CASE WHEN a.type = 'boolean'::regtype AND c.type = 'boolean'::regtype THEN '%1$I => q.%1$I'
                 WHEN a.type = 'boolean'::regtype THEN '%1$I => federated._as_boolean(q.%1$I::pg_catalog.float8)'
                 WHEN c.type = 'boolean'::regtype THEN '%1$I => q.%1$I::pg_catalog.int4::pg_catalog.float8'
                 ELSE '%1$I => q.%1$I::pg_catalog.float8' END, a.feature), ', ')
        FROM pg_proc AS p
        CROSS JOIN LATERAL unnest(p.proargnames, p.proargtypes::oid[]) AS a (feature, type)
        JOIN (SELECT DISTINCT k.name, k.type FROM jsonb_to_recordset(columns) AS k (name text, type oid)) AS c
            ON c.name = a.feature
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname::text = callee);
    IF arguments IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', model),
            HINT = format('Its features are %s.', array_to_string(federated._current_features(model), ', '));
    END IF;
    RETURN format(E'SELECT q.*, federated_model.%I(%s) AS prediction FROM (%s\n) AS q', callee, arguments, query);
END
$$;
COMMENT ON FUNCTION federated._describe_batch(text, text, text, jsonb) IS
    'A query with a prediction beside its columns: one call, which the planner inlines, in one query';

-- The query is known to be one statement and whole in itself: behind it no parenthesis closes early.
CREATE FUNCTION @extschema@.federated_predict_batch(model text, query text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    callee pg_catalog.text;
    found  pg_catalog.jsonb;
BEGIN
    callee := (SELECT f.function_name FROM federated._find_function(model) AS f);
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null';
    END IF;
    found := federated._describe_columns(query);
    PERFORM federated._raise(found OPERATOR(pg_catalog.->) 'failure');
    RETURN QUERY EXECUTE federated._describe_batch(model, callee, found OPERATOR(pg_catalog.->>) 'query', found OPERATOR(pg_catalog.->) 'columns');
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict_batch(text, text) IS
    'The rows of a query, run with the caller''s rights and search_path, with the prediction as last column; features are its columns of these names. Needs a column list: AS (id integer, ..., prediction float8)';
