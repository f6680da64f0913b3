-- What is certified of a prediction by vote (Cao, Zhang, Jia and Gong 2022, FLCert): how many hostile nodes cannot change it.
--
-- What always holds: a node trains in one group and changes one model at most: a vote, or of which kinds its columns are. So
-- the figure follows from the counts of votes, the order of ties and the counts of models of like columns alone, and computing
-- it reads no row of a node and costs no budget.

-- With m votes changed the first class has at least its own less m, another at most its own and m.
CREATE FUNCTION federated._certified_nodes(votes integer[]) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH counted AS (
        SELECT v.votes, v.place FROM unnest(votes) WITH ORDINALITY AS v (votes, place)
    ), first AS (
        SELECT c.votes, c.place FROM counted AS c ORDER BY c.votes DESC, c.place LIMIT 1
    )
    SELECT min((f.votes - c.votes - (c.place < f.place)::integer) / 2)::integer
    FROM first AS f JOIN counted AS c ON c.place <> f.place
$$;
COMMENT ON FUNCTION federated._certified_nodes(integer[]) IS
    'How many votes may be any others without another class winning; votes: of each class, in the order in which equal ones win';

-- A sealed version shows these two figures, and nothing else of who votes.
CREATE FUNCTION federated._count_voters(reference text, OUT voters integer, OUT margin integer) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    SELECT h.prediction, h.model_name, h.version INTO found FROM federated._find_held(reference) AS h;
    IF found.prediction ->> 'kind' IS DISTINCT FROM 'votes' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" does not predict by vote', found.version, found.model_name),
            DETAIL = 'What is certified follows from the votes of models that disjoint groups of nodes have trained.',
            HINT = format('START FEDERATED TRAINING %s WITH (voting_groups = 5) trains such models.', quote_ident(found.model_name));
    END IF;
    voters := (found.prediction ->> 'votes')::integer;
    margin := (found.prediction ->> 'margin')::integer;
END
$$;
COMMENT ON FUNCTION federated._count_voters(text) IS
    'How many models vote in the version that a model, model@tag or model@number names, and how many groups could not have had models of other columns vote; 55000 where it does not predict by vote';

CREATE FUNCTION @extschema@.federated_certify(
    model text, features jsonb, OUT prediction text, OUT votes integer, OUT runner_up text, OUT runner_up_votes integer,
    OUT voters integer, OUT hostile_nodes integer
) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    classes      text[];
    counts       integer[];
    margin integer;
BEGIN
    SELECT c.voters, c.margin INTO voters, margin FROM federated._count_voters(model) AS c;
    classes := federated._classes(model);
    counts := ARRAY(
        SELECT round(voters * s.share)::integer
        FROM unnest(federated._probabilities(model, classes, features)) WITH ORDINALITY AS s (share, place) ORDER BY s.place);
    IF cardinality(counts) = 0 THEN
        RETURN;
    END IF;
    SELECT max(o.label) FILTER (WHERE o.rank = 1), max(o.votes) FILTER (WHERE o.rank = 1),
           max(o.label) FILTER (WHERE o.rank = 2), max(o.votes) FILTER (WHERE o.rank = 2)
    INTO prediction, votes, runner_up, runner_up_votes
    FROM (
        SELECT c.label, c.votes, row_number() OVER (ORDER BY c.votes DESC, c.place) AS rank
        FROM unnest(classes, counts) WITH ORDINALITY AS c (label, votes, place)
    ) AS o;
    -- Whose columns are of other kinds than most models' does not vote: who moves that majority changes many votes.
    hostile_nodes := least(federated._certified_nodes(counts), coalesce(margin, 0));
END
$$;
COMMENT ON FUNCTION @extschema@.federated_certify(text, jsonb) IS
    'Of one row, given as JSON, what the current version of a model, or the one that model@tag or model@number names, predicts by the votes of its groups'' models: the class with the most votes (of equal ones the first), the next one, how many vote, and hostile_nodes: up to so many nodes, whatever they had answered in training, could not have changed the prediction, were all else the same (Cao, Zhang, Jia and Gong 2022, FLCert). 0: a single node may have decided it. 55000 for a version that does not predict by vote. It says nothing of rows that are hostile themselves, nor of whoever runs the coordinator; NULL features count as in predictions';

CREATE FUNCTION federated._certified(model text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
    started federated.run;
BEGIN
    PERFORM federated._count_voters(model);
    IF subject.report ? 'certified' THEN
        RETURN subject.report;
    END IF;
    SELECT r.* INTO started FROM federated.run AS r WHERE r.run_id = subject.run_id;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('the vote of version %s of federated model "%s" was not measured at the nodes', subject.version, model),
        DETAIL = CASE
            WHEN started.policy ->> 'privacy_budget' IS NOT NULL THEN 'Under a privacy_budget that is not supported yet: the counts would have no noise.'
            WHEN (started.options ->> 'validation_split')::double precision = 0 THEN 'validation_split is 0, so no row is held out.'
            ELSE coalesce((
                SELECT format('The run that was to measure it: %s.', r.message) FROM federated.run AS r
                WHERE r.series_id = started.series_id AND r.voting_group IS NULL AND r.message <> ''),
                'It was made before votes were measured.') END,
        HINT = format('federated_certified_accuracy(%L, ''SELECT ...'') counts the same over rows that you can read.', model);
END
$$;
COMMENT ON FUNCTION federated._certified(text) IS
    'The report of a version by vote, of which part it is what the nodes have counted; 55000 where it has none';

CREATE FUNCTION @extschema@.federated_certify(model text)
RETURNS TABLE (hostile_nodes integer, certified_share double precision, certified_accuracy double precision, row_count bigint, node_name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH told AS MATERIALIZED (
        SELECT federated._certified(federated_certify.model) AS report
    ), counts AS (
        SELECT NULL AS node_name, t.report -> 'certified' AS found FROM told AS t
        UNION ALL
        SELECT n.key, n.value -> 'certified' FROM told AS t, jsonb_each(t.report -> 'nodes') AS n
    ), rows AS (
        SELECT c.node_name, (w.place - 1)::integer AS number, w.count::bigint AS wrong, r.count::bigint AS right_ones
        FROM counts AS c
        CROSS JOIN LATERAL jsonb_array_elements_text(c.found -> 'wrong') WITH ORDINALITY AS w (count, place)
        JOIN LATERAL jsonb_array_elements_text(c.found -> 'right') WITH ORDINALITY AS r (count, place) USING (place)
    )
    SELECT r.number, (sum(r.wrong + r.right_ones) OVER above / sum(r.wrong + r.right_ones) OVER everything)::double precision,
           (sum(r.right_ones) OVER above / sum(r.wrong + r.right_ones) OVER everything)::double precision,
           (sum(r.wrong + r.right_ones) OVER everything)::bigint, r.node_name
    FROM rows AS r
    WINDOW everything AS (PARTITION BY r.node_name),
           above AS (PARTITION BY r.node_name ORDER BY r.number ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    ORDER BY r.node_name NULLS FIRST, r.number
$$;
COMMENT ON FUNCTION @extschema@.federated_certify(text) IS
    'How much of what a version predicts by vote is certified, measured over the held-out rows of all nodes when it was made: from 0 hostile nodes to half of the voters, certified_share: the share of rows whose prediction at least so many nodes cannot have changed, and certified_accuracy: the share of which that is so and whose prediction is right. First of all nodes (node_name is NULL), then of each node whose own answer the sum protocol shows: a hostile node states its own rows as it likes. At a node a figure of fewer than min_cell data subjects counts as one of fewer hostile nodes: both shares may be a little too small, and are never too large. Nothing is computed anew. 55000 for a version that does not predict by vote or was not measured, as under a privacy_budget';

-- What a table calls a class: its label, as a number however that is written, true for '1'.
CREATE FUNCTION federated._is_named(label text, given jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE jsonb_typeof(given)
        WHEN 'boolean' THEN label IN (given #>> '{}', (given #>> '{}')::boolean::integer::text)
        WHEN 'number' THEN CASE WHEN label ~ '^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,2})?$' THEN label::numeric = (given #>> '{}')::numeric ELSE false END
        WHEN 'null' THEN NULL
        ELSE label = given #>> '{}' END
$$;
COMMENT ON FUNCTION federated._is_named(text, jsonb) IS 'Whether a value of a target is the class of that label; NULL for NULL';

CREATE FUNCTION federated._chosen(given jsonb, names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_object_agg(n.name, given -> n.name), '{}') FROM unnest(names) AS n (name) WHERE given ? n.name
$$;
COMMENT ON FUNCTION federated._chosen(jsonb, text[]) IS 'Of an object what has one of these names';

CREATE FUNCTION federated._check_judged(reference text, target text, features text[], columns jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._check_evaluated(reference, target, NULL, NULL, features || target, columns);
    IF NOT EXISTS (SELECT FROM jsonb_to_recordset(columns) AS c (name text) WHERE c.name = ANY (features)) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('the query has no column that is a feature of federated model "%s"', reference),
            HINT = format('Its features are %s.', array_to_string(features, ', '));
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_judged(text, text, text[], jsonb) IS
    'Raises 42703 where a query has no target or no feature of a version, and 42702 where it has one of them twice';

-- Carry no SET clause: the query is the caller's, and so are its names. It is known to be one statement and whole in itself:
-- behind it no parenthesis closes early.
CREATE FUNCTION federated._fetch_rows(query text) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY EXECUTE pg_catalog.format(E'SELECT pg_catalog.to_jsonb(q) FROM (%s\n) AS q', query);
END
$$;
COMMENT ON FUNCTION federated._fetch_rows(text) IS 'The rows of a query of the caller''s, as JSON';

CREATE FUNCTION @extschema@.federated_certified_accuracy(model text, query text)
RETURNS TABLE (hostile_nodes integer, certified_share double precision, certified_accuracy double precision, row_count bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    voters   pg_catalog.int4 := (SELECT c.voters FROM federated._count_voters(model) AS c);
    target   pg_catalog.text := (SELECT e.target FROM federated._evaluated_columns(model) AS e);
    features pg_catalog.text[] := federated._current_features(model);
    whole    pg_catalog.jsonb;
BEGIN
    IF query IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the query must not be null',
            HINT = 'Name rows by which the version is to be judged: their features, and the target by its name.';
    END IF;
    whole := federated._describe_columns(query);
    PERFORM federated._raise(whole OPERATOR(pg_catalog.->) 'failure');
    PERFORM federated._check_judged(model, target, features, whole OPERATOR(pg_catalog.->) 'columns');
    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT c.hostile_nodes, federated._is_named(c.prediction, q.one OPERATOR(pg_catalog.->) target) AS is_right
        FROM federated._fetch_rows(whole OPERATOR(pg_catalog.->>) 'query') AS q (one)
        CROSS JOIN LATERAL @extschema@.federated_certify(model, federated._chosen(q.one, features)) AS c
    )
    SELECT m.number,
           pg_catalog.avg((j.hostile_nodes OPERATOR(pg_catalog.>=) m.number)::pg_catalog.int4)::pg_catalog.float8,
           pg_catalog.avg((j.hostile_nodes OPERATOR(pg_catalog.>=) m.number AND j.is_right)::pg_catalog.int4)::pg_catalog.float8,
           pg_catalog.count(*)
    FROM pg_catalog.generate_series(0, voters OPERATOR(pg_catalog./) 2) AS m (number)
    CROSS JOIN judged AS j
    WHERE j.hostile_nodes IS NOT NULL AND j.is_right IS NOT NULL
    GROUP BY m.number ORDER BY m.number;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found',
            MESSAGE = pg_catalog.format('the query has no row by which federated model "%s" can be judged', model),
            DETAIL = 'None of its rows has a target and a prediction.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_certified_accuracy(text, text) IS
    'How much of a model''s accuracy no so many hostile nodes can take away: of the rows of a query, run with the caller''s rights and search_path, with features and the target as columns of their names, certified_share: the share whose prediction at least hostile_nodes nodes cannot have changed (federated_certify), and certified_accuracy: the share of which that is so and whose prediction is right, from 0 hostile nodes (what the version predicts right) to half of the voters. row_count: of rows with a target. These rows are the caller''s own: nothing leaves the database, and nothing is charged. 55000 for a version that does not predict by vote, 42703 where the query has no target';
