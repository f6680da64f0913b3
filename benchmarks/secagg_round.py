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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class _Pair:
    plain: Case
    secure: Case

    @classmethod
    def of(cls, nodes: int, size: int) -> _Pair:
        case = Case(nodes, Model.wide(size, "float64"), rounds=4)
        return cls(case, replace(case, secure=True))


def whole_rounds(sizes: Sequence[int], values: int) -> Iterator[Figure]:
    """Figures of federations of so many nodes."""
    pairs = [_Pair.of(nodes, values) for nodes in sizes]
    cases = [case for pair in pairs for case in (pair.plain, pair.secure)]
    cluster = create_cluster(free_port(), fsync=True, max_connections=2 * max(sizes) + 100, parent=scratch())
    with contextlib.ExitStack() as stack:
        stack.callback(remove_cluster, cluster)
        prepare(cluster)
        federation = Federation(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch()))))
        nodes = stack.enter_context(serving(cluster, federation, cases, 2))
        keep_durably(cluster)
        for pair in pairs:
            yield from _compare(cluster, federation, nodes[: pair.plain.nodes], pair)


def _compare(
    cluster: Cluster, federation: Federation, nodes: Sequence[Node], pair: _Pair
) -> Iterator[Figure]:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    sent: dict[bool, int] = {}
    worked = {False: 0.0, True: 0.0}
    with contextlib.ExitStack() as stack:
        there = {
            case.secure: stack.enter_context(
                coordinated(cluster, federation, nodes, case, case.workspaces[0])
            )
            for case in (pair.plain, pair.secure)
        }
        for _ in range(_RUNS):
            for case in (pair.plain, pair.secure):
                coordinator = there[case.secure].coordinator.pid
                before = processes.processor_time(coordinator)
                run = one_run(there[case.secure], case)
                worked[case.secure] += processes.processor_time(coordinator) - before
                seconds[case.secure].append(run.seconds)
                sent[case.secure] = sum(one.sent + one.received for one in run.exchanges)
    plain, secure = (statistics.median(seconds[kind]) for kind in (False, True))
    name = f"{pair.plain.nodes} nodes, a whole round"
    yield Figure(f"{name}: plain", plain, "s")
    yield Figure(f"{name}: secure", secure, "s")
    yield Figure(f"{name}: secure ÷ plain", secure / plain, "times", MOST_TIMES)
    yield Figure(f"{name}: coordinator's processor time ÷ plain", worked[True] / worked[False], "times")
    yield Figure(f"{name}: bytes to and fro ÷ plain", sent[True] / sent[False], "times", MOST_BYTES)
