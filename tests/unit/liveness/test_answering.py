"""A daemon's word on itself over a Unix socket."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.liveness.answering import State, answering, ask


@pytest.mark.parametrize(
    "state", [State(True, "leading: epoch=3"), State(False, "out of reach"), State(True, "")]
)
async def test_what_the_daemon_says_is_what_is_heard(tmp_path: Path, state: State) -> None:
    path = tmp_path / "health"
    async with answering(path, lambda: state):
        assert await asyncio.to_thread(ask, path, 30.0) == state
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_line_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "health"
    async with answering(path, lambda: State(True, "one\nunwell two")):
        assert await asyncio.to_thread(ask, path, 30.0) == State(True, "one unwell two")


async def test_the_socket_of_a_process_that_died_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "health"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    async with answering(path, lambda: State(True, "new")):
        assert await asyncio.to_thread(ask, path, 30.0) == State(True, "new")


async def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "health"
    path.write_text("precious")
    with pytest.raises(FederatedError, match="health_socket"):
        async with answering(path, lambda: State(True, "new")):
            pass
    assert path.read_text() == "precious"


def test_without_a_path_nobody_answers(tmp_path: Path) -> None:
    async def seen() -> list[Path]:
        async with answering(None, lambda: State(True, "new")):
            return await asyncio.to_thread(lambda: list(tmp_path.iterdir()))

    assert asyncio.run(seen()) == []


def test_an_event_loop_that_stands_still_gives_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "health"

    async def held_up() -> None:
        async with answering(path, lambda: State(True, "alive")):
            with pytest.raises(TimeoutError):
                ask(path, 0.2)  # in the loop's own thread

    asyncio.run(held_up())


@pytest.mark.parametrize("line", [b"", b"well", b"fine thanks\n", b"well no end"])
def test_what_is_no_answer_is_none(line: bytes) -> None:
    with pytest.raises(ValueError, match="no answer"):
        State.from_line(line)
