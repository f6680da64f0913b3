"""One task as the node's operator sees it: its outcome, and where its time went.

What always holds: nothing is decided by it, and it never fails. Times follow the rows, so of a task under a
budget, and of one that is charged, none is told; of its span there is the whole, which whoever asked sees
anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import Task
from heliosdb.node.policy import asked_mechanism
from heliosdb.observing import logs, observed
from heliosdb.observing.tracing import begin_task

_FAILURES = (ErrorCode.INTERNAL, ErrorCode.UNREACHABLE)
_watch: ContextVar[TaskWatch | None] = ContextVar("watch", default=None)


class TaskWatch:
    """Watches the block in which a task is answered; a task of the event loop has one."""

    def __init__(self, task: Task) -> None:
        key = self._key = task.key
        self.tells_times = tells_times(task)
        self.was_charged = False
        self._began = time.monotonic()
        logs.note(workspace=key.workspace, run=key.run, round=key.round, node=key.node)
        self.whole = begin_task(
            workspace=key.workspace,
            run=str(key.run),
            round=key.round,
            exchange=key.exchange,
            step=key.step,
            node=key.node,
        )
        _watch.set(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = _outcome(error)
        seconds = time.monotonic() - self._began if self.tells_times else None
        if self.was_charged:
            # It is charged when the computing begins: told then, that and its end would be its time.
            observed.charged()
        observed.task_ended(self._key.step, outcome, seconds)
        self.whole.end(outcome)


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "answered"
    is_refusal = isinstance(error, FederatedError) and error.code not in _FAILURES
    return "refused" if is_refusal else "failed"


def tells_times(task: Task) -> bool:
    """Whether anything may be told that follows the rows: when it is computed, and for how long."""
    return task.budget is None and asked_mechanism(task) is None


def note_charge() -> None:
    """The task was charged; it is counted at its end."""
    if (watch := _watch.get()) is not None:
        watch.was_charged = True


def computing() -> AbstractContextManager[None]:
    """Within it the training process works on the task, or its turn is waited for."""
    return _part("compute", observed.computed)


def passing_door() -> AbstractContextManager[None]:
    """Within it an answer is at the door."""
    return _part("door", observed.passed_door)


@contextmanager
def _part(name: str, observe: Callable[[float], None]) -> Iterator[None]:
    watch = _watch.get()
    if watch is None or not watch.tells_times:
        yield
        return
    began = time.monotonic()
    with watch.whole.child(name):
        yield
    observe(time.monotonic() - began)
