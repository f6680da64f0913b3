"""What was found out about a START, as a plan: who, what, how much, and what it would cost.

What always holds: every figure is the catalog's or a forecast's; here they only get their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from federated_sql.compliance import allows_site_plain_answers, rules_of
from federated_sql.errors import FederatedError
from heliosdb.catalog.explaining import Measured, Standing, Traffic
from heliosdb.domain.datasets import kind_of
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.forecast import Cost, Forecast, Release
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.wording import counted
from heliosdb.extension.plan_tree import Group, Listed, Part, Property
from heliosdb.extension.starting import Start
from heliosdb.parts.algorithms import extra_of
from heliosdb.parts.protocols import LEAST_NODES, PLAIN, SHAMIR, least_of_group
from heliosdb.parts.selections import count_chosen

_USUAL_SHARE = 1.0 / 3.0
"""Of parameters to rows: more a node's dataset refuses, unless its DBA has set max_parameter_share."""
_USUAL_ROWS = 20
"""The default of a dataset's min_rows."""


@dataclass(frozen=True, slots=True)
class Node:
    """A registered node. shares: the dataset that it would answer from; unfit: why it has none. spent: ε of
    its line in the workspace's ledger, None without a budget."""

    standing: Standing
    shares: DatasetDescription | None
    unfit: str | None
    spent: float | None = None

    @property
    def obstacle(self) -> str | None:
        """Say why it cannot take part as it stands; None where it can, or nobody knows."""
        if self.standing.is_expired:
            return "its certificate has expired"
        if self.standing.status == "failed":
            return self.standing.failure_reason or "the coordinator does not reach it"
        return self.unfit

    @property
    def doubt(self) -> str | None:
        """Say why it is not known whether it can."""
        if self.standing.status == "pending":
            return "the coordinator has not met it yet"
        if self.standing.status == "slow":
            return f"it misses heartbeats ({self.standing.failure_reason})"
        return None if self.shares is not None else "what it shares is not known yet"

    @property
    def takes_part(self) -> bool:
        """Whether it is reckoned with."""
        return self.obstacle is None and self.shares is not None


@dataclass(frozen=True, slots=True)
class Explained:
    """What a plan is made of. refusals: what START would raise; remarks: what it would say. runs: how many
    it would queue. beginning: the version that they would begin with; None for none, and where that is
    refused. forecast: None where there is an obstacle to it. consumed: ε of the workspace's ledger."""

    start: Start
    runs: int
    refusals: Sequence[FederatedError]
    remarks: Sequence[str]
    nodes: Sequence[Node]
    forecast: Forecast | None
    obstacle: str | None
    measured: Measured
    traffic: Traffic | None
    consumed: float
    beginning: str | None = None


def make_plan(explained: Explained) -> Group:
    """Return the plan of a START."""
    start, refused = explained.start, bool(explained.refusals)
    parts: list[Part] = [
        Property("Workspace", start.model.workspace.name),
        Property("Start", "would be refused" if refused else "would queue " + _runs(explained.runs)),
        Listed("Refusals", tuple(map(_refusal, explained.refusals))),
        Listed("Remarks", tuple(Group("Remark", one) for one in explained.remarks)),
        *_method(explained),
        _nodes(explained),
        *_work(explained),
        _privacy(explained),
        _protection(explained),
        _time(explained),
    ]
    return Group("Federated Training", start.model.name, tuple(parts))


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs, one after another"


def _refusal(error: FederatedError) -> Group:
    further = (("Detail", error.detail), ("Hint", error.hint))
    told = tuple(Property(name, text) for name, text in further if text is not None)
    return Group("Refused", f"{error.message} ({error.sqlstate})", told)


def _method(explained: Explained) -> Iterator[Part]:
    chosen = explained.start.chosen
    name = chosen.get("algorithm")
    yield Property("Algorithm", name)
    yield Property("Engine", _engine(name))
    if any(_shares_files(explained.start, node) for node in explained.nodes):
        yield Property("Images", 'files, decoded by the extra "images" of each node')
    yield Property("Aggregation", chosen.get("aggregation") or "fedavg")
    if (way := chosen.get("personalization") or "none") != "none":
        yield Property(
            "Personalization",
            f"{way}: at the end one more exchange, in which each node of the last round makes a part of"
            " its own",
        )
    if chosen.get("transfer_from"):
        yield Property("Begins With", explained.beginning or chosen["transfer_from"])


def _shares_files(start: Start, node: Node) -> bool:
    """Whether the dataset from which a node would answer has images as files."""
    columns = start.chosen.get("features") or ()
    found = [] if node.shares is None else [kind_of(node.shares.type_of(name)) for name in columns]
    return ColumnKind.IMAGE in found


def _answers(start: Start) -> int:
    """Return how many updates close a round."""
    policy, chosen = start.policy, start.chosen
    if policy["async_aggregation"]:
        return int(policy["aggregation_batch_size"])
    needed = int(policy.get("min_nodes_per_round") or policy["min_nodes"])
    return needed if _protocol(chosen) == PLAIN else max(needed, LEAST_NODES, chosen.get("threshold") or 0)


def _needed(start: Start) -> int:
    """Return how many nodes a run waits for before its first round."""
    groups = start.chosen.get("robust_groups") or 0
    return max(int(start.policy["min_nodes"]), groups * least_of_group(_protocol(start.chosen)))


def _protocol(chosen: Mapping[str, Any]) -> str:
    return str(chosen.get("aggregation_protocol") or SHAMIR) if chosen.get("secure_aggregation") else PLAIN


def _engine(algorithm: str | None) -> str | None:
    if algorithm is None:
        return None
    extra = extra_of(algorithm)
    return "numpy" if extra is None else f'PyTorch, the extra "{extra}" of each node'


def _nodes(explained: Explained) -> Group:
    policy, nodes = explained.start.policy, explained.nodes
    able = [node for node in nodes if node.takes_part]
    chosen, needed = explained.start.chosen, _needed(explained.start)
    votes = int(chosen.get("voting_groups") or 1)
    of_each = f" of each of {votes} groups" if votes > 1 else ""
    title = f"{len(able)} of {len(nodes)} can take part, {needed}{of_each} needed"
    # Groups that vote train one after another: a round asks those of one.
    asked = count_chosen(policy["node_selection"], -(-len(able) // votes))
    asynchronous = policy["async_aggregation"]
    limits = "at most, of one group" if votes > 1 else "at most" if asynchronous else ""
    return Group(
        "Nodes",
        title,
        (
            Property("Able", len(able)),
            Property("Registered", len(nodes)),
            Property("Needed", needed, of_each.strip()),
            Property("Selection", policy["node_selection"]),
            Property("Asked a Round", asked, limits),
            Property("Answers a Round Needs", _answers(explained.start)),
            *([Property("Rounds", "asynchronous")] if asynchronous else []),
            *_groups(chosen.get("robust_groups"), asked),
            Listed("Members", tuple(map(_node, nodes))),
        ),
    )


def _groups(groups: int | None, nodes: int) -> Iterator[Part]:
    if groups is None:
        return
    least, most = nodes // groups, -(-nodes // groups)
    sizes = counted(least, "node") if least == most else f"{least} or {counted(most, 'node')}"
    yield Property("Groups", groups, f"of {sizes}, drawn once round 0 is done")


def _node(node: Node) -> Group:
    obstacle, doubt = node.obstacle, node.doubt
    can = "cannot" if obstacle is not None else "unknown" if doubt is not None else "can take part"
    shares = node.shares
    dataset = None if shares is None else shares.name
    return Group(
        "Node",
        node.standing.name,
        (
            Property("Takes Part", can),
            *([] if obstacle is None and doubt is None else [Property("Reason", obstacle or doubt)]),
            Property("Status", node.standing.status),
            Property("Dataset", dataset),
            Property("Rows", node.standing.rows),
            *([] if node.spent is None else [Property("Epsilon Spent", node.spent)]),
        ),
    )


def _work(explained: Explained) -> Iterator[Part]:
    forecast, traffic = explained.forecast, explained.traffic
    if forecast is None:
        yield Group("Rounds", f"unknown: {explained.obstacle}")
        return
    each = forecast.messages
    yield Group(
        "Rounds",
        f"preparation and at most {counted(forecast.rounds, 'training round')}",
        (
            Property("Training Rounds", forecast.rounds),
            Property("Preparation", forecast.preparing),
            Property(
                "Exchanges in Preparation", each * len(forecast.preparing), _more(forecast.asks_further)
            ),
            Property("Training Round", forecast.training),
            Property("Exchanges in a Training Round", each * len(forecast.training), _more(forecast.further)),
            Property("Rounds with an Evaluation", forecast.evaluations),
            Property("Report of the Published Model", forecast.reports),
            Property("Inputs", forecast.inputs),
            Property("Parameters", forecast.parameters),
            Property("Estimated Bytes Down", forecast.bytes_down, "a node and training exchange"),
            Property("Estimated Bytes Up", forecast.bytes_up, "a node and training exchange"),
            *_traffic(traffic),
        ),
    )


def _more(further: bool) -> str:
    return "or more" if further else ""


def _traffic(traffic: Traffic | None) -> Iterator[Part]:
    if traffic is None:
        return
    yield Property("Measured Exchanges", round(traffic.exchanges), "a node and training round, so far")
    yield Property("Measured Bytes Down", round(traffic.bytes_down), "a node and training round, so far")
    yield Property("Measured Bytes Up", round(traffic.bytes_up), "a node and training round, so far")


def _privacy(explained: Explained) -> Group:
    policy = explained.start.policy
    total, consumed = policy.get("privacy_budget"), explained.consumed
    if total is None:
        return Group("Privacy", "no budget: answers leave without noise", _disclosure(explained))
    cost = None if explained.forecast is None else explained.forecast.cost
    return Group(
        "Privacy",
        f"budget {total:g} at delta {policy['delta']:g}",
        (
            Property("Budget Epsilon", float(total)),
            Property("Delta", float(policy["delta"])),
            Property("Consumed Epsilon", consumed),
            Property("Remaining Epsilon", max(total - consumed, 0.0)),
            Property("Clipping Threshold", float(policy["clipping_threshold"])),
            *([Property("Adaptive Clipping", True)] if policy["adaptive_clipping"] else []),
            *_cost(cost, total),
            Property(
                "Ceilings of the Nodes",
                "each node holds the run to its max_epsilon, or to the budget of its first private answer,"
                " which only the node knows",
            ),
        ),
    )


def _cost(cost: Cost | None, total: float) -> Iterator[Part]:
    if cost is None:
        return
    yield Property("Epsilon after the Run", cost.reached)
    if cost.reached is not None:
        yield Property("Epsilon of the Run", max(cost.reached - cost.spent, 0.0))
        yield Property("Fits the Budget", cost.reached <= total)
    ends = None if cost.refused is None else cost.refused.text
    for name, text in (("Unknown", cost.missing), ("Ends at Once", ends), ("Note", cost.note)):
        if text is not None:
            yield Property(name, text)
    yield Listed("Releases", tuple(map(_release, cost.releases)))


def _release(release: Release) -> Group:
    when = "in preparation" if release.is_preparation else counted(release.times, "time")
    return Group(
        "Release",
        f"{release.step}, {when}",
        (
            Property("Times", release.times),
            Property("Noise", release.noise),
            Property("Noise Multiplier", release.noise_multiplier),
            Property("Sampling Rate", release.sampling_rate),
            Property("Steps", release.steps),
            Property("Epsilon Alone", release.epsilon),
        ),
    )


def _disclosure(explained: Explained) -> tuple[Part, ...]:
    """What nodes hold plain answers to, as far as it shows here: their datasets' own options do not."""
    forecast = explained.forecast
    parameters = None if forecast is None else forecast.parameters
    mode = str(explained.start.policy.get("compliance_mode") or "none")
    reasons = [_refuses(node, parameters, mode) for node in explained.nodes]
    by_site = [node.standing.name for node in explained.nodes if _asks_site(node, mode)]
    return (
        Property(
            "Rules of the Nodes",
            "smallest cell, dominance, parameters to rows, difference from earlier answers: with each"
            " dataset's own limits, which only its node knows",
        ),
        Property("Would Refuse by Default", tuple(one for one in reasons if one is not None)),
        *([Property("As Their Sites Allow", tuple(by_site))] if by_site else []),
    )


def _asks_site(node: Node, mode: str) -> bool:
    """Whether its dataset leaves plain answers to the site's plain_answers, which only the node knows."""
    if not node.takes_part or node.shares is None:
        return False
    return not node.shares.plain_answers and allows_site_plain_answers(mode)


def _refuses(node: Node, parameters: int | None, mode: str) -> str | None:
    name, rows = node.standing.name, node.standing.rows
    if not node.takes_part or node.shares is None:
        return None
    if not node.shares.plain_answers and not allows_site_plain_answers(mode):
        return f"{name} (dataset {node.shares.name} itself does not allow plain answers)"
    if rows is not None and rows < _USUAL_ROWS:
        return f"{name} ({counted(rows, 'row')}, fewer than min_rows)"
    if rows is not None and parameters is not None and parameters > _USUAL_SHARE * rows:
        return f"{name} ({counted(parameters, 'parameter')} to {counted(rows, 'row')})"
    return None


def _protection(explained: Explained) -> Group:
    policy, chosen = explained.start.policy, explained.start.chosen
    mode = str(policy.get("compliance_mode") or "none")
    return Group(
        "Protection",
        f"compliance mode {mode}",
        (
            Property("Compliance Mode", mode),
            Property("Held by It", tuple(rule.name for rule in rules_of(mode))),
            Property("Aggregation Rule", _rule(chosen)),
            Property("Sum Protocol", _sums(_protocol(chosen), chosen.get("robust_groups"))),
            Property("Noise", _noise(policy, _protocol(chosen), chosen.get("robust_groups"))),
            Property(
                "Encryption",
                f"{policy.get('encryption') or 'AES-256-GCM'} from each node to the coordinator, and at rest:"
                " hides updates and parameters from network, database and backups, not from the coordinator",
            ),
            Property("Data Residency", policy.get("data_residency") or "anywhere"),
            Property("Consent", _consent(mode)),
        ),
    )


def _rule(chosen: Mapping[str, object]) -> str:
    groups = chosen.get("robust_groups")
    what = "the nodes' updates" if groups is None else f"the means of {groups} groups of the nodes' updates"
    return f"{chosen.get('aggregation') or 'fedavg'}: combines {what} at the coordinator"


def _sums(protocol: str, groups: int | None) -> str:
    if protocol == PLAIN:
        return "plain: the coordinator sees each node's update; nodes see none of each other's"
    of_which = "the updates" if groups is None else f"each of {groups} groups' updates"
    return f"{protocol}: the coordinator sees the sum of {of_which}, and none of them by itself"


def _noise(policy: Mapping[str, object], protocol: str, groups: int | None) -> str:
    if policy.get("privacy_budget") is None:
        return "none: what single rows did to an update is not hidden from the coordinator"
    trust = policy.get("trust_model") or "distributed"
    if protocol != PLAIN and trust == "central":
        return (
            "the coordinator's, to the sum: hides single data subjects from everybody but the coordinator,"
            " which sees the sum of several nodes without noise; of nodes that allow it (central_noise)"
        )
    if protocol != PLAIN and trust == "distributed":
        shared = (
            "each node's share, before an answer leaves: the sum hides single data subjects from the"
            " coordinator, while no more nodes work with it than each counts on (curious_peers)"
        )
        # Where a DBA says nothing, these are fewer than a third of all: as many as the others of a group.
        whole = (
            "; unless its DBA counts on fewer than all others of its group, each node adds all of the noise"
            " of that group's sum"
        )
        return shared if groups is None else shared + whole
    return "each node's own, before an answer leaves: hides single data subjects from the coordinator too"


def _consent(mode: str) -> str:
    asked = any(rule.name == "require_consent" for rule in rules_of(mode))
    default = "consenting subjects alone, unless a dataset's DBA has set require_consent = false"
    return default if asked else "as each dataset's own require_consent says, which only its node knows"


def _time(explained: Explained) -> Group:
    measured, forecast = explained.measured, explained.forecast
    if measured.seconds is None or forecast is None:
        why = "no round has been closed yet" if measured.seconds is None else explained.obstacle
        return Group("Time", f"unknown: {why}", (Property("Expected Seconds", None),))
    one = measured.seconds * forecast.rounds + (measured.preparation or 0.0)
    whose = "this model's" if measured.of_model else "the workspace's"
    return Group(
        "Time",
        f"about {counted(round(one * explained.runs), 'second')}",
        (
            Property("Expected Seconds", round(one * explained.runs, 3)),
            Property("Median Seconds a Round", round(measured.seconds, 3)),
            Property("Measured Rounds", f"{counted(measured.rounds, 'past training round')} of {whose}"),
        ),
    )
