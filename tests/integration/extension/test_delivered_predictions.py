"""Every kind of prediction predicts at a participant what it does where it was trained, to the bit and in every form of a call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
import pytest

from heliosdb.algorithms.convolution import Convolution
from heliosdb.algorithms.recurrent import GRUS
from heliosdb.algorithms.series import SeriesNetwork
from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.algorithms.transformer import TRANSFORMERS
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import freeze
from heliosdb.domain.task import Scaling
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.scoring.ballot import Candidate, hold_ballot
from tests.integration.extension.subscriptions_support import Sides, subscribed
from tests.integration.extension.versions_support import execute, functions, value
from tests.support.cluster import Cluster
from tests.support.encoded_model import (
    CALL,
    COLUMNS,
    ENCODING,
    INPUTS,
    TABLE,
    linear,
    make_patients,
    numbers,
    softmax,
)
from tests.support.publication import publish_prediction
from tests.unit.scoring.test_trees import LEVELS, make

LABELS = ("no", "it's", 'per"haps')
CLASSES = Encoding(COLUMNS, LABELS)
JSON = "to_jsonb(p) - '{id,other}'::text[]"
FORMS = (
    f"SELECT federated_model.stay({CALL}) FROM patients AS p ORDER BY id",
    f"SELECT federated_predict('stay', {JSON}) FROM patients AS p ORDER BY id",
    f"SELECT federated_predict('stay@1', {JSON}) FROM patients AS p ORDER BY id",
    "SELECT predict('stay', p) FROM patients AS p ORDER BY id",
    "SELECT y FROM patients AS p, federated_row.stay(p) AS y ORDER BY id",
    "SELECT prediction FROM federated_predict_batch('stay', 'SELECT * FROM patients ORDER BY id')"
    ' AS (id integer, age numeric, income float8, bmi real, smoker boolean, site text, "Ward" varchar,'
    " seen timestamptz, stay interval, v float8[], other text, prediction float8)",
)
CLASS_FORMS = (
    f"SELECT federated_predict_class('stay', {JSON}) FROM patients AS p ORDER BY id",
    f"SELECT federated_predict_proba('stay@001', {JSON})::text FROM patients AS p ORDER BY id",
)
CERTIFIED = f"SELECT federated_certify('stay', {JSON})::text FROM patients AS p ORDER BY id"
SHARES = (
    "SELECT y FROM patients AS p, federated_proba.stay(p) AS y ORDER BY id",
    "SELECT prediction FROM federated_predict_batch('stay', 'SELECT * FROM patients ORDER BY id')"
    ' AS (id integer, age numeric, income float8, bmi real, smoker boolean, site text, "Ward" varchar,'
    " seen timestamptz, stay interval, v float8[], other text, prediction text)",
)


def network(outputs: int, link: str) -> Prediction:
    """Two layers whose weights are drawn."""
    rng = np.random.default_rng(7)
    arrays = {
        "means": np.zeros(INPUTS), "scales": np.full(INPUTS, 3.0), "weight_0": rng.normal(size=(5, INPUTS)).astype(np.float32),
        "bias_0": rng.normal(size=5).astype(np.float32), "weight_1": rng.normal(size=(outputs, 5)), "bias_1": np.zeros(outputs),
    }  # fmt: skip
    content = {
        "link": link, "activations": ["gelu", "softmax" if link == "softmax" else "linear"], "target_mean": 3.0, "target_scale": 2.0,
    }  # fmt: skip
    return Prediction("network", content, freeze(arrays))


def convolution(outputs: int, link: str) -> Prediction:
    """Most inputs are an image in two lines, the others join; parameters are drawn."""
    settings = ConvolutionSettings(
        input_shape=(1, 2, INPUTS // 2 - 1), channels=(4, 2), groups=2, activation="gelu", layers=(outputs,),
        output_activation="softmax" if link == "softmax" else "linear",
    )  # fmt: skip
    found = Convolution.of(INPUTS, settings)
    parameters = np.random.default_rng(6).normal(size=found.size).astype(np.float32)
    # Days since 1970 would decide alone.
    scales = tuple(1e5 if name == "seen" else 3.0 for name in ENCODING.inputs)
    made = found.predict(parameters, Scaling((0.0,) * INPUTS, scales, 3.0, 2.0))
    return replace(made, arrays=freeze(dict(made.arrays)))


def series(name: str) -> Prediction:
    """Most inputs are two channels, the others join; parameters are drawn."""
    family = {"gru": GRUS, "transformer": TRANSFORMERS}[name]
    shape = (INPUTS // 2 - 1, 2)
    settings = family.settings(input_shape=shape, width=4, output_activation="linear")
    found = SeriesNetwork.of(INPUTS, settings, family.training)
    parameters = np.random.default_rng(6).normal(size=found.size).astype(np.float32)
    scales = tuple(1e5 if name == "seen" else 3.0 for name in ENCODING.inputs)
    made = found.predict(parameters, Scaling((0.0,) * INPUTS, scales, 3.0, 2.0))
    return replace(made, arrays=freeze(dict(made.arrays)))


def votes() -> Prediction:
    """Of three models of two classes."""
    regression = linear("logistic")
    # As training makes it, with what federated_coefficients shows.
    trained = replace(regression, content={**regression.content, "coefficients": {"scores": []}})
    models = (trained, network(1, "logistic"), trained)
    voters = [Candidate(group, one, ENCODING, ("0", "1")) for group, one in enumerate(models, 1)]
    return hold_ballot(voters).prediction


def votes_on_classes() -> Prediction:
    """Of three models of three classes."""
    models = (softmax(3), network(3, "softmax"), softmax(3))
    voters = [Candidate(group, one, CLASSES, LABELS) for group, one in enumerate(models, 1)]
    return hold_ballot(voters, LABELS).prediction


def asked(encoding: Encoding) -> Encoding:
    """How rows come to models that vote."""
    return hold_ballot([Candidate(n, linear("logistic"), encoding, ("0", "1")) for n in (1, 2, 3)]).encoding


@dataclass(frozen=True)
class Kind:
    """A prediction, and in which forms it is asked for."""

    prediction: Prediction
    encoding: Encoding
    forms: tuple[str, ...]


KINDS = {
    "linear": Kind(linear("identity"), ENCODING, FORMS),
    "logistic": Kind(linear("logistic"), ENCODING, FORMS + CLASS_FORMS),
    "exp": Kind(linear("exp"), ENCODING, FORMS),
    "softmax": Kind(softmax(3), CLASSES, SHARES + CLASS_FORMS),
    "network": Kind(network(1, "identity"), ENCODING, FORMS),
    "network of classes": Kind(network(3, "softmax"), CLASSES, SHARES + CLASS_FORMS),
    "convolution": Kind(convolution(1, "identity"), ENCODING, FORMS),
    "convolution of classes": Kind(convolution(3, "softmax"), CLASSES, SHARES + CLASS_FORMS),
    "series of a gru": Kind(series("gru"), ENCODING, FORMS),
    "series of a transformer": Kind(series("transformer"), ENCODING, FORMS),
    "votes": Kind(votes(), asked(ENCODING), (*FORMS, *CLASS_FORMS, CERTIFIED)),
    "votes on classes": Kind(
        votes_on_classes(), replace(asked(ENCODING), classes=LABELS), (*SHARES, *CLASS_FORMS, CERTIFIED)
    ),
}


@pytest.fixture
def sides(cluster: Cluster, catalog: psycopg.Connection) -> Iterator[Sides]:
    """Both sides with the same table of patients."""
    make_patients(catalog)
    catalog.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
    with subscribed(cluster, catalog, "stay") as both:
        both.here.execute(TABLE.replace("char(4)", "varchar"))  # type: ignore[arg-type]
        with (
            catalog.cursor().copy("COPY patients TO STDOUT") as out,
            both.here.cursor().copy("COPY patients FROM STDIN") as into,
        ):
            for block in out:
                into.write(block)
        both.here.execute("GRANT SELECT ON patients TO federated_analyst")
        yield both


def answers(session: psycopg.Connection, forms: tuple[str, ...]) -> list[list[Any]]:
    # repr has every bit of a number, and NaN is NaN.
    return [[repr(one) for (one,) in session.execute(form).fetchall()] for form in forms]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KINDS)
def test_it_predicts_the_same_to_the_bit(sides: Sides, name: str) -> None:
    kind = KINDS[name]
    published = publish_prediction(
        sides.cluster, sides.there.info.dbname, "stay", kind.prediction, kind.encoding
    )
    assert published.obstacle is None
    assert sides.deliver() == [None]

    expected = answers(sides.there, kind.forms)
    assert all(len(one) == 61 and len(set(one)) > 1 for one in expected)
    assert answers(sides.here, kind.forms) == expected
    with sides.cluster.connect(sides.here.info.dbname, user="an_analyst") as analyst:
        assert answers(analyst, kind.forms) == expected
        # What it is made of is read by the same roles as where it is trained; its arrays by neither.
        [(kept,)] = analyst.execute("SELECT prediction ->> 'link' FROM federated.held_version").fetchall()
        assert kept == kind.prediction.content["link"]
    with (
        sides.cluster.connect(sides.here.info.dbname, user="a_nobody") as nobody,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        nobody.execute("SELECT federated_model.stay()")


@pytest.mark.parametrize("boosts", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
def test_trees_predict_the_same_to_the_bit(
    cluster: Cluster, catalog: psycopg.Connection, boosts: bool, classes: int
) -> None:
    execute(
        catalog,
        "CREATE FEDERATED MODEL grove IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
        " features = ['a', 'b', 'c', 'd'], target = 'outcome')",
    )
    arrays = make(6, 5, 1 if boosts or not classes else classes - 1, boosts=boosts)
    arrays |= {name: arrays[name].astype(np.int64) for name in ("n_edges", "levels")}
    if boosts and not classes:
        arrays["base"] = arrays["base"][:1]
    columns = (
        *(ColumnEncoding(name) for name in "abc"),
        ColumnEncoding("d", ColumnKind.CATEGORY, "index", levels=tuple("ABCDEFGHI"[:LEVELS])),
    )
    content = {
        "link": "softmax" if classes else "identity",
        "boosts": boosts,
        "target_mean": 1.0,
        "target_scale": 2.0,
    }
    encoding = Encoding(columns, LABELS[:classes])
    assert publish_prediction(
        cluster, catalog.info.dbname, "grove", Prediction("trees", content, freeze(arrays)), encoding
    ).obstacle is None  # fmt: skip
    rows = (
        "(SELECT n / 7.0 - 3 AS a, sin(n) AS b, CASE WHEN n % 5 > 0 THEN cos(n) END AS c, chr(64 + n % 11) AS d"
        " FROM generate_series(0, 300) AS n)"
    )
    forms = (
        (f"SELECT federated_predict_proba('grove', to_jsonb(p))::text FROM {rows} AS p",)
        if classes
        else (f"SELECT predict('grove', p) FROM {rows} AS p",)
    )
    with subscribed(cluster, catalog, "grove") as sides:
        assert sides.deliver() == [None]
        expected = answers(catalog, forms)
        assert len(set(expected[0])) > 20
        assert answers(sides.here, forms) == expected


def test_more_features_than_a_function_has_arguments(cluster: Cluster, catalog: psycopg.Connection) -> None:
    columns = tuple(ColumnEncoding(f"f{number}", missing_indicator=number % 7 == 0) for number in range(150))
    encoding = Encoding(columns)
    named = ", ".join(f"'{column.column}'" for column in columns)
    execute(
        catalog,
        "CREATE FEDERATED MODEL wide IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
        f" features = [{named}], target = 'outcome')",
    )
    count = len(encoding.inputs)
    slopes, zeros = tuple(numbers(3, count)), (0.0,) * count
    prediction = LinearPrediction(0.5, slopes, zeros, zeros, "identity").to_prediction()
    assert publish_prediction(cluster, catalog.info.dbname, "wide", prediction, encoding).obstacle is None
    forms = (
        "SELECT federated_predict('wide', '{\"f3\": 2.5, \"f140\": -1}')",
        "SELECT predict('wide', ARRAY(SELECT n / 10.0 FROM generate_series(1, 150) AS n))",
        "SELECT predict('wide@1', p) FROM (SELECT 1 AS f0, 2 AS f149) AS p",
    )
    with subscribed(cluster, catalog, "wide") as sides:
        assert sides.deliver() == [None]
        assert answers(sides.here, forms) == answers(catalog, forms)


def test_a_name_that_is_too_long_for_a_number_has_the_models_function_alone(
    cluster: Cluster, catalog: psycopg.Connection
) -> None:
    long = "m" * 62
    execute(
        catalog,
        f"CREATE FEDERATED MODEL {long} IN WORKSPACE clinics WITH (algorithm = 'logistic_regression', features = ['a'], target = 'b')",
    )
    prediction = LinearPrediction(0.5, (1.0,), (0.0,), (0.0,), "identity").to_prediction()
    publish_prediction(cluster, catalog.info.dbname, long, prediction)
    with subscribed(cluster, catalog, long) as sides:
        assert sides.deliver() == [None]
        assert functions(sides.here) == [long]
        assert value(sides.here, f"federated_predict('{long}', '{{\"a\": 2}}')") == 2.5


def test_figures_of_the_training_do_not_travel(cluster: Cluster, catalog: psycopg.Connection) -> None:
    execute(
        catalog,
        "CREATE FEDERATED MODEL told IN WORKSPACE clinics WITH (algorithm = 'logistic_regression', features = ['a'], target = 'b')",
    )
    made = LinearPrediction(0.5, (1.0,), (0.0,), (0.0,), "identity").to_prediction()
    told = Prediction(made.kind, {**made.content, "coefficients": {"rows": 17, "std_errors": [1.0]}})
    publish_prediction(cluster, catalog.info.dbname, "told", told)
    with subscribed(cluster, catalog, "told") as sides:
        assert sides.deliver() == [None]
        [(kept, contract)] = sides.here.execute(
            "SELECT prediction, contract FROM federated.held_version"
        ).fetchall()
        assert kept == {
            "kind": "linear",
            "booleans": [False],
            **{k: list(v) if isinstance(v, tuple) else v for k, v in made.content.items()},
        }
        assert contract == {"algorithm": "logistic_regression", "target": "b"}
