"""Classes of a target: what their labels stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.classes import class_number, read_classes, show_number
from heliosdb.domain.errors import FederatedError


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ((), ()),
        (("0", "1"), (0.0, 1.0)),
        (("2", "1"), (2.0, 1.0)),
        (("false", "TRUE"), (0.0, 1.0)),
        (("-1", "1.5"), (-1.0, 1.5)),
        ((" 4", "2e0"), (4.0, 2.0)),
    ],
)
def test_labels_are_numbers(labels: tuple[str, ...], numbers: tuple[float, ...]) -> None:
    assert read_classes(labels) == numbers


@pytest.mark.parametrize(
    ("labels", "sqlstate"),
    [
        (("1",), "22023"),
        (("1", "1.0"), "22023"),
        (("true", "1"), "22023"),
        (("0", "1", "2"), "0A000"),
        (("ill", "well"), "0A000"),
        (("0", "nan"), "0A000"),
        (("0", "9007199254740992"), "0A000"),
    ],
)
def test_what_are_not_two_numbers_is_refused(labels: tuple[str, ...], sqlstate: str) -> None:
    with pytest.raises(FederatedError) as caught:
        read_classes(labels)
    assert caught.value.sqlstate == sqlstate


@given(st.integers(1 - 2**53, 2**53 - 1) | st.floats(-1e9, 1e9))
def test_a_number_is_shown_as_one_types_it(number: float) -> None:
    assert class_number(show_number(float(number))) == float(number)
