"""What private releases cost, composed: the one (ε, δ) that plans and ledgers go by.

What always holds: the answer depends only on which releases there were, never on their order or on how they
were asked for, so that a plan and a ledger that end at the same releases give the identical number; more
releases never cost less; it is an upper bound on the true ε for neighbours that differ by adding or removing
one subject, and by a composition that holds though each release is chosen from what earlier ones gave
(docs/decisions/0010).

Releases with full participation compose exactly into one Gaussian (the squares of 1/σ add up), whose ε has a
closed form (`privacy.gaussian`). As soon as one release is sampled, all are composed by their Rényi
divergences (`privacy.renyi`): that is the larger of that and the bound by privacy loss distributions (PLD,
Google's dp-accounting), and the one that is known to hold where later releases depend on earlier ones.
Laplace releases have a pure ε each: what they cost is the sum of these on top of what the Gaussians cost, or
less where the Rényi divergences of all together say so (docs/decisions/0073). dp-accounting takes seconds to
import: only what is asked by distributions does that.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.bounds import NOISE_MULTIPLIER, SAMPLING_RATE
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.privacy.gaussian import gaussian_epsilon
from heliosdb.privacy.laplacian import pure_epsilon
from heliosdb.privacy.renyi import Group, compose_curves, epsilon_at

DISCRETIZATION = 1e-4
"""Width of the intervals into which privacy loss is rounded."""

_WIDEST_ONCE, _WIDEST_LOSS = 150.0, 400.0
"""Beyond this privacy loss, of one release and in total, Rényi accounting answers instead."""

_CACHED = 24
"""Distributions that are kept; the widest hold a few megabytes."""


def check_mechanism(mechanism: Mechanism) -> None:
    """Raise FederatedError (22023) for a mechanism that is outside its documented ranges."""
    sigma, rate, steps = mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps
    if not (NOISE_MULTIPLIER.hold(sigma) and SAMPLING_RATE.hold(rate) and steps >= 1):
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            f"A private release needs a noise multiplier from {NOISE_MULTIPLIER.least:g} to "
            f"{NOISE_MULTIPLIER.most:g}, a sampling rate from {SAMPLING_RATE.least:g} to 1, and steps.",
            detail=f"Noise multiplier {sigma}, sampling rate {rate}, steps {steps}.",
        )


def _grouped(
    mechanisms: Iterable[Mechanism], known: Counter[Group] | None = None
) -> tuple[tuple[Group, int], ...]:
    """Count the steps of each group, sorted. known: counted already."""
    counts = Counter(known)
    for mechanism in mechanisms:
        check_mechanism(mechanism)
        counts[_group(mechanism)] += mechanism.steps
    return tuple(sorted(counts.items()))


def _group(mechanism: Mechanism) -> Group:
    return mechanism.sampling_rate, mechanism.noise_multiplier, mechanism.noise


def _is_whole(group: Group) -> bool:
    """Whether it is of Gaussian releases with full participation."""
    return group[0] >= 1.0 and group[2] == "gaussian"


def _merged(groups: Sequence[tuple[Group, int]]) -> list[tuple[Group, int]]:
    """Replace all Gaussian groups of full participation by the one release that they amount to."""
    precision = math.fsum(steps / group[1] ** 2 for group, steps in groups if _is_whole(group))
    others = [(group, steps) for group, steps in groups if not _is_whole(group)]
    if precision > 0:
        others.append(((1.0, 1.0 / math.sqrt(precision), "gaussian"), 1))
    return others


def _pure(groups: Sequence[tuple[Group, int]]) -> float:
    """Return the sum of the pure ε of all Laplace releases."""
    return math.fsum(
        steps * pure_epsilon(rate, multiplier)
        for (rate, multiplier, noise), steps in groups
        if noise == "laplacian"
    )


def renyi_epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Return ε at `delta` by Rényi accounting."""
    return epsilon_at(compose_curves(_merged(_grouped(mechanisms))), delta)


def pld_epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Return ε at `delta` by privacy loss distributions, for releases that were all settled in advance.

    Where a release is sampled never above `renyi_epsilon`: what is above comes of rounding many small losses.
    """
    return Accountant(delta)._by_distributions(_merged(_grouped(mechanisms)))


def most_spent(pasts: Iterable[Sequence[Mechanism]], accountant: Accountant) -> Sequence[Mechanism]:
    """Return the past that costs the most by the accountant's delta; () where there is none."""
    told = {tuple(past) for past in pasts}
    return max(sorted(told, key=repr), key=lambda past: accountant.epsilon(*past), default=())


class Accountant:
    """Composes releases and remembers the parts, so that asking again after one more release is cheap.

    Not safe for use from several threads at once.
    """

    def __init__(
        self, delta: float, mechanisms: Iterable[Mechanism] = (), *, discretization: float = DISCRETIZATION
    ) -> None:
        if not 0 < delta < 1:
            raise FederatedError(ErrorCode.INVALID_VALUE, f"delta must lie between 0 and 1, not {delta}.")
        self.delta = delta
        self._discretization = discretization
        self._releases: Counter[Mechanism] = Counter()
        self._steps: Counter[Group] = Counter()
        self._distributions: OrderedDict[tuple[Group, int], Any] = OrderedDict()
        self._epsilons: dict[tuple[tuple[Group, int], ...], float] = {}
        self.add(*mechanisms)

    def add(self, *mechanisms: Mechanism) -> None:
        """Count releases as made."""
        for mechanism in mechanisms:
            check_mechanism(mechanism)
        self._releases.update(mechanisms)
        for mechanism in mechanisms:
            self._steps[_group(mechanism)] += mechanism.steps

    def releases(self) -> Iterator[Mechanism]:
        """Yield every release counted so far, in no particular order."""
        return self._releases.elements()

    def epsilon(self, *extra: Mechanism) -> float:
        """Return ε of all releases so far, and of `extra` besides (which are not counted as made)."""
        return self._compose(_grouped(extra, self._steps))

    def fits(self, budget_epsilon: float, *extra: Mechanism) -> bool:
        """Say whether `extra` may still be released under a total of `budget_epsilon`."""
        return self.epsilon(*extra) <= budget_epsilon

    def spending(self) -> Spending:
        """Return ε as the sum of each release's own, and of all releases composed."""
        own = math.fsum(count * self._compose(_grouped([one])) for one, count in self._releases.items())
        return Spending(epsilon_basic=own, epsilon_tight=self.epsilon())

    def _compose(self, groups: tuple[tuple[Group, int], ...]) -> float:
        if not groups:
            return 0.0
        known = self._epsilons.get(groups)
        if known is None:
            if len(self._epsilons) > 4096:
                self._epsilons.clear()
            known = self._epsilons[groups] = self._evaluate(groups)
        return known

    def _evaluate(self, groups: tuple[tuple[Group, int], ...]) -> float:
        """Gaussians exactly where nothing is sampled; else by Rényi, but at least what is not sampled costs.
        With Laplace releases the smaller of two bounds: their pure ε beside the Gaussians' (ε, δ), and
        Rényi over all."""
        merged = _merged(groups)
        gaussians = [one for one in merged if one[0][2] == "gaussian"]
        least = max(
            (gaussian_epsilon(group[1], self.delta) for group, _ in gaussians if _is_whole(group)),
            default=0.0,
        )
        apart = least
        if not all(_is_whole(group) for group, _ in gaussians):
            apart = max(least, epsilon_at(compose_curves(gaussians), self.delta))
        if len(gaussians) == len(merged):
            return apart
        together = max(least, epsilon_at(compose_curves(merged), self.delta))
        return min(apart + _pure(merged), together)

    def _by_distributions(self, merged: Sequence[tuple[Group, int]]) -> float:
        sampled = any(rate < 1.0 for (rate, _, _), _ in merged)
        renyi = epsilon_at(compose_curves(merged), self.delta)
        if not merged or _is_wide(merged):
            return renyi
        total: Any = None
        for group, steps in merged:
            part = self._distribution(group, steps)
            total = part if total is None else total.compose(part)
        found = float(total.get_epsilon_for_delta(self.delta))
        return min(found, renyi) if sampled or not math.isfinite(found) else found

    def _distribution(self, group: Group, steps: int) -> Any:
        """Return the privacy loss distribution of `steps` equal releases, from memory where it is there."""
        from dp_accounting.pld import privacy_loss_distribution

        key, (rate, multiplier, noise) = (group, steps), group
        found = self._distributions.get(key)
        if found is None:
            if steps == 1:
                of_noise = {
                    "gaussian": privacy_loss_distribution.from_gaussian_mechanism,
                    "laplacian": privacy_loss_distribution.from_laplace_mechanism,
                }[noise]
                found = of_noise(
                    multiplier, value_discretization_interval=self._discretization, sampling_prob=rate
                )
            else:
                found = self._distribution(group, 1).self_compose(steps)
            self._distributions[key] = found
        self._distributions.move_to_end(key)
        if len(self._distributions) > _CACHED:
            self._distributions.popitem(last=False)
        return found


def _is_wide(merged: Sequence[tuple[Group, int]]) -> bool:
    """Say whether the composed privacy loss may be too wide for a distribution of it.

    One release's loss reaches about 1/(2σ²) + 10/σ in either direction; over steps the means add up and the
    spread grows with the square root. For a sampled release the mean is about q² times that where σ is
    large and q times where it is small.
    """
    width = 0.0
    for (rate, sigma, _), steps in merged:
        if 1.0 / sigma**2 + 20.0 / sigma > _WIDEST_ONCE:
            return True
        mean = steps * rate * 0.5 / sigma**2
        spread = 10.0 * math.sqrt(steps * rate) / sigma
        width += 2.0 * (mean + spread)
    return width > _WIDEST_LOSS


def epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Return the ε at `delta` that a ledger of these releases shows; 0 for none."""
    return Accountant(delta, mechanisms).epsilon()


def spending(mechanisms: Iterable[Mechanism], delta: float) -> Spending:
    """Return what a ledger shows for these releases: basic (sum) and tight (composed) ε at `delta`."""
    return Accountant(delta, mechanisms).spending()


def calibrate(
    make: Callable[[float], Sequence[Mechanism]],
    budget: Budget,
    already: Sequence[Mechanism] = (),
    tolerance: float = 5e-4,
) -> float:
    """Find the smallest noise multiplier σ for which `already` and `make(σ)` stay within `budget`.

    make: the releases under a noise multiplier; their cost must fall as it grows. The result is rounded up
    to five significant digits, costs at most the budget by the same computation that a ledger uses, and
    exceeds the smallest by a fraction of `tolerance` at most; it lies within the bounds of a task's noise,
    so a generous budget may stay unspent. Raises FederatedError (UF001) where `already` leaves nothing.
    """
    accountant = Accountant(budget.delta, already)
    spent = accountant.epsilon()
    if spent >= budget.epsilon:
        raise _exhausted(budget, spent)
    searched = accountant
    if budget.epsilon > _COARSE_FROM and all(one.sampling_rate >= 1.0 for one in (*already, *make(1.0))):
        searched = Accountant(budget.delta, already, discretization=_COARSE)
    sigma = _search(make, budget, searched, tolerance)
    return _rounded_up(sigma, lambda sigma: accountant.epsilon(*make(sigma)) <= budget.epsilon)


_COARSE, _COARSE_FROM = 1e-3, 2.0
"""Above this ε the search runs on wider intervals (ten times faster, and accurate at such losses)."""


def _search(
    make: Callable[[float], Sequence[Mechanism]], budget: Budget, accountant: Accountant, tolerance: float
) -> float:
    """Find a σ within the budget as `accountant` sees it, closing in from both sides."""
    spent = accountant.epsilon()
    if spent >= budget.epsilon:
        raise _exhausted(budget, spent)

    def excess(sigma: float) -> float:
        """Compare squared costs beyond `spent`, as a logarithm: nearly linear in log σ, 0 at the budget."""
        cost = accountant.epsilon(*make(sigma))
        return math.log(max(cost**2 - spent**2, 1e-300) / (budget.epsilon**2 - spent**2))

    low, high = _bracket(excess, _first_guess(make(1.0), budget), budget, spent)
    while high[0] / low[0] > 1.0 + tolerance and high[1] < -tolerance:
        sigma = _between(low, high)
        value = excess(sigma)
        low, high = (low, (sigma, value)) if value <= 0 else ((sigma, value), high)
    return high[0]


_Point = tuple[float, float]


def _exhausted(budget: Budget, spent: float) -> FederatedError:
    return FederatedError(
        ErrorCode.BUDGET_EXHAUSTED,
        "The privacy budget leaves nothing for this.",
        detail=f"Spent: epsilon {spent:.6g} of {budget.epsilon:g} at delta {budget.delta:g}.",
        hint="Raise privacy_budget, or train in a workspace that has not spent its budget.",
    )


def _first_guess(unit: Sequence[Mechanism], budget: Budget) -> float:
    """Guess σ from the squared sampling rates: where the search starts, never what is accounted."""
    load = math.fsum(m.steps * m.sampling_rate**2 for m in unit)
    return max(0.3, math.sqrt(2.0 * load * math.log(1.25 / budget.delta)) / budget.epsilon)


def _bracket(
    excess: Callable[[float], float], guess: float, budget: Budget, spent: float
) -> tuple[_Point, _Point]:
    """Find one σ that costs too much and one that does not, near `guess`; the least σ twice where it does."""
    start = NOISE_MULTIPLIER.clamp(guess)
    point = (start, excess(start))
    for _ in range(60):
        sigma = point[0] * min(8.0, max(0.125, math.exp(0.5 * point[1]) * (1.05 if point[1] > 0 else 0.95)))
        sigma = NOISE_MULTIPLIER.clamp(sigma)
        if sigma == NOISE_MULTIPLIER.least == point[0] and point[1] <= 0:
            return point, point
        other = (sigma, excess(sigma))
        if point[1] > 0 >= other[1]:
            return point, other
        if other[1] > 0 >= point[1]:
            return other, point
        point = other
    raise _exhausted(budget, spent)


def _between(low: _Point, high: _Point) -> float:
    """Interpolate log σ to where the excess is just below zero, staying well inside the bracket."""
    share = low[1] / (low[1] - high[1])
    span = math.log(high[0] / low[0])
    inside = min(max(share * span + 1e-4, 0.02 * span), 0.98 * span)
    return low[0] * math.exp(inside)


def _rounded_up(sigma: float, fits: Callable[[float], bool]) -> float:
    """Round up to five significant digits, and further by units until it fits."""
    unit = 10.0 ** (math.floor(math.log10(sigma)) - 4)
    units = math.ceil(sigma / unit)
    while not fits(float(f"{units * unit:.5g}")):
        units += 1
    return float(f"{units * unit:.5g}")
