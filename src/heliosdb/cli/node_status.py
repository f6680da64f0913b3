"""`heliosdb node status`: one page of what a participant sees of its own part.

What always holds: it only reads, as the daemon's role; figures are those of the views; text from the other
side is shown without control characters, and no setting's value but an address is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from heliosdb.catalog.participant_view import (
    DatasetBudget,
    DayOfReleases,
    NodeHead,
    NodeOrder,
    NodeRun,
    ParticipantView,
    Refusal,
    read_participant_view,
)
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.cli.tables import clean, section
from heliosdb.domain.disclosure_rules import NO_FLOORS, RULES, DisclosureRules
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.limits import Limits
from heliosdb.liveness.answering import ask
from heliosdb.node.config import NodeConfig, load_config
from heliosdb.node.confinement import foresee

_LATEST = 10
_DAYS = 7
_SUBSCRIPTION = (
    "subscription_name",
    "workspace",
    "model_name",
    "version",
    "available_version",
    "lag",
    "state",
    "message",
)


def show_status(config: Path, timeout: float) -> str:
    """The page, with newlines between its lines; FederatedError UNREACHABLE, PRIVILEGE or WRONG_STATE where
    the database cannot be read. timeout: seconds that the daemon, and a connection, may take.
    """
    settings = load_config(config)
    view = _read(settings.database.get_secret_value(), timeout)
    daemon = _ask_daemon(settings.health_socket, timeout)
    first, *rest = render(view, daemon, settings.floors)
    confinement = foresee(settings.confinement, has_workers=settings.engine_place is not None)
    return "\n".join(
        (
            first,
            f"Limits: {_limits(settings.limits)}",
            f"Secure sums: {_sums(settings)}",
            f"The training process is left: {confinement}",
            *rest,
        )
    )


def _limits(limits: Limits) -> str:
    """What a computation may take here, whatever a workspace asks for."""
    speed = limits.max_bandwidth_mbps
    said = (
        f"{limits.max_memory_gb:g} GB of memory",
        f"{limits.max_cpu_cores} core{'' if limits.max_cpu_cores == 1 else 's'}",
        "no limit of bandwidth" if speed is None else f"{speed:g} Mbit/s",
        f"{limits.task_limit_seconds:g} s a task",
    )
    return ", ".join(said)


def _sums(settings: NodeConfig) -> str:
    """On which terms it takes part in secure sums: its own settings, else what holds without them."""
    if settings.peers is None:
        return "none: the setting peers is missing"
    curious, least = settings.curious_peers, settings.least_threshold
    said = (
        f"curious_peers {'fewer than a third of all' if curious is None else curious}",
        f"least_threshold {'as the protocol has it' if least is None else least}",
        f"distributed_noise {str(settings.distributed_noise).lower()}",
        f"central_noise {str(settings.central_noise).lower()}",
    )
    return ", ".join(said)


def _ask_daemon(health_socket: Path | None, timeout: float) -> str:
    if health_socket is None:
        return 'not asked: the setting "health_socket" is missing'
    try:
        state = ask(health_socket, timeout)
    except (OSError, ValueError) as error:
        return f"does not answer ({getattr(error, 'strerror', None) or error})"
    return state.words if state.well else f"not well: {state.words}"


def _read(conninfo: str, timeout: float) -> ParticipantView:
    try:
        # libpq takes whole seconds, and fewer than two for two.
        limited = psycopg.conninfo.make_conninfo(conninfo, connect_timeout=max(2, round(timeout)))
        with connected(limited, application_name="heliosdb node status") as connection:
            view = read_participant_view(connection, latest=_LATEST, days=_DAYS)
    except psycopg.OperationalError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FederatedError(
            ErrorCode.UNREACHABLE, "the node's database cannot be reached", detail=reason
        ) from error
    except psycopg.Error as error:
        raise _unreadable(error) from error
    if view is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "the extension heliosdb_federated_learning is not in the node's database",
            hint="CREATE EXTENSION heliosdb_federated_learning there.",
        )
    return view


def _unreadable(error: psycopg.Error) -> FederatedError:
    reason = error.diag.message_primary or type(error).__name__
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        hint = "The setting database names a role that is a member of federated_daemon."
        return FederatedError(ErrorCode.PRIVILEGE, f"the node's catalog cannot be read: {reason}", hint=hint)
    hint = "Where it is of an older version: ALTER EXTENSION heliosdb_federated_learning UPDATE."
    return FederatedError(ErrorCode.WRONG_STATE, f"the node's catalog cannot be read: {reason}", hint=hint)


def render(view: ParticipantView, daemon: str, floors: Mapping[str, float] = NO_FLOORS) -> Iterator[str]:
    """The lines of the page. daemon: what there is to say of it. floors: the site's word about rules of
    answers without noise, by their names."""
    yield f"Daemon: {clean(daemon)}"
    datasets = [
        (one.name, "paused" if one.paused else "shared", one.workspace, one.relation, ", ".join(one.columns))
        for one in view.datasets
    ]
    yield from section("Datasets", ("dataset", "state", "workspace", "of", "columns"), datasets)
    rules = [(one.name, *_rules(one.rules.within(floors))) for one in view.datasets]
    yield from section("Rules of answers without noise, where any are given", ("dataset", *RULES), rules)
    yield from section(
        f"Last {_LATEST} runs",
        ("last task (UTC)", "workspace", "model", "dataset", "algorithm", "columns", "vectors", "charges"),
        map(_run, view.runs),
    )
    yield from section(
        "Privacy budgets, as the ledger has them",
        ("dataset", "workspace", "spent ε", "of all workspaces", "ceiling"),
        map(_budget, view.budgets),
    )
    yield from section(f"What left in the last {_DAYS} days", _RELEASES, map(_release, view.releases))
    yield from section(
        f"Last {_LATEST} refusals",
        ("last (UTC)", "times", "workspace", "step", "dataset", "why"),
        map(_refusal, view.refusals),
    )
    if view.orders is not None:
        yield from section(
            f"Last {_LATEST} orders about data subjects",
            ("carried out (UTC)", "workspace", "kind", "outcome", "rows", "order"),
            map(_order, view.orders),
        )
    if view.subscriptions is not None:
        yield from section("Subscriptions", _SUBSCRIPTION, map(_subscription, view.subscriptions))
    if view.heads is not None:
        yield from section(
            "Audit logs of workspaces, as this node has witnessed them",
            ("workspace", "entries", "signed (UTC)", "state", "heads refused", "root of their tree"),
            map(_head, view.heads),
        )


def _rules(rules: DisclosureRules) -> tuple[str, ...]:
    return tuple(f"{getattr(rules, name):.4g}" for name in RULES)


_RELEASES = (
    *("day (UTC)", "workspace", "dataset", "private", "plain", "messages", "bytes", "only charged", "failed"),
    "exports",
)


def _release(one: DayOfReleases) -> tuple[object, ...]:
    return (
        *(one.day, one.workspace, one.dataset, one.private_vectors, one.plain_vectors, one.messages),
        *(one.payload_bytes, one.only_charged, one.failed, one.exports),
    )


def _run(run: NodeRun) -> tuple[object, ...]:
    columns = None if run.target is None else f"{', '.join(run.columns)} → {run.target}"
    return (
        _time(run.last_task_at),
        run.workspace,
        run.model,
        run.dataset,
        run.algorithm,
        columns,
        run.vectors,
        run.charges,
    )


def _budget(budget: DatasetBudget) -> tuple[object, ...]:
    name = budget.dataset if budget.state == "shared" else f"{budget.dataset} ({budget.state})"
    ceiling = None
    if budget.max_epsilon is not None:
        ceiling = f"{budget.max_epsilon:g} (max_epsilon)"
    elif budget.agreed_epsilon is not None:
        ceiling = f"{budget.agreed_epsilon:g} (first agreed)"
    return name, budget.workspace, _figure(budget.epsilon), _figure(budget.total_epsilon), ceiling


def _refusal(refusal: Refusal) -> tuple[object, ...]:
    return (
        _time(refusal.last_at),
        refusal.count,
        refusal.workspace,
        refusal.step,
        refusal.dataset,
        refusal.message,
    )


def _order(order: NodeOrder) -> tuple[object, ...]:
    done = _time(order.received_at)
    return done, order.workspace, order.kind, order.outcome, order.rows, order.order_id


def _subscription(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(row.get(column) for column in _SUBSCRIPTION)


def _head(head: NodeHead) -> tuple[object, ...]:
    return (
        head.workspace,
        head.entries,
        _time(head.signed_at),
        head.state,
        head.conflicts,
        head.root_sha256,
    )


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _figure(epsilon: float | None) -> str | None:
    return None if epsilon is None else f"{epsilon:.6g}"
