"""A coordinator that means ill delivers numbers and names, or nothing: no text of its becomes code, and what was here stays."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors

from heliosdb.domain.state import freeze, state_to_bytes
from tests.integration.extension.subscriptions_support import CALL, Sides, subscribed
from tests.integration.extension.versions_support import functions, value
from tests.support.cluster import Cluster
from tests.support.delivery import HEAR, TAKE
from tests.unit.scoring.test_soundness import LAYERS, grown

CODE = (
    "'); SELECT struck(); --", '"; SELECT struck(); --', "$$; SELECT struck(); $$", "\\'; SELECT struck(); --", "E'\\''||struck()||'",
    '") AS x, LATERAL (SELECT struck()) AS y --', "struck()", "%s%1$s%I%L", "slots", "found", "r", "prediction", "user", "\u00e9",
)  # fmt: skip
HOSTILE = st.one_of(
    st.sampled_from(CODE),
    st.sampled_from([None, True, False, 0, -1, 0.5, 10**400, -(10**400), 1e308, [], {}, [[]], [None], ["1"], {"a": 1}, "", "NaN", "Infinity"]),
    st.integers(0, 3000).map(lambda n: [0.0] * n),
    st.integers(0, 70).map(lambda n: "x" * n),
)  # fmt: skip
COLUMNS: list[dict[str, Any]] = [
    {"column": "age", "kind": "number", "form": "value", "missing_indicator": True},
    {
        "column": "site",
        "kind": "category",
        "form": "indicators",
        "levels": ["a", "b'c"],
        "null_level": True,
        "other_level": True,
    },
    {"column": "bmi", "kind": "number", "form": "bins", "edges": [1.0, 2.0]},
    {"column": "v", "kind": "array", "form": "value", "elements": 2},
]
INPUTS = 2 + 3 + 2 + 2
FEATURES = [str(column["column"]) for column in COLUMNS]
LINEAR: dict[str, Any] = {
    "kind": "linear", "link": "logistic", "booleans": [False] * 4, "intercept": 0.5, "slopes": [0.25] * INPUTS,
    "fills": [0.0] * INPUTS, "shifts": [1.0] * INPUTS, "target_mean": 0.0, "target_scale": 1.0, "classes": ["no", "it's"],
    "encoding": {"columns": COLUMNS, "classes": []},
}  # fmt: skip
SOFTMAX: dict[str, Any] = {
    "kind": "softmax_linear", "link": "softmax", "booleans": [False] * 4, "intercepts": [0.5] * 3, "slopes": [[0.25] * INPUTS] * 3,
    "fills": [0.0] * INPUTS, "shifts": [1.0] * INPUTS, "classes": ["no", "it's", "%I"],
    "encoding": {"columns": COLUMNS, "classes": []},
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "kind": "network", "link": "identity", "booleans": [False] * 3, "activations": ["relu", "linear"], "target_mean": 0.0,
    "target_scale": 1.0,
}  # fmt: skip
TREES: dict[str, Any] = {
    "kind": "trees", "link": "identity", "booleans": [False] * 4, "boosts": False, "target_mean": 0.0, "target_scale": 1.0,
    "encoding": {"classes": [], "columns": [
        *({"column": name, "kind": "number", "levels": [], "edges": []} for name in "abc"),
        {"column": "d", "kind": "category", "form": "index", "levels": list("ABCDEFGHI"), "edges": []},
    ]},
}  # fmt: skip
SOUND = {
    "linear": (FEATURES, LINEAR, None),
    "softmax": (FEATURES, SOFTMAX, None),
    "network": (["a", "b", "c"], NETWORK, state_to_bytes(freeze(LAYERS))),
    "trees": (list("abcd"), TREES, state_to_bytes(freeze(grown()))),
}


@pytest.fixture
def sides(cluster: Cluster, trained: psycopg.Connection) -> Iterator[Sides]:
    """Version 2 is here, and a function that a hostile text would call notes that it was."""
    with subscribed(cluster, trained) as both:
        both.deliver()
        both.here.execute(
            "CREATE TABLE strikes (at timestamptz); GRANT INSERT ON strikes TO PUBLIC;"
            "CREATE FUNCTION struck() RETURNS float8 LANGUAGE sql AS 'INSERT INTO public.strikes VALUES (now()); SELECT 1.0::float8'"
        )
        yield both


def deliver(node: psycopg.Connection, **content: Any) -> str | None:
    """Offer and deliver something as version 3."""
    key = str(uuid4())
    offer = {
        "name": "s", "workspace": "clinics", "model_name": "risk", "wanted": None, "outcome": "offered", "version": 3, "version_key": key,
        "reason": None,
    }  # fmt: skip
    found = {
        "features": ["age"],
        "contract": "{}",
        "prediction": "{}",
        "prediction_arrays": None,
        "sha256": bytes(32),
    }
    with node.transaction():
        node.execute(HEAR, offer)
        [(obstacle,)] = node.execute(TAKE, {**offer, **found, **content}).fetchall()
    return None if obstacle is None else str(obstacle)


def untouched(sides: Sides) -> bool:
    """Whether version 2 is whole and nothing was called."""
    return (
        functions(sides.here) == ["risk", "risk@2"]
        and value(sides.here, CALL) == value(sides.there, CALL)
        and value(sides.here, "count(*) FROM strikes") == 0
        and value(sides.here, "count(*) FROM federated.delivered_version") == 1
    )


def paths(thing: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in a JSON value."""
    keys: Any = thing if isinstance(thing, dict) else range(len(thing)) if isinstance(thing, list) else ()
    return [before, *(path for key in keys for path in paths(thing[key], (*before, key)))]


def put(thing: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with something else at a place."""
    if not path:
        return new
    changed = copy.copy(thing)
    changed[path[0]] = put(thing[path[0]], path[1:], new)
    return changed


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(data=st.data())
def test_whatever_is_delivered_is_refused_or_only_computes(sides: Sides, data: st.DataObject) -> None:
    features, prediction, arrays = SOUND[data.draw(st.sampled_from(sorted(SOUND)))]
    whole = {"features": features, "prediction": prediction, "contract": {"algorithm": "x", "target": "y"}}
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(paths(whole)[1:]))
        new = data.draw(HOSTILE)
        if path == ("features",) and not isinstance(new, list):
            new = [new]
        whole = put(whole, path, new)
    listed = [name if name is None else str(name) for name in whole["features"]]
    with (
        sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node,
        node.transaction(force_rollback=True),
    ):
        obstacle = deliver(
            node,
            features=listed,
            contract=json.dumps(whole["contract"]),
            prediction=json.dumps(whole["prediction"]),
            prediction_arrays=arrays,
        )
        if obstacle is None:
            [(schema,)] = node.execute(
                "SELECT CASE WHEN federated._has_many_classes(prediction) THEN 'federated_proba' ELSE 'federated_model' END"
                " FROM federated.delivered_version WHERE is_current"
            ).fetchall()
            [(description,)] = node.execute(
                "SELECT DISTINCT obj_description(p.oid, 'pg_proc') FROM pg_proc AS p"
                " WHERE p.pronamespace = %s::regnamespace AND p.proname = 'risk'",
                [schema],
            ).fetchall()
            assert description.startswith("Version 3 ")
        [(strikes,)] = node.execute(
            "SELECT count(*) FROM pg_stat_xact_user_tables WHERE relname = 'strikes' AND n_tup_ins > 0"
        ).fetchall()
        assert strikes == 0
    assert untouched(sides)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_taken(sides: Sides, name: str) -> None:
    features, prediction, arrays = SOUND[name]
    with sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node:
        assert (
            deliver(node, features=features, prediction=json.dumps(prediction), prediction_arrays=arrays)
            is None
        )
    assert functions(sides.here) == ["risk", "risk@3"]


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


NO_PREDICTIONS = [
    ({"prediction": "{"}, "invalid input syntax for type json"),
    ({"prediction": "[]"}, "it is no JSON object"),
    ({"prediction": '"x"'}, "it is no JSON object"),
    ({"prediction": '{"link": "\\u0000"}'}, "unsupported Unicode escape sequence"),
    ({"prediction": nested(100_000)}, "stack depth limit exceeded"),
    ({"prediction": nested(1_000)}, "it has more than a prediction has"),
    ({"prediction": json.dumps(LINEAR | {"slopes": 1}).replace('"slopes": 1', '"slopes": [1e400]')}, "a number in it is no float"),
    ({"prediction": json.dumps(LINEAR).replace("0.25", "1e131000", 1)}, "a number in it is no float"),
    ({"prediction": json.dumps(LINEAR).replace("0.25", "1e-16000", 1)}, "a number in it is no float"),
    ({"prediction": json.dumps(LINEAR).replace("0.25", "NaN", 1)}, "invalid input syntax for type json"),
    ({"prediction": json.dumps(LINEAR), "features": ["age"]}, "it has no flag for each feature"),
    ({"prediction": json.dumps(LINEAR), "features": ["age", "age", "bmi", "v"]}, "it has a feature twice"),
    ({"prediction": json.dumps(LINEAR), "features": ["x" * 64, "site", "bmi", "v"]}, "no name that a column may have"),
    ({"prediction": json.dumps(LINEAR), "features": ["age", "site", "v", "bmi"]}, "an encoding has one entry for each feature"),
    ({"prediction": json.dumps(LINEAR), "features": FEATURES, "contract": '{"target": "a", "rows": 7}'}, "names of columns"),
    ({"prediction": json.dumps(LINEAR), "features": FEATURES, "contract": '{"target": 1}'}, "names of columns"),
    ({"prediction": json.dumps(LINEAR), "features": FEATURES, "prediction_arrays": b"x"}, "an expression has no arrays"),
    ({"prediction": json.dumps(LINEAR | {"kind": "call"}), "features": FEATURES}, "no predictions of its kind"),
    ({"prediction": json.dumps(LINEAR | {"classes": ["a", "a"]}), "features": FEATURES}, "its classes are no labels"),
    ({"prediction": json.dumps(LINEAR | {"classes": ["a", "b", "c"]}), "features": FEATURES}, "not as many as it predicts"),
    ({"prediction": json.dumps(LINEAR | {"std_errors": [1]}), "features": FEATURES}, "it has more than a prediction has"),
    (
        {"prediction": json.dumps(LINEAR | {"slopes": ["0.25"] * INPUTS}), "features": FEATURES},
        "what should be numbers in it is none",
    ),
    ({"prediction": json.dumps(LINEAR | {"slopes": [0.25]}), "features": FEATURES}, "one slope, fill and shift for each input"),
    ({"features": [f"f{n}" for n in range(1601)]}, "more than 1600"),
    ({"prediction": json.dumps(NETWORK), "features": ["a", "b", "c"], "prediction_arrays": b"\x80\x04pickle"}, "not a state"),
    ({"prediction": json.dumps(NETWORK), "features": ["a", "b"], "prediction_arrays": SOUND["network"][2]}, "flag for each feature"),
    ({"prediction": json.dumps(NETWORK | {"activations": ["relu"] * 8 + ["linear"]}), "features": ["a", "b", "c"],
      "prediction_arrays": SOUND["network"][2]}, "its layers do not fit each other"),
    ({"prediction": json.dumps(TREES), "features": list("abcd"),
      "prediction_arrays": state_to_bytes(freeze({**grown(), "left": 0 * grown()["left"]}))}, "a way through its trees does not end"),
    ({"prediction": json.dumps({**NETWORK, "booleans": [False], "encoding": {"classes": [], "columns": [
        {"column": "a", "kind": "array", "elements": 99_000}]}}), "features": ["a"]}, "at most 16000 inputs"),
]  # fmt: skip


def test_what_is_no_prediction_is_one_clear_obstacle(sides: Sides, subtests: pytest.Subtests) -> None:
    with sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node:
        for content, told in NO_PREDICTIONS:
            with subtests.test(told=told, content=str(content)[:200]):
                obstacle = deliver(node, **content)
                assert obstacle is not None
                assert told in obstacle
                assert len(obstacle) <= 1000
                assert sides.state() == ("refused", 2, 3)
                assert value(sides.here, "message FROM federated_subscriptions") == obstacle
                assert untouched(sides)


def test_names_and_labels_that_look_like_code_are_names_and_labels(sides: Sides) -> None:
    names = [name for name in CODE if len(name.encode()) < 64]
    prediction = {
        "kind": "linear", "link": "logistic", "booleans": [False] * len(names), "intercept": 0.25, "slopes": [1.0] * len(names),
        "fills": [0.0] * len(names), "shifts": [0.0] * len(names), "target_mean": 0.0, "target_scale": 1.0, "classes": [CODE[0], CODE[1]],
    }  # fmt: skip
    with sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node:
        assert (
            deliver(
                node,
                features=names,
                prediction=json.dumps(prediction),
                contract=json.dumps({"target": CODE[1]}),
            )
            is None
        )
    [(likely,)] = sides.here.execute(
        "SELECT federated_predict_class('risk', %s::jsonb)", [json.dumps({names[0]: 3, names[1]: 4})]
    ).fetchall()
    assert likely == CODE[1]
    assert value(sides.here, "count(*) FROM strikes") == 0


def test_a_delivery_that_may_succeed_later_is_an_error_and_not_refused(sides: Sides) -> None:
    with sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node:
        node.execute("SET lock_timeout = '50ms'")
        with sides.cluster.connect(sides.here.info.dbname) as other, other.transaction():
            other.execute("LOCK TABLE federated.delivered_version IN SHARE MODE")
            with pytest.raises(errors.LockNotAvailable):
                deliver(node, features=FEATURES, prediction=json.dumps(LINEAR))
    assert sides.state() == ("current", 2, 2)
    assert untouched(sides)


def test_other_numbers_under_the_same_run_are_other_numbers(sides: Sides) -> None:
    features, network, arrays = SOUND["network"]
    key = str(uuid4())
    offer = {
        "name": "s", "workspace": "clinics", "model_name": "risk", "wanted": None, "outcome": "offered", "version": 3, "version_key": key,
        "reason": None, "contract": "{}", "sha256": bytes(32), "features": features, "prediction_arrays": arrays,
    }  # fmt: skip
    with sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node:
        seen = []
        for mean in (1.0, 2.0):
            with node.transaction():
                node.execute(HEAR, offer)
                assert node.execute(
                    TAKE, {**offer, "prediction": json.dumps({**network, "target_mean": mean})}
                ).fetchall() == [(None,)]
            seen.append(value(sides.here, "federated_predict('risk')"))
    assert seen[1] == seen[0] + 1
