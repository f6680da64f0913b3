"""gRPC as the product uses it: TLS 1.3 and nothing below.

What always holds: every module that needs grpc imports it from here. gRPC for Python cannot set a lowest TLS
version; it can set the cipher suites of TLS 1.2 and below (those of 1.3 are not affected). The suite set here
needs a pre-shared key, which no peer of ours has, so that a handshake below 1.3 finds no common suite and
fails.
"""

from __future__ import annotations

import os

from heliosdb.transport.limits import MAX_OFFERS

# Set, not defaulted: an environment that allowed more would quietly undo the promise above.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-CHACHA20-POLY1305"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# A proxy is used where a setting names one, and then it is: what the environment says of proxies counts for
# neither.
os.environ["no_grpc_proxy"] = ""  # noqa: SIM112 - its name

import grpc
from grpc import aio

__all__ = [
    "CHANNEL_OPTIONS",
    "KEEPALIVE",
    "OFFER",
    "OFFER_ACCEPTED",
    "RECEPTION",
    "RECEPTION_OPTIONS",
    "SERVER_OPTIONS",
    "SERVICE",
    "aio",
    "dialling_options",
    "grpc",
    "keepalive_options",
    "path",
]

SERVICE = "heliosdb.federation.v2.Node"
RECEPTION = "heliosdb.federation.v2.Reception"
OFFER = f"/{RECEPTION}/Offer"
OFFER_ACCEPTED = ("heliosdb-offer", "accepted")
"""Metadata by which the coordinator says so; a refusal comes with none."""

_MAX_MESSAGE = 2 * 1024 * 1024

_BOTH: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.max_metadata_size", 16 * 1024),
    # Signs of life go on where no call is under way: that is when a connection dies unnoticed.
    ("grpc.keepalive_permit_without_calls", 1),
    # A peer may be so far ahead of who reads a stream, and no further: left to itself gRPC widens this to as
    # much as the line can hold, which over a fast one is a whole update of every node at once.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
)

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH,
    # A proxy named in the environment must not come between us and the peer.
    ("grpc.enable_http_proxy", 0),
    # The coordinator decides about retries: it knows what a repeated task means.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # Two clients of one address with different pins must not share a connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_BOTH,
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_OFFERS),
    # The shortest keepalive_interval of a workspace is a second; who pings has shown a pinned certificate.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.server_handshake_timeout_ms", 10_000),
)

RECEPTION_OPTIONS: tuple[tuple[str, int], ...] = (
    *SERVER_OPTIONS,
    # A connection over which a node offers nothing is closed.
    ("grpc.max_connection_idle_ms", 60_000),
)

KEEPALIVE = 30
"""Seconds after which a silent connection is asked for a sign of life, unless a workspace says otherwise."""

_LONGEST_WAIT = 10


def keepalive_options(interval: int) -> tuple[tuple[str, int], ...]:
    """The options of a channel that asks after `interval` seconds of silence for a sign of life, waits for
    it as long again (at most 10 seconds), and then gives the connection up, with the calls on it."""
    wait = min(interval, _LONGEST_WAIT) * 1_000
    return (
        ("grpc.keepalive_time_ms", interval * 1_000),
        ("grpc.keepalive_timeout_ms", wait),
        # Without it gRPC goes by what a ping in general may take, which is a minute.
        ("grpc.http2.ping_timeout_ms", wait),
        # Left to itself gRPC sends two such pings, and no more until there is a call.
        ("grpc.http2.max_pings_without_data", 0),
    )


def dialling_options(proxy: str | None, keepalive: int) -> tuple[tuple[str, int | str], ...]:
    """Options of a node's channel to the coordinator. proxy: the HTTP proxy that is between, as a URL."""
    options = (*CHANNEL_OPTIONS, *keepalive_options(keepalive))
    if proxy is None:
        return options
    kept = tuple(option for option in options if option[0] != "grpc.enable_http_proxy")
    return (*kept, ("grpc.http_proxy", proxy))


def path(method: str) -> str:
    """What gRPC calls a method of a node."""
    return f"/{SERVICE}/{method}"
