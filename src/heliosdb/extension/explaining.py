"""EXPLAIN START FEDERATED TRAINING: what would happen, from the catalog and by START's own checks.

What always holds: nothing is written, locked, charged or asked of a node; what START would refuse is a line
of the plan, but for a model or an option that there is not. What only nodes or the run itself can tell is
said to be unknown.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

from federated_sql import parse
from federated_sql.errors import ErrorCode, FederatedError, not_supported, syntax_error
from federated_sql.options import OptionKind, read_options
from federated_sql.reading_statements import ExplainTraining, ShowObjects
from federated_sql.statements import Command
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import explaining as reading
from heliosdb.catalog.subscriptions import is_subscribed
from heliosdb.domain.forecast import Cost
from heliosdb.domain.ids import RunId
from heliosdb.extension.foretelling import Told
from heliosdb.extension.models import in_training
from heliosdb.extension.plan_lines import Explained, make_plan
from heliosdb.extension.plan_tree import json_text, text_lines
from heliosdb.extension.session import Session, undefined, undefined_here
from heliosdb.extension.start_warnings import warn_of_an_early_end, warn_of_budgets
from heliosdb.extension.starting import (
    Checked,
    Start,
    check_start,
    parse_chosen,
    read_start,
    warn_of_waiting,
)
from heliosdb.extension.transferring import describe_beginning, find_named

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
    told = Told.of(session, start)
    forecast, obstacle = told.forecast(checked)
    cost = None if forecast is None else forecast.cost
    return Explained(
        start=start,
        runs=len(checked.runs) if checked is not None else 1,
        refusals=tuple(refusals),
        remarks=_remarks(session, start, checked, cost),
        nodes=told.nodes,
        forecast=forecast,
        obstacle=obstacle,
        measured=reading.measure_rounds(session.connection, model),
        traffic=reading.measure_traffic(session.connection, model),
        consumed=catalog.consumed_epsilon(session.connection, model.workspace),
        beginning=None if checked is None else _beginning(session, start),
    )


def _beginning(session: Session, start: Start) -> str | None:
    """Say with what the runs of a START that is not refused would begin."""
    options = parse_chosen(session, start.chosen, start.policy)
    named = find_named(session, options, start.policy)
    return None if named is None else describe_beginning(named, options)


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


def _remarks(session: Session, start: Start, checked: Checked | None, cost: Cost | None) -> tuple[str, ...]:
    """Return what START would say by NOTICE and WARNING."""
    said: list[str] = []

    def hear(message: str, **further: str | None) -> None:
        sentences = [*filter(None, further.values())]
        said.append(f"{message}{_stop(message)} {' '.join(sentences)}" if sentences else message)

    listening = replace(session, notice=hear, warning=hear)
    warn_of_waiting(listening, start)
    warn_of_budgets(listening, start.model, start.policy)
    warn_of_an_early_end(listening, cost)
    return (*(checked.said if checked is not None else ()), *said)


def _stop(message: str) -> str:
    return "" if message.endswith(".") else "."


def answer(session: Session, text: str | None) -> str:
    """Return {"plan": lines} as JSON; FederatedError as `explain`."""
    if text is None:
        raise FederatedError(ErrorCode.INVALID_VALUE, "the statement to explain must not be null")
    found: dict[str, Any] = {"plan": explain(session, text)}
    return json.dumps(found, ensure_ascii=False)
