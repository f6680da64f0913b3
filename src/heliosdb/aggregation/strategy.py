"""How the updates of an exchange become new parameters: what a strategy is.

What always holds: a strategy is a pure function, the same to the bit whatever the order of arrival; what it
remembers from round to round is arrays, kept sealed beside the model's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from heliosdb.domain.settings import Setting
from heliosdb.domain.state import State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector


class Strategy(Protocol):
    """A rule. sees `sum`: a `Total`, weighted; `each`: every single update, in the order of the nodes'
    names."""

    @property
    def name(self) -> str:
        """The name in the language, in lower case."""
        ...

    @property
    def sees(self) -> Literal["each", "sum"]:
        """What it must see."""
        ...

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """What nodes need of it, for the settings of a training task."""
        ...

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The new parameters, and what to remember. settings: of the class registered with the name."""
        ...
