SELECT metric::text, value::float8 FROM federated_evaluate($1::text)
