"""What the database says beside rows (why a figure is not known), in the head of an answer.

What always holds: the header is one line of ASCII and of `LARGEST` bytes at most, whatever the database said;
what is left out of it is marked. It is a list of Display Strings (RFC 9651, section 3.3.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from fastapi import Response

from heliosdb.api.database import Caller

HEADER = "X-Notice"
# Servers in front have 4 KiB for a whole head.
LARGEST = 2000
_LONGEST = 1000
_SEPARATOR = ", "
_CUT = "%e2%80%a6"
_LEFT_OUT = f'%"{_CUT}"'

HEADERS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            HEADER: {
                "description": "What the database says of the figures, such as why some are null: a list of"
                " Display Strings (RFC 9651). Not there where it says nothing.",
                "required": False,
                "schema": {"type": "string", "maxLength": LARGEST},
            }
        }
    }
}
"""What paths that use `rows_with_notices` say of their answer in the OpenAPI document."""


async def rows_with_notices(
    caller: Caller, response: Response, name: str, *values: object
) -> list[dict[str, Any]]:
    """Run the statement of that name, and return its rows; its notices go to the answer's head."""
    with caller.notices() as notices:
        rows = await caller.rows(name, *values)
    if notices:
        response.headers[HEADER] = write_notices(notices)
    return rows


def write_notices(notices: Sequence[str]) -> str:
    """The header's value."""
    members: list[str] = []
    room = LARGEST - len(_SEPARATOR + _LEFT_OUT)
    for notice in notices:
        member = _display_string(notice, _LONGEST)
        if len(member) > room:
            return _SEPARATOR.join([*members, _LEFT_OUT])
        members.append(member)
        room -= len(member) + len(_SEPARATOR)
    return _SEPARATOR.join(members)


def _display_string(text: str, room: int) -> str:
    """A text in so many bytes, cut where it is longer."""
    room -= len('%""')
    pieces = [_escape(character) for character in text[:room]]
    if len(text) > room or sum(map(len, pieces)) > room:
        ends = accumulate(map(len, pieces))
        pieces = [piece for piece, end in zip(pieces, ends, strict=True) if end + len(_CUT) <= room]
        pieces.append(_CUT)
    return f'%"{"".join(pieces)}"'


def _escape(character: str) -> str:
    if " " <= character <= "~" and character not in '%"':
        return character
    return "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "replace"))
