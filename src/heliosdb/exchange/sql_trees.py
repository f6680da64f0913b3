"""Trees as nested CASE.

What always holds: a row goes the way that `scoring.trees` sends it; a way is as long as its tree is deep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlglot import exp

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State
from heliosdb.exchange.portable import Portable, levels_left, threshold
from heliosdb.exchange.sql_levels import PREFIX, Dialect, add, case, column, is_null, number

MOST_NODES: Final = 20_000


def tree_scores(model: Portable, dialect: Dialect) -> list[exp.Expression]:
    """Boosting's scores, or the means of a forest's leaves, over columns of the inputs' places."""
    trees = model.arrays
    nodes = int(trees["tree"].size)
    if nodes > MOST_NODES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"trees of {nodes} nodes are too large to be exported as SQL",
            detail=f"At most {MOST_NODES} are written out.",
            hint="--format onnx has no such limit.",
        )
    roots = [int(root) for root in np.unique(trees["tree"], return_index=True)[1]]
    if model.content["boosts"]:
        base = trees["base"]
        return [
            add([
                number(float(base[score]), dialect),
                *(_way(trees, root, 0, dialect) for root in roots[score :: base.size]),
            ])
            for score in range(base.size)
        ]  # fmt: skip
    return [
        exp.Div(
            this=exp.Paren(this=add([_way(trees, root, output, dialect) for root in roots])),
            expression=number(float(len(roots)), dialect), typed=True, safe=False,
        )
        for output in range(trees["values"].shape[1])
    ]  # fmt: skip


def _way(trees: State, node: int, output: int, dialect: Dialect) -> exp.Expression:
    if trees["feature"][node] < 0:
        return number(float(trees["values"][node, output]), dialect)
    left = int(trees["left"][node])
    below, beside = (_way(trees, child, output, dialect) for child in (left, left + 1))
    return case([(_goes_left(trees, node, dialect), below)], beside)


def _goes_left(trees: State, node: int, dialect: Dialect) -> exp.Expression:
    """A comparison with NULL is no reason to go left."""
    place = int(trees["feature"][node])
    value = column(f"{PREFIX}i{place}")
    condition = (
        _is_among(levels_left(trees, node), value, dialect)
        if trees["levels"][place]
        else exp.LTE(this=value, expression=number(threshold(trees, node), dialect))
    )
    if not trees["missing_left"][node]:
        return condition
    return exp.Or(this=is_null(value.copy()), expression=condition)


def _is_among(levels: Sequence[int], value: exp.Expression, dialect: Dialect) -> exp.Expression:
    if not levels:
        return exp.false()
    return exp.In(this=value, expressions=[number(float(level), dialect) for level in levels])
