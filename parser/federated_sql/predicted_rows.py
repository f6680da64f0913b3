"""Finds calls whose features are a row of a table: `federated_predict('m', p) … FROM patients AS p`.

What always holds: a row is one of a table or view that the call's own SELECT names in FROM, whose type has a
name and columns; what may be anything else (a subquery, a WITH query, a function, a name from farther out) is
not among them, and the call stays as it is.

A prediction of a row is as fast as one of named features where the model's function for rows stands in FROM,
at the end: there the planner takes the row apart, and from an expression's subquery it does not. So it goes
there in a SELECT of which it is certain that one more item of FROM, with one row, changes nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from federated_sql.syntax import Body, Node, children, node_of, strings

_APART = ("fromClause", "withClause", "larg", "rarg")
# fmt: off
_AGGREGATES = frozenset({
    "array_agg", "avg", "bool_and", "bool_or", "corr", "count", "max", "min", "percentile_cont",
    "percentile_disc", "regr_r2", "regr_slope", "stddev", "stddev_pop", "stddev_samp", "sum", "var_pop",
    "var_samp", "variance",
})
# fmt: on


class Joined(NamedTuple):
    """A SELECT whose FROM the function may stand in; star: its `*`, and the one table that this is of."""

    select: Body
    star: tuple[Body, str] | None


def predicted_rows(nodes: Iterable[Node]) -> dict[int, Joined | None]:
    """Return the calls by the identity of their bodies: of two arguments, the second of which is such a row;
    with the SELECT whose FROM the function may stand in.
    """
    nodes = list(nodes)
    queries = {node.body["ctename"] for node in nodes if node.kind == "CommonTableExpr"}
    # A view over one more item of FROM could no longer be updated, nor the row where a cursor is.
    stays = any(node.kind in ("ViewStmt", "RuleStmt", "DeclareCursorStmt") for node in nodes)
    found: dict[int, Joined | None] = {}
    for node in nodes:
        if node.kind == "SelectStmt" and "fromClause" in node.body:
            tables = list(_tables(node.body["fromClause"], queries))
            calls = {id(call): grouped for call, grouped in _calls(node.body) if _row_of(call) in tables}
            joined = _joined(node.body, tables, all(calls.values())) if calls and not stays else None
            found |= dict.fromkeys(calls, joined)
    return found


def given_rows(nodes: Iterable[Node]) -> set[int]:
    """Return the calls, by the identity of their bodies, whose second argument is such a row, whatever else
    they are given; those in FROM too."""
    nodes = list(nodes)
    queries = {node.body["ctename"] for node in nodes if node.kind == "CommonTableExpr"}
    found: set[int] = set()
    for node in nodes:
        if node.kind == "SelectStmt" and "fromClause" in node.body:
            tables = set(_tables(node.body["fromClause"], queries))
            calls = [call for call, _ in _calls(node.body)] + list(_functions(node.body["fromClause"]))
            found |= {id(call) for call in calls if _second(call) in tables}
    return found


def _functions(items: Iterable[Body]) -> Iterator[Body]:
    """Yield the calls that stand in FROM themselves."""
    stack = [node_of(item) for item in items]
    while stack:
        kind, body = stack.pop()
        if kind == "JoinExpr":
            stack += [node_of(body["larg"]), node_of(body["rarg"])]
        elif kind == "RangeFunction":
            calls = (node_of(function["List"]["items"][0]) for function in body["functions"])
            yield from (call.body for call in calls if call.kind == "FuncCall")


def _joined(select: Body, tables: Sequence[str], grouped: bool) -> Joined | None:
    """Return the SELECT if its FROM may have one more item. grouped: whether all calls are in aggregates.

    What is not in one may stand beside GROUP BY because the whole row is determined by what is grouped by.
    """
    if "lockingClause" in select or "targetList" not in select:
        return None
    if ("groupClause" in select or "havingClause" in select) and not grouped:
        return None
    values = [node_of(target["ResTarget"]["val"]) for target in select["targetList"]]
    stars = [body for kind, body in values if kind == "ColumnRef" and "A_Star" in body["fields"][0]]
    if not stars:
        return Joined(select, None)
    alone = len(stars) == 1 and len(select["fromClause"]) == 1 and node_of(select["fromClause"][0])
    return Joined(select, (stars[0], tables[0])) if alone and alone.kind == "RangeVar" else None


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


def _calls(select: Body) -> Iterator[tuple[Body, bool]]:
    """Yield the function calls of a SELECT itself: not those in FROM, nor those of the queries in it. With
    each, whether it is in an aggregate that is known."""
    stack = [(child, False) for field, child in children(select) if field not in _APART]
    while stack:
        node, grouped = stack.pop()
        if node.kind == "FuncCall":
            yield node.body, grouped
            grouped |= strings(node.body["funcname"])[-1] in _AGGREGATES and "over" not in node.body
        if node.kind != "SelectStmt":
            stack.extend((child, grouped) for _, child in children(node.body))


def _row_of(call: Body) -> str | None:
    """Return the name that a call has as its second of two arguments, if it is one name alone."""
    return _second(call) if len(call.get("args", ())) == 2 else None


def _second(call: Body) -> str | None:
    """Return the name that a call has as its second argument, if it is one name alone."""
    arguments = call.get("args", ())
    if len(arguments) < 2:
        return None
    kind, body = node_of(arguments[1])
    if kind != "ColumnRef" or len(body["fields"]) != 1:
        return None
    names = strings(body["fields"])
    return names[0] or None
