#!/usr/bin/env bash
# Make the environment in which Flower runs, build/flower-venv, from its own lock: its versions of protobuf and grpcio
# need not agree with ours. Does nothing where it is there and the lock is as it was.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=build/flower-venv
wanted=$(sha256sum requirements-flower.lock | cut -d ' ' -f 1)
[ "$(cat "$environment/LOCK" 2>/dev/null || true)" != "$wanted" ] || exit 0
rm -rf "$environment"
"$(scripts/find-python.sh)" -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements-flower.lock
echo "$wanted" > "$environment/LOCK"
