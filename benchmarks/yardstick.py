"""What a bare exchange of the same bytes costs: gRPC, the product's TLS and options, and nothing of the product.

As many servers as there are nodes, with the nodes' certificates, in as many processes; one process asks them all, with
the coordinator's certificate, under the loop and with as many calls at once as a coordinator has. Messages are as
large as the product's; servers read what they are asked to the end, then answer, and nothing is computed from either.
Seconds are the median of several exchanges behind one that connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import processes
from heliosdb.transport.identity import Identity
from heliosdb.transport.limits import CHUNK_BYTES
from heliosdb.transport.rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, aio, grpc
from heliosdb.transport.streams import cut

_METHOD = "/benchmark.Yardstick/Exchange"
_AT_ONCE = 128
_FEWEST, _MOST, _SECONDS = 3, 21, 10.0
"""Exchanges that are measured, and for how long they go on beyond the fewest."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Bytes to each node and from it."""

    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Servers that run. directory: of the certificates. ports: of the nodes, in their order."""

    directory: Path
    names: tuple[str, ...]
    ports: tuple[int, ...]

    def seconds(self, nodes: int, exchanges: Sequence[Exchange]) -> float:
        """What it takes to have these exchanges with the first so many nodes, one behind the other."""
        asked = {
            "directory": str(self.directory),
            "nodes": list(zip(self.names, self.ports, strict=True))[:nodes],
            "exchanges": [asdict(one) for one in exchanges],
        }
        path = self.directory / "yardstick.json"
        path.write_text(json.dumps(asked))
        client = processes.start("benchmarks.yardstick", "ask", str(path), stdout=subprocess.PIPE)
        with processes.ended([client]):
            said, _ = client.communicate()
        return float(json.loads(said))


@contextlib.contextmanager
def yardstick(directory: Path, names: Sequence[str], count: int) -> Iterator[Yardstick]:
    """A server with each name's certificate, in `count` processes."""
    parts = [list(names[part::count]) for part in range(min(count, len(names)))]
    servers = []
    for number, part in enumerate(parts):
        path = directory / f"yardstick-{number}.json"
        path.write_text(json.dumps({"directory": str(directory), "names": part}))
        servers.append(processes.start("benchmarks.yardstick", "serve", str(path), stdout=subprocess.PIPE))
    with processes.ended(servers):
        ports = {}
        for part, server in zip(parts, servers, strict=True):
            assert server.stdout is not None
            ports.update(zip(part, json.loads(server.stdout.readline()), strict=True))
        yield Yardstick(directory, tuple(names), tuple(ports[name] for name in names))


def _identity(directory: Path, name: str) -> Identity:
    return Identity.load(directory / f"{name}.pem", directory / f"{name}.key")


async def _serve(directory: Path, names: Sequence[str]) -> None:
    pinned = (directory / "coordinator.pem").read_bytes()
    servers, ports = [], []
    for name in names:
        shown = _identity(directory, name)
        credentials = grpc.ssl_server_credentials(
            [(shown.private_key_pem, shown.certificate_pem)], pinned, require_client_auth=True
        )
        server = aio.server(options=SERVER_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(_answer)
        service, method = _METHOD[1:].split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        ports.append(server.add_secure_port("127.0.0.1:0", credentials))
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


_answers: dict[int, list[bytes]] = {}


async def _answer(messages: AsyncIterator[bytes], context: Any) -> AsyncGenerator[bytes]:
    """Read all, and answer with as many bytes as the call's metadata says."""
    size = int(dict(context.invocation_metadata())["bytes"])
    async for _ in messages:
        pass
    for chunk in _payload(size):
        yield chunk


def _payload(size: int) -> list[bytes]:
    if size not in _answers:
        _answers.clear()
        _answers[size] = list(cut(os.urandom(size)))
    return _answers[size]


async def _ask(directory: Path, nodes: Sequence[tuple[str, int]], exchanges: Sequence[Exchange]) -> float:
    shown = _identity(directory, "coordinator")
    channels = [
        aio.secure_channel(
            f"localhost:{port}",
            grpc.ssl_channel_credentials(
                (directory / f"{name}.pem").read_bytes(), shown.private_key_pem, shown.certificate_pem
            ),
            options=CHANNEL_OPTIONS,
        )
        for name, port in nodes
    ]
    calls = [channel.stream_stream(_METHOD, None, None) for channel in channels]
    await _exchange(calls, Exchange(1, 1))
    times: list[float] = []
    until = time.perf_counter() + _SECONDS
    while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() < until):
        began = time.perf_counter()
        for one in exchanges:
            await _exchange(calls, one)
        times.append(time.perf_counter() - began)
    for channel in channels:
        await channel.close()
    return statistics.median(times)


async def _exchange(calls: Sequence[Any], exchange: Exchange) -> None:
    body, slots = os.urandom(exchange.sent), asyncio.Semaphore(_AT_ONCE)
    metadata = (("bytes", str(exchange.received)),)

    async def ask(call: Any) -> None:
        async with slots:
            received = 0
            async for chunk in call(_chunks(body), metadata=metadata):
                received += len(chunk)
            assert received == exchange.received

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(ask(call))


async def _chunks(body: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


def main() -> None:
    """Serve, or ask, as a file says."""
    what, path = sys.argv[1:]
    told = json.loads(Path(path).read_text())
    directory = Path(told["directory"])
    if what == "serve":
        asyncio.run(_serve(directory, told["names"]))
        return
    exchanges = [Exchange(**one) for one in told["exchanges"]]
    print(json.dumps(uvloop.run(_ask(directory, told["nodes"], exchanges))))


if __name__ == "__main__":
    main()
