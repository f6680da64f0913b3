"""What a run resumes from: which committed rows say what, and what transactions leave."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.catalog import performance
from heliosdb.catalog.rounds import Settlement
from heliosdb.coordinator import loading, records
from heliosdb.coordinator.course import ModelState
from heliosdb.coordinator.keeping import Kept, seal_kept
from heliosdb.domain.convergence import Measured
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Figures, Next
from heliosdb.domain.findings import Findings
from heliosdb.domain.ids import Epoch, NodeName, RoundNumber, StepName
from heliosdb.domain.progress import OpenedRound
from heliosdb.domain.run import Outcome, RunStatus
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Scaling
from heliosdb.transport.sealing import AtRestKey
from tests.unit.coordinator.fake_catalog import FIGURES, FakeCatalog
from tests.unit.coordinator.fake_federation import KEY, NOISE, Toy, registered, steps, toy_run

A, B, C = (NodeName(name) for name in "abc")
ALL = frozenset((A, B, C))
FIND, FIND2, MOVE, COUNT, MEASURE = (StepName(name) for name in ("find", "find2", "move", "count", "measure"))
TOY = Toy(steps("find", "find2"), steps("move", "count", "measure"))
RUN = toy_run()
SCALES = Scaling((1.5,), (2.0,))
MODEL = ModelState(make_state(weights=np.array([1.0, 2.0])), make_state(velocity=np.array([3.0])))


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy algorithm."""
    with registered(monkeypatch, TOY):
        yield


def catalog() -> FakeCatalog:
    return FakeCatalog(RUN)


def add(made: FakeCatalog, number: int, *exchanges: tuple[StepName, dict[NodeName, str]]) -> None:
    """A round with its tasks; an outcome is told by its name."""
    made.rows.rounds[number] = {
        "status": "open",
        **dict.fromkeys(FIGURES),
        "message": None,
    }
    for exchange, (step, outcomes) in enumerate(exchanges):
        for node, outcome in outcomes.items():
            weight = 10.0 + exchange if outcome == "received" else None
            made.rows.tasks[number, exchange, step, node] = {
                "outcome": outcome,
                "reason": None,
                "weight": weight,
            }


def close(made: FakeCatalog, number: int, loss: float | None = None) -> None:
    made.rows.rounds[number].update(status="closed", global_loss=loss, global_accuracy=loss)


def keep(made: FakeCatalog, number: int, kept: Kept, key: AtRestKey = KEY, version: int = 0) -> None:
    stored = seal_kept(kept, RUN.id, number, key, version=version)
    made.rows.states[number] = {
        "sealed": stored.sealed,
        "sha256": stored.sha256,
        "memory": stored.memory,
    }


def every(outcome: str) -> dict[NodeName, str]:
    return dict.fromkeys(sorted(ALL), outcome)


def load(made: FakeCatalog) -> loading.Loaded:
    loaded = loading.load(made, RUN.id, KEY)
    assert loaded is not None
    return loaded


def closed_zero() -> FakeCatalog:
    """A run whose round 0 is closed; node c was lost in its second exchange."""
    made = catalog()
    add(made, 0, (FIND, every("received")), (FIND2, {**every("received"), C: "refused"}))
    close(made, 0)
    keep(made, 0, Kept(MODEL))
    made.rows.scaling = json.dumps(Findings(SCALES).scaling_json())
    return made


def test_a_run_that_was_claimed_and_no_more_is_at_its_beginning() -> None:
    loaded = load(catalog())

    assert (loaded.progress.closed, loaded.progress.members, loaded.progress.opened) == (-1, None, None)
    assert (loaded.model, loaded.kept, dict(loaded.stated)) == (None, None, {})


def test_a_run_that_has_ended_is_not_loaded() -> None:
    made = catalog()
    made.rows.status = "stopped"

    assert loading.load(made, RUN.id, KEY) is None


def test_round_zero_at_its_first_exchange_has_heard_nothing() -> None:
    made = catalog()
    add(made, 0, (FIND, every("pending")))

    loaded = load(made)

    assert loaded.progress.opened == OpenedRound(RoundNumber(0), 0, Next(FIND), ALL)
    assert (loaded.kept, dict(loaded.stated_in_opened)) == (None, {})


def test_round_zero_at_its_second_exchange_knows_what_was_found_and_stated_in_the_first() -> None:
    made = catalog()
    add(made, 0, (FIND, {**every("received"), C: "dropped"}), (FIND2, {A: "pending", B: "pending"}))
    keep(made, 0, Kept(ModelState(make_state())), version=1)
    made.rows.scaling = json.dumps(Findings(SCALES).scaling_json())

    loaded = load(made)

    both = frozenset((A, B))
    assert loaded.progress.opened == OpenedRound(RoundNumber(0), 1, Next(FIND2), both, both)
    assert loaded.findings.scaling == SCALES
    assert dict(loaded.stated_in_opened) == {A: 10.0, B: 10.0}
    assert dict(loaded.stated) == {}
    assert loaded.kept is not None


def test_members_and_what_they_stated_are_known_once_round_zero_is_closed() -> None:
    loaded = load(closed_zero())

    assert loaded.progress.members == frozenset((A, B))
    assert dict(loaded.stated) == {A: 10.0, B: 10.0, C: 10.0}
    assert loaded.model is not None
    assert dict(loaded.stated_in_opened) == {}


def test_a_round_at_its_first_exchange_begins_from_the_last_closed_one() -> None:
    made = closed_zero()
    add(made, 1, (MOVE, {A: "pending", B: "pending"}))

    loaded = load(made)

    assert loaded.progress.opened == OpenedRound(RoundNumber(1), 0, Next(MOVE), frozenset((A, B)))
    assert loaded.kept is None
    assert loaded.model is not None
    assert list(loaded.model.memory) == ["velocity"]


def test_a_round_at_a_later_exchange_begins_from_what_that_led_to() -> None:
    made = closed_zero()
    add(
        made,
        1,
        (MOVE, {A: "received", B: "received"}),
        (COUNT, {A: "received", B: "dropped"}),
        (MEASURE, {A: "pending"}),
    )
    heard = make_state(sum=np.array([5], dtype=np.uint64))
    keep(made, 1, Kept(ModelState(make_state(weights=np.array([7.0, 8.0]))), heard, 2), version=2)

    loaded = load(made)

    opened = OpenedRound(RoundNumber(1), 2, Next(MEASURE, required=False), frozenset((A,)), frozenset((A,)))
    assert loaded.progress.opened == opened
    assert loaded.kept is not None
    assert loaded.kept.model.state["weights"].tolist() == [7.0, 8.0]
    assert (loaded.kept.heard["sum"].tolist(), loaded.kept.summed) == ([5], 2)
    assert loaded.model is not None
    assert loaded.model.state["weights"].tolist() == [1.0, 2.0]


def test_an_exchange_that_is_settled_is_not_asked_for_again_where_the_next_has_lost_all_its_nodes() -> None:
    """A node that is unregistered takes its tasks along."""
    made = closed_zero()
    add(made, 1, (MOVE, {B: "refused"}))
    keep(made, 1, Kept(MODEL))

    with pytest.raises(FederatedError, match="were all unregistered") as caught:
        load(made)

    assert caught.value.code is ErrorCode.WRONG_STATE


def test_losses_and_figures_are_those_of_the_closed_rounds() -> None:
    made = closed_zero()
    for number, loss in ((1, 0.5), (2, None), (3, 0.25)):
        add(made, number, (MOVE, {A: "received", B: "received"}))
        close(made, number, loss)
    keep(made, 3, Kept(MODEL))

    progress = load(made).progress

    assert progress.closed == 3
    assert progress.trace == (
        Measured(RoundNumber(1), 0.5, has_base=False),
        Measured(RoundNumber(3), 0.25, has_base=False),
    )
    assert progress.figures == Figures(0.25, 0.25)


def test_version_1_1_kept_nothing_of_round_zero_and_its_runs_go_on() -> None:
    made = closed_zero()
    made.rows.states.clear()
    add(made, 1, (MOVE, {A: "pending", B: "pending"}))

    loaded = load(made)

    assert loaded.model is not None
    assert loaded.model.state["weights"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("number", "exchanges"), [(1, 1), (1, 2), (0, 2)])
def test_what_should_be_kept_and_is_not_there_is_said(number: int, exchanges: int) -> None:
    made = closed_zero() if number else catalog()
    asked = (
        [(MOVE, {A: "received"}), (COUNT, {A: "pending"})]
        if number
        else [(FIND, {A: "received"}), (FIND2, {A: "pending"})]
    )
    add(made, number, *asked[:exchanges])
    if exchanges == 1:
        close(made, number)

    with pytest.raises(FederatedError, match=f"the parameters of round {number} are missing") as caught:
        load(made)

    assert caught.value.code is ErrorCode.INTERNAL


def test_what_another_coordinator_sealed_is_said() -> None:
    made = closed_zero()
    keep(made, 0, Kept(MODEL), AtRestKey(b"o" * 32))

    with pytest.raises(FederatedError) as caught:
        load(made)

    assert caught.value.code is ErrorCode.IDENTITY


# Transactions.

WRITER = records.Writer(Epoch(1), RUN)
PRIVATE = replace(WRITER, run=toy_run(budget=50.0))


def open_first(made: FakeCatalog, writer: records.Writer = WRITER) -> None:
    private = writer.run.policy.budget is not None
    records.open_round(
        made,
        writer,
        RoundNumber(0),
        [A, B, C],
        step=FIND,
        findings=Findings(),
        releases=[(0, FIND, NOISE), (1, FIND2, NOISE)] if private else [],
        clipping_norms={},
        left_out={},
    )


def keep_first(made: FakeCatalog, writer: records.Writer, settled: records.Settled) -> None:
    records.keep_exchange(
        made,
        writer,
        RoundNumber(0),
        settled,
        nodes=[A, B],
        step=FIND2,
        findings=Findings(SCALES),
        sizes={A: 10, B: 20},
        kept=seal_kept(Kept(MODEL), RUN.id, 0, KEY, version=1),
        measured=performance.Measured([]),
    )


def received(*nodes: NodeName) -> list[Settlement]:
    return [Settlement(node, Outcome.RECEIVED, weight=10.0) for node in nodes]


def test_an_exchange_is_kept_whole_or_not_at_all() -> None:
    made = catalog()
    open_first(made)
    before = copy.deepcopy(made.rows)
    made.refuses["insert_event"] = FederatedError(ErrorCode.INTERNAL, "no")

    with pytest.raises(FederatedError):
        keep_first(made, WRITER, records.Settled(0, FIND, received(A, B)))

    assert made.rows == before
    keep_first(made, WRITER, records.Settled(0, FIND, received(A, B)))
    loaded = load(made)
    assert loaded.progress.opened == OpenedRound(
        RoundNumber(0), 1, Next(FIND2), frozenset((A, B)), frozenset((A, B))
    )
    assert loaded.findings.scaling == SCALES
    assert made.rows.sizes == {"a": 10, "b": 20}


def test_a_run_that_is_gone_is_not_written_about() -> None:
    made = catalog()
    made.rows.status = "stopped"

    with pytest.raises(records.RunGoneError):
        open_first(made)

    assert not made.rows.rounds


def test_a_later_term_shuts_out_the_one_before() -> None:
    made = catalog()
    made.epoch = 2

    with pytest.raises(FederatedError) as caught:
        open_first(made)

    assert caught.value.code is ErrorCode.FENCED


def test_whoever_is_asked_nothing_more_has_nothing_reserved_for_later() -> None:
    made = catalog()
    made.run = PRIVATE.run
    open_first(made, PRIVATE)

    settled = records.Settled(0, FIND, received(A, B), unspent=frozenset((C,)), gone=frozenset((C,)))
    keep_first(made, PRIVATE, settled)

    assert {key[3] for key in made.rows.reservations()} == {"a", "b"}
    assert made.rows.reservations()[0, 0, "find", "a"] == "charged"
    assert made.rows.reservations()[0, 1, "find2", "a"] == "reserved"
    assert ("reservation.removed", 0) in made.rows.events


def test_sums_behind_a_line_that_was_taken_back_are_those_without_it() -> None:
    made, alone = catalog(), catalog()
    made.run = alone.run = PRIVATE.run
    open_first(made, PRIVATE)
    open_first(alone, PRIVATE)
    first = min(line["epsilon_tight"] for line in alone.rows.ledger.values())

    # Nobody released anything in the first exchange, but a node may be asked for the second.
    keep_first(made, PRIVATE, records.Settled(0, FIND, [], unspent=ALL))

    [(_, line)] = [(key, one) for key, one in made.rows.ledger.items() if one["key"] == (0, 1, "find2", "a")]
    assert line["epsilon_basic"] == pytest.approx(line["epsilon"])
    assert line["epsilon_tight"] == pytest.approx(first)


def test_a_round_that_was_not_asked_for_leaves_nothing_reserved() -> None:
    made = catalog()
    made.run = PRIVATE.run
    open_first(made, PRIVATE)

    message = records.end_run(
        made,  # type: ignore[arg-type]
        PRIVATE,
        RunStatus.STOPPED,
        "stopped on request",
        number=RoundNumber(0),
        settled=records.Settled(-1, gone=ALL),
        version=None,
    )

    assert message == "stopped on request"
    assert not made.rows.ledger
    assert made.rows.rounds[0]["status"] == "failed"


def test_what_stays_reserved_is_said_at_the_end() -> None:
    made = catalog()
    made.run = PRIVATE.run
    open_first(made, PRIVATE)

    message = records.end_run(
        made,  # type: ignore[arg-type]
        PRIVATE,
        RunStatus.FAILED,
        "it failed",
        number=RoundNumber(0),
        settled=records.Settled(0, FIND, received(A, B), gone=ALL),
        version=None,
    )

    assert message.startswith("it failed (epsilon ")
    assert message.endswith(" stays reserved)")


def test_a_round_is_closed_once() -> None:
    made = catalog()
    open_first(made)

    def shut() -> None:
        records.close_round(
            made,
            WRITER,
            RoundNumber(0),
            records.Settled(0, FIND, received(A, B, C)),
            findings=Findings(SCALES),
            sizes={},
            figures=None,
            kept=seal_kept(Kept(MODEL), RUN.id, 0, KEY),
            keep=RoundNumber(0),
            key=KEY,
            message=None,
            measure=lambda: performance.Measured([]),
        )

    shut()
    with pytest.raises(FederatedError, match="round 0 is not open"):
        shut()
