"""What calls of the SDK raise and warn: the server's own words, with SQLSTATE, DETAIL and HINT.

What always holds: an error of the SDK is a psycopg.Error, so that who catches those catches it too; the
error that psycopg raised is its `__cause__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from heliosdb.sdk.records import Run


class FederatedLearningError(psycopg.Error):
    """A call that failed, and why.

    sqlstate: PostgreSQL's five characters for the case, as docs/reference.md has them. message: one sentence.
    detail, hint: what else is known, and what can be done; None where there is nothing to say.
    """

    sqlstate: str
    message: str
    detail: str | None
    hint: str | None

    def __init__(
        self, sqlstate: str, message: str, detail: str | None = None, hint: str | None = None
    ) -> None:
        lines = [f"{sqlstate}: {message}"]
        lines += [f"{label}: {text}" for label, text in (("DETAIL", detail), ("HINT", hint)) if text]
        super().__init__("\n".join(lines))
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sqlstate, self.message, self.detail, self.hint)

    @classmethod
    def of(cls, error: psycopg.Error) -> FederatedLearningError:
        """What the server, or the attempt to reach it, said."""
        if isinstance(error, FederatedLearningError):
            return error
        said = error.diag
        unreachable = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        sqlstate = error.sqlstate or ("08001" if unreachable else "XX000")
        return cls(sqlstate, said.message_primary or str(error), said.message_detail, said.message_hint)


class TrainingError(FederatedLearningError):
    """A run that ended without a model that is of use: it failed, or diverged. `run` is that run."""

    def __init__(self, model: str, run: Run) -> None:
        hint = (
            "A lower learning_rate, a tenth, is worth trying."
            if run.status == "diverged"
            else "model.history() shows its rounds; nodes() how the nodes are."
        )
        ended = "failed" if run.status == "failed" else run.status
        super().__init__("55000", f'training of federated model "{model}" {ended}', run.message, hint)
        self.model = model
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self.run)


class FederatedLearningWarning(UserWarning):
    """A WARNING or NOTICE of the server's, with its DETAIL and HINT."""


def invalid(message: str, *, detail: str | None = None, hint: str | None = None) -> FederatedLearningError:
    """The error for a value of the wrong type or out of range (22023)."""
    return FederatedLearningError("22023", message, detail, hint)
