"""optimizer = 'newton' over real nodes: the estimates and standard errors of the pooled rows."""

from __future__ import annotations

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
