"""The catalog's connection inside the server: plpy, whose statements run in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

from heliosdb.catalog.connection import Row, Statement


class Plpy(Protocol):
    """The part of PL/Python's `plpy` module that is used."""

    def prepare(self, query: str, types: Sequence[str]) -> Any: ...
    def execute(self, plan: Any, values: Sequence[object]) -> Any: ...
    def subtransaction(self) -> AbstractContextManager[object]: ...


class PlpyConnection:
    """A `Connection` over plpy. Errors of the server arrive as plpy.SPIError."""

    def __init__(self, plpy: Plpy) -> None:
        self._plpy = plpy

    def query(self, statement: Statement, *values: object) -> Sequence[Row]:
        """Run `statement`; plpy makes a subtransaction of its own around it."""
        plan = self._plpy.prepare(statement.text, list(statement.types))
        return cast("Sequence[Row]", list(self._plpy.execute(plan, list(values))))

    def execute(self, statement: Statement, *values: object) -> None:
        """Run `statement` for its effect."""
        self.query(statement, *values)

    def batch(self) -> AbstractContextManager[object]:
        """Nothing to save: there is no wire."""
        return nullcontext()

    def transaction(self) -> AbstractContextManager[object]:
        """Open a subtransaction."""
        return self._plpy.subtransaction()
