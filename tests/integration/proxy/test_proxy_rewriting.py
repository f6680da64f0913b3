"""Federated statements of real clients reach the procedure, and its answers look like the server's own."""

from __future__ import annotations

import psycopg
import pytest

STATEMENT = "CREATE FEDERATED WORKSPACE w WITH (privacy_budget = 0.5)"


@pytest.fixture
def given(cluster):
    """What the procedure was given so far, oldest first; it starts empty."""
    with cluster.admin() as connection:
        connection.execute("TRUNCATE federated.given, t")
        yield lambda: [
            text for (text,) in connection.execute("SELECT statement FROM federated.given ORDER BY id")
        ]


def test_a_simple_query_reaches_the_procedure_and_shows_its_own_tag(proxy, given):
    with proxy.connect() as connection:
        result = connection.pgconn.exec_(STATEMENT.encode())
    assert result.command_status == b"CREATE FEDERATED WORKSPACE"
    assert given() == [STATEMENT]


def test_a_prepared_statement_reaches_the_procedure_each_time(proxy, given):
    with proxy.connect() as connection:
        for _ in range(3):
            cursor = connection.execute(STATEMENT, prepare=True)
            assert cursor.statusmessage == "CREATE FEDERATED WORKSPACE"
            assert cursor.description is None
    assert given() == [STATEMENT] * 3


def test_a_text_with_quotes_comments_and_dollars_arrives_as_typed(proxy, given):
    typed = """CREATE FEDERATED WORKSPACE w -- it's $$ here
        WITH (compliance_mode = 'O''Hara $q$ \\ ü') /* $federated$ */"""
    with proxy.connect() as connection:
        connection.execute(typed)
    (text,) = given()
    assert typed.startswith(text)
    assert text.endswith("'O''Hara $q$ \\ ü')")


def test_several_statements_in_one_query_are_one_transaction(proxy, given):
    with proxy.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute(f"INSERT INTO t VALUES (1); {STATEMENT}; SELECT 1/0")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert given() == []


def test_each_statement_of_a_query_shows_its_own_tag(proxy, given):
    with proxy.connect() as connection:
        cursor = connection.execute(
            f"CALL federated.execute('x'); {STATEMENT};; INSERT INTO t VALUES (1); CREATE FEDERATED MODEL m"
        )
        tags = [cursor.statusmessage]
        while cursor.nextset():
            tags.append(cursor.statusmessage)
    assert tags == ["CALL", "CREATE FEDERATED WORKSPACE", "INSERT 0 1", "CREATE FEDERATED MODEL"]
    assert given() == ["x", STATEMENT, "CREATE FEDERATED MODEL m"]


def test_a_deletion_counts_the_subjects_it_names(proxy, given):
    typed = "DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ('a', 'b', 'a')"
    with proxy.connect() as connection:
        cursor = connection.execute(typed)
        assert (cursor.statusmessage, cursor.rowcount) == ("DELETE 2", 2)
    assert given() == [typed]


def test_a_rolled_back_statement_leaves_nothing(proxy, given):
    with psycopg.connect(proxy.dsn()) as connection:
        connection.execute(STATEMENT)
        connection.rollback()
    assert given() == []


def test_an_error_of_the_procedure_points_into_the_text_typed(proxy, given):
    typed = "SELECT 'ü';  CREATE FEDERATED WORKSPACE wörk WITH (fail_here = 1)"
    with proxy.connect() as connection, pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        connection.execute(typed)
    found = caught.value.diag
    assert (found.message_primary, found.message_hint) == ("this cannot be", "Try again.")
    assert typed[int(found.statement_position) - 1 :].startswith("fail_here")
    assert (found.column_name, found.datatype_name, found.context) == (None, None, None)


def test_the_same_holds_for_a_prepared_statement(proxy, given):
    typed = "  CREATE FEDERATED WORKSPACE w WITH (fail_here = 1)"
    with proxy.connect() as connection:
        for _ in range(2):
            with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
                connection.execute(typed, prepare=True)
            assert typed[int(caught.value.diag.statement_position) - 1 :].startswith("fail_here")


def test_the_servers_own_error_behind_a_federated_statement_points_right(proxy, given):
    typed = f"{STATEMENT}; SELECT nowhere"
    with proxy.connect() as connection, pytest.raises(psycopg.errors.UndefinedColumn) as caught:
        connection.execute(typed)
    assert typed[int(caught.value.diag.statement_position) - 1 :] == "nowhere"


def test_an_error_of_the_users_own_call_keeps_every_field(proxy, given):
    with proxy.connect() as connection, pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        connection.execute("CALL federated.execute('fail_here')")
    found = caught.value.diag
    assert (found.column_name, found.datatype_name) == ("position=1", "federated_sql")
    assert found.context.startswith("PL/pgSQL function federated.execute")


def test_a_notice_of_the_procedure_arrives(proxy, given):
    notices = []
    with proxy.connect() as connection:
        connection.add_notice_handler(lambda diag: notices.append(diag.message_primary))
        connection.execute("CREATE FEDERATED WORKSPACE notice_me")
    assert notices == ["noticed"]


def test_pipeline_mode_gives_each_statement_its_own_answer(proxy, given):
    with proxy.connect() as connection, connection.pipeline():
        texts = ["SELECT 1", STATEMENT, "CALL federated.execute('x')", "CREATE FEDERATED MODEL m"]
        cursors = [connection.execute(text) for text in texts]
        connection.execute("SELECT 1").fetchone()
        tags = [cursor.statusmessage for cursor in cursors]
    assert tags == ["SELECT 1", "CREATE FEDERATED WORKSPACE", "CALL", "CREATE FEDERATED MODEL"]
    assert given() == [STATEMENT, "x", "CREATE FEDERATED MODEL m"]


def test_pipeline_mode_recovers_from_an_error(proxy, given):
    with proxy.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
            connection.execute(STATEMENT)
            connection.execute("SELECT 1/0")
            connection.execute(STATEMENT)
            pipeline.sync()
        cursor = connection.execute(STATEMENT)
        assert cursor.statusmessage == "CREATE FEDERATED WORKSPACE"


def test_a_federated_statement_after_copy_shows_its_own_tag(proxy, given):
    with proxy.connect() as connection:
        cursor = connection.cursor()
        with cursor.copy("COPY t (id) FROM STDIN") as copy:
            copy.write_row((7,))
        cursor.execute(STATEMENT, prepare=True)
        assert cursor.statusmessage == "CREATE FEDERATED WORKSPACE"
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert b"".join(copy) == b"7\t\\N\n"
        assert cursor.execute(STATEMENT).statusmessage == "CREATE FEDERATED WORKSPACE"


def test_a_prediction_calls_the_models_function(proxy, given):
    with proxy.connect() as connection:
        row = connection.execute("SELECT federated_predict('m', age => %s::float8) AS p", (21,)).fetchone()
    assert row == (42.0,)


def test_the_position_of_an_unknown_model_points_at_the_prediction(proxy, given):
    typed = "SELECT 1,  federated_predict('nobody', age => 1)"
    with proxy.connect() as connection, pytest.raises(psycopg.errors.UndefinedFunction) as caught:
        connection.execute(typed)
    assert typed[int(caught.value.diag.statement_position) - 1 :].startswith("federated_predict")


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT '{STATEMENT}'",
        f'SELECT 1 AS "{STATEMENT}"',
        f"SELECT 1 /* ; {STATEMENT}; */",
        f"SELECT 1 -- ; {STATEMENT}",
        f"SELECT $${STATEMENT}$$",
        f"DO $$ BEGIN PERFORM 1; /* {STATEMENT}; */ END $$",
        "DELETE FROM t federated WHERE federated.id = 1",
    ],
)
def test_a_statement_inside_something_else_is_not_touched(proxy, given, text):
    with proxy.connect() as connection:
        connection.execute(text)
    assert given() == []


@pytest.mark.parametrize(
    ("setting", "doubtful"),
    [
        ("standard_conforming_strings TO off", STATEMENT),
        ("client_encoding TO 'LATIN1'", f"{STATEMENT} -- \xe4"),
    ],
)
def test_under_settings_that_leave_doubt_the_server_sees_the_statement_itself(
    proxy, given, setting, doubtful
):
    with proxy.connect() as connection:
        connection.execute(f"SET {setting}")
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute(doubtful)
        connection.execute("RESET ALL")
        connection.execute(STATEMENT)
    assert given() == [STATEMENT]


def test_a_client_of_another_encoding_is_understood_where_it_writes_ascii(proxy, given):
    with proxy.connect(client_encoding="LATIN1") as connection:
        connection.execute(STATEMENT)
        assert connection.execute("SELECT 'Z\xfcrich', chr(252)").fetchall() == [("Z\xfcrich", "\xfc")]
    assert given() == [STATEMENT]


def refused(proxy, text, **parameters):
    with proxy.connect(**parameters) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(text)
    return caught.value.diag


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        (STATEMENT, "3F000"),
        ("SELECT federated_predict('m', age => 1)", "3F000"),
        ("SELECT federated_predict(lower('M'), age => 1)", "42883"),
        ("SELECT federated_predict_class('m', age => 1)", "42883"),
        ("SELECT federated_evaluate('m') AS (global_accuracy FLOAT)", "3F000"),
        ("SELECT federated_predict('m', age => id) AS p FROM (VALUES (1)) AS v (id) WHERE p > 0", "3F000"),
    ],
)
def test_a_database_without_the_extension_says_what_is_missing(proxy, text, sqlstate):
    diagnosis = refused(proxy, text, dbname="postgres")
    assert diagnosis.sqlstate == sqlstate
    assert diagnosis.message_hint == "CREATE EXTENSION heliosdb_federated_learning in this database first."


def test_a_role_that_may_not_learns_which_role_may(proxy):
    diagnosis = refused(proxy, STATEMENT, user="password_user", password="secret")
    assert diagnosis.sqlstate == "42501"
    assert diagnosis.message_hint == (
        "This needs membership in the role federated_operator; for workspaces, nodes, datasets, subscriptions and data subjects in federated_admin."
    )


def test_a_prediction_of_an_unknown_model_asks_whether_there_is_one(proxy):
    diagnosis = refused(proxy, "SELECT federated_predict('nobody', age => 1)")
    assert diagnosis.sqlstate == "42883"
    assert diagnosis.message_hint.startswith('Is there a model "nobody"')


def test_the_users_own_call_of_what_is_not_there_keeps_the_servers_words(proxy):
    assert refused(proxy, "CALL federated.execute('x')", dbname="postgres").message_hint is None
