\set SHOW_CONTEXT never
SELECT * FROM federated_training_status('risk');
SELECT wait_for_convergence('risk', 0);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('START FEDERATED TRAINING risk WITH (local_epochs = 5)');
CALL federated.execute('START FEDERATED TRAINING risk');
\echo :LAST_ERROR_SQLSTATE
SELECT status, options -> 'rounds' AS rounds, options -> 'local_epochs' AS epochs, policy -> 'privacy_budget' AS budget,
       policy -> 'workspace' AS workspace
FROM federated.run;
SELECT round_number, status, message FROM federated_training_status('risk');
SELECT wait_for_convergence('risk', 0);
\echo :LAST_ERROR_SQLSTATE
-- What is altered now is for the next run; a model in training is not dropped
CALL federated.execute('ALTER FEDERATED MODEL risk SET (rounds = 9)');
SELECT r.options -> 'rounds' AS run, m.options -> 'rounds' AS model FROM federated.run AS r JOIN federated.model AS m USING (model_id);
CALL federated.execute('DROP FEDERATED MODEL risk CASCADE');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('DROP FEDERATED WORKSPACE clinics CASCADE');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('STOP FEDERATED TRAINING risk');
SELECT round_number, status, message FROM federated_training_status('risk');
SELECT wait_for_convergence('risk');
CALL federated.execute('STOP FEDERATED TRAINING risk');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('START FEDERATED TRAINING nothing');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('START FEDERATED TRAINING risk WITH (features = [''x''])');
\echo :LAST_ERROR_SQLSTATE
