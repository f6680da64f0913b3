"""Daemons as processes of their own, forked from one that has imported them: a start takes no second of imports.

What always holds: a daemon has the environment and the standard error that it is started with, and of the process
that it was forked from nothing but modules. Daemons that are started one after the other come from different processes,
each with a hash seed of its own, so what depends on the order in a set differs between them as between programs. What
is imported is what their own PYTHONPATH leads to. All of them end with the process that started them.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]

IMPORTS = "HELIOSDB_TEST_IMPORTS"
"""Of a daemon's environment: what it is forked with besides, by spaces: torch, where nodes train networks."""

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
        turn, path = next(_turns) % _PARENTS, environment.get("PYTHONPATH")
        self._parent = _parent(turn, path, environment.get(IMPORTS, ""))
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


def channel() -> socket.socket:
    """To a process that training processes are forked from, for nodes that are no processes of their own."""
    return _parent(0, os.environ.get("PYTHONPATH"), os.environ.get(IMPORTS, "")).channel


@contextmanager
def training_networks() -> Iterator[None]:
    """Nodes that are started meanwhile train networks: each would take seconds to import torch."""
    former = os.environ.get(IMPORTS)
    os.environ[IMPORTS] = "torch"
    try:
        yield
    finally:
        if former is None:
            del os.environ[IMPORTS]
        else:
            os.environ[IMPORTS] = former


def _await_end(pid: int, timeout: float | None) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], timeout)
    finally:
        os.close(descriptor)


def ask(channel: socket.socket, request: Mapping[str, object], *descriptors: int) -> int:
    """Send the process at the other end a request, and return the number that it is answered with."""
    socket.send_fds(channel, [json.dumps(request).encode()], descriptors)
    answer = channel.recv(_LARGEST_MESSAGE)
    assert answer, "the process that daemons are forked from has ended"
    return int(answer)


class _Parent:
    """The process that daemons are forked from, as the tests see it."""

    def __init__(self, path: str | None, imports: str) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A confined training process reads what is in the path, and no directory that it was started in.
        searched = os.pathsep.join(filter(None, (path, str(_ROOT))))
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(number)],
                pass_fds=[number],
                cwd=_ROOT,
                env=os.environ | {IMPORTS: imports, "PYTHONPATH": searched},
            )

    def ask(self, request: Mapping[str, object], *descriptors: int) -> int:
        """Send a request, and return the number that it is answered with."""
        return ask(self.channel, request, *descriptors)

    def close(self) -> None:
        """End it, and what was forked from it."""
        self.channel.close()
        self._process.wait()


@cache
def _parent(number: int, path: str | None, imports: str) -> _Parent:
    """Of all three one: what the path leads to may change what is imported, and by which kernels it computes."""
    made = _Parent(path, imports)
    atexit.register(made.close)
    return made


def serve(number: int) -> Callable[[], None] | None:
    """Fork daemons until the other side of the socket closes; in a daemon, return what it is to do."""
    _import()
    # A Ctrl-C in the terminal is the tests' business, and a daemon's as soon as it is one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tests = socket.socket(fileno=number)
    # The tests ask by one, each daemon by one of its own, which closes with it.
    channels = [tests]
    # Of a daemon the tests ask the status, of a worker nobody does.
    running, workers = set[int](), set[int]()
    while tests in channels:
        for channel in select.select(channels, [], [])[0]:
            workers = {pid for pid in workers if not os.waitpid(pid, os.WNOHANG)[0]}
            message, descriptors, _, _ = socket.recv_fds(channel, _LARGEST_MESSAGE, 3)
            if not message:
                channels.remove(channel)
                channel.close()
                continue
            request = json.loads(message)
            if (pid := request.get("status_of")) is not None:
                channel.send(b"%d" % _status(pid, running))
                continue
            pid, its_channel = _fork()
            if pid == 0:
                for one in channels:
                    one.close()
                return _as_program(request, descriptors, its_channel)
            for one in descriptors:
                os.close(one)
            channels.append(its_channel)
            (workers if request["program"] == "worker" else running).add(pid)
            channel.send(b"%d" % pid)
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _import() -> None:
    """Import what daemons and training processes do, at their start or when first they need it."""
    for module in (
        *_modules_of_parts(),
        "heliosdb.coordinator.service",
        "heliosdb.node.service",
        "heliosdb.node.training_process",
        "heliosdb.node.worker",
        "_strptime",
        "encodings.ascii",
        "importlib.resources.readers",
        "scipy.special",
        "tests.support.training",
        *os.environ[IMPORTS].split(),
    ):
        importlib.import_module(module)
    # What is imported is looked at by no collection, of which each would copy its pages for the process that collects.
    gc.collect()
    gc.freeze()


def _modules_of_parts() -> set[str]:
    """Where the registered parts are: each daemon and training process of a run would import some of them."""
    from heliosdb.parts.algorithms import ALGORITHMS
    from heliosdb.parts.codecs import CODECS
    from heliosdb.parts.protocols import PROTOCOLS
    from heliosdb.parts.strategies import STRATEGIES

    parts = [entry.part for each in (ALGORITHMS, CODECS, PROTOCOLS, STRATEGIES) for entry in each.entries()]
    return {str(part).partition(":")[0] for part in parts}


def _fork() -> tuple[int, socket.socket]:
    """Like os.fork; besides, either side's end of a channel between the two."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    kept, closed = (theirs, ours) if pid == 0 else (ours, theirs)
    closed.close()
    return pid, kept


def _status(pid: int, running: set[int]) -> int:
    """What wait(2) says of a daemon that has ended; -1 while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    running -= {ended}
    return status if ended else -1


def _as_program(
    request: dict[str, Any], descriptors: Sequence[int], parent: socket.socket
) -> Callable[[], None]:
    """descriptors: its standard error, or input, output and error."""
    standard = (2,) if len(descriptors) == 1 else (0, 1, 2)
    for number, descriptor in zip(standard, descriptors, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    program, arguments = _PROGRAMS[request["program"]], request["arguments"]
    return lambda: program(parent, *arguments)


def _node(parent: socket.socket, config: str, ready: str) -> None:
    import logging

    from heliosdb.node import service
    from tests.support.training import use_forked_workers

    use_forked_workers(parent)

    if level := os.environ.get("HELIOSDB_TEST_LOG_LEVEL"):
        logging.basicConfig(level=level)

    def tell(port: int) -> None:
        draft = Path(ready).with_suffix(".draft")
        draft.write_text(str(port))
        draft.rename(ready)

    service.run(Path(config), ready=tell)


def _coordinator(parent: socket.socket, config: str) -> None:
    import logging

    from heliosdb.coordinator import service

    logging.basicConfig(
        level=os.environ.get("HELIOSDB_TEST_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    parent.close()
    service.run(Path(config))


def _worker(parent: socket.socket, memory: str, *parts: str) -> None:
    from heliosdb.node import training_process

    parent.close()
    training_process.main(int(memory) or None, parts)


_PROGRAMS: dict[str, Callable[..., None]] = {"node": _node, "coordinator": _coordinator, "worker": _worker}
