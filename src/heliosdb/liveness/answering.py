"""A daemon's word on itself, given over a Unix socket that only its own user and root can open.

What always holds: the answer comes out of the event loop that does the daemon's work, so that none comes
where that one stands still; it is one line, holds no secret, and needs no question.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from federated_sql.errors import invalid_value

_WELL, _UNWELL = "well", "unwell"
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class State:
    """Whether a daemon can do its work, and what it does, in words for its operator."""

    well: bool
    words: str

    def to_line(self) -> bytes:
        """The line that is sent."""
        return f"{_WELL if self.well else _UNWELL} {' '.join(self.words.split())}\n".encode()

    @classmethod
    def from_line(cls, line: bytes) -> State:
        """Read a line. Raises ValueError for what is none."""
        word, _, rest = line.decode().partition(" ")
        if word not in (_WELL, _UNWELL) or not rest.endswith("\n"):
            raise ValueError("this is no answer of a daemon")
        return cls(word == _WELL, rest.rstrip("\n"))


@contextlib.asynccontextmanager
async def answering(path: Path | None, state: Callable[[], State]) -> AsyncIterator[None]:
    """Answer at `path` for the length of a block; None: nowhere. Raises FederatedError if it cannot."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(state().to_line())
            await writer.drain()
        writer.close()

    if path is None:
        yield
        return
    server = await asyncio.start_unix_server(answer, sock=_bind(path))
    try:
        yield
    finally:
        server.close()
        _remove(path)


def _bind(path: Path) -> socket.socket:
    """Bind a socket there, in the place of one that an earlier process left."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        bound.bind(str(path))
        # Before it listens: nobody else was ever let in.
        path.chmod(0o600)
    except OSError as error:
        bound.close()
        raise invalid_value(f"cannot answer at health_socket {path}", detail=str(error)) from error
    return bound


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def ask(path: Path, timeout: float) -> State:
    """Ask the daemon that answers at `path`. Raises OSError, and ValueError for what is no answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(timeout)
        asking.connect(str(path))
        with asking.makefile("rb") as stream:
            return State.from_line(stream.readline(_LONGEST))
