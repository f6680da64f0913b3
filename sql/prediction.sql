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
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = model_name
    LOOP
        EXECUTE format('DROP FUNCTION %s %s', model_function,
                       CASE drop_behavior WHEN 'cascade' THEN 'CASCADE' ELSE 'RESTRICT' END);
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._drop_model_function(text, text) IS 'Drops a model''s function; without cascade, dependents refuse';

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
    model_function regprocedure := (
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = model_name);
BEGIN
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', model_function);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO federated_analyst', model_function);
    EXECUTE format('COMMENT ON FUNCTION %s IS %L', model_function, comment);
END
$$;
COMMENT ON FUNCTION federated._finish_model_function(text, text) IS 'Gives a model''s function its grants and its comment';

CREATE FUNCTION federated._create_untrained_function(model_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Restoring a dump brings a model's function before its row.
    IF EXISTS (SELECT FROM pg_proc AS p
               WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = model_name) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE FUNCTION federated_model.%I(%s) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE'
        ' RETURN federated._predict_untrained(%L)',
        model_name, federated._describe_arguments(features), model_name);
    PERFORM federated._finish_model_function(
        model_name, format('Federated model %s, which has no trained version yet', model_name));
END
$$;
COMMENT ON FUNCTION federated._create_untrained_function(text, jsonb) IS 'Makes the function of a model that no run has finished yet';

-- Runs as federated_owner, which owns the functions; it fires only where the caller may change the model's row.
CREATE FUNCTION federated._keep_model_function() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM federated._drop_model_function(
            OLD.name, coalesce(current_setting('federated.drop_behavior', true), 'restrict'));
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM federated._create_untrained_function(NEW.name, NEW.options -> 'features');
    ELSIF NEW.options -> 'features' IS DISTINCT FROM OLD.options -> 'features'
          AND NOT EXISTS (SELECT FROM federated.version AS v WHERE v.model_id = NEW.model_id) THEN
        PERFORM federated._drop_model_function(OLD.name, 'restrict');
        PERFORM federated._create_untrained_function(NEW.name, NEW.options -> 'features');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._keep_model_function() IS 'Keeps federated_model.<name> in step with the model''s row';

CREATE TRIGGER keep_model_function AFTER INSERT OR DELETE OR UPDATE OF options ON federated.model
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

CREATE FUNCTION federated._current_features(model text) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    current_features text[] := (
        SELECT v.features FROM federated.version AS v
        WHERE v.model_id = federated._model_id(model) AND v.is_current);
BEGIN
    IF current_features IS NULL THEN
        PERFORM federated._predict_untrained(model);
    END IF;
    RETURN current_features;
END
$$;
COMMENT ON FUNCTION federated._current_features(text) IS 'The features of a model''s current version in order, or error 55000';

CREATE FUNCTION federated._json_number(value jsonb) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(value) IN ('array', 'object') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the value of a feature must be a number, true or false, not an %s', jsonb_typeof(value));
    END IF;
    RETURN CASE jsonb_typeof(value) WHEN 'boolean' THEN value::boolean::integer
                ELSE (value #>> '{}')::double precision END;
END
$$;
COMMENT ON FUNCTION federated._json_number(jsonb) IS 'A feature''s value given as JSON: true and false are 1 and 0, null is NULL';

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
    'The query that calls a model''s function; argument: a format of each argument''s value from name (1) and place (2)';

CREATE FUNCTION @extschema@.federated_predict(model text, features jsonb) RETURNS double precision
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known   text[] := federated._current_features(model);
    unknown text;
    result  double precision;
BEGIN
    IF features IS NULL THEN
        RETURN NULL;
    ELSIF jsonb_typeof(features) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('features must be a JSON object, not a JSON %s', jsonb_typeof(features)),
            HINT = 'Name each feature: {"feature": value, ...}.';
    END IF;
    unknown := (SELECT min(k) FROM jsonb_object_keys(features) AS k WHERE k <> ALL (known));
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('federated model "%s" has no feature "%s"', model, unknown),
            HINT = format('Its features are %s.', array_to_string(known, ', '));
    END IF;
    EXECUTE federated._describe_call(model, 'federated._json_number($1 -> %1$L)') INTO result USING features;
    RETURN result;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_predict(text, jsonb) IS
    'Prediction of a model''s current version for features given as JSON; a missing feature is NULL';

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
    known   text[] := federated._current_features(model);
    result  double precision;
BEGIN
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
    EXECUTE federated._describe_call(model, '$1[%2$s]') INTO result USING features[:];
    RETURN result;
END
$$;
COMMENT ON FUNCTION @extschema@.predict(text, double precision[]) IS
    'Prediction of a model''s current version for its features in order';
