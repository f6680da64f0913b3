"""How much a plain answer counts: no more than the rows that its node stated in round 0.

What always holds: what was stated was committed before the answer came.
"""

from __future__ import annotations

from collections.abc import Mapping

from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Term, Update
from heliosdb.domain.wording import counted


def weight_fault(stated: Mapping[NodeName, float], update: Update | Term) -> str | None:
    """Say where a plain answer's weight is more than the rows that its node stated, or no number of rows."""
    most = stated.get(update.node, 0.0)
    if update.weight > most:
        return (
            f"its weight {update.weight:g} is more than the {counted(most, 'row')} that it stated in round 0"
        )
    return None if update.weight.is_integer() else f"its weight {update.weight:g} is no number of rows"
