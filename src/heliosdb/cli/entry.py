"""The `heliosdb` command where only the Python SDK may be installed: it says what is missing.

What always holds: this module needs the standard library alone.
"""

from __future__ import annotations

import sys

_NO_DAEMONS = 78  # EX_CONFIG of sysexits.h


def main() -> None:
    """Run the command line; without its extra, say so and end with status 78."""
    try:
        from heliosdb.cli.main import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("heliosdb", "federated_sql"):
            raise
        print(
            f"heliosdb: the command line and the daemons need the extra daemons ({error.name} is missing).\n"
            "HINT:  pip install 'heliosdb-federated-learning[daemons]'",
            file=sys.stderr,
        )
        sys.exit(_NO_DAEMONS)
    app()
