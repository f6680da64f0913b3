-- Functions of the product are found in the extension's own schema, whatever the caller's search_path is; numbers keep all of their digits.
SELECT pg_catalog.to_regnamespace('federated') IS NOT NULL AS is_there,
       pg_catalog.set_config('extra_float_digits', '1', false) AS digits,
       pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(coalesce(
           (SELECT n.nspname::text FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
            WHERE e.extname = 'heliosdb_federated_learning'), 'public')) || ', pg_temp', false) AS search_path
