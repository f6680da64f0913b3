"""Versions become functions: replaced, kept from PUBLIC, and never at the cost of what depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.catalog import publication, rounds, runs
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import RoundNumber, RunId, StepName
from heliosdb.domain.run import Run
from tests.integration.coordinator.support import FEATURES, World, create_model, create_workspace


@pytest.fixture
def model(world: World) -> World:
    """A model that was never trained."""
    create_workspace(world)
    create_model(world)
    return world


@pytest.fixture
def daemon(model: World) -> Iterator[PsycopgConnection]:
    """A coordinator's connection."""
    with connected(
        model.cluster.dsn(model.database, user="heliosdb_daemon"), application_name="test"
    ) as made:
        become_daemon(made)
        yield made


def finish_run(
    world: World, daemon: PsycopgConnection, value: float, *features: str
) -> publication.Published:
    """Publish what a run of one closed round would; its model predicts a constant."""
    run_id = uuid4()
    with world.catalog() as connection:
        connection.execute(
            "UPDATE federated.model SET options = jsonb_set(options, '{features}', to_jsonb(%s::text[]))",
            [list(features)],
        )
        connection.execute("UPDATE federated.run SET status = 'completed'")
        connection.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
        connection.execute(
            "UPDATE federated.run SET status = 'running', run_id = %s WHERE status = 'queued'", [run_id]
        )
    run = read_run(daemon, run_id)
    with daemon.transaction():
        rounds.open_round(daemon, run, RoundNumber(1), StepName("train"), [])
        rounds.put_state(daemon, run.id, 1, rounds.StoredState(b"sealed", b"\x01" * 32))
        rounds.close_round(daemon, run.id, 1, Figures(0.5, 0.75), None)
        zeros = (0.0,) * len(features)
        prediction = LinearPrediction(value, zeros, zeros, zeros, "identity")
        new = publication.NewVersion(RoundNumber(1), {"means": []}, 1.5, prediction.to_prediction())
        return publication.publish(daemon, run, new)


def read_run(daemon: PsycopgConnection, run_id: UUID) -> Run:
    record = runs.find_run(daemon, RunId(run_id))
    assert record is not None
    return record.run


def predict(world: World) -> float:
    return float(world.query("SELECT federated_model.risk() AS p")[0]["p"])


def versions(world: World) -> list[tuple[int, bool]]:
    found = world.query("SELECT version, is_current FROM federated.version ORDER BY version")
    return [(one["version"], one["is_current"]) for one in found]


def test_a_version_replaces_the_function_that_had_none(model: World, daemon: PsycopgConnection) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no trained version"):
        predict(model)

    published = finish_run(model, daemon, 0.25, *FEATURES)

    assert published == publication.Published(1, None)
    assert predict(model) == 0.25
    stored = model.query("SELECT * FROM federated.version")[0]
    assert (stored["sealed"], stored["sha256"]) == (b"sealed", b"\x01" * 32)
    assert (stored["global_loss"], stored["global_accuracy"], stored["epsilon"]) == (0.5, 0.75, 1.5)
    assert (stored["prediction"]["intercept"], stored["prediction"]["booleans"]) == (
        0.25,
        [False] * len(FEATURES),
    )
    assert model.query('SELECT federated_model."risk@1"() AS p') == [{"p": 0.25}]


def test_the_next_version_takes_its_place_under_the_same_signature(
    model: World, daemon: PsycopgConnection
) -> None:
    finish_run(model, daemon, 0.25, *FEATURES)
    with model.catalog() as connection:
        connection.execute("CREATE VIEW dependent AS SELECT federated_model.risk(age => 1) AS p")

    finish_run(model, daemon, 0.5, *FEATURES)

    assert versions(model) == [(1, False), (2, True)]
    assert model.query("SELECT p FROM dependent") == [{"p": 0.5}]


def test_changed_features_make_a_new_function(model: World, daemon: PsycopgConnection) -> None:
    finish_run(model, daemon, 0.25, *FEATURES)

    assert finish_run(model, daemon, 0.5, "bmi", 'odd "name"').obstacle is None

    found = model.query(
        "SELECT proargnames FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace AND proname = 'risk'"
    )
    assert found == [{"proargnames": ["bmi", 'odd "name"']}]
    assert predict(model) == 0.5


def test_what_depends_on_the_old_signature_keeps_it_and_the_version_waits(
    model: World, daemon: PsycopgConnection
) -> None:
    finish_run(model, daemon, 0.25, *FEATURES)
    with model.catalog() as connection:
        connection.execute("CREATE VIEW dependent AS SELECT federated_model.risk(age => 1) AS p")

    published = finish_run(model, daemon, 0.5, "bmi")

    assert published.version == 2
    assert published.obstacle is not None
    assert "dependent" in published.obstacle
    assert versions(model) == [(1, True), (2, False)]
    assert model.query("SELECT p FROM dependent") == [{"p": 0.25}]


def test_the_function_is_inlined_belongs_to_nobody_who_can_log_in_and_is_the_analysts(
    model: World, daemon: PsycopgConnection
) -> None:
    finish_run(model, daemon, 0.25, *FEATURES)

    function = model.query(
        "SELECT p.proowner::regrole::text AS owner, l.lanname AS language, p.provolatile AS volatility, "
        "p.proparallel AS parallel, p.proconfig, p.prosqlbody IS NOT NULL AS bound, "
        "obj_description(p.oid, 'pg_proc') AS comment, "
        "has_function_privilege('federated_analyst', p.oid, 'EXECUTE') AS analyst, "
        "has_function_privilege('a_nobody', p.oid, 'EXECUTE') AS nobody "
        "FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang "
        "WHERE p.pronamespace = 'federated_model'::regnamespace AND p.proname = 'risk'"
    )[0]
    run_id = model.query("SELECT run_id FROM federated.version")[0]["run_id"]
    assert function == {
        "owner": "federated_owner",
        "language": "sql",
        "volatility": "s",
        "parallel": "s",
        "proconfig": None,
        "bound": True,
        "comment": f"Version 1 of federated model risk, from run {run_id}",
        "analyst": True,
        "nobody": False,
    }
    plan = model.query(
        "EXPLAIN (VERBOSE, COSTS OFF) SELECT federated_model.risk(age => g) FROM generate_series(1, 2) AS g"
    )
    assert not any("risk" in line["QUERY PLAN"] for line in plan)


def test_a_transaction_that_is_undone_leaves_version_and_function_as_they_were(
    model: World, daemon: PsycopgConnection
) -> None:
    finish_run(model, daemon, 0.25, *FEATURES)

    with pytest.raises(RuntimeError), daemon.transaction():
        finish_run(model, daemon, 0.5, *FEATURES)
        raise RuntimeError

    assert versions(model) == [(1, True)]
    assert predict(model) == 0.25
