"""A version's parameters as those with which another run begins: the same function of raw columns.

What always holds: what is taken over is made of a version's numbers and of two scalings that were released;
no row has a part in it. Where a run has exactly the version's inputs and target, its model scores a row that
lacks no value as the version does, up to rounding. A value that is missing counts as the mean, in the version
as its own run's, here as this run's.

Inputs are matched by their names after encoding. With weights w on (x - m) / s and a bias b the same sum on
(x - m') / s' has w' = w s' / s and b' = b + Σ w (m' - m) / s. An input that a version has and the run has
not counts as its mean there; one that it has not begins as in a run of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.origin import Origin
from heliosdb.domain.state import State
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.domain.wording import counted


@dataclass(frozen=True, slots=True)
class Carried:
    """The state with which a run begins, and what its first round is to say of that."""

    state: State
    notes: tuple[str, ...] = ()


@runtime_checkable
class Transferring(Protocol):
    """An algorithm of which a run can begin with a version."""

    def carry(self, plan: RunPlan, fresh: State, origin: Origin) -> Carried:
        """Return with what round 1 begins; fresh: with what it would without the version. FederatedError
        INVALID_VALUE where nothing can be taken over."""
        ...


@dataclass(frozen=True, slots=True)
class Conversion:
    """From a version's inputs to a run's. places: of the inputs that both have, in the run; sources: of the
    same in the version. ratios: s' / s of each; shifts: (m' - m) / s."""

    places: list[int]
    sources: list[int]
    ratios: Vector
    shifts: Vector

    @classmethod
    def of(cls, plan: RunPlan, origin: Origin) -> Conversion:
        """Match inputs by name; FederatedError INVALID_VALUE where there is none in common."""
        scaling, there = plan.findings.scaling, origin.scaling
        assert scaling is not None
        known = {name: place for place, name in enumerate(origin.inputs)}
        places = [place for place, name in enumerate(plan.inputs) if name in known]
        if not places:
            raise invalid_value(
                f"no input of this run is one of {origin.name}",
                detail=f"There they are {_some(origin.inputs)}, here {_some(plan.inputs)}.",
            )
        sources = [known[plan.inputs[place]] for place in places]
        old, new = (np.array(there.scales)[sources], np.array(scaling.scales)[places])
        moved = np.array(scaling.means)[places] - np.array(there.means)[sources]
        return cls(places, sources, new / old, moved / old)

    def weights(self, old: Matrix, fresh: Matrix) -> tuple[Matrix, Vector]:
        """Return weights on the run's inputs, and what is added to biases; (units, inputs), (units,).

        old: on the version's inputs. fresh: of a run of its own, for inputs that the version has not.
        """
        made, taken = np.array(fresh, dtype=np.float64), np.asarray(old, dtype=np.float64)[:, self.sources]
        made[:, self.places] = taken * self.ratios
        return made, taken @ self.shifts


def carry_scores(old: Matrix, fresh: Matrix, conversion: Conversion, *, has_bias: bool = True) -> Matrix:
    """Return the weights of linear scores on the run's inputs; (scores, inputs + 1), a bias last.

    has_bias: else (scores, inputs), as of models whose scores have no level.
    """
    if not has_bias:
        return conversion.weights(old, fresh)[0]
    weights, added = conversion.weights(old[:, :-1], fresh[:, :-1])
    return np.column_stack((weights, old[:, -1] + added))


def rescale_target(scores: Matrix, there: Scaling, here: Scaling) -> Matrix:
    """Return what scores a number in the run's unit, from what scores it in the version's; a bias last."""
    made = scores * (there.target_scale / here.target_scale)
    made[:, -1] += (there.target_mean - here.target_mean) / here.target_scale
    return made


def reorder_classes(scores: Matrix, there: tuple[str, ...], here: tuple[str, ...]) -> Matrix:
    """Return the scores beside a first class's 0 in another order of the same classes; (classes - 1, k)."""
    whole = np.vstack((np.zeros(scores.shape[1]), scores))
    ordered = whole[[there.index(label) for label in here]]
    moved: Matrix = (ordered - ordered[0])[1:]
    return moved


def describe(plan: RunPlan, origin: Origin) -> tuple[str, ...]:
    """Say with what a run begins, and which inputs one of the two has and the other has not."""
    known, wanted = set(origin.inputs), set(plan.inputs)
    new = [name for name in plan.inputs if name not in known]
    gone = [name for name in origin.inputs if name not in wanted]
    said = [f"begins with {origin.name}"]
    if new:
        said.append(f"it does not have {counted(len(new), 'input')} of this run: {_some(tuple(new))}")
    if gone:
        count = "counts as its mean" if len(gone) == 1 else "count as their means"
        others = counted(len(gone), "input")
        said.append(f"this run does not have {others} of it, which {count}: {_some(tuple(gone))}")
    return ("; ".join(said),)


def check_carried(parameters: Matrix, origin: Origin) -> None:
    """Raise FederatedError INVALID_VALUE where no task may carry the parameters."""
    within = bounds.PARAMETER
    if not bool(np.all((parameters >= within.least) & (parameters <= within.most))):
        raise invalid_value(f"the parameters of {origin.name} are out of bounds in the units of this run")


def _some(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
