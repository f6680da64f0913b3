"""The toys, registered: importing this module is what a daemon does with a module of further parts."""

from __future__ import annotations

from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.strategies import STRATEGIES
from tests.contracts.toy_parts import TOY_MASKS, TOY_MOMENTUM, ToyMomentumSettings


def register() -> None:
    """Register them where they are not yet."""
    if TOY_MOMENTUM.name not in STRATEGIES.names():
        STRATEGIES.register(TOY_MOMENTUM.name, TOY_MOMENTUM, settings=ToyMomentumSettings)
    if TOY_MASKS.name not in PROTOCOLS.names():
        PROTOCOLS.register(TOY_MASKS.name, TOY_MASKS)


register()
