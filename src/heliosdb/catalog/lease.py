"""Who may write: leadership by a session's advisory lock, and the fencing epoch checked at every write.

What always holds: a transaction opened by `fenced` commits only if the epoch is still its writer's: the
lease's row is locked against change until the transaction ends, so that a new leader waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch

_SQL = Statements("lease.sql")


@dataclass(frozen=True, slots=True)
class CatalogState:
    """Whether a coordinator can work in this database: extension installed, role granted, not a replica."""

    installed: bool
    member: bool
    replica: bool


def read_catalog_state(connection: Connection) -> CatalogState:
    """Return whether there is a catalog to work in; touches nothing of the extension."""
    row = _SQL.query(connection, "catalog_state")[0]
    return CatalogState(row["installed"], row["member"], row["replica"])


def become_daemon(connection: Connection) -> None:
    """Give up all privileges but federated_daemon's; the server undoes a transaction that stands still."""
    _SQL.query(connection, "become_daemon")
    _SQL.query(connection, "bound_session")


def try_lead(connection: Connection) -> bool:
    """Take the leader's lock for the rest of the session; False where another session has it.

    The server ends a leading session that says nothing for half a minute: a coordinator that is stopped or
    cut off does not lead for ever.
    """
    leads = bool(_SQL.query(connection, "try_lead")[0]["leads"])
    if leads:
        _SQL.query(connection, "bound_leader")
    return leads


def strange_leader(connection: Connection) -> str | None:
    """Return the role that holds the leader's lock without being a coordinator's; None where it is one's."""
    rows = _SQL.query(connection, "strange_leader")
    return rows[0]["name"] if rows else None


def take_lease(connection: Connection, holder: str) -> Epoch:
    """Begin a new epoch: from now on no older one can write."""
    return Epoch(_SQL.query(connection, "take_lease", holder)[0]["epoch"])


def listen(connection: Connection) -> None:
    """Ask for the hints that there is something to do."""
    _SQL.query(connection, "listen")


@contextmanager
def fenced(connection: Connection, epoch: Epoch) -> Iterator[None]:
    """Open a transaction that only the holder of `epoch` can commit; FederatedError FENCED for any other."""
    with connection.transaction():
        rows = _SQL.query(connection, "hold_lease")
        if not rows or rows[0]["epoch"] != epoch:
            raise FederatedError(
                ErrorCode.FENCED,
                "another coordinator has taken over",
                detail=f"This one held epoch {epoch}.",
            )
        yield
