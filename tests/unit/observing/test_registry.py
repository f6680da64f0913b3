"""Reports become series, and never more of them than there may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from federated_sql.alert_metrics import METRICS as ALERT_METRICS
from heliosdb.observing import observed, table
from heliosdb.observing.metric import Daemon, Kind, Metric, Sample
from heliosdb.observing.registry import MOST_SERIES, MOST_VALUES, PrometheusMeter
from heliosdb.observing.running import CachedReading
from tests.support.scrapes import read_series


async def series(meter: PrometheusMeter) -> dict[str, float]:
    """What a scrape shows."""
    return read_series((await meter.render()).decode())


@pytest.fixture
def meter() -> Iterator[PrometheusMeter]:
    made = PrometheusMeter(Daemon.COORDINATOR)
    observed.turn_on(made)
    yield made
    observed.turn_off()


def of(metric: Metric, found: dict[str, float]) -> dict[str, float]:
    """The series of a metric, by their labels."""
    return {
        name.removeprefix(metric.name): value
        for name, value in found.items()
        if name.startswith(f"{metric.name}{{")
    }


async def test_reports_are_counted(meter: PrometheusMeter) -> None:
    observed.round_closed("w", 0.3)
    observed.round_closed("w", None)
    observed.exchange_ended("w", "train", sent=100, received=50)
    observed.update_lost("w", "rejected", "update_rejected")
    found = await series(meter)
    assert found['heliosdb_coordinator_rounds_total{workspace="w"}'] == 2
    assert found['heliosdb_coordinator_round_duration_seconds_count{workspace="w"}'] == 1
    assert found['heliosdb_coordinator_sent_bytes_total{workspace="w"}'] == 100
    assert found['heliosdb_coordinator_received_bytes_total{workspace="w"}'] == 50
    assert found['heliosdb_coordinator_updates_total{outcome="rejected",workspace="w"}'] == 1
    lost = (
        'heliosdb_coordinator_updates_lost_total{outcome="rejected",reason="update_rejected",workspace="w"}'
    )
    assert found[lost] == 1
    assert any(name.startswith("heliosdb_build_info{") for name in found)
    assert "process_resident_memory_bytes" in found


async def test_a_node_does_not_show_what_its_process_costs() -> None:
    assert not any(name.startswith("process_") for name in await series(PrometheusMeter(Daemon.NODE)))


async def test_what_is_another_daemons_is_not_kept(meter: PrometheusMeter) -> None:
    observed.charged()
    assert not any(name.startswith("heliosdb_node_") for name in await series(meter))


async def test_labels_are_bounded(meter: PrometheusMeter) -> None:
    for number in range(MOST_VALUES + 50):
        observed.round_closed(f"w{number}", None)
    observed.round_closed("a" * 1000, None)
    observed.round_closed("w0", None)
    rounds = of(table.ROUNDS, await series(meter))
    assert len(rounds) == MOST_VALUES + 1
    assert rounds['{workspace="other"}'] == 51
    assert rounds['{workspace="w0"}'] == 2


async def test_sets_of_labels_are_bounded(meter: PrometheusMeter) -> None:
    for number in range(2 * MOST_SERIES):
        observed.exchange_ended(f"w{number % 50}", f"step{number // 50}", sent=1, received=1)
    exchanges = of(table.EXCHANGES, await series(meter))
    assert len(exchanges) == MOST_SERIES + 1
    assert sum(exchanges.values()) == 2 * MOST_SERIES


async def test_nothing_is_kept_where_nobody_listens() -> None:
    observed.round_closed("w", 1.0)
    assert not observed.is_on()


async def test_sampled_metrics_are_what_was_read_last() -> None:
    readings = [[Sample(table.NODE_UP, ("w", "n"), 1.0)], [Sample(table.LEADING, (), 0.0)]]

    async def source() -> Sequence[Sample]:
        return readings.pop(0)

    meter = PrometheusMeter(Daemon.COORDINATOR, [source])
    node = 'heliosdb_workspace_node_up{node="n",workspace="w"}'
    assert (await series(meter))[node] == 1.0
    second = await series(meter)
    assert second["heliosdb_coordinator_leading"] == 0.0
    assert node not in second


async def test_a_reading_is_shown_again_and_a_failed_one_shows_nothing_old() -> None:
    calls, fails = [0], [False]

    async def read() -> Sequence[Sample]:
        calls[0] += 1
        if fails[0]:
            raise OSError("gone")
        return [Sample(table.LEADING, (), 1.0)]

    kept = CachedReading(table.CATALOG_UP, read, 3600.0)
    assert await kept() == await kept() == [Sample(table.CATALOG_UP, (), 1.0), Sample(table.LEADING, (), 1.0)]
    assert calls == [1]
    anew = CachedReading(table.CATALOG_UP, read, 0.0)
    await anew()
    fails[0] = True
    assert await anew() == [Sample(table.CATALOG_UP, (), 0.0)]


def test_names_follow_the_conventions() -> None:
    for metrics in table.METRICS.values():
        assert len({metric.name for metric in metrics}) == len(metrics)
        for metric in metrics:
            assert metric.name.startswith("heliosdb_")
            assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
            assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets)
            assert not {"subject", "user", "model", "text"} & set(metric.labels)
            assert not any(unit in metric.name for unit in ("_ms", "_mb", "_days", "_minutes"))


def test_everything_that_alerts_watch_is_a_metric() -> None:
    assert table.WORKSPACE.keys() == ALERT_METRICS.keys()
    assert len({metric.name for metric, _ in table.WORKSPACE.values()}) == len(ALERT_METRICS)
