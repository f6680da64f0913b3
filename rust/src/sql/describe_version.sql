SELECT h.numbers_id::text AS version_key FROM federated._find_held($1::text) AS h
