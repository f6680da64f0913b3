"""Which entries of an exported log were emptied for their age: by stubs that a coordinator signed.

What always holds: an entry passes without its hash being computed only where it is empty and lies in a stub
that was signed with a key that is trusted; the hashes of each stub's entries must be those that were signed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from heliosdb.cli.audit_files import LogFile, SignedStub
from heliosdb.domain.audit_entry import AuditEntry
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.retention import EmptiedEntries, read_emptied
from heliosdb.domain.tree_head import Log
from heliosdb.transport.head_signatures import find_head_signer
from heliosdb.transport.identity import verify


@dataclass(frozen=True, slots=True)
class Emptied:
    """What was emptied of one chain. stubs: in the order of their first entries."""

    stubs: tuple[EmptiedEntries, ...] = ()
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def covers(self, position: int) -> bool:
        """Tell whether a stub is over the entry at a position."""
        place = bisect_right(self.starts, position) - 1
        return place >= 0 and position <= self.ends[place]

    def faults(self, entries: Sequence[AuditEntry]) -> Iterator[str]:
        """Say of which stubs the hashes are not those of the chain's entries, given in their order."""
        for one in self.stubs:
            hashes = b"".join(entry.leaf for entry in entries[one.first - 1 : one.last])
            if one.last > len(entries) or hashlib.sha256(hashes).digest() != one.sha256:
                yield f"entries {one.first} to {one.last} are not those that were emptied for their age"


NOTHING = Emptied()


def read_stubs(log: LogFile, trusted: Sequence[bytes] | None) -> tuple[Mapping[Log, Emptied], list[str]]:
    """Return what was emptied of each chain, and what is wrong with stubs, which are then not counted.

    trusted: certificates (PEM) of coordinators; None: those with whose keys the log's own heads are signed, a
    stub's own where it has no head.
    """
    keys = _own_keys(log) if trusted is None else trusted
    chains: dict[Log, list[EmptiedEntries]] = {}
    faults: list[str] = []
    for stub in log.stubs:
        try:
            whose, emptied = read_emptied(stub.signed.statement)
            is_signed = _is_signed(stub, keys)
        except FederatedError as error:
            faults.append(error.message)
            continue
        if not is_signed:
            which = f"entries {emptied.first} to {emptied.last}"
            faults.append(f"no coordinator that is known signed that {which} were emptied for their age")
        elif whose[0] != log.workspace:
            faults.append(f"a stub is of workspace {whose[0]!r}")
        else:
            chains.setdefault(whose, []).append(emptied)
    return {whose: _emptied(stubs) for whose, stubs in chains.items()}, faults


def _own_keys(log: LogFile) -> Sequence[bytes]:
    keys: set[bytes] = set()
    for head in log.heads:
        try:
            if find_head_signer([head.certificate], head.signed) is not None:
                keys.add(head.certificate)
        except FederatedError:
            continue
    return sorted(keys)


def _is_signed(stub: SignedStub, keys: Sequence[bytes]) -> bool:
    signed = stub.signed
    return any(verify(key, signed.statement, signed.signature) for key in keys or [stub.certificate])


def _emptied(stubs: Sequence[EmptiedEntries]) -> Emptied:
    """Ranges that touch are one: a chain is emptied from its beginning on, a part at a time."""
    ordered = sorted(stubs, key=lambda one: (one.first, one.last))
    starts: list[int] = []
    ends: list[int] = []
    for one in ordered:
        if ends and one.first <= ends[-1] + 1:
            ends[-1] = max(ends[-1], one.last)
        else:
            starts.append(one.first)
            ends.append(one.last)
    return Emptied(tuple(ordered), tuple(starts), tuple(ends))
