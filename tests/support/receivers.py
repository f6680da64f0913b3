"""Whom alerts are delivered to: a web server over TLS and a mail server, in the test's own process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from heliosdb.transport.authority import Authority
from tests.support.ports import free_port

USER, PASSWORD = "coordinator", "a-mail-secret"


@dataclass(frozen=True)
class Posted:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HookServer:
    """A web server; answer: the bytes of the answer to the nth request, from 0."""

    port: int
    posted: list[Posted] = field(default_factory=list)
    answer: Callable[[int], bytes] = lambda _: b"HTTP/1.1 204 No Content\r\n\r\n"


def write_identity(directory: Path, authority: Authority, name: str, hosts: list[str]) -> tuple[Path, Path]:
    """Files of a certificate for these hosts, and of the authority's own."""
    identity = authority.issue(name, hosts)
    chain, bundle = directory / f"{name}-chain.pem", directory / f"{name}-authority.pem"
    chain.write_bytes(identity.certificate_pem + identity.private_key_pem)
    bundle.write_bytes(authority.certificate_pem)
    return chain, bundle


def server_context(chain: Path) -> ssl.SSLContext:
    """TLS as a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return context


@asynccontextmanager
async def hook_server(chain: Path) -> AsyncIterator[HookServer]:
    """Serve at 127.0.0.1."""
    server = HookServer(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name: value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["Content-Length"]))
            count = len(server.posted)
            server.posted.append(Posted(head[0], headers, body))
            writer.write(server.answer(count))
            await writer.drain()
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(chain))
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


@dataclass
class MailBox:
    """What a mail server took. refusals: what it answers to the next recipients instead."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or refuse it."""
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        content = cast("bytes", envelope.content)
        self.recipients.append(list(envelope.rcpt_tos))
        self.mails.append(cast("EmailMessage", message_from_bytes(content, policy=default)))
        return "250 OK"


@contextmanager
def mail_server(chain: Path | None, *, password: str | None = PASSWORD) -> Iterator[MailBox]:
    """Serve at 127.0.0.1: with a certificate only after STARTTLS, with a password only whoever gives it."""
    box = MailBox(free_port())

    def authenticate(*arguments: Any) -> AuthResult:
        given = arguments[-1]
        box.logins.append(given.password)
        is_right = (given.login, given.password) == (USER.encode(), str(password).encode())
        return AuthResult(success=is_right, handled=is_right)

    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        tls_context=None if chain is None else server_context(chain),
        require_starttls=chain is not None,
        authenticator=authenticate,
        auth_required=password is not None and chain is not None,
        auth_require_tls=chain is not None,
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
