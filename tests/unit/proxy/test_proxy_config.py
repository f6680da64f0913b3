"""The settings file is checked whole, and what is wrong is named."""

from __future__ import annotations

import pytest

from federated_sql.errors import FederatedError
from heliosdb.proxy.config import ProxyConfig, Upstream, load_config


def test_a_full_file_is_read(tmp_path):
    path = tmp_path / "proxy.toml"
    path.write_text(
        """
        listen_address = "0.0.0.0"
        listen_port = 6543
        unix_socket_directory = "/run/heliosdb"
        unix_socket_mode = 0o700
        tls_certificate = "server.crt"
        tls_key = "server.key"
        tls_required = true
        max_connections = 7
        [default_upstream]
        host = "127.0.0.1"
        port = 5433
        [routes.sales]
        host = "/run/postgresql"
        [routes.remote]
        host = "db.internal"
        plaintext = true
        """
    )
    config = load_config(path)
    assert (config.listen_port, config.max_connections, config.unix_socket_mode) == (6543, 7, 0o700)
    assert config.upstream_for("sales").socket_path == "/run/postgresql/.s.PGSQL.5432"
    assert config.upstream_for("remote").socket_path is None
    assert config.upstream_for("anything else").port == 5433


def test_the_defaults_listen_on_this_machine_only():
    config = ProxyConfig()
    assert config.listen_address == "127.0.0.1"
    assert config.default_upstream.socket_path == "/var/run/postgresql/.s.PGSQL.5432"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("listen_prot = 1", "listen_prot"),
        ("listen_port = 70000", "listen_port"),
        ("max_connections = 0", "max_connections"),
        ("startup_timeout_s = 0", "startup_timeout_s"),
        ('tls_key = "k"', "tls_certificate"),
        ("tls_required = true", "tls_required"),
        ('[routes.x]\nhost = "db.internal"', "plaintext"),
        ('[default_upstream]\nhost = "10.0.0.1"', "plaintext"),
        ("listen_port = = 1", "line 1"),
        ("[routes.heliosdb_proxy]\nport = 1", "admin_database"),
        ('admin_database = "sales"\n[routes.sales]\nport = 1', "hide"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    with pytest.raises(FederatedError) as caught:
        load_config(path)
    assert caught.value.sqlstate == "22023"
    assert caught.value.message.startswith(f"the configuration {path} is not ")
    assert named in (caught.value.detail or caught.value.message)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FederatedError) as caught:
        load_config(tmp_path / "none.toml")
    assert (
        caught.value.message
        == f"cannot read the configuration {tmp_path / 'none.toml'}: No such file or directory"
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "/tmp"])
def test_a_server_on_this_machine_needs_no_permission_for_plain_text(host):
    assert Upstream(host=host).plaintext is False
