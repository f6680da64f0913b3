"""Sessions of a coordinator and a node between whom somebody else carries: what opens, and what does not."""

from __future__ import annotations

import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.limits import MAX_BATCH_ENVELOPES
from heliosdb.transport.relay_lines import Batch, Lost, Places, batch_frame, read_batch, read_frame
from heliosdb.transport.relay_sealing import Hello, Numbers, SealedSession, UnsealedError, welcome

AUTHORITY = Authority.create("authority")
NODE, OTHER, COORDINATOR, STRANGER = (
    AUTHORITY.issue(name, ["localhost"]) for name in ("node", "other", "coordinator", "stranger")
)
PINS = (COORDINATOR.certificate_pem,)
CALL = pb.RelayCall(head=pb.CallHead(method="Greet"), messages=[b"secret"])


def met(node: Identity = NODE) -> tuple[SealedSession, SealedSession]:
    """The coordinator's and the node's end of a session."""
    hello = Hello(COORDINATOR)
    answer, theirs = welcome(hello.message, node, PINS)
    return hello.accept(answer, lambda pem: pem == node.certificate_pem), theirs


def test_each_end_opens_what_the_other_has_sealed_and_knows_whose_it_is() -> None:
    ours, theirs = met()
    assert (ours.peer, theirs.peer) == (NODE.certificate_pem, COORDINATOR.certificate_pem)
    assert pb.RelayCall.FromString(theirs.open(ours.seal(1, CALL).sealed)) == CALL
    answer = pb.RelayAnswer(messages=[b"said"])
    assert pb.RelayAnswer.FromString(ours.open(theirs.seal(1, answer).sealed)) == answer


def test_what_is_carried_names_nobody() -> None:
    hello = Hello(COORDINATOR)
    answer, _ = welcome(hello.message, NODE, PINS)
    ours, _ = met()
    said = b"".join(one.SerializeToString() for one in (hello.message, answer, ours.seal(1, CALL)))
    for identity in (NODE, COORDINATOR):
        assert bytes.fromhex(fingerprint(identity.certificate_pem)) not in said
    assert not any(word in said for word in (b"node", b"coordinator", b"localhost", b"secret", b"Greet"))


def test_no_two_sessions_have_a_key_in_common() -> None:
    ours, _ = met()
    _, theirs = met()
    with pytest.raises(UnsealedError):
        theirs.open(ours.seal(1, CALL).sealed)
    moved = pb.RelaySealed(session=theirs.id, number=1, sealed=ours.seal(1, CALL).sealed.sealed)
    with pytest.raises(UnsealedError):
        theirs.open(moved)


@pytest.mark.parametrize(
    "alter",
    [
        lambda sealed: pb.RelaySealed(session=sealed.session, number=2, sealed=sealed.sealed),
        lambda sealed: pb.RelaySealed(session=sealed.session, number=0, sealed=sealed.sealed),
        lambda sealed: pb.RelaySealed(session=sealed.session, number=2**64 - 1, sealed=sealed.sealed),
        lambda sealed: pb.RelaySealed(session=bytes(16), number=1, sealed=sealed.sealed),
        lambda sealed: pb.RelaySealed(session=sealed.session, number=1, sealed=sealed.sealed[:-1]),
        lambda sealed: pb.RelaySealed(session=sealed.session, number=1, sealed=b"x" + sealed.sealed[1:]),
        lambda sealed: pb.RelaySealed(session=sealed.session, number=1),
    ],
    ids=["another number", "no number", "too large", "another session", "cut", "altered", "empty"],
)
def test_what_was_altered_does_not_open(alter) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = met()
    with pytest.raises(UnsealedError):
        theirs.open(alter(ours.seal(1, CALL).sealed))


def test_what_one_has_said_is_not_taken_for_the_answer_to_it() -> None:
    ours, _ = met()
    with pytest.raises(UnsealedError):
        ours.open(ours.seal(1, CALL).sealed)


def test_a_node_makes_no_session_with_anybody_but_the_pinned_coordinator() -> None:
    with pytest.raises(UnsealedError):
        welcome(Hello(STRANGER).message, NODE, PINS)
    altered = pb.RelayHello()
    altered.CopyFrom(Hello(COORDINATOR).message)
    altered.ephemeral_key = Hello(STRANGER).message.ephemeral_key
    with pytest.raises(UnsealedError):
        welcome(altered, NODE, PINS)
    with pytest.raises(UnsealedError):
        welcome(pb.RelayHello(), NODE, PINS)


def test_a_coordinator_makes_none_with_a_node_that_it_does_not_expect() -> None:
    hello = Hello(COORDINATOR)
    answer, _ = welcome(hello.message, OTHER, PINS)
    with pytest.raises(UnsealedError):
        hello.accept(answer, lambda pem: pem == NODE.certificate_pem)


def test_an_answer_to_another_offer_or_an_altered_one_makes_no_session() -> None:
    hello = Hello(COORDINATOR)
    answer, _ = welcome(hello.message, NODE, PINS)
    with pytest.raises(UnsealedError):
        Hello(COORDINATOR).accept(answer, lambda _: True)
    for field in ("session", "ephemeral_key", "sealed"):
        altered = pb.RelayWelcome()
        altered.CopyFrom(answer)
        value = getattr(altered, field)
        setattr(altered, field, bytes([value[0] ^ 1]) + value[1:])
        with pytest.raises(UnsealedError):
            hello.accept(altered, lambda _: True)
        setattr(altered, field, b"")
        with pytest.raises(UnsealedError):
            hello.accept(altered, lambda _: True)


def test_a_key_whose_exchange_is_known_to_all_is_refused() -> None:
    """Points of small order (RFC 7748, section 6.1): what comes of them is zero."""
    hello = Hello(COORDINATOR)
    answer, _ = welcome(hello.message, NODE, PINS)
    answer.ephemeral_key = bytes(32)
    with pytest.raises(UnsealedError):
        hello.accept(answer, lambda _: True)


def test_a_number_is_taken_once_and_not_far_behind_the_latest() -> None:
    numbers = Numbers()
    assert [numbers.take(one) for one in (1, 3, 2, 3, 2, 0, -1, 2**63)] == [True] * 3 + [False] * 5
    assert numbers.take(2000)
    assert not numbers.take(4)
    assert not numbers.take(2000 - 1024)
    assert numbers.take(2000 - 1023)
    assert not numbers.take(2000 - 1023)


def test_frames_are_read_as_they_are_written_and_nothing_else_is_one() -> None:
    assert read_frame(batch_frame(2**64 - 1, b"b")) == Batch(2**64 - 1, b"b")
    assert read_frame(b"P") == Places(frozenset())
    assert read_frame(b"P" + bytes(7) + b"\1" + bytes(7) + b"\2") == Places(frozenset({1, 2}))
    assert read_frame(b"L" + bytes(7) + b"\1") == Lost(1)
    for wrong in (b"", b"X", b"P" + bytes(7), b"B", b"L", b"L" + bytes(9), b"P" + bytes(8 * 10_001)):
        with pytest.raises(FederatedError, match="no frame"):
            read_frame(wrong)


def test_a_batch_is_read_as_it_was_written() -> None:
    ours, _ = met()
    for count in (0, 1, MAX_BATCH_ENVELOPES):
        envelopes = [ours.seal(1, CALL)] * count
        batch = pb.RelayBatch(envelopes=envelopes, hold_ms=2**32 - 1, pending=2**32 - 1)
        assert read_batch(batch.SerializeToString()) == batch


def test_envelopes_are_counted_before_they_are_made() -> None:
    """Two bytes are an empty one: a batch of 300 MB would take ten times as much."""
    with pytest.raises(FederatedError, match="more than 1024 envelopes"):
        read_batch(b"\n\0" * 1_000_000)


@pytest.mark.parametrize(
    "raw", [b"\n", b"\n\x05abc", b"\x0b\x01", b"\xff" * 12, b"\n" + b"\xff" * 9, b"\x20\x01"]
)
def test_what_is_no_batch_is_refused(raw: bytes) -> None:
    with pytest.raises(FederatedError):
        read_batch(raw)
