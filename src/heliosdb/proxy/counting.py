"""What the proxy's metrics are made of: statements as they are rewritten, and its totals at a scrape.

What always holds: of a statement only its kind is counted, of an error only the class of its SQLSTATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heliosdb.observing import observed, table
from heliosdb.observing.metric import Sample, Source
from heliosdb.proxy.rewriting import Rewrite
from heliosdb.proxy.wire import HEADER, ProtocolError, parse_fields

if TYPE_CHECKING:
    from heliosdb.proxy.server import Proxy


def count_rewrite(rewrite: Rewrite) -> None:
    """Count the statements of a text that goes to the server changed."""
    if not observed.is_on():
        return
    for index, tag in enumerate(rewrite.tags):
        if tag is not None:
            observed.statement_rewritten("federated")
        elif rewrite.predicts(index):
            observed.statement_rewritten("predict")


def count_error(message: bytes) -> None:
    """Count what the server answered a rewritten statement with: an ErrorResponse."""
    if not observed.is_on():
        return
    try:
        code = dict(parse_fields(message[HEADER:])).get(b"C", b"")
    except ProtocolError:
        return
    if len(code) == 5 and code.isalnum():
        observed.statement_failed(code[:2].decode("ascii"))


def proxy_source(proxy: Proxy) -> Source:
    """Read the proxy's totals, with those of the connections that are open."""

    async def read() -> Sequence[Sample]:
        totals, relays = proxy.totals, tuple(proxy.relays)
        rewriter = proxy.rewriter
        return [
            Sample(table.READY, ("proxy",), float(proxy.state == "serving")),
            Sample(table.CONNECTIONS, (), proxy.connections),
            Sample(table.SESSIONS_OPEN, (), sum(map(proxy.is_session, relays))),
            Sample(table.SESSIONS_MOST, (), proxy.config.max_connections),
            Sample(table.SESSIONS, (), totals.sessions),
            Sample(table.CONNECTION_ERRORS, ("refused",), totals.refused),
            Sample(table.CONNECTION_ERRORS, ("unreachable",), totals.unreachable),
            Sample(table.CANCELS, (), totals.cancels),
            Sample(table.REQUESTS, (), totals.requests + sum(each.answered for each in relays)),
            Sample(table.PROXY_RECEIVED, (), totals.received + sum(each.received for each in relays)),
            Sample(table.PROXY_SENT, (), totals.sent + sum(each.sent for each in relays)),
            Sample(table.CACHE_HITS, (), rewriter.hits),
            Sample(table.CACHE_MISSES, (), rewriter.misses),
        ]

    return read
