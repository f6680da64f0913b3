"""Aggregation functions that people write, and the languages that they may be written in.

What always holds: a function is made with its caller's rights, by the database; which runs it is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("commands.sql")


@dataclass(frozen=True, slots=True)
class Language:
    """A procedural language as this database has it. is_available: whether CREATE EXTENSION would bring it.

    server: the major version.
    """

    is_installed: bool
    is_available: bool
    server: int


def find_language(connection: Connection, name: str) -> Language:
    """Return whether a language is installed in this database, or could be."""
    return Language(**_SQL.query(connection, "find_language", name)[0])


def has_aggregation_function(connection: Connection, name: str) -> bool:
    """Whether there is an aggregation function of that name."""
    return bool(_SQL.query(connection, "has_aggregation_function", name)[0]["is_there"])


def create_aggregation_function(
    connection: Connection, name: str, body: str, language: str, *, replace: bool
) -> None:
    """Make the function, or put this one in its place."""
    _SQL.query(connection, "create_aggregation_function", name, body, language, replace)


def drop_aggregation_function(connection: Connection, name: str) -> None:
    """Drop the function."""
    _SQL.query(connection, "drop_aggregation_function", name)


def list_models_with_aggregation(connection: Connection, name: str) -> list[str]:
    """Return the models that name it or train with it, in order."""
    return [str(row["name"]) for row in _SQL.query(connection, "list_models_with_aggregation", name)]
