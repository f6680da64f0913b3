"""The catalog of one run, in memory: the statements that the coordinator's transactions consist of.

It keeps what a database would enforce and what the statements say; it is no SQL. A transaction that raises
leaves nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from heliosdb.catalog.connection import Row, Statement
from heliosdb.domain.run import Run
from heliosdb.domain.sealed_format import sealed_digest
from tests.support.runs import POLICY

Key = tuple[int, int, str, str]
"""Round, exchange, step, node."""

FIGURES = (
    "global_loss",
    "global_accuracy",
    "global_loss_std_error",
    "global_accuracy_std_error",
    "base_loss",
    "global_precision",
    "global_recall",
    "global_f1_score",
    "global_rmse",
    "start_loss",
)
"""The columns of a round's row that hold its figures."""


@dataclass
class Rows:
    """What is committed. ledger: by its id."""

    status: str = "running"
    message: str | None = None
    said: list[str] = field(default_factory=list)
    stop_requested: bool = False
    result: int | None = None
    scaling: str | None = None
    plan: str | None = None
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[Key, dict[str, Any]] = field(default_factory=dict)
    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    manifests: dict[int, bytes] = field(default_factory=dict)
    internal: dict[int, int] = field(default_factory=dict)
    ledger: dict[int, dict[str, Any]] = field(default_factory=dict)
    spending: dict[Key, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    described: dict[Key, Any] = field(default_factory=dict)
    phases: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    alignments: dict[tuple[int, str], float | None] = field(default_factory=dict)
    versions: list[dict[str, Any]] = field(default_factory=list)
    events: list[tuple[str, int | None]] = field(default_factory=list)

    def reservations(self) -> dict[Key, str]:
        """How each line of the ledger stands."""
        return {line["key"]: line["state"] for line in self.ledger.values()}


@dataclass
class FakeCatalog:
    """A connection to the rows of one run. refuses: what a statement raises, by its name, once."""

    run: Run
    rows: Rows = field(default_factory=Rows)
    refuses: dict[str, BaseException] = field(default_factory=dict)
    epoch: int = 1
    depth: int = 0

    def query(self, statement: Statement, *values: Any) -> Sequence[Row]:
        """Do what the statement says."""
        assert len(values) == len(statement.types), statement.name
        assert self.depth > 0 or statement.text.startswith("SELECT"), (
            f"{statement.name} outside of a transaction"
        )
        if statement.name in self.refuses:
            raise self.refuses.pop(statement.name)
        found: Sequence[Row] | None = getattr(self, f"_{statement.name}")(*values)
        return found or []

    def execute(self, statement: Statement, *values: Any) -> None:
        """The same."""
        self.query(statement, *values)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Nothing is saved by it here."""
        yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Whole, or nothing."""
        before, self.depth = copy.deepcopy(self.rows), self.depth + 1
        try:
            yield
        except BaseException:
            self.rows = before
            raise
        finally:
            self.depth -= 1

    def opened(self) -> list[int]:
        """The numbers of the open rounds."""
        return [number for number, row in self.rows.rounds.items() if row["status"] == "open"]

    # The lease, the run, the history.

    def _hold_lease(self) -> Sequence[Row]:
        return [{"epoch": self.epoch}]

    def _insert_event(self, _epoch: int, _run: str, number: int | None, kind: str, _details: str) -> None:
        self.rows.events.append((kind, number))

    def _note_breach(
        self, _workspace: str, event: str, _node: str, _reason: str, _now: float | None
    ) -> Sequence[Row]:
        self.rows.events.append((f"breach: {event}", None))
        return [{"firing_id": None}]

    def _find_left_out(self, _run: str) -> Sequence[Row]:
        return []

    def _find_run(self, _run: str) -> Sequence[Row]:
        if self.rows.status != "running":
            return []
        options = {**asdict(self.run.options), **self.run.options.given}
        options["feature_ranges"] = {}
        policy = asdict(self.run.policy)
        buffer = policy.pop("buffer")
        policy |= {"async_aggregation": buffer > 0, "aggregation_batch_size": buffer}
        return [
            {
                "run_id": str(self.run.id),
                "model_id": self.run.model_id,
                "model": self.run.model,
                "workspace_id": self.run.workspace_id,
                "workspace": POLICY.workspace,
                "options": json.dumps(options),
                "policy": json.dumps(policy),
                "workspace_options": json.dumps(policy),
                "scaling": self.rows.scaling,
                "plan": self.rows.plan,
                "stop_requested": self.rows.stop_requested,
                "status": self.rows.status,
                "seed_run": None,
                "group_nodes": None,
                "parent_model": None,
                "parent_version": None,
                "parent_run": None,
                "is_resumed": False,
                **self._series(),
            }
        ]

    def _series(self) -> Row:
        series, fold = self.run.series, self.run.options.fold
        return {
            "series_id": None if series is None else str(series.id),
            "fold": None if fold is None else fold.number,
            "has_folds": series is not None and not series.keeps,
            "has_voters": False,
            "to_come": 0 if series is None else series.to_come,
        }

    def _set_result(self, _run: str, number: int) -> None:
        self.rows.result = number

    def _ended_runs(self, _workspace: str) -> Sequence[Row]:
        return [] if self.rows.status == "running" else [{"run_id": str(self.run.id)}]

    def _lock_run(self, run: str) -> Sequence[Row]:
        return [{"run_id": run}] if self.rows.status == "running" else []

    def _set_message(self, _run: str, message: str) -> None:
        self.rows.message = message
        self.rows.said.append(message)

    def _set_findings(self, _run: str, scaling: str | None, plan: str | None) -> None:
        self.rows.scaling, self.rows.plan = scaling, plan

    def _finish_run(self, run: str, status: str, message: str) -> Sequence[Row]:
        assert self.rows.status == "running"
        self.rows.status, self.rows.message = status, message
        return [{"run_id": run}]

    def _set_dataset_sizes(self, _workspace: int, rows: str) -> None:
        self.rows.sizes.update({one["node"]: one["size"] for one in json.loads(rows)})

    def _record_measured(
        self, _run: str, number: int, _workspace: int, phases: str, aligned: str, _variance: float | None
    ) -> None:
        for one in json.loads(aligned):
            self.rows.alignments[number, one["node"]] = one["alignment"]
        for one in json.loads(phases):
            self.rows.phases[number, one["phase"]] = one

    # Rounds.

    def _list_rounds(self, _run: str) -> Sequence[Row]:
        return [{"round_number": number, **row} for number, row in sorted(self.rows.rounds.items())]

    def _insert_round(self, _run: str, number: int, _rate: float | None) -> None:
        assert number not in self.rows.rounds
        assert not self.opened()
        self.rows.rounds[number] = {
            "status": "open",
            **dict.fromkeys(FIGURES),
            "message": None,
            "report": None,
        }

    def _list_participation(self, _run: str, number: int) -> Sequence[Row]:
        return [
            {"node": node, "exchange": exchange, "step": step, "asked": None, **row}
            for (of, exchange, step, node), row in sorted(
                self.rows.tasks.items(), key=lambda one: (one[0][1], one[0][3])
            )
            if of == number
        ]

    def _list_standings(self, _run: str) -> Sequence[Row]:
        closed = {number for number, row in self.rows.rounds.items() if row["status"] == "closed"}
        found: dict[str, dict[str, Any]] = {}
        for (number, exchange, _, node), row in sorted(self.rows.tasks.items()):
            none = {"stated_rows": None, "asked": 0, "aligned": 0.0, "last_asked": 0}
            one = found.setdefault(node, {"node": node, **none})
            if number in closed and number == 0 and row.get("stated_rows") is not None:
                one["stated_rows"] = row["stated_rows"]
            if number in closed and number > 0 and exchange == 0:
                one["asked"] += 1
                one["last_asked"] = max(one["last_asked"], number)
                one["aligned"] += self.rows.alignments.get((number, node)) or 0.0
        return list(found.values())

    def _find_lost(self, _run: str) -> Sequence[Row]:
        later = {
            node for (of, *_, node), row in self.rows.tasks.items() if of and row["outcome"] == "received"
        }
        return [
            {"node": node, "reason": row["reason"]}
            for (of, *_, node), row in self.rows.tasks.items()
            if of == 0 and row["reason"] is not None and node not in later
        ]

    def _insert_participation(
        self, _run: str, number: int, exchange: int, step: str, _workspace: int, nodes: list[str]
    ) -> None:
        for node in nodes:
            assert (number, exchange, step, node) not in self.rows.tasks
            self.rows.tasks[number, exchange, step, node] = {
                "outcome": "pending",
                "reason": None,
                "weight": None,
                "asked": len(nodes),
            }

    def _settle_participation(
        self, _run: str, number: int, exchange: int, step: str, _workspace: int, rows: str
    ) -> None:
        for one in json.loads(rows):
            key = (number if one["asked"] is None else one["asked"], exchange, step, one["node"])
            self.rows.tasks[key].update({name: one[name] for name in ("outcome", "reason", "weight")})
            if one["stated_rows"] is not None:
                self.rows.tasks[key]["stated_rows"] = one["stated_rows"]
            if one["asked"] is not None:
                self.rows.tasks[key]["settled_round"] = number
            if one["described"] is not None:
                self.rows.described[key] = one["described"]

    def _list_at_work(self, _run: str) -> Sequence[Row]:
        return [
            {"node": node, "round_number": number}
            for (number, exchange, _, node), row in sorted(self.rows.tasks.items())
            if number > 0
            and exchange == 0
            and row["outcome"] == "pending"
            and self.rows.rounds[number]["status"] != "failed"
        ]

    def _give_up_tasks(self, _run: str, reason: str) -> None:
        for (number, *_), row in self.rows.tasks.items():
            if row["outcome"] == "pending" and self.rows.rounds[number]["status"] != "open":
                row.update(outcome="dropped", reason=reason)

    def _find_state(self, _run: str, number: int) -> Sequence[Row]:
        return [self.rows.states[number]] if number in self.rows.states else []

    def _put_state(self, _run: str, number: int, sealed: bytes, sha256: bytes, memory: bytes | None) -> None:
        self.rows.states[number] = {"sealed": sealed, "sha256": sha256, "memory": memory}

    def _delete_other_states(self, _run: str, kept: list[int]) -> None:
        self.rows.states = {of: state for of, state in self.rows.states.items() if of in kept}

    # Checkpoints.

    def _find_beginning(self, _run: str) -> Sequence[Row]:
        return []

    def _hash_states(self, _run: str, numbers: list[int]) -> Sequence[Row]:
        kept = [(number, self.rows.states[number]) for number in dict.fromkeys(numbers)]
        return [
            {
                "round_number": number,
                "state": sealed_digest(one["sealed"]).hex(),
                "memory": None if one["memory"] is None else sealed_digest(one["memory"]).hex(),
                "bytes": len(one["sealed"]),
            }
            for number, one in kept
        ]

    def _find_manifest(self, _run: str, number: int) -> Sequence[Row]:
        manifest = self.rows.manifests.get(number)
        return [] if manifest is None or number not in self.rows.states else [{"manifest": manifest}]

    def _describe_run(self, _run: str) -> Sequence[Row]:
        return [{"described": json.dumps({"scaling": self.rows.scaling, "plan": self.rows.plan})}]

    def _put_manifest(self, _run: str, number: int, kept: int, sealed: bytes) -> None:
        assert {number, kept} <= self.rows.states.keys()
        assert self.rows.rounds[number]["status"] == "closed"
        self.rows.manifests[number] = sealed

    def _insert_internal(self, _run: str, number: int, size: int, _sha256: bytes) -> None:
        self.rows.internal[number] = size

    def _list_internal(self, _run: str) -> Sequence[Row]:
        return [{"round_number": of, "size_bytes": size} for of, size in sorted(self.rows.internal.items())]

    def _delete_internal(self, _run: str, numbers: list[int]) -> None:
        for number in numbers:
            del self.rows.internal[number]

    def _delete_failed_round(self, _run: str, number: int) -> Sequence[Row]:
        return [] if self.rows.rounds.get(number, {"status": "open"})["status"] != "failed" else [{}]

    def _put_figures(self, _run: str, number: int, figures: str) -> None:
        assert self.rows.rounds[number]["status"] == "open"
        self.rows.rounds[number].update(json.loads(figures))

    def _put_report(self, _run: str, number: int, report: str) -> None:
        self.rows.rounds[number]["report"] = json.loads(report)

    def _close_round(self, _run: str, number: int, figures: str, message: str | None) -> Sequence[Row]:
        row = self.rows.rounds[number]
        if row["status"] != "open":
            return []
        row.update(json.loads(figures), status="closed", message=message)
        return [{"round_number": number}]

    def _fail_open_round(self, _run: str, reason: str) -> None:
        for number in self.opened():
            self.rows.rounds[number].update(status="failed", message=reason)

    # The ledger.

    def _lock_ledger(self, _workspace: str) -> None:
        pass

    def _list_spent(self, _workspace: str) -> Sequence[Row]:
        return [{**line, "node_name": line["key"][3], "times": 1} for line in self.rows.ledger.values()]

    def _list_reached(self, _workspace: str) -> Sequence[Row]:
        last = {line["key"][3]: line for _, line in sorted(self.rows.ledger.items())}
        return [{**line, "node_name": node} for node, line in last.items()]

    def _reserve(self, _workspace: str, _run: str, _model: str, number: int, rows: str) -> None:
        for one in json.loads(rows):
            key = (number, one["exchange"], one["step"], one["node"])
            assert key not in self.rows.reservations()
            taken = max(self.rows.ledger, default=0) + 1
            self.rows.ledger[taken] = {**one, "key": key, "state": "reserved"}

    def _count_reserved(
        self,
        _run: str,
        number: int,
        exchange: int,
        step: str,
        nodes: list[str],
        noise_multiplier: float,
        sampling_rate: float,
        steps: int,
        noise: str,
    ) -> Sequence[Row]:
        asked = {(number, exchange, step, node) for node in nodes}
        mechanism = (noise_multiplier, sampling_rate, steps)
        assert noise == "gaussian"
        lines = [
            line
            for line in self.rows.ledger.values()
            if line["key"] in asked
            and (line["noise_multiplier"], line["sampling_rate"], line["steps"]) == mechanism
        ]
        return [{"lines": len(lines)}]

    def _charge(self, _run: str, number: int, exchange: int, step: str, nodes: list[str]) -> None:
        charged = {(number, exchange, step, node) for node in nodes}
        for line in self.rows.ledger.values():
            if line["key"] in charged:
                line["state"] = "charged"

    def _insert_node_spending(
        self, _workspace: str, _run: str, number: int, exchange: int, step: str, rows: str
    ) -> None:
        for one in json.loads(rows):
            key = (number, exchange, step, one["node"])
            assert key not in self.rows.spending, "what a node signed is written once"
            self.rows.spending[key] = one["header"]

    def _delete_reservations(
        self, _run: str, number: int, exchange: int, unspent: list[str], gone: list[str]
    ) -> Sequence[Row]:
        removed = []
        for place, line in list(self.rows.ledger.items()):
            of, at, step, node = line["key"]
            goes = (at == exchange and node in unspent) or (at > exchange and node in gone)
            if of == number and line["state"] == "reserved" and goes:
                del self.rows.ledger[place]
                found = {"exchange": at, "step": step, "epsilon": line["epsilon"]}
                removed.append({"ledger_id": place, "node_name": node, **found})
        return removed

    def _list_entries(self, _workspace: str, nodes: list[str]) -> Sequence[Row]:
        return [
            {**line, "ledger_id": place, "node_name": line["key"][3]}
            for place, line in sorted(self.rows.ledger.items())
            if line["key"][3] in nodes
        ]

    def _correct_sums(self, sums: str) -> None:
        for one in json.loads(sums):
            self.rows.ledger[one.pop("ledger_id")].update(one)

    def _still_reserved(self, _run: str) -> Sequence[Row]:
        reserved: dict[str, float] = {}
        for line in self.rows.ledger.values():
            if line["state"] == "reserved":
                node = line["key"][3]
                reserved[node] = reserved.get(node, 0.0) + line["epsilon"]
        return [{"epsilon": max(reserved.values(), default=None)}]

    def _consumed_epsilon(self, _workspace: str) -> Sequence[Row]:
        return [{"epsilon": max((one["epsilon_tight"] for one in self.rows.ledger.values()), default=None)}]

    # Versions.

    def _next_version(self, _model: int) -> Sequence[Row]:
        return [{"version": len(self.rows.versions) + 1}]

    def _publish_function(self, *_values: object) -> Sequence[Row]:
        return [{"obstacle": None}]

    def _retire_current(self, _model: int) -> None:
        pass

    def _insert_version(self, _model: int, version: int, _run: str, number: int, *values: Any) -> None:
        sha256 = self.rows.states[number]["sha256"].hex()
        self.rows.versions.append(
            {
                "version": version,
                "round": number,
                "sha256": sha256,
                "made_of": values[-4],
                "report": self.rows.rounds[number]["report"],
            }
        )
