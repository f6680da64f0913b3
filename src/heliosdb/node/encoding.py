"""A table as it was read becomes what a step computes on, under the node's own rules.

What always holds: for an answer without noise a target that is none of its classes ends the task, and no
input tells fewer than min_cell subjects apart from all others, nor the difference of two; under a budget
nothing is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from heliosdb.algorithms.encoding import encode, number_classes
from heliosdb.algorithms.table import Table, count_subjects
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.vector import Vector
from heliosdb.domain.wording import counted
from heliosdb.node.datasets import TableRequest
from heliosdb.node.disclosure import check_cells
from heliosdb.node.dominance import Dominance
from heliosdb.node.likeness import Inputs
from heliosdb.node.text_cells import blank_alike, blank_telling


def encode_privately(table: Table, encoding: Encoding | None) -> Table:
    """Return the inputs, each row by itself; the target was read as it is wanted."""
    return table if encoding is None else encode(table, encoding)


def encode_plainly(
    table: Table, encoding: Encoding | None, classes: Sequence[str], request: TableRequest
) -> Table:
    """Return the inputs and, where the target has classes, their indices.

    FederatedError INVALID_VALUE, telling no value, for a target that is none of them; NODE_REFUSED where an
    input is about too few subjects.
    """
    made = table
    if encoding is not None:
        least = {"smallest_cell": request.min_cell, "smallest_category": request.min_category}
        made = encode(table, encoding, **least)
        blank_telling(made, encoding, request)
        _check_elements(made, encoding, request)
    made = _with_classes(made, table, classes, request)
    names = request.features if encoding is None else encoding.inputs
    beside = [(request.target, made.target)] if made.labels is None else []
    beside += [(column, made.roles[role]) for role, column in request.roles if role != "event"]
    blank_alike(Inputs(made, names, beside), encoding, request)
    return made


def _with_classes(made: Table, table: Table, classes: Sequence[str], request: TableRequest) -> Table:
    """Number the classes of the target, where it has any."""
    if not classes:
        return made
    target = number_classes(table.target, classes, math.inf, table.labels)
    # Only of rows that an answer may be about: that it is raised tells of a single one.
    if bool(np.isinf(target).any()):
        raise _not_of(classes, table, request)
    _check_classes(made, target, request)
    return replace(made, target=target, labels=None)


def _not_of(classes: Sequence[str], table: Table, request: TableRequest) -> FederatedError:
    """The error for a target that is none of its classes in some row."""
    target = f'the target "{request.target}" of dataset "{request.dataset}"'
    if table.labels is None:
        return invalid_value(
            f"{target} must be {_either(classes)} in every row; the model's option target_classes names the"
            " values that it holds",
            hint="Rows of further classes are left out by the dataset's WHERE. A number without classes is "
            "for an algorithm that predicts one, such as linear_regression.",
        )
    least = counted(max(request.min_cell, request.min_category), "data subject")
    return invalid_value(
        f"{target} must be {_either(classes)} in every row: without target_classes a value that fewer than"
        f" {least} of each node have is no class",
        hint="Leave rows of such values out by the dataset's WHERE, or give them another value by a view."
        " target_classes names further classes where they are of as many.",
    )


def _check_classes(table: Table, numbers: Vector, request: TableRequest) -> None:
    """FederatedError NODE_REFUSED where a class is of a few subjects: sums over classes are about them."""
    classes = numbers.astype(np.int64)
    for rows in (slice(None), ~table.held_out):
        having = count_subjects(classes[rows], table.subjects[rows], int(classes.max(initial=0)) + 1)
        if bool(((having > 0) & (having < request.min_cell)).any()):
            raise FederatedError(
                ErrorCode.NODE_REFUSED,
                f'in the target "{request.target}" of dataset "{request.dataset}" a class has fewer than'
                f" {counted(request.min_cell, 'data subject')}",
                hint="An answer without noise would be about these few. Leave their rows out by a view or"
                " predicate, or use a privacy_budget.",
            )


def _check_elements(made: Table, encoding: Encoding, request: TableRequest) -> None:
    """Look at the inputs that were no columns: elements of arrays, and logarithms, of which fewer values are
    there than of the column."""
    dominance = Dominance(made, request.max_dominance, request.dataset)
    check_cells(made, _elements(made, encoding), request.dataset, request.min_cell)
    for name, values in _elements(made, encoding):
        dominance.demand(name, values)


def _elements(made: Table, encoding: Encoding) -> Iterator[tuple[str, Vector]]:
    start = 0
    for column in encoding.columns:
        if column.kind.is_several or column.form == "log1p":
            for place, name in enumerate(column.inputs, start):
                yield name, made.features[:, place]
        start += len(column.inputs)


def _either(classes: Sequence[str]) -> str:
    shown = classes if len(classes) <= 10 else (*classes[:10], "…")
    return f"{', '.join(shown[:-1])} or {shown[-1]}"
