"""A version as an ONNX model: its preprocessing, its numbers and its link in one graph.

What always holds: what the graph computes is what `scoring` does, in double precision. One input a feature: a
vector of doubles (a flag 0 or 1, a time days since 1970-01-01 in UTC, an interval days; missing is NaN), of
an array a matrix, of a category texts (NULL is `onnx_inputs.NULL_TEXT`). The output is `prediction`,
(rows,), or of several classes `probabilities`, (rows, classes).
"""

from __future__ import annotations

import json

import numpy as np

from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.exchange.onnx_inputs import NULL_TEXT, add_inputs
from heliosdb.exchange.onnx_nodes import OWN, Nodes
from heliosdb.exchange.onnx_trees import add_trees
from heliosdb.exchange.portable import Portable, linear_terms
from heliosdb.scoring.network import LARGEST_INPUT

PREDICTION, PROBABILITIES = "prediction", "probabilities"
_GELU = 0.7978845608028654
_JSON = "--format json takes every model."
_MOST_BYTES = 2**31 - 1


def render_onnx(model: Portable) -> bytes:
    """Return the file. FederatedError NOT_SUPPORTED for what ONNX cannot say, PROGRAM_LIMIT beyond 2 GiB."""
    for one in model.encoding.columns:
        if one.column in (PREDICTION, PROBABILITIES) or one.column.startswith(OWN):
            raise not_supported(f'feature "{one.column}" has the name of a result in an ONNX file')
    nodes = Nodes()
    inputs = add_inputs(nodes, model)
    match model.kind:
        case "linear" | "softmax_linear":
            _linear(nodes, model, inputs)
        case "network":
            _network(nodes, model, inputs)
        case "convolution":
            raise not_supported("a convolutional network is not exported as ONNX yet", hint=_JSON)
        case "series":
            raise not_supported("a network on series is not exported as ONNX yet", hint=_JSON)
        case _:
            _trees(nodes, model, inputs)
    raw = nodes.model("heliosdb", _about(model)).SerializeToString()
    if len(raw) > _MOST_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "an ONNX file has at most 2 GiB")
    return raw


def _about(model: Portable) -> dict[str, str]:
    about = {
        "heliosdb.model": model.name,
        "heliosdb.version": str(model.version),
        "heliosdb.algorithm": model.algorithm,
        "heliosdb.content_sha256": model.content_sha256,
        "heliosdb.origin": json.dumps(model.origin, sort_keys=True),
        "heliosdb.null_text": NULL_TEXT,
        "heliosdb.notice": "This is a copy. Erasures at its origin do not reach it.",
    }
    if model.classes:
        about["heliosdb.classes"] = json.dumps(model.classes)
    if model.card is not None:
        about["heliosdb.card"] = json.dumps(model.card, sort_keys=True)
    return about


def _give(nodes: Nodes, value: str, model: Portable) -> None:
    if model.has_many_classes:
        nodes.give(value, PROBABILITIES, len(model.classes))
    else:
        nodes.give(value, PREDICTION)


def _in_units(nodes: Nodes, model: Portable, score: str) -> str:
    """A score in the target's units."""
    scaled = nodes.add("Mul", score, nodes.constant(float(model.content["target_scale"])))
    return nodes.add("Add", scaled, nodes.constant(float(model.content["target_mean"])))


def _first(nodes: Nodes, scores: str) -> str:
    """(rows, 1) → (rows,)."""
    return nodes.add("Squeeze", scores, nodes.constant([1], np.int64))


def _logistic(nodes: Nodes, score: str) -> str:
    half = nodes.constant(0.5)
    tangent = nodes.add("Tanh", nodes.add("Mul", score, half))
    return nodes.add("Add", nodes.add("Mul", tangent, half), half)


def _softmax(nodes: Nodes, scores: str, divisor: float = 1.0) -> str:
    """Shares of scores that were divided."""
    best = nodes.add("ReduceMax", scores, nodes.constant([1], np.int64), keepdims=1)
    less = nodes.add("Max", nodes.add("Sub", scores, best), nodes.constant(-700.0 / divisor))
    powers = nodes.add("Exp", nodes.add("Mul", less, nodes.constant(divisor)))
    return nodes.add("Div", powers, nodes.sum_of_rows(powers, keep=True))


def _linear(nodes: Nodes, model: Portable, inputs: str) -> None:
    terms = linear_terms(model)
    missing = nodes.add("IsNaN", inputs)
    filled = nodes.add("Where", missing, nodes.constant([terms.fills]), inputs)
    centred = nodes.add("Sub", filled, nodes.constant([terms.shifts]))
    products = nodes.add("MatMul", centred, nodes.constant(terms.slopes.T))
    scores = nodes.add("Add", products, nodes.constant([terms.intercepts]))
    if model.has_many_classes:
        _give(nodes, _softmax(nodes, scores, terms.divisor), model)
        return
    score = _first(nodes, scores)
    if model.link == "identity":
        _give(nodes, _in_units(nodes, model, score), model)
        return
    cut = nodes.clip(score, terms.bound / terms.divisor)
    whole = nodes.add("Mul", cut, nodes.constant(terms.divisor))
    _give(nodes, _logistic(nodes, whole) if model.link == "logistic" else nodes.add("Exp", whole), model)


def _network(nodes: Nodes, model: Portable, inputs: str) -> None:
    arrays, activations = model.arrays, model.content["activations"]
    centred = nodes.add("Sub", inputs, nodes.constant([arrays["means"]]))
    scaled = nodes.add("Div", centred, nodes.constant([arrays["scales"]]))
    filled = nodes.add("Where", nodes.add("IsNaN", scaled), nodes.constant(0.0), scaled)
    values = nodes.clip(filled, LARGEST_INPUT)
    for place, name in enumerate(activations):
        weights = nodes.constant(np.asarray(arrays[f"weight_{place}"], dtype=np.float64).T)
        biases = nodes.constant([np.asarray(arrays[f"bias_{place}"], dtype=np.float64)])
        values = nodes.add("Add", nodes.add("MatMul", values, weights), biases)
        if place + 1 < len(activations):
            values = _activated(nodes, name, values)
    if model.has_many_classes:
        _give(nodes, _softmax(nodes, values), model)
        return
    score = _first(nodes, values)
    is_share = model.link == "logistic"
    _give(nodes, _logistic(nodes, score) if is_share else _in_units(nodes, model, score), model)


def _activated(nodes: Nodes, name: str, sums: str) -> str:
    match name:
        case "relu":
            return nodes.add("Max", sums, nodes.constant(0.0))
        case "tanh":
            return nodes.add("Tanh", sums)
        case "sigmoid":
            return _logistic(nodes, sums)
    cut = nodes.clip(sums, 1e3)
    cube = nodes.add("Mul", cut, nodes.add("Mul", cut, cut))
    bent = nodes.add("Add", cut, nodes.add("Mul", cube, nodes.constant(0.044715)))
    tangent = nodes.add("Tanh", nodes.add("Mul", bent, nodes.constant(_GELU)))
    half = nodes.add("Mul", sums, nodes.constant(0.5))
    return nodes.add("Mul", half, nodes.add("Add", tangent, nodes.constant(1.0)))


def _trees(nodes: Nodes, model: Portable, inputs: str) -> None:
    outputs = add_trees(nodes, model, inputs)
    boosts = model.content["boosts"]
    if model.has_many_classes:
        if boosts:
            _give(nodes, _softmax(nodes, outputs), model)
            return
        # The leaves of a forest are the shares of all classes but the first.
        rest = nodes.add("Sub", nodes.constant(1.0), nodes.sum_of_rows(outputs, keep=True))
        _give(nodes, nodes.add("Concat", rest, outputs, axis=1), model)
        return
    score = _first(nodes, outputs)
    if model.link == "identity":
        score = _in_units(nodes, model, score)
    elif boosts:
        score = _logistic(nodes, score)
    _give(nodes, score, model)
