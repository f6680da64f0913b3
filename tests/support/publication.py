"""Trained versions without training: what a coordinator stores at the end of a run of one round."""

from __future__ import annotations

from uuid import uuid4

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.catalog import publication, rounds, runs
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import connected
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


def publish_prediction(
    cluster: Cluster, database: str, model: str, prediction: Prediction, encoding: Encoding | None = None
) -> publication.Published:
    """Complete a run of the model, its queued one if there is one, with a version of this prediction."""
    run_id = RunId(uuid4())
    with cluster.connect(database) as connection:
        queued = connection.execute(
            "SELECT FROM federated.run JOIN federated.model USING (model_id) WHERE name = %s AND status = 'queued'",
            [model],
        )
        if queued.rowcount == 0:
            connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {model}"])
        connection.execute(
            "UPDATE federated.run AS r SET status = 'running', run_id = %s, started_at = clock_timestamp()"
            " FROM federated.model AS m WHERE m.model_id = r.model_id AND m.name = %s AND r.status = 'queued'",
            [run_id, model],
        )
    with connected(cluster.dsn(database, user="heliosdb_daemon"), application_name="test") as daemon:
        become_daemon(daemon)
        record = runs.find_run(daemon, run_id)
        assert record is not None
        with daemon.transaction():
            number = RoundNumber(1)
            rounds.open_round(daemon, record.run, number, StepName("train"), [])
            rounds.put_state(daemon, run_id, number, rounds.StoredState(b"sealed", run_id.bytes * 2))
            rounds.close_round(daemon, run_id, number, Figures(0.5, 0.75), None)
            new = publication.NewVersion(number, {"means": []}, None, prediction, encoding=encoding)
            published = publication.publish(daemon, record.run, new)
    with cluster.connect(database) as connection:
        connection.execute(
            "UPDATE federated.run SET status = 'completed', finished_at = clock_timestamp() WHERE run_id = %s",
            [run_id],
        )
    return published
