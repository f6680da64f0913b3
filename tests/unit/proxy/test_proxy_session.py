"""The conversation: which messages are rewritten, and which answers are turned back.

Each test plays a transcript: what the client sends, what the server answers, what each side then gets.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.proxy.names import MAX_CHARACTERS, Names
from heliosdb.proxy.rewriting import DEAR_TEXT, LONG_TEXT, Rewriter, federated_rewriter
from heliosdb.proxy.session import MAX_AT_ONCE, MAX_TEXT_MESSAGE, ClientSession
from heliosdb.proxy.wire import build_fields, build_message, parse_fields

SYNC = build_message(b"S")
IDLE = build_message(b"Z", b"I")
STATEMENT = "CREATE FEDERATED WORKSPACE w"
CALLED = b"CALL federated.execute('CREATE FEDERATED WORKSPACE w')"
TAG = b"CREATE FEDERATED WORKSPACE"


def query(text: str | bytes) -> bytes:
    return build_message(b"Q", (text.encode() if isinstance(text, str) else text) + b"\0")


def parse(name: bytes, text: str | bytes, rest: bytes = b"\0\0") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return build_message(b"P", name + b"\0" + raw + b"\0" + rest)


def bind(portal: bytes, statement: bytes, rest: bytes = bytes(6)) -> bytes:
    return build_message(b"B", portal + b"\0" + statement + b"\0" + rest)


def execute(portal: bytes) -> bytes:
    return build_message(b"E", portal + b"\0" + bytes(4))


def describe(kind: bytes, name: bytes) -> bytes:
    return build_message(b"D", kind + name + b"\0")


def close(kind: bytes, name: bytes) -> bytes:
    return build_message(b"C", kind + name + b"\0")


def done(tag: bytes) -> bytes:
    return build_message(b"C", tag + b"\0")


def error(**fields: bytes) -> bytes:
    """`c_` and `d_` are the lower-case codes c and d; W, P, M … as they are."""
    pairs = [(b"S", b"ERROR"), (b"C", b"42601"), (b"M", b"no")]
    return build_fields(b"E", pairs + [(name[0].encode(), text) for name, text in fields.items()])


def status(name: bytes, value: bytes) -> bytes:
    return build_message(b"S", name + b"\0" + value + b"\0")


PARSED, BOUND, CLOSED, NO_DATA = (build_message(kind) for kind in (b"1", b"2", b"3", b"n"))
COPY_IN = build_message(b"G", b"\0\0\0")


class Talk:
    """A session past its start, and the bytes of each direction joined."""

    def __init__(self, rewriter: Rewriter, encoding: bytes = b"UTF8", conforming: bytes = b"on") -> None:
        self.session = ClientSession(rewriter)
        self.server(status(b"client_encoding", encoding))
        self.server(status(b"standard_conforming_strings", conforming))
        self.server(IDLE)

    def client(self, *messages: bytes) -> bytes:
        return self.session.from_client(b"".join(messages))

    def server(self, *messages: bytes) -> bytes:
        return self.session.from_server(b"".join(messages))


@pytest.fixture
def talk(rewriter) -> Talk:
    return Talk(rewriter)


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


# COPY


def test_sync_inside_copy_in_is_ignored_as_the_server_ignores_it(talk):
    talk.client(parse(b"", "COPY t FROM STDIN"), bind(b"", b""), execute(b""), SYNC)
    talk.server(PARSED, BOUND, COPY_IN)
    talk.client(build_message(b"d", b"1\n"), SYNC, build_message(b"c"), SYNC, query(STATEMENT))
    assert talk.server(done(b"COPY 1"), IDLE, done(b"CALL"), IDLE).endswith(done(TAG) + IDLE)


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


# Errors


def fields(message: bytes) -> dict[bytes, bytes]:
    return dict(parse_fields(message[5:]))


def test_an_error_of_the_procedure_looks_like_one_of_the_servers_own_parser(talk):
    talk.client(query(f"SELECT 1;  {STATEMENT}"))
    talk.server(done(b"SELECT 1"))
    out = fields(talk.server(error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8", F=b"f.c")))
    assert out == {b"S": b"ERROR", b"C": b"42601", b"M": b"no", b"P": b"19", b"F": b"f.c"}
    assert list(out)[-1] == b"F"


@pytest.mark.parametrize("column", [b"age", b"position=", b"position=0", b"position=99999999999"])
def test_an_error_of_the_procedure_without_a_position_gets_none(talk, column):
    talk.client(query(STATEMENT))
    out = fields(talk.server(error(W=b"PL/pgSQL", d=b"federated_sql", c=column)))
    assert out == {b"S": b"ERROR", b"C": b"42601", b"M": b"no"}


def test_the_same_error_passes_unchanged_where_the_user_called_the_procedure(talk):
    message = error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")
    talk.client(query("CALL federated.execute('x')"))
    assert talk.server(message, IDLE) == message + IDLE


def test_an_error_of_another_statement_in_the_message_keeps_its_fields(talk):
    message = error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")
    talk.client(query(f"CALL federated.execute('x'); {STATEMENT}"))
    assert talk.server(message, IDLE) == message + IDLE


def test_the_servers_own_positions_point_into_what_was_typed(talk):
    typed = f"{STATEMENT}; SELECT x"
    sent = talk.client(query(typed))
    at = sent.index(b"x\0") - 5 + 1
    out = fields(talk.server(error(P=str(at).encode())))
    assert out[b"P"] == str(typed.index("SELECT x") + 8).encode()


def test_positions_of_prepared_statements_are_mapped_at_parse_and_at_execution(talk):
    talk.client(parse(b"s", f" {STATEMENT}"), bind(b"", b"s"), execute(b""), SYNC)
    talk.server(PARSED, BOUND)
    out = fields(talk.server(error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")))
    assert out[b"P"] == b"9"
    talk.server(IDLE)
    talk.client(parse(b"", f" {STATEMENT}"), SYNC)
    assert fields(talk.server(error(P=b"7")))[b"P"] == b"2"


def test_a_notice_with_a_position_is_mapped_too(talk):
    talk.client(query(STATEMENT))
    notice = build_fields(b"N", [(b"S", b"WARNING"), (b"P", b"30")])
    out = talk.server(notice)
    assert out[:1] == b"N"
    assert fields(out)[b"P"] == b"1"


def test_a_malformed_error_passes_unchanged(talk):
    talk.client(query(STATEMENT))
    message = build_message(b"E", b"Sx")
    assert talk.server(message) == message


def test_an_error_out_of_the_blue_passes_unchanged(talk):
    message = error(P=b"3")
    assert talk.server(message) == message


# Hints about errors that come from what was put in the text's place


def server_error(code: bytes, message: bytes, *more: tuple[bytes, bytes]) -> bytes:
    return build_fields(b"E", [(b"S", b"ERROR"), (b"C", code), (b"M", message), *more])


NO_SCHEMA = (b"3F000", b'schema "federated" does not exist')


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (*NO_SCHEMA, b"CREATE EXTENSION heliosdb_federated_learning"),
        (b"3F000", "Schema »federated« existiert nicht".encode(), b"CREATE EXTENSION"),
        (b"42883", b"procedure federated.execute(unknown) does not exist", b"CREATE EXTENSION"),
        (b"42501", b"permission denied for schema federated", b"federated_operator"),
        (b"42501", b"permission denied for procedure execute", b"federated_operator"),
    ],
)
def test_an_error_about_the_call_that_was_put_there_gets_a_hint(talk, code, message, hint):
    talk.client(query(f"SELECT 1;  {STATEMENT}"))
    talk.server(done(b"SELECT 1"))
    out = parse_fields(talk.server(server_error(code, message, (b"P", b"17"), (b"F", b"f.c")))[5:])
    assert [name for name, _ in out] == [b"S", b"C", b"M", b"H", b"P", b"F"]
    known = dict(out)
    assert (known[b"C"], known[b"M"], known[b"P"]) == (code, message, b"12")
    assert hint in known[b"H"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"3F000", b'schema "other" does not exist'),
        (b"42501", b"permission denied for table federated_x"),
        (b"XX000", b"federated"),
    ],
)
def test_any_other_error_of_a_federated_statement_passes_byte_for_byte(talk, code, message):
    talk.client(query(STATEMENT))
    assert talk.server(server_error(code, message)) == server_error(code, message)


def test_a_notice_gets_no_hint(talk):
    talk.client(query(STATEMENT))
    notice = b"N" + server_error(*NO_SCHEMA)[1:]
    assert talk.server(notice) == notice


def test_the_same_error_of_a_statement_as_typed_passes_byte_for_byte(talk):
    talk.client(query("CALL federated.execute('x')"))
    assert talk.server(server_error(*NO_SCHEMA)) == server_error(*NO_SCHEMA)
    talk.server(IDLE)
    talk.client(query(f"CALL federated.execute('x'); {STATEMENT}"))
    assert talk.server(server_error(*NO_SCHEMA)) == server_error(*NO_SCHEMA)


class TestPredictions:
    TEXT = "SELECT federated_model.x(1); SELECT federated_predict('m', age => 1)"
    ABSENT = (b"42883", b"function federated_model.m(age => integer) does not exist")

    @pytest.fixture
    def talk(self) -> Talk:
        return Talk(federated_rewriter())

    @pytest.mark.parametrize(
        ("code", "message", "hint"),
        [
            (b"3F000", b'schema "federated_model" does not exist', b"CREATE EXTENSION"),
            (b"42501", b"permission denied for schema federated_model", b"federated_analyst"),
            (*ABSENT, b'Is there a model "m", and does it have these features'),
            (b"42883", b"function federated_model.o'x(a => integer) does not exist", b"('o''x', "),
        ],
    )
    def test_an_error_about_the_function_that_was_put_there_gets_a_hint(self, talk, code, message, hint):
        talk.client(query(self.TEXT))
        talk.server(done(b"SELECT 1"))
        out = parse_fields(talk.server(server_error(code, message, (b"H", b"No function matches")))[5:])
        assert [name for name, _ in out] == [b"S", b"C", b"M", b"H"]
        assert hint in dict(out)[b"H"]

    def test_the_same_error_about_a_function_that_was_typed_passes_byte_for_byte(self, talk):
        talk.client(query(self.TEXT))
        assert talk.server(server_error(*self.ABSENT)) == server_error(*self.ABSENT)


# The whole


def test_the_backend_key_is_known(talk):
    talk.server(build_message(b"K", struct.pack("!I", 42) + b"k" * 32))
    assert talk.session.backend_key == (42, b"k" * 32)


def test_idle_is_told_apart_from_busy_and_from_an_open_transaction(talk):
    assert talk.session.idle
    talk.client(query("BEGIN"))
    assert not talk.session.idle
    talk.server(done(b"BEGIN"), build_message(b"Z", b"T"))
    assert not talk.session.idle


def test_an_error_may_be_added_only_at_a_boundary_and_not_after_the_servers_own(talk):
    assert talk.session.may_add_error
    talk.server(build_message(b"D", b"row")[:-1])
    assert not talk.session.may_add_error
    talk.server(b"w", error())
    assert not talk.session.may_add_error


kinds = st.sampled_from(list(b"QPBDECHSFdcfXp"))
plain = st.lists(st.tuples(kinds, st.binary(max_size=12)), max_size=12)
answers = st.lists(
    st.tuples(st.sampled_from(list(b"123nTtDCIsEZNASVGWHdcRK")), st.binary(max_size=12)), max_size=20
)


@given(
    st.lists(st.one_of(plain.map(lambda m: ("client", m)), answers.map(lambda m: ("server", m))), max_size=6)
)
def test_whatever_is_said_without_a_federated_statement_passes_byte_for_byte(turns):
    talk = Talk(Rewriter(lambda raw: False, lambda text: pytest.fail("asked to rewrite")))
    for side, said in turns:
        data = b"".join(build_message(bytes([kind]), body) for kind, body in said)
        assert (talk.client if side == "client" else talk.server)(data) == data


@given(st.data())
def test_one_byte_fragments_are_rewritten_the_same(rewriter, data):
    said = data.draw(
        st.lists(
            st.sampled_from([query(STATEMENT), parse(b"s", STATEMENT), bind(b"", b"s"), execute(b""), SYNC]),
            max_size=5,
        )
    )
    whole, cut = Talk(rewriter), Talk(rewriter)
    pieces = b"".join(cut.client(bytes([byte])) for byte in b"".join(said))
    assert pieces == whole.client(*said)


# Long texts, which are worked out beside the loop

LONG = f"{STATEMENT}{' ' * LONG_TEXT}; CALL p()"


def test_a_long_text_is_held_back_with_all_that_follows_until_its_outcome_is_known(talk, rewriter):
    before, after = query("SELECT 1"), parse(b"", STATEMENT)
    assert talk.client(before, query(LONG), after) == before
    assert talk.client(SYNC) == b""
    assert talk.session.wanted == LONG
    changed = rewriter.rewrite(LONG)
    assert talk.session.resume(LONG, changed) == query(changed.text) + parse(b"", CALLED) + SYNC
    assert talk.session.wanted is None
    out = talk.server(done(b"SELECT 1"), IDLE, done(b"CALL"), done(b"CALL"), IDLE)
    assert out == done(b"SELECT 1") + IDLE + done(TAG) + done(b"CALL") + IDLE


def test_several_long_texts_are_wanted_one_after_another(talk, rewriter):
    others = [parse(b"", LONG + str(number)) for number in range(3)]
    assert talk.client(*others) == b""
    for number in range(3):
        text = LONG + str(number)
        assert talk.session.wanted == text
        out = talk.session.resume(text, rewriter.rewrite(text))
        assert out == parse(b"", rewriter.rewrite(text).text)
    assert talk.session.wanted is None


def test_a_long_text_that_turns_out_to_be_nothing_of_ours_passes_as_it_is(talk):
    text = "SELECT 'FEDERATED" + " " * LONG_TEXT + "'"
    assert talk.client(query(text)) == b""
    assert talk.session.resume(text, None) == query(text)
    assert talk.server(done(b"CALL"), IDLE) == done(b"CALL") + IDLE


def test_a_long_text_of_a_client_that_ends_is_lost_with_all_behind_it(talk):
    assert talk.client(query("SELECT 1"), query(LONG), SYNC[:2]) == query("SELECT 1")
    assert talk.session.client_ended() == b""


def test_of_many_new_texts_in_one_read_few_are_worked_out_at_once(rewriter):
    talk = Talk(Rewriter(rewriter.may_concern, rewriter.rewrite))
    texts = [f"{STATEMENT} {number}" for number in range(MAX_AT_ONCE + 2)]
    sent = talk.client(*map(query, texts))
    assert sent.count(b"Q") == MAX_AT_ONCE
    assert talk.session.wanted == texts[MAX_AT_ONCE]
    sent += talk.session.resume(talk.session.wanted, rewriter.rewrite(talk.session.wanted))
    assert (sent.count(b"Q"), talk.session.wanted) == (len(texts), None)
    assert talk.client(*map(query, texts)) == sent


def test_a_dear_text_is_not_worked_out_in_the_loop_unless_it_is_known(rewriter):
    dear = STATEMENT + " " * DEAR_TEXT
    talk = Talk(Rewriter(rewriter.may_concern, rewriter.rewrite, lambda text: text == dear))
    assert talk.client(query(dear)) == b""
    sent = talk.session.resume(dear, rewriter.rewrite(dear))
    assert sent == query(rewriter.rewrite(dear).text)
    assert talk.client(query(dear)) == sent


def test_the_cache_is_bounded_by_what_its_outcomes_take(rewriter):
    large = replace(rewriter.rewrite(STATEMENT), edits=(object(),) * 5000)
    made = Rewriter(lambda raw: True, lambda text: large)
    for number in range(100):
        made.rewrite(str(number))
    assert 10 < made.entries < 20


def test_a_long_text_that_concerns_nothing_of_ours_is_not_held_back(talk):
    message = query("SELECT 1" + " " * LONG_TEXT)
    assert talk.client(message) == message


def test_nothing_is_wanted_of_a_long_text_that_the_server_will_skip(talk):
    talk.client(parse(b"", "bad"))
    talk.server(error())
    assert talk.client(query(LONG)) == query(LONG)
