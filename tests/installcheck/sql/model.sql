\set SHOW_CONTEXT never
CALL federated.execute($$CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression', features = ['age', 'bmi'], target = 'outcome', rounds = 5)$$);
SELECT name, options FROM federated.model;
CALL federated.execute('CREATE FEDERATED MODEL risk');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('CREATE FEDERATED MODEL IF NOT EXISTS risk');
-- The only workspace is meant where none is named; a model may be incomplete
CALL federated.execute('CREATE FEDERATED MODEL "half done"');
SELECT m.name, w.name AS workspace FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id) ORDER BY 1;
CALL federated.execute('CREATE FEDERATED MODEL lost IN WORKSPACE nowhere');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED MODEL twice WITH (features = ['a', 'a'])$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED MODEL wrong WITH (algorithm = 'astrology')$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$CREATE FEDERATED MODEL wrong WITH (rounds = (SELECT 1))$$);
\echo :LAST_ERROR_SQLSTATE
-- Its function is there, and says that there is no version yet
\df federated_model.*
SELECT federated_model.risk(age => 55);
\echo :LAST_ERROR_SQLSTATE
SELECT federated_predict('risk', '{"age": 55}');
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute($$ALTER FEDERATED MODEL risk SET (features = ['age', 'bmi', 'smoker'])$$);
\df federated_model.risk
CALL federated.execute('ALTER FEDERATED MODEL risk RESET (rounds)');
SELECT options FROM federated.model WHERE name = 'risk';
CALL federated.execute('ALTER FEDERATED MODEL risk SET (rounds = 5)');
CALL federated.execute($$ALTER FEDERATED MODEL nothing SET (rounds = 1)$$);
\echo :LAST_ERROR_SQLSTATE
CALL federated.execute('DROP FEDERATED MODEL "half done"');
CALL federated.execute('DROP FEDERATED MODEL IF EXISTS "half done"');
CALL federated.execute('DROP FEDERATED MODEL "half done"');
\echo :LAST_ERROR_SQLSTATE
