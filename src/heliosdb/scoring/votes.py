"""Predictions by vote: each group's model names a class, and a class has the share of the votes for it.

What always holds: how one model votes depends on its own numbers and the row alone, never on another model
or on what another one knows of levels and classes; so whoever changes one model changes one vote. Votes are
whole, and a share times their number is their count, but for rounding.

A row comes as slots (scoring/rows.py): of a category the index among all levels that any of the models knows.
Each model takes it as its own encoding has it. Source: Cao, Zhang, Jia and Gong 2022, "FLCert: Provably
Secure Federated Learning Against Poisoning Attacks", section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.encoding import Encoding
from heliosdb.domain.state import State, part_of
from heliosdb.scoring import kinds
from heliosdb.scoring.kinds import Rows, Scored
from heliosdb.scoring.rows import Encoder

Ballots = NDArray[np.intp]
"""(n,), of each row the place of the class that a model votes for."""

Counts = NDArray[np.int64]
"""(n, classes), of each row how many models vote for each class."""


def score(content: Mapping[str, Any], arrays: State, inputs: Rows) -> NDArray[np.float64]:
    """Score rows of slots; (n,) the share of the second class, with link softmax (n, classes).

    content: link; labels, how many classes there are; voters, one for each model: what its prediction stores,
    with `encoding`, `levels` (of each column None, or the place of each level among its own, None where it
    knows none) and `places` (of each of its classes among all). arrays: of each model under its number.
    """
    return prepare(content, arrays)(inputs)


def prepare(content: Mapping[str, Any], arrays: State) -> Scored:
    """Return what scores rows, with every model's numbers in place."""
    counted, voters, is_binary = (
        prepare_counts(content, arrays),
        content["votes"],
        content["link"] == "logistic",
    )

    def scored(inputs: Rows) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = counted(inputs) / float(voters)
        return np.ascontiguousarray(shares[:, 1]) if is_binary else shares

    return scored


def prepare_counts(content: Mapping[str, Any], arrays: State) -> Callable[[Rows], Counts]:
    """Return what counts the votes of rows, with every model's numbers in place."""
    voters = [_voter(one, part_of(arrays, str(number))) for number, one in enumerate(content["voters"])]
    classes = content["labels"]

    def counted(inputs: Rows) -> Counts:
        counts = np.zeros((len(inputs), classes), dtype=np.int64)
        rows = np.arange(len(inputs))
        for vote in voters:
            counts[rows, vote(inputs)] += 1
        return counts

    return counted


def winners(counts: Counts) -> NDArray[np.int64]:
    """Return the class that each row is predicted to be, (n,): of equal ones the first."""
    found: NDArray[np.int64] = counts.argmax(axis=1)
    return found


def certified(counts: Counts, margin: int) -> NDArray[np.int64]:
    """Return how many hostile nodes cannot have changed the prediction of each row, (n,); sql/voting.sql has
    the same of one row. margin: of the version, see scoring/ballot.py."""
    rows, places, first = np.arange(len(counts)), np.arange(counts.shape[1]), winners(counts)
    ahead = counts[rows, first][:, np.newaxis] - counts - (places < first[:, np.newaxis])
    ahead[rows, first] = np.iinfo(np.int64).max
    found: NDArray[np.int64] = np.clip(ahead.min(axis=1) // 2, 0, max(margin, 0))
    return found


def _voter(model: Mapping[str, Any], arrays: State) -> Callable[[Rows], Ballots]:
    scored = kinds.prepare(model["kind"], model, arrays)
    encoder = Encoder(Encoding.from_json(model["encoding"]))
    tables = _tables(model["levels"])
    places = np.array(model["places"], dtype=np.intp)

    def vote(inputs: Rows) -> Ballots:
        slots = inputs.copy()
        for column, table in tables.items():
            slots[:, column] = _renumbered(inputs[:, column], table)
        found = scored(encoder.encode(slots))
        chosen = found.argmax(axis=1) if found.ndim == 2 else (found > 0.5).astype(np.intp)
        return np.asarray(places[chosen])

    return vote


def _tables(levels: Sequence[Sequence[int | None] | None]) -> dict[int, NDArray[np.float64]]:
    """Of each slot that is a category's the numbers of its levels at the model, the last for none."""
    return {
        slot: np.array([*(np.nan if place is None else place for place in known), np.nan], dtype=np.float64)
        for slot, known in enumerate(levels)
        if known is not None
    }


def _renumbered(column: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    last = len(table) - 1
    known = (column >= 0) & (column < last)
    return np.asarray(table[np.where(known, column, last).astype(np.intp)])
