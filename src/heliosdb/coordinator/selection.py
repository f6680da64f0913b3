"""Which nodes can answer a run: those whose shared datasets have its columns, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliosdb.coordinator.directory import Member
from heliosdb.domain.datasets import choose_dataset, lacking
from heliosdb.domain.events import Absence
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import TrainingOptions

# A type that is not here may be a domain over a number: that only the node can tell.
_NO_NUMBERS = frozenset(
    ("text", "character varying", "character", "name", "date", "interval", "uuid", "json", "jsonb", "bytea")
) | frozenset(
    f"{kind}{zone}"
    for kind in ("time", "timestamp")
    for zone in ("", " with time zone", " without time zone")
)


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who can take part, who is left out and why; missing: columns that no node at all shares."""

    able: frozenset[NodeName]
    left_out: tuple[Absence, ...]
    missing: tuple[str, ...]


def select_nodes(members: Sequence[Member], options: TrainingOptions) -> Eligibility:
    """Sort the nodes that are there by whether they share what the run reads."""
    columns = (*options.features, options.target)
    shared = {column for member in members for column in _columns(member)}
    able, left_out = set(), []
    for member in members:
        found = _choose(member, options)
        if isinstance(found, str):
            left_out.append(Absence(member.name, found))
        else:
            able.add(member.name)
    return Eligibility(
        frozenset(able), tuple(left_out), tuple(column for column in columns if column not in shared)
    )


def _columns(member: Member) -> set[str]:
    return {column for dataset in member.introduction.datasets for column in dataset.columns}


def boolean_features(members: Sequence[Member], options: TrainingOptions) -> tuple[bool, ...]:
    """Return for each feature whether it is boolean at every one of these nodes, which are able to train."""
    shared = [_choose(member, options) for member in members]
    types = [dict(zip(one.columns, one.types, strict=True)) for one in shared if not isinstance(one, str)]
    return tuple(
        bool(types) and all(one.get(feature) == "boolean" for one in types) for feature in options.features
    )


def _choose(member: Member, options: TrainingOptions) -> DatasetDescription | str:
    """Return the dataset that the run reads at a node, else why there is none."""
    dataset, columns = options.dataset or member.record.dataset, (*options.features, options.target)
    if not member.introduction.datasets:
        return "shares no dataset with this workspace"
    choice = choose_dataset(member.introduction.datasets, columns, dataset)
    if choice.chosen is not None:
        return _readable(choice.chosen, columns)
    if not choice.considered:
        return f'shares no dataset "{dataset}"'
    if choice.whole:
        names = ", ".join(sorted(one.name for one in choice.whole))
        return f"several datasets have all the columns ({names})"
    nearest = min(choice.considered, key=lambda one: len(lacking(one, columns)))
    return f'dataset "{nearest.name}" has no column {", ".join(lacking(nearest, columns))}'


def _readable(dataset: DatasetDescription, columns: Sequence[str]) -> DatasetDescription | str:
    types = dict(zip(dataset.columns, dataset.types, strict=True))
    for column in columns:
        kind = types[column]
        if kind.endswith("[]") or kind.split("(")[0].strip() in _NO_NUMBERS:
            return f'column {column} of dataset "{dataset.name}" is of type {kind}, no number'
    return dataset
