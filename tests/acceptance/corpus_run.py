"""Types the corpus into psql, statement by statement, and says what psql showed.

What always holds: a statement is typed as it stands in its file; what a statement presumes is made before it
and outside it; a query of the effect and a fingerprint of the catalog surround every statement.
"""

from __future__ import annotations

import csv
import io
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
_MARK = "@@ "
_END = re.compile(r";[ ]*$", re.MULTILINE)
_COMMENTS = re.compile(r"(?:\s+|--.*\n)*")
_FEDERATED = re.compile(r"\w+ (?:FROM )?FEDERATED\b")
_ERROR = re.compile(r"^(?:ERROR|FATAL):  (\w{5}): (.*)$", re.MULTILINE)
_NOTICE = re.compile(r"^(NOTICE|WARNING):  \w{5}: (.*)$", re.MULTILINE)
_POINTED = re.compile(r"^(LINE \d+: )(.*)\n(.*)\^$", re.MULTILINE)
_DIRECT_POSITION = re.compile(r"^COLUMN NAME:  position=(\d+)$", re.MULTILINE)

# Everything that a user may change; sequences and what is only read are not in it.
FINGERPRINT = """
CREATE SCHEMA acceptance;
CREATE FUNCTION acceptance.fingerprint() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text := '';
    part  text;
    each  regclass;
BEGIN
    FOR each IN SELECT oid::regclass FROM pg_class
                WHERE relkind = 'r' AND relnamespace = to_regnamespace('federated') ORDER BY relname LOOP
        EXECUTE format('SELECT md5(coalesce(string_agg(t::text, '','' ORDER BY t::text), '''')) FROM %s AS t', each)
            INTO part;
        found := found || part;
    END LOOP;
    RETURN md5(found || coalesce((
        SELECT string_agg(p.oid::text || p.xmin::text, ',' ORDER BY p.oid) FROM pg_proc AS p
        WHERE pronamespace = to_regnamespace('federated_model')), ''));
END $$;
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One statement of the corpus and what is expected of it."""

    file: str
    number: int
    text: str
    """From its first to its last character, without the semicolon."""
    federated: bool
    expected: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The statement's name in expectations and test ids."""
        return f"{self.file}.{self.number}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What psql showed of a statement. `pointed`: the text from where the error points to, on its line."""

    presumed: str
    """What psql complained of when it made what the statement presumes."""
    output: str
    sqlstate: str | None
    message: str | None
    pointed: str | None
    notices: tuple[str, ...]
    effect: tuple[tuple[str, ...], ...]
    unchanged: bool

    @property
    def rows(self) -> list[list[str]]:
        """The result as CSV, its names first."""
        return list(csv.reader(io.StringIO(self.output)))


def cases() -> Iterator[Case]:
    """Yield the statements of the corpus in order; each has its expectation."""
    expectations = tomllib.loads((CORPUS.parent / "corpus_expectations.toml").read_text())
    for path in sorted(CORPUS.glob("*.sql")):
        text, expected = path.read_text(), expectations.pop(path.stem)
        for number, statement in enumerate(_END.split(text)[:-1], 1):
            typed = statement[_COMMENTS.match(statement).end() :]
            federated = _FEDERATED.match(typed) is not None
            yield Case(path.stem, number, typed, federated, expected.pop(str(number)))
        assert not expected, f"{path.name} has no statement {', '.join(expected)}"
    assert not expectations, f"no such file: {', '.join(expectations)}"


def type_corpus(
    dsn: str, chosen: Sequence[Case], train: Callable[[Mapping[str, Any]], None], *, directly: bool
) -> dict[str, Shown]:
    """Type the cases into psql; `directly` past the proxy, FEDERATED statements through federated.execute."""
    shown: dict[str, Shown] = {}
    for part in _parts(chosen):
        if "train" in part[0].expected:
            train(part[0].expected["train"])
        output, errors = _psql(dsn, "".join(_script(case, directly=directly) for case in part))
        for case in part:
            shown[case.key] = _shown(case, output, errors)
    return shown


def _parts(chosen: Sequence[Case]) -> Iterator[list[Case]]:
    """Cut before each case that needs a model to be trained meanwhile."""
    part: list[Case] = []
    for case in chosen:
        if part and "train" in case.expected:
            yield part
            part = []
        part.append(case)
    yield part


def _script(case: Case, *, directly: bool) -> str:
    typed = case.text
    if directly and case.federated:
        typed = f"CALL federated.execute($corpus${case.text}$corpus$)"
    lines = [
        f"\\echo {_MARK}{case.key} before",
        f"\\warn {_MARK}{case.key} before",
        *(f"{statement};" for statement in case.expected.get("before", ())),
        "SELECT acceptance.fingerprint() AS before \\gset",
        f"\\echo {_MARK}{case.key} statement",
        f"\\warn {_MARK}{case.key} statement",
        f"{typed};",
        f"\\echo {_MARK}{case.key} unchanged",
        f"\\warn {_MARK}{case.key} unchanged",
        "SELECT acceptance.fingerprint() = :'before' AS unchanged;",
        f"\\echo {_MARK}{case.key} effect",
        f"\\warn {_MARK}{case.key} effect",
        *([f"{case.expected['effect']};"] if "effect" in case.expected else []),
    ]
    return "\n".join(lines) + "\n"


def _psql(dsn: str, script: str) -> tuple[dict[str, str], dict[str, str]]:
    done = subprocess.run(
        ["psql", dsn, "-X", "--csv", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return _sections(done.stdout), _sections(done.stderr)


def _sections(text: str) -> dict[str, str]:
    """Cut what psql printed at the marks."""
    found: dict[str, str] = {}
    for piece in re.split(rf"^{_MARK}", text, flags=re.MULTILINE)[1:]:
        head, _, rest = piece.partition("\n")
        found[head] = rest
    return found


def _shown(case: Case, output: Mapping[str, str], errors: Mapping[str, str]) -> Shown:
    complaint = errors[f"{case.key} statement"]
    error = _ERROR.search(complaint)
    effect = csv.reader(io.StringIO(output[f"{case.key} effect"]))
    return Shown(
        presumed="\n".join(found[0] for found in _ERROR.finditer(errors[f"{case.key} before"])),
        output=output[f"{case.key} statement"],
        sqlstate=error[1] if error else None,
        message=error[2] if error else None,
        pointed=_pointed(case, complaint),
        notices=tuple(f"{severity}: {text}" for severity, text in _NOTICE.findall(complaint)),
        effect=tuple(tuple(row) for row in list(effect)[1:]),
        unchanged=output[f"{case.key} unchanged"].split() == ["unchanged", "t"],
    )


def _pointed(case: Case, complaint: str) -> str | None:
    """Return the text that the error's position points to, up to the end of its line."""
    if direct := _DIRECT_POSITION.search(complaint):
        return case.text[int(direct[1]) - 1 :].partition("\n")[0]
    if found := _POINTED.search(complaint):
        return found[2][len(found[3]) - len(found[1]) :]
    return None
