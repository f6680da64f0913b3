"""How a table's rows are dealt to simulated nodes: evenly at random, by label with skew, or by a column.

What always holds: each row goes to one node, all rows of a data subject to the same one; the same seed deals
the same rows to the same nodes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.errors import ErrorCode, FederatedError

Places = NDArray[np.int64]

_FORM = re.compile(r"\s*(\w+)\s*(?:\(\s*(.*?)\s*\))?\s*", re.DOTALL)
_MOST_LABELS = 20
_GROUPS = 10
"""Of a target that has more values than `_MOST_LABELS`: so many equal parts of its range count as labels."""

LARGEST_SKEW = 1e6


@dataclass(frozen=True, slots=True)
class Split:
    """kind: iid, dirichlet or by. concentration: of dirichlet. column: of by."""

    kind: str
    concentration: float = math.inf
    column: str | None = None


def read_split(text: str) -> Split:
    """Read `iid`, `dirichlet(0.3)` or `by(column)`; FederatedError INVALID_VALUE for anything else."""
    found = _FORM.fullmatch(text)
    kind, argument = (found[1].lower(), found[2]) if found else ("", None)
    if kind == "iid" and argument is None:
        return Split(kind)
    if kind == "by" and argument:
        return Split(kind, column=argument)
    if kind == "dirichlet" and argument:
        try:
            concentration = float(argument)
        except ValueError:
            concentration = math.nan
        if 0 < concentration <= LARGEST_SKEW:
            return Split(kind, concentration)
    raise FederatedError(
        ErrorCode.INVALID_VALUE,
        f'"{text}" is not a split',
        detail="A split is iid, by(column), or dirichlet(0.3): the smaller the number, the less alike.",
        hint="Quote it: --split 'dirichlet(0.3)'.",
    )


def deal(split: Split, subjects: Places, labels: NDArray[np.float64], nodes: int, seed: int) -> list[Places]:
    """Return the rows of each node, rising. subjects: (n,), equal for the rows of one subject. labels: (n,)
    the target, NaN for none.

    dirichlet: of each label the shares of the nodes are drawn from a symmetric Dirichlet distribution (Hsu,
    Qi, Brown 2019, arXiv:1909.06335). A subject has the label of its first row.
    """
    rng = np.random.default_rng(seed)
    _, first, whose = np.unique(subjects, return_index=True, return_inverse=True)
    if split.kind == "iid":
        node_of = np.empty(first.size, dtype=np.int64)
        node_of[rng.permutation(first.size)] = np.arange(first.size) % nodes
    else:
        node_of = _deal_by_label(_groups(labels[first]), split.concentration, nodes, rng)
    return gather_rows(node_of[whose], nodes)


def _deal_by_label(groups: Places, concentration: float, nodes: int, rng: np.random.Generator) -> Places:
    node_of = np.empty(groups.size, dtype=np.int64)
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        shares = rng.dirichlet(np.full(nodes, concentration))
        if not np.isfinite(shares).all():
            # As the concentration goes to 0 one node has it all; below the smallest double it is not a share.
            shares = np.eye(nodes)[rng.integers(nodes)]
        ends = np.rint(np.cumsum(shares)[:-1] * members.size).astype(np.int64)
        for node, part in enumerate(np.split(members, ends)):
            node_of[part] = node
    return node_of


def _groups(labels: NDArray[np.float64]) -> Places:
    """Number the labels; of a target of many values, the tenth of the rows in which each lies."""
    distinct, numbers = np.unique(labels, return_inverse=True)
    if distinct.size <= _MOST_LABELS:
        return numbers.astype(np.int64)
    edges = np.nanquantile(labels, np.linspace(0, 1, _GROUPS + 1)[1:-1])
    return np.where(np.isnan(labels), _GROUPS, np.searchsorted(edges, labels, side="right")).astype(np.int64)


def deal_by_value(values: Places) -> tuple[Places, list[Places]]:
    """Return the distinct values, rising, and the rows that have each."""
    distinct, numbers = np.unique(values, return_inverse=True)
    return distinct, gather_rows(numbers.astype(np.int64), distinct.size)


def gather_rows(node_of: Places, nodes: int) -> list[Places]:
    """Return the rows of each node from the node of each row."""
    order = np.argsort(node_of, kind="stable")
    ends = np.cumsum(np.bincount(node_of, minlength=nodes))[:-1]
    return np.split(order, ends)


def node_names(count: int) -> Sequence[str]:
    """Return names whose order is that of their numbers."""
    width = len(str(count))
    return [f"node_{number:0{width}}" for number in range(1, count + 1)]
