"""What a node trains for itself beside its answers to training rounds, and keeps from one to the next: the
last layers of the model (FedPer: Arivazhagan et al. 2019), or a model of its own (Ditto: Li et al. 2021,
algorithm 1).

What always holds: of layers that stay the answer says that they did not move, to the last bit; the answer of
a node that trains a model beside the federation's is the one that it would give without it; what is kept is
the node's memory of the run, and depends on its own rows and on what it was asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, cast

import numpy as np

from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.algorithms.own_terms import NOTHING
from heliosdb.algorithms.registry import Supervised, supervised
from heliosdb.algorithms.steps import Draws
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, TrainWork
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Contribution, Vector
from heliosdb.privacy.mechanisms import Secret

OWN = "own"
"""The array of a node's memory: the numbers of the layers that stay, or of its own model."""


class Descending(Supervised, Protocol):
    """An algorithm whose parameters move by local descent; see training.py."""

    def train(
        self,
        table: Table,
        parameters: Vector,
        work: TrainWork,
        rng: np.random.Generator,
        secret: Secret | None = None,
    ) -> Contribution:
        """Train on the rows that are not held out; the vector is the difference of the parameters."""
        ...


class Layered(Protocol):
    """An algorithm whose model has layers, in the form that a state says."""

    def count_last(self, layers: int) -> int:
        """Return how many parameters the last so many layers have, which stand at the end; FederatedError
        INVALID_VALUE where no layer would be left before them."""
        ...


def count_staying(name: str, task: Task, layers: int) -> int:
    """Return how many of a task's parameters stay at nodes; FederatedError INVALID_VALUE where none can."""
    method = supervised(name).of(task.state, task.n_inputs)
    if not hasattr(method, "count_last"):
        raise invalid_value(f"{name} has no layers of which the last could stay at a node")
    return cast(Layered, method).count_last(layers)


def put_head(parameters: Vector, memory: State, staying: int) -> Vector:
    """Return the parameters with the node's own last layers; as they are where it has none yet."""
    own = memory.get(OWN)
    if own is None or own.shape != (staying,):
        return parameters
    return np.concatenate([parameters[:-staying], own.astype(parameters.dtype)])


def with_head(name: str, task: Task, memory: State, layers: int | None) -> Task:
    """Return the task about the model with the node's own last layers; None: about the task's."""
    if not layers:
        return task
    staying = count_staying(name, task, layers)
    own = put_head(task.state[PARAMETERS], memory, staying)
    return replace(task, state=freeze({**task.state, PARAMETERS: own}))


def train_own(  # noqa: PLR0917
    method: Descending, table: Table, task: Task, work: TrainWork, memory: State, draws: Draws
) -> Contribution:
    """Answer a training task of a run of which the node keeps something, and have that stay."""
    start = task.state[PARAMETERS]
    if work.own.layers is not None:
        staying = count_staying(work.algorithm, task, work.own.layers)
        return train_with_head(method, table, put_head(start, memory, staying), staying, work, draws.rng())
    rng = draws.rng()
    made = method.train(table, start, work, rng)
    return replace(made, stays={OWN: train_beside(method, table, start, work, memory, rng)})


def train_with_head(  # noqa: PLR0917
    method: Descending, table: Table, begun: Vector, staying: int, work: TrainWork, rng: np.random.Generator
) -> Contribution:
    """Train all layers from where the node's own have got to; what stays is answered as not moved."""
    made = method.train(table, begun, work, rng)
    sent = made.vector.copy()
    sent[-staying:] = 0.0
    return replace(made, vector=sent, stays={OWN: begun[-staying:] + made.vector[-staying:]})


def train_beside(  # noqa: PLR0917
    method: Descending, table: Table, start: Vector, work: TrainWork, memory: State, rng: np.random.Generator
) -> Vector:
    """Return the node's own model after as many epochs, pulled towards the federation's; (k,) or as `start`.

    It begins as the federation's. The pull is λ/2 |v - w|², taken at a step's end as `LocalTerms` says.
    """
    assert work.own.term is not None
    own = memory.get(OWN, start)
    if own.shape != start.shape:
        own = start
    pulled = replace(work, terms=LocalTerms(work.own.term, towards=start), own=NOTHING)
    moved = method.train(table, own, pulled, rng).vector
    found: Vector = own + moved.reshape(own.shape)
    return found
