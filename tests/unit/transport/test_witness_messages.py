"""Heads on the wire: read back as written, bounded, and nothing else whatever the bytes."""

from __future__ import annotations

import contextlib
import datetime as dt
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.tree_head import SignedStatement, TreeHead, WitnessAnswer, Witnessed, WitnessRequest
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.authority import Authority
from heliosdb.transport.checks import parse
from heliosdb.transport.head_signatures import (
    find_head_signer,
    sign_head,
    sign_witnessed,
    verify_witnessed,
)
from heliosdb.transport.witness_messages import (
    answer_from_proto,
    answer_to_proto,
    request_from_proto,
    request_to_proto,
)

SIGNED = SignedStatement(b"statement", b"signature")
REQUEST = WitnessRequest(WorkspaceName("w"), NodeName("n"), SIGNED, 3, (b"a" * 32, b"b" * 32))
MOMENT = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "answer",
    [
        WitnessAnswer(SIGNED, None, (SIGNED,)),
        WitnessAnswer(None, "it does not", (SIGNED, SIGNED)),
        WitnessAnswer(None, None, ()),
    ],
)
def test_what_is_read_back_is_what_was_written(answer: WitnessAnswer) -> None:
    assert answer_from_proto(parse(pb.WitnessAnswer, answer_to_proto(answer).SerializeToString())) == answer
    assert (
        request_from_proto(parse(pb.WitnessRequest, request_to_proto(REQUEST).SerializeToString())) == REQUEST
    )


def request(**changes: object) -> pb.WitnessRequest:
    head = pb.SignedStatement(statement=b"s", signature=b"s")
    given = {"workspace": "w", "node": "n", "head": head, "held_size": 1, "path": [bytes(32)]} | changes
    return pb.WitnessRequest(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        request(workspace=""), request(node="\0"), request(held_size=2**63), request(path=[bytes(31)]),
        request(path=[bytes(32)] * 65), request(held_size=0), request(head=None),
        request(head=pb.SignedStatement(statement=b"s" * 4097, signature=b"s")),
        request(head=pb.SignedStatement(statement=b"s", signature=b"s" * 257)),
    ],
)  # fmt: skip
def test_a_request_out_of_bounds_is_refused(message: pb.WitnessRequest) -> None:
    with pytest.raises(FederatedError):
        request_from_proto(message)


def test_an_answer_out_of_bounds_is_refused() -> None:
    one = pb.SignedStatement(statement=b"s", signature=b"s")
    for message in (
        pb.WitnessAnswer(refusal=pb.Refusal(message="no"), cosignature=one),
        pb.WitnessAnswer(held=[one] * 65),
        pb.WitnessAnswer(cosignature=pb.SignedStatement()),
    ):
        with pytest.raises(FederatedError):
            answer_from_proto(message)
    said = answer_from_proto(pb.WitnessAnswer(refusal=pb.Refusal(message="a\x1b[2Jb" * 1000)))
    assert said.refusal is not None
    assert said.refusal.isprintable()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_of_ours(raw: bytes) -> None:
    with contextlib.suppress(FederatedError):
        request_from_proto(parse(pb.WitnessRequest, raw))
    with contextlib.suppress(FederatedError):
        answer_from_proto(parse(pb.WitnessAnswer, raw))


def test_a_signature_is_of_one_kind_and_one_key() -> None:
    authority = Authority.create("authority")
    one, other = (authority.issue(name, ["localhost"]) for name in ("one", "other"))
    head = TreeHead(WorkspaceName("w"), UUID(int=1), 1, bytes(32), MOMENT).statement()
    witnessed = Witnessed(bytes(32), NodeName("n"), MOMENT).statement()
    both = [other.certificate_pem, one.certificate_pem]
    assert find_head_signer(both, sign_head(one, head)) == one.certificate_pem
    assert find_head_signer(both[:1], sign_head(one, head)) is None
    assert find_head_signer(both, sign_witnessed(one, head)) is None
    assert verify_witnessed(both, sign_witnessed(one, witnessed))
    assert not verify_witnessed(both, sign_head(one, witnessed))
    assert not verify_witnessed(both[:1], sign_witnessed(one, witnessed))
