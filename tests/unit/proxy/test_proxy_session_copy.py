"""The conversation around copy data, and where the meaning of a backslash may change."""

from __future__ import annotations

import pytest

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
    done,
    error,
    execute,
    fields,
    parse,
    query,
)

# COPY


def test_sync_inside_copy_in_is_ignored_as_the_server_ignores_it(talk):
    talk.client(parse(b"", "COPY t FROM STDIN"), bind(b"", b""), execute(b""), SYNC)
    talk.server(PARSED, BOUND, COPY_IN)
    talk.client(build_message(b"d", b"1\n"), SYNC, build_message(b"c"), SYNC, query(STATEMENT))
    assert talk.server(done(b"COPY 1"), IDLE, done(b"CALL"), IDLE).endswith(done(TAG) + IDLE)


def test_each_sync_after_the_end_of_copy_data_is_answered_though_the_copy_is_not_yet(talk):
    talk.client(parse(b"", "COPY t FROM STDIN"), bind(b"", b""), execute(b""))
    talk.server(PARSED, BOUND, COPY_IN)
    talk.client(
        SYNC,
        build_message(b"d", b"1\n"),
        SYNC,
        build_message(b"c"),
        SYNC,
        SYNC,
        query("CALL p()"),
        query(STATEMENT),
    )
    out = talk.server(done(b"COPY 1"), IDLE, IDLE, done(b"CALL"), IDLE, done(b"CALL"), IDLE)
    assert out.endswith(done(b"CALL") + IDLE + done(TAG) + IDLE)


def test_copy_data_sent_ahead_of_the_servers_answer_stays_in_step(talk):
    talk.client(parse(b"", "COPY t FROM STDIN"), bind(b"", b""), execute(b""), SYNC)
    talk.client(build_message(b"d", b"1\n"), build_message(b"c"), SYNC, query(STATEMENT))
    out = talk.server(PARSED, BOUND, COPY_IN, done(b"COPY 1"), IDLE, done(b"CALL"), IDLE)
    assert out.endswith(done(TAG) + IDLE)


def test_two_copies_in_one_query_and_a_federated_statement_between(talk):
    talk.client(query(f"COPY t FROM STDIN; {STATEMENT}; COPY t FROM STDIN"))
    assert talk.server(COPY_IN) == COPY_IN
    talk.client(build_message(b"d", b"1\n"), build_message(b"c"))
    assert talk.server(done(b"COPY 1"), done(b"CALL"), COPY_IN) == done(b"COPY 1") + done(TAG) + COPY_IN
    talk.client(build_message(b"f", b"why\0"))
    talk.server(error(), IDLE)
    talk.client(query(STATEMENT))
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE


def test_copy_in_that_the_server_breaks_off_keeps_the_conversation_in_step(talk):
    talk.client(parse(b"", "COPY t FROM STDIN"), bind(b"", b""), execute(b""), SYNC)
    talk.server(PARSED, BOUND, COPY_IN)
    talk.client(build_message(b"d", b"bad\n"))
    talk.server(error())
    talk.client(build_message(b"d", b"1\n"), build_message(b"c"), SYNC)
    talk.server(IDLE)
    talk.client(query(STATEMENT))
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE


def copying(talk: Talk, *, simple: bool = False) -> None:
    """Bring the session to where the server reads copy data."""
    if simple:
        talk.client(query("COPY t FROM STDIN"))
        talk.server(COPY_IN)
    else:
        talk.client(parse(b"", "COPY t FROM STDIN"), bind(b"", b""), execute(b""), SYNC)
        talk.server(PARSED, BOUND, COPY_IN)


DATA, COPY_DONE = build_message(b"d", b"bad\n"), build_message(b"c")


@pytest.mark.parametrize("ignored", [0, 1])
@pytest.mark.parametrize("simple", [True, False])
def test_bad_data_with_a_sync_in_them_keeps_tags_where_they_belong(talk, simple, ignored):
    copying(talk, simple=simple)
    talk.client(DATA, SYNC, COPY_DONE, SYNC, query("CALL mine()"), query(STATEMENT))
    after = [error(), *[IDLE] * (1 + simple + 1 - ignored)]
    assert talk.server(*after) == b"".join(after)
    out = talk.server(done(b"CALL"), IDLE, done(b"CALL"), IDLE)
    assert out == done(b"CALL") + IDLE + done(TAG) + IDLE
    assert talk.session.idle


def test_a_sync_that_ends_a_failed_copy_ends_the_skipping_too(talk):
    copying(talk)
    talk.client(DATA, SYNC)
    talk.server(error(), IDLE)
    assert talk.session.idle
    assert talk.client(query(STATEMENT)) == query(CALLED)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE


def test_the_end_of_a_request_ends_the_skipping_in_any_case(talk):
    talk.client(parse(b"", "bad"))
    talk.server(error(), IDLE)
    assert talk.session.idle
    assert talk.client(query(STATEMENT)) == query(CALLED)


def test_an_error_after_a_failed_copy_is_turned_back_for_its_own_statement(talk):
    copying(talk)
    talk.client(DATA, COPY_DONE, SYNC)
    talk.server(error(), IDLE)
    assert talk.session.idle
    talk.client(query(STATEMENT))
    message = error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")
    assert fields(talk.server(message, IDLE)[: -len(IDLE)])[b"P"] == b"8"
    assert talk.session.idle


def test_nothing_is_rewritten_where_a_failed_copy_would_have_the_server_skip_it(talk):
    copying(talk)
    said = [DATA, SYNC, COPY_DONE, query(STATEMENT), query("CALL mine()"), SYNC, query(STATEMENT)]
    assert talk.client(*said) == b"".join(said)
    answers = [error(), IDLE, error(), IDLE, done(b"CALL"), IDLE, IDLE, error(), IDLE]
    assert talk.server(*answers) == b"".join(answers)
    assert talk.client(query(STATEMENT)) == query(STATEMENT)


def test_what_is_said_behind_a_copy_without_sync_is_rewritten_again_once_it_is_settled(talk):
    copying(talk)
    talk.client(COPY_DONE, query(STATEMENT))
    talk.server(done(b"COPY 1"), error(), IDLE)
    assert talk.client(query(STATEMENT)) == query(CALLED)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE
    assert talk.session.idle


def test_syncs_inside_copy_data_take_no_memory(talk):
    copying(talk)
    for _ in range(100):
        talk.client(SYNC * 100)
    assert talk.session.outstanding < 10
    talk.client(COPY_DONE, SYNC)
    talk.server(done(b"COPY 1"), IDLE)
    assert talk.session.outstanding == 0


# Strings


BACKSLASH = f"SELECT 'it\\'; {STATEMENT}; --'"


def test_a_backslash_is_left_alone_while_what_it_means_may_change(talk):
    off = "SET standard_conforming_strings=off"
    assert talk.client(query(off), query(BACKSLASH)) == query(off) + query(BACKSLASH)
    talk.server(done(b"SET"), IDLE, done(b"SELECT 1"), IDLE)
    assert talk.client(query(BACKSLASH)) != query(BACKSLASH)
    talk.server(done(b"SELECT 1"), done(b"CALL"), IDLE)
    talk.client(parse(b"", off), bind(b"", b""), execute(b""), build_message(b"H"))
    talk.server(PARSED, BOUND, done(b"SET"))
    assert talk.client(query(BACKSLASH)) == query(BACKSLASH)


def test_a_notice_while_nothing_is_going_on_changes_nothing_about_strings(talk):
    talk.server(build_message(b"A", bytes(4) + b"x\0y\0"))
    assert talk.client(query(BACKSLASH)) != query(BACKSLASH)
