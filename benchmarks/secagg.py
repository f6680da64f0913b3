"""What hiding single updates costs: secure sums beside plain ones, all parties in one process.

Each node has a vector of its own. In each case as many nodes as it says are lost after they sent their shares and
before they send their vectors, which is the dearest moment: of each of these, the coordinator makes the masks
towards all who are left. Figures are processor seconds: the coordinator's of each message, the plain sum's of the
same vectors beside them, and the mean node's of each message; and how many bytes all parties send in all messages,
to and fro, for one byte of the plain sum. Keys are signed with ECDSA on P-256, as certificates are; transport, sealing
and databases are not in these figures, neither of the secure sum nor of the plain one. With them are those of whole
rounds of which nobody is lost (`benchmarks.secagg_round`). Beside them stands what of the vectors reaches the
coordinator where aggregators add masked ones up, and where updates are rounded before.

    make bench NAME=secagg [ARGS="--nodes 10 30 100 --size 100000 --lost 0 10 33 [--only sums|rounds]"]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import processes
from benchmarks.harness import Figure, publish
from benchmarks.secagg_round import whole_rounds
from heliosdb.aggregation.masked_sum import lattice_of
from heliosdb.aggregation.plain import PLAIN
from heliosdb.aggregation.secure_sum import SECURE_SUM, UNMASK, SecureSum
from heliosdb.aggregation.sums import SumProtocol
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Rounding, TaskKey
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.privacy.ring import Whole, Word

TARGET = {("unmask", 100, 10, 100_000): "<= 0.5"}

_SIGNED = ec.ECDSA(hashes.SHA256())


class Site:
    """A node of the benchmark and its peers. known: the public keys of all, by what stands for a certificate."""

    def __init__(self, name: NodeName, known: dict[bytes, ec.EllipticCurvePublicKey]) -> None:
        self.fingerprint = hashlib.sha256(name.encode()).digest()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._known = known
        known[self.fingerprint] = self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Sign as this node."""
        return self._key.sign(message, _SIGNED)

    def knows(self, fingerprint: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the node with that fingerprint has signed."""
        try:
            self._known[fingerprint].verify(signature, message, _SIGNED)
        except InvalidSignature:
            return False
        return True


@dataclass
class Cost:
    """Of one sum. server, node: processor seconds by message, the node's of the mean one; sent: bytes."""

    server: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    node: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sent: int = 0
    total: Vector | None = None


@contextmanager
def timed(times: dict[str, float], name: str, share: int = 1) -> Iterator[None]:
    """Add the processor seconds of what is done meanwhile, divided by `share`, to those of that name."""
    began = time.process_time()
    yield
    times[name] += (time.process_time() - began) / share


RINGS: Mapping[str, SecureSum] = {"": SECURE_SUM.in_ring(Word(40)), " in 128 bits": SECURE_SUM}
"""What updates of many values are added up in: a word each, and two where one is not enough."""


def secure(sums: SumProtocol, vectors: Mapping[NodeName, Vector], lost: int) -> Cost:
    """One secure sum, of which so many nodes are lost before they send their vectors."""
    cost, known = Cost(), dict[bytes, ec.EllipticCurvePublicKey]()
    sites = {node: Site(node, known) for node in vectors}
    size, heard, memories = next(iter(vectors.values())).size, NO_STATE, dict.fromkeys(vectors, NO_STATE)
    asked = list(vectors)
    for number, stage in enumerate(sums.stages):
        if stage.carries:
            asked = asked[lost:]
        answers: dict[NodeName, AnyVector] = {}
        for node in asked:
            with timed(cost.server, stage.name):
                note = sums.ask(stage.name, node, heard)
            said, before = vectors[node] if stage.carries else None, memories[node]
            with timed(cost.node, stage.name, len(asked)):
                answers[node], memories[node] = _answer(
                    sums, stage.name, _key(number, node), note, said, before, sites[node]
                )
            cost.sent += len(note) + answers[node].nbytes
        with timed(cost.server, stage.name):
            heard = sums.take(stage.name, size, heard, answers)
    with timed(cost.server, UNMASK):
        cost.total = sums.total(size, heard)
    return cost


def _answer(
    sums: SumProtocol, stage: str, key: TaskKey, note: bytes, vector: Vector | None, memory: State, site: Site
) -> tuple[AnyVector, State]:
    if vector is None:
        return sums.answer(stage, key, note, memory, site=site)
    prepared = sums.prepare(key, note, vector.size, memory, site=site)
    return prepared.hide(vector), prepared.keeps


def _key(exchange: int, node: NodeName) -> TaskKey:
    run = RunId(UUID(int=1))
    return TaskKey(WorkspaceName("w"), run, RoundNumber(1), exchange, StepName("train"), node)


def plain(vectors: Mapping[NodeName, Vector]) -> Cost:
    """The plain sum of the same vectors."""
    cost, size = Cost(), next(iter(vectors.values())).size
    with timed(cost.server, "sum"):
        heard = PLAIN.take("vector", size, NO_STATE, vectors)
    cost.total = PLAIN.total(size, heard)
    cost.sent = sum(vector.nbytes for vector in vectors.values())
    return cost


def measure(ring: str, nodes: int, size: int, percent: int) -> list[Figure]:
    """Figures of one case, whose secure sum is compared with its plain one."""
    rng = np.random.default_rng(nodes)
    vectors = {NodeName(f"node_{place:04}"): rng.normal(size=size) for place in range(nodes)}
    lost = nodes * percent // 100
    hidden, seen = secure(RINGS[ring], vectors, lost), plain(dict(list(vectors.items())[lost:]))
    assert hidden.total is not None
    assert seen.total is not None
    if not np.allclose(hidden.total, seen.total, rtol=2.0**-51, atol=nodes * 2.0**-41):
        raise SystemExit("the secure sum is not the plain one")
    case = f"{nodes} nodes{ring}, {lost} lost"
    figures = [Figure(f"{case}: coordinator, plain sum", seen.server["sum"], "s")]
    for stage in hidden.server:
        target = "" if ring else TARGET.get((stage, nodes, percent, size), "")
        figures.append(Figure(f"{case}: coordinator, {stage}", hidden.server[stage], "s", target))
    figures += [Figure(f"{case}: a node, {stage}", seconds, "s") for stage, seconds in hidden.node.items()]
    return [*figures, Figure(f"{case}: bytes / plain sum's", hidden.sent / seen.sent, "", "<= 2")]


_AGGREGATORS = 10


def saved(nodes: int, size: int) -> Iterator[Figure]:
    """What the coordinator receives of a sum's vectors: from each node, and from aggregators, which have added up
    masked ones; of values as they are, and of rounded ones, with the error of their sum."""
    aggregators = min(_AGGREGATORS, -(-nodes // 3))
    mean = np.random.default_rng(nodes).normal(size=size)
    mean /= np.linalg.norm(mean)
    for bits in (None, 16, 8):
        sums = RINGS[""] if bits is None else SECURE_SUM.in_ring(Whole(2 * bits))
        adding = sums.adding(size + 1)
        coded = "" if bits is None else f" of {bits} bits"
        name = f"{nodes} nodes{coded}: the coordinator receives"
        yield Figure(f"{name} of vectors", nodes * adding.sum_bytes / 1e6, "MB")
        yield Figure(f"{name} by {aggregators} aggregators", aggregators * adding.sum_bytes / 1e6, "MB")
        if bits is not None:
            yield from _rounded(Rounding(bits, 1.0, 1_000.0 * nodes), nodes, mean)


def _rounded(rounding: Rounding, nodes: int, mean: Vector) -> Iterator[Figure]:
    """Of updates of the longest length there may be: what rounding one takes, and how far the mean is off."""
    key = _key(2, NodeName("node"))
    lattice, rng = lattice_of(rounding, mean.size, key), np.random.default_rng(1)
    times: dict[str, float] = defaultdict(float)
    total = np.zeros(mean.size + 1)
    for _ in range(nodes):
        with timed(times, "round", nodes):
            total += lattice.encode(mean, 1_000.0, rng)
    found = lattice.decode(total)
    if found is None:
        raise SystemExit("the rounded sum is none")
    error = float(np.linalg.norm(found[0] / found[1] - mean))
    name = f"{nodes} nodes of {rounding.bits} bits"
    yield Figure(f"{name}: a node, rounding", times["round"], "s")
    yield Figure(f"{name}: error of the mean / max_update_norm", error, "")


def main() -> None:
    """Measure all cases, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--size", type=int, default=100_000, help="values of a vector")
    parser.add_argument("--lost", type=int, nargs="+", default=[0, 10, 33], help="percent of the nodes")
    parser.add_argument("--only", choices=("sums", "rounds"), help="sums in one process, or whole rounds")
    given = parser.parse_args()
    if min(given.nodes) < 3 or given.size < 1 or not all(0 <= one <= 33 for one in given.lost):
        parser.error("a secure sum takes 3 nodes, and opens while a third of them is lost")
    processes.end_on_signals()
    figures: list[Figure] = []
    if given.only != "rounds":
        for ring, nodes, percent in itertools.product(RINGS, given.nodes, given.lost):
            figures += measure(ring, nodes, given.size, percent)
    if given.only != "rounds":
        for nodes in given.nodes:
            figures += saved(nodes, given.size)
    if given.only != "sums":
        for figure in whole_rounds(given.nodes, given.size):
            print(f"{figure.name}: {figure.value:.4g} {figure.unit}", flush=True)
            figures.append(figure)
    publish("secagg", figures)


if __name__ == "__main__":
    main()
