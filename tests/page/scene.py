"""What the page is shown over: two workspaces, one under a budget, with models, runs, an alert and an experiment.

What always holds: all of it is typed as anybody would type it, so every figure on the page has a query beside it.
"""

from __future__ import annotations

import asyncio

from tests.integration.api.stack import Api, add_nodes
from tests.integration.coordinator.support import World

WORKSPACE = "consortium"
GUARDED = "guarded"
# As long as names may be: markup that would ask for a picture and run a script if it were any.
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b id=owned>xxxxxxx"
LIVE_ROUNDS = 30

_LOGISTIC = "algorithm = 'logistic_regression', features = ['age', 'pressure'], target = 'outcome', seed = 7"


def set_scene(world: World) -> None:
    """Nodes, workspaces and models, each with a version; needs a coordinator that runs."""
    add_nodes(world)
    for site in world.sites:
        # A table of its own: one that has spent from a budget gives no plain answers any more.
        with world.cluster.connect(site.database) as connection:
            connection.execute("CREATE TABLE guarded_patient (LIKE patient INCLUDING CONSTRAINTS)")
            connection.execute("INSERT INTO guarded_patient SELECT * FROM patient")
            connection.execute(
                "CALL federated.execute(%s)",
                [
                    "CREATE FEDERATED DATASET guarded_patients FOR TABLE guarded_patient (age, pressure, outcome)"
                    f" IN WORKSPACE {GUARDED}"
                ],
            )
    world.execute(f"CREATE FEDERATED WORKSPACE {WORKSPACE} WITH (min_nodes = 3)")
    world.execute(
        f"CREATE FEDERATED WORKSPACE {GUARDED} WITH (min_nodes = 3, privacy_budget = 40, privacy_per_round = 1)"
    )
    for workspace in (WORKSPACE, GUARDED):
        for site in world.sites:
            register(world, site.name, site.port, workspace)
    world.execute(
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {WORKSPACE} WITH ({_LOGISTIC}, optimizer = 'newton', rounds = 8)"
    )
    world.execute(
        f"CREATE FEDERATED MODEL live IN WORKSPACE {WORKSPACE} WITH ({_LOGISTIC}, learning_rate = 0.05, early_stopping_rounds = 100000, rounds = {LIVE_ROUNDS})"
    )
    world.execute(
        f"CREATE FEDERATED MODEL cautious IN WORKSPACE {GUARDED} WITH ({_LOGISTIC}, learning_rate = 0.1, rounds = 4)"
    )
    world.execute(
        f"CREATE FEDERATED MODEL line IN WORKSPACE {WORKSPACE} WITH (algorithm = 'linear_regression', "
        "features = ['age'], target = 'pressure', learning_rate = 0.1, rounds = 2)"
    )
    quoted = HOSTILE.replace('"', '""')
    world.execute(f'CREATE FEDERATED MODEL "{quoted}" IN WORKSPACE {WORKSPACE} WITH ({_LOGISTIC})')
    world.execute("ALTER FEDERATED MODEL live OWNER TO rest_admin")
    world.execute(
        f"CREATE FEDERATED ALERT few_nodes ON WORKSPACE {WORKSPACE} WHEN active_nodes < 10 NOTIFY 'pg:few'"
    )
    for model in ("risk", "risk", "cautious", "line"):
        train(world, model)
    world.execute("CREATE FEDERATED EXPERIMENT halves ON MODEL risk VERSIONS ('1' => 0.5, '2' => 0.5)")


def register(world: World, node: str, port: int, workspace: str) -> None:
    """Type REGISTER FEDERATED NODE."""
    certificate = world.federation.directory / f"{node}.pem"
    world.execute(
        f"REGISTER FEDERATED NODE '{node}' IN WORKSPACE {workspace} WITH "
        f"(endpoint = 'https://localhost:{port}', certificate = '{certificate}')"
    )


def train(world: World, model: str) -> None:
    """Start a run and wait until it is over."""
    count = len(world.runs()) + 1
    world.execute(f"START FEDERATED TRAINING {model}")
    asyncio.run(_over(world, count))


async def _over(world: World, count: int) -> None:
    ended = await world.finished(count=count)
    assert ended["status"] in {"completed", "converged"}, ended


def start(api: Api, model: str, **options: int) -> str:
    """Start a run by HTTP; its id."""
    at = f"/workspaces/{WORKSPACE}/models/{model}/train"
    answer = api.call("rest_admin", "POST", at, json={"options": options})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])
