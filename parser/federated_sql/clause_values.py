"""What stands in clauses of many statements: options with their values, roles, and data subjects.

What always holds: a value is what the user typed, as a literal of Python; nothing here is checked yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

MAX_NAME_BYTES = 63
"""Of PostgreSQL's names."""

Scalar = str | int | float | bool | None
OptionValue = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One `name = value`; `position` is the 1-based character offset of the name in the statement."""

    name: str
    value: OptionValue
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class OptionName:
    """An option that is named without a value; `position` as in `Option`."""

    name: str
    position: int = field(default=0, compare=False)


class RoleKeyword(Enum):
    """A role that is not named but meant: unquoted, these words are no names in PostgreSQL."""

    CURRENT_USER = "current_user"
    CURRENT_ROLE = "current_role"
    SESSION_USER = "session_user"


RoleSpec = str | RoleKeyword


@dataclass(frozen=True, slots=True)
class SealedSubject:
    """A data subject whom only the coordinator knows: base64 of the identifier, sealed to its public key."""

    sealed: str


Subject = str | SealedSubject
