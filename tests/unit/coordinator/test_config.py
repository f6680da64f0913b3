"""The coordinator's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.coordinator.config import load_config
from heliosdb.domain.errors import ErrorCode, FederatedError

WHOLE = """
database = "host=/tmp password=hunter2"
certificate = "c.pem"
private_key = "k.pem"
state_directory = "state"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "coordinator.toml"
    path.write_text(text)
    return path


def test_settings_are_read_and_the_rest_has_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, WHOLE))

    assert config.database.get_secret_value() == "host=/tmp password=hunter2"
    assert config.poll_interval <= 0.5
    assert "hunter2" not in repr(config)
    assert config.parts == ()


def test_modules_of_further_parts_are_named_as_they_are_imported(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, WHOLE + 'parts = ["site.parts", "more"]'))

    assert config.parts == ("site.parts", "more")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WHOLE + "poll_intervall = 1", "poll_intervall"),
        (WHOLE + "poll_interval = 5", "poll_interval"),
        (WHOLE + 'parts = ["../parts.py"]', "parts.0"),
        (WHOLE + 'parts = "site"', "parts"),
        ('database = "password=hunter2"', "certificate"),
        ("database = ", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_the_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(FederatedError) as caught:
        load_config(write(tmp_path, text))

    assert caught.value.code is ErrorCode.INVALID_VALUE
    said = f"{caught.value.message} {caught.value.detail}"
    assert told in said
    assert "hunter2" not in said


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FederatedError, match="nowhere"):
        load_config(tmp_path / "nowhere.toml")


def test_what_is_no_connection_string_is_refused_without_being_quoted(tmp_path: Path) -> None:
    with pytest.raises(FederatedError, match="not valid") as caught:
        load_config(write(tmp_path, WHOLE.replace("host=/tmp", "hunter3 host=/tmp")))
    assert "database: it is no connection string" in (caught.value.detail or "")
    assert "hunter" not in f"{caught.value} {caught.value.detail}"


ALERTS = """
[alerts]
webhook_secret = "a-webhook-secret-hunter2"
allowed_hosts = ["hooks.internal", "10.0.0.1", "::1"]
[alerts.smtp]
host = "mail.example.com"
user = "alerts"
password = "hunter2-mail"
sender = "alerts@example.com"
"""


def test_settings_of_alerts_are_read_and_show_no_secret(tmp_path: Path) -> None:
    alerts = load_config(write(tmp_path, WHOLE + ALERTS)).alerts

    assert (alerts.period, alerts.rearm, alerts.allowed_hosts[0]) == (5.0, 60.0, "hooks.internal")
    assert alerts.smtp is not None
    assert (alerts.smtp.port, alerts.smtp.security) == (587, "starttls")
    assert alerts.smtp.password is not None
    assert alerts.smtp.password.get_secret_value() == "hunter2-mail"
    assert "hunter2" not in repr(alerts)


def test_without_settings_nobody_is_mailed_or_called(tmp_path: Path) -> None:
    alerts = load_config(write(tmp_path, WHOLE)).alerts

    assert (alerts.smtp, alerts.webhook_secret, alerts.allowed_hosts) == (None, None, ())


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"a-webhook-secret-hunter2"', '"short"', "alerts.webhook_secret: has fewer than 16 characters"),
        ('"alerts@example.com"', '"alerts@example.com, b@example.com"', "alerts.smtp.sender: is no mail address"),
        ('"alerts@example.com"', '"pg:alerts"', "alerts.smtp.sender: is no mail address"),
        ('user = "alerts"\n', "", "user and password are given together"),
        ('user = "alerts"', 'user = "alerts"\nsecurity = "none"', "encrypted connection alone"),
        ("smtp]", "smtp]\nprot = 1", "alerts.smtp.prot"),
        ('"hooks.internal"', '"https://hooks.internal"', "alerts.allowed_hosts.0"),
        ("[alerts]", "[alerts]\nperiod = 0", "alerts.period"),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_alerts_is_refused_without_its_value(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    with pytest.raises(FederatedError) as caught:
        load_config(write(tmp_path, WHOLE + ALERTS.replace(before, after)))

    assert told in (caught.value.detail or "")
    assert "hunter2" not in f"{caught.value.message} {caught.value.detail}"
    assert "short" not in (caught.value.detail or "")


def test_a_coordinator_may_have_a_socket_for_flower(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, 'flower_socket = "/run/f/c.sock"\n' + WHOLE))
    assert config.flower_socket == Path("/run/f/c.sock")
    assert load_config(write(tmp_path, WHOLE)).flower_socket is None


def test_a_coordinator_listens_where_it_has_a_port_and_nowhere_else(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, 'listen_host = "::"\nlisten_port = 8444\n' + WHOLE))
    assert (config.listen_host, config.listen_port) == ("::", 8444)
    assert load_config(write(tmp_path, WHOLE)).listen_port is None
    with pytest.raises(FederatedError) as caught:
        load_config(write(tmp_path, 'listen_host = "::"\n' + WHOLE))
    assert "listen_host has no effect without listen_port" in (caught.value.detail or "")
