"""What a run needs of each node's columns, told from what the nodes say of themselves, before any is asked.

What always holds: nothing here comes from a row; START and the coordinator decide by it alike. A node that
cannot answer the run is left out and told of: the kind that most nodes' column is decides. Where a target's
classes are not known under a budget the run is refused whole, since its budget would be spent on a model of
something else. An integer's alone can be counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from heliosdb.domain.absence import Absence
from heliosdb.domain.classes import (
    BINARY_LABELS,
    MOST_LABEL_BYTES,
    Learns,
    class_number,
    class_numbers,
    read_classes,
    show_number,
)
from heliosdb.domain.datasets import INTEGER_TYPES, choose_dataset, kind_of, lacking
from heliosdb.domain.declared_shapes import (
    check_channels,
    declared_elements,
    has_image,
    image_feature,
    image_shape,
)
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.handshake import GONE, DatasetDescription, Introduction
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.transforms import transformed
from heliosdb.domain.wording import counted

_ARTICLES = {
    ColumnKind.NUMBER: "a number",
    ColumnKind.TIME: "a time",
    ColumnKind.INTERVAL: "an interval",
    ColumnKind.CATEGORY: "a category",
    ColumnKind.ARRAY: "an array",
    ColumnKind.TEXT: "a text",
    ColumnKind.IMAGE: "an image",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A node and what it says that it shares. dataset: the one that its registration names."""

    node: NodeName
    dataset: str | None
    introduction: Introduction


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who can take part, with which dataset; who is left out and why; missing: columns that no node at all
    shares. undecided: why nodes cannot be told apart, where as many of them say one thing as another.
    """

    able: dict[NodeName, DatasetDescription]
    left_out: tuple[Absence, ...]
    missing: tuple[str, ...]
    undecided: str | None = None


def select(
    offers: Iterable[Offer], options: TrainingOptions, *, learns_classes: bool, extra: str | None = None
) -> Eligibility:
    """Sort nodes by whether they share what the run reads, in kinds that fit together.

    learns_classes: whether the target may be a label, and need not be a number. extra: what the run's
    algorithm needs to be installed there.
    """
    columns = options.columns
    shared: set[str] = set()
    readable: dict[NodeName, DatasetDescription] = {}
    left_out: list[Absence] = []
    for offer in offers:
        shared |= {column for dataset in offer.introduction.datasets for column in dataset.columns}
        found = _lacks(offer, extra) or _choose(offer, options, columns, learns_classes=learns_classes)
        if isinstance(found, str):
            left_out.append(Absence(offer.node, found))
        else:
            readable[offer.node] = found
    missing = tuple(column for column in columns if column not in shared)
    able, outvoted, undecided = _agree(readable, columns)
    return Eligibility(able, (*left_out, *outvoted), missing, undecided)


def _agree(
    readable: Mapping[NodeName, DatasetDescription], columns: Sequence[str]
) -> tuple[dict[NodeName, DatasetDescription], list[Absence], str | None]:
    """Leave out whose column is of another kind than most nodes'."""
    able, left_out, undecided = dict(readable), list[Absence](), None
    for column in columns:
        kinds = {node: family_of(dataset, column) for node, dataset in able.items()}
        ranked = Counter(kinds.values()).most_common()
        if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
            said = [f"{node}: {able[node].type_of(column)}" for node in sorted(kinds)]
            undecided = undecided or f'column "{column}" is of different types ({", ".join(said)})'
            continue
        for node in [node for node, kind in kinds.items() if kind is not ranked[0][0]]:
            dataset = able.pop(node)
            left_out.append(
                Absence(
                    node,
                    f'column {column} of dataset "{dataset.name}" is of type {dataset.type_of(column)},'
                    f" and {_ARTICLES[ranked[0][0]]} at most nodes",
                )
            )
    return able, left_out, undecided


def check_columns(
    found: Eligibility,
    options: TrainingOptions,
    *,
    private: bool,
    needed: frozenset[NodeName] = frozenset(),
) -> None:
    """Raise FederatedError WRONG_STATE where columns do not go together, or a needed node would be left out;
    NOT_SUPPORTED for features that a privacy budget cannot be kept with yet, whatever the algorithm learns.
    """
    if found.undecided is not None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "the nodes' columns do not go together",
            detail=f"{found.undecided[0].upper()}{found.undecided[1:]}.",
            hint="Let each node's own DBA share it in one type, by a view where need be.",
        )
    for one in found.left_out:
        if one.node in needed:
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                f'the run needs node "{one.node}", which would be left out',
                detail=f"{one.node}: {one.reason}.",
                hint="Let its DBA share what the other nodes share, or name another root_node.",
            )
    if any(has_image(one, options) for one in found.able.values()):
        check_channels(options)
    binned = next((one for one in options.transforms if one.function == "bins"), None)
    if private and binned is not None:
        raise not_supported(
            f"feature_transforms = ['{binned.text}'] is not supported under a privacy_budget yet",
            hint="To count where its bins end would cost budget. Let a view share which bin a value is in.",
        )
    if not found.able:
        return
    columns = plain_columns(list(found.able.values()), options, are_all=True)
    for column in columns if private else ():
        _check_private(column, found.able, options)


def plain_columns(
    datasets: Sequence[DatasetDescription], options: TrainingOptions, *, are_all: bool
) -> tuple[ColumnEncoding, ...]:
    """Return how these datasets' columns are read, as far as no row has to tell it.

    are_all: whether there is no other node, of which nothing is known. FederatedError INVALID_VALUE for
    transforms that cannot be done.
    """
    kinds = feature_kinds(datasets, options, are_all=are_all)
    columns = [ColumnEncoding(name, kind) for name, kind in zip(options.features, kinds, strict=True)]
    # What is declared no row has to tell, and under a budget none is asked.
    for place, elements in enumerate(declared_elements(options)[: len(columns)]):
        if columns[place].kind.is_several:
            columns[place] = replace(columns[place], elements=elements, shape=image_shape(options))
    return transformed(columns, options.transforms)


def declared_levels(datasets: Iterable[DatasetDescription], column: str) -> tuple[str, ...] | None:
    """Return the levels that a column can have at any of these datasets, in the order of their bytes; None
    where one does not declare them."""
    declared = [_declared(dataset, column) for dataset in datasets]
    if not declared or None in declared:
        return None
    return tuple(sorted({level for one in declared for level in one or ()}, key=str.encode))


def undeclared_levels(
    able: Mapping[NodeName, DatasetDescription], options: TrainingOptions
) -> dict[str, list[NodeName]]:
    """Return the features that are categories of which not every catalog lists the levels, and where not.

    Under a budget these are found before anything else.
    """
    columns = plain_columns(list(able.values()), options, are_all=True) if able else ()
    categories = [one.column for one in columns if one.kind is ColumnKind.CATEGORY]
    silent = {
        name: [node for node, dataset in sorted(able.items()) if _declared(dataset, name) is None]
        for name in categories
    }
    return {name: nodes for name, nodes in silent.items() if nodes}


def _check_private(
    column: ColumnEncoding, able: Mapping[NodeName, DatasetDescription], options: TrainingOptions
) -> None:
    name = column.column
    if column.kind is ColumnKind.ARRAY and column.elements == 1:
        raise not_supported(
            f'feature "{name}", an array, is not supported under a privacy_budget yet',
            hint="Leave it out, or let a view share its elements as columns. The first feature of a cnn may"
            " be an array of as many elements as input_shape says.",
        )
    if options.feature_ranges and (column.kind is ColumnKind.CATEGORY or column.inputs != (name,)):
        raise not_supported(
            f'feature "{name}" is not supported beside feature_ranges yet',
            hint="feature_ranges go with numbers that are not transformed.",
        )
    if column.kind is not ColumnKind.CATEGORY:
        return
    levels = declared_levels(able.values(), name) or ()
    if len(levels) > options.encoding_settings().max_levels:
        raise invalid_value(
            f'feature "{name}" is declared to have {counted(len(levels), "level")},'
            " more than max_levels allows"
        )


def family_of(dataset: DatasetDescription, column: str) -> ColumnKind:
    """How a readable column is read; booleans are among the numbers, with which they go together."""
    kind = kind_of(dataset.type_of(column))
    return ColumnKind.NUMBER if kind is None or kind is ColumnKind.BOOLEAN else kind


def feature_kinds(
    datasets: Sequence[DatasetDescription], options: TrainingOptions, *, are_all: bool
) -> list[ColumnKind]:
    """Return for each feature how it is read at these datasets, which agree; boolean where all are.

    are_all: whether there is no other node, of which nothing is known.
    """
    booleans = boolean_features(datasets if are_all else [], options)
    families = [
        family_of(datasets[0], feature) if datasets else ColumnKind.NUMBER for feature in options.features
    ]
    return [
        ColumnKind.BOOLEAN if boolean else family for boolean, family in zip(booleans, families, strict=True)
    ]


def boolean_features(datasets: Sequence[DatasetDescription], options: TrainingOptions) -> tuple[bool, ...]:
    """Return for each feature whether it is boolean in every one of these datasets, which have them all."""
    return tuple(
        bool(datasets) and all(one.type_of(feature) == "boolean" for one in datasets)
        for feature in options.features
    )


def learns_classes(
    learns: Learns,
    datasets: Sequence[DatasetDescription],
    options: TrainingOptions,
) -> bool:
    """Whether the target has classes, of what learns either: where all these datasets declare them, or it is
    a category."""
    if learns != "either":
        return learns == "classes"
    return bool(datasets) and all(
        family_of(one, options.target) is ColumnKind.CATEGORY or _declared(one, options.target) is not None
        for one in datasets
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


def known_classes(
    datasets: Sequence[DatasetDescription], options: TrainingOptions, *, private: bool
) -> tuple[str, ...] | None:
    """Return the labels of the target's classes as options and catalogs say them; None where only the rows
    can tell. For algorithms that learn classes.
    """
    if options.target_classes:
        return read_classes(options.target_classes)
    target = options.target
    declared = [_declared(one, target) for one in datasets]
    is_number = not datasets or family_of(datasets[0], target) is ColumnKind.NUMBER
    if is_number and (private or all(one.type_of(target) == "boolean" for one in datasets)):
        return BINARY_LABELS if private or datasets else None
    if None not in declared:
        return _union(declared)
    only_rows_tell = not is_number or any(_is_countable(one, target) for one in datasets)
    return None if only_rows_tell else BINARY_LABELS


def _union(declared: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """All labels in their order; None where there are not two."""
    labels = {label for one in declared for label in one or ()}
    return order_labels(labels) if len(labels) > 1 else None


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels by what they stand for where all are numbers, else by their bytes."""
    found = list(labels)
    if class_numbers(found) is None:
        return tuple(sorted(found, key=str.encode))
    return tuple(sorted(found, key=lambda label: class_number(label) or 0.0))


def check_classes(
    able: Mapping[NodeName, DatasetDescription], options: TrainingOptions, *, private: bool
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
    suggested = found[0] if found[0] and len(found[0]) >= 2 and len(set(found)) == 1 else BINARY_LABELS
    labels = ", ".join(f"'{label}'" for label in suggested)
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
    dataset: DatasetDescription, options: TrainingOptions, named: Sequence[str], *, private: bool
) -> str | None:
    column, kind = f'column "{options.target}" of dataset "{dataset.name}"', dataset.type_of(options.target)
    is_number = family_of(dataset, options.target) is ColumnKind.NUMBER
    if is_number and named and class_numbers(named) is None:
        strange = next(label for label in named if class_number(label) is None)
        return f"{column} is of type {kind}, and '{strange}' is no number"
    declared = _declared(dataset, options.target)
    if declared is None:
        if _is_countable(dataset, options.target):
            return None
        undeclared = f"{column} is of type {kind}, and no CHECK lists its values"
        return undeclared if private and not named else None
    shown = ", ".join(declared) or "no value"
    if named:
        given = [_canonical(label, is_number=is_number) for label in named]
        absent = [label for label in given if label not in declared]
        return f"{column} is declared to hold {shown}, and not {absent[0]}" if absent else None
    others = is_number and not set(declared) <= set(BINARY_LABELS)
    return f"{column} is declared to hold {shown}" if private and others else None


def _canonical(label: str, *, is_number: bool) -> str:
    """One text for all labels that stand for the same."""
    number = class_number(label) if is_number else None
    return label if number is None else show_number(number)


def _declared(dataset: DatasetDescription, column: str) -> tuple[str, ...] | None:
    """The labels of what a column can hold, None where that is not declared."""
    if dataset.type_of(column) == "boolean":
        return BINARY_LABELS
    values = dataset.values_of(column)
    if values is None or any(len(value.encode()) > MOST_LABEL_BYTES for value in values):
        return None
    if family_of(dataset, column) is ColumnKind.CATEGORY:
        padded = dataset.type_of(column) == "character"
        return tuple(dict.fromkeys(value.rstrip(" ") if padded else value for value in values))
    numbers = class_numbers(values)
    return None if numbers is None else tuple(dict.fromkeys(map(show_number, numbers)))


def _lacks(offer: Offer, extra: str | None) -> str | None:
    if extra is None or extra in offer.introduction.extras:
        return None
    return f"lacks the extra \"{extra}\" (pip install 'heliosdb-federated-learning[{extra}]')"


def _choose(
    offer: Offer, options: TrainingOptions, columns: Sequence[str], *, learns_classes: bool
) -> DatasetDescription | str:
    """Return the dataset that the run reads at a node, else why there is none."""
    named = options.dataset or offer.dataset
    if not offer.introduction.datasets:
        return "shares no dataset with this workspace"
    choice = choose_dataset(offer.introduction.datasets, columns, named)
    if choice.chosen is not None and choice.chosen.paused:
        return f'dataset "{choice.chosen.name}" is paused by the node\'s own DBA'
    if choice.chosen is not None:
        unreadable = _readable(choice.chosen, options, learns_classes=learns_classes)
        needed = "images" if has_image(choice.chosen, options) else None
        return unreadable if isinstance(unreadable, str) else _lacks(offer, needed) or choice.chosen
    if not choice.considered:
        return f'shares no dataset "{named}"'
    if choice.whole:
        names = ", ".join(sorted(one.name for one in choice.whole))
        return f"several datasets have all the columns ({names}): the option dataset names one"
    nearest = min(choice.considered, key=lambda one: len(lacking(one, columns)))
    return f'dataset "{nearest.name}" has no column {", ".join(lacking(nearest, columns))}'


def _readable(
    dataset: DatasetDescription, options: TrainingOptions, *, learns_classes: bool
) -> DatasetDescription | str:
    gone = [column for column in options.columns if dataset.type_of(column) == GONE]
    if gone:
        return (
            f'column {", ".join(gone)} of dataset "{dataset.name}" is gone, as when its table is dropped; the'
            " node's own DBA drops the dataset and shares it anew"
        )
    for column in options.features:
        kind = kind_of(dataset.type_of(column))
        if kind is ColumnKind.IMAGE and column != image_feature(options):
            return (
                f'column {column} of dataset "{dataset.name}" is of type bytea, which is a feature as the'
                " image of a cnn alone, its first"
            )
        if kind is None:
            return (
                f'column {column} of dataset "{dataset.name}" is of type {dataset.type_of(column)},'
                " which is no feature"
            )
    wanted = {ColumnKind.NUMBER, ColumnKind.BOOLEAN}
    for role, column in options.roles:
        if kind_of(dataset.type_of(column)) not in wanted:
            return (
                f'column {column} of dataset "{dataset.name}" is of type {dataset.type_of(column)}, no number'
                f" as {role} needs"
            )
    if learns_classes:
        wanted.add(ColumnKind.CATEGORY)
    target_type = dataset.type_of(options.target)
    if kind_of(target_type) not in wanted:
        label = " and no label" if learns_classes else ""
        return (
            f'column {options.target} of dataset "{dataset.name}" is of type {target_type}, no number{label}'
        )
    return dataset


def explain_nobody(found: Eligibility) -> str:
    """Say why no node at all can take part."""
    reasons = "; ".join(f"{one.node}: {one.reason}" for one in found.left_out)
    if found.missing:
        return f"no node shares column {', '.join(found.missing)} ({reasons})"
    return f"no node can take part ({reasons})"
