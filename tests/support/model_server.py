"""A small server that answers messages as PostgreSQL does, in memory, for tests of the proxy's conversation.

It knows six statements. `native`: it understands CREATE FEDERATED itself, as the client is to believe;
otherwise it understands the call that the proxy puts in its place, and raises the errors that the extension
raises. What a client sees of both must be the same.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from heliosdb.proxy.wire import build_fields, build_message

Messages = Generator[None, tuple[int, bytes], None]

_OURS = re.compile(r"CREATE FEDERATED (WORKSPACE|MODEL) (\w+)")
_CALL = re.compile(r"CALL federated\.execute\('(CREATE FEDERATED (?:WORKSPACE|MODEL) (\w+))'\)")
_SELECT = re.compile(r"SELECT generate_series\(1, (\d)\)")
_ROW = build_message(b"D", b"\0\1\0\0\0\1Z")
_ROWS = build_message(b"T", b"\0\1column\0" + bytes(18))
_KINDS = frozenset(b"QPBDECHSFdcfX")


class Fatal(Exception):
    """The server ends the connection."""


class Failed(Exception):
    """A statement failed; `fields` are what the client is told."""

    def __init__(self, code: bytes, message: bytes, *more: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.fields = [(b"S", b"ERROR"), (b"C", code), (b"M", message), *more]


@dataclass
class Portal:
    text: str
    left: int
    ran: bool = False


class ModelServer:
    """Feed it what the client sent; it returns what it answers."""

    def __init__(self, *, native: bool) -> None:
        self._native = native
        self._input = b""
        self._out: list[bytes] = []
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, Portal] = {}
        self._status = b"I"
        self._in_extended = False
        self.ended = False
        self._talk = self._run()
        next(self._talk)

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client, return the answers."""
        self._input += data
        try:
            while not self.ended and (message := self._next()) is not None:
                self._talk.send(message)
        except (Fatal, StopIteration):
            self.ended = True
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _next(self) -> tuple[int, bytes] | None:
        if not self._input:
            return None
        kind = self._input[0]
        if kind not in _KINDS:
            self._fatal(b"invalid frontend message type")
        if len(self._input) < 5:
            return None
        length = int.from_bytes(self._input[1:5], "big")
        if not 4 <= length <= 0x3FFF_FFFF:
            self._fatal(b"invalid message length")
        if len(self._input) <= length:
            return None
        body = self._input[5 : length + 1]
        self._input = self._input[length + 1 :]
        return kind, body

    def _fatal(self, message: bytes) -> None:
        self._out.append(build_fields(b"E", [(b"S", b"FATAL"), (b"C", b"08P01"), (b"M", message)]))
        raise Fatal

    def _say(self, kind: bytes, body: bytes = b"") -> None:
        self._out.append(build_message(kind, body))

    # The loop of the backend

    def _run(self) -> Messages:
        skipping = False
        while True:
            kind, body = yield
            letter = chr(kind)
            if letter == "X":
                return
            if skipping and letter != "S":
                continue
            try:
                if letter in "QFS":
                    skipping = self._in_extended = False
                    yield from self._ended_by_ready(letter, body)
                elif letter in "PBDEC":
                    self._in_extended = True
                    yield from self._extended(letter, body)
            except Failed as failure:
                self._fail(failure)
                skipping = self._in_extended
            if letter in "QFS" and not (skipping and letter != "S"):
                self._ready()

    def _ended_by_ready(self, letter: str, body: bytes) -> Messages:
        if letter == "F":
            self._check_alive("")
            self._say(b"V", bytes(4))
        elif letter == "Q":
            yield from self._query(body)

    def _ready(self) -> None:
        if self._status == b"I":
            self._portals.clear()
        self._say(b"Z", self._status)

    def _fail(self, failure: Failed) -> None:
        self._out.append(build_fields(b"E", failure.fields))
        if self._status == b"T":
            self._status = b"E"
        self._portals.clear()

    def _query(self, body: bytes) -> Messages:
        self._statements.pop(b"", None)
        text = _text(body)
        if not any(part.split() for part in text.split(";")):
            self._say(b"I")
        at = 0
        for part in text.split(";"):
            if part.split():
                lead = len(part) - len(part.lstrip())
                yield from self._statement(part.strip(), at + lead, _Rows(self, described=True))
            at += len(part) + 1

    def _extended(self, letter: str, body: bytes) -> Messages:
        if letter == "P":
            self._parse(body)
        elif letter == "B":
            self._bind(body)
        elif letter in "DC":
            self._describe_or_close(letter, body)
        else:
            yield from self._execute(body)

    def _parse(self, body: bytes) -> None:
        name, raw, *_ = _strings(body, 2)
        text = _text(raw + b"\0").strip()
        if ";" in text:
            raise Failed(b"42601", b"cannot insert multiple commands")
        if text.startswith("WRONG"):
            raise Failed(b"42601", b"syntax error", (b"P", b"1"))
        self._check_alive(text)
        if name and name in self._statements:
            raise Failed(b"42P05", b"exists")
        self._statements[name] = text
        self._say(b"1")

    def _bind(self, body: bytes) -> None:
        portal, name, *_ = _strings(body, 2)
        if name not in self._statements:
            raise Failed(b"26000", b"no such statement")
        text = self._statements[name]
        self._check_alive(text)
        if portal and portal in self._portals:
            raise Failed(b"42P03", b"exists")
        found = _SELECT.fullmatch(text)
        self._portals[portal] = Portal(text, int(found[1]) if found else 0)
        self._say(b"2")

    def _describe_or_close(self, letter: str, body: bytes) -> None:
        of_portal = body[:1] == b"P"
        name = _strings(body[1:], 1)[0]
        known = self._portals if of_portal else self._statements
        if letter == "C":
            known.pop(name, None)
            self._say(b"3")
            return
        if name not in known:
            raise Failed(b"34000" if of_portal else b"26000", b"nothing to describe")
        text = self._portals[name].text if of_portal else self._statements[name]
        if not of_portal:
            self._say(b"t", b"\0\0")
        self._out.append(_ROWS if text.startswith("SELECT") else build_message(b"n"))

    def _execute(self, body: bytes) -> Messages:
        name, rest = _strings(body, 1)
        limit = int.from_bytes(rest[:4], "big")
        if name not in self._portals:
            raise Failed(b"34000", b"no such portal")
        portal = self._portals[name]
        self._check_alive(portal.text)
        if portal.ran and not portal.text.startswith("SELECT"):
            raise Failed(b"55000", b"portal cannot be run")
        portal.ran = True
        if portal.text.startswith("SELECT"):
            _Rows(self, described=False).send(portal, limit)
        elif not portal.text:
            self._say(b"I")
        else:
            yield from self._statement(portal.text, 0, _Rows(self, described=False))

    # Statements

    def _statement(self, text: str, at: int, rows: _Rows) -> Messages:
        self._check_alive(text)
        word = text.split(maxsplit=1)[0] if text else ""
        if word in ("BEGIN", "COMMIT", "ROLLBACK"):
            self._status = b"T" if word == "BEGIN" else b"I"
            self._say(b"C", word.encode() + b"\0")
        elif found := _SELECT.fullmatch(text):
            rows.send(Portal(text, int(found[1])), 0)
        elif text == "CALL p()":
            self._say(b"N", b"SNOTICE\0Mcalled\0P%d\0\0" % (at + 1))
            self._say(b"C", b"CALL\0")
        elif text == "COPY (SELECT 1) TO STDOUT":
            for kind in (b"H", b"d", b"c"):
                self._say(kind, b"\0\0\0" if kind == b"H" else b"")
            self._say(b"C", b"COPY 1\0")
        elif text == "COPY t FROM STDIN":
            yield from self._copy_in()
        else:
            self._federated(text, at)

    def _federated(self, text: str, at: int) -> None:
        found = (_OURS if self._native else _CALL).fullmatch(text)
        if found is None:
            shown = text if self._native else text.split("(", maxsplit=1)[0]
            raise Failed(b"42601", b"syntax error at " + shown.encode()[:3])
        if "fail" in found[2]:
            position = at + len(found[0] if self._native else found[1]) - len(found[2]) + 1
            if self._native:
                raise Failed(b"22023", b"this cannot be", (b"P", str(position).encode()))
            raise Failed(b"22023", b"this cannot be", (b"W", b"PL/pgSQL"), (b"d", b"federated_sql"),
                         (b"c", f"position={position - at}".encode()))  # fmt: skip
        tag = f"CREATE FEDERATED {found[1]}" if self._native else "CALL"
        self._say(b"C", tag.encode() + b"\0")

    def _check_alive(self, text: str) -> None:
        if self._status == b"E" and text.split()[:1] not in (["COMMIT"], ["ROLLBACK"]):
            raise Failed(b"25P02", b"current transaction is aborted")

    def _copy_in(self) -> Messages:
        self._say(b"G", b"\0\0\0")
        while True:
            kind, body = yield
            letter = chr(kind)
            if letter == "d" and body.startswith(b"bad"):
                raise Failed(b"22P02", b"invalid input")
            if letter == "c":
                self._say(b"C", b"COPY 1\0")
                return
            if letter == "f":
                raise Failed(b"57014", b"COPY from stdin failed")
            if letter not in "dHS":
                self._say(b"E", b"SERROR\0C08P01\0Munexpected message type during COPY\0\0")
                self._fatal(b"terminating connection because protocol synchronization was lost")


class _Rows:
    """The rows of a SELECT, as a simple query or a portal sends them."""

    def __init__(self, server: ModelServer, *, described: bool) -> None:
        self._server = server
        self._described = described

    def send(self, portal: Portal, limit: int) -> None:
        count = min(limit, portal.left) if limit else portal.left
        portal.left -= count
        out = self._server._out
        out += [_ROWS] * self._described + [_ROW] * count
        # As the server does: a portal that gave as many rows as were asked for may have more.
        ended = not limit or count < limit
        out.append(build_message(b"C", b"SELECT %d\0" % count) if ended else build_message(b"s"))


def _text(body: bytes) -> str:
    if not body.endswith(b"\0"):
        raise Failed(b"08P01", b"invalid string in message")
    return body.split(b"\0")[0].decode("utf-8", "replace")


def _strings(body: bytes, count: int) -> list[bytes]:
    parts = body.split(b"\0", count)
    if len(parts) <= count:
        raise Failed(b"08P01", b"invalid string in message")
    return parts
