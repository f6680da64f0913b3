#!/usr/bin/env bash
# Make the environment in which Flower runs, build/flower-venv, from its own lock: its versions of protobuf and grpcio
# need not agree with ours. Does nothing where it is there and the lock is as it was.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=build/flower-venv
lock=requirements-flower.lock
wanted=$(sha256sum "$lock" | cut -d ' ' -f 1)
[ "$(cat "$environment/LOCK" 2> /dev/null || true)" != "$wanted" ] || exit 0
"$(scripts/find-python.sh)" -m venv --clear "$environment"
# Flower brings uv, which installs the rest in a fraction of pip's time.
sed -n '/^uv==/,/[^\\]$/p' "$lock" > "$environment/uv.txt"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --requirement "$environment/uv.txt"
"$environment/bin/uv" pip install --quiet --python "$environment/bin/python" --require-hashes --no-deps \
    --requirement "$lock"
echo "$wanted" > "$environment/LOCK"
