"""Whatever a client says, in whatever pieces: the conversation fails never, and reads as if the server itself
understood the language.

`make fuzz SESSIONS=100000` is the long run.
"""

from __future__ import annotations

import sys

from hypothesis import given

from heliosdb.proxy.layouts import Known
from heliosdb.proxy.rewriting import Rewriter
from heliosdb.proxy.session import ClientSession
from heliosdb.proxy.wire import build_message
from tests.support.model_server import ModelServer
from tests.support.wire_fuzz import FEDERATED, ORDINARY, Said, damaged, fuzz, said

START = b"".join(
    build_message(b"S", name + b"\0" + value + b"\0")
    for name, value in ((b"client_encoding", b"UTF8"), (b"standard_conforming_strings", b"on"))
) + build_message(b"Z", b"I")


class Talk:
    """A session between a client and a server that knows only the procedure.

    It knows every read again that can be; `states` is what it made of each read, for the proxy to act by.
    """

    def __init__(self, rewriter: Rewriter, known: Known | None = None) -> None:
        self.rewriter = rewriter
        self.session = ClientSession(rewriter, known=known or Known(one_in=1))
        self.states: list[tuple[object, ...]] = []
        self.session.from_server(START)
        self.server = ModelServer(native=False)
        self.sent = self.answers = self.got = b""

    def say(self, piece: bytes) -> None:
        self._send(self.session.from_client(piece))

    def resume(self) -> None:
        """Give the session the outcomes that it waits for."""
        while (text := self.session.wanted) is not None:
            self._send(self.session.resume(text, self.rewriter.rewrite(text)))

    def read(self, cuts: tuple[int, ...]) -> None:
        """Let the client have what the server answered, in pieces."""
        for piece in Said((self.answers,), cuts).pieces():
            self.got += self.session.from_server(piece)
            self._note()
        self.answers = b""

    def end(self) -> None:
        self.resume()
        self._send(self.session.client_ended())
        self.read(())
        self.got += self.session.server_ended()

    def _send(self, data: bytes) -> None:
        self.sent += data
        self.answers += self.server.feed(data)
        self._note()

    def _note(self) -> None:
        session = self.session
        waits = session.outstanding, session.idle, session.may_be_ended, session.may_add_error
        self.states.append((*waits, session.answered, session.transaction_status, session.wanted))


def play(
    rewriter: Rewriter, conversation: Said, data: bytes | None = None, known: Known | None = None
) -> Talk:
    talk = Talk(rewriter, known)
    for number, piece in enumerate(conversation.pieces(data)):
        talk.say(piece)
        if conversation.reads_after(number + 32):
            talk.resume()
        if conversation.reads_after(number):
            talk.read(conversation.cuts[number:])
    talk.end()
    return talk


def native(data: bytes) -> bytes:
    return ModelServer(native=True).feed(data)


@fuzz(150, 0.4)
@given(said(ORDINARY + FEDERATED))
def test_the_client_sees_what_a_server_that_knows_the_language_would_say(rewriter, conversation):
    talk = play(rewriter, conversation)
    assert talk.got == native(conversation.data)


@fuzz(60, 0.1)
@given(said(ORDINARY))
def test_without_a_federated_statement_the_server_gets_the_clients_bytes(rewriter, conversation):
    talk = play(rewriter, conversation)
    assert talk.sent == conversation.data
    assert talk.got == native(conversation.data)


@fuzz(150, 0.4)
@given(damaged(ORDINARY + FEDERATED))
def test_damaged_bytes_break_nothing_and_ordinary_ones_pass_as_they_are(rewriter, given_bytes):
    conversation, data = given_bytes
    talk = play(rewriter, conversation, data)
    if b"FEDERATED" not in data:
        assert talk.sent == data
        assert talk.got == native(data)


@fuzz(60, 0.1)
@given(said(ORDINARY + FEDERATED))
def test_the_same_where_every_text_is_long_enough_to_be_worked_out_elsewhere(
    rewriter, monkeypatch, conversation
):
    monkeypatch.setattr("heliosdb.proxy.session.MAX_AT_ONCE", 0)
    assert play(rewriter, conversation).got == native(conversation.data)


@fuzz(100, 0.2)
@given(said(ORDINARY + FEDERATED), said(ORDINARY), damaged(ORDINARY))
def test_reads_that_are_known_again_come_to_what_the_walk_makes_of_them(rewriter, first, second, third):
    known = Known(one_in=1)
    damaged_conversation, data = third
    for conversation, changed in ((first, None), (second, None), (damaged_conversation, data), (first, None)):
        by_layout = play(rewriter, conversation, changed, known)
        by_walk = play(rewriter, conversation, changed, Known(one_in=sys.maxsize))
        assert by_layout.sent == by_walk.sent
        assert by_layout.got == by_walk.got
        assert by_layout.states == by_walk.states
