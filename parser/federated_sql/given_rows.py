"""Calls that take features as JSON and are given a row, and predictions that follow an experiment.

`federated_explain('m', p)` becomes `federated_explain('m', federated_features('m', p))`, and
`federated_predict('m', a => x, experiment => 'e', experiment_key => k)` becomes
`federated_predict('m', pg_catalog.jsonb_build_object('a', x), experiment => 'e', experiment_key => k)`.

What always holds: the call keeps its name, so that its column and its alias stay; a row is one that
`predicted_rows` is certain of; of a call that is written in any other way nothing is changed.
"""

from __future__ import annotations

from federated_sql.computed_models import json_edits
from federated_sql.edits import Edit
from federated_sql.lexer import Kind
from federated_sql.syntax import Body, Syntax, node_of, strings

FOLLOWED = frozenset({"experiment", "experiment_key"})
"""Named arguments of a prediction that are no features where both are given."""

_FEATURES = "features"


def follows(body: Body) -> bool:
    """Whether a prediction names the experiment that it follows, and the key."""
    return set(_argument_names(body)) >= FOLLOWED


def follower_edits(syntax: Syntax, body: Body, close: int) -> list[Edit]:
    """Return the edits by which a call that follows an experiment has its named features as JSON.

    They stand together, before the experiment or behind it. close: the parenthesis behind the call.
    """
    names = _argument_names(body)
    places = [place for place, name in enumerate(names) if place and name not in FOLLOWED]
    alone = not places or places[-1] - places[0] >= len(places)
    if alone or names[0] is not None or None in names[1:] or _FEATURES in names:
        return []
    arguments = [node_of(argument) for argument in body["args"]]
    last = places[-1] + 1 == len(arguments)
    behind = close if last else syntax.first_token(arguments[places[-1] + 1].body) - 1
    opening = "" if places[0] == 1 else f"{_FEATURES} => "
    return json_edits(syntax, [arguments[place] for place in places], behind, opening)


def row_edits(syntax: Syntax, body: Body) -> list[Edit]:
    """Return the edits by which a call's row becomes JSON; none where its model is no plain literal."""
    names = strings(body["funcname"])
    model = syntax.first_token(body) + 2 * len(names)
    row = model + 2
    tokens = syntax.tokens
    if tokens[model].kind is not Kind.STRING or syntax.spelling(model + 1) != ",":
        return []
    if syntax.spelling(row + 1) not in {",", ")"}:
        return []
    schema = "".join(f"{name}." for name in names[:-1])
    given = f"{schema}federated_features({syntax.text[tokens[model].start : tokens[model].end]}, "
    return [
        Edit(tokens[row].start, tokens[row].start, given),
        Edit(tokens[row].end, tokens[row].end, ")"),
    ]


def _argument_names(body: Body) -> list[str | None]:
    """Return the name of each argument of a call, None for one that has none."""
    return [
        argument.body["name"] if argument.kind == "NamedArgExpr" else None
        for argument in map(node_of, body.get("args", ()))
    ]
