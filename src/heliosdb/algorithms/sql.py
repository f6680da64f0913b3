"""Predictions as the numbers from which the catalog makes a SQL function that PostgreSQL's planner inlines.

What always holds: a prediction is finite numbers, one slope, fill and shift for each feature, and never text;
a missing feature is the mean of training.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector

Link = Literal["identity", "logistic", "exp"]

_FOLD_UP_TO = 1e3
"""Folding mean / scale into the intercept loses that factor of precision; beyond, the mean is subtracted."""


@dataclass(frozen=True, slots=True)
class LinearPrediction:
    """A prediction that is linear in the raw features, up to its link.

    score = intercept + sum of slope x (feature - shift), a missing feature being its fill. link logistic: the
    probability 1/2 (1 + tanh(score / 2)); exp: the mean exp(score); identity: target_mean + target_scale x
    score. slopes, fills and shifts are of length inputs. Raises FederatedError (XX000) where a number is not
    finite.
    """

    intercept: float
    slopes: tuple[float, ...]
    fills: tuple[float, ...]
    shifts: tuple[float, ...]
    link: Link
    target_mean: float = 0.0
    target_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check what the class promises."""
        numbers = (self.intercept, self.target_mean, self.target_scale)
        if not all(map(math.isfinite, (*numbers, *self.slopes, *self.fills, *self.shifts))):
            raise FederatedError(
                ErrorCode.INTERNAL, "A model with a parameter that is not finite has no prediction."
            )
        if not len(self.slopes) == len(self.fills) == len(self.shifts):
            raise ValueError("a prediction has one slope, fill and shift for each feature")

    def to_prediction(self) -> Prediction:
        """Return it for the catalog, as of kind linear."""
        return Prediction("linear", asdict(self))


def softmax_prediction(scaling: Scaling, parameters: Matrix) -> Prediction:
    """Return the prediction of several classes, of kind softmax_linear; parameters: (K - 1, inputs + 1).

    Of each class an intercept and the slopes, class 0 first, whose score is 0; the shares of the classes are
    the exponentials of their scores, over the sum of these.
    """
    classes = [
        linear_prediction("logistic", scaling, row) for row in (np.zeros_like(parameters[0]), *parameters)
    ]
    first = classes[0]
    content = {
        "intercepts": [one.intercept for one in classes],
        "slopes": [list(one.slopes) for one in classes],
        "fills": list(first.fills),
        "shifts": list(first.shifts),
        "link": "softmax",
    }
    return Prediction("softmax_linear", content)


def linear_prediction(link: Link, scaling: Scaling, parameters: Vector) -> LinearPrediction:
    """Turn (weights…, bias) on scaled inputs into slopes of raw inputs; (inputs + 1,).

    Under the link exp scores are those of a target by its mean, whose logarithm is added; where that is none,
    the intercept is NaN.
    """
    slopes, shifts, intercept = [], [], [float(parameters[-1])]
    if link == "exp":
        intercept.append(math.log(scaling.target_mean) if scaling.target_mean > 0 else math.nan)
    for weight, mean, scale in zip(parameters[:-1], scaling.means, scaling.scales, strict=True):
        slope = float(weight) / scale
        folds = abs(mean) <= _FOLD_UP_TO * scale
        slopes.append(slope)
        shifts.append(0.0 if folds else float(mean))
        intercept.append(-slope * mean if folds else 0.0)
    return LinearPrediction(
        intercept=math.fsum(intercept) if all(map(math.isfinite, intercept)) else math.nan,
        slopes=tuple(slopes),
        fills=tuple(map(float, scaling.means)),
        shifts=tuple(shifts),
        link=link,
        target_mean=float(scaling.target_mean) if link == "identity" else 0.0,
        target_scale=float(scaling.target_scale) if link == "identity" else 1.0,
    )
