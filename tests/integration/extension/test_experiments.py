"""Experiments: keys divided among pinned versions, calls counted, outcomes compared as statistics packages do."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row
from scipy import stats

from tests.integration.extension.versions_support import execute, finish_run, notices_of, value
from tests.support.cluster import Cluster

CREATE = "CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS ('old' => 0.9, '2' => 0.1)"
EVEN = "CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS ('1' => 0.5, '2' => 0.5)"
ASK = "SELECT * FROM federated_predict_experiment('ab', %s, '{\"age\": 10, \"smoker\": false}')"
KEYS = "'k' || g FROM generate_series(1, %s) AS g"
RETIRE = (
    "UPDATE federated.version SET retired_at = now(), retired_by = gen_random_uuid(), is_current = false,"
    " prediction = NULL WHERE version = 1"
)


def results(session: psycopg.Connection) -> list[dict[str, Any]]:
    """Return how the experiment stands, a row an arm."""
    with session.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM federated_experiment('ab')").fetchall()


def report(session: psycopg.Connection, outcomes: dict[str, float]) -> None:
    """Ask for each key, and report what came of it."""
    session.execute(
        "SELECT federated_predict_experiment('ab', key, '{\"age\": 10}') FROM unnest(%s::text[]) AS k (key)",
        [list(outcomes)],
    )
    session.execute(
        "SELECT federated_report_outcome('ab', key, outcome) FROM unnest(%s::text[], %s::float8[]) AS k (key, outcome)",
        [list(outcomes), list(outcomes.values())],
    )


def arms_of(session: psycopg.Connection, count: int) -> dict[str, int]:
    """Return which version serves each of so many keys."""
    found = session.execute(
        "SELECT 'k' || g, (federated_experiment_arm('ab', 'k' || g)).version FROM generate_series(1, %s) AS g",
        [count],
    )
    return dict(found.fetchall())


def test_a_key_has_one_arm_in_every_session_and_arms_have_their_shares(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'old'", CREATE)
    served = arms_of(operator, 2000)
    counts = [sum(1 for version in served.values() if version == number) for number in (1, 2)]
    assert stats.chisquare(counts, [1800, 200]).pvalue > 1e-6
    # The tag names another version from now on: the experiment does not follow.
    execute(operator, "TAG FEDERATED MODEL risk VERSION 2 AS 'old' REPLACE")
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        assert arms_of(analyst, 2000) == served
        scores = {1: 5.25, 2: 6.25}
        of_old, of_new = (next(key for key, version in served.items() if version == one) for one in (1, 2))
        for key in (of_old, of_new, of_new):
            label = {1: "old", 2: "2"}[served[key]]
            assert analyst.execute(ASK, [key]).fetchall() == [(scores[served[key]], label, served[key])]
        assert [
            (row["arm"], row["version"], row["share"], row["calls"], row["keys"]) for row in results(analyst)
        ] == [
            ("old", 1, 0.9, 1, 1),
            ("2", 2, 0.1, 2, 1),
        ]
        assert analyst.execute(
            "SELECT experiment_name, workspace_name, model_name, arms, created_by FROM federated_experiments"
        ).fetchall() == [
            (
                "ab",
                "clinics",
                "risk",
                [
                    {"arm": "old", "share": 0.9, "version": 1},
                    {"arm": "2", "share": 0.1, "version": 2},
                ],
                "an_operator",
            )
        ]
    assert value(trained, "bool_and(c::text NOT LIKE '%k1%') FROM federated.experiment_call AS c")


def test_a_key_s_arm_follows_from_the_id_and_the_key(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, EVEN)
    trained.execute("DELETE FROM federated.experiment")
    trained.execute(
        "INSERT INTO federated.experiment (experiment_id, model_id, name)"
        " SELECT '6a61f4f0-4d3c-4b1e-9a53-0c2f7b1c8d21', model_id, 'ab' FROM federated.model"
    )
    trained.execute(
        "INSERT INTO federated.experiment_arm (experiment_id, model_id, place, name, version, share)"
        " SELECT experiment_id, model_id, v, v::text, v, 0.5 FROM federated.experiment, generate_series(1, 2) AS v"
    )
    salt = UUID("6a61f4f0-4d3c-4b1e-9a53-0c2f7b1c8d21").bytes
    keys = [f"k{number}" for number in range(1, 65)]
    expected = {key: 1 if sha256(salt + key.encode()).digest()[0] < 128 else 2 for key in keys}
    assert arms_of(operator, 64) == expected


def test_differences_and_intervals_are_those_of_scipy(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    finish_run(trained, daemon, intercept=-3.0, link="logistic")
    execute(
        operator,
        "CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS ('1' => 0.5, '2' => 0.3, '3' => 0.2)",
    )
    served, draw = arms_of(operator, 300), np.random.default_rng(4)
    outcomes = {
        key: float(draw.integers(0, 2)) if version == 3 else float(draw.normal(version, 2 * version))
        for key, version in served.items()
    }
    report(operator, outcomes)
    groups = {
        number: np.array([outcomes[key] for key, version in served.items() if version == number])
        for number in (1, 2, 3)
    }
    rows = results(operator)
    for number, row in enumerate(rows, 1):
        group = groups[number]
        assert (row["calls"], row["keys"], row["outcomes"]) == (len(group),) * 3
        assert row["mean_outcome"] == pytest.approx(group.mean(), rel=1e-12)
        assert row["std_error"] == pytest.approx(stats.sem(group), rel=1e-12)
        if number == 1:
            assert row["difference"] is row["conf_low"] is row["conf_high"] is None
            continue
        interval = stats.ttest_ind(group, groups[1], equal_var=False).confidence_interval(0.95)
        assert row["difference"] == pytest.approx(group.mean() - groups[1].mean(), rel=1e-12)
        assert (row["conf_low"], row["conf_high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
    score = value(operator, "federated_predict('risk@3', '{\"age\": 10}')")
    assert [row["brier_score"] for row in rows[:2]] == [None, None]
    assert rows[2]["brier_score"] == pytest.approx(((groups[3] - score) ** 2).mean(), rel=1e-12)


def test_what_few_or_equal_outcomes_cannot_tell_is_null(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, EVEN)
    figures = ("outcomes", "mean_outcome", "std_error", "difference", "conf_low", "conf_high", "brier_score")

    def told() -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in figures) for row in results(operator)]

    nothing = (0, None, None, None, None, None, None)
    assert told() == [nothing, nothing]
    served = arms_of(operator, 40)
    first, second = ([key for key, version in served.items() if version == number] for number in (1, 2))
    report(operator, {first[0]: 3.0})
    assert told() == [(1, 3.0, None, None, None, None, None), nothing]
    report(operator, {first[1]: 3.0, second[0]: 4.0})
    assert told() == [(2, 3.0, None, None, None, None, None), (1, 4.0, None, 1.0, None, None, None)]
    report(operator, {second[1]: 4.0})
    assert told()[1] == (2, 4.0, None, 1.0, None, None, None)
    # The last report of a key counts, and a retry changes nothing.
    report(operator, {second[1]: 6.0})
    operator.execute("SELECT federated_report_outcome('ab', %s, 6)", [second[1]])
    assert told()[1][:4] == (2, 5.0, 1.0, 2.0)
    half = stats.t.ppf(0.975, 1)  # the first arm does not vary: one degree of freedom, a standard error of 1
    assert told()[1][4:6] == pytest.approx((2 - half, 2 + half), rel=1e-9)
    report(operator, {first[2]: 1e100, first[3]: -1e100})
    assert told()[1][5] > 1e99
    report(operator, dict.fromkeys(second[2:6], 1e-160) | dict.fromkeys(first[:4], 1e-200))
    assert told()[0][0] == 4


def test_a_withdrawn_version_answers_for_itself_and_its_outcomes_are_still_taken(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, EVEN)
    served = arms_of(operator, 20)
    first, second = (next(key for key in served if served[key] == number) for number in (1, 2))
    operator.execute(ASK, [first])
    trained.execute("UPDATE federated.version SET withheld = true WHERE version = 1")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="while an erasure is carried out"):
        operator.execute(ASK, [first])
    trained.execute("UPDATE federated.version SET withheld = false WHERE version = 1")
    trained.execute(RETIRE)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match=r"version 1 .* was retired"):
        operator.execute(ASK, [first])
    operator.execute(ASK, [second])
    operator.execute("SELECT federated_report_outcome('ab', %s, 1)", [first])
    assert [(row["calls"], row["outcomes"]) for row in results(operator)] == [(1, 1), (1, 0)]
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was retired"):
        execute(operator, EVEN.replace("ab", "other"))


def test_what_an_experiment_compares_is_dropped_by_cascade_alone_and_sums_stay_in_the_audit_log(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, EVEN)
    for statement, message in (
        ("DROP FEDERATED MODEL risk VERSION 1", "cannot drop version 1"),
        ("DROP FEDERATED MODEL risk", 'cannot drop federated model "risk"'),
    ):
        with pytest.raises(errors.DependentObjectsStillExist, match=message) as caught:
            execute(operator, statement)
        assert caught.value.diag.message_detail == 'experiment "ab"'
        assert "CASCADE" in (caught.value.diag.message_hint or "")
    served = arms_of(operator, 20)
    report(operator, {key: float(version) for key, version in served.items()})
    count = sum(1 for version in served.values() if version == 2)
    notices = notices_of(operator)
    execute(operator, "DROP FEDERATED MODEL risk VERSION 1 CASCADE")
    assert 'drop cascades to federated experiment "ab"' in notices
    for table in ("experiment", "experiment_arm", "experiment_call", "experiment_outcome"):
        assert value(trained, f"count(*) FROM federated.{table}") == 0
    assert trained.execute(
        "SELECT workspace, acting_role, action, object_name, details #> '{after,share}', details #> '{after,outcomes}',"
        " details #> '{after,outcome_sum}' FROM federated.audit WHERE object_kind IN ('experiment', 'experiment_arm')"
        " ORDER BY recorded_at, object_name"
    ).fetchall() == [
        ("clinics", "an_operator", "insert", "ab", None, None, None),
        ("clinics", "an_operator", "insert", "1", 0.5, None, None),
        ("clinics", "an_operator", "insert", "2", 0.5, None, None),
        ("clinics", "an_operator", "update", "1", 0.5, 20 - count, 20 - count),
        ("clinics", "an_operator", "update", "2", 0.5, count, 2 * count),
        ("clinics", "an_operator", "delete", "ab", None, None, None),
    ]
    finish_again = "CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS ('2' => 0.5, '1' => 0.5)"
    with pytest.raises(errors.UndefinedObject, match='has no version "1"'):
        execute(operator, finish_again)


def test_a_model_is_dropped_with_its_experiments_and_a_renamed_one_keeps_them(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, EVEN, "ALTER FEDERATED MODEL risk RENAME TO hazard")
    assert operator.execute(ASK, ["a"]).fetchall()[0][0] in (5.25, 6.25)
    execute(operator, "DROP FEDERATED MODEL hazard CASCADE")
    assert value(trained, "count(*) FROM federated.experiment") == 0
    heard = notices_of(operator)
    execute(operator, "DROP FEDERATED EXPERIMENT IF EXISTS ab")
    assert heard == ['federated experiment "ab" does not exist, skipping']
    with pytest.raises(errors.UndefinedObject, match='federated experiment "ab" does not exist'):
        execute(operator, "DROP FEDERATED EXPERIMENT ab")


def test_who_owns_the_model_makes_and_drops_and_analysts_call(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, EVEN)
    heard = notices_of(operator)
    execute(operator, EVEN.replace("EXPERIMENT", "EXPERIMENT IF NOT EXISTS"))
    assert heard == ['federated experiment "ab" already exists, skipping']
    with pytest.raises(errors.DuplicateObject, match='federated experiment "ab" already exists'):
        execute(operator, EVEN)
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        analyst.execute(ASK, ["a"])
        analyst.execute("SELECT federated_report_outcome('ab', 'a', 1)")
        for forbidden in (
            "SELECT FROM federated.experiment_call",
            "SELECT FROM federated.experiment_outcome",
            "DELETE FROM federated.experiment",
            "INSERT INTO federated.experiment_call SELECT experiment_id, '\\x', 1, 0 FROM federated.experiment",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                analyst.execute(forbidden)
        trained.execute(
            "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA federated_model, federated_row FROM federated_analyst"
        )
        with pytest.raises(errors.InsufficientPrivilege):
            analyst.execute(ASK, ["a"])
        with pytest.raises(errors.InsufficientPrivilege):
            analyst.execute("SELECT federated_report_outcome('ab', 'a', 0)")
    with cluster.connect(federated_database, user="an_auditor") as auditor:
        assert sum(row["calls"] for row in results(auditor)) == 1
        with pytest.raises(errors.InsufficientPrivilege):
            auditor.execute(ASK, ["a"])
        with pytest.raises(errors.InsufficientPrivilege, match="create a federated experiment"):
            execute(auditor, EVEN)
    trained.execute("UPDATE federated.model SET owner = 'postgres'")
    trained.execute("UPDATE federated.workspace SET owner = 'postgres'")
    for statement in ("DROP FEDERATED EXPERIMENT ab", EVEN.replace("ab", "other")):
        with pytest.raises(errors.InsufficientPrivilege, match="must be owner of federated"):
            execute(operator, statement)


BAD_STATEMENTS = [
    ("('1' => 1)", errors.InvalidParameterValue, "at least two versions"),
    ("('1' => 0.5, '2' => 0.4)", errors.InvalidParameterValue, "add up to 1, not to 0.9"),
    ("('1' => 1.5, '2' => -0.5)", errors.InvalidParameterValue, "more than 0 and less than 1"),
    ("('1' => 0.5, '01' => 0.5)", errors.InvalidParameterValue, "the same version, 1"),
    ("('1' => 0.5, 'none' => 0.5)", errors.UndefinedObject, 'has no version "none"'),
    ("(" + ", ".join(["'1' => 0.04"] * 21) + ")", errors.ProgramLimitExceeded, "more than 20 versions"),
    ("('1' = 0.5, '2' = 0.5)", errors.SyntaxError, "syntax error"),
    ("('' => 0.5, '2' => 0.5)", errors.InvalidParameterValue, "may not be empty"),
]
BAD_CALLS = [
    ("federated_predict_experiment('none', 'a')", errors.UndefinedObject, '"none" does not exist'),
    ("federated_predict_experiment(NULL, 'a')", errors.NullValueNotAllowed, "name"),
    ("federated_predict_experiment('ab', NULL)", errors.NullValueNotAllowed, "key must not be null"),
    ("federated_predict_experiment('ab', '')", errors.InvalidParameterValue, "key must not be empty"),
    (
        "federated_predict_experiment('ab', repeat('a', 1025))",
        errors.InvalidParameterValue,
        "key is too long",
    ),
    ("federated_predict_experiment('ab', 'a', NULL)", errors.NullValueNotAllowed, "features"),
    (
        "federated_predict_experiment('ab', 'a', '{\"height\": 1}')",
        errors.UndefinedColumn,
        'no feature "height"',
    ),
    ("federated_report_outcome('ab', 'never', 1)", errors.UndefinedObject, "has not served this key"),
    ("federated_report_outcome('ab', 'a', NULL)", errors.NullValueNotAllowed, "outcome must not be null"),
    ("federated_report_outcome('ab', 'a', 'NaN')", errors.InvalidParameterValue, "must be a number"),
    ("federated_report_outcome('ab', 'a', '-Infinity')", errors.InvalidParameterValue, "must be a number"),
    ("federated_experiment('none')", errors.UndefinedObject, '"none" does not exist'),
]


def test_bad_input_has_one_clear_error_and_leaves_nothing(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    for versions, error, message in BAD_STATEMENTS:
        with pytest.raises(error, match=message):
            execute(operator, f"CREATE FEDERATED EXPERIMENT ab ON MODEL risk VERSIONS {versions}")
    assert value(trained, "count(*) FROM federated.experiment") == 0
    execute(operator, EVEN)
    for call, error, message in BAD_CALLS:
        with pytest.raises(error, match=message):
            operator.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]
    assert value(trained, "count(*) FROM federated.experiment_call") == 0
