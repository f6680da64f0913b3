-- Single checks of what a federation owes data subjects, authorities and itself: requests answered in time, breaches told,
-- a log that others hold, what is kept no longer than it should be. As those of checks.sql they run with the caller's rights.

CREATE FUNCTION federated._check_heads(workspace_id bigint, workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.breaks > 0 THEN 'FAIL' WHEN f.heads = 0 OR f.nodes = 0 OR f.without IS NOT NULL THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.breaks > 0 THEN 'Nodes hold heads of a log that is not this one: it was rewritten, cut off or restored from an older backup.'
                WHEN f.heads = 0 THEN 'No head of the log is signed yet. Note its head elsewhere from time to time, and look it up later.'
                WHEN f.nodes = 0 THEN 'No node takes part that could hold a head: note it elsewhere from time to time, and look it up later.'
                WHEN f.without IS NOT NULL THEN 'Not every node that takes part holds a head of the log: look whether those that do are enough.'
                ELSE 'Each node that takes part has cosigned a head of the log and keeps it: up to there nothing can be changed unseen.' END,
           format('%s signed heads, the latest over %s entries, the latest that a node cosigned over %s; %s breaks',
                  f.heads, coalesce(f.latest::text, 'none'), coalesce(f.cosigned::text, 'none'), f.breaks)
               || coalesce('; without a cosignature: ' || f.without, '')
    FROM (
        SELECT (SELECT count(*) FROM federated.tree_head AS h WHERE h.workspace = _check_heads.workspace) AS heads,
               (SELECT max(h.tree_size) FROM federated.tree_head AS h WHERE h.workspace = _check_heads.workspace) AS latest,
               (SELECT max(c.tree_size) FROM federated.cosignature AS c WHERE c.workspace = _check_heads.workspace) AS cosigned,
               (SELECT count(*) FROM federated.audit_break AS b WHERE b.workspace = _check_heads.workspace AND b.settled_at IS NULL) AS breaks,
               count(n.name) AS nodes,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE NOT EXISTS (
                   SELECT FROM federated.cosignature AS c WHERE c.workspace = _check_heads.workspace AND c.node_name = n.name)) AS without
        FROM federated.node AS n WHERE n.workspace_id = _check_heads.workspace_id AND n.status IN ('active', 'slow')
    ) AS f
$$;
COMMENT ON FUNCTION federated._check_heads(bigint, text) IS 'Whether nodes hold heads of the audit log, and none that is of another log';

CREATE FUNCTION federated._count_requests(
    workspace text, kinds text[],
    OUT requests bigint, OUT open bigint, OUT expired bigint, OUT refused bigint, OUT unanswered bigint, OUT next_deadline timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), count(*) FILTER (WHERE o.state IN ('requested', 'asked')),
           count(*) FILTER (WHERE o.state = 'expired' OR (o.state IN ('requested', 'asked') AND o.deadline < now())),
           coalesce(sum(a.refused), 0)::bigint, coalesce(sum(a.unanswered) FILTER (WHERE o.state = 'expired'), 0)::bigint,
           min(o.deadline) FILTER (WHERE o.state IN ('requested', 'asked'))
    FROM federated.subject_order AS o
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE n.state = 'refused' OR n.outcome = 'refused') AS refused,
               count(*) FILTER (WHERE n.state IN ('pending', 'unregistered')) AS unanswered
        FROM federated.order_answer AS n WHERE n.order_id = o.order_id
    ) AS a
    WHERE o.workspace = _count_requests.workspace AND o.kind = ANY (kinds)
$$;
COMMENT ON FUNCTION federated._count_requests(text, text[]) IS
    'How many requests about data subjects there were and are, of how many the month is over without all answers, and how often nodes refused or did not answer';

CREATE FUNCTION federated._check_requests(workspace text, kinds text[], OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.expired > 0 THEN 'FAIL' WHEN r.refused > 0 OR r.requests = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN r.expired > 0 THEN 'The month of a request passed before all nodes had answered: federated_orders names them.'
                WHEN r.refused > 0 THEN 'Nodes refused: look whether these participants answered the person themselves.'
                WHEN r.requests = 0 THEN 'There was no request yet. Look whether people are told how to make one, and whom it reaches.'
                WHEN r.open > 0 THEN 'All requests were answered, or still are within their month.'
                ELSE 'All requests were answered within their month.' END,
           format('requests: %s, open: %s (the next deadline %s), past their month: %s; refusals of nodes: %s, nodes that did not answer in time: %s',
                  r.requests, r.open, coalesce('is on ' || to_char(r.next_deadline AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'is none'),
                  r.expired, r.refused, r.unanswered)
    FROM federated._count_requests(workspace, kinds) AS r
$$;
COMMENT ON FUNCTION federated._check_requests(text, text[]) IS 'Whether requests about data subjects were answered by all nodes within a month';

-- A request to erase is answered when versions are put right too; one to export, when the file is written.
CREATE FUNCTION federated._check_erasure(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.status = 'FAIL' OR e.incomplete > 0 OR e.late > 0 THEN 'FAIL' WHEN e.approximate > 0 THEN 'MANUAL' ELSE r.status END,
           CASE WHEN r.status = 'FAIL' THEN r.details
                WHEN e.incomplete > 0 THEN 'Requests ended incomplete: federated_erasure_status says by what.'
                WHEN e.late > 0 THEN 'Versions that learned from a subject have not been put right within the month.'
                WHEN r.status = 'PASS' AND e.approximate > 0 THEN 'Versions keep what they learned from a subject, because the request said so: look on which ground.'
                ELSE r.details END,
           format('%s; %s carried out (%s exactly, %s approximately, %s incompletely), %s with versions to be put right after their month',
                  r.evidence, e.completed, e.exact, e.approximate, e.incomplete, e.late)
    FROM federated._check_requests(_check_erasure.workspace, ARRAY['erase']) AS r
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE q.completed_at IS NOT NULL) AS completed, count(*) FILTER (WHERE q.exactness LIKE 'exact%') AS exact,
               count(*) FILTER (WHERE q.exactness LIKE 'approximate%') AS approximate, count(*) FILTER (WHERE q.exactness LIKE 'incomplete%') AS incomplete,
               count(*) FILTER (WHERE q.completed_at IS NULL AND q.status <> 'dropped' AND q.deadline < now()) AS late
        FROM (
            SELECT DISTINCT ON (s.request_id) s.request_id, s.completed_at, s.exactness, s.status, s.deadline
            FROM @extschema@.federated_erasure_status AS s WHERE s.workspace = _check_erasure.workspace ORDER BY s.request_id
        ) AS q
    ) AS e
$$;
COMMENT ON FUNCTION federated._check_erasure(text) IS 'Whether requests to erase were answered by all nodes and carried out within a month, and how exactly';

CREATE FUNCTION federated._check_export_requests(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.status = 'FAIL' OR x.failed > 0 THEN 'FAIL' WHEN x.blocked > 0 THEN 'MANUAL' ELSE r.status END,
           CASE WHEN r.status = 'FAIL' THEN r.details
                WHEN x.failed > 0 THEN 'Exports failed, or were not written within the month: federated_exports says why. Ask again.'
                WHEN x.blocked > 0 THEN 'Files cannot be written yet: federated_exports says why.'
                ELSE r.details END,
           format('%s; %s files written, %s blocked, %s failed or late', r.evidence, x.written, x.blocked, x.failed)
    FROM federated._check_requests(_check_export_requests.workspace, ARRAY['export']) AS r
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE e.state = 'written') AS written, count(*) FILTER (WHERE e.state = 'blocked') AS blocked,
               count(*) FILTER (WHERE e.state = 'failed' OR (e.state <> 'written' AND e.deadline < now())) AS failed
        FROM @extschema@.federated_exports AS e WHERE e.workspace = _check_export_requests.workspace
    ) AS x
$$;
COMMENT ON FUNCTION federated._check_export_requests(text) IS 'Whether requests for access were answered by all nodes, and their files written, within a month';

CREATE FUNCTION federated._check_consent(workspace_id bigint, workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r.expired > 0 THEN 'FAIL' ELSE 'MANUAL' END,
           CASE WHEN r.expired > 0 THEN 'Nodes were not told in time of consent that was given or withdrawn: federated_orders names them.'
                WHEN m.mode IN ('GDPR', 'BOTH') THEN 'Nodes train on subjects with consent alone, unless their DBA says for a dataset that it rests on something else. Look on what, where that is so.'
                ELSE 'Look on what the processing rests; where on consent, share with require_consent.' END,
           format('compliance_mode %s; by statements here consent given: %s, withdrawn: %s, not answered in time by all nodes: %s',
                  m.mode, g.requests, w.requests, r.expired)
    FROM federated._count_requests(workspace, ARRAY['grant', 'revoke']) AS r,
         federated._count_requests(workspace, ARRAY['grant']) AS g,
         federated._count_requests(workspace, ARRAY['revoke']) AS w,
         (SELECT upper(coalesce(k.options ->> 'compliance_mode', 'none')) AS mode FROM federated.workspace AS k
          WHERE k.workspace_id = _check_consent.workspace_id) AS m
$$;
COMMENT ON FUNCTION federated._check_consent(bigint, text) IS 'Whether nodes know of consent in time; on what processing rests is never more than a matter for people';

-- An attestation that everything about breaches is settled lapses with the next breach.
CREATE FUNCTION federated._check_breaches(
    workspace_id bigint, workspace text, clock interval, OUT status text, OUT details text, OUT evidence text, OUT since timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN b.untold > 0 THEN 'FAIL' ELSE 'MANUAL' END,
           CASE WHEN b.untold > 0 THEN 'Somebody was to be told of a breach and was not: federated_alerts says why.'
                WHEN b.running > 0 THEN 'Breaches were raised whose clock is running: look whether somebody has to be notified, and by when (federated_alerts).'
                ELSE 'Look whether it is settled who notifies whom, and how soon.' END,
           format('%s breaches in the last 12 months, the clock of %s is running%s; %s were not told to whom they should; breach_notify %s',
                  b.lately, b.running, coalesce(' until ' || to_char((b.first_running + clock) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), ''), b.untold,
                  CASE WHEN w.options ->> 'breach_notify' IS NULL THEN 'not set' ELSE 'set' END),
           b.latest
    FROM federated.workspace AS w
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE f.fired_at > now() - interval '12 months') AS lately,
               count(*) FILTER (WHERE f.fired_at > now() - clock) AS running, min(f.fired_at) FILTER (WHERE f.fired_at > now() - clock) AS first_running,
               count(*) FILTER (WHERE f.target IS NOT NULL AND f.delivered_at IS NULL AND f.next_attempt IS NULL
                                  AND f.fired_at > now() - interval '12 months') AS untold,
               max(f.fired_at) AS latest
        FROM @extschema@.federated_alerts AS f WHERE f.kind = 'breach' AND f.workspace_name IN (w.name, '')
    ) AS b
    WHERE w.workspace_id = _check_breaches.workspace_id
$$;
COMMENT ON FUNCTION federated._check_breaches(bigint, text, interval) IS
    'Which breaches of security were raised, of the workspace or of none, and whether somebody was told; whether somebody has to be notified is for people to say. since: when the latest was raised';

CREATE FUNCTION federated._describe_identifiers(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('compliance_mode %s; %s', upper(coalesce(w.options ->> 'compliance_mode', 'none')), coalesce((
        SELECT string_agg(format('%s at %s: %s', d ->> 'name', n.name, (SELECT string_agg(c, ', ') FROM jsonb_array_elements_text(d -> 'columns') AS c)),
                          '; ' ORDER BY n.name, d ->> 'name')
        FROM federated.node AS n CROSS JOIN LATERAL jsonb_array_elements(n.datasets) AS d
        WHERE n.workspace_id = w.workspace_id), 'no dataset is known yet'))
    FROM federated.workspace AS w WHERE w.workspace_id = _describe_identifiers.workspace_id
$$;
COMMENT ON FUNCTION federated._describe_identifiers(bigint) IS 'Which columns nodes share, and in which mode they look for identifiers';

-- What was emptied for its age keeps its place and its time, and has nobody's role any more.
CREATE FUNCTION federated._check_retention(
    workspace_id bigint, workspace text, fewest_days integer, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN k.days < fewest_days OR k.is_late THEN 'FAIL' WHEN fewest_days IS NULL THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN k.days < fewest_days THEN format('What is to be kept for %s days is deleted before.', fewest_days)
                WHEN k.is_late THEN 'What is older than retention_days has not been deleted: look whether a coordinator serves this database.'
                WHEN k.held THEN 'Nothing is deleted while legal_hold is true. Look whether it still has to be.'
                WHEN fewest_days IS NULL THEN 'What is older is deleted. Look whether it is kept no longer than the purposes need, backups and exports too.'
                ELSE 'Nothing is deleted before six years are over. Look whether backups are kept as long.' END,
           format('retention_days %s, legal_hold %s; the oldest entry of the audit log that has its content is of %s; %s deletions for age, the latest %s',
                  k.days, k.held, coalesce(to_char(k.oldest AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'), d.deletions,
                  coalesce('on ' || to_char(d.latest AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'))
    FROM (
        SELECT o.days, o.held, a.oldest, NOT o.held AND a.oldest < now() - make_interval(days => o.days + 2) AS is_late
        FROM (
            SELECT coalesce((w.options ->> 'retention_days')::integer, (federated._options() -> 'workspace' ->> 'retention_days')::integer) AS days,
                   coalesce((w.options ->> 'legal_hold')::boolean, false) AS held
            FROM federated.workspace AS w WHERE w.workspace_id = _check_retention.workspace_id
        ) AS o
        CROSS JOIN (
            SELECT min(a.recorded_at) FILTER (WHERE a.acting_role <> '') AS oldest
            FROM federated.audit AS a WHERE a.workspace = _check_retention.workspace
        ) AS a
    ) AS k
    CROSS JOIN (
        SELECT count(*) AS deletions, max(s.deleted_at) AS latest FROM federated.retention_stub AS s WHERE s.workspace = _check_retention.workspace
    ) AS d
$$;
COMMENT ON FUNCTION federated._check_retention(bigint, text, integer) IS
    'Whether what is older than its retention is deleted, two days'' grace given, and nothing that must be kept for so many days before; NULL: for no fixed time';
