"""Plays a script on a driver and says where its answers differ from what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tests.clients.python_drivers import Tags
from tests.clients.script import Answer, Step, Value


class Typing(Protocol):
    """A connection that statements are typed into."""

    @property
    def tags(self) -> Tags:
        """How much of a command tag the driver shows."""

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        """Type a statement."""


def differences(driver: Typing, script: Iterable[Step]) -> list[str]:
    """Type every step, as often as it says; print each, and return what is not as expected."""
    found: list[str] = []
    for step in script:
        for time in range(1, step.times + 1):
            answer = driver.execute(step.sql, step.parameters)
            wrong = list(_compare(step, answer, driver.tags))
            print(f"{'differs' if wrong else 'as expected'}: {step.sql[:90]} ({time} of {step.times})")
            found += [f"{step.sql!r} ({time} of {step.times}): {line}" for line in wrong]
    return found


def _compare(step: Step, answer: Answer, tags: Tags) -> Iterable[str]:
    if answer.sqlstate != step.sqlstate:
        yield f"SQLSTATE {answer.sqlstate} ({answer.message}) instead of {step.sqlstate}"
        return
    if step.sqlstate is not None:
        yield from _compare_error(step, answer)
        return
    yield from _compare_tag(step, answer, tags)
    if answer.notices != step.notices:
        yield f"notices {answer.notices} instead of {step.notices}"
    if answer.columns is None:
        return
    if step.columns is not None and answer.columns != step.columns:
        yield f"columns {answer.columns} instead of {step.columns}"
    if canonical(answer.rows) != canonical(step.rows):
        yield f"rows {answer.rows} instead of {step.rows}"


def _compare_tag(step: Step, answer: Answer, tags: Tags) -> Iterable[str]:
    *words, last = (step.tag or "").split()
    if tags == "whole" and answer.tag != step.tag:
        yield f"tag {answer.tag!r} instead of {step.tag!r}"
    if tags == "word" and answer.tag != (words or [last])[0]:
        yield f"tag {answer.tag!r}, which does not begin {step.tag!r}"
    if tags == "count" and step.rows is None and answer.count != (int(last) if last.isdigit() else 0):
        yield f"count {answer.count} of the tag {step.tag!r}"


def _compare_error(step: Step, answer: Answer) -> Iterable[str]:
    if step.message is not None and answer.message != step.message:
        yield f"message {answer.message!r} instead of {step.message!r}"
    pointed = None if answer.position is None else step.sql[answer.position - 1 :]
    if (step.at is None) != (pointed is None) or not (pointed or "").startswith(step.at or ""):
        yield f"the position points to {pointed!r} instead of {step.at!r}"


def canonical(rows: Sequence[Sequence[object]] | None) -> list[list[object]] | None:
    """Numbers as numbers, whatever a driver made of them."""
    return None if rows is None else [[_number(value) for value in row] for row in rows]


def _number(value: object) -> object:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value
