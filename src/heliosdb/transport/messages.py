"""Domain objects to protobuf and back: protobuf is known in this package and nowhere else.

What always holds: `*_from_proto` returns a complete object, every number of a task between the bounds of
`heliosdb.domain.bounds`, or raises FederatedError INVALID_VALUE (or NOT_SUPPORTED for a field that this
version does not know); encoding is deterministic, so that the same task has the same header bytes in every
life of the coordinator. Which steps, algorithms and protocols there are is not known here: their names are
only well-formed, their settings only within the limits of the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from federated_sql.option_table import OPTIONS, OptionKind
from heliosdb.domain import bounds
from heliosdb.domain.classes import read_classes
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.events import REFUSED
from heliosdb.domain.folds import Fold
from heliosdb.domain.handshake import DatasetDescription, DeclaredValues, Greeting, Introduction
from heliosdb.domain.ids import DatasetName, ModelName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import State, state_from_bytes, state_to_bytes
from heliosdb.domain.task import MOST_EXCHANGES, ROLES, Reading, Scaling, Task, TaskKey
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import (
    parse,
    read_below,
    read_digest,
    read_name,
    read_names,
    read_short_name,
    read_within,
    require,
)
from heliosdb.transport.encoding_messages import encoding_from_proto, encoding_to_proto
from heliosdb.transport.limit_messages import limits_from_proto, limits_to_proto
from heliosdb.transport.possession import CHALLENGE_BYTES
from heliosdb.transport.subscription_messages import (
    subscription_to_proto,
    subscriptions_from_proto,
)
from heliosdb.transport.work_messages import work_from_proto, work_to_proto

_COMPLIANCE_MODES = OPTIONS[OptionKind.WORKSPACE]["compliance_mode"].choices


@dataclass(frozen=True, slots=True)
class TaskHeader:
    """A task as it arrived, without its body: what is announced of that, and the raw bytes that were signed.

    task: with an empty note and state. note_bytes, state_bytes: of the body. body_sha256: of both.
    """

    task: Task
    note_bytes: int
    state_bytes: int
    body_sha256: bytes
    sealing_key: bytes
    raw: bytes

    @property
    def body_bytes(self) -> int:
        """How many bytes follow the header."""
        return self.note_bytes + self.state_bytes

    @property
    def task_sha256(self) -> bytes:
        """Decides what the same task is: the header and, through its hash in there, the body."""
        return task_sha256(self.raw)


@dataclass(frozen=True, slots=True)
class ReceivedTask:
    """A task that the coordinator has signed: its header bytes, its hash, the key to seal the answer to.

    state: the bytes of the task's state, as they came. limits: what the workspace asks of the node's machine
    beside it, unsigned.
    """

    task: Task
    header: bytes
    sha256: bytes
    sealing_key: bytes
    state: bytes
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class EncodedState:
    """A state's bytes and their SHA-256: made once, and shared by all tasks that carry that state."""

    raw: bytes
    sha256: bytes

    @classmethod
    def of(cls, state: State) -> EncodedState:
        """Encode a state."""
        raw = state_to_bytes(state)
        return cls(raw, hashlib.sha256(raw).digest())

    def behind(self, note: bytes) -> bytes:
        """SHA-256 of a body: of the note, and the state behind it."""
        if not note:
            return self.sha256
        digest = hashlib.sha256(note)
        digest.update(self.raw)
        return digest.digest()


def encode_task(task: Task, sealing_key: bytes) -> tuple[bytes, bytes]:
    """Header and body of a task: the body is the note of its sum (mostly empty), behind it its state.

    FederatedError PROGRAM_LIMIT where one of them is too large, INVALID_VALUE for a setting that is none.
    """
    encoded = EncodedState.of(task.state)
    return encode_header(task, sealing_key, encoded), task.work.summing.note + encoded.raw


def encode_header(task: Task, sealing_key: bytes, encoded: EncodedState) -> bytes:
    """The header of a task whose state was encoded before; FederatedError as `encode_task`."""
    note, state = task.work.summing.note, encoded.raw
    header = pb.TaskHeader(
        key=key_to_proto(task.key),
        reading=_reading_to_proto(task.reading),
        scaling=None if task.scaling is None else _scaling_to_proto(task.scaling),
        work=work_to_proto(task.work),
        body=pb.Body(note_bytes=len(note), state_bytes=len(state), sha256=encoded.behind(note)),
        budget=None
        if task.budget is None
        else pb.Budget(epsilon=task.budget.epsilon, delta=task.budget.delta),
        sealing_key=sealing_key,
        compliance_mode=task.compliance_mode,
        encoding=None if task.encoding is None else encoding_to_proto(task.encoding),
        model=task.model,
    )
    raw = header.SerializeToString(deterministic=True)
    fits = len(note) <= limits.MAX_NOTE_BYTES and len(state) <= limits.MAX_VECTOR_BYTES
    if not fits or len(raw) > limits.MAX_HEADER_BYTES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, "the task is larger than a message between nodes may be"
        )
    return raw


def task_sha256(header: bytes) -> bytes:
    """The hash that names a task: of its header bytes, which hold the hash of its body."""
    return hashlib.sha256(b"heliosdb task v2\0" + header).digest()


def task_from_header(raw: bytes) -> TaskHeader:
    """Decode and check a task header; the task's note and state are empty until `received_task` or
    `with_state`."""
    if len(raw) > limits.MAX_HEADER_BYTES:
        raise invalid_value("the task's header is too large")
    header = parse(pb.TaskHeader, raw)
    reading = _reading_from_proto(header.reading)
    encoding = None
    if header.HasField("encoding"):
        encoding = encoding_from_proto(header.encoding, reading.features)
    inputs = reading.features if encoding is None else encoding.inputs
    scaling = None
    if header.HasField("scaling"):
        scaling = _scaling_from_proto(header.scaling)
        require(
            len(scaling.means) == len(scaling.scales) == len(inputs), "scaling and inputs differ in length"
        )
    require(header.body.note_bytes <= limits.MAX_NOTE_BYTES, "the note is too large")
    require(header.body.state_bytes <= limits.MAX_VECTOR_BYTES, "the state is too large")
    task = Task(
        key=key_from_proto(header.key),
        reading=reading,
        work=work_from_proto(header.work),
        scaling=scaling,
        budget=_budget_from_proto(header.budget) if header.HasField("budget") else None,
        compliance_mode=_compliance_mode(header.compliance_mode),
        encoding=encoding,
        model=ModelName(read_name(header.model)) if header.HasField("model") else None,
    )
    return TaskHeader(
        task,
        header.body.note_bytes,
        header.body.state_bytes,
        read_digest("the body's SHA-256", header.body.sha256),
        read_digest("the sealing key", header.sealing_key),
        raw,
    )


def received_task(header: TaskHeader, body: bytes) -> ReceivedTask:
    """A task with its note and state; `body` is what the header announces: its length and hash were checked.

    FederatedError INVALID_VALUE where the state is none.
    """
    note, state = body[: header.note_bytes], body[header.note_bytes :]
    task = with_state(header.task, state)
    task = replace(task, work=replace(task.work, summing=replace(task.work.summing, note=note)))
    return ReceivedTask(task, header.raw, header.task_sha256, header.sealing_key, state)


def with_state(task: Task, raw: bytes) -> Task:
    """The task with the state of these bytes; FederatedError INVALID_VALUE where they are none."""
    return replace(task, state=state_from_bytes(raw))


def key_to_proto(key: TaskKey) -> pb.TaskKey:
    """A task key for the wire."""
    return pb.TaskKey(
        workspace=key.workspace,
        run=key.run.bytes,
        round=key.round,
        exchange=key.exchange,
        step=key.step,
        node=key.node,
    )


def key_from_proto(key: pb.TaskKey) -> TaskKey:
    """A task key from the wire."""
    require(key.round < 2**31, "the round number is out of range")
    require(key.exchange < MOST_EXCHANGES, "the number of the exchange is out of range")
    return TaskKey(
        WorkspaceName(read_name(key.workspace)),
        _read_run(key.run),
        RoundNumber(key.round),
        key.exchange,
        StepName(read_short_name("step", key.step)),
        NodeName(read_name(key.node)),
    )


def _reading_to_proto(reading: Reading) -> pb.Reading:
    return pb.Reading(
        dataset=reading.dataset,
        features=reading.features,
        target=reading.target,
        validation_split=reading.validation_split,
        seed=reading.seed,
        classes=reading.classes,
        fold=None if reading.fold is None else pb.Fold(number=reading.fold.number, of=reading.fold.of),
        roles=[pb.RoleColumn(role=role, column=column) for role, column in reading.roles],
    )


def _reading_from_proto(reading: pb.Reading) -> Reading:
    require(0 < len(reading.features) <= limits.MAX_COLUMNS, "the number of features is out of range")
    require(0.0 <= reading.validation_split < 1.0, "validation_split is not in [0, 1)")
    require(reading.seed < 2**63, "the seed is out of range")
    classes = read_classes(reading.classes)
    fold = Fold(reading.fold.number, reading.fold.of) if reading.HasField("fold") else None
    require(fold is None or fold.is_possible, "the fold is none of its folds")
    require(fold is None or reading.validation_split == fold.share, "validation_split is not a fold's share")
    return Reading(
        dataset=read_name(reading.dataset) if reading.HasField("dataset") else None,
        features=tuple(read_name(feature) for feature in reading.features),
        target=read_name(reading.target),
        validation_split=reading.validation_split,
        seed=reading.seed,
        classes=classes,
        fold=fold,
        roles=_roles_from_proto(reading.roles),
    )


def _roles_from_proto(columns: Sequence[pb.RoleColumn]) -> tuple[tuple[str, str], ...]:
    roles = [one.role for one in columns]
    require(roles == [role for role in ROLES if role in roles], "the roles of columns are none")
    return tuple((one.role, read_name(one.column)) for one in columns)


def _scaling_to_proto(scaling: Scaling) -> pb.Scaling:
    return pb.Scaling(
        means=scaling.means,
        scales=scaling.scales,
        target_mean=scaling.target_mean,
        target_scale=scaling.target_scale,
    )


def _scaling_from_proto(scaling: pb.Scaling) -> Scaling:
    require(len(scaling.means) <= limits.MAX_INPUTS, "the scaling is too long")
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


def greeting_to_proto(greeting: Greeting) -> pb.Greeting:
    """A greeting for the wire."""
    return pb.Greeting(workspace=greeting.workspace, node=greeting.node, challenge=greeting.challenge)


def greeting_from_proto(greeting: pb.Greeting) -> Greeting:
    """A greeting from the wire."""
    require(len(greeting.challenge) in (0, CHALLENGE_BYTES), "the challenge has another length")
    names = WorkspaceName(read_name(greeting.workspace)), NodeName(read_name(greeting.node))
    return Greeting(*names, greeting.challenge)


def heartbeat_from_proto(request: pb.HeartbeatRequest) -> WorkspaceName | None:
    """Which workspace a heartbeat is of; None from a coordinator that does not say."""
    return WorkspaceName(read_name(request.workspace)) if request.workspace else None


def introduction_to_proto(introduction: Introduction) -> pb.Introduction:
    """An introduction for the wire."""
    return pb.Introduction(
        datasets=[
            pb.DatasetDescription(
                name=dataset.name,
                columns=dataset.columns,
                types=dataset.types,
                plain_answers=dataset.plain_answers,
                declared=[
                    pb.DeclaredValues(column=one.column, values=one.values) for one in dataset.declared
                ],
                paused=dataset.paused,
            )
            for dataset in introduction.datasets
        ],
        extras=introduction.extras,
        subscriptions=map(subscription_to_proto, introduction.subscriptions),
        data_residency=introduction.data_residency,
        certificate_sha256=introduction.certificate_sha256,
        aggregators=map(bytes.fromhex, introduction.aggregators),
        aggregates=introduction.aggregates,
        limits=limits_to_proto(introduction.limits),
        proof=introduction.proof,
    )


def introduction_from_proto(introduction: pb.Introduction) -> Introduction:
    """An introduction from the wire."""
    require(len(introduction.datasets) <= limits.MAX_DATASETS, "there are too many datasets")
    require(len(introduction.extras) <= limits.MAX_EXTRAS, "there are too many extras")
    described = tuple(_description_from_proto(dataset) for dataset in introduction.datasets)
    subscriptions = subscriptions_from_proto(introduction.subscriptions)
    place = introduction.data_residency if introduction.HasField("data_residency") else None
    # It is shown to people, in reasons and logs.
    require(place is None or read_name(place).isprintable(), "the data_residency cannot be shown")
    sha256 = introduction.certificate_sha256
    require(len(sha256) in (0, 32), "the hash of a certificate has another length")
    require(len(introduction.aggregators) <= limits.MAX_PINNED, "there are too many aggregators")
    aggregators = tuple(read_digest("an aggregator", one).hex() for one in introduction.aggregators)
    extras, aggregates = read_names(introduction.extras), introduction.aggregates
    own = limits_from_proto(introduction.limits)
    require(len(introduction.proof) <= limits.MAX_SIGNATURE_BYTES, "the proof is too long")
    said = Introduction(described, extras, subscriptions, place, sha256, aggregators, aggregates, own)
    return replace(said, proof=introduction.proof)


def _description_from_proto(dataset: pb.DatasetDescription) -> DatasetDescription:
    require(
        len(dataset.columns) == len(dataset.types) <= limits.MAX_COLUMNS, "columns and types do not agree"
    )
    require(len(dataset.declared) <= len(dataset.columns), "more columns are declared than shared")
    return DatasetDescription(
        DatasetName(read_name(dataset.name)),
        read_names(dataset.columns),
        read_names(dataset.types),
        dataset.plain_answers,
        tuple(_declared_from_proto(one, dataset.columns) for one in dataset.declared),
        dataset.paused,
    )


def _declared_from_proto(declared: pb.DeclaredValues, columns: Sequence[str]) -> DeclaredValues:
    require(declared.column in columns, "values are declared of a column that is not shared")
    require(len(declared.values) <= limits.MAX_DECLARED_VALUES, "there are too many declared values")
    return DeclaredValues(read_name(declared.column), read_names(declared.values))


def forget_to_proto(workspace: WorkspaceName, node: NodeName, ended: frozenset[RunId]) -> pb.ForgetRequest:
    """What a node may forget, for the wire; FederatedError PROGRAM_LIMIT for too many runs."""
    if len(ended) > limits.MAX_ENDED_RUNS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"the workspace has more than {limits.MAX_ENDED_RUNS} runs that have ended",
        )
    return pb.ForgetRequest(workspace=workspace, node=node, ended_runs=sorted(run.bytes for run in ended))


def forget_from_proto(request: pb.ForgetRequest) -> tuple[WorkspaceName, NodeName, frozenset[RunId]]:
    """What a node may forget, from the wire: these of the workspace's runs."""
    require(len(request.ended_runs) <= limits.MAX_ENDED_RUNS, "there are too many runs")
    ended = frozenset(_read_run(run) for run in request.ended_runs)
    return WorkspaceName(read_name(request.workspace)), NodeName(read_name(request.node)), ended


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


def _read_run(raw: bytes) -> RunId:
    require(len(raw) == 16, "the run id is not a UUID")
    return RunId(UUID(bytes=bytes(raw)))
