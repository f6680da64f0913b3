"""The committed protobuf code is what the .proto file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.transport.generate import GENERATED, HERE, generate


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_code_is_current(name: str, tmp_path: Path) -> None:
    generate(tmp_path)
    assert (tmp_path / name).read_text() == (HERE / name).read_text()
