"""START FEDERATED TRAINING: checks, then the rows of its runs, then what is said of them."""

from __future__ import annotations

from federated_sql.options import OptionKind, read_options
from federated_sql.statements import StartTraining
from heliosdb.catalog import commands as catalog
from heliosdb.extension.foretelling import Told
from heliosdb.extension.models import find_model, in_training
from heliosdb.extension.session import Session
from heliosdb.extension.start_warnings import warn_of_an_early_end, warn_of_budgets
from heliosdb.extension.starting import check_start, read_start, warn_of_waiting


def start_training(session: Session, command: StartTraining) -> None:
    """START FEDERATED TRAINING: queues a run with a snapshot of every option it will run under."""
    session.require("federated_operator", "start federated training")
    overrides = read_options(OptionKind.TRAINING, command.options, session.built)
    catalog.hold_workspace(session.connection, command.model)
    model = find_model(session, command.model)
    start = read_start(session, model, command.options, overrides)
    checked = check_start(session, start)
    if not catalog.insert_runs(session.connection, model, checked.runs, checked.series):
        raise in_training(model)
    catalog.notify_coordinator(session.connection)
    warn_of_waiting(session, start)
    for one in checked.said:
        session.notice(one)
    warn_of_budgets(session, model, start.policy)
    if start.policy.get("privacy_budget") is not None:
        forecast, _ = Told.of(session, start).forecast(checked)
        warn_of_an_early_end(session, None if forecast is None else forecast.cost)
