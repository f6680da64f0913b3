"""What follows from requests for erasure, in the coordinator's catalog: sql/erasures.sql, called.

What always holds: functions that write expect a transaction of `lease.fenced`; which versions a request
concerns, the database finds from its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.erasure import Answer, ErasedVersion, Erasure
from heliosdb.domain.ids import OrderId, RunId

_SQL = Statements("erasures.sql")


@dataclass(frozen=True, slots=True)
class Due:
    """A run of which another one is to be made. was_interrupted: an erasure ended it while it went on."""

    source: RunId
    was_interrupted: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """What training a model anew may spend at most, what is left of its workspace's budget, and of how much
    (ε)."""

    model: str
    epsilon: float
    remaining: float
    total: float


def has_work(connection: Connection) -> bool:
    """Tell whether anything is to follow from requests for erasure."""
    return bool(_SQL.query(connection, "has_work")[0]["has_work"])


def plan_erasures(connection: Connection) -> list[OrderId]:
    """Find what the requests concern that the nodes are done with; returns these."""
    return [OrderId(UUID(row["order_id"])) for row in _SQL.query(connection, "plan_erasures")]


def interrupt_runs(connection: Connection) -> list[tuple[RunId, str]]:
    """End the runs under way that they concern; returns these, and what each says."""
    return [(RunId(UUID(row["run_id"])), row["message"]) for row in _SQL.query(connection, "interrupt_runs")]


def list_due(connection: Connection) -> list[Due]:
    """Return the runs of which another one is to be queued now."""
    rows = _SQL.query(connection, "retrainings_due")
    return [Due(RunId(UUID(row["source_run"])), row["was_interrupted"]) for row in rows]


def queue_retraining(connection: Connection, due: Due) -> RunId | None:
    """Queue a run like that one; None where somebody has just queued another one of the model."""
    run = _SQL.query(connection, "queue_retraining", str(due.source), due.was_interrupted)[0]["run_id"]
    return None if run is None else RunId(UUID(run))


def retire_erased(connection: Connection) -> list[tuple[str, int]]:
    """Retire what can be; returns model and version of each."""
    return [(row["model_name"], row["version"]) for row in _SQL.query(connection, "retire_erased")]


def explain_erasures(connection: Connection) -> None:
    """Say of each request what it waits for."""
    _SQL.query(connection, "explain_erasures")


def withhold_versions(connection: Connection) -> None:
    """Have exactly those versions not predict that are to be withheld."""
    _SQL.query(connection, "withhold_versions")


def list_uncertified(connection: Connection) -> list[OrderId]:
    """Return the requests that are carried out but for their certificate."""
    return [OrderId(UUID(row["order_id"])) for row in _SQL.query(connection, "uncertified")]


def read_erasure(connection: Connection, order_id: OrderId) -> Erasure:
    """Return all that a certificate says of a request."""
    row = _SQL.query(connection, "read_request", str(order_id))[0]
    return Erasure(
        request=str(order_id),
        batch=row["batch"],
        workspace=row["workspace"],
        model=row["model"],
        pseudonym=row["pseudonym"],
        method=row["method"],
        requested_at=_iso(row["requested_at"]),
        deadline=_iso(row["deadline"]),
        ended_at=_iso(row["ended_at"]),
        completed_at=_iso(row["now"]),
        runs=row["runs"],
        files=tuple(row["files"]),
        unasked=tuple(row["unasked"]),
        answers=_answers(_SQL.query(connection, "read_answers", str(order_id))),
        versions=_versions(_SQL.query(connection, "read_versions", str(order_id))),
    )


def _answers(rows: Sequence[Row]) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            node=row["node_name"],
            state=row["state"],
            message=row["message"],
            statement=None if row["statement"] is None else bytes(row["statement"]).decode(),
            signature=None if row["signature"] is None else bytes(row["signature"]).hex(),
            certificate_sha256=row["certificate_sha256"],
            certificate=row["certificate"],
        )
        for row in rows
    )


def _versions(rows: Sequence[Row]) -> tuple[ErasedVersion, ...]:
    return tuple(
        ErasedVersion(
            model=row["model_name"],
            version=row["version"],
            run=row["run_id"],
            first_round=row["first_round"],
            sha256_before=row["sha256_before"],
            retired_at=_iso(row["retired_at"]),
            replaced_by=row["replaced_by"],
            sha256_after=row["sha256_after"],
            is_trained_anew=row["is_trained_anew"],
            began_with=row["began_with"],
        )
        for row in rows
    )


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def complete(  # noqa: PLR0917
    connection: Connection,
    order_id: OrderId,
    exactness: str,
    certificate: bytes,
    sha256: bytes,
    signature: bytes,
    signer: bytes,
) -> bool:
    """Record the certificate of a request; False where it has one."""
    said = (exactness, certificate.decode(), sha256, signature, signer.decode())
    return bool(_SQL.query(connection, "complete", str(order_id), *said))


def list_votes(connection: Connection, workspace_id: int) -> list[str]:
    """Return the models of a workspace whose current version predicts by vote."""
    return [row["model_name"] for row in _SQL.query(connection, "list_votes", workspace_id)]


def list_costs(connection: Connection, workspace_id: int) -> list[Cost]:
    """Return what training each model of a workspace anew may spend; nothing where it has no budget."""
    return [
        Cost(row["model_name"], row["epsilon"], row["remaining"], row["total"])
        for row in _SQL.query(connection, "retraining_cost", workspace_id)
    ]
