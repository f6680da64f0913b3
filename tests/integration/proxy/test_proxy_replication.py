"""Replication through the proxy: a stream has no end of its own, and a stop of the proxy does not wait for one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.proxy.proxy_harness import DEADLINE_S, Cluster, binary, eventually

FOREVER_S = 20 * DEADLINE_S


@contextmanager
def wal_receiver(dsn: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A pg_receivewal that does not come back when its stream ends."""
    command = [str(binary("pg_receivewal")), "-n", "-s", "1", "-D", str(directory), "-d", dsn]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as receiver:
        try:
            yield receiver
        finally:
            receiver.kill()


def write_some(cluster: Cluster) -> str:
    """Make WAL; return up to where."""
    with cluster.admin() as admin:
        admin.execute("CREATE TABLE IF NOT EXISTS noise (word text)")
        admin.execute("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        (lsn,) = admin.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    return lsn


def is_received(cluster: Cluster, lsn: str) -> bool:
    with cluster.admin() as admin:
        rows = admin.execute("SELECT write_lsn >= %s::pg_lsn FROM pg_stat_replication", [lsn]).fetchall()
    return rows == [(True,)]


@pytest.fixture
def patient(make_proxy):
    return make_proxy(stop_timeout_s=FOREVER_S)


def test_a_stop_ends_a_stream_at_once_and_what_was_sent_is_received(patient, cluster, tmp_path):
    with wal_receiver(patient.dsn(dbname="replication"), tmp_path) as receiver:
        eventually(lambda: is_received(cluster, "0/0"), "it streams")
        lsn = write_some(cluster)
        eventually(lambda: is_received(cluster, lsn), "it has what was written")
        patient.begin_stop()
        _, said = receiver.communicate(timeout=DEADLINE_S)
        patient.stop()
    assert "terminating connection because the proxy is stopping" in said
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 0


def test_a_receiver_that_ends_by_itself_ends_well(patient, cluster, tmp_path):
    with wal_receiver(patient.dsn(dbname="replication"), tmp_path) as receiver:
        eventually(lambda: is_received(cluster, "0/0"), "it streams")
        receiver.send_signal(signal.SIGINT)
        assert receiver.wait(DEADLINE_S) == 0


def test_a_base_backup_has_an_end_and_is_waited_for(patient, cluster, tmp_path):
    """Its data rate is bounded, so that it is still at work as the proxy stops."""
    where = ["-d", patient.dsn(dbname="replication"), "-D", str(tmp_path / "copy")]
    how = ["-X", "none", "-c", "fast", "--no-sync", "--max-rate=16M"]
    with subprocess.Popen([str(binary("pg_basebackup")), *where, *how]) as backup:
        text = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 0"
        with cluster.admin() as admin:
            eventually(lambda: admin.execute(text).fetchone() == (1,), "it is at work")
        patient.begin_stop()
        assert backup.wait(DEADLINE_S) == 0
        patient.stop()
    assert (tmp_path / "copy" / "backup_manifest").is_file()
