"""A record is one line of JSON, and says what it is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from heliosdb.observing import logs


class Written:
    """A logger whose lines are read back."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.log = logging.Logger("heliosdb.test")
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(logs.JsonFormatter())
        self.log.addHandler(handler)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    yield Written()


def test_a_record_is_one_line(written: Written) -> None:
    written.log.warning("it said %s", 'two\nlines, "quotes" and\r\x1b[31m')
    [line] = written.lines()
    assert line["message"] == 'it said two\nlines, "quotes" and\r\x1b[31m'
    assert (line["level"], line["logger"]) == ("WARNING", "heliosdb.test")
    assert datetime.fromisoformat(line["time"]).utcoffset() is not None
    assert line["time"].endswith("+00:00")


def test_an_exception_is_in_the_same_line(written: Written) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        written.log.exception("failed")
    [line] = written.lines()
    assert line["message"] == "failed"
    assert line["exception"].splitlines()[-1] == "ValueError: wrong"


async def test_what_it_is_about_follows_the_task_and_no_other(written: Written) -> None:
    async def drive(run: str) -> None:
        logs.note(workspace="w", run=run)
        await asyncio.sleep(0)
        logs.note(round=1)
        written.log.info("opened")
        await asyncio.gather(ask("a"), ask("b"))

    async def ask(node: str) -> None:
        with logs.about(node=node):
            await asyncio.to_thread(written.log.info, "asked")
        written.log.info("answered")

    await asyncio.gather(asyncio.create_task(drive("r1")), asyncio.create_task(drive("r2")))
    written.log.info("elsewhere")
    found = Counter((line["message"], line.get("run"), line.get("node")) for line in written.lines()[:-1])
    assert found == Counter(
        (message, run, node)
        for run in ("r1", "r2")
        for message, node in (
            ("opened", None),
            ("asked", "a"),
            ("asked", "b"),
            ("answered", None),
            ("answered", None),
        )
    )
    assert set(written.lines()[-1]) == {"time", "level", "logger", "message"}


def test_the_format_of_the_process_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    logs.use_format("text")
    assert handler.formatter is None
    logs.use_format("json")
    assert isinstance(handler.formatter, logs.JsonFormatter)
