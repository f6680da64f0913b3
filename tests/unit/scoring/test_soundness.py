"""What another organisation made is scored only if it is sound: what is not, is said, and nothing hangs or crashes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.state import NO_STATE, freeze, state_to_bytes
from heliosdb.scoring import soundness
from heliosdb.scoring.session import find_fault, make_version
from tests.unit.scoring.test_trees import INPUTS, LEVELS, make

ENCODING = Encoding((ColumnEncoding("a"), ColumnEncoding("v", ColumnKind.ARRAY, elements=2)))
FOREST = Encoding(
    (
        *(ColumnEncoding(name) for name in "abc"),
        ColumnEncoding("d", ColumnKind.CATEGORY, "index", levels=tuple("ABCDEFGHI")),
    )
)
LINEAR: dict[str, Any] = {
    "kind": "linear", "link": "identity", "slopes": [1.0, 10.0, 100.0], "fills": [5.0, 6.0, 7.0], "shifts": [0.0] * 3,
    "intercept": 0.0, "target_mean": 0.0, "target_scale": 1.0,
}  # fmt: skip
SOFTMAX: dict[str, Any] = {
    "kind": "softmax_linear", "link": "softmax", "classes": ["a", "b", "c"], "slopes": [[0.0] * 3] * 3,
    "fills": [0.0] * 3, "shifts": [0.0] * 3, "intercepts": [0.0, 0.0, 0.0],
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "kind": "network", "link": "identity", "activations": ["relu", "linear"], "target_mean": 0.0, "target_scale": 1.0,
}  # fmt: skip
LAYERS = {
    "means": np.zeros(3), "scales": np.ones(3), "weight_0": np.ones((2, 3), np.float32), "bias_0": np.zeros(2),
    "weight_1": np.ones((1, 2)), "bias_1": np.zeros(1),
}  # fmt: skip
TREES: dict[str, Any] = {
    "kind": "trees", "link": "identity", "boosts": False, "target_mean": 0.0, "target_scale": 1.0,
}  # fmt: skip


def grown() -> dict[str, Any]:
    """Trees whose ways are whole."""
    arrays = make(3, 4, 1, boosts=False)
    return {
        **arrays,
        "n_edges": arrays["n_edges"].astype(np.int64),
        "levels": arrays["levels"].astype(np.int64),
    }


def fault(
    prediction: dict[str, Any], arrays: dict[str, Any] | None = None, encoding: Encoding = ENCODING
) -> str | None:
    raw = None if arrays is None else state_to_bytes(freeze(arrays))
    return find_fault(json.dumps(prediction), raw, json.dumps(encoding.to_json()))


def test_what_is_sound_is_scored() -> None:
    assert len(FOREST.inputs) == INPUTS
    assert len(FOREST.columns[3].levels) == LEVELS
    for prediction, arrays, encoding in (
        (LINEAR, None, ENCODING), (SOFTMAX, None, ENCODING), (NETWORK, LAYERS, ENCODING), (TREES, grown(), FOREST),
    ):  # fmt: skip
        assert fault(prediction, arrays, encoding) is None
        state = NO_STATE if arrays is None else freeze(arrays)
        version = make_version(prediction, state, encoding)
        assert np.isfinite(version.predict(np.full((200, version.width), math.nan))).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "nonsense"}, {"kind": 1}, {"link": "softmax"}, {"link": None}, {"slopes": [1.0]}, {"slopes": ["1", "2", "3"]},
        {"slopes": [True, 1, 1]}, {"slopes": 3}, {"fills": [[1.0], [1.0], [1.0]]}, {"intercept": "0"}, {"intercept": None},
        {"link": "logistic", "classes": ["a", "b", "c"]}, {"link": "logistic", "classes": "ab"},
    ],
)  # fmt: skip
def test_a_linear_prediction_of_something_else_is_none(changed: dict[str, Any]) -> None:
    assert fault({**LINEAR, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"weight_0": np.ones((2, 4))}, {"bias_0": np.zeros((2, 1))}, {"scales": np.zeros(3)}, {"means": np.zeros(2)},
        {"more": np.zeros(2)}, {"weight_1": np.ones((2, 2)), "bias_1": np.zeros(2)}, {"bias_1": np.zeros(1, np.int64)},
    ],
)  # fmt: skip
def test_a_network_whose_layers_do_not_fit_is_none(changed: dict[str, Any]) -> None:
    assert fault(NETWORK, {**LAYERS, **changed})
    assert fault({**NETWORK, "activations": ["relu"] * 65}, LAYERS)
    assert fault({**NETWORK, "activations": ["exec", "linear"]}, LAYERS)


@pytest.mark.parametrize(
    "more",
    [{"junk": 1}, {"boosts": [[]]}, {"activations": ["x"]}, {"intercepts": [0.0] * 3000}, {"coefficients": []}],
)  # fmt: skip
def test_what_a_prediction_does_not_need_is_not_carried_along(more: dict[str, Any]) -> None:
    assert fault({**LINEAR, **more}) == "it has more than a prediction has"


def _set(name: str, value: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = value(arrays[name].copy())

    return change


def _put(place: int, value: float) -> Callable[[Any], Any]:
    def put(array: Any) -> Any:
        array[place] = value
        return array

    return put


@pytest.mark.parametrize(
    "change",
    [
        _set("left", _put(0, 0)), _set("left", _put(0, 10**6)), _set("left", _put(0, -1)), _set("tree", _put(1, 2)),
        _set("feature", _put(0, 99)), _set("feature", _put(0, -2)), _set("split", _put(0, -1)), _set("split", _put(0, 10**6)),
        _set("missing_left", _put(0, 2)), _set("n_edges", _put(0, 9)), _set("n_edges", _put(0, -1)), _set("levels", _put(0, 3)),
        _set("edges", _put(0, 1e9)), _set("values", lambda a: a[:-1]), _set("values", lambda a: np.hstack([a, a])),
        _set("subsets", lambda a: a[:, :1]), _set("subsets", lambda a: a[:0]), _set("tree", lambda a: a.astype(np.int64)),
        # Of each condition its bits are unpacked: as many as no category has levels would be more than there is memory.
        _set("subsets", lambda a: np.pad(a, ((0, 0), (0, 1)))),
    ],
)  # fmt: skip
def test_trees_whose_ways_are_not_whole_are_none(change: Callable[[dict[str, Any]], None]) -> None:
    arrays = grown()
    change(arrays)
    assert fault(TREES, arrays, FOREST)


def test_a_number_is_split_at_an_edge_and_levels_have_a_bin_each() -> None:
    """Rows that go by their bins and rows that go as bits part where a number is split beyond its last edge, or a
    category's edges are none of its levels'."""
    arrays = grown()
    number = int(np.flatnonzero((arrays["feature"] >= 0) & (arrays["levels"][arrays["feature"]] == 0))[0])
    edges = int(arrays["n_edges"][arrays["feature"][number]])
    for split, sound in ((edges - 1, True), (edges, False), (edges + 1, False)):
        arrays["split"][number] = split
        assert (fault(TREES, arrays, FOREST) is None) == sound
    for moved in (-0.25, 0.25):
        changed = grown()
        changed["edges"][-1] += moved
        assert fault(TREES, changed, FOREST)


def test_trees_whose_subsets_unpack_to_too_much_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = grown()
    inner = arrays["feature"][arrays["feature"] >= 0]
    bits = int((arrays["levels"][inner] > 0).sum()) * arrays["subsets"].shape[1] * 8
    monkeypatch.setattr(soundness, "MOST_BITS", bits)
    assert fault(TREES, arrays, FOREST) is None
    monkeypatch.setattr(soundness, "MOST_BITS", bits - 1)
    assert fault(TREES, arrays, FOREST) == "its trees are too large"


def test_whole_numbers_that_no_integer_of_numpy_holds_are_floats() -> None:
    prediction = {**LINEAR, "link": "logistic", "slopes": [10**300] * 3, "fills": [10**30] * 3}
    assert fault(prediction) is None
    version = make_version(prediction, NO_STATE, ENCODING)
    assert np.isfinite(version.predict(np.full((2, version.width), math.nan))).all()


@given(st.data())
def test_whatever_is_changed_in_trees_is_found_or_scored(data: st.DataObject) -> None:
    arrays = grown()
    name = data.draw(
        st.sampled_from(["tree", "feature", "split", "left", "n_edges", "levels", "missing_left", "edges"])
    )
    array = arrays[name] = arrays[name].copy()
    for place in data.draw(st.lists(st.integers(0, array.size - 1), min_size=1, max_size=3)):
        array[place] = data.draw(st.integers(0 if array.dtype == np.uint8 else -3, 255))
    if fault(TREES, arrays, FOREST) is None:
        version = make_version(TREES, freeze(arrays), FOREST)
        slots = np.random.default_rng(0).normal(size=(100, version.width))
        found = version.predict(slots)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, [version.predict(row[None])[0] for row in slots])


@pytest.mark.parametrize(
    "column",
    [
        {"elements": 10**9, "kind": "array"}, {"elements": "3", "kind": "array"}, {"form": "exec"}, {"kind": "exec"},
        {"form": "bins", "edges": [2.0, 1.0]}, {"form": "bins", "edges": ["1"]}, {"unheard": 1}, {"levels": [1], "kind": "category"},
        {"form": "indicators", "kind": "category", "levels": [str(one) for one in range(1001)]},
    ],
)  # fmt: skip
def test_an_encoding_of_something_else_is_none(column: dict[str, Any]) -> None:
    encoding = json.loads(json.dumps(ENCODING.to_json()))
    encoding["columns"][0] |= column
    assert find_fault(json.dumps(LINEAR), None, json.dumps(encoding))
