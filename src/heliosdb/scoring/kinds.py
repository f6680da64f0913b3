"""The kinds of predictions that numpy computes, by name.

What always holds: a kind's module is imported when a version of that kind is scored, and not before; the
name comes from a stored version, and what is not listed here is an error.

**To add a kind**, write `heliosdb/scoring/NAME.py` with a function `score` as `Score` says, and list it in
`_KINDS`. The algorithm returns `Prediction(kind=NAME, content={"link": …, …}, arrays={…})`, and its numbers
come back here as they were stored. It may compute its steps by the same function. Where numbers must be
arranged before rows can be scored, the module has `prepare` too, as `Prepare` says: a session calls it once.
Where one row by itself is worth a way of its own, it has `prepare_row`, as `PrepareRow` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State

Rows = NDArray[np.float64]
"""(n, inputs); what is missing is NaN. Inputs are unscaled, in the order of `Encoding.inputs`."""

LINKS: Final = ("identity", "exp", "logistic", "softmax")
"""What `content["link"]` says of a prediction: a number, a number above zero, the probability of the second
of two classes, the probabilities of all classes."""

_SLOPES = frozenset({"slopes", "fills", "shifts"})
_TARGET = frozenset({"target_mean", "target_scale"})
COMPUTING: Final[Mapping[str, frozenset[str]]] = {
    "linear": _SLOPES | _TARGET | {"link", "intercept"},
    "softmax_linear": _SLOPES | {"link", "intercepts"},
    "network": _TARGET | {"link", "activations"},
    "convolution": _TARGET | {"link", "activations", "image", "groups", "activation"},
    "series": _TARGET | {"link", "activations", "front", "body"},
    "trees": _TARGET | {"link", "boosts"},
    "votes": frozenset({"link", "labels", "votes", "margin", "voters"}),
}
"""Of a kind's content what computes it. Beside that a version may have figures of how it was found, which
leave neither with a delivery nor with a file."""


class Score(Protocol):
    """How rows are scored: a pure function of a version's numbers and the rows."""

    def __call__(self, content: Mapping[str, Any], arrays: State, inputs: Rows) -> NDArray[np.float64]:
        """Return (n,), or (n, classes) where `content["link"]` is softmax.

        Links are applied: what is returned is in the target's units, or probabilities, each finite for
        every row, also for one whose inputs are all missing or as large as floats are. content and arrays:
        those of the algorithm's Prediction. inputs must not be changed.
        """
        ...


Scored = Callable[[Rows], NDArray[np.float64]]
"""Rows to what `Score` returns, with a version's numbers in place."""


class Prepare(Protocol):
    """What is done once for a version that many rows are scored by."""

    def __call__(self, content: Mapping[str, Any], arrays: State) -> Scored:
        """Return what scores rows as `score` does with the same content and arrays, to the same bits."""
        ...


Row = NDArray[np.float64]
"""(inputs,), as a row of `Rows`."""

ScoredRow = Callable[[Row], float | NDArray[np.float64]]
"""One row to its number, or to (classes,)."""


class PrepareRow(Protocol):
    """What is done once for a version that is asked row by row."""

    def __call__(self, content: Mapping[str, Any], arrays: State) -> ScoredRow:
        """Return what scores a row as `Scored` does, but for rounding. It may keep buffers: who calls it has
        one thread."""
        ...


_KINDS: Final = {
    "linear": "heliosdb.scoring.linear",
    "softmax_linear": "heliosdb.scoring.linear",
    "network": "heliosdb.scoring.network",
    "convolution": "heliosdb.scoring.convolution",
    "series": "heliosdb.scoring.series",
    "trees": "heliosdb.scoring.trees",
    "votes": "heliosdb.scoring.votes",
}


def find_kind(kind: str) -> Score:
    """Return how versions of a kind are scored. FederatedError NOT_SUPPORTED where it is not known."""
    return cast(Score, _module(kind).score)


def prepare(kind: str, content: Mapping[str, Any], arrays: State) -> Scored:
    """Return how rows are scored by a version. FederatedError NOT_SUPPORTED where its kind is not known."""
    module = _module(kind)
    if hasattr(module, "prepare"):
        return cast(Prepare, module.prepare)(content, arrays)
    return partial(cast(Score, module.score), content, arrays)


def prepare_row(kind: str, content: Mapping[str, Any], arrays: State, scored: Scored) -> ScoredRow:
    """Return how one row is scored by a version, of which `scored` scores many."""
    module = _module(kind)
    if hasattr(module, "prepare_row"):
        return cast(PrepareRow, module.prepare_row)(content, arrays)
    return partial(_one_of_many, scored)


def _one_of_many(scored: Scored, inputs: Row) -> float | NDArray[np.float64]:
    with np.errstate(all="ignore"):
        found = scored(inputs[None])[0]
    return found if found.ndim else float(found)


def _module(kind: str) -> ModuleType:
    if kind not in _KINDS:
        raise FederatedError(ErrorCode.NOT_SUPPORTED, f'there are no predictions of kind "{kind}"')
    return import_module(_KINDS[kind])


def scale(inputs: Rows, arrays: State) -> Rows:
    """Return inputs less `arrays["means"]`, divided by `arrays["scales"]` (each of length inputs); what is
    missing is 0, the mean."""
    scaled = (inputs - arrays["means"]) / arrays["scales"]
    return np.nan_to_num(scaled, copy=False, nan=0.0)
