"""Sessions without a database: when they end, and what opens none."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request, Response

from heliosdb.api.config import ApiConfig
from heliosdb.api.identity import SessionClaim, TokenClaim, VouchedClaim
from heliosdb.api.problems import Problem
from heliosdb.api.sessions import Session, Sessions

SETTINGS: dict[str, Any] = {"database": "dbname=x"}
SHOWN = TokenClaim(b"\x01" * 32)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(ApiConfig.model_validate(SETTINGS), clock)


def cookie_of(sessions: Sessions, session: Session) -> str:
    response = Response()
    sessions.give(response, session)
    return response.headers["set-cookie"].partition(";")[0]


def request(cookie: str, method: str = "GET", *headers: tuple[str, str]) -> Request:
    pairs = [("cookie", cookie), *headers]
    return Request(
        {
            "type": "http",
            "method": method,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        }
    )


async def test_a_session_stands_for_what_it_began_with_and_has_none_of_it(sessions: Sessions) -> None:
    session = sessions.begin(SHOWN)
    cookie = cookie_of(sessions, session)
    claim = await sessions.identify(request(cookie))
    assert isinstance(claim, SessionClaim)
    assert (claim.shown, claim.holds(), claim.key) == (SHOWN, True, SHOWN.key)
    assert SHOWN.digest.hex() not in cookie
    assert sessions.begin(SHOWN).key != session.key


async def test_it_ends_when_it_is_idle_or_old_and_a_call_renews_it(sessions: Sessions, clock: Clock) -> None:
    cookie = cookie_of(sessions, sessions.begin(SHOWN))
    claim = await sessions.identify(request(cookie))
    assert claim is not None
    clock.now += 1799
    assert claim.holds()
    used = request(cookie)
    await sessions.identify(used)
    response = Response()
    sessions.renew(used, response)
    renewed = response.headers["set-cookie"].partition(";")[0]
    clock.now += 2
    assert not claim.holds()
    with pytest.raises(Problem):
        await sessions.identify(request(cookie))
    assert await sessions.identify(request(renewed)) is not None
    old = sessions.begin(SHOWN)
    for _ in range(16):
        clock.now += 1799
        old = Session(old.key, old.shown, old.expires, clock.now)
    assert await sessions.identify(request(cookie_of(sessions, old))) is not None
    clock.now = old.expires
    with pytest.raises(Problem):
        await sessions.identify(request(cookie_of(sessions, Session(old.key, SHOWN, old.expires, clock.now))))


async def test_who_is_vouched_for_has_a_session_no_longer_than_that(sessions: Sessions, clock: Clock) -> None:
    session = sessions.begin(VouchedClaim("ann", "https://idp.example.com ann", clock.now + 60))
    assert session.expires == clock.now + 60
    with pytest.raises(Problem, match="too long"):
        sessions.give(Response(), sessions.begin(VouchedClaim("ann", "x" * 4000)))


async def test_a_kept_cookie_opens_nothing_after_logging_out(sessions: Sessions, clock: Clock) -> None:
    session = sessions.begin(SHOWN)
    cookie = cookie_of(sessions, session)
    claim = await sessions.identify(request(cookie))
    sessions.end(session)
    assert claim is not None
    assert not claim.holds()
    with pytest.raises(Problem):
        await sessions.identify(request(cookie))
    # What the process remembers of it is gone once no cookie of it could still open something.
    clock.now += 1801
    sessions.end(sessions.begin(SHOWN))
    assert len(sessions._ended) == 1


async def test_what_was_changed_or_is_of_another_process_or_given_twice_opens_nothing(
    sessions: Sessions,
) -> None:
    cookie = cookie_of(sessions, sessions.begin(SHOWN))
    other = cookie_of(Sessions(ApiConfig.model_validate(SETTINGS)), sessions.begin(SHOWN))
    changed = [
        cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :] for place in (9, 40, -6)
    ]
    for bad in (
        *changed,
        other,
        f"{cookie}; {cookie}",
        f"{other}; {cookie}",
        "heliosdb=",
        "heliosdb=ä",
        "heliosdb=AAAA",
    ):
        with pytest.raises(Problem) as caught:
            await sessions.identify(request(bad))
        assert caught.value.status == 401
    assert await sessions.identify(request("other=1")) is None
    assert await sessions.identify(request(cookie, "GET", ("authorization", "Bearer x"))) is None


@pytest.mark.parametrize("headers", [(), (("x-csrf-token", ""),), (("x-csrf-token", "ä"),), "other", "twice"])
async def test_a_cookie_alone_changes_nothing(sessions: Sessions, headers: Any) -> None:
    session = sessions.begin(SHOWN)
    right = ("x-csrf-token", sessions.csrf(session))
    if headers == "other":
        headers = (("x-csrf-token", sessions.csrf(sessions.begin(SHOWN))),)
    elif headers == "twice":
        headers = (right, right)
    cookie = cookie_of(sessions, session)
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        with pytest.raises(Problem) as caught:
            await sessions.identify(request(cookie, method, *headers))
        assert caught.value.status == 403
    assert await sessions.identify(request(cookie, "POST", right)) is not None


def test_the_cookie_is_for_this_server_alone(clock: Clock) -> None:
    for changes, name, secure in (
        ({}, "heliosdb=", False),
        ({"origin": "https://fl.example.com"}, "__Host-heliosdb=", True),
    ):
        sessions = Sessions(ApiConfig.model_validate(SETTINGS | changes), clock)
        response = Response()
        sessions.give(response, sessions.begin(SHOWN))
        header = response.headers["set-cookie"]
        assert header.startswith(name)
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(header.split("; "))
        assert ("Secure" in header.split("; ")) is secure
        assert "Domain" not in header
