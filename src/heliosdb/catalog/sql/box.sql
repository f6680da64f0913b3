-- name: search_path()
SELECT pg_catalog.format('"$user", public, %I', n.nspname) AS search_path
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'heliosdb_federated_learning'

-- name: make_box()
-- The role of the transaction makes it, so it is the role's own: the server lets nothing that runs inside a SECURITY DEFINER
-- function change who it is, by whatever way it tries. All of the statement happens inside: its last row is fetched here.
CREATE FUNCTION pg_temp.heliosdb_box(
    statement pg_catalog.text, search_path pg_catalog.text, most_rows pg_catalog.int8, most_bytes pg_catalog.int8,
    OUT reads pg_catalog.bool, OUT lines pg_catalog.text[], OUT changed pg_catalog.int8, OUT truncated pg_catalog.bool
) LANGUAGE plpgsql SECURITY DEFINER AS $box$
DECLARE
    answer  pg_catalog.refcursor := 'heliosdb_answer';
    line    record;
    written pg_catalog.text;
    size    pg_catalog.int8 := 0;
BEGIN
    PERFORM pg_catalog.set_config('search_path', search_path, true);
    truncated := false;
    lines := '{}';
    changed := 0;
    BEGIN
        OPEN answer NO SCROLL FOR EXECUTE statement;
        reads := true;
    EXCEPTION WHEN invalid_cursor_definition THEN
        -- It is one that answers without rows.
        reads := false;
    END;
    IF NOT reads THEN
        EXECUTE statement;
        GET DIAGNOSTICS changed = ROW_COUNT;
    END IF;
    WHILE reads LOOP
        FETCH answer INTO line;
        EXIT WHEN NOT FOUND;
        written := line::pg_catalog.text;
        size := size OPERATOR(pg_catalog.+) pg_catalog.octet_length(written);
        truncated := changed OPERATOR(pg_catalog.=) most_rows OR size OPERATOR(pg_catalog.>) most_bytes;
        IF truncated AND changed OPERATOR(pg_catalog.=) 0 THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
                MESSAGE = pg_catalog.format('a row of the answer has more than %s bytes', most_bytes),
                HINT = 'Ask for a part of it: left(a, 1000).';
        END IF;
        EXIT WHEN truncated;
        lines := pg_catalog.array_append(lines, written);
        changed := changed OPERATOR(pg_catalog.+) 1;
    END LOOP;
    -- The statement may have chosen one that the answer cannot be read in.
    PERFORM pg_catalog.set_config('client_encoding', 'UTF8', true);
END
$box$

-- name: read_only()
-- Ends with a rollback anyway; this says at once that it changes nothing.
SET TRANSACTION READ ONLY

-- name: run(text, text, bigint, bigint)
SELECT b.reads, b.lines, b.changed, b.truncated FROM pg_temp.heliosdb_box($1, $2, $3, $4) AS b

-- name: forget_path()
SET LOCAL search_path = pg_catalog, pg_temp

-- name: type_names(oid[], integer[])
SELECT pg_catalog.format_type(t.oid, t.modifier) AS name
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int4[])) WITH ORDINALITY AS t (oid, modifier, place)
ORDER BY t.place

-- name: end_backend(integer)
SELECT pg_catalog.pg_terminate_backend($1::integer)
