"""What can be said against a task without looking at a row, to be said before anything is charged.

What always holds: a check depends on the task alone; after it, computing a private answer raises nothing,
whatever the table holds, since a refusal that depended on a row would be an answer without noise.
"""

from __future__ import annotations

from collections.abc import Iterable

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.features import block_count, check_ranges, sensitivity, vector_size
from heliosdb.algorithms.registry import algorithm
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.task import EvaluateWork, PrivateTraining, Scaling, StatisticsWork, Task, TrainWork
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.privacy.plan import EVALUATION_SENSITIVITY


def check_task(task: Task) -> None:
    """Raise FederatedError where no table could answer `task`.

    0A000 for an algorithm that is not built; 22023 for parameters, scaling or ranges that do not fit the
    algorithm and the features, and for numbers of a private task outside their bounds; 54000 for more noise
    over more coordinates than the lattice takes.
    """
    n_features = len(task.reading.features)
    match task.work:
        case StatisticsWork() as work:
            _check_statistics(n_features, work)
        case TrainWork() as work:
            _check_model(task, work, private=work.privacy is not None)
            if work.privacy is not None:
                _check_training(work, work.privacy, task.parameters.size)
        case EvaluateWork() as work:
            _check_model(task, work, private=work.noise_multiplier is not None)
            if work.noise_multiplier is not None:
                Lattice.of(EVALUATION_SENSITIVITY, work.noise_multiplier, 3)


def _check_statistics(n_features: int, work: StatisticsWork) -> None:
    declared = sensitivity(block_count(n_features, work), work)
    if work.noise_multiplier is not None:
        check_ranges(n_features, work)
        Lattice.of(declared, work.noise_multiplier, vector_size(n_features, work))


def _check_model(task: Task, work: TrainWork | EvaluateWork, *, private: bool) -> None:
    n_features = len(task.reading.features)
    if task.parameters.shape != algorithm(work.algorithm).initial_parameters(n_features).shape:
        raise _invalid("The task's parameters do not fit its algorithm and features.")
    if not len(work.scaling.means) == len(work.scaling.scales) == n_features:
        raise _invalid("The task's scaling does not fit its features.")
    if private:
        _check_scaling(work.scaling)
        _hold("parameters", map(float, task.parameters), bounds.PARAMETER)


def _check_scaling(scaling: Scaling) -> None:
    _hold("means", (*scaling.means, scaling.target_mean), bounds.LOCATION)
    _hold("scales", (*scaling.scales, scaling.target_scale), bounds.SCALE)


def _check_training(work: TrainWork, privacy: PrivateTraining, dimensions: int) -> None:
    Lattice.of(privacy.clipping_norm, privacy.noise_multiplier, dimensions)
    _hold("sampling rate", (privacy.sampling_rate,), bounds.SAMPLING_RATE)
    _hold("number of steps", (privacy.steps,), bounds.STEPS)
    _hold("expected number of subjects", (privacy.expected_subjects,), bounds.EXPECTED_SUBJECTS)
    _hold("learning rate", (work.learning_rate,), bounds.LEARNING_RATE)


def _hold(what: str, numbers: Iterable[float], within: Bounds) -> None:
    if not all(map(within.hold, numbers)):
        raise _invalid(f"The task's {what} must lie between {within.least:g} and {within.most:g}.")


def _invalid(message: str) -> FederatedError:
    return FederatedError(ErrorCode.INVALID_VALUE, message)
