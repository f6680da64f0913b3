"""What the server's own errors about rewritten text mean to somebody who never typed that text.

What always holds: only the HINT is added or replaced; SQLSTATE, message and all else stay the server's. The
message is looked at for names only, which no translation changes; a hint is ASCII around such names, so that
it is right in every client encoding.
"""

from __future__ import annotations

import re

Fields = list[tuple[bytes, bytes]]

_NO_SCHEMA, _NO_FUNCTION, _NOT_ALLOWED = b"3F000", b"42883", b"42501"
_CALLED = re.compile(rb"(?<!\w)federated(?!\w)|(?<!\w)_?execute(?!\w)|(?<!\w)(?:explain|show_[a-z]+)(?!\w)")
_SCHEMA = re.compile(rb"(?<!\w)federated(?:_model|_row)?(?!\w)")
_GIVEN_JSON = re.compile(rb"(?<!\w)federated_predict(?:_class|_proba)?\((?:unknown|text), jsonb\)")
_MODEL = re.compile(rb"federated_(?:model|row)\.(.*?)\(", re.DOTALL)
_BEFORE_HINT = frozenset({b"S", b"V", b"C", b"M", b"D"})

_EXTENSION = b"CREATE EXTENSION heliosdb_federated_learning in this database first."
_OPERATOR = (
    b"This needs membership in the role federated_operator; for workspaces, nodes, datasets, "
    b"subscriptions and data subjects in federated_admin."
)
_READER = b"This needs membership in the role federated_analyst or federated_auditor."
_ANALYST = b"This needs membership in the role federated_analyst."


def with_hint(fields: Fields, *, ours: bool, predicts: bool, reads: bool = False) -> Fields:
    """Return the fields of an error with the HINT that explains it, or the same fields.

    ours: the statement is a FEDERATED one, now a CALL. reads: it is one that became a query. predicts: it is
    another, with calls changed.
    """
    known = dict(fields)
    code, message = known.get(b"C", b""), known.get(b"M", b"")
    needed = _READER if reads else _OPERATOR
    if ours:
        hint = _about_call(code, message, needed)
    else:
        hint = _about_prediction(code, message) if predicts else None
    return fields if hint is None else _put(fields, hint)


def _about_call(code: bytes, message: bytes, needed: bytes) -> bytes | None:
    if not _CALLED.search(message):
        return None
    if code in (_NO_SCHEMA, _NO_FUNCTION):
        return _EXTENSION
    return needed if code == _NOT_ALLOWED else None


def _about_prediction(code: bytes, message: bytes) -> bytes | None:
    missing = _SCHEMA if code == _NO_SCHEMA else _GIVEN_JSON if code == _NO_FUNCTION else None
    if missing is not None and missing.search(message):
        return _EXTENSION
    if b"federated_model" not in message and b"federated_row" not in message:
        return None
    if code == _NOT_ALLOWED:
        return _ANALYST
    found = _MODEL.search(message)
    if code != _NO_FUNCTION or found is None:
        return None
    model = found[1]
    literal = b"'" + model.replace(b"'", b"''") + b"'"
    return (
        b'Is there a model "%s", and does it have these features? A category takes a text, a time a '
        b"timestamp (of a timestamptz AT TIME ZONE 'UTC'), one that is boolean at every node true or false, "
        b"any other a number: cast to it. JSON takes all of them. "
        b"SELECT federated_predict(%s, '{\"feature\": value}'::jsonb) gives the exact reason."
    ) % (model, literal)


def _put(fields: Fields, hint: bytes) -> Fields:
    kept = [field for field in fields if field[0] != b"H"]
    place = next((i for i, (code, _) in enumerate(kept) if code not in _BEFORE_HINT), len(kept))
    return [*kept[:place], (b"H", hint), *kept[place:]]
