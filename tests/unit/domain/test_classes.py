"""Classes of a target: what their labels stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.classes import class_number, class_numbers, read_classes, show_number
from heliosdb.domain.errors import FederatedError


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ((), ()),
        (("0", "1"), (0.0, 1.0)),
        (("2", "1", "3"), (2.0, 1.0, 3.0)),
        (("false", "TRUE"), (0.0, 1.0)),
        (("-1", "1.5"), (-1.0, 1.5)),
        ((" 4", "2e0"), (4.0, 2.0)),
        (("ill", "well"), None),
        (("1", "one", "1.0"), None),
        (("0", "nan"), None),
        (("0", "9007199254740992"), None),
    ],
)
def test_labels_stand_for_numbers_or_are_texts(
    labels: tuple[str, ...], numbers: tuple[float, ...] | None
) -> None:
    assert read_classes(labels) == labels
    assert class_numbers(labels) == numbers


@pytest.mark.parametrize(
    ("labels", "sqlstate"),
    [
        (("1",), "22023"),
        (("1", "1.0"), "22023"),
        (("true", "1"), "22023"),
        (("0", "1", "0.0"), "22023"),
        (("ill", "ill"), "22023"),
        (("ill", "x" * 121), "22023"),
        (tuple(map(str, range(1001))), "22023"),
    ],
)
def test_what_are_not_two_different_classes_is_refused(labels: tuple[str, ...], sqlstate: str) -> None:
    with pytest.raises(FederatedError) as caught:
        read_classes(labels)
    assert caught.value.sqlstate == sqlstate


@given(st.integers(1 - 2**53, 2**53 - 1) | st.floats(-1e9, 1e9))
def test_a_number_is_shown_as_one_types_it(number: float) -> None:
    assert class_number(show_number(float(number))) == float(number)
