"""Seconds per round, the coordinator's memory and processor time, and what a node holds, over real mTLS.

Ten parameters: a logistic model of nine features, one local epoch over 200 rows a node, in plain rounds and in
private ones, under a budget that the run spends whole. More parameters: the algorithms of `benchmarks.wide`, which the
daemons load as a part; there the computation is cheap, and what is seen is what it costs to carry parameters out and
updates back. Their nodes have rows enough for the rule that bounds the parameters of plain answers. A round is one
exchange of training; one that is evaluated has what an evaluation takes besides.

Seconds are wall time from the second training round's start to the last one's, divided by the rounds between: what
lies between rounds counts; the first round, in which processes load what they need, and the evaluation at a run's end
do not. Medians over the runs. Beside them stands the yardstick, measured right after: a bare gRPC exchange of the bytes
that the catalog says a round sent to a node and had of it (`benchmarks.yardstick`). A federation with aggregators has the
first nodes gather for the others, each for as many; what it is held against is the same federation without them.
The coordinator's processor time is that of whole runs, round 0 and the evaluation at the end included, once it has met
all nodes; its memory the highest resident
memory in the life of its process (VmHWM), of which each row has its own.

    make bench NAME=round                                       # what README.md has
    make bench NAME=round ARGS="--whole"                        # every combination
    make bench NAME=round ARGS="--nodes 100 --parameters 1000000 --quantization 0 8 --aggregators 0 10"
    make bench NAME=round ARGS="--nodes 1000 --aggregators 32 --databases 100"

Each row is printed when it is there, and kept: with --resume the rows that build/bench/round.json has are not measured
again. A row that fails says why, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from benchmarks import processes
from benchmarks.harness import Figure, keep, publish, read_figures
from benchmarks.round_cases import SMALL, Case, Measure, chosen, usual
from benchmarks.round_federation import Coordinated, Node, coordinated, keep_durably, prepare, serving, train
from benchmarks.yardstick import Exchange, Yardstick, yardstick
from heliosdb.domain.ids import RunId
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.places import scratch
from tests.support.ports import free_port

SIZES, PARAMETERS = (3, 10, 100, 300), (SMALL, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Run:
    """seconds: of a round. exchanges: of one, with the bytes that they took of a node on average."""

    seconds: float
    exchanges: tuple[Exchange, ...]


def main() -> None:
    """Measure what is asked for."""
    given = _parser().parse_args()
    if given.rounds is not None and given.rounds < 3:
        sys.exit("--rounds must be at least 3")
    cases = _cases(given)
    done = read_figures("round") if given.resume else []
    known = {figure.name for figure in done}
    left = [case for case in cases if case.name not in known]
    processes.end_on_signals()
    if left:
        _measure_all(given, left, done)
    publish("round", done)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.round", description="Seconds per round.")
    parser.add_argument("--whole", action="store_true", help="all sizes and parameters, each kind of rounds")
    parser.add_argument("--nodes", type=int, nargs="+", help="sizes of federations")
    parser.add_argument("--parameters", type=int, nargs="+", help="10, or of wide models")
    parser.add_argument("--kinds", nargs="+", choices=("float32", "float64"), help="of wide models' numbers")
    parser.add_argument("--measure", type=Measure, nargs="+", choices=tuple(Measure), help="which rounds")
    parser.add_argument("--quantization", type=int, nargs="+", choices=(0, 8, 16), help="bits of updates")
    parser.add_argument("--aggregators", type=int, nargs="+", help="how many nodes gather; 0: none")
    parser.add_argument("--runs", type=int, help="of each row; default: 3, or 1 of many nodes or parameters")
    parser.add_argument("--rounds", type=int, help="of a run, at least 3; default: 5 to 30 by nodes")
    parser.add_argument("--processes", type=int, default=2, help="that serve the nodes")
    parser.add_argument("--databases", type=int, help="at most, shared by nodes; default: one a node")
    parser.add_argument("--directory", type=Path, default=scratch(), help="of the server and of all files")
    parser.add_argument("--resume", action="store_true", help="leave out the rows that there are")
    return parser


def _cases(given: argparse.Namespace) -> list[Case]:
    named = (given.nodes, given.parameters, given.kinds, given.measure, given.quantization, given.aggregators)
    if given.whole or any(one is not None for one in named):
        measures = tuple(Measure) if given.whole else (Measure.PLAIN,)
        cases = chosen(
            nodes=given.nodes or (SIZES if given.whole else (100,)),
            parameters=given.parameters or (PARAMETERS if given.whole else (SMALL,)),
            kinds=given.kinds or ("float32",),
            measures=given.measure or measures,
            bits=given.quantization or ((0, 8) if given.whole else (0,)),
            aggregators=given.aggregators or ((0, 10) if given.whole else (0,)),
        )
    else:
        cases = usual()
    runs = {} if given.runs is None else {"runs": given.runs}
    rounds = {} if given.rounds is None else {"rounds": given.rounds}
    return [replace(case, **runs, **rounds) for case in cases]


def _measure_all(given: argparse.Namespace, cases: Sequence[Case], done: list[Figure]) -> None:
    most = max(case.nodes for case in cases)
    # A node has two connections at most, its training process one, which those of a process share.
    cluster = create_cluster(free_port(), fsync=True, max_connections=2 * most + 100, parent=given.directory)
    with contextlib.ExitStack() as stack:
        stack.callback(remove_cluster, cluster)
        prepare(cluster)
        federation = Federation(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory))))
        nodes = stack.enter_context(serving(cluster, federation, cases, given.processes, given.databases))
        keep_durably(cluster)
        flat = max((case.nodes for case in cases if not case.aggregators), default=0)
        names = [node.name for node in nodes[:flat]]
        bare = stack.enter_context(yardstick(federation.directory, names, given.processes))
        for case in cases:
            print(f"{case.name} …", file=sys.stderr, flush=True)
            try:
                found = list(_measure(cluster, federation, nodes[: case.nodes], case, bare, done))
            except Exception:  # noqa: BLE001 -- one row that fails must not cost the others
                traceback.print_exc()
                continue
            done += found
            print("; ".join(f"{one.name}: {one.value:.4g} {one.unit}" for one in found), flush=True)
            keep("round", done)


def _measure(
    cluster: Cluster,
    federation: Federation,
    nodes: Sequence[Node],
    case: Case,
    bare: Yardstick,
    done: Sequence[Figure],
) -> Iterator[Figure]:
    runs, processor, memory = [], 0.0, 0.0
    for workspace in case.workspaces:
        with coordinated(cluster, federation, nodes, case, workspace) as there:
            began = processes.processor_time(there.coordinator.pid)
            for _ in range(1 if case.is_private else case.runs):
                runs.append(one_run(there, case))
            processor += processes.processor_time(there.coordinator.pid) - began
            memory = max(memory, processes.peak_memory(there.coordinator.pid))
    seconds = statistics.median(run.seconds for run in runs)
    yield Figure(case.name, seconds, "s", _target(case))
    if not case.aggregators:
        expected = bare.seconds(case.nodes, runs[-1].exchanges)
        yield Figure(f"{case.name}: a bare exchange", expected, "s")
        yield Figure(f"{case.name}: ÷ a bare exchange", seconds / expected, "times", _target_beside(case))
    each = processor / (case.runs * (case.rounds + 1))
    yield Figure(f"{case.name}: coordinator's processor time a round", each, "s")
    yield Figure(f"{case.name}: coordinator's peak memory", memory, "MB", _target_memory(case))
    yield from _beside_others(case, seconds, each, {one.name: one.value for one in done})


def _beside_others(case: Case, seconds: float, processor: float, done: dict[str, float]) -> Iterator[Figure]:
    """How a row stands beside another that was measured in the same sitting."""
    if case.aggregators:
        flat = replace(case, aggregators=0).name
        said = f"{flat}: coordinator's processor time a round"
        if said in done:
            target = "<= 0.3" if case.aggregators == 10 else ""
            yield Figure(
                f"{case.name}: coordinator's processor time ÷ flat", processor / done[said], "times", target
            )
        if flat in done:
            yield Figure(f"{case.name}: ÷ flat", seconds / done[flat], "times")
    fewer = replace(case, nodes=100).name
    if case.nodes == 300 and fewer in done:
        yield Figure(f"{case.name}: ÷ 100 nodes", seconds / done[fewer], "times", "<= 3.0")


def _target(case: Case) -> str:
    if case.nodes != 100 or case.aggregators or case.is_private:
        return ""
    if case.model.parameters == SMALL:
        return "<= 0.1"
    if case.model.parameters == 1_000_000 and case.measure is Measure.PLAIN:
        return "<= 0.8" if case.bits == 8 else "<= 1.5"
    return ""


def _target_beside(case: Case) -> str:
    tight = {SMALL: "<= 2", 1_000_000: "<= 1.3"}
    return tight.get(case.model.parameters, "") if case.nodes == 100 and not case.is_private else ""


def _target_memory(case: Case) -> str:
    return "<= 300" if (case.nodes, case.model.parameters) == (100, 1_000_000) else ""


def one_run(there: Coordinated, case: Case) -> Run:
    """Train once. AssertionError where a round was without a node."""
    connection, run = there.connection, train(there, case)
    [(seconds, rounds, nodes)] = connection.execute(
        "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8, count(*), min(participating_nodes)"
        " FROM federated_training_status('risk') WHERE round_number > 1"
    ).fetchall()
    assert (rounds, nodes) == (case.rounds - 1, case.nodes), (rounds, nodes)
    return Run(float(seconds / (rounds - 1)), _exchanges(connection, run, case.rounds - 1))


def _exchanges(connection: psycopg.Connection, run: RunId, number: int) -> tuple[Exchange, ...]:
    found = connection.execute(
        "SELECT avg(bytes_sent)::bigint, avg(bytes_received)::bigint FROM federated.participation"
        " WHERE run_id = %s AND round_number = %s GROUP BY exchange ORDER BY exchange",
        [run, number],
    ).fetchall()
    return tuple(Exchange(sent, received) for sent, received in found)


if __name__ == "__main__":
    main()
