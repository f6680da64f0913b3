"""What `heliosdb health` asks a node, by its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.cli.health import _node

SETTINGS = """
database = "host=/tmp"
reader = "host=/tmp user=reader"
certificate = "c.pem"
private_key = "k.pem"
coordinator_certificate = "p.pem"
state_directory = "state"
health_socket = "health"
"""


@pytest.mark.parametrize(
    ("further", "asked"),
    [("", True), ('dial = "https://coordinator.example:8444"', False), ('flower_socket = "s"', False)],
)
def test_a_node_that_listens_nowhere_has_no_port_to_be_asked(
    tmp_path: Path, further: str, asked: bool
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(SETTINGS + further)
    assert ("its port" in [question.what for question in _node(path)]) is asked
