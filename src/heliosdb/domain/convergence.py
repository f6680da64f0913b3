"""What the losses of a run say: whether it has converged, has risen again or diverged, and which round is the
best.

Losses are in parts of the loss of the base rate (see `Figures.base_loss`), so that no unit and no rare class
changes what a threshold means. With P = early_stopping_rounds, the last 2P evaluations, the first P of them
called before and the last P after:

    improvement = mean(before) - mean(after)
    error       = sqrt(var(before) / P + var(after) / P)
    flat        iff  improvement + 2 error < convergence_threshold
    risen       iff  mean(after) > best + convergence_threshold + 2 sqrt(var(after) + noise of the best ^ 2)
    converged   iff  flat and not risen

Comparing two consecutive losses stops a run at the first slow or unlucky round, and comparing with the best
one so far never stops a noisy one that has long been flat. Here one odd round is one of 2P; and a run is
stopped only where the improvement is below the threshold even at the optimistic end of its 95 % interval,
so a loss too noisy to tell does not stop a run. A steady slope within the window counts as spread too,
which again errs towards going on. A single best loss is lucky by about the spread of the window, which is
why a window is held to have risen above it only beyond that.

    diverged    iff  the last loss is not finite; or it is not the least of the last P, and each of these is
                     larger than that of the base rate, by a tenth of it and by more than two errors (or
                     twice that), and than the best so far or that of the model with which training began,
                     by more than two errors of noise

What always holds: every answer is a pure function of the losses, and nothing in it overflows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from heliosdb.domain.events import Figures
from heliosdb.domain.ids import RoundNumber

_BY_FAR = 0.1
"""Of the base rate's loss: a model that is no worse than by this has learned nothing, and is not gone."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The loss of an evaluated round, in parts of the base rate's.

    error: its standard error. noise: the part of that by which rounds of one run differ: none without a
    budget, since all are measured on the same rows. start: the loss of the model with which training began.
    has_base False: its algorithm knows no base rate, the
    loss is as it is, and says only which round is better than another.
    """

    round: RoundNumber
    loss: float
    error: float = 0.0
    noise: float = 0.0
    start: float = 1.0
    has_base: bool = True

    @property
    def is_useful(self) -> bool:
        """Whether it is better than the base rate beyond its noise, as far as that is known."""
        return not self.has_base or self.loss + _errors(self.noise) < 1.0

    @property
    def is_useless(self) -> bool:
        """Whether it is worse than the base rate by far and beyond its error, as far as that is known.

        By far: where all losses are nearly those of a coin, their spread says nothing of how far a model
        without signal lies above the base rate of the held-out rows, which no model knows.
        Of a loss of twice the base rate's no more is asked than that it is not noise: where a few rows carry
        a loss, its error as a sample is as large.
        """
        beyond = min(_errors(self.error), 1.0 + _errors(self.noise))
        return self.has_base and self.loss - 1.0 > max(beyond, _BY_FAR)


Trace = tuple[Measured, ...]
"""The evaluated rounds of a run, oldest first."""


def measured(number: RoundNumber, figures: Figures | None, *, noised: bool) -> Trace:
    """Return what a round adds to the trace: nothing where it has no loss. noised: whether it has noise."""
    if figures is None or figures.loss is None:
        return ()
    base = figures.base_loss or 1.0
    error = (figures.loss_error or 0.0) / base
    return (
        Measured(
            number,
            figures.loss / base,
            error,
            error if noised else 0.0,
            (figures.start_loss or base) / base,
            has_base=figures.base_loss is not None,
        ),
    )


def best_round(trace: Sequence[Measured]) -> Measured | None:
    """Return the latest round whose loss is the smallest, or above it by no more than two errors of noise.

    It is the last round, or else what it was before: so of all rounds the best and the last are enough to go
    on from.
    """
    finite = [one for one in trace if math.isfinite(one.loss)]
    if not finite:
        return None
    least = min(finite, key=lambda one: one.loss)
    near = (one for one in reversed(finite) if one.loss - least.loss <= _errors(one.noise, least.noise))
    return next(near)


def converged(trace: Sequence[Measured], threshold: float, patience: int) -> bool:
    """Say whether the loss is flat, and near its best. threshold: ≥ 0; patience: P ≥ 1."""
    return _is_flat(trace, threshold, patience) and not _is_above(trace, threshold, patience)


def risen(trace: Sequence[Measured], threshold: float, patience: int) -> bool:
    """Say whether the loss improves no more, and lies above its best."""
    return _is_flat(trace, threshold, patience) and _is_above(trace, threshold, patience)


def diverged(trace: Sequence[Measured], patience: int) -> bool:
    """Say whether training has gone away from every useful model: see the module's rule."""
    window = trace[-patience:]
    if window and not math.isfinite(window[-1].loss):
        return True
    recovers = len(window) > 1 and window[-1].loss == min(one.loss for one in window)
    return len(window) == patience and not recovers and _is_gone(trace, window)


def ended_diverged(trace: Sequence[Measured], patience: int) -> bool:
    """Say the same at a run's end: a short one's second half is enough, and nothing recovers any more."""
    return bool(trace) and _is_gone(trace, trace[-min(patience, (len(trace) + 1) // 2) :])


def _is_gone(trace: Sequence[Measured], window: Sequence[Measured]) -> bool:
    if not all(math.isfinite(one.loss) for one in window):
        return not math.isfinite(window[-1].loss)
    least = min((one for one in trace if math.isfinite(one.loss)), key=lambda one: one.loss)
    return all(
        one.is_useless and one.loss - min(least.loss, one.start) > _errors(one.noise, least.noise)
        for one in window
    )


def _errors(*errors: float) -> float:
    return 2.0 * math.hypot(*errors)


def _is_flat(trace: Sequence[Measured], threshold: float, patience: int) -> bool:
    if patience < 1:
        raise ValueError("patience must be at least 1")
    window = [one.loss for one in trace[-2 * patience :]]
    if len(window) < 2 * patience or not all(map(math.isfinite, window)):
        return False
    unit = _unit(window)
    before, after = _in_units(window[:patience], unit), _in_units(window[patience:], unit)
    error = math.sqrt((_variance(before) + _variance(after)) / patience)
    return fmean(before) - fmean(after) + 2.0 * error < threshold / unit


def _is_above(trace: Sequence[Measured], threshold: float, patience: int) -> bool:
    window = [one.loss for one in trace[-patience:]]
    best = min((one for one in trace if math.isfinite(one.loss)), key=lambda one: one.loss)
    unit = _unit(window)
    after = _in_units(window, unit)
    spread = math.hypot(math.sqrt(_variance(after)), best.noise / unit)
    return fmean(after) - best.loss / unit > threshold / unit + 2.0 * spread


def _unit(losses: Sequence[float]) -> float:
    """The unit in which losses are at most 1, so that no square of them and no sum overflows."""
    return max(1.0, *map(abs, losses))


def _in_units(losses: Sequence[float], unit: float) -> list[float]:
    return [loss / unit for loss in losses]


def _variance(losses: Sequence[float]) -> float:
    """With one loss there is no spread to see."""
    return variance(losses) if len(losses) > 1 else 0.0


def losses_of(trace: Trace) -> str:
    """Say the last loss and the best one, as parts of the base rate's."""
    best, last = best_round(trace), trace[-1]
    times, of_base = ("times ", "that of the base rate") if last.has_base else ("", "")
    said = f"its loss is {last.loss:.3g} {times}{of_base}".rstrip()
    if best is None or best.round == last.round:
        return said
    return f"{said}, after {best.loss:.3g} {times}in round {best.round}"
