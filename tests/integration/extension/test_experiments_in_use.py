"""Experiments in use: predictions that follow them, what nobody may write, drops beside calls, calls that fold."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, LiteralString

import numpy as np
import psycopg
import pytest
from psycopg import errors
from scipy import stats

from federated_sql import rewrite
from tests.integration.extension.test_experiments import EVEN, arms_of, report, results
from tests.integration.extension.versions_support import execute, finish_run, value
from tests.support.cluster import Cluster

ARM = "INSERT INTO federated.experiment_arm (experiment_id, model_id, place, name, version, share) SELECT experiment_id, model_id, "
WRITES: tuple[LiteralString, ...] = (
    ARM + "3, '3', 3, 0.5 FROM federated.experiment",
    "UPDATE federated.experiment_arm SET share = 0.4",
    "UPDATE federated.experiment_arm SET version = 3 - version",
    "UPDATE federated.experiment_arm SET place = 3 - place",
    "UPDATE federated.experiment SET name = 'other'",
    "UPDATE federated.experiment SET experiment_id = gen_random_uuid()",
    "DELETE FROM federated.experiment_arm WHERE place = 2",
    "DELETE FROM federated.experiment_call",
    "INSERT INTO federated.experiment_call SELECT experiment_id, sha256('a'), 1, 0 FROM federated.experiment",
)
HALVES: tuple[tuple[LiteralString, str], ...] = (
    (ARM + "1, '1', 1, 0.5 FROM federated.experiment", "two versions at least"),
    (ARM + "v, v::text, v, 0.4 FROM federated.experiment, generate_series(1, 2) AS v", "add up to 1"),
    (ARM + "v + 1, v::text, v, 0.5 FROM federated.experiment, generate_series(1, 2) AS v", "counted from 1"),
)


def test_nobody_adds_or_changes_an_arm_past_the_statement(
    trained: psycopg.Connection,
    daemon: psycopg.Connection,
    operator: psycopg.Connection,
    cluster: Cluster,
    federated_database: str,
) -> None:
    execute(operator, EVEN)
    operator.execute("SELECT federated_predict_experiment('ab', 'k')")
    finish_run(trained, daemon, intercept=2.0)
    kept = trained.execute("SELECT * FROM federated.experiment_arm ORDER BY place").fetchall()
    for user in ("an_operator", "an_admin", "an_analyst", "an_auditor", "heliosdb_daemon"):
        with cluster.connect(federated_database, user=user) as session:
            for write in WRITES:
                with pytest.raises((errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState)):
                    session.execute(write)
    assert trained.execute("SELECT * FROM federated.experiment_arm ORDER BY place").fetchall() == kept
    execute(operator, "DROP FEDERATED EXPERIMENT ab")
    operator.execute(
        "INSERT INTO federated.experiment (model_id, name) SELECT model_id, 'ab' FROM federated.model"
    )
    for write, message in HALVES:
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match=message):
            operator.execute(write)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="has no versions"):
        operator.execute("SELECT federated_predict_experiment('ab', 'k')")


def waits(session: psycopg.Connection, other: psycopg.Connection) -> None:
    """Return once the other session waits for a lock."""
    asked = f"wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {other.info.backend_pid}"
    deadline = monotonic() + 60
    while not value(session, asked):
        assert monotonic() < deadline, "the other session does not wait"


@pytest.mark.parametrize(
    "call",
    [
        "SELECT federated_predict_experiment('ab', 'k')",
        "SELECT federated_report_outcome('ab', 'k', 1)",
    ],
)
def test_a_call_beside_a_drop_finds_the_experiment_or_does_not(
    trained: psycopg.Connection,
    operator: psycopg.Connection,
    cluster: Cluster,
    federated_database: str,
    call: LiteralString,
) -> None:
    execute(operator, EVEN)
    operator.execute("SELECT federated_predict_experiment('ab', 'k')")
    with cluster.connect(federated_database, user="an_analyst") as analyst, ThreadPoolExecutor(1) as threads:
        with operator.transaction():
            execute(operator, "DROP FEDERATED EXPERIMENT ab")
            asked = threads.submit(analyst.execute, call)
            waits(trained, analyst)
        with pytest.raises(errors.UndefinedObject, match='federated experiment "ab" does not exist'):
            asked.result(60)
        execute(operator, EVEN)
        operator.execute("SELECT federated_predict_experiment('ab', 'k')")
        with analyst.transaction():
            analyst.execute(call)
            dropped = threads.submit(execute, operator, "DROP FEDERATED EXPERIMENT ab")
            waits(trained, operator)
        dropped.result(60)
    assert value(trained, "count(*) FROM federated.experiment_call") == 0


def rewritten(text: str) -> LiteralString:
    """Return a statement as the proxy sends it."""
    changed = rewrite(text)
    assert changed is not None
    return changed.text  # type: ignore[return-value]


FOLLOW = "SELECT federated_predict('risk', '{\"age\": 10, \"smoker\": false}', experiment => 'ab', experiment_key => %s)"
BATCH = (
    "SELECT id, prediction FROM federated_predict_batch('risk',"
    " 'SELECT ''k'' || g AS id, 10 AS age, false AS smoker FROM generate_series(1, 5000) AS g',"
    " experiment => 'ab', experiment_key => 'id') AS (id text, age integer, smoker boolean, prediction float8)"
)


def test_a_prediction_follows_the_experiment_that_it_names_and_a_query_s_as_each_of_its_rows(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, EVEN)
    served = {f"k{number}": 0 for number in range(1, 5001)} | arms_of(operator, 5000)
    scores = {1: 5.25, 2: 6.25}
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        for key in ("k1", "k2", "k3"):
            assert analyst.execute(FOLLOW, [key]).fetchone() == (scores[served[key]],)
        found = analyst.execute(BATCH).fetchall()
        assert found == [(key, scores[version]) for key, version in served.items()]
        assert sum(row["calls"] for row in results(analyst)) == 5003
        assert sum(row["keys"] for row in results(analyst)) == 5000
        analyst.execute("CREATE TEMP TABLE p AS SELECT 'k1' AS id, 10 AS age, false AS smoker, now() AS seen")
        for features in ("p", "age => p.age, smoker => p.smoker"):
            typed = f"SELECT federated_predict('risk', {features}, experiment => 'ab', experiment_key => p.id) FROM p"
            with analyst.transaction(force_rollback=True):
                assert analyst.execute(rewritten(typed)).fetchall() == [(scores[served["k1"]],)]
        arm = "(federated_experiment_arm('ab', 'k1')).version"
        assert (
            value(analyst, f"federated_predict('risk@' || {arm}, '{{\"age\": 10}}')")
            == scores[served["k1"]] + 1
        )
        with analyst.transaction(force_rollback=True):
            analyst.execute(BATCH)
        assert sum(row["calls"] for row in results(analyst)) == 5003
    recorded = dict(
        trained.execute(
            "SELECT place, count(*) FROM federated.experiment_call WHERE score = 4.25 + place GROUP BY place"
        ).fetchall()
    )
    assert recorded == {row["version"]: row["calls"] for row in results(operator)}


BAD_FOLLOWERS: list[tuple[str, type[psycopg.Error], str]] = [
    ("federated_predict('risk@1', '{}', 'ab', 'k')", errors.InvalidParameterValue, 'of "risk", not of "risk@1"'),
    ("federated_predict(NULL, '{}', 'ab', 'k')", errors.InvalidParameterValue, 'compares versions of "risk"'),
    ("federated_predict('risk', '{}', 'none', 'k')", errors.UndefinedObject, '"none" does not exist'),
    ("federated_predict('risk', '{}', NULL, 'k')", errors.NullValueNotAllowed, "name"),
    ("federated_predict('risk', '{}', 'ab', NULL)", errors.NullValueNotAllowed, "key must not be null"),
    ("federated_predict('risk', '{\"height\": 1}', 'ab', 'k')", errors.UndefinedColumn, 'no feature "height"'),
    ("federated_predict_batch('risk', 'SELECT 1 AS age', 'ab', 'id') AS (age int, p float8)",
     errors.UndefinedColumn, 'no column "id"'),
    ("federated_predict_batch('risk', 'SELECT 1 AS age', 'ab', NULL) AS (age int, p float8)",
     errors.UndefinedColumn, "no column"),
    ("federated_predict_batch('risk', 'SELECT 1 AS id', 'ab', 'id') AS (id int, p float8)",
     errors.UndefinedColumn, "no column that is a feature"),
    ("federated_predict_batch('risk', 'SELECT NULL AS id, 1 AS age', 'ab', 'id') AS (id text, age int, p float8)",
     errors.NullValueNotAllowed, "key must not be null"),
    ("federated_predict_batch('risk', NULL, 'ab', 'id') AS (id text, age int, p float8)",
     errors.NullValueNotAllowed, "query must not be null"),
]  # fmt: skip


def test_a_follower_s_bad_input_has_one_clear_error_and_leaves_nothing(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, EVEN)
    for call, error, message in BAD_FOLLOWERS:
        with pytest.raises(error, match=message):
            operator.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]
    trained.execute(
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA federated_model, federated_row FROM federated_analyst"
    )
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        for call in (FOLLOW.replace("%s", "'k'"), BATCH):
            with pytest.raises(errors.InsufficientPrivilege):
                analyst.execute(call)  # type: ignore[arg-type]
    assert value(trained, "count(*) FROM federated.experiment_call") == 0


PARTS: tuple[LiteralString, ...] = ("< 100", ">= 100")
COUNTS = ("version", "share", "calls", "keys", "outcomes")
FIGURES = ("mean_outcome", "std_error", "difference", "conf_low", "conf_high", "brier_score")


def grown_old(session: psycopg.Connection, part: LiteralString = ">= 0") -> None:
    """Make calls of the keys whose hash starts so, but the very last one, and what was reported of them, 31 days older."""
    hashed: LiteralString = f" WHERE get_byte(key_sha256, 0) {part}"
    session.execute(
        "UPDATE federated.experiment_call SET called_at = called_at - interval '31 days'"
        + hashed
        + " AND called_at < (SELECT max(called_at) FROM federated.experiment_call)"
    )
    session.execute(
        "UPDATE federated.experiment_outcome SET reported_at = reported_at - interval '31 days'" + hashed
    )


def _outcomes(kind: str, served: dict[str, int]) -> dict[str, float]:
    draw = np.random.default_rng(4)
    made: dict[str, Callable[[int], float]] = {
        "binary": lambda _: float(draw.integers(0, 2)),
        "equal": lambda _: 0.1,
        "each": lambda version: 0.1 * version,
        "1e12": lambda _: 1e12 + float(draw.normal()) / 100,
        "1e15": lambda _: 1e15 + float(draw.integers(0, 3)),
    }
    return {key: made[kind](version) for key, version in served.items()}


@pytest.mark.parametrize("kind", ["binary", "equal", "each", "1e12", "1e15"])
def test_what_is_older_than_keep_days_folds_into_sums_that_tell_the_same(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection, kind: str
) -> None:
    execute(operator, EVEN + " WITH (keep_days = 30)")
    served = arms_of(operator, 200)
    outcomes = _outcomes(kind, served)
    report(operator, outcomes)
    operator.execute(FOLLOW, ["k1"])
    groups = [np.array([outcomes[key] for key in served if served[key] == version]) for version in (1, 2)]
    before = results(operator)
    compares_as_scipy(before, groups)
    assert value(daemon, "federated._fold_experiments('clinics')") == 0
    for part in PARTS:
        # Of key k1 the last call is a recent one.
        grown_old(trained, part)
        trained.execute("UPDATE federated.workspace SET options = options || '{\"legal_hold\": true}'")
        assert value(daemon, "federated._fold_experiments('clinics')") == 0
        trained.execute("UPDATE federated.workspace SET options = options - 'legal_hold'")
        assert value(daemon, "federated._fold_experiments('clinics')") > 20
        now = results(operator)
        compares_as_scipy(now, groups)
        for row, was in zip(now, before, strict=True):
            assert (row["arm"], *map(row.get, COUNTS)) == (was["arm"], *map(was.get, COUNTS))
            for figure in FIGURES:
                assert row[figure] == (was[figure] and pytest.approx(was[figure], rel=1e-9))
    assert value(trained, "count(*) FROM federated.experiment_call") == 1
    assert value(trained, "count(*) FROM federated.experiment_outcome") == 1
    with pytest.raises(errors.UndefinedObject, match="has not served this key"):
        operator.execute("SELECT federated_report_outcome('ab', 'k2', 1)")
    execute(operator, "DROP FEDERATED EXPERIMENT ab")
    assert value(
        trained,
        "sum((details #>> '{after,outcomes}')::integer) FROM federated.audit WHERE object_kind = 'experiment_arm'",
    ) == len(outcomes)


def compares_as_scipy(rows: list[dict[str, Any]], groups: list[np.ndarray]) -> None:
    """Check an experiment's figures. scipy is given how far outcomes are above the lowest: exact, as large ones are not."""
    lowest = min(group.min() for group in groups)
    first, second = (group - lowest for group in groups)
    for row, group, above in zip(rows, groups, (first, second), strict=True):
        assert row["mean_outcome"] == pytest.approx(lowest + above.mean(), rel=1e-15)
        if group.min() == group.max():
            assert (row["mean_outcome"], row["std_error"]) == (group[0], None)
        else:
            assert row["std_error"] == pytest.approx(stats.sem(above), rel=1e-9)
    told = rows[1]["difference"], rows[1]["conf_low"], rows[1]["conf_high"]
    if np.ptp(first) == np.ptp(second) == 0:
        assert told == (second[0] - first[0], None, None)
        return
    interval = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert told == pytest.approx((second.mean() - first.mean(), interval.low, interval.high), rel=1e-9)


def test_a_perfect_score_has_a_brier_score_of_0(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    for intercept in (800.0, 801.0):
        finish_run(trained, daemon, intercept=intercept, link="logistic")
    execute(operator, "CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS ('3' => 0.5, '4' => 0.5)")
    report(operator, dict.fromkeys((f"k{number}" for number in range(20)), 1.0))
    assert [row["brier_score"] for row in results(operator)] == [0.0, 0.0]


def test_a_report_beside_a_fold_counts_once_and_a_key_that_returns_after_it_is_another_one(
    trained: psycopg.Connection,
    daemon: psycopg.Connection,
    operator: psycopg.Connection,
    cluster: Cluster,
    federated_database: str,
) -> None:
    execute(operator, EVEN + " WITH (keep_days = 30)")
    served = arms_of(operator, 20)
    older, younger, last = [key for key in served if served[key] == 1][:3]
    fold, again = "federated._fold_experiments('clinics')", "SELECT federated_report_outcome('ab', %s, 0)"

    def told() -> tuple[int, int, float]:
        row = results(operator)[0]
        return row["keys"], row["outcomes"], row["mean_outcome"]

    report(operator, {older: 1.0, younger: 1.0})
    for key in (younger, last):
        operator.execute(FOLLOW, [key])
    grown_old(trained)
    with cluster.connect(federated_database, user="an_analyst") as analyst, ThreadPoolExecutor(1) as threads:
        with analyst.transaction():
            analyst.execute(again, [younger])
            assert value(daemon, fold) == 2  # of the older key
        assert told() == (3, 2, 0.5)
        assert value(daemon, fold) == 3  # two calls and what was reported now
        assert told() == (3, 2, 0.5)
        report(operator, {younger: 3.5})
        assert told() == (4, 3, 1.5)
        operator.execute(FOLLOW, [last])
        grown_old(trained)
        with daemon.transaction():
            value(daemon, fold)
            asked = threads.submit(analyst.execute, again, [younger])
            waits(trained, analyst)
        with pytest.raises(errors.UndefinedObject, match="has not served this key"):
            asked.result(60)
    assert told() == (4, 3, 1.5)


def test_what_records_asks_for_the_right_to_the_model_by_itself(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, EVEN)
    subject = value(trained, "experiment_id FROM federated.experiment")
    operator.execute("SELECT federated_predict_experiment('ab', 'a')")
    trained.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA federated_model FROM federated_analyst")
    calls = (
        "SELECT federated._record_calls(%s, 'ab', ARRAY['a', 'b'], ARRAY[0.5, 0.5])",
        "SELECT federated._record_outcome(%s, 'ab', 'a', 1)",
        # Whether a key was served is not told either.
        "SELECT federated._record_outcome(%s, 'ab', 'never', 1)",
    )
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        for call in calls:
            with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function"):
                analyst.execute(call, [subject])
    trained.execute("SET ROLE an_analyst")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function"):
        trained.execute(calls[0], [subject])
    trained.execute("RESET ROLE")
    assert [(row["calls"], row["outcomes"]) for row in results(operator)].count((0, 0)) == 1
    assert sum(row["calls"] + row["outcomes"] for row in results(operator)) == 1
