"""The alias of a prediction in the WHERE of the same SELECT, which PostgreSQL does not know there.

`SELECT f(x) AS p FROM t WHERE p > 0.7` becomes
`SELECT f(x) AS p FROM t, LATERAL (SELECT FROM (SELECT f(x) AS p) AS federated_alias, LATERAL (SELECT FROM
(SELECT "t".*) AS federated_row WHERE p > 0.7) AS federated_scope) AS federated_filter`.

PostgreSQL looks for a name from the inside out: first among the columns of the statement's own rows (and of
the queries around it), which stand innermost once more, and only then at the alias. So a column of that name
wins, and nothing here has to know the catalog. The added item of FROM has no columns, so `*` means what it
did; a qualified name finds the statement's own rows as before; the planner flattens all of it into a filter.

What always holds: where a statement might have been valid as it was typed, it means the same afterwards.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_sql.edits import Draft, Edit
from federated_sql.errors import FederatedError, syntax_error
from federated_sql.lexer import Kind, identifier_value
from federated_sql.predict_calls import is_prediction
from federated_sql.scopes import Select, selects_of
from federated_sql.syntax import Body, Clauses, Node, Syntax, node_of, strings, walk

# What an aliased expression may consist of. It is evaluated once more in FROM, where aggregates, window
# functions and functions that return sets would be errors or mean something else: so functions are listed by
# name.
# fmt: off
_NODES = frozenset({
    "", "A_Const", "A_Expr", "A_ArrayExpr", "A_Indices", "A_Indirection", "BoolExpr", "BooleanTest",
    "CaseExpr", "CaseWhen", "CoalesceExpr", "CollateClause", "ColumnRef", "FuncCall", "Integer", "Float",
    "List", "MinMaxExpr", "NamedArgExpr", "NullTest", "ParamRef", "RowExpr", "SQLValueFunction", "String",
    "TypeCast", "TypeName",
})
_FUNCTIONS = frozenset({
    "abs", "age", "array_length", "atan", "btrim", "cardinality", "cbrt", "ceil", "ceiling",
    "char_length", "concat", "cos", "date_part", "date_trunc", "degrees", "div", "exp", "extract",
    "floor", "jsonb_build_object", "left", "length", "ln", "log", "log10", "lower", "lpad", "ltrim",
    "make_date", "mod", "now", "power", "radians", "replace", "right", "round", "rpad", "rtrim", "sign",
    "sin", "sqrt", "strpos", "substr", "substring", "tan", "tanh", "timezone", "to_char", "to_jsonb",
    "to_number", "to_timestamp", "trunc", "upper", "width_bucket",
})
# fmt: on


_SYSTEM = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})
"""Columns that every table has, and that a row repeated has not."""

MOST_ROWS = 200
"""Most items of FROM that are repeated in one statement, lest selects in selects make a long text of it."""


@dataclass(frozen=True, slots=True)
class _Alias:
    """An aliased select-list item, by the places of its tokens: [first, end) is the expression."""

    name: str
    first: int
    end: int
    spelling: str


@dataclass(frozen=True, slots=True)
class _Asking:
    """A SELECT whose WHERE names aliases of its predictions: their select-list items, and its clauses.

    names: what its WHERE names without a qualification, sub-selects included, of which it may have some.
    """

    targets: list[Body]
    clauses: Clauses
    names: frozenset[str]
    subselects: bool


def alias_edits(syntax: Syntax, edits: Sequence[Edit], listed: Sequence[Edit]) -> list[Edit]:
    """Return the edits that make aliases of predictions known in WHERE.

    edits: those of the calls, made in the expressions too. listed: those of column lists, beside which no
    alias is made known.
    """
    asking = _Places(syntax).asking()
    return list(_Filters(syntax, edits, listed).edits(asking)) if asking else []


class _Places:
    """Where predictions, names and sub-selects stand: no part of the tree is walked for each SELECT."""

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax
        self._predictions: list[int] = []
        self._subselects: list[int] = []
        self._names: dict[str, list[int]] = {}
        for node in syntax.nodes:
            kind, body = node
            if kind == "ColumnRef" and len(body["fields"]) == 1:
                self._names.setdefault(strings(body["fields"])[0], []).append(body.get("location", 0))
            elif kind == "SubLink":
                self._subselects.append(body.get("location", 0))
            elif is_prediction(node):
                self._predictions.append(body.get("location", 0))
        for places in (self._predictions, self._subselects, *self._names.values()):
            places.sort()

    def asking(self) -> dict[int, _Asking]:
        """Return the SELECTs that name an alias of a prediction in WHERE, by the identity of their bodies."""
        found: dict[int, _Asking] = {}
        for kind, body in self._syntax.nodes if self._predictions else ():
            if kind != "SelectStmt" or "whereClause" not in body or "targetList" not in body:
                continue
            named = [
                one["ResTarget"]
                for one in body["targetList"]
                if one["ResTarget"].get("name") in self._names and one["ResTarget"]["name"] not in _SYSTEM
            ]
            if named:
                clauses = self._syntax.clauses(body)
                first = clauses.from_ or clauses.items
                targets = [
                    one for one in named
                    if self._within(self._names[one["name"]], first, clauses.where) and self._predicts(one)
                ]  # fmt: skip
                if targets:
                    names = (
                        name for name, at in self._names.items() if self._within(at, first, clauses.where)
                    )
                    subselects = self._within(self._subselects, first, clauses.where)
                    found[id(body)] = _Asking(targets, clauses, frozenset(names), subselects)
        return found

    def _predicts(self, target: Body) -> bool:
        """Whether a select-list item holds a prediction and no sub-select, which is not evaluated twice."""
        first = self._syntax.first_token(target)
        end = self._syntax.item_end(first)
        return self._within(self._predictions, first, end) and not self._within(self._subselects, first, end)

    def _within(self, places: Sequence[int], first: int, end: int) -> bool:
        """Whether one of the places is that of one of the tokens [first, end)."""
        offsets = self._syntax.offsets
        if first >= end:
            return False
        index = bisect_left(places, offsets[first])
        return index < len(places) and places[index] <= offsets[end - 1]


class _Filters:
    def __init__(self, syntax: Syntax, edits: Sequence[Edit], listed: Sequence[Edit]) -> None:
        self._syntax = syntax
        self._edits = edits
        self._listed = listed
        self._rows = MOST_ROWS
        self._taken: set[str] = set()

    def edits(self, asking: dict[int, _Asking]) -> Iterator[Edit]:
        syntax = self._syntax
        if any(kind == "LockingClause" for kind, _ in syntax.nodes):
            return
        self._taken = {
            identifier_value(token) for token in syntax.tokens if token.kind in (Kind.WORD, Kind.QUOTED)
        }
        for select in selects_of(syntax.root):
            if id(select.body) in asking:
                try:
                    yield from self._of(select, asking[id(select.body)])
                except FederatedError:
                    continue

    def _of(self, select: Select, asking: _Asking) -> Sequence[Edit]:
        """Return the two edits around the WHERE of a SELECT; raise FederatedError on any doubt."""
        tokens, clauses = self._syntax.tokens, asking.clauses
        aliases = self._aliases(select.body, asking.targets)
        scopes = _visible(select, {alias.name for alias in aliases})
        merged = [name for name in select.merged if name in asking.names]
        if merged and asking.subselects:
            raise syntax_error("it is not certain what a merged column's name means")
        self._rows -= sum(map(len, scopes))
        if self._rows < 0 or bool(clauses.from_) != ("fromClause" in select.body):
            raise syntax_error("the places of the clauses are not known")
        start, end = tokens[(clauses.from_ or clauses.items) - 1].end, tokens[clauses.where - 1].end
        first = self._syntax.first_token(select.body["targetList"][0]["ResTarget"])
        if any(tokens[first].start <= edit.start <= end for edit in self._listed):
            raise syntax_error("a column list stands beside the alias")
        draft = Draft(self._syntax.text, self._edits)
        draft.add((", LATERAL" if clauses.from_ else " FROM") + " (SELECT FROM ")
        self._add_aliases(draft, aliases)
        filtered = f") AS {self._free('filter')}"
        innermost = self._add_merged(draft, merged)
        rows = [[f"(SELECT {_quoted(name)}.*)" for name in scope] for scope in scopes]
        closing = [self._add_scope(draft, scope) for scope in [*rows, *innermost]]
        return draft.edit(start, start), Edit(end, end, "".join(closing[::-1]) + filtered)

    def _add_aliases(self, draft: Draft, aliases: Sequence[_Alias]) -> None:
        """Add the row of the aliased expressions."""
        tokens = self._syntax.tokens
        for number, alias in enumerate(aliases):
            draft.add(", " if number else "(SELECT ")
            draft.take(tokens[alias.first].start, tokens[alias.end - 1].end)
            draft.add(f" AS {alias.spelling}")
        draft.add(f") AS {self._free('alias')}")

    def _add_merged(self, draft: Draft, merged: Sequence[str]) -> list[list[str]]:
        """Add the columns that USING merged, under other names; return the scope that gives them their own.

        Among the rows, each of which has such a column, the name would not be certain.
        """
        if not merged:
            return []
        row = self._free("merged")
        columns = [(self._free("column"), _quoted(name)) for name in merged]
        draft.add(f", (SELECT {', '.join(f'{name} AS {column}' for column, name in columns)}) AS {row}")
        return [[f"(SELECT {', '.join(f'{row}.{column} AS {name}' for column, name in columns)})"]]

    def _add_scope(self, draft: Draft, rows: Sequence[str]) -> str:
        """Open a query of rows, in which the next one stands; return what closes it."""
        named = (f"{row} AS {self._free('row')}" for row in rows)
        draft.add(f", LATERAL (SELECT FROM {', '.join(named)}")
        return f") AS {self._free('scope')}"

    def _aliases(self, body: Body, targets: Sequence[Body]) -> list[_Alias]:
        """Return the aliases of predictions that WHERE names."""
        names = [target["ResTarget"].get("name") for target in body["targetList"]]
        for target in targets:
            if names.count(target["name"]) > 1 or not all(
                map(_may_be_repeated, walk(node_of(target["val"])))
            ):
                raise syntax_error("the alias is not certain")
        return [self._place(target["name"], target) for target in targets]

    def _place(self, name: str, target: Body) -> _Alias:
        tokens = self._syntax.tokens
        first = self._syntax.first_token(target)
        last = self._syntax.item_end(first) - 1
        end = last - (tokens[last - 1].word == "as")
        if tokens[last].kind not in (Kind.WORD, Kind.QUOTED) or identifier_value(tokens[last]) != name:
            raise syntax_error("the place of the alias is not known")
        return _Alias(name, first, end, tokens[last].text)

    def _free(self, what: str) -> str:
        number, name = 1, f"federated_{what}"
        while name in self._taken:
            number, name = number + 1, f"federated_{what}_{number}"
        self._taken.add(name)
        return name


def _may_be_repeated(node: Node) -> bool:
    if node.kind == "FuncCall" and not is_prediction(node):
        names = strings(node.body["funcname"])
        unusual = any(what in node.body for what in ("agg_filter", "agg_order", "over", "func_variadic"))
        return names[-1] in _FUNCTIONS and names[:-1] in ((), ("pg_catalog",)) and not unusual
    return node.kind in _NODES and not (node.kind == "TypeName" and node.body.get("setof"))


def _visible(select: Select, aliases: set[str]) -> list[tuple[str, ...]]:
    """Return the scopes that hide an alias, the farthest first; raise FederatedError on any doubt.

    A row that has the alias's name could be meant as a whole.
    """
    scopes: list[tuple[str, ...]] = []
    for scope in (*reversed(select.around), select.own):
        if scope is None:
            raise syntax_error("the rows are not certain")
        if scope:
            scopes.append(scope)
    names = [name for scope in scopes for name in scope]
    if len(set(names)) < len(names) or aliases & set(names):
        raise syntax_error("a name is not certain")
    return scopes


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
