"""What the names of a session's prepared statements and portals stand for, as far as that is ours.

What always holds: a name stands for what the server has made of it, not for what was asked; where it cannot
be known what a name became, none stands for anything of ours.
"""

from __future__ import annotations

from heliosdb.proxy.awaited import Awaited
from heliosdb.proxy.kinds import (
    BIND,
    CLOSE,
    DESCRIBE,
    EXECUTE,
    NAMED_KINDS,
    PARSE,
    PLAIN,
    RENAMING,
    UNKNOWN,
)
from heliosdb.proxy.names import Names, as_compared
from heliosdb.proxy.rewriting import Rewrite
from heliosdb.proxy.wire import HEADER, read_names


def awaited_of(kind: int, head: bytes) -> Awaited:
    """Return what to remember of a client's message, with the names that `head`, its beginning, holds."""
    if kind not in NAMED_KINDS:
        return PLAIN[kind]
    body = head[HEADER:]
    at = 1 if kind in (DESCRIBE, CLOSE) else 0
    names = read_names(body[at:], 2 if kind == BIND else 1)
    if names is None:
        return UNKNOWN[kind]
    of_portal = body[:1] == b"P" if at else kind != PARSE
    source = as_compared(names[1]) if kind == BIND else None
    return Awaited(kind, name=as_compared(names[0]), source=source, of_portal=of_portal)


class Following:
    """The rewritten statements of a session by the names that they have; true if there is one."""

    __slots__ = ("_portals", "_statements")

    def __init__(self) -> None:
        self._statements = Names()
        self._portals = Names()

    def __bool__(self) -> bool:
        return bool(self._statements or self._portals)

    def stands_for(self, said: Awaited) -> Rewrite | None:
        """Return what a message that names a statement or portal is about."""
        if said.kind == BIND:
            return self._statements.get(said.source)
        if said.kind in (EXECUTE, DESCRIBE):
            return (self._portals if said.of_portal else self._statements).get(said.name)
        return None

    def done(self, said: Awaited) -> None:
        """Let a message that was answered have its effect."""
        if said is UNKNOWN.get(said.kind):
            self.clear()
        elif said.name is None:
            pass
        elif said.kind == PARSE:
            self._statements.put(said.name, said.rewrite)
        elif said.kind == BIND:
            self._portals.put(said.name, self._statements.get(said.source))
        elif said.kind == CLOSE:
            (self._portals if said.of_portal else self._statements).put(said.name, None)

    def executed(self, complete: bytes) -> None:
        """Forget what names stood for where a statement, by its CommandComplete, may have changed that."""
        if complete[HEADER:] in RENAMING:
            self._statements.clear()

    def transaction_ended(self) -> None:
        """Forget the portals, as the server does."""
        self._portals.clear()

    def clear(self) -> None:
        """Forget all."""
        self._statements.clear()
        self._portals.clear()
