"""How many neighbours a node of a large secure sum draws: the tails are exact, the bounds bound, and they are met."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from heliosdb.privacy.neighbours import (
    COMPLETE,
    EXPOSURE,
    FAILURE,
    LOST,
    Neighbourhood,
    exposure,
    failure,
    log2_tail,
    most_curious,
    neighbourhood,
)


def exact_tail(others: int, marked: int, drawn: int, least: int) -> Fraction:
    hits = sum(
        math.comb(marked, hit) * math.comb(others - marked, drawn - hit)
        for hit in range(max(least, 0), min(drawn, marked) + 1)
    )
    return Fraction(hits, math.comb(others, drawn))


def test_tails_are_those_of_whole_numbers() -> None:
    for others in range(1, 9):
        for marked, drawn in itertools.product(range(others + 1), range(1, others + 1)):
            for least in range(-1, drawn + 2):
                expected, found = (
                    exact_tail(others, marked, drawn, least),
                    log2_tail(others, marked, drawn, least),
                )
                assert 2.0**found == pytest.approx(float(expected), rel=1e-12), (others, marked, drawn, least)


def test_a_small_tail_is_exact_too() -> None:
    expected = exact_tail(1000, 333, 240, 150)
    assert log2_tail(1000, 333, 240, 150) == pytest.approx(math.log2(expected), abs=1e-9)
    assert expected < Fraction(1, 2**60)


def test_up_to_200_nodes_each_shares_with_each() -> None:
    assert all(neighbourhood(nodes) is None for nodes in range(1, COMPLETE + 1))


@pytest.mark.parametrize("nodes", [201, 202, 250, 333, 500, 1000])
def test_as_few_are_drawn_as_the_bounds_allow(nodes: int) -> None:
    found = neighbourhood(nodes)
    assert found is not None
    assert exposure(nodes, found) <= EXPOSURE
    assert failure(nodes, found, math.floor(LOST * nodes)) <= FAILURE
    fewer = [Neighbourhood(found.drawn - 1, needed) for needed in range(1, found.drawn)]
    open_ones = [one for one in fewer if failure(nodes, one, math.floor(LOST * nodes)) <= FAILURE]
    # The more are needed the less is exposed.
    assert exposure(nodes, open_ones[-1]) > EXPOSURE
    # Whoever is drawn masks as well: still fewer than all.
    assert 2 * found.drawn - found.drawn**2 / nodes < 0.8 * nodes


def is_exposed(drawn: list[set[int]], curious: set[int], asked: Neighbourhood) -> bool:
    """Whether there is what the module's 2 or 3 says, of all that a coordinator could choose."""
    honest = [node for node in range(len(drawn)) if node not in curious]
    if any(len(drawn[node] & curious) >= 2 * asked.needed - asked.drawn for node in honest):
        return True
    return any(
        all(len(drawn[node] & (curious | set(part))) >= asked.needed for node in part)
        for size in range(1, len(honest) // 2 + 1)
        for part in itertools.combinations(honest, size)
    )


@pytest.mark.parametrize(("nodes", "drawn", "needed"), [(12, 6, 5), (13, 4, 4), (16, 7, 6)])
def test_graphs_are_not_worse_than_the_bound(nodes: int, drawn: int, needed: int) -> None:
    """By chance, with whatever a coordinator then chooses tried out."""
    rng, trials, asked = random.Random(nodes), 600, Neighbourhood(drawn, needed)
    curious = set(range(most_curious(nodes)))
    seen = 0
    for _ in range(trials):
        graph = [
            set(rng.sample([other for other in range(nodes) if other != node], drawn))
            for node in range(nodes)
        ]
        seen += is_exposed(graph, curious, asked)
    bound = min(1.0, 2.0 ** exposure(nodes, asked))
    assert seen / trials <= bound + 4 * math.sqrt(bound * (1 - bound) / trials) + 4 / trials


def test_a_sum_fails_as_seldom_as_the_bound_says() -> None:
    rng, nodes, lost, trials, asked = random.Random(5), 40, 8, 3000, Neighbourhood(12, 8)
    gone = set(range(lost))
    failed = 0
    for _ in range(trials):
        failed += any(
            len(set(rng.sample([other for other in range(nodes) if other != node], asked.drawn)) - gone)
            < asked.needed
            for node in range(nodes)
        )
    bound = 2.0 ** failure(nodes, asked, lost)
    assert failed / trials <= bound + 4 * math.sqrt(bound / trials)
    # Nodes are nearly independent of each other, so it is no loose bound either.
    assert failed / trials >= bound / 3
