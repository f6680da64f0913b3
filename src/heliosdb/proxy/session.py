"""The conversation of one client with its server: what is rewritten, and how answers are turned back. No I/O.

What always holds: every message that concerns no federated statement goes through byte for byte, both ways;
a message is rewritten in place, never split, added or dropped; and an answer is changed only if it is the
answer to a rewritten statement. To know that, `queue` mirrors the order in which the server will answer:
one entry per client message that gets an answer, taken off when the answer's last message passes. What a
prepared statement or portal name stands for is settled at that moment too: it follows what the server did,
not what was asked.

Nearly all traffic concerns nothing federated. A read of it that is known again (`layouts`) has the effect on
the queue that it had before; another is skimmed (`skimming`) as far as it needs no more, and the walk goes on
from there.
"""

from __future__ import annotations

from collections import deque

from heliosdb.proxy.answers import is_farewell, retag, tag_of, turn_back
from heliosdb.proxy.awaited import Awaited
from heliosdb.proxy.counting import count_error, count_rewrite
from heliosdb.proxy.following import Following, awaited_of
from heliosdb.proxy.kinds import (
    CLIENT_WATCHED,
    COMPLETE,
    COPY_BOTH,
    COPY_ENDS,
    COPY_IN,
    ENDED_BY_READY,
    ENDS,
    ERROR,
    EXECUTE,
    KEY_DATA,
    NAMED_KINDS,
    NOT_SYNCS,
    NOTICE,
    PARAMETER_STATUS,
    PARSE,
    PLAIN,
    QUERY,
    READY,
    SERVER_WATCHED,
    SYNC,
    TERMINATE,
    TEXTS,
)
from heliosdb.proxy.layouts import Known
from heliosdb.proxy.names import as_compared
from heliosdb.proxy.parameters import Parameters
from heliosdb.proxy.rewriting import Rewrite, TextRewriter
from heliosdb.proxy.skimming import skim_client, skim_server
from heliosdb.proxy.wire import (
    HEADER,
    MessageStream,
    NotYetError,
    build_message,
    read_names,
)

MAX_TEXT_MESSAGE = 1 << 20  # a Query or Parse message above this many bytes is not looked at
MAX_AT_ONCE = 8  # new texts of one read that are worked out in the loop
NAMES_PREFIX = 1024  # bytes of a message that must hold the names at its start
CODE_PREFIX = 128  # bytes of an error or notice that must hold its SQLSTATE


class ClientSession:
    """Feed it what each side sent; it returns what the other side is to get.

    A text that takes long, or one of too many at a time, is not rewritten at once: `wanted` is that text
    then, and what the client said from there on is held back until `resume` is given the outcome.
    """

    __slots__ = (
        "_answers", "_astray", "_client", "_copy_ends", "_copying_in", "_doubt", "_farewell", "_following",
        "_found", "_known", "_loose", "_may_concern", "_named", "_parameters", "_quiet", "_requests",
        "_rewriter", "_rewriting", "_server", "_skipping", "_spoken", "_streaming", "_worked_out",
        "answered", "backend_key", "queue", "terminated", "transaction_status", "wanted",
    )  # fmt: skip

    def __init__(self, rewriter: TextRewriter, *, rewriting: bool = True, known: Known | None = None) -> None:
        self._rewriter = rewriter
        self._may_concern = rewriter.may_concern
        self._known = known = known or Known()
        self._requests, self._answers = known.requests, known.answers
        self._rewriting = rewriting
        self.queue: deque[Awaited] = deque()
        self._following = Following()
        self._named = False  # names are followed, for a rewritten statement may have one
        # Nothing in the queue is rewritten or the end of copy data, no names are followed, nothing streams.
        self._quiet = True
        self._skipping = False  # the server discards everything until Sync
        self._copying_in = False  # the first in the queue makes the server read copy data and ignore Sync
        self._copy_ends = False  # of what it copies the end was sent: Syncs after that are not ignored
        self._loose = False  # a copy failed: Syncs at the front of the queue may have been ignored in it
        self._streaming = False  # both sides send copy data, which has no end of its own
        self._farewell = False  # the server's last notice said that it ends the connection
        self._spoken = False  # something was answered since the last ReadyForQuery
        self._doubt: Awaited | None = None  # until this is gone, nothing is rewritten
        self._astray = False  # what is said in doubt may be executed, or skipped with all up to a Sync
        self._parameters = Parameters()
        self._client = MessageStream(CLIENT_WATCHED, self._watch_client, self._see_client, self._skim_client)
        self._server = MessageStream(SERVER_WATCHED, self._watch_server, self._see_server, self._skim_server)
        self.transaction_status = b""  # of the last ReadyForQuery: I, T or E
        self.answered = 0  # requests that ended with ReadyForQuery
        self.terminated = False  # the client said good-bye
        self.wanted: str | None = None
        self._found: tuple[str, Rewrite | None] | None = None  # the outcome for a text that was wanted
        self._worked_out = 0  # texts of this read that were worked out in the loop
        self.backend_key: tuple[int, bytes] | None = None

    def from_client(self, data: bytes) -> bytes:
        """Take bytes of the client, return the bytes for the server."""
        client = self._client
        if self._quiet and client.whole:
            known = self._requests.get(len(data))
            if known is not None and known.read(data) == known.heads:
                if not known.has_text or not self._may_concern(data):
                    self.queue.extend(known.awaited)
                    return data
            elif self._known.learns(data):
                self._known.learn_request(data)
        return client.feed(data)

    def from_server(self, data: bytes) -> bytes:
        """Take bytes of the server, return the bytes for the client."""
        server, queue = self._server, self.queue
        if not (self._quiet and server.whole):
            return server.feed(data)
        known = self._answers.get(len(data))
        if known is not None and known.awaited == queue and known.read(data) == known.heads:
            queue.clear()
            self.transaction_status = known.status
            self.answered += 1
            self._spoken = False
            server.last_kind = 0
            return data
        if not self._known.learns(data):
            return server.feed(data)
        answered = queue.copy()
        passed = server.feed(data)
        if not queue:
            self._known.learn_answer(data, answered)
        return passed

    def resume(self, text: str, outcome: Rewrite | None) -> bytes:
        """Take the outcome for the text that was wanted, return the bytes for the server."""
        self.wanted, self._found = None, (text, outcome)
        return self.from_client(b"")

    def client_ended(self) -> bytes:
        """Return what was held back of the client's bytes, because no more will come.

        A text whose outcome is not known yet must not go on as it is: it is lost, with all behind it.
        """
        return self._client.flush() if self.wanted is None else b""

    def server_ended(self) -> bytes:
        """Return what was held back of the server's bytes, because no more will come."""
        return self._server.flush()

    @property
    def idle(self) -> bool:
        """Whether no answer is outstanding and no transaction is open."""
        if self._skipping or self.transaction_status != b"I":
            return False
        return not self.queue or (self._loose and all(each.kind == SYNC for each in self.queue))

    @property
    def outstanding(self) -> int:
        """How many messages of the client are remembered because they are not answered yet."""
        return len(self.queue)

    @property
    def may_add_error(self) -> bool:
        """Whether the server's end is unexpected, unexplained, and can be explained to the client."""
        last = self._server.last_kind
        explained = last == ERROR or (last == NOTICE and self._farewell)
        return self._server.at_boundary and not (self.terminated or self._client.blind or explained)

    @property
    def started(self) -> bool:
        """Whether the client is past its authentication."""
        return self.transaction_status != b""

    @property
    def may_be_ended(self) -> bool:
        """Whether an error would cost the client nothing now: it is idle, not in yet, or only streams."""
        return self._server.at_boundary and (self.idle or self._streaming or not self.started)

    # What concerns nothing federated

    def _skim_client(self, data: bytes, at: int) -> int:
        self._worked_out = 0
        return skim_client(data, at, self.queue, self._may_concern) if self._quiet else at

    def _skim_server(self, data: bytes, at: int) -> int:
        if not self._quiet:
            return at
        end, said, readies, ready = skim_server(data, at, self.queue)
        if said:
            self._spoken = said != READY
        if readies:
            self.answered += readies
            self.transaction_status = data[ready + HEADER : ready + HEADER + 1]
        return end

    # Client to server

    def _watch_client(self, kind: int, total: int) -> int:
        if kind in TEXTS and total <= MAX_TEXT_MESSAGE:
            return total
        if self._named and kind in NAMED_KINDS:
            return min(total, NAMES_PREFIX)
        return HEADER

    def _see_client(self, kind: int, head: bytes) -> bytes | None:
        if kind == TERMINATE:
            self.terminated = True
            return None
        if self._skipping:
            if kind != SYNC:
                return None
            self._skipping = False
        if self._doubt is not None and kind not in COPY_ENDS:
            self._see_in_doubt(kind)
        if kind == QUERY:
            return self._see_query(head)
        if kind == PARSE:
            return self._see_parse(head)
        if kind in COPY_ENDS:
            self._see_copy_end(kind)
        elif kind != SYNC or not self._copying_in or self._copy_ends or self.queue[-1].kind != SYNC:
            # One Sync stands for all in a row that the server ignores as long as it copies.
            self.queue.append(awaited_of(kind, head) if self._named else PLAIN[kind])
        return None

    def _see_copy_end(self, kind: int) -> None:
        """Note the end of copy data, and the doubt where the server will skip to a Sync if the copy fails.

        A Sync before it may be one that the copy ignored, or the one that the server is to skip to.
        """
        queue = self.queue
        at = len(queue) - 1
        while at >= 0 and queue[at].kind == SYNC:
            at -= 1
        mark = PLAIN[kind]
        if self._doubt is None and 0 <= at < len(queue) - 1 and queue[at].kind == EXECUTE:
            self._doubt = mark = Awaited(kind)
        queue.append(mark)
        self._quiet, self._copy_ends = False, True
        self._drop_idle_marks()

    def _see_in_doubt(self, kind: int) -> None:
        """A Sync ends the doubt, unless something was said in it."""
        if kind != SYNC:
            self._astray = True
        elif not self._astray:
            self._doubt = None

    def _see_query(self, head: bytes) -> bytes | None:
        rewrite = self._rewrite(head[HEADER:-1]) if head.endswith(b"\0") else None
        if rewrite is None:
            self.queue.append(PLAIN[QUERY])
            return None
        self._quiet = False
        count_rewrite(rewrite)
        self.queue.append(Awaited(QUERY, rewrite=rewrite))
        return build_message(b"Q", rewrite.text.encode() + b"\0")

    def _see_parse(self, head: bytes) -> bytes | None:
        looked_at = self._named or self._rewriter.may_concern(head)
        names = read_names(head[HEADER:], 2) if looked_at else None
        rewrite = self._rewrite(names[1]) if names else None
        if names is None or not (rewrite or self._named):
            self.queue.append(awaited_of(PARSE, head) if self._named else PLAIN[PARSE])
            return None
        self.queue.append(Awaited(PARSE, name=as_compared(names[0]), rewrite=rewrite))
        if rewrite is None:
            return None
        self._named, self._quiet = True, False
        count_rewrite(rewrite)
        rest = head[HEADER + len(names[0]) + len(names[1]) + 2 :]
        return build_message(b"P", names[0] + b"\0" + rewrite.text.encode() + b"\0" + rest)

    def _rewrite(self, raw: bytes) -> Rewrite | None:
        """Rewrite a statement's text; None on any doubt."""
        if not self._rewriting or not self._parameters.read_as_utf8(raw):
            return None
        if self._doubt is not None or (b"\\" in raw and (self.queue or self._spoken)):
            # What is being answered may change what a backslash means, and with it where strings end.
            return None
        if not self._rewriter.may_concern(raw) or b"\0" in raw:
            return None
        try:
            return self._outcome(raw.decode())
        except UnicodeDecodeError:
            return None

    def _outcome(self, text: str) -> Rewrite | None:
        """Return what a text becomes, from the thread that works on long ones where that is needed."""
        rewriter = self._rewriter
        if self._found is not None and self._found[0] == text:
            (_, outcome), self._found = self._found, None
            rewriter.learn(text, outcome)
            return outcome
        if rewriter.knows(text):
            return rewriter.rewrite(text)
        if self._worked_out < MAX_AT_ONCE and not rewriter.takes_long(text):
            self._worked_out += 1
            return rewriter.rewrite(text)
        self.wanted = text
        raise NotYetError

    # Server to client

    def _watch_server(self, kind: int, total: int) -> int:
        if kind == READY:
            return min(total, HEADER + 1)
        if kind in (PARAMETER_STATUS, KEY_DATA):
            return total if total <= NAMES_PREFIX else HEADER
        if kind == COMPLETE and self._named:
            return min(total, NAMES_PREFIX)
        if kind in (COMPLETE, ERROR, NOTICE) and self._current() is not None and total <= MAX_TEXT_MESSAGE:
            return total
        return min(total, CODE_PREFIX) if kind == NOTICE else HEADER

    def _see_server(self, kind: int, head: bytes) -> bytes | None:
        if kind in NOT_SYNCS:
            self._spoken = True
            if self._loose:
                self._drop_syncs()
        if kind == READY:
            self._ready(head)
        elif kind == ERROR:
            return self._error(head)
        elif kind == NOTICE:
            self._farewell = is_farewell(head)
            current = self._current()
            return turn_back(head, *current) if current else None
        elif kind == COMPLETE and self.queue and self.queue[0].kind == QUERY:
            if self._named:
                self._following.executed(head)
            changed = self._query_part_complete(head)
            self._copied(1)
            return changed
        elif kind == COPY_IN:
            self._copy_in()
        elif kind == COPY_BOTH:
            self._streaming, self._quiet = True, False
        elif kind == PARAMETER_STATUS:
            self._parameter_status(head)
        elif kind == KEY_DATA:
            self.backend_key = (int.from_bytes(head[5:9], "big"), head[9:])
        elif self.queue and self.queue[0].kind == ENDS.get(kind):
            return self._answered(kind, head)
        return None

    def _ready(self, head: bytes) -> None:
        self.transaction_status = head[HEADER : HEADER + 1]
        self.answered += 1
        # After a failed copy one that answers nothing else is a Sync's, be it in the queue or not.
        if self._spoken or not self._loose or (self.queue and self.queue[0].kind == SYNC):
            while self.queue and self.queue.popleft().kind not in ENDED_BY_READY:
                pass
        self._spoken = self._skipping = self._copying_in = self._streaming = False
        self._drop_idle_marks()
        if self.transaction_status == b"I":
            self._following.transaction_ended()
        if not self.queue:
            self._loose, self._doubt, self._astray = False, None, False
            self._named = bool(self._following)
            self._quiet = not self._named

    def _error(self, head: bytes) -> bytes | None:
        current = self._current()
        changed = turn_back(head, *current) if current else None
        if current:
            count_error(head)
        if self.queue and self.queue[0].kind not in ENDED_BY_READY:
            while self.queue and self.queue[0].kind != SYNC:
                self.queue.popleft()
            self._skipping = not self.queue
            self._quiet = self._quiet and not self._skipping
        if self._copying_in:
            self._copy_failed()
        return changed

    def _query_part_complete(self, head: bytes) -> bytes | None:
        query = self.queue[0]
        if query.rewrite is None:
            return None
        tag = tag_of(query.rewrite, query.index)
        query.index += 1
        return retag(head, tag)

    def _answered(self, kind: int, head: bytes) -> bytes | None:
        """Take the first outstanding message off the queue and let it have its effect on the names."""
        changed = None
        if self._named and kind == COMPLETE:
            current = self._current()
            changed = retag(head, tag_of(current[0], 0)) if current else None
            self._following.executed(head)
        done = self.queue.popleft()
        self._copied(0)
        self._drop_idle_marks()
        self._following.done(done)
        return changed

    def _copy_in(self) -> None:
        """The server reads copy data for the first in the queue; which Syncs it ignores shows at its end."""
        queue = self.queue
        if not queue:
            return
        self._copying_in, self._quiet = True, False
        head = queue.popleft()
        while len(queue) > 1 and queue[0].kind == queue[1].kind == SYNC:
            queue.popleft()
        self._copy_ends = any(each.kind in COPY_ENDS for each in queue)
        queue.appendleft(head)

    def _copied(self, at: int) -> None:
        """The copy came to its end: all Syncs before that, from `at` in the queue on, were ignored."""
        if not self._copying_in:
            return
        self._copying_in = False
        queue, kept = self.queue, [self.queue.popleft() for _ in range(at)]
        while queue and queue[0].kind == SYNC:
            kept.append(queue.popleft())
        if queue and queue[0].kind in COPY_ENDS:
            self._drop_mark()
            del kept[at:]
        queue.extendleft(reversed(kept))

    def _copy_failed(self) -> None:
        """Any number of the Syncs sent by now were ignored; the others will be answered."""
        self._copying_in, self._loose = False, True
        if self._astray:
            # Whether the server executes or skips what was said in doubt cannot be told: leave all alone.
            self._rewriting = False
            self.queue.clear()
            self._following.clear()
        elif len(self.queue) == 1 and self.queue[0].kind == SYNC:
            self._doubt = self.queue[0]

    def _drop_syncs(self) -> None:
        while self.queue and self.queue[0].kind == SYNC:
            self.queue.popleft()
            self._drop_idle_marks()

    def _drop_idle_marks(self) -> None:
        """Forget ends of copy data that reach the server when it is not copying: it ignores them."""
        while self.queue and self.queue[0].kind in COPY_ENDS:
            self._drop_mark()

    def _drop_mark(self) -> None:
        if self.queue.popleft() is self._doubt:
            self._doubt, self._astray = None, False

    def _parameter_status(self, head: bytes) -> None:
        names = read_names(head[HEADER:], 2)
        if names:
            self._parameters.note(names[0], names[1])

    # Turning answers back

    def _current(self) -> tuple[Rewrite, int] | None:
        """Return the rewrite that the server is answering now and the number of its statement."""
        if not self.queue:
            return None
        first = self.queue[0]
        if self._loose:
            past = (each for each in self.queue if each.kind != SYNC and each.kind not in COPY_ENDS)
            first = next(past, first)
        rewrite = first.rewrite
        if rewrite is None and self._named:
            rewrite = self._following.stands_for(first)
        return (rewrite, first.index) if rewrite is not None else None
