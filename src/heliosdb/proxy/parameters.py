"""The server's settings that decide how it reads a statement's text, as it reported them.

What always holds: what was not reported is not guessed; until both were, no text counts as read as UTF-8.
"""

from __future__ import annotations


class Parameters:
    """What the server last reported of a session's client_encoding and standard_conforming_strings."""

    def __init__(self) -> None:
        self._encoding = b""
        self._conforming = b""

    def note(self, name: bytes, value: bytes) -> None:
        """Take what the server reports of a setting."""
        if name == b"client_encoding":
            self._encoding = value
        elif name == b"standard_conforming_strings":
            self._conforming = value

    def read_as_utf8(self, raw: bytes) -> bool:
        """Whether the server reads the bytes as the text that UTF-8 makes of them, with standard strings.

        ASCII is the same text in every client encoding.
        """
        if self._conforming != b"on":
            return False
        return self._encoding == b"UTF8" or (self._encoding != b"" and raw.isascii())
