#!/usr/bin/env bash
# Make this checkout ready to run on a bare Debian or Ubuntu: server, environment, extension; with --clients also
# the drivers of other languages that the tests connect with, and what the page is bundled and tested with.
#
# What always holds: a second call does nothing again. Each step compares the content of its inputs with what
# it last finished with (the environment under .venv, the extension in the installed tree itself), so a change
# of a lock file or of a SQL file redoes its own step only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo > /dev/null; then sudo "$@"
    else fail "needs root for: $* -- and there is no sudo. Run it as root, then call this again."
    fi
}

apt_install() {
    command -v apt-get > /dev/null || fail "missing: $*. Install them with this system's package manager (no apt-get here)."
    say "installing $*"
    # The lists of a bare image are empty or old; an index that cannot be refreshed may still serve.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 || say "apt-get update failed; trying with the lists that are here"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-upgrade "$@" >&2 ||
        fail "apt-get could not install: $*"
}

hash_of() { sha256sum "$@" | sha256sum | cut -d ' ' -f 1; }

ensure_server() {
    local major status=0
    PG_CONFIG=$(scripts/find-postgres.sh) || status=$?
    # Only the status that says "there is none" leads to installing one; any other failure is a failure.
    if [ "$status" -eq 3 ]; then
        apt_install postgresql
        PG_CONFIG=$(scripts/find-postgres.sh) || fail "no PostgreSQL server of version 14 or newer was found after installing one."
    elif [ "$status" -ne 0 ]; then
        fail "could not look for a PostgreSQL server (scripts/find-postgres.sh ended with status $status)."
    fi
    export PG_CONFIG
    if [ ! -e "$("$PG_CONFIG" --pkglibdir)/plpython3.so" ]; then
        major=$("$PG_CONFIG" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
        apt_install "postgresql-plpython3-$major"
        [ -e "$("$PG_CONFIG" --pkglibdir)/plpython3.so" ] ||
            fail "PL/Python is still missing in $("$PG_CONFIG" --pkglibdir); this server was not installed by apt: build it --with-python."
    fi
}

ensure_environment() {
    local python wanted
    python=$(scripts/find-python.sh) || exit 1
    "$python" -c 'import ensurepip, venv' 2> /dev/null || apt_install python3-venv
    if ! [ .venv/bin/python -ef "$python" ]; then
        [ ! -e .venv ] || say "rebuilding .venv: it was not made from $python, which the server's PL/Python runs"
        "$python" -m venv --clear .venv
    fi
    wanted=$(hash_of requirements.lock)
    if [ "$(cat .venv/.requirements 2> /dev/null)" != "$wanted" ]; then
        say "installing the locked packages into .venv"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements.lock
        # Not in the lock: which build of PyTorch there is depends on the platform. Its tests need it, nothing else.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
        echo "$wanted" > .venv/.requirements
    fi
    wanted=$(hash_of pyproject.toml requirements.lock)
    if [ "$(cat .venv/.project 2> /dev/null)" != "$wanted" ]; then
        say "installing the project into .venv"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
        echo "$wanted" > .venv/.project
    fi
}

ensure_extension() {
    local installed
    installed="$("$PG_CONFIG" --pkglibdir)/heliosdb_federated_learning/CONTENT_HASH"
    if [ "$(cat "$installed" 2> /dev/null)" != "$(scripts/extension-hash.sh)" ]; then
        say "installing the extension for $("$PG_CONFIG" --version)"
        make --no-print-directory -C extension install PG_CONFIG="$PG_CONFIG" >&2
    fi
}

# What the Rust crate is built against in tests: Debian's packaged crates, and a cargo where none is on PATH.
ensure_crates() {
    local crates=/usr/share/cargo/registry missing=()
    command -v cargo > /dev/null || missing+=(cargo)
    compgen -G "$crates/tokio-postgres-*" > /dev/null || missing+=(librust-tokio-postgres-dev "librust-tokio-postgres+with-serde-json-1-dev")
    compgen -G "$crates/tokio-1.*" > /dev/null || missing+=("librust-tokio+macros-dev" "librust-tokio+rt-multi-thread-dev")
    compgen -G "$crates/serde_json-*" > /dev/null || missing+=(librust-serde-json-dev)
    compgen -G "$crates/futures-util-*" > /dev/null || missing+=(librust-futures-util-dev)
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# A browser, and the page's packages.
ensure_browser() {
    command -v chromium > /dev/null || apt_install chromium
    scripts/page.sh --packages
}

# Java's, Node's and Rust's drivers. A Java, Node or cargo that is on PATH is taken, whatever installed it.
ensure_clients() {
    local missing=() built=build/clients/node wanted
    # What scripts/deb.py reads the libraries of wheels with.
    command -v readelf > /dev/null || missing+=(binutils)
    command -v javac > /dev/null || missing+=(default-jdk-headless)
    [ -e /usr/share/java/postgresql.jar ] || missing+=(libpostgresql-jdbc-java)
    command -v node > /dev/null || missing+=(nodejs)
    command -v npm > /dev/null || missing+=(npm)
    if [ ${#missing[@]} -gt 0 ]; then
        # Java's packages link their manual pages, and a slim image has no place for them.
        [ -d /usr/share/man/man1 ] || as_root mkdir -p /usr/share/man/man1
        apt_install "${missing[@]}"
    fi
    ensure_crates
    ensure_browser
    wanted=$(hash_of tests/clients/node/package.json tests/clients/node/package-lock.json)
    if [ "$(cat "$built/.packages" 2> /dev/null)" != "$wanted" ]; then
        say "installing the locked packages for Node into $built"
        mkdir -p "$built"
        cp tests/clients/node/package.json tests/clients/node/package-lock.json "$built"
        npm ci --prefix "$built" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
        echo "$wanted" > "$built/.packages"
    fi
    ensure_inference_client
}

# An independent client of the Open Inference Protocol. It asks for an older protobuf than ours, whose generated code runs on
# ours as well: installed without what it asks for, beside the environment and not in it.
ensure_inference_client() {
    local built=build/clients/python wanted="tritonclient==2.73.0 python-rapidjson==1.25"
    if [ "$(cat "$built/.packages" 2> /dev/null)" != "$wanted" ]; then
        say "installing $wanted into $built"
        rm -rf "$built"
        mkdir -p "$built"
        # shellcheck disable=SC2086 -- two words
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target "$built" $wanted
        echo "$wanted" > "$built/.packages"
    fi
}

main() {
    mkdir -p build
    # Two calls at once (a test run beside a demo) wait for each other instead of building over each other.
    exec 9> build/setup.lock
    flock 9
    ensure_server
    ensure_environment
    [ "${1:-}" = --no-extension ] || ensure_extension
    [ "${1:-}" != --clients ] || ensure_clients
}

# Sourced by its tests, which call one step at a time.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
