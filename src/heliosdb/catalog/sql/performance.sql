-- name: record_measured(uuid, integer, bigint, jsonb, jsonb, double precision)
WITH measured AS (
    INSERT INTO federated.phase (run_id, round_number, phase, duration_seconds, cpu_seconds, busy_seconds,
                                 memory_bytes, bytes_sent, bytes_received)
    SELECT $1::uuid, $2, p.phase, p.duration_seconds, p.cpu_seconds, p.busy_seconds, p.memory_bytes, p.bytes_sent,
           p.bytes_received
    FROM jsonb_to_recordset($4::jsonb) AS p (
        phase text, duration_seconds double precision, cpu_seconds double precision, busy_seconds double precision,
        memory_bytes double precision, bytes_sent bigint, bytes_received bigint)
    ON CONFLICT (run_id, round_number, phase) DO UPDATE
    SET duration_seconds = phase.duration_seconds + excluded.duration_seconds,
        cpu_seconds = phase.cpu_seconds + excluded.cpu_seconds, busy_seconds = phase.busy_seconds + excluded.busy_seconds,
        memory_bytes = greatest(phase.memory_bytes, excluded.memory_bytes),
        bytes_sent = phase.bytes_sent + excluded.bytes_sent, bytes_received = phase.bytes_received + excluded.bytes_received
), aligned AS (
    INSERT INTO federated.contribution (run_id, round_number, node_id, alignment, direction, length, likeness)
    SELECT $1::uuid, $2, n.node_id, c.alignment, c.direction, c.length, c.likeness
    FROM jsonb_to_recordset($5::jsonb) AS c (
        node text, alignment double precision, direction double precision, length double precision, likeness double precision)
    JOIN federated.node AS n ON n.workspace_id = $3 AND n.name = c.node
    ON CONFLICT (run_id, round_number, node_id) DO UPDATE
    SET alignment = excluded.alignment, direction = excluded.direction, length = excluded.length, likeness = excluded.likeness
)
UPDATE federated.round SET node_variance = $6::double precision
WHERE run_id = $1::uuid AND round_number = $2 AND $6::double precision IS NOT NULL
