"""Whether all parts of a run are there, asked when it is loaded: before a node has spent anything on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from federated_sql.options import check_sparsification
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.run import Policy, TrainingOptions
from heliosdb.domain.settings import option_names, settings_of
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ALGORITHMS, adds_up, by_newton, check_noise, check_private
from heliosdb.parts.asynchronous import Batching, check_batching
from heliosdb.parts.built import READ_FROM_OPTIONS
from heliosdb.parts.clipping import check_adaptive_clipping
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.groups import check_group_selection, check_groups, describe_groups
from heliosdb.parts.personal import PersonalTerms, check_personal
from heliosdb.parts.private_classes import check_private_classes
from heliosdb.parts.protocols import LEAST_NODES, PLAIN, PROTOCOLS, ShamirSettings
from heliosdb.parts.registry import RegisteredPart, Registry
from heliosdb.parts.selections import (
    SELECTIONS,
    ComparedNodes,
    RankedNodes,
    SomeNodes,
    read_selection,
)
from heliosdb.parts.strategies import (
    LEAST_GROUPS,
    STRATEGIES,
    HostileNodes,
    MeanSettings,
    NovaSettings,
    ScaffoldSettings,
    TrustSettings,
    fewest_nodes,
    groups_of,
    has_private_form,
    needs_of,
)
from heliosdb.parts.transfer import check_transfer
from heliosdb.parts.trust import TrustTerms, check_trust


def check_parts(options: TrainingOptions, policy: Policy) -> None:
    """Raise FederatedError NOT_SUPPORTED for a part that there is not, INVALID_VALUE for its settings.

    Every part is imported here, so that one whose module is broken shows too (as what importing it raises).
    """
    private = policy.budget is not None
    if private:
        check_private(options.algorithm, options.given)
        check_noise(options.algorithm, options.given, policy.noise)
        classes = len(options.target_classes)
        check_private_classes(options.algorithm, options.given, classes, policy.noise)
    check_transfer(options)
    check_personal(options, PersonalTerms(private, policy.buffer > 0, policy.compliance_mode))
    check_rule(options, private=private)
    if policy.adaptive_clipping:
        check_adaptive_clipping(options, policy.noise)
    check_trust(options, TrustTerms.of_policy(policy))
    check_batching(options, Batching(policy.buffer, policy.buffer > 0, policy.node_selection, private))
    for registry, name in _chosen(options):
        options.settings(registry.entry(name).settings)
        registry.get(name)
    entry, _ = read_selection(policy.node_selection)
    check_selection(options, policy.node_selection)
    SELECTIONS.get(entry.name)


def check_selection(options: TrainingOptions, text: str, *, nodes: int | None = None) -> None:
    """Raise FederatedError where rounds cannot be asked as node_selection says: INVALID_VALUE where a run of
    these options tells nothing by which nodes could be ranked, WRONG_STATE where there are too few.

    nodes: how many could take part at most; None: not known.
    """
    settings = read_selection(text)[1]
    check_group_selection(options, text)
    if isinstance(settings, RankedNodes) and options.given.get("secure_aggregation"):
        raise invalid_value(
            f"node_selection {text} ranks nodes by their own answers, which secure_aggregation hides",
            hint=_UNRANKED,
        )
    if isinstance(settings, ComparedNodes) and adds_up(options.algorithm, options.given):
        newton = by_newton(options.algorithm, options.given)
        what = "optimizer newton" if newton else options.algorithm
        raise invalid_value(
            f"node_selection {text} compares the parameters that nodes send, and {what} adds sums up",
            hint="Choose node_selection all, random(k) or most_data(k)"
            + (", or train with optimizer = 'sgd'." if newton else "."),
        )
    if isinstance(settings, SomeNodes) and nodes is not None and settings.k > nodes:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"node_selection {text} asks {counted(settings.k, 'node')} of a round, and at most {nodes}"
            " can take part",
            hint="Register more nodes, raise max_nodes, or choose a smaller number.",
        )


_UNRANKED = "Choose node_selection all or random(k), or train without secure_aggregation."


def check_rule(options: TrainingOptions, *, private: bool, most_nodes: int | None = None) -> None:
    """Raise FederatedError where the strategy cannot work: NOT_SUPPORTED under a privacy budget, and
    INVALID_VALUE where it needs more updates than a round can have.

    private: whether there is a budget. most_nodes: the most nodes that a round can have; None: not known.
    """
    settings: Any = options.settings(STRATEGIES.entry(options.aggregation).settings)
    _check_sums(options)
    _check_sending(options, settings)
    _check_secrecy(options, settings, most_nodes)
    if private and options.rounds_hidden:
        raise _rounded_noise(options)
    if options.given.get("adaptive_learning"):
        _check_adaptive(options, settings, private=private)
    if private and not has_private_form(settings):
        raise not_supported(f"aggregation {options.aggregation} is not supported under a privacy_budget yet")
    optimizer = options.given.get("optimizer") or "sgd"
    if isinstance(settings, ScaffoldSettings) and optimizer != "sgd":
        raise invalid_value(
            f"aggregation {options.aggregation} corrects plain steps, and optimizer is {optimizer}",
            hint="Choose optimizer = 'sgd', or another aggregation.",
        )
    if isinstance(settings, NovaSettings) and optimizer not in {"sgd", "momentum"}:
        raise invalid_value(
            f"aggregation {options.aggregation} divides updates by their steps, and those of {optimizer} have"
            " no length of their own",
            hint="Choose optimizer = 'sgd' or 'momentum', or another aggregation.",
        )
    if isinstance(settings, TrustSettings) and settings.root_node is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"aggregation {options.aggregation} needs the option root_node",
            hint="It names the registered node whose rows are trusted: root_node = 'east'.",
        )
    check_groups(options, most_nodes)
    needed, groups = fewest_nodes(settings), groups_of(settings)
    has = most_nodes if groups is None else groups
    if has is not None and needed > has:
        there = f"and a round has at most {has}" if groups is None else f"and there are {has} groups"
        raise invalid_value(
            f"aggregation {options.aggregation} needs {counted(needed, 'update')}, {there}",
            detail=", ".join(f"{name} is {value}" for name, value in settings_of(settings).items()) + ".",
            hint="Choose a smaller number, or register more nodes.",
        )


def _rounded_noise(options: TrainingOptions) -> FederatedError:
    """The error for hidden updates that would be rounded with their noise in them."""
    return invalid_value(
        f"quantization = {options.sending.bits} with secure_aggregation is not possible under a"
        " privacy_budget",
        detail="The sum of what nodes round is no function of their noised sum: what rounding leaves of"
        " each node's share of the noise would be in it. Noise would have to be drawn on the coarse"
        " lattice.",
        hint="Give the model quantization = 32, or train without secure_aggregation.",
    )


def describe_rule(options: TrainingOptions, most_nodes: int) -> list[str]:
    """Say where a rule against hostile nodes withstands none, since a round has too few updates for one, and
    where groups withstand no loss."""
    settings: Any = options.settings(STRATEGIES.entry(options.aggregation).settings)
    said = describe_groups(options, most_nodes)
    if not isinstance(settings, HostileNodes) or settings.byzantine_nodes is not None:
        return said
    groups = groups_of(settings)
    if settings.hostile(most_nodes if groups is None else groups):
        return said
    there = f"a round has at most {most_nodes}" if groups is None else f"there are {groups} groups"
    return [
        f"aggregation {options.aggregation} withstands no hostile node: for one it needs"
        f" {counted(settings.nodes_for(1), 'update')}, and {there}",
        *said,
    ]


def _check_sums(options: TrainingOptions) -> None:
    """Raise FederatedError INVALID_VALUE for a rule other than fedavg where nothing is combined."""
    if options.aggregation == "fedavg" or not adds_up(options.algorithm, options.given):
        return
    newton = by_newton(options.algorithm, options.given)
    where = "under optimizer newton" if newton else f"on {options.algorithm}"
    raise invalid_value(
        f"aggregation {options.aggregation} has no effect {where}, which adds sums up",
        hint="Leave it out" + (", or train with optimizer = 'sgd'." if newton else "."),
    )


def _check_sending(options: TrainingOptions, settings: object) -> None:
    """Raise FederatedError INVALID_VALUE where less than all of an update is to be sent, and there is none,
    or who combines them needs more."""
    check_sparsification(options.given)
    asked, needs = options.sending, needs_of(settings)
    if not asked.sparsifies and asked.quantization is None:
        return
    fewer = "top_k" if asked.top_k is not None else "gradient_sparsification"
    option = fewer if asked.sparsifies else "quantization"
    if adds_up(options.algorithm, options.given):
        raise invalid_value(
            f"{option} has no effect on {_adding_up(options)}, which adds sums up exactly",
            hint="Leave it out; compression makes sums smaller too, and loses nothing.",
        )
    if options.protocol != PLAIN:
        _check_hidden(options, option)
    if asked.sparsifies and needs != "sum":
        raise invalid_value(
            f"aggregation {options.aggregation} must see whole updates, and {option} sends a part of each",
            hint="Leave it out, or choose an aggregation that adds updates up, such as fedavg.",
        )
    if asked.bits is not None and needs == "exact":
        raise invalid_value(
            f"aggregation {options.aggregation} needs values that are not rounded, and quantization is"
            f" {asked.bits}",
            hint="Give the model quantization = 32, or choose another aggregation.",
        )


def _check_hidden(options: TrainingOptions, option: str) -> None:
    """Raise FederatedError INVALID_VALUE where less is to be sent of hidden updates than can be added up: of
    each other values, or values rounded to a lattice whose range nobody has said."""
    asked = options.sending
    if asked.sparsifies:
        raise invalid_value(
            f"{option} is not possible where {options.protocol} hides updates, which it adds up value by"
            " value",
            hint="Leave it out. quantization = 16 or 8 with max_update_norm sends hidden updates in fewer"
            " bits.",
        )
    if asked.bits is None:
        return
    chosen: Any = options.settings(PROTOCOLS.entry(options.protocol).settings)
    if not isinstance(chosen, ShamirSettings):
        raise not_supported(f"aggregation_protocol {options.protocol} adds up no rounded updates")
    if options.max_update_norm is None:
        raise invalid_value(
            f"quantization = {asked.bits} with secure_aggregation needs max_update_norm",
            detail="All nodes round to one lattice, whose range nothing that a node computed may decide.",
            hint="Set max_update_norm: each node cuts its update to that length. Or give the model"
            " quantization = 32.",
        )


def describe_coding(options: TrainingOptions) -> list[str]:
    """Say where compression has nothing to make smaller."""
    if options.protocol == PLAIN or options.codec == "none":
        return []
    return [
        f"compression {options.codec} makes hidden updates no smaller: behind their masks they are random"
        " numbers; quantization = 16 or 8 with max_update_norm does"
    ]


def _check_secrecy(options: TrainingOptions, settings: object, most_nodes: int | None) -> None:
    """Raise FederatedError INVALID_VALUE where single updates would have to be seen that are hidden, or so
    many nodes have no sum that hides each of them."""
    if options.protocol == PLAIN:
        return
    if needs_of(settings) == "whole" and groups_of(settings) is None:
        raise _single_updates(options, settings)
    if options.max_update_norm is not None and not options.rounds_hidden:
        raise invalid_value(
            "max_update_norm cannot be held where secure_aggregation hides single updates",
            hint="Leave max_update_norm out, or train without secure_aggregation. With quantization = 16 or 8"
            " each node cuts its own update to it.",
        )
    if isinstance(settings, MeanSettings) and not settings.weighted_aggregation:
        raise not_supported("weighted_aggregation = false with secure_aggregation, which weighs by rows,")
    chosen: Any = options.settings(PROTOCOLS.entry(options.protocol).settings)
    if not isinstance(chosen, ShamirSettings) or most_nodes is None:
        return
    if most_nodes < LEAST_NODES:
        raise invalid_value(
            f"secure_aggregation needs {LEAST_NODES} nodes, and a round has at most {most_nodes}",
            detail="Of two nodes each knows the other's update once it knows the sum.",
            hint="Register more nodes, or leave secure_aggregation out.",
        )
    threshold = chosen.threshold
    if threshold is not None and not most_nodes < 2 * threshold <= 2 * most_nodes:
        wrong = "more nodes than" if threshold > most_nodes else "not more than half of"
        raise invalid_value(
            f"threshold {threshold} is {wrong} the {most_nodes} that a round can have",
            detail="Fewer nodes than the threshold open no sum; where half of them may, there are two sums.",
            hint="Leave threshold out for two thirds.",
        )


def _single_updates(options: TrainingOptions, settings: object) -> FederatedError:
    """The error for a rule that is given no sums of groups, or can take none."""
    groups = f"robust_groups = {LEAST_GROUPS}: the rule is then given the means of so many groups of nodes"
    takes_groups = "robust_groups" in option_names(type(settings))
    return invalid_value(
        f"aggregation {options.aggregation} needs every single update, and secure_aggregation hides them",
        hint=(f"Give the model {groups}. Or choose" if takes_groups else "Choose")
        + " an aggregation that works on sums, such as fedavg, or leave secure_aggregation out.",
    )


def _adding_up(options: TrainingOptions) -> str:
    """Name what adds sums up."""
    return "optimizer newton" if by_newton(options.algorithm, options.given) else options.algorithm


def _check_adaptive(options: TrainingOptions, settings: object, *, private: bool) -> None:
    """Raise FederatedError where nodes cannot take a learning rate of their own."""
    if private:
        raise not_supported(
            "adaptive_learning is not supported under a privacy_budget yet",
            hint="It would follow what a node's rows say. Train in a workspace without a privacy_budget.",
        )
    if adds_up(options.algorithm, options.given):
        raise invalid_value(
            f"adaptive_learning has no effect on {_adding_up(options)}, which takes no local steps of a"
            " learning rate",
            hint="Leave it out, or train by descent.",
        )
    if isinstance(settings, ScaffoldSettings):
        raise invalid_value(
            f"aggregation {options.aggregation} corrects steps of one length; adaptive_learning changes it",
            hint="Leave adaptive_learning out, or choose another aggregation.",
        )
    if isinstance(settings, NovaSettings):
        # What an update's steps are worth follows from their number; a pace stays at its node.
        raise invalid_value(
            f"aggregation {options.aggregation} counts steps of one length; adaptive_learning changes it",
            hint="Leave adaptive_learning out, or choose another aggregation.",
        )


_NAMES_PROTOCOL = frozenset({"aggregation_protocol"})
"""Read where sums are secure, by no part: it says which one."""


def explain_unread(option: str, options: TrainingOptions) -> tuple[str, str]:
    """Say of an option that `unread_option` found who does not read it, and what to choose instead."""
    if option in _read_by(CODECS.entries()):
        return f"compression {options.codec} does not read it.", "choose another compression"
    if option in _read_by(PROTOCOLS.entries()) | _NAMES_PROTOCOL:
        return "It is of secure_aggregation, which is not chosen.", "set secure_aggregation = true"
    return (
        f"Neither {options.algorithm} nor {options.aggregation} reads it.",
        "choose another algorithm or aggregation",
    )


def unread_option(given: Iterable[str], *runs: TrainingOptions) -> str | None:
    """Return the first of the given options that some part reads, and none of those of these runs."""
    read = _read_by(registry.entry(name) for options in runs for registry, name in _chosen(options))
    known = _read_by(entry for registry in READ_FROM_OPTIONS for entry in registry.entries())
    known |= _NAMES_PROTOCOL
    if any(options.protocol != PLAIN for options in runs):
        read |= _NAMES_PROTOCOL
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
