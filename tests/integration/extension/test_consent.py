"""Consent: what statements write down, what the register makes of its history, and a dataset's consent_query."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from heliosdb.catalog.consents import ABOUT
from heliosdb.transport.sealing import SealingKey
from tests.integration.extension.versions_support import execute, value
from tests.support.cluster import Cluster

CANARY = "person-3141592653"
SHARE = "CREATE FEDERATED DATASET patients FOR TABLE patient (age) IN WORKSPACE trial WITH ({})"


@pytest.fixture
def node_key(session: psycopg.Connection) -> SealingKey:
    """A key, published as a node's daemon does."""
    key = SealingKey.generate()
    session.execute("INSERT INTO federated.node_key (sealing_key) VALUES (%s)", [key.public])
    return key


@pytest.fixture
def dba(
    cluster: Cluster, federated_database: str, session: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    """A participant's own DBA, no superuser, with a table that is his."""
    with cluster.connect(federated_database, user="an_admin") as connection:
        session.execute("GRANT CREATE ON SCHEMA public TO an_admin")
        connection.execute("CREATE TABLE patient (person text, age integer)")
        connection.execute("INSERT INTO patient VALUES ('ann', 40), ('bob', 50), (NULL, 60)")
        yield connection


def refusal(session: psycopg.Connection, statement: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    return caught.value


# What the register makes of its history, beside a second account of the same rules: one word after the other.


@dataclass
class Standing:
    """The last word of one subject, in general and by purpose."""

    general: bool | None = None
    about: dict[str, bool] = field(default_factory=dict)
    sale: bool | None = None

    def hear(self, purpose: str | None, grant: bool) -> None:
        if purpose is None:
            self.general, self.about = grant, {}
        else:
            self.about[purpose] = grant
        if purpose == "sale":
            self.sale = grant

    def word(self, purpose: str | None) -> bool | None:
        """Whether the subject has consented; None where nothing was said."""
        if self.sale is False:
            return False
        if purpose is not None:
            return self.about.get(purpose, self.general)
        if self.general is False or any(not said for name, said in self.about.items() if name != "sale"):
            return False
        return self.general


def expected(history: list[tuple[str | None, bool, bool]], purpose: str | None) -> bool | None:
    everybody, own = Standing(), Standing()
    for about, grant, is_own in history:
        everybody.hear(about, grant)
        if is_own:
            own.hear(about, grant)
    if own.word(purpose) is False:
        return False
    return everybody.word(purpose)


def test_the_register_counts_what_was_said_last_in_whichever_order_it_came(
    session: psycopg.Connection,
) -> None:
    chance = random.Random(12)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    histories: dict[bytes, list[tuple[str | None, bool, bool]]] = {}
    rows: list[tuple[Any, ...]] = []
    for number in range(400):
        digest = number.to_bytes(8, "big")
        histories[digest] = [
            (
                chance.choice([None, "research", "marketing", "sale"]),
                chance.random() < 0.6,
                chance.random() < 0.4,
            )
            for _ in range(chance.randint(0, 6))
        ]
        for place, (purpose, grant, own) in enumerate(histories[digest]):
            spelt = purpose.upper() if purpose and chance.random() < 0.3 else purpose
            said_at = begun + timedelta(minutes=place)
            rows.append(("trial", digest, digest[::-1], "grant" if grant else "revoke", spelt, "node" if own else "coordinator",
                         None if own else uuid4(), said_at))  # fmt: skip
    chance.shuffle(rows)
    with session.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO federated.consent (workspace, digest, row_set_digest, kind, purpose, origin, order_id, said_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
    for purpose in (None, "research", "Marketing", "sale", "quality"):
        words = session.execute(
            "SELECT digest, row_set_digest, is_granted FROM federated._consent_words('trial', %s)", [purpose]
        ).fetchall()
        assert all(name == digest[::-1] for digest, name, _ in words)
        found = {digest: word for digest, _, word in words}
        asked = None if purpose is None else purpose.lower()
        wanted = {digest: expected(history, asked) for digest, history in histories.items()}
        assert found == {digest: word for digest, word in wanted.items() if word is not None}, purpose
        assert {True, False} == set(found.values())
    assert session.execute("SELECT * FROM federated._consent_words('another', NULL)").fetchall() == []


def test_nobody_changes_what_was_said(session: psycopg.Connection) -> None:
    session.execute(
        "INSERT INTO federated.consent (workspace, digest, row_set_digest, kind, origin, said_at)"
        " VALUES ('trial', '\\x0102030405060708', '\\x0102030405060708', 'revoke', 'node', now())"
    )
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        session.execute("UPDATE federated.consent SET kind = 'grant'")


# At a participant: for its own node.


def test_a_participants_dba_leaves_word_for_the_node_and_the_subject_only_sealed(
    session: psycopg.Connection, dba: psycopg.Connection, node_key: SealingKey
) -> None:
    execute(dba, SHARE.format("subject = 'person'"))
    execute(
        dba,
        f"GRANT FEDERATED CONSENT FOR SUBJECT '{CANARY}' PURPOSE 'research' IN WORKSPACE trial VERSION '2.1'",
        f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' FROM WORKSPACE trial",
    )
    rows = session.execute(
        "SELECT workspace, kind, purpose, version, requested_by, sealed FROM federated.consent_request ORDER BY request_id"
    ).fetchall()
    assert [row[:5] for row in rows] == [
        ("trial", "grant", "research", "2.1", "an_admin"),
        ("trial", "revoke", None, None, "an_admin"),
    ]
    assert [node_key.open_box(row[5], about=ABOUT + b"trial") for row in rows] == [CANARY.encode()] * 2
    assert session.execute(
        "SELECT subject_hash, purpose, version, status, recorded_by FROM federated_consent ORDER BY purpose"
    ).fetchall() == [
        (None, "research", "2.1", "requested", "node"),
        (None, None, None, "requested", "node"),
    ]
    said = session.execute(
        "SELECT workspace, session_role, details -> 'after' FROM federated.audit WHERE object_kind = 'consent_request'"
        " ORDER BY recorded_at"
    ).fetchall()
    assert said == [
        ("trial", "an_admin", {"kind": "grant", "purpose": "research", "version": "2.1"}),
        ("trial", "an_admin", {"kind": "revoke"}),
    ]
    for table in ("consent_request", "consent", "audit", "subject_order"):
        found = session.execute(f"SELECT t::text FROM federated.{table} AS t").fetchall()  # type: ignore[arg-type]
        assert CANARY not in str(found)
        assert CANARY.encode().hex() not in str(found)


def test_before_the_node_has_a_key_nothing_is_written_down(
    session: psycopg.Connection, dba: psycopg.Connection
) -> None:
    execute(dba, SHARE.format("subject = 'person'"))
    error = refusal(dba, f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' FROM WORKSPACE trial")
    assert error.sqlstate == "55000"
    assert error.diag.message_hint == "Start the node's daemon once: heliosdb node node.toml."
    assert CANARY not in str(error)
    assert value(session, "count(*) FROM federated.consent_request") == 0


def test_consent_is_for_whom_every_dataset_of_the_workspace_belongs_to(
    cluster: Cluster, federated_database: str, session: psycopg.Connection, dba: psycopg.Connection,
    node_key: SealingKey,
) -> None:  # fmt: skip
    session.execute("CREATE TABLE visit (person text, day date)")
    execute(dba, SHARE.format("subject = 'person'"))
    execute(session, "CREATE FEDERATED DATASET visits FOR TABLE visit IN WORKSPACE trial")
    error = refusal(dba, "GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE trial")
    assert (error.sqlstate, error.diag.message_primary) == (
        "42501",
        'must be owner of federated dataset "visits"',
    )
    assert refusal(dba, "REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE nothing").sqlstate == "42704"
    with cluster.connect(federated_database, user="an_operator") as operator:
        assert (
            refusal(operator, "REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE trial").sqlstate
            == "42501"
        )


# At the coordinator: an order to every node.


def test_at_the_coordinator_consent_is_an_order_to_every_node(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    statements = (
        f"GRANT FEDERATED CONSENT FOR SUBJECT '{CANARY}' PURPOSE 'research' IN WORKSPACE clinics VERSION '2.1'",
        f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' PURPOSE 'sale' FROM WORKSPACE clinics",
        f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' FROM WORKSPACE clinics",
    )
    with cluster.connect(federated_database, user="an_admin") as owner:
        error = refusal(owner, statements[0])
        assert error.sqlstate == "55000"
        assert CANARY not in str(error)
        catalog.execute(
            "INSERT INTO federated.coordinator_key (sealing_key) VALUES (%s)", [SealingKey.generate().public]
        )
        with owner.transaction():
            execute(owner, *statements)
    orders = catalog.execute(
        "SELECT kind, terms - 'said_at', terms ->> 'said_at', state FROM federated.subject_order ORDER BY terms ->> 'said_at'"
    ).fetchall()
    assert [(kind, terms, state) for kind, terms, _, state in orders] == [
        ("grant", {"purpose": "research", "version": "2.1"}, "requested"),
        ("revoke", {"purpose": "sale"}, "requested"),
        ("revoke", {}, "requested"),
    ]
    assert len({said_at for _, _, said_at, _ in orders}) == 3
    shown = "SELECT purpose, status, version, recorded_by, nodes FROM federated_consent ORDER BY purpose"
    assert [row[:2] for row in catalog.execute(shown)] == [
        ("research", "requested"), ("sale", "requested"), (None, "requested"),
    ]  # fmt: skip
    # As the coordinator's daemon does when it takes them, and when a node has answered.
    catalog.execute("UPDATE federated.subject_order SET pseudonym = '\\x0102', state = 'asked'")
    catalog.execute(
        "INSERT INTO federated.order_answer (order_id, node_id, node_name, state, outcome, statement, signature,"
        " certificate_sha256) SELECT order_id, 1, 'north', 'answered', 'recorded', '', '', '' FROM federated.subject_order"
        " WHERE terms ->> 'purpose' = 'sale'"
    )
    assert catalog.execute(shown).fetchall() == [
        ("research", "revoked", "2.1", "coordinator", []),
        ("sale", "opted out", None, "coordinator", ["north"]),
        (None, "revoked", None, "coordinator", []),
    ]
    for table in ("subject_order", "audit"):
        assert CANARY not in str(catalog.execute(f"SELECT t::text FROM federated.{table} AS t").fetchall())  # type: ignore[arg-type]


def test_a_workspace_is_its_owners_to_speak_for(
    cluster: Cluster, federated_database: str, session: psycopg.Connection
) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE theirs")
    with cluster.connect(federated_database, user="an_admin") as admin:
        error = refusal(admin, "GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE theirs")
    assert (error.sqlstate, error.diag.message_primary) == (
        "42501",
        'must be owner of federated workspace "theirs"',
    )


# consent_query.


def readable(cluster: Cluster, database: str) -> list[Any]:
    with cluster.connect(database, user="heliosdb_reader") as reader:
        return reader.execute("SELECT * FROM federated_subject.patients").fetchall()


def test_a_consent_query_is_a_view_of_the_datasets_owner_that_the_reader_alone_reads(
    cluster: Cluster, federated_database: str, session: psycopg.Connection, dba: psycopg.Connection
) -> None:
    dba.execute("CREATE TABLE agreed (who text, since date)")
    dba.execute("INSERT INTO agreed VALUES ('ann', '2026-01-01'), ('bob', NULL)")
    query = "SELECT who FROM agreed WHERE since IS NOT NULL -- whoever has signed"
    execute(dba, SHARE.format(f"subject = 'person', consent_query = $${query}$$"))
    assert readable(cluster, federated_database) == [("ann",)]
    with (
        cluster.connect(federated_database, user="heliosdb_reader") as reader,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        reader.execute("SELECT * FROM agreed")
    with (
        cluster.connect(federated_database, user="an_analyst") as analyst,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        analyst.execute("SELECT * FROM federated_subject.patients")
    owner = "relowner::regrole::text FROM pg_class WHERE oid = 'federated_subject.patients'::regclass"
    assert value(session, owner) == "an_admin"
    execute(session, "ALTER FEDERATED DATASET patients SET (consent_query = 'SELECT who FROM public.agreed')")
    assert len(readable(cluster, federated_database)) == 2
    assert value(session, owner) == "an_admin"
    execute(dba, "ALTER FEDERATED DATASET patients RESET (consent_query)")
    assert value(session, "to_regclass('federated_subject.patients')") is None
    execute(dba, "ALTER FEDERATED DATASET patients SET (consent_query = 'SELECT who FROM agreed')")
    execute(dba, "DROP FEDERATED DATASET patients")
    assert value(session, "to_regclass('federated_subject.patients')") is None


@pytest.mark.parametrize(
    ("options", "sqlstate", "message"),
    [
        ("require_consent = true", "22023", "require_consent needs a dataset with a subject"),
        ("consent_query = 'SELECT 1'", "22023", "consent_query needs a dataset with a subject"),
        ("subject = 'person', consent_query = 'SELECT 1', require_consent = false", "22023",
         "consent_query and require_consent = false exclude each other"),
        ("subject = 'person', consent_query = 'SELECT 1) AS c; DROP TABLE patient; SELECT 1 FROM (SELECT 2'", "42601",
         "the consent_query is not one query"),
        ("subject = 'person', consent_query = 'SELECT 1; DROP TABLE patient'", "42601", "the consent_query is not one query"),
        ("subject = 'person', consent_query = 'DELETE FROM patient RETURNING person'", "42601",
         "the consent_query is not one query"),
        ("subject = 'person', consent_query = '(SELECT 1'", "42601", "the consent_query is not one query"),
        ("subject = 'person', consent_query = 'SELECT nothing FROM patient'", "42703", None),
        ("subject = 'person', consent_query = 'SELECT person FROM nothing'", "42P01", None),
        ("subject = 'person', consent_query = 'SELECT person, age FROM patient'", "22023",
         "the consent_query must have one column"),
        ("subject = 'person', consent_query = 'SELECT rolname FROM pg_authid'", "42501", None),
        (f"subject = 'person', purpose = '{'p' * 257}'", "22023", 'the value of option "purpose" is too long'),
    ],
)  # fmt: skip
def test_options_of_consent_that_cannot_be_are_refused_and_leave_nothing(
    session: psycopg.Connection, dba: psycopg.Connection, options: str, sqlstate: str, message: str | None
) -> None:
    error = refusal(dba, SHARE.format(options))
    assert error.sqlstate == sqlstate, error
    assert message is None or error.diag.message_primary == message
    assert value(session, "count(*) FROM federated.dataset") == 0
    assert value(
        session, "to_regclass('patient') IS NOT NULL AND to_regclass('federated_subject.patients') IS NULL"
    )


def test_a_dataset_without_a_subject_cannot_come_to_ask_for_consent(dba: psycopg.Connection) -> None:
    execute(dba, SHARE.format("min_rows = 20"))
    error = refusal(dba, "ALTER FEDERATED DATASET patients SET (require_consent = true)")
    assert (error.sqlstate, error.diag.message_hint) == (
        "22023",
        "Share the table WITH (subject = 'column').",
    )
