"""Errors as RFC 9457 problem documents: one table from SQLSTATE to HTTP status.

What always holds: a document quotes the language's own message, and of what is the server's business (its
class is not the caller's fault) nothing; whoever lacks a right reads the same text whatever it is about.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg.errors import Diagnostic
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests
from starlette.exceptions import HTTPException

from federated_sql.server_hints import about_prediction
from heliosdb.domain.errors import EDGES, FederatedError, place_of

log = logging.getLogger(__name__)

INFERENCE_PREFIX = "/v2"
"""Below it the Open Inference Protocol is spoken."""

_RETRY_AFTER = 5
# The language's codes as everywhere, but for what reads otherwise where JSON was sent, not SQL typed;
# then what PostgreSQL itself raises, by class.
_STATES = {code.value: edge.http_status for code, edge in EDGES.items()} | {
    "42703": 422,  # a feature that the model has not
    "22023": 422,
    "42602": 422,
    "42883": 422,
    "42804": 422,
}
_CLASSES = {
    "08": 503,
    "22": 422,
    "23": 409,
    "25": 503,  # a standby, which cannot be written
    "28": 401,
    "40": 503,  # tried again it may go through
    "42": 400,
    "53": 503,
    "54": 413,
    "55": 409,
    "57": 503,
}
_HIDDEN = {
    401: "The call is not authenticated.",
    403: "The role of this call does not have the right to do this.",
    500: "The server could not carry this out; its log says why.",
    503: "The database does not answer now.",
    504: "The database took too long.",
}
_LARGEST = 2_000
_SERVERS_OWN = frozenset({"08", "53", "57", "58", "F0", "XX"})
_OF_STATEMENTS = frozenset({400, 403, 404, 409, 413, 422, 501})
_MOST_FAULTS = 20


class Problem(Exception):  # noqa: N818 -- it is what RFC 9457 calls it
    """A problem of a call. retry_after: seconds. faults: what is wrong with which part of the request.
    position: of which character of a statement it is said, the first being 1.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        sqlstate: str | None = None,
        hint: str | None = None,
        retry_after: int | None = None,
        faults: Sequence[Mapping[str, str]] = (),
        position: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.sqlstate = sqlstate
        self.hint = hint
        self.retry_after = retry_after
        self.faults = faults
        self.position = position

    def document(self) -> dict[str, Any]:
        """The members of RFC 9457, and sqlstate, hint, position and errors where there are any."""
        kind = "about:blank" if self.sqlstate is None else f"urn:heliosdb:sqlstate:{self.sqlstate}"
        document: dict[str, Any] = {
            "type": kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail[:_LARGEST],
        }
        if self.sqlstate is not None:
            document["sqlstate"] = self.sqlstate
        if self.hint:
            document["hint"] = self.hint[:_LARGEST]
        if self.position is not None:
            document["position"] = self.position
        if self.faults:
            document["errors"] = list(self.faults)
        return document

    def response(self) -> JSONResponse:
        """The answer with its headers."""
        return JSONResponse(
            self.document(), self.status, self._headers(), media_type="application/problem+json"
        )

    def inference_response(self) -> JSONResponse:
        """The answer of the Open Inference Protocol: `error`, and beside it the same members."""
        return JSONResponse(
            {"error": self.detail[:_LARGEST], **self.document()}, self.status, self._headers()
        )

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="heliosdb"'
        return headers


def unauthenticated() -> Problem:
    """The one answer to whoever is not known, whatever the reason."""
    return Problem(401, _HIDDEN[401], sqlstate="28000")


def forbidden() -> Problem:
    """The one answer to a role without the right, whether or not what it asked about exists."""
    return Problem(403, _HIDDEN[403], sqlstate="42501")


def missing(kind: str, name: str) -> Problem:
    """What a path names does not exist."""
    return Problem(404, f'federated {kind} "{name}" does not exist', sqlstate="42704")


def status_of(sqlstate: str) -> int:
    """The HTTP status of an SQLSTATE; 500 for what is in neither table."""
    return _STATES.get(sqlstate) or _CLASSES.get(sqlstate[:2], 500)


def from_database(error: psycopg.Error) -> Problem:
    """What an error of the database says to the caller."""
    # Without a state: the connection is gone, or a value could not be sent at all.
    if error.sqlstate is None:
        if isinstance(error, psycopg.DataError):
            return Problem(
                422,
                "A text of the request cannot be stored: it has a character that no text may have.",
                sqlstate="22021",
            )
        if isinstance(error, psycopg.OperationalError):
            return Problem(503, _HIDDEN[503], sqlstate="08006", retry_after=_RETRY_AFTER)
        return Problem(500, _HIDDEN[500], sqlstate="XX000")
    status = status_of(error.sqlstate)
    retry_after = _RETRY_AFTER if status == 503 else None
    # A node that cannot be reached is no obstacle of the database: the language says what it is.
    if status in _HIDDEN and not (
        status == 503 and error.sqlstate == "08001" and error.diag.datatype_name == "federated_sql"
    ):
        return Problem(status, _HIDDEN[status], sqlstate=error.sqlstate, retry_after=retry_after)
    diag = error.diag
    parts = [part for part in (diag.message_primary, diag.message_detail) if part]
    return Problem(
        status, _sentences(parts), sqlstate=error.sqlstate, hint=diag.message_hint, retry_after=retry_after
    )


def from_statement(error: psycopg.Error, position: int | None) -> Problem:
    """What an error of a caller's own SQL says: what psql would say, and of the server's business nothing."""
    problem = from_database(error)
    sqlstate, diag = error.sqlstate, error.diag
    if sqlstate is None or sqlstate == "57014" or sqlstate[:2] in _SERVERS_OWN:
        return problem
    # An error may carry whatever code a function raised: none of them says that nobody is logged in.
    status = problem.status if problem.status in _OF_STATEMENTS else 400
    parts = [part for part in (diag.message_primary, diag.message_detail) if part]
    return Problem(
        status,
        _sentences(parts) if parts else problem.detail,
        sqlstate=sqlstate,
        hint=_hint_of_statement(sqlstate, diag),
        position=position,
    )


def _hint_of_statement(sqlstate: str, diag: Diagnostic) -> str | None:
    """The server's own hint, or what its words mean where a prediction was typed, as through the proxy."""
    told = about_prediction(sqlstate.encode(), (diag.message_primary or "").encode())
    return diag.message_hint if told is None else told.decode()


def _sentences(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else " ".join(f"{part.rstrip('.')}." for part in parts)


def from_federated(error: FederatedError) -> Problem:
    """The same for an error that was found before the database was asked."""
    parts = [part for part in (error.message, error.detail) if part]
    return Problem(status_of(error.sqlstate), _sentences(parts), sqlstate=error.sqlstate, hint=error.hint)


def from_validation(error: RequestValidationError) -> Problem:
    """What is wrong with which part of the request; its values are not repeated."""
    faults = [
        {"where": ".".join(str(part)[:63] for part in fault["loc"]), "fault": str(fault["msg"])[:200]}
        for fault in error.errors()[:_MOST_FAULTS]
    ]
    return Problem(422, "The request is not what this path takes.", sqlstate="22023", faults=faults)


def as_problem(error: Exception) -> Problem:  # noqa: PLR0911 - one return per kind of error
    """Whatever happened, as a problem; what is a defect of ours is logged by its place and not shown."""
    match error:
        case Problem():
            return error
        case FederatedError():
            return from_federated(error)
        case PoolTimeout() | TooManyRequests() | PoolClosed():
            return Problem(503, _HIDDEN[503], sqlstate="53300", retry_after=_RETRY_AFTER)
        case psycopg.Error():
            problem = from_database(error)
            if problem.status >= 500 and problem.status != 501:
                log.warning("the database answered a call with %s", error.sqlstate or type(error).__name__)
            return problem
        case RequestValidationError():
            return from_validation(error)
        case HTTPException():
            return Problem(error.status_code, str(error.detail))
    log.error("a call ended by an error: %s", place_of(error))
    return Problem(500, _HIDDEN[500], sqlstate="XX000")


def respond(path: str, error: Exception) -> JSONResponse:
    """The answer to an error of a call to that path, in the words of its protocol."""
    problem = as_problem(error)
    is_inference = path == INFERENCE_PREFIX or path.startswith(INFERENCE_PREFIX + "/")
    return problem.inference_response() if is_inference else problem.response()


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem document."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return respond(request.url.path, error)

    for kind in (Problem, FederatedError, psycopg.Error, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
