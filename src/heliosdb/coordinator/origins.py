"""The version that a run begins with, opened: read until the run's round 0 is closed, and never after it.

What always holds: a version's state opens as that of its own run and round alone, and is what was kept; a
version that is not there any more, or was retired, ends the run, and nothing is begun with in its place.
"""

from __future__ import annotations

from heliosdb.catalog import origins
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.origins import StoredVersion
from heliosdb.catalog.rounds import StoredState
from heliosdb.coordinator.keeping import open_kept
from heliosdb.domain.classes import BINARY_LABELS
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings
from heliosdb.domain.origin import Origin
from heliosdb.domain.parent import Parent
from heliosdb.domain.run import Run
from heliosdb.parts.algorithms import has_classes
from heliosdb.parts.transfer import check_source
from heliosdb.transport.at_rest import AtRestKey


def find_origin(connection: Connection, run: Run, key: AtRestKey) -> Origin | None:
    """Return what a run begins with; None where it begins with no version, or goes on from a file, which has
    that already. FederatedError where the version is not there, or the run cannot begin with it."""
    if run.parent is None or run.is_resumed:
        return None
    stored = origins.find_version(connection, run.parent)
    if stored is None or stored.is_retired:
        raise _gone(run.parent, stored)
    check_source(run.options, run.parent.name, stored.options)
    state = StoredState(stored.sealed, stored.sha256, None)
    found = Findings.from_json(stored.scaling, None)
    if found.scaling is None:
        raise FederatedError(ErrorCode.WRONG_STATE, f"the scaling of {run.parent.name} was not kept")
    return Origin(
        run.parent.name,
        stored.options.features if found.encoding is None else found.encoding.inputs,
        _classes(stored, found),
        found.scaling,
        open_kept(state, run.parent.run, stored.round, key).model.state,
    )


def _classes(stored: StoredVersion, found: Findings) -> tuple[str, ...]:
    if found.encoding is not None:
        return found.encoding.classes
    options = stored.options
    if found.number_target or not has_classes(options.algorithm, options.given):
        return ()
    return options.target_classes or BINARY_LABELS


def _gone(parent: Parent, stored: StoredVersion | None) -> FederatedError:
    what = (
        "was dropped" if stored is None else "was retired: data subjects were erased that it had learned from"
    )
    return FederatedError(
        ErrorCode.WRONG_STATE,
        f"{parent.name}, with which the run was to begin, {what}",
        hint="START FEDERATED TRAINING with another version, or without transfer_from.",
    )
