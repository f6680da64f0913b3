"""Texts in answers without noise: what few people wrote tells nothing, whatever a task makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.encoding import encode
from heliosdb.algorithms.table import RawColumn, Table
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Vector
from heliosdb.node.datasets import TableRequest
from heliosdb.node.encoding import encode_plainly, encode_privately
from heliosdb.node.frames import ComputeRequest
from heliosdb.node.likeness import Inputs, find_alike
from heliosdb.node.policy import check_columns, find_misread
from heliosdb.scoring.words import Bags, hash_text
from tests.unit.node.door_tasks import dataset, statistics
from tests.unit.node.test_roles import REQUEST

SIZE = 64
TEXT = ColumnEncoding("notes", ColumnKind.TEXT, "hashed", elements=SIZE)
ENCODING = Encoding((TEXT,), ("0", "1"))
WORDS = ("fever", "cough", "walking", "garden", "sleep", "pain", "knee", "letter")


def texts_of(rows: int = 120, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 5)) for _ in range(rows)]


def table_of(texts: list[str | None], subjects: list[int] | None = None, held_out: int = 0) -> Table:
    there = sorted({text for text in texts if text is not None})
    places = np.array([np.nan if text is None else there.index(text) for text in texts])
    rows = len(texts)
    whose = np.arange(rows) if subjects is None else np.array(subjects)
    made = Table.from_rows(places[:, None], np.arange(rows) % 2.0, whose, np.arange(rows) < held_out)
    return replace(made, columns=(RawColumn(ColumnKind.TEXT, 1, (), Bags.of(there)),))


def request(**about: Any) -> TableRequest:
    return replace(
        REQUEST, features=("notes",), roles=(), hashed=(SIZE,), min_cell=5, min_category=5, **about
    )


def plain(table: Table) -> np.ndarray:
    return np.asarray(encode_plainly(table, ENCODING, ("0", "1"), request()).features)


def test_under_a_budget_a_row_s_numbers_are_those_of_its_text_alone() -> None:
    texts = [*texts_of(), None, "", "  ", "Zzyzx"]
    whole = encode_privately(table_of(texts), ENCODING).features

    for row, text in zip(whole, texts, strict=True):
        assert row.tobytes() == hash_text(text, SIZE).tobytes()
    some = encode_privately(table_of(texts[100:]), ENCODING).features
    assert some.tobytes() == whole[100:].tobytes()


@pytest.mark.parametrize("size", [16, 64, 1_000])
def test_a_word_that_few_people_wrote_does_not_count_into_however_many_numbers_words_are_hashed(
    size: int,
) -> None:
    texts = texts_of()
    named = [text + " Zzyzx" if place in (3, 40, 77, 90) else text for place, text in enumerate(texts)]
    encoding = Encoding((replace(TEXT, elements=size),))

    told = encode(table_of(named), encoding, smallest_cell=5)
    assert told.features.tobytes() == encode(table_of(texts), encoding, smallest_cell=5).features.tobytes()
    named[50] += " zzyzx"
    told = encode(table_of(named), encoding, smallest_cell=5)
    assert not np.array_equal(told.features, encode(table_of(texts), encoding, smallest_cell=5).features)


def test_people_count_and_not_rows_and_those_trained_on_by_themselves() -> None:
    texts = texts_of()
    named = [text + " Zzyzx" if place < 8 else text for place, text in enumerate(texts)]
    subjects = [place // 4 for place in range(len(texts))]
    of_two = encode(table_of(named, subjects), ENCODING, smallest_cell=5)
    assert np.array_equal(
        of_two.features, encode(table_of(texts, subjects), ENCODING, smallest_cell=5).features
    )

    held_out = encode(table_of(named, held_out=4), ENCODING, smallest_cell=5)
    assert np.array_equal(
        held_out.features, encode(table_of(texts, held_out=4), ENCODING, smallest_cell=5).features
    )


def test_what_few_differ_in_or_one_dominates_is_0_and_not_refused() -> None:
    # Everybody's note is one word that is short; one note has a second one that others have too, among many.
    texts = ["fever"] * 60 + ["fever " * 9 + " ".join(WORDS)] * 5 + ["fever " + "garden " * 400]
    made = plain(table_of(texts))

    for column in made.T:
        values, counts = np.unique(column, return_counts=True)
        assert values.size == 1 or column.size - int(counts.max()) >= 5


def test_numbers_that_differ_in_few_people_are_0_at_the_node() -> None:
    # Two words, of which all but two people who have one have the other.
    notes = ["left right" if place % 2 else "knee knee" for place in range(120)]
    notes[1], notes[3] = "left knee", "right knee"
    table = table_of(notes)
    names = ENCODING.inputs

    told = encode(table, ENCODING, smallest_cell=5)
    assert list(find_alike(Inputs(told, names), 5))
    made = encode_plainly(table, ENCODING, ("0", "1"), request())
    assert not list(find_alike(Inputs(made, names), 5))


def test_a_column_beside_a_text_is_refused_as_ever() -> None:
    base = table_of(texts_of())
    rare = np.zeros(base.rows)
    rare[7] = 1.0
    beside: Vector = np.column_stack([base.features, rare, rare * 2.0 + (np.arange(base.rows) == 9)])
    table = replace(base, features=beside, columns=(*base.columns, RawColumn(), RawColumn()))
    encoding = Encoding((TEXT, ColumnEncoding("a"), ColumnEncoding("b")), ("0", "1"))
    asked = replace(request(), features=("notes", "a", "b"), hashed=(SIZE, 0, 0))

    with pytest.raises(FederatedError, match='inputs "a" and "b"') as raised:
        encode_plainly(table, encoding, ("0", "1"), asked)
    assert raised.value.code is ErrorCode.NODE_REFUSED


def test_a_request_says_over_a_pipe_which_features_are_texts() -> None:
    asked = request()
    sent = ComputeRequest(1, "reader", asked, b"", b"")
    received = ComputeRequest.from_parts([bytes(part) for part in sent.to_parts()])
    assert received.table == asked
    assert received.table.texts == ("notes",)
    assert replace(asked, plain=False).most_width > SIZE


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (replace(TEXT, elements=5_000), "is not read as 5,?000 numbers"),
        (replace(TEXT, elements=1), "is not read as 1 number"),
        (replace(TEXT, missing_indicator=True), "is not read as"),
        (replace(TEXT, levels=("a",)), "is not read as"),
        (replace(TEXT, form="value"), "of kind text is not read as value"),
        (replace(TEXT, kind=ColumnKind.NUMBER), "of kind number is not read as hashed"),
    ],
)
def test_a_task_cannot_read_a_text_in_another_way(column: ColumnEncoding, said: str) -> None:
    task = replace(statistics(None, None), encoding=Encoding((column,), ("0", "1")))
    with pytest.raises(FederatedError, match=said):
        check_columns(task)


def test_a_number_is_read_as_no_text() -> None:
    task = statistics(None, None)
    name = task.reading.features[0]
    column = replace(TEXT, column=name)
    others = tuple(map(ColumnEncoding, task.reading.features[1:]))
    misread = find_misread(
        dataset().description, replace(task, encoding=Encoding((column, *others), ("0", "1")))
    )
    assert misread is not None
    assert "reads it as text" in misread.message
