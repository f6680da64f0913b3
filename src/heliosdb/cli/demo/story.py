"""The demo's course: three hospitals, the quick start as typed, a second model without budget, what left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import class_row

from heliosdb.cli.demo import statements
from heliosdb.cli.demo.installation import Access, installed
from heliosdb.cli.demo.patients import (
    FEATURES,
    SEX,
    SEXES,
    TARGET,
    Patients,
    Quality,
    Study,
    judge,
    judge_pooled,
    load_study,
)
from heliosdb.cli.demo.terminal import Terminal
from heliosdb.domain.errors import ErrorCode, FederatedError

HOSPITALS = ("hospital_a", "hospital_b", "hospital_c")
COPY = "patients_without_protection"
"""The same patients for the comparison: a table that has spent a budget answers no workspace without one."""

_FOLLOW_SECONDS = 120.0
_POLL_SECONDS = 0.1


def run() -> None:
    """Run the demo from nothing to a prediction."""
    began = time.monotonic()
    _headline("Three hospitals, three databases, one coordinator, one proxy")
    study = load_study(len(HOSPITALS))
    with installed(len(HOSPITALS)) as access:
        _fill(access, study)
        _headline("Each hospital's DBA shares a table (psql on the hospital's own database)")
        _share(access, study)
        with (
            Terminal(access.proxy, "heliosdb") as terminal,
            psycopg.connect(access.coordinator, autocommit=True) as observer,
        ):
            _headline("The quick start, typed into psql on the proxy")
            _train_private(terminal, observer, access)
            _headline("The same model without a privacy budget, to the estimate of the pooled rows")
            _train_plain(terminal, observer, access)
            _headline("Predictions: one patient, and a whole table")
            for model in ("disease_classifier", "open_classifier"):
                terminal.type(statements.PREDICT_PATIENT.format(model=model))
                terminal.type(statements.PREDICT_TABLE.format(model=model))
            _headline("The model where the patients are: hospital_a, on its own database")
            _predict_at_hospital(terminal, access)
            _headline("What each hospital let out: no row, only vectors through the release door")
            terminal.type(statements.WHAT_LEFT)
            _compare(observer, study)
            _headline("What the model without a budget says of each column")
            terminal.type(statements.COEFFICIENTS)
    print(f"\nFinished in {time.monotonic() - began:.0f} s; everything that was started is stopped.")


def _headline(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)


def _fill(access: Access, study: Study) -> None:
    """Put each hospital's patients into its own database, and those held out into the coordinator's."""
    for node, patients in zip(access.nodes.values(), study.hospitals, strict=True):
        _load(node.database, "patients", patients)
        _load(node.database, COPY, patients)
    _load(access.coordinator, "held_out_patients", study.held_out)


def _load(dsn: str, table: str, patients: Patients) -> None:
    columns = [sql.SQL("{} double precision").format(sql.Identifier(name)) for name in FEATURES]
    # Under a privacy budget what a text may be is the catalog's to say: no row is asked for it.
    columns += [
        sql.SQL("{0} text CHECK ({0} IN ({1}))").format(
            sql.Identifier(SEX), sql.SQL(", ").join(map(sql.Literal, SEXES))
        )
    ]
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE TABLE {} (patient_id integer PRIMARY KEY, {}, {} boolean)").format(
                sql.Identifier(table), sql.SQL(", ").join(columns), sql.Identifier(TARGET)
            )
        )
        with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
            for row in patients.rows():
                copy.write_row(row)


def _share(access: Access, study: Study) -> None:
    for hospital, node, patients in zip(HOSPITALS, access.nodes.values(), study.hospitals, strict=True):
        ages = patients.features[:, 0]
        print(f"\n{hospital}: {len(ages)} patients aged {ages.min():.0f} to {ages.max():.0f}")
        with Terminal(node.proxy, hospital) as terminal:
            terminal.type(statements.share_patients("patients", "healthcare_consortium"))
            terminal.type(statements.share_patients(COPY, "open_study"))


def _register(terminal: Terminal, access: Access, workspace: str) -> None:
    for hospital, node in zip(HOSPITALS, access.nodes.values(), strict=True):
        terminal.type(statements.register_node(hospital, workspace, node.endpoint, node.certificate))


def _train_private(terminal: Terminal, observer: psycopg.Connection, access: Access) -> None:
    terminal.type("CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning;")
    terminal.type(statements.PRIVATE_WORKSPACE)
    _register(terminal, access, "healthcare_consortium")
    terminal.type(statements.PRIVATE_MODEL)
    terminal.type(statements.START_PRIVATE)
    _follow(observer, "disease_classifier")
    terminal.type(
        "SELECT * FROM federated_training_status('disease_classifier') ORDER BY round_number DESC LIMIT 3;"
    )
    terminal.type("SELECT * FROM federated_privacy_budget('healthcare_consortium');")


def _train_plain(terminal: Terminal, observer: psycopg.Connection, access: Access) -> None:
    terminal.type(statements.PLAIN_WORKSPACE)
    _register(terminal, access, "open_study")
    terminal.type(statements.PLAIN_MODEL)
    terminal.type(statements.START_PLAIN)
    _follow(observer, "open_classifier")


def _predict_at_hospital(coordinator: Terminal, access: Access) -> None:
    """Bring a model to the first hospital, whose patients stay where they are."""
    coordinator.type(statements.GRANT_MODEL)
    node = access.nodes[next(iter(access.nodes))]
    with (
        Terminal(node.proxy, HOSPITALS[0]) as terminal,
        psycopg.connect(node.database, autocommit=True) as observer,
    ):
        terminal.type(statements.SUBSCRIBE)
        _wait_for_version(observer)
        terminal.type(statements.SUBSCRIPTIONS)
        terminal.type(statements.PREDICT_OWN)
        terminal.type(statements.EVALUATE_OWN)


def _wait_for_version(observer: psycopg.Connection) -> None:
    """The node tells the coordinator with its next heartbeat what it subscribes to."""
    deadline = time.monotonic() + _FOLLOW_SECONDS
    while time.monotonic() < deadline:
        if observer.execute("SELECT FROM federated_subscriptions WHERE state = 'current'").rowcount:
            return
        time.sleep(_POLL_SECONDS)
    raise FederatedError(ErrorCode.TIMEOUT, f"no version has come within {_FOLLOW_SECONDS:g} s")


@dataclass(frozen=True, slots=True)
class _Round:
    """A row of federated_training_status, as far as the demo shows it."""

    round_number: int
    status: str
    global_loss: float | None
    global_accuracy: float | None
    participating_nodes: int
    round_duration_seconds: float | None
    finished_at: datetime | None
    message: str | None
    epsilon: float | None

    def __str__(self) -> str:
        if self.round_number == 0:
            result = "feature statistics"
        elif self.global_loss is None or self.global_accuracy is None:
            result = "trained"
        else:
            result = f"loss {self.global_loss:.4f}, accuracy {self.global_accuracy:.3f}"
        if self.epsilon is not None:
            result += f", epsilon {self.epsilon:.4f} spent"
        if self.round_number == 0 and self.message:
            result += f"\n            {self.message}"
        seconds = self.round_duration_seconds or 0
        return (
            f"  round {self.round_number:>2}: {self.participating_nodes} hospitals, {seconds:.2f} s, {result}"
        )


_STATUS = (
    "SELECT s.round_number, s.status, s.global_loss, s.global_accuracy, s.participating_nodes,"
    " s.round_duration_seconds, s.finished_at, s.message, m.privacy_consumed_epsilon AS epsilon"
    " FROM federated_training_status(%(model)s) AS s"
    " LEFT JOIN federated_training_metrics(%(model)s) AS m USING (round_number) ORDER BY 1"
)


def _follow(observer: psycopg.Connection, model: str) -> None:
    """Show a line for each round as it closes, until the run has ended."""
    shown = -1
    deadline = time.monotonic() + _FOLLOW_SECONDS
    with observer.cursor(row_factory=class_row(_Round)) as cursor:
        while time.monotonic() < deadline:
            rounds = cursor.execute(_STATUS, {"model": model}).fetchall()
            for row in rounds:
                if row.round_number > shown and row.finished_at is not None:
                    print(row, flush=True)
                    shown = row.round_number
            last = rounds[-1]
            if last.status not in ("queued", "running"):
                print(f"  run {last.status}{': ' + last.message if last.message else ''}")
                if last.status in ("failed", "stopped"):
                    raise FederatedError(ErrorCode.INTERNAL, f"the run of {model} {last.status}")
                return
            time.sleep(_POLL_SECONDS)
    raise FederatedError(ErrorCode.TIMEOUT, f"the run of {model} took longer than {_FOLLOW_SECONDS:g} s")


def _compare(observer: psycopg.Connection, study: Study) -> None:
    """Judge both models on the held-out patients beside scikit-learn on the pooled rows."""
    _headline(f"On {len(study.held_out.outcomes)} held-out patients that no hospital trained on")
    qualities = [
        ("federated, privacy budget 0.5", _judge_model(observer, "disease_classifier")),
        ("federated, no budget", _judge_model(observer, "open_classifier")),
        ("scikit-learn LogisticRegression on the pooled rows", judge_pooled(study)),
    ]
    print(_table(qualities))
    print("  Of so few patients a budget of 0.5 leaves little but noise; more patients or more budget help.")


def _judge_model(observer: psycopg.Connection, model: str) -> Quality:
    arguments = sql.SQL(", ").join(
        sql.SQL("{0} => {0}").format(sql.Identifier(feature)) for feature in (*FEATURES, SEX)
    )
    rows = observer.execute(
        sql.SQL("SELECT {}, federated_model.{}({}) FROM held_out_patients ORDER BY patient_id").format(
            sql.Identifier(TARGET), sql.Identifier(model), arguments
        )
    ).fetchall()
    return judge(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))


def _table(qualities: Sequence[tuple[str, Quality]]) -> str:
    lines = [f"  {'model':<52}{'accuracy':>9}{'AUC':>8}"]
    lines += [f"  {name:<52}{quality.accuracy:>9.3f}{quality.auc:>8.3f}" for name, quality in qualities]
    return "\n".join(lines)
