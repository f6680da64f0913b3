"""What a session remembers of a client's message until the server has answered it.

What always holds: names are as the server compares them; of the message's text only the rewrite is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.proxy.rewriting import Rewrite


@dataclass(slots=True, eq=False)  # one is not another, whatever they say
class Awaited:
    """A client message whose answer is outstanding.

    `name` is the statement (Parse, Describe S, Close S) or portal (Bind, Execute, Describe P, Close P),
    `source` the statement that a Bind binds; `index` counts the statements of a Query that were answered
    already.
    """

    kind: int
    name: bytes | None = None
    source: bytes | None = None
    of_portal: bool = False
    rewrite: Rewrite | None = None
    index: int = 0
