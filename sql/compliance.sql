-- Reports for auditors. A requirement is PASS only by what was checked just now; what no program can know is MANUAL
-- and says what a person has to look at.

CREATE FUNCTION federated._describe_members() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'may log in: ' || coalesce(string_agg(format('%s (%s)', m.name, m.roles), ', ' ORDER BY m.name), 'nobody')
    FROM (
        SELECT r.rolname::text AS name,
               CASE WHEN r.rolsuper THEN 'superuser' ELSE string_agg(f.rolname::text, ', ' ORDER BY f.rolname) END AS roles
        FROM pg_roles AS r JOIN pg_roles AS f ON f.rolname IN (
            'federated_admin', 'federated_operator', 'federated_analyst', 'federated_auditor', 'federated_daemon', 'federated_reader')
        WHERE r.rolcanlogin AND pg_has_role(r.oid, f.oid, 'MEMBER')
        GROUP BY r.rolname, r.rolsuper
    ) AS m
$$;
COMMENT ON FUNCTION federated._describe_members() IS 'Who can log in with rights of the federation';

CREATE FUNCTION federated._describe_use(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('%s: %s from %s', m.name, coalesce(m.options ->> 'target', 'no target'), coalesce(
        (SELECT string_agg(f #>> '{}', ', ') FROM jsonb_path_query(m.options, 'lax $.features[*]') AS q (f)), 'no features')), '; '
        ORDER BY m.name), 'no models')
    FROM federated.model AS m WHERE m.workspace_id = _describe_use.workspace_id
$$;
COMMENT ON FUNCTION federated._describe_use(bigint) IS 'Which columns the models of a workspace use';

CREATE FUNCTION federated._describe_log(workspace text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s entries, the oldest of %s; retention_days %s', count(*),
                  coalesce(to_char(min(a.recorded_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'),
                  (SELECT coalesce(w.options ->> 'retention_days', 'not set') FROM federated.workspace AS w
                   WHERE w.name = _describe_log.workspace))
    FROM federated.audit AS a WHERE a.workspace = _describe_log.workspace
$$;
COMMENT ON FUNCTION federated._describe_log(text) IS 'How far back the audit log of a workspace goes';

CREATE FUNCTION federated._describe_checks(workspace_id bigint, regulation text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s checks recorded in the last 12 months, the latest %s', count(*) FILTER (WHERE c.recorded_at > now() - interval '12 months'),
                  coalesce('on ' || to_char(max(c.recorded_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'))
    FROM federated.compliance_record AS c
    WHERE c.workspace_id = _describe_checks.workspace_id AND c.regulation = _describe_checks.regulation
$$;
COMMENT ON FUNCTION federated._describe_checks(bigint, text) IS 'How often the compliance of a workspace was checked on record';

CREATE FUNCTION federated._describe_participants(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('nodes: %s, without a contact: %s', count(*), count(*) FILTER (WHERE n.options ->> 'contact' IS NULL))
        || coalesce(' (' || string_agg(n.name, ', ' ORDER BY n.name) FILTER (WHERE n.options ->> 'contact' IS NULL) || ')', '')
    FROM federated.node AS n WHERE n.workspace_id = _describe_participants.workspace_id
$$;
COMMENT ON FUNCTION federated._describe_participants(bigint) IS 'How many participants a workspace has, and of which no contact is known';

CREATE FUNCTION federated._describe_purposes(workspace_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(string_agg(format('%s: %s', m.name, coalesce(m.options ->> 'intended_use', 'intended_use not set')), '; ' ORDER BY m.name), 'no models')
    FROM federated.model AS m WHERE m.workspace_id = _describe_purposes.workspace_id
$$;
COMMENT ON FUNCTION federated._describe_purposes(bigint) IS 'What the models of a workspace are for, as their owners say';

CREATE FUNCTION federated._describe_recovery() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('archive_mode = %s, wal_level = %s', current_setting('archive_mode'), current_setting('wal_level'))
$$;
COMMENT ON FUNCTION federated._describe_recovery() IS 'What the server does that a backup can rest on';

-- What a check of security finds goes with its name, so that the report names them all.
CREATE FUNCTION federated._describe_security(workspace text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('checks of the security audit that fail: %s', count(*)) || coalesce(' (' || string_agg(s.check_name, ', ' ORDER BY s.check_name) || ')', '')
    FROM @extschema@.federated_security_audit(workspace) AS s WHERE s.status = 'FAIL'
$$;
COMMENT ON FUNCTION federated._describe_security(text) IS 'Which checks of the security audit fail';

CREATE FUNCTION federated._check_defaults(workspace_id bigint, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN d.plain > 0 THEN 'FAIL' WHEN d.known = 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN d.plain > 0 THEN 'Answers may leave without noise from the datasets named, because their DBAs allowed it.'
                WHEN d.known = 0 THEN 'No node has said yet what it shares: look again when the coordinator has met them.'
                ELSE 'No dataset lets an answer leave without noise.' END,
           format('datasets known: %s, of these let answers leave without noise: %s', d.known, d.plain) || coalesce(' (' || d.named || ')', '')
    FROM (
        SELECT count(*) AS known, count(*) FILTER (WHERE s.plain) AS plain,
               string_agg(s.name, ', ' ORDER BY s.name) FILTER (WHERE s.plain) AS named
        FROM (
            SELECT format('%s at %s', k ->> 'name', n.name) AS name, (k ->> 'plain_answers')::boolean AS plain
            FROM federated.node AS n CROSS JOIN LATERAL jsonb_array_elements(n.datasets) AS k
            WHERE n.workspace_id = _check_defaults.workspace_id
        ) AS s
    ) AS d
$$;
COMMENT ON FUNCTION federated._check_defaults(bigint) IS 'Whether datasets let answers leave without noise';

-- What a person has to look at, with what the catalog has to say of it.
CREATE FUNCTION federated._matters_for_people(workspace_id bigint, workspace text, wanted text[])
RETURNS TABLE (finding text, details text, evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'risk_analysis', 'Look whether a risk analysis has been made and is current; federated_security_audit is a part of it.',
        federated._describe_security(workspace) WHERE 'risk_analysis' = ANY (wanted)
    UNION ALL SELECT 'activity_review', 'Look whether somebody reviews federated_audit_log regularly.', federated._describe_log(workspace) WHERE 'activity_review' = ANY (wanted)
    UNION ALL SELECT 'responsibility', 'Look whether a security official is named, here and at each participant.',
        federated._describe_participants(workspace_id) WHERE 'responsibility' = ANY (wanted)
    UNION ALL SELECT 'members', 'Look whether everybody who can log in should still be able to.', federated._describe_members() WHERE 'members' = ANY (wanted)
    UNION ALL SELECT 'training', 'Look whether everybody who can log in has been trained, and whether that is written down.', federated._describe_members() WHERE 'training' = ANY (wanted)
    UNION ALL SELECT 'recovery', 'Look whether backups of catalog and key files are taken, and whether restoring one has been tried.',
        federated._describe_recovery() WHERE 'recovery' = ANY (wanted)
    UNION ALL SELECT 'evaluation_hipaa', 'Look whether compliance is checked at set times and after each change, and what followed.',
        federated._describe_checks(workspace_id, 'HIPAA') WHERE 'evaluation_hipaa' = ANY (wanted)
    UNION ALL SELECT 'evaluation_gdpr', 'Look whether what protects the data is tested at set times, and what followed.',
        federated._describe_checks(workspace_id, 'GDPR') || '; ' || federated._describe_security(workspace) WHERE 'evaluation_gdpr' = ANY (wanted)
    UNION ALL SELECT 'contracts', 'Look whether there is a contract with every participant.', federated._describe_participants(workspace_id) WHERE 'contracts' = ANY (wanted)
    UNION ALL SELECT 'identification', 'Look whether each of these is one person or one program.', federated._describe_members() WHERE 'identification' = ANY (wanted)
    UNION ALL SELECT 'emergency', 'Look whether it is settled who gets at the data when nobody of them can, and how that is noticed.',
        (SELECT format('superusers who can log in: %s', coalesce(string_agg(r.rolname::text, ', ' ORDER BY r.rolname), 'none'))
         FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin) WHERE 'emergency' = ANY (wanted)
    UNION ALL SELECT 'logoff', 'Look whether sessions that are left alone end, in the server or in what people work with.',
        (SELECT format('idle_session_timeout = %s %s', s.reset_val, s.unit) FROM pg_settings AS s WHERE s.name = 'idle_session_timeout') WHERE 'logoff' = ANY (wanted)
    UNION ALL SELECT 'rest', 'Parameters are sealed with AES-256-GCM. Look whether the disks of server, nodes and backups are encrypted: models as functions, and the nodes'' own rows, are not.',
        (SELECT format('versions with sealed parameters: %s', count(*)) FROM federated.version AS v
         JOIN federated.model AS m USING (model_id) WHERE m.workspace_id = _matters_for_people.workspace_id) WHERE 'rest' = ANY (wanted)
    UNION ALL SELECT 'policies', 'Look whether the policies that this report rests on are written down and current.', 'not in the catalog' WHERE 'policies' = ANY (wanted)
    UNION ALL SELECT k.finding, 'Look whether every model needs all the columns that it uses.', federated._describe_use(workspace_id)
        FROM unnest(ARRAY['use', 'minimisation']) AS k (finding) WHERE k.finding = ANY (wanted)
    UNION ALL SELECT 'purpose', 'Look whether each model serves a purpose for which its data were collected; each dataset''s purpose is written at its node.',
        federated._describe_purposes(workspace_id) WHERE 'purpose' = ANY (wanted)
    UNION ALL SELECT 'accuracy', 'Look whether participants correct what is wrong in their data, and when models are trained anew.',
        (SELECT format('the latest version was made %s', coalesce('on ' || to_char(max(v.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), 'never'))
         FROM federated.version AS v JOIN federated.model AS m USING (model_id)
         WHERE m.workspace_id = _matters_for_people.workspace_id) WHERE 'accuracy' = ANY (wanted)
    UNION ALL SELECT 'categories', 'Look whether health, genetic or biometric data or others of Art. 9(1) are among the columns, and on which exception their use rests.',
        federated._describe_use(workspace_id) WHERE 'categories' = ANY (wanted)
    UNION ALL SELECT 'decisions', 'Look whether anybody decides about people by predictions alone.', federated._describe_purposes(workspace_id) WHERE 'decisions' = ANY (wanted)
    UNION ALL SELECT 'arrangements', 'Look whether there is an arrangement or a contract with every participant.',
        federated._describe_participants(workspace_id) WHERE 'arrangements' = ANY (wanted)
    UNION ALL SELECT 'record', 'Look whether your record of processing names this workspace; federated_processing_record has what the catalog knows of it, and null for what it does not.',
        format('%s; %s; runs: %s', federated._describe_participants(workspace_id), federated._describe_purposes(workspace_id),
               (SELECT count(*) FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                WHERE m.workspace_id = _matters_for_people.workspace_id)) WHERE 'record' = ANY (wanted)
    UNION ALL SELECT 'identifiers', 'Look at each node at federated_phi_findings, which says there which of its columns look like identifiers; under HIPAA and BOTH a node refuses these unless its DBA accepted them.',
        federated._describe_identifiers(workspace_id) WHERE 'identifiers' = ANY (wanted)
    UNION ALL SELECT 'assessment', 'Look whether an assessment has been made; it has to weigh the epsilon that a person may spend.',
        (SELECT c.evidence FROM federated._check_budget(workspace) AS c) WHERE 'assessment' = ANY (wanted)
$$;
COMMENT ON FUNCTION federated._matters_for_people(bigint, text, text[]) IS
    'Findings that are never more than what a person has to look at, each with what the catalog has of it; only those that are wanted are made';

CREATE FUNCTION federated._findings(workspace_id bigint, workspace text, wanted text[])
RETURNS TABLE (finding text, status text, details text, evidence text, since timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.finding, 'MANUAL', p.details, p.evidence, NULL::timestamptz FROM federated._matters_for_people(workspace_id, workspace, wanted) AS p
    UNION ALL SELECT 'mode_hipaa', c.*, NULL FROM federated._check_mode(workspace_id, 'HIPAA') AS c WHERE 'mode_hipaa' = ANY (wanted)
    UNION ALL SELECT 'mode_gdpr', c.*, NULL FROM federated._check_mode(workspace_id, 'GDPR') AS c WHERE 'mode_gdpr' = ANY (wanted)
    UNION ALL SELECT 'rights', c.*, NULL FROM federated._check_rights() AS c WHERE 'rights' = ANY (wanted)
    UNION ALL SELECT 'audit', c.*, NULL FROM federated._check_audit(workspace) AS c WHERE 'audit' = ANY (wanted)
    UNION ALL SELECT 'ledger', c.*, NULL FROM federated._check_ledger(workspace) AS c WHERE 'ledger' = ANY (wanted)
    UNION ALL SELECT 'storage', c.*, NULL FROM federated._check_storage() AS c WHERE 'storage' = ANY (wanted)
    UNION ALL SELECT 'nodes', c.*, NULL FROM federated._check_nodes(workspace_id) AS c WHERE 'nodes' = ANY (wanted)
    UNION ALL SELECT 'logins', c.*, NULL FROM federated._check_logins() AS c WHERE 'logins' = ANY (wanted)
    UNION ALL SELECT 'node_links', c.*, NULL FROM federated._check_node_links(workspace_id) AS c WHERE 'node_links' = ANY (wanted)
    UNION ALL SELECT 'client_links', c.*, NULL FROM federated._check_client_links() AS c WHERE 'client_links' = ANY (wanted)
    UNION ALL SELECT 'budget', c.*, NULL FROM federated._check_budget(workspace) AS c WHERE 'budget' = ANY (wanted)
    -- That epsilon is small enough to call an answer de-identified is a person's judgement.
    UNION ALL SELECT 'deidentification', CASE c.status WHEN 'PASS' THEN 'MANUAL' ELSE c.status END, c.details, c.evidence, NULL
        FROM federated._check_budget(workspace) AS c WHERE 'deidentification' = ANY (wanted)
    UNION ALL SELECT 'defaults', c.*, NULL FROM federated._check_defaults(workspace_id) AS c WHERE 'defaults' = ANY (wanted)
    UNION ALL SELECT 'residency', c.*, NULL FROM federated._check_residency(workspace_id) AS c WHERE 'residency' = ANY (wanted)
    UNION ALL SELECT 'retention_hipaa', c.*, NULL FROM federated._check_retention(workspace_id, workspace, 2190) AS c WHERE 'retention_hipaa' = ANY (wanted)
    UNION ALL SELECT 'retention_gdpr', c.*, NULL FROM federated._check_retention(workspace_id, workspace, NULL) AS c WHERE 'retention_gdpr' = ANY (wanted)
    UNION ALL SELECT 'heads', c.*, NULL FROM federated._check_heads(workspace_id, workspace) AS c WHERE 'heads' = ANY (wanted)
    UNION ALL SELECT 'consent', c.*, NULL FROM federated._check_consent(workspace_id, workspace) AS c WHERE 'consent' = ANY (wanted)
    UNION ALL SELECT 'export', c.*, NULL FROM federated._check_export_requests(workspace) AS c WHERE 'export' = ANY (wanted)
    UNION ALL SELECT 'erasure', c.*, NULL FROM federated._check_erasure(workspace) AS c WHERE 'erasure' = ANY (wanted)
    UNION ALL SELECT k.finding, c.* FROM (VALUES ('breaches_gdpr', interval '72 hours'), ('breaches_hipaa', interval '60 days'), ('incidents', interval '60 days'))
        AS k (finding, clock) CROSS JOIN LATERAL federated._check_breaches(workspace_id, workspace, k.clock) AS c WHERE k.finding = ANY (wanted)
$$;
COMMENT ON FUNCTION federated._findings(bigint, text, text[]) IS
    'What requirements are judged by, with the caller''s rights and as it is just now; only what is wanted is looked at. since: when something happened that an earlier attestation knows nothing of; NULL where nothing did';

CREATE FUNCTION federated._check_regulation(regulation text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF regulation IS NULL OR upper(regulation) NOT IN ('HIPAA', 'GDPR') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the regulation must be HIPAA or GDPR, not %s', coalesce(quote_literal(regulation), 'null')),
            HINT = 'For a workspace under both, check one after the other.';
    END IF;
    RETURN upper(regulation);
END
$$;
COMMENT ON FUNCTION federated._check_regulation(text) IS 'The regulation as it is written here, or error 22023';

CREATE FUNCTION @extschema@.federated_compliance_check(
    workspace text, regulation text,
    OUT requirement text, OUT status text, OUT details text, OUT evidence text, OUT reference text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH asked AS MATERIALIZED (
        SELECT r.place, r.requirement, r.reference, r.finding, w.workspace_id
        FROM federated._requirements() AS r
        CROSS JOIN (SELECT federated._workspace_id(federated_compliance_check.workspace) AS workspace_id) AS w
        WHERE r.regulation = federated._check_regulation(federated_compliance_check.regulation)
    )
    SELECT q.requirement,
           CASE WHEN f.status = 'MANUAL' AND a.attestation_id IS NOT NULL THEN 'PASS' ELSE f.status END,
           CASE WHEN f.status = 'MANUAL' AND a.attestation_id IS NOT NULL THEN
                    format('Attested by %s on %s until %s: %s', a.author, to_char(a.attested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), to_char(a.valid_until, 'YYYY-MM-DD'), a.statement)
                    || CASE WHEN a.evidence <> f.evidence THEN format(' (What was seen then: %s)', a.evidence) ELSE '' END
                ELSE f.details END,
           f.evidence, q.reference
    FROM asked AS q
    JOIN federated._findings((SELECT min(k.workspace_id) FROM asked AS k), federated_compliance_check.workspace,
                             (SELECT array_agg(k.finding) FROM asked AS k)) AS f USING (finding)
    CROSS JOIN LATERAL federated._current_attestation(q.workspace_id, q.requirement, f.since) AS a
    ORDER BY q.place
$$;
COMMENT ON FUNCTION @extschema@.federated_compliance_check(text, text) IS
    'What of HIPAA or of the GDPR a workspace meets, as far as the catalog and the server''s settings tell. status: PASS (checked just now, or attested by a person: details says by whom, until when, and with which words), FAIL (which no attestation changes), or MANUAL (no program can know, or the caller may not see: details says what a person must look at); evidence: the figures seen; reference: where the requirement stands; federated_compliance_requirements says what to do where one is not met. No legal advice, and no certificate';

CREATE FUNCTION federated._compliance_check_columns(workspace text, regulation text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(c)) FROM @extschema@.federated_compliance_check(
            _compliance_check_columns.workspace, _compliance_check_columns.regulation) AS c),
        columns, ARRAY['requirement', 'status', 'details', 'evidence', 'reference'], 'federated_compliance_check')
$$;
COMMENT ON FUNCTION federated._compliance_check_columns(text, text, text[]) IS 'federated_compliance_check with a column list';
