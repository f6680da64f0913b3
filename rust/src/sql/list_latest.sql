-- The latest run that has had its turn, and with it all of its series.
SELECT r.run_id::text FROM federated._find_run($1::text, NULL) AS latest
JOIN federated.run AS r ON r.run_id = latest.run_id OR r.series_id = latest.series_id
