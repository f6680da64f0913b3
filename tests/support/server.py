"""A cluster's server by pytest-postgresql's executor: initdb, start and stop are its, and what it has no word for is pg_ctl's.

What always holds: a server runs by its data directory's files alone, so what a test changes there, or by ALTER SYSTEM, is
in force after a start; when `start` returns, the server answers queries; the executor removes no files, and signals no
process by a number that it remembers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self

from mirakuru.base import ENV_UUID
from mirakuru.exceptions import ProcessExitedWithError
from pytest_postgresql.executors import PostgreSQLExecutor

SUPERUSER = "postgres"
_DEADLINE_S = 120
_AS_SERVER_USER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")


def bin_directory() -> Path:
    """Return the directory of the server's programs: PG_CONFIG's, as for make, else the newest one's."""
    if named := os.environ.get("PG_CONFIG"):
        return Path(named).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
    return versions[-1].parent if versions else Path(shutil.which("initdb") or "initdb").parent


def as_server_user(command: Sequence[str]) -> list[str]:
    """PostgreSQL refuses to run as root: then run `command` as postgres."""
    if os.geteuid() != 0:
        return list(command)
    return [*_AS_SERVER_USER, *command]


class Server(PostgreSQLExecutor):
    """The server of `directory`/data; its socket and its log lie in `directory`.

    environment: what the server's environment has besides.
    """

    # By postgresql.conf: the executor's own would have -F and more on the command line, where they outrank ALTER SYSTEM.
    UNIX_PROC_START_COMMAND = '"{executable}" start -D "{datadir}" -l "{logfile}" {startparams}'

    def __init__(self, directory: Path, port: int, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(
            executable=str(_pg_ctl(directory)),
            host="127.0.0.1",
            port=port,
            datadir=str(directory / "data"),
            unixsocketdir=str(directory),
            logfile=str(directory / "log"),
            startparams=f"-w -t {_DEADLINE_S}",
            dbname="postgres",
            timeout=_DEADLINE_S,
            sleep=0.02,
            user=SUPERUSER,
        )
        self._environment = dict(environment or {})

    @property
    def envvars(self) -> dict[str, str]:
        """As the executor has it, without its mark.

        By the mark a process that ends kills whatever has its own number anywhere in it, so also another's servers.
        """
        marked = super().envvars
        return {name: value for name, value in marked.items() if name != ENV_UUID} | self._environment

    def init_directory(self) -> None:
        """Make the data directory, unless there is one: of a server that was stopped, or a standby's."""
        if not (Path(self.datadir) / "PG_VERSION").exists():
            super().init_directory()

    def clean_directory(self) -> None:
        """Nothing: who made the directory removes it, and a server that is stopped may be started again."""

    def start(self) -> Self:
        """Start it and wait until it answers queries, which the executor takes an open port for."""
        try:
            super().start()
        except ProcessExitedWithError:
            self._fail("start")
        assert self.process is not None
        with self.process as launcher:
            if launcher.wait() != 0:
                self._fail("start")
        # It has ended, and its number may be another's: `stop` is not to signal it.
        self.process = None
        return self

    def control(self, *arguments: str) -> None:
        """Run pg_ctl: immediate stops, restarts, reloads and promotions, none of which the executor has."""
        asked = ["-w", "-t", str(_DEADLINE_S), "-D", self.datadir, "-l", self.logfile, *arguments]
        done = subprocess.run(
            [self.executable, *asked],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.envvars,
        )
        if done.returncode != 0:
            self._fail(" ".join(arguments), done.stdout + done.stderr)

    def _fail(self, what: str, said: bytes = b"") -> NoReturn:
        log = Path(self.logfile).read_text(errors="replace")[-2000:]
        raise RuntimeError(f"pg_ctl {what}: {said.decode(errors='replace')}\n{log}")


def _pg_ctl(directory: Path) -> Path:
    """The program, or, for root, one in `directory` that runs it as postgres: the executor takes a path, no command."""
    program = bin_directory() / "pg_ctl"
    if os.geteuid() != 0:
        return program
    script = directory / "pg_ctl"
    if not script.exists():
        draft = directory / "pg_ctl.draft"
        draft.write_text(f'#!/bin/sh\ncd / && exec {" ".join(_AS_SERVER_USER)} "{program}" "$@"\n')
        draft.chmod(0o755)
        draft.rename(script)
    return script
