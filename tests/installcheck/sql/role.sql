\set SHOW_CONTEXT never
CREATE ROLE regress_federated_admin IN ROLE federated_admin;
CREATE ROLE regress_federated_operator IN ROLE federated_operator;
CREATE ROLE regress_federated_analyst IN ROLE federated_analyst;
CREATE ROLE regress_federated_auditor IN ROLE federated_auditor;
CREATE ROLE regress_federated_nobody;
-- Without the role nothing is said about the object
SET ROLE regress_federated_nobody;
CALL federated.execute('DROP FEDERATED MODEL risk');
\echo :LAST_ERROR_SQLSTATE
SELECT federated_predict('risk', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM federated_node_status;
\echo :LAST_ERROR_SQLSTATE
SET ROLE regress_federated_analyst;
SELECT federated_predict('risk', '{"age": 10}');
SELECT count(*) FROM federated_node_status;
CALL federated.execute('START FEDERATED TRAINING risk');
\echo :LAST_ERROR_SQLSTATE
SELECT sealed FROM federated.version;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM federated.audit;
\echo :LAST_ERROR_SQLSTATE
SET ROLE regress_federated_auditor;
SELECT count(*) > 0 AS can_read FROM federated.audit;
DELETE FROM federated.audit;
\echo :LAST_ERROR_SQLSTATE
SELECT federated_predict('risk', '{"age": 10}');
\echo :LAST_ERROR_SQLSTATE
SET ROLE regress_federated_operator;
CALL federated.execute('DROP FEDERATED WORKSPACE clinics');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('DROP FEDERATED WORKSPACE nowhere');
\echo :LAST_ERROR_SQLSTATE
-- What another owns is not theirs to change
CALL federated.execute('ALTER FEDERATED MODEL risk SET (rounds = 7)');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
CALL federated.execute('ALTER FEDERATED MODEL risk OWNER TO regress_federated_operator');
SET ROLE regress_federated_operator;
CALL federated.execute('ALTER FEDERATED MODEL risk SET (rounds = 7)');
UPDATE federated.run SET policy = '{}';
\echo :LAST_ERROR_SQLSTATE
SET ROLE regress_federated_admin;
CALL federated.execute('CREATE FEDERATED WORKSPACE second');
CALL federated.execute('DROP FEDERATED WORKSPACE second');
INSERT INTO federated.workspace (name, owner) VALUES ('x', 'postgres');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT acting_role, action, object_name FROM federated.audit WHERE acting_role LIKE 'regress%' ORDER BY recorded_at;
DROP ROLE regress_federated_admin, regress_federated_operator, regress_federated_analyst, regress_federated_auditor,
    regress_federated_nobody;
