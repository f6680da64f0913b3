"""Predictions by the Open Inference Protocol: those of SQL, for whoever may have them there, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from heliosdb.exchange.portable import Portable
from tests.integration.api.served_models import MODELS, by_sql, given, make_models, tensors
from tests.integration.api.stack import Api, drop_roles, make_roles, running_api
from tests.integration.coordinator.support import make_world
from tests.support.cluster import Cluster
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def serving(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API with gRPC over models of every algorithm; nobody trains."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("serving"), database) as world:
        try:
            tokens = make_roles(world)
            models = make_models(world)
            with running_api(world, "serving", tokens, grpc_port=free_port()) as made:
                made.models = models  # type: ignore[attr-defined]
                yield made
        finally:
            world.end_processes()
            cluster.drop_database(database)
            drop_roles(world)


def call(api: Api, method: str, path: str, role: str | None = "rest_analyst", **options: Any) -> httpx.Response:
    headers = {} if role is None else {"Authorization": f"Bearer {api.tokens[role]}"}
    return httpx.request(method, api.url + "/v2" + path, headers=headers, timeout=120, **options)


def outputs(answer: httpx.Response) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer.json()["outputs"]}


@pytest.mark.parametrize("name", MODELS)
def test_every_algorithm_predicts_what_sql_predicts(serving: Api, name: str) -> None:
    made: Portable = serving.models[name]  # type: ignore[attr-defined]
    batch = given(made.encoding)
    with serving.world.cluster.connect(serving.world.database) as session:
        expected = np.array(by_sql(session, name, made, batch))
    got = outputs(call(serving, "POST", f"/models/{name}/infer", json={"inputs": tensors(made.encoding.columns, batch)}))
    found = got["probabilities"] if made.has_many_classes else got["score"]
    print(name, np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1e-300)))
