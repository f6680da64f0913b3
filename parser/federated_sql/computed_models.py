"""Named features as JSON: `federated_predict(name, a => x, b := y)` becomes
`federated_predict(name, pg_catalog.jsonb_build_object('a', x, 'b', y))`.

What always holds: the values stay where they are, character by character; a feature that is named twice
leaves the call as it is, and the server refuses it; the call keeps its name and so does its output column.
"""

from __future__ import annotations

from collections.abc import Sequence

from federated_sql.edits import Edit
from federated_sql.lexer import identifier_value
from federated_sql.syntax import Node, Syntax, node_of

_OPEN = "pg_catalog.jsonb_build_object("
_JOIN = ") OPERATOR(pg_catalog.||) "
PAIRS = 50
"""Most features in one jsonb_build_object: PostgreSQL allows 100 arguments."""


def json_edits(syntax: Syntax, features: Sequence[Node], close: int, opening: str = "") -> list[Edit]:
    """Return the edits of named arguments that stand together: behind them is token `close`, a parenthesis or
    a comma. opening: what comes before the object."""
    tokens = syntax.tokens
    places = [syntax.first_token(feature.body) for feature in features]
    names = [identifier_value(tokens[place]) for place in places]
    if len(set(names)) < len(names):
        return []
    edits: list[Edit] = []
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        opened = number % PAIRS == 0
        if opened and number:
            edits.append(Edit(tokens[place - 1].start, tokens[place - 1].end, _JOIN))
        key = (opening if not number else "") + (_OPEN if opened else "") + quote(name) + ","
        edits.append(Edit(tokens[place].start, tokens[place + 1].end, key))
        last = number + 1 == len(places)
        end = tokens[(close if last else places[number + 1] - 1) - 1].end
        # The function takes values of any type, so a bare parameter would have none.
        ends = "::text" if node_of(features[number].body["arg"]).kind == "ParamRef" else ""
        ends += ")" if last else ""
        if ends:
            edits.append(Edit(end, end, ends))
    return edits


def quote(value: str) -> str:
    """Return a string literal, as standard_conforming_strings reads it."""
    return "'" + value.replace("'", "''") + "'"
