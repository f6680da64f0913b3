"""A small language for the proxy's unit tests: `CREATE FEDERATED …` between semicolons, no quoting."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from heliosdb.proxy.rewriting import Rewriter
from tests.unit.proxy.session_talk import Talk

PREFIX = "CALL federated.execute('"


@dataclass(frozen=True)
class SmallRewrite:
    text: str
    tags: tuple[str | None, ...]
    starts: tuple[int, ...]  # of each statement in what was typed, from 0
    pieces: tuple[tuple[int, int, int, bool], ...]  # start in text, end in text, start as typed, replaced
    predicting: tuple[bool, ...] = ()
    edits: tuple[object, ...] = ()

    def predicts(self, index: int) -> bool:
        return index < len(self.predicting) and self.predicting[index]

    def original_position(self, position: int) -> int:
        for start, end, typed, replaced in self.pieces:
            if start < position <= end:
                return typed + 1 if replaced else typed + position - start
        return position

    def statement_position(self, index: int, position: int) -> int:
        return self.starts[index] + position


def rewrite_small(text: str) -> SmallRewrite | None:
    out, tags, starts, pieces = "", [], [], []
    at = 0
    for part in text.split(";"):
        words = part.split()
        lead = len(part) - len(part.lstrip())
        ours = words[:2] == ["CREATE", "FEDERATED"]
        if words:
            tags.append(" ".join(words[:3]) if ours else None)
            starts.append(at + lead)
        piece = part[:lead] + PREFIX + part[lead:] + "')" if ours else part
        pieces.append((len(out), len(out) + len(piece), at + (lead if ours else 0), ours))
        out += piece + ";"
        at += len(part) + 1
    if not any(tags):
        return None
    return SmallRewrite(out[:-1], tuple(tags), tuple(starts), tuple(pieces))


@pytest.fixture(scope="session")
def rewriter() -> Rewriter:
    return Rewriter(lambda raw: b"FEDERATED" in raw, rewrite_small)


@pytest.fixture
def talk(rewriter) -> Talk:
    return Talk(rewriter)
