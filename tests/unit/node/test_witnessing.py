"""What a head is to a node that holds another of the same log."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

import pytest

from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.merkle import consistency_path, root
from heliosdb.domain.tree_head import SignedStatement, TreeHead, WitnessRequest
from heliosdb.node.witnessing import Verdict, judge

LEAVES = [bytes([number]) * 32 for number in range(12)]
OTHERS = [b"\xff" * 32, *LEAVES[1:]]
MOMENT = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)


def head(size: int, leaves: list[bytes] = LEAVES, *, later: float = 0.0) -> TreeHead:
    moment = MOMENT + dt.timedelta(seconds=later)
    return TreeHead(WorkspaceName("w"), UUID(int=1), size, root(leaves[:size]), moment)


def request(held_size: int, path: list[bytes]) -> WitnessRequest:
    signed = SignedStatement(b"s", b"s")
    return WitnessRequest(WorkspaceName("w"), NodeName("n"), signed, held_size, tuple(path))


@pytest.mark.parametrize("old", range(1, 13))
def test_a_head_that_is_shown_to_continue_does(old: int) -> None:
    for new in range(old + 1, 13):
        path = consistency_path(LEAVES, old, new)
        assert judge(head(old), head(new), request(old, path)) is Verdict.CONTINUES
        assert judge(head(old), head(new, OTHERS), request(old, path)) is Verdict.FORKED
        theirs = consistency_path(OTHERS, old, new)
        assert judge(head(old), head(new, OTHERS), request(old, theirs)) is Verdict.FORKED
        if path:
            assert judge(head(old), head(new), request(old, path[:-1])) is Verdict.FORKED


def test_the_first_head_is_taken_as_it_is() -> None:
    assert judge(None, head(5), request(0, [])) is Verdict.CONTINUES


def test_the_same_head_once_more_is_the_same() -> None:
    assert judge(head(5), head(5, later=9.0), request(0, [])) is Verdict.SAME
    assert judge(head(5), head(5, OTHERS), request(5, [])) is Verdict.FORKED


def test_a_smaller_head_is_old_or_the_log_was_cut_off() -> None:
    assert judge(head(5, later=3.0), head(4), request(4, [])) is Verdict.ELSEWHERE
    assert judge(head(5), head(4, later=3.0), request(4, [])) is Verdict.ROLLED_BACK


def test_a_path_from_another_head_shows_nothing() -> None:
    path = consistency_path(LEAVES, 3, 9)
    assert judge(head(5), head(9), request(3, path)) is Verdict.ELSEWHERE
    assert judge(head(5), head(9), request(0, [])) is Verdict.ELSEWHERE
