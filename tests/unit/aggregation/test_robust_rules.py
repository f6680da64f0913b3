"""The robust rules beside references written from the papers, on random updates, ties, and few nodes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Matrix, Vector
from tests.unit.aggregation.rules_support import moved, random_updates

ROBUST = ("median", "trimmed_mean", "krum", "multi_krum", "bulyan", "geometric_median")
SEEDS = range(12)


def krum_scores(updates: Matrix, hostile: int) -> list[float]:
    count = len(updates) - hostile - 2
    scores = []
    for one, update in enumerate(updates):
        apart = sorted(float(((update - other) ** 2).sum()) for i, other in enumerate(updates) if i != one)
        scores.append(sum(apart[: max(1, count)]))
    return scores


def ranking(updates: Matrix, hostile: int) -> list[int]:
    scores = krum_scores(updates, hostile)
    return sorted(range(len(updates)), key=lambda place: (round(scores[place], 9), place))


def bulyan(updates: Matrix, hostile: int) -> Vector:
    left, chosen = list(range(len(updates))), list[int]()
    while len(chosen) < len(updates) - 2 * hostile:
        best = left[ranking(updates[left], hostile)[0]]
        chosen.append(best)
        left.remove(best)
    count = len(chosen) - 2 * hostile
    found = []
    for values in updates[chosen].T:
        middle = np.median(values)
        found.append(np.mean(sorted(values, key=lambda value: (abs(value - middle), value))[:count]))
    return np.array(found)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("nodes", [1, 2, 3, 8, 21])
def test_the_median_and_the_trimmed_mean_equal_scipys(seed: int, nodes: int) -> None:
    updates = random_updates(seed, nodes)
    assert np.array_equal(moved("median", updates), np.median(updates, axis=0))
    for ratio in (0.0, 0.1, 0.25, 0.4):
        if ratio and int(ratio * nodes) < 1:
            continue
        expected = stats.trim_mean(updates, ratio, axis=0)
        assert np.allclose(moved("trimmed_mean", updates, trim_ratio=ratio), expected, rtol=1e-12, atol=1e-14)


def fltrust(updates: Matrix, root: int) -> Vector:
    """Algorithm 2 of Cao et al. 2021, with a global learning rate of 1."""
    g_0 = updates[root]
    scores, rescaled = [], []
    for place, g in enumerate(updates):
        if place == root:
            continue
        cosine = float(g @ g_0) / float(np.sqrt(g @ g) * np.sqrt(g_0 @ g_0))
        scores.append(cosine if cosine > 0.0 else 0.0)
        rescaled.append(np.sqrt(g_0 @ g_0) / np.sqrt(g @ g) * g)
    if sum(scores) == 0.0:
        return np.zeros(g_0.size)
    return sum(s * g for s, g in zip(scores, rescaled, strict=True)) / sum(scores)  # type: ignore[return-value]  # of arrays


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("nodes", [2, 3, 8, 21])
def test_fltrust_equals_its_paper(seed: int, nodes: int) -> None:
    updates, root = random_updates(seed, nodes), seed % nodes
    found = moved("fltrust", updates, root_node=f"node_{root:03d}")
    assert np.allclose(found, fltrust(updates, root), rtol=1e-12, atol=1e-14)
    slower = moved("fltrust", updates, root_node=f"node_{root:03d}", server_learning_rate=0.25)
    assert np.allclose(slower, 0.25 * found, rtol=1e-12)
    assert np.linalg.norm(found) <= np.linalg.norm(updates[root]) * (1.0 + 1e-12)


@pytest.mark.parametrize(
    "others",
    [np.array([[-1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0], [-3.0, 2.0, 1.0]]), np.zeros((2, 3))],
)
def test_nothing_moves_where_fltrust_trusts_nobody(others: Matrix) -> None:
    root = np.array([[2.0, 0.0, 0.0]])
    assert not moved("fltrust", np.vstack([root, others]), root_node="node_000").any()
    assert not moved("fltrust", np.vstack([0.0 * root, -others]), root_node="node_000").any()


def test_fltrust_without_its_root_node_moves_nothing_and_says_so() -> None:
    with pytest.raises(FederatedError, match='no update of root node "node_009"') as caught:
        moved("fltrust", random_updates(1, 4), root_node="node_009")
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


@pytest.mark.parametrize(("nodes", "cut"), [(1, 0), (2, 0), (3, 1), (4, 1), (9, 1), (10, 2), (100, 20)])
def test_a_fifth_is_trimmed_unless_another_part_is_given(nodes: int, cut: int) -> None:
    updates = random_updates(1, nodes)
    expected = np.sort(updates, axis=0)[cut : nodes - cut].mean(axis=0)
    assert np.allclose(moved("trimmed_mean", updates), expected, rtol=1e-12)


def test_a_part_that_is_a_whole_number_of_updates_is_not_rounded_down() -> None:
    updates = random_updates(2, 100)
    expected = np.sort(updates, axis=0)[29:71].mean(axis=0)
    assert np.allclose(moved("trimmed_mean", updates, trim_ratio=0.29), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("nodes", "hostile"), [(3, 0), (5, 1), (7, 1), (7, 2), (20, 4), (21, 9)])
def test_krum_and_multi_krum_equal_the_papers(seed: int, nodes: int, hostile: int) -> None:
    updates = random_updates(seed, nodes)
    ranked = ranking(updates, hostile)
    assert np.array_equal(moved("krum", updates, byzantine_nodes=hostile), updates[ranked[0]])
    mean = updates[ranked[: max(1, nodes - hostile - 2)]].mean(axis=0)
    assert np.allclose(moved("multi_krum", updates, byzantine_nodes=hostile), mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("nodes", "hostile"), [(3, 0), (7, 1), (8, 1), (11, 2), (20, 4)])
def test_bulyan_equals_the_papers(seed: int, nodes: int, hostile: int) -> None:
    updates = random_updates(seed, nodes)
    expected = bulyan(updates, hostile)
    assert np.allclose(moved("bulyan", updates, byzantine_nodes=hostile), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7, 12, 23])
def test_without_a_number_as_many_are_withstood_as_there_may_be(nodes: int) -> None:
    updates = random_updates(4, nodes)
    if nodes >= 3:
        for name, hostile in (
            ("krum", (nodes - 3) // 2),
            ("multi_krum", (nodes - 3) // 2),
            ("bulyan", (nodes - 3) // 4),
        ):
            given = moved(name, updates, byzantine_nodes=hostile)
            assert np.array_equal(moved(name, updates), given)
    else:
        assert np.array_equal(moved("krum", updates), updates[0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("nodes", [3, 8, 21])
def test_no_point_is_nearer_to_the_updates_than_their_geometric_median(seed: int, nodes: int) -> None:
    updates = random_updates(seed, nodes)

    def total(point: Vector) -> float:
        return float(np.linalg.norm(updates - point, axis=1).sum())

    found = moved("geometric_median", updates)
    best = optimize.minimize(
        total,
        np.median(updates, axis=0),
        method="Nelder-Mead",
        options={"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-9, "fatol": 1e-12},
    )
    assert total(found) <= best.fun * (1 + 1e-7)


def test_the_geometric_median_of_two_lies_between_them_and_of_a_majority_is_theirs() -> None:
    assert np.allclose(moved("geometric_median", np.array([[0.0, 0.0], [2.0, 4.0]])), [1.0, 2.0])
    same = np.array([[1.0, 2.0], [1.0, 2.0], [9.0, 9.0]])
    assert np.array_equal(moved("geometric_median", same), [1.0, 2.0])


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("nodes", [1, 2, 5, 20])
def test_of_equal_updates_it_is_theirs(name: str, nodes: int) -> None:
    one = random_updates(5, 1)[0]
    assert np.allclose(moved(name, np.tile(one, (nodes, 1))), one, rtol=1e-14)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("magnitude", [1e3, 1e150, 1e300])
def test_four_of_twenty_do_not_move_it_however_far_they_go(name: str, magnitude: float) -> None:
    rng = np.random.default_rng(6)
    updates = 1e8 + rng.normal(0, 1e-3, size=(20, 5))
    honest = updates[4:]
    updates[:4] = -magnitude * rng.uniform(0.5, 1.0, size=(4, 5))
    found = moved(name, updates)
    assert (found >= honest.min(axis=0) - 1e-3).all()
    assert (found <= honest.max(axis=0) + 1e-3).all()


@pytest.mark.parametrize("name", ROBUST)
def test_a_weight_has_no_part_in_it(name: str) -> None:
    updates = random_updates(7, 9)
    heavy = np.where(np.arange(9) == 3, 1e12, 1.0)
    assert np.array_equal(moved(name, updates, weights=heavy), moved(name, updates))


def test_of_equal_scores_the_first_in_the_order_of_names_is_the_better() -> None:
    corners = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert np.array_equal(moved("krum", corners, byzantine_nodes=0), corners[0])


@pytest.mark.parametrize(
    ("name", "options", "fewest"),
    [
        ("krum", {"byzantine_nodes": 4}, 11),
        ("multi_krum", {"byzantine_nodes": 0}, 3),
        ("bulyan", {"byzantine_nodes": 2}, 11),
        ("trimmed_mean", {"trim_ratio": 0.1}, 10),
        ("trimmed_mean", {"trim_ratio": 0.3}, 4),
        ("trimmed_mean", {"trim_ratio": 0.49}, 3),
    ],
)
def test_fewer_updates_than_the_papers_bounds_are_refused(
    name: str, options: dict[str, float], fewest: int
) -> None:
    assert np.isfinite(moved(name, random_updates(8, fewest), **options)).all()
    with pytest.raises(FederatedError, match=f"{name} .*needs {fewest} updates, and has {fewest - 1}") as no:
        moved(name, random_updates(8, fewest - 1), **options)
    assert no.value.code is ErrorCode.UPDATE_REJECTED
