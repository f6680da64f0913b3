"""Heads and cosignatures as text: one form for the same words, and nothing but them is read."""

from __future__ import annotations

import datetime as dt
import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.audit_entry import AuditEntry, entry_from_json, entry_hash
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.log_check import compare
from heliosdb.domain.merkle import root
from heliosdb.domain.tree_head import TreeHead, Witnessed, parse_head, parse_witnessed

MOMENT = dt.datetime(2026, 3, 4, 12, 0, 0, 5, dt.UTC)
HEAD = TreeHead(WorkspaceName('ünï "w"'), UUID(int=7), 12, b"\xab" * 32, MOMENT)
WITNESSED = Witnessed(b"\xcd" * 32, NodeName("nörd"), MOMENT)
ENTRY = AuditEntry("o", "w", 3, "", "a", "t", "7", "s", "r", "insert", "model", "m", "{}", "ab")


def test_the_text_is_canonical_and_says_what_it_is() -> None:
    text = HEAD.statement()
    assert (
        text
        == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert json.loads(text) == {
        "kind": "tree head",
        "origin": "00000000-0000-0000-0000-000000000007",
        "root_sha256": "ab" * 32,
        "signed_at": "2026-03-04T12:00:00.000005Z",
        "tree_size": 12,
        "workspace": 'ünï "w"',
    }


@given(
    st.builds(
        TreeHead,
        st.text(st.characters(exclude_categories=("Cs",))).map(WorkspaceName),
        st.uuids(),
        st.integers(1, 2**63 - 1),
        st.binary(min_size=32, max_size=32),
        st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC)),
    )
)
def test_what_is_read_back_is_what_was_written(head: TreeHead) -> None:
    assert parse_head(head.statement()) == head


def test_a_cosignature_is_read_back() -> None:
    assert parse_witnessed(WITNESSED.statement()) == WITNESSED


@pytest.mark.parametrize(
    "changed",
    [
        {"tree_size": 0}, {"tree_size": 2**63}, {"tree_size": True}, {"tree_size": 12.0}, {"tree_size": "12"},
        {"origin": "x"}, {"origin": 7}, {"origin": "00000000000000000000000000000007"}, {"root_sha256": "AB" * 32},
        {"root_sha256": "ab" * 31}, {"root_sha256": None}, {"signed_at": "2026-03-04 12:00:00"},
        {"signed_at": "2026-03-04T12:00:00.5Z"}, {"workspace": None}, {"workspace": "\ud800"}, {"kind": "witnessed head"},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_head_with_one_field_of_another_form_is_not_read(changed: dict[str, object]) -> None:
    value = json.loads(HEAD.statement()) | changed
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(FederatedError) as raised:
        parse_head(text)
    assert raised.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"\xff", b"7" * 4000, b"[" * 4000, HEAD.statement() + b" ", b" " + HEAD.statement(),
     HEAD.statement().replace(b",", b", "), WITNESSED.statement(), b'{"kind":"tree head"}'],
)  # fmt: skip
def test_other_text_is_not_read(text: bytes) -> None:
    with pytest.raises(FederatedError):
        parse_head(text)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    for parse in (parse_head, parse_witnessed):
        with pytest.raises(FederatedError):
            parse(text)


def test_an_entry_with_other_fields_is_none() -> None:
    value = ENTRY.to_json()
    assert entry_from_json(value) == ENTRY
    for changed in (value | {"more": ""}, value | {"chain_position": True}, value | {"action": None}, {}):
        with pytest.raises(FederatedError, match="fields of one"):
            entry_from_json(changed)


@pytest.mark.parametrize("name", [name for name in ENTRY.to_json() if name != "hash"])
def test_an_entrys_hash_is_over_each_field(name: str) -> None:
    value = ENTRY.to_json()
    changed = entry_from_json(value | {name: 4 if name == "chain_position" else f"{value[name]}x"})
    assert entry_hash(changed) != entry_hash(ENTRY)


LEAVES = [bytes([number]) * 32 for number in range(9)]


def heads(*sizes: int) -> list[tuple[TreeHead, str]]:
    return [
        (TreeHead(WorkspaceName("w"), UUID(int=1), size, root(LEAVES[:size]), MOMENT), f"head {size}")
        for size in sizes
    ]


@pytest.mark.parametrize(
    ("leaves", "sizes", "broken_at", "words"),
    [
        (LEAVES, (9, 2, 5), None, None),
        (LEAVES, (), None, None),
        (LEAVES[:7], (2, 5, 9), 8, "2 entries at the end, which head 9 has"),
        ([*LEAVES[:3], b"x" * 32, *LEAVES[4:]], (2, 5, 9), 3, "entries 3 to 5 are not what head 5 has"),
        ([*LEAVES[:2], b"x" * 32, *LEAVES[3:]], (2, 3, 9), 3, "entry 3 is not what head 3 has"),
        ([], (2,), 1, "2 entries at the end"),
    ],
)
def test_the_first_fault_of_a_log_is_between_the_heads_that_hold_and_do_not(
    leaves: list[bytes], sizes: tuple[int, ...], broken_at: int | None, words: str | None
) -> None:
    fault = compare(leaves, heads(*sizes))
    assert (None if fault is None else fault.broken_at) == broken_at
    assert words is None or (fault is not None and words in fault.reason)
