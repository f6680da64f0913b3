"""What tests of exports have in common."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.coordinator.support import WORKSPACE, World


@contextmanager
def server_directory() -> Iterator[Path]:
    """A directory of the database server's own user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(directory, account.pw_uid, account.pw_gid)
        yield directory


def export(world: World, subject: str, path: Path, form: str = "json") -> None:
    """Type EXPORT FEDERATED DATA."""
    world.execute(
        f"EXPORT FEDERATED DATA FOR SUBJECT '{subject}' FROM WORKSPACE {WORKSPACE} TO '{path}' FORMAT '{form}'"
    )


def shown(world: World, path: Path) -> dict[str, Any]:
    """Return what federated_exports shows of the export to a path."""
    [one] = world.query("SELECT * FROM federated_exports WHERE path = %s", str(path))
    return one


async def in_state(world: World, path: Path, state: str) -> None:
    """Wait until the export to a path is in a state."""
    await world.reached(
        "SELECT EXISTS (SELECT FROM federated_exports WHERE path = %s AND state = %s)", str(path), state
    )
