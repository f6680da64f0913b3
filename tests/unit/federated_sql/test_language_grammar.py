"""What each statement means, and what is said about those that mean nothing."""

from __future__ import annotations

import pytest

from federated_sql import Command, FederatedError, Option, parse
from federated_sql.clause_values import RoleKeyword, SealedSubject
from federated_sql.reading_statements import ExplainTraining
from federated_sql.statements import (
    AlertCondition,
    AlterNode,
    ChangeModelOwner,
    CreateAggregationFunction,
    CreateAlert,
    CreateDataset,
    CreateModel,
    CreateWorkspace,
    DropAggregationFunction,
    DropModel,
    DropTag,
    DropVersion,
    EraseSubjects,
    ExportSubject,
    PromoteModel,
    RegisterNode,
    RenameWorkspace,
    RevokeConsent,
    RollbackModel,
    StartTraining,
    TagModel,
)

WORKSPACE = "CREATE FEDERATED WORKSPACE w WITH ({})"


def refused(text: str) -> FederatedError:
    with pytest.raises(FederatedError) as caught:
        parse(text)
    return caught.value


def test_the_quick_start_reads_as_it_is_meant() -> None:
    command = parse(
        """
        CREATE FEDERATED WORKSPACE Clinics_Of_The_North
        WITH (
            privacy_budget = 0.5,           -- epsilon
            min_nodes = 3,                  /* at least */
            compliance_mode = 'HIPAA'
        );
        """
    )
    options = (Option("privacy_budget", 0.5), Option("min_nodes", 3), Option("compliance_mode", "HIPAA"))
    assert command == CreateWorkspace("clinics_of_the_north", options)


def test_options_know_where_they_stand() -> None:
    text = "START FEDERATED TRAINING größe WITH (rounds = 1,\n  seed = 2)"
    command = parse(text)
    assert isinstance(command, StartTraining)
    assert [text[option.position - 1 :].split(maxsplit=1)[0] for option in command.options] == [
        "rounds",
        "seed",
    ]


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("'x'", "x"),
        ("$$x$$", "x"),
        ("E'\\x41'", "A"),
        ("5", 5),
        ("-5", -5),
        ("- 5", -5),
        ("+5", 5),
        ("0x1F", 31),
        ("9999999999999999999999", 9999999999999999999999),
        ("1e-5", 1e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E+3", -1500.0),
        ("true", True),
        ("ON", True),
        ("False", False),
        ("off", False),
        ("FedAvg", "fedavg"),
        ("none", "none"),
        ("all", "all"),
        ("'true'", "true"),
        ("['a', 'b']", ("a", "b")),
        ("ARRAY['a', 'b']", ("a", "b")),
        ("[1, -2.5, true, x]", (1, -2.5, True, "x")),
        ("[]", ()),
    ],
)
def test_a_value_is_a_literal(typed: str, value: object) -> None:
    command = parse(WORKSPACE.format(f"o={typed}"))
    assert isinstance(command, CreateWorkspace)
    (option,) = command.options
    assert (option.value, type(option.value)) == (value, type(value))


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("1 + 1", "+"),
        ("(1)", "("),
        ("(SELECT 1)", "("),
        ("NULL", "NULL"),
        ("now()", "("),
        ('"x"', '"x"'),
        ("$1", "$1"),
        ("'a' || 'b'", "||"),
        ("[['a']]", "["),
        ("['a',]", "]"),
        ("['a'", ")"),
        ("'a'::text", "::"),
        ("- 'a'", "'a'"),
        ("B'1'", "B'1'"),
        ("1 2", "2"),
        ("", ")"),
    ],
)
def test_anything_else_is_a_syntax_error_where_it_begins(typed: str, near: str) -> None:
    text = WORKSPACE.format(f"o = {typed}")
    error = refused(text)
    assert (error.sqlstate, error.message) == ("42601", f'syntax error at or near "{near}"')
    assert error.position is not None
    assert text[error.position - 1 :].startswith(near)


@pytest.mark.parametrize("typed", ["9" * 5000, "1e999", "-1e400"])
def test_a_number_that_nothing_can_hold_is_refused(typed: str) -> None:
    assert refused(WORKSPACE.format(f"o = {typed}")).sqlstate == "22023"


def test_an_option_given_twice_is_an_error_at_the_second() -> None:
    text = WORKSPACE.format("rounds = 1, x = 2, ROUNDS = 3")
    error = refused(text)
    assert (error.sqlstate, error.position) == ("42601", text.index("ROUNDS") + 1)
    assert "more than once" in error.message


@pytest.mark.parametrize("text", ["", ";", " -- nothing\n", "CREATE FEDERATED WORKSPACE"])
def test_an_unfinished_statement_ends_too_early(text: str) -> None:
    error = refused(text)
    assert (error.sqlstate, error.message) == ("42601", "syntax error at end of input")
    assert error.position == len(text) + 1


@pytest.mark.parametrize(
    ("text", "near", "hint"),
    [
        ("SELECT 1", "SELECT", None),
        ("CREATE FEDERATED WORKSPAC w", "WORKSPAC", "WORKSPACE"),
        ("CREAT FEDERATED WORKSPACE w", "CREAT", "CREATE"),
        ("CREATE WORKSPACE w", "WORKSPACE", "FEDERATED"),
        ("CREATE OR REPLACE FEDERATED MODEL m", "MODEL", "AGGREGATION"),
        ("CREATE FEDERATED WORKSPACE w WIHT (a = 1)", "WIHT", "WITH"),
        ("CREATE FEDERATED WORKSPACE w WITH a = 1", "a", "option = value"),
        ("CREATE FEDERATED WORKSPACE w WITH (a 1)", "1", "name = value"),
        ("CREATE FEDERATED WORKSPACE 'w'", "'w'", "not a string"),
        ("CREATE FEDERATED WORKSPACE select", "select", "double quotes"),
        ("CREATE FEDERATED WORKSPACE IF EXISTS w", "EXISTS", "IF NOT EXISTS"),
        ("ALTER FEDERATED MODEL IF NOT EXISTS m SET (a = 1)", "NOT", "IF EXISTS"),
        ("REGISTER FEDERATED NODE n IN WORKSPACE w", "n", "single quotes"),
        ("REGISTER FEDERATED NODE 'n' WITH (a = 1)", "WITH", "IN WORKSPACE"),
        ("START FEDERATED TRAINING m; DROP TABLE t", ";", "One statement"),
        ("STOP FEDERATED TRAINING m now", "now", "STOP FEDERATED TRAINING model"),
        ("DROP FEDERATED MODEL m, n", ",", "DROP FEDERATED MODEL"),
        ("ALTER FEDERATED MODEL m SET rounds = 3", "rounds", "SET (option = value"),
        ("DELETE FROM FEDERATED TRAINING WHERE data_subject_id = 'a'", "WHERE", "TRAINING model WHERE"),
        ("TAG FEDERATED MODEL m AS 'a'; DROP TABLE t", ";", "One statement"),
        ('"CREATE" FEDERATED WORKSPACE w', '"CREATE"', None),
        ("CREATE FEDERATED DATASET d FOR TABLE a.b.c IN WORKSPACE w", ".", "FOR TABLE"),
        (
            "CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE w WHERE (a)",
            "WHERE",
            "order: CREATE FEDERATED",
        ),
        (
            "CREATE FEDERATED DATASET d FOR TABLE t WITH (min_rows = 9) IN WORKSPACE w",
            "WITH",
            "order: CREATE",
        ),
        ("CREATE FEDERATED MODEL m WITH (rounds = 3) IN WORKSPACE w", "IN", "order: CREATE FEDERATED MODEL"),
        ("START FEDERATED TRAINING m SET (rounds = 3)", "SET", "order: START FEDERATED TRAINING model [WITH"),
        ("CREATE FEDERATED WORKSPCE w", "WORKSPCE", "Did you mean WORKSPACE?"),
        ("DROP FEDERATED NODE 'n'", "NODE", "UNREGISTER FEDERATED NODE"),
        ("CREATE FEDERATED NODE 'n'", "NODE", "REGISTER FEDERATED NODE"),
        ("ALTER FEDERATED DATASET d RENAME TO e", "RENAME", "SET (option = value, …) | RESET (option, …)"),
        ("ALTER FEDERATED MODEL m RESET (rounds = 3)", "=", "RESET takes the names of options"),
        ("ALTER FEDERATED MODEL m SET (features = $1)", "$1", "A federated statement has no parameters"),
        ("START FEDERATED TRAINING $2", "$2", "A federated statement has no parameters"),
        ("ALTER FEDERATED MODEL m RESET ()", ")", "RESET (option, …)"),
        (
            "ALTER FEDERATED NODE 'n' IN WORKSPACE w RESET (contact sla_tier)",
            "sla_tier",
            "separated by commas",
        ),
        ("SHOW FEDERATED NODE", "NODE", "Did you mean NODES?"),
        ("SHOW FEDERATED WORKSPACE w", "WORKSPACE", "Did you mean WORKSPACES?"),
        ("SHOW FEDERATED TABLES", "TABLES", "Expected DATASETS or MODELS or NODES or RUNS or WORKSPACES."),
        ("SHOW FEDERATED NODES FROM w", "FROM", "SHOW FEDERATED WORKSPACES | NODES"),
        ("SHOW FEDERATED NODES IN WORKSPACE $1", "$1", "A federated statement has no parameters"),
        ("SHOW FEDERATED PRIVACY BUDGET", "PRIVACY", "federated_privacy_budget('workspace')"),
        ("DESCRIBE FEDERATED MODEL m", "DESCRIBE", "SHOW FEDERATED MODELS"),
        ("DESCRIBE FEDERATED", "DESCRIBE", "SHOW FEDERATED"),
        ("EXPLAIN (FORMAT CSV) START FEDERATED TRAINING m", "CSV", "The formats are TEXT and JSON."),
        ("EXPLAIN (FORMT JSON) START FEDERATED TRAINING m", "FORMT", "Did you mean FORMAT?"),
        (
            "EXPLAIN (FORMAT JSON, FORMAT TEXT) START FEDERATED TRAINING m",
            ",",
            "EXPLAIN [(FORMAT TEXT | JSON)]",
        ),
        ("EXPLAIN START FEDERATED TRAINNG m", "TRAINNG", "Did you mean TRAINING?"),
        ("EXPLAIN START FEDERATED TRAINING m SET (rounds = 3)", "SET", "EXPLAIN [(FORMAT TEXT | JSON)]"),
        ("PAUSE FEDERATED TRAINING m", "PAUSE", "STOP FEDERATED TRAINING"),
        ("EVALUATE FEDERATED MODEL m", "EVALUATE", "federated_training_status"),
        ("CREATE FEDERATED DATASET d FOR TABLE t (a, A) IN WORKSPACE w", "A", "twice"),
    ],
)
def test_a_syntax_error_names_the_place_and_the_way_out(text: str, near: str, hint: str | None) -> None:
    error = refused(text)
    assert (error.sqlstate, error.message) == ("42601", f'syntax error at or near "{near}"')
    assert error.position is not None
    assert text[error.position - 1 :].startswith(near)
    assert (error.hint is None) if hint is None else (error.hint is not None and hint in error.hint)


@pytest.mark.parametrize(
    "options",
    [
        "ANALYZE",
        "VERBOSE ANALYSE",
        "(ANALYZE, FORMAT JSON)",
        "(FORMAT JSON, BUFFERS off)",
        "(FORMAT 'xml')",
        "(FORMAT YAML)",
    ],
)
def test_what_only_a_query_can_be_explained_by_is_not_supported(options: str) -> None:
    error = refused(f"EXPLAIN {options} START FEDERATED TRAINING m")
    assert error.sqlstate == "0A000"
    assert error.hint is not None
    assert error.position is not None


@pytest.mark.parametrize("form", ["json", "'json'", "JSON", "'Json'"])
def test_a_format_is_a_word_or_a_string(form: str) -> None:
    assert parse(f"EXPLAIN (FORMAT {form}) START FEDERATED TRAINING m") == ExplainTraining("m", (), "json")


@pytest.mark.parametrize(
    "text",
    [
        "CREATE FEDERATED MODEL " + "m" * 64,
        'CREATE FEDERATED MODEL "' + "é" * 32 + '"',
        "REGISTER FEDERATED NODE '' IN WORKSPACE w",
        "REGISTER FEDERATED NODE E'a\\nb' IN WORKSPACE w",
        "REGISTER FEDERATED NODE '" + "n" * 64 + "' IN WORKSPACE w",
        "CREATE FEDERATED WORKSPACE w WITH (" + "o" * 64 + " = 1)",
    ],
)
def test_a_name_is_never_cut_but_refused(text: str) -> None:
    error = refused(text)
    assert error.sqlstate == "42602"
    assert error.position is not None


def test_a_name_may_have_63_bytes() -> None:
    assert parse("CREATE FEDERATED MODEL " + "m" * 63) == CreateModel("m" * 63)


def test_restrict_is_what_happens_without_cascade() -> None:
    assert parse("DROP FEDERATED MODEL m RESTRICT") == DropModel("m") == parse("DROP FEDERATED MODEL m")


def test_unreserved_keywords_are_names() -> None:
    assert parse("CREATE FEDERATED MODEL model IN WORKSPACE workspace") == CreateModel("model", "workspace")
    assert parse("DROP FEDERATED MODEL if") == DropModel("if")
    assert parse("ALTER FEDERATED NODE 'n' IN WORKSPACE set SET (a = 1)") == AlterNode(
        "n", "set", (Option("a", 1),)
    )


def test_a_node_name_is_a_string_with_any_characters() -> None:
    assert parse("REGISTER FEDERATED NODE U&'b\\00fcro; 1' IN WORKSPACE w") == RegisterNode("büro; 1", "w")


@pytest.mark.parametrize(
    ("predicate", "kept"),
    [
        ("age > 18", "age > 18"),
        ("  age > 18 -- of age\n ", "age > 18"),
        ("name <> ')' AND $$;$$ = ';'", "name <> ')' AND $$;$$ = ';'"),
        ("(a) OR (b = ARRAY[1, (2)])", "(a) OR (b = ARRAY[1, (2)])"),
        ("(SELECT true)", "(SELECT true)"),
        ("EXISTS (SELECT 1 FROM agreed)", "EXISTS (SELECT 1 FROM agreed)"),
        ("id IN (SELECT id FROM agreed)", "id IN (SELECT id FROM agreed)"),
        ("größe > 1 AND éone = 2", "größe > 1 AND éone = 2"),
    ],
)
def test_a_predicate_is_kept_as_typed(predicate: str, kept: str) -> None:
    command = parse(f"CREATE FEDERATED DATASET d FOR TABLE s.t WHERE ({predicate}) IN WORKSPACE w")
    assert command == CreateDataset("d", ("s", "t"), "w", predicate=kept)


@pytest.mark.parametrize(
    "predicate",
    [
        "",
        "-- nothing\n",
        "a) OR (b",
        "true) UNION SELECT 1 FROM (t",
        "true; DROP TABLE t",
        "true) ; DROP TABLE t; --",
        "a = 1 ORDER BY a",
        "a = 1 FROM t",
        "a = [1)",
        "a =",
        "SELECT 1",
        "TABLE t",
        "VALUES (true)",
        "a = $1",
        "true LIMIT 1",
    ],
)
def test_a_predicate_cannot_be_more_than_one_expression(predicate: str) -> None:
    text = f"CREATE FEDERATED DATASET d FOR TABLE t WHERE ({predicate}) IN WORKSPACE w"
    error = refused(text)
    assert error.sqlstate == "42601"
    assert error.position is not None
    assert error.position > text.index("WHERE")


def test_a_predicates_error_points_into_the_statement() -> None:
    text = "CREATE FEDERATED DATASET d FOR TABLE t WHERE (é > 1 AND AND b) IN WORKSPACE w"
    error = refused(text)
    assert error.message == 'syntax error at or near "AND"'
    assert error.position == text.rindex("AND") + 1


def test_a_predicate_too_deep_for_the_parser_is_refused() -> None:
    text = f"CREATE FEDERATED DATASET d FOR TABLE t WHERE ({'1+' * 4000}1 > 0) IN WORKSPACE w"
    assert refused(text).sqlstate == "54000"


def test_a_statement_of_too_many_tokens_is_refused() -> None:
    assert refused("CREATE FEDERATED WORKSPACE w WITH (" + "(" * 30_000).sqlstate == "54000"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ALTER FEDERATED MODEL m OWNER TO current_user", ChangeModelOwner("m", RoleKeyword.CURRENT_USER)),
        ('ALTER FEDERATED MODEL m OWNER TO "current_user"', ChangeModelOwner("m", "current_user")),
        ("ALTER FEDERATED WORKSPACE w RENAME TO W2", RenameWorkspace("w", "w2")),
        ("ROLLBACK FEDERATED MODEL m TO VERSION 7", RollbackModel("m", "7")),
        ("ROLLBACK FEDERATED MODEL m TO VERSION '7'", RollbackModel("m", "7")),
        ("PROMOTE FEDERATED MODEL m VERSION 7", PromoteModel("m", "7")),
        ("PROMOTE FEDERATED MODEL m VERSION 'prod'", PromoteModel("m", "prod")),
        ("TAG FEDERATED MODEL m AS 'prod' REPLACE", TagModel("m", "prod", None, True)),
        ("DROP FEDERATED MODEL m TAG 'prod'", DropTag("m", "prod")),
        ("DROP FEDERATED MODEL IF EXISTS m VERSION 007 CASCADE", DropVersion("m", "7", True, True)),
        ("DROP FEDERATED MODEL m VERSION 'prod' RESTRICT", DropVersion("m", "prod")),
        ("TAG FEDERATED MODEL m VERSION 007 AS 'a b'", TagModel("m", "a b", 7)),
        (
            "CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS DOUBLE PRECISION LANGUAGE 'plrust' AS 'x'",
            CreateAggregationFunction("f", "x", "plrust"),
        ),
        (
            "CREATE OR REPLACE FEDERATED AGGREGATION FUNCTION F() RETURNS float8 AS $a$ x $a$ LANGUAGE SQL",
            CreateAggregationFunction("f", " x ", "sql", or_replace=True),
        ),
        ("DROP FEDERATED AGGREGATION FUNCTION f()", DropAggregationFunction("f")),
        (
            "DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ('b', 'a', 'b')",
            EraseSubjects("m", ("b", "a")),
        ),
        (
            "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE w TO '/p' FORMAT 'CSV'",
            ExportSubject("s", "w", "/p", "csv"),
        ),
        (
            "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE w TO '/p'",
            ExportSubject("s", "w", "/p", "json"),
        ),
        (
            "REVOKE FEDERATED CONSENT FOR SUBJECT sealed 'cw==' FROM WORKSPACE w",
            RevokeConsent(SealedSubject("cw=="), "w"),
        ),
        (
            "CREATE FEDERATED ALERT a ON WORKSPACE w WHEN x != - 1 AND Y<=2.5 NOTIFY 'pg:c'",
            CreateAlert("a", "w", (AlertCondition("x", "<>", -1), AlertCondition("y", "<=", 2.5)), "pg:c"),
        ),
    ],
)
def test_a_statement_means(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "near", "hint"),
    [
        ("DELETE FROM FEDERATED TRAINING m WHERE id = 'x'", "id", "data_subject_id ="),
        ("DELETE FROM FEDERATED TRAINING m WHERE data_subject_id LIKE 'x'", "LIKE", "data_subject_id IN"),
        ("DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ()", ")", "IN ('s'"),
        ("DELETE FROM FEDERATED TRAINING m WHERE data_subject_id = 's' OR true", "OR", "WHERE"),
        ("TAG FEDERATED MODEL m VERSION 'v' AS 'w'", "'v'", "whole number"),
        ("TAG FEDERATED MODEL m VERSION 1.5 AS 'w'", "1.5", "whole number"),
        ("TAG FEDERATED MODEL m TO 'w'", "TO", "AS 'tag'"),
        ("ROLLBACK FEDERATED MODEL m TO 'v'", "'v'", "TO VERSION"),
        ("CHECKPOINT FEDERATED TRAINING m", None, "TO 'path'"),
        ("RESUME FEDERATED TRAINING m FRM '/x'", "FRM", "FROM"),
        (
            "CREATE FEDERATED AGGREGATION FUNCTION f(x float) RETURNS FLOAT AS '' LANGUAGE sql",
            "x",
            "no declared",
        ),
        (
            "CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS text AS '' LANGUAGE sql",
            "text",
            "RETURNS FLOAT",
        ),
        ("CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS FLOAT AS 'x'", None, "LANGUAGE"),
        ("EXPORT FEDERATED DATA FOR SUBJECT s FROM WORKSPACE w TO '/p'", "s", "FOR SUBJECT 's'"),
        ("GRANT FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE w", "FROM", "IN WORKSPACE"),
        ("REVOKE FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE w", "IN", "FROM WORKSPACE"),
        ("CREATE FEDERATED ALERT a ON WORKSPACE w WHEN x LIKE 1 NOTIFY 'm'", "LIKE", "metric op number"),
        ("CREATE FEDERATED ALERT a ON WORKSPACE w WHEN x < y NOTIFY 'm'", "y", "literal"),
        ("CREATE FEDERATED ALERT a ON WORKSPACE w WHEN x < 1 OR y < 1 NOTIFY 'm'", "OR", "NOTIFY"),
        ("CREATE OR REPLACE FEDERATED WORKSPACE w", "WORKSPACE", "ALTER FEDERATED"),
    ],
)
def test_a_wrong_part_is_named_where_it_stands(text: str, near: str | None, hint: str) -> None:
    error = refused(text)
    assert error.sqlstate == "42601"
    assert error.message == (
        "syntax error at end of input" if near is None else f'syntax error at or near "{near}"'
    )
    assert error.position is not None
    assert text[error.position - 1 :].startswith(near or "")
    assert error.hint is not None
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("CHECKPOINT FEDERATED TRAINING m TO ''", "22023"),
        (f"CHECKPOINT FEDERATED TRAINING m TO '/{'x' * 4095}'", "22023"),
        ("DELETE FROM FEDERATED TRAINING m WHERE data_subject_id = ' '", "22023"),
        (f"GRANT FEDERATED CONSENT FOR SUBJECT '{'s' * 1025}' IN WORKSPACE w", "22023"),
        ("GRANT FEDERATED CONSENT FOR SUBJECT SEALED 'no base64' IN WORKSPACE w", "22023"),
        ("GRANT FEDERATED CONSENT FOR SUBJECT SEALED 'ü' IN WORKSPACE w", "22023"),
        (f"GRANT FEDERATED CONSENT FOR SUBJECT SEALED '{'c' * 8196}' IN WORKSPACE w", "22023"),
        ("TAG FEDERATED MODEL m AS ''", "42602"),
        (f"TAG FEDERATED MODEL m AS '{'t' * 64}'", "42602"),
        ("TAG FEDERATED MODEL m VERSION 0 AS 'v'", "22023"),
        (f"ROLLBACK FEDERATED MODEL m TO VERSION {2**31}", "22023"),
        (
            f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ({', '.join(repr(str(n)) for n in range(1001))})",
            "54000",
        ),
        (
            f"CREATE FEDERATED ALERT a ON WORKSPACE w WHEN {' AND '.join(['x < 1'] * 17)} NOTIFY 'm'",
            "54000",
        ),
    ],
)
def test_a_text_out_of_bounds_is_refused_where_it_stands(text: str, sqlstate: str) -> None:
    error = refused(text)
    assert error.sqlstate == sqlstate
    assert error.position is not None
