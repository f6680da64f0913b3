"""What keeps strangers out of every path, and what is sent a value: over a catalog without a federation behind it."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from psycopg import sql
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.integration.api.cases import (
    ALERT,
    ARMS,
    BAD,
    ENDPOINT,
    MISSING,
    MODEL,
    OPERATIONS,
    PARAMETERS,
    PRESENT,
    WORKSPACE,
)
from tests.integration.api.payloads import VALUES, Place, places, texts
from tests.integration.api.stack import (
    DEADLINE,
    LOGIN,
    PREFIX,
    ROLES,
    Api,
    drop_roles,
    make_roles,
    make_token,
    query,
    running_api,
    until_served,
)
from tests.integration.coordinator.support import make_world
from tests.support.cluster import Cluster
from tests.support.publication import publish_version

GOLDEN = Path(__file__).with_name("rights.golden")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "rest.md"
SESSIONS = int(os.environ.get("SESSIONS", "0"))
"""How many calls with payloads `make fuzz` makes; without it one a payload."""
HEAD = "# Path by role: the status where the object exists / where it does not. Compared by test_rest_walls.py.\n"


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A catalog with one of each, which rest_admin owns, and an API; no node answers and no coordinator runs."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("api"), database) as world:
        try:
            tokens = make_roles(world)
            with running_api(world, "api", tokens) as made:
                fill_catalog(made)
                yield made
        finally:
            cluster.drop_database(database)
            drop_roles(world)


def fill_catalog(api: Api) -> None:
    """Make what the paths name."""

    def make(method: str, path: str, body: Any) -> None:
        answer = api.call("rest_admin", method, path, json=body)
        assert answer.is_success, (path, answer.text)

    models = f"/workspaces/{WORKSPACE}/models"
    make("POST", "/workspaces", {"name": WORKSPACE})
    make("POST", f"/workspaces/{WORKSPACE}/nodes", {"name": "a", "options": ENDPOINT})
    make("POST", models, {"name": "draft"})
    options = {"algorithm": "logistic_regression", "features": ["age", "pressure"], "target": "outcome"}
    make("POST", models, {"name": "risk", "options": options})
    for intercept in (0.1, 0.2):
        publish_version(
            api.world.cluster, api.world.database, "risk", intercept=intercept, slopes=(0.01, 0.002)
        )
    make("PUT", MODEL + "/tags/good", {"version": 1})
    make("POST", "/experiments", {"name": "compare", "model": "risk", "arms": ARMS})
    make("POST", f"/workspaces/{WORKSPACE}/alerts", ALERT)
    # A coordinator's, which seals what nobody opens here.
    query(api, "INSERT INTO federated.coordinator_key (sealing_key) VALUES (%s)", bytes(range(1, 33)))


def present(api: Api) -> dict[str, str]:
    """Names of what there is."""
    [run] = query(api, "SELECT run_id::text AS run_id FROM federated_runs ORDER BY run LIMIT 1")
    return {**PRESENT, "r": run["run_id"]}


def document(api: Api) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = api.call("rest_admin", "GET", "/openapi.json").json()
    return found


def check_problem(answer: httpx.Response, about: object) -> None:
    """It is data, or one problem document that tells nothing of our inside."""
    assert answer.status_code < 500 or answer.status_code == 501, (about, answer.text)
    assert "x-injected" not in answer.headers, about
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", (about, answer.text)
        assert answer.json()["status"] == answer.status_code, about
        assert not any(word in answer.text for word in ("Traceback", "psycopg", "CONTEXT", 'File \\"')), about


def test_every_path_is_tried_here(api: Api) -> None:
    described = {
        (method.upper(), path.removeprefix(PREFIX))
        for path, methods in document(api)["paths"].items()
        for method in methods
    }
    tried = {(one.method, one.path.format_map(PARAMETERS)) for one in OPERATIONS} - {("GET", "/openapi.json")}
    assert described == tried


def test_the_page_has_every_path() -> None:
    shown = set()
    for row in re.findall(r"^\| ([/…]\S.*?) \| ([A-Z, ]+) \|", PAGE.read_text(), re.MULTILINE):
        first, *others = row[0].replace("…/{m}", "/workspaces/{w}/models/{m}").split(", ")
        for path in (first, *(first.rpartition("/")[0] + other for other in others)):
            shown |= {(method, path) for method in row[1].split(", ")}
    tried = {(one.method, one.path.replace("{d}", "{m}").replace("{r}", "{id}")) for one in OPERATIONS}
    assert shown == tried - {("GET", "/openapi.json")}


def test_each_role_may_what_the_page_says(api: Api) -> None:
    """Statuses over every path × role; who may not read is told the same of what exists and what does not."""
    names = present(api)
    lines = []
    for operation in OPERATIONS:
        cells = []
        for role in (None, *ROLES):
            answers = []
            for which in (names, MISSING):
                path, body = operation.call(which)
                answers.append(api.call(role, operation.method, path, json=body))
                if answers[-1].status_code == 204 and operation.again is not None:
                    method, path, body = operation.again
                    again = api.call("rest_admin", method, path.format_map(names), json=body)
                    assert again.is_success, again.text
            told, untold = answers
            if told.status_code in (401, 403) and role not in ("rest_operator", "rest_stranger"):
                assert told.text == untold.text, (role, operation)
            cells.append(f"{(role or 'none').removeprefix('rest_')} {told.status_code}/{untold.status_code}")
        lines.append(f"{operation.method} {operation.path}: " + ", ".join(cells))
    assert HEAD + "\n".join(lines) + "\n" == GOLDEN.read_text(), "\n".join(lines)


def test_a_token_that_ended_opens_no_path(api: Api) -> None:
    """Revoked, expired, unknown, mistyped, and of a role that is gone: one answer, whatever is asked for."""
    world, names = api.world, present(api)
    digest = sql.SQL("token_sha256 = sha256(convert_to(%s, 'UTF8'))")
    with world.cluster.connect(world.database) as connection:
        connection.execute("CREATE ROLE rest_gone IN ROLE federated_admin")
        connection.execute(f"GRANT rest_gone TO {LOGIN}")
        good, revoked, expired = (make_token(world, "rest_admin") for _ in range(3))
        gone = make_token(world, "rest_gone")
        connection.execute("DROP ROLE rest_gone")
        find = sql.SQL("SELECT federated_revoke_token(token_id) FROM federated.api_token WHERE {}").format(
            digest
        )
        connection.execute(find, [revoked])
        # What time does by itself.
        connection.execute("SET session_replication_role = replica")
        end = sql.SQL("UPDATE federated.api_token SET expires_at = now() WHERE {}").format(digest)
        connection.execute(end, [expired])
    body = "hfl_" + "0" * 64
    foreign = body + hashlib.sha256(body.encode()).hexdigest()[:8]
    mistyped = good[:-1] + ("0" if good[-1] != "0" else "1")
    shown = [f"Bearer {one}" for one in (revoked, expired, foreign, mistyped, gone, "a")]
    refused = set()
    # Whoever logs out is asked nothing.
    for operation in (one for one in OPERATIONS if (one.method, one.path) != ("DELETE", "/session")):
        path, content = operation.call(names)
        for authorization in (*shown, "Basic YTpi", good):
            answer = api.call(
                None, operation.method, path, json=content, headers={"Authorization": authorization}
            )
            refused.add((answer.status_code, answer.text, answer.headers["www-authenticate"]))
    assert len(refused) == 1, refused
    assert refused.pop()[0] == 401
    assert (
        httpx.get(api.url + PREFIX + "/runs", headers={"Authorization": f"Bearer {good}"}).status_code == 200
    )


def test_bad_input_is_one_clear_problem(api: Api) -> None:
    for method, path, options, status in BAD:
        headers = {"Content-Type": "application/json"} if "content" in options else {}
        answer = api.call("rest_admin", method, path, headers=headers, **options)
        about = (method, path, str(options)[:60], answer.text)
        check_problem(answer, about)
        assert answer.status_code == status, about
        assert answer.json()["detail"], about


VOLATILE = (
    "audit",
    "audit_head",
    "event",
    "api_request",
    "api_token",
    "experiment_call",
    "experiment_outcome",
    "ledger",
)
SHAPES = (
    "SELECT rolname, rolsuper, rolcanlogin, rolbypassrls FROM pg_roles ORDER BY 1",
    "SELECT roleid, member, admin_option FROM pg_auth_members ORDER BY 1, 2",
    "SELECT relname, relnamespace, relkind, relowner, relacl::text FROM pg_class WHERE relpersistence <> 't' ORDER BY 1, 2",
    "SELECT proname, proargtypes::text, pronamespace, prosrc, proowner, prosecdef, proacl::text, proconfig FROM pg_proc ORDER BY 1, 2, 3",
    "SELECT nspname, nspowner, nspacl::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_temp%' AND nspname NOT LIKE 'pg_toast_temp%' ORDER BY 1",
    "SELECT * FROM pg_db_role_setting ORDER BY 1, 2",
)


class Kept:
    """The catalog as it was: whether it is so still, and a way back from what a call made or changed."""

    def __init__(self, api: Api) -> None:
        self._connection = psycopg.connect(api.world.cluster.dsn(api.world.database), autocommit=True)
        for table in ("workspace", "node", "model", "run", "tag", "alert", "experiment", "subject_order"):
            self._run("CREATE TEMP TABLE {} AS SELECT * FROM federated.{}", f"kept_{table}", table)
        self.digests = self.digest()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _run(self, statement: str, *names: str) -> psycopg.Cursor[Any]:
        return self._connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def put_back(self) -> None:
        """Take away what is new, and give what was changed its former name, options and owner."""
        for table, key in (
            ("experiment", "experiment_id"), ("alert", "alert_id"), ("subject_order", "order_id"), ("run", "run_id"),
            ("node", "node_id"), ("model", "model_id"), ("workspace", "workspace_id"),
        ):  # fmt: skip
            self._run(
                "DELETE FROM federated.{0} WHERE {1} NOT IN (SELECT {1} FROM {2})",
                table,
                key,
                f"kept_{table}",
            )
        self._run(
            "DELETE FROM federated.tag AS t WHERE NOT EXISTS (SELECT FROM kept_tag AS k WHERE k.name = t.name AND k.model_id = t.model_id)"
        )
        self._run(
            "UPDATE federated.tag AS t SET version = k.version FROM kept_tag AS k"
            " WHERE t.name = k.name AND t.model_id = k.model_id AND t.version <> k.version"
        )
        for table, key in (("model", "model_id"), ("workspace", "workspace_id")):
            self._run(
                "UPDATE federated.{0} AS t SET name = k.name, options = k.options, owner = k.owner FROM {2} AS k"
                " WHERE t.{1} = k.{1} AND (t.name, t.options, t.owner) IS DISTINCT FROM (k.name, k.options, k.owner)",
                table, key, f"kept_{table}",
            )  # fmt: skip
        self._run(
            "UPDATE federated.node AS t SET options = k.options FROM kept_node AS k WHERE t.node_id = k.node_id AND t.options <> k.options"
        )

    def digest(self) -> dict[str, str]:
        """What is in the catalog, by table: PostgreSQL's own, and the product's but for what grows by itself."""
        tables = self._connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'federated'::regnamespace AND relkind = 'r'"
        ).fetchall()
        found = {}
        for (table,) in tables:
            if table not in VOLATILE:
                rows = self._run("SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM federated.{} AS t", table).fetchone()  # fmt: skip
                assert rows is not None
                found[table] = rows[0]
        for statement in SHAPES:
            found[statement] = hashlib.md5(
                repr(self._connection.execute(statement.encode()).fetchall()).encode()
            ).hexdigest()
        return found


def send_raw(api: Api, place: Place, payload: str, names: dict[str, str]) -> bytes:
    """A header as no client sends it; returns how the answer begins."""
    method, path, options = place.request("", names)
    value = payload.encode("utf-8", "surrogatepass")
    content = options.get("content", "").encode()
    url = httpx.URL(api.url)
    head = (
        f"{method} {PREFIX}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
        f"Authorization: Bearer {api.tokens['rest_admin']}\r\nContent-Type: application/json\r\n{place.name}: "
    )
    with socket.create_connection((url.host, url.port), timeout=DEADLINE) as connection:
        connection.sendall(head.encode() + value + b"\r\n\r\n" + content)
        return connection.recv(65_536)


def send(api: Api, place: Place, payload: Any, names: dict[str, str], kept: Kept) -> None:
    """One call with a payload in one place, and what is to be true of its answer."""
    about = (
        place.operation.method,
        place.operation.path,
        place.kind,
        place.name,
        payload if len(str(payload)) < 200 else str(payload)[:200],
    )
    if place.kind == "header" and any(ord(one) < 32 or ord(one) == 127 for one in payload):
        begin = send_raw(api, place, payload, names)
        assert not begin or begin[:10] in (b"HTTP/1.1 2", b"HTTP/1.1 4"), (about, begin)
        assert b"x-injected" not in begin.partition(b"\r\n\r\n")[0].lower(), about
        return
    method, path, options = place.request(payload, names)
    try:
        answer = api.call("rest_admin", method, path, **options)
    except (httpx.InvalidURL, httpx.LocalProtocolError):
        return
    check_problem(answer, about)
    if answer.is_success and method != "GET" and not place.operation.path.endswith(("predict", "outcomes")):
        shown = answer.json() if answer.content else {}
        named = [
            shown[key]
            for key in ("name", "alert_name", "experiment_name")
            if isinstance(shown, dict) and key in shown
        ]
        # A PATCH whose name is null renames nothing.
        if place.kind == "body" and place.name == ("name",) and payload is not None:
            assert named == [payload], about
        kept.put_back()


def test_what_is_sent_stays_what_it_is(api: Api) -> None:
    """Each of two thousand payloads in a place of its own, and each place with many: data, or one clear problem."""
    names, payloads = present(api), texts()
    assert len(payloads) >= 2_000
    everywhere = [
        one for one in places(document(api), PREFIX, PARAMETERS) if not one.operation.path.endswith("/events")
    ]
    bodies = [one for one in everywhere if one.kind == "body"]
    with Kept(api) as kept:
        for number in range(SESSIONS or len(payloads)):
            turn, payload = divmod(number, len(payloads))
            # In each turn every payload has another place.
            send(api, everywhere[(number + turn) % len(everywhere)], payloads[payload], names, kept)
        for place, value in zip(bodies * (len(VALUES) if SESSIONS else 1), cycle(VALUES), strict=False):
            send(api, place, value, names, kept)
        kept.put_back()
        after = kept.digest()
        assert {name for name in after if after[name] != kept.digests.get(name)} == set()
    owners = query(
        api, "SELECT DISTINCT owner FROM federated.workspace UNION SELECT owner FROM federated.model"
    )
    assert [row["owner"] for row in owners] == ["rest_admin"]


def test_no_generated_call_ends_in_an_error_of_ours(api: Api) -> None:
    """Calls made of the OpenAPI document: no 5xx, and every answer is as the document says.

    As an admin who owns nothing: whatever is named may be tried, and nothing of it is taken away.
    """
    schema = schemathesis.openapi.from_dict(document(api))
    headers = {"Authorization": f"Bearer {api.tokens['rest_stranger']}"}
    statuses: set[int] = set()
    there = present(api)
    names = {PARAMETERS[one].strip("{}"): name for one, name in there.items() if one != "d"}

    def check(case: Any, *, is_named: bool) -> None:
        # What a path names is seldom met by chance.
        if is_named:
            case.path_parameters = {one: names[one] for one in case.path_parameters or {}}
        answer = case.call(base_url=api.url, headers=headers, timeout=DEADLINE)
        statuses.add(answer.status_code)
        if answer.status_code == 501:
            return
        case.validate_response(
            answer, checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
        )

    few = settings(
        max_examples=max(4, SESSIONS // 250), derandomize=not SESSIONS, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    for result in schema.get_all_operations():
        operation = result.ok()
        # A stream of a run that goes on would go on.
        if not operation.path.endswith(("/events", "/session")):
            few(given(case=operation.as_strategy(), is_named=booleans())(check))()
    assert 401 not in statuses
    assert {200, 422} <= statuses


def test_while_the_database_is_away_calls_are_told_to_come_again(api: Api) -> None:
    world = api.world
    assert api.call("rest_analyst", "GET", "/workspaces").status_code == 200
    allow = "UPDATE pg_database SET datallowconn = %s WHERE datname = %s"
    with world.cluster.connect() as connection:
        connection.execute(allow, [False, world.database])
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [LOGIN]
            )
            calls: list[tuple[str, str, Any]] = [
                ("GET", "/workspaces", None), ("POST", MODEL + "/predict", {"features": {}}),
                ("POST", MODEL + "/train", {}), ("DELETE", MODEL, None), ("GET", "/runs", None),
            ]  # fmt: skip
            # Each waits for a connection as long as it may.
            with ThreadPoolExecutor(len(calls)) as pool:
                answers = list(pool.map(lambda one: _call_once(api, *one), calls))
            for answer in answers:
                assert answer.status_code == 503, answer.text
                assert answer.headers["content-type"] == "application/problem+json"
                assert int(answer.headers["retry-after"]) > 0
                assert "datallowconn" not in answer.text
        finally:
            connection.execute(allow, [True, world.database])
    until_served(api)
    assert api.call("rest_analyst", "GET", "/workspaces").status_code == 200


def _call_once(api: Api, method: str, path: str, body: Any) -> httpx.Response:
    with api.client("rest_admin") as client:
        return client.request(method, path, json=body)
