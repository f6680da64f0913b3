"""An exported audit log, and the heads that a node holds, as files: a JSON object on each line.

What always holds: the first line says what the file is and of which version, the last how many lines there
are between, so that a file that was cut off is found; what is read back is equal to what was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from heliosdb.catalog.audit_tree import StoredCosignature, StoredHead, StoredStub
from heliosdb.catalog.witnessed_heads import Conflict, WitnessedHead
from heliosdb.domain.audit_entry import AuditEntry, entry_from_json
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.tree_head import SignedStatement

LOG = "heliosdb audit log"
HEADS = "heliosdb audit heads"
_VERSION = 1
_LONGEST_LINE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """A signed head and the certificate (PEM) that came with it."""

    signed: SignedStatement
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature and the node's certificate (PEM) that came with it."""

    node: NodeName
    signed: SignedStatement
    certificate: bytes


@dataclass(frozen=True, slots=True)
class SignedStub:
    """What was signed of entries that were emptied for their age, and the certificate (PEM) beside it."""

    signed: SignedStatement
    certificate: bytes


@dataclass(frozen=True, slots=True)
class LogFile:
    """An exported log. entries: in the order of the file."""

    workspace: WorkspaceName
    heads: tuple[Head, ...]
    cosignatures: tuple[Cosignature, ...]
    stubs: tuple[SignedStub, ...]
    entries: tuple[AuditEntry, ...]


@dataclass(frozen=True, slots=True)
class HeadsFile:
    """What a node holds: heads that it cosigned, and pairs (held, offered) of which it refused the second."""

    name: str
    heads: tuple[Head, ...]
    conflicts: tuple[tuple[Head, Head], ...]


def log_lines(
    workspace: WorkspaceName,
    heads: Iterable[StoredHead],
    cosignatures: Iterable[StoredCosignature],
    stubs: Iterable[StoredStub],
    entries: Iterable[AuditEntry],
) -> Iterator[str]:
    """The lines of an exported log."""

    def content() -> Iterator[Mapping[str, Any]]:
        for head in heads:
            yield {"kind": "head", **_signed_json(head.signed, head.certificate)}
        for one in cosignatures:
            yield {"kind": "cosignature", "node": one.node, **_signed_json(one.signed, one.certificate)}
        for stub in stubs:
            yield {"kind": "stub", **_signed_json(stub.signed, stub.certificate)}
        for entry in entries:
            yield {"kind": "entry", **entry.to_json()}

    return _framed({"kind": LOG, "version": _VERSION, "workspace": workspace}, content())


def heads_lines(heads: Iterable[WitnessedHead], conflicts: Iterable[Conflict]) -> Iterator[str]:
    """The lines of what a node holds."""

    def content() -> Iterator[Mapping[str, Any]]:
        for one in heads:
            yield {
                "kind": "witnessed head",
                **_signed_json(one.signed, one.certificate),
                "node": one.node,
                "witnessed": one.cosignature.statement.decode(),
                "cosignature": one.cosignature.signature.hex(),
            }
        for conflict in conflicts:
            yield {
                "kind": "conflict",
                "held": _signed_json(conflict.held, conflict.held_certificate),
                "offered": _signed_json(conflict.offered, conflict.certificate),
            }

    return _framed({"kind": HEADS, "version": _VERSION}, content())


def write_new(path: Path, lines: Iterable[str]) -> None:
    """Write a file that must not exist yet, readable by its owner alone: all of it, or none.

    FederatedError DUPLICATE_OBJECT where there is one, INVALID_VALUE where it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FederatedError(
            ErrorCode.DUPLICATE_OBJECT, f"the file {path} already exists", hint="Name another one."
        ) from None
    except OSError as error:
        raise invalid_value(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise invalid_value(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        path.unlink()
        raise


def read_log(path: Path) -> LogFile:
    """Read an exported log; FederatedError INVALID_VALUE where it is none, or not whole."""
    head, lines = _read(path, LOG)
    try:
        return LogFile(
            WorkspaceName(_text(head["workspace"])),
            tuple(_head(one) for one in lines if one["kind"] == "head"),
            tuple(_cosignature(one) for one in lines if one["kind"] == "cosignature"),
            tuple(_stub(one) for one in lines if one["kind"] == "stub"),
            tuple(_entry(one) for one in lines if one["kind"] == "entry"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_value(f"{path} is not an exported audit log") from error


def read_heads(path: Path) -> HeadsFile:
    """Read what a node holds; FederatedError INVALID_VALUE where it is no such file, or not whole."""
    _, lines = _read(path, HEADS)
    try:
        return HeadsFile(
            path.name,
            tuple(_head(one) for one in lines if one["kind"] == "witnessed head"),
            tuple((_head(one["held"]), _head(one["offered"])) for one in lines if one["kind"] == "conflict"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_value(f"{path} does not hold heads of audit logs") from error


def _framed(head: Mapping[str, Any], content: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield _line(head)
    count = 0
    for one in content:
        yield _line(one)
        count += 1
    yield _line({"kind": "end", "lines": count})


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _signed_json(signed: SignedStatement, certificate: bytes) -> dict[str, str]:
    return {
        # What is no text was never signed; that it was replaced is found where it is verified.
        "statement": signed.statement.decode(errors="replace"),
        "signature": signed.signature.hex(),
        "certificate": certificate.decode(),
    }


def _read(path: Path, kind: str) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            lines = [_object(line) for line in _bounded(file)]
    except OSError as error:
        raise invalid_value(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise invalid_value(f"{path} is not a file of JSON lines") from error
    if not lines or lines[0].get("kind") != kind:
        raise invalid_value(f"{path} is not a file of the kind: {kind}")
    if lines[0].get("version") != _VERSION:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED, f"{path} is of a version that this program does not read"
        )
    if len(lines) < 2 or lines[-1] != {"kind": "end", "lines": len(lines) - 2}:
        raise invalid_value(f"{path} is not whole: its end is missing")
    return lines[0], lines[1:-1]


def _bounded(file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        yield line


def _object(line: str) -> Mapping[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _head(value: Mapping[str, Any]) -> Head:
    return Head(_signed(value), _text(value["certificate"]).encode())


def _cosignature(value: Mapping[str, Any]) -> Cosignature:
    return Cosignature(NodeName(_text(value["node"])), _signed(value), _text(value["certificate"]).encode())


def _stub(value: Mapping[str, Any]) -> SignedStub:
    return SignedStub(_signed(value), _text(value["certificate"]).encode())


def _signed(value: Mapping[str, Any]) -> SignedStatement:
    return SignedStatement(_text(value["statement"]).encode(), bytes.fromhex(value["signature"]))


def _entry(value: Mapping[str, Any]) -> AuditEntry:
    return entry_from_json({name: field for name, field in value.items() if name != "kind"})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
