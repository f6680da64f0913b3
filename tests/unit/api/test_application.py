"""The application without a database: nobody gets anywhere, and whatever goes wrong is a problem document."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import APIRouter, Request

from heliosdb.api.app import PREFIX, create_app
from heliosdb.api.config import ApiConfig, RateLimit
from heliosdb.api.database import Database, Identity, Right
from heliosdb.api.guard import GuardedRoute, StreamRoute
from heliosdb.api.identity import Claim, TokenClaim, VouchedClaim
from heliosdb.api.tokens import digest_of
from tests.unit.api.test_tokens import TOKEN

SETTINGS = {"database": "host=/nonexistent dbname=x", "connection_timeout": 0.05}
PATHS = [
    ("GET", "/workspaces"), ("POST", "/workspaces"), ("GET", "/workspaces/w/models/m"), ("GET", "/openapi.json"),
    ("POST", "/workspaces/w/models/m/predict"), ("GET", "/runs/no-uuid/events"), ("GET", "/runs/no-uuid"),
]  # fmt: skip


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(ApiConfig.model_validate(SETTINGS))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as made:
        yield made


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_an_identity_every_path_answers_401(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}):
        answer = await client.request(method, PREFIX + path, headers=headers, content=b"{not json")
        assert answer.status_code == 401, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["sqlstate"] == "28000"


async def test_without_a_database_a_call_may_come_again_later(client: httpx.AsyncClient) -> None:
    answer = await client.get(PREFIX + "/workspaces", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_a_large_body_is_refused_before_the_database_is_asked(client: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await client.post(PREFIX + "/workspaces", headers=headers, content=b" " * ((1 << 20) + 1))
    assert answer.status_code == 413
    assert answer.json()["sqlstate"] == "54000"


async def test_nothing_of_a_body_is_read_for_a_token_that_nobody_has_confirmed(
    client: httpx.AsyncClient,
) -> None:
    read: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(20):
            read.append(number)
            yield b" " * (1 << 16)

    answer = await client.post(
        PREFIX + "/workspaces", headers={"Authorization": f"Bearer {TOKEN}"}, content=pieces()
    )
    assert (answer.status_code, read) == (503, [])


class Confirming(Database):
    """A database that knows every token, as a role by its digest, and serves nothing."""

    async def confirm(self, claim: Claim, right: Right) -> Identity:
        del right
        assert isinstance(claim, TokenClaim)
        return Identity(claim, "ann" if claim.digest == digest_of(TOKEN) else "bob")


async def test_one_callers_bodies_leave_room_for_those_of_others() -> None:
    config = ApiConfig.model_validate(SETTINGS | {"bodies": 2})
    app = create_app(config)
    app.state.services = replace(app.state.services, database=Confirming(config))
    began, go_on = asyncio.Event(), asyncio.Event()
    body = "hfl_" + "0" * 64
    other = body + hashlib.sha256(body.encode()).hexdigest()[:8]

    async def slow() -> AsyncIterator[bytes]:
        began.set()
        await go_on.wait()
        yield b"{}"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:

        async def post(token: str, content: bytes | AsyncIterator[bytes]) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return (await client.post(PREFIX + "/workspaces", headers=headers, content=content)).status_code

        first = asyncio.create_task(post(TOKEN, slow()))
        await began.wait()
        assert await post(TOKEN, b"{}") == 429
        # It gets as far as the connection that there is none of.
        assert await post(other, b"{}") == 503
        go_on.set()
        assert await first == 503
        assert await post(TOKEN, b"{}") == 503


async def test_what_is_not_there_is_a_problem_document_too(client: httpx.AsyncClient) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/assets/..%2f..%2fapp.py", 404),
        ("DELETE", PREFIX + "/workspaces", 405),
    ):
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_every_answer_carries_the_headers_that_browsers_obey(client: httpx.AsyncClient) -> None:
    answer = await client.get(PREFIX + "/workspaces")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


async def test_who_calls_too_often_is_told_when_to_come_again() -> None:
    rate = RateLimit(per_second=0.01, burst=2)
    for field in ("address_rate", "identity_rate"):
        app = create_app(ApiConfig.model_validate(SETTINGS | {field: rate}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            statuses = [
                (await client.get(PREFIX + "/workspaces", headers=headers)).status_code for _ in range(3)
            ]
            assert statuses == [503, 503, 429]


async def test_the_log_names_no_token_body_or_object(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "heliosdb")
    await client.post(
        PREFIX + "/workspaces/hidden-name/models/m/predict?q=hidden-query",
        headers={"Authorization": f"Bearer {TOKEN}"},
        content=b'{"features": {"hidden-feature": 1}}',
    )
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("heliosdb.api")]
    assert any("POST" in line and "503" in line for line in lines)
    assert not any("hidden" in line or TOKEN[:20] in line for line in lines)


@pytest.mark.parametrize("kind", [GuardedRoute, StreamRoute])
def test_a_path_that_says_no_right_cannot_be_built(kind: type[GuardedRoute]) -> None:
    router = APIRouter(route_class=kind)
    with pytest.raises(TypeError, match="right"):
        router.get("/open")(lambda: None)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/models/m"), ("GET", "/models/m/ready"), ("POST", "/models/m/infer")],
)
async def test_the_inference_protocol_is_not_for_another_sites_page(method: str, path: str) -> None:
    """What a browser shows by itself is no consent; a token is one."""
    app = create_app(ApiConfig.model_validate(SETTINGS), more_ways=[Shown()])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        for headers, status in (
            ({"Origin": "https://evil.example"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            # It gets as far as the database that there is none of.
            ({"Origin": "http://api", "Sec-Fetch-Site": "same-origin"}, 503),
            ({}, 503),
            ({"Origin": "https://other.example", "Authorization": f"Bearer {TOKEN}"}, 503),
        ):
            answer = await client.request(method, "/v2" + path, headers=headers)
            assert answer.status_code == status, headers


class Shown:
    """A way by which everybody is somebody, as with a certificate that a browser has."""

    async def identify(self, request: Request) -> Claim | None:
        del request
        return VouchedClaim("ann", "CN=ann")
