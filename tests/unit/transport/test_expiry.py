"""Certificates that end soon are warned of, each once a day."""

from __future__ import annotations

import datetime as dt
import logging

import pytest

from heliosdb.transport.authority import Authority
from heliosdb.transport.expiry import SOON, ExpiryWarnings, ends_soon
from heliosdb.transport.identity import expires

DAY = 86_400.0
AUTHORITY = Authority.create("authority")
NODE = AUTHORITY.issue("node", ["localhost"], days=365).certificate_pem
END = expires(NODE).timestamp()


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def test_a_certificate_is_said_to_end_from_thirty_days_before_on() -> None:
    day = f"{expires(NODE):%Y-%m-%d}"
    assert ends_soon(NODE, END - SOON.total_seconds() - 1) is None
    assert ends_soon(NODE, END - SOON.total_seconds()) == f"expires in 30 days, on {day}: renew it"
    assert ends_soon(NODE, END - 1) == f"expires in 0 days, on {day}: renew it"
    assert ends_soon(NODE, END) == f"expired on {day}"


def test_each_is_warned_of_once_a_day_and_a_renewed_one_no_more(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(END - 10 * DAY)
    other = AUTHORITY.issue("other", ["localhost"], days=400).certificate_pem
    warnings = ExpiryWarnings(clock)

    def said(*certificates: tuple[str, bytes]) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            warnings.look(certificates)
        return [record.getMessage() for record in caplog.records]

    day = f"{dt.datetime.fromtimestamp(END, dt.UTC):%Y-%m-%d}"
    assert said(("node a", NODE), ("node b", other)) == [
        f"the certificate of node a expires in 10 days, on {day}: renew it"
    ]
    clock.now += DAY - 1
    assert said(("node a", NODE)) == []
    clock.now += 2
    assert said(("node a", NODE)) == [f"the certificate of node a expires in 8 days, on {day}: renew it"]
    assert said(("node a", other)) == []
    assert said(("node c", NODE)) == [f"the certificate of node c expires in 8 days, on {day}: renew it"]
