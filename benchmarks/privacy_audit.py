"""Whether what leaves a node is as private as its ledger says, as an attacker finds out.

Audited are of a logistic regression of two classes statistics, evaluations, training by descent, Newton steps
and the report under Gaussian noise, statistics and training under Laplace noise; leaves of a forest, training of
a network, hazards and the concordance of a Cox regression, and a sum whose noise nodes share; not refinements and
counts of classes and norms. The very code of a node answers two tables,
many times each: one with a data subject made to be found, one without. The attacker is the coordinator: it knows both tables and all that
it asked, sees every answer, and guesses. From how often it is right follows an ε below which no mechanism can
be that answers like this (Jagielski, Ullman and Oprea 2020, "Auditing differentially private machine
learning"), with a confidence of 99 % by Clopper and Pearson; the threshold is chosen on trials that are not
counted. It has to stay below what the accountant charges; and mechanisms that are broken on purpose have
to be found out, else the attacker proves nothing.

    make bench NAME=privacy_audit ARGS="2000"
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import urandom
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, publish
from heliosdb.algorithms import Table, derive_rng
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.hazards import HazardSettings, bounded_hazards
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.neural import NEURAL_NETWORK
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.private_concordance import SENSITIVITY, concordance_steps, count_cells
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.private_newton import NoisyWork
from heliosdb.algorithms.private_report import report_privately
from heliosdb.algorithms.space import MEMORY
from heliosdb.algorithms.trees.bins import Ragged
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.private_answer import LeafAnswer
from heliosdb.algorithms.trees.private_work import LeavesWork
from heliosdb.algorithms.trees.structure import Drawing
from heliosdb.algorithms.trees.work import Model
from heliosdb.algorithms.works import (
    EvaluateWork,
    PrivateReportWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
)
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism, Noise
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Privacy, Reading, Scaling, Task, TaskKey, Work
from heliosdb.domain.vector import ClippedSum, Contribution, Matrix, Vector
from heliosdb.privacy.accountant import epsilon
from heliosdb.privacy.gaussian import gaussian_epsilon
from heliosdb.privacy.mechanisms import Entropy, Integers, Lattice, Secret, add_noise
from heliosdb.privacy.shares import Cohort, add_share

DELTA = 1e-5
CONFIDENCE = 0.99
TRIALS = 1000
MODEL = LOGISTIC_REGRESSION
FEATURES, ROWS = 4, 12
SCALING = Scaling((0.0,) * FEATURES, (1.0,) * FEATURES)

_QUIET, _LOOKS = 0.05, 30
"""The noise multiplier under which the attacker looks for a direction, and how often."""

Trial = Callable[[Table, Entropy], Vector]
"""What the attacker sees of a table: shape (d,)."""


@dataclass(frozen=True, slots=True)
class Audit:
    """claimed: the ε that a ledger shows. found: the ε that the attacker's guesses prove, 0 for none."""

    claimed: float
    found: float


def tables() -> tuple[Table, Table]:
    """Return a small table without and with the subject to be found: of two rows, as far out as can be."""
    rng = np.random.default_rng(5)
    features, target = rng.normal(size=(ROWS, FEATURES)), (np.arange(ROWS) % 2).astype(float)
    found, classes = np.full((2, FEATURES), 3.0), np.zeros(2)
    subjects = np.r_[np.arange(ROWS), [ROWS, ROWS]]
    both = Table.from_rows(
        np.vstack([features, found]), np.r_[target, classes], subjects, np.zeros(ROWS + 2, dtype=np.bool_)
    )
    return Table.from_rows(features, target, np.arange(ROWS), np.zeros(ROWS, dtype=np.bool_)), both


def held_out(table: Table) -> Table:
    """Return the table with everybody held out."""
    return replace(table, held_out=np.ones(table.rows, dtype=np.bool_))


def released(answer: Contribution, noise: float, entropy: Entropy) -> Vector:
    """Return what the release door lets out of an answer."""
    if not isinstance(answer.guard, ClippedSum):
        return answer.vector
    kind = answer.guard.mechanism.noise
    return add_noise(answer.vector, answer.guard.sensitivity, noise, entropy, noise=kind)


def statistics_trial(noise: float, *, kind: Noise = "gaussian") -> Trial:
    """One answer of round 0."""
    work = StatisticsWork(MODEL.name, noise, ((-3.0, 3.0),) * FEATURES, classes=2, noise=kind)
    return lambda table, entropy: released(statistics(table, work), noise, entropy)


def evaluation_trial(noise: float) -> Trial:
    """One evaluation, with everybody held out."""
    work, at = EvaluateWork(MODEL.name, SCALING, noise, classes=2), np.full(FEATURES + 1, 0.7)

    def trial(table: Table, entropy: Entropy) -> Vector:
        return released(MODEL.evaluate(held_out(table), at, work), noise, entropy)

    return trial


def newton_trial(noise: float) -> Trial:
    """One exchange of derivatives."""
    work, at = NoisyWork(noise, 1.0, 2), np.full(FEATURES + 1, 0.3)
    return lambda table, entropy: released(MODEL.bounded_curvature(table, at, SCALING, work), noise, entropy)


def training_trial(
    noise: float,
    *,
    norm: float = 1.0,
    rate: float = 1.0,
    steps: int = 1,
    rounds: int = 1,
    kind: Noise = "gaussian",
) -> Trial:
    """So many rounds of local training, each from what the one before led to; all updates."""
    privacy = PrivateTraining(noise, norm, rate, steps, float(ROWS), kind)
    work = TrainWork(MODEL.name, SCALING, 1, 4, 0.1, privacy, classes=2)

    def trial(table: Table, entropy: Entropy) -> Vector:
        parameters, seen = np.zeros(FEATURES + 1), []
        for number in range(rounds):
            moved = MODEL.train(table, parameters, work, derive_rng(1, number, "a", b""), Secret(entropy))
            seen.append(moved.vector)
            parameters = parameters + moved.vector
        return np.concatenate(seen)

    return trial


def as_rows(table: Table) -> Table:
    """Return the table with each row for a subject, and those of whom is to be found five times."""
    places = np.r_[: table.rows, np.repeat(np.flatnonzero(table.subjects == ROWS), 4)]
    return replace(table.at(places), subjects=np.arange(places.size))


def task_of(step: str, work: Work, state: State) -> Task:
    """Return what a coordinator asks of a node."""
    key = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 1, StepName(step), NodeName("n"))
    reading = Reading(None, tuple(f"f{place}" for place in range(FEATURES)), "t", 0.2, 1)
    return Task(key, reading, work, SCALING, state, Budget(1.0, DELTA))


def report_trial(noise: float, *, rows_count: bool = False) -> Trial:
    """One report, with everybody held out. rows_count: broken, each row counts as a subject."""
    work = PrivateReportWork(MODEL.name, SCALING, noise, classes=2).to_work(PrivateLayout(2, FEATURES).size)
    task = task_of("report", work, make_state(parameters=np.full(FEATURES + 1, 0.3)))

    def trial(table: Table, entropy: Entropy) -> Vector:
        rows = held_out(as_rows(table) if rows_count else table)
        return released(report_privately(MODEL, rows, task), noise, entropy)

    return trial


def network_trial(noise: float, *, norm: float = 1.0) -> Trial:
    """One step of a network."""
    network = Perceptron(FEATURES, (3, 1), "tanh", "sigmoid")
    state = network.begin(3)
    privacy = PrivateTraining(noise, norm, 1.0, 1, float(ROWS))
    work = TrainWork("neural_network", SCALING, 1, 4, 0.1, privacy, classes=2)
    model = NEURAL_NETWORK.of(state, FEATURES)

    def trial(table: Table, entropy: Entropy) -> Vector:
        rng, start = derive_rng(1, 0, "a", b""), state["parameters"]
        return np.asarray(model.train(table, start, work, rng, Secret(entropy)).vector, dtype=np.float64)

    return trial


def leaves_trial(noise: float, *, norm: float = 1.0) -> Trial:
    """The leaves of three trees of a forest."""
    levels, edges = (0,) * FEATURES, Ragged.of([np.array([-1.0, 0.0, 1.0])] * FEATURES)
    trees = Drawing(edges, levels, 2, 7).added(Trees.empty(1, 0), 3)
    model = Model(edges, levels, np.empty(0), trees)
    work = LeavesWork("random_forest", 2, 0, norm, Privacy(Mechanism(noise), float(ROWS)), model)
    answer = LeafAnswer(work, SCALING, MEMORY, boosts=False)

    def trial(table: Table, entropy: Entropy) -> Vector:
        total = answer.lattice.total(answer.steps(table, Secret(entropy)))
        return add_noise(total, norm, noise, entropy)

    return trial


def survivors(table: Table) -> Table:
    """Return the table with times for a target: whoever is to be found stayed longest, without the event."""
    return replace(table, target=np.where(table.target > 0.5, 0.5, 3.0), roles={"event": table.target})


def hazards_trial(noise: float, *, norm: float = 1.0) -> Trial:
    """One exchange of a Cox regression's derivatives."""
    given = HazardSettings((0.5, 1.0, 2.0), 1.0, norm)
    slopes, levels = np.zeros(FEATURES), np.zeros(3)

    def trial(table: Table, entropy: Entropy) -> Vector:
        answer = bounded_hazards(survivors(table), slopes, levels, SCALING, given, noise)
        return released(answer, noise, entropy)

    return trial


def concordance_trial(noise: float, *, rows_count: bool = False) -> Trial:
    """The report of a Cox regression. rows_count: broken, each row counts as a subject."""
    ends, slopes = np.array([0.5, 1.0, 2.0]), np.full(FEATURES, 0.3)
    lattice = Lattice.of(SENSITIVITY, noise, count_cells(ends.size))

    def trial(table: Table, entropy: Entropy) -> Vector:
        rows = survivors(as_rows(table) if rows_count else table)
        total = lattice.total(concordance_steps(rows, slopes, SCALING, ends, 1.0, lattice))
        return add_noise(total, SENSITIVITY, noise, entropy)

    return trial


def shared_trial(noise: float, *, honest: int | None = None) -> Trial:
    """The sum of five nodes' steps, each with its share of the noise, as the coordinator sees it who knows
    what the curious ones added. honest: how many there are, if not as many as all take for granted."""
    cohort = Cohort(5, 4)
    adding = cohort.honest if honest is None else honest
    share = cohort.share(cohort.curious)
    work, at = NoisyWork(noise, 1.0, 2), np.full(FEATURES + 1, 0.3)

    def trial(table: Table, entropy: Entropy) -> Vector:
        own = MODEL.bounded_curvature(table, at, SCALING, work).vector
        totals = [own, *[np.zeros(own.size)] * (adding - 1)]
        return np.sum([add_share(one, 1.0, noise, share, entropy) for one in totals], axis=0)

    return trial


def audit(
    make: Callable[[float], Trial], mechanisms: Sequence[Mechanism], trials: int, entropy: Entropy = urandom
) -> Audit:
    """Have the attacker guess `trials` times of each table.

    make: what is answered under a noise multiplier; that of `mechanisms` is audited. The attacker knows what
    the two tables' answers are all but without noise, which it can compute by itself, and guesses by how much
    likelier the one is than the other: for one release no test of the answer is better.
    """
    quiet, trial = make(_QUIET), make(mechanisms[0].noise_multiplier)
    known = np.array([np.mean([quiet(one, entropy) for _ in range(_LOOKS)], axis=0) for one in tables()])
    seen = [np.array([trial(one, entropy) for _ in range(2 * trials)]) for one in tables()]
    spread = seen[0][:trials].std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    kind = mechanisms[0].noise
    scores = [_likelihoods(answers / spread, known / spread, kind) for answers in seen]
    is_gaussian = kind == "gaussian" and all(one.sampling_rate >= 1.0 for one in mechanisms)
    bound = _gaussian_bound if is_gaussian else _bound
    threshold, tells = _choose(scores[0][:trials], scores[1][:trials], bound)
    found = bound(tells(scores[0][trials:], threshold), tells(scores[1][trials:], threshold))
    return Audit(epsilon(mechanisms, DELTA), found)


def _likelihoods(answers: Matrix, known: Matrix, kind: Noise) -> Vector:
    """Return by how much likelier the second known answer is than the first, but for scale and a constant;
    answers: (n, d), known: (2, d), both in deviations → (n,)."""
    if kind == "laplacian":
        nearer: Vector = (np.abs(answers - known[0]) - np.abs(answers - known[1])).sum(axis=1)
        return nearer
    along: Vector = answers @ (known[1] - known[0])
    return along


Guesses = NDArray[np.bool_]
Tells = Callable[[Vector, float], Guesses]
Bound = Callable[[Guesses, Guesses], float]


def _choose(without: Vector, with_subject: Vector, bound: Bound) -> tuple[float, Tells]:
    """Choose where to draw the line, and which side of it speaks for the subject, or against it."""
    best: tuple[float, float, Tells] = (-1.0, 0.0, _above)
    for threshold in np.quantile(np.r_[without, with_subject], np.linspace(0.01, 0.99, 99)):
        for tells in (_above, _below):
            found = bound(tells(without, threshold), tells(with_subject, threshold))
            best = max(best, (found, float(threshold), tells), key=lambda one: one[0])
    return best[1], best[2]


def _above(scores: Vector, threshold: float) -> Guesses:
    return scores > threshold


def _below(scores: Vector, threshold: float) -> Guesses:
    return scores < threshold


def _rates(without: Guesses, with_subject: Guesses) -> tuple[float, float]:
    """Return how often at most a guess is wrong that the subject is there, and at least right."""
    from scipy.stats import beta

    error, n = (1.0 - CONFIDENCE) / 2.0, without.size
    false, true = int(without.sum()), int(with_subject.sum())
    most = 1.0 if false == n else float(beta.ppf(1.0 - error, false + 1, n - false))
    return most, 0.0 if true == 0 else float(beta.ppf(error, true, n - true + 1))


def _bound(without: Guesses, with_subject: Guesses) -> float:
    """Return the ε that so many guesses prove, whatever the mechanism."""
    most, least = _rates(without, with_subject)
    return max(0.0, math.log((least - DELTA) / most)) if least > DELTA else 0.0


def _gaussian_bound(without: Guesses, with_subject: Guesses) -> float:
    """Return the ε that they prove of Gaussian noise without sampling: by the μ of its trade-off (Dong, Roth
    and Su 2022, "Gaussian differential privacy"; Nasr et al. 2023, "Tight auditing of differentially private
    machine learning", section 4)."""
    from scipy.special import ndtri

    most, least = _rates(without, with_subject)
    mu = float(ndtri(least) - ndtri(most)) if least > 0.0 and most < 1.0 else 0.0
    return gaussian_epsilon(1.0 / mu, DELTA) if mu > 0.0 else 0.0


class HalfNoise(Secret):
    """Broken on purpose: of the noise half is drawn."""

    def noise(self, shape: tuple[int, ...], noise: Noise = "gaussian") -> Integers:
        """Draw."""
        return super().noise(shape, noise) // 2


def half_noise(noise: float) -> Trial:
    """Half of the noise that is charged."""
    privacy = PrivateTraining(noise, 1.0, 1.0, 1, float(ROWS))
    work, start = TrainWork(MODEL.name, SCALING, 1, 4, 0.1, privacy, classes=2), np.zeros(FEATURES + 1)
    return lambda table, entropy: (
        MODEL.train(table, start, work, derive_rng(1, 0, "a", b""), HalfNoise(entropy)).vector
    )


def quarter_laplacian_noise(noise: float) -> Trial:
    """A quarter of the Laplace noise that is charged."""
    return training_trial(noise / 4.0, kind="laplacian")


def steep_newton(noise: float) -> Trial:
    """Derivatives clipped to three times the norm that noise is drawn for."""
    work, at = NoisyWork(noise / 3.0, 3.0, 2), np.full(FEATURES + 1, 0.3)
    return lambda table, entropy: released(
        MODEL.bounded_curvature(table, at, SCALING, work), noise / 3.0, entropy
    )


def unclipped(noise: float) -> Trial:
    """What a longer clipping norm lets through, with the noise of the shorter one."""
    return training_trial(noise / 5.0, norm=5.0)


def free_loss(noise: float) -> Trial:
    """An update, and the loss of the rows beside it as it is."""
    train = training_trial(noise)
    work, at = TrainWork(MODEL.name, SCALING, 1, 4, 0.1, classes=2), np.full(FEATURES + 1, 0.5)
    return lambda table, entropy: np.append(train(table, entropy), MODEL.objective(table, at, work))


def long_leaves(noise: float) -> Trial:
    """Leaves clipped to three times the norm that noise is drawn for."""
    return leaves_trial(noise / 3.0, norm=3.0)


def long_gradients(noise: float) -> Trial:
    """Gradients of a network clipped to five times the norm that noise is drawn for."""
    return network_trial(noise / 5.0, norm=5.0)


def steep_hazards(noise: float) -> Trial:
    """Derivatives by hazards clipped to three times the norm that noise is drawn for."""
    return hazards_trial(noise / 3.0, norm=3.0)


def rows_reported(noise: float) -> Trial:
    """A report in which each row counts as a subject."""
    return report_trial(noise, rows_count=True)


def rows_in_order(noise: float) -> Trial:
    """A concordance in which each row counts as a subject."""
    return concordance_trial(noise, rows_count=True)


def lonely_share(noise: float) -> Trial:
    """One share of the noise, all other nodes working with the coordinator."""
    return shared_trial(noise, honest=1)


GAUSSIAN, LAPLACIAN = Mechanism(1.0), Mechanism(1.0, noise="laplacian")
BROKEN: dict[str, tuple[Callable[[float], Trial], Mechanism]] = {
    "half the noise": (half_noise, GAUSSIAN),
    "clipping skipped": (unclipped, GAUSSIAN),
    "a loss for free": (free_loss, GAUSSIAN),
    "a quarter of the Laplace noise": (quarter_laplacian_noise, LAPLACIAN),
    "derivatives clipped too late": (steep_newton, GAUSSIAN),
    "leaves clipped too late": (long_leaves, GAUSSIAN),
    "a network's gradients clipped too late": (long_gradients, GAUSSIAN),
    "hazards clipped too late": (steep_hazards, GAUSSIAN),
    "a report of rows": (rows_reported, GAUSSIAN),
    "a concordance of rows": (rows_in_order, GAUSSIAN),
    "a share of the noise alone": (lonely_share, GAUSSIAN),
}
"""Mechanisms that are not what their charge says, and what is charged."""


def laplacian_statistics(noise: float) -> Trial:
    """One answer of round 0 under Laplace noise."""
    return statistics_trial(noise, kind="laplacian")


def laplacian_training(noise: float) -> Trial:
    """One step of training under Laplace noise."""
    return training_trial(noise, kind="laplacian")


def sampled(noise: float) -> Trial:
    """Two rounds of four steps, each over a quarter of the subjects."""
    return training_trial(noise, rate=0.25, steps=4, rounds=2)


def main() -> None:
    """Audit; the argument is how many trials each table gets to be guessed by (1,000)."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    figures = []
    for noise in (4.0, 1.0, 0.5):
        one, laplacian = [Mechanism(noise)], [Mechanism(noise, noise="laplacian")]
        audits: dict[str, tuple[Callable[[float], Trial], list[Mechanism]]] = {
            "statistics": (statistics_trial, one),
            "evaluation": (evaluation_trial, one),
            "training, one step": (training_trial, one),
            "Newton step": (newton_trial, one),
            "report": (report_trial, one),
            "network, one step": (network_trial, one),
            "leaves of a forest": (leaves_trial, one),
            "hazards": (hazards_trial, one),
            "concordance": (concordance_trial, one),
            "shares of the noise": (shared_trial, one),
            "statistics, Laplace": (laplacian_statistics, laplacian),
            "training, one step, Laplace": (laplacian_training, laplacian),
            "training, 2 rounds of 4 steps of a quarter": (sampled, [Mechanism(noise, 0.25, 8)]),
        }
        for name, (make, mechanisms) in audits.items():
            found = audit(make, mechanisms, trials)
            target = f"<= {found.claimed:.4g}, what is charged"
            figures.append(Figure(f"{name}, sigma {noise:g}: found", found.found, "eps", target))
    for name, (make, charged) in BROKEN.items():
        found = audit(make, [charged], trials)
        figures.append(Figure(f"broken, {name}: found", found.found, "eps", f"> {found.claimed:.4g}: caught"))
    publish("privacy_audit", figures)


if __name__ == "__main__":
    main()
