"""EXPLAIN START FEDERATED TRAINING: what would happen, from the catalog and by START's own checks.

What always holds: nothing is written, locked, charged or asked of a node; what START would refuse is a line
of the plan, but for a model or an option that there is not. What only nodes or the run itself can tell is
said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast
from uuid import UUID

from federated_sql import parse
from federated_sql.errors import ErrorCode, FederatedError, not_supported, syntax_error
from federated_sql.options import OptionKind, read_options
from federated_sql.reading_statements import ExplainTraining, ShowObjects
from federated_sql.statements import Command
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import explaining as reading
from heliosdb.catalog.ledger import list_reached, list_spent
from heliosdb.catalog.run_options import parse_policy
from heliosdb.catalog.subscriptions import is_subscribed
from heliosdb.domain.contract import Eligibility, Offer, select
from heliosdb.domain.folds import Series
from heliosdb.domain.forecast import Forecast
from heliosdb.domain.ids import ModelName, NodeName, RunId
from heliosdb.domain.run import Run
from heliosdb.extension.models import in_training
from heliosdb.extension.plan_lines import Explained, Node, make_plan
from heliosdb.extension.plan_tree import json_text, text_lines
from heliosdb.extension.session import Session, undefined, undefined_here
from heliosdb.extension.start_warnings import warn_of_budgets
from heliosdb.extension.starting import (
    Checked,
    Start,
    check_start,
    parse_chosen,
    read_start,
    warn_of_waiting,
)
from heliosdb.parts.algorithms import extra_of, has_classes

_NO_RUN = RunId(UUID(int=0))
"""In place of an id that only a queued run has: of it nothing that is shown depends."""


def refuse_call(session: Session, command: Command) -> None:
    """Refuse by CALL what answers with rows."""
    del session
    name = (
        f"federated.show_{command.kind}()" if isinstance(command, ShowObjects) else "federated.explain(text)"
    )
    raise not_supported(
        "a statement that answers with rows is not supported by CALL federated.execute",
        hint=f"Type it at the proxy, or query the function {name}.",
    )


def explain(session: Session, text: str) -> list[str]:
    """Return the lines of the plan that `text`, one EXPLAIN, asks for; errors as its START's for a model or
    an option that there is not."""
    command = parse(text)
    if not isinstance(command, ExplainTraining):
        raise syntax_error(
            "federated.explain takes one EXPLAIN START FEDERATED TRAINING",
            hint="EXPLAIN [(FORMAT TEXT | JSON)] START FEDERATED TRAINING model [WITH (...)]",
        )
    plan = make_plan(_explained(session, command))
    return [json_text(plan)] if command.format == "json" else text_lines(plan)


def _explained(session: Session, command: ExplainTraining) -> Explained:
    overrides = read_options(OptionKind.TRAINING, command.options, session.built)
    model = _find_model(session, command.model)
    start = read_start(session, model, command.options, overrides)
    checked, refusals = _attempt(session, start)
    told = _Told(session, start, reading.list_standings(session.connection, model.workspace))
    forecast, obstacle = told.forecast(checked)
    return Explained(
        start=start,
        runs=len(checked.runs) if checked is not None else 1,
        refusals=tuple(refusals),
        remarks=_remarks(session, start, checked),
        nodes=told.nodes,
        forecast=forecast,
        obstacle=obstacle,
        measured=reading.measure_rounds(session.connection, model),
        traffic=reading.measure_traffic(session.connection, model),
        consumed=catalog.consumed_epsilon(session.connection, model.workspace),
    )


def _find_model(session: Session, name: str) -> catalog.Model:
    model = reading.read_model(session.connection, name)
    if model is None:
        if is_subscribed(session.connection, name):
            raise undefined(
                "model",
                name,
                hint="It is only subscribed to in this database: this is typed where the model is trained.",
            )
        raise undefined_here("model", name)
    return model


def _attempt(session: Session, start: Start) -> tuple[Checked | None, list[FederatedError]]:
    """Return what START would queue, and all that it would refuse that can be told at once."""
    refusals, checked = [], None
    for check in (_check_rights, _check_idle, _check_plain):
        try:
            check(session, start)
        except FederatedError as error:
            refusals.append(error)
    try:
        checked = check_start(session, start)
    except FederatedError as error:
        refusals.append(error)
    return checked, refusals


def _check_rights(session: Session, start: Start) -> None:
    session.require("federated_operator", "start federated training")
    session.own_model(start.model)


def _check_idle(session: Session, start: Start) -> None:
    if catalog.is_in_training(session.connection, start.model):
        raise in_training(start.model)


def _check_plain(session: Session, start: Start) -> None:
    found = reading.why_not_plain(session.connection, start.model.workspace, start.policy)
    if found is not None:
        raise FederatedError(ErrorCode(found.sqlstate), found.message, detail=found.detail, hint=found.hint)


def _remarks(session: Session, start: Start, checked: Checked | None) -> tuple[str, ...]:
    """Return what START would say by NOTICE and WARNING."""
    said: list[str] = []
    listening = replace(session, notice=said.append, warning=said.append)
    warn_of_waiting(listening, start)
    warn_of_budgets(listening, start.model, start.policy)
    return (*(checked.said if checked is not None else ()), *said)


@dataclass(frozen=True, slots=True)
class _Told:
    """What can be told of a start beyond whether it is refused; little where its options are incomplete."""

    session: Session
    start: Start
    standings: Mapping[NodeName, reading.Standing]

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

    def forecast(self, checked: Checked | None) -> tuple[Forecast | None, str | None]:
        """Return what the run would ask, send and cost, else why that cannot be told here."""
        run, found = self.run(checked), self.found
        if run is None or found is None:
            return None, "the options name no whole run"
        if find_spec("numpy") is None:
            return None, "numpy is not installed for the server's Python"
        asked = {node.standing.name for node in self.nodes if node.takes_part}
        # Of groups that vote one as large as any stands for all: they are dealt when START is typed.
        group = checked.runs[0].group_nodes if checked is not None else ()
        able = {
            name: dataset
            for name, dataset in found.able.items()
            if name in asked and (not group or name in group)
        }
        spent = list_spent(self.session.connection, run) if run.policy.budget is not None else {}
        sizes = [self.standings[name].rows for name in able]
        # By name: numpy is imported when the first plan of a session is made, and with no other statement.
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


def answer(session: Session, text: str | None) -> str:
    """Return {"plan": lines} as JSON; FederatedError as `explain`."""
    if text is None:
        raise FederatedError(ErrorCode.INVALID_VALUE, "the statement to explain must not be null")
    found: dict[str, Any] = {"plan": explain(session, text)}
    return json.dumps(found, ensure_ascii=False)
