"""Whom an alert may notify, and what a condition may be about."""

from __future__ import annotations

import pytest

from federated_sql.alert_metrics import METRICS, check_metric
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.notify_targets import ChannelTarget, MailTarget, WebTarget, read_target


@pytest.mark.parametrize(
    "text",
    [
        "a@example.com",
        "privacy-team@example.com",
        "first.last+tag@mail.example.co",
        "a@1.example",
        "a@" + "b." * 20 + "org",
    ],
)
def test_one_mail_address_is_read(text: str) -> None:
    target = read_target(text)

    assert target == MailTarget(text)
    assert target.shown == text


@pytest.mark.parametrize(
    "text",
    [
        "", "me", "@", "a@", "@example.com", "a@b", "a@b@c.org", "a b@example.com", "a@example.com\n", "a@example.com\r\nBcc: b@c.org",
        "a@exam\nple.com", "a@example.com,b@example.com", "a@example.com;b@example.com", "<a@example.com>", "Ann <a@example.com>",
        '"a b"@example.com', "a@[127.0.0.1]", "a@-example.com", "a@example..com", ".a@example.com", "a.@example.com", "ä@example.com",
        "a@exämple.com", "x" * 65 + "@example.com", "a@" + "b" * 64 + ".com", "a@" + "b." * 130 + "com", "a\x00@example.com",
        "a@example.com\u2028", "a\u200b@example.com",
    ],
)  # fmt: skip
def test_what_is_no_single_mail_address_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    ("text", "host", "port", "path", "shown"),
    [
        ("https://example.com", "example.com", 443, "/", "https://example.com/"),
        ("https://Example.COM:443/", "example.com", 443, "/", "https://example.com/"),
        ("https://example.com/a/b?token=x", "example.com", 443, "/a/b?token=x", "https://example.com/..."),
        ("https://example.com?token=x", "example.com", 443, "/?token=x", "https://example.com/..."),
        ("https://example.com.:8443/x", "example.com.", 8443, "/x", "https://example.com.:8443/..."),
        ("https://8.8.8.8/x", "8.8.8.8", 443, "/x", "https://8.8.8.8/..."),
        (
            "https://[2606:4700::1111]:8443/x",
            "2606:4700::1111",
            8443,
            "/x",
            "https://[2606:4700::1111]:8443/...",
        ),
    ],
)
def test_an_address_of_a_webhook_is_read(text: str, host: str, port: int, path: str, shown: str) -> None:
    target = read_target(text)

    assert isinstance(target, WebTarget)
    assert (target.host, target.port, target.path, target.shown) == (host, port, path, shown)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com", "HTTPS://example.com", "ftp://example.com", "https://", "https:///x", "https://a b/", "https://example.com/a b",
        "https://u:p@example.com/", "https://u@example.com/", "https://example.com:0/", "https://example.com:99999/", "https://example.com:x/",
        "https://example.com/#f", "https://example.com\\@evil.org/", "https://example.com/\r\nX: y", "https://exa\tmple.com/", "https://exämple.com/",
        "https://2130706433/", "https://127.1/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.0.0.1./", "https://256.1.1.1/",
        "https://[::1%25eth0]/", "https://[example.com]/", "https://-a.com/", "https://a..b/", "https://example.com/" + "x" * 2000, "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_webhook_is_refused(text: str) -> None:
    refused(text)


def test_a_channel_is_read() -> None:
    assert read_target("pg:Alerts") == ChannelTarget("Alerts")
    assert read_target("pg:" + "x" * 63).shown == "pg:" + "x" * 63
    assert read_target("pg:ä") == ChannelTarget("ä")


@pytest.mark.parametrize("text", ["pg:", "pg:a b", "pg:" + "x" * 64, "pg:" + "ä" * 32, "pg:a\nb", "pg:a\x00"])
def test_what_is_no_channel_is_refused(text: str) -> None:
    refused(text)


def refused(text: str) -> None:
    with pytest.raises(FederatedError) as caught:
        read_target(text)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert caught.value.message == "NOTIFY names no address that can be notified"
    assert caught.value.detail
    assert caught.value.hint == "Give a mail address, https://host/path, or pg:channel for LISTEN channel."


def test_an_unknown_metric_has_the_nearest_one_named() -> None:
    with pytest.raises(FederatedError) as caught:
        check_metric("remaining_epsilom")
    assert caught.value.message == 'unrecognized metric "remaining_epsilom"'
    assert caught.value.hint == "Did you mean remaining_epsilon?"
    assert all(name in (caught.value.detail or "") for name in METRICS)

    with pytest.raises(FederatedError) as caught:
        check_metric("zzz")
    assert caught.value.hint is None


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        check_metric(name)
        assert metric.name == name
        assert metric.unit
        assert metric.meaning
