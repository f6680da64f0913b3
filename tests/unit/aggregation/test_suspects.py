"""What speaks against a node in a round: hostile nodes show, and honest ones do not, however unlike they are."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.robust import ATTACKS, begin, split, train
from heliosdb.aggregation.agreement import sketch
from heliosdb.aggregation.suspects import Evidence, find_evidence
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Update

ROUNDS, HOSTILE, NODES = 4, 4, 20


def update(node: str, vector: object, weight: float = 1.0) -> Update:
    return Update(NodeName(node), np.asarray(vector, dtype=np.float64), weight)


def stands_out(found: Evidence) -> bool:
    """As the view federated_node_diagnostics judges a round."""
    assert found.length is not None
    assert found.likeness is not None
    against = found.direction is not None and found.direction < -0.3
    return against or found.length > 3.0 or found.length < 0.001 or found.likeness > 1.0 - 1e-12


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_known_attack_stands_out_in_every_round_and_nobody_else_in_any(attack: str) -> None:
    federation, parameters, rng = split(NODES, HOSTILE, 0), begin(0), np.random.default_rng(0)
    deed = ATTACKS[attack]
    for _ in range(ROUNDS):
        sent = np.array([train(parameters, share, rng) for share in federation.shares])
        if deed is not None:
            sent[:HOSTILE] = deed(parameters, federation, sent[:HOSTILE], sent[HOSTILE:], rng)
        updates = [update(f"n{i:02d}", sketch(one, 7)) for i, one in enumerate(sent)]

        found = {node for node, one in find_evidence(updates).items() if stands_out(one)}

        assert found == ({f"n{i:02d}" for i in range(HOSTILE)} if deed is not None else set())
        parameters = parameters + np.median(sent, axis=0)


def test_a_model_that_is_trained_has_no_direction_to_point_against() -> None:
    updates = [update("a", [1.0, 0.2]), update("b", [-1.0, 0.1]), update("c", [0.1, -1.0])]

    assert [one.direction for one in find_evidence(updates).values()] == [None] * 3


def test_a_node_of_many_rows_may_go_as_far_as_its_steps_take_it() -> None:
    same, far = [1.0, 0.1], [10.0, 1.2]

    told = find_evidence([update("a", same, 10), update("b", [1.0, 0.2], 12), update("c", far, 120)])
    untold = find_evidence([update("a", same, 10), update("b", [1.0, 0.2], 12), update("c", far, 10)])

    assert told[NodeName("c")].length == pytest.approx(0.988, abs=0.01)
    assert untold[NodeName("c")].length == pytest.approx(9.88, abs=0.1)


def test_of_two_nodes_none_is_a_minority() -> None:
    assert not find_evidence([update("a", [1.0]), update("b", [-5.0])])


@pytest.mark.parametrize("value", [0.0, 1e300, -1e300])
def test_values_without_an_honest_figure_have_none(value: float) -> None:
    found = find_evidence([update("a", [value, value]), update("b", [1.0, 0.0]), update("c", [1.0, 0.1])])

    for one in found.values():
        for figure in (one.direction, one.length, one.likeness):
            assert figure is None or np.isfinite(figure)
    assert found[NodeName("b")].likeness is not None


def test_a_majority_that_moves_nothing_is_no_error() -> None:
    found = find_evidence([update("a", [0.0]), update("b", [0.0]), update("c", [1.0])])

    assert found[NodeName("c")] == Evidence(None, None, None)
