"""Secure sums of many nodes, each of which draws whom it shares its seeds with: the sum, and who would spoil it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from heliosdb.aggregation import secure_graph
from heliosdb.aggregation.secure_graph import BOX, Graph
from heliosdb.aggregation.secure_sum import _Seat
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import make_state, state_to_bytes
from heliosdb.domain.vector import AnyVector
from heliosdb.privacy.neighbours import COMPLETE, Neighbourhood
from heliosdb.privacy.ring import MOST_WIDE
from heliosdb.privacy.sharing import SHARE_BYTES
from tests.support.secure_sums import STAGES, Play, vectors

NINE = vectors(9)
NODES = sorted(NINE)
DRAWN, NEEDED = 5, 4


@pytest.fixture(autouse=True)
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have nodes of small groups draw their neighbours, as those of large ones do."""
    monkeypatch.setattr(secure_graph, "neighbourhood", lambda nodes: Neighbourhood(DRAWN, NEEDED))
    yield


def exact(nodes: list[NodeName], which: dict[NodeName, np.ndarray] = NINE) -> list[float]:
    return [math.fsum(column) for column in zip(*(which[node] for node in nodes), strict=True)]


def refused(match: str) -> pytest.RaisesExc[FederatedError]:
    return pytest.raises(FederatedError, match=match)


def holders(play: Play, node: NodeName) -> set[int]:
    """Places of those that a node drew."""
    return set(play.memories[node]["holders"].tolist())


def some_that_open(stage: str, count: int) -> tuple[Play, list[NodeName]]:
    """A sum of which so many are lost and each node keeps as many holders as are needed."""
    for _ in range(1000):
        play = Play(NINE).until("shares")
        for first in NODES:
            lost = NODES[NODES.index(first) :][:count]
            gone = {play.place(node) for node in lost}
            if all(len(holders(play, node) - gone) >= NEEDED for node in NODES):
                for one in STAGES[2:]:
                    there = (
                        NODES if STAGES.index(one) < STAGES.index(stage) else sorted(set(NODES) - set(lost))
                    )
                    play.stage(one, there)
                return play, lost
    raise AssertionError("no graph of a thousand had enough holders")


def test_the_sum_is_exact() -> None:
    assert Play(NINE).until("unmask").total().tolist() == exact(NODES)


@pytest.mark.parametrize("stage", ["masked", "consistency", "unmask"])
def test_whoever_is_lost_is_in_the_sum_if_its_vector_came(stage: str) -> None:
    play, lost = some_that_open(stage, 1)
    left = [node for node in NODES if node not in lost] if stage == "masked" else NODES
    assert play.total().tolist() == exact(left)


def test_who_shares_nothing_is_not_in_the_sum() -> None:
    for _ in range(1000):
        play = Play(NINE).until("keys")
        play.stage("shares", NODES[1:])
        gone = play.place(NODES[0])
        if all(len(holders(play, node) - {gone}) >= NEEDED for node in NODES[1:]):
            break
    for one in STAGES[2:]:
        play.stage(one, NODES[1:])
    assert play.total().tolist() == exact(NODES[1:])


def test_two_nodes_mask_towards_each_other_where_either_drew_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masked, seeds = dict[int, set[int]](), _Seat.seeds

    def spy(seat: _Seat, others: list[int]) -> object:
        masked[seat.place] = set(others)
        return seeds(seat, others)

    monkeypatch.setattr(_Seat, "seeds", spy)
    play = Play(NINE).until("shares")
    drew = {play.place(node): holders(play, node) for node in NODES}
    play.stage("masked", NODES)
    either = {one: {other for other in drew if one in drew[other] or other in drew[one]} for one in drew}
    assert masked == either
    for node in NODES:
        assert len(play.memories[node]["pairs"]) == sum(play.place(node) in those for those in drew.values())


# Who is drawn.


def test_nobody_foresees_whom_a_node_draws() -> None:
    """Each other node is drawn as often, and no two at one time more often than by chance."""
    graph, trials = Graph.of(9), 4000
    single, pairs = Counter[int](), Counter[tuple[int, int]]()
    for _ in range(trials):
        found = graph.draw(3)
        assert len(set(found)) == DRAWN
        assert found == sorted(found)
        assert 3 not in found
        single.update(found)
        pairs.update((one, other) for one in found for other in found if one < other)
    share, both = DRAWN / 8, DRAWN * (DRAWN - 1) / (8 * 7)
    assert len(single) == 8
    assert len(pairs) == 28
    for count in single.values():
        assert abs(count / trials - share) < 5 * math.sqrt(share * (1 - share) / trials)
    for count in pairs.values():
        assert abs(count / trials - both) < 5 * math.sqrt(both * (1 - both) / trials)


def test_the_same_keys_draw_others_the_next_time() -> None:
    """Neither the coordinator's note nor what the node kept decides."""
    play = Play(NINE).until("keys")
    before, found = play.memories[NODES[0]], set()
    for _ in range(20):
        play.memories[NODES[0]] = before
        play.answer("shares", NODES[0])
        found.add(frozenset(holders(play, NODES[0])))
    assert len(found) > 5


# By the coordinator.


def test_senders_among_whom_are_too_few_that_the_node_drew() -> None:
    """A coordinator that picks the senders would leave a node those that work with it, and mask it towards them
    alone."""
    play = Play(NINE).until("shares")
    victim = NODES[0]
    own, drew = play.place(victim), holders(play, victim)
    # Six are the threshold: itself, the three that it did not draw, and two that it drew.
    few = sorted({own, *(set(range(9)) - drew), *sorted(drew)[:2]})
    with refused("of the nodes that hold its shares 2 are left, and 4 have to be"):
        play.answer("masked", victim, None, **told(play, victim, few))


def told(play: Play, node: NodeName, senders: list[int]) -> dict[str, np.ndarray]:
    """What a coordinator tells a node that names these senders, with the boxes that they sent."""
    numbers, boxes = Graph.of(9).towards(play.heard, play.place(node))
    all_senders = play.heard["senders"].tolist()
    kept = [at for at, number in enumerate(numbers) if all_senders[number] in senders]
    givers = [all_senders[numbers[at]] for at in kept]
    return {
        "senders": np.array(senders, dtype=np.uint64),
        "givers": np.array(givers, dtype=np.uint64),
        "boxes": boxes[kept],
    }


def test_whoever_is_shown_other_senders_opens_nothing() -> None:
    """The victim masks towards others than the rest believe: nobody tells it who is left, in its own view, with
    six signatures under that."""
    play = Play(NINE).until("shares")
    victim = NODES[0]
    own, drew = play.place(victim), holders(play, victim)
    seen = sorted({own, *sorted(drew)[:NEEDED], *sorted(set(range(9)) - drew - {own})[:1]})
    play.answer("masked", victim, None, **told(play, victim, seen))
    for node in NODES[1:]:
        play.answer("masked", node)
    survivors = np.arange(9, dtype=np.uint64)
    with refused("not of its group"):
        play.answer("consistency", victim, note=state_to_bytes(make_state(survivors=survivors)))


def test_a_box_of_another_node_does_not_open() -> None:
    play = Play(NINE).until("shares")
    node = NODES[0]
    note = told(play, node, list(range(9)))
    givers = note["givers"].tolist()
    assert len(givers) > 1
    with refused("do not open"):
        play.answer("masked", node, None, **(note | {"boxes": note["boxes"][::-1]}))
    with refused("not as many boxes"):
        play.answer("masked", node, None, **(note | {"boxes": note["boxes"][1:]}))
    with refused("has no givers"):
        note.pop("givers")
        play.answer("masked", node, note=state_to_bytes(make_state(**note)))


def test_a_node_is_not_among_those_that_sent_it_boxes() -> None:
    play = Play(NINE).until("shares")
    node = NODES[0]
    note = told(play, node, list(range(9)))
    givers = np.array(sorted({*note["givers"].tolist(), play.place(node)}), dtype=np.uint64)
    with refused("givers of a secure sum are not of its group"):
        play.answer("masked", node, None, **(note | {"givers": givers}))


def test_a_box_that_is_kept_back_spoils_the_sum_and_opens_no_vector() -> None:
    """The one masks towards the other, which does not know: what is left of that mask nobody can take away."""
    for _ in range(100):
        play = Play(NINE).until("shares")
        node, note = NODES[0], told(play, NODES[0], list(range(9)))
        one_way = [at for at, giver in enumerate(note["givers"].tolist()) if giver not in holders(play, node)]
        if one_way:
            break
    kept = [at for at in range(len(note["givers"])) if at != one_way[0]]
    short = note | {"givers": note["givers"][kept], "boxes": note["boxes"][kept]}
    said = {one: play.answer("masked", one, None, **(short if one == node else {})) for one in NODES}
    play.heard = play.protocol.take("masked", play.size, play.heard, said)
    play.stage("consistency", NODES)
    shares = {one: play.answer("unmask", one) for one in NODES}
    try:
        play.heard = play.protocol.take("unmask", play.size, play.heard, shares)
        found = play.total()
    except FederatedError:
        return
    assert not np.allclose(found, exact(NODES), rtol=1.0)


# By nodes.


@pytest.mark.parametrize("marks", ["none", "all", "itself", "padding"])
def test_a_node_that_says_nothing_sound_of_its_holders_is_left_out(marks: str) -> None:
    liar = NODES[4]

    def lie(node: NodeName, answer: AnyVector) -> AnyVector:
        if node != liar:
            return answer
        bits = np.unpackbits(answer[:2])
        if marks == "none":
            bits[:] = 0
        elif marks == "all":
            bits[:9] = 1
        else:
            own = play.place(liar) if marks == "itself" else 12
            bits[np.flatnonzero(bits[:9])[0]], bits[own] = 0, 1
        return np.concatenate([np.packbits(bits), answer[2:]])

    for _ in range(1000):
        play = Play(NINE).until("keys")
        play.stage("shares", NODES, lie)
        gone = play.place(liar)
        left = [node for node in NODES if node != liar]
        if all(len(holders(play, node) - {gone}) >= NEEDED for node in left):
            break
    with refused("itself is not among those who are left"):
        play.answer("masked", liar)
    for stage in STAGES[2:]:
        play.stage(stage, left)
    assert play.total().tolist() == exact(left)


def test_a_wrong_share_is_found_where_one_is_to_spare() -> None:
    play = Play(NINE).until("consistency")
    play.stage("unmask", NODES, lambda node, answer: answer ^ 1 if node == NODES[1] else answer)
    assert play.total().tolist() == exact(NODES)


def test_too_few_that_hold_a_node_s_shares_are_said_by_name() -> None:
    play = Play(NINE).until("consistency")
    drew = Graph.of(9).held(play.heard)
    number = 0
    gone = [int(place) for place in np.flatnonzero(drew[number])[:2]]
    left = [node for node in NODES if play.place(node) not in gone]
    with refused(
        f"Too few nodes are left that hold shares of node .*: {NEEDED - 1}, and {NEEDED} are"
    ) as caught:
        play.stage("unmask", left)
    assert caught.value.code is ErrorCode.UNREACHABLE


# Messages.


def test_what_is_answered_is_as_long_as_the_protocol_says() -> None:
    play = Play(NINE).until("unmask")
    for stage in STAGES:
        shape = play.protocol.shape(stage, play.size, 9)
        assert {(one.size, one.dtype.name) for one in play.said[stage].values()} == {
            (shape.size, shape.dtype.value)
        }
    assert play.said["shares"][NODES[0]].size == 2 + DRAWN * BOX
    told_of = play.said["unmask"][NODES[0]].reshape(-1, SHARE_BYTES)
    assert np.count_nonzero(told_of.any(axis=1)) < 9


def test_a_sum_of_201_nodes_of_which_a_tenth_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many neighbours as such a group has."""
    monkeypatch.undo()
    many = vectors(COMPLETE + 1, size=MOST_WIDE + 1)
    names = sorted(many)
    play, left = Play(many), names[20:]
    for stage in STAGES:
        play.stage(stage, names if stage in ("keys", "shares") else left)
    graph = Graph.of(len(names))
    assert graph.drawn is not None
    assert play.said["shares"][names[0]].size == graph.message_bytes < len(names) * BOX
    assert np.abs(play.total() - np.array(exact(left, many))).max() < 1e-12
