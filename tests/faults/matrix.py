"""What is killed or stopped, where, and in which kind of run: the table behind test_matrix.py.

What always holds: every fault point that a run of training reaches is tried in every kind of run that reaches
it; `ELSEWHERE` names the others, which have tests of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heliosdb.faults import POINTS

ROUNDS = 3


@dataclass(frozen=True)
class Kind:
    """A kind of run. model, policy: options of its model and of its workspace.

    parts: of the node's steps, who dials and who gathers. budget: whether its answers have noise in them, so that no
    two runs have the same bits. forked_with: what nodes' processes import beforehand.
    """

    model: Mapping[str, object]
    policy: Mapping[str, object] = field(default_factory=dict)
    budget: bool = False
    dials: bool = False
    gathers: bool = False
    rows: int = 200
    forked_with: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Their names; the first one gathers for the last, where there is an aggregator."""
        return ("east", "north", "west") if self.gathers else ("east", "north")


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
    "coordinator.run.waits": "a run that has no turn",
    "coordinator.run.gave_way": "a run that has no turn",
    "coordinator.search.decided": "series of runs",
}
"""Of the points of runs: those that none of these runs reaches, and where they are."""


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


# Of every kind of run that has no tests of its own beside this table, one kill of either side; of others, what
# those tests leave out.
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


def points_of_runs() -> set[str]:
    """The fault points that a run of training can reach."""
    of_runs = ("run", "round", "task", "update", "aggregated", "version", "search", "charge", "release")
    parts = (*of_runs, "gather", "term", "sum")
    return {one for one in POINTS if one.split(".")[0] != "extension" and one.split(".")[1] in parts}
