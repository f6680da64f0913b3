"""How a series of runs ends: the best trial of a search becomes a version, and the models of the others are
forgotten; the models of groups that vote become one version.

What always holds: it follows from committed rows alone, in one fenced transaction, and once: what is left of
a series that is decided are figures. So it is the same whichever coordinator comes to it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from heliosdb.catalog import events, publication, rounds, runs
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.catalog.publication import Published
from heliosdb.coordinator import loading, records
from heliosdb.coordinator.course import Course
from heliosdb.coordinator.voting import publish_vote
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.ids import Epoch, RoundNumber, RunId
from heliosdb.transport.sealing import AtRestKey

log = logging.getLogger(__name__)


def decide_series(connection: PsycopgConnection, epoch: Epoch, series: UUID, key: AtRestKey) -> RunId | None:
    """Publish what a series is to leave whose runs have all ended; returns its run, None for none."""
    with fenced(connection, epoch):
        voters = runs.list_voters(connection, series)
        if voters:
            decided: RunId | None = _hold_vote(connection, epoch, series, voters, key)
        else:
            decided = _choose_best(connection, epoch, series, key)
        for one in runs.list_runs_of(connection, series):
            rounds.delete_other_states(connection, one, ())
    return decided


def _choose_best(connection: PsycopgConnection, epoch: Epoch, series: UUID, key: AtRestKey) -> RunId | None:
    best = runs.find_best(connection, series)
    if best is None:
        return None
    runs.add_to_message(connection, best.run, _publish(connection, epoch, best, key))
    return best.run


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
            _record(connection, epoch, best.run, best.round, published)
    except FederatedError as error:
        log.warning("no version of a search's best trial: run=%s %s", best.run, error.message)
        return f"{trial}, of which no version can be published: {error.message}"
    return _told(trial, published)


def _hold_vote(
    connection: PsycopgConnection, epoch: Epoch, series: UUID, voters: Sequence[runs.Voter], key: AtRestKey
) -> RunId:
    """As `_publish`, of all groups that have left a model; said of the run whose version it is, else of the
    first."""
    try:
        with connection.transaction():
            first, published, said = publish_vote(connection, series, voters, key)
            _record(connection, epoch, first.run.id, first.round, published)
    except FederatedError as error:
        log.warning("no version of groups that vote: run=%s %s", voters[0].run, error.message)
        runs.add_to_message(connection, voters[0].run, f"no version can be published: {error.message}")
        return voters[0].run
    runs.add_to_message(connection, first.run.id, _told(said, published))
    return first.run.id


def _record(
    connection: PsycopgConnection, epoch: Epoch, run: RunId, number: RoundNumber, published: Published
) -> None:
    details = {"version": published.version}
    events.record_event(connection, epoch, "version.published", run=run, number=number, details=details)


def _told(what: str, published: Published) -> str:
    said = f"{what}: published as version {published.version}"
    return said if published.obstacle is None else f"{said}; {published.obstacle}"
