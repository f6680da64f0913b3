"""The personal part of a model: what one node predicts with, and nobody else has.

What always holds: it was made at the node from its own rows and stays there, sealed, until the node's own
database predicts with it; what is read back is equal to what was written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State, freeze, part_of, state_from_bytes, state_to_bytes

_CONTENT = "content"
_ARRAYS = "arrays"


@dataclass(frozen=True, slots=True)
class PersonalPart:
    """A node's own model. way: how it came about, as the option personalization has it. figures: of the
    federation's model and of this one, each over the rows that the node holds out; JSON."""

    way: str
    prediction: Prediction
    figures: Mapping[str, Any]

    def to_state(self) -> State:
        """Return it as arrays."""
        made = self.prediction
        told = {"way": self.way, "kind": made.kind, "content": dict(made.content), "figures": self.figures}
        text = np.frombuffer(json.dumps(told, allow_nan=False).encode(), dtype=np.uint8)
        return freeze({_CONTENT: text, **{f"{_ARRAYS}/{name}": one for name, one in made.arrays.items()}})

    @classmethod
    def from_state(cls, state: State) -> PersonalPart:
        """Read what `to_state` made; FederatedError INVALID_VALUE for anything else."""
        text = state.get(_CONTENT)
        if text is None or text.dtype != np.uint8:
            raise invalid_value("these arrays are no personal part of a model")
        try:
            told = json.loads(text.tobytes())
            prediction = Prediction(told["kind"], told["content"], part_of(state, _ARRAYS))
            return cls(told["way"], prediction, told["figures"])
        except (ValueError, KeyError, TypeError) as error:
            raise invalid_value("these arrays are no personal part of a model") from error

    def to_bytes(self) -> bytes:
        """Return it as bytes, to be sealed."""
        return state_to_bytes(self.to_state())

    @classmethod
    def from_bytes(cls, raw: bytes) -> PersonalPart:
        """Read what `to_bytes` wrote; FederatedError INVALID_VALUE for anything else."""
        return cls.from_state(state_from_bytes(raw))

    def replace_numbers(self, prediction: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a version's prediction with this part's numbers in the place of its own; what
        the catalog adds to a prediction (columns, classes) stays the version's.

        FederatedError INVALID_VALUE where the two are not of one model.
        """
        own = {"kind": self.prediction.kind, **self.prediction.content}
        if prediction.get("kind", "linear") != own["kind"] or prediction.get("link") != own.get("link"):
            raise invalid_value("the personal part is not of the model of this version")
        return {name: own.get(name, value) for name, value in prediction.items()}
