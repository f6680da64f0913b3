#!/bin/sh
# Takes out of installed packages what only their own developers need: tests, sources and stubs that nobody compiles
# against, and the debugging symbols of the two that come with megabytes of them. Licences and metadata stay.
# Usage: slim.sh SITE_PACKAGES
set -eu
cd "$1"
find . -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.a' \) -delete
# Not everybody's: a library whose sections were moved by patchelf, as those of numpy and scipy, does not survive it.
find pglast uvloop -type f -name '*.so' -exec strip --strip-debug {} +
