"""Drivers of other languages: one process each, which is told what to type and says what the driver shows."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.clients.conftest import Site
from tests.clients.python_drivers import Driver, Tags, with_placeholders
from tests.clients.script import Answer, Value

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JDBC = Path("/usr/share/java/postgresql.jar")
NODE_MODULES = ROOT / "build/clients/node/node_modules"


class ForeignProcess:
    """A client program; one line asks, one line answers."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **environment},
        )

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and read the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the client ended with status {self._process.wait()} at: {line[:200]}"
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """Let the program end by itself."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


class Foreign(Driver):
    """One connection of a foreign driver."""

    def __init__(self, process: ForeignProcess, mode: str, tags: Tags, placeholder: str) -> None:
        self.tags = tags
        self._process, self._placeholder = process, placeholder
        assert process.ask(f"connect {mode}") == {}

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        typed = with_placeholders(sql, parameters, self._placeholder)
        return self._answer("\t".join([_encoded(typed), *map(_parameter, parameters)]))

    def fetch(self, sql: str, parameters: Sequence[Value]) -> Answer:
        """Read a result two rows at a time (JDBC)."""
        typed = with_placeholders(sql, parameters, self._placeholder)
        return self._answer("fetch " + "\t".join([_encoded(typed), *map(_parameter, parameters)]))

    def batch(self, *statements: str) -> dict[str, Any]:
        """Execute all in one batch, which is one transaction (JDBC)."""
        return self._process.ask("batch " + "\t".join(map(_encoded, statements)))

    def _answer(self, line: str) -> Answer:
        shown = self._process.ask(line)
        return Answer(
            tag=shown.get("tag"),
            columns=tuple(shown["columns"]) if "columns" in shown else None,
            rows=tuple(map(tuple, shown["rows"])) if "rows" in shown else None,
            notices=tuple(shown.get("notices", ())),
            sqlstate=shown.get("sqlstate"),
            message=shown.get("message"),
            position=shown.get("position"),
            count=shown.get("count"),
        )

    def close(self) -> None:
        """The process goes on, and closes this connection when it opens the next."""


def start_java(site: Site) -> ForeignProcess:
    """PostgreSQL's own JDBC driver, run by Java from the source."""
    url = f"jdbc:postgresql://{site.host}:{site.port}/{site.database}"
    # A short life on two cores: no second compiler, no parallel collector.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(JDBC)]
    return ForeignProcess(["java", *options, str(HERE / "java/Client.java"), url, site.user, site.password])


def start_node(site: Site) -> ForeignProcess:
    """node-postgres."""
    where = [site.host, str(site.port), site.database, site.user, site.password]
    return ForeignProcess(["node", str(HERE / "node/client.js"), *where], NODE_PATH=str(NODE_MODULES))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _parameter(value: Value) -> str:
    kind = {float: "f", int: "i", str: "s"}[type(value)]
    return kind + _encoded(str(value))
