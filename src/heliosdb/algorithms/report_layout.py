"""How the answer to a report is laid out, which follows from the task alone.

What always holds: node and coordinator have it from here; a block that a kind of target has no use for is
empty.

    head         the sums of the measure (measures/)
    quality      classes: the squares of the errors of probabilities (Brier 1950); a number: the errors' sizes
    correction   two classes: by how many pairs of a node's own rows the order is better than its cells say,
                 and of how many
    cells        two classes: (3, CELLS) negatives, positives, probabilities; see cells.py
    confusion    more classes: (predicted, actual) rows of the classes that are predicted often enough
    shuffled     rows that were shuffled
    importance   (features, SHUFFLES) by how much the rows' losses grew; see importance.py
    outliers     of each input, rows of the whole table that lie far out
    explained    rows that were explained
    contributions (outputs, features) by how much features move the scores of these; see explained.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from heliosdb.algorithms.cells import CELLS
from heliosdb.algorithms.importance import MOST_FEATURES, SHUFFLES
from heliosdb.algorithms.measures import Measure, measure
from heliosdb.domain.vector import Vector

MOST_CONFUSED = 100
"""Classes: of more no confusion matrix is counted."""

MOST_CONTRIBUTIONS = 10_000
"""Of all classes: of more no row is explained."""


@dataclass(frozen=True, slots=True)
class ReportLayout:
    """Of an answer about so many classes (0: a number), features and inputs."""

    classes: int
    features: int
    inputs: int

    @property
    def measure(self) -> Measure:
        """Whose sums the head is."""
        return measure(self.classes)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The blocks in their order."""
        binary = self.classes == 2
        confused = self.classes if 2 < self.classes <= MOST_CONFUSED else 0
        return {
            "head": (self.measure.plain_size,),
            "quality": (1,),
            "correction": (2 * int(binary),),
            "cells": (3 * int(binary), CELLS),
            "confusion": (confused, confused),
            "shuffled": (1,),
            "importance": (self.features if self.features <= MOST_FEATURES else 0, SHUFFLES),
            "outliers": (self.inputs,),
            "explained": (1,),
            "contributions": self.contributions,
        }

    @property
    def contributions(self) -> tuple[int, int]:
        """How many outputs and features are explained; (0, 0) where they are too many."""
        outputs = self.classes if self.classes > 2 else 1
        fit = self.features <= MOST_FEATURES and outputs * self.features <= MOST_CONTRIBUTIONS
        return (outputs, self.features) if fit else (0, 0)

    @property
    def size(self) -> int:
        """How many values an answer holds."""
        return sum(map(prod, self.shapes.values()))

    def split(self, vector: Vector) -> dict[str, Vector]:
        """Return views of the blocks, each in its shape."""
        blocks, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + prod(shape)
            blocks[name] = vector[start:end].reshape(shape)
            start = end
        return blocks
