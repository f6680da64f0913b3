"""Spans of rounds, sent by OpenTelemetry where the settings ask for it.

What always holds: a round is one trace, whichever coordinators drove it, because its id follows from the
run's and the round's number; a span says workspace, run, round, exchange, step, node and outcome, and nothing
else: no rows, statements, subjects, or texts of errors. Of a task under a budget a node sends one span, whose
length whoever asked sees anyway. Spans that cannot be sent are dropped; nobody waits for them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from federated_sql.errors import invalid_value, not_supported
from heliosdb.observing.metric import Daemon
from heliosdb.observing.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SpanExporter

HEADER = "traceparent"
"""As W3C Trace Context names it; in gRPC's metadata."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_tracer: _Tracer | None = None
_asked_under: ContextVar[str | None] = ContextVar("asked_under", default=None)


class Span:
    """A part of a round's time; where nothing is traced, it is none and all of it does nothing."""

    def __init__(self, span: trace.Span | None = None) -> None:
        self._span = span
        self._outcome = "done"

    def child(self, name: str, **about: str | int) -> Span:
        """Begin a part of this one. about: of `ATTRIBUTES`."""
        if self._span is None or _tracer is None:
            return self
        return _tracer.begin(name, about, parent=self._span.get_span_context())

    @property
    def traceparent(self) -> str | None:
        """What another process goes on under; None where nothing is traced."""
        if self._span is None:
            return None
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, outcome: str | None = None) -> None:
        """End it, once; outcome: a word."""
        if self._span is not None and self._span.is_recording():
            self._span.set_attribute("heliosdb.outcome", outcome or self._outcome)
            self._span.end()

    def told(self, outcome: str) -> None:
        """Say with what outcome the block ends."""
        self._outcome = outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(None if kind is None or self._outcome != "done" else "failed")


NO_SPAN = Span()

ATTRIBUTES = frozenset({"workspace", "run", "round", "exchange", "step", "node"})


class _Tracer:
    """Begins spans, the first of a trace under an id that is given."""

    def __init__(self, exporter: SpanExporter, daemon: Daemon) -> None:
        from importlib.metadata import version

        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        told = {
            "service.name": f"heliosdb-{daemon}",
            "service.version": version("heliosdb-federated-learning"),
        }
        self._ids = _ids()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource(told),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("heliosdb")

    def begin(
        self,
        name: str,
        about: dict[str, str | int],
        *,
        parent: trace.SpanContext | None = None,
        trace_id: int | None = None,
    ) -> Span:
        from opentelemetry import trace
        from opentelemetry.context import Context

        if not ATTRIBUTES.issuperset(about):
            raise ValueError(f"a span says nothing of {sorted(about.keys() - ATTRIBUTES)}")
        context = Context()
        if parent is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
        self._ids.wanted = trace_id
        attributes = {f"heliosdb.{key}": value for key, value in about.items()}
        return Span(self._tracer.start_span(name, context, attributes=attributes, record_exception=False))

    def close(self) -> None:
        self._provider.shutdown()


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Gives the id that is wanted, else a random one."""

        wanted: int | None = None

        def generate_trace_id(self) -> int:
            wanted, self.wanted = self.wanted, None
            return super().generate_trace_id() if wanted is None else wanted

    return Ids()


def begin_round(workspace: str, run: str, number: int) -> Span:
    """Begin the span of a round, or of what a coordinator that takes over does of it."""
    if _tracer is None:
        return NO_SPAN
    digest = hashlib.sha256(f"heliosdb trace\0{run}\0{number}".encode()).digest()
    about: dict[str, str | int] = {"workspace": workspace, "run": run, "round": number}
    return _tracer.begin("round", about, trace_id=int.from_bytes(digest[:16], "big") or 1)


def begin_task(**about: str | int) -> Span:
    """At a node, begin the span of a task under the one that it was asked under."""
    if _tracer is None:
        return NO_SPAN
    return _tracer.begin("task", about, parent=_read(_asked_under.get()))


@contextmanager
def asked_under(metadata: Sequence[tuple[str, str | bytes]] | None) -> Iterator[None]:
    """Within the block, tasks begin under the span that a peer names; only of one that has proven who it
    is."""
    if _tracer is None:
        yield
        return
    named = next((value for key, value in metadata or () if key == HEADER), None)
    token = _asked_under.set(named if isinstance(named, str) and _TRACEPARENT.fullmatch(named) else None)
    try:
        yield
    finally:
        _asked_under.reset(token)


def _read(traceparent: str | None) -> trace.SpanContext | None:
    from opentelemetry import trace

    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    return trace.SpanContext(
        int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=trace.TraceFlags(int(found[3], 16))
    )


@contextmanager
def tracing(settings: TracingSettings | None, daemon: Daemon) -> Iterator[None]:
    """Send spans for the length of a block; None: none. Raises FederatedError where that cannot be."""
    if settings is None:
        yield
        return
    with tracing_to(_exporter(settings), daemon):
        yield


@contextmanager
def tracing_to(exporter: SpanExporter, daemon: Daemon) -> Iterator[None]:
    """Send spans to `exporter` for the length of a block."""
    global _tracer  # noqa: PLW0603 - a process is traced to one place, or to none
    tracer = _tracer = _Tracer(exporter, daemon)
    try:
        yield
    finally:
        _tracer = None
        tracer.close()


def _exporter(settings: TracingSettings) -> SpanExporter:
    try:
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise not_supported(
            "the setting tracing needs libraries that are not installed",
            hint="Install the extra: pip install 'heliosdb-federated-learning[tracing]'.",
        ) from error
    url = urlsplit(settings.endpoint)
    if url.scheme == "http":
        return OTLPSpanExporter(endpoint=url.netloc, insecure=True)
    try:
        roots = None if settings.ca_bundle is None else settings.ca_bundle.read_bytes()
    except OSError as error:
        raise invalid_value("the ca_bundle of tracing cannot be read", detail=error.strerror) from error
    return OTLPSpanExporter(endpoint=url.netloc, credentials=grpc.ssl_channel_credentials(roots))
