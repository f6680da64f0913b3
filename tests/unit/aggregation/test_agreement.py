"""How the updates of a round agree: against the definitions written out, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.aggregation import Update, measure_agreement
from heliosdb.aggregation.updates import CHUNK
from heliosdb.domain.ids import NodeName


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
