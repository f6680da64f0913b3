"""The tests' own servers: what tests of crashes, restarts and settings take for granted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    running = create_cluster(free_port())
    yield running
    remove_cluster(running)


def postmaster(server: Cluster) -> int:
    return int((server.directory / "data/postmaster.pid").read_text().splitlines()[0])


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_was_stopped_starts_with_its_rows_and_with_what_was_set(
    server: Cluster, mode: str
) -> None:
    with server.connect() as connection:
        connection.execute(f"CREATE TABLE kept_{mode} AS SELECT 1 AS one".encode())
        # A commit is not waited for (synchronous_commit), so what has to outlive a crash is written down here.
        connection.execute("CHECKPOINT")
        # Nothing on a command line outranks it.
        connection.execute(f"ALTER SYSTEM SET fsync = {'on' if mode == 'fast' else 'off'}".encode())
    before = postmaster(server)

    server.stop(mode)
    server.start()

    assert postmaster(server) != before
    with server.connect() as connection:
        assert connection.execute(f"SELECT one FROM kept_{mode}".encode()).fetchone() == (1,)
        assert connection.execute("SHOW fsync").fetchone() == ("on" if mode == "fast" else "off",)


def test_a_server_carries_no_mark_by_which_another_process_would_end_it(server: Cluster) -> None:
    assert b"mirakuru" not in Path(f"/proc/{postmaster(server)}/environ").read_bytes()


def test_a_server_that_does_not_start_says_why_and_starts_once_it_can(server: Cluster) -> None:
    server.stop("fast")
    settings = server.directory / "data/postgresql.conf"
    right = settings.read_text()
    settings.write_text(right + "no_such_setting = 1\n")
    with pytest.raises(RuntimeError, match="no_such_setting"):
        server.start()
    settings.write_text(right)

    server.start()

    with server.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
