"""What a person attests counts where no program can know, until its last day, and is on record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.integration.extension.versions_support import notices_of
from tests.support.cluster import Cluster

UNTIL = datetime.now(UTC).date() + timedelta(days=90)


def within_a_day(session: psycopg.Connection, check: Callable[[date], None]) -> None:
    """Do what depends on the server's day, and once more where that has changed meanwhile."""
    today = day_of(session)
    try:
        check(today)
    except (AssertionError, psycopg.Error):
        now = day_of(session)
        if now == today:
            raise
        check(now)


def day_of(session: psycopg.Connection) -> date:
    """Return the server's day, as attestations count it."""
    [(found,)] = session.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date").fetchall()
    return found  # type: ignore[no-any-return]


@pytest.fixture
def auditor(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A connection of a login role in federated_auditor, beside `catalog`."""
    with cluster.connect(federated_database, user="an_auditor") as connection:
        yield connection


def attest(
    session: psycopg.Connection,
    requirement: str = "Risk analysis",
    until: object = UNTIL,
    text: str = "Made in May",
    workspace: str = "clinics",
) -> None:
    statement = f"ATTEST FEDERATED COMPLIANCE {workspace} FOR '{requirement}' UNTIL '{until}' AS '{text}'"
    session.execute("CALL federated.execute(%s)", [statement])


def finding(session: psycopg.Connection, requirement: str, regulation: str = "HIPAA") -> tuple[str, str]:
    """Return status and details of a requirement."""
    [found] = session.execute(
        "SELECT status, details FROM federated_compliance_check('clinics', %s) WHERE requirement = %s",
        [regulation, requirement],
    ).fetchall()
    return found  # type: ignore[return-value]


def refusal(session: psycopg.Connection, *arguments: Any, **named: Any) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        attest(session, *arguments, **named)
    return caught.value


def test_an_attestation_makes_manual_a_pass_with_author_and_last_day(
    catalog: psycopg.Connection, auditor: psycopg.Connection
) -> None:
    assert finding(catalog, "Risk analysis")[0] == "MANUAL"

    def check(today: date) -> None:
        attest(auditor, "risk ANALYSIS")
        # By whoever looks the evidence may differ: another sees more, or less.
        assert finding(auditor, "Risk analysis") == (
            "PASS",
            f"Attested by an_auditor on {today} until {UNTIL}: Made in May",
        )

    within_a_day(auditor, check)
    assert finding(catalog, "Workforce access")[0] == "MANUAL"


def test_the_newest_attestation_counts_and_all_are_kept(
    catalog: psycopg.Connection, auditor: psycopg.Connection
) -> None:
    attest(auditor, text="first")

    def check(today: date) -> None:
        attest(auditor, text="second", until=today)
        assert finding(auditor, "Risk analysis")[1].endswith(f"until {today}: second")

    within_a_day(auditor, check)
    catalog.execute(
        "UPDATE federated.attestation SET valid_until = valid_until - 1 WHERE statement = 'second'"
    )
    # The first has not ended, but it was replaced.
    assert finding(catalog, "Risk analysis")[0] == "MANUAL"
    assert auditor.execute(
        "SELECT statement, state, author, status_then FROM federated_attestations ORDER BY attested_at"
    ).fetchall() == [
        ("first", "replaced", "an_auditor", "MANUAL"),
        ("second", "expired", "an_auditor", "MANUAL"),
    ]


def test_what_has_changed_since_is_shown(catalog: psycopg.Connection, auditor: psycopg.Connection) -> None:
    attest(auditor, "Business associate contracts", text="all signed")
    catalog.execute(
        "CALL federated.execute($$REGISTER FEDERATED NODE 'a' IN WORKSPACE clinics WITH (endpoint = 'https://a:1')$$)"
    )
    status, details = finding(catalog, "Business associate contracts")
    assert status == "PASS"
    assert details.endswith("all signed (What was seen then: nodes: 0, without a contact: 0)")


def test_what_fails_cannot_be_attested_and_what_fails_later_fails(
    catalog: psycopg.Connection, auditor: psycopg.Connection
) -> None:
    error = refusal(auditor, "Integrity of what is stored")
    assert error.sqlstate == "55000"
    assert "fsync = off" in (error.diag.message_detail or "")
    attest(auditor, "De-identification of what leaves a node", text="epsilon 0.5 is fine")
    assert finding(catalog, "De-identification of what leaves a node")[0] == "PASS"
    catalog.execute("UPDATE federated.workspace SET options = options - 'privacy_budget'")
    assert finding(catalog, "De-identification of what leaves a node")[0] == "FAIL"


def test_attesting_what_passes_by_itself_says_so(auditor: psycopg.Connection) -> None:
    told = notices_of(auditor)
    attest(auditor, "Access control")
    assert ["passes by what is seen now" in one for one in told] == [True]


@pytest.mark.parametrize(
    ("named", "sqlstate", "words"),
    [
        ({"requirement": "Risk analisys"}, "42704", 'Did you mean "Risk analysis"?'),
        ({"requirement": "zzzzzz"}, "42704", "federated_compliance_requirements"),
        ({"workspace": "nothing"}, "42704", 'federated workspace "nothing" does not exist'),
        ({"until": "yesterday"}, "22023", "would have ended"),
        ({"until": "too far"}, "22023", "too long"),
        ({"until": "31.12.2026"}, "22023", "YYYY-MM-DD"),
        ({"until": "infinity"}, "22023", "YYYY-MM-DD"),
        ({"until": "2027-02-30"}, "22023", "YYYY-MM-DD"),
        ({"text": "x" * 4097}, "22023", "at most 4096"),
        ({"text": " "}, "22023", "may not be empty"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.changes_nothing
def test_what_cannot_be_attested_is_one_clear_error(
    catalog: psycopg.Connection,
    auditor: psycopg.Connection,
    named: dict[str, object],
    sqlstate: str,
    words: str,
) -> None:
    days = {"yesterday": -2, "too far": 734}
    if named.get("until") in days:
        # Two days away from the ends, so that no midnight between here and the server changes what is said.
        named = {"until": day_of(auditor) + timedelta(days=days[str(named["until"])])}
    error = refusal(auditor, **named)
    said = " ".join(
        filter(None, (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint))
    )
    assert error.sqlstate == sqlstate
    assert words in said
    assert catalog.execute("SELECT count(*) FROM federated.attestation").fetchall() == [(0,)]


@pytest.mark.parametrize("role", ["an_admin", "an_operator"])
def test_whoever_runs_the_federation_does_not_attest_it(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, role: str
) -> None:
    with cluster.connect(federated_database, user=role) as session:
        error = refusal(session)
        assert error.sqlstate == "42501"
        assert error.diag.message_hint == "This needs membership in the role federated_auditor."
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(
                "INSERT INTO federated.attestation (workspace_id, requirement, valid_until, statement)"
                " SELECT workspace_id, 'Risk analysis', now()::date, 'x' FROM federated.workspace"
            )


def test_an_auditor_writes_neither_the_author_nor_what_was_seen_and_changes_nothing(
    auditor: psycopg.Connection,
) -> None:
    attest(auditor)
    for attempt in (
        "INSERT INTO federated.attestation (workspace_id, requirement, valid_until, statement, author)"
        " SELECT workspace_id, 'Risk analysis', now()::date, 'x', 'postgres' FROM federated.workspace",
        "INSERT INTO federated.compliance_record (workspace_id, regulation, findings)"
        " SELECT workspace_id, 'HIPAA', '[]' FROM federated.workspace",
        "UPDATE federated.attestation SET valid_until = valid_until + 1",
        "DELETE FROM federated.attestation",
        "DELETE FROM federated.compliance_record",
        "CALL federated.execute('DROP FEDERATED WORKSPACE clinics')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            auditor.execute(attempt)  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.UndefinedObject):
        auditor.execute(
            "INSERT INTO federated.attestation (workspace_id, requirement, valid_until, statement)"
            " SELECT workspace_id, 'Nonsense', now()::date, 'x' FROM federated.workspace"
        )


def test_the_audit_log_has_who_attested_what_and_a_hash_of_the_words(
    catalog: psycopg.Connection, auditor: psycopg.Connection
) -> None:
    attest(auditor, text="Dr. Who looked")
    [(role, name, details)] = catalog.execute(
        "SELECT acting_role, object_name, details -> 'after' FROM federated_audit_log WHERE object_kind = 'attestation'"
    ).fetchall()
    assert (role, name) == ("an_auditor", "Risk analysis")
    assert details["statement_sha256"] == hashlib.sha256(b"Dr. Who looked").hexdigest()
    assert details["valid_until"] == str(UNTIL)
    assert "Dr. Who" not in str(details)
    assert catalog.execute("SELECT is_intact FROM federated_audit_verify('clinics')").fetchall() == [(True,)]


def test_a_check_is_kept_as_it_was(catalog: psycopg.Connection, auditor: psycopg.Connection) -> None:
    seen = auditor.execute("SELECT * FROM federated_compliance_check('clinics', 'GDPR')").fetchall()
    recorded = auditor.execute(
        "SELECT * FROM federated_record_compliance_check('clinics', 'gdpr')"
    ).fetchall()
    assert recorded == seen
    attest(auditor, "Impact assessment")
    history = auditor.execute(
        "SELECT requirement, status, details, evidence, reference, workspace, regulation, recorded_by"
        " FROM federated_compliance_history ORDER BY place"
    ).fetchall()
    assert history == [(*row, "clinics", "GDPR", "an_auditor") for row in recorded]
    [(hashed, logged)] = catalog.execute(
        "SELECT encode(sha256(convert_to(c.findings::text, 'UTF8')), 'hex'), a.details -> 'after' ->> 'findings_sha256'"
        " FROM federated.compliance_record AS c, federated_audit_log AS a WHERE a.object_kind = 'compliance_record'"
    ).fetchall()
    assert hashed == logged


def test_two_regulations_share_names_only_with_the_finding(catalog: psycopg.Connection) -> None:
    assert not catalog.execute(
        "SELECT requirement FROM federated._requirements() GROUP BY requirement HAVING count(DISTINCT finding) > 1"
    ).fetchall()
    for regulation in ("HIPAA", "GDPR"):
        assert (
            catalog.execute(
                "SELECT count(*) FROM federated_compliance_check('clinics', %s)", [regulation]
            ).fetchall()
            == catalog.execute(
                "SELECT count(*) FROM federated_compliance_requirements WHERE regulation = %s", [regulation]
            ).fetchall()
        )


def test_attestations_and_records_go_with_their_workspace(
    catalog: psycopg.Connection, auditor: psycopg.Connection
) -> None:
    attest(auditor)
    auditor.execute("SELECT count(*) FROM federated_record_compliance_check('clinics', 'HIPAA')")
    catalog.execute("CALL federated.execute('DROP FEDERATED WORKSPACE clinics CASCADE')")
    assert catalog.execute(
        "SELECT (SELECT count(*) FROM federated.attestation), (SELECT count(*) FROM federated.compliance_record),"
        " (SELECT count(*) FROM federated.audit WHERE object_kind = 'attestation')"
    ).fetchall() == [(0, 0, 1)]
