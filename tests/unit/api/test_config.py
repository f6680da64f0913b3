"""The settings are checked whole, and quote no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.api.config import load_config
from heliosdb.domain.errors import FederatedError

GOOD = "database = 'dbname=x password=hidden'\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("listen_host = '0.0.0.0'\n", "loopback"),
        ("listen_host = 'localhost.example.com'\n", "loopback"),
        ("certificate = 'a.pem'\n", "together"),
        ("[client_certificates]\nauthority = 'ca.pem'\nroles = {'dns:a' = 'b'}\n", "TLS"),
        ("[oidc]\nissuer = 'i'\naudience = 'a'\njwks = 'http://idp/keys'\nroles = {a = 'b'}\n", "https"),
        ("[oidc]\nissuer = 'i'\naudience = 'a'\njwks = 'keys.json'\nroles = {}\n", "roles"),
        ("largest_body = 1\n", "largest_body"),
        ("unknown = 1\n", "unknown"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "api.toml"
    path.write_text(GOOD + text)
    with pytest.raises(FederatedError) as caught:
        load_config(path)
    assert word in caught.value.text
    assert "hidden" not in caught.value.text


def test_names_of_certificates_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "api.toml"
    path.write_text(
        GOOD
        + "certificate = 'a'\nprivate_key = 'b'\n[client_certificates]\nauthority = 'c'\nroles = {'CN=x' = 'r'}\n"
    )
    with pytest.raises(FederatedError, match="not valid") as caught:
        load_config(path)
    assert "subject:" in caught.value.text


def test_on_loopback_a_database_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "api.toml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.listen_host == "127.0.0.1"
    assert config.largest_body == 1 << 20
