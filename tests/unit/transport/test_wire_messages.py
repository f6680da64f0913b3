"""Tasks survive the wire exactly; what is malformed, unknown or out of range in one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.option_table import OPTIONS, OptionKind
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.coding import Coding
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.state import ARRAY_TYPES, make_state, state_to_bytes
from heliosdb.domain.task import Privacy, Reading, Rounding, Scaling, Summing, Task, TaskKey, Work
from heliosdb.domain.vector import Dtype
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.messages import encode_task, received_task, task_from_header, task_sha256, with_state

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
short_names = st.from_regex(r"[a-z0-9_]{1,64}", fullmatch=True)
setting_names = st.from_regex(r"[a-z_][a-z0-9_]{0,63}", fullmatch=True)


def within(its: Bounds) -> st.SearchStrategy[float]:
    return st.floats(its.least, its.most)


means, scales = within(bounds.LOCATION), within(bounds.SCALE)

privacies = st.builds(
    Privacy,
    st.builds(
        Mechanism,
        within(bounds.NOISE_MULTIPLIER),
        within(bounds.SAMPLING_RATE),
        st.integers(int(bounds.STEPS.least), int(bounds.STEPS.most)),
    ),
    st.floats(0, bounds.EXPECTED_SUBJECTS.most, exclude_min=True),
)
integers, texts = st.integers(-(2**63), 2**63 - 1), names | st.just("")
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(
    st.booleans(),
    integers,
    finite,
    texts,
    *(st.lists(one, max_size=5).map(tuple) for one in (st.booleans(), integers, finite, texts)),
)
works = st.builds(
    Work,
    algorithm=short_names,
    size=st.integers(0, limits.MAX_VECTOR_BYTES // 8),
    dtype=st.sampled_from(Dtype),
    privacy=st.none() | privacies,
    settings=st.dictionaries(setting_names, values, max_size=6),
    summing=st.builds(Summing, short_names, short_names, st.binary(max_size=50), st.integers(1, 10_000)),
    coding=st.builds(Coding, short_names, st.dictionaries(setting_names, values, max_size=3)),
)
SEALING_KEY = bytes(range(32))


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    n = draw(st.integers(1, 5))
    fold = draw(
        st.none()
        | st.integers(2, 20).flatmap(lambda of: st.builds(Fold, st.integers(0, of - 1), st.just(of)))
    )
    scaling = st.builds(Scaling, st.tuples(*[means] * n), st.tuples(*[scales] * n), means, scales)
    arrays = {
        name: np.array(
            draw(st.lists(st.integers(0, 255), max_size=8)), dtype=draw(st.sampled_from(ARRAY_TYPES))
        )
        for name in draw(st.lists(st.sampled_from(["a", "b", "parts/c"]), unique=True))
    }
    return Task(
        key=TaskKey(
            WorkspaceName(draw(names)),
            RunId(draw(st.uuids())),
            RoundNumber(draw(st.integers(0, 2**31 - 1))),
            draw(st.integers(0, 2**16 - 1)),
            StepName(draw(short_names)),
            NodeName(draw(names)),
        ),
        reading=Reading(
            draw(st.none() | names),
            tuple(draw(st.lists(names, min_size=n, max_size=n))),
            draw(names),
            draw(st.floats(0, 0.99)) if fold is None else fold.share,
            draw(st.integers(0, 2**63 - 1)),
            draw(st.sampled_from([(), ("0", "1"), ("-1", "1.5", "1e15"), ("ill", "gesünder", "")])),
            fold,
        ),
        work=draw(works),
        scaling=draw(st.none() | scaling),
        state=make_state(**arrays),
        budget=draw(st.none() | st.builds(Budget, st.floats(1e-9, 1e6), st.floats(1e-12, 0.0999))),
        compliance_mode=draw(st.sampled_from(["none", "HIPAA", "GDPR", "BOTH"])),
    )


@given(tasks())
def test_a_task_survives_the_wire_bit_for_bit(task: Task) -> None:
    header, body = encode_task(task, SEALING_KEY)
    read = task_from_header(header)
    received = received_task(read, body)
    nothing = make_state()
    assert replace(received.task, state=nothing) == replace(task, state=nothing)
    assert [type(one) for _, one in sorted(received.task.work.settings.items())] == [
        type(one) for _, one in sorted(task.work.settings.items())
    ]
    assert received.state == state_to_bytes(received.task.state) == state_to_bytes(task.state)
    assert (read.body_bytes, received.sealing_key) == (len(body), SEALING_KEY)
    assert (received.header, received.sha256) == (header, task_sha256(header))
    assert encode_task(received.task, SEALING_KEY) == (header, body)


def a_task() -> Task:
    return Task(
        TaskKey(WorkspaceName("w"), RunId(UUID(int=7)), RoundNumber(1), 0, StepName("train"), NodeName("n")),
        Reading(None, ("x",), "y", 0.2, 5),
        Work(
            "logistic_regression",
            2,
            privacy=Privacy(Mechanism(1.0, 0.1, 10), 100.0),
            settings={"batch_size": 32, "learning_rate": 0.1, "range_lowers": (0.0, 1.0)},
            summing=Summing(note=b"a note"),
        ),
        Scaling((1.0,), (2.0,)),
        make_state(parameters=np.array([1.0, 2.0])),
    )


def test_the_order_of_settings_and_arrays_does_not_matter() -> None:
    task = a_task()
    turned = dict(sorted(task.work.settings.items(), reverse=True))
    other = replace(task, work=replace(task.work, settings=turned))
    assert list(turned) != list(task.work.settings)
    assert encode_task(other, SEALING_KEY) == encode_task(task, SEALING_KEY)
    one, two = np.ones(1), np.zeros(2)
    there, back = (
        replace(task, state=state) for state in (make_state(a=one, b=two), make_state(b=two, a=one))
    )
    assert encode_task(there, SEALING_KEY) == encode_task(back, SEALING_KEY)


@pytest.mark.parametrize(
    "other",
    [
        replace(a_task(), state=make_state(parameters=np.array([1.0, 2.0 + 2**-51]))),
        replace(a_task(), state=make_state(other=np.array([1.0, 2.0]))),
        replace(a_task(), key=replace(a_task().key, exchange=1)),
        replace(a_task(), work=replace(a_task().work, summing=Summing(note=b"A note"))),
        replace(a_task(), work=replace(a_task().work, summing=Summing(note=b"a note\0"))),
        replace(a_task(), work=replace(a_task().work, settings={"batch_size": 33})),
        replace(a_task(), work=replace(a_task().work, settings={"batch_size": 32.0})),
    ],
)
def test_another_state_note_exchange_or_setting_is_another_task(other: Task) -> None:
    hashes = {task_sha256(encode_task(task, SEALING_KEY)[0]) for task in (a_task(), other)}
    assert len(hashes) == 2


def _set(path: str, value: object) -> Callable[[pb.TaskHeader], None]:
    def change(header: pb.TaskHeader) -> None:
        *parents, last = path.split(".")
        target: object = header
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, last, value)

    return change


def _settings(*given: pb.Setting) -> Callable[[pb.TaskHeader], None]:
    def change(header: pb.TaskHeader) -> None:
        header.work.ClearField("settings")
        header.work.settings.extend(given)

    return change


def _numbered(count: int) -> list[pb.Setting]:
    return [pb.Setting(name=f"s{number:04}", flag=True) for number in range(count)]


NO_NAMES = ("", "A", "a-b", "a b", "a.b", "ä", "a\n", "a" * 65)

MALFORMED: list[tuple[str, Callable[[pb.TaskHeader], None]]] = [
    ("run id", _set("key.run", b"short")),
    ("out of range", _set("key.round", 2**31)),
    ("number of the exchange", _set("key.exchange", 2**16)),
    ("empty or too long", _set("key.workspace", "")),
    ("empty or too long", _set("key.node", "n" * 256)),
    ("empty or too long", _set("reading.target", "a\0b")),
    *[("name of the step", _set("key.step", name)) for name in NO_NAMES],
    *[("name of the algorithm", _set("work.algorithm", name)) for name in NO_NAMES],
    *[("name of the sum protocol is", _set("work.summing.protocol", name)) for name in NO_NAMES],
    *[("name of the sum protocol's stage", _set("work.summing.stage", name)) for name in NO_NAMES],
    *[("name of the codec", _set("work.codec", name)) for name in NO_NAMES],
    ("number of features", lambda h: h.reading.ClearField("features")),
    ("validation_split", _set("reading.validation_split", 1.0)),
    ("validation_split", _set("reading.validation_split", float("nan"))),
    ("no known type", lambda h: h.ClearField("work")),
    ("no known type", _set("work.dtype", 0)),
    ("no known type", _set("work.dtype", 77)),
    ("asked for is too large", _set("work.size", limits.MAX_VECTOR_BYTES // 8 + 1)),
    ("asked for is too large", _set("work.size", 2**64 - 1)),
    ("bits of a value", _set("work.bits", 7)),
    ("more values are to be sent", _set("work.sent", limits.MAX_VECTOR_BYTES)),
    ("number of nodes", _set("work.summing.nodes", 0)),
    ("number of nodes", _set("work.summing.nodes", 10_001)),
    ("differ in length", lambda h: h.scaling.means.append(1.0)),
    ("differ in length", lambda h: h.reading.features.append("z")),
    ("compliance_mode is none of none, HIPAA, GDPR, BOTH", _set("compliance_mode", "SOX")),
    ("compliance_mode", _set("compliance_mode", "")),
    ("state is too large", _set("body.state_bytes", limits.MAX_VECTOR_BYTES + 1)),
    ("note is too large", _set("body.note_bytes", limits.MAX_NOTE_BYTES + 1)),
    ("SHA-256", _set("body.sha256", b"")),
    ("sealing key", _set("sealing_key", b"x" * 31)),
    ("more than 256 settings", _settings(*_numbered(257))),
    *[("a setting's name", _settings(pb.Setting(name=name, flag=True))) for name in (*NO_NAMES, "1a")],
    ("in the order of their names", _settings(*reversed(_numbered(2)))),
    ("each once", _settings(*_numbered(1), *_numbered(1))),
    ("setting a has no value", _settings(pb.Setting(name="a"))),
    *[("setting a is not finite", _settings(pb.Setting(name="a", number=x))) for x in (float("nan"), float("inf"))],
    ("setting a is not finite", _settings(pb.Setting(name="a", numbers=pb.Numbers(values=[0.0, float("nan")])))),
    ("setting a has more than 10000 values", _settings(pb.Setting(name="a", flags=pb.Flags(values=[True] * 10_001)))),
    ("setting a has more than 10000 values", _settings(pb.Setting(name="a", integers=pb.Integers(values=[0] * 10_001)))),
    ("setting a has more than 10000 values", _settings(pb.Setting(name="a", numbers=pb.Numbers(values=[0] * 10_001)))),
    ("setting a has more than 10000 values", _settings(pb.Setting(name="a", texts=pb.Texts(values=[""] * 10_001)))),
    ("setting a is too long", _settings(pb.Setting(name="a", text="x" * 10_001))),
    ("holds a NUL", _settings(pb.Setting(name="a", texts=pb.Texts(values=["b", "\0"])))),
]  # fmt: skip

SMALLEST, NAN, INF = 5e-324, float("nan"), float("inf")


def _private(name: str, value: float) -> Callable[[pb.TaskHeader], None]:
    return _set(f"work.privacy.mechanism.{name}", value)


def _budget(epsilon: float, delta: float) -> Callable[[pb.TaskHeader], None]:
    return lambda header: header.budget.CopyFrom(pb.Budget(epsilon=epsilon, delta=delta))


OUTSIDE: list[tuple[str, Callable[[pb.TaskHeader], None]]] = [
    *[(f"noise_multiplier {x:g} is", _private("noise_multiplier", x)) for x in (1e-300, 1e-5, 0.0, 0.009, SMALLEST, NAN, INF, 2e6)],
    *[(f"sampling_rate {x:g} is", _private("sampling_rate", x)) for x in (1e-300, 9e-10, 1.5, 0.0, NAN)],
    *[(f"steps {x:g} is", _private("steps", x)) for x in (0, 10_000_001)],
    *[(f"weight {x:g} is", _set("work.privacy.weight", x)) for x in (0.0, -1.0, 1.1e12, NAN, INF)],
    ("noise_multiplier 0 is", lambda h: h.work.privacy.ClearField("mechanism")),
    *[(f"a scale {x:g} is", lambda h, x=x: h.scaling.scales.__setitem__(0, x)) for x in (0.0, 1e-300, SMALLEST, 1e300, -1.0, NAN, INF)],
    *[(f"target_scale {x:g} is", _set("scaling.target_scale", x)) for x in (0.0, 1e-300, 1e300, NAN)],
    *[(f"a mean {x:g} is", lambda h, x=x: h.scaling.means.__setitem__(0, x)) for x in (1e300, -1e300, NAN, INF)],
    *[(f"target_mean {x:g} is", _set("scaling.target_mean", x)) for x in (1e300, NAN)],
    *[(f"epsilon {x:g} is", _budget(x, 1e-5)) for x in (0.0, -1.0, 1.1e6, NAN, INF)],
    *[(f"delta {x:g} is", _budget(1.0, x)) for x in (0.0, 0.1, 1.0, NAN)],
]  # fmt: skip


@pytest.mark.parametrize(("message", "change"), OUTSIDE)
def test_a_number_outside_its_bounds_is_refused_by_its_name(
    message: str, change: Callable[[pb.TaskHeader], None]
) -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    change(header)
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert message in raised.value.message
    assert raised.value.code is ErrorCode.INVALID_VALUE


def test_the_refusal_of_a_number_says_its_bounds() -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    _private("noise_multiplier", 1e-5)(header)
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert raised.value.message == "noise_multiplier 1e-05 is outside 0.01 … 1e+06"


def _state_with(number: float) -> bytes:
    """The bytes of a state that holds a number which no state may hold."""
    marked = state_to_bytes(make_state(parameters=np.array([0.5, 1234.5])))
    return marked.replace(np.float64(1234.5).tobytes(), np.float64(number).tobytes())


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        *[(_state_with(number), "not finite") for number in (NAN, INF, -INF)],
        (b"", "not a state"),
        (b"\0" * 100, "not a state"),
        (state_to_bytes(make_state(a=np.ones(3)))[:-1], "hold together"),
        (state_to_bytes(make_state(a=np.ones(3))) + b"x", "hold together"),
        (state_to_bytes(make_state(aa=np.ones(3))).replace(b"aa", b"\xff\xff"), "hold together"),
    ],
)
def test_a_state_that_is_none_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(FederatedError, match=message) as raised:
        with_state(a_task(), raw)
    assert raised.value.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("shape", [(2**64 - 1,), (2**32, 2**32), (0, 2**64 - 1), (0, 2**63)])
def test_a_state_of_an_absurd_shape_is_refused_and_not_allocated(shape: tuple[int, ...]) -> None:
    raw = bytearray(state_to_bytes(make_state(a=np.empty((0,) * len(shape)))))
    raw[-8 * len(shape) :] = np.array(shape, dtype="<u8").tobytes()
    with pytest.raises(FederatedError, match="hold together"):
        with_state(a_task(), bytes(raw))


@pytest.mark.parametrize(
    "value", [None, 2**63, -(2**63) - 1, 1j, b"x", [1], {}, (1, "a"), (True, 2), (None,), (2**64,), "\ud800"]
)
def test_what_is_no_setting_is_not_sent(value: object) -> None:
    task = replace(a_task(), work=replace(a_task().work, settings={"a": value}))  # type: ignore[dict-item]
    with pytest.raises(FederatedError, match="setting a is of no type that settings have"):
        encode_task(task, SEALING_KEY)


def test_numbers_of_which_some_are_whole_travel_as_numbers() -> None:
    task = replace(a_task(), work=replace(a_task().work, settings={"a": (1, 2.5), "b": np.float64(0.1)}))
    assert task_from_header(encode_task(task, SEALING_KEY)[0]).task.work.settings == {
        "a": (1.0, 2.5),
        "b": 0.1,
    }


@pytest.mark.parametrize("length", [1, 31, 33])
def test_the_hash_of_a_state_that_is_not_sent_has_32_bytes(length: int) -> None:
    work = replace(a_task().work, summing=Summing("newer", "shares", state_sha256=bytes(length)))
    raw = encode_task(replace(a_task(), work=work), SEALING_KEY)[0]
    with pytest.raises(FederatedError, match="the state's SHA-256"):
        task_from_header(raw)


@pytest.mark.parametrize(
    ("rounding", "reason"),
    [
        (Rounding(32, 1.0, 1.0), "8 or 16 bits"),
        (Rounding(8, 0.0, 1.0), "norm to which updates are cut"),
        (Rounding(8, float("nan"), 1.0), "norm to which updates are cut"),
        (Rounding(8, 1.0, 0.5), "what all nodes weigh"),
    ],
)
def test_a_lattice_that_cannot_be_is_refused(rounding: Rounding, reason: str) -> None:
    work = replace(a_task().work, summing=Summing("newer", "shares", rounding=rounding))
    raw = encode_task(replace(a_task(), work=work), SEALING_KEY)[0]
    with pytest.raises(FederatedError, match=reason):
        task_from_header(raw)


@pytest.mark.parametrize(
    ("summing", "reason"),
    [
        (Summing("newer", "shares", fraction=57), "bits behind the point are out of range"),
        (Summing("newer", rounding=Rounding(8, 1.0, 1.0), fraction=30), "few bits, or put into 64"),
    ],
)
def test_a_fraction_that_cannot_be_is_refused(summing: Summing, reason: str) -> None:
    work = replace(a_task().work, summing=summing)
    raw = encode_task(replace(a_task(), work=work), SEALING_KEY)[0]
    with pytest.raises(FederatedError, match=reason):
        task_from_header(raw)


@pytest.mark.parametrize("fraction", [None, 0, 56])
def test_how_many_bits_are_behind_the_point_is_told(fraction: int | None) -> None:
    work = replace(a_task().work, summing=Summing("newer", "shares", fraction=fraction))
    read = task_from_header(encode_task(replace(a_task(), work=work), SEALING_KEY)[0]).task
    assert read.work == work


def test_a_step_algorithm_protocol_or_codec_that_is_unknown_here_is_for_others_to_refuse() -> None:
    work = replace(
        a_task().work,
        algorithm="newer",
        summing=Summing(
            "newer",
            "shares",
            nodes=4,
            trust="distributed",
            state_sha256=bytes(range(32)),
            rounding=Rounding(16, 2.5, 4_096.0),
        ),
        coding=Coding("newer", {"effort": 3}),
    )
    task = replace(a_task(), key=replace(a_task().key, step=StepName("newer")), work=work)
    read = task_from_header(encode_task(task, SEALING_KEY)[0]).task
    assert (read.key, read.work) == (task.key, work)


@pytest.mark.parametrize(
    "coding", [Coding("zstd", bits=8, sent=3), Coding(bits=16), Coding("lz4", sent=1)], ids=str
)
def test_how_an_update_travels_is_told_of_real_numbers_alone(coding: Coding) -> None:
    def sent(dtype: Dtype) -> Work:
        task = replace(a_task(), work=replace(a_task().work, size=5, dtype=dtype, coding=coding))
        return task_from_header(encode_task(task, SEALING_KEY)[0]).task.work

    assert sent(Dtype.FLOAT32).coding == coding
    with pytest.raises(FederatedError, match="elements of a ring are neither rounded nor left out"):
        sent(Dtype.UINT64)


def test_no_option_allows_what_the_wire_refuses() -> None:
    workspace = OPTIONS[OptionKind.WORKSPACE]
    noise = workspace["noise_multiplier"]
    assert (noise.minimum, noise.maximum) == (bounds.NOISE_MULTIPLIER.least, bounds.NOISE_MULTIPLIER.most)
    budget, delta = workspace["privacy_budget"], workspace["delta"]
    assert (budget.above, budget.maximum) == (0, bounds.MOST_EPSILON)
    assert (delta.above, delta.below) == (0, bounds.BELOW_DELTA)


@pytest.mark.parametrize(("message", "change"), MALFORMED)
def test_a_malformed_task_is_refused_by_name_of_what_is_wrong(
    message: str, change: Callable[[pb.TaskHeader], None]
) -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    change(header)
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert message in raised.value.message
    assert raised.value.code in (ErrorCode.INVALID_VALUE, ErrorCode.NOT_SUPPORTED)


def test_a_field_of_another_version_is_refused_and_not_ignored() -> None:
    header, _ = encode_task(a_task(), SEALING_KEY)
    unknown_field_99 = b"\x98\x06\x01"
    with pytest.raises(FederatedError) as raised:
        task_from_header(header + unknown_field_99)
    assert raised.value.code is ErrorCode.NOT_SUPPORTED


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(FederatedError, match="cannot be decoded"):
        task_from_header(b"\xff" * 40)


def test_an_encoding_reads_back_the_same() -> None:
    encoding = Encoding(
        (
            ColumnEncoding("x", ColumnKind.CATEGORY, "indicators", ("", "a", "ä"), True, True),
            ColumnEncoding("y", ColumnKind.ARRAY, elements=3, missing_indicator=True),
            ColumnEncoding("scan", ColumnKind.IMAGE, elements=12_288, shape=(3, 64, 64)),
            ColumnEncoding("z", form="bins", edges=(-1.5, 0.0, 2.0), scaled=False),
        ),
        ("no", "yes", "unknown"),
    )
    task = replace(
        a_task(),
        reading=replace(a_task().reading, features=("x", "y", "scan", "z")),
        scaling=None,
        encoding=encoding,
    )
    assert task_from_header(encode_task(task, SEALING_KEY)[0]).task.encoding == encoding
    assert Encoding.from_json(json.loads(json.dumps(encoding.to_json()))) == encoding
    # Known again by its bytes, and still no encoding of other features.
    other = replace(task, reading=replace(task.reading, features=("x", "z", "scan", "y")))
    with pytest.raises(FederatedError, match="encoding and features differ"):
        task_from_header(encode_task(other, SEALING_KEY)[0])


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding((ColumnEncoding("y"),)),
        Encoding((ColumnEncoding("x", ColumnKind.CATEGORY, "indicators", ("b", "a")),)),
        Encoding((ColumnEncoding("x", ColumnKind.CATEGORY, "indicators", ("a", "a" * 121)),)),
        Encoding((ColumnEncoding("x", form="bins", edges=(1.0, 1.0)),)),
        Encoding((ColumnEncoding("x", form="bins", edges=(np.nan,)),)),
        Encoding((ColumnEncoding("x", ColumnKind.ARRAY, elements=0),)),
        Encoding((ColumnEncoding("x", ColumnKind.IMAGE, elements=6),)),
        Encoding((ColumnEncoding("x", ColumnKind.IMAGE, elements=6, shape=(1, 2, 4)),)),
        Encoding((ColumnEncoding("x", ColumnKind.ARRAY, elements=6, shape=(6,)),)),
        Encoding((ColumnEncoding("x", shape=(1, 1, 1)),)),
        Encoding((ColumnEncoding("x", ColumnKind.CATEGORY, "indicators", ("a",)),)),
        Encoding((ColumnEncoding("x"),), ("only",)),
        Encoding((ColumnEncoding("x"),), ("twice", "twice")),
    ],
)
def test_what_is_no_encoding_of_the_features_is_refused(encoding: Encoding) -> None:
    header = encode_task(replace(a_task(), scaling=None, encoding=encoding), SEALING_KEY)[0]
    with pytest.raises(FederatedError) as raised:
        task_from_header(header)
    assert raised.value.code is ErrorCode.INVALID_VALUE


def test_a_header_beyond_its_limit_is_refused_on_both_sides() -> None:
    levels = tuple(f"{number:0120}" for number in range(1000))
    wide = replace(a_task().reading, features=("x",) * 20)
    columns = (ColumnEncoding("x", ColumnKind.CATEGORY, "indicators", levels),) * 20
    task = replace(a_task(), reading=wide, scaling=None, encoding=Encoding(columns))
    with pytest.raises(FederatedError) as raised:
        encode_task(task, SEALING_KEY)
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT
    with pytest.raises(FederatedError, match="too large"):
        task_from_header(b"\0" * (limits.MAX_HEADER_BYTES + 1))


def test_a_note_or_state_beyond_its_limit_is_not_sent() -> None:
    noted = replace(a_task().work, summing=Summing(note=b"\0" * (limits.MAX_NOTE_BYTES + 1)))
    large = make_state(a=np.zeros(limits.MAX_VECTOR_BYTES // 8))
    for task in (replace(a_task(), work=noted), replace(a_task(), state=large)):
        with pytest.raises(FederatedError) as raised:
            encode_task(task, SEALING_KEY)
        assert raised.value.code is ErrorCode.PROGRAM_LIMIT


def test_a_field_of_another_version_deep_inside_is_refused_too() -> None:
    header = pb.TaskHeader.FromString(encode_task(a_task(), SEALING_KEY)[0])
    header.work.settings[0].MergeFromString(b"\x98\x06\x01")
    with pytest.raises(FederatedError) as raised:
        task_from_header(header.SerializeToString())
    assert raised.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize("classes", [("1",), ("1", "1.0"), ("a", "b", "a"), ("0", "x" * 121), ("0", "\0")])
def test_the_classes_of_a_target_are_several(classes: tuple[str, ...]) -> None:
    task = a_task()
    header, _ = encode_task(replace(task, reading=replace(task.reading, classes=classes)), SEALING_KEY)
    with pytest.raises(FederatedError) as caught:
        task_from_header(header)
    assert caught.value.code is ErrorCode.INVALID_VALUE
