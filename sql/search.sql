-- Folds, searches and groups that vote: the runs that one START makes, one after another, and what they are compared by.
--
-- What always holds: of a series one run at most does not wait; whatever ends it, the same transaction lets the next
-- one begin, or ends the others where it was stopped. So the rows alone say how far a series is.

CREATE FUNCTION federated._tried(options jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(k.name, options -> k.name), '{}')
    FROM jsonb_object_keys(coalesce(options -> 'search', '{}')) AS k (name)
$$;
COMMENT ON FUNCTION federated._tried(jsonb) IS 'Of the options of a run: those that its search varies, as the run has them';

-- As domain/groups.py deals them; the catalog's names and the hash are bytes, whatever the database's collation.
CREATE FUNCTION federated._dealt(nodes text[], groups integer, workspace text, number integer) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(d.name ORDER BY d.place), '{}') FROM (
        SELECT n.name, row_number() OVER (
            ORDER BY sha256(convert_to(workspace, 'UTF8') || '\x00'::bytea || convert_to(n.name, 'UTF8'))) AS place
        FROM unnest(nodes) AS n (name)
    ) AS d
    WHERE (d.place - number) % groups = 0
$$;
COMMENT ON FUNCTION federated._dealt(text[], integer, text, integer) IS
    'The nodes of a group, by its number from 1, of so many to which a workspace''s nodes are dealt';

-- What is certified rests on this: whoever queues the runs chooses neither whose rows a group's model learns from, nor that a
-- node is in two groups.
CREATE FUNCTION federated._check_group(new_run federated.run) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    groups integer := (new_run.options ->> 'voting_groups')::integer;
    needed integer := greatest((new_run.policy ->> 'min_nodes')::integer, (new_run.policy ->> 'min_nodes_per_round')::integer);
    dealt  text[];
    other  text;
BEGIN
    IF new_run.voting_group IS NOT NULL AND groups IS NULL
       -- Behind the runs of all groups one more measures their vote, and trains nothing.
       OR new_run.voting_group IS NULL AND groups IS NOT NULL AND (
           new_run.policy ->> 'privacy_budget' IS NOT NULL
           OR groups <> (SELECT count(r.voting_group) FROM federated.run AS r
                         WHERE r.series_id = new_run.series_id AND r.model_id = new_run.model_id)
           OR EXISTS (SELECT FROM federated.run AS r WHERE r.series_id = new_run.series_id AND r.voting_group IS NULL))
       OR new_run.voting_group > groups
       OR new_run.voting_group IS NOT NULL AND (new_run.trial IS NOT NULL OR new_run.fold IS NOT NULL)
       OR EXISTS (SELECT FROM federated.run AS r WHERE r.series_id = new_run.series_id
                     AND (new_run.voting_group IS NOT NULL AND r.model_id <> new_run.model_id
                          OR r.voting_group = new_run.voting_group
                          OR r.options -> 'voting_groups' IS DISTINCT FROM new_run.options -> 'voting_groups')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the run''s group does not go with its voting_groups';
    ELSIF new_run.voting_group IS NULL THEN
        RETURN;
    END IF;
    dealt := federated._dealt(
        ARRAY(SELECT n.name FROM federated.node AS n JOIN federated.model AS m USING (workspace_id)
              WHERE m.model_id = new_run.model_id),
        groups, new_run.policy ->> 'workspace', new_run.voting_group);
    other := (
        SELECT min(n.name) FROM unnest(dealt || new_run.group_nodes) AS n (name)
        WHERE n.name <> ALL (dealt) OR n.name <> ALL (new_run.group_nodes));
    IF other IS NOT NULL OR cardinality(dealt) <> cardinality(new_run.group_nodes) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the nodes of group %s are not those that are dealt to it', new_run.voting_group),
            DETAIL = format('Dealt to it are %s.', coalesce(nullif(array_to_string(dealt, ', '), ''), 'none')),
            HINT = 'START FEDERATED TRAINING makes all runs of a series. Where nodes were registered or dropped meanwhile, try again.';
    ELSIF cardinality(dealt) < needed THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('group %s would be of fewer nodes than min_nodes', new_run.voting_group),
            DETAIL = format('It has %s, and %s are needed.', cardinality(dealt), needed),
            HINT = 'Register more nodes, ask for fewer groups, or lower min_nodes.';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_group(federated.run) IS
    'Lets no run of a series in whose group does not go with its options or with the others of the series, has other nodes than are dealt to it, or too few';

CREATE FUNCTION federated._check_series(new_run federated.run) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    folds integer := (new_run.options ->> 'folds')::integer;
BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT r.series_id FROM federated.run AS r
                            WHERE r.model_id = new_run.model_id AND r.series_id IS NOT NULL) AS s
               WHERE federated._is_undecided(s.series_id)) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = 'the search of the federated model has not ended',
            DETAIL = 'The coordinator is about to make a version of what its runs have left.', HINT = 'Try again.';
    ELSIF (new_run.series_id IS NOT NULL) <> (folds IS NOT NULL OR new_run.options ?| '{search,voting_groups}') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN new_run.series_id IS NULL
                THEN 'a run with folds, search or voting_groups is one of a series'
                ELSE 'a run without folds, search and voting_groups belongs to no series' END,
            HINT = 'START FEDERATED TRAINING makes all runs of a series.';
    ELSIF new_run.series_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM federated._check_group(new_run);
    IF new_run.fold >= coalesce(folds, 0)
          OR new_run.fold IS NULL AND folds IS NOT NULL AND NOT (new_run.trial IS NULL AND new_run.options ? 'search')
          OR new_run.trial IS NULL AND folds IS NULL AND NOT new_run.options ? 'voting_groups' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'the run''s trial and fold do not go with its folds and search';
    ELSIF new_run.waiting <> EXISTS (
            SELECT FROM federated.run AS r WHERE r.series_id = new_run.series_id AND r.model_id = new_run.model_id
               AND NOT r.waiting AND r.status = 'queued') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'of a series all runs but the first wait, and are queued before that begins';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_series(federated.run) IS
    'Lets no run in whose options ask for folds, a search or groups that vote that it is not a part of';

-- A trial whose folds were not all evaluated is not compared: the mean of others would be about other rows.
CREATE FUNCTION federated._trials(series uuid, OUT trial integer, OUT tried jsonb, OUT loss double precision,
    OUT loss_std double precision, OUT accuracy double precision, OUT place integer, OUT runs jsonb) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.*, CASE WHEN k.loss IS NOT NULL OR k.accuracy IS NOT NULL THEN
               (row_number() OVER (ORDER BY k.loss, k.accuracy DESC NULLS LAST, k.trial))::integer END, u.runs
    FROM (
        SELECT r.trial, federated._tried(r.options) AS tried,
               CASE WHEN count(d.global_loss) = count(*) THEN avg(d.global_loss) END AS loss,
               CASE WHEN count(d.global_loss) = count(*) THEN stddev_samp(d.global_loss) END AS loss_std,
               CASE WHEN count(d.global_accuracy) = count(*) THEN avg(d.global_accuracy) END AS accuracy
        FROM federated.run AS r
        LEFT JOIN federated.round AS d ON d.run_id = r.run_id AND d.round_number = r.result_round
        WHERE r.series_id = _trials.series AND r.trial IS NOT NULL AND (r.fold IS NOT NULL OR NOT r.options ? 'folds')
        GROUP BY r.trial, federated._tried(r.options)
    ) AS k
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(to_jsonb(r.run_id) ORDER BY r.fold) AS runs FROM federated.run AS r
        WHERE r.series_id = _trials.series AND r.trial = k.trial AND (r.fold IS NOT NULL OR NOT r.options ? 'folds')
    ) AS u
$$;
COMMENT ON FUNCTION federated._trials(uuid) IS
    'The trials of a series: what each tried, its loss and accuracy (means over its folds; NULL unless all are known), and its place, 1 for the best';

-- DEFINER: who starts or watches runs learns this of what they have left, and cannot read it.
CREATE FUNCTION federated._is_undecided(series uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM federated.run AS r WHERE r.series_id = series AND r.status IN ('queued', 'running'))
       AND EXISTS (SELECT FROM federated.run AS r JOIN federated.run_parameters AS p USING (run_id)
                   WHERE r.series_id = series AND NOT r.options ? 'folds')
$$;
COMMENT ON FUNCTION federated._is_undecided(uuid) IS
    'Whether all runs of a search, or of groups that vote, have ended and the coordinator has yet to make the version of the best, or of all: until then the parameters of its runs are kept';

CREATE FUNCTION federated._advance_series() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    following federated.run;
    best      record;
BEGIN
    IF NEW.status = 'stopped' THEN
        UPDATE federated.run AS r SET status = 'stopped', message = 'stopped before it began', finished_at = clock_timestamp()
        WHERE r.series_id = NEW.series_id AND r.model_id = NEW.model_id AND r.status = 'queued' AND r.waiting;
    ELSE
        SELECT r.* INTO following FROM federated.run AS r
        WHERE r.series_id = NEW.series_id AND r.model_id = NEW.model_id AND r.status = 'queued' AND r.waiting
        ORDER BY r.trial NULLS LAST, r.fold, r.voting_group LIMIT 1;
        IF following.trial IS NOT NULL OR following.options ? 'voting_groups' THEN
            UPDATE federated.run AS r SET waiting = false WHERE r.run_id = following.run_id;
        ELSIF following.run_id IS NOT NULL THEN
            SELECT t.trial, t.tried INTO best FROM federated._trials(NEW.series_id) AS t WHERE t.place = 1;
            UPDATE federated.run AS r SET waiting = false, trial = best.trial, options = r.options || best.tried,
                overrides = r.overrides || best.tried
            WHERE r.run_id = following.run_id AND best.trial IS NOT NULL;
            UPDATE federated.run AS r SET status = 'failed', finished_at = clock_timestamp(),
                message = 'no trial was evaluated on all of its folds, so none is the best'
            WHERE r.run_id = following.run_id AND best.trial IS NULL;
        END IF;
    END IF;
    PERFORM pg_notify('heliosdb_federated', '');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._advance_series() IS
    'Lets the next run of a series begin when one has ended; the last one of a search with folds trains the best trial anew';

-- A queued run is stopped by what is done before its stop_requested is updated.
CREATE TRIGGER advance_series AFTER UPDATE OF status, stop_requested ON federated.run
    FOR EACH ROW WHEN (NEW.series_id IS NOT NULL AND NOT OLD.waiting AND OLD.status IN ('queued', 'running')
                       AND NEW.status NOT IN ('queued', 'running'))
    EXECUTE FUNCTION federated._advance_series();

CREATE FUNCTION federated._series_status(series uuid, OUT status text, OUT message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN u.is_undecided THEN 'running' ELSE r.status::text END,
           CASE WHEN NOT u.is_undecided THEN r.message WHEN r.voting_group IS NULL THEN 'the best trial is to become a version'
                ELSE 'the models of the groups are to become a version' END
    FROM federated.run AS r CROSS JOIN (SELECT federated._is_undecided(series) AS is_undecided) AS u
    WHERE r.series_id = series
    ORDER BY EXISTS (SELECT FROM federated.version AS v WHERE v.run_id = r.run_id) DESC,
             r.status IN ('converged', 'completed'), r.waiting, r.created_at
    LIMIT 1
$$;
COMMENT ON FUNCTION federated._series_status(uuid) IS
    'How a series of which all runs have ended did so (running: what its runs have left is yet to become a version): as the run that became a version, else as the first that did not end well, else as the first';

CREATE FUNCTION federated._run_metrics(run_id uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
               'fold', r.fold, 'status', r.status, 'message', r.message, 'round_number', r.result_round,
               'loss', d.global_loss, 'loss_std_error', d.global_loss_std_error, 'accuracy', d.global_accuracy,
               'accuracy_std_error', d.global_accuracy_std_error, 'base_loss', d.base_loss,
               'precision', d.global_precision, 'recall', d.global_recall, 'f1_score', d.global_f1_score,
               'rmse', d.global_rmse)
    FROM federated.run AS r
    LEFT JOIN federated.round AS d ON d.run_id = r.run_id AND d.round_number = r.result_round
    WHERE r.run_id = _run_metrics.run_id
$$;
COMMENT ON FUNCTION federated._run_metrics(uuid) IS 'The figures by which a trial, or one fold of it, is judged';

CREATE FUNCTION @extschema@.federated_trials(model text, run integer DEFAULT NULL, OUT trial integer, OUT options jsonb, OUT metrics jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.trial, t.tried,
           jsonb_build_object('place', t.place,
               'version', (SELECT max(v.version) FROM federated.version AS v JOIN federated.run AS r USING (run_id)
                           WHERE r.series_id = s.series_id AND r.trial = t.trial))
           || CASE WHEN s.folds IS NULL THEN federated._run_metrics((t.runs ->> 0)::uuid) - 'fold'
              ELSE jsonb_build_object('loss', t.loss, 'loss_std', t.loss_std) || f.figures || g.means END
    FROM (
        SELECT r.series_id, (r.options ->> 'folds')::integer AS folds
        FROM federated._find_run(federated_trials.model, federated_trials.run) AS chosen
        LEFT JOIN LATERAL (
            SELECT l.run_id FROM federated.run AS l WHERE l.model_id = chosen.model_id AND l.series_id IS NOT NULL
            ORDER BY l.created_at DESC LIMIT 1) AS latest ON federated_trials.run IS NULL
        JOIN federated.run AS r ON r.run_id = CASE WHEN federated_trials.run IS NULL THEN latest.run_id ELSE chosen.run_id END
        WHERE r.series_id IS NOT NULL
    ) AS s
    CROSS JOIN LATERAL federated._trials(s.series_id) AS t
    CROSS JOIN LATERAL (
        SELECT jsonb_build_object(
                   'accuracy', t.accuracy,
                   'accuracy_std', CASE WHEN t.accuracy IS NOT NULL THEN stddev_samp((m.one ->> 'accuracy')::double precision) END,
                   'folds', jsonb_agg(m.one ORDER BY m.place)) AS figures
        FROM (
            SELECT federated._run_metrics(u.id::uuid) AS one, u.place
            FROM jsonb_array_elements_text(t.runs) WITH ORDINALITY AS u (id, place)
        ) AS m
    ) AS f
    -- Where a fold has no figure, the mean of the others would be about other rows.
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(e.key, e.mean) AS means FROM (
            SELECT w.key, CASE WHEN count(w.value) = count(*) THEN avg(w.value::double precision) END AS mean
            FROM jsonb_array_elements(f.figures -> 'folds') AS one, jsonb_each_text(one) AS w
            WHERE w.key IN ('base_loss', 'precision', 'recall', 'f1_score', 'rmse') GROUP BY w.key
        ) AS e
    ) AS g
    ORDER BY t.trial
$$;
COMMENT ON FUNCTION @extschema@.federated_trials(text, integer) IS
    'The trials of the START with folds or search that a run, by its number in federated_runs, is of, or of the model''s latest one. options: what a trial sets in place of the model''s and START''s. metrics: place (1 is the best, by loss; NULL where it was not evaluated on all of its folds), the version that it became, and loss, accuracy and further figures; with folds their means (NULL where a fold has no such figure), loss_std and accuracy_std, the sample standard deviations over folds, and folds, the figures and the status of each. By the loss of the best, the best was chosen: the rows by which that was done flatter it, and the figures of its version, the more trials the more. Keep other rows apart to judge it by';

CREATE FUNCTION @extschema@.federated_run_groups(
    model text, run integer DEFAULT NULL,
    OUT kind text, OUT group_number integer, OUT group_nodes text[], OUT run_id uuid
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH chosen AS (
        SELECT r.* FROM federated._find_run(federated_run_groups.model, federated_run_groups.run) AS r WHERE r.run_id IS NOT NULL
    ), together AS (
        SELECT r.* FROM chosen AS r
        UNION
        SELECT r.* FROM federated.run AS r JOIN chosen AS c ON r.series_id = c.series_id
        WHERE r.voting_group IS NOT NULL
    )
    SELECT g.kind, g.number, g.nodes, g.run_id
    FROM (
        SELECT 'voting' AS kind, r.voting_group AS number, r.group_nodes AS nodes, r.run_id, r.voting_group
        FROM together AS r WHERE r.voting_group IS NOT NULL
        UNION ALL
        SELECT 'robust', e.place::integer, ARRAY(SELECT jsonb_array_elements_text(e.nodes)), r.run_id, r.voting_group
        FROM together AS r CROSS JOIN LATERAL jsonb_array_elements(r.scaling -> 'groups') WITH ORDINALITY AS e (nodes, place)
    ) AS g
    ORDER BY g.kind DESC, g.voting_group, g.number
$$;
COMMENT ON FUNCTION @extschema@.federated_run_groups(text, integer) IS
    'Which nodes are in which group of a run of a model, by its number in federated_runs, or of the latest. kind voting: the groups of voting_groups, each of which trains a model of its own in the run of that run_id; robust: those of robust_groups, to which the nodes of round 0 were dealt, whose sums the rule compares. No row for a run without groups, and none of robust ones before round 0 is closed';
