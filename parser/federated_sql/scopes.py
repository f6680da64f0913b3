"""Which rows a SELECT sees: the names of its own FROM items and of those of the queries around it.

What always holds: a scope of which anything is doubtful is None: an item without a name, columns merged by
NATURAL, a name that is given twice, a place whose scope differs from its query's. Columns merged by USING are
named for a query itself; for the queries in it they make its scope doubtful.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_sql.syntax import Body, Node, children, node_of, strings

Scope = tuple[str, ...] | None
"""Names of rows in the order of the text, None on any doubt."""

Chain = tuple[Scope, ...]
"""The scopes around a query, from the nearest to the farthest."""

_DOUBT: Chain = (None,)
# fmt: off
_WITHOUT_ROWS = frozenset({
    "ViewStmt", "CreateTableAsStmt", "ExplainStmt", "PrepareStmt", "DeclareCursorStmt", "CopyStmt",
})
# fmt: on
_LEFT_SEEN = frozenset({"JOIN_INNER", "JOIN_LEFT"})


@dataclass(frozen=True, slots=True)
class Select:
    """A SELECT with what it sees; merged: the columns that USING has made one of two."""

    body: Body
    own: Scope
    merged: tuple[str, ...]
    around: Chain


def selects_of(root: Node) -> list[Select]:
    """Return the statement's SELECTs, each before those in it."""
    return list(_Scopes().of(root))


class _Scopes:
    """Goes down the tree and keeps, for what is still to be looked at, the scopes around it."""

    def __init__(self) -> None:
        self._stack: list[tuple[Node, Chain]] = []
        self._merged: list[str] = []

    def of(self, root: Node) -> Iterator[Select]:
        self._stack.append((root, ()))
        while self._stack:
            node, chain = self._stack.pop()
            kind, body = node
            if kind == "SelectStmt":
                yield self._select(body, chain)
            elif kind in ("UpdateStmt", "DeleteStmt"):
                self._change(body, chain)
            elif kind == "InsertStmt":
                for field, child in children(body):
                    self._stack.append((child, chain if field in ("selectStmt", "withClause") else _DOUBT))
            elif kind != "CreateFunctionStmt":
                doubtful = kind.endswith("Stmt") and kind not in _WITHOUT_ROWS
                self._stack.extend((child, _DOUBT if doubtful else chain) for _, child in children(body))

    def _select(self, body: Body, chain: Chain) -> Select:
        own = self._from(body.get("fromClause", ()), chain, ())
        rows = (None if self._merged else own, *chain) if "fromClause" in body else chain
        groups = rows if _ungrouped(body) else _DOUBT
        for field, child in children(body):
            if field in ("withClause", "larg", "rarg"):
                self._stack.append((child, chain))
            elif field != "fromClause":
                self._stack.append((child, rows if field == "whereClause" else groups))
        return Select(body, own, tuple(dict.fromkeys(self._merged)), chain)

    def _change(self, body: Body, chain: Chain) -> None:
        target = body["relation"]
        names = (target.get("alias", target).get("aliasname", target["relname"]),)
        sources = "fromClause" if "fromClause" in body else "usingClause"
        own = self._from(body.get(sources, ()), chain, None)
        inner = (None if self._merged else _distinct(_both(names, own)), *chain)
        for field, child in children(body):
            if field not in ("relation", sources):
                self._stack.append((child, chain if field == "withClause" else inner))

    def _from(self, items: Sequence[Body], chain: Chain, left: Scope) -> Scope:
        """Return the scope of a FROM clause; left: what its first item may see with LATERAL."""
        own: Scope = ()
        self._merged = []
        for item in items:
            names = self._item(node_of(item), chain, left)
            own, left = _both(own, names), _both(left, names)
        return _distinct(own)

    def _item(self, item: Node, chain: Chain, left: Scope) -> Scope:
        """Return the names of one item of FROM."""
        kind, body = item
        alias = body.get("alias", {}).get("aliasname")
        name: Scope = None if alias is None else (alias,)
        if kind == "RangeVar":
            return name or (body["relname"],)
        if kind == "RangeSubselect":
            seen = None if self._merged else _distinct(left)
            inner = (seen, *chain) if body.get("lateral") else chain
            self._stack.append((node_of(body["subquery"]), inner))
            return name
        if kind == "JoinExpr":
            before = len(self._merged)
            names = self._join(body, chain, left)
            if name is not None:  # the name of a join hides what is in it
                del self._merged[before:]
            return name or names
        self._stack.extend((child, _DOUBT) for _, child in children(body))
        if kind == "RangeTableSample":
            return self._item(node_of(body["relation"]), chain, left)
        return name if kind == "RangeFunction" else None

    def _join(self, body: Body, chain: Chain, left: Scope) -> Scope:
        names = self._item(node_of(body["larg"]), chain, left)
        seen = _both(left, names) if body["jointype"] in _LEFT_SEEN else None
        names = _both(names, self._item(node_of(body["rarg"]), chain, seen))
        if "quals" in body:
            self._stack.append((node_of(body["quals"]), _DOUBT))
        self._merged.extend(strings(body.get("usingClause", ())))
        return None if body.get("isNatural") or "join_using_alias" in body else names


def _ungrouped(body: Body) -> bool:
    """Whether a SELECT certainly has no groups, in which only some columns could be named.

    Without GROUP BY a column that stands for itself shows that there is no aggregate either.
    """
    grouping = any(clause in body for clause in ("groupClause", "havingClause", "larg"))
    return not grouping and any("ColumnRef" in one["ResTarget"]["val"] for one in body.get("targetList", ()))


def _both(left: Scope, right: Scope) -> Scope:
    return None if left is None or right is None else left + right


def _distinct(scope: Scope) -> Scope:
    return None if scope is None or len(set(scope)) < len(scope) else scope
