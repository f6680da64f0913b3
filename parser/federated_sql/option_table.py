"""The options of the language, in one table: name, type, default, range, meaning, and what of it is built.

What always holds: `OPTIONS` is the only place that knows an option's name, default and range; reference
documents are generated from it. What is built of an option of parts (`of_parts`) it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from federated_sql.model_options import DEFINITION
from federated_sql.node_options import DATASET, NODE
from federated_sql.option_values import Built, OptionSpec, with_parts
from federated_sql.serving_options import ERASURE, EXPERIMENT, SUBSCRIPTION
from federated_sql.training_options import TRAINING
from federated_sql.workspace_options import WORKSPACE


class OptionKind(Enum):
    """What an option list belongs to; TRAINING is the part of MODEL that one run may override."""

    WORKSPACE = "workspace"
    NODE = "node"
    DATASET = "dataset"
    MODEL = "model"
    TRAINING = "training"
    SUBSCRIPTION = "subscription"
    ERASURE = "erasure"
    EXPERIMENT = "experiment"


def _table(specs: Sequence[OptionSpec]) -> dict[str, OptionSpec]:
    table = {spec.name: spec for spec in specs}
    if len(table) != len(specs):
        raise AssertionError("an option is listed twice")
    return table


OPTIONS: dict[OptionKind, dict[str, OptionSpec]] = {
    OptionKind.WORKSPACE: _table(WORKSPACE),
    OptionKind.NODE: _table(NODE),
    OptionKind.DATASET: _table(DATASET),
    OptionKind.MODEL: _table((*DEFINITION, *TRAINING)),
    OptionKind.TRAINING: _table(TRAINING),
    OptionKind.SUBSCRIPTION: _table(SUBSCRIPTION),
    OptionKind.ERASURE: _table(ERASURE),
    OptionKind.EXPERIMENT: _table(EXPERIMENT),
}


def specs(kind: OptionKind, built: Built) -> Mapping[str, OptionSpec]:
    """Return the options of `kind`, with what the parts that there are give an effect to."""
    return {name: with_parts(spec, built) for name, spec in OPTIONS[kind].items()}
