"""Tables from rows: exact numbers, no dependence on the order of rows, held-out subjects that nobody else can choose."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heliosdb.algorithms.table import Codes, Table, first_part
from heliosdb.domain.ids import DatasetName
from heliosdb.node.arranging import make_plain_table, make_table
from heliosdb.node.copied_rows import parse_copy
from heliosdb.node.datasets import TableRequest, table_key

HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)


def request(*, split: float = 0.3, subject: str | None = None, key: bytes = b"k" * 32) -> TableRequest:
    return TableRequest(
        run="f00d",
        dataset_id=1,
        dataset=DatasetName("d"),
        base_tables=(1,),
        features=("a", "b"),
        target="y",
        validation_split=split,
        subject=subject,
        known_by=("id",),
        key=key,
        plain=False,
        min_rows=20,
        max_parameter_share=1 / 3,
    )


def rows_alone(rows: np.ndarray, asked: TableRequest | None = None) -> Table:
    """The table of rows without subjects, each known by what it holds."""
    codes: Codes = np.array([[hash(row.tobytes())] for row in rows], dtype=np.int64).reshape(-1, 1)
    return make_table(rows, codes, asked or request())


def copied(rows: list[tuple[float, ...]], codes: list[int] | None = None) -> bytes:
    body = b""
    for number, row in enumerate(rows):
        fields = [struct.pack(">d", value) for value in row]
        if codes is not None:
            fields.append(struct.pack(">q", codes[number]))
        body += struct.pack(">h", len(fields)) + b"".join(struct.pack(">i", 8) + field for field in fields)
    return HEADER + body + TRAILER


@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), max_size=20))
def test_a_binary_copy_is_read_bit_for_bit(rows: list[tuple[float, ...]]) -> None:
    values, codes = parse_copy(copied(rows), 3, 0)
    assert codes.shape == (len(rows), 0)
    assert values.tobytes() == np.array(rows, dtype=np.float64).reshape(-1, 3).tobytes()


def test_subject_codes_are_read_beside_the_numbers() -> None:
    values, codes = parse_copy(copied([(1.5, 2.0), (3.0, np.nan)], [7, -(2**63)]), 2, 1)
    assert codes.tolist() == [[7], [-(2**63)]]
    np.testing.assert_array_equal(values, [[1.5, 2.0], [3.0, np.nan]])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        HEADER,
        copied([(1.0, 2.0)])[:-2],
        copied([(1.0, 2.0)])[:-3] + TRAILER,
        copied([(1.0, 2.0, 3.0)]),
        copied([(1.0, 2.0)]).replace(struct.pack(">i", 8), struct.pack(">i", 4)),
        b"X" + copied([(1.0, 2.0)])[1:],
    ],
)
def test_what_is_no_copy_of_such_rows_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="COPY"):
        parse_copy(raw, 2, 0)


values = hnp.arrays(np.float64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.integers(-3, 3))


@given(values, st.randoms())
def test_the_order_of_the_rows_makes_no_difference(rows: np.ndarray, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    codes = (np.arange(len(rows), dtype=np.int64) // 3).reshape(-1, 1)
    grouped = request(subject="s")
    for one, other in (
        (rows_alone(rows), rows_alone(rows[order])),
        (make_table(rows, codes, grouped), make_table(rows[order], codes[order], grouped)),
    ):
        for name in ("features", "target", "subjects", "held_out"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_a_subject_is_held_out_with_all_its_rows_or_not_at_all() -> None:
    rows = np.random.default_rng(1).normal(size=(600, 3))
    table = make_table(rows, np.arange(600, dtype=np.int64).reshape(-1, 1) % 100, request(subject="s"))
    share = np.array([table.held_out[table.subjects == subject].mean() for subject in range(100)])
    assert set(share) == {0.0, 1.0}
    assert 0.1 < share.mean() < 0.5


@pytest.mark.parametrize("subject", [None, "s"])
def test_subjects_stand_in_one_order_whatever_is_read_of_them_and_whatever_share_is_held_out(
    subject: str | None,
) -> None:
    rows, known = np.random.default_rng(1).normal(size=(600, 4)), np.arange(600, dtype=np.int64)
    codes = known.reshape(-1, 1) if subject is None else np.stack([known, known % 300], axis=1)
    orders = []
    for columns, split in (((0, 1, 3), 0.3), ((2, 1, 3), 0.3), ((2, 0, 3), 0.8)):
        asked = replace(request(split=split, subject=subject), plain=True)
        table, _ = make_plain_table(rows[:, columns], codes, asked, ())
        assert np.array_equal(table.held_out, first_part(table.places, split))
        # A row is known again by its target.
        orders.append(dict(zip(table.target.tolist(), table.places.tolist(), strict=True)))
        part = table.validation()
        assert np.array_equal(part.places, table.places[table.held_out])
        assert np.unique(part.places).size == np.unique(part.subjects).size
    assert orders[0] == orders[1] == orders[2]
    none_held_out, _ = make_plain_table(
        rows[:, :3], codes, replace(request(split=0.0, subject=subject), plain=True), ()
    )
    assert not none_held_out.held_out.any()
    assert not none_held_out.places.size


def test_removing_one_row_changes_no_other_rows_fate() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3))
    with_all, without = rows_alone(rows), rows_alone(rows[1:])
    fate = {
        tuple(features): held for features, held in zip(with_all.features, with_all.held_out, strict=True)
    }
    assert all(
        fate[tuple(features)] == held
        for features, held in zip(without.features, without.held_out, strict=True)
    )


def test_another_node_holds_out_others() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 3))
    chosen = {
        rows_alone(rows, request(key=table_key(secret))).held_out.tobytes() for secret in (b"a", b"b", b"c")
    }
    assert len(chosen) == 3


def test_equal_rows_do_not_share_one_fate() -> None:
    rows = np.tile([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], (200, 1))
    table = rows_alone(rows)
    for feature in (0.0, 1.0):
        assert 0.2 < table.held_out[table.features[:, 0] == feature].mean() < 0.4


def test_rows_without_a_target_are_left_out_and_missing_features_kept() -> None:
    rows = np.array([[1.0, np.nan, 1.0], [2.0, 2.0, np.nan]])
    table = rows_alone(rows, request(split=0.0))
    np.testing.assert_array_equal(table.features, [[1.0, np.nan]])
    assert table.rows == 1
