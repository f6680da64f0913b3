"""Which nodes can answer a run: those whose shared datasets have its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliosdb.coordinator.directory import Member
from heliosdb.domain.events import Absence
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import TrainingOptions


@dataclass(frozen=True, slots=True)
class Selection:
    """Who can take part, who is left out and why; missing: columns that no node at all shares."""

    able: frozenset[NodeName]
    left_out: tuple[Absence, ...]
    missing: tuple[str, ...]


def select_nodes(members: Sequence[Member], options: TrainingOptions) -> Selection:
    """Sort the nodes that are there by whether they share what the run reads."""
    columns = (*options.features, options.target)
    shared = {column for member in members for column in _columns(member)}
    able, left_out = set(), []
    for member in members:
        reason = _obstacle(member, options.dataset or member.record.dataset, columns)
        if reason is None:
            able.add(member.name)
        else:
            left_out.append(Absence(member.name, reason))
    return Selection(
        frozenset(able), tuple(left_out), tuple(column for column in columns if column not in shared)
    )


def _columns(member: Member) -> set[str]:
    return {column for dataset in member.introduction.datasets for column in dataset.columns}


def _obstacle(member: Member, dataset: str | None, columns: Sequence[str]) -> str | None:
    datasets = member.introduction.datasets
    if not datasets:
        return "shares no dataset with this workspace"
    if dataset is not None:
        named = next((one for one in datasets if one.name == dataset), None)
        if named is None:
            return f'shares no dataset "{dataset}"'
        datasets = (named,)
    whole = [one for one in datasets if set(columns) <= set(one.columns)]
    if len(whole) > 1:
        return f"several datasets have all the columns ({', '.join(sorted(one.name for one in whole))})"
    if whole:
        return None
    nearest = min(datasets, key=lambda one: len(set(columns) - set(one.columns)))
    lacking = [column for column in columns if column not in nearest.columns]
    return f'dataset "{nearest.name}" has no column {", ".join(lacking)}'
