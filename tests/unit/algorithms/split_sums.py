"""The sums of round 0 over rows that are split among nodes, and the summary that they lead to."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from heliosdb.algorithms.features import block_count, private_noise, statistics
from heliosdb.algorithms.located import Located, look_closer, take_counts
from heliosdb.algorithms.summary import Summary, summarise, summarise_located
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.update import Total
from heliosdb.domain.vector import ClippedSum
from heliosdb.privacy.mechanisms import add_noise
from heliosdb.privacy.plan import EXCHANGE_SHARES, split_statistics

NAMES = ("age", "blood_pressure", "cholesterol", "bmi")
LOGISTIC = StatisticsWork("logistic_regression", None, classes=2)


def table(features: np.ndarray, target: np.ndarray, subjects: np.ndarray | None = None) -> Table:
    codes = np.arange(target.size) if subjects is None else subjects
    return Table.from_rows(features, target, codes, np.zeros(target.size, dtype=bool))


def summarise_split(features: np.ndarray, target: np.ndarray, work: StatisticsWork, seed: int = 0) -> Summary:
    entropy, names = random.Random(seed).randbytes, NAMES[: features.shape[1]]

    def ask(asked: StatisticsWork) -> Total:
        total = np.zeros(asked.size(features.shape[1]))
        for part, part_target in zip(np.array_split(features, 3), np.array_split(target, 3), strict=True):
            answer = statistics(table(part, part_target), asked)
            if isinstance(answer.guard, ClippedSum):
                noise = answer.guard.mechanism.noise_multiplier
                total += add_noise(answer.vector, answer.guard.sensitivity, noise, entropy)
            else:
                total += answer.vector
        return Total(total, 1.0, 3)

    if work.noise_multiplier is None or work.ranges is not None:
        return summarise(ask(work).vector, work, names, 3)
    columns = block_count(features.shape[1], work)
    located: Located | None = None
    for one in split_statistics(Mechanism(work.noise_multiplier), EXCHANGE_SHARES):
        asked = replace(work, noise_multiplier=one.noise_multiplier)
        if located is not None:
            located = look_closer(located, private_noise(columns, asked, 3) / 3)
            asked = replace(asked, windows=located.windows())
        located = take_counts(located, ask(asked), asked, columns)
    assert located is not None
    target_name = ("target",) if columns > features.shape[1] else ()
    return summarise_located(located, names, target_name, 3)
