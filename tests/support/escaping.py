"""A part that tries, as it is imported, to do what a training process must not be able to; it says what it could.

What it looks for is in its environment: a file that the process's user may read.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

SECRET, SERVER, LEFT_OPEN = "ESCAPING_SECRET", "ESCAPING_SERVER", "ESCAPING_PORT"
"""Of the environment: a file, the path of a socket that listens, a port that does."""


def _connect(family: int, address: object) -> Callable[[], object]:
    def connect() -> None:
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.connect(address)

    return connect


def _read_memory_of_parent() -> None:
    with Path(f"/proc/{os.getppid()}/mem").open("rb"):
        pass


def _call(number: int) -> Callable[[], object]:
    def call() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # No request of any of them has such a number, so that nothing comes of one that is not refused.
        if libc.syscall(number, 99_999, 0, 0, 0, 0, 0) < 0 and ctypes.get_errno() == 1:
            raise PermissionError

    return call


_NUMBERS = (
    {"ioprio_set": 251, "move_pages": 279}
    if os.uname().machine == "x86_64"
    else {"ioprio_set": 30, "move_pages": 239}
)


def _of_daemon(number: int, *arguments: int) -> Callable[[], object]:
    """A call about another process that changes nothing of it."""

    def call() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    return call


def attempts() -> dict[str, Callable[[], object]]:
    """What is tried, by name; each raises OSError where it is refused."""
    secret, server, port = os.environ[SECRET], os.environ[SERVER], int(os.environ[LEFT_OPEN])
    return {
        "read a file": lambda: Path(secret).read_bytes(),
        "list a directory": lambda: list(Path(secret).parent.iterdir()),
        "write a file": lambda: Path(secret).write_text("lost", encoding="utf-8"),
        "remove a file": lambda: Path(secret).unlink(),
        "link a file": lambda: os.link(secret, Path(secret).with_suffix(".linked")),
        "read accounts": lambda: Path("/etc/passwd").read_bytes(),
        "write beside the code": lambda: (
            Path(__file__).with_suffix(".written").write_text("", encoding="utf-8")
        ),
        "a Unix socket": _connect(socket.AF_UNIX, server),
        "an abstract socket": _connect(socket.AF_UNIX, "\0" + server),
        "TCP": _connect(socket.AF_INET, ("127.0.0.1", port)),
        "TCP over IPv6": _connect(socket.AF_INET6, ("::1", port)),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a program": lambda: subprocess.run(["/bin/true"], check=True),
        "a file's rights": lambda: Path(secret).chmod(0o644),
        "a file's times": lambda: os.utime(secret),
        "a file's attributes": lambda: os.setxattr(secret, "user.x", b"x"),
        "a file's length": lambda: os.truncate(secret, 0),
        "the daemon's limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
        "the daemon's scheduling": lambda: os.sched_setscheduler(
            os.getppid(), os.SCHED_OTHER, os.sched_param(0)
        ),
        "the daemon's scheduling parameters": lambda: os.sched_setparam(os.getppid(), os.sched_param(0)),
        "the daemon's priority": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 0),
        "the daemon's turn at disks": _of_daemon(_NUMBERS["ioprio_set"], 1, os.getppid(), 2 << 13 | 4),
        "the daemon's pages": _of_daemon(_NUMBERS["move_pages"], os.getppid(), 0, 0, 0, 0, 0),
        "a signal to the daemon": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "the daemon's memory": _read_memory_of_parent,
        "the daemon's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "the daemon's files": lambda: Path(f"/proc/{os.getppid()}/fd/0").readlink(),
        "io_uring": _call(425),
        "a namespace": _call(272 if os.uname().machine == "x86_64" else 97),
        "ptrace": _call(101 if os.uname().machine == "x86_64" else 117),
        "bpf": _call(321 if os.uname().machine == "x86_64" else 280),
    }


def tried() -> dict[str, bool]:
    """Whether each could be done."""
    found = {}
    for name, attempt in attempts().items():
        try:
            attempt()
            found[name] = True
        except OSError:
            found[name] = False
    return found


def _say() -> None:
    print(json.dumps(tried()), file=sys.stderr, flush=True)


if SECRET in os.environ:
    _say()
    _thread = threading.Thread(target=_say)
    _thread.start()
    _thread.join()
