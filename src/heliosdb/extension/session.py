"""What a statement runs in: the caller's connection, search path and message channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from federated_sql.clause_values import RoleKeyword, RoleSpec
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.options import Built
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.parts.built import built_parts

Role = Literal[
    "federated_admin",
    "federated_operator",
    "federated_auditor",
    "pg_read_server_files",
    "pg_write_server_files",
]


@dataclass(frozen=True, slots=True)
class Session:
    """The caller of a statement. `schemas` is the caller's search path, in order.

    built: what the parts of rounds that are registered here give an effect to.
    """

    connection: Connection
    schemas: tuple[str, ...]
    notice: Callable[[str], object]
    warning: Callable[..., object]
    built: Built = field(default_factory=built_parts)

    def require(self, role: Role, deed: str) -> None:
        """Raise 42501 unless the caller has `role`; asked before anything about the object is revealed."""
        if not catalog.may_act_as(self.connection, role):
            raise FederatedError(
                ErrorCode.PRIVILEGE,
                f"permission denied to {deed}",
                hint=f"This needs membership in the role {role}.",
            )

    def own_workspace(self, workspace: catalog.Workspace) -> None:
        """Raise 42501 unless the caller is a member of the workspace's owner role."""
        if not workspace.owned:
            raise _not_owner("workspace", workspace.name)

    def own_model(self, model: catalog.Model) -> None:
        """Raise 42501 unless the caller is a member of the owner role of the model or of its workspace."""
        if not model.owned:
            raise _not_owner("model", model.name)

    def own_dataset(self, dataset: catalog.Dataset) -> None:
        """Raise 42501 unless the caller is a member of the dataset's owner role."""
        if not dataset.owned:
            raise _not_owner("dataset", dataset.name)

    def own_alert(self, name: str, *, owned: bool) -> None:
        """Raise 42501 unless the caller is a member of the owner role of the alert's workspace."""
        if not owned:
            raise _not_owner("alert", name)

    def own_experiment(self, name: str, *, owned: bool) -> None:
        """Raise 42501 unless the caller is a member of the owner role of its model, or the workspace's."""
        if not owned:
            raise _not_owner("experiment", name)

    def role_name(self, role: RoleSpec) -> str:
        """Return the name of the role that is named or, by a keyword, meant."""
        if isinstance(role, str):
            return role
        current, logged_in = catalog.role_names(self.connection)
        return logged_in if role is RoleKeyword.SESSION_USER else current

    def skips(self, kind: str, name: str, *, if_exists: bool, hint: str | None = None) -> None:
        """Say that a missing object is skipped where IF EXISTS allows it, else raise 42704."""
        if not if_exists:
            raise undefined(kind, name, hint=hint)
        self.notice(f'federated {kind} "{name}" does not exist, skipping')


def _not_owner(kind: str, name: str) -> FederatedError:
    return FederatedError(ErrorCode.PRIVILEGE, f'must be owner of federated {kind} "{name}"')


def undefined_here(kind: str, name: str) -> FederatedError:
    """Make the error for what a coordinator's database alone keeps (42704): this may be a participant's."""
    return undefined(kind, name, hint=f"A {kind} is kept in its coordinator's database, where this is typed.")


def undefined(kind: str, name: str, *, hint: str | None = None) -> FederatedError:
    """Make the error for an object that does not exist (42704)."""
    return FederatedError(ErrorCode.UNDEFINED_OBJECT, f'federated {kind} "{name}" does not exist', hint=hint)


def duplicate(kind: str, name: str) -> FederatedError:
    """Make the error for a name that is taken (42710)."""
    return FederatedError(ErrorCode.DUPLICATE_OBJECT, f'federated {kind} "{name}" already exists')
