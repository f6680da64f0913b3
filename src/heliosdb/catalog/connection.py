"""The one connection protocol, with psycopg and plpy behind it, and the named statements it runs.

What always holds: a statement is text from a file of this package, with `$1` parameters whose types it
declares; values never become part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Protocol

_NAME = re.compile(r"^-- name: (\w+)\(([^)]*)\)\s*$", re.MULTILINE)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A named SQL statement and the types of its parameters."""

    name: str
    text: str
    types: tuple[str, ...]


class Connection(Protocol):
    """What the catalog needs of a database connection. jsonb columns are selected as `::text`."""

    def query(self, statement: Statement, *values: object) -> Sequence[Row]:
        """Run `statement` and return its rows, none for a statement that returns no rows."""
        ...

    def execute(self, statement: Statement, *values: object) -> None:
        """Run `statement` for its effect; in a batch, an error may show only later in it."""
        ...

    def batch(self) -> AbstractContextManager[object]:
        """Send what is executed inside without waiting for each answer, where the connection can."""
        ...

    def transaction(self) -> AbstractContextManager[object]:
        """Open a transaction, or a savepoint inside one; an exception undoes it."""
        ...


@dataclass(frozen=True, slots=True)
class Statements:
    """The named statements of one file of catalog/sql, to be run over any connection."""

    file_name: str

    def query(self, connection: Connection, name: str, *values: object) -> Sequence[Row]:
        """Run the statement of that name and return its rows."""
        return connection.query(load_statements(self.file_name)[name], *values)

    def execute(self, connection: Connection, name: str, *values: object) -> None:
        """Run the statement of that name for its effect; in a batch, an error may show only later in it."""
        connection.execute(load_statements(self.file_name)[name], *values)


@cache
def load_statements(file_name: str, package: str = "heliosdb.catalog") -> Mapping[str, Statement]:
    """Read a package's `sql/<file_name>`: statements headed `-- name: statement_name(type, type)`."""
    text = resources.files(package).joinpath("sql", file_name).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {
        name: Statement(name, body.strip(), tuple(t.strip() for t in types.split(",") if t.strip()))
        for name, types, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }
