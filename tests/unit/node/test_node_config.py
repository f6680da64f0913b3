"""A node's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.node.config import load_config

WHOLE = """
database = "host=/tmp password=hunter2"
reader = "host=/tmp user=reader"
certificate = "c.pem"
private_key = "k.pem"
coordinator_certificate = "p.pem"
state_directory = "state"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_modules_of_further_parts_are_named_as_they_are_imported(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, WHOLE)).parts == ()
    assert load_config(write(tmp_path, WHOLE + 'parts = ["site.parts"]')).parts == ("site.parts",)
    with pytest.raises(FederatedError, match=r'"parts\.0"') as caught:
        load_config(write(tmp_path, WHOLE + 'parts = ["a b"]'))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["database", "reader"])
def test_what_is_no_connection_string_is_refused_without_being_quoted(tmp_path: Path, key: str) -> None:
    lines = [line for line in WHOLE.splitlines() if not line.startswith(f"{key} ")]
    text = "\n".join([*lines, f'{key} = "host=/tmp password=hunter2 hunter3"'])
    with pytest.raises(FederatedError, match=f'"{key}".*it is no connection string') as caught:
        load_config(write(tmp_path, text))
    assert "hunter" not in str(caught.value)
