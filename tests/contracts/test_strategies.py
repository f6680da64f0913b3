"""What every strategy keeps to: the same bits in any order, shapes, memory, refusals."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation import Strategy, companions, gathering_for, strategy
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import option_names, read_settings
from heliosdb.domain.state import NO_STATE, State, freeze, state_from_bytes, state_to_bytes
from heliosdb.domain.update import Total, Update, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.registry import RegisteredPart
from heliosdb.parts.strategies import STRATEGIES, NovaSettings, fewest_nodes, needs_of
from tests.contracts.support import entries_with
from tests.contracts.toy_parts import TOY_MOMENTUM, ToyMomentumSettings

SIZE = 23


@pytest.fixture(
    params=entries_with(STRATEGIES, RegisteredPart(TOY_MOMENTUM.name, TOY_MOMENTUM, ToyMomentumSettings)),
    ids=lambda entry: entry.name,
)
def entry(request: pytest.FixtureRequest) -> RegisteredPart:
    found: RegisteredPart = request.param
    return found


@pytest.fixture
def rule(entry: RegisteredPart) -> Strategy:
    found: Strategy = entry.part
    return found


@pytest.fixture(params=["default", "least", "most"])
def given(request: pytest.FixtureRequest, entry: RegisteredPart) -> Any:
    """The settings by default, and each number of them at its bounds, as far as three nodes are enough."""
    chosen = {}
    for field in dataclasses.fields(entry.settings):
        bounds: Bounds | None = field.metadata.get("within")
        if bounds is not None and request.param != "default":
            number = getattr(bounds, request.param)
            chosen[field.name] = int(number) if "int" in str(field.type) else number
    if "root_node" in option_names(entry.settings):
        chosen["root_node"] = "node_0"
    found = read_settings(entry.settings, chosen)
    return found if fewest_nodes(found) <= 3 else read_settings(entry.settings, {})


def test_who_compares_updates_says_that_they_must_be_whole(entry: RegisteredPart, rule: Strategy) -> None:
    needs = needs_of(read_settings(entry.settings, {}))
    assert (needs == "whole") == (rule.sees == "each")
    assert (needs == "exact") == bool(companions(rule)), "what goes behind an update is no update"


def takes_steps_of_its_own(given: Any) -> bool:
    """Whether how far it moves is not bounded by the updates' size: by its own step, or since an update of
    few steps counts for those that the mean node takes."""
    return "server_learning_rate" in option_names(type(given)) or isinstance(given, NovaSettings)


def updates(seed: int, nodes: int = 7, size: int = SIZE) -> list[Update]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(nodes):
        vector = rng.normal(size=size) * 10.0 ** rng.uniform(-6, 6, size=size)
        vector.flags.writeable = False
        made.append(Update(NodeName(f"node_{number}"), vector, float(rng.integers(1, 10**6))))
    return made


def gathered(rule: Strategy, arriving: list[Update], given: Any = None) -> Total | Updates:
    """What is gathered of updates, behind each of which it stands once more for every companion."""
    parts = 1 + len(companions(rule))
    gathering = gathering_for(rule, parts * SIZE, settings=given)
    for update in arriving:
        gathering.take(dataclasses.replace(update, vector=np.tile(update.vector, parts)))
    return gathering.result()


def rounds(rule: Strategy, given: Any, order: random.Random | None) -> tuple[Vector, State]:
    """Three rounds, with what is remembered through bytes as the coordinator keeps it."""
    parameters, memory = np.linspace(-1, 1, SIZE), NO_STATE
    for number in range(3):
        arriving = updates(number)
        if order is not None:
            order.shuffle(arriving)
        parameters, memory = rule.combine(parameters, memory, gathered(rule, arriving, given), given)
        if order is not None:
            memory = state_from_bytes(state_to_bytes(memory))
    return parameters, memory


def test_its_name_is_the_registered_one(entry: RegisteredPart, rule: Strategy) -> None:
    assert rule.name == entry.name == entry.name.lower()
    assert rule.sees in ("each", "sum")


def test_the_order_of_arrival_and_keeping_its_memory_change_no_bit(rule: Strategy, given: Any) -> None:
    parameters, memory = rounds(rule, given, None)
    for seed in range(5):
        again, remembered = rounds(rule, given, random.Random(seed))
        assert again.tobytes() == parameters.tobytes()
        assert state_to_bytes(remembered) == state_to_bytes(memory)


def test_parameters_keep_their_shape_and_memory_is_a_state(rule: Strategy, given: Any) -> None:
    parameters, memory = rounds(rule, given, None)
    assert parameters.dtype == np.float64
    assert parameters.shape == (SIZE,)
    assert np.isfinite(parameters).all()
    assert state_to_bytes(freeze(memory)) == state_to_bytes(memory)


def test_it_changes_nothing_that_it_is_given(rule: Strategy, given: Any) -> None:
    parameters = np.linspace(-1, 1, SIZE)
    parameters.flags.writeable = False
    _, memory = rule.combine(parameters, NO_STATE, gathered(rule, updates(0), given), given)
    before, found = state_to_bytes(memory), gathered(rule, updates(1))
    if isinstance(found, Total):
        found.vector.flags.writeable = False
    rule.combine(parameters, memory, found, given)
    assert state_to_bytes(memory) == before


def test_equal_updates_of_one_direction_move_the_parameters_that_way(rule: Strategy, given: Any) -> None:
    same = [Update(NodeName(f"node_{number}"), np.full(SIZE, 0.5), 3.0) for number in range(3)]
    moved, _ = rule.combine(np.zeros(SIZE), NO_STATE, gathered(rule, same, given), given)
    assert (moved > 0).all()


@pytest.mark.parametrize("magnitude", [1e-310, 1e-100, 1.0, 1e100, 1e290])
def test_what_it_gives_is_finite_for_any_weights_and_magnitudes(
    rule: Strategy, given: Any, magnitude: float
) -> None:
    signs = np.where(np.arange(SIZE) % 2, 1.0, -1.0)
    ugly = [
        Update(NodeName(f"node_{number}"), signs * magnitude * (1 + number), weight)
        for number, weight in enumerate((1.0, 1e12, 1e-3, 1e6, 1e12))
    ]
    moved, memory = rule.combine(np.zeros(SIZE), NO_STATE, gathered(rule, ugly, given), given)
    assert np.isfinite(moved).all()
    assert np.abs(moved).max() <= 5.1 * magnitude or takes_steps_of_its_own(given)
    freeze(memory)


def test_one_node_is_enough_where_its_settings_do_not_need_more(rule: Strategy, given: Any) -> None:
    nodes = fewest_nodes(given)
    moved, _ = rule.combine(np.zeros(SIZE), NO_STATE, gathered(rule, updates(0, nodes), given), given)
    assert np.isfinite(moved).all()
    if nodes > 1:
        with pytest.raises(FederatedError, match=f"needs {nodes} updates") as caught:
            rule.combine(np.zeros(SIZE), NO_STATE, gathered(rule, updates(0, nodes - 1), given), given)
        assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_by_default_one_node_is_enough(entry: RegisteredPart) -> None:
    assert fewest_nodes(read_settings(entry.settings, {})) == 1


def test_no_update_is_refused(rule: Strategy, given: Any) -> None:
    none: Total | Updates = (
        Total(np.zeros(SIZE * (1 + len(companions(rule)))), 0.0, 0) if rule.sees == "sum" else ()
    )
    for refuse in (
        lambda: gathered(rule, []),
        lambda: rule.combine(np.zeros(SIZE), NO_STATE, none, given),
    ):
        with pytest.raises(FederatedError) as caught:
            refuse()
        assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_updates_of_another_shape_are_refused(rule: Strategy, given: Any) -> None:
    found = gathered(rule, updates(0))
    for size in (SIZE - 1, SIZE + 1, 1):
        with pytest.raises(FederatedError) as caught:
            rule.combine(np.zeros(size), NO_STATE, found, given)
        assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_it_takes_only_what_it_sees(rule: Strategy, given: Any) -> None:
    other: Total | Updates = updates(0) if rule.sees == "sum" else Total(np.zeros(SIZE), 1.0, 1)
    with pytest.raises(TypeError):
        rule.combine(np.zeros(SIZE), NO_STATE, other, given)


def test_what_nodes_need_of_it_are_settings(rule: Strategy, given: Any) -> None:
    for name, value in rule.local(given).items():
        assert name.isidentifier()
        assert isinstance(value, bool | int | float | str | tuple)


def test_the_typed_accessor_gives_the_registered_part() -> None:
    for name in STRATEGIES.names():
        assert strategy(name.upper()) is STRATEGIES.get(name)


def test_what_would_not_be_finite_is_refused(rule: Strategy, given: Any) -> None:
    largest = np.full(SIZE, 1.7e308)
    arriving = [Update(NodeName(f"node_{number}"), largest, 1.0) for number in range(3)]
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(FederatedError) as raised:
        rule.combine(largest, NO_STATE, gathered(rule, arriving, given), given)
    assert raised.value.code is ErrorCode.UPDATE_REJECTED


def test_what_nodes_are_told_of_its_memory_is_of_the_parameters_size(rule: Strategy, given: Any) -> None:
    _, memory = rule.combine(np.zeros(SIZE), NO_STATE, gathered(rule, updates(0), given), given)
    for name in companions(rule):
        assert memory[name].shape == (SIZE,)
        assert memory[name].dtype == np.float64
