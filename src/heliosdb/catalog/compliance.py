"""What statements and daemons read and write for compliance modes: runs' modes, identifiers that were found.

What always holds: of values that were looked at nothing comes here but a kind and one of three shares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from heliosdb.catalog.commands import Workspace
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import DatasetName
from heliosdb.phi.kinds import Finding
from heliosdb.phi.scan import LONGEST, Column

_SQL = Statements("compliance.sql")


def list_modes_in_training(connection: Connection, workspace: Workspace) -> list[tuple[str, str]]:
    """Return the models of a workspace that are queued or in training, with the compliance mode of their
    runs."""
    rows = _SQL.query(connection, "list_modes_in_training", workspace.workspace_id)
    return [(row["name"], row["mode"]) for row in rows]


def read_shared_columns(connection: Connection, name: DatasetName) -> list[Column]:
    """Return the columns that a dataset was shared with."""
    (row,) = _SQL.query(connection, "read_shared_columns", name)
    return [Column(*each) for each in zip(row["columns"], row["types"], strict=True)]


def sample_dataset(
    connection: Connection, name: DatasetName, columns: Sequence[str], most: int, schemas: Sequence[str]
) -> dict[str, list[str]]:
    """Return values of columns of the caller's dataset, as text, without NULL, of at most so many rows.

    Read with the caller's rights; {} where they cannot be read.
    """
    shown: dict[str, list[str]] = {}
    for row in _SQL.query(connection, "sample_dataset", name, list(columns), most, LONGEST, list(schemas)):
        for column, value in json.loads(row["shown"]).items():
            if value is not None:
                shown.setdefault(column, []).append(value)
    return shown


def record_findings(connection: Connection, name: DatasetName, findings: Sequence[Finding]) -> None:
    """Put what a statement found about a dataset in the place of what earlier ones did."""
    _SQL.query(connection, "record_findings", name, _json(findings))


def record_trained_findings(
    connection: Connection, dataset_id: int, columns: Sequence[str], findings: Sequence[Finding]
) -> None:
    """Put what the node found when it read columns of a dataset in the place of what it found of these."""
    _SQL.query(connection, "record_trained_findings", dataset_id, list(columns), _json(findings))


@dataclass(frozen=True, slots=True)
class TellingColumns:
    """Columns whose values look like identifiers. told: as the DBA's own statement found; all: as a training
    found too.
    """

    told: frozenset[str]
    all: frozenset[str]


def read_telling_columns(connection: Connection, dataset_id: int) -> TellingColumns:
    """Return the columns of a dataset whose values look like identifiers."""
    rows = _SQL.query(connection, "list_telling_columns", dataset_id)
    told = frozenset(row["column_name"] for row in rows if row["was_told"])
    return TellingColumns(told, frozenset(row["column_name"] for row in rows))


def _json(findings: Sequence[Finding]) -> str:
    return json.dumps([one.to_json() for one in findings], ensure_ascii=False)
