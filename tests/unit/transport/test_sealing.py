"""A sealed update opens for the coordinator, as the answer to its own task, unchanged; and in no other case."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.task import TaskKey
from heliosdb.transport.sealing import AtRestKey, SealingKey, UnopenedError, load_or_create_secret, seal_to

KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(3), 0, StepName("train"), NodeName("n"))
TASK = b"t" * 32
PAYLOAD = b"weight and vector"


def test_what_was_sealed_opens() -> None:
    key = SealingKey.generate()
    ephemeral, sealed = seal_to(key.public, PAYLOAD, KEY, TASK)
    assert key.open(sealed, ephemeral, KEY, TASK) == PAYLOAD


def test_the_same_payload_is_never_sealed_to_the_same_bytes() -> None:
    key = SealingKey.generate()
    assert seal_to(key.public, PAYLOAD, KEY, TASK) != seal_to(key.public, PAYLOAD, KEY, TASK)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, workspace=WorkspaceName("v")),
        replace(KEY, run=RunId(UUID(int=2))),
        replace(KEY, round=RoundNumber(4)),
        replace(KEY, exchange=1),
        replace(KEY, step=StepName("evaluate")),
        replace(KEY, node=NodeName("m")),
        # The same numbers and characters, elsewhere.
        replace(KEY, round=RoundNumber(0), exchange=3),
        replace(KEY, workspace=WorkspaceName(""), node=NodeName("wn")),
    ],
)
def test_it_opens_for_no_other_place(other: TaskKey) -> None:
    key = SealingKey.generate()
    ephemeral, sealed = seal_to(key.public, PAYLOAD, KEY, TASK)
    with pytest.raises(UnopenedError):
        key.open(sealed, ephemeral, other, TASK)


def test_it_opens_for_no_other_task_and_no_other_key() -> None:
    key = SealingKey.generate()
    ephemeral, sealed = seal_to(key.public, PAYLOAD, KEY, TASK)
    with pytest.raises(UnopenedError):
        key.open(sealed, ephemeral, KEY, b"u" * 32)
    with pytest.raises(UnopenedError):
        SealingKey.generate().open(sealed, ephemeral, KEY, TASK)


@pytest.mark.parametrize("position", [0, 10, -1])
def test_a_changed_byte_keeps_it_shut(position: int) -> None:
    key = SealingKey.generate()
    ephemeral, sealed = seal_to(key.public, PAYLOAD, KEY, TASK)
    changed = bytearray(sealed)
    changed[position] ^= 1
    with pytest.raises(UnopenedError):
        key.open(bytes(changed), ephemeral, KEY, TASK)
    with pytest.raises(UnopenedError):
        key.open(sealed[:-1], ephemeral, KEY, TASK)


def test_a_degenerate_public_key_is_refused_on_both_sides() -> None:
    zero = b"\0" * 32
    with pytest.raises(FederatedError) as raised:
        seal_to(zero, PAYLOAD, KEY, TASK)
    assert raised.value.code is ErrorCode.IDENTITY
    with pytest.raises(UnopenedError):
        SealingKey.generate().open(b"x" * 40, zero, KEY, TASK)


def test_at_rest_what_belongs_to_one_run_does_not_open_for_another(tmp_path: Path) -> None:
    key = AtRestKey.load_or_create(tmp_path / "key")
    sealed = key.seal(PAYLOAD, about=b"run 1")
    assert AtRestKey.load_or_create(tmp_path / "key").open(sealed, about=b"run 1") == PAYLOAD
    for wrong in (sealed[:-1], b"", sealed[:12]):
        with pytest.raises(UnopenedError):
            key.open(wrong, about=b"run 1")
    with pytest.raises(UnopenedError):
        key.open(sealed, about=b"run 2")


def test_a_key_file_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = load_or_create_secret(path)
    assert len(made) == 32
    assert load_or_create_secret(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "mode", "message"), [(b"k" * 32, 0o640, "read by others"), (b"k", 0o600, "32")]
)
def test_a_key_file_that_is_open_or_broken_is_refused_and_kept(
    tmp_path: Path, content: bytes, mode: int, message: str
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(FederatedError, match=message) as raised:
        SealingKey.load_or_create(path)
    assert raised.value.code is ErrorCode.IDENTITY
    assert path.read_bytes() == content


def test_a_key_shows_itself_in_no_text() -> None:
    assert "private" not in repr(SealingKey.generate())
    assert repr(AtRestKey(b"k" * 32)) == "AtRestKey()"
