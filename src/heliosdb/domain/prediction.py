"""How a version predicts, on its way from the algorithm to the catalog.

What always holds: it is numbers and what they are called; SQL is made of it in the catalog alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a version predicts: `federated._render_<kind>` makes SQL of `content`, which JSON can hold.

    kind: lower-case letters and underscores. content: finite numbers and what they are called; none of
    `kind`, `booleans` and `classes` is among its keys; link = logistic says that the prediction is a
    probability.
    """

    kind: str
    content: Mapping[str, Any] = field(default_factory=dict)
