"""A node's part in a round: one gradient step over its rows."""

from pathlib import Path

import numpy as np


def step(parameters: np.ndarray, directory: str, site: str, learning_rate: float) -> tuple[np.ndarray, int]:
    """Return the parameters after one step, and the number of rows."""
    with np.load(Path(directory, f"{site}.npz")) as stored:
        inputs, targets = stored["inputs"], stored["targets"]
    chances = 1.0 / (1.0 + np.exp(-(inputs @ parameters)))
    slope = inputs.T @ (chances - targets) / len(targets)
    return parameters - learning_rate * slope, len(targets)
