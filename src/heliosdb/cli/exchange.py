"""`heliosdb export`, `heliosdb import` and `heliosdb verify-model`.

What always holds: a file is there whole or not at all, and one that exists is written over only where that
was asked for; a file that was asked to be signed is not there without its signature; nothing of a file is
used before its hash, and its signature where a certificate was given, were found right; what that signature
does not cover is not taken from the file.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from heliosdb.catalog.exchange import Found
from heliosdb.catalog.exchange import export_model as read_version
from heliosdb.catalog.exchange import import_model as store_version
from heliosdb.cli.embedded.files import write_atomically
from heliosdb.cli.reports.command import ask
from heliosdb.cli.reports.signing import MAX_SIGNATURE_FILE, sign_model, signature_path, verify_model
from heliosdb.cli.tables import clean
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.subscription import Contract
from heliosdb.exchange.document import MOST_BYTES, Document, read_document, write_document
from heliosdb.exchange.portable import read_portable
from heliosdb.transport.delivery_messages import decode_delivery
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.verification import find_signer

_RIGHTS = "It needs the rights of federated_operator, and of the model's owner role."
_SIGNED: Final = {
    "verified": "signed by certificate {}",
    "delivery": "its numbers signed at delivery by certificate {}; the file's other words were not taken",
    "none": "no signature was verified",
}
_LIBRARIES: Final = {"onnx": "onnx", "sql": "sqlglot"}


@dataclass(frozen=True, slots=True)
class ExportWishes:
    """What is wanted of an export.

    format: json, onnx, pmml or sql. card: whether it goes along. dialect, table, keep: of SQL. identity:
    whose signature goes beside the file. force: whether files that exist are written over.
    """

    format: str
    card: bool = True
    dialect: str | None = None
    table: str | None = None
    keep: tuple[str, ...] = ()
    identity: Identity | None = None
    force: bool = False


def export_model(conninfo: str, model: str, output: Path | None, wishes: ExportWishes) -> bytes | None:
    """Write a version to `output`, or return its bytes where there is none; FederatedError says what is
    wrong."""
    if output is None and (wishes.format == "onnx" or wishes.identity is not None):
        raise invalid_value("an ONNX file, and one that is signed, need a file", hint="Give --output.")
    _require_library(wishes.format)
    if output is not None:
        _refuse_places(
            [output, *([signature_path(output)] if wishes.identity is not None else [])], wishes.force
        )
    document = ask(conninfo, "heliosdb export", lambda connection: read_version(connection, model), _RIGHTS)
    content = render(document, wishes)
    if output is None:
        return content
    if wishes.identity is not None:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        signed = sign_model(
            wishes.identity, content, content_sha256=str(document["content_sha256"]), signed_at=now
        )
        _write(signature_path(output), signed)
    elif wishes.force:
        # One of the file that was there before would be of none.
        _remove(signature_path(output))
    _write(output, content)
    return None


def render(document: Document, wishes: ExportWishes) -> bytes:
    """A version's bytes in one format."""
    if wishes.format == "json":
        return write_document(document, card=wishes.card)
    portable = read_portable(dict(document) if wishes.card else {**document, "card": None})
    if wishes.format == "onnx":
        from heliosdb.exchange.onnx_model import render_onnx

        return render_onnx(portable)
    if wishes.format == "pmml":
        from heliosdb.exchange.pmml import render_pmml

        return render_pmml(portable)
    from heliosdb.exchange.sql_select import render_select

    assert wishes.dialect is not None
    assert wishes.table is not None
    return render_select(portable, wishes.dialect, wishes.table, wishes.keep).encode()


def import_model(
    conninfo: str, file: Path, name: str | None, signature: Path | None, certificate: Path | None
) -> str:
    """Make a model of a file; return a line that says what it is called and whether a signature held.

    certificate: of whom the importer takes to have signed, else no signature is looked at.
    """
    raw = _read(file, MOST_BYTES + 1)
    document = read_document(raw)
    document, found = find_signature(
        raw, document, signature or signature_path(file), certificate, named=signature is not None
    )
    called = ask(
        conninfo,
        "heliosdb import",
        lambda connection: store_version(connection, document, name, found),
        _RIGHTS,
    )
    return f"imported as {clean(called)}, {_SIGNED[found.signature].format(found.signed_by)}"


def check_signature(file: Path, signature: Path | None, certificate: Path) -> str:
    """Return a line that says what was signed and when; FederatedError where the signature does not hold."""
    signed = _read(signature or signature_path(file), MAX_SIGNATURE_FILE)
    statement = verify_model(_read(file, 2**31), signed, _read(certificate, MAX_SIGNATURE_FILE))
    return f"signed at {statement['signed_at']}, numbers {statement['content_sha256']}"


def find_signature(
    raw: bytes, document: Document, signature: Path, certificate: Path | None, *, named: bool
) -> tuple[Document, Found]:
    """What is to be said of a file: that it is signed, beside it or, where a coordinator delivered the
    version, in it; and what of the document that holds for."""
    file_sha256 = hashlib.sha256(raw).digest()
    if certificate is None:
        if named:
            raise invalid_value(
                "a signature is verified with a certificate alone",
                hint="Give --certificate: of whom you take to have signed.",
            )
        return document, Found(file_sha256, "none")
    pem = _read(certificate, MAX_SIGNATURE_FILE)
    if named or signature.exists():
        statement = verify_model(raw, _read(signature, MAX_SIGNATURE_FILE), pem)
        if statement["content_sha256"] != document.get("content_sha256"):
            raise FederatedError(ErrorCode.IDENTITY, "the signature is of other numbers")
    elif document.get("delivery") is not None:
        return _delivered(document, pem), Found(file_sha256, "delivery", fingerprint(pem))
    else:
        raise FederatedError(
            ErrorCode.IDENTITY, "the exported model is not signed",
            detail=f"There is no {signature}, and no coordinator's signature is in it.",
            hint="Without --certificate it is imported as one that is not.",
        )  # fmt: skip
    return document, Found(file_sha256, "verified", fingerprint(pem))


def _delivered(document: Document, certificate: bytes) -> Document:
    """Return what a coordinator signed as it delivered the version: that must be what the file says, and
    whatever else the file says anybody can have written."""
    try:
        delivery: Mapping[str, Any] = document["delivery"]
        header, signature = (
            base64.b64decode(delivery[name], validate=True) for name in ("header", "signature")
        )
        content = bytes.fromhex(document["content_sha256"])
        sizes = len(document["prediction"].encode()), len(base64.b64decode(document["arrays"] or ""))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise invalid_value(
            "what the coordinator signed is not in the exported model as it should be"
        ) from error
    if find_signer([certificate], header, signature) is None:
        raise FederatedError(ErrorCode.IDENTITY, "the signature is not of this certificate's key")
    said = decode_delivery(header)
    announced = said.announced
    agrees = (
        announced is not None
        and hmac.compare_digest(said.body_sha256, content)
        and sizes == (announced.prediction_bytes, announced.arrays_bytes)
        and list(announced.features) == document.get("features")
        and _contract(announced.contract) == document.get("contract")
        and said.offer.version == document.get("version")
    )
    if not agrees:
        raise FederatedError(ErrorCode.IDENTITY, "the exported model is not the one that was signed")
    origin = {
        "held": "delivered", "workspace": said.offer.workspace, "model": said.offer.model,
        "version_key": None if said.offer.key is None else str(said.offer.key),
    }  # fmt: skip
    return {**document, "model": said.offer.model, "origin": origin, "card": None}


def _contract(contract: Contract) -> dict[str, str]:
    named = {name: getattr(contract, name) for name in ("algorithm", "target", "event", "weights", "offset")}
    return {name: value for name, value in named.items() if value is not None}


def _require_library(form: str) -> None:
    library = _LIBRARIES.get(form)
    if library is not None and importlib.util.find_spec(library) is None:
        raise not_supported(
            f"--format {form} needs the library {library}, which is not installed",
            hint="pip install 'heliosdb-federated-learning[exchange]'",
        )


def _refuse_places(places: list[Path], force: bool) -> None:
    for place in places:
        if place.is_symlink() or (place.exists() and not (force and place.is_file())):
            raise FederatedError(
                ErrorCode.DUPLICATE_OBJECT, f"the file {place} exists", hint="Name another, or give --force."
            )
        if not place.parent.is_dir():
            raise FederatedError(ErrorCode.UNDEFINED_OBJECT, f"directory {place.parent} does not exist")


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content, 0o600)
    except OSError as error:
        raise invalid_value(f"cannot write {path}", detail=error.strerror) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise invalid_value(f"cannot remove {path}", detail=error.strerror) from error


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise invalid_value(f"cannot read {path}", detail=error.strerror) from error
