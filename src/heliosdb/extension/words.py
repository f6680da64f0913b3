"""Words that a statement may choose from, and what is said of others."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from federated_sql.clause_values import MAX_NAME_BYTES
from federated_sql.errors import FederatedError, invalid_value


def unrecognized(kind: str, given: str, known: Sequence[str]) -> FederatedError:
    """Make the error for a word that is not among those known (22023), which names the nearest."""
    near = difflib.get_close_matches(given.lower()[:MAX_NAME_BYTES], known, 1, 0.6)
    return invalid_value(
        f'unrecognized {kind} "{given}"',
        detail=f"Known are {', '.join(known)}.",
        hint=f"Did you mean {near[0]}?" if near else None,
    )
