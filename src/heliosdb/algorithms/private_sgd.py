"""Stochastic gradient descent over data subjects under differential privacy (DP-SGD, Abadi et al. 2016).

What always holds: a step adds noise to the sum of gradients before it touches the parameters, and what it
divides by is fixed before, never counted from the sample. A subject's clipped gradient is rounded to whole
steps of the noise's lattice before it is added to others', so that it adds the same whoever else was sampled.
No row and no parameter within the bounds of domain/bounds.py makes it fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.columns import clamp_parameters
from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.optimizers import make_optimizer, worth_of
from heliosdb.algorithms.sgd import Residual
from heliosdb.algorithms.space import slices
from heliosdb.algorithms.table import Codes, Grouping, Mask, sums_of_runs
from heliosdb.algorithms.works import PrivateTraining
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.algorithms import LocalOptimizer
from heliosdb.privacy.clipping import clip_steps, column_norms, columns_at_once, fold
from heliosdb.privacy.mechanisms import Integers, Lattice, Secret

_ROW_STEPS = float(1 << 33)
"""Norm, in lattice steps, to which one row of several is cut: at least four times the clipping norm, and
2^29 rows of a subject still add exactly in 64 bits."""

_BLOCK = 1 << 14
"""Rows at a time. Their integers (below 2^32) add exactly as doubles."""


@dataclass(frozen=True, slots=True)
class SubjectRows:
    """The rows of some subjects, each subject's adjacent, and how far each may go.

    columns: (k, n), targets: (n,). limits: (n,), the largest derivative by the score, in lattice steps.
    sizes: (s,), the rows of each subject; None where each row is a subject. lattice: of the noise, which
    says by which norm is clipped. bound: the clipping norm in steps.
    """

    columns: Matrix
    targets: Vector
    limits: Vector
    sizes: Codes | None
    lattice: Lattice
    bound: float

    @classmethod
    def of(
        cls, columns: Matrix, targets: Vector, grouping: Grouping, clipping_norm: float, lattice: Lattice
    ) -> SubjectRows:
        """Put each subject's rows together. The last row of `columns` is ones, so that no norm is 0."""
        bound = clipping_norm / lattice.step
        if grouping.order is None:
            limits = bound / column_norms(columns, lattice.noise)
            return cls(columns, targets, limits, None, lattice, bound)
        if not bool(np.all(grouping.order[1:] > grouping.order[:-1])):
            columns, targets = columns.take(grouping.order, axis=1), targets.take(grouping.order)
        # A subject of one row is cut in the same way whether or not somebody else has several.
        several = np.repeat(grouping.sizes > 1, grouping.sizes)
        limits = np.where(several, _ROW_STEPS, bound) / column_norms(columns, lattice.noise)
        return cls(columns, targets, limits, grouping.sizes, lattice, bound)

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return int(self.targets.size if self.sizes is None else self.sizes.size)

    def gradient_steps(self, taken: Mask, parameters: Vector, residual: Residual) -> Integers:
        """Sum the clipped gradients of the subjects that are `taken`, in lattice steps; (k,)."""
        total = np.zeros(parameters.size, dtype=np.int64)
        of_rows = self._of_rows if self.sizes is None else self._of_several
        for gradients in of_rows(taken, parameters, residual):
            total += gradients.sum(axis=1).astype(np.int64)
        return total

    def _of_rows(self, taken: Mask, parameters: Vector, residual: Residual) -> Iterator[Matrix]:
        """Yield the gradients of subjects that are one row each."""
        rows = np.flatnonzero(taken)
        for block in self._blocks(rows.size):
            yield self._row_steps(rows[block], parameters, residual)

    def _of_several(self, taken: Mask, parameters: Vector, residual: Residual) -> Iterator[Matrix]:
        """Yield the clipped gradients of subjects whose rows may go on in the next block."""
        assert self.sizes is not None
        rows, ends = np.flatnonzero(np.repeat(taken, self.sizes)), np.cumsum(self.sizes[taken])
        begun = np.zeros(parameters.size, dtype=np.int64)
        for block in self._blocks(rows.size):
            gradients = self._row_steps(rows[block], parameters, residual).astype(np.int64)
            first, last = np.searchsorted(ends, (block.start, block.stop), side="right")
            if first < last:
                ended = ends[first:last] - (block.start + 1)
                summed = sums_of_runs(gradients, ended)
                summed[:, 0] += begun
                begun = gradients[:, int(ended[-1]) + 1 :].sum(axis=1)
                yield clip_steps(summed, self.bound, self.lattice.noise)
            else:
                begun += gradients.sum(axis=1)

    def _blocks(self, rows: int) -> Iterator[slice]:
        """Cut so many rows into blocks, whoever's they are."""
        return slices(rows, columns_at_once(len(self.columns), _BLOCK))

    def _row_steps(self, rows: Codes, parameters: Vector, residual: Residual) -> Matrix:
        """Return the gradient of each row, cut to its limit and rounded; (k, m)."""
        inputs, limits = self.columns.take(rows, axis=1), self.limits.take(rows)
        values = fold(inputs * parameters[:, None])
        slopes = residual(values, self.targets.take(rows)) / self.lattice.step
        inputs *= np.minimum(np.maximum(slopes, -limits), limits)
        return np.rint(inputs, out=inputs)


def sum_gradients(
    columns: Matrix,
    targets: Vector,
    grouping: Grouping,
    parameters: Vector,
    residual: Residual,
    *,
    lattice: Lattice,
    clipping_norm: float,
    sampling_rate: float,
    secret: Secret,
) -> Vector:
    """Return the sum of the clipped gradients of a Poisson sample, without noise, for `Lattice.release`.

    columns: (k, n), from `scale_columns`; the result is (k,). lattice: of the sum.
    """
    rows = SubjectRows.of(columns, targets, grouping, clipping_norm, lattice)
    taken = secret.poisson_sample(rows.subjects, sampling_rate)
    return lattice.total(rows.gradient_steps(taken, clamp_parameters(parameters), residual))


def descend_privately(
    columns: Matrix,
    targets: Vector,
    grouping: Grouping,
    parameters: Vector,
    residual: Residual,
    *,
    privacy: PrivateTraining,
    learning_rate: float,
    secret: Secret,
    optimizer: LocalOptimizer = "sgd",
    terms: LocalTerms = NO_TERMS,
) -> Vector:
    """Run DP-SGD over subjects and return the new parameters.

    columns: (k, n), from `scale_columns`. Each step takes a Poisson sample of the subjects, sums their
    clipped gradients, adds noise of standard deviation (of Laplace noise: of scale) noise_multiplier x
    clipping_norm a coordinate, divides by sampling_rate x expected_subjects, applies the proximal term, and
    cuts the parameters to their bounds. optimizer: what it makes of such gradients is as private as they are.
    Raises FederatedError only as `Lattice.of` does.
    """
    lattice = Lattice.of(privacy.clipping_norm, privacy.noise_multiplier, parameters.size, privacy.noise)
    rows = SubjectRows.of(columns, targets, grouping, privacy.clipping_norm, lattice)
    return descend_over(
        rows.subjects,
        lambda taken, current: rows.gradient_steps(taken, current, residual),
        parameters,
        privacy=privacy,
        learning_rate=learning_rate,
        secret=secret,
        optimizer=optimizer,
        terms=terms,
    )


GradientSteps = Callable[[Mask, Vector], Integers]
"""(the subjects that are taken, parameters) → the sum of their clipped gradients in steps of the lattice."""


def descend_over(
    subjects: int,
    gradient_steps: GradientSteps,
    parameters: Vector,
    *,
    privacy: PrivateTraining,
    learning_rate: float,
    secret: Secret,
    optimizer: LocalOptimizer = "sgd",
    terms: LocalTerms = NO_TERMS,
) -> Vector:
    """Run DP-SGD on what gives the clipped gradients of so many subjects; see `descend_privately`."""
    lattice = Lattice.of(privacy.clipping_norm, privacy.noise_multiplier, parameters.size, privacy.noise)
    expected = privacy.sampling_rate * privacy.expected_subjects
    step = make_optimizer(optimizer, learning_rate, parameters.size)
    origin = current = clamp_parameters(parameters)
    # One drawing for a block of steps: asking for a few numbers at a time costs more than the numbers.
    block = max(1, min(privacy.steps, 1_000_000 // parameters.size))
    for start in range(0, privacy.steps, block):
        noise = secret.noise((min(block, privacy.steps - start), parameters.size), privacy.noise)
        for number, step_noise in enumerate(noise, start + 1):
            taken = secret.poisson_sample(subjects, privacy.sampling_rate)
            steps = gradient_steps(taken, current)
            moved = current - step(lattice.release_steps(steps, step_noise), expected)
            # Of the parameters alone, behind the noise: it costs nothing.
            worth = worth_of(optimizer, learning_rate, number)
            current = clamp_parameters(terms.apply(moved, origin, worth))
    return current
