"""The conversation: which messages are rewritten, and which answers are turned back.

Each test plays a transcript: what the client sends, what the server answers, what each side then gets.
"""

from __future__ import annotations

import struct

import pytest

from heliosdb.proxy.names import MAX_CHARACTERS, Names
from heliosdb.proxy.rewriting import Rewriter
from heliosdb.proxy.session import MAX_TEXT_MESSAGE, ClientSession
from heliosdb.proxy.wire import build_message
from tests.unit.proxy.session_talk import (
    BOUND,
    CALLED,
    CLOSED,
    IDLE,
    LONG,
    NO_DATA,
    PARSED,
    STATEMENT,
    SYNC,
    TAG,
    Talk,
    bind,
    close,
    describe,
    done,
    error,
    execute,
    parse,
    query,
    status,
)

# Simple queries


def test_a_federated_query_becomes_a_call_and_its_tag_comes_back(talk):
    assert talk.client(query(STATEMENT)) == query(CALLED)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE


def test_an_ordinary_call_keeps_its_tag(talk):
    assert talk.client(query("CALL p()")) == query("CALL p()")
    assert talk.server(done(b"CALL"), IDLE) == done(b"CALL") + IDLE


def test_several_statements_stay_one_message_and_each_gets_its_own_tag(talk):
    sent = talk.client(query(f"CALL p(); {STATEMENT}; SELECT 1; CREATE FEDERATED MODEL m"))
    assert sent.count(b"Q") == 1
    answers = [done(b"CALL"), done(b"CALL"), done(b"SELECT 1"), done(b"CALL"), IDLE]
    expected = [done(b"CALL"), done(TAG), done(b"SELECT 1"), done(b"CREATE FEDERATED MODEL"), IDLE]
    assert [talk.server(answer) for answer in answers] == expected


def test_a_tag_that_is_not_call_is_never_replaced(talk):
    talk.client(query(STATEMENT))
    assert talk.server(done(b"DO"), IDLE) == done(b"DO") + IDLE


def test_settings_that_leave_doubt_leave_the_text_alone(rewriter):
    talk = Talk(rewriter, conforming=b"off")
    assert talk.client(query(STATEMENT)) == query(STATEMENT)
    assert talk.client(parse(b"", STATEMENT)) == parse(b"", STATEMENT)


@pytest.mark.parametrize("encoding", [b"LATIN1", b"SQL_ASCII", b"SJIS", b"BIG5", b"JOHAB", b"WIN1252"])
def test_ascii_is_the_same_text_in_every_encoding_and_nothing_else_is(rewriter, encoding):
    talk = Talk(rewriter, encoding)
    assert talk.client(query(STATEMENT)) == query(CALLED)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE
    for other in (STATEMENT.encode() + b" -- \xe4", STATEMENT.encode() + " -- \xe4".encode()):
        assert talk.client(query(other)) == query(other)
        assert talk.client(parse(b"", other)) == parse(b"", other)


def test_a_changed_setting_is_followed(talk):
    text = f"{STATEMENT} -- \xe4"
    assert talk.client(query(text)) != query(text)
    talk.server(done(b"CALL"), IDLE)
    talk.client(query("SET client_encoding TO latin1"))
    talk.server(status(b"client_encoding", b"LATIN1"), done(b"SET"), IDLE)
    assert talk.client(query(text)) == query(text)


@pytest.mark.parametrize("text", [STATEMENT.encode() + b" \xff", STATEMENT.encode() + b"\0 x", b""])
def test_text_that_is_not_text_goes_through(talk, text):
    assert talk.client(query(text)) == query(text)


def test_a_query_without_its_terminator_goes_through(talk):
    message = build_message(b"Q", STATEMENT.encode())
    assert talk.client(message) == message


def test_before_the_server_has_told_its_settings_nothing_is_rewritten(rewriter):
    session = ClientSession(rewriter)
    assert session.from_client(query(STATEMENT)) == query(STATEMENT)


def test_a_replication_session_is_never_rewritten(rewriter):
    session = ClientSession(rewriter, rewriting=False)
    session.from_server(status(b"client_encoding", b"UTF8") + status(b"standard_conforming_strings", b"on"))
    assert session.from_client(query(STATEMENT)) == query(STATEMENT)


def test_a_failing_rewriter_leaves_the_text_alone():
    def fail(text: str):
        raise RecursionError

    talk = Talk(Rewriter(lambda raw: True, fail))
    assert talk.client(query(STATEMENT)) == query(STATEMENT)
    assert talk.server(done(b"CALL"), IDLE) == done(b"CALL") + IDLE


def test_a_text_is_rewritten_once_and_then_remembered(rewriter):
    texts = []

    def rewrite(text: str):
        texts.append(text)
        return rewriter.rewrite(text)

    talk = Talk(Rewriter(rewriter.may_concern, rewrite))
    first, second = talk.client(query(STATEMENT)), talk.client(query(STATEMENT))
    assert first == second
    assert texts == [STATEMENT]


def test_the_rewriter_counts_what_it_finds_in_its_cache_and_what_it_changes(rewriter):
    counted = Rewriter(rewriter.may_concern, rewriter.rewrite)
    talk = Talk(counted)
    talk.client(query(STATEMENT), query(STATEMENT), query("SELECT 'FEDERATED'"), query("SELECT 1"))
    assert (counted.hits, counted.misses, counted.rewrites, counted.entries) == (1, 2, 2, 2)
    talk.client(query(LONG))
    talk.session.resume(LONG, counted.begin(LONG).result())
    assert (counted.hits, counted.misses, counted.rewrites, counted.entries) == (1, 3, 3, 2)


@pytest.mark.parametrize("close_it", [close(b"S", b"s"), query("DISCARD ALL")], ids=["closed", "forgotten"])
def test_ordinary_statements_pass_as_before_once_a_rewritten_one_is_gone(talk, close_it):
    talk.client(parse(b"s", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(close_it, SYNC)
    talk.server(CLOSED if close_it[:1] == b"C" else done(b"DISCARD ALL") + IDLE, IDLE)
    talk.client(parse(b"s", "CALL p()"), bind(b"", b"s"), execute(b""), SYNC, query(STATEMENT))
    out = talk.server(PARSED, BOUND, done(b"CALL"), IDLE, done(b"CALL"), IDLE)
    assert out == PARSED + BOUND + done(b"CALL") + IDLE + done(TAG) + IDLE


def test_a_large_query_streams_through_unseen(talk):
    message = query(STATEMENT + " " * MAX_TEXT_MESSAGE)
    assert talk.client(message[:100]) == message[:100]
    assert talk.client(message[100:]) == message[100:]
    assert talk.server(done(b"CALL"), IDLE) == done(b"CALL") + IDLE


# Extended protocol


def test_a_prepared_statement_is_rewritten_and_each_execution_gets_the_tag(talk):
    first = [parse(b"s", STATEMENT), bind(b"", b"s"), describe(b"P", b""), execute(b""), SYNC]
    assert talk.client(*first) == parse(b"s", CALLED) + b"".join(first[1:])
    assert talk.server(PARSED, BOUND, NO_DATA, done(b"CALL"), IDLE).endswith(done(TAG) + IDLE)
    again = [bind(b"p", b"s"), execute(b"p"), SYNC]
    assert talk.client(*again) == b"".join(again)
    assert talk.server(BOUND, done(b"CALL"), IDLE) == BOUND + done(TAG) + IDLE


def test_parameter_types_behind_the_text_are_kept(talk):
    rest = struct.pack("!HI", 1, 23)
    assert talk.client(parse(b"", STATEMENT, rest)) == parse(b"", CALLED, rest)


def test_a_name_taken_over_by_another_statement_loses_the_tag(talk):
    talk.client(parse(b"", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(parse(b"", "CALL p()"), bind(b"", b""), execute(b""), SYNC)
    assert talk.server(PARSED, BOUND, done(b"CALL"), IDLE).endswith(done(b"CALL") + IDLE)


def test_a_name_keeps_its_statement_where_the_server_refuses_a_second_one(talk):
    talk.client(parse(b"s", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(parse(b"s", "CALL p()"), SYNC)
    talk.server(error(), IDLE)
    talk.client(bind(b"", b"s"), execute(b""), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE).endswith(done(TAG) + IDLE)


def test_close_forgets_a_statement(talk):
    talk.client(parse(b"s", STATEMENT), close(b"S", b"s"), parse(b"s", "CALL p()"), SYNC)
    talk.server(PARSED, CLOSED, PARSED, IDLE)
    talk.client(bind(b"", b"s"), execute(b""), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE).endswith(done(b"CALL") + IDLE)


def test_a_pipeline_of_mixed_statements_gives_each_its_own_tag(talk):
    texts = ["SELECT 1", STATEMENT, "CALL p()", "CREATE FEDERATED MODEL m"]
    talk.client(*(m for text in texts for m in (parse(b"", text), bind(b"", b""), execute(b""))), SYNC)
    tags = [b"SELECT 1", b"CALL", b"CALL", b"CALL"]
    out = talk.server(*(m for tag in tags for m in (PARSED, BOUND, done(tag))), IDLE)
    expected = [b"SELECT 1", TAG, b"CALL", b"CREATE FEDERATED MODEL"]
    assert out == b"".join(m for tag in expected for m in (PARSED, BOUND, done(tag))) + IDLE


def test_after_an_error_everything_up_to_sync_is_left_out_even_a_query(talk):
    talk.client(parse(b"", "bad"), bind(b"", b""), execute(b""), query(STATEMENT), SYNC, query(STATEMENT))
    assert talk.server(error(), IDLE, done(b"CALL"), IDLE).endswith(IDLE + done(TAG) + IDLE)


def test_messages_that_arrive_after_the_error_are_left_out_too(talk):
    talk.client(parse(b"", "bad"))
    talk.server(error())
    talk.client(parse(b"", STATEMENT), bind(b"", b""), execute(b""))
    talk.client(SYNC)
    talk.server(IDLE)
    talk.client(query("CALL p()"))
    assert talk.server(done(b"CALL"), IDLE) == done(b"CALL") + IDLE
    assert talk.session.idle


def test_a_failed_commit_at_sync_keeps_the_conversation_in_step(talk):
    talk.client(parse(b"", STATEMENT), bind(b"", b""), execute(b""), SYNC, query(STATEMENT))
    talk.server(PARSED, BOUND, done(b"CALL"), error(), IDLE)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE


def test_a_suspended_portal_and_an_empty_query_end_an_execution(talk):
    talk.client(parse(b"s", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(execute(b"a"), execute(b"b"), bind(b"c", b"s"), execute(b"c"), SYNC)
    out = talk.server(build_message(b"s"), build_message(b"I"), BOUND, done(b"CALL"), IDLE)
    assert out.endswith(done(TAG) + IDLE)


def test_a_function_call_ends_with_ready(talk):
    talk.client(build_message(b"F", bytes(10)), query(STATEMENT))
    out = talk.server(build_message(b"V", bytes(4)), IDLE, done(b"CALL"), IDLE)
    assert out.endswith(done(TAG) + IDLE)


def test_a_portal_ends_with_its_transaction(talk):
    talk.client(parse(b"s", STATEMENT), bind(b"p", b"s"), SYNC)
    talk.server(PARSED, BOUND, build_message(b"Z", b"T"))
    talk.client(execute(b"p"), SYNC)
    assert talk.server(done(b"CALL"), IDLE) == done(TAG) + IDLE
    talk.client(execute(b"p"), SYNC)
    assert talk.server(done(b"CALL"), IDLE) == done(b"CALL") + IDLE


LONG_NAME = b"a" * 63


def test_names_are_compared_as_the_server_compares_them(talk):
    talk.client(parse(LONG_NAME + b"X", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(bind(b"", LONG_NAME + b"Y"), execute(b""), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE) == BOUND + done(TAG) + IDLE
    talk.client(close(b"S", LONG_NAME + b"Y"), parse(LONG_NAME + b"Z", "CALL p()"), SYNC)
    talk.server(CLOSED, PARSED, IDLE)
    talk.client(bind(b"", LONG_NAME + b"X"), execute(b""), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE) == BOUND + done(b"CALL") + IDLE


def test_a_bind_whose_names_are_not_all_there_stands_for_nothing_of_ours(talk):
    talk.client(parse(b"", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(bind(b"p" * 2000, b"other"), execute(b"p" * 2000), SYNC)
    message = error(P=b"30")
    assert talk.server(message, IDLE) == message + IDLE
    talk.client(bind(b"p" * 2000, b"other"), execute(b"p" * 2000), SYNC)
    assert talk.server(BOUND, done(b"CALL"), IDLE) == BOUND + done(b"CALL") + IDLE


def test_a_text_too_long_to_be_looked_at_takes_its_name_over(talk):
    talk.client(parse(b"", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    talk.client(parse(b"", "CALL p() " + " " * MAX_TEXT_MESSAGE), bind(b"", b""), execute(b""), SYNC)
    assert talk.server(PARSED, BOUND, done(b"CALL"), IDLE).endswith(done(b"CALL") + IDLE)


@pytest.mark.parametrize("tag", [b"DISCARD ALL", b"DEALLOCATE ALL", b"DEALLOCATE", b"PREPARE"])
@pytest.mark.parametrize("simple", [True, False])
def test_a_name_that_sql_may_have_given_away_stands_for_nothing_of_ours(talk, tag, simple):
    talk.client(parse(b"s", STATEMENT), SYNC)
    talk.server(PARSED, IDLE)
    if simple:
        talk.client(query("whatever"))
        talk.server(done(tag), IDLE)
    else:
        talk.client(parse(b"", "whatever"), bind(b"", b""), execute(b""), SYNC)
        talk.server(PARSED, BOUND, done(tag), IDLE)
    talk.client(bind(b"", b"s"), execute(b""), SYNC)
    message = error(P=b"30")
    assert talk.server(message, IDLE) == message + IDLE


def test_what_is_remembered_of_names_is_bounded(rewriter):
    names, one = Names(), rewriter.rewrite(STATEMENT + " " * (MAX_CHARACTERS // 4))
    for number in range(10):
        names.put(b"%d" % number, one)
    assert [number for number in range(10) if names.get(b"%d" % number)] == [7, 8, 9]
    for number in range(10):
        names.put(b"%d" % number, None)
    assert not names
