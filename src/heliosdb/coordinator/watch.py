"""One run as its operator sees it: its rounds in the metrics, the traces and what the log's lines are about.

What always holds: nothing is decided by it, and it never fails.
"""

from __future__ import annotations

import time

from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.run import Run, RunStatus
from heliosdb.observing import logs, observed, tracing
from heliosdb.observing.tracing import NO_SPAN, Span


class RunWatch:
    """Told by the driver what happens."""

    def __init__(self, run: Run) -> None:
        self._workspace = run.policy.workspace
        self._run = str(run.id)
        self._round = NO_SPAN
        self._number: RoundNumber | None = None
        self._opened_at: float | None = None

    def begin(self) -> None:
        """The driver begins: what it logs is about the run."""
        logs.note(workspace=self._workspace, run=self._run)

    def round_opened(self, number: RoundNumber) -> None:
        """A round was opened here."""
        self._opened_at = time.monotonic()
        self._go_on(number)

    def _go_on(self, number: RoundNumber) -> None:
        if self._number == number:
            return
        self._number = number
        logs.note(round=number)
        self._round.end("left")
        self._round = tracing.begin_round(self._workspace, self._run, number)

    def exchange(self, number: RoundNumber, exchange: int, step: StepName) -> Span:
        """Begin an exchange, of a round that may have been opened elsewhere."""
        self._go_on(number)
        return self._round.child("exchange", exchange=exchange, step=step)

    def part(self, name: str) -> Span:
        """Begin a part of the round."""
        return self._round.child(name)

    def round_closed(self) -> None:
        """The round was closed."""
        opened, self._opened_at = self._opened_at, None
        observed.round_closed(self._workspace, None if opened is None else time.monotonic() - opened)
        self._round.end("closed")
        self._round, self._number = NO_SPAN, None

    def run_ended(self, status: RunStatus) -> None:
        """The run ended, maybe in the middle of a round."""
        observed.run_ended(self._workspace, status)
        self._round.end(status)

    def leave(self) -> None:
        """The driver is gone, whatever stands of the run."""
        self._round.end("left")
