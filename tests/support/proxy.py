"""The proxy as an operator runs it: `heliosdb proxy` in a process of its own, in front of a test's cluster."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import PASSWORD, SUPERUSER, Cluster
from tests.support.ports import free_port

_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A running proxy; its clients log in over TCP with a password, which is relayed."""

    port: int

    def dsn(self, database: str, *, user: str = SUPERUSER) -> str:
        """Return connection parameters for psycopg and psql."""
        return f"host=127.0.0.1 port={self.port} user={user} dbname={database} password={PASSWORD}"


@contextlib.contextmanager
def running_proxy(
    cluster: Cluster, *, subject_key: Path | None = None, keep_log: Path | None = None
) -> Iterator[ProxyProcess]:
    """Run a proxy until the block ends; fail with its log where it does not start.

    subject_key: the file of a coordinator's key. keep_log: where its log is to be.
    """
    with tempfile.TemporaryDirectory(prefix="hfl-proxy-") as directory:
        port, ready, log = free_port(), Path(directory) / "ready", keep_log or Path(directory) / "log"
        config = Path(directory) / "proxy.toml"
        config.write_text(
            f"listen_port = {port}\n[default_upstream]\nhost = '127.0.0.1'\nport = {cluster.port}\n"
            + ("" if subject_key is None else f"subject_key = '{subject_key}'\n")
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "heliosdb.cli.main", "proxy", "--config", str(config),
                 "--ready-file", str(ready)],
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            _await_file(ready, process, log)
            yield ProxyProcess(port)
        finally:
            process.terminate()
            process.wait(_DEADLINE_S)


def _await_file(ready: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not ready.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)
