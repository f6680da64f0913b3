#!/usr/bin/env bash
# Print the path of the Python that PL/Python is linked with, so that the environment and the server agree.
#
# Not `command -v python3`: a Python built by the user may come first on PATH, and its extension modules
# would not load inside the server. Reads PG_CONFIG; fails with a sentence where nothing fits.
set -euo pipefail

fail() { echo "find-python: $*" >&2; exit 1; }

pg_config=${PG_CONFIG:-$("$(dirname "$0")/find-postgres.sh" || fail "no PostgreSQL server of version 14 or newer was found.")}
library="$("$pg_config" --pkglibdir)/plpython3.so"
[ -r "$library" ] || fail "$library is missing; install PL/Python (postgresql-plpython3) for this server."

linked=$(ldd "$library" | sed -n 's/.*libpython\(3\.[0-9]*\)[^ ]*\.so.*/\1/p' | head -n 1)
[ -n "$linked" ] || fail "$library names no libpython; cannot tell which Python the server runs."

for candidate in "/usr/bin/python$linked" "/usr/local/bin/python$linked" /usr/bin/python3; do
    [ -x "$candidate" ] || continue
    found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$found" = "$linked" ]; then
        minor=${linked#3.}
        [ "$minor" -ge 11 ] || fail "the server's PL/Python runs Python $linked; this project needs 3.11 or newer."
        echo "$candidate"
        exit 0
    fi
done
fail "PL/Python is linked with Python $linked, and no such interpreter is in /usr/bin or /usr/local/bin."
