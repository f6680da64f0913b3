"""Warns of certificates that end soon: in the log, once a day for each.

What always holds: a certificate is warned of from `SOON` before its end on, and one that has ended too; what
is said names whose it is and the day, and nothing of its content.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable

from heliosdb.domain.clock import Clock
from heliosdb.domain.wording import counted
from heliosdb.transport.identity import expires, fingerprint

log = logging.getLogger(__name__)

SOON = dt.timedelta(days=30)
"""So long before its end a certificate is warned of."""

_DAY = 86_400.0


class ExpiryWarnings:
    """Remembers what was warned of, and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._warned: dict[tuple[str, str], float] = {}

    def look(self, certificates: Iterable[tuple[str, bytes]]) -> None:
        """Warn of those that end soon and were not warned of today: whose each is, in words, and the PEM."""
        now = self._clock.time()
        said = {key: at for key, at in self._warned.items() if now < at + _DAY}
        for whose, pem in certificates:
            words, key = ends_soon(pem, now), (whose, fingerprint(pem))
            if words is not None and key not in said:
                log.warning("the certificate of %s %s", whose, words)
                said[key] = now
        self._warned = said


def ends_soon(certificate: bytes, now: float) -> str | None:
    """Say in words when a certificate (PEM) ends; None where that is far away. now: seconds since the
    epoch."""
    end = expires(certificate)
    left = end - dt.datetime.fromtimestamp(now, dt.UTC)
    if left > SOON:
        return None
    if left <= dt.timedelta(0):
        return f"expired on {end:%Y-%m-%d}"
    return f"expires in {counted(left.days, 'day')}, on {end:%Y-%m-%d}: renew it"
