"""A round is one trace, and its spans say nothing but where and how."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from heliosdb.observing import tracing
from heliosdb.observing.metric import Daemon
from heliosdb.observing.settings import TracingSettings
from heliosdb.observing.tracing import NO_SPAN, asked_under, begin_round, begin_task, tracing_to
from tests.support.spans import Kept


@pytest.fixture
def kept() -> Iterator[Kept]:
    yield Kept()


def test_a_trace_is_known_by_run_and_round(kept: Kept) -> None:
    with tracing_to(kept, Daemon.COORDINATOR):
        for run, number in (("r", 1), ("r", 1), ("r", 2), ("s", 1)):
            begin_round("w", run, number).end()
    traces = [span.context.trace_id for span in kept.spans if span.context]
    assert traces[0] == traces[1]
    assert len(set(traces)) == 3
    assert len({span.context.span_id for span in kept.spans if span.context}) == 4


async def test_a_node_goes_on_under_what_it_was_asked_under(kept: Kept) -> None:
    with tracing_to(kept, Daemon.COORDINATOR):
        whole = begin_round("w", "r", 1)
        asked = whole.child("ask", node="n")
        assert asked.traceparent is not None
        with asked_under((("other", b"\0"), ("traceparent", asked.traceparent))):
            # As a node does: the task is answered by a task of the event loop of its own.
            task = await asyncio.create_task(_begin())
        task.child("compute").end()
        task.end("answered")
        asked.end("received")
        whole.end("closed")
    task_span, ask, compute = kept.named("task"), kept.named("ask"), kept.named("compute")
    assert ask.context is not None
    assert task_span.context is not None
    assert task_span.parent is not None
    assert compute.parent is not None
    assert len({span.context.trace_id for span in kept.spans if span.context}) == 1
    assert task_span.parent.span_id == ask.context.span_id
    assert task_span.parent.is_remote
    assert compute.parent.span_id == task_span.context.span_id
    assert kept.named("round").attributes == {
        "heliosdb.workspace": "w",
        "heliosdb.run": "r",
        "heliosdb.round": 1,
        "heliosdb.outcome": "closed",
    }


async def _begin() -> tracing.Span:
    return begin_task(node="n", step="train")


@pytest.mark.parametrize(
    "named",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
        "x" * 100_000,
    ],
)
def test_what_is_no_traceparent_is_not_followed(kept: Kept, named: str) -> None:
    with tracing_to(kept, Daemon.NODE), asked_under((("traceparent", named),)):
        begin_task(node="n").end()
    assert kept.named("task").parent is None


def test_a_span_says_nothing_else(kept: Kept) -> None:
    with tracing_to(kept, Daemon.NODE), pytest.raises(ValueError, match="says nothing of"):
        begin_task(node="n", sql="SELECT 1")


def test_an_error_shows_by_its_outcome_alone(kept: Kept) -> None:
    with (
        tracing_to(kept, Daemon.COORDINATOR),
        pytest.raises(ValueError, match="canary"),
        begin_round("w", "r", 1),
    ):
        raise ValueError("canary")
    span = kept.named("round")
    assert "canary" not in span.to_json()
    assert span.attributes is not None
    assert span.attributes["heliosdb.outcome"] == "failed"
    assert not span.events


def test_where_nothing_is_traced_nothing_is_made() -> None:
    assert begin_round("w", "r", 1) is NO_SPAN
    assert begin_task(node="n") is NO_SPAN
    assert NO_SPAN.child("ask") is NO_SPAN
    assert NO_SPAN.traceparent is None
    with NO_SPAN:
        NO_SPAN.end()


def test_a_missing_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from federated_sql.errors import FederatedError

    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None
    )
    settings = TracingSettings(endpoint="http://localhost:4317")
    with pytest.raises(FederatedError) as raised, tracing.tracing(settings, Daemon.NODE):
        pass
    assert raised.value.hint is not None
    assert "[tracing]" in raised.value.hint
