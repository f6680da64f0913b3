"""On which terms a node takes part in secure sums: its DBA's word about the others, and its share of noise.

What always holds: how much noise a node adds follows from the group that it was shown, signed by its peers,
and from its own settings; of the coordinator's word only whether the noise is to be shared at all, which a
node may refuse. What is refused here is refused before a row is read, before anything is charged, and where
it follows from the group before the node has told anybody a share. Where the coordinator is to add the noise,
the node adds none, and takes part only where its own DBA has said so.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from federated_sql.compliance import allows_central_noise
from heliosdb.aggregation.masked_sum import sums_in
from heliosdb.aggregation.sums import KnowsCohort, Signatory, protocol
from heliosdb.algorithms.steps import ClipsSums, Step, adds_own_noise
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.state import State
from heliosdb.domain.task import Task
from heliosdb.domain.wording import counted
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.privacy.neighbours import most_curious
from heliosdb.privacy.ring import LEAST_RANGE, Word
from heliosdb.privacy.shares import LARGEST_VALUE, Cohort, noise_unit

_LARGEST_SENSITIVITY = 1024.0
"""Of sums that name no clipping_norm: the root of the number of inputs, at worst."""


@dataclass(frozen=True, slots=True)
class SumTerms:
    """A site's settings. curious_peers: how many of the other participants may work with the coordinator;
    None: fewer than a third of all that are known. least_threshold: of how many nodes at least a sum has to
    be; None: as the protocol has it. distributed_noise: whether the node adds a share of a sum's noise.
    central_noise: whether it leaves all of that to the coordinator, where a workspace says so."""

    curious_peers: int | None = None
    least_threshold: int | None = None
    distributed_noise: bool = True
    central_noise: bool = False


class SumSite(Signatory, Protocol):
    """A signatory with its own DBA's terms."""

    @property
    def terms(self) -> SumTerms:
        """See `SumTerms`."""
        ...

    @property
    def participants(self) -> int:
        """How many its DBA has named, the node itself among them."""
        ...


@dataclass(frozen=True, slots=True)
class NoiseShare:
    """What a node adds. cohort: whose sum it is. honest: how many of it, with itself, the node counts as
    honest."""

    cohort: Cohort
    honest: int
    share: Fraction


def check_shared(task: Task, step: Step) -> None:
    """FederatedError where a task asks for less than the whole noise, and the sum could not have it."""
    summing, privacy = task.work.summing, task.work.privacy
    if summing.trust == "local":
        return
    sums = protocol(summing.protocol)
    if privacy is None:
        raise invalid_value("there is no noise to share in an answer without a privacy budget")
    if not isinstance(sums, KnowsCohort):
        raise invalid_value(
            f'the sum protocol "{summing.protocol}" lets nobody know whose noise adds up to the whole'
        )
    if privacy.mechanism.noise != "gaussian":
        raise not_supported("only Gaussian noise is shared: shares of another do not add up to it")
    if adds_own_noise(step):
        raise not_supported(
            f"step {step.name} adds its noise before there is a sum, and nodes cannot share it"
        )
    if summing.trust == "central" and not isinstance(step, ClipsSums):
        raise not_supported(f"step {step.name} does not tell the coordinator how much noise its sum needs")
    if step.gathers == "rule" and privacy.weight != 1.0:
        raise invalid_value("what is added up in steps of the noise has the weight 1")
    multiplier = privacy.mechanism.noise_multiplier
    _check_exact(task, step, multiplier)
    sensitivity = task.work.settings.get("clipping_norm", _LARGEST_SENSITIVITY)
    largest = sums_in(protocol(summing.protocol), summing).largest(task.work.size + 1, summing.nodes)
    if not isinstance(sensitivity, float | int) or not LARGEST_VALUE * multiplier * sensitivity <= largest:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f"noise_multiplier {multiplier:g} may pass the range of the secure sum",
            detail=f"{counted(summing.nodes, 'node')} of {counted(task.work.size, 'value')}: a value may be"
            f" {largest:.3g}, and with its noise comes to {LARGEST_VALUE} x {multiplier:g} x {sensitivity}.",
            hint="Raise the privacy budget, or lower clipping_threshold.",
        )


def _check_exact(task: Task, step: Step, noise_multiplier: float) -> None:
    """FederatedError INVALID_VALUE where the ring would round what nodes release with their shares: the sum
    would not be a function of the noised sum alone."""
    fraction = task.work.summing.fraction
    if fraction is None:
        return
    if not isinstance(step, ClipsSums) or step.gathers != "rule":
        raise invalid_value("nothing is put into one word but hidden updates")
    lattice = Lattice.of(step.sensitivity(task), noise_multiplier, task.work.size)
    if 2.0**-fraction > noise_unit(lattice):
        raise invalid_value(f"{fraction} bits behind the point are too few for the steps of the noise")


def check_rounded(task: Task, step: Step) -> None:
    """FederatedError INVALID_VALUE where values are to be rounded of what no rule combines, or of noised
    ones: what rounding leaves of each node's exact share of the noise would be in their sum."""
    summing, privacy = task.work.summing, task.work.privacy
    if summing.rounding is None and summing.fraction is None:
        return
    if privacy is not None and (summing.rounding is not None or summing.trust == "local"):
        raise invalid_value("values with shares of noise are not rounded before they are added up")
    if protocol(summing.protocol).is_open or step.gathers != "rule":
        raise invalid_value("nothing is rounded to a lattice but hidden updates")
    # With shares of noise nothing is refused for what rows say.
    fraction = summing.fraction if privacy is None else None
    if fraction is not None and Word(fraction).largest(summing.nodes) < LEAST_RANGE:
        raise invalid_value(
            f"{fraction} bits behind the point leave too few before it for {counted(summing.nodes, 'node')}"
        )


def check_willing(task: Task, site: SumSite) -> None:
    """FederatedError NODE_REFUSED where the site adds more of the noise than it is asked for, or the
    workspace's compliance mode lets none be left to the coordinator."""
    trust = task.work.summing.trust
    if trust == "central" and not site.terms.central_noise:
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            "the node leaves no noise to the coordinator: its DBA has not set central_noise = true",
            hint="Set trust_model = 'distributed' or 'local' in the workspace; or have its DBA allow it.",
        )
    if trust == "central" and not allows_central_noise(task.compliance_mode):
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            f"the node leaves no noise to the coordinator under compliance_mode {task.compliance_mode}",
            detail="central_noise = true is a site's setting, and does not count there.",
            hint="Set trust_model = 'distributed' or 'local' in the workspace.",
        )
    if trust == "distributed" and not site.terms.distributed_noise:
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            "the node shares no noise with others: its DBA has set distributed_noise = false",
            hint="Set trust_model = 'local' in the workspace, or leave the node out.",
        )


def check_group(task: Task, known: State, site: SumSite) -> None:
    """FederatedError NODE_REFUSED for a group of which fewer open the sum than the site's DBA allows."""
    cohort, least = _cohort(task, known), site.terms.least_threshold
    if cohort is not None and least is not None and cohort.threshold < least:
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            f"the node takes part in no sum of fewer than {counted(least, 'node')}",
            detail=f"The threshold of this one is {cohort.threshold} of {counted(cohort.nodes, 'node')}.",
            hint="Its DBA has set least_threshold. Raise the option threshold, or ask more nodes.",
        )


def share_of(task: Task, known: State, site: SumSite) -> NoiseShare | None:
    """What share of the noise the node adds; None where it adds all of it. known: what it keeps of the sum.

    FederatedError INVALID_VALUE where it does not know the group.
    """
    trust = task.work.summing.trust
    if trust == "local":
        return None
    cohort = _cohort(task, known)
    if cohort is None:
        raise invalid_value("the node does not know whose noise adds up to the whole")
    curious = site.terms.curious_peers
    if curious is None:
        curious = most_curious(site.participants)
    share = Fraction(0) if trust == "central" else cohort.share(curious)
    return NoiseShare(cohort, cohort.counted_by(curious), share)


def _cohort(task: Task, known: State) -> Cohort | None:
    sums = protocol(task.work.summing.protocol)
    return sums.cohort(known) if isinstance(sums, KnowsCohort) else None
