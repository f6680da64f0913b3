"""A `heliosdb up` of the demo's own, in a directory that is thrown away."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """Where one node is: its database direct and through the proxy, its daemon, its certificate."""

    database: str
    proxy: str
    endpoint: str
    certificate: str


@dataclass(frozen=True, slots=True)
class Access:
    """What `heliosdb up` printed."""

    proxy: str
    coordinator: str
    nodes: dict[str, NodeAccess]


@contextmanager
def installed(nodes: int) -> Iterator[Access]:
    """Bring an installation up for the length of a block."""
    directory = Path(tempfile.mkdtemp(prefix="heliosdb-demo-", dir="/tmp"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)
    command = [sys.executable, "-m", "heliosdb.cli.main", "up"]
    supervisor = subprocess.Popen(
        [*command, "--nodes", str(nodes), "--dir", str(directory), "--port", "0", "--no-page"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = supervisor.stdout.readline() if supervisor.stdout is not None else ""
        if not line:
            raise FederatedError(
                ErrorCode.INTERNAL, "heliosdb up did not come up", hint="Its messages are above."
            )
        yield _access(json.loads(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _access(described: dict[str, Any]) -> Access:
    return Access(
        described["proxy"],
        described["coordinator"],
        {name: NodeAccess(**node) for name, node in described["nodes"].items()},
    )
