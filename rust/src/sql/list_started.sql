-- START refuses a model with an active run, so what is queued inside its transaction is its own: a run, or a series.
SELECT r.run_id::text FROM federated.run AS r JOIN federated.model AS m USING (model_id)
WHERE m.name = $1::text AND r.status = 'queued'
