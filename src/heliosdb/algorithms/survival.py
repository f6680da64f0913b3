"""The partial likelihood of a Cox regression from sums over the cells of a grid (Breslow 1974; Cox 1972).

What always holds: of rows nothing is told but sums over cells, each of which the grid's rule allows
(survival_grid.py). With S0, S1, S2 the sums over all rows at risk in a cell (those that leave in it or later)
of exp(xβ), x exp(xβ), xx' exp(xβ), d the events in it, and D the sum of x over all events,

    loss = sum of d log S0 - β·D    gradient = sum of d S1/S0 - D    Hessian = sum of d (S2/S0 - S1 S1'/S0²)

as WebDISCO has them (Lu et al. 2015). Rows of one cell count as leaving at one time: where each distinct time
is a cell, that is Breslow's likelihood of the pooled rows.

A node's vector is [rows, events, D, then for each cell the sum over those who leave in it of exp(xβ),
x exp(xβ), and the upper triangle of xx' exp(xβ) by rows].
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from heliosdb.algorithms.curvature import Curvature
from heliosdb.algorithms.families import LARGEST_SCORE
from heliosdb.algorithms.measures import LARGEST_SUM
from heliosdb.algorithms.survival_grid import Leaves, leaves_of
from heliosdb.algorithms.table import Table
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector


def cell_size(inputs: int) -> int:
    """Return how many values there are of each cell."""
    return 1 + inputs + inputs * (inputs + 1) // 2


def survival_size(inputs: int, cells: int) -> int:
    """Return how many values an answer has."""
    return 2 + inputs + cells * cell_size(inputs)


def survival_sums(
    inputs: Matrix, table: Table, parameters: Vector, starts: Leaves, scaling: Scaling
) -> Vector:
    """Return a node's vector; inputs: (n, p) scaled, parameters: (p,)."""
    places = np.searchsorted(starts, leaves_of(table.target, scaling), side="right") - 1
    order = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[order], np.arange(starts.size + 1), side="left")
    hazards = np.exp(np.minimum(inputs @ parameters, LARGEST_SCORE))
    upper = np.triu_indices(parameters.size)
    events = table.roles["event"] * (places >= 0)
    blocks = [np.array([float(table.rows), float(events.sum())]), events @ inputs]
    for start, stop in pairwise(ends):
        rows = order[start:stop]
        own, grown = inputs[rows], hazards[rows]
        squares = (own.T * grown) @ own
        blocks += [np.array([grown.sum()]), grown @ own, squares[upper]]
    return np.concatenate(blocks)


def survival_fault(vector: Vector, inputs: int) -> str | None:
    """Say what no rows can have led to in one node's vector; None for nothing.

    In each cell by Cauchy and Schwarz: the square of a sum of x exp(xβ) is at most that of exp(xβ) times that
    of x² exp(xβ).
    """
    if not bool((np.abs(vector) <= LARGEST_SUM).all()):
        return f"a sum is larger than {LARGEST_SUM:g}"
    cells = vector[2 + inputs :].reshape(-1, cell_size(inputs))
    own = 1 + inputs + np.flatnonzero(np.equal(*np.triu_indices(inputs)))
    hazards, squares = cells[:, :1], cells[:, own]
    if not (bool((hazards >= 0.0).all()) and bool((squares >= 0.0).all())):
        return "hazards and squares are not below 0"
    allowed = np.sqrt(hazards) * np.sqrt(squares) * (1.0 + 1e-9) + 1e-9
    if not bool((np.abs(cells[:, 1 : 1 + inputs]) <= allowed).all()):
        return "the sums of a cell are not those of rows"
    return None


def survival_curvature(vector: Vector, parameters: Vector, events: Vector) -> Curvature:
    """Return loss, gradient and Hessian from the sum of the nodes' vectors; events: of each cell."""
    size, width = parameters.size, cell_size(parameters.size)
    moved = vector[2 : 2 + size]
    leaving = vector[2 + size :].reshape(-1, width)
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    # Of a cell with events somebody is at risk; others do not count.
    counted = (events > 0.0) & (at_risk[:, 0] > 0.0)
    risk, shares = at_risk[counted], events[counted] / at_risk[counted, 0]
    means = risk[:, 1 : 1 + size] / risk[:, :1]
    upper = np.triu_indices(size)
    squares = np.zeros((size, size))
    squares[upper] = shares @ risk[:, 1 + size :]
    squares.T[upper] = squares[upper]
    hessian = squares - (means.T * events[counted]) @ means
    loss = float(events[counted] @ np.log(risk[:, 0])) - float(parameters @ moved)
    gradient = events[counted] @ means - moved
    return Curvature(float(vector[0]), float(vector[0]), loss, gradient, hessian)
