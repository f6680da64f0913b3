"""Each row of the table of encryption in docs/proxy.md is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from heliosdb.proxy.config import Upstream

PAGE = Path(__file__).resolve().parents[3] / "docs" / "proxy.md"
ROW = re.compile(r"^\| (plain|TLS) \| (Unix socket|loopback) \| (SCRAM|md5) \| (\w+) \| (works|.+) \|$", re.M)
ROWS = ROW.findall(PAGE.read_text())


def test_the_table_is_whole():
    ways = {(client, server, password, binding) for client, server, password, binding, _ in ROWS}
    expected = {
        (client, server, password, binding)
        for client in ("plain", "TLS")
        for server in ("Unix socket", "loopback")
        for password in ("SCRAM", "md5")
        for binding in ("disable", "prefer", "require")
    }
    assert ways == expected
    assert len(ROWS) == len(expected)


@pytest.fixture
def proxy_to(make_proxy, certificate, cluster):
    def make(server: str):
        host = str(cluster.directory) if server == "Unix socket" else "127.0.0.1"
        upstream = Upstream(host=host, port=cluster.port)
        return make_proxy(tls_certificate=certificate[0], tls_key=certificate[1], default_upstream=upstream)

    return make


@pytest.mark.parametrize(("client", "server", "password", "binding", "outcome"), ROWS)
def test_every_row_is_what_happens(proxy_to, certificate, client, server, password, binding, outcome):
    proxy = proxy_to(server)
    secure = {"sslmode": "verify-full", "sslrootcert": str(certificate[0]), "host": "localhost"}
    words = {
        "user": "scram_user" if password == "SCRAM" else "md5_user",
        "channel_binding": binding,
        **(secure if client == "TLS" else {"sslmode": "disable"}),
    }
    if outcome == "works":
        with proxy.connect(password="secret", **words) as connection:
            assert connection.pgconn.ssl_in_use == (client == "TLS")
            assert connection.execute("SELECT current_user").fetchone() == (words["user"],)
            local = connection.execute("SELECT inet_server_addr() IS NULL").fetchone() == (True,)
            assert local == (server == "Unix socket")
        words["channel_binding"] = "disable"
        outcome = "password authentication failed"
        with pytest.raises(psycopg.OperationalError, match=outcome):
            proxy.connect(password="wrong", **words)
    else:
        with pytest.raises(psycopg.OperationalError, match=r"channel binding (is )?required"):
            proxy.connect(password="secret", **words)
