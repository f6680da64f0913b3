"""Settings read again while the proxy runs: by SIGHUP and by RELOAD."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess

import psycopg
import pytest

from tests.integration.proxy.proxy_harness import DATABASE, DEADLINE_S, eventually
from tests.support.ports import free_port

SSL_REQUEST = struct.pack("!II", 8, 80877103)


def elsewhere() -> str:
    """A route for the scratch database to where nobody listens."""
    return f'[routes.{DATABASE}]\nhost = "127.0.0.1"\nport = {free_port()}\n'


def state(proxy) -> dict[str, object]:
    with proxy.console() as admin:
        cursor = admin.execute("SHOW STATE")
        return dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))


def reload_by_command(proxy) -> list[str]:
    """Reload; return the warnings."""
    heard: list[str] = []
    with proxy.console() as admin:
        admin.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        assert admin.execute("RELOAD").statusmessage == "RELOAD"
    return heard


def reload_by_signal(proxy) -> None:
    before = state(proxy)["config_loaded"]
    proxy.signal(signal.SIGHUP)
    proxy.manager.hear("RELOADING")
    proxy.manager.hear("READY")
    assert state(proxy)["config_loaded"] > before


@pytest.mark.parametrize("reload", [reload_by_signal, reload_by_command])
def test_new_connections_take_the_new_route_and_old_ones_stay(launch, reload):
    proxy = launch.start()
    with proxy.connect() as old:
        launch.write(elsewhere(), port=proxy.port)
        reload(proxy)
        with pytest.raises(psycopg.OperationalError, match="could not connect"):
            proxy.connect()
        assert old.execute("SELECT 1").fetchone() == (1,)
        launch.write(port=proxy.port)
        reload(proxy)
        with proxy.connect() as new:
            assert new.execute("SELECT 1").fetchone() == (1,)


def test_a_lowered_limit_ends_nobody_and_holds_for_who_comes_next(launch):
    proxy = launch.start()
    with proxy.connect() as first, proxy.connect() as second:
        launch.write("max_connections = 1\nreserved_connections = 0\n", port=proxy.port)
        reload_by_command(proxy)
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            proxy.connect()
        assert [each.execute("SELECT 1").fetchone() for each in (first, second)] == [(1,), (1,)]


def shown_certificate(port: int) -> bytes | None:
    """What a TLS client is shown, in DER; None where TLS is declined."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as plain:
        plain.sendall(SSL_REQUEST)
        if plain.recv(1) != b"S":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as wrapped:
            return wrapped.getpeercert(binary_form=True)


def der(path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_a_renewed_certificate_is_shown_to_new_clients_and_tls_can_be_turned_on_and_off(
    launch, certificate, tmp_path
):
    proxy = launch.start()
    assert shown_certificate(proxy.port) is None
    own, key = tmp_path / "own.crt", tmp_path / "own.key"
    shutil.copy(certificate[0], own)
    shutil.copy(certificate[1], key)
    launch.write(f'tls_certificate = "{own}"\ntls_key = "{key}"\n', port=proxy.port)
    reload_by_signal(proxy)
    assert shown_certificate(proxy.port) == der(own) == der(certificate[0])
    with proxy.connect(sslmode="require") as old:
        renew = ["openssl", "req", "-x509", "-key", str(key), "-out", str(own), "-subj", "/CN=renewed"]
        subprocess.run(renew, check=True, capture_output=True)
        assert shown_certificate(proxy.port) == der(certificate[0])
        reload_by_signal(proxy)
        assert shown_certificate(proxy.port) == der(own) != der(certificate[0])
        launch.write(port=proxy.port)
        reload_by_signal(proxy)
        assert shown_certificate(proxy.port) is None
        assert old.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("listen_port = = 1", "is not TOML"),
        ("listen_prot = 1\n", "listen_prot"),
        ("max_connections = 0\n", "max_connections"),
        ("max_connections = 100000\n", "open files"),
        ('tls_certificate = "/nowhere.crt"\ntls_key = "/nowhere.key"\n', "certificate"),
        ("[routes.heliosdb_proxy]\nport = 1\n", "hide"),
        ('[routes.far]\nhost = "db.example"\n', "plaintext"),
        (f"deep = {'[' * 20_000}{']' * 20_000}\n", "nested"),
        (f"max_connections = {'9' * 5_000}\n", "digits"),
        ('tls_certificate = "/tmp/a\\u0000b"\ntls_key = "/tmp/a"\n', "NUL"),
        ('[routes.nul]\nhost = "/tmp/a\\u0000b"\n', "NUL"),
        ('tls_certificate = "{pipe}"\ntls_key = "{pipe}"\n', "not a regular file"),
    ],
    ids=lambda text: text[:30],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_answered_and_logged(launch, text, named):
    proxy = launch.start()
    pipe = launch.directory / "pipe"
    os.mkfifo(pipe)
    launch.write(f"{text.replace('{pipe}', str(pipe))}{elsewhere()}", port=proxy.port)
    with proxy.console() as admin:
        with pytest.raises(psycopg.Error) as caught:
            admin.execute("RELOAD")
        assert caught.value.sqlstate == "22023"
        diagnosis = caught.value.diag
        assert named in f"{diagnosis.message_primary} {diagnosis.message_detail}"
        proxy.signal(signal.SIGHUP)
        proxy.manager.hear("RELOADING")
        proxy.manager.hear("READY")
    assert named in state(proxy)["reload_error"]
    assert proxy.log.read_text().count("the settings stay as they were") == 2
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    launch.write(port=proxy.port)
    reload_by_command(proxy)
    assert state(proxy)["reload_error"] is None


def test_a_pipe_in_place_of_the_file_changes_nothing_and_nobody_waits_for_it(launch):
    proxy = launch.start()
    proxy.settings.unlink()
    os.mkfifo(proxy.settings)
    with proxy.console() as admin, pytest.raises(psycopg.Error, match="not a regular file"):
        admin.execute("RELOAD")
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_missing_file_changes_nothing(launch):
    proxy = launch.start()
    proxy.settings.unlink()
    with proxy.console() as admin, pytest.raises(psycopg.Error, match="No such file"):
        admin.execute("RELOAD")
    with proxy.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_what_cannot_change_is_named_and_keeps_its_value(launch):
    proxy = launch.start()
    text = 'listen_address = "0.0.0.0"\nunix_socket_mode = 0o700\nmax_connections = 7\n'
    launch.write(text, port=free_port())
    assert reload_by_command(proxy) == [
        f"{name} has changed and needs a restart"
        for name in ("listen_address", "listen_port", "unix_socket_mode")
    ]
    eventually(lambda: proxy.log_has("restart for listen_address, listen_port"), "it is logged")
    with proxy.console() as admin:
        shown = {row[0]: row[1] for row in admin.execute("SHOW CONFIG")}
    assert shown["listen_port"] == str(proxy.port)
    assert shown["listen_address"] == "127.0.0.1"
    assert shown["max_connections"] == "7"


def test_the_admin_database_can_be_renamed_and_nobody_is_put_out(launch):
    proxy = launch.start()
    with proxy.console() as admin:
        launch.write('admin_database = "other"\n', port=proxy.port)
        admin.execute("RELOAD")
        assert admin.execute("SHOW VERSION").fetchone()
        with proxy.connect(host=str(proxy.directory), dbname="other") as renamed:
            assert renamed.execute("SHOW VERSION").fetchone()
