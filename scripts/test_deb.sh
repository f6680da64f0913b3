#!/usr/bin/env bash
# Install, use, upgrade and remove the packages of dist/ in a root of Debian's own: scripts/test_deb.sh bookworm|trixie
#
# What always holds: the root is this script's and goes with it (KEEP=1 keeps it, HELIOSDB_DEB_ROOT says where it is);
# only Debian's packages are fetched. From the first of ours on there is no network, and whatever was started ends
# with the namespace it was started in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "test_deb: $*" >&2; }
fail() { say "$*"; exit 1; }

distribution=${1:-bookworm}
case $distribution in
    bookworm) postgres=15 mark=deb12 ;;
    trixie) postgres=17 mark=deb13 ;;
    *) fail "there are bookworm and trixie" ;;
esac
[ "$(id -u)" -eq 0 ] || fail "debootstrap needs root"
command -v debootstrap > /dev/null || fail "debootstrap is missing"
root=${HELIOSDB_DEB_ROOT:-/var/tmp/heliosdb-deb-$distribution}
mirror=${HELIOSDB_DEB_MIRROR:-http://deb.debian.org/debian}
architecture=$(dpkg --print-architecture)
extension=postgresql-$postgres-heliosdb-federated-learning
packages=("dist/heliosdb_"*"+${mark}_$architecture.deb" "dist/${extension}_"*"+${mark}_$architecture.deb")
[ ${#packages[@]} -eq 2 ] && [ -e "${packages[0]}" ] && [ -e "${packages[1]}" ] || fail "make deb DISTRIBUTION=$distribution first, and keep one version in dist/"

# It is deleted at the end, so it is one that this script made.
[ ! -e "$root" ] || [ -e "$root/.made-by-test-deb" ] || fail "$root is there already and is nothing of this script's"
clean() { [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$root"; }
trap clean EXIT

# Its own mounts and processes, which end with it.
inside() { unshare --mount --pid --fork --kill-child "$@"; }

dependencies() {
    for package in "${packages[@]}"; do dpkg-deb --field "$package" Depends; done |
        tr ',' '\n' | sed -e 's/(.*)//' -e 's/ //g' | sort -u | tr '\n' ' '
}

make_root() {
    if [ ! -x "$root/usr/bin/dpkg" ]; then
        say "making a root of $distribution in $root"
        mkdir -p "$root"
        touch "$root/.made-by-test-deb"
        debootstrap --variant=minbase "$distribution" "$root" "$mirror" > "$root.log" 2>&1 || { cat "$root.log" >&2; exit 1; }
        rm -f "$root.log"
    fi
    # Nothing is started by an installation: the journey does.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    say "installing what the packages depend on"
    inside chroot "$root" sh -ec "
        mount -t proc proc /proc
        mkdir -p /dev/pts
        mount -t devpts devpts /dev/pts
        export DEBIAN_FRONTEND=noninteractive
        # What a journey left that did not end, in a root that was kept.
        dpkg --purge $extension heliosdb 2> /dev/null || true
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends openssl curl $(dependencies)
    " > /dev/null
}

# The extension as it was released: its SQL, and a control file that names it. Its Python was the same package's.
make_released() {
    local tree=$root/released old=1.1
    dpkg-deb --raw-extract "${packages[1]}" "$tree"
    sed -i "s/^Version: .*/Version: $old.0-1+$mark/" "$tree/DEBIAN/control"
    sed -i "s/^default_version.*/default_version = '$old'/" "$tree/usr/share/postgresql/$postgres/extension/heliosdb_federated_learning.control"
    find "$tree/usr/share/postgresql" -name '*--1.*.sql' ! -name "*--$old.sql" -delete
    (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Znone --build "$tree" "$root/journey/released.deb" > /dev/null
    rm -rf "$tree"
}

main() {
    make_root
    rm -rf "$root/journey"
    mkdir -p "$root/journey/dist"
    cp "${packages[@]}" "$root/journey/dist/"
    make_released
    cp docs/operations.md scripts/deb_journey.sh "$root/journey/"
    say "the journey, without a network"
    inside --net sh -ec "
        ip link set lo up
        mount -t proc proc '$root/proc'
        mkdir -p '$root/dev/shm'
        mount -t tmpfs tmpfs '$root/dev/shm'
        exec chroot '$root' /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root \
            bash /journey/deb_journey.sh $postgres $mark
    "
    say "$distribution: all is as it should be"
}

main
exit
