"""The server: federated averaging from zeros, without evaluation; its log, with times, goes to a file as well."""

import logging
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and write the parameters down."""
    given = context.run_config
    written = logging.FileHandler(str(given["log"]))
    written.setFormatter(logging.Formatter("%(created)f %(message)s"))
    logging.getLogger("flwr").addHandler(written)
    nodes = int(given["nodes"])
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    zeros = ArrayRecord([np.zeros(int(given["parameters"]))])
    found = strategy.start(grid=grid, initial_arrays=zeros, num_rounds=int(given["rounds"]))
    [parameters] = found.arrays.to_numpy_ndarrays()
    np.save(Path(str(given["result"])), parameters)
