\set SHOW_CONTEXT never
CREATE ROLE regress_federated_auditor IN ROLE federated_auditor;
CREATE ROLE regress_federated_admin IN ROLE federated_admin;
-- A requirement is judged by what is seen, or by a person's word while it lasts
SET ROLE regress_federated_auditor;
SELECT requirement, status, reference FROM federated_compliance_check('clinics', 'HIPAA') WHERE requirement LIKE 'Risk%';
SELECT format('ATTEST FEDERATED COMPLIANCE clinics FOR ''Risk analysis'' UNTIL ''%s'' AS ''Made and kept''',
              to_char((now() AT TIME ZONE 'UTC')::date + 1, 'YYYY-MM-DD')) AS attest \gset
CALL federated.execute(:'attest');
SELECT status, details LIKE 'Attested by regress_federated_auditor on %: Made and kept%' AS is_told
FROM federated_compliance_check('clinics', 'HIPAA') WHERE requirement = 'Risk analysis';
SELECT requirement, author, state, statement, status_then FROM federated_attestations;
SELECT count(*) > 20 AS is_whole FROM federated_record_compliance_check('clinics', 'GDPR');
SELECT DISTINCT regulation, recorded_by FROM federated_compliance_history;
-- What cannot be attested
CALL federated.execute('ATTEST FEDERATED COMPLIANCE clinics FOR ''Risk analisys'' UNTIL ''2026-01-01'' AS ''x''');
CALL federated.execute('ATTEST FEDERATED COMPLIANCE clinics FOR ''Risk analysis'' UNTIL ''01/02/2027'' AS ''x''');
CALL federated.execute('ATTEST FEDERATED COMPLIANCE nowhere FOR ''Risk analysis'' UNTIL ''2026-01-01'' AS ''x''');
-- Until when it may last depends on the day
\set VERBOSITY terse
CALL federated.execute('ATTEST FEDERATED COMPLIANCE clinics FOR ''Risk analysis'' UNTIL ''2001-01-01'' AS ''x''');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
UPDATE federated.attestation SET statement = 'y';
\echo :LAST_ERROR_SQLSTATE
-- Whoever administers does not attest
SET ROLE regress_federated_admin;
CALL federated.execute('ATTEST FEDERATED COMPLIANCE clinics FOR ''Risk analysis'' UNTIL ''2026-01-01'' AS ''x''');
SELECT federated_processing_record('clinics') ->> 'categories_of_data_subjects' IS NULL AS not_recorded;
SELECT federated_model_card('risk') ->> 'model' AS model;
RESET ROLE;
DELETE FROM federated.attestation;
DELETE FROM federated.compliance_record;
DROP ROLE regress_federated_auditor, regress_federated_admin;
