"""Which prepared statements and portals of a session are rewritten ones.

What always holds: a name is what the server makes of it, its first 63 bytes; no more is remembered than
`MAX_NAMED` names and `MAX_CHARACTERS` of text, and a name that is forgotten merely loses its tag.
"""

from __future__ import annotations

from collections import OrderedDict

from heliosdb.proxy.rewriting import Rewrite

MAX_NAMED = 10_000
MAX_CHARACTERS = 8 << 20
MAX_NAME = 63  # bytes of a name that the server compares (NAMEDATALEN)


def as_compared(name: bytes) -> bytes:
    """Return what the server keeps of a name."""
    return name[:MAX_NAME]


class Names:
    """Rewritten statements by name, in the order in which they got their names."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Rewrite] = OrderedDict()
        self._characters = 0

    def __bool__(self) -> bool:
        return bool(self._known)

    def get(self, name: bytes | None) -> Rewrite | None:
        """Return what the name stands for, None where that is unknown or nothing of ours."""
        return None if name is None else self._known.get(name)

    def put(self, name: bytes, rewrite: Rewrite | None) -> None:
        """Let the name stand for this, or for nothing of ours."""
        before = self._known.pop(name, None)
        if before is not None:
            self._characters -= len(before.text)
        if rewrite is None:
            return
        self._known[name] = rewrite
        self._characters += len(rewrite.text)
        while len(self._known) > MAX_NAMED or self._characters > MAX_CHARACTERS:
            _, oldest = self._known.popitem(last=False)
            self._characters -= len(oldest.text)

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._characters = 0
