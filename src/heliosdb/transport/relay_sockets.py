"""The Unix sockets at which another system's programs hand over what they carry: blobs, each with its length.

What always holds: a socket lies in a directory that nobody but its owner and its group may enter, and that
only the owner may change: who may hand something over is a matter of that group; no more is read than is
allowed.
"""

from __future__ import annotations

import asyncio
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.transport.limits import MAX_BATCH_BYTES

_LENGTH = struct.Struct("!Q")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(path: Path, serve: Serve) -> asyncio.Server:
    """Listen at `path`; FederatedError INVALID_VALUE where nobody may."""
    return await asyncio.start_unix_server(serve, sock=_bind(path))


def close(server: asyncio.Server, path: Path) -> None:
    """Listen no more."""
    server.close()
    with suppress(OSError):
        path.unlink()


async def read_blob(reader: asyncio.StreamReader, most: int = MAX_BATCH_BYTES) -> bytes | None:
    """The next blob; None at the end. FederatedError INVALID_VALUE for one that is larger than `most`."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > most:
            raise invalid_value(f"{length} bytes were announced, and no more than {most} are taken")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def write_blob(writer: asyncio.StreamWriter, blob: bytes) -> None:
    """Write a blob; OSError where the other end is gone."""
    writer.write(_LENGTH.pack(len(blob)))
    writer.write(blob)
    await writer.drain()


def check_directory(path: Path) -> None:
    """FederatedError INVALID_VALUE where others than owner and group can reach a socket at `path`."""
    try:
        mode = path.parent.stat().st_mode
    except OSError as error:
        raise _cannot(path, str(error.strerror)) from error
    if not stat.S_ISDIR(mode) or mode & 0o027:
        raise invalid_value(
            f"the directory of {path} is open to others",
            hint=f"chmod 0750 {path.parent}, or 0700 where the other program runs as the same user.",
        )


def _bind(path: Path) -> socket.socket:
    check_directory(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        bound.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        bound.close()
        raise _cannot(path, str(error.strerror or error)) from error
    return bound


def _cannot(path: Path, why: str) -> FederatedError:
    return invalid_value(f"cannot listen at flower_socket {path}: {why}")
