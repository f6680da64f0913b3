"""The two classes of a target: from the labels that a statement names to the numbers that columns hold.

What always holds: a label is a number below 2**53 in magnitude, or true or false, which are 1 and 0 as in
every column; so two labels are different exactly if their numbers are, in whatever type a column is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from heliosdb.domain.bounds import CLASS
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported

BINARY = (0.0, 1.0)
"""What a boolean column holds, and what a target holds whose classes nobody names."""

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_WORDS = {"true": 1.0, "false": 0.0}


def class_number(label: str) -> float | None:
    """Return the number that a label stands for in a column; None where it stands for none."""
    text = label.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if CLASS.hold(number) else None


def read_classes(labels: Sequence[str]) -> tuple[float, ...]:
    """Return the numbers of the labels of target_classes, () where none are named.

    FederatedError INVALID_VALUE for one label, or two of one value; NOT_SUPPORTED for more than two, and for
    text.
    """
    if not labels:
        return ()
    if len(labels) > 2:
        raise not_supported(
            "target_classes with more than two classes is not supported yet",
            hint="Name two: the first is class 0, the second class 1.",
        )
    numbers = [_number_of(label) for label in labels]
    if len(set(numbers)) != 2:
        raise invalid_value("target_classes names two different classes, such as ['0', '1']")
    return tuple(numbers)


def _number_of(label: str) -> float:
    number = class_number(label)
    if number is None:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            "target_classes of text are not supported yet",
            detail=f"'{label[:63]}' is neither a number nor true nor false.",
            hint="The target is a boolean or a numeric column; its classes are such as ['1', '2'].",
        )
    return number


def show_number(number: float) -> str:
    """Write a class's number as one would type it."""
    return str(int(number)) if number.is_integer() else repr(number)
