-- How an experiment stands: what its calls and outcomes add up to.
--
-- What always holds: sums alone come out, whose they are stays in the tables; sums of what was folded and of what is still there are those
-- of all of it: counts exactly, means and variances but for rounding. Outcomes are summed by how far they are above the lowest one: so
-- rounding is of their spread and not of their size, and where all are equal every square is 0.

-- Chan, Golub and LeVeque (1979). Products that would be too small for a float8, an error in SQL, are 0.
CREATE FUNCTION federated._pool(
    count bigint, lowest double precision, above double precision, squares double precision,
    other_count bigint, other_lowest double precision, other_above double precision, other_squares double precision,
    OUT pooled_lowest double precision, OUT pooled_above double precision, OUT pooled_squares double precision
)
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total double precision := (count + other_count)::double precision;
    delta double precision := (other_lowest - lowest) + (other_above - above);
BEGIN
    IF count = 0 OR other_count = 0 THEN
        pooled_lowest := CASE WHEN count = 0 THEN other_lowest ELSE lowest END;
        pooled_above := CASE WHEN count = 0 THEN other_above ELSE above END;
        pooled_squares := CASE WHEN count = 0 THEN other_squares ELSE squares END;
    ELSE
        pooled_lowest := least(lowest, other_lowest);
        pooled_above := (lowest - pooled_lowest) + above + CASE WHEN abs(delta) < 1e-280 THEN 0 ELSE delta * (other_count / total) END;
        pooled_squares := squares + other_squares
            + CASE WHEN abs(delta) < 1e-140 THEN 0 ELSE delta * delta * (count / total * other_count) END;
    END IF;
END
$$;
COMMENT ON FUNCTION federated._pool(
    bigint, double precision, double precision, double precision, bigint, double precision, double precision, double precision
) IS
    'Of two samples together the lowest value, by how much the mean is above it, and the sum of the squares of the distances from the mean, by those of each';

CREATE FUNCTION federated._squared_error(score double precision, outcome double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF score BETWEEN 0 AND 1 AND outcome IN (0, 1) THEN
        RETURN CASE WHEN abs(score - outcome) < 1e-150 THEN 0 ELSE power(score - outcome, 2) END;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._squared_error(double precision, double precision) IS 'Of a probability and what came of it, 0 or 1; NULL for any other two';

CREATE FUNCTION federated._experiment_sums(experiment_id uuid) RETURNS TABLE (
    place integer, calls bigint, keys bigint, outcomes bigint, outcome_sum double precision, lowest double precision,
    above double precision, variance double precision, brier double precision
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.place, coalesce(c.calls, 0) + coalesce(p.calls, 0), coalesce(c.keys, 0) + coalesce(p.keys, 0), n.outcomes,
           CASE WHEN n.outcomes > 0 THEN coalesce(o.outcome_sum, 0) + coalesce(p.outcome_sum, 0) END,
           CASE WHEN n.outcomes > 0 THEN m.pooled_lowest END, CASE WHEN n.outcomes > 0 THEN m.pooled_above END,
           CASE WHEN n.outcomes > 1 THEN CASE WHEN m.pooled_squares < 1e-280 THEN 0 ELSE m.pooled_squares / (n.outcomes - 1) END END,
           CASE WHEN coalesce(o.is_binary, true) AND coalesce(p.is_binary, true) AND n.scored > 0
                THEN (coalesce(o.squared_errors, 0) + coalesce(p.squared_errors, 0)) / n.scored END
    FROM federated.experiment_arm AS a
    LEFT JOIN federated.experiment_past AS p USING (experiment_id, place)
    LEFT JOIN (
        SELECT k.place, count(*) AS calls, count(DISTINCT k.key_sha256) AS keys
        FROM federated.experiment_call AS k WHERE k.experiment_id = _experiment_sums.experiment_id GROUP BY k.place
    ) AS c USING (place)
    LEFT JOIN (
        SELECT k.place, count(*) AS outcomes, sum(k.outcome) AS outcome_sum, l.lowest, avg(k.outcome - l.lowest) AS above,
               regr_sxx(k.outcome - l.lowest, k.outcome - l.lowest) AS squares,
               bool_and(k.outcome IN (0, 1) AND (k.score IS NULL OR k.score BETWEEN 0 AND 1)) AS is_binary,
               count(federated._squared_error(k.score, k.outcome)) AS scored, sum(federated._squared_error(k.score, k.outcome)) AS squared_errors
        FROM federated.experiment_outcome AS k
        JOIN (SELECT i.place, min(i.outcome) AS lowest FROM federated.experiment_outcome AS i
              WHERE i.experiment_id = _experiment_sums.experiment_id GROUP BY i.place) AS l USING (place)
        WHERE k.experiment_id = _experiment_sums.experiment_id GROUP BY k.place, l.lowest
    ) AS o USING (place)
    CROSS JOIN LATERAL (
        SELECT coalesce(p.outcomes, 0) AS past, coalesce(p.outcomes, 0) + coalesce(o.outcomes, 0) AS outcomes,
               coalesce(p.scored, 0) + coalesce(o.scored, 0) AS scored
    ) AS n
    CROSS JOIN LATERAL federated._pool(
        n.past, p.lowest, p.above, p.squares, coalesce(o.outcomes, 0), o.lowest, o.above, o.squares) AS m
    WHERE a.experiment_id = _experiment_sums.experiment_id
$$;
COMMENT ON FUNCTION federated._experiment_sums(uuid) IS
    'Of each arm how often and for how many keys it was asked, and what is known of outcomes: lowest, and by how much their mean is above it';

-- A report holds the call that it is about until its transaction ends. Its key is left for the next time, whole: nobody who leaves a
-- transaction open has this wait.
CREATE FUNCTION federated._lock_calls(experiment_id uuid, older_than timestamptz) RETURNS bytea[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken tid[];
BEGIN
    taken := ARRAY(
        SELECT c.ctid FROM federated.experiment_call AS c
        WHERE c.experiment_id = _lock_calls.experiment_id AND c.called_at < older_than FOR UPDATE SKIP LOCKED);
    RETURN ARRAY(
        SELECT DISTINCT c.key_sha256 FROM federated.experiment_call AS c
        WHERE c.experiment_id = _lock_calls.experiment_id AND c.called_at < older_than
          AND NOT EXISTS (SELECT FROM unnest(taken) AS t (tid) WHERE t.tid = c.ctid));
END
$$;
COMMENT ON FUNCTION federated._lock_calls(uuid, timestamptz) IS
    'Locks what calls are older of an experiment, and returns the keys of those that a report has locked';

-- Who calls meanwhile waits for nothing: a call that is added is not old. A report of a key whose last call is being folded waits, and finds
-- none. What was reported before the calls were locked, the statement that folds sees: it begins after that.
CREATE FUNCTION federated._fold_calls(experiment_id uuid, older_than timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held   CONSTANT bytea[] := federated._lock_calls(experiment_id, older_than);
    folded bigint;
BEGIN
    WITH calls AS (
        DELETE FROM federated.experiment_call AS c
        WHERE c.experiment_id = _fold_calls.experiment_id AND c.called_at < older_than AND c.key_sha256 <> ALL (held)
        RETURNING c.place, c.key_sha256, EXISTS (
            SELECT FROM federated.experiment_call AS k
            WHERE k.experiment_id = c.experiment_id AND k.key_sha256 = c.key_sha256 AND k.called_at >= older_than) AS is_served
    ), outcomes AS (
        DELETE FROM federated.experiment_outcome AS o
        WHERE o.experiment_id = _fold_calls.experiment_id AND o.key_sha256 IN (SELECT c.key_sha256 FROM calls AS c WHERE NOT c.is_served)
        RETURNING o.place, o.score, o.outcome
    ), c AS (
        SELECT k.place, count(*) AS calls, count(DISTINCT k.key_sha256) FILTER (WHERE NOT k.is_served) AS keys FROM calls AS k GROUP BY k.place
    ), o AS (
        SELECT k.place, count(*) AS outcomes, sum(k.outcome) AS outcome_sum, l.lowest, avg(k.outcome - l.lowest) AS above,
               regr_sxx(k.outcome - l.lowest, k.outcome - l.lowest) AS squares,
               bool_and(k.outcome IN (0, 1) AND (k.score IS NULL OR k.score BETWEEN 0 AND 1)) AS is_binary,
               count(federated._squared_error(k.score, k.outcome)) AS scored, sum(federated._squared_error(k.score, k.outcome)) AS squared_errors
        FROM outcomes AS k JOIN (SELECT i.place, min(i.outcome) AS lowest FROM outcomes AS i GROUP BY i.place) AS l USING (place)
        GROUP BY k.place, l.lowest
    ), kept AS (
        INSERT INTO federated.experiment_past AS p
            (experiment_id, place, calls, keys, outcomes, outcome_sum, lowest, above, squares, scored, squared_errors, is_binary)
        SELECT _fold_calls.experiment_id, place, coalesce(c.calls, 0), coalesce(c.keys, 0), coalesce(o.outcomes, 0), coalesce(o.outcome_sum, 0),
               coalesce(o.lowest, 0), coalesce(o.above, 0), coalesce(o.squares, 0), coalesce(o.scored, 0), coalesce(o.squared_errors, 0),
               coalesce(o.is_binary, true)
        FROM c FULL JOIN o USING (place)
        ON CONFLICT ON CONSTRAINT experiment_past_pkey DO UPDATE SET
            calls = p.calls + excluded.calls, keys = p.keys + excluded.keys, outcomes = p.outcomes + excluded.outcomes,
            outcome_sum = p.outcome_sum + excluded.outcome_sum, scored = p.scored + excluded.scored,
            squared_errors = p.squared_errors + excluded.squared_errors, is_binary = p.is_binary AND excluded.is_binary,
            (lowest, above, squares) = (SELECT m.pooled_lowest, m.pooled_above, m.pooled_squares FROM federated._pool(
                p.outcomes, p.lowest, p.above, p.squares, excluded.outcomes, excluded.lowest, excluded.above, excluded.squares) AS m)
    )
    SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM outcomes) INTO folded;
    RETURN folded;
END
$$;
COMMENT ON FUNCTION federated._fold_calls(uuid, timestamptz) IS
    'Makes what is older of an experiment a part of its arms'' sums: calls, and with its last call a key''s outcome. Returns how many';

CREATE FUNCTION federated._fold_experiments(workspace text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
    folded  bigint := 0;
BEGIN
    FOR subject IN
        SELECT e.experiment_id, clock_timestamp() - make_interval(days => e.keep_days) AS older_than
        FROM federated.experiment AS e JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _fold_experiments.workspace AND NOT coalesce((w.options ->> 'legal_hold')::boolean, false)
        ORDER BY e.name FOR KEY SHARE OF e
    LOOP
        folded := folded + federated._fold_calls(subject.experiment_id, subject.older_than);
    END LOOP;
    RETURN folded;
END
$$;
COMMENT ON FUNCTION federated._fold_experiments(text) IS
    'Folds what is older than its keep_days of each experiment of a workspace, and returns how many calls and outcomes that were; nothing under legal_hold';

CREATE FUNCTION federated._welch_half_width(
    variance double precision, count bigint, other_variance double precision, other_count bigint
) RETURNS double precision
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.welch(plpy, "@VERSION@")(variance, count, other_variance, other_count)
$$;
COMMENT ON FUNCTION federated._welch_half_width(double precision, bigint, double precision, bigint) IS
    'Half the width of the interval of 95 % of the difference of two means, by their samples'' variances; NULL where neither varies';

-- Welch (1947), with the degrees of freedom of Satterthwaite (1946): outcomes of 0 and 1 too, whose variances are those of their sample.
CREATE FUNCTION @extschema@.federated_experiment(
    experiment text, OUT arm text, OUT version integer, OUT share double precision, OUT calls bigint, OUT keys bigint, OUT outcomes bigint,
    OUT mean_outcome double precision, OUT std_error double precision, OUT difference double precision,
    OUT conf_low double precision, OUT conf_high double precision, OUT brier_score double precision
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH subject AS MATERIALIZED (SELECT federated._experiment_id(experiment) AS experiment_id),
    s AS MATERIALIZED (SELECT k.* FROM subject, federated._experiment_sums(subject.experiment_id) AS k)
    SELECT a.name, a.version, a.share, s.calls, s.keys, s.outcomes, s.lowest + s.above,
           sqrt(nullif(s.variance, 0)) / sqrt(s.outcomes::double precision), d.difference,
           d.difference - w.half, d.difference + w.half, s.brier
    FROM federated.experiment_arm AS a
    JOIN subject USING (experiment_id)
    JOIN s USING (place)
    JOIN s AS f ON f.place = 1
    CROSS JOIN LATERAL (SELECT CASE WHEN s.place > 1 THEN (s.lowest - f.lowest) + (s.above - f.above) END AS difference) AS d
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.place > 1 AND least(s.outcomes, f.outcomes) > 1
                    THEN federated._welch_half_width(s.variance, s.outcomes, f.variance, f.outcomes) END AS half
    ) AS w
    ORDER BY a.place
$$;
COMMENT ON FUNCTION @extschema@.federated_experiment(text) IS
    'How an experiment stands, a row for each arm: its version and share of the keys; calls, different keys, and keys whose outcome was reported; mean_outcome and its std_error; difference: by how much the mean is above that of the first arm, with the interval of 95 % by Welch''s t (outcomes of 0 and 1 too), conf_low to conf_high; brier_score: mean squared difference of score and outcome, where outcomes are 0 and 1 and scores probabilities. std_error is NULL for fewer than two outcomes and where all of the arm are equal, the interval where one of the two arms has fewer than two and where neither varies. An interval that is looked at again and again, to stop when it leaves 0 out, is too narrow';
