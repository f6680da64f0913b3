"""The option `search`: which values of which training options are tried, and the trials that they make.

What always holds: a value that is tried is one that the option itself would take, in its canonical form; no
two trials are the same; what a search may not vary is what its trials are compared by.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from itertools import product
from typing import cast

from federated_sql.clause_values import Option, OptionValue, Scalar
from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from federated_sql.option_values import OptionJson, OptionSpec, canonical

FIXED = (
    *("folds", "search", "seed", "validation_split", "target_classes", "feature_ranges", "checkpoint_every"),
    *("event", "weights", "offset", "priority"),
)
"""Options that a search does not vary: with others of them losses are not about the same question or rows."""

MOST_RUNS = 500
"""Of one START: trials times folds."""


def read_search(
    table: Mapping[str, OptionSpec], option: Option, given: Mapping[str, OptionJson]
) -> dict[str, OptionJson]:
    """Return the values to try in their canonical form; 22023 for what no run may be given, or twice."""
    return {name: _values(table, option, name, cast("list[object]", given[name])) for name in given}


def tried_options(search: Mapping[str, OptionJson]) -> list[Option]:
    """Return every option with each value that is tried, as if it had been given by itself."""
    return [
        Option(name, as_typed(value))
        for name, values in search.items()
        for value in cast("list[OptionJson]", values)
    ]


def list_trials(search: Mapping[str, OptionJson]) -> list[dict[str, OptionJson]]:
    """Return what each trial sets: every combination, the last option's values changing fastest."""
    values = [cast("list[OptionJson]", one) for one in search.values()]
    return [dict(zip(search, combination, strict=True)) for combination in product(*values)]


def as_typed(value: OptionJson) -> OptionValue:
    """Return a stored value as a statement would give it."""
    if isinstance(value, list):
        return tuple(element if isinstance(element, Scalar) else str(element) for element in value)
    return json.dumps(value) if isinstance(value, dict) else cast("OptionValue", value)


def _values(
    table: Mapping[str, OptionSpec], option: Option, name: str, values: list[object]
) -> list[OptionJson]:
    spec, position = table.get(name), option.position or None
    if spec is None or name in FIXED:
        why = "cannot be tried by a search" if spec is not None else "is not an option that a run may set"
        near = difflib.get_close_matches(name, table.keys() - FIXED, 1, 0.7) if spec is None else []
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f'option "{option.name}": "{name}" {why}',
            hint=f'Did you mean "{near[0]}"?' if near else None,
            position=position,
        )
    read: list[OptionJson] = []
    for value in values:
        one = canonical(spec, Option(name, as_typed(cast("OptionJson", value)), option.position))
        if one in read:
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f'option "{option.name}" names a value of "{name}" twice',
                position=position,
            )
        read.append(one)
    return read


def check_folds(options: Mapping[str, OptionJson]) -> None:
    """Raise 22023 where folds and validation_split are given together."""
    if options.get("folds") is not None and options.get("validation_split") is not None:
        raise invalid_value(
            "folds and validation_split exclude each other",
            hint="Of K folds each is held out once: a K-th of the subjects.",
        )
