"""What a report says, read from the sums of its answers: of all nodes together, and of one.

What always holds: what is said is JSON, and what is not defined there is null: AUC where only one class is
held out, a bin of the calibration without rows, R² of targets that are all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heliosdb.algorithms import cells
from heliosdb.algorithms.importance import SHUFFLES
from heliosdb.algorithms.measures import LARGEST_SUM
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.domain.vector import Matrix, Vector

Report = Mapping[str, Any]

ROC_STEP = 0.01
"""Points of a ROC curve are at least so far apart, the two rates added."""

TOLERANCE = 1e-6
"""How far sums of spread counts may be off, as a part of them."""


def read_report(
    layout: ReportLayout, vector: Vector, labels: Sequence[str], features: Sequence[str], target_scale: float
) -> Report:
    """Return what the sum of all answers says. labels: of the classes."""
    blocks = layout.split(vector)
    found = dict(read_figures(layout, vector, target_scale))
    if not found["rows"]:
        return found
    if layout.classes == 2:
        told = blocks["cells"]
        if blocks["head"][4] >= 1.0:
            found["confusion"] = _confusion(labels, _two_by_two(blocks["head"]))
        found["roc"] = _roc(told[0], told[1])
        found["calibration"] = _calibration(told)
    elif blocks["confusion"].size:
        found["confusion"] = _confusion(labels, blocks["confusion"])
    found["importance"] = _importance(layout, blocks, features, target_scale)
    explained = float(blocks["explained"][0])
    if explained >= 1.0:
        means = blocks["contributions"] / explained
        found["explanation"] = {"rows": int(explained), "means": means.tolist()}
    return found


def read_figures(layout: ReportLayout, vector: Vector, target_scale: float) -> Report:
    """Return the single figures."""
    blocks = layout.split(vector)
    head, quality = blocks["head"], float(blocks["quality"][0])
    rows = float(head[0])
    if rows < 1.0:
        return {"rows": 0}
    figures = layout.measure.read_plain(head, target_scale).figures
    found: dict[str, Any] = {"rows": int(rows), "accuracy": figures.accuracy}
    if layout.classes == 0:
        found["mae"] = min(quality / rows * target_scale, LARGEST_SUM)
        found |= {"rmse": figures.rmse, "r2": found.pop("accuracy")}
        return found
    found |= {"loss": figures.loss, "precision": figures.precision, "recall": figures.recall}
    found |= {"f1_score": figures.f1_score, "brier": quality / rows}
    if layout.classes == 2:
        found["auc"], found["auc_std_error"] = _auc(blocks)
    return found


def report_fault(layout: ReportLayout, vector: Vector) -> str | None:
    """Say what no held-out rows can have led to; None for nothing. What is about all rows is bounded."""
    blocks = layout.split(vector)
    rows = float(blocks["head"][0])
    if not (rows >= 0.0 and rows.is_integer()):
        return f"the {rows:g} rows that it measures are no number of rows"
    if rows == 0.0 and any(np.any(one) for name, one in blocks.items() if name != "outliers"):
        return "it measures predictions of no rows"
    fault = layout.measure.plain_fault(blocks["head"]) or _sums_fault(layout, blocks, rows)
    return fault or _classes_fault(layout, blocks)


def _sums_fault(layout: ReportLayout, blocks: Mapping[str, Vector], rows: float) -> str | None:
    most = rows * 2.0 if layout.classes else LARGEST_SUM
    outliers = blocks["outliers"]
    if not 0.0 <= float(blocks["quality"][0]) <= most * (1.0 + TOLERANCE):
        return "the errors of its probabilities or predictions have a sum that no rows have"
    if not np.all(np.abs(blocks["importance"]) <= LARGEST_SUM):
        return f"a sum of its losses' growth is larger than {LARGEST_SUM:g}"
    if not 0.0 <= float(blocks["shuffled"][0]) <= rows:
        return "it shuffled more rows than it has"
    if np.any(outliers < 0.0) or np.any(outliers != np.rint(outliers)):
        return "its outliers are no numbers of rows"
    return _contributions_fault(blocks, rows)


def _contributions_fault(blocks: Mapping[str, Vector], rows: float) -> str | None:
    explained, contributions = float(blocks["explained"][0]), blocks["contributions"]
    if not 0.0 <= explained <= rows or not explained.is_integer():
        return "it explained more rows than it has"
    if np.any(contributions < 0.0) or np.any(contributions > LARGEST_SUM):
        return f"a sum of sizes of contributions is below 0 or larger than {LARGEST_SUM:g}"
    if not explained and np.any(contributions):
        return "it tells contributions of no rows"
    return None


def _classes_fault(layout: ReportLayout, blocks: Mapping[str, Vector]) -> str | None:
    head = blocks["head"]
    if layout.classes == 2:
        rows, told = float(head[0]), blocks["cells"]
        negatives, positives = (float(np.rint(one)) for one in told.sum(axis=1)[:2])
        off = np.abs(told.sum(axis=1)[:2] - np.array([negatives, positives]))
        if negatives + positives not in {0.0, rows} or (head[4] and positives not in {0.0, float(head[7])}):
            return "the cells of its probabilities do not hold its rows"
        sum_of_probabilities = float(told[2].sum())
        possible = -TOLERANCE * rows <= sum_of_probabilities <= rows * (1.0 + TOLERANCE)
        if np.any(told[:2] < 0.0) or np.any(off > TOLERANCE * rows) or not possible:
            return "the cells of its probabilities do not hold its rows"
        better, own = map(float, blocks["correction"])
        if own != negatives * positives or abs(better) > own * (1.0 + TOLERANCE):
            return "its pairs of rows are not those that it has"
    elif blocks["confusion"].size:
        confusion = blocks["confusion"]
        predicted, actual = head[5 + layout.classes :].reshape(2, layout.classes)
        whole = bool(np.all(confusion >= 0.0)) and bool(np.all(confusion == np.rint(confusion)))
        known = bool(head[4])
        fits = np.all(confusion.sum(axis=1) <= predicted) and np.all(confusion.sum(axis=0) <= actual)
        if not (whole and (fits if known else confusion.sum() <= head[0])):
            return "its confusion matrix is not that of its rows"
    return None


def _auc(blocks: Mapping[str, Vector]) -> tuple[float | None, float | None]:
    """Return the area under the ROC curve, and its standard error (Hanley and McNeil 1982).

    The cells know pairs of rows worse than they are. By how much is known of pairs within a node, and taken
    to be the same of the others: so the area of one node's rows is exact.
    """
    told = blocks["cells"]
    negatives, positives = map(float, np.rint(told.sum(axis=1)[:2]))
    if negatives < 1.0 or positives < 1.0:
        return None, None
    better, own = map(float, blocks["correction"])
    area = cells.ordered_pairs(told[0], told[1]) / (negatives * positives) + (better / own if own else 0.0)
    area = min(1.0, max(0.0, area))
    positive_term = (positives - 1.0) * (area / (2.0 - area) - area * area)
    negative_term = (negatives - 1.0) * (2.0 * area * area / (1.0 + area) - area * area)
    variance = (area * (1.0 - area) + positive_term + negative_term) / (negatives * positives)
    return area, math.sqrt(max(0.0, variance))


def _two_by_two(head: Vector) -> Matrix:
    rows, right, predicted, positives = map(float, head[4:])
    missed, wrong = positives - right, predicted - right
    return np.array([[rows - positives - wrong, missed], [wrong, right]])


def _confusion(labels: Sequence[str], counts: Matrix) -> Report:
    """Rows: predicted; columns: actual."""
    return {"labels": list(labels), "counts": [[round(one) for one in row] for row in counts.tolist()]}


def _roc(negatives: Vector, positives: Vector) -> list[list[float | None]]:
    """Return [threshold, false positive rate, true positive rate], the threshold falling; that of the first
    point, which nothing reaches, is null, and so are rates of a class that has no rows."""
    false, true = (_reached(one) for one in (negatives, positives))
    moved = np.nan_to_num(false) + np.nan_to_num(true)
    points: list[list[float | None]] = []
    last = -math.inf
    for place in range(cells.CELLS, -1, -1):
        if moved[place] - last < ROC_STEP and place > 0:
            continue
        last = float(moved[place])
        threshold = None if place == cells.CELLS else float(cells.PROBABILITIES[place])
        points.append([threshold, _number(false[place]), _number(true[place])])
    return points


def _reached(counts: Vector) -> Vector:
    """Return which part of the rows has at least the probability of each edge; (CELLS + 1,)."""
    above: Vector = np.concatenate([[0.0], np.cumsum(counts[::-1])])[::-1]
    return above / above[0] if above[0] >= 0.5 else np.full(above.size, np.nan)


def _calibration(told: Matrix) -> list[list[float | int | None]]:
    """Return [bin, mean probability, share of positives, rows] of ten bins of probability."""
    bins = told.reshape(3, cells.TENTHS, cells.CELLS_A_TENTH).sum(axis=2).T
    found: list[list[float | int | None]] = []
    for number, (negatives, positives, probability) in enumerate(bins.tolist(), 1):
        count = negatives + positives
        if count < 0.5:
            found.append([number, None, None, 0])
        else:
            # A node that tells a sum of probabilities elsewhere than at its rows is not believed.
            least, most = (number - 1) / cells.TENTHS, number / cells.TENTHS
            mean = min(most, max(least, probability / count))
            found.append([number, mean, positives / count, round(count)])
    return found


def _importance(
    layout: ReportLayout, blocks: Mapping[str, Vector], features: Sequence[str], target_scale: float
) -> list[list[str | float | None]]:
    """Return [feature, growth of the mean loss, its standard error over the shuffles], the largest first."""
    rows = max(1.0, float(blocks["shuffled"][0]))
    unit = 1.0 if layout.classes else 2.0 * target_scale * target_scale
    with np.errstate(over="ignore"):
        means = np.clip(blocks["importance"] / rows * unit, -LARGEST_SUM, LARGEST_SUM)
    middle = means.mean(axis=1)
    with np.errstate(over="ignore"):
        spread = np.minimum(means.std(axis=1, ddof=1), LARGEST_SUM) / math.sqrt(SHUFFLES)
    order = np.argsort(-middle, kind="stable")
    return [[features[one], float(middle[one]), float(spread[one])] for one in order]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
