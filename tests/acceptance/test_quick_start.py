"""The quick start as it stands, and what the product promises of it, on a whole installation."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from psycopg import errors
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from heliosdb.cli.demo.installation import Access
from tests.acceptance.federation import consortium, fresh, psql, share, train

QUICK_START = """
CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning;

CREATE FEDERATED WORKSPACE healthcare_consortium
WITH (
    privacy_budget = 0.5,           -- Differential privacy epsilon
    min_nodes = 3,                  -- Minimum nodes required
    max_nodes = 100,                -- Maximum nodes allowed
    compliance_mode = 'HIPAA',      -- HIPAA or GDPR
    encryption = 'AES-256-GCM'      -- Encryption algorithm
);

REGISTER FEDERATED NODE 'hospital_a'
IN WORKSPACE healthcare_consortium
WITH (
    endpoint = 'https://hospital-a.example.com:8443',
    certificate = '/path/to/cert.pem',
    data_residency = 'US-EAST',
    contact = 'admin@hospital-a.example.com'
);

CREATE FEDERATED MODEL disease_classifier
IN WORKSPACE healthcare_consortium
WITH (
    algorithm = 'logistic_regression',      -- Or 'neural_network', 'random_forest'
    features = ['age', 'blood_pressure', 'cholesterol', 'bmi'],
    target = 'disease_outcome',
    rounds = 50,                            -- Training rounds
    aggregation = 'fedavg'                  -- FedAvg, FedProx, FedAdam
);

START FEDERATED TRAINING disease_classifier
WITH (
    local_epochs = 5,               -- Epochs per round per node
    batch_size = 32,
    learning_rate = 0.001,
    convergence_threshold = 0.001
);
"""


@pytest.fixture
def session(installation: Access):
    with psycopg.connect(installation.proxy, autocommit=True) as connection:
        yield connection


def test_the_quick_start_is_accepted_literally(installation: Access, session: psycopg.Connection) -> None:
    result = psql(installation.proxy, QUICK_START)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:5] == [
        "CREATE EXTENSION",
        "CREATE FEDERATED WORKSPACE",
        "REGISTER FEDERATED NODE",
        "CREATE FEDERATED MODEL",
        "START FEDERATED TRAINING",
    ]
    assert "has 1 node where a run needs 3" in result.stderr
    status = psql(installation.proxy, "SELECT * FROM federated_training_status('disease_classifier');")
    assert status.stdout.startswith("0|"), status
    predicted = psql(
        installation.proxy,
        "SELECT federated_predict('disease_classifier', age => 55, blood_pressure => 140, cholesterol => 220,"
        " bmi => 28.5) AS disease_probability;",
    )
    assert "55000" in predicted.stderr
    assert "has no trained version" in predicted.stderr
    session.execute("STOP FEDERATED TRAINING disease_classifier")
    assert session.execute("SELECT wait_for_convergence('disease_classifier', 180)").fetchall() == [
        ("stopped",)
    ]


def uneven(rows: np.ndarray, shares: list[float], seed: int = 7) -> tuple[list[np.ndarray], np.ndarray]:
    """Split into parts of the given shares after holding out a fifth."""
    mixed = np.random.default_rng(seed).permutation(rows)
    held_out, rest = mixed[: len(mixed) // 5], mixed[len(mixed) // 5 :]
    places = (np.cumsum(shares)[:-1] * len(rest)).astype(int)
    return np.split(rest, places), held_out


def study(name: str) -> tuple[np.ndarray, list[str]]:
    if name == "diabetes":
        data = load_diabetes(scaled=False)
        target = data.target > np.median(data.target)
        names = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    else:
        data = load_breast_cancer()
        target = data.target
        names = [str(n).replace(" ", "_") for n in data.feature_names]
    return np.column_stack([data.data, target.astype(float)]), names


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_federated_auc_equals_pooled_within_a_hundredth(
    installation: Access, session: psycopg.Connection, name: str
) -> None:
    rows, features = study(name)
    parts, held_out = uneven(rows, [0.4, 0.25, 0.2, 0.1, 0.05])
    workspace = consortium(session, installation, 5)
    dataset = share(
        installation,
        workspace,
        parts,
        [*features, "ill"],
        options="WITH (min_rows = 10, max_parameter_share = 2)",
    )
    model = fresh("model")
    listed = ", ".join(f"'{feature}'" for feature in features)
    session.execute(
        f"CREATE FEDERATED MODEL {model} IN WORKSPACE {workspace} WITH (algorithm = 'logistic_regression',"
        f" features = [{listed}], target = 'ill', dataset = '{dataset}', rounds = 60)"
    )
    status, message = train(session, model, "WITH (local_epochs = 2, learning_rate = 0.05)")
    assert status in ("completed", "converged"), message
    table = fresh("held_out")
    columns = ", ".join(f"{feature} double precision" for feature in features)
    session.execute(f"CREATE TABLE {table} (place integer, {columns}, ill double precision)")
    with session.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for place, row in enumerate(held_out):
            copy.write_row([place, *map(float, row)])
    arguments = ", ".join(f"{feature} => {feature}" for feature in features)
    predictions = session.execute(
        f"SELECT federated_predict('{model}', {arguments}) FROM {table} ORDER BY place"
    ).fetchall()
    pooled = np.concatenate(parts)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        pooled[:, :-1], pooled[:, -1]
    )
    expected = roc_auc_score(held_out[:, -1], peer.predict_proba(held_out[:, :-1])[:, 1])
    found = roc_auc_score(held_out[:, -1], [row[0] for row in predictions])
    assert found >= expected - 0.01, (found, expected)


@pytest.fixture(scope="module")
def small_model(installation: Access) -> str:
    """A trained model of two features without a budget, on three nodes."""
    with psycopg.connect(installation.proxy, autocommit=True) as session:
        workspace = consortium(session, installation, 3)
        share(installation, workspace, patients(3), ["age", "bmi", "ill"])
        model = fresh("risk")
        session.execute(
            f"CREATE FEDERATED MODEL {model} IN WORKSPACE {workspace} WITH (algorithm = 'logistic_regression',"
            " features = ['age', 'bmi'], target = 'ill', rounds = 10)"
        )
        status, message = train(session, model, "WITH (learning_rate = 0.1)")
        assert status in ("completed", "converged"), message
        return model


def patients(nodes: int, rows: int = 120) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    tables = []
    for _ in range(nodes):
        age, bmi = rng.normal(50, 12, rows), rng.normal(26, 4, rows)
        ill = (age / 12 + bmi / 4 + rng.normal(0, 1, rows) > 50 / 12 + 26 / 4).astype(float)
        tables.append(np.column_stack([age, bmi, ill]))
    return tables


def test_two_runs_of_one_seed_give_the_same_parameters_bit_for_bit(
    installation: Access, session: psycopg.Connection
) -> None:
    workspace = consortium(session, installation, 3)
    share(installation, workspace, patients(3), ["age", "bmi", "ill"])
    model = fresh("seeded")
    session.execute(
        f"CREATE FEDERATED MODEL {model} IN WORKSPACE {workspace} WITH (algorithm = 'logistic_regression',"
        " features = ['age', 'bmi'], target = 'ill', rounds = 3)"
    )
    for seed in (7, 7, 8):
        assert train(session, model, f"WITH (seed = {seed})")[0] == "completed"
    hashes = session.execute(
        "SELECT v.sha256 FROM federated.version AS v JOIN federated.model AS m USING (model_id)"
        " WHERE m.name = %s ORDER BY v.version",
        [model],
    ).fetchall()
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_prediction_is_the_same_in_every_position(
    installation: Access, session: psycopg.Connection, small_model: str
) -> None:
    call = f"federated_predict('{small_model}', age => 61.5, bmi => 30)"
    [(expected,)] = session.execute(f"SELECT {call}").fetchall()
    assert 0 < expected < 1
    view = fresh("view")
    session.execute(f"CREATE VIEW {view} AS SELECT {call} AS p")
    assert session.execute(f"SELECT p FROM {view}").fetchall() == [(expected,)]
    assert session.execute(f"SELECT 1 WHERE {call} = %s", [expected]).fetchall() == [(1,)]
    prepared = f"federated_predict('{small_model}', age => %s, bmi => %s)"
    for _ in range(7):
        assert session.execute(f"SELECT {prepared}", [61.5, 30.0], prepare=True).fetchall() == [(expected,)]
    with psycopg.connect(installation.coordinator) as direct:
        for bypassing in (
            f"federated_model.{small_model}(age => 61.5, bmi => 30)",
            f"""federated_predict('{small_model}', '{{"age": 61.5, "bmi": 30}}'::jsonb)""",
            f"predict('{small_model}', ARRAY[61.5, 30])",
        ):
            assert direct.execute(f"SELECT {bypassing}").fetchall() == [(expected,)]
    session.execute(f"DROP VIEW {view}")


def test_null_is_the_mean_of_training_and_an_unknown_feature_is_an_error(
    session: psycopg.Connection, small_model: str
) -> None:
    [(mean,)] = session.execute(
        "SELECT (v.scaling -> 'means' ->> 0)::float8 FROM federated.version AS v"
        " JOIN federated.model AS m USING (model_id) WHERE m.name = %s AND v.is_current",
        [small_model],
    ).fetchall()
    [(with_null, with_mean, absent)] = session.execute(
        f"SELECT federated_predict('{small_model}', age => NULL, bmi => 30),"
        f" federated_predict('{small_model}', age => {mean!r}, bmi => 30),"
        f" federated_predict('{small_model}', bmi => 30)"
    ).fetchall()
    assert with_null == with_mean == absent
    with pytest.raises(errors.UndefinedFunction):
        session.execute(f"SELECT federated_predict('{small_model}', height => 2)")
    with pytest.raises(errors.UndefinedColumn, match='has no feature "height"'):
        session.execute(f"""SELECT federated_predict('{small_model}', '{{"height": 2}}'::jsonb)""")


def test_the_planner_inlines_a_prediction(session: psycopg.Connection, small_model: str) -> None:
    plan = session.execute(
        f"EXPLAIN (VERBOSE) SELECT federated_predict('{small_model}', age => a, bmi => a) FROM generate_series(1.0, 2) AS a"
    ).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "tanh" in text
    assert small_model not in text.split("FROM")[0]


def test_a_version_names_its_parameters_by_hash_and_keeps_them_sealed(
    session: psycopg.Connection, small_model: str
) -> None:
    [(sealed, sha256)] = session.execute(
        "SELECT v.sealed, v.sha256 FROM federated.version AS v JOIN federated.model AS m USING (model_id)"
        " WHERE m.name = %s",
        [small_model],
    ).fetchall()
    assert len(sha256) == hashlib.sha256().digest_size
    # Three float64 parameters, a nonce and a tag: what is stored is not the parameters themselves.
    assert len(sealed) > 3 * 8
    assert hashlib.sha256(sealed).digest() != sha256


def test_drop_of_a_trained_model_with_a_dependent_view_is_refused_without_cascade(
    installation: Access, session: psycopg.Connection, small_model: str
) -> None:
    view = fresh("view")
    session.execute(f"CREATE VIEW {view} AS SELECT federated_predict('{small_model}', age => 1)")
    with pytest.raises(errors.DependentObjectsStillExist):
        session.execute(f"DROP FEDERATED MODEL {small_model}")
    session.execute(f"DROP VIEW {view}")


def test_waiting_is_cancelled_within_a_second(installation: Access, session: psycopg.Connection) -> None:
    workspace = consortium(session, installation, 3)
    model = fresh("model")
    session.execute(
        f"CREATE FEDERATED MODEL {model} IN WORKSPACE {workspace}"
        " WITH (algorithm = 'logistic_regression', features = ['a'], target = 'b')"
    )
    session.execute(f"ALTER FEDERATED WORKSPACE {workspace} SET (min_nodes = 4)")
    session.execute(f"START FEDERATED TRAINING {model}")
    pid = session.info.backend_pid
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(installation.coordinator, autocommit=True) as observer,
    ):
        waiting = pool.submit(session.execute, f"SELECT wait_for_convergence('{model}')")
        while (
            observer.execute(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT wait_for%' AND wait_event = 'PgSleep'"
            ).rowcount
            != 1
        ):
            assert not waiting.done(), waiting.exception()
        # What it waits for never comes: that it ends at all is the cancel's doing.
        session.cancel_safe()
        with pytest.raises(errors.QueryCanceled):
            waiting.result(timeout=120)
    assert pid == session.info.backend_pid
    session.execute(f"STOP FEDERATED TRAINING {model}")


def failing(
    session: psycopg.Connection, workspace: str, features: str, target: str = "ill", **options: object
) -> str:
    model = fresh("bad")
    extra = "".join(f", {name} = {value!r}" for name, value in options.items())
    session.execute(
        f"CREATE FEDERATED MODEL {model} IN WORKSPACE {workspace} WITH (algorithm = 'logistic_regression',"
        f" features = [{features}], target = '{target}', rounds = 3{extra})"
    )
    status, message = train(session, model)
    assert status == "failed", (status, message)
    assert session.execute(
        "SELECT count(*) FROM federated.version AS v JOIN federated.model AS m USING (model_id) WHERE m.name = %s",
        [model],
    ).fetchall() == [(0,)]
    return message


def test_bad_data_fails_the_run_with_a_reason(installation: Access, session: psycopg.Connection) -> None:
    workspace = consortium(session, installation, 3)
    columns = ["age", "empty", "word", "grade", "ill"]
    types = ["double precision", "double precision", "text", "integer", "integer"]
    tables = [
        np.array([[float(i % 50), None, "x", i % 5, i % 2] for i in range(60)], dtype=object)
        for _ in range(3)
    ]
    share(installation, workspace, tables, columns, types=types)
    assert "height" in failing(session, workspace, "'height'")
    assert "empty" in failing(session, workspace, "'age', 'empty'")
    assert "the same value in every row" in failing(session, workspace, "'word'")
    assert "the same value in every row" in failing(session, workspace, "'age'", target="word")


def test_a_dataset_below_min_rows_is_no_answer(installation: Access, session: psycopg.Connection) -> None:
    workspace = consortium(session, installation, 3)
    share(installation, workspace, patients(3, rows=12), ["age", "bmi", "ill"])
    message = failing(session, workspace, "'age'")
    assert "20" in message
    assert "12" not in message


def test_wrong_certificates_and_addresses_are_recorded_as_reasons(
    installation: Access, session: psycopg.Connection
) -> None:
    workspace = fresh("consortium")
    session.execute("CREATE EXTENSION IF NOT EXISTS heliosdb_federated_learning")
    session.execute(f"CREATE FEDERATED WORKSPACE {workspace}")
    first, second = list(installation.nodes.values())[:2]
    session.execute(
        f"REGISTER FEDERATED NODE 'swapped' IN WORKSPACE {workspace}"
        f" WITH (endpoint = '{first.endpoint}', certificate = '{second.certificate}')"
    )
    session.execute(
        f"REGISTER FEDERATED NODE 'nowhere' IN WORKSPACE {workspace} WITH (endpoint = 'https://localhost:1')"
    )
    deadline = time.monotonic() + 120
    reasons: dict[str, str] = {}
    while time.monotonic() < deadline and len(reasons) < 2:
        reasons = dict(
            session.execute(
                "SELECT node_name, failure_reason FROM federated_node_diagnostics"
                " WHERE workspace = %s AND failure_reason IS NOT NULL",
                [workspace],
            ).fetchall()
        )
    assert "certificate" in reasons["swapped"]
    assert reasons["nowhere"]


def test_a_budget_is_spent_to_its_end_and_then_refuses(
    installation: Access, session: psycopg.Connection
) -> None:
    workspace = consortium(session, installation, 3, ", privacy_budget = 4")
    types = ["double precision", "double precision", "double precision CHECK (ill IN (0, 1))"]
    share(installation, workspace, patients(3), ["age", "bmi", "ill"], types=types)
    model = fresh("private")
    session.execute(
        f"CREATE FEDERATED MODEL {model} IN WORKSPACE {workspace} WITH (algorithm = 'logistic_regression',"
        " features = ['age', 'bmi'], target = 'ill', rounds = 4)"
    )
    status, message = train(session, model, "WITH (learning_rate = 0.1)")
    assert status == "completed", message
    [(total, consumed, remaining)] = session.execute(
        "SELECT * FROM federated_privacy_budget(%s)", [workspace]
    ).fetchall()
    assert total == 4
    assert 3.9 < consumed <= 4
    assert remaining == pytest.approx(4 - consumed)
    for node in list(installation.nodes.values())[:3]:
        with psycopg.connect(node.database) as own:
            [(ledger,)] = own.execute(
                "SELECT max(s.epsilon_tight) FROM federated.spending AS s JOIN federated.release AS r"
                " USING (release_id) WHERE r.workspace = %s",
                [workspace],
            ).fetchall()
            assert ledger == pytest.approx(consumed, abs=1e-6)
    status, message = train(session, model)
    assert status == "budget_exhausted", message
    assert session.execute(
        "SELECT consumed_epsilon FROM federated_privacy_budget(%s)", [workspace]
    ).fetchall() == [(consumed,)]
