"""Trees are scored to the same bits by either way, row by row and in blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from heliosdb.scoring import trees as scoring
from heliosdb.scoring import ways
from heliosdb.scoring.kinds import find_kind

INPUTS, LEVELS = 4, 9


def make(count: int, depth: int, outputs: int, *, boosts: bool, seed: int = 0) -> dict[str, Any]:
    """Trees of which some ways end early; the last input is a category."""
    rng = np.random.default_rng(seed)
    nodes: list[tuple[int, int, int, int, int]] = []
    subsets: list[np.ndarray] = []
    for tree in range(count):
        level = [len(nodes)]
        nodes.append((tree, -1, 0, 0, 0))
        for deep in range(depth):
            below = []
            for node in level:
                if deep and rng.random() < 0.2:
                    continue
                feature = int(rng.integers(0, INPUTS))
                split = int(rng.integers(0, 7))
                if feature == INPUTS - 1:
                    split = len(subsets)
                    subsets.append(np.packbits(np.append(rng.random(LEVELS) < 0.5, False)))
                nodes[node] = (tree, feature, split, len(nodes), int(rng.random() < 0.5))
                below += [len(nodes), len(nodes) + 1]
                nodes += [(tree, -1, 0, 0, 0)] * 2
            level = below
    tree, feature, split, left, missing = np.array(nodes).T
    return {
        "tree": tree.astype(np.int32),
        "feature": feature.astype(np.int32),
        "split": split.astype(np.int32),
        "left": left.astype(np.int32),
        "missing_left": missing.astype(np.uint8),
        "values": rng.random((len(nodes), outputs)) / outputs,
        "subsets": np.array(subsets, dtype=np.uint8).reshape(len(subsets), 2),
        "edges": np.concatenate(
            [*(np.sort(rng.normal(size=8)) for _ in range(INPUTS - 1)), np.arange(8) + 0.5]
        ),
        "n_edges": np.full(INPUTS, 8),
        "levels": np.array([0, 0, 0, LEVELS]),
        **({"base": rng.normal(size=3 if outputs == 1 and boosts else 1)} if boosts else {}),
    }


def rows(count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, INPUTS))
    x[:, -1] = rng.integers(0, LEVELS, count)
    x[rng.random(x.shape) < 0.15] = np.nan
    x[0], x[1, :-1], x[2, :-1] = np.nan, np.inf, -1e308
    return x


def one_by_one(arrays: dict[str, Any], row: np.ndarray) -> list[np.ndarray]:
    """The value of each tree's leaf, found as one would by hand."""
    found, starts = [], np.cumsum(arrays["n_edges"]) - arrays["n_edges"]
    for root in np.unique(arrays["tree"], return_index=True)[1]:
        node = int(root)
        while arrays["feature"][node] >= 0:
            place, split = int(arrays["feature"][node]), int(arrays["split"][node])
            value = row[place]
            if np.isnan(value):
                left = bool(arrays["missing_left"][node])
            elif arrays["levels"][place]:
                left = bool(np.unpackbits(arrays["subsets"][split])[int(value)])
            else:
                left = value <= arrays["edges"][starts[place] + split]
            node = int(arrays["left"][node]) + (not left)
        found.append(arrays["values"][node])
    return found


CASES = [(12, 8, 1, False), (20, 3, 1, True), (7, 11, 1, False), (9, 5, 2, False), (1, 0, 1, False)]


@pytest.mark.parametrize(("count", "depth", "outputs", "boosts"), CASES)
def test_blocks_few_rows_and_a_reference_give_the_same_bits(
    count: int, depth: int, outputs: int, boosts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, x = make(count, depth, outputs, boosts=boosts), rows(3 * 64 + 30)
    monkeypatch.setattr(scoring, "BLOCK", 128)
    content = {"boosts": boosts, "link": "softmax" if boosts or outputs > 1 else "logistic"}

    whole = find_kind("trees")(content, arrays, x)

    few = np.concatenate([scoring.score(content, arrays, x[at : at + 7]) for at in range(0, len(x), 7)])
    np.testing.assert_array_equal(whole, few)
    if boosts:
        return
    expected = np.array([np.mean(one_by_one(arrays, row), axis=0) for row in x])
    np.testing.assert_allclose(whole[:, 1:] if outputs > 1 else whole[:, None], expected, rtol=1e-12)


def test_links_are_applied_to_the_sum_or_the_mean() -> None:
    x, forest, boosted = rows(200), make(5, 3, 1, boosts=False), make(6, 3, 1, boosts=True)
    number = {"boosts": False, "link": "identity", "target_mean": 10.0, "target_scale": 2.0}
    means = scoring.score({"boosts": False, "link": "logistic"}, forest, x)
    np.testing.assert_allclose(scoring.score(number, forest, x), 10 + 2 * means, rtol=1e-14)
    shares = scoring.score({"boosts": True, "link": "softmax"}, boosted, x)
    assert shares.shape == (200, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    two = {**boosted, "base": boosted["base"][:1]}
    scores = sum(two["base"]) + np.array([np.sum(one_by_one(two, row)) for row in x])
    np.testing.assert_allclose(
        scoring.score({"boosts": True, "link": "logistic"}, two, x), 1 / (1 + np.exp(-scores)), rtol=1e-12
    )


def test_inputs_are_not_changed_and_versions_are_not_mixed_up() -> None:
    x = rows(300)
    before = x.copy()
    content = {"boosts": False, "link": "logistic"}
    models = [make(3, 4, 1, boosts=False, seed=seed) for seed in range(20)]
    found = [scoring.score(content, model, x) for model in models]
    again = [scoring.score(content, model, x) for model in models]
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(found, again)
    assert len({one.tobytes() for one in found}) == len(models)


def test_tables_are_the_same_however_many_nodes_are_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrays, x = make(5, 5, 1, boosts=False), rows(50)
    found = []
    for at_once in (4096, 1, 7):
        monkeypatch.setattr(ways, "_NODES_AT_ONCE", at_once)
        prepared = scoring.Prepared(arrays)
        found.append(np.concatenate([leaves for _, _, leaves in prepared.leaves(x)]))
    expected = np.concatenate([[one_by_one(arrays, row)[tree][0] for row in x] for tree in range(5)])
    np.testing.assert_array_equal(arrays["values"][found[0], 0], expected)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def make_many(count: int, depth: int, inputs: int) -> dict[str, Any]:
    """Full trees, with nearly as many different conditions as inner nodes."""
    rng = np.random.default_rng(0)
    each, edges = 2 ** (depth + 1) - 1, 255
    node = np.arange(each)
    is_inner = np.tile(node < 2**depth - 1, count)
    first = np.repeat(np.arange(count) * each, each)
    left = np.where(is_inner, first + np.tile(2 * node + 1, count), 0)
    return {
        "tree": np.repeat(np.arange(count), each).astype(np.int32),
        "feature": np.where(is_inner, rng.integers(0, inputs, left.size), -1).astype(np.int32),
        "split": np.where(is_inner, rng.integers(0, edges, left.size), 0).astype(np.int32),
        "left": left.astype(np.int32),
        "missing_left": np.where(is_inner, rng.integers(0, 2, left.size), 0).astype(np.uint8),
        "values": rng.random((left.size, 1)),
        "subsets": np.zeros((0, 0), dtype=np.uint8),
        "edges": np.tile(np.linspace(-3, 3, edges), inputs),
        "n_edges": np.full(inputs, edges),
        "levels": np.zeros(inputs, dtype=np.int64),
    }


def _peak(scored: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        scored()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("one_way", [True, False])
def test_what_rows_take_in_memory_does_not_follow_the_trees(one_way: bool) -> None:
    """A thousand trees of depth 8: rows times conditions would be a gigabyte."""
    found = scoring.Prepared(make_many(1000, 8, 300), one_way=one_way)
    x = np.random.default_rng(1).normal(size=(9000, 300))
    few = scoring.add_up(found, x[: scoring.FEW], boosts=False)
    again = scoring.add_up(found, x[: 2 * scoring.FEW], boosts=False)
    assert found.count == 1000

    counts = (scoring.FEW, scoring.BLOCK, len(x))
    taken = [_peak(partial(scoring.add_up, found, x[:count], boosts=False)) for count in counts]

    np.testing.assert_array_equal(again[: scoring.FEW], few)
    # Bits of a block, and bytes of a part of them; of bins alone a third of that.
    assert max(taken) < (40e6 if one_way else 160e6)
    if one_way:
        # Bins of the largest block.
        assert taken[2] - taken[0] < scoring.BLOCK * 300 * 8 * 1.1 + 9000 * 8 * 3


def test_trees_of_more_conditions_than_have_room_are_gone_down(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, x = make(12, 8, 1, boosts=False), rows(300)
    as_bits = scoring.add_up(scoring.Prepared(arrays), x, boosts=False)
    for room in (2**10, 2**14, 2**17):
        monkeypatch.setattr(scoring, "_MOST_BITS", room)
        monkeypatch.setattr(scoring, "_FEWEST_AS_BITS", 64)
        monkeypatch.setattr(scoring, "_CONDITIONS_AT_ONCE", 5)
        monkeypatch.setattr(scoring, "_MOST_BINS", 50)
        np.testing.assert_array_equal(scoring.add_up(scoring.Prepared(arrays), x, boosts=False), as_bits)


def test_rows_of_many_inputs_go_in_smaller_blocks() -> None:
    arrays = make_many(2, 3, 2000)
    found, x = scoring.Prepared(arrays, one_way=True), np.zeros((5000, 2000))
    assert _peak(lambda: list(found.leaves(x))) < 45e6
