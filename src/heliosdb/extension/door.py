"""The door from PL/Python into the package: text in, nothing or an error out.

What always holds: no exception crosses it, so that a user sees the SQLSTATE, message, DETAIL and HINT of the
error and never a Python traceback.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from federated_sql import parse
from federated_sql.compliance import RULES
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.options import OPTIONS, OptionKind, check_stored, defaults
from federated_sql.residency import residency_allows
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.plpy_connection import PlpyConnection
from heliosdb.domain.welch import half_width
from heliosdb.extension import exports
from heliosdb.extension.encodings import in_encoding
from heliosdb.extension.explaining import answer
from heliosdb.extension.queries import describe_columns
from heliosdb.extension.session import Session
from heliosdb.extension.statements import apply
from heliosdb.extension.version import CATALOG_VERSION, serves
from heliosdb.parts.built import built_parts

__all__ = [
    "CATALOG_VERSION",
    "audit_tree",
    "check_options",
    "check_residency",
    "describe_columns",
    "describe_modes",
    "describe_options",
    "execute",
    "explain",
    "keeping",
    "prediction_key",
    "scoring",
    "serves",
    "write_export",
]


def execute(plpy: Any, command: str | None, schemas: Sequence[str], version: str) -> str | None:
    """Execute one statement; return None, or the error as JSON for federated._raise.

    version: that of the catalog whose function calls.
    """
    failure = _attempt(plpy, lambda session: _apply(session, command), schemas, version)
    return None if failure is None else in_encoding(failure, lambda: _encoding(plpy))


def _apply(session: Session, command: str | None) -> None:
    if command is None:
        raise FederatedError(ErrorCode.INVALID_VALUE, "the statement to execute must not be null")
    apply(session, parse(command))


def explain(plpy: Any, command: str | None, version: str) -> str:
    """Explain one EXPLAIN; returns as JSON {"plan": lines}, or {"failure": …} for federated._raise."""
    found: list[str] = []
    failure = _attempt(plpy, lambda session: found.append(answer(session, command)), (), version)
    told = found[0] if failure is None else f'{{"failure": {failure}}}'
    return in_encoding(told, lambda: _encoding(plpy))


def _encoding(plpy: Any) -> str:
    return catalog.database_encoding(PlpyConnection(plpy))


def _attempt(
    plpy: Any, action: Callable[[Session], None], schemas: Sequence[str], version: str
) -> str | None:
    try:
        serves(version)
        _one_thread()
        said = (_saying(plpy.notice), _saying(plpy.warning))
        action(Session(PlpyConnection(plpy), tuple(schemas), *said))
    except FederatedError as error:
        return _describe(error.sqlstate, error.message, error.detail, error.hint, error.position)
    except plpy.SPIError as error:
        # spidata is (sqlerrcode, detail, hint, query, position, schema, table, column, type, constraint).
        _, detail, hint = (*(error.spidata or ()), None, None, None)[:3]
        return _describe(error.sqlstate, str(error), detail, hint)
    except Exception as error:  # noqa: BLE001 -- a defect of ours: logged whole, shown as XX000 without internals
        plpy.log("internal error: " + traceback.format_exc())
        return _describe(
            ErrorCode.INTERNAL.value,
            f"internal error in heliosdb_federated_learning ({type(error).__name__})",
            hint="The server's log has the details.",
        )
    return None


def write_export(plpy: Any, order_id: str, version: str) -> str | None:
    """Take an export whose order is over one step further; returns its state."""
    try:
        serves(version)
        return exports.write_export(PlpyConnection(plpy), order_id, plpy.log)
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
        raise


def describe_options(version: str) -> str:
    """Return as JSON the defaults of workspaces and models, and the options that a run may override.

    Where the catalog is of another version: the failure, for federated._raise.
    """
    try:
        serves(version)
    except FederatedError as error:
        failure = json.loads(_describe(error.sqlstate, error.message, error.detail, error.hint))
        return json.dumps({"failure": failure})
    built = built_parts()
    return json.dumps(
        {
            "workspace": defaults(OptionKind.WORKSPACE, built),
            "model": defaults(OptionKind.MODEL, built),
            "training": sorted(OPTIONS[OptionKind.TRAINING]),
        }
    )


def describe_modes(plpy: Any, version: str) -> str:
    """Return as JSON what compliance modes ask for, one object a rule and regulation."""
    try:
        serves(version)
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
    rules = [
        {
            "regulation": regulation,
            "rule": rule.name,
            "requirement": rule.requirement,
            "held_at": rule.place.value,
            "reference": reference,
            "reason": rule.reason,
        }
        for rule in RULES
        for regulation, reference in rule.references.items()
    ]
    return json.dumps(rules)


def check_options(kind: str, options: str, version: str) -> str | None:
    """Return None where a statement could have set these options, else the error for federated._raise."""
    try:
        serves(version)
        check_stored(OptionKind(kind), json.loads(options), built_parts())
    except FederatedError as error:
        return _describe(error.sqlstate, error.message, error.detail, error.hint)
    return None


def check_residency(plpy: Any, required: str, stated: str, version: str) -> bool:
    """Whether data that are said to lie in `stated` lie within `required`."""
    try:
        serves(version)
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
    return residency_allows(required, stated)


def welch(plpy: Any, version: str) -> Callable[[float, int, float, int], float | None]:
    """Return what computes half the width of the interval of a difference of means."""
    try:
        serves(version)
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
    return half_width


def scoring(plpy: Any, version: str, function: str, module: str = "session") -> Callable[..., Any]:
    """Return a function of a module of `heliosdb.scoring`, whose errors become the server's.

    That module needs numpy, which is imported when the first such prediction of a session is made, and not
    with the rest: by name, so that nothing else here depends on it.
    """
    try:
        serves(version)
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
    if find_spec("numpy") is None:
        plpy.error(
            "predictions of this model need numpy, which is not installed for the server's Python",
            sqlstate=ErrorCode.NOT_SUPPORTED.value,
        )
    _one_thread()
    return _raising(plpy, getattr(import_module(f"heliosdb.scoring.{module}"), function))


def keeping(plpy: Any, version: str) -> Callable[[str, str, bytes | None, str], None]:
    """Return what keeps a version in the session, its numbers opened where they are sealed."""
    keep = scoring(plpy, version, "keep_version")
    opened = _raising(plpy, import_module("heliosdb.extension.server_key").open_version)
    return lambda key, prediction, arrays, encoding: keep(key, *opened(key, prediction, arrays), encoding)


def prediction_key(plpy: Any, version: str) -> bytes:
    """Return the public key to which this server's sealed predictions are sealed."""
    try:
        serves(version)
        return bytes(import_module("heliosdb.extension.server_key").public())
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
        raise


def _saying(report: Callable[..., None]) -> Callable[..., None]:
    """Report a message with what there is of a detail and a hint: the server would print a None."""

    def say(message: str, **further: str | None) -> None:
        report(message, **{name: text for name, text in further.items() if text is not None})

    return say


def _one_thread() -> None:
    """One session is one process with one thread: numpy's libraries are not to start more."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def audit_tree(plpy: Any, version: str, function: str) -> Callable[..., Any]:
    """Return a function of `heliosdb.extension.audit_tree`, whose errors become the server's."""
    try:
        serves(version)
    except FederatedError as error:
        plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)
    asked = getattr(import_module("heliosdb.extension.audit_tree"), function)
    return _raising(plpy, partial(asked, plpy))


def _raising(plpy: Any, asked: Callable[..., Any]) -> Callable[..., Any]:
    def ask(*arguments: Any) -> Any:
        try:
            return asked(*arguments)
        except FederatedError as error:
            return plpy.error(error.message, sqlstate=error.sqlstate, detail=error.detail, hint=error.hint)

    return ask


def _describe(
    sqlstate: str,
    message: str,
    detail: str | None = None,
    hint: str | None = None,
    position: int | None = None,
) -> str:
    return json.dumps(
        {
            "sqlstate": sqlstate,
            "message": message,
            "detail": detail,
            "hint": hint,
            "position": None if position is None else str(position),
        },
        ensure_ascii=False,
    )
