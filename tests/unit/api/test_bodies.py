"""Bodies are JSON as the standard has it; options and names become statements that parse back to themselves."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from federated_sql import parse
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.render import render
from federated_sql.statements import CreateModel, CreateWorkspace, RegisterNode, StartTraining
from heliosdb.api.guard import parse_json
from heliosdb.api.problems import Problem
from heliosdb.api.schemas import NewModel, Prediction, to_options


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": 1, "a": 2}', b'{"a": "\\ud800"}', b"\xff", b"", b"{",
        b"[" * 100_000, b"[" * 40 + b"]" * 40, b'{"a": 1' + b"0" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse_json(text)
    assert caught.value.status == 400


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, true, "\\u00e9"]}') == {"a": [1, 2.5, None, True, "é"]}


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)
SCALARS = (
    st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False) | NAMES
)
OPTIONS = st.dictionaries(
    st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True),
    SCALARS | st.lists(SCALARS, max_size=3),
    max_size=3,
)


@given(name=NAMES, other=NAMES, options=OPTIONS)
def test_whatever_is_in_a_name_or_value_stays_in_it(
    name: str, other: str, options: dict[str, object]
) -> None:
    given_options = to_options(options)
    for command in (
        CreateWorkspace(name, given_options),
        CreateModel(name, other, given_options),
        RegisterNode(name, other, given_options),
        StartTraining(name, given_options),
    ):
        try:
            assert parse(render(command)) == command
        except FederatedError as refused:
            # The language takes no unprintable characters in names: then nothing is done at all.
            assert refused.code is ErrorCode.INVALID_NAME


@pytest.mark.parametrize(
    "options",
    [
        {"a b": 1}, {"a)": 1}, {"A": 1}, {"": 1}, {"a": None}, {"a": {"b": 1}}, {"a": [[1]]}, {"a--": 1},
    ],
)  # fmt: skip
def test_options_are_names_with_plain_values(options: object) -> None:
    with pytest.raises(ValidationError):
        NewModel.model_validate({"name": "m", "options": options})


@pytest.mark.parametrize(
    "body",
    [
        {"features": {"a": {"b": 1}}}, {"features": []}, {"instances": {}}, {"instances": [1]}, {"features": {"": 1}},
        {"features": {"a": ["x"]}}, {"other": 1}, {"features": {}, "version": ""},
    ],
)  # fmt: skip
def test_features_are_names_with_plain_values(body: object) -> None:
    with pytest.raises(ValidationError):
        Prediction.model_validate_json(json.dumps(body))
