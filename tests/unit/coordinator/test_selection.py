"""Which nodes can answer a run."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from heliosdb.catalog.nodes import NodeRecord, NodeStatus
from heliosdb.catalog.run_options import parse_options
from heliosdb.coordinator.directory import Member
from heliosdb.coordinator.selection import Eligibility, find_columns, select_nodes
from heliosdb.domain.absence import Absence
from heliosdb.domain.handshake import DatasetDescription, DeclaredValues, Introduction
from heliosdb.domain.ids import DatasetName, NodeName, WorkspaceName
from heliosdb.domain.run import Run
from heliosdb.transport.client import NodeClient
from tests.support.runs import PRIVATE, RUN, with_options

OPTIONS = parse_options(
    {
        "algorithm": "logistic_regression",
        "features": ["age", "pressure"],
        "target": "outcome",
        "rounds": 10,
        "aggregation": "fedavg",
    }
)

WHOLE = ("age", "pressure", "outcome")


def member(name: str, dataset: str | None = None, **datasets: tuple[str, ...]) -> Member:
    shared = tuple(
        DatasetDescription(DatasetName(one), columns, ("double precision",) * len(columns))
        for one, columns in datasets.items()
    )
    record = NodeRecord(
        1, NodeName(name), WorkspaceName("w"), "{}", "https://n:1", None, dataset, NodeStatus.ACTIVE, None
    )
    return Member(record, cast("NodeClient", None), Introduction(shared))


def test_nodes_with_all_columns_take_part_and_the_others_are_told_why() -> None:
    whole = member("a", patients=WHOLE)
    selection = select_nodes(
        [
            whole,
            member("b", patients=("age", "outcome")),
            member("c"),
            member("d", one=WHOLE, two=(*WHOLE, "bmi")),
        ],
        OPTIONS,
    )

    assert selection == Eligibility(
        able={NodeName("a"): whole.introduction.datasets[0]},
        left_out=(
            Absence(NodeName("b"), 'dataset "patients" has no column pressure'),
            Absence(NodeName("c"), "shares no dataset with this workspace"),
            Absence(
                NodeName("d"),
                "several datasets have all the columns (one, two): the option dataset names one",
            ),
        ),
        missing=(),
    )


def test_a_named_dataset_decides() -> None:
    several = member("d", "two", one=WHOLE, two=(*WHOLE, "bmi"))

    assert select_nodes([several], OPTIONS).able.keys() == {"d"}
    assert select_nodes([several], replace(OPTIONS, dataset="one")).able.keys() == {"d"}
    named = select_nodes([several], replace(OPTIONS, dataset="three"))
    assert named.left_out == (Absence(NodeName("d"), 'shares no dataset "three"'),)


def test_columns_that_nobody_shares_are_named() -> None:
    selection = select_nodes([member("a", patients=("age",)), member("b", other=("outcome",))], OPTIONS)

    assert selection.able == {}
    assert selection.missing == ("pressure",)


def typed(name: str, *types: str, values: tuple[str, ...] = ()) -> Member:
    made = member(name, patients=WHOLE)
    declared = (DeclaredValues("outcome", values),) if values else ()
    shared = DatasetDescription(DatasetName("patients"), WHOLE, types, declared=declared)
    return replace(made, introduction=Introduction((shared,)))


def test_a_column_of_another_kind_than_at_most_nodes_leaves_a_node_out() -> None:
    nodes = [
        typed("a", "text", "numeric", "boolean"),
        typed("b", "integer", "double precision[]", "boolean"),
        typed("c", "smallint", "real", "boolean"),
        typed("d", "mood", "real", "boolean"),
        typed("e", "smallint", "real", "boolean"),
        typed("f", "smallint", "real", "date"),
        typed("g", "unknown", "real", "unknown"),
    ]

    found = select_nodes(nodes, OPTIONS)

    assert found.able.keys() == {"c", "e"}
    assert [(one.node, one.reason) for one in found.left_out] == [
        ("d", 'column age of dataset "patients" is of type mood, which is no feature'),
        ("f", 'column outcome of dataset "patients" is of type date, no number and no label'),
        (
            "g",
            'column age, outcome of dataset "patients" is gone, as when its table is dropped;'
            " the node's own DBA drops the dataset and shares it anew",
        ),
        ("a", 'column age of dataset "patients" is of type text, and a number at most nodes'),
        (
            "b",
            'column pressure of dataset "patients" is of type double precision[], and a number at most nodes',
        ),
    ]


def test_where_as_many_nodes_say_one_thing_as_another_nobody_is_left_out_and_both_are_named() -> None:
    nodes = [typed("a", "text", "real", "boolean"), typed("b", "date", "real", "boolean")]

    found = select_nodes(nodes, OPTIONS)

    assert found.able.keys() == {"a", "b"}
    assert found.undecided == 'column "age" is of different types (a: text, b: date)'


def test_a_feature_is_boolean_where_it_is_at_every_node() -> None:
    both, one = typed("a", "boolean", "boolean", "integer"), typed("b", "boolean", "integer", "integer")

    assert find_columns([both], RUN).booleans == (True, True)
    assert find_columns([both, one], RUN).booleans == (True, False)
    assert find_columns([], RUN).booleans == (False, False)
    assert find_columns([both, None], RUN).booleans == (False, False)


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_an_undeclared_integer_at_one_node_has_its_classes_counted_under_a_budget(kind: str) -> None:
    boolean, declared, undeclared = (
        typed("a", "real", "real", "boolean"),
        typed("b", "real", "real", kind, values=("0", "1")),
        typed("c", "real", "real", kind),
    )
    named = with_options(PRIVATE, target_classes=["1", "2"])
    regression = with_options(PRIVATE, algorithm="linear_regression")

    def counted(run: Run, *nodes: Member | None) -> bool:
        return find_columns(nodes, run).undeclared_target

    assert counted(PRIVATE, boolean, declared, undeclared)
    assert not counted(PRIVATE, boolean, declared)
    # Of a node that is gone nothing is known.
    assert counted(PRIVATE, boolean, None)
    assert not counted(named, boolean, None)
    for run in (RUN, named, regression):
        assert not counted(run, boolean, declared, undeclared)
