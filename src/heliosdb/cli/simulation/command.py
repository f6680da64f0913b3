"""Carries `heliosdb simulate` out: read, deal, play, show.

What always holds: nothing is written but what is shown; a run that fails, as one does whose nodes all refuse,
is shown as that and told by the exit code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heliosdb.cli.simulation.nodes import SimulatedNode, describe_source
from heliosdb.cli.simulation.play import Outcome, Play
from heliosdb.cli.simulation.report import Dealt, Show, final_lines, head_line, round_line, to_json
from heliosdb.cli.simulation.settings import SimulationSettings, read_simulation
from heliosdb.cli.simulation.source import Source, read_csv, read_table
from heliosdb.cli.simulation.splits import Places, Split, deal, deal_by_value, node_names, read_split
from heliosdb.cli.tables import clean
from heliosdb.domain import contract
from heliosdb.domain.absence import Absence
from heliosdb.domain.contract import Eligibility, Offer
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import DatasetDescription, Introduction
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import RunStatus
from heliosdb.parts.algorithms import extra_of, has_classes
from heliosdb.parts.extras import installed_extras

MOST_NODES = 10_000
WELL = frozenset({RunStatus.CONVERGED, RunStatus.COMPLETED, RunStatus.BUDGET_EXHAUSTED})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed. nodes: None: as many as the split's column has values. table or csv: one of them.
    options: of the language, by name."""

    nodes: int | None
    split: str
    table: str | None
    csv: Path | None
    dsn: str
    options: Mapping[str, str]


def simulate(wanted: Wanted, show: Show, *, as_json: bool) -> bool:
    """Simulate, show it, and return whether the run ended well with a model; FederatedError for what cannot
    be simulated."""
    split = read_split(wanted.split)
    nodes = _count(wanted, split)
    settings = read_simulation(wanted.options, nodes or MOST_NODES)
    source = _read(wanted, split, settings)
    parts, values = _deal(source, split, settings, nodes)
    if nodes is None:
        # How many there are is known now.
        settings = read_simulation(wanted.options, len(parts))
    names = [NodeName(name) for name in node_names(len(parts))]
    sizes = {name: int(places.size) for name, places in zip(names, parts, strict=True)}
    named = dict(zip(names, values, strict=True)) if values else {}
    dealt = Dealt(source.name, wanted.split, settings.seed, sizes, named)
    options = settings.run.options
    if not as_json:
        show(head_line(dealt, options.algorithm, options.aggregation))
        for said in settings.said:
            show(f"NOTICE:  {said}")
    outcome = _play(source, dict(zip(names, parts, strict=True)), settings, show if not as_json else _quiet)
    if as_json:
        show(json.dumps(to_json(outcome, dealt)))
    else:
        for line in final_lines(outcome, dealt):
            show(line)
    return outcome.status in WELL and outcome.published is not None


def _quiet(line: str) -> None:
    del line


def _count(wanted: Wanted, split: Split) -> int | None:
    if split.column is not None:
        if wanted.nodes is not None:
            raise FederatedError(
                ErrorCode.INVALID_VALUE,
                f"--nodes and --split {wanted.split} exclude each other",
                hint="A split by a column has a node for each value.",
            )
        return None
    return wanted.nodes or 10


def _read(wanted: Wanted, split: Split, settings: SimulationSettings) -> Source:
    if (wanted.table is None) == (wanted.csv is None):
        raise FederatedError(ErrorCode.SYNTAX, "a simulation is of one table", hint="Add --table or --csv.")
    if wanted.csv is not None:
        return read_csv(wanted.csv, settings, split.column)
    assert wanted.table is not None
    return read_table(wanted.dsn, wanted.table, settings, split.column)


def _deal(
    source: Source, split: Split, settings: SimulationSettings, nodes: int | None
) -> tuple[list[Places], list[str]]:
    """Return the rows of each node and, of a split by a column, its value."""
    if not source.size:
        raise FederatedError(ErrorCode.WRONG_STATE, f"{clean(source.name)} has no rows")
    if nodes is not None:
        return deal(split, source.subjects, source.labels, nodes, settings.seed), []
    assert source.by is not None
    distinct, parts = deal_by_value(source.by)
    if distinct.size > MOST_NODES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f'column "{split.column}" has {distinct.size} values, more than {MOST_NODES} nodes',
        )
    known = source.values or {}
    return parts, [clean(known.get(int(one), "")) for one in distinct]


def _play(
    source: Source, parts: Mapping[NodeName, Places], settings: SimulationSettings, show: Show
) -> Outcome:
    dataset = describe_source(source, settings)
    there = {name: places for name, places in parts.items() if places.size}
    nodes = [
        SimulatedNode(name, source.slice(places), dataset, settings.seed) for name, places in there.items()
    ]
    eligible = select(list(there), dataset.description, settings)
    empty = [Absence(name, "it was dealt no row") for name in parts if name not in there]
    eligible = Eligibility(eligible.able, (*eligible.left_out, *empty), eligible.missing, eligible.undecided)
    return Play(settings.run, nodes, eligible, lambda one: show(round_line(one))).play()


def select(
    names: list[NodeName], description: DatasetDescription, settings: SimulationSettings
) -> Eligibility:
    """Return which of the nodes of these names can take part, all of which share one dataset."""
    options = settings.run.options
    introduction = Introduction((description,), installed_extras())
    offers = [Offer(name, None, introduction) for name in names]
    learns = has_classes(options.algorithm, options.given)
    return contract.select(offers, options, learns_classes=learns, extra=extra_of(options.algorithm))
