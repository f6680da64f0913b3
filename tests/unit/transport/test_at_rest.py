"""Root keys: where they come from, what they open, and how another takes their place."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.key_sources import KeySource
from heliosdb.domain.sealed_format import HEADER_BYTES, SealedDigest, sealed_digest
from heliosdb.transport.at_rest import AT_REST_BYTES, AtRestKey, UnopenedError, root_name
from heliosdb.transport.root_keys import FILE_NAME, RootKeys, RootKeySettings

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
ABOUT = b"table\0row"


def test_what_is_sealed_opens_as_its_table_row_and_version_alone() -> None:
    key = AtRestKey(ONE)
    sealed = key.seal(b"plain", about=ABOUT, scope="run\0w", version=3)

    assert len(sealed) == len(b"plain") + AT_REST_BYTES
    assert key.open(sealed, about=ABOUT, version=3) == key.open(sealed, about=ABOUT) == b"plain"
    for about, version in ((b"table\0other", 3), (b"other\0row", None), (ABOUT, 2)):
        with pytest.raises(UnopenedError):
            key.open(sealed, about=about, version=version)
    with pytest.raises(UnopenedError):
        AtRestKey(TWO).open(sealed, about=ABOUT)


@pytest.mark.parametrize("place", [4, 12, 28, 36, 60, HEADER_BYTES, HEADER_BYTES + 12, -1])
def test_a_byte_that_was_changed_is_found_wherever_it_is(place: int) -> None:
    sealed = bytearray(AtRestKey(ONE).seal(b"plain", about=ABOUT, version=1))
    sealed[place] ^= 1
    with pytest.raises(UnopenedError):
        AtRestKey(ONE).open(bytes(sealed), about=ABOUT)


def test_a_header_of_another_row_does_not_open_this_one() -> None:
    key = AtRestKey(ONE)
    one, other = (key.seal(b"plain", about=ABOUT) for _ in range(2))
    with pytest.raises(UnopenedError):
        key.open(one[:HEADER_BYTES] + other[HEADER_BYTES:], about=ABOUT)


def test_another_root_key_changes_the_header_alone_and_the_former_one_is_then_not_needed() -> None:
    before = AtRestKey(ONE)
    sealed = before.seal(b"plain", about=ABOUT, version=7)
    before.use(TWO, [ONE])
    again = before.rewrap(sealed[:HEADER_BYTES]) + sealed[HEADER_BYTES:]

    assert AtRestKey(TWO).open(again, about=ABOUT, version=7) == b"plain"
    assert sealed_digest(again) == sealed_digest(sealed)
    assert before.is_current(again)
    assert not before.is_current(sealed)
    with pytest.raises(UnopenedError):
        AtRestKey(TWO).rewrap(sealed[:HEADER_BYTES])


def test_names_that_follow_from_the_first_key_stay() -> None:
    first, later = AtRestKey(ONE), AtRestKey(TWO, former=[ONE], base=ONE)
    assert first.derive_key(b"a") == later.derive_key(b"a")
    assert first.derive_number(b"a") == later.derive_number(b"a")


def test_what_an_earlier_release_sealed_opens_with_any_key_at_hand() -> None:
    nonce = secrets.token_bytes(12)
    sealed = nonce + AESGCM(ONE).encrypt(nonce, b"plain", ABOUT)
    assert AtRestKey(TWO, former=[ONE]).open(sealed, about=ABOUT) == b"plain"
    with pytest.raises(UnopenedError):
        AtRestKey(TWO).open(sealed, about=ABOUT)


@pytest.mark.parametrize("size", [0, 95, 96, 97, 500])
def test_a_digest_of_pieces_is_that_of_the_whole(size: int) -> None:
    for sealed in (b"HFS2" + bytes(size), bytes(size)):
        for step in (1, 50, 1000):
            found = SealedDigest()
            for place in range(0, len(sealed), step):
                found.update(sealed[place : place + step])
            assert found.digest() == sealed_digest(sealed)


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_read_from_a_file_the_environment_or_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_ROOT_KEY", ONE.hex())
    for content in (ONE, ONE.hex().encode() + b"\n", b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="):
        assert KeySource(file=write(tmp_path / "key", content)).read() == ONE
    assert KeySource(environment="A_ROOT_KEY").read() == ONE
    assert KeySource(command=("/bin/echo", ONE.hex())).read() == ONE


def test_what_is_no_key_is_refused_without_a_byte_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "5ecre7" * 5
    monkeypatch.setenv("A_ROOT_KEY", canary)
    monkeypatch.setattr("heliosdb.domain.key_sources.COMMAND_SECONDS", 0.2)
    sources = {
        KeySource(file=write(tmp_path / "short", canary.encode())): "gives no key of 32 bytes",
        KeySource(file=write(tmp_path / "open", ONE, 0o640)): "may be read by others",
        KeySource(file=tmp_path / "none"): "cannot be read",
        KeySource(file=tmp_path): "is no regular file",
        KeySource(environment="A_ROOT_KEY"): "gives no key of 32 bytes",
        KeySource(environment="ANOTHER_ROOT_KEY"): "is not set",
        KeySource(command=("/bin/echo", canary)): "gives no key of 32 bytes",
        KeySource(command=("/bin/false",)): "ended with status 1",
        KeySource(command=("/bin/sleep", "5")): "did not end within",
        KeySource(command=("echo", canary)): "named by its absolute path",
        KeySource(command=("/nowhere/at/all",)): "cannot be run",
    }
    for source, reason in sources.items():
        with pytest.raises(FederatedError, match=reason) as caught:
            source.read()
        assert canary not in f"{caught.value}{caught.value.detail}{caught.value.hint}"


def roots(directory: Path, settings: RootKeySettings | None = None) -> RootKeys:
    return RootKeys(directory, ONE, directory / "parameters.key", settings)


def test_a_rotation_keeps_the_former_key_beside_the_new_one_and_is_seen_by_who_runs(tmp_path: Path) -> None:
    running = roots(tmp_path)
    keys = running.at_rest()
    assert keys.current == root_name(ONE).hex()
    sealed = keys.seal(b"plain", about=ABOUT)

    first = roots(tmp_path).rotate()
    running.refresh(keys)
    assert keys.current == first
    second = roots(tmp_path).rotate()
    running.refresh(keys)
    assert keys.current == second
    assert keys.names == {root_name(ONE).hex(), first, second}
    assert keys.open(sealed, about=ABOUT) == b"plain"
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0

    roots(tmp_path).drop(first)
    running.refresh(keys)
    assert keys.names == {root_name(ONE).hex(), second}
    with pytest.raises(FederatedError, match="is in no file that can be removed"):
        roots(tmp_path).drop(first)


def test_who_is_stopped_between_the_two_files_has_lost_no_key(tmp_path: Path) -> None:
    name = roots(tmp_path).rotate()
    (tmp_path / f"{FILE_NAME}.former.{name}").hardlink_to(tmp_path / FILE_NAME)
    assert roots(tmp_path).at_rest().current == name
    assert roots(tmp_path).rotate() != name
    assert name in roots(tmp_path).at_rest().names


def test_a_key_of_the_environment_is_there_for_no_process_that_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_ROOT_KEY", TWO.hex())
    of = roots(tmp_path, RootKeySettings(environment="A_ROOT_KEY"))
    assert of.at_rest().current == root_name(TWO).hex()
    assert "A_ROOT_KEY" not in os.environ
    assert of.at_rest().current == root_name(TWO).hex()
    # Another daemon of the same process has the same variable.
    assert roots(tmp_path / "b", RootKeySettings(environment="A_ROOT_KEY")).read()[0] == TWO
    monkeypatch.setenv("A_ROOT_KEY", ONE.hex())
    assert roots(tmp_path / "c", RootKeySettings(environment="A_ROOT_KEY")).read()[0] == ONE
    assert "A_ROOT_KEY" not in os.environ
    with pytest.raises(FederatedError, match="ANOTHER_ROOT_KEY cannot be used: it is not set"):
        roots(tmp_path, RootKeySettings(environment="ANOTHER_ROOT_KEY")).read()
    with pytest.raises(FederatedError, match="is rotated where it is kept"):
        of.rotate()
    assert TWO.hex() not in repr(of)
