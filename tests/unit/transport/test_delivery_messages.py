"""Subscriptions and deliveries survive the wire; what is malformed is refused; only the coordinator's key signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Introduction
from heliosdb.domain.ids import ModelName, NodeName, SubscriptionName, VersionKey, WorkspaceName
from heliosdb.domain.subscription import REASONS, Content, Contract, Offer, Outcome, Subscription
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.authority import Authority
from heliosdb.transport.delivery_messages import decode_delivery, delivery_sha256, encode_delivery
from heliosdb.transport.messages import introduction_from_proto, introduction_to_proto
from heliosdb.transport.streams import Gatherer
from heliosdb.transport.subscription_messages import subscriptions_from_proto, subscriptions_sha256
from heliosdb.transport.verification import find_signer, sign_delivery, sign_task

AUTHORITY = Authority.create("authority")
COORDINATOR, OTHER = (AUTHORITY.issue("coordinator", ["localhost"]) for _ in range(2))
RUN = VersionKey(UUID(int=9))
OFFER = Offer(
    WorkspaceName("w"),
    NodeName("n"),
    SubscriptionName("s"),
    ModelName("m"),
    "prod",
    Outcome.OFFERED,
    "",
    3,
    RUN,
)
CONTENT = Content.of(
    ("x", "z"), Contract("cox_regression", "y", "e", "v", "o"), b'{"link": "exp"}', b"arrays"
)
FULL = Subscription(
    SubscriptionName("t"), ModelName("m2"), "7", False, 2, RUN, Outcome.OFFERED, RUN, VersionKey(UUID(int=8)),
    (VersionKey(UUID(int=7)), VersionKey(UUID(int=3))),
)  # fmt: skip
BARE = Subscription(SubscriptionName("s"), ModelName("m"))
RECIPIENT = bytes(range(32))


def test_every_outcome_has_its_words() -> None:
    assert set(REASONS) == set(Outcome)


def test_subscriptions_survive_an_introduction() -> None:
    said = Introduction((), ("neural",), (BARE, FULL))
    assert introduction_from_proto(introduction_to_proto(said)) == said


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([pb.Subscription(name="s")], "empty or too long"),
        ([pb.Subscription(name="s", model="m", version="")], "empty or too long"),
        ([pb.Subscription(name="s", model="m", held_key=b"short")], "not a UUID"),
        ([pb.Subscription(name="s", model="m", held_version=0)], "out of range"),
        ([pb.Subscription(name="s", model="m", held_version=2**31)], "out of range"),
        ([pb.Subscription(name="s", model="m", heard_outcome="perhaps")], "outcome"),
        ([pb.Subscription(name="s", model="m", heard_outcome="retired")], "outcome"),
        ([pb.Subscription(name="s", model="m", kept_keys=[b"short"])], "not a UUID"),
        ([pb.Subscription(name="s", model="m", kept_keys=[bytes(16)] * 101)], "too many earlier versions"),
        ([pb.Subscription(name="s\nERROR:  forged", model="m")], "control character"),
        ([pb.Subscription(name="s", model="m", version="\x1b[2J")], "control character"),
        ([pb.Subscription(name="s", model="m")] * 2, "in no order"),
        ([pb.Subscription(name=name, model="m") for name in "ab"], "subscribed to twice"),
        ([pb.Subscription(name=name, model="m") for name in "ba"], "in no order"),
        (
            [pb.Subscription(name=f"{i:04}", model="m") for i in range(limits.MAX_SUBSCRIPTIONS + 1)],
            "too many",
        ),
    ],
)
def test_a_malformed_word_about_subscriptions_is_refused(said: list[pb.Subscription], message: str) -> None:
    with pytest.raises(FederatedError, match=message):
        subscriptions_from_proto(said)


def test_the_digest_tells_every_change_and_nothing_for_none() -> None:
    changed = [
        replace(FULL, model=ModelName("m")),
        replace(FULL, wanted=None),
        replace(FULL, takes=True),
        replace(FULL, held_version=3),
        replace(FULL, held_key=None),
        replace(FULL, heard_outcome=Outcome.WAITING),
        replace(FULL, heard_key=None),
        replace(FULL, refused_key=None),
        replace(FULL, kept_keys=()),
    ]
    digests = {
        subscriptions_sha256(said) for said in ([FULL], [BARE], [BARE, FULL], *([one] for one in changed))
    }
    assert len(digests) == 3 + len(changed)
    assert subscriptions_sha256([FULL]) == subscriptions_sha256((replace(FULL),))
    assert subscriptions_sha256([]) == b""


@pytest.mark.parametrize(
    ("offer", "content"),
    [
        (OFFER, CONTENT),
        (OFFER, None),
        (replace(OFFER, wanted=None), Content.of(("x",), Contract("neural_network"), b"{}")),
        (replace(OFFER, outcome=Outcome.UNKNOWN, reason="none such", version=None, key=None), None),
        (replace(OFFER, outcome=Outcome.RETIRED, reason="retired"), None),
    ],
)
def test_a_delivery_survives_the_wire(offer: Offer, content: Content | None) -> None:
    raw = encode_delivery(offer, content, RECIPIENT)
    header = decode_delivery(raw)
    body = b"" if content is None else content.prediction + content.arrays
    assert (header.offer, header.recipient, header.raw) == (offer, RECIPIENT, raw)
    assert header.body_bytes == len(body)
    # Wherever the chunks were cut.
    for step in (1, 7, len(body) + 1):
        gatherer = Gatherer(len(body))
        for start in range(0, len(body), step):
            gatherer.add(body[start : start + step])
        found = header.content(gatherer)
        assert found == content
        assert encode_delivery(header.offer, found, header.recipient) == raw


def changed(change: Callable[[pb.DeliveryHeader], object]) -> bytes:
    header = pb.DeliveryHeader.FromString(encode_delivery(OFFER, CONTENT, RECIPIENT))
    change(header)
    return header.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.ClearField("key"), "do not agree"),
        (lambda header: header.ClearField("version"), "do not agree"),
        (lambda header: setattr(header, "outcome", "waiting"), "do not agree"),
        (lambda header: setattr(header, "outcome", "retired"), "comes with what offers none"),
        (lambda header: setattr(header, "outcome", "perhaps"), "the outcome of the subscription is none"),
        (lambda header: header.ClearField("contract"), "announces a body of nothing"),
        (lambda header: header.ClearField("features"), "the number of features"),
        (lambda header: header.features.extend(["f"] * limits.MAX_COLUMNS), "the number of features"),
        (lambda header: setattr(header, "prediction_bytes", 0), "too large, or none"),
        (lambda header: setattr(header, "prediction_bytes", limits.MAX_PREDICTION_BYTES + 1), "too large, or none"),
        (lambda header: setattr(header, "arrays_bytes", limits.MAX_VECTOR_BYTES + 1), "arrays are too large"),
        (lambda header: setattr(header, "body_sha256", b"short"), "not of 32 bytes"),
        (lambda header: setattr(header, "recipient", b""), "not of 32 bytes"),
        (lambda header: setattr(header, "subscription", ""), "empty or too long"),
        (lambda header: setattr(header.contract, "algorithm", "../x"), "the name of the algorithm is none"),
        (lambda header: setattr(header, "reason", "x" * 2001), "the reason is too long"),
    ],
)  # fmt: skip
def test_a_malformed_header_of_a_delivery_is_refused(
    change: Callable[[pb.DeliveryHeader], object], message: str
) -> None:
    with pytest.raises(FederatedError, match=message):
        decode_delivery(changed(change))


def test_what_is_larger_than_a_delivery_may_be_is_not_sent() -> None:
    large = replace(CONTENT, prediction=bytes(limits.MAX_PREDICTION_BYTES + 1))
    wide = replace(CONTENT, features=tuple(["f" * 255] * 10_000))
    for content in (large, wide):
        with pytest.raises(FederatedError) as caught:
            encode_delivery(OFFER, content, RECIPIENT)
        assert caught.value.code is ErrorCode.PROGRAM_LIMIT


def test_only_a_pinned_key_signs_a_delivery_and_only_as_a_delivery() -> None:
    header = encode_delivery(OFFER, CONTENT, RECIPIENT)
    pinned = [OTHER.certificate_pem, COORDINATOR.certificate_pem]
    assert find_signer(pinned, header, sign_delivery(COORDINATOR, header)) == COORDINATOR.certificate_pem
    assert find_signer(pinned[:1], header, sign_delivery(COORDINATOR, header)) is None
    assert find_signer(pinned, header + b"x", sign_delivery(COORDINATOR, header)) is None
    # The signature of a task, should one have the same hash, is none of a delivery.
    assert find_signer(pinned, header, sign_task(COORDINATOR, delivery_sha256(header))) is None
