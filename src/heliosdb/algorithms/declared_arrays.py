"""Features that input_shape declares to be arrays: the images of a cnn, the series of other networks.

What always holds: all of a channel have one mean and one scale, which follow from what round 0 found of
each, so that a network sees the same wherever it looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from heliosdb.domain import bounds
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.task import Scaling


def is_settled(plan: RunPlan) -> bool:
    """Whether every column's inputs are known, as they are once round 0 has asked the rows for what catalogs
    do not say."""
    encoding = plan.findings.encoding
    if encoding is None:
        return True
    asked = (ColumnKind.CATEGORY, ColumnKind.ARRAY)
    return not any(
        (one.kind in asked and one.form == "value" and one.elements == 1)
        or (one.form == "bins" and not one.edges)
        for one in encoding.columns
    )


def share_scales(scaling: Scaling, channels: Iterable[slice]) -> Scaling:
    """Return it with one mean and one scale for all inputs of a channel.

    The variance over all of them is the mean of their variances and the variance of their means; the scale of
    an input that never changes is 0.
    """
    means, scales = np.array(scaling.means), np.array(scaling.scales)
    for channel in channels:
        apart = means[channel] - means[channel].mean()
        # Of ratios, so that no square overflows, and none of what differs little vanishes.
        largest = max(float(np.abs(apart).max()), float(scales[channel].max()))
        ratios = np.square(scales[channel] / (largest or 1.0)) + np.square(apart / (largest or 1.0))
        means[channel] = means[channel].mean()
        scales[channel] = min(largest * float(np.sqrt(np.mean(ratios))), bounds.SCALE.most)
    return replace(scaling, means=tuple(means.tolist()), scales=tuple(scales.tolist()))
