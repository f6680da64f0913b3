"""What a service manager hears of a daemon, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosdb.liveness.manager import notify, watchdog_interval, watched


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def test_states_are_lines_of_one_datagram(manager: socket.socket) -> None:
    notify(READY=1, STATUS="serving")
    assert manager.recv(4096) == b"READY=1\nSTATUS=serving"


def test_an_abstract_address_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"heliosdb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify(READY=1)
        assert listening.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "vsock:1:2"])
def test_a_manager_that_is_not_there_fails_nobody(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY=1)


@pytest.mark.parametrize(
    ("allowed", "watched_pid", "interval"),
    [
        ("3000000", None, 1.5),
        ("3000000", "own", 1.5),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_by_the_process_that_it_watches(
    monkeypatch: pytest.MonkeyPatch, allowed: str | None, watched_pid: str | None, interval: float | None
) -> None:
    for name, value in (
        ("WATCHDOG_USEC", allowed),
        ("WATCHDOG_PID", str(os.getpid()) if watched_pid == "own" else watched_pid),
    ):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(os.getpid()) if value == "own" else value)
    assert watchdog_interval() == interval


async def test_it_is_fed_as_long_as_the_loop_turns_and_not_after(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    async with watched():
        for _ in range(3):
            assert await asyncio.to_thread(manager.recv, 4096) == b"WATCHDOG=1"
        # What was sent before the loop is held up.
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                manager.recv(4096)
        manager.settimeout(0.1)
        with pytest.raises(TimeoutError):
            manager.recv(4096)  # holds up the loop itself
    assert not [
        task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.cancelling()
    ]


def test_a_manager_that_does_not_read_holds_nobody_up_for_long(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    more_than_fit = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 2

    async def feed() -> None:
        async with watched():
            for _ in range(more_than_fit):
                await asyncio.sleep(0.001)

    asyncio.run(feed())
    notify(STOPPING=1)
    assert manager.recv(4096) == b"WATCHDOG=1"
