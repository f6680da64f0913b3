"""Words of a text, hashed: the same numbers everywhere, whatever the text is."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.errors import FederatedError
from heliosdb.scoring.words import LONGEST, LONGEST_WORD, Bags, hash_text, hashes_of, numbers_of, words_of

LETTERS = "abd44f39838a87732481e1f9602f943c9ff2d60c682adcf49fde83d06ee891a8"
HASHES = ["072258d208bf0ca2", "08698b6db846cd71", "98a95eb628b75d2b"]
NUMBERS = [
    0.0,
    0.4931969619160719,
    0.0,
    -0.1643989873053573,
    0.0,
    -0.6575959492214292,
    0.0,
    0.0,
    -0.4931969619160719,
    0.0,
    0.0,
    0.0,
    0.1643989873053573,
    0.1643989873053573,
    0.0,
    0.0,
]


def test_words_are_runs_of_letters_marks_and_digits_whatever_their_case_and_form() -> None:
    assert dict(words_of("Fever, FEVER;\tﬁne №5\nno-show e\u0301tat Straße")) == {
        b"fever": 2,
        b"fine": 1,
        b"no5": 1,
        b"no": 1,
        b"show": 1,
        "état".encode(): 1,
        b"strasse": 1,
    }
    assert words_of("soft\u00adhyphen  ,;!  ") == {b"softhyphen": 1}
    assert words_of("") == words_of(" \n\t ") == words_of("...") == {}


def test_what_unicode_3_2_does_not_know_is_a_letter_of_its_own_case() -> None:
    # Small and capital letters of Deseret's later neighbour, Osage (Unicode 9), and an emoji.
    assert words_of("\U000104b0 \U000104d8 \U0001f912") == {
        "\U000104b0".encode(): 1,
        "\U000104d8".encode(): 1,
        "\U0001f912".encode(): 1,
    }


def test_letters_are_those_that_every_release_of_python_has() -> None:
    digest = hashlib.sha256()
    for first in range(0, 0x20000, 4_096):
        codes = [code for code in range(first, first + 4_096) if not 0xD800 <= code < 0xE000]
        text = " ".join(f"a{chr(code)}\u0301e\u0323 {chr(code)}" for code in codes)
        digest.update(b"|".join(words_of(text)) + b"\n")
    # Of Python 3.9, 3.11, 3.12 and 3.13, whose own tables are of four releases of Unicode.
    assert digest.hexdigest() == LETTERS


def test_a_long_word_is_several_and_no_more_of_a_text_is_read_than_its_beginning() -> None:
    assert words_of("x" * (LONGEST_WORD + 3)) == {b"x" * LONGEST_WORD: 1, b"xxx": 1}
    assert words_of("a " * LONGEST) == {b"a": LONGEST // 2}


def test_hashes_and_numbers_are_those_that_every_release_has_made() -> None:
    assert [f"{one:016x}" for one in hashes_of(b"ill").tolist()] == HASHES
    numbers = numbers_of("Ill, ill; ILL well", 16)
    assert numbers == NUMBERS


@given(st.text(max_size=200), st.sampled_from([16, 17, 64, 4096]))
def test_squares_sum_to_one_or_there_are_no_words(text: str, size: int) -> None:
    numbers = hash_text(text, size)

    assert numbers.shape == (size,)
    assert np.isfinite(numbers).all()
    squares = float(numbers @ numbers)
    # Two runs may take each other away, and nothing be left.
    assert squares == pytest.approx(1.0) if numbers.any() else squares == 0.0


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12), st.data())
def test_a_texts_numbers_do_not_depend_on_other_texts(texts: list[str], data: st.DataObject) -> None:
    bags = Bags.of(texts)
    order = data.draw(st.permutations(range(len(texts))))
    together = bags.hashed(np.array([*order, -1]), 64)

    for row, place in zip(together, order, strict=False):
        assert np.array_equal(row, hash_text(texts[place], 64))
    assert not together[-1].any()


def test_texts_that_are_kept_are_what_they_were_alone() -> None:
    texts = ["fever and cough", "", "walking", "cough cough"]
    kept = Bags.of(texts).of_texts(np.array([True, True, False, True]))

    assert repr(kept) == repr(Bags.of([texts[0], texts[1], texts[3]]))
    assert repr(kept) != repr(Bags.of(texts))
    assert Bags.of([]).hashed(np.empty(0, dtype=np.int64), 16).shape == (0, 16)


def test_words_that_are_left_out_are_as_if_they_had_not_been_written() -> None:
    bags = Bags.of(["fever Zzyzx", "fever"])
    left_out = np.array([word == b"zzyzx" for word in bags.words])

    both = bags.hashed(np.array([0, 1]), 64, left_out)
    assert np.array_equal(both[0], both[1])


@pytest.mark.parametrize("size", [0, 15, 4_097, 10**9])
def test_a_size_out_of_bounds_is_refused(size: int) -> None:
    with pytest.raises(FederatedError, match="a text is not hashed into"):
        numbers_of("fever", size)
