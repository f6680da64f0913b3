"""The file of a Unix socket: made where nobody listens, removed where it is still our own.

What always holds: the socket of a running server, and what is not a socket, are neither replaced nor removed.
"""

from __future__ import annotations

import errno
import socket
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SocketFile:
    """One file, known by what it is and not only by its name."""

    path: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: Path) -> SocketFile:
        """The file that is there now. Raises OSError."""
        found = path.lstat()
        return cls(path, found.st_dev, found.st_ino)

    def remove(self) -> None:
        """Remove it, unless something else has its name by now.

        Do so while the socket is open: its inode number cannot be given to another file before it is closed.
        """
        try:
            if SocketFile.at(self.path) == self:
                self.path.unlink()
        except FileNotFoundError:
            pass


def listen_at(path: Path, mode: int, backlog: int) -> tuple[socket.socket, SocketFile]:
    """Listen on a Unix socket of this name. Raises OSError where the name is taken."""
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        made = SocketFile.at(path)
        try:
            path.chmod(mode)
            listener.listen(backlog)
        except BaseException:
            made.remove()
            raise
    except BaseException:
        listener.close()
        raise
    return listener, made


def _clear(path: Path) -> None:
    """Remove a socket that a process left behind when it died. Raises OSError for anything else there."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "something that is not a socket has this name", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is a sign of life too
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "a process listens on this socket", str(path))
