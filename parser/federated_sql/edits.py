"""Changes of a text at places in it, and the way back from the changed text to the one that was typed.

What always holds: places are 0-based characters of the text as typed; all of it outside the changes is kept
character by character; what a change takes over from the text remembers where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Copy(NamedTuple):
    """The part of a replacement that stands for the text as typed from `start` on.

    exact: it is that text, character by character; else all of it stands for what begins at `start`.
    """

    offset: int
    length: int
    start: int
    exact: bool


class Edit(NamedTuple):
    """Replace text[start:end] by `replacement`; copies: what it takes over, the narrower before the wider."""

    start: int
    end: int
    replacement: str
    copies: tuple[Copy, ...] = ()

    def origin(self, offset: int) -> int:
        """Return what in the text as typed the character at `offset` of the replacement stands for."""
        for copy in self.copies:
            if copy.offset <= offset < copy.offset + copy.length:
                return copy.start + (offset - copy.offset if copy.exact else 0)
        return self.start


def apply_edits(text: str, edits: Sequence[Edit], start: int = 0, end: int | None = None) -> str:
    """Return text[start:end] with ascending, disjoint edits made, all of which lie in it."""
    parts: list[str] = []
    done = start
    for edit in edits:
        parts += (text[done : edit.start], edit.replacement)
        done = edit.end
    return "".join([*parts, text[done : len(text) if end is None else end]])


class Draft:
    """A replacement in the making: words of ours and passages of the text with the changes made in them."""

    def __init__(self, text: str, edits: Sequence[Edit]) -> None:
        self._text = text
        self._edits = edits
        self._parts: list[str] = []
        self._copies: list[Copy] = []
        self._length = 0

    def add(self, words: str) -> None:
        """Add words that the user did not type."""
        self._parts.append(words)
        self._length += len(words)

    def add_for(self, words: str, start: int) -> None:
        """Add words that stand for what the user typed at `start`."""
        self._copies.append(Copy(self._length, len(words), start, exact=False))
        self.add(words)

    def take(self, start: int, end: int) -> None:
        """Add text[start:end] as it is after the edits within."""
        done = start
        for edit in self._edits:
            if start <= edit.start and edit.end <= end:
                self._keep(done, edit.start)
                for copy in edit.copies:
                    self._copies.append(copy._replace(offset=copy.offset + self._length))
                self.add_for(edit.replacement, edit.start)
                done = edit.end
        self._keep(done, end)

    def _keep(self, start: int, end: int) -> None:
        if end > start:
            self._copies.append(Copy(self._length, end - start, start, exact=True))
            self.add(self._text[start:end])

    def edit(self, start: int, end: int) -> Edit:
        """Return the edit that puts what was added in the place of text[start:end]."""
        return Edit(start, end, "".join(self._parts), tuple(self._copies))
