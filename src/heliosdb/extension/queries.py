"""What a user's query returns, for `federated_predict_batch`.

What always holds: every session that predicts a batch imports it, so it imports nothing large; the query runs
with the caller's rights, and no row of it is computed.
"""

from __future__ import annotations

import json
from typing import Any


def describe_columns(plpy: Any, query: str) -> str:
    """Return as JSON {"query", "columns": [{"name", "type"}, …]}, or {"failure": …} for federated._raise.

    The query returned is one statement, whole in itself, without a semicolon; types are PostgreSQL's oids.
    """
    try:
        # As a cursor it is read by itself and opened, not run: a second statement or parenthesis fails.
        plpy.cursor(query).close()
        query = query.rstrip("; \t\r\n")
        # The query is the user's own, run as the user; no value is put into it.
        found = plpy.execute(f"SELECT * FROM ({query}\n) AS q LIMIT 0")  # noqa: S608
    except plpy.SPIError as error:
        _, detail, hint = (*(error.spidata or ()), None, None, None)[:3]
        failure = {"sqlstate": error.sqlstate, "message": str(error), "detail": detail, "hint": hint}
        return json.dumps({"failure": failure})
    columns = zip(found.colnames(), found.coltypes(), strict=True)
    return json.dumps({"query": query, "columns": [{"name": name, "type": type_} for name, type_ in columns]})
