-- Attestations, and checks that are put on record. What they hold is written by triggers: who adds one names the requirement,
-- the last day and the words, or the regulation, and nothing else.

CREATE FUNCTION federated._check_attestation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    seen  record;
BEGIN
    -- Only the table's owner brings rows that are filled in already, as restoring a dump does.
    IF NEW.evidence IS NOT NULL THEN
        RETURN NEW;
    ELSIF NEW.valid_until < today OR NEW.valid_until > today + interval '2 years' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN NEW.valid_until < today THEN format('the attestation would have ended on %s', to_char(NEW.valid_until, 'YYYY-MM-DD'))
                           ELSE format('an attestation until %s is too long', to_char(NEW.valid_until, 'YYYY-MM-DD')) END,
            DETAIL = format('It may last from today to %s, the last day included.', to_char(today + interval '2 years', 'YYYY-MM-DD'));
    END IF;
    SELECT f.* INTO seen FROM federated.workspace AS w, federated._findings(w.workspace_id, w.name, ARRAY(
        SELECT r.finding FROM federated._requirements() AS r WHERE r.requirement = NEW.requirement)) AS f
    WHERE w.workspace_id = NEW.workspace_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('requirement "%s" does not exist', NEW.requirement);
    ELSIF seen.status = 'FAIL' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('requirement "%s" fails, which no attestation changes', NEW.requirement),
            DETAIL = format('%s Evidence: %s', seen.details, seen.evidence),
            HINT = 'Mend what the DETAIL names.';
    END IF;
    NEW.status := seen.status;
    NEW.evidence := seen.evidence;
    NEW.statement_sha256 := encode(sha256(convert_to(NEW.statement, 'UTF8')), 'hex');
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_attestation() IS 'Lets an attestation last two years at most, and be of what does not fail; writes down what was seen';

CREATE TRIGGER check_attestation BEFORE INSERT ON federated.attestation
    FOR EACH ROW EXECUTE FUNCTION federated._check_attestation();

CREATE FUNCTION federated._make_compliance_record() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.findings IS NULL THEN
        NEW.findings := (SELECT jsonb_agg(to_jsonb(c)) FROM federated.workspace AS w, @extschema@.federated_compliance_check(w.name, NEW.regulation) AS c
                         WHERE w.workspace_id = NEW.workspace_id);
        NEW.findings_sha256 := encode(sha256(convert_to(NEW.findings::text, 'UTF8')), 'hex');
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._make_compliance_record() IS 'Makes the check that a record is of, with the rights of whoever adds it';

CREATE TRIGGER make_record BEFORE INSERT ON federated.compliance_record
    FOR EACH ROW EXECUTE FUNCTION federated._make_compliance_record();

CREATE FUNCTION @extschema@.federated_record_compliance_check(
    workspace text, regulation text,
    OUT requirement text, OUT status text, OUT details text, OUT evidence text, OUT reference text
) RETURNS SETOF record
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH made AS (
        INSERT INTO federated.compliance_record (workspace_id, regulation)
        VALUES (federated._workspace_id(federated_record_compliance_check.workspace), federated._check_regulation(federated_record_compliance_check.regulation))
        RETURNING findings
    )
    SELECT f.* FROM made AS m CROSS JOIN LATERAL jsonb_to_recordset(m.findings)
        AS f (requirement text, status text, details text, evidence text, reference text)
$$;
COMMENT ON FUNCTION @extschema@.federated_record_compliance_check(text, text) IS
    'federated_compliance_check, and its rows are kept with the time and the caller''s role: federated_compliance_history shows them';

CREATE VIEW @extschema@.federated_compliance_history AS
SELECT c.record_id, w.name AS workspace, c.regulation, c.recorded_at, c.recorded_by::text AS recorded_by,
       f.value ->> 'requirement' AS requirement, f.value ->> 'status' AS status, f.value ->> 'details' AS details,
       f.value ->> 'evidence' AS evidence, f.value ->> 'reference' AS reference, f.place::integer AS place, c.findings_sha256
FROM federated.compliance_record AS c
JOIN federated.workspace AS w USING (workspace_id)
CROSS JOIN LATERAL jsonb_array_elements(c.findings) WITH ORDINALITY AS f (value, place);
COMMENT ON VIEW @extschema@.federated_compliance_history IS
    'The compliance checks that federated_record_compliance_check kept, a row for each requirement';
COMMENT ON COLUMN @extschema@.federated_compliance_history.record_id IS 'Which check';
COMMENT ON COLUMN @extschema@.federated_compliance_history.workspace IS 'Name of the workspace, as it is now';
COMMENT ON COLUMN @extschema@.federated_compliance_history.regulation IS 'HIPAA or GDPR';
COMMENT ON COLUMN @extschema@.federated_compliance_history.recorded_at IS 'When the check was made';
COMMENT ON COLUMN @extschema@.federated_compliance_history.recorded_by IS 'The role with whose rights it was made: another may have seen more or less';
COMMENT ON COLUMN @extschema@.federated_compliance_history.requirement IS 'As the check named it then; status, details, evidence and reference likewise';
COMMENT ON COLUMN @extschema@.federated_compliance_history.status IS 'PASS, FAIL or MANUAL';
COMMENT ON COLUMN @extschema@.federated_compliance_history.details IS 'What was found, who attested it, or what a person had to look at';
COMMENT ON COLUMN @extschema@.federated_compliance_history.evidence IS 'The figures seen';
COMMENT ON COLUMN @extschema@.federated_compliance_history.reference IS 'Where the requirement stands';
COMMENT ON COLUMN @extschema@.federated_compliance_history.place IS 'Its place in the check, from 1';
COMMENT ON COLUMN @extschema@.federated_compliance_history.findings_sha256 IS 'Of all rows of the check; the audit log has it too';

CREATE VIEW @extschema@.federated_attestations AS
SELECT w.name AS workspace, a.requirement, a.author::text AS author, a.attested_at, a.valid_until,
       CASE WHEN EXISTS (SELECT FROM federated.attestation AS n
                         WHERE n.workspace_id = a.workspace_id AND n.requirement = a.requirement AND n.attestation_id > a.attestation_id) THEN 'replaced'
            WHEN a.valid_until < (now() AT TIME ZONE 'UTC')::date THEN 'expired'
            ELSE 'in force' END AS state,
       a.statement, a.status AS status_then, a.evidence AS evidence_then, a.statement_sha256
FROM federated.attestation AS a
JOIN federated.workspace AS w USING (workspace_id);
COMMENT ON VIEW @extschema@.federated_attestations IS 'What ATTEST FEDERATED COMPLIANCE put on record, replaced and expired attestations included';
COMMENT ON COLUMN @extschema@.federated_attestations.workspace IS 'Name of the workspace';
COMMENT ON COLUMN @extschema@.federated_attestations.requirement IS 'As federated_compliance_requirements has it';
COMMENT ON COLUMN @extschema@.federated_attestations.author IS 'The role that attested';
COMMENT ON COLUMN @extschema@.federated_attestations.attested_at IS 'When it did';
COMMENT ON COLUMN @extschema@.federated_attestations.valid_until IS 'The last day, by UTC, on which it counts';
COMMENT ON COLUMN @extschema@.federated_attestations.state IS
    'in force; replaced by a newer one of the same requirement, whether that is in force or not; or expired. What fails is not met by one in force either';
COMMENT ON COLUMN @extschema@.federated_attestations.statement IS 'The words';
COMMENT ON COLUMN @extschema@.federated_attestations.status_then IS 'What the check said when it was attested';
COMMENT ON COLUMN @extschema@.federated_attestations.evidence_then IS 'What the check saw when it was attested';
COMMENT ON COLUMN @extschema@.federated_attestations.statement_sha256 IS 'SHA-256 of the words, which the audit log has in their place';
