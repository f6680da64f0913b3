"""One private PostgreSQL cluster: made once, started, prepared, stopped.

What always holds: it listens on 127.0.0.1 and a private Unix socket only; over TCP nobody gets in without a
SCRAM password, over the socket only the operating-system users named in its pg_ident.conf; fsync and data
checksums are on. A data directory is visible under its name only after initdb has finished.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heliosdb.cli.embedded.account import Account
from heliosdb.cli.embedded.files import write_atomically
from heliosdb.cli.embedded.server import ServerPrograms
from heliosdb.domain.errors import ErrorCode, FederatedError

# The roles that a member of this installation may take over the Unix socket.
SUPERUSER, DAEMON, READER = "postgres", "heliosdb_daemon", "heliosdb_reader"
API_LOGIN = "heliosdb_api"
"""The same of the page's process, at the coordinator."""

_START_SECONDS = 90
_STOP_SECONDS = 60
_INITDB_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster's place: its directory, its port on 127.0.0.1 and the directory of its Unix socket."""

    name: str
    directory: Path
    port: int
    socket_directory: Path
    programs: ServerPrograms
    account: Account

    @property
    def pgdata(self) -> Path:
        """The data directory."""
        return self.directory / "pgdata"

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.directory / "postgresql.log"

    @property
    def database(self) -> str:
        """The database that this cluster is for."""
        return "heliosdb" if self.name == "coordinator" else self.name

    def socket_conninfo(self, user: str, database: str | None = None) -> str:
        """A libpq connection string over the Unix socket, without a password."""
        place = self.socket_directory
        return f"host='{_quote(place)}' port={self.port} user={user} dbname={database or self.database}"

    def url(self, password: str) -> str:
        """The superuser's connection URL over TCP, password included."""
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self.port}/{self.database}"


def create(cluster: Cluster, password: str) -> None:
    """Make the data directory unless it is there; `password` becomes the superuser's."""
    if cluster.pgdata.exists():
        return
    unfinished = cluster.directory / "pgdata.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    with _password_file(cluster, password) as password_file:
        # The C locale with UTF-8 gives the same order and case on every machine; it is glibc's name for it.
        locale = "C.UTF-8" if sys.platform == "linux" else "C"
        _run(
            cluster,
            [
                cluster.programs.program("initdb"),
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth-local=peer",
                "--auth-host=scram-sha-256",
                "--data-checksums",
                "--encoding=UTF8",
                f"--locale={locale}",
            ],
            timeout=_INITDB_SECONDS,
        )
    with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as stream:
        stream.write("\ninclude 'heliosdb.conf'\n")
    unfinished.rename(cluster.pgdata)


def start(cluster: Cluster) -> None:
    """Write the configuration and start the server; returns when it accepts connections."""
    _write_configuration(cluster)
    command = _pg_ctl(cluster, "start", "-s", "-w", "-t", str(_START_SECONDS), "-l", str(cluster.log))
    _run(cluster, command, timeout=_START_SECONDS + 30)


def is_running(cluster: Cluster) -> bool:
    """Whether a server runs on the data directory; a leftover postmaster.pid does not count."""
    try:
        pid = int((cluster.pgdata / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return False
    if sys.platform == "linux":
        # The number may have gone to another process since; a postmaster's working directory is its own.
        try:
            return Path(f"/proc/{pid}/cwd").samefile(cluster.pgdata)
        except OSError:
            return False
    command = _pg_ctl(cluster, "status")
    return cluster.account.run(command, environment=server_environment(), timeout=30).returncode == 0


def stop(cluster: Cluster) -> None:
    """Stop the server if it runs: fast, and immediately where that takes too long."""
    for mode in ("fast", "immediate"):
        if not is_running(cluster):
            return
        command = _pg_ctl(cluster, "stop", "-s", "-w", "-t", str(_STOP_SECONDS), "-m", mode)
        cluster.account.run(command, environment=server_environment(), timeout=_STOP_SECONDS + 30)
    if is_running(cluster):
        raise FederatedError(
            ErrorCode.TIMEOUT,
            f"the cluster {cluster.name} does not stop",
            detail=f"Its log is {cluster.log}.",
        )


def made_by(pgdata: Path) -> int | None:
    """The major version that made a data directory; None where there is none."""
    try:
        return int((pgdata / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def server_environment() -> dict[str, str]:
    """The environment of server programs: nothing of the caller's, whose PYTHONPATH would reach PL/Python."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8" if sys.platform == "linux" else "C"}


def _write_configuration(cluster: Cluster) -> None:
    _write_owned(cluster, cluster.pgdata / "heliosdb.conf", _render_settings(cluster))
    _write_owned(cluster, cluster.pgdata / "pg_hba.conf", _HBA)
    _write_owned(cluster, cluster.pgdata / "pg_ident.conf", _render_ident(cluster.account))


_SOCKET_ROLES = (SUPERUSER, DAEMON, READER, API_LOGIN)

# Nothing is trusted, and only this machine is named.
_HBA = """\
# Written at every start by heliosdb up.
local all all                 peer map=heliosdb
host  all all 127.0.0.1/32    scram-sha-256
host  all all ::1/128         scram-sha-256
"""


def _render_settings(cluster: Cluster) -> str:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port),
        "unix_socket_directories": _quote(cluster.socket_directory),
        "unix_socket_permissions": "0700",
        "cluster_name": f"heliosdb {cluster.name}",
        "password_encryption": "scram-sha-256",
        "fsync": "on",
        "shared_buffers": "32MB",
        "max_wal_size": "256MB",
        "max_connections": "60",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    return (
        "# Written at every start by heliosdb up; put settings of your own into postgresql.auto.conf.\n"
        + lines
    )


def _render_ident(account: Account) -> str:
    users = sorted({"root", "postgres", account.name, pwd.getpwuid(os.geteuid()).pw_name})
    lines = "".join(f'heliosdb "{user}" {role}\n' for user in users for role in _SOCKET_ROLES)
    return "# Written at every start by heliosdb up.\n" + lines


def _write_owned(cluster: Cluster, path: Path, content: str) -> None:
    # Whoever runs the clusters owns this directory and could put a link in a file's place; the rename in
    # write_atomically replaces such a link instead of following it.
    write_atomically(path, content.encode(), mode=0o600)
    if cluster.account.switch:
        os.chown(path, cluster.account.uid, cluster.account.gid, follow_symlinks=False)


@contextmanager
def _password_file(cluster: Cluster, password: str) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(
        "w", dir=cluster.directory, prefix=".initdb.", encoding="ascii"
    ) as stream:
        stream.write(password + "\n")
        stream.flush()
        if cluster.account.switch:
            os.fchown(stream.fileno(), cluster.account.uid, cluster.account.gid)
        yield Path(stream.name)


def _pg_ctl(cluster: Cluster, action: str, *options: str) -> list[str | Path]:
    return [cluster.programs.program("pg_ctl"), action, "-D", cluster.pgdata, *options]


def _run(cluster: Cluster, command: list[str | Path], timeout: float) -> None:
    result = cluster.account.run(command, environment=server_environment(), timeout=timeout)
    if result.returncode != 0:
        said = result.stdout.decode(errors="replace").strip()
        log = _tail(cluster.log)
        raise FederatedError(
            ErrorCode.INTERNAL,
            f"{Path(command[0]).name} failed for the cluster {cluster.name}",
            detail="\n".join(part for part in (said, log) if part) or None,
        )


def _tail(path: Path, lines: int = 10) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _quote(value: Path) -> str:
    return str(value).replace("\\", "\\\\").replace("'", "\\'")
