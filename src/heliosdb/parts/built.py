"""What the registered parts make of the language: which options, and which values of them, have an effect.

What always holds: an option of parts is built exactly if the settings of some registered part name it, and a
value that names a part exactly if there is a part of that name.
"""

from __future__ import annotations

from collections.abc import Iterator

from federated_sql.clause_values import Scalar
from federated_sql.option_values import Built
from heliosdb.domain.settings import listed_values, option_names
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.protocols import PLAIN, PROTOCOLS
from heliosdb.parts.registry import RegisteredPart, Registry
from heliosdb.parts.selections import SELECTIONS
from heliosdb.parts.strategies import STRATEGIES

READ_FROM_OPTIONS: tuple[Registry, ...] = (ALGORITHMS, STRATEGIES, PROTOCOLS, CODECS)
"""Whose settings are options of the language; a selection's stand in the text that names it."""


def built_parts() -> Built:
    """Return what is built with the parts that are registered now."""
    whole: set[str] = set()
    some: dict[str, tuple[Scalar, ...]] = {}
    for name, values in _settings():
        if values is None:
            whole.add(name)
        else:
            some[name] = (*some.get(name, ()), *values)
    secure = tuple(name for name in PROTOCOLS.names() if name != PLAIN)
    named: dict[str, tuple[Scalar, ...]] = {
        "algorithm": ALGORITHMS.names(),
        "aggregation": STRATEGIES.names(),
        "compression": CODECS.names(),
        "aggregation_protocol": secure,
        "secure_aggregation": (True,) if secure else (),
        "node_selection": tuple(map(_form, SELECTIONS.entries())),
    }
    return Built(frozenset(whole), {**some, **named})


def _settings() -> Iterator[tuple[str, tuple[Scalar, ...] | None]]:
    """Give each setting's name, and its values where a part reads only some."""
    for registry in READ_FROM_OPTIONS:
        for entry in registry.entries():
            yield from listed_values(entry.settings).items()


def _form(selection: RegisteredPart) -> str:
    arguments = ", ".join(option_names(selection.settings))
    return f"{selection.name}({arguments})" if arguments else selection.name
