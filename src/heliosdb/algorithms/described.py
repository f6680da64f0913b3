"""What a node's plain statistics of round 0 say of its own rows, column by column.

What always holds: nothing is said that its answer did not hold; the mean and the spread of fewer than five
values are not shown beside the node's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from heliosdb.algorithms.cells import SMALLEST_PART
from heliosdb.algorithms.exact import read_moments
from heliosdb.algorithms.layout import COLUMN_DIGITS
from heliosdb.domain.vector import Vector


def describe_statistics(vector: Vector, inputs: Sequence[str]) -> Mapping[str, Any]:
    """Return the node's rows, and of each input how many values are missing, their mean and their standard
    deviation; null where a number is none or not shown."""
    rows, columns = int(vector[0]), {}
    for place, name in enumerate(inputs):
        block = vector[1 + COLUMN_DIGITS * place : 1 + COLUMN_DIGITS * (place + 1)]
        found = read_moments(block)
        shown = found.count >= SMALLEST_PART
        columns[name] = {
            "missing": rows - found.count,
            "mean": _number(found.mean()) if shown else None,
            "scale": _number(found.deviation()) if shown else None,
        }
    return {"rows": rows, "columns": columns}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
