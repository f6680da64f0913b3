"""Heads of audit logs to protobuf and back, with the proof that one continues another.

What always holds: what is read back is equal to what was written, within the limits of
transport/limits.py; whether a proof or a signature holds is not judged here.
"""

from __future__ import annotations

from collections.abc import Sequence

from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.tree_head import (
    MAX_PATH,
    MAX_STATEMENT_BYTES,
    SignedStatement,
    WitnessAnswer,
    WitnessRequest,
)
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import read_digest, read_name, require
from heliosdb.transport.messages import printable

_MOST_ENTRIES = 2**63 - 1


def request_to_proto(request: WitnessRequest) -> pb.WitnessRequest:
    """A head for the wire."""
    return pb.WitnessRequest(
        workspace=request.workspace,
        node=request.node,
        head=_statement_to_proto(request.head),
        held_size=request.held_size,
        path=request.path,
    )


def request_from_proto(request: pb.WitnessRequest) -> WitnessRequest:
    """A head from the wire."""
    require(request.held_size <= _MOST_ENTRIES, "the number of entries is out of range")
    require(len(request.path) <= MAX_PATH, "the path is too long")
    require(request.held_size > 0 or not request.path, "a path leads from no head")
    return WitnessRequest(
        WorkspaceName(read_name(request.workspace)),
        NodeName(read_name(request.node)),
        _statement_from_proto(request.head),
        request.held_size,
        tuple(read_digest("a hash of the path", one) for one in request.path),
    )


def answer_to_proto(answer: WitnessAnswer) -> pb.WitnessAnswer:
    """What a node says to a head, for the wire."""
    refusal = None
    if answer.refusal is not None:
        refusal = pb.Refusal(message=answer.refusal[: limits.MAX_MESSAGE_CHARACTERS])
    cosignature = None if answer.cosignature is None else _statement_to_proto(answer.cosignature)
    return pb.WitnessAnswer(
        refusal=refusal, cosignature=cosignature, held=map(_statement_to_proto, answer.held)
    )


def answer_from_proto(answer: pb.WitnessAnswer) -> WitnessAnswer:
    """What a node says to a head, from the wire; a refusal's text is made printable."""
    refused, cosigned = answer.HasField("refusal"), answer.HasField("cosignature")
    require(not (refused and cosigned), "the head is both refused and cosigned")
    return WitnessAnswer(
        _statement_from_proto(answer.cosignature) if cosigned else None,
        (printable(answer.refusal.message) or "no reason given") if refused else None,
        _statements_from_proto(answer.held),
    )


def _statements_from_proto(statements: Sequence[pb.SignedStatement]) -> tuple[SignedStatement, ...]:
    require(len(statements) <= limits.MAX_LOGS, "there are too many heads")
    return tuple(map(_statement_from_proto, statements))


def _statement_to_proto(signed: SignedStatement) -> pb.SignedStatement:
    return pb.SignedStatement(statement=signed.statement, signature=signed.signature)


def _statement_from_proto(signed: pb.SignedStatement) -> SignedStatement:
    require(0 < len(signed.statement) <= MAX_STATEMENT_BYTES, "the statement is too large, or none")
    require(0 < len(signed.signature) <= limits.MAX_SIGNATURE_BYTES, "the signature is too large, or none")
    return SignedStatement(bytes(signed.statement), bytes(signed.signature))
