#!/usr/bin/env bash
# What scripts/test_deb.sh has done inside a Debian root, as root, without a network: both packages from their
# installation to their purge, and between them what docs/operations.md says, block by block.
#
# What always holds: the page's text is used as it stands but for the port of the participant's server, which shares a
# machine with the coordinator's here.
set -euo pipefail
cd /journey

postgres=$1 mark=$2
extension=postgresql-$postgres-heliosdb-federated-learning
page=/journey/operations.md
kinds="coordinator proxy api node"

say() { echo "journey: $*" >&2; }
fail() { say "$*"; exit 1; }

# The page's block of a label, as "toml node".
block() { awk -v head="\`\`\`$1" '$0 == "```" { inside = 0 } inside { print } $0 == head { inside = 1 }' "$page"; }
for_participant() { sed 's/5432/5433/g'; }

# As the superuser of the cluster at a port.
ask() { runuser -u postgres -- psql -XAtq --set ON_ERROR_STOP=1 -p "$1" -d "$2" -c "$3"; }
run_sql() { runuser -u postgres -- psql -Xq --set ON_ERROR_STOP=1 -p "$1"; }

# Whatever a package could have put somewhere; what PostgreSQL's own Python keeps of a module is not its.
files() {
    find /etc/heliosdb /etc/systemd /usr/bin /usr/lib /usr/share /var/lib/heliosdb-* \
        -not -path '*/__pycache__*' 2> /dev/null | sort -u || true
}

# Its unit's own command line, as the unit's user.
start() {
    local line
    line=$(sed -n 's/^ExecStart=//p' "/usr/lib/systemd/system/heliosdb-$1.service")
    install -d -o heliosdb -m 0700 "/var/lib/heliosdb-$1" "/run/heliosdb-$1"
    # shellcheck disable=SC2086
    runuser -u heliosdb -- $line > "/journey/$1.log" 2>&1 &
    echo $! > "/journey/$1.pid"
}

wait_until_well() {
    local end=$((SECONDS + 120))
    until runuser -u heliosdb -- heliosdb health "$1" --config "/etc/heliosdb/$1.toml" > /journey/health 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { cat /journey/health "/journey/$1.log" >&2; fail "$1 is not well"; }
    done
    say "$(cat /journey/health)"
}

make_clusters() {
    local name
    for name in $(pg_lsclusters -h | awk '{ print $2 }'); do pg_dropcluster --stop "$postgres" "$name"; done
    pg_createcluster "$postgres" coordinator -p 5432 --locale C.UTF-8 > /dev/null
    pg_createcluster "$postgres" north -p 5433 --locale C.UTF-8 > /dev/null
    for name in coordinator north; do pg_ctlcluster "$postgres" "$name" start; done
}

# A database of the released version is updated by the package that follows it, and nothing is lost.
update_from_released() {
    dpkg -i /journey/released.deb > /dev/null
    make_clusters
    ask 5432 postgres "CREATE DATABASE older"
    ask 5432 older "CREATE EXTENSION heliosdb_federated_learning CASCADE" 2> /dev/null
    [ "$(ask 5432 older "SELECT extversion FROM pg_extension WHERE extname = 'heliosdb_federated_learning'")" = 1.1 ] ||
        fail "the released package has not the released version"
    dpkg -i /journey/dist/postgresql-*.deb > /dev/null
    ask 5432 older "ALTER EXTENSION heliosdb_federated_learning UPDATE"
    [ "$(ask 5432 older "SELECT extversion FROM pg_extension WHERE extname = 'heliosdb_federated_learning'")" = 1.2 ] ||
        fail "the update has not led to this version"
    ask 5432 older "CALL federated.execute('CREATE FEDERATED WORKSPACE after_the_update')"
    ask 5432 older "DROP EXTENSION heliosdb_federated_learning CASCADE" 2> /dev/null
    ask 5432 postgres "DROP DATABASE older"
    say "1.1 was updated to 1.2"
}

follow_the_page() {
    local kind
    echo "127.0.0.1 coordinator.example.org north.example.org" >> /etc/hosts
    { block "conf pg_hba coordinator"; cat "/etc/postgresql/$postgres/coordinator/pg_hba.conf"; } > hba
    cp hba "/etc/postgresql/$postgres/coordinator/pg_hba.conf"
    block "conf pg_ident coordinator" >> "/etc/postgresql/$postgres/coordinator/pg_ident.conf"
    { block "conf pg_hba participant"; cat "/etc/postgresql/$postgres/north/pg_hba.conf"; } > hba
    cp hba "/etc/postgresql/$postgres/north/pg_hba.conf"
    block "sql coordinator" | run_sql 5432
    block "sql participant" | run_sql 5433
    for kind in coordinator north; do pg_ctlcluster "$postgres" "$kind" reload; done
    bash -eu -c "$(block "sh certificates coordinator")"
    bash -eu -c "$(block "sh certificates participant")" 2> /dev/null
    for kind in $kinds; do
        block "toml $kind" > "/etc/heliosdb/$kind.toml"
        cmp "/etc/heliosdb/$kind.toml" "/etc/heliosdb/examples/$kind.toml"
    done
    for_participant < /etc/heliosdb/examples/node.toml > /etc/heliosdb/node.toml
    block "conf pgpass participant" | for_participant > /etc/heliosdb/pgpass
    chmod 600 /etc/heliosdb/pgpass
    chown heliosdb: /etc/heliosdb/pgpass
    for kind in $kinds; do start "$kind"; done
    for kind in $kinds; do wait_until_well "$kind"; done
    runuser -u heliosdb -- heliosdb doctor --config /etc/heliosdb/node.toml >&2
    cp /etc/heliosdb/ca.pem .
    bash -eu -c "$(block "sh ann")" > said
    cat said >&2
    grep -q '"predictions":\[{"value":0\.' said
}

# Over themselves, as an upgrade goes: by the page's own lines, for this release of Debian.
install_again() {
    block "sh packages" | sed -e '/^make/d' -e 's/install/install -y -qq --reinstall/' \
        -e "s/deb12/$mark/" -e "s/postgresql-15/postgresql-$postgres/" > again
    bash -eu again > /dev/null
    # It was never ended; on a busy machine it may be slow to say so.
    wait_until_well coordinator
    [ "$(stat -c '%a %U %G' /etc/heliosdb)" = "750 root heliosdb" ] || fail "/etc/heliosdb was opened"
}

remove_all() {
    local kind
    for kind in $kinds; do kill "$(cat "$kind.pid")"; done
    for kind in $kinds; do wait "$(cat "$kind.pid")" || true; done
    ask 5432 federation "DROP EXTENSION heliosdb_federated_learning CASCADE" 2> /dev/null
    dpkg --remove heliosdb > /dev/null
    [ -s /var/lib/heliosdb-coordinator/coordinator.key ] || ls /var/lib/heliosdb-coordinator | grep -q key
    dpkg --purge "$extension" > /dev/null
    dpkg --purge heliosdb > /dev/null 2> purged
    grep -q "/etc/heliosdb has your settings" purged
    ls /var/lib/heliosdb-coordinator | grep -q key || fail "a purge has taken the coordinator's keys"
    rm -rf /etc/heliosdb /var/lib/heliosdb-*
}

rm -rf /etc/heliosdb /var/lib/heliosdb-*   # of an earlier journey, in a root that was kept
files > before
update_from_released
dpkg -i /journey/dist/heliosdb_*.deb > /dev/null
heliosdb --version
[ "$(stat -c '%a %U %G' /etc/heliosdb)" = "750 root heliosdb" ] || fail "/etc/heliosdb is open"
if compgen -G '/etc/systemd/system/*.wants/heliosdb*' > /dev/null; then fail "a unit was enabled"; fi
follow_the_page
install_again
remove_all
files > after
left=$(comm -13 before after)
[ -z "$left" ] || fail "something was left: $left"
say "nothing was left"
