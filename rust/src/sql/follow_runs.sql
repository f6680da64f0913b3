SELECT r.run_id::text, r.status::text AS status, s.status::text AS series_status, s.message::text AS series_message
FROM federated.run AS r
LEFT JOIN LATERAL federated._series_status(r.series_id) AS s ON r.series_id IS NOT NULL
WHERE r.run_id = ANY ($1::text[]::uuid[]) ORDER BY r.created_at, r.run_id
