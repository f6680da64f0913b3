"""How good networks on series are beside pooled ones of PyTorch's own layers: ten nodes, rows dealt at random.

The nodes are rows in one process: what they compute and what is averaged is the product's code, without databases and
daemons. Vital signs are drawn: pulse and oxygen of twelve hours, a tenth of it missing, a quarter of the stays shorter, and an
age; who gets worse is told by how the pulse moves in the end, by oxygen, and by the age. scikit-learn's digits are read as
eight steps of eight numbers. ARGS: --algorithm for one of them, --only for one set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, publish
from heliosdb.algorithms.network_training import Descent, load_torch, train_network
from heliosdb.algorithms.recurrent import GRUS, LSTMS
from heliosdb.algorithms.series import SeriesFamily, SeriesNetwork
from heliosdb.algorithms.transformer import TRANSFORMERS
from heliosdb.algorithms.works import PARAMETERS

Rows = NDArray[np.float64]

_NODES, _LOCAL_EPOCHS, _BATCH, _RATE = 10, 2, 24, 0.004
_POOLED_BATCH, _POOLED_RATE = 64, 0.003
_FAMILIES: dict[str, SeriesFamily] = {"lstm": LSTMS, "gru": GRUS, "transformer": TRANSFORMERS}
_OPTIONS: dict[str, dict[str, Any]] = {"lstm": {}, "gru": {}, "transformer": {"depth": 1}}


@dataclass(frozen=True, slots=True)
class Stays:
    """name; length and channels; rows, scaled but for what is missing, of the training and of the test, and what they
    are; classes: how many; rounds, epochs: of ten nodes, of all rows."""

    name: str
    shape: tuple[int, int]
    rows: Rows
    target: Rows
    test: Rows
    truth: Rows
    classes: int
    rounds: int
    epochs: int

    def network(self, algorithm: str) -> SeriesNetwork:
        """A network of the default width."""
        family, more = _FAMILIES[algorithm], _OPTIONS[algorithm]
        if self.classes > 2:
            more = {**more, "layers": (self.classes,), "output_activation": "softmax"}
        settings = family.settings(input_shape=self.shape, **more)
        return SeriesNetwork.of(self.rows.shape[1], settings, family.training)

    def judge(self, scores: Rows) -> float:
        """AUC of two classes, accuracy of several."""
        from sklearn.metrics import roc_auc_score

        if self.classes == 2:
            return float(roc_auc_score(self.truth, scores[:, 0]))
        return float(np.mean(scores.argmax(axis=1) == self.truth))


def draw_vital_signs(rows: int = 2500, length: int = 12) -> Stays:
    """See the module."""
    rng = np.random.default_rng(5)
    pulse = 80.0 + rng.normal(0.0, 6.0, rows)[:, None] + rng.normal(0.0, 4.0, (rows, length)).cumsum(axis=1)
    oxygen = 96.0 + rng.normal(0.0, 1.0, rows)[:, None] + rng.normal(0.0, 1.0, (rows, length))
    age = rng.normal(65.0, 10.0, rows)
    ends = np.where(rng.random(rows) < 0.25, rng.integers(6, length, rows), length)
    places = np.arange(rows)
    rise = pulse[places, ends - 1] - pulse[places, ends - 5]
    low = (oxygen < 95.0).mean(axis=1)
    score = 0.15 * rise + 4.0 * (low - 0.3) + 0.05 * (age - 65.0)
    worse = rng.random(rows) < 1.0 / (1.0 + np.exp(-1.5 * score))
    for series in (pulse, oxygen):
        series[rng.random(series.shape) < 0.1] = np.nan
        series[np.arange(length) >= ends[:, None]] = np.nan
    return _split("vital signs", (length, 2), np.column_stack([pulse, oxygen, age]), worse, (2, 25, 20))


def load_digits() -> Stays:
    """A column of the image is a step, its pixels are channels."""
    from sklearn.datasets import load_digits as load

    rows, classes = load(return_X_y=True)
    return _split("digits", (8, 8), rows, classes, (10, 25, 40))


_SETS: dict[str, Callable[[], Stays]] = {"vital-signs": draw_vital_signs, "digits": load_digits}


def _split(name: str, shape: tuple[int, int], rows: Rows, target: Rows, more: tuple[int, int, int]) -> Stays:
    order = np.random.default_rng(0).permutation(len(rows))
    held, kept = order[: len(rows) // 5], order[len(rows) // 5 :]
    scaled = rows.astype(np.float64)
    length, channels = shape
    parts = [slice(one * length, (one + 1) * length) for one in range(channels)]
    for part in [*parts, *(slice(one, one + 1) for one in range(length * channels, rows.shape[1]))]:
        scaled[:, part] = (rows[:, part] - np.nanmean(rows[kept, part])) / np.nanstd(rows[kept, part])
    truth = target.astype(np.float64)
    return Stays(name, shape, scaled[kept], truth[kept], scaled[held], truth[held], *more)


def federated(stays: Stays, algorithm: str) -> float:
    """Train by ten nodes whose parameters are averaged."""
    network = stays.network(algorithm)
    parts = np.array_split(np.random.default_rng(1).permutation(len(stays.rows)), _NODES)
    descent = Descent(_LOCAL_EPOCHS, _BATCH, "adam", _RATE)
    current = network.begin(7)[PARAMETERS]
    for number in range(stays.rounds):
        moved = [
            train_network(
                network, current, stays.rows[part].astype(np.float32), stays.target[part],
                descent=descent, rng=np.random.default_rng((number, place)),
            )
            for place, part in enumerate(parts)
        ]  # fmt: skip
        current = np.average(moved, axis=0, weights=[len(part) for part in parts]).astype(np.float32)
    return stays.judge(network.sums(np.asarray(current, dtype=np.float64), stays.test))


def pooled(stays: Stays, algorithm: str) -> float:
    """Train PyTorch's own layers on all rows: the mean of the last five epochs, which differ."""
    torch, _ = load_torch()
    torch.manual_seed(0)
    module = _module(torch, stays, algorithm)
    optimizer = torch.optim.Adam(module.parameters(), lr=_POOLED_RATE)
    rows, test = (torch.tensor(one, dtype=torch.float32) for one in (stays.rows, stays.test))
    kind = torch.float32 if stays.classes == 2 else torch.int64
    target = torch.tensor(stays.target).to(kind)
    functional, told = torch.nn.functional, []
    for epoch in range(stays.epochs):
        for chosen in torch.randperm(len(rows)).split(_POOLED_BATCH):
            scores = module(rows[chosen])
            if stays.classes == 2:
                loss = functional.binary_cross_entropy_with_logits(scores[:, 0], target[chosen])
            else:
                loss = functional.cross_entropy(scores, target[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch >= stays.epochs - 5:
            with torch.no_grad():
                told.append(stays.judge(module(test).numpy()))
    return float(np.mean(told))


def _module(torch: Any, stays: Stays, algorithm: str) -> Any:
    """The same network, written by somebody else."""
    nn = torch.nn
    length, channels = stays.shape
    outputs, width = (1 if stays.classes == 2 else stays.classes), 32
    beside = stays.rows.shape[1] - length * channels

    class Module(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(width + beside, outputs)
            if algorithm == "transformer":
                self.into = nn.Linear(2 * channels, width)
                self.places = nn.Parameter(_waves(torch, length, width), requires_grad=False)
                layer = nn.TransformerEncoderLayer(
                    width, 4, 4 * width, 0.0, batch_first=True, norm_first=True
                )
                self.body = nn.TransformerEncoder(layer, 1, nn.LayerNorm(width), enable_nested_tensor=False)
            else:
                self.body = {"lstm": nn.LSTM, "gru": nn.GRU}[algorithm](2 * channels, width, batch_first=True)

        def forward(self, rows: Any) -> Any:
            series = rows[:, : length * channels].reshape(-1, channels, length).transpose(1, 2)
            missing = torch.isnan(series)
            steps = torch.cat([torch.nan_to_num(series), missing.float()], dim=2)
            known = ~missing.all(dim=2)
            ends = (known * torch.arange(1, length + 1)).amax(dim=1).clamp(min=1)
            if algorithm == "transformer":
                padding = torch.arange(length)[None, :] >= ends[:, None]
                made = self.body(self.into(steps) + self.places, src_key_padding_mask=padding)
                made = made.masked_fill(padding[:, :, None], 0.0).sum(dim=1) / ends[:, None]
            else:
                packed = nn.utils.rnn.pack_padded_sequence(
                    steps, ends, batch_first=True, enforce_sorted=False
                )
                _, end = self.body(packed)
                made = (end[0] if algorithm == "lstm" else end)[-1]
            return self.head(torch.cat([made, rows[:, length * channels :]], dim=1))

    return Module()


def _waves(torch: Any, length: int, width: int) -> Any:
    angles = torch.arange(length)[:, None] / 10_000.0 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(length, width)


def figures(stays: Stays, algorithms: list[str]) -> Iterator[Figure]:
    """Compare on one set."""
    unit = "AUC" if stays.classes == 2 else "acc."
    for algorithm in algorithms:
        yield Figure(f"{stays.name}, {algorithm}, {_NODES} nodes", federated(stays, algorithm), unit)
        yield Figure(f"{stays.name}, {algorithm}, pooled PyTorch", pooled(stays, algorithm), unit)


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithm", choices=list(_FAMILIES))
    parser.add_argument("--only", choices=list(_SETS))
    given = parser.parse_args()
    algorithms = [given.algorithm] if given.algorithm else list(_FAMILIES)
    sets = [make() for name, make in _SETS.items() if given.only in (None, name)]
    publish("series", [one for stays in sets for one in figures(stays, algorithms)])


if __name__ == "__main__":
    main()
