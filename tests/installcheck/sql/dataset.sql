\set SHOW_CONTEXT never
CREATE TABLE patient (patient_id text, age double precision, outcome integer, secret text);
INSERT INTO patient VALUES ('p1', 30, 0, 'x'), ('p2', 70, 1, 'y');
CALL federated.execute($$CREATE FEDERATED DATASET elders FOR TABLE patient (age, outcome) WHERE (age > 60) IN WORKSPACE clinics WITH (subject = patient_id)$$);
\d federated_dataset.elders
SELECT name, workspace, relation, columns, types, predicate, options FROM federated.dataset;
CALL federated.execute($$CREATE FEDERATED DATASET elders FOR TABLE patient IN WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED DATASET d FOR TABLE nowhere IN WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED DATASET d FOR TABLE patient (aeg) IN WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED DATASET d FOR TABLE patient WHERE (true) UNION SELECT 1 IN WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED DATASET d FOR TABLE patient WHERE (age > $1) IN WORKSPACE clinics$$);
\echo :LAST_ERROR_SQLSTATE
-- federated_reader reads the dataset and nothing behind it
SET ROLE federated_reader;
SELECT age, outcome FROM federated_dataset.elders;
SELECT * FROM patient;
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM federated.dataset;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- What is said of it besides may be altered
CALL federated.execute('ALTER FEDERATED DATASET elders SET (min_rows = 30)');
CALL federated.execute('ALTER FEDERATED DATASET elders RESET (subject)');
\echo :LAST_ERROR_SQLSTATE
SELECT options FROM federated.dataset;
CALL federated.execute('ALTER FEDERATED DATASET elders RESET (min_rows)');
CALL federated.execute('ALTER FEDERATED DATASET nothing RESET (min_rows)');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('DROP FEDERATED DATASET elders');
CALL federated.execute('DROP FEDERATED DATASET elders');
\echo :LAST_ERROR_SQLSTATE
SELECT to_regclass('federated_dataset.elders');
DROP TABLE patient;
