"""An OpenTelemetry collector for tests: it takes spans by OTLP over gRPC, and keeps them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Received:
    """A span, who sent it, and what it says."""

    service: str
    span: Span

    @property
    def told(self) -> dict[str, str | int]:
        """Its attributes, without the prefix that all of them have."""
        return {
            one.key.removeprefix("heliosdb."): getattr(one.value, one.value.WhichOneof("value") or "")
            for one in self.span.attributes
        }


@dataclass
class Collector:
    """What was received, by the address that it listens at."""

    endpoint: str = ""
    received: list[Received] = field(default_factory=list)

    def take(self, request: ExportTraceServiceRequest, _context: Any) -> ExportTraceServiceResponse:
        """Keep an export."""
        for resource in request.resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            self.received += [Received(named["service.name"], span) for span in spans]
        return ExportTraceServiceResponse()

    def named(self, name: str) -> list[Received]:
        """The spans of that name."""
        return [one for one in self.received if one.span.name == name]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens on this machine."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    export = grpc.unary_unary_rpc_method_handler(
        collector.take, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": export}),))
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
