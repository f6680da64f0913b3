"""The scan: identifiers among values are found, ordinary clinical numbers are not, and one row decides nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets

from heliosdb.phi.kinds import Evidence, Finding, Kind, Share
from heliosdb.phi.numbers import passes_luhn
from heliosdb.phi.scan import (
    FEWEST,
    MOST_CELLS,
    Column,
    find_in_catalog,
    find_in_values,
    has_telling_values,
    is_decided,
    pending,
    sample_size,
)


def kinds(values: list[str], type_: str = "text", name: str = "x") -> dict[Kind, Share | None]:
    return {one.kind: one.share for one in find_in_values(Column(name, type_), values)}


def luhn(body: str) -> str:
    return next(body + digit for digit in "0123456789" if passes_luhn(body + digit))


def test_identifiers_among_values_are_found_with_a_rounded_share() -> None:
    draw = random.Random(1)
    cards = [luhn("4" + "".join(draw.choices("0123456789", k=14))) for _ in range(60)]
    assert kinds(cards) == {Kind.ACCOUNT: Share.MOST}
    assert kinds(cards, "bigint") == {Kind.ACCOUNT: Share.MOST}
    mails = [f"p{number}@example.org" for number in range(6)]
    assert kinds(mails + ["none"] * 94) == {Kind.EMAIL: Share.FEW}
    assert kinds(mails * 5 + ["none"] * 70) == {Kind.EMAIL: Share.SOME}
    notes = [f"seen on the ward, call 212-555-01{number:02} about results" for number in range(30)]
    assert kinds(notes) == {Kind.PHONE: Share.MOST, Kind.TEXT: Share.MOST}
    assert kinds([f"code{number}" for number in range(60)]) == {Kind.UNIQUE: Share.MOST}
    assert kinds([f"{number:09}" for number in range(123450001, 123450061)], "integer") == {
        Kind.NATIONAL: Share.MOST
    }


def test_people_over_89_are_found_in_a_column_of_ages() -> None:
    ages = [str(age) for age in range(20, 80)] * 3
    old = ["90", "91.5", "97", "102", "90"]
    assert kinds(ages, "integer", "age") == {}
    assert kinds(ages + old[:4], "integer", "age") == {}
    assert kinds(ages + old, "integer", "patient_age") == {Kind.AGE: Share.FEW}
    assert kinds(ages + old, "double precision", "alter") == {Kind.AGE: Share.FEW}
    assert kinds(ages + old, "integer", "weight") == {}
    assert has_telling_values(Column("age", "double precision"))
    assert not has_telling_values(Column("bmi", "double precision"))


@pytest.mark.parametrize("load", [datasets.load_diabetes, datasets.load_breast_cancer, datasets.load_wine,
                                  datasets.load_iris, datasets.load_linnerud])  # fmt: skip
def test_ordinary_data_sets_have_no_findings(load: object) -> None:
    assert callable(load)
    frame = load(as_frame=True).frame
    columns = [Column(str(name), "double precision") for name in frame.columns]
    assert find_in_catalog(columns) == []
    for name in frame.columns:
        whole = [str(round(value)) for value in frame[name]]
        for type_, values in (
            ("numeric", [str(value) for value in frame[name]]),
            ("integer", whole),
            ("bigint", whole),
        ):
            assert find_in_values(Column(str(name), type_), values) == []
    digits = datasets.load_diabetes(scaled=False, as_frame=True).frame
    assert all(not find_in_values(Column(n, "numeric"), [str(v) for v in digits[n]]) for n in digits.columns)


@given(
    st.lists(st.integers(0, 400_000), min_size=40, max_size=300),
    st.sampled_from(["integer", "bigint", "numeric"]),
)
def test_counts_and_measures_are_no_identifiers(values: list[int], type_: str) -> None:
    assert find_in_values(Column("platelets", type_), [str(value) for value in values]) == []


@pytest.mark.parametrize("digits", [8, 9, 10, 11, 13, 15, 16])
def test_random_whole_numbers_are_no_checked_numbers(digits: int) -> None:
    draw = random.Random(digits)
    values = [str(draw.randrange(10 ** (digits - 1), 10**digits)) for _ in range(500)]
    found = kinds(values, "bigint")
    # Nine digits by themselves nobody can tell from a social security number, unless a tenth of them is none.
    assert found.keys() <= ({Kind.NATIONAL} if digits == 9 else set())


@given(st.lists(st.text(max_size=20), max_size=60), st.text(max_size=20))
def test_too_few_values_decide_nothing(values: list[str], more: str) -> None:
    assert find_in_values(Column("x", "text"), [more] * (FEWEST - 1)) == []
    for one in find_in_values(Column("x", "text"), values):
        assert one.evidence is Evidence.VALUES
        assert one.share is not None


def test_one_value_more_changes_nothing_away_from_the_bounds() -> None:
    mails = [f"p{number}@example.org" for number in range(30)]
    for values in (mails, mails + ["none"] * 300):
        assert kinds(values) == kinds([*values, "none"]) == kinds([*values, "last@example.org"])


def test_names_and_types_are_told_apart_and_booleans_are_nobody() -> None:
    columns = [Column("mrn", "text"), Column("seen", "timestamp with time zone"), Column("phone", "boolean"),
               Column("ident", "uuid"), Column("bmi", "real"), Column("admission_date", "date")]  # fmt: skip
    assert find_in_catalog(columns) == [
        Finding("mrn", Kind.RECORD, Evidence.NAME),
        Finding("seen", Kind.DATE, Evidence.TYPE),
        Finding("ident", Kind.UNIQUE, Evidence.TYPE),
        Finding("admission_date", Kind.DATE, Evidence.NAME),
    ]


def test_what_was_accepted_is_decided() -> None:
    found = find_in_catalog([Column("mrn", "text"), Column("dob", "date")])
    assert [one.column for one in pending(found, ["dob"])] == ["mrn"]
    assert is_decided(found, ["dob", "mrn"])
    assert not is_decided(found, [])


def test_a_sample_is_bounded() -> None:
    assert sample_size(1) == 1_000
    assert sample_size(1_600) * 1_600 <= MOST_CELLS
    assert sample_size(0) == 1_000
