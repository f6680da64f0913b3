"""A node's side of a sum protocol: which message a task asks for, and what the protocol says in it.

What always holds: the messages of a sum are said in their order, each once, and after the last nothing of
them is kept; what a protocol keeps between them does not depend on the vector that it carries, and so on no
row; it sees nothing that a step keeps. So a message that carries no vector is a function of names of tasks,
the coordinator's notes and random numbers alone.

Why: in stages without a vector a protocol is given the task's key and note, and what it kept of the stage
before. In the stage that carries one it keeps what it kept before, or else just what it would keep, bit for
bit, had the vector been zeros, or a single zero: so it draws what it has to remember in a stage without a
vector. Nothing else ever gets into its memory.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace

import numpy as np

from heliosdb.aggregation.masked_sum import in_ring
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
    rounding = task.work.summing.rounding
    return in_ring(protocol(task.work.summing.protocol), rounding)


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
    said = _ask(task, None, _kept_before(task, memory), site)
    check_group(task, said.keeps, site)
    return said


def rehearse(task: Task, memory: Memory, site: SumSite) -> None:
    """FederatedError where the protocol cannot carry a vector of the task's, whatever it holds.

    It is asked about one value: masks of all values are made once, with the vector.
    """
    if not is_open(task):
        _ask_about_zeros(_of_one_value(task), _kept_before(task, memory), site)


def carry(
    task: Task, vector: AnyVector, weight: float, memory: Memory, site: SumSite, *, weighted: bool
) -> Said:
    """What the protocol says with a vector that may leave: (weight x values…, weight), or where the answers
    are not weighted (values…, weight).

    FederatedError where it cannot, INTERNAL where it would keep something of the vector.
    """
    with np.errstate(over="ignore"):
        summand = np.append(vector.astype(np.float64) * (weight if weighted else 1.0), weight)
    if not np.isfinite(summand).all():
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "the computation gave values that are not finite")
    summand = _within(task, summand)
    before = _kept_before(task, memory)
    said = _ask(task, summand, before, site)
    if not _keeps_without(task, said.keeps, before, site):
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol would keep something of the vector")
    return said


def _keeps_without(task: Task, keeps: State, before: State, site: SumSite) -> bool:
    """Whether a protocol keeps what it would without the vector. Of one value first, which costs next to
    nothing; of all of them for a protocol that remembers how many there are."""
    if _equal(keeps, before):
        return True
    asked = (_of_one_value(task), task)
    return any(_equal(keeps, _ask_about_zeros(one, before, site).keeps) for one in asked)


def _of_one_value(task: Task) -> Task:
    """A task of the same sum whose vector is the weight alone."""
    return replace(task, work=replace(task.work, size=0))


def _ask_about_zeros(task: Task, before: State, site: SumSite) -> Said:
    return _ask(task, np.zeros(task.work.size + 1), before, site)


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


def _kept_before(task: Task, memory: Memory) -> State:
    """What the protocol kept of the same sum's stage before; FederatedError NODE_REFUSED where that was not
    the last that it said, so that no stage is asked for twice, before its turn, or in two sums at once."""
    place = task.key.exchange % len(protocol(task.work.summing.protocol).stages)
    if place == 0:
        return NO_STATE
    if memory.turn != _turn(task, place):
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            f'stage "{task.work.summing.stage}" of the sum protocol "{task.work.summing.protocol}" '
            "does not follow what the node said last in this run",
        )
    return memory.protocol


def _turn(task: Task, place: int) -> bytes:
    """Names the stage at `place` of the sum to which a task belongs; empty where there is no such stage."""
    key, name = task.key, task.work.summing.protocol
    count = len(protocol(name).stages)
    if place >= count:
        return b""
    return repr((key.round, key.exchange // count, str(key.step), name, place, about(task).hex())).encode()


def _ask(task: Task, vector: Vector | None, before: State, site: SumSite) -> Said:
    summing, asked = task.work.summing, sums_of(task)
    turn = _turn(task, task.key.exchange % len(asked.stages) + 1)
    try:
        bound = _SiteOfTask(site, about(task))
        answer, keeps = asked.answer(summing.stage, task.key, summing.note, vector, before, site=bound)
        keeps = freeze(keeps) if turn else NO_STATE
    except FederatedError:
        raise
    except Exception as error:
        # The edge to a part: whatever it does not understand in a note or a vector is not told.
        log.error("the sum protocol %s failed in stage %s: %s", asked.name, summing.stage, place_of(error))
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol gave no answer") from error
    shape = shape_of(task)
    if answer.shape != (shape.size,) or answer.dtype.name != shape.dtype.value:
        raise FederatedError(ErrorCode.INTERNAL, "the sum protocol's answer is not of its stage's shape")
    return Said(answer, keeps, turn)


def about(task: Task) -> bytes:
    """Names what all nodes of a sum have to be asked alike: all of a task but for whom it is, which of the
    node's datasets it reads, and which message it asks for. A message without the state names it by its
    hash."""
    work, asked = task.work, task.work.summing
    summing = (asked.protocol, asked.trust, *(() if asked.rounding is None else (asked.rounding,)))
    reading = replace(task.reading, dataset=None)
    # The text of frozen dataclasses of numbers and names is exact: floats are written to the last bit.
    settings = sorted(work.settings.items())
    what = (work.algorithm, work.size, str(work.dtype), work.privacy, settings, summing)
    text = repr((what, reading, task.scaling, task.budget, task.encoding, task.compliance_mode))
    told = asked.state_sha256 or hashlib.sha256(state_to_bytes(task.state)).digest()
    return hashlib.sha256(b"heliosdb sum of\0" + told + text.encode()).digest()


@dataclass(frozen=True, slots=True)
class _SiteOfTask:
    """A site that signs for one question alone: nodes that were asked differently, for another step or other
    noise, know none of each other's signatures, and have no sum together."""

    site: SumSite
    about: bytes

    @property
    def fingerprint(self) -> bytes:
        return self.site.fingerprint

    def sign(self, message: bytes) -> bytes:
        return self.site.sign(self.about + message)

    def knows(self, fingerprint: bytes, message: bytes, signature: bytes) -> bool:
        return self.site.knows(fingerprint, self.about + message, signature)


def _equal(one: State, other: State) -> bool:
    return state_to_bytes(one) == state_to_bytes(other)
