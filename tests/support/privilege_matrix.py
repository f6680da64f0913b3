"""Who may do what with every object of the extension, as text: `make privileges` writes it, a test compares it.

What always holds: the rights are the effective ones, memberships included, as the server itself tells them
(has_…_privilege); an object nobody has rights on is listed too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from tests.support.catalog_snapshot import EXTENSION
from tests.support.cluster import create_cluster, remove_cluster
from tests.support.ports import free_port

GOLDEN = Path(__file__).resolve().parents[1] / "integration/extension/privileges.golden"
ROLES = ("admin", "operator", "analyst", "auditor", "daemon", "reader", "owner", "api")

_HEAD = """\
# Who may do what: the effective rights of each role (federated_admin is written admin, and so on), memberships
# included, on every object of the extension. A right on some columns only names them. Superusers are not listed.
# Written by `make privileges`; a test compares it, so that every change of a right is seen in review.
"""

_GRANTEES = (
    "(VALUES "
    + ", ".join(f"('federated_{role}', {n})" for n, role in enumerate(ROLES))
    + (", ('public', 99)) AS g (grantee, place)")
)

_MEMBERS = f"""
    member AS (
        SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = '{EXTENSION}')
"""

# One row for an object, a right and the columns that it is limited to; the roles that have exactly this.
_RELATIONS = f"""
    WITH {_MEMBERS}, rights AS (
        SELECT c.oid, c.relkind, g.grantee, g.place, p.privilege, p.rank,
               CASE WHEN has_table_privilege(g.grantee, c.oid, p.privilege) THEN '' ELSE
                   (SELECT '(' || string_agg(a.attname, ', ' ORDER BY a.attnum) || ')' FROM pg_attribute AS a
                    WHERE p.by_column AND a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                      AND has_column_privilege(g.grantee, c.oid, a.attnum, p.privilege)) END AS columns
        FROM member AS m JOIN pg_class AS c ON c.oid = m.objid
        CROSS JOIN {_GRANTEES}
        CROSS JOIN (VALUES ('SELECT', 1, true), ('INSERT', 2, true), ('UPDATE', 3, true), ('DELETE', 4, false),
                           ('TRUNCATE', 5, false), ('REFERENCES', 6, true), ('TRIGGER', 7, false))
             AS p (privilege, rank, by_column)
        WHERE m.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'm')
    )
    SELECT CASE r.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'view ' ELSE 'table ' END || r.oid::regclass,
           r.privilege || coalesce(r.columns, ''), string_agg(r.grantee, ' ' ORDER BY r.place)
    FROM (SELECT * FROM rights WHERE columns IS NOT NULL
          UNION ALL SELECT DISTINCT oid, relkind, NULL, 0, NULL, 0, NULL FROM rights) AS r
    GROUP BY r.relkind, r.oid, r.privilege, r.rank, r.columns
    ORDER BY 1, r.rank, r.columns
"""


def _others(kind: str, catalog: str, name: str, privileges: str, function: str, where: str = "true") -> str:
    return f"""
        WITH {_MEMBERS}
        SELECT {kind} || {name}, p.privilege, string_agg(g.grantee, ' ' ORDER BY g.place)
        FROM member AS m JOIN {catalog} AS o ON o.oid = m.objid
        CROSS JOIN (SELECT * FROM {_GRANTEES} UNION ALL SELECT NULL, 0) AS g
        CROSS JOIN unnest('{{{privileges}}}'::text[]) AS p (privilege)
        WHERE m.classid = '{catalog}'::regclass AND {where}
          AND (g.grantee IS NULL OR {function}(g.grantee, o.oid, p.privilege))
        GROUP BY o.oid, 1, p.privilege ORDER BY 1, p.privilege DESC
    """


_QUERIES = (
    _others("'schema '", "pg_namespace", "o.nspname", "USAGE,CREATE", "has_schema_privilege"),
    _RELATIONS,
    _others(
        "'sequence '", "pg_class", "o.oid::regclass", "SELECT,USAGE,UPDATE", "has_sequence_privilege",
        "o.relkind = 'S'",
    ),
    _others(
        "CASE WHEN o.prokind = 'p' THEN 'procedure ' ELSE 'function ' END",
        "pg_proc",
        "o.oid::regprocedure || CASE WHEN o.prosecdef THEN format(' as %s', o.proowner::regrole) ELSE '' END",
        "EXECUTE",
        "has_function_privilege",
    ),
    _others("'type '", "pg_type", "o.oid::regtype", "USAGE", "has_type_privilege", "o.typtype IN ('e', 'd', 'r')"),
)  # fmt: skip


def render(connection: psycopg.Connection[Any]) -> str:
    """Return the matrix of the database's extension."""
    connection.execute("SET search_path = pg_catalog")
    lines = [_HEAD, *_memberships(connection), ""]
    for query in _QUERIES:
        lines += [*_objects(connection.execute(query).fetchall()), ""]  # type: ignore[arg-type]
    connection.execute("RESET search_path")
    return "\n".join(lines).rstrip("\n") + "\n"


def _memberships(connection: psycopg.Connection[Any]) -> Iterator[str]:
    for role in ROLES:
        [(login, superuser, groups)] = connection.execute(
            "SELECT r.rolcanlogin, r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication,"
            " (SELECT string_agg(m.roleid::regrole::text, ', ' ORDER BY m.roleid::regrole::text)"
            "  FROM pg_auth_members AS m WHERE m.member = r.oid) FROM pg_roles AS r WHERE r.rolname = %s",
            [f"federated_{role}"],
        ).fetchall()
        powers = [
            name for name, given in (("can log in", login), ("has powers of its own", superuser)) if given
        ]
        member = [f"is a member of {_short(groups)}"] if groups else []
        yield f"role {role}: " + (", ".join([*member, *powers]) or "is a member of no role")


def _objects(rows: list[tuple[str, str | None, str | None]]) -> Iterator[str]:
    """One line for an object with one right, else one for the object and one for each right."""
    rights: dict[str, list[tuple[str, str]]] = {}
    for name, privilege, grantees in rows:
        held = rights.setdefault(name, [])
        if privilege and grantees:
            held.append((privilege, _short(grantees)))
    for name, held in rights.items():
        if len(held) <= 1:
            yield f"{name}: " + (f"{held[0][0]} {held[0][1]}" if held else "nobody")
        else:
            yield f"{name}:"
            yield from (f"    {privilege} {grantees}" for privilege, grantees in held)


def _short(grantees: str) -> str:
    return grantees.replace("federated_", "").replace("public", "PUBLIC")


def main() -> None:
    """Write the golden file from a fresh installation on a private server."""
    cluster = create_cluster(free_port())
    try:
        with cluster.connect() as connection:
            connection.execute(f"CREATE EXTENSION {EXTENSION} CASCADE")
            GOLDEN.write_text(render(connection))
    finally:
        remove_cluster(cluster)


if __name__ == "__main__":
    main()
