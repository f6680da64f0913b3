"""A catalog as text: every object of the extension, one line a property, so that two can be compared by diff.

What always holds: what the lines say does not depend on oids, on the order of creation, or on the database's name.
"""

from __future__ import annotations

import difflib
from typing import Any

import psycopg

EXTENSION = "heliosdb_federated_learning"

_MEMBERS = f"""
    SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = '{EXTENSION}'
"""
_RELATIONS = f"(SELECT objid FROM ({_MEMBERS}) AS m WHERE m.classid = 'pg_class'::regclass)"

# An ACL that was never set stands for the default one, and its entries have no order.
_ACL = """
    coalesce((SELECT string_agg(CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END || ' '
                                || a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END, ', '
                                ORDER BY a.grantee = 0, a.grantee::regrole::text, a.privilege_type)
              FROM aclexplode({acl}) AS a), 'nothing')
"""


def _acl(column: str, kind: str, owner: str) -> str:
    return _ACL.replace("{acl}", f"coalesce({column}, acldefault('{kind}', {owner}))")


_QUERIES = {
    "extension": f"""
        SELECT extname, format('version %s, schema %s, relocatable %s', extversion, extnamespace::regnamespace,
                               extrelocatable)
        FROM pg_extension WHERE extname = '{EXTENSION}'""",
    "member": f"SELECT pg_describe_object(classid, objid, 0), 'belongs to the extension' FROM ({_MEMBERS}) AS m",
    "dumped": f"""
        SELECT c.relation::regclass::text, 'condition: ' || c.condition
        FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS c (relation, condition)
        WHERE e.extname = '{EXTENSION}'""",
    "schema": f"""
        SELECT n.nspname, format('owner %s, comment %s, rights: %s', n.nspowner::regrole,
                                 obj_description(n.oid, 'pg_namespace'), {_acl("n.nspacl", "n", "n.nspowner")})
        FROM pg_namespace AS n
        WHERE n.oid IN (SELECT objid FROM ({_MEMBERS}) AS m WHERE classid = 'pg_namespace'::regclass)""",
    "relation": f"""
        SELECT c.oid::regclass::text,
               format('kind %s, owner %s, options %s, persistence %s, row security %s %s, comment %s, rights: %s',
                      c.relkind, c.relowner::regrole, c.reloptions, c.relpersistence, c.relrowsecurity,
                      c.relforcerowsecurity, obj_description(c.oid, 'pg_class'),
                      {_acl("c.relacl", "r", "c.relowner")})
        FROM pg_class AS c WHERE c.oid IN {_RELATIONS} AND c.relkind <> 'S'""",
    "column": f"""
        SELECT format('%s.%s', a.attrelid::regclass, a.attname),
               format('place %s, type %s, not null %s, default %s, identity %s, generated %s, collation %s, storage %s,'
                      ' statistics %s, comment %s, rights: %s',
                      row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum),
                      format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
                      a.attidentity, a.attgenerated, nullif(a.attcollation, 0)::regcollation, a.attstorage,
                      a.attstattarget, col_description(a.attrelid, a.attnum),
                      {_ACL.replace("{acl}", "a.attacl")})
        FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE a.attrelid IN {_RELATIONS} AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraint": f"""
        SELECT format('%s on %s', c.conname, c.conrelid::regclass),
               format('%s, validated %s, comment %s', pg_get_constraintdef(c.oid), c.convalidated,
                      obj_description(c.oid, 'pg_constraint'))
        FROM pg_constraint AS c WHERE c.conrelid IN {_RELATIONS}""",
    "index": f"""
        SELECT i.indexrelid::regclass::text, format('%s, valid %s, comment %s', pg_get_indexdef(i.indexrelid),
                                                    i.indisvalid, obj_description(i.indexrelid, 'pg_class'))
        FROM pg_index AS i WHERE i.indrelid IN {_RELATIONS}""",
    "trigger": f"""
        SELECT format('%s on %s', t.tgname, t.tgrelid::regclass),
               format('%s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
        FROM pg_trigger AS t WHERE t.tgrelid IN {_RELATIONS} AND NOT t.tgisinternal""",
    "policy": f"""
        SELECT format('%s on %s', p.polname, p.polrelid::regclass),
               format('for %s, permissive %s, to %s, using %s, check %s', p.polcmd, p.polpermissive,
                      (SELECT string_agg(r::regrole::text, ', ' ORDER BY r::regrole::text) FROM unnest(p.polroles) AS r),
                      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy AS p WHERE p.polrelid IN {_RELATIONS}""",
    "view": f"""
        SELECT c.oid::regclass::text, pg_get_viewdef(c.oid)
        FROM pg_class AS c WHERE c.oid IN {_RELATIONS} AND c.relkind IN ('v', 'm')""",
    "sequence": f"""
        SELECT c.oid::regclass::text,
               format('type %s, start %s, increment %s, min %s, max %s, cache %s, cycle %s, owned by %s, owner %s, rights: %s',
                      s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
                      (SELECT pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) FROM pg_depend AS d
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')),
                      c.relowner::regrole, {_acl("c.relacl", "s", "c.relowner")})
        FROM pg_class AS c JOIN pg_sequence AS s ON s.seqrelid = c.oid WHERE c.oid IN {_RELATIONS}""",
    "type": f"""
        SELECT t.oid::regtype::text,
               format('kind %s, owner %s, labels %s, comment %s, rights: %s', t.typtype, t.typowner::regrole,
                      (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum AS e
                       WHERE e.enumtypid = t.oid),
                      obj_description(t.oid, 'pg_type'), {_acl("t.typacl", "T", "t.typowner")})
        FROM pg_type AS t
        WHERE t.oid IN (SELECT objid FROM ({_MEMBERS}) AS m WHERE classid = 'pg_type'::regclass)""",
    "function": f"""
        SELECT p.oid::regprocedure::text,
               format(E'owner %s, comment %s, rights: %s\\n%s', p.proowner::regrole, obj_description(p.oid, 'pg_proc'),
                      {_acl("p.proacl", "f", "p.proowner")},
                      CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END)
        FROM pg_proc AS p
        WHERE p.oid IN (SELECT objid FROM ({_MEMBERS}) AS m WHERE classid = 'pg_proc'::regclass)""",
    # What pg_dump takes for the extension's own grants, and therefore leaves out.
    "initial rights": f"""
        SELECT pg_describe_object(i.classoid, i.objoid, i.objsubid), {_ACL.replace("{acl}", "i.initprivs")}
        FROM pg_init_privs AS i
        WHERE i.privtype = 'e' AND (i.classoid, i.objoid) IN (SELECT classid, objid FROM ({_MEMBERS}) AS m)""",
    "default rights": """
        SELECT format('%s in %s', a.defaclrole::regrole, nullif(a.defaclnamespace, 0)::regnamespace),
               format('kind %s: %s', a.defaclobjtype, a.defaclacl)
        FROM pg_default_acl AS a""",
    "role": """
        SELECT r.rolname,
               format('login %s, superuser %s, inherit %s, bypasses row security %s, member of %s', r.rolcanlogin,
                      r.rolsuper, r.rolinherit, r.rolbypassrls,
                      (SELECT string_agg(m.roleid::regrole::text, ', ' ORDER BY m.roleid::regrole::text)
                       FROM pg_auth_members AS m WHERE m.member = r.oid))
        FROM pg_roles AS r WHERE r.rolname LIKE 'federated\\_%'""",
}  # fmt: skip


def describe(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the extension's catalog in this database as lines, each headed by kind and name."""
    lines = []
    # Under this path every name is printed with its schema.
    connection.execute("SET search_path = pg_catalog")
    for kind, query in _QUERIES.items():
        for name, properties in connection.execute(query).fetchall():  # type: ignore[arg-type]
            lines += [f"{kind} {name}: {line}" for line in (properties or "").splitlines() or [""]]
    connection.execute("RESET search_path")
    return sorted_by_object(lines)


def sorted_by_object(lines: list[str]) -> list[str]:
    """Order objects by name; the lines of one object keep their order."""
    return sorted(lines, key=lambda line: line.partition(": ")[0])


def difference(first: list[str], second: list[str], first_name: str, second_name: str) -> str:
    """Return a readable diff, empty where both are the same."""
    return "\n".join(difflib.unified_diff(first, second, first_name, second_name, lineterm="", n=0))
