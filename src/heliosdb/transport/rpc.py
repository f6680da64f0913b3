"""gRPC as the product uses it: TLS 1.3 and nothing below.

What always holds: every module that needs grpc imports it from here. gRPC for Python cannot set a lowest TLS
version; it can set the cipher suites of TLS 1.2 and below (those of 1.3 are not affected). The suite set here
needs a pre-shared key, which no peer of ours has, so that a handshake below 1.3 finds no common suite and
fails.
"""

from __future__ import annotations

import os

# Set, not defaulted: an environment that allowed more would quietly undo the promise above.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-CHACHA20-POLY1305"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from grpc import aio

__all__ = ["CHANNEL_OPTIONS", "SERVER_OPTIONS", "SERVICE", "aio", "grpc", "path"]

SERVICE = "heliosdb.federation.v2.Node"
_MAX_MESSAGE = 2 * 1024 * 1024

_BOTH: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
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
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 32),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)


def path(method: str) -> str:
    """What gRPC calls a method of a node."""
    return f"/{SERVICE}/{method}"
