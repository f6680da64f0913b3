"""The end of a secure sum at the coordinator: seeds from shares, and masks taken away.

What always holds: a share that does not fit what its secret's owner committed itself to is not used; where
too few are left that fit, there is no sum, and the error names whose shares they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heliosdb.aggregation.secure_graph import Graph
from heliosdb.aggregation.secure_keys import MASKS, Bytes, Group, commit
from heliosdb.aggregation.updates import rejected
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State
from heliosdb.privacy.masks import Agreement, Masks
from heliosdb.privacy.ring import AnyRing, Words, add, subtract
from heliosdb.privacy.sharing import join, weights_at_zero


class Opening:
    """The last step at the coordinator: seeds from shares, and masks taken away."""

    def __init__(self, heard: State, names: Sequence[str], shares: Mapping[int, Bytes]) -> None:
        """names: of the group's nodes, in its order. shares: what each told, by its place: a row a sender."""
        self._heard = heard
        self._shares = shares
        self._group = Group.read(heard["keys"], int(heard["threshold"][0]))
        self._senders = [int(place) for place in heard["senders"]]
        self._survivors = {int(place) for place in heard["survivors"]}
        self._names = names
        graph = Graph.of(len(names))
        self._held, self._needed = graph.held(heard), graph.needed(self._group)
        self._weights = dict[tuple[int, ...], list[int]]()
        self._liars = set[int]()

    def open(self, ring: AnyRing) -> Words:
        """The sum without masks; FederatedError UPDATE_REJECTED where shares lead to no secret."""
        total, limbs = self._heard["sum"].astype(ring.dtype.value), ring.limbs
        added, taken = (Masks(total.size, limbs, ring.dtype) for _ in range(2))
        for number, sender in enumerate(self._senders):
            secret = self._secret(number, sender)
            if sender in self._survivors:
                added.add(secret)
            else:
                self._find(added, taken, number, secret)
        subtract(total, added.total(), limbs)
        add(total, taken.total(), limbs)
        return total

    def _find(self, added: Masks, taken: Masks, number: int, secret: bytes) -> None:
        """What the others added and took away towards a node whose own vector did not come."""
        agreement, lost = Agreement.of(secret, MASKS), self._senders[number]
        for other in self._towards(number):
            (added if other < lost else taken).add(self._group.mask_seed(agreement, lost, other))

    def _towards(self, number: int) -> list[int]:
        """Who of the survivors masked towards a sender: one of the two holds the other's shares."""
        lost = self._senders[number]
        return [
            other
            for place, other in enumerate(self._senders)
            if other in self._survivors and (self._held[number, other] or self._held[place, lost])
        ]

    def _secret(self, number: int, sender: int) -> bytes:
        """Told by as many holders as are needed; without one that told a wrong share, if enough are left."""
        told = [place for place in sorted(self._shares) if self._held[number, place]]
        secret = self._joined(number, sender, [place for place in told if place not in self._liars])
        if secret is not None:
            return secret
        for liar in told if len(told) > self._needed else ():
            secret = self._joined(number, sender, [place for place in told if place != liar])
            if secret is not None:
                self._liars = {liar}
                return secret
        if len(told) < self._needed:
            raise FederatedError(
                ErrorCode.UNREACHABLE,
                f'Too few nodes are left that hold shares of node "{self._names[sender]}": {len(told)}, and'
                f" {self._needed} are needed.",
            )
        raise rejected(
            f'The shares of node "{self._names[sender]}" do not fit what it stated: it is not honest, or one '
            "of those that told them."
        )

    def _joined(self, number: int, sender: int, tellers: Sequence[int]) -> bytes | None:
        """The secret that the first of these told, where they are enough and it is the sender's."""
        tellers = tuple(tellers[: self._needed])
        if len(tellers) < self._needed:
            return None
        if tellers not in self._weights:
            self._weights = {tellers: weights_at_zero([place + 1 for place in tellers])}
        told = {place + 1: self._shares[place][number].tobytes() for place in tellers}
        secret = join(told, self._weights[tellers])
        return secret if secret is not None and self._fits(secret, sender) else None

    def _fits(self, secret: bytes, sender: int) -> bool:
        keys = self._group.keys[sender]
        if sender in self._survivors:
            return commit(secret) == keys.commitment
        return Agreement.of(secret, MASKS).public == keys.mask_key
