"""The operating-system user under whom the private clusters run.

PostgreSQL refuses to run as root: as root, the clusters run as `postgres`; otherwise as the invoking user.
What always holds: a directory handed to the clusters belongs to that user and nobody else may enter it.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from heliosdb.domain.errors import ErrorCode, FederatedError


@dataclass(frozen=True, slots=True)
class Account:
    """An operating-system user; `switch` tells whether this process has to change to it."""

    name: str
    uid: int
    gid: int
    switch: bool

    def run(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        output: int | IO[bytes] = subprocess.PIPE,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `command` as this user, in `/`; stdout and stderr together go to `output`."""
        identity = self.uid if self.switch else None
        return subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            timeout=timeout,
            check=False,
            start_new_session=True,
            user=identity,
            group=self.gid if self.switch else None,
            extra_groups=os.getgrouplist(self.name, self.gid) if self.switch else None,
        )


def cluster_account() -> Account:
    """The user for the clusters of this process; WRONG_STATE where root finds no user `postgres`."""
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=False)
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "PostgreSQL does not run as root, and this machine has no user postgres",
            hint="Install the PostgreSQL server package, or run this command as an ordinary user.",
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def require_reachable(account: Account, directory: Path) -> None:
    """Raise PRIVILEGE, naming the closed directory, unless `account` can enter all of `directory`."""
    if not account.switch:
        return
    for step in (*reversed(directory.parents), directory):
        allowed = account.run(["test", "-x", step], environment={"PATH": "/usr/bin:/bin"}, timeout=30)
        if allowed.returncode != 0:
            raise FederatedError(
                ErrorCode.PRIVILEGE,
                f'the user {account.name}, who runs the clusters, may not enter "{step}"',
                hint=f"Choose another directory with --dir, or allow it: chmod a+x '{step}'.",
            )


def own_directory(account: Account, path: Path) -> None:
    """Make `path` a directory of `account`, closed to others; refuse one that is somebody else's."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if account.switch:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'"{path}" is not a private directory of the user {account.name}',
            detail=f"It must be that user's with mode 0700; its mode is {stat.filemode(found.st_mode)}.",
        )
