"""Long short-term memories and gated recurrent units on series: how they begin, and what PyTorch makes of
rows.

What always holds: what scoring/recurrent.py says of a cell, here in PyTorch too, a step at a time, so that a
step of padding leaves what is remembered as it was in every cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.series import SeriesFamily
from heliosdb.parts.algorithms import RecurrentSettings
from heliosdb.scoring.recurrent import Recurrent


@dataclass(frozen=True, slots=True)
class RecurrentTraining:
    """Cells of one kind, see `BodyTraining`."""

    kind: str

    def of(self, settings: RecurrentSettings, front_width: int) -> Recurrent:
        """See `BodyTraining`."""
        return Recurrent(self.kind, front_width, settings.width, settings.depth, settings.bidirectional)

    def projects(self, settings: RecurrentSettings) -> int:
        """See `BodyTraining`: its own weights take a step of any width."""
        del settings
        return 0

    def draw(self, body: Recurrent, rng: np.random.Generator, flags: int) -> Sequence[NDArray[Any]]:
        """See `BodyTraining`: weights are uniform in ±1 / sqrt(width), as PyTorch has them; biases are 0,
        but 1 of an lstm's forget gates, which so begin by remembering (Jozefowicz et al. 2015)."""
        found: list[NDArray[Any]] = []
        for place, shape in enumerate(body.shapes):
            if len(shape) == 2:
                weights = (rng.random(shape) * 2.0 - 1.0) / math.sqrt(body.width)
                if place in range(0, body.ways * body.of_cell, body.of_cell):
                    weights[:, body.before - flags :] = 0.0
                found.append(weights)
                continue
            biases = np.zeros(shape)
            if self.kind == "lstm":
                biases[body.width : 2 * body.width] = 1.0
            found.append(biases)
        return found

    def pass_through(self, torch: Any, body: Recurrent, leaves: Sequence[Any], steps: Any, there: Any) -> Any:
        """See `BodyTraining`."""
        for level in range(body.depth):
            outs = []
            for way in range(body.ways):
                first = (level * body.ways + way) * body.of_cell
                own = leaves[first : first + body.of_cell]
                outs.append(_pass_cell(torch, body.kind, own, (steps, there), is_backward=way == 1))
            steps = torch.cat([one for one, _ in outs], dim=2)
            ends = [end for _, end in outs]
        return torch.cat(ends, dim=1)


def _pass_cell(
    torch: Any, kind: str, leaves: Sequence[Any], given: tuple[Any, Any], *, is_backward: bool
) -> tuple[Any, Any]:
    """Return what a cell remembers after each step, and in the end. given: the steps, and which are there."""
    steps, there = given
    sums = torch.nn.functional.linear(steps, leaves[0], leaves[2])
    held = cell = steps.new_zeros((len(steps), leaves[1].shape[1]))
    length = steps.shape[1]
    found = [held] * length
    for place in reversed(range(length)) if is_backward else range(length):
        remembered = held @ leaves[1].T
        if kind == "lstm":
            next_held, next_cell = _lstm(torch, sums[:, place] + remembered, cell)
        else:
            next_held, next_cell = _gru(torch, sums[:, place], remembered, leaves[3], held), cell
        now = there[:, place, None]
        held, cell = torch.where(now, next_held, held), torch.where(now, next_cell, cell)
        found[place] = held
    return torch.stack(found, dim=1), held


def _lstm(torch: Any, sums: Any, cell: Any) -> tuple[Any, Any]:
    into, forget, new, out = sums.chunk(4, dim=1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def _gru(torch: Any, sums: Any, remembered: Any, bias: Any, held: Any) -> Any:
    reset, update, new = sums.chunk(3, dim=1)
    reset_held, update_held, new_held = remembered.chunk(3, dim=1)
    kept = torch.sigmoid(update + update_held)
    fresh = torch.tanh(new + torch.sigmoid(reset + reset_held) * (new_held + bias))
    return (1.0 - kept) * fresh + kept * held


LSTMS = SeriesFamily(RecurrentTraining("lstm"), RecurrentSettings)
GRUS = SeriesFamily(RecurrentTraining("gru"), RecurrentSettings)
