"""Explanations in a session of the server: a row as slots becomes what its features contribute.

What always holds: an explainer is made of a version that the session keeps, and forgotten with it; a failure
is told as JSON, for federated._raise.
"""

from __future__ import annotations

import json

import numpy as np

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.scoring.sampled_shapley import Orders
from heliosdb.scoring.session import Version, find_version, read_array
from heliosdb.scoring.shapley import SAMPLED, Explainer, players_of, prepare_explanation

MOST_COST = 500_000_000
"""Numbers that are reckoned for one row: some seconds, in which the server cannot cancel it."""

_explainers: dict[str, tuple[Version, Explainer]] = {}
"""By the version's key, of versions that the session keeps; the version as it was then."""

Answer = tuple[str | None, list[list[float]] | None]


def explain_row(key: str, slots: bytes, samples: int | None, seed: int | None) -> Answer:
    """Return a failure, or for each output of the version the base value and each feature's contribution,
    (outputs, 1 + features); twice None where the version is not kept. slots: the bytes of an array.
    """
    version = find_version(key)
    if version is None:
        return None, None
    try:
        explain, orders = _explainer(key, version), _read_orders(version, samples, seed)
        found = explain(version.encoder.encode(read_array(slots)[None]), orders)
    except FederatedError as error:
        told = {"message": error.message, "detail": error.detail, "hint": error.hint}
        return json.dumps({"sqlstate": error.sqlstate, **told}), None
    return None, np.column_stack([found.base, found.contributions[0]]).tolist()


def _explainer(key: str, version: Version) -> Explainer:
    made = _explainers.get(key)
    if made is None or made[0] is not version:
        for other in [one for one in _explainers if find_version(one) is None]:
            del _explainers[other]
        numbers = version.numbers
        players = players_of(numbers.encoding)
        explain = prepare_explanation(numbers.kind, numbers.content, numbers.arrays, players)
        if explain.cost is not None and explain.cost > MOST_COST:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                "the version is too large to be explained",
                detail=f"A row of it takes {explain.cost} numbers; at most {MOST_COST} are reckoned.",
                hint="Versions of fewer or less deep trees are explained: options trees and max_depth.",
            )
        made = version, explain
        _explainers[key] = made
    return made[1]


def _read_orders(version: Version, samples: int | None, seed: int | None) -> Orders | None:
    if version.numbers.kind in SAMPLED:
        return Orders(samples, 0 if seed is None else seed)
    if samples is not None or seed is not None:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            "samples and seed are of networks alone: what explains this version is exact",
            hint="Leave them out.",
        )
    return None
