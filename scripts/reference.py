"""Brings the generated parts of the reference up to date: `python -m scripts.reference PAGE…`.

What always holds: statements and options come from the grammar and the option table, functions and views
from the catalog of a database in which the extension is installed, with their COMMENTs, and metrics from the
table of all metrics.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
from psycopg.rows import class_row

from federated_sql.reference import language_parts, replace_parts
from heliosdb.observing.table import reference_parts
from heliosdb.parts.built import built_parts
from tests.support.cluster import create_cluster, remove_cluster
from tests.support.ports import free_port

_QUERY = cast("LiteralString", Path(__file__).with_name("catalog_reference.sql").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A function or view as the catalog describes it."""

    kind: str
    name: str
    comment: str | None
    result: str | None
    arguments: list[dict[str, Any]]
    columns: list[dict[str, Any]]


def catalog_parts(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the parts `functions` and `views` of the reference, from the database connected to."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        entries = cursor.execute(_QUERY).fetchall()
    return {
        "functions": "".join(_function_lines([entry for entry in entries if entry.kind == "function"])),
        "views": "".join(line for entry in entries if entry.kind == "view" for line in _view_lines(entry)),
        "requirements": "".join(_requirement_lines(connection)),
    }


def _requirement_lines(connection: psycopg.Connection[Any]) -> Iterator[str]:
    yield "| regulation | requirement | where it stands | where it is not met |\n|---|---|---|---|\n"
    rows = connection.execute(
        "SELECT r.regulation, r.requirement, r.reference, r.remediation"
        " FROM federated._requirements() AS r ORDER BY r.place"
    )
    for row in rows.fetchall():
        yield f"| {' | '.join(map(_cell, row))} |\n"


def _function_lines(entries: Sequence[Entry]) -> Iterator[str]:
    yield "| function | columns or result | what it is |\n|---|---|---|\n"
    for entry in entries:
        arguments = ", ".join(map(_argument, entry.arguments))
        result = ", ".join(f"`{c['name']}` {_type(c['type'])}" for c in entry.columns) or _type(
            entry.result or ""
        )
        yield f"| `{entry.name}({arguments})` | {result} | {_cell(entry.comment)} |\n"


def _argument(argument: dict[str, Any]) -> str:
    shown = f"{argument['name']} {_type(argument['type'])}".strip()
    return f"[{shown}]" if argument["optional"] else shown


def _view_lines(entry: Entry) -> Iterator[str]:
    yield f"### `{entry.name}`\n\n{entry.comment or ''}\n\n| column | type | meaning |\n|---|---|---|\n"
    for column in entry.columns:
        yield f"| `{column['name']}` | {_type(column['type'])} | {_cell(column['comment'])} |\n"
    yield "\n"


def _type(name: str) -> str:
    return name.replace("double precision", "float8").replace("timestamp with time zone", "timestamptz")


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


def main(pages: Sequence[Path]) -> None:
    """Rewrite the pages in place, with a cluster of its own."""
    cluster = create_cluster(free_port())
    try:
        with cluster.connect() as connection:
            connection.execute("CREATE EXTENSION heliosdb_federated_learning CASCADE")
            parts = language_parts(built_parts()) | catalog_parts(connection) | reference_parts()
    finally:
        remove_cluster(cluster)
    for page in pages:
        page.write_text(replace_parts(page.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main(list(map(Path, sys.argv[1:])))
