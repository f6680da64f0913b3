"""How networks are laid out: what one must say of itself to be begun, trained, measured and published.

What always holds: neural.py is all that is common to networks, and names each where it is registered alone;
what is peculiar to one stands in one module (but frozen.py and transferred_layers.py, which are of those of
perceptron.py). All its numbers that move are one vector of float32, so that every rule
that combines parameters works on it; what they are of is in the state beside them.

**To add one**, write a module with a frozen dataclass as `Architecture` says and an object as `Family` says,
register `NeuralNetwork(family=…, name=…)` with its settings in parts/algorithms.py, and, where what predicts
is no kind that there is, a kind in scoring/kinds.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from heliosdb.algorithms.private_layers import Passing, Shape
from heliosdb.algorithms.table import Table
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AnyVector, Matrix, Vector


class Architecture(Protocol):
    """One network without its numbers."""

    @property
    def inputs(self) -> int:
        """How many inputs a row has."""
        ...

    @property
    def output(self) -> str:
        """What follows the last sums: sigmoid, softmax or linear."""
        ...

    @property
    def size(self) -> int:
        """How many parameters there are."""
        ...

    def scale(self, features: Matrix, scaling: Scaling) -> Matrix:
        """Return the inputs of rows as `pass_through` and `sums` take them, missing ones among them."""
        ...

    def hide_few(self, rows: Table, scaling: Scaling) -> Matrix:
        """Return the features of rows such as a plain answer may learn from: what it tells apart by itself,
        that a value is missing, is of `min_cell` subjects at least; else it is told as if it were not."""
        ...

    def begin(self, seed: int) -> State:
        """Return the state with which training begins, the same for the same seed; it tells all rows the
        same."""
        ...

    def to_state(self, parameters: AnyVector) -> State:
        """Return the state of these parameters, which `Family.read` reads."""
        ...

    def fits(self, classes: int) -> bool:
        """Whether its output is of so many classes, of a number where that is 0."""
        ...

    def leaves(self, parameters: Any) -> list[Any]:
        """Return views of the parameters, an array or a tensor, in their order, each in its own shape."""
        ...

    def pass_through(self, torch: Any, leaves: Sequence[Any], rows: Any) -> Any:
        """Return the last sums by PyTorch, for training without a budget; (n, inputs) → (n, units)."""
        ...

    def sums(self, parameters: Vector, inputs: Matrix) -> Matrix:
        """Return the same by numpy in float64; of two classes that softmax tells apart (n, 1), the second's
        lead. inputs: as `scale` left them."""
        ...

    def shape(self) -> Shape:
        """Return what private training is to know of it; FederatedError NOT_SUPPORTED where there is none."""
        ...

    def scorer(self, parameters: Vector) -> Passing:
        """Return what scores rows, each by itself, for private evaluations; as `sums` has its outputs."""
        ...

    def predict(self, parameters: Vector, scaling: Scaling) -> Prediction:
        """Return what predicts with these parameters."""
        ...


class Family(Protocol):
    """Networks of one kind, told apart by options."""

    def plan(self, plan: RunPlan) -> Architecture:
        """Return the one that a run's options ask for; `check` has passed."""
        ...

    def check(self, plan: RunPlan, classes: int | None) -> None:
        """Raise FederatedError INVALID_VALUE where the options cannot fit inputs and target.

        classes: how many the target has, 0 where it is a number, None where that is not known yet.
        """
        ...

    def read(self, state: State, inputs: int) -> Architecture:
        """Read what a state says of itself; FederatedError INVALID_VALUE where it is not that of one."""
        ...

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """Return by what inputs are scaled, of what round 0 found; 0 stands for the scale of an input that
        never changes, there and here."""
        ...
