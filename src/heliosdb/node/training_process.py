"""The training process from its first instruction on: limited, confined, and only then with its libraries.

What always holds: before numerical libraries start threads, which could not be confined any more, a process
is started that reads rows for this one, and what this one may do is over; parts that a site has added are
imported after that. It says what is in force before it answers anything.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from heliosdb.node.confinement import (
    CONFINEMENT,
    SCRATCH,
    UNCONFINED,
    WITH_WORKERS,
    confine,
    set_limits,
)
from heliosdb.node.reader import rows_of
from heliosdb.node.reader_process import start_reader_process


def main(memory_bytes: int | None, parts: Sequence[str]) -> None:
    """Answer frames from stdin on stdout until stdin ends. parts: modules that register further parts."""
    # The daemon decides when to stop; a Ctrl-C in its terminal reaches this process too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Its warnings quote the server, which may quote a row; errors are told by their condition (unreadable).
    logging.getLogger("psycopg").setLevel(logging.CRITICAL + 1)
    set_limits(memory_bytes)
    reader, in_force = None, UNCONFINED
    if os.environ.get("HELIOSDB_ENGINE"):
        in_force = WITH_WORKERS
    elif os.environ.get(CONFINEMENT) != "off":
        reader = start_reader_process()
        in_force = confine(os.environ.get(SCRATCH))
    # Not before: they start threads.
    from heliosdb.node import worker

    worker.run(memory_bytes, parts, in_force, rows_of if reader is None else reader.open_rows)


if __name__ == "__main__":
    limit, *modules = sys.argv[1:] or ["0"]
    main(int(limit) or None, modules)
