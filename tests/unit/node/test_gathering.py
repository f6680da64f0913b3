"""A node that gathers: whatever is wrong with those below it, it answers in time, with what it has."""

from __future__ import annotations

from dataclasses import replace
from typing import cast
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.partial_sum import Adding
from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Introduction
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Reading, Task, TaskKey, Work
from heliosdb.domain.vector import Dtype
from heliosdb.node.gathering import Aggregator
from heliosdb.transport.answering import Performer
from heliosdb.transport.authority import Authority
from heliosdb.transport.gather_messages import Contact, GatheredNode, GatherRequest, SignedTask
from heliosdb.transport.identity import fingerprint
from heliosdb.transport.messages import EncodedState, ReceivedTask, encode_header, task_sha256
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from heliosdb.transport.update_messages import SealedUpdate
from heliosdb.transport.verification import sign_task
from tests.support.performers import Unsubscribed
from tests.support.ports import free_port

AUTHORITY = Authority.create("authority")
ABOVE, BELOW = (AUTHORITY.issue(name, ["localhost"]) for name in ("above", "below"))
KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("train"), NodeName("above"))
OPENING = SealingKey.generate()
STATE = make_state(parameters=np.zeros(2))
ADDING = Adding(2, Dtype.FLOAT64, False, 1, 7)


def node(name: str, endpoint: str, pem: bytes, *, gathers: bool = False, exchange: int = 0) -> GatheredNode:
    key = replace(KEY, node=NodeName(name), exchange=exchange)
    task = Task(key, Reading("t", ("x",), "y", 0.2, 5), Work("a", 2), state=STATE)
    header = encode_header(task, OPENING.public, EncodedState.of(STATE))
    opening = OPENING if gathers else None
    signed = SignedTask(header, sign_task(ABOVE, task_sha256(header)))
    return GatheredNode(key.node, KEY.node, Contact(endpoint, (pem,)), signed, opening)


def request(*nodes: GatheredNode, adding: Adding | None = ADDING, patience: float = 60.0) -> GatherRequest:
    shape, state = Shape(2, Dtype.FLOAT64), EncodedState.of(STATE)
    return GatherRequest(KEY, shape, adding, OPENING, OPENING.public, patience, nodes, state)


def aggregator(*, wanted: bool = True) -> Aggregator:
    identity = ServerIdentity(ABOVE, (BELOW.certificate_pem,), (BELOW.certificate_pem,))
    return Aggregator(lambda: identity, wanted=wanted)


class Unwilling(Unsubscribed):
    """Refuses each task, and keeps what was asked of its machine with it."""

    def __init__(self) -> None:
        self.asked: list[Limits] = []

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        self.asked.append(received.limits)
        raise FederatedError(ErrorCode.NOT_SUPPORTED, "not today")


@pytest.mark.parametrize("adding", [ADDING, None])
async def test_what_a_workspace_asks_of_a_nodes_machine_goes_with_its_task(adding: Adding | None) -> None:
    below = Unwilling()
    shown = ServerIdentity(BELOW, (ABOVE.certificate_pem,))
    server, port = make_server(
        cast(Performer, below),
        lambda: [ABOVE.certificate_pem],
        server_credentials(lambda: shown),
        "127.0.0.1",
        0,
    )
    await server.start()
    gathering = aggregator()
    asked = node("b", f"https://localhost:{port}", BELOW.certificate_pem)
    for limits in (Limits(1.5, 2, 800.0), NO_LIMITS):
        limited = replace(asked, contact=replace(asked.contact, limits=limits))
        [told async for told in gathering.gather(request(limited, adding=adding))]
    await gathering.close()
    await server.stop(None)

    assert below.asked == [Limits(1.5, 2, 800.0), NO_LIMITS]


@pytest.mark.parametrize("adding", [ADDING, None])
async def test_nodes_that_cannot_be_asked_leave_an_answer_of_nothing(adding: Adding | None) -> None:
    nobody = f"https://localhost:{free_port()}"
    asked = (
        node("b", "not an endpoint", BELOW.certificate_pem),
        node("c", nobody, b"no certificate"),
        node("d", nobody, BELOW.certificate_pem),
        node("e", nobody, BELOW.certificate_pem, exchange=1),
        node("f", "not an endpoint", BELOW.certificate_pem, gathers=True),
        node("g", nobody, BELOW.certificate_pem, gathers=True),
    )
    gathering = aggregator()

    assert [told async for told in gathering.gather(request(*asked, adding=adding))] == []
    await gathering.close()


async def test_a_node_whose_dba_does_not_want_it_dials_nobody() -> None:
    unwilling = aggregator(wanted=False)

    with pytest.raises(FederatedError, match="gathers for no others") as caught:
        [told async for told in unwilling.gather(request())]
    assert caught.value.code is ErrorCode.NODE_REFUSED


@pytest.mark.parametrize("wanted", [True, False])
def test_it_says_whom_it_lets_in_and_whether_it_gathers(wanted: bool) -> None:
    said = aggregator(wanted=wanted).introduce(Introduction((), ("neural",)))

    assert said == Introduction(
        (), ("neural",), aggregators=(fingerprint(BELOW.certificate_pem),), aggregates=wanted
    )
