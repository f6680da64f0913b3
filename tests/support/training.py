"""The training processes of forked nodes, forked too: of each node one, it takes half a second of imports.

What always holds: a node starts a real one where its settings name less memory or more cores than the settings' own
defaults, for these are limits that a process has from its first import on; and where a test says so, by
`STARTED_WORKERS` in its environment, for one that a node has started is its child and inherits from it.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from heliosdb.node.config import NodeConfig
from tests.support.daemons import ask, channel

STARTED_WORKERS = "HELIOSDB_TEST_STARTED_WORKERS"
_COMMAND = ("-P", "-m", "heliosdb.node.training_process")
_MEMORY = int(NodeConfig.model_fields["max_memory_gb"].default * 2**30)


class ForkedWorker:
    """A training process; its methods and attributes are those of asyncio's Process that a node uses."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self._descriptor = os.pidfd_open(pid)

    @property
    def returncode(self) -> int | None:
        """None while it runs; what it ended with is not known."""
        return -1 if select.select([self._descriptor], [], [], 0)[0] else None

    def kill(self) -> None:
        """End it."""
        signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait for its end, after which it is not to be used."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
        self.stdin.close()
        os.close(self._descriptor)


def use_forked_workers(parent: socket.socket) -> None:
    """From here on have training processes of this node forked by the process at the other end of `parent`."""
    if STARTED_WORKERS not in os.environ:
        asyncio.create_subprocess_exec = _forking(lambda: parent)  # type: ignore[assignment]


@contextmanager
def forked_workers() -> Iterator[None]:
    """Meanwhile have training processes of nodes in this process forked as a daemon's are: none is a child of this one."""
    start = asyncio.create_subprocess_exec
    asyncio.create_subprocess_exec = _forking(channel)  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncio.create_subprocess_exec = start


def _forking(parent: Callable[[], socket.socket]) -> Callable[..., Awaitable[Any]]:
    """What starts programs, but for training processes that need no process of their own from the first import on."""
    start = asyncio.create_subprocess_exec

    async def fork_or_start(program: str, *arguments: str, **given: Any) -> Any:
        environment = given.get("env") or {}
        usual = environment.get("OMP_NUM_THREADS") == "1" and "HELIOSDB_ENGINE" not in environment
        if arguments[:3] == _COMMAND and usual and int(arguments[3]) >= _MEMORY:
            return await _fork(parent(), arguments[3:], environment)
        return await start(program, *arguments, **given)

    return fork_or_start


async def _fork(
    parent: socket.socket, arguments: tuple[str, ...], environment: dict[str, str]
) -> ForkedWorker:
    loop = asyncio.get_running_loop()
    requests, writes = os.pipe()
    reads, answers = os.pipe()
    pid = ask(
        parent,
        {"program": "worker", "arguments": arguments, "environment": environment},
        requests,
        answers,
        2,
    )
    os.close(requests)
    os.close(answers)
    stdout = asyncio.StreamReader(loop=loop)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(reads, "rb", 0))
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(writes, "wb", 0)
    )
    return ForkedWorker(pid, asyncio.StreamWriter(transport, protocol, None, loop), stdout)
