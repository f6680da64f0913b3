"""What the proxy asks of the language: does a text concern it, and what does it become?

What always holds: a text that the rewriter cannot handle is left alone; nothing here raises; a long text,
which takes milliseconds, never holds up the loop that serves all clients.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

log = logging.getLogger(__name__)

CACHED_TEXTS = 1024
LONG_TEXT = 16 * 1024  # bytes; longer texts are rare, take long, and would let the cache grow large
SWITCH_INTERVAL_S = 0.001  # the longest that the loop waits for the thread, except inside the C scanner


class Rewrite(Protocol):
    """A text rewritten for the server, with the way back (see `federated_sql.rewrite`)."""

    @property
    def text(self) -> str:
        """What the server gets."""

    @property
    def tags(self) -> Sequence[str | None]:
        """For each statement, in order, the command tag to show instead of CALL, or None."""

    def predicts(self, index: int, /) -> bool:
        """Whether statement number `index` is not ours but calls a model's function that was put there."""

    def original_position(self, position: int, /) -> int:
        """Map a 1-based character position in `text` to one in what the user typed."""

    def statement_position(self, index: int, position: int, /) -> int:
        """Map a 1-based position in statement number `index` (from 0) to one in what the user typed."""


class Rewriter:
    """The language's gate and rewrite with a cache of outcomes, least recently used goes first.

    `may_concern` must hold for every text that contains one for which it holds: the proxy asks it about
    several messages at once. `hits` and `misses` count the look-ups in the cache, `rewrites` the texts that
    went to the server changed.
    """

    def __init__(
        self, may_concern: Callable[[bytes], bool], rewrite: Callable[[str], Rewrite | None]
    ) -> None:
        self.may_concern = may_concern
        self._rewrite = rewrite
        self._cache: OrderedDict[str, Rewrite | None] = OrderedDict()
        self._thread: ThreadPoolExecutor | None = None
        self.hits = self.misses = self.rewrites = 0

    @property
    def entries(self) -> int:
        """How many outcomes the cache holds."""
        return len(self._cache)

    def rewrite(self, text: str) -> Rewrite | None:
        """Return what `text` becomes, or None where it goes through as it is."""
        outcome = self._look_up(text)
        self.rewrites += outcome is not None
        return outcome

    def begin(self, text: str) -> Future[Rewrite | None]:
        """Start to work out what a long text becomes, beside the loop; one text at a time, in turn.

        Whoever uses the outcome counts it in `rewrites`; the cache belongs to the loop's thread.
        """
        self.misses += 1
        if self._thread is None:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._thread = ThreadPoolExecutor(1, "rewriting")
        return self._thread.submit(self._attempt, text)

    def _look_up(self, text: str) -> Rewrite | None:
        if text in self._cache:
            self.hits += 1
            self._cache.move_to_end(text)
            return self._cache[text]
        self.misses += 1
        outcome = self._attempt(text)
        if len(text) <= LONG_TEXT:
            self._cache[text] = outcome
            if len(self._cache) > CACHED_TEXTS:
                self._cache.popitem(last=False)
        return outcome

    def _attempt(self, text: str) -> Rewrite | None:
        try:
            return self._rewrite(text)
        except Exception as error:  # noqa: BLE001 - any failure means doubt, and then the server decides
            # The text itself may hold secrets: only the kind of failure is logged.
            log.warning("a text could not be rewritten and goes through as it is: %s", type(error).__name__)
            return None


def federated_rewriter() -> Rewriter:
    """Make the rewriter for the language of `federated_sql`."""
    from federated_sql.rewrite import may_concern, rewrite

    return Rewriter(may_concern, rewrite)
