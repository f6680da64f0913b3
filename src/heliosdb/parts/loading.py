"""Modules of further parts, which a daemon's settings name: importing one registers what it has.

What always holds: only what the site's own administrator has written down is imported, never a name that came
over the wire or from a catalog; what is imported runs with all rights of the daemon, beside the rows.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable

from heliosdb.domain.errors import invalid_value

MODULE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
"""A name as an import statement has it; relative ones are none."""

_MODULE = re.compile(MODULE_NAME)


def load_parts(modules: Iterable[str]) -> None:
    """Import the modules in order; FederatedError INVALID_VALUE for the first that cannot be."""
    for module in modules:
        if _MODULE.fullmatch(module) is None:
            raise invalid_value(f'the setting parts holds "{module}", which is no name of a module')
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:  # ValueError: a name that is registered already
            raise invalid_value(
                f'the module "{module}" of the setting parts cannot be loaded',
                detail=str(error),
                hint="It is looked for where this program's Python looks for modules, such as in PYTHONPATH.",
            ) from error
