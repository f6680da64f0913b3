"""Submit a job of federated averaging to a server that runs, wait for its end, and fetch what it left.

With --interval the node is an Executor and server and nodes look for what is new that often; without it is what the
recipe for NumPy makes.
"""

import argparse
import json
import tempfile
from pathlib import Path

from executor import StepExecutor
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.job_config.api import FedJob

NAME = "averaging"


def by_recipe(given: argparse.Namespace, folder: str) -> None:
    """Write down a job in which everything is as the recipe has it."""
    recipe = NumpyFedAvgRecipe(
        name=NAME,
        model=[0.0] * given.parameters,
        min_clients=given.nodes,
        num_rounds=given.rounds,
        train_script="client.py",
        train_args=f"--directory {given.directory} --learning-rate {given.learning_rate}",
    )
    recipe.add_client_file("model.py")
    recipe.export(folder)


def by_executor(given: argparse.Namespace, folder: str) -> None:
    """Write down a job of the same controller and persistor, with intervals of our choice."""
    job = FedJob(name=NAME, min_clients=given.nodes)
    persistor = job.to_server(NPModelPersistor(model=[0.0] * given.parameters), id="persistor")
    controller = FedAvg(
        num_clients=given.nodes,
        num_rounds=given.rounds,
        persistor_id=persistor or "persistor",
        task_check_period=given.interval,
    )
    job.to_server(controller)
    job.to_server({"server": {"task_request_interval": given.interval}})
    job.to_clients(
        StepExecutor(directory=given.directory, learning_rate=given.learning_rate), tasks=["train"]
    )
    job.export_job(folder)


def main() -> None:
    """Print, as one line of JSON, where what the job left lies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kit", required=True, help="the administrator's startup kit")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--directory", required=True, help="of the nodes' rows")
    parser.add_argument("--interval", type=float, help="seconds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.interval is None:
            by_recipe(given, folder)
        else:
            by_executor(given, folder)
        session = new_secure_session("admin@example.com", given.kit, timeout=120.0)
        try:
            number = session.submit_job(str(Path(folder, NAME)))
            ended = session.monitor_job(number)
            left = session.download_job_result(number)
        finally:
            session.close()
    print(json.dumps({"job": number, "ended": str(ended), "left": str(left)}))


if __name__ == "__main__":
    main()
