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


def status(
    dsn: Dsn = "",
    as_json: Json = False,
    once: Annotated[bool, typer.Option("--once", help="Show it once also on a terminal.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds from one look to the next.")
    ] = 2.0,
) -> None:
    """Show a coordinator's workspaces, nodes, runs and budgets; a terminal follows them until Ctrl-C."""
    from heliosdb.cli.status import follow, print_once

    if as_json or once or not sys.stdout.isatty():
        print_once(dsn, _print_line, as_json=as_json)
    else:
        follow(dsn, interval)


def watch(
    model: Annotated[str, typer.Argument(help="Which model.", show_default=False)],
    dsn: Dsn = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object on a line for each round.")] = False,
) -> None:
    """Follow a model's run to its end; Ctrl-C leaves the run going. The exit code is the run's outcome.

    0: converged or completed, 1: failed, 9: budget exhausted, 20: stopped, 21: diverged; 130: Ctrl-C.
    """
    from heliosdb.cli.watch import LineFollower, progress_follower
    from heliosdb.cli.watch import watch as follow_run

    if as_json or not sys.stdout.isatty():
        code = follow_run(dsn, model, LineFollower(_print_line, as_json=as_json), say)
    else:
        with progress_follower(model) as follower:
            code = follow_run(dsn, model, follower, say)
    if code:
        raise typer.Exit(code)


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file of a node, coordinator or proxy to examine.", show_default=False
        ),
    ] = None,
    dsn: Dsn = "",
    as_json: Json = False,
) -> None:
    """Examine a server, or a daemon by its settings, and say what to do; 1 where something is at fault."""
    from heliosdb.cli.doctor.command import examine

    if config is not None and dsn:
        raise typer.BadParameter("it examines a daemon or a server", param_hint="'--config' and '--dsn'")
    if not examine(config, dsn, _print_line, as_json=as_json):
        raise typer.Exit(1)


def psqlrc(
    content: Annotated[bool, typer.Option("--content", help="The file itself, not its path.")] = False,
) -> None:
    """Print the path of a file of shortcuts for psql, such as :runs and :nodes: \\i it there."""
    path = Path(__file__).with_name("share") / "heliosdb.psql"
    _print_line(path.read_text(encoding="ascii").rstrip("\n") if content else str(path))


PASSES_OPTIONS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Typer's settings for a command whose further options are of the language."""


def _print_line(line: str) -> None:
    print(line, flush=True)


def say(line: str) -> None:
    """To whoever sits there, beside what a program would read."""
    print(line, file=sys.stderr, flush=True)
