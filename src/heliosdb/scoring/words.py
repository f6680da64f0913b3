"""Texts as numbers without a vocabulary: the words of a text and what they are made of, hashed into so many
signed counts (Weinberger et al. 2009, "Feature hashing for large scale multitask learning").

What always holds: a text's numbers are a function of that text and of how many there are, to the last bit, on
every machine and under every release of Python: letters are those of Unicode 3.2, which each brings along
unchanged; sums are whole numbers below 2^53; hashes have no key.

A text is its first `LONGEST` characters, in the form NFKC, without difference of case. A word is a run of
letters, marks and digits, and of characters that Unicode 3.2 does not know; what is longer than
`LONGEST_WORD` bytes of UTF-8 is cut into pieces of so many. A word counts by itself and by each run of four
bytes of it, with a mark before its beginning and one behind its end: so words with other endings and
spellings have much in common. The counts of a text are divided by their norm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from itertools import groupby
from unicodedata import ucd_3_2_0

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.transforms import HASHED
from heliosdb.domain.wording import counted

LONGEST = 65_536
"""Characters of a text that are read, from the first on."""

LONGEST_WORD = 64
"""Bytes of a word; a longer one is several."""

RUN = 4
"""Bytes of a run of a word."""

_KEPT_WORDS = 1 << 16
_AT_ONCE = 1 << 20
"""Counts that are added up at a time."""

Hashes = NDArray[np.uint64]


class _Folded(dict[int, str]):
    """Of each character what stands for it: without difference of case, a space for what parts words."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = ucd_3_2_0.category(character)
        if category == "Cn":
            folded = character
        elif category == "Cf":
            # What only says how letters are joined or shown.
            folded = ""
        else:
            folded = character.casefold() if category[0] in "LMN" else " "
        self[code] = folded
        return folded


_FOLDED = _Folded({0xAD: ""})
"""The hyphen that shows at the end of a line alone is in a word, whatever Unicode 3.2 says of it."""


def words_of(text: str) -> Counter[bytes]:
    """Return how often a text has each word, as UTF-8; in the order in which they come."""
    shown = text[:LONGEST]
    form = shown if shown.isascii() else _normalized(shown)
    found = (word.encode("utf-8", "replace") for word in form.translate(_FOLDED).split(" ") if word)
    return Counter(piece for word in found for piece in _pieces(word))


def _normalized(text: str) -> str:
    """Return the form NFKC of what lies between characters that Unicode 3.2 does not know, and these as they
    are: how they are put in order each release says for itself."""
    unknown = {one for one in set(text) if ucd_3_2_0.category(one) == "Cn"}
    if not unknown:
        return ucd_3_2_0.normalize("NFKC", text)
    return "".join(
        "".join(run) if is_unknown else ucd_3_2_0.normalize("NFKC", "".join(run))
        for is_unknown, run in groupby(text, unknown.__contains__)
    )


def _pieces(word: bytes) -> Iterable[bytes]:
    if len(word) <= LONGEST_WORD:
        return (word,)
    return (word[start : start + LONGEST_WORD] for start in range(0, len(word), LONGEST_WORD))


@lru_cache(maxsize=_KEPT_WORDS)
def hashes_of(word: bytes) -> Hashes:
    """Return the hashes of a word, first its own, then those of its runs; (1 + runs,)."""
    marked = b"\x02" + word + b"\x03"
    runs = [marked[start : start + RUN] for start in range(len(marked) - RUN + 1)]
    hashed = b"".join([_hash(word, b"word"), *(_hash(run, b"run") for run in runs)])
    return np.frombuffer(hashed, dtype="<u8").astype(np.uint64)


def _hash(value: bytes, person: bytes) -> bytes:
    return blake2b(value, digest_size=8, person=person).digest()


def _places(hashes: Hashes, size: int) -> NDArray[np.int64]:
    return (hashes >> np.uint64(1)).astype(np.int64) % size


def _signs(hashes: Hashes) -> NDArray[np.float64]:
    return 1.0 - 2.0 * (hashes & np.uint64(1)).astype(np.float64)


def hash_text(text: str | None, size: int) -> NDArray[np.float64]:
    """Return the numbers of one text, (size,); of one without words, and of none at all, zeros."""
    numbers: NDArray[np.float64] = Bags.of([text or ""]).hashed(np.zeros(1, dtype=np.int64), size)[0]
    return numbers


def numbers_of(text: str | None, size: int) -> list[float]:
    """Return the same as numbers of Python's own; FederatedError INVALID_VALUE for a size out of bounds."""
    if not HASHED.hold(size):
        raise invalid_value(
            f"a text is not hashed into {counted(size, 'number')}",
            hint=f"Of a text there are {HASHED.least:g} to {HASHED.most:g}.",
        )
    numbers: list[float] = hash_text(text, size).tolist()
    return numbers


@dataclass(frozen=True, slots=True, eq=False)
class Bags:
    """Texts as the words that they have and how often, in no order.

    words: in the order of their bytes. starts: of each text, where what is its own begins, (texts + 1,);
    places, counts: which words it has, and how often, (entries,).
    """

    words: tuple[bytes, ...]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    counts: NDArray[np.int32]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Bags:
        """Read texts."""
        seen: dict[bytes, int] = {}
        sizes, places, counts = [0], [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int32)]
        for text in texts:
            found = words_of(text)
            own = [seen.setdefault(word, len(seen)) for word in found]
            places.append(np.array(own, dtype=np.int32))
            counts.append(np.array(list(found.values()), dtype=np.int32))
            sizes.append(len(own))
        words = sorted(seen)
        ranks = np.empty(len(words), dtype=np.int32)
        ranks[[seen[word] for word in words]] = np.arange(len(words), dtype=np.int32)
        return cls(
            tuple(words), np.cumsum(sizes), ranks[np.concatenate(places)], np.concatenate(counts)
        )._in_order()

    @property
    def texts(self) -> int:
        """How many there are."""
        return self.starts.size - 1

    def of_texts(self, kept: NDArray[np.bool_]) -> Bags:
        """Return some texts, in their order, and the words that they have; kept: (texts,)."""
        sizes = np.diff(self.starts)
        entries = np.repeat(kept, sizes)
        places = self.places[entries]
        used = np.zeros(len(self.words), dtype=np.bool_)
        used[places] = True
        ranks = (np.cumsum(used) - 1).astype(np.int32)
        words = tuple(word for word, is_used in zip(self.words, used.tolist(), strict=True) if is_used)
        starts = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
        return Bags(words, starts, ranks[places], self.counts[entries])

    def entries_of(self, texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the entries of some texts are, one text after the other, and of which of these each
        is."""
        return _runs(self.starts[texts], np.diff(self.starts)[texts])

    def hashed(
        self, texts: NDArray[np.int64], size: int, left_out: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Return the numbers of some texts, (texts, size); -1 stands for no text.

        left_out: which words do not count, (words,).
        """
        made = np.zeros((texts.size, size))
        there = np.flatnonzero(texts >= 0)
        entries, owners = self.entries_of(texts[there])
        if left_out is not None:
            counting = ~left_out[self.places[entries]]
            entries, owners = entries[counting], owners[counting]
        self._add(made, entries, there[owners])
        norms = np.sqrt(np.einsum("ij,ij->i", made, made))
        made /= np.where(norms > 0.0, norms, 1.0)[:, np.newaxis]
        # A count of nothing has no sign.
        made += 0.0
        return made

    def _add(self, made: NDArray[np.float64], entries: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Add what words count for, some entries at a time."""
        size, used = made.shape[1], np.unique(self.places[entries])
        hashes = [hashes_of(self.words[place]) for place in used.tolist()]
        lengths = np.array([one.size for one in hashes], dtype=np.int64)
        ends = np.cumsum(lengths)
        joined = np.concatenate([*hashes, np.empty(0, dtype=np.uint64)])
        weights = _signs(joined)
        columns = _places(joined, size)
        own = np.searchsorted(used, self.places[entries])
        step = max(1, _AT_ONCE // int(lengths.max(initial=1)))
        for start in range(0, entries.size, step):
            some = own[start : start + step]
            at, owners = _runs((ends - lengths)[some], lengths[some])
            amounts = weights[at] * self.counts[entries[start : start + step]][owners]
            own_rows = rows[start : start + step]
            first, last = int(own_rows[0]), int(own_rows[-1]) + 1
            flat = (own_rows[owners] - first) * size + columns[at]
            counted = np.bincount(flat, amounts, (last - first) * size)
            made[first:last] += counted.reshape(last - first, size)

    def _in_order(self) -> Bags:
        """The same with each text's entries in the order of its words."""
        texts = np.repeat(np.arange(self.texts), np.diff(self.starts))
        order = np.lexsort((self.places, texts))
        return Bags(self.words, self.starts, self.places[order], self.counts[order])

    def __repr__(self) -> str:
        """Say what it holds by a hash: equal ones are equal."""
        digest = sha256(len(self.words).to_bytes(8, "little"))
        for word in self.words:
            digest.update(len(word).to_bytes(1, "little") + word)
        for array in (self.starts, self.places, self.counts):
            digest.update(np.ascontiguousarray(array).data)
        return f"Bags({digest.hexdigest()})"


def _runs(
    starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of runs that begin somewhere and are so long, and of which run each is."""
    owners = np.repeat(np.arange(lengths.size), lengths)
    before = np.cumsum(lengths) - lengths
    return starts[owners] + np.arange(owners.size) - before[owners], owners
