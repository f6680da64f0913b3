"""Parameters of a version as those with which a run begins: the same function of raw columns, whatever the two scalings are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms import Table
from heliosdb.algorithms.cox import COX_REGRESSION
from heliosdb.algorithms.frozen import FROZEN, Frozen, hold_layers, whole_state
from heliosdb.algorithms.gradient import GradientWork
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, POISSON_REGRESSION
from heliosdb.algorithms.neural import NEURAL_NETWORK
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.private_layered import layered_rows
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.transfer import Transferring
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.origin import Origin
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.registry import RegisteredPart
from heliosdb.parts.transfer import check_source, check_transfer
from heliosdb.privacy.mechanisms import Lattice, Secret
from heliosdb.scoring.kinds import find_kind
from tests.support.runs import RUN, with_options

THERE = Scaling((50.0, 120.0, 3.0), (10.0, 15.0, 0.5), 7.0, 2.5)
HERE = Scaling((3.2, 44.0, 131.0), (0.7, 12.0, 11.0), 5.0, 4.0)
"""Of the same inputs in another order: c, a, b."""
RNG = np.random.default_rng(5)
ROWS = RNG.normal((45.0, 125.0, 3.0), (12.0, 14.0, 0.6), (200, 3))
OF_CLASSES = {"target_mean": 0.0, "target_scale": 1.0}


def encoding(names: str, classes: tuple[str, ...]) -> Encoding:
    return Encoding(tuple(map(ColumnEncoding, names)), classes)


def plan_of(
    name: str, classes: tuple[str, ...], *, names: str = "cab", scaling: Scaling = HERE, **options: Any
) -> RunPlan:
    run = with_options(RUN, algorithm=name, features=tuple(names), **options)
    scaling = scaling if not classes else replace(scaling, **OF_CLASSES)
    return RunPlan(run, Findings(scaling, encoding=encoding(names, classes)), RoundNumber(0))


def origin_of(state: State, classes: tuple[str, ...]) -> Origin:
    scaling = THERE if not classes else replace(THERE, **OF_CLASSES)
    return Origin("risk@2", ("a", "b", "c"), classes, scaling, state)


def predicted(method: Any, state: State, findings: Findings, rows: Matrix) -> Any:
    made = method.predict(state, findings)
    return find_kind(made.kind)(made.content, made.arrays, rows)


def source_findings(classes: tuple[str, ...]) -> Findings:
    return Findings(origin_of(make_state(), classes).scaling, encoding=encoding("abc", classes))


@pytest.mark.parametrize(
    ("method", "theirs", "ours"),
    [
        (LOGISTIC_REGRESSION, ("no", "yes"), ("no", "yes")),
        (LOGISTIC_REGRESSION, ("x", "y", "z"), ("x", "y", "z")),
        (LINEAR_REGRESSION, (), ()),
        (POISSON_REGRESSION, (), ()),
    ],
)
def test_linear_scores_are_the_same_function_of_raw_columns(
    method: Any, theirs: tuple[str, ...], ours: tuple[str, ...]
) -> None:
    shape = (len(theirs) - 1, 4) if len(theirs) > 2 else (4,)
    state = make_state(**{PARAMETERS: RNG.normal(0.0, 0.7, shape)})
    plan = plan_of(method.name, ours)
    carried = method.carry(plan, method.begin(plan), origin_of(state, theirs))
    before = predicted(method, state, source_findings(theirs), ROWS)
    after = predicted(method, carried.state, plan.findings, ROWS[:, [2, 0, 1]])
    assert np.ptp(before) > 0.1
    assert after == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_classes_in_another_order_keep_their_own_scores() -> None:
    state = make_state(**{PARAMETERS: RNG.normal(0.0, 0.7, (2, 4))})
    plan = plan_of("logistic_regression", ("z", "x", "y"))
    carried = LOGISTIC_REGRESSION.carry(
        plan, LOGISTIC_REGRESSION.begin(plan), origin_of(state, ("x", "y", "z"))
    )
    before = predicted(LOGISTIC_REGRESSION, state, source_findings(("x", "y", "z")), ROWS)
    after = predicted(LOGISTIC_REGRESSION, carried.state, plan.findings, ROWS[:, [2, 0, 1]])
    assert after == pytest.approx(before[:, [2, 0, 1]], rel=1e-9)
    with pytest.raises(FederatedError, match="tells apart x, y, z, and this run x, y, w"):
        other = plan_of("logistic_regression", ("x", "y", "w"))
        LOGISTIC_REGRESSION.carry(other, LOGISTIC_REGRESSION.begin(other), origin_of(state, ("x", "y", "z")))


def test_hazard_ratios_are_taken_over_and_have_no_level() -> None:
    state = make_state(**{PARAMETERS: np.array([0.5, -0.2, 1.0])})
    plan = plan_of("cox_regression", ())
    fresh = make_state(**{PARAMETERS: np.zeros(3), "starts": np.arange(4)})
    carried = COX_REGRESSION.carry(plan, fresh, origin_of(state, ()))
    assert carried.state[PARAMETERS] / HERE.scales == pytest.approx([1.0 / 0.5, 0.5 / 10.0, -0.2 / 15.0])
    assert list(carried.state["starts"]) == [0, 1, 2, 3]


def test_inputs_are_matched_by_name_and_what_is_new_begins_as_ever() -> None:
    state = make_state(**{PARAMETERS: np.array([1.0, -2.0, 0.5, 0.3])})
    plan = plan_of("logistic_regression", ("0", "1"), names="bdc")
    carried = LOGISTIC_REGRESSION.carry(plan, LOGISTIC_REGRESSION.begin(plan), origin_of(state, ("0", "1")))
    assert carried.state[PARAMETERS][1] == 0.0
    assert carried.notes == (
        "begins with risk@2; it does not have 1 input of this run: d; this run does not have 1 input of it, which"
        " counts as its mean: a",
    )
    # Of a row at the mean of what is gone the two say the same.
    rows = ROWS.copy()
    rows[:, 0] = 50.0
    with_d = np.column_stack((rows[:, 1], RNG.normal(size=len(rows)), rows[:, 2]))
    before = predicted(LOGISTIC_REGRESSION, state, source_findings(("0", "1")), rows)
    assert predicted(LOGISTIC_REGRESSION, carried.state, plan.findings, with_d) == pytest.approx(
        before, rel=1e-9
    )
    with pytest.raises(FederatedError, match=r"no input of this run is one of risk@2"):
        other = plan_of("logistic_regression", ("0", "1"), names="xyz")
        LOGISTIC_REGRESSION.carry(other, LOGISTIC_REGRESSION.begin(other), origin_of(state, ("0", "1")))


def network(output: str, units: int) -> tuple[Perceptron, State]:
    found = Perceptron(3, (6, 4, units), "tanh", output)
    return found, found.to_state(RNG.normal(0.0, 0.6, found.size))


def network_plan(output: str, units: int, classes: tuple[str, ...], **options: Any) -> RunPlan:
    given = {"layers": [6, 4, units], "activation": "tanh", "output_activation": output} | options
    return plan_of("neural_network", classes, **given)


@pytest.mark.parametrize(
    ("output", "units", "classes"),
    [("sigmoid", 1, ("no", "yes")), ("softmax", 3, ("x", "y", "z")), ("linear", 1, ())],
)
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_network_is_the_same_function_of_raw_columns(
    output: str, units: int, classes: tuple[str, ...], frozen: int
) -> None:
    _, state = network(output, units)
    plan = network_plan(output, units, classes, freeze_layers=frozen)
    carried = NEURAL_NETWORK.carry(plan, NEURAL_NETWORK.begin(plan), origin_of(state, classes))
    assert (FROZEN in carried.state) == (frozen > 0)
    NEURAL_NETWORK.check_state(carried.state, 3, len(classes))
    before = predicted(NEURAL_NETWORK, state, source_findings(classes), ROWS)
    after = predicted(NEURAL_NETWORK, carried.state, plan.findings, ROWS[:, [2, 0, 1]])
    assert np.ptp(before) > 0.05
    assert after == pytest.approx(before, abs=2e-5)


def test_another_target_gets_a_last_layer_of_its_own() -> None:
    architecture, state = network("softmax", 3)
    plan = network_plan("sigmoid", 1, ("no", "yes"))
    carried = NEURAL_NETWORK.carry(plan, NEURAL_NETWORK.begin(plan), origin_of(state, ("x", "y", "z")))
    assert "the last layer begins anew" in carried.notes
    found = Perceptron(3, (6, 4, 1), "tanh", "sigmoid").split(carried.state[PARAMETERS])
    assert not found[2][0].any()
    assert found[1][0] == pytest.approx(architecture.split(state[PARAMETERS])[1][0])


def test_what_the_options_tell_is_refused_with_both_sides() -> None:
    def options(**given: Any) -> Any:
        return with_options(RUN, algorithm="neural_network", **given).options

    with pytest.raises(FederatedError) as refused:
        check_source(options(layers=[64, 32, 1]), "m@2", options(layers=[64, 16, 1]))
    assert refused.value.detail == "layers is [64, 16, 1] there, and [64, 32, 1] here."
    with pytest.raises(FederatedError, match="freeze_layers is 3, and the network has 3 layers"):
        check_transfer(options(layers=[64, 32, 1], transfer_from="m@2", freeze_layers=3))
    check_transfer(options(layers=[64, 32, 1], transfer_from="m@2", freeze_layers=2))
    other = options(layers=[64, 32, 4], output_activation="softmax")
    assert check_source(options(layers=[64, 32, 1]), "m@2", other) == [
        "the last layer begins anew: that of m@2 is of another target"
    ]


def held(count: int = 1) -> State:
    _, state = network("sigmoid", 1)
    return hold_layers(state, 3, count)


def test_a_state_of_frozen_layers_that_are_not_whole_is_refused() -> None:
    state = held()
    assert whole_state(state)[PARAMETERS].size == 6 * 4 + 4 * 7 + 5
    broken = make_state(
        **{**state, FROZEN: state[FROZEN][:-1], PARAMETERS: np.r_[state[FROZEN][-1:], state[PARAMETERS]]}
    )
    with pytest.raises(FederatedError, match="not those of whole layers"):
        NEURAL_NETWORK.check_state(broken, 3, 2)
    with pytest.raises(FederatedError, match="not those of layers"):
        NEURAL_NETWORK.check_state(make_state(**{**state, FROZEN: state[FROZEN].astype(np.float64)}), 3, 2)


def table(rows: int = 60) -> Table:
    features = RNG.normal((3.2, 44.0, 131.0), (0.7, 12.0, 11.0), (rows, 3))
    target = (features[:, 1] > 44.0).astype(float)
    return Table.from_rows(features, target, np.arange(rows) // 2, np.zeros(rows, dtype=bool))


def test_clipped_gradients_are_those_of_the_moving_layers_alone() -> None:
    """The norm that is cut is that of what moves; the direction is that of the whole network's gradient."""
    state, scaling = held(), replace(HERE, **OF_CLASSES)
    whole = NEURAL_NETWORK.of(whole_state(state), 3)
    part = NEURAL_NETWORK.of(state, 3)
    # A norm that cuts nobody: then both are the plain sum, and the frozen part is what is left out.
    work = GradientWork("neural_network", scaling, 1.0, 1.0, 1e3, 2)
    everything = whole.sum_gradients(table_ := table(), whole_state(state)[PARAMETERS], work, Secret())
    moving = part.sum_gradients(table_, state[PARAMETERS], work, Secret())
    assert moving.vector.size == state[PARAMETERS].size
    start = state[FROZEN].size
    assert moving.vector.astype(float) == pytest.approx(
        everything.vector.astype(float)[start:], rel=1e-3, abs=1e-2
    )


@pytest.mark.parametrize("count", [1, 2])
def test_rows_that_go_through_all_layers_move_the_others_as_what_comes_out_of_frozen_ones_does(
    count: int,
) -> None:
    """Computed with all layers, a few rows at a time, a sum of gradients has the same bits."""
    state, scaling, rows = held(count), replace(HERE, **OF_CLASSES), table()
    frozen, parameters = Frozen.of(state, 3), state[PARAMETERS].astype(np.float64)
    assert frozen is not None
    passed, same = frozen.pass_rows(rows, scaling)
    lattice, everybody = Lattice.of(0.1, 1.0, parameters.size), np.ones(30, dtype=np.bool_)
    sums = [
        layered_rows(shape, given, scaled, 2, clipping_norm=0.1, lattice=lattice).gradient_steps(
            everybody, parameters
        )
        for shape, given, scaled in ((frozen.shape(), rows, scaling), (frozen.rest.shape(), passed, same))
    ]
    assert sums[0].any()
    assert np.array_equal(sums[0], sums[1])


def test_what_comes_out_of_frozen_layers_depends_on_the_row_alone_to_the_bit() -> None:
    state, scaling, rows = held(2), replace(HERE, **OF_CLASSES), table(300)
    frozen = Frozen.of(state, 3)
    assert frozen is not None
    passed, same = frozen.pass_rows(rows, scaling)
    assert set(same.means) == {0.0} and set(same.scales) == {1.0}
    for place in (0, 17, 299):
        alone, _ = frozen.pass_rows(rows.at(slice(place, place + 1)), scaling)
        assert alone.features.tobytes() == passed.features[place : place + 1].tobytes()
    ugly = Table.from_rows(
        np.array([[1e300, -1e300, np.nan], [np.inf, 5e-324, 1.7e308]]),
        np.zeros(2),
        np.arange(2),
        np.zeros(2, dtype=bool),
    )
    assert np.isfinite(frozen.pass_rows(ugly, scaling)[0].features).all()


@pytest.mark.parametrize("entry", ALGORITHMS.entries(), ids=lambda entry: str(entry.name))
def test_algorithms_that_say_that_they_transfer_do_and_others_are_refused(entry: RegisteredPart) -> None:
    options = with_options(RUN, algorithm=entry.name, transfer_from="m@2").options
    if getattr(entry.settings, "transfers", False):
        assert isinstance(algorithm(entry.name), Transferring)
        check_transfer(options)
        return
    with pytest.raises(FederatedError, match=f"transfer_from is not supported with {entry.name}") as refused:
        check_transfer(options)
    assert refused.value.code is ErrorCode.NOT_SUPPORTED


@pytest.mark.parametrize("entry", ALGORITHMS.entries(), ids=lambda entry: str(entry.name))
def test_freeze_layers_is_refused_where_no_layers_can_stay(entry: RegisteredPart) -> None:
    """And is not said to want a transfer_from that would do nothing for it."""
    is_network = entry.name == "neural_network"
    said = (
        "would keep layers that have learned"
        if is_network
        else f"freeze_layers has no effect on {entry.name}"
    )
    with pytest.raises(FederatedError, match=said) as refused:
        check_transfer(with_options(RUN, algorithm=entry.name, freeze_layers=1).options)
    assert refused.value.code is ErrorCode.INVALID_VALUE
