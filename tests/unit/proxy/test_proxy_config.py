"""The settings file is checked whole, and what is wrong is named."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

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
        reserved_for = ["postgres", "dba"]
        tcp_keepalives_idle = 60
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
    assert (config.reserved_for, config.tcp_keepalives_idle) == ({"postgres", "dba"}, 60)
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
        ("reserved_connections = -1", "reserved_connections"),
        ('reserved_for = "postgres"', "reserved_for"),
        ("tcp_keepalives_idle = 32768", "tcp_keepalives_idle"),  # the kernel would refuse it, and these
        ("tcp_keepalives_interval = 32768", "tcp_keepalives_interval"),
        ("tcp_keepalives_count = 128", "tcp_keepalives_count"),
        ("tcp_user_timeout = 2147483648", "tcp_user_timeout"),
        ("startup_timeout_s = 0", "startup_timeout_s"),
        ('tls_key = "k"', "tls_certificate"),
        ("tls_required = true", "tls_required"),
        ('[routes.x]\nhost = "db.internal"', "plaintext"),
        ('[default_upstream]\nhost = "10.0.0.1"', "plaintext"),
        ("listen_port = = 1", "line 1"),
        ("[routes.heliosdb_proxy]\nport = 1", "admin_database"),
        (f"deep = {'[' * 20_000}{']' * 20_000}", "nested too deeply"),
        (f"max_connections = {'9' * 5_000}", "digits"),
        (f"max_connections = {'9' * 4_000}", "max_connections"),
        ("startup_timeout_s = nan", "startup_timeout_s"),
        *((f'{name} = "/a\\u0000b"', "NUL") for name in ("unix_socket_directory", "tls_certificate")),
        ('tls_certificate = "a"\ntls_key = "/a\\u0000b"', "NUL"),
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


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FederatedError) as caught:
        load_config(tmp_path / "pipe")
    assert caught.value.message == f"cannot read the configuration {tmp_path / 'pipe'}: not a regular file"


@pytest.mark.parametrize(
    "host",
    ["", "db..example", ".example", "x" * 64, "a\0b", "/tmp/a\0b", "/" + "a" * 93, "/" + "ä" * 50],
)
def test_a_host_that_no_connection_can_be_made_to_is_refused(host):
    with pytest.raises(ValidationError):
        Upstream(host=host, plaintext=True)


@pytest.mark.parametrize("host", ["db.example.", "bücher.example", "x" * 63, "a_b.example", "/" + "a" * 92])
def test_other_hosts_are_taken(host):
    assert Upstream(host=host, plaintext=True).host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "/tmp"])
def test_a_server_on_this_machine_needs_no_permission_for_plain_text(host):
    assert Upstream(host=host).plaintext is False
