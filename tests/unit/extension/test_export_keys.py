"""The secret of a database server from which the keys of exports follow: made once, and only the server's user reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.extension.export_keys import FILE_NAME, find_secret, load_or_create_secret


def test_it_is_made_once_and_for_the_servers_user_alone(tmp_path: Path) -> None:
    assert find_secret(tmp_path) is None
    made = load_or_create_secret(tmp_path)
    assert len(made) == 32
    assert load_or_create_secret(tmp_path) == find_secret(tmp_path) == made
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [0, 31, 33])
def test_another_file_is_refused_and_stays(tmp_path: Path, size: int) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"x" * size)
    file.chmod(0o600)
    with pytest.raises(FederatedError) as caught:
        load_or_create_secret(tmp_path)
    assert caught.value.code is ErrorCode.IDENTITY
    assert file.read_bytes() == b"x" * size


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_or_create_secret(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o644)
    with pytest.raises(FederatedError):
        load_or_create_secret(tmp_path)


def test_no_link_is_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * 32)
    elsewhere.chmod(0o600)
    (tmp_path / FILE_NAME).symlink_to(elsewhere)
    with pytest.raises(FederatedError):
        load_or_create_secret(tmp_path)
