"""The coordinator calls aggregation functions: with all updates at once, without rights, and not for ever."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest

from heliosdb.aggregation import strategy
from heliosdb.aggregation.custom_function import CustomFunction
from heliosdb.coordinator.aggregation_functions import FunctionCaller
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import NoSettings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Matrix, Vector
from tests.integration.coordinator.support import World, create_model, create_workspace
from tests.support.cluster import Cluster

UPDATES = np.array([[1.0, -4.0, 0.1], [5.0, 2.0, 1e-310], [2.0, 9.0, -1e300]])
MIDDLE = """SELECT array_agg(middle ORDER BY place) FROM (
    SELECT place, percentile_cont(0.5) WITHIN GROUP (ORDER BY updates[node][place]) AS middle
    FROM generate_subscripts(updates, 1) AS node, generate_subscripts(updates, 2) AS place GROUP BY place) AS f"""


@pytest.fixture
def database(cluster: Cluster, federated_database: str) -> str:
    return federated_database


def create(cluster: Cluster, database: str, body: str, language: str = "plpgsql") -> None:
    with cluster.connect(database) as connection:
        statement = f"CREATE FEDERATED AGGREGATION FUNCTION mine() RETURNS FLOAT AS $f$ {body} $f$ LANGUAGE {language}"
        connection.execute("CALL federated.execute(%s)", [statement])


def combine(cluster: Cluster, database: str, updates: Matrix = UPDATES, *, seconds: float = 30.0) -> Vector:
    rule = strategy("mine")
    assert isinstance(rule, CustomFunction)
    caller = FunctionCaller(cluster.dsn(database, user="heliosdb_daemon"), seconds)
    gathered = [Update(NodeName(f"n{i}"), update, float(i + 1)) for i, update in enumerate(updates)]
    moved, memory = CustomFunction("mine", caller).combine(
        np.full(updates.shape[1], 0.5), NO_STATE, gathered, NoSettings()
    )
    assert memory == NO_STATE
    return moved - 0.5


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("sql", MIDDLE),
        ("plpgsql", f"BEGIN RETURN ({MIDDLE}); END"),
        ("plpython3u", "return [sorted(column)[len(column) // 2] for column in zip(*updates)]"),
    ],
)
def test_it_gets_all_values_of_all_nodes_in_one_call(
    cluster: Cluster, database: str, language: str, body: str
) -> None:
    create(cluster, database, body, language)
    assert np.array_equal(combine(cluster, database), np.median(UPDATES, axis=0) + 0.5 - 0.5)


def test_it_gets_weights_and_the_values_to_the_bit(cluster: Cluster, database: str) -> None:
    create(cluster, database, "return updates[int(weights[1])]", "plpython3u")
    assert np.array_equal(combine(cluster, database), UPDATES[2] + 0.5 - 0.5)
    rng = np.random.default_rng(1)
    many = rng.normal(size=(4, 100_000))
    assert np.array_equal(combine(cluster, database, many), (many[2] + 0.5) - 0.5)
    assert np.array_equal(combine(cluster, database, np.ones((3, 1))), [1.0])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("BEGIN RETURN NULL; END", r'aggregation function "mine" returned NULL$'),
        ("BEGIN RETURN ARRAY[1, NULL, 2]; END", "returned NULL for value 2 of 3"),
        ("BEGIN RETURN ARRAY[1, 2, 'NaN'::float8]; END", "returned nan for value 3 of 3"),
        ("BEGIN RETURN ARRAY['-Infinity'::float8, 2, 3]; END", "returned -inf for value 1 of 3"),
        ("BEGIN RETURN ARRAY[1, 2]; END", "returned an array of 2 values, not one of 3 numbers"),
        ("BEGIN RETURN '{}'; END", "returned an array of 0 values, not one of 3 numbers"),
        ("BEGIN RETURN updates; END", "returned an array of 3 values, not one of 3 numbers"),
        ("BEGIN RETURN ARRAY[1 / 0]; END", r"failed: division by zero \(SQLSTATE 22012\)"),
        ("BEGIN RAISE EXCEPTION 'not today'; END", r"failed: not today \(SQLSTATE P0001\)"),
        ("BEGIN RAISE EXCEPTION USING ERRCODE = '57P01', MESSAGE = 'x'; END", r"failed: x \(SQLSTATE 57P01\)"),
    ],
)  # fmt: skip
def test_what_is_no_vector_of_numbers_fails_the_round_with_that_reason(
    cluster: Cluster, database: str, body: str, reason: str
) -> None:
    create(cluster, database, body)
    with pytest.raises(FederatedError, match=reason) as caught:
        combine(cluster, database)
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN PERFORM pg_sleep(60); RETURN weights; END",
        "BEGIN LOOP END LOOP; END",
        "BEGIN PERFORM set_config('statement_timeout', '0', false); PERFORM pg_sleep(60); RETURN weights; END",
        "BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END",
    ],
)
def test_it_runs_no_longer_than_its_time_however_it_goes_about_it(
    cluster: Cluster, database: str, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliosdb.coordinator.aggregation_functions._GRACE", 0.5)
    create(cluster, database, body)
    with pytest.raises(FederatedError, match=r"took longer than its 0\.5 seconds") as caught:
        combine(cluster, database, seconds=0.5)
    assert caught.value.code is ErrorCode.UPDATE_REJECTED
    with cluster.connect(database) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%aggregation function%' AND state = 'active'"
        ).fetchone()
    assert left == (0,)


@pytest.mark.parametrize(
    "deed",
    [
        "PERFORM FROM federated.model",
        "PERFORM FROM public.secret",
        "DELETE FROM federated.model",
        "CREATE TABLE public.mine (x integer)",
        "SET ROLE federated_daemon",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET TRANSACTION READ WRITE",
        "PERFORM pg_read_file('PG_VERSION')",
    ],
)
def test_it_has_no_rights_whoever_wrote_it(cluster: Cluster, database: str, deed: str) -> None:
    with cluster.connect(database) as connection:
        connection.execute("CREATE TABLE public.secret AS SELECT 1 AS x")
    create(cluster, database, f"BEGIN {deed}; RETURN updates[1:1]; END")
    with pytest.raises(FederatedError, match=r"failed: .*SQLSTATE (42501|25006|0A000|25001|22023)"):
        combine(cluster, database)


def test_its_owner_cannot_get_the_coordinators_rights_by_altering_it(cluster: Cluster, database: str) -> None:
    create(cluster, database, "BEGIN RETURN ARRAY[length(current_user), length(session_user), 0]; END")
    assert combine(cluster, database)[0] == len("federated_aggregator")
    with cluster.connect(database) as connection:
        connection.execute("CREATE ROLE a_maker IN ROLE federated_admin")
        try:
            signature = "federated_aggregation.mine(double precision[], double precision[])"
            connection.execute(f"ALTER FUNCTION {signature} OWNER TO a_maker")
            connection.execute(f"ALTER FUNCTION {signature} SECURITY DEFINER")
            assert combine(cluster, database)[0] == len("a_maker")
        finally:
            connection.execute("DROP OWNED BY a_maker; DROP ROLE a_maker")


def test_one_that_is_gone_is_named(cluster: Cluster, database: str) -> None:
    with pytest.raises(FederatedError, match='aggregation function "mine" does not exist'):
        combine(cluster, database)


def test_the_database_being_away_is_no_fault_of_the_functions() -> None:
    with pytest.raises(psycopg.OperationalError):
        FunctionCaller("host=/nowhere dbname=x", 1.0)("mine", UPDATES, np.ones(3))


async def test_a_run_is_combined_by_it_and_fails_by_its_failure(world: World) -> None:
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("east", "north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create(world.cluster, world.database, MIDDLE, "sql")
    create_model(world, rounds=2, aggregation="mine")
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished()
    assert run["status"] == "completed", run
    [mine] = world.query("SELECT sha256 FROM federated.version")

    world.execute("START FEDERATED TRAINING risk WITH (aggregation = 'median')")
    assert (await world.finished(count=2))["status"] == "completed"
    assert world.query("SELECT sha256 FROM federated.version WHERE version = 2") == [mine]

    world.execute(
        "CREATE OR REPLACE FEDERATED AGGREGATION FUNCTION mine() RETURNS FLOAT AS $$ SELECT ARRAY[weights[1], NULL, 0] $$ LANGUAGE sql"
    )
    world.execute("START FEDERATED TRAINING risk")
    failed = await world.finished(count=3)
    assert failed["status"] == "failed"
    assert failed["message"] == 'aggregation function "mine" returned NULL for value 2 of 3'
