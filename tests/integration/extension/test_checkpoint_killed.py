"""kill -9 of the server process that writes a checkpoint: no file or a whole one, and the next statement works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.extension.conftest import MODEL, WORKSPACE
from tests.integration.extension.test_checkpoints import CHECKPOINT, LISTED, RESUME, close_rounds
from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of its own, with a run that has closed a round: a process that is killed takes all sessions along."""
    running = create_cluster(free_port())
    with running.connect() as connection:
        connection.execute("CREATE EXTENSION heliosdb_federated_learning CASCADE")
        for statement in (WORKSPACE, MODEL):
            execute(connection, statement)
        close_rounds(connection)
    yield running
    remove_cluster(running)


def recovered(server: Cluster) -> None:
    """Wait until the server answers after the crash: while it recovers, it may end instead of restart."""
    end = time.monotonic() + 120.0
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, (server.directory / "log").read_text()[-2000:]
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize(("point", "whole"), [("synced", False), ("published", True)])
def test_a_checkpoint_that_is_killed_leaves_no_file_or_a_whole_one(
    server: Cluster, place: Path, monkeypatch: pytest.MonkeyPatch, point: str, whole: bool
) -> None:
    path = place / "round_2.bin"
    with monkeypatch.context() as armed:
        armed.setenv("HELIOSDB_FAULTS", f"extension.checkpoint.{point}=kill")
        server.control("restart")
        with server.connect() as connection, pytest.raises(psycopg.OperationalError):
            execute(connection, CHECKPOINT.format(path))
    recovered(server)
    server.control("restart")

    assert [one.name for one in place.iterdir()] == ([path.name] if whole else [])
    again = place / "again.bin"
    with server.connect() as connection:
        # What was not committed is not on record, whatever file there is.
        assert str(path) not in [row[0] for row in connection.execute(LISTED)]
        execute(connection, CHECKPOINT.format(again))
        assert str(again) in [row[0] for row in connection.execute(LISTED)]
        if whole:
            assert path.stat().st_size == again.stat().st_size
            connection.execute("UPDATE federated.run SET status = 'stopped', finished_at = now()")
            execute(connection, RESUME.format(path))
            assert connection.execute("SELECT status::text FROM federated.run").fetchall() == [("queued",)]
