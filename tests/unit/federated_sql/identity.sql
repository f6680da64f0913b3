CREATE FEDERATED WORKSPACE clinics
CREATE FEDERATED WORKSPACE IF NOT EXISTS clinics
CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 0.5, min_nodes = 3, compliance_mode = 'HIPAA', encryption = 'AES-256-GCM')
CREATE FEDERATED WORKSPACE "Odd ""name""" WITH (delta = 1e-05, audit_logging = true, adaptive_clipping = false)
CREATE FEDERATED WORKSPACE "select" WITH ("Quoted" = 'x')
CREATE FEDERATED WORKSPACE "größe" WITH (data_residency = 'Côte d''Azur')
ALTER FEDERATED WORKSPACE clinics SET (privacy_budget = 2.0, keepalive_interval = 30)
ALTER FEDERATED WORKSPACE clinics RENAME TO hospitals
ALTER FEDERATED WORKSPACE clinics OWNER TO alice
DROP FEDERATED WORKSPACE clinics
DROP FEDERATED WORKSPACE IF EXISTS clinics CASCADE
REGISTER FEDERATED NODE 'north' IN WORKSPACE clinics
REGISTER FEDERATED NODE 'north-1.example' IN WORKSPACE clinics WITH (endpoint = 'https://north.example.com:8443', dataset_size = 1000000)
ALTER FEDERATED NODE 'north' IN WORKSPACE clinics SET (contact = 'dba@example.com')
UNREGISTER FEDERATED NODE 'north' FROM WORKSPACE clinics
UNREGISTER FEDERATED NODE IF EXISTS 'it''s' FROM WORKSPACE clinics
CREATE FEDERATED DATASET patients FOR TABLE patient IN WORKSPACE clinics
CREATE FEDERATED DATASET IF NOT EXISTS patients FOR TABLE ward.patient (age, "Bmi") WHERE (age >= 18 AND note <> ');') IN WORKSPACE clinics WITH (subject = 'patient_id', min_rows = 50)
CREATE FEDERATED DATASET patients FOR TABLE patient WHERE (id IN (SELECT id FROM agreed) /* all ) of them */ OR id = ANY (ARRAY[1, 2])) IN WORKSPACE clinics
DROP FEDERATED DATASET patients
DROP FEDERATED DATASET IF EXISTS patients
CREATE FEDERATED MODEL risk
CREATE FEDERATED MODEL IF NOT EXISTS risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression', features = ['age', 'bmi'], target = 'ill', rounds = 50)
CREATE FEDERATED MODEL risk WITH (layers = [64, 32, 1], seed = 0, learning_rate = 0.01, validation_split = -0.5)
ALTER FEDERATED MODEL risk SET (gradient_sparsification = 0.0, aggregation = 'weighted_median', features = [])
ALTER FEDERATED MODEL risk RENAME TO "Risk 2"
ALTER FEDERATED MODEL risk OWNER TO CURRENT_USER
DROP FEDERATED MODEL risk
DROP FEDERATED MODEL IF EXISTS risk CASCADE
START FEDERATED TRAINING risk
START FEDERATED TRAINING risk WITH (local_epochs = 5, batch_size = 32, learning_rate = 1e-05)
STOP FEDERATED TRAINING risk
CHECKPOINT FEDERATED TRAINING risk TO '/backups/risk.bin'
RESUME FEDERATED TRAINING risk
RESUME FEDERATED TRAINING risk FROM '/backups/risk.bin'
TAG FEDERATED MODEL risk AS 'v1'
TAG FEDERATED MODEL risk VERSION 7 AS 'v1'
ROLLBACK FEDERATED MODEL risk TO VERSION 'v1'
CREATE FEDERATED AGGREGATION FUNCTION middle() RETURNS FLOAT AS $$ select 1; $$ LANGUAGE sql
CREATE OR REPLACE FEDERATED AGGREGATION FUNCTION middle() RETURNS FLOAT AS $$ select 1; $$ LANGUAGE sql
DROP FEDERATED AGGREGATION FUNCTION middle
DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = 'p-17'
DELETE FROM FEDERATED TRAINING "Risk" WHERE data_subject_id IN ('p-17', 'p-18')
EXPORT FEDERATED DATA FOR SUBJECT 'p-17' FROM WORKSPACE clinics TO '/exports/p-17.json' FORMAT 'json'
GRANT FEDERATED CONSENT FOR SUBJECT 'p-17' PURPOSE 'research' IN WORKSPACE clinics VERSION '2'
REVOKE FEDERATED CONSENT FOR SUBJECT 'p-17' FROM WORKSPACE clinics
CREATE FEDERATED ALERT low_budget ON WORKSPACE clinics WHEN remaining_epsilon < 0.1 AND active_nodes < 3 NOTIFY 'pg:alerts'
DROP FEDERATED ALERT low_budget
DROP FEDERATED ALERT low_budget ON WORKSPACE clinics
