"""The protocol by gRPC: the same calls, identities and limits as by REST, on a port of its own.

What always holds: nothing of a message is looked at but the model's name and its size before the call is
admitted, and no more messages than the settings say are held, each of a caller who is known; a status says
what the problem document would. Without TLS it listens on loopback alone; TLS is 1.3. Clients' certificates
are not asked for: callers show tokens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from google.protobuf.message import DecodeError, Message

from heliosdb.api.access import say
from heliosdb.api.config import ApiConfig
from heliosdb.api.guard import Services
from heliosdb.api.problems import Problem, as_problem
from heliosdb.api.serving.grpc_calls import Call, Callers
from heliosdb.api.serving.grpc_messages import answer_to_proto, metadata_to_proto, request_from_proto
from heliosdb.api.serving.grpc_scan import scan, unreadable
from heliosdb.api.serving.rest import NAME, PLATFORM, VERSION
from heliosdb.api.serving.tensors import InferenceRequest
from heliosdb.domain.errors import invalid_value
from heliosdb.transport import inference_pb2 as pb
from heliosdb.transport.rpc import aio, grpc

log = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"

_LARGEST_METADATA = 32 * 1024
_LARGEST_UNREAD = 64 * 1024
_OLDEST = 600
"""Seconds until a connection's client is asked to make a new one."""

_GRACE = 10.0
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""What the statuses of problems are called here."""

Method = Callable[[Call], Awaitable[Message]]


async def _live(_: Call) -> Message:
    return pb.ServerLiveResponse(live=True)


async def _ready(call: Call) -> Message:
    return pb.ServerReadyResponse(ready=await call.services.inference.ready())


async def _server(call: Call) -> Message:
    await call.confirm()
    return pb.ServerMetadataResponse(name=NAME, version=VERSION)


async def _model_ready(call: Call) -> Message:
    async with call.message() as (claim, raw):
        asked = _parse(pb.ModelReadyRequest(), raw)
        try:
            await call.admit(claim, asked.name, asked.version)
        except (psycopg.Error, Problem) as error:
            if as_problem(error).status != 409:
                raise
            return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=True)


async def _model(call: Call) -> Message:
    async with call.message() as (claim, raw):
        asked = _parse(pb.ModelMetadataRequest(), raw)
        admitted = await call.admit(claim, asked.name, asked.version)
        served, versions = await call.services.inference.describe(admitted)
    return pb.ModelMetadataResponse(
        name=admitted.model,
        versions=versions,
        platform=PLATFORM,
        inputs=map(metadata_to_proto, served.signature.inputs),
        outputs=map(metadata_to_proto, served.signature.outputs),
    )


async def _infer(call: Call) -> Message:
    async with call.message() as (claim, raw):
        asked = scan(raw)
        admitted = await call.admit(claim, asked.model, asked.version)
        request, is_raw = _read(raw)
        answer = await call.services.inference.answer(admitted, request)
    return answer_to_proto(answer, request.id, raw=is_raw)


def _read(raw: bytes) -> tuple[InferenceRequest, bool]:
    """The request, and whether its tensors came as bytes; what protobuf made of it does not last."""
    message = _parse(pb.ModelInferRequest(), raw)
    return request_from_proto(message), bool(message.raw_input_contents)


def _parse(message: Any, raw: bytes) -> Any:
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise unreadable() from None
    return message


_METHODS: dict[str, Method] = {
    "ServerLive": _live,
    "ServerReady": _ready,
    "ServerMetadata": _server,
    "ModelReady": _model_ready,
    "ModelMetadata": _model,
    "ModelInfer": _infer,
}


def _handler(name: str, method: Method, services: Services, callers: Callers) -> Any:
    async def handle(messages: AsyncIterator[bytes], context: Any) -> bytes:
        call, began, status = Call(services, callers, messages, context), time.monotonic(), "CANCELLED"
        try:
            call.count_address()
            answer = await method(call)
            status = "OK"
            return answer.SerializeToString()
        except Exception as error:  # noqa: BLE001 -- the edge: it becomes a status, of which the text is public
            problem = as_problem(error)
            status = _STATUSES.get(problem.status, "INTERNAL")
            if problem.sqlstate is not None:
                context.set_trailing_metadata((("sqlstate", problem.sqlstate),))
            detail = str(problem.document()["detail"])
            await context.abort(getattr(grpc.StatusCode, status), detail)
            raise AssertionError("abort raises") from None
        finally:
            say("grpc", name, status, call.role, time.monotonic() - began)

    # On the wire it is the same; a handler of one message would be called once that is there.
    return grpc.stream_unary_rpc_method_handler(handle)


@asynccontextmanager
async def serving_grpc(config: ApiConfig, services: Services) -> AsyncIterator[int | None]:
    """Serve for as long as the block runs, where the settings name a port; yields the port that it is."""
    if config.grpc_port is None:
        yield None
        return
    server = aio.server(options=_options(config), maximum_concurrent_rpcs=_most_calls(config))
    callers = Callers(services)
    handlers = {name: _handler(name, method, services, callers) for name, method in _METHODS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = _bind(server, config)
    await server.start()
    log.info("listening on %s port %d (gRPC)", config.listen_host, port)
    try:
        yield port
    finally:
        await server.stop(_GRACE)


def _most_calls(config: ApiConfig) -> int:
    """Those whose callers are known, and as many of whom nobody knows yet."""
    return 2 * config.inferences


def _options(config: ApiConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.largest_body),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _LARGEST_METADATA),
        ("grpc.max_concurrent_streams", _most_calls(config)),
        ("grpc.max_allowed_incoming_connections", config.client_connections),
        ("grpc.server_handshake_timeout_ms", round(config.head_timeout * 1000)),
        # As by REST: a connection on which nothing is under way makes room.
        ("grpc.max_connection_idle_ms", round(config.head_timeout * 1000)),
        ("grpc.max_connection_age_ms", _OLDEST * 1000),
        ("grpc.max_connection_age_grace_ms", round((config.body_timeout + config.statement_timeout) * 1000)),
        # What is not read yet of a stream takes this much memory, and no more.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _LARGEST_UNREAD),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.so_reuseport", 0),
    ]


def _bind(server: Any, config: ApiConfig) -> int:
    host = f"[{config.listen_host}]" if ":" in config.listen_host else config.listen_host
    address = f"{host}:{config.grpc_port}"
    try:
        if config.certificate is None or config.private_key is None:
            bound = server.add_insecure_port(address)
        else:
            pair = (config.private_key.read_bytes(), config.certificate.read_bytes())
            bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except (OSError, RuntimeError):
        bound = 0
    if not bound:
        raise invalid_value(f"cannot listen on {address} for gRPC, or not with this certificate")
    return int(bound)
