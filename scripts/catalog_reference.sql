-- What the extension offers to users in its own schema, from the catalog: one row a function, procedure or view.
-- arguments and columns are arrays of {"name", "type", "comment"}; the comment of a function's column is never there.
WITH members AS (
    SELECT d.classid, d.objid
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    WHERE e.extname = 'heliosdb_federated_learning'
), routines AS (
    SELECT p.oid, p.proname::text AS name, obj_description(p.oid, 'pg_proc') AS comment,
           CASE WHEN p.proretset THEN 'setof ' ELSE '' END || format_type(p.prorettype, NULL) AS result,
           coalesce(p.proallargtypes, p.proargtypes::oid[]) AS types, p.proargnames AS names,
           coalesce(p.proargmodes, array_fill('i'::"char", ARRAY[cardinality(p.proargtypes::oid[])])) AS modes,
           p.pronargs - p.pronargdefaults AS required
    FROM pg_proc AS p JOIN members AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
    WHERE p.pronamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'heliosdb_federated_learning')
), arguments AS (
    SELECT r.oid,
           jsonb_agg(jsonb_build_object('name', a.name, 'type', format_type(a.type, NULL),
                                        'optional', a.place > r.required) ORDER BY a.place)
               FILTER (WHERE a.mode IN ('i', 'v', 'b')) AS given,
           jsonb_agg(jsonb_build_object('name', a.name, 'type', format_type(a.type, NULL)) ORDER BY a.place)
               FILTER (WHERE a.mode IN ('o', 't', 'b')) AS returned
    FROM routines AS r, unnest(r.names, r.types, r.modes) WITH ORDINALITY AS a (name, type, mode, place)
    GROUP BY r.oid
), views AS (
    SELECT c.oid, c.relname::text AS name, obj_description(c.oid, 'pg_class') AS comment,
           jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                        'comment', col_description(c.oid, a.attnum)) ORDER BY a.attnum) AS columns
    FROM pg_class AS c
    JOIN members AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind = 'v'
      AND c.relnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'heliosdb_federated_learning')
    GROUP BY c.oid
)
SELECT 'function' AS kind, r.name, r.comment, r.result,
       coalesce(a.given, '[]') AS arguments, coalesce(a.returned, '[]') AS columns
FROM routines AS r LEFT JOIN arguments AS a USING (oid)
UNION ALL
SELECT 'view', v.name, v.comment, NULL, '[]', v.columns FROM views AS v
ORDER BY 1, 2, 5
