"""Which texts stand in a noisy sum of codewords, and how often.

What always holds: it is a function of the sum and of public numbers, and so post-processing of what was
released; a text is told only where its codeword stands out further than the best of all texts' would by
noise alone, each weighed by how likely it is to be a name at all.

A cell is read from left to right: of all beginnings the best BEAM are kept (Perry et al. 2012, section 4, the
"bubble decoder"). What is read is taken out by least squares, and the rest looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.codewords import CELLS, PARTS, SEED, SIGNS, Bytes, Part, advanced, codewords
from heliosdb.domain.vector import Matrix, Vector

BEAM = 24
"""How many beginnings of a text are kept."""

FALSE_NAME = 1e-4
"""How likely a whole table without a text has one read from it, were all names as likely as `_PRIOR` says."""

MARGIN = 7.0
"""By how much, as a logarithm of odds, the best text of a cell has to be likelier than the next one: names
that begin alike have codewords that do."""

_SEVERAL = 12
"""Texts that are looked for in one cell."""

_AT_ONCE = 32
_LEAST = 5.0
"""Nothing fainter, in standard deviations, is looked for."""

_END = 0.15
"""How likely a text is to end, where it may."""


def _prior(first: bool) -> Vector:
    """The logarithm of how likely each byte is in a name, of the first one and of others; never 0, so that
    there is no name that cannot be read. It changes how many subjects a name needs, not what a name costs."""
    classes = {
        "abcdefghijklmnopqrstuvwxyz": 0.40 if first else 0.66,
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ": 0.34 if first else 0.10,
        "0123456789": 0.18 if first else 0.10,
        " -_.,/": 0.01 if first else 0.08,
    }
    likely = np.full(256, 0.001 / 256)
    likely[32:127] += 0.009 / 95
    likely[128:] += 0.05 / 128
    for letters, share in classes.items():
        likely[list(letters.encode())] += share / len(letters)
    likely[0] = 0.0
    with np.errstate(divide="ignore"):
        logarithms: Vector = np.log(likely / likely.sum())
    return logarithms


_PRIOR = {True: _prior(True), False: _prior(False)}


@dataclass(frozen=True, slots=True)
class Read:
    """A text, about how many subjects' rows it is of, and the standard error of that."""

    text: str
    count: float
    error: float


@dataclass(slots=True)
class _Cell:
    """What is left of a cell, in units of the noise, and what was found in it. values: (places, SIGNS)."""

    values: Matrix
    part: Part
    left: Matrix
    texts: list[bytes] = field(default_factory=list)
    counts: Vector = field(default_factory=lambda: np.empty(0))
    errors: Vector = field(default_factory=lambda: np.empty(0))

    @property
    def energy(self) -> float:
        return float(np.square(self.left).sum())

    @property
    def strength(self) -> float:
        """About how strong what is left of signals is."""
        return math.sqrt(max(self.energy - self.part.values, _LEAST**2))

    def take_out(self, text: bytes) -> None:
        """Estimate all texts of the cell anew, by least squares."""
        self.texts.append(text)
        words = codewords(self.texts, self.part)[1].astype(np.float64) / math.sqrt(self.part.values)
        inverse = np.linalg.pinv(words @ words.T)
        self.counts = inverse @ (words @ self.values.ravel())
        self.left = self.values - (self.counts @ words).reshape(self.values.shape)
        around = max(1.0, self.energy / self.part.values)
        self.errors = np.sqrt(np.diag(inverse) * around)


def read_texts(total: Vector, deviation: float, tables: int = 1) -> list[Read]:
    """Return the texts of a table, those of most subjects first; (codewords.SIZE,).

    deviation: of the noise in every value. tables: how many are read together.
    """
    allowed = _allowed(tables)
    found = [
        one for part in PARTS for one in _read_part(total[part.start : part.stop], deviation, part, allowed)
    ]
    return sorted(found, key=lambda one: (-one.count, one.text.encode()))


def faintest(deviation: float, tables: int = 1, length: int = 8) -> float:
    """Return from about how many subjects on a text of so many letters is read, nine times in ten: twice
    what would do where every letter could be told for certain."""
    cost = -float(_PRIOR[False][ord("a")]) * length
    return 2.0 * deviation * math.sqrt(2.0 * (cost + _allowed(tables)))


def _allowed(tables: int) -> float:
    return math.log(CELLS * tables / FALSE_NAME)


def _read_part(total: Vector, deviation: float, part: Part, allowed: float) -> Iterator[Read]:
    shaped = total.reshape(part.cells, part.places, SIGNS) / deviation
    cells = [_Cell(values, part, values) for values in shaped]
    waiting = [cell for cell in cells if _may_hold(cell, allowed)]
    for _ in range(_SEVERAL):
        again = []
        for start in range(0, len(waiting), _AT_ONCE):
            some = waiting[start : start + _AT_ONCE]
            for cell, best in zip(some, _best(some, part), strict=True):
                around = max(1.0, (cell.energy - 2.0 * best.gain) / part.values)
                clear = best.gain / around >= best.cost + allowed and best.margin / around >= MARGIN
                if clear and _is_text(best.text, cell):
                    cell.take_out(best.text)
                    again.append(cell)
        waiting = [cell for cell in again if _may_hold(cell, allowed)]
    for cell in cells:
        for text, count, error in zip(cell.texts, cell.counts.tolist(), cell.errors.tolist(), strict=True):
            yield Read(text.decode(), count * deviation, error * deviation)


def _may_hold(cell: _Cell, allowed: float) -> bool:
    """Whether a cell has as much energy as its likeliest text would have, but for three deviations."""
    cheapest = -float(_PRIOR[False].max()) * cell.part.fewest
    needed, spread = 2.0 * (cheapest + allowed), math.sqrt(2.0 * cell.part.values)
    return cell.energy - cell.part.values > needed - 3.0 * math.hypot(spread, 2.0 * math.sqrt(needed))


def _is_text(raw: bytes, cell: _Cell) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return raw not in cell.texts


@dataclass(frozen=True, slots=True)
class _Best:
    """A cell's best text. gain: the logarithm of how much likelier the cell is with it; cost: of how
    unlikely such a name is. margin: by how much gain less cost is more than the next text's."""

    text: bytes
    gain: float
    cost: float
    margin: float


def _best(cells: list[_Cell], part: Part) -> list[_Best]:
    signals = np.stack([cell.left for cell in cells])
    weights = np.array([cell.strength for cell in cells])[:, None, None] / math.sqrt(part.values)
    states, ended = np.full((len(cells), 1), SEED), np.zeros((len(cells), 1), dtype=np.bool_)
    fits, costs = np.zeros((2, len(cells), 1))
    texts: Bytes = np.empty((len(cells), 1, 0), dtype=np.uint8)
    rows = np.arange(len(cells))[:, None]
    for place in range(part.places):
        low, high = _by_byte(signals[:, place])
        following = advanced(states[:, :, None], np.arange(256))
        here = rows[:, :, None]
        gained = (
            low[here, following & np.uint64(255)] + high[here, (following >> np.uint64(8)) & np.uint64(255)]
        )
        fit = fits[:, :, None] + gained
        cost = costs[:, :, None] - _byte_priors(ended, place, part)
        score = (weights * fit - cost).reshape(len(cells), -1)
        kept = _first(score, BEAM)
        beam, byte = kept >> 8, (kept & 255).astype(np.uint8)
        states = following.reshape(len(cells), -1)[rows, kept]
        fits, costs = fit.reshape(len(cells), -1)[rows, kept], cost.reshape(len(cells), -1)[rows, kept]
        ended = ended[rows, beam] | (byte == 0)
        texts = np.concatenate([texts[rows, beam], byte[:, :, None]], axis=2)
    gains = 0.5 * np.square(np.maximum(fits / math.sqrt(part.values), 0.0))
    return [_best_of(*one) for one in zip(texts, gains, costs, strict=True)]


def _best_of(texts: Bytes, gains: Vector, costs: Vector) -> _Best:
    first, second = np.argsort(costs - gains, kind="stable")[:2].tolist()
    gain, cost = float(gains[first]), float(costs[first])
    margin = gain - cost - float(gains[second] - costs[second])
    return _Best(texts[first].tobytes().rstrip(b"\0"), gain, cost, margin)


_SIGNS_OF_BYTES = ((np.arange(256)[:, None] >> np.arange(8)) & 1) * 2.0 - 1.0


def _by_byte(signals: Matrix) -> tuple[Matrix, Matrix]:
    """What each byte of eight signs would fit; (cells, SIGNS) → twice (cells, 256)."""
    return signals[:, :8] @ _SIGNS_OF_BYTES.T, signals[:, 8:] @ _SIGNS_OF_BYTES.T


def _byte_priors(ended: NDArray[np.bool_], place: int, part: Part) -> Matrix:
    """How likely each next byte of each beginning is; (cells, beginnings, 256)."""
    goes_on = _PRIOR[place == 0].copy()
    if place >= part.fewest:
        goes_on += math.log1p(-_END)
        goes_on[0] = math.log(_END)
    over = np.full(256, -np.inf)
    over[0] = 0.0
    found: Matrix = np.where(ended[:, :, None], over, goes_on)
    return found


def _first(score: Matrix, most: int) -> NDArray[np.int64]:
    if score.shape[1] <= most:
        return np.broadcast_to(np.arange(score.shape[1]), score.shape).copy()
    return np.argpartition(-score, most, axis=1)[:, :most]
