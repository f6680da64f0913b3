-- done: table federated.node
ALTER TABLE federated.node ADD COLUMN plain_answers boolean;
