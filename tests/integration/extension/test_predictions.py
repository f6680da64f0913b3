"""The function that a version becomes: exact numbers, each argument once, true and false, and nothing but numbers."""

from __future__ import annotations

import json
import math
import random
import struct
from fractions import Fraction
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import errors

PUBLISH = (
    "SELECT federated._publish_function((SELECT model_id FROM federated.model), 1, gen_random_uuid(), %(features)s,"
    " %(booleans)s::boolean[], %(prediction)s)"
)
MISSING = object()


def publish(daemon: psycopg.Connection, **changed: Any) -> str | None:
    """Publish a prediction of two features, of which the second is boolean, or what is changed of it."""
    signature: dict[str, Any] = {"features": ["age", "smoker"], "booleans": [False, True]}
    prediction: dict[str, Any] = {
        "kind": "linear", "intercept": 0.25, "slopes": [0.5, 2.0], "fills": [40.0, 0.5], "shifts": [0.0, 0.0],
        "link": "identity", "target_mean": 0.0, "target_scale": 1.0,
    }  # fmt: skip
    for name, part in changed.items():
        (signature if name in signature else prediction)[name] = part
    stored = {name: part for name, part in prediction.items() if part is not MISSING}
    [(obstacle,)] = daemon.execute(PUBLISH, signature | {"prediction": json.dumps(stored)}).fetchall()
    return obstacle


def make_current(catalog: psycopg.Connection, features: list[str]) -> None:
    """Give the model a version row, as the coordinator does beside the function."""
    catalog.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
    catalog.execute(
        "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256,"
        " is_current) SELECT model_id, 1, run_id, 1, %s, '{}', '', '', true FROM federated.run",
        [features],
    )


def value(session: psycopg.Connection, call: str) -> float | None:
    """Evaluate an expression."""
    [(result,)] = session.execute(f"SELECT {call}").fetchall()  # type: ignore[arg-type]
    return result


def test_every_number_reads_back_to_the_same_bits(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    source = random.Random(7)
    numbers = [5e-324, -0.0, 0.1, 1 / 3, 1.7976931348623157e308, 2.2250738585072014e-308]
    while len(numbers) < 60:
        (number,) = struct.unpack("<d", source.randbytes(8))
        numbers += [number] if math.isfinite(number) else []
    daemon.execute("SET extra_float_digits = -15")
    for number in numbers:
        parts = {"features": ["x"], "booleans": [False], "fills": [number], "shifts": [0.0]}
        publish(daemon, **parts, intercept=0.0, slopes=[1.0])
        assert value(catalog, "federated_model.risk()") == number
        publish(daemon, **parts, intercept=0.0, slopes=[0.5])
        assert value(catalog, "federated_model.risk()") == pytest.approx(number / 2, rel=1e-15, abs=1e-289)
        publish(daemon, **parts, intercept=number, slopes=[0.0])
        assert value(catalog, "federated_model.risk(x => 1)") == number


def test_true_and_false_are_one_and_zero_however_they_are_given(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    assert publish(daemon) is None
    make_current(catalog, ["age", "smoker"])
    for call, expected in (
        ("federated_model.risk(age => 10, smoker => true)", 7.25),
        ("federated_model.risk(age => 10, smoker => false)", 5.25),
        ("federated_model.risk(age => 10)", 6.25),
        ("federated_model.risk(smoker => false)", 20.25),
        ("""federated_predict('risk', '{"age": 10, "smoker": true}')""", 7.25),
        ("""federated_predict('risk', '{"age": "10", "smoker": 1}')""", 7.25),
        ("""federated_predict('risk', '{"age": true, "smoker": false}')""", 0.75),
        ("""federated_predict('risk', '{"age": 10, "smoker": null}')""", 6.25),
        ("""predict('risk', '{"age": 10, "smoker": 0}'::jsonb)""", 5.25),
        ("predict('risk', ARRAY[10, 1]::float8[])", 7.25),
        ("predict('risk', '[5:6]={10,0}'::float8[])", 5.25),
        ("predict('risk', ARRAY[10, NULL]::float8[])", 6.25),
        ("predict('risk', NULL::float8[])", None),
        ("federated_predict('risk', NULL)", None),
    ):
        assert value(catalog, call) == expected, call


BAD_ARGUMENTS = [
    ("federated_predict('risk', '[1]')", "22023", "features must be a JSON object, not a JSON array"),
    ("federated_predict('risk', '1')", "22023", "features must be a JSON object, not a JSON number"),
    ("federated_predict('risk', '{\"age\": [1]}')", "22023",
     "the value of a feature must be a number, true or false, not an array"),
    ("federated_predict('risk', '{\"smoker\": 0.5}')", "22023",
     "the value of a boolean feature must be true, false, 1 or 0, not 0.5"),
    ("federated_predict('risk', '{\"aeg\": 1}')", "42703", 'federated model "risk" has no feature "aeg"'),
    ("federated_predict('nothing', '{}')", "42704", 'federated model "nothing" does not exist'),
    ("federated_predict(NULL, '{}')", "22004", "the name of a federated model must not be null"),
    ("federated_training_status(NULL)", "22004", "the name of a federated model must not be null"),
    ("federated_privacy_budget(NULL)", "22004", "the name of a federated workspace must not be null"),
    ("predict('risk', ARRAY[[1, 2]]::float8[])", "2202E", "predict takes an array of one dimension, not of 2"),
    ("predict('risk', ARRAY[1]::float8[])", "2202E", 'federated model "risk" takes 2 features, not 1'),
    ("predict('risk', '{}'::float8[])", "2202E", 'federated model "risk" takes 2 features, not 0'),
    ("wait_for_convergence('risk', 'NaN')", "22023", "timeout_seconds must be a finite number, 0 or more"),
    ("wait_for_convergence('risk', 'Infinity')", "22023",
     "timeout_seconds must be a finite number, 0 or more"),
    ("wait_for_convergence('risk', -1)", "22023", "timeout_seconds must be a finite number, 0 or more"),
]  # fmt: skip


def test_bad_arguments_get_one_clear_error(
    catalog: psycopg.Connection, daemon: psycopg.Connection, subtests: pytest.Subtests
) -> None:
    publish(daemon)
    make_current(catalog, ["age", "smoker"])
    for call, sqlstate, message in BAD_ARGUMENTS:
        with subtests.test(call=call):
            with pytest.raises(psycopg.Error) as caught:
                catalog.execute(f"SELECT {call}")  # type: ignore[arg-type]
            assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, message)


@pytest.mark.parametrize(
    ("changed", "sqlstate"),
    [
        ({"intercept": math.nan}, "22P02"),
        ({"intercept": "NaN"}, "22023"),
        ({"intercept": MISSING}, "22023"),
        ({"slopes": [1.0, "Infinity"]}, "22023"),
        ({"fills": ["-Infinity", 0.0]}, "22023"),
        ({"fills": ["0; DROP TABLE federated.run", 0.0]}, "22P02"),
        ({"fills": None}, "22023"),
        ({"fills": MISSING}, "22004"),
        ({"shifts": [0.0, None]}, "22023"),
        ({"target_scale": None}, "22023"),
        ({"slopes": [1.0]}, "2202E"),
        ({"booleans": [False]}, "2202E"),
        ({"features": ["age"]}, "2202E"),
        ({"features": ["age", None]}, "22004"),
        ({"features": None}, "22004"),
        ({"slopes": [[1.0, 2.0]]}, "22P02"),
        ({"slopes": {"age": 1.0}}, "22023"),
        ({"link": "identity; DROP TABLE federated.run"}, "22023"),
        ({"link": None}, "22004"),
        ({"kind": "unknown"}, "22023"),
        ({"kind": ""}, "22023"),
        ({"kind": "linear(text[],boolean[],jsonb)"}, "22023"),
        ({"kind": "Linear"}, "22023"),
        ({"kind": ["linear"]}, "22023"),
    ],
)
@pytest.mark.changes_nothing
def test_what_is_no_prediction_is_refused(
    daemon: psycopg.Connection, changed: dict[str, Any], sqlstate: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        publish(daemon, **changed)
    assert caught.value.sqlstate == sqlstate


def test_a_prediction_without_a_kind_is_linear(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    assert publish(daemon, kind=MISSING) is None
    assert value(catalog, "federated_model.risk(age => 10)") == 6.25


def test_another_kind_is_one_function_of_the_extensions_own(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    catalog.execute(
        "CREATE FUNCTION federated._render_constant(features text[], booleans boolean[], prediction jsonb) RETURNS text"
        " LANGUAGE sql RETURN format('%L::float8', (prediction ->> 'constant')::float8)"
    )
    signature = "federated._render_constant(text[], boolean[], jsonb)"
    catalog.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO federated_owner")  # type: ignore[arg-type]
    assert publish(daemon, kind="constant", constant=4.5) is None
    assert value(catalog, "federated_model.risk(age => 10)") == 4.5
    # Somebody else's function is none of them, whatever its name.
    catalog.execute(f"ALTER FUNCTION {signature} OWNER TO federated_owner")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidParameterValue, match="no predictions of kind 'constant'"):
        publish(daemon, kind="constant", constant=5.5)
    assert value(catalog, "federated_model.risk(age => 10)") == 4.5


def test_a_features_name_is_never_code(catalog: psycopg.Connection, daemon: psycopg.Connection) -> None:
    hostile = ['x" float8) RETURNS float8 LANGUAGE sql RETURN 1; --', "%1$L %s $1", "select", "a'b", "Größe"]
    for name in hostile:
        assert publish(daemon, features=["age", name]) is None
        [(names,)] = catalog.execute(
            "SELECT proargnames FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace"
        ).fetchall()
        assert names == ["age", name]
        assert value(catalog, "federated_model.risk(age => 10)") == 6.25


def test_the_probability_is_defined_for_every_argument(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon, link="logistic")
    assert value(catalog, "federated_model.risk(age => 1e308)") == 1.0
    assert value(catalog, "federated_model.risk(age => -1e308)") == 0.0
    expected = 1 / (1 + math.exp(-2.25))
    assert value(catalog, "federated_model.risk(age => 0, smoker => true)") == pytest.approx(
        expected, rel=1e-15
    )


EXTREMES = [0.0, 5e-324, 2.2250738585072014e-308, 1e-290, 1e-200, 1.5, 1e200, 1e300, 1.7976931348623157e308]


SLOPES = [
    [0.04, 1e-6], [3.5, -250.0], [1e-17, 0.0], [1e-200, 7.0], [1e-281, 3.5], [-1e-299, 1e-300], [7e-281, 1e30], [5e-324, 1e12],
]  # fmt: skip


def test_no_value_is_too_small_or_too_large_for_a_probability(
    catalog: psycopg.Connection, daemon: psycopg.Connection, subtests: pytest.Subtests
) -> None:
    for slopes, shifts in product(SLOPES, ([0.0, 0.0], [30.0, -1e-5])):
        with subtests.test(slopes=slopes, shifts=shifts):
            demand_the_probability(catalog, daemon, slopes, shifts)


def demand_the_probability(
    catalog: psycopg.Connection, daemon: psycopg.Connection, slopes: list[float], shifts: list[float]
) -> None:
    publish(daemon, booleans=[False, False], link="logistic", slopes=slopes, shifts=shifts, intercept=0.0)
    values = [sign * number for number in EXTREMES for sign in (1, -1)]
    for x, y, found in catalog.execute(
        "SELECT x, y, federated_model.risk(age => x, smoker => y) FROM unnest(%(v)s::float8[]) AS x,"
        " unnest(%(v)s::float8[]) AS y",
        {"v": values},
    ).fetchall():
        parts = [
            Fraction(s) * (Fraction(v) - Fraction(h)) for s, v, h in zip(slopes, (x, y), shifts, strict=True)
        ]
        score = float(max(min(sum(parts), Fraction(1000)), Fraction(-1000)))
        if sum(abs(part) for part in parts) > abs(sum(parts)) * 10**10:
            continue  # what is left of two numbers is beyond what floats tell
        assert found == pytest.approx(0.5 * (1 + math.tanh(score / 2)), rel=1e-9, abs=1e-12), (x, y)


def test_no_value_is_too_small_for_a_number(
    catalog: psycopg.Connection, daemon: psycopg.Connection, subtests: pytest.Subtests
) -> None:
    for slope, scale in product((0.04, 1e-6, 3.5, 1e-200, 5e-324, 0.0), (1.0, 1e-60, 1e40)):
        with subtests.test(slope=slope, scale=scale):
            demand_the_product(catalog, daemon, slope, scale)


def demand_the_product(
    catalog: psycopg.Connection, daemon: psycopg.Connection, slope: float, scale: float
) -> None:
    publish(daemon, features=["age"], booleans=[False], slopes=[slope], fills=[5e-324], shifts=[0.0], intercept=0.0,
            target_scale=scale)  # fmt: skip
    values = [sign * number for number in EXTREMES[:-2] for sign in (1, -1)]
    for x, found in catalog.execute(
        "SELECT x, federated_model.risk(age => x) FROM unnest(%s::float8[]) AS x", [[*values, None]]
    ).fetchall():
        expected = float(Fraction(scale) * Fraction(slope) * Fraction(x or 0.0))
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-240), x


def test_zero_is_zero(catalog: psycopg.Connection, daemon: psycopg.Connection) -> None:
    for scale in (1.0, 250.0, 1e-9):
        publish(
            daemon,
            booleans=[False, False],
            slopes=[0.04, -1e-6],
            fills=[0.0, 0.0],
            intercept=0.0,
            target_scale=scale,
        )
        assert value(catalog, "federated_model.risk()") == 0.0
        assert value(catalog, "federated_model.risk(age => 0, smoker => 0)") == 0.0
        assert value(catalog, "federated_model.risk(age => 1e-9)") == pytest.approx(4e-11 * scale, rel=1e-12)


def test_nan_and_infinity_are_computed_with(catalog: psycopg.Connection, daemon: psycopg.Connection) -> None:
    for slopes in ([0.04, 2.0], [3.5, 2.0]):
        publish(daemon, link="logistic", slopes=slopes)
        for given, expected in (("Infinity", 1.0), ("-Infinity", 0.0), ("NaN", math.nan)):
            found = value(catalog, f"federated_model.risk(age => '{given}')")
            assert found == pytest.approx(expected, nan_ok=True), given


def test_a_shift_and_the_targets_scale_are_applied(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon, shifts=[30.0, 0.0], target_mean=100.0, target_scale=10.0)
    assert value(catalog, "federated_model.risk(age => 34, smoker => false)") == 122.5


def test_a_call_is_inlined_and_evaluates_each_argument_once(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon, link="logistic", shifts=[30.0, 1.0])
    plan = catalog.execute(
        "EXPLAIN (VERBOSE, COSTS OFF) SELECT federated_model.risk(age => random(), smoker => g > 1)"
        " FROM generate_series(1, 2) AS g"
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "risk" not in text
    assert text.count("random()") == 1
    assert text.count("> 1") == 1


def test_a_flag_that_changes_is_another_signature(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon)
    catalog.execute("CREATE VIEW dependent AS SELECT federated_model.risk(age => 1) AS p")
    assert "dependent" in (publish(daemon, booleans=[False, False]) or "")
    assert publish(daemon, intercept=1.25) is None
    catalog.execute("DROP VIEW dependent")
    assert publish(daemon, booleans=[False, False]) is None
    assert value(catalog, "federated_model.risk(age => 0, smoker => 1)") == 2.25


def test_an_untrained_function_and_every_type_say_what_they_are(catalog: psycopg.Connection) -> None:
    assert catalog.execute(
        "SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc AS p"
        " WHERE p.pronamespace = 'federated_model'::regnamespace"
    ).fetchall() == [("Federated model risk, which has no trained version yet",)]
    assert catalog.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.pronamespace = 'federated'::regnamespace"
        " AND obj_description(p.oid, 'pg_proc') IS NULL UNION ALL "
        "SELECT t.typname FROM pg_type AS t WHERE t.typnamespace = 'federated'::regnamespace AND t.typtype = 'e'"
        " AND obj_description(t.oid, 'pg_type') IS NULL"
    ).fetchall() == []  # fmt: skip


def test_what_is_labelled_parallel_safe_runs_in_a_worker(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    publish(daemon)
    make_current(catalog, ["age", "smoker"])
    catalog.execute("SET force_parallel_mode = on")
    assert (
        value(catalog, """federated_predict('risk', jsonb_build_object('age', 10.0, 'smoker', true))""")
        == 7.25
    )
    assert value(catalog, "predict('risk', ARRAY[10, 1]::float8[])") == 7.25


def test_a_wait_that_nobody_serves_says_so(catalog: psycopg.Connection) -> None:
    catalog.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
    with pytest.raises(errors.QueryCanceled) as caught:
        catalog.execute("SELECT wait_for_convergence('risk', 0)")
    assert "no coordinator serves this database yet" in (caught.value.diag.message_detail or "")
    catalog.execute("INSERT INTO federated.lease (epoch, holder) VALUES (1, 'coordinator')")
    with pytest.raises(errors.QueryCanceled) as caught:
        catalog.execute("SELECT wait_for_convergence('risk', 0)")
    assert caught.value.diag.message_detail == "The run is queued; it goes on."
