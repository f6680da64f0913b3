"""Whatever bytes a peer sends, what comes of them is an object within its bounds or a FederatedError."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import (
    ModelName,
    NodeName,
    RoundNumber,
    RunId,
    StepName,
    SubscriptionName,
    WorkspaceName,
)
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.state import make_state, state_from_bytes, state_to_bytes
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome, Subscription
from heliosdb.domain.task import Privacy, Reading, Scaling, Summing, Task, TaskKey, Work
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.authority import Authority
from heliosdb.transport.checks import parse
from heliosdb.transport.delivery_messages import decode_delivery, encode_delivery
from heliosdb.transport.messages import ReceivedTask, encode_task, forget_from_proto, task_from_header
from heliosdb.transport.packing import close_update, encode_vector
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.subscription_messages import subscription_from_proto, subscription_to_proto
from heliosdb.transport.update_messages import decode_update_header
from heliosdb.transport.verification import UpdateCollector

PRIVACY = Privacy(Mechanism(1.0, 0.1, 10), 100.0)
TASK = Task(
    TaskKey(WorkspaceName("w"), RunId(UUID(int=7)), RoundNumber(1), 1, StepName("train"), NodeName("n")),
    Reading("d", ("x", "z"), "y", 0.2, 5),
    Work("a", 2, privacy=PRIVACY, settings={"a": True, "b": 7, "c": (0.5, 1.5), "d": ("x",)}, summing=Summing(note=b"x")),
    Scaling((1.0, 1.0), (2.0, 2.0)),
    make_state(parameters=np.array([1.0, 2.0]), steps=np.array([[3]], dtype=np.uint32)),
    Budget(1.0, 1e-5),
)  # fmt: skip
SEALING = SealingKey.generate()
HEADER, _ = encode_task(TASK, SEALING.public)
UPDATE = close_update(
    Authority.create("authority").issue("node", ["localhost"]),
    ReceivedTask(TASK, HEADER, b"s" * 32, SEALING.public, b""),
    encode_vector(TASK.work, np.ones(2)),
    1.0,
    None,
    PRIVACY.mechanism,
    Spending(0.5, 0.25),
)
FIRST = pb.UpdateMessage(
    head=pb.SignedHeader(header=UPDATE.header, signature=UPDATE.signature, chunk=UPDATE.payload)
).SerializeToString()
FORGET = pb.ForgetRequest(
    workspace="w", node="n", ended_runs=[bytes(16), bytes(range(16))]
).SerializeToString()

OFFER = Offer(
    WorkspaceName("w"), NodeName("n"), SubscriptionName("s"), ModelName("m"), "prod", Outcome.OFFERED, "", 3,
    RunId(UUID(int=9)),
)  # fmt: skip
CONTENT = Content.of(("x", "z"), Contract("a", "y", weights="v"), b'{"link": "identity"}', b"arrays")
DELIVERY = encode_delivery(OFFER, CONTENT, b"r" * 32)
SUBSCRIPTION = subscription_to_proto(
    Subscription(
        SubscriptionName("s"), ModelName("m"), "prod", True, 3, RunId(UUID(int=9)), Outcome.OFFERED,
        RunId(UUID(int=9)), RunId(UUID(int=8)),
    )
).SerializeToString()  # fmt: skip


def damaged(honest: bytes) -> st.SearchStrategy[bytes]:
    """The honest bytes with some replaced, cut out or put in."""

    def damage(places: list[tuple[int, int, bytes]]) -> bytes:
        raw = honest
        for place, length, instead in places:
            at = place % (len(raw) + 1)
            raw = raw[:at] + instead + raw[at + length :]
        return raw

    change = st.tuples(st.integers(0, 2**16), st.integers(0, 3), st.binary(max_size=4))
    return st.lists(change, min_size=1, max_size=3).map(damage) | st.binary(max_size=200)


def attempt(read: Callable[[], object]) -> None:
    """A FederatedError is an answer; any other exception is the test's."""
    with contextlib.suppress(FederatedError):
        read()


@given(damaged(HEADER))
def test_a_damaged_task_header_is_read_within_bounds_or_refused(raw: bytes) -> None:
    with contextlib.suppress(FederatedError):
        read = task_from_header(raw)
        assert read.note_bytes <= limits.MAX_NOTE_BYTES
        assert read.state_bytes <= limits.MAX_VECTOR_BYTES
        assert len(read.task.work.settings) <= limits.MAX_SETTINGS
        # What was read can be said again, and is then read the same.
        assert task_from_header(encode_task(read.task, SEALING.public)[0]).task.work == read.task.work


@given(damaged(UPDATE.header))
def test_a_damaged_update_header_is_read_or_refused(raw: bytes) -> None:
    attempt(lambda: decode_update_header(raw))


@given(damaged(FIRST))
def test_a_damaged_answer_is_taken_or_refused(raw: bytes) -> None:
    collector = UpdateCollector(TASK)
    attempt(lambda: collector.take(raw))
    attempt(collector.finish)


@given(damaged(FORGET))
def test_a_damaged_word_of_what_may_be_forgotten_is_read_or_refused(raw: bytes) -> None:
    attempt(lambda: forget_from_proto(parse(pb.ForgetRequest, raw)))


@given(damaged(state_to_bytes(TASK.state)))
def test_a_damaged_state_is_read_in_its_one_form_or_refused(raw: bytes) -> None:
    with contextlib.suppress(FederatedError):
        assert state_to_bytes(state_from_bytes(raw)) == raw


@given(damaged(DELIVERY))
def test_a_damaged_header_of_a_delivery_is_read_within_bounds_or_refused(raw: bytes) -> None:
    with contextlib.suppress(FederatedError):
        read = decode_delivery(raw)
        assert read.body_bytes <= limits.MAX_PREDICTION_BYTES + limits.MAX_VECTOR_BYTES
        assert (read.announced is None) or read.offer.key is not None


@given(damaged(SUBSCRIPTION))
def test_a_damaged_word_about_a_subscription_is_read_in_its_one_form_or_refused(raw: bytes) -> None:
    with contextlib.suppress(FederatedError):
        said = subscription_from_proto(parse(pb.Subscription, raw))
        assert subscription_from_proto(subscription_to_proto(said)) == said
