"""Files on the database server that a statement names: which these may be, and how they are opened.

What always holds: no link is followed, not even one that is put there meanwhile; nothing existing is
overwritten; a file has its name only when all of it is on the storage, and one that is not finished leaves
nothing; an error repeats the path as typed and no more.
Who may name a path at all is decided before, by pg_read_server_files and pg_write_server_files, as for COPY.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from federated_sql.errors import ErrorCode, FederatedError, invalid_value

_KERNEL = ("/proc", "/sys", "/dev")


def data_directory() -> str:
    """Return the directory of the server's own files: a server process works in it.

    The setting data_directory says so too, but only to members of pg_read_all_settings.
    """
    directory = Path.cwd()
    if not (directory / "PG_VERSION").is_file():
        raise FederatedError(ErrorCode.INTERNAL, "the server's data directory was not found")
    return str(directory)


def check_writable(path: str, own_directory: str) -> None:
    """Raise FederatedError unless `path` names a new file in a directory that exists.

    own_directory: the server's data directory, where nothing may be named. Codes: 22023 for what no path may
    be, 42710 for something that is there already, 42704 for a directory that is not.
    """
    cleaned = _check_form(path, own_directory)
    directory = Path(cleaned).parent
    if not _is(directory.is_dir):
        raise _missing(f'directory "{directory}" does not exist')
    _check_no_link(str(directory), path)
    if os.path.lexists(cleaned):
        raise _exists(path)


def check_readable(path: str, own_directory: str) -> None:
    """Raise FederatedError unless `path` names a regular file, reached through no symbolic link."""
    cleaned = _check_form(path, own_directory)
    if not os.path.lexists(cleaned):
        raise _missing(f'file "{path}" does not exist')
    _check_no_link(cleaned, path)
    if not _is(Path(cleaned).is_file):
        raise invalid_value(f'"{path}" is not a regular file')


def _check_form(path: str, own_directory: str) -> str:
    """Return the path without empty components and dots, checked as text alone."""
    if not path.startswith("/"):
        raise invalid_value(f'path "{path}" is not absolute', hint="It begins with a slash.")
    if not path.isprintable():
        raise invalid_value("the path contains unprintable characters")
    if ".." in path.split("/"):
        raise invalid_value(f'path "{path}" contains ".."')
    if path.endswith(("/", "/.")):
        raise invalid_value(f'path "{path}" names no file')
    cleaned = "/" + str(Path(path)).lstrip("/")
    for forbidden in _KERNEL:
        if _lies_in(cleaned, forbidden):
            raise invalid_value(f'path "{path}" is refused: no file in {forbidden} may be named')
    _refuse_own(cleaned, path, own_directory)
    return cleaned


def _check_no_link(cleaned: str, path: str) -> None:
    if os.path.realpath(cleaned) != cleaned:
        raise invalid_value(f'path "{path}" leads through a symbolic link', hint="Name the file itself.")


def _refuse_own(cleaned: str, path: str, own_directory: str) -> None:
    if _lies_in(cleaned, own_directory):
        raise _own(path)


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _own(path: str) -> FederatedError:
    return invalid_value(f'path "{path}" is refused: it lies in the server\'s data directory')


def _exists(path: str) -> FederatedError:
    return FederatedError(
        ErrorCode.DUPLICATE_OBJECT,
        f'file "{path}" already exists',
        hint="Nothing existing is overwritten: name a new file.",
    )


def _is(asked: Callable[[], bool]) -> bool:
    """Ask the file system; what it will not tell (no permission, too long a name) is no."""
    try:
        return asked()
    except OSError:
        return False


def _missing(message: str) -> FederatedError:
    return FederatedError(ErrorCode.UNDEFINED_OBJECT, message, hint="The path is the database server's own.")


@contextmanager
def new_file(path: str, own_directory: str) -> Iterator[NewFile]:
    """Open a file for writing that nobody sees before `NewFile.publish`; without that nothing of it is left.

    Errors as `check_writable`, and 22023 for what the operating system refuses.
    """
    check_writable(path, own_directory)
    cleaned = Path(_check_form(path, own_directory))
    with _refusing(path, "write"), _directory(cleaned.parent, path, own_directory) as directory:
        descriptor, draft = _open_draft(directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield NewFile(file, path, cleaned.name, draft, directory)
        finally:
            if draft is not None:
                os.unlink(draft, dir_fd=directory)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is being written under no name, or (draft) under another one; see `new_file`."""

    file: BinaryIO
    path: str
    name: str
    draft: str | None
    directory: int

    def write(self, content: bytes) -> None:
        """Write more of it."""
        self.file.write(content)

    def sync(self) -> None:
        """Return once the storage has all of it."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def publish(self) -> None:
        """Give the file its name, which must not be taken (42710), for good."""
        try:
            if self.draft is None:
                # The one link that is followed: the kernel's own, to the open file.
                os.link(f"/proc/self/fd/{self.file.fileno()}", self.name, dst_dir_fd=self.directory)
            else:
                os.link(
                    self.draft,
                    self.name,
                    src_dir_fd=self.directory,
                    dst_dir_fd=self.directory,
                    follow_symlinks=False,
                )
        except FileExistsError:
            raise _exists(self.path) from None
        os.fsync(self.directory)


def _open_draft(directory: int) -> tuple[int, str | None]:
    """Open a file that has no name, of which not even a crash leaves anything; where the file system has none
    such, one under a name of its own."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory), None
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}:
            raise
    draft = f".checkpoint.{secrets.token_hex(8)}"
    return os.open(draft, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory), draft


@contextmanager
def existing_file(path: str, own_directory: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading; gives it and its size in bytes. Errors as `check_readable`."""
    check_readable(path, own_directory)
    cleaned = Path(_check_form(path, own_directory))
    with _refusing(path, "read"), _directory(cleaned.parent, path, own_directory) as directory:
        # A pipe that took the file's place must not hold the server.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(cleaned.name, flags, dir_fd=directory), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise invalid_value(f'"{path}" is not a regular file')
            yield file, found.st_size


@contextmanager
def _directory(directory: Path, path: str, own_directory: str) -> Iterator[int]:
    """Open a directory from the root on, one name after the other: whatever is put in the place of one of
    them meanwhile, no link is followed, and the server's own files are not reached by another name."""
    own = _identity(Path(own_directory).stat())
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open("/", flags)
    try:
        for name in directory.parts[1:]:
            inner = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            if _identity(os.fstat(descriptor)) == own:
                raise _own(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


@contextmanager
def _refusing(path: str, deed: str) -> Iterator[None]:
    """Turn what the operating system says into an error that repeats the path as typed."""
    try:
        yield
    except PermissionError as error:
        raise FederatedError(
            ErrorCode.PRIVILEGE,
            f'cannot {deed} file "{path}": {error.strerror}',
            hint="The database server's operating system user needs that right.",
        ) from None
    except OSError as error:
        raise invalid_value(f'cannot {deed} file "{path}": {error.strerror}') from None
