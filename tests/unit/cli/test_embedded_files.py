"""Paths, configuration files and small files of an embedded installation."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.cli.embedded import plan
from heliosdb.cli.embedded.account import Account, cluster_account, own_directory
from heliosdb.cli.embedded.files import make_directory, write_atomically
from heliosdb.cli.embedded.layout import Layout
from heliosdb.cli.embedded.toml import render_toml
from heliosdb.domain.errors import ErrorCode, FederatedError

names = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable() or "\x7f" in text)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
simple = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | texts
scalars = simple | st.lists(simple | st.dictionaries(names, simple, max_size=3), max_size=3)


@given(st.dictionaries(names, scalars | st.dictionaries(names, scalars | st.dictionaries(names, scalars))))
def test_what_is_rendered_as_toml_reads_back_as_it_was(settings: dict[str, object]) -> None:
    assert tomllib.loads(render_toml(settings)) == settings  # type: ignore[arg-type] # strategies are untyped


@pytest.mark.parametrize("root", ["/srv/heliosdb", "/" + "long-name/" * 15, "/ünï/" + "é" * 60])
def test_the_path_of_a_unix_socket_fits_into_the_kernel_structure(root: str) -> None:
    directory = Layout(Path(root)).socket_directory
    assert len(os.fsencode(directory / ".s.PGSQL.65535.lock")) <= 107


def test_two_long_roots_do_not_share_a_socket_directory() -> None:
    first, second = (Layout(Path("/" + "long-name/" * 15 + end)).socket_directory for end in "ab")
    assert first != second


def test_a_short_root_keeps_its_sockets_inside() -> None:
    assert Layout(Path("/srv/heliosdb")).socket_directory == Path("/srv/heliosdb/run")


def test_a_file_is_replaced_whole_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_atomically(path, b"one")
    write_atomically(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"untouched")
    path.symlink_to(victim)
    write_atomically(path, b"new")
    assert victim.read_bytes() == b"untouched"
    assert not path.is_symlink()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("heliosdb.cli.embedded.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_gets_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_directory(tmp_path / "open", mode=0o755)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755


def test_a_directory_for_the_clusters_is_theirs_alone(tmp_path: Path) -> None:
    account = cluster_account()
    own_directory(account, tmp_path / "mine")
    own_directory(account, tmp_path / "mine")
    found = (tmp_path / "mine").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (account.uid, 0o700)


def test_a_directory_that_somebody_else_may_enter_is_refused(tmp_path: Path) -> None:
    account = cluster_account()
    own_directory(account, tmp_path / "open")
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(FederatedError) as caught:
        own_directory(account, tmp_path / "open")
    assert caught.value.code is ErrorCode.WRONG_STATE


def test_a_link_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    account = cluster_account()
    own_directory(account, tmp_path / "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FederatedError):
        own_directory(account, tmp_path / "link")


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    mine = os.geteuid()
    stranger = Account("stranger", mine + 1, os.getegid(), switch=False)
    with pytest.raises(FederatedError):
        own_directory(stranger, tmp_path / "not_theirs")


def test_what_somebody_added_to_a_daemons_settings_stays_and_the_rest_follows_the_installation(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    settings = {"listen_port": 1, "plain_answers": True, "peers": "old.pem"}
    plan._plan(layout, "node", "north", settings)
    file = layout.config_file("north")
    first = tomllib.loads(file.read_text())
    added = 'curious_peers = 1\ntask_limit_seconds = 2.5\nca = ["a", "b"]\n'
    text = file.read_text().replace("true", "false")
    file.write_text(f"{added}{text}\n[disclosure]\nmin_rows = 30\n")

    plan._plan(layout, "node", "north", {"listen_port": 2, "plain_answers": True})

    assert first == settings
    assert tomllib.loads(file.read_text()) == {
        "listen_port": 2,
        "plain_answers": False,
        "curious_peers": 1,
        "task_limit_seconds": 2.5,
        "ca": ["a", "b"],
        "disclosure": {"min_rows": 30},
    }


def test_settings_that_cannot_be_read_are_not_overwritten(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    plan._plan(layout, "node", "north", {"listen_port": 1})
    layout.config_file("north").write_text("listen_port = \n")
    with pytest.raises(FederatedError, match="cannot be read") as refused:
        plan._plan(layout, "node", "north", {"listen_port": 1})
    assert refused.value.code is ErrorCode.INVALID_VALUE
    assert layout.config_file("north").read_text() == "listen_port = \n"
