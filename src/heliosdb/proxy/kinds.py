"""The message types that a session looks at, and what each means for its queue.

What always holds: a type that is not here concerns no session, and its messages pass unseen.
Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".
"""

from __future__ import annotations

from heliosdb.proxy.awaited import Awaited

QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE = b"QPBDEC"
FUNCTION_CALL, SYNC, COPY_DONE, COPY_FAIL, TERMINATE = b"FScfX"
ENDED_BY_READY = frozenset({QUERY, FUNCTION_CALL, SYNC})
TEXTS = frozenset({QUERY, PARSE})
COPY_ENDS = frozenset({COPY_DONE, COPY_FAIL})
CLIENT_WATCHED = frozenset(b"QPBDECFScfX")
NAMED_KINDS = frozenset({PARSE, BIND, DESCRIBE, EXECUTE, CLOSE})

READY, ERROR, NOTICE, COMPLETE, EMPTY, COPY_IN, PARAMETER_STATUS, KEY_DATA = b"ZENCIGSK"
READY_LENGTH = 5  # with one byte that says whether a transaction is open
COPY_BOTH = ord("W")
SERVER_WATCHED = frozenset(b"ZENCIGSKVW123nTs")
NOT_SYNCS = frozenset(b"ECIGV123nTs")  # what answers no Sync that comes after a failed copy
ENDS = {
    ord("1"): PARSE,
    ord("2"): BIND,
    ord("3"): CLOSE,
    ord("n"): DESCRIBE,
    ord("T"): DESCRIBE,
    ord("s"): EXECUTE,
    COMPLETE: EXECUTE,
    EMPTY: EXECUTE,
}

PLAIN = {kind: Awaited(kind) for kind in CLIENT_WATCHED}
UNKNOWN = {kind: Awaited(kind) for kind in CLIENT_WATCHED}  # where names should be and are not all there

# Tags of statements that take names away from, or give them to, what no Parse told about.
RENAMING = frozenset({b"DISCARD ALL\0", b"DEALLOCATE ALL\0", b"DEALLOCATE\0", b"PREPARE\0"})

# What skimming makes of each message type. Client: what to put in the queue, None for nothing; types that
# are not there need the walk. Server: the type of the client message whose answer it ends, 0 for none, or
# the walk.
CLIENT_SKIMMED: dict[int, Awaited | None] = {
    **{kind: PLAIN[kind] for kind in CLIENT_WATCHED - COPY_ENDS - {TERMINATE}},
    **dict.fromkeys(b"Hd"),
}
WALK = -1
SERVER_SKIMMED = tuple(
    READY if kind == READY else ENDS.get(kind, WALK if kind in SERVER_WATCHED else 0) for kind in range(256)
)
