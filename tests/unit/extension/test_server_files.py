"""Paths on the database server: which may be named, without one of them being opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.extension.server_files import check_readable, check_writable, data_directory


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
