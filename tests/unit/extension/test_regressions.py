"""What START refuses of a regression, before a run is queued."""

from __future__ import annotations

from typing import Any

import pytest

from federated_sql.clause_values import Option
from federated_sql.errors import FederatedError
from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.run import TrainingOptions
from heliosdb.extension.regressions import check_regression, describe_rounds


def options(algorithm: str, **given: Any) -> TrainingOptions:
    fixed = {"features": ["a", "b"], "target": "y", "rounds": 5, "aggregation": "fedavg", "optimizer": "sgd"}
    return parse_options(fixed | {"algorithm": algorithm} | given)


NEWTON: dict[str, Any] = {"optimizer": "newton"}
COX: dict[str, Any] = NEWTON | {"event": "died"}


@pytest.mark.parametrize("private", [False, True])
def test_what_there_was_before_is_still_started(private: bool) -> None:
    for algorithm in ("logistic_regression", "linear_regression"):
        check_regression(options(algorithm), [], private=private)


def test_newton_is_started_with_all_that_it_reads() -> None:
    for algorithm in ("logistic_regression", "linear_regression", "poisson_regression"):
        given = NEWTON | {"weights": "w", "offset": "o", "penalty": 0.1, "l1_ratio": 0.5}
        check_regression(options(algorithm, **given), [Option("penalty", 0.1)], private=False)
    check_regression(options("cox_regression", **COX), [], private=False)


def test_newton_is_started_under_a_budget() -> None:
    for algorithm in ("logistic_regression", "linear_regression", "poisson_regression"):
        check_regression(options(algorithm, **NEWTON), [], private=True)
    check_regression(options("cox_regression", **COX), [], private=True)


@pytest.mark.parametrize(
    ("algorithm", "given", "text"),
    [
        ("linear_regression", {"penalty": 0.1}, "the option penalty"),
        ("linear_regression", {"weights": "w"}, "the option weights"),
        ("linear_regression", NEWTON | {"penalty": 0.1}, "the option penalty"),
        ("poisson_regression", {}, "poisson_regression by optimizer sgd"),
        ("cox_regression", COX | {"penalty": 0.1}, "the option penalty"),
    ],
)
def test_under_a_budget_what_has_no_private_form_is_named(
    algorithm: str, given: dict[str, Any], text: str
) -> None:
    with pytest.raises(
        FederatedError, match=f"^{text} is not supported under a privacy_budget yet"
    ) as caught:
        check_regression(options(algorithm, **given), [], private=True)
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    ("algorithm", "given", "state", "text"),
    [
        ("linear_regression", NEWTON | {"weights": "a"}, "22023", "among the features"),
        ("linear_regression", NEWTON | {"offset": "y"}, "22023", "among the target"),
        ("linear_regression", NEWTON | {"offset": "w", "weights": "w"}, "22023", "among option weights"),
        ("linear_regression", {"offset": "w"}, "0A000", "not supported by optimizer sgd"),
        ("cox_regression", {"event": "died"}, "22023", "is not trained by optimizer sgd"),
        ("cox_regression", NEWTON, "55000", "needs the option event"),
        ("cox_regression", {"optimizer": "adam", "event": "died"}, "22023", "optimizer"),
    ],
)
def test_what_does_not_go_together_is_one_clear_error(
    algorithm: str, given: dict[str, Any], state: str, text: str
) -> None:
    with pytest.raises(FederatedError, match=text) as caught:
        check_regression(options(algorithm, **given), [], private=False)
    assert caught.value.sqlstate == state


@pytest.mark.parametrize("name", ["learning_rate", "batch_size", "local_epochs", "max_update_norm"])
def test_what_newton_does_not_read_is_not_accepted_for_its_run(name: str) -> None:
    with pytest.raises(FederatedError, match=f'option "{name}" has no effect') as caught:
        check_regression(options("linear_regression", **NEWTON), [Option(name, 1, 7)], private=False)
    assert caught.value.position == 7


@pytest.mark.parametrize(
    ("algorithm", "rounds", "said"),
    [
        ("linear_regression", 5, ["takes 1 round of linear_regression at most, not 5"]),
        ("poisson_regression", 4, ["takes 3 rounds of poisson_regression at most, not 4"]),
        ("logistic_regression", 3, []),
        ("linear_regression", 1, []),
    ],
)
def test_more_rounds_than_a_budget_is_divided_over_are_said(
    algorithm: str, rounds: int, said: list[str]
) -> None:
    found = describe_rounds(options(algorithm, **NEWTON, **{"rounds": rounds}))
    assert len(found) == len(said)
    assert all(one in told for one, told in zip(said, found, strict=True))
