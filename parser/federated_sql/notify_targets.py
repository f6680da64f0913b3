"""Where an alert may be sent: one mail address, one address https://…, or a channel of LISTEN.

What always holds: a target that was read is printable ASCII but for a channel's name, holds nothing that a
mail's or a request's header would take for its end, and names no user of a server; whether a host may be
called is the coordinator's to say, by the addresses that its name leads to.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from federated_sql.clause_values import MAX_NAME_BYTES
from federated_sql.errors import FederatedError, invalid_value

LONGEST_URL = 2_000
_LONGEST_MAIL = 254
_LONGEST_LOCAL_PART = 64
_LONGEST_HOST = 253

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_MAIL = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@([^@]+)")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_URL_TEXT = re.compile(r"[!-~]+")
_LOOKS_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")

_HINT = "Give a mail address, https://host/path, or pg:channel for LISTEN channel."

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class MailTarget:
    """A mail address."""

    address: str

    @property
    def shown(self) -> str:
        """As views, logs and audit entries may show it."""
        return self.address


@dataclass(frozen=True, slots=True)
class WebTarget:
    """An address https://host[:port]/path. host: in lower case, an IPv6 address without brackets; path: with
    its query, which often is a secret."""

    host: str
    port: int
    path: str

    @property
    def shown(self) -> str:
        """As views, logs and audit entries may show it: without path and query."""
        return f"https://{self.authority}" + ("/" if self.path == "/" else "/...")

    @property
    def authority(self) -> str:
        """Host and port as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    @property
    def literal(self) -> Address | None:
        """The host's address where it is one; None for a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class ChannelTarget:
    """A channel of NOTIFY in the coordinator's database."""

    channel: str

    @property
    def shown(self) -> str:
        """As it was written."""
        return f"pg:{self.channel}"


Target: TypeAlias = MailTarget | WebTarget | ChannelTarget


def read_target(text: str) -> Target:
    """Read what stands behind NOTIFY; FederatedError 22023 says which part of it is wrong."""
    if text.startswith("pg:"):
        return _channel(text.removeprefix("pg:"))
    if "://" in text:
        return _web(text)
    return _mail(text)


def _wrong(detail: str) -> FederatedError:
    return invalid_value("NOTIFY names no address that can be notified", detail=detail, hint=_HINT)


def _channel(name: str) -> ChannelTarget:
    size = len(name.encode(errors="replace"))
    if not name or size > MAX_NAME_BYTES:
        raise _wrong(f"The name of a channel has from 1 to {MAX_NAME_BYTES} bytes; this one has {size}.")
    if not name.isprintable() or any(character.isspace() for character in name):
        raise _wrong("The name of a channel has no spaces and no control characters.")
    return ChannelTarget(name)


def _mail(text: str) -> MailTarget:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise _wrong("A mail address is one address without spaces, line ends or control characters.")
    if text.count("@") > 1 or "," in text or ";" in text:
        raise _wrong("NOTIFY takes one mail address; a list of several belongs to the mail server.")
    found = _MAIL.fullmatch(text)
    if found is None or not text.isascii():
        raise _wrong("A mail address is name@domain, in ASCII and without quotes or comments.")
    local, domain = found.groups()
    if len(local) > _LONGEST_LOCAL_PART or len(text) > _LONGEST_MAIL:
        raise _wrong(
            f"A mail address has at most {_LONGEST_MAIL} characters, {_LONGEST_LOCAL_PART} before @."
        )
    if "." not in domain or not _is_host_name(domain):
        raise _wrong("Behind @ stands the name of a domain, such as example.com.")
    return MailTarget(text)


def _web(text: str) -> WebTarget:
    if not text.startswith("https://"):
        raise _wrong("A webhook is called by https:// alone.")
    if len(text) > LONGEST_URL or _URL_TEXT.fullmatch(text) is None or "\\" in text:
        raise _wrong(
            f"A webhook's address has at most {LONGEST_URL} printable ASCII characters, without spaces"
            " and backslashes."
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong("Its host or its port is none.") from None
    if "@" in parts.netloc:
        raise _wrong("A webhook's address holds no user and no password.")
    if "#" in text:
        raise _wrong("A webhook's address has no fragment (#).")
    if port == 0:
        raise _wrong("Its host or its port is none.")
    _check_host(host, bracketed=parts.netloc.startswith("["))
    query = f"?{parts.query}" if parts.query else ""
    return WebTarget(host, port or 443, (parts.path or "/") + query)


def _check_host(host: str, *, bracketed: bool) -> None:
    if bracketed:
        if "%" in host or not _is_address(host):
            raise _wrong("Between brackets stands an IPv6 address without a zone.")
        return
    numeric = _LOOKS_NUMERIC.fullmatch(host.rstrip(".").rsplit(".", 1)[-1]) is not None
    # inet_aton reads 127.1, 0x7f000001 and 2130706433 as 127.0.0.1.
    if numeric and not _is_address(host):
        raise _wrong("An IPv4 address is written as four decimal numbers.")
    if not numeric and not _is_host_name(host):
        raise _wrong("Its host is no name of a host.")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    name = text.removesuffix(".")
    return 0 < len(name) <= _LONGEST_HOST and all(map(_LABEL.fullmatch, name.split(".")))
