"""A hostile update is rejected with its reason: each way of lying, built by a node that holds a valid key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import Privacy, Reading, Task, TaskKey, Work
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AnyVector, Dtype
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.authority import Authority
from heliosdb.transport.messages import NodeRefusedError, ReceivedTask
from heliosdb.transport.packing import close_update, encode_vector, open_update
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.streams import cut
from heliosdb.transport.update_messages import UpdateHeader, decode_update_header, encode_update_header
from heliosdb.transport.verification import UpdateCollector, sign_update

AUTHORITY = Authority.create("authority")
NODE, OTHER = (AUTHORITY.issue(name, ["localhost"]) for name in ("node", "other"))
SEALING = SealingKey.generate()
KEY = TaskKey(
    WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(0), 0, StepName("statistics"), NodeName("n")
)
TASK = Task(KEY, Reading(None, ("x",), "y", 0.0, 0), Work("a", 3))
SHA256 = b"s" * 32
VECTOR = np.array([1.0, -2.0, 3.5])
MECHANISM, SPENDING = Mechanism(2.0, 0.5, 7), Spending(0.5, 0.25)


def sealed_update(
    vector: AnyVector = VECTOR,
    weight: float = 10.0,
    *,
    usage: Usage | None = None,
    sealed_for: TaskKey = KEY,
) -> tuple[UpdateHeader, bytes]:
    """What a node closes; where it was sealed for another key, the header says KEY all the same."""
    received = ReceivedTask(replace(TASK, key=sealed_for), b"", SHA256, SEALING.public, b"")
    closed = close_update(
        NODE, received, encode_vector(received.task.work, vector), weight, usage, None, None
    )
    return replace(decode_update_header(closed.header), key=KEY), closed.payload


def messages(header: UpdateHeader, payload: bytes, *, signer: object = NODE) -> list[bytes]:
    raw = encode_update_header(header)
    head = pb.UpdateMessage(head=pb.SignedHeader(header=raw, signature=sign_update(signer, raw)))  # type: ignore[arg-type]
    return [head.SerializeToString()] + [
        pb.UpdateMessage(chunk=chunk).SerializeToString() for chunk in cut(payload)
    ]


def receive(raw: Iterable[bytes], *, task: Task = TASK, expected: Shape | None = None) -> OpenedUpdate:
    collector = UpdateCollector(task, expected)
    for message in raw:
        collector.take(message)
    return open_update(task, SHA256, collector.finish(), [NODE.certificate_pem], SEALING, traffic=(1, 2))


def rejection(raw: Iterable[bytes], *, task: Task = TASK, expected: Shape | None = None) -> str:
    with pytest.raises(FederatedError) as raised:
        receive(raw, task=task, expected=expected)
    assert raised.value.code is ErrorCode.UPDATE_REJECTED
    return raised.value.message


def test_an_honest_update_is_opened_exactly() -> None:
    update = receive(messages(*sealed_update()))
    assert update.vector.tobytes() == VECTOR.tobytes()
    assert (update.weight, update.bytes_sent, update.bytes_received) == (10.0, 1, 2)
    assert update.usage is None


def test_what_a_computation_took_is_told_exactly_or_not_at_all() -> None:
    usage = Usage(1 / 3, 0.25, 123456.0)
    assert receive(messages(*sealed_update(usage=usage))).usage == usage


@pytest.mark.parametrize(
    "usage",
    [
        Usage(-1.0, 0.0, 0.0),
        Usage(np.inf, 0.0, 0.0),
        Usage(0.0, np.nan, 0.0),
        Usage(0.0, 1e300, 0.0),
        Usage(0.0, 0.0, 1e300),
        Usage(np.nan, np.nan, 0.0),
    ],
)
def test_time_and_memory_that_cannot_be_are_rejected(usage: Usage) -> None:
    assert "time and memory cannot be" in rejection(messages(*sealed_update(usage=usage)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_rejected(value: float) -> None:
    assert "not finite" in rejection(messages(*sealed_update(np.array([1.0, value, 2.0]))))


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_no_positive_number_is_rejected(weight: float) -> None:
    assert "weight" in rejection(messages(*sealed_update(weight=weight)))


def test_a_wrong_length_is_rejected() -> None:
    assert "4 values instead of 3" in rejection(messages(*sealed_update(np.ones(4))))
    assert "0 values instead of 3" in rejection(messages(*sealed_update(np.ones(0))))


def test_a_wrong_type_of_values_is_rejected() -> None:
    narrow = sealed_update(VECTOR.astype(np.float32))
    assert "type float32 instead of float64" in rejection(messages(*narrow))
    header, payload = sealed_update()
    raw = pb.UpdateHeader.FromString(encode_update_header(header))
    raw.dtype = 0  # type: ignore[assignment]
    assert "no known type" in rejection(_raw_messages(raw, payload))


def test_bytes_of_another_type_than_announced_are_rejected() -> None:
    header, payload = sealed_update(VECTOR.astype(np.float32))
    assert "cannot be decoded" in rejection(messages(replace(header, dtype=Dtype.FLOAT64), payload))


@pytest.mark.parametrize("dtype", [Dtype.UINT8, Dtype.UINT32, Dtype.UINT64])
def test_elements_of_a_ring_arrive_as_they_are(dtype: Dtype) -> None:
    vector = np.array([0, 1, np.iinfo(dtype.value).max], dtype=dtype.value)
    update = receive(messages(*sealed_update(vector)), expected=Shape(3, dtype))
    assert update.vector.dtype == vector.dtype
    assert update.vector.tolist() == vector.tolist()


def test_the_expected_shape_is_the_callers_and_not_the_works() -> None:
    longer = messages(*sealed_update(np.ones(5, dtype=np.uint32)))
    assert receive(longer, expected=Shape(5, Dtype.UINT32)).vector.tolist() == [1] * 5
    assert "3 values instead of 5" in rejection(messages(*sealed_update()), expected=Shape(5, Dtype.FLOAT64))


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ("workspace", replace(KEY, workspace=WorkspaceName("v"))),
        ("run", replace(KEY, run=RunId(UUID(int=2)))),
        ("round", replace(KEY, round=RoundNumber(1))),
        ("exchange", replace(KEY, exchange=1)),
        ("step", replace(KEY, step=StepName("train"))),
        ("node", replace(KEY, node=NodeName("m"))),
    ],
)
def test_an_update_of_another_place_is_rejected(what: str, key: TaskKey) -> None:
    header, payload = sealed_update(sealed_for=key)
    assert f"another {what}" in rejection(messages(replace(header, key=key), payload))
    # Claiming the right place does not help: the seal knows.
    assert "does not open" in rejection(messages(header, payload))


def test_a_replay_of_another_tasks_answer_is_rejected() -> None:
    header, payload = sealed_update()
    assert "another task" in rejection(messages(replace(header, task_sha256=b"r" * 32), payload))


def test_an_update_signed_by_another_node_is_rejected() -> None:
    assert "not the node's" in rejection(messages(*sealed_update(), signer=OTHER))


def test_a_header_changed_after_signing_is_rejected() -> None:
    header, payload = sealed_update()
    honest = pb.UpdateMessage.FromString(messages(header, payload)[0])
    honest.head.header = encode_update_header(replace(header, spending=Spending(0.1, 0.1)))
    assert "signature" in rejection([honest.SerializeToString(), *messages(header, payload)[1:]])


def test_changed_payload_bytes_are_rejected() -> None:
    header, payload = sealed_update()
    changed = payload[:-1] + bytes([payload[-1] ^ 1])
    assert "not what its header says" in rejection(messages(header, changed))
    rehashed = replace(header, payload_sha256=hashlib.sha256(changed).digest())
    assert "does not open" in rejection(messages(rehashed, changed))


def test_more_or_fewer_bytes_than_announced_are_rejected() -> None:
    header, payload = sealed_update()
    assert "longer than announced" in rejection(messages(header, payload + b"x"))
    assert "shorter than announced" in rejection(messages(header, payload[:-1]))


def test_an_oversize_announcement_is_rejected_before_a_byte_of_it() -> None:
    header, _ = sealed_update()
    length = limits.MAX_VECTOR_BYTES // 8 + 1
    huge = replace(header, length=length, payload_bytes=limits.payload_bytes(8 * length))
    assert "too large" in rejection(messages(huge, b"")[:1], expected=Shape(length, Dtype.FLOAT64))
    larger = replace(header, payload_bytes=limits.payload_bytes(8 * 3 + 1))
    assert "larger than such a vector" in rejection(messages(larger, b"")[:1])
    boundless = replace(header, payload_bytes=2**64 - 1)
    assert "larger than such a vector" in rejection(messages(boundless, b"")[:1])


def test_a_payload_that_cannot_hold_a_weight_is_rejected_by_its_announcement() -> None:
    header, _ = sealed_update()
    short = replace(header, payload_bytes=limits.payload_bytes(0) - 1)
    assert "too short" in rejection(messages(short, b"")[:1])


def test_a_payload_with_fewer_values_than_announced_is_rejected() -> None:
    header, payload = sealed_update(VECTOR[:2])
    assert "cannot be decoded" in rejection(messages(replace(header, length=3), payload))


def test_messages_out_of_order_are_rejected() -> None:
    head, chunk = messages(*sealed_update())
    assert "out of order" in rejection([chunk, head])
    assert "out of order" in rejection([head, head])
    assert "empty" in rejection([])
    assert "shorter" in rejection([head])
    assert "out of order" in rejection([pb.UpdateMessage().SerializeToString()])


def test_bytes_that_are_no_message_are_rejected() -> None:
    assert "cannot be decoded" in rejection([b"\xff\xff\xff"])


def test_an_update_that_names_no_cost_is_rejected_where_its_task_is_private() -> None:
    private = replace(TASK, work=replace(TASK.work, privacy=Privacy(MECHANISM, 1.0)))
    header, payload = sealed_update()
    for one in (header, replace(header, mechanism=MECHANISM), replace(header, spending=SPENDING)):
        assert "not private" in rejection(messages(one, payload), task=private)
    charged = receive(
        messages(replace(header, mechanism=MECHANISM, spending=SPENDING), payload), task=private
    )
    assert (charged.mechanism, charged.spending) == (MECHANISM, SPENDING)


def test_a_message_without_the_vector_of_a_private_task_need_name_no_cost() -> None:
    private = replace(TASK, work=replace(TASK.work, privacy=Privacy(MECHANISM, 1.0)))
    collector = UpdateCollector(private)
    for message in messages(*sealed_update()):
        collector.take(message)
    opened = open_update(
        private,
        SHA256,
        collector.finish(),
        [NODE.certificate_pem],
        SEALING,
        traffic=(1, 2),
        private=False,
    )
    assert opened.mechanism is None


@pytest.mark.parametrize("noise", [0.0, 1e-300, np.nan, np.inf])
def test_a_cost_that_no_task_asks_for_is_rejected(noise: float) -> None:
    header, payload = sealed_update()
    charged = replace(header, mechanism=Mechanism(noise), spending=SPENDING)
    assert "noise_multiplier" in rejection(messages(charged, payload))


def test_a_refusal_is_raised_as_such() -> None:
    refusal = pb.UpdateMessage(refusal=pb.Refusal(code="BUDGET_EXHAUSTED", message="no"))
    with pytest.raises(NodeRefusedError) as raised:
        receive([refusal.SerializeToString()])
    assert raised.value.reason is ErrorCode.BUDGET_EXHAUSTED


def _raw_messages(header: pb.UpdateHeader, payload: bytes) -> list[bytes]:
    raw = header.SerializeToString()
    head = pb.UpdateMessage(head=pb.SignedHeader(header=raw, signature=sign_update(NODE, raw)))
    return [head.SerializeToString()] + [
        pb.UpdateMessage(chunk=chunk).SerializeToString() for chunk in cut(payload)
    ]
