"""What coordinator and node tell each other when they meet: names, columns and policy, never data."""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.ids import DatasetName, NodeName, WorkspaceName
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.task import TaskKey
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AnyVector


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """A dataset that a node shares with the workspace: its name, its columns and their PostgreSQL types.

    plain_answers: whether its own DBA lets answers leave without noise, whatever the workspace's
    compliance_mode.
    """

    name: DatasetName
    columns: tuple[str, ...]
    types: tuple[str, ...]
    plain_answers: bool = False


@dataclass(frozen=True, slots=True)
class Greeting:
    """The coordinator's hello: which workspace it speaks for and what it calls the node."""

    workspace: WorkspaceName
    node: NodeName


@dataclass(frozen=True, slots=True)
class Introduction:
    """The node's answer: what it shares with that workspace."""

    datasets: tuple[DatasetDescription, ...]

    @property
    def plain_answers(self) -> bool:
        """Whether plain answers may leave from every dataset of it; not where there is none."""
        return bool(self.datasets) and all(dataset.plain_answers for dataset in self.datasets)


@dataclass(frozen=True, slots=True)
class OpenedUpdate:
    """A release that the coordinator has verified and opened: the only form in which its vector is used.

    bytes_sent, bytes_received: message bytes of the exchange as the coordinator counts them.
    spending: what the node's ledger shows after the release; None without a budget. usage: what the node says
    that the computation took; None where it does not. signed_header: header and signature as the node sent
    them, for whoever wants to verify them again.
    """

    key: TaskKey
    vector: AnyVector
    weight: float
    mechanism: Mechanism | None
    spending: Spending | None
    bytes_sent: int
    bytes_received: int
    usage: Usage | None = None
    signed_header: bytes = b""
