"""Whether all parts of a run are there, asked when it is loaded: before a node has spent anything on it."""

from __future__ import annotations

from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.selections import SELECTIONS, read_selection
from heliosdb.parts.strategies import STRATEGIES


def check_parts(options: TrainingOptions, policy: Policy) -> None:
    """Raise FederatedError NOT_SUPPORTED for a part that there is not, INVALID_VALUE for its settings.

    Every part is imported here, so that one whose module is broken shows too (as what importing it raises).
    """
    chosen = (
        (ALGORITHMS, options.algorithm),
        (STRATEGIES, options.aggregation),
        (PROTOCOLS, options.protocol),
        (CODECS, options.codec),
    )
    for registry, name in chosen:
        options.settings(registry.entry(name).settings)
        registry.get(name)
    entry, _ = read_selection(policy.node_selection)
    SELECTIONS.get(entry.name)
