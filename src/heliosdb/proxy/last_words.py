"""The errors with which the proxy itself ends a connection, and the SQLSTATE that tells clients what to do.

What always holds: who has no session yet and may find one elsewhere or later hears 57P03, as of a server that
starts or stops: libpq tries its next host and `pg_isready` says "rejecting connections". Any other SQLSTATE
would tell them that the server is well.
"""

from __future__ import annotations

from heliosdb.proxy.wire import build_error

CANNOT_CONNECT_NOW = "57P03"

TOO_MANY = build_error("53300", "sorry, too many clients already")
TURNED_AWAY = build_error(CANNOT_CONNECT_NOW, "the proxy is stopping")
NEVER_THERE = build_error(CANNOT_CONNECT_NOW, "the server closed the connection before the session began")
STOPPING = build_error("57P01", "terminating connection because the proxy is stopping")
GONE = build_error("08006", "the server closed the connection unexpectedly")
NOT_ALLOWED = build_error(
    "28000",
    "the proxy's own database is only for the operating-system user that runs the proxy and for root",
)


def unreachable(database: str) -> bytes:
    """What a client hears whose server cannot be connected to."""
    return build_error(CANNOT_CONNECT_NOW, f'could not connect to the server of database "{database}"')
