"""The coordinator's statements against the real catalog."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import pytest

from heliosdb.catalog import ledger, rounds, runs
from heliosdb.catalog import nodes as node_rows
from heliosdb.catalog.connection import load_statements
from heliosdb.catalog.lease import become_daemon, read_catalog_state
from heliosdb.catalog.nodes import NodeStatus
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.coordinator.budget import plan_reservations, sums_after
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Outcome, Run, RunStatus
from heliosdb.privacy.accountant import spending
from tests.integration.coordinator.support import World, create_model, create_workspace

NODES = tuple(NodeName(name) for name in ("a", "b"))
ONE = RoundNumber(1)
TRAIN, EVALUATE = StepName("train"), StepName("evaluate")


@pytest.fixture
def daemon(world: World) -> Iterator[PsycopgConnection]:
    """A coordinator's connection, in a catalog with two nodes and a running run."""
    create_workspace(world, min_nodes=2, privacy_budget=2, min_nodes_per_round=1)
    for name in NODES:
        world.execute(
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE consortium WITH (endpoint = 'https://{name}:1')"
        )
    create_model(world, rounds=5)
    world.execute("START FEDERATED TRAINING risk")
    with connected(
        world.cluster.dsn(world.database, user="heliosdb_daemon"), application_name="test"
    ) as made:
        become_daemon(made)
        yield made


@pytest.fixture
def run(daemon: PsycopgConnection) -> Run:
    """The run, claimed."""
    (active,) = runs.list_active_runs(daemon)
    assert runs.claim_run(daemon, active.id)
    record = runs.find_run(daemon, active.id)
    assert record is not None
    return record.run


@pytest.mark.parametrize(
    ("python", "sql"),
    [(RunStatus, "run_status"), (Outcome, "participation_outcome"), (NodeStatus, "node_status")],
)
def test_names_in_python_are_those_of_the_catalog(world: World, python: type[StrEnum], sql: str) -> None:
    found = world.query("SELECT unnest(enum_range(NULL::federated.%s))::text AS name" % sql)  # noqa: UP031

    assert [one.value for one in python] == [one["name"] for one in found]


@pytest.mark.parametrize("file_name", [
        "runs.sql", "rounds.sql", "ledger.sql", "events.sql", "lease.sql", "nodes.sql", "publication.sql",
        "performance.sql", "participant.sql", "spending.sql", "alerts.sql",
    ],
)  # fmt: skip
def test_every_statement_is_valid_for_the_role_that_runs_it(
    daemon: PsycopgConnection, file_name: str
) -> None:
    for statement in load_statements(file_name).values():
        text, types = statement.text, ", ".join(statement.types)
        if text.startswith(("SET", "LISTEN")):
            continue
        declared = f"PREPARE checked ({types}) AS {text}" if types else f"PREPARE checked AS {text}"
        daemon.raw.execute(declared)  # type: ignore[arg-type]
        daemon.raw.execute("DEALLOCATE checked")


def test_options_and_policy_are_read_with_what_is_derived(run: Run) -> None:
    assert run.options.features == ("age", "pressure")
    assert run.options.rounds == 5
    assert run.options.seed == 7
    assert run.policy.min_nodes_per_round == 1
    assert run.policy.stragglers_timeout == run.policy.round_timeout == 300.0
    assert run.policy.budget is not None
    assert (run.policy.budget.epsilon, run.policy.budget.delta) == (2.0, 1e-5)
    assert run.policy.workspace == "consortium"


def test_a_run_is_claimed_once(daemon: PsycopgConnection, run: Run) -> None:
    assert not runs.claim_run(daemon, run.id)
    assert runs.list_active_runs(daemon) == [runs.ActiveRun(run.id, RunStatus.RUNNING, False)]


def test_a_round_is_recorded_reserved_settled_and_charged(
    world: World, daemon: PsycopgConnection, run: Run
) -> None:
    mechanism = Mechanism(2.0, 0.5, 3)
    reservations = [ledger.Reservation(node, 0, TRAIN, mechanism, 1.0, 0.15, 0.15, 0.15) for node in NODES]
    with daemon.transaction():
        ledger.reserve(daemon, run, ONE, reservations)
        rounds.open_round(daemon, run, ONE, TRAIN, NODES)
    assert ledger.list_spent(daemon, run) == {node: [ledger.Spent(mechanism, 1)] for node in NODES}

    settled = [
        rounds.Settlement(NODES[0], Outcome.RECEIVED, None, 10.0, 100, 200, 0.5),
        rounds.Settlement(NODES[1], Outcome.DROPPED, "timed out"),
    ]
    with daemon.transaction():
        rounds.settle(daemon, run, ONE, 0, TRAIN, settled)
        assert rounds.close_round(daemon, run.id, ONE, Figures(0.5, None), "without b")

    assert rounds.list_participation(daemon, run.id, 1) == [
        rounds.Participation(NODES[0], 0, TRAIN, Outcome.RECEIVED, weight=10.0, asked=2),
        rounds.Participation(NODES[1], 0, TRAIN, Outcome.DROPPED, asked=2),
    ]
    states = world.query("SELECT node_name, state::text FROM federated.ledger ORDER BY 1")
    assert [one["state"] for one in states] == ["charged", "reserved"]
    assert rounds.list_rounds(daemon, run.id) == [rounds.RoundRecord(ONE, "closed", Figures(0.5, None))]
    assert ledger.consumed_epsilon(daemon, run) == 0.15


def test_lines_after_a_reservation_that_was_taken_back_are_corrected(
    world: World, daemon: PsycopgConnection, run: Run
) -> None:
    budget, made = run.policy.budget, [Mechanism(9.0), Mechanism(8.0, 0.5, 3), Mechanism(30.0, 0.1, 2)]
    assert budget is not None
    for number, mechanism in enumerate(made, 1):
        with daemon.transaction():
            charges = plan_reservations(
                ledger.list_spent(daemon, run),
                ledger.list_reached(daemon, run),
                NODES,
                [(0, TRAIN, mechanism)],
                budget,
                clipping_norms={},
            )
            ledger.reserve(daemon, run, RoundNumber(number), charges)

    with daemon.transaction():
        (removed,) = ledger.delete_reservations(daemon, run, RoundNumber(2), [NODES[0]], [], 0)
        entries = ledger.list_entries(daemon, run, [NODES[0]])
        ledger.correct_sums(daemon, sums_after(entries, removed.id, budget.delta))

    reached = ledger.list_reached(daemon, run)
    for node, left in ((NODES[0], [made[0], made[2]]), (NODES[1], made)):
        expected = spending(left, budget.delta)
        assert reached[node].epsilon_basic == pytest.approx(expected.epsilon_basic)
        assert reached[node].epsilon_tight == pytest.approx(expected.epsilon_tight)
    log = world.query(
        "SELECT action FROM federated_audit_log WHERE object_kind = 'ledger' ORDER BY recorded_at"
    )
    assert [one["action"] for one in log] == ["delete", "update"]


def test_a_round_is_closed_once(daemon: PsycopgConnection, run: Run) -> None:
    rounds.open_round(daemon, run, ONE, TRAIN, NODES)

    assert rounds.close_round(daemon, run.id, ONE, None, None)
    assert not rounds.close_round(daemon, run.id, ONE, None, None)


def test_parameters_of_the_round_being_evaluated_stand_beside_the_closed_ones(
    daemon: PsycopgConnection, run: Run
) -> None:
    for number in (1, 2, 3):
        rounds.put_state(daemon, run.id, number, rounds.StoredState(bytes([number]), b"h"))

    rounds.delete_other_states(daemon, run.id, (1, 3))

    assert rounds.find_state(daemon, run.id, 2) is None
    for number in (1, 3):
        assert rounds.find_state(daemon, run.id, number) == rounds.StoredState(bytes([number]), b"h")


def test_an_ended_run_is_neither_found_nor_ended_again(daemon: PsycopgConnection, run: Run) -> None:
    assert runs.finish_run(daemon, run.id, RunStatus.FAILED, "why")

    assert not runs.finish_run(daemon, run.id, RunStatus.COMPLETED, "again")
    assert runs.find_run(daemon, run.id) is None
    assert not runs.lock_run(daemon, run.id)


def test_a_status_is_not_written_over_options_that_changed_meanwhile(
    world: World, daemon: PsycopgConnection
) -> None:
    before = node_rows.list_nodes(daemon)[0]
    world.execute("ALTER FEDERATED NODE 'a' IN WORKSPACE consortium SET (contact = 'someone@example.com')")

    node_rows.demote_node(daemon, before, NodeStatus.FAILED, "too late")

    assert node_rows.list_nodes(daemon)[0].status is NodeStatus.PENDING


def test_the_catalogs_state_is_seen_without_any_privilege(world: World) -> None:
    for user, member in (("a_nobody", False), ("heliosdb_daemon", True)):
        with connected(world.cluster.dsn(world.database, user=user), application_name="test") as connection:
            state = read_catalog_state(connection)
        assert (state.installed, state.member, state.replica) == (True, member, False)


def test_the_daemon_cannot_change_what_statements_change(daemon: PsycopgConnection) -> None:
    for statement, refusal in {
        "UPDATE federated.node SET options = '{}'": "permission denied",
        "UPDATE federated.run SET model_id = 1": "permission denied",
        "UPDATE federated.run SET options = '{}'": "permission denied",
        "DELETE FROM federated.event": "permission denied",
        "UPDATE federated.event SET kind = 'x'": "permission denied",
    }.items():
        with pytest.raises(Exception, match=refusal):
            daemon.raw.execute(statement)
