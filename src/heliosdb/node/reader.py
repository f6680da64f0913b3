"""The connection by which rows are read: of the reader's role, which can read datasets' views and no more.

What always holds: it writes nothing, finds nothing by a path that others may write to, and has values as text
look alike whatever the role's settings are.
"""

from __future__ import annotations

from typing import Any

import psycopg

# What rows are known by is hashed as text, which must not change with a role's settings.
_TEXT_FORM = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=postgres -c extra_float_digits=1"
    " -c bytea_output=hex"
)


def connect_reader(conninfo: str) -> psycopg.Connection[Any]:
    """Connect; psycopg's errors."""
    return psycopg.connect(
        conninfo,
        autocommit=True,
        application_name="heliosdb node reader",
        options="-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=on " + _TEXT_FORM,
    )
