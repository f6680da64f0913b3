"""What makes a closed round a checkpoint, and how a run goes on from one.

What always holds: a manifest opens only with the coordinator's key and as that of its run and round; it names
the SHA-256 of every sealed state that belongs to it, and holds all else that a run goes on from. So nothing
that was not sealed together is ever trained from: no other options, policy, figures or states. The ledger is
no part of it: what was spent stays spent. A run of a series has no checkpoints.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliosdb.catalog import checkpoints, rounds, runs
from heliosdb.catalog.checkpoints import Beginning
from heliosdb.catalog.connection import Connection
from heliosdb.coordinator.course import Course
from heliosdb.coordinator.keeping import scope_of, seal_again
from heliosdb.domain.checkpoint import MANIFEST
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.ids import RunId
from heliosdb.domain.run import Run
from heliosdb.domain.sealed_format import sealed_digest
from heliosdb.parts.selections import ComparedNodes, NodesInTurn, read_selection
from heliosdb.transport.at_rest import AtRestKey, UnopenedError

FORMAT = 1
MOST_INTERNAL = 16
"""Checkpoints of a run that the catalog keeps."""
MOST_INTERNAL_BYTES = 2**30
"""And how many bytes they may be; the newest is kept however large."""

_MOST_BYTES = 2**28
_UNOPENED = (
    "the checkpoint does not open with this coordinator's key: another coordinator made it, or it was changed"
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is sealed of a checkpoint beside its states. states: `sealed_digest` of each part by its name;
    kept: the round whose state may be published; described: JSON of `describe_run`.
    """

    states: dict[str, str]
    kept: int
    described: str

    def seal(self, run: RunId, number: int, key: AtRestKey, *, workspace: str = "") -> bytes:
        """Seal it for this run and round alone."""
        said = {"format": FORMAT, "states": self.states, "kept": self.kept, "described": self.described}
        packed = zlib.compress(json.dumps(said).encode(), 1)
        return key.seal(packed, about=_about(run, number), scope=scope_of(workspace))

    @classmethod
    def open(cls, sealed: bytes, run: RunId, number: int, key: AtRestKey) -> Manifest:
        """Open what `seal` made; FederatedError IDENTITY for all else, NOT_SUPPORTED for a later format."""
        try:
            packed = key.open(sealed, about=_about(run, number))
        except UnopenedError:
            raise FederatedError(
                ErrorCode.IDENTITY,
                _UNOPENED,
                hint="Coordinators that share runs share the key files of the state directory.",
            ) from None
        said = json.loads(zlib.decompressobj().decompress(packed, _MOST_BYTES))
        if said["format"] != FORMAT:
            raise not_supported(f"the checkpoint's manifest is of format {said['format']}, not {FORMAT}")
        return cls(said["states"], said["kept"], said["described"])


def keep_checkpoint(connection: Connection, run: Run, number: int, kept: int, key: AtRestKey) -> None:
    """Make a round that was just closed a checkpoint, and keep it where the run's options ask for that.

    kept: the round whose state may be published.
    """
    if run.series is not None:
        return
    states, size = {}, 0
    for one in checkpoints.hash_states(connection, run.id, (number, kept)):
        states[f"state/{one.round}"] = one.state
        if one.memory is not None:
            states[f"memory/{one.round}"] = one.memory
        size += one.bytes
    manifest = Manifest(states, kept, checkpoints.describe_run(connection, run.id))
    sealed = manifest.seal(run.id, number, key, workspace=run.policy.workspace)
    checkpoints.put_manifest(connection, run.id, number, kept, sealed)
    every = run.options.given.get("checkpoint_every")
    if every is not None and number > 0 and number % every == 0:
        digest = sealed_digest(sealed)
        checkpoints.insert_internal(connection, run.id, number, size + len(sealed), digest)
        checkpoints.delete_internal(connection, run.id, thin(checkpoints.list_internal(connection, run.id)))


def check_closed(
    connection: Connection, run: RunId, number: int, stored: rounds.StoredState, key: AtRestKey
) -> None:
    """FederatedError IDENTITY where a closed round's state is not the one that was sealed with its manifest:
    one of an earlier exchange, say, that was put back. A run of a series has no manifest.
    """
    sealed = checkpoints.find_manifest(connection, run, number)
    if sealed is None:
        return
    manifest = Manifest.open(sealed, run, number, key)
    found = {f"state/{number}": sealed_digest(stored.sealed).hex()}
    if stored.memory is not None:
        found[f"memory/{number}"] = sealed_digest(stored.memory).hex()
    if found != {name: one for name, one in manifest.states.items() if name in _parts_of(number)}:
        raise FederatedError(
            ErrorCode.IDENTITY, f"the parameters of round {number} are not those that were sealed with it"
        )


def _parts_of(number: int) -> tuple[str, str]:
    return f"state/{number}", f"memory/{number}"


def thin(
    there: Sequence[tuple[int, int]], *, most: int = MOST_INTERNAL, most_bytes: int = MOST_INTERNAL_BYTES
) -> set[int]:
    """Return which rounds' checkpoints to drop. there: rounds and bytes, in order.

    What goes first is the one whose neighbours are nearest to each other; the first and the newest stay as
    long as there are more. So those that stay are spread over the run.
    """
    left, dropped = list(there), set()
    while len(left) > 1 and (len(left) > most or sum(size for _, size in left) > most_bytes):
        gaps = [left[place + 1][0] - left[place - 1][0] for place in range(1, len(left) - 1)]
        place = 1 + gaps.index(min(gaps)) if gaps else 0
        dropped.add(left.pop(place)[0])
    return dropped


def begin(connection: Connection, run: RunId, key: AtRestKey) -> None:
    """Bring a run that was just claimed to where it goes on from; FederatedError, with nothing changed, where
    it cannot.

    Of a file, without a budget, that is round 0: nodes answer no run that has not asked them for what it
    begins with, and what they say then has to be what the file has. `take_up` does the rest.
    """
    found = checkpoints.find_beginning(connection, run)
    if found is None:
        return
    if found.is_unread:
        try:
            with connection.transaction():
                _adopt(connection, run, found, key)
        except FederatedError:
            checkpoints.delete_resumptions(connection, run)
            raise
    elif found.closed is not None and found.has_failed:
        _rewind(connection, run, found.closed, key)


def take_up(connection: Connection, run: Run, key: AtRestKey) -> None:
    """Have a run go on from its file, behind round 0; FederatedError where that found something else."""
    found = checkpoints.find_beginning(connection, run.id)
    record = runs.find_run(connection, run.id)
    assert found is not None
    assert record is not None
    manifest, parts = _read(connection, run.id, found, key)
    scaling = json.loads(manifest.described)["scaling"]
    if _without_end(record.scaling) != _without_end(scaling):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "the nodes' answers to round 0 are not those that the checkpoint began with",
            hint="Other nodes take part, or their rows have changed. Start the training anew.",
        )
    _put(connection, run, found, (manifest, parts), key)


def _rewind(connection: Connection, run: RunId, closed: int, key: AtRestKey) -> None:
    """Forget what the round that was given up had found; one that 1.1 closed had no round find anything."""
    sealed = checkpoints.find_manifest(connection, run, closed)
    if sealed is not None:
        described = json.loads(Manifest.open(sealed, run, closed, key).described)
        runs.set_findings(connection, run, described["scaling"], described["plan"])


def _adopt(connection: Connection, run: RunId, found: Beginning, key: AtRestKey) -> None:
    """Give a run the options and the policy of its file; under a budget, all of it."""
    manifest, parts = _read(connection, run, found, key)
    _check_same(found, json.loads(manifest.described))
    checkpoints.adopt_run(connection, run, manifest.described)
    record = runs.find_run(connection, run)
    assert record is not None
    remembered = Course.of(record.run).remembered
    if remembered is not None:
        raise not_supported(
            f"a checkpoint does not go on as another run: nodes remember {remembered} of the run itself",
            hint="RESUME FEDERATED TRAINING goes on with the run itself while it is the model's last one.",
        )
    selection = record.run.policy.node_selection
    if isinstance(read_selection(selection)[1], ComparedNodes | NodesInTurn):
        raise not_supported(
            f"a checkpoint does not go on as another run: node_selection {selection} ranks by its own rounds",
            hint="RESUME FEDERATED TRAINING goes on with the run itself while it is the model's last one.",
        )
    if record.run.policy.budget is not None:
        _put(connection, record.run, found, (manifest, parts), key)


def _read(
    connection: Connection, run: RunId, found: Beginning, key: AtRestKey
) -> tuple[Manifest, Mapping[str, bytes]]:
    """Return what a file handed over, once it is known to have been sealed together."""
    assert found.resumed_from is not None
    names = checkpoints.list_parts(connection, run)
    parts = {name: checkpoints.read_part(connection, run, name) for name in names}
    manifest = Manifest.open(parts.pop(MANIFEST, b""), found.resumed_from, found.resumed_round, key)
    if {name: sealed_digest(part).hex() for name, part in parts.items()} != manifest.states:
        raise FederatedError(
            ErrorCode.IDENTITY, "the checkpoint's states are not those that were sealed with it"
        )
    return manifest, parts


def _put(
    connection: Connection,
    run: Run,
    found: Beginning,
    read: tuple[Manifest, Mapping[str, bytes]],
    key: AtRestKey,
) -> None:
    """Write closed rounds and states, as those of the run."""
    (manifest, parts), origin, number = read, found.resumed_from, found.resumed_round
    assert origin is not None
    described = json.loads(manifest.described)
    runs.set_findings(connection, run.id, described["scaling"], described["plan"])
    checkpoints.adopt_rounds(connection, run.id, manifest.described, f"from a checkpoint of run {origin}")
    if run.policy.budget is not None:
        checkpoints.adopt_answers(connection, run.id, manifest.described)
    needed = {number, manifest.kept}
    for kept in sorted(needed):
        sealed, memory = parts[f"state/{kept}"], parts.get(f"memory/{kept}")
        workspace = run.policy.workspace
        again = seal_again(sealed, memory, kept, key, run=origin, other=run.id, workspace=workspace)
        rounds.put_state(connection, run.id, kept, again)
    rounds.delete_other_states(connection, run.id, needed)
    keep_checkpoint(connection, run, number, manifest.kept, key)
    checkpoints.delete_resumptions(connection, run.id)


def _without_end(scaling: Mapping[str, Any] | None) -> dict[str, Any]:
    """What round 0 alone has found."""
    return {name: value for name, value in (scaling or {}).items() if name != "ended"}


def _check_same(found: Beginning, described: Mapping[str, Any]) -> None:
    if described["workspace"] != found.workspace:
        raise invalid_value(f'the checkpoint is of federated workspace "{described["workspace"]}"')
    if described["model"] != found.model and not found.is_own:
        raise invalid_value(f'the checkpoint is of federated model "{described["model"]}"')


def _about(run: RunId, number: int) -> bytes:
    return b"checkpoint\0" + run.bytes + number.to_bytes(8, "little")
