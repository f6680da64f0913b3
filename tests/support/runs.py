"""Runs as they are claimed, for tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from heliosdb.domain.ids import ModelName, NodeName, RunId, WorkspaceName
from heliosdb.domain.run import Policy, Run, TrainingOptions
from heliosdb.domain.task import Scaling

NODE = NodeName("a")
SCALING = Scaling((50.0, 120.0), (10.0, 1 / 3))
GIVEN = {"local_epochs": 2, "batch_size": 32, "learning_rate": 0.1}
OPTIONS = TrainingOptions(
    algorithm="logistic_regression",
    features=("age", "pressure"),
    target="outcome",
    dataset=None,
    feature_ranges=(),
    seed=7,
    rounds=10,
    aggregation="fedavg",
    convergence_threshold=0.001,
    early_stopping_rounds=10,
    target_accuracy=None,
    validation_split=0.2,
    validation_frequency=3,
    given=GIVEN,
)
POLICY = Policy(
    workspace=WorkspaceName("w"),
    privacy_budget=None,
    delta=1e-5,
    privacy_per_round=None,
    noise_multiplier=None,
    clipping_threshold=1.0,
    min_nodes=2,
    max_nodes=10,
    min_nodes_per_round=2,
    round_timeout=300.0,
    stragglers_timeout=300.0,
    data_residency=None,
)
RUN = Run(RunId(UUID(int=1)), ModelName("m"), 1, 1, OPTIONS, POLICY)
PRIVATE = replace(RUN, policy=replace(POLICY, privacy_budget=4.0))


def with_options(run: Run, **options: Any) -> Run:
    """The run with other options; those that no field is called after are given to the parts."""
    fields = {name: value for name, value in options.items() if name in TrainingOptions.__slots__}
    given = {**run.options.given, **{name: options[name] for name in options if name not in fields}}
    return replace(run, options=replace(run.options, **fields, given=given))


def with_policy(run: Run, **policy: Any) -> Run:
    """The run under another policy."""
    return replace(run, policy=replace(run.policy, **policy))
