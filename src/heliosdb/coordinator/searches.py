"""How a search ends: the best of its trials becomes a version, and the models of the others are forgotten.

What always holds: it follows from committed rows alone, in one fenced transaction, and once: what is left of
a search that is decided are figures. So it is the same whichever coordinator comes to it.
"""

from __future__ import annotations

import logging
from uuid import UUID

from heliosdb.catalog import events, publication, rounds, runs
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.coordinator import loading, records
from heliosdb.coordinator.course import Course
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.ids import Epoch, RunId
from heliosdb.transport.sealing import AtRestKey

log = logging.getLogger(__name__)


def decide_series(connection: PsycopgConnection, epoch: Epoch, series: UUID, key: AtRestKey) -> RunId | None:
    """Publish the best trial of a search whose runs have all ended; returns its run, None for none."""
    with fenced(connection, epoch):
        best = runs.find_best(connection, series)
        if best is not None:
            runs.add_to_message(connection, best.run, _publish(connection, epoch, best, key))
        for one in runs.list_runs_of(connection, series):
            rounds.delete_other_states(connection, one, ())
    return None if best is None else best.run


def _publish(connection: PsycopgConnection, epoch: Epoch, best: runs.Best, key: AtRestKey) -> str:
    """Make the version, and say which; where that cannot be, say why: to try again would change nothing."""
    trial = "the best trial" if best.is_compared else "no trial was evaluated, so the first one"
    try:
        with connection.transaction():
            record = runs.find_run(connection, best.run, ended=True)
            assert record is not None
            findings = Findings.from_json(record.scaling, record.plan)
            model = loading.find_model(connection, best.run, best.round, key)
            made = records.new_version(Course.of(record.run), findings, best.round, model)
            version = records.with_epsilon(connection, record.run, made)
            published = publication.publish(connection, record.run, version)
            events.record_event(
                connection,
                epoch,
                "version.published",
                run=best.run,
                number=best.round,
                details={"version": published.version},
            )
    except FederatedError as error:
        log.warning("no version of a search's best trial: run=%s %s", best.run, error.message)
        return f"{trial}, of which no version can be published: {error.message}"
    said = f"{trial}: published as version {published.version}"
    return said if published.obstacle is None else f"{said}; {published.obstacle}"
