"""How many other nodes each node of a large secure sum shares its seeds with, and how many of these open one.

What always holds: up to COMPLETE nodes everybody shares with everybody; beyond that each node draws `drawn`
others by itself, once the group is fixed, and `needed` of these open its seeds. Both follow from the number
of nodes alone, so that nobody is told them.

Bell, Bonawitz, Gascón, Lepoint, Raykova 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic
Overhead", section 4, where a coordinator does not keep to the protocol. In the words of that paper: each node
draws its own neighbours, since a graph on which the coordinator has a say, or one of a known form, is cut
where it likes; whoever is drawn masks as well.

Why a sum is of all honest survivors, or there is none. n nodes, of which c (fewer than a third, and no more
than the threshold of the group withstands) work with the coordinator, whoever they are was settled before
anybody draws. All honest nodes that tell shares have signed one list of senders and of survivors
(aggregation/secure_consistency.py): say these are in view. Let an honest node have drawn k, of which b work
with the coordinator. Then

1. its own mask opens only where needed - b honest ones that it drew, all in view, told shares; each has its
   box and is a survivor, so that the two mask towards each other and neither key opens;
2. a node that masked for another list of senders had `needed` of those that it drew on that list, and so
   `needed - b` honest ones. These and those that told are both among k - b, and have one in common where
   b < 2 needed - k;
3. the nodes in view fall into two parts without a mask between them only where there is a set X of them, no
   more than half, each of which has drawn `needed` or more of X and of those that work with the coordinator,
   by 1.

`exposure` is the sum of the probabilities of 2 failing for any node and of 3 for any X, by hypergeometric
tails (the union over all X takes care that lists are made after the coordinator has seen who drew whom). It
is of one sum, and of one that is begun and never ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from heliosdb.domain.vector import Vector

COMPLETE = 200
"""Up to so many nodes each shares with each."""

EXPOSURE, FAILURE = -60.0, -20.0
"""At most 2^EXPOSURE a sum: that the coordinator learns more than one sum of all honest survivors. It sees
who drew whom before a vector is sent, and may begin another sum instead: a million of them leave 2^-40. At
most 2^FAILURE: that a sum does not open where no more than LOST of its nodes are lost, by chance."""

LOST = 0.1
"""Of the nodes that stated keys."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """drawn: with how many others a node shares its seeds. needed: how many of them open one."""

    drawn: int
    needed: int


def most_curious(nodes: int) -> int:
    """How many of so many nodes at most work with the coordinator: fewer than a third."""
    return -(-nodes // 3) - 1


@lru_cache(maxsize=64)
def neighbourhood(nodes: int) -> Neighbourhood | None:
    """The fewest that do; None where everybody shares with everybody."""
    if nodes <= COMPLETE:
        return None
    needed, lost = 0, math.floor(LOST * nodes)
    for drawn in range(1, nodes):
        # Of more that are drawn no fewer may be needed.
        while needed < drawn and failure(nodes, Neighbourhood(drawn, needed + 1), lost) <= FAILURE:
            needed += 1
        found = Neighbourhood(drawn, needed)
        # The first is the largest of all terms but by a little, and quickly known.
        if _unseen(nodes, found) <= EXPOSURE and exposure(nodes, found) <= EXPOSURE:
            return found
    return None


def exposure(nodes: int, asked: Neighbourhood) -> float:
    """log2 of the bound on the probability that a sum is not of all honest survivors; see the module."""
    terms, curious = [_unseen(nodes, asked)], most_curious(nodes)
    for size in range(1, nodes // 2 + 1):
        others = min(curious, nodes - 2 * size) + size - 1
        each = log2_tail(nodes - 1, others, asked.drawn, asked.needed)
        terms.append(_log2_choose(nodes, size) + size * each)
    return _log2_sum(np.array(terms))


def _unseen(nodes: int, asked: Neighbourhood) -> float:
    """Of 2, at any node."""
    least = 2 * asked.needed - asked.drawn
    return math.log2(nodes) + log2_tail(nodes - 1, most_curious(nodes), asked.drawn, least)


def failure(nodes: int, asked: Neighbourhood, lost: int) -> float:
    """log2 of the bound on the probability that a sum does not open where so many are lost by chance."""
    above = asked.drawn - asked.needed + 1
    return math.log2(nodes) + log2_tail(nodes - 1, lost, asked.drawn, above)


def log2_tail(others: int, marked: int, drawn: int, least: int) -> float:
    """log2 of the probability that of `drawn` out of so many others, without putting back, at least so many
    are among the marked ones (hypergeometric)."""
    first, last = max(least, drawn - (others - marked), 0), min(drawn, marked)
    if least <= max(drawn - (others - marked), 0):
        return 0.0
    if first > last:
        return -math.inf
    table, hits = _log2_factorials(others + 1), np.arange(first, last + 1)

    def choose(of: int, counts: np.ndarray) -> Vector:
        found: Vector = table[of] - table[counts] - table[of - counts]
        return found

    logs = choose(marked, hits) + choose(others - marked, drawn - hits)
    return min(0.0, _log2_sum(logs) - _log2_choose(others, drawn))


def _log2_choose(of: int, count: int) -> float:
    table = _log2_factorials(of + 1)
    return float(table[of] - table[count] - table[of - count])


def _log2_sum(logs: Vector) -> float:
    most = float(logs.max())
    return most if math.isinf(most) else most + math.log2(float(np.exp2(logs - most).sum()))


@lru_cache(maxsize=4)
def _log2_factorials(count: int) -> Vector:
    """Of 0 to count - 1."""
    found: Vector = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, count)))])
    return found
