"""Rows of few distinct contents: each equal row has a fate of its own, whatever secret the node has."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.algorithms.families import sigmoid
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.works import TrainWork
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.task import Scaling
from heliosdb.node.arranging import make_table
from heliosdb.node.datasets import TableRequest


@pytest.mark.parametrize("secret", range(24))
def test_one_boolean_feature_gives_the_probabilities_of_its_two_kinds_of_rows(secret: int) -> None:
    """400 rows, P(y | x) = 0.8, P(y | not x) = 0.2: four distinct rows, of each about a fifth held out."""
    values = np.array([(x, i % 5 < (4 if x else 1)) for i in range(200) for x in (1, 0)], dtype=np.float64)
    codes = (2 * values[:, 0] + values[:, 1]).astype(np.int64)[:, None]
    request = TableRequest(
        run="f00d", dataset_id=1, dataset=DatasetName("d"), base_tables=(1,), features=("x",), target="y",
        validation_split=0.2, subject=None, known_by=("x", "y"), key=bytes([secret]) * 32, plain=False,
        min_rows=20, max_parameter_share=1 / 3, classes=("0", "1"),
    )  # fmt: skip

    table = make_table(values, codes, request)

    shares = [
        table.held_out[(table.features[:, 0] == x) & (table.target == y)].mean()
        for x in (0, 1)
        for y in (0, 1)
    ]
    assert all(0.02 < share < 0.45 for share in shares), shares
    work = TrainWork("logistic_regression", Scaling((0.5,), (0.5,)), 60, 32, 0.1, classes=2)
    weight, bias = LOGISTIC_REGRESSION.train(table, np.zeros(2), work, np.random.default_rng(secret)).vector
    low, high = sigmoid(np.array([bias - weight, bias + weight]))
    assert (low, high) == (pytest.approx(0.2, abs=0.08), pytest.approx(0.8, abs=0.08))
