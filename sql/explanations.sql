-- What the features of a row have to do with what a version predicts for it: Shapley values, computed by numpy whatever the version is
-- (src/heliosdb/scoring/shapley.py).

-- A failure comes back, to be raised by SQL; nothing comes back where this session has not read the version yet.
CREATE FUNCTION federated._explain(
    run_id text, slots bytea, samples integer, seed bigint, OUT failure jsonb, OUT explained double precision[]
)
LANGUAGE plpython3u STABLE PARALLEL SAFE COST 10000 AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.scoring(plpy, "@VERSION@", "explain_row", "explanations")(run_id, slots, samples, seed)
$$;
COMMENT ON FUNCTION federated._explain(text, bytea, integer, bigint) IS
    'Of each output of the version of a key the base value and the contribution of each feature of one row, or the failure; both NULL where the session has not read the version';

-- Runs as federated_owner, as the functions of models do that numpy computes.
CREATE FUNCTION federated._explain_row(
    run_id text, slots bytea, samples integer, seed bigint, OUT failure jsonb, OUT explained double precision[]
)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._check_predicts(run_id::uuid);
    SELECT e.failure, e.explained INTO failure, explained FROM federated._explain(run_id, slots, samples, seed) AS e;
    IF num_nonnulls(failure, explained) = 0 THEN
        PERFORM federated._read_scored(run_id::uuid);
        SELECT e.failure, e.explained INTO failure, explained FROM federated._explain(run_id, slots, samples, seed) AS e;
    END IF;
END
$$;
COMMENT ON FUNCTION federated._explain_row(text, bytea, integer, bigint) IS
    'The same as _explain, once the session has read the version; 55000 where it was retired or is withheld';

CREATE FUNCTION federated._explained_scale(prediction jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN federated._has_many_classes(prediction) OR prediction ->> 'link' = 'logistic' THEN
                CASE WHEN prediction ->> 'kind' = 'trees' AND NOT (prediction ->> 'boosts')::boolean THEN 'probability'
                     WHEN prediction ->> 'link' = 'logistic' THEN 'log-odds' ELSE 'score' END
                WHEN prediction ->> 'link' = 'exp' THEN 'logarithm' ELSE 'target' END
$$;
COMMENT ON FUNCTION federated._explained_scale(jsonb) IS
    'On which scale a prediction is explained: log-odds of the second of two classes; score, of each class of several, up to a number that they share; probability, of a forest''s classes; logarithm of what is predicted; or target, in its units';

-- The classes that are explained, in order: one that has no name is a number.
CREATE FUNCTION federated._explained_classes(model text, prediction jsonb) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN federated._has_many_classes(prediction) THEN federated._classes(model)
                WHEN prediction ->> 'link' = 'logistic' THEN (federated._classes(model))[2:2] ELSE ARRAY[NULL::text] END
$$;
COMMENT ON FUNCTION federated._explained_classes(text, jsonb) IS
    'The labels of the classes whose scores are explained: all of several, the second of two, NULL for a number';

CREATE FUNCTION federated._check_features(model text, features jsonb, known text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown text;
BEGIN
    IF jsonb_typeof(features) <> 'object' THEN
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
END
$$;
COMMENT ON FUNCTION federated._check_features(text, jsonb, text[]) IS
    'Raises error 22023 where features are no JSON object, and 42703 where one of them is none of the model''s';

CREATE FUNCTION @extschema@.federated_explain(
    model text, features jsonb DEFAULT '{}', samples integer DEFAULT NULL, seed bigint DEFAULT NULL,
    OUT feature text, OUT value text, OUT contribution double precision, OUT base_value double precision, OUT class text, OUT scale text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    slots   double precision[];
    answer  record;
BEGIN
    SELECT f.* INTO found FROM federated._find_function(model) AS f;
    PERFORM federated._check_may_predict(found.function_name, found.prediction);
    IF features IS NULL THEN
        RETURN;
    ELSIF found.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the numbers of federated model "%s" are not kept', model),
            DETAIL = 'Its version was made by a release that kept its function alone.',
            HINT = 'A new run makes a version that can be explained.';
    END IF;
    PERFORM federated._check_features(model, features, found.features);
    EXECUTE 'SELECT ' || federated._render_slots(found.features, found.booleans, found.prediction,
        federated._given_by_json(found.features, found.booleans, found.prediction)) INTO slots USING features;
    SELECT e.* INTO answer FROM federated._explain_row(
        (SELECT h.numbers_id FROM federated._find_held(model) AS h)::text, federated._bytes(slots), samples, seed) AS e;
    PERFORM federated._raise(answer.failure);
    RETURN QUERY
        SELECT f.name, features ->> f.name, answer.explained[c.place][f.place + 1], answer.explained[c.place][1], c.label,
               federated._explained_scale(found.prediction)
        FROM unnest(federated._explained_classes(model, found.prediction)) WITH ORDINALITY AS c (label, place)
        CROSS JOIN unnest(found.features) WITH ORDINALITY AS f (name, place)
        ORDER BY c.place, f.place;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_explain(text, jsonb, integer, bigint) IS
    'What each feature contributes to the prediction of a model''s current version, or of the one that model@tag or model@number names, for features given as JSON: Shapley values, which together with base_value add up to the score on the scale that column scale names; of several classes for each one. Exact for linear versions and trees; of a network estimated from samples orders of the features, which seed draws (500 and 0 where they are not given). A missing feature is as in federated_predict';

CREATE FUNCTION @extschema@.federated_explain_model(
    model text, OUT feature text, OUT importance double precision, OUT class text, OUT scale text, OUT rows bigint
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
    told    jsonb := federated._report(model, 'explanation', 'federated_explain_model',
                                       'a target that is no survival time; nodes explain the rows of versions made since they can');
BEGIN
    RETURN QUERY
        SELECT f.name, (told #>> ARRAY['means', (c.place - 1)::text, (f.place - 1)::text])::double precision, c.label,
               federated._explained_scale(subject.prediction), (told ->> 'rows')::bigint
        FROM unnest(federated._explained_classes(model, subject.prediction)) WITH ORDINALITY AS c (label, place)
        CROSS JOIN unnest(subject.features) WITH ORDINALITY AS f (name, place)
        ORDER BY c.place, 2 DESC, f.place;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_explain_model(text) IS
    'By how much each feature moves the score of held-out rows, up or down: the mean over rows of all nodes of the size of its contribution (federated_explain), by the current version of a model or the one that model@tag names, the largest first; of several classes for each one. Nodes told sums when the run ended; rows: how many they are of. A node tells of whole groups of subjects, and leaves out the groups of who has withdrawn the consent purpose explanation. Error 55000 where there is no such report, 0A000 under a privacy_budget';
