"""The options of `heliosdb report`, `heliosdb report verify` and `heliosdb model-card`.

What always holds: as in `main`, what a command needs is imported when it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from heliosdb.cli.reports.formats import CardFormat, Regulation, ReportFormat
from heliosdb.cli.signing import SignCertificate, SignKey, load_signer

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Connection string of a role in federated_auditor (default: libpq's variables).",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Where to write it (default: standard output).", show_default=False),
]


report = typer.Typer()


@report.callback(invoke_without_command=True)
def write_report(  # noqa: PLR0917 - each is an option
    context: typer.Context,
    workspace: Annotated[str | None, typer.Option(help="Which workspace.", show_default=False)] = None,
    regulation: Annotated[
        Regulation | None, typer.Option(help="Which regulation.", show_default=False, case_sensitive=False)
    ] = None,
    form: Annotated[
        ReportFormat, typer.Option("--format", help="What to write; csv has the requirements alone.")
    ] = ReportFormat.HTML,
    output: Output = None,
    database: Database = None,
    evidence: Annotated[
        Path | None,
        typer.Option(help="Where to write the evidence, as JSON whose SHA-256 the report names."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Have the check put on record in the database.")
    ] = False,
    sign_certificate: SignCertificate = None,
    sign_key: SignKey = None,
    font: Annotated[
        Path | None,
        typer.Option(help="TrueType font of a PDF (default: Helvetica, Latin-1 alone).", show_default=False),
    ] = None,
) -> None:
    """Write a compliance report for an auditor; or verify one's signature."""
    if context.invoked_subcommand is not None:
        return
    if workspace is None or regulation is None:
        context.fail(f"Missing option '--{'workspace' if workspace is None else 'regulation'}'.")
    identity = load_signer(sign_certificate, sign_key)
    from heliosdb.cli.reports.command import ReportWishes, make_report

    wishes = ReportWishes(form, evidence, font, record, identity)
    _emit(make_report(database or "", workspace, regulation, output, wishes))


@report.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The report.", show_default=False)],
    certificate: Annotated[
        Path, typer.Option(help="Certificate (PEM) of whom you take to have signed.", show_default=False)
    ],
    signature: Annotated[
        Path | None, typer.Option(help="Its signature (default: FILE.sig).", show_default=False)
    ] = None,
) -> None:
    """Verify that a report is as it was signed."""
    from heliosdb.cli.reports.command import check_signature

    print(check_signature(file, signature, certificate), flush=True)


def model_card(
    model: Annotated[str, typer.Option(help="Which model; model@tag for a version.", show_default=False)],
    form: Annotated[CardFormat, typer.Option("--format", help="What to write.")] = CardFormat.MARKDOWN,
    output: Output = None,
    database: Database = None,
) -> None:
    """Write a model's card: what it is for, what it learned from, at which cost, and how well it does."""
    from heliosdb.cli.reports.command import make_card

    _emit(make_card(database or "", model, output, form))


def _emit(content: bytes | None) -> None:
    if content is not None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
