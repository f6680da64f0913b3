"""What an examination finds: one thing, how it stands, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from heliosdb.cli.tables import clean


class Mark(StrEnum):
    """How a thing stands."""

    GOOD = "good"
    WARNING = "warning"
    FAULT = "fault"


SIGNS = {Mark.GOOD: "✓", Mark.WARNING: "!", Mark.FAULT: "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """about: which thing. said: how it stands. remedy: what to do; "" where nothing is to be done."""

    mark: Mark
    about: str
    said: str
    remedy: str = ""


def good(about: str, said: str) -> Finding:
    """It is as it should be."""
    return Finding(Mark.GOOD, about, said)


def warning(about: str, said: str, remedy: str) -> Finding:
    """It works, and soon or in part may not."""
    return Finding(Mark.WARNING, about, said, remedy)


def fault(about: str, said: str, remedy: str) -> Finding:
    """It does not work so."""
    return Finding(Mark.FAULT, about, said, remedy)


def lines(found: Iterable[Finding]) -> Iterator[str]:
    """A line for each finding, and one below for what to do."""
    for one in found:
        yield f"{SIGNS[one.mark]} {clean(one.about)}: {clean(one.said)}"
        if one.remedy:
            yield f"    {clean(one.remedy)}"
