"""gRPC without a database: who is nobody holds nothing, and who is somebody not everything."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from heliosdb.api.app import create_app
from heliosdb.api.config import ApiConfig
from heliosdb.api.database import Database, Identity, Right
from heliosdb.api.identity import Claim, TokenClaim
from heliosdb.api.problems import missing, unauthenticated
from heliosdb.api.serving.admission import Admitted
from heliosdb.api.serving.grpc_door import SERVICE, serving_grpc
from heliosdb.api.serving.inference import Inference
from heliosdb.api.serving.tensors import InferenceAnswer, InferenceRequest
from heliosdb.api.tokens import digest_of
from heliosdb.transport import inference_pb2 as pb
from heliosdb.transport.rpc import aio, grpc

SETTINGS = {"database": "host=/nonexistent dbname=x", "grpc_port": 0, "inferences": 4}
DEADLINE = 60
NEVER = 3600


def token(digit: str) -> str:
    body = "hfl_" + digit * 64
    return body + hashlib.sha256(body.encode()).hexdigest()[:8]


ANN, BOB, FALSE = token("a"), token("b"), token("c")
ROLES = {digest_of(ANN): "ann", digest_of(BOB): "bob"}


class Confirming(Database):
    """Knows two tokens, until one is revoked."""

    revoked: str | None = None

    async def confirm(self, claim: Claim, right: Right) -> Identity:
        del right
        assert isinstance(claim, TokenClaim)
        if claim.digest not in ROLES or claim.digest == digest_of(self.revoked or ""):
            raise unauthenticated()
        return Identity(claim, ROLES[claim.digest])


class Answering(Inference):
    """Has a model m, of which every prediction is empty."""

    async def admit(self, claim: Claim, model: str, version: str | None) -> Admitted:
        identity = await self._database.confirm(claim, Right.PREDICT)
        if (model, version) != ("m", "7"):
            raise missing("model", model)
        return Admitted(identity, "m@7", "m", 7, UUID(int=7), 0.0)

    async def answer(self, admitted: Admitted, request: InferenceRequest) -> InferenceAnswer:
        assert [one.name for one in request.inputs] == ["x"]
        return InferenceAnswer(admitted.model, str(admitted.version), ())


class Client:
    """A connection of its own. A call by `stream` sends what it is given, one by one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.channel = aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )

    def infer(self, shown: str | None, sent: AsyncIterator[bytes]) -> Any:
        metadata = () if shown is None else (("authorization", f"Bearer {shown}"),)
        call = self.channel.stream_unary(f"/{SERVICE}/ModelInfer")
        return call(sent, timeout=DEADLINE, metadata=metadata)

    async def live(self) -> bytes:
        call = self.channel.unary_unary(f"/{SERVICE}/ServerLive")
        answer: bytes = await call(b"", timeout=DEADLINE, wait_for_ready=True)
        return answer


@asynccontextmanager
async def door(**changes: object) -> AsyncIterator[Client]:
    config = ApiConfig.model_validate(SETTINGS | changes)
    given = create_app(config).state.services
    database = Confirming(config)
    inference = Answering(config, database, given.identities)
    async with serving_grpc(config, replace(given, database=database, inference=inference)) as port:
        assert port is not None
        client = Client(port)
        async with client.channel:
            # From its first answer on a client knows how many streams there may be.
            await client.live()
            yield client


async def silence() -> AsyncIterator[bytes]:
    await asyncio.sleep(NEVER)
    yield b""


async def nothing() -> AsyncIterator[bytes]:
    for message in ():
        yield message


async def one(message: bytes) -> AsyncIterator[bytes]:
    yield message


async def status(call: Any) -> str:
    with suppress(grpc.RpcError):
        await call
    code: str = (await call.code()).name
    return code


def asked() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", model_version="7")
    tensor = request.inputs.add(name="x", datatype="FP64", shape=[1])
    tensor.contents.fp64_contents.append(1.0)
    return request


@pytest.mark.parametrize("shown", [None, FALSE])
async def test_no_message_is_waited_for_of_whom_nobody_has_confirmed(shown: str | None) -> None:
    async with door(body_timeout=NEVER) as client:
        calls = [client.infer(shown, silence()) for _ in range(6)]
        told = {await status(call) for call in calls}
        assert told <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
        assert "UNAUTHENTICATED" in told
        assert await client.live() == b"\x08\x01"


async def test_a_message_has_to_come_in_time() -> None:
    async with door(body_timeout=0.2) as client:
        silent = client.infer(ANN, silence())
        assert await status(silent) == "DEADLINE_EXCEEDED"
        assert await silent.details() == "The message did not arrive in time."


async def test_a_token_that_was_refused_is_confirmed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with door(body_timeout=NEVER) as client:
        assert await status(client.infer(ANN, one(asked().SerializeToString()))) == "OK"
        monkeypatch.setattr(Confirming, "revoked", ANN)
        assert await status(client.infer(ANN, one(asked().SerializeToString()))) == "UNAUTHENTICATED"
        assert await status(client.infer(ANN, silence())) == "UNAUTHENTICATED"


async def test_one_callers_silence_leaves_room_for_others() -> None:
    async with door(body_timeout=NEVER) as client:
        calls = [asyncio.ensure_future(status(client.infer(ANN, silence()))) for _ in range(3)]
        [refused], held = await asyncio.wait(calls, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result() == "RESOURCE_EXHAUSTED"
        assert len(held) == 2
        assert await status(client.infer(BOB, one(asked().SerializeToString()))) == "OK"
        assert await client.live() == b"\x08\x01"
        for call in held:
            call.cancel()


async def test_a_message_is_held_to_its_bounds_before_it_is_parsed() -> None:
    many = asked()
    for _ in range(20_000):
        many.inputs.add()
    elsewhere = asked()
    elsewhere.model_name = "n"
    cases = {
        many.SerializeToString(): ("INVALID_ARGUMENT", "at most 16384 fields"),
        b"\x0a\x01m\x12\x01": ("INVALID_ARGUMENT", "none of the protocol's"),
        elsewhere.SerializeToString(): ("NOT_FOUND", "does not exist"),
    }
    async with door() as client:
        for message, (code, text) in cases.items():
            call = client.infer(ANN, one(message))
            assert await status(call) == code
            assert text in await call.details()
        call = client.infer(ANN, one(b"\x0a\x01m" + b" " * (1 << 20)))
        assert await status(call) == "RESOURCE_EXHAUSTED"
        assert await status(client.infer(ANN, nothing())) == "INVALID_ARGUMENT"


async def test_an_idle_connection_makes_room() -> None:
    async with door(client_connections=1, head_timeout=0.5) as client:
        assert await client.live() == b"\x08\x01"
        another = Client(client.port)
        async with another.channel:
            assert await another.live() == b"\x08\x01"
