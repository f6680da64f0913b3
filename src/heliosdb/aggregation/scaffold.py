"""SCAFFOLD (Karimireddy et al. 2020, algorithm 1): nodes correct their steps by how their rows differ.

A node adds c - c_i to each of its gradients, where its control variate c_i is the mean gradient of its steps
the last time (option II), and c is the server's. Behind its update Δy_i it answers its new variate c_i'. With
n of the most nodes N that any round had:

    new = old + η mean(Δy_i),    c = c + n/N (mean(c_i') - c)

Where all nodes answer this is the paper's c, the mean of the variates. The paper adds n/N mean(c_i' - c_i),
for which server and nodes must agree on every c_i: a node whose answer came too late has kept a variate of
which the server never heard, and the paper's c would be off by it for ever. This one has forgotten it after a
round of all nodes.

What always holds: c and N are the memory; nodes are told c as the companion `control` of the model, and
answer their variate in its place behind the update; sums are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import move, rejected
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import State, make_state
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import ScaffoldSettings

CONTROL, _NODES = "control", "nodes"


class Scaffold:
    """Two means, of the updates and of the variates behind them."""

    name = "scaffold"
    sees: Literal["each", "sum"] = "sum"
    companions: Sequence[str] = (CONTROL,)

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """That nodes keep variates."""
        return {"control_variates": True}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: ScaffoldSettings
    ) -> tuple[Vector, State]:
        """The moved parameters, and c and N. gathered: of twice the parameters' length.

        Raises FederatedError (UF003) for no update, for one of another shape, for a memory of another model,
        and where the result is not finite.
        """
        if not isinstance(gathered, Total):
            raise TypeError("scaffold sees the sum of the updates")
        if gathered.nodes < 1 or not gathered.weight > 0:
            raise rejected("There is no update to combine.")
        old = memory.get(CONTROL, np.zeros(parameters.size))
        if gathered.vector.shape != (2 * parameters.size,) or old.shape != parameters.shape:
            raise rejected(f"The sum's shape is {gathered.vector.shape}, not ({2 * parameters.size},).")
        mean, variate = np.split(gathered.vector / gathered.weight, 2)
        most = max(gathered.nodes, int(memory[_NODES][0]) if memory else 0)
        rate = 1.0 if settings.server_learning_rate is None else settings.server_learning_rate
        with np.errstate(over="ignore"):
            new = move(parameters, rate * mean)
        share = gathered.nodes / most
        control = (1.0 - share) * old + share * variate
        return new, make_state(**{CONTROL: control, _NODES: np.array([most], dtype=np.int64)})


SCAFFOLD = Scaffold()
