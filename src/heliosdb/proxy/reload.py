"""Settings that change while the proxy runs.

What always holds: everything that can fail is done before anything is changed; what a running proxy cannot
change keeps its value and is named.
"""

from __future__ import annotations

import resource
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from federated_sql.errors import invalid_value
from heliosdb.proxy.config import FIXED, ProxyConfig, require_regular
from heliosdb.proxy.subjects import Seal, load_seal

BACKLOG = 1024
SPARE_FILES = 64  # listeners, pipes, libraries


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration with what is made from it."""

    config: ProxyConfig
    tls: ssl.SSLContext | None
    room: int  # clients that may be connected, whether or not they have a session
    seals: Mapping[Path, Seal]  # by the file of a coordinator's key, how subjects are named to it


def prepare(config: ProxyConfig) -> Settings:
    """Make what the configuration asks for. Raises FederatedError where it cannot be had."""
    tls = tls_context(config)
    files = {server.subject_key for server in (config.default_upstream, *config.routes.values())} - {None}
    seals = {path: load_seal(path) for path in files if path is not None}
    return Settings(config, tls, make_room(config), seals)


def changed_in_vain(old: ProxyConfig, new: ProxyConfig) -> list[str]:
    """Return the names of settings that differ and need a restart."""
    return [
        name
        for name in ProxyConfig.model_fields
        if name in FIXED and getattr(old, name) != getattr(new, name)
    ]


def keep_fixed(old: ProxyConfig, new: ProxyConfig) -> ProxyConfig:
    """Return the new settings with the old values of those that need a restart."""
    return new.model_copy(update={name: getattr(old, name) for name in FIXED})


def tls_context(config: ProxyConfig) -> ssl.SSLContext | None:
    """Load the certificate. Raises FederatedError where it cannot be used."""
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["postgresql"])
    try:
        require_regular(config.tls_certificate)
        require_regular(config.tls_key)
        # A key with a passphrase would make OpenSSL ask at a terminal, and the proxy wait for it.
        context.load_cert_chain(config.tls_certificate, config.tls_key, password=_refuse_passphrase)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise invalid_value("the proxy's TLS certificate or key cannot be used", detail=str(error)) from error
    return context


def _refuse_passphrase() -> str:
    raise ssl.SSLError("the key is protected by a passphrase")


def make_room(config: ProxyConfig) -> int:
    """Raise this process's limit of open files; return how many clients may be connected.

    A session is two sockets. As many clients again may be greeting or cancelling, and more where the files
    allow it: they are refused in their turn, in the way that every client understands. Those beyond are told
    at once and closed; one turn of the event loop may accept a whole queue of them.
    Raises FederatedError where even the sessions would not fit.
    """
    needed = 3 * config.most_sessions + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    if ceiling < needed:
        raise invalid_value(
            f"max_connections = {config.max_connections} and reserved_connections = "
            f"{config.reserved_connections} need {needed} open files; the limit is {hard}",
            hint="Raise the limit (ulimit -Hn, LimitNOFILE= in the unit) or lower max_connections.",
        )
    wanted = min(ceiling, needed + 2 * BACKLOG)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return 2 * config.most_sessions + max(0, wanted - needed - BACKLOG)
