"""The one exception tree of the product and the table of its codes.

What always holds: an error that a user may see is a `FederatedError`; its code decides the SQLSTATE,
and the other edges (gRPC, HTTP, exit codes) map from the same code.
"""

from __future__ import annotations

from enum import Enum


class ErrorCode(Enum):
    """Why a request failed; the value is the SQLSTATE that PostgreSQL clients see."""

    SYNTAX = "42601"
    UNDEFINED_OBJECT = "42704"
    UNDEFINED_COLUMN = "42703"
    UNDEFINED_TABLE = "42P01"
    DUPLICATE_OBJECT = "42710"
    INVALID_VALUE = "22023"
    INVALID_NAME = "42602"
    PRIVILEGE = "42501"
    WRONG_STATE = "55000"
    IN_USE = "55006"
    DEPENDENTS = "2BP01"
    NOT_SUPPORTED = "0A000"
    PROGRAM_LIMIT = "54000"
    TIMEOUT = "57014"
    UNREACHABLE = "08001"
    BUDGET_EXHAUSTED = "UF001"
    NODE_REFUSED = "UF002"
    UPDATE_REJECTED = "UF003"
    IDENTITY = "UF004"
    FENCED = "UF005"
    INTERNAL = "XX000"


class FederatedError(Exception):
    """An error with a code, one clear sentence, and where known a DETAIL, a HINT and a position.

    `position` is the 1-based character offset into the statement's text, as PostgreSQL counts it.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position

    @property
    def sqlstate(self) -> str:
        """The five-character SQLSTATE of this error."""
        return self.code.value

    @property
    def text(self) -> str:
        """Message, DETAIL and HINT as sentences of one line, for where there is one field for all."""
        first, *others = (part for part in (self.message, self.detail, self.hint) if part)
        return " ".join([f"{first.rstrip('.')}.", *others]) if others else first


def syntax_error(message: str, *, position: int | None = None, hint: str | None = None) -> FederatedError:
    """Make the error for text that the language does not know (42601)."""
    return FederatedError(ErrorCode.SYNTAX, message, hint=hint, position=position)


def invalid_value(message: str, *, detail: str | None = None, hint: str | None = None) -> FederatedError:
    """Make the error for a value of the wrong type or out of range (22023)."""
    return FederatedError(ErrorCode.INVALID_VALUE, message, detail=detail, hint=hint)


def not_supported(
    message: str, *, detail: str | None = None, hint: str | None = None, position: int | None = None
) -> FederatedError:
    """Make the error for a part that is not built yet (0A000); the caller has changed nothing."""
    return FederatedError(ErrorCode.NOT_SUPPORTED, message, detail=detail, hint=hint, position=position)
