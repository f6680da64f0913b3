"""How a number and what it counts are written for people.

What always holds: one of a kind is singular; `tests/unit/domain/test_wording.py` finds texts that could say
otherwise.
"""

from __future__ import annotations


def counted(number: float, one: str, many: str | None = None) -> str:
    """Return a number and its noun: "1 node", "3 nodes".

    number: an int, or a float, which is written as by the format :g. one: the noun's singular.
    many: its plural, unless that is `one` and an s.
    """
    noun = one if number == 1 else many or f"{one}s"
    return f"{number:g} {noun}" if isinstance(number, float) else f"{number} {noun}"
