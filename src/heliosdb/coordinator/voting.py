"""How groups that vote end: the models of all become one version, which predicts by their votes.

What always holds: as of a search (coordinator/searches.py). Of a group that left no model, or
none that could vote, nobody votes: that is no more than its nodes could have done by a vote.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from heliosdb.catalog import publication, rounds, runs
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.catalog.publication import NewVersion, Published
from heliosdb.catalog.runs import Voter
from heliosdb.coordinator import loading, records
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.coordinator.keeping import Kept, seal_kept
from heliosdb.coordinator.loading import Loaded
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run import Run
from heliosdb.domain.state import State, join_parts
from heliosdb.scoring.ballot import Ballot, Candidate, hold_ballot, labels_of
from heliosdb.transport.sealing import AtRestKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """What the run of a group has left: the state of its model after a round, and how that predicts."""

    run: Run
    round: RoundNumber
    state: State
    candidate: Candidate


def with_vote(connection: PsycopgConnection, loaded: Loaded, key: AtRestKey) -> Loaded:
    """Add the vote that a run measures, where it measures one; FederatedError WRONG_STATE where too few
    groups have a model. It follows from committed rows: whoever goes on with the run asks about the same."""
    series = loaded.course.run.series
    if series is None or not series.measures_vote:
        return loaded
    left, _ = _read_all(connection, runs.list_voters(connection, series.id), key)
    return replace(loaded, course=loaded.course.about(_hold(left)))


def publish_vote(
    connection: PsycopgConnection, series: UUID, voters: Sequence[Voter], key: AtRestKey
) -> tuple[Left, Published, str]:
    """Make the version, of the run of the first group that votes; returns what that left, the version, and
    who votes, in words.

    FederatedError WRONG_STATE where too few groups have a model.
    """
    left, silent = _read_all(connection, voters, key)
    ballot = _hold(left)
    first = left[ballot.voting[0]]
    models = {str(group): left[group].state for group in ballot.voting}
    kept = Kept(ModelState(join_parts(**models)))
    workspace = first.run.policy.workspace
    sealed = seal_kept(kept, first.run.id, first.round, key, workspace=workspace)
    rounds.put_state(connection, first.run.id, first.round, sealed)
    made = _version(first.round, ballot, runs.find_certified(connection, series))
    version = records.with_epsilon(connection, first.run, made)
    return first, publication.publish(connection, first.run, version), _said(len(voters), ballot, silent)


def _hold(left: Mapping[int, Left]) -> Ballot:
    declared = next((one.run.options.target_classes for one in left.values()), ())
    return hold_ballot([one.candidate for one in left.values()], declared)


def _read_all(
    connection: PsycopgConnection, voters: Sequence[Voter], key: AtRestKey
) -> tuple[dict[int, Left], dict[int, str]]:
    """Return what each group has left, by its number, and of others why that cannot vote."""
    left, silent = dict[int, Left](), dict[int, str]()
    for number, voter in enumerate(voters, 1):
        if voter.round is None:
            continue
        try:
            left[number] = _read(connection, number, voter, voter.round, key)
        except FederatedError as error:
            log.warning("a group does not vote: run=%s %s", voter.run, error.message)
            silent[number] = error.message
    return left, silent


def _read(
    connection: PsycopgConnection, group: int, voter: Voter, number: RoundNumber, key: AtRestKey
) -> Left:
    record = runs.find_run(connection, voter.run, ended=True)
    assert record is not None
    model = loading.find_model(connection, voter.run, number, key)
    findings = Findings.from_json(record.scaling, record.plan)
    made = records.new_version(Course.of(record.run), findings, number, model)
    encoding = made.encoding or _plain(record.run.options.features, made.booleans)
    classes = record.run.options.target_classes or encoding.classes
    candidate = Candidate(group, made.prediction, encoding, labels_of(made.prediction, classes))
    return Left(record.run, number, model.state, candidate)


def _plain(features: Sequence[str], booleans: Sequence[bool]) -> Encoding:
    """Of features of which each is one input."""
    flags = booleans or (False,) * len(features)
    kinds = [ColumnKind.BOOLEAN if flag else ColumnKind.NUMBER for flag in flags]
    return Encoding(tuple(map(ColumnEncoding, features, kinds)))


def _version(number: RoundNumber, ballot: Ballot, certified: str | None) -> NewVersion:
    """Scales are each model's own, and what the groups' runs measured is of single models."""
    flags = tuple(one.kind is ColumnKind.BOOLEAN for one in ballot.encoding.columns)
    return NewVersion(
        number, {}, None, ballot.prediction, flags, ballot.encoding, is_measured=False, report=certified
    )


def _said(groups: int, ballot: Ballot, why: Mapping[int, str]) -> str:
    if len(ballot.voting) == groups:
        return f"the models of {groups} groups vote"
    silent = [
        f"{number} ({why[number]})" if number in why else str(number)
        for number in range(1, groups + 1)
        if number not in ballot.voting
    ]
    return (
        f"the models of {len(ballot.voting)} of {groups} groups vote, and none of group {', '.join(silent)}"
    )
