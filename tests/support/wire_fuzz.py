"""Conversations for the proxy's fuzz tests: what a client may say, in what pieces, and with what bytes changed.

The environment variable SESSIONS, which `make fuzz` sets, says how many; each test has its share of them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from heliosdb.proxy.wire import build_message

NAMES = ("", "a")
ORDINARY = (
    *(f"SELECT generate_series(1, {count})" for count in (0, 1, 3)), "CALL p()", "BEGIN", "COMMIT", "ROLLBACK",
    "WRONG", "COPY t FROM STDIN", "COPY (SELECT 1) TO STDOUT", "",
)  # fmt: skip
FEDERATED = (
    "CREATE FEDERATED WORKSPACE w", "CREATE FEDERATED MODEL m", "CREATE FEDERATED MODEL failing",
    "CREATE FEDERATED MODEL other",
)  # fmt: skip


def fuzz(sessions: int, share: float = 1.0) -> settings:
    """Settings for so many sessions, or for a share of what SESSIONS says."""
    asked = os.environ.get("SESSIONS")
    count = max(1, int(int(asked) * share)) if asked else sessions
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Said:
    """What a client sends: whole messages, the pieces they come in, and after which pieces answers are read."""

    messages: tuple[bytes, ...]
    cuts: tuple[int, ...] = ()
    readings: int = -1
    whole: bool = False  # cut where messages end

    @property
    def data(self) -> bytes:
        return b"".join(self.messages)

    def pieces(self, data: bytes | None = None) -> list[bytes]:
        if self.whole and data is None:
            return list(self.messages)
        data = self.data if data is None else data
        edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in self.cuts)})
        return [data[a:b] for a, b in pairwise(edges)]

    def reads_after(self, number: int) -> bool:
        return bool(self.readings >> number % 64 & 1)


def query(text: str) -> bytes:
    return build_message(b"Q", text.encode() + b"\0")


def parse(name: str, text: str) -> bytes:
    return build_message(b"P", f"{name}\0{text}\0".encode() + b"\0\0")


def bind(portal: str, name: str) -> bytes:
    return build_message(b"B", f"{portal}\0{name}\0".encode() + bytes(6))


def execute(portal: str, limit: int = 0) -> bytes:
    return build_message(b"E", portal.encode() + b"\0" + struct.pack("!I", limit))


def about(kind: bytes, what: str, name: str) -> bytes:
    """Describe (D) or Close (C) a statement (S) or portal (P)."""
    return build_message(kind, (what + name).encode() + b"\0")


SYNC, FLUSH, COPY_DONE = (build_message(kind) for kind in (b"S", b"H", b"c"))
COPY_DATA, COPY_FAIL, TERMINATE = (
    build_message(b"d", b"7\tx\n"),
    build_message(b"f", b"no\0"),
    build_message(b"X"),
)
BAD_DATA = build_message(b"d", b"bad\n")
# After these any conversation is back in order, and two statements show whether the proxy knows where it is.
PROBE = (
    COPY_FAIL, SYNC, query("ROLLBACK"), query("CALL p()"), query("CREATE FEDERATED MODEL probe"),
    parse("probe", "CREATE FEDERATED WORKSPACE probe"), SYNC, bind("", "probe"), execute(""), SYNC,
    query("CALL p()"), bind("", "probe"), execute(""), SYNC,
)  # fmt: skip
FUNCTION_CALL = build_message(b"F", struct.pack("!IHHHIIH", 1397, 1, 1, 1, 4, 7, 1))


def _settled(messages: list[bytes]) -> list[bytes]:
    """A Sync behind each end of copy data, as the protocol has it: before that nothing may be rewritten."""
    return [each for m in messages for each in ((m, SYNC) if m in (COPY_DONE, COPY_FAIL) else (m,))]


def said(texts: tuple[str, ...], longest: int = 10) -> st.SearchStrategy[Said]:
    """Return conversations of valid messages about these texts."""
    probe = PROBE if any("FEDERATED" in text for text in texts) else (SYNC,)
    text, name = st.sampled_from(texts), st.sampled_from(NAMES)
    simple = st.lists(text, min_size=1, max_size=3).map(lambda several: (query("; ".join(several)),))
    single = st.one_of(
        st.builds(parse, name, text), st.builds(bind, name, name), st.builds(execute, name, st.integers(0, 2)),
        st.builds(about, st.sampled_from([b"D", b"C"]), st.sampled_from("SP"), name),
        st.sampled_from([SYNC, SYNC, FLUSH, COPY_DATA, BAD_DATA, COPY_DONE, COPY_FAIL, FUNCTION_CALL]),
    ).map(lambda message: (message,))  # fmt: skip
    batch = st.builds(
        lambda t, n, p, limit, end: (
            parse(n, t), bind(p, n), about(b"D", "P", p), execute(p, limit), about(b"C", "P", p),
            about(b"C", "S", n), *end,
        ),
        text, name, name, st.integers(0, 2), st.sampled_from([(SYNC,), (), (FLUSH,), (execute(""), SYNC)]),
    )  # fmt: skip
    copy = st.builds(
        lambda start, data, end: (*start, *data, *end),
        st.sampled_from([
            (query("COPY t FROM STDIN"),),
            (parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), SYNC),
            (parse("", "COPY t FROM STDIN"), bind("", ""), execute("")),
        ]),
        st.sampled_from([(COPY_DATA,), (BAD_DATA,), (COPY_DATA, SYNC, BAD_DATA)]),
        st.sampled_from([(COPY_DONE,), (COPY_FAIL,), (SYNC, COPY_DONE, SYNC), (COPY_DONE, SYNC)]),
    )  # fmt: skip
    steps = st.lists(st.one_of(simple, single, single, batch, copy), max_size=longest)
    messages = st.builds(
        lambda several, end: (*_settled([m for step in several for m in step]), *end),
        steps, st.sampled_from([(), (SYNC, TERMINATE), *[probe] * 2]),
    )  # fmt: skip
    cuts = st.lists(st.integers(0, 4000), max_size=12).map(tuple)
    readings = st.one_of(st.just(-1), st.just(0), st.integers(0, (1 << 64) - 1))
    return st.builds(Said, messages, cuts, readings, st.booleans())


@st.composite
def damaged(draw: st.DrawFn, texts: tuple[str, ...]) -> tuple[Said, bytes]:
    """Draw a conversation some of whose bytes are changed, left out or put in; or bytes at random."""
    conversation = draw(said(texts, longest=4))
    data = bytearray(conversation.data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(["change", "leave out", "put in"]))
        size = 1 if what == "change" else draw(st.integers(1, 6))
        data[at : at + (0 if what == "put in" else size)] = (
            b"" if what == "leave out" else draw(st.binary(min_size=1, max_size=size))
        )
    return conversation, bytes(data)
