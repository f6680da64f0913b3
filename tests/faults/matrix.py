"""What is killed or stopped, where, and in which kind of run: the table behind test_matrix.py.

What always holds: every fault point that a run of training reaches is tried in every kind of run; `ELSEWHERE` names
the points of other runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heliosdb.faults import POINTS

ROUNDS = 3


@dataclass(frozen=True)
class Kind:
    """A kind of run. model, policy: options of its model and of its workspace.

    budget: whether answers have noise in them, so that no two runs have the same bits. dials: whether its nodes dial.
    gathers: whether one of them is an aggregator. sums: whether they add up in secret. rows: of a node. forked_with: what its nodes' processes import first.
    """

    model: Mapping[str, object]
    policy: Mapping[str, object] = field(default_factory=dict)
    budget: bool = False
    dials: bool = False
    gathers: bool = False
    sums: bool = False
    rows: int = 200
    forked_with: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Their names; the first one gathers for the last, where there is an aggregator."""
        return ("east", "north", "west") if self.gathers or self.sums else ("east", "north")


_TREES = {"algorithm": "gradient_boosting", "trees": ROUNDS, "max_depth": 3, "learning_rate": 0.3}
_NETWORK = {
    "algorithm": "neural_network",
    "layers": "[4, 1]",
    "optimizer": "adam",
    "learning_rate": 0.01,
}
_CODED = {"compression": "zstd", "quantization": 8, "gradient_sparsification": 0.5}

KINDS: Mapping[str, Kind] = {
    "descent": Kind({}),
    "newton": Kind({"optimizer": "newton", "learning_rate": None}),
    "trees": Kind(_TREES),
    "network": Kind(_NETWORK, rows=1500, forked_with="torch"),
    "coded": Kind(_CODED),
    "budget": Kind({}, {"privacy_budget": 4}, budget=True, rows=400),
    "dialling": Kind({}, {"communication_protocol": "https"}, dials=True),
    "aggregator": Kind({}, gathers=True),
}

LEADS = (
    "coordinator.run.claimed",
    "coordinator.round.opened:2",
    "coordinator.task.sent:4",
    "coordinator.update.received:4",
    "coordinator.aggregated:2",
    "coordinator.round.closed:2",
    "coordinator.round.closed:3",
    "coordinator.version.committed",
)
ANSWERS = ("node.task.received:3", "node.release.committed:3", "node.update.sent:3")
PAYS = ("node.charge.committed:3",)
GATHERS = ("node.gather.received:2", "node.term.added", "node.sum.made:2")

ELSEWHERE = {
    "coordinator.run.waits": "runs that wait for nodes",
    "coordinator.run.gave_way": "more runs than turns",
    "coordinator.search.decided": "series of runs",
    "coordinator.task.asked_again": "asynchronous runs",
    "coordinator.sum.noised": "runs whose coordinator adds the noise",
}
"""Of the points of runs: those that none of these reaches, and which do."""


@dataclass(frozen=True)
class Fault:
    """One process of one run is killed, or stopped and continued, at a point. at: a fault point, and which time."""

    kind: str
    at: str
    action: str = "kill"

    @property
    def name(self) -> str:
        """In a test's name."""
        return f"{self.kind}-{self.at}-{self.action}"

    @property
    def setting(self) -> str:
        """As HELIOSDB_FAULTS has it."""
        return f"{self.at}={self.action}"


def all_faults(prefix: str) -> list[Fault]:
    """The whole matrix. prefix: of the points: coordinator or node."""
    faults = []
    for name, kind in KINDS.items():
        reached = [*LEADS, *ANSWERS, *(PAYS if kind.budget else ()), *(GATHERS if kind.gathers else ())]
        faults += [Fault(name, point) for point in reached]
        faults += [Fault(name, "coordinator.aggregated:2", "stop"), Fault(name, ANSWERS[0], "stop")]
    return [one for one in faults if one.at.startswith(prefix)]


FEW = {
    "newton-coordinator.aggregated:2-kill",
    "newton-node.release.committed:3-kill",
    "newton-coordinator.aggregated:2-stop",
    "trees-coordinator.update.received:4-kill",
    "trees-node.update.sent:3-kill",
    "budget-node.charge.committed:3-kill",
    "budget-node.task.received:3-stop",
    "budget-coordinator.update.received:4-kill",
}
"""What `make test` tries: kinds of run that have no tests of kills of their own beside this table."""


def points_of_runs() -> set[str]:
    """The fault points that a run of training can reach."""
    of_runs = ("run", "round", "task", "update", "aggregated", "version", "search", "charge", "release")
    parts = (*of_runs, "gather", "term", "sum")
    return {one for one in POINTS if one.split(".")[0] != "extension" and one.split(".")[1] in parts}
