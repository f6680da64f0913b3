-- Reports for auditors. A requirement is PASS only by what was checked just now; what no program can know is MANUAL
-- and says what a person has to look at.

CREATE VIEW @extschema@.federated_consent AS
SELECT NULL::text AS workspace, NULL::text AS subject_hash, NULL::text AS purpose, NULL::text AS version,
       NULL::text AS status, NULL::timestamptz AS granted_at, NULL::timestamptz AS revoked_at
WHERE false;
COMMENT ON VIEW @extschema@.federated_consent IS
    'The state of consent by data subject and purpose. Always empty: this version records no consent (GRANT FEDERATED CONSENT answers 0A000)';
COMMENT ON COLUMN @extschema@.federated_consent.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_consent.subject_hash IS 'Never the subject''s name in plain';
COMMENT ON COLUMN @extschema@.federated_consent.purpose IS 'What was consented to; NULL for every purpose';
COMMENT ON COLUMN @extschema@.federated_consent.version IS 'Of the text that was consented to; NULL where none was named';
COMMENT ON COLUMN @extschema@.federated_consent.status IS 'granted or revoked';
COMMENT ON COLUMN @extschema@.federated_consent.granted_at IS 'When consent was given';
COMMENT ON COLUMN @extschema@.federated_consent.revoked_at IS 'When it was withdrawn; NULL while it holds';

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

CREATE FUNCTION federated._hipaa_findings(workspace_id bigint, workspace text)
RETURNS TABLE (requirement text, status text, details text, evidence text, reference text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'Workspace declared under HIPAA', c.*, '45 CFR 164.306(a)'
    FROM federated._check_mode(workspace_id, 'HIPAA') AS c
    UNION ALL SELECT 'Risk analysis', 'MANUAL', 'Look whether a risk analysis has been made and is current; federated_security_audit is a part of it.',
        (SELECT format('%s checks of the security audit fail', count(*) FILTER (WHERE s.status = 'FAIL'))
         FROM @extschema@.federated_security_audit(workspace) AS s), '45 CFR 164.308(a)(1)(ii)(A)'
    UNION ALL SELECT 'Information system activity review', 'MANUAL', 'Look whether somebody reviews federated_audit_log regularly.',
        federated._describe_log(workspace), '45 CFR 164.308(a)(1)(ii)(D)'
    UNION ALL SELECT 'Workforce access', 'MANUAL', 'Look whether everybody who can log in should still be able to.',
        federated._describe_members(), '45 CFR 164.308(a)(3)(i), (a)(4)(i)'
    UNION ALL SELECT 'Backup and recovery', 'MANUAL', 'Look whether backups of the catalog are taken, and whether restoring one has been tried.',
        format('archive_mode = %s, wal_level = %s', current_setting('archive_mode'), current_setting('wal_level')), '45 CFR 164.308(a)(7)(ii)(A)'
    UNION ALL SELECT 'Business associate contracts', 'MANUAL', 'Look whether there is a contract with every participant.',
        (SELECT format('%s nodes', count(*)) FROM federated.node AS n WHERE n.workspace_id = _hipaa_findings.workspace_id),
        '45 CFR 164.308(b)(1), 164.504(e)'
    UNION ALL SELECT 'Access control', c.*, '45 CFR 164.312(a)(1)' FROM federated._check_rights() AS c
    UNION ALL SELECT 'Unique user identification', 'MANUAL', 'Look whether each of these is one person or one program.',
        federated._describe_members(), '45 CFR 164.312(a)(2)(i)'
    UNION ALL SELECT 'Automatic logoff', 'MANUAL', 'Look whether sessions that are left alone end, in the server or in what people work with.',
        (SELECT format('idle_session_timeout = %s %s', s.reset_val, s.unit) FROM pg_settings AS s WHERE s.name = 'idle_session_timeout'), '45 CFR 164.312(a)(2)(iii)'
    UNION ALL SELECT 'Encryption at rest', 'MANUAL', 'Parameters are sealed with AES-256-GCM. Look whether the disks of server, nodes and backups are encrypted: models as functions, and the nodes'' own rows, are not.',
        (SELECT format('%s versions with sealed parameters', count(*)) FROM federated.version AS v
         JOIN federated.model AS m USING (model_id) WHERE m.workspace_id = _hipaa_findings.workspace_id), '45 CFR 164.312(a)(2)(iv)'
    UNION ALL SELECT 'Audit controls', c.*, '45 CFR 164.312(b)' FROM federated._check_audit(workspace) AS c
    UNION ALL SELECT 'Integrity of what is stored', c.*, '45 CFR 164.312(c)(1)' FROM federated._check_storage() AS c
    UNION ALL SELECT 'Ledger agrees with the nodes', c.*, '45 CFR 164.312(b)' FROM federated._check_ledger(workspace) AS c
    UNION ALL SELECT 'Authentication of nodes', c.*, '45 CFR 164.312(d)' FROM federated._check_nodes(workspace_id) AS c
    UNION ALL SELECT 'Authentication of users', c.*, '45 CFR 164.312(d)' FROM federated._check_logins() AS c
    UNION ALL SELECT 'Transmission security: coordinator and nodes', c.*, '45 CFR 164.312(e)(1)' FROM federated._check_node_links(workspace_id) AS c
    UNION ALL SELECT 'Transmission security: clients', c.*, '45 CFR 164.312(e)(1)' FROM federated._check_client_links() AS c
    UNION ALL SELECT 'Retention of documentation for six years', 'MANUAL', 'Nothing in the audit log is ever deleted, but this version has no function that keeps it for retention_days. Look whether database and backups are kept for six years.',
        federated._describe_log(workspace), '45 CFR 164.316(b)(2)(i)'
    UNION ALL SELECT 'Minimum necessary', 'MANUAL', 'Look whether every model needs all the columns that it uses.',
        federated._describe_use(workspace_id), '45 CFR 164.502(b)'
    UNION ALL SELECT 'De-identification of what leaves a node', CASE c.status WHEN 'PASS' THEN 'MANUAL' ELSE c.status END, c.details, c.evidence,
        '45 CFR 164.514(b)' FROM federated._check_budget(workspace) AS c
    UNION ALL SELECT 'Notification of breaches', 'MANUAL', 'Look whether it is settled who notifies whom, and within 60 days.', 'not in the catalog', '45 CFR 164.404'
$$;
COMMENT ON FUNCTION federated._hipaa_findings(bigint, text) IS 'The requirements of the HIPAA Security Rule, and of the Privacy Rule where a federation touches it';

CREATE FUNCTION federated._gdpr_findings(workspace_id bigint, workspace text)
RETURNS TABLE (requirement text, status text, details text, evidence text, reference text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'Workspace declared under GDPR', c.*, 'Art. 24' FROM federated._check_mode(workspace_id, 'GDPR') AS c
    UNION ALL SELECT 'Purpose limitation', 'MANUAL', 'Look whether each model serves a purpose for which its data were collected; each dataset''s purpose is written at its node.',
        federated._describe_use(workspace_id), 'Art. 5(1)(b)'
    UNION ALL SELECT 'Data minimisation', 'MANUAL', 'Look whether every model needs all the columns that it uses.',
        federated._describe_use(workspace_id), 'Art. 5(1)(c)'
    UNION ALL SELECT 'Storage limitation', 'FAIL', 'This version has no function that deletes what is older than retention_days.',
        federated._describe_log(workspace), 'Art. 5(1)(e)'
    UNION ALL SELECT 'Integrity and confidentiality: what is stored', c.*, 'Art. 5(1)(f), 32(1)(b)' FROM federated._check_storage() AS c
    UNION ALL SELECT 'Integrity and confidentiality: access', c.*, 'Art. 5(1)(f), 32(1)(b)' FROM federated._check_rights() AS c
    UNION ALL SELECT 'Accountability', c.*, 'Art. 5(2)' FROM federated._check_audit(workspace) AS c
    UNION ALL SELECT 'Ledger agrees with the nodes', c.*, 'Art. 5(2)' FROM federated._check_ledger(workspace) AS c
    UNION ALL SELECT 'Lawfulness and consent', 'MANUAL', 'This version records no consent. Look on what the processing rests; where on consent, whether every row shared has it.',
        'not in the catalog', 'Art. 6, 7, 9'
    UNION ALL SELECT 'Access and portability', 'FAIL', 'This version has no function that exports what is held about a data subject.', 'EXPORT FEDERATED DATA answers 0A000', 'Art. 15, 20'
    UNION ALL SELECT 'Erasure', 'FAIL', 'This version has no function that takes a data subject out of a trained model. A node''s own rows are its DBA''s to delete.',
        'DELETE FROM FEDERATED TRAINING answers 0A000', 'Art. 17'
    UNION ALL SELECT 'Automated decisions', 'MANUAL', 'Look whether anybody decides about people by predictions alone.',
        federated._describe_use(workspace_id), 'Art. 22'
    UNION ALL SELECT 'Data protection by design', c.*, 'Art. 25(1)' FROM federated._check_budget(workspace) AS c
    UNION ALL SELECT 'Joint controllers and processors', 'MANUAL', 'Look whether there is an arrangement or a contract with every participant.',
        (SELECT format('%s nodes', count(*)) FROM federated.node AS n WHERE n.workspace_id = _gdpr_findings.workspace_id), 'Art. 26, 28'
    UNION ALL SELECT 'Records of processing', 'MANUAL', 'Look whether the record of processing names this workspace; runs and changes are in the catalog.',
        (SELECT format('%s runs, ', count(*)) FROM federated.run AS r JOIN federated.model AS m USING (model_id)
         WHERE m.workspace_id = _gdpr_findings.workspace_id) || federated._describe_log(workspace), 'Art. 30'
    UNION ALL SELECT 'Encryption between coordinator and nodes', c.*, 'Art. 32(1)(a)' FROM federated._check_node_links(workspace_id) AS c
    UNION ALL SELECT 'Encryption towards clients', c.*, 'Art. 32(1)(a)' FROM federated._check_client_links() AS c
    UNION ALL SELECT 'Authentication of nodes', c.*, 'Art. 32(1)(b)' FROM federated._check_nodes(workspace_id) AS c
    UNION ALL SELECT 'Authentication of users', c.*, 'Art. 32(1)(b)' FROM federated._check_logins() AS c
    UNION ALL SELECT 'Recovery', 'MANUAL', 'Look whether backups of the catalog are taken, and whether restoring one has been tried.',
        format('archive_mode = %s, wal_level = %s', current_setting('archive_mode'), current_setting('wal_level')), 'Art. 32(1)(c)'
    UNION ALL SELECT 'Regular testing', 'MANUAL', 'Look whether federated_security_audit is read regularly, and what followed.',
        (SELECT format('%s checks of the security audit fail', count(*) FILTER (WHERE s.status = 'FAIL'))
         FROM @extschema@.federated_security_audit(workspace) AS s), 'Art. 32(1)(d)'
    UNION ALL SELECT 'Notification of breaches', 'MANUAL', 'Look whether it is settled who notifies the authority within 72 hours, and the people concerned.', 'not in the catalog', 'Art. 33, 34'
    UNION ALL SELECT 'Impact assessment', 'MANUAL', 'Look whether an assessment has been made; it has to weigh the epsilon that a person may spend.',
        (SELECT c.evidence FROM federated._check_budget(workspace) AS c), 'Art. 35'
    UNION ALL SELECT 'Transfers to third countries', c.*, 'Art. 44' FROM federated._check_residency(workspace_id) AS c
$$;
COMMENT ON FUNCTION federated._gdpr_findings(bigint, text) IS 'The articles of the GDPR that a federation touches';

CREATE FUNCTION @extschema@.federated_compliance_check(
    workspace text, regulation text,
    OUT requirement text, OUT status text, OUT details text, OUT evidence text, OUT reference text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint;
BEGIN
    IF regulation IS NULL OR upper(regulation) NOT IN ('HIPAA', 'GDPR') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the regulation must be HIPAA or GDPR, not %s', coalesce(quote_literal(regulation), 'null')),
            HINT = 'For a workspace under both, check one after the other.';
    END IF;
    found_id := federated._workspace_id(workspace);
    IF upper(regulation) = 'HIPAA' THEN
        RETURN QUERY SELECT f.* FROM federated._hipaa_findings(found_id, workspace) AS f;
    ELSE
        RETURN QUERY SELECT f.* FROM federated._gdpr_findings(found_id, workspace) AS f;
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_compliance_check(text, text) IS
    'What of HIPAA or of the GDPR a workspace meets, as far as the catalog and the server''s settings tell. status: PASS (checked just now), FAIL, or MANUAL (no program can know, or the caller may not see: details says what a person must look at); evidence: the figures seen; reference: where the requirement stands. No legal advice, and no certificate';

CREATE FUNCTION federated._compliance_check_columns(workspace text, regulation text, columns text[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT federated._project(
        (SELECT jsonb_agg(to_jsonb(c)) FROM @extschema@.federated_compliance_check(
            _compliance_check_columns.workspace, _compliance_check_columns.regulation) AS c),
        columns, ARRAY['requirement', 'status', 'details', 'evidence', 'reference'], 'federated_compliance_check')
$$;
COMMENT ON FUNCTION federated._compliance_check_columns(text, text, text[]) IS 'federated_compliance_check with a column list';
