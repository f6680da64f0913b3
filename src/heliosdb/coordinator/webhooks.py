"""Calls of webhooks: one signed POST over TLS to an address that was looked at before.

What always holds: a host's name is looked up once, and what is connected to is one of the addresses that were
looked at; all of them must be public, unless the settings allow the host. The certificate is verified for the
name. A redirection is not followed, and no more than the head of an answer is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from federated_sql.notify_targets import Address, WebTarget
from heliosdb.domain.addresses import is_public
from heliosdb.domain.errors import ErrorCode, FederatedError

LONGEST_HEAD = 16 * 1024
SECONDS = 15.0
"""For all of a call: looking up, connecting, the handshake, the question and the answer's head."""
_MOST_HEADS = 4

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) → its addresses, as texts."""


async def look_up(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@dataclass(frozen=True, slots=True)
class Call:
    """What is posted. key: the Idempotency-Key, the same however often it is tried; at: when, in seconds
    since the epoch."""

    key: str
    body: bytes
    at: float


def sign(secret: bytes, at: float, body: bytes) -> str:
    """The header Heliosdb-Signature: the time in seconds; the HMAC-SHA256 over it, a point and the body."""
    seconds = int(at)
    digest = hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class Webhooks:
    """Makes calls. secret: signs them; allowed_hosts: those that may be called at private addresses."""

    def __init__(
        self,
        secret: bytes,
        ca_bundle: Path | None = None,
        allowed_hosts: Collection[str] = (),
        resolve: Resolve = look_up,
    ) -> None:
        self._secret = secret
        self._ca_bundle = ca_bundle
        self._allowed = frozenset(allowed_hosts)
        self._resolve = resolve

    async def post(self, target: WebTarget, call: Call) -> None:
        """Call once; FederatedError UNREACHABLE, IDENTITY, PRIVILEGE or TIMEOUT says why it was not taken,
        and names neither path nor query."""
        try:
            async with asyncio.timeout(SECONDS):
                await self._post(target, call)
        except TimeoutError:
            raise FederatedError(ErrorCode.TIMEOUT, f"no answer within {SECONDS:g} seconds") from None
        except ssl.SSLCertVerificationError as error:
            message = f"its certificate is not valid: {error.verify_message}"
            raise FederatedError(ErrorCode.IDENTITY, message) from None
        except ssl.SSLError:
            raise FederatedError(ErrorCode.IDENTITY, "the TLS handshake failed") from None
        except socket.gaierror:
            raise FederatedError(ErrorCode.UNREACHABLE, "its host's name cannot be looked up") from None
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise FederatedError(ErrorCode.UNREACHABLE, _reason(error)) from None

    async def _post(self, target: WebTarget, call: Call) -> None:
        reader, writer = await self._connect(target, await self._choose(target))
        try:
            writer.write(self._request(target, call))
            await writer.drain()
            status = await _read_status(reader)
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                await writer.wait_closed()
        if not 200 <= status < 300:
            told = "; redirections are not followed" if 300 <= status < 400 else ""
            raise FederatedError(ErrorCode.UNREACHABLE, f"it answered {status}{told}")

    async def _connect(
        self, target: WebTarget, addresses: Sequence[Address]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers; the certificate has to be the name's."""
        context = ssl.create_default_context(cafile=None if self._ca_bundle is None else str(self._ca_bundle))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        *before, last = addresses
        name = target.host.rstrip(".")
        for address in before:
            with suppress(ConnectionError, TimeoutError):
                return await asyncio.open_connection(
                    str(address), target.port, ssl=context, server_hostname=name, limit=LONGEST_HEAD
                )
        return await asyncio.open_connection(
            str(last), target.port, ssl=context, server_hostname=name, limit=LONGEST_HEAD
        )

    async def _choose(self, target: WebTarget) -> list[Address]:
        literal = target.literal
        found = [str(literal)] if literal is not None else await self._resolve(target.host, target.port)
        addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in found]
        if not addresses:
            raise FederatedError(ErrorCode.UNREACHABLE, "its host has no address")
        if target.host not in self._allowed and not all(map(is_public, addresses)):
            raise FederatedError(
                ErrorCode.PRIVILEGE,
                "its host has an address that is not public (setting alerts.allowed_hosts)",
            )
        return addresses

    def _request(self, target: WebTarget, call: Call) -> bytes:
        head = (
            f"POST {target.path} HTTP/1.1",
            f"Host: {target.authority}",
            "User-Agent: heliosdb",
            "Content-Type: application/json",
            f"Content-Length: {len(call.body)}",
            f"Idempotency-Key: {call.key}",
            f"Heliosdb-Signature: {sign(self._secret, call.at, call.body)}",
            "Connection: close",
        )
        return "\r\n".join((*head, "", "")).encode("ascii") + call.body


async def _read_status(reader: asyncio.StreamReader) -> int:
    """Return the status of the answer, past those that only announce it."""
    for _ in range(_MOST_HEADS):
        head = await reader.readuntil(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            break
        status = int(found[1])
        if status >= 200:
            return status
    raise FederatedError(ErrorCode.UNREACHABLE, "its answer is not HTTP")


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "it closed the connection without an answer"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection to it: {error.strerror}"
    return (
        "its answer's head is too long"
        if isinstance(error, asyncio.LimitOverrunError)
        else "no connection to it"
    )
