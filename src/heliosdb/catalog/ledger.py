"""A workspace's privacy ledger as its coordinator keeps it: reserved before a task is sent, then charged.

What always holds: functions that write expect a transaction of `lease.fenced`, those that reserve or take
back also `lock_ledger`; one call is one statement whatever the number of nodes; what is charged stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.run import Run

_SQL = Statements("ledger.sql")


@dataclass(frozen=True, slots=True)
class SignedSpending:
    """What a node signed of its own ledger with a release: the header's bytes, and what they say."""

    header: bytes
    signature: bytes
    mechanism: Mechanism
    spending: Spending


@dataclass(frozen=True, slots=True)
class Reservation:
    """One release of one node that is about to be asked for, and where it brings the node.

    exchange: in which its answer comes. epsilon: of the release alone; epsilon_basic, epsilon_tight: of all
    up to it.
    """

    node: NodeName
    exchange: int
    step: StepName
    mechanism: Mechanism
    clipping_norm: float | None
    epsilon: float
    epsilon_basic: float
    epsilon_tight: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. epsilon: of its release alone; reached: where it brings its node."""

    id: int
    node: NodeName
    mechanism: Mechanism
    epsilon: float
    reached: Spending


@dataclass(frozen=True, slots=True)
class Removed:
    """A reservation that was taken back."""

    id: int
    node: NodeName
    exchange: int
    step: StepName
    epsilon: float


@dataclass(frozen=True, slots=True)
class Sums:
    """Where one line of the ledger brings its node."""

    ledger_id: int
    epsilon_basic: float
    epsilon_tight: float


@dataclass(frozen=True, slots=True)
class Spent:
    """So many equal releases of one node."""

    mechanism: Mechanism
    times: int

    @property
    def composed(self) -> Mechanism:
        """All of them as one mechanism of more steps."""
        return replace(self.mechanism, steps=self.mechanism.steps * self.times)


def read_mechanism(row: Row) -> Mechanism:
    """Read the four columns of a mechanism."""
    return Mechanism(row["noise_multiplier"], row["sampling_rate"], row["steps"], row["noise"])


def lock_ledger(connection: Connection, run: Run) -> None:
    """Keep other runs of the workspace from reserving until the transaction ends."""
    _SQL.query(connection, "lock_ledger", run.policy.workspace)


def list_spent(connection: Connection, run: Run) -> dict[NodeName, list[Spent]]:
    """Return what each node of the run's workspace has reserved or spent."""
    spent: dict[NodeName, list[Spent]] = {}
    for row in _SQL.query(connection, "list_spent", run.policy.workspace):
        mechanism = read_mechanism(row)
        spent.setdefault(NodeName(row["node_name"]), []).append(Spent(mechanism, row["times"]))
    return spent


def list_reached(connection: Connection, run: Run) -> dict[NodeName, Spending]:
    """Return where the last line of each node of the run's workspace brought it."""
    return {
        NodeName(row["node_name"]): Spending(row["epsilon_basic"], row["epsilon_tight"])
        for row in _SQL.query(connection, "list_reached", run.policy.workspace)
    }


def reserve(
    connection: Connection, run: Run, number: RoundNumber, reservations: Sequence[Reservation]
) -> None:
    """Record what a round is going to cost, before anything of it is asked for."""
    rows = [
        {
            "place": place,
            "node": one.node,
            "exchange": one.exchange,
            "step": one.step,
            **asdict(one.mechanism),
            "clipping_norm": one.clipping_norm,
            "epsilon": one.epsilon,
            "epsilon_basic": one.epsilon_basic,
            "epsilon_tight": one.epsilon_tight,
        }
        for place, one in enumerate(reservations)
    ]
    if rows:
        _SQL.query(
            connection, "reserve", run.policy.workspace, str(run.id), run.model, number, json.dumps(rows)
        )


def list_held(
    connection: Connection, run: Run, number: RoundNumber
) -> dict[NodeName, dict[tuple[int, StepName], Mechanism]]:
    """Return what is in the ledger of a round already, by node, exchange and step."""
    held: dict[NodeName, dict[tuple[int, StepName], Mechanism]] = {}
    for row in _SQL.query(connection, "list_held", str(run.id), number):
        mechanism = read_mechanism(row)
        held.setdefault(NodeName(row["node_name"]), {})[row["exchange"], StepName(row["step"])] = mechanism
    return held


def is_reserved(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    exchange: int,
    step: StepName,
    mechanism: Mechanism,
    nodes: Iterable[NodeName],
) -> bool:
    """Return whether every one of the nodes has a line for this exchange and mechanism."""
    names = sorted(nodes)
    (row,) = _SQL.query(
        connection,
        "count_reserved",
        str(run.id),
        number,
        exchange,
        step,
        names,
        mechanism.noise_multiplier,
        mechanism.sampling_rate,
        mechanism.steps,
        mechanism.noise,
    )
    return bool(row["lines"] == len(names))


def charge(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    exchange: int,
    step: StepName,
    nodes: Iterable[NodeName],
) -> None:
    """Turn the reservations of nodes whose answer arrived into charges, which are never taken back."""
    _SQL.query(connection, "charge", str(run.id), number, exchange, step, sorted(nodes))


def insert_node_spending(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    exchange: int,
    step: StepName,
    signed: Mapping[NodeName, SignedSpending],
) -> None:
    """Keep what nodes signed of their own ledgers with the answers of an exchange."""
    rows = json.dumps([_signed_row(node, one) for node, one in signed.items()])
    _SQL.query(
        connection,
        "insert_node_spending",
        run.policy.workspace,
        str(run.id),
        number,
        exchange,
        step,
        rows,
    )


def _signed_row(node: NodeName, signed: SignedSpending) -> dict[str, object]:
    return {
        "node": node,
        "header": signed.header.hex(),
        "signature": signed.signature.hex(),
        **asdict(signed.mechanism),
        **asdict(signed.spending),
    }


def delete_reservations(  # noqa: PLR0917
    connection: Connection,
    run: Run,
    number: RoundNumber,
    unspent: Iterable[NodeName],
    gone: Iterable[NodeName],
    exchange: int,
) -> list[Removed]:
    """Take back reservations of a round under which nothing can have been released; charged ones stay.

    unspent: nodes that certainly released nothing in exactly this exchange. gone: nodes that are asked
    nothing more in the round: theirs of every later exchange. Exchange -1 where nobody was asked anything:
    all are gone.
    """
    return [
        Removed(
            row["ledger_id"],
            NodeName(row["node_name"]),
            row["exchange"],
            StepName(row["step"]),
            row["epsilon"],
        )
        for row in _SQL.query(
            connection, "delete_reservations", str(run.id), number, exchange, sorted(unspent), sorted(gone)
        )
    ]


def list_entries(connection: Connection, run: Run, nodes: Iterable[NodeName]) -> list[Entry]:
    """Return the ledger of some nodes of the run's workspace, in its order."""
    return [
        Entry(
            row["ledger_id"],
            NodeName(row["node_name"]),
            read_mechanism(row),
            row["epsilon"],
            Spending(row["epsilon_basic"], row["epsilon_tight"]),
        )
        for row in _SQL.query(connection, "list_entries", run.policy.workspace, sorted(nodes))
    ]


def correct_sums(connection: Connection, sums: Sequence[Sums]) -> None:
    """Record where lines of the ledger bring their nodes, after one before them was taken back."""
    if sums:
        _SQL.query(connection, "correct_sums", json.dumps([asdict(one) for one in sums]))


def still_reserved(connection: Connection, run: Run) -> float | None:
    """Return the ε that a run holds reserved at the node where it is most, None for nothing."""
    epsilon: float | None = _SQL.query(connection, "still_reserved", str(run.id))[0]["epsilon"]
    return epsilon


def consumed_epsilon(connection: Connection, run: Run) -> float | None:
    """Return the ε (tight) of the workspace's most charged node, None where nothing was ever charged."""
    epsilon: float | None = _SQL.query(connection, "consumed_epsilon", run.policy.workspace)[0]["epsilon"]
    return epsilon
