"""What the option feature_transforms says, and what it makes of columns."""

from __future__ import annotations

import pytest

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.transforms import read_transforms, transformed

FEATURES = ("age", "amount", "Größe (cm)", "city", "when", "Upper")


def columns() -> list[ColumnEncoding]:
    kinds = {"city": ColumnKind.CATEGORY, "when": ColumnKind.TIME}
    return [ColumnEncoding(name, kinds.get(name, ColumnKind.NUMBER)) for name in FEATURES]


def inputs(*texts: str) -> tuple[str, ...]:
    made = transformed(columns(), read_transforms(texts, FEATURES))
    return tuple(name for column in made for name in column.inputs)


def test_columns_are_named_as_in_sql() -> None:
    found = read_transforms(
        ["LOG1P(Age)", ' none ( "Größe (cm)" ) ', "missing(Upper)", "standard(age)"], FEATURES
    )

    assert [(one.function, one.column) for one in found] == [
        ("log1p", "age"),
        ("none", "Größe (cm)"),
        ("missing", "Upper"),
        ("standard", "age"),
    ]


def test_each_changes_its_own_column() -> None:
    assert inputs("log1p(amount)", "missing(amount)", "missing(when)") == (
        "age",
        "log1p(amount)",
        "amount is missing",
        "Größe (cm)",
        "city",
        "when",
        "when is missing",
        "Upper",
    )
    made = transformed(columns(), read_transforms(["none(age)", "onehot(amount)"], FEATURES))
    assert [column.scaled for column in made] == [False, True, True, True, True, True]
    assert made[1].kind is ColumnKind.CATEGORY


@pytest.mark.parametrize(
    ("texts", "sqlstate", "said"),
    [
        (["sqrt(age)"], "22023", "'sqrt(age)', which is none of its forms"),
        (["age"], "22023", "none of its forms"),
        (["log1p(age, amount)"], "22023", "none of its forms"),
        (["log1p(age, 3)"], "22023", "A number is given to bins(x, 10) and hashed(x, 512)"),
        (["bins(age)"], "22023", "A number is given to bins(x, 10) and hashed(x, 512)"),
        (["bins(age, 1)"], "22023", "2 to 100 bins"),
        (["bins(age, 101)"], "22023", "2 to 100 bins"),
        (["tokens(city, 64)"], "0A000", "tokens(city, 64)'] is not supported yet"),
        (["hashed(city)"], "22023", "A number is given to bins(x, 10) and hashed(x, 512)"),
        (["hashed(city, 15)"], "22023", "16 to 4096 numbers"),
        (["hashed(city, 4097)"], "22023", "16 to 4096 numbers"),
        (["hashed(city, 64)", "onehot(city)"], "22023", 'transforms "city" twice'),
        (["bins(age, 5)", "log1p(age)"], "22023", 'transforms "age" twice'),
        (["log1p(bmi)"], "22023", '"bmi", which is no feature'),
        (['log1p("upper")'], "22023", '"upper", which is no feature'),
        (["log1p(age)", 'LOG1P("age")'], "22023", 'transforms "age" twice'),
        (["log1p(age)", "onehot(age)"], "22023", 'transforms "age" twice'),
        (["none(age)", "standard(age)"], "22023", 'transforms "age" twice'),
        (["none(age)", "onehot(age)"], "22023", 'scales "age"'),
    ],
)
def test_what_is_no_transform_is_one_clear_error(texts: list[str], sqlstate: str, said: str) -> None:
    with pytest.raises(FederatedError) as caught:
        read_transforms(texts, FEATURES)
    assert caught.value.sqlstate == sqlstate
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "text",
    [
        *("log1p(city)", "onehot(when)", "none(city)", "missing(city)", "log1p(when)", "bins(city, 4)"),
        *("hashed(age, 64)", "hashed(when, 64)"),
    ],
)
def test_what_cannot_be_made_of_a_kind_names_it(text: str) -> None:
    with pytest.raises(FederatedError) as caught:
        inputs(text)
    assert caught.value.sqlstate == "22023"
    assert text in caught.value.message
    assert f"{text.partition('(')[0]}(x" in str(caught.value.hint)
    assert "is made of columns of kind" in str(caught.value.hint)


def test_a_text_is_so_many_numbers_none_of_which_round_0_describes() -> None:
    made = transformed(columns(), read_transforms(["hashed(city, 16)"], FEATURES))
    encoding = Encoding(made)

    assert (made[3].kind, made[3].form, made[3].elements) == (ColumnKind.TEXT, "hashed", 16)
    assert made[3].inputs == tuple(f"hashed(city)[{place}]" for place in range(1, 17))
    expected = (True,) * 3 + (False,) * 16 + (True,) * 2
    assert encoding.described == encoding.measured == expected
    assert not any(encoding.spread[3:19])
    assert not encoding.unnamed
    assert Encoding.from_json(encoding.to_json()) == encoding


def test_bins_wait_for_their_edges() -> None:
    found = read_transforms(["bins(age, 10)", 'bins("when", 2)'], FEATURES)
    assert [one.count for one in found] == [10, 2]
    assert inputs("bins(age, 10)") == FEATURES


def test_a_number_that_becomes_a_category_has_no_indicator_of_missing_values() -> None:
    with pytest.raises(FederatedError, match="NULL is a level"):
        inputs("onehot(age)", "missing(age)")
