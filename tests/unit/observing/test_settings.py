"""What the settings accept, and what they refuse before anything listens."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from heliosdb.node.config import NodeConfig
from heliosdb.observing.settings import MetricsSettings, ObservingSettings, TracingSettings
from heliosdb.proxy.config import ProxyConfig

FILES = {"certificate": "c.pem", "private_key": "c.key", "client_ca": "ca.pem"}


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_a_text_is_an_address_on_this_machine(listen: str, address: tuple[str, int]) -> None:
    settings = ObservingSettings.model_validate({"metrics": listen})
    assert settings.metrics is not None
    assert settings.metrics.address == address


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9464", "192.0.2.1:9464", "metrics.example.org:9464", "[::]:9464"]
)
def test_beyond_this_machine_certificates_are_needed(listen: str) -> None:
    with pytest.raises(ValidationError, match="neither encrypted nor kept from anybody"):
        MetricsSettings.model_validate(listen)
    assert MetricsSettings.model_validate({"listen": listen, **FILES}).is_encrypted


@pytest.mark.parametrize("missing", sorted(FILES))
def test_certificates_go_together(missing: str) -> None:
    files = {name: file for name, file in FILES.items() if name != missing}
    with pytest.raises(ValidationError, match="go together"):
        MetricsSettings.model_validate({"listen": "127.0.0.1:9464", **files})


@pytest.mark.parametrize(
    "listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:9464", "a:-1"]
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError):
        MetricsSettings.model_validate(listen)


@pytest.mark.parametrize(
    "endpoint", ["https://collector.example.org:4317", "http://localhost:4317", "http://[::1]:4317"]
)
def test_an_endpoint_of_traces_is_accepted(endpoint: str) -> None:
    assert TracingSettings(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://collector.example.org:4317",
        "https://collector",
        "ftp://localhost:1",
        "https://u@h:1",
        "https://h:1/path",
        "h:1",
    ],
)
def test_spans_leave_the_machine_encrypted_or_not_at_all(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        TracingSettings(endpoint=endpoint)


def test_every_daemon_has_them_and_the_proxy_no_traces() -> None:
    assert "tracing" in NodeConfig.model_fields
    assert (
        ProxyConfig.model_validate({"metrics": "127.0.0.1:9464", "log_format": "json"}).log_format == "json"
    )
    with pytest.raises(ValidationError):
        ProxyConfig.model_validate({"tracing": {"endpoint": "http://localhost:4317"}})
    with pytest.raises(ValidationError):
        ProxyConfig.model_validate({"log_format": "xml"})
