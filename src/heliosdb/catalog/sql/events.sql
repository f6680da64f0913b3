-- name: insert_event(bigint, uuid, integer, text, jsonb)
INSERT INTO federated.event (epoch, run_id, round_number, kind, details) VALUES ($1, $2::uuid, $3, $4, $5::jsonb)
