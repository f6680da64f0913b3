"""Reports for auditors: a requirement is met by what is seen in the catalog and the server, or it is not met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors

from federated_sql.compliance import RULES, rules_of
from tests.integration.extension.test_predictions import make_current
from tests.support.cluster import Cluster

REGISTER = "REGISTER FEDERATED NODE '{0}' IN WORKSPACE clinics WITH (endpoint = 'https://{0}:1'{1})"


def execute(session: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def check(session: psycopg.Connection, regulation: str) -> dict[str, tuple[str, str, str, str]]:
    """Return requirement → status, details, evidence, reference."""
    rows = session.execute("SELECT * FROM federated_compliance_check('clinics', %s)", [regulation]).fetchall()
    found = {requirement: tuple(rest) for requirement, *rest in rows}
    assert len(found) == len(rows)
    assert all(text for row in rows for text in row)
    assert {status for status, *_ in found.values()} <= {"PASS", "FAIL", "MANUAL"}
    return found  # type: ignore[return-value]


def audit(session: psycopg.Connection) -> dict[str, tuple[str, str]]:
    """Return check → status, recommendation."""
    rows = session.execute("SELECT * FROM federated_security_audit('clinics')").fetchall()
    assert all(text for row in rows for text in row)
    assert {status for _, status, _ in rows} <= {"PASS", "FAIL", "WARN", "MANUAL"}
    return {name: (status, recommendation) for name, status, recommendation in rows}


def status_of(session: psycopg.Connection, regulation: str, requirement: str) -> str:
    return check(session, regulation)[requirement][0]


@contextmanager
def changed(catalog: psycopg.Connection, change: str, back: str | None = None) -> Iterator[None]:
    """Make a change for the length of a block; without `back` it is rolled back."""
    if back is None:
        with catalog.transaction(force_rollback=True):
            catalog.execute(change)  # type: ignore[arg-type]
            yield
        return
    catalog.execute(change)  # type: ignore[arg-type]
    try:
        yield
    finally:
        catalog.execute(back)  # type: ignore[arg-type]


@pytest.mark.parametrize(("regulation", "reference"), [("HIPAA", "45 CFR 164."), ("gdpr", "Art. ")])
def test_every_requirement_names_its_place_and_what_was_seen(
    catalog: psycopg.Connection, regulation: str, reference: str
) -> None:
    found = check(catalog, regulation)
    assert len(found) >= 20
    assert all(place.startswith(reference) for *_, place in found.values())


def test_the_audit_says_for_how_many_models_the_coordinator_sees_single_vectors(
    catalog: psycopg.Connection,
) -> None:
    """A workspace without a model, then with one that is summed in secret, then with another that is not."""
    with changed(catalog, "DELETE FROM federated.model"):
        assert audit(catalog)["secure_aggregation"][0] == "WARN"
        catalog.execute(
            "CALL federated.execute('CREATE FEDERATED MODEL hidden WITH (secure_aggregation = true)')"
        )
        assert audit(catalog)["secure_aggregation"][0] == "PASS"
        catalog.execute("CALL federated.execute('CREATE FEDERATED MODEL shown')")
        status, told = audit(catalog)["secure_aggregation"]
    assert status == "WARN"
    assert "for 1 of 2 models" in told


def test_no_row_says_that_a_function_is_missing(catalog: psycopg.Connection) -> None:
    for row in (*check(catalog, "HIPAA").values(), *check(catalog, "GDPR").values()):
        assert not any("this version" in text.casefold() or "0A000" in text for text in row), row


def test_what_no_program_knows_is_never_passed(catalog: psycopg.Connection) -> None:
    hipaa, gdpr = check(catalog, "HIPAA"), check(catalog, "GDPR")
    for requirement in ("Risk analysis", "Business associate contracts", "Encryption at rest", "Notification of breaches within 60 days",
                        "Minimum necessary", "De-identification of what leaves a node"):  # fmt: skip
        assert hipaa[requirement][0] == "MANUAL"
        assert hipaa[requirement][1]
    for requirement in ("Impact assessment", "Records of processing", "Special categories of data"):
        assert gdpr[requirement][0] == "MANUAL"


def test_the_declared_mode_is_checked(catalog: psycopg.Connection) -> None:
    assert status_of(catalog, "HIPAA", "Workspace declared under HIPAA") == "FAIL"
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = 'HIPAA')")
    assert status_of(catalog, "HIPAA", "Workspace declared under HIPAA") == "PASS"
    assert status_of(catalog, "GDPR", "Workspace declared under GDPR") == "FAIL"


def test_a_declaration_does_not_pass_for_runs_that_trained_without_a_budget(
    catalog: psycopg.Connection,
) -> None:
    requirement = "Workspace declared under HIPAA"
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = 'HIPAA')")
    make_current(catalog, ["age", "bmi"])
    for policy, status, evidence in (
        ({"privacy_budget": 0.5}, "PASS", "runs without a privacy budget: 0, before it was declared: 0"),
        (
            {"compliance_mode": "HIPAA"},
            "MANUAL",
            "runs without a privacy budget: 1, before it was declared: 0",
        ),
        (
            {"compliance_mode": "BOTH"},
            "MANUAL",
            "runs without a privacy budget: 1, before it was declared: 0",
        ),
        ({"compliance_mode": "none"}, "FAIL", "runs without a privacy budget: 1, before it was declared: 1"),
        ({}, "FAIL", "runs without a privacy budget: 1, before it was declared: 1"),
    ):
        # Not in the audit log, which would remember each of them.
        catalog.execute("SET session_replication_role = replica")
        catalog.execute(
            "UPDATE federated.run SET started_at = now(), policy = %s",
            [json.dumps({"workspace": "clinics", **policy})],
        )
        catalog.execute("RESET session_replication_role")
        found = check(catalog, "HIPAA")[requirement]
        assert found[0] == status, policy
        assert evidence in found[2]


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT SELECT ON federated.workspace TO PUBLIC",
        "GRANT USAGE ON SCHEMA federated_model TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION federated_model.risk TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION federated_evaluate(text) TO PUBLIC",
        "GRANT SELECT ON federated_audit_log TO PUBLIC",
    ],
)
def test_what_everybody_may_do_fails_access_control(catalog: psycopg.Connection, grant: str) -> None:
    assert status_of(catalog, "HIPAA", "Access control") == "PASS"
    with changed(catalog, grant):
        status, _, evidence, _ = check(catalog, "HIPAA")["Access control"]
        assert (status, evidence.split(" ")[0]) == ("FAIL", "1")
        assert check(catalog, "GDPR")["Integrity and confidentiality: access"][0] == "FAIL"
        assert audit(catalog)["public_rights"][0] == "FAIL"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE federated.audit SET action = 'x'",
        "DELETE FROM federated.audit",
        "ALTER TABLE federated.model DISABLE TRIGGER audit",
        "ALTER TABLE federated.ledger DISABLE TRIGGER audit",
        "DROP TRIGGER audit ON federated.run",
        "ALTER TABLE federated.audit ENABLE REPLICA TRIGGER link_audit",
    ],
)
def test_a_log_that_does_not_hold_or_is_not_kept_fails(catalog: psycopg.Connection, change: str) -> None:
    assert status_of(catalog, "HIPAA", "Audit controls") == "PASS"
    with changed(catalog, change):
        assert status_of(catalog, "HIPAA", "Audit controls") == "FAIL"
        assert status_of(catalog, "GDPR", "Accountability") == "FAIL"
        assert audit(catalog)["audit_log"][0] == "FAIL"


def test_nodes_are_judged_by_their_certificates(catalog: psycopg.Connection) -> None:
    def found() -> tuple[str, str, str]:
        checks = audit(catalog)
        return (
            status_of(catalog, "HIPAA", "Authentication of nodes"),
            checks["node_certificate_expiry"][0],
            checks["node_certificates_pinned"][0],
        )

    assert found() == ("MANUAL", "MANUAL", "MANUAL")
    execute(catalog, REGISTER.format("a", ""), REGISTER.format("b", ""))
    assert found() == ("MANUAL", "MANUAL", "WARN")
    catalog.execute(
        "UPDATE federated.node SET status = 'active', certificate = name, certificate_expires = now() + '31 days'"
    )
    assert found() == ("PASS", "PASS", "PASS")
    catalog.execute("UPDATE federated.node SET certificate_expires = now() + '29 days' WHERE name = 'b'")
    assert found() == ("PASS", "WARN", "PASS")
    assert audit(catalog)["node_certificate_expiry"][1].endswith("30 days: b.")
    catalog.execute(
        "UPDATE federated.node SET certificate_expires = now() - '1 second'::interval WHERE name = 'b'"
    )
    assert found() == ("FAIL", "FAIL", "PASS")
    catalog.execute(
        "UPDATE federated.node SET certificate = NULL, certificate_expires = NULL WHERE name = 'b'"
    )
    assert found() == ("FAIL", "PASS", "FAIL")


def test_links_to_nodes_are_judged_by_options_and_endpoints(catalog: psycopg.Connection) -> None:
    requirement = "Transmission security: coordinator and nodes"
    assert status_of(catalog, "HIPAA", requirement) == "MANUAL"
    execute(catalog, REGISTER.format("a", ""))
    assert status_of(catalog, "HIPAA", requirement) == "PASS"
    for change in (
        'UPDATE federated.node SET options = \'{"endpoint": "http://a:1"}\'',
        "UPDATE federated.node SET options = '{}'",
        'UPDATE federated.workspace SET options = options || \'{"tls_version": "1.2"}\'',
        "UPDATE federated.workspace SET options = options || '{\"certificate_validation\": false}'",
    ):
        with changed(catalog, change):
            assert status_of(catalog, "HIPAA", requirement) == "FAIL"
            assert audit(catalog)["node_links"][0] == "FAIL"
    for protocol in ("https", "flower"):
        come = {"communication_protocol": protocol}
        with changed(catalog, f"UPDATE federated.workspace SET options = options || '{json.dumps(come)}'"):
            catalog.execute("UPDATE federated.node SET options = '{}'")
            assert status_of(catalog, "HIPAA", requirement) == "PASS"


def test_a_budget_is_kept_or_it_is_not(catalog: psycopg.Connection) -> None:
    requirement = "Data protection by design"
    assert status_of(catalog, "GDPR", requirement) == "PASS"
    with changed(catalog, "UPDATE federated.workspace SET options = '{}'"):
        assert status_of(catalog, "GDPR", requirement) == "FAIL"
        assert status_of(catalog, "HIPAA", "De-identification of what leaves a node") == "FAIL"
        assert audit(catalog)["privacy_budget"][0] == "FAIL"
    with changed(
        catalog, "UPDATE federated.workspace SET options = options || '{\"privacy_budget\": 1000000}'"
    ):
        assert status_of(catalog, "GDPR", requirement) == "FAIL"
        assert "hides nobody" in check(catalog, "GDPR")[requirement][1]
    with changed(
        catalog,
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
        " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
        " VALUES ('clinics', gen_random_uuid(), 'risk', 1, 'train', 'a', 1, 1, 1, 0.6, 0.6, 0.6)",
    ):
        assert check(catalog, "GDPR")[requirement][0] == "FAIL"
        assert "0.6 of 0.5" in check(catalog, "GDPR")[requirement][2]
    make_current(catalog, ["age", "bmi"])
    with changed(
        catalog, 'UPDATE federated.run SET started_at = now(), policy = \'{"workspace": "clinics"}\''
    ):
        assert status_of(catalog, "GDPR", requirement) == "FAIL"


def test_residency_is_never_passed_on_a_nodes_word(catalog: psycopg.Connection) -> None:
    requirement = "Transfers to third countries"
    execute(catalog, REGISTER.format("a", ", data_residency = 'DE'"), REGISTER.format("b", ""))
    assert status_of(catalog, "GDPR", requirement) == "MANUAL"
    catalog.execute('UPDATE federated.workspace SET options = options || \'{"data_residency": "EU"}\'')
    status, _, evidence, _ = check(catalog, "GDPR")[requirement]
    assert (status, evidence) == (
        "FAIL",
        "data_residency EU; nodes: a in DE, b in an unstated place; outside: b",
    )
    execute(catalog, "UNREGISTER FEDERATED NODE 'b' FROM WORKSPACE clinics")
    assert status_of(catalog, "GDPR", requirement) == "MANUAL"


def test_the_servers_settings_are_read(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    found = check(catalog, "HIPAA")
    status, _, evidence, _ = found["Integrity of what is stored"]
    assert (status, evidence) == ("FAIL", "data_checksums = off, fsync = off, full_page_writes = off")
    # The tests' server trusts the socket, and only this machine reaches it.
    assert found["Authentication of users"][:3:2] == ("FAIL", "lines with trust: 1, lines in error: 0")
    assert found["Transmission security: clients"][0] == "MANUAL"
    checks = audit(catalog)
    assert (checks["client_authentication"][0], checks["client_tls"][0]) == ("FAIL", "MANUAL")
    assert (checks["password_encryption"][0], checks["extension_version"][0]) == ("PASS", "PASS")
    with changed(catalog, "SET LOCAL password_encryption = 'md5'"):
        catalog.execute("CREATE ROLE an_old_login LOGIN PASSWORD 'x'")
        assert audit(catalog)["password_encryption"] == (
            "FAIL", "Set the passwords anew that are still kept as MD5: of 1 roles.")  # fmt: skip


def test_whoever_may_not_see_a_setting_is_told_to_look_and_gets_no_error(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    with cluster.connect(federated_database, user="an_auditor") as auditor:
        assert check(auditor, "HIPAA")["Authentication of users"][0] == "MANUAL"
        assert check(auditor, "GDPR")["Accountability"][0] == "PASS"
        checks = audit(auditor)
    assert (checks["client_authentication"][0], checks["password_encryption"][0]) == ("MANUAL", "MANUAL")


@pytest.mark.parametrize(
    ("check_name", "expected", "change", "back"),
    [
        ("superuser_logins", "WARN", "ALTER ROLE a_nobody SUPERUSER", "ALTER ROLE a_nobody NOSUPERUSER"),
        ("federated_owner_members", "FAIL", "GRANT federated_owner TO a_nobody", "REVOKE federated_owner FROM a_nobody"),
        ("federated_owner_members", "FAIL", "GRANT federated_admin TO federated_owner",
         "REVOKE federated_admin FROM federated_owner"),
        ("federated_owner_members", "FAIL", "ALTER ROLE federated_owner LOGIN", "ALTER ROLE federated_owner NOLOGIN"),
        ("federated_daemon_members", "FAIL", "GRANT federated_daemon TO an_operator",
         "REVOKE federated_daemon FROM an_operator"),
        ("federated_daemon_members", "FAIL", "GRANT federated_reader TO heliosdb_daemon",
         "REVOKE federated_reader FROM heliosdb_daemon"),
    ],
)  # fmt: skip
def test_who_belongs_to_which_role_is_looked_at(
    catalog: psycopg.Connection, check_name: str, expected: str, change: str, back: str
) -> None:
    assert audit(catalog)[check_name][0] == "PASS"
    with changed(catalog, change, back):
        assert audit(catalog)[check_name][0] == expected
    assert audit(catalog)[check_name][0] == "PASS"


def test_few_nodes_are_a_warning(catalog: psycopg.Connection) -> None:
    assert audit(catalog)["fewest_nodes"][0] == "PASS"
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 2)")
    assert audit(catalog)["fewest_nodes"][0] == "WARN"


def test_a_column_list_gives_these_columns_in_the_functions_order(catalog: psycopg.Connection) -> None:
    [(rows,)] = catalog.execute(
        "SELECT federated._compliance_check_columns('clinics', 'HIPAA', '{status,requirement}')"
    ).fetchall()
    assert [(row["requirement"], row["status"]) for row in rows] == [
        (requirement, found[0]) for requirement, found in check(catalog, "HIPAA").items()
    ]
    assert {tuple(sorted(row)) for row in rows} == {("requirement", "status")}
    [(rows,)] = catalog.execute(
        "SELECT federated._security_audit_columns('clinics', '{check_name,status,recommendation}')"
    ).fetchall()
    assert {row["check_name"]: (row["status"], row["recommendation"]) for row in rows} == audit(catalog)


@pytest.mark.parametrize(
    ("call", "sqlstate", "message"),
    [
        ("federated_compliance_check('clinics', 'SOX')", "22023", "the regulation must be HIPAA or GDPR, not 'SOX'"),
        ("federated_compliance_check('clinics', 'BOTH')", "22023", "the regulation must be HIPAA or GDPR, not 'BOTH'"),
        ("federated_compliance_check('clinics', NULL)", "22023", "the regulation must be HIPAA or GDPR, not null"),
        ("federated_compliance_check('nothing', 'GDPR')", "42704", 'federated workspace "nothing" does not exist'),
        ("federated_compliance_check(NULL, 'GDPR')", "22004", "the name of a federated workspace must not be null"),
        ("federated_security_audit('nothing')", "42704", 'federated workspace "nothing" does not exist'),
        ("federated_security_audit(NULL)", "22004", "the name of a federated workspace must not be null"),
    ],
)  # fmt: skip
@pytest.mark.changes_nothing
def test_what_cannot_be_checked_is_one_clear_error(
    catalog: psycopg.Connection, call: str, sqlstate: str, message: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        catalog.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]
    assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, message)


@pytest.mark.parametrize("role", ["an_operator", "an_analyst", "heliosdb_daemon", "a_nobody"])
def test_reports_are_for_auditors_and_admins(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, role: str
) -> None:
    with cluster.connect(federated_database, user="an_admin") as admin:
        assert audit(admin)
        assert check(admin, "HIPAA")
    with cluster.connect(federated_database, user=role) as session:
        for call in (
            "federated_compliance_check('nothing', 'x')",
            "federated_security_audit('nothing')",
            "federated._compliance_check_columns('nothing', 'x', '{status}')",
            "federated._security_audit_columns('nothing', '{status}')",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]


def test_the_rules_of_modes_are_one_table_and_the_check_names_those_of_the_declared_mode(
    catalog: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    rules = catalog.execute("SELECT regulation, rule, reference FROM federated_compliance_modes()").fetchall()
    assert rules == [
        (regulation, rule.name, reference)
        for rule in RULES
        for regulation, reference in rule.references.items()
    ]
    for mode, held in (("GDPR", ("GDPR",)), ("BOTH", ("HIPAA", "GDPR"))):
        execute(catalog, f"ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = '{mode}')")
        for regulation in held:
            status, _, evidence, _ = check(catalog, regulation)[f"Workspace declared under {regulation}"]
            assert status == "PASS"
            assert evidence.endswith("; held: " + ", ".join(rule.name for rule in rules_of(regulation)))
    # What no statement lets in.
    options = "UPDATE federated.workspace SET options = options || '{\"retention_days\": 30}'"
    with changed(catalog, options):
        status, details, *_ = check(catalog, "HIPAA")["Workspace declared under HIPAA"]
        assert status == "FAIL"
        assert "compliance_mode = 'BOTH' needs retention_days of at least 2190" in details
    for refused in ("compliance_mode = 'HIPAA', retention_days = 30", "retention_days = 2189"):
        with pytest.raises(
            errors.InvalidParameterValue, match="needs retention_days of at least 2190"
        ) as caught:
            execute(catalog, f"ALTER FEDERATED WORKSPACE clinics SET ({refused})")
        assert (
            caught.value.diag.message_detail
            == "45 CFR 164.316(b)(2)(i): documentation is kept for six years."
        )
    with cluster.connect(federated_database, user="an_auditor") as auditor:
        assert len(auditor.execute("SELECT * FROM federated_compliance_modes()").fetchall()) == len(rules)


def test_a_mode_is_not_made_stricter_while_models_train_under_the_former(catalog: psycopg.Connection) -> None:
    execute(catalog, "START FEDERATED TRAINING risk")
    for mode in ("HIPAA", "GDPR"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            execute(catalog, f"ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = '{mode}')")
        assert caught.value.diag.message_detail == 'In training: "risk".'
    execute(catalog, "STOP FEDERATED TRAINING risk",
            "ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = 'BOTH')",
            "START FEDERATED TRAINING risk",
            # What asks for less than the run holds to needs nobody's patience.
            "ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = 'GDPR')",
            "ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = 'BOTH')",
            "ALTER FEDERATED WORKSPACE clinics RESET (compliance_mode)")  # fmt: skip
