"""How an exchange's sum comes about: what a sum protocol is.

What always holds: a protocol expands one step into as many messages as it has stages, of which exactly one
carries the step's vector; the other messages are made without it, and so without a row. What the coordinator
has heard and what a node keeps between two messages are arrays, kept sealed by each. tests/contracts holds
every registered protocol to this.

Open protocols. Where a protocol is open, its one stage carries the plain vector with the update's weight
beside it, so that the coordinator sees single updates. Their exchange is then gathered by
`gathering_for(strategy, size)`, or by `SumGathering(size)` where the step's answers are added up: each update
is taken in when it arrives, and `take` and `total` are not called. They give the same sum all the same, for
whoever runs all protocols alike. A strategy that sees each update works under open protocols alone; a run
that asks for another combination is refused when it is loaded, by `check_fits` of aggregation/strategy.py.

Who is asked. The first stage goes to the exchange's cohort; every later stage to those nodes whose answer to
the stage before was taken, and to no other. `nodes` is how many these are, in `shape` and in the task's
`Summing`. The sum is over those whose answer to the carrying stage was taken. Where so many are lost that
there is no sum, or not one that may be known, `take` or `total` raises FederatedError; the exchange has then
failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import State
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Dtype, Vector
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.privacy.shares import Cohort


@dataclass(frozen=True, slots=True)
class Stage:
    """One message of a protocol; carries: whether the step's vector is in it."""

    name: str
    carries: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How many values of which type an answer has."""

    size: int
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class Prepared:
    """The stage that carries a vector, before there is one. hide: the answer with a vector, of which no value
    is above `largest`; called once. keeps: until the next stage; decided before any row is read."""

    hide: Callable[[Vector], AnyVector]
    keeps: State


class Signatory(Protocol):
    """Who speaks in a protocol: a node, and the other participants as its own DBA knows them."""

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the node's certificate, 32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign with the certificate's key; FederatedError WRONG_STATE where the DBA has named no peers."""
        ...

    def knows(self, fingerprint: bytes, message: bytes, signature: bytes) -> bool:
        """Whether a peer with the certificate of this SHA-256 has signed the message."""
        ...


class SumProtocol(Protocol):
    """A protocol of one or more messages that leads to a sum of the nodes' vectors.

    The vector that it sums is the step's, in float64; where it is not open and the step's answers are
    weighted, (weight x values…, weight).
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the coordinator sees single updates: see the module. An open protocol has one stage."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """Its messages in order."""
        ...

    def with_settings(self, settings: Any) -> SumProtocol:
        """The protocol as the options of a run have it: at the coordinator."""
        ...

    def largest(self, size: int, nodes: int) -> float:
        """The largest magnitude that a value of a sum of `size` values may have, where `nodes` send one;
        infinite where any may."""
        ...

    def shape(self, stage: str, size: int, nodes: int) -> Shape:
        """The shape of a stage's answer for a sum of `size` values, where `nodes` are asked in this stage."""
        ...

    def ask(self, stage: str, node: NodeName, heard: State) -> bytes:
        """Coordinator: what the node is told with the stage's task. heard: NO_STATE in the first stage."""
        ...

    def take(self, stage: str, size: int, heard: State, answers: Mapping[NodeName, AnyVector]) -> State:
        """Coordinator: what is known after a stage; independent of the answers' order.

        size: of the sum, as in `shape`. answers: all that were taken, each of the stage's shape; it is called
        once a stage. FederatedError UPDATE_REJECTED where there is none.
        """
        ...

    def total(self, size: int, heard: State) -> Vector:
        """Coordinator: the sum, `size` values in float64, after the last stage."""
        ...

    def answer(
        self, stage: str, key: TaskKey, note: bytes, memory: State, *, site: Signatory
    ) -> tuple[AnyVector, State]:
        """Node: the answer of a stage that carries no vector, and what to keep until the next.

        key: of the task, to which secrets are bound. memory: what it returned for the stage before, NO_STATE
        in the first. site: whose answer it is. note: from a coordinator that may be hostile: FederatedError
        INVALID_VALUE for one that the protocol cannot have.
        """
        ...

    def prepare(self, key: TaskKey, note: bytes, size: int, memory: State, *, site: Signatory) -> Prepared:
        """Node: all of the carrying stage but the vector, of `size` values; as `answer` otherwise."""
        ...


@runtime_checkable
class KnowsCohort(Protocol):
    """A protocol under which nodes know whose sum it is, so that each may add a share of its noise."""

    def cohort(self, known: State) -> Cohort | None:
        """How many take part, and how many at least are in the sum; None before that is known.

        known: what a node keeps, or what the coordinator has heard.
        """
        ...


def protocol(name: str) -> SumProtocol:
    """The sum protocol of that name, whatever its case; FederatedError NOT_SUPPORTED where there is none."""
    return cast(SumProtocol, PROTOCOLS.get(name))
