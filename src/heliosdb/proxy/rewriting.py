"""What the proxy asks of the language: does a text concern it, and what does it become?

What always holds: a text that the rewriter cannot handle is left alone; nothing here raises; a long text,
which takes milliseconds, never holds up the loop that serves all clients.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from heliosdb.observing import observed
from heliosdb.proxy.long_texts import LongTexts

log = logging.getLogger(__name__)

CACHED_TEXTS = 1024
CACHED_SIZE = 16 << 20  # of all outcomes together, in bytes, roughly
LONG_TEXT = 16 * 1024  # characters; longer texts are rare, take long, and would let the cache grow large
DEAR_TEXT = 1024  # the same for a text that the grammar must look at
_EDIT_SIZE = 200  # bytes that an edit takes, besides its text
SWITCH_INTERVAL_S = 0.001  # the longest that the loop waits for the thread, except inside the C scanner


class Rewrite(Protocol):
    """A text rewritten for the server, with the way back (see `federated_sql.rewrite`)."""

    @property
    def text(self) -> str:
        """What the server gets."""

    @property
    def tags(self) -> Sequence[str | None]:
        """For each statement, in order, the command tag to show instead of CALL, or None."""

    @property
    def edits(self) -> Sequence[object]:
        """The places that changed."""

    def predicts(self, index: int, /) -> bool:
        """Whether statement number `index` is not ours but calls a model's function that was put there."""

    def original_position(self, position: int, /) -> int:
        """Map a 1-based character position in `text` to one in what the user typed."""

    def statement_position(self, index: int, position: int, /) -> int:
        """Map a 1-based position in statement number `index` (from 0) to one in what the user typed."""


class TextRewriter(Protocol):
    """What a session needs of a rewriter; see `Rewriter`."""

    long_texts: LongTexts[Rewrite | None]

    def may_concern(self, raw: bytes, /) -> bool: ...
    def knows(self, text: str, /) -> bool: ...
    def takes_long(self, text: str, /) -> bool: ...
    def rewrite(self, text: str, /) -> Rewrite | None: ...
    def learn(self, text: str, outcome: Rewrite | None, /) -> None: ...


class Rewriter:
    """The language's gate and rewrite with a cache of outcomes, least recently used goes first.

    `may_concern` must hold for every text that contains one for which it holds: the proxy asks it about
    several messages at once. `may_be_ours` says of one text, more closely and in a few milliseconds at most,
    whether `rewrite` might change it; `dear`, whether the grammar must look at it. `hits` and `misses` count
    the look-ups in the cache, `rewrites` the texts that went to the server changed.
    """

    def __init__(
        self,
        may_concern: Callable[[bytes], bool],
        rewrite: Callable[[str], Rewrite | None],
        dear: Callable[[str], bool] = lambda _text: False,
        may_be_ours: Callable[[str], bool] = lambda _text: True,
    ) -> None:
        self.may_concern = may_concern
        self._may_be_ours = may_be_ours
        self.long_texts = LongTexts(self.begin)
        self._dear = dear
        self._size = 0
        self._rewrite = rewrite
        self._cache: OrderedDict[str, Rewrite | None] = OrderedDict()
        self._thread: ThreadPoolExecutor | None = None
        self.hits = self.misses = self.rewrites = 0

    @property
    def entries(self) -> int:
        """How many outcomes the cache holds."""
        return len(self._cache)

    def knows(self, text: str) -> bool:
        """Whether the outcome is in the cache."""
        return text in self._cache

    def takes_long(self, text: str) -> bool:
        """Whether a text that is not in the cache is to be worked out beside the loop."""
        long = len(text) > DEAR_TEXT and (len(text) > LONG_TEXT or self._dear(text))
        return long and self._may_be_ours(text)

    def rewrite(self, text: str) -> Rewrite | None:
        """Return what `text` becomes, or None where it goes through as it is."""
        outcome = self._look_up(text)
        self.rewrites += outcome is not None
        return outcome

    def begin(self, text: str) -> Future[Rewrite | None]:
        """Start to work out what a long text becomes, beside the loop; one text at a time, in turn.

        Whoever uses the outcome says so by `learn`; the cache belongs to the loop's thread.
        """
        self.misses += 1
        return self.submit(self._attempt, text)

    def submit(self, work: Callable[[str], Rewrite | None], text: str) -> Future[Rewrite | None]:
        """Have the one thread beside the loop work out a text."""
        if self._thread is None:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._thread = ThreadPoolExecutor(1, "rewriting")
        return self._thread.submit(work, text)

    def learn(self, text: str, outcome: Rewrite | None) -> None:
        """Count and keep an outcome that was worked out beside the loop."""
        self.rewrites += outcome is not None
        self._keep(text, outcome)

    def _look_up(self, text: str) -> Rewrite | None:
        if text in self._cache:
            self.hits += 1
            self._cache.move_to_end(text)
            return self._cache[text]
        self.misses += 1
        outcome = self._attempt(text)
        self._keep(text, outcome)
        return outcome

    def _keep(self, text: str, outcome: Rewrite | None) -> None:
        if len(text) > LONG_TEXT or text in self._cache:
            return
        self._cache[text] = outcome
        self._size += _size(text, outcome)
        while len(self._cache) > CACHED_TEXTS or self._size > CACHED_SIZE:
            self._size -= _size(*self._cache.popitem(last=False))

    def _attempt(self, text: str) -> Rewrite | None:
        return attempt(self._rewrite, text)


def attempt(rewrite: Callable[[str], Rewrite | None], text: str) -> Rewrite | None:
    """Rewrite a text; None also where that fails."""
    began = time.perf_counter()
    try:
        return rewrite(text)
    except Exception as error:  # noqa: BLE001 - any failure means doubt, and then the server decides
        # The text itself may hold secrets: only the kind of failure is logged.
        log.warning("a text could not be rewritten and goes through as it is: %s", type(error).__name__)
        observed.rewriting_failed()
        return None
    finally:
        observed.text_rewritten(time.perf_counter() - began)


def _size(text: str, outcome: Rewrite | None) -> int:
    """Return about how many bytes a cached outcome takes; an edit's replacement is in the new text too."""
    grown = 0 if outcome is None else 2 * len(outcome.text) + _EDIT_SIZE * len(outcome.edits)
    return len(text) + grown


def federated_rewriter() -> Rewriter:
    """Make the rewriter for the language of `federated_sql`."""
    from federated_sql.rewrite import may_be_ours, may_concern, rewrite
    from federated_sql.user_sql import may_change

    return Rewriter(may_concern, rewrite, lambda text: may_change(text, 0, len(text)), may_be_ours)
