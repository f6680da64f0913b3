"""federated_explain: contributions add up to what is predicted, for whom may predict, and refuse what prediction refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from federated_sql import rewrite
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import freeze
from tests.support.cluster import Cluster
from tests.support.encoded_model import COLUMNS, ENCODING, FEATURES, linear, make_patients, reference, softmax
from tests.support.publication import publish_prediction
from tests.unit.scoring.test_shapley import layers, one_long_way, tree_content, with_covers
from tests.unit.scoring.test_trees import LEVELS, make

GIVEN = "to_jsonb(p) - '{id,other}'::text[]"
PLAIN = Encoding(
    (
        ColumnEncoding("age"),
        ColumnEncoding("bmi"),
        ColumnEncoding("smoker", ColumnKind.BOOLEAN),
        ColumnEncoding("site", ColumnKind.CATEGORY, "index", levels=tuple("abcdefghi")),
    )
)
NUMBERS = Encoding((*PLAIN.columns[:3], ColumnEncoding("site")))
ROW = {"age": 0.25, "bmi": -0.5, "smoker": True, "site": "c"}


@pytest.fixture
def patients(cluster: Cluster, catalog: psycopg.Connection) -> psycopg.Connection:
    """A table of patients, and a model `stay` of all of its columns."""
    make_patients(catalog)
    catalog.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
    return catalog


def publish(
    cluster: Cluster, catalog: psycopg.Connection, prediction: Prediction, encoding: Encoding, model: str
) -> None:
    if model != "stay":
        names = ", ".join(f"'{column.column}'" for column in encoding.columns)
        catalog.execute(
            "CALL federated.execute(%s)",
            [f"CREATE FEDERATED MODEL {model} IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
             f" features = [{names}], target = 'outcome')"],
        )  # fmt: skip
    published = publish_prediction(cluster, catalog.info.dbname, model, prediction, encoding)
    assert published.obstacle is None


def trees(*, boosts: bool, covers: bool = True) -> Prediction:
    arrays = make(3, 4, 1, boosts=boosts)
    if boosts:
        arrays["base"] = np.array([0.5])
    arrays |= {name: arrays[name].astype(np.int64) for name in ("n_edges", "levels")}
    return Prediction(
        "trees", tree_content("logistic", boosts=boosts), freeze(with_covers(arrays) if covers else arrays)
    )


def network() -> Prediction:
    content = {
        "link": "logistic",
        "activations": ["tanh", "sigmoid"],
        "target_mean": 0.0,
        "target_scale": 1.0,
    }
    return Prediction("network", content, freeze(layers(1)))


def explain(session: psycopg.Connection, call: str, *given: Any) -> list[tuple[Any, ...]]:
    return session.execute(f"SELECT * FROM federated_explain({call})", given).fetchall()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("link", "scale"), [("identity", "target"), ("logistic", "log-odds"), ("exp", "logarithm")]
)
def test_a_linear_score_of_columns_of_every_kind_is_explained(
    cluster: Cluster, patients: psycopg.Connection, link: str, scale: str
) -> None:
    publish(cluster, patients, linear(link), ENCODING, "stay")
    found = patients.execute(
        f"SELECT p.id, e.* FROM patients AS p, federated_explain('stay', {GIVEN}) AS e"  # type: ignore[arg-type]
    ).fetchall()
    typed = rewrite("SELECT p.id, e.* FROM patients AS p, federated_explain('stay', p) AS e")
    assert typed is not None
    assert patients.execute(typed.text).fetchall() == found  # type: ignore[arg-type]
    predicted = dict(
        patients.execute(f"SELECT id, federated_predict('stay', {GIVEN}) FROM patients AS p").fetchall()  # type: ignore[arg-type]
    )
    undo = {"target": lambda x: x, "log-odds": lambda x: np.log(x / (1 - x)), "logarithm": np.log}[scale]
    for row, value in predicted.items():
        lines = [one[1:] for one in found if one[0] == row]
        assert [one[0] for one in lines] == list(FEATURES)
        assert {one[4:] for one in lines} == {("1" if link == "logistic" else None, scale)}
        told = lines[0][3] + sum(one[2] for one in lines)
        if link != "logistic" or 1e-9 < value < 1 - 1e-9:
            assert told == pytest.approx(undo(value), rel=1e-6, abs=1e-6)
    # Of nothing known nothing contributes but what says so: a level, and that a value is missing.
    nothing = {one[0]: one[2] for one in explain(patients, "'stay'")}
    says_so = {one.column for one in COLUMNS if one.missing_indicator or one.null_level}
    assert {name for name, contribution in nothing.items() if contribution} == says_so


def test_several_classes_have_a_line_for_each_feature(cluster: Cluster, patients: psycopg.Connection) -> None:
    encoding = Encoding(COLUMNS, ("low", "it's", "high"))
    publish(cluster, patients, softmax(3), encoding, "stay")
    lines = explain(patients, "'stay@1', %s", Jsonb({"age": 3, "site": "north"}))
    assert [one[4] for one in lines] == [label for label in encoding.classes for _ in FEATURES]
    assert {one[5] for one in lines} == {"score"}
    assert [one[1] for one in lines[: len(FEATURES)]] == ["3", *[None] * 3, "north", *[None] * 4]
    scores = np.array(
        [one[3] + sum(o[2] for o in lines if o[4] == one[4]) for one in lines[:: len(FEATURES)]]
    )
    [shares] = reference(softmax(3), [dict.fromkeys(FEATURES) | {"age": 3, "site": "north"}])
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), shares, rtol=1e-9)


def test_trees_and_networks_are_explained_for_analysts(cluster: Cluster, catalog: psycopg.Connection) -> None:
    assert len(PLAIN.columns[3].levels) == LEVELS
    for model, prediction, scale in (
        ("boosted", trees(boosts=True), "log-odds"),
        ("forest", trees(boosts=False), "probability"),
        ("net", network(), "log-odds"),
    ):
        numbers = NUMBERS if model == "net" else PLAIN
        row = ROW | {"site": 2.0} if model == "net" else ROW
        publish(cluster, catalog, prediction, numbers, model)
        with cluster.connect(catalog.info.dbname, user="an_analyst") as analyst:
            [(share,)] = analyst.execute("SELECT federated_predict(%s, %s)", [model, Jsonb(row)]).fetchall()
            lines = explain(analyst, "%s, %s", model, Jsonb(row))
            assert [(one[0], one[4], one[5]) for one in lines] == [
                (name, "1", scale) for name in ("age", "bmi", "smoker", "site")
            ]
            told = lines[0][3] + sum(one[2] for one in lines)
            expected = np.log(share / (1 - share)) if scale == "log-odds" else share
            assert told == pytest.approx(expected, rel=1e-5)
            assert explain(analyst, "%s, %s", model, Jsonb(row)) == lines
            # As the proxy rewrites it.
            typed = f"'{model}', age => 0.25, bmi => -0.5, smoker => true, site => {row['site']!r}"
            rewritten = rewrite(f"SELECT * FROM federated_explain({typed})")
            assert rewritten is not None
            assert analyst.execute(rewritten.text).fetchall() == lines  # type: ignore[arg-type]
            if model == "net":
                few = explain(analyst, "%s, %s, samples => 1, seed => 3", model, Jsonb(row))
                assert few[0][3] + sum(one[2] for one in few) == pytest.approx(told)
                assert few != lines
            else:
                with pytest.raises(errors.FeatureNotSupported, match="are of networks alone"):
                    explain(analyst, "%s, %s, samples => 5", model, Jsonb(row))


def test_a_row_without_a_feature_is_no_features(patients: psycopg.Connection, cluster: Cluster) -> None:
    publish(cluster, patients, linear("identity"), ENCODING, "stay")
    with pytest.raises(errors.UndefinedColumn, match="the row has no feature"):
        patients.execute("SELECT federated_features('stay', d) FROM pg_database AS d")
    assert patients.execute("SELECT federated_features('stay', NULL)").fetchall() == [(None,)]


def test_bad_input_is_refused_as_by_a_prediction(cluster: Cluster, catalog: psycopg.Connection) -> None:
    publish(cluster, catalog, trees(boosts=False, covers=False), PLAIN, "old")
    publish(cluster, catalog, network(), NUMBERS, "net")
    for arguments in (
        ["old", Jsonb({"age": 1, "weight": 2})], ["old", Jsonb([1])], ["old", Jsonb({"age": "old"})],
        ["old", Jsonb({"smoker": 2})], ["old", Jsonb({"age": [1]})], ["nobody", Jsonb({})], ["old@7", Jsonb({})],
        [None, Jsonb({})],
    ):  # fmt: skip
        raised = []
        for function in ("federated_predict", "federated_explain"):
            with pytest.raises(psycopg.Error) as caught:
                catalog.execute(f"SELECT * FROM {function}(%s, %s)", arguments)  # type: ignore[arg-type]
            shown = caught.value.diag
            raised.append((shown.sqlstate, shown.message_primary, shown.message_hint))
        assert raised[0] == raised[1]
    assert explain(catalog, "'old', NULL") == []
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="which way") as caught:
        explain(catalog, "'old', %s", Jsonb(ROW))
    assert "Train the model anew" in (caught.value.diag.message_hint or "")
    for samples, seed in ((0, 0), (100_001, 0), (5, -1)):
        with pytest.raises(errors.InvalidParameterValue, match="must be"):
            explain(catalog, "'net', '{}', %s, %s", samples, seed)
    catalog.execute(
        "CALL federated.execute('CREATE FEDERATED MODEL untrained IN WORKSPACE clinics WITH"
        " (algorithm = ''linear_regression'', features = [''x''], target = ''y'')')"
    )
    for name in ("explain", "explain_model"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            catalog.execute(f"SELECT * FROM federated_{name}('untrained')")  # type: ignore[arg-type]
    # The workspace has a privacy budget.
    with pytest.raises(errors.FeatureNotSupported, match="federated_explain_model is not supported"):
        catalog.execute("SELECT * FROM federated_explain_model('net')")


def test_who_may_not_predict_may_not_ask_why(cluster: Cluster, catalog: psycopg.Connection) -> None:
    publish(cluster, catalog, linear("identity"), ENCODING, "stay2")
    catalog.execute("REVOKE EXECUTE ON FUNCTION federated_model.stay2 FROM federated_analyst")
    for user in ("an_analyst", "an_auditor"):
        with (
            cluster.connect(catalog.info.dbname, user=user) as session,
            pytest.raises(errors.InsufficientPrivilege, match="stay2" if user == "an_analyst" else None),
        ):
            explain(session, "'stay2'")


def test_a_version_that_a_session_keeps_is_refused_once_it_is_withheld(
    cluster: Cluster, catalog: psycopg.Connection
) -> None:
    publish(cluster, catalog, network(), NUMBERS, "net")
    slots = "federated._bytes(ARRAY[0.25, -0.5, 1, 2]::float8[])"
    calls = (
        f"SELECT failure, explained IS NOT NULL FROM federated._explain_row(%s, {slots}, 5, 0)",
        f"SELECT NULL, federated._score_block(%s, {slots.replace('ARRAY[', 'ARRAY[[').replace(']::', ']]::')}) IS NOT NULL",
    )
    with cluster.connect(catalog.info.dbname, user="an_analyst") as analyst:
        [(key,)] = analyst.execute("SELECT numbers_id::text FROM federated._find_held('net')").fetchall()
        for call in calls:
            assert analyst.execute(call, [key]).fetchall() == [(None, True)]  # type: ignore[arg-type]
        for change, message in (
            ("withheld = true", "while an erasure is carried out"),
            (
                "withheld = false, retired_at = now(), retired_by = gen_random_uuid(), is_current = false, prediction = NULL",
                "was retired",
            ),
        ):
            catalog.execute(f"UPDATE federated.version SET {change}")  # type: ignore[arg-type]
            for call in calls:
                with pytest.raises(errors.ObjectNotInPrerequisiteState, match=message):
                    analyst.execute(call, [key])  # type: ignore[arg-type]
                with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no longer there"):
                    analyst.execute(call, ["00000000-0000-0000-0000-000000000000"])  # type: ignore[arg-type]


def test_a_version_that_is_too_large_is_refused_before_it_is_explained(
    cluster: Cluster, catalog: psycopg.Connection
) -> None:
    arrays = one_long_way(6_000)
    arrays |= {name: arrays[name].astype(np.int64) for name in ("n_edges", "levels")}
    long = Prediction("trees", tree_content("logistic", boosts=False), freeze(arrays))
    publish(cluster, catalog, long, PLAIN, "long")
    with pytest.raises(errors.ProgramLimitExceeded, match="too long ways") as caught:
        explain(catalog, "'long', %s", Jsonb(ROW))
    assert "max_depth" in (caught.value.diag.message_hint or "")
    publish(cluster, catalog, trees(boosts=True), PLAIN, "boosted")
    assert explain(catalog, "'boosted', %s", Jsonb(ROW))
