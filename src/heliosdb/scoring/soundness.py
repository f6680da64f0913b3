"""Whether the numbers of a version are such as its kind is scored by: for what another organisation made.

What always holds: what passes is scored without an error and comes to an end for every row, in memory that
its own size bounds; what does not raises FederatedError INVALID_VALUE, whatever it is.

A version that was trained here needs none of this: its algorithm made its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain import bounds
from heliosdb.domain.encoding import ColumnKind, Encoding, Form
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.settings import read_settings
from heliosdb.domain.state import State, part_of
from heliosdb.domain.transforms import HASHED
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.parts.images import check_image, made_of
from heliosdb.scoring.ballot import FEWEST
from heliosdb.scoring.fronts import count as count_numbers
from heliosdb.scoring.kinds import COMPUTING, LINKS
from heliosdb.scoring.network import HIDDEN, OUTPUT
from heliosdb.scoring.rows import count_slots, width_of
from heliosdb.scoring.series import MOST_AT_ONCE, read_body, read_front
from heliosdb.scoring.ways import are_between_levels

Content = Mapping[str, Any]

_STORED = frozenset({"kind", "classes", "encoding", "booleans"})
"""What the catalog adds to any kind's content."""

MOST_INPUTS: Final = 16_000
MOST_VOTERS: Final = 1_000
MOST_TABLE: Final = 2**28
"""Entries of the table by which rows find their way through trees: of each node that is split, one for each
bin of its input."""

MOST_BITS = 2**30
"""Bits of subsets, of which each condition of trees by a category is given its own."""

_TREES = {
    "tree": np.int32, "feature": np.int32, "split": np.int32, "left": np.int32, "missing_left": np.uint8,
    "values": np.float64, "subsets": np.uint8, "edges": np.float64, "n_edges": np.int64, "levels": np.int64,
}  # fmt: skip


def check_version(prediction: Content, arrays: State, encoding: Encoding) -> None:
    """Raise where a version could not be scored. prediction: as the catalog stores it, without encoding and
    booleans; arrays: what `state_from_bytes` read."""
    kind, link = prediction.get("kind", "linear"), prediction.get("link", "")
    models = len(prediction.get("voters", ())) if kind == "votes" else 1
    _require(models <= MOST_VOTERS, _VOTERS)
    count = _count_inputs(encoding, models)
    _require(isinstance(kind, str) and kind in _CHECKS, "there are no predictions of its kind")
    assert isinstance(kind, str)
    _require(link in LINKS, "there are no predictions of its link")
    # What it does not need could be of any size, and be looked through each time that one is asked.
    _require(set(prediction) <= _STORED | COMPUTING[kind], "it has more than a prediction has")
    labels = prediction.get("classes", ["0", "1"] if link == "logistic" else [])
    _require(
        isinstance(labels, list) and len(labels) <= models * bounds.CLASSES.most, "its classes are no labels"
    )
    classes = len(labels) if link in ("logistic", "softmax") else 0
    _require(classes >= 2 or link not in ("logistic", "softmax"), "it has fewer than two classes")
    _require(link != "logistic" or classes == 2, "it has more than two classes")
    for array in arrays.values():
        _require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), "a number in it is not finite")
    _CHECKS[kind](prediction, arrays, count, classes)


def find_fault(check: Callable[[], None]) -> str | None:
    """Return in one sentence what `check` finds; None where it finds nothing."""
    try:
        check()
    except FederatedError as error:
        return error.message
    # What is of another type or shape than all that was thought of is no prediction either.
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError) as error:
        return f"it does not hold together ({type(error).__name__})"
    return None


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise invalid_value(fault)


def _count_inputs(encoding: Encoding, models: int) -> int:
    """models: of how many, each with levels and classes of its own, the encoding has all. A bound of all that
    one of them could fill would let it forbid the version."""
    for column in encoding.columns:
        _require(isinstance(column.elements, int) and 1 <= column.elements <= MOST_INPUTS, _ENCODING)
        _require(bool(column.shape) or column.kind is not ColumnKind.IMAGE, _ENCODING)
        is_image = column.kind.is_several and _is_shape(column.shape, column.elements)
        _require(is_image or not column.shape, _ENCODING)
        _require(len(column.levels) <= models * 1_000 and len(column.edges) <= 1_000, _ENCODING)
        _require(all(isinstance(level, str) for level in column.levels), _ENCODING)
        _require(all(map(_is_number, column.edges)), _ENCODING)
        _require(list(column.edges) == sorted(set(column.edges)), _ENCODING)
        _require(column.form in get_args(Form), _ENCODING)
        _require((column.kind is ColumnKind.TEXT) == (column.form == "hashed"), _ENCODING)
        _require(column.form != "hashed" or HASHED.hold(column.elements), _ENCODING)
        _require(column.form != "hashed" or not column.missing_indicator, _ENCODING)
    _require(len(encoding.classes) <= models * bounds.CLASSES.most, "its classes are no labels")
    _require(all(isinstance(label, str) for label in encoding.classes), "its classes are no labels")
    count = sum(len(column.inputs) for column in encoding.columns)
    _require(0 < count <= MOST_INPUTS, f"it has more than {MOST_INPUTS} inputs, or none")
    return count


def _is_shape(shape: tuple[object, ...], elements: int) -> bool:
    numbers = [one for one in shape if isinstance(one, int) and one > 0]
    return len(numbers) == len(shape) == 3 and math.prod(numbers) == elements


_ENCODING = "the encoding of a feature is none that there is"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_numbers(content: Content, *names: str) -> None:
    for name in names:
        _require(_is_number(content.get(name)), f"its {name} is no number")


def _matrix(given: object, shape: tuple[int, ...], name: str) -> None:
    """Require lists of finite numbers of that shape."""
    _require(isinstance(given, list) and len(given) == shape[0], f"its {name} are not as many as its inputs")
    assert isinstance(given, list)
    for one in given:
        if len(shape) > 1:
            _matrix(one, shape[1:], name)
        else:
            _require(_is_number(one), f"its {name} are no numbers")


def _check_linear(content: Content, arrays: State, count: int, classes: int) -> None:
    _require(not arrays, "a linear prediction has no arrays")
    _require(content["link"] != "softmax", "there are no predictions of its link")
    for name in ("slopes", "fills", "shifts"):
        _matrix(content.get(name), (count,), name)
    _check_numbers(content, "intercept", "target_mean", "target_scale")
    del classes


def _check_softmax_linear(content: Content, arrays: State, count: int, classes: int) -> None:
    _require(not arrays, "a linear prediction has no arrays")
    _require(content["link"] == "softmax", "there are no predictions of its link")
    for name in ("fills", "shifts"):
        _matrix(content.get(name), (count,), name)
    _matrix(content.get("slopes"), (classes, count), "slopes")
    _matrix(content.get("intercepts"), (classes,), "intercepts")


def _check_network(content: Content, arrays: State, count: int, classes: int) -> None:
    activations = content.get("activations")
    _require(
        isinstance(activations, list) and bounds.LAYERS.hold(len(activations)),
        "it has no layers, or too many",
    )
    assert isinstance(activations, list)
    _require(all(one in HIDDEN for one in activations[:-1]), "an activation in it is none that there is")
    _require(activations[-1] in OUTPUT, "an activation in it is none that there is")
    if content["link"] in ("identity", "exp"):
        _check_numbers(content, "target_mean", "target_scale")
    expected: dict[str, tuple[int, ...]] = {"means": (count,), "scales": (count,)}
    before = count
    for place, _ in enumerate(activations):
        bias = arrays.get(f"bias_{place}")
        _require(bias is not None and bias.ndim == 1 and bounds.UNITS.hold(bias.size), _LAYERS)
        assert bias is not None
        expected |= {f"weight_{place}": (bias.size, before), f"bias_{place}": (bias.size,)}
        before = bias.size
    _require(before == (classes if content["link"] == "softmax" else 1), "its outputs are not its classes")
    _require(set(arrays) == set(expected), _LAYERS)
    for name, shape in expected.items():
        _require(arrays[name].shape == shape and arrays[name].dtype.kind == "f", _LAYERS)
    _require(bool((arrays["scales"] > 0).all()), "a scale in it is not above zero")


_LAYERS = "its layers do not fit each other"


def _check_convolution(content: Content, arrays: State, count: int, classes: int) -> None:
    """The blocks fit their image, and the layers what these make of it."""
    image, groups, activation = (content.get(name) for name in ("image", "groups", "activation"))
    _require(isinstance(image, list) and len(image) == 3 and all(map(_is_count, image)), _IMAGE)
    _require(_is_count(groups) and activation in HIDDEN, _IMAGE)
    assert isinstance(image, list) and isinstance(groups, int) and isinstance(activation, str)
    own = {name: value for name, value in arrays.items() if name.startswith(("kernel_", "gains_", "shifts_"))}
    blocks, before, kernel, channels = len(own) // 3, image[0], 0, list[int]()
    for place in range(blocks):
        weights = own.get(f"kernel_{place}")
        _require(weights is not None and weights.ndim == 4 and weights.dtype.kind == "f", _IMAGE)
        assert weights is not None
        kernel = kernel or weights.shape[2]
        _require(weights.shape == (len(weights), before, kernel, kernel), _IMAGE)
        before = len(weights)
        channels.append(before)
        for name in ("gains", "shifts"):
            numbers = own.get(f"{name}_{place}")
            _require(numbers is not None and numbers.shape == (before,) and numbers.dtype.kind == "f", _IMAGE)
    _require(len(own) == 3 * blocks, _IMAGE)
    settings = {"input_shape": image, "channels": channels, "kernel": kernel, "groups": groups}
    shape = check_image(read_settings(ConvolutionSettings, settings))
    pixels = math.prod(shape)
    _require(count >= pixels, _IMAGE)
    layers: dict[str, NDArray[Any]] = {name: array for name, array in arrays.items() if name not in own}
    joined = made_of(shape, tuple(channels)) + count - pixels
    _check_joined(content, layers, count, joined, classes=classes)


_IMAGE = "its blocks do not fit its image"


def _check_series(content: Content, arrays: State, count: int, classes: int) -> None:
    """Front and body fit each other and their numbers, and the layers what these make of a row."""
    front = read_front(content.get("front"))
    body = read_body(content.get("body"), front.width)
    _require(body.widest(front.length) <= MOST_AT_ONCE, "its series are too long for its network")
    _require(count >= front.inputs, "its series are more than its inputs")
    for name, one in (("front", front), ("body", body)):
        numbers = arrays.get(name)
        _require(numbers is not None and numbers.dtype.kind == "f", _LAYERS)
        assert numbers is not None
        _require(numbers.shape == (count_numbers(one.shapes),), _LAYERS)
    layers = {name: array for name, array in arrays.items() if name not in ("front", "body")}
    _check_joined(content, layers, count, body.made + count - front.inputs, classes=classes)


def _check_joined(
    content: Content, layers: Mapping[str, NDArray[Any]], count: int, joined: int, *, classes: int
) -> None:
    """Layers that see other numbers than the inputs, of which each has its scale all the same."""
    for name in ("means", "scales"):
        _require(name in layers and layers[name].shape == (count,), _LAYERS)
    _require(layers["means"].dtype.kind == layers["scales"].dtype.kind == "f", _LAYERS)
    _require(bool((layers["scales"] > 0).all()), "a scale in it is not above zero")
    scaled = {"means": np.zeros(joined), "scales": np.ones(joined)}
    _check_network(content, {**layers, **scaled}, joined, classes)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _check_trees(content: Content, arrays: State, count: int, classes: int) -> None:
    boosts = content.get("boosts")
    _require(isinstance(boosts, bool), "it does not say whether its trees are added up")
    _require(content["link"] != "exp", "there are no predictions of its link")
    if content["link"] == "identity":
        _check_numbers(content, "target_mean", "target_scale")
    expected = {*_TREES, "base"} if boosts else set(_TREES)
    # A version from before covers were kept has none.
    _require(set(arrays) - {"cover"} == expected, _ARRAYS)
    for name, kind in _TREES.items():
        _require(arrays[name].dtype == kind, _ARRAYS)
    scores = classes if classes > 2 or content["link"] == "softmax" else 1
    if boosts:
        _require(arrays["base"].shape == (scores,) and arrays["base"].dtype == np.float64, _ARRAYS)
    if "cover" in arrays:
        cover = arrays["cover"]
        _require(cover.dtype == np.float64 and cover.shape == arrays["tree"].shape, _ARRAYS)
        _require(bool(np.all((cover >= 0) & (cover < 2.0**53))), "a cover in it is no number of rows")
    _check_bins(arrays, count)
    _check_nodes(arrays, count, outputs=1 if boosts else max(1, classes - 1))


_ARRAYS = "its arrays are not those of trees"


def _check_bins(arrays: State, count: int) -> None:
    edges, counts, levels = arrays["edges"], arrays["n_edges"], arrays["levels"]
    _require(counts.shape == levels.shape == (count,), _ARRAYS)
    _require(bool(np.all((counts >= 0) & (counts < bounds.BINS.most + 1_000))), _ARRAYS)
    _require(bool(np.all((levels >= 0) & (levels <= 1_003))), _ARRAYS)
    _require(edges.shape == (int(counts.sum()),), _ARRAYS)
    _require(are_between_levels(edges, counts, levels), _ARRAYS)
    # Ascending within each input; where another begins, anything may follow.
    rises = np.diff(edges) > 0
    starts = np.cumsum(counts)[:-1]
    rises[starts[(starts > 0) & (starts < edges.size)] - 1] = True
    _require(bool(rises.all()), "the edges of its bins do not ascend")


def _check_nodes(arrays: State, count: int, outputs: int) -> None:
    tree, feature, left = arrays["tree"], arrays["feature"], arrays["left"]
    flat = (tree, feature, left, arrays["split"], arrays["missing_left"])
    size = tree.size
    _require(size > 0 and all(one.shape == (size,) for one in flat), _ARRAYS)
    _require(arrays["values"].shape == (size, outputs), _ARRAYS)
    _require(bool(np.all((feature >= -1) & (feature < count))), _ARRAYS)
    inner = np.flatnonzero(feature >= 0)
    widths = arrays["n_edges"] + 2
    _require(int(widths[feature[inner]].sum()) <= MOST_TABLE, "its trees are too large")
    _check_splits(arrays, inner)
    _check_ways(tree, inner, left.astype(np.int64))


def _check_splits(arrays: State, inner: NDArray[np.int64]) -> None:
    feature, split = arrays["feature"][inner], arrays["split"][inner].astype(np.int64)
    is_category = arrays["levels"][feature] > 0
    subsets = arrays["subsets"]
    widest = int(arrays["levels"].max(initial=0))
    # Growing gives missing values a bit too. Wider ones than that would be unpacked for nothing.
    _require(subsets.ndim == 2 and subsets.shape[1] <= -(-(widest + 1) // 8), _ARRAYS)
    _require(not is_category.any() or subsets.shape[1] * 8 >= widest, _ARRAYS)
    _require(int(is_category.sum()) * subsets.shape[1] * 8 <= MOST_BITS, "its trees are too large")
    # A number is split at one of its edges: beyond the last one nothing lies but what is missing.
    most = np.where(is_category, subsets.shape[0], arrays["n_edges"][feature])
    _require(bool(np.all((split >= 0) & (split < most))), "a split in it is none of its input's")
    _require(bool(np.all(arrays["missing_left"] <= 1)), _ARRAYS)


def _check_ways(tree: NDArray[Any], inner: NDArray[np.int64], lefts: NDArray[np.int64]) -> None:
    """Every node is reached once, from the first of its own tree, in no more steps than a tree is deep."""
    left = lefts[inner]
    _require(bool(np.all((left > inner) & (left + 1 < tree.size))), _WAYS)
    _require(bool(np.all((tree[left] == tree[inner]) & (tree[left + 1] == tree[inner]))), _WAYS)
    numbers, roots = np.unique(tree, return_index=True)
    _require(numbers.size <= bounds.TREES.most and numbers[0] >= 0, _WAYS)
    reached = np.concatenate([roots, left, left + 1])
    _require(reached.size == tree.size and np.unique(reached).size == tree.size, _WAYS)
    is_inner = np.zeros(tree.size, dtype=np.bool_)
    is_inner[inner] = True
    level = roots.astype(np.int64)
    for _ in range(int(bounds.DEPTH.most) + 1):
        below = lefts[level[is_inner[level]]]
        level = np.concatenate([below, below + 1])
    _require(level.size == 0, _WAYS)


def _check_votes(content: Content, arrays: State, count: int, classes: int) -> None:
    """Every model is sound by itself, and knows only classes and levels that there are."""
    voters = content.get("voters")
    _require(isinstance(voters, list) and FEWEST <= len(voters) <= MOST_VOTERS, _VOTERS)
    assert isinstance(voters, list)
    _require(content.get("votes") == len(voters) and content.get("labels") == classes, _VOTERS)
    margin = content.get("margin")
    _require(type(margin) is int and abs(margin) <= MOST_VOTERS, _VOTERS)
    _require(content["link"] in ("logistic", "softmax"), "there are no predictions of its link")
    owners = {str(number) for number in range(len(voters))}
    _require(all(name.partition("/")[0] in owners for name in arrays), "an array in it is no model's")
    for number, voter in enumerate(voters):
        _check_voter(voter, part_of(arrays, str(number)), count, classes)


def _check_voter(voter: Content, arrays: State, count: int, classes: int) -> None:
    places, levels = voter["places"], voter["levels"]
    _require(_are_places(places, classes) and len(places) >= 2, "a model in it votes for no class")
    encoding = Encoding.from_json(voter["encoding"])
    own = {name: value for name, value in voter.items() if name not in ("places", "levels", "encoding")}
    _require(own.get("kind") != "votes", _VOTERS)
    check_version({**own, "classes": [str(place) for place in range(len(places))]}, arrays, encoding)
    _require(isinstance(levels, list) and len(levels) == count == count_slots(encoding), _VOTERS)
    kinds = [column for column in encoding.columns for _ in range(width_of(column))]
    for column, known in zip(kinds, levels, strict=True):
        is_category = column.kind is ColumnKind.CATEGORY
        _require(known is None or is_category, _VOTERS)
        _require(
            known is None or _are_places([one for one in known if one is not None], len(column.level_names)),
            _VOTERS,
        )


def _are_places(given: object, below: int) -> bool:
    """Whether these are places in a list of that length."""
    return isinstance(given, list) and all(type(one) is int and 0 <= one < below for one in given)


_VOTERS = "its models are none that can vote"

_WAYS = "a way through its trees does not end, or not as one does"

_CHECKS: Final[Mapping[str, Callable[[Content, State, int, int], None]]] = {
    "linear": _check_linear,
    "softmax_linear": _check_softmax_linear,
    "network": _check_network,
    "convolution": _check_convolution,
    "series": _check_series,
    "trees": _check_trees,
    "votes": _check_votes,
}
