"""Trained versions without training: what a coordinator stores at the end of a run of one round."""

from __future__ import annotations

from uuid import uuid4

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.catalog import publication, rounds, runs
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import RoundNumber, RunId, StepName
from heliosdb.domain.prediction import Prediction
from tests.support.cluster import Cluster


def publish_version(
    cluster: Cluster, database: str, model: str, *, intercept: float, slopes: tuple[float, ...]
) -> publication.Published:
    """Complete a run of the model, its queued one if there is one, with a version that predicts
    `intercept + sum(slope * feature)`.
    """
    zeros = (0.0,) * len(slopes)
    prediction = LinearPrediction(intercept, slopes, zeros, zeros, "identity")
    return publish_prediction(cluster, database, model, prediction.to_prediction())


def queue_run(cluster: Cluster, database: str, model: str) -> None:
    """Queue a run of a model that cannot be trained under its workspace's budget."""
    workspace = "(SELECT workspace_id FROM federated.model WHERE name = %s)"
    with cluster.connect(database) as connection, connection.transaction():
        [options] = connection.execute(
            f"SELECT options::text FROM federated.workspace WHERE workspace_id = {workspace}", [model]
        ).fetchone() or [None]
        connection.execute(
            "UPDATE federated.workspace SET options = options - '{privacy_budget,noise_multiplier,compliance_mode}'::text[]"
            f" WHERE workspace_id = {workspace}",
            [model],
        )
        connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {model}"])
        connection.execute(
            f"UPDATE federated.workspace SET options = %s::jsonb WHERE workspace_id = {workspace}",
            [options, model],
        )


def publish_prediction(
    cluster: Cluster, database: str, model: str, prediction: Prediction, encoding: Encoding | None = None
) -> publication.Published:
    """Complete a run of the model, its queued one if there is one, with a version of this prediction.

    All of it commits at once: a coordinator that runs finds nothing to do.
    """
    run_id = RunId(uuid4())
    with connected(cluster.dsn(database), application_name="test") as session, session.transaction():
        execute = session.raw.execute
        queued = execute(
            "SELECT FROM federated.run JOIN federated.model USING (model_id) WHERE name = $1 AND status = 'queued'",
            [model],
        )
        if queued.rowcount == 0:
            execute("CALL federated.execute($1)", [f"START FEDERATED TRAINING {model}"])
        execute(
            "UPDATE federated.run AS r SET status = 'running', run_id = $1, started_at = clock_timestamp()"
            " FROM federated.model AS m WHERE m.model_id = r.model_id AND m.name = $2 AND r.status = 'queued'",
            [run_id, model],
        )
        execute("SET LOCAL ROLE federated_daemon")
        published = _publish(session, run_id, prediction, encoding)
        execute("RESET ROLE")
        execute(
            "UPDATE federated.run SET status = 'completed', finished_at = clock_timestamp() WHERE run_id = $1",
            [run_id],
        )
    return published


def _publish(
    daemon: PsycopgConnection, run_id: RunId, prediction: Prediction, encoding: Encoding | None
) -> publication.Published:
    """What a coordinator does at the end of a run of one round."""
    record = runs.find_run(daemon, run_id)
    assert record is not None
    number = RoundNumber(1)
    rounds.open_round(daemon, record.run, number, StepName("train"), [])
    rounds.put_state(daemon, run_id, number, rounds.StoredState(b"sealed", run_id.bytes * 2))
    rounds.close_round(daemon, run_id, number, Figures(0.5, 0.75), None)
    new = publication.NewVersion(number, {"means": []}, None, prediction, encoding=encoding)
    return publication.publish(daemon, record.run, new)
