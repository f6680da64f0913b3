"""One stack for all tests of the API: a federation costs seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api.cases import MODEL, WORKSPACE
from tests.integration.api.stack import Api, add_nodes, drop_roles, follow, make_roles, running_api
from tests.integration.coordinator.support import make_world
from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Three nodes, a coordinator and an API; nothing is in the catalog."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("api"), database) as world:
        try:
            tokens = make_roles(world)
            add_nodes(world)
            world.start_coordinator()
            with running_api(world, "api", tokens) as made:
                yield made
        finally:
            world.end_processes()
            cluster.drop_database(database)
            drop_roles(world)


@pytest.fixture(scope="module")
def trained(api: Api) -> dict[str, Any]:
    """The quick start over HTTP, up to a run that is over: what each step answered."""
    told: dict[str, Any] = {}

    def call(role: str, method: str, path: str, status: int, **options: Any) -> Any:
        answer = api.call(role, method, path, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    told["workspace"] = call(
        "rest_admin", "POST", "/workspaces", 201, json={"name": WORKSPACE, "options": {"min_nodes": 3}}
    )
    for site in api.world.sites:
        certificate = str(api.world.federation.directory / f"{site.name}.pem")
        options = {"endpoint": f"https://localhost:{site.port}", "certificate": certificate}
        told["node"] = call(
            "rest_admin",
            "POST",
            f"/workspaces/{WORKSPACE}/nodes",
            201,
            json={"name": site.name, "options": options},
        )
    options = {
        "algorithm": "logistic_regression", "features": ["age", "pressure"], "target": "outcome",
        "rounds": 2, "learning_rate": 0.1, "seed": 7,
    }  # fmt: skip
    told["model"] = call(
        "rest_admin",
        "POST",
        f"/workspaces/{WORKSPACE}/models",
        201,
        json={"name": "risk", "options": options},
    )
    started = api.call("rest_admin", "POST", MODEL + "/train", headers={"Idempotency-Key": "first"})
    assert started.status_code == 202, started.text
    told["run"], told["place"] = started.json(), started.headers["location"]
    told["events"] = follow(api, told["run"]["run_id"])
    return told
