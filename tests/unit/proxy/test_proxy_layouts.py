"""Reads known again by their headers: which are, which never may be, and that nothing of ours slips through."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest

from heliosdb.proxy.kinds import BIND, DESCRIBE, EXECUTE, PLAIN, QUERY
from heliosdb.proxy.kinds import SYNC as SYNC_KIND
from heliosdb.proxy.layouts import MAX_MESSAGES, MAX_READ, Answer, Known, Layout, Request
from heliosdb.proxy.wire import build_message
from tests.unit.proxy.session_talk import (
    BOUND,
    CALLED,
    COPY_IN,
    IDLE,
    PARSED,
    STATEMENT,
    SYNC,
    TAG,
    Talk,
    bind,
    describe,
    done,
    error,
    execute,
    parse,
    query,
    status,
)

IN_TRANSACTION = build_message(b"Z", b"T")
ROW = build_message(b"D", b"\0\1\0\0\0\1" + b"7")
FAREWELL = error(C=b"57P01").replace(b"E", b"N", 1)
ANSWER = ROW + done(b"SELECT 1") + IDLE
OTHER = " " * (len(STATEMENT) - 8) + "SELECT 1"  # as long as a statement of ours


def taken(known: Known) -> list[bytes]:
    """The reads that are taken for known ones from here on, by what is known now."""
    reads: list[bytes] = []

    def noting(each: Request | Answer) -> Callable[[bytes], tuple[int, ...]]:
        def read(data: bytes) -> tuple[int, ...]:
            heads = each.read(data)
            if heads == each.heads:
                reads.append(data)
            return heads

        return read

    known.requests.update({n: replace(each, read=noting(each)) for n, each in known.requests.items()})
    known.answers.update({n: replace(each, read=noting(each)) for n, each in known.answers.items()})
    return reads


@pytest.fixture
def known() -> Known:
    """Learns every read."""
    return Known(one_in=1)


@pytest.fixture
def talk(rewriter, known) -> Talk:
    """A session that learns every read, and knows a query and its answer."""
    talk = Talk(rewriter, known=known)
    talk.client(query(OTHER))
    talk.server(ANSWER)
    return talk


# What is known again


def test_a_read_is_walked_once_and_known_from_then_on(talk, known):
    reads = taken(known)
    assert talk.client(query(OTHER)) == query(OTHER)
    assert talk.session.outstanding == 1
    assert talk.server(ANSWER) == ANSWER
    assert (talk.session.idle, talk.session.answered) == (True, 3)
    assert reads == [query(OTHER), ANSWER]


def test_what_one_session_learned_another_knows(rewriter, known):
    first, second = Talk(rewriter, known=known), Talk(rewriter, known=known)
    first.client(query(OTHER))
    reads = taken(known)
    assert second.client(query(OTHER)) == query(OTHER)
    assert reads == [query(OTHER)]


def test_values_may_differ_where_their_lengths_do_not(rewriter, known):
    talk = Talk(rewriter, known=known)
    talk.client(bind(b"", b"", b"12345678"), describe(b"P", b""), execute(b""), SYNC)
    reads = taken(known)
    talk.server(BOUND + ROW + done(b"SELECT 1") + IDLE)
    said = bind(b"", b"", b"87654321") + describe(b"P", b"") + execute(b"") + SYNC
    assert talk.client(said) == said
    assert reads == [said]
    assert [each.kind for each in talk.session.queue] == [BIND, DESCRIBE, EXECUTE, SYNC_KIND]


def test_the_status_of_the_transaction_is_what_the_server_says_now(talk):
    talk.client(query(OTHER))
    talk.server(ROW + done(b"SELECT 1") + IN_TRANSACTION)
    assert talk.session.transaction_status == b"T"
    talk.client(query(OTHER))
    talk.server(ANSWER)
    assert talk.session.transaction_status == b"I"


# What must be looked at


def test_a_statement_of_ours_is_found_in_a_read_of_known_layout(talk):
    assert talk.client(query(STATEMENT)) == query(CALLED)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE


def test_while_one_of_ours_is_being_answered_no_read_is_known(talk, known):
    talk.client(query(STATEMENT))
    reads = taken(known)
    talk.client(query(OTHER))
    talk.server(done(b"CALL"), IDLE, ANSWER)
    assert reads == []
    assert talk.session.idle


def test_an_answer_is_known_only_where_it_answers_all_that_was_asked(talk):
    talk.client(query(OTHER))
    talk.client(query(OTHER))
    talk.server(ANSWER)
    assert talk.session.outstanding == 1
    talk.server(ANSWER)
    assert talk.session.idle


@pytest.mark.parametrize("cut", range(1, len(query(STATEMENT))))
def test_a_statement_of_ours_in_two_reads_is_found_though_reads_of_both_lengths_are_known(rewriter, cut):
    talk = Talk(rewriter, known=Known(one_in=1))
    said = query(STATEMENT)
    for length in (cut, len(said) - cut):
        if length > 5:
            talk.client(query(b"x" * (length - 6)))
            talk.server(ANSWER)
    assert talk.client(said[:cut]) + talk.client(said[cut:]) == query(CALLED)


def test_what_looks_like_a_known_read_inside_a_message_is_not_one(talk):
    inside = query(OTHER)
    talk.client(bind(b"", b"", inside)[: -len(inside)])
    talk.client(inside)
    assert [each.kind for each in talk.session.queue] == [BIND]


def test_what_looks_like_a_known_answer_inside_a_row_is_not_one(talk):
    talk.client(query(OTHER))
    row = build_message(b"D", b"\0\1" + len(ANSWER).to_bytes(4, "big") + ANSWER)
    talk.server(row[: -len(ANSWER)])
    talk.server(ANSWER)
    assert talk.session.outstanding == 1


@pytest.mark.parametrize(
    "data",
    [build_message(b"X"), build_message(b"c"), SYNC[:-1], SYNC + b"S", b"S\0\0\0\3", b"\xff" * 9],
    ids=["good-bye", "end of a copy", "cut", "cut behind a message", "no length", "no message"],
)
def test_reads_of_the_client_that_are_never_known(data):
    assert Request.of(data) is None


@pytest.mark.parametrize(
    "data",
    [
        error() + IDLE, FAREWELL + IDLE, status(b"TimeZone", b"UTC") + IDLE, COPY_IN + IDLE,
        build_message(b"W", b"\0\0\0") + IDLE, IDLE + IDLE, IDLE + ROW, ROW, build_message(b"Z"),
        build_message(b"Z", b"IT"), ANSWER[:-1], ANSWER + b"Z",
    ],
)  # fmt: skip
def test_reads_of_the_server_that_are_never_known(data):
    assert Answer.of(data, deque([PLAIN[QUERY]])) is None


def test_what_explains_the_end_of_the_connection_counts_until_something_else_is_said(talk):
    talk.server(FAREWELL)
    assert not talk.session.may_add_error
    talk.client(query(OTHER))
    talk.server(ANSWER)
    assert talk.session.may_add_error


def test_names_of_ours_are_followed_through_reads_of_known_layout(talk):
    talk.client(parse(b"s", STATEMENT), SYNC)
    talk.server(PARSED + IDLE)
    for _ in range(3):
        assert talk.client(query(OTHER)) == query(OTHER)
        talk.server(ANSWER)
    talk.client(bind(b"", b"s"), execute(b""), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE) == BOUND + done(TAG) + IDLE


def test_what_gives_names_away_is_seen_in_an_answer_of_known_layout(rewriter):
    known, discarded = Known(one_in=1), done(b"DISCARD ALL") + IDLE
    other, talk = Talk(rewriter, known=known), Talk(rewriter, known=known)
    other.client(query("DISCARD ALL"))
    other.server(discarded)
    talk.client(parse(b"s", STATEMENT), SYNC)
    talk.server(PARSED + IDLE)
    talk.client(query("DISCARD ALL"))
    talk.server(discarded)
    talk.client(bind(b"", b"s"), execute(b""), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE) == BOUND + done(b"CALL") + IDLE


def test_after_a_known_end_of_an_answer_a_text_with_a_backslash_is_read_again(talk, known):
    talk.client(query(OTHER))
    talk.server(ROW + done(b"SELECT 1"))
    talk.server(IDLE)
    reads = taken(known)
    talk.client(query(OTHER))
    talk.server(ROW + done(b"SELECT 1"))
    talk.server(IDLE)
    assert reads == [query(OTHER), IDLE]
    assert talk.client(query(STATEMENT + "\\")) != query(STATEMENT + "\\")


# Bounds


def test_a_read_of_many_messages_or_many_bytes_is_not_learned():
    assert Layout.of(SYNC * MAX_MESSAGES) is not None
    assert Layout.of(SYNC * (MAX_MESSAGES + 1)) is None
    assert Answer.of(IDLE, deque([PLAIN[QUERY]] * MAX_MESSAGES)) is not None
    assert Answer.of(IDLE, deque([PLAIN[QUERY]] * (MAX_MESSAGES + 1))) is None
    known = Known(one_in=1)
    assert known.learns(bytes(MAX_READ))
    assert not known.learns(bytes(MAX_READ + 1))


def test_one_unknown_read_in_so_many_is_learned():
    known = Known(one_in=3)
    assert [known.learns(SYNC) for _ in range(6)] == [False, False, True] * 2


def test_of_reads_of_one_length_the_last_learned_is_known():
    known = Known()
    known.learn_request(SYNC * 2)
    known.learn_request(build_message(b"H", bytes(5)))
    assert list(known.requests) == [10]
    assert known.requests[10].awaited == ()
