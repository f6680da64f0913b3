"""Folds and searches over real nodes: runs one after another, what they are judged by, and what is kept."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace


async def _federation(world: World, *, rows: int = 200, budget: bool = False, **options: object) -> None:
    create_workspace(world, min_nodes=2, **({"privacy_budget": 20.0} if budget else {}))
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))
    create_model(world, **options)


async def _over(world: World) -> str:
    """Wait until wait_for_convergence would answer, and return what it says."""
    await world.reached("NOT EXISTS (SELECT FROM federated.run WHERE status IN ('queued', 'running'))")
    (answer,) = world.query("SELECT wait_for_convergence('risk', 60) AS status")
    return str(answer["status"])


def _trials(world: World) -> list[dict[str, Any]]:
    return world.query("SELECT trial, options, metrics FROM federated_trials('risk')")


def _kept_states(world: World) -> int:
    return int(world.query("SELECT count(*) AS n FROM federated.run_parameters")[0]["n"])


async def test_the_best_trial_of_a_search_becomes_the_only_version(world: World) -> None:
    await _federation(world)
    world.execute("""START FEDERATED TRAINING risk WITH (search = '{"learning_rate": [0.001, 0.3, 0.01]}')""")
    world.start_coordinator()

    status = await _over(world)

    trials = _trials(world)
    assert [one["options"] for one in trials] == [{"learning_rate": rate} for rate in (0.001, 0.3, 0.01)]
    losses = [one["metrics"]["loss"] for one in trials]
    assert losses[1] < losses[2] < losses[0]
    assert [one["metrics"]["place"] for one in trials] == [3, 1, 2]
    assert [one["metrics"]["version"] for one in trials] == [None, 1, None]
    assert status == trials[1]["metrics"]["status"] == "completed"
    assert "the best trial: published as version 1" in trials[1]["metrics"]["message"]
    (version,) = world.query(
        "SELECT v.version, v.is_current, v.global_loss, r.trial FROM federated.version AS v "
        "JOIN federated.run AS r USING (run_id)"
    )
    assert version == {"version": 1, "is_current": True, "global_loss": losses[1], "trial": 2}
    (high,) = world.query("SELECT federated_model.risk(age => 70, pressure => 150) AS p")
    assert high["p"] > 0.5
    assert _kept_states(world) == 0


async def test_folds_are_evaluated_and_no_model_of_theirs_is_kept(world: World) -> None:
    await _federation(world)
    for site in world.sites:
        # Where a fold's model is wrong about a few, a node would not say by class.
        with world.cluster.connect(site.database) as connection:
            connection.execute(
                "CALL federated.execute('ALTER FEDERATED DATASET patients SET (min_cell = 1)')"
            )
    world.execute("START FEDERATED TRAINING risk WITH (folds = 4, rounds = 2)")
    world.start_coordinator()

    assert await _over(world) == "completed"

    (trial,) = _trials(world)
    folds = trial["metrics"]["folds"]
    assert trial["options"] == {}
    assert [one["fold"] for one in folds] == [0, 1, 2, 3]
    assert trial["metrics"]["loss"] == pytest.approx(sum(one["loss"] for one in folds) / 4, rel=1e-12)
    assert len({one["loss"] for one in folds}) == 4
    assert trial["metrics"]["loss_std"] > 0
    assert trial["metrics"]["f1_score"] == pytest.approx(sum(one["f1_score"] for one in folds) / 4, rel=1e-12)
    world.query(
        "UPDATE federated.round SET global_f1_score = NULL WHERE global_loss = %s RETURNING 1",
        folds[2]["loss"],
    )
    (trial,) = _trials(world)
    assert trial["metrics"]["f1_score"] is None, "the mean over three folds is about other rows than the loss"
    assert trial["metrics"]["base_loss"] > 0
    assert world.query("SELECT version FROM federated.version") == []
    assert _kept_states(world) == 0
    overlaps = world.query(
        "SELECT a.fold FROM federated.run AS a JOIN federated.run AS b "
        "ON a.run_id <> b.run_id AND a.started_at < b.finished_at AND b.started_at < a.finished_at"
    )
    assert overlaps == [], "two runs of one series ran at once"


async def test_a_search_with_folds_ends_with_a_run_of_the_best_trial_on_all_rows(world: World) -> None:
    await _federation(world, rounds=2)
    world.execute(
        """START FEDERATED TRAINING risk WITH (folds = 2, search = '{"learning_rate": [0.001, 0.3]}')"""
    )
    world.start_coordinator()

    assert await _over(world) == "completed"

    runs = world.query(
        "SELECT trial, fold, options ->> 'learning_rate' AS rate, EXISTS (SELECT FROM federated.version AS v "
        "WHERE v.run_id = r.run_id) AS kept FROM federated.run AS r ORDER BY created_at"
    )
    assert [(one["trial"], one["fold"], float(one["rate"]), one["kept"]) for one in runs] == [
        (1, 0, 0.001, False),
        (1, 1, 0.001, False),
        (2, 0, 0.3, False),
        (2, 1, 0.3, False),
        (2, None, 0.3, True),
    ]
    assert [one["metrics"]["version"] for one in _trials(world)] == [None, 1]


async def test_a_fold_of_too_few_subjects_is_refused_and_said(world: World) -> None:
    await _federation(world, rows=60)
    world.execute("START FEDERATED TRAINING risk WITH (folds = 10)")
    world.start_coordinator()

    assert await _over(world) == "failed"

    (trial,) = _trials(world)
    assert trial["metrics"]["place"] is None
    assert trial["metrics"]["loss"] is None
    assert "one of 10 folds has fewer than min_rows = 20" in trial["metrics"]["folds"][0]["message"]


async def test_stop_ends_all_queued_trials_and_the_best_so_far_is_kept(world: World) -> None:
    await _federation(world, rounds=2)
    world.execute(
        """START FEDERATED TRAINING risk WITH (search = '{"learning_rate": [0.1, 0.2], "rounds": [2, 100000]}',"""
        " early_stopping_rounds = 100000)"
    )
    world.start_coordinator()
    await world.reached(
        "EXISTS (SELECT FROM federated.run JOIN federated.round AS d USING (run_id) "
        "WHERE trial = 2 AND d.round_number = 3)"
    )

    world.execute("STOP FEDERATED TRAINING risk")

    await _over(world)
    statuses = world.query("SELECT trial, status::text, message FROM federated.run ORDER BY created_at")
    assert [one["status"] for one in statuses] == ["completed", "stopped", "stopped", "stopped"]
    assert [one["message"] for one in statuses[2:]] == ["stopped before it began"] * 2
    assert len(world.query("SELECT version FROM federated.version WHERE is_current")) == 1


async def test_a_killed_coordinator_leaves_a_search_that_another_one_ends(world: World) -> None:
    await _federation(world, rounds=2)
    world.execute("""START FEDERATED TRAINING risk WITH (search = '{"learning_rate": [0.01, 0.3]}')""")
    first = world.start_coordinator(faults="coordinator.round.closed:4=kill")
    await first.died()
    second = world.start_coordinator(faults="coordinator.search.decided=kill")
    await second.died()
    world.start_coordinator()

    assert await _over(world) == "completed"

    assert [one["metrics"]["version"] for one in _trials(world)] == [None, 1]
    assert len(world.query("SELECT version FROM federated.version")) == 1


async def test_a_search_under_a_budget_divides_what_is_left_among_its_runs(world: World) -> None:
    await _federation(world, budget=True, rows=400, target_classes=["0", "1"])
    world.execute("""START FEDERATED TRAINING risk WITH (search = '{"learning_rate": [0.05, 0.2]}')""")
    world.start_coordinator()

    assert await _over(world) in {"completed", "converged"}

    spent = world.query(
        "SELECT r.trial, max(l.epsilon_tight) AS epsilon FROM federated.ledger AS l "
        "JOIN federated.run AS r USING (run_id) GROUP BY r.trial ORDER BY r.trial"
    )
    assert [one["trial"] for one in spent] == [1, 2]
    assert spent[0]["epsilon"] == pytest.approx(10.0, rel=0.01)
    assert spent[1]["epsilon"] == pytest.approx(20.0, rel=0.01)


async def test_start_refuses_what_cannot_be_searched(world: World) -> None:
    create_workspace(world, min_nodes=2)
    create_model(world)
    for options, message in (
        ("""search = '{"learning_rat": [1]}'""", "is not an option that a run may set"),
        ("""search = '{"seed": [1, 2]}'""", "cannot be tried by a search"),
        ("""search = '{"learning_rate": [0.1, 0.1]}'""", "twice"),
        ("""search = '{"learning_rate": [-1]}'""", 'invalid value for option "learning_rate"'),
        ("search = '{}'", 'invalid value for option "search"'),
        ("folds = 5, validation_split = 0.1", "exclude each other"),
        ("folds = 1", 'invalid value for option "folds"'),
        (
            """folds = 20, search = '{"rounds": [1,2,3,4,5,6,7,8,9], "learning_rate": [0.1,0.2,0.3]}'""",
            "540 runs",
        ),
    ):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
            world.execute(f"START FEDERATED TRAINING risk WITH ({options})")
    assert world.runs() == []
    world.execute("""START FEDERATED TRAINING risk WITH (search = '{"learning_rate": [0.1, 0.2]}')""")
    with pytest.raises(psycopg.errors.ObjectInUse):
        world.execute("START FEDERATED TRAINING risk")
    world.execute("STOP FEDERATED TRAINING risk")
    assert [one["status"] for one in world.runs()] == ["stopped", "stopped"]
