"""The rules of the round machine, from a run's options and its workspace's policy; and what it is told of
errors.

What always holds: the rules follow from the run's row alone, so they are the same in every life of a
coordinator.
"""

from __future__ import annotations

from heliosdb.coordinator.selections import make_selection
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import (
    Action,
    BudgetWouldBeExceeded,
    Combine,
    Event,
    OpenRound,
    ProblemFound,
    TrainingDiverged,
)
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run
from heliosdb.domain.run_state import PATIENCE, Rules
from heliosdb.domain.update import DivergedError
from heliosdb.parts.algorithms import by_newton, last_round, learning_rate_of
from heliosdb.parts.groups import least_nodes
from heliosdb.parts.strategies import STRATEGIES, root_node


def make_rules(run: Run, *, reports: bool = False) -> Rules:
    """Return the rules of a run; FederatedError where its selection is not one. reports: whether what it
    publishes can be reported on."""
    options, policy = run.options, run.policy
    root = root_node(options.settings(STRATEGIES.entry(options.aggregation).settings))
    needed = frozenset(() if root is None else (root,))
    newton = by_newton(options.algorithm, options.given)
    return Rules(
        rounds=last_round(options, private=policy.budget is not None),
        # Those of round 0 are dealt to the groups, each of which is to have a sum.
        min_nodes=max(policy.min_nodes, least_nodes(options)),
        # A round that is to take so many updates needs as many nodes.
        min_nodes_per_round=max(policy.min_nodes_per_round, policy.buffer),
        choice=make_selection(policy, run.chance, always=needed),
        needed=needed,
        target_accuracy=options.target_accuracy,
        threshold=None if options.early_stopping_rounds is None else options.convergence_threshold,
        patience=options.early_stopping_rounds or PATIENCE,
        # What is looked for is the minimum over the rows that are trained on: the last round is nearest.
        keep_best=options.keep_best and not newton,
        noised=policy.budget is not None,
        learning_rate=learning_rate_of(run),
        reports=reports and run.publishes,
        publishes=run.publishes,
        buffer=policy.buffer,
    )


def explain_error(action: Action, error: FederatedError, number: RoundNumber) -> Event:
    """Return what an error of an action means to the run; one that means the term is over is raised again."""
    if error.code is ErrorCode.FENCED:
        raise error
    if error.code is ErrorCode.BUDGET_EXHAUSTED and isinstance(action, OpenRound | Combine):
        return BudgetWouldBeExceeded(number, error.text)
    if isinstance(error, DivergedError):
        return TrainingDiverged(number, error.text)
    return ProblemFound(error.text)
