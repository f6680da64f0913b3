"""How much noise a sum over nodes will have, before there is one."""

from __future__ import annotations

from typing import Any

from heliosdb.domain.run import Run
from heliosdb.parts.protocols import LEAST_NODES, PROTOCOLS, least_survivors
from heliosdb.privacy.shares import Cohort


def noise_variance(run: Run, nodes: int) -> float:
    """Return the variance of the sum's noise, one node's whole noise having 1.

    It is the number of nodes, where each adds the whole. Where they share it, it is 1 if as many add a share
    as each of them takes for granted, and more if all of them do; 1 where the coordinator adds it.
    Nodes whose own DBAs count on fewer honest peers add more; that is not known here.
    """
    match run.trust:
        case "local":
            return nodes
        case "distributed":
            return nodes / cohort_of(run, nodes).honest
        case "central":
            return 1.0


def cohort_of(run: Run, nodes: int) -> Cohort:
    """Return whose sum it is where so many nodes state keys."""
    there = max(nodes, LEAST_NODES)
    settings: Any = run.options.settings(PROTOCOLS.entry(run.options.protocol).settings)
    threshold = getattr(settings, "threshold", None) or least_survivors(there)
    return Cohort(there, min(threshold, there))
