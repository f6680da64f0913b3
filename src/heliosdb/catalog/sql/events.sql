-- name: insert_event(bigint, uuid, integer, text, jsonb)
INSERT INTO federated.event (epoch, run_id, round_number, kind, details) VALUES ($1, $2::uuid, $3, $4, $5::jsonb)

-- name: find_left_out(uuid)
SELECT (details -> 'left_out')::text AS left_out FROM federated.event
WHERE run_id = $1::uuid AND kind = 'round.opened' AND round_number = 0
ORDER BY event_id DESC LIMIT 1
