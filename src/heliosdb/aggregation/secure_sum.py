"""The sum protocol `shamir`: the coordinator learns the sum of the nodes' vectors and no vector.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", figure 4, with
the nodes' signatures under their keys and under who is left; on a complete graph up to 200 nodes, and beyond
that on one that the nodes draw (secure_graph.py). Its five messages:

* keys: each node states two public keys of this sum and a commitment, signed (secure_keys.py);
* shares: it shares two seeds among all of the group, or those that it draws, each share in a box that one
  node opens;
* masked: its vector in fixed point, plus the mask of a seed of its own, plus or minus a mask for each node
  that shares seeds with it, either way, and whose boxes came, which the other one takes away again;
* consistency: its signature under whose boxes and whose vectors came (secure_consistency.py);
* unmask: of each node a share, of its own mask's seed where its vector is in the sum, of its pairwise masks'
  key where it is not. Never of both: who answers once, as `node/summing.py` has it, opens one set of
  survivors.

What always holds, at a node: nothing leaves but what the message says; a share is told only of whoever sent
boxes before the vector was masked; more than half of the group, and three, have to be left; and as many as
the threshold have to have signed that it is these. A threshold t of n keeps a node's vector from a
coordinator with which fewer than 2 t - n nodes collude: with two thirds, a third of the nodes. At the
coordinator: a share that does not fit what its secret's owner committed itself to is not used, and names who
told it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.masked_sum import MaskedAdding, MaskedSum
from heliosdb.aggregation.secure_consistency import check_agreed, sign_survivors
from heliosdb.aggregation.secure_graph import BOX, Graph
from heliosdb.aggregation.secure_keys import (
    KEYS_BYTES,
    SIGNED_BYTES,
    Bytes,
    Group,
    Secrets,
    agreed,
    as_array,
    state_keys,
)
from heliosdb.aggregation.secure_opening import Opening
from heliosdb.aggregation.sums import Prepared, Shape, Signatory, Stage
from heliosdb.aggregation.updates import rejected
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE, State, make_state, state_from_bytes, state_to_bytes
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Dtype, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.protocols import LEAST_NODES, MOST_NODES, ShamirSettings, least_survivors
from heliosdb.privacy.masks import KEY_BYTES, Masks, seal, unseal
from heliosdb.privacy.ring import AnyRing, Words, add, ring_for, subtract
from heliosdb.privacy.shares import Cohort
from heliosdb.privacy.sharing import SHARE_BYTES, is_share, split

KEYS, BOXES, MASKED, CONSISTENCY, UNMASK = "keys", "shares", "masked", "consistency", "unmask"


@dataclass(frozen=True, slots=True)
class SecureSum:
    """See the module. settings: the coordinator's; a node goes by what the group was told. ring: in which
    numbers are added up; None: they are any."""

    settings: ShamirSettings
    ring: AnyRing | None = None

    name: ClassVar[str] = "shamir"
    is_open: ClassVar[bool] = False
    stages: ClassVar[Sequence[Stage]] = (
        Stage(KEYS, carries=False),
        Stage(BOXES, carries=False),
        Stage(MASKED, carries=True),
        Stage(CONSISTENCY, carries=False),
        Stage(UNMASK, carries=False),
    )

    def with_settings(self, settings: Any) -> SecureSum:
        """The protocol as a run's options have it."""
        return SecureSum(settings, self.ring)

    def in_ring(self, ring: AnyRing) -> SecureSum:
        """The protocol in that ring."""
        return SecureSum(self.settings, ring)

    def _ring(self, size: int) -> AnyRing:
        return ring_for(size) if self.ring is None else self.ring

    def largest(self, size: int, nodes: int) -> float:
        """What the ring holds of so many nodes."""
        return self._ring(size).largest(nodes)

    def cohort(self, known: State) -> Cohort | None:
        """Those who stated keys, and the threshold, which is in what every key is derived from."""
        if "keys" not in known or "threshold" not in known:
            return None
        return Cohort(len(known["keys"]), int(known["threshold"][0]))

    def shape(self, stage: str, size: int, nodes: int) -> Shape:
        """Keys; a box for each; words of the ring; a signature; shares of twice as many as signed."""
        if stage == MASKED:
            ring = self._ring(size)
            return Shape(size * ring.limbs, ring.dtype)
        each = {KEYS: KEYS_BYTES, CONSISTENCY: SIGNED_BYTES}
        each |= {BOXES: Graph.of(nodes).message_bytes, UNMASK: 2 * nodes * SHARE_BYTES}
        return Shape(each[stage], Dtype.UINT8)

    def adding(self, size: int) -> MaskedAdding:
        """In the ring, as its masks are."""
        ring = self._ring(size)
        return MaskedAdding(size * ring.limbs, ring.limbs, ring.dtype)

    def take_sum(self, heard: State, masked: MaskedSum) -> State:
        """Whose vectors came, and their sum behind its masks."""
        places = _places_of(heard, masked.nodes)
        return _take_sum(heard, places, masked.words)

    def ask(self, stage: str, node: NodeName, heard: State) -> bytes:
        """shares: the group. masked: whose boxes came, and those for the node. consistency: who is left.
        unmask: who has signed that, and with what."""
        if stage == KEYS:
            return b""
        if stage == BOXES:
            return state_to_bytes(make_state(keys=heard["keys"], threshold=heard["threshold"]))
        if stage == MASKED:
            return _tell_boxes(heard, _names(heard["names"]).index(node))
        if stage == CONSISTENCY:
            return state_to_bytes(make_state(survivors=heard["survivors"]))
        return state_to_bytes(make_state(signers=heard["signers"], signatures=heard["signatures"]))

    def take(self, stage: str, size: int, heard: State, answers: Mapping[NodeName, AnyVector]) -> State:
        """What is known after a stage."""
        if not answers:
            raise rejected("There is no update to add up.")
        if stage == KEYS:
            return _take_keys(answers, self.settings.threshold)
        names, places = _names(heard["names"]), _places_of(heard, answers)
        there = np.array(places, dtype=np.uint64)
        rows = [answers[NodeName(names[place])] for place in places]
        if stage == BOXES:
            return _take_boxes(heard, Graph.of(len(names)), places, rows)
        if stage == MASKED:
            return _take_sum(heard, places, _summed(rows, self._ring(size)))
        if stage == CONSISTENCY:
            return make_state(**{**heard, "signers": there, "signatures": np.stack(rows)})
        shares = {place: row.reshape(-1, SHARE_BYTES) for place, row in zip(places, rows, strict=True)}
        found = Opening(heard, _names(heard["names"]), shares).open(self._ring(size))
        return make_state(sum=_kept(found))

    def total(self, size: int, heard: State) -> Vector:
        """The sum, out of the ring."""
        found = self._ring(size).decode(heard["sum"])
        if not np.isfinite(found).all():
            raise rejected("The updates' sum is larger than the largest number.")
        return found

    def answer(
        self, stage: str, key: TaskKey, note: bytes, memory: State, *, site: Signatory
    ) -> tuple[AnyVector, State]:
        """Each stage's answer. What is kept are the seeds, the keys of the group, and others' shares."""
        if stage == KEYS:
            if note:
                raise invalid_value("the first message of a secure sum has no note")
            drawn = Secrets.draw()
            keys = as_array(state_keys(key, drawn, site))
            return keys, make_state(secrets=drawn.to_array(), own=keys)
        told = state_from_bytes(note)
        if stage == BOXES:
            return _boxes(key, told, memory, site)
        if stage == CONSISTENCY:
            return _left(told, memory, site)
        return _shares_for(told, memory, site), NO_STATE

    def prepare(self, key: TaskKey, note: bytes, size: int, memory: State, *, site: Signatory) -> Prepared:
        """The boxes are opened, and seeds of masks agreed on; with the vector there are the masks to make."""
        del key, site
        return _prepared(state_from_bytes(note), memory, self._ring(size))


SECURE_SUM = SecureSum(ShamirSettings())


@dataclass(frozen=True, slots=True)
class _Seat:
    """A node's place in the group of a sum, and its secrets there."""

    group: Group
    place: int
    drawn: Secrets

    def box_keys(self, other: int) -> tuple[bytes, ...]:
        """Of the box to another node, and of the box from it."""
        own, theirs = self.group.keys[self.place], self.group.keys[other]
        ways = (own.fingerprint + theirs.fingerprint, theirs.fingerprint + own.fingerprint)
        purposes = [b"shares\0" + self.group.digest + way for way in ways]
        return agreed(self.drawn.share_keys, theirs, theirs.share_key, *purposes)

    def boxes(self, pairs: Mapping[int, bytes]) -> tuple[bytes, bytes]:
        """Pairs of shares by place, sealed for whoever is there, and the keys of the boxes that come from
        there; nothing in the box to oneself."""
        sealed, keys = [], []
        for other, pair in pairs.items():
            to, back = (b"", bytes(KEY_BYTES)) if other == self.place else self.box_keys(other)
            sealed.append(seal(to, pair) if to else bytes(BOX))
            keys.append(back)
        return b"".join(sealed), b"".join(keys)

    def open(self, sender: int, box: bytes, key: bytes | None) -> Bytes:
        """The pair of shares in a box; FederatedError INVALID_VALUE for one that does not open. key: of it,
        None where it is still to be agreed on."""
        found = unseal(key or self.box_keys(sender)[1], box)
        if found is None or not (is_share(found[:SHARE_BYTES]) and is_share(found[SHARE_BYTES:])):
            raise invalid_value(
                f"the shares of the node with certificate {self.group.keys[sender].name} do not open"
            )
        return as_array(found)

    def seeds(self, others: Iterable[int]) -> _Seeds:
        """Of the own mask, and of those towards all of these but itself."""
        added, taken = [self.drawn.own], list[bytes]()
        for other in others:
            if other != self.place:
                seed = self.group.mask_seed(self.drawn.mask_keys, self.place, other)
                (added if self.place < other else taken).append(seed)
        return _Seeds(added, taken)


@dataclass(frozen=True, slots=True)
class _Seeds:
    """Of the masks that a node adds to its vector, and of those that it takes away."""

    added: Sequence[bytes] = field(repr=False)
    taken: Sequence[bytes] = field(repr=False)

    def hide(self, vector: Vector, ring: AnyRing) -> Words:
        """The vector behind all of them."""
        words = ring.encode(vector)
        for seeds, put in ((self.added, add), (self.taken, subtract)):
            masks = Masks(words.size, ring.limbs, ring.dtype)
            for seed in seeds:
                masks.add(seed)
            put(words, masks.total(), ring.limbs)
        return words


def _boxes(key: TaskKey, told: State, memory: State, site: Signatory) -> tuple[Bytes, State]:
    """A box with two shares for each holder; the own shares are kept, or who the holders are."""
    group = Group.read(_told(told, "keys"), _number(told, "threshold"))
    graph = Graph.of(len(group.keys))
    seat = _Seat(group, group.check(key, memory["own"].tobytes(), site), Secrets.read(memory["secrets"]))
    holders = graph.draw(seat.place)
    points = [holder + 1 for holder in holders]
    shares = [split(one, points, graph.needed(group)) for one in (seat.drawn.masks, seat.drawn.own)]
    pairs = {holder: first + second for holder, first, second in zip(holders, *shares, strict=True)}
    own = pairs.get(seat.place)
    boxes, openings = seat.boxes(pairs)
    kept = make_state(
        secrets=memory["secrets"],
        keys=group.to_array(),
        threshold=np.array([group.threshold], dtype=np.uint64),
        place=np.array([seat.place], dtype=np.uint64),
        openings=as_array(openings),
        **({"holders": np.array(holders, dtype=np.uint64)} if own is None else {"pair": as_array(own)}),
    )
    return graph.pack(holders, boxes), kept


def _prepared(told: State, memory: State, ring: AnyRing) -> Prepared:
    """The masks' seeds; the shares that were in the boxes are kept."""
    group, place = Group.read(memory["keys"], int(memory["threshold"][0])), int(memory["place"][0])
    senders = _places(told, "senders", range(len(group.keys)))
    _check_told(senders, place, group.threshold)
    givers, others = senders, senders
    if "holders" in memory:
        givers = _places(told, "givers", [sender for sender in senders if sender != place])
        others = sorted({*givers, *_holders_left(memory["holders"], senders, group)})
    boxes = _told(told, "boxes")
    if boxes.dtype != np.uint8 or boxes.shape != (len(givers), BOX):
        raise invalid_value("there are not as many boxes as nodes that sent some")
    seat = _Seat(group, place, Secrets.read(memory["secrets"]))
    known = _openings(memory, len(group.keys))
    pairs = [
        memory["pair"] if giver == place else seat.open(giver, box.tobytes(), known.get(giver))
        for giver, box in zip(givers, boxes, strict=True)
    ]
    seeds = seat.seeds(others)
    kept = make_state(
        keys=memory["keys"],
        threshold=memory["threshold"],
        place=memory["place"],
        senders=np.array(senders, dtype=np.uint64),
        pairs=np.array(pairs, dtype=np.uint8).reshape(-1, 2 * SHARE_BYTES),
        **({"givers": np.array(givers, dtype=np.uint64)} if "holders" in memory else {}),
    )
    return Prepared(lambda vector: seeds.hide(vector, ring), kept)


def _openings(memory: State, nodes: int) -> dict[int, bytes]:
    """By place, the keys of boxes that were agreed on when others were sealed."""
    holders = memory["holders"].tolist() if "holders" in memory else range(nodes)
    keys = memory["openings"].reshape(-1, KEY_BYTES)
    return {holder: key.tobytes() for holder, key in zip(holders, keys, strict=True)}


def _holders_left(drawn: NDArray[Any], senders: Sequence[int], group: Group) -> set[int]:
    """Whom of those that it drew a node masks towards; FederatedError INVALID_VALUE where these are so few
    that a coordinator could have picked them (privacy/neighbours.py)."""
    left, needed = set(drawn.tolist()) & set(senders), Graph.of(len(group.keys)).needed(group)
    if len(left) < needed:
        raise invalid_value(
            f"of the nodes that hold its shares {len(left)} are left, and {needed} have to be"
        )
    return left


def _left(told: State, memory: State, site: Signatory) -> tuple[Bytes, State]:
    """The signature under who is left, which is kept and never signed anew."""
    group, senders = Group.read(memory["keys"], int(memory["threshold"][0])), memory["senders"].tolist()
    survivors = _places(told, "survivors", senders)
    _check_told(survivors, int(memory["place"][0]), group.threshold)
    kept = make_state(**{**memory, "survivors": np.array(survivors, dtype=np.uint64)})
    return sign_survivors(group, senders, survivors, site), kept


def _shares_for(told: State, memory: State, site: Signatory) -> Bytes:
    """Of whoever sent boxes, in order: a share of the own mask's seed, or of the pairwise masks' key."""
    group, senders = Group.read(memory["keys"], int(memory["threshold"][0])), memory["senders"].tolist()
    survivors = memory["survivors"].tolist()
    signers, signatures = _places(told, "signers", survivors), _told(told, "signatures")
    if signatures.dtype != np.uint8 or signatures.shape != (len(signers), SIGNED_BYTES):
        raise invalid_value("there are not as many signatures as nodes that signed")
    signed = dict(zip(signers, signatures, strict=True))
    check_agreed(group, senders, survivors, signed, site, own=int(memory["place"][0]))
    # More than half of the group signed: there is room for each of it.
    answer = np.zeros((2 * len(signers), SHARE_BYTES), dtype=np.uint8)
    pairs, left = memory["pairs"].reshape(-1, 2, SHARE_BYTES), set(survivors)
    numbers = {sender: number for number, sender in enumerate(senders)}
    givers = memory["givers"].tolist() if "givers" in memory else senders
    for giver, pair in zip(givers, pairs, strict=True):
        answer[numbers[giver]] = pair[1 if giver in left else 0]
    return answer.reshape(-1)


def _take_keys(answers: Mapping[NodeName, AnyVector], threshold: int | None) -> State:
    """The group: whoever stated keys, in the order of their certificates."""
    stated = sorted((row.tobytes(), name) for name, row in answers.items())
    count = len(stated)
    if not LEAST_NODES <= count <= MOST_NODES:
        raise rejected(f"A secure sum takes {LEAST_NODES} to {MOST_NODES} nodes, and {count} answered.")
    for (one, name), (other, twin) in itertools.pairwise(stated):
        if one[:32] == other[:32]:
            raise rejected(f'Nodes "{name}" and "{twin}" state keys of the same certificate.')
    needed = least_survivors(count) if threshold is None else threshold
    _check_enough(count, needed)
    if 2 * needed <= count:
        raise rejected(f"The threshold of a secure sum is {needed}, and has to be more than half of {count}.")
    return make_state(
        names=as_array("\n".join(name for _, name in stated).encode()),
        keys=as_array(b"".join(row for row, _ in stated)).reshape(count, KEYS_BYTES),
        threshold=np.array([needed], dtype=np.uint64),
    )


def _take_boxes(
    heard: State, graph: Graph, places: Sequence[int], rows: Sequence[NDArray[np.generic]]
) -> State:
    """Whose boxes came, and the boxes; whoever said nothing sound of its holders has sent none."""
    left, said = graph.take(places, rows)
    _check_enough(len(left), int(heard["threshold"][0]))
    return make_state(**{**heard, "senders": np.array(left, dtype=np.uint64), **said})


def _take_sum(heard: State, places: Sequence[int], words: Words) -> State:
    """Who is left, and the sum behind its masks; boxes are told nobody any more."""
    left = {name: array for name, array in heard.items() if name != "boxes"}
    return make_state(**{**left, "survivors": np.array(places, dtype=np.uint64), "sum": _kept(words)})


def _places_of(heard: State, nodes: Collection[NodeName]) -> list[int]:
    """The places of nodes that answered, ascending; FederatedError UNREACHABLE where they are too few."""
    names = _names(heard["names"])
    places = sorted(names.index(node) for node in nodes)
    _check_enough(len(places), int(heard["threshold"][0]))
    return places


def _tell_boxes(heard: State, place: int) -> bytes:
    """Whose boxes came, and those for the node at a place; where not all sent it one, who did."""
    graph, senders = Graph.of(len(heard["keys"])), heard["senders"]
    givers, boxes = graph.towards(heard, place)
    told = {"senders": senders, "boxes": boxes}
    if graph.drawn is not None:
        told["givers"] = senders[givers]
    return state_to_bytes(make_state(**told))


def _check_enough(count: int, threshold: int) -> None:
    if count < threshold:
        raise FederatedError(
            ErrorCode.UNREACHABLE,
            f"Too few nodes are left to open the sum: {count}, where the threshold is {threshold}.",
        )


def _check_told(places: Sequence[int], own: int, threshold: int) -> None:
    """FederatedError INVALID_VALUE for a set in which the node is not, or one that is too small."""
    if own not in places:
        raise invalid_value("the node itself is not among those who are left")
    if len(places) < threshold:
        raise invalid_value(f"{counted(len(places), 'node')} left, and the threshold is {threshold}")


def _told(told: State, name: str) -> NDArray[np.generic]:
    if name not in told:
        raise invalid_value(f"the note of a secure sum has no {name}")
    return told[name]


def _number(told: State, name: str) -> int:
    array = _told(told, name)
    if array.dtype != np.uint64 or array.shape != (1,):
        raise invalid_value(f"{name} of a secure sum is no number")
    return int(array[0])


def _places(told: State, name: str, known: Iterable[int]) -> list[int]:
    """Places of the group that are told, ascending and each one of the known."""
    array = _told(told, name)
    if array.dtype != np.uint64 or array.ndim != 1 or array.size > MOST_NODES:
        raise invalid_value(f"{name} of a secure sum are no nodes")
    places = [int(place) for place in array]
    if any(one >= other for one, other in itertools.pairwise(places)) or not set(places) <= set(known):
        raise invalid_value(f"{name} of a secure sum are not of its group")
    return places


def _summed(rows: Sequence[AnyVector], ring: AnyRing) -> Words:
    total = np.zeros(rows[0].size, dtype=ring.dtype.value)
    for row in rows:
        add(total, row.astype(ring.dtype.value, copy=False), ring.limbs)
    return total


def _kept(words: Words) -> Words:
    """Words as a state has them, which has none of 16 bits."""
    return words.astype(np.uint32) if words.dtype == np.uint16 else words


def _names(packed: NDArray[Any]) -> list[str]:
    return packed.tobytes().decode().split("\n")
