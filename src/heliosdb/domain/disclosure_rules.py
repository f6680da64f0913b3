"""The rules for answers without noise that a node's own DBA sets: for the site in node.toml, for a dataset in
its options.

What always holds: of two words about the same rule the stricter one holds, so that a dataset is never looser
than its site; a rule that nobody has set has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

STRICTER_WHERE_LESS = frozenset({"max_parameter_share", "max_dominance", "max_datasets", "max_row_sets"})
"""Of the others the larger number is the stricter."""


@dataclass(frozen=True, slots=True)
class DisclosureRules:
    """What answers without noise may be about.

    min_rows: data subjects of an answer, and by how many two of them differ. min_cell: subjects of a count
    that is told, and of a group that a column or two columns tell apart. min_category: subjects of a level of
    a category. max_dominance: the part of a sum of magnitudes that one subject may have; 1: all.
    max_parameter_share: parameters of a model per row. max_datasets: different datasets over the same tables.
    max_row_sets: different sets of rows of these.
    """

    min_rows: int = 20
    min_cell: int = 5
    min_category: int = 5
    max_dominance: float = 0.85
    max_parameter_share: float = 1.0 / 3.0
    max_datasets: int = 8
    max_row_sets: int = 64

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> DisclosureRules:
        """Take them from a dataset's options; what is not there has its default."""
        return cls(**{name: options[name] for name in RULES if name in options})

    def within(self, site: Mapping[str, float]) -> DisclosureRules:
        """Return them, each at least as strict as the site's word; site: by the names of the rules."""
        found: dict[str, Any] = {}
        for name in RULES:
            own, floor = getattr(self, name), site.get(name)
            stricter = min if name in STRICTER_WHERE_LESS else max
            found[name] = own if floor is None else stricter(own, floor)
        return DisclosureRules(**found)


RULES = tuple(rule.name for rule in fields(DisclosureRules))
"""Their names, which are those of the options and settings too."""

DEFAULT_RULES = DisclosureRules()

NO_FLOORS: Mapping[str, float] = MappingProxyType({})
"""Of a site whose DBA has said nothing."""
