"""The options of `heliosdb export`, `heliosdb import` and `heliosdb verify-model`.

What always holds: as in `main`, what a command needs is imported when it runs.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heliosdb.cli.signing import SignCertificate, SignKey, load_signer

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        "--dsn",
        help="Connection string of the role whose rights count (default: libpq's variables).",
        show_default=False,
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(help="Certificate (PEM) of whom you take to have signed.", show_default=False),
]
SignatureFile = Annotated[
    Path | None, typer.Option(help="Its signature (default: FILE.sig).", show_default=False)
]


class ExchangeFormat(StrEnum):
    """What a version is written as."""

    JSON = "json"
    ONNX = "onnx"
    PMML = "pmml"
    SQL = "sql"


class SqlDialect(StrEnum):
    """The engines for which a version is written as SQL."""

    BIGQUERY = "bigquery"
    CLICKHOUSE = "clickhouse"
    DUCKDB = "duckdb"
    MYSQL = "mysql"
    POSTGRES = "postgres"
    SNOWFLAKE = "snowflake"
    SPARK = "spark"
    SQLITE = "sqlite"
    TRINO = "trino"


def export(  # noqa: PLR0917 - each is an option
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Which model; model@tag or model@number for a version.")],
    database: Database = None,
    form: Annotated[
        ExchangeFormat, typer.Option("--format", help="What to write; json can be imported.")
    ] = ExchangeFormat.JSON,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Where to write it (default: standard output).", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that exist.")] = False,
    card: Annotated[bool, typer.Option("--card/--no-card", help="Whether the model card goes along.")] = True,
    dialect: Annotated[
        SqlDialect | None, typer.Option(help="With --format sql: for which engine.", show_default=False)
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="With --format sql: the rows' table; dots separate its parts.", show_default=False),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="With --format sql: a column to hand through; may be given several times."),
    ] = None,
    sign_certificate: SignCertificate = None,
    sign_key: SignKey = None,
) -> None:
    """Write a version as a file: for another database, a runtime, or another engine's SQL."""
    if form is ExchangeFormat.SQL and (dialect is None or table is None):
        context.fail(f"Missing option '--{'dialect' if dialect is None else 'table'}'.")
    if form is not ExchangeFormat.SQL and (dialect is not None or table is not None or keep):
        context.fail("'--dialect', '--table' and '--keep' are for '--format sql'.")
    identity = load_signer(sign_certificate, sign_key)
    from heliosdb.cli.exchange import ExportWishes, export_model

    wishes = ExportWishes(
        form.value, card, dialect and dialect.value, table, tuple(keep or ()), identity, force
    )
    content = export_model(database or "", model, output, wishes)
    if content is not None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def import_file(
    file: Annotated[
        Path, typer.Argument(help="What `heliosdb export --format json` wrote.", show_default=False)
    ],
    database: Database = None,
    name: Annotated[
        str | None,
        typer.Option(help="What to call the model (default: as it was called).", show_default=False),
    ] = None,
    signature: SignatureFile = None,
    certificate: Certificate = None,
) -> None:
    """Make a model of an exported version, which predicts here as it did there."""
    from heliosdb.cli.exchange import import_model

    print(import_model(database or "", file, name, signature, certificate), flush=True)


def verify_model(
    file: Annotated[Path, typer.Argument(help="What `heliosdb export` wrote.", show_default=False)],
    certificate: Annotated[
        Path, typer.Option(help="Certificate (PEM) of whom you take to have signed.", show_default=False)
    ],
    signature: SignatureFile = None,
) -> None:
    """Verify that an exported version, in whichever format, is as it was signed."""
    from heliosdb.cli.exchange import check_signature

    print(check_signature(file, signature, certificate), flush=True)
