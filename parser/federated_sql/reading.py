"""What a statement that answers with rows becomes for the server: a query of a function that returns them.

What always holds: the function checks what the caller may; nothing that was typed becomes part of the query
but as a literal.
"""

from __future__ import annotations

from federated_sql.reading_statements import ExplainTraining, Shown, ShowObjects
from federated_sql.render import quote_string
from federated_sql.statements import Command

_SHOW: dict[Shown, str] = {
    "workspaces": "SELECT * FROM federated.show_workspaces",
    "nodes": "SELECT * FROM federated.show_nodes",
    "models": "SELECT * FROM federated.show_models",
    "runs": "SELECT * FROM federated.show_runs",
    "datasets": "SELECT * FROM federated.show_datasets",
}
_EXPLAIN = 'SELECT "QUERY PLAN" FROM federated.explain'
_EXPLAIN_JSON = 'SELECT "QUERY PLAN"::pg_catalog.json FROM federated.explain'


def query_of(command: Command, statement: str) -> str | None:
    """Return the query that answers the command, None for one that answers no rows.

    statement: all that was typed, as an SQL literal.
    """
    match command:
        case ExplainTraining():
            return f"{_EXPLAIN_JSON if command.format == 'json' else _EXPLAIN}({statement})"
        case ShowObjects(kind, workspace):
            return f"{_SHOW[kind]}({'' if workspace is None else quote_string(workspace)})"
    return None
