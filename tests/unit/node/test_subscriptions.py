"""What is delivered is looked at before the database sees it, and is for this node and its subscription alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from heliosdb.algorithms.steps import PERSONALIZE
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.personal import StoredPersonal
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import (
    ModelName,
    NodeName,
    RoundNumber,
    RunId,
    SubscriptionName,
    VersionKey,
    WorkspaceName,
)
from heliosdb.domain.personal import PersonalPart
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import make_state, state_to_bytes
from heliosdb.domain.subscription import Content, Contract, Offer, Outcome, Subscription
from heliosdb.domain.task import TaskKey
from heliosdb.node import subscriptions as node_subscriptions
from heliosdb.node.database import Database
from heliosdb.node.memory import MemoryKey
from heliosdb.node.subscriptions import Subscriptions, find_failure
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery

FEATURES = ("age", "city")
LINEAR: dict[str, Any] = {
    "kind": "linear",
    "link": "logistic",
    "booleans": [False, False],
    "fills": [50.0, 0.5],
    "shifts": [50.0, 0.0],
    "slopes": [0.1, -2.0],
    "intercept": 0.25,
    "target_mean": 0.0,
    "target_scale": 1.0,
}
ENCODED = LINEAR | {
    "encoding": Encoding(
        (
            ColumnEncoding("age"),
            ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", ("Oslo", "Rome")),
        )
    ).to_json()
}


def content(prediction: object, arrays: bytes = b"", features: tuple[str, ...] = FEATURES) -> Content:
    return Content.of(features, Contract("logistic_regression"), json.dumps(prediction).encode(), arrays)


def with_encoding(**changes: object) -> dict[str, Any]:
    encoding = json.loads(json.dumps(ENCODED["encoding"]))
    encoding["columns"][1] |= changes
    return ENCODED | {"encoding": encoding}


OWN_KEY = TaskKey(
    WorkspaceName("clinics"), RunId(UUID(int=7)), RoundNumber(3), 0, PERSONALIZE, NodeName("north")
)


@pytest.mark.parametrize(
    ("own", "is_taken"),
    [({}, True), ({"slopes": [0.1, -2.0, 3.0]}, False), ({"intercept": float("nan")}, False)],
    ids=["of this version", "of other inputs", "no number"],
)
def test_an_own_part_that_does_not_fit_the_version_does_not_take_its_place(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], is_taken: bool
) -> None:
    """Of a run its coordinator may deliver what it likes: another encoding would score its rows by other
    numbers."""
    key, delivered = MemoryKey(b"s" * 32), content(LINEAR)
    part = PersonalPart("ditto", Prediction("linear", LINEAR | {"intercept": 9.0} | own), {})
    told = {"way": "ditto", "kind": "linear", "content": dict(part.prediction.content), "figures": {}}
    raw = state_to_bytes(make_state(content=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)))
    monkeypatch.setattr(PersonalPart, "to_bytes", lambda _: raw)
    stored = StoredPersonal(OWN_KEY.run, OWN_KEY.round, key.seal_personal(part, OWN_KEY))
    monkeypatch.setattr(node_subscriptions, "find_personal", lambda *_: stored)
    offer = cast(Offer, SimpleNamespace(node="north", workspace="clinics", subscription="s", version=1))

    made, run = node_subscriptions._make_own(cast(Connection, None), offer, delivered, key)

    assert run == (OWN_KEY.run if is_taken else None)
    assert json.loads(made.prediction)["intercept"] == (9.0 if is_taken else 0.25)


@pytest.mark.parametrize("prediction", [LINEAR, ENCODED], ids=["numbers", "levels"])
def test_a_version_that_predicts_has_no_failure(prediction: dict[str, Any]) -> None:
    assert find_failure(content(prediction)) is None


@pytest.mark.parametrize(
    ("delivered", "said"),
    [
        (content([]), "not an object"),
        (replace(content({}), prediction=b"\xff"), "does not hold together"),
        (replace(content({}), prediction=b"{"), "does not hold together"),
        (content({}), "there are no predictions of its link"),
        (content(LINEAR | {"kind": "oracle"}), 'no predictions of its kind'),
        (content(LINEAR | {"intercept": float("nan")}), "is NaN"),
        (content(ENCODED, features=("age", "town")), "encoding and features differ"),
        (content(with_encoding(levels=["Rome", "Oslo"])), "in no order"),
        (content(with_encoding(kind="array", form="value", levels=[], elements=10**9)), "out of range"),
        (content(with_encoding(surprise=1)), "does not hold together"),
        (content({"kind": "network", "link": "identity"}, b"none"), "not a state"),
        (content({"kind": "trees", "link": "identity"}, state_to_bytes(make_state(a=np.ones(3)))), "added up"),
        (content(LINEAR | {"booleans": [False]}), "no flag for each feature"),
        (content(LINEAR | {"booleans": "no"}), "no flag for each feature"),
        (content(LINEAR | {"boosts": ["x"] * 100}), "more than a prediction has"),
        (content(ENCODED | {"encoding": ENCODED["encoding"] | {"surprise": ["x"] * 100}}), "encoding is none"),
        (content(ENCODED | {"encoding": ENCODED["encoding"] | {"classes": ["x"] * 1001}}), "classes of the encoding are none"),
        (replace(content({}), prediction=b"[" * 4_000_001), "too many parts"),
        (content({"kind": "network", "layers": "x"}, state_to_bytes(make_state(a=np.ones(3)))), "of its link"),
    ],
)  # fmt: skip
def test_a_version_that_predicts_nothing_says_why(delivered: Content, said: str) -> None:
    failure = find_failure(delivered)
    assert failure is not None
    assert said in failure


CERTIFICATE = bytes(range(32))
WORKSPACE = WorkspaceName("w")
OURS = Subscription(SubscriptionName("s"), ModelName("m"), "prod")
OFFER = Offer(
    WORKSPACE, NodeName("n"), OURS.name, OURS.model, "prod", Outcome.OFFERED, "", 1, VersionKey(UUID(int=1))
)


class Rows:
    """A node's database with one subscription, which may be busy."""

    def __init__(self) -> None:
        self.is_busy = False
        self.there: tuple[Subscription, ...] = (OURS,)

    def run(self, operation: Callable[..., Any]) -> tuple[Subscription, ...]:
        del operation
        return self.there


def subscriptions(rows: Rows) -> Subscriptions:
    return Subscriptions(
        cast(Database, rows), cast(Database, rows), lambda sha256: sha256 == CERTIFICATE, MemoryKey(bytes(32))
    )


def header(offer: Offer = OFFER, recipient: bytes = CERTIFICATE) -> DeliveryHeader:
    return DeliveryHeader(offer, None, b"", recipient, b"")


@pytest.mark.parametrize(
    ("arrived", "code", "said"),
    [
        (header(recipient=bytes(32)), ErrorCode.IDENTITY, "for another node's certificate"),
        (header(replace(OFFER, node=NodeName("other"))), ErrorCode.IDENTITY, "for another node"),
        (
            header(replace(OFFER, subscription=SubscriptionName("t"))),
            ErrorCode.UNDEFINED_OBJECT,
            'no subscription "t"',
        ),
        (header(replace(OFFER, model=ModelName("x"))), ErrorCode.UNDEFINED_OBJECT, 'not to model "x"'),
        (header(replace(OFFER, wanted=None)), ErrorCode.WRONG_STATE, "altered meanwhile"),
    ],
)
async def test_what_is_not_for_this_node_and_its_subscription_is_refused(
    arrived: DeliveryHeader, code: ErrorCode, said: str
) -> None:
    ours = subscriptions(Rows())
    ours.greeted(WORKSPACE, NodeName("n"))
    await ours.expect(header())
    with pytest.raises(FederatedError, match=said) as caught:
        await ours.expect(arrived)
    assert caught.value.code is code


async def test_a_heartbeat_does_not_wait_for_a_busy_database() -> None:
    rows = Rows()
    ours = subscriptions(rows)
    assert await ours.read(WORKSPACE) == (OURS,)
    rows.there, rows.is_busy = (), True
    assert await ours.read_for_heartbeat(WORKSPACE) == (OURS,)
    rows.is_busy = False
    assert await ours.read_for_heartbeat(WORKSPACE) == ()


async def test_workspaces_that_are_only_named_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_subscriptions, "_MOST_WORKSPACES", 2)
    rows = Rows()
    ours = subscriptions(rows)
    for name in ("w", "a", "w", "b"):
        ours.greeted(WorkspaceName(name), NodeName("n"))
        await ours.read(WorkspaceName(name))
    rows.is_busy, rows.there = True, ()
    assert [await ours.read_for_heartbeat(WorkspaceName(name)) for name in "wba"] == [(OURS,), (OURS,), ()]
    with pytest.raises(FederatedError, match="for another node"):
        await ours.expect(header(replace(OFFER, node=NodeName("other"))))


class Waiting(Rows):
    """A database in which a delivery waits for its DBA."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.free = threading.Event()

    def run(self, operation: Callable[..., Any]) -> Any:
        self.begun += 1
        self.free.wait()
        return OURS


async def test_who_gives_up_waiting_for_its_turn_leaves_no_body_behind() -> None:
    rows = Waiting()
    ours = subscriptions(rows)
    received = [ReceivedDelivery(header(), b"", b"", None) for _ in range(3)]
    first = await ours.begin(received[0])
    for one in received[1:]:
        waiting = asyncio.create_task(ours.begin(one))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    rows.free.set()
    assert await first == OURS
    assert await (await ours.begin(received[0])) == OURS
    assert rows.begun == 2
