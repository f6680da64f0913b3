"""Passwords, versions and options of the start-up: the client gets what the server says to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Iterator

import psycopg
import pytest

from heliosdb.proxy.wire import build_message, build_startup, parse_fields
from tests.integration.proxy.proxy_harness import DATABASE, Wire

# Passwords


@pytest.fixture
def expired_user(cluster) -> Iterator[str]:
    with cluster.admin() as admin:
        admin.execute("CREATE ROLE late LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01'")
        admin.execute("GRANT scram_users TO late")
        yield "late"
        admin.execute("DROP ROLE late")


def test_an_expired_password_does_not_let_in(cluster, proxy, expired_user):
    said = []
    for dsn in (cluster.dsn, proxy.dsn):
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(dsn(user=expired_user, password="secret"))
        said.append(str(caught.value).replace(str(proxy.port), "port").replace(str(cluster.port), "port"))
    assert said[0] == said[1]
    assert "password authentication failed" in said[0]


def scram(wire: Wire, user: str, password: str, nonce: str) -> list[tuple[bytes, bytes]]:
    """Log in by SCRAM-SHA-256 with this client nonce; return all that came."""
    wire.send(build_startup({"user": user, "database": DATABASE}))
    wire.read()
    first = f"n=,r={nonce}".encode()
    message = b"n,," + first
    wire.send(build_message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(message)) + message))
    kind, body = wire.read() or (b"", b"")
    if kind != b"R":
        return wire.got
    server_first = body[4:]
    r, s, i = (part[2:] for part in server_first.split(b",", 2))
    assert r.startswith(nonce.encode())
    final = b"c=biws,r=" + r
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(s), int(i))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored, signed = hashlib.sha256(client_key).digest(), b",".join((first, server_first, final))
    signature = hmac.digest(stored, signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    wire.send(build_message(b"p", final + b",p=" + base64.b64encode(proof)))
    wire.until(b"Z")
    return wire.got


@pytest.mark.parametrize("length", [1, 18, 300, 900, 1_500, 20_000])
def test_a_scram_nonce_of_any_length_gets_what_the_server_says_to_it(cluster, proxy, dial, length):
    ends = []
    for port in (cluster.port, proxy.port):
        got = scram(dial(port), "scram_user", "secret", "n" * length)
        ends.append([(kind, body if kind == b"E" else b"") for kind, body in got])
    assert ends[0] == ends[1]
    assert ends[0][-1][0] in (b"Z", b"E")
    assert length > 900 or ends[0][-1][0] == b"Z"


# Versions and options of the protocol


@pytest.mark.parametrize(
    ("minor", "parameters"),
    [
        (0, {"_pq_.one": "1", "_pq_.two": "2"}),
        (1, {}),
        (2, {}),
        (2, {"_pq_.one": "1"}),
        (9_999, {}),
        (0, {"search_path": "federated", "options": "-c search_path=pg_temp"}),
        (0, {"search_path": 'nowhere, "$user"; DROP TABLE t'}),
        (0, {"options": r"-c geqo=off\ x --no-such=1"}),
        (0, {"replication": "maybe"}),
    ],
)
def test_versions_and_options_get_the_servers_own_answer(cluster, proxy, dial, minor, parameters):
    answers = []
    for port in (cluster.port, proxy.port):
        wire = dial(port)
        wire.send(build_startup({"user": "postgres", "database": DATABASE, **parameters}, minor=minor))
        wire.until(b"Z")
        answers.append([(kind, b"" if kind == b"K" else body) for kind, body in wire.got])
    assert answers[0] == answers[1]
    kinds = [kind for kind, _ in answers[0]]
    assert (b"v" in kinds) == bool(minor or any(name.startswith("_pq_.") for name in parameters))


@pytest.mark.parametrize("major", [0, 1, 2, 4, 1234])
def test_another_major_version_is_refused(proxy, dial, major):
    wire = dial(proxy.port)
    wire.send(build_startup({"user": "postgres"}, major=major, minor=1))
    kind, body = wire.read()
    assert (kind, dict(parse_fields(body))[b"C"]) == (b"E", b"0A000")
    assert wire.read() is None


def test_a_search_path_of_the_start_up_message_is_in_force_for_rewritten_statements(proxy):
    with proxy.connect(options="-c search_path=pg_temp") as connection:
        assert (
            connection.execute("CREATE FEDERATED WORKSPACE w").statusmessage == "CREATE FEDERATED WORKSPACE"
        )
        assert connection.execute("SHOW search_path").fetchone() == ("pg_temp",)
