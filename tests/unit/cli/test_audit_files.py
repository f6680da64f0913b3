"""An exported log and a node's heads as files: whole or not read, and never written over another."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from heliosdb.catalog.audit_tree import StoredCosignature, StoredHead, StoredStub
from heliosdb.catalog.witnessed_heads import Conflict, WitnessedHead
from heliosdb.cli.audit_files import heads_lines, log_lines, read_heads, read_log, write_new
from heliosdb.domain.audit_entry import AuditEntry, entry_hash
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.retention import EmptiedEntries, Stub
from heliosdb.domain.tree_head import SignedStatement

EPOCH = datetime(2026, 1, 31, tzinfo=UTC)
SIGNED = SignedStatement("ünï".encode(), b"\1\2")
BLANK = AuditEntry(str(UUID(int=1)), "w", 1, "", "a", "t", "7", "s", "r", "insert", "model", "m\n", "{}", "")
ENTRY = replace(BLANK, hash=entry_hash(BLANK))
HEADS = [StoredHead(UUID(int=1), 1, bytes(32), SIGNED, b"pem")]
COSIGNATURES = [StoredCosignature(UUID(int=1), 1, NodeName("n"), SIGNED, b"pem")]
STUB = StoredStub(
    Stub(1, "audit", WorkspaceName("w"), 1, EPOCH, EPOCH, EmptiedEntries(UUID(int=1), 1, 1, bytes(32))),
    SIGNED,
    b"pem",
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    write_new(path, log_lines(WorkspaceName("w"), HEADS, COSIGNATURES, [STUB], [ENTRY]))
    return path


def test_a_log_is_read_back_and_is_its_owners_alone(log: Path) -> None:
    read = read_log(log)
    assert (read.workspace, read.entries) == ("w", (ENTRY,))
    assert [one.signed for one in read.heads] == [SIGNED]
    assert [(one.node, one.signed, one.certificate) for one in read.cosignatures] == [("n", SIGNED, b"pem")]
    assert [(one.signed, one.certificate) for one in read.stubs] == [(SIGNED, b"pem")]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_heads_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "north.heads"
    held = WitnessedHead(SIGNED, b"pem", NodeName("n"), SIGNED)
    write_new(path, heads_lines([held], [Conflict("forked", SIGNED, b"one", SIGNED, b"other")]))
    read = read_heads(path)
    assert (read.name, len(read.heads), read.heads[0].signed) == ("north.heads", 1, SIGNED)
    assert [one.certificate for one in read.conflicts[0]] == [b"one", b"other"]
    with pytest.raises(FederatedError, match="not a file of the kind"):
        read_log(path)


def test_no_file_is_written_over(log: Path, tmp_path: Path) -> None:
    before = log.read_bytes()
    with pytest.raises(FederatedError) as raised:
        write_new(log, ["x"])
    assert raised.value.code is ErrorCode.DUPLICATE_OBJECT
    assert log.read_bytes() == before
    with pytest.raises(FederatedError, match="cannot write"):
        write_new(tmp_path / "nowhere" / "log", ["x"])


def test_a_file_that_cannot_be_finished_is_not_left_behind(tmp_path: Path) -> None:
    def fails() -> Iterator[str]:
        yield "x"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_new(tmp_path / "log", fails())
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_was_cut_off_or_added_to_is_not_read(log: Path) -> None:
    lines = log.read_text().splitlines()
    for changed in (lines[:-1], lines[:2] + lines[3:], [*lines, lines[1]], lines[:1], []):
        log.write_text("\n".join(changed))
        with pytest.raises(FederatedError) as raised:
            read_log(log)
        assert raised.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"kind": "entry"}', '{"kind": "head", "statement": 7}', "[" * 100_000, '{"no": 1}']
)
def test_a_line_that_is_none_is_an_error(log: Path, line: str) -> None:
    lines = log.read_text().splitlines()
    end = json.dumps({"kind": "end", "lines": len(lines) - 1})
    log.write_text("\n".join([*lines[:-1], line, end]))
    with pytest.raises(FederatedError) as raised:
        read_log(log)
    assert raised.value.code is ErrorCode.INVALID_VALUE


def test_a_newer_version_is_not_guessed_at(log: Path) -> None:
    log.write_text(log.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(FederatedError) as raised:
        read_log(log)
    assert raised.value.code is ErrorCode.NOT_SUPPORTED
