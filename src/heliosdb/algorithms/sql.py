"""Predictions written as SQL expressions that PostgreSQL's planner inlines.

What always holds: each parameter is referenced exactly once, so that inlining never evaluates an argument
twice; every number is a quoted float8 literal with the digits that read back to the same bits; a NULL
feature is the mean of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.registry import algorithm as by_name
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector

_FOLD_UP_TO = 1e3
"""Folding mean / scale into the intercept loses that factor of precision; beyond, the mean is subtracted."""


def quote_identifier(name: str) -> str:
    """Quote an SQL identifier, always (PostgreSQL, 4.1.1); a NUL character is refused (42602)."""
    if not name or "\0" in name:
        raise FederatedError(ErrorCode.INVALID_NAME, "A feature's name is empty or holds a NUL character.")
    return '"' + name.replace('"', '""') + '"'


def float8_literal(value: float) -> str:
    """Write a finite number so that PostgreSQL reads the same float8; any other is an error (XX000)."""
    if not math.isfinite(value):
        raise FederatedError(
            ErrorCode.INTERNAL, "A model with a parameter that is not finite has no prediction."
        )
    return f"'{float(value)!r}'::float8"


def _term(feature: str, weight: float, mean: float, scale: float) -> tuple[str, float]:
    """Return a feature's summand and what folding it adds to the intercept."""
    slope = weight / scale
    filled = f"coalesce({quote_identifier(feature)}, {float8_literal(mean)})"
    if abs(mean) <= _FOLD_UP_TO * scale:
        return f"{float8_literal(slope)} * {filled}", -slope * mean
    return f"{float8_literal(slope)} * ({filled} - {float8_literal(mean)})", 0.0


def render_linear(features: Sequence[str], scaling: Scaling, parameters: Vector) -> str:
    """Write intercept + sum of slope x raw feature, for parameters (weights…, bias) on scaled inputs."""
    weights, bias = parameters[:-1], float(parameters[-1])
    terms, intercept = [], [bias]
    for feature, weight, mean, scale in zip(features, weights, scaling.means, scaling.scales, strict=True):
        term, folded = _term(feature, float(weight), mean, scale)
        terms.append(term)
        intercept.append(folded)
    return " + ".join([float8_literal(math.fsum(intercept)), *terms])


def render_logistic(features: Sequence[str], scaling: Scaling, parameters: Vector) -> str:
    """Write the probability, exact to about 1e-16.

    It goes through tanh, since PostgreSQL's exp fails for large arguments of either sign; a probability
    far below 1e-16 is therefore 0.
    """
    half = float8_literal(0.5)
    score = render_linear(features, scaling, parameters)
    return f"{half} * ({float8_literal(1.0)} + pg_catalog.tanh({half} * ({score})))"


def render_regression(features: Sequence[str], scaling: Scaling, parameters: Vector) -> str:
    """Write the predicted value in the target's own units."""
    score = render_linear(features, scaling, parameters)
    return f"{float8_literal(scaling.target_mean)} + {float8_literal(scaling.target_scale)} * ({score})"


def render_prediction(algorithm: str, features: Sequence[str], scaling: Scaling, parameters: Vector) -> str:
    """Write the prediction of a model as an SQL expression over parameters named as its features.

    parameters: (features + 1,), weights then bias, on scaled inputs. The expression is of type float8: a
    probability for logistic_regression, a value for linear_regression. Raises FederatedError: 0A000 for an
    algorithm without an SQL form, XX000 for parameters that are not finite.
    """
    return by_name(algorithm).render_prediction(features, scaling, parameters)
