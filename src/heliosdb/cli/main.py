"""The `heliosdb` command: starts the daemons, and `up` starts all of them on one machine.

What always holds: a command imports what it needs when it runs, so that `--help` is quick; an error of the
product goes to stderr as PostgreSQL would print it, and the exit code follows from its code (domain.errors).
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from heliosdb.cli import console_commands
from heliosdb.cli.exchange_commands import export, import_file, verify_model
from heliosdb.cli.key_commands import keys
from heliosdb.cli.report_commands import model_card, report
from heliosdb.domain.errors import FederatedError, edge, not_supported

Config = Annotated[Path, typer.Option("--config", help="The daemon's TOML file.", show_default=False)]
ReadyFile = Annotated[
    Path | None,
    typer.Option("--ready-file", help="Written as soon as the daemon serves.", show_default=False),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        # Typer reads square brackets in a help text as markup and shows nothing.
        help="Where everything is kept (default: ~/.local/share/heliosdb, as root /var/lib/heliosdb).",
        show_default=False,
    ),
]


class _Application(typer.Typer):
    """A Typer application that ends with the exit code of a FederatedError."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except FederatedError as error:
            _report(error)
            sys.exit(edge(error.code).exit_code)


app = _Application(
    name="heliosdb",
    help="Federated learning as a feature of PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        _print_line(f"heliosdb {importlib.metadata.version('heliosdb-federated-learning')}")
        raise typer.Exit


@app.callback()
def heliosdb(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Federated learning as a feature of PostgreSQL."""


@app.command()
def up(
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="How many node databases (default: as many as there are, at first 3).",
            show_default=False,
        ),
    ] = None,
    directory: Directory = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The proxy's port; 0: any free one (default: the one it had, at first 6432).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Also on a terminal: one line of JSON when all is ready.")
    ] = False,
    *,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Also serve the page and the API, on this machine alone.")
    ] = True,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Also serve predictions by gRPC at this port, this time.",
            show_default=False,
        ),
    ] = None,
    clusters_only: Annotated[bool, typer.Option("--clusters-only", hidden=True)] = False,
) -> None:
    """Run everything on this machine until Ctrl-C; says what to type next, or to a pipe JSON."""
    from heliosdb.cli.embedded.next_steps import facts_line, next_steps
    from heliosdb.cli.embedded.up import Wishes
    from heliosdb.cli.embedded.up import up as bring_up

    for_people = sys.stdout.isatty() and not as_json and not clusters_only

    def tell(installation: Any, facts: Any) -> None:
        for line in next_steps(installation) if for_people else (facts_line(facts),):
            _print_line(line)

    bring_up(_layout(directory), Wishes(nodes, port, clusters_only, page, grpc_port), _say, tell)


@app.command()
def down(directory: Directory = None) -> None:
    """Stop what `heliosdb up` runs."""
    from heliosdb.cli.embedded.up import down as take_down

    take_down(_layout(directory), _say)


@app.command()
def proxy(config: Config, ready_file: ReadyFile = None) -> None:
    """Run the proxy, which makes FEDERATED statements out of what clients type."""
    run = _daemon("heliosdb.proxy.server")
    run(config, ready=lambda _port: _write_ready(ready_file))


@app.command()
def coordinator(config: Config) -> None:
    """Run the coordinator, which takes queued runs and drives their rounds."""
    _daemon("heliosdb.coordinator.service")(config)


@app.command()
def api(config: Config) -> None:
    """Serve the product by HTTP, each call as a role of the coordinator's database."""
    if importlib.util.find_spec("fastapi") is None:
        raise not_supported("heliosdb api needs the extra: pip install 'heliosdb-federated-learning[api]'")
    _daemon("heliosdb.api.service")(config)


node = typer.Typer()
app.add_typer(node, name="node")


@node.callback(invoke_without_command=True)
def run_node(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="The daemon's TOML file.", show_default=False)
    ] = None,
) -> None:
    """Run a node, which trains on its own database's rows; or show its status."""
    if context.invoked_subcommand is not None:
        if config is not None:
            raise typer.BadParameter("it goes behind the command that it is for", param_hint="'--config'")
        return
    if config is None:
        context.fail("Missing option '--config'.")
    _daemon("heliosdb.node.service")(config)


@node.command()
def status(
    config: Config,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds until no answer of the daemon counts as none.")
    ] = 5.0,
) -> None:
    """Show a participant's own part: who trained, what it cost, what left, what was refused."""
    from heliosdb.cli.node_status import show_status

    _print_line(show_status(config, timeout))


class DaemonKind(StrEnum):
    """The daemons that can be asked for their health."""

    PROXY = "proxy"
    COORDINATOR = "coordinator"
    NODE = "node"
    API = "api"


@app.command()
def health(
    daemon: Annotated[DaemonKind, typer.Argument(help="Which daemon.", show_default=False)],
    config: Config,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds until no answer counts as a bad one.")
    ] = 5.0,
) -> None:
    """Say in one line whether a daemon on this machine and its databases answer now; 1 if not so."""
    from heliosdb.cli.health import examine

    well, line = examine(daemon, config, timeout)
    _print_line(line)
    if not well:
        raise typer.Exit(1)


@app.command()
def certificates(
    directory: Annotated[Path, typer.Option("--dir", help="Where to put them.", show_default=False)],
    names: Annotated[
        list[str], typer.Option("--name", help="One identity each; repeat the option.", show_default=False)
    ],
    apart: Annotated[
        bool,
        typer.Option("--apart", help="Each identity in its own directory; all certificates also in public/."),
    ] = False,
) -> None:
    """Make a development certificate authority and identities, or renew those that end within 30 days."""
    from heliosdb.cli.embedded.pki import ensure_authority, ensure_identity, publish

    authority = ensure_authority(directory / "ca")
    for name in names:
        made = ensure_identity(authority, directory / name if apart else directory, name)
        _say(str(made.certificate))
        if apart:
            publish((made.certificate, authority.bundle), directory / "public")


@app.command("verify-spending")
def verify_spending(
    database: Annotated[
        str, typer.Option(help="Connection string of a role in federated_auditor.", show_default=False)
    ],
    workspace: Annotated[
        str | None, typer.Option(help="Only this one (default: all).", show_default=False)
    ] = None,
) -> None:
    """Verify what nodes signed of their ledgers, and that the coordinator's shows no less; 1 if not so.

    Also 1 where there is nothing to verify.
    """
    from heliosdb.cli.verify_spending import verify_spending as verify

    if not verify(database, workspace, _print_line):
        raise typer.Exit(1)


audit = typer.Typer(help="The audit log outside of the database.", no_args_is_help=True)
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")


@audit.command("export")
def audit_export(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet.", show_default=False)],
    database: Annotated[
        str, typer.Option(help="Connection string of a role in federated_auditor.", show_default=False)
    ],
    workspace: Annotated[str, typer.Option(help="Whose log.", show_default=False)],
) -> None:
    """Write a workspace's audit log, its signed heads and their cosignatures into a file."""
    from heliosdb.cli.audit import export_log

    export_log(database, workspace, file)


@audit.command("heads")
def audit_heads(
    config: Config,
    file: Annotated[
        Path | None,
        typer.Argument(help="A file that does not exist yet (default: the screen).", show_default=False),
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(help="Only of this one's log (default: all).", show_default=False)
    ] = None,
) -> None:
    """At a node: show the signed heads of audit logs that it holds, and those that it refused."""
    from heliosdb.cli.audit import export_heads

    export_heads(config, workspace, file, _print_line)


@audit.command("verify")
def audit_verify(
    offline: Annotated[Path, typer.Option(help="A file that `audit export` wrote.", show_default=False)],
    heads: Annotated[
        list[Path] | None,
        typer.Option(help="A file that `audit heads` wrote at a node; may be given several times."),
    ] = None,
    certificate: Annotated[
        list[str] | None,
        typer.Option(help="A coordinator's certificate (PEM): no other one's signatures count."),
    ] = None,
) -> None:
    """Verify an exported audit log against heads that nodes hold, without a database; 1 if not intact."""
    from heliosdb.cli.audit import verify

    if not verify(offline, heads or [], certificate or [], _print_line):
        raise typer.Exit(1)


app.add_typer(report, name="report")
app.command("model-card")(model_card)
app.command()(export)
app.command("import")(import_file)
app.command("verify-model")(verify_model)
app.command("status")(console_commands.status)
app.command("doctor")(console_commands.doctor)
app.command("watch")(console_commands.watch)
app.command("psqlrc")(console_commands.psqlrc)
app.command("simulate", context_settings=console_commands.PASSES_OPTIONS_ON)(console_commands.simulate)


@app.command("verify-certificate")
def verify_certificate(
    file: Annotated[
        Path,
        typer.Argument(help="What federated_erasure_certificate() returned, as JSON.", show_default=False),
    ],
    authority: Annotated[
        Path | None,
        typer.Option(help="PEM certificates that the signers' are, or were issued with.", show_default=False),
    ] = None,
) -> None:
    """Verify a certificate of erasure, without a database: signatures, hashes, inclusion; 1 if not so."""
    from heliosdb.cli.verify_certificate import verify_file

    if not verify_file(file, authority, _print_line):
        raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Run the quick start from nothing to a prediction."""
    if importlib.util.find_spec("heliosdb.cli.demo") is None:
        raise not_supported("the demonstration is not part of this build")
    importlib.import_module("heliosdb.cli.demo").run()


def _daemon(module: str) -> Callable[..., None]:
    """The entry point of a daemon, with its log going to stderr."""
    if importlib.util.find_spec(module) is None:
        raise not_supported(f"{module} is not part of this build")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run: Callable[..., None] = importlib.import_module(module).run
    return run


def _write_ready(ready_file: Path | None) -> None:
    from heliosdb.liveness.standing import write_told

    if ready_file is not None:
        write_told(ready_file, {"state": "ready", "reason": "ready"})


def _layout(directory: Path | None) -> Any:
    from heliosdb.cli.embedded.layout import Layout, default_directory

    return Layout((directory or default_directory()).expanduser().absolute())


def _report(error: FederatedError) -> None:
    from heliosdb.cli.tables import clean

    # Words of a file or of a server may be in it: they neither move the terminal's cursor nor begin a line.
    said = (("ERROR", f"{error.sqlstate}: {error.message}"), ("DETAIL", error.detail), ("HINT", error.hint))
    for label, text in said:
        if text:
            _say(f"{label}:  " + "\n    ".join(map(clean, text.splitlines())))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    app()
