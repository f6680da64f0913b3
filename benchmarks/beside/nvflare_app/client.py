"""The training script of a node by the Client API, which the recipe of federated averaging runs."""

import argparse

import nvflare.client as flare
from model import step
from nvflare.app_common.np.constants import NPConstants


def main() -> None:
    """Answer tasks until there are none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    given = parser.parse_args()
    flare.init()
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        parameters = received.params[NPConstants.NUMPY_KEY]
        moved, rows = step(parameters, given.directory, flare.get_site_name(), given.learning_rate)
        meta = {"NUM_STEPS_CURRENT_ROUND": rows}
        flare.send(flare.FLModel(params={NPConstants.NUMPY_KEY: moved}, meta=meta))


if __name__ == "__main__":
    main()
