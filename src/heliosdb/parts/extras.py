"""What a node may have installed beside the product, without which some parts cannot be computed there.

What always holds: looking for an extra imports none of it; a node says of itself which ones it has, and is
left out of a run that needs another.
"""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {"neural": "torch"}
"""By the name of the project's extra, the module that comes with it."""


def installed_extras() -> tuple[str, ...]:
    """Return the names of those that are installed here, sorted."""
    return tuple(sorted(name for name, module in EXTRAS.items() if find_spec(module) is not None))


def how_to_install(extra: str) -> str:
    """Say how a node's administrator installs one."""
    return f"Install it beside the node: pip install 'heliosdb-federated-learning[{extra}]'."
