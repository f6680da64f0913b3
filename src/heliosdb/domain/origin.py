"""The numbers of a version with which a run begins, and what they are of.

What always holds: they are a committed version's; no part of a run changes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.state import State
from heliosdb.domain.task import Scaling


@dataclass(frozen=True, slots=True)
class Origin:
    """A version's state. name: of the version.

    inputs: their names, after encoding; scaling: of these and of the target. classes: the labels of the
    target, in the order of their classes; () where it is a number.
    """

    name: str
    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    scaling: Scaling
    state: State
