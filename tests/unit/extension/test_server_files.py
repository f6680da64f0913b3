"""Files on the database server: which may be named, and how they are opened."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.extension import server_files
from heliosdb.extension.server_files import (
    check_readable,
    check_writable,
    data_directory,
    existing_file,
    new_file,
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Outside /dev, below which nothing may be named."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a data directory, a file, links to both and a named pipe."""
    place = Path(os.path.realpath(tmp_path))
    (place / "data").mkdir()
    (place / "data" / "PG_VERSION").write_text("15\n")
    (place / "file").write_text("x")
    (place / "to_file").symlink_to(place / "file")
    (place / "to_nothing").symlink_to(place / "nothing")
    (place / "to_data").symlink_to(place / "data")
    (place / "to_itself").symlink_to(place / "to_itself")
    os.mkfifo(place / "pipe")
    return place


def refusal(place: Path, check: str, path: str) -> ErrorCode | None:
    """Return the code of the error that a path gets, None where it is accepted."""
    check_path = {"to": check_writable, "from": check_readable}[check]
    before = sorted(place.rglob("*"))
    try:
        check_path(path.replace("PLACE", str(place)), str(place / "data"))
    except FederatedError as error:
        assert "\0" not in error.message
        return error.code
    finally:
        assert sorted(place.rglob("*")) == before
    return None


@pytest.mark.parametrize(
    ("check", "path", "code"),
    [
        ("to", "PLACE/new", None),
        ("to", "PLACE//./new", None),
        ("to", "PLACE/größe 'x; DROP", None),
        ("to", "PLACE/..new", None),
        ("from", "PLACE/file", None),
        ("from", "//PLACE/file", None),
        ("to", "PLACE/file", ErrorCode.DUPLICATE_OBJECT),
        ("to", "PLACE/data_new", None),
        ("to", "PLACE/to_file", ErrorCode.DUPLICATE_OBJECT),
        ("to", "PLACE/to_nothing", ErrorCode.DUPLICATE_OBJECT),
        ("to", "PLACE/data", ErrorCode.INVALID_VALUE),
        ("to", "PLACE/missing/new", ErrorCode.UNDEFINED_OBJECT),
        ("to", "PLACE/file/new", ErrorCode.UNDEFINED_OBJECT),
        ("to", "PLACE/to_data/new", ErrorCode.INVALID_VALUE),
        ("to", "PLACE/to_itself/new", ErrorCode.UNDEFINED_OBJECT),
        ("to", "PLACE/" + "x" * 300 + "/new", ErrorCode.UNDEFINED_OBJECT),
        ("from", "PLACE/missing", ErrorCode.UNDEFINED_OBJECT),
        ("from", "PLACE/to_file", ErrorCode.INVALID_VALUE),
        ("from", "PLACE/to_nothing", ErrorCode.INVALID_VALUE),
        ("from", "PLACE/to_data/PG_VERSION", ErrorCode.INVALID_VALUE),
        ("from", "PLACE/pipe", ErrorCode.INVALID_VALUE),
        ("from", "PLACE/data", ErrorCode.INVALID_VALUE),
        ("from", "/tmp", ErrorCode.INVALID_VALUE),
        *(
            (check, path, ErrorCode.INVALID_VALUE)
            for check in ("to", "from")
            for path in (
                "", "relative", "./x", "~/x", "C:\\x", "PLACE/a/../file", "..", "/..", "/", "PLACE/", "PLACE/.",
                "PLACE/x\0y", "PLACE/x\ny", "PLACE/\u202ex", "/proc/self/mem", "/proc", "//proc/1/x", "/./proc/x",
                "/sys/x", "/dev/null", "PLACE/data/x", "PLACE//data/PG_VERSION",
            )
        ),
    ],
)  # fmt: skip
def test_a_path_is_accepted_or_refused(place: Path, check: str, path: str, code: ErrorCode | None) -> None:
    assert refusal(place, check, path) == code


def test_the_data_directory_is_where_a_server_process_works(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "data")
    assert data_directory() == str(place / "data")
    monkeypatch.chdir(place)
    with pytest.raises(FederatedError, match="data directory was not found") as caught:
        data_directory()
    assert caught.value.code is ErrorCode.INTERNAL


def test_a_new_file_has_its_name_only_once_it_is_whole(place: Path) -> None:
    with new_file(str(place / "new"), str(place / "data")) as file:
        file.write(b"some")
        file.write(b" more")
        file.sync()
        assert not (place / "new").exists()
        file.publish()
        assert (place / "new").read_bytes() == b"some more"
    assert (place / "new").stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in place.iterdir() if one.is_file() and not one.is_symlink()) == [
        "file",
        "new",
    ]


@pytest.mark.parametrize("has_nameless", [True, False], ids=["nameless", "under a name"])
def test_a_file_that_is_not_finished_leaves_nothing_and_a_name_that_is_taken_meanwhile_is_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, has_nameless: bool
) -> None:
    if not has_nameless:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY | os.O_CREAT)
    before = sorted(place.rglob("*"))

    with pytest.raises(ZeroDivisionError), new_file(str(place / "new"), str(place / "data")) as file:
        file.write(b"x" * 100_000)
        raise ZeroDivisionError
    assert sorted(place.rglob("*")) == before

    with (
        pytest.raises(FederatedError, match="already exists") as caught,
        new_file(str(place / "new"), str(place / "data")) as file,
    ):
        file.write(b"ours")
        file.sync()
        (place / "new").symlink_to(place / "file")
        file.publish()
    assert caught.value.code is ErrorCode.DUPLICATE_OBJECT
    assert (place / "file").read_text() == "x"
    assert sorted(place.rglob("*")) == sorted([*before, place / "new"])


def test_a_directory_that_becomes_a_link_is_not_followed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "within").mkdir()
    (place / "within" / "file").write_text("x")
    real = server_files._directory

    def swapped(directory: Path, path: str, own: str) -> AbstractContextManager[int]:
        (place / "within").rename(place / "moved")
        (place / "within").symlink_to(place / "data")
        return real(directory, path, own)

    for opening in (new_file, existing_file):
        monkeypatch.setattr(server_files, "_directory", swapped)
        name = "new" if opening is new_file else "file"
        with (
            pytest.raises(FederatedError, match=r"cannot (write|read) file") as caught,
            opening(str(place / "within" / name), str(place / "data")),
        ):
            pass
        assert caught.value.code is ErrorCode.INVALID_VALUE
        assert list((place / "data").iterdir()) == [place / "data" / "PG_VERSION"]
        (place / "within").unlink()
        (place / "moved").rename(place / "within")


def test_a_pipe_that_takes_a_files_place_holds_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_files, "check_readable", lambda *_: None)
    with (
        pytest.raises(FederatedError, match="not a regular file"),
        existing_file(str(place / "pipe"), str(place / "data")),
    ):
        pass


def test_the_data_directory_is_refused_by_whichever_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_files, "_refuse_own", lambda *_: None)
    with (
        pytest.raises(FederatedError, match="lies in the server's data directory"),
        new_file(str(place / "data" / "new"), str(place / "data")),
    ):
        pass


def test_a_directory_that_the_servers_user_may_not_write_is_a_right_that_lacks(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    path = str(place / "new")
    with pytest.raises(FederatedError) as caught, new_file(path, str(place / "data")):
        pass
    assert (caught.value.code, caught.value.message) == (
        ErrorCode.PRIVILEGE,
        f'cannot write file "{path}": Permission denied',
    )


def test_what_the_system_refuses_is_said_with_the_path_as_typed(place: Path) -> None:
    path = str(place / ("x" * 300))
    with (
        pytest.raises(FederatedError) as caught,
        new_file(path, str(place / "data")) as file,
    ):
        file.sync()
        file.publish()
    assert caught.value.message == f'cannot write file "{path}": File name too long'
