#!/usr/bin/env bash
# rustfmt and clippy over the crate, against Debian's packaged crates: status 0 where they find nothing. What of them is not on the
# machine is named, and is no failure: scripts/setup.sh --clients installs cargo and the crates, and `make test` needs both.
set -euo pipefail
cd "$(dirname "$0")/../rust"

crates=/usr/share/cargo/registry

absent() {
    echo "rust/ is not checked by $1: $2" >&2
}

if ! command -v cargo > /dev/null; then
    absent "rustfmt and clippy" "cargo is not on PATH (scripts/setup.sh --clients installs it)"
    exit 0
fi

if cargo fmt --version > /dev/null 2>&1; then
    cargo fmt --check
else
    absent rustfmt "cargo has no fmt (Debian: rustfmt)"
fi

if ! cargo clippy --version > /dev/null 2>&1; then
    absent clippy "cargo has no clippy (Debian: rust-clippy)"
elif ! compgen -G "$crates/tokio-postgres-*" > /dev/null; then
    absent clippy "$crates has no tokio-postgres (scripts/setup.sh --clients installs librust-tokio-postgres-dev)"
else
    CARGO_TARGET_DIR=../build/rust/clippy CARGO_INCREMENTAL=0 cargo clippy --quiet --offline --all-targets \
        --config 'source.crates-io.replace-with="debian"' --config "source.debian.directory=\"$crates\"" -- --deny warnings
fi
