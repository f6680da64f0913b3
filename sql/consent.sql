-- A dataset's consent_query, and what is shown of consent.

-- The caller's own rights decide what the query may be; its names are looked up as the caller would have typed them.
CREATE FUNCTION federated._create_consent_view(dataset text, query text, schemas name[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner name := (SELECT d.owner FROM federated.dataset AS d WHERE d.name = dataset);
BEGIN
    PERFORM set_config('search_path', (SELECT string_agg(quote_ident(s), ', ') FROM unnest(schemas) AS s), true);
    EXECUTE pg_catalog.format(
        'CREATE VIEW federated_subject.%I WITH (security_barrier) AS SELECT c.* FROM (%s' || E'\n) AS c', dataset, query);
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF (SELECT count(*) FROM pg_attribute AS a
        WHERE a.attrelid = format('federated_subject.%I', dataset)::regclass AND a.attnum > 0) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the consent_query must have one column',
            DETAIL = 'It says who has consented, as the dataset''s subject column names them.';
    END IF;
    -- No row is read, and whoever may not read what it reads is told now.
    EXECUTE format('SELECT FROM federated_subject.%I LIMIT 0', dataset);
    EXECUTE format('GRANT SELECT ON federated_subject.%I TO federated_reader', dataset);
    IF owner <> current_user THEN
        EXECUTE format('ALTER VIEW federated_subject.%I OWNER TO %I', dataset, owner);
    END IF;
END
$$;
COMMENT ON FUNCTION federated._create_consent_view(text, text, name[]) IS
    'Makes the view in which the node reads who has consented, for the dataset''s owner';

CREATE FUNCTION federated._drop_consent_view(dataset text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
BEGIN
    EXECUTE format('DROP VIEW IF EXISTS federated_subject.%I', dataset);
END
$$;
COMMENT ON FUNCTION federated._drop_consent_view(text) IS 'Drops the view of a dataset''s consent_query, where there is one; dependents refuse';

-- One row for a data subject and a purpose, or every purpose, of which something was said. At the coordinator what was
-- ordered, whichever nodes have it on record; at a node its own register.
CREATE VIEW @extschema@.federated_consent AS
WITH said AS (
    SELECT c.workspace, encode(c.digest, 'hex') AS subject_hash, c.kind, c.purpose, c.version, 'node' AS recorded_by,
           c.origin = 'node' AS is_own, c.said_at, lpad(c.consent_id::text, 20, '0') AS place, NULL::uuid AS order_id
    FROM federated.consent AS c
    UNION ALL
    SELECT o.workspace, encode(o.pseudonym, 'hex'), o.kind, o.terms ->> 'purpose', o.terms ->> 'version', 'coordinator',
           false, o.requested_at, coalesce(o.terms ->> 'said_at', ''), o.order_id
    FROM federated.subject_order AS o
    WHERE o.kind IN ('grant', 'revoke') AND o.pseudonym IS NOT NULL
), topic AS (
    SELECT DISTINCT ON (workspace, recorded_by, subject_hash, lower(purpose)) workspace, recorded_by, subject_hash, purpose
    FROM said ORDER BY workspace, recorded_by, subject_hash, lower(purpose), said_at, place
), standing AS (
    SELECT t.workspace, t.subject_hash, t.purpose, t.recorded_by,
           (array_agg(s.version ORDER BY s.said_at DESC, s.place DESC) FILTER (WHERE s.kind = 'grant'))[1] AS version,
           max(s.said_at) FILTER (WHERE s.kind = 'grant') AS granted_at,
           max(s.said_at) FILTER (WHERE s.kind = 'revoke') AS revoked_at,
           (array_agg(s.kind ORDER BY s.said_at DESC, s.place DESC))[1] = 'grant'
               AND coalesce((array_agg(s.kind ORDER BY s.said_at DESC, s.place DESC) FILTER (WHERE s.is_own))[1] = 'grant', true)
               AS is_granted,
           (array_agg(s.order_id ORDER BY s.said_at DESC, s.place DESC))[1] AS order_id
    FROM topic AS t JOIN said AS s USING (workspace, recorded_by, subject_hash)
    WHERE lower(s.purpose) IS NOT DISTINCT FROM lower(t.purpose) OR (s.purpose IS NULL AND lower(t.purpose) <> 'sale')
    GROUP BY t.workspace, t.subject_hash, t.purpose, t.recorded_by
)
SELECT s.workspace, s.subject_hash, s.purpose, s.version,
       CASE WHEN s.is_granted THEN 'granted' WHEN lower(s.purpose) IN ('sale', 'explanation') THEN 'opted out' ELSE 'revoked' END AS status,
       s.granted_at, CASE WHEN NOT s.is_granted THEN s.revoked_at END AS revoked_at, s.recorded_by,
       CASE WHEN s.order_id IS NOT NULL THEN ARRAY(
           SELECT a.node_name FROM federated.order_answer AS a
           WHERE a.order_id = s.order_id AND a.state = 'answered' ORDER BY a.node_name) END AS nodes
FROM standing AS s
UNION ALL
SELECT r.workspace, NULL, r.purpose, r.version, 'requested',
       CASE r.kind WHEN 'grant' THEN r.requested_at END, CASE r.kind WHEN 'revoke' THEN r.requested_at END, 'node', NULL
FROM federated.consent_request AS r
UNION ALL
SELECT o.workspace, NULL, o.terms ->> 'purpose', o.terms ->> 'version', 'requested',
       CASE o.kind WHEN 'grant' THEN o.requested_at END, CASE o.kind WHEN 'revoke' THEN o.requested_at END, 'coordinator', '{}'
FROM federated.subject_order AS o
WHERE o.kind IN ('grant', 'revoke') AND o.pseudonym IS NULL AND o.state = 'requested';
COMMENT ON VIEW @extschema@.federated_consent IS
    'The state of consent by data subject and purpose: at the coordinator what was ordered, at a node its own register. Its own consent_query is the node''s alone, and not shown';
COMMENT ON COLUMN @extschema@.federated_consent.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_consent.subject_hash IS
    'Never the subject''s name in plain: a hash with a key that is in no database, another one here than at each node; NULL while it is requested';
COMMENT ON COLUMN @extschema@.federated_consent.purpose IS 'What was consented to; NULL for every purpose';
COMMENT ON COLUMN @extschema@.federated_consent.version IS 'Of the text that was consented to; NULL where none was named';
COMMENT ON COLUMN @extschema@.federated_consent.status IS
    'granted, revoked, opted out (of the purpose sale or explanation), or requested: not in force before the daemon has taken it';
COMMENT ON COLUMN @extschema@.federated_consent.granted_at IS 'When consent was given';
COMMENT ON COLUMN @extschema@.federated_consent.revoked_at IS 'When it was withdrawn; NULL while it holds';
COMMENT ON COLUMN @extschema@.federated_consent.recorded_by IS 'Whose record it is: node (this database''s own) or coordinator (what was ordered of the nodes)';
COMMENT ON COLUMN @extschema@.federated_consent.nodes IS 'Which nodes have signed that they have what was said last on record; NULL in a node''s own register';
