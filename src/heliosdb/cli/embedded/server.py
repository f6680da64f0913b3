"""Finding the PostgreSQL server programs that the private clusters use.

The same order as scripts/find-postgres.sh: PG_CONFIG wins, then the newest server in which this extension is
installed. A cluster that exists is only ever started by the major version that made it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from heliosdb.domain.errors import ErrorCode, FederatedError

EXTENSION = "heliosdb_federated_learning"
_OLDEST = 14


@dataclass(frozen=True, slots=True)
class ServerPrograms:
    """The directory of initdb, pg_ctl and postgres, and their major version."""

    directory: Path
    major: int

    def program(self, name: str) -> Path:
        """The path of one program."""
        return self.directory / name


def find_server(made_by: int | None = None) -> ServerPrograms:
    """The server to use; `made_by` is the major version that made existing clusters.

    Raises UNDEFINED_OBJECT where no fitting server is installed or the extension is not installed for it.
    """
    found = [server for config in _candidates() if (server := _inspect(config)) is not None]
    fitting = [server for server in found if made_by is None or server.major == made_by]
    if not fitting:
        wanted = f"PostgreSQL {made_by}" if made_by else f"a PostgreSQL server of version {_OLDEST} or newer"
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT, f"{wanted} was not found", hint="Run make setup, or set PG_CONFIG."
        )
    for server in fitting:
        if _has_extension(server):
            return server
    raise FederatedError(
        ErrorCode.UNDEFINED_OBJECT,
        f"the extension {EXTENSION} is not installed for PostgreSQL {fitting[0].major}",
        hint="Run make setup in the project's checkout.",
    )


def _candidates() -> list[Path]:
    if named := os.environ.get("PG_CONFIG"):
        return [Path(named)]
    patterns = (
        "/usr/lib/postgresql/*/bin/pg_config",
        "/usr/pgsql-*/bin/pg_config",
        "/usr/local/pgsql/bin/pg_config",
    )
    versioned = sorted(
        (path for pattern in patterns for path in Path("/").glob(pattern[1:])), key=_number, reverse=True
    )
    on_path = shutil.which("pg_config")
    return [*versioned, *([Path(on_path)] if on_path else [])]


def _number(path: Path) -> int:
    numbers = re.findall(r"\d+", str(path))
    return int(numbers[0]) if numbers else 0


def _inspect(config: Path) -> ServerPrograms | None:
    try:
        version, directory = _ask(config, "--version"), Path(_ask(config, "--bindir"))
    except (OSError, subprocess.CalledProcessError):
        return None
    number = re.search(r"\d+", version)
    if number is None or int(number[0]) < _OLDEST or not (directory / "initdb").exists():
        return None
    return ServerPrograms(directory, int(number[0]))


def _has_extension(server: ServerPrograms) -> bool:
    share = _ask(server.program("pg_config"), "--sharedir")
    return (Path(share) / "extension" / f"{EXTENSION}.control").exists()


def _ask(config: Path, option: str) -> str:
    answer = subprocess.run([config, option], capture_output=True, text=True, check=True, timeout=30)
    return answer.stdout.strip()
