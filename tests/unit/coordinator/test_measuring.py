"""A round's figures on their way to the catalog: what is known, what is not, and nothing recorded twice."""

from __future__ import annotations

import pytest

from heliosdb.aggregation import Agreement
from heliosdb.catalog.performance import Measured, RoundPhase
from heliosdb.coordinator.measuring import ExchangeMeter, RoundMeter
from heliosdb.domain.ids import NodeName
from heliosdb.domain.usage import Moment, Usage

A, B, C = (NodeName(name) for name in "abc")


def exchange(*, fresh: bool = True) -> ExchangeMeter:
    """Three nodes were asked; two answered, the third was retried in vain."""
    meter = ExchangeMeter(fresh, began=Moment(10.0, 1.0))
    for node, whole in ((A, Moment(10.5, 1.1)), (B, Moment(11.0, 1.4)), (C, Moment(19.0, 1.9))):
        traffic = meter.count(node)
        traffic.sent, traffic.received, traffic.whole = 100, 50 if node != C else 0, whole
    meter.usage = {A: Usage(2.0, 1.0, 3e8), B: Usage(4.0, 3.5, 2e8)}
    return meter


def test_phases_follow_each_other_and_count_all_that_were_asked() -> None:
    distribution, training = exchange().phases([A, B], Moment(15.0, 2.0))

    assert distribution.phase is RoundPhase.DISTRIBUTION
    assert (distribution.duration_seconds, distribution.cpu_seconds) == pytest.approx((1.0, 0.4))
    assert (distribution.bytes_sent, distribution.bytes_received) == (300, 0)
    assert training.phase is RoundPhase.LOCAL_TRAINING
    assert (training.duration_seconds, training.cpu_seconds, training.busy_seconds) == (4.0, 4.5, 6.0)
    assert training.memory_bytes == 3e8
    assert (training.bytes_sent, training.bytes_received) == (0, 100)


def test_of_an_exchange_that_another_coordinator_began_only_what_the_nodes_say_is_known() -> None:
    distribution, training = exchange(fresh=False).phases([A, B], Moment(15.0, 2.0))

    assert (distribution.duration_seconds, distribution.cpu_seconds, distribution.busy_seconds) == (None,) * 3
    assert training.duration_seconds is None
    assert (training.cpu_seconds, training.busy_seconds) == (4.5, 6.0)


def test_nodes_that_do_not_tell_leave_no_figure() -> None:
    meter = exchange()
    meter.usage = {A: None, B: None}

    _, training = meter.phases([A, B], Moment(15.0, 2.0))

    assert (training.cpu_seconds, training.busy_seconds, training.memory_bytes) == (None,) * 3
    assert training.duration_seconds == 4.0


def test_what_was_measured_is_taken_once() -> None:
    meter, agreement = RoundMeter(), Agreement(0.5, {A: 1.0})
    phases = exchange().phases([A, B], Moment(15.0, 2.0))
    meter.combining_begins(phases)
    meter.compared(agreement)

    assert meter.take() == Measured(phases, agreement)
    assert meter.take() == Measured([])
    closing = meter.finish()
    assert [one.phase for one in closing.phases] == [RoundPhase.AGGREGATION]
    assert closing.agreement == Agreement()


def test_a_round_without_evaluation_is_recorded_at_once() -> None:
    meter, agreement = RoundMeter(), Agreement(0.5, {A: 1.0})
    meter.combining_begins(exchange().phases([A, B], Moment(15.0, 2.0)))
    meter.compared(agreement)

    measured = meter.finish()

    assert [one.phase for one in measured.phases] == list(RoundPhase)
    assert measured.agreement == agreement


def test_an_aggregation_that_began_elsewhere_is_not_known() -> None:
    meter = RoundMeter()
    meter.go_on()
    (unknown,) = meter.finish().phases
    meter.combining_begins([])
    meter.pause()
    meter.go_on()

    assert (unknown.phase, unknown.duration_seconds, unknown.cpu_seconds) == (
        RoundPhase.AGGREGATION,
        None,
        None,
    )
    (known,) = meter.finish().phases
    assert known.duration_seconds > 0  # type: ignore[operator]


def test_combining_several_exchanges_of_a_round_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(Moment(float(second), 0.0) for second in (0, 2, 10, 13))
    monkeypatch.setattr(Moment, "now", lambda: next(now))
    meter = RoundMeter()
    for _ in range(2):
        meter.combining_begins([])
        meter.pause()
    monkeypatch.undo()

    (known,) = meter.finish().phases

    assert known.duration_seconds == 5.0


def test_of_a_round_that_another_coordinator_combined_a_part_of_the_whole_is_not_known() -> None:
    meter = RoundMeter(is_whole=False)
    meter.combining_begins([])

    (unknown,) = meter.finish().phases

    assert unknown.duration_seconds is None
