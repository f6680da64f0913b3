"""Write the plain installer, one SQL file for servers on whose disk nothing can be put, and its uninstaller.

    psql -X -f build/…--VERSION.plain.sql

makes the same objects as CREATE EXTENSION, without an extension. The Python sources travel as rows of
federated.library, as they are, and an importer inside the server finds them there. pglast, a library in
C, cannot travel: federated_sql.fallback_scanner stands in for it; what needs more is answered with 0A000.

What always holds: everything is one transaction; nothing that is there already is replaced; the code comes
from a table that only a superuser writes, before anything on the server's path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from write_upgrade import EXTENSION, ROOT, Statement, current_script, current_version, statements

_PACKAGES = (
    "parser/federated_sql",
    "src/heliosdb/domain",
    "src/heliosdb/parts",
    "src/heliosdb/catalog",
    "src/heliosdb/extension",
    "src/heliosdb/phi",
    "src/heliosdb/scoring",
    "src/heliosdb/forecast",
    "src/heliosdb/algorithms",
    "src/heliosdb/aggregation",
    "src/heliosdb/privacy",
)
_FILES = ("src/heliosdb/__init__.py", "src/heliosdb/faults.py")
# Daemons' connections: they import psycopg, which the server does not have.
_LEFT_OUT = frozenset({"heliosdb/catalog/psycopg_connection.py"})
_PATH_LINE = 'if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")\n'
_LOAD_LINE = 'if "heliosdb" not in sys.modules: plpy.execute("SELECT federated._load_library()")\n'

_INSERT = "INSERT INTO federated.library (path, source) VALUES ('{name}', {quoted});\n"
_DROPPED = {"function": "ROUTINE", "view": "VIEW", "table": "TABLE", "type": "TYPE", "schema": "SCHEMA"}


def main() -> None:
    """Write both files into build/."""
    script = [s for s in statements(current_script()) if "pg_extension_config_dump" not in s.text]
    head, tail = ((ROOT / f"sql/plain/{name}.sql").read_text() for name in ("head", "library"))
    version = current_version()
    parts = [head.replace("@VERSION@", version), *_objects(script), tail, *_sources(), "COMMIT;\n"]
    _write(f"{EXTENSION}--{version}.plain.sql", "\n".join(parts))
    _write(f"{EXTENSION}--{version}.plain-uninstall.sql", _uninstaller(script))


def _write(name: str, text: str) -> None:
    """Put a file into build/ whole: somebody may be reading the one that is there."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    draft = build / f"{name}.{os.getpid()}"
    draft.write_text(text)
    draft.replace(build / name)


def _objects(script: list[Statement]) -> Iterator[str]:
    for statement in script:
        if statement.kind == "setting":
            continue
        text = statement.text.replace(_PATH_LINE, _LOAD_LINE)
        if "@LIBDIR@" in text:
            sys.exit(f"{statement.name}: the library's path is not on the line that this program knows")
        yield f"{statement.head}{text};\n".replace("@extschema@", "public")


def _sources() -> Iterator[str]:
    """The library's files as rows, each source quoted with a tag that does not occur in it."""
    for name, path in sorted(_library().items()):
        source = path.read_text(encoding="utf-8")
        tag = "$source$"
        while tag in source or source.endswith(tag[:-1]):
            tag = f"{tag[:-1]}_$"
        yield _INSERT.format(name=name, quoted=f"{tag}{source}{tag}")


def _library() -> dict[str, Path]:
    files = [ROOT / name for name in _FILES]
    for package in _PACKAGES:
        files += [path for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".sql")]
    roots = (ROOT / "src", ROOT / "parser")
    named = {str(path.relative_to(next(r for r in roots if path.is_relative_to(r)))): path for path in files}
    return {name: path for name, path in named.items() if name not in _LEFT_OUT}


def _uninstaller(script: list[Statement]) -> str:
    """Drop in the opposite order, never by CASCADE: whatever of the user's depends on something stops it."""
    head, tail = ((ROOT / f"sql/plain/uninstall-{name}.sql").read_text() for name in ("head", "tail"))
    drops = []
    for statement in reversed(script):
        if statement.kind == "trigger":
            drops.append(f"DROP TRIGGER {statement.subject.replace(' on ', ' ON ')};")
        elif statement.kind in _DROPPED:
            drops.append(f"DROP {_DROPPED[statement.kind]} {statement.subject};")
    return head + "\n".join(drops).replace("@extschema@", "public") + "\n" + tail


if __name__ == "__main__":
    main()
