"""Models at participants: what a node says that it subscribes to, and what the coordinator offers it.

What always holds: it is names, numbers of versions and ids of runs, never about a row; the coordinator keeps
nothing of who was told what but the node's own word, so that a delivery that is due is a difference between
what is offered and what the node says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName


class Outcome(StrEnum):
    """What the coordinator answers to a subscription; the values are those of the catalog."""

    OFFERED = "offered"
    UNKNOWN = "unknown"
    """One word for no such model and for one that is not granted, so that nobody learns names by asking."""

    WAITING = "waiting"
    UNAVAILABLE = "unavailable"
    """There is such a version, and nothing is stored that another database could compute it from."""

    RETIRED = "retired"
    """Not about what is wanted: a version that the node has was retired, and is to be taken away there."""


REASONS: Final = {
    Outcome.OFFERED: "",
    Outcome.UNKNOWN: "the workspace has no model of this name that this node may subscribe to",
    Outcome.WAITING: "there is no such version yet",
    Outcome.UNAVAILABLE: "the version is of an earlier release, which kept nothing that could be delivered",
    Outcome.RETIRED: "the version was retired: data subjects were erased that it had learned from",
}
"""What the coordinator says with an outcome."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A node's word about one of its subscriptions to models of a workspace.

    wanted: a version's number or tag; None: whichever is current. takes: whether it would take another
    version now. held: the version that it predicts with, by its number and its key; None where it has
    none. kept_keys: of earlier versions that it still has. heard: the outcome that it was told last, and
    the key of what was offered. refused_key: of an offer that it could not take, and does not want again.
    A key is the coordinator's own name of a version, which no other one has, also where a number comes
    again.
    """

    name: SubscriptionName
    model: ModelName
    wanted: str | None = None
    takes: bool = True
    held_version: int | None = None
    held_key: VersionKey | None = None
    heard_outcome: Outcome | None = None
    heard_key: VersionKey | None = None
    refused_key: VersionKey | None = None
    kept_keys: tuple[VersionKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """What an evaluation of the version needs to know beside its features: columns by what they are."""

    algorithm: str
    target: str | None = None
    event: str | None = None
    weights: str | None = None
    offset: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a version predicts by, as the catalog stores it: features, prediction (JSON) and its arrays.

    arrays: those of `state_to_bytes`; b"" where SQL alone computes it. sha256: of the bytes that travel.
    """

    features: tuple[str, ...]
    contract: Contract
    prediction: bytes
    arrays: bytes
    sha256: bytes

    @classmethod
    def of(
        cls, features: Sequence[str], contract: Contract, prediction: bytes, arrays: bytes = b""
    ) -> Content:
        """Put together what travels, and take its hash: once, however many nodes it goes to."""
        digest = hashlib.sha256(prediction)
        digest.update(arrays)
        return cls(tuple(features), contract, prediction, arrays, digest.digest())

    @property
    def size(self) -> int:
        """How many bytes travel behind the header."""
        return len(self.prediction) + len(self.arrays)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the coordinator says to one subscription of one node. version, key: of what is offered, or of
    what was retired, else None."""

    workspace: WorkspaceName
    node: NodeName
    subscription: SubscriptionName
    model: ModelName
    wanted: str | None
    outcome: Outcome
    reason: str = ""
    version: int | None = None
    key: VersionKey | None = None
