"""Which parts a contract is tried on: the registered ones and the toys, which are not registered for it."""

from __future__ import annotations

from heliosdb.parts.registry import RegisteredPart, Registry


def entries_with(registry: Registry, *toys: RegisteredPart) -> list[RegisteredPart]:
    """The entries of a registry with the part in each, and those of the toys that are not among them."""
    found = {
        entry.name: RegisteredPart(entry.name, registry.get(entry.name), entry.settings)
        for entry in registry.entries()
    }
    return list(({toy.name: toy for toy in toys} | found).values())
