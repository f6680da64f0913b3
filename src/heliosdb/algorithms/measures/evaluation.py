"""What an evaluation found, and what all figures share: errors of shares and means, and what noise leaves.

What always holds: a figure whose error is too large to be of use is withheld with a note, never shown; sums
that no rows can have are told apart without looking at a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heliosdb.domain.events import Figures

LARGEST_LOSS_ERROR = 0.5
"""As a part of the base rate's loss: beyond it, two errors cannot tell a perfect model from none."""

LARGEST_LOSS = 1e140
"""A row's loss counts up to this in a plain evaluation, so that the sum of their squares is a number."""

LARGEST_SUM = 1e300
"""Of one value of a plain answer: the square of the largest location."""

TOLERANCE = 1e-9
"""How far rounding may carry a sum over as many rows as there may be, as a part of it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of an evaluation. count: rows, or where private a noisy count of subjects.

    notes: what noise has left no figure for.
    """

    figures: Figures
    count: float
    notes: Sequence[str] = ()


NOBODY = Evaluation(Figures(None, None), 0.0)


def share_error(chosen: float, of: float) -> float:
    """Return the standard error of a share, after Agresti and Coull 1998: not 0 where all or none are."""
    share = min(1.0, max(0.0, (chosen + 2.0) / (of + 4.0)))
    return math.sqrt(share * (1.0 - share) / (of + 4.0))


def standard_error(square: float, rows: float) -> float | None:
    """Return that of a mean, from the mean square about it; None where one row says nothing of it."""
    return math.sqrt(max(0.0, square) / (rows - 1.0)) if rows > 1.0 else None


def nobody_left() -> Evaluation:
    """Return the evaluation in which noise has drowned the count."""
    return Evaluation(
        Figures(None, None), 0.0, ("no loss and accuracy: noise has left no count of subjects",)
    )


def kept(found: Figures, count: float, largest: float) -> Evaluation:
    """Withhold what has too large an error to be of use, and say so."""
    notes = []
    loss, loss_error, base = found.loss, found.loss_error, found.base_loss
    assert loss_error is not None
    assert base is not None
    if loss_error > LARGEST_LOSS_ERROR * base:
        part = f"{loss_error / base:.2g} times the loss of the base rate"
        notes.append(f"the loss is withheld: its standard error would be {part}")
        loss = loss_error = None
    accuracy, accuracy_error = found.accuracy, found.accuracy_error
    assert accuracy_error is not None
    if accuracy_error > largest:
        said = f"{accuracy_error:.2g}" if math.isfinite(accuracy_error) else "larger than any figure"
        notes.append(f"the accuracy is withheld: its standard error would be {said}")
        accuracy = accuracy_error = None
    return Evaluation(Figures(loss, accuracy, loss_error, accuracy_error, base), count, tuple(notes))


def moments_fault(rows: float, values: float, squares: float, what: str) -> str | None:
    """Say where a sum and a sum of squares are of no rows.

    By Cauchy and Schwarz: sum² ≤ rows x sum of squares; of numbers that are not negative also the sum of
    squares ≤ sum².
    """
    if not (0.0 <= values <= LARGEST_SUM and 0.0 <= squares <= LARGEST_SUM):
        return f"its {what} have sums that no rows have"
    if values > math.sqrt(rows) * math.sqrt(squares) * (1.0 + TOLERANCE) + rows * 1e-150:
        return f"no {rows:g} {what} have the sum {values:g} and the sum of squares {squares:g}"
    return None
