"""Whether a contribution is what its task asks for, and what noise it gets: the door's word on what may
leave.

What always holds: a private answer has the guard, the sensitivity, the weight and the size that its task
says, as this node's own code reads it, and keeps nothing; what is not finite never leaves; nothing here reads
a row or a ledger.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from heliosdb.algorithms.steps import ClipsSums, adds_own_noise
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import Task
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AlreadyPrivate, AnyVector, ClippedSum, Contribution, Dtype, Plain
from heliosdb.node.policy import asked_mechanism, find_step, public_weight
from heliosdb.node.summing import is_message
from heliosdb.privacy.mechanisms import add_noise
from heliosdb.privacy.shares import add_share
from heliosdb.transport import limits


def check_contribution(task: Task, contribution: Contribution) -> None:
    """FederatedError where a contribution is not what its task asks for; what may not leave is never
    sealed."""
    if is_message(task):
        raise FederatedError(ErrorCode.INTERNAL, "the task asks for a message that carries no vector")
    check_guard(task, contribution)
    check_size(task, contribution)


def check_guard(task: Task, contribution: Contribution) -> None:
    """FederatedError INTERNAL where a contribution is not guarded as its task asks."""
    asked = asked_mechanism(task)
    match contribution.guard:
        case Plain():
            guarded = None
        case ClippedSum(sensitivity, mechanism):
            guarded = mechanism
            if asked is not None and sensitivity != sensitivity_of(task):
                raise FederatedError(ErrorCode.INTERNAL, "the answer's sensitivity is not that of its task")
            # In a smaller type one subject more or less moves a sum by its rounding, too; the noise's lattice
            # is for float64. What travels in a smaller type is made narrow after the noise.
            if contribution.vector.dtype != np.float64:
                raise FederatedError(ErrorCode.INTERNAL, "a sum that is to get noise is of float64")
        case AlreadyPrivate(mechanism):
            guarded = mechanism
            if not adds_own_noise(find_step(task)):
                raise FederatedError(ErrorCode.INTERNAL, "the answer's noise is the door's to add")
    if guarded != asked:
        raise FederatedError(ErrorCode.INTERNAL, "the answer is not guarded as the task asks")
    # A private answer's weight is no release of its own: it may only say what the coordinator knows already.
    if asked is not None and contribution.weight != public_weight(task):
        raise FederatedError(ErrorCode.INTERNAL, "the answer's weight is not covered by its guard")
    # What is kept of rows could be in a later answer, which no one subject's clipping would bound.
    keeps = contribution.stays is not None or contribution.personal is not None
    if asked is not None and keeps:
        raise FederatedError(ErrorCode.INTERNAL, "a private answer keeps nothing")


def sensitivity_of(task: Task) -> float:
    """The norm of what one subject adds to the answer of a private task, as this node's own step has it:
    nothing of it is the training process's word. FederatedError INTERNAL where the noise is not the door's to
    add."""
    step = find_step(task)
    if not isinstance(step, ClipsSums):
        raise FederatedError(ErrorCode.INTERNAL, "the answer's noise is not the door's to add")
    return step.sensitivity(task)


def make_private(contribution: Contribution, share: Fraction | None = None) -> AnyVector:
    """The vector as it may leave: with noise where it is a clipped sum. share: which part of the variance is
    this node's to add, 0 where the coordinator adds it; None: all of it. FederatedError INTERNAL where there
    is no noise to share."""
    if share is not None:
        if not isinstance(contribution.guard, ClippedSum):
            raise FederatedError(ErrorCode.INTERNAL, "the answer is no sum of which others add noise too")
        guard = contribution.guard
        return add_share(contribution.vector, guard.sensitivity, guard.mechanism.noise_multiplier, share)
    match contribution.guard:
        case ClippedSum(sensitivity, mechanism):
            multiplier, noise = mechanism.noise_multiplier, mechanism.noise
            return add_noise(contribution.vector, sensitivity, multiplier, noise=noise)
        case Plain() | AlreadyPrivate():
            return contribution.vector


def told_usage(task: Task, contribution: Contribution) -> Usage | None:
    """What the coordinator is told about the computation's time and memory: both follow the rows, so under a
    budget nothing."""
    return contribution.usage if task.budget is None else None


def check_size(task: Task, contribution: Contribution) -> None:
    """FederatedError where a contribution is not a vector of its task's size and type, finite, with a
    positive weight, or is too large."""
    vector, weight, asked = contribution.vector, contribution.weight, task.work
    if vector.nbytes > limits.MAX_VECTOR_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the answer is larger than an update may be")
    real = vector.dtype.kind == "f"
    fits = vector.dtype.name == asked.dtype.value or (real and asked.dtype.is_real)
    if vector.shape != (asked.size,) or not fits:
        raise FederatedError(
            ErrorCode.INTERNAL, "the answer is not of the size and type that its task asks for"
        )
    finite = math.isfinite(weight) and (not real or bool(np.isfinite(vector).all()))
    if not finite or weight <= 0:
        raise not_finite()
    if contribution.usage is not None and not contribution.usage.is_plausible():
        raise FederatedError(ErrorCode.INTERNAL, "the computation's time and memory cannot be")


def cast_real(vector: AnyVector, dtype: Dtype) -> AnyVector:
    """The vector in the type in which it travels; FederatedError UPDATE_REJECTED where that cannot hold
    it."""
    with np.errstate(over="ignore"):
        made = vector.astype(dtype.value, copy=False)
    if dtype.is_real and not np.isfinite(made).all():
        raise not_finite()
    return made


def not_finite() -> FederatedError:
    """The error for numbers that are none."""
    return FederatedError(ErrorCode.UPDATE_REJECTED, "the computation gave values that are not finite")
