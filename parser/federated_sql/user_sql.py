"""What changes in a statement of the user's own SQL: predictions, column lists, aliases in WHERE.

What always holds: the user's text is spliced at the places of its tokens and never written anew; a statement
that the grammar does not know, before or after, is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from federated_sql.column_lists import ColumnList, blank_lists, find_lists, list_edits
from federated_sql.edits import Edit, apply_edits
from federated_sql.errors import FederatedError
from federated_sql.lexer import Token
from federated_sql.postgres import check_syntax
from federated_sql.predict_calls import call_edits
from federated_sql.syntax import Syntax
from federated_sql.where_aliases import alias_edits

NAMES = (
    "_predict",
    "_explain",
    "_certify",
    "_evaluate",
    "_compliance_check",
    "_security_audit",
    "_data_quality_check",
)
_PREDICTS = re.compile(r"(?i)federated_(?:predict(?:_class|_proba|_experiment)?|explain|certify)(?![\w$])")
_CONCERNS = re.compile(rf"(?i)federated(?:{'|'.join(NAMES)})")


def may_change(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] names a function of ours: what costs nothing, before there are tokens."""
    return _CONCERNS.search(text, start, end) is not None


class Candidate:
    """A statement that the grammar must look at, which is far dearer than scanning."""

    def __init__(self, text: str, tokens: Sequence[Token], lists: Sequence[ColumnList]) -> None:
        self._text = text
        self._lists = lists
        self.tokens = tokens

    def edits(self) -> list[Edit]:
        """Return the statement's edits, ascending and disjoint; none on any doubt."""
        try:
            edits = self._edits()
            if edits:
                check_syntax(apply_edits(self._text, edits, self.tokens[0].start, self.tokens[-1].end))
        except (FederatedError, RecursionError):
            return []
        return edits

    def _edits(self) -> list[Edit]:
        standing = blank_lists(self._text, self.tokens, self._lists)
        syntax = Syntax(self._text, self.tokens, standing)
        calls = call_edits(syntax, may_join=not self._lists)
        lists = list_edits(syntax, self._lists, calls)
        aliases = alias_edits(syntax, calls, lists)
        moved = [(edit.start, edit.end) for edit in lists if edit.end > edit.start]
        kept = [edit for edit in calls if not any(start <= edit.start < end for start, end in moved)]
        # What is inserted at one place keeps this order: an item's name before a FROM behind it.
        return sorted([*kept, *lists, *aliases], key=lambda edit: (edit.start, edit.end))


def candidate(text: str, tokens: Sequence[Token]) -> Candidate | None:
    """Return the statement if there may be something to change in it."""
    try:
        lists = find_lists(tokens)
    except FederatedError:
        return None
    if lists or any(_PREDICTS.search(token.text) for token in tokens):
        return Candidate(text, tokens, lists)
    return None
