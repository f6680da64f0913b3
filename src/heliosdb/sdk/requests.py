"""What an operation asks of the database, one request after the other, without doing it.

What always holds: an operation is a generator that yields requests and is sent their rows; whoever drives
it, with or without asyncio (`session`), adds nothing to it. So there is one implementation of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from psycopg.sql import Composed

from heliosdb.catalog.connection import load_statements

Row: TypeAlias = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Query:
    """One statement of SQL with its parameters ($1, …); it is answered with rows, none where it has none."""

    text: bytes | Composed
    values: Sequence[object] = ()


@dataclass(frozen=True, slots=True)
class Transaction:
    """Statements of one transaction; it is answered with the rows of the last."""

    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Some seconds in which nothing is asked; it is answered with no rows."""

    seconds: float


Request: TypeAlias = Query | Transaction | Pause
Operation: TypeAlias = Generator[Request, list[Row], T]


def query(name: str, *values: object) -> Query:
    """A statement of sql/queries.sql."""
    # As bytes, the text of a file of this package needs no claim to be a literal.
    return Query(load_statements("queries.sql", "heliosdb.sdk")[name].text.encode(), values)


def execute(statement: str) -> Query:
    """A statement of the language."""
    return query("execute", statement)


def perform(statement: str) -> Operation[None]:
    """Execute a statement of the language."""
    yield execute(statement)


def fetch(make: Callable[..., R], name: str, *values: object) -> Operation[list[R]]:
    """Ask a statement of sql/queries.sql, and make an object of each row."""
    rows = yield query(name, *values)
    return [make(**row) for row in rows]
