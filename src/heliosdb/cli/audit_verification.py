"""An exported audit log against its own hashes, its signed heads, and the heads that nodes hold: offline.

What always holds: everything is computed anew from the entries; nothing in the log's own file is trusted, its
certificates neither where others are known; each fault is found once, with the first position at which it
may lie.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heliosdb.cli.audit_files import Cosignature, Head, HeadsFile, LogFile
from heliosdb.cli.audit_stubs import NOTHING, Emptied, read_stubs
from heliosdb.domain.audit_entry import AuditEntry, entry_hash
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.log_check import compare
from heliosdb.domain.tree_head import Log, TreeHead, parse_head, parse_witnessed
from heliosdb.domain.wording import counted
from heliosdb.transport.head_signatures import find_head_signer, verify_witnessed
from heliosdb.transport.identity import fingerprint


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong. kind: entry, chain, stub, head, cosignature, held head, conflict."""

    kind: str
    reason: str


@dataclass(slots=True)
class Verification:
    """What was found. held: by log, how many entries the largest head that a node holds is over. emptied: by
    log, how many entries are empty for their age."""

    faults: list[Fault] = field(default_factory=list)
    entries: dict[Log, int] = field(default_factory=dict)
    held: dict[Log, int] = field(default_factory=dict)
    emptied: dict[Log, int] = field(default_factory=dict)

    def add(self, kind: str, reason: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(kind, reason))


def verify_log(log: LogFile, held: Sequence[HeadsFile], certificates: Sequence[bytes] = ()) -> Verification:
    """Verify a log. held: what nodes hold. certificates: of coordinators (PEM), which are trusted; without
    any, those of the heads that nodes hold, which were pinned there."""
    found = Verification()
    trusted = _trusted(held, certificates)
    emptied, faults = read_stubs(log, trusted)
    for reason in faults:
        found.add("stub", reason)
    chains = _chains(log, emptied, found)
    own = _signed_heads(log, trusted, found)
    theirs = _held_heads(log, held, certificates, found)
    _find_conflicts(log, held, certificates, chains, found)
    for one in sorted(own.keys() | theirs.keys() | chains.keys()):
        leaves = [entry.leaf for entry in chains.get(one, ())]
        found.entries[one] = len(leaves)
        heads = own.get(one, [])
        for kind, compared in (("head", heads), ("held head", theirs.get(one, []))):
            fault = compare(leaves, compared)
            if fault is not None:
                found.add(kind, f"{_named(one, log)}{fault.reason}")
        if theirs.get(one):
            found.held[one] = max(head.size for head, _ in theirs[one])
    return found


def _chains(
    log: LogFile, emptied: Mapping[Log, Emptied], found: Verification
) -> Mapping[Log, Sequence[AuditEntry]]:
    chains: dict[Log, list[AuditEntry]] = {}
    for entry in log.entries:
        if entry.workspace != log.workspace:
            found.add("entry", f"entry {entry.chain_position} is of workspace {entry.workspace!r}")
            continue
        try:
            chain = chains.setdefault(entry.log, [])
            _ = entry.leaf
        except FederatedError as error:
            found.add("entry", error.message)
            continue
        chain.append(entry)
    for one in chains.keys() | emptied.keys():
        entries, stubs = chains.get(one, []), emptied.get(one, NOTHING)
        for kind, reasons in (("chain", _chain_faults(entries, stubs)), ("stub", stubs.faults(entries))):
            reason = next(reasons, None)
            if reason is not None:
                found.add(kind, f"{_named(one, log)}{reason}")
        found.emptied[one] = sum(entry.is_emptied for entry in entries)
    _find_adopted(log, chains, found)
    return chains


def _chain_faults(entries: Sequence[AuditEntry], emptied: Emptied) -> Iterator[str]:
    before = ""
    for place, entry in enumerate(entries, 1):
        if entry.chain_position != place:
            yield f"entry {place} is missing"
        # Of an entry that was emptied for its age the hash is all there is: its stub has it too.
        is_recorded = entry.is_emptied if emptied.covers(place) else entry_hash(entry) == entry.hash
        if not is_recorded:
            yield f"entry {place} is not what was recorded"
        if entry.previous_hash != before:
            yield f"entry {place} does not follow the one before it"
        before = entry.hash


def _find_adopted(log: LogFile, chains: Mapping[Log, Sequence[AuditEntry]], found: Verification) -> None:
    """Each chain that a dump brought along is named, with its end, by the one that goes on from it."""
    ends = {(str(one[1]), len(entries), entries[-1].hash) for one, entries in chains.items() if entries}
    for entry in log.entries:
        if (entry.action, entry.object_kind) != ("adopt", "audit") or entry.is_emptied:
            continue
        if _adopted(entry) not in ends:
            found.add("chain", f"the chain that entry {entry.chain_position} adopted is not there as it was")


def _adopted(entry: AuditEntry) -> tuple[object, ...]:
    try:
        details = json.loads(entry.details)
        return tuple(details.get(name) for name in ("origin", "entries", "head_hash"))
    except (ValueError, AttributeError, RecursionError):
        return ()


def _trusted(held: Sequence[HeadsFile], certificates: Sequence[bytes]) -> Sequence[bytes] | None:
    if certificates:
        return certificates
    pinned = {head.certificate for one in held for head in one.heads}
    return sorted(pinned) if pinned else None


def _signed_heads(
    log: LogFile, trusted: Sequence[bytes] | None, found: Verification
) -> dict[Log, list[tuple[TreeHead, str]]]:
    heads: dict[Log, list[tuple[TreeHead, str]]] = {}
    signed = {}
    for one in log.heads:
        head = _read_head(one, trusted if trusted is not None else [one.certificate])
        if head is None:
            whose = "any coordinator that is known" if trusted is not None else "its certificate"
            found.add("head", f"a head in the log's own file is not signed with the key of {whose}")
        elif head.workspace != log.workspace:
            found.add("head", f"a head in the log's own file is of workspace {head.workspace!r}")
        else:
            signed[one.signed.sha256] = head
            heads.setdefault(head.log, []).append((head, f"its own head signed at {_time(head)}"))
    for cosignature in log.cosignatures:
        _check_cosignature(cosignature, signed, found)
    return heads


def _check_cosignature(one: Cosignature, heads: Mapping[bytes, TreeHead], found: Verification) -> None:
    try:
        witnessed = parse_witnessed(one.signed.statement)
        valid = verify_witnessed([one.certificate], one.signed)
    except FederatedError:
        valid, witnessed = False, None
    if witnessed is None or not valid or witnessed.node != one.node:
        found.add("cosignature", f'a cosignature of node "{one.node}" is not made with its key')
    elif witnessed.head_sha256 not in heads:
        found.add("cosignature", f'node "{one.node}" cosigned a head that is not in the file')


def _held_heads(
    log: LogFile, held: Sequence[HeadsFile], certificates: Sequence[bytes], found: Verification
) -> dict[Log, list[tuple[TreeHead, str]]]:
    heads: dict[Log, list[tuple[TreeHead, str]]] = {}
    for file in held:
        for one in file.heads:
            head = _read_head(one, certificates or [one.certificate])
            if head is None:
                found.add("held head", f"{file.name}: a head is not signed with the coordinator's key")
            elif head.workspace == log.workspace:
                whose = f"the head over {_entries(head.size)} in {file.name}, signed at {_time(head)},"
                heads.setdefault(head.log, []).append((head, whose))
    return heads


def _find_conflicts(
    log: LogFile,
    held: Sequence[HeadsFile],
    certificates: Sequence[bytes],
    chains: Mapping[Log, Sequence[AuditEntry]],
    found: Verification,
) -> None:
    """What nodes refused; not where the log has both heads, and the larger is the later one."""
    for file in held:
        for refused in file.conflicts:
            ours, offered = (_read_head(one, certificates or [one.certificate]) for one in refused)
            if ours is None or offered is None or offered.workspace != log.workspace:
                continue
            leaves = [entry.leaf for entry in chains.get(offered.log, ())]
            both = compare(leaves, [(ours, ""), (offered, "")]) is None
            if not (both and offered.size > ours.size):
                found.add(
                    "conflict",
                    f"{file.name}: the node was shown a head over {_entries(offered.size)}, signed at "
                    f"{_time(offered)}, which does not continue the one over {ours.size} that it held",
                )


def _read_head(one: Head, certificates: Sequence[bytes]) -> TreeHead | None:
    try:
        if find_head_signer(certificates, one.signed) is None:
            return None
        return parse_head(one.signed.statement)
    except FederatedError:
        return None


def _named(one: Log, log: LogFile) -> str:
    """What to say before a fault of a chain: which, where the file has several."""
    origins = {entry.origin for entry in log.entries}
    return f"chain {one[1]}: " if origins != {str(one[1])} else ""


def _entries(number: int) -> str:
    return counted(number, "entry", "entries")


def _time(head: TreeHead) -> str:
    return f"{head.signed_at:%Y-%m-%d %H:%M:%S} UTC"


def describe(found: Verification, log: LogFile, held: Sequence[HeadsFile]) -> Iterator[str]:
    """The lines that say what was found."""
    for one, entries in found.entries.items():
        covered = found.held.get(one, 0)
        yield f"{one[0]} {one[1]}: {_entries(entries)}, of which heads that nodes hold cover {covered}"
        if emptied := found.emptied.get(one):
            yield f"  emptied since: {emptied}; hashes tell that they were there, not what they said"
        if covered < entries:
            beyond = f"{covered + 1} to {entries}" if covered + 1 < entries else str(entries)
            yield f"  no head that was given shows that entries {beyond} are as they were written"
    yield f"{len(found.faults)} faults"
    for fault in found.faults:
        yield f"  {fault.kind}: {fault.reason}"
    seen = {one.certificate for file in held for one in file.heads} or {one.certificate for one in log.heads}
    for certificate in sorted(fingerprint(one) for one in seen):
        yield f"  signed with the key of certificate {certificate}"
