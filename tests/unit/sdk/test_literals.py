"""What goes into a statement comes out of the language's own parser unchanged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql import parse
from federated_sql.statements import (
    AlterModel,
    AlterWorkspace,
    CreateModel,
    CreateWorkspace,
    DropModel,
    DropWorkspace,
    PromoteModel,
    RegisterNode,
    StartTraining,
    StopTraining,
    TagModel,
    UnregisterNode,
)
from heliosdb.sdk import statements
from heliosdb.sdk.errors import FederatedLearningError
from heliosdb.sdk.literals import literal

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cf", "Cn", "Co", "Zs", "Zl", "Zp"]), min_size=1
).filter(lambda name: len(name.encode()) <= 63 and name.isprintable())
SCALARS = (
    TEXT | st.integers(-(10**90), 10**90) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)
OPTIONS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS), max_size=4)


def options_of(command: Any) -> dict[str, Any]:
    return {option.name: option.value for option in command.options}


def parsed(value: Any) -> Any:
    """What the parser makes of a list is a tuple."""
    return tuple(value) if isinstance(value, list) else value


def same(found: Any, given_: Any) -> bool:
    """Equal, and of the same type: true is not 1, and -0.0 not 0.0."""
    if isinstance(found, tuple):
        return len(found) == len(given_) and all(map(same, found, given_))
    if isinstance(found, float):
        return (
            type(given_) is float and found == given_ and math.copysign(1, found) == math.copysign(1, given_)
        )
    return type(found) is type(given_) and found == given_


@given(name=NAMES, workspace=NAMES, options=OPTIONS, if_not_exists=st.booleans())
def test_whatever_is_given_comes_out_of_the_parser(
    name: str, workspace: str, options: dict[str, Any], if_not_exists: bool
) -> None:
    made = parse(statements.create_model(name, workspace, options, if_not_exists=if_not_exists))
    assert isinstance(made, CreateModel)
    assert (made.name, made.workspace, made.if_not_exists) == (name, workspace, if_not_exists)
    found = options_of(made)
    assert found.keys() == options.keys()
    assert all(same(found[option], parsed(value)) for option, value in options.items())


@given(name=NAMES, workspace=NAMES, text=TEXT)
def test_every_statement_is_read_back_as_it_was_meant(name: str, workspace: str, text: str) -> None:
    one = {"rounds": 3}
    assert parse(statements.create_workspace(workspace, one, if_not_exists=True)) == CreateWorkspace(
        workspace,
        parse(statements.create_model("m", "w", one, if_not_exists=False)).options,
        True,  # type: ignore[union-attr]
    )
    altered = parse(statements.alter_workspace(workspace, {"contact": text}))
    assert isinstance(altered, AlterWorkspace)
    assert options_of(altered) == {"contact": text}
    model = parse(statements.alter_model(name, {"features": [name, text]}))
    assert isinstance(model, AlterModel)
    assert options_of(model) == {"features": (name, text)}
    node = parse(statements.register_node(name, workspace, {"certificate": text}))
    assert isinstance(node, RegisterNode)
    assert (node.name, node.workspace, options_of(node)) == (name, workspace, {"certificate": text})
    assert parse(statements.drop_workspace(workspace, cascade=True)) == DropWorkspace(workspace, cascade=True)
    assert parse(statements.drop_model(name, cascade=False)) == DropModel(name)
    assert parse(statements.unregister_node(name, workspace)) == UnregisterNode(name, workspace)
    assert parse(statements.start_training(name, {})) == StartTraining(name)
    assert parse(statements.stop_training(name)) == StopTraining(name)
    assert parse(statements.promote_model(name, 7)) == PromoteModel(name, "7")
    assert parse(statements.tag_model(name, "stable", 3, replace=True)) == TagModel(name, "stable", 3, True)


@pytest.mark.parametrize(
    "hostile",
    [
        "x'); DROP TABLE patients; --",
        'a"; DROP FEDERATED WORKSPACE w; --',
        "\\'; --",
        "$$ $body$",
        "/* */",
        "E'\\047'",
        'U&"\\0041"',
        "''",
        '""',
    ],
)
def test_no_text_gets_out_of_its_quotes(hostile: str) -> None:
    made = parse(statements.register_node(hostile, hostile, {"contact": hostile}))
    assert isinstance(made, RegisterNode)
    assert (made.name, made.workspace, options_of(made)) == (hostile, hostile, {"contact": hostile})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.float64(0.1), "0.1"),
        (np.int64(-3), "-3"),
        (np.bool_(True), "true"),
        (np.array([1.5, 2.0]), "[1.5, 2.0]"),
        (("a", "b"), "['a', 'b']"),
        ({"age": (0, 100)}, "'{\"age\": [0, 100]}'"),
        ({"learning_rate": [np.float64(0.1)]}, "'{\"learning_rate\": [0.1]}'"),
        (1e22, "1e+22"),
        ([], "[]"),
    ],
)
def test_values_of_python_and_numpy_are_written_as_the_language_has_them(value: Any, written: str) -> None:
    assert literal("x", value) == written


@pytest.mark.parametrize(
    ("value", "sqlstate", "said"),
    [
        (float("nan"), "22023", "must be a finite number, not nan"),
        (float("-inf"), "22023", "must be a finite number, not -inf"),
        ([1.0, float("inf")], "22023", "must be a finite number"),
        (np.float64("nan"), "22023", "must be a finite number"),
        ({"age": [0, float("inf")]}, "22023", "cannot be written as JSON"),
        ({"age": object()}, "22023", "cannot be written as JSON"),
        (None, "22023", "has no value"),
        ([None], "22023", "has no value"),
        ([["a"]], "22023", "cannot be a list"),
        (object(), "22023", "cannot be a object"),
        (b"bytes", "22023", "cannot be a"),
        ("a\0b", "22021", "no text of a database"),
        ("\ud800", "22021", "no text of a database"),
    ],
)
def test_what_is_no_value_is_refused(value: Any, sqlstate: str, said: str) -> None:
    with pytest.raises(FederatedLearningError, match=said) as refused:
        literal("x", value)
    assert refused.value.sqlstate == sqlstate


@pytest.mark.parametrize("name", [3, None, "a\0b"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(FederatedLearningError, match="the name of a model"):
        statements.stop_training(name)
