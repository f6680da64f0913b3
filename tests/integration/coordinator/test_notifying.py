"""How targets are told: calls over real TLS, mails through a real mail server, and what must not be called."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from federated_sql.notify_targets import WebTarget, read_target
from heliosdb.catalog.alerts import Firing
from heliosdb.coordinator import mail, notices
from heliosdb.coordinator.config import MailServer
from heliosdb.coordinator.webhooks import Call, Webhooks
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.authority import Authority
from tests.support.ports import free_port
from tests.support.receivers import (
    PASSWORD,
    USER,
    HookServer,
    MailBox,
    hook_server,
    mail_server,
    write_identity,
)

SECRET = b"a-webhook-secret-of-the-test"
CALL = Call("0001", b'{"id": "0001"}', 1_790_000_000.75)
FIRING = Firing(
    UUID(int=1), "alert", "clinics", "few", "active_nodes < 3", {"active_nodes": 2.0}, "pg:c", 0, 1_790_000_000.0, 1,
    1_790_000_000.0,
)  # fmt: skip
BREACH = replace(
    FIRING, kind="breach", name="node_refused", conditions="", observed={"node": "b", "reason": "x"}, events=3
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("test authority")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> tuple[Path, Path]:
    """A certificate for hooks.example and localhost, and its authority's."""
    return write_identity(tmp_path, authority, "receiver", ["hooks.example", "localhost"])


def target(server: HookServer, host: str = "hooks.example", path: str = "/in?token=t") -> WebTarget:
    found = read_target(f"https://{host}:{server.port}{path}")
    assert isinstance(found, WebTarget)
    return found


def leading_to(*addresses: str) -> Any:
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return list(addresses)

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


def webhooks(bundle: Path, *addresses: str, allowed: tuple[str, ...] = ("hooks.example",)) -> Webhooks:
    return Webhooks(SECRET, bundle, allowed, leading_to(*(addresses or ("127.0.0.1",))))


async def failure(hooks: Webhooks, to: WebTarget) -> FederatedError:
    with pytest.raises(FederatedError) as caught:
        await hooks.post(to, CALL)
    assert "token" not in caught.value.text
    return caught.value


async def test_a_call_is_posted_signed_and_has_its_key(files: tuple[Path, Path]) -> None:
    chain, bundle = files
    async with hook_server(chain) as server:
        await webhooks(bundle).post(target(server), CALL)

    [posted] = server.posted
    assert posted.line == "POST /in?token=t HTTP/1.1"
    assert posted.body == CALL.body
    assert posted.headers["Host"] == f"hooks.example:{server.port}"
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.headers["Idempotency-Key"] == "0001"
    stamp, _, digest = posted.headers["Heliosdb-Signature"].partition(",")
    assert stamp == "t=1790000000"
    expected = hmac.new(SECRET, b"1790000000." + posted.body, hashlib.sha256).hexdigest()
    assert digest == f"v1={expected}"


async def test_a_name_is_looked_up_once_and_what_was_looked_at_is_connected_to(
    files: tuple[Path, Path],
) -> None:
    chain, bundle = files
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebinding(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    async with hook_server(chain) as server:
        hooks = Webhooks(SECRET, bundle, ("hooks.example",), rebinding)
        await hooks.post(target(server), CALL)

    assert len(server.posted) == 1
    assert answers == [["10.0.0.1"]]


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("10.0.0.7",), ("169.254.169.254",), ("::1",), ("::ffff:127.0.0.1",), ("fe80::1%eth0",),
     ("93.184.216.34", "127.0.0.1")],
)  # fmt: skip
async def test_a_name_that_leads_into_a_network_is_not_called(
    files: tuple[Path, Path], addresses: tuple[str, ...]
) -> None:
    chain, bundle = files
    async with hook_server(chain) as server:
        error = await failure(webhooks(bundle, *addresses, allowed=("other.example",)), target(server))

    assert error.code is ErrorCode.PRIVILEGE
    assert "not public" in error.message
    assert server.posted == []


async def test_a_literal_address_is_looked_at_too(files: tuple[Path, Path]) -> None:
    async with hook_server(files[0]) as server:
        error = await failure(webhooks(files[1]), target(server, "127.0.0.1"))

    assert error.code is ErrorCode.PRIVILEGE
    assert server.posted == []


async def test_another_address_of_the_name_is_tried_where_one_does_not_answer(
    files: tuple[Path, Path],
) -> None:
    async with hook_server(files[0]) as server:
        await webhooks(files[1], "127.0.0.9", "127.0.0.1").post(target(server), CALL)

    assert len(server.posted) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\n\r\n", "it answered 302; redirections are not followed"),
        (b"HTTP/1.1 500 No\r\n\r\n", "it answered 500"),
        (b"HTTP/1.1 404\r\n\r\n", "it answered 404"),
        (b"SSH-2.0-x\r\n\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "its answer is not HTTP"),
        (b"", "it closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "its answer's head is too long"),
    ],
)  # fmt: skip
async def test_what_is_no_success_says_why(files: tuple[Path, Path], answer: bytes, told: str) -> None:
    async with hook_server(files[0]) as server:
        server.answer = lambda _: answer
        error = await failure(webhooks(files[1]), target(server))

    assert error.code is ErrorCode.UNREACHABLE
    assert error.message == told


async def test_an_announcement_before_the_answer_is_passed_over(files: tuple[Path, Path]) -> None:
    async with hook_server(files[0]) as server:
        server.answer = lambda _: b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\n\r\n"
        await webhooks(files[1]).post(target(server), CALL)


async def test_a_server_that_says_nothing_is_left_after_a_while(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliosdb.coordinator.webhooks.SECONDS", 0.2)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(0), "127.0.0.1", 0)
    async with silent:
        server = HookServer(silent.sockets[0].getsockname()[1])
        error = await failure(webhooks(files[1]), target(server))

    assert error.code is ErrorCode.TIMEOUT


async def test_only_the_names_own_certificate_of_a_known_authority_will_do(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    _, stranger = write_identity(
        tmp_path, Authority.create("another authority"), "stranger", ["hooks.example"]
    )
    async with hook_server(files[0]) as server:
        strange = await failure(webhooks(stranger), target(server))
        other = Webhooks(SECRET, files[1], ("other.example",), leading_to("127.0.0.1"))
        misnamed = await failure(other, target(server, "other.example"))

    assert (strange.code, misnamed.code) == (ErrorCode.IDENTITY, ErrorCode.IDENTITY)
    assert "certificate is not valid" in strange.message
    assert server.posted == []


async def test_nobody_listening_and_no_such_name_are_said() -> None:
    nobody = HookServer(free_port())
    refused = await failure(
        Webhooks(SECRET, None, ("hooks.example",), leading_to("127.0.0.1")), target(nobody)
    )
    unknown = await failure(Webhooks(SECRET), target(nobody, "does-not-exist.invalid"))

    assert refused.code is unknown.code is ErrorCode.UNREACHABLE
    assert unknown.message == "its host's name cannot be looked up"


@pytest.fixture
def box(files: tuple[Path, Path]) -> Iterator[MailBox]:
    with mail_server(files[0]) as made:
        yield made


def settings(box: MailBox, bundle: Path, **changed: Any) -> MailServer:
    given = {
        "host": "localhost", "port": box.port, "user": USER, "password": PASSWORD, "sender": "alerts@example.com",
        "ca_bundle": bundle,
    }  # fmt: skip
    return MailServer.model_validate(given | changed)


def a_mail(firing: Firing = FIRING) -> mail.Mail:
    text, subject = notices.to_text(firing), notices.to_subject(firing)
    return mail.Mail("privacy-team@example.com", subject, text, str(firing.firing_id), firing.fired_at)


def test_a_mail_is_handed_over_encrypted_and_after_a_login(box: MailBox, files: tuple[Path, Path]) -> None:
    mail.send(settings(box, files[1]), a_mail())

    [taken] = box.mails
    assert box.recipients == [["privacy-team@example.com"]]
    assert taken["Subject"] == "[heliosdb] alert few in workspace clinics"
    assert taken["From"] == "alerts@example.com"
    assert taken["Message-ID"] == f"<{UUID(int=1)}@example.com>"
    assert taken["Auto-Submitted"] == "auto-generated"
    assert "Condition: active_nodes < 3" in taken.get_content()
    assert "active_nodes: 2.0" in taken.get_content()
    assert PASSWORD not in taken.as_string()


def test_a_name_with_line_ends_makes_no_header(box: MailBox, files: tuple[Path, Path]) -> None:
    mail.send(settings(box, files[1]), a_mail(replace(FIRING, workspace="x\r\nBcc: evil@example.org")))

    [taken] = box.mails
    assert box.recipients == [["privacy-team@example.com"]]
    assert taken["Bcc"] is None
    assert taken["Subject"] == "[heliosdb] alert few in workspace x  Bcc: evil@example.org"


@pytest.mark.parametrize(
    ("refusal", "is_final"), [("550 no such mailbox", True), ("451 greylisted, try again", False)]
)
def test_a_refusal_is_final_or_not_by_its_code(
    box: MailBox, files: tuple[Path, Path], refusal: str, is_final: bool
) -> None:
    box.refusals.append(refusal)

    with pytest.raises(FederatedError) as caught:
        mail.send(settings(box, files[1]), a_mail())

    assert isinstance(caught.value, mail.FinalRefusalError) is is_final
    assert caught.value.message == f"the mail server refused the recipient: {refusal[:3]}"


def test_a_wrong_password_is_said_without_it(box: MailBox, files: tuple[Path, Path]) -> None:
    with pytest.raises(FederatedError, match="refuses user or password") as caught:
        mail.send(settings(box, files[1], password="another-secret"), a_mail())

    assert "another-secret" not in caught.value.text
    assert box.mails == []


def test_no_mail_and_no_password_goes_over_a_connection_that_is_not_encrypted(
    files: tuple[Path, Path],
) -> None:
    with mail_server(None) as plain, pytest.raises(FederatedError, match="offers no STARTTLS"):
        mail.send(settings(plain, files[1]), a_mail())

    assert (plain.mails, plain.logins) == ([], [])


def test_the_mail_servers_certificate_is_verified(box: MailBox, tmp_path: Path) -> None:
    _, stranger = write_identity(tmp_path, Authority.create("another authority"), "stranger", ["localhost"])

    with pytest.raises(FederatedError, match="certificate is not valid"):
        mail.send(settings(box, stranger), a_mail())

    assert box.mails == []


def test_a_mail_server_that_is_away_is_said() -> None:
    server = MailServer(host="localhost", port=free_port(), security="none", sender="alerts@example.com")

    with pytest.raises(FederatedError, match="no connection to the mail server"):
        mail.send(server, a_mail())


def test_the_clocks_of_a_breach_are_told() -> None:
    told = json.loads(notices.to_json(BREACH))
    text = notices.to_text(BREACH)

    assert told["fired_at"] == "2026-09-21T14:13:20+00:00"
    assert told["notify_authority_by"] == "2026-09-24T14:13:20+00:00"
    assert told["notify_people_by"] == "2026-11-20T14:13:20+00:00"
    assert (told["kind"], told["alert"], told["events"]) == ("breach", "node_refused", 3)
    assert "by 2026-09-24T14:13:20+00:00" in text


def test_what_is_told_fits_a_channel_whatever_the_conditions_are() -> None:
    long = replace(FIRING, conditions="x < 1 AND " * 2_000, workspace="ä" * 63)

    whole, cut = notices.to_json(replace(FIRING, workspace="ä" * 63)), notices.to_json(long)

    assert whole.isascii()
    assert json.loads(whole)["conditions"] == "active_nodes < 3"
    assert len(cut) < 8_000
    assert json.loads(cut)["truncated"] is True
