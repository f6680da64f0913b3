"""Supervision of one daemon, with small scripts as daemons."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliosdb.cli.embedded.daemon import Daemon
from heliosdb.cli.embedded.plan import DaemonPlan
from heliosdb.cli.embedded.processes import ProcessMark, is_alive
from heliosdb.domain.errors import FederatedError

SERVES = (
    'import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(\'{"state": "ready"}\'); time.sleep(600)'
)
FAILS = "print('the database is not there', flush=True); raise SystemExit(7)"


class Record:
    """The marks that a daemon reported, and an event for each change."""

    def __init__(self) -> None:
        self.marks: list[ProcessMark | None] = []

    def __call__(self, name: str, mark: ProcessMark | None) -> None:
        assert name == "node_1"
        self.marks.append(mark)


def plan(directory: Path, script: str) -> DaemonPlan:
    ready = directory / "ready"
    return DaemonPlan("node_1", (sys.executable, "-c", script, str(ready)), directory / "node_1.log", ready)


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[None]:
    await daemon.start()
    try:
        yield
    finally:
        await daemon.stop()


async def test_start_returns_when_the_daemon_is_ready_and_stop_ends_it(tmp_path: Path) -> None:
    record = Record()
    async with running(Daemon(plan(tmp_path, SERVES), record)):
        assert (tmp_path / "ready").exists()
        mark = record.marks[-1]
        assert mark is not None
        assert is_alive(mark)
        assert os.getpgid(mark.pid) == mark.pid != os.getpgid(0)
    assert not is_alive(mark)
    assert record.marks[-1] is None


async def test_a_ready_file_of_an_earlier_life_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("long ago")
    with pytest.raises(FederatedError, match="before it was ready"):
        await Daemon(plan(tmp_path, FAILS), Record()).start()


async def test_a_daemon_that_ends_before_it_is_ready_is_an_error_with_the_end_of_its_log(
    tmp_path: Path,
) -> None:
    with pytest.raises(FederatedError) as caught:
        await Daemon(plan(tmp_path, FAILS), Record()).start()
    assert caught.value.message == "node_1 ended with status 7 before it was ready"
    assert "the database is not there" in (caught.value.detail or "")


async def test_a_daemon_that_dies_is_started_again(tmp_path: Path) -> None:
    record, said = Record(), asyncio.Queue[str]()
    daemon = Daemon(plan(tmp_path, SERVES), record)
    async with running(daemon):
        first = record.marks[-1]
        assert first is not None
        keeper = asyncio.create_task(daemon.keep_running(said.put_nowait))
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            assert "status -9" in await said.get()
            assert await said.get() == "node_1 is ready again"
        keeper.cancel()
        second = record.marks[-1]
        assert second is not None
        assert second != first
        assert is_alive(second)
    assert not is_alive(second)


async def test_the_callers_postgres_settings_do_not_reach_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere.example.com")
    script = f"import os; print('PGHOST' in os.environ, flush=True); {SERVES}"
    async with running(Daemon(plan(tmp_path, script), Record())):
        assert (tmp_path / "node_1.log").read_text() == "False\n"
