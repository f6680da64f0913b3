"""Places that are kept: who administers the databases gets in where all others are taken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from heliosdb.proxy.wire import build_message, parse_fields
from tests.integration.proxy.proxy_harness import DATABASE, RunningProxy, as_postgres, binary, eventually

CLIENT = "somebody"


@pytest.fixture(autouse=True)
def somebody(cluster) -> Iterator[None]:
    with cluster.admin() as admin:
        admin.execute(f"CREATE ROLE {CLIENT} LOGIN")
        yield
        admin.execute(f"DROP ROLE {CLIENT}")


@pytest.fixture
def full_proxy(make_proxy, cluster, dial) -> RunningProxy:
    """Two places, both taken, and one that is kept."""
    proxy = make_proxy(max_connections=2, reserved_connections=1, unix_socket_directory=cluster.directory)
    for _ in range(2):
        dial(proxy.port, user=CLIENT)
    return proxy


def outcome(messages: list[tuple[bytes, bytes]]) -> bytes:
    kind, body = messages[-1]
    return dict(parse_fields(body))[b"C"] if kind == b"E" else kind


def test_whoever_is_named_gets_in_where_all_others_are_refused(full_proxy, dial):
    assert outcome(dial(full_proxy.port, user=CLIENT).got) == b"53300"
    admin = dial(full_proxy.port, user="postgres")
    assert outcome(admin.got) == b"Z"
    assert outcome(dial(full_proxy.port, user="postgres").got) == b"53300"
    assert outcome(dial(full_proxy.port, user=CLIENT).got) == b"53300"
    admin.send(build_message(b"X"))
    eventually(lambda: outcome(dial(full_proxy.port, user="postgres").got) == b"Z", "it is kept again")


def test_places_that_are_kept_are_not_taken_from_the_others(make_proxy, dial):
    proxy = make_proxy(max_connections=2, reserved_connections=1)
    kept = dial(proxy.port, user="postgres")
    others = [dial(proxy.port, user=CLIENT) for _ in range(2)]
    assert [outcome(each.got) for each in (kept, *others)] == [b"Z", b"Z", b"53300"]
    assert outcome(dial(proxy.port, user="postgres").got) == b"Z"


def test_the_names_are_a_setting(make_proxy, dial):
    proxy = make_proxy(max_connections=1, reserved_connections=1, reserved_for=[CLIENT])
    dial(proxy.port, user="postgres")
    assert outcome(dial(proxy.port, user="postgres").got) == b"53300"
    assert outcome(dial(proxy.port, user=CLIENT).got) == b"Z"


def test_by_the_unix_socket_who_runs_the_proxy_needs_no_name(full_proxy, cluster):
    with full_proxy.connect(host=str(cluster.directory), user=CLIENT) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_by_the_unix_socket_another_operating_system_user_has_no_place_kept(full_proxy, cluster, monkeypatch):
    if os.geteuid() != 0:  # then psql runs as this user too: let the proxy be another
        other = os.geteuid() + 1
        monkeypatch.setattr("heliosdb.proxy.console.os.geteuid", lambda: other)
    dsn = full_proxy.dsn(host=str(cluster.directory), user=CLIENT)
    command = as_postgres(binary("psql"), "-X", "-d", dsn, "-c", "SELECT 1")
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert "sorry, too many clients already" in result.stderr


def test_a_name_is_no_right(full_proxy):
    """The server asks for what it asks of everybody."""
    with pytest.raises(psycopg.OperationalError, match='role "nobody_of_ours" does not exist'):
        with_names = frozenset({"nobody_of_ours"})
        config = full_proxy.proxy.config
        full_proxy.proxy.config = config.model_copy(update={"reserved_for": with_names})
        full_proxy.connect(user="nobody_of_ours", dbname=DATABASE)
