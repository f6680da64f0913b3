"""Names data subjects to the server by what only its coordinator can read, where the proxy has the key.

What always holds: a text that may name a data subject is kept in no cache, and neither is what it becomes, so
that the same identifier never looks the same twice; all other texts are the common rewriter's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeAlias

from heliosdb.domain.sealed_subject import read_key, seal_subject
from heliosdb.proxy.long_texts import LongTexts
from heliosdb.proxy.rewriting import Rewrite, Rewriter, attempt

Seal: TypeAlias = Callable[[str, str], str]
"""From the kind of a statement and an identifier to base64."""


def load_seal(path: Path) -> Seal:
    """Read a coordinator's public key; FederatedError (22023) where the file holds none."""
    return partial(seal_subject, read_key(path))


class SealingRewriter:
    """The rewriter of sessions with one server whose coordinator's key the proxy has.

    common: what all sessions share; its thread works out long texts of this one too. rewrite: of a text that
    may name subjects.
    """

    def __init__(self, common: Rewriter, rewrite: Callable[[str], Rewrite | None]) -> None:
        self._common = common
        self._rewrite = rewrite
        self.may_concern = common.may_concern
        self.long_texts = LongTexts(self.begin)

    def knows(self, text: str) -> bool:
        """Whether the outcome is in the cache."""
        return not _may_name_subject(text) and self._common.knows(text)

    def takes_long(self, text: str) -> bool:
        """Whether a text that is not in the cache is to be worked out beside the loop."""
        # Each subject takes milliseconds, and the loop serves all clients.
        return _may_name_subject(text) or self._common.takes_long(text)

    def rewrite(self, text: str) -> Rewrite | None:
        """Return what `text` becomes, or None where it goes through as it is."""
        if not _may_name_subject(text):
            return self._common.rewrite(text)
        outcome = self._attempt(text)
        self._common.rewrites += outcome is not None
        return outcome

    def begin(self, text: str) -> Future[Rewrite | None]:
        """Start to work out what a long text becomes, beside the loop; one text at a time, in turn."""
        if not _may_name_subject(text):
            return self._common.begin(text)
        return self._common.submit(self._attempt, text)

    def learn(self, text: str, outcome: Rewrite | None) -> None:
        """Count an outcome that was worked out beside the loop, and keep it where it names nobody."""
        if not _may_name_subject(text):
            self._common.learn(text, outcome)
            return
        self._common.rewrites += outcome is not None

    def _attempt(self, text: str) -> Rewrite | None:
        return attempt(self._rewrite, text)


def _may_name_subject(text: str) -> bool:
    return "subject" in text.lower()


def sealing_rewriter(common: Rewriter, seal: Seal) -> SealingRewriter:
    """Make the rewriter for the language of `federated_sql` that seals."""
    from federated_sql.rewrite import rewrite

    return SealingRewriter(common, lambda text: rewrite(text, seal))
