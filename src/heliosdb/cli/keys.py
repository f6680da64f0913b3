"""`heliosdb keys`: the root keys under which a daemon keeps what it seals in its database.

What always holds: no key is shown; a former key is dropped only where the database says that nothing needs
it; who is stopped in between leaves every key readable.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from heliosdb.catalog import sealed
from heliosdb.catalog.failures import condition
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.catalog.sealed import Holder
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.wording import counted
from heliosdb.transport.root_keys import RootKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose keys they are, by its daemon's settings."""

    holder: Holder
    roots: RootKeys
    conninfo: str


def read_holder(config: Path, *, node: bool) -> KeyHolder:
    """Read the settings of a coordinator, or of a node; FederatedError INVALID_VALUE, IDENTITY."""
    if node:
        from heliosdb.node.config import load_config as load_node
        from heliosdb.node.service import root_keys as node_keys

        of_node = load_node(config)
        return KeyHolder(Holder.NODE, node_keys(of_node), of_node.database.get_secret_value())
    from heliosdb.coordinator.config import load_config
    from heliosdb.coordinator.service import root_keys

    settings = load_config(config)
    return KeyHolder(Holder.COORDINATOR, root_keys(settings), settings.database.get_secret_value())


def rotate(of: KeyHolder, show: Show) -> None:
    """Have another root key take the place of the current one; the daemon goes over to it by itself."""
    name = of.roots.rotate()
    show(f"root key {name} is current; the {of.holder} seals with it within seconds, and seals anew")
    show("what former keys have sealed: heliosdb keys status shows how far that is")


def status(of: KeyHolder, show: Show) -> None:
    """Show which root keys there are, and what is sealed under each."""
    keys = of.roots.at_rest()
    with _connected(of) as connection:
        known = {one.name: one for one in sealed.list_keys(connection, of.holder)}
        state = sealed.list_state(connection, of.holder)
    show(f"current: {keys.current} ({of.roots.source})")
    for name in sorted(keys.names - {keys.current}):
        show(f"former: {name}")
    for what, name, rows in state:
        under = name or "no named key (an earlier release)"
        told = known[name].status if name in known else "not told of yet"
        show(f"{what}: {counted(rows, 'row')} under {under}" + (f", {told}" if name else ""))


def drop(of: KeyHolder, name: str, *, force: bool, show: Show) -> None:
    """Remove a former root key that nothing needs any more; FederatedError WRONG_STATE says what does."""
    keys = of.roots.at_rest()
    if name == keys.current:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"root key {name} is the current one",
            hint="Only a former one can be dropped: heliosdb keys rotate makes another key the current one.",
        )
    with _connected(of) as connection, connection.transaction():
        known = {one.name: one for one in sealed.list_keys(connection, of.holder)}
        if name not in known:
            raise FederatedError(
                ErrorCode.UNDEFINED_OBJECT,
                f"the {of.holder} has sealed nothing with a root key {name}",
                hint="heliosdb keys status names the root keys that there are.",
            )
        rows, files = sealed.count_sealed(connection, of.holder, name)
        obstacle = _obstacle(known[name], rows, files)
        if obstacle is not None and not (force and rows == 0 and known[name].status == "former"):
            raise obstacle
        sealed.drop_key(connection, of.holder, name)
        of.roots.drop(name)
    show(f"root key {name} is dropped")


def _obstacle(key: sealed.RootKeyRecord, rows: int, files: int) -> FederatedError | None:
    if key.status != "former" or not key.is_settled:
        return FederatedError(
            ErrorCode.WRONG_STATE,
            f"root key {key.name} has not been a former one for a minute",
            detail=f"It is {key.status} since {key.since:%Y-%m-%d %H:%M:%S%z}.",
            hint="The running daemon goes over to another key within seconds: wait for that minute.",
        )
    if rows:
        return FederatedError(
            ErrorCode.WRONG_STATE,
            f"root key {key.name} is still needed",
            detail=f"{counted(rows, 'row')} of what is sealed would not open without it.",
            hint="The running daemon seals them anew; heliosdb keys status shows what is left.",
        )
    if files:
        return FederatedError(
            ErrorCode.WRONG_STATE,
            f"root key {key.name} may still be needed by checkpoint files",
            detail=f"Of checkpoint files written before it was replaced there are {files}.",
            hint="Write these checkpoints anew, or give --force: such files then never open again.",
        )
    return None


@contextmanager
def _connected(of: KeyHolder) -> Iterator[PsycopgConnection]:
    try:
        with connected(of.conninfo, application_name="heliosdb keys") as connection:
            become_daemon(connection)
            yield connection
    except psycopg.Error as error:
        raise FederatedError(
            ErrorCode.UNREACHABLE, f"the {of.holder}'s database does not answer: {condition(error.sqlstate)}"
        ) from error
