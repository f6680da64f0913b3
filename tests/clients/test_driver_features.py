"""What drivers offer beyond typing a statement: pipelines, cursors, pools, COPY, reflection, notifications."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy import Float, Integer, MetaData, Table, bindparam, cast, func, insert, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clients.conftest import Site
from tests.clients.script import PREDICTED
from tests.support.cluster import bin_directory

CREATE = "CREATE FEDERATED WORKSPACE"


@pytest.fixture
def connection(site: Site):
    with psycopg.connect(f"postgresql:{site.url}", autocommit=True) as made:
        yield made


@pytest.fixture
def engine(site: Site):
    made = sqlalchemy.create_engine(f"postgresql+psycopg:{site.url}")
    yield made
    made.dispose()


@pytest.mark.parametrize("prepare", [False, True])
def test_a_psycopg_pipeline_gives_each_statement_its_own_answer(
    connection: psycopg.Connection, prepare: bool
) -> None:
    texts = [
        "SELECT 1",
        f"{CREATE} pipelined_{prepare}",
        f"{CREATE} IF NOT EXISTS pipelined_{prepare}",
        "SELECT federated_predict('risk', age => 10, bmi => 1.5)",
        f"ALTER FEDERATED WORKSPACE pipelined_{prepare} SET (min_nodes = 4)",
        f"DROP FEDERATED WORKSPACE pipelined_{prepare}",
        "SELECT 2",
    ]
    for _ in range(3):
        with connection.pipeline():
            cursors = [connection.execute(text, prepare=prepare) for text in texts]
        assert [cursor.statusmessage for cursor in cursors] == [
            "SELECT 1",
            CREATE,
            CREATE,
            "SELECT 1",
            "ALTER FEDERATED WORKSPACE",
            "DROP FEDERATED WORKSPACE",
            "SELECT 1",
        ]
        assert cursors[3].fetchall() == [(PREDICTED,)]


def test_a_psycopg_pipeline_goes_on_behind_an_error_after_its_sync(connection: psycopg.Connection) -> None:
    with connection.pipeline() as pipeline:
        connection.execute(f"{CREATE} kept", prepare=False)
        pipeline.sync()
        refused = connection.execute(f"{CREATE} kept", prepare=False)
        skipped = connection.execute(f"{CREATE} skipped", prepare=False)
        with pytest.raises(psycopg.errors.DuplicateObject):
            pipeline.sync()
        answered = connection.execute(
            "SELECT name FROM federated.workspace WHERE name IN ('kept', 'skipped')"
        )
        assert answered.fetchall() == [("kept",)]
    assert refused.statusmessage is None
    assert skipped.statusmessage is None
    connection.execute("DROP FEDERATED WORKSPACE kept")


def test_a_psycopg_server_side_cursor_reads_predictions_in_parts(site: Site) -> None:
    with psycopg.connect(f"postgresql:{site.url}") as made, made.cursor("parts") as cursor:
        cursor.itersize = 1
        cursor.execute(
            "SELECT id, federated_predict('risk', age => age, bmi => %s) FROM patient ORDER BY id", [0.0]
        )
        assert list(cursor) == [(1, 0.75), (2, 20.25), (3, 40.25)]


def test_psycopg_executes_many_and_copies_predictions_out(connection: psycopg.Connection) -> None:
    cursor = connection.cursor()
    values = [(1.0,), (2.0,), (3.0,), (4.0,), (5.0,), (6.0,), (7.0,)]
    cursor.executemany("SELECT federated_predict('risk', age => %s, bmi => 0.0)", values, returning=True)
    found = [cursor.fetchone()]
    while cursor.nextset():
        found.append(cursor.fetchone())
    assert found == [(0.25 + value / 2,) for (value,) in values]
    with cursor.copy(
        "COPY (SELECT federated_predict('risk', age => age, bmi => bmi) FROM patient ORDER BY id) TO STDOUT"
    ) as copy:
        assert b"".join(copy) == b"2.75\n20.25\n44.25\n"


def test_several_statements_of_one_simple_query_stay_one_transaction(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute(f"{CREATE} together; SELECT 1; SELECT 1 / 0")
    found = connection.execute("SELECT count(*) FROM federated.workspace WHERE name = 'together'")
    assert found.fetchall() == [(0,)]
    cursor = connection.execute(f"{CREATE} together; SELECT 1; DROP FEDERATED WORKSPACE together")
    tags = [cursor.statusmessage]
    while cursor.nextset():
        tags.append(cursor.statusmessage)
    assert tags == [CREATE, "SELECT 1", "DROP FEDERATED WORKSPACE"]


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_predicts_in_every_mode(site: Site, tmp_path: Path, mode: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set x random(1, 9)\n"
        "SELECT federated_predict('risk', age => :x, bmi => 1.5) AS p \\gset\n"
        "\\set difference debug(:p - (3.25 + :x / 2.0))\n"
        "\\if :difference <> 0\nSELECT 1 / 0;\n\\endif\n"
        "ALTER FEDERATED WORKSPACE clinics SET (max_nodes = 50);\n"
    )
    command = [
        bin_directory() / "pgbench",
        "-n",
        "-M",
        mode,
        "-t",
        "20",
        "-f",
        script,
        f"postgresql:{site.url}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "number of transactions actually processed: 20/20" in done.stdout, done.stderr


async def test_an_asyncpg_pool_resets_and_reuses_its_connections(site: Site) -> None:
    async with asyncpg.create_pool(f"postgresql:{site.url}", min_size=1, max_size=1) as pool:
        for time in range(3):
            async with pool.acquire() as held:
                assert await held.execute(f"{CREATE} pooled_{time}") == CREATE
                assert (
                    await held.fetchval("SELECT federated_predict('risk', age => $1, bmi => 1.5)", 10.0)
                    == 8.25
                )
                await held.execute("SET search_path = nowhere; SET heliosdb.workspace = 'x'; LISTEN c")
            async with pool.acquire() as held:
                assert await held.fetchval("SHOW search_path") == '"$user", public'
                assert (
                    await held.execute(f"DROP FEDERATED WORKSPACE pooled_{time}")
                    == "DROP FEDERATED WORKSPACE"
                )


async def test_asyncpg_transactions_cursors_copy_and_notifications(site: Site) -> None:
    connection = await asyncpg.connect(f"postgresql:{site.url}")
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("federated", lambda *given: heard.put_nowait(given[-1]))
    with pytest.raises(asyncpg.DuplicateObjectError):
        async with connection.transaction():
            await connection.execute(f"{CREATE} undone")
            await connection.execute("NOTIFY federated, 'never'")
            await connection.execute(f"{CREATE} undone")
    async with connection.transaction():
        cursor = connection.cursor(
            "SELECT federated_predict('risk', age => age) FROM patient ORDER BY id", prefetch=1
        )
        assert [record[0] async for record in cursor] == [0.75, 20.25, 40.25]
    assert await connection.fetchval("SELECT count(*) FROM federated.workspace WHERE name = 'undone'") == 0
    await connection.execute("CREATE TEMP TABLE taken (age float8)")
    await connection.copy_records_to_table("taken", records=[(1.0,), (2.0,)])
    query = "SELECT sum(federated_predict('risk', age => age, bmi => 0)) FROM taken"
    assert await connection.fetchval(query) == 2.0
    await connection.execute("NOTIFY federated, 'CREATE FEDERATED WORKSPACE w'")
    assert await asyncio.wait_for(heard.get(), 300) == "CREATE FEDERATED WORKSPACE w"
    await connection.close()


def test_asyncpg_reads_a_type_that_it_must_ask_the_catalog_for(site: Site) -> None:
    async def read() -> object:
        connection = await asyncpg.connect(f"postgresql:{site.url}")
        try:
            return await connection.fetchval(
                "SELECT ARRAY[n]::federated.node_status[] FROM (VALUES ('slow')) AS t (n)"
            )
        finally:
            await connection.close()

    assert asyncio.run(read()) == ["slow"]


def risk(**features: object):
    """A prediction as an expression of SQLAlchemy's Core."""
    named = [literal_column(f"{name} => ").op("")(value) for name, value in features.items()]
    return func.federated_predict(literal_column("'risk'"), *named)


def test_sqlalchemy_core_predicts_over_a_reflected_table(engine: sqlalchemy.Engine) -> None:
    patient = Table("patient", MetaData(), autoload_with=engine)
    assert [column.name for column in patient.columns] == ["id", "age", "bmi"]
    named = risk(age=patient.c.age, bmi=bindparam("bmi", type_=Float))
    with engine.connect() as connection:
        found = connection.execute(
            select(patient.c.id, named.label("p")).order_by(patient.c.id), {"bmi": 0.0}
        )
        assert found.fetchall() == [(1, 0.75), (2, 20.25), (3, 40.25)]
        above = select(patient.c.id).where(named > 30).order_by(named.desc())
        assert connection.execute(above, {"bmi": 0.0}).fetchall() == [(3,)]
        whole = func.federated_predict("risk", cast({"age": 10, "bmi": 1.5}, JSONB))
        listed = func.predict("risk", cast([10.0, 1.5], ARRAY(Float)))
        assert connection.execute(select(whole, listed)).fetchall() == [(PREDICTED, PREDICTED)]


def test_sqlalchemy_inserts_from_a_prediction_and_undoes_what_it_began(engine: sqlalchemy.Engine) -> None:
    metadata = MetaData()
    scored = Table(
        "scored", metadata, sqlalchemy.Column("id", Integer), sqlalchemy.Column("p", Float), prefixes=["TEMP"]
    )
    with engine.connect() as connection:
        patient = Table("patient", MetaData(), autoload_with=engine)
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="already exists"), connection.begin():
            connection.execute(sqlalchemy.text(f"{CREATE} begun"))
            connection.execute(sqlalchemy.text(f"{CREATE} begun"))
        with connection.begin():
            metadata.create_all(connection)
            source = select(patient.c.id, risk(age=patient.c.age, bmi=patient.c.bmi))
            connection.execute(insert(scored).from_select(["id", "p"], source))
            assert connection.execute(select(func.sum(scored.c.p))).scalar() == 2.75 + 20.25 + 44.25
            begun = "SELECT count(*) FROM federated.workspace WHERE name = 'begun'"
            assert connection.execute(sqlalchemy.text(begun)).scalar() == 0


async def test_sqlalchemy_over_asyncpg_predicts_and_commits(site: Site) -> None:
    engine = create_async_engine(f"postgresql+asyncpg:{site.url}")
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text(f"{CREATE} committed"))
        predicted = select(risk(age=bindparam("age", type_=Float), bmi=literal_column("1.5")))
        for _ in range(3):
            assert (await connection.execute(predicted, {"age": 10.0})).scalar() == PREDICTED
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text("DROP FEDERATED WORKSPACE committed"))
    await engine.dispose()
