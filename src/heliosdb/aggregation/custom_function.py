"""A rule that people have written as a function in the coordinator's database.

What always holds: it gets all nodes' updates of all coordinates in one call, in the order of the nodes'
names; what is not one finite number for each parameter fails the round with that reason. What calls the
function is given by the coordinator: without it the rule combines nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import move, rejected, stack
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.domain.wording import counted

Call = Callable[[str, Matrix, Vector], Sequence[float | None] | None]
"""(name, updates (n, size), weights (n,)) → what the function returned; FederatedError where it failed."""


@dataclass(frozen=True, slots=True)
class CustomFunction:
    """new = old + what the function of that name makes of the updates and their weights."""

    name: str
    call: Call | None = None
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 with the reason where the function gave nothing to move them by."""
        updates = stack(self.name, parameters, gathered, settings)
        assert self.call is not None and not isinstance(gathered, Total)
        answer = self.call(self.name, updates, np.array([update.weight for update in gathered]))
        return move(parameters, self._read(answer, parameters.size)), NO_STATE

    def _read(self, answer: Sequence[float | None] | None, size: int) -> Vector:
        """The values that it returned; UF003 for another number of them, and for one that is none."""
        function = f'aggregation function "{self.name}"'
        if answer is None:
            raise rejected(f"{function} returned NULL")
        if len(answer) != size or any(isinstance(value, Sequence) for value in answer[:1]):
            given = counted(len(answer), "value")
            raise rejected(f"{function} returned an array of {given}, not one of {counted(size, 'number')}")
        if None in answer:
            raise rejected(f"{function} returned NULL for value {answer.index(None) + 1} of {size}")
        values = np.array(answer, dtype=np.float64)
        finite = np.isfinite(values)
        if not finite.all():
            place = int(np.argmin(finite))
            raise rejected(f"{function} returned {values[place]} for value {place + 1} of {size}")
        return values
