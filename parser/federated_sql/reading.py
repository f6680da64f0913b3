"""What a statement that answers with rows becomes for the server: a query of a function that returns them.

What always holds: the function checks what the caller may; nothing that was typed becomes part of the query
but as a literal.
"""

from __future__ import annotations

from federated_sql.reading_statements import ExplainTraining, ShowObjects
from federated_sql.render import quote_string
from federated_sql.statements import Command


def query_of(command: Command, statement: str) -> str | None:
    """Return the query that answers the command, None for one that answers no rows.

    statement: all that was typed, as an SQL literal.
    """
    match command:
        case ExplainTraining(format="json"):
            return f'SELECT "QUERY PLAN"::pg_catalog.json FROM federated.explain({statement})'
        case ExplainTraining():
            return f'SELECT "QUERY PLAN" FROM federated.explain({statement})'
        case ShowObjects(kind, workspace):
            within = "" if workspace is None else quote_string(workspace)
            return f"SELECT * FROM federated.show_{kind}({within})"
    return None
