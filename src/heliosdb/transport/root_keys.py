"""The root keys of a daemon: where they are read, how another takes their place, and what is dropped.

What always holds: a key file is never overwritten by another key before that is kept beside it; whoever is
killed in between leaves both keys readable. No message has a key; one is known by `root_name`.

The current root key is of the setting `root_key`; without it, of `root.key` in the state directory; and
without that file the daemon's first key. Former ones lie beside the file as `NAME.former.<key's name>`, or
are listed in `former_root_keys`; the first key always opens.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.key_sources import KeySource, read_key_file
from heliosdb.transport.at_rest import AtRestKey, root_name
from heliosdb.transport.key_files import create_key

FILE_NAME = "root.key"
_FORMER = ".former."

_taken: dict[str, bytes] = {}
"""Root keys of variables that were taken out of the environment, by name."""
_taking = Lock()


class RootKeySettings(BaseModel):
    """Where a root key is: one of a file, an environment variable, and a command that prints it (a key
    service's client: absolute path and arguments, run without a shell)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path | None = None
    environment: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(one is not None for one in (self.file, self.environment, self.command)) != 1:
            raise ValueError("a root key has one of file, environment and command")
        return self

    @property
    def source(self) -> KeySource:
        """The same, to be read."""
        return KeySource(self.file, self.environment, self.command or ())


@dataclass(slots=True)
class RootKeys:
    """A daemon's. base: its first key, from which names follow too; base_file: where that is."""

    directory: Path
    base: bytes = field(repr=False)
    base_file: Path
    settings: RootKeySettings | None = None
    former: tuple[RootKeySettings, ...] = ()
    _read: dict[RootKeySettings, bytes] = field(default_factory=dict, repr=False)
    _seen: object = None

    @property
    def file(self) -> Path | None:
        """The file of the current root key, which `rotate` can replace; None: it is in none."""
        return self.directory / FILE_NAME if self.settings is None else self.settings.file

    @property
    def source(self) -> str:
        """Where the current root key is from, in words."""
        if self.settings is not None:
            return str(self.settings.source)
        file = self.file
        there = file if file is not None and file.exists() else self.base_file
        return str(KeySource(file=there))

    def at_rest(self) -> AtRestKey:
        """Return the keys; FederatedError IDENTITY where one cannot be read."""
        key, former = self.read()
        return AtRestKey(key, former=former, base=self.base)

    def read(self) -> tuple[bytes, list[bytes]]:
        """Return the current root key, and the former ones."""
        self._seen = self._state()
        former = [self.base, *(self._given(one) for one in self.former)]
        file = self.file
        if file is not None:
            former += [read_key_file(one) for one in former_files(file)]
        if self.settings is not None and self.settings.file is None:
            return self._given(self.settings), former
        if file is not None and (self.settings is not None or file.exists()):
            return read_key_file(file), former
        return self.base, former

    def refresh(self, keys: AtRestKey) -> None:
        """Read the files again where they are others by now; what is no file is read once."""
        if self._seen != self._state():
            keys.use(*self.read())

    def rotate(self) -> str:
        """Put a new root key in the file's place and keep the former beside it; returns the new one's name.

        FederatedError WRONG_STATE where the key is in no file, IDENTITY where a file cannot be written.
        """
        file = self.file
        if file is None:
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                f"the root key is of {self.source}, which is rotated where it is kept",
                hint="Have that give the new key, and name where the former one is in former_root_keys.",
            )
        try:
            if not file.exists():
                return root_name(create_key(file)).hex()
            kept = file.with_name(f"{file.name}{_FORMER}{root_name(read_key_file(file)).hex()}")
            if not kept.exists():
                kept.hardlink_to(file)
            return root_name(create_key(file, replacing=True)).hex()
        except OSError as error:
            raise FederatedError(
                ErrorCode.IDENTITY, f"the key file {file} cannot be replaced: {error.strerror}"
            ) from None

    def drop(self, name: str) -> None:
        """Remove a former root key's file; FederatedError WRONG_STATE where it is in none."""
        file = self.file
        kept = None if file is None else file.with_name(f"{file.name}{_FORMER}{name}")
        if kept is None or not kept.exists():
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                f"root key {name} is in no file that can be removed",
                hint=f"Take an entry of former_root_keys away. {self.base_file} stays: names follow from it.",
            )
        kept.unlink()

    def _given(self, settings: RootKeySettings) -> bytes:
        if settings not in self._read:
            name = settings.environment
            self._read[settings] = settings.source.read() if name is None else _take_variable(name)
        return self._read[settings]

    def _state(self) -> object:
        file = self.file
        if file is None:
            return None
        return [(one.name, _stamp(one)) for one in (file, *former_files(file))]


def _take_variable(name: str) -> bytes:
    """Take a root key out of this process's environment, for every daemon in it; FederatedError IDENTITY.

    No process that this one starts is to have it. /proc/PID/environ shows what the process was started with
    all its life, to its own user.
    """
    with _taking:
        if name in os.environ or name not in _taken:
            _taken[name] = KeySource(environment=name).read()
            del os.environ[name]
        return _taken[name]


def former_files(file: Path) -> list[Path]:
    """The files of the root keys that were in this one's place."""
    return sorted(file.parent.glob(f"{file.name}{_FORMER}*"))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
