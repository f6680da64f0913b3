"""Identifiers of people in datasets: found when a dataset is shared, told to its owner, and kept without a value."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest
from psycopg import errors

TABLE = """
CREATE TABLE visit (visit_no integer PRIMARY KEY, mrn text, contact text, code text, birth_date date, bmi float8, age integer,
                    outcome integer);
INSERT INTO visit
SELECT n, 'M' || n, CASE WHEN n % 4 = 0 THEN 'p' || n || '@canary.example' ELSE 'none' END, 'stage ' || n % 3, '1950-01-01',
       20 + n % 17, CASE WHEN n <= 6 THEN 90 + n ELSE 30 + n % 50 END, n % 2
FROM generate_series(1, 80) AS n;
"""
SHARE = (
    "CREATE FEDERATED DATASET visits FOR TABLE visit {} IN WORKSPACE clinics WITH (subject = 'visit_no'{})"
)
FOUND = "SELECT column_name, kind, evidence, share, is_accepted FROM federated_phi_findings('visits') WHERE found_by = 'statement'"


@pytest.fixture
def node(catalog: psycopg.Connection) -> psycopg.Connection:
    catalog.execute(TABLE)
    return catalog


@dataclass(frozen=True)
class Warned:
    message: str
    detail: str
    hint: str


def execute(session: psycopg.Connection, statement: str) -> list[Warned]:
    """Execute a statement; return its warnings."""
    said: list[Warned] = []

    def hear(one: psycopg.errors.Diagnostic) -> None:
        if one.severity_nonlocalized == "WARNING":
            said.append(Warned(one.message_primary or "", one.message_detail or "", one.message_hint or ""))

    session.add_notice_handler(hear)
    try:
        session.execute("CALL federated.execute(%s)", [statement])
    finally:
        session.remove_notice_handler(hear)
    return said


def test_sharing_warns_with_columns_kinds_and_shares_and_never_with_a_value(node: psycopg.Connection) -> None:
    (warning,) = execute(node, SHARE.format("", ""))
    assert warning.message == 'columns of dataset "visits" look like identifiers of people'
    assert warning.detail == (
        "mrn: medical record number (by its name); birth_date: date (by its name);"
        " mrn: unique code (by its values, over a half of those looked at);"
        " contact: mail address (by its values, a tenth to a half of those looked at);"
        " age: age over 89 (by its values, under a tenth of those looked at)."
    )
    assert "Under compliance_mode HIPAA or BOTH the node refuses them." in warning.hint
    assert node.execute(FOUND).fetchall() == [
        ("age", "age over 89", "values", "under a tenth", False),
        ("birth_date", "date", "name", None, False),
        ("contact", "mail address", "values", "a tenth to a half", False),
        ("mrn", "medical record number", "name", None, False),
        ("mrn", "unique code", "values", "over a half", False),
    ]
    kept = node.execute(
        "SELECT coalesce(string_agg(f::text, ' '), '') FROM federated.phi_finding AS f"
    ).fetchone()
    assert kept is not None
    assert "canary" not in kept[0]
    assert "@" not in kept[0]


def test_refuse_shares_nothing_until_the_columns_are_left_out_or_accepted(node: psycopg.Connection) -> None:
    refuse = ", phi_check = 'refuse'"
    with pytest.raises(errors.InvalidParameterValue) as refused:
        execute(node, SHARE.format("", refuse))
    assert refused.value.diag.message_detail is not None
    assert refused.value.diag.message_detail.startswith("mrn: medical record number (by its name)")
    assert "canary" not in str(refused.value.diag.message_detail)
    assert node.execute("SELECT count(*) FROM federated.dataset").fetchone() == (0,)
    assert execute(node, SHARE.format("(bmi, code, outcome)", refuse)) == []
    execute(node, "DROP FEDERATED DATASET visits")
    accepted = ", phi_accepted = ['mrn', 'birth_date', 'contact', 'age']"
    assert execute(node, SHARE.format("", refuse + accepted)) == []
    assert {row[4] for row in node.execute(FOUND)} == {True}


def test_altering_looks_again(node: psycopg.Connection) -> None:
    execute(node, SHARE.format("", ", phi_check = 'off'"))
    assert node.execute(FOUND).fetchall() == []
    (warning,) = execute(
        node, "ALTER FEDERATED DATASET visits SET (phi_check = 'warn', phi_accepted = ['mrn', 'age'])"
    )
    assert "mrn" not in warning.detail
    assert "node refuses" not in warning.hint
    with pytest.raises(errors.InvalidParameterValue):
        execute(node, "ALTER FEDERATED DATASET visits SET (phi_check = 'refuse')")
    # What is not about identifiers does not look.
    assert execute(node, "ALTER FEDERATED DATASET visits SET (paused = true)") == []
    node.execute("UPDATE visit SET contact = 'none'")
    (warning,) = execute(node, "ALTER FEDERATED DATASET visits RESET (phi_check)")
    assert "contact" not in warning.detail
    execute(node, "DROP FEDERATED DATASET visits")
    assert node.execute("SELECT count(*) FROM federated.phi_finding").fetchone() == (0,)


def test_what_is_accepted_is_a_shared_column(node: psycopg.Connection) -> None:
    for name in ("nothing", "visit_no"):
        with pytest.raises(errors.InvalidParameterValue, match=f'phi_accepted names "{name}"'):
            execute(node, SHARE.format("", f", phi_accepted = ['{name}']"))
    with pytest.raises(errors.UndefinedObject, match="federated dataset nothing does not exist"):
        node.execute("SELECT * FROM federated_phi_findings('nothing')")
    with pytest.raises(errors.UndefinedObject):
        node.execute("SELECT * FROM federated_phi_findings(NULL)")


def test_rows_that_cannot_be_read_are_not_looked_at(node: psycopg.Connection) -> None:
    node.execute("CREATE VIEW broken AS SELECT visit_no, 1 / (bmi - 20)::integer AS x, contact FROM visit")
    share = "CREATE FEDERATED DATASET d FOR TABLE broken IN WORKSPACE clinics WITH (subject = 'visit_no')"
    said = [one.message for one in execute(node, share)]
    assert 'columns of dataset "d" look like identifiers of people' not in said


def test_the_daemon_keeps_what_it_found_beside_what_statements_found(node: psycopg.Connection) -> None:
    execute(node, SHARE.format("", ", phi_check = 'warn'"))
    before = node.execute(FOUND).fetchall()
    with node.transaction():
        node.execute("SET LOCAL ROLE federated_daemon")
        for found in (
            '[{"column_name": "code", "kind": "free text", "evidence": "values", "share": "over a half"}]',
            "[]",
        ) * 2:
            node.execute(
                "SELECT federated._record_trained_findings(dataset_id, '{code}', %s) FROM federated.dataset",
                [found],
            )
            if found != "[]":
                assert node.execute(
                    "SELECT column_name FROM federated.phi_finding WHERE found_by = 'training'"
                ).fetchall() == [("code",)]
        # A dataset that was dropped meanwhile is nobody's.
        node.execute(
            "SELECT federated._record_trained_findings(0, '{code}', %s)",
            [found.replace("[]", '[{"column_name": "x"}]')],
        )
    assert node.execute(FOUND).fetchall() == before
    with pytest.raises(errors.InsufficientPrivilege), node.transaction():
        node.execute("SET LOCAL ROLE federated_daemon")
        node.execute("DELETE FROM federated.phi_finding")
    with pytest.raises(errors.InsufficientPrivilege), node.transaction():
        node.execute("SET LOCAL ROLE federated_analyst")
        node.execute("SELECT * FROM federated_phi_findings('visits')")
