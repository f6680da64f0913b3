"""A node's side of a sum protocol: which message a task asks for, and what the protocol says in it.

What always holds: the messages of a sum are said in their order, each once, and after the last nothing of
them is kept; what a protocol keeps between them does not depend on the vector that it carries, and so on no
row; it sees nothing that a step keeps. So a message that carries no vector is a function of names of tasks,
the coordinator's notes and random numbers alone.

Why: in stages without a vector a protocol is given the task's key and note, and what it kept of the stage
before. In the stage that carries one it says what it keeps (`prepare`) before there is a vector, and before
anything is charged or read; the vector then goes through a function that gives back its answer alone. So
nothing else ever gets into its memory.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from heliosdb.aggregation.masked_sum import sums_in
from heliosdb.aggregation.sums import Shape, Stage, SumProtocol, protocol
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported, place_of
from heliosdb.domain.state import NO_STATE, State, freeze, state_to_bytes
from heliosdb.domain.task import Task
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.node.memory import Memory
from heliosdb.node.sum_terms import SumSite, check_group
from heliosdb.transport import limits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """What a protocol says in one stage. keeps: until the next; turn: which that is, empty after the last."""

    vector: AnyVector
    keeps: State
    turn: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """A message with the vector, but for the vector. hide: what the protocol makes of one; keeps, turn: as in
    `Said`."""

    task: Task
    hide: Callable[[Vector], AnyVector]
    keeps: State
    turn: bytes


@dataclass(frozen=True, slots=True)
class Before:
    """What an answer comes about from, beside rows. ready: of a sum that is not open."""

    memory: Memory
    ready: Ready | None = None


def is_open(task: Task) -> bool:
    """Whether the coordinator sees single vectors, as they are: then no protocol has a part in them."""
    return protocol(task.work.summing.protocol).is_open


def stage_of(task: Task) -> Stage:
    """The stage that a task asks for.

    FederatedError NOT_SUPPORTED for a protocol or stage that is not there, INVALID_VALUE for one out of its
    turn, PROGRAM_LIMIT for an answer that is larger than an update may be.
    """
    asked, work = task.work.summing, task.work
    stages = protocol(asked.protocol).stages
    place = task.key.exchange % len(stages)
    if asked.stage not in [stage.name for stage in stages]:
        raise not_supported(f'the sum protocol "{asked.protocol}" has no stage "{asked.stage}"')
    if stages[place].name != asked.stage:
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f'exchange {task.key.exchange} is no turn of stage "{asked.stage}" '
            f'of the sum protocol "{asked.protocol}"',
        )
    if asked.state_sha256 and (stages[place].carries or task.state):
        raise invalid_value("a message has its state, or is one without a vector and names that state")
    shape = shape_of(task)
    if max(shape.size * shape.dtype.itemsize, work.size * work.dtype.itemsize) > limits.MAX_VECTOR_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, "the answer is larger than an update may be")
    return stages[place]


def sums_of(task: Task) -> SumProtocol:
    """The sum protocol of a task, in the ring of its values; FederatedError NOT_SUPPORTED where there is
    none."""
    return sums_in(protocol(task.work.summing.protocol), task.work.summing)


def is_message(task: Task) -> bool:
    """Whether a task asks for a protocol's message without a vector; as `stage_of` where for none at all."""
    return not stage_of(task).carries


def shape_of(task: Task) -> Shape:
    """The shape of the answer as it travels."""
    asked, size = task.work.summing, task.work.size
    if is_open(task):
        return Shape(size, task.work.dtype)
    return sums_of(task).shape(asked.stage, size + 1, asked.nodes)


def say_message(task: Task, memory: Memory, site: SumSite) -> Said:
    """What the protocol says in a stage that carries no vector; FederatedError for what it cannot, and
    NODE_REFUSED for a group in which the site's DBA has it take no part."""
    asked = _Asked(task, site)
    before = asked.kept_before(memory)
    with _guarded(task):
        summing = task.work.summing
        answer, keeps = sums_of(task).answer(summing.stage, task.key, summing.note, before, site=asked)
        kept, turn = asked.keep(keeps)
    check_group(task, kept, site)
    return Said(_of_shape(task, answer), kept, turn)


def prepare(task: Task, memory: Memory, site: SumSite) -> Ready:
    """Everything of the message with the vector but the vector, whatever that will be; FederatedError where
    the protocol cannot carry one of the task's."""
    asked = _Asked(task, site)
    before = asked.kept_before(memory)
    with _guarded(task):
        sums, key, note = sums_of(task), task.key, task.work.summing.note
        found = sums.prepare(key, note, task.work.size + 1, before, site=asked)
        return Ready(task, found.hide, *asked.keep(found.keeps))


def carry(ready: Ready, vector: AnyVector, weight: float, *, weighted: bool) -> Said:
    """What the protocol says with a vector that may leave: (weight x values…, weight), or where the answers
    are not weighted (values…, weight); FederatedError where it cannot."""
    task = ready.task
    with np.errstate(over="ignore"):
        summand = np.append(vector.astype(np.float64) * (weight if weighted else 1.0), weight)
    if not np.isfinite(summand).all():
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "the computation gave values that are not finite")
    summand = _within(task, summand)
    _check_exact(task, summand)
    with _guarded(task):
        answer = ready.hide(summand)
    return Said(_of_shape(task, answer), ready.keeps, ready.turn)


def _within(task: Task, summand: Vector) -> Vector:
    """What the sum can hold; under a budget its nearest, since nothing may be refused for what rows say.

    FederatedError UPDATE_REJECTED for a plain value that is too large.
    """
    asked = task.work.summing
    most = sums_of(task).largest(summand.size, asked.nodes)
    if task.work.privacy is not None:
        return np.clip(summand, -most, most)
    if (np.abs(summand) > most).any():
        raise FederatedError(
            ErrorCode.UPDATE_REJECTED,
            f'a value is too large for the sum protocol "{asked.protocol}", which adds up to {most:g} here',
            hint="Scale the columns, or train without secure_aggregation.",
        )
    return summand


def _check_exact(task: Task, summand: Vector) -> None:
    """FederatedError INTERNAL where one word would round what has a share of the noise; refused beforehand
    for what the task asks (sum_terms.py)."""
    fraction = task.work.summing.fraction
    if task.work.privacy is None or fraction is None:
        return
    units = np.ldexp(summand, fraction)
    if (units != np.rint(units)).any():
        raise FederatedError(ErrorCode.INTERNAL, "the sum has too few bits for shares of the noise")


@contextmanager
def _guarded(task: Task) -> Iterator[None]:
    """The edge to a part: whatever it does not understand in a note or a vector is not told."""
    try:
        yield
    except FederatedError:
        raise
    except Exception as error:
        name, stage = task.work.summing.protocol, task.work.summing.stage
        log.error("the sum protocol %s failed in stage %s: %s", name, stage, place_of(error))
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol gave no answer") from error


def _of_shape(task: Task, answer: AnyVector) -> AnyVector:
    shape = shape_of(task)
    if answer.shape != (shape.size,) or answer.dtype.name != shape.dtype.value:
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol's answer is not of its stage's shape")
    return answer


def about(task: Task) -> bytes:
    """Names what all nodes of a sum have to be asked alike: all of a task but for whom it is, which of the
    node's datasets it reads, and which message it asks for. A message without the state names it by its
    hash."""
    work, asked = task.work, task.work.summing
    fewer = [one for one in (asked.rounding, asked.fraction) if one is not None]
    summing = (asked.protocol, asked.trust, *fewer)
    reading = replace(task.reading, dataset=None)
    # The text of frozen dataclasses of numbers and names is exact: floats are written to the last bit.
    settings = sorted(work.settings.items())
    what = (work.algorithm, work.size, str(work.dtype), work.privacy, settings, summing)
    text = repr((what, reading, task.scaling, task.budget, task.encoding, task.compliance_mode))
    told = asked.state_sha256 or hashlib.sha256(state_to_bytes(task.state)).digest()
    return hashlib.sha256(b"heliosdb sum of\0" + told + text.encode()).digest()


@dataclass(frozen=True)
class _Asked:
    """One message, and a site that signs for what it asks alone: nodes that were asked differently, for
    another step or other noise, know none of each other's signatures, and have no sum together."""

    task: Task
    site: SumSite

    @cached_property
    def about(self) -> bytes:
        """See `about`."""
        return about(self.task)

    @property
    def fingerprint(self) -> bytes:
        return self.site.fingerprint

    def sign(self, message: bytes) -> bytes:
        return self.site.sign(self.about + message)

    def knows(self, fingerprint: bytes, message: bytes, signature: bytes) -> bool:
        return self.site.knows(fingerprint, self.about + message, signature)

    def kept_before(self, memory: Memory) -> State:
        """What the protocol kept of the same sum's stage before; FederatedError NODE_REFUSED where that was
        not the last that it said, so that no stage is asked for twice, before its turn, or in two sums at
        once."""
        summing = self.task.work.summing
        if self._place == 0:
            return NO_STATE
        if memory.turn != self._turn(self._place):
            raise FederatedError(
                ErrorCode.NODE_REFUSED,
                f'stage "{summing.stage}" of the sum protocol "{summing.protocol}" '
                "does not follow what the node said last in this run",
            )
        return memory.protocol

    def keep(self, keeps: State) -> tuple[State, bytes]:
        """What is kept until which message; nothing after the last."""
        turn = self._turn(self._place + 1)
        return (freeze(keeps) if turn else NO_STATE), turn

    @property
    def _stages(self) -> int:
        return len(protocol(self.task.work.summing.protocol).stages)

    @property
    def _place(self) -> int:
        return self.task.key.exchange % self._stages

    def _turn(self, place: int) -> bytes:
        """Names the stage at `place` of the sum to which the task belongs; empty where there is none."""
        key, name, count = self.task.key, self.task.work.summing.protocol, self._stages
        if place >= count:
            return b""
        of_run = (key.round, key.exchange // count, str(key.step))
        return repr((*of_run, name, place, self.about.hex())).encode()
