"""Write the upgrade script from the last released version of the extension to the current one.

    sql/upgrade/…--FROM--TO.sql  =  guard  +  FROM--TO.first.sql  +  what is derived  +  FROM--TO.last.sql

Derived is what can only be done in one way: what is new is created; functions, triggers and views that
changed are replaced; grants are given again, since they hold whatever was created since; comments and
configuration tables are set. Tables and types that changed, and whatever is gone, are named on standard
error: for these somebody writes ALTER or DROP into the file by hand, and then `-- done: <what was named>`;
what is new and has such a line is not created a second time.
Exit status 1 while anything is left.

What always holds: the output depends on the scripts alone, so that a test can tell whether it is current.
Whether the upgraded catalog is the fresh one is for tests/integration/extension/test_upgrade.py to tell, by
comparing them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pglast import ast, parse_sql, split
from pglast.stream import RawStream

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = "heliosdb_federated_learning"
_SCHEMA = "extschema_placeholder"
_LEADING = re.compile(r"(?:\s+|--[^\n]*\n)*")
_REPLACEABLE = {
    "function": "CREATE OR REPLACE ",
    "view": "CREATE OR REPLACE ",
    "trigger": "CREATE OR REPLACE ",
}
_ALWAYS = frozenset({"grant", "do", "setting", "owner"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a script: what it is about, and its text with the comment before it."""

    kind: str
    subject: str
    text: str
    head: str

    @property
    def name(self) -> str:
        """What messages and `-- done:` lines call it."""
        return f"{self.kind} {self.subject}"


def main() -> int:
    """Write the script; tell what is left to do by hand."""
    new = current_version()
    old = newest_release()
    script, left = derive(old, new)
    (ROOT / f"sql/upgrade/{EXTENSION}--{old}--{new}.sql").write_text(script)
    for name in left:
        print(f"by hand, in sql/upgrade/{old}--{new}.first.sql: {name}", file=sys.stderr)
    return 1 if left else 0


def current_version() -> str:
    """The default version of the control file."""
    control = (ROOT / f"extension/{EXTENSION}.control").read_text()
    return re.findall(r"^default_version = '(.*)'$", control, re.MULTILINE)[0]


def newest_release() -> str:
    """The newest version whose script is frozen, the current one excepted."""
    names = (path.stem.partition("--")[2] for path in (ROOT / "sql/released").glob("*.sql"))
    older = [name for name in names if name != current_version()]
    return max(older, key=lambda name: [int(part) for part in name.split(".")])


def current_script() -> str:
    """The script of the current version, as extension/Makefile puts it together."""
    order = [line.partition("#")[0].strip() for line in (ROOT / "sql/ORDER").read_text().splitlines()]
    text = "".join((ROOT / "sql" / name).read_text().rstrip("\n") + "\n" for name in order if name)
    # A script that is released says which version it makes, whatever comes after it.
    return text.replace("@VERSION@", current_version())


def derive(old: str, new: str) -> tuple[str, list[str]]:
    """Return the upgrade script, and the names of what it cannot derive and nobody has done by hand."""
    before = list(statements((ROOT / f"sql/released/{EXTENSION}--{old}.sql").read_text()))
    after = [s for s in statements(current_script()) if s.kind != "setting"]
    first, last = (_by_hand(f"{old}--{new}.{place}.sql") for place in ("first", "last"))
    done = set(re.findall(r"^-- done: (.*?)\s*$", first, re.MULTILINE))
    derived, left = _difference(before, after, done)
    kept = {statement.name for statement in after}
    left += [s.name for s in before if s.name not in kept and s.kind not in _ALWAYS]
    parts = [
        f"\\echo Use \"ALTER EXTENSION {EXTENSION} UPDATE TO '{new}'\" to load this file. \\quit\n",
        "SET LOCAL search_path TO pg_catalog, pg_temp;\n",
        *([first] if first else []),
        *derived,
        *([last] if last else []),
    ]
    return "\n".join(parts), [name for name in left if name not in done]


def _by_hand(name: str) -> str:
    path = ROOT / "sql/upgrade" / name
    return path.read_text() if path.exists() else ""


def _difference(
    before: list[Statement], after: list[Statement], done: set[str]
) -> tuple[list[str], list[str]]:
    """Return the statements that lead from one script to the other, and the names of what none leads to."""
    known = {statement.name: statement for statement in before}
    renewed: set[str] = set()
    parts, left = [], []
    for statement in after:
        earlier = known.get(statement.name)
        changed = earlier is not None and earlier.text != statement.text
        if earlier is None and statement.name in done:
            continue  # made by hand, because something else by hand needs it first
        if earlier is None or statement.kind in _ALWAYS:
            text = statement.text
        elif changed and statement.kind in _REPLACEABLE:
            text = _REPLACEABLE[statement.kind] + statement.text.removeprefix("CREATE ")
        elif statement.kind == "comment" and (changed or _commented(statement.subject) in renewed):
            text = statement.text
        else:
            left += [statement.name] if changed else []
            continue
        renewed.add(statement.subject.partition("(")[0])
        parts.append(f"{statement.head}{text};\n")
    return parts, left


def statements(script: str) -> Iterator[Statement]:
    """Split a script into its statements."""
    text = re.sub(r"^\\.*$", "", script, flags=re.MULTILINE).replace("@extschema@", _SCHEMA)
    position = 0
    for body in split(text, with_parser=True):
        start = text.index(body, position)
        head = text[position:start]
        position = start + len(body)
        head = head.lstrip(";\n ") + (_LEADING.match(body) or [""])[0]
        bare = body[len((_LEADING.match(body) or [""])[0]) :]
        kind, subject = _identify(bare)
        yield Statement(
            kind,
            _restored(subject),
            _restored(bare),
            _restored(head).strip("\n ") + "\n" * bool(head.strip()),
        )


def _restored(text: str) -> str:
    return text.replace(_SCHEMA, "@extschema@")


def _function(node: ast.CreateFunctionStmt) -> str:
    # A stream goes on from what it has written: one for each type.
    inputs = [RawStream()(p.argType) for p in node.parameters or () if p.mode.name not in _RESULTS]
    return f"{'.'.join(part.sval for part in node.funcname)}({', '.join(inputs)})"


_RESULTS = frozenset({"FUNC_PARAM_OUT", "FUNC_PARAM_TABLE"})
_NAMED: dict[type, tuple[str, Callable[[Any], str]]] = {
    ast.CreateFunctionStmt: ("function", _function),
    ast.ViewStmt: ("view", lambda node: _relation(node.view)),
    ast.CreateStmt: ("table", lambda node: _relation(node.relation)),
    ast.IndexStmt: ("index", lambda node: str(node.idxname)),
    ast.CreateTrigStmt: ("trigger", lambda node: f"{node.trigname} on {_relation(node.relation)}"),
    ast.CreatePolicyStmt: ("policy", lambda node: f"{node.policy_name} on {_relation(node.table)}"),
    ast.CreateEnumStmt: ("type", lambda node: ".".join(part.sval for part in node.typeName)),
    ast.CreateSchemaStmt: ("schema", lambda node: str(node.schemaname)),
}
_BY_TEXT: dict[type, str] = {
    ast.GrantStmt: "grant",
    ast.DoStmt: "do",
    ast.AlterOwnerStmt: "owner",
    ast.VariableSetStmt: "setting",
}


def _identify(text: str) -> tuple[str, str]:
    """Return the kind of a statement and what it is about; one about nothing is about its own text."""
    node = parse_sql(text)[0].stmt
    line = " ".join(text.split())
    if type(node) in _NAMED:
        kind, name = _NAMED[type(node)]
        return kind, name(node)
    if isinstance(node, ast.CommentStmt):
        return "comment", line.removeprefix("COMMENT ON ").partition(" IS ")[0]
    return _BY_TEXT.get(type(node), "statement"), line


def _relation(node: ast.RangeVar) -> str:
    return f"{node.schemaname}.{node.relname}" if node.schemaname else str(node.relname)


def _commented(subject: str) -> str:
    """The name of the object that a comment is about; arguments may be spelled in more than one way."""
    kind, _, name = subject.partition(" ")
    return name.rpartition(".")[0] if kind == "COLUMN" else name.partition("(")[0]


if __name__ == "__main__":
    sys.exit(main())
