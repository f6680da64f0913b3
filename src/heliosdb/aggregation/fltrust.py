"""FLTrust (Cao et al. 2021, algorithm 2): updates count as far as they point along with that of trusted rows.

With g_0 the update of the root node, whose rows are trusted, and g_i those of the others:

    trust_i = max(0, cos(g_i, g_0)),    new = old + η |g_0| sum(trust_i g_i / |g_i|) / sum(trust_i)

What always holds: g_0 itself is no part of the mean; no update moves the parameters further than g_0 does,
and none that turns against it has a part; nor have weights, which are a node's own word; where nobody is
trusted the parameters stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import move, rejected, stack
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates, norm
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.strategies import TrustSettings


class FLTrust:
    """new = old + the trusted directions' mean, as long as the root node's update."""

    name = "fltrust"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: TrustSettings
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for no update, without that of the root node, for one of another shape,
        and what is not finite."""
        updates = stack(self.name, parameters, gathered, settings)
        assert not isinstance(gathered, Total)  # `stack` has refused it.
        nodes, rate = [str(update.node) for update in gathered], settings.server_learning_rate
        if settings.root_node not in nodes:
            raise rejected(
                f'There is no update of root node "{settings.root_node}", to which others are held.'
            )
        place = nodes.index(settings.root_node)
        root, others = updates[place], np.delete(updates, place, axis=0)
        length = norm(root) * (1.0 if rate is None else rate)
        with np.errstate(over="ignore", invalid="ignore"):
            step: Vector = length * _trusted_mean(_direction(root), others)
        return move(parameters, step), NO_STATE


def _trusted_mean(root: Vector, others: Matrix) -> Vector:
    """The mean of the others' directions by their trust, 0 where there is none. root: a direction."""
    directions = np.array([_direction(other) for other in others]).reshape(others.shape)
    trust = np.maximum(directions @ root, 0.0)
    total = float(trust.sum())
    mean: Vector = trust @ directions / total if total > 0.0 else np.zeros(root.size)
    return mean


def _direction(update: Vector) -> Vector:
    """An update at length 1, whatever its size; 0 for one that moves nothing."""
    largest = float(np.abs(update).max(initial=0.0))
    if largest == 0.0:
        return np.zeros(update.size)
    scaled = update / largest
    direction: Vector = scaled / np.linalg.norm(scaled)
    return direction


FLTRUST = FLTrust()
