"""`heliosdb verify-spending`: the signatures of nodes over their own ledgers, verified outside the database.

What always holds: it only reads; a node is in order where every signature is one of its
certificates', every row says what was signed, and the ledger shows no less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import psycopg

from heliosdb.catalog import spending
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.catalog.spending import Peer, SpendingRecord
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport.identity import fingerprint
from heliosdb.transport.update_messages import decode_update_header
from heliosdb.transport.verification import verify_update


def verify_spending(conninfo: str, workspace: str | None, show: Callable[[str], None]) -> bool:
    """Show a line for each node and one for each of its faults; return whether all that is signed holds.

    The role needs the rights of federated_auditor. FederatedError UNREACHABLE or PRIVILEGE.
    """
    seen = _read(conninfo, None if workspace is None else WorkspaceName(workspace))
    intact = True
    for peer, signed in groupby(seen.records, lambda one: (one.key.workspace, one.key.node)):
        found = [fault for node, fault in seen.faults[peer[0]] if node == peer[1]]
        intact = _verify_node(peer, list(signed), seen.certificates.get(peer, ()), found, show) and intact
    if not seen.records:
        show("no node has signed what it spent: nothing was verified")
    return intact and bool(seen.records)


@dataclass(frozen=True, slots=True)
class _Seen:
    records: Sequence[SpendingRecord]
    certificates: Mapping[Peer, Sequence[bytes]]
    faults: Mapping[WorkspaceName, Sequence[tuple[NodeName, str]]]


def _read(conninfo: str, workspace: WorkspaceName | None) -> _Seen:
    try:
        with connected(conninfo, application_name="heliosdb verify-spending") as connection:
            records = spending.list_signed(connection, workspace)
            certificates = spending.list_certificates(connection, workspace)
            names = {one.key.workspace for one in records}
            return _Seen(
                records, certificates, {name: spending.list_faults(connection, name) for name in names}
            )
    except psycopg.OperationalError as error:
        raise FederatedError(ErrorCode.UNREACHABLE, f"cannot reach the catalog: {error}") from error
    except psycopg.Error as error:
        raise FederatedError(
            ErrorCode.PRIVILEGE,
            f"cannot read what nodes signed: {error}",
            hint="The role needs the rights of federated_auditor, the catalog version 1.2 or later.",
        ) from error


def _verify_node(
    peer: Peer,
    records: Sequence[SpendingRecord],
    certificates: Sequence[bytes],
    disagreements: Sequence[str],
    show: Callable[[str], None],
) -> bool:
    faults = [fault for one in records for fault in _faults(one, certificates)] + list(disagreements)
    epsilon = max(one.signed.spending.epsilon_tight for one in records)
    pinned = ", ".join(sorted(fingerprint(one) for one in certificates)) or "none"
    show(
        f"{peer[0]} {peer[1]}: {len(records)} releases signed, epsilon {epsilon:.6g}, "
        f"{len(faults)} faults, certificate {pinned}"
    )
    for fault in faults:
        show(f"  {fault}")
    return not faults


def _faults(record: SpendingRecord, certificates: Sequence[bytes]) -> Iterator[str]:
    key, signed = record.key, record.signed
    where = f"round {key.round} of run {key.run}, step {key.step}: "
    if not verify_update(certificates, signed.header, signed.signature):
        yield where + "the signature is not of a certificate that was pinned for the node"
    try:
        header = decode_update_header(signed.header)
    except FederatedError as error:
        yield f"{where}the header cannot be read: {error.message}"
        return
    if (header.key, header.mechanism, header.spending) != (key, signed.mechanism, signed.spending):
        yield where + "the row does not say what was signed"
