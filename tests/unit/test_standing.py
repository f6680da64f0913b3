"""What a daemon says of itself: once for each reason, in the log and in the ready file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from heliosdb.liveness.standing import EXTENSION, Obstacle, Standing, is_up

LOG = logging.getLogger("test")
AWAY = Obstacle("57P03", "the database is out of reach: 57P03 cannot_connect_now", "wait")
NO_EXTENSION = Obstacle(EXTENSION, "waiting for CREATE EXTENSION")


def test_a_reason_is_logged_when_it_changes_and_the_file_says_the_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "ready"
    standing = Standing(file, LOG)
    assert json.loads(file.read_text())["state"] == "waiting"
    for _ in range(3):
        standing.waits(AWAY)
    standing.ready("leading: epoch=1")
    standing.ready("leading: epoch=1")
    assert json.loads(file.read_text()) == {"state": "ready", "reason": "leading: epoch=1"}
    standing.waits(AWAY)
    assert json.loads(file.read_text()) == {
        "state": "waiting",
        "code": "57P03",
        "reason": AWAY.reason,
        "remedy": "wait",
    }
    assert [record.getMessage() for record in caplog.records] == [
        f"{AWAY.reason}; wait",
        "leading: epoch=1",
        f"{AWAY.reason}; wait",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_a_daemon_is_up_when_it_is_ready_or_its_user_has_yet_to_create_the_extension(tmp_path: Path) -> None:
    file = tmp_path / "ready"
    assert not is_up(file)
    standing = Standing(file, LOG)
    assert not is_up(file)
    standing.waits(AWAY)
    assert not is_up(file)
    standing.waits(NO_EXTENSION)
    assert is_up(file)
    standing.ready()
    assert is_up(file)
    file.write_text("ready?")
    assert not is_up(file)
