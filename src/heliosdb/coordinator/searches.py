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
from heliosdb.coordinator import records
from heliosdb.coordinator.course import Course
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.ids import Epoch, RoundNumber, RunId
from heliosdb.transport.sealing import AtRestKey

log = logging.getLogger(__name__)


def decide_series(connection: PsycopgConnection, epoch: Epoch, series: UUID, key: AtRestKey) -> RunId | None:
    """Publish the best trial of a search whose runs have all ended; returns its run, None for none."""
    with fenced(connection, epoch):
        best = runs.find_best(connection, series)
        if best is not None:
            run, number = best
            runs.add_to_message(connection, run, _publish(connection, epoch, run, number, key))
        for one in runs.list_runs_of(connection, series):
            rounds.delete_other_states(connection, one, ())
    return None if best is None else best[0]


def _publish(
    connection: PsycopgConnection, epoch: Epoch, run: RunId, number: RoundNumber, key: AtRestKey
) -> str:
    """Make the version, and say which; where that cannot be, say why: to try again would change nothing."""
    try:
        with connection.transaction():
            record = runs.find_run(connection, run, ended=True)
            if record is None:
                return "the run is gone"
            findings = Findings.from_json(record.scaling, record.plan)
            model = records.find_model(connection, run, number, key)
            version = records.with_epsilon(
                connection,
                record.run,
                records.new_version(Course.of(record.run), findings, number, model),
            )
            published = publication.publish(connection, record.run, version)
            details = {"version": published.version}
            events.record_event(
                connection, epoch, "version.published", run=run, number=number, details=details
            )
    except FederatedError as error:
        log.warning("no version of a search's best trial: run=%s %s", run, error.message)
        return f"the best trial, of which no version can be published: {error.message}"
    said = f"the best trial: published as version {published.version}"
    return said if published.obstacle is None else f"{said}; {published.obstacle}"
