"""What the server's own errors about rewritten text mean to somebody who never typed that text.

What always holds: a message is looked at for names only, which no translation changes; a hint is ASCII around
such names, so that it is right in every client encoding. Hence bytes.
"""

from __future__ import annotations

import re

_NO_SCHEMA, _NO_FUNCTION, _NOT_ALLOWED = b"3F000", b"42883", b"42501"
_CALLED = re.compile(rb"(?<!\w)federated(?!\w)|(?<!\w)_?execute(?!\w)|(?<!\w)(?:explain|show_[a-z]+)(?!\w)")
_SCHEMA = re.compile(rb"(?<!\w)federated(?:_model|_row)?(?!\w)")
_GIVEN_JSON = re.compile(rb"(?<!\w)federated_predict(?:_class|_proba)?\((?:unknown|text), jsonb\)")
_MODEL = re.compile(rb"federated_(?:model|row)\.(.*?)\(", re.DOTALL)

_EXTENSION = b"CREATE EXTENSION heliosdb_federated_learning in this database first."
OPERATOR = (
    b"This needs membership in the role federated_operator; for workspaces, nodes, datasets, "
    b"subscriptions and data subjects in federated_admin."
)
READER = b"This needs membership in the role federated_analyst or federated_auditor."
_ANALYST = b"This needs membership in the role federated_analyst."


def about_call(code: bytes, message: bytes, needed: bytes) -> bytes | None:
    """Return the hint to an error of a FEDERATED statement, now a call; needed: which right to name."""
    if not _CALLED.search(message):
        return None
    if code in (_NO_SCHEMA, _NO_FUNCTION):
        return _EXTENSION
    return needed if code == _NOT_ALLOWED else None


def about_prediction(code: bytes, message: bytes) -> bytes | None:
    """Return the hint to an error of a statement whose predictions became calls of a model's functions."""
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
        b"an array (once the model is trained) an array of numbers, any other a number: cast to it. "
        b"JSON takes all of them. "
        b"SELECT federated_predict(%s, '{\"feature\": value}'::jsonb) gives the exact reason."
    ) % (model, literal)
