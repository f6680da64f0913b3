"""Domain objects to protobuf and back: protobuf is known here and in the two ends of the wire, nowhere else.

What always holds: `*_from_proto` returns a complete object, every number of a task between the bounds of
`heliosdb.domain.bounds`, or raises FederatedError INVALID_VALUE (or NOT_SUPPORTED for a field that this
version does not know); encoding is deterministic, so that the same task has the same header bytes in every
life of the coordinator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from uuid import UUID

from federated_sql.option_table import OPTIONS, OptionKind
from heliosdb.domain import bounds
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.events import REFUSED
from heliosdb.domain.handshake import DatasetDescription, Greeting, Introduction
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Budget
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
from heliosdb.transport.checks import (
    parse,
    read_below,
    read_length,
    read_name,
    read_names,
    read_parameters,
    read_range,
    read_whole,
    read_within,
    require,
)

_COMPLIANCE_MODES = OPTIONS[OptionKind.WORKSPACE]["compliance_mode"].choices


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
        compliance_mode=task.compliance_mode,
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
    length = read_length(header.parameters.dtype, header.parameters.shape)
    require(len(header.parameters.sha256) == 32, "the parameters have no SHA-256")
    require(len(header.sealing_key) == 32, "the sealing key is not an X25519 public key")
    key, reading, work = (
        key_from_proto(header.key),
        _reading_from_proto(header.reading),
        _work_from_proto(header),
    )
    require(_step_of(work) is key.step, "the work is not of the announced step")
    if not isinstance(work, StatisticsWork):
        inputs = len(work.scaling.means)
        require(
            inputs == len(work.scaling.scales) == len(reading.features),
            "scaling and features differ in length",
        )
    task = Task(
        key=key,
        reading=reading,
        work=work,
        parameters=vector_from_bytes(b""),
        budget=_budget_from_proto(header.budget) if header.HasField("budget") else None,
        compliance_mode=_compliance_mode(header.compliance_mode),
    )
    return TaskHeader(task, length, bytes(header.parameters.sha256), bytes(header.sealing_key), raw)


def with_parameters(task: Task, parameters: Vector) -> Task:
    """The task with its vector; FederatedError INVALID_VALUE where a value of it is no parameter."""
    return replace(task, parameters=read_parameters(parameters))


def key_to_proto(key: TaskKey) -> pb.TaskKey:
    """A task key for the wire."""
    return pb.TaskKey(
        workspace=key.workspace, run=key.run.bytes, round=key.round, step=key.step.value, node=key.node
    )


def key_from_proto(key: pb.TaskKey) -> TaskKey:
    """A task key from the wire."""
    require(len(key.run) == 16, "the run id is not a UUID")
    require(key.round < 2**31, "the round number is out of range")
    try:
        step = Step(key.step)
    except ValueError as error:
        raise not_supported("the task is of a kind that this node does not know") from error
    return TaskKey(
        WorkspaceName(read_name(key.workspace)),
        RunId(UUID(bytes=bytes(key.run))),
        RoundNumber(key.round),
        step,
        NodeName(read_name(key.node)),
    )


def _reading_to_proto(reading: Reading) -> pb.Reading:
    return pb.Reading(
        dataset=reading.dataset,
        features=reading.features,
        target=reading.target,
        validation_split=reading.validation_split,
        seed=reading.seed,
    )


def _reading_from_proto(reading: pb.Reading) -> Reading:
    require(0 < len(reading.features) <= limits.MAX_COLUMNS, "the number of features is out of range")
    require(0.0 <= reading.validation_split < 1.0, "validation_split is not in [0, 1)")
    require(reading.seed < 2**63, "the seed is out of range")
    return Reading(
        dataset=read_name(reading.dataset) if reading.HasField("dataset") else None,
        features=tuple(read_name(feature) for feature in reading.features),
        target=read_name(reading.target),
        validation_split=reading.validation_split,
        seed=reading.seed,
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
                read_name(header.evaluate.algorithm),
                _scaling_from_proto(header.evaluate.scaling),
                _noise(header.evaluate),
            )
        case _:
            raise invalid_value("the task holds no work")


def _statistics_from_proto(work: pb.StatisticsWork) -> StatisticsWork:
    ranges = None
    if work.HasField("ranges"):
        require(len(work.ranges.ranges) <= limits.MAX_COLUMNS + 1, "there are too many ranges")
        ranges = tuple(read_range(one.lower, one.upper) for one in work.ranges.ranges)
    return StatisticsWork(read_name(work.algorithm), _noise(work), ranges)


def _train_from_proto(work: pb.TrainWork) -> TrainWork:
    return TrainWork(
        algorithm=read_name(work.algorithm),
        scaling=_scaling_from_proto(work.scaling),
        local_epochs=read_whole("local_epochs", work.local_epochs, bounds.EPOCHS),
        batch_size=read_whole("batch_size", work.batch_size, bounds.BATCH_SIZE),
        learning_rate=read_within("learning_rate", work.learning_rate, bounds.LEARNING_RATE),
        privacy=_privacy_from_proto(work.privacy) if work.HasField("privacy") else None,
    )


def _privacy_from_proto(given: pb.PrivateTraining) -> PrivateTraining:
    return PrivateTraining(
        noise_multiplier=read_within("noise_multiplier", given.noise_multiplier, bounds.NOISE_MULTIPLIER),
        clipping_norm=read_within("clipping_norm", given.clipping_norm, bounds.CLIPPING_NORM),
        sampling_rate=read_within("sampling_rate", given.sampling_rate, bounds.SAMPLING_RATE),
        steps=read_whole("steps", given.steps, bounds.STEPS),
        expected_subjects=read_within("expected_subjects", given.expected_subjects, bounds.EXPECTED_SUBJECTS),
    )


def _scaling_from_proto(scaling: pb.Scaling) -> Scaling:
    require(len(scaling.means) <= limits.MAX_COLUMNS, "the scaling is too long")
    return Scaling(
        means=tuple(read_within("a mean", mean, bounds.LOCATION) for mean in scaling.means),
        scales=tuple(read_within("a scale", scale, bounds.SCALE) for scale in scaling.scales),
        target_mean=read_within("target_mean", scaling.target_mean, bounds.LOCATION),
        target_scale=read_within("target_scale", scaling.target_scale, bounds.SCALE),
    )


def _budget_from_proto(budget: pb.Budget) -> Budget:
    return Budget(
        read_below("epsilon", budget.epsilon, bounds.MOST_EPSILON, inclusive=True),
        read_below("delta", budget.delta, bounds.BELOW_DELTA, inclusive=False),
    )


def _compliance_mode(mode: str) -> str:
    require(mode in _COMPLIANCE_MODES, f"compliance_mode is none of {', '.join(map(str, _COMPLIANCE_MODES))}")
    return mode


def _step_of(work: Work) -> Step:
    match work:
        case StatisticsWork():
            return Step.STATISTICS
        case TrainWork():
            return Step.TRAIN
        case EvaluateWork():
            return Step.EVALUATE


def _noise(work: pb.StatisticsWork | pb.EvaluateWork) -> float | None:
    if not work.HasField("noise_multiplier"):
        return None
    return read_within("noise_multiplier", work.noise_multiplier, bounds.NOISE_MULTIPLIER)


def greeting_to_proto(greeting: Greeting) -> pb.Greeting:
    """A greeting for the wire."""
    return pb.Greeting(workspace=greeting.workspace, node=greeting.node)


def greeting_from_proto(greeting: pb.Greeting) -> Greeting:
    """A greeting from the wire."""
    return Greeting(WorkspaceName(read_name(greeting.workspace)), NodeName(read_name(greeting.node)))


def introduction_to_proto(introduction: Introduction) -> pb.Introduction:
    """An introduction for the wire."""
    return pb.Introduction(
        datasets=[
            pb.DatasetDescription(
                name=dataset.name,
                columns=dataset.columns,
                types=dataset.types,
                plain_answers=dataset.plain_answers,
            )
            for dataset in introduction.datasets
        ]
    )


def introduction_from_proto(introduction: pb.Introduction) -> Introduction:
    """An introduction from the wire."""
    require(len(introduction.datasets) <= limits.MAX_DATASETS, "there are too many datasets")
    return Introduction(tuple(_description_from_proto(dataset) for dataset in introduction.datasets))


def _description_from_proto(dataset: pb.DatasetDescription) -> DatasetDescription:
    require(
        len(dataset.columns) == len(dataset.types) <= limits.MAX_COLUMNS, "columns and types do not agree"
    )
    return DatasetDescription(
        DatasetName(read_name(dataset.name)),
        read_names(dataset.columns),
        read_names(dataset.types),
        dataset.plain_answers,
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
    """A node did not answer: code NODE_REFUSED; `reason` is the node's own code, `said` what it said."""

    def __init__(
        self, node: str, reason: ErrorCode, said: str, *, detail: str | None, hint: str | None
    ) -> None:
        super().__init__(ErrorCode.NODE_REFUSED, f'node "{node}" refused: {said}', detail=detail, hint=hint)
        self.reason = reason
        self.said = said


def reason_of(error: FederatedError) -> str:
    """Return why a node is left out: for a refusal, what the node itself said."""
    return f"{REFUSED}{error.said}" if isinstance(error, NodeRefusedError) else error.message


def refusal_from_proto(refusal: pb.Refusal, node: str) -> NodeRefusedError:
    """The error for a refusal; text from the node is bounded and printable."""
    message = printable(refusal.message) or "no reason given"
    try:
        reason = ErrorCode[refusal.code]
    except KeyError:
        reason = ErrorCode.INTERNAL
    return NodeRefusedError(
        node,
        reason,
        message,
        detail=printable(refusal.detail) or None,
        hint=printable(refusal.hint) or None,
    )


def printable(text: str) -> str:
    """Text from a peer, for a message: bounded and without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[: limits.MAX_MESSAGE_CHARACTERS]).strip()
