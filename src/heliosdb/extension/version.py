"""Which catalog this library serves: code and catalog are installed apart and must belong together.

What always holds: a statement is executed by code of the catalog's own version or not at all. A session keeps
the modules that it imported first, whatever ALTER EXTENSION UPDATE and the file system do after that.
"""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError

CATALOG_VERSION = "1.2"
"""The default_version of the extension's control file."""


def serves(version: str) -> None:
    """Raise 55000 unless a catalog of `version` is what this library was made for."""
    if version == CATALOG_VERSION:
        return
    if _numbers(version) < _numbers(CATALOG_VERSION):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "the extension in this database was not updated yet",
            detail=f"The catalog is of version {version}, the installed library of {CATALOG_VERSION}.",
            hint="ALTER EXTENSION heliosdb_federated_learning UPDATE;",
        )
    raise FederatedError(
        ErrorCode.WRONG_STATE,
        "this session began before the extension was updated",
        detail=f"The catalog is of version {version}, the session's library of {CATALOG_VERSION}.",
        hint="Reconnect. If that does not help, install the extension's files of the catalog's version.",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
