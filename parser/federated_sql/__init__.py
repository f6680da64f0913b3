"""The language of federated learning: what a user types, as frozen dataclasses, and back to text.

What always holds: nothing here does I/O, and nothing here raises but `FederatedError`. A name of this package
is imported when it is first used: who wants an error's class needs no scanner and no grammar.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from federated_sql.clause_values import Option
    from federated_sql.errors import ErrorCode, FederatedError
    from federated_sql.grammar import parse
    from federated_sql.options import (
        NO_PARTS,
        Built,
        OptionKind,
        OptionSpec,
        check_model,
        check_workspace,
        defaults,
        validate,
    )
    from federated_sql.render import quote_name, quote_string, render
    from federated_sql.residency import residency_allows
    from federated_sql.rewrite import Rewrite, may_concern, rewrite
    from federated_sql.statements import (
        Command,
        command_tag,
    )

__all__ = [
    "NO_PARTS",
    "Built",
    "Command",
    "ErrorCode",
    "FederatedError",
    "Option",
    "OptionKind",
    "OptionSpec",
    "Rewrite",
    "check_model",
    "check_workspace",
    "command_tag",
    "defaults",
    "may_concern",
    "parse",
    "quote_name",
    "quote_string",
    "render",
    "residency_allows",
    "rewrite",
    "validate",
]

_PLACES = {
    "clause_values": ("Option",),
    "errors": ("ErrorCode", "FederatedError"),
    "grammar": ("parse",),
    "options": (
        "NO_PARTS",
        "Built",
        "OptionKind",
        "OptionSpec",
        "check_model",
        "check_workspace",
        "defaults",
        "validate",
    ),
    "render": ("quote_name", "quote_string", "render"),
    "residency": ("residency_allows",),
    "rewrite": ("Rewrite", "may_concern", "rewrite"),
    "statements": ("Command", "command_tag"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


class _Package(ModuleType):
    """Of this package `rewrite` and `render` are functions, also once modules of that name are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _MODULES):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


sys.modules[__name__].__class__ = _Package
