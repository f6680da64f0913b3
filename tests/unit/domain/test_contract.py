"""What a run needs of a target's classes, decided from what nodes say of their columns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.contract import (
    Offer,
    check_classes,
    check_columns,
    explain_nobody,
    known_classes,
    plain_columns,
    select,
    undeclared_targets,
)
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.handshake import (
    DatasetDescription,
    DeclaredValues,
    Introduction,
    introduction_from_json,
    introduction_json,
)
from heliosdb.domain.ids import DatasetName, NodeName

OPTIONS = parse_options(
    {
        "algorithm": "logistic_regression",
        "features": ["age"],
        "target": "class",
        "rounds": 10,
        "aggregation": "fedavg",
    }
)


def offer(name: str, kind: str, *values: str) -> Offer:
    """A node whose target is of a type, with declared values where some are given."""
    declared = (DeclaredValues("class", values),) if values else ()
    shared = DatasetDescription(DatasetName("d"), ("age", "class"), ("numeric", kind), False, declared)
    return Offer(NodeName(name), None, Introduction((shared,)))


def fault(*offers: Offer, classes: tuple[str, ...] = (), private: bool = True) -> FederatedError | None:
    options = replace(OPTIONS, given={"target_classes": list(classes)})
    try:
        check_classes(select(offers, options, learns_classes=True).able, options, private=private)
    except FederatedError as error:
        return error
    return None


def test_a_node_whose_dataset_is_paused_is_left_out_with_that_reason_and_no_other_dataset_takes_its_place() -> (
    None
):
    paused = replace(BOOLEAN.introduction.datasets[0], paused=True)
    at_a = replace(BOOLEAN, introduction=Introduction((paused,)))
    found = select([at_a, ZERO_ONE], OPTIONS, learns_classes=True)
    assert list(found.able) == ["b"]
    assert [(one.node, one.reason) for one in found.left_out] == [
        ("a", 'dataset "d" is paused by the node\'s own DBA')
    ]
    assert found.missing == ()
    beside = replace(
        at_a, introduction=Introduction((paused, replace(paused, name=DatasetName("e"), paused=False)))
    )
    [absence] = select([beside], OPTIONS, learns_classes=True).left_out
    assert absence.reason.startswith("several datasets have all the columns")


def test_what_was_written_before_datasets_could_be_paused_is_read_as_not_paused() -> None:
    [written] = introduction_json(BOOLEAN.introduction)
    assert introduction_from_json([written | {"paused": True}]).datasets[0].paused
    del written["paused"]
    assert introduction_from_json([written]) == BOOLEAN.introduction


def test_a_node_that_lacks_what_an_algorithm_needs_is_left_out_and_told_how_to_get_it() -> None:
    with_it = replace(BOOLEAN, introduction=replace(BOOLEAN.introduction, extras=("neural",)))
    found = select([with_it, ZERO_ONE], OPTIONS, learns_classes=True, extra="neural")
    assert list(found.able) == ["a"]
    [(name, reason)] = [(one.node, one.reason) for one in found.left_out]
    assert name == "b"
    assert reason == "lacks the extra \"neural\" (pip install 'heliosdb-federated-learning[neural]')"
    assert len(select([with_it, ZERO_ONE], OPTIONS, learns_classes=True).able) == 2


def test_an_image_is_a_feature_of_what_says_its_shape_at_nodes_that_decode_it() -> None:
    def scans(name: str, kind: str, *extras: str) -> Offer:
        shared = DatasetDescription(DatasetName("d"), ("scan", "class"), (kind, "boolean"), False)
        return Offer(NodeName(name), None, Introduction((shared,), extras))

    bare = replace(OPTIONS, features=("scan",))
    shaped = replace(bare, given={"input_shape": [1, 28, 28]})
    offers = [
        scans("a", "bytea", "images"),
        scans("b", "bytea", "images"),
        scans("c", "bytea"),
        scans("d", "real[]"),
    ]

    found = select(offers, shaped, learns_classes=True)
    assert list(found.able) == ["a", "b"]
    assert {one.node: one.reason for one in found.left_out} == {
        "c": "lacks the extra \"images\" (pip install 'heliosdb-federated-learning[images]')",
        "d": 'column scan of dataset "d" is of type real[], and an image at most nodes',
    }
    for private in (False, True):
        check_columns(found, shaped, private=private)
    (column,) = plain_columns(list(found.able.values()), shaped, are_all=True)
    assert (column.kind, column.elements, column.shape) == (ColumnKind.IMAGE, 784, (1, 28, 28))

    (reason,) = {one.reason for one in select(offers[:3], bare, learns_classes=True).left_out}
    assert "which is a feature as the image of a cnn alone" in reason
    with pytest.raises(FederatedError, match="2 channels, and an image that is bytea has 1, 3 or 4"):
        check_columns(found, replace(bare, given={"input_shape": [2, 28, 28]}), private=False)


@pytest.mark.parametrize(("kind", "fits"), [("boolean", True), ("numeric", True), ("text", False)])
def test_a_column_with_a_role_is_a_number_at_every_node(kind: str, fits: bool) -> None:
    shared = DatasetDescription(DatasetName("d"), ("age", "class", "w"), ("numeric", "boolean", kind), False)
    offered = Offer(NodeName("a"), None, Introduction((shared,)))
    options = replace(OPTIONS, roles=(("weights", "w"),))

    found = select([offered, BOOLEAN], options, learns_classes=True)

    assert list(found.able) == (["a"] if fits else [])
    said = {one.reason for one in found.left_out}
    assert ('column w of dataset "d" is of type text, no number as weights needs' in said) is not fits
    assert 'dataset "d" has no column w' in said


BOOLEAN, ZERO_ONE, ONE_TWO = (
    offer("a", "boolean"),
    offer("b", "integer", "0", "1"),
    offer("c", "integer", "1", "2"),
)
UNKNOWN = offer("d", "double precision")


@pytest.mark.parametrize(
    ("offers", "classes"),
    [
        ((BOOLEAN, ZERO_ONE), ()),
        ((ONE_TWO, UNKNOWN), ("1", "2")),
        ((ONE_TWO,), ("2", "1")),
        ((BOOLEAN, ZERO_ONE, UNKNOWN), ("false", "true")),
        ((offer("e", "numeric", "0", "1.0"),), ()),
        ((BOOLEAN, offer("e", "smallint"), offer("f", "integer"), offer("g", "bigint")), ()),
        ((offer("e", "integer", "1", "2", "3", "4"),), ("2", "4")),
    ],
)
def test_classes_that_are_declared_or_can_be_counted_are_enough_under_a_budget(
    offers: tuple[Offer, ...], classes: tuple[str, ...]
) -> None:
    assert fault(*offers, classes=classes) is None


@pytest.mark.parametrize("kind", ["numeric", "real", "double precision"])
def test_undeclared_numbers_that_are_no_integers_are_refused_under_a_budget(kind: str) -> None:
    found = fault(BOOLEAN, offer("e", kind), offer("f", "integer"))

    assert found is not None
    assert found.detail == (
        f'e: column "class" of dataset "d" is of type {kind}, and no CHECK lists its values.'
    )


def test_where_an_integer_is_undeclared_its_classes_are_counted() -> None:
    nodes = [BOOLEAN, ZERO_ONE, ONE_TWO, UNKNOWN, offer("f", "smallint"), offer("e", "bigint")]
    able = select(nodes, OPTIONS, learns_classes=True).able

    assert undeclared_targets(able, OPTIONS) == ["e", "f"]
    assert undeclared_targets(able, replace(OPTIONS, given={"target_classes": ["1", "2"]})) == []


def test_every_node_that_does_not_declare_is_named_with_the_target_before_anything_is_asked() -> None:
    found = fault(BOOLEAN, UNKNOWN, ONE_TWO, replace(UNKNOWN, node=NodeName("e")))

    assert found is not None
    assert found.sqlstate == "55000"
    assert found.message == 'the classes of the target "class" are not known, as a privacy budget needs them'
    assert found.detail == (
        'c: column "class" of dataset "d" is declared to hold 1, 2; '
        'd, e: column "class" of dataset "d" is of type double precision, and no CHECK lists its values.'
    )
    assert "target_classes = ['0', '1']" in str(found.hint)


def test_the_hint_names_the_two_values_that_all_declare() -> None:
    found = fault(ONE_TWO, replace(ONE_TWO, node=NodeName("f")))

    assert found is not None
    assert "target_classes = ['1', '2']" in str(found.hint)


@pytest.mark.parametrize("private", [True, False])
def test_a_class_that_a_node_cannot_have_is_a_mistake_with_and_without_a_budget(private: bool) -> None:
    found = fault(ONE_TWO, BOOLEAN, classes=("0", "1"), private=private)

    assert found is not None
    assert found.message == 'the classes of the target "class" are not those of target_classes'
    assert found.detail == 'c: column "class" of dataset "d" is declared to hold 1, 2, and not 0.'


def test_without_a_budget_the_rows_are_asked_instead() -> None:
    assert fault(UNKNOWN, ONE_TWO, private=False) is None


def test_nobody_is_left_for_the_true_reason() -> None:
    twice = DatasetDescription(DatasetName("other"), ("age", "class"), ("numeric", "boolean"))
    shared = (*BOOLEAN.introduction.datasets, twice)
    several = replace(BOOLEAN, introduction=Introduction(shared))

    assert explain_nobody(select([several], OPTIONS, learns_classes=True)) == (
        "no node can take part (a: several datasets have all the columns (d, other): the option dataset names one)"
    )
    assert explain_nobody(select([BOOLEAN], replace(OPTIONS, features=("bmi",)), learns_classes=True)) == (
        'no node shares column bmi (a: dataset "d" has no column bmi)'
    )


def test_what_a_node_said_is_read_from_the_catalog_as_it_was_written() -> None:
    said = Introduction((*BOOLEAN.introduction.datasets, *ONE_TWO.introduction.datasets))

    assert introduction_from_json(introduction_json(said)) == said
    more = replace(said, extras=("neural",))
    assert introduction_from_json(introduction_json(more), more.extras) == more


@pytest.mark.parametrize(
    ("offers", "private", "expected"),
    [
        ((BOOLEAN, ZERO_ONE), False, ("0", "1")),
        ((ZERO_ONE, ONE_TWO), False, ("0", "1", "2")),
        ((offer("e", "integer", "10", "9"),), False, ("9", "10")),
        ((ZERO_ONE, offer("e", "integer")), False, None),
        ((offer("e", "numeric"),), False, ("0", "1")),
        ((offer("e", "enum", "well", "Ill"), offer("f", "text", "ill")), True, ("Ill", "ill", "well")),
        ((offer("e", "character", "m ", "f "),), True, ("f", "m")),
        ((offer("e", "text"),), False, None),
        ((ZERO_ONE, offer("e", "integer")), True, ("0", "1")),
    ],
)
def test_classes_are_what_all_catalogs_list_and_where_one_does_not_only_rows_can_tell(
    offers: tuple[Offer, ...], private: bool, expected: tuple[str, ...] | None
) -> None:
    able = select(offers, OPTIONS, learns_classes=True).able

    assert known_classes(list(able.values()), OPTIONS, private=private) == expected


def test_a_text_is_no_target_of_what_learns_a_number() -> None:
    found = select([offer("a", "text")], OPTIONS, learns_classes=False)

    assert [one.reason for one in found.left_out] == [
        'column class of dataset "d" is of type text, no number'
    ]


def test_declared_values_that_no_task_may_name_declare_nothing() -> None:
    """Else one node's long value would have all others refuse the run's tasks."""
    long = offer("e", "text", "a", "b" * 121)
    error = fault(offer("a", "text", "a", "b"), long)
    assert error is not None
    assert error.detail is not None
    assert error.detail.startswith("e: ")
    assert known_classes([long.introduction.datasets[0]], OPTIONS, private=False) is None
