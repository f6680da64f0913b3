"""Versions on their way to files and back.

What always holds: both are done by functions of the catalog, with the caller's rights, and are in its audit
log as soon as they are committed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.evidence import enter_schema

_SQL = Statements("exchange.sql")


@dataclass(frozen=True, slots=True)
class Found:
    """What an importer found of a file. signature: verified (all of it), delivery (what a coordinator signed
    as it delivered the version), or none; signed_by: the certificate's SHA-256."""

    file_sha256: bytes
    signature: str
    signed_by: str | None = None


def export_model(connection: Connection, model: str) -> Mapping[str, Any]:
    """Return a version as a file has it: of a model, of model@tag or of model@number."""
    with connection.transaction():
        enter_schema(connection)
        document: Mapping[str, Any] = json.loads(_SQL.query(connection, "export_model", model)[0]["document"])
        return document


def import_model(connection: Connection, document: Mapping[str, Any], name: str | None, found: Found) -> str:
    """Make a model of a document; return what it is called. name: None for its own."""
    text = json.dumps(document, allow_nan=False)
    with connection.transaction():
        enter_schema(connection)
        given = (text, name, found.file_sha256, found.signature, found.signed_by)
        return str(_SQL.query(connection, "import_model", *given)[0]["name"])
