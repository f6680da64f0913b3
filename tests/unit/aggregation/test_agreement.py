"""How the updates of a round agree: against the definitions written out, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import FederatedError
from heliosdb.aggregation import AgreementMeter, measure_agreement
from heliosdb.aggregation.agreement import CHUNK, SKETCH, sketch
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Update


def update(node: str, vector: object, weight: float = 1.0) -> Update:
    return Update(NodeName(node), np.asarray(vector, dtype=np.float64), weight)


def written_out(updates: list[Update]) -> tuple[float, dict[str, float]]:
    """The definitions, without care for speed or cancellation."""
    vectors = np.array([one.vector for one in updates])
    weights = np.array([one.weight for one in updates])
    mean = np.average(vectors, axis=0, weights=weights)
    variance = np.average(((vectors - mean) ** 2).sum(axis=1), weights=weights)
    alignments = {}
    for place, one in enumerate(updates):
        others = np.average(np.delete(vectors, place, axis=0), axis=0, weights=np.delete(weights, place))
        alignments[one.node] = float(
            one.vector @ others / np.linalg.norm(one.vector) / np.linalg.norm(others)
        )
    return float(variance), alignments  # type: ignore[return-value]


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_it_is_what_the_definitions_say(nodes: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    updates = [update(f"n{i}", rng.normal(size=size), rng.uniform(1, 500)) for i in range(nodes)]
    variance, alignments = written_out(updates)

    found = measure_agreement(updates[::-1])

    assert found.variance == pytest.approx(variance, rel=1e-9, abs=1e-12)
    assert dict(found.alignments) == pytest.approx(alignments, rel=1e-6, abs=1e-9)


def test_vectors_longer_than_a_chunk_are_measured_whole() -> None:
    rng = np.random.default_rng(5)
    updates = [
        update(name, rng.normal(size=2 * CHUNK + 17), weight)
        for name, weight in zip("abc", (1, 2, 9), strict=True)
    ]
    variance, alignments = written_out(updates)

    found = measure_agreement(updates)

    assert found.variance == pytest.approx(variance)
    assert dict(found.alignments) == pytest.approx(alignments)


def test_equal_updates_have_no_variance_and_point_the_same_way() -> None:
    found = measure_agreement(
        [update(name, [0.1, -0.3, 7.0], weight) for name, weight in zip("abc", (1, 3, 7), strict=True)]
    )

    assert found.variance == pytest.approx(0.0, abs=1e-24)
    assert dict(found.alignments) == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})


def test_a_node_against_the_others_is_negative_however_many_rows_it_has() -> None:
    for weight in (1.0, 1e9):
        found = measure_agreement([update("a", [1, 0]), update("b", [1, 1]), update("c", [-2, -1], weight)])
        assert found.alignments[NodeName("c")] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("vectors", "variance", "alignments"),
    [
        ({"a": [1.0, 2.0]}, None, {"a": None}),
        ({"a": [0.0, 0.0], "b": [1.0, 0.0]}, 0.25, {"a": None, "b": None}),
        ({"a": [0.0], "b": [0.0]}, 0.0, {"a": None, "b": None}),
        ({"a": [1e200], "b": [-1e200]}, None, {"a": None, "b": None}),
    ],
)
def test_what_cannot_be_compared_is_not_known(
    vectors: dict[str, list[float]], variance: float | None, alignments: dict[str, float | None]
) -> None:
    found = measure_agreement([update(node, vector) for node, vector in vectors.items()])

    assert found.variance == variance
    assert found.alignments == alignments


def test_nobody_agrees_where_nobody_answered() -> None:
    assert measure_agreement([]).alignments == {}


def metered(updates: list[Update], key: int = 0) -> object:
    meter = AgreementMeter(key)
    for one in updates:
        meter.take(one)
    return meter.result()


@pytest.mark.parametrize("size", [7, SKETCH])
def test_updates_that_fit_are_measured_as_they_are(size: int) -> None:
    rng = np.random.default_rng(size)
    updates = [update(name, rng.normal(size=size), rng.uniform(1, 9)) for name in "abcd"]
    assert metered(updates[::-1]) == measure_agreement(updates)


def test_longer_updates_are_measured_nearly_in_any_order() -> None:
    rng = np.random.default_rng(11)
    size = 3 * CHUNK + 5
    common = rng.normal(size=size)
    updates = [
        update(name, sign * common + noise * rng.normal(size=size), weight)
        for name, sign, noise, weight in [("a", 1, 0.5, 5), ("b", 1, 1, 9), ("c", 1, 3, 2), ("d", -1, 1, 3)]
    ]
    variance, alignments = written_out(updates)
    for key in range(5):
        found = metered(updates, key)
        assert found == metered(updates[::-1], key)
        assert found.variance == pytest.approx(variance, rel=0.1)  # type: ignore[attr-defined]
        assert dict(found.alignments) == pytest.approx(alignments, abs=0.08)  # type: ignore[attr-defined]


def test_inner_products_of_sketches_are_right_on_average_and_spread_as_stated() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(size=3 * SKETCH)
    other = one + rng.normal(size=one.size)
    found = [float(sketch(one, key) @ sketch(other, key)) for key in range(200)]
    spread = np.sqrt((one @ one * (other @ other) + (one @ other) ** 2) / SKETCH)
    assert np.mean(found) == pytest.approx(one @ other, abs=4 * spread / np.sqrt(200))
    assert 0.8 * spread < np.std(found) < 1.2 * spread


def test_a_sketch_is_linear_and_a_copy() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, SKETCH + 1))
    assert sketch(one + 2 * other) == pytest.approx(sketch(one) + 2 * sketch(other), abs=1e-12)
    short = np.ones(3, dtype=np.float32)
    assert sketch(short).dtype == np.float64
    assert not np.shares_memory(sketch(one[:4]), one)


def test_places_are_spread_evenly_with_either_sign() -> None:
    counts = np.abs(sketch(np.ones(100 * SKETCH)))
    assert counts.max() < 60  # five standard deviations and a half of a sum of 100 signs are 55
    alone = [np.flatnonzero(sketch(np.eye(1, SKETCH + 1, place)[0]))[0] for place in range(1000)]
    assert len(set(alone)) > 850


def test_values_whose_sums_are_no_numbers_leave_the_figures_unknown() -> None:
    updates = [update("a", np.full(50 * SKETCH, 1e308)), update("b", np.ones(50 * SKETCH))]
    assert metered(updates).variance is None  # type: ignore[attr-defined]


def test_a_node_is_compared_once() -> None:
    meter = AgreementMeter()
    meter.take(update("a", [1.0]))
    with pytest.raises(FederatedError, match="two updates"):
        meter.take(update("a", [1.0]))


def test_nobody_was_metered() -> None:
    assert AgreementMeter().result().alignments == {}
