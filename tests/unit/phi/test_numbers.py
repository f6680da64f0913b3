"""Check digits: published examples pass, a changed digit does not, and nothing is raised on any text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.phi import numbers, texts

Question = Callable[[str], bool]

# Numbers that the issuing bodies publish as examples, or that are made by the published rule.
EXAMPLES: list[tuple[Question, str]] = [
    (numbers.is_card, "4111 1111 1111 1111"),
    (numbers.is_card, "3782 822463 10005"),
    (numbers.is_card, "5555555555554444"),
    (numbers.is_imei, "49-015420-323751-8"),
    (numbers.is_npi, "1234567893"),
    (numbers.is_iban, "GB82 WEST 1234 5698 7654 32"),
    (numbers.is_iban, "DE89370400440532013000"),
    (numbers.is_nhs, "943 476 5919"),
    (numbers.is_steuer_id, "86 095 742 719"),
    (numbers.is_steuer_id, "47036892816"),
    (numbers.is_kvnr, "A123456780"),
    (numbers.is_nir, "2 55 08 14 168 025 38"),
    (numbers.is_codice_fiscale, "RSSMRA85T10A562S"),
    (numbers.is_dni, "12345678Z"),
    (numbers.is_dni, "X1234567L"),
    (numbers.is_bsn, "111222333"),
    (numbers.is_pesel, "44051401359"),
    (numbers.is_ahv, "756.9217.0769.85"),
    (numbers.is_vin, "1M8GDM9AXKP042788"),
    (numbers.is_vin, "1HGCM82633A004352"),
]


@pytest.mark.parametrize(("question", "value"), EXAMPLES, ids=[value for _, value in EXAMPLES])
def test_an_example_passes_and_no_neighbour_of_it_does(question: Question, value: str) -> None:
    assert question(value)
    assert question(f" {value} ".lower())
    for place, each in enumerate(value):
        if each.isdigit():
            changed = value[:place] + str((int(each) + 1) % 10) + value[place + 1 :]
            # Of two letters or digits that a rule counts alike one may stand for the other; of these none does.
            assert not question(changed), changed


@pytest.mark.parametrize("value", ["078-05-1120", "219-09-9999"])
def test_a_social_security_number_has_its_parts(value: str) -> None:
    assert numbers.is_ssn(value)
    assert texts.has_ssn(f"SSN {value}, verified")
    assert numbers.is_bare_ssn(value.replace("-", ""))


@pytest.mark.parametrize(
    "value", ["000-12-3456", "666-12-3456", "912-12-3456", "123-00-4567", "123-45-0000", "1234-5-6789"]
)
def test_what_was_never_given_out_is_no_social_security_number(value: str) -> None:
    assert not numbers.is_ssn(value)
    assert not texts.has_ssn(value)


QUESTIONS = [
    *dict.fromkeys(question for question, _ in EXAMPLES),
    numbers.is_ssn, numbers.is_bare_ssn, numbers.is_mbi, texts.has_email, texts.has_url, texts.has_phone, texts.has_ssn,
    texts.is_ip, texts.is_mac, texts.is_uuid, texts.is_postcode, texts.is_date, texts.is_person, texts.is_free_text,
]  # fmt: skip


@given(st.text(max_size=60) | st.from_regex(r"[0-9A-Z²٣ .\-/]{0,30}", fullmatch=True))
def test_nothing_is_raised_on_any_text(value: str) -> None:
    for question in QUESTIONS:
        assert question(value) in (True, False)


@given(st.sampled_from("0123456789"), st.integers(1, 30))
def test_a_digit_that_is_repeated_is_nobodys_number(digit: str, length: int) -> None:
    value = digit * length
    asked = (
        numbers.is_card,
        numbers.is_imei,
        numbers.is_nhs,
        numbers.is_steuer_id,
        numbers.is_bsn,
        numbers.is_nir,
    )
    assert not any(question(value) for question in asked)
