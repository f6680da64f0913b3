"""What the commands for people share: a session with the caller's own rights, and errors as they are told.

What always holds: the session reads only; an error never quotes a connection string, which may hold a
password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from heliosdb.catalog.overview import enter_catalog
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.domain.errors import ErrorCode, FederatedError

_CONNECT_SECONDS = 10


@contextmanager
def reading(dsn: str, application_name: str) -> Iterator[PsycopgConnection]:
    """A session of the caller's role on a database with the extension, which finds its views.

    FederatedError UNREACHABLE, INVALID_VALUE, PRIVILEGE, UNDEFINED_OBJECT, or WRONG_STATE where the
    extension is not there.
    """
    try:
        with connected(limited(dsn), application_name=application_name) as connection:
            connection.raw.execute(b"SET default_transaction_read_only = on")
            if not enter_catalog(connection):
                raise FederatedError(
                    ErrorCode.WRONG_STATE,
                    "the extension heliosdb_federated_learning is not in this database",
                    hint="Name the coordinator's database with --dsn, or CREATE EXTENSION there.",
                )
            yield connection
    except psycopg.Error as error:
        raise told(error) from error


def limited(dsn: str) -> str:
    """A connection string that waits for a server only so long; FederatedError INVALID_VALUE for none."""
    try:
        known = psycopg.conninfo.conninfo_to_dict(dsn)
        if "connect_timeout" in known:
            return dsn
        return psycopg.conninfo.make_conninfo(dsn, connect_timeout=_CONNECT_SECONDS)
    except psycopg.ProgrammingError:
        # It may be quoted, password and all.
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            "the connection string cannot be read",
            hint="Write it as libpq does: postgresql://user@host:port/database, or host=… dbname=….",
        ) from None


def told(error: psycopg.Error) -> FederatedError:
    """An error of the database as the commands tell it."""
    said = error.diag.message_primary or type(error).__name__
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return FederatedError(
            ErrorCode.PRIVILEGE, said, hint="GRANT federated_analyst or federated_auditor to the role."
        )
    if isinstance(error, psycopg.errors.UndefinedObject):
        return FederatedError(ErrorCode.UNDEFINED_OBJECT, said, hint=error.diag.message_hint)
    if isinstance(error, psycopg.OperationalError):
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return FederatedError(ErrorCode.UNREACHABLE, "the database cannot be reached", detail=reason)
    return FederatedError(
        ErrorCode.WRONG_STATE,
        f"the catalog cannot be read: {said}",
        hint="Where it is of an older version: ALTER EXTENSION heliosdb_federated_learning UPDATE.",
    )
