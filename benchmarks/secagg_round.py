"""Whole rounds of `benchmarks.secagg`: secure sums beside plain ones, with databases, seals and sockets, in one sitting.

A round is one exchange of training, of the model `wide` of `benchmarks.wide`, whose computation is cheap, so that what
a sum costs is seen. Runs of the two kinds take turns. Seconds are of the median run; bytes are those of the last round,
to and fro, as the catalog has them; the coordinator's processor time is that of whole runs, round 0 and the evaluation
at the end included.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import processes
from benchmarks.harness import Figure
from benchmarks.round import one_run
from benchmarks.round_cases import Case, Model
from benchmarks.round_federation import Node, coordinated, keep_durably, prepare, serving
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.places import scratch
from tests.support.ports import free_port

MOST_TIMES, MOST_BYTES = "<= 3", "<= 2"
_RUNS = 3


def _kinds(nodes: int, size: int) -> dict[str, Case]:
    """The cases that are compared, by what figures call them; the first is the one beside which the others are."""
    plain = Case(nodes, Model.wide(size, "float64"), rounds=4)
    secure = replace(plain, secure=True)
    return {"plain": plain, "secure": secure, "secure, quantization = 16": replace(secure, bits=16)}


def whole_rounds(sizes: Sequence[int], values: int) -> Iterator[Figure]:
    """Figures of federations of so many nodes."""
    compared = [_kinds(nodes, values) for nodes in sizes]
    cases = [case for kinds in compared for case in kinds.values()]
    cluster = create_cluster(free_port(), fsync=True, max_connections=2 * max(sizes) + 100, parent=scratch())
    with contextlib.ExitStack() as stack:
        stack.callback(remove_cluster, cluster)
        prepare(cluster)
        federation = Federation(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch()))))
        nodes = stack.enter_context(serving(cluster, federation, cases, 2))
        keep_durably(cluster)
        for number, kinds in zip(sizes, compared, strict=True):
            yield from _compare(cluster, federation, nodes[:number], kinds)


@dataclass(slots=True)
class _Seen:
    """Of the runs of one kind. seconds: of a round; sent: bytes to and fro in the last one; worked: seconds of the
    coordinator's processor."""

    seconds: list[float] = field(default_factory=list)
    sent: int = 0
    worked: float = 0.0


def _compare(
    cluster: Cluster, federation: Federation, nodes: Sequence[Node], kinds: Mapping[str, Case]
) -> Iterator[Figure]:
    seen = {kind: _Seen() for kind in kinds}
    with contextlib.ExitStack() as stack:
        there = {
            kind: stack.enter_context(coordinated(cluster, federation, nodes, case, case.workspaces[0]))
            for kind, case in kinds.items()
        }
        for _ in range(_RUNS):
            for kind, case in kinds.items():
                coordinator = there[kind].coordinator.pid
                before = processes.processor_time(coordinator)
                run = one_run(there[kind], case)
                seen[kind].worked += processes.processor_time(coordinator) - before
                seen[kind].seconds.append(run.seconds)
                seen[kind].sent = sum(one.sent + one.received for one in run.exchanges)
    (_, plain), *others = seen.items()
    name = f"{len(nodes)} nodes, a whole round"
    yield Figure(f"{name}: plain", statistics.median(plain.seconds), "s")
    for kind, one in others:
        times = statistics.median(one.seconds) / statistics.median(plain.seconds)
        yield Figure(f"{name}: {kind}", statistics.median(one.seconds), "s")
        yield Figure(f"{name}: {kind} ÷ plain", times, "times", MOST_TIMES)
        yield Figure(
            f"{name}: {kind}, coordinator's processor time ÷ plain", one.worked / plain.worked, "times"
        )
        yield Figure(f"{name}: {kind}, bytes to and fro ÷ plain", one.sent / plain.sent, "times", MOST_BYTES)
