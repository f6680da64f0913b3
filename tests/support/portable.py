"""Versions as files have them, without a database: of each kind one, over columns of all kinds or of those that every engine has."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import freeze, state_to_bytes
from heliosdb.exchange.portable import Portable, read_portable
from heliosdb.scoring.session import make_version
from tests.support.encoded_model import COLUMNS, linear, numbers, rows, slots

SIMPLE = tuple(
    one for one in COLUMNS if one.kind in (ColumnKind.NUMBER, ColumnKind.BOOLEAN, ColumnKind.CATEGORY)
)
"""Of `COLUMNS` those of kinds that every engine has."""

TREE_COLUMNS = (
    ColumnEncoding("age"),
    ColumnEncoding("income"),
    ColumnEncoding("smoker", ColumnKind.BOOLEAN),
    ColumnEncoding(
        "site", ColumnKind.CATEGORY, "index", levels=("", "Nord's", "north", "Ω"), null_level=True, other_level=True
    ),
    ColumnEncoding("Ward", ColumnKind.CATEGORY, "index", levels=("a", "b")),
)  # fmt: skip


def document(
    prediction: Prediction, encoding: Encoding, *, algorithm: str = "logistic_regression", **changed: Any
) -> dict[str, Any]:
    """What federated_export_model would return of a version."""
    stored = {
        "kind": prediction.kind, **prediction.content, "encoding": encoding.to_json(),
        "booleans": [one.kind is ColumnKind.BOOLEAN for one in encoding.columns],
    } | ({"classes": list(encoding.classes)} if encoding.classes else {})  # fmt: skip
    text = json.dumps(stored)
    arrays = state_to_bytes(freeze(prediction.arrays)) if prediction.arrays else b""
    return {
        "format": "heliosdb-model", "format_version": 1, "model": "stay", "version": 3,
        "features": [one.column for one in encoding.columns], "contract": {"algorithm": algorithm, "target": "outcome"},
        "prediction": text, "arrays": base64.b64encode(arrays).decode() if arrays else None,
        "content_sha256": hashlib.sha256(text.encode() + arrays).hexdigest(),
        "origin": {"held": "trained", "workspace": "clinics", "model": "stay", "exported_at": "2026-01-31T12:00:00Z",
                   "version_key": "00000000-0000-0000-0000-000000000001"},
        "delivery": None, "card": {"model": "stay"}, "notice": "This is a copy.",
    } | changed  # fmt: skip


def portable(prediction: Prediction, encoding: Encoding, **changed: Any) -> Portable:
    return read_portable(document(prediction, encoding, **changed))


def softmax_linear(columns: Sequence[ColumnEncoding]) -> Portable:
    """Three classes."""
    count = len(Encoding(tuple(columns)).inputs)
    content = {
        "intercepts": numbers(5, 3), "slopes": np.array(numbers(4, 3 * count)).reshape(3, count).tolist(),
        "fills": numbers(2, count), "shifts": numbers(3, count), "link": "softmax",
    }  # fmt: skip
    encoding = Encoding(tuple(columns), ("no", "it's", 'per"haps'))
    return portable(Prediction("softmax_linear", content), encoding)


def linear_model(link: str, columns: Sequence[ColumnEncoding]) -> Portable:
    """One score, with another slope, fill and shift for each input."""
    encoding = Encoding(tuple(columns))
    return portable(linear(link, encoding), encoding)


def network(link: str, columns: Sequence[ColumnEncoding], hidden: str = "gelu") -> Portable:
    """Two hidden layers whose weights are drawn."""
    labels = {"softmax": ("a", "b", "c"), "logistic": ("0", "1")}.get(link, ())
    encoding = Encoding(tuple(columns), labels)
    count, rng = len(encoding.inputs), np.random.default_rng(7)
    outputs = 3 if link == "softmax" else 1
    sizes = [count, 5, 4, outputs]
    arrays: dict[str, Any] = {"means": rng.normal(size=count), "scales": np.full(count, 3.0)}
    for at, (below, above) in enumerate(pairwise(sizes)):
        arrays[f"weight_{at}"] = rng.normal(size=(above, below))
        arrays[f"bias_{at}"] = rng.normal(size=above)
    last = {"softmax": "softmax", "logistic": "sigmoid"}.get(link, "linear")
    content = {"link": link, "activations": [hidden, hidden, last], "target_mean": 3.0, "target_scale": 2.0}
    return portable(Prediction("network", content, freeze(arrays)), encoding, algorithm="neural_network")


def trees(link: str, *, boosts: bool, count: int = 6, depth: int = 4) -> Portable:
    """Trees over numbers, a flag and two categories, of which some ways end early."""
    labels = {"softmax": ("a", "b", "c"), "logistic": ("0", "1")}.get(link, ())
    encoding = Encoding(TREE_COLUMNS, labels)
    scores = 3 if link == "softmax" else 1
    outputs = 1 if boosts else max(1, len(labels) - 1)
    content = {"link": link, "boosts": boosts, "target_mean": 3.0, "target_scale": 2.0}
    arrays = _grow(encoding, count * (scores if boosts else 1), depth, outputs)
    if boosts:
        arrays["base"] = np.random.default_rng(3).normal(size=scores)
    algorithm = "gradient_boosting" if boosts else "random_forest"
    return portable(Prediction("trees", content, freeze(arrays)), encoding, algorithm=algorithm)


def _grow(encoding: Encoding, count: int, depth: int, outputs: int) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    edges = [np.array([0.0, 1.0, 40.0]), np.array([-1.0, 0.0, 1e-9, 20_000.0]), np.array([0.5])]
    edges += [np.arange(len(one.level_names) - 1) + 0.5 for one in TREE_COLUMNS[3:]]
    levels = [0, 0, 0, *(len(one.level_names) for one in TREE_COLUMNS[3:])]
    nodes: list[list[int]] = []
    subsets: list[np.ndarray[Any, Any]] = []
    for tree in range(count):
        level = [len(nodes)]
        nodes.append([tree, -1, 0, 0, 0])
        for deep in range(depth):
            below = []
            for node in level:
                if deep and rng.random() < 0.25:
                    continue
                feature = int(rng.integers(0, len(edges)))
                split = int(rng.integers(0, len(edges[feature])))
                if levels[feature]:
                    split = len(subsets)
                    subsets.append(np.packbits(rng.random(8) < 0.5))
                nodes[node] = [tree, feature, split, len(nodes), int(rng.random() < 0.5)]
                below += [len(nodes), len(nodes) + 1]
                nodes += [[tree, -1, 0, 0, 0], [tree, -1, 0, 0, 0]]
            level = below
    tree, feature, split, left, missing = np.array(nodes).T
    return {
        "tree": tree.astype(np.int32), "feature": feature.astype(np.int32), "split": split.astype(np.int32),
        "left": left.astype(np.int32), "missing_left": missing.astype(np.uint8),
        "values": rng.random((len(nodes), outputs)) / outputs,
        "subsets": np.array(subsets, dtype=np.uint8).reshape(len(subsets), 1),
        "edges": np.concatenate(edges), "n_edges": np.array([len(one) for one in edges]),
        "levels": np.array(levels),
    }  # fmt: skip


def extreme_rows() -> list[dict[str, Any]]:
    """The rows of `encoded_model`, and ones of numbers as large and as small as floats are."""
    made = rows()
    for value in (1e300, -1e300, 1e-300, 1e18, -1e18):
        made.append({**made[5], "age": value, "income": abs(value), "bmi": value})
    made.append({**made[6], "age": 1e300, "income": 1e300, "bmi": -1e300})
    return made


def expected(model: Portable, given: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """What numpy predicts; (n,) or (n, classes). Of a network in double precision, which numpy itself rounds."""
    version = make_version({"kind": model.kind, **model.content}, _precise(model), model.encoding)
    return version.predict(np.array([slots(row, model.encoding.columns) for row in given]))


def _precise(model: Portable) -> Any:
    if model.kind != "network":
        return model.arrays
    # Weights beyond what a float32 could sum are summed in float64: units of which nothing comes have such.
    arrays = dict(model.arrays)
    return freeze(arrays)
