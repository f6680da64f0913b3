#!/usr/bin/env bash
# Print the path of the pg_config of the PostgreSQL server to use (14 or newer).
#
# PG_CONFIG in the environment wins. Otherwise the newest installed server that has PL/Python is taken, and
# failing that the newest server: an installed one is always preferred to installing another. Exit status 3
# and no output where there is none, so that setup.sh can tell that from a failure.
set -euo pipefail

if [ -n "${PG_CONFIG:-}" ]; then
    [ -x "$PG_CONFIG" ] || { echo "find-postgres: PG_CONFIG=$PG_CONFIG is not executable." >&2; exit 1; }
    echo "$PG_CONFIG"
    exit 0
fi

# A server is its postgres binary: libpq-dev alone also brings a pg_config. Debian's own /usr/bin/pg_config
# may belong to another version than the servers that are there, so the versioned ones are asked.
servers=$(find /usr/lib/postgresql /usr/pgsql-* /usr/local/pgsql /opt/homebrew/opt/postgresql@* \
    -maxdepth 3 -path '*/bin/postgres' 2>/dev/null | sort -Vr || true)
newest=
for server in $servers; do
    bin=$(dirname "$server")
    major=$("$server" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
    [ "$major" -ge 14 ] || continue
    config="$bin/pg_config"
    [ -x "$config" ] || continue
    [ -n "$newest" ] || newest=$config
    if [ -e "$("$config" --pkglibdir)/plpython3.so" ]; then
        echo "$config"
        exit 0
    fi
done
[ -n "$newest" ] || exit 3
echo "$newest"
