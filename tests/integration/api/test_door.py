"""The page's door on a real database: sessions that end with their token, and statements that stay in their role."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.integration.api.stack import (
    DEADLINE,
    LOGIN,
    PREFIX,
    Api,
    drop_roles,
    make_roles,
    make_token,
    running_api,
)
from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster
from tests.support.publication import publish_version

ME, OTHER = "rest_analyst", "rest_admin"
PAGE = Path(__file__).resolve().parents[3] / "docs" / "rest.md"

MISCHIEF = f"""
CREATE TABLE public.loot (taken_by text);
ALTER TABLE public.loot OWNER TO {OTHER};
CREATE TABLE public.open_table (a integer PRIMARY KEY DEFERRABLE);
GRANT ALL ON public.open_table TO {ME};
CREATE SCHEMA mischief AUTHORIZATION {ME};
SET ROLE {ME};
CREATE FUNCTION mischief.become() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('role', '{OTHER}', false);
    INSERT INTO public.loot VALUES (current_user);
    RETURN 'escaped';
END $$;
-- What says that it changes nothing may be called where nothing else may.
CREATE FUNCTION mischief.quiet(a integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    -- Where it is refused, it waits for its hour.
    BEGIN
        PERFORM mischief.become();
        PERFORM pg_catalog.set_config('role', '{ME}', false);
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    RETURN true;
END $$;
CREATE FUNCTION mischief.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mischief.quiet(1);
    RETURN NULL;
END $$;
CREATE FUNCTION mischief.in_clause() RETURNS text LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.loot VALUES (current_user); RETURN ''escaped''; END';
CREATE PROCEDURE mischief.commits() LANGUAGE plpgsql AS $$
BEGIN
    COMMIT;
    PERFORM mischief.become();
END $$;
CREATE FUNCTION mischief.swallows() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        BEGIN
            PERFORM pg_sleep(60);
        EXCEPTION WHEN query_canceled THEN NULL;
        END;
    END LOOP;
END $$;
CREATE DOMAIN mischief.evil AS integer CHECK (mischief.quiet(VALUE));
"""

# Each of them leaves its role where statements run as that role by SET ROLE alone: a test shows it.
REAL = {
    "SET": f"DO $$ BEGIN SET ROLE {OTHER}; INSERT INTO public.loot VALUES ('x'); END $$",
    "RESET": f"DO $$ BEGIN RESET ROLE; EXECUTE 'SET ROLE {OTHER}'; INSERT INTO public.loot VALUES ('x'); END $$",
    "NONE": f"DO $$ BEGIN SET ROLE NONE; PERFORM set_config('role', '{OTHER}', true); INSERT INTO public.loot VALUES ('x'); END $$",
    "a function": "SELECT mischief.become()",
    "a column that is evaluated late": "SELECT CASE WHEN g > 900 THEN mischief.become() END FROM generate_series(1, 950) AS g",
    "EXPLAIN ANALYZE": "EXPLAIN ANALYZE SELECT mischief.become()",
    "a check of a domain in a literal, while it is parsed": "SELECT '{{1}}'::mischief.evil[]".replace("{{1}}", "{1}"),
    "a cursor that is read at COMMIT": "DECLARE c CURSOR WITH HOLD FOR SELECT mischief.become()",
    "the same in a block": "DO $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT mischief.become()'; END $$",
    "a trigger": """DO $$ BEGIN
        CREATE TEMPORARY TABLE t (a integer);
        CREATE TRIGGER f AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION mischief.fire();
        INSERT INTO t VALUES (1);
    END $$""",
    "a trigger at COMMIT": """DO $$ BEGIN
        CREATE TEMPORARY TABLE t (a integer);
        CREATE CONSTRAINT TRIGGER f AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mischief.fire();
        INSERT INTO t VALUES (1);
    END $$""",
    "one that defers itself again": """DO $$ BEGIN
        CREATE TEMPORARY TABLE t (a integer);
        CREATE CONSTRAINT TRIGGER f AFTER INSERT ON t DEFERRABLE FOR EACH ROW EXECUTE FUNCTION mischief.fire();
        SET CONSTRAINTS ALL DEFERRED;
        INSERT INTO t VALUES (1);
    END $$""",
    "an exclusion constraint at COMMIT": """DO $$ BEGIN
        CREATE TEMPORARY TABLE t (a integer, EXCLUDE USING btree ((mischief.quiet(a)::text) WITH =) DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO t VALUES (1), (1);
        DELETE FROM t WHERE ctid = '(0,1)';
    END $$""",
    "a check of a table": "DO $$ BEGIN CREATE TEMPORARY TABLE t (a integer CHECK (mischief.quiet(a))); INSERT INTO t VALUES (1); END $$",
}  # fmt: skip

REFUSED = [
    (f"SET ROLE {OTHER}", "42501"), ("SET ROLE NONE", "42501"), ("RESET ROLE", "42501"), (f"SET LOCAL ROLE {OTHER}", "42501"),
    (f"SET SESSION AUTHORIZATION {OTHER}", "42501"), ("RESET SESSION AUTHORIZATION", "42501"),
    (f"SELECT set_config('role', '{OTHER}', true)", "42501"), ("SELECT set_config('session_authorization', 'postgres', false)", "42501"),
    ("DISCARD ALL", "25001"), ("COMMIT", "0A000"), ("ROLLBACK", "0A000"), ("PREPARE TRANSACTION 'x'", "0A000"),
    ("CALL mischief.commits()", "2D000"), ("DO $$ BEGIN COMMIT; END $$", "2D000"),
    ("COPY (SELECT 1) TO STDOUT", "0A000"), ("COPY public.open_table FROM STDIN", "0A000"), ("COPY (SELECT 1) TO PROGRAM 'id'", "42501"),
    ("SELECT lo_import('/etc/passwd')", "42501"), ("SELECT pg_read_file('/etc/passwd')", "42501"),
    ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rest_login' AND pid <> pg_backend_pid()", "42501"),
    ("SELECT * FROM public.loot", "42501"), ("SELECT 1; SELECT 2", "42601"), ("", "42601"), ("-- nothing", "42601"), ("SELEC 1", "42601"),
    ("SELECT 1/0", "22012"), ("SELECT repeat('x', 2000000)", "54000"), ("VACUUM", "25001"),
    ("INSERT INTO public.open_table VALUES (1)", "25006"), ("SELECT 'unfinished", "42601"), ("CREATE TEMPORARY TABLE t (a integer)", "25006"),
    ("CREATE TABLE mischief.kept (a integer)", "25006"), ("SET TRANSACTION READ WRITE", "25001"),
    ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '28000', MESSAGE = 'log in here'; END $$", "28000"),
    ("CREATE FEDERATED WORKSPACE w WITH (no_such_option = 1)", "42501"),
    ("CREATE FEDERATED DATASET d FOR TABLE public.open_table IN WORKSPACE w", "0A000"), ("CREATE FEDERATED WORKSPACE", "42501"),
    ("CHECKPOINT FEDERATED TRAINING m TO '/tmp/x'", "0A000"),
]  # fmt: skip


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A catalog, roles and what an attacker has prepared; no node and no coordinator."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("door"), database) as made:
        try:
            yield made
        finally:
            cluster.drop_database(database)
            drop_roles(made)


@pytest.fixture(scope="module")
def api(world: World) -> Iterator[Api]:
    tokens = make_roles(world)
    with world.cluster.connect(world.database) as connection:
        connection.execute(MISCHIEF.encode())
    with running_api(world, "door", tokens) as made:
        yield made


@pytest.fixture(scope="module")
def hasty(api: Api) -> Iterator[Api]:
    """One that gives statements little time: too little for those of a machine that does much else."""
    with running_api(api.world, "hasty", api.tokens, sql_timeout=2, sql_connections=8) as made:
        yield made


@pytest.fixture
def browser(api: Api) -> Iterator[httpx.Client]:
    """A browser that has logged in."""
    with httpx.Client(base_url=api.url + PREFIX, timeout=DEADLINE) as client:
        answer = client.post("/session", json={"token": api.tokens[ME]}, headers={"Origin": api.url})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf"]
        yield client


def test_what_the_page_says_to_type_is_typed(api: Api, tmp_path: Path) -> None:
    [block] = re.findall(r"^```sh session\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["bash", "-eu", "-c", block],
        env={**os.environ, "API": api.url, "TOKEN": api.tokens[ME]},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'"rows":[["{ME}"]]' in done.stdout


def ask(api: Api, statement: str, role: str = ME) -> httpx.Response:
    return api.call(role, "POST", "/sql", json={"statement": statement})


@contextmanager
def as_caller(api: Api) -> Iterator[psycopg.Connection[Any]]:
    """A transaction as the caller's role, without a box around it."""
    with psycopg.connect(api.world.cluster.dsn(api.world.database, user=LOGIN)) as connection:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(ME)))
        yield connection


def loot(api: Api) -> list[Any]:
    with api.world.cluster.connect(api.world.database) as connection:
        found = connection.execute("SELECT taken_by FROM public.loot").fetchall()
        connection.execute("TRUNCATE public.loot")
        return found


def test_a_session_shows_who_it_is_and_calls_go_with_its_cookie(api: Api, browser: httpx.Client) -> None:
    shown = browser.get("/session").json()
    assert (shown["role"], shown["rights"]) == (ME, ["read", "predict", "sql"])
    assert shown["csrf"] == browser.headers["X-CSRF-Token"]
    assert browser.get("/workspaces").status_code == 200
    assert browser.post("/sql", json={"statement": "SELECT current_user"}).json()["rows"] == [[ME]]
    assert api.tokens[ME] not in str(browser.cookies)
    assert api.tokens[ME] not in api.log.read_text()


def test_a_session_ends_when_it_is_left_and_when_its_token_is_revoked(
    api: Api, browser: httpx.Client
) -> None:
    kept = dict(browser.cookies)
    left = browser.delete("/session")
    assert left.status_code == 204
    assert not browser.cookies
    assert (
        browser.get(
            "/session", headers={"Cookie": "; ".join(f"{k}={v}" for k, v in kept.items())}
        ).status_code
        == 401
    )
    token = make_token(api.world, ME)
    with httpx.Client(base_url=api.url + PREFIX, timeout=DEADLINE) as client:
        assert client.post("/session", json={"token": token}).status_code == 200
        assert client.get("/workspaces").status_code == 200
        with api.world.cluster.connect(api.world.database) as connection:
            connection.execute(
                "UPDATE federated.api_token SET revoked_at = now() WHERE token_sha256 = sha256(convert_to(%s, 'UTF8'))",
                [token],
            )
        assert client.get("/workspaces").status_code == 401


def test_nothing_is_changed_without_the_pages_token_and_from_elsewhere(
    api: Api, browser: httpx.Client
) -> None:
    path, body = "/sql", {"statement": "SELECT 1"}
    right = browser.headers.pop("X-CSRF-Token")
    assert browser.post(path, json=body).status_code == 403
    assert browser.delete("/session").status_code == 403
    for headers in (
        {"Origin": "https://evil.example.com"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"}, {"Origin": api.url.replace("http", "https")},
    ):  # fmt: skip
        assert browser.post(path, json=body, headers={"X-CSRF-Token": right, **headers}).status_code == 403
        assert browser.post("/session", json={"token": api.tokens[ME]}, headers=headers).status_code == 403
    assert browser.get("/workspaces", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    fine = {"X-CSRF-Token": right, "Origin": api.url, "Sec-Fetch-Site": "same-origin"}
    assert browser.post(path, json=body, headers=fine).status_code == 200
    # Who shows a token with each call is no page that was led astray.
    assert (
        api.call(ME, "POST", path, json=body, headers={"Origin": "https://tool.example.com"}).status_code
        == 200
    )


def test_who_shows_no_good_token_has_no_session(api: Api) -> None:
    for token in ("hfl_" + "0" * 72, "eyJhbGciOiJub25lIn0.e30.", "x"):
        answer = httpx.post(f"{api.url}{PREFIX}/session", json={"token": token}, timeout=DEADLINE)
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    for body in ({}, {"token": 1}, {"token": "x" * 17_000}, {"token": "x", "more": 1}):
        answer = httpx.post(f"{api.url}{PREFIX}/session", json=body, timeout=DEADLINE)
        assert answer.status_code in (422, 413)
    assert httpx.delete(f"{api.url}{PREFIX}/session", timeout=DEADLINE).status_code == 204


@pytest.mark.parametrize("statement", REAL.values(), ids=REAL)
def test_a_statement_cannot_leave_its_role(api: Api, statement: str) -> None:
    with as_caller(api) as connection:
        connection.execute(statement.encode())
    assert loot(api), "it is no attack"
    answer = ask(api, statement)
    assert (loot(api), "escaped" in answer.text) == ([], False), answer.text


def test_a_function_with_a_role_in_its_head_cannot_either(api: Api) -> None:
    with as_caller(api) as connection:
        connection.execute(f"ALTER FUNCTION mischief.in_clause() SET role = {OTHER}")
    assert ask(api, "SELECT mischief.in_clause()").json()["sqlstate"] == "42501"
    assert loot(api) == []


def test_nothing_of_a_statement_is_there_afterwards(api: Api) -> None:
    """So nothing of it is done at COMMIT either, in whichever way it was put off."""
    with as_caller(api) as connection:
        connection.execute("CREATE TABLE mischief.kept (a integer)")
        connection.execute("CREATE SEQUENCE mischief.counted")
        connection.execute(
            "CREATE FUNCTION mischief.keeps() RETURNS integer LANGUAGE sql AS 'INSERT INTO mischief.kept VALUES (1) RETURNING a'"
        )
    for statement in (
        "INSERT INTO mischief.kept VALUES (1)", "INSERT INTO mischief.kept VALUES (1) RETURNING a", "SELECT mischief.keeps()",
        "DO $$ BEGIN SET transaction_read_only = off; INSERT INTO mischief.kept VALUES (1); END $$",
        "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); INSERT INTO mischief.kept VALUES (1); END $$",
        "SELECT nextval('mischief.counted')", "DROP TABLE mischief.kept", "WITH w AS (INSERT INTO mischief.kept VALUES (1) RETURNING a) TABLE w",
        "SELECT lo_creat(-1)", "EXPLAIN ANALYZE INSERT INTO mischief.kept VALUES (1)", "SELECT 1 FOR UPDATE",
    ):  # fmt: skip
        answer = ask(api, statement)
        if answer.status_code != 200:
            assert answer.json()["sqlstate"] in ("25006", "25001"), answer.text
            assert "hint" in answer.json() or answer.json()["sqlstate"] == "25001"
    found = api.world.query(
        "SELECT (SELECT count(*) FROM mischief.kept) AS kept, NOT is_called AS untouched FROM mischief.counted"
    )
    assert found == [{"kept": 0, "untouched": True}]


def test_an_answer_is_bounded_whatever_operators_a_caller_has_made(api: Api) -> None:
    with as_caller(api) as connection:
        for name in ("=", ">"):
            connection.execute(
                f"CREATE FUNCTION mischief.never_{'eq' if name == '=' else 'gt'}(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false'"
            )
            connection.execute(
                f"CREATE OPERATOR mischief.{name} (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = mischief.never_{'eq' if name == '=' else 'gt'})"
            )
    told = ask(
        api, "SELECT set_config('search_path', 'mischief, pg_catalog', true) FROM generate_series(1, 5000)"
    ).json()
    assert (len(told["rows"]), told["truncated"]) == (1000, True)


@pytest.mark.parametrize(("statement", "sqlstate"), REFUSED)
def test_what_a_statement_may_not_is_said(api: Api, statement: str, sqlstate: str) -> None:
    answer = ask(api, statement)
    assert answer.json()["sqlstate"] == sqlstate, answer.text
    assert answer.status_code in (400, 403, 409, 413, 422, 501)
    assert loot(api) == []


def test_a_statement_leaves_nothing_behind_for_the_next_one(api: Api) -> None:
    for statement in (
        "SET search_path = mischief", "SET statement_timeout = 0", "SELECT pg_advisory_lock(7)", "PREPARE _pg3_0 AS SELECT 1",
        "SELECT pg_notify('heliosdb_versions', 'x')",
    ):  # fmt: skip
        assert ask(api, statement).status_code == 200
    told = ask(
        api,
        "SELECT current_setting('search_path'), pg_try_advisory_lock(7), current_setting('statement_timeout')",
    ).json()
    assert [row[1:] for row in told["rows"]] == [["t", "30s"]]
    assert "mischief" not in told["rows"][0][0]


def test_what_a_statement_answers(api: Api) -> None:
    told = ask(
        api,
        """SELECT 1 AS a, 'x"y\\z, (w)' AS a, '' AS "leer", NULL::date, now() > 'epoch', ARRAY[1.50, NULL], ROW(1, 'é')::text
                    """,
    ).json()
    assert [one["name"] for one in told["columns"]] == ["a", "a", "leer", "date", "?column?", "array", "row"]
    assert [one["type"] for one in told["columns"]] == [
        "integer",
        "text",
        "text",
        "date",
        "boolean",
        "numeric[]",
        "text",
    ]
    assert told["rows"] == [["1", 'x"y\\z, (w)', "", None, "t", "{1.50,NULL}", "(1,é)"]]
    assert (told["command"], told["truncated"], told["notices"]) == ("SELECT 1", False, [])
    assert ask(api, "SELECT NULL WHERE false").json()["columns"] == [{"name": "?column?", "type": "text"}]
    assert ask(api, "SELECT NULL").json()["rows"] == [[None]]
    assert ask(api, "SELECT").json()["rows"] == [[]]
    many = ask(api, "SELECT g FROM generate_series(1, 5000) AS g").json()
    assert (len(many["rows"]), many["truncated"]) == (1000, True)
    wide = ask(api, "SELECT repeat('x', 400000) FROM generate_series(1, 50)").json()
    assert (len(wide["rows"]), wide["truncated"]) == (2, True)
    assert ask(api, "DO $$ BEGIN RAISE NOTICE 'so %', 1; END $$").json()["notices"] == ["NOTICE:  so 1"]
    loud = ask(
        api, "DO $$ BEGIN FOR n IN 1..1000 LOOP RAISE NOTICE '%', repeat('x', 10000); END LOOP; END $$"
    ).json()
    assert (len(loud["notices"]), max(map(len, loud["notices"]))) == (100, 500)
    assert ask(api, "EXPLAIN SELECT 1").json()["columns"] == [{"name": "QUERY PLAN", "type": "text"}]
    told = ask(api, "SELECT 'é', set_config('client_encoding', 'SQL_ASCII', false)").json()
    assert told["rows"] == [["é", "SQL_ASCII"]]
    assert ask(api, "SELECT 1 + no_such_column").json()["position"] == 12


def test_statements_of_the_language_are_run_and_rolled_back_whole(api: Api) -> None:
    made = ask(api, "CREATE FEDERATED WORKSPACE boxed WITH (min_nodes = 2)", OTHER).json()
    assert (made["command"], made["rows"]) == ("CREATE FEDERATED WORKSPACE", [])
    shown = ask(api, "SHOW FEDERATED WORKSPACES").json()
    assert "boxed" in str(shown["rows"])
    options = "algorithm = 'linear_regression', features = ['age', 'bmi'], target = 'y'"
    assert (
        ask(api, f"CREATE FEDERATED MODEL line IN WORKSPACE boxed WITH ({options})", OTHER).status_code == 200
    )
    publish_version(api.world.cluster, api.world.database, "line", intercept=1, slopes=(2, 3))
    predicted = ask(api, "SELECT federated_predict('line', age => 10, bmi => 100) AS p", OTHER).json()
    assert (predicted["rows"], predicted["columns"][0]["name"]) == ([["321"]], "p")
    refused = ask(api, "DROP FEDERATED WORKSPACE boxed")
    assert (refused.status_code, refused.json()["sqlstate"]) == (403, "42501")
    wrong = ask(api, "CREATE FEDERATED WORKSPACE w WITH (min_nodes == 2)", OTHER).json()
    assert (wrong["sqlstate"], wrong["position"]) == ("42601", 46)
    entries = ask(
        api, "SELECT session_role, acting_role FROM federated_audit_log WHERE workspace = 'boxed'", OTHER
    ).json()["rows"]
    assert [LOGIN, OTHER] in entries
    assert ask(api, "DROP FEDERATED WORKSPACE boxed CASCADE", OTHER).status_code == 200


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(100)", "SELECT mischief.swallows()"])
def test_a_statement_ends_in_time_also_where_it_will_not(hasty: Api, statement: str) -> None:
    answer = ask(hasty, statement)
    assert (answer.status_code, answer.json()["sqlstate"]) == (504, "57014")
    assert running(hasty, 0) == 0


def test_a_statement_ends_when_nobody_waits_for_it(api: Api) -> None:
    with (
        httpx.Client(base_url=api.url + PREFIX, timeout=httpx.Timeout(DEADLINE, read=0.5)) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post(
            "/sql",
            json={"statement": "SELECT mischief.swallows()"},
            headers={"Authorization": f"Bearer {api.tokens[ME]}"},
        )
    assert running(api, 0) == 0


def test_one_role_has_half_of_the_statements(hasty: Api) -> None:
    """None of them ends before the API ends it, by when it has been asked for all."""
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(hasty, "SELECT pg_sleep(100)"), range(6)))
    assert {answer.status_code for answer in answers} == {504, 429}


def running(api: Api, wanted: int) -> int:
    """How many statements of the box run, as soon as it is as many as wanted."""
    end = time.monotonic() + DEADLINE
    with api.world.cluster.connect(api.world.database) as connection:
        while True:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND query LIKE '%%heliosdb_box%%' AND state <> 'idle'",
                [LOGIN],
            ).fetchone()
            assert row is not None
            if row[0] == wanted or time.monotonic() > end:
                return int(row[0])
            time.sleep(0.05)
