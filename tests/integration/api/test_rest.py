"""The product by HTTP on a real federation: the quick start, streams, and what ends with a token."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg

from heliosdb.domain.prediction import Prediction
from tests.integration.api.cases import MODEL, WORKSPACE
from tests.integration.api.stack import DEADLINE, LOGIN, PREFIX, Api, follow, make_token, query
from tests.support.publication import publish_prediction

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rest.md"


def test_what_is_made_is_answered_and_belongs_to_its_maker(api: Api, trained: dict[str, Any]) -> None:
    assert trained["workspace"]["owner"] == "rest_admin"
    assert trained["workspace"]["min_nodes_required"] == 3
    assert trained["node"]["status"] in ("pending", "active")
    assert trained["model"]["current_version"] is None
    assert trained["model"]["options"]["target"] == "outcome"
    names = [w["name"] for w in api.call("rest_auditor", "GET", "/workspaces").json()]
    assert names == [WORKSPACE]
    assert [n["name"] for n in api.call("rest_analyst", "GET", f"/workspaces/{WORKSPACE}/nodes").json()] == [
        "a",
        "b",
        "c",
    ]
    assert [m["name"] for m in api.call("rest_analyst", "GET", f"/workspaces/{WORKSPACE}/models").json()] == [
        "risk"
    ]


def test_a_run_is_followed_to_its_end(api: Api, trained: dict[str, Any]) -> None:
    *progress, (_, last, data) = trained["events"]
    assert (last, data) == ("end", {"status": "completed"})
    numbers = [int(number) for number, name, _ in progress if name == "progress"]
    recorded = query(
        api, "SELECT event_id FROM federated.event WHERE run_id = %s ORDER BY 1", trained["run"]["run_id"]
    )
    assert numbers == [row["event_id"] for row in recorded]
    assert numbers
    rest = follow(api, trained["run"]["run_id"], **{"Last-Event-ID": str(numbers[-2])})
    assert [number for number, _, _ in rest] == [str(numbers[-1]), ""]


def test_a_run_is_shown_where_it_was_said_to_be(api: Api, trained: dict[str, Any]) -> None:
    assert trained["place"] == trained["run"]["run"] == f"{PREFIX}/runs/{trained['run']['run_id']}"
    shown = api.call("rest_analyst", "GET", f"/runs/{trained['run']['run_id']}").json()
    assert (shown["status"], shown["started_by"], shown["rounds"]) == ("completed", "rest_admin", 2)
    assert api.call("rest_analyst", "GET", MODEL + "/runs").json() == [shown]
    rounds = api.call("rest_analyst", "GET", MODEL + "/status", params={"run": 1}).json()
    expected = query(api, "SELECT global_loss FROM federated_training_status('risk') ORDER BY round_number")
    assert [one["global_loss"] for one in rounds] == [row["global_loss"] for row in expected]


def test_predictions_versions_evaluation_and_budget_are_the_databases(
    api: Api, trained: dict[str, Any]
) -> None:
    people = [{"age": 61, "pressure": 140}, {"age": 35.5}, {}, {"pressure": None, "age": "50"}]
    answer = api.call("rest_analyst", "POST", MODEL + "/predict", json={"instances": people}).json()
    expected = [
        query(api, "SELECT federated_predict('risk', %s::jsonb) AS p", json.dumps(one))[0]["p"]
        for one in people
    ]
    assert answer == {"model": "risk", "version": 1, "predictions": [{"value": value} for value in expected]}
    for version in ("1", None):
        one = api.call(
            "rest_analyst", "POST", MODEL + "/predict", json={"features": people[0], "version": version}
        )
        assert one.json()["predictions"] == [{"value": expected[0]}]
    [version] = api.call("rest_auditor", "GET", MODEL + "/versions").json()
    assert (version["version"], version["is_current"]) == (1, True)
    metrics = api.call("rest_auditor", "GET", MODEL + "/evaluate", params={"version": "1"}).json()["metrics"]
    assert metrics == {
        row["metric"]: row["value"] for row in query(api, "SELECT * FROM federated_evaluate('risk')")
    }
    assert api.call("rest_analyst", "GET", f"/workspaces/{WORKSPACE}/budget").json()["total_epsilon"] is None
    for part in ("erasures", "alerts"):
        assert api.call("rest_analyst", "GET", f"/workspaces/{WORKSPACE}/{part}").json() == []
    del trained


def test_of_several_classes_each_ones_probability_is_told(api: Api, trained: dict[str, Any]) -> None:
    world = api.world
    world.execute(
        f"CREATE FEDERATED MODEL sort IN WORKSPACE {WORKSPACE} WITH (algorithm = 'logistic_regression',"
        " features = ['age', 'pressure'], target = 'kind', target_classes = ['low', 'mid', 'high'])"
    )
    content = {
        "intercepts": [0.5, 0.0, -0.5], "slopes": [[0.1, 0.0], [0.0, 0.1], [-0.1, 0.2]], "fills": [0.0, 0.0],
        "shifts": [0.0, 0.0], "link": "softmax",
    }  # fmt: skip
    publish_prediction(world.cluster, world.database, "sort", Prediction("softmax_linear", content))
    path = f"/workspaces/{WORKSPACE}/models/sort/predict"
    people = [{"age": 1, "pressure": 2}, {}]
    answer = api.call("rest_analyst", "POST", path, json={"instances": people})
    assert answer.status_code == 200, answer.text
    for one, shown in zip(people, answer.json()["predictions"], strict=True):
        [expected] = query(
            api,
            "SELECT federated_predict_class('sort', %s::jsonb) AS predicted_class,"
            " federated_predict_proba('sort', %s::jsonb) AS probabilities",
            *[json.dumps(one)] * 2,
        )
        assert shown == expected
    world.execute("DROP FEDERATED MODEL sort")
    del trained


def test_a_misspelled_feature_in_the_sql_box_is_told_as_through_the_proxy(
    api: Api, trained: dict[str, Any]
) -> None:
    answer = api.call(
        "rest_analyst", "POST", "/sql", json={"statement": "SELECT federated_predict('risk', agee => 61)"}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["hint"].startswith('Is there a model "risk", and does it have these features?')
    del trained


def test_the_audit_log_names_the_person(api: Api, trained: dict[str, Any]) -> None:
    rows = query(
        api,
        "SELECT DISTINCT session_role, acting_role FROM federated_audit_log"
        " WHERE object_name IN ('consortium', 'a', 'b', 'c', 'risk') AND action = 'insert'",
    )
    assert rows == [{"session_role": LOGIN, "acting_role": "rest_admin"}]
    assert query(api, "SELECT requested_by FROM federated.run")[0]["requested_by"] == "rest_admin"
    assert query(api, "SELECT is_intact FROM federated_audit_verify(%s)", WORKSPACE) == [{"is_intact": True}]
    assert any(
        r["object_name"]
        for r in query(api, "SELECT object_name FROM federated_audit_log WHERE object_kind = 'api_token'")
    )
    del trained


def test_a_key_starts_one_run(api: Api, trained: dict[str, Any]) -> None:
    again = api.call("rest_admin", "POST", MODEL + "/train", headers={"Idempotency-Key": "first"})
    assert (again.status_code, again.json()) == (202, trained["run"])
    other = api.call(
        "rest_admin",
        "POST",
        MODEL + "/train",
        headers={"Idempotency-Key": "first"},
        json={"options": {"rounds": 3}},
    )
    assert other.status_code == 422
    assert (
        len(
            query(
                api,
                "SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id) WHERE m.name = 'risk'",
            )
        )
        == 1
    )
    failed = api.call(
        "rest_admin",
        "POST",
        MODEL + "/train",
        headers={"Idempotency-Key": "bad"},
        json={"options": {"rounds": -1}},
    )
    assert failed.status_code == 422, failed.text
    assert query(api, "SELECT idempotency_key FROM federated.api_request") == [{"idempotency_key": "first"}]
    api.world.query("UPDATE federated.api_request SET created_at = now() - interval '25 hours'")
    key, body = {"Idempotency-Key": "later"}, {"options": {"rounds": 1000, "early_stopping_rounds": 1000}}
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda _: api.client("rest_admin").post(MODEL + "/train", headers=key, json=body), range(4)
            )
        )
    assert {answer.status_code for answer in answers} == {202}, answers[0].text
    assert len({answer.text for answer in answers}) == 1
    assert query(api, "SELECT idempotency_key FROM federated.api_request") == [{"idempotency_key": "later"}]
    in_training = api.call("rest_admin", "POST", MODEL + "/train")
    assert (in_training.status_code, in_training.json()["sqlstate"]) == (409, "55006"), in_training.text
    api.world.execute("STOP FEDERATED TRAINING risk")
    asyncio.run(
        api.world.reached("NOT EXISTS (SELECT FROM federated.run WHERE status IN ('queued', 'running'))")
    )


def test_a_token_ends_with_its_role_and_with_the_roles_innocence(api: Api) -> None:
    world = api.world
    with world.cluster.connect(world.database) as connection:
        connection.execute("CREATE ROLE rest_passing IN ROLE federated_analyst")
        connection.execute(f"GRANT rest_passing TO {LOGIN}")
        token = make_token(world, "rest_passing")

        def status() -> int:
            return httpx.get(
                api.url + PREFIX + "/workspaces", headers={"Authorization": f"Bearer {token}"}
            ).status_code

        assert status() == 200
        connection.execute("ALTER ROLE rest_passing SUPERUSER")
        assert status() == 401
        connection.execute("ALTER ROLE rest_passing NOSUPERUSER")
        assert status() == 200
        connection.execute("DROP ROLE rest_passing")
        connection.execute("CREATE ROLE rest_passing IN ROLE federated_analyst")
        connection.execute(f"GRANT rest_passing TO {LOGIN}")
        assert status() == 401
        connection.execute("DROP ROLE rest_passing")


def test_a_stream_ends_with_its_token(api: Api, trained: dict[str, Any]) -> None:
    world = api.world
    world.execute(
        f"CREATE FEDERATED MODEL waits IN WORKSPACE {WORKSPACE} WITH (algorithm = 'logistic_regression', features = ['age'], target = 'outcome')"
    )
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (min_nodes = 4)")
    world.execute("START FEDERATED TRAINING waits")
    [run] = query(api, "SELECT run_id::text FROM federated_runs WHERE model_name = 'waits'")
    token = make_token(world, "rest_analyst")
    with httpx.stream(
        "GET",
        f"{api.url}{PREFIX}/runs/{run['run_id']}/events",
        headers={"Authorization": f"Bearer {token}"},
        timeout=DEADLINE,
    ) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        with world.cluster.connect(world.database) as connection:
            connection.execute(
                "SELECT federated_revoke_token(token_id) FROM federated.api_token WHERE token_sha256 = sha256(convert_to(%s, 'UTF8'))",
                [token],
            )
        rest = "\n".join(lines)
    assert "event: problem" in rest
    assert '"status": 401' in rest
    world.execute("STOP FEDERATED TRAINING waits")
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (min_nodes = 3)")
    del trained


def test_health_says_how_it_is(api: Api) -> None:
    config = api.world.federation.directory / "api.toml"
    command = [
        sys.executable,
        "-m",
        "heliosdb.cli.main",
        "health",
        "api",
        "--config",
        str(config),
        "--timeout",
        "60",
    ]
    # It looks at the database from time to time, and a test before this one took that away.
    end = time.monotonic() + DEADLINE
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    while done.returncode != 0 and time.monotonic() < end:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("api: ready")


def test_the_log_names_roles_and_no_tokens(api: Api, trained: dict[str, Any]) -> None:
    text = api.log.read_text()
    assert 'POST /workspaces 201 role="rest_admin"' in text
    assert not any(token in text for token in api.tokens.values())
    assert "hfl_" not in text
    assert "Traceback" not in text
    del trained


def blocks(kind: str) -> str:
    """The code blocks of a kind in the page."""
    return "\n".join(re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL))


def test_the_pages_quick_start_runs_as_it_stands(api: Api) -> None:
    world = api.world
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            share = "CREATE FEDERATED DATASET shown FOR TABLE patient (age, pressure, outcome) IN WORKSPACE hospitals"
            connection.execute("CALL federated.execute(%s)", [share])
    with world.cluster.connect(world.database) as connection:
        try:
            connection.execute(blocks("sql setup").encode())
            connection.execute(f"GRANT ann TO {LOGIN}")
            row = connection.execute(blocks("sql token").encode()).fetchone()
            assert row is not None
            ends = {
                name: f"https://localhost:{site.port}" for name, site in zip("ABC", world.sites, strict=True)
            }
            done = subprocess.run(
                ["bash", "-eu", "-c", "".join(map(blocks, ("sh quickstart", "sh changes", "sh notice")))],
                env={**os.environ, **ends, "API": api.url, "TOKEN": row[0], "CERTS": str(world.federation.directory)},
                capture_output=True, text=True, check=False, timeout=DEADLINE * 2,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert 'event: end\ndata: {"status": "completed"}' in done.stdout
            assert '"predictions":[{"value":0.' in done.stdout
            assert '"tags":["reviewed"]' in done.stdout
            assert '"predicted":"1","actual":"1"' in done.stdout
            assert 'x-notice: %"the coefficients of federated model %22risk_by_age%22' in done.stdout.lower()
        finally:
            for role in ("ann", "heliosdb_api"):
                connection.execute(
                    psycopg.sql.SQL("DROP ROLE IF EXISTS {}").format(psycopg.sql.Identifier(role))
                )
