"""Finds `federated_predict('m', a => x, …)` in ordinary SQL and turns it into `federated_model.m(a => x, …)`.

What always holds: calls are found in PostgreSQL's own syntax tree and changed at token boundaries; an output
column keeps the name it had; a statement that the grammar does not know, before or after, is left as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from federated_sql.errors import FederatedError
from federated_sql.lexer import MAX_NAME_BYTES, Kind, Token, scan, string_value
from federated_sql.postgres import ascii_stand_in, parse_tree

FUNCTION = "federated_predict"
_ALIAS = f" AS {FUNCTION}"
_SCHEMA = "federated_model"
# fmt: off
_ITEM_ENDS = frozenset({
    "from", "into", "where", "group", "having", "window", "order", "limit", "offset", "fetch", "for",
    "union", "intersect", "except", "on", "returning",
})
# fmt: on


class Edit(NamedTuple):
    """Replace text[start:end] (0-based characters) by `replacement`."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to be changed, by the places of its tokens in the statement."""

    first: int
    """The first token of the function's name, schema included."""
    literal: int
    close: int
    model: str


def mentions_prediction(statement: Sequence[Token]) -> bool:
    """Whether the statement's tokens must be looked at by the grammar, which is far dearer than scanning."""
    return any(FUNCTION in token.text.lower() for token in statement)


def predict_edits(text: str, statement: Sequence[Token]) -> list[Edit]:
    """Return the edits for one statement's tokens, ascending; none on any doubt."""
    try:
        tree = grammar_tree(text, statement)
        if len(tree) != 1:
            return []
        edits = _Finder(statement).edits(tree[0].stmt)
        if edits:
            _verify(text, statement, edits)
    except FederatedError:
        return []
    return edits


def grammar_tree(text: str, statement: Sequence[Token]) -> tuple[Any, ...]:
    """Return the syntax tree of one statement; its locations are relative to the statement's first token."""
    start, end = statement[0].start, statement[-1].end
    source = text[start:end]
    if not source.isascii():
        stand_in = ascii_stand_in(source)
        if stand_in is not None:
            source = _without_false_keywords(stand_in, start, statement)
    return parse_tree(source, len(statement))


def _without_false_keywords(stand_in: str, start: int, statement: Sequence[Token]) -> str:
    """Spell words that were not ASCII so that none of them becomes a keyword by standing in."""
    parts: list[str] = []
    done = 0
    for token in statement:
        if token.word and not token.text.isascii():
            parts += (stand_in[done : token.start - start], "q" * len(token.text))
            done = token.end - start
    return "".join([*parts, stand_in[done:]])


def _verify(text: str, statement: Sequence[Token], edits: Sequence[Edit]) -> None:
    """Raise FederatedError unless the changed statement is one statement of the grammar, too."""
    parts: list[str] = []
    done = statement[0].start
    for edit in edits:
        parts += (text[done : edit.start], edit.replacement)
        done = edit.end
    changed = "".join([*parts, text[done : statement[-1].end]])
    grammar_tree(changed, scan(changed))


class _Finder:
    """Looks through one statement's tree, without recursion."""

    def __init__(self, statement: Sequence[Token]) -> None:
        self._tokens = statement
        self._base = statement[0].start
        self._starts = [token.start for token in statement]
        self._closers = _closers(statement)
        self._calls: dict[int, _Call] = {}
        self._aliases: list[Edit] = []

    def edits(self, root: Any) -> list[Edit]:
        """Return the edits that `root`, a statement's tree, asks for."""
        nodes = list(_walk(root))
        kept = {id(call) for node in nodes for call in _unnameable(node)}
        for node in nodes:
            if type(node).__name__ == "FuncCall" and id(node) not in kept:
                call = self._understand(node)
                if call is not None:
                    self._calls[id(node)] = call
        for node in nodes:
            self._name_outputs(node)
        edits = [edit for call in self._calls.values() for edit in self._call_edits(call)]
        return sorted(edits + self._aliases)

    def _understand(self, node: Any) -> _Call | None:
        """Return the call if it is one of ours: a plain literal first, then only named arguments."""
        if not _is_predict(node) or not _named_behind_literal(node.args):
            return None
        first = self._token_at(node.location)
        name_end = first + (1 if len(node.funcname) == 1 else 3)
        if self._text(name_end) != "(" or self._text(name_end + 2) != ",":
            return None
        literal = self._tokens[name_end + 1]
        if literal.kind is not Kind.STRING:
            return None
        model = string_value(literal)
        close = self._closers.get(name_end)
        if close is None or not model or len(model.encode()) > MAX_NAME_BYTES:
            return None
        return _Call(first, name_end + 1, close, model)

    def _token_at(self, location: int) -> int:
        return bisect_left(self._starts, location + self._base)

    def _text(self, index: int) -> str:
        return self._tokens[index].text if index < len(self._tokens) else ""

    def _call_edits(self, call: _Call) -> Iterator[Edit]:
        quoted = '"' + call.model.replace('"', '""') + '"'
        name_end = self._tokens[call.literal - 2].end
        yield Edit(self._tokens[call.first].start, name_end, f"{_SCHEMA}.{quoted}")
        yield Edit(self._tokens[call.literal].start, self._tokens[call.literal + 1].end, "")

    def _name_outputs(self, node: Any) -> None:
        """Give an unnamed output column the name that the changed call would have taken from it."""
        kind = type(node).__name__
        if kind == "RangeFunction" and node.alias is None:
            call = self._calls.get(id(node.functions[0][0]))
            if call is not None:
                self._alias_at(self._tokens[call.close].end)
        targets = {"SelectStmt": "targetList", "ReturningClause": "exprs"}.get(kind)
        for target in (getattr(node, targets) or ()) if targets else ():
            if target.name is None and id(_naming_call(target.val)) in self._calls:
                self._alias_at(self._item_end(self._token_at(target.location)))

    def _alias_at(self, end: int) -> None:
        self._aliases.append(Edit(end, end, _ALIAS))

    def _item_end(self, first: int) -> int:
        """Return where the select-list item that begins with token `first` ends in the text."""
        depth, index = 0, first
        while index < len(self._tokens):
            token = self._tokens[index]
            if depth == 0 and index > first and self._ends_item(index):
                return self._tokens[index - 1].end
            if token.text == "[" or token.word == "case":
                depth += 1
            elif token.text == "]" or token.word == "end":
                depth -= 1
            # Stepping over parentheses keeps selects within selects from being walked many times.
            index = self._closers.get(index, index) + 1
        return self._tokens[-1].end

    def _ends_item(self, index: int) -> bool:
        token = self._tokens[index]
        if token.word == "with":
            return self._text(index + 1).lower() != "time"
        return token.text in (",", ")", ";") or token.word in _ITEM_ENDS


def _closers(tokens: Sequence[Token]) -> dict[int, int]:
    """The place of each opening parenthesis that is closed, and of what closes it."""
    open_, found = [], {}
    for index, token in enumerate(tokens):
        if token.text == "(":
            open_.append(index)
        elif token.text == ")" and open_:
            found[open_.pop()] = index
    return found


def _walk(root: Any) -> Iterator[Any]:
    """Yield all nodes, but none of a routine's body."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(reversed(node))
        elif hasattr(node, "__slots__") and type(node).__module__ == "pglast.ast":
            if type(node).__name__ == "CreateFunctionStmt":
                continue
            yield node
            stack.extend(getattr(node, name) for name in node)


def _is_predict(node: Any) -> bool:
    names = tuple(part.sval for part in node.funcname)
    plain = not (
        node.agg_star
        or node.agg_distinct
        or node.agg_within_group
        or node.func_variadic
        or node.agg_order
        or node.agg_filter
        or node.over
    )
    return plain and names in ((FUNCTION,), ("public", FUNCTION))


def _named_behind_literal(arguments: Sequence[Any] | None) -> bool:
    if not arguments or len(arguments) < 2 or type(arguments[0]).__name__ != "A_Const":
        return False
    return type(arguments[0].val).__name__ == "String" and all(
        type(argument).__name__ == "NamedArgExpr" for argument in arguments[1:]
    )


def _unnameable(node: Any) -> Iterator[Any]:
    """Yield calls that are left alone, since changing them would change a name that cannot be given back."""
    kind = type(node).__name__
    if kind == "CallStmt":
        yield node.funccall
    elif kind == "RangeFunction":
        simple = not node.is_rowsfrom and not node.ordinality and not node.coldeflist
        if not simple:
            yield from (function[0] for function in node.functions)


def _naming_call(expression: Any) -> Any:
    """Return the call from which PostgreSQL takes an unnamed column's name (FigureColname), if it is one."""
    while expression is not None:
        kind = type(expression).__name__
        if kind == "FuncCall":
            return expression
        if kind in ("TypeCast", "CollateClause"):
            expression = expression.arg
        elif kind == "CaseExpr":
            expression = expression.defresult
        elif kind == "A_Indirection" and not any(
            type(step).__name__ == "String" for step in expression.indirection
        ):
            expression = expression.arg
        else:
            return None
    return None
