"""Figures of more than two classes are those of scikit-learn; sums that no rows have are refused."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

from heliosdb.algorithms.measures import CLASSIFICATION, REGRESSION, MultiClassification, measure
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.mechanisms import Lattice, add_noise

Rows = tuple[Vector, Matrix, Vector]


def rows_of(count: int, classes: int, seed: int, drawn: int | None = None) -> Rows:
    """Losses, scores and targets; drawn: of how many of the classes there are rows."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, drawn or classes, count).astype(float)
    scores = rng.normal(size=(count, classes))
    scores[np.arange(count), targets.astype(int)] += 1.0
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(count), targets.astype(int)]
    return losses, scores, targets


def test_so_many_classes_have_their_measure() -> None:
    assert (measure(0), measure(2)) == (REGRESSION, CLASSIFICATION)
    assert measure(7) == MultiClassification(7)


@pytest.mark.parametrize(("classes", "drawn", "count"), [(3, 3, 500), (10, 10, 300), (10, 4, 60), (5, 1, 30)])
@pytest.mark.parametrize("nodes", [1, 4])
def test_figures_are_those_of_scikit_learn_on_the_pooled_rows(
    classes: int, drawn: int, count: int, nodes: int
) -> None:
    losses, scores, targets = rows_of(count, classes, count, drawn)
    how = measure(classes)
    total = np.zeros(how.plain_size)
    for part in np.array_split(np.arange(count), nodes):
        sums = how.plain_sums(losses[part], scores[part], targets[part])
        assert how.plain_fault(sums) is None
        total += sums
    found, predicted = how.read_plain(total, 1.0).figures, scores.argmax(axis=1)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert found.loss == pytest.approx(log_loss(targets, probabilities, labels=range(classes)))
    assert found.accuracy == pytest.approx(accuracy_score(targets, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.precision == pytest.approx(precision_score(targets, predicted, average="macro"))
        assert found.recall == pytest.approx(recall_score(targets, predicted, average="macro"))
        assert found.f1_score == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert found.start_loss == pytest.approx(math.log(classes))
    if drawn > 1:
        rates = np.tile(np.bincount(targets.astype(int), minlength=classes) / count, (count, 1))
        assert found.base_loss == pytest.approx(log_loss(targets, rates, labels=range(classes)))
    assert found.base_loss is not None
    assert found.base_loss > 0.0


def test_of_equal_scores_the_first_class_is_predicted() -> None:
    sums = measure(3).plain_sums(np.full(6, math.log(3)), np.zeros((6, 3)), np.array([0.0, 0, 1, 1, 2, 2]))
    found = measure(3).read_plain(sums, 1.0).figures
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(1 / 9)


def test_no_rows_have_no_figures() -> None:
    sums = measure(4).plain_sums(np.empty(0), np.empty((0, 4)), np.empty(0))
    assert not sums.any()
    assert measure(4).read_plain(sums, 1.0).figures.loss is None


@pytest.mark.parametrize(
    ("place", "by"), [(3, 1.0), (6, 1.0), (9, 1.0), (3, 0.5), (1, -1e9), (1, 1e9), (2, -1e9), (0, 1.0)]
)
def test_sums_that_no_rows_have_are_refused(place: int, by: float) -> None:
    losses, scores, targets = rows_of(40, 3, 3)
    # All right: one more of anything cannot be.
    scores[np.arange(40), targets.astype(int)] += 100.0
    sums = measure(3).plain_sums(losses, scores, targets)
    assert measure(3).plain_fault(sums) is None
    sums[place] += by
    assert measure(3).plain_fault(sums) is not None


@pytest.mark.parametrize("classes", [3, 50])
def test_a_private_answer_adds_no_more_than_its_sensitivity_and_is_read_back(classes: int) -> None:
    how = measure(classes)
    corners = itertools.product(*((box.lower, box.upper) for box in how.boxes.boxes))
    lengths = [np.linalg.norm(how.boxes.coordinates(np.array(one).reshape(-1, 1))) for one in corners]
    assert max(lengths) <= how.boxes.sensitivity * (1.0 + 1e-12)
    assert how.boxes.sensitivity == pytest.approx(how.noise.sensitivity)
    losses, scores, targets = rows_of(4000, classes, 9)
    vector = how.boxes.coordinates(how.row_values(losses, scores, targets)).sum(axis=1)
    noised = add_noise(np.rint(vector * 2.0**20) / 2.0**20, how.boxes.sensitivity, 1.0)
    found = how.read_private(noised, Lattice.of(how.boxes.sensitivity, 1.0, how.boxes.size).std, 1.0).figures
    assert found.accuracy == pytest.approx(float((scores.argmax(axis=1) == targets).mean()), abs=0.01)
    assert found.loss == pytest.approx(float(losses.mean()), abs=0.05)
    assert found.base_loss == pytest.approx(math.log(classes))
