"""How a daemon stands: whether it can do its work, and if not, why; said in its log and in its ready file.

What always holds: a reason is logged when it changes and not again until then; the file says what was logged
last, and whoever reads it sees all of it or what stood there before. A reason holds no password.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from heliosdb.liveness.answering import State

EXTENSION: Final = "extension"
"""The code of what a daemon waits for before its database's user has typed CREATE EXTENSION."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a daemon waits. code: for programs, an SQLSTATE or a word; remedy: what an administrator does."""

    code: str
    reason: str
    remedy: str = ""


STARTING: Final = Obstacle("starting", "starting: it has not looked at its database yet")


class Standing:
    """Keeps the last word. whose: goes in front of each line of the log."""

    def __init__(self, ready_file: Path | None, log: logging.Logger, whose: str = "") -> None:
        self._file = ready_file
        self._log = log
        self._whose = whose
        self._said: tuple[Obstacle | None, str] = (STARTING, "")
        self._write()

    def state(self) -> State:
        """What it answers to whoever asks how it is: well also before CREATE EXTENSION, which is not its to
        do."""
        obstacle, note = self._said
        if obstacle is None:
            return State(True, note)
        return State(obstacle.code == EXTENSION, obstacle.reason)

    @property
    def obstacle(self) -> Obstacle | None:
        """What it waits for; None where it is ready."""
        return self._said[0]

    def ready(self, note: str = "ready") -> None:
        """Say that it does its work."""
        if self._change(None, note):
            self._log.info("%s%s", self._whose, note)

    def waits(self, obstacle: Obstacle) -> None:
        """Say why it does not."""
        if self._change(obstacle, ""):
            hint = f"; {obstacle.remedy}" if obstacle.remedy else ""
            self._log.warning("%s%s%s", self._whose, obstacle.reason, hint)

    def _change(self, obstacle: Obstacle | None, note: str) -> bool:
        if self._said == (obstacle, note):
            return False
        self._said = (obstacle, note)
        self._write()
        return True

    def _write(self) -> None:
        if self._file is None:
            return
        obstacle, note = self._said
        told: dict[str, str] = {"state": "ready", "reason": note}
        if obstacle is not None:
            told = {
                "state": "waiting",
                "code": obstacle.code,
                "reason": obstacle.reason,
                "remedy": obstacle.remedy,
            }
        write_told(self._file, told)


def write_told(path: Path, told: dict[str, str]) -> None:
    """Put one line of JSON at `path`, in one step."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o644)
            stream.write(json.dumps(told) + "\n")
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def is_up(path: Path) -> bool:
    """Whether a ready file says that its daemon has come up: it is ready, or waits for CREATE EXTENSION."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return bool(told.get("state") == "ready" or told.get("code") == EXTENSION)
