"""The codec: framing survives any fragmentation, start-up packets are bounded, nothing unseen is changed."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.proxy.wire import (
    HEADER,
    CancelRequest,
    GssEncRequest,
    MessageStream,
    NotYetError,
    ProtocolError,
    SslRequest,
    StartupMessage,
    build_error,
    build_fields,
    build_message,
    build_startup,
    parse_fields,
    parse_startup,
    read_names,
)

messages = st.lists(st.tuples(st.sampled_from([b"Q", b"d", b"S", b"D"]), st.binary(max_size=40)), max_size=8)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(messages, st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_any_fragmentation_passes_unchanged_and_shows_each_watched_message_whole(sent, cuts):
    seen = []
    stream = MessageStream(
        frozenset(b"QS"), lambda _kind, total: total, lambda kind, head: seen.append((kind, head))
    )
    data = b"".join(build_message(kind, body) for kind, body in sent)
    out = b"".join(stream.feed(piece) for piece in cut(data, cuts))
    assert out == data
    assert seen == [(kind[0], build_message(kind, body)) for kind, body in sent if kind in (b"Q", b"S")]
    assert stream.at_boundary


@given(messages, st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_any_fragmentation_gives_the_same_replacement(sent, cuts):
    def see(_kind: int, head: bytes) -> bytes:
        return build_message(b"Q", b"<" + head[HEADER:] + b">")

    stream = MessageStream(frozenset(b"Q"), lambda _kind, total: total, see)
    data = b"".join(build_message(kind, body) for kind, body in sent)
    expected = b"".join(
        build_message(kind, b"<" + body + b">" if kind == b"Q" else body) for kind, body in sent
    )
    assert b"".join(stream.feed(piece) for piece in cut(data, cuts)) == expected


@given(messages, st.lists(st.integers(min_value=0, max_value=10_000), max_size=12), st.integers(0, 3))
def test_whatever_is_skimmed_first_the_rest_is_seen_as_before(sent, cuts, most):
    """`skim` passes over up to `most` whole messages that are not Q."""

    def skim(data: bytes, at: int) -> int:
        for _ in range(most):
            if len(data) - at < HEADER or data[at : at + 1] == b"Q":
                break
            after = at + 1 + struct.unpack_from("!I", data, at + 1)[0]
            if after > len(data):
                break
            at = after
        return at

    seen = []
    stream = MessageStream(frozenset(b"Q"), lambda _kind, total: total, lambda _k, h: seen.append(h), skim)
    data = b"".join(build_message(kind, body) for kind, body in sent)
    assert b"".join(stream.feed(piece) for piece in cut(data, cuts)) == data
    assert seen == [build_message(kind, body) for kind, body in sent if kind == b"Q"]
    assert stream.at_boundary


def test_a_message_that_cannot_be_dealt_with_yet_is_held_back_and_shown_again():
    shown, ready = [], []

    def see(_kind: int, head: bytes) -> bytes:
        shown.append(head)
        if not ready:
            raise NotYetError
        return build_message(b"Q", b"<" + head[HEADER:] + b">")

    stream = MessageStream(frozenset(b"Q"), lambda _kind, total: total, see)
    before, message, after = build_message(b"d", b"1"), build_message(b"Q", b"2"), build_message(b"d", b"3")
    assert stream.feed(before + message) == before
    assert stream.feed(after) == b""
    ready.append(True)
    assert stream.feed(b"") == build_message(b"Q", b"<2>") + after
    assert shown == [message] * 3


def test_a_message_of_which_only_the_head_is_wanted_is_not_held_back():
    stream = MessageStream(frozenset(b"d"), lambda _kind, _total: HEADER, lambda _kind, _head: None)
    start = build_message(b"d", b"x" * 1000)[:20]
    assert stream.feed(start) == start
    assert not stream.at_boundary


def test_a_wholly_untouched_chunk_is_passed_on_without_a_copy():
    stream = MessageStream(frozenset(b"Q"), lambda _kind, total: total, lambda _kind, _head: None)
    chunk = build_message(b"Q", b"select 1\0") + build_message(b"d", b"x")
    out = stream.feed(chunk)
    assert out is chunk


@pytest.mark.parametrize("length", [0, 3, 0x40000000, 0x80000000, 0xFFFFFFFF])
def test_bytes_with_an_impossible_length_go_through_for_the_other_end_to_judge(length):
    seen = []
    stream = MessageStream(frozenset(b"Q"), lambda _k, total: total, lambda k, h: seen.append((k, h)))
    bad = b"Q" + struct.pack("!I", length) + b"select 1\0"
    more = build_message(b"Q", b"select 2\0")
    assert stream.feed(bad) + stream.feed(more) == bad + more
    assert not seen
    assert not stream.at_boundary


def test_flush_gives_up_what_is_held_back():
    stream = MessageStream(frozenset(b"Q"), lambda _kind, total: total, lambda _kind, _head: None)
    part = build_message(b"Q", b"select 1\0")[:-3]
    assert stream.feed(part) == b""
    assert stream.flush() == part
    assert stream.flush() == b""


def test_start_up_packets_are_told_apart():
    assert parse_startup(struct.pack("!II", 8, 80877103)) == (SslRequest(), 8)
    assert parse_startup(struct.pack("!II", 8, 80877104) + b"rest") == (GssEncRequest(), 8)
    raw = struct.pack("!III", 16, 80877102, 77) + b"abcd"
    assert parse_startup(raw) == (CancelRequest(77, b"abcd", raw), 16)
    packet = build_startup({"user": "u", "database": "d", "_pq_.x": "1"}, minor=2)
    assert parse_startup(packet + b"!") == (
        StartupMessage(3, 2, {"user": "u", "database": "d", "_pq_.x": "1"}, packet),
        len(packet),
    )


def test_a_cancel_key_of_protocol_3_2_may_be_long():
    raw = struct.pack("!III", 12 + 256, 80877102, 77) + b"k" * 256
    found = parse_startup(raw)
    assert found is not None
    assert found[0] == CancelRequest(77, b"k" * 256, raw)


def test_a_start_up_packet_may_come_byte_by_byte():
    packet = build_startup({"user": "u"})
    assert all(parse_startup(packet[:n]) is None for n in range(len(packet)))


@pytest.mark.parametrize("length", [0, 7, 10_001, 0x80000000, 0xFFFFFFFF])
def test_a_start_up_length_out_of_bounds_is_refused_at_once(length):
    with pytest.raises(ProtocolError):
        parse_startup(struct.pack("!I", length))


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("!III", 12, 80877103, 0),
        struct.pack("!III", 12, 80877104, 0),
        struct.pack("!II", 8, 80877102),
        struct.pack("!III", 12, 80877102, 7),
    ],
)
def test_a_special_packet_of_the_wrong_length_is_refused(raw):
    with pytest.raises(ProtocolError):
        parse_startup(raw)


def test_the_database_defaults_to_the_user():
    (packet, _) = parse_startup(build_startup({"user": "ada"}))
    assert packet.database == "ada"


@pytest.mark.parametrize("body", [b"user\0ada", b"user\0", b"user\0ada\0odd\0\0"])
def test_malformed_parameters_are_left_to_the_server(body):
    raw = struct.pack("!II", len(body) + 8, 3 << 16) + body
    (packet, _) = parse_startup(raw)
    assert packet.parameters == {}
    assert packet.raw == raw


def test_error_fields_round_trip():
    message = build_error("08006", "gone", detail="why")
    fields = parse_fields(message[HEADER:])
    assert dict(fields) == {b"S": b"FATAL", b"V": b"FATAL", b"C": b"08006", b"M": b"gone", b"D": b"why"}
    assert build_fields(b"E", fields) == message


def test_an_error_about_a_name_that_is_not_utf8_gives_the_bytes_back():
    body = b"user\0ad\xc7\0\0"
    (packet, _) = parse_startup(struct.pack("!II", len(body) + 8, 3 << 16) + body)
    assert b'"ad\xc7"' in build_error("57P03", f'no "{packet.database}"')


@pytest.mark.parametrize("body", [b"", b"S", b"Sx", b"Sx\0", b"Sx\0\0more"])
def test_malformed_error_fields_are_noticed(body):
    with pytest.raises(ProtocolError):
        parse_fields(body)


def test_names_are_read_only_when_all_there():
    assert read_names(b"a\0\0rest", 2) == [b"a", b""]
    assert read_names(b"a\0b", 2) is None


@pytest.mark.parametrize(
    ("value", "replicates"),
    [("database", True), ("true", True), ("on", True), ("1", True), ("yes", True), ("T", True), ("x", True),
     ("", True), ("false", False), ("F", False), ("off", False), ("OF", False), ("no", False), ("0", False)],
)  # fmt: skip
def test_replication_is_read_as_the_server_reads_it(value, replicates):
    packet, _ = parse_startup(build_startup({"user": "u", "replication": value}))
    assert packet.replicates is replicates


def test_without_a_word_about_it_there_is_no_replication():
    assert not parse_startup(build_startup({"user": "u"}))[0].replicates
