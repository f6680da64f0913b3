"""Damped Newton steps on summed derivatives: where the coordinator goes next, and when it is there.

What always holds: everything is a pure function of the state and of one sum; nothing is divided by a number
that may be 0; the parameters that are asked next are finite and within their bounds. A step that raises the
objective is halved (Nocedal and Wright 2006, sections 3.1 and 3.4), so that the objective falls from one
accepted point to the next.

The objective is the sum of losses over all rows, and under a penalty, N being the sum of the case weights,
N penalty ((1 - l1_ratio) / 2 |β|² + l1_ratio |β|₁) over the coefficients of scaled inputs without the
intercepts: as scikit-learn's ElasticNet and glmnet have it. Where l1_ratio > 0 a step is the minimum of the
quadratic model with that penalty, found by coordinate descent (Friedman, Hastie, Tibshirani 2010, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from heliosdb.algorithms.curvature import Curvature
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.state import State
from heliosdb.domain.update import DivergedError
from heliosdb.domain.vector import Matrix, Vector

_RANK = 1e-11
"""A column of which no more than this part of its square is left beside others is a combination of them."""

_DECREMENT = 1e-8
"""In standard errors: a step shorter than this ends the search, once it is taken."""

_STANDSTILL = 1e-11
"""As a part of the largest parameter (or 1): so is a step that moves none by more."""

_MOST_HALVINGS = 30
_ENDLESS = math.exp(-1.0)
"""Where a score settles a target, what is left of the loss falls as exp(-score), and each Newton step adds 1
to the score: so the square of a step's length is this part of that of the one before. A long way to an
estimate, as a long tail of an input makes it, is walked at no such even pace."""

_EVEN = 0.01
_EVEN_STEPS = 4
_PASSES = 10_000
"""Of coordinate descent."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """strength: of the elastic net; l1_ratio: in [0, 1], the part of it that is |β|₁. penalised: (P,)."""

    strength: float
    l1_ratio: float
    penalised: Vector

    @property
    def is_none(self) -> bool:
        """Whether nothing is penalised."""
        return self.strength == 0.0

    def ridge(self, weights: float) -> Vector:
        """The factor of half the square of each parameter; (P,)."""
        return weights * self.strength * (1.0 - self.l1_ratio) * self.penalised

    def lasso(self, weights: float) -> Vector:
        """The factor of each parameter's magnitude; (P,)."""
        return weights * self.strength * self.l1_ratio * self.penalised

    def value(self, parameters: Vector, weights: float) -> float:
        """What it adds to the objective."""
        squares = 0.5 * float(self.ridge(weights) @ np.square(parameters))
        return squares + float(self.lasso(weights) @ np.abs(parameters))


@dataclass(frozen=True, slots=True)
class Search:
    """How far a search has come.

    parameters: to be asked next, or the result. accepted: where the objective was last accepted, None before
    the first. decrements: the last steps' squared lengths in standard errors, latest last. halvings: of the
    step that was asked. covariance: the inverse of the Hessian at `accepted`, without a dispersion; None
    under a penalty and before the first. fit: rows, case weights and loss there.
    """

    parameters: Vector
    accepted: Vector | None = None
    objective: float = math.inf
    decrements: tuple[float, ...] = ()
    halvings: int = 0
    covariance: Matrix | None = None
    fit: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def to_arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        """Return it for a model's state, but for the parameters."""
        if self.accepted is None:
            return {}
        arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {
            "accepted": self.accepted,
            "search": np.array([self.objective, float(self.halvings), *self.fit]),
            "decrements": np.array(self.decrements, dtype=np.float64),
        }
        return arrays if self.covariance is None else {**arrays, "covariance": self.covariance}

    @classmethod
    def from_state(cls, parameters: Vector, state: State) -> Search:
        """Read what `to_arrays` wrote; a new search where it wrote nothing."""
        if "search" not in state:
            return cls(parameters)
        objective, halvings, *fit = map(float, state["search"])
        return cls(
            parameters,
            np.array(state["accepted"]),
            objective,
            tuple(map(float, state["decrements"])),
            int(halvings),
            np.array(state["covariance"]) if "covariance" in state else None,
            (fit[0], fit[1], fit[2]),
        )


@dataclass(frozen=True, slots=True)
class Advance:
    """Where the search stands after an exchange. ended: it is over. separated: because estimates grow without
    end, of the parameters with these places."""

    search: Search
    ended: bool = False
    separated: tuple[int, ...] = ()


def advance(
    search: Search, found: Curvature, penalty: Penalty, names: Sequence[str], *, most: float, dispersed: bool
) -> Advance:
    """Take one step. most: bound of a parameter. dispersed: whether the loss's unit is estimated.

    Raises FederatedError INVALID_VALUE, naming the inputs, where they are collinear and nothing is penalised;
    DivergedError where the sums are so large that no step is a number.
    """
    objective = found.loss + penalty.value(search.parameters, found.weights)
    halved = _halved(search, objective, found.weights)
    if halved is not None:
        return Advance(halved)
    free = _free(found, penalty)
    inverse = _invert(found, free, names, is_first=search.accepted is None) if penalty.is_none else None
    if penalty.is_none and inverse is None:
        # It was regular where the search began: the weights of rows have since vanished.
        return Advance(replace(search, decrements=()), ended=True, separated=_largest(search.parameters))
    with np.errstate(over="ignore", invalid="ignore"):
        step = _step(search.parameters, found, penalty, free, inverse)
        decrement = max(0.0, float(step @ found.hessian @ step))
    if not (np.isfinite(step).all() and math.isfinite(decrement)):
        raise DivergedError("the nodes' sums lead to no step that is a number")
    taken = Search(
        _within(search.parameters, step, most),
        search.parameters,
        objective,
        (*search.decrements, decrement)[-_EVEN_STEPS:],
        0,
        inverse,
        (found.rows, found.weights, found.loss),
    )
    unit = _dispersion(found, int(free.sum())) if dispersed else 1.0
    largest = max(1.0, float(np.abs(search.parameters).max(initial=0.0)))
    if decrement <= _DECREMENT**2 * unit or float(np.abs(step).max(initial=0.0)) <= _STANDSTILL * largest:
        return Advance(taken, ended=True)
    is_endless = _is_even(taken.decrements) or largest >= most * (1.0 - 1e-9)
    if penalty.is_none and not dispersed and is_endless:
        return Advance(replace(taken, parameters=search.parameters), ended=True, separated=_largest(step))
    return Advance(taken)


def _halved(search: Search, objective: float, weights: float) -> Search | None:
    """Return the search half a step back where the last one went too far; None where it did not."""
    if search.accepted is None or search.halvings >= _MOST_HALVINGS:
        return None
    # Rounding moves a sum by as much.
    slack = 1e-11 * abs(search.objective) + 1e-14 * weights
    if objective <= search.objective + slack:
        return None
    half = search.accepted + 0.5 * (search.parameters - search.accepted)
    return replace(search, parameters=half, halvings=search.halvings + 1)


def _dispersion(found: Curvature, parameters: int) -> float:
    return 2.0 * found.loss / max(1.0, found.rows - parameters)


def _free(found: Curvature, penalty: Penalty) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which parameters the loss depends on: not those of an input that is the same in every row, be it 0 or,
    since it varies in rows that are held out, a multiple of the intercept's."""
    diagonal = found.hessian.diagonal()
    free = np.asarray(diagonal > 1e-20 * float(diagonal.max(initial=0.0)))
    start = 0
    # The intercept of each score is behind the coefficients of its inputs.
    for place in np.flatnonzero(penalty.penalised == 0.0):
        own = slice(start, int(place))
        if free[place]:
            left = diagonal[own] - np.square(found.hessian[own, place]) / diagonal[place]
            free[own] &= left > _RANK * diagonal[own]
        start = int(place) + 1
    return free


def _is_even(decrements: Sequence[float]) -> bool:
    """Whether the last steps were short, and each at the pace of estimates that grow without end."""
    if len(decrements) < _EVEN_STEPS or decrements[0] > 1.0:
        return False
    return all(abs(later - _ENDLESS * earlier) <= _EVEN * earlier for earlier, later in pairwise(decrements))


def _largest(step: Vector) -> tuple[int, ...]:
    size = np.abs(step)
    return tuple(int(place) for place in np.flatnonzero(size >= 0.1 * float(size.max(initial=0.0))))


def _within(parameters: Vector, step: Vector, most: float) -> Vector:
    """Take the step, or as much of it as stays within the bounds."""
    moved: Vector = parameters + step
    largest = float(np.abs(moved).max(initial=0.0))
    if largest <= most:
        return moved
    bound = np.where(step > 0.0, most, -most)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = float(np.nanmin(np.where(step != 0.0, (bound - parameters) / step, np.inf)))
    return np.clip(parameters + max(0.0, min(1.0, share)) * step, -most, most)


def _step(
    parameters: Vector,
    found: Curvature,
    penalty: Penalty,
    free: np.ndarray[tuple[int], np.dtype[np.bool_]],
    inverse: Matrix | None,
) -> Vector:
    if inverse is not None:
        return -(inverse @ found.gradient)
    ridge = penalty.ridge(found.weights)
    gradient = found.gradient + ridge * parameters
    hessian = found.hessian + np.diag(ridge)
    lasso = penalty.lasso(found.weights)
    places = np.flatnonzero(free)
    step = -np.where(free, 0.0, parameters)
    if not lasso.any():
        step[places] = -np.linalg.lstsq(hessian[np.ix_(places, places)], gradient[places], rcond=None)[0]
        return step
    step[places] = _descend_by_coordinates(
        parameters[places], gradient[places], hessian[np.ix_(places, places)], lasso[places]
    )
    return step


def _descend_by_coordinates(parameters: Vector, gradient: Vector, hessian: Matrix, lasso: Vector) -> Vector:
    """Return the step that minimises gradient · d + d · hessian d / 2 + lasso · |parameters + d|."""
    moved, slope = parameters.copy(), gradient.copy()
    for _ in range(_PASSES):
        furthest = 0.0
        for place in range(moved.size):
            curved = float(hessian[place, place])
            wanted = moved[place] - slope[place] / curved
            shrunk = math.copysign(max(0.0, abs(wanted) - float(lasso[place]) / curved), wanted)
            change = shrunk - float(moved[place])
            if change != 0.0:
                slope += change * hessian[place]
                moved[place] = shrunk
                furthest = max(furthest, abs(change) * math.sqrt(curved))
        if furthest <= 1e-13 * math.sqrt(float(hessian.diagonal().max())):
            break
    return moved - parameters


def _invert(
    found: Curvature,
    free: np.ndarray[tuple[int], np.dtype[np.bool_]],
    names: Sequence[str],
    *,
    is_first: bool,
) -> Matrix | None:
    """Return the inverse of the Hessian, 0 for parameters that are not free; None where there is none.

    Where the search begins, FederatedError names the inputs of which some are combinations of others.
    """
    places = np.flatnonzero(free)
    roots = np.sqrt(found.hessian.diagonal()[places])
    scaled = found.hessian[np.ix_(places, places)] / np.outer(roots, roots)
    order, rank = _pivot(scaled)
    if rank < places.size:
        if is_first:
            raise _collinear(scaled, order, rank, [names[place] for place in places.tolist()])
        return None
    try:
        factor = np.linalg.inv(np.linalg.cholesky(scaled))
    except np.linalg.LinAlgError:
        if is_first:
            raise invalid_value(
                "the inputs are so nearly collinear that no estimate tells them apart"
            ) from None
        return None
    inverse = np.zeros_like(found.hessian)
    inverse[np.ix_(places, places)] = (factor.T @ factor) / np.outer(roots, roots)
    return inverse


def _pivot(scaled: Matrix) -> tuple[list[int], int]:
    """Return the pivots of a Cholesky decomposition with pivoting, and how many are not 0 (the rank).

    scaled: (q, q), of ones on the diagonal. The last column, the intercept's, is the first pivot: what is
    constant is named, and not the intercept (Golub and Van Loan 2013, section 4.2.8).
    """
    size = scaled.shape[0]
    left, order = scaled.copy(), [*range(size)]
    for number in range(size):
        diagonal = left.diagonal()
        rest = order[number:]
        best = size - 1 if number == 0 else max(rest, key=lambda place: float(diagonal[place]))
        if not diagonal[best] > _RANK:
            return order, number
        at = order.index(best)
        order[number], order[at] = order[at], order[number]
        column = left[:, best] / diagonal[best]
        left -= np.outer(column, left[best])
    return order, size


def _collinear(scaled: Matrix, order: Sequence[int], rank: int, names: Sequence[str]) -> FederatedError:
    kept, extra = list(order[:rank]), list(order[rank:])
    said = []
    for place in sorted(extra):
        shares = np.linalg.lstsq(scaled[np.ix_(kept, kept)], scaled[kept, place], rcond=None)[0]
        of = [names[int(one)] for one, share in sorted(zip(kept, shares, strict=True)) if abs(share) > 1e-6]
        said.append(f"{names[place]} is a combination of {' and '.join(of)}")
    return invalid_value(
        f"the inputs are collinear: {'; '.join(said)}",
        detail="Leave one of them out, or set a penalty.",
    )
