"""The end of a secure sum at the coordinator: seeds from shares, and masks taken away.

What always holds: a share that does not fit what its secret's owner committed itself to is not used; where
too few are left that fit, there is no sum, and the error names whose shares they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heliosdb.aggregation.secure_keys import MASKS, Bytes, Group, commit
from heliosdb.aggregation.updates import rejected
from heliosdb.domain.state import State
from heliosdb.privacy.masks import Agreement, Masks
from heliosdb.privacy.ring import Words, add, subtract
from heliosdb.privacy.sharing import join, weights_at_zero


class Opening:
    """The last step at the coordinator: seeds from shares, and masks taken away."""

    def __init__(self, heard: State, names: Sequence[str], shares: Mapping[int, Bytes]) -> None:
        """names: of the group's nodes, in its order. shares: what each told, by its place: a row a sender."""
        self._heard = heard
        self._shares = shares
        self._threshold = int(heard["threshold"][0])
        self._group = Group.read(heard["keys"], self._threshold)
        self._senders = [int(place) for place in heard["senders"]]
        self._survivors = {int(place) for place in heard["survivors"]}
        self._names = names
        self._tellers = sorted(shares)[: self._threshold]
        self._weights = weights_at_zero([place + 1 for place in self._tellers])

    def open(self, limbs: int) -> Words:
        """The sum without masks; FederatedError UPDATE_REJECTED where shares lead to no secret."""
        total = np.array(self._heard["sum"])
        added, taken = Masks(total.size, limbs), Masks(total.size, limbs)
        for number, sender in enumerate(self._senders):
            secret = self._secret(number, sender)
            if sender in self._survivors:
                added.add(secret)
            else:
                self._find(added, taken, sender, secret)
        subtract(total, added.total(), limbs)
        add(total, taken.total(), limbs)
        return total

    def _find(self, added: Masks, taken: Masks, lost: int, secret: bytes) -> None:
        """What the others added and took away towards a node whose own vector did not come."""
        agreement = Agreement.of(secret, MASKS)
        for other in sorted(self._survivors):
            (added if other < lost else taken).add(self._group.mask_seed(agreement, lost, other))

    def _secret(self, number: int, sender: int) -> bytes:
        secret = self._joined(number, self._tellers, self._weights)
        if secret is not None and self._fits(secret, sender):
            return secret
        return self._searched(number, sender)

    def _searched(self, number: int, sender: int) -> bytes:
        """As `_secret`, where somebody told a wrong share: without one teller, if enough are left."""
        for liar in sorted(self._shares):
            tellers = [place for place in sorted(self._shares) if place != liar][: self._threshold]
            if len(tellers) < self._threshold:
                break
            secret = self._joined(number, tellers, weights_at_zero([place + 1 for place in tellers]))
            if secret is not None and self._fits(secret, sender):
                self._tellers, self._weights = tellers, weights_at_zero([place + 1 for place in tellers])
                return secret
        raise rejected(
            f'The shares of node "{self._names[sender]}" do not fit what it stated: it is not honest, or one '
            "of those that told them."
        )

    def _joined(self, number: int, tellers: Sequence[int], weights: Sequence[int]) -> bytes | None:
        told = {place + 1: self._shares[place][number].tobytes() for place in tellers}
        return join(told, weights)

    def _fits(self, secret: bytes, sender: int) -> bool:
        keys = self._group.keys[sender]
        if sender in self._survivors:
            return commit(secret) == keys.commitment
        return Agreement.of(secret, MASKS).public == keys.mask_key
