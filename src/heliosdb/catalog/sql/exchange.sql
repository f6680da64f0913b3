-- name: export_model(text)
SELECT federated_export_model($1)::text AS document

-- name: import_model(text, text, bytea, text, text)
SELECT federated_import_model($1::jsonb, $2, $3, $4, $5) AS name
