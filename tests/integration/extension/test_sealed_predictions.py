"""Versions with prediction = 'sealed': they predict as inline ones do, and no table has a number of theirs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import errors

from heliosdb.domain.prediction import Prediction
from heliosdb.extension.server_key import FILE_NAME
from tests.support.cluster import Cluster
from tests.support.publication import publish_prediction, publish_version

INTERCEPT, SLOPES = 0.618281828, (0.331415926, 2.271828182)
CANARIES = (str(INTERCEPT), *map(str, SLOPES))
ROW = "(age => 41, bmi => 22.5)"
CREATE = (
    "CREATE FEDERATED WORKSPACE clinics WITH (compliance_mode = 'none')",
    "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'linear_regression', features = ['age', 'bmi'],"
    " target = 'outcome', prediction = 'sealed')",
)


@pytest.fixture
def sealed(cluster: Cluster, federated_database: str) -> Iterator[psycopg.Connection]:
    """A catalog with a model whose version 1 is sealed."""
    with cluster.connect(federated_database) as connection:
        for statement in CREATE:
            connection.execute("CALL federated.execute(%s)", [statement])
        publish_version(cluster, federated_database, "risk", intercept=INTERCEPT, slopes=SLOPES)
        yield connection


def value(session: psycopg.Connection, call: str) -> object:
    [(found,)] = session.execute(f"SELECT {call}").fetchall()  # type: ignore[arg-type]
    return found


def alter(session: psycopg.Connection, prediction: str) -> None:
    session.execute(
        "CALL federated.execute(%s)", [f"ALTER FEDERATED MODEL risk SET (prediction = '{prediction}')"]
    )


def test_it_predicts_as_an_inline_version_does_in_all_forms(
    cluster: Cluster, federated_database: str, sealed: psycopg.Connection
) -> None:
    alter(sealed, "inline")
    publish_version(cluster, federated_database, "risk", intercept=INTERCEPT, slopes=SLOPES)
    for form in (
        'federated_model."risk@{}"' + ROW,
        "federated_predict('risk@{}', '{{\"age\": 41, \"bmi\": 22.5}}')",
        "predict('risk@{}', ARRAY[41, 22.5]::float8[])",
        "predict('risk@{}', q) FROM (SELECT 41 AS age, 22.5 AS bmi) AS q",
        "(SELECT b.prediction FROM federated_predict_batch('risk@{}', 'SELECT 41 AS age, 22.5 AS bmi')"
        " AS b (age integer, bmi numeric, prediction float8))",
    ):
        values = [value(sealed, form.format(version)) for version in (1, 2)]
        assert values[0] == pytest.approx(values[1], rel=1e-12), form
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        assert value(analyst, f'federated_model."risk@1"{ROW}') == pytest.approx(
            INTERCEPT + 41 * SLOPES[0] + 22.5 * SLOPES[1]
        )
    told = sealed.execute(
        "SELECT sum(contribution) + min(base_value) FROM federated_explain('risk@1', '{\"age\": 41, \"bmi\": 22.5}')"
    )
    assert told.fetchall()[0][0] == pytest.approx(value(sealed, f'federated_model."risk@1"{ROW}'))


def test_nothing_in_the_catalog_or_a_dump_has_its_numbers(
    cluster: Cluster, federated_database: str, sealed: psycopg.Connection
) -> None:
    tables = sealed.execute(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'r' AND (n.nspname LIKE 'federated%' OR c.relname IN ('pg_proc', 'pg_description', 'pg_attrdef'))"
    ).fetchall()
    found = io.BytesIO()
    for (table,) in tables:
        with sealed.cursor().copy(f"COPY {table} TO STDOUT") as rows:
            for chunk in rows:
                found.write(chunk)
    text = found.getvalue().decode()
    assert "heliosdb" in text
    for canary in CANARIES:
        assert canary not in text
    stored = value(sealed, "prediction FROM federated.version")
    assert stored == {"kind": "linear", "booleans": [False, False], "link": "identity", "sealed": True}
    # No weight; means and scales stay readable, as those of any version.
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        shown = value(analyst, "scaling FROM federated.version")
    assert shown == {"means": []}
    key = Path(str(value(sealed, "current_setting('data_directory')"))) / FILE_NAME
    assert key.stat().st_mode & 0o077 == 0
    assert key.read_bytes().hex() not in text


def test_a_version_that_is_rolled_back_to_or_tagged_predicts_as_it_did(
    cluster: Cluster, federated_database: str, sealed: psycopg.Connection
) -> None:
    before = value(sealed, f"federated_model.risk{ROW}")
    publish_version(cluster, federated_database, "risk", intercept=5.0, slopes=(0.0, 0.0))
    assert value(sealed, f"federated_model.risk{ROW}") == 5.0
    sealed.execute("CALL federated.execute('TAG FEDERATED MODEL risk VERSION 1 AS ''first''')")
    sealed.execute("CALL federated.execute('ROLLBACK FEDERATED MODEL risk TO VERSION ''first''')")
    assert value(sealed, f"federated_model.risk{ROW}") == before
    assert value(sealed, f'federated_model."risk@first"{ROW}') == before
    compared = value(sealed, "compare_federated_models('risk', '1', '2') -> 'parameter_distance'")
    assert compared is None


@pytest.mark.parametrize(
    "call",
    [
        "SELECT * FROM federated_coefficients('risk')",
        "INSERT INTO federated.model_export (model_name, version) VALUES ('risk', 1)",
        "SELECT federated._served_numbers(session_user, 'risk', numbers_id) FROM federated.held_version",
    ],
)
def test_what_would_hand_its_numbers_out_is_refused(sealed: psycopg.Connection, call: str) -> None:
    sealed.execute("CREATE ROLE a_caller LOGIN IN ROLE federated_analyst, federated_admin")
    try:
        sealed.execute("SET ROLE a_caller" if "model_export" not in call else "SELECT 1")
        with pytest.raises((errors.ObjectNotInPrerequisiteState, errors.InsufficientPrivilege)) as caught:
            sealed.execute(call)  # type: ignore[arg-type]
        if "_served_numbers" not in call:
            assert str(caught.value).startswith('version 1 of federated model "risk" is sealed: ')
    finally:
        sealed.execute("RESET ROLE")
        sealed.execute("DROP ROLE a_caller")


def test_only_analysts_may_have_it_predict_and_nobody_may_open_it(
    cluster: Cluster, federated_database: str, sealed: psycopg.Connection
) -> None:
    sealed.execute("CREATE ROLE a_stranger LOGIN")
    try:
        with (
            cluster.connect(federated_database, user="a_stranger") as stranger,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            stranger.execute(f"SELECT federated_model.risk{ROW}")
    finally:
        sealed.execute("DROP ROLE a_stranger")
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        for call in (
            "SELECT prediction_arrays FROM federated.version",
            "SELECT prediction_arrays FROM federated.held_version",
            "SELECT federated._keep_version('a', '{}', NULL, '{}')",
            "SELECT federated._prediction_key()",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                analyst.execute(call)  # type: ignore[arg-type]


def test_with_another_key_or_in_another_row_it_does_not_open(
    cluster: Cluster, federated_database: str, sealed: psycopg.Connection
) -> None:
    publish_version(cluster, federated_database, "risk", intercept=1.0, slopes=(1.0, 1.0))
    sealed.execute("SET session_replication_role = replica")
    sealed.execute(
        "UPDATE federated.version SET prediction_arrays = (SELECT v.prediction_arrays FROM federated.version AS v"
        " WHERE v.version = 1) WHERE version = 2"
    )
    with cluster.connect(federated_database) as other, pytest.raises(errors.Error) as caught:
        other.execute(f'SELECT federated_model."risk@2"{ROW}')
    assert "do not open with this server's key" in str(caught.value)
    key = Path(str(value(sealed, "current_setting('data_directory')"))) / FILE_NAME
    kept = key.read_bytes()
    try:
        key.write_bytes(bytes(32))
        with cluster.connect(federated_database) as other, pytest.raises(errors.Error) as caught:
            other.execute(f'SELECT federated_model."risk@1"{ROW}')
        assert "do not open with this server's key" in str(caught.value)
    finally:
        key.write_bytes(kept)
    with cluster.connect(federated_database) as other:
        assert value(other, f'federated_model."risk@1"{ROW}') is not None


def test_the_default_is_sealed_under_hipaa_and_a_network_is_sealed_whole(
    cluster: Cluster, federated_database: str, session: psycopg.Connection
) -> None:
    for statement in (
        "CREATE FEDERATED WORKSPACE clinics WITH (compliance_mode = 'HIPAA', privacy_budget = 1)",
        CREATE[1].replace(", prediction = 'sealed'", "").replace("linear_", "logistic_"),
    ):
        session.execute("CALL federated.execute(%s)", [statement])
    session.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
    publish_version(cluster, federated_database, "risk", intercept=INTERCEPT, slopes=SLOPES)
    assert value(session, "prediction ? 'sealed' FROM federated.version")
    weights = np.full((2, 1), 0.123456789)
    network = Prediction(
        "network",
        {"link": "identity", "fills": [0.0, 0.0], "shifts": [0.0, 0.0], "scales": [1.0, 1.0]},
        {"weight/0": weights, "bias/0": np.zeros(1)},
    )
    publish_prediction(cluster, federated_database, "risk", network)
    [(arrays,)] = session.execute(
        "SELECT prediction_arrays FROM federated.version WHERE version = 2"
    ).fetchall()
    assert weights.tobytes()[:8] not in arrays
    assert arrays.startswith(b"heliosdb sealed numbers 1")
