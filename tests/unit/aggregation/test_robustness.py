"""Hostile nodes spoil the mean and not the robust rules: the bench's smaller sister, on real images."""

from __future__ import annotations

import pytest

from benchmarks.robust import rules, simulate, split

NODES, HOSTILE, ROUNDS, SEED = 10, 2, 12, 1
FEDERATION = split(NODES, HOSTILE, SEED)
RULES = rules(HOSTILE, NODES)
# Of ten nodes bulyan withstands one alone, and krum learns from one node's images a round.
ROBUST = ("median", "trimmed_mean", "multi_krum", "geometric_median")


def figure(rule: str, attack: str) -> float:
    return simulate(rule, RULES[rule], attack, FEDERATION, rounds=ROUNDS, seed=SEED)


@pytest.mark.parametrize("attack", ["sign flip x5", "IPM 10"])
def test_the_mean_breaks_and_robust_rules_do_not(attack: str) -> None:
    assert figure("fedavg", attack) <= 0.2
    for rule in ROBUST:
        assert figure(rule, attack) >= 0.88, rule


def test_a_backdoor_gets_into_the_mean_and_not_into_robust_rules() -> None:
    assert figure("fedavg", "backdoor") >= 0.9
    for rule in ("median", "trimmed_mean", "multi_krum"):
        assert figure(rule, "backdoor") <= 0.05, rule
