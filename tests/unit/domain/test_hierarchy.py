"""Who gathers for whom: branches, cycles and depth."""

from __future__ import annotations

import itertools

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.hierarchy import MOST_LEVELS, Aggregators, Branch, check_hierarchy, grow
from heliosdb.domain.ids import NodeName


def named(**above: str) -> Aggregators:
    return {NodeName(node): NodeName(aggregator) for node, aggregator in above.items()}


def nodes(names: str) -> tuple[NodeName, ...]:
    return tuple(NodeName(name) for name in names)


A, B = nodes("ab")


def test_nodes_without_an_aggregator_are_in_no_branch() -> None:
    assert grow({}, nodes("cab")) == ((), nodes("abc"))


def test_an_aggregator_gathers_for_those_that_are_asked_and_name_it() -> None:
    branches, alone = grow(named(c="a", d="a", e="b", f="b"), nodes("dcaxe"))

    assert branches == (Branch(A, nodes("cd")), Branch(B, nodes("e")))
    assert alone == nodes("ax")


def test_a_branch_below_a_branch_is_gathered_with_the_one_that_gathers_it() -> None:
    branches, alone = grow(named(b="a", c="a", d="b", e="b"), nodes("abcde"))

    assert branches == (Branch(A, nodes("bc"), (Branch(B, nodes("de")),)),)
    assert branches[0].everybody == frozenset(nodes("bcde"))
    assert alone == nodes("a")


def test_an_aggregator_that_is_not_asked_itself_gathers_all_the_same() -> None:
    branches, alone = grow(named(b="a", d="b"), nodes("d"))

    assert branches == (Branch(A, (), (Branch(B, nodes("d")),)),)
    assert alone == ()


def test_what_lies_in_or_leads_to_a_cycle_is_asked_alone() -> None:
    branches, alone = grow(named(a="b", b="a", c="a", e="d"), nodes("abcde"))

    assert branches == (Branch(NodeName("d"), nodes("e")),)
    assert alone == nodes("abcd")


@pytest.mark.parametrize(
    ("above", "node", "detail"),
    [
        (named(a="a"), "a", "a -> a."),
        (named(a="b", b="a"), "a", "a -> b -> a."),
        (named(a="b", b="c", c="a"), "c", "c -> a -> b -> c."),
    ],
)
def test_a_cycle_is_shown(above: Aggregators, node: str, detail: str) -> None:
    with pytest.raises(FederatedError, match=f'node "{node}" would aggregate for itself') as caught:
        check_hierarchy(above, NodeName(node))
    assert (caught.value.code, caught.value.detail) == (ErrorCode.INVALID_VALUE, detail)


def test_no_more_than_so_many_levels_lie_above_any_node() -> None:
    chain = nodes("abcdefgh"[: MOST_LEVELS + 1])
    above = dict(itertools.pairwise(chain))
    check_hierarchy(above, chain[0])

    # The node that is altered has few above it; one below it then has too many.
    with pytest.raises(
        FederatedError, match='node "a" would have 5 aggregators above it, and may have 4'
    ) as caught:
        check_hierarchy({**above, chain[-1]: NodeName("z")}, chain[-1])
    assert caught.value.code is ErrorCode.PROGRAM_LIMIT


def test_what_an_aggregator_has_not_brought_is_asked_by_whole_branches_where_nothing_of_them_came() -> None:
    deep = Branch(NodeName("d"), nodes("xy"))
    branch = Branch(A, nodes("bcd"), (Branch(B, nodes("efg")), deep))

    assert branch.missing(()) == ([Branch(B, nodes("efg")), deep], list(nodes("bcd")))
    assert branch.missing(nodes("bce")) == ([deep], list(nodes("dfg")))
    assert branch.missing(nodes("bcdefgxy")) == ([], [])


def test_a_branch_without_some_answers_still_gathers_by_those_nodes() -> None:
    branch = Branch(A, nodes("bc"), (Branch(B, nodes("de")),))

    assert branch.without(nodes("bd")) == Branch(A, nodes("c"), (Branch(B, nodes("e")),))
