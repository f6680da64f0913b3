"""A column list behind `federated_evaluate('m')` and its like, in the select list and in FROM.

`SELECT federated_evaluate('m') AS (a FLOAT)` becomes `SELECT federated_evaluate.* FROM LATERAL
pg_catalog.jsonb_to_recordset(federated._evaluate_columns('m', columns => ARRAY['a'])) AS
federated_evaluate(a FLOAT)`.

What always holds: arguments and column list are moved as they were typed; the row's name is one that the
statement does not use; a list anywhere else leaves the statement as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from federated_sql.clause_values import MAX_NAME_BYTES
from federated_sql.computed_models import quote
from federated_sql.edits import Draft, Edit
from federated_sql.errors import syntax_error
from federated_sql.lexer import Kind, Token, identifier_value
from federated_sql.syntax import Body, Syntax, closers, node_of

FUNCTIONS = frozenset(
    {
        "federated_evaluate",
        "federated_compliance_check",
        "federated_security_audit",
        "federated_data_quality_check",
    }
)
_RECORDS = "pg_catalog.jsonb_to_recordset("
# These words are no aliases where a call stands before them and a parenthesis behind.
_NO_ALIAS = frozenset({"over", "filter", "within", "as"})


@dataclass(frozen=True, slots=True)
class ColumnList:
    """A call and the column list behind it, by the places of their tokens in the statement."""

    first: int
    """The first token of the function's name, schema included."""
    open: int
    close: int
    list_open: int
    list_close: int
    named: bool
    """Whether an alias stands before the list."""
    function: str
    columns: tuple[str, ...]


def find_lists(tokens: Sequence[Token]) -> list[ColumnList]:
    """Return what looks like a call with a column list, in the order of the text."""
    if not any(_function(token) for token in tokens):
        return []
    pairs = closers(tokens)
    found: list[ColumnList] = []
    for index, token in enumerate(tokens):
        function = _function(token)
        close = pairs.get(index + 1, 0)
        if function and close > index + 1 and tokens[index + 1].text == "(":
            one = _behind(tokens, pairs, index, close, function)
            if one is not None:
                found.append(one)
    return found


def _function(token: Token) -> str:
    name = token.word if token.kind is Kind.WORD else token.text[1:-1] if token.kind is Kind.QUOTED else ""
    return name if name in FUNCTIONS else ""


def _behind(
    tokens: Sequence[Token], pairs: dict[int, int], name: int, close: int, function: str
) -> ColumnList | None:
    """Return the list behind the call whose function's name is token `name`, None if there is none."""
    first = name
    if name and tokens[name - 1].text == ".":
        first = name - 2
        if first < 0 or identifier_value(tokens[first]) != "public":
            return None
    index = close + 1
    if index < len(tokens) and tokens[index].word == "as":
        index += 1
    named = index < len(tokens) and _may_be_alias(tokens[index])
    index += named
    end = pairs.get(index, 0)
    if end <= index or tokens[index].text != "(":
        return None
    columns = _columns(tokens[index + 1 : end])
    if not columns:
        return None
    return ColumnList(first, name + 1, close, index, end, named, function, columns)


def _may_be_alias(token: Token) -> bool:
    if token.kind is Kind.WORD:
        return not token.reserved and token.word not in _NO_ALIAS
    return token.kind is Kind.QUOTED


def _columns(tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the names in a list of names with types; nothing where it is no such list."""
    elements: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and depth == 0:
            elements.append([])
        else:
            elements[-1].append(token)
    if any(len(element) < 2 or not _may_be_alias(element[0]) for element in elements):
        return ()
    return tuple(identifier_value(element[0]) for element in elements)


def blank_lists(text: str, tokens: Sequence[Token], lists: Sequence[ColumnList]) -> str:
    """Return `text` with spaces for each list without alias, for the grammar knows none in a select list."""
    parts: list[str] = []
    done = 0
    for one in lists:
        if not one.named:
            start, end = tokens[one.close].end, tokens[one.list_close].end
            parts += (text[done:start], " " * (end - start))
            done = end
    return "".join([*parts, text[done:]])


def list_edits(syntax: Syntax, lists: Sequence[ColumnList], within: Sequence[Edit]) -> list[Edit]:
    """Return the edits of the lists; within: the edits of the statement's calls, which arguments may hold.

    Raises 42601 where a list stands elsewhere than in a select list or FROM.
    """
    return list(_Lists(syntax, lists, within).edits())


class _Lists:
    def __init__(self, syntax: Syntax, lists: Sequence[ColumnList], within: Sequence[Edit]) -> None:
        self._syntax = syntax
        self._lists = lists
        self._within = within
        self._taken = _names(syntax.tokens, lists)

    def edits(self) -> Iterator[Edit]:
        if any(len(column.encode()) > MAX_NAME_BYTES for one in self._lists for column in one.columns):
            raise syntax_error("a column's name is too long")
        left = {one.first: one for one in self._lists}
        selects: list[tuple[Body, list[ColumnList]]] = []
        for kind, body in self._syntax.nodes:
            if kind == "RangeFunction":
                one = left.pop(self._function_at(body), None)
                if one is not None:
                    self._taken.add(one.function)
                    yield from self._in_from(one)
            elif kind == "SelectStmt":
                here = [left.pop(place) for place in self._outputs_at(body) if place in left]
                if here:
                    selects.append((body, here))
        if left:
            raise syntax_error("a column list stands where none may be")
        for body, here in selects:
            yield from self._in_select(body, here)

    def _function_at(self, body: Body) -> int:
        """Return the first token of the only function of an item of FROM, -1 for any other item."""
        if body.get("is_rowsfrom") or body.get("ordinality") or len(body["functions"]) != 1:
            return -1
        return self._syntax.first_token(node_of(body["functions"][0]["List"]["items"][0]).body)

    def _outputs_at(self, body: Body) -> Iterator[int]:
        for target in body.get("targetList", ()):
            output = target["ResTarget"]
            if "name" not in output and "FuncCall" in output.get("val", {}):
                yield self._syntax.first_token(output["val"]["FuncCall"])

    def _in_from(self, one: ColumnList) -> Iterator[Edit]:
        tokens = self._syntax.tokens
        yield Edit(tokens[one.first].start, tokens[one.open - 1].end, _RECORDS + _internal(one))
        yield Edit(tokens[one.close].start, tokens[one.close].start, _columns_argument(one) + ")")
        if not one.named:
            end = tokens[one.list_open - 1].end
            has_as = one.list_open - 1 > one.close
            yield Edit(end, end, f" {one.function}" if has_as else f" AS {one.function}")

    def _in_select(self, body: Body, lists: Sequence[ColumnList]) -> Iterator[Edit]:
        tokens = self._syntax.tokens
        clauses = self._syntax.clauses(body)
        if not clauses.from_ and "fromClause" in body:
            raise syntax_error("the end of FROM is not known")
        draft = Draft(self._syntax.text, self._within)
        for number, one in enumerate(lists):
            name = self._free(one.function)
            self._taken.add(name)
            yield Edit(tokens[one.first].start, tokens[one.list_close].end, f"{name}.*")
            draft.add(" FROM " if not clauses.from_ and number == 0 else ", LATERAL ")
            draft.add_for(f"{_RECORDS}{_internal(one)}(", tokens[one.first].start)
            draft.take(tokens[one.open].end, tokens[one.close].start)
            draft.add(f"{_columns_argument(one)})) AS {name}")
            draft.take(tokens[one.list_open].start, tokens[one.list_close].end)
        end = tokens[(clauses.from_ or clauses.items) - 1].end
        yield draft.edit(end, end)

    def _free(self, function: str) -> str:
        number, name = 1, function
        while name in self._taken:
            number, name = number + 1, f"{function}_{number}"
        return name


def _names(tokens: Sequence[Token], lists: Sequence[ColumnList]) -> set[str]:
    """Return all names in the statement but those of the functions with lists."""
    own = {one.open - 1 for one in lists}
    return {
        identifier_value(token)
        for index, token in enumerate(tokens)
        if token.kind in (Kind.WORD, Kind.QUOTED) and index not in own
    }


def _internal(one: ColumnList) -> str:
    return f"federated._{one.function.removeprefix('federated_')}_columns"


def _columns_argument(one: ColumnList) -> str:
    array = ", ".join(map(quote, one.columns))
    return ("" if one.close == one.open + 1 else ", ") + f"columns => ARRAY[{array}]"
