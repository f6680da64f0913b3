"""A prediction as one SELECT for another engine.

What always holds: it computes what federated_predict does, up to rounding, for every row, missing and unknown
values included; of a network, what it does in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlglot import exp

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.exchange.portable import Portable, linear_terms
from heliosdb.exchange.sql_inputs import input_columns, known_columns, known_names
from heliosdb.exchange.sql_levels import (
    COMPUTES_APART,
    DIALECTS,
    PREFIX,
    Dialect,
    Levels,
    add,
    case,
    clamp,
    coalesce,
    column,
    multiply,
    number,
)
from heliosdb.exchange.sql_terms import Weighed, column_terms
from heliosdb.exchange.sql_trees import tree_scores
from heliosdb.scoring.network import LARGEST_INPUT

MOST_WEIGHTS: Final = 5_000
"""Of a network: more are slower as an expression than any engine's user would wait for."""

_SUM = f"{PREFIX}score"
_GELU = 0.7978845608028654
_CUT = 1e3


def render_select(model: Portable, dialect: str, table: str, keep: Sequence[str] = ()) -> str:
    """Return the SELECT.

    dialect: one of `DIALECTS`. table: the source, its parts separated by dots. keep: columns of it that are
    handed through. The result has them and `prediction`, or of several classes `probability_1` and so on, in
    the order of the labels that the comment above names.

    FederatedError NOT_SUPPORTED for what the dialect cannot compute, PROGRAM_LIMIT for what would be too
    large.
    """
    if dialect not in DIALECTS:
        raise invalid_value(f'there is no dialect "{dialect}"', hint=f"There are {', '.join(DIALECTS)}.")
    for name in keep:
        if name.startswith(PREFIX) or name.startswith(("prediction", "probability_")):
            raise invalid_value(
                f"column \"{name}\" cannot be kept: its name is one of the result's or of the query's"
            )
    apart = model.kind != "linear" and dialect in COMPUTES_APART
    levels = Levels.over(_table(table), keep, known_columns(model, dialect), apart=apart)
    match model.kind:
        case "linear" | "softmax_linear":
            levels, scores = _linear(model, levels, dialect)
        case "network":
            levels, scores = _network(model, levels, dialect)
        case "convolution":
            raise not_supported(
                "a convolutional network cannot be exported as SQL", hint="--format json takes every model."
            )
        case "series":
            raise not_supported(
                "a network on series cannot be exported as SQL", hint="--format json takes every model."
            )
        case _:
            levels, scores = _trees(model, levels, dialect)
    done = _linked(model, levels, scores, dialect)
    return _heading(model, dialect) + done.text(dialect) + ";\n"


def _table(name: str) -> exp.Table:
    parts = name.split(".")
    if not all(parts) or len(parts) > 3:
        raise invalid_value(f'"{name}" names no table', hint="Up to three names, separated by dots.")
    named = [exp.to_identifier(part, quoted=True) for part in parts]
    return exp.Table(**dict(zip(("this", "db", "catalog"), reversed(named), strict=False)))


def _heading(model: Portable, dialect: str) -> str:
    lines = [
        f"Federated model {model.title} for {dialect}, numbers {model.content_sha256}",
        *(
            f"probability_{place} is that of class {label!r}"
            for place, label in enumerate(model.classes, 1)
            if model.has_many_classes
        ),
        *(
            [f"prediction is the probability of class {model.classes[1]!r}"]
            if model.link == "logistic"
            else []
        ),
        "This is a copy: erasures at its origin do not reach it",
    ]
    # A label or a name may hold line breaks, of which Unicode has several.
    return "".join(f"-- {ascii(line)[1:-1]}\n" for line in lines)


def _linear(model: Portable, levels: Levels, dialect: Dialect) -> tuple[Levels, list[str]]:
    terms = linear_terms(model)
    sums: dict[str, exp.Expression] = {}
    for score, intercept in enumerate(terms.intercepts):
        parts = [number(float(intercept), dialect)]
        first = 0
        for place, one in enumerate(model.encoding.columns):
            own = slice(first, first + len(one.inputs))
            weighed = Weighed(one, terms.slopes[score, own], terms.fills[own], terms.shifts[own])
            parts += column_terms(weighed, [column(name) for name in known_names(place, one)], dialect)
            first = own.stop
        sums[f"{_SUM}_{score}"] = add(parts)
    names = list(sums)
    levels = levels.then(sums)
    if model.link in ("identity", "softmax"):
        return levels, names
    # Divided sums are multiplied once they are cut: no feature makes them larger than a double.
    bound = terms.bound / terms.divisor
    cut = {
        name: multiply(number(terms.divisor, dialect), clamp(column(name), bound, dialect)) for name in names
    }
    return levels.then(cut), names


def _trees(model: Portable, levels: Levels, dialect: Dialect) -> tuple[Levels, list[str]]:
    levels = levels.then(_inputs(model, dialect))
    sums = {f"{_SUM}_{place}": value for place, value in enumerate(tree_scores(model, dialect))}
    levels, names = levels.then(sums), list(sums)
    if model.link == "softmax" and not model.content["boosts"]:
        # The leaves of a forest are the shares of all classes but the first.
        rest = exp.Sub(
            this=number(1.0, dialect), expression=exp.Paren(this=add([column(name) for name in names]))
        )
        shares = {f"{_SUM}_{len(names)}": rest} | {name: column(name) for name in names}
        return levels.then(shares), list(shares)
    if model.link == "logistic" and model.content["boosts"]:
        return levels.then({names[0]: clamp(column(names[0]), 700.0, dialect)}), names
    return levels, names


def _inputs(model: Portable, dialect: Dialect) -> dict[str, exp.Expression]:
    return {f"{PREFIX}i{place}": value for place, value in enumerate(input_columns(model, dialect))}


def _network(model: Portable, levels: Levels, dialect: Dialect) -> tuple[Levels, list[str]]:
    if dialect not in COMPUTES_APART:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            f"a network cannot be exported as SQL for {dialect}",
            detail="Its planner would put each layer into the next, and the query would grow with each.",
            hint=f"It can for {', '.join(sorted(COMPUTES_APART))}; --format onnx is for all.",
        )
    activations = model.content["activations"]
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in model.arrays.items()}
    layers = [(arrays[f"weight_{at}"], arrays[f"bias_{at}"]) for at in range(len(activations))]
    weights = sum(weight.size for weight, _ in layers)
    if weights > MOST_WEIGHTS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"a network of {weights} weights is too large to be exported as SQL",
            detail=f"At most {MOST_WEIGHTS} are written out.",
            hint="--format onnx has no such limit.",
        )
    names = list(_inputs(model, dialect))
    levels = levels.then(_inputs(model, dialect)).then(_scaled(model, names, dialect))
    levels = levels.then({name: clamp(column(name), LARGEST_INPUT, dialect) for name in names})
    for at, (weight, bias) in enumerate(layers):
        sums = {
            f"{PREFIX}h{at}_{unit}": add([number(float(bias[unit]), dialect)] + [
                multiply(number(float(slope), dialect), column(name))
                for slope, name in zip(row, names, strict=True) if slope != 0.0
            ])
            for unit, row in enumerate(weight)
        }  # fmt: skip
        levels, names = levels.then(sums), list(sums)
        if at + 1 < len(layers):
            levels = levels.then({name: _activated(activations[at], column(name), dialect) for name in names})
    if model.link == "logistic":
        levels = levels.then({name: clamp(column(name), 700.0, dialect) for name in names})
    return levels, names


def _scaled(model: Portable, names: Sequence[str], dialect: Dialect) -> dict[str, exp.Expression]:
    means, scales = model.arrays["means"], model.arrays["scales"]
    return {
        name: coalesce(
            exp.Div(
                this=exp.Paren(this=exp.Sub(this=column(name), expression=number(float(mean), dialect))),
                expression=number(max(float(scale), 1e-300), dialect), typed=True, safe=False,
            ),
            number(0.0, dialect),
        )
        for name, mean, scale in zip(names, means, scales, strict=True)
    }  # fmt: skip


def _activated(name: str, value: exp.Expression, dialect: Dialect) -> exp.Expression:
    match name:
        case "relu":
            return case(
                [(exp.GT(this=value, expression=number(0.0, dialect)), value.copy())], number(0.0, dialect)
            )
        case "tanh":
            return _tanh(value, dialect)
        case "sigmoid":
            return _logistic(clamp(value, 700.0, dialect), dialect)
    cut = clamp(value, _CUT, dialect)
    cube = multiply(cut.copy(), multiply(cut.copy(), cut.copy()))
    inner = multiply(
        number(_GELU, dialect), exp.Add(this=cut, expression=multiply(number(0.044715, dialect), cube))
    )
    one = exp.Add(this=number(1.0, dialect), expression=_tanh(inner, dialect))
    return multiply(number(0.5, dialect), multiply(value.copy(), one))


def _tanh(value: exp.Expression, dialect: Dialect) -> exp.Expression:
    """By exp, which every engine has."""
    doubled = multiply(number(2.0, dialect), value)
    twice = case(
        [(exp.GT(this=value.copy(), expression=number(350.0, dialect)), number(700.0, dialect)),
         (exp.LT(this=value.copy(), expression=number(-350.0, dialect)), number(-700.0, dialect))],
        doubled,
    )  # fmt: skip
    return exp.Sub(
        this=multiply(number(2.0, dialect), _logistic(twice, dialect)), expression=number(1.0, dialect)
    )


def _logistic(value: exp.Expression, dialect: Dialect) -> exp.Expression:
    """1 / (1 + exp(-value)), of a value within ±700."""
    power = exp.Exp(this=exp.Neg(this=exp.Paren(this=value)))
    below = exp.Paren(this=exp.Add(this=number(1.0, dialect), expression=power))
    return exp.Div(this=number(1.0, dialect), expression=below, typed=True, safe=False)


def _linked(model: Portable, levels: Levels, scores: list[str], dialect: Dialect) -> Levels:
    if model.has_many_classes:
        return _softmax(model, levels, scores, dialect)
    value = column(scores[0])
    is_share = model.kind == "trees" and not model.content["boosts"]
    match model.link:
        case "logistic" if not is_share:
            value = _logistic(value, dialect)
        case "exp" if model.kind == "linear":
            value = exp.Exp(this=value)
        case "identity":
            scaled = multiply(number(float(model.content["target_scale"]), dialect), value)
            value = exp.Add(this=number(float(model.content["target_mean"]), dialect), expression=scaled)
        case "exp":
            scaled = multiply(number(float(model.content["target_scale"]), dialect), value)
            value = exp.Add(this=number(float(model.content["target_mean"]), dialect), expression=scaled)
    return levels.then({"prediction": value})


def _softmax(model: Portable, levels: Levels, scores: list[str], dialect: Dialect) -> Levels:
    names = [f"probability_{place}" for place in range(1, len(scores) + 1)]
    if model.kind == "trees" and not model.content["boosts"]:
        return levels.then({name: column(score) for name, score in zip(names, scores, strict=True)})
    divisor = linear_terms(model).divisor if model.kind == "softmax_linear" else 1.0
    best = exp.Greatest(
        this=column(scores[0]), expressions=[column(score) for score in scores[1:]], ignore_nulls=False
    )
    same = {score: column(score) for score in scores}
    levels = levels.then({**same, f"{PREFIX}best": best})
    less = {score: exp.Sub(this=column(score), expression=column(f"{PREFIX}best")) for score in scores}
    levels = levels.then(less).then({score: _power(column(score), divisor, dialect) for score in scores})
    total = add([column(score) for score in scores])
    levels = levels.then({**same, f"{PREFIX}total": total})
    return levels.then({
        name: exp.Div(this=column(score), expression=column(f"{PREFIX}total"), typed=True, safe=False)
        for name, score in zip(names, scores, strict=True)
    })  # fmt: skip


def _power(value: exp.Expression, divisor: float, dialect: Dialect) -> exp.Expression:
    least = number(-700.0 / divisor, dialect)
    cut = case([(exp.LT(this=value, expression=least), least.copy())], value.copy())
    return exp.Exp(this=multiply(number(divisor, dialect), cut))
