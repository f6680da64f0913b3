"""What the proxy changes in a query: FEDERATED statements become calls, and the user's own SQL may name
features, columns and aliases where PostgreSQL itself does not know them.

What always holds: all text outside the changed places is kept character by character; nothing inside strings,
comments, dollar quotes and function bodies is looked at; on any doubt the text is left as it is; the number
and the order of statements stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from federated_sql.edits import Edit, apply_edits
from federated_sql.errors import FederatedError
from federated_sql.gate import may_be_ours, may_concern
from federated_sql.grammar import leading_tag, parse
from federated_sql.lexer import Token, tokens_of
from federated_sql.postgres import MAX_PARSE_TOKENS, RawToken, scan_raw
from federated_sql.reading import query_of
from federated_sql.sealing import ERASING, SUBJECT_KINDS, Seal, seal_subjects
from federated_sql.splitting import Part, split
from federated_sql.statements import Command, command_tag
from federated_sql.syntax import known_syntax
from federated_sql.user_sql import Candidate, candidate, may_change

__all__ = ["Rewrite", "may_be_ours", "may_concern", "rewrite"]

_DOLLAR_NUMBER = re.compile(r"\$federated(\d*)")
_WORD = re.compile(r"(?i)federated(?![\w$])")
# More tokens than these at its beginning do not tell what statement it is.
_HEAD = 32
READING = frozenset({"EXPLAIN", "SHOW"})
"""The tags of statements that answer with rows."""

# More parameters than two digits can number are left to the server.
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A changed query: its new text, one tag per statement (None: not ours), and the way back for positions.

    starts: 0-based offset of each statement in the original. edits: in original coordinates, ascending,
    disjoint. sealed: changes within statements of ours, which are also in their edits.
    """

    text: str
    tags: tuple[str | None, ...]
    original: str
    starts: tuple[int, ...]
    edits: tuple[Edit, ...]
    sealed: tuple[Edit, ...] = ()

    def original_position(self, position: int) -> int:
        """Map a 1-based position in the new text to the user's text; inside a change: to its start."""
        shift = 0
        for edit in self.edits:
            begin = edit.start + shift
            if position <= begin:
                break
            if position <= begin + len(edit.replacement):
                return min(edit.origin(position - 1 - begin), max(len(self.original) - 1, 0)) + 1
            shift += len(edit.replacement) - (edit.end - edit.start)
        return min(position - shift, len(self.original) + 1)

    def predicts(self, index: int) -> bool:
        """Whether statement `index` (0-based) is not ours but calls a model's function that was put there."""
        if index >= len(self.tags) or self.tags[index] is not None:
            return False
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.original)
        return any(self.starts[index] <= edit.start < end for edit in self.edits)

    def statement_position(self, index: int, position: int) -> int:
        """Map a 1-based position in the text passed to `federated.execute` by statement `index` (0-based);
        inside a change: to its start."""
        place = self.starts[index] + position
        for edit in self.sealed:
            if edit.start < self.starts[index]:
                continue
            if place <= edit.start:
                break
            if place <= edit.start + len(edit.replacement):
                return edit.start + 1
            place -= len(edit.replacement) - (edit.end - edit.start)
        return place


def rewrite(text: str, seal: Seal | None = None) -> Rewrite | None:
    """Return the changed query, None where nothing is ours or anything is in doubt.

    seal: how data subjects are named to the server; None: as they were typed.
    """
    if not may_be_ours(text):
        return None
    try:
        raw = scan_raw(text)
    except FederatedError:
        return None
    statements = [_Statement(text, raw, part) for part in split(text, raw)]
    if not all(statement.is_whole() for statement in statements):
        return None
    call = _Quoter(text)
    searched = _searched(text, statements)
    edits: list[Edit] = []
    sealed: list[Edit] = []
    for statement in statements:
        if statement.tag is not None:
            within = statement.sealed(seal)
            sealed.extend(within)
            edits.append(call.edit(statement, within))
        elif statement in searched:
            edits.extend(searched[statement].edits())
    if not edits:
        return None
    tags = tuple(statement.command_tag() for statement in statements)
    starts = tuple(statement.start for statement in statements)
    return Rewrite(apply_edits(text, edits), tags, text, starts, tuple(edits), tuple(sealed))


class _Statement:
    """One statement of a text. Tokens are made only of what is looked at: a text may have very many."""

    def __init__(self, text: str, raw: Sequence[RawToken], part: Part) -> None:
        self._text = text
        self._raw = raw
        self._part = part
        self.start = raw[part.first].start
        self.end = raw[part.last - 1].end + 1
        self.tag: str | None = None
        if _WORD.search(text, self.start, self.end):
            self.tag = leading_tag(tokens_of(text, raw, part.first, part.last, _HEAD))

    def tokens(self) -> list[Token]:
        return tokens_of(self._text, self._raw, self._part.first, self._part.last)

    def command_tag(self) -> str | None:
        """Return what a client is told once it is done: of DELETE how many it named, as drivers expect."""
        if self.tag != ERASING:
            return self.tag
        try:
            return command_tag(parse(self._text[self.start : self.end]))
        except FederatedError:  # which is what the server will say too
            return self.tag

    def reading(self) -> Command | None:
        """Return the command of one that answers with rows, None for every other, and for what is none."""
        if self.tag not in READING:
            return None
        try:
            return parse(self._text[self.start : self.end])
        except FederatedError:  # which `federated.execute` will raise too
            return None

    def sealed(self, seal: Seal | None) -> list[Edit]:
        """Return the changes that name its data subjects to the coordinator alone."""
        if seal is None or self.tag not in SUBJECT_KINDS:
            return []
        return list(seal_subjects(self.tag, self.tokens(), seal))

    def parameters(self) -> int:
        """Return the highest number of a parameter in the statement, 0 where there is none."""
        part = self._raw[self._part.first : self._part.last]
        spelled = (self._text[one.start + 1 : one.end + 1] for one in part if one.name == "PARAM")
        return max((int(number) for number in spelled if len(number) <= _DIGITS), default=0)

    def is_whole(self) -> bool:
        """Whether a routine with a SQL body was cut where PostgreSQL's grammar would cut it too."""
        return not self._part.atomic or known_syntax(self._text, self.tokens())

    @property
    def work(self) -> int:
        """How many tokens the grammar would have to look at, 0 where it need not or cannot."""
        concerned = self.tag is None and may_change(self._text, self.start, self.end)
        return self._part.tokens if concerned and self._part.tokens <= MAX_PARSE_TOKENS else 0


def _searched(text: str, statements: Sequence[_Statement]) -> dict[_Statement, Candidate]:
    """Return what the grammar looks at: nothing where all of it together is too much work.

    The proxy serves all its clients from one loop, which a text of thousands of predictions would hold up.
    """
    concerned = [statement for statement in statements if statement.work]
    if sum(statement.work for statement in concerned) > MAX_PARSE_TOKENS:
        return {}
    found = ((statement, candidate(text, statement.tokens())) for statement in concerned)
    return {statement: one for statement, one in found if one is not None}


class _Quoter:
    """Wraps statements of one text into CALL, or a query where they answer with rows.

    The dollar quote is one that the text does not contain.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        used = set(_DOLLAR_NUMBER.findall(text))
        number = next(number for number in ("", *map(str, range(len(used) + 1))) if number not in used)
        self._quote = f"$federated{number}$"

    def edit(self, statement: _Statement, within: Sequence[Edit] = ()) -> Edit:
        """Return the edit of one statement, with the changes within it.

        Its parameters have no place in it, and the statement itself says so: that it comes to this the
        server must know their types, and no value may change the text.
        """
        start, end = statement.start, statement.end
        quoted = f"{self._quote}{apply_edits(self._text, within, start, end)}{self._quote}"
        reading = statement.reading()
        if reading is not None and (query := query_of(reading, quoted)) is not None:
            return Edit(start, end, query)
        parameters = statement.parameters()
        if parameters:
            numbers = range(1, parameters + 1)
            empty = ", ".join(f'pg_catalog."left"(${number}::pg_catalog.text, 0)' for number in numbers)
            quoted = f"pg_catalog.concat({quoted}, {empty})"
        return Edit(start, end, f"CALL federated.execute({quoted})")
