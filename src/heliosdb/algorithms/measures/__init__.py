"""How well predictions do on held-out rows: `measure` says how those of so many classes, or of a number, are
measured.

What always holds: see measure.py, which says what every measure keeps to.
"""

from __future__ import annotations

from functools import lru_cache

from heliosdb.algorithms.measures.boxes import LOSS_CAP, Box, Boxes, Means
from heliosdb.algorithms.measures.classification import CLASSIFICATION, Classification
from heliosdb.algorithms.measures.evaluation import LARGEST_LOSS, LARGEST_SUM, NOBODY, Evaluation, share_error
from heliosdb.algorithms.measures.measure import Measure, first_rows, told_sums
from heliosdb.algorithms.measures.multiclass import MultiClassification
from heliosdb.algorithms.measures.regression import REGRESSION, Regression

__all__ = [
    "CLASSIFICATION",
    "LARGEST_LOSS",
    "LARGEST_SUM",
    "LOSS_CAP",
    "NOBODY",
    "REGRESSION",
    "Box",
    "Boxes",
    "Classification",
    "Evaluation",
    "Means",
    "Measure",
    "MultiClassification",
    "Regression",
    "first_rows",
    "measure",
    "share_error",
    "told_sums",
]


@lru_cache
def measure(classes: int) -> Measure:
    """Return how predictions of so many classes (two or more), or of a number (0), are measured."""
    if classes > 2:
        return MultiClassification(classes)
    return CLASSIFICATION if classes else REGRESSION
