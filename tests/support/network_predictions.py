"""What a network predicts, beside the last sums that PyTorch computes of the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.algorithms.architecture import Architecture
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.scoring.kinds import find_kind


def check_predictions(network: Architecture, parameters: Vector, rows: Matrix, found: Matrix) -> None:
    """AssertionError where numpy's sums, or what predicts from rows that are scaled back, are others than PyTorch's."""
    ours = network.sums(parameters, rows)
    if ours.shape != found.shape:
        found = found[:, 1:] - found[:, :1]
    assert ours == pytest.approx(found, abs=1e-5)
    inputs = network.inputs
    scaling = Scaling((1.0,) * inputs, (2.0,) * inputs, 3.0, 4.0)
    prediction = network.predict(parameters, scaling)
    told = find_kind(prediction.kind)(prediction.content, prediction.arrays, 2.0 * rows + 1.0)
    match prediction.content["link"]:
        case "identity":
            assert told == pytest.approx(3.0 + 4.0 * found[:, 0], abs=1e-4)
        case "logistic":
            assert told == pytest.approx(1.0 / (1.0 + np.exp(-found[:, 0])), abs=1e-5)
        case _:
            shares = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
            assert told == pytest.approx(shares, abs=1e-5)
