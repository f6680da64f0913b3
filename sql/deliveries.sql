-- What a node's daemon does with what the coordinator offers. All of it is another organisation's word: it is numbers, names and
-- labels of bounded size or it is refused, and the version before stays whole.

-- A text of the other side's, as one line of bounded length.
CREATE FUNCTION federated._one_line(words text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(regexp_replace(left(words, 2000), '[[:cntrl:][:space:]]+', ' ', 'g'), 1000)
$$;
COMMENT ON FUNCTION federated._one_line(text) IS 'A text as one line of at most 1000 characters';

CREATE FUNCTION federated._lock_subscription(subscription text) RETURNS federated.subscription
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.subscription;
BEGIN
    SELECT s.* INTO subject FROM federated.subscription AS s WHERE s.name = subscription FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated subscription "%s" is no longer there', subscription);
    END IF;
    RETURN subject;
END
$$;
COMMENT ON FUNCTION federated._lock_subscription(text) IS 'A subscription, locked until the transaction ends; 55000 where there is none of that name';

CREATE FUNCTION federated._hear_offer(
    subscription text, workspace text, model text, wanted text, outcome text, version integer, version_key uuid, reason text
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject    federated.subscription := federated._lock_subscription(subscription);
    is_offered boolean := outcome IS NOT DISTINCT FROM 'offered';
    is_news    boolean := ROW(subject.heard_outcome, subject.heard_version, subject.heard_key) IS DISTINCT FROM ROW(outcome, version, version_key);
    current    uuid := (SELECT d.version_key FROM federated.delivered_version AS d
                        WHERE d.subscription_id = subject.subscription_id AND d.is_current);
    -- A coordinator that was restored from before an erasure offers it again.
    is_retired boolean := EXISTS (SELECT FROM federated.delivered_version AS d WHERE d.subscription_id = subject.subscription_id
                                  AND d.version_key = version_key AND d.retired_at IS NOT NULL);
BEGIN
    IF ROW(subject.workspace, subject.model_name, subject.wanted) IS DISTINCT FROM ROW(workspace, model, wanted) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated subscription "%s" is another by now', subscription);
    ELSIF num_nulls(version, version_key) <> (CASE WHEN is_offered THEN 0 ELSE 2 END) OR version < 1
          OR coalesce(outcome, '') NOT IN ('offered', 'unknown', 'waiting', 'unavailable') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no offer of a version';
    END IF;
    UPDATE federated.subscription AS s
    SET heard_outcome = outcome, heard_version = version, heard_key = version_key, heard_at = clock_timestamp(),
        heard_since = CASE WHEN is_news OR s.heard_since IS NULL THEN clock_timestamp() ELSE s.heard_since END,
        reason = federated._one_line(reason),
        -- What was asked for is here.
        refresh = s.refresh AND (NOT is_offered OR version_key IS DISTINCT FROM current),
        refused_key = CASE WHEN is_retired OR version_key IS NOT DISTINCT FROM s.refused_key THEN version_key END,
        failure = CASE WHEN is_retired THEN format('version %s was retired, and is not taken again', version)
                       WHEN version_key IS NOT DISTINCT FROM s.refused_key THEN s.failure END
    WHERE s.subscription_id = subject.subscription_id;
    RETURN is_offered AND (subject.auto OR subject.refresh OR current IS NULL)
        AND version_key IS DISTINCT FROM current AND version_key IS DISTINCT FROM subject.refused_key AND NOT is_retired;
END
$$;
COMMENT ON FUNCTION federated._hear_offer(text, text, text, text, text, integer, uuid, text) IS
    'Notes what the coordinator says of a subscription; whether the version that it offers is to be taken. 55000 where the subscription is gone or another by now';

-- Of all that prediction and features say, nothing is taken for what it should be: types, sizes, numbers that are floats.
CREATE FUNCTION federated._check_delivery(features text[], contract jsonb, prediction jsonb, prediction_arrays bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind     text := prediction ->> 'kind';
    link     text := prediction ->> 'link';
    booleans boolean[];
    wrong    text;
BEGIN
    wrong := CASE
        WHEN jsonb_typeof(prediction) IS DISTINCT FROM 'object' OR jsonb_typeof(contract) IS DISTINCT FROM 'object' THEN 'it is no JSON object'
        -- What a number is written with may be longer than it: floats are not.
        WHEN jsonb_path_exists(prediction, '$.** ? (@.type() == "number" && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
             || @ > 0 && @ < 1e-330 || @ < 0 && @ > -1e-330))') THEN 'a number in it is no float'
        WHEN octet_length(prediction::text) > 67108864 THEN 'it is larger than 64 MiB'
        WHEN octet_length(prediction_arrays) > 536870912 THEN 'its arrays are larger than 512 MiB'
        WHEN array_ndims(features) IS DISTINCT FROM 1 OR array_lower(features, 1) <> 1 OR cardinality(features) > 1600 THEN 'it has no features, or more than 1600'
        WHEN array_position(features, NULL) IS NOT NULL OR EXISTS (
            SELECT FROM unnest(features) AS f WHERE f = '' OR octet_length(f) > 63 OR f ~ '[[:cntrl:]]') THEN 'a feature in it has no name that a column may have'
        WHEN cardinality(features) > (SELECT count(DISTINCT f) FROM unnest(features) AS f) THEN 'it has a feature twice'
        WHEN EXISTS (SELECT FROM jsonb_each(contract) AS c
                     WHERE c.key NOT IN ('algorithm', 'target', 'event', 'weights', 'offset') OR jsonb_typeof(c.value) <> 'string'
                        OR octet_length(c.value #>> '{}') NOT BETWEEN 1 AND 63) THEN 'what it is judged by are no names of columns'
        WHEN prediction <> federated._predicting(prediction) THEN 'it has more than a prediction has'
        WHEN coalesce(kind, 'linear') NOT IN ('linear', 'softmax_linear', 'network', 'convolution', 'series', 'trees', 'votes') THEN 'there are no predictions of its kind here'
        WHEN jsonb_typeof(prediction -> 'link') IS DISTINCT FROM 'string' OR link NOT IN ('identity', 'exp', 'logistic', 'softmax')
             OR (link = 'softmax') <> (CASE WHEN kind IN ('network', 'convolution', 'series', 'trees', 'votes') THEN link = 'softmax' ELSE kind IS NOT DISTINCT FROM 'softmax_linear' END)
            THEN 'there are no predictions of its link here'
        WHEN jsonb_typeof(prediction -> 'booleans') IS DISTINCT FROM 'array'
             OR jsonb_array_length(prediction -> 'booleans') <> cardinality(features)
             OR jsonb_path_exists(prediction, 'strict $.booleans[*] ? (@.type() != "boolean")') THEN 'it has no flag for each feature'
        WHEN prediction ? 'encoding' AND jsonb_typeof(prediction #> '{encoding,columns}') IS DISTINCT FROM 'array' THEN 'its encoding is none'
        WHEN jsonb_path_exists(prediction, '$.slopes.** ? (@.type() != "number" && @.type() != "array")')
             OR EXISTS (SELECT FROM unnest(ARRAY['fills', 'shifts', 'intercepts']) AS k
                        WHERE jsonb_path_exists(prediction -> k, '$[*] ? (@.type() != "number")')) THEN 'what should be numbers in it is none'
        WHEN EXISTS (SELECT FROM unnest(ARRAY['intercept', 'target_mean', 'target_scale']) AS k
                     WHERE prediction ? k AND jsonb_typeof(prediction -> k) <> 'number') THEN 'what should be a number in it is none'
        WHEN prediction ? 'classes' AND (
            jsonb_typeof(prediction -> 'classes') <> 'array' OR jsonb_array_length(prediction -> 'classes') NOT BETWEEN 2 AND 1000
            OR jsonb_path_exists(prediction, 'strict $.classes[*] ? (@.type() != "string")')) THEN 'its classes are no labels'
        WHEN link = 'softmax' AND NOT prediction ? 'classes' OR link = 'logistic' AND jsonb_array_length(prediction -> 'classes') <> 2
            THEN 'its classes are not as many as it predicts' END;
    IF wrong IS NULL THEN
        -- Inside CASE nothing is certain to be evaluated late.
        wrong := CASE WHEN EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(prediction -> 'classes', '[]')) AS c (label) GROUP BY c.label
                                   HAVING count(*) > 1 OR octet_length(c.label) > 120) THEN 'its classes are no labels' END;
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('this is no prediction: %s', wrong);
    END IF;
    booleans := federated._flags(prediction);
    PERFORM federated._check_columns(features, booleans, prediction);
    PERFORM federated._check_encoding(features, booleans, prediction);
END
$$;
COMMENT ON FUNCTION federated._check_delivery(text[], jsonb, jsonb, bytea) IS
    'Raises an error where what was delivered is not a prediction of bounded size';

CREATE FUNCTION federated._flags(prediction jsonb) RETURNS boolean[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT f.flag::boolean FROM jsonb_array_elements_text(prediction -> 'booleans')
                 WITH ORDINALITY AS f (flag, place) ORDER BY f.place)
$$;
COMMENT ON FUNCTION federated._flags(jsonb) IS 'Which features of a stored prediction are boolean, in their order';

CREATE FUNCTION federated._check_encoding(features text[], booleans boolean[], prediction jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slots  bigint;
    inputs bigint;
    wrong  text;
    -- Of models that vote each has levels of its own: of a bound of all, one of them could fill what the others need.
    models integer := CASE WHEN jsonb_typeof(prediction -> 'votes') = 'number'
        THEN least(greatest((prediction ->> 'votes')::numeric, 1), 1000) ELSE 1 END;
BEGIN
    SELECT sum(c.slots), sum(c.inputs),
           min(c.feature) FILTER (WHERE
               jsonb_typeof(coalesce(c.spec -> 'levels', '[]')) <> 'array' OR jsonb_array_length(coalesce(c.spec -> 'levels', '[]')) > models * 1000
               OR jsonb_typeof(coalesce(c.spec -> 'edges', '[]')) <> 'array' OR jsonb_array_length(coalesce(c.spec -> 'edges', '[]')) > 1000
               OR EXISTS (SELECT FROM unnest(ARRAY['null_level', 'other_level', 'missing_indicator', 'scaled']) AS k
                          WHERE c.spec ? k AND jsonb_typeof(c.spec -> k) <> 'boolean')
               OR EXISTS (SELECT FROM jsonb_object_keys(c.spec) AS k
                          WHERE k NOT IN ('column', 'kind', 'form', 'levels', 'null_level', 'other_level', 'edges', 'elements',
                                          'missing_indicator', 'scaled', 'shape')))
    INTO slots, inputs, wrong
    FROM federated._columns(features, booleans, prediction) AS c;
    wrong := coalesce(wrong, (
        SELECT min(c.feature) FROM federated._columns(features, booleans, prediction) AS c
        WHERE EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(c.spec -> 'levels', '[]')) AS l (level) WHERE octet_length(l.level) > 120)
           OR federated._json_numbers(coalesce(c.spec -> 'edges', '[]'))
              <> ARRAY(SELECT DISTINCT e FROM unnest(federated._json_numbers(coalesce(c.spec -> 'edges', '[]'))) AS e ORDER BY e)));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the encoding of feature "%s" is none that there is', wrong);
    ELSIF slots > 16000 OR inputs > 16000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = 'a prediction has at most 16000 inputs', DETAIL = format('This one has %s.', greatest(slots, inputs));
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_encoding(text[], boolean[], jsonb) IS
    'Raises an error where an encoding that was delivered is larger than any, or holds what an encoding has not';

-- What numpy would compute is looked at by what knows its arrays: a tree whose nodes lead in a circle would never end.
CREATE FUNCTION federated._check_numbers(prediction text, arrays bytea, encoding text) RETURNS text
LANGUAGE plpython3u VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "@VERSION@", "find_fault")(prediction, arrays, encoding)
$$;
COMMENT ON FUNCTION federated._check_numbers(text, bytea, text) IS
    'What is wrong with the numbers of a prediction that numpy is to compute; NULL where they are sound';

-- A prediction that computes nothing for one of whom nothing is known computes nothing.
CREATE FUNCTION federated._try_prediction(function_name text, prediction jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found double precision[];
BEGIN
    IF federated._has_many_classes(prediction) THEN
        EXECUTE format('SELECT federated_proba.%I()', function_name) INTO found;
    ELSE
        EXECUTE format('SELECT ARRAY[federated_model.%I()]', function_name) INTO found;
    END IF;
    IF cardinality(found) IS DISTINCT FROM (CASE WHEN federated._has_many_classes(prediction) THEN jsonb_array_length(prediction -> 'classes') ELSE 1 END)
       OR EXISTS (SELECT FROM unnest(found) AS f WHERE f IS NULL OR f IN ('NaN', 'Infinity', '-Infinity')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'this is no prediction: for one of whom nothing is known it is not a number for each class, or a number';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._try_prediction(text, jsonb) IS 'Raises an error where the function of a version that was delivered computes nothing';

CREATE FUNCTION federated._check_scored(features text[], prediction jsonb, prediction_arrays bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    booleans boolean[] := federated._flags(prediction);
    wrong    text;
BEGIN
    IF federated._is_expression(features, booleans, prediction) THEN
        IF prediction_arrays IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no prediction: an expression has no arrays';
        END IF;
        RETURN;
    END IF;
    wrong := federated._check_numbers((prediction - '{encoding,booleans}'::text[])::text, prediction_arrays,
                                      federated._encoding_text(features, booleans, prediction));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('this is no prediction: %s', wrong);
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_scored(text[], jsonb, bytea) IS
    'Raises an error where numpy could not compute what was delivered, or would not come to an end';

CREATE FUNCTION federated._forget_version(model_name text, former federated.delivered_version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._drop_model_function(model_name || '@' || former.version, 'restrict');
    DELETE FROM federated.delivered_version AS d WHERE d.delivery_id = former.delivery_id;
END
$$;
COMMENT ON FUNCTION federated._forget_version(text, federated.delivered_version) IS
    'Drops a delivered version and its own function; 2BP01 where other objects depend on that';

-- The same version once more is the row that is there: what depends on its function goes on. Of another one under its number, or
-- of its run, nothing stays.
CREATE FUNCTION federated._place_version(model_name text, taken federated.delivered_version) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept   uuid := (SELECT d.delivery_id FROM federated.delivered_version AS d
                    WHERE d.subscription_id = taken.subscription_id AND d.version = taken.version AND d.version_key = taken.version_key
                      AND d.features = taken.features AND d.prediction = taken.prediction
                      AND d.prediction_arrays IS NOT DISTINCT FROM taken.prediction_arrays);
    former federated.delivered_version;
BEGIN
    UPDATE federated.delivered_version AS d SET is_current = false WHERE d.subscription_id = taken.subscription_id AND d.is_current;
    IF kept IS NOT NULL THEN
        UPDATE federated.delivered_version AS d
        SET is_current = true, contract = taken.contract, body_sha256 = taken.body_sha256, header = taken.header,
            signature = taken.signature, certificate_sha256 = taken.certificate_sha256, delivered_at = taken.delivered_at,
            personal_run = taken.personal_run
        WHERE d.delivery_id = kept;
        RETURN kept;
    END IF;
    FOR former IN SELECT d.* FROM federated.delivered_version AS d WHERE d.subscription_id = taken.subscription_id
                  AND (d.version = taken.version OR d.version_key = taken.version_key) LOOP
        PERFORM federated._forget_version(model_name, former);
    END LOOP;
    INSERT INTO federated.delivered_version SELECT taken.*;
    RETURN taken.delivery_id;
END
$$;
COMMENT ON FUNCTION federated._place_version(text, federated.delivered_version) IS
    'Makes the row of a version that was delivered the current one; returns by what its functions know it';

CREATE FUNCTION federated._forget_former(subscription_id bigint, model_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former federated.delivered_version;
BEGIN
    FOR former IN SELECT d.* FROM federated.delivered_version AS d
                  WHERE d.subscription_id = _forget_former.subscription_id AND NOT d.is_current LOOP
        BEGIN
            PERFORM federated._forget_version(model_name, former);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- What a view or an index computes by it goes on.
            NULL;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._forget_former(bigint, text) IS
    'Drops the versions before the current one, but for those on whose functions other objects depend';

-- Called in a subtransaction: what raises an error here leaves all as it was.
CREATE FUNCTION federated._store_delivery(model_name text, taken federated.delivered_version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_name    text := model_name || '@' || taken.version;
    description text := format('Version %s of federated model %s, delivered', taken.version, model_name);
    booleans    boolean[];
    numbers_id  uuid;
BEGIN
    PERFORM federated._check_delivery(taken.features, taken.contract, taken.prediction, taken.prediction_arrays);
    PERFORM federated._check_scored(taken.features, taken.prediction, taken.prediction_arrays);
    booleans := federated._flags(taken.prediction);
    numbers_id := federated._place_version(model_name, taken);
    PERFORM federated._define_prediction(model_name, description, taken.features, booleans, taken.prediction, numbers_id);
    IF octet_length(own_name) <= 63 AND numbers_id = taken.delivery_id THEN
        PERFORM federated._define_prediction(own_name, description, taken.features, booleans, taken.prediction, numbers_id);
    END IF;
    PERFORM federated._try_prediction(model_name, taken.prediction);
    PERFORM federated._forget_former(taken.subscription_id, model_name);
END
$$;
COMMENT ON FUNCTION federated._store_delivery(text, federated.delivered_version) IS
    'Makes a version that was delivered the current one: its row, the model''s function and its own; an earlier one goes, unless other objects depend on its function';

CREATE FUNCTION federated._may_pass(sqlstate text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(sqlstate, 2) IN ('40', '53', '57', '58', 'XX') OR sqlstate IN ('55P03', '25006')
$$;
COMMENT ON FUNCTION federated._may_pass(text) IS
    'Whether an error is of the server''s state and not of what was asked: it is worth another try';

-- Runs as federated_owner, the only role that may create anything in federated_model. prediction and contract are texts: what is
-- no JSON is refused here like all else that is wrong with them.
CREATE FUNCTION federated._take_version(
    subscription text, version integer, version_key uuid, features text[], contract text, prediction text, prediction_arrays bytea,
    body_sha256 bytea, header bytea, signature bytea, certificate_sha256 bytea, personal_run uuid DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject  federated.subscription := federated._lock_subscription(subscription);
    taken    federated.delivered_version;
    obstacle text;
    more     text;
BEGIN
    IF ROW('offered', version, version_key) IS DISTINCT FROM ROW(subject.heard_outcome, subject.heard_version, subject.heard_key) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated subscription "%s" was not offered', version, subscription);
    END IF;
    BEGIN
        IF octet_length(prediction) > 67108864 OR octet_length(contract) > 65536 THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'this is no prediction: it is larger than 64 MiB';
        END IF;
        taken := ROW(subject.subscription_id, version, version_key, gen_random_uuid(), features, contract::jsonb, prediction::jsonb,
                     prediction_arrays, body_sha256, header, signature, certificate_sha256, true, clock_timestamp(), NULL,
                     personal_run);
        PERFORM federated._store_delivery(subject.model_name, taken);
    EXCEPTION WHEN OTHERS THEN
        IF federated._may_pass(SQLSTATE) THEN
            RAISE;
        END IF;
        GET STACKED DIAGNOSTICS obstacle = MESSAGE_TEXT, more = PG_EXCEPTION_DETAIL;
        obstacle := federated._one_line(CASE SQLSTATE WHEN '2BP01' THEN
            format('other objects depend on the functions of federated model "%s" as they are (drop them, ALTER FEDERATED SUBSCRIPTION %I REFRESH, make them again): %s',
                   subject.model_name, subject.name, more)
            ELSE obstacle || coalesce(': ' || nullif(more, ''), '') END);
    END;
    UPDATE federated.subscription AS s
    SET refresh = s.refresh AND obstacle IS NOT NULL, refused_key = CASE WHEN obstacle IS NOT NULL THEN version_key END, failure = obstacle
    WHERE s.subscription_id = subject.subscription_id;
    RETURN obstacle;
END
$$;
COMMENT ON FUNCTION federated._take_version(text, integer, uuid, text[], text, text, bytea, bytea, bytea, bytea, bytea, uuid) IS
    'Makes a version that was offered and has come the current one of a subscription; or returns why it cannot be, notes that, and leaves all as it was';

CREATE FUNCTION federated._refuse_version(subscription text, version_key uuid, failure text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject federated.subscription := federated._lock_subscription(subscription);
BEGIN
    IF subject.heard_key IS DISTINCT FROM version_key THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('this version of federated subscription "%s" was not offered', subscription);
    END IF;
    UPDATE federated.subscription AS s SET refused_key = version_key, failure = coalesce(federated._one_line(failure), 'the node refused it')
    WHERE s.subscription_id = subject.subscription_id;
END
$$;
COMMENT ON FUNCTION federated._refuse_version(text, uuid, text) IS
    'Notes why a version that was offered is not taken, whoever found that';

-- Runs as federated_owner, which owns the functions.
CREATE FUNCTION federated._withdraw_version(subscription text, workspace text, model text, wanted text, version_key uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    subject federated.subscription := federated._lock_subscription(subscription);
    retired federated.delivered_version;
BEGIN
    IF ROW(subject.workspace, subject.model_name, subject.wanted) IS DISTINCT FROM ROW(workspace, model, wanted) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated subscription "%s" is another by now', subscription);
    END IF;
    UPDATE federated.delivered_version AS d SET retired_at = clock_timestamp(), prediction = '{}', prediction_arrays = NULL
    WHERE d.subscription_id = subject.subscription_id AND d.version_key = version_key AND d.retired_at IS NULL
    RETURNING d.* INTO retired;
    IF retired.version IS NULL THEN
        RETURN false;
    END IF;
    PERFORM federated._write_refusal(k.function_name, w.message, w.hint)
    FROM federated._why_withdrawn(model, retired.version, true, (
        SELECT d.version FROM federated.delivered_version AS d
        WHERE d.subscription_id = subject.subscription_id AND d.is_current AND d.retired_at IS NULL)) AS w
    CROSS JOIN LATERAL (SELECT model || '@' || retired.version AS function_name UNION ALL SELECT model WHERE retired.is_current) AS k;
    RETURN true;
END
$$;
COMMENT ON FUNCTION federated._withdraw_version(text, text, text, text, uuid) IS
    'Has a version that was delivered, and was retired where it was trained, predict nothing any more, and destroys its numbers; whether it did yet. 55000 where the subscription is gone or another by now';
