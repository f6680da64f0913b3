"""Who is left in a secure sum, as the nodes tell each other: the ConsistencyCheck of Bonawitz et al. 2017.

Why: a node tells shares for one set of survivors. A coordinator that names another set to each node would
gather, of one node, the shares of its own mask, and of all with which it is masked those of their pairwise
keys: no secret opens twice, and the sum that opens is of one node.

What always holds: a node signs one set of senders and survivors in a sum; it tells shares for the set that it
signed, and only where as many as the threshold have signed that same set. Of two sets that each have their
signatures, at least 2 t - n nodes have signed both, and are not honest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heliosdb.aggregation.secure_keys import (
    Bytes,
    Group,
    as_array,
    padded,
    signature_in,
)
from heliosdb.aggregation.sums import Signatory
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.wording import counted


def sign_survivors(group: Group, senders: Sequence[int], survivors: Sequence[int], site: Signatory) -> Bytes:
    """A node's signature that these are left, as `padded` has it."""
    return as_array(padded(site.sign(_stated(group, senders, survivors))))


def check_agreed(
    group: Group,
    senders: Sequence[int],
    survivors: Sequence[int],
    signed: Mapping[int, Bytes],
    site: Signatory,
    *,
    own: int,
) -> None:
    """FederatedError INVALID_VALUE where fewer than the threshold have signed that these are left: no more
    signatures than so many are verified.

    signed: by place, as `sign_survivors` gave it. own: the node's place; what it has signed it knows.
    """
    stated = _stated(group, senders, survivors)
    agreed = int(own in signed)
    for place, raw in signed.items():
        if agreed >= group.threshold:
            return
        signature = signature_in(raw.tobytes())
        agreed += (
            place != own
            and signature is not None
            and site.knows(group.keys[place].fingerprint, stated, signature)
        )
    if agreed < group.threshold:
        raise invalid_value(
            f"{counted(agreed, 'node')} signed who is left in the sum, and the threshold is {group.threshold}"
        )


def _stated(group: Group, senders: Sequence[int], survivors: Sequence[int]) -> bytes:
    """The group names the sum: the own keys in it are of no other. Then one byte for each of its nodes."""
    state = np.zeros(len(group.keys), dtype=np.uint8)
    state[list(senders)] = 1
    state[list(survivors)] = 2
    return b"heliosdb survivors of a secure sum v1\0" + group.digest + state.tobytes()
