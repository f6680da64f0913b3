"""Finds `federated_predict('m', a => x, …)` in ordinary SQL and turns it into `federated_model.m(a => x, …)`.

What always holds: calls are found in PostgreSQL's own syntax tree and changed at token boundaries; an output
column keeps the name it had. A call that cannot be a call of the model's function (its model is no plain
literal, or it is one of several classes) gets its features as JSON instead (see `computed_models`), and so
do `federated_explain('m', a => x)`, `federated_certify('m', a => x)`, `federated_predict_experiment('e', key,
a => x)` and a call that follows an experiment. A call with a row, `federated_predict('m', p)`, is found by
`predicted_rows`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count

from federated_sql.clause_values import MAX_NAME_BYTES
from federated_sql.computed_models import json_edits
from federated_sql.edits import Copy, Edit
from federated_sql.given_rows import follower_edits, follows, row_edits
from federated_sql.lexer import Kind, identifier_value, string_value
from federated_sql.predicted_rows import Joined, given_rows, predicted_rows
from federated_sql.syntax import Body, Node, Syntax, node_of, strings

FUNCTION = "federated_predict"
FUNCTIONS = frozenset({FUNCTION, f"{FUNCTION}_class", f"{FUNCTION}_proba"})
ABOUT_A_ROW = frozenset({"federated_explain", "federated_certify"})
"""Functions that say something of a prediction, and take its features as JSON."""
AS_JSON = {**dict.fromkeys(ABOUT_A_ROW, 1), "federated_predict_experiment": 2}
"""Functions whose named features become JSON, with how many arguments stand before these."""
MOST_FEATURES = 99
"""Most features that a model's function has: PostgreSQL allows 100 arguments."""

_PARAMETER = "features"
_ALIAS = f" AS {FUNCTION}"
_SCHEMA = "federated_model"
_ROW_SCHEMA = "federated_row"
_UNUSUAL = (
    "agg_star",
    "agg_distinct",
    "agg_within_group",
    "func_variadic",
    "agg_order",
    "agg_filter",
    "over",
)


_OUTPUTS = {"SelectStmt": "targetList", "ReturningClause": "exprs"}


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of the model's function to be, by the places of its tokens in the statement."""

    first: int
    """The first token of the function's name, schema included."""
    literal: int
    close: int
    model: str


def call_edits(syntax: Syntax, *, may_join: bool = True) -> list[Edit]:
    """Return the edits of the statement's calls, ascending. may_join: whether something may come to FROM."""
    return _Finder(syntax, may_join=may_join).edits()


def is_prediction(node: Node) -> bool:
    """Whether a node is a plain call of a function of ours that predicts."""
    return _is_call(node, FUNCTIONS)


def _is_call(node: Node, functions: Collection[str]) -> bool:
    if node.kind != "FuncCall" or any(node.body.get(what) for what in _UNUSUAL):
        return False
    names = strings(node.body["funcname"])
    return names[-1] in functions and names[:-1] in ((), ("public",))


class _Finder:
    """Looks through one statement's tree, without recursion."""

    def __init__(self, syntax: Syntax, *, may_join: bool) -> None:
        self._syntax = syntax
        # A column of the function's own name would be one of two.
        self._may_join = may_join and not any(
            kind == "ColumnRef" and strings(body["fields"]) == (FUNCTION,) for kind, body in syntax.nodes
        )
        self._joins: dict[tuple[int, str, str], str] = {}
        self._starred: set[int] = set()
        self._calls: dict[int, _Call] = {}
        self._edits: list[Edit] = []

    def edits(self) -> list[Edit]:
        """Return what the statement asks for."""
        nodes = self._syntax.nodes
        nameless = {id(call) for node in nodes for call in _nameless(node)}
        rows, given = predicted_rows(nodes), given_rows(nodes)
        for node in nodes:
            if _is_call(node, {FUNCTION}) and follows(node.body):
                self._understand_follower(node.body, has_row=id(node.body) in given)
            elif _is_call(node, ABOUT_A_ROW) and id(node.body) in given:
                self._edits.extend(row_edits(self._syntax, node.body))
            elif is_prediction(node):
                if id(node.body) in rows:
                    self._understand_row(node.body, rows[id(node.body)])
                else:
                    self._understand(node.body, may_rename=id(node.body) not in nameless)
            elif _is_call(node, AS_JSON):
                self._understand_computed(node.body)
        for node in nodes if self._calls else ():
            self._name_outputs(node)
        self._edits.extend(edit for call in self._calls.values() for edit in self._call_edits(call))
        return sorted(self._edits, key=lambda edit: (edit.start, edit.end))

    def _understand(self, body: Body, *, may_rename: bool) -> None:
        """Take the call if it is one of ours: something first, then only named arguments."""
        arguments = [node_of(argument) for argument in body.get("args", ())]
        kinds = [argument.kind for argument in arguments]
        if len(kinds) < 2 or kinds[0] == "NamedArgExpr" or set(kinds[1:]) != {"NamedArgExpr"}:
            return
        if len(kinds) == 2 and arguments[1].body["name"] == _PARAMETER:
            return  # the function's own second parameter, by its name
        names = strings(body["funcname"])
        first = self._syntax.first_token(body)
        open_ = first + 2 * len(names) - 1
        close = self._syntax.closers.get(open_)
        if close is None:
            return
        model = self._function_name(open_ + 1, arguments[0]) if names[-1] == FUNCTION else None
        if model is not None and may_rename and len(arguments) - 1 <= MOST_FEATURES:
            self._calls[id(body)] = _Call(first, open_ + 1, close, model)
        else:
            self._edits.extend(json_edits(self._syntax, arguments[1:], close))

    def _understand_follower(self, body: Body, *, has_row: bool) -> None:
        """Give the function its features as JSON, beside the experiment that the call follows."""
        close = self._syntax.closers.get(
            self._syntax.first_token(body) + 2 * len(strings(body["funcname"])) - 1
        )
        if has_row:
            self._edits.extend(row_edits(self._syntax, body))
        elif close is not None:
            self._edits.extend(follower_edits(self._syntax, body, close))

    def _understand_computed(self, body: Body) -> None:
        """Give the function its features as JSON, where all behind its own are named as they are."""
        arguments = [node_of(argument) for argument in body.get("args", ())]
        named = [argument for argument in arguments if argument.kind == "NamedArgExpr"]
        own = AS_JSON[strings(body["funcname"])[-1]]
        if len(arguments) <= own or named != arguments[own:]:
            return
        if any(argument.body["name"] == _PARAMETER for argument in named):
            return  # the function's own parameters, by their names
        open_ = self._syntax.first_token(body) + 2 * len(strings(body["funcname"])) - 1
        close = self._syntax.closers.get(open_)
        if close is not None:
            self._edits.extend(json_edits(self._syntax, named, close))

    def _understand_row(self, body: Body, joined: Joined | None) -> None:
        """Have a call with a row ask the model's function for rows; it names its column as before."""
        names = strings(body["funcname"])
        first = self._syntax.first_token(body)
        literal = first + 2 * len(names)
        close = self._syntax.closers.get(literal - 1)
        model = self._function_name(literal, node_of(body["args"][0])) if names[-1] == FUNCTION else None
        if close is None or model is None:
            return
        tokens = self._syntax.tokens
        called = f"{_ROW_SCHEMA}.{_quoted(model)}"
        if joined is not None and self._may_join:
            row = self._syntax.text[tokens[literal + 2].start : tokens[close].start].strip()
            replacement = f"{self._join(joined, called, row, tokens[first].start)}.{FUNCTION}"
            self._edits.append(Edit(tokens[first].start, tokens[close].end, replacement))
            return
        # The model's name is quoted as an identifier.
        called = f"(SELECT {FUNCTION} FROM {called}"  # noqa: S608
        self._edits += [
            Edit(tokens[first].start, tokens[literal - 2].end, called),
            Edit(tokens[literal].start, tokens[literal + 1].end, ""),
            Edit(tokens[close].end, tokens[close].end, f"{_ALIAS})"),
        ]

    def _join(self, joined: Joined, called: str, row: str, start: int) -> str:
        """Have a SELECT's FROM end with the function of a row; return the name by which it is known there.

        start: where the call that it stands for was typed.
        """
        key = (id(joined.select), called, row)
        if key not in self._joins:
            syntax, tokens = self._syntax, self._syntax.tokens
            taken = {identifier_value(one) for one in tokens if one.kind in (Kind.WORD, Kind.QUOTED)}
            taken |= set(self._joins.values())
            name = next(name for name in _free_names() if name not in taken)
            end = tokens[syntax.clauses(joined.select).from_ - 1].end
            item = f", LATERAL {called}({row}) AS {name} ({FUNCTION})"
            self._edits.append(Edit(end, end, item, (Copy(0, len(item), start, exact=False),)))
            self._joins[key] = name
            if joined.star is not None and id(joined.select) not in self._starred:
                self._starred.add(id(joined.select))
                place = tokens[syntax.first_token(joined.star[0])]
                self._edits.append(Edit(place.start, place.start, f"{_quoted(joined.star[1])}."))
        return self._joins[key]

    def _function_name(self, index: int, argument: Node) -> str | None:
        """Return the model if it is given as a plain literal that can name a function."""
        token = self._syntax.tokens[index]
        if (
            argument.kind != "A_Const"
            or token.kind is not Kind.STRING
            or self._syntax.spelling(index + 1) != ","
        ):
            return None
        model = string_value(token)
        return model if 0 < len(model.encode()) <= MAX_NAME_BYTES else None

    def _call_edits(self, call: _Call) -> Iterator[Edit]:
        tokens = self._syntax.tokens
        called = f"{_SCHEMA}.{_quoted(call.model)}"
        yield Edit(tokens[call.first].start, tokens[call.literal - 2].end, called)
        yield Edit(tokens[call.literal].start, tokens[call.literal + 1].end, "")

    def _name_outputs(self, node: Node) -> None:
        """Give an unnamed output column the name that the changed call would have taken from it."""
        kind, body = node
        if kind == "RangeFunction" and "alias" not in body:
            for function in _functions(body):
                call = self._calls.get(id(function))
                if call is not None:
                    self._alias_at(call.close)
        for target in body.get(_OUTPUTS.get(kind, ""), ()):
            output = target["ResTarget"]
            if "name" not in output and id(_naming_call(node_of(output["val"]))) in self._calls:
                self._alias_at(self._syntax.item_end(self._syntax.first_token(output)) - 1)

    def _alias_at(self, last: int) -> None:
        end = self._syntax.tokens[last].end
        self._edits.append(Edit(end, end, _ALIAS))


def _free_names() -> Iterator[str]:
    yield "federated_prediction"
    yield from (f"federated_prediction_{number}" for number in count(1))


def _quoted(model: str) -> str:
    return '"' + model.replace('"', '""') + '"'


def _functions(range_function: Body) -> Iterator[Body]:
    for function in range_function["functions"]:
        yield node_of(function["List"]["items"][0]).body


def _nameless(node: Node) -> Iterator[Body]:
    """Yield calls that keep their name, since one that is lost could not be given back."""
    if node.kind == "RangeFunction":
        unusual = any(node.body.get(what) for what in ("is_rowsfrom", "ordinality", "coldeflist"))
        if unusual:
            yield from _functions(node.body)


def _naming_call(node: Node) -> Body | None:
    """Return the call from which PostgreSQL takes an unnamed column's name (FigureColname), if it is one."""
    while True:
        kind, body = node
        if kind == "FuncCall":
            return body
        if kind in ("TypeCast", "CollateClause"):
            node = node_of(body["arg"])
        elif kind == "CaseExpr":
            node = node_of(body.get("defresult"))
        elif kind == "A_Indirection" and not any(strings(body["indirection"])):
            node = node_of(body["arg"])
        else:
            return None
