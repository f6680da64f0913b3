"""What is owed to data subjects, authorities and the log itself is judged by what the catalog holds."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.extension.versions_support import execute

REGISTER = "REGISTER FEDERATED NODE 'a' IN WORKSPACE clinics WITH (endpoint = 'https://a:1')"


def finding(session: psycopg.Connection, requirement: str, regulation: str = "GDPR") -> tuple[str, str]:
    """Return status and evidence of a requirement."""
    [found] = session.execute(
        "SELECT status, evidence FROM federated_compliance_check('clinics', %s) WHERE requirement = %s",
        [regulation, requirement],
    ).fetchall()
    return found  # type: ignore[return-value]


def place_order(
    session: psycopg.Connection, kind: str, state: str, node_state: str, requested: str = "now()"
) -> None:
    """Put an order with one node's answer into the catalog, as if the coordinator had carried it out."""
    session.execute("SET session_replication_role = replica")
    session.execute(
        "WITH o AS (INSERT INTO federated.subject_order (batch_id, kind, workspace, state, sealed, requested_at, deadline)"  # type: ignore[arg-type]
        f" VALUES (gen_random_uuid(), %(kind)s, 'clinics', %(state)s, %(sealed)s, {requested}, {requested} + interval '1 month')"
        " RETURNING order_id)"
        " INSERT INTO federated.order_answer (order_id, node_id, node_name, state, outcome, statement, signature, certificate_sha256)"
        " SELECT order_id, 1, 'a', %(node)s, %(outcome)s, %(bytes)s, %(bytes)s, %(bytes)s FROM o",
        {
            "kind": kind, "state": state, "node": node_state, "sealed": b"x" if state in ("requested", "asked") else None,
            "outcome": "done" if node_state == "answered" else None, "bytes": b"{}" if node_state == "answered" else None,
        },
    )  # fmt: skip
    session.execute("RESET session_replication_role")


@pytest.mark.parametrize(
    ("requirement", "kind"), [("Erasure", "erase"), ("Access and portability", "export")]
)
def test_requests_pass_where_all_were_answered_and_fail_where_the_month_is_over(
    catalog: psycopg.Connection, requirement: str, kind: str
) -> None:
    assert finding(catalog, requirement)[0] == "MANUAL"
    place_order(catalog, kind, "answered", "answered")
    place_order(catalog, kind, "asked", "pending")
    status, evidence = finding(catalog, requirement)
    assert (status, evidence.split(" (")[0]) == ("PASS", "requests: 2, open: 1")
    place_order(catalog, kind, "answered", "refused")
    assert finding(catalog, requirement)[0] == "MANUAL"
    # Nobody has ended it yet, and its month is over all the same.
    place_order(catalog, kind, "asked", "pending", requested="now() - interval '40 days'")
    status, evidence = finding(catalog, requirement)
    assert status == "FAIL"
    assert "past their month: 1" in evidence


def test_consent_is_never_passed_and_fails_where_a_withdrawal_did_not_arrive(
    catalog: psycopg.Connection,
) -> None:
    assert finding(catalog, "Lawfulness and consent")[0] == "MANUAL"
    place_order(catalog, "grant", "answered", "answered")
    place_order(catalog, "revoke", "answered", "answered")
    status, evidence = finding(catalog, "Lawfulness and consent")
    assert status == "MANUAL"
    assert "consent given: 1, withdrawn: 1" in evidence
    place_order(catalog, "revoke", "expired", "pending")
    assert finding(catalog, "Lawfulness and consent")[0] == "FAIL"


def test_heads_pass_where_each_node_holds_one_and_fail_where_one_holds_another_log(
    catalog: psycopg.Connection,
) -> None:
    requirement = "Audit log held elsewhere"
    assert finding(catalog, requirement)[0] == "MANUAL"
    execute(catalog, REGISTER)
    catalog.execute("UPDATE federated.node SET status = 'active'")
    catalog.execute("INSERT INTO federated.signer VALUES (sha256('c'), 'c')")
    catalog.execute(
        "INSERT INTO federated.tree_head (workspace, origin, tree_size, root, edge, statement, signature, certificate_sha256, signed_at)"
        " SELECT 'clinics', origin, 2, sha256('r'), '', '{}', '', sha256('c'), now() FROM federated.audit_origin"
    )
    status, evidence = finding(catalog, requirement)
    assert status == "MANUAL"
    assert evidence.endswith("without a cosignature: a")
    catalog.execute(
        "INSERT INTO federated.cosignature (workspace, origin, tree_size, node_name, statement, signature, certificate_sha256)"
        " SELECT 'clinics', origin, 2, 'a', '{}', '', sha256('c') FROM federated.audit_origin"
    )
    assert finding(catalog, requirement)[0] == "PASS"
    catalog.execute(
        "INSERT INTO federated.audit_break (workspace, origin, node_name, kind, held_size, own_size, held_statement, held_signature)"
        " SELECT 'clinics', origin, 'a', 'forked', 2, 2, '{}', '' FROM federated.audit_origin"
    )
    assert finding(catalog, requirement)[0] == "FAIL"


def test_a_breach_ends_what_was_attested_before_it(catalog: psycopg.Connection) -> None:
    requirement = "Notification of breaches within 72 hours"

    def attest() -> None:
        execute(
            catalog,
            f"ATTEST FEDERATED COMPLIANCE clinics FOR '{requirement}' UNTIL '{(catalog.execute('SELECT now()::date + 9').fetchall())[0][0]}' AS 'settled'",
        )

    attest()
    assert finding(catalog, requirement)[0] == "PASS"
    catalog.execute(
        "SELECT federated._note_breach('clinics', 'update_rejected', 'a', 'forged', clock_timestamp())"
    )
    status, evidence = finding(catalog, requirement)
    assert status == "MANUAL"
    assert evidence.startswith("1 breaches in the last 12 months, the clock of 1 is running until ")
    attest()
    assert finding(catalog, requirement)[0] == "PASS"
    catalog.execute("UPDATE federated.firing SET target = 'pg:alerts', next_attempt = NULL, failure = 'gone'")
    assert finding(catalog, requirement)[0] == "FAIL"


def test_what_is_old_and_still_there_fails_unless_it_is_on_hold(catalog: psycopg.Connection) -> None:
    assert finding(catalog, "Storage limitation")[0] == "MANUAL"
    assert finding(catalog, "Retention of documentation for six years", "HIPAA")[0] == "PASS"
    catalog.execute("SET session_replication_role = replica")
    catalog.execute("UPDATE federated.audit SET recorded_at = now() - interval '2600 days'")
    catalog.execute("RESET session_replication_role")
    assert finding(catalog, "Storage limitation")[0] == "FAIL"
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (legal_hold = true)")
    status, evidence = finding(catalog, "Storage limitation")
    assert status == "MANUAL"
    assert evidence.startswith("retention_days 2555, legal_hold t; ")
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (retention_days = 2189)")
    assert finding(catalog, "Retention of documentation for six years", "HIPAA")[0] == "FAIL"


def test_an_erasure_has_a_deadline_until_it_is_carried_out(catalog: psycopg.Connection) -> None:
    def shown() -> list[tuple[object, ...]]:
        return catalog.execute(
            "SELECT value < -20, (SELECT min(status) FROM federated_erasure_status) FROM federated_alert_metrics"
            " WHERE workspace_name = 'clinics' AND metric = 'erasure_deadline_days'"
        ).fetchall()

    place_order(catalog, "export", "asked", "pending")
    assert shown() == [(None, None)]
    # All nodes have answered, and the versions are yet to be put right.
    place_order(catalog, "erase", "answered", "answered", requested="now() - interval '60 days'")
    assert shown() == [(True, "retraining")]
    catalog.execute("SET session_replication_role = replica")
    catalog.execute(
        "INSERT INTO federated.erasure (order_id, workspace, completed_at, exactness, certificate, certificate_sha256, signature, signer)"
        " SELECT order_id, 'clinics', now(), 'exact', '{}', '', '', '' FROM federated.subject_order WHERE kind = 'erase'"
    )
    assert shown() == [(None, "completed")]


def test_an_erasure_that_is_not_exact_is_for_people_and_one_that_is_incomplete_fails(
    catalog: psycopg.Connection,
) -> None:
    def carry_out(exactness: str) -> None:
        place_order(catalog, "erase", "answered", "answered")
        catalog.execute("SET session_replication_role = replica")
        catalog.execute(
            "INSERT INTO federated.erasure (order_id, workspace, completed_at, exactness, certificate, certificate_sha256, signature, signer)"
            " SELECT o.order_id, 'clinics', now(), %s, '{}', '', '', '' FROM federated.subject_order AS o"
            " WHERE NOT EXISTS (SELECT FROM federated.erasure AS e WHERE e.order_id = o.order_id)",
            [exactness],
        )
        catalog.execute("RESET session_replication_role")

    for exactness, status in (
        ("exact: trained anew", "PASS"),
        ("approximate: versions keep what they learned", "MANUAL"),
        ("incomplete: a node did not answer", "FAIL"),
    ):
        carry_out(exactness)
        assert finding(catalog, "Erasure")[0] == status, exactness
    assert "3 carried out (1 exactly, 1 approximately, 1 incompletely)" in finding(catalog, "Erasure")[1]
