"""The classes of a target: from the labels that a statement names to what columns hold.

What always holds: a label is a text of at most `MOST_LABEL_BYTES`; where a column is a number, it stands for
one below 2**53 in magnitude, or true or false are 1 and 0 as in every column. So two labels of a target are
different exactly if what they stand for is, in whatever type its columns are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from heliosdb.domain.bounds import CLASS
from heliosdb.domain.errors import invalid_value

Learns = Literal["classes", "number", "either"]
"""What an algorithm's target is; `either`: the target's own type decides."""

BINARY_LABELS = ("0", "1")
"""Of a boolean target, and of a number whose classes nobody names."""

MOST_CLASSES = 1_000
MOST_LABEL_BYTES = 120

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_WORDS = {"true": 1.0, "false": 0.0}


def class_number(label: str) -> float | None:
    """Return the number that a label stands for in a column; None where it stands for none."""
    text = label.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if CLASS.hold(number) else None


def class_numbers(labels: Sequence[str]) -> tuple[float, ...] | None:
    """Return the numbers that all labels stand for; None where one stands for none."""
    numbers = [class_number(label) for label in labels]
    found = tuple(number for number in numbers if number is not None)
    return found if len(found) == len(numbers) else None


def read_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of target_classes, in the order of their classes' indices; () where none are named.

    FederatedError INVALID_VALUE for one label, for two of one value, and for one that is too long.
    """
    if not labels:
        return ()
    named = class_numbers(labels) or labels
    if len(labels) < 2 or len(set(named)) != len(labels):
        raise invalid_value("target_classes names two or more different classes, such as ['0', '1']")
    if len(labels) > MOST_CLASSES:
        raise invalid_value(f"target_classes names more than {MOST_CLASSES:,} classes")
    for label in labels:
        if len(label.encode()) > MOST_LABEL_BYTES or "\0" in label:
            raise invalid_value(
                f"target_classes names '{label[:20]}…', of more than {MOST_LABEL_BYTES} bytes"
            )
    return tuple(labels)


def show_number(number: float) -> str:
    """Write a class's number as one would type it."""
    return str(int(number)) if number.is_integer() else repr(number)
