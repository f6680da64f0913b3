"""Transformers on series: how they begin, and what PyTorch makes of rows.

What always holds: what scoring/transformer.py says of a block, here in PyTorch too; nothing is drawn while it
trains, so there is no dropout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.perceptron import activate_by_torch, draw_weights
from heliosdb.algorithms.series import SeriesFamily
from heliosdb.parts.algorithms import TransformerSettings
from heliosdb.scoring.transformer import EPSILON, OF_BLOCK, UNSEEN, Transformer, positions

_GAINS = (0, 6)
"""Which of a block's arrays are gains."""


@dataclass(frozen=True, slots=True)
class TransformerTraining:
    """See `BodyTraining`."""

    kind: str = "transformer"

    def of(self, settings: TransformerSettings, front_width: int) -> Transformer:
        """See `BodyTraining`."""
        del front_width  # It is what `projects` says.
        return Transformer(settings.width, settings.depth, settings.heads, settings.activation)

    def projects(self, settings: TransformerSettings) -> int:
        """See `BodyTraining`: what comes out of a block is added to what came in."""
        return settings.width

    def draw(self, body: Transformer, rng: np.random.Generator, flags: int) -> Sequence[NDArray[Any]]:
        """See `BodyTraining`: weights as Glorot and Bengio 2010 have them, biases and shifts 0, gains 1."""
        del flags  # The map before it has them.
        found: list[NDArray[Any]] = []
        for place, shape in enumerate(body.shapes):
            if len(shape) == 2:
                drawn = draw_weights(rng, math.prod(shape), shape[1], shape[0], "linear")
                found.append(drawn.reshape(shape))
                continue
            is_gain = place == body.depth * OF_BLOCK or (
                place < body.depth * OF_BLOCK and place % OF_BLOCK in _GAINS
            )
            found.append(np.ones(shape) if is_gain else np.zeros(shape))
        return found

    def pass_through(
        self, torch: Any, body: Transformer, leaves: Sequence[Any], steps: Any, there: Any
    ) -> Any:
        """See `BodyTraining`."""
        functional, width = torch.nn.functional, (body.width,)
        values = steps + torch.from_numpy(positions(steps.shape[1], body.width)).to(steps)
        for block in range(body.depth):
            own = leaves[block * OF_BLOCK : (block + 1) * OF_BLOCK]
            values = values + _attend(torch, body, own[:6], values, there)
            hidden = functional.layer_norm(values, width, own[6], own[7], EPSILON)
            hidden = activate_by_torch(torch, body.activation, functional.linear(hidden, own[8], own[9]))
            values = values + functional.linear(hidden, own[10], own[11])
        values = functional.layer_norm(values, width, leaves[-2], leaves[-1], EPSILON)
        values = values * there[:, :, None].to(values.dtype)
        return values.sum(dim=1) / there.sum(dim=1).clamp(min=1)[:, None]


def _attend(torch: Any, body: Transformer, leaves: Sequence[Any], values: Any, there: Any) -> Any:
    gains, shifts, into, into_biases, out, out_biases = leaves
    functional = torch.nn.functional
    rows, length, width = values.shape
    each = width // body.heads
    seen = functional.linear(
        functional.layer_norm(values, (width,), gains, shifts, EPSILON), into, into_biases
    )
    queries, keys, told = seen.reshape(rows, length, 3, body.heads, each).permute(2, 0, 3, 1, 4)
    scores = queries @ keys.transpose(2, 3) / math.sqrt(each)
    scores = torch.where(there[:, None, None, :], scores, torch.full_like(scores, UNSEEN))
    mixed = (torch.softmax(scores, dim=3) @ told).transpose(1, 2).reshape(rows, length, width)
    return functional.linear(mixed, out, out_biases)


TRANSFORMERS = SeriesFamily(TransformerTraining(), TransformerSettings)
