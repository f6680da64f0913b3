"""A node's side of a sum protocol: which message a task asks for, and what the protocol says in it.

What always holds: what a protocol keeps does not depend on the vector that it carries, and so on no row; it
sees nothing that a step keeps. So a message that carries no vector is a function of the coordinator's
notes, names of tasks and random numbers alone.

Why: in stages without a vector a protocol is given the task's key and note, and what it kept before. In the
stage that carries one it keeps what it kept before, or else just what it would keep, bit for bit, had the
vector been zeros: so it draws what it has to remember in a stage without a vector. Nothing else ever gets
into its memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from heliosdb.aggregation.sums import Shape, Stage, SumProtocol, protocol
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import PLAIN_SUM, Task
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.node.memory import Memory, equal
from heliosdb.transport import limits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """What a protocol says in one stage, and what it keeps until the next."""

    vector: AnyVector
    keeps: State


def is_open(task: Task) -> bool:
    """Whether the coordinator sees single vectors, as they are: then no protocol has a part in them."""
    return task.work.summing.protocol == PLAIN_SUM.protocol


def stage_of(task: Task) -> Stage:
    """The stage that a task asks for.

    FederatedError NOT_SUPPORTED for a protocol or stage that is not there, INVALID_VALUE for one out of its
    turn, PROGRAM_LIMIT for an answer that is larger than an update may be.
    """
    asked = task.work.summing
    stages = protocol(asked.protocol).stages
    places = [place for place, stage in enumerate(stages) if stage.name == asked.stage]
    if not places:
        raise not_supported(f'the sum protocol "{asked.protocol}" has no stage "{asked.stage}"')
    if task.key.exchange % len(stages) != places[0]:
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f'exchange {task.key.exchange} is no turn of stage "{asked.stage}" '
            f'of the sum protocol "{asked.protocol}"',
        )
    shape = shape_of(task)
    if (
        max(shape.size * shape.dtype.itemsize, task.work.size * task.work.dtype.itemsize)
        > limits.MAX_VECTOR_BYTES
    ):
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the answer is larger than an update may be")
    return stages[places[0]]


def is_message(task: Task) -> bool:
    """Whether a task asks for a protocol's message without a vector; as `stage_of` for one that asks for
    none."""
    return not stage_of(task).carries


def shape_of(task: Task) -> Shape:
    """The shape of the answer as it travels."""
    asked, size = task.work.summing, task.work.size
    if is_open(task):
        return Shape(size, task.work.dtype)
    return protocol(asked.protocol).shape(asked.stage, size + 1, asked.nodes)


def say_message(task: Task, memory: Memory) -> Said:
    """What the protocol says in a stage that carries no vector; FederatedError for what it cannot."""
    return _ask(protocol(task.work.summing.protocol), task, None, memory)


def rehearse(task: Task, memory: Memory) -> None:
    """FederatedError where the protocol cannot carry a vector of the task's, whatever it holds."""
    if not is_open(task):
        _carry(task, np.zeros(task.work.size + 1), memory)


def carry(task: Task, vector: AnyVector, weight: float, memory: Memory, *, weighted: bool) -> Said:
    """What the protocol says with a vector that may leave: (weight x values…, weight), or where the answers
    are not weighted (values…, weight).

    FederatedError where it cannot, INTERNAL where it would keep something of the vector.
    """
    with np.errstate(over="ignore"):
        summand = np.append(vector.astype(np.float64) * (weight if weighted else 1.0), weight)
    if not np.isfinite(summand).all():
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "the computation gave values that are not finite")
    said = _carry(task, summand, memory)
    if not equal(said.keeps, memory.protocol):
        without = _carry(task, np.zeros(task.work.size + 1), memory)
        if not equal(said.keeps, without.keeps):
            raise FederatedError(ErrorCode.INTERNAL, "the sum protocol would keep something of the vector")
    return said


def _carry(task: Task, vector: Vector, memory: Memory) -> Said:
    return _ask(protocol(task.work.summing.protocol), task, vector, memory)


def _ask(asked: SumProtocol, task: Task, vector: Vector | None, memory: Memory) -> Said:
    summing = task.work.summing
    try:
        answer, keeps = asked.answer(summing.stage, task.key, summing.note, vector, memory.protocol)
        keeps = freeze(keeps)
    except FederatedError:
        raise
    except Exception as error:
        # The edge to a part: whatever it does not understand in a note or a vector is no answer, and is not
        # told.
        log.exception("the sum protocol %s failed in stage %s", asked.name, summing.stage)
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol gave no answer") from error
    shape = shape_of(task)
    if answer.shape != (shape.size,) or answer.dtype.name != shape.dtype.value:
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol's answer is not of its stage's shape")
    return Said(answer, keeps)
