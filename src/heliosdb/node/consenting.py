"""Consent at a node: what is said of it is entered into the register, and before each answer says whom it is
about.

What always holds: an order is answered by the same words whoever the subject is and whatever the register
says of him; what this node's own DBA has said is in the register before the node's next answer; whether there
is an answer, and what it costs, depends on nobody's consent. What is recalled of the register is a guess,
which the release door holds against it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any

from federated_sql.compliance import requires_consent
from heliosdb.algorithms.steps import REPORT
from heliosdb.catalog import consent_register as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.consent_register import Request
from heliosdb.catalog.consents import ABOUT, Kind, Said, find_node_key
from heliosdb.catalog.node_orders import SubjectDigests, hold_subject, list_subject_codes
from heliosdb.catalog.participant import SharedDataset
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.orders import OrderKind, OrderOutcome
from heliosdb.domain.sealed_box import UnopenedBoxError
from heliosdb.domain.task import Task
from heliosdb.node.admission import Admission, subject_digests
from heliosdb.node.carrying import Carrying
from heliosdb.node.database import Database
from heliosdb.node.datasets import table_key
from heliosdb.node.policy import refused
from heliosdb.transport.sealing import SealingKey

log = logging.getLogger(__name__)

_MOST_TEXT = 256
_MOST_RECALLED = 64

_EAGER, _PAUSE = 1.0, 5.0
"""Seconds between two looks at what was said: before there has been one, and after."""


def record_consent(carrying: Carrying) -> OrderOutcome:
    """Enter what the coordinator orders into the register; nothing is told of whether the node has the
    subject."""
    order = carrying.order
    kind: Kind = "grant" if order.kind is OrderKind.GRANT else "revoke"
    purpose, version = _term(order.terms, "purpose"), _term(order.terms, "version")
    said = Said(order.workspace, kind, purpose, version)
    said_at = _time(order.terms.get("said_at"))
    digests = _digests(carrying.connection, order.workspace, order.subject, carrying.key)
    catalog.record_order(carrying.connection, said, digests, order.order_id, said_at)
    return OrderOutcome("recorded", (), {"purpose": purpose, "version": version})


def _term(terms: Any, name: str) -> str | None:
    found = terms.get(name)
    if found is None or (
        isinstance(found, str) and 0 < len(found.encode()) <= _MOST_TEXT and "\0" not in found
    ):
        return found
    raise invalid_value(f"the order's {name} is not a text of at most {_MOST_TEXT} bytes")


def _time(text: object) -> datetime:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid_value("the order does not say when it was given")
    return found


def _digests(connection: Connection, workspace: str, subject: str, key: bytes) -> list[SubjectDigests]:
    """By what the register knows a subject; nothing for a text that no column of this database can hold."""
    if not hold_subject(connection, subject):
        return []
    return subject_digests(list_subject_codes(connection, WorkspaceName(workspace)), key)


def asks_consent(task: Task, dataset: SharedDataset) -> bool:
    """Whether the dataset's rows are read only of who has consented: as its DBA says, else by the task's
    compliance mode."""
    if dataset.consent_query is not None:
        return True
    if dataset.require_consent is not None:
        return dataset.require_consent
    return requires_consent(task.compliance_mode)


def check_consent_can_be_asked(task: Task, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where consent is asked for and nobody says whose each row is."""
    if dataset.subject is None and asks_consent(task, dataset):
        raise refused(
            f'dataset "{dataset.name}" has no subject, and under compliance_mode {task.compliance_mode}'
            " only rows of data subjects who have consented are read",
            hint="The node's own DBA shares it again WITH (subject = 'column'); or, on another ground"
            " than consent, says ALTER FEDERATED DATASET ... SET (require_consent = false).",
        )


class Consents:
    """One node's register of consent. secret: 32 bytes, never leaving."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._subject_key = table_key(secret)
        self._box_key = SealingKey(hmac.digest(secret, b"consent requests", hashlib.sha256))
        self._is_published = False
        # By a dataset and whether consent was asked for, what the register said last.
        self._recalled: OrderedDict[tuple[int, bool], Admission] = OrderedDict()

    def recall(self, task: Task, dataset: SharedDataset) -> Admission | None:
        """Whom an answer was about last, without asking the database; None where that is not known."""
        if task.key.step == REPORT:
            return None
        return self._recalled.get((dataset.dataset_id, self._asks_register(task, dataset)))

    def forget(self) -> None:
        """Recall nothing of the register: it says something else by now."""
        self._recalled.clear()

    def admit(self, task: Task, dataset: SharedDataset) -> Admission:
        """Whom an answer is about; FederatedError NODE_REFUSED as `take` has it.

        Where the dataset has a consent_query, the training process finds out who is in it (node/worker.py).
        """
        self.take()
        granted = self._asks_register(task, dataset)
        explains = task.key.step == REPORT
        words = self._database.run(
            lambda connection: catalog.read_words(connection, dataset, granted=granted, unexplained=explains)
        )
        admission = Admission(words.withdrawn, words.granted, words.unexplained)
        if not explains:
            self._recalled[dataset.dataset_id, granted] = admission
            if len(self._recalled) > _MOST_RECALLED:
                self._recalled.popitem(last=False)
        return admission

    @staticmethod
    def _asks_register(task: Task, dataset: SharedDataset) -> bool:
        return asks_consent(task, dataset) and dataset.consent_query is None

    def take(self) -> None:
        """Enter what this node's own DBA has said into the register, and see to it that he can say it.

        FederatedError NODE_REFUSED where the database has the register of another node.key: whoever has
        withdrawn could not be known again.
        """
        if not self._is_published:
            self._database.run(self._publish)
            self._is_published = True
        while True:
            requests = self._database.run(catalog.list_requests)
            for request in requests:
                self._take(request)
            if len(requests) < catalog.MOST_REQUESTS:
                return

    def _publish(self, connection: Connection) -> None:
        public = self._box_key.public
        if find_node_key(connection) is None:
            catalog.publish_node_key(connection, public)
        if find_node_key(connection) != public:
            raise refused(
                "the register of consent in the node's database was written under another node.key",
                hint="The node's own DBA restores node.key of the state_directory with the database.",
            )

    def _take(self, request: Request) -> None:
        said = request.said
        try:
            opened = self._box_key.open_box(request.sealed, about=ABOUT + said.workspace.encode())
            subject = opened.decode()
        except (UnopenedBoxError, UnicodeDecodeError):
            log.error("a word about consent was sealed to another key, and is dropped: type it again")
            self._database.run(lambda connection: catalog.drop_request(connection, request))
            return

        def operation(connection: Connection) -> None:
            with connection.transaction():
                digests = _digests(connection, said.workspace, subject, self._subject_key)
                catalog.record_request(connection, request, digests)

        self._database.run(operation)

    async def watch(self, is_ready: Callable[[], bool]) -> None:
        """Take what is said while no task is asked, until cancelled."""
        while True:
            if is_ready():
                try:
                    await asyncio.to_thread(self.take)
                except FederatedError as error:
                    log.error("consent: %s; %s", error.message, error.hint or "")
            await asyncio.sleep(_PAUSE if self._is_published else _EAGER)
