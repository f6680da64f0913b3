"""How the answer to a report under a budget is laid out, and how far one data subject can move it.

What always holds: node and coordinator have it from here, and it follows from the task alone. What a subject
adds is, in every block, a mean over its rows: a histogram's shares add up to 1, boxes are those of an
evaluation, and the growths of its losses are cut together to a norm of 1. Blocks hold different values, so
the L2 norm of the whole is the root of the sum of the blocks' squares.

    cells        two classes: (2, CELLS) shares of rows by class and score
    confusion    more classes: (predicted, actual) shares of rows
    boxes        a number: its error's size, then what an evaluation has; see measures/boxes.py
    growths      (features,) by how much its losses grow where a feature says nothing; see growths.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from heliosdb.algorithms.measures import LOSS_CAP, REGRESSION, Box, Boxes
from heliosdb.domain.vector import Vector

_TENTHS = tuple(math.log(share) - math.log1p(-share) for share in (0.6, 0.7, 0.8, 0.9))
_UPPER = sorted((*_TENTHS, 0.1, 0.2, 0.62, 1.1, 1.75, math.log(0.95 / 0.05), math.log(0.99 / 0.01)))
EDGES = np.array([*(-edge for edge in reversed(_UPPER)), 0.0, *_UPPER])
"""Of log-odds, ascending: the tenths of probability, each cut in two, closer about even odds, where the
scores of a model lie that noise has kept from learning much."""

CELLS = EDGES.size + 1
"""The first and the last have no end."""

MOST_CLASSES, MOST_FEATURES = 32, 100
"""Of more classes there is no report under a budget, of more features no importance."""

LARGEST_NORM = 1.0
"""L2 norm of the growths of one subject's mean loss over all features: what is longer is cut to it. In nats,
or halves of squares in units of the scaled target."""

LARGEST_ERROR = 4.0
"""Of one row, in units of the scaled target."""

_BOXES = Boxes((Box(0.0, LARGEST_ERROR), *REGRESSION.boxes.boxes))


def largest_loss(classes: int) -> float:
    """Return up to where a row's loss counts: as far as in an evaluation."""
    return LOSS_CAP * math.log(classes) / math.log(2.0) if classes else LOSS_CAP


@dataclass(frozen=True)
class PrivateLayout:
    """Of an answer about so many classes (0: a number) and features."""

    classes: int
    features: int

    @property
    def boxes(self) -> Boxes:
        """The coordinates of a regression's figures: the error's size, and those of an evaluation."""
        return _BOXES

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The blocks in their order; one that a kind of target has no use for is empty."""
        several = self.classes if self.classes > 2 else 0
        return {
            "cells": (2 * int(self.classes == 2), CELLS),
            "confusion": (several, several),
            "boxes": (_BOXES.size * int(self.classes == 0),),
            "growths": (self.features if self.features <= MOST_FEATURES else 0,),
        }

    @property
    def size(self) -> int:
        """How many values an answer holds."""
        return sum(map(prod, self.shapes.values()))

    @property
    def sensitivity(self) -> float:
        """The L2 norm of the most that one subject adds."""
        figures = _BOXES.sensitivity if self.classes == 0 else 1.0
        return math.hypot(figures, LARGEST_NORM) if prod(self.shapes["growths"]) else figures

    def split(self, vector: Vector) -> dict[str, Vector]:
        """Return views of the blocks, each in its shape."""
        blocks, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + prod(shape)
            blocks[name] = vector[start:end].reshape(shape)
            start = end
        return blocks
