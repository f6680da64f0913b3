"""The options of the commands for people at a terminal: status, doctor, watch, psqlrc and simulate.

What always holds: as in `main`, what a command needs is imported when it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Dsn = Annotated[
    str,
    typer.Option(
        "--dsn", help="Connection string of the database (default: libpq's variables).", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]


def simulate(  # noqa: PLR0917 - each is an option
    context: typer.Context,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="How many nodes (default: 10).", show_default=False),
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="How rows are dealt: iid, dirichlet(0.3), or by(column): a node for each value."),
    ] = "iid",
    table: Annotated[
        str | None, typer.Option(help="Table or view of the database, as SQL names it.", show_default=False)
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="A CSV file with a header in its place.", show_default=False)
    ] = None,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Train over parts of one table, by the nodes' own code and without daemons, to try options out.

    All other options are those of CREATE FEDERATED MODEL, such as --algorithm, --features age,bmi, --target,
    --rounds, --aggregation and --seed; and of a workspace or dataset those that matter here, such as
    --privacy-budget and --min-rows. 1 where no model comes of it.
    """
    from heliosdb.cli.simulation.command import Wanted
    from heliosdb.cli.simulation.command import simulate as play
    from heliosdb.cli.simulation.settings import read_option_words

    options = read_option_words(context.args)
    if not play(Wanted(nodes, split, table, csv, dsn, options), _print_line, as_json=as_json):
        raise typer.Exit(1)


PASSES_OPTIONS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Typer's settings for a command whose further options are of the language."""


def _print_line(line: str) -> None:
    print(line, flush=True)


def say(line: str) -> None:
    """To whoever sits there, beside what a program would read."""
    print(line, file=sys.stderr, flush=True)
