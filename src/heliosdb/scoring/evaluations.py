"""Evaluations in a session of the server: what SQL hands over becomes arrays, and figures become rows.

What always holds: nothing is kept between calls; what a query has begun ends with it, however that ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from heliosdb.domain.errors import FederatedError
from heliosdb.scoring.bootstrap import Bootstrap, Line
from heliosdb.scoring.bootstrap import evaluate_rows as measured
from heliosdb.scoring.evaluated import reduce_block as reduced
from heliosdb.scoring.session import read_array


def reduce_block(
    kind: str, classes: Sequence[str] | None, scores: bytes | None, columns: bytes | None
) -> tuple[str | None, bytes | None]:
    """Return what is kept of a block of rows, or the failure as JSON for federated._raise. scores, columns:
    arrays as the server keeps them; None for no row."""
    if scores is None or columns is None:
        return None, b""
    try:
        return None, reduced(kind, read_array(scores), read_array(columns), classes).tobytes()
    except FederatedError as error:
        told = {
            "sqlstate": error.sqlstate,
            "message": error.message,
            "detail": error.detail,
            "hint": error.hint,
        }
        return json.dumps(told), None


def evaluate_rows(
    kind: str, rows: bytes, classes: int, taken: int, asked: tuple[int, float, int, bool]
) -> Iterator[Line]:
    """Yield the figures of the rows of all blocks; asked: the fields of a `Bootstrap`."""
    return measured(kind, rows, classes, taken, Bootstrap(*asked))
