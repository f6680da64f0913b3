"""Seconds per round beside Flower and NVFlare: the same model on the same rows, in one sitting.

Logistic regression of nine features and an intercept, from zeros: a round is one local epoch over the 200 rows of a
node, as one batch, and the mean of the parameters by rows. A node is a process of its own (at the peers it starts
more), and all talk over sockets of one machine, ours and NVFlare's over mutual TLS; nobody evaluates between rounds. The
peers read inputs that are scaled already from a file; our nodes read their databases once a run, each coordinator commits each
round, and round 0, in which the scaling is found, is not counted. The peers are run as they come and with the best of
their own settings that was found. After each run its parameters are compared with those that numpy computes here.

Seconds are the median time from a round's start to the next one's by each system's own account, the first round left
out. A run of ours is made beside each run of a peer; ours is the median of these. Environments of the peers are made
under build/peers; a peer that cannot be installed is named and left out.

    make bench NAME=peers [ARGS="--nodes 3 10 --rounds 8 --only nvflare"]
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from psycopg import sql

from benchmarks.beside import flower, nvflare
from benchmarks.beside.work import (
    Heard,
    Rows,
    Unavailable,
    Vector,
    Work,
    average,
    seconds_per_round,
    write_rows,
)
from benchmarks.harness import Figure, publish
from benchmarks.round_cases import Case, Model
from benchmarks.round_federation import Coordinated, Node, coordinated, prepare, serving, train
from benchmarks.wide import FEATURES
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import Federation
from tests.support.ports import free_port

SIZES = (3, 10)
OWN_ROUNDS, ROUNDS = 30, 8
LEARNING_RATE = 0.1
TOLERANCE = 1e-6
RATIO = " ÷ ours"
TIMES = 50.0
"""What is asked of a peer's seconds, in ours, with ten nodes."""


@dataclass(frozen=True, slots=True)
class Peer:
    """install: gives where its programs are, or Unavailable. run: of such programs, a setting, work and an empty
    directory. settings: as it comes, and tuned."""

    name: str
    settings: Sequence[str]
    install: Callable[[], Path]
    run: Callable[[Path, str, Work, Path], Heard]


PEERS: Mapping[str, Peer] = {
    "flower": Peer(f"Flower {flower.VERSION}", tuple(flower.SETTINGS), flower.install, flower.run),
    "nvflare": Peer(f"NVFlare {nvflare.VERSION}", tuple(nvflare.SETTINGS), nvflare.install, nvflare.run),
}


@dataclass(frozen=True, slots=True)
class Scaled:
    """The rows of all nodes as they are trained on, and what they were scaled by; (features,)."""

    nodes: Sequence[Rows]
    means: Vector
    scales: Vector


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=SIZES, help="sizes of federations")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of a peer's run, at least 3")
    parser.add_argument("--only", nargs="+", choices=tuple(PEERS), default=tuple(PEERS), help="peers")
    given = parser.parse_args()
    if given.rounds < 3:
        parser.error("--rounds must be at least 3")
    # Whoever ends the benchmark ends what it started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    installed = dict(_installed(given.only))
    model = Model(
        len(FEATURES) + 1,
        "float64",
        f"algorithm = 'logistic_regression', features = {list(FEATURES)}, optimizer = 'sgd', local_epochs = 1,"
        f" batch_size = 200, learning_rate = {LEARNING_RATE}, validation_split = 0",
    )
    cases = [Case(nodes, model, rounds=OWN_ROUNDS) for nodes in given.nodes]
    cluster = create_cluster(free_port(), fsync=True, max_connections=max(given.nodes) + 100)
    try:
        prepare(cluster)
        with tempfile.TemporaryDirectory() as directory:
            figures = list(_measure(cluster, Path(directory), cases, installed, given.rounds))
    finally:
        remove_cluster(cluster)
    publish("peers", figures)
    print("\n" + "\n".join(_table(given.nodes, figures)))
    if len(figures) < len(given.nodes) * (1 + 2 * sum(len(peer.settings) for peer in installed)):
        raise SystemExit("not all of it could be measured")


def _table(sizes: Sequence[int], figures: Sequence[Figure]) -> Iterator[str]:
    """The same as Markdown: seconds, and in parentheses how many times ours, by system and number of nodes."""
    values = {figure.name: figure.value for figure in figures}
    names = dict.fromkeys(name.partition(" nodes, ")[2] for name in values if not name.endswith(RATIO))
    yield f"| | {' | '.join(f'{size} nodes' for size in sizes)} |"
    yield "|---" * (1 + len(sizes)) + "|"
    for name in names:
        cells = []
        for size in sizes:
            seconds, times = values.get(f"{size} nodes, {name}"), values.get(f"{size} nodes, {name}{RATIO}")
            cells.append("" if seconds is None else f"{seconds:.2g} s" + (f" ({times:.3g})" if times else ""))
        yield f"| {name} | {' | '.join(cells)} |"


def _installed(names: Sequence[str]) -> Iterator[tuple[Peer, Path]]:
    for name in names:
        try:
            yield PEERS[name], PEERS[name].install()
        except Unavailable as error:
            print(f"{PEERS[name].name} is left out: {error}", flush=True)


def _measure(
    cluster: Cluster, directory: Path, cases: Sequence[Case], installed: Mapping[Peer, Path], rounds: int
) -> Iterator[Figure]:
    federation = Federation(directory)
    most = max(case.nodes for case in cases)
    with serving(cluster, federation, cases, most) as nodes:
        for case in cases:
            taking_part = nodes[: case.nodes]
            scaled = _scaled([_rows(cluster, node, case) for node in taking_part])
            rows = directory / f"rows-{case.nodes}"
            rows.mkdir()
            write_rows(rows, scaled.nodes)
            work = Work(case.nodes, rounds, case.model.parameters, LEARNING_RATE, rows)
            with coordinated(cluster, federation, taking_part, case, case.workspaces[0]) as there:
                yield from _figures(there, case, work, scaled, installed)


def _figures(
    there: Coordinated,
    case: Case,
    work: Work,
    scaled: Scaled,
    installed: Mapping[Peer, Path],
) -> Iterator[Figure]:
    ours = [_ours(there, case, scaled)]
    found: dict[str, float] = {}
    for peer, programs in installed.items():
        for setting in peer.settings:
            name = f"{case.nodes} nodes, {peer.name}, {setting}"
            try:
                with tempfile.TemporaryDirectory() as empty:
                    heard = peer.run(programs, setting, work, Path(empty))
            except RuntimeError as error:
                print(f"{name} is left out: {error}", flush=True)
                continue
            _compare(name, heard.parameters, average(scaled.nodes, work.rounds, work.learning_rate))
            found[name] = seconds_per_round(heard.starts)
            ours.append(_ours(there, case, scaled))
            print(f"{name}: {found[name]:.3g} s a round; ours {ours[-1]:.3g} s", flush=True)
    own = statistics.median(ours)
    yield Figure(f"{case.nodes} nodes, ours", own, "s")
    for name, seconds in found.items():
        yield Figure(name, seconds, "s")
        yield Figure(f"{name}{RATIO}", seconds / own, "", f">= {TIMES:g}" if case.nodes == 10 else "")


def _ours(there: Coordinated, case: Case, scaled: Scaled) -> float:
    """Train, hold the parameters to those of numpy, and return seconds a round."""
    train(there, case)
    [(prediction,)] = there.connection.execute(
        "SELECT prediction FROM federated.version ORDER BY version DESC LIMIT 1"
    ).fetchall()
    slopes, shifts = np.array(prediction["slopes"]), np.array(prediction["shifts"])
    bias = prediction["intercept"] + slopes @ (scaled.means - shifts)
    expected = average(scaled.nodes, case.rounds, LEARNING_RATE)
    _compare(f"{case.nodes} nodes, ours", np.append(slopes * scaled.scales, bias), expected)
    began = there.connection.execute(
        "SELECT extract(epoch FROM started_at)::float8 FROM federated_training_status('risk')"
        " WHERE round_number > 0 ORDER BY round_number"
    ).fetchall()
    return seconds_per_round([start for (start,) in began])


def _compare(name: str, parameters: Vector, expected: Vector) -> None:
    difference = float(np.max(np.abs(parameters - expected)))
    if not difference <= TOLERANCE:
        raise SystemExit(
            f"{name}: the parameters are not those of federated averaging: off by {difference:.3g}"
        )


def _rows(cluster: Cluster, node: Node, case: Case) -> Rows:
    """What a node shares, as it is."""
    columns = sql.SQL(", ").join(map(sql.Identifier, (*FEATURES, "ill")))
    with cluster.connect(node.database) as connection:
        found = connection.execute(
            sql.SQL("SELECT {} FROM {}").format(columns, sql.Identifier(case.workspaces[0]))
        ).fetchall()
    values = np.array(found, dtype=float)
    return values[:, :-1], values[:, -1]


def _scaled(nodes: Sequence[Rows]) -> Scaled:
    """Scale by mean and standard deviation of all nodes' rows, and append a column of ones."""
    pooled = np.concatenate([features for features, _ in nodes])
    means, scales = pooled.mean(axis=0), pooled.std(axis=0)
    inputs = [
        (np.column_stack([(features - means) / scales, np.ones(len(features))]), targets)
        for features, targets in nodes
    ]
    return Scaled(inputs, means, scales)


if __name__ == "__main__":
    main()
