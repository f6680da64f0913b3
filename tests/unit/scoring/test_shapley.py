"""Contributions equal the shap package's, and Shapley's own definition over all coalitions; they add up."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import NO_STATE
from heliosdb.scoring import network, trees
from heliosdb.scoring.players import Players
from heliosdb.scoring.sampled_shapley import MOST_ORDERS, Orders
from heliosdb.scoring.shapley import Explained, prepare_explanation
from tests.unit.scoring.test_trees import INPUTS, make, rows

ALONE = Players(np.arange(INPUTS), INPUTS)
GROUPED = Players(np.array([0, 1, 1, 2]), 4)
"""Two inputs of one feature, and a feature that becomes none."""


def test_what_is_not_explained_is_said_with_what_is() -> None:
    with pytest.raises(FederatedError, match="of convolutional networks are not explained yet") as refused:
        prepare_explanation("convolution", {}, NO_STATE, ALONE)
    assert (refused.value.code, bool(refused.value.hint)) == (ErrorCode.NOT_SUPPORTED, True)


def by_definition(game: Callable[[frozenset[int]], np.ndarray], players: int) -> np.ndarray:
    """Shapley's values of a game, (outputs, players), from all coalitions."""
    known = {
        coalition: game(coalition)
        for size in range(players + 1)
        for coalition in map(frozenset, combinations(range(players), size))
    }
    found = []
    for player in range(players):
        others = [one for one in known if player not in one]
        found.append(
            sum(
                (known[one | {player}] - known[one]) / (players * comb(players - 1, len(one)))
                for one in others
            )
        )
    return np.array(found).T


def with_covers(arrays: dict[str, Any], seed: int = 3) -> dict[str, Any]:
    """Trees whose splits saw rows; as at nodes that leave a branch, fewer than the split above counted."""
    cover = np.random.default_rng(seed).integers(1, 100, arrays["tree"].size).astype(np.float64)
    return {**arrays, "cover": cover}


def tree_content(link: str, *, boosts: bool) -> dict[str, Any]:
    return {"link": link, "boosts": boosts, "target_mean": 2.0, "target_scale": 3.0}


def expected_outputs(
    arrays: dict[str, Any], row: np.ndarray, known: frozenset[int], owners: np.ndarray, *, boosts: bool
) -> np.ndarray:
    """What trees say where only some players are known, by the recursion that defines it."""
    starts = np.cumsum(arrays["n_edges"]) - arrays["n_edges"]

    def of(node: int) -> np.ndarray:
        place = int(arrays["feature"][node])
        if place < 0:
            return arrays["values"][node]
        left = int(arrays["left"][node])
        if owners[place] not in known:
            weight = arrays["cover"][[left, left + 1]]
            return (weight[0] * of(left) + weight[1] * of(left + 1)) / weight.sum()
        if np.isnan(row[place]):
            goes_left = bool(arrays["missing_left"][node])
        elif arrays["levels"][place]:
            goes_left = bool(np.unpackbits(arrays["subsets"][arrays["split"][node]])[int(row[place])])
        else:
            goes_left = bool(row[place] <= arrays["edges"][starts[place] + arrays["split"][node]])
        return of(left + (not goes_left))

    roots = np.unique(arrays["tree"], return_index=True)[1]
    said = np.array([of(int(root)) for root in roots])
    if not boosts:
        return said.mean(axis=0)
    found = np.array(arrays["base"])
    for number, one in enumerate(said):
        found[number % found.size] += one[0]
    return found


def add_up(found: Explained) -> np.ndarray:
    return found.base + found.contributions.sum(axis=2)


@pytest.mark.parametrize("players", [ALONE, GROUPED])
@pytest.mark.parametrize(("outputs", "boosts"), [(1, True), (3, False)])
def test_trees_are_explained_as_shapley_defines_it(players: Players, outputs: int, boosts: bool) -> None:
    arrays = with_covers(make(4, 5, outputs, boosts=boosts))
    explain = prepare_explanation("trees", tree_content("logistic", boosts=boosts), arrays, players)
    some = rows(12)
    found = explain(some, None)
    for row, contributions in zip(some, found.contributions, strict=True):

        def game(known: frozenset[int], row: np.ndarray = row) -> np.ndarray:
            return expected_outputs(arrays, row, known, players.owners, boosts=boosts)

        np.testing.assert_allclose(contributions, by_definition(game, players.count), atol=1e-12)
    prepared = trees.Prepared({**arrays})
    np.testing.assert_allclose(add_up(found), trees.add_up(prepared, some, boosts=boosts), atol=1e-12)


@pytest.mark.parametrize("boosts", [True, False])
def test_trees_are_explained_as_the_shap_package_does(boosts: bool) -> None:
    import shap

    arrays = with_covers(make(6, 6, 1, boosts=boosts, seed=5))
    arrays = {**arrays, "levels": np.zeros(INPUTS, dtype=np.int64), "split": arrays["split"] % 8}
    if boosts:
        arrays["base"] = np.array([0.75])
    content = tree_content("identity", boosts=boosts)
    some = rows(40)
    some[0] = 0.1
    found = prepare_explanation("trees", content, arrays, ALONE)(some, None)
    theirs = shap.TreeExplainer({"trees": [shap_tree(arrays, one) for one in range(6)]})
    scale = content["target_scale"] * (1.0 if boosts else 1 / 6)
    np.testing.assert_allclose(
        found.contributions[:, 0], scale * theirs.shap_values(some, check_additivity=False), atol=1e-6
    )
    base = arrays["base"].sum() * content["target_scale"] if boosts else 0.0
    expected = content["target_mean"] + base + scale * float(np.squeeze(theirs.expected_value))
    assert found.base[0] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(add_up(found)[:, 0], trees.score(content, arrays, some), atol=1e-9)


def shap_tree(arrays: dict[str, Any], tree: int) -> dict[str, Any]:
    """One tree as the shap package reads it; covers add up, as it takes them to."""
    nodes = np.flatnonzero(arrays["tree"] == tree)
    feature, left = arrays["feature"][nodes], arrays["left"][nodes] - nodes[0]
    inner = feature >= 0
    starts = np.cumsum(arrays["n_edges"]) - arrays["n_edges"]
    cover = np.ones(nodes.size)
    for node in np.flatnonzero(inner):
        weight = arrays["cover"][nodes[0] + left[node] + np.arange(2)]
        cover[left[node] + np.arange(2)] = cover[node] * weight / weight.sum()
    place = starts[np.maximum(feature, 0)] + arrays["split"][nodes]
    return {
        "children_left": np.where(inner, left, -1),
        "children_right": np.where(inner, left + 1, -1),
        "children_default": np.where(inner, left + 1 - arrays["missing_left"][nodes], -1),
        "features": np.where(inner, feature, -1),
        # It compares in float32 unless it is told otherwise; no value lies near to an edge.
        "thresholds": np.where(inner, arrays["edges"][np.minimum(place, arrays["edges"].size - 1)], 0.0),
        "values": arrays["values"][nodes],
        "node_sample_weight": cover,
    }


@pytest.mark.parametrize("boosts", [True, False])
def test_the_classes_of_trees_have_contributions_each(boosts: bool) -> None:
    arrays = with_covers(make(6, 4, 1 if boosts else 2, boosts=boosts))
    content, some = tree_content("softmax", boosts=boosts), rows(20)
    found = prepare_explanation("trees", content, arrays, ALONE)(some, None)
    assert found.contributions.shape == (20, 3, INPUTS)
    shares = trees.score(content, arrays, some)
    told = add_up(found)
    if boosts:
        told = np.exp(told) / np.exp(told).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told, shares, atol=1e-12)


def test_trees_that_are_one_leaf_each_say_their_base() -> None:
    arrays = with_covers(make(3, 0, 1, boosts=False))
    found = prepare_explanation("trees", tree_content("logistic", boosts=False), arrays, ALONE)(rows(4), None)
    assert not found.contributions.any()
    assert found.base[0] == pytest.approx(arrays["values"].mean())


@pytest.mark.parametrize("spoil", [lambda a: a.pop("cover"), lambda a: a["cover"].fill(0.0)])
def test_trees_of_which_no_covers_are_kept_say_so(spoil: Callable[[dict[str, Any]], Any]) -> None:
    arrays = with_covers(make(2, 3, 1, boosts=False))
    spoil(arrays)
    with pytest.raises(FederatedError) as caught:
        prepare_explanation("trees", tree_content("logistic", boosts=False), arrays, ALONE)
    assert caught.value.code is ErrorCode.WRONG_STATE


def one_long_way(steps: int) -> dict[str, Any]:
    """A tree of one way, at each step of which one side is a leaf."""
    places = np.arange(2 * steps + 1)
    inner = (places % 2 == 0) & (places < 2 * steps)
    shape = make(1, 1, 1, boosts=False)
    return shape | {
        "tree": np.zeros(places.size, dtype=np.int32),
        "feature": np.where(inner, 0, -1).astype(np.int32),
        "split": np.zeros(places.size, dtype=np.int32),
        "left": np.where(inner, places + 1, 0).astype(np.int32),
        "missing_left": np.zeros(places.size, dtype=np.uint8),
        "values": np.full((places.size, 1), 0.5),
        "cover": np.ones(places.size),
    }


def test_trees_with_too_many_nodes_on_too_long_ways_are_refused_before_the_ways_are_kept() -> None:
    content = tree_content("logistic", boosts=False)
    short = prepare_explanation("trees", content, one_long_way(50), ALONE)(rows(3), None)
    np.testing.assert_allclose(short.base, 0.5)
    tracemalloc.start()
    with pytest.raises(FederatedError, match="too long ways") as caught:
        prepare_explanation("trees", content, one_long_way(200_000), ALONE)
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()
    assert caught.value.code is ErrorCode.PROGRAM_LIMIT


LINEAR = {
    "fills": [0.5, -1.0, 3.0, 0.25],
    "shifts": [0.0, -1.0, 0.0, 0.0],
    "slopes": [1.5, -2.0, 0.25, 4.0],
    "intercept": 0.7,
    "target_mean": 10.0,
    "target_scale": 2.0,
}


@pytest.mark.parametrize(("link", "scale", "mean"), [("identity", 2.0, 10.0), ("logistic", 1.0, 0.0)])
def test_linear_versions_are_explained_as_the_shap_package_does(link: str, scale: float, mean: float) -> None:
    import shap

    background = np.random.default_rng(0).normal(size=(50, INPUTS))
    background += np.array(LINEAR["fills"]) - background.mean(axis=0)
    some = np.random.default_rng(1).normal(size=(20, INPUTS))
    found = prepare_explanation("linear", {**LINEAR, "link": link}, NO_STATE, ALONE)(some, None)
    slopes, shifts = np.array(LINEAR["slopes"]), np.array(LINEAR["shifts"])
    constant = LINEAR["intercept"] - slopes @ shifts
    theirs = shap.LinearExplainer(
        (scale * slopes, mean + scale * constant), shap.maskers.Independent(background, max_samples=50)
    )
    np.testing.assert_allclose(found.contributions[:, 0], theirs.shap_values(some), atol=1e-6)
    assert found.base[0] == pytest.approx(theirs.expected_value, abs=1e-6)


def test_what_is_missing_or_at_its_mean_contributes_nothing_to_a_linear_score() -> None:
    explain = prepare_explanation("linear", {**LINEAR, "link": "exp"}, NO_STATE, GROUPED)
    found = explain(np.array([[np.nan, -1.0, 3.0, 1.25], LINEAR["fills"]]), None)
    assert found.contributions.tolist() == [[[0.0, 0.0, 4.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]]
    assert add_up(found)[1] == found.base


def test_several_classes_have_contributions_each() -> None:
    content = {
        **LINEAR, "link": "softmax", "intercepts": [0.0, 1.0, 2.0],
        "slopes": [[0.0] * 4, [1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.0, 1.0]],
    }  # fmt: skip
    del content["intercept"]
    some = np.random.default_rng(2).normal(size=(5, INPUTS))
    found = prepare_explanation("softmax_linear", content, NO_STATE, GROUPED)(some, None)
    scores = (some - content["shifts"]) @ np.array(content["slopes"]).T + content["intercepts"]
    np.testing.assert_allclose(add_up(found), scores)
    assert not found.contributions[:, 0].any()


def layers(outputs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {
        "means": rng.normal(size=INPUTS), "scales": 0.5 + rng.random(INPUTS),
        "weight_0": rng.normal(size=(6, INPUTS)), "bias_0": rng.normal(size=6),
        "weight_1": rng.normal(size=(outputs, 6)), "bias_1": rng.normal(size=outputs),
    }  # fmt: skip


NETWORK = {"link": "identity", "activations": ["tanh", "linear"], "target_mean": 5.0, "target_scale": 2.0}


@pytest.mark.parametrize("count", [1, 7, 4_000])
def test_a_networks_contributions_add_up_and_are_close_to_shapleys(count: int) -> None:
    arrays, some = layers(1), rows(6)[3:]
    explain = prepare_explanation("network", NETWORK, arrays, GROUPED)
    found = explain(some, Orders(count))
    np.testing.assert_allclose(add_up(found)[:, 0], network.score(NETWORK, arrays, some), rtol=1e-5)

    def game(known: frozenset[int]) -> np.ndarray:
        here = np.where(np.isin(GROUPED.owners, list(known)), some[0], arrays["means"])
        return np.asarray(network.score(NETWORK, arrays, here[None]))

    if count > 1_000:
        true = by_definition(game, GROUPED.count)
        np.testing.assert_allclose(found.contributions[0], true, atol=0.02 * np.abs(true).max())
    again = explain(some, Orders(count))
    assert found.contributions.tobytes() == again.contributions.tobytes()


def test_another_seed_draws_other_orders() -> None:
    explain = prepare_explanation("network", NETWORK, layers(1), ALONE)
    one, other = (explain(rows(4)[3:], Orders(3, seed)).contributions for seed in (0, 1))
    assert np.abs(one - other).max() > 0.0


def test_a_networks_classes_have_contributions_each() -> None:
    arrays = layers(3)
    content = {**NETWORK, "link": "softmax", "activations": ["relu", "softmax"]}
    found = prepare_explanation("network", content, arrays, ALONE)(rows(9)[3:], None)
    powers = np.exp(add_up(found))
    shares = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, network.score(content, arrays, rows(9)[3:]), atol=1e-5)


@pytest.mark.parametrize("bad", [{"count": 0}, {"count": MOST_ORDERS + 1}, {"seed": -1}])
def test_no_other_orders_are_drawn(bad: dict[str, int]) -> None:
    with pytest.raises(FederatedError) as caught:
        Orders(**bad)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_network_is_not_sampled_for_longer_than_a_few_seconds() -> None:
    wide = 2_000
    arrays = {
        "means": np.zeros(wide), "scales": np.ones(wide), "weight_0": np.zeros((2_000, wide), np.float32),
        "bias_0": np.zeros(2_000), "weight_1": np.zeros((1, 2_000)), "bias_1": np.zeros(1),
    }  # fmt: skip
    explain = prepare_explanation("network", NETWORK, arrays, Players(np.arange(wide), wide))
    with pytest.raises(FederatedError) as caught:
        explain(np.zeros((1, wide)), Orders(2))
    assert caught.value.code is ErrorCode.PROGRAM_LIMIT
