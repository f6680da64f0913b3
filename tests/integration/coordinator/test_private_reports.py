"""A run under a budget that has enough held-out people makes a report, charged as planned; one that has not says so."""

from __future__ import annotations

import math

import psycopg
import pytest
from sklearn.metrics import roc_auc_score

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.support import World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_private_reports")


async def start(world: World, *, rows: int, budget: float, **options: object) -> None:
    """Two nodes in a workspace with a budget, and a run queued."""
    create_workspace(world, min_nodes=2, privacy_budget=budget)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))
    create_model(world, **{"rounds": 3, "learning_rate": 0.5, **options})
    world.execute("START FEDERATED TRAINING risk")


def true_area(world: World) -> float:
    """The area over all rows of both nodes."""
    outcomes: list[int] = []
    chances: list[float] = []
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            rows = connection.execute("SELECT age, pressure, outcome FROM patient").fetchall()
        ages, pressures, found = (list(column) for column in zip(*rows, strict=True))
        chances += [
            one["chance"]
            for one in world.query(
                "SELECT federated_predict('risk', jsonb_build_object('age', a, 'pressure', p)) AS chance"
                " FROM unnest(%s::float8[], %s::float8[]) WITH ORDINALITY AS t (a, p, n) ORDER BY n",
                ages,
                pressures,
            )
        ]
        outcomes += found
    return float(roc_auc_score(outcomes, chances))


async def test_a_private_run_reports_on_what_it_publishes_within_its_budget(world: World) -> None:
    await start(world, rows=5000, budget=8.0)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    for node in ("north", "south"):
        charges = world.query("SELECT * FROM federated.ledger WHERE node_name = %s ORDER BY ledger_id", node)
        assert {one["state"] for one in charges} == {"charged"}
        assert [one["step"] for one in charges][-3:] == ["train", "evaluate", "report"]
        assert [one["step"] for one in charges].count("report") == 1
        made = [Mechanism(c["noise_multiplier"], c["sampling_rate"], c["steps"]) for c in charges]
        assert charges[-1]["epsilon_tight"] == pytest.approx(Accountant(1e-5).epsilon(*made))
        assert 7.8 < charges[-1]["epsilon_tight"] <= 8.0
    plan = world.query("SELECT plan FROM federated.run")[0]["plan"]
    assert charges[-1]["noise_multiplier"] == plan["report_noise"]
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute("SELECT max(epsilon_tight) FROM federated.spending").fetchone()
        assert spent == pytest.approx((charges[-1]["epsilon_tight"],))

    figures = {row["metric"]: row["value"] for row in world.query("SELECT * FROM federated_evaluate('risk')")}
    for name in ("auc", "precision", "recall", "f1_score", "brier"):
        assert 0.0 < figures[f"global_{name}_std_error"] < 0.1, name
    assert figures["global_auc"] == pytest.approx(true_area(world), abs=4 * figures["global_auc_std_error"])

    curve = world.query("SELECT * FROM federated_roc_curve('risk')")
    assert len(curve) == 25 and curve[0]["threshold"] == math.inf
    for rate in ("fpr", "tpr"):
        assert [row[rate] for row in curve] == sorted(row[rate] for row in curve)
        assert curve[0][rate] == 0.0 and curve[-1][rate] == 1.0
    confusion = world.query("SELECT * FROM federated_confusion_matrix('risk')")
    assert len(confusion) == 4 and all(row["std_error"] > 0.0 for row in confusion)
    assert sum(row["count"] for row in confusion) == pytest.approx(2000, abs=8 * confusion[0]["std_error"])
    bins = world.query("SELECT * FROM federated_calibration('risk')")
    assert [row["bin"] for row in bins] == list(range(1, 11))
    assert all(row["observed_std_error"] > 0.0 for row in bins if row["observed"] is not None)
    importance = {
        row["feature"]: row for row in world.query("SELECT * FROM federated_feature_importance('risk')")
    }
    assert set(importance) == {"age", "pressure"}
    assert all(row["importance"] > 2 * row["std_error"] > 0 for row in importance.values())
    [quality] = world.query("SELECT * FROM federated_data_quality_check('risk')")
    for name in ("age", "pressure"):
        error = quality["outliers_std_error"][name]
        assert error > 0.0 and 0 <= quality["outliers"][name] < 5 * error
        error = quality["missing_values_std_error"][name]
        assert 0.0 < error < 100.0 and 0 <= quality["missing_values"][name] < 5 * error
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        world.query("SELECT * FROM federated_explain_model('risk')")


@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("leaves", {"algorithm": "random_forest", "trees": 10, "rounds": 1, "learning_rate": None}),
        ("train", {"algorithm": "neural_network", "layers": "[4, 1]", "rounds": 1}),
    ],
)
async def test_trees_and_networks_report_within_their_budget(
    world: World, step: str, options: dict[str, object]
) -> None:
    await start(world, rows=5000, budget=8.0, **options)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    charges = world.query("SELECT * FROM federated.ledger WHERE node_name = 'south' ORDER BY ledger_id")
    assert [one["step"] for one in charges][-3:] == [step, "evaluate", "report"]
    assert {one["state"] for one in charges} == {"charged"} and charges[-1]["epsilon_tight"] <= 8.0
    figures = {row["metric"]: row["value"] for row in world.query("SELECT * FROM federated_evaluate('risk')")}
    assert figures["global_auc"] == pytest.approx(true_area(world), abs=4 * figures["global_auc_std_error"])
    assert len(world.query("SELECT * FROM federated_roc_curve('risk')")) == 25
    importance = world.query("SELECT * FROM federated_feature_importance('risk')")
    assert {row["feature"] for row in importance} == {"age", "pressure"}


async def test_too_few_people_for_a_report_leave_its_budget_to_training_and_are_told(world: World) -> None:
    await start(world, rows=400, budget=2.0)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    assert world.query("SELECT 1 FROM federated.ledger WHERE step = 'report'") == []
    [said] = world.query("SELECT message FROM federated.round WHERE round_number = 0")
    assert "no report is made of the model: with about" in said["message"]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        world.query("SELECT * FROM federated_roc_curve('risk')")
    assert "No report is made of the model: with about" in (refused.value.diag.message_detail or "")


async def test_a_coordinator_killed_while_it_asks_for_the_report_charges_it_once(world: World) -> None:
    await start(world, rows=5000, budget=8.0, rounds=1)
    coordinator = world.start_coordinator()
    await world.reached("SELECT count(*) = 2 FROM federated.ledger WHERE step = 'report'")
    coordinator.kill()
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    assert world.query("SELECT node_name, state FROM federated.ledger WHERE step = 'report' ORDER BY 1") == [
        {"node_name": "north", "state": "charged"},
        {"node_name": "south", "state": "charged"},
    ]
    assert len(world.query("SELECT * FROM federated_roc_curve('risk')")) == 25


SPENT_MEANWHILE = """
CREATE FUNCTION public.spend() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.step = 'evaluate' AND NEW.node_name = 'south' THEN
        INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,
            sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)
        VALUES (NEW.workspace, gen_random_uuid(), 'other', 1, 'train', 'south', 1.0, 1, 1, 4.4, NEW.epsilon_basic + 4.4,
                NEW.epsilon_tight + 4.4);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER spend AFTER INSERT ON federated.ledger FOR EACH ROW EXECUTE FUNCTION public.spend();
"""


async def test_a_report_that_others_have_spent_the_budget_of_is_left_out_and_the_version_stands(
    world: World,
) -> None:
    with world.catalog() as connection:
        connection.execute(SPENT_MEANWHILE)
    await start(world, rows=5000, budget=8.0, rounds=1)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    assert world.query("SELECT 1 FROM federated.ledger WHERE step = 'report'") == []
    [closed] = world.query("SELECT status::text, message FROM federated.round WHERE round_number = 1")
    assert closed["status"] == "closed" and "no report is made of the model" in closed["message"]
    assert world.query("SELECT report FROM federated.version") == [{"report": None}]
