"""Hostile names and values in every field of every statement: stored as text or refused, never executed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import psycopg
import pytest

from federated_sql import quote_string
from tests.support.cluster import Cluster

MEGABYTE = 1 << 20
STRIKES = (
    "DROP TABLE public.canary",
    "SELECT public.strike()",
    "ALTER ROLE a_nobody SUPERUSER",
    "COPY public.canary TO PROGRAM 'touch /tmp/struck'",
)
ESCAPES = ("'; {}; --", "'); {}; --", '"; {}; --', '"); {}; --', "$$; {}; $$", "$federated$); {}; --", "]); {}; --",
           "'||({})||'", "\\'; {}; --", "*/ {}; /*", "\n;{};\n", "%L'; {}; --")  # fmt: skip
ODD = (
    "%", "%s", "%I%L%1$s", "%%", "\\", "\\\\'", "E'\\x27'", "'", "''", '"', '""', "$$", "$a$", "$1", "--", "/*", "*/", ";",
    "\u202eevil\u202c", "\u200bzero", "\ufeffbom", "é" * 40, "😀" * 20, "\ud7ff", "a\tb", "a\rb", "\x01", "\x7f", "x" * 63,
    "x" * 64, "x" * 5_000, "../../etc/passwd", "/proc/self/environ", "null", "NULL", "true", "1e309", "-0", "{}", "[", "]",
    "{\"a\": 1}", "pg_catalog.pg_class", "federated", "current_user", "<script>", "${jndi:ldap://x}", "{{7*7}}", " ", "\u00a0",
)  # fmt: skip
PAYLOADS = (*(escape.format(strike) for escape in ESCAPES for strike in STRIKES), *ODD)

NAME_FIELDS = (
    "CREATE FEDERATED WORKSPACE {}",
    "ALTER FEDERATED WORKSPACE {} SET (min_nodes = 2)",
    "ALTER FEDERATED WORKSPACE clinics RENAME TO {}",
    "ALTER FEDERATED WORKSPACE clinics OWNER TO {}",
    "DROP FEDERATED WORKSPACE IF EXISTS {} CASCADE",
    "CREATE FEDERATED MODEL {} IN WORKSPACE clinics WITH (features = ['a'])",
    "CREATE FEDERATED MODEL m2 IN WORKSPACE {}",
    "CREATE FEDERATED MODEL m3 IN WORKSPACE clinics WITH ({} = 1)",
    "ALTER FEDERATED MODEL risk RENAME TO {}",
    "ALTER FEDERATED MODEL risk OWNER TO {}",
    "DROP FEDERATED MODEL IF EXISTS {} CASCADE",
    "START FEDERATED TRAINING {}",
    "STOP FEDERATED TRAINING {}",
    "CREATE FEDERATED DATASET {} FOR TABLE public.canary IN WORKSPACE clinics",
    "CREATE FEDERATED DATASET d2 FOR TABLE {} IN WORKSPACE clinics",
    "CREATE FEDERATED DATASET d3 FOR TABLE {}.canary IN WORKSPACE clinics",
    "CREATE FEDERATED DATASET d4 FOR TABLE public.canary ({}) IN WORKSPACE clinics",
    "CREATE FEDERATED DATASET d5 FOR TABLE public.canary IN WORKSPACE {}",
    "DROP FEDERATED DATASET IF EXISTS {}",
    "CREATE FEDERATED AGGREGATION FUNCTION {}() RETURNS FLOAT AS '' LANGUAGE sql",
    "CREATE FEDERATED ALERT {} ON WORKSPACE clinics WHEN active_nodes < 1 NOTIFY 'pg:x'",
    "CREATE FEDERATED ALERT a ON WORKSPACE clinics WHEN {} < 1 NOTIFY 'pg:x'",
    "ATTEST FEDERATED COMPLIANCE {} FOR 'Risk analysis' UNTIL '2026-01-01' AS 't'",
)
TEXT_FIELDS = (
    "REGISTER FEDERATED NODE {} IN WORKSPACE clinics WITH (endpoint = 'https://h.example:1')",
    "REGISTER FEDERATED NODE 'n2' IN WORKSPACE clinics WITH (endpoint = {})",
    "REGISTER FEDERATED NODE 'n3' IN WORKSPACE clinics WITH (endpoint = 'https://i.example:1', certificate = {})",
    "REGISTER FEDERATED NODE 'n4' IN WORKSPACE clinics WITH (endpoint = 'https://j.example:1', contact = {})",
    "UNREGISTER FEDERATED NODE IF EXISTS {} FROM WORKSPACE clinics",
    "CREATE FEDERATED WORKSPACE w2 WITH (data_residency = {})",
    "CREATE FEDERATED WORKSPACE w3 WITH (compliance_mode = {})",
    "CREATE FEDERATED WORKSPACE w4 WITH (privacy_budget = {})",
    "CREATE FEDERATED MODEL m4 IN WORKSPACE clinics WITH (features = [{}])",
    "CREATE FEDERATED MODEL m5 IN WORKSPACE clinics WITH (features = {})",
    "CREATE FEDERATED MODEL m6 IN WORKSPACE clinics WITH (target = {})",
    "CREATE FEDERATED MODEL m7 IN WORKSPACE clinics WITH (aggregation = {})",
    "CREATE FEDERATED MODEL m8 IN WORKSPACE clinics WITH (feature_ranges = {})",
    "CREATE FEDERATED DATASET d6 FOR TABLE public.canary IN WORKSPACE clinics WITH (subject = {})",
    "CHECKPOINT FEDERATED TRAINING risk TO {}",
    "RESUME FEDERATED TRAINING risk FROM {}",
    "TAG FEDERATED MODEL risk AS {}",
    "ROLLBACK FEDERATED MODEL risk TO VERSION {}",
    "CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS FLOAT AS {} LANGUAGE sql",
    "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = {}",
    "EXPORT FEDERATED DATA FOR SUBJECT {} FROM WORKSPACE clinics TO '/tmp/never'",
    "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE clinics TO {}",
    "GRANT FEDERATED CONSENT FOR SUBJECT {} PURPOSE 'p' IN WORKSPACE clinics",
    "CREATE FEDERATED ALERT a ON WORKSPACE clinics WHEN active_nodes < 1 NOTIFY {}",
    "ATTEST FEDERATED COMPLIANCE clinics FOR {} UNTIL '2026-01-01' AS 't'",
    "ATTEST FEDERATED COMPLIANCE clinics FOR 'Risk analysis' UNTIL {} AS 't'",
)
RAW_FIELDS = (*NAME_FIELDS[:3], NAME_FIELDS[14], *TEXT_FIELDS[:2],
              "CREATE FEDERATED DATASET d7 FOR TABLE public.canary WHERE ({}) IN WORKSPACE clinics")  # fmt: skip
# What a refusal may say. XX000 would be a defect, 42P01 or 42883 about our own objects an injection at work.
REFUSALS = {"42601", "42602", "42622", "42703", "42704", "42710", "42P01", "22023", "22021", "0A000", "54000", "54001",
            "55000", "55006", "2BP01", "42501", "42804", "42883", "42P22", "22P02", "42P18", "42P13"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempt:
    """A statement with a payload in it; `raw` is without the quotes that would make it one literal or name."""

    statement: str
    raw: bool


def attempts() -> Iterator[Attempt]:
    for template, payload in product(NAME_FIELDS, PAYLOADS):
        yield Attempt(template.format('"' + payload.replace('"', '""') + '"'), raw=False)
    for template, payload in product(TEXT_FIELDS, PAYLOADS):
        yield Attempt(template.format(quote_string(payload)), raw=False)
    for template, payload in product(RAW_FIELDS, PAYLOADS):
        yield Attempt(template.format(payload), raw=True)


@pytest.fixture
def target(cluster: Cluster, catalog: psycopg.Connection) -> psycopg.Connection:
    """A catalog with a canary table and a function that shows when it was called."""
    catalog.execute("CREATE TABLE public.canary (a float8, b text)")
    catalog.execute("INSERT INTO public.canary VALUES (1, 'alive')")
    catalog.execute("CREATE SEQUENCE public.struck")
    catalog.execute(
        "CREATE FUNCTION public.strike() RETURNS text LANGUAGE sql AS $$ SELECT nextval('public.struck')::text $$"
    )
    return catalog


def is_unharmed(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM public.canary WHERE b = 'alive'), (SELECT is_called FROM public.struck),"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = 'a_nobody')"
    ).fetchone()
    return row == (1, False, False)


def outcome(connection: psycopg.Connection, statement: str) -> str | None:
    """Execute in a transaction that is undone; return the SQLSTATE of the refusal, None where it was accepted."""
    with connection.transaction(force_rollback=True):
        try:
            with connection.transaction():
                connection.execute("CALL federated.execute(%s)", [statement])
        except psycopg.Error as error:
            assert error.diag.message_primary
            assert "Traceback" not in "".join(
                map(str, (error.diag.message_primary, error.diag.message_detail))
            )
            return error.sqlstate
        assert is_unharmed(connection)
    return None


def test_no_payload_in_any_field_is_executed(target: psycopg.Connection) -> None:
    tried = 0
    for attempt in attempts():
        sqlstate = outcome(target, attempt.statement)
        assert sqlstate is None or sqlstate in REFUSALS, attempt.statement[:300]
        tried += 1
    assert tried >= 2_000
    assert is_unharmed(target)


def test_accepted_payloads_are_stored_as_they_were_typed(target: psycopg.Connection) -> None:
    stored = 0
    for payload in PAYLOADS:
        statement = "CREATE FEDERATED WORKSPACE kept WITH (data_residency = " + quote_string(payload) + ")"
        with target.transaction(force_rollback=True):
            try:
                with target.transaction():
                    target.execute("CALL federated.execute(%s)", [statement])
            except psycopg.Error:
                continue
            row = target.execute(
                "SELECT options ->> 'data_residency' FROM federated.workspace WHERE name = 'kept'"
            ).fetchone()
            assert row == (payload,)
            stored += 1
    assert stored > len(PAYLOADS) // 2


def test_a_megabyte_in_any_field_is_refused(target: psycopg.Connection, subtests: pytest.Subtests) -> None:
    for template in (*NAME_FIELDS, *TEXT_FIELDS):
        with subtests.test(template=template):
            quoted = f"'{'x' * MEGABYTE}'" if template in TEXT_FIELDS else f'"{"x" * MEGABYTE}"'
            assert outcome(target, template.format(quoted)) == "54000"
            shorter = quoted.replace("x" * MEGABYTE, "x" * (MEGABYTE - 1000))
            assert outcome(target, template.format(shorter)) in {"22023", "42602", "42601"}


def test_a_role_without_rights_learns_nothing_about_any_object(
    cluster: Cluster, target: psycopg.Connection
) -> None:
    database = target.info.dbname
    with cluster.connect(database, user="an_analyst") as analyst:
        target.execute("GRANT USAGE ON SCHEMA federated TO an_analyst")
        for template in (*NAME_FIELDS, *TEXT_FIELDS):
            said = set()
            for name in ("clinics", "risk", "no_such_thing"):
                quoted = f"'{name}'" if template in TEXT_FIELDS else name
                with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
                    analyst.execute("CALL federated.execute(%s)", [template.format(quoted)])
                said.add(str(refused.value))
            assert len(said) == 1
