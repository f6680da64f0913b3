"""The format of a daemon's log, and what its lines are about.

What always holds: a record is one line of JSON, whatever its message holds; what it is about is the same in
both formats: the message, and in JSON also the fields.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 - it is never changed

FIELDS = ("workspace", "run", "round", "node")
"""What a record may be about, in the order in which they are shown."""


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Have what is logged within the block say that it is about these of FIELDS."""
    token = _about.set(_with(facts))
    try:
        yield
    finally:
        _about.reset(token)


def note(**facts: object) -> None:
    """The same for all that this task logs from now on, and those that it starts."""
    _about.set(_with(facts))


def _with(facts: Mapping[str, object]) -> Mapping[str, str]:
    return {**_about.get(), **{name: str(value) for name, value in facts.items()}}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, what it is about, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        told = _about.get()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: told[name] for name in FIELDS if name in told},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, ensure_ascii=False)


def use_format(name: Literal["text", "json"]) -> None:
    """Write the log in this format; text is what the process was started with."""
    if name == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
