"""Where a key of 32 bytes comes from: a file, an environment variable, or a command that prints it.

What always holds: no error, log line or process title has a key or what a command printed; a command runs
without a shell, gets nothing on its standard input, and is ended after `COMMAND_SECONDS`; a file that others
may read is refused.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from heliosdb.domain.errors import ErrorCode, FederatedError

KEY_BYTES = 32
COMMAND_SECONDS = 10.0
"""How long a command may take: a key service that is asked over the network answers well within it."""

_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class KeySource:
    """One of the three. command: a program's absolute path and its arguments, a key service's client say."""

    file: Path | None = None
    environment: str | None = None
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What a message may call it: never what it holds."""
        if self.file is not None:
            return f"the key file {self.file}"
        if self.environment is not None:
            return f"the environment variable {self.environment}"
        return f"the command {self.command[0]}"

    def read(self) -> bytes:
        """Return the key; FederatedError IDENTITY says what is wrong, without a byte of it."""
        if self.file is not None:
            return read_key_file(self.file)
        if self.environment is not None:
            return self._read_environment(self.environment)
        return self._run()

    def _read_environment(self, name: str) -> bytes:
        text = os.environ.get(name)
        if not text:
            raise _unusable(self, "it is not set")
        return _decode(self, text.encode())

    def _run(self) -> bytes:
        if not self.command or not Path(self.command[0]).is_absolute():
            raise _unusable(self, "a command is named by its absolute path")
        try:
            ended = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _unusable(self, f"it did not end within {COMMAND_SECONDS:g} seconds") from None
        except OSError as error:
            raise _unusable(self, f"it cannot be run: {error.strerror}") from None
        if ended.returncode != 0:
            raise _unusable(self, f"it ended with status {ended.returncode}")
        return _decode(self, ended.stdout)


def read_key_file(path: Path) -> bytes:
    """Return the key of a file that its user alone may read: raw, or as hexadecimal digits or Base64."""
    source = KeySource(file=path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(source, f"it cannot be read: {error.strerror}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _unusable(source, "it is no regular file")
        raw = os.read(descriptor, _MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if mode & 0o077:
        raise _unusable(source, "it may be read by others", "Set its mode to 0600.")
    return _decode(source, raw)


def _decode(source: KeySource, raw: bytes) -> bytes:
    if len(raw) == KEY_BYTES:
        return raw
    text = raw.strip()
    try:
        key = (
            bytes.fromhex(text.decode())
            if len(text) == 2 * KEY_BYTES
            else base64.b64decode(text, validate=True)
        )
    except (binascii.Error, ValueError):
        key = b""
    if len(raw) > _MOST_BYTES or len(key) != KEY_BYTES:
        raise _unusable(source, f"it gives no key of {KEY_BYTES} bytes (raw, hexadecimal or Base64)")
    return key


def _unusable(source: KeySource, reason: str, hint: str | None = None) -> FederatedError:
    return FederatedError(ErrorCode.IDENTITY, f"{source} cannot be used: {reason}", hint=hint)
