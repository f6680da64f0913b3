"""What a simulation shows: a line for each round as it closes, then one table; or one JSON document.

What always holds: a figure is as the run's evaluation found it, noise included; those of single nodes are
without noise, and say so. Names from the data are shown without control characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heliosdb.cli.simulation.play import Outcome, PlayedRound
from heliosdb.cli.tables import clean
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import NodeName
from heliosdb.domain.wording import counted

_SHOWN_LOSSES = 5
_SPREAD = (("loss", "loss"), ("accuracy", "accuracy"), ("rmse", "RMSE"))


@dataclass(frozen=True, slots=True)
class Dealt:
    """What was dealt. sizes: rows by node; values: of the split's column, by node, where it has one."""

    table: str
    split: str
    seed: int
    sizes: Mapping[NodeName, int]
    values: Mapping[NodeName, str]


def head_line(dealt: Dealt, algorithm: str, aggregation: str) -> str:
    """Say what is about to be simulated."""
    rows = list(dealt.sizes.values())
    spread = f"{min(rows)} to {max(rows)}, median {float(np.median(rows)):g}"
    return (
        f"{counted(len(rows), 'node')} of {clean(dealt.table)}, {counted(sum(rows), 'row')},"
        f" split {dealt.split}: {spread} rows a node; {algorithm} by {aggregation}"
    )


def round_line(one: PlayedRound) -> str:
    """Say how a round went."""
    parts = [f"{counted(one.nodes, 'node')}" + (f", {one.lost} lost" if one.lost else "")]
    if one.number == 0:
        parts.append("statistics")
    elif one.figures is None or one.figures.loss is None:
        parts.append("trained")
    else:
        parts += _figures(one.figures)
    if one.epsilon is not None:
        parts.append(f"ε {one.epsilon:.4g}")
    notes = "".join(f"; {clean(note)}" for note in one.notes)
    return f"round {one.number:>3}: {', '.join(parts)} ({one.seconds:.2f} s){notes}"


def _figures(found: Figures) -> list[str]:
    named = (("loss", found.loss), ("accuracy", found.accuracy), ("RMSE", found.rmse))
    return [f"{name} {value:.4f}" for name, value in named if value is not None]


def final_lines(outcome: Outcome, dealt: Dealt) -> list[str]:
    """Say how the run ended, what its model is worth, and how that differs from node to node."""
    lines = ["", f"{outcome.status}: {outcome.message}"]
    final = outcome.final
    if final is None:
        return lines + _losses(outcome)
    lines.append(f"model of round {final.number}:")
    table: list[tuple[str, ...]] = [
        ("", "global", "least", "lower quarter", "median", "upper quarter", "most")
    ]
    for name, shown in _SPREAD:
        overall = None if final.figures is None else getattr(final.figures, name)
        values = [one for each in outcome.measured.values() if (one := getattr(each, name)) is not None]
        if overall is not None or values:
            table.append((shown, _number(overall), *map(_number, _quarters(values))))
    sizes = [float(dealt.sizes[node]) for node in sorted(outcome.members)]
    table.append(("rows", f"{sum(sizes):g}", *(f"{one:g}" for one in _quarters(sizes))))
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    for row in table:
        lines.append("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    if outcome.measured:
        lines.append(
            "  global: over all nodes' held-out rows, as the run found it; the rest: of"
            f" {counted(len(outcome.measured), 'node')}, each on its own held-out rows, without noise"
        )
    return lines + _losses(outcome)


def _quarters(values: Sequence[float]) -> list[float | None]:
    if not values:
        return [None] * 5
    return [float(one) for one in np.quantile(np.array(values), (0.0, 0.25, 0.5, 0.75, 1.0))]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _losses(outcome: Outcome) -> list[str]:
    reasons = Counter(outcome.lost.values()).most_common()
    lines = [f"lost {counted(count, 'node')}: {clean(why)}" for why, count in reasons[:_SHOWN_LOSSES]]
    further = sum(count for _, count in reasons[_SHOWN_LOSSES:])
    return [
        *lines,
        *([f"lost {counted(further, 'more node')} for other reasons: --json names all"] if further else []),
    ]


def to_json(outcome: Outcome, dealt: Dealt) -> dict[str, Any]:
    """The same as one document."""
    return {
        "table": dealt.table,
        "split": dealt.split,
        "seed": dealt.seed,
        "status": outcome.status.value,
        "message": outcome.message,
        "published_round": outcome.published,
        "rounds": [
            {
                "round": one.number,
                "nodes": one.nodes,
                "lost": one.lost,
                "epsilon": one.epsilon,
                "seconds": one.seconds,
                "notes": list(one.notes),
                **_shown(one.figures),
            }
            for one in outcome.rounds
        ],
        "nodes": [
            {
                "name": node,
                "rows": rows,
                "value": dealt.values.get(node),
                "took_part": node in outcome.members,
                "lost": outcome.lost.get(node),
                **_shown(outcome.measured.get(node)),
            }
            for node, rows in sorted(dealt.sizes.items())
        ],
    }


def _shown(found: Figures | None) -> dict[str, float | None]:
    names = ("loss", "accuracy", "rmse", "precision", "recall", "f1_score")
    values: Mapping[str, float | None] = {} if found is None else asdict(found)
    return {name: values.get(name) for name in names}


Show = Callable[[str], None]
