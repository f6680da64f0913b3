"""A connection string as a daemon's setting: checked when it is read, shown nowhere.

What always holds: an error about one does not quote it, for it may hold a password.
"""

from __future__ import annotations

from typing import Annotated

import psycopg
from pydantic import AfterValidator, SecretStr


def check_conninfo(secret: SecretStr) -> SecretStr:
    """Return a connection string as it is; ValueError for what is none."""
    try:
        psycopg.conninfo.conninfo_to_dict(secret.get_secret_value())
    except psycopg.Error:
        raise ValueError("it is no connection string") from None
    return secret


ConnectionString = Annotated[SecretStr, AfterValidator(check_conninfo)]
