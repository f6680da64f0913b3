\set SHOW_CONTEXT never
-- A version as the coordinator publishes it: 0.25 + age / 2 + 2 * smoker, with 40 and 0.5 for what is missing
SELECT federated._publish_function(model_id, 1, run_id, '{age,smoker}', '{f,t}',
    '{"kind": "linear", "intercept": 0.25, "slopes": [0.5, 2], "fills": [40, 0.5], "shifts": [0, 0], "link": "identity",
      "target_mean": 0, "target_scale": 1}') FROM federated.run;
INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256, is_current)
SELECT model_id, 1, run_id, 1, '{age,smoker}', '{}', '', '', true FROM federated.run;
SELECT federated_model.risk(age => 10, smoker => true), federated_model.risk(age => 10), federated_model.risk();
SELECT federated_predict('risk', '{"age": 10, "smoker": true}'), predict('risk', '{"age": 10}'::jsonb),
       predict('risk', ARRAY[10, 0]::float8[]), predict('risk', NULL::float8[]);
SELECT predict('risk', p), federated_predict('risk') FROM (SELECT 10 AS age, false AS smoker, 'other' AS note) AS p;
SELECT age, federated_model.risk(age, age > 1) AS prediction FROM generate_series(0, 3) AS age ORDER BY prediction DESC;
EXPLAIN (VERBOSE, COSTS OFF) SELECT federated_model.risk(age => a) FROM generate_series(1, 2) AS a;
-- Errors
SELECT federated_predict('risk', '{"aeg": 10}');
\echo :LAST_ERROR_SQLSTATE
SELECT federated_predict('risk', '[10]');
\echo :LAST_ERROR_SQLSTATE
SELECT federated_predict('nothing', '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT predict('risk', ARRAY[1]::float8[]);
\echo :LAST_ERROR_SQLSTATE
-- What depends on a model keeps it
CREATE VIEW forecast AS SELECT federated_model.risk(age => 10) AS prediction;
CALL federated.execute('DROP FEDERATED MODEL risk');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM forecast;
DROP VIEW forecast;
