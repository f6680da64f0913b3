"""One statement's syntax tree beside its tokens: from a node to the place in the text where it stands.

What always holds: the tree is PostgreSQL's own, in libpg_query's JSON; a node is (kind, body), where the
body's identity is the node's; walking takes no recursion and stays out of routines' bodies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from federated_sql.errors import FederatedError, syntax_error
from federated_sql.lexer import Token
from federated_sql.postgres import parse_json

Body = dict[str, Any]

# Fields whose nodes come without the name of their kind.
_PLAIN_FIELDS = {"larg": "SelectStmt", "rarg": "SelectStmt", "returningClause": "ReturningClause"}
# fmt: off
_ITEM_ENDS = frozenset({
    "from", "into", "where", "group", "having", "window", "order", "limit", "offset", "fetch", "for",
    "union", "intersect", "except", "on", "returning",
})
# fmt: on
_FROM_ENDS = _ITEM_ENDS - {"from", "into", "on"}
_WITH_OPTIONS = frozenset({"no", "data", "check", "local", "cascaded"})


class Node(NamedTuple):
    """A node of the tree; the kind is empty where the tree does not say it."""

    kind: str
    body: Body


class Clauses(NamedTuple):
    """Where the clauses of one SELECT end in its statement's tokens, each index exclusive; 0: not there."""

    items: int
    from_: int
    where: int


class Syntax:
    """One statement's tokens and tree.

    text: what the tokens were taken from. standing: the same text with what the grammar does not know blanked
    out, so that all places agree.
    """

    def __init__(self, text: str, tokens: Sequence[Token], standing: str | None = None) -> None:
        self.text = text
        self.tokens = tokens
        self.closers = closers(tokens)
        source = (text if standing is None else standing)[tokens[0].start : tokens[-1].end]
        statements = parse_json(source, len(tokens))
        if len(statements) != 1:
            raise syntax_error("one statement at a time", position=tokens[0].position)
        self.root = node_of(statements[0]["stmt"])
        self.nodes = list(walk(self.root))
        self.offsets = _byte_offsets(source, tokens)
        self._conflicts = dict(self._find_conflicts())

    def token_at(self, location: int) -> int:
        """Return the index of the token that begins at a location of the tree."""
        return bisect_left(self.offsets, location)

    def first_token(self, body: Body) -> int:
        """Return the index of the token at a node's own location."""
        location = body.get("location", 0)
        if location < 0:
            raise syntax_error("the place of this is not known")
        return self.token_at(location)

    def spelling(self, index: int) -> str:
        """Return a token's text, nothing behind the last one."""
        return self.tokens[index].text if index < len(self.tokens) else ""

    def _word(self, index: int) -> str:
        """Return a token's word where it may be a keyword: behind a dot or AS it is a name."""
        token = self.tokens[index]
        if (
            token.word
            and index
            and (self.tokens[index - 1].text == "." or self.tokens[index - 1].word == "as")
        ):
            return ""
        return token.word

    def item_end(self, first: int) -> int:
        """Return the index behind the last token of the select-list item that begins with token `first`."""
        for index in self._level(first):
            if index > first and self._ends_item(index):
                return index
        return len(self.tokens)

    def _level(self, first: int) -> Iterator[int]:
        """Yield the tokens from `first` on that stand neither in parentheses, brackets nor CASE … END.

        Stepping over parentheses keeps selects within selects from being walked many times.
        """
        depth, index = 0, first
        while index < len(self.tokens):
            if depth <= 0:
                yield index
            word = self._word(index)
            if self.tokens[index].text == "[" or word == "case":
                depth += 1
            elif self.tokens[index].text == "]" or word == "end":
                depth -= 1
            index = self.closers.get(index, index) + 1

    def _ends_item(self, index: int) -> bool:
        text, word = self.tokens[index].text, self._word(index)
        if word == "with":
            return self.spelling(index + 1).lower() != "time"
        if word == "from" and self.tokens[index - 1].word == "distinct":
            return False
        return text in (",", ")", ";") or word in _ITEM_ENDS

    def _find_conflicts(self) -> Iterator[tuple[int, int]]:
        """Yield each SELECT before ON CONFLICT with the place of that.

        In a FROM clause the words alone do not tell it from a join's condition.
        """
        for kind, body in self.nodes:
            if kind == "InsertStmt" and "onConflictClause" in body and "selectStmt" in body:
                place = self.first_token(body["onConflictClause"])
                stack = [node_of(body["selectStmt"]).body]
                while stack:
                    select = stack.pop()
                    yield id(select), place
                    stack.extend(select[side] for side in ("larg", "rarg") if side in select)

    def clauses(self, select: Body) -> Clauses:
        """Return where the clauses of a SELECT with a select list end."""
        index = self.first_token(select["targetList"][0]["ResTarget"])
        end = self._conflicts.get(id(select), len(self.tokens))
        while True:
            index = self.item_end(index)
            if index >= end or self.tokens[index].text != ",":
                break
            index += 1
        items = index
        if index < end and self.tokens[index].word == "into":
            items = index = self._until(index + 1, end, _FROM_ENDS | {"from"})
        from_ = where = 0
        if index < end and self.tokens[index].word == "from":
            from_ = index = self._until(index + 1, end, _FROM_ENDS)
        if index < end and self.tokens[index].word == "where":
            where = self._until(index + 1, end, _ITEM_ENDS)
        return Clauses(items, from_, where)

    def _until(self, first: int, end: int, words: frozenset[str]) -> int:
        for index in self._level(first):
            if index >= end or self.tokens[index].text in (")", ";"):
                return min(index, end)
            word = self._word(index)
            if word == "with" and self.spelling(index + 1).lower() in _WITH_OPTIONS:
                return index
            if word == "from" and self.tokens[index - 1].word == "distinct":
                continue
            if word in words:
                return index
        return end


def _byte_offsets(source: str, tokens: Sequence[Token]) -> list[int]:
    """Return the offset of each token in bytes of UTF-8, the first one's being 0."""
    base = tokens[0].start
    starts = [token.start - base for token in tokens]
    if source.isascii():
        return starts
    lengths = (len(source[begin:end].encode()) for begin, end in pairwise(starts))
    return list(accumulate(lengths, initial=0))


def closers(tokens: Sequence[Token]) -> dict[int, int]:
    """Return the place of each opening parenthesis that is closed, and of what closes it."""
    open_: list[int] = []
    found: dict[int, int] = {}
    for index, token in enumerate(tokens):
        if token.text == "(":
            open_.append(index)
        elif token.text == ")" and open_:
            found[open_.pop()] = index
    return found


def node_of(value: Any, field: str = "") -> Node:
    """Return the node that a field's value is; an empty one where it is none."""
    if type(value) is not dict:
        return Node("", {})
    if len(value) == 1:
        for kind, body in value.items():
            if "A" <= kind[0] <= "Z":
                return Node(kind, body)
    return Node(_PLAIN_FIELDS.get(field, ""), value)


def children(body: Body) -> Iterator[tuple[str, Node]]:
    """Yield the nodes directly in a node's body, each with its field."""
    for field, value in body.items():
        if isinstance(value, dict):
            yield field, node_of(value, field)
        elif isinstance(value, list):
            for item in value:
                yield field, node_of(item, field)


def walk(root: Node) -> Iterator[Node]:
    """Yield `root` and all nodes below, a node before those in it, but none of a routine's body."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.kind == "CreateFunctionStmt":
            continue
        yield node
        for field, value in node.body.items():
            if type(value) is dict:
                stack.append(node_of(value, field))
            elif type(value) is list:
                stack.extend([node_of(item, field) for item in value])


def strings(values: Sequence[Any]) -> tuple[str, ...]:
    """Return the strings in a list of String nodes, "" for any other node."""
    return tuple(value.get("String", {}).get("sval", "") for value in values)


def known_syntax(text: str, tokens: Sequence[Token]) -> bool:
    """Whether the grammar takes these tokens of `text` for exactly one statement."""
    try:
        Syntax(text, tokens)
    except FederatedError:
        return False
    return True
