# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_FLOAT32: _ClassVar[Dtype]
    DTYPE_FLOAT64: _ClassVar[Dtype]
    DTYPE_UINT8: _ClassVar[Dtype]
    DTYPE_UINT32: _ClassVar[Dtype]
    DTYPE_UINT64: _ClassVar[Dtype]
    DTYPE_UINT16: _ClassVar[Dtype]

class Noise(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOISE_GAUSSIAN: _ClassVar[Noise]
    NOISE_LAPLACIAN: _ClassVar[Noise]
DTYPE_UNSPECIFIED: Dtype
DTYPE_FLOAT32: Dtype
DTYPE_FLOAT64: Dtype
DTYPE_UINT8: Dtype
DTYPE_UINT32: Dtype
DTYPE_UINT64: Dtype
DTYPE_UINT16: Dtype
NOISE_GAUSSIAN: Noise
NOISE_LAPLACIAN: Noise

class Greeting(_message.Message):
    __slots__ = ("workspace", "node", "challenge")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    node: str
    challenge: bytes
    def __init__(self, workspace: _Optional[str] = ..., node: _Optional[str] = ..., challenge: _Optional[bytes] = ...) -> None: ...

class DeclaredValues(_message.Message):
    __slots__ = ("column", "values")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    column: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, column: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class DatasetDescription(_message.Message):
    __slots__ = ("name", "columns", "types", "plain_answers", "declared", "paused")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    PLAIN_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    name: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    types: _containers.RepeatedScalarFieldContainer[str]
    plain_answers: bool
    declared: _containers.RepeatedCompositeFieldContainer[DeclaredValues]
    paused: bool
    def __init__(self, name: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., types: _Optional[_Iterable[str]] = ..., plain_answers: _Optional[bool] = ..., declared: _Optional[_Iterable[_Union[DeclaredValues, _Mapping]]] = ..., paused: _Optional[bool] = ...) -> None: ...

class Introduction(_message.Message):
    __slots__ = ("datasets", "refusal", "extras", "subscriptions", "data_residency", "certificate_sha256", "aggregators", "aggregates", "limits", "proof")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    EXTRAS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    AGGREGATORS_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetDescription]
    refusal: Refusal
    extras: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    data_residency: str
    certificate_sha256: bytes
    aggregators: _containers.RepeatedScalarFieldContainer[bytes]
    aggregates: bool
    limits: Limits
    proof: bytes
    def __init__(self, datasets: _Optional[_Iterable[_Union[DatasetDescription, _Mapping]]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., extras: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ..., data_residency: _Optional[str] = ..., certificate_sha256: _Optional[bytes] = ..., aggregators: _Optional[_Iterable[bytes]] = ..., aggregates: _Optional[bool] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., proof: _Optional[bytes] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("name", "model", "version", "takes", "held_version", "held_key", "heard_outcome", "heard_key", "refused_key", "kept_keys")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TAKES_FIELD_NUMBER: _ClassVar[int]
    HELD_VERSION_FIELD_NUMBER: _ClassVar[int]
    HELD_KEY_FIELD_NUMBER: _ClassVar[int]
    HEARD_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    HEARD_KEY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_KEY_FIELD_NUMBER: _ClassVar[int]
    KEPT_KEYS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    version: str
    takes: bool
    held_version: int
    held_key: bytes
    heard_outcome: str
    heard_key: bytes
    refused_key: bytes
    kept_keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., takes: _Optional[bool] = ..., held_version: _Optional[int] = ..., held_key: _Optional[bytes] = ..., heard_outcome: _Optional[str] = ..., heard_key: _Optional[bytes] = ..., refused_key: _Optional[bytes] = ..., kept_keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("workspace",)
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    def __init__(self, workspace: _Optional[str] = ...) -> None: ...

class HeartbeatAnswer(_message.Message):
    __slots__ = ("subscriptions",)
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    subscriptions: bytes
    def __init__(self, subscriptions: _Optional[bytes] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("workspace", "node", "ended_runs")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ENDED_RUNS_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    node: str
    ended_runs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, workspace: _Optional[str] = ..., node: _Optional[str] = ..., ended_runs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ForgetAnswer(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "hint", "detail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    hint: str
    detail: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class TaskMessage(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: SignedHeader
    chunk: bytes
    def __init__(self, head: _Optional[_Union[SignedHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UpdateMessage(_message.Message):
    __slots__ = ("head", "chunk", "refusal")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    head: SignedHeader
    chunk: bytes
    refusal: Refusal
    def __init__(self, head: _Optional[_Union[SignedHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_memory_gb", "max_cpu_cores", "max_bandwidth_mbps", "task_limit_seconds")
    MAX_MEMORY_GB_FIELD_NUMBER: _ClassVar[int]
    MAX_CPU_CORES_FIELD_NUMBER: _ClassVar[int]
    MAX_BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    TASK_LIMIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_memory_gb: float
    max_cpu_cores: int
    max_bandwidth_mbps: float
    task_limit_seconds: float
    def __init__(self, max_memory_gb: _Optional[float] = ..., max_cpu_cores: _Optional[int] = ..., max_bandwidth_mbps: _Optional[float] = ..., task_limit_seconds: _Optional[float] = ...) -> None: ...

class SignedHeader(_message.Message):
    __slots__ = ("header", "signature", "chunk", "limits")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    signature: bytes
    chunk: bytes
    limits: Limits
    def __init__(self, header: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., chunk: _Optional[bytes] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class TaskKey(_message.Message):
    __slots__ = ("workspace", "run", "round", "exchange", "step", "node")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    run: bytes
    round: int
    exchange: int
    step: str
    node: str
    def __init__(self, workspace: _Optional[str] = ..., run: _Optional[bytes] = ..., round: _Optional[int] = ..., exchange: _Optional[int] = ..., step: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("dataset", "features", "target", "validation_split", "seed", "classes", "fold", "roles")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SPLIT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    FOLD_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    features: _containers.RepeatedScalarFieldContainer[str]
    target: str
    validation_split: float
    seed: int
    classes: _containers.RepeatedScalarFieldContainer[str]
    fold: Fold
    roles: _containers.RepeatedCompositeFieldContainer[RoleColumn]
    def __init__(self, dataset: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., target: _Optional[str] = ..., validation_split: _Optional[float] = ..., seed: _Optional[int] = ..., classes: _Optional[_Iterable[str]] = ..., fold: _Optional[_Union[Fold, _Mapping]] = ..., roles: _Optional[_Iterable[_Union[RoleColumn, _Mapping]]] = ...) -> None: ...

class Fold(_message.Message):
    __slots__ = ("number", "of")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    number: int
    of: int
    def __init__(self, number: _Optional[int] = ..., of: _Optional[int] = ...) -> None: ...

class RoleColumn(_message.Message):
    __slots__ = ("role", "column")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    role: str
    column: str
    def __init__(self, role: _Optional[str] = ..., column: _Optional[str] = ...) -> None: ...

class Scaling(_message.Message):
    __slots__ = ("means", "scales", "target_mean", "target_scale")
    MEANS_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    TARGET_MEAN_FIELD_NUMBER: _ClassVar[int]
    TARGET_SCALE_FIELD_NUMBER: _ClassVar[int]
    means: _containers.RepeatedScalarFieldContainer[float]
    scales: _containers.RepeatedScalarFieldContainer[float]
    target_mean: float
    target_scale: float
    def __init__(self, means: _Optional[_Iterable[float]] = ..., scales: _Optional[_Iterable[float]] = ..., target_mean: _Optional[float] = ..., target_scale: _Optional[float] = ...) -> None: ...

class ColumnEncoding(_message.Message):
    __slots__ = ("column", "kind", "form", "levels", "null_level", "other_level", "edges", "elements", "missing_indicator", "scaled", "shape")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    NULL_LEVEL_FIELD_NUMBER: _ClassVar[int]
    OTHER_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_INDICATOR_FIELD_NUMBER: _ClassVar[int]
    SCALED_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    column: str
    kind: str
    form: str
    levels: _containers.RepeatedScalarFieldContainer[str]
    null_level: bool
    other_level: bool
    edges: _containers.RepeatedScalarFieldContainer[float]
    elements: int
    missing_indicator: bool
    scaled: bool
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, column: _Optional[str] = ..., kind: _Optional[str] = ..., form: _Optional[str] = ..., levels: _Optional[_Iterable[str]] = ..., null_level: _Optional[bool] = ..., other_level: _Optional[bool] = ..., edges: _Optional[_Iterable[float]] = ..., elements: _Optional[int] = ..., missing_indicator: _Optional[bool] = ..., scaled: _Optional[bool] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Encoding(_message.Message):
    __slots__ = ("columns", "classes")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[ColumnEncoding]
    classes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, columns: _Optional[_Iterable[_Union[ColumnEncoding, _Mapping]]] = ..., classes: _Optional[_Iterable[str]] = ...) -> None: ...

class Mechanism(_message.Message):
    __slots__ = ("noise_multiplier", "sampling_rate", "steps", "noise")
    NOISE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_RATE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    noise_multiplier: float
    sampling_rate: float
    steps: int
    noise: Noise
    def __init__(self, noise_multiplier: _Optional[float] = ..., sampling_rate: _Optional[float] = ..., steps: _Optional[int] = ..., noise: _Optional[_Union[Noise, str]] = ...) -> None: ...

class Privacy(_message.Message):
    __slots__ = ("mechanism", "weight")
    MECHANISM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    mechanism: Mechanism
    weight: float
    def __init__(self, mechanism: _Optional[_Union[Mechanism, _Mapping]] = ..., weight: _Optional[float] = ...) -> None: ...

class Flags(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, values: _Optional[_Iterable[bool]] = ...) -> None: ...

class Integers(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class Numbers(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Setting(_message.Message):
    __slots__ = ("name", "flag", "integer", "number", "text", "flags", "integers", "numbers", "texts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    flag: bool
    integer: int
    number: float
    text: str
    flags: Flags
    integers: Integers
    numbers: Numbers
    texts: Texts
    def __init__(self, name: _Optional[str] = ..., flag: _Optional[bool] = ..., integer: _Optional[int] = ..., number: _Optional[float] = ..., text: _Optional[str] = ..., flags: _Optional[_Union[Flags, _Mapping]] = ..., integers: _Optional[_Union[Integers, _Mapping]] = ..., numbers: _Optional[_Union[Numbers, _Mapping]] = ..., texts: _Optional[_Union[Texts, _Mapping]] = ...) -> None: ...

class Rounding(_message.Message):
    __slots__ = ("bits", "norm", "weight")
    BITS_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    bits: int
    norm: float
    weight: float
    def __init__(self, bits: _Optional[int] = ..., norm: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...

class Summing(_message.Message):
    __slots__ = ("protocol", "stage", "nodes", "trust", "state_sha256", "rounding", "fraction")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ROUNDING_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    stage: str
    nodes: int
    trust: str
    state_sha256: bytes
    rounding: Rounding
    fraction: int
    def __init__(self, protocol: _Optional[str] = ..., stage: _Optional[str] = ..., nodes: _Optional[int] = ..., trust: _Optional[str] = ..., state_sha256: _Optional[bytes] = ..., rounding: _Optional[_Union[Rounding, _Mapping]] = ..., fraction: _Optional[int] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("algorithm", "size", "dtype", "privacy", "settings", "summing", "codec", "codec_settings", "bits", "sent")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SUMMING_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    CODEC_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    size: int
    dtype: Dtype
    privacy: Privacy
    settings: _containers.RepeatedCompositeFieldContainer[Setting]
    summing: Summing
    codec: str
    codec_settings: _containers.RepeatedCompositeFieldContainer[Setting]
    bits: int
    sent: int
    def __init__(self, algorithm: _Optional[str] = ..., size: _Optional[int] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., privacy: _Optional[_Union[Privacy, _Mapping]] = ..., settings: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ..., summing: _Optional[_Union[Summing, _Mapping]] = ..., codec: _Optional[str] = ..., codec_settings: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ..., bits: _Optional[int] = ..., sent: _Optional[int] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("epsilon", "delta")
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    epsilon: float
    delta: float
    def __init__(self, epsilon: _Optional[float] = ..., delta: _Optional[float] = ...) -> None: ...

class Body(_message.Message):
    __slots__ = ("note_bytes", "state_bytes", "sha256")
    NOTE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    note_bytes: int
    state_bytes: int
    sha256: bytes
    def __init__(self, note_bytes: _Optional[int] = ..., state_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class TaskHeader(_message.Message):
    __slots__ = ("key", "reading", "scaling", "work", "body", "budget", "sealing_key", "compliance_mode", "encoding", "model")
    KEY_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    SEALING_KEY_FIELD_NUMBER: _ClassVar[int]
    COMPLIANCE_MODE_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    key: TaskKey
    reading: Reading
    scaling: Scaling
    work: Work
    body: Body
    budget: Budget
    sealing_key: bytes
    compliance_mode: str
    encoding: Encoding
    model: str
    def __init__(self, key: _Optional[_Union[TaskKey, _Mapping]] = ..., reading: _Optional[_Union[Reading, _Mapping]] = ..., scaling: _Optional[_Union[Scaling, _Mapping]] = ..., work: _Optional[_Union[Work, _Mapping]] = ..., body: _Optional[_Union[Body, _Mapping]] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., sealing_key: _Optional[bytes] = ..., compliance_mode: _Optional[str] = ..., encoding: _Optional[_Union[Encoding, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class Spending(_message.Message):
    __slots__ = ("epsilon_basic", "epsilon_tight")
    EPSILON_BASIC_FIELD_NUMBER: _ClassVar[int]
    EPSILON_TIGHT_FIELD_NUMBER: _ClassVar[int]
    epsilon_basic: float
    epsilon_tight: float
    def __init__(self, epsilon_basic: _Optional[float] = ..., epsilon_tight: _Optional[float] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("key", "task_sha256", "dtype", "length", "ephemeral_key", "payload_bytes", "payload_sha256", "mechanism", "spending")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TASK_SHA256_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    MECHANISM_FIELD_NUMBER: _ClassVar[int]
    SPENDING_FIELD_NUMBER: _ClassVar[int]
    key: TaskKey
    task_sha256: bytes
    dtype: Dtype
    length: int
    ephemeral_key: bytes
    payload_bytes: int
    payload_sha256: bytes
    mechanism: Mechanism
    spending: Spending
    def __init__(self, key: _Optional[_Union[TaskKey, _Mapping]] = ..., task_sha256: _Optional[bytes] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., length: _Optional[int] = ..., ephemeral_key: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ..., payload_sha256: _Optional[bytes] = ..., mechanism: _Optional[_Union[Mechanism, _Mapping]] = ..., spending: _Optional[_Union[Spending, _Mapping]] = ...) -> None: ...

class DeliveryMessage(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: SignedHeader
    chunk: bytes
    def __init__(self, head: _Optional[_Union[SignedHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Contract(_message.Message):
    __slots__ = ("algorithm", "target", "event", "weights", "offset")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    target: str
    event: str
    weights: str
    offset: str
    def __init__(self, algorithm: _Optional[str] = ..., target: _Optional[str] = ..., event: _Optional[str] = ..., weights: _Optional[str] = ..., offset: _Optional[str] = ...) -> None: ...

class DeliveryHeader(_message.Message):
    __slots__ = ("workspace", "node", "subscription", "model", "wanted", "outcome", "reason", "version", "key", "features", "contract", "prediction_bytes", "arrays_bytes", "body_sha256", "recipient")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_BYTES_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_BYTES_FIELD_NUMBER: _ClassVar[int]
    BODY_SHA256_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    node: str
    subscription: str
    model: str
    wanted: str
    outcome: str
    reason: str
    version: int
    key: bytes
    features: _containers.RepeatedScalarFieldContainer[str]
    contract: Contract
    prediction_bytes: int
    arrays_bytes: int
    body_sha256: bytes
    recipient: bytes
    def __init__(self, workspace: _Optional[str] = ..., node: _Optional[str] = ..., subscription: _Optional[str] = ..., model: _Optional[str] = ..., wanted: _Optional[str] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., version: _Optional[int] = ..., key: _Optional[bytes] = ..., features: _Optional[_Iterable[str]] = ..., contract: _Optional[_Union[Contract, _Mapping]] = ..., prediction_bytes: _Optional[int] = ..., arrays_bytes: _Optional[int] = ..., body_sha256: _Optional[bytes] = ..., recipient: _Optional[bytes] = ...) -> None: ...

class DeliveryAnswer(_message.Message):
    __slots__ = ("refusal", "subscription")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    refusal: Refusal
    subscription: Subscription
    def __init__(self, refusal: _Optional[_Union[Refusal, _Mapping]] = ..., subscription: _Optional[_Union[Subscription, _Mapping]] = ...) -> None: ...

class SubjectOrder(_message.Message):
    __slots__ = ("workspace", "node", "order", "kind", "subject", "terms", "deadline", "recipient")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    node: str
    order: bytes
    kind: str
    subject: str
    terms: str
    deadline: int
    recipient: bytes
    def __init__(self, workspace: _Optional[str] = ..., node: _Optional[str] = ..., order: _Optional[bytes] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., terms: _Optional[str] = ..., deadline: _Optional[int] = ..., recipient: _Optional[bytes] = ...) -> None: ...

class OrderAnswer(_message.Message):
    __slots__ = ("head", "chunk", "refusal")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    head: SignedHeader
    chunk: bytes
    refusal: Refusal
    def __init__(self, head: _Optional[_Union[SignedHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class SignedStatement(_message.Message):
    __slots__ = ("statement", "signature")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    signature: bytes
    def __init__(self, statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class WitnessRequest(_message.Message):
    __slots__ = ("workspace", "node", "head", "held_size", "path")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HELD_SIZE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    node: str
    head: SignedStatement
    held_size: int
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, workspace: _Optional[str] = ..., node: _Optional[str] = ..., head: _Optional[_Union[SignedStatement, _Mapping]] = ..., held_size: _Optional[int] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class WitnessAnswer(_message.Message):
    __slots__ = ("refusal", "cosignature", "held")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    refusal: Refusal
    cosignature: SignedStatement
    held: _containers.RepeatedCompositeFieldContainer[SignedStatement]
    def __init__(self, refusal: _Optional[_Union[Refusal, _Mapping]] = ..., cosignature: _Optional[_Union[SignedStatement, _Mapping]] = ..., held: _Optional[_Iterable[_Union[SignedStatement, _Mapping]]] = ...) -> None: ...

class CallHead(_message.Message):
    __slots__ = ("method", "traceparent")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    method: str
    traceparent: str
    def __init__(self, method: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class CallEnd(_message.Message):
    __slots__ = ("cannot",)
    CANNOT_FIELD_NUMBER: _ClassVar[int]
    cannot: str
    def __init__(self, cannot: _Optional[str] = ...) -> None: ...

class Asked(_message.Message):
    __slots__ = ("head", "message", "end")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    head: CallHead
    message: bytes
    end: CallEnd
    def __init__(self, head: _Optional[_Union[CallHead, _Mapping]] = ..., message: _Optional[bytes] = ..., end: _Optional[_Union[CallEnd, _Mapping]] = ...) -> None: ...

class Answered(_message.Message):
    __slots__ = ("message", "end")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    end: CallEnd
    def __init__(self, message: _Optional[bytes] = ..., end: _Optional[_Union[CallEnd, _Mapping]] = ...) -> None: ...

class Adding(_message.Message):
    __slots__ = ("equally", "parts", "sketch_key")
    EQUALLY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    SKETCH_KEY_FIELD_NUMBER: _ClassVar[int]
    equally: bool
    parts: int
    sketch_key: int
    def __init__(self, equally: _Optional[bool] = ..., parts: _Optional[int] = ..., sketch_key: _Optional[int] = ...) -> None: ...

class MaskedAdding(_message.Message):
    __slots__ = ("limbs",)
    LIMBS_FIELD_NUMBER: _ClassVar[int]
    limbs: int
    def __init__(self, limbs: _Optional[int] = ...) -> None: ...

class GatherHeader(_message.Message):
    __slots__ = ("key", "size", "dtype", "adding", "opening_key", "sealing_key", "patience", "state_bytes", "state_sha256", "limits", "masked")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ADDING_FIELD_NUMBER: _ClassVar[int]
    OPENING_KEY_FIELD_NUMBER: _ClassVar[int]
    SEALING_KEY_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    STATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    key: TaskKey
    size: int
    dtype: Dtype
    adding: Adding
    opening_key: bytes
    sealing_key: bytes
    patience: float
    state_bytes: int
    state_sha256: bytes
    limits: Limits
    masked: MaskedAdding
    def __init__(self, key: _Optional[_Union[TaskKey, _Mapping]] = ..., size: _Optional[int] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., adding: _Optional[_Union[Adding, _Mapping]] = ..., opening_key: _Optional[bytes] = ..., sealing_key: _Optional[bytes] = ..., patience: _Optional[float] = ..., state_bytes: _Optional[int] = ..., state_sha256: _Optional[bytes] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., masked: _Optional[_Union[MaskedAdding, _Mapping]] = ...) -> None: ...

class GatheredNode(_message.Message):
    __slots__ = ("node", "aggregator", "endpoint", "pinned", "header", "signature", "opening_key", "contact_signature", "limits", "note")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATOR_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    OPENING_KEY_FIELD_NUMBER: _ClassVar[int]
    CONTACT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    node: str
    aggregator: str
    endpoint: str
    pinned: _containers.RepeatedScalarFieldContainer[bytes]
    header: bytes
    signature: bytes
    opening_key: bytes
    contact_signature: bytes
    limits: Limits
    note: bytes
    def __init__(self, node: _Optional[str] = ..., aggregator: _Optional[str] = ..., endpoint: _Optional[str] = ..., pinned: _Optional[_Iterable[bytes]] = ..., header: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., opening_key: _Optional[bytes] = ..., contact_signature: _Optional[bytes] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., note: _Optional[bytes] = ...) -> None: ...

class GatherMessage(_message.Message):
    __slots__ = ("head", "node", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: GatherHeader
    node: GatheredNode
    chunk: bytes
    def __init__(self, head: _Optional[_Union[GatherHeader, _Mapping]] = ..., node: _Optional[_Union[GatheredNode, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PassedOn(_message.Message):
    __slots__ = ("node", "message")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    message: bytes
    def __init__(self, node: _Optional[str] = ..., message: _Optional[bytes] = ...) -> None: ...

class SumTerm(_message.Message):
    __slots__ = ("node", "header", "signature")
    NODE_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    node: str
    header: bytes
    signature: bytes
    def __init__(self, node: _Optional[str] = ..., header: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SumHeader(_message.Message):
    __slots__ = ("key", "request_sha256", "nodes", "ephemeral_key", "payload_bytes", "payload_sha256")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    key: TaskKey
    request_sha256: bytes
    nodes: _containers.RepeatedScalarFieldContainer[str]
    ephemeral_key: bytes
    payload_bytes: int
    payload_sha256: bytes
    def __init__(self, key: _Optional[_Union[TaskKey, _Mapping]] = ..., request_sha256: _Optional[bytes] = ..., nodes: _Optional[_Iterable[str]] = ..., ephemeral_key: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ..., payload_sha256: _Optional[bytes] = ...) -> None: ...

class GatherAnswer(_message.Message):
    __slots__ = ("refusal", "passed", "term", "sum", "chunk")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    refusal: Refusal
    passed: PassedOn
    term: SumTerm
    sum: SignedHeader
    chunk: bytes
    def __init__(self, refusal: _Optional[_Union[Refusal, _Mapping]] = ..., passed: _Optional[_Union[PassedOn, _Mapping]] = ..., term: _Optional[_Union[SumTerm, _Mapping]] = ..., sum: _Optional[_Union[SignedHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class RelayHello(_message.Message):
    __slots__ = ("ephemeral_key", "random", "signature")
    EPHEMERAL_KEY_FIELD_NUMBER: _ClassVar[int]
    RANDOM_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ephemeral_key: bytes
    random: bytes
    signature: bytes
    def __init__(self, ephemeral_key: _Optional[bytes] = ..., random: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RelayWelcome(_message.Message):
    __slots__ = ("session", "ephemeral_key", "sealed")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_KEY_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    ephemeral_key: bytes
    sealed: bytes
    def __init__(self, session: _Optional[bytes] = ..., ephemeral_key: _Optional[bytes] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class RelayIdentity(_message.Message):
    __slots__ = ("certificate", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    signature: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RelaySealed(_message.Message):
    __slots__ = ("session", "number", "sealed")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    number: int
    sealed: bytes
    def __init__(self, session: _Optional[bytes] = ..., number: _Optional[int] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class RelayCall(_message.Message):
    __slots__ = ("head", "messages", "cancelled", "alone")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    head: CallHead
    messages: _containers.RepeatedScalarFieldContainer[bytes]
    cancelled: int
    alone: bool
    def __init__(self, head: _Optional[_Union[CallHead, _Mapping]] = ..., messages: _Optional[_Iterable[bytes]] = ..., cancelled: _Optional[int] = ..., alone: _Optional[bool] = ...) -> None: ...

class RelayAnswer(_message.Message):
    __slots__ = ("messages", "end")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedScalarFieldContainer[bytes]
    end: CallEnd
    def __init__(self, messages: _Optional[_Iterable[bytes]] = ..., end: _Optional[_Union[CallEnd, _Mapping]] = ...) -> None: ...

class RelayEnvelope(_message.Message):
    __slots__ = ("hello", "welcome", "sealed", "unknown_session")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_SESSION_FIELD_NUMBER: _ClassVar[int]
    hello: RelayHello
    welcome: RelayWelcome
    sealed: RelaySealed
    unknown_session: bytes
    def __init__(self, hello: _Optional[_Union[RelayHello, _Mapping]] = ..., welcome: _Optional[_Union[RelayWelcome, _Mapping]] = ..., sealed: _Optional[_Union[RelaySealed, _Mapping]] = ..., unknown_session: _Optional[bytes] = ...) -> None: ...

class RelayBatch(_message.Message):
    __slots__ = ("envelopes", "hold_ms", "pending")
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    HOLD_MS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[RelayEnvelope]
    hold_ms: int
    pending: int
    def __init__(self, envelopes: _Optional[_Iterable[_Union[RelayEnvelope, _Mapping]]] = ..., hold_ms: _Optional[int] = ..., pending: _Optional[int] = ...) -> None: ...
