"""The header of notices is ASCII of one line in its bounds, and a reader gets the text back."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from heliosdb.api.notices import LARGEST, write_notices


def read(header: str) -> list[str]:
    """The texts of a list of Display Strings."""
    return [unquote(one) for one in re.findall(r'%"([^"]*)"', header)]


@pytest.mark.parametrize(
    "text", ["plain, with a comma", 'a "quoted" 100 %', "ä😀€", "two\r\nlines\tand\x00more", "\ud800", ""]
)
def test_a_notice_is_read_back_from_one_line_of_ascii(text: str) -> None:
    header = write_notices([text, "second"])
    assert re.fullmatch(r"[ -~]+", header)
    assert read(header) == [text.encode("utf-8", "replace").decode(), "second"]


@pytest.mark.parametrize("letter", ["x", "ä", "😀", '"'])
@pytest.mark.parametrize(("length", "count"), [(999, 1), (5000, 1), (100, 50), (5000, 20), (1, 2000)])
def test_notices_of_any_size_stay_in_their_bounds_and_say_what_is_left_out(
    letter: str, length: int, count: int
) -> None:
    header = write_notices([letter * length] * count)
    assert len(header) <= LARGEST
    found = read(header)
    whole = [one for one in found if one == letter * length]
    assert len(whole) == count or found[-1].endswith("…")
    assert all(one.rstrip("…") in letter * length for one in found)
