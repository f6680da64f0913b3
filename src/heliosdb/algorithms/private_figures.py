"""What a report under a budget says, read from the noised sum of all nodes' answers.

What always holds: every figure has the standard error that the privacy noise and the held-out subjects, as a
sample, give it together; one whose error leaves it no use is withheld, and a note says so; curves that can
only rise do. Rows count as parts of their subjects: those of one add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heliosdb.algorithms.measures import LARGEST_SUM, REGRESSION
from heliosdb.algorithms.private_curves import Noised, auc, calibration, calibration_error, roc
from heliosdb.algorithms.private_layout import EDGES, LARGEST_ERROR, PrivateLayout
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.mechanisms import Lattice

LARGEST_SHARE_ERROR = 0.1
"""Of a share, an area or a Brier score: as of an accuracy, see measures/evaluation.py."""

LARGEST_GROWTH_ERROR = 0.1
"""Of the growth of a loss, as a part of the loss of who knows nothing."""

_FEWEST = 3.0
"""Standard errors by which the count of subjects has to stand out before anything is divided by it."""

_DEVIATIONS = 40.0
"""Noise beyond so many standard deviations is never met."""

Report = dict[str, Any]


@dataclass(slots=True)
class Told:
    """The figures of a report, as JSON, and what noise has left no figure for."""

    figures: Report = field(default_factory=dict)
    withheld: list[str] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the round's message says."""
        if not self.withheld:
            return ()
        said = ", ".join(self.withheld)
        return (f"the report withholds {said}: privacy noise would leave them no use",)

    def put(self, name: str, value: float, error: float, largest: float, shown: str | None = None) -> None:
        """Take a figure and its standard error in, or withhold both."""
        if math.isfinite(value) and error <= largest:
            self.figures |= {name: value, f"{name}_std_error": error}
        else:
            self.withheld.append(shown or name)


def private_deviation(layout: PrivateLayout, noise_multiplier: float, noise_variance: float) -> float:
    """Return the standard deviation of the noise in every value of a sum; see `Lattice.std_of_sum`."""
    return Lattice.of(layout.sensitivity, noise_multiplier, layout.size).std_of_sum(noise_variance)


def private_report_fault(layout: PrivateLayout, vector: Vector, noise_multiplier: float) -> str | None:
    """Say what neither rows nor noise can have led to in one node's answer; None for nothing."""
    noise = _DEVIATIONS * private_deviation(layout, noise_multiplier, 1)
    if np.all(np.abs(vector) <= ROWS.most * layout.sensitivity + noise):
        return None
    return "a sum of its report is larger than any that subjects have"


def read_private_report(  # noqa: PLR0917
    layout: PrivateLayout,
    vector: Vector,
    deviation: float,
    labels: Sequence[str],
    features: Sequence[str],
    target_scale: float,
) -> Told:
    """Return what the sum of all answers says. deviation: of its noise. labels: of the classes."""
    blocks, told = layout.split(vector), Told()
    count, count_error = _count(layout, blocks, deviation)
    told.figures |= {"noised": True, "subjects": max(0, round(count)), "subjects_std_error": count_error}
    if count < max(1.0, _FEWEST * count_error):
        told.withheld.append("all figures")
        return told
    if layout.classes == 0:
        _tell_number(told, layout, blocks["boxes"], deviation, target_scale)
    elif layout.classes == 2:
        _tell_two_classes(told, Noised(blocks["cells"], deviation), labels)
    else:
        _tell_classes(told, Noised(blocks["confusion"], deviation), labels)
    if blocks["growths"].size:
        unit = 1.0 if layout.classes else 2.0 * target_scale * target_scale
        largest = LARGEST_GROWTH_ERROR * (math.log(layout.classes) if layout.classes else 0.5)
        _tell_importance(told, blocks["growths"], (count, count_error, deviation), features, (unit, largest))
    return told


def _count(layout: PrivateLayout, blocks: Mapping[str, Vector], deviation: float) -> tuple[float, float]:
    """Return about how many subjects are held out, and the standard error."""
    if layout.classes == 0:
        return 2.0 * float(blocks["boxes"][-1]), 2.0 * deviation
    block = blocks["cells" if layout.classes == 2 else "confusion"]
    return float(block.sum()), deviation * math.sqrt(block.size)


def _tell_two_classes(told: Told, cells: Noised, labels: Sequence[str]) -> None:
    whole = np.ones(cells.counts.shape)
    above = whole * (np.arange(cells.counts.shape[1]) > np.searchsorted(EDGES, 0.0))
    positive = whole * np.array([[0.0], [1.0]])
    hits = above * positive
    shares = {
        "accuracy": (hits + (1.0 - above) * (1.0 - positive), whole),
        "precision": (hits, above),
        "recall": (hits, positive),
        "f1_score": (2.0 * hits, above + positive),
    }
    for name, (chosen, of) in shares.items():
        told.put(name, *cells.share(chosen, of), LARGEST_SHARE_ERROR)
    told.put("brier", *_brier(cells, positive), LARGEST_SHARE_ERROR)
    found = auc(cells)
    told.put("auc", *found, LARGEST_SHARE_ERROR)
    quarters = [
        [(1.0 - above) * (1.0 - positive), (1.0 - above) * positive],
        [above * (1.0 - positive), hits],
    ]
    counts = np.array([[float((cells.counts * one).sum()) for one in line] for line in quarters])
    _tell_confusion(told, counts, cells.deviation * math.sqrt(float(hits.sum())), labels)
    if "auc" in told.figures:
        told.figures["roc"] = roc(cells)
    told.figures["calibration"] = calibration(cells)
    told.figures |= calibration_error(cells)


def _brier(cells: Noised, positive: Matrix) -> tuple[float, float]:
    """Return the mean square of the probabilities' errors, those of a cell all being its middle's."""
    squares = np.square(cells.middles - positive)
    mean, noise = cells.mean(squares, np.ones(squares.shape))
    spread = max(0.0, cells.mean(np.square(squares), np.ones(squares.shape))[0] - mean * mean)
    return min(1.0, max(0.0, mean)), math.hypot(noise, math.sqrt(spread / float(cells.counts.sum())))


def _tell_classes(told: Told, confused: Noised, labels: Sequence[str]) -> None:
    """Rows: predicted; columns: actual. Precision, recall and F1 are means over the classes."""
    whole, diagonal = np.ones(confused.counts.shape), np.eye(len(confused.counts))
    told.put("accuracy", *confused.share(diagonal, whole), LARGEST_SHARE_ERROR)
    found: dict[str, list[tuple[Matrix, Matrix]]] = {"precision": [], "recall": [], "f1_score": []}
    for place in range(len(confused.counts)):
        predicted, actual = np.zeros(whole.shape), np.zeros(whole.shape)
        predicted[place], actual[:, place] = 1.0, 1.0
        hits = predicted * actual
        found["precision"].append((hits, predicted))
        found["recall"].append((hits, actual))
        found["f1_score"].append((2.0 * hits, predicted + actual))
    for name, shares in found.items():
        told.put(name, *confused.mean_share(shares), LARGEST_SHARE_ERROR)
    _tell_confusion(told, confused.counts, confused.deviation, labels)


def _tell_confusion(told: Told, counts: Matrix, error: float, labels: Sequence[str]) -> None:
    """Withhold a table of which a count of the mean size would drown."""
    if error > 0.5 * float(counts.sum()) / counts.size:
        told.withheld.append("the confusion matrix")
        return
    shown = [[max(0, round(one)) for one in line] for line in counts.tolist()]
    told.figures["confusion"] = {"labels": list(labels), "counts": shown, "std_error": error}


def _tell_number(
    told: Told, layout: PrivateLayout, total: Vector, deviation: float, target_scale: float
) -> None:
    """R² is `r2`; errors are in the target's units."""
    means = layout.boxes.read(total, deviation)
    found = REGRESSION.read_private(total[1:], deviation, target_scale).figures
    if found.accuracy is None or found.accuracy_error is None:
        told.withheld.append("r2")
    else:
        told.figures |= {"r2": found.accuracy, "r2_std_error": found.accuracy_error}
    if found.rmse is None or found.loss_error is None or found.rmse <= 0.0:
        told.withheld.append("rmse")
    else:
        told.figures |= {"rmse": found.rmse, "rmse_std_error": found.loss_error / (2.0 * found.rmse)}
    if means is None:
        return
    size = means.values[0]
    spread = math.sqrt(size * (LARGEST_ERROR - size) / means.count)
    error = math.hypot(means.error(1.0, 0.0, 0.0, 0.0), spread)
    unit = min(target_scale, LARGEST_SUM)
    told.put("mae", size * unit, error * unit, 0.25 * unit)


def _tell_importance(
    told: Told,
    growths: Vector,
    noised: tuple[float, float, float],
    features: Sequence[str],
    scale: tuple[float, float],
) -> None:
    """Tell [feature, growth of the mean loss, its standard error], the largest first.

    noised: count of subjects, its error, and the noise's deviation. scale: the loss's unit, and the largest
    error in nats or halves of squares.
    """
    (count, count_error, deviation), (unit, largest) = noised, scale
    means = growths / count
    # What single subjects' growths are spread by is not released: 1 at most, to which they are cut.
    sampled = np.sqrt(np.maximum(0.0, 1.0 - np.square(means)) / count)
    errors = np.sqrt((deviation / count) ** 2 + np.square(means * count_error / count) + np.square(sampled))
    if float(deviation / count) > largest:
        told.withheld.append("the importance of features")
        return
    means = np.clip(means, -1.0, 1.0)
    told.figures["importance"] = [
        [features[one], float(means[one]) * unit, float(errors[one]) * unit]
        for one in np.argsort(-means, kind="stable").tolist()
    ]
