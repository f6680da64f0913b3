#!/usr/bin/env bash
# Bundle web/ into the files that `heliosdb api` serves, which are committed: whoever installs needs no Node.
# Another folder may be named: scripts/page.sh FOLDER. Format and types are checked first. scripts/page.sh --packages only
# installs what bundling and its tests need.
#
# What always holds: web/node_modules has what the lock names, and the same sources give the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p build
# Two calls at once (tests beside a developer) wait for each other.
exec 9> build/page.lock
flock 9
wanted=$(cat web/package.json web/package-lock.json | sha256sum | cut -d ' ' -f 1)
if [ "$(cat web/node_modules/.packages 2> /dev/null)" != "$wanted" ]; then
    npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    echo "$wanted" > web/node_modules/.packages
fi
[ "${1:-}" != --packages ] || exit 0
(cd web && node_modules/.bin/prettier --check --log-level=warn "src/**/*.ts" build.mjs)
web/node_modules/.bin/tsc --project web
node web/build.mjs "$(realpath -m "${1:-src/heliosdb/api/static}")"
