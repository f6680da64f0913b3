"""How trees predict, as the numbers that `heliosdb.scoring.trees` reads.

What always holds: the trees are whole: no node is open.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.trees.work import levels_of
from heliosdb.domain.findings import Findings
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import State, freeze


def tree_prediction(state: State, findings: Findings, classes: int, *, boosts: bool) -> Prediction:
    """Return it, of kind trees. classes: of the target, 0 where it is a number."""
    scaling = findings.scaling
    assert scaling is not None
    link = "identity" if not classes else ("logistic" if classes == 2 else "softmax")
    content = {
        "link": link,
        "boosts": boosts,
        "target_mean": float(scaling.target_mean),
        "target_scale": float(scaling.target_scale),
    }
    levels = np.array(levels_of(findings.encoding, state["n_edges"].size), dtype=np.int64)
    return Prediction("trees", content, freeze({**state, "levels": levels}))
