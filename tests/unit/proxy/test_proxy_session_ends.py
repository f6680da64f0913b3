"""The conversation as a whole: its state, its end, its fragments, and texts that take long."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.proxy.rewriting import DEAR_TEXT, LONG_TEXT, Rewriter
from heliosdb.proxy.session import MAX_AT_ONCE, ClientSession
from heliosdb.proxy.wire import build_fields, build_message
from tests.unit.proxy.session_talk import (
    CALLED,
    IDLE,
    LONG,
    STATEMENT,
    SYNC,
    TAG,
    Talk,
    bind,
    done,
    error,
    execute,
    parse,
    query,
)

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


def notice(code: bytes) -> bytes:
    """A WARNING as the server words it, its severity first and as long as a translation may be."""
    severity = "ПРЕДУПРЕЖДЕНИЕ".encode()
    return build_fields(b"N", [(b"S", severity), (b"V", b"WARNING"), (b"C", code), (b"M", b"x" * 500)])


@pytest.mark.parametrize(
    ("said", "added"),
    [
        ([notice(b"57P01")], False),  # an immediate shutdown
        ([notice(b"57P02")], False),  # another backend has crashed
        ([notice(b"01000")], True),
        ([notice(b"57P01"), notice(b"01000")], True),
        ([notice(b"57P01"), done(b"SELECT 1"), IDLE], True),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_no_error_is_added_to_the_warning_with_which_the_server_ends(talk, said, added, cut):
    data = b"".join(said)
    pieces = [bytes([byte]) for byte in data] if cut else [data]
    assert b"".join(talk.server(piece) for piece in pieces) == data
    assert talk.session.may_add_error is added


def test_an_error_costs_an_idle_client_nothing_and_a_busy_one_its_work(talk):
    assert talk.session.may_be_ended
    talk.client(query("SELECT 1"))
    assert not talk.session.may_be_ended
    talk.server(done(b"SELECT 1"), IDLE)
    talk.server(build_message(b"A", bytes(20))[:9])
    assert not talk.session.may_be_ended, "it would be inside a message"


def test_before_its_first_answer_a_client_has_nothing_to_lose(rewriter):
    session = ClientSession(rewriter)
    session.from_client(build_message(b"p", b"secret"))
    assert session.may_be_ended
    assert not session.started


@pytest.mark.parametrize("kind", [b"G", b"H"])
def test_a_copy_has_an_end_and_a_stream_of_both_sides_has_none(talk, kind):
    talk.client(query("START_REPLICATION 0/0"))
    talk.server(build_message(kind, b"\0\0\0"), build_message(b"d", b"wal"))
    assert not talk.session.may_be_ended
    talk.server(done(b"COPY 0"), IDLE)
    talk.client(query("START_REPLICATION 0/0"))
    talk.server(build_message(b"W", b"\0\0\0"), build_message(b"d", b"wal"))
    assert talk.session.may_be_ended
    talk.client(build_message(b"c"))
    talk.server(build_message(b"c"), done(b"COPY 0"), IDLE)
    talk.client(query("BASE_BACKUP"))
    assert not talk.session.may_be_ended


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
