"""psql as a person would use it: statements are typed in, what psql answers is shown as it comes."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from heliosdb.domain.errors import ErrorCode, FederatedError

_DONE = "-- end of answer --"


class Terminal:
    """One psql on one database. A statement that fails ends the demo."""

    def __init__(self, dsn: str, prompt: str) -> None:
        self._prompt = prompt
        place = conninfo_to_dict(dsn)
        password = place.pop("password", None)
        self._psql = subprocess.Popen(
            [
                "psql",
                make_conninfo("", **place),
                "-X",
                "-q",
                "-P",
                "pager=off",
                "-P",
                "border=1",
                "-v",
                "ON_ERROR_STOP=1",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            # Everybody on the machine can read a command line, and only the same user an environment.
            env=os.environ if password is None else {**os.environ, "PGPASSWORD": str(password)},
        )
        self._send("\\set QUIET off")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._psql.stdin is not None:
            self._psql.stdin.close()
        self._psql.wait()

    def type(self, statement: str) -> None:
        """Type `statement`, show it and the answer."""
        first, *others = statement.strip().splitlines()
        print(f"\n{self._prompt}=# {first}")
        for line in others:
            print(f"{self._prompt}-# {line}")
        self._send(statement)
        self._send(f"\\echo '{_DONE}'")
        for line in self._lines():
            print(line.rstrip("\n"), flush=True)

    def _send(self, text: str) -> None:
        if self._psql.stdin is None or self._psql.poll() is not None:
            raise _ended()
        self._psql.stdin.write(text.strip() + "\n")
        self._psql.stdin.flush()

    def _lines(self) -> list[str]:
        lines: list[str] = []
        while self._psql.stdout is not None:
            line = self._psql.stdout.readline()
            if not line:
                print("".join(lines))
                raise _ended()
            if line.strip() == _DONE:
                break
            lines.append(line)
        return lines


def _ended() -> FederatedError:
    return FederatedError(
        ErrorCode.INTERNAL, "psql ended before the demo did", hint="Its last words are above."
    )
