"""An attacker who knows all but one subject finds out no more than the ledger says, and finds out what is broken.

`make bench NAME=privacy_audit` does the same with more trials. Noise comes from a seed, so that a guess is right in
every run or in none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.privacy_audit import (
    BROKEN,
    Trial,
    audit,
    concordance_trial,
    evaluation_trial,
    hazards_trial,
    laplacian_statistics,
    laplacian_training,
    leaves_trial,
    network_trial,
    newton_trial,
    report_trial,
    sampled,
    shared_trial,
    statistics_trial,
    training_trial,
)
from heliosdb.domain.privacy import Mechanism

TRIALS = 400
ONE, LAPLACIAN = [Mechanism(0.5)], [Mechanism(0.2, noise="laplacian")]


@pytest.mark.parametrize(
    ("make", "mechanisms"),
    [
        (statistics_trial, ONE),
        (evaluation_trial, ONE),
        (training_trial, ONE),
        (newton_trial, ONE),
        (report_trial, ONE),
        (network_trial, ONE),
        (leaves_trial, ONE),
        (hazards_trial, ONE),
        (concordance_trial, ONE),
        (shared_trial, ONE),
        (laplacian_statistics, LAPLACIAN),
        (laplacian_training, LAPLACIAN),
        (sampled, [Mechanism(0.5, 0.25, 8)]),
    ],
)
def test_what_leaves_is_as_private_as_is_charged(
    make: Callable[[float], Trial], mechanisms: list[Mechanism]
) -> None:
    found = audit(make, mechanisms, TRIALS, np.random.default_rng(7).bytes)

    # An attacker that would find nothing of anything proves nothing.
    assert (
        (5.0 if mechanisms is ONE else 1.0 if mechanisms is LAPLACIAN else 0.3) < found.found <= found.claimed
    )


@pytest.mark.parametrize("name", BROKEN)
def test_a_mechanism_that_is_broken_is_found_out(name: str) -> None:
    make, charged = BROKEN[name]
    found = audit(make, [charged], TRIALS, np.random.default_rng(7).bytes)

    assert found.found > found.claimed
