"""The options of `heliosdb keys rotate`, `status` and `drop`.

What always holds: as in `main`, what a command needs is imported when it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", help="The daemon's TOML file.", show_default=False)]
Node = Annotated[bool, typer.Option("--node", help="It is a node's, not the coordinator's.")]

keys = typer.Typer(help="The root keys under which a daemon seals what it keeps.", no_args_is_help=True)


@keys.command()
def rotate(config: Config, node: Node = False) -> None:
    """Make another root key the current one; the running daemon seals anew what former ones have sealed."""
    from heliosdb.cli.keys import read_holder
    from heliosdb.cli.keys import rotate as change

    change(read_holder(config, node=node), _print_line)


@keys.command()
def status(config: Config, node: Node = False) -> None:
    """Show the root keys there are, and how many rows are sealed under each."""
    from heliosdb.cli.keys import read_holder
    from heliosdb.cli.keys import status as show

    show(read_holder(config, node=node), _print_line)


@keys.command()
def drop(
    name: Annotated[str, typer.Argument(help="The former root key's name.", show_default=False)],
    config: Config,
    node: Node = False,
    force: Annotated[
        bool, typer.Option("--force", help="Although checkpoint files may be sealed under it.")
    ] = False,
) -> None:
    """Remove a former root key, where no row of the database needs it any more."""
    from heliosdb.cli.keys import drop as remove
    from heliosdb.cli.keys import read_holder

    remove(read_holder(config, node=node), name, force=force, show=_print_line)


def _print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
