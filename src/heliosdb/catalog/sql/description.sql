-- name: describe_columns(text)
-- Of each shared column: its type, a domain as what it is made of and an enum as one, and what its catalog says of its values. The table
-- behind a dataset is the one relation that its view reads columns of, or of several that with the name it was shared by.
WITH RECURSIVE shared AS (
    SELECT d.name AS dataset, d.relation, c.oid AS view
    FROM federated.dataset AS d
    JOIN pg_class AS c ON c.relname::text = d.name AND c.relnamespace = 'federated_dataset'::regnamespace
    WHERE d.workspace = $1
), behind AS (
    SELECT s.dataset, s.relation, d.refobjid AS source, count(*) OVER (PARTITION BY s.dataset) AS sources
    FROM shared AS s
    JOIN pg_rewrite AS r ON r.ev_class = s.view AND r.ev_type = '1'
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> s.view AND d.refobjsubid > 0
    GROUP BY s.dataset, s.relation, d.refobjid
), source AS (
    SELECT b.dataset, c.oid AS source FROM behind AS b
    JOIN pg_class AS c ON c.oid = b.source JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND (b.sources = 1 OR format('%I.%I', n.nspname, c.relname) = b.relation)
), made_of (dataset, name, sorted_by, type) AS (
    SELECT s.dataset, a.attname, a.attcollation, a.atttypid
    FROM shared AS s JOIN pg_attribute AS a ON a.attrelid = s.view
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT m.dataset, m.name, m.sorted_by, t.typbasetype FROM made_of AS m JOIN pg_type AS t ON t.oid = m.type WHERE t.typtype = 'd'
), checked AS (
    SELECT m.dataset, m.name, 'VALUE' AS subject, pg_get_constraintdef(k.oid) AS definition
    FROM made_of AS m JOIN pg_constraint AS k ON k.contypid = m.type
    WHERE k.contype = 'c' AND k.convalidated
    UNION ALL
    SELECT s.dataset, a.attname, quote_ident(a.attname), pg_get_constraintdef(k.oid)
    FROM source AS s JOIN pg_constraint AS k ON k.conrelid = s.source
    JOIN pg_attribute AS a ON a.attrelid = s.source AND k.conkey = ARRAY[a.attnum]
    WHERE k.contype = 'c' AND k.convalidated AND NOT k.connoinherit
)
SELECT m.dataset, m.name::text AS name,
       CASE WHEN t.typtype = 'e' THEN 'enum' ELSE format_type(m.type, NULL) END
       || CASE WHEN coalesce(l.collisdeterministic, true) THEN '' ELSE ' with a nondeterministic collation' END AS type,
       ARRAY(SELECT k.subject FROM checked AS k
             WHERE (k.dataset, k.name) = (m.dataset, m.name) ORDER BY k.subject, k.definition) AS subjects,
       ARRAY(SELECT k.definition FROM checked AS k
             WHERE (k.dataset, k.name) = (m.dataset, m.name) ORDER BY k.subject, k.definition) AS definitions,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = m.type ORDER BY e.enumsortorder) AS labels
FROM made_of AS m JOIN pg_type AS t ON t.oid = m.type LEFT JOIN pg_collation AS l ON l.oid = m.sorted_by
WHERE t.typtype <> 'd'
