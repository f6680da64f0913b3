"""Figures of weighted rows: those of the nodes' evaluations, of oracles, and of as many equal rows as weights say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from heliosdb.algorithms.concordance import count_pairs
from heliosdb.algorithms.families import log_loss, softmax_losses
from heliosdb.algorithms.measures import REGRESSION, measure
from heliosdb.scoring.evaluated import COLUMNS, read_rows, reduce_block
from heliosdb.scoring.figures import measure_of

ROWS = 500
KINDS = ("binary", "classes", "number", "counts", "survival")


def measured(kind: str, values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    order = np.argsort(values[:, 0], kind="stable")
    found = measure_of(kind, values[order], 3)
    with np.errstate(all="ignore"):
        for _ in found.prepare(weights[order]):
            pass
        return dict(zip(found.names, found.figures(weights[order]).tolist(), strict=True))


def reduced(kind: str, scores: np.ndarray, target: np.ndarray, **columns: np.ndarray) -> np.ndarray:
    plain = {"event": 1.0, "weight": 1.0, "offset": 0.0, "subject": 0.0, "subject_low": 0.0}
    given = [columns.get(name, np.full(len(target), plain.get(name, 0.0))) for name in COLUMNS[1:]]
    return reduce_block(kind, scores, np.column_stack([target, *given]), None)


def test_two_classes_are_judged_as_nodes_judge_them() -> None:
    rng = np.random.default_rng(1)
    scores, y = np.round(rng.normal(size=ROWS), 1), (rng.random(ROWS) < 0.3).astype(float)
    chances = 0.5 + 0.5 * np.tanh(0.5 * scores)
    kept = reduced("binary", chances, y)
    found = measured("binary", kept[:, 3:], kept[:, 0])
    node = measure(2).read_plain(measure(2).plain_sums(log_loss(scores, y), scores, y), 1.0).figures
    for name in ("loss", "accuracy", "precision", "recall", "f1_score", "base_loss"):
        assert found[name] == pytest.approx(getattr(node, name), rel=1e-12), name


def test_several_classes_are_judged_as_nodes_judge_them() -> None:
    rng = np.random.default_rng(2)
    free, y = np.round(rng.normal(size=(ROWS, 2)), 1), rng.integers(0, 2, ROWS).astype(float)
    scores = np.column_stack([np.zeros(ROWS), free])
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    kept = reduced("classes", shares, y)
    found = measured("classes", kept[:, 3:], kept[:, 0])
    node = measure(3).read_plain(measure(3).plain_sums(softmax_losses(free, y), scores, y), 1.0).figures
    for name in ("loss", "accuracy", "precision", "recall", "f1_score", "base_loss"):
        assert found[name] == pytest.approx(getattr(node, name), rel=1e-12), name


def test_numbers_are_judged_as_nodes_judge_them() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(1e6, 3.0, ROWS)
    predicted = y + rng.normal(size=ROWS)
    kept = reduced("number", predicted, y)
    found = measured("number", kept[:, 3:], kept[:, 0])
    scaled = [(one - 1e6) / 3.0 for one in (predicted, y)]
    sums = REGRESSION.plain_sums(0.5 * np.square(scaled[0] - scaled[1]), *scaled)
    node = REGRESSION.read_plain(sums, 3.0).figures
    assert (found["loss"], found["rmse"], found["base_loss"], found["r2"]) == pytest.approx(
        (node.loss, node.rmse, node.base_loss, node.accuracy), rel=1e-9
    )


def values_of(kind: str, seed: int, rows: int) -> np.ndarray:
    """Rows of a kind, with ties wherever there may be some."""
    rng = np.random.default_rng(seed)
    some = rng.integers(0, 5, rows)
    return {
        "binary": np.column_stack([(some + 0.5) / 6, rng.integers(0, 2, rows)]),
        "classes": np.column_stack([rng.random(rows), rng.random(rows), rng.integers(0, 3, rows), rng.integers(0, 3, rows)]),
        "number": np.column_stack([some, rng.integers(0, 4, rows)]),
        "counts": np.column_stack([some + 0.5, rng.integers(0, 4, rows)]),
        "survival": np.column_stack([some, rng.integers(0, 6, rows), rng.integers(0, 2, rows)]),
    }[kind].astype(float)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30))
def test_a_row_of_weight_k_is_k_equal_rows(kind: str, seed: int, rows: int) -> None:
    values = values_of(kind, seed, rows)
    counts = np.random.default_rng(seed + 1).integers(0, 4, rows)
    counts[0] += 1
    weighted = measured(kind, values, counts.astype(float))
    repeated = np.repeat(values, counts, axis=0)
    again = measured(kind, repeated, np.ones(len(repeated)))
    # One step from where other rows were best is no more than near.
    for name in ("calibration_intercept", "calibration_slope"):
        weighted.pop(name, None), again.pop(name, None)
    assert weighted == pytest.approx(again, rel=1e-9, abs=1e-9, nan_ok=True)


@given(seed=st.integers(0, 10_000), rows=st.integers(2, 60))
def test_survivors_are_ordered_as_nodes_count_them(seed: int, rows: int) -> None:
    values = values_of("survival", seed, rows)
    pairs = count_pairs(values[:, 1], values[:, 2], values[:, 0])
    expected = pairs.ordered / pairs.comparable if pairs.comparable else math.nan
    found = measured("survival", values, np.ones(rows))["c_index"]
    assert found == pytest.approx(expected, nan_ok=True)


@given(seed=st.integers(0, 10_000), rows=st.integers(2, 60))
def test_area_with_ties_and_weights(seed: int, rows: int) -> None:
    values = values_of("binary", seed, rows)
    values[:2, 1] = 0.0, 1.0
    weights = np.random.default_rng(seed).random(rows) + 0.1
    found = measured("binary", values, weights)["auc"]
    assert found == pytest.approx(roc_auc_score(values[:, 1], values[:, 0], sample_weight=weights))


def test_one_step_from_the_estimate_is_near_that_of_the_rows_drawn() -> None:
    rng = np.random.default_rng(4)
    odds = np.sort(rng.normal(size=5000))
    chances = 1 / (1 + np.exp(-odds))
    values = np.column_stack([chances, rng.random(5000) < 1 / (1 + np.exp(-0.2 - 0.7 * odds))])
    found = measure_of("binary", values, 2)
    for _ in found.prepare(np.ones(5000)):
        pass
    drawn = np.bincount(rng.integers(5000, size=5000), minlength=5000).astype(float)
    near = dict(zip(found.names, found.figures(drawn), strict=True))
    exact = measured("binary", values, drawn)
    for name, expected in (("calibration_intercept", 0.2), ("calibration_slope", 0.7)):
        assert near[name] == pytest.approx(exact[name], abs=2e-3)
        assert near[name] == pytest.approx(expected, abs=0.15)


def test_probabilities_of_0_and_1_have_finite_figures() -> None:
    values = np.array([[0.0, 1.0], [0.0, 0.0], [5e-324, 1.0], [1.0, 0.0], [1.0, 1.0]])
    found = measured("binary", values, np.ones(5))
    losses = [-math.log(5e-324), 0.0, -math.log(5e-324), 54 * math.log(2.0), 0.0]
    assert found["loss"] == pytest.approx(np.mean(losses))
    assert all(map(math.isfinite, found.values()))


def test_targets_that_are_all_the_same_leave_no_r_squared() -> None:
    for target in (0.1, 1e300, -3.7e-200):
        y = np.full(7, target)
        kept = reduced("number", np.arange(7.0), y)
        found = measured("number", kept[:, 3:], kept[:, 0])
        assert math.isnan(found["r2"])
        assert math.isnan(found["base_loss"])
        assert math.isfinite(found["loss"])


def test_small_differences_of_large_targets_are_some() -> None:
    y = 1e9 + np.arange(6.0)
    found = measured("number", np.column_stack([y + 0.5, y]), np.ones(6))
    assert found["base_loss"] == pytest.approx(np.var(np.arange(6.0)))
    assert found["r2"] == pytest.approx(1 - 0.25 / np.var(np.arange(6.0)))


def test_what_is_kept_of_rows_reads_back() -> None:
    kept = reduced(
        "survival",
        np.array([2.0, np.nan, 1.0]),
        np.array([3.0, 1.0, np.nan]),
        event=np.array([1.0, 1.0, 0.0]),
    )
    np.testing.assert_array_equal(read_rows("survival", kept.tobytes()), [[1, 0, 0, 2, 3, 1]])
