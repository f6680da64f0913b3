"""What whoever adds up masked vectors can do: an aggregator that lies spoils a sum, and learns nothing from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from heliosdb.aggregation.masked_sum import MaskedGathering, MaskedSum, masked_term
from heliosdb.aggregation.updates import check_opened
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import state_to_bytes
from heliosdb.domain.update import Update
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.privacy.ring import MOST_WIDE, NARROW, add, subtract
from tests.support.secure_sums import Play, vectors

SIZES = [20, MOST_WIDE + 1]


def weighed(count: int, size: int) -> dict[NodeName, Vector]:
    """Vectors whose last value is a weight, as nodes send them."""
    return {node: np.append(one[:-1], 100.0 + len(node)) for node, one in vectors(count, size).items()}


def added(play: Play, nodes: Sequence[NodeName]) -> MaskedSum:
    """What an honest aggregator makes of these nodes' vectors."""
    gathering = MaskedGathering(play.protocol.adding(play.size))
    for node in nodes:
        gathering.take(Update(node, play.said["masked"][node], 1.0))
    found = gathering.result()
    assert found is not None
    return found


def masked(size: int, count: int = 6) -> Play:
    """A sum whose vectors are all sent."""
    play = Play(weighed(count, size)).until("shares")
    play.said["masked"] = {node: play.answer("masked", node) for node in play.nodes}
    return play


def opened(play: Play, sums: Sequence[MaskedSum]) -> Vector:
    """What the coordinator opens of the sums of aggregators."""
    gathering = MaskedGathering(play.protocol.adding(play.size))
    for one in sums:
        gathering.join(one)
    found = gathering.result()
    assert found is not None
    play.heard = play.protocol.take_sum(play.heard, found)
    for stage in ("consistency", "unmask"):
        play.stage(stage, sorted(found.nodes))
    return play.total()


@pytest.mark.parametrize("size", SIZES)
def test_sums_of_branches_are_what_the_coordinator_would_have_added_itself(size: int) -> None:
    play = masked(size)
    one, two = (
        MaskedGathering(play.protocol.adding(size)),
        MaskedGathering(play.protocol.adding(size)),
    )
    one.join(added(play, play.nodes[4:]))
    one.join(added(play, play.nodes[1:3]))
    two.take(Update(play.nodes[0], play.said["masked"][play.nodes[0]], 1.0))
    found = one.result()
    assert found is not None
    two.join(found)
    whole = two.result()
    assert whole is not None
    left = sorted(whole.nodes)

    direct = play.protocol.take(
        "masked", size, play.heard, {node: play.said["masked"][node] for node in left}
    )

    assert state_to_bytes(play.protocol.take_sum(play.heard, whole)) == state_to_bytes(direct)
    total = opened(play, [whole])
    exact = sum(play.vectors[node] for node in left)
    assert total == pytest.approx(exact, rel=1e-12)
    check_opened(float(total[-1]), len(left), None)


def dropped(words: AnyVector, of: AnyVector, limbs: int) -> None:
    subtract(words, of, limbs)


def doubled(words: AnyVector, of: AnyVector, limbs: int) -> None:
    add(words, of, limbs)


def altered(words: AnyVector, _: AnyVector, limbs: int) -> None:
    add(words, np.random.default_rng(5).integers(1 << 63, size=words.size, dtype=np.uint64), limbs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lie", [dropped, doubled, altered])
def test_a_vector_that_is_dropped_doubled_or_altered_spoils_the_sum_and_is_noticed(
    size: int, lie: Callable[[AnyVector, AnyVector, int], None]
) -> None:
    play = masked(size)
    sums = [added(play, play.nodes[:3]), added(play, play.nodes[3:])]
    lie(sums[0].words, play.said["masked"][play.nodes[1]], play.protocol.adding(size).limbs)

    with pytest.raises(FederatedError) as caught:
        check_opened(float(opened(play, sums)[-1]), len(play.nodes), None)

    assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_what_is_added_to_a_sum_moves_it_as_far_as_the_vector_of_a_node_that_lies() -> None:
    """Hidden from the coordinator is what it would have to compare: a node may send the same."""
    play = masked(MOST_WIDE + 1)
    sums = [added(play, play.nodes[:3]), added(play, play.nodes[3:])]
    shift = np.zeros(play.size)
    shift[0] = 1e6
    add(sums[0].words, NARROW.encode(shift), NARROW.limbs)

    total = opened(play, sums)

    assert total - sum(play.vectors.values()) == pytest.approx(shift, abs=1e-6)


def test_the_masks_of_a_node_that_is_said_to_be_in_a_sum_and_is_not_stay_in_it() -> None:
    """It signed that it sent a vector, to whoever keeps it back."""
    play = masked(MOST_WIDE + 1)
    short = added(play, play.nodes[1:])
    claimed = MaskedSum(short.words, (*short.terms, masked_term(play.nodes[0], 1.0)))

    with pytest.raises(FederatedError, match="has not added them all"):
        check_opened(float(opened(play, [claimed])[-1]), len(play.nodes), None)


def test_a_node_that_is_in_two_sums_is_in_none() -> None:
    play = masked(20)
    gathering = MaskedGathering(play.protocol.adding(20))
    gathering.join(added(play, play.nodes[:3]))
    with pytest.raises(FederatedError, match="two updates"):
        gathering.join(added(play, play.nodes[2:]))
    with pytest.raises(FederatedError, match="another size"):
        gathering.join(MaskedSum(np.zeros(3, dtype=np.uint64), ()))


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_coordinator_that_takes_only_some_of_a_branch_opens_no_sum_of_so_few(kept: int) -> None:
    """Of six nodes four open a sum, and masks cancel over those alone who signed that they are left."""
    play = masked(20)

    with pytest.raises(FederatedError, match="Too few nodes are left"):
        opened(play, [added(play, play.nodes[:kept])])


@pytest.mark.parametrize(
    ("weight", "public", "is_right"),
    [
        *((30.0, None, True), (3e12, None, True), (3.1e12, None, False), (0.0, None, False)),
        *((-1.0, None, False), (float("nan"), None, False)),
        *((30.0, 10.0, True), (30.1, 10.0, False), (0.0, 10.0, False)),
    ],
)
def test_hidden_vectors_weigh_what_so_many_nodes_can(
    weight: float, public: float | None, is_right: bool
) -> None:
    if is_right:
        check_opened(weight, 3, public)
    else:
        with pytest.raises(FederatedError, match="which they cannot"):
            check_opened(weight, 3, public)
