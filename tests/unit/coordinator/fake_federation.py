"""A run driven over a fake catalog by nodes that answer at once, refuse, lie or are late; time jumps.

The toy algorithm has as many exchanges as a test wants. What always holds, whatever a test does: nobody is
asked for what is not committed, and a task that is asked again is the same to the byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest

from heliosdb.aggregation.sums import Shape, protocol
from heliosdb.algorithms.steps import Asked, Cost, Taken
from heliosdb.coordinator import loading
from heliosdb.coordinator.directory import Directory, Member
from heliosdb.coordinator.driver import Left, RunDriver, Setting
from heliosdb.coordinator.exchange import Wire
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.absence import Absence
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.handshake import DatasetDescription, Introduction
from heliosdb.domain.ids import DatasetName, Epoch, NodeName, RunId, StepName, WorkspaceName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.run import Run
from heliosdb.domain.settings import NoSettings
from heliosdb.domain.state import NO_STATE, State, make_state, state_to_bytes, with_vector
from heliosdb.domain.task import Privacy, Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.parts.algorithms import ALGORITHMS, ClassifierSettings
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.registry import RegisteredPart, Registry
from heliosdb.parts.strategies import STRATEGIES
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.messages import NodeRefusedError, encode_task, task_sha256
from heliosdb.transport.sealing import AtRestKey, SealingKey
from heliosdb.transport.update_messages import pack_signed_header
from tests.contracts.toy_parts import TOY_MASKS, TOY_MOMENTUM, ToyMomentumSettings
from tests.support.runs import RUN, with_options, with_policy
from tests.support.sums import Site, spoken
from tests.unit.coordinator.fake_catalog import FakeCatalog, Rows

NAMES = ("a", "b", "c")
KEY = AtRestKey(b"k" * 32)
NOISE = Mechanism(40.0)
SIZE = 2


@dataclass(frozen=True)
class ToyStep:
    """Adds what nodes say to the state, or moves it; `then`: what comes next in the round."""

    name: StepName
    then: StepName | None = None
    required: bool = True
    gathers: Literal["sum", "rule"] = "sum"
    finds: bool = False
    measures: bool = False
    refuses: Mapping[str, FederatedError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reports: bool = False

    @property
    def moving(self) -> Sequence[str]:
        return ("weights",) if self.gathers == "rule" else ()

    def ask(self, plan: RunPlan, state: State) -> Asked:
        self._may("ask")
        private = None if plan.run.policy.budget is None else Privacy(NOISE, 1.0)
        return Asked(Work("toy", SIZE, privacy=private), plan.findings.scaling, state)

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        del work
        if plan.round > 0 and update.node not in plan.stated:
            return "it stated nothing in round 0"
        return "it is too large" if np.abs(update.vector).max() > 1e6 else None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        return round(update.weight) if plan.round == 0 else None

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        del plan
        return {"said": float(update.vector[0])} if self.reports or self.finds else None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        self._may("read")
        if self.reports:
            assert isinstance(gathered, Total)
            return Taken(state, report={"sum": float(gathered.vector[0])})
        if isinstance(gathered, Moved):
            return Taken(with_vector(state, self.moving, gathered.parameters), following=self.then)
        findings = None
        if self.finds:
            known = plan.findings.scaling or Scaling((0.0,), (1.0,))
            found = Scaling((*known.means, float(gathered.vector[0])), (*known.scales, 1.0 + gathered.nodes))
            findings = replace(plan.findings, scaling=found)
        elif not self.measures:
            state = make_state(**{**state, "tally": np.array([gathered.vector[0], gathered.weight])})
        figures = Figures(float(gathered.vector[1]), 0.5) if self.measures else None
        return Taken(state, findings, figures, self.then, self.notes)

    def _may(self, act: str) -> None:
        if act in self.refuses:
            raise self.refuses[act]


@dataclass
class Toy:
    """An algorithm of the steps that a test wants, in the order of the exchanges. counts: it learns classes,
    and its first step is asked only where the target's are undeclared."""

    first_round: Sequence[ToyStep]
    later: Sequence[ToyStep]
    name: str = "toy"
    counts: bool = False
    reports: bool = False

    @property
    def steps(self) -> Mapping[StepName, ToyStep]:
        last = [ToyStep(StepName("report"), required=False, reports=True)] if self.reports else []
        return {step.name: step for step in (*self.first_round, *self.later, *last)}

    def prepare(self, plan: RunPlan) -> Findings:
        return plan.findings

    def begin(self, plan: RunPlan) -> State:
        assert plan.findings.scaling is not None
        return make_state(weights=np.array([float(len(plan.findings.scaling.means)), 0.0]))

    def first(self, plan: RunPlan) -> StepName:
        return self._asked(plan)[0].name

    def _asked(self, plan: RunPlan) -> Sequence[ToyStep]:
        if plan.round:
            return self.later
        return self.first_round[int(self.counts and not plan.findings.undeclared_target) :]

    def releases(self, plan: RunPlan) -> Sequence[Cost]:
        if plan.run.policy.budget is None:
            return ()
        return [Cost(step.name, NOISE) for step in self._asked(plan)]

    def predict(self, state: State, findings: Findings) -> Prediction:
        del findings
        return Prediction("toy", {name: array.tolist() for name, array in state.items()})


def steps(*names: str, **changes: Mapping[str, Any]) -> list[ToyStep]:
    """A step for each name, one after the other; `measure…` is optional, `move…` is combined by the rule."""
    made = []
    for name, then in itertools.zip_longest(names, names[1:]):
        step = ToyStep(
            StepName(name),
            None if then is None else StepName(then),
            required=not name.startswith("measure"),
            gathers="rule" if name.startswith("move") else "sum",
            finds=name.startswith("find"),
            measures=name.startswith("measure"),
        )
        made.append(replace(step, **changes.get(name, {})))
    return made


Lie = Callable[[Task], Exception | str | float | None]
"""What goes wrong with a task: None for nothing, an error, `late`: never, `huge`: beyond what may count; a number:
it takes so many seconds."""


def honest(_task: Task) -> None:
    """Answer."""


@dataclass
class FakeNode:
    """A node in place of its client. kept: what the sum protocol keeps, by round and step; said: by task."""

    world: FakeWorld
    name: NodeName
    lie: Lie = honest
    kept: dict[tuple[int, str], State] = field(default_factory=dict)
    said: dict[object, AnyVector] = field(default_factory=dict)

    async def perform(
        self,
        task: Task,
        sealing: SealingKey,
        _timeout: float,
        *,
        expected: Shape,
        private: bool,
        traffic: object,
        state: object,
        admit: object,
        traceparent: object = None,
    ) -> OpenedUpdate:
        """As `NodeClient.perform`."""
        del sealing, traffic, state, admit, traceparent
        self.world.is_asked(task)
        await self.world.tick()
        if self.world.is_away(self.name):
            raise FederatedError(ErrorCode.UNREACHABLE, "connection lost")
        wrong = self.lie(task)
        if isinstance(wrong, Exception):
            raise wrong
        if isinstance(wrong, float):
            await asyncio.sleep(wrong)
        if wrong == "late":
            await asyncio.get_running_loop().create_future()
        weight = 1.0 if task.work.privacy is not None else 10.0 + ord(self.name)
        if task.key not in self.said:
            self.said[task.key] = self._answer(task, weight, 1e9 if wrong == "huge" else 1.0)
        vector = self.said[task.key]
        assert (vector.size, vector.dtype.name) == (expected.size, expected.dtype.value)
        await self.world.tick()
        mechanism = NOISE if private else None
        return OpenedUpdate(
            task.key,
            vector,
            weight,
            mechanism,
            Spending(0.1, 0.1) if private else None,
            1,
            1,
            None,
            pack_signed_header(b"header of " + self.name.encode(), b"signature"),
        )

    async def forget(
        self, _workspace: WorkspaceName, _node: NodeName, ended: frozenset[RunId], _: float
    ) -> None:
        """As `NodeClient.forget`."""
        self.world.farewells.append(ended)

    def _answer(self, task: Task, weight: float, factor: float) -> AnyVector:
        seen = hashlib.sha256(repr((task.key.round, task.key.exchange, self.name)).encode())
        seen.update(state_to_bytes(task.state))
        vector: Vector = np.frombuffer(seen.digest()[:SIZE], np.uint8).astype(np.float64) * (factor / 256.0)
        summing = task.work.summing
        sums = protocol(summing.protocol)
        if sums.is_open:
            return vector
        place, carries = (task.key.round, task.key.step), summing.stage == "masked"
        weighted = task.key.step.startswith("move")
        summand = np.append(vector * (weight if weighted else 1.0), weight) if carries else None
        before = NO_STATE if summing.stage == "advertise" else self.kept[place]
        site = Site(str(task.key.node))
        answer, self.kept[place] = spoken(
            sums, summing.stage, task.key, summing.note, summand, before, site=site
        )
        return answer


@dataclass
class FakeWorld:
    """The catalog, the nodes, and the life of the coordinator that drives the run.

    asked: in their order, round, exchange and node. states: of the tasks, by round and exchange. calls: what was committed, and by which function.
    stop_at, kill_at: after so many ticks (a call of the database or of a node, before and after) somebody
    types STOP, or the coordinator is gone. gives_way: a life has but one turn.
    """

    run: Run
    catalog: FakeCatalog = field(init=False)
    nodes: dict[NodeName, FakeNode] = field(init=False)
    asked: list[tuple[int, int, str]] = field(default_factory=list)
    states: dict[tuple[int, int], State] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    seen: dict[object, bytes] = field(default_factory=dict)
    farewells: list[frozenset[RunId]] = field(default_factory=list)
    ticks: int = 0
    kill_at: int | None = None
    kill_on: tuple[int, int] | None = None
    stop_on: Callable[[str], bool] | None = None
    leaving: tuple[tuple[int, int], tuple[str, ...], float] | None = None
    away: dict[str, float] = field(default_factory=dict)
    lived: float = 0.0
    gives_way: bool = False
    driver: RunDriver | None = None
    driving: asyncio.Task[Left] | None = None

    def __post_init__(self) -> None:
        self.catalog = FakeCatalog(self.run)
        self.nodes = {NodeName(name): FakeNode(self, NodeName(name)) for name in NAMES}

    @property
    def rows(self) -> Rows:
        """What is committed."""
        return self.catalog.rows

    async def tick(self) -> None:
        """One more thing has happened."""
        self.ticks += 1
        if self.ticks == self.kill_at and self.driving is not None:
            self.driving.cancel()
        await asyncio.sleep(0)

    def is_asked(self, task: Task) -> None:
        """Nobody is asked for what is not committed, or for another task than before."""
        key = task.key
        assert (key.round, key.exchange, key.step, key.node) in self.rows.tasks
        if task.work.privacy is not None and task.work.summing.stage != "advertise":
            assert any(line[0] == key.round for line in self.rows.reservations())
        header, body = encode_task(task, b"k" * 32)
        sha256 = task_sha256(header) + hashlib.sha256(body).digest()
        assert self.seen.setdefault(key, sha256) == sha256
        self.asked.append((key.round, key.exchange, key.node))
        self.states[key.round, key.exchange] = task.state
        if self.leaving is not None and self.leaving[0] == (key.round, key.exchange):
            until = self.now + self.leaving[2]
            self.away, self.leaving = dict.fromkeys(self.leaving[1], until), None
        if self.kill_on == (key.round, key.exchange) and self.driving is not None:
            self.kill_on = None
            self.driving.cancel()

    def kill_when(self, number: int, exchange: int) -> None:
        """Kill the coordinator once it asks for this exchange."""
        self.kill_on = number, exchange

    def leave_when(self, number: int, exchange: int, *names: str, seconds: float) -> None:
        """Have nodes go away once somebody is asked for this exchange, for so long."""
        self.leaving = (number, exchange), names, seconds

    def is_away(self, name: str) -> bool:
        """Whether a node is away now."""
        return self.now < self.away.get(name, -1.0)

    @property
    def now(self) -> float:
        """Seconds over all lives: each has a clock of its own."""
        return self.lived + asyncio.get_running_loop().time()

    # As the directory.

    def is_settled(self) -> bool:
        return True

    async def greet_again(self, _workspace: WorkspaceName) -> None:
        pass

    async def wait_for_change(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def look(self, _workspace: WorkspaceName) -> tuple[list[Member], list[Absence]]:
        away = [name for name in self.nodes if self.is_away(name)]
        there = [self._member(name) for name in self.nodes if name not in away]
        return there, [Absence(name, "away") for name in away]

    def find(self, _workspace: WorkspaceName, node: NodeName) -> Member | None:
        return self._member(node) if node in self.nodes and not self.is_away(node) else None

    def is_registered(self, _workspace: WorkspaceName, node: NodeName) -> bool:
        return node in self.nodes

    def reason(self, _workspace: WorkspaceName, _node: NodeName) -> str:
        return "away"

    def _member(self, name: NodeName) -> Member:
        columns = (*self.run.options.features, self.run.options.target)
        shared = DatasetDescription(DatasetName("d"), columns, ("integer",) * len(columns))
        record = SimpleNamespace(name=name, dataset=None)
        return Member(cast(Any, record), cast(Any, self.nodes[name]), Introduction((shared,)))

    # As the session.

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        name = function.__name__
        await self.tick()
        found = function(self.catalog, *args, **kwargs)
        self.calls.append(name)
        if self.stop_on is not None and self.stop_on(name):
            self.stop_on, self.rows.stop_requested = None, True
            assert self.driver is not None
            self.driver.request_stop()
        await self.tick()
        return found

    # Lives.

    def live(self) -> None:
        """One life of the coordinator: until the run has ended, or it is killed."""
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(self._live())
            self.lived += runner.get_loop().time()

    def live_on(self, *, most: int = 3) -> Rows:
        """As many lives as it takes; returns what the run left."""
        for _ in range(most):
            self.live()
            if self.rows.status != "running":
                return self.rows
        raise AssertionError("the run did not end")

    async def _live(self) -> None:
        loaded = loading.load(self.catalog, self.run.id, KEY)
        assert loaded is not None
        wire = Wire(cast(Directory, self), SealingKey.generate(), asyncio.Semaphore(8))
        self.driver = RunDriver(Setting(Epoch(1), wire, KEY), cast(CatalogSession, self), loaded)
        if self.gives_way:
            self.driver.give_way()
        self.driving = asyncio.create_task(self.driver.drive())
        await asyncio.wait({self.driving})
        if not self.driving.cancelled():
            self.driving.result()


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is something to do, and else jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        """What the clock shows."""
        return self._now

    def _run_once(self) -> None:
        scheduled = [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, min(timer.when() for timer in scheduled))
        super()._run_once()  # type: ignore[misc]


async def at_once(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In place of a thread: the clock would jump while it works."""
    return function(*args, **kwargs)


@contextmanager
def registered(patch: pytest.MonkeyPatch, toy: Toy) -> Iterator[None]:
    """The toys, while a test runs."""
    with patch.context() as context:
        context.setattr(asyncio, "to_thread", at_once)
        settings = ClassifierSettings if toy.counts else NoSettings
        _register(context, ALGORITHMS, RegisteredPart("toy", toy, settings))
        _register(context, STRATEGIES, RegisteredPart("toy_momentum", TOY_MOMENTUM, ToyMomentumSettings))
        _register(context, PROTOCOLS, RegisteredPart("toy_masks", TOY_MASKS))
        yield


def _register(patch: pytest.MonkeyPatch, registry: Registry, entry: RegisteredPart) -> None:
    patch.setitem(registry._entries, entry.name, entry)
    patch.setitem(registry._loaded, entry.name, entry.part)


def toy_run(*, masked: bool = False, budget: float | None = None, **options: Any) -> Run:
    """A run of the toy algorithm with three nodes, of which two are enough."""
    given = {"algorithm": "toy", "rounds": 2, "convergence_threshold": None, "early_stopping_rounds": None}
    # What the toy measures says nothing of how good it is.
    given["keep_best"] = False
    if masked:
        given |= {"secure_aggregation": True, "aggregation_protocol": "toy_masks"}
    run = with_options(RUN, **(given | options))
    return with_policy(run, privacy_budget=budget, round_timeout=60.0, stragglers_timeout=20.0)


def refusal(task: Task, code: ErrorCode = ErrorCode.UNDEFINED_COLUMN) -> NodeRefusedError:
    """A node's word that it does not answer."""
    return NodeRefusedError(task.key.node, code, "no", detail=None, hint=None)


def unsent() -> UnsentError:
    """Nobody is listening there."""
    return UnsentError(ErrorCode.UNREACHABLE, "connection refused")
