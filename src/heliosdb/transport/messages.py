"""Domain objects to protobuf and back: protobuf is known here and in the two ends of the wire, nowhere else.

What always holds: `*_from_proto` returns a complete, range-checked object or raises FederatedError
INVALID_VALUE (or NOT_SUPPORTED for a field that this version does not know); encoding is deterministic, so
that the same task has the same header bytes in every life of the coordinator.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.handshake import DatasetDescription, Greeting, Introduction
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.task import (
    EvaluateWork,
    PrivateTraining,
    Reading,
    Scaling,
    StatisticsWork,
    Step,
    Task,
    TaskKey,
    TrainWork,
    Work,
)
from heliosdb.domain.vector import Vector, vector_from_bytes, vector_to_bytes
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits

_M = TypeVar("_M", bound=Message)
_MAX_COUNT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TaskHeader:
    """A task as it arrived, without its vector: what is announced, and the raw bytes that were signed."""

    task: Task
    length: int
    parameters_sha256: bytes
    sealing_key: bytes
    raw: bytes

    @property
    def task_sha256(self) -> bytes:
        """Decides what the same task is: the header and, through its hash in there, the vector."""
        return task_sha256(self.raw)


@dataclass(frozen=True, slots=True)
class UpdateHeader:
    """What is said in the clear about a sealed update; nothing in it is computed from rows."""

    key: TaskKey
    task_sha256: bytes
    length: int
    ephemeral_key: bytes
    payload_bytes: int
    payload_sha256: bytes
    mechanism: Mechanism | None
    spending: Spending | None


@dataclass(frozen=True, slots=True)
class SealedUpdate:
    """A release as it travels and is stored: header, the signature over it, the sealed payload."""

    header: bytes
    signature: bytes
    payload: bytes


def encode_task(task: Task, sealing_key: bytes) -> tuple[bytes, bytes]:
    """Header bytes and vector bytes of a task; FederatedError PROGRAM_LIMIT where one is too large."""
    vector = vector_to_bytes(task.parameters)
    header = pb.TaskHeader(
        key=key_to_proto(task.key),
        reading=_reading_to_proto(task.reading),
        parameters=pb.VectorDescription(
            dtype=pb.DTYPE_FLOAT64_LE, shape=[len(task.parameters)], sha256=hashlib.sha256(vector).digest()
        ),
        budget=None
        if task.budget is None
        else pb.Budget(epsilon=task.budget.epsilon, delta=task.budget.delta),
        sealing_key=sealing_key,
    )
    match task.work:
        case StatisticsWork():
            header.statistics.CopyFrom(_statistics_to_proto(task.work))
        case TrainWork():
            header.train.CopyFrom(_train_to_proto(task.work))
        case EvaluateWork():
            header.evaluate.CopyFrom(_evaluate_to_proto(task.work))
    raw = header.SerializeToString(deterministic=True)
    if len(raw) > limits.MAX_HEADER_BYTES or len(vector) > limits.MAX_VECTOR_BYTES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, "the task is larger than a message between nodes may be"
        )
    return raw, vector


def task_sha256(header: bytes) -> bytes:
    """The hash that names a task: of its header bytes, which hold the hash of its vector."""
    return hashlib.sha256(b"heliosdb task v1\0" + header).digest()


def task_from_header(raw: bytes) -> TaskHeader:
    """Decode and check a task header; the task's parameters are empty until `with_parameters`."""
    if len(raw) > limits.MAX_HEADER_BYTES:
        raise invalid_value("the task's header is too large")
    header = parse(pb.TaskHeader, raw)
    length = _length(header.parameters.dtype, header.parameters.shape)
    _require(len(header.parameters.sha256) == 32, "the parameters have no SHA-256")
    _require(len(header.sealing_key) == 32, "the sealing key is not an X25519 public key")
    key, reading, work = (
        key_from_proto(header.key),
        _reading_from_proto(header.reading),
        _work_from_proto(header),
    )
    _require(_step_of(work) is key.step, "the work is not of the announced step")
    if not isinstance(work, StatisticsWork):
        inputs = len(work.scaling.means)
        _require(
            inputs == len(work.scaling.scales) == len(reading.features),
            "scaling and features differ in length",
        )
    task = Task(
        key=key,
        reading=reading,
        work=work,
        parameters=vector_from_bytes(b""),
        budget=_budget_from_proto(header.budget) if header.HasField("budget") else None,
    )
    return TaskHeader(task, length, bytes(header.parameters.sha256), bytes(header.sealing_key), raw)


def with_parameters(task: Task, parameters: Vector) -> Task:
    """The task with its vector."""
    return Task(task.key, task.reading, task.work, parameters, task.budget)


def key_to_proto(key: TaskKey) -> pb.TaskKey:
    """A task key for the wire."""
    return pb.TaskKey(
        workspace=key.workspace, run=key.run.bytes, round=key.round, step=key.step.value, node=key.node
    )


def key_from_proto(key: pb.TaskKey) -> TaskKey:
    """A task key from the wire."""
    _require(len(key.run) == 16, "the run id is not a UUID")
    _require(key.round < 2**31, "the round number is out of range")
    try:
        step = Step(key.step)
    except ValueError as error:
        raise not_supported("the task is of a kind that this node does not know") from error
    return TaskKey(
        WorkspaceName(_name(key.workspace)),
        RunId(UUID(bytes=bytes(key.run))),
        RoundNumber(key.round),
        step,
        NodeName(_name(key.node)),
    )


def _reading_to_proto(reading: Reading) -> pb.Reading:
    return pb.Reading(
        dataset=reading.dataset,
        features=reading.features,
        target=reading.target,
        validation_split=reading.validation_split,
    )


def _reading_from_proto(reading: pb.Reading) -> Reading:
    _require(0 < len(reading.features) <= limits.MAX_COLUMNS, "the number of features is out of range")
    _require(0.0 <= reading.validation_split < 1.0, "validation_split is not in [0, 1)")
    return Reading(
        dataset=_name(reading.dataset) if reading.HasField("dataset") else None,
        features=tuple(_name(feature) for feature in reading.features),
        target=_name(reading.target),
        validation_split=reading.validation_split,
    )


def _statistics_to_proto(work: StatisticsWork) -> pb.StatisticsWork:
    ranges = None
    if work.ranges is not None:
        ranges = pb.Ranges(ranges=[pb.Range(lower=lower, upper=upper) for lower, upper in work.ranges])
    return pb.StatisticsWork(algorithm=work.algorithm, noise_multiplier=work.noise_multiplier, ranges=ranges)


def _train_to_proto(work: TrainWork) -> pb.TrainWork:
    privacy = None
    if work.privacy is not None:
        privacy = pb.PrivateTraining(
            noise_multiplier=work.privacy.noise_multiplier,
            clipping_norm=work.privacy.clipping_norm,
            sampling_rate=work.privacy.sampling_rate,
            steps=work.privacy.steps,
            expected_subjects=work.privacy.expected_subjects,
        )
    return pb.TrainWork(
        algorithm=work.algorithm,
        scaling=_scaling_to_proto(work.scaling),
        local_epochs=work.local_epochs,
        batch_size=work.batch_size,
        learning_rate=work.learning_rate,
        seed=work.seed,
        privacy=privacy,
    )


def _evaluate_to_proto(work: EvaluateWork) -> pb.EvaluateWork:
    return pb.EvaluateWork(
        algorithm=work.algorithm,
        scaling=_scaling_to_proto(work.scaling),
        noise_multiplier=work.noise_multiplier,
    )


def _scaling_to_proto(scaling: Scaling) -> pb.Scaling:
    return pb.Scaling(
        means=scaling.means,
        scales=scaling.scales,
        target_mean=scaling.target_mean,
        target_scale=scaling.target_scale,
    )


def _work_from_proto(header: pb.TaskHeader) -> Work:
    match header.WhichOneof("work"):
        case "statistics":
            return _statistics_from_proto(header.statistics)
        case "train":
            return _train_from_proto(header.train)
        case "evaluate":
            return EvaluateWork(
                _name(header.evaluate.algorithm),
                _scaling_from_proto(header.evaluate.scaling),
                _noise(header.evaluate),
            )
        case _:
            raise invalid_value("the task holds no work")


def _statistics_from_proto(work: pb.StatisticsWork) -> StatisticsWork:
    ranges = None
    if work.HasField("ranges"):
        ranges = tuple((_finite(r.lower), _finite(r.upper)) for r in work.ranges.ranges)
        _require(all(lower < upper for lower, upper in ranges), "a range is empty")
        _require(len(ranges) <= limits.MAX_COLUMNS + 1, "there are too many ranges")
    return StatisticsWork(_name(work.algorithm), _noise(work), ranges)


def _train_from_proto(work: pb.TrainWork) -> TrainWork:
    privacy = None
    if work.HasField("privacy"):
        given = work.privacy
        _require(0.0 < given.sampling_rate <= 1.0, "the sampling rate is not in (0, 1]")
        privacy = PrivateTraining(
            noise_multiplier=_positive(given.noise_multiplier),
            clipping_norm=_positive(given.clipping_norm),
            sampling_rate=given.sampling_rate,
            steps=_count(given.steps),
            expected_subjects=_positive(given.expected_subjects),
        )
    return TrainWork(
        algorithm=_name(work.algorithm),
        scaling=_scaling_from_proto(work.scaling),
        local_epochs=_count(work.local_epochs),
        batch_size=_count(work.batch_size),
        learning_rate=_positive(work.learning_rate),
        seed=work.seed,
        privacy=privacy,
    )


def _scaling_from_proto(scaling: pb.Scaling) -> Scaling:
    _require(len(scaling.means) <= limits.MAX_COLUMNS, "the scaling is too long")
    return Scaling(
        means=tuple(_finite(mean) for mean in scaling.means),
        scales=tuple(_positive(scale) for scale in scaling.scales),
        target_mean=_finite(scaling.target_mean),
        target_scale=_positive(scaling.target_scale),
    )


def _budget_from_proto(budget: pb.Budget) -> Budget:
    _require(0.0 < budget.delta < 1.0, "delta is not in (0, 1)")
    return Budget(_positive(budget.epsilon), budget.delta)


def _step_of(work: Work) -> Step:
    match work:
        case StatisticsWork():
            return Step.STATISTICS
        case TrainWork():
            return Step.TRAIN
        case EvaluateWork():
            return Step.EVALUATE


def encode_update_header(header: UpdateHeader) -> bytes:
    """The header bytes of an update, to be signed."""
    return pb.UpdateHeader(
        key=key_to_proto(header.key),
        task_sha256=header.task_sha256,
        dtype=pb.DTYPE_FLOAT64_LE,
        shape=[header.length],
        ephemeral_key=header.ephemeral_key,
        payload_bytes=header.payload_bytes,
        payload_sha256=header.payload_sha256,
        mechanism=None if header.mechanism is None else _mechanism_to_proto(header.mechanism),
        spending=None if header.spending is None else _spending_to_proto(header.spending),
    ).SerializeToString(deterministic=True)


def decode_update_header(raw: bytes) -> UpdateHeader:
    """Decode and check an update's header; what it must agree with is checked by who asked."""
    if len(raw) > limits.MAX_HEADER_BYTES:
        raise invalid_value("the update's header is too large")
    header = parse(pb.UpdateHeader, raw)
    length = _length(header.dtype, header.shape)
    _require(header.payload_bytes == limits.payload_bytes(length), "payload size and shape do not agree")
    _require(len(header.ephemeral_key) == 32, "the ephemeral key is not an X25519 public key")
    _require(len(header.payload_sha256) == 32, "the payload has no SHA-256")
    return UpdateHeader(
        key=key_from_proto(header.key),
        task_sha256=bytes(header.task_sha256),
        length=length,
        ephemeral_key=bytes(header.ephemeral_key),
        payload_bytes=header.payload_bytes,
        payload_sha256=bytes(header.payload_sha256),
        mechanism=_mechanism_from_proto(header.mechanism) if header.HasField("mechanism") else None,
        spending=_spending_from_proto(header.spending) if header.HasField("spending") else None,
    )


def pack_signed_header(header: bytes, signature: bytes) -> bytes:
    """Header and signature as one value, to be stored."""
    return pb.SignedHeader(header=header, signature=signature).SerializeToString(deterministic=True)


def unpack_signed_header(stored: bytes) -> tuple[bytes, bytes]:
    """Header and signature as they were."""
    signed = parse(pb.SignedHeader, stored)
    return signed.header, signed.signature


def _mechanism_to_proto(mechanism: Mechanism) -> pb.Mechanism:
    return pb.Mechanism(
        noise_multiplier=mechanism.noise_multiplier,
        sampling_rate=mechanism.sampling_rate,
        steps=mechanism.steps,
    )


def _mechanism_from_proto(mechanism: pb.Mechanism) -> Mechanism:
    _require(0.0 < mechanism.sampling_rate <= 1.0, "the sampling rate is not in (0, 1]")
    return Mechanism(_positive(mechanism.noise_multiplier), mechanism.sampling_rate, _count(mechanism.steps))


def _spending_to_proto(spending: Spending) -> pb.Spending:
    return pb.Spending(epsilon_basic=spending.epsilon_basic, epsilon_tight=spending.epsilon_tight)


def _spending_from_proto(spending: pb.Spending) -> Spending:
    return Spending(_not_negative(spending.epsilon_basic), _not_negative(spending.epsilon_tight))


def greeting_to_proto(greeting: Greeting) -> pb.Greeting:
    """A greeting for the wire."""
    return pb.Greeting(workspace=greeting.workspace, node=greeting.node)


def greeting_from_proto(greeting: pb.Greeting) -> Greeting:
    """A greeting from the wire."""
    return Greeting(WorkspaceName(_name(greeting.workspace)), NodeName(_name(greeting.node)))


def introduction_to_proto(introduction: Introduction) -> pb.Introduction:
    """An introduction for the wire."""
    return pb.Introduction(
        datasets=[
            pb.DatasetDescription(name=dataset.name, columns=dataset.columns, types=dataset.types)
            for dataset in introduction.datasets
        ]
    )


def introduction_from_proto(introduction: pb.Introduction) -> Introduction:
    """An introduction from the wire."""
    _require(len(introduction.datasets) <= limits.MAX_DATASETS, "there are too many datasets")
    return Introduction(tuple(_description_from_proto(dataset) for dataset in introduction.datasets))


def _description_from_proto(dataset: pb.DatasetDescription) -> DatasetDescription:
    _require(
        len(dataset.columns) == len(dataset.types) <= limits.MAX_COLUMNS, "columns and types do not agree"
    )
    return DatasetDescription(
        DatasetName(_name(dataset.name)), _names(dataset.columns), _names(dataset.types)
    )


def refusal_to_proto(error: FederatedError) -> pb.Refusal:
    """What a node says when it does not answer; the error's text is public."""
    return pb.Refusal(
        code=error.code.name,
        message=error.message[: limits.MAX_MESSAGE_CHARACTERS],
        hint=(error.hint or "")[: limits.MAX_MESSAGE_CHARACTERS],
        detail=(error.detail or "")[: limits.MAX_MESSAGE_CHARACTERS],
    )


class NodeRefusedError(FederatedError):
    """A node did not answer, and said why: code NODE_REFUSED; `reason` is the node's own code."""

    def __init__(self, reason: ErrorCode, message: str, *, detail: str | None, hint: str | None) -> None:
        super().__init__(ErrorCode.NODE_REFUSED, message, detail=detail, hint=hint)
        self.reason = reason


def refusal_from_proto(refusal: pb.Refusal, node: str) -> NodeRefusedError:
    """The error for a refusal; text from the node is bounded and printable."""
    message = _printable(refusal.message) or "no reason given"
    try:
        reason = ErrorCode[refusal.code]
    except KeyError:
        reason = ErrorCode.INTERNAL
    return NodeRefusedError(
        reason,
        f'node "{node}" refused: {message}',
        detail=_printable(refusal.detail) or None,
        hint=_printable(refusal.hint) or None,
    )


def parse(kind: type[_M], raw: bytes) -> _M:
    """Parse one message; what does not parse, or holds fields unknown here, is an error and never ignored."""
    message = kind()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise invalid_value("the message cannot be decoded") from error
    reject_unknown_fields(message)
    return message


def reject_unknown_fields(message: Message) -> None:
    """FederatedError NOT_SUPPORTED where a message holds a field of a version that is not ours."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise not_supported("the message holds a field that this version does not know")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise invalid_value(otherwise)


def _length(dtype: int, shape: Iterable[int]) -> int:
    extents = list(shape)
    _require(dtype == pb.DTYPE_FLOAT64_LE, "the vector is not of dtype float64")
    _require(len(extents) == 1, "the vector is not one-dimensional")
    _require(8 * extents[0] <= limits.MAX_VECTOR_BYTES, "the vector is too large")
    return extents[0]


def _name(name: str) -> str:
    _require(0 < len(name) <= limits.MAX_NAME_CHARACTERS and "\0" not in name, "a name is empty or too long")
    return name


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_name(name) for name in names)


def _noise(work: pb.StatisticsWork | pb.EvaluateWork) -> float | None:
    return _positive(work.noise_multiplier) if work.HasField("noise_multiplier") else None


def _finite(number: float) -> float:
    _require(math.isfinite(number), "a number is not finite")
    return number


def _positive(number: float) -> float:
    _require(math.isfinite(number) and number > 0, "a number is not greater than 0")
    return number


def _not_negative(number: float) -> float:
    _require(number >= 0, "a number is negative")
    return number


def _count(number: int) -> int:
    _require(0 < number <= _MAX_COUNT, "a count is out of range")
    return number


def _printable(text: str) -> str:
    """Text from a peer, for a message: bounded and without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[: limits.MAX_MESSAGE_CHARACTERS]).strip()
