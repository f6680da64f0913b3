"""Whom a round asks: at most so many, evenly, and the same in every life of a coordinator."""

from __future__ import annotations

import itertools
from collections import Counter
from uuid import UUID

import pytest

from heliosdb.catalog.run_options import parse_policy
from heliosdb.coordinator.selections import ALL, RANDOM, make_selection
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.selection import NO_STANDINGS, RunSelection, Standing
from heliosdb.parts.selections import SomeNodes

NODES = frozenset(NodeName(f"node{number}") for number in range(8))
RUN = RunId(UUID(int=7))


def selection(text: str, most: int = 100, run: RunId = RUN, always: str | None = None) -> RunSelection:
    policy = {
        "round_timeout": 300, "delta": 1e-5, "clipping_threshold": 1.0, "min_nodes": 2, "max_nodes": most,
        "node_selection": text,
    }  # fmt: skip
    needed = frozenset(() if always is None else (NodeName(always),))
    return make_selection(parse_policy(policy, WorkspaceName("w")), run, always=needed)


def test_all_asks_everybody_and_the_first_by_name_where_they_are_too_many() -> None:
    assert selection("all").choose(NODES, 1) == NODES
    assert selection("all", most=3).choose(NODES, 1) == {"node0", "node1", "node2"}
    assert selection("all").choose(frozenset(), 1) == frozenset()


def test_random_asks_k_of_the_able_in_every_round_and_others_each_time() -> None:
    chosen = [selection("random(3)").choose(NODES, number) for number in range(1, 40)]
    assert all(len(nodes) == 3 and nodes <= NODES for nodes in chosen)
    assert len(set(chosen)) > 20


def test_random_asks_no_more_than_are_able_or_may_take_part() -> None:
    assert selection("random(9)").choose(NODES, 1) == NODES
    assert len(selection("random(5)", most=4).choose(NODES, 1)) == 4
    assert len(selection("random(5)", most=4).choose(NODES, 0)) == 4


def test_a_choice_is_the_same_in_every_life_and_another_in_every_run() -> None:
    one, again = selection("random(3)"), selection("random(3)")
    other = selection("random(3)", run=RunId(UUID(int=8)))
    assert one == again
    rounds = range(1, 20)
    assert [one.choose(NODES, n) for n in rounds] == [again.choose(NODES, n) for n in rounds]
    assert [one.choose(NODES, n) for n in rounds] != [other.choose(NODES, n) for n in rounds]


def test_a_choice_does_not_depend_on_who_else_is_able() -> None:
    """One that is gone is replaced; the others stay."""
    whole = selection("random(3)").choose(NODES, 5)
    gone = min(whole)
    assert whole - {gone} <= selection("random(3)").choose(NODES - {gone}, 5)


@pytest.mark.parametrize(
    ("text", "most", "asked"), [("all", 3, 3), ("random(3)", 100, 4), ("random(5)", 4, 4)]
)
def test_who_is_always_asked_takes_nobodys_place_but_where_there_is_none_left(
    text: str, most: int, asked: int
) -> None:
    chosen = [selection(text, most, always="node7").choose(NODES, number) for number in range(20)]
    assert all("node7" in nodes for nodes in chosen)
    assert all(len(nodes) == asked for nodes in chosen[1:])
    assert len(chosen[0]) == min(most, len(NODES))
    assert "node7" not in selection(text, most, always="node7").choose(NODES - {"node7"}, 1)


def test_every_node_is_asked_equally_often() -> None:
    rounds = 4_000
    counts = Counter(
        node for number in range(1, rounds + 1) for node in selection("random(2)").choose(NODES, number)
    )
    expected = rounds * 2 / len(NODES)
    # Of a binomial count the standard deviation is about 27: six of them.
    assert all(abs(counts[node] - expected) < 165 for node in NODES)


def test_round_0_asks_everybody_for_it_decides_who_belongs_to_the_run() -> None:
    assert selection("random(2)").choose(NODES, 0) == NODES


def test_a_rule_depends_on_its_arguments_alone() -> None:
    draw = bytes(32)
    once, again = (RANDOM.choose(NODES, 8, SomeNodes(3), draw, NO_STANDINGS) for _ in range(2))
    assert once == again
    one, other = (ALL.choose(NODES, 8, None, each, NO_STANDINGS) for each in (draw, bytes(31) + b"x"))
    assert one == other


def test_a_selection_that_is_not_there_is_refused() -> None:
    with pytest.raises(FederatedError, match="lottery"):
        selection("lottery(3)")


# By what is known of nodes.

SIZES = {NodeName(f"node{number}"): Standing(rows=100 * number) for number in range(8)}


def test_most_data_asks_those_with_the_most_rows_whatever_their_names() -> None:
    for number in range(1, 10):
        assert selection("most_data(2)").choose(NODES, number, SIZES) == {"node7", "node6"}
    assert selection("most_data(2)").choose(NODES - {"node7"}, 1, SIZES) == {"node6", "node5"}
    assert selection("most_data(2)").choose(NODES, 0, SIZES) == NODES


def test_a_node_that_stated_no_rows_comes_last() -> None:
    known = {NodeName("node3"): Standing(rows=1), NodeName("node4"): Standing()}
    assert selection("most_data(1)").choose(NODES, 1, known) == {"node3"}


@pytest.mark.parametrize("text", ["most_data(2)", "best_performance(2)"])
def test_equal_nodes_share_the_work(text: str) -> None:
    known = {node: Standing(rows=50, asked=2, aligned=1.5) for node in NODES}
    rounds = 2_000
    counts = Counter(
        node for number in range(1, rounds + 1) for node in selection(text).choose(NODES, number, known)
    )
    # Of a binomial count the standard deviation is about 19: six of them.
    assert all(abs(counts[node] - rounds * 2 / len(NODES)) < 116 for node in NODES)


def test_best_performance_tries_every_node_first_and_then_asks_the_best_mean() -> None:
    chosen = selection("best_performance(2)")
    known: dict[NodeName, Standing] = {}
    for number in range(1, 5):
        asked = chosen.choose(NODES, number, known)
        assert asked.isdisjoint(known)
        known |= {node: Standing(asked=1, aligned=0.1 * int(node[4:])) for node in asked}
    assert known.keys() == NODES

    assert chosen.choose(NODES, 5, known) == {"node7", "node6"}
    # A sum says less than a mean, and a round without an update counts as one that agrees with nobody.
    known |= {
        NodeName("node7"): Standing(asked=4, aligned=0.7),
        NodeName("node0"): Standing(asked=1, aligned=-0.5),
    }
    assert chosen.choose(NODES, 6, known) == {"node6", "node5"}
    assert "node0" not in selection("best_performance(7)").choose(NODES, 6, known)


def test_who_is_always_asked_takes_no_place_of_the_ranked() -> None:
    chosen = selection("most_data(2)", always="node0").choose(NODES, 3, SIZES)
    assert chosen == {"node0", "node7", "node6"}


def test_in_turn_every_node_is_asked_once_before_any_is_asked_again_and_who_was_away_comes_next() -> None:
    chosen, known = selection("cyclic(1)"), dict[NodeName, Standing]()
    rounds = itertools.count(1)

    def turn(able: frozenset[NodeName]) -> NodeName:
        number = next(rounds)
        (node,) = chosen.choose(able, number, known)
        known[node] = Standing(asked=known.get(node, Standing()).asked + 1, last_asked=number)
        return node

    gone = NodeName("node2")
    first = [turn(NODES - {gone}) for _ in range(7)]
    assert first == sorted(NODES - {gone})
    assert turn(NODES) == gone
    assert [turn(NODES) for _ in range(8)] == [*sorted(NODES - {gone}), gone]
    # Who was away for long takes one turn, not all those that it has missed.
    away = [turn(NODES - {gone}) for _ in range(21)]
    assert Counter(away) == dict.fromkeys(NODES - {gone}, 3)
    assert [turn(NODES) for _ in range(3)] == [gone, "node0", "node1"]
    assert selection("cyclic(3)").choose(NODES, 1) == {"node0", "node1", "node2"}
    assert chosen.choose(NODES, 0) == NODES
