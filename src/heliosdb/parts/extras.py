"""What a node may have installed beside the product, without which some parts cannot be computed there.

What always holds: looking for an extra imports none of it; a node says of itself which ones it has, and is
left out of a run that needs another.
"""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {"neural": ("torch",), "images": ("PIL", "pydicom")}
"""By the name of the project's extra, the modules that come with it."""


def installed_extras() -> tuple[str, ...]:
    """Return the names of those that are installed here, sorted."""
    return tuple(sorted(name for name, modules in EXTRAS.items() if all(map(find_spec, modules))))


def how_to_install(extra: str) -> str:
    """Say how a node's administrator installs one."""
    return f"Install it beside the node: pip install 'heliosdb-federated-learning[{extra}]'."
