"""A sum protocol of three messages, for tests: a secret is drawn, the vector is masked with it, the mask is told."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from heliosdb.aggregation.sums import Prepared, Shape, Signatory, Stage, SumProtocol
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Dtype, Vector
from heliosdb.node.sum_terms import SumTerms
from heliosdb.parts.protocols import PROTOCOLS

SECRET_BYTES = 16


class Site:
    """Who speaks in a protocol, with keys of HMAC: one for each name. peers: whom it knows; None: everybody."""

    def __init__(self, name: str = "node", peers: Collection[str] | None = None) -> None:
        self.fingerprint = fingerprint_of(name)
        self.terms = SumTerms()
        self.participants = 3 if peers is None else len({name, *peers})
        self._peers = None if peers is None else {fingerprint_of(one) for one in peers}

    def sign(self, message: bytes) -> bytes:
        """Sign as this name."""
        return _signature(self.fingerprint, message)

    def knows(self, fingerprint: bytes, message: bytes, signature: bytes) -> bool:
        """Whether a name that is known has signed."""
        known = self._peers is None or fingerprint in self._peers
        return known and signature == _signature(fingerprint, message)


def fingerprint_of(name: str) -> bytes:
    """What stands for the SHA-256 of a name's certificate."""
    return hashlib.sha256(name.encode()).digest()


def _signature(fingerprint: bytes, message: bytes) -> bytes:
    return hmac.digest(b"key of " + fingerprint, message, "sha256")


class Masked:
    """Masks with a node's own secret, so that one node's sum is told by its second and third message."""

    name = "masked"
    is_open = False
    stages: Sequence[Stage] = (Stage("draw", False), Stage("mask", True), Stage("tell", False))

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.carried: list[int] = []

    def with_settings(self, settings: object) -> Masked:
        """It has none."""
        return self

    def largest(self, size: int, nodes: int) -> float:
        """Any."""
        return np.inf

    def shape(self, stage: str, size: int, nodes: int) -> Shape:
        """Secrets are bytes, masked vectors integers."""
        del nodes
        return Shape(size, Dtype.UINT64) if stage == "mask" else Shape(SECRET_BYTES, Dtype.UINT8)

    def ask(self, stage: str, node: NodeName, heard: State) -> bytes:
        """Nothing."""
        return b""

    def take(self, stage: str, size: int, heard: State, answers: Mapping[NodeName, AnyVector]) -> State:
        """Nothing."""
        return NO_STATE

    def total(self, size: int, heard: State) -> Vector:
        """Never asked for: only a node's side is tried with this protocol."""
        raise AssertionError("a node opens no sum")

    def answer(
        self, stage: str, key: TaskKey, note: bytes, memory: State, *, site: Signatory
    ) -> tuple[AnyVector, State]:
        """See the class. The note `bad` is one that it does not understand."""
        self._ask(stage, note, memory)
        if stage == "draw":
            secret = np.frombuffer(secrets.token_bytes(SECRET_BYTES), dtype=np.uint8)
            return np.zeros(SECRET_BYTES, dtype=np.uint8), make_state(secret=secret)
        return memory["secret"].copy(), NO_STATE

    def prepare(self, key: TaskKey, note: bytes, size: int, memory: State, *, site: Signatory) -> Prepared:
        """See the class."""
        self._ask("mask", note, memory)
        secret = memory["secret"]

        def hide(vector: Vector) -> AnyVector:
            self.carried.append(vector.size)
            values = np.rint(vector * 2.0**20).astype(np.int64).astype(np.uint64)
            return values + mask(secret, values.size)

        return Prepared(hide, self.keep(memory, size))

    def _ask(self, stage: str, note: bytes, memory: State) -> None:
        self.asked.append((stage, dict(memory)))
        if note == b"bad":
            raise invalid_value("the note is none")
        if note == b"worse":
            raise KeyError("secret text")

    def keep(self, memory: State, size: int) -> State:
        """What it keeps of the stage that carries the vector."""
        del size
        return memory


class Failing(Masked):
    """Does not get on with its vector."""

    name = "failing"

    def prepare(self, key: TaskKey, note: bytes, size: int, memory: State, *, site: Signatory) -> Prepared:
        """Ready for none."""

        def hide(vector: Vector) -> AnyVector:
            raise ValueError(f"these are {vector}")

        return Prepared(hide, super().prepare(key, note, size, memory, site=site).keeps)


class Marking(Masked):
    """Keeps something in the carrying stage, which is no vector's: there is none yet."""

    name = "marking"

    def keep(self, memory: State, size: int) -> State:
        return make_state(**memory, size=np.array([size], dtype=np.uint64))


def spoken(
    summing: SumProtocol,
    stage: str,
    key: TaskKey,
    note: bytes,
    vector: Vector | None,
    memory: State,
    *,
    site: Signatory,
) -> tuple[AnyVector, State]:
    """What a node answers in any stage, and keeps; with a vector in the one that carries it."""
    if vector is None:
        return summing.answer(stage, key, note, memory, site=site)
    prepared = summing.prepare(key, note, vector.size, memory, site=site)
    return prepared.hide(vector), prepared.keeps


def mask(secret: np.ndarray, size: int) -> np.ndarray:
    """The mask of a secret."""
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(secret.tobytes(), "little")))
    return rng.integers(0, 2**64, size=size, dtype=np.uint64)


def unmasked(said: AnyVector, secret: AnyVector) -> Vector:
    """What was masked."""
    values: Vector = (said - mask(secret, said.size)).astype(np.int64) / 2.0**20
    return values


@contextmanager
def registered(*protocols: Masked) -> Iterator[None]:
    """Have these among the sum protocols."""
    before = dict(PROTOCOLS._entries)
    try:
        for one in protocols:
            PROTOCOLS.register(one.name, one)
        yield
    finally:
        PROTOCOLS._entries.clear()
        PROTOCOLS._entries.update(before)
        for one in protocols:
            PROTOCOLS._loaded.pop(one.name, None)
