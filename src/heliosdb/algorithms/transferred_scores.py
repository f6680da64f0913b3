"""Linear scores as those with which another run begins; see transfer.py.

What always holds: a model of one layer is taken over whole, in the run's units and in the order of its
classes, or not at all.
"""

from __future__ import annotations

import math

import numpy as np

from heliosdb.algorithms.families import Family
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.transfer import (
    Carried,
    Conversion,
    carry_scores,
    check_carried,
    describe,
    reorder_classes,
    rescale_target,
)
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.origin import Origin
from heliosdb.domain.state import State, freeze
from heliosdb.parts.transfer import other_classes


def carry_linear(plan: RunPlan, fresh: State, origin: Origin, family: Family) -> Carried:
    """Return the state of a model of scores with a bias; FederatedError INVALID_VALUE for other classes."""
    classes, scaling = classes_of(plan), plan.findings.scaling
    assert scaling is not None
    if sorted(classes) != sorted(origin.classes):
        raise other_classes(origin.name, origin.classes, classes)
    old, own = (np.atleast_2d(state[PARAMETERS]) for state in (origin.state, fresh))
    scores = reorder_classes(old, origin.classes, classes) if classes else old
    scores = carry_scores(scores, own, Conversion.of(plan, origin))
    if family.link == "identity":
        scores = rescale_target(scores, origin.scaling, scaling)
    elif family.link == "exp":
        # Counts are in units of their mean.
        scores[:, -1] += math.log(origin.scaling.target_mean / scaling.target_mean)
    check_carried(scores, origin)
    shaped = scores.reshape(fresh[PARAMETERS].shape)
    return Carried(freeze({**fresh, PARAMETERS: shaped}), describe(plan, origin))


def carry_hazards(plan: RunPlan, fresh: State, origin: Origin) -> Carried:
    """Return the state of a model of hazard ratios, whose scores have no level."""
    old, own = (np.atleast_2d(state[PARAMETERS]) for state in (origin.state, fresh))
    scores = carry_scores(old, own, Conversion.of(plan, origin), has_bias=False)
    check_carried(scores, origin)
    return Carried(freeze({**fresh, PARAMETERS: scores[0]}), describe(plan, origin))
