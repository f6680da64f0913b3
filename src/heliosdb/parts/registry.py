"""A lazy registry: names, settings, and where each part is found.

What always holds: a name is taken once; a part that is not there raises FederatedError NOT_SUPPORTED and
names those that are; names are compared in lower case.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.settings import NoSettings


@dataclass(frozen=True, slots=True)
class RegisteredPart:
    """A registered part. part: the object, or where it is found, as `package.module:attribute`.

    settings: its frozen dataclass; the fields are named as options.
    """

    name: str
    part: Any
    settings: type = NoSettings


class Registry:
    """The parts of one kind. kind: as a message names it, such as `algorithm`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, RegisteredPart] = {}
        self._loaded: dict[str, Any] = {}

    def register(self, name: str, part: Any, settings: type = NoSettings) -> None:
        """Add a part; ValueError for a name that is taken, which is a programming error."""
        if name != name.lower() or name in self._entries:
            raise ValueError(f"the {self.kind} {name!r} is registered already, or not in lower case")
        self._entries[name] = RegisteredPart(name, part, settings)

    def names(self) -> tuple[str, ...]:
        """The registered names, sorted."""
        return tuple(sorted(self._entries))

    def entries(self) -> Iterable[RegisteredPart]:
        """All entries, by name."""
        return [self._entries[name] for name in self.names()]

    def entry(self, name: str) -> RegisteredPart:
        """The entry of that name, whatever its case; FederatedError NOT_SUPPORTED where there is none."""
        found = self._entries.get(name.lower())
        if found is None:
            raise FederatedError(
                ErrorCode.NOT_SUPPORTED,
                f'The {self.kind} "{name}" is not supported.',
                hint=f"Available: {', '.join(self.names())}.",
            )
        return found

    def get(self, name: str) -> Any:
        """The part of that name, imported where this is the first time that it is asked for."""
        entry = self.entry(name)
        if entry.name not in self._loaded:
            part = entry.part
            self._loaded[entry.name] = self._find(name, part) if isinstance(part, str) else part
        return self._loaded[entry.name]

    def _find(self, name: str, place: str) -> Any:
        module, _, attribute = place.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # A part's module is anybody's code; who does without it must go on.
            raise FederatedError(
                ErrorCode.NOT_SUPPORTED,
                f'The {self.kind} "{name}" cannot be loaded here.',
                detail=str(error),
                hint="A library that it needs may not be installed.",
            ) from error
