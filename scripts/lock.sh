#!/usr/bin/env bash
# Rewrite requirements.lock and requirements-extension.lock from pyproject.toml, every pin with its hashes.
# Which package index is asked is the business of pip's own configuration; none is named here or in the locks.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/lock-tools
python=$(scripts/find-python.sh)
[ -x "$tools/bin/pip-compile" ] || { "$python" -m venv "$tools" && "$tools/bin/pip" install --quiet pip-tools; }

inputs=build/lock-inputs
mkdir -p "$inputs"
"$python" - "$inputs" <<'PYTHON'
"""Split pyproject.toml's dependencies into what the checkout needs and what runs inside the server."""
import pathlib
import sys
import tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
base = project["project"]["dependencies"]
# `editables` is what hatchling asks for when it installs a project in place.
everything = base + project["project"]["optional-dependencies"]["dev"] + project["build-system"]["requires"]
everything.append("editables>=0.5")
inside = [name for name in base if name.startswith("pglast")]
target = pathlib.Path(sys.argv[1])
(target / "requirements.in").write_text("\n".join(everything) + "\n")
(target / "requirements-extension.in").write_text("\n".join(inside) + "\n")
PYTHON

for lock in requirements requirements-extension; do
    "$tools/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate "$@" \
        --output-file "$lock.lock" "$inputs/$lock.in"
    sed -i "1i # Written by scripts/lock.sh from pyproject.toml; do not edit by hand." "$lock.lock"
done
