"""How good a model of hashed words is beside pooled ones: ten nodes, notes dealt at random and by class.

The notes are drawn from twenty topics over five thousand words that are made up of syllables. The nodes are
rows in one process: what they compute and what is averaged is the product's code, without databases and
daemons. Beside them stand the same inputs on all rows at once, and scikit-learn's own features of words: hashed
into as many numbers, and each word by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, publish
from heliosdb.algorithms.network_training import Descent, train_network
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.scoring.words import Bags

Rows = NDArray[np.float64]

_NODES, _TOPICS, _WORDS, _NOTES, _TESTED = 10, 20, 5_000, 3_000, 1_000
_SIZE = 1_024
_OWN_WORDS, _OWN_SHARE = 60, 0.15
_SYLLABLES = [c + v for c in "bdfghklmnprstvz" for v in "aeiou"]


@dataclass(frozen=True, slots=True)
class Notes:
    """texts, and the topic of each; the first `_NOTES` are trained on."""

    texts: Sequence[str]
    topics: NDArray[np.int64]


def draw_notes() -> Notes:
    """Each note has 40 to 120 words, of which 15 % are of its topic's own."""
    rng = np.random.default_rng(3)
    words = sorted({"".join(rng.choice(_SYLLABLES, rng.integers(2, 5))) for _ in range(2 * _WORDS)})
    words = [words[place] for place in rng.permutation(len(words))[:_WORDS]]
    often = 1.0 / np.arange(3.0, _WORDS + 3.0)
    often /= often.sum()
    own = [rng.choice(_WORDS, _OWN_WORDS, replace=False) for _ in range(_TOPICS)]
    topics = rng.integers(0, _TOPICS, _NOTES + _TESTED)
    texts = []
    for topic in topics.tolist():
        count = int(rng.integers(40, 121))
        drawn = rng.choice(_WORDS, count, p=often)
        is_own = rng.random(count) < _OWN_SHARE
        drawn[is_own] = rng.choice(own[topic], int(is_own.sum()))
        texts.append(" ".join(words[place] for place in drawn))
    return Notes(texts, topics)


def hashed(notes: Notes) -> Rows:
    """What the product makes of notes, scaled as it scales them."""
    bags = Bags.of(notes.texts)
    return bags.hashed(np.arange(bags.texts), _SIZE) * _SIZE**0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rounds of one local epoch, by which batches and learning rate."""

    rounds: int
    batch: int
    rate: float


_EPOCHS = Pace(40, 32, 0.05)
_STEPS = Pace(100, _NOTES, 0.3)
"""One step a round over all rows: nodes that have other classes each cannot drift apart."""


def train(rows: Rows, topics: NDArray[np.int64], parts: Sequence[NDArray[np.int64]], pace: Pace) -> Rows:
    """Train a softmax of the inputs by nodes whose parameters are averaged; return the parameters."""
    network = Perceptron(_SIZE, (_TOPICS,), "relu", "softmax")
    descent = Descent(1, pace.batch, "sgd", pace.rate)
    current = network.begin(7)[PARAMETERS]
    shown = rows.astype(np.float32)
    weights = [part.size for part in parts]
    for number in range(pace.rounds):
        moved = [
            train_network(
                network, current, shown[part], topics[part].astype(np.float64),
                descent=descent, rng=np.random.default_rng((number, place)),
            )
            for place, part in enumerate(parts)
        ]  # fmt: skip
        current = np.average(moved, axis=0, weights=weights).astype(np.float32)
    return np.asarray(current, dtype=np.float64)


def judge(parameters: Rows, rows: Rows, topics: NDArray[np.int64]) -> float:
    """Return the accuracy."""
    network = Perceptron(_SIZE, (_TOPICS,), "relu", "softmax")
    told = network.sums(parameters, rows).argmax(axis=1)
    return float(np.mean(told == topics))


def of_scikit_learn(notes: Notes, *, is_hashed: bool) -> float:
    """Return the accuracy of its logistic regression on its own features of all notes."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = HashingVectorizer(n_features=_SIZE) if is_hashed else TfidfVectorizer(use_idf=False)
    model = make_pipeline(words, LogisticRegression(C=30.0, max_iter=200))
    model.fit(notes.texts[:_NOTES], notes.topics[:_NOTES])
    return float(model.score(notes.texts[_NOTES:], notes.topics[_NOTES:]))


def figures() -> Iterator[Figure]:
    """Compare on one set of notes."""
    notes = draw_notes()
    begun = perf_counter()
    rows = hashed(notes)
    yield Figure("notes hashed in a second", len(notes.texts) / (perf_counter() - begun), "rows/s")
    kept, topics = rows[:_NOTES], notes.topics[:_NOTES]
    tested = (rows[_NOTES:], notes.topics[_NOTES:])
    together = [np.arange(_NOTES)]
    yield Figure("pooled, the same inputs", judge(train(kept, topics, together, _EPOCHS), *tested), "acc.")
    yield Figure("pooled, scikit-learn, hashed words", of_scikit_learn(notes, is_hashed=True), "acc.")
    yield Figure("pooled, scikit-learn, every word", of_scikit_learn(notes, is_hashed=False), "acc.")
    dealt = np.random.default_rng(1).permutation(_NOTES)
    by_class = np.argsort(topics, kind="stable")
    for deal, order, pace in (("iid", dealt, _EPOCHS), ("by class", by_class, _STEPS)):
        parts = np.array_split(order, _NODES)
        yield Figure(f"{_NODES} nodes, {deal}", judge(train(kept, topics, parts, pace), *tested), "acc.")


def main() -> None:
    """Run it."""
    publish("text", list(figures()))


if __name__ == "__main__":
    main()
