"""The steps, sizes and costs of a run, from its options and from what nodes have said of themselves.

What always holds: the algorithm and the privacy plan are asked as the coordinator asks them, in the same
order; what depends on an answer of a node stays None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heliosdb.aggregation.coding import coded
from heliosdb.aggregation.strategy import companions, strategy
from heliosdb.aggregation.sums import protocol
from heliosdb.algorithms.budget_plan import plan_rounds
from heliosdb.algorithms.classes import CLASSES
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.norms import NORMS
from heliosdb.algorithms.opening import describe_columns
from heliosdb.algorithms.private_wish import why_unreported
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.report import report_noise_of
from heliosdb.algorithms.schedule import count_evaluations
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import REPORT, Algorithm
from heliosdb.algorithms.vocabulary import VOCABULARY
from heliosdb.domain.encoding import ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, PrivacyPlan, RunPlan
from heliosdb.domain.forecast import Cost, Forecast, Release
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.state import flatten
from heliosdb.domain.task import Scaling
from heliosdb.parts.algorithms import ALGORITHMS, CoxSettings, TreeSettings, last_round
from heliosdb.privacy.accountant import Accountant, most_spent

_FIRST, _LATER = RoundNumber(0), RoundNumber(1)


@dataclass(frozen=True, slots=True)
class Participants:
    """Who would take part. able: by what they share. are_all: whether of every registered node that is known.

    pasts: what each has released in the workspace. subjects: how many they have together, as they released
    it in an earlier run; None where that is not known of one of them. elsewhere: the pasts of the workspace's
    other nodes.
    """

    able: dict[NodeName, DatasetDescription]
    are_all: bool
    pasts: Mapping[NodeName, Sequence[Mechanism]]
    subjects: int | None
    elsewhere: Sequence[Sequence[Mechanism]] = ()


def foretell(run: Run, participants: Participants) -> Forecast:
    """Return what the run would do; FederatedError for parts that there are not."""
    learned = algorithm(run.options.algorithm)
    findings = describe_columns(participants.able, run, are_all=participants.are_all)
    accountant = None if run.policy.budget is None else Accountant(run.policy.delta)
    past = () if accountant is None else most_spent(participants.pasts.values(), accountant)
    others = 0.0 if accountant is None else sum(accountant.epsilon(*one) for one in participants.elsewhere)
    opening = RunPlan(run, findings, _FIRST, past=past)
    refused: FederatedError | None = None
    if run.policy.overlap and run.policy.budget is not None and participants.able:
        each = (run.policy.budget.epsilon - others) / len(participants.able)
        opening = replace(opening, allowance=each)
    try:
        opening = replace(opening, findings=learned.prepare(opening))
    except FederatedError as error:
        refused = error
    told = _steps(learned, opening)
    if refused is not None and accountant is not None:
        # What cannot be planned is asked of nobody, and has no sizes.
        return replace(told, reports=False, cost=Cost(accountant.epsilon(*past), refused=refused))
    told = _with_sizes(told, learned, opening)
    if accountant is None:
        return told
    cost = _cost(learned, opening, accountant, participants)
    if run.policy.overlap:
        cost = _added_up(cost, participants, accountant, others)
    measures = cost.reached is None or any(one.step == EVALUATE for one in cost.releases)
    # Under a budget its plan decides, which only round 0, or an earlier run, makes.
    reports = any(one.step == REPORT for one in cost.releases) if cost.reached is not None else told.reports
    if cost.reached is not None and all(one.step != NORMS for one in cost.releases):
        told = replace(told, training=tuple(name for name in told.training if name != NORMS))
    return replace(told, cost=cost, evaluations=told.evaluations if measures else 0, reports=reports)


def _added_up(cost: Cost, participants: Participants, accountant: Accountant, others: float) -> Cost:
    """The cost where the nodes' ε add up: at most, as if each came to what the most charged one comes to."""
    spent = others + sum(accountant.epsilon(*one) for one in participants.pasts.values())
    reached = None if cost.reached is None else others + len(participants.able) * cost.reached
    return replace(cost, spent=spent, reached=reached)


def _steps(learned: Algorithm, opening: RunPlan) -> Forecast:
    options = opening.run.options
    private = opening.run.policy.budget is not None
    several = issubclass(ALGORITHMS.entry(options.algorithm).settings, TreeSettings | CoxSettings)
    return Forecast(
        preparing=_preparing(learned, opening),
        training=_training(learned, opening),
        further=several and not _draws_trees(opening),
        asks_further=not private,
        rounds=last_round(options, private=private),
        evaluations=count_evaluations(options, private=private),
        reports=_reports(learned, opening),
        messages=len(protocol(options.protocol).stages),
    )


def _reports(learned: Algorithm, opening: RunPlan) -> bool | None:
    """Whether the run reports on its model; None where it may."""
    run = opening.run
    if run.options.validation_split <= 0 or REPORT not in learned.steps:
        return False
    if run.policy.budget is None:
        return True
    return None if run.publishes and why_unreported(opening) is None else False


def _training(learned: Algorithm, opening: RunPlan) -> tuple[str, ...]:
    """The steps of a training round but an evaluation; whose norms are counted, of all but the last."""
    first = learned.first(replace(opening, round=_LATER))
    policy = opening.run.policy
    return (first, NORMS) if policy.budget is not None and policy.adaptive_clipping else (first,)


def _preparing(learned: Algorithm, opening: RunPlan) -> tuple[str, ...]:
    """Under a budget all of them; else those from the first up to the statistics, which every run needs."""
    if opening.findings.plan is not None:
        return tuple(one.step for one in learned.releases(opening))
    names, first = list(learned.steps), learned.first(opening)
    following = names[names.index(first) : names.index(STATISTICS) + 1] if STATISTICS in names else [first]
    # Levels are read from noise, and classes counted, under a budget alone.
    return tuple(name for name in following if name not in (VOCABULARY, CLASSES))


def _cost(learned: Algorithm, opening: RunPlan, accountant: Accountant, participants: Participants) -> Cost:
    made = opening.findings.plan
    assert made is not None
    spent = accountant.epsilon(*opening.past)
    costs = learned.releases(opening)
    first = [_release(accountant, one.step, one.mechanism, 1, is_preparation=True) for one in costs]
    begun = Cost(spent, tuple(first))
    nodes, subjects = len(participants.able), participants.subjects
    if not nodes or subjects is None:
        return replace(begun, missing=_unknown_subjects(opening))
    split = opening.run.options.validation_split
    past = [*opening.past, *(one.mechanism for one in costs)]
    plan = replace(opening, past=past)
    about = {"training_per_node": subjects / nodes * (1.0 - split), "held_out": subjects * split}
    try:
        made = plan_rounds(plan, made, nodes, **about)
    except FederatedError as error:
        return replace(begun, refused=error)
    planned = replace(plan, findings=replace(plan.findings, plan=made))
    rounds = _rounds(learned, planned)
    reached = accountant.epsilon(*past, *(mechanism for _, mechanism, times in rounds for _ in range(times)))
    later = [_release(accountant, step, mechanism, times) for step, mechanism, times in rounds]
    return replace(begun, releases=(*first, *later), reached=reached, note=_note(made))


def _unknown_subjects(opening: RunPlan) -> str:
    """Say why it is not known how many data subjects there are, and whose word would do."""
    which = "how many data subjects there are, which decides noise and sampling, only round 0 tells"
    if not protocol(opening.run.options.protocol).is_open:
        which += ", and of single nodes nothing does under a secure sum"
    return f"{which}; ALTER FEDERATED NODE ... SET (dataset_size = ...) declares it of a node"


def _note(made: PrivacyPlan) -> str | None:
    """Say what the plan leaves out, and why."""
    return "; ".join(why for why in (made.reason, made.report_reason) if why is not None) or None


def _rounds(learned: Algorithm, plan: RunPlan) -> list[tuple[str, Mechanism, int]]:
    """Return what the training rounds release, each release with how often it is made."""
    found: dict[tuple[str, Mechanism], int] = {}
    for number in range(1, last_round(plan.run.options, private=True) + 1):
        for one in learned.releases(replace(plan, round=RoundNumber(number))):
            found[one.step, one.mechanism] = found.get((one.step, one.mechanism), 0) + 1
    noise = report_noise_of(plan)
    if noise is not None:
        found[REPORT, Mechanism(noise)] = 1
    return [(step, mechanism, times) for (step, mechanism), times in found.items()]


def _release(
    accountant: Accountant, step: str, mechanism: Mechanism, times: int, *, is_preparation: bool = False
) -> Release:
    return Release(
        step,
        is_preparation,
        times,
        mechanism.noise_multiplier,
        mechanism.sampling_rate,
        mechanism.steps,
        accountant.epsilon(mechanism),
        mechanism.noise,
    )


def _with_sizes(told: Forecast, learned: Algorithm, opening: RunPlan) -> Forecast:
    """Add how large a training exchange is, where rows need not be asked for that first."""
    encoding = opening.findings.encoding
    if encoding is None or not _is_settled(encoding) or told.further or _draws_trees(opening):
        return told
    plan = _scaled(opening)
    try:
        state = learned.begin(plan)
        step = learned.steps[learned.first(plan)]
        asked = step.ask(_planned(plan), state)
    except FederatedError as error:
        if error.code is ErrorCode.INTERNAL:
            raise
        return replace(told, inputs=len(plan.inputs))
    parameters = flatten(state, step.moving or tuple(state)).size
    if told.messages > 1:
        return replace(told, inputs=len(plan.inputs), parameters=parameters)
    rule = companions(strategy(plan.run.options.aggregation)) if step.gathers == "rule" else ()
    item = asked.work.dtype.itemsize
    down = sum(array.nbytes for array in asked.state.values()) + len(rule) * parameters * item
    work = replace(asked.work, size=asked.work.size + len(rule) * parameters)
    work = coded(work, plan.run.options, is_update=step.gathers == "rule")
    length, dtype = work.coding.travelling(work.size, work.dtype)
    up = length * dtype.itemsize
    return replace(told, inputs=len(plan.inputs), parameters=parameters, bytes_down=down, bytes_up=up)


def _draws_trees(opening: RunPlan) -> bool:
    """Whether trees are drawn, whose depth, and so all sizes, round 0 decides."""
    kind = ALGORITHMS.entry(opening.run.options.algorithm).settings
    return opening.run.policy.budget is not None and issubclass(kind, TreeSettings)


def _is_settled(encoding: Encoding) -> bool:
    """Whether every column's inputs are known, of which round 0 has nothing more to ask."""
    asked = (ColumnKind.CATEGORY, ColumnKind.ARRAY)
    return not any(one.kind in asked and one.form == "value" for one in encoding.columns) and not any(
        one.form == "bins" and not one.edges for one in encoding.columns
    )


def _scaled(opening: RunPlan) -> RunPlan:
    """The plan of round 1 with a scaling of the right length: what is in it changes no size."""
    inputs = len(opening.inputs)
    scaling = Scaling((0.0,) * inputs, (1.0,) * inputs, 1.0, 1.0)
    findings: Findings = replace(opening.findings, scaling=scaling)
    return replace(opening, findings=findings, round=_LATER)


def _planned(plan: RunPlan) -> RunPlan:
    """The plan with noise in it, where there is a budget: what it is changes no size."""
    made = plan.findings.plan
    if made is None or made.training_noise is not None:
        return plan
    made = replace(made, training_noise=1.0, sampling_rate=1.0, steps=1, expected_subjects=1.0)
    return replace(plan, findings=replace(plan.findings, plan=made))
