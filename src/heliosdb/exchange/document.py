"""The file in which a version travels to another database: JSON of format `heliosdb-model`.

What always holds: the numbers in it are the texts that the catalog printed, so that they are read back to the
same bits; a file that is read has the hash that it says, and nothing in it was run, only parsed.

The members are those of federated_export_model (docs/models_that_travel.md), and `sha256`: of
`canonical_bytes` of all others. The hash finds damage; whom a file is from, only a signature says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value

FORMAT: Final = "heliosdb-model"
FORMAT_VERSION: Final = 1
MOST_BYTES: Final = 256 * 1024 * 1024
_MOST_LEVELS: Final = 64
"""Far more than a card has. What goes through it later has less of the stack left than the parser had."""

Document = Mapping[str, Any]


def write_document(exported: Document, *, card: bool = True) -> bytes:
    """Return the bytes of a file. exported: what federated_export_model returned; card: whether it has
    one."""
    members = {name: value for name, value in exported.items() if name != "sha256"}
    if not card:
        members["card"] = None
    members["sha256"] = hashlib.sha256(canonical_bytes(members)).hexdigest()
    return json.dumps(members, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_document(raw: bytes) -> Document:
    """Read a file.

    FederatedError INVALID_VALUE for what is none, was cut off or changed; NOT_SUPPORTED for a later format;
    PROGRAM_LIMIT for one of more than `MOST_BYTES`.
    """
    if len(raw) > MOST_BYTES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"an exported model has at most {MOST_BYTES} bytes", detail=f"{len(raw)}"
        )
    document = _parse(raw)
    version = document.get("format_version")
    if document.get("format") != FORMAT:
        raise _none("It does not say that it is of format heliosdb-model.")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            f"exported models of format version {str(version)[:20]} are not supported",
            detail=f"This release reads format version {FORMAT_VERSION}.",
            hint="Update heliosdb, or have the model exported with this release.",
        )
    members = {name: value for name, value in document.items() if name != "sha256"}
    said = document.get("sha256")
    if not isinstance(said, str) or not said.isascii():
        raise _none("It has no sha256.")
    if not hmac.compare_digest(said, hashlib.sha256(canonical_bytes(members)).hexdigest()):
        raise invalid_value(
            "the exported model was changed or damaged",
            detail="It does not have the hash that it says.",
            hint="Have it exported and sent again.",
        )
    return document


def canonical_bytes(members: Document) -> bytes:
    """Return JSON without spaces, members in the order of their names, in UTF-8."""
    try:
        return json.dumps(
            members, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (ValueError, RecursionError) as error:
        raise _none("A text or a number in it cannot be written.") from error


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _none("It is no whole JSON document.") from error
    if not isinstance(found, dict):
        raise _none("It is no JSON object.")
    if _is_deeper(found, _MOST_LEVELS):
        raise _none(f"It is nested deeper than {_MOST_LEVELS} levels.")
    return found


def _is_deeper(found: dict[str, Any], most: int) -> bool:
    level: list[Any] = [found]
    for _ in range(most):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _none(detail: str) -> FederatedError:
    return invalid_value(
        "this is no exported model", detail=detail, hint="heliosdb export MODEL --format json writes one."
    )
