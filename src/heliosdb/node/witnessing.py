"""A node as witness of its workspaces' audit logs: it cosigns heads that continue what it has seen.

What always holds: of a log the node cosigns one history only, whoever asks; a head that it refuses is kept
beside the one that it holds, both signed; what is said of it is committed first. No row is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import StrEnum

from heliosdb import faults
from heliosdb.catalog import witnessed_heads as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.witnessed_heads import Conflict, WitnessedHead
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.merkle import verify_consistency
from heliosdb.domain.tree_head import TreeHead, WitnessAnswer, Witnessed, WitnessRequest, parse_head
from heliosdb.domain.wording import counted
from heliosdb.node.database import Database
from heliosdb.transport.head_signatures import find_head_signer, sign_witnessed
from heliosdb.transport.limits import MAX_LOGS
from heliosdb.transport.messages import printable
from heliosdb.transport.server import ServerIdentity

log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What a head is to a node that holds another one of the same log."""

    CONTINUES = "continues"
    SAME = "same"
    ELSEWHERE = "elsewhere"
    """The path does not begin at the head that is held, or the head is an old one: nothing is shown."""
    FORKED = "forked"
    ROLLED_BACK = "rolled back"


def judge(held: TreeHead | None, head: TreeHead, request: WitnessRequest) -> Verdict:
    """Tell what a head of a log is to whoever holds `held` of it, by the path that came with it."""
    if held is None:
        return Verdict.CONTINUES
    if head.size == held.size:
        return Verdict.SAME if head.root == held.root else Verdict.FORKED
    if head.size < held.size:
        # The coordinator's database dates its heads: an honest one signs no smaller head later.
        return Verdict.ROLLED_BACK if head.signed_at > held.signed_at else Verdict.ELSEWHERE
    if request.held_size != held.size:
        return Verdict.ELSEWHERE
    shown = verify_consistency(held.size, held.root, head.size, head.root, request.path)
    return Verdict.CONTINUES if shown else Verdict.FORKED


class Witness:
    """Judges heads. identity: what the node shows, and which coordinator's certificates it has pinned."""

    def __init__(self, database: Database, identity: Callable[[], ServerIdentity]) -> None:
        self._database = database
        self._identity = identity

    async def witness(self, request: WitnessRequest) -> WitnessAnswer:
        """Cosign a head, or say why not; FederatedError IDENTITY where no pinned coordinator signed it."""
        return await asyncio.to_thread(self._witness, request)

    def _witness(self, request: WitnessRequest) -> WitnessAnswer:
        identity = self._identity()
        head = parse_head(request.head.statement)
        if head.workspace != request.workspace:
            raise FederatedError(ErrorCode.INVALID_VALUE, "the head is of another workspace's audit log")
        signer = find_head_signer(identity.pinned, request.head)
        if signer is None:
            log.error("audit log of workspace %s: a head is not signed by the coordinator", _shown(head))
            raise FederatedError(ErrorCode.IDENTITY, "the head is not signed by the pinned coordinator")

        def operation(connection: Connection) -> WitnessAnswer:
            with connection.transaction():
                catalog.hold_workspace(connection, request.workspace)
                answer = _take(connection, request, head, signer, identity)
            faults.reach("node.head.committed")
            return answer

        return self._database.run(operation)


def _take(
    connection: Connection, request: WitnessRequest, head: TreeHead, signer: bytes, identity: ServerIdentity
) -> WitnessAnswer:
    held = catalog.list_held(connection, request.workspace)
    last = next((one for one in held if one.head.log == head.log), None)
    verdict = judge(None if last is None else last.head, head, request)
    match verdict:
        case Verdict.ELSEWHERE:
            return _answer(held)
        case Verdict.FORKED | Verdict.ROLLED_BACK:
            assert last is not None
            conflict = Conflict(verdict, last.signed, last.certificate, request.head, signer)
            catalog.store_conflict(connection, head, conflict)
            refusal = _refusal(verdict, last.head, head)
            log.error("audit log of workspace %s: %s", _shown(head), refusal)
            return _answer(held, refusal=refusal)
        case Verdict.CONTINUES if last is None and _is_full(connection, held):
            log.error("audit log of workspace %s: this node holds heads of too many logs", _shown(head))
            return _answer(held, refusal="this node holds heads of too many logs already")
    cosigned = _cosign(connection, request, signer, identity)
    if verdict is Verdict.CONTINUES:
        catalog.store_witnessed(connection, head, cosigned)
        held = [one for one in held if one.head.log != head.log] + [cosigned]
    return _answer(held, cosigned=cosigned)


def _is_full(connection: Connection, held: Sequence[WitnessedHead]) -> bool:
    """Whether heads of no further log are taken: of this workspace, or of any."""
    return len(held) >= MAX_LOGS or catalog.count_logs(connection) >= catalog.MOST_LOGS


def _cosign(
    connection: Connection, request: WitnessRequest, signer: bytes, identity: ServerIdentity
) -> WitnessedHead:
    """The same head once more is signed once more: nobody but the node can tell how often."""
    witnessed = Witnessed(request.head.sha256, request.node, catalog.read_time(connection))
    cosignature = sign_witnessed(identity.identity, witnessed.statement())
    return WitnessedHead(request.head, signer, request.node, cosignature)


def _answer(
    held: Sequence[WitnessedHead], *, cosigned: WitnessedHead | None = None, refusal: str | None = None
) -> WitnessAnswer:
    cosignature = None if cosigned is None else cosigned.cosignature
    return WitnessAnswer(cosignature, refusal, catalog.held_statements(held))


def _refusal(verdict: Verdict, held: TreeHead, head: TreeHead) -> str:
    ours = f"the one over {held.size} that this node holds"
    if verdict is Verdict.ROLLED_BACK:
        return f"the head over {counted(head.size, 'entry', 'entries')} was signed after {ours}"
    return f"the head over {counted(head.size, 'entry', 'entries')} does not continue {ours}"


def _shown(head: TreeHead) -> str:
    return printable(head.workspace)
