-- Single checks that the reports are made of. All run with the caller's rights: what a caller may not see is for a
-- person to look at (MANUAL), and no error. status is PASS, FAIL or MANUAL; evidence has what was seen.

CREATE FUNCTION federated._may_read_hba() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
       AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')
$$;
COMMENT ON FUNCTION federated._may_read_hba() IS 'Whether the caller can read the server''s pg_hba.conf';

CREATE FUNCTION federated._check_rights(OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH members AS (
        SELECT d.objid FROM pg_depend AS d
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'heliosdb_federated_learning'
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    ), objects AS (
        SELECT n.nspname::text AS name, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl
        FROM pg_namespace AS n WHERE n.nspname IN ('federated', 'federated_model', 'federated_row', 'federated_proba', 'federated_dataset', 'federated_subject', 'federated_aggregation')
        UNION ALL
        SELECT c.oid::regclass::text, coalesce(c.relacl, acldefault('r', c.relowner))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'S') AND (n.nspname IN ('federated', 'federated_dataset', 'federated_subject') OR c.oid IN (SELECT objid FROM members))
        UNION ALL
        SELECT format('%s.%s', c.oid::regclass, quote_ident(t.attname)), t.attacl
        FROM pg_attribute AS t JOIN pg_class AS c ON c.oid = t.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE t.attacl IS NOT NULL AND (n.nspname IN ('federated', 'federated_dataset', 'federated_subject') OR c.oid IN (SELECT objid FROM members))
        UNION ALL
        SELECT t.oid::regtype::text, coalesce(t.typacl, acldefault('T', t.typowner))
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e' AND n.nspname = 'federated'
        UNION ALL
        SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('federated', 'federated_model', 'federated_row', 'federated_proba', 'federated_aggregation') OR p.oid IN (SELECT objid FROM members)
    ), open_to_all AS (
        SELECT o.name FROM objects AS o WHERE EXISTS (SELECT FROM aclexplode(o.acl) AS a WHERE a.grantee = 0)
    )
    SELECT CASE count(o.name) WHEN 0 THEN 'PASS' ELSE 'FAIL' END,
           CASE count(o.name) WHEN 0 THEN 'Only granted roles reach the catalog, its functions, the models and the shared data.'
                ELSE 'REVOKE ALL FROM PUBLIC on the objects named in the evidence.' END,
           format('%s of %s objects are granted to PUBLIC', count(o.name), (SELECT count(*) FROM objects))
               || coalesce(': ' || string_agg(o.name, ', ' ORDER BY o.name), '')
    FROM open_to_all AS o
$$;
COMMENT ON FUNCTION federated._check_rights() IS 'Whether anything of the extension is granted to PUBLIC';

CREATE FUNCTION federated._check_audit(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   record;
    missing text := (
        SELECT string_agg(t.relation, ', ' ORDER BY t.relation)
        FROM unnest(ARRAY['workspace', 'node', 'model', 'run', 'dataset', 'version', 'tag', 'ledger',
                          'aggregation_function', 'round', 'lease', 'tree_head', 'audit']) AS t (relation)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger AS g
            WHERE g.tgrelid = ('federated.' || t.relation)::regclass AND g.tgenabled IN ('O', 'A')
              AND g.tgfoid = CASE t.relation WHEN 'audit' THEN 'federated._link_audit()' WHEN 'round' THEN 'federated._audit_round()'
                                             WHEN 'lease' THEN 'federated._audit_lease()' WHEN 'tree_head' THEN 'federated._audit_signer()'
                                             ELSE 'federated._audit()' END::regprocedure));
BEGIN
    SELECT v.* INTO found FROM @extschema@.federated_audit_verify(workspace) AS v;
    status := CASE WHEN missing IS NULL AND found.is_intact THEN 'PASS' ELSE 'FAIL' END;
    details := CASE
        WHEN missing IS NOT NULL THEN 'Not every change is recorded: enable the triggers of the tables named in the evidence.'
        WHEN NOT found.is_intact THEN 'The audit log is not as it was written: find out who could change it, and compare with a backup.'
        ELSE 'Every change is recorded with who made it, and the log is that of its signed heads. Compare it with heads that nodes hold: heliosdb audit verify.' END;
    evidence := format('%s entries, head %s, signed over %s, cosigned by nodes over %s', found.entries,
                       coalesce(found.head_hash, 'none'), found.signed_entries, found.witnessed_entries)
        || coalesce('; broken: ' || found.reason, '') || coalesce('; no trigger on: ' || missing, '');
END
$$;
COMMENT ON FUNCTION federated._check_audit(text) IS 'Whether every change is recorded, and the audit log holds';

CREATE FUNCTION federated._check_nodes(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.unpinned > 0 OR f.expired > 0 THEN 'FAIL' WHEN f.met = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.expired > 0 THEN 'Give the nodes named in the evidence new certificates.'
                WHEN f.unpinned > 0 THEN 'A node is in use whose certificate is not pinned: register it again.'
                WHEN f.met = 0 THEN 'The coordinator has met no node yet: look again when it has.'
                ELSE 'Each node that is in use is known by its own pinned certificate, which is valid.' END,
           format('nodes registered: %s, in use: %s, of these without a pinned certificate: %s; certificates expired: %s',
                  f.registered, f.met, f.unpinned, f.expired) || coalesce(' (' || f.names || ')', '')
    FROM (
        SELECT count(*) AS registered, count(*) FILTER (WHERE n.status IN ('active', 'slow')) AS met,
               count(*) FILTER (WHERE n.status IN ('active', 'slow') AND n.certificate IS NULL) AS unpinned,
               count(*) FILTER (WHERE n.certificate_expires <= now()) AS expired,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.certificate_expires <= now()) AS names
        FROM federated.node AS n WHERE n.workspace_id = _check_nodes.workspace_id
    ) AS f
$$;
COMMENT ON FUNCTION federated._check_nodes(bigint) IS 'Whether nodes are known by pinned certificates that are valid';

CREATE FUNCTION federated._check_node_links(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.weak THEN 'FAIL' WHEN f.nodes = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.weak THEN 'Set tls_version to 1.3, certificate_validation to true and https endpoints.'
                WHEN f.nodes = 0 THEN 'No node is registered yet: look again when there are some.'
                WHEN f.flower THEN 'Flower carries what coordinator and nodes seal to each other under keys that both certificates have signed, and vectors are sealed besides.'
                ELSE 'Coordinator and nodes speak TLS 1.3 with certificates on both sides, and vectors are sealed besides.' END,
           format('tls_version %s, certificate_validation %s, encryption %s, %s of %s endpoints are not https',
                  f.tls, f.validated, f.cipher, f.plain, f.nodes)
    FROM (
        SELECT o.*, n.*, o.tls <> '1.3' OR o.validated <> 'true' OR n.plain > 0 AS weak
        FROM (
            SELECT coalesce(w.options ->> 'tls_version', '1.3') AS tls,
                   coalesce(w.options ->> 'certificate_validation', 'true') AS validated,
                   coalesce(w.options ->> 'encryption', 'AES-256-GCM') AS cipher,
                   coalesce(w.options ->> 'communication_protocol' = 'flower', false) AS flower
            FROM federated.workspace AS w WHERE w.workspace_id = _check_node_links.workspace_id
        ) AS o
        CROSS JOIN (
            -- Nodes that dial, or are reached over Flower, have no endpoint.
            SELECT count(*) AS nodes,
                   count(*) FILTER (WHERE (q.options ->> 'endpoint' ILIKE 'https://%') IS NOT TRUE
                                      AND coalesce(w.options ->> 'communication_protocol', 'grpc') = 'grpc') AS plain
            FROM federated.node AS q JOIN federated.workspace AS w USING (workspace_id)
            WHERE w.workspace_id = _check_node_links.workspace_id
        ) AS n
    ) AS f
$$;
COMMENT ON FUNCTION federated._check_node_links(bigint) IS 'Whether what coordinator and nodes send each other is encrypted';

CREATE FUNCTION federated._check_client_links(OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    encrypted boolean := current_setting('ssl')::boolean;
    is_local  boolean := NOT EXISTS (
        SELECT FROM regexp_split_to_table(current_setting('listen_addresses'), '\s*,\s*') AS a
        WHERE a NOT IN ('', 'localhost', '127.0.0.1', '::1'));
    plain     bigint;
BEGIN
    evidence := format('ssl = %s, listen_addresses = ''%s''', current_setting('ssl'), current_setting('listen_addresses'));
    IF encrypted AND NOT is_local AND federated._may_read_hba() THEN
        SELECT count(*) INTO plain FROM pg_hba_file_rules AS h
        WHERE h.type IN ('host', 'hostnossl', 'hostnogssenc') AND h.auth_method <> 'reject'
          AND h.address NOT IN ('127.0.0.1', '::1', 'localhost', 'samehost');
        evidence := evidence || format(', %s lines of pg_hba.conf let in connections without encryption', plain);
    END IF;
    SELECT c.status, c.details INTO status, details FROM (VALUES
        (is_local, 'MANUAL', 'Only this machine reaches the server. Look at the TLS of what clients connect to: the proxy, which this check cannot see.'),
        (NOT encrypted, 'FAIL', 'The server listens to other machines without TLS: set ssl = on.'),
        (plain IS NULL, 'MANUAL', 'TLS is offered. Look in pg_hba.conf, which the caller may not read, whether it is demanded (hostssl).'),
        (plain > 0, 'FAIL', 'TLS is offered but not demanded: write hostssl in place of host in pg_hba.conf.'),
        (true, 'PASS', 'Clients on other machines reach the server by TLS only.')
    ) AS c (holds, status, details) WHERE c.holds LIMIT 1;
END
$$;
COMMENT ON FUNCTION federated._check_client_links() IS 'Whether what clients and server send each other is encrypted';

CREATE FUNCTION federated._check_logins(OUT status text, OUT details text, OUT evidence text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    trusted text;
    broken  bigint;
BEGIN
    IF NOT federated._may_read_hba() THEN
        status := 'MANUAL';
        details := 'Look in pg_hba.conf, which the caller may not read, for lines that let in without authentication (trust).';
        evidence := 'pg_hba.conf is not readable';
        RETURN;
    END IF;
    SELECT string_agg(h.line_number::text, ', ' ORDER BY h.line_number) FILTER (WHERE h.auth_method = 'trust'),
           count(h.error)
    INTO trusted, broken FROM pg_hba_file_rules AS h;
    status := CASE WHEN trusted IS NOT NULL OR broken > 0 THEN 'FAIL' ELSE 'PASS' END;
    details := CASE
        WHEN trusted IS NOT NULL THEN 'pg_hba.conf lets in without authentication: write scram-sha-256, cert or peer in place of trust.'
        WHEN broken > 0 THEN 'pg_hba.conf has lines that the server cannot read: correct them.'
        ELSE 'Whoever connects is authenticated.' END;
    evidence := format('lines with trust: %s, lines in error: %s', coalesce(trusted, 'none'), broken);
END
$$;
COMMENT ON FUNCTION federated._check_logins() IS 'Whether whoever connects to the server is authenticated';

CREATE FUNCTION federated._check_storage(OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN s.off IS NULL THEN 'PASS' ELSE 'FAIL' END,
           CASE WHEN s.off IS NULL THEN 'What is committed is on disk, and damage on disk is noticed.'
                ELSE format('Turn on: %s (checksums with pg_checksums --enable).', s.off) END,
           s.seen
    FROM (
        SELECT string_agg(k.name, ', ' ORDER BY k.name) FILTER (WHERE k.setting <> 'on') AS off,
               string_agg(k.name || ' = ' || k.setting, ', ' ORDER BY k.name) AS seen
        FROM pg_settings AS k WHERE k.name IN ('data_checksums', 'fsync', 'full_page_writes')
    ) AS s
$$;
COMMENT ON FUNCTION federated._check_storage() IS 'Whether the server keeps what is committed, and notices damage';

-- From the log too: a run goes with its model, and what it let out does not come back.
CREATE FUNCTION federated._plain_runs(workspace text) RETURNS TABLE (run_id text, mode text, is_central boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.run_id, upper(max(coalesce(p.policy ->> 'compliance_mode', 'none'))), bool_or(p.policy ->> 'privacy_budget' IS NOT NULL)
    FROM (
        SELECT a.object_name AS run_id, a.details -> 'after' -> 'policy' AS policy FROM federated.audit AS a
        WHERE a.workspace = _plain_runs.workspace AND a.object_kind = 'run' AND a.details -> 'after' ->> 'status' = 'running'
        UNION ALL
        SELECT r.run_id::text, r.policy
        FROM federated.run AS r JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE w.name = _plain_runs.workspace AND r.started_at IS NOT NULL
    ) AS p
    WHERE p.policy ->> 'privacy_budget' IS NULL OR p.policy ->> 'trust_model' = 'central'
    GROUP BY p.run_id
$$;
COMMENT ON FUNCTION federated._plain_runs(text) IS
    'The runs whose coordinator saw sums without noise: without a budget, or as the one who adds it (is_central); and the compliance_mode that was in force: whether nodes were to refuse them';

CREATE FUNCTION federated._check_budget(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN b.total_epsilon IS NULL OR b.total_epsilon > 10 OR b.consumed_epsilon > b.total_epsilon OR p.plain > 0 THEN 'FAIL'
                WHEN p.central > 0 OR p.is_central THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN b.total_epsilon IS NULL THEN 'Exact sums leave the nodes: set privacy_budget.'
                WHEN b.total_epsilon > 10 THEN 'An epsilon beyond 10 hides nobody: lower privacy_budget, and have the nodes'' DBAs set max_epsilon.'
                WHEN b.consumed_epsilon > b.total_epsilon THEN 'More has been spent than the budget allows now.'
                WHEN p.plain > 0 THEN 'Runs before the budget was set let exact sums leave the nodes: a budget cannot cover them.'
                WHEN p.central > 0 OR p.is_central THEN 'Under trust_model central the coordinator sees the sums of several nodes without noise, and adds it: the epsilon is claimed against everybody else. Whether it may know them is for a person to judge.'
                ELSE 'What leaves the nodes is noised, and within the budget. Whether that epsilon is small enough is for a person to judge.' END,
           format('epsilon %s of %s spent at delta %s; runs without a budget: %s, under trust_model central: %s', coalesce(b.consumed_epsilon::text, 'none'),
                  coalesce(b.total_epsilon::text, 'none'), p.delta, p.plain, p.central)
    FROM @extschema@.federated_privacy_budget(_check_budget.workspace) AS b
    CROSS JOIN (
        SELECT coalesce((w.options ->> 'delta')::double precision, 1e-5) AS delta,
               coalesce(w.options ->> 'trust_model' = 'central', false) AS is_central,
               (SELECT count(*) FROM federated._plain_runs(w.name) AS r WHERE NOT r.is_central) AS plain,
               (SELECT count(*) FROM federated._plain_runs(w.name) AS r WHERE r.is_central) AS central
        FROM federated.workspace AS w WHERE w.name = _check_budget.workspace
    ) AS p
$$;
COMMENT ON FUNCTION federated._check_budget(text) IS 'Whether what left the nodes was noised within a budget';

-- A node's figure is of all that it has released for the workspace by then; several runs may have asked in another order
-- than they reserved, so it is held against the most that the ledger showed for the node up to then, not one line's.
CREATE FUNCTION federated._ledger_faults(workspace text) RETURNS TABLE (node_name text, fault text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH shown AS (
        SELECT k.*, max(k.epsilon_tight) FILTER (WHERE NOT k.is_signed) OVER (
                   PARTITION BY k.node_name ORDER BY k.recorded_at, k.is_signed) AS most
        FROM (
            SELECT l.node_name, l.run_id, l.round_number, l.exchange, l.step, l.recorded_at, l.epsilon_tight, false AS is_signed
            FROM federated.ledger AS l WHERE l.workspace = _ledger_faults.workspace
            UNION ALL
            SELECT s.node_name, s.run_id, s.round_number, s.exchange, s.step, s.recorded_at, s.epsilon_tight, true
            FROM federated.node_spending AS s WHERE s.workspace = _ledger_faults.workspace
        ) AS k
    )
    SELECT s.node_name, format('round %s of run %s, step %s: ', s.round_number, s.run_id, s.step) || c.fault
    FROM federated.node_spending AS s
    JOIN shown AS h
        ON h.is_signed AND (h.run_id, h.round_number, h.exchange, h.step, h.node_name)
                            = (s.run_id, s.round_number, s.exchange, s.step, s.node_name)
    LEFT JOIN federated.ledger AS l
        ON l.workspace = s.workspace AND (l.run_id, l.round_number, l.exchange, l.step, l.node_name)
                                         = (s.run_id, s.round_number, s.exchange, s.step, s.node_name)
    CROSS JOIN LATERAL (VALUES
        (l.ledger_id IS NULL, 'the ledger has no line of what the node signed'),
        (l.state <> 'charged', 'the line is not charged'),
        ((l.noise_multiplier, l.sampling_rate, l.steps, l.noise) <> (s.noise_multiplier, s.sampling_rate, s.steps, s.noise),
         format('the node signed %s noise %s, rate %s, %s steps; the line has %s %s, %s, %s', s.noise, s.noise_multiplier,
                s.sampling_rate, s.steps, l.noise, l.noise_multiplier, l.sampling_rate, l.steps)),
        (coalesce(greatest(h.most, l.epsilon_tight), 0) < s.epsilon_tight - 1e-4 * s.epsilon_tight - 1e-6,
         format('the node signed epsilon %s, the ledger shows %s', s.epsilon_tight, coalesce(greatest(h.most, l.epsilon_tight), 0)))
    ) AS c (holds, fault)
    WHERE s.workspace = _ledger_faults.workspace AND c.holds
    UNION ALL
    -- Before the first signature that is kept the catalog was of a version that kept none.
    SELECT l.node_name, format('round %s of run %s, step %s: charged, and not signed', l.round_number, l.run_id, l.step)
    FROM federated.ledger AS l
    WHERE l.workspace = _ledger_faults.workspace AND l.state = 'charged'
      AND l.recorded_at > (SELECT min(f.recorded_at) FROM federated.node_spending AS f)
      AND NOT EXISTS (SELECT FROM federated.node_spending AS s
                      WHERE s.workspace = l.workspace
                        AND (s.run_id, s.round_number, s.exchange, s.step, s.node_name)
                            = (l.run_id, l.round_number, l.exchange, l.step, l.node_name))
    ORDER BY 1, 2
$$;
COMMENT ON FUNCTION federated._ledger_faults(text) IS
    'Where a workspace''s ledger shows less than a node signed, has no charged line of the same mechanism, or one that no node signed; a ten-thousandth is rounding';

CREATE FUNCTION federated._check_ledger(workspace text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.faults > 0 THEN 'FAIL' WHEN s.signed = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN f.faults > 0 THEN 'The ledger shows less than nodes signed: find out who changed it (federated_audit_log), and trust what is signed.'
                WHEN s.signed = 0 THEN 'No node has signed what it spent yet: look again when a run has trained under a budget.'
                ELSE 'The ledger shows at least what each node signed of its own. That the signatures are the nodes'' is for heliosdb verify-spending to tell.' END,
           format('releases signed: %s, nodes that signed: %s, lines charged: %s, disagreements: %s', s.signed, s.nodes,
                  (SELECT count(*) FROM federated.ledger AS l WHERE l.workspace = _check_ledger.workspace AND l.state = 'charged'), f.faults)
               || coalesce(' (' || f.named || ')', '')
    FROM (
        SELECT count(*) AS signed, count(DISTINCT n.node_name) AS nodes
        FROM federated.node_spending AS n WHERE n.workspace = _check_ledger.workspace
    ) AS s
    CROSS JOIN (
        SELECT count(*) AS faults, string_agg(format('%s, %s', q.node_name, q.fault), '; ') FILTER (WHERE q.place <= 3) AS named
        FROM (SELECT u.*, row_number() OVER () AS place FROM federated._ledger_faults(_check_ledger.workspace) AS u) AS q
    ) AS f
$$;
COMMENT ON FUNCTION federated._check_ledger(text) IS 'Whether the ledger shows what the nodes signed of their own spending';

CREATE FUNCTION federated._residency_allows(required text, stated text) RETURNS boolean
LANGUAGE plpython3u STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.check_residency(plpy, required, stated, "@VERSION@")
$$;
COMMENT ON FUNCTION federated._residency_allows(text, text) IS 'Whether a place lies within another, as REGISTER FEDERATED NODE decides it';

CREATE FUNCTION federated._check_residency(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.outside IS NOT NULL THEN 'FAIL' ELSE 'MANUAL' END,
           CASE WHEN f.outside IS NOT NULL THEN 'Nodes lie outside of where the data must be: unregister them.'
                WHEN f.required IS NULL THEN 'No place is required: set data_residency, or look where the nodes are.'
                ELSE 'Each node states a place within the one that is required. Look whether what they state is true, and where the coordinator is.' END,
           format('data_residency %s; nodes: %s', coalesce(f.required, 'not set'), coalesce(f.places, 'none'))
               || coalesce('; outside: ' || f.outside, '')
    FROM (
        SELECT w.options ->> 'data_residency' AS required,
               string_agg(n.name || ' in ' || coalesce(n.options ->> 'data_residency', 'an unstated place'), ', ' ORDER BY n.name) AS places,
               string_agg(n.name, ', ' ORDER BY n.name) FILTER (
                   WHERE w.options ->> 'data_residency' IS NOT NULL AND federated._residency_allows(
                       w.options ->> 'data_residency', n.options ->> 'data_residency') IS NOT TRUE) AS outside
        FROM federated.workspace AS w LEFT JOIN federated.node AS n USING (workspace_id)
        WHERE w.workspace_id = _check_residency.workspace_id GROUP BY w.workspace_id
    ) AS f
$$;
COMMENT ON FUNCTION federated._check_residency(bigint) IS 'Whether nodes state that their data lie where they must';
