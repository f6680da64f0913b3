-- What the reports ask, and what people attest where no program can know.
--
-- What always holds: an attestation has an author, a day on which it ends and what the check had found; a requirement that
-- fails is never met by one. What was written stays: a newer attestation takes the place of an older one, and both are kept.

-- One row a requirement. Two regulations that ask the same name it the same, and share the finding.
CREATE FUNCTION federated._requirements()
RETURNS TABLE (place integer, regulation text, requirement text, reference text, finding text, remediation text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    VALUES
    (101, 'HIPAA', 'Workspace declared under HIPAA', '45 CFR 164.306(a)', 'mode_hipaa', 'ALTER FEDERATED WORKSPACE ... SET (compliance_mode = ''HIPAA''), and train under a privacy_budget.'),
    (102, 'HIPAA', 'Risk analysis', '45 CFR 164.308(a)(1)(ii)(A)', 'risk_analysis', 'Make a risk analysis that covers coordinator, nodes and models; federated_security_audit is a part of it.'),
    (103, 'HIPAA', 'Information system activity review', '45 CFR 164.308(a)(1)(ii)(D)', 'activity_review', 'Have somebody read federated_audit_log at set times, and write down that it was done.'),
    (104, 'HIPAA', 'Assigned security responsibility', '45 CFR 164.308(a)(2)', 'responsibility', 'Name a security official, and give each node a contact.'),
    (105, 'HIPAA', 'Workforce access', '45 CFR 164.308(a)(3)(i), (a)(4)(i)', 'members', 'REVOKE the roles of the federation from whoever does not need them any more.'),
    (106, 'HIPAA', 'Security awareness and training', '45 CFR 164.308(a)(5)(i)', 'training', 'Train whoever can log in, and keep the record of it.'),
    (107, 'HIPAA', 'Security incident procedures', '45 CFR 164.308(a)(6)(ii)', 'incidents', 'Settle who answers a security incident, and have alerts reach that person.'),
    (108, 'HIPAA', 'Backup and recovery', '45 CFR 164.308(a)(7)(ii)(A), (B)', 'recovery', 'Back the catalog and the key files up, and try restoring both.'),
    (109, 'HIPAA', 'Evaluation', '45 CFR 164.308(a)(8)', 'evaluation_hipaa', 'SELECT * FROM federated_record_compliance_check(''workspace'', ''HIPAA'') at set times, and after each change of the environment.'),
    (110, 'HIPAA', 'Business associate contracts', '45 CFR 164.308(b)(1), 164.314(a)(1), 164.504(e)', 'contracts', 'Conclude a business associate contract with every participant that needs one.'),
    (111, 'HIPAA', 'Access control', '45 CFR 164.312(a)(1)', 'rights', 'REVOKE ALL FROM PUBLIC on the objects named in the evidence.'),
    (112, 'HIPAA', 'Unique user identification', '45 CFR 164.312(a)(2)(i)', 'identification', 'Give each person and each program a login of its own.'),
    (113, 'HIPAA', 'Emergency access procedure', '45 CFR 164.312(a)(2)(ii)', 'emergency', 'Write down who may become superuser in an emergency, and how that is noticed.'),
    (114, 'HIPAA', 'Automatic logoff', '45 CFR 164.312(a)(2)(iii)', 'logoff', 'Set idle_session_timeout, or have the programs that people work with end their sessions.'),
    (115, 'HIPAA', 'Encryption at rest', '45 CFR 164.312(a)(2)(iv)', 'rest', 'Encrypt the disks of server, nodes and backups; keep the coordinator''s key file apart from the backups.'),
    (116, 'HIPAA', 'Audit controls', '45 CFR 164.312(b)', 'audit', 'Enable the audit triggers that are named; where the log is not as it was written, find out who could change it.'),
    (117, 'HIPAA', 'Audit log held elsewhere', '45 CFR 164.312(b), (c)(1)', 'heads', 'Have the nodes keep the heads of the audit log, and compare what they hold with it.'),
    (118, 'HIPAA', 'Ledger agrees with the nodes', '45 CFR 164.312(b)', 'ledger', 'Find out in federated_audit_log who changed the ledger; what nodes signed is what counts.'),
    (119, 'HIPAA', 'Integrity of what is stored', '45 CFR 164.312(c)(1)', 'storage', 'Turn fsync, full_page_writes and data checksums on.'),
    (120, 'HIPAA', 'Authentication of nodes', '45 CFR 164.312(d)', 'nodes', 'Renew expired certificates; register a node again whose certificate is not pinned.'),
    (121, 'HIPAA', 'Authentication of users', '45 CFR 164.312(d)', 'logins', 'In pg_hba.conf write scram-sha-256, cert or peer in place of trust.'),
    (122, 'HIPAA', 'Transmission security: coordinator and nodes', '45 CFR 164.312(e)(1)', 'node_links', 'Set tls_version to 1.3, certificate_validation to true, and https endpoints.'),
    (123, 'HIPAA', 'Transmission security: clients', '45 CFR 164.312(e)(1)', 'client_links', 'Set ssl = on and write hostssl in place of host in pg_hba.conf; have the proxy demand TLS.'),
    (124, 'HIPAA', 'Policies and procedures', '45 CFR 164.316(a)', 'policies', 'Write the policies down that this report rests on, and keep them current.'),
    (125, 'HIPAA', 'Retention of documentation for six years', '45 CFR 164.316(b)(2)(i)', 'retention_hipaa', 'Set retention_days to 2190 or more, and keep backups as long.'),
    (126, 'HIPAA', 'Minimum necessary', '45 CFR 164.502(b)', 'use', 'Take columns that a model does not need out of its features, and out of the datasets.'),
    (127, 'HIPAA', 'De-identification of what leaves a node', '45 CFR 164.514(b)', 'deidentification', 'Set a privacy_budget whose epsilon a person has judged; have the nodes'' DBAs set max_epsilon.'),
    (128, 'HIPAA', 'Identifiers in what is shared', '45 CFR 164.514(b)(2)(i)', 'identifiers', 'Share no column with an identifier of the eighteen kinds, or have each node''s DBA accept it by name.'),
    (129, 'HIPAA', 'Notification of breaches within 60 days', '45 CFR 164.404, 164.410', 'breaches_hipaa', 'Settle who notifies whom; each breach within 60 days of its discovery.'),

    (201, 'GDPR', 'Workspace declared under GDPR', 'Art. 24', 'mode_gdpr', 'ALTER FEDERATED WORKSPACE ... SET (compliance_mode = ''GDPR''), and train under a privacy_budget.'),
    (202, 'GDPR', 'Purpose limitation', 'Art. 5(1)(b)', 'purpose', 'Say what each model is for (option intended_use), and hold it against what the data were collected for.'),
    (203, 'GDPR', 'Data minimisation', 'Art. 5(1)(c)', 'minimisation', 'Take columns that a model does not need out of its features, and out of the datasets.'),
    (204, 'GDPR', 'Accuracy', 'Art. 5(1)(d)', 'accuracy', 'Have the participants correct what is wrong at its source; train anew what learned from it.'),
    (205, 'GDPR', 'Storage limitation', 'Art. 5(1)(e)', 'retention_gdpr', 'Set retention_days to what the purposes need.'),
    (206, 'GDPR', 'Integrity and confidentiality: what is stored', 'Art. 5(1)(f), 32(1)(b)', 'storage', 'Turn fsync, full_page_writes and data checksums on.'),
    (207, 'GDPR', 'Integrity and confidentiality: access', 'Art. 5(1)(f), 32(1)(b)', 'rights', 'REVOKE ALL FROM PUBLIC on the objects named in the evidence.'),
    (208, 'GDPR', 'Accountability', 'Art. 5(2)', 'audit', 'Enable the audit triggers that are named; where the log is not as it was written, find out who could change it.'),
    (209, 'GDPR', 'Audit log held elsewhere', 'Art. 5(2)', 'heads', 'Have the nodes keep the heads of the audit log, and compare what they hold with it.'),
    (210, 'GDPR', 'Ledger agrees with the nodes', 'Art. 5(2)', 'ledger', 'Find out in federated_audit_log who changed the ledger; what nodes signed is what counts.'),
    (211, 'GDPR', 'Lawfulness and consent', 'Art. 6, 7', 'consent', 'Write down on what the processing rests; where on consent, share with require_consent.'),
    (212, 'GDPR', 'Special categories of data', 'Art. 9', 'categories', 'Name the exception of Art. 9(2) on which each model with such columns rests, or take them out.'),
    (213, 'GDPR', 'Access and portability', 'Art. 15, 20', 'export', 'Answer each request with EXPORT FEDERATED DATA within a month; look into nodes that refused or did not answer.'),
    (214, 'GDPR', 'Erasure', 'Art. 17', 'erasure', 'Answer each request with DELETE FROM FEDERATED TRAINING; look into nodes that did not answer within a month.'),
    (215, 'GDPR', 'Automated decisions', 'Art. 22', 'decisions', 'Have a person decide wherever a prediction has legal or similar effect.'),
    (216, 'GDPR', 'Data protection by design', 'Art. 25(1)', 'budget', 'Set a privacy_budget; have the nodes'' DBAs set max_epsilon.'),
    (217, 'GDPR', 'Data protection by default', 'Art. 25(2)', 'defaults', 'At the nodes named: ALTER FEDERATED DATASET ... SET (plain_answers = false).'),
    (218, 'GDPR', 'Joint controllers and processors', 'Art. 26, 28', 'arrangements', 'Conclude an arrangement or a contract with every participant.'),
    (219, 'GDPR', 'Records of processing', 'Art. 30', 'record', 'Give each node a contact and each model an intended_use; keep federated_processing_record with your record.'),
    (220, 'GDPR', 'Encryption between coordinator and nodes', 'Art. 32(1)(a)', 'node_links', 'Set tls_version to 1.3, certificate_validation to true, and https endpoints.'),
    (221, 'GDPR', 'Encryption towards clients', 'Art. 32(1)(a)', 'client_links', 'Set ssl = on and write hostssl in place of host in pg_hba.conf; have the proxy demand TLS.'),
    (222, 'GDPR', 'Authentication of nodes', 'Art. 32(1)(b)', 'nodes', 'Renew expired certificates; register a node again whose certificate is not pinned.'),
    (223, 'GDPR', 'Authentication of users', 'Art. 32(1)(b)', 'logins', 'In pg_hba.conf write scram-sha-256, cert or peer in place of trust.'),
    (224, 'GDPR', 'Recovery', 'Art. 32(1)(c)', 'recovery', 'Back the catalog and the key files up, and try restoring both.'),
    (225, 'GDPR', 'Regular testing', 'Art. 32(1)(d)', 'evaluation_gdpr', 'SELECT * FROM federated_record_compliance_check(''workspace'', ''GDPR'') at set times, and mend what fails.'),
    (226, 'GDPR', 'Notification of breaches within 72 hours', 'Art. 33, 34', 'breaches_gdpr', 'Settle who notifies the authority within 72 hours, and the people concerned.'),
    (227, 'GDPR', 'Impact assessment', 'Art. 35', 'assessment', 'Make a data protection impact assessment that weighs the epsilon which a person may spend.'),
    (228, 'GDPR', 'Transfers to third countries', 'Art. 44-49', 'residency', 'Unregister nodes outside of where data must be, or name the ground of the transfer.')
$$;
COMMENT ON FUNCTION federated._requirements() IS
    'The requirements that the compliance check goes through, in their order: what each is about, where it stands, by which finding it is judged and what to do where it is not met';

CREATE VIEW @extschema@.federated_compliance_requirements AS
SELECT r.regulation, r.requirement, r.reference, r.remediation FROM federated._requirements() AS r ORDER BY r.place;
COMMENT ON VIEW @extschema@.federated_compliance_requirements IS
    'What federated_compliance_check goes through, and what ATTEST FEDERATED COMPLIANCE may be about';
COMMENT ON COLUMN @extschema@.federated_compliance_requirements.regulation IS 'HIPAA or GDPR';
COMMENT ON COLUMN @extschema@.federated_compliance_requirements.requirement IS 'Its name; one that both regulations have is judged, and attested, once for both';
COMMENT ON COLUMN @extschema@.federated_compliance_requirements.reference IS 'Paragraph of 45 CFR, or article of the GDPR';
COMMENT ON COLUMN @extschema@.federated_compliance_requirements.remediation IS 'What to do where it is not met';

CREATE TABLE federated.attestation (
    attestation_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    workspace_id     bigint NOT NULL REFERENCES federated.workspace ON DELETE CASCADE,
    requirement      text NOT NULL,
    valid_until      date NOT NULL,
    statement        text NOT NULL CHECK (btrim(statement) <> '' AND octet_length(statement) <= 4096),
    author           name NOT NULL DEFAULT current_user,
    attested_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    status           text NOT NULL,
    evidence         text NOT NULL,
    statement_sha256 text NOT NULL
);
CREATE INDEX attestation_by_requirement ON federated.attestation (workspace_id, requirement, attestation_id);
COMMENT ON TABLE federated.attestation IS
    'What people attested of requirements that no program can judge: only ever added to, the newest of a requirement counts';
COMMENT ON COLUMN federated.attestation.valid_until IS 'The last day, by UTC, on which it counts';
COMMENT ON COLUMN federated.attestation.author IS 'The role that said it';
COMMENT ON COLUMN federated.attestation.status IS 'What the check said of the requirement when it was attested, as evidence';
COMMENT ON COLUMN federated.attestation.statement_sha256 IS 'SHA-256 of the statement, which the audit log has in its place';

CREATE FUNCTION federated._current_attestation(workspace_id bigint, requirement text, since timestamptz) RETURNS federated.attestation
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.* FROM (
        SELECT n.* FROM federated.attestation AS n
        WHERE n.workspace_id = _current_attestation.workspace_id AND n.requirement = _current_attestation.requirement
        ORDER BY n.attestation_id DESC LIMIT 1
    ) AS a
    WHERE a.valid_until >= (now() AT TIME ZONE 'UTC')::date AND (a.attested_at <= since) IS NOT TRUE
$$;
COMMENT ON FUNCTION federated._current_attestation(bigint, text, timestamptz) IS
    'The newest attestation of a requirement where it still counts and was made after a moment; a row of NULLs where there is none';

CREATE TABLE federated.compliance_record (
    record_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id    bigint NOT NULL REFERENCES federated.workspace ON DELETE CASCADE,
    regulation      text NOT NULL CHECK (regulation IN ('HIPAA', 'GDPR')),
    recorded_by     name NOT NULL DEFAULT current_user,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    findings        jsonb NOT NULL CHECK (jsonb_typeof(findings) = 'array'),
    findings_sha256 text NOT NULL
);
CREATE INDEX compliance_record_by_workspace ON federated.compliance_record (workspace_id, recorded_at);
COMMENT ON TABLE federated.compliance_record IS 'Compliance checks that somebody had recorded: only ever added to';
COMMENT ON COLUMN federated.compliance_record.recorded_by IS 'The role with whose rights the check was made';
COMMENT ON COLUMN federated.compliance_record.findings IS 'The rows of federated_compliance_check, in their order';
COMMENT ON COLUMN federated.compliance_record.findings_sha256 IS 'SHA-256 of the findings as jsonb prints them, which the audit log has in their place';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.attestation
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.compliance_record
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

SELECT pg_catalog.pg_extension_config_dump('federated.attestation', '');
SELECT pg_catalog.pg_extension_config_dump('federated.compliance_record', '');
