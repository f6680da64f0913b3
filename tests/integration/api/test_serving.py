"""Predictions by the Open Inference Protocol: those of SQL, for whoever may have them there, and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.api.config import ApiConfig
from heliosdb.api.database import Database, run
from heliosdb.api.identity import TokenClaim
from heliosdb.api.limits import Buckets
from heliosdb.api.serving import admission
from heliosdb.api.serving.inference import Inference
from heliosdb.api.serving.rest_messages import request_from_json
from heliosdb.api.serving.versions import ServedVersion
from heliosdb.api.tokens import digest_of
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.exchange.portable import Portable
from tests.integration.api.served_models import MODELS, as_json, by_sql, given, make_models, publish, tensors
from tests.integration.api.stack import DEADLINE, LOGIN, Api, drop_roles, make_roles, running_api
from tests.integration.coordinator.support import make_world
from tests.support import portable
from tests.support.cluster import Cluster
from tests.support.encoded_model import COLUMNS
from tests.support.ports import free_port
from tests.support.publication import publish_prediction, publish_version

PAGE = Path(__file__).resolve().parents[3] / "docs" / "serving.md"
ONE = [{"name": "age", "datatype": "FP64", "shape": [1], "data": [47.5]}]
NETWORKS = {name for name, model in MODELS.items() if model.algorithm == "neural_network"}


@dataclass
class Serving:
    """An API with gRPC over models of every algorithm."""

    api: Api
    models: dict[str, Portable]
    grpc: str
    client: httpx.Client

    def call(
        self, method: str, path: str, role: str | None = "rest_analyst", **options: Any
    ) -> httpx.Response:
        token = None if role is None else self.api.tokens[role]
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.client.request(method, self.api.url + "/v2" + path, headers=headers, **options)

    def infer(
        self, model: str, inputs: list[Any], role: str | None = "rest_analyst", **more: Any
    ) -> httpx.Response:
        return self.call("POST", f"/models/{model}/infer", role, json={"inputs": inputs, **more})

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.api.world.cluster.connect(self.api.world.database) as session:
            cursor = session.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def statement(self, text: str) -> None:
        self.api.world.execute(text)


@pytest.fixture(scope="module")
def serving(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Nobody trains here, and there are no nodes."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("serving"), database) as world:
        try:
            tokens, models, port = make_roles(world), make_models(world), free_port()
            world.execute(
                "CREATE FEDERATED MODEL risk IN WORKSPACE served WITH (algorithm = 'logistic_regression',"
                " features = ['age', 'pressure'], target = 'outcome')"
            )
            publish_version(cluster, database, "risk", intercept=0.25, slopes=(0.01, -0.002))
            world.execute(
                "CREATE FEDERATED MODEL untrained IN WORKSPACE served WITH (algorithm = 'linear_regression',"
                " features = ['age'], target = 'outcome')"
            )
            with (
                running_api(world, "serving", tokens, grpc_port=port) as api,
                httpx.Client(timeout=DEADLINE) as client,
            ):
                yield Serving(api, models, f"127.0.0.1:{port}", client)
        finally:
            world.end_processes()
            cluster.drop_database(database)
            drop_roles(world)


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer.json()["outputs"]}


def expected(serving: Serving, name: str, batch: list[dict[str, Any]]) -> np.ndarray:
    world = serving.api.world
    with world.cluster.connect(world.database) as session:
        return np.array(by_sql(session, name, serving.models[name], batch))


def scores(made: Portable, found: dict[str, Any]) -> Any:
    return np.array(found["probabilities"] if made.has_many_classes else found["score"])


@pytest.mark.parametrize("name", MODELS)
def test_every_algorithm_predicts_what_sql_predicts(serving: Serving, name: str) -> None:
    made = serving.models[name]
    # So many that they are scored beside the event loop.
    batch = given(made.encoding) * 3
    wanted = expected(serving, name, batch)
    found = outputs(serving.infer(name, tensors(made.encoding.columns, batch)))
    # A network sums in float32: its rows among others agree with rows by themselves to that.
    np.testing.assert_allclose(scores(made, found), wanted, rtol=1e-5 if name in NETWORKS else 1e-12)
    for place in (0, 5, 17):
        one = outputs(serving.infer(name, tensors(made.encoding.columns, batch[place : place + 1])))
        np.testing.assert_allclose(scores(made, one)[0], wanted[place], rtol=1e-12)
    if made.classes:
        labels = serving.execute(
            "SELECT federated_predict_class(%s, e.row) FROM jsonb_array_elements(%s::jsonb)"
            " WITH ORDINALITY AS e (row, place) ORDER BY e.place",
            name, "[" + ",".join(map(as_json, batch)) + "]",
        )  # fmt: skip
        assert found["class"].tolist() == [label for (label,) in labels]


def test_an_independent_client_is_told_the_same_by_grpc(serving: Serving) -> None:
    """tritonclient, from its own code; raw tensors. What has no text is left out of them where it is missing."""
    asked: dict[str, Any] = {}
    for name, made in serving.models.items():
        batch = [
            row
            for row in given(made.encoding)
            if None not in (row.get("site"), row.get("Ward"), row.get("smoker"))
        ]
        asked[name] = (batch, tensors(made.encoding.columns, batch))
    [one], wrong = ONE, [{**ONE[0], "name": "nothing"}]
    token, nobody = serving.api.tokens["rest_analyst"], serving.api.tokens["rest_nobody"]
    cases = {
        "StatusCode.INVALID_ARGUMENT": ("linear", "", wrong, token),
        "StatusCode.NOT_FOUND": ("linear", "77", [one], token),
        "StatusCode.FAILED_PRECONDITION": ("untrained", "", [one], token),
        "StatusCode.PERMISSION_DENIED": ("linear", "", [one], nobody),
        "StatusCode.UNAUTHENTICATED": ("linear", "", [one], None),
        "StatusCode.RESOURCE_EXHAUSTED": (
            "linear", "", [{**one, "shape": [10_001], "data": [0.0] * 10_001}], token,
        ),
    }  # fmt: skip
    told = json.loads(
        subprocess.run(
            [sys.executable, str(Path(__file__).with_name("triton_session.py"))],
            input=json.dumps(
                {"address": serving.grpc, "token": token, "errors": cases,
                 "models": {name: inputs for name, (_, inputs) in asked.items()}}
            ),
            stdout=subprocess.PIPE, text=True, check=True, timeout=DEADLINE,
        ).stdout
    )  # fmt: skip
    assert (told["live"], told["ready"], told["server"]["name"]) == (True, True, "heliosdb")
    assert {case: case for case in cases} == told["errors"]
    for name, (batch, _) in asked.items():
        made = serving.models[name]
        np.testing.assert_allclose(
            scores(made, told["outputs"][name]), expected(serving, name, batch),
            # A probability of a millionth has the error of its score many times over.
            rtol=1e-5 if name in NETWORKS else 1e-12,
        )  # fmt: skip
        shown = told["metadata"][name]
        assert [one["name"] for one in shown["inputs"]] == [one.column for one in made.encoding.columns]
        assert shown["versions"] == ["1"]


def test_what_a_model_takes_and_gives_is_told(serving: Serving) -> None:
    assert serving.call("GET", "/health/live", None).json() == {"live": True}
    assert serving.call("GET", "/health/ready", None).json() == {"ready": True}
    assert serving.call("GET", "").json()["extensions"] == []
    shown = serving.call("GET", "/models/sorting").json()
    assert shown["versions"] == ["1"]
    assert {one["name"]: (one["datatype"], one["shape"]) for one in shown["inputs"]} == {
        "age": ("FP64", [-1]), "income": ("FP64", [-1]), "bmi": ("FP64", [-1]), "smoker": ("BOOL", [-1]),
        "site": ("BYTES", [-1]), "Ward": ("BYTES", [-1]), "seen": ("FP64", [-1]), "stay": ("FP64", [-1]),
        "v": ("FP64", [-1, 3]),
    }  # fmt: skip
    assert [one["name"] for one in shown["outputs"]] == ["probabilities", "class"]
    assert serving.call("GET", "/models/sorting/ready").json() == {"name": "sorting", "ready": True}
    waiting = serving.call("GET", "/models/untrained/ready")
    assert (waiting.status_code, waiting.json()["ready"]) == (409, False)


def test_numeric_features_come_side_by_side_and_texts_beside_them(serving: Serving) -> None:
    made = serving.models["linear"]
    batch = given(made.encoding)
    apart = tensors(made.encoding.columns, batch)
    texts = [one for one in apart if one["datatype"] == "BYTES"]
    numbers = [
        np.reshape(one["data"], (len(batch), -1)).astype(float) for one in apart if one["datatype"] != "BYTES"
    ]
    together = np.hstack(numbers)
    data = [[None if np.isnan(one) else one for one in row] for row in together.tolist()]
    inputs = [{"name": "features", "datatype": "FP64", "shape": list(together.shape), "data": data}, *texts]
    found = outputs(serving.infer("linear", inputs, outputs=[{"name": "score"}], id="a call"))
    np.testing.assert_allclose(found["score"], expected(serving, "linear", batch), rtol=1e-12)


BAD: list[tuple[str, dict[str, Any] | str, int, str]] = [
    ("linear", "{", 400, "not JSON"),
    ("linear", '{"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "data": [NaN]}]}', 400, "not JSON"),
    ("linear", {"inputs": []}, 422, "at least one input"),
    ("linear", {"inputs": [{**ONE[0], "shape": [0], "data": []}]}, 422, "empty"),
    ("linear", {"inputs": [{**ONE[0], "name": "height"}]}, 422, 'no feature "height"'),
    ("linear", {"inputs": ONE + ONE}, 422, "given twice"),
    ("linear", {"inputs": [{**ONE[0], "datatype": "FP16"}]}, 422, "datatype"),
    ("linear", {"inputs": [{**ONE[0], "data": ["47"]}]}, 422, "not all FP64"),
    ("linear", {"inputs": [{**ONE[0], "datatype": "INT8", "data": [300]}]}, 422, "no INT8"),
    ("linear", {"inputs": [{**ONE[0], "shape": [2]}]}, 422, "1 element,"),
    ("linear", {"inputs": [{**ONE[0], "shape": [1, 2], "data": [1, 2]}]}, 422, "shape"),
    ("linear", {"inputs": [{**ONE[0], "name": "smoker", "data": [0.5]}]}, 422, "boolean"),
    ("linear", {"inputs": [{**ONE[0], "name": "site"}]}, 422, "to be BYTES"),
    ("linear", {"inputs": [{**ONE[0], "parameters": {"binary_data_size": 8}}]}, 422, "parameters"),
    ("linear", {"inputs": ONE, "outputs": [{"name": "class"}]}, 422, 'no output "class"'),
    ("linear", {"inputs": ONE, "extra": 1}, 422, 'no member "extra"'),
    ("linear", {"inputs": [{**ONE[0], "shape": [10_001], "data": [0] * 10_001}]}, 413, "10000 rows"),
    ("linear", "[" + "1," * 600_000 + "1]", 413, "1048576 bytes"),
    ("linear/versions/2", {"inputs": ONE}, 404, "no version"),
    ("linear/versions/x@1", {"inputs": ONE}, 404, "does not exist"),
    ("nowhere", {"inputs": ONE}, 404, "does not exist"),
    ("untrained", {"inputs": ONE}, 409, "no trained version"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "status", "text"), BAD)
def test_bad_input_is_one_error_of_the_protocol(
    serving: Serving, model: str, body: Any, status: int, text: str
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    answer = serving.call("POST", f"/models/{model}/infer", content=content)
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert text in told["error"]
    assert told["status"] == status
    assert answer.headers["content-type"] == "application/json"


def test_other_paths_and_callers_read_errors_of_the_protocol_too(serving: Serving) -> None:
    assert "error" in serving.call("GET", "/models").json()
    refused = {role: serving.infer("linear", ONE, role) for role in (None, "rest_nobody", "rest_auditor")}
    assert {role: one.status_code for role, one in refused.items()} == {
        None: 401, "rest_nobody": 403, "rest_auditor": 403
    }  # fmt: skip
    # Whether there is such a model is not told to whoever may not predict.
    assert serving.infer("nowhere", ONE, "rest_nobody").json() == refused["rest_nobody"].json()


def test_a_bad_row_fails_its_own_call_alone(serving: Serving) -> None:
    """So many at once that they share statements and matrices."""
    serving.statement(
        "CREATE FEDERATED MODEL steep IN WORKSPACE served WITH (algorithm = 'linear_regression', features = ['age'],"
        " target = 'outcome')"
    )
    publish_prediction(
        serving.api.world.cluster, serving.api.world.database, "steep",
        LinearPrediction(1.0, (1e10,), (0.0,), (0.0,), "identity").to_prediction(), Encoding((ColumnEncoding("age"),)),
    )  # fmt: skip
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        serving.execute("SELECT federated_predict('steep', '{\"age\": 1.7e308}')")

    def ask(place: int) -> httpx.Response:
        return serving.infer("steep", [{**ONE[0], "data": [1.7e308 if place % 5 == 0 else place]}])

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(100)))
    for place, answer in enumerate(answers):
        if place % 5:
            assert outputs(answer)["score"].tolist() == [1.0 + 1e10 * place]
        else:
            assert (answer.status_code, answer.json()["sqlstate"]) == (422, "22003")


def test_a_revoke_and_a_new_version_are_seen_by_the_next_call(serving: Serving) -> None:
    assert serving.infer("poisson", ONE).json()["model_version"] == "1"
    for kind in ("model", "row"):
        functions = serving.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.pronamespace = %s::regnamespace"
            " AND p.proname = 'poisson'", f"federated_{kind}",
        )  # fmt: skip
        for (function,) in functions:
            serving.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM federated_analyst")
            assert serving.infer("poisson", ONE).status_code == 403
            serving.execute(f"GRANT EXECUTE ON FUNCTION {function} TO federated_analyst")
            assert serving.infer("poisson", ONE).status_code == 200
    for number, intercept in enumerate((0.5, 0.75), 2):
        if number == 3:
            # Whatever hears of new versions is gone: a call asks for itself.
            serving.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'heliosdb api listener'"
            )
        made = portable.linear_model("exp", COLUMNS)
        content = {**made.content, "intercept": intercept}
        publish(serving.api.world, "poisson", replace(made, content=content))
        answer = serving.infer("poisson", ONE)
        assert answer.json()["model_version"] == str(number)
        wanted = expected(serving, "poisson", [{**dict.fromkeys(one.column for one in COLUMNS), "age": 47.5}])
        np.testing.assert_allclose(outputs(answer)["score"], wanted, rtol=1e-12)
    earlier = serving.call("POST", "/models/poisson/versions/1/infer", json={"inputs": ONE})
    assert earlier.json()["model_version"] == "1"


@asynccontextmanager
async def in_process(serving: Serving) -> AsyncIterator[tuple[Inference, TokenClaim]]:
    """What serves, without its doors and without what hears of new versions."""
    world = serving.api.world
    config = ApiConfig.model_validate({"database": world.cluster.dsn(world.database, user=LOGIN)})
    database, digest = Database(config), digest_of(serving.api.tokens["rest_analyst"])
    inference = Inference(config, database, Buckets(config.identity_rate))
    assert digest is not None
    await database.open()
    await inference.open()
    try:
        yield inference, TokenClaim(digest)
    finally:
        await inference.close()
        await database.close()


ASKED = request_from_json(json.dumps({"inputs": ONE}).encode())


async def test_calls_that_come_together_share_a_statement_and_a_matrix(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    matrices: list[int] = []

    async def counted(connection: Any, name: str, *values: object) -> Any:
        statements.append(name)
        return await run(connection, name, *values)

    def score(self: Any, slots: Any) -> Any:
        matrices.append(len(slots))
        return self.version.predict(slots)

    monkeypatch.setattr(admission, "run", counted)
    monkeypatch.setattr(ServedVersion, "score", score)
    async with in_process(serving) as (inference, claim):

        async def call() -> Any:
            return await inference.answer(await inference.admit(claim, "linear", None), ASKED)

        alone = await call()
        assert (statements, matrices) == (["admit_call", "served_numbers"], [1])
        together = await asyncio.gather(*[call() for _ in range(50)])
    for one in together:
        np.testing.assert_allclose(one.outputs[0].values, alone.outputs[0].values, rtol=1e-14)
    assert statements[2:] == ["admit_call"]
    assert matrices[1:] == [50]


async def test_what_is_withheld_or_retired_is_refused_at_once_and_leaves_memory(serving: Serving) -> None:
    async with in_process(serving) as (inference, claim):
        admitted = await inference.admit(claim, "cox", "")
        await inference.answer(admitted, ASKED)
        inference.doubted.clear()
        serving.execute(
            "UPDATE federated.version AS v SET withheld = true FROM federated.model AS m"
            " WHERE m.model_id = v.model_id AND m.name = 'cox'"
        )
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            await inference.admit(claim, "cox", "")
        assert inference.doubted.is_set()
        await inference.sweep()
        # What was admitted before is read anew, which is refused as well.
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            await inference.answer(admitted, ASKED)
    assert serving.infer("cox", ONE).status_code == 409


async def test_what_is_heard_of_is_read_before_it_is_asked_for(serving: Serving) -> None:
    async with in_process(serving) as (inference, claim):
        await inference.answer(await inference.admit(claim, "boosting", None), ASKED)
        publish(serving.api.world, "boosting", portable.trees("identity", boosts=True, count=9))
        await inference.prefetch()
        admitted = await inference.admit(claim, "boosting", None)
        assert admitted.version == 2
        assert admitted.key in inference.kept


def test_a_commit_of_a_version_is_told_on_the_channel(serving: Serving) -> None:
    world = serving.api.world
    with world.cluster.connect(world.database) as session:
        session.execute("LISTEN heliosdb_versions")
        publish(world, "forest", portable.trees("identity", boosts=False, count=5))
        told = next(session.notifies(timeout=DEADLINE))
        assert told.payload == ""


def test_numbers_are_handed_out_for_who_may_call_the_version_and_to_who_may_become_them(
    serving: Serving,
) -> None:
    [(key,)] = serving.execute("SELECT numbers_id FROM federated._find_held('net')")
    ask = "SELECT * FROM federated._served_numbers(%s, 'net', %s)"
    world = serving.api.world
    with psycopg.connect(world.cluster.dsn(world.database, user=LOGIN), autocommit=True) as login:
        login.execute("SET ROLE federated_api")
        assert login.execute(ask, ["rest_analyst", key]).fetchone() is not None
        for role in ("rest_nobody", "rest_auditor", "an_analyst", "postgres"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute(ask, [role, key])
        login.execute("SET ROLE rest_analyst")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute(ask, ["rest_analyst", key])


def blocks(kind: str) -> str:
    """The code blocks of a kind in the page."""
    return "\n".join(re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL))


def test_the_page_runs_as_it_stands(serving: Serving) -> None:
    token = serving.api.tokens["rest_analyst"]
    [(one,), (other,)] = serving.execute(
        "SELECT federated_predict('risk', e.row) FROM (VALUES (1, '{\"age\": 61, \"pressure\": 140}'::jsonb),"
        " (2, '{\"age\": 35.5}')) AS e (place, row) ORDER BY e.place"
    )
    done = subprocess.run(
        ["bash", "-eu", "-c", blocks("sh curl")], env={**os.environ, "API": serving.api.url, "TOKEN": token},
        capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'"data":[{one},{other}]' in done.stdout
    client = str(PAGE.parents[1] / "build" / "clients" / "python")
    python = f"import sys\nsys.path.append({client!r})\ntoken, address = {token!r}, {serving.grpc!r}\n{blocks('python')}"
    printed = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, check=True, timeout=DEADLINE
    ).stdout
    np.testing.assert_allclose(np.fromstring(printed.strip("[]\n"), sep=" "), [one, other], rtol=1e-6)
