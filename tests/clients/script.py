"""What every driver types, and what it must get: the same for all, in every mode that a driver has.

What always holds: a step says everything that a driver may see of its answer; a name that a step makes carries
the run's prefix, so that runs on one database do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Value = float | int | str


@dataclass(frozen=True, slots=True)
class Step:
    """One statement, its parameters ($1, $2, …), and what is expected.

    at: the text that the error's position points to. times: how often it is executed, each time with the same
    answer; a driver that prepares executes what it has prepared.
    """

    sql: str
    parameters: tuple[Value, ...] = ()
    tag: str | None = None
    rows: tuple[tuple[object, ...], ...] | None = None
    columns: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()
    sqlstate: str | None = None
    message: str | None = None
    at: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a driver shows of an answer; None: this driver shows no such thing, or there was none."""

    tag: str | None = None
    columns: tuple[str, ...] | None = None
    rows: tuple[tuple[object, ...], ...] | None = None
    notices: tuple[str, ...] = ()
    sqlstate: str | None = None
    message: str | None = None
    position: int | None = None
    count: int | None = None


def tag(sql: str, name: str, *notices: str, times: int = 1) -> Step:
    """A statement that answers with a command tag."""
    return Step(sql, tag=name, notices=notices, times=times)


def error(
    sql: str, sqlstate: str, message: str | None = None, *, at: str | None = None, times: int = 2
) -> Step:
    """A statement that is refused, and refused again."""
    return Step(sql, sqlstate=sqlstate, message=message, at=at, times=times)


def rows(
    sql: str, *found: tuple[object, ...], given: Sequence[Value] = (), columns: tuple[str, ...] | None = None,
    times: int = 1,
) -> Step:  # fmt: skip
    """A query."""
    return Step(sql, tuple(given), f"SELECT {len(found)}", found, columns, times=times)


# The model of `conftest.site`: 0.25 + 0.5 * age + 2 * bmi.
AGE, BMI, PREDICTED = 10.0, 1.5, 8.25
# Today, by UTC, would be past in a test that runs over midnight.
_TOMORROW = datetime.now(UTC).date() + timedelta(days=1)
_NO_COORDINATOR = "WARNING: no coordinator serves this database yet; the run waits for one"


def statements_of_the_language(w: str) -> list[Step]:
    """Every verb of the language, over a workspace of the name `w`."""
    few = f'WARNING: federated workspace "{w}" has 1 node where a run needs 3; it waits 300 seconds for the others'
    return [
        tag(f"CREATE FEDERATED WORKSPACE {w} WITH (min_nodes = 2)", "CREATE FEDERATED WORKSPACE"),
        tag(
            f"CREATE FEDERATED WORKSPACE IF NOT EXISTS {w}",
            "CREATE FEDERATED WORKSPACE",
            f'NOTICE: federated workspace "{w}" already exists, skipping',
            times=3,
        ),
        error(f"CREATE FEDERATED WORKSPACE {w}", "42710", f'federated workspace "{w}" already exists'),
        tag(f"ALTER FEDERATED WORKSPACE {w} SET (min_nodes = 3)", "ALTER FEDERATED WORKSPACE", times=6),
        rows(f"SELECT options ->> 'min_nodes' FROM federated.workspace WHERE name = '{w}'", ("3",)),
        tag(
            f"REGISTER FEDERATED NODE 'n' IN WORKSPACE {w} WITH ("
            "endpoint = 'https://n.example.com:8443', contact = 'O''Hara \\ 100% ü')",
            "REGISTER FEDERATED NODE",
        ),
        rows(
            "SELECT n.options ->> 'contact' FROM federated.node AS n JOIN federated.workspace AS w"
            f" USING (workspace_id) WHERE w.name = '{w}'",
            ("O'Hara \\ 100% ü",),
        ),
        tag(
            f"ALTER FEDERATED NODE 'n' IN WORKSPACE {w} SET (contact = 'x')", "ALTER FEDERATED NODE", times=2
        ),
        tag(
            f"CREATE FEDERATED MODEL {w}_m IN WORKSPACE {w} WITH (algorithm = 'linear_regression',"
            " features = ['age', 'bmi'], target = 'outcome') -- typed as it stands",
            "CREATE FEDERATED MODEL",
        ),
        tag(f"ALTER FEDERATED MODEL {w}_m SET (rounds = 3)", "ALTER FEDERATED MODEL", times=2),
        error(f"ALTER FEDERATED MODEL {w}_m SET (rounds = -3)", "22023", at="rounds = -3"),
        tag(
            f"START FEDERATED TRAINING {w}_m WITH (local_epochs = 2)",
            "START FEDERATED TRAINING",
            _NO_COORDINATOR,
            few,
        ),
        error(f"START FEDERATED TRAINING {w}_m", "55006", f'federated model "{w}_m" is in training'),
        tag(f"STOP FEDERATED TRAINING {w}_m", "STOP FEDERATED TRAINING"),
        Step(f"SHOW FEDERATED DATASETS IN WORKSPACE {w}", tag="SHOW", rows=(), times=3),
        error(f"SHOW FEDERATED RUN IN WORKSPACE {w}", "42601", at="RUN IN"),
        error("SHOW FEDERATED MODELS IN WORKSPACE nowhere", "42704"),
        error(f"EXPLAIN START FEDERATED TRAINING {w}_m WITH (round = 2)", "22023", at="round = 2"),
        error(f"EXPLAIN (ANALYZE) START FEDERATED TRAINING {w}_m", "0A000", at="ANALYZE"),
        error(f"SELECT federated_predict('{w}_m', age => 1)", "55000"),
        tag(
            f"CREATE FEDERATED DATASET {w}_d FOR TABLE patient (age, bmi) IN WORKSPACE {w}",
            "CREATE FEDERATED DATASET",
            "NOTICE: every row counts as a data subject of its own, for privacy and for what is held out;"
            " WITH (subject = 'column') names the column that says whose a row is",
        ),
        tag(f"DROP FEDERATED DATASET {w}_d", "DROP FEDERATED DATASET"),
        error("CHECKPOINT FEDERATED TRAINING risk TO '/tmp/x.bin'", "55000"),
        error("RESUME FEDERATED TRAINING risk", "55000"),
        tag(f"GRANT FEDERATED SUBSCRIBE ON MODEL {w}_m TO NODE 'n'", "GRANT FEDERATED SUBSCRIBE", times=2),
        tag(f"REVOKE FEDERATED SUBSCRIBE ON MODEL {w}_m FROM NODE 'n'", "REVOKE FEDERATED SUBSCRIBE"),
        tag(
            f"CREATE FEDERATED SUBSCRIPTION {w}_s TO MODEL {w}_other IN WORKSPACE {w}",
            "CREATE FEDERATED SUBSCRIPTION",
        ),
        error(f"SELECT federated_predict('{w}_other', '{{}}')", "55000"),
        tag(
            f"ALTER FEDERATED SUBSCRIPTION {w}_s SET (auto = false)", "ALTER FEDERATED SUBSCRIPTION", times=2
        ),
        tag(f"ALTER FEDERATED SUBSCRIPTION {w}_s REFRESH", "ALTER FEDERATED SUBSCRIPTION"),
        tag(f"DROP FEDERATED SUBSCRIPTION {w}_s", "DROP FEDERATED SUBSCRIPTION"),
        error("CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS FLOAT AS $$ x $$ LANGUAGE plrust", "42704"),
        error("DROP FEDERATED AGGREGATION FUNCTION f", "42704"),
        error("DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = 's'", "55000"),
        error(
            f"EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE {w} TO '/tmp/x.json' FORMAT 'json'",
            "55000",
        ),
        error(f"GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE {w}", "55000"),
        error(f"REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE {w}", "55000"),
        tag(
            f"CREATE FEDERATED ALERT {w}_a ON WORKSPACE {w} WHEN remaining_epsilon < 0.1 NOTIFY 'pg:alerts'",
            "CREATE FEDERATED ALERT",
            "WARNING: no coordinator serves this database yet; alerts wait for one",
        ),
        error(
            f"CREATE FEDERATED ALERT {w}_a ON WORKSPACE {w} WHEN active_nodes < 1 NOTIFY 'pg:alerts'", "42710"
        ),
        tag(f"DROP FEDERATED ALERT {w}_a ON WORKSPACE {w}", "DROP FEDERATED ALERT"),
        tag(
            f"ATTEST FEDERATED COMPLIANCE {w} FOR 'Risk analysis' UNTIL '{_TOMORROW}' AS 'O''Hara looked'",
            "ATTEST FEDERATED COMPLIANCE",
            times=2,
        ),
        error(f"ATTEST FEDERATED COMPLIANCE {w} FOR 'Risk analysis' UNTIL '2001-01-01' AS 'x'", "22023"),
        tag(
            f"UNREGISTER FEDERATED NODE 'n' FROM WORKSPACE {w}",
            "UNREGISTER FEDERATED NODE",
            f'WARNING: federated workspace "{w}" has 0 nodes left, and a run needs 3 (min_nodes)',
        ),
        tag(
            f"UNREGISTER FEDERATED NODE IF EXISTS 'n' FROM WORKSPACE {w}",
            "UNREGISTER FEDERATED NODE",
            'NOTICE: federated node "n" does not exist, skipping',
        ),
        tag(f"DROP FEDERATED MODEL {w}_m", "DROP FEDERATED MODEL"),
        tag(f"DROP FEDERATED WORKSPACE {w} CASCADE", "DROP FEDERATED WORKSPACE"),
        tag(
            f"DROP FEDERATED WORKSPACE IF EXISTS {w}",
            "DROP FEDERATED WORKSPACE",
            f'NOTICE: federated workspace "{w}" does not exist, skipping',
            times=2,
        ),
        error(f"DROP FEDERATED WORKSPACE {w}", "42704", f'federated workspace "{w}" does not exist'),
    ]


def names_and_versions(w: str) -> list[Step]:
    """What objects are called, whose they are, and which version of a model is in force."""
    return [
        tag(f"CREATE FEDERATED WORKSPACE {w}", "CREATE FEDERATED WORKSPACE"),
        tag(f"ALTER FEDERATED WORKSPACE {w} RENAME TO {w}_2", "ALTER FEDERATED WORKSPACE"),
        tag(f"CREATE FEDERATED MODEL {w}_m IN WORKSPACE {w}_2", "CREATE FEDERATED MODEL"),
        tag(f"TAG FEDERATED MODEL risk AS '{w}'", "TAG FEDERATED MODEL"),
        tag(
            "ROLLBACK FEDERATED MODEL risk TO VERSION '1'",
            "ROLLBACK FEDERATED MODEL",
            'NOTICE: version 1 of federated model "risk" is the current one already',
            times=2,
        ),
        tag(f"ALTER FEDERATED MODEL {w}_m RENAME TO {w}_n", "ALTER FEDERATED MODEL"),
        tag(f"ALTER FEDERATED MODEL {w}_n OWNER TO federated_operator", "ALTER FEDERATED MODEL"),
        tag(f"TAG FEDERATED MODEL risk VERSION 1 AS '{w}_one'", "TAG FEDERATED MODEL"),
        rows(
            f"SELECT federated_predict('risk@{w}_one', age => $1, bmi => 1.5)",
            (PREDICTED,),
            given=(AGE,),
            times=2,
        ),
        error(f"ROLLBACK FEDERATED MODEL risk TO VERSION '{w}_none'", "42704"),
        rows("SELECT version, is_current::int FROM federated_model_versions('risk')", (1, 1)),
    ]


def predictions() -> list[Step]:
    """Predictions with literals, with parameters, in every position, and their errors."""
    return [
        rows(
            "SELECT federated_predict('risk', age => 10, bmi => 1.5)",
            (PREDICTED,),
            columns=("federated_predict",),
            times=3,
        ),
        rows(
            "SELECT federated_predict('risk', age => $1, bmi => $2) AS p",
            (PREDICTED,),
            given=(AGE, BMI),
            columns=("p",),
            times=7,
        ),
        rows(
            "WITH p AS (SELECT id, federated_predict('risk', bmi => bmi, age => age) AS risk FROM patient)"
            " SELECT id FROM p WHERE risk > $1 ORDER BY federated_predict('risk', age => id) DESC",
            (3,),
            (2,),
            given=(20.0,),
            times=2,
        ),
        rows(
            "SELECT id FROM patient WHERE federated_predict('risk', age => age) > 9 AND id < $1",
            (2,),
            given=(3,),
        ),
        rows(
            "SELECT federated_predict('risk', CAST($1 AS jsonb))",
            (PREDICTED,),
            given=('{"age": 10, "bmi": 1.5}',),
            times=2,
        ),
        rows("SELECT predict('risk', ARRAY[$1, $2]::float8[])", (PREDICTED,), given=(AGE, BMI), times=2),
        error(
            "SELECT 'ü',  federated_predict('risk', height => 1)",
            "42883",
            at="federated_predict('risk', height",
        ),
        error("SELECT federated_predict('nobody', age => 1)", "42883", at="federated_predict('nobody'"),
        error("""SELECT federated_predict('risk', '{"height": 1}'::jsonb)""", "42703"),
    ]


def ordinary_sql() -> list[Step]:
    """What is not ours, with our words in it."""
    return [
        rows("SELECT 'CREATE FEDERATED WORKSPACE w' AS federated", ("CREATE FEDERATED WORKSPACE w",)),
        rows(
            "SELECT CAST($1 AS text)",
            ("federated \\ O'Hara 100% ü",),
            given=("federated \\ O'Hara 100% ü",),
            times=2,
        ),
        error("SELECT 'ü federated', nowhere", "42703", 'column "nowhere" does not exist', at="nowhere"),
        error(
            "CREATE FEDERATED WORKSPACE w WITH (min_node = 3)",
            "22023",
            'unrecognized parameter "min_node"',
            at="min_node",
        ),
        error("CREATE FEDERATED WORKSPACE w WITH (min_nodes = (SELECT 1))", "42601", at="("),
        error("CREATE FEDERATED WORKSPCE w", "42601", at="WORKSPCE"),
        tag("CREATE TEMP TABLE federated (a int)", "CREATE TABLE"),
        tag("INSERT INTO federated VALUES (1), (2)", "INSERT 0 2"),
        tag("DELETE FROM federated training WHERE training.a = 1", "DELETE 1"),
        tag("DROP TABLE federated", "DROP TABLE"),
        tag(
            "DO $$ BEGIN /* ; DROP FEDERATED MODEL risk; */ RAISE NOTICE 'federated'; END $$",
            "DO",
            "NOTICE: federated",
        ),
    ]


def transactions(w: str) -> list[Step]:
    """What is undone, what is kept, and what a failed transaction refuses."""
    count = f"SELECT count(*) FROM federated.workspace WHERE name LIKE '{w}%'"
    create = "CREATE FEDERATED WORKSPACE"
    return [
        tag("BEGIN", "BEGIN"),
        tag(f"{create} {w}_1", create),
        rows(count, (1,)),
        tag("ROLLBACK", "ROLLBACK"),
        rows(count, (0,)),
        tag("BEGIN", "BEGIN"),
        tag(
            "INSERT INTO federated.coordinator_key (sealing_key) VALUES (decode(repeat('09', 32), 'hex'))",
            "INSERT 0 1",
        ),
        tag(
            "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id IN ('s', 't', 's')",
            "DELETE 2",
        ),
        tag("ROLLBACK", "ROLLBACK"),
        tag("BEGIN", "BEGIN"),
        tag(f"{create} {w}_1", create),
        tag("SAVEPOINT s", "SAVEPOINT"),
        tag(f"{create} {w}_2", create),
        error(f"{create} {w}_2", "42710", times=1),
        error(f"{create} {w}_3", "25P02", times=1),
        error("SELECT federated_predict('risk', age => 1)", "25P02", times=1),
        tag("ROLLBACK TO SAVEPOINT s", "ROLLBACK"),
        tag(f"{create} {w}_3", create),
        tag("COMMIT", "COMMIT"),
        rows(
            f"SELECT name FROM federated.workspace WHERE name LIKE '{w}%' ORDER BY 1",
            (f"{w}_1",),
            (f"{w}_3",),
        ),
    ]


SCRIPTS: dict[str, Callable[[str], list[Step]]] = {
    "every verb": lambda w: statements_of_the_language(f"{w}_w"),
    "names and versions": lambda w: names_and_versions(f"{w}_v"),
    "predictions": lambda _: predictions(),
    "ordinary SQL": lambda _: ordinary_sql(),
    "transactions": lambda w: transactions(f"{w}_t"),
}
"""Each part runs on a connection of its own; it is given a prefix for the names that it makes."""
