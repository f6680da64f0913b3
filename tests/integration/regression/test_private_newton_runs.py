"""optimizer = 'newton' under a privacy budget, over real nodes: estimates, ledgers, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from heliosdb.algorithms.concordance import count_pairs
from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.support import WORKSPACE, create_workspace, make_world
from tests.integration.regression.conftest import COLUMNS, Clinics, fill, make_rows
from tests.support.cluster import Cluster

BUDGET = 20.0


@pytest.fixture
def clinics(cluster: Cluster, tmp_path: Path) -> Iterator[Clinics]:
    """Two larger clinics under a budget, of which one run spends all."""
    with make_world(cluster, tmp_path, cluster.create_database("federated_template")) as world:
        create_workspace(world, min_nodes=2, privacy_budget=BUDGET)
        parts = [make_rows(seed, 2_000) for seed in (0, 1)]
        for name, rows in zip(("north", "south"), parts, strict=True):
            site = asyncio.run(world.add_site(name, shares=False))
            fill(cluster, site.database, rows)
            world.register(site)
        world.start_coordinator()
        yield Clinics(world, {name: np.concatenate([one[name] for one in parts]) for name in COLUMNS})


def check_ledgers(clinics: Clinics, steps: list[str]) -> None:
    """Every release is in either ledger, composed as the accountant composes, and the budget is kept."""
    charges = clinics.world.query(
        "SELECT * FROM federated.ledger WHERE node_name = 'north' ORDER BY ledger_id"
    )
    assert {one["state"] for one in charges} == {"charged"}
    assert [one["step"] for one in charges] == steps
    assert {one["sampling_rate"] for one in charges} == {1.0}
    made = [Mechanism(one["noise_multiplier"], one["sampling_rate"], one["steps"]) for one in charges]
    reached = Accountant(1e-5).epsilon(*made)
    assert charges[-1]["epsilon_tight"] == pytest.approx(reached)
    assert 0.98 * BUDGET < reached <= BUDGET
    for site in clinics.world.sites:
        with clinics.world.cluster.connect(site.database) as connection:
            [spent] = connection.execute("SELECT max(epsilon_tight) FROM federated.spending").fetchone() or [
                None
            ]
        assert spent == pytest.approx(reached)


def slopes(clinics: Clinics, model: str) -> dict[str, Any]:
    found = clinics.coefficients(model)
    assert all(one["std_error"] is None for one in found.values())
    return {name: one["estimate"] for name, one in found.items() if name != "(intercept)"}


def check_near(clinics: Clinics, model: str, oracle: Any, tolerance: float) -> None:
    spread = clinics.design()[:, 1:].std(axis=0)
    found = np.array(list(slopes(clinics, model).values()))
    np.testing.assert_allclose(found * spread, np.asarray(oracle.params)[-3:] * spread, atol=tolerance)


def test_logistic_regression(clinics: Clinics) -> None:
    run = clinics.train(
        "odds",
        algorithm="'logistic_regression'",
        target="'ill'",
        target_classes="['0', '1']",
        optimizer="'newton'",
        validation_split=0.2,
    )
    assert run["status"] in ("completed", "converged"), run
    rounds = ["newton", "evaluate"] * 3
    check_ledgers(clinics, ["statistics", "refine", "refine", *rounds, "report"])
    check_near(clinics, "odds", sm.Logit(clinics.pooled["ill"], clinics.design()).fit(disp=0), 0.15)
    found = clinics.world.query("SELECT * FROM federated_evaluate('odds')")
    assert any(one["metric"] == "global_accuracy" and 0.5 < one["value"] < 0.9 for one in found)


def test_linear_regression_takes_one_round_whatever_it_is_given(clinics: Clinics) -> None:
    run = clinics.train("price", algorithm="'linear_regression'", target="'cost'", optimizer="'newton'")
    assert run["status"] == "converged", run
    assert "one round tells all" in run["message"]
    check_ledgers(clinics, ["statistics", "refine", "refine", "newton"])
    oracle = sm.OLS(clinics.pooled["cost"], clinics.design()).fit()
    found, spread = slopes(clinics, "price"), clinics.design()[:, 1:].std(axis=0)
    np.testing.assert_allclose(
        np.array(list(found.values())) * spread / clinics.pooled["cost"].std(),
        oracle.params[1:] * spread / clinics.pooled["cost"].std(),
        atol=0.1,
    )
    predicted = clinics.world.query("SELECT federated_model.price(a => 50, b => 1, flag => true) AS cost")
    assert abs(predicted[0]["cost"] - oracle.params @ [1.0, 50.0, 1.0, 1.0]) < 10.0


def test_poisson_regression(clinics: Clinics) -> None:
    run = clinics.train(
        "counts",
        algorithm="'poisson_regression'",
        target="'visits'",
        optimizer="'newton'",
        validation_split=0.2,
    )
    assert run["status"] in ("completed", "converged"), run
    oracle = sm.GLM(clinics.pooled["visits"], clinics.design(), family=sm.families.Poisson()).fit()
    check_near(clinics, "counts", oracle, 0.15)


def test_explain_tells_the_rounds_and_what_they_release(clinics: Clinics) -> None:
    clinics.world.execute(
        "CREATE FEDERATED MODEL told IN WORKSPACE " + WORKSPACE + " WITH (algorithm = 'logistic_regression',"
        " features = ['a', 'b', 'flag'], target = 'ill', optimizer = 'newton', rounds = 20)"
    )
    rows = clinics.world.query("SELECT * FROM federated.explain('EXPLAIN START FEDERATED TRAINING told')")
    lines = [str(next(iter(row.values()))) for row in rows]
    assert any("3 training rounds" in line for line in lines)


def test_cox_regression(clinics: Clinics) -> None:
    run = clinics.train(
        "hazard",
        algorithm="'cox_regression'",
        target="'months'",
        event="'died'",
        optimizer="'newton'",
        validation_split=0.0,
    )
    assert run["status"] in ("completed", "converged"), run
    check_ledgers(clinics, ["statistics", "refine", "refine", *["hazards"] * 3])
    said = clinics.world.query("SELECT round_number, message FROM federated.round ORDER BY round_number")
    assert (
        "has no figure but those of a report under a privacy budget, and there is none" in said[0]["message"]
    )
    assert "whoever is left then counts as censored" in said[1]["message"]
    pooled = clinics.pooled
    oracle = sm.PHReg(pooled["months"], clinics.design()[:, 1:], status=pooled["died"]).fit(disp=0)
    check_near(clinics, "hazard", oracle, 0.15)
    one, other = (
        clinics.world.query("SELECT federated_model.hazard(a => %s, b => 1, flag => true) AS h", a)[0]["h"]
        for a in (60.0, 61.0)
    )
    np.testing.assert_allclose(np.log(other / one), slopes(clinics, "hazard")["a"], rtol=1e-9)


def test_the_concordance_of_a_cox_regression_is_told_with_its_error(clinics: Clinics) -> None:
    run = clinics.train(
        "ordered",
        algorithm="'cox_regression'",
        target="'months'",
        event="'died'",
        optimizer="'newton'",
        validation_split=0.3,
    )
    assert run["status"] in ("completed", "converged"), run
    check_ledgers(clinics, ["statistics", "refine", "refine", *["hazards"] * 3, "report"])
    figures = {
        row["metric"]: row["value"]
        for row in clinics.world.query("SELECT * FROM federated_evaluate('ordered')")
    }
    known, pooled = slopes(clinics, "ordered"), clinics.pooled
    # Of all pairs of all rows, by the published slopes.
    scores = sum(known[name] * pooled[name].astype(float) for name in known)
    found = count_pairs(pooled["months"], pooled["died"].astype(float), np.asarray(scores))
    error = figures["global_c_index_std_error"]
    assert 0.0 < error < 0.1
    assert abs(figures["global_c_index"] - found.ordered / found.comparable) < 3.0 * error
