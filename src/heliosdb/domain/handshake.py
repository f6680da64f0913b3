"""What coordinator and node tell each other when they meet: names, columns and policy, never data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from heliosdb.domain.ids import DatasetName, NodeName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.subscription import Subscription


@dataclass(frozen=True, slots=True)
class DeclaredValues:
    """The only values that a column can have beside NULL, as the node's catalog declares them: never from
    rows.
    """

    column: str
    values: tuple[str, ...]


GONE = "unknown"
"""In place of a type: a column that the dataset was shared with and its view no longer has."""


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """A dataset that a node shares with the workspace: its name, its columns and their PostgreSQL types.

    types: where a node introduces itself, of a domain what it is made of. plain_answers: whether its own DBA
    lets answers leave without noise, whatever the workspace's compliance_mode. declared: of those columns
    alone whose values a CHECK, a domain or an enum lists. paused: whether its DBA has it answer nothing for
    now.
    """

    name: DatasetName
    columns: tuple[str, ...]
    types: tuple[str, ...]
    plain_answers: bool = False
    declared: tuple[DeclaredValues, ...] = ()
    paused: bool = False

    def type_of(self, column: str) -> str:
        """Return the type of one of its columns."""
        return self.types[self.columns.index(column)]

    def values_of(self, column: str) -> tuple[str, ...] | None:
        """Return the declared values of a column; None where nobody declares any."""
        return next((one.values for one in self.declared if one.column == column), None)


@dataclass(frozen=True, slots=True)
class Greeting:
    """The coordinator's hello: which workspace it speaks for and what it calls the node.

    challenge: 32 random bytes, which the node signs; empty where it is asked for no proof.
    """

    workspace: WorkspaceName
    node: NodeName
    challenge: bytes = b""


@dataclass(frozen=True, slots=True)
class Introduction:
    """The node's answer: what it shares with that workspace, and to which of its models it subscribes.

    extras: what is installed there beside the product, by name; see parts/extras.py. data_residency: where it
    says that its data lie; None: it does not say. certificate_sha256: of the certificate with which it signs
    now; empty where it does not say. aggregators: SHA-256 (hexadecimal) of the certificates of those that it
    lets in. aggregates: whether it gathers for others. limits: those of its own settings. proof: its
    signature under the greeting's challenge; empty where there was none.
    """

    datasets: tuple[DatasetDescription, ...]
    extras: tuple[str, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    data_residency: str | None = None
    certificate_sha256: bytes = b""
    aggregators: tuple[str, ...] = ()
    aggregates: bool = False
    limits: Limits = NO_LIMITS
    # Another one each time: what is said is the same.
    proof: bytes = field(default=b"", compare=False)

    @property
    def plain_answers(self) -> bool:
        """Whether plain answers may leave from every dataset of it; not where there is none."""
        return bool(self.datasets) and all(dataset.plain_answers for dataset in self.datasets)


def introduction_json(introduction: Introduction) -> list[dict[str, Any]]:
    """What a node shares, for the coordinator's catalog, which has its extras beside it."""
    return [asdict(dataset) for dataset in introduction.datasets]


def introduction_from_json(datasets: Sequence[Mapping[str, Any]], extras: Sequence[str] = ()) -> Introduction:
    """Read what `introduction_json` wrote."""
    return Introduction(
        tuple(
            DatasetDescription(
                DatasetName(one["name"]),
                tuple(one["columns"]),
                tuple(one["types"]),
                one["plain_answers"],
                tuple(DeclaredValues(each["column"], tuple(each["values"])) for each in one["declared"]),
                # What was written before datasets could be paused does not say it.
                one.get("paused", False),
            )
            for one in datasets
        ),
        tuple(extras),
    )
