-- done: table federated.version
ALTER TABLE federated.version ADD COLUMN prediction jsonb CHECK (jsonb_typeof(prediction) = 'object');
