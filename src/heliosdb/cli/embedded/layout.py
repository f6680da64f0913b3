"""Where things lie in the directory of an embedded installation.

What always holds: every path that `heliosdb up` makes is under `root`, except the socket directory where the
root's name is too long for a Unix socket. Only what is under `cluster(…)` and the socket directory belongs to
the clusters' operating-system user; all else belongs to whoever runs `heliosdb up`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# sun_path holds 108 bytes with the closing NUL; the longest name put in the directory is a lock file's.
_SUN_PATH_LIMIT = 107
_LONGEST_SOCKET_NAME = ".s.PGSQL.65535.lock"

COORDINATOR = "coordinator"
PROXY = "proxy"
API = "api"


def node_names(count: int) -> tuple[str, ...]:
    """The names of the first `count` nodes."""
    return tuple(f"node_{number}" for number in range(1, count + 1))


def default_directory() -> Path:
    """Where `heliosdb up` keeps its state unless told otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/heliosdb")
    return Path.home() / ".local" / "share" / "heliosdb"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one embedded installation under an absolute `root`."""

    root: Path

    @property
    def state_file(self) -> Path:
        """Choices made once and kept: ports, number of nodes."""
        return self.root / "state.json"

    @property
    def processes_file(self) -> Path:
        """The daemons that run now, for whoever has to clean up after a killed supervisor."""
        return self.root / "processes.json"

    @property
    def pid_file(self) -> Path:
        """The supervisor that runs now."""
        return self.root / "up.pid"

    @property
    def lock_file(self) -> Path:
        """Held locked by the supervisor, or by `down` while it cleans up."""
        return self.root / "up.lock"

    @property
    def superuser_password_file(self) -> Path:
        """The password of the role postgres, the same in every cluster of this installation."""
        return self.root / "secrets" / "postgres_password"

    @property
    def authority(self) -> Path:
        """The development certificate authority, its private key among it."""
        return self.root / "ca"

    @property
    def certificates(self) -> Path:
        """Certificates and private keys of the coordinator and the nodes."""
        return self.root / "certificates"

    @property
    def log_directory(self) -> Path:
        """One log per daemon."""
        return self.root / "logs"

    def cluster(self, name: str) -> Path:
        """The directory of a cluster; it belongs to the clusters' operating-system user."""
        return self.root / name

    def pgdata(self, name: str) -> Path:
        """The data directory of a cluster."""
        return self.cluster(name) / "pgdata"

    def config_file(self, name: str) -> Path:
        """The TOML file of a daemon."""
        return self.root / "config" / f"{name}.toml"

    def log_file(self, name: str) -> Path:
        """What a daemon writes to stdout and stderr."""
        return self.log_directory / f"{name}.log"

    def ready_file(self, name: str) -> Path:
        """Written by a daemon as soon as it serves."""
        return self.root / "ready" / name

    def daemon_state(self, name: str) -> Path:
        """What a daemon keeps for itself: key files, spools."""
        return self.root / "daemons" / name

    def health_socket(self, name: str) -> Path:
        """Where a daemon answers `heliosdb health`."""
        return self.socket_directory / f"health.{name}"

    @property
    def socket_directory(self) -> Path:
        """Where the clusters put their Unix sockets: short enough for the kernel, whatever the root is."""
        inside = self.root / "run"
        if len(os.fsencode(inside / _LONGEST_SOCKET_NAME)) <= _SUN_PATH_LIMIT:
            return inside
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        # Taken only if it belongs to the clusters' user and nobody else may enter (account.own_directory).
        return Path("/tmp") / f"heliosdb-{name}"  # noqa: S108
