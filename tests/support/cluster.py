"""A real PostgreSQL cluster for tests: made once per test process, thrown away with it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.places import scratch
from tests.support.ports import free_port
from tests.support.server import SUPERUSER, Server, as_server_user, bin_directory
from tests.support.warm import warm_environment

__all__ = [
    "PASSWORD",
    "SUPERUSER",
    "Cluster",
    "as_server_user",
    "bin_directory",
    "create_cluster",
    "prepared_cluster",
    "remove_cluster",
    "server_directory",
]

PASSWORD = "a-test-password"
# Tables without statistics make plans look so dear that the server would compile them.
_FAST = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\njit = off\n"
# Every test has databases of its own: autovacuum would go over hundreds of them, one after the other, all the time.
# Nor is anything logged that no test asked for.
_QUIET = "autovacuum = off\nlog_checkpoints = off\n"
_names = count(1)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server: Unix socket (peer as superuser or trusted test roles) and loopback with SCRAM.

    warm: its sessions have imported the extension's library when they begin.
    """

    directory: Path
    port: int
    warm: bool = False
    _prepared: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def dsn(self, database: str = "postgres", *, user: str = SUPERUSER, tcp: bool = False) -> str:
        """Return connection parameters for psycopg and psql."""
        host = "127.0.0.1" if tcp else str(self.directory)
        password = f" password={PASSWORD}" if tcp else ""
        return f"host={host} port={self.port} user={user} dbname={database}{password}"

    def connect(self, database: str = "postgres", *, user: str = SUPERUSER) -> psycopg.Connection:
        """Connect over the socket, in autocommit mode."""
        return psycopg.connect(self.dsn(database, user=user), autocommit=True)

    def create_database(self, template: str = "template1") -> str:
        """Make a database of a fresh name and return the name."""
        name = f"test_{os.getpid()}_{next(_names)}"
        with self.connect() as connection:
            # Copied files cost less than pages that go through the log, which is the default from version 15 on.
            copied = sql.SQL("STRATEGY file_copy" if connection.info.server_version >= 150000 else "")
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(
                    sql.Identifier(name), sql.Identifier(template), copied
                )
            )
        return name

    def copy_database(self, key: str, prepare: Callable[[str], None]) -> str:
        """Make a database with the extension and what `prepare` puts there, which it does once for each key."""
        if key not in self._prepared:
            name = self.create_database("federated_template")
            prepare(name)
            self._prepared[key] = name
        return self.create_database(self._prepared[key])

    def drop_database(self, name: str) -> None:
        """Drop a database that no test looks at any more, whoever is still connected to it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: `immediate` leaves it as a crash does, `fast` writes down what it has."""
        if mode == "fast":
            self._server().stop()
        else:
            self.control("stop", "-m", mode)

    def start(self) -> None:
        """Start the server and wait until it answers queries."""
        self._server().start()

    def control(self, *arguments: str) -> None:
        """Run pg_ctl on the cluster."""
        self._server().control(*arguments)

    def _server(self) -> Server:
        environment = warm_environment(_library_directory()) if self.warm else {}
        return Server(self.directory, self.port, environment)


@cache
def _library_directory() -> Path:
    """The server's directory of libraries."""
    asked = subprocess.run(
        [str(bin_directory() / "pg_config"), "--pkglibdir"], check=True, capture_output=True, text=True
    )
    return Path(asked.stdout.strip())


def server_directory(parent: Path | None = None) -> Path:
    """Make a directory that a server's user may write, in `parent` if that matters."""
    directory = Path(tempfile.mkdtemp(prefix="hfl-", dir=parent or scratch()))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)
    directory.chmod(0o755)
    return directory


def create_cluster(
    port: int,
    *,
    fsync: bool = False,
    max_connections: int = 200,
    warm: bool = False,
    parent: Path | None = None,
) -> Cluster:
    """Make and start a cluster in a directory of its own, in `parent` if that matters; what it keeps need survive nothing."""
    directory = server_directory(parent)
    Server(directory, port).init_directory()
    (directory / "data" / "pg_hba.conf").write_text(
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    with (directory / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write(
            f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{directory}'\n"
            f"{_FAST if not fsync else ''}{_QUIET}shared_buffers = 64MB\n"
            f"max_connections = {max_connections}\nmax_wal_size = 4GB\n"
        )
    cluster = Cluster(directory, port, warm)
    cluster.start()
    with cluster.connect() as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(SUPERUSER), sql.Literal(PASSWORD))
        )
    return cluster


def remove_cluster(cluster: Cluster) -> None:
    """Stop the server and delete its files."""
    cluster.stop()
    shutil.rmtree(cluster.directory)


@contextmanager
def prepared_cluster(*, warm: bool = False, parent: Path | None = None) -> Iterator[Cluster]:
    """A running server with the extension's roles, login roles for daemons and people, and `federated_template`."""
    running = create_cluster(free_port(), warm=warm, parent=parent)
    with running.connect("template1") as connection:
        connection.execute("CREATE EXTENSION plpython3u")
    with running.connect() as connection:
        connection.execute("CREATE DATABASE federated_template")
    with running.connect("federated_template") as connection:
        connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        for login, role in (("heliosdb_daemon", "federated_daemon"), ("heliosdb_reader", "federated_reader"),
                            ("an_admin", "federated_admin"), ("an_operator", "federated_operator"),
                            ("an_analyst", "federated_analyst"), ("an_auditor", "federated_auditor")):  # fmt: skip
            connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role}")
        connection.execute("CREATE ROLE a_nobody LOGIN")
    yield running
    remove_cluster(running)
