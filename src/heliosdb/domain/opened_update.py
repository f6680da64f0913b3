"""An answer of a node as the coordinator uses it: verified and opened.

What always holds: there is no other form in which the vector of a release is used; of one that was added to
others before it came, no vector is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import TaskKey
from heliosdb.domain.update import Term
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AnyVector


@dataclass(frozen=True, slots=True)
class OpenedUpdate:
    """A release that the coordinator has verified and opened: the only form in which its vector is used.

    bytes_sent, bytes_received: message bytes of the exchange as the coordinator counts them.
    spending: what the node's ledger shows after the release; None without a budget. usage: what the node says
    that the computation took; None where it does not. signed_header: header and signature as the node sent
    them, for whoever wants to verify them again.
    """

    key: TaskKey
    vector: AnyVector
    weight: float
    mechanism: Mechanism | None
    spending: Spending | None
    bytes_sent: int
    bytes_received: int
    usage: Usage | None = None
    signed_header: bytes = b""


@dataclass(frozen=True, slots=True)
class OpenedTerm:
    """What is known of a release that an aggregator has added to others.

    mechanism, spending, signed_header: as its node signed them; the rest is the aggregator's word.
    """

    key: TaskKey
    term: Term
    mechanism: Mechanism | None
    spending: Spending | None
    signed_header: bytes
