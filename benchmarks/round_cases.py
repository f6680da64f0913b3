"""Which federations `benchmarks.round` measures: the rows of its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product

from benchmarks.wide import FEATURES

SMALL = 10
"""Parameters of the product's own model; with any other number it is one of `benchmarks.wide`."""


class Measure(StrEnum):
    """What kind of rounds is measured. PLAIN: evaluated at the run's end alone."""

    PLAIN = "plain"
    EVALUATED = "evaluated"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained; parameters: how many numbers a node sends in a round.

    kind: their type. options: of the statement. given: what no statement can name, for the run's row. part: the
    module that the daemons load for it. rows: of a node. dataset: options of the node's dataset.
    """

    parameters: int
    kind: str
    options: str
    given: Mapping[str, object] = field(default_factory=dict)
    part: str | None = None
    rows: int = 200
    dataset: str = ""

    @classmethod
    def logistic(cls) -> Model:
        """The product's own."""
        return cls(SMALL, "float64", f"algorithm = 'logistic_regression', features = {list(FEATURES)}")

    @classmethod
    def wide(cls, parameters: int, kind: str) -> Model:
        """The benchmark's own. kind: the type of its numbers."""
        return cls(
            parameters,
            kind,
            f"algorithm = 'linear_regression', features = {list(FEATURES)}",
            given={"algorithm": "wide" if kind == "float64" else "wide_single", "parameters": parameters},
            part="benchmarks.wide",
            rows=1500,
            dataset=" WITH (max_parameter_share = 1000)",
        )

    @classmethod
    def of(cls, parameters: int, kind: str = "float32") -> Model:
        """The one with so many parameters; of the product's own `kind` says nothing."""
        return cls.logistic() if parameters == SMALL else cls.wide(parameters, kind)

    @property
    def name(self) -> str:
        """In figures' names."""
        return f"{self.parameters} parameters" + ("" if self.kind == "float64" else f" ({self.kind})")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: so many nodes, a model, what is measured of it, how often, for how many rounds.

    aggregators: how many of the nodes gather for the others; 0: none. bits: of an update's values; 0: as they are
    computed. secure: whether the coordinator sees sums alone.
    """

    nodes: int
    model: Model
    measure: Measure = Measure.PLAIN
    aggregators: int = 0
    bits: int = 0
    secure: bool = False
    runs: int = 1
    rounds: int = 6

    @property
    def name(self) -> str:
        """In figures' names."""
        by = f" by {self.aggregators} aggregators" if self.aggregators else ""
        coded = (f", {self.bits} bits" if self.bits else "") + (", secure sums" if self.secure else "")
        said = {
            Measure.PLAIN: "evaluated at the end",
            Measure.EVALUATED: "evaluated every round",
            Measure.PRIVATE: "private, evaluated at the end",
        }
        return f"{self.nodes} nodes{by}, {self.model.name}{coded}, {said[self.measure]}"

    def aggregator(self, number: int) -> int | None:
        """Which node gathers for a node; None where none does."""
        return number % self.aggregators if self.aggregators and number >= self.aggregators else None

    @property
    def workspaces(self) -> list[str]:
        """One, and of private runs one each: a budget is spent once, and where it was spent there are no plain
        answers. A dataset and its table are named like the workspace."""
        by = f"_by_{self.aggregators}" if self.aggregators else ""
        coded = (f"_in_{self.bits}" if self.bits else "") + ("_secure" if self.secure else "")
        name = f"{self.measure}_{self.nodes}_{self.model.parameters}_{self.model.kind}{by}{coded}"
        return [f"{name}_{run}" for run in range(self.runs)] if self.is_private else [name]

    @property
    def is_private(self) -> bool:
        """Whether a budget is spent."""
        return self.measure is Measure.PRIVATE

    @property
    def options(self) -> str:
        """Of the statement that starts a run."""
        every = 1 if self.measure is Measure.EVALUATED else self.rounds
        coded = f", quantization = {self.bits}" if self.bits else ""
        hidden = ", secure_aggregation = true" if self.secure else ""
        # Hidden updates are rounded to a lattice of this norm.
        bound = ", max_update_norm = 100" if self.secure and self.bits else ""
        return f"validation_frequency = {every}{coded}{hidden}{bound}"


def usual() -> list[Case]:
    """The rows that are measured unless others are asked for."""
    tiny, middle, large = Model.of(SMALL), Model.of(100_000), Model.of(1_000_000)
    plain, evaluated = Measure.PLAIN, Measure.EVALUATED
    cases = [Case(nodes, tiny, measure) for nodes, measure in product((3, 10, 100), Measure)]
    cases += [Case(300, tiny, measure) for measure in (plain, evaluated)]
    cases += [Case(nodes, middle, plain) for nodes in (3, 10, 100)]
    cases += [Case(nodes, large, plain) for nodes in (3, 10, 100)]
    cases += [Case(100, large, plain, bits=8), Case(3, large, evaluated)]
    cases += [Case(100, model, plain, aggregators=10) for model in (tiny, middle, large)]
    return [_often(case) for case in cases]


def chosen(
    *,
    nodes: Iterable[int],
    parameters: Sequence[int],
    kinds: Sequence[str],
    measures: Sequence[Measure],
    bits: Sequence[int],
    aggregators: Sequence[int],
) -> list[Case]:
    """Every combination that there is: wide models have no private rounds, the product's own has few numbers to send
    in fewer bits, and aggregators gather for others than themselves."""
    found = []
    for count, size, kind, measure, coded, by in product(
        nodes, parameters, kinds, measures, bits, aggregators
    ):
        model = Model.of(size, kind)
        case = Case(count, model, measure, by, coded)
        fits = not coded and not (case.is_private and by) if model.part is None else not case.is_private
        if fits and by < count:
            found.append(_often(case))
    return list({case.name: case for case in found}.values())


def _often(case: Case) -> Case:
    """As many runs and rounds as tell something and do not take long."""
    if case.model.part is not None:
        return replace(case, runs=1, rounds=6)
    return replace(case, runs=3 if case.nodes < 100 else 1, rounds=max(5, min(30, 600 // max(case.nodes, 1))))
