"""A bar that follows a run, in a terminal or a notebook, by rich.

What always holds: a bar has no part in what it shows: a training goes on without it, and after it.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begin(self, model: str) -> None:
        """A run of `model` has been started."""
        ...

    def show(self, done: int, planned: int, status: str, figures: str) -> None:
        """So many of the planned rounds are done."""
        ...

    def leave(self, text: str) -> None:
        """Nobody watches any more, and the run goes on."""
        ...

    def end(self) -> None:
        """It is over; called once, whatever happened."""
        ...


class Silent:
    """Shows nothing but what has to be said."""

    def begin(self, model: str) -> None:
        """Nothing."""

    def show(self, done: int, planned: int, status: str, figures: str) -> None:
        """Nothing."""

    def leave(self, text: str) -> None:
        """Say that the run goes on."""
        print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Nothing."""


class Bar(Silent):
    """A bar of rounds with the last figures behind it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = ("{task.description}", "{task.fields[status]}", "{task.fields[figures]}")
        first, status, figures = (TextColumn(column, markup=False) for column in columns)
        self._progress: Progress = Progress(
            first, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), status, figures
        )
        self._task: TaskID | None = None

    @property
    def is_seen(self) -> bool:
        """Whether there is a terminal or a notebook to show it."""
        console = self._progress.console
        return console.is_terminal or console.is_jupyter

    def begin(self, model: str) -> None:
        """Show the bar, unless something else is being shown: rich before 14.1 shows one thing at a time."""
        from rich.errors import LiveError

        with contextlib.suppress(LiveError):
            self._progress.start()
            self._task = self._progress.add_task(model, total=None, status="queued", figures="")

    def show(self, done: int, planned: int, status: str, figures: str) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(
                self._task, completed=done, total=planned or None, status=status, figures=figures
            )

    def end(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


def watcher(progress: bool | None) -> Watcher:
    """Return a bar if `progress`; None: where somebody can see it."""
    if progress is False:
        return Silent()
    bar = Bar()
    return bar if progress or bar.is_seen else Silent()
