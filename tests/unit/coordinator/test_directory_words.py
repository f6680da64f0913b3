"""A node's own words end no term, whatever the encoding of the catalog that they are written in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heliosdb.catalog.nodes import NodeRecord, NodeStatus
from heliosdb.coordinator import directory
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.directory import Directory, Member
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.ids import Epoch, NodeName, SubscriptionName, WorkspaceName


class Latin:
    """A session with a catalog in LATIN1: psycopg fails as it encodes what that has no character for."""

    def __init__(self) -> None:
        self.written: list[str] = []

    async def call(self, write: Callable[[Any], None]) -> None:
        write(self)

    def record(self, _node: object, _name: object, words: str) -> None:
        words.encode("latin-1")
        self.written.append(words)


@pytest.mark.parametrize(
    ("said", "written"), [("größer", "größer"), ("no 漢, größer", "no ?, gr??er"), ("漢" * 600, "?" * 600)]
)
async def test_what_the_catalog_has_no_character_for_is_written_without_it(
    said: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Latin()
    monkeypatch.setattr(directory, "fenced", lambda _connection, _epoch: nullcontext())
    monkeypatch.setattr(directory.deliveries, "record_delivery_failure", Latin.record)
    nodes = Directory(
        cast(CoordinatorConfig, SimpleNamespace()), lambda: None, cast(CatalogSession, session), Epoch(1)  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    member = cast(Member, SimpleNamespace(record=SimpleNamespace(id=1)))
    await nodes.hear_failure(member, SubscriptionName("s"), said)
    assert session.written == [written]


async def test_a_node_is_away_and_not_unregistered_once_the_term_has_ended() -> None:
    nodes = Directory(
        cast(CoordinatorConfig, SimpleNamespace()), lambda: None, cast(CatalogSession, Latin()), Epoch(1)  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    workspace, name = WorkspaceName("w"), NodeName("a")
    record = NodeRecord(1, name, workspace, "{}", "https://a", None, None, NodeStatus.PENDING, None)
    await nodes.refresh([record], as_of=0.0)
    await nodes.close()
    assert nodes.is_registered(workspace, name)
    assert nodes.find(workspace, name) is None
    await nodes.refresh([], as_of=1.0)
    assert not nodes.is_registered(workspace, name)
