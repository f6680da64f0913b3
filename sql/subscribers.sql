-- The coordinator's side of subscriptions: to whom a model is granted, what nodes say that they subscribe to, and what each of
-- them is offered. Nothing is kept of what was sent: a delivery is due where what is offered is not what the node says it has.

CREATE TABLE federated.subscribe_grant (
    model_id   bigint NOT NULL REFERENCES federated.model ON DELETE CASCADE,
    node_id    bigint REFERENCES federated.node ON DELETE CASCADE,
    name       text NOT NULL CHECK (name <> ''),
    granted_by name NOT NULL DEFAULT current_user,
    granted_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX subscribe_grant_once ON federated.subscribe_grant (model_id, (coalesce(node_id, 0)));
CREATE INDEX subscribe_grant_by_node ON federated.subscribe_grant (node_id);
COMMENT ON TABLE federated.subscribe_grant IS 'Which nodes may subscribe to which model';
COMMENT ON COLUMN federated.subscribe_grant.node_id IS 'NULL: all nodes of the model''s workspace, those that are registered later too';
COMMENT ON COLUMN federated.subscribe_grant.name IS 'The node''s name as the audit log shows it, ALL NODES where it is all';

CREATE TABLE federated.subscriber (
    node_id       bigint NOT NULL REFERENCES federated.node ON DELETE CASCADE,
    name          text NOT NULL CHECK (name <> '' AND octet_length(name) <= 63),
    model_name    text NOT NULL CHECK (model_name <> '' AND octet_length(model_name) <= 63),
    wanted        text CHECK (wanted <> '' AND octet_length(wanted) <= 63),
    takes         boolean NOT NULL DEFAULT true,
    held_key      uuid,
    held_version  integer CHECK (held_version > 0),
    heard_outcome text CHECK (heard_outcome IN ('offered', 'unknown', 'waiting', 'unavailable')),
    heard_key     uuid,
    refused_key   uuid,
    kept_keys     uuid[] NOT NULL DEFAULT '{}' CHECK (cardinality(kept_keys) <= 100),
    failure       text CHECK (octet_length(failure) <= 4096),
    reported_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (node_id, name)
);
COMMENT ON TABLE federated.subscriber IS 'What nodes last said that they subscribe to and hold: their own word';
COMMENT ON COLUMN federated.subscriber.wanted IS 'A tag, or a version''s number; NULL: whichever is current';
COMMENT ON COLUMN federated.subscriber.takes IS 'Whether the node takes what it is offered; else it waits for its DBA''s REFRESH';
COMMENT ON COLUMN federated.subscriber.held_key IS 'The key of the version that the node''s function computes; NULL before it has one';
COMMENT ON COLUMN federated.subscriber.heard_outcome IS 'What the node last heard of its subscription; NULL before it heard anything';
COMMENT ON COLUMN federated.subscriber.refused_key IS 'The key of the version that the node could not take';
COMMENT ON COLUMN federated.subscriber.kept_keys IS 'The keys of earlier versions that something in the node''s database still depends on';
COMMENT ON COLUMN federated.subscriber.failure IS 'Why the last delivery did not arrive, as the coordinator saw it; NULL where it did';

SELECT pg_catalog.pg_extension_config_dump('federated.subscribe_grant', '');
SELECT pg_catalog.pg_extension_config_dump('federated.subscriber', '');

-- Restoring a dump may bring the row before its node.
CREATE FUNCTION federated._name_grant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.name := CASE WHEN NEW.node_id IS NULL THEN 'ALL NODES'
        ELSE coalesce((SELECT n.name FROM federated.node AS n WHERE n.node_id = NEW.node_id), NEW.name) END;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._name_grant() IS 'Has the audit log name the node that a grant is for, whoever writes the row';

CREATE TRIGGER name_grant BEFORE INSERT ON federated.subscribe_grant
    FOR EACH ROW EXECUTE FUNCTION federated._name_grant();
CREATE TRIGGER check_owner BEFORE INSERT OR DELETE ON federated.subscribe_grant
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();
CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.subscribe_grant
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

-- That a model is not granted and that there is none look the same: nobody finds out names by subscribing to them.
CREATE VIEW federated.offer AS
SELECT s.node_id, n.name AS node_name, w.name AS workspace, s.name AS subscription, s.model_name, g.model_id, g.is_granted, s.wanted,
       s.takes, s.held_key, s.held_version, s.heard_outcome, s.heard_key, s.refused_key, s.failure, s.reported_at,
       CASE WHEN NOT g.is_granted THEN 'unknown' WHEN v.version IS NULL THEN 'waiting' WHEN NOT v.has_numbers THEN 'unavailable'
            ELSE 'offered' END AS outcome,
       CASE WHEN v.has_numbers THEN v.version END AS version,
       CASE WHEN v.has_numbers THEN federated._version_key(v.run_id, v.version) END AS version_key,
       CASE WHEN NOT g.is_granted THEN 'there is no such model in the workspace, or it is not granted to this node'
            WHEN v.version IS NULL AND s.wanted IS NULL THEN 'the model has no current version yet'
            WHEN v.version IS NULL AND s.wanted ~ '^[0-9]+$' THEN
                CASE WHEN s.wanted::numeric <= g.dropped_version THEN format('version %s was dropped', s.wanted)
                     ELSE format('there is no version %s yet', s.wanted) END
            WHEN v.version IS NULL THEN format('no version has the tag "%s" yet', s.wanted)
            WHEN v.is_retired THEN format('version %s was retired: data subjects were erased that it had learned from', v.version)
            WHEN v.is_sealed THEN format('version %s is sealed: its numbers do not leave the database', v.version)
            WHEN NOT v.has_numbers THEN format('version %s was made by a release that kept no numbers', v.version) END AS reason
FROM federated.subscriber AS s
JOIN federated.node AS n USING (node_id)
JOIN federated.workspace AS w USING (workspace_id)
LEFT JOIN federated.model AS m ON m.workspace_id = n.workspace_id AND m.name = s.model_name
CROSS JOIN LATERAL (
    SELECT m.model_id, m.dropped_version, EXISTS (
        SELECT FROM federated.subscribe_grant AS k
        WHERE k.model_id = m.model_id AND (k.node_id = s.node_id OR k.node_id IS NULL)) AS is_granted
) AS g
LEFT JOIN LATERAL (
    SELECT v.version, v.run_id, v.prediction IS NOT NULL AND NOT v.prediction ? 'sealed' AS has_numbers,
           v.prediction ? 'sealed' AS is_sealed, v.retired_at IS NOT NULL AS is_retired
    FROM federated.version AS v
    WHERE g.is_granted AND v.model_id = m.model_id
      AND CASE WHEN s.wanted IS NULL THEN v.is_current WHEN s.wanted ~ '^[0-9]+$' THEN v.version = s.wanted::numeric
               ELSE v.version = (SELECT t.version FROM federated.tag AS t WHERE t.model_id = m.model_id AND t.name = s.wanted) END
) AS v ON true;
COMMENT ON VIEW federated.offer IS 'What each node that subscribes to a model is offered, beside what it says that it has';
COMMENT ON COLUMN federated.offer.outcome IS
    'offered; unknown (no such model in the node''s workspace, or not granted to it); waiting (no such version yet, or none is current); unavailable (its numbers were not kept, or are sealed)';
COMMENT ON COLUMN federated.offer.reason IS 'Why nothing is offered; NULL where something is';

-- What an erasure did is in later scripts.
CREATE FUNCTION federated._retired_versions() RETURNS TABLE (version integer, version_key uuid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT v.version, federated._version_key(v.run_id, v.version) FROM federated.version AS v WHERE v.retired_at IS NOT NULL
    UNION
    SELECT e.version, federated._version_key(e.run_id, e.version)
    FROM federated.erasure_version AS e JOIN federated.erasure AS k USING (order_id) JOIN federated.subject_order AS o USING (order_id)
    WHERE federated._retrains(o.terms) AND (e.retired_at IS NOT NULL OR k.retired_at IS NOT NULL);
END
$$;
COMMENT ON FUNCTION federated._retired_versions() IS 'Versions that were retired, and those that were dropped when they should have been';

-- Whoever is granted the model or not: what was delivered is to go.
CREATE VIEW federated.retired_holding AS
SELECT DISTINCT ON (s.node_id, s.name) s.node_id, s.name AS subscription, r.version, r.version_key
FROM federated.subscriber AS s
CROSS JOIN LATERAL unnest(s.kept_keys || s.held_key) AS h (version_key)
JOIN federated._retired_versions() AS r USING (version_key)
ORDER BY s.node_id, s.name, r.version;
COMMENT ON VIEW federated.retired_holding IS
    'Of each node''s subscription the first version that the node says it has and that was retired, or was dropped when it should have been';

CREATE FUNCTION federated._pending_deliveries() RETURNS TABLE (
    node_id bigint, workspace text, node_name text, name text, model_name text, wanted text, outcome text, version integer,
    version_key uuid, carries boolean, reason text
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.node_id, k.workspace, k.node_name, k.subscription, k.model_name, k.wanted, CASE WHEN k.tells THEN 'retired' ELSE k.outcome END,
           CASE WHEN k.tells THEN k.retired_version ELSE k.version END, CASE WHEN k.tells THEN k.retired_key ELSE k.version_key END,
           k.carries AND NOT k.tells,
           CASE WHEN k.tells THEN format('version %s was retired: data subjects were erased that it had learned from', k.retired_version)
                ELSE k.reason END
    FROM (
        -- What takes the place of a version that was retired comes first, unless it could not be brought.
        SELECT c.*, r.version AS retired_version, r.version_key AS retired_key,
               r.version_key IS NOT NULL AND (NOT c.carries OR c.failure IS NOT NULL) AS tells
        FROM (
        SELECT o.*, o.takes AND o.outcome = 'offered' AND o.held_key IS DISTINCT FROM o.version_key
                    AND o.refused_key IS DISTINCT FROM o.version_key AS carries
        FROM federated.offer AS o
        ) AS c LEFT JOIN federated.retired_holding AS r USING (node_id, subscription)
    ) AS k
    WHERE k.carries OR k.tells OR ROW(k.outcome, k.version_key) IS DISTINCT FROM ROW(k.heard_outcome, k.heard_key)
    ORDER BY k.node_id, k.subscription
$$;
COMMENT ON FUNCTION federated._pending_deliveries() IS
    'What nodes have not heard yet of their subscriptions, or heard and have not got; carries: whether the numbers go along. Its outcome retired is about a version that the node has';

CREATE FUNCTION federated._offered_version(
    key uuid, OUT version integer, OUT features text[], OUT contract jsonb, OUT prediction text, OUT prediction_arrays bytea
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.version, v.features, v.contract, federated._predicting(v.prediction)::text, v.prediction_arrays
    FROM federated.held_version AS v WHERE v.numbers_id = key
$$;
COMMENT ON FUNCTION federated._offered_version(uuid) IS 'What travels of a version: how it predicts, and nothing of how it was found';

-- Who would lose a model: a subscription that is not granted has no say.
CREATE FUNCTION federated._list_subscribers(model_id bigint, version integer, tag text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT format('subscription "%s" of node "%s"', o.subscription, o.node_name)
        FROM federated.offer AS o
        WHERE o.model_id = _list_subscribers.model_id AND o.is_granted
          AND CASE WHEN tag IS NOT NULL THEN o.wanted = tag
                   WHEN _list_subscribers.version IS NULL THEN true
                   WHEN o.wanted ~ '^[0-9]+$' THEN o.wanted::numeric = _list_subscribers.version
                   ELSE o.wanted IN (SELECT t.name FROM federated.tag AS t WHERE t.model_id = _list_subscribers.model_id
                                     AND t.version = _list_subscribers.version) END
        ORDER BY o.node_name, o.subscription)
$$;
COMMENT ON FUNCTION federated._list_subscribers(bigint, integer, text) IS
    'The subscriptions to a model that are granted, to a version or a tag of it only those that want it';

CREATE FUNCTION federated._refuse_loss(deed text, remedy text, subscribers text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named text := array_to_string(subscribers[1:20], E'\n')
        || CASE WHEN cardinality(subscribers) > 20 THEN format(E'\nand %s more', cardinality(subscribers) - 20) ELSE '' END;
BEGIN
    IF cardinality(subscribers) = 0 THEN
        RETURN;
    ELSIF coalesce(current_setting('federated.drop_behavior', true), '') = 'cascade' THEN
        RAISE NOTICE 'nodes that subscribe keep what they have, and get no later version of it' USING DETAIL = named;
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('cannot %s because nodes subscribe to it', deed), DETAIL = named, HINT = remedy;
END
$$;
COMMENT ON FUNCTION federated._refuse_loss(text, text, text[]) IS
    'Raises 2BP01, naming the subscriptions that would get nothing more; with CASCADE a notice';

CREATE FUNCTION federated._keep_subscribers() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = OLD.model_id);
    labels     jsonb := to_jsonb(OLD);
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'model' THEN
        IF TG_OP = 'UPDATE' THEN
            PERFORM set_config('federated.drop_behavior', 'restrict', true);
            PERFORM federated._refuse_loss(
                format('rename federated model "%s"', OLD.name),
                'They know the model by its name. REVOKE FEDERATED SUBSCRIBE ON MODEL ... first; their DBAs then subscribe to the new name.',
                federated._list_subscribers(OLD.model_id, NULL, NULL));
            RETURN NEW;
        END IF;
        PERFORM federated._refuse_loss(format('drop federated model "%s"', OLD.name),
            'Use DROP FEDERATED MODEL ... CASCADE to drop it all the same.',
            federated._list_subscribers(OLD.model_id, NULL, NULL));
    WHEN 'version' THEN
        PERFORM federated._refuse_loss(format('drop version %s of federated model "%s"', OLD.version, model_name),
            'Use DROP FEDERATED MODEL ... VERSION ... CASCADE to drop it all the same.',
            federated._list_subscribers(OLD.model_id, OLD.version, NULL));
    ELSE
        -- A tag that goes with its model or version: that was said of these.
        IF pg_trigger_depth() > 1 THEN
            RETURN OLD;
        END IF;
        PERFORM federated._refuse_loss(format('drop the tag "%s" of federated model "%s"', labels ->> 'name', model_name),
            'Use DROP FEDERATED MODEL ... TAG ... CASCADE to drop it all the same; TAG ... REPLACE moves it.',
            federated._list_subscribers(OLD.model_id, NULL, labels ->> 'name'));
    END CASE;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._keep_subscribers() IS
    'Lets a model, a version or a tag that nodes subscribe to be dropped only by CASCADE, and such a model not be renamed';

CREATE TRIGGER check_subscribers BEFORE DELETE ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribers();
CREATE TRIGGER refuse_subscribed BEFORE UPDATE OF name ON federated.model
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._keep_subscribers();
CREATE TRIGGER check_subscribers BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribers();
CREATE TRIGGER check_subscribers BEFORE DELETE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._keep_subscribers();

CREATE VIEW @extschema@.federated_subscribers AS
SELECT k.workspace, k.model_name, k.node_name, k.subscription AS subscription_name, k.is_granted AS granted,
       coalesce(k.wanted, 'latest') AS version_wanted, k.held_version AS version, k.version AS offered_version, k.state,
       CASE k.state
           WHEN 'current' THEN NULL
           WHEN 'retired' THEN coalesce(k.failure, format('the node is told that version %s was retired', k.retired_version))
           WHEN 'refused' THEN 'the node could not take it: federated_subscriptions there says why'
           WHEN 'behind' THEN coalesce(k.failure, CASE WHEN k.takes THEN 'it is on its way'
               ELSE 'its DBA has later versions wait for ALTER FEDERATED SUBSCRIPTION ... REFRESH' END)
           ELSE k.reason END AS message,
       k.reported_at
FROM (
    SELECT o.*, r.version AS retired_version, CASE WHEN r.version IS NOT NULL THEN 'retired' WHEN o.outcome <> 'offered' THEN o.outcome WHEN o.held_key = o.version_key THEN 'current'
                     WHEN o.refused_key = o.version_key THEN 'refused' ELSE 'behind' END AS state
    FROM federated.offer AS o LEFT JOIN federated.retired_holding AS r USING (node_id, subscription)
) AS k;
COMMENT ON VIEW @extschema@.federated_subscribers IS
    'At the coordinator: which nodes subscribe to which models, by their own word, and what each is offered';
COMMENT ON COLUMN @extschema@.federated_subscribers.workspace IS 'The node''s workspace';
COMMENT ON COLUMN @extschema@.federated_subscribers.model_name IS 'As the node names it: there may be none of that name';
COMMENT ON COLUMN @extschema@.federated_subscribers.subscription_name IS 'As its DBA named it';
COMMENT ON COLUMN @extschema@.federated_subscribers.granted IS 'Whether there is such a model in the node''s workspace, and the node may subscribe to it';
COMMENT ON COLUMN @extschema@.federated_subscribers.node_name IS 'The node whose database''s own DBA subscribes';
COMMENT ON COLUMN @extschema@.federated_subscribers.version_wanted IS 'A tag, a version''s number, or latest: whichever is current';
COMMENT ON COLUMN @extschema@.federated_subscribers.version IS 'The version that the node says its function computes; NULL before it has one';
COMMENT ON COLUMN @extschema@.federated_subscribers.offered_version IS 'The version that it is offered; NULL where there is none to offer';
COMMENT ON COLUMN @extschema@.federated_subscribers.state IS
    'retired: the node still has a version that was retired; current: the node has what it is offered; behind: not yet; refused: it could not take it; waiting: there is no such version yet, or none is current; unavailable: the version''s numbers were not kept; unknown: there is no such model in the workspace, or it is not granted to the node';
COMMENT ON COLUMN @extschema@.federated_subscribers.message IS 'Why the node has not what it wants; NULL where it has';
COMMENT ON COLUMN @extschema@.federated_subscribers.reported_at IS 'When the node last said so';
