"""Listening sockets that outlive a process: given by systemd, or handed by a proxy to its successor.

What always holds: a handed socket is the same one in both processes, so that no connection attempt in its
queue is lost; nothing here waits; and the variables that describe inherited sockets are gone from the
environment once they are read.
Source: sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from federated_sql.errors import invalid_value

FIRST_FD = 3
OWNED = "heliosdb-owned"  # the name of a socket whose file the proxies made and remove themselves
READY_FD = "HELIOSDB_READY_FD"
# LISTEN_PID must be the new process itself: a shell knows its number, and becomes that process. So must be
# the one that the service manager's watchdog expects, where there is one.
_AS_THE_NEW_PROCESS = 'export LISTEN_PID=$$ ${WATCHDOG_PID:+WATCHDOG_PID=$$}; exec "$@"'
_FREE_FD = 64  # handed sockets are copied to here first, so that none is overwritten on its way to 3, 4, …


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket that was there before this process; `owned`: the last proxy removes its file."""

    socket: socket.socket
    owned: bool

    @property
    def local(self) -> bool:
        """Whether it is a Unix socket."""
        return self.socket.family == socket.AF_UNIX


def inherited_listeners() -> list[Listener]:
    """Take the sockets that this process was started with. Raises FederatedError for what is not one."""
    count, owner = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or owner != str(os.getpid()):
        return []
    return [_listener(FIRST_FD + i, names[i] if i < len(names) else "") for i in range(int(count))]


def _listener(number: int, name: str) -> Listener:
    try:
        os.set_inheritable(number, False)
        inherited = socket.socket(fileno=number)
        kind = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise invalid_value(f"inherited file {number} is not a socket", detail=error.strerror) from error
    if kind != socket.SOCK_STREAM or not listens:
        raise invalid_value(f"inherited socket {number} does not listen for streams")
    return Listener(inherited, name == OWNED)


def has_predecessor() -> bool:
    """Whether a process waits to hear that this one serves."""
    return os.environ.get(READY_FD, "").isdigit()


def report_ready() -> None:
    """Tell the predecessor, if there is one, that it need not accept clients any more."""
    number = os.environ.pop(READY_FD, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.write(int(number), b"R")
            os.close(int(number))


def own_command() -> list[str]:
    """The command line that this process was started with."""
    return [sys.executable, *sys.orig_argv[1:]]


def start_successor(command: Sequence[str], sockets: Sequence[tuple[int, str]]) -> tuple[int, int]:
    """Start `command` with these listening sockets, (file number, name) each.

    Returns its process and a pipe: one byte comes when it serves, the end of the pipe if it fails before.
    """
    reading, writing = os.pipe()
    copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FREE_FD) for number, _ in sockets]
    ready = FIRST_FD + len(copies)
    environment = {
        **os.environ,
        "LISTEN_FDS": str(len(copies)),
        "LISTEN_FDNAMES": ":".join(name for _, name in sockets),
        READY_FD: str(ready),
    }
    files = [*copies, fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, _FREE_FD)]
    moves = [(os.POSIX_SPAWN_DUP2, number, FIRST_FD + at) for at, number in enumerate(files)]
    shell = ["/bin/sh", "-c", _AS_THE_NEW_PROCESS, "sh", *command]
    try:
        process = os.posix_spawn("/bin/sh", shell, environment, file_actions=moves)
    except BaseException:
        os.close(reading)
        raise
    finally:
        for number in (writing, *files):
            os.close(number)
    return process, reading
