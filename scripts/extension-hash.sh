#!/usr/bin/env bash
# Print one hash over everything that `make -C extension install` would install for this server.
# The installed tree carries it as CONTENT_HASH, so that setup.sh knows whether the server is up to date,
# also when another checkout has installed over it.
set -euo pipefail
cd "$(dirname "$0")/.."

pg_config=${PG_CONFIG:-$(scripts/find-postgres.sh)}
{
    "$pg_config" --version --pkglibdir
    find extension/Makefile extension/*.control requirements-extension.lock scripts/extension-hash.sh \
        sql parser/federated_sql src/heliosdb/__init__.py src/heliosdb/domain src/heliosdb/parts src/heliosdb/catalog \
        src/heliosdb/extension src/heliosdb/phi src/heliosdb/scoring \
        src/heliosdb/forecast src/heliosdb/algorithms src/heliosdb/aggregation src/heliosdb/privacy $(ls -d src/heliosdb/faults src/heliosdb/faults.py 2>/dev/null || true) \
        -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum | cut -d ' ' -f 1
