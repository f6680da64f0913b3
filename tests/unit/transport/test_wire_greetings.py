"""Greetings, introductions, what may be forgotten, and refusals survive the wire; what is malformed is refused."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import DatasetDescription, DeclaredValues, Greeting, Introduction
from heliosdb.domain.ids import DatasetName, NodeName, RunId, WorkspaceName
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.messages import (
    forget_from_proto,
    forget_to_proto,
    greeting_from_proto,
    greeting_to_proto,
    introduction_from_proto,
    introduction_to_proto,
    refusal_from_proto,
    refusal_to_proto,
)


def test_what_may_be_forgotten_survives_the_wire_in_one_form() -> None:
    runs = [RunId(UUID(int=number)) for number in (3, 1, 2)]
    one, other = (
        forget_to_proto(WorkspaceName("w"), NodeName("n"), frozenset(order)).SerializeToString()
        for order in (runs, runs[::-1])
    )
    assert one == other
    assert forget_from_proto(pb.ForgetRequest.FromString(one)) == ("w", "n", frozenset(runs))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.ForgetRequest(workspace="w", node="n", ended_runs=[b"short"]), "run id"),
        (pb.ForgetRequest(workspace="w", node="n", ended_runs=[bytes(16)] * 10_001), "too many runs"),
        (pb.ForgetRequest(workspace="w"), "empty or too long"),
        (pb.ForgetRequest(node="n"), "empty or too long"),
    ],
)
def test_a_malformed_word_of_what_may_be_forgotten_is_refused(
    request_: pb.ForgetRequest, message: str
) -> None:
    with pytest.raises(FederatedError, match=message):
        forget_from_proto(request_)


def test_more_runs_than_can_be_said_are_not_said() -> None:
    ended = frozenset(RunId(UUID(int=number)) for number in range(limits.MAX_ENDED_RUNS + 1))
    with pytest.raises(FederatedError) as raised:
        forget_to_proto(WorkspaceName("w"), NodeName("n"), ended)
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT


def test_greetings_and_introductions_survive_the_wire() -> None:
    greeting = Greeting(WorkspaceName("w"), NodeName("n"))
    introduction = Introduction(
        (
            DatasetDescription(DatasetName("d"), ("a", "b"), ("integer", "text")),
            DatasetDescription(
                DatasetName("e"), ("a",), ("integer",), True, (DeclaredValues("a", ("0", "1")),)
            ),
            DatasetDescription(DatasetName("f"), ("a",), ("integer",), paused=True),
        ),
        extras=("neural",),
    )
    assert greeting_from_proto(greeting_to_proto(greeting)) == greeting
    assert introduction_from_proto(introduction_to_proto(introduction)) == introduction
    placed = replace(introduction, data_residency="EU-WEST")
    assert introduction_from_proto(introduction_to_proto(placed)) == placed


@pytest.mark.parametrize("place", ["", "x" * 256, "EU\x1b[31m"], ids=["none", "too long", "not printable"])
def test_a_place_is_bounded_and_can_be_shown(place: str) -> None:
    with pytest.raises(FederatedError) as caught:
        introduction_from_proto(pb.Introduction(data_residency=place))
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("extras", [["x"] * 33, ["x" * 256], [""]], ids=["too many", "too long", "no name"])
def test_extras_are_bounded(extras: list[str]) -> None:
    with pytest.raises(FederatedError) as caught:
        introduction_from_proto(pb.Introduction(extras=extras))
    assert caught.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "declared",
    [
        [pb.DeclaredValues(column="b", values=["0"])],
        [pb.DeclaredValues(column="a", values=["0"])] * 2,
        [pb.DeclaredValues(column="a", values=map(str, range(33)))],
        [pb.DeclaredValues(column="a", values=["x" * 256])],
    ],
    ids=["not shared", "more than columns", "too many", "too long"],
)
def test_declared_values_are_bounded(declared: list[pb.DeclaredValues]) -> None:
    shared = pb.DatasetDescription(name="d", columns=["a"], types=["integer"], declared=declared)
    with pytest.raises(FederatedError) as caught:
        introduction_from_proto(pb.Introduction(datasets=[shared]))
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_refusal_carries_code_message_and_hint_in_printable_text() -> None:
    error = FederatedError(ErrorCode.BUDGET_EXHAUSTED, "no more\x1b[31m", hint="wait")
    received = refusal_from_proto(refusal_to_proto(error), "n")
    assert received.code is ErrorCode.NODE_REFUSED
    assert received.reason is ErrorCode.BUDGET_EXHAUSTED
    assert received.message == 'node "n" refused: no more [31m'
    assert received.said == "no more [31m"
    assert received.hint == "wait"


def test_a_refusal_of_a_code_unknown_here_is_internal() -> None:
    assert refusal_from_proto(pb.Refusal(code="NEWER", message="m"), "n").reason is ErrorCode.INTERNAL
