"""The node's record of the tasks that it refused, for its own DBA.

What always holds: it holds what was told to the coordinator, word for word, and nothing beside it; it is
written outside the refused task's transactions, and that it cannot be written changes no refusal.
"""

from __future__ import annotations

import logging

from heliosdb.catalog.participant_view import insert_refusal
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import TaskKey
from heliosdb.node.database import Database

log = logging.getLogger(__name__)


def record_refusal(database: Database, key: TaskKey, dataset: str | None, error: FederatedError) -> None:
    """Count a refusal. dataset: the task's, where it is known.

    One of a database that is out of reach is no decision of the node's, and could not be written: it is in
    the log alone.
    """
    if error.code is ErrorCode.UNREACHABLE:
        return
    try:
        database.run(lambda connection: insert_refusal(connection, key, dataset, error))
    except FederatedError as failed:
        log.error("a refusal is in no catalog: %s", failed.message)
    except UnicodeEncodeError:
        log.error("a refusal is in no catalog: it names what the database's encoding has no characters for")
