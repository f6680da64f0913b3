"""The server's client programs, run against the tests' clusters."""

from __future__ import annotations

import os
import subprocess

from tests.support.cluster import bin_directory


def run_program(program: str, *arguments: str, text: bytes = b"") -> bytes:
    """Run one of the server's client programs and return what it prints."""
    done = subprocess.run(
        [str(bin_directory() / program), *arguments],
        input=text,
        capture_output=True,
        env={**os.environ, "PGOPTIONS": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
