"""Whether all parts of a run are there, asked when it is loaded: before a node has spent anything on it."""

from __future__ import annotations

from collections.abc import Iterable

from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.domain.settings import option_names
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.built import READ_FROM_OPTIONS
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.registry import RegisteredPart, Registry
from heliosdb.parts.selections import SELECTIONS, read_selection
from heliosdb.parts.strategies import STRATEGIES


def check_parts(options: TrainingOptions, policy: Policy) -> None:
    """Raise FederatedError NOT_SUPPORTED for a part that there is not, INVALID_VALUE for its settings.

    Every part is imported here, so that one whose module is broken shows too (as what importing it raises).
    """
    for registry, name in _chosen(options):
        options.settings(registry.entry(name).settings)
        registry.get(name)
    entry, _ = read_selection(policy.node_selection)
    SELECTIONS.get(entry.name)


def unread_option(given: Iterable[str], options: TrainingOptions) -> str | None:
    """Return the first of the given options that some part reads, and none of those of this run."""
    read = _read_by(registry.entry(name) for registry, name in _chosen(options))
    known = _read_by(entry for registry in READ_FROM_OPTIONS for entry in registry.entries())
    return next((option for option in given if option in known - read), None)


def _read_by(entries: Iterable[RegisteredPart]) -> set[str]:
    return {option for entry in entries for option in option_names(entry.settings)}


def _chosen(options: TrainingOptions) -> tuple[tuple[Registry, str], ...]:
    return (
        (ALGORITHMS, options.algorithm),
        (STRATEGIES, options.aggregation),
        (PROTOCOLS, options.protocol),
        (CODECS, options.codec),
    )
