"""Daemons as processes of their own, forked from one that has imported them: a start takes no second of imports.

What always holds: a daemon has the environment and the standard error that it is started with, and of the process
that it was forked from nothing but modules. Daemons that are started one after the other come from different processes,
each with a hash seed of its own, so what depends on the order in a set differs between them as between programs. What
is imported is what their own PYTHONPATH leads to. All of them end with the process that started them.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

_LARGEST_MESSAGE = 1 << 17
_PARENTS = 2
_PROGRAM = (
    "import sys; from tests.support.daemons import serve\nif daemon := serve(int(sys.argv[1])): daemon()"
)
_turns = itertools.count()


class Daemon:
    """A started daemon; its methods and attributes are those of subprocess.Popen."""

    def __init__(
        self, program: str, *arguments: str, environment: dict[str, str], stderr: int | None = None
    ) -> None:
        """Start `program`, one of `_node` and `_coordinator`. stderr: a file descriptor; None: as in here."""
        self._parent = _parent(next(_turns) % _PARENTS, environment.get("PYTHONPATH"))
        self.returncode: int | None = None
        request = {"program": program, "arguments": arguments, "environment": environment}
        self.pid = self._parent.ask(request, 2 if stderr is None else stderr)

    def poll(self) -> int | None:
        """The exit status, negative for the signal that ended it; None while it runs."""
        if self.returncode is None:
            status = self._parent.ask({"status_of": self.pid})
            self.returncode = None if status < 0 else os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; subprocess.TimeoutExpired where that is not in time (s)."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0.0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            _await_end(self.pid, left)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended: until its status is read, the id is no other process's."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _await_end(pid: int, timeout: float | None) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], timeout)
    finally:
        os.close(descriptor)


class _Parent:
    """The process that daemons are forked from, as the tests see it."""

    def __init__(self, path: str | None) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(number)],
                pass_fds=[number],
                cwd=Path(__file__).parents[2],
                env=os.environ | ({} if path is None else {"PYTHONPATH": path}),
            )

    def ask(self, request: Mapping[str, object], *descriptors: int) -> int:
        """Send a request, and return the number that it is answered with."""
        socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
        answer = self._channel.recv(_LARGEST_MESSAGE)
        assert answer, "the process that daemons are forked from has ended"
        return int(answer)

    def close(self) -> None:
        """End it, and what was forked from it."""
        self._channel.close()
        self._process.wait()


@cache
def _parent(number: int, path: str | None) -> _Parent:
    """Of each number and path one: what the path leads to may change what is imported, and by which kernels it computes."""
    made = _Parent(path)
    atexit.register(made.close)
    return made


def serve(number: int) -> Callable[[], None] | None:
    """Fork daemons until the other side of the socket closes; in a daemon, return what it is to do."""
    import heliosdb.coordinator.service
    import heliosdb.node.service  # noqa: F401

    # A Ctrl-C in the terminal is the tests' business, and a daemon's as soon as it is one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: set[int] = set()
    with socket.socket(fileno=number) as channel:
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, _LARGEST_MESSAGE, 1)
            if not message:
                break
            request = json.loads(message)
            if (pid := request.get("status_of")) is not None:
                ended, status = os.waitpid(pid, os.WNOHANG)
                running -= {ended}
                channel.send(b"%d" % (status if ended else -1))
                continue
            (stderr,) = descriptors
            if (pid := os.fork()) == 0:
                os.dup2(stderr, 2)
                os.close(stderr)
                return _as_program(request)
            os.close(stderr)
            running.add(pid)
            channel.send(b"%d" % pid)
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _as_program(request: dict[str, object]) -> Callable[[], None]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    program, arguments = _PROGRAMS[str(request["program"])], request["arguments"]
    return lambda: program(*map(Path, arguments))  # type: ignore[call-overload]


def _node(config: Path, ready: Path) -> None:
    import logging

    from heliosdb.node import service

    if level := os.environ.get("HELIOSDB_TEST_LOG_LEVEL"):
        logging.basicConfig(level=level)

    def tell(port: int) -> None:
        draft = ready.with_suffix(".draft")
        draft.write_text(str(port))
        draft.rename(ready)

    service.run(config, ready=tell)


def _coordinator(config: Path) -> None:
    import logging

    from heliosdb.coordinator import service

    logging.basicConfig(
        level=os.environ.get("HELIOSDB_TEST_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    service.run(config)


_PROGRAMS: dict[str, Callable[..., None]] = {"node": _node, "coordinator": _coordinator}
