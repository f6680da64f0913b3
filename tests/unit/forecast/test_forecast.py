"""What is foretold of a run: the steps, sizes and costs that the coordinator would come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from federated_sql.errors import FederatedError
from federated_sql.options import OptionKind, defaults
from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.folds import Series
from heliosdb.domain.forecast import Forecast
from heliosdb.domain.handshake import DatasetDescription, DeclaredValues
from heliosdb.domain.ids import DatasetName, ModelName, NodeName, RunId, WorkspaceName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.forecast.training import Participants, foretell
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.built import built_parts
from heliosdb.privacy.accountant import Accountant

MODEL = {"algorithm": "logistic_regression", "features": ["age", "bmi"], "target": "ill", "rounds": 6}
DATASET = DatasetDescription(
    DatasetName("visits"),
    ("age", "bmi", "ill", "ward"),
    ("double precision", "double precision", "boolean", "text"),
    plain_answers=True,
    declared=(DeclaredValues("ill", ("true", "false")),),
)


def run(options: dict[str, Any] | None = None, **policy: object) -> Run:
    built = built_parts()
    chosen = {**defaults(OptionKind.MODEL, built), **MODEL, **(options or {})}
    rules = {**defaults(OptionKind.WORKSPACE, built), **policy}
    workspace = WorkspaceName("clinics")
    return Run(
        RunId(UUID(int=0)),
        ModelName("risk"),
        1,
        1,
        parse_options(chosen),
        parse_policy(rules, workspace),
    )


def forecast(one: Run, *, subjects: int | None = 2_000, past: tuple[Mechanism, ...] = ()) -> Forecast:
    able = {NodeName(name): DATASET for name in ("north", "south")}
    pasts = dict.fromkeys(able, past)
    return foretell(one, Participants(able, are_all=True, pasts=pasts, subjects=subjects))


def test_a_plain_run_is_told_by_its_steps_and_sizes() -> None:
    told = forecast(run())
    assert (told.preparing, told.training) == (("statistics",), ("train",))
    assert (told.rounds, told.evaluations, told.reports) == (6, 6, True)
    assert (told.inputs, told.parameters) == (2, 3)
    assert (told.bytes_down, told.bytes_up) == (24, 24)
    assert told.cost is None


def test_a_secure_sum_takes_five_messages_a_step_whose_sizes_are_not_known() -> None:
    told = forecast(run({"secure_aggregation": True}))
    assert (told.training, told.messages, told.parameters) == (("train",), 5, 3)
    assert (told.bytes_down, told.bytes_up) == (None, None)
    assert forecast(run()).messages == 1


def test_rules_that_tell_nodes_arrays_take_as_much_again() -> None:
    told = forecast(run({"aggregation": "scaffold"}))
    assert (told.parameters, told.bytes_down, told.bytes_up) == (3, 48, 48)


def test_a_network_is_as_large_as_its_layers_in_single_precision() -> None:
    told = forecast(run({"algorithm": "neural_network", "layers": [4, 1]}))
    assert told.parameters == (2 + 1) * 4 + (4 + 1)
    assert told.bytes_up == 4 * 17


@pytest.mark.parametrize(
    ("options", "bytes_up"),
    [
        ({"compression": "zstd"}, 4 * 17),
        ({"quantization": 32}, 4 * 17),
        ({"quantization": 8}, 4 + 17),
        ({"gradient_sparsification": 0.5}, 3 + 4 * 9),
        ({"top_k": 2, "quantization": 16}, 3 + 4 + 2 * 2),
    ],
)
def test_an_update_is_foretold_as_it_is_sent(options: dict[str, Any], bytes_up: int) -> None:
    told = forecast(run({"algorithm": "neural_network", "layers": [4, 1], **options}))
    assert (told.parameters, told.bytes_up) == (17, bytes_up)


@pytest.mark.parametrize("options", [{"algorithm": "random_forest"}, {"features": ["age", "ward"]}])
def test_what_only_answers_tell_has_no_size(options: dict[str, Any]) -> None:
    told = forecast(run(options))
    assert (told.parameters, told.bytes_down, told.bytes_up) == (None, None, None)
    assert told.preparing[-1] == "statistics"


def test_levels_are_asked_for_in_one_way_without_a_budget_and_in_another_under_one() -> None:
    columns = {"features": ["age", "ward"]}
    assert forecast(run(columns)).preparing == ("levels", "statistics")
    private = forecast(run(columns, privacy_budget=8.0))
    assert private.preparing == ("vocabulary", "statistics", "refine", "refine")


def test_a_budget_is_planned_to_its_end_and_never_beyond() -> None:
    told = forecast(run(privacy_budget=4.0))
    cost = told.cost
    assert cost is not None
    assert told.preparing == ("statistics", "refine", "refine")
    assert {one.step: one.times for one in cost.releases if not one.is_preparation} == {
        "train": 6,
        "evaluate": 6,
    }
    made = [
        Mechanism(one.noise_multiplier, one.sampling_rate, one.steps)
        for one in cost.releases
        for _ in range(one.times)
    ]
    accountant = Accountant(1e-5)
    assert cost.reached == pytest.approx(accountant.epsilon(*made))
    assert cost.reached is not None
    assert 3.9 < cost.reached <= 4.0
    assert [one.epsilon for one in cost.releases] == [
        pytest.approx(accountant.epsilon(Mechanism(one.noise_multiplier, one.sampling_rate, one.steps)))
        for one in cost.releases
    ]


def test_what_was_spent_before_counts() -> None:
    spent = Mechanism(2.0)
    whole, rest = forecast(run(privacy_budget=4.0)), forecast(run(privacy_budget=4.0), past=(spent,))
    assert whole.cost is not None
    assert rest.cost is not None
    assert rest.cost.spent == pytest.approx(Accountant(1e-5).epsilon(spent))
    assert rest.cost.releases[0].noise_multiplier > whole.cost.releases[0].noise_multiplier


def test_few_subjects_leave_evaluations_out_and_say_so() -> None:
    told = forecast(run(privacy_budget=0.1), subjects=100)
    assert told.evaluations == 0
    assert told.cost is not None
    assert "not measured" in (told.cost.note or "")


def test_without_a_count_only_the_preparation_is_known() -> None:
    cost = forecast(run(privacy_budget=4.0), subjects=None).cost
    assert cost is not None
    assert [one.is_preparation for one in cost.releases] == [True, True, True]
    assert cost.reached is None
    assert cost.missing is not None
    assert cost.refused is None


def test_a_spent_budget_ends_the_run_at_once() -> None:
    cost = forecast(run(privacy_budget=1.0), past=(Mechanism(1.0),)).cost
    assert cost is not None
    assert (cost.releases, cost.reached) == ((), None)
    assert cost.refused is not None
    assert "is spent" in cost.refused.message


def test_where_nodes_add_up_what_is_spent_is_said_of_a_nodes_part() -> None:
    told = forecast(run(privacy_budget=8.0, subjects_overlap=True), past=(Mechanism(1.4),))
    assert told.cost is not None
    assert told.cost.refused is not None
    assert "of 4 (a part of the workspace's 8) is spent" in told.cost.refused.message


@pytest.mark.parametrize(
    ("options", "policy", "report"),
    [
        ({}, {}, None),
        ({"validation_split": 0.0}, {}, False),
        ({"algorithm": "random_forest"}, {}, None),
        ({}, {"noise_mechanism": "laplacian"}, False),
    ],
)
def test_whether_there_is_a_report_is_known_where_no_count_decides(
    options: dict[str, Any], policy: dict[str, Any], report: bool | None
) -> None:
    assert forecast(run(options, privacy_budget=4.0, **policy), subjects=None).reports is report


def test_a_run_of_a_series_takes_its_part() -> None:
    one = run(privacy_budget=4.0)
    series = Series(UUID(int=0), publishes=False, keeps=True, to_come=3)
    cost = forecast(replace(one, series=series)).cost
    assert cost is not None
    assert cost.reached is not None
    assert cost.reached <= 1.0


@pytest.mark.parametrize("budget", [None, 2.0])
@pytest.mark.parametrize("rule", ["fedavg", "scaffold", "krum", "fedadam"])
@pytest.mark.parametrize("name", ALGORITHMS.names())
@pytest.mark.parametrize("optimizer", ["sgd", "newton"])
def test_every_algorithm_can_be_asked(name: str, rule: str, optimizer: str, budget: float | None) -> None:
    options = {
        "algorithm": name,
        "aggregation": rule,
        "optimizer": optimizer,
        "event": "ill",
        "target": "age",
    }
    try:
        told = forecast(run({**options, "features": ["bmi"], "layers": [1]}, privacy_budget=budget))
    except FederatedError:  # options that START refuses too
        return
    assert told.preparing
    assert told.training


def test_drawn_trees_release_once_a_round() -> None:
    told = forecast(run({"algorithm": "gradient_boosting", "trees": 12}, privacy_budget=4.0))
    assert (told.training, told.further, told.bytes_up) == (("leaves",), False, None)
    assert told.cost is not None
    times = {one.step: one.times for one in told.cost.releases if not one.is_preparation}
    assert times == {"leaves": 6, "evaluate": 6}
