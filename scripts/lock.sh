#!/usr/bin/env bash
# Rewrite the locks from pyproject.toml, every pin with its hashes: requirements.lock (this checkout),
# requirements-runtime.lock (the daemons and the API), requirements-servers.lock (all that a Debian package brings),
# requirements-extension.lock (inside the server), requirements-pgspot.lock (scripts/pgspot.sh, whose pglast is an older one)
# and requirements-flower.lock (make flower: Flower's own environment, for flower/).
# Which package index is asked is the business of uv's own configuration; none is named here or in the locks.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/lock-tools
python=$(scripts/find-python.sh)
[ -x "$tools/bin/uv" ] || { "$python" -m venv "$tools" && "$tools/bin/pip" install --quiet uv; }

inputs=build/lock-inputs
mkdir -p "$inputs"
"$python" - "$inputs" <<'PYTHON'
"""Split pyproject.toml's dependencies into what the checkout needs and what runs inside the server."""
import pathlib
import sys
import tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
extras = project["project"]["optional-dependencies"]
# `heliosdb up` serves the page.
api = [need for need in extras["api"] if not need.startswith(project["project"]["name"])]
base = project["project"]["dependencies"] + extras["daemons"] + api
# `editables` is what hatchling asks for when it installs a project in place.
everything = base + extras["dev"] + project["build-system"]["requires"]
everything.append("editables>=0.5")
# In an environment of its own: its versions need not agree with the others'.
apart = extras["pgspot"]
# Of the extras all that a server may be asked for; which build of PyTorch a node takes is its owner's to say.
servers = base + [
    name
    for extra in ("api", "tracing", "reports", "exchange", "images")
    for name in extras[extra]
    if not name.startswith("heliosdb-federated-learning")
]
inside = [name for name in base if name.startswith(("pglast", "numpy", "cryptography"))]
target = pathlib.Path(sys.argv[1])
(target / "requirements.in").write_text("\n".join(everything) + "\n")
(target / "requirements-runtime.in").write_text("\n".join(base) + "\n")
(target / "requirements-servers.in").write_text("\n".join(servers) + "\n")
(target / "requirements-extension.in").write_text("\n".join(inside) + "\n")
(target / "requirements-pgspot.in").write_text("\n".join(apart) + "\n")
carrying = tomllib.loads(pathlib.Path("flower/pyproject.toml").read_text())["project"]["dependencies"]
(target / "requirements-flower.in").write_text("\n".join(carrying) + "\n")
PYTHON

# The smaller locks take their versions from the first, so that they agree; pgspot's and Flower's stand alone.
: > "$inputs/pins.txt"
for lock in requirements requirements-runtime requirements-servers requirements-extension requirements-pgspot requirements-flower; do
    case $lock in requirements-pgspot | requirements-flower) : > "$inputs/pins.txt" ;; esac
    # The hashes are the index's own, so that no file is fetched for them.
    "$tools/bin/uv" pip compile --quiet --python "$python" --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" \
        --constraint "$inputs/pins.txt" --output-file "$lock.lock" "$inputs/$lock.in"
    sed -i "/^# Written by/d; 1i # Written by scripts/lock.sh from pyproject.toml; do not edit by hand." "$lock.lock"
    [ "$lock" != requirements ] || sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' "$lock.lock" > "$inputs/pins.txt"
done
