"""How a version predicts, on its way from the algorithm to the catalog.

What always holds: it is numbers and what they are called; SQL is made of it in the catalog alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliosdb.domain.state import State

RESERVED = frozenset({"kind", "booleans", "classes", "encoding", "sealed"})
"""What the catalog adds to a prediction's content, and no content names."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a version predicts: `federated._render_<kind>` makes SQL of `content`, which JSON can hold.

    kind: lower-case letters and underscores. content: small finite numbers and what they are called, none of
    `RESERVED` among its keys; link says what is predicted: identity and exp a number, logistic the
    probability of the second of two classes, softmax the probabilities of all classes.

    arrays: what only numpy reads, of any size, for a kind that `scoring.kinds` lists; {} where SQL alone
    computes it.
    """

    kind: str
    content: Mapping[str, Any] = field(default_factory=dict)
    arrays: State = field(default_factory=dict)
