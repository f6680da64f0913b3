"""What the coordinator asks and makes of a hidden sum: how its updates are rounded, which message has the
state, and whether what was opened can be a sum of updates.

What always holds: what is told of rounding follows from the run's options and round 0 alone, and is the same
in every message of a sum; a sum that its nodes' updates cannot lead to is FederatedError UPDATE_REJECTED.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

from heliosdb.aggregation.masked_sum import lattice_of
from heliosdb.aggregation.updates import check_opened, rejected
from heliosdb.algorithms.steps import Asked, Step
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.state import NO_STATE, state_to_bytes
from heliosdb.domain.task import Rounding, Summing, TaskKey, Work
from heliosdb.domain.vector import Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.ring import FRACTIONS, LEAST_RANGE, MOST_WIDE
from heliosdb.privacy.shares import shared_fraction


def rounding_of(plan: RunPlan, step: Step) -> Rounding | None:
    """Return how a step's hidden answers are rounded; None where they are not."""
    options, rows = plan.run.options, plan.findings.rows
    if not options.rounds_hidden or step.gathers != "rule":
        return None
    bits, most = options.sending.bits, options.max_update_norm
    if bits is None or most is None or rows is None:
        raise FederatedError(ErrorCode.INTERNAL, "updates are to be rounded, and their range is not known")
    # Of how much all nodes weigh together each is told no more than it has to know.
    return Rounding(bits, most, 2.0 ** math.ceil(math.log2(max(rows, 1.0))))


def in_fewer_bits(plan: RunPlan, step: Step, work: Work, sensitivity: Callable[[], float]) -> Summing:
    """Return how a step's hidden answers are added up: rounded where the run's options say so, in one word
    each where that holds them, or as any value is. sensitivity: of a private answer."""
    summing, rounding = work.summing, rounding_of(plan, step)
    if rounding is not None:
        return replace(summing, rounding=rounding)
    if step.gathers != "rule" or work.size < MOST_WIDE:
        return summing
    if work.privacy is None:
        return replace(summing, fraction=_fraction_for(plan.findings.rows, summing.nodes))
    if summing.trust == "local" or work.privacy.weight != 1.0:
        return summing
    multiplier = work.privacy.mechanism.noise_multiplier
    return replace(summing, fraction=shared_fraction(sensitivity(), multiplier, work.size, summing.nodes))


_LARGEST_MEAN = 16
"""Bits before the point of a hidden update's values where they are added up in 64 bits: 65,536."""


def _fraction_for(rows: float | None, nodes: int) -> int | None:
    """Return how many bits behind the point updates times weights have in one word; None: it has no room.

    rows: of all nodes; None: not known. Each of n nodes may have all of them, and an update of the largest
    values: a sum of so many does not wrap around, and the mean is off by less than n (n + 1) 2^-46 a value:
    2e-10 of a hundred nodes at worst; where the nodes of the sum have one k-th of all rows, by k times that.
    Of fewer than 2^14 rows it is off by 2^14 / rows as much, since no node takes part in less than
    `LEAST_RANGE`.
    """
    if rows is None:
        return None
    before = max(_LARGEST_MEAN + math.ceil(math.log2(max(rows, 1.0))), math.ceil(math.log2(LEAST_RANGE)))
    bits = 63 - before - math.ceil(math.log2(nodes + 1))
    return min(bits, FRACTIONS[-1]) if bits >= FRACTIONS[0] else None


def read_total(work: Work, total: Vector, nodes: int, key: TaskKey) -> tuple[Vector, float]:
    """Return the sum of the updates of so many nodes, each times its weight, and of the weights.

    total: what the protocol opened. key: of any task of the sum.
    """
    rounding = work.summing.rounding
    if rounding is None:
        check_opened(float(total[-1]), nodes, None if work.privacy is None else work.privacy.weight)
        return total[:-1], float(total[-1])
    found = lattice_of(rounding, total.size - 1, key).decode(total)
    if found is None:
        raise rejected(
            f"The sum of {counted(nodes, 'hidden update')} is longer than they may be together: one of them"
            " is false, or whoever added them up has not added them all."
        )
    return found


_LEFT_OUT = 1 << 16
"""Bytes of a state from which on the messages of a sum that carry no vector go without it."""


def without_state(asked: Asked) -> Asked:
    """Leave a large state out of a message that is answered without it; its hash binds the sum to it."""
    if sum(array.nbytes for array in asked.state.values()) < _LEFT_OUT:
        return asked
    told = hashlib.sha256(state_to_bytes(asked.state)).digest()
    summing = replace(asked.work.summing, state_sha256=told)
    return replace(asked, work=replace(asked.work, summing=summing), state=NO_STATE)
