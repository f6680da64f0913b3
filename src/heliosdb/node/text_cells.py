"""Numbers of texts in answers without noise: what the rules of columns would refuse is 0 at this node.

What always holds: no number of a text tells fewer subjects apart than the node's rules allow, nor does its
difference from another input: such a one is 0 in every row. A column with such values is refused, since its
owner can leave it out; nobody can leave out one of some hundred numbers, each of which is of many words.
"""

from __future__ import annotations

from collections.abc import Iterator

from heliosdb.algorithms.table import Table
from heliosdb.domain.encoding import ColumnKind, Encoding
from heliosdb.node.datasets import TableRequest
from heliosdb.node.disclosure import Cells
from heliosdb.node.dominance import Dominance
from heliosdb.node.likeness import Inputs, find_alike, refused_as_alike


def text_inputs(encoding: Encoding | None) -> Iterator[int]:
    """Yield the places of the inputs that are numbers of texts."""
    place = 0
    for column in encoding.columns if encoding is not None else ():
        if column.kind is ColumnKind.TEXT:
            yield from range(place, place + len(column.inputs))
        place += len(column.inputs)


def blank_telling(made: Table, encoding: Encoding, request: TableRequest) -> None:
    """Put 0 into the inputs by which a few subjects differ from all others, or of whose sums one has most;
    FederatedError as `Dominance` where one has most of the rows."""
    places = list(text_inputs(encoding))
    if not places:
        return
    cells = Cells(made, request.min_cell)
    dominance = Dominance(made, request.max_dominance, request.dataset)
    for place in places:
        values = made.features[:, place]
        if cells.few_differ(values) or dominance.exceeded_by(values):
            made.features[:, place] = 0.0


def blank_alike(inputs: Inputs, encoding: Encoding | None, request: TableRequest) -> None:
    """Put 0 into a text's number that differs from another input in a few subjects; FederatedError
    NODE_REFUSED where neither is one."""
    blank = set(text_inputs(encoding))
    names = inputs.all_names
    for one, other in find_alike(inputs, request.min_cell):
        place = other if other in blank else one
        if place not in blank:
            raise refused_as_alike(names[one], names[other], request.min_cell, request.dataset)
        inputs.table.features[:, place] = 0.0
