"""What can be said against a task of supervised learning without looking at a row, before anything is
charged.

What always holds: a check depends on the task alone; after it, computing a private answer raises nothing,
whatever the table holds, since a refusal that depended on a row would be an answer without noise.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.features import block_count, check_columns, sensitivity
from heliosdb.algorithms.layout import CLASS_COUNTS, CLASSES_SENSITIVITY
from heliosdb.algorithms.registry import supervised
from heliosdb.algorithms.works import (
    CONTROL,
    PARAMETERS,
    ClassesWork,
    EvaluateWork,
    StatisticsWork,
    TrainWork,
    without_control,
)
from heliosdb.domain import bounds
from heliosdb.domain.errors import FederatedError, invalid_value, not_supported
from heliosdb.domain.settings import outside
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task, Work
from heliosdb.domain.vector import Dtype
from heliosdb.domain.wording import counted
from heliosdb.privacy.mechanisms import Lattice


def check_refinement(n_inputs: int, envelope: Work) -> None:
    """Raise FederatedError as `check_statistics` does, and where no windows are asked for."""
    check_statistics(n_inputs, envelope)
    if StatisticsWork.of(envelope).windows is None:
        raise invalid_value("a refinement counts in windows")


def check_statistics(n_inputs: int, envelope: Work) -> None:
    """Raise FederatedError where no table could answer: 22023, or 54000 for more noise than the lattice
    takes.
    """
    work = StatisticsWork.of(envelope)
    check_target(work.algorithm, work.classes)
    check_shape(envelope, work.size(n_inputs))
    declared = sensitivity(block_count(n_inputs, work), work)
    if work.noise_multiplier is not None:
        check_columns(n_inputs, work)
        Lattice.of(declared, work.noise_multiplier, work.size(n_inputs), work.noise)


def check_classes(task: Task) -> None:
    """Raise FederatedError as `check_statistics` does, and where the task holds what counting has no use
    for.
    """
    if task.state != NO_STATE or task.scaling is not None:
        raise invalid_value("counts of classes depend on no state and no scaling")
    work = ClassesWork.of(task.work)
    check_shape(task.work, CLASS_COUNTS)
    Lattice.of(CLASSES_SENSITIVITY, work.noise_multiplier, CLASS_COUNTS, work.noise)


def check_training(task: Task) -> None:
    """Raise FederatedError where no table could answer: parameters, scaling or numbers outside their
    bounds.
    """
    work = TrainWork.of(task)
    check_target(work.algorithm, work.classes)
    method = supervised(work.algorithm)
    method.check_state(without_control(task.state, work), task.n_inputs, work.classes)
    size = task.state[PARAMETERS].size
    check_shape(task.work, 2 * size if work.control_variates else size, method.dtype)
    if work.control_variates:
        _check_control(task, size)
    if work.privacy is not None:
        given = work.privacy
        _check_noise_of_classes(given.noise, work.classes)
        Lattice.of(given.clipping_norm, given.noise_multiplier, task.work.size, given.noise)


def check_evaluation(task: Task) -> None:
    """Raise FederatedError as `check_training` does."""
    work = EvaluateWork.of(task)
    check_target(work.algorithm, work.classes)
    supervised(work.algorithm).check_state(task.state, task.n_inputs, work.classes)
    check_shape(task.work, work.size)
    if work.noise_multiplier is not None:
        _check_noise_of_classes(work.noise, work.classes)
        work.lattice()


def _check_noise_of_classes(noise: str, classes: int) -> None:
    """Raise FederatedError NOT_SUPPORTED where what is clipped in L2 norm would be noised as if in L1."""
    if classes > 2 and noise != "gaussian":
        raise not_supported(f"more than two classes are not supported under noise_mechanism {noise}")


def check_target(name: str, classes: int) -> None:
    """Raise FederatedError INVALID_VALUE for a target that an algorithm does not learn."""
    if not supervised(name).allows(classes):
        raise _invalid(f"{name} learns no target of {counted(classes, 'class', 'classes')}.")


def check_shape(work: Work, size: int, dtype: Dtype = Dtype.FLOAT64) -> None:
    """Raise FederatedError INVALID_VALUE where an answer is not to be so many numbers of that type."""
    if work.dtype is not dtype or work.size != size:
        raise _invalid(
            f"The task asks for {counted(work.size, 'value')} of type {work.dtype}, not {size} of {dtype}."
        )


def check_parameters(
    state: State, inputs: int, classes: int, within: bounds.Bounds = bounds.PARAMETER
) -> None:
    """Raise FederatedError INVALID_VALUE for parameters that are not those of a linear model.

    It is one array of a weight for each input and a bias, of K > 2 classes for each but the first; each
    within its bounds.
    """
    parameters = state.get(PARAMETERS)
    if len(state) != 1 or parameters is None or parameters.dtype != np.float64:
        raise _invalid("The task's parameters do not fit its algorithm and features.")
    width = inputs + 1
    if parameters.shape != ((classes - 1, width) if classes > 2 else (width,)):
        raise _invalid("The task's parameters do not fit its algorithm and features.")
    inside = (parameters >= within.least) & (parameters <= within.most)
    if not np.all(inside):
        raise outside("a parameter", float(parameters[~inside][0]), within)


def _check_control(task: Task, size: int) -> None:
    """A server's control variate is an array like the parameters, each value within its bounds."""
    control = task.state.get(CONTROL)
    if control is None or control.dtype != np.float64 or control.shape != (size,):
        raise _invalid("The task's control variate does not fit its parameters.")
    within = bounds.CONTROL_VARIATE
    inside = (control >= within.least) & (control <= within.most)
    if not np.all(inside):
        raise outside("a control variate", float(control[~inside][0]), within)


def _invalid(message: str) -> FederatedError:
    return invalid_value(message)


def check_rows(rows: int) -> None:
    """Raise FederatedError (22023) where there is no row to train on."""
    if rows == 0:
        raise _invalid("The dataset has no row with a target to train on.")
