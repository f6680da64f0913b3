"""A version as other formats are made of it: typed, and of sound numbers.

What always holds: it passed `soundness.check_version`, so that sizes are bounded, every number is finite and
every way through its trees ends; an encoding is there also where each feature is one input.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.state import NO_STATE, State, state_from_bytes
from heliosdb.exchange.document import Document
from heliosdb.scoring import soundness

MOST_FEATURES_INLINED: Final = 99
MOST_TERMS_INLINED: Final = 1000
"""As in federated._is_expression (sql/columns.sql)."""


@dataclass(frozen=True, slots=True)
class Portable:
    """How a version predicts.

    kind, content, arrays: as `scoring.kinds` has them. classes: labels, () where a number is predicted.
    origin: what the file says of where it is from.
    """

    name: str
    version: int
    algorithm: str
    target: str | None
    kind: str
    link: str
    content: Mapping[str, Any]
    arrays: State
    encoding: Encoding
    classes: tuple[str, ...]
    content_sha256: str
    origin: Mapping[str, Any]
    card: Mapping[str, Any] | None

    @property
    def title(self) -> str:
        """The model and its version, as comments name them."""
        return f"{self.name}@{self.version}"

    @property
    def has_many_classes(self) -> bool:
        """Whether it predicts the probabilities of classes, and not one number."""
        return self.link == "softmax"

    @property
    def is_inlined(self) -> bool:
        """Whether the catalog computes it by an expression, to which an infinite value is one, and is not
        missing as it is for numpy."""
        if (
            self.kind not in ("linear", "softmax_linear")
            or len(self.encoding.columns) > MOST_FEATURES_INLINED
        ):
            return False
        scores = len(self.content["intercepts"]) if self.kind == "softmax_linear" else 1
        return len(self.encoding.inputs) * scores <= MOST_TERMS_INLINED


def read_portable(document: Document) -> Portable:
    """Return the version of a document; FederatedError INVALID_VALUE where its numbers do not hold
    together, NOT_SUPPORTED for one that no other format can say."""
    found: list[Portable] = []
    fault = soundness.find_fault(lambda: found.append(_read(document)))
    if fault is not None:
        raise invalid_value("this version cannot be exported so", detail=f"Its numbers: {fault}.")
    if found[0].kind == "votes":
        raise not_supported(
            "a prediction by vote leaves as JSON alone",
            detail="Each of its models takes a row by an encoding of its own.",
            hint="Give --format json.",
        )
    worded = next((one.column for one in found[0].encoding.columns if one.kind is ColumnKind.TEXT), None)
    if worded is not None:
        raise not_supported(
            f'a model that reads the words of "{worded}" leaves as JSON alone',
            detail="No other format says how words become numbers.",
            hint="Give --format json.",
        )
    return found[0]


def _read(document: Document) -> Portable:
    prediction = json.loads(document["prediction"])
    features = tuple(document["features"])
    encoding = _encoding(features, prediction)
    arrays = (
        NO_STATE if not document.get("arrays") else state_from_bytes(base64.b64decode(document["arrays"]))
    )
    content = {name: value for name, value in prediction.items() if name not in ("encoding", "booleans")}
    soundness.check_version(content, arrays, encoding)
    link, contract = content["link"], document["contract"]
    labels = tuple(content.get("classes", ("0", "1") if link == "logistic" else ()))
    return Portable(
        document["model"], document["version"], contract["algorithm"], contract.get("target"),
        content.get("kind", "linear"), link, content, arrays, encoding,
        labels if link in ("logistic", "softmax") else (), document["content_sha256"], document["origin"],
        document.get("card"),
    )  # fmt: skip


def _encoding(features: Sequence[str], prediction: Mapping[str, Any]) -> Encoding:
    if "encoding" in prediction:
        return Encoding.from_json(prediction["encoding"])
    flags = prediction.get("booleans") or [False] * len(features)
    kinds = [ColumnKind.BOOLEAN if flag else ColumnKind.NUMBER for flag in flags]
    return Encoding(tuple(map(ColumnEncoding, features, kinds)))


@dataclass(frozen=True, slots=True)
class LinearTerms:
    """Scores that are sums over inputs, divided so that none overflows.

    intercepts: (scores,). slopes: (scores, inputs). fills, shifts: (inputs,). divisor: a power of two, by
    which intercepts and slopes were divided; what is clamped to ±bound / divisor and multiplied by it is the
    score.
    """

    intercepts: NDArray[np.float64]
    slopes: NDArray[np.float64]
    fills: NDArray[np.float64]
    shifts: NDArray[np.float64]
    divisor: float
    bound: float = 700.0


def linear_terms(model: Portable) -> LinearTerms:
    """Return the scores of a linear prediction: as federated._render_linear divides them
    (sql/rendering.sql)."""
    content = model.content
    slopes = np.atleast_2d(np.array(content["slopes"], dtype=np.float64))
    fills, shifts = (np.array(content[name], dtype=np.float64) for name in ("fills", "shifts"))
    intercepts = np.atleast_1d(
        np.array(content.get("intercepts", content.get("intercept")), dtype=np.float64)
    )
    divisor = 1.0
    if model.link != "identity":
        most = float(np.minimum(np.abs(slopes), 1e30).max(initial=0.0))
        divisor = 2.0 ** math.ceil(math.log2(max(1.0, (slopes.shape[1] + 1) * most / 2.0)))
    slopes = np.where(np.abs(slopes) < 1e-290 * divisor, 0.0, slopes / divisor)
    return LinearTerms(intercepts / divisor, slopes, fills, shifts, divisor)


def level_place(column: ColumnEncoding) -> tuple[float | None, float | None]:
    """Return the index of NULL among a category's levels, and that of every other text; None: missing."""
    named = len(column.levels)
    absent = float(named) if column.null_level else None
    other = float(named + column.null_level) if column.other_level else None
    return absent, other


def threshold(trees: State, node: int) -> float:
    """The largest number that goes left."""
    place = int(trees["feature"][node])
    start = int(trees["n_edges"][:place].sum())
    return float(trees["edges"][start + int(trees["split"][node])])


def levels_left(trees: State, node: int) -> list[int]:
    """The indices of a category's levels that go left."""
    levels = int(trees["levels"][int(trees["feature"][node])])
    bits = np.unpackbits(trees["subsets"][int(trees["split"][node])])[:levels]
    return [int(level) for level in np.flatnonzero(bits)]
