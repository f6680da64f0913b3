"""Of how many nodes' whole noise the noise of a sum over nodes will have the variance, before there is one."""

from __future__ import annotations

from heliosdb.domain.run import Run
from heliosdb.parts.protocols import LEAST_NODES, PROTOCOLS, least_survivors
from heliosdb.privacy.shares import Cohort


def noise_count(run: Run, nodes: int) -> float:
    """Return `nodes` where each adds the whole; where they share it, what is left of that: 1 where as many
    add a share as each of them takes for granted, more where all of them do.

    Nodes whose own DBAs count on fewer honest peers add more; that is not known here.
    """
    if not run.shares_noise:
        return nodes
    there = max(nodes, LEAST_NODES)
    settings = run.options.settings(PROTOCOLS.entry(run.options.protocol).settings)
    threshold = getattr(settings, "threshold", None) or least_survivors(there)
    return nodes / Cohort(there, min(threshold, there)).honest
