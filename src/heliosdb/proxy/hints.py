"""The HINTs of the server's own errors about rewritten text, put where the server's would be.

What always holds: only the HINT is added or replaced; SQLSTATE, message and all else stay the server's.
"""

from __future__ import annotations

from federated_sql.server_hints import OPERATOR, READER, about_call, about_prediction

Fields = list[tuple[bytes, bytes]]

_BEFORE_HINT = frozenset({b"S", b"V", b"C", b"M", b"D"})


def with_hint(fields: Fields, *, ours: bool, predicts: bool, reads: bool = False) -> Fields:
    """Return the fields of an error with the HINT that explains it, or the same fields.

    ours: the statement is a FEDERATED one, now a CALL. reads: it is one that became a query. predicts: it is
    another, with calls changed.
    """
    known = dict(fields)
    code, message = known.get(b"C", b""), known.get(b"M", b"")
    needed = READER if reads else OPERATOR
    if ours:
        hint = about_call(code, message, needed)
    else:
        hint = about_prediction(code, message) if predicts else None
    return fields if hint is None else _put(fields, hint)


def _put(fields: Fields, hint: bytes) -> Fields:
    kept = [field for field in fields if field[0] != b"H"]
    place = next((i for i, (code, _) in enumerate(kept) if code not in _BEFORE_HINT), len(kept))
    return [*kept[:place], (b"H", hint), *kept[place:]]
