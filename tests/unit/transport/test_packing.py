"""What a node closes, the coordinator opens to the same, whatever the codec; what a codec is fed is bounded."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from heliosdb.domain.coding import UNCHANGED, Coding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import Reading, Task, TaskKey, Work
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AnyVector, Dtype, vector_from_bytes
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.registry import Registry
from heliosdb.transport import codecs, limits
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.authority import Authority
from heliosdb.transport.lossy import pack, unpack
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.packing import close_update, encode_vector, open_update
from heliosdb.transport.sealing import SealingKey, seal_to
from heliosdb.transport.streams import cut
from heliosdb.transport.update_messages import SealedUpdate, decode_update_header, encode_update_header
from heliosdb.transport.verification import UpdateCollector, sign_update

NODE = Authority.create("authority").issue("node", ["localhost"])
SEALING = SealingKey.generate()
KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("train"), NodeName("n"))
SHA256 = b"s" * 32
FRONT = struct.pack("<4d", 2.0, *[float("nan")] * 3)


class Deltas:
    """Differences of the values' bytes, deflated; never inflated beyond the values asked for."""

    name = "deltas"

    def encode(self, vector: AnyVector, dtype: Dtype, settings: Any) -> bytes:
        raw = np.frombuffer(vector.astype(np.dtype(dtype.value).newbyteorder("<")).tobytes(), dtype=np.uint8)
        return zlib.compress(np.diff(raw, prepend=np.uint8(0)).tobytes())

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        inflater, expected = zlib.decompressobj(), length * dtype.itemsize
        deltas = inflater.decompress(raw, expected + 1)
        if len(deltas) != expected or not inflater.eof or inflater.unused_data:
            raise ValueError("not so many values")
        values = np.cumsum(np.frombuffer(deltas, dtype=np.uint8), dtype=np.uint8)
        return vector_from_bytes(values.tobytes(), dtype)

    def most(self, length: int, dtype: Dtype) -> int:
        return 64 + length * dtype.itemsize + length * dtype.itemsize // 1000


class Careless(Deltas):
    """Takes the sender's word for how much there is, and of which type."""

    name = "careless"

    def decode(self, raw: bytes, length: int, dtype: Dtype) -> AnyVector:
        inflated = zlib.decompress(raw)
        return vector_from_bytes(inflated, Dtype.FLOAT32 if len(inflated) == 4 * length else dtype)


class Boastful(Deltas):
    """Says that it needs less than it does."""

    name = "boastful"

    def most(self, length: int, dtype: Dtype) -> int:
        return 1


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with more codecs than the product has."""
    more = Registry("codec")
    for entry in CODECS.entries():
        more.register(entry.name, entry.part, entry.settings)
    for codec in (Deltas(), Careless(), Boastful()):
        more.register(codec.name, codec)
    monkeypatch.setattr(codecs, "CODECS", more)
    yield more


def task_with(codec: str, size: int, dtype: Dtype = Dtype.FLOAT64) -> Task:
    return Task(KEY, Reading(None, ("x",), "y", 0.0, 0), Work("a", size, dtype, coding=Coding(codec)))


def received(task: Task) -> ReceivedTask:
    return ReceivedTask(task, b"", SHA256, SEALING.public, b"")


def closed(task: Task, vector: AnyVector, usage: Usage | None = None) -> SealedUpdate:
    return close_update(NODE, received(task), encode_vector(task.work, vector), 2.0, usage, None, None)


def forged(task: Task, encoded: bytes, *, length: int, dtype: Dtype = Dtype.FLOAT64) -> SealedUpdate:
    """An update that a node which does not keep to its codec signs."""
    honest = closed(
        replace(task, work=replace(task.work, coding=UNCHANGED)), np.zeros(length, dtype=dtype.value)
    )
    ephemeral, payload = seal_to(SEALING.public, FRONT + encoded, KEY, SHA256)
    header = encode_update_header(
        replace(
            decode_update_header(honest.header),
            ephemeral_key=ephemeral,
            payload_bytes=len(payload),
            payload_sha256=hashlib.sha256(payload).digest(),
        )
    )
    return SealedUpdate(header, sign_update(NODE, header), payload)


def opened(task: Task, update: SealedUpdate) -> OpenedUpdate:
    collector = UpdateCollector(task)
    head = pb.SignedHeader(header=update.header, signature=update.signature)
    collector.take(pb.UpdateMessage(head=head).SerializeToString())
    for chunk in cut(update.payload):
        collector.take(pb.UpdateMessage(chunk=chunk).SerializeToString())
    return open_update(task, SHA256, collector.finish(), [NODE.certificate_pem], SEALING, traffic=(0, 0))


def rejection(task: Task, update: SealedUpdate) -> str:
    with pytest.raises(FederatedError) as raised:
        opened(task, update)
    assert raised.value.code is ErrorCode.UPDATE_REJECTED
    return raised.value.message


@pytest.mark.parametrize("codec", ["none", "deltas"])
@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("size", [0, 1, 7, 40_000])
def test_a_vector_arrives_to_the_bit_under_every_codec_and_type(codec: str, dtype: Dtype, size: int) -> None:
    rng = np.random.default_rng(size)
    vector = (rng.normal(size=size) if dtype.is_real else rng.integers(0, 200, size)).astype(dtype.value)
    task, usage = task_with(codec, size, dtype), Usage(1.5, 0.25, 1e6)
    update = opened(task, closed(task, vector, usage))
    assert (update.vector.dtype.name, update.weight, update.usage) == (dtype.value, 2.0, usage)
    assert update.vector.tobytes() == vector.tobytes()


@pytest.mark.parametrize("codec", ["none", "deltas", "zstd", "lz4"])
@pytest.mark.parametrize(("bits", "sent"), [(8, None), (16, None), (None, 7), (8, 4_000)])
def test_an_update_in_part_arrives_as_what_was_packed(codec: str, bits: int | None, sent: int | None) -> None:
    rng, coding = np.random.default_rng(0), Coding(codec, bits=bits, sent=sent)
    vector = rng.normal(size=40_000).astype(np.float32)
    task = replace(task_with(codec, vector.size), work=Work("a", vector.size, Dtype.FLOAT32, coding=coding))
    packed = pack(vector, coding, rng)
    update = closed(task, packed)
    assert decode_update_header(update.header).length == vector.size
    assert len(update.payload) < vector.nbytes // 1.9
    found = opened(task, update).vector
    assert found.tobytes() == unpack(packed, vector.size, Dtype.FLOAT32, coding).tobytes()


def test_a_small_update_is_announced_as_large_as_it_will_be() -> None:
    size, coding = 100_000, Coding("zstd", bits=8, sent=10)
    task = replace(task_with("zstd", size), work=Work("a", size, Dtype.FLOAT32, coding=coding))
    update = closed(task, pack(np.ones(size, dtype=np.float32), coding, np.random.default_rng(0)))
    assert len(update.payload) < 1000
    head = pb.SignedHeader(header=update.header, signature=update.signature)
    announced = UpdateCollector(task).take(pb.UpdateMessage(head=head).SerializeToString())
    assert announced == 4 * size


def test_an_update_that_is_not_packed_as_its_task_asks_is_not_closed() -> None:
    task = replace(task_with("none", 10), work=Work("a", 10, Dtype.FLOAT32, coding=Coding(bits=8)))
    for vector in (np.zeros(10, dtype=np.float32), np.zeros(13, dtype=np.uint8)):
        with pytest.raises(FederatedError, match="not packed as its task asks") as raised:
            closed(task, vector)
        assert raised.value.code is ErrorCode.INTERNAL


def test_bytes_that_no_packing_makes_are_rejected_with_the_reason() -> None:
    task = replace(task_with("none", 100), work=Work("a", 100, Dtype.FLOAT32, coding=Coding(bits=8)))
    assert "cannot be decoded" in rejection(task, forged(task, bytes(103), length=100, dtype=Dtype.FLOAT32))
    infinite = np.array([np.inf], dtype="<f4").tobytes() + bytes(100)
    said = rejection(task, forged(task, infinite, length=100, dtype=Dtype.FLOAT32))
    assert "cannot be unpacked" in said


def test_a_codec_makes_an_update_shorter() -> None:
    plain, packed = (
        closed(task_with(codec, 10_000), np.zeros(10_000)).payload for codec in ("none", "deltas")
    )
    assert len(packed) < len(plain) // 100


def test_what_a_release_cost_is_told_in_the_clear_and_signed() -> None:
    task, mechanism, spending = task_with("none", 1), Mechanism(2.0, 0.5, 7), Spending(0.5, 0.25)
    update = opened(
        task,
        close_update(
            NODE, received(task), encode_vector(task.work, np.ones(1)), 1.0, None, mechanism, spending
        ),
    )
    assert (update.mechanism, update.spending) == (mechanism, spending)


def test_a_bomb_is_rejected_by_the_codecs_own_bound() -> None:
    bomb = zlib.compress(bytes(200_000))
    task = task_with("deltas", 100)
    assert len(bomb) < Deltas().most(100, Dtype.FLOAT64)
    assert "cannot be decoded" in rejection(task, forged(task, bomb, length=100))


def test_what_a_careless_codec_makes_of_a_bomb_is_not_used() -> None:
    task = task_with("careless", 100)
    bomb = zlib.compress(bytes(200_000))
    assert "not of the announced length and type" in rejection(task, forged(task, bomb, length=100))


def test_values_of_another_type_than_announced_are_not_used() -> None:
    task = task_with("careless", 100)
    narrow = zlib.compress(bytes(400))
    assert "not of the announced length and type" in rejection(task, forged(task, narrow, length=100))


def test_a_payload_longer_than_the_codec_makes_is_rejected_before_it_is_taken() -> None:
    task = task_with("deltas", 100)
    largest = forged(task, bytes(Deltas().most(100, Dtype.FLOAT64)), length=100)
    assert "cannot be decoded" in rejection(task, largest)
    longer = forged(task, bytes(Deltas().most(100, Dtype.FLOAT64) + 1), length=100)
    collector = UpdateCollector(task)
    head = pb.UpdateMessage(head=pb.SignedHeader(header=longer.header, signature=longer.signature))
    with pytest.raises(FederatedError, match="larger than such a vector"):
        collector.take(head.SerializeToString())


@pytest.mark.parametrize("encoded", [b"", b"x", zlib.compress(bytes(800))[:-1], zlib.compress(bytes(792))])
def test_a_payload_that_is_short_or_broken_is_rejected(encoded: bytes) -> None:
    task = task_with("deltas", 100)
    assert "cannot be decoded" in rejection(task, forged(task, encoded, length=100))


def test_bytes_behind_the_values_are_rejected() -> None:
    task = task_with("deltas", 100)
    assert "cannot be decoded" in rejection(task, forged(task, zlib.compress(bytes(800)) + b"x", length=100))


def test_values_that_are_not_finite_are_rejected_after_decoding() -> None:
    task = task_with("deltas", 2)
    assert "not finite" in rejection(task, closed(task, np.array([1.0, np.inf])))


def test_another_shape_than_the_task_asks_for_is_rejected() -> None:
    task = task_with("deltas", 3)
    assert "2 values instead of 3" in rejection(task, closed(task, np.ones(2)))
    assert "float32 instead of float64" in rejection(task, closed(task, np.ones(3, dtype=np.float32)))


@pytest.mark.parametrize(
    ("vector", "code"),
    [
        (np.ones(2, dtype=np.int64), ErrorCode.INTERNAL),
        (np.ones(2, dtype=bool), ErrorCode.INTERNAL),
        (np.array(["a"]), ErrorCode.INTERNAL),
        (np.ones((2, 2)), ErrorCode.INTERNAL),
        (np.array(1.0), ErrorCode.INTERNAL),
        (np.zeros(limits.MAX_VECTOR_BYTES + 1, dtype=np.uint8), ErrorCode.PROGRAM_LIMIT),
    ],
)
def test_what_is_no_vector_that_travels_is_not_closed(vector: AnyVector, code: ErrorCode) -> None:
    with pytest.raises(FederatedError) as raised:
        closed(task_with("none", 2), vector)
    assert raised.value.code is code


def test_a_codec_that_needs_more_than_it_says_closes_nothing() -> None:
    with pytest.raises(FederatedError, match="own bound") as raised:
        closed(task_with("boastful", 3), np.ones(3))
    assert raised.value.code is ErrorCode.INTERNAL


def test_a_codec_that_is_not_there_is_not_supported_on_both_sides() -> None:
    task = task_with("newer", 3)
    for attempt in (lambda: closed(task, np.ones(3)), lambda: UpdateCollector(task)):
        with pytest.raises(FederatedError) as raised:
            attempt()
        assert raised.value.code is ErrorCode.NOT_SUPPORTED
