"""What a user's query returns, for `federated_predict_batch` and `federated_evaluate`.

What always holds: the query runs with the caller's rights, and no row of it is computed.
"""

from __future__ import annotations

import json
from typing import Any

from federated_sql.errors import FederatedError
from heliosdb.extension.version import serves


def describe_columns(plpy: Any, query: str, version: str) -> str:
    """Return as JSON {"query", "columns": [{"name", "type", "typmod"}, …]}, or {"failure": …} for
    federated._raise.

    The query returned is one statement, whole in itself, without a semicolon; types are PostgreSQL's oids,
    each with its modifier (-1: none). version: that of the catalog whose function calls.
    """
    try:
        serves(version)
        # As a cursor it is read by itself and opened, not run: a second statement or parenthesis fails.
        plpy.cursor(query).close()
        query = query.rstrip("; \t\r\n")
        # The query is the user's own, run as the user; no value is put into it.
        found = plpy.execute(f"SELECT * FROM ({query}\n) AS q LIMIT 0")  # noqa: S608
    except FederatedError as error:
        return _failure(error.sqlstate, error.message, error.detail, error.hint)
    except plpy.SPIError as error:
        _, detail, hint = (*(error.spidata or ()), None, None, None)[:3]
        return _failure(error.sqlstate, str(error), detail, hint)
    columns = zip(found.colnames(), found.coltypes(), found.coltypmods(), strict=True)
    described = [{"name": name, "type": type_, "typmod": typmod} for name, type_, typmod in columns]
    return json.dumps({"query": query, "columns": described})


def _failure(sqlstate: str, message: str, detail: str | None, hint: str | None) -> str:
    return json.dumps({"failure": {"sqlstate": sqlstate, "message": message, "detail": detail, "hint": hint}})
