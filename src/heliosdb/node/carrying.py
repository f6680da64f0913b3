"""What a handler of subject orders has at hand, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from heliosdb.catalog.connection import Connection
from heliosdb.domain.orders import Order, OrderOutcome


@dataclass(frozen=True, slots=True)
class Carrying:
    """One order in the transaction that carries it out.

    key: under which data subjects are known, of the node's secret (node/datasets.py: table_key).
    """

    connection: Connection
    order: Order
    key: bytes = field(repr=False)


Handler = Callable[[Carrying], OrderOutcome]
"""Does what the order asks for, in its transaction; a FederatedError undoes all of it and is told."""
