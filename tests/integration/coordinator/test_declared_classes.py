"""A target's classes over a whole federation: declared they train the right model, undeclared integers are counted,
and what else is undeclared costs nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.support import MODEL, WORKSPACE, World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_privacy")

NODES = ("north", "south")
UNKNOWN = "is of type numeric, and no CHECK lists its values"


async def two_sites(world: World, *columns: str) -> None:
    """Two nodes; column of the same patients: outcome as SQL makes it of `ill`, 0 or 1."""
    for number, (name, column) in enumerate(zip(NODES, columns, strict=True)):
        site = await world.add_site(name, rows=300, seed=0.1 * (number + 1), shares=False)
        with world.cluster.connect(site.database) as connection:
            connection.execute(
                "ALTER TABLE patient RENAME outcome TO ill; ALTER TABLE patient ADD PRIMARY KEY (patient_id)"
            )
            connection.execute(f"ALTER TABLE patient ADD outcome {column.split(' AS ')[0]}")  # type: ignore[arg-type]
            connection.execute(f"UPDATE patient SET outcome = {column.split(' AS ')[1]}")  # type: ignore[arg-type]
        share(world, site.database)
        world.register(site)


def share(world: World, database: str) -> None:
    with world.cluster.connect(database) as connection:
        connection.execute(
            "CALL federated.execute(%s)",
            [
                "CREATE FEDERATED DATASET patients FOR TABLE patient (age, pressure, outcome)"
                f" IN WORKSPACE {WORKSPACE}"
            ],
        )


def spent(world: World) -> list[int]:
    """How many lines each ledger has: the coordinator's, and each node's."""
    counts = [world.query("SELECT count(*) AS n FROM federated.ledger")[0]["n"]]
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            row = connection.execute("SELECT count(*) FROM federated.spending").fetchone()
            assert row is not None
            counts.append(row[0])
    return counts


async def met(world: World) -> None:
    await world.reached("(SELECT count(datasets) = 2 FROM federated.node)")


def start(world: World) -> tuple[psycopg.Error | None, list[str]]:
    """START; the error, and what notices said."""
    said: list[str] = []
    with world.catalog() as connection:
        connection.add_notice_handler(lambda one: said.append(str(one.message_primary)))
        try:
            connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {MODEL}"])
        except psycopg.Error as error:
            return error, said
    return None, said


def predicted(world: World) -> dict[str, Any]:
    return world.query(
        "SELECT sha256, federated_predict('risk', '{\"age\": 68, \"pressure\": 148}') AS p,"
        " federated_predict_class('risk', '{\"age\": 68, \"pressure\": 148}') AS high,"
        " federated_predict_class('risk', '{\"age\": 31, \"pressure\": 91}') AS low,"
        " federated_predict_proba('risk', '{\"age\": 31, \"pressure\": 91}') AS proba"
        " FROM federated.version WHERE is_current"
    )[0]


async def test_under_a_budget_undeclared_classes_end_the_run_before_anything_is_charged(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4)
    await two_sites(world, "numeric AS ill + 1", "integer CHECK (outcome IN (1, 2)) AS ill + 1")
    create_model(world)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "failed", run
    assert 'the classes of the target "outcome" are not known' in run["message"]
    assert f'north: column "outcome" of dataset "patients" {UNKNOWN}' in run["message"]
    assert 'south: column "outcome" of dataset "patients" is declared to hold 1, 2' in run["message"]
    assert "target_classes = [" in run["message"]
    assert spent(world) == [0, 0, 0]


async def test_start_itself_says_so_once_the_nodes_were_met(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4)
    await two_sites(world, "numeric AS ill + 1", "boolean AS ill = 1")
    create_model(world)
    world.start_coordinator()
    await met(world)

    error, _ = start(world)

    assert error is not None
    assert error.sqlstate == "55000"
    assert error.diag.message_primary == (
        'federated model "risk" cannot be trained: the classes of the target "outcome" are not known,'
        " as a privacy budget needs them"
    )
    assert error.diag.message_detail == f'north: column "outcome" of dataset "patients" {UNKNOWN}.'
    assert "target_classes = ['0', '1']" in str(error.diag.message_hint)
    assert world.runs() == []
    assert spent(world) == [0, 0, 0]


def ledgers(world: World) -> list[tuple[str, str, str]]:
    """Node, step and state of every line of the coordinator's ledger, by node in the order of the lines."""
    lines = world.query(
        "SELECT node_name, step, state::text AS state FROM federated.ledger ORDER BY node_name, ledger_id"
    )
    return [(one["node_name"], one["step"], one["state"]) for one in lines]


async def test_under_a_budget_an_undeclared_integer_of_0_and_1_is_counted_first_and_trains(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=50)
    await two_sites(world, "integer AS ill", "boolean AS ill = 1")
    create_model(world, rounds=8, learning_rate=0.5)
    world.start_coordinator()
    await met(world)

    error, said = start(world)

    assert error is None
    assert len(said) == 1
    assert said[0].startswith('the classes of the target "outcome" are not declared at north: a small part')
    run = await world.finished()
    assert run["status"] in ("completed", "converged"), run
    found = predicted(world)
    assert (found["high"], found["low"], set(found["proba"])) == ("1", "0", {"0", "1"})
    for node in NODES:
        steps = [step for name, step, state in ledgers(world) if name == node and state == "charged"]
        assert steps[:3] == ["classes", "statistics", "refine"]
    (first,) = world.query("SELECT message FROM federated.round WHERE round_number = 0")
    # Of classes there is nothing to say.
    assert first["message"].startswith("no report is made of the model: with about ")
    assert ";" not in first["message"].removesuffix("; its budget goes to training")


async def test_under_a_budget_undeclared_integers_of_1_and_2_cost_one_exchange_and_end_the_run(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=10)
    await two_sites(world, "integer AS ill + 1", "bigint AS ill + 1")
    create_model(world, rounds=8)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")

    run = await world.finished()

    assert run["status"] == "failed", run
    assert 'the target "outcome" is neither 0 nor 1 for about ' in run["message"]
    assert "target_classes names its two classes" in run["message"]
    assert ledgers(world) == [(node, "classes", "charged") for node in NODES]
    assert spent(world) == [2, 1, 1]
    (line,) = world.query("SELECT DISTINCT noise_multiplier, epsilon_tight FROM federated.ledger")
    alone = Accountant(1e-5).epsilon(Mechanism(line["noise_multiplier"]))
    assert line["epsilon_tight"] == pytest.approx(alone)
    assert alone < 0.15 * 10


async def test_under_a_budget_declared_classes_learn_which_is_which(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=50)
    await two_sites(world, "integer AS ill + 1", "numeric AS ill + 1")
    create_model(world, rounds=8, learning_rate=0.5, target_classes=["1", "2"])
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in ("completed", "converged"), run
    found = predicted(world)
    assert (found["high"], found["low"], set(found["proba"])) == ("2", "1", {"1", "2"})
    assert found["p"] > 0.8


async def test_without_a_budget_the_model_is_that_of_0_and_1_to_the_bit(world: World) -> None:
    create_workspace(world, min_nodes=2)
    await two_sites(
        world, "integer AS CASE ill WHEN 1 THEN 1 ELSE 2 END", "numeric AS CASE ill WHEN 1 THEN 1 ELSE 2 END"
    )
    create_model(world, target_classes=["2", "1"])
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished()
    assert run["status"] in ("completed", "converged"), run
    coded = predicted(world)
    assert (coded["high"], coded["low"], set(coded["proba"])) == ("1", "2", {"1", "2"})

    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            connection.execute("UPDATE patient SET outcome = 2 - outcome")
    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (target_classes = ['0', '1'])")
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished(count=2)
    assert run["status"] in ("completed", "converged"), run

    plain = predicted(world)
    assert (plain["sha256"], plain["p"]) == (coded["sha256"], coded["p"])
    assert (plain["high"], plain["low"]) == ("1", "0")


@pytest.mark.parametrize(
    ("kind", "classes", "said"),
    [
        ("numeric", {}, 'the target "outcome" of dataset "patients" must be 0 or 1 in every row'),
        (
            "integer",
            {"target_classes": ["1", "3"]},
            'the target "outcome" of dataset "patients" must be 1 or 3 in every row',
        ),
    ],
)
async def test_without_a_budget_the_rows_say_so(
    world: World, kind: str, classes: dict[str, Any], said: str
) -> None:
    create_workspace(world, min_nodes=2)
    await two_sites(world, f"{kind} AS ill + 1", f"{kind} AS ill + 1")
    create_model(world, **classes)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")

    run = await world.finished()

    assert run["status"] == "failed", run
    assert said in run["message"]
    assert "north refused" in run["message"] or "south refused" in run["message"]


async def test_a_node_that_differs_is_left_out_and_named_by_start_and_by_the_run(world: World) -> None:
    create_workspace(world, min_nodes=1)
    await two_sites(world, "integer CHECK (outcome IN (0, 1)) AS ill", "date AS current_date + ill")
    create_model(world)
    world.start_coordinator()
    await met(world)
    reason = 'column outcome of dataset "patients" is of type date, no number and no label'

    error, said = start(world)

    assert error is None
    assert said == [f'node "south" would be left out of the run: {reason}']
    run = await world.finished()
    assert run["status"] in ("completed", "converged"), run
    assert f"left out: south: {reason}" in run["message"]


async def test_who_was_left_out_is_said_behind_what_mends_a_refusal(world: World) -> None:
    create_workspace(world, min_nodes=1)
    await two_sites(world, "numeric AS ill + 1", "date AS current_date + ill")
    create_model(world)
    world.start_coordinator()
    await met(world)
    world.execute("START FEDERATED TRAINING risk")

    run = await world.finished()

    assert run["status"] == "failed", run
    assert "such as linear_regression; left out: south: " in run["message"]


async def test_a_feature_that_is_boolean_at_one_node_only_is_a_number_and_a_domain_is_what_it_is_over(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2)
    for name, kind in zip(NODES, ("boolean", "integer"), strict=True):
        site = await world.add_site(name, rows=300, shares=False)
        with world.cluster.connect(site.database) as connection:
            connection.execute("CREATE DOMAIN flag AS boolean")
            connection.execute(f"ALTER TABLE patient ADD smoker {kind}, ADD old flag")  # type: ignore[arg-type]
            connection.execute(f"UPDATE patient SET smoker = (patient_id % 3 = 0)::{kind}, old = age > 50")  # type: ignore[arg-type]
            connection.execute(
                "CALL federated.execute(%s)",
                [
                    "CREATE FEDERATED DATASET patients FOR TABLE patient (smoker, old, outcome)"
                    f" IN WORKSPACE {WORKSPACE}"
                ],
            )
        world.register(site)
    create_model(world, features=("smoker", "old"))
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished()
    assert run["status"] in ("completed", "converged"), run

    assert world.query(
        "SELECT proargtypes::regtype[]::text AS types FROM pg_proc"
        " WHERE pronamespace = 'federated_model'::regnamespace AND proname = 'risk'"
    ) == [{"types": '[0:1]={"double precision",boolean}'}]
    forms = world.query(
        "SELECT federated_model.risk(smoker => 1, old => false) AS named,"
        " federated_predict('risk', '{\"smoker\": true, \"old\": 0}') AS json,"
        " predict('risk', ARRAY[1, 0]::float8[]) AS array"
    )[0]
    assert forms["named"] == forms["json"] == forms["array"]
