"""Key files: 32 random bytes that their user alone reads, made on first use and never overwritten.

What always holds: nobody sees half a key; two makers agree on one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.key_sources import KEY_BYTES


def load_or_create_secret(path: Path) -> bytes:
    """32 random bytes kept in a file of mode 0600, made on first use; FederatedError IDENTITY for anything
    else.
    """
    try:
        return create_key(path)
    except FileExistsError:
        return _load(path)
    except OSError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, f"cannot make the key file {path}: {error.strerror}"
        ) from error


def create_key(path: Path, *, replacing: bool = False) -> bytes:
    """Write a new key beside its place, then put it there; FileExistsError where one is and is not to be
    replaced, OSError."""
    if path.exists() and not replacing:
        raise FileExistsError
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    key = secrets.token_bytes(KEY_BYTES)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        if replacing:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    return key


def _load(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode & 0o077
        key = path.read_bytes()
    except OSError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, f"cannot read the key file {path}: {error.strerror}"
        ) from error
    if mode:
        raise FederatedError(
            ErrorCode.IDENTITY, f"the key file {path} may be read by others", hint="Set its mode to 0600."
        )
    if len(key) != KEY_BYTES:
        raise FederatedError(
            ErrorCode.IDENTITY, f"the key file {path} does not hold a key of {KEY_BYTES} bytes"
        )
    return key
