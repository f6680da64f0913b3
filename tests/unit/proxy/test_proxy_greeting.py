"""What the proxy answers before a session exists."""

from __future__ import annotations

import struct

import pytest

from heliosdb.proxy.greeting import Cancel, Connect, Greeting, Refuse, Reply, StartTls
from heliosdb.proxy.wire import HEADER, build_startup, parse_fields

SSL = struct.pack("!II", 8, 80877103)
GSS = struct.pack("!II", 8, 80877104)
START = build_startup({"user": "ada", "database": "sales"})


def code(action: Refuse) -> bytes:
    return dict(parse_fields(action.data[HEADER:]))[b"C"]


def test_ssl_is_declined_without_a_certificate_and_the_session_goes_on():
    greeting = Greeting(tls_available=False)
    assert greeting.feed(SSL) == Reply(b"N")
    action = greeting.feed(START)
    assert isinstance(action, Connect)
    assert action.startup.database == "sales"


def test_gss_is_declined_and_ssl_may_follow():
    greeting = Greeting(tls_available=True)
    assert greeting.feed(GSS) == Reply(b"N")
    assert greeting.feed(SSL) == StartTls()


@pytest.mark.parametrize("extra", [b"x", START])
def test_bytes_stuffed_behind_the_ssl_request_are_refused(extra):
    action = Greeting(tls_available=True).feed(SSL + extra)
    assert isinstance(action, Refuse)
    assert code(action) == b"08P01"


@pytest.mark.parametrize("extra", [b"x", START, SSL, GSS])
@pytest.mark.parametrize(("available", "request_"), [(False, SSL), (False, GSS), (True, GSS)])
def test_bytes_stuffed_behind_a_request_that_is_declined_are_refused_too(available, request_, extra):
    action = Greeting(tls_available=available).feed(request_ + extra)
    assert isinstance(action, Refuse)
    assert action.data[:1] == b"N"
    assert code(Refuse(action.data[1:])) == b"08P01"


def test_what_follows_the_start_up_message_is_kept():
    greeting = Greeting(tls_available=False)
    assert [greeting.feed(request) for request in (GSS, SSL)] == [Reply(b"N")] * 2
    action = greeting.feed(START + b"rest")
    assert isinstance(action, Connect)
    assert action.rest == b"rest"


@pytest.mark.parametrize("request_", [SSL, GSS])
def test_asking_twice_is_refused(request_):
    greeting = Greeting(tls_available=False)
    greeting.feed(request_)
    action = greeting.feed(request_)
    assert isinstance(action, Refuse)
    assert code(action) == b"08P01"


def test_ssl_inside_tls_is_refused():
    greeting = Greeting(tls_available=True)
    assert greeting.feed(SSL) == StartTls()
    greeting.encrypted()
    assert isinstance(greeting.feed(GSS), Refuse)


def test_plain_text_is_refused_where_tls_is_required():
    greeting = Greeting(tls_available=True, tls_required=True)
    action = greeting.feed(START)
    assert isinstance(action, Refuse)
    assert code(action) == b"28000"


def test_one_byte_at_a_time():
    greeting = Greeting(tls_available=False)
    actions = [greeting.feed(bytes([byte])) for byte in SSL + START]
    assert [action for action in actions[:-1] if action is not None] == [Reply(b"N")]
    assert isinstance(actions[-1], Connect)


def test_cancel_is_recognised():
    action = Greeting(tls_available=False).feed(struct.pack("!IIII", 16, 80877102, 5, 6))
    assert isinstance(action, Cancel)
    assert (action.request.pid, action.request.secret) == (5, struct.pack("!I", 6))


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x07", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"])
def test_what_is_not_postgresql_gets_no_answer(data):
    assert Greeting(tls_available=True).feed(data) == Refuse(b"")


def test_protocol_2_is_refused_by_name():
    action = Greeting(tls_available=False).feed(struct.pack("!II", 12, 2 << 16) + bytes(4))
    assert isinstance(action, Refuse)
    assert code(action) == b"0A000"
