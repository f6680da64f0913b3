"""Whether a text may hold something of ours: what is asked before any token is made of it.

What always holds: a text that `rewrite` would change is let through, whatever stands in comments and strings;
the answer takes a few milliseconds for a megabyte.
"""

from __future__ import annotations

import re

from federated_sql.grammar import RULES
from federated_sql.instead import FOREIGN_VERBS
from federated_sql.user_sql import NAMES

_MARK = b"federated"
_CALLED = re.compile(rf"federated(?:{'|'.join(NAMES)})[\w$]*+\"?\s*+(?:\(|/\*|--)".encode())
_WORD_AT_END = re.compile(rb"(?<![\w$\x80-\xff])[a-z]+\Z")
_SPACE = b" \t\n\r\f\v"
_NEAR = 200
"""How far before the word its verb is looked for; white space that goes on for longer is a doubt."""
_LONGEST = 24  # bytes, more than a verb has

_VERBS = (
    frozenset(key[0].encode() for key in RULES) - {b"delete"}
    | {verb.encode() for verb in FOREIGN_VERBS}
    | {b"show"}
)
# What stands between verb and FEDERATED, each with the word before it.
_BETWEEN = {b"from": b"delete", b"replace": b"or"}
# What is quickly seen not to stand behind a verb is most of what prose holds: one space and another word.
_BEHIND = rb"[\t\n\r\f\v/]", rb"\s ", rb"/ ", *(word + b" " for word in (*sorted(_VERBS), *_BETWEEN))
_PLACE = re.compile(
    _MARK + b"(?:" + b"|".join(b"(?<=%s%s)" % (before, _MARK) for before in _BEHIND) + rb")(?![\w$\x80-\xff])"
)


def may_concern(raw: bytes) -> bool:
    """Whether `raw` is worth a `may_be_ours`: the cheap gate for every query."""
    return raw.lower().find(_MARK) >= 0  # which takes half the time of `in`, for few bytes


def may_be_ours(text: str) -> bool:
    """Whether a statement of ours may begin somewhere in `text`, or a function of ours be called."""
    raw = text.encode(errors="surrogatepass").lower()
    return _CALLED.search(raw) is not None or any(
        _begins(raw, found.start()) for found in _PLACE.finditer(raw)
    )


def _begins(raw: bytes, at: int) -> bool:
    """Whether the word at this place may be the FEDERATED behind the verb of a statement."""
    before = _word_before(raw, at)
    if before is None:
        return True
    word, start = before
    if word in _BETWEEN:
        further = _word_before(raw, start)
        return further is None or further[0] == _BETWEEN[word]
    return word in _VERBS


def _word_before(raw: bytes, end: int) -> tuple[bytes, int] | None:
    """Return the word that only white space parts from `end`, b"" for none, and where it begins.

    None on a doubt: a comment may stand between, or there is more white space than is looked at.
    """
    first = max(end - _NEAR, 0)
    near = raw[first:end]
    left = near.rstrip(_SPACE)
    last_line = left[max(left.rfind(b"\n"), left.rfind(b"\r")) + 1 :]
    if left.endswith(b"*/") or (b"--" in last_line and len(left) < len(near)) or (first and not left):
        return None
    tail = left[-_LONGEST:]
    word = _WORD_AT_END.search(tail)
    return (word[0], first + len(left) - len(word[0])) if word else (b"", first)
