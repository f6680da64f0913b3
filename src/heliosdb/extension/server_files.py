"""Which paths a statement may name for a file on the database server.

What always holds: nothing is opened, made or followed here; an error repeats the path as typed and no more.
Who may name a path at all is decided before, by pg_read_server_files and pg_write_server_files, as for COPY.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

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
        raise FederatedError(
            ErrorCode.DUPLICATE_OBJECT,
            f'file "{path}" already exists',
            hint="Nothing existing is overwritten: name a new file.",
        )


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
        raise invalid_value(f'path "{path}" is refused: it lies in the server\'s data directory')


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _is(asked: Callable[[], bool]) -> bool:
    """Ask the file system; what it will not tell (no permission, too long a name) is no."""
    try:
        return asked()
    except OSError:
        return False


def _missing(message: str) -> FederatedError:
    return FederatedError(ErrorCode.UNDEFINED_OBJECT, message, hint="The path is the database server's own.")
