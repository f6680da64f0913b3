"""What a run needs of each node's columns, told from what the nodes say of themselves, before any is asked.

What always holds: nothing here comes from a row; START and the coordinator decide by it alike. A node that
cannot answer the run is left out and told of; where a target's classes are not known the run is refused
whole, since its budget would be spent on a model of something else. An integer's alone can be counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from heliosdb.domain.classes import BINARY, class_number, read_classes, show_number
from heliosdb.domain.datasets import INTEGER_TYPES, NUMERIC_TYPES, choose_dataset, lacking
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Absence
from heliosdb.domain.handshake import DatasetDescription, Introduction
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import TrainingOptions


@dataclass(frozen=True, slots=True)
class Offer:
    """A node and what it says that it shares. dataset: the one that its registration names."""

    node: NodeName
    dataset: str | None
    introduction: Introduction


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who can take part, with which dataset; who is left out and why; missing: columns that no node at all
    shares.
    """

    able: dict[NodeName, DatasetDescription]
    left_out: tuple[Absence, ...]
    missing: tuple[str, ...]


def select(offers: Iterable[Offer], options: TrainingOptions) -> Eligibility:
    """Sort nodes by whether they share what the run reads, as numbers."""
    columns = options.columns
    shared: set[str] = set()
    able, left_out = {}, []
    for offer in offers:
        shared |= {column for dataset in offer.introduction.datasets for column in dataset.columns}
        found = _choose(offer, options, columns)
        if isinstance(found, str):
            left_out.append(Absence(offer.node, found))
        else:
            able[offer.node] = found
    return Eligibility(able, tuple(left_out), tuple(column for column in columns if column not in shared))


def boolean_features(datasets: Sequence[DatasetDescription], options: TrainingOptions) -> tuple[bool, ...]:
    """Return for each feature whether it is boolean in every one of these datasets, which have them all."""
    return tuple(
        bool(datasets) and all(one.type_of(feature) == "boolean" for one in datasets)
        for feature in options.features
    )


def undeclared_targets(able: dict[NodeName, DatasetDescription], options: TrainingOptions) -> list[NodeName]:
    """Return the nodes whose target is an integer that no catalog and no option says the classes of.

    Under a budget these are counted before anything else; for algorithms that learn classes.
    """
    if options.target_classes:
        return []
    return [node for node, dataset in sorted(able.items()) if _is_countable(dataset, options.target)]


def _is_countable(dataset: DatasetDescription, column: str) -> bool:
    return dataset.type_of(column) in INTEGER_TYPES and _declared(dataset, column) is None


def check_classes(
    able: dict[NodeName, DatasetDescription], options: TrainingOptions, *, private: bool
) -> None:
    """Raise FederatedError WRONG_STATE, naming target and nodes, where a target's classes are not known.

    For algorithms that learn classes. private: whether there is a budget, under which no row can be asked and
    only an integer's values can be counted; without one a node checks its rows itself.
    """
    named = read_classes(options.target_classes)
    faults = [
        Absence(node, fault)
        for node, dataset in sorted(able.items())
        if (fault := _fault(dataset, options, named, private=private)) is not None
    ]
    if not faults:
        return
    found = [_declared(able[one.node], options.target) for one in faults]
    suggested = found[0] if found[0] is not None and len(found[0]) == 2 and len(set(found)) == 1 else BINARY
    labels = ", ".join(f"'{show_number(number)}'" for number in suggested)
    wrong = "are not those of target_classes" if named else "are not known, as a privacy budget needs them"
    raise FederatedError(
        ErrorCode.WRONG_STATE,
        f'the classes of the target "{options.target}" {wrong}',
        detail="; ".join(_grouped(faults)) + ".",
        hint=f"Name them, class 0 first: target_classes = [{labels}]. Or let each node's own DBA declare the "
        "column boolean, or with a CHECK that it is 0 or 1.",
    )


def _grouped(faults: Sequence[Absence]) -> Iterator[str]:
    """Say each reason once, with all nodes that it is of."""
    for reason in dict.fromkeys(one.reason for one in faults):
        yield f"{', '.join(one.node for one in faults if one.reason == reason)}: {reason}"


def _fault(
    dataset: DatasetDescription, options: TrainingOptions, named: Sequence[float], *, private: bool
) -> str | None:
    column = f'column "{options.target}" of dataset "{dataset.name}"'
    declared = _declared(dataset, options.target)
    if declared is None:
        if _is_countable(dataset, options.target):
            return None
        undeclared = f"{column} is of type {dataset.type_of(options.target)}, and no CHECK lists its values"
        return undeclared if private and not named else None
    shown = ", ".join(map(show_number, declared)) or "no value"
    if named:
        absent = [show_number(number) for number in named if number not in declared]
        return f"{column} is declared to hold {shown}, and not {absent[0]}" if absent else None
    return f"{column} is declared to hold {shown}" if private and not set(declared) <= set(BINARY) else None


def _declared(dataset: DatasetDescription, column: str) -> tuple[float, ...] | None:
    """The numbers that a column can hold, None where that is not declared."""
    if dataset.type_of(column) == "boolean":
        return BINARY
    values = dataset.values_of(column)
    numbers = None if values is None else [class_number(value) for value in values]
    if numbers is None or None in numbers:
        return None
    return tuple(number for number in numbers if number is not None)


def _choose(offer: Offer, options: TrainingOptions, columns: Sequence[str]) -> DatasetDescription | str:
    """Return the dataset that the run reads at a node, else why there is none."""
    named = options.dataset or offer.dataset
    if not offer.introduction.datasets:
        return "shares no dataset with this workspace"
    choice = choose_dataset(offer.introduction.datasets, columns, named)
    if choice.chosen is not None:
        return _readable(choice.chosen, columns)
    if not choice.considered:
        return f'shares no dataset "{named}"'
    if choice.whole:
        names = ", ".join(sorted(one.name for one in choice.whole))
        return f"several datasets have all the columns ({names}): the option dataset names one"
    nearest = min(choice.considered, key=lambda one: len(lacking(one, columns)))
    return f'dataset "{nearest.name}" has no column {", ".join(lacking(nearest, columns))}'


def _readable(dataset: DatasetDescription, columns: Sequence[str]) -> DatasetDescription | str:
    for column in columns:
        kind = dataset.type_of(column)
        if kind not in NUMERIC_TYPES:
            return f'column {column} of dataset "{dataset.name}" is of type {kind}, no number'
    return dataset


def explain_nobody(found: Eligibility) -> str:
    """Say why no node at all can take part."""
    reasons = "; ".join(f"{one.node}: {one.reason}" for one in found.left_out)
    if found.missing:
        return f"no node shares column {', '.join(found.missing)} ({reasons})"
    return f"no node can take part ({reasons})"
