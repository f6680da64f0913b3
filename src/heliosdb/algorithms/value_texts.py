"""The different values of a column as texts.

What always holds: a row's text is a function of its own value; how values are numbered is nobody's matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heliosdb.algorithms.space import slices
from heliosdb.algorithms.table import Codes
from heliosdb.domain import bounds
from heliosdb.domain.classes import show_number
from heliosdb.domain.vector import Vector


def texts_of(values: Vector, levels: Sequence[str] | None) -> tuple[Codes, list[str]]:
    """Number the different values: the number of each row's, -1 for one that has no text and -2 for none; and
    their texts."""
    there = np.isfinite(values) if levels is None else ~np.isnan(values)
    codes = np.full(values.size, -2, dtype=np.int64)
    if levels is not None:
        codes[there] = values[there].astype(np.int64)
        return codes, list(levels)
    # Beyond these bounds not every whole number is a double: there a number is no label.
    codes[there] = -1
    there &= (values >= bounds.CLASS.least) & (values <= bounds.CLASS.most)
    blocks = [block for block in slices(values.size) if there[block].any()]
    distinct = [np.unique(values[block][there[block]] + 0.0) for block in blocks]
    numbers = np.unique(np.concatenate(distinct)) if distinct else np.empty(0)
    for block in blocks:
        codes[block][there[block]] = np.searchsorted(numbers, values[block][there[block]])
    return codes, [show_number(float(number)) for number in numbers]
