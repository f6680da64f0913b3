"""Columns beside features and target: which rows they leave out, and what a plain answer may be about."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName, NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.task import Reading, Task, TaskKey, Work
from heliosdb.node.arranging import content_hash, make_plain_table, make_table
from heliosdb.node.datasets import TableRequest, _without_incomplete
from heliosdb.transport.messages import encode_task, received_task, task_from_header

REQUEST = TableRequest(
    run="f00d",
    dataset_id=1,
    dataset=DatasetName("d"),
    base_tables=(1,),
    features=("a", "b"),
    target="y",
    validation_split=0.3,
    subject=None,
    known_by=("id",),
    key=b"k" * 32,
    plain=True,
    min_rows=20,
    max_parameter_share=1 / 3,
    roles=(("weights", "w"), ("event", "e")),
)
KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("newton"), NodeName("a"))


def values_of(rows: int = 80, seed: int = 0) -> np.ndarray:
    """a, b, weights, event, target; the weight is twice a, so that it is seen whose it is."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(1.0, 2.0, rows)
    return np.column_stack([a, rng.normal(size=rows), 2.0 * a, rng.random(rows) < 0.5, rng.normal(size=rows)])


def codes_of(values: np.ndarray) -> np.ndarray:
    return np.arange(len(values), dtype=np.int64)[:, None]


def plain(values: np.ndarray) -> object:
    return make_plain_table(values, codes_of(values), REQUEST, [])[0]


def test_the_columns_are_features_then_roles_then_the_target() -> None:
    assert REQUEST.columns == ("a", "b", "w", "e", "y")
    assert Reading(None, ("a", "b"), "y", 0.0, 1, roles=REQUEST.roles).columns == REQUEST.columns


def test_every_row_keeps_its_own_values_in_all_parts() -> None:
    values = values_of()
    for table in (make_table(values, codes_of(values), REQUEST), plain(values)):
        for part in (table, table.training(), table.validation()):  # type: ignore[attr-defined]
            assert part.features.shape[1] == 2
            np.testing.assert_array_equal(part.roles["weights"], 2.0 * part.features[:, 0])
            assert set(part.roles["event"]) <= {0.0, 1.0}


def test_a_row_that_lacks_a_weight_is_left_out_as_one_without_a_target_is() -> None:
    values = values_of()
    values[3, 2], values[4, 3], values[5, 2] = np.nan, np.nan, np.inf
    table = make_table(_without_incomplete(values, REQUEST), codes_of(values), REQUEST)
    assert table.rows == 77
    without = replace(REQUEST, roles=())
    features = values_of()[:, [0, 1, 4]]
    kept = make_table(_without_incomplete(features, without), codes_of(features), without)
    assert kept.rows == 80


def test_other_weights_are_other_rows() -> None:
    values, other = values_of(), values_of()
    other[0, 2] += 1.0
    hashes = {content_hash(make_table(one, codes_of(one), REQUEST), b"k") for one in (values, other)}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (np.where(np.arange(80) == 7, 5.0, 1.0), 'column "w" of dataset "d" fewer than 5'),
        (
            np.where(np.arange(80) == 7, 500.0, 1.0 + np.arange(80) / 100),
            'a 5th of the weights in column "w"',
        ),
    ],
    ids=["nearly all the same", "one counts more than all"],
)
def test_weights_that_single_a_subject_out_are_refused(weights: np.ndarray, text: str) -> None:
    values = values_of()
    values[:, 2] = weights
    with pytest.raises(FederatedError, match=text) as caught:
        plain(values)
    assert caught.value.code is ErrorCode.NODE_REFUSED
    # Under a budget a refusal would tell of a row.
    make_table(values, codes_of(values), replace(REQUEST, plain=False))


def test_roles_survive_the_wire_and_strange_ones_are_refused() -> None:
    reading = Reading("d", ("a",), "y", 0.2, 5, roles=(("weights", "w"), ("offset", "ö"), ("event", "e")))
    task = Task(KEY, reading, Work("linear_regression", 3))
    header, body = encode_task(task, b"k" * 32)
    assert received_task(task_from_header(header), body).task.reading == reading
    for roles in ((("event", "e"), ("weights", "w")), (("weights", "w"),) * 2, (("admin", "w"),)):
        header, _ = encode_task(replace(task, reading=replace(reading, roles=roles)), b"k" * 32)
        with pytest.raises(FederatedError):
            task_from_header(header)
