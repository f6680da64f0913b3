"""`heliosdb status`: what goes on at a coordinator, as tables that follow it, once as text, or as JSON.

What always holds: it only reads, with the caller's own rights; what the role may not read is named, and not
shown as nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from heliosdb.catalog.overview import RUNNING, Node, Overview, RunOverview, read_overview
from heliosdb.cli.people import reading
from heliosdb.cli.tables import cell, section
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.wording import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

_LATEST = 15
_SOON_DAYS = 30

_GOOD = frozenset({"active", "ready", "training", "running", "converged", "completed"})
_BAD = frozenset({"failed", "diverged", "budget_exhausted"})


@dataclass(frozen=True, slots=True)
class _Part:
    """A table of the page. rows None: the role may not read it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]] | None


def print_once(dsn: str, show: Callable[[str], None], *, as_json: bool) -> None:
    """Show it once; FederatedError where the catalog cannot be read at all."""
    with reading(dsn, "heliosdb status") as connection:
        overview = read_overview(connection, latest=_LATEST)
    if as_json:
        show(json.dumps(asdict(overview), default=_json_value))
        return
    for line in plain_lines(overview):
        show(line)


def follow(dsn: str, interval: float) -> None:
    """Follow it on the terminal until Ctrl-C; a database that goes away meanwhile is waited for.

    FederatedError where the catalog cannot be read at first.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with reading(dsn, "heliosdb status") as connection:
        shown = read_overview(connection, latest=_LATEST)
    with Live(Group(*_tables(shown)), console=console, auto_refresh=False, transient=False) as live:
        try:
            while True:
                note = f"{datetime.now(UTC):%H:%M:%S} UTC, every {interval:g} s; Ctrl-C ends"
                try:
                    with reading(dsn, "heliosdb status") as connection:
                        shown = read_overview(connection, latest=_LATEST)
                except FederatedError as error:
                    note = f"{error.message}; tried again every {interval:g} s"
                # First: what has no room on the screen is cut off below.
                live.update(Group(Text(note, style="dim"), *_tables(shown)), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            return


def plain_lines(overview: Overview) -> Iterator[str]:
    """The page as lines of text."""
    for part in _parts(overview):
        if part.rows is None:
            yield ""
            yield part.title
            yield "  not shown: the role may not read it (GRANT federated_analyst or federated_auditor)"
        else:
            yield from section(part.title, part.heads, part.rows)


def _parts(overview: Overview) -> Iterator[_Part]:
    workspaces, budgets = overview.workspaces, overview.budgets
    yield _Part(
        "Workspaces",
        ("workspace", "state", "active nodes", "registered", "needed"),
        None
        if workspaces is None
        else [
            (one.workspace_name, one.status, one.active_nodes, one.registered_nodes, one.min_nodes_required)
            for one in workspaces
        ],
    )
    yield _Part(
        "Nodes",
        ("workspace", "node", "state", "last seen (UTC)", "certificate", "rounds", "rows", "why"),
        None if overview.nodes is None else list(map(_node, overview.nodes)),
    )
    yield _Part(
        f"Last {_LATEST} runs",
        ("workspace", "model", "run", "state", "round", "loss", "accuracy", "ε", "queued (UTC)", "message"),
        None if overview.runs is None else list(map(_run, overview.runs)),
    )
    yield _Part(
        "Privacy budgets",
        ("workspace", "spent ε", "of", "left", "rounds left", "δ"),
        None
        if budgets is None
        else [
            (
                one.workspace_name,
                _figure(one.consumed_epsilon),
                _figure(one.total_budget_epsilon),
                _figure(one.remaining_epsilon),
                one.estimated_remaining_rounds,
                f"{one.delta:g}",
            )
            for one in budgets
        ],
    )


def _node(one: Node) -> tuple[object, ...]:
    days = one.certificate_days
    certificate = None if days is None else "expired" if days < 0 else counted(days, "day")
    if days is not None and 0 <= days < _SOON_DAYS:
        certificate = f"{counted(days, 'day')}!"
    return (
        one.workspace,
        one.node_name,
        one.status,
        _time(one.last_seen),
        certificate,
        one.rounds_participated,
        one.dataset_size,
        one.failure_reason,
    )


def _run(one: RunOverview) -> tuple[object, ...]:
    return (
        one.workspace_name,
        one.model_name,
        one.run,
        one.status,
        one.round_number,
        _figure(one.global_loss),
        _figure(one.global_accuracy),
        _figure(one.epsilon),
        _time(one.queued_at),
        one.message,
    )


def _tables(overview: Overview) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    shown: list[RenderableType] = []
    for part in _parts(overview):
        table = Table(title=part.title, title_justify="left", title_style="bold", expand=False)
        for head in part.heads:
            table.add_column(head)
        if part.rows is None:
            shown += [
                Text(part.title, style="bold"),
                Text("not shown: the role may not read it", style="dim"),
            ]
            continue
        for row in part.rows:
            # As Text: what stands in brackets in a message is no markup.
            table.add_row(*(Text(cell(value, cut=True), style=_style(value)) for value in row))
        shown.append(table)
    return shown


def _style(value: object) -> str:
    if value in _GOOD:
        return "green"
    if value in _BAD or value == "expired":
        return "red"
    if value in RUNNING or value in ("slow", "pending", "waiting") or str(value).endswith(" days!"):
        return "yellow"
    return ""


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _json_value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
