"""Finds calls whose features are a row of a table: `federated_predict('m', p) … FROM patients AS p`.

What always holds: a row is one of a table or view that the call's own SELECT names in FROM, whose type has a
name and columns; what may be anything else (a subquery, a WITH query, a function, a name from farther out) is
not among them, and the call stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from federated_sql.syntax import Body, Node, children, node_of, strings

_APART = ("fromClause", "withClause", "larg", "rarg")


def predicted_rows(nodes: Iterable[Node]) -> set[int]:
    """Return the identities of the calls' bodies: of two arguments, the second of which is such a row."""
    nodes = list(nodes)
    queries = {node.body["ctename"] for node in nodes if node.kind == "CommonTableExpr"}
    found = set()
    for node in nodes:
        if node.kind == "SelectStmt" and "fromClause" in node.body:
            tables = set(_tables(node.body["fromClause"], queries))
            found |= {id(call) for call in _calls(node.body) if _row_of(call) in tables}
    return found


def _tables(items: Iterable[Body], queries: Collection[str]) -> Iterator[str]:
    """Yield the names by which FROM's tables are known; a join that has a name hides those in it."""
    stack = [node_of(item) for item in items]
    while stack:
        kind, body = stack.pop()
        alias = body.get("alias", {})
        if kind == "JoinExpr" and not alias:
            stack += [node_of(body["larg"]), node_of(body["rarg"])]
        elif kind == "RangeVar" and "colnames" not in alias and _is_relation(body, queries):
            yield alias.get("aliasname", body["relname"])


def _is_relation(named: Body, queries: Collection[str]) -> bool:
    return "schemaname" in named or named["relname"] not in queries


def _calls(select: Body) -> Iterator[Body]:
    """Yield the function calls of a SELECT itself: not those in FROM, nor those of the queries in it."""
    stack = [
        child
        for field, child in children(select)
        if field not in ("fromClause", "withClause", "larg", "rarg")
    ]
    while stack:
        node = stack.pop()
        if node.kind == "FuncCall":
            yield node.body
        if node.kind != "SelectStmt":
            stack.extend(child for _, child in children(node.body))


def _row_of(call: Body) -> str | None:
    """Return the name that a call has as its second of two arguments, if it is one name alone."""
    arguments = call.get("args", ())
    if len(arguments) != 2:
        return None
    kind, body = node_of(arguments[1])
    if kind != "ColumnRef" or len(body["fields"]) != 1:
        return None
    names = strings(body["fields"])
    return names[0] or None
