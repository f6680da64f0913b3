"""What nodes are told when a run has ended: which runs of its workspace are over, so that they forget them.

What always holds: nothing depends on it: a node that does not hear drops what it remembers when the next run
ends, or after its own time; a run that goes on, or begins meanwhile, is not among those that are named;
nobody waits longer than `_PATIENCE`.
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


async def say_farewell(members: Iterable[Member], workspace: WorkspaceName, ended: frozenset[RunId]) -> None:
    """Tell the nodes that are there which runs have ended."""
    await asyncio.gather(*(_tell(member, workspace, ended) for member in members))


async def _tell(member: Member, workspace: WorkspaceName, ended: frozenset[RunId]) -> None:
    try:
        await member.client.forget(workspace, member.name, ended, _PATIENCE)
    except FederatedError as error:
        log.info("node %s did not hear that a run has ended: %s", member.name, error.message)
