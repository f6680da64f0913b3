"""Asks a server again and again: a process of its own of `benchmarks.serving`, which reads a load and writes what came of it.

It imports little, so that it begins soon.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, again and again. body: bytes as hexadecimal; path: of REST a path, of gRPC a method."""

    name: str
    kind: str
    port: int
    path: str
    body: str
    token: str
    rows: int
    clients: int
    seconds: float


Client = Callable[[Load, float, float, list[float]], Awaitable[None]]


def main() -> None:
    """Read the load, ask, and write calls, predictions a second and milliseconds of p99."""
    print(json.dumps(_ask(Load(**json.loads(sys.stdin.read())))))


def _ask(load: Load) -> tuple[int, float, float]:
    """Ask for as long as the load says, after a tenth of it that does not count."""
    client: Client = _rest if load.kind == "rest" else _grpc
    times: list[float] = []
    spent = uvloop.run(_run(load, client, times))
    counted = sorted(one for one in times if one > 0)
    return len(times), len(counted) * load.rows / spent, counted[int(0.99 * (len(counted) - 1))] * 1e3


async def _run(load: Load, client: Client, times: list[float]) -> float:
    loop = asyncio.get_running_loop()
    begin = loop.time() + load.seconds / 10
    end = begin + load.seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.clients):
            tasks.create_task(client(load, begin, end, times))
    return loop.time() - begin


async def _rest(load: Load, begin: float, end: float, times: list[float]) -> None:
    body = bytes.fromhex(load.body)
    token = f"Authorization: Bearer {load.token}\r\n" if load.token else ""
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{token}Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port, limit=1 << 24)
    clock = asyncio.get_running_loop().time
    try:
        while (asked := clock()) < end:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer + await reader.read(2000)
            length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            # What does not count is told by its sign.
            times.append(clock() - asked if asked >= begin else -1.0)
    finally:
        writer.close()


async def _grpc(load: Load, begin: float, end: float, times: list[float]) -> None:
    from heliosdb.transport.rpc import aio

    body = bytes.fromhex(load.body)
    metadata = (("authorization", f"Bearer {load.token}"),) if load.token else ()
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    clock = asyncio.get_running_loop().time
    async with aio.insecure_channel(f"127.0.0.1:{load.port}", options) as channel:
        infer = channel.unary_unary(f"/inference.GRPCInferenceService/{load.path}")
        while (asked := clock()) < end:
            await infer(body, metadata=metadata)
            # What does not count is told by its sign.
            times.append(clock() - asked if asked >= begin else -1.0)


if __name__ == "__main__":
    main()
