"""A text of which the words are read comes as one tensor of texts, and becomes the numbers that SQL makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.api.problems import Problem
from heliosdb.api.serving.signature import make_signature
from heliosdb.api.serving.tensors import TEXT, Tensor
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.scoring.words import hash_text

COLUMNS = (ColumnEncoding("notes", ColumnKind.TEXT, "hashed", elements=16), ColumnEncoding("age"))
SIGNATURE = make_signature(("notes", "age"), Encoding(COLUMNS), (), has_score=True)


def test_a_text_is_one_tensor_and_without_words_where_it_is_missing() -> None:
    assert [one.shape for one in SIGNATURE.inputs] == [(-1,), (-1,)]
    assert SIGNATURE.inputs[0].datatype == TEXT

    texts = Tensor("notes", TEXT, (3,), ["Fever, cough", None, ""])
    ages = Tensor("age", "FP64", (3,), np.array([1.0, 2.0, 3.0]))
    slots = SIGNATURE.slots([texts, ages], 10)
    assert np.array_equal(slots[0], [*hash_text("fever cough", 16), 1.0])
    assert not slots[1:, :16].any()

    alone = SIGNATURE.slots([ages], 10)
    assert not alone[:, :16].any()


def test_numbers_in_the_place_of_a_text_are_refused() -> None:
    with pytest.raises(Problem):
        SIGNATURE.slots([Tensor("notes", "FP64", (1,), np.array([1.0]))], 10)
