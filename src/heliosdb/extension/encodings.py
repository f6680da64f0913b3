"""Messages in databases that are not in UTF-8: what their encoding cannot hold is written otherwise.

What always holds: a message in ASCII, and one for a database that takes any bytes, is left as it is.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

_TAKES_ALL = frozenset({"UTF8", "SQL_ASCII"})
_SPELLED = str.maketrans({"…": "...", "ε": "epsilon", "δ": "delta", "÷": "/", "×": "x"})


def in_encoding(message: str, encoding: Callable[[], str]) -> str:
    """Return the message as the server's encoding, asked for only where it matters, can hold it."""
    if message.isascii() or (name := encoding()) in _TAKES_ALL:
        return message
    codec = _codec(name)
    return message.translate(_SPELLED).encode(codec, "replace").decode(codec)


def _codec(name: str) -> str:
    """Return Python's name of an encoding of PostgreSQL's; ASCII where it knows none."""
    try:
        return codecs.lookup(name.lower().replace("win", "cp").replace("koi8", "koi8_")).name
    except LookupError:
        return "ascii"
