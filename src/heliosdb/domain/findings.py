"""What is known of a run beyond its options: what round 0 found, and the privacy plan that was made from it.

What always holds: what is written as JSON reads back the same; nothing here was computed from a row that was
not released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from heliosdb.domain.encoding import Encoding
from heliosdb.domain.events import Ended
from heliosdb.domain.groups import Groups
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.task import Scaling


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """The noise of a run; what round 0 decides is None before it.

    refinement_noise: of the exchanges of round 0 that follow the statistics. classes_noise: of the one before
    them, in which a target's classes are counted; None where that is not asked. levels_noise: of the one
    before that, in which levels of categories are found; None where they are known.

    evaluation_noise None after round 0: nothing is evaluated, and `reason` says why. expected_subjects: the
    fixed denominator of each node's training. report_noise None after round 0: no report is made, and
    report_reason says why where it was wished for. budget_epsilon: how far of the workspace's budget
    the run may go; None in plans of before this was kept, which may go to its end. clipping_noise: of the
    counts that clipping_norm follows, the norm to which the next round clips; both None where it is the
    workspace's.
    """

    statistics_noise: float
    refinement_noise: tuple[float, ...] = ()
    training_noise: float | None = None
    sampling_rate: float | None = None
    steps: int | None = None
    expected_subjects: float | None = None
    evaluation_noise: float | None = None
    reason: str | None = None
    epsilon: float | None = None
    classes_noise: float | None = None
    budget_epsilon: float | None = None
    report_noise: float | None = None
    report_reason: str | None = None
    clipping_noise: float | None = None
    clipping_norm: float | None = None
    levels_noise: float | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a run beyond its options; scaling None before round 0, plan None without a budget.

    booleans: which features are boolean at every node of round 0, in their order; () before it was opened.
    undeclared_target: whether the run has a budget and learns classes, and they are known of no declaration.
    encoding: how columns become inputs, None where every feature is one. number_target: whether what could
    learn classes as well learns a number. ended: None while further rounds have something to find.
    missing: under a budget of each input that was described about how many subjects' rows lack a value, and
    the standard error; outliers: the same of values that lie far out, of numbers alone. rows: of all nodes,
    where round 0 has summed them and a step goes by them; None in runs of before this was kept. groups: to
    which those who took part in round 0 were dealt, where a rule is given the means of groups; () before
    that is known, and of other rules.
    """

    scaling: Scaling | None = None
    plan: PrivacyPlan | None = None
    booleans: tuple[bool, ...] = ()
    undeclared_target: bool = False
    encoding: Encoding | None = None
    number_target: bool = False
    ended: Ended | None = None
    missing: tuple[tuple[str, float, float], ...] = ()
    rows: float | None = None
    groups: Groups = ()
    outliers: tuple[tuple[str, float, float], ...] = ()

    @classmethod
    def from_json(cls, scaling: Mapping[str, Any] | None, plan: Mapping[str, Any] | None) -> Findings:
        """Read what `scaling_json` and `plan_json` wrote."""
        return cls(
            None
            if scaling is None or "means" not in scaling
            else Scaling(
                tuple(scaling["means"]),
                tuple(scaling["scales"]),
                scaling["target_mean"],
                scaling["target_scale"],
            ),
            None if plan is None else _read_plan(plan),
            () if scaling is None else tuple(scaling.get("booleans", ())),
            scaling is not None and scaling.get("undeclared_target", False),
            None if scaling is None or "encoding" not in scaling else Encoding.from_json(scaling["encoding"]),
            scaling is not None and scaling.get("number_target", False),
            None if scaling is None or "ended" not in scaling else Ended(**scaling["ended"]),
            () if scaling is None else tuple((name, *pair) for name, *pair in scaling.get("missing", ())),
            None if scaling is None else scaling.get("rows"),
            () if scaling is None else tuple(tuple(group) for group in scaling.get("groups", ())),
            () if scaling is None else tuple((name, *pair) for name, *pair in scaling.get("outliers", ())),
        )

    def scaling_json(self) -> dict[str, Any] | None:
        """Return the scaling, and what is known of the columns, for run.scaling."""
        if self == Findings(plan=self.plan):
            return None
        columns: dict[str, Any] = {"booleans": list(self.booleans)}
        if self.undeclared_target:
            columns["undeclared_target"] = True
        if self.number_target:
            columns["number_target"] = True
        if self.encoding is not None:
            columns["encoding"] = self.encoding.to_json()
            # For those who read the row: the names of what means and scales are of.
            columns["inputs"] = list(self.encoding.inputs)
        if self.missing:
            columns["missing"] = [list(one) for one in self.missing]
        if self.outliers:
            columns["outliers"] = [list(one) for one in self.outliers]
        if self.ended is not None:
            columns["ended"] = asdict(self.ended)
        if self.rows is not None:
            columns["rows"] = self.rows
        if self.groups:
            columns["groups"] = [list(group) for group in self.groups]
        return columns | ({} if self.scaling is None else asdict(self.scaling))

    def plan_json(self) -> dict[str, Any] | None:
        """Return the plan for run.plan."""
        return None if self.plan is None else asdict(self.plan)


def _read_plan(plan: Mapping[str, Any]) -> PrivacyPlan:
    """A plan of before there were refinements names none."""
    return PrivacyPlan(**{**plan, "refinement_noise": tuple(plan.get("refinement_noise", ()))})


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What the coordinator knows where a step is asked for, or its answers are read.

    stated: by node the weight of its answer in round 0; empty before that is closed. past: what the most
    charged node has released, of the nodes whose answers are read; () without a budget. allowance: the ε that
    each of them may come to where less than the budget; None where not.
    """

    run: Run
    findings: Findings
    round: RoundNumber
    stated: Mapping[NodeName, float] = field(default_factory=dict)
    past: Sequence[Mechanism] = ()
    allowance: float | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that the columns become."""
        encoding = self.findings.encoding
        return self.run.options.features if encoding is None else encoding.inputs
