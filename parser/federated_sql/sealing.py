"""Data subjects in the text of a statement, to be named in it by what only the coordinator can read.

What always holds: a literal is taken where the grammar takes a data subject and nowhere else, also in a
statement that is wrong in another place; what stands beside it is kept; one subject that is named twice in a
statement is sealed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from federated_sql.clauses import MAX_TEXT_BYTES
from federated_sql.edits import Edit
from federated_sql.errors import FederatedError
from federated_sql.lexer import Kind, Token, string_value

Seal = Callable[[str, str], str]
"""From a kind of `SUBJECT_KINDS` and an identifier to base64 of that, sealed."""

ERASING = "DELETE FROM FEDERATED TRAINING"
SUBJECT_KINDS = {
    ERASING: "erase",
    "EXPORT FEDERATED DATA": "export",
    "GRANT FEDERATED CONSENT": "grant",
    "REVOKE FEDERATED CONSENT": "revoke",
}
"""The statements that name data subjects, and what each asks for."""


def seal_subjects(tag: str, tokens: Sequence[Token], seal: Seal) -> Iterator[Edit]:
    """Return the changes that name the statement's data subjects by `SEALED 'base64'`, in their order."""
    sealed: dict[str, str] = {}
    literals = _listed(tokens) if tag == ERASING else _named(tokens)
    for token in literals:
        subject = _value(token)
        if subject is not None:
            if subject not in sealed:
                sealed[subject] = seal(SUBJECT_KINDS[tag], subject)
            yield Edit(token.start, token.end, f"SEALED '{sealed[subject]}'")


def _named(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the literal behind FOR SUBJECT."""
    for place in range(2, len(tokens)):
        if tokens[place - 2].word == "for" and tokens[place - 1].word == "subject":
            if tokens[place].kind is Kind.STRING:
                yield tokens[place]
            return


def _listed(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the literals behind data_subject_id, until options begin."""
    begun = False
    for before, token in pairwise(tokens):
        begun = begun or before.word == "data_subject_id"
        if begun and token.word == "with":
            return
        if begun and token.kind is Kind.STRING and before.word != "sealed":
            yield token


def _value(token: Token) -> str | None:
    """The identifier; None for what is none, which the statement's own reading says."""
    try:
        value = string_value(token)
    except FederatedError:
        return None
    return value if value.strip() and len(value.encode()) <= MAX_TEXT_BYTES else None
