"""The messages of both sides, and a session that they are played to."""

from __future__ import annotations

from heliosdb.proxy.layouts import Known
from heliosdb.proxy.rewriting import LONG_TEXT, TextRewriter
from heliosdb.proxy.session import ClientSession
from heliosdb.proxy.wire import build_fields, build_message, parse_fields

SYNC = build_message(b"S")
IDLE = build_message(b"Z", b"I")
STATEMENT = "CREATE FEDERATED WORKSPACE w"
CALLED = b"CALL federated.execute('CREATE FEDERATED WORKSPACE w')"
TAG = b"CREATE FEDERATED WORKSPACE"


def query(text: str | bytes) -> bytes:
    return build_message(b"Q", (text.encode() if isinstance(text, str) else text) + b"\0")


def parse(name: bytes, text: str | bytes, rest: bytes = b"\0\0") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return build_message(b"P", name + b"\0" + raw + b"\0" + rest)


def bind(portal: bytes, statement: bytes, rest: bytes = bytes(6)) -> bytes:
    return build_message(b"B", portal + b"\0" + statement + b"\0" + rest)


def execute(portal: bytes) -> bytes:
    return build_message(b"E", portal + b"\0" + bytes(4))


def describe(kind: bytes, name: bytes) -> bytes:
    return build_message(b"D", kind + name + b"\0")


def close(kind: bytes, name: bytes) -> bytes:
    return build_message(b"C", kind + name + b"\0")


def done(tag: bytes) -> bytes:
    return build_message(b"C", tag + b"\0")


def error(**fields: bytes) -> bytes:
    """`c_` and `d_` are the lower-case codes c and d; W, P, M … as they are."""
    pairs = [(b"S", b"ERROR"), (b"C", b"42601"), (b"M", b"no")]
    return build_fields(b"E", pairs + [(name[0].encode(), text) for name, text in fields.items()])


def status(name: bytes, value: bytes) -> bytes:
    return build_message(b"S", name + b"\0" + value + b"\0")


PARSED, BOUND, CLOSED, NO_DATA = (build_message(kind) for kind in (b"1", b"2", b"3", b"n"))
LONG = f"{STATEMENT}{' ' * LONG_TEXT}; CALL p()"
COPY_IN = build_message(b"G", b"\0\0\0")


class Talk:
    """A session past its start, and the bytes of each direction joined."""

    def __init__(
        self,
        rewriter: TextRewriter,
        encoding: bytes = b"UTF8",
        conforming: bytes = b"on",
        known: Known | None = None,
    ) -> None:
        self.session = ClientSession(rewriter, known=known)
        self.server(status(b"client_encoding", encoding))
        self.server(status(b"standard_conforming_strings", conforming))
        self.server(IDLE)

    def client(self, *messages: bytes) -> bytes:
        return self.session.from_client(b"".join(messages))

    def server(self, *messages: bytes) -> bytes:
        return self.session.from_server(b"".join(messages))


def fields(message: bytes) -> dict[bytes, bytes]:
    return dict(parse_fields(message[5:]))
