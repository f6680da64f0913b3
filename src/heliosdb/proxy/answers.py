"""Answers about a rewritten text made into answers about the text that was typed: tags, positions, hints.

What always holds: an answer that cannot be read, or in which nothing changes, is left byte for byte (None).
"""

from __future__ import annotations

import re

from heliosdb.proxy.hints import Fields, with_hint
from heliosdb.proxy.rewriting import Rewrite
from heliosdb.proxy.wire import HEADER, ProtocolError, build_fields, build_message, parse_fields

_ERROR = ord("E")
_FEDERATED = b"federated_sql"
_FAREWELL = re.compile(rb"\0C57P0[12]\0")  # admin_shutdown, crash_shutdown
_ROWS = frozenset({"EXPLAIN", "SHOW"})
"""The tags of statements that became queries: they answer with rows, and their tags count none."""
_POSITION = re.compile(rb"position=([0-9]{1,9})")


def turn_back(message: bytes, rewrite: Rewrite, index: int) -> bytes | None:
    """Make an error or notice about statement `index` of the rewritten text one about what was typed."""
    if len(message) == HEADER:
        return None
    try:
        fields = parse_fields(message[HEADER:])
    except ProtocolError:
        return None
    kind = message[:1]
    ours = tag_of(rewrite, index) is not None
    if dict(fields).get(b"d") == _FEDERATED and ours:
        return build_fields(kind, _federated_fields(fields, rewrite, index))
    turned = [(code, _typed_position(rewrite, text) if code == b"P" else text) for code, text in fields]
    if message[0] == _ERROR:
        reads = tag_of(rewrite, index) in _ROWS
        turned = with_hint(turned, ours=ours, predicts=rewrite.predicts(index), reads=reads)
    return build_fields(kind, turned) if turned != fields else None


def is_farewell(notice: bytes) -> bool:
    """Whether the server says that it ends the connection, as by a WARNING at an immediate shutdown."""
    return _FAREWELL.search(notice, HEADER) is not None


def retag(message: bytes, tag: str | None) -> bytes | None:
    """Put the tag of the statement that was typed where the server says CALL, or SELECT for one of rows."""
    said = message[HEADER:]
    if tag is None or not (said == b"CALL\0" or (tag in _ROWS and said.startswith(b"SELECT "))):
        return None
    return build_message(b"C", tag.encode() + b"\0")


def tag_of(rewrite: Rewrite, index: int) -> str | None:
    """Return the tag of statement `index`, None where the server's own is right."""
    return rewrite.tags[index] if index < len(rewrite.tags) else None


def _federated_fields(fields: Fields, rewrite: Rewrite, index: int) -> Fields:
    """Turn what `federated.execute` raised into what the server's own parser would say.

    PL/pgSQL cannot set a position, so it comes as `position=<n>` in the column field; the context would
    name the procedure that the user never called.
    """
    found = _POSITION.fullmatch(dict(fields).get(b"c", b""))
    kept = [(code, text) for code, text in fields if code not in (b"c", b"d", b"W", b"P")]
    if found and int(found[1]) > 0:
        at = rewrite.statement_position(index, int(found[1]))
        before_file = next((i for i, (code, _) in enumerate(kept) if code in (b"F", b"L", b"R")), len(kept))
        kept.insert(before_file, (b"P", str(at).encode()))
    return kept


def _typed_position(rewrite: Rewrite, text: bytes) -> bytes:
    return str(rewrite.original_position(int(text))).encode() if text.isdigit() else text
