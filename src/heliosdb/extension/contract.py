"""What a model needs of the nodes' columns, as far as the catalog knows them when a statement is typed.

What always holds: nothing is asked of a node here; what the catalog does not know yet, the coordinator
decides by the same rules before it asks for anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.catalog import commands as catalog
from heliosdb.domain.absence import Absence
from heliosdb.domain.classes import read_classes
from heliosdb.domain.contract import (
    Offer,
    check_classes,
    check_columns,
    learns_classes,
    select,
    undeclared_levels,
    undeclared_targets,
)
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.transforms import read_transforms
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import (
    ALGORITHMS,
    ConvolutionSettings,
    NetworkSettings,
    SeriesSettings,
    check_private,
    extra_of,
    has_classes,
    learns,
)
from heliosdb.parts.extras import how_to_install
from heliosdb.parts.images import check_image
from heliosdb.parts.networks import check_layers, check_size
from heliosdb.parts.series import check_series
from heliosdb.parts.strategies import STRATEGIES, root_node


def check_target_classes(given: catalog.Options) -> None:
    """Raise 22023 for classes that are not two or more, and where the algorithm learns none."""
    labels = given.get("target_classes")
    if labels is None:
        return
    read_classes(labels)
    algorithm = given.get("algorithm")
    if algorithm is not None and not has_classes(algorithm, given):
        raise invalid_value(
            f"target_classes has no effect on {algorithm}, which predicts a number",
            hint="Leave it out, or choose logistic_regression.",
        )


def check_transforms(given: catalog.Options) -> None:
    """Raise 22023 for transforms that are none, or of what is no feature; 0A000 for what is not built."""
    texts = given.get("feature_transforms")
    if texts is not None:
        features = given.get("features")
        read_transforms(texts, features if features is None else tuple(features))


def check_ranges(options: TrainingOptions) -> None:
    """Raise 22023 where feature_ranges names some of the columns that round 0 scales, and not all."""
    named = {name for name, _, _ in options.feature_ranges}
    target = () if has_classes(options.algorithm, options.given) else (options.target,)
    missing = [column for column in (*options.features, *target) if column not in named]
    if named and missing:
        raise invalid_value(
            f"feature_ranges does not name {', '.join(missing)}",
            hint="Give the range of every column, a boolean one's is [0, 1], or of none.",
        )


def check_algorithm(options: TrainingOptions, *, private: bool) -> None:
    """Raise 0A000 for an algorithm that cannot be had under the workspace's budget, 22023 for layers that
    cannot fit the target, as far as the options say what that is.
    """
    if private:
        check_private(options.algorithm, options.given)
    learns = has_classes(options.algorithm, options.given)
    _check_layers(options, (len(options.target_classes) or None) if learns else 0)


def _check_layers(options: TrainingOptions, classes: int | None) -> None:
    kind = ALGORITHMS.entry(options.algorithm).settings
    if issubclass(kind, NetworkSettings):
        settings = options.settings(kind)
        check_layers(settings, options.target, classes)
        if isinstance(settings, ConvolutionSettings):
            check_image(settings)
        elif isinstance(settings, SeriesSettings):
            check_series(settings)
        else:
            # A feature is one input or more.
            check_size(len(options.features), settings.layers)


def check_contract(
    model: str, nodes: Sequence[catalog.Node], options: TrainingOptions, *, private: bool, min_nodes: int = 1
) -> list[str]:
    """Raise 55000 where nodes that were met do not say what the target's classes are, and the run needs it;
    and where too few of all nodes have installed what its algorithm needs.

    Returns what START says: which nodes would be left out and why, and at which ones classes would be
    counted. What a node said may be some seconds old.
    """
    extra = extra_of(options.algorithm)
    offers = [
        Offer(node.name, node.options.get("dataset"), node.introduction)
        for node in nodes
        if node.introduction is not None
    ]
    _check_extra(model, offers, extra, most_able=len(nodes), min_nodes=min_nodes)
    found = select(offers, options, learns_classes=has_classes(options.algorithm, options.given), extra=extra)
    needed = _needed(nodes, options)
    said = [
        f"{_listed(names)} would be left out of the run: {reason}"
        for reason, names in _by_reason(found.left_out).items()
    ]
    learned = learns(options.algorithm, options.given)
    has_classes_here = learns_classes(learned, list(found.able.values()), options)
    try:
        check_columns(found, options, private=private, needed=needed)
        if has_classes_here:
            check_classes(found.able, options, private=private)
            if found.able and all(one.type_of(options.target) == "boolean" for one in found.able.values()):
                _check_layers(options, 2)
    except FederatedError as error:
        message = f'federated model "{model}" cannot be trained: {error.message}'
        raise FederatedError(error.code, message, detail=error.detail, hint=error.hint) from None
    if has_classes_here:
        undeclared = undeclared_targets(found.able, options) if private else []
        said += [_counted(options.target, undeclared)] if undeclared else []
    if private:
        said += [_found(*one) for one in undeclared_levels(found.able, options).items()]
    return said


def _needed(nodes: Sequence[catalog.Node], options: TrainingOptions) -> frozenset[NodeName]:
    """Return the node without which the run's rule can do nothing; 42704 where it is not registered."""
    root = root_node(options.settings(STRATEGIES.entry(options.aggregation).settings))
    if root is None:
        return frozenset()
    if root not in {node.name for node in nodes}:
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            f'root_node "{root}" is no registered node of the workspace',
            hint="REGISTER FEDERATED NODE it, or name one that is registered.",
        )
    return frozenset((root,))


def _check_extra(
    model: str, offers: Sequence[Offer], extra: str | None, *, most_able: int, min_nodes: int
) -> None:
    lacking = [
        f'"{one.node}"' for one in offers if extra is not None and extra not in one.introduction.extras
    ]
    if extra is None or not lacking or most_able - len(lacking) >= min_nodes:
        return
    raise FederatedError(
        ErrorCode.WRONG_STATE,
        f'federated model "{model}" cannot be trained: too few nodes have the extra "{extra}"',
        detail=f"A run needs {counted(min_nodes, 'node')}; {_listed(lacking)} would compute nothing.",
        hint=how_to_install(extra),
    )


def _counted(target: str, nodes: Sequence[NodeName]) -> str:
    return (
        f'the classes of the target "{target}" are not declared at {", ".join(nodes)}: a small part of the'
        " privacy budget goes to counting whether it is 0 or 1, and none where target_classes, or a CHECK at"
        " each of these nodes, says so"
    )


def _found(feature: str, nodes: Sequence[NodeName]) -> str:
    return (
        f'the levels of feature "{feature}" are not declared at {", ".join(nodes)}: a part of the privacy'
        " budget goes to finding those of many data subjects, and none where each of these nodes makes the"
        " column an enum or lists its values in a CHECK"
    )


def _by_reason(left_out: Sequence[Absence]) -> dict[str, list[str]]:
    """Group the nodes by what keeps them out: often it is one mistake that all of them show."""
    found: dict[str, list[str]] = {}
    for one in left_out:
        found.setdefault(one.reason, []).append(f'"{one.node}"')
    return found


def _listed(names: Sequence[str]) -> str:
    return f"node{'s' if len(names) > 1 else ''} {', '.join(names)}"
