CALL federated.execute($1::text)
