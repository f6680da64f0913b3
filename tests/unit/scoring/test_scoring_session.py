"""Versions in a session: numbers as the server hands them over, kept by run, and no more of them than a session should hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.state import make_state, state_to_bytes
from heliosdb.scoring import explanations, session

ENCODING = Encoding((ColumnEncoding("a"), ColumnEncoding("v", ColumnKind.ARRAY, elements=2)))
LINEAR = {
    "kind": "linear", "link": "identity", "slopes": [1.0, 10.0, 100.0], "fills": [5.0, 6.0, 7.0], "shifts": [0.0] * 3,
    "intercept": 0.0, "target_mean": 0.0, "target_scale": 1.0,
}  # fmt: skip
SOFTMAX = {
    "kind": "softmax_linear", "slopes": [[0.0] * 3, [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], "fills": [0.0] * 3,
    "shifts": [0.0] * 3, "intercepts": [0.0, 0.0, 0.0],
}  # fmt: skip


def sent(values: np.ndarray) -> bytes:
    """The bytes that the server keeps of an array of double precision (oid 701) without NULLs."""
    head = struct.pack("=iii", values.ndim, 0, 701)
    return head + np.array([*values.shape, *[1] * values.ndim], np.int32).tobytes() + values.tobytes()


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    session._kept.clear()
    yield
    session._kept.clear()


def keep(run: str, prediction: Mapping[str, object], arrays: bytes | None = None) -> None:
    session.keep_version(run, json.dumps(prediction), arrays, json.dumps(ENCODING.to_json()))


def test_rows_are_read_of_the_servers_own_bytes() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [np.nan, 0.5, -1e300], [0.0, np.nan, np.nan]])
    expected = [321.0, 10.0 - 1e302, 760.0]
    assert session.score_row("r", sent(rows[0])) is None
    assert session.score_rows("r", sent(rows)) is None
    keep("r", LINEAR)
    assert [session.score_row("r", sent(row)) for row in rows] == pytest.approx(expected)
    assert session.score_rows("r", sent(rows)) == pytest.approx(expected)
    assert session.score_rows("r", sent(rows[:1])) == [321.0]


def test_the_bitmap_of_an_array_that_was_cut_from_one_with_nulls_is_passed_over() -> None:
    keep("r", LINEAR)
    for values in (np.array([1.0, 2.0, 3.0]), np.array([[1.0, 2.0, 3.0]] * 4)):
        plain = sent(values)
        header = len(plain) - values.nbytes
        bitmap = bytes([255] * 8)
        # The server counts the word of the length, which does not come with the bytes.
        begins = struct.pack("=i", header + len(bitmap) + 4)
        cut = plain[:4] + begins + plain[8:header] + bitmap + plain[header:]
        score = session.score_row if values.ndim == 1 else session.score_rows
        assert score("r", cut) == score("r", plain)


def test_classes_are_probabilities_by_row_and_by_block() -> None:
    keep("c", SOFTMAX)
    rows = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    powers = np.exp([0.0, 1.0, 2.0])
    assert session.score_row_classes("c", sent(rows[0])) == pytest.approx([1 / 3] * 3)
    assert session.score_rows("c", sent(rows))[1] == pytest.approx(powers / powers.sum())  # type: ignore[index]
    assert session.score_row_classes("other", sent(rows[0])) is None


def test_a_version_of_which_a_row_takes_too_long_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    keep("r", LINEAR)
    row = sent(np.array([1.0, 2.0, 3.0]))
    monkeypatch.setattr(explanations, "MOST_COST", 2)
    failure, found = explanations.explain_row("r", row, None, None)
    assert found is None
    told = json.loads(failure or "")
    assert (told["sqlstate"], told["message"]) == ("54000", "the version is too large to be explained")
    assert "at most 2 " in told["detail"]
    assert "max_depth" in told["hint"]
    monkeypatch.setattr(explanations, "MOST_COST", 3)
    assert explanations.explain_row("r", row, None, None)[0] is None


def test_a_row_of_another_length_is_an_error() -> None:
    keep("r", LINEAR)
    with pytest.raises(FederatedError, match="a row comes as 3 numbers, not 2") as caught:
        session.score_row("r", sent(np.zeros(2)))
    assert caught.value.code is ErrorCode.INTERNAL


def test_no_more_versions_are_kept_than_a_session_should_and_those_asked_for_last() -> None:
    for number in range(session.MOST_KEPT):
        keep(f"r{number}", LINEAR)
    rows = sent(np.zeros((1, 3)))
    assert session.score_rows("r0", rows) == [0.0]
    keep("one more", LINEAR)
    assert session.score_rows("r0", rows) == [0.0]
    assert session.score_rows("r1", rows) is None
    assert len(session._kept) == session.MOST_KEPT


def test_a_session_does_not_fill_with_the_arrays_of_large_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = state_to_bytes(make_state(unused=np.zeros(1_000)))
    monkeypatch.setattr(session, "MOST_BYTES", 2 * len(arrays))
    for run in ("a", "b", "c"):
        keep(run, LINEAR, arrays)
    assert list(session._kept) == ["b", "c"]
    monkeypatch.setattr(session, "MOST_BYTES", 10)
    keep("d", LINEAR, arrays)
    assert list(session._kept) == ["d"]
    assert session.score_row("d", sent(np.array([1.0, 2.0, 3.0]))) == 321.0


def test_bytes_that_are_no_arrays_are_refused() -> None:
    with pytest.raises(FederatedError) as caught:
        keep("r", LINEAR, b"\x80\x04pickle")
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert session.score_row("r", sent(np.zeros(3))) is None
