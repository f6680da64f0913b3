"""A file is read back as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.prediction import Prediction
from heliosdb.exchange.document import read_document, write_document
from heliosdb.exchange.portable import read_portable
from heliosdb.scoring.ballot import Candidate, hold_ballot
from tests.support.encoded_model import ENCODING, linear
from tests.support.portable import document

EXPORTED = document(linear("logistic"), ENCODING)
FILE = write_document(EXPORTED)


def refusal(raw: bytes) -> ErrorCode:
    with pytest.raises(FederatedError) as caught:
        read_document(raw)
    return caught.value.code


def changed(**members: Any) -> bytes:
    """The file with other members, and the hash that it had."""
    return json.dumps({**json.loads(FILE), **members}).encode()


def test_what_was_written_is_read() -> None:
    read = dict(read_document(FILE))
    del read["sha256"]
    assert read == EXPORTED
    assert read_document(write_document(EXPORTED, card=False))["card"] is None


def test_what_was_cut_off_or_changed_is_refused() -> None:
    for end in (0, 1, len(FILE) // 2, len(FILE) - 3):
        assert refusal(FILE[:end]) is ErrorCode.INVALID_VALUE
    for members in (
        {"version": 4},
        {"card": {"model": "other"}},
        {"features": ["x"]},
        {"sha256": "00" * 32},
        {"sha256": 1},
    ):
        assert refusal(changed(**members)) is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b"{}", b'{"format": "heliosdb-model", "format": "x"}', b"\xff\xfe", b"[" * 100_000,
     b'{"format": "heliosdb-model", "format_version": NaN}', b'{"format": "other"}'],
)  # fmt: skip
def test_what_is_no_file_is_refused(raw: bytes) -> None:
    assert refusal(raw) is ErrorCode.INVALID_VALUE


def test_what_is_nested_too_deeply_is_refused() -> None:
    for levels, is_read in ((10, True), (64, False), (300, False)):
        card: dict[str, Any] = {}
        for _ in range(levels):
            card = {"card": card}
        raw = write_document({**EXPORTED, "card": card})
        if is_read:
            assert read_document(raw)["card"] == card
        else:
            assert refusal(raw) is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000, "NaN"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    assert (
        refusal(FILE.replace(b'"model": "stay"', b'"model": ' + number.encode(), 1))
        is ErrorCode.INVALID_VALUE
    )


def test_a_later_format_is_not_supported() -> None:
    for version in (2, "1", True, None):
        assert refusal(changed(format_version=version)) is ErrorCode.NOT_SUPPORTED


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_no_bit_of_what_is_said_can_be_changed(place: int, bit: int) -> None:
    raw = bytearray(FILE)
    raw[place] ^= 1 << bit
    try:
        read = read_document(bytes(raw))
    except FederatedError as error:
        assert error.code in (ErrorCode.INVALID_VALUE, ErrorCode.NOT_SUPPORTED)
    else:
        # Spaces between members say nothing.
        assert read == read_document(FILE)


def test_numbers_that_do_not_hold_together_are_refused() -> None:
    stored = json.loads(EXPORTED["prediction"])
    for members in (
        {"slopes": [1.0]},
        {"link": "probit"},
        {"kind": "pickle"},
        {"intercept": "1"},
        {"more": 1},
    ):
        bad = {**EXPORTED, "prediction": json.dumps({**stored, **members})}
        with pytest.raises(FederatedError) as caught:
            read_portable(bad)
        assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_prediction_by_vote_leaves_as_json_alone() -> None:
    voters = [Candidate(number, linear("logistic"), ENCODING, ("0", "1")) for number in (1, 2, 3)]
    ballot = hold_ballot(voters)
    voted = document(ballot.prediction, ballot.encoding)
    with pytest.raises(FederatedError, match="by vote leaves as JSON alone") as caught:
        read_portable(voted)
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


def test_a_model_that_reads_the_words_of_a_text_leaves_as_json_alone() -> None:
    column = ColumnEncoding("notes", ColumnKind.TEXT, "hashed", elements=16)
    content = {"link": "identity", "intercept": 0.5, "target_mean": 0.0, "target_scale": 1.0}
    numbers = {"slopes": [1.0] * 16, "fills": [0.0] * 16, "shifts": [0.0] * 16}
    worded = document(Prediction("linear", {**content, **numbers}), Encoding((column,)))
    with pytest.raises(FederatedError, match='words of "notes" leaves as JSON alone') as caught:
        read_portable(worded)
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    for wrong in ({"form": "value"}, {"elements": 5_000}, {"missing_indicator": True}):
        stored = json.loads(worded["prediction"])
        stored["encoding"]["columns"][0] |= wrong
        with pytest.raises(FederatedError) as caught:
            read_portable({**worded, "prediction": json.dumps(stored)})
        assert caught.value.code is ErrorCode.INVALID_VALUE
