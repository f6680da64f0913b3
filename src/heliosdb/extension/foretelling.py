"""What can be told of a START beyond whether it is refused: who can take part, and what the run would ask and
cost.

What always holds: nothing is written, locked, charged or asked of a node. What only nodes or the run itself
can tell is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import cast
from uuid import UUID

from federated_sql.errors import FederatedError
from heliosdb.catalog import explaining as reading
from heliosdb.catalog.ledger import list_reached, list_spent
from heliosdb.catalog.run_options import parse_policy
from heliosdb.domain.contract import Eligibility, Offer, select
from heliosdb.domain.folds import Series
from heliosdb.domain.forecast import Forecast
from heliosdb.domain.ids import ModelName, NodeName, RunId
from heliosdb.domain.run import Run
from heliosdb.extension.plan_lines import Node
from heliosdb.extension.session import Session
from heliosdb.extension.starting import Checked, Start, parse_chosen
from heliosdb.parts.algorithms import extra_of, has_classes

_NO_RUN = RunId(UUID(int=0))
"""In place of an id that only a queued run has: of it nothing that is shown depends."""


@dataclass(frozen=True, slots=True)
class Told:
    """What can be told of a start beyond whether it is refused; little where its options are incomplete."""

    session: Session
    start: Start
    standings: Mapping[NodeName, reading.Standing]

    @classmethod
    def of(cls, session: Session, start: Start) -> Told:
        """Of a start, with its nodes as they stand."""
        return cls(session, start, reading.list_standings(session.connection, start.model.workspace))

    def run(self, checked: Checked | None) -> Run | None:
        """The run as it would be queued; None where its options name no whole run."""
        chosen = self.start.chosen
        if not all(chosen.get(name) for name in ("algorithm", "features", "target")):
            return None
        try:
            options = parse_chosen(self.session, chosen, self.start.policy)
        except FederatedError:  # which START's own check has told
            return None
        model, runs = self.start.model, 1 if checked is None else len(checked.runs)
        policy = parse_policy(self.start.policy, model.workspace.name)
        votes = checked is not None and checked.runs[0].group is not None
        to_come = 0 if votes else runs - 1
        series = None if runs == 1 else Series(UUID(int=0), publishes=False, keeps=False, to_come=to_come)
        ids = model.model_id, model.workspace.workspace_id
        return Run(_NO_RUN, ModelName(model.name), *ids, options, policy, series)

    @property
    def found(self) -> Eligibility | None:
        """Which of the nodes that were met can answer, by what they said; None without a whole run."""
        run = self.run(None)
        if run is None:
            return None
        offers = [
            Offer(node.name, node.options.get("dataset"), node.introduction)
            for node in self.start.nodes
            if node.introduction is not None
        ]
        learns = has_classes(run.options.algorithm, run.options.given)
        return select(offers, run.options, learns_classes=learns, extra=extra_of(run.options.algorithm))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Each registered node, and whether it could take part."""
        found, run = self.found, self.run(None)
        private = run is not None and run.policy.budget is not None
        reached = list_reached(self.session.connection, run) if run is not None and private else {}
        reasons = {} if found is None else {one.node: one.reason for one in found.left_out}
        able = {} if found is None else found.able
        return tuple(
            Node(
                standing,
                able.get(name),
                reasons.get(name),
                (reached[name].epsilon_tight if name in reached else 0.0) if private else None,
            )
            for name, standing in self.standings.items()
        )

    def _told_group(self, checked: Checked | None) -> tuple[NodeName, ...]:
        """The group that stands for all that vote: the one of the most charged node, else as large as any; ()
        where no groups vote."""
        charged = {node.standing.name: node.spent or 0.0 for node in self.nodes}
        groups = [] if checked is None else [run.group_nodes for run in checked.runs]
        return max(groups, key=lambda group: max(map(charged.__getitem__, group), default=0.0), default=())

    def forecast(self, checked: Checked | None) -> tuple[Forecast | None, str | None]:
        """Return what the run would ask, send and cost, else why that cannot be told here."""
        run, found = self.run(checked), self.found
        if run is None or found is None:
            return None, "the options name no whole run"
        if find_spec("numpy") is None:
            return None, "numpy is not installed for the server's Python"
        asked = {node.standing.name for node in self.nodes if node.takes_part}
        group = self._told_group(checked)
        able = {
            name: dataset
            for name, dataset in found.able.items()
            if name in asked and (not group or name in group)
        }
        spent = list_spent(self.session.connection, run) if run.policy.budget is not None else {}
        sizes = [self.standings[name].rows for name in able]
        # By name: numpy is imported with the first plan, or the first START under a budget, of a session.
        module = import_module("heliosdb.forecast.training")
        participants = module.Participants(
            able=able,
            are_all=len(able) == len(self.start.nodes),
            pasts={node: [one.composed for one in spent.get(node, ())] for node in able},
            elsewhere=[[one.composed for one in past] for node, past in spent.items() if node not in able],
            subjects=None if not sizes or None in sizes else sum(cast("Sequence[int]", sizes)),
        )
        try:
            made: Forecast = module.foretell(run, participants)
        except FederatedError as error:
            return None, error.text
        return made, None
