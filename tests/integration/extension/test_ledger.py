"""What the daemon's role can do to the ledger that auditors read: add to it, and take reservations back. No more."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

Session = psycopg.Connection[Any]

RESERVE = (
    "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
    " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
    " VALUES ('clinics', %s, 'risk', %s, 'train', %s, 5, 1, 1, %s, %s, %s)"
)
TAKE_BACK = "DELETE FROM federated.ledger WHERE run_id = %s AND round_number = %s AND node_name = %s"
LOG = (
    "SELECT action, object_kind, object_name, acting_role, details FROM federated_audit_log"
    " WHERE workspace = 'clinics' AND object_kind = 'ledger' ORDER BY chain_position"
)


def set_sums(daemon: Session, number: int, basic: float, tight: float, node: str = "a") -> None:
    daemon.execute(
        "UPDATE federated.ledger SET epsilon_basic = %s, epsilon_tight = %s"
        " WHERE round_number = %s AND node_name = %s",
        [basic, tight, number, node],
    )


@pytest.fixture
def run(daemon: Session) -> UUID:
    """A run with three reserved lines at nodes a and b: ε 0.2, 0.3 and 0.4, composed 0.2, 0.35 and 0.5."""
    run = uuid4()
    for node in "ab":
        for number, line in enumerate(((0.2, 0.2, 0.2), (0.3, 0.5, 0.35), (0.4, 0.9, 0.5)), 1):
            daemon.execute(RESERVE, [run, number, node, *line])
    return run


def test_the_daemon_cannot_lower_what_auditors_read(daemon: Session, catalog: Session, run: UUID) -> None:
    before = catalog.execute("SELECT * FROM federated.ledger ORDER BY ledger_id").fetchall()
    for attack in (
        "UPDATE federated.ledger SET epsilon_tight = 0",
        "UPDATE federated.ledger SET epsilon_basic = 0, epsilon_tight = 0 WHERE round_number = 3",
        "UPDATE federated.ledger SET epsilon_tight = epsilon_tight - 1e-6",
        "UPDATE federated.ledger SET epsilon_tight = 9",
        "UPDATE federated.ledger SET epsilon_tight = 'NaN'",
    ):
        with pytest.raises(
            errors.ObjectNotInPrerequisiteState, match="reservation before them is taken back"
        ):
            daemon.execute(attack)  # type: ignore[arg-type]
    for attack in (
        "UPDATE federated.ledger SET epsilon = 0",
        "UPDATE federated.ledger SET recorded_at = now()",
        "UPDATE federated.ledger SET noise_multiplier = 1e6",
        "UPDATE federated.ledger SET node_name = 'z'",
        "INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name)"
        " VALUES ('clinics', 'x', 'x', 'delete', 'ledger', 'x')",
        RESERVE.replace("workspace,", "ledger_id, workspace,", 1).replace("'clinics'", "-1, 'clinics'")
        % (f"'{uuid4()}'", 1, "'a'", 1, 1, 1),
        "TRUNCATE federated.ledger",
        "ALTER TABLE federated.ledger DISABLE TRIGGER keep_sums",
        "SET session_replication_role = replica",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            daemon.execute(attack)  # type: ignore[arg-type]
    assert catalog.execute("SELECT * FROM federated.ledger ORDER BY ledger_id").fetchall() == before


def test_taking_a_reservation_back_corrects_the_lines_after_it(
    daemon: Session, catalog: Session, run: UUID
) -> None:
    with daemon.transaction():
        daemon.execute(TAKE_BACK, [run, 2, "a"])
        set_sums(daemon, 3, 0.6, 0.42)
    assert catalog.execute(
        "SELECT round_number, epsilon_basic, epsilon_tight FROM federated.ledger WHERE node_name = 'a'"
        " ORDER BY ledger_id"
    ).fetchall() == [(1, 0.2, 0.2), (3, 0.6, 0.42)]


@pytest.mark.parametrize(
    ("node", "number", "basic", "tight"),
    [
        ("b", 3, 0.9, 0.4),  # another node's ledger
        ("a", 1, 0.2, 0.1),  # a line before
        ("a", 3, 0.6, 0.51),  # more than it was
        ("a", 3, 0.3, 0.42),  # the sum does not add up
        ("a", 3, 0.6, 0.19),  # less than the line before
        ("a", 3, 0.6, 0.39),  # less than its own release
        ("a", 3, 0.6, "NaN"),
    ],
)
def test_a_correction_that_does_not_follow_from_what_is_left_is_refused(
    daemon: Session, run: UUID, node: str, number: int, basic: float, tight: float
) -> None:
    with pytest.raises(errors.DatabaseError) as caught, daemon.transaction():
        daemon.execute(TAKE_BACK, [run, 2, "a"])
        set_sums(daemon, number, basic, tight, node)
    assert isinstance(caught.value, errors.ObjectNotInPrerequisiteState | errors.CheckViolation)


def test_the_proof_does_not_outlive_its_transaction(daemon: Session, run: UUID) -> None:
    daemon.execute(TAKE_BACK, [run, 2, "a"])
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        set_sums(daemon, 3, 0.6, 0.42)


@pytest.mark.parametrize(
    ("epsilon", "basic", "tight"),
    [
        (0.1, 0.9, 0.5),  # not added
        (0.1, 0.1, 0.5),  # begun anew
        (0.1, 1.0, 0.49),  # less than the line before
        (0.6, 1.5, 0.55),  # less than its own release
        (-0.1, 0.8, 0.5),
        (0.1, 1.0, "Infinity"),
        ("NaN", "NaN", "NaN"),
    ],
)
def test_a_line_that_does_not_follow_from_the_one_before_is_refused(
    daemon: Session, run: UUID, epsilon: float, basic: float, tight: float
) -> None:
    with pytest.raises(errors.CheckViolation, match="does not follow"):
        daemon.execute(RESERVE, [uuid4(), 4, "a", epsilon, basic, tight])


def test_only_what_becomes_of_lines_is_audited_and_in_the_workspaces_chain(
    daemon: Session, catalog: Session, run: UUID
) -> None:
    daemon.execute("UPDATE federated.ledger SET state = 'charged' WHERE round_number = 1")
    assert catalog.execute(LOG).fetchall() == []
    with daemon.transaction():
        daemon.execute(TAKE_BACK, [run, 2, "a"])
        set_sums(daemon, 3, 0.6, 0.42)
    removed, corrected = catalog.execute(LOG).fetchall()
    assert removed[:4] == ("delete", "ledger", str(run), "heliosdb_daemon")
    assert removed[4]["before"].items() >= {
        "node_name": "a", "round_number": 2, "epsilon": 0.3, "epsilon_tight": 0.35, "noise_multiplier": 5,
    }.items()  # fmt: skip
    assert corrected[:3] == ("update", "ledger", str(run))
    assert (corrected[4]["before"]["epsilon_tight"], corrected[4]["after"]["epsilon_tight"]) == (0.5, 0.42)
    catalog.execute(
        "UPDATE federated.ledger SET epsilon_tight = 0 WHERE node_name = 'b' AND round_number = 3"
    )
    assert catalog.execute(LOG).fetchall()[-1][4]["after"]["epsilon_tight"] == 0
    assert catalog.execute("SELECT is_intact FROM federated_audit_verify('clinics')").fetchall() == [(True,)]


def sign(daemon: Session, run: UUID, number: int, **changed: object) -> None:
    row: dict[str, object] = {
        "workspace": "clinics", "run_id": str(run), "round_number": number, "step": "train", "node_name": "a",
        "header": "\\x01", "signature": "\\x02", "noise_multiplier": 5, "sampling_rate": 1, "steps": 1,
        "epsilon_basic": 0.2, "epsilon_tight": 0.2,
    } | changed  # fmt: skip
    columns = ", ".join(row)
    daemon.execute(
        f"INSERT INTO federated.node_spending ({columns}) SELECT {columns}"  # type: ignore[arg-type]
        " FROM jsonb_populate_record(NULL::federated.node_spending, %s::jsonb)",
        [json.dumps(row)],
    )


def ledger_check(session: Session) -> tuple[str, str]:
    [hipaa] = session.execute(
        "SELECT status, evidence FROM federated_compliance_check('clinics', 'HIPAA')"
        " WHERE requirement = 'Ledger agrees with the nodes'"
    ).fetchall()
    assert session.execute(
        "SELECT status, evidence FROM federated_compliance_check('clinics', 'GDPR')"
        " WHERE requirement = 'Ledger agrees with the nodes'"
    ).fetchall() == [hipaa]
    status, evidence = hipaa
    return status, evidence


def test_what_nodes_signed_is_only_ever_added_to(daemon: Session, run: UUID) -> None:
    sign(daemon, run, 1)
    for attack in (
        "UPDATE federated.node_spending SET epsilon_tight = 0",
        "DELETE FROM federated.node_spending",
        "TRUNCATE federated.node_spending",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            daemon.execute(attack)  # type: ignore[arg-type]
    with pytest.raises(errors.UniqueViolation):
        sign(daemon, run, 1, epsilon_tight=0.1)


def test_a_ledger_passes_where_it_shows_what_nodes_signed(
    daemon: Session, catalog: Session, run: UUID
) -> None:
    assert ledger_check(catalog)[0] == "MANUAL"
    daemon.execute("UPDATE federated.ledger SET state = 'charged'")
    # Two runs at the same time: the node answered round 3 first, so what it signed with round 2 holds both.
    for number, tight in ((1, 0.2), (3, 0.45), (2, 0.5)):
        sign(daemon, run, number, epsilon_tight=tight)
    assert ledger_check(catalog) == (
        "PASS",
        "releases signed: 3, nodes that signed: 1, lines charged: 6, disagreements: 0",
    )


@pytest.mark.parametrize(
    ("falsified", "evidence"),
    [
        ("UPDATE federated.ledger SET epsilon_tight = 0", "signed epsilon 0.2, the ledger shows 0"),
        ("UPDATE federated.ledger SET epsilon_tight = 0.499 WHERE round_number = 3", "signed epsilon 0.5"),
        (
            "UPDATE federated.ledger SET noise_multiplier = 50",
            "the node signed gaussian noise 5, rate 1, 1 steps",
        ),
        ("UPDATE federated.ledger SET state = 'reserved'", "the line is not charged"),
        ("DELETE FROM federated.ledger WHERE round_number = 2", "no line of what the node signed"),
    ],
)
def test_a_ledger_that_was_falsified_fails_against_what_nodes_signed(
    daemon: Session, catalog: Session, run: UUID, falsified: str, evidence: str
) -> None:
    daemon.execute("UPDATE federated.ledger SET state = 'charged'")
    for number, tight in ((1, 0.2), (2, 0.35), (3, 0.5)):
        sign(daemon, run, number, epsilon_tight=tight)
    assert ledger_check(catalog)[0] == "PASS"
    catalog.execute("SET session_replication_role = replica")  # as whoever owns the server can
    catalog.execute(falsified)  # type: ignore[arg-type]
    status, found = ledger_check(catalog)
    assert status == "FAIL"
    assert evidence in found


def test_a_charge_that_nobody_signed_is_a_disagreement_once_nodes_sign(
    daemon: Session, catalog: Session, run: UUID
) -> None:
    daemon.execute("UPDATE federated.ledger SET state = 'charged'")
    assert ledger_check(catalog)[0] == "MANUAL", "a catalog of an older version kept no signatures"
    for number, tight in ((1, 0.2), (2, 0.35), (3, 0.5)):
        sign(daemon, run, number, epsilon_tight=tight)
    daemon.execute(RESERVE, [run, 4, "a", 0.1, 1.0, 0.6])
    daemon.execute("UPDATE federated.ledger SET state = 'charged' WHERE round_number = 4")
    status, found = ledger_check(catalog)
    assert status == "FAIL"
    assert "round 4" in found
    assert "charged, and not signed" in found
    sign(daemon, run, 4, epsilon_basic=1.0, epsilon_tight=0.6)
    assert ledger_check(catalog)[0] == "PASS"
