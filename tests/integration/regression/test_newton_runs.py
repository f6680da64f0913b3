"""optimizer = 'newton' over real nodes: the estimates and standard errors of the pooled rows."""

from __future__ import annotations

import asyncio

import numpy as np
import psycopg
import pytest
import statsmodels.api as sm

from tests.integration.regression.conftest import Clinics, notices_of

TERMS = ["(intercept)", "a", "b", "flag"]


def check_against(clinics: Clinics, model: str, oracle: object) -> None:
    found = clinics.coefficients(model)
    assert list(found) == TERMS
    for name, expected in (
        ("estimate", oracle.params),
        ("std_error", oracle.bse),
        ("statistic", oracle.tvalues),
        ("p_value", oracle.pvalues),
        ("conf_low", oracle.conf_int()[:, 0]),
        ("conf_high", oracle.conf_int()[:, 1]),
    ):
        np.testing.assert_allclose([found[term][name] for term in TERMS], expected, rtol=1e-7, atol=1e-9)


def test_logistic_regression(clinics: Clinics) -> None:
    run = clinics.train("odds", algorithm="'logistic_regression'", target="'ill'", optimizer="'newton'")
    assert run["status"] == "converged", run
    assert "no longer move" in run["message"]
    rounds = clinics.world.query(
        "SELECT max(round_number) AS n FROM federated.round WHERE run_id = %s", run["run_id"]
    )
    assert rounds[0]["n"] <= 12
    oracle = sm.Logit(clinics.pooled["ill"], clinics.design()).fit(
        disp=0, method="newton", tol=1e-14, maxiter=100
    )
    check_against(clinics, "odds", oracle)


def test_linear_regression_by_tag(clinics: Clinics) -> None:
    run = clinics.train("price", algorithm="'linear_regression'", target="'cost'", optimizer="'newton'")
    assert run["status"] == "converged", run
    clinics.world.execute("TAG FEDERATED MODEL price AS 'first'")
    check_against(clinics, "price@first", sm.OLS(clinics.pooled["cost"], clinics.design()).fit())


def test_poisson_regression_with_weights_and_an_offset(clinics: Clinics) -> None:
    run = clinics.train(
        "counts",
        algorithm="'poisson_regression'",
        target="'visits'",
        weights="'share'",
        offset="'exposure'",
        optimizer="'newton'",
    )
    assert run["status"] == "converged", run
    pooled = clinics.pooled
    model = sm.GLM(
        pooled["visits"],
        clinics.design(),
        family=sm.families.Poisson(),
        var_weights=pooled["share"],
        offset=pooled["exposure"],
    )
    oracle = model.fit(tol=1e-14, maxiter=100)
    check_against(clinics, "counts", oracle)
    predicted = clinics.world.query("SELECT federated_model.counts(a => 50, b => 1, flag => true) AS mean")
    np.testing.assert_allclose(predicted[0]["mean"], np.exp(oracle.params @ [1.0, 50.0, 1.0, 1.0]), rtol=1e-9)


def test_cox_regression(clinics: Clinics) -> None:
    run = clinics.train(
        "hazard", algorithm="'cox_regression'", target="'months'", event="'died'", optimizer="'newton'"
    )
    assert run["status"] == "converged", run
    found = clinics.coefficients("hazard")
    assert list(found) == TERMS[1:]
    pooled = clinics.pooled
    oracle = sm.PHReg(pooled["months"], clinics.design()[:, 1:], status=pooled["died"], ties="breslow").fit()
    # Of so few rows months are grouped, which the round says.
    said = clinics.world.query(
        "SELECT message FROM federated.round WHERE run_id = %s AND round_number = 0", run["run_id"]
    )
    assert "intervals, in each of which every node has enough rows" in said[0]["message"]
    for term, expected, error in zip(TERMS[1:], oracle.params, oracle.bse, strict=True):
        assert abs(found[term]["estimate"] - expected) < error
        np.testing.assert_allclose(found[term]["std_error"], error, rtol=0.25)
    row = {"a": 60.0, "b": 1.0, "flag": True}
    one, other = (
        clinics.world.query("SELECT federated_model.hazard(a => %s, b => %s, flag => %s) AS h", *values)[0][
            "h"
        ]
        for values in (tuple(row.values()), (61.0, 1.0, True))
    )
    np.testing.assert_allclose(np.log(other / one), found["a"]["estimate"], rtol=1e-9)


def test_the_c_index_of_a_cox_regression(clinics: Clinics) -> None:
    clinics.train(
        "leaving",
        algorithm="'cox_regression'",
        target="'months'",
        event="'died'",
        optimizer="'newton'",
        validation_split=0.4,
    )
    known = {
        row["metric"]: row["value"]
        for row in clinics.world.query("SELECT * FROM federated_evaluate('leaving')")
    }
    assert 0.5 < known.pop("global_c_index") < 0.8
    assert not any(value is not None for value in known.values())
    [each] = clinics.world.query(
        "SELECT federated._evaluate_columns('leaving', columns => '{per_node_metrics}') AS found"
    )
    nodes = each["found"][0]["per_node_metrics"]
    assert set(nodes) == {"north", "south"}
    assert all(0.4 < one["c_index"] < 0.9 and 30 < one["rows"] < 90 for one in nodes.values())
    with pytest.raises(psycopg.Error, match="is not defined for federated model") as caught:
        clinics.world.query("SELECT * FROM federated_roc_curve('leaving')")
    assert caught.value.sqlstate == "55000"
    checked = clinics.world.query("SELECT node_name, outliers FROM federated_data_quality_check('leaving')")
    assert [row["outliers"] for row in checked] == [None] * 3


@pytest.mark.parametrize(
    ("options", "state", "text"),
    [
        (
            "algorithm = 'cox_regression', target = 'months', optimizer = 'newton'",
            "55000",
            "needs the option event",
        ),
        (
            "algorithm = 'cox_regression', target = 'months', event = 'died'",
            "22023",
            "is not trained by optimizer sgd",
        ),
        (
            "algorithm = 'linear_regression', target = 'cost', weights = 'share'",
            "0A000",
            "not supported by optimizer sgd",
        ),
        (
            "algorithm = 'linear_regression', target = 'cost', weights = 'a', optimizer = 'newton'",
            "22023",
            "among the features",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_at_start(
    clinics: Clinics, options: str, state: str, text: str
) -> None:
    name = f"bad_{abs(hash(options))}"
    clinics.world.execute(f"CREATE FEDERATED MODEL {name} WITH (features = ['a'], {options})")
    with pytest.raises(psycopg.Error, match=text) as caught:
        clinics.world.execute(f"START FEDERATED TRAINING {name}")
    assert caught.value.sqlstate == state


def test_training_by_descent_has_estimates_and_says_why_no_errors(clinics: Clinics) -> None:
    run = clinics.train("slow", algorithm="'logistic_regression'", target="'ill'", rounds=2)
    assert run["status"] == "completed", run
    found = clinics.coefficients("slow")
    assert all(row["estimate"] is not None for row in found.values())
    assert all(row["std_error"] is None and row["p_value"] is None for row in found.values())
    ((_, detail),) = notices_of(clinics.world, "SELECT * FROM federated_coefficients('slow')")
    assert detail is not None
    assert "newton" in detail


def test_collinear_columns_end_the_run_and_are_named(clinics: Clinics) -> None:
    run = clinics.train(
        "twice",
        algorithm="'linear_regression'",
        target="'cost'",
        features="['a', 'b', 'halved']",
        optimizer="'newton'",
    )
    assert run["status"] == "failed", run
    assert run["message"] == (
        "the inputs are collinear: halved is a combination of a. Leave one of them out, or set a penalty."
    )


def test_a_model_without_a_version_says_so(clinics: Clinics) -> None:
    clinics.world.execute(
        "CREATE FEDERATED MODEL untrained WITH (algorithm = 'linear_regression', features = ['a'], target = 'cost')"
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no trained version"):
        clinics.coefficients("untrained")


def test_what_newton_does_not_read_is_refused(clinics: Clinics) -> None:
    clinics.world.execute(
        "CREATE FEDERATED MODEL odd WITH (algorithm = 'linear_regression', features = ['a'], target = 'cost')"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="learning_rate"):
        clinics.world.execute("START FEDERATED TRAINING odd WITH (optimizer = 'newton', learning_rate = 0.1)")


@pytest.mark.parametrize("before_the_end", [0, 2], ids=["at the end", "in the middle"])
def test_a_coordinator_that_is_killed_leads_to_the_same_estimates(
    clinics: Clinics, before_the_end: int
) -> None:
    options = {"algorithm": "'logistic_regression'", "target": "'ill'", "optimizer": "'newton'", "seed": 3}
    world = clinics.world
    run = clinics.train(f"whole{before_the_end}", **options)
    assert run["status"] == "converged", run
    rounds = world.query("SELECT count(*) AS n FROM federated.round WHERE run_id = %s", run["run_id"])[0]["n"]

    world.coordinators[-1].kill()
    killed = world.start_coordinator(faults=f"coordinator.round.closed:{rounds - before_the_end}=kill")
    listed = ", ".join(f"{key} = {value}" for key, value in options.items())
    name = f"interrupted{before_the_end}"
    world.execute(
        f"CREATE FEDERATED MODEL {name} WITH "
        f"({listed}, features = ['a', 'b', 'flag'], validation_split = 0.0, rounds = 20)"
    )
    world.execute(f"START FEDERATED TRAINING {name}")
    asyncio.run(killed.died())
    world.start_coordinator()
    again = asyncio.run(world.finished(count=len(world.runs())))

    assert again["status"] == "converged", again
    assert again["message"] == run["message"]
    assert clinics.coefficients(name) == clinics.coefficients(f"whole{before_the_end}")


def test_for_several_classes_coefficients_say_what_they_are(clinics: Clinics) -> None:
    clinics.train("shown", algorithm="'linear_regression'", target="'cost'", optimizer="'newton'")
    with clinics.world.catalog() as connection, connection.transaction(force_rollback=True):
        connection.execute(
            'UPDATE federated.version SET prediction = jsonb_set(jsonb_set(prediction, \'{classes}\', \'["x", "y", "z"]\'), '
            "'{coefficients,scores}', (prediction #> '{coefficients,scores}') || (prediction #> '{coefficients,scores}'))"
        )
        rows = connection.execute("SELECT term, estimate FROM federated_coefficients('shown')").fetchall()
        assert [row["term"] for row in rows] == [f"{label}: {term}" for label in "yz" for term in TERMS]
        assert [row["estimate"] for row in rows[:4]] == [row["estimate"] for row in rows[4:]]


def test_who_may_see_predictions_may_see_coefficients_and_nobody_else(clinics: Clinics) -> None:
    clinics.train("owned", algorithm="'linear_regression'", target="'cost'", optimizer="'newton'")
    for user, may in (("an_analyst", True), ("an_auditor", True), ("a_nobody", False)):
        with clinics.world.cluster.connect(clinics.world.database, user=user) as connection:
            if may:
                assert (
                    len(connection.execute("SELECT * FROM federated_coefficients('owned')").fetchall()) == 4
                )
                continue
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM federated_coefficients('owned')")
