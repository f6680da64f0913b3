"""What a statement runs in: the caller's connection, search path and message channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.connection import Connection

Role = Literal["federated_admin", "federated_operator"]


@dataclass(frozen=True, slots=True)
class Session:
    """The caller of a statement. `schemas` is the caller's search path, in order."""

    connection: Connection
    schemas: tuple[str, ...]
    notice: Callable[[str], object]
    warning: Callable[[str], object]

    def require(self, role: Role, deed: str) -> None:
        """Raise 42501 unless the caller has `role`; asked before anything about the object is revealed."""
        if not catalog.may_act_as(self.connection, role):
            raise FederatedError(
                ErrorCode.PRIVILEGE,
                f"permission denied to {deed}",
                hint=f"This needs membership in the role {role}.",
            )


def undefined(kind: str, name: str, *, hint: str | None = None) -> FederatedError:
    """Make the error for an object that does not exist (42704)."""
    return FederatedError(ErrorCode.UNDEFINED_OBJECT, f'federated {kind} "{name}" does not exist', hint=hint)


def duplicate(kind: str, name: str) -> FederatedError:
    """Make the error for a name that is taken (42710)."""
    return FederatedError(ErrorCode.DUPLICATE_OBJECT, f'federated {kind} "{name}" already exists')
