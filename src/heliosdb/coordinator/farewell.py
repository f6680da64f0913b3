"""What nodes are told when a run has ended: which runs of its workspace go on, so that they forget the
others.

What always holds: nothing depends on it: a node that does not hear drops what it remembers at the next run's
end, or after its own time; nobody waits longer than `_PATIENCE`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from heliosdb.coordinator.directory import Member
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import RunId, WorkspaceName

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds."""


async def say_farewell(members: Iterable[Member], workspace: WorkspaceName, kept: frozenset[RunId]) -> None:
    """Tell the nodes that are there which runs are queued or running."""
    await asyncio.gather(*(_tell(member, workspace, kept) for member in members))


async def _tell(member: Member, workspace: WorkspaceName, kept: frozenset[RunId]) -> None:
    try:
        await member.client.forget(workspace, member.name, kept, _PATIENCE)
    except FederatedError as error:
        log.info("node %s did not hear that a run has ended: %s", member.name, error.message)
