"""Attacks on a secure sum, by its coordinator, by nodes and by both: each is refused, or learns nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heliosdb.aggregation.secure_keys import KEYS_BYTES, Group, Secrets, as_array
from heliosdb.aggregation.secure_sum import _Seat
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import freeze, make_state, state_to_bytes
from heliosdb.domain.vector import AnyVector
from heliosdb.privacy.ring import NARROW, WIDE, add, ring_for, subtract
from heliosdb.privacy.sharing import PRIME, SHARE_BYTES, join, weights_at_zero
from tests.support.secure_sums import STAGES, Play, mask, vectors
from tests.support.sums import Site

FIVE = vectors(5)
NODES = sorted(FIVE)


def exact(nodes: list[NodeName], which: dict[NodeName, np.ndarray] = FIVE) -> list[float]:
    columns = zip(*(which[node] for node in nodes), strict=True)
    return [math.fsum(column) for column in columns]


def places(*numbers: int) -> np.ndarray:
    return np.array(sorted(numbers), dtype=np.uint64)


def refused(match: str) -> pytest.RaisesExc[FederatedError]:
    return pytest.raises(FederatedError, match=match)


def test_the_sum_is_exact() -> None:
    assert Play(FIVE).until("unmask").total().tolist() == exact(NODES)


def test_a_node_that_is_lost_before_it_is_masked_is_not_in_the_sum() -> None:
    for stage in ("shares", "masked"):
        play = Play(FIVE)
        left = [node for node in NODES if node != "node_2"]
        for one in STAGES:
            play.stage(one, NODES if (one < stage and one == "keys") or _before(one, stage) else left)
        assert play.total().tolist() == exact(left)


def _before(one: str, other: str) -> bool:
    return STAGES.index(one) < STAGES.index(other)


def test_a_node_that_is_lost_after_it_was_masked_is_in_the_sum() -> None:
    """Before it has signed who is left, or after that."""
    early = Play(FIVE).until("masked")
    early.stage("consistency", NODES[1:])
    early.stage("unmask", NODES[1:])
    late = Play(FIVE).until("consistency")
    late.stage("unmask", NODES[1:])
    assert early.total().tolist() == late.total().tolist() == exact(NODES)


# By the coordinator.


def test_one_node_in_both_lists() -> None:
    """Who is told of twice would give both shares, with which its vector opens."""
    play = Play(FIVE).until("masked")
    twice = np.array([0, 1, 2, 3, 3, 4], dtype=np.uint64)
    with refused("not of its group"):
        play.answer("consistency", NODES[0], survivors=twice)


def test_a_vector_on_its_own_is_not_opened_by_different_survivors_to_different_nodes() -> None:
    """The victim masks its vector towards two nodes alone. Each of the others is told by itself who is left,
    in sets that are each large enough: three tell of the victim's own mask, and three each of the pairwise
    masks of those two. So none is told what it has not signed, and what three have signed alike."""
    play = Play(FIVE, threshold=3).until("shares")
    at = {play.place(node): node for node in NODES}
    few, alive = [0, 1, 2], {1: (0, 1, 3, 4), 2: (0, 2, 3, 4), 3: (0, 3, 4), 4: (0, 3, 4)}
    play.answer("masked", at[0], senders=places(*few), boxes=play.heard["boxes"][few, 0])
    signed = {}
    for place, left in alive.items():
        play.answer("masked", at[place])
        signed[place] = play.answer("consistency", at[place], note=_note(survivors=places(*left)))
    with refused("not of its group"):
        play.answer("consistency", at[0], note=_note(survivors=places(0, 3, 4)))
    signed[0] = play.answer("consistency", at[0], note=_note(survivors=places(*few)))
    for place, left in alive.items():
        signatures = np.stack([signed[one] for one in left])
        with refused("signed who is left in the sum, and the threshold is 3"):
            play.answer("unmask", at[place], note=_note(signers=places(*left), signatures=signatures))


def test_who_is_left_is_signed_by_peers_for_this_sum() -> None:
    """Neither a signature of a round before counts, nor one by another, nor one node's for two."""
    old, play = Play(FIVE).until("consistency"), Play(FIVE, round=2).until("consistency")
    signatures, own = play.heard["signatures"], play.place(NODES[0])
    others = [place for place in range(5) if place != own]
    for wrong in (old.heard["signatures"], signatures[[1, 2, 3, 4, 0]], signatures[[own] * 5]):
        changed = np.array(signatures)
        changed[others[:2]] = wrong[others[:2]]
        with refused("3 nodes signed"):
            play.answer("unmask", NODES[0], signatures=changed)
    kept = {"signers": places(*others), "signatures": signatures[others]}
    assert play.answer("unmask", NODES[0], note=_note(**kept)).size == 2 * 4 * SHARE_BYTES


def test_a_wrong_signature_of_one_node_stops_nobody() -> None:
    play, liar = Play(FIVE).until("masked"), NODES[2]
    play.stage("consistency", NODES, lambda node, answer: answer ^ 1 if node == liar else answer)
    play.stage("unmask", NODES)
    assert play.total().tolist() == exact(NODES)


def test_a_node_says_each_message_once() -> None:
    """After the last message nothing is kept that could be told again; node/summing.py refuses the turn."""
    play = Play(FIVE).until("consistency")
    play.answer("unmask", NODES[0])
    with pytest.raises((FederatedError, KeyError)):
        play.answer("unmask", NODES[0])


def test_keys_of_an_old_round_are_no_keys() -> None:
    old, new = Play(FIVE).until("keys"), Play(FIVE, round=2)
    new.stage("keys", NODES, lambda node, answer: old.said["keys"][node] if node == NODES[3] else answer)
    with refused("not of this sum"):
        new.answer("shares", NODES[0])


def test_boxes_of_an_old_round_do_not_open() -> None:
    old, new = Play(FIVE).until("shares"), Play(FIVE, round=2).until("shares")
    place = new.place(NODES[0])
    with refused("do not open"):
        new.answer("masked", NODES[0], boxes=old.heard["boxes"][:, place])


def test_keys_that_the_coordinator_made_are_signed_by_nobody() -> None:
    play = Play(FIVE).until("keys")
    keys = np.array(play.heard["keys"])
    other = (play.place(NODES[0]) + 1) % 5
    keys[other, 32:64] = np.frombuffer(bytes(range(32)), dtype=np.uint8)
    with refused("not of a peer"):
        play.answer("shares", NODES[0], keys=keys)


def test_a_participant_that_no_dba_has_named_is_none() -> None:
    """The coordinator invents nodes, until the sum without them is one node's."""
    sites = {node: Site(node, peers=NODES[:4]) for node in NODES}
    play = Play(FIVE, sites=sites).until("keys")
    with refused("not of a peer"):
        play.answer("shares", NODES[0])


def test_keys_of_two_nodes_are_two() -> None:
    """Whoever repeats another's public key would have its masks."""
    play = Play(FIVE).until("keys")
    keys = np.array(play.heard["keys"])
    keys[1, 32:64] = keys[0, 32:64]
    with refused("same key"):
        play.answer("shares", NODES[0], keys=keys)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 3], [1, 0, 2, 3, 4], [0, 0, 0, 0, 0]])
def test_nodes_are_there_once_and_in_order(order: list[int]) -> None:
    play = Play(FIVE).until("keys")
    with refused("twice, or not in order"):
        play.answer("shares", NODES[0], keys=play.heard["keys"][order])


def test_different_groups_to_different_nodes_share_no_key() -> None:
    """A node that was shown a smaller group has other keys than those that were not."""
    play = Play(FIVE).until("keys")
    own, absent = play.place(NODES[0]), (play.place(NODES[0]) + 1) % 5
    fewer = [place for place in range(5) if place != absent]
    moved = play.answer("shares", NODES[0], keys=play.heard["keys"][fewer]).reshape(4, -1)
    others = [node for node in NODES if play.place(node) not in (own, absent)]
    play.said["shares"] = {node: play.answer("shares", node) for node in others}
    victim = play.place(others[0])
    boxes = np.stack([play.said["shares"][node].reshape(5, -1)[victim] for node in others])
    senders = sorted(play.place(node) for node in others)
    with refused("do not open"):
        play.answer(
            "masked",
            others[0],
            note=_note(
                senders=places(*senders, own),
                boxes=_inserted(boxes, senders, own, moved[fewer.index(victim)]),
            ),
        )


def _note(**arrays: np.ndarray) -> bytes:
    return state_to_bytes(make_state(**arrays))


def _inserted(boxes: np.ndarray, senders: list[int], own: int, box: np.ndarray) -> np.ndarray:
    return np.insert(boxes, sorted([*senders, own]).index(own), box, axis=0)


@pytest.mark.parametrize("threshold", [0, 1, 2, 6, 2**63])
def test_a_threshold_that_few_meet_or_nobody(threshold: int) -> None:
    play = Play(FIVE).until("keys")
    with refused("cannot be the threshold"):
        play.answer("shares", NODES[0], threshold=np.array([threshold], dtype=np.uint64))


def test_a_sum_of_fewer_than_the_threshold_is_not_unmasked() -> None:
    """The sum of one node, of which all others are said to be lost."""
    play = Play(FIVE).until("masked")
    own = play.place(NODES[0])
    for left in ([own], [own, (own + 1) % 5], [own, (own + 1) % 5, (own + 2) % 5]):
        with refused("the threshold is 4"):
            play.answer("consistency", NODES[0], survivors=places(*left))


def test_two_of_three_open_no_sum() -> None:
    """Each of them knows its own vector, and so by the sum the other's."""
    three = vectors(3)
    play = Play(three).until("keys")
    assert int(play.heard["threshold"][0]) == 3
    with refused("2 of 3 nodes cannot be the threshold"):
        play.answer("shares", NODES[0], threshold=np.array([2], dtype=np.uint64))


def test_a_node_does_not_unmask_a_sum_in_which_it_is_not() -> None:
    play = Play(FIVE).until("masked")
    with refused("not among those"):
        play.answer("consistency", NODES[0], survivors=places(*(set(range(5)) - {play.place(NODES[0])})))


def test_a_group_of_two_has_no_secret() -> None:
    two = vectors(2)
    with refused("takes 3 to"):
        Play(two).until("keys")
    play = Play(FIVE).until("keys")
    own = play.place(NODES[0])
    with refused("takes 3 to"):
        play.answer("shares", NODES[0], keys=play.heard["keys"][sorted({own, (own + 1) % 5})])


def test_the_late_vector_of_a_node_that_was_said_to_be_lost_does_not_open() -> None:
    """The coordinator gets at its pairwise masks then; the mask of its own seed stays on it."""
    play, late = Play(FIVE).until("shares"), NODES[4]
    seat = _seat(play, late)
    play.stage("masked", NODES)
    ring, words = ring_for(play.size), np.array(play.said["masked"][late])
    masks = seat.seeds(range(5)).hide(np.zeros(play.size), ring)
    own = mask(seat.drawn.own, words.size)
    subtract(words, masks, ring.limbs)
    assert ring.decode(words).tolist() == FIVE[late].tolist(), "without all masks it is the vector"
    add(words, own, ring.limbs)
    assert not np.isclose(ring.decode(words), FIVE[late]).any()
    alive = NODES[:4]
    play.heard = freeze({**play.heard, "survivors": places(*(play.place(node) for node in alive))})
    play.stage("consistency", alive)
    told = [play.answer("unmask", node).reshape(-1, SHARE_BYTES) for node in alive]
    shares = {
        play.place(node) + 1: row[play.place(late)].tobytes() for node, row in zip(alive, told, strict=True)
    }
    assert join(shares) == seat.drawn.masks, "the shares that are told are of the pairwise masks' key"


# By nodes.


def test_a_box_that_does_not_open_names_its_sender() -> None:
    play = Play(FIVE).until("keys")
    liar = NODES[2]
    play.stage("shares", NODES, lambda node, answer: answer ^ 1 if node == liar else answer)
    name = play.sites.get(liar, Site(liar)).fingerprint.hex()[:16]
    with refused(f"certificate {name} do not open"):
        play.answer("masked", NODES[0])


def test_a_share_beyond_the_field_is_refused() -> None:
    play = Play(FIVE).until("keys")
    beyond = PRIME.to_bytes(SHARE_BYTES, "big")
    liar, victim = NODES[2], NODES[0]
    seat = _seat(play, liar)
    boxes = as_array(seat.boxes(dict.fromkeys(range(5), beyond + beyond))[0])
    play.stage("shares", NODES, lambda node, answer: boxes if node == liar else answer)
    with refused("do not open"):
        play.answer("masked", victim)


def _seat(play: Play, node: NodeName) -> _Seat:
    group = Group.read(play.heard["keys"], int(play.heard["threshold"][0]))
    return _Seat(group, play.place(node), Secrets.read(play.memories[node]["secrets"]))


def test_one_wrong_share_among_enough_is_found_and_not_used() -> None:
    play = Play(FIVE).until("consistency")
    liar = NODES[1]
    play.stage("unmask", NODES, lambda node, answer: answer ^ 1 if node == liar else answer)
    assert play.total().tolist() == exact(NODES)


def test_wrong_shares_where_none_is_to_spare_are_refused_by_name() -> None:
    play = Play(FIVE).until("consistency")
    with refused("do not fit what it stated"):
        play.stage("unmask", NODES[1:], lambda node, answer: answer ^ 1 if node == NODES[1] else answer)


def test_keys_with_the_certificate_of_another_node() -> None:
    twin = {NODES[1]: Site(NODES[0])}
    with refused("the same certificate"):
        Play(FIVE, sites=twin).until("keys")


@pytest.mark.parametrize("stage", ["shares", "masked", "consistency", "unmask"])
def test_fewer_than_the_threshold_open_nothing(stage: str) -> None:
    play = Play(FIVE)
    for one in STAGES:
        if one == stage:
            with refused("Too few nodes are left"):
                play.stage(one, NODES[:3])
            return
        play.stage(one, NODES)


# What is hidden.


def test_what_one_node_says_is_even_whatever_its_vector_is() -> None:
    """Bit by bit, over many sums: the masked words of zeros and of large numbers look the same."""
    nodes = vectors(3, size=40)
    seen = {}
    for kind, scale in (("zeros", 0.0), ("large", 1e300)):
        words = []
        for _ in range(8):
            play = Play({node: np.sign(vector) * scale for node, vector in nodes.items()}).until("masked")
            words.append(play.said["masked"][NODES[0]])
        seen[kind] = np.unpackbits(np.concatenate(words).view(np.uint8)).reshape(-1, 64).mean(axis=0)
    count = 8 * 40 * WIDE.limbs
    for bits in seen.values():
        # 64 means of as many coins: seven standard deviations.
        assert np.abs(bits - 0.5).max() < 7 * 0.5 / np.sqrt(count)


def test_all_but_the_threshold_with_the_coordinator_know_no_seed() -> None:
    """Their shares fit every seed: with one more, made up, they lead wherever one likes."""
    play = Play(FIVE).until("masked")
    known = [play.memories[node]["pairs"] for node in NODES[:3]]
    honest = play.place(NODES[4])
    shares = {
        play.place(node) + 1: pairs[honest, SHARE_BYTES:].tobytes()
        for node, pairs in zip(NODES, known, strict=False)
    }
    points = [*shares, play.place(NODES[3]) + 1]
    weights = weights_at_zero(points)
    wanted = 12345
    told = sum(w * int.from_bytes(share, "big") for w, share in zip(weights, shares.values(), strict=False))
    made_up = (wanted - told) * pow(weights[-1], -1, PRIME) % PRIME
    opened = join({**shares, points[-1]: made_up.to_bytes(SHARE_BYTES, "big")})
    assert opened is not None
    assert int.from_bytes(opened, "big") == wanted


# Values.


@pytest.mark.parametrize("size", [3, 5000])
def test_a_value_that_the_ring_cannot_hold_is_known_before(size: int) -> None:
    ring = ring_for(size)
    most = Play(vectors(3, size)).protocol.largest(size, 3)
    assert most == (np.inf if ring is WIDE else NARROW.largest(3))


def test_a_sum_beyond_all_doubles_is_refused_and_does_not_wrap_around() -> None:
    huge = {node: np.full(2, 1.7e308) for node in NODES}
    play = Play(huge).until("unmask")
    with refused("larger than the largest number"):
        play.total()


def test_long_vectors_add_up_to_a_unit_of_2_to_the_minus_64() -> None:
    long = vectors(4, size=5000, seed=3)
    play = Play(long)
    for stage, nodes in zip(STAGES, (4, 4, 3, 3, 3), strict=True):
        play.stage(stage, sorted(long)[:nodes])
    expected = np.array(exact(sorted(long)[:3], long))
    assert np.abs(play.total() - expected).max() < 1e-13


def test_what_is_answered_is_as_long_as_the_protocol_says() -> None:
    play = Play(FIVE).until("unmask")
    for stage, nodes in (("keys", 5), ("shares", 5), ("masked", 5), ("consistency", 5), ("unmask", 5)):
        shape = play.protocol.shape(stage, play.size, nodes)
        answers: dict[NodeName, AnyVector] = play.said[stage]
        assert {(answer.size, answer.dtype.name) for answer in answers.values()} == {
            (shape.size, shape.dtype.value)
        }
    assert play.said["keys"][NODES[0]].size == KEYS_BYTES
    assert mask(b"\0" * 31, 4).size == 4


@pytest.mark.parametrize(
    "note", [b"", b"x", _note(), _note(keys=np.zeros((5, 3), dtype=np.uint8)), _note(keys=np.zeros(5))]
)
def test_notes_that_are_none(note: bytes) -> None:
    play = Play(FIVE).until("keys")
    with pytest.raises(FederatedError) as caught:
        play.answer("shares", NODES[0], note=note)
    assert caught.value.code is ErrorCode.INVALID_VALUE
