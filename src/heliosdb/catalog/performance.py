"""What a round took and how its updates agree, as rows.

What always holds: one statement whatever the number of nodes, in the transaction of `lease.fenced` that
commits what was measured; a figure that is not known is NULL.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from heliosdb.aggregation import Agreement
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run

_SQL = Statements("performance.sql")


class RoundPhase(StrEnum):
    """The phases of a round that are measured; evaluation is none of them."""

    DISTRIBUTION = "distribution"
    LOCAL_TRAINING = "local_training"
    AGGREGATION = "aggregation"


@dataclass(frozen=True, slots=True)
class PhaseFigures:
    """What one phase took; None: not known.

    busy_seconds: the time over which cpu_seconds were spent. bytes: of messages, seen from the coordinator.
    """

    phase: RoundPhase
    duration_seconds: float | None = None
    cpu_seconds: float | None = None
    busy_seconds: float | None = None
    memory_bytes: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What there is to record at once: phases, and of training how the updates agree."""

    phases: Sequence[PhaseFigures]
    agreement: Agreement = field(default_factory=Agreement)


def record_measured(connection: Connection, run: Run, number: RoundNumber, measured: Measured) -> None:
    """Record what was measured of a round.

    What several exchanges of one round took adds up; how updates agree is of the last of them.
    """
    agreement = measured.agreement
    aligned = [
        {"node": node, "alignment": value}
        | ({} if (found := agreement.evidence.get(node)) is None else asdict(found))
        for node, value in agreement.alignments.items()
    ]
    _SQL.query(
        connection,
        "record_measured",
        str(run.id),
        number,
        run.workspace_id,
        json.dumps([asdict(one) for one in measured.phases]),
        json.dumps(aligned),
        agreement.variance,
    )
