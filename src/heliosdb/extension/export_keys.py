"""Secrets of a database server: that from which the keys of exports follow, and that of sealed predictions.

What always holds: each is in one file of the data directory, which only the server's operating-system user
reads, and nowhere else: no table, and so no dump, has it. It is made when it is first needed, whole or
not at all, and never again.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from federated_sql.errors import ErrorCode, FederatedError

FILE_NAME = "heliosdb_exports.key"
_BYTES = 32


def load_or_create_secret(directory: Path, name: str = FILE_NAME) -> bytes:
    """Read the secret, or make it; FederatedError IDENTITY where the file is not what it should be."""
    found = find_secret(directory, name)
    return _create(directory, name) if found is None else found


def find_secret(directory: Path, name: str = FILE_NAME) -> bytes | None:
    """Read the secret; None where it was never needed here."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(name, f"it cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        secret = file.read(_BYTES + 1)
    if not stat.S_ISREG(mode) or mode & 0o077 or len(secret) != _BYTES:
        raise _unusable(name, f"it is not {_BYTES} bytes that the server's user alone may read")
    return secret


def _create(directory: Path, name: str) -> bytes:
    """Write it beside its place, then link it there: nobody sees half of it, two makers agree."""
    draft = directory / f"{name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, directory / name)
        finally:
            draft.unlink()
        _sync(directory)
    except OSError as error:
        raise _unusable(name, f"it cannot be made: {error.strerror}") from None
    made = find_secret(directory, name)
    if made is None:
        raise _unusable(name, "it is gone")
    return made


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(name: str, reason: str) -> FederatedError:
    return FederatedError(
        ErrorCode.IDENTITY, f"the key file {name} in the data directory cannot be used: {reason}"
    )
